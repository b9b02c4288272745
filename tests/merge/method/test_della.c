// SPDX-License-Identifier: Apache-2.0
// DELLA by hand: a row of four offsets, the probabilities of its ranks under both windows, and what the
// merge makes of it. A kept entry is its offset over its probability, exactly, so that one merge shows
// every probability; how often it is kept must agree with it. The expectation stays, the L1 norm stays,
// equals rank by position, and no number of threads changes a byte.
#include "tests/merge/method/values.h"

#include <math.h>

enum { ROWS = 600, N = 4, SEEDS = 30 };

static tarn_model *model_2d(tarn_context *cx, tarn_dtype t, int64_t rows, int64_t n, const double *x) {
    static const char *const name = "w";
    const int64_t shape[2] = {rows, n};
    tarn_error err = {0};
    tarn_tensor v;
    tarn_model *m;
    OK(tarn_tensor_new(cx, t, 2, shape, &v, &err));
    for (int64_t i = 0; i < rows * n; i++) {
        tarn_tensor_set(&v, i, x[i]);
    }
    OK(tarn_model_of_tensors(cx, 1, &name, &v, 1, NULL, &m, &err));
    tarn_tensor_release(&v);
    return m;
}

// della_linear of one model of these offsets from zero.
static void dropped(tarn_context *cx, int64_t rows, int64_t n, const double *d, const options *o, double *y) {
    double *zero = calloc((size_t)(rows * n) + 1, sizeof *zero);
    tarn_model *base = model_2d(cx, TARN_F64, rows, n, zero), *m = model_2d(cx, TARN_F64, rows, n, d);
    apply(cx, "della_linear", base, 1, &m, o, rows * n, y);
    tarn_model_release(base);
    tarn_model_release(m);
    free(zero);
}

// In each row the magnitudes 3, 1, 4, 2, turned by its number, with signs.
static void turned_rows(double *d) {
    static const double row[N] = {3, -1, -4, 2};
    for (int i = 0; i < ROWS * N; i++) {
        d[i] = row[(i % N + i / N) % N];
    }
}

static void chances(tarn_context *cx, const double *d, const options *given, const double *want) {
    double y[ROWS * N], count[N] = {0};
    for (int seed = 0; seed < SEEDS; seed++) {
        options o = *given;
        set(&o, "seed", seed);
        dropped(cx, ROWS, N, d, &o, y);
        for (int i = 0; i < ROWS * N; i++) {
            int r = (int)fabs(d[i]) - 1;
            if (y[i] != 0) {
                count[r]++;
                if (fabs(y[i] - d[i] / want[r]) > 1e-6) {
                    fail_msg("rank %d: %.9g is %.9g times its probability %g", r, d[i], y[i] / d[i], want[r]);
                }
            }
        }
    }
    for (int r = 0; r < N; r++) {
        double n = ROWS * SEEDS, p = count[r] / n;
        if (fabs(p - want[r]) > 5 * sqrt(want[r] * (1 - want[r]) / n)) {
            fail_msg("rank %d: kept at a rate of %g, not %g", r, p, want[r]);
        }
    }
}

static void by_hand(void **state) {
    tarn_context *cx = *state;
    double d[ROWS * N];
    options o = {0};
    turned_rows(d);
    set(&o, "density", 0.5);
    set(&o, "epsilon", 0.2);
    chances(cx, d, &o, (double[]){0.45, 0.5, 0.55, 0.6});  // 0.5 - 0.1 + 0.2 r / 4
    choose(&o, "window", "full");
    chances(cx, d, &o, (double[]){0.3, 0.3 + 0.4 / 3, 0.3 + 0.8 / 3, 0.7});  // 0.5 - 0.2 + 0.4 (r - 1) / 3
}

