// SPDX-License-Identifier: Apache-2.0
// A graph made ready to be run many times: element-wise chains fused over tiles, memory placed
// once, no inference and no allocation but for results. The bits are those of tarn_op_apply node by
// node, for any number of threads. One call at a time.
#ifndef TARN_OP_EXEC_H
#define TARN_OP_EXEC_H

#include "vm/op/op.h"

typedef struct tarn_exec tarn_exec;

// inputs: the input leaves whose values come with each run. What depends on none of them is
// computed in the first run and kept: a linearised function is a graph whose parameters are
// tensors. Keeps the graph.
tarn_status tarn_exec_make(tarn_graph *g, int nroots, const tarn_node *const *roots, int ninputs,
                           const tarn_node *const *inputs, tarn_exec **out, tarn_error *err);
// values[k], results[r]: as many as inputs and roots. donate[k] (donate may be NULL): values[k] is
// not needed any more; where nothing else holds its memory, results may be put there. The caller
// releases it afterwards, whether the run succeeds or not.
tarn_status tarn_exec_run(tarn_exec *e, const tarn_tensor *values, const bool *donate,
                          tarn_tensor *results, tarn_error *err);
// `count` runs, values[i][k] and results[i][r] as above: as many at once as there are workers and room in
// the budget, each on one worker and in memory of its own; what depends on no input is computed once.
// The bits are those of one run after another. Where runs fail, the lowest of them is the one reported,
// and there are no results.
tarn_status tarn_exec_run_many(tarn_exec *e, int64_t count, const tarn_tensor *const *values,
                               tarn_tensor *const *results, tarn_error *err);
// Bytes that `count` runs, `lanes` of them at once, take at most beside those held now, results included.
uint64_t tarn_exec_many_takes(const tarn_exec *e, int64_t count, int lanes);
// Bytes held at most beside inputs and leaves, results included, from the graph alone.
uint64_t tarn_exec_peak(const tarn_exec *e);
void tarn_exec_free(tarn_exec *e);  // e may be NULL

#endif
