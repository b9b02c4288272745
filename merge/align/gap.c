// SPDX-License-Identifier: Apache-2.0
// The proof of an assignment: complementary slackness, looked at pair by pair.
#include <math.h>

#include "merge/align/assign.h"
#include "merge/align/scan.h"

static double worst(double a, double b) { return b > a || isnan(b) ? b : a; }

// A price of the longer side: 0 where it is left out, not above 0 (times sign) else.
static double loose_price(double price, bool taken) {
    return taken ? price : fabs(price);
}

double tarn_assign_gap(const tarn_assignment *p, const int32_t *match, const double *u, const double *v) {
    const tarn_scan *scan = tarn_scan_of(p->dtype);
    double gap = 0, sign = p->maximise ? -1 : 1;
    int64_t pairs = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        const char *row = (const char *)p->cost + (size_t)(i * p->cols) * scan->size;
        for (int64_t j = 0; j < p->cols; j++) {
            double slack = sign * (scan->at(row, j) - u[i] - v[j]);
            gap = worst(gap, match[i] == j ? fabs(slack) : -slack);
        }
        pairs += match[i] >= 0 && match[i] < p->cols;
        if (p->rows > p->cols) {
            gap = worst(gap, loose_price(sign * u[i], match[i] >= 0));
        }
    }
    for (int64_t j = 0; j < p->cols; j++) {
        int64_t takers = 0;
        for (int64_t i = 0; i < p->rows; i++) {
            takers += match[i] == j;
        }
        gap = takers > 1 ? INFINITY : gap;
        if (p->rows < p->cols) {
            gap = worst(gap, loose_price(sign * v[j], takers > 0));
        }
    }
    return pairs == (p->rows < p->cols ? p->rows : p->cols) ? gap : INFINITY;
}