// Over the tensor: the ranks of one magnitude follow its places.
static void over_the_tensor(void **state) {
    tarn_context *cx = *state;
    const double d[6] = {2, 2, 2, 2, 2, 1};
    bool seen[6] = {false};
    for (int seed = 0; seed < 40; seed++) {
        double y[6];
        options o = {0};
        set(&o, "density", 0.5);
        set(&o, "epsilon", 0.3);
        set(&o, "seed", seed);
        choose(&o, "ranks", "tensor");
        dropped(cx, 2, 3, d, &o, y);
        for (int i = 0; i < 6; i++) {
            double p = 0.35 + 0.3 * (i == 5 ? 1 : i + 2) / 6;
            seen[i] = seen[i] || y[i] != 0;
            assert_true(y[i] == 0 || fabs(y[i] - d[i] / p) < 1e-6);
        }
    }
    for (int i = 0; i < 6; i++) {
        assert_true(seen[i]);
    }
}

// A column has rows of one entry: there is nothing to rank. A vector is one row.
static void shapes(void **state) {
    tarn_context *cx = *state;
    const double d[4] = {1, 2, 3, 4}, zero[4] = {0};
    for (int seed = 0; seed < 20; seed++) {
        double y[4];
        options o = {0};
        set(&o, "density", 0.6);
        set(&o, "epsilon", 0.4);
        set(&o, "seed", seed);
        dropped(cx, 4, 1, d, &o, y);
        for (int i = 0; i < 4; i++) {
            assert_true(y[i] == 0 || fabs(y[i] - d[i] / 0.6) < 1e-6);
        }
        tarn_model *base = model_of(cx, 4, zero), *m = model_of(cx, 4, d);
        apply(cx, "della_linear", base, 1, &m, &o, 4, y);
        for (int i = 0; i < 4; i++) {
            assert_true(y[i] == 0 || fabs(y[i] - d[i] / (0.4 + 0.1 * (i + 1))) < 1e-6);
        }
        tarn_model_release(base);
        tarn_model_release(m);
    }
}

static void ends(void **state) {
    tarn_context *cx = *state;
    static double d[ROWS * N], y[ROWS * N], sum[ROWS * N];
    turned_rows(d);
    options o = {0};
    set(&o, "density", 1);
    dropped(cx, ROWS, N, d, &o, y);
    assert_memory_equal(y, d, sizeof d);
    o.n = 0;
    set(&o, "density", 0);
    dropped(cx, ROWS, N, d, &o, y);
    for (int i = 0; i < ROWS * N; i++) {
        assert_true(y[i] == 0);
    }
    // The L1 norm stays; without rescaling kept entries stay as they are.
    o.n = 0;
    choose(&o, "rescale", "l1");
    dropped(cx, ROWS, N, d, &o, y);
    double before = 0, after = 0, ratio = 0;
    for (int i = 0; i < ROWS * N; i++) {
        before += fabs(d[i]);
        after += fabs(y[i]);
        ratio = y[i] != 0 ? y[i] / d[i] : ratio;
        assert_true(y[i] == 0 || fabs(y[i] / d[i] - ratio) < 1e-12);
    }
    assert_true(fabs(before - after) < 1e-9 * before);
    o.n = 0;
    choose(&o, "rescale", "none");
    dropped(cx, ROWS, N, d, &o, y);
    for (int i = 0; i < ROWS * N; i++) {
        assert_true(y[i] == 0 || y[i] == d[i]);
    }
    // The mean over seeds goes to the offsets: over 200 of them within 5 deviations of d sqrt(1/p - 1).
    for (int seed = 0; seed < 200; seed++) {
        o.n = 0;
        set(&o, "seed", seed);
        dropped(cx, ROWS, N, d, &o, y);
        for (int i = 0; i < ROWS * N; i++) {
            sum[i] += y[i] / 200;
        }
    }
    for (int i = 0; i < ROWS * N; i++) {
        assert_true(fabs(sum[i] - d[i]) < 5 * fabs(d[i]) * sqrt((1 / 0.425 - 1) / 200));
    }
}

