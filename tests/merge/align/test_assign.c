// SPDX-License-Identifier: Apache-2.0
// Assignment against trying everything (up to 8 by 8), and against the proof that its prices give on larger
// matrices of every kind that is awkward for it: equal costs, correlations, products, long sides, forbidden
// pairs, f32 and f64. Warm starts give the cold value, threads change nothing, errors name the place.
#include <math.h>

#include "merge/align/assign.h"
#include "tests/support.h"

typedef struct {
    int64_t n, m;
    tarn_dtype t;
    void *cost;
    int32_t *match;
    double *u, *v, value;
    tarn_assignment p;
} problem;

static void put(problem *q, int64_t i, int64_t j, double x) {
    if (q->t == TARN_F64) {
        ((double *)q->cost)[i * q->m + j] = x;
    } else {
        ((float *)q->cost)[i * q->m + j] = (float)x;
    }
}
static double get(const problem *q, int64_t i, int64_t j) {
    return q->t == TARN_F64 ? ((double *)q->cost)[i * q->m + j] : (double)((float *)q->cost)[i * q->m + j];
}

static problem make(tarn_dtype t, int64_t n, int64_t m, bool maximise) {
    problem q = {.n = n, .m = m, .t = t, .cost = calloc((size_t)(n * m) + 1, 8),
                 .match = calloc((size_t)n + 1, sizeof(int32_t)), .u = calloc((size_t)n + 1, 8),
                 .v = calloc((size_t)m + 1, 8)};
    q.p = (tarn_assignment){.rows = n, .cols = m, .dtype = t, .cost = q.cost, .maximise = maximise};
    return q;
}
static void drop(problem *q) {
    free(q->cost);
    free(q->match);
    free(q->u);
    free(q->v);
}

static double largest(const problem *q) {
    double big = 0;
    for (int64_t k = 0; k < q->n * q->m; k++) {
        double x = fabs(get(q, k / q->m, k % q->m));
        big = isfinite(x) && x > big ? x : big;
    }
    return big;
}

static void solve(tarn_context *cx, problem *q) {
    tarn_error err = {0};
    OK(tarn_assign(cx, &q->p, q->match, q->u, q->v, &q->value, &err));
}

static double worst(double a, double b) { return b > a || isnan(b) ? b : a; }

// A price of the longer side: 0 where it is left out, not above 0 (times sign) else.
static double loose_price(double price, bool taken) {
    return taken ? price : fabs(price);
}

// By how much complementary slackness is missed at most: 0, but for rounding, proves that match is best.
// Infinity where match is no assignment.
static double gap_of(const problem *q) {
    double gap = 0, sign = q->p.maximise ? -1 : 1;
    int64_t pairs = 0;
    for (int64_t i = 0; i < q->n; i++) {
        for (int64_t j = 0; j < q->m; j++) {
            double slack = sign * (get(q, i, j) - q->u[i] - q->v[j]);
            gap = worst(gap, q->match[i] == j ? fabs(slack) : -slack);
        }
        pairs += q->match[i] >= 0 && q->match[i] < q->m;
        if (q->n > q->m) {
            gap = worst(gap, loose_price(sign * q->u[i], q->match[i] >= 0));
        }
    }
    for (int64_t j = 0; j < q->m; j++) {
        int64_t takers = 0;
        for (int64_t i = 0; i < q->n; i++) {
            takers += q->match[i] == j;
        }
        gap = takers > 1 ? INFINITY : gap;
        if (q->n < q->m) {
            gap = worst(gap, loose_price(sign * q->v[j], takers > 0));
        }
    }
    return pairs == (q->n < q->m ? q->n : q->m) ? gap : INFINITY;
}

static void solve_and_prove(tarn_context *cx, problem *q, const char *what) {
    solve(cx, q);
    double gap = gap_of(q), value = 0;
    if (!(gap <= 1e-13 * largest(q))) {
        fail_msg("%s %lld x %lld: the proof fails by %g", what, (long long)q->n, (long long)q->m, gap);
    }
    for (int64_t i = 0; i < q->n; i++) {
        value += q->match[i] >= 0 ? get(q, i, q->match[i]) : 0;
    }
    assert_true(fabs(value - q->value) <= 1e-12 * (largest(q) * (double)q->n));
}

