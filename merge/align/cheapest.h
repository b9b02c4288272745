// SPDX-License-Identifier: Apache-2.0
// The cheapest columns of a row of costs: a short list, and a bound for all that is not on it.
#ifndef TARN_ALIGN_CHEAPEST_H
#define TARN_ALIGN_CHEAPEST_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TARN_CHEAPEST_LISTED = 64,  // columns that a list holds, at most
    TARN_CHEAPEST_SPAN = 32,    // columns that are looked at together
    TARN_CHEAPEST_ROOM = TARN_CHEAPEST_LISTED + TARN_CHEAPEST_SPAN,  // what `at` has room for
};

// Whether any of SPAN values is at most t.
static inline bool tarn_any_within(const double *r, double t) {
    int64_t n = 0;
    for (int k = 0; k < TARN_CHEAPEST_SPAN; k++) {
        n += r[k] <= t;
    }
    return n > 0;
}

// r[m]: costs less prices, infinity: forbidden; lane: their least by column mod 32 (tarn_scan's reduce). at gets
// columns, ascending; *bound what every other column has at least. Returns how many: all that are not forbidden where
// m is at most 64, else at least two if there are two.
int32_t tarn_cheapest(int64_t m, const double *r, const double *lane, int32_t *at, double *bound);

#endif