// della elects signs on what is left: two models that agree everywhere give their mean over those kept.
static void elects(void **state) {
    tarn_context *cx = *state;
    static double d[ROWS * N], y[ROWS * N], one[2][ROWS * N], zero[ROWS * N];
    turned_rows(d);
    tarn_model *base = model_2d(cx, TARN_F64, ROWS, N, zero), *m = model_2d(cx, TARN_F64, ROWS, N, d);
    tarn_model *two[2] = {m, m};
    options o = {0};
    set(&o, "seed", 3);
    apply(cx, "della", base, 2, two, &o, ROWS * N, y);
    for (int k = 0; k < 2; k++) {
        options single = o;
        set_of(&single, "weight", k, 1);
        set_of(&single, "weight", 1 - k, 0);
        apply(cx, "della_linear", base, 2, two, &single, ROWS * N, one[k]);
    }
    int both = 0, differ = 0;
    for (int i = 0; i < ROWS * N; i++) {
        int n = (one[0][i] != 0) + (one[1][i] != 0);
        both += n == 2;
        differ += n == 1;
        assert_true(fabs(y[i] - (n ? (one[0][i] + one[1][i]) / n : 0)) < 1e-12);
    }
    assert_true(both > ROWS / 2 && differ > ROWS);  // the models' masks are their own
    tarn_model_release(base);
    tarn_model_release(m);
}

static void refused(void **state) {
    tarn_context *cx = *state;
    tarn_error err = {0};
    const double x[2] = {1, 2};
    tarn_model *base = model_of(cx, 2, x), *m = model_of(cx, 2, x), *out = NULL;
    options o = {0};
    set(&o, "density", 0.9);
    set(&o, "epsilon", 0.15);
    const tarn_method *della = tarn_method_find("della");
    OK(tarn_method_apply(cx, della, base, 1, &m, o.n, o.v, NULL, &out, &err));  // 0.825 to 0.975
    tarn_model_release(out);
    choose(&o, "window", "full");
    assert_int_equal(tarn_method_apply(cx, della, base, 1, &m, o.n, o.v, NULL, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "density 0.9 with epsilon 0.15 of"));
    assert_non_null(strstr(err.message, "from 0.75 to 1.05"));
    o.n = 0;
    set(&o, "density", 0.1);
    set(&o, "epsilon", 0.2);
    assert_int_equal(tarn_method_apply(cx, della, base, 1, &m, o.n, o.v, NULL, &out, &err), TARN_ERROR);
    tarn_model_release(base);
    tarn_model_release(m);
}

// Rows that straddle blocks: the same numbers for any number of threads, all dtypes, and no NaN.
static void threads(void **state) {
    enum { LONG = 1100, WIDE = 1001 };
    static double zero[LONG * WIDE], d[LONG * WIDE], y[2][LONG * WIDE];
    static const tarn_dtype types[] = {TARN_F32, TARN_BF16, TARN_F16};
    uint64_t seed = 1;
    for (int i = 0; i < LONG * WIDE; i++) {
        d[i] = i % 7 == 0 ? 0 : test_uniform(&seed);
    }
    for (int t = 0; t < 3; t++) {
        for (int k = 0; k < 2; k++) {
            tarn_context cx;
            open_context(&cx, k ? 8 : 1, NULL);
            tarn_model *base = model_2d(&cx, types[t], LONG, WIDE, zero), *m = model_2d(&cx, types[t], LONG, WIDE, d);
            options o = {0};
            choose(&o, "rescale", t == 1 ? "l1" : "expected");
            apply(&cx, "della", base, 1, &m, &o, (int64_t)LONG * WIDE, y[k]);
            tarn_model_release(base);
            tarn_model_release(m);
            tarn_context_free(&cx);
        }
        assert_memory_equal(y[0], y[1], sizeof y[0]);
        for (int i = 0; i < LONG * WIDE; i++) {
            assert_true(y[0][i] == y[0][i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand), cmocka_unit_test(over_the_tensor), cmocka_unit_test(shapes),
        cmocka_unit_test(ends),    cmocka_unit_test(elects),          cmocka_unit_test(refused),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