// ---- every assignment of small matrices ----

// Of rows i …, with the columns of `used` gone; the shorter side has to be matched whole.
static double all_from(const problem *q, int64_t i, unsigned used, int64_t left, double sign) {
    if (i == q->n) {
        return left == 0 ? 0 : INFINITY;
    }
    double best = q->n - i > left ? all_from(q, i + 1, used, left, sign) : INFINITY;
    for (int64_t j = 0; left > 0 && j < q->m; j++) {
        if (!(used >> j & 1)) {
            double x = sign * get(q, i, j) + all_from(q, i + 1, used | 1U << j, left - 1, sign);
            best = x < best ? x : best;
        }
    }
    return best;
}

static void small_ones_are_tried_out(void **state) {
    uint64_t seed = 1;
    for (int k = 0; k < 600; k++) {
        int64_t most = k % 20 ? 6 : 8;
        int64_t n = 1 + (int64_t)(test_random(&seed) % (uint64_t)most), m = 1 + (int64_t)(test_random(&seed) % (uint64_t)most);
        problem q = make(k % 2 ? TARN_F64 : TARN_F32, n, m, k % 3 == 0);
        double sign = q.p.maximise ? -1 : 1;
        for (int64_t e = 0; e < n * m; e++) {
            double x = test_uniform(&seed);
            x = k % 4 == 1 ? floor(3 * x) : x;
            x = k % 7 == 3 && e / m % 2 == 1 ? 0.5 * (double)(e / m % 4) : x;  // rows that are the same all over
            put(&q, e / m, e % m, k % 5 == 2 && test_random(&seed) % 3 == 0 ? sign * INFINITY : x);
        }
        double want = sign * all_from(&q, 0, 0, n < m ? n : m, sign);
        tarn_error err = {0};
        if (isinf(want)) {
            assert_int_equal(tarn_assign(*state, &q.p, q.match, q.u, q.v, &q.value, &err), TARN_ERROR);
            assert_string_equal(err.code, "Infeasible");
        } else {
            solve_and_prove(*state, &q, "small");
            if (!(fabs(q.value - want) <= 1e-6)) {
                fail_msg("%lld x %lld: %.9g, the best is %.9g", (long long)n, (long long)m, q.value, want);
            }
        }
        drop(&q);
    }
}

// ---- the proof on larger ones ----

enum { UNIFORM, CORRELATION, TIES, PRODUCT, SUM, LINE, HOLES, OFFSET, TINY, BLOCKS, CONSTANT, STRIPES, STILL, KINDS };
static const char *const kinds[] = {"uniform", "correlation", "ties", "product", "sum", "line",
                                    "holes", "offset", "tiny", "blocks", "constant", "stripes", "still"};

static void fill(problem *q, int kind, uint64_t seed) {
    enum { DIM = 24 };
    double *a = calloc((size_t)q->n * DIM, 8), *b = calloc((size_t)q->m * DIM, 8);
    for (int64_t k = 0; k < q->n * DIM; k++) {
        a[k] = test_uniform(&seed);
    }
    for (int64_t k = 0; k < q->m * DIM; k++) {
        b[k] = 1.5 * test_uniform(&seed) + a[(k / DIM * 7 + 3) % q->n * DIM + k % DIM];
    }
    for (int64_t i = 0; i < q->n; i++) {
        for (int64_t j = 0; j < q->m; j++) {
            double x = test_uniform(&seed), y = 0;
            switch (kind) {
            case STILL:  // features that never move
                if (i % 3 == 1 || j % 4 == 2) {
                    y = i % 3 == 1 ? (double)(i % 2) : 0;
                    break;
                }
                // fall through
            case CORRELATION:
                for (int d = 0; d < DIM; d++) {
                    y += a[i * DIM + d] * b[j * DIM + d];
                }
                break;
            case TIES: y = floor(2 * x); break;
            case PRODUCT: y = (double)(i + 1) * (double)(j + 1); break;
            case SUM: y = a[i] + b[j]; break;
            case LINE: y = fabs(a[i] - b[j]); break;
            case HOLES:
                y = i % q->m == (j * 5 + 1) % q->m || test_random(&seed) % 4 == 0 ? x
                    : q->p.maximise ? -INFINITY : INFINITY;
                break;
            case OFFSET: y = 1e9 + x; break;
            case TINY: y = 1e-200 * x; break;
            case BLOCKS: y = (double)((i / 8 * 13 + j / 8 * 7) % 5) + 1e-9 * x; break;
            case CONSTANT: y = 3.25; break;
            case STRIPES: y = j % 32 == 5 ? x : 10 + x; break;
            default: y = x;
            }
            put(q, i, j, y);
        }
    }
    free(a);
    free(b);
}

