// SPDX-License-Identifier: Apache-2.0
// Linear assignment: each row takes a column of its own (each column a row, where there are more rows) so
// that the sum of costs is least, or greatest. Exact, deterministic, with prices that prove it.
#ifndef TARN_ALIGN_ASSIGN_H
#define TARN_ALIGN_ASSIGN_H

#include "vm/base/context.h"
#include "vm/tensor/dtype.h"

typedef struct tarn_assignment {
    int64_t rows, cols;
    tarn_dtype dtype;  // of the costs: f32 or f64
    const void *cost;  // [rows, cols], row-major. Infinity (minus infinity to maximise) forbids a pair
    bool maximise;
    // Prices to start from, of the columns (of the rows where there are more rows), or NULL. They decide
    // how long it takes, never how good the result is. What an earlier solution left makes a good start.
    const double *start;
} tarn_assignment;

// match[i] gets the column of row i, -1 where it is left out; *value the sum of the costs. The prices u
// [rows] and v [cols] (each may be NULL) have u[i] + v[j] <= cost[i, j] (>= to maximise), equal for the chosen
// pairs; on a longer side prices are at most 0 (at least 0) and 0 for what is left out. Memory beside the
// costs: about 1.2 KB for each of the shorter side, and a transposed copy where there are more rows.
// NaN, an infinity of the wrong sign, or forbidden pairs that leave no assignment are errors.
tarn_status tarn_assign(tarn_context *cx, const tarn_assignment *p, int32_t *match, double *u, double *v,
                        double *value, tarn_error *err);

#endif
