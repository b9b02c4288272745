// SPDX-License-Identifier: Apache-2.0
// What the rows of linear algebra share: a batch of matrices is worked on by tasks, one matrix
// each, over the pool; a single matrix stays on the calling thread, so that products inside it may
// use the pool. Each task takes its matrices as plain copies and its workspace from one block of
// memory, whose size is the row's promise. Private to vm/op.
#ifndef TARN_OP_LINALG_TASK_H
#define TARN_OP_LINALG_TASK_H

#include "vm/op/blas.h"
#include "vm/op/lapack.h"
#include "vm/op/rules.h"

// The sizes of one task, from headers alone.
typedef struct tarn_la_size {
    tarn_dtype dtype;  // f32 or f64
    size_t size;       // bytes of an element
    int64_t m, n, k;   // the matrix; k: the smaller side
    int64_t r;         // columns of the second operand
    int64_t batches;
    const tarn_attr *a;
} tarn_la_size;

typedef struct tarn_la_task {
    tarn_context *cx;
    const tarn_lapack *lapack;
    int w;  // column of the table: 0 single, 1 double
    tarn_la_size z;
    int64_t batch;
    tarn_tensor in[2];  // this batch's operands, of rank 2 (or 0); views, never released
    void *out;          // this batch's part of the result
    char *memory;       // what tarn_la_take hands out
    size_t left;
} tarn_la_task;

typedef struct tarn_la_row {
    const char *name;
    size_t (*need)(const tarn_la_size *z);  // bytes that a task takes, by tarn_la_bytes for each
    tarn_status (*work)(tarn_la_task *t, tarn_error *err);
} tarn_la_row;

// Bytes of `count` elements as tarn_la_take charges them.
static inline size_t tarn_la_bytes(size_t size, int64_t count) {
    return (size * (size_t)count + 63) / 64 * 64;
}
// From the task's block; `need` has counted it.
void *tarn_la_take(tarn_la_task *t, size_t size, int64_t count);

// Operand i, row-major or (transposed) column-major, as t; an error when an element is not finite.
tarn_status tarn_la_load(tarn_la_task *t, int i, bool transposed, tarn_dtype dtype, void *to,
                         tarn_error *err);

// Checks what the rows ask of their first operand and fills *out with its leading dimensions and
// dtype: rank 2 or more, square where asked, sides that LAPACK's integers hold.
tarn_status tarn_la_infer(const tarn_desc *x, bool square, tarn_desc *out, tarn_error *err);
// The whole row: apply and workspace.
tarn_status tarn_la_apply(const tarn_la_row *row, tarn_context *cx, int nin, const tarn_tensor *in,
                          const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                          tarn_error *err);
size_t tarn_la_workspace(const tarn_la_row *row, int nin, const tarn_desc *in, const tarn_attr *a,
                         const tarn_desc *out, int threads);

#define TARN_LA_ROW(NAME, ROW, LEAST, INFER, ...)                                                  \
    static tarn_status apply_##NAME(tarn_context *cx, int nin, const tarn_tensor *in,              \
                                    const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,      \
                                    tarn_error *err) {                                             \
        return tarn_la_apply(&(ROW), cx, nin, in, a, d, out, err);                                 \
    }                                                                                              \
    static size_t workspace_##NAME(int nin, const tarn_desc *in, const tarn_attr *a,               \
                                   const tarn_desc *out, int threads) {                            \
        return tarn_la_workspace(&(ROW), nin, in, a, out, threads);                                \
    }                                                                                              \
    const tarn_op tarn_op_##NAME = {.name = #NAME,                                                 \
                                    .version = 1,                                                  \
                                    .cls = TARN_CLASS_WHOLE,                                       \
                                    .min_in = LEAST,                                               \
                                    .max_in = LEAST,                                               \
                                    .infer = INFER,                                                \
                                    .apply = apply_##NAME,                                         \
                                    .workspace = workspace_##NAME,                                 \
                                    .serial = true,                                                \
                                    __VA_ARGS__};

// ---- elements of either precision ----

static inline double tarn_la_get(tarn_dtype t, const void *p, int64_t i) {
    return t == TARN_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static inline void tarn_la_set(tarn_dtype t, void *p, int64_t i, double v) {
    if (t == TARN_F64) {
        ((double *)p)[i] = v;
    } else {
        ((float *)p)[i] = (float)v;
    }
}
static inline void *tarn_la_at(const tarn_la_task *t, void *p, int64_t i) {
    return (char *)p + (int64_t)t->z.size * i;
}

// ---- pieces that several rows use; dtype is that of the arrays ----

// x [rows, cols] row-major, rows >= cols: orthonormal columns of the same range, in place. r (may
// be NULL): [cols], the diagonal of the triangular factor; columns are signed so that it is not
// negative. scratch: tarn_la_qr_need bytes.
tarn_status tarn_la_orthonormal(tarn_la_task *t, tarn_dtype dtype, int64_t rows, int64_t cols,
                                void *x, double *r, void *scratch, tarn_error *err);
size_t tarn_la_qr_need(size_t size, int64_t cols);
// All singular triples of x [m, n], which is destroyed; u [m, k], s [k], vt [k, n].
tarn_status tarn_la_gesdd(tarn_la_task *t, tarn_dtype dtype, int64_t m, int64_t n, void *x, void *u,
                          void *s, void *vt, void *work, int *iwork, tarn_error *err);
int64_t tarn_la_gesdd_work(int64_t m, int64_t n);  // elements; iwork: 8 k
// Signs: each column of u [m, k] gets a positive entry of largest magnitude (the first of equals);
// the rows of vt [k, n] follow. best: [k].
void tarn_la_signs(tarn_dtype dtype, int64_t m, int64_t k, int64_t n, void *u, void *vt,
                   double *best);

#endif
