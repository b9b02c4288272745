// SPDX-License-Identifier: Apache-2.0
// Averages: moving, robust, between two models and beyond them. Closed forms, naive twins, and points
// whose median is known from geometry.
#include "tests/merge/method/values.h"

enum { N = 500, MANY = 63 };

typedef struct {
    tarn_context cx;
    double base[N], x[MANY][N];  // f32 numbers
    const double *all[MANY];
} fixture;

static int start(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    uint64_t seed = 11;
    open_context(&f->cx, 2, NULL);
    for (int i = 0; i < N; i++) {
        f->base[i] = (float)test_uniform(&seed);
        for (int k = 0; k < MANY; k++) {
            f->x[k][i] = (float)(f->base[i] + 0.3 * test_uniform(&seed));
            f->all[k] = f->x[k];
        }
    }
    *state = f;
    return 0;
}
static int stop(void **state) {
    fixture *f = *state;
    tarn_context_free(&f->cx);
    free(f);
    return 0;
}

static const form row_f32 = {TARN_F32, 1, 1, {N}}, row_f64 = {TARN_F64, 1, 1, {N}};

// ---- moving averages ----

static void ema(void **state) {
    fixture *f = *state;
    static double y[N], want[N], constant[N];
    for (int form_of = 0; form_of < 4; form_of++) {
        bool first = form_of & 1, warm = form_of & 2;
        for (int n = 1; n <= MANY; n = n < 4 ? n + 1 : n * 4 - 1) {
            const double decay = 0.8;
            options o = {0};
            set(&o, "decay", decay);
            set(&o, "warmup", warm);
            choose(&o, "start", first ? "first" : "zero");
            double left = 1;
            for (int i = 0; i < N; i++) {
                want[i] = first ? f->x[0][i] : 0;
            }
            for (int k = first, t = 1; k < n; k++, t++) {
                double b = warm ? fmin(decay, (1.0 + t) / (10.0 + t)) : decay;
                for (int i = 0; i < N; i++) {
                    want[i] = b * want[i] + (1 - b) * f->x[k][i];
                }
                left *= b;
            }
            for (int i = 0; i < N && !first; i++) {
                want[i] /= 1 - left;
            }
            run_shaped(&f->cx, &row_f64, "ema", NULL, n, f->all, &o, y);
            close_to(y, want, N, 1e-13, "the recursion");
        }
    }
    // corrected: constant models give the constant, from the first step on; decay 0 gives the last bits
    const double *same[MANY];
    for (int k = 0; k < MANY; k++) {
        same[k] = constant;
        constant[k] = 1 + k;
    }
    options o = {0};
    set(&o, "decay", 0.999);
    run_shaped(&f->cx, &row_f64, "ema", NULL, 5, same, &o, y);
    close_to(y, constant, N, 1e-13, "constant");
    o = (options){0};
    set(&o, "decay", 0);
    run_shaped(&f->cx, &row_f32, "ema", NULL, 4, f->all, &o, y);
    equal_bits(y, f->x[3], N, "decay 0");
    // by hand: (0.5 * 0.25 * 1 + 0.5 * 0.5 * 2 + 0.5 * 3) / (1 - 0.125)
    const form one = {TARN_F64, 1, 0, {0}};
    const double v[3] = {1, 2, 3}, *three[3] = {&v[0], &v[1], &v[2]}, hand = (0.125 + 0.5 + 1.5) / 0.875;
    o = (options){0};
    set(&o, "decay", 0.5);
    run_shaped(&f->cx, &one, "ema", NULL, 3, three, &o, y);
    close_to(y, &hand, 1, 1e-15, "by hand");
}

// ---- robust in each entry ----

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sorted(const fixture *f, int n, int i, double *v) {
    for (int k = 0; k < n; k++) {
        v[k] = f->x[k][i];
    }
    qsort(v, (size_t)n, sizeof *v, ascending);
}

static void median(void **state) {
    fixture *f = *state;
    static double y[N], want[N];
    double v[MANY];
    for (int n = 1; n <= MANY; n += n < 20 ? 1 : 11) {
        for (int i = 0; i < N; i++) {
            sorted(f, n, i, v);
            want[i] = n % 2 ? v[n / 2] : (float)((float)(v[n / 2 - 1] + v[n / 2]) / 2);
        }
        run_shaped(&f->cx, &row_f32, "median", NULL, n, f->all, NULL, y);
        equal_bits(y, want, N, "median");
    }
}

