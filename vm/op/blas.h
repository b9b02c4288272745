// SPDX-License-Identifier: Apache-2.0
// OpenBLAS, opened on first need: one process-wide handle (the stated exception to "no globals").
// Always one thread inside; tiles that do not depend on the thread count run on our own pool. The
// core type is pinned before the library is loaded, so that results depend on the build and the
// core type alone.
#ifndef TARN_OP_BLAS_H
#define TARN_OP_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"
#include "vm/tensor/tensor.h"

// c[m, n] = a[m, k] b[k, n], row-major, with leading dimensions; ta: a is stored as [k, m]. With
// batch dimensions: one for each place in them, the operands step_a and step_b elements apart, the
// results m ldc. Parallel over batches and tiles, alike for any number of threads.
typedef struct tarn_product {
    tarn_dtype dtype;  // f32 or f64
    bool ta, tb;
    int64_t m, n, k, lda, ldb, ldc;
    const void *a, *b;
    void *c;
    int batch_rank;
    int64_t batch[TARN_MAX_RANK], step_a[TARN_MAX_RANK], step_b[TARN_MAX_RANK];
} tarn_product;
tarn_status tarn_blas_products(tarn_context *cx, const tarn_product *p, tarn_error *err);
// The same without batches.
tarn_status tarn_blas_gemm(tarn_context *cx, tarn_dtype dtype, bool ta, bool tb, int64_t m,
                           int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                           int64_t ldb, void *c, int64_t ldc, tarn_error *err);
// c[n, n] = a a^T of a[n, k] (rows), else a^T a of a[k, n]: half the work, symmetric to the bit.
tarn_status tarn_blas_gram(tarn_context *cx, tarn_dtype dtype, bool rows, int64_t n, int64_t k,
                           const void *a, int64_t lda, void *c, int64_t ldc, tarn_error *err);
// "OpenBLAS 0.3.21 Haswell" once opened; opens it.
tarn_status tarn_blas_describe(const char **text, tarn_error *err);
const char *tarn_blas_in_use(void);  // the same text, or NULL: nothing needed the library so far
void tarn_blas_forgo(void);          // never opens it: in a process that may open no files

#endif
