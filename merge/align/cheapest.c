// SPDX-License-Identifier: Apache-2.0
// The cheapest columns of a row, in two sweeps that the compiler vectorises. The threshold is the median of the 32
// lane minima: half of them lie below it, so about 32 ln 2 = 22 columns of a row do if order means nothing.
#include "merge/align/cheapest.h"

#include <math.h>
#include <stdbool.h>

#include "merge/align/scan.h"

enum { MEDIAN = TARN_SCAN_LANES / 2 };

// The lane minimum with `rank` others before it.
static double order_of(const double *lane, int rank) {
    int64_t before[TARN_SCAN_LANES] = {0};
    for (int i = 0; i < TARN_SCAN_LANES; i++) {
        for (int l = 0; l < TARN_SCAN_LANES; l++) {
            before[l] += (lane[i] < lane[l]) | ((lane[i] == lane[l]) & (i < l));
        }
    }
    for (int l = 0; l < TARN_SCAN_LANES; l++) {
        if (before[l] == rank) {
            return lane[l];
        }
    }
    return INFINITY;
}

// Columns with r <= t in order, until there are more than a list holds; how many.
static int32_t collect(int64_t m, const double *r, double t, int32_t *at) {
    int32_t n = 0;
    for (int64_t j = 0; j < m && n <= TARN_CHEAPEST_LISTED; j += TARN_CHEAPEST_SPAN) {
        int64_t end = j + TARN_CHEAPEST_SPAN < m ? j + TARN_CHEAPEST_SPAN : m;
        if (end - j == TARN_CHEAPEST_SPAN && !tarn_any_within(r + j, t)) {
            continue;
        }
        for (int64_t k = j; k < end; k++) {
            at[n] = (int32_t)k;
            n += r[k] <= t;
        }
    }
    return n;
}

// Where many are equal, or the small ones stand in few lanes: all below a lower threshold and the first of those
// that equal it. Two columns at least, so that a choice can be made, if need be the two cheapest.
static int32_t collect_crowded(int64_t m, const double *r, const double *lane, double *bound, int32_t *at) {
    int64_t below = TARN_CHEAPEST_LISTED + 1;
    double t = 0, second = INFINITY;
    for (int rank = MEDIAN; below > TARN_CHEAPEST_LISTED; rank /= 2) {
        t = order_of(lane, rank);
        below = 0;
        for (int64_t j = 0; j < m; j++) {
            below += r[j] < t;
        }
    }
    int64_t equal = TARN_CHEAPEST_LISTED - below;
    int32_t n = 0;
    for (int64_t j = 0; j < m; j++) {
        bool take = r[j] < t || (r[j] == t && equal-- > 0);
        at[n] = (int32_t)j;
        n += take && n < TARN_CHEAPEST_LISTED;
        second = r[j] > t && r[j] < second ? r[j] : second;
    }
    *bound = t;
    for (int64_t j = 0; n == 1 && j < m; j++) {
        if (r[j] == second) {
            int32_t least = at[0];
            at[0] = j < least ? (int32_t)j : least;
            at[1] = j < least ? least : (int32_t)j;
            *bound = second;
            n = 2;
        }
    }
    return n;
}

int32_t tarn_cheapest(int64_t m, const double *r, const double *lane, int32_t *at, double *bound) {
    double t = m <= TARN_CHEAPEST_LISTED ? INFINITY : order_of(lane, MEDIAN);
    *bound = t;
    int32_t n = collect(m, r, t < INFINITY ? t : 1.7976931348623157e308, at);
    return n > TARN_CHEAPEST_LISTED ? collect_crowded(m, r, lane, bound, at) : n;
}
