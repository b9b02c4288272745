// SPDX-License-Identifier: Apache-2.0
// The streaming evaluator: expressions over sources, one job per output tensor, executed in blocks
// with bounded memory. A job's passes follow from its expression: a reduction makes what uses it wait
// for the next pass. Element-wise work of a pass is fused into one program over tiles; reductions use
// the same leaves and tree as in memory, so results equal the eager evaluator's to the bit, for any
// number of threads and any block sizes of the sources. Outputs of one computation (the factors of a
// matrix) are jobs that are joined. Writes nothing itself: a sink takes the bytes.
#ifndef TARN_STREAM_STREAM_H
#define TARN_STREAM_STREAM_H

#include "vm/op/op.h"

typedef struct tarn_job {
    const char *name;  // for messages
    tarn_graph *graph;  // its own small graph, or one shared with other jobs; NULL: made by the run's maker
    const tarn_node *root;
    tarn_dtype store;  // dtype of the output
    bool hidden;       // contributes to whole-model reductions only; nothing is written
    bool joined;       // another output of what the job before it makes, in its graph: what they share is
                       // computed once, where memory allows. Never hidden; all that are joined have one
                       // part in each whole-model reduction
} tarn_job;

enum { TARN_JOINED = 8 };  // of jobs that are joined to each other, as many as are computed together

// Receives n bytes of output `job` at byte `at`, row-major; from any thread, in any order.
typedef struct tarn_sink {
    tarn_status (*put)(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                       tarn_error *err);
    void *arg;
} tarn_sink;

// Makes the expressions of jobs that come without one, whenever a run needs them: each time the same nodes in
// the same order, in a graph for the run to release. Called by one thread at a time, any. root: [n], of the job
// and of those after it that are joined to it, or of it alone.
typedef struct tarn_maker {
    tarn_status (*make)(void *arg, int64_t job, int n, tarn_graph **g, const tarn_node **root,
                        tarn_error *err);
    void *arg;
} tarn_maker;

typedef struct tarn_stream_options {
    bool allow_nonfinite;     // NaN and infinities may be written
    const tarn_maker *maker;  // NULL: every job has its expression
} tarn_stream_options;

typedef struct tarn_job_plan {
    int passes;          // over the data, whole-model barriers included; a reduction that asks for
                         // further sweeps adds to them when it runs
    int with;            // how many jobs before it the one is that it is computed with, and that reads for
                         // both; 0: by itself. Passes and workspace are those of all that go together
    bool held;           // inputs are read once and swept in memory
    bool more;           // an exact selection may sweep the sources again: `reads` is the least
    uint64_t reads;      // bytes read from sources
    uint64_t writes;     // bytes of output
    uint64_t hold;       // bytes of inputs held
    uint64_t workspace;  // bytes of whole tensors in memory and of operations on them, at most
} tarn_job_plan;

typedef struct tarn_stream_plan {
    int passes;      // the largest of the jobs
    int barriers;    // whole-model reductions that others wait for
    uint64_t reads, writes;
    bool more;       // of some job: `reads` is the least
    uint64_t peak;   // bytes of buffers and workspace at most
} tarn_stream_plan;

// Marks a reduction as one over all jobs of a run ("whole model"): equal `gid` (from 1) in several
// jobs is one reduction. `start` is where this job's tensor begins in the whole model, in elements:
// parts are combined in that order (a tensor met in two jobs counts once), and it is the last of the
// node's numbers.
const tarn_node *tarn_reduce_global(tarn_graph *g, const tarn_op *op, int nin,
                                    const tarn_node *const *in, int64_t gid, int64_t start,
                                    const tarn_attr *rest);

// What a run would do, from headers alone. plans: [n] or NULL.
tarn_status tarn_stream_plan_of(tarn_context *cx, int64_t n, const tarn_job *jobs,
                                tarn_stream_plan *total, tarn_job_plan *plans, tarn_error *err);
// OutOfMemory when the budget cannot hold what the job has in memory at once: asked of every job of a
// run before it starts.
tarn_status tarn_stream_fits(tarn_context *cx, const tarn_job *job, tarn_error *err);
// Memory does not grow with the number of jobs that are made. Who gives a maker has begun the progress.
tarn_status tarn_stream_run(tarn_context *cx, int64_t n, const tarn_job *jobs, const tarn_sink *sink,
                            const tarn_stream_options *o, tarn_error *err);
// All roots into memory tensors of the stores' dtypes (results: the caller's, [n]).
tarn_status tarn_stream_load(tarn_context *cx, int64_t n, const tarn_job *jobs, tarn_tensor *results,
                             tarn_error *err);

#endif