static void prices_prove_the_rest(void **state) {
    static const int64_t sizes[][2] = {{64, 64}, {65, 65}, {97, 97}, {320, 320}, {90, 300}, {300, 90}, {1, 500}, {500, 1},
                                      {9, 3000}};
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++) {
            for (int k = 0; k < 4; k++) {
                problem q = make(k % 2 ? TARN_F64 : TARN_F32, sizes[z][0], sizes[z][1], k / 2);
                if (kind == HOLES && q.n != q.m) {
                    drop(&q);
                    continue;
                }
                fill(&q, kind, (uint64_t)(kind * 100 + k));
                solve_and_prove(*state, &q, kinds[kind]);
                drop(&q);
            }
        }
    }
}

static void the_proof_can_fail(void **state) {
    problem q = make(TARN_F64, 40, 40, false);
    fill(&q, UNIFORM, 5);
    solve_and_prove(*state, &q, "uniform");
    int32_t old = q.match[0];
    q.match[0] = q.match[1];
    assert_true(isinf(gap_of(&q)));
    q.match[1] = old;
    assert_true(gap_of(&q) > 1e-6);
    drop(&q);
}

// The first of equals: nothing else is a reason to choose.
static void equal_costs_go_in_order(void **state) {
    problem q = make(TARN_F32, 200, 200, false);
    fill(&q, CONSTANT, 0);
    solve(*state, &q);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(q.match[i], i);
    }
    drop(&q);
}

static void a_start_changes_the_time_alone(void **state) {
    static const int64_t sizes[][2] = {{150, 150}, {70, 200}, {200, 70}};
    for (size_t z = 0; z < 3; z++) {
        for (int k = 0; k < 6; k++) {
            problem q = make(TARN_F64, sizes[z][0], sizes[z][1], k % 2);
            fill(&q, k / 2 == 1 ? TIES : k / 2 == 2 ? STILL : CORRELATION, (uint64_t)k);
            solve_and_prove(*state, &q, "cold");
            double cold = q.value, *start = calloc(200, 8);
            int64_t longer = q.n > q.m ? q.n : q.m;
            uint64_t seed = 9;
            for (int w = 0; w < 3; w++) {  // its own prices; near ones; anything
                for (int64_t j = 0; j < longer && w < 2; j++) {
                    start[j] = w == 0 ? (q.n > q.m ? q.u[j] : q.v[j]) : start[j] + 0.1 * test_uniform(&seed);
                }
                for (int64_t j = 0; j < longer && w == 2; j++) {
                    start[j] = 5 * test_uniform(&seed);
                }
                q.p.start = start;
                solve_and_prove(*state, &q, "warm");
                assert_true(fabs(q.value - cold) <= 1e-12 * largest(&q) * (double)longer);
            }
            free(start);
            drop(&q);
        }
    }
}

