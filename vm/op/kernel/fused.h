// SPDX-License-Identifier: Apache-2.0
// Kernels of the fused rows: each works on one row (or a few) in plain memory, allocates nothing
// and cannot fail. One source (fused_body.h) for both dtypes and all instruction sets; sums are in
// f64, in 16 lanes or by rows in order, so the bits are the same on each.
#ifndef TARN_OP_KERNEL_FUSED_H
#define TARN_OP_KERNEL_FUSED_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"
#include "vm/tensor/dtype.h"

typedef struct tarn_fused_kernels {
    // ---- softmax.c, loss.c: one row of n ----
    void (*softmax)(int64_t n, const void *x, void *y);
    void (*log_softmax)(int64_t n, const void *x, void *y);
    void (*softmax_vjp)(int64_t n, const void *y, const void *gy, void *gx);
    void (*log_softmax_vjp)(int64_t n, const void *y, const void *gy, void *gx);
    void (*cross_entropy)(int64_t n, const void *x, int64_t label, double smoothing, void *loss);
    void (*cross_entropy_vjp)(int64_t n, const void *x, int64_t label, double smoothing,
                              const void *gy, void *gx);
    // ---- norm.c: rows with statistics of their own ----
    void (*row_stats)(int64_t n, const void *x, bool centred, double *mean, double *var);
    // y = (x - mean) r w + b
    void (*row_norm)(int64_t n, const void *x, double mean, double r, const void *w, const void *b,
                     void *y);
    void (*row_norm_vjp)(int64_t n, const void *x, double mean, double r, bool centred,
                         const void *w, const void *gy, void *gx);
    // sums[c] += gy (x - mean) r, sums[n + c] += gy
    void (*row_sums)(int64_t n, const void *x, double mean, double r, const void *gy, double *sums);
    // ---- norm.c: statistics by column; per channel values are doubles [n] ----
    void (*column_sum)(int64_t rows, int64_t n, const void *x, double *sum);
    void (*column_square)(int64_t rows, int64_t n, const void *x, const double *mean, double *sum);
    // y = (x - mean) scale + b
    void (*column_norm)(int64_t rows, int64_t n, const void *x, const double *mean,
                        const double *scale, const void *b, void *y);
    void (*column_sums)(int64_t rows, int64_t n, const void *x, const double *mean, const double *r,
                        const void *gy, double *sums);
    // gx = gy p - q - (x - mean) u
    void (*column_norm_vjp)(int64_t rows, int64_t n, const void *x, const double *mean,
                            const double *p, const double *q, const double *u, const void *gy,
                            void *gx);
    // ---- attention.c: one row of scores ----
    void (*mask)(int64_t n, const unsigned char *seen, void *s);          // -infinity where not
    void (*add_scaled)(int64_t n, const void *x, double scale, void *s);  // s = s * scale + x
    // Softmax of scale * s over the first `seen` of n; zeros after them, and all if none is finite.
    void (*attend)(int64_t seen, int64_t n, double scale, void *s);
    // ds = scale p (dp - sum p dp), in the place of dp.
    void (*attend_vjp)(int64_t n, double scale, const void *p, void *dp);
    // ---- rotary.c, embedding.c ----
    // Pairs (x[i], x[n + i]), or (x[2 i], x[2 i + 1]) when adjacent, turned by angles.
    void (*rotate)(int64_t n, bool adjacent, const double *c, const double *s, const void *x,
                   void *y);
    void (*add)(int64_t n, const void *x, void *y);  // y += x
    // ---- pool.c: a window of an image of so many pixels a row, n channels each ----
    // Per channel where the largest lies, counted from `first`, the number of x's own pixel; of equals
    // the first, and the first NaN.
    void (*largest_at)(int64_t n, int64_t rows, int64_t columns, int64_t width, const void *x,
                       int64_t first, int32_t *at);
} tarn_fused_kernels;

// [0]: f32, [1]: f64
extern const tarn_fused_kernels tarn_fused_table_v1[2], tarn_fused_table_v3[2],
    tarn_fused_table_v4[2];

static inline const tarn_fused_kernels *tarn_fused(tarn_isa isa, tarn_dtype t) {
    const tarn_fused_kernels *k = isa == TARN_ISA_V4   ? tarn_fused_table_v4
                                  : isa == TARN_ISA_V3 ? tarn_fused_table_v3
                                                       : tarn_fused_table_v1;
    return &k[t == TARN_F64];
}

#endif
