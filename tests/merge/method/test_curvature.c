// SPDX-License-Identifier: Apache-2.0
// Methods that take statistics beside the models: worked numbers, the limits in which one method becomes
// another, and what is refused.
#include "tests/merge/method/values.h"

enum { MOST = 4 };

typedef struct {
    const char *name;
    tarn_model *m[MOST];
} statistic;

// The method's node, with `n` of each statistic (1: of the base).
static tarn_status planned_with(tarn_context *cx, const char *name, tarn_model *base, int n, tarn_model *const *m, int count,
                                const statistic *s, const int *of, const options *o, tarn_model **out, tarn_error *err) {
    tarn_given_statistic given[MOST];
    for (int k = 0; k < count; k++) {
        given[k] = (tarn_given_statistic){s[k].name, of ? of[k] : n, s[k].m};
    }
    return tarn_method_apply_with(cx, tarn_method_find(name), base, n, m, count, given, o->n, o->v, NULL, out, err);
}

static void numbers(tarn_context *cx, const char *name, tarn_model *base, int n, tarn_model *const *m, int count,
                    const statistic *s, const int *of, const options *o, int64_t room, double *y) {
    tarn_error err = {0};
    tarn_model *out;
    OK(planned_with(cx, name, base, n, m, count, s, of, o, &out, &err));
    assert_int_equal(row_of(cx, out, room, y), room);
    tarn_model_release(out);
}

static tarn_model *matrix(tarn_context *cx, const char *name, int64_t rows, int64_t columns, const double *x) {
    const slot s = {name, 2, {rows, columns}};
    return model_cut(cx, &(const cut){TARN_F64, 1, &s}, x);
}

static void drop(tarn_model **m, int n) {
    for (int i = 0; i < n; i++) {
        tarn_model_release(m[i]);
    }
}

// ---- fisher ----

static void test_fisher(void **state) {
    tarn_context *cx = *state;
    const double x[2][4] = {{1, 2, 3, -4}, {5, -2, 9, 4}}, f[2][4] = {{1, 0, 4, 2}, {3, 0, 4, 0}};
    const double one[4] = {2, 2, 2, 2};
    tarn_model *m[2] = {model_of(cx, 4, x[0]), model_of(cx, 4, x[1])};
    statistic s = {"fisher", {model_of(cx, 4, f[0]), model_of(cx, 4, f[1])}}, same = {"fisher", {0}};
    same.m[0] = same.m[1] = model_of(cx, 4, one);
    double y[4];
    options o = {0};
    set(&o, "floor", 0);
    numbers(cx, "fisher", NULL, 2, m, 1, &s, NULL, &o, 4, y);
    close_to(y, (const double[]){4, 0, 6, -4}, 4, 1e-6, "entry by entry, the mean where nobody is sure");
    options weighted = {0};
    set(&weighted, "floor", 0);
    set_of(&weighted, "weight", 0, 3);
    set_of(&weighted, "weight", 1, 1);
    numbers(cx, "fisher", NULL, 2, m, 1, &same, NULL, &weighted, 4, y);
    close_to(y, (const double[]){2, 1, 4.5, -2}, 4, 1e-6, "equal information: the weighted mean");
    options floored = {0};
    set(&floored, "floor", 1);
    choose(&floored, "floor_of", "first");
    numbers(cx, "fisher", NULL, 2, m, 1, &s, NULL, &floored, 4, y);
    close_to(y, (const double[]){4, 2, 6, -4}, 4, 1e-6, "the first model wins where nobody is sure");
    options unit = {0};
    set(&unit, "floor", 0);
    choose(&unit, "normalize", "l2");
    numbers(cx, "fisher", NULL, 2, m, 1, &s, NULL, &unit, 4, y);
    double p = 1 / sqrt(21), q = 3 / 5.0;
    close_to(y, (const double[]){(p * 1 + q * 5) / (p + q), 0, (4 / sqrt(21) * 3 + 0.8 * 9) / (4 / sqrt(21) + 0.8), -4}, 4, 1e-6,
             "divided by the norm over the model");
    drop(m, 2);
    drop(s.m, 2);
    drop(same.m, 1);
}