static void threads_change_nothing(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        int32_t first[300];
        double prices[300];
        for (int threads = 1; threads <= 4; threads += 3) {
            tarn_context cx;
            open_context(&cx, threads, NULL);
            problem q = make(TARN_F32, 300, 300, true);
            fill(&q, kind, 3);
            solve(&cx, &q);
            if (threads == 1) {
                memcpy(first, q.match, sizeof first);
                memcpy(prices, q.v, sizeof prices);
            }
            assert_memory_equal(first, q.match, sizeof first);
            assert_memory_equal(prices, q.v, sizeof prices);
            drop(&q);
            tarn_context_free(&cx);
        }
    }
}

// ---- what is refused ----

static void refuse(tarn_context *cx, problem *q, const char *code, const char *says) {
    tarn_error err = {0};
    assert_int_equal(tarn_assign(cx, &q->p, q->match, q->u, q->v, &q->value, &err), TARN_ERROR);
    assert_string_equal(err.code, code);
    if (!strstr(err.message, says)) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, says);
    }
}

static void errors_name_the_place(void **state) {
    for (int k = 0; k < 2; k++) {
        problem q = make(TARN_F32, 90, k ? 90 : 70, false);
        fill(&q, UNIFORM, 4);
        put(&q, 6, 66, NAN);
        refuse(*state, &q, "NotFinite", k ? "row 7 and column 67 is NaN" : "column 67 and row 7 is NaN");
        put(&q, 6, 66, -INFINITY);
        refuse(*state, &q, "NotFinite", "minus infinity; a pair is forbidden by plus infinity");
        put(&q, 6, 66, 0);
        q.p.maximise = true;
        put(&q, 8, 3, INFINITY);
        refuse(*state, &q, "NotFinite", "plus infinity; a pair is forbidden by minus infinity");
        drop(&q);
    }
    problem q = make(TARN_F64, 80, 80, false);
    fill(&q, UNIFORM, 4);
    for (int j = 0; j < 80; j++) {
        put(&q, 30, j, INFINITY);
    }
    refuse(*state, &q, "Infeasible", "all pairs of row 31 are forbidden");
    fill(&q, UNIFORM, 4);
    for (int i = 0; i < 80; i++) {
        put(&q, i, 11, INFINITY);
    }
    refuse(*state, &q, "Infeasible", "all pairs of column 12 are forbidden");
    fill(&q, UNIFORM, 4);
    for (int i = 20; i < 23; i++) {  // three rows that allow two columns
        for (int j = 2; j < 80; j++) {
            put(&q, i, j, INFINITY);
        }
    }
    refuse(*state, &q, "Infeasible", "3 rows (");
    double start[80] = {0};
    start[5] = NAN;
    q.p.start = start;
    refuse(*state, &q, "NotFinite", "price 6");
    drop(&q);
}

static void memory_and_stops_are_kept(void **state) {
    (void)state;
    tarn_context cx;
    tarn_error err = {0};
    problem q = make(TARN_F32, 300, 200, false);
    fill(&q, UNIFORM, 4);
    tarn_options o = {.threads = 1, .memory = 200 << 10};
    OK(tarn_context_init(&cx, &o, &err));
    assert_int_equal(tarn_assign(&cx, &q.p, q.match, q.u, q.v, &q.value, &err), TARN_NOMEM);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
    open_context(&cx, 1, NULL);
    tarn_cancel_set(&cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_assign(&cx, &q.p, q.match, q.u, q.v, &q.value, &err), TARN_CANCELLED);
    tarn_cancel_clear(&cx.cancel);
    size_t before = cx.budget.used;
    solve_and_prove(&cx, &q, "after a stop");
    assert_int_equal(cx.budget.used, before);
    drop(&q);
    q = make(TARN_F32, 0, 7, false);
    solve(&cx, &q);
    assert_true(q.value == 0);
    drop(&q);
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
        cmocka_unit_test(small_ones_are_tried_out), cmocka_unit_test(prices_prove_the_rest),
        cmocka_unit_test(the_proof_can_fail), cmocka_unit_test(equal_costs_go_in_order),
        cmocka_unit_test(a_start_changes_the_time_alone), cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(errors_name_the_place), cmocka_unit_test(memory_and_stops_are_kept),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
