// SPDX-License-Identifier: Apache-2.0
// Passes over a row of costs for assignment and transport, by the dtype of the costs: plain loops in lanes
// that the compiler vectorises. Costs are stored as f32 or f64; everything is computed in f64, as
// sign * cost - price, so that every place that computes it gets the same bits.
#ifndef TARN_ALIGN_SCAN_H
#define TARN_ALIGN_SCAN_H

#include <stdint.h>

#include "vm/tensor/dtype.h"

enum { TARN_SCAN_LANES = 32 };

typedef struct tarn_scan {
    size_t size;  // bytes of a cost
    // lo[j] = min(lo[j], sign c[j]). Returns the first column that holds NaN or, times sign, minus infinity;
    // -1: none.
    int64_t (*survey)(int64_t m, const void *c, double sign, double *lo);
    // r[j] = sign c[j] - v[j]; lane[l]: the least of the r[j] with j mod 32 = l.
    void (*reduce)(int64_t m, const void *c, double sign, const double *v, double *r, double *lane);
    double (*at)(const void *c, int64_t i);
    void (*transpose)(int64_t n, int64_t m, const void *c, void *out);  // n by m → m by n
} tarn_scan;

const tarn_scan *tarn_scan_of(tarn_dtype t);  // f32 or f64

#endif