static void test_refused(void **state) {
    tarn_context *cx = *state;
    tarn_error err = {0};
    const double x[4] = {1, 2, 3, 4};
    tarn_model *m[2] = {model_of(cx, 4, x), model_of(cx, 4, x)}, *out;
    statistic other = {"fisher", {model_named(cx, "v", TARN_F32, 4, x), m[0]}}, small = {"fisher", {m[0], model_of(cx, 3, x)}};
    const options none = {0};
    assert_int_equal(tarn_method_apply(cx, tarn_method_find("fisher"), NULL, 2, m, 0, NULL, NULL, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "fisher is missing"));
    assert_int_equal(planned_with(cx, "fisher", NULL, 2, m, 1, &other, NULL, &none, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "has no tensor w"));
    assert_int_equal(planned_with(cx, "fisher", NULL, 2, m, 1, &small, NULL, &none, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "another shape"));
    assert_int_equal(planned_with(cx, "fisher", NULL, 2, m, 1, &small, (const int[]){1}, &none, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "fisher has 1 for 2 models"));
    statistic grams = {"gram", {matrix(cx, "W", 2, 2, x), matrix(cx, "W", 2, 2, x)}};
    const double six[6] = {1, 2, 3, 4, 5, 6};
    tarn_model *w[2] = {matrix(cx, "W", 2, 3, six), matrix(cx, "W", 2, 3, six)};
    assert_int_equal(planned_with(cx, "regmean", NULL, 2, w, 1, &grams, NULL, &none, &out, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "is not [3, 3]"));
    drop(w, 2);
    drop(grams.m, 2);
    tarn_model_release(other.m[0]);
    tarn_model_release(small.m[1]);
    drop(m, 2);
}

// ---- gradient matching ----

static void test_gradient_matching(void **state) {
    tarn_context *cx = *state;
    const double b[3] = {1, 1, -1}, x[2][3] = {{2, 0, -1}, {1, 3, 0}}, h[2][3] = {{1, 2, 0}, {3, 2, 5}}, zero[3] = {0};
    tarn_model *base = model_of(cx, 3, b), *m[2] = {model_of(cx, 3, x[0]), model_of(cx, 3, x[1])};
    statistic none = {"fisher", {0}}, both[2] = {{"fisher", {model_of(cx, 3, h[0]), model_of(cx, 3, h[1])}}, {"base_fisher", {0}}};
    none.m[0] = none.m[1] = model_of(cx, 3, zero);
    both[1].m[0] = model_of(cx, 3, h[1]);
    double y[3];
    options o = {0};
    set(&o, "weight", 0.5);
    set(&o, "ridge", 2);
    numbers(cx, "gradient_matching", base, 2, m, 1, &none, NULL, &o, 3, y);
    close_to(y, (const double[]){1.5, 1.5, -0.5}, 3, 1e-6, "no curvature: task arithmetic");
    options fisher = {0};
    set(&fisher, "weight", 0.5);
    set(&fisher, "ridge", 0);
    numbers(cx, "gradient_matching", base, 2, m, 1, both, NULL, &fisher, 3, y);
    close_to(y, (const double[]){1.25, 1.5, 0}, 3, 1e-6, "only theirs: Fisher merging");
    numbers(cx, "gradient_matching", base, 2, m, 2, both, (const int[]){2, 1}, &fisher, 3, y);
    // H_0 = {3, 2, 5}: base + Σ ½ (H_0 + H_t) τ_t / (H_0 + Σ ½ H_t)
    close_to(y, (const double[]){1 + 0.5 * 4 / 5, 1 + 0.5 * (4 * -1 + 4 * 2) / 4, -1 + 0.5 * 10 / 7.5}, 3, 1e-6, "worked");
    tarn_model_release(base);
    drop(m, 2);
    drop(none.m, 1);
    drop(both[0].m, 2);
    drop(both[1].m, 1);
}

// ---- regmean and mats ----

enum { OUT = 2, IN = 3 };

static void fill(double *x, int n, unsigned seed) {
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (double)(int)(seed >> 8) / (1 << 23) - 1;
    }
}

// A positive definite matrix: Z^T Z of n + 2 random rows.
static void gram(double *a, int n, unsigned seed) {
    double z[64];
    fill(z, (n + 2) * n, seed);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            a[i * n + j] = 0;
            for (int k = 0; k < n + 2; k++) {
                a[i * n + j] += z[k * n + i] * z[k * n + j];
            }
        }
    }
}

