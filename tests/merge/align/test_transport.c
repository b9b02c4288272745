// SPDX-License-Identifier: Apache-2.0
// Exact transport: whole masses are as many rows and columns of an assignment, which has the same value; sums are
// kept; what has no mass or no plan.
#include <math.h>

#include "merge/align/assign.h"
#include "merge/align/transport.h"
#include "tests/support.h"

enum { SIDE = 40, EACH = 5, ALL = SIDE * EACH };

static double cost_at(uint64_t *seed, int kind, int i, int j) {
    double x = test_uniform(seed);
    return kind == 0 ? x : kind == 1 ? floor(3 * x) : kind == 2 ? (double)(i * j) : 7.5;
}

// The value of an assignment in which row i stands a[i] times.
static double expanded(tarn_context *cx, const tarn_transport *p, int64_t mass) {
    static double cost[ALL * ALL];
    static int32_t match[ALL];
    tarn_error err = {0};
    double value;
    int64_t r = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        for (int k = 0; k < (int)p->a[i]; k++, r++) {
            int64_t c = 0;
            for (int64_t j = 0; j < p->cols; j++) {
                for (int l = 0; l < (int)p->b[j]; l++, c++) {
                    cost[r * mass + c] = p->cost[i * p->cols + j];
                }
            }
        }
    }
    const tarn_assignment a = {.rows = mass, .cols = mass, .dtype = TARN_F64, .cost = cost};
    OK(tarn_assign(cx, &a, match, NULL, NULL, &value, &err));
    return value;
}

static void whole_masses_are_an_assignment(void **state) {
    static double cost[SIDE * SIDE], plan[SIDE * SIDE], a[SIDE], b[SIDE];
    uint64_t seed = 1;
    for (int k = 0; k < 120; k++) {
        tarn_error err = {0};
        int n = 1 + (int)(test_random(&seed) % SIDE), m = 1 + (int)(test_random(&seed) % SIDE), left = 0;
        tarn_transport p = {.rows = n, .cols = m, .cost = cost, .a = a, .b = b};
        for (int i = 0; i < n; i++) {
            a[i] = (double)(test_random(&seed) % (EACH + 1) * (test_random(&seed) % 5 > 0));
            left += (int)a[i];
        }
        int64_t mass = left;
        for (int j = 0; j < m; j++) {
            int most = j == m - 1 ? left : left * 2 / (m - j);
            b[j] = j == m - 1 ? left : (double)(test_random(&seed) % (uint64_t)(most + 1));
            left -= (int)b[j];
        }
        for (int e = 0; e < n * m; e++) {
            cost[e] = cost_at(&seed, k % 4, e / m, e % m);
        }
        double value, want = mass ? expanded(*state, &p, mass) : 0, sum = 0;
        OK(tarn_transport_solve(*state, &p, plan, &value, &err));
        if (!(fabs(value - want) <= 1e-9 * (1 + fabs(want)))) {
            fail_msg("%d by %d, kind %d: %.12g, the best is %.12g", n, m, k % 4, value, want);
        }
        for (int i = 0; i < n; i++) {
            double row = 0;
            for (int j = 0; j < m; j++) {
                assert_true(plan[i * m + j] >= 0);
                row += plan[i * m + j];
                sum += plan[i * m + j] * cost[i * m + j];
            }
            assert_true(fabs(row - a[i]) <= 1e-12 * (double)ALL);
        }
        for (int j = 0; j < m; j++) {
            double col = 0;
            for (int i = 0; i < n; i++) {
                col += plan[i * m + j];
            }
            assert_true(fabs(col - b[j]) <= 1e-12 * (double)ALL);
        }
        assert_true(fabs(sum - value) <= 1e-9 * (1 + fabs(value)));
    }
}

static void refuse(tarn_context *cx, const tarn_transport *p, const char *code, const char *says) {
    tarn_error err = {0};
    double plan[8], value;
    assert_int_equal(tarn_transport_solve(cx, p, plan, &value, &err), TARN_ERROR);
    assert_string_equal(err.code, code);
    if (!strstr(err.message, says)) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, says);
    }
    assert_int_equal(cx->budget.used, 0);
}

static void errors_name_the_place(void **state) {
    (void)state;
    tarn_context cx;
    open_context(&cx, 1, NULL);
    double cost[6] = {1, INFINITY, INFINITY, 2, 3, 4}, a[2] = {2, 1}, b[3] = {1, 1, 1};
    const tarn_transport p = {.rows = 2, .cols = 3, .cost = cost, .a = a, .b = b};
    refuse(&cx, &p, "Infeasible", "without a place");
    b[2] = 2;
    refuse(&cx, &p, "UnequalTotals", "the rows add up to 3, those of the columns to 4");
    b[2] = -1;
    refuse(&cx, &p, "Range", "mass of column 3 is -1");
    b[2] = 1;
    cost[4] = NAN;
    refuse(&cx, &p, "NotFinite", "row 2 and column 2 is NaN");
    cost[4] = -INFINITY;
    refuse(&cx, &p, "NotFinite", "row 2 and column 2 is minus infinity");
    tarn_context_free(&cx);
}

static int open_all(void **state) {
    static tarn_context cx;
    open_context(&cx, 2, NULL);
    *state = &cx;
    return 0;
}
static int close_all(void **state) {
    tarn_context_free(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_masses_are_an_assignment),
        cmocka_unit_test(errors_name_the_place),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
