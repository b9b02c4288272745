// SPDX-License-Identifier: Apache-2.0
// Optimal transport between two sets of masses, exactly: where rows and columns are as many and all masses equal
// an assignment, else the network simplex.
#ifndef TARN_ALIGN_TRANSPORT_H
#define TARN_ALIGN_TRANSPORT_H

#include "vm/base/context.h"

typedef struct tarn_transport {
    int64_t rows, cols;
    const double *cost;  // [rows, cols]; infinity forbids a pair
    const double *a, *b;  // [rows], [cols] masses, not negative, of equal totals (to 1e-9 of them; b is scaled to a)
} tarn_transport;

// plan [rows, cols] gets the masses moved, at most rows + cols - 1 of them not zero; *value their cost. NaN,
// minus infinity, masses that are negative or not finite, unequal totals, and forbidden pairs that leave no plan
// are errors. Memory beside the plan: about 100 bytes for each row and column.
tarn_status tarn_transport_solve(tarn_context *cx, const tarn_transport *p, double *plan, double *value,
                                 tarn_error *err);

#endif