typedef struct {
    double x[2][OUT * IN], a[2][IN * IN], b[2][OUT * OUT];
    tarn_model *m[2];
    statistic in, out, grams;
} layers;

static void layers_open(tarn_context *cx, layers *l) {
    *l = (layers){.in = {"inputs", {0}}, .out = {"outputs", {0}}, .grams = {"gram", {0}}};
    for (unsigned i = 0; i < 2; i++) {
        fill(l->x[i], OUT * IN, 1 + i);
        gram(l->a[i], IN, 11 + i);
        gram(l->b[i], OUT, 21 + i);
        l->m[i] = matrix(cx, "W", OUT, IN, l->x[i]);
        l->in.m[i] = l->grams.m[i] = matrix(cx, "W", IN, IN, l->a[i]);
        l->out.m[i] = matrix(cx, "W", OUT, OUT, l->b[i]);
    }
}

static void layers_close(layers *l) {
    drop(l->m, 2);
    drop(l->in.m, 2);
    drop(l->out.m, 2);
}

// Σ B_m (W - W_m) A_m: the gradient of what is minimised.
static void slope(const layers *l, const double *w, bool outputs, double *g) {
    memset(g, 0, OUT * IN * sizeof *g);
    for (int m = 0; m < 2; m++) {
        for (int o = 0; o < OUT; o++) {
            for (int i = 0; i < IN; i++) {
                for (int p = 0; p < OUT; p++) {
                    double left = outputs ? l->b[m][o * OUT + p] : o == p;
                    for (int q = 0; q < IN; q++) {
                        g[o * IN + i] += left * (w[p * IN + q] - l->x[m][p * IN + q]) * l->a[m][q * IN + i];
                    }
                }
            }
        }
    }
}

static void test_regmean(void **state) {
    tarn_context *cx = *state;
    layers l;
    layers_open(cx, &l);
    double y[OUT * IN], g[OUT * IN];
    const double zero[OUT * IN] = {0};
    options whole = {0};
    set(&whole, "alpha", 1);
    numbers(cx, "regmean", NULL, 2, l.m, 1, &l.grams, NULL, &whole, OUT * IN, y);
    slope(&l, y, false, g);
    close_to(g, zero, OUT * IN, 1e-12, "least squares");
    options diagonal = {0};
    set(&diagonal, "alpha", 0);
    numbers(cx, "regmean", NULL, 2, l.m, 1, &l.grams, NULL, &diagonal, OUT * IN, y);
    for (int k = 0; k < OUT * IN; k++) {
        double p = l.a[0][k % IN * (IN + 1)], q = l.a[1][k % IN * (IN + 1)];
        g[k] = (p * l.x[0][k] + q * l.x[1][k]) / (p + q);
    }
    close_to(y, g, OUT * IN, 1e-12, "a mean for each input");
    const options none = {0};
    numbers(cx, "regmean", NULL, 1, l.m, 1, &l.grams, NULL, &none, OUT * IN, y);
    close_to(y, l.x[0], OUT * IN, 1e-12, "one model");
    // The second input is never on: no information about its column.
    double dead[2][IN * IN];
    memcpy(dead, l.a, sizeof dead);
    for (int k = 0; k < IN; k++) {
        dead[0][IN + k] = dead[0][k * IN + 1] = dead[1][IN + k] = dead[1][k * IN + 1] = 0;
    }
    statistic off = {"gram", {matrix(cx, "W", IN, IN, dead[0]), matrix(cx, "W", IN, IN, dead[1])}};
    numbers(cx, "regmean", NULL, 2, l.m, 1, &off, NULL, &whole, OUT * IN, y);
    close_to(&y[1], (const double[]){(l.x[0][1] + l.x[1][1]) / 2}, 1, 1e-12, "a dead input is averaged");
    drop(off.m, 2);
    layers_close(&l);
}