static void trimmed_mean(void **state) {
    fixture *f = *state;
    static const struct {
        double trim;
        int n, cut;
    } rows[] = {{0.2, 4, 0}, {0.2, 5, 1}, {0.3, 10, 3}, {1, 3, 1}, {2, 7, 2}, {0.25, 63, 15}, {40, 8, 3}, {0.5, 9, 4}};
    static double y[N], want[N];
    double v[MANY];
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        int n = rows[r].n, left = n - 2 * rows[r].cut;
        for (int i = 0; i < N; i++) {
            sorted(f, n, i, v);
            want[i] = 0;
            for (int k = 0; k < left; k++) {
                want[i] += v[rows[r].cut + k] / left;
            }
        }
        options o = {0};
        set(&o, "trim", rows[r].trim);
        run_shaped(&f->cx, &row_f64, "trimmed_mean", NULL, n, f->all, &o, y);
        close_to(y, want, N, 1e-14, "trimmed mean");
    }
    options o = {0};
    set(&o, "trim", 0);
    run_shaped(&f->cx, &row_f32, "trimmed_mean", NULL, 6, f->all, &o, y);
    run_shaped(&f->cx, &row_f32, "linear", NULL, 6, f->all, NULL, want);
    equal_bits(y, want, N, "no trim");
    o = (options){0};
    set(&o, "trim", 0.5);
    for (int n = 6; n <= 7; n++) {
        run_shaped(&f->cx, &row_f32, "trimmed_mean", NULL, n, f->all, &o, y);
        run_shaped(&f->cx, &row_f32, "median", NULL, n, f->all, NULL, want);
        equal_bits(y, want, N, "half");
    }
}

// ---- the geometric median ----

static void in_the_plane(fixture *f, int n, double (*p)[2], const options *o, double *y) {
    const form plane = {TARN_F64, 1, 1, {2}};
    const double *x[MANY];
    for (int k = 0; k < n; k++) {
        x[k] = p[k];
    }
    run_shaped(&f->cx, &plane, "geometric_median", NULL, n, x, o, y);
}

static void points(void **state) {
    fixture *f = *state;
    double y[2], far = (3 - sqrt(3)) / 6, height = sqrt(3) / 2;
    double even[3][2] = {{0, 0}, {1, 0}, {0.5, height}}, centre[2] = {0.5, height / 3};
    in_the_plane(f, 3, even, NULL, y);
    close_to(y, centre, 2, 1e-9, "equal sides");
    double right[3][2] = {{0, 0}, {1, 0}, {0, 1}}, fermat[2] = {far, far};
    in_the_plane(f, 3, right, NULL, y);
    close_to(y, fermat, 2, 1e-9, "the Fermat point");
    double wide[3][2] = {{-5, 1}, {0.1, 0.2}, {4, 1}};  // an angle of more than 120 degrees
    in_the_plane(f, 3, wide, NULL, y);
    equal_bits(y, wide[1], 2, "the obtuse corner");
    double line[5][2] = {{0, 0}, {1, 2}, {3, 6}, {10, 20}, {100, 200}};
    in_the_plane(f, 5, line, NULL, y);
    equal_bits(y, line[2], 2, "the middle of a line");
    double two[2][2] = {{1, 2}, {3, 6}}, half[2] = {2, 4};
    in_the_plane(f, 2, two, NULL, y);
    equal_bits(y, half, 2, "of two, the mean");
    double most[5][2] = {{1, 2}, {7, 8}, {1, 2}, {-3, 1}, {1, 2}};
    in_the_plane(f, 5, most, NULL, y);
    equal_bits(y, most[0], 2, "a majority");
    options o = {0};
    set_of(&o, "weight", 2, 2.5);
    in_the_plane(f, 3, even, &o, y);
    equal_bits(y, even[2], 2, "more than half of the weight");
    // The mean is one of the points, and not the median: the plain iteration would stay there.
    double trap[5][2] = {{0, 0}, {-6, 0}, {2, 3}, {2, -3}, {2, 0}}, out[2] = {2 - sqrt(3), 0};
    in_the_plane(f, 5, trap, NULL, y);
    close_to(y, out, 2, 1e-7, "away from a corner");
    // One outlier moves the mean by 2e5 and the median hardly at all; where it lies does not matter.
    double rogue[5][2] = {{0, 0}, {1, 0}, {0, 1}, {1, 1}, {1e6, 1e6}}, further[2];
    in_the_plane(f, 5, rogue, NULL, y);
    rogue[4][0] = rogue[4][1] = 1e9;
    in_the_plane(f, 5, rogue, NULL, further);
    assert_true(y[0] > 0.5 && y[0] <= 1 && y[1] > 0.5 && y[1] <= 1);
    close_to(further, y, 2, 1e-5, "further away");
}

