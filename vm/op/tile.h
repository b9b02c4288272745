// SPDX-License-Identifier: Apache-2.0
// What evaluators share below the level of operations: fetching tiles of operands (broadcast,
// strided, stored in any dtype) and folding tiles into the fixed reduction tree. The eager and the
// streaming evaluator differ in where tiles come from, never in what is done to them.
#ifndef TARN_OP_TILE_H
#define TARN_OP_TILE_H

#include "vm/op/convert.h"
#include "vm/op/op.h"

// ---- tile functions ----

// The tile function of a POINT node and the dtype its inputs are read as. NULL for casts: those are
// conversions.
typedef struct tarn_tile_plan {
    tarn_tile_fn fn;
    tarn_dtype want[16];  // per input
    tarn_dtype out;       // dtype that the function writes
} tarn_tile_plan;
tarn_status tarn_tile_plan_of(tarn_isa isa, const tarn_op *op, int nin, const tarn_desc *in,
                              const tarn_attr *a, const tarn_desc *out, tarn_tile_plan *plan,
                              tarn_error *err);

// ---- fetching ----

typedef struct tarn_fetch {
    tarn_convert_fn convert;  // from stored to working dtype; NULL: same dtype
    const char *data;
    size_t size_in, size_out;  // bytes per element
    int64_t numel;             // of the broadcast shape
    enum { TARN_FETCH_DIRECT, TARN_FETCH_SPLAT, TARN_FETCH_STRIDED } mode;
    int rank;                  // STRIDED: dimensions after merging
    int64_t shape[TARN_MAX_RANK], stride[TARN_MAX_RANK];  // stride in elements
} tarn_fetch;

// Tensor t seen through the broadcast shape, read as `work`. t must stay alive.
tarn_status tarn_fetch_init(tarn_fetch *f, tarn_isa isa, const tarn_tensor *t, int rank,
                            const int64_t *shape, tarn_dtype work, tarn_error *err);
// n <= TARN_TILE elements from row-major index `at`; either points into the tensor (aligned to 64)
// or at buf, which holds TARN_TILE elements.
const void *tarn_fetch_tile(const tarn_fetch *f, int64_t at, int64_t n, void *buf);

// ---- reducing ----

// Folds the elements of one reduction. For each block (TARN_BLOCK elements from a multiple of it):
// begin, tiles in order, end → the block's part. Blocks may run on any threads; parts are joined in
// the order of blocks by tarn_reduce_join, in the tree that leaves alone determine.
typedef struct tarn_fold {
    const tarn_reducer *reducer;
    tarn_fold_fn fn;
    tarn_tile_args args;  // at: set per tile; state: of this sweep
    void *acc;            // reducer->acc bytes
    void *stack;          // parts of the open subtrees
    int level[24];        // their heights
    int depth;
    int64_t in_leaf;  // elements in the open leaf
} tarn_fold;

size_t tarn_fold_scratch(const tarn_reducer *r);  // bytes for acc and stack
void tarn_fold_init(tarn_fold *f, const tarn_reducer *r, tarn_fold_fn fn, const tarn_attr *a,
                    const void *state, void *scratch);
void tarn_fold_begin(tarn_fold *f);
void tarn_fold_tile(tarn_fold *f, int64_t at, int64_t n, const void *const *in);
void tarn_fold_end(tarn_fold *f, void *part);  // the block's part
// Joins `n` block parts (consecutive in memory) into parts[0].
void tarn_reduce_join(const tarn_reducer *r, int64_t n, void *parts);
tarn_status tarn_fold_fn_of(tarn_isa isa, const tarn_op *op, tarn_dtype in, tarn_dtype *work,
                            tarn_fold_fn *fn, tarn_error *err);
// The result tensor of finished outputs, as the row's inference describes it.
tarn_status tarn_reduce_result(tarn_context *cx, const tarn_desc *d, const double *out,
                               tarn_tensor *t, tarn_error *err);
// Reduces rows [first, first + n) of `length` elements each; results of dtype t to out, one a row.
// scratch: tarn_fold_rows_scratch bytes.
size_t tarn_fold_rows_scratch(const tarn_reducer *r);
void tarn_fold_rows(const tarn_reducer *r, tarn_fold_fn fn, const tarn_attr *a, const tarn_fetch *x,
                    int64_t length, int64_t first, int64_t n, tarn_dtype t, void *out,
                    void *scratch);
// n results of reducers whose part is their result, as dtype t.
void tarn_parts_store(tarn_dtype t, int64_t n, const double *part, void *out);
// All elements of tensors of one shape, in memory, over the pool.
tarn_status tarn_reduce_tensors(tarn_context *cx, const tarn_op *op, int nin,
                                const tarn_tensor *in, const tarn_attr *a, double *out,
                                tarn_error *err);

// ---- rows by themselves ----

// Each row (the last axis) of the result follows from the same row of the operand alone: such an
// operation streams in bands of whole rows. In: a row-local operation's only operand.
bool tarn_row_local(const tarn_op *op, const tarn_attr *a, const tarn_desc *in);

typedef struct tarn_row_plan {
    const tarn_op *op;
    const tarn_attr *attr;
    tarn_dtype in, out;  // in plain memory; arithmetic dtypes
    tarn_dtype work;     // reductions: what is folded
    tarn_fold_fn fold;
    int64_t length, each;  // elements of a row and of its result
    size_t scratch;        // bytes
} tarn_row_plan;
tarn_status tarn_row_plan_of(tarn_isa isa, const tarn_op *op, const tarn_attr *a,
                             const tarn_desc *in, const tarn_desc *out, tarn_row_plan *p,
                             tarn_error *err);
// n rows, the same bits as tarn_op_apply.
tarn_status tarn_row_plan_run(tarn_context *cx, const tarn_row_plan *p, int64_t n, const void *in,
                              void *out, void *scratch, tarn_error *err);

#endif