// A convolution is a matrix over its patches; what has no Gram matrix is averaged.
static void test_other_tensors(void **state) {
    tarn_context *cx = *state;
    const slot s[2] = {{"conv", 4, {2, 1, 1, 2}}, {"bias", 1, {2}}};
    const cut c = {TARN_F32, 2, s};
    const double x[2][6] = {{1, 2, 3, 4, 1, 0}, {3, 0, 1, 4, 3, 2}}, g[2][4] = {{3, 0, 0, 1}, {1, 0, 0, 1}};
    tarn_model *m[2] = {model_cut(cx, &c, x[0]), model_cut(cx, &c, x[1])};
    statistic grams = {"gram", {matrix(cx, "conv", 2, 2, g[0]), matrix(cx, "conv", 2, 2, g[1])}};
    const options none = {0};
    double y[6];
    numbers(cx, "regmean", NULL, 2, m, 1, &grams, NULL, &none, 6, y);
    close_to(y, (const double[]){1.5, 1, 2.5, 4, 2, 1}, 6, 1e-6, "patches");
    drop(m, 2);
    drop(grams.m, 2);
}

static void test_mats(void **state) {
    tarn_context *cx = *state;
    layers l;
    layers_open(cx, &l);
    double y[OUT * IN], z[OUT * IN], g[OUT * IN];
    const double zero[OUT * IN] = {0};
    const statistic both[2] = {l.in, l.out};
    const options none = {0};
    options whole = {0}, few = {0}, floorless = {0};
    numbers(cx, "mats", NULL, 2, l.m, 2, both, NULL, &none, OUT * IN, y);
    slope(&l, y, true, g);
    close_to(g, zero, OUT * IN, 1e-9, "the system is solved");
    set(&whole, "alpha", 1);
    numbers(cx, "mats", NULL, 2, l.m, 1, &l.in, NULL, &none, OUT * IN, y);
    numbers(cx, "regmean", NULL, 2, l.m, 1, &l.grams, NULL, &whole, OUT * IN, z);
    close_to(y, z, OUT * IN, 1e-9, "without outputs: regmean");
    set(&few, "iterations", 0);
    numbers(cx, "mats", NULL, 2, l.m, 2, both, NULL, &few, OUT * IN, y);
    for (int k = 0; k < OUT * IN; k++) {
        z[k] = (l.x[0][k] + l.x[1][k]) / 2;
    }
    close_to(y, z, OUT * IN, 1e-12, "no step: the start");
    // Diagonal factors: Fisher merging with F = b a^T.
    statistic in = {"inputs", {0}}, out = {"outputs", {0}}, fisher = {"fisher", {0}};
    for (int i = 0; i < 2; i++) {
        double a[IN * IN] = {0}, b[OUT * OUT] = {0}, f[OUT * IN];
        for (int k = 0; k < IN; k++) {
            a[k * (IN + 1)] = 1 + k + i;
        }
        for (int k = 0; k < OUT; k++) {
            b[k * (OUT + 1)] = 2 + k - i;
        }
        for (int k = 0; k < OUT * IN; k++) {
            f[k] = a[k % IN * (IN + 1)] * b[k / IN * (OUT + 1)];
        }
        in.m[i] = matrix(cx, "W", IN, IN, a);
        out.m[i] = matrix(cx, "W", OUT, OUT, b);
        fisher.m[i] = matrix(cx, "W", OUT, IN, f);
    }
    set(&floorless, "floor", 0);
    numbers(cx, "mats", NULL, 2, l.m, 2, (const statistic[]){in, out}, NULL, &none, OUT * IN, y);
    numbers(cx, "fisher", NULL, 2, l.m, 1, &fisher, NULL, &floorless, OUT * IN, z);
    close_to(y, z, OUT * IN, 1e-9, "diagonal: fisher");
    drop(in.m, 2);
    drop(out.m, 2);
    drop(fisher.m, 2);
    layers_close(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_fisher, start_plain, stop_plain),
        cmocka_unit_test_setup_teardown(test_refused, start_plain, stop_plain),
        cmocka_unit_test_setup_teardown(test_gradient_matching, start_plain, stop_plain),
        cmocka_unit_test_setup_teardown(test_regmean, start_plain, stop_plain),
        cmocka_unit_test_setup_teardown(test_other_tensors, start_plain, stop_plain),
        cmocka_unit_test_setup_teardown(test_mats, start_plain, stop_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