// At the median the weighted unit vectors towards the models cancel.
static void stationary(void **state) {
    fixture *f = *state;
    static double y[N], pull[N], d[N];
    options o = {0};
    for (int k = 0; k < 7; k++) {
        set_of(&o, "weight", k, 0.5 + 0.2 * k);
    }
    run_shaped(&f->cx, &row_f64, "geometric_median", NULL, 7, f->all, &o, y);
    for (int i = 0; i < N; i++) {
        pull[i] = 0;
    }
    for (int k = 0; k < 7; k++) {
        for (int i = 0; i < N; i++) {
            d[i] = f->x[k][i] - y[i];
        }
        double size = sqrt(dot_of(N, d, d));
        for (int i = 0; i < N; i++) {
            pull[i] += (0.5 + 0.2 * k) * d[i] / size;
        }
    }
    assert_true(sqrt(dot_of(N, pull, pull)) < 1e-9);
}

// Cut into four tensors: the global one is that of the whole, the other that of each tensor.
static void scopes(void **state) {
    fixture *f = *state;
    static double whole[N], quarters[N], part[N];
    const form four = {TARN_F32, 4, 1, {N / 4}}, quarter = {TARN_F32, 1, 1, {N / 4}};
    options o = {0};
    run_shaped(&f->cx, &row_f32, "geometric_median", NULL, 5, f->all, NULL, whole);
    run_shaped(&f->cx, &four, "geometric_median", NULL, 5, f->all, NULL, quarters);
    close_to(quarters, whole, N, 1e-6, "global");
    choose(&o, "scope", "tensor");
    run_shaped(&f->cx, &four, "geometric_median", NULL, 5, f->all, &o, quarters);
    for (int s = 0; s < 4; s++) {
        const double *x[5];
        for (int k = 0; k < 5; k++) {
            x[k] = f->x[k] + s * (N / 4);
        }
        run_shaped(&f->cx, &quarter, "geometric_median", NULL, 5, x, NULL, part);
        close_to(quarters + s * (N / 4), part, N / 4, 1e-6, "each tensor");
    }
    double gap = 0;
    for (int i = 0; i < N; i++) {
        gap = fmax(gap, fabs(quarters[i] - whole[i]));
    }
    assert_true(gap > 1e-5);
}

// ---- between two models, and beyond ----

static void ends(void **state) {
    fixture *f = *state;
    static double y[N], want[N];
    static const char *const names[] = {"wise_ft", "paint"};
    const double *self[1] = {f->base}, odd[3] = {-0.0, 1e-40F, 3}, not[3] = {NAN, INFINITY, 1};
    const double *patches[2] = {odd, not};
    for (int k = 0; k < 2; k++) {
        for (int at = 0; at <= 2; at++) {
            double alpha = at * 0.5;
            options o = {0};
            set(&o, "alpha", alpha);
            run_shaped(&f->cx, &row_f32, names[k], f->base, 1, f->all, &o, y);
            for (int i = 0; i < N; i++) {
                want[i] = (1 - alpha) * f->base[i] + alpha * f->x[0][i];
            }
            close_to(y, want, N, at == 1 ? 1e-7 : 0, names[k]);
            run_shaped(&f->cx, &row_f32, names[k], f->base, 1, self, &o, y);
            equal_bits(y, f->base, N, "equal models");
        }
    }
    options o = {0};
    set_of(&o, "alpha", 0, 0.25);
    set_of(&o, "alpha", 1, 0.75);
    run_shaped(&f->cx, &row_f64, "paint", f->base, 2, f->all, &o, y);
    for (int i = 0; i < N; i++) {
        want[i] = f->base[i] + 0.25 * (f->x[0][i] - f->base[i]) + 0.75 * (f->x[1][i] - f->base[i]);
    }
    close_to(y, want, N, 1e-15, "two patches");
    const form three = {TARN_F32, 1, 1, {3}};
    o = (options){0};
    set_of(&o, "alpha", 0, 1);
    set_of(&o, "alpha", 1, 0);
    run_shaped(&f->cx, &three, "paint", odd, 2, patches, &o, y);
    equal_bits(y, odd, 3, "a patch left out");
}

