// SPDX-License-Identifier: Apache-2.0
// One operation of class REDUCE or WHOLE whose shapes are known, for both evaluators in memory.
// Private to vm/op.
#ifndef TARN_OP_EAGER_H
#define TARN_OP_EAGER_H

#include "vm/op/op.h"

// d: what inference says of these operands. Where out->storage is there already, reductions, `rows`
// and `placed` rows write into it (contiguous, of d's shape and dtype); else the result has its
// own. On failure nothing is released that the caller brought.
tarn_status tarn_op_into(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                         const tarn_attr *a, const tarn_desc *d, tarn_tensor *out, tarn_error *err);
// Bytes that it takes beside operands and result, at most.
size_t tarn_op_workspace(tarn_context *cx, const tarn_op *op, int nin, const tarn_desc *in,
                         const tarn_attr *a, const tarn_desc *d);

// A reduction over some dimensions (reduce_axes.c).
tarn_status tarn_reduce_some(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                             const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                             tarn_error *err);

#endif