static void expo(void **state) {
    fixture *f = *state;
    static double y[N], want[N];
    const double *self[1] = {f->base};
    options o = {0};
    set(&o, "alpha", 0);
    run_shaped(&f->cx, &row_f32, "expo", f->base, 1, f->all, &o, y);
    equal_bits(y, f->x[0], N, "no step");
    o = (options){0};
    set(&o, "alpha", 0.3);
    run_shaped(&f->cx, &row_f64, "expo", f->base, 1, f->all, &o, y);
    for (int i = 0; i < N; i++) {
        want[i] = 1.3 * f->x[0][i] - 0.3 * f->base[i];
    }
    close_to(y, want, N, 1e-15, "a step");
    run_shaped(&f->cx, &row_f32, "expo", f->base, 1, self, &o, y);
    equal_bits(y, f->base, N, "equal models");
}

// Against slerp of the task vectors, one step after the other.
static void warp(void **state) {
    fixture *f = *state;
    static double d[4][N], u[N], next[N], y[N], want[N];
    static const double weight[4] = {1, 0.5, 2, 1.5};
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < N; i++) {
            d[k][i] = f->x[k][i] - f->base[i];
            u[i] = d[0][i];
        }
    }
    for (int n = 1; n <= 4; n++) {
        for (int even = 0; even < 2; even++) {
            double total = even ? 1 : weight[0];
            memcpy(u, d[0], sizeof u);
            options o = {0};
            set(&o, "eta", 0.4);
            set_of(&o, "weight", 0, total);
            for (int k = 1; k < n; k++) {
                const double *two[2] = {u, d[k]};
                double w = even ? 1 : weight[k];
                options s = {0};
                total += w;
                set(&s, "t", w / total);
                set_of(&o, "weight", k, w);
                run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, two, &s, next);
                memcpy(u, next, sizeof u);
            }
            for (int i = 0; i < N; i++) {
                want[i] = f->base[i] + 0.4 * u[i];
            }
            run_shaped(&f->cx, &row_f64, "warp", f->base, n, f->all, &o, y);
            close_to(y, want, N, 1e-13, "warp");
        }
    }
    options o = {0};
    set(&o, "eta", 0);
    run_shaped(&f->cx, &row_f32, "warp", f->base, 3, f->all, &o, y);
    equal_bits(y, f->base, N, "all the way back");
    o = (options){0};
    set(&o, "eta", 1);
    run_shaped(&f->cx, &row_f32, "warp", f->base, 1, f->all, &o, y);
    equal_bits(y, f->x[0], N, "one policy");
}

static void degenerate(void **state) {
    fixture *f = *state;
    options each = {0};
    choose(&each, "scope", "tensor");
    holds_up(&f->cx, "ema", false, 3, NULL, true);
    holds_up(&f->cx, "median", false, 3, NULL, true);
    holds_up(&f->cx, "median", false, 2, NULL, true);
    holds_up(&f->cx, "trimmed_mean", false, 3, NULL, true);
    holds_up(&f->cx, "geometric_median", false, 3, NULL, true);
    holds_up(&f->cx, "geometric_median", false, 2, &each, true);
    holds_up(&f->cx, "wise_ft", true, 1, NULL, true);
    holds_up(&f->cx, "paint", true, 2, NULL, true);
    holds_up(&f->cx, "expo", true, 1, NULL, true);
    holds_up(&f->cx, "warp", true, 3, NULL, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ema),        cmocka_unit_test(median), cmocka_unit_test(trimmed_mean),
        cmocka_unit_test(points),     cmocka_unit_test(stationary), cmocka_unit_test(scopes),
        cmocka_unit_test(ends),       cmocka_unit_test(expo),   cmocka_unit_test(warp),
        cmocka_unit_test(degenerate),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
