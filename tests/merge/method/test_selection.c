// SPDX-License-Identifier: Apache-2.0
// Methods that select entries: breadcrumbs, breadcrumbs_ties, sce, ram, ramplus, nearswap,
// arcee_fusion. Published results of mergekit's numeric functions on one small tensor (the f32
// vectors of our guide's Appendix A), examples worked by hand, limits in which one method is
// another, and for arcee_fusion a twin in f64.
#include "tests/merge/method/values.h"

static void run(tarn_context *cx, const char *method, const double *base, int k,
                const double *const *x, const options *o, int64_t n, double *y) {
    form f = {TARN_F32, 1, 1, {n}};
    run_shaped(cx, &f, method, base, k, x, o, y);
}
static void run_rows(tarn_context *cx, const char *method, int64_t rows, int64_t columns,
                     const double *base, const double *x, const options *o, double *y) {
    form f = {TARN_F32, 1, 2, {rows, columns}};
    run_shaped(cx, &f, method, base, 1, &x, o, y);
}

// ---- published vectors ----

static void appendix(void **state) {
    static const float base[8] = {0.5F, -1.25F, 2, 0.125F, 1, 0.75F, -0.5F, -3};
    static const float offsets[3][8] = {
        {0.10F, -0.20F, 0.30F, 0.05F, -0.40F, 0.15F, 0.25F, -0.35F},
        {-0.12F, -0.22F, 0.08F, 0.45F, 0.33F, 0.02F, -0.28F, -0.17F},
        {0.07F, 0.26F, -0.11F, 0.01F, -0.05F, 0.38F, 0.21F, -0.44F}};
    double b[8], m[3][8], y[8];
    const double *x[3] = {m[0], m[1], m[2]};
    for (int i = 0; i < 8; i++) {
        b[i] = base[i];
        for (int k = 0; k < 3; k++) {
            m[k][i] = base[i] + offsets[k][i];  // formed in f32
        }
    }
    options o = {0};
    set_of(&o, "weight", 0, 0.6);
    set_of(&o, "weight", 1, 0.4);
    set_of(&o, "weight", 2, 0.3);
    set(&o, "density", 0.5);
    set(&o, "gamma", 0.25);
    run(*state, "breadcrumbs", b, 3, x, &o, 8, y);
    close_to(y, (double[]){0.473, -1.3800001, 2.1470001, 0.125, 1.0, 0.84, -0.399, -3.0680001},
             8, 1e-6, "breadcrumbs");
    o = (options){0};
    set(&o, "density", 1);
    run(*state, "sce", b, 3, x, &o, 8, y);
    close_to(y, (double[]){0.5856234, -1.4597826, 2.1923909, 0.2952971, 0.767727, 0.9302943,
                           -0.2691688, -3.3188901}, 8, 1e-6, "sce");
    o = (options){0};
    set(&o, "epsilon", 0.1);
    run(*state, "ram", b, 3, x, &o, 8, y);
    close_to(y, (double[]){0.49, -1.3033334, 2.095, 0.575, 0.965, 1.015, -0.44, -3.3199999},
             8, 1e-6, "ram");
    o = (options){0};
    set(&o, "t", 0.1);
    run(*state, "nearswap", b, 1, x, &o, 8, y);
    close_to(y, (double[]){0.6, -1.35, 2.1000001, 0.175, 0.9, 0.85, -0.4, -3.0999999},
             8, 1e-6, "nearswap");
    o = (options){0};
    run_rows(*state, "arcee_fusion", 2, 4, b, m[0], &o, y);
    close_to(y, (double[]){0.5, -1.25, 2, 0.125, 0.6, 0.75, -0.5, -3}, 8, 1e-6, "arcee_fusion");
}

// ---- breadcrumbs ----

static void breadcrumbs_by_hand(void **state) {
    double zero[10] = {0}, d[10] = {1, -2, 3, -4, 5, -6, 7, -8, 9, -10}, even[10], y[10];
    const double *x[1] = {d}, *flat[1] = {even};
    options o = {0};
    set(&o, "density", 0.3);
    set(&o, "gamma", 0.2);
    run(*state, "breadcrumbs", zero, 1, x, &o, 10, y);
    close_to(y, (double[]){0, 0, 0, 0, 0, -6, 7, -8, 0, 0}, 10, 0, "the band");
    run(*state, "breadcrumbs_ties", zero, 1, x, &o, 10, y);
    close_to(y, (double[]){0, 0, 0, 0, 0, -6, 7, -8, 0, 0}, 10, 0, "the band, elected");
    choose(&o, "rescale", "l1");
    run(*state, "breadcrumbs", zero, 1, x, &o, 10, y);
    close_to(y, (double[]){0, 0, 0, 0, 0, -6 * 55. / 21, 55. / 3, -8 * 55. / 21, 0, 0},
             10, 1e-6, "rescaled");
    // equals: the first ones count as larger
    for (int i = 0; i < 10; i++) {
        even[i] = i % 2 ? 1 : -1;
    }
    o.n = 2;
    run(*state, "breadcrumbs", zero, 1, flat, &o, 10, y);
    close_to(y, (double[]){0, 0, -1, 1, -1, 0, 0, 0, 0, 0}, 10, 0, "equals");
    // gamma gives way to density
    o = (options){0};
    set(&o, "density", 0.9);
    set(&o, "gamma", 0.3);
    run(*state, "breadcrumbs", zero, 1, x, &o, 10, y);
    close_to(y, (double[]){1, -2, 3, -4, 5, -6, 7, -8, 9, 0}, 10, 0, "no room for gamma");
    // fewer than 1 / gamma entries: nothing goes at the top
    o = (options){0};
    set(&o, "density", 0.3);
    set(&o, "gamma", 0.09);
    run(*state, "breadcrumbs", zero, 1, x, &o, 10, y);
    close_to(y, (double[]){0, 0, 0, 0, 0, 0, 0, -8, 9, -10}, 10, 0, "a small tensor");
}

// Two models disagree at 2; elsewhere each survives where it is in its own band.
static void breadcrumbs_ties_by_hand(void **state) {
    double zero[4] = {0}, p[4] = {4, 3, 2, 1}, q[4] = {1, 2, -3, -4}, y[4];
    const double *x[2] = {p, q};
    options o = {0};
    set(&o, "density", 0.5);
    set(&o, "gamma", 0.25);
    set_of(&o, "weight", 0, 1);
    set_of(&o, "weight", 1, 0.5);
    run(*state, "breadcrumbs_ties", zero, 2, x, &o, 4, y);  // bands {0, 3, 2, 0} and {0, 2, -3, 0}
    close_to(y, (double[]){0, 4, 2, 0}, 4, 0, "sum");
    set(&o, "normalize", 1);
    run(*state, "breadcrumbs_ties", zero, 2, x, &o, 4, y);
    close_to(y, (double[]){0, 4 / 1.5, 2, 0}, 4, 1e-7, "mean");
}

enum { N = 2500 };
static void draw(double *base, double (*x)[N]) {
    uint64_t seed = 11;
    for (int i = 0; i < N; i++) {
        base[i] = (float)test_uniform(&seed);
        for (int k = 0; k < 3; k++) {
            x[k][i] = (float)(base[i] + 0.3 * test_uniform(&seed));
        }
    }
}

static void breadcrumbs_limits(void **state) {
    static double base[N], m[3][N], y[N], z[N];
    const double *x[3] = {m[0], m[1], m[2]};
    draw(base, m);
    options all = {0}, plain = {0};
    set_of(&plain, "weight", 0, 0.5);
    set_of(&plain, "weight", 1, -0.25);
    set(&plain, "lambda", 0.7);
    all = plain;
    set(&all, "density", 1);
    set(&all, "gamma", 0);
    run(*state, "breadcrumbs", base, 3, x, &all, N, y);
    run(*state, "task_arithmetic", base, 3, x, &plain, N, z);
    equal_bits(y, z, N, "everything kept is task arithmetic");
    run(*state, "breadcrumbs_ties", base, 3, x, &all, N, y);
    options ties = plain;
    set(&ties, "density", 1);
    set(&ties, "normalize", 0);
    run(*state, "ties", base, 3, x, &ties, N, z);
    equal_bits(y, z, N, "everything kept is ties");
    options top = {0}, trim = {0};
    set(&top, "density", 0.3);
    set(&top, "gamma", 0);
    set(&trim, "density", 0.3);
    set(&trim, "normalize", 0);
    choose(&trim, "trim", "tensor");
    run(*state, "breadcrumbs_ties", base, 3, x, &top, N, y);
    run(*state, "ties", base, 3, x, &trim, N, z);
    equal_bits(y, z, N, "nothing cut at the top is ties");
    // Exactly trunc(density N) entries, all of them smaller than those cut at the top.
    static const double shares[][2] = {
        {0.1, 0.01}, {0.33333, 0.1}, {0.5, 0.5}, {0.9, 0.2}, {1e-9, 0.1}};
    for (int s = 0; s < 5; s++) {
        int64_t keep = (int64_t)(shares[s][0] * N), off = (int64_t)(shares[s][1] * N), kept = 0,
                over = 0;
        off = off < N - keep ? off : N - keep;
        options o = {0};
        set(&o, "density", shares[s][0]);
        set(&o, "gamma", shares[s][1]);
        run(*state, "breadcrumbs", base, 1, x, &o, N, y);
        double most = 0;
        for (int i = 0; i < N; i++) {
            double size = fabs((double)(float)(m[0][i] - base[i]));
            kept += y[i] != base[i];
            most = y[i] != base[i] && size > most ? size : most;
        }
        for (int i = 0; i < N; i++) {
            over += fabs((double)(float)(m[0][i] - base[i])) > most;
        }
        assert_int_equal(kept, keep);
        assert_int_equal(over, keep > 0 ? off : N);
    }
}

// ---- sce ----

static void sce_by_hand(void **state) {
    // variances in the ratio 9, 0, 9, 4; selected: 0 and 2; energies there 16 and 1 + 9
    double zero[4] = {0}, p[4] = {4, 1, 0, 2}, q[4] = {1, 1, 3, 4}, y[4];
    const double *x[2] = {p, q};
    options o = {0};
    set(&o, "density", 0.5);
    run(*state, "sce", zero, 2, x, &o, 4, y);
    close_to(y, (double[]){74. / 26, 0, 3, 0}, 4, 1e-7, "half");
    // of the three that vary, trunc(1.5) = 1: the first of two equals
    choose(&o, "of", "varying");
    run(*state, "sce", zero, 2, x, &o, 4, y);
    close_to(y, (double[]){65. / 17, 0, 0, 0}, 4, 1e-7, "half of what varies");
    o = (options){0};
    choose(&o, "of", "varying");
    set(&o, "density", 0.3);
    run(*state, "sce", zero, 2, x, &o, 4, y);
    close_to(y, zero, 4, 0, "trunc(0.9) entries");
    // all: energies 21 and 27, and everything agrees
    o = (options){0};
    set(&o, "density", 1);
    run(*state, "sce", zero, 2, x, &o, 4, y);
    close_to(y, (double[]){(21 * 4 + 27) / 48., 1, 3, (21 * 2 + 27 * 4) / 48.}, 4, 1e-7, "all");
    // a minority sign is erased: the sum, unweighted, elects; zero elects plus
    double r[3] = {3, -1, 2}, s[3] = {-1, -1, -2};
    const double *xs[2] = {r, s};
    run(*state, "sce", zero, 2, xs, &o, 3, y);
    close_to(y, (double[]){3, -1, 2}, 3, 1e-7, "minority");
    // the sum is not weighted: -2 and 3 elect plus, though the energies are 104 and 10
    double e[2] = {10, -2}, f[2] = {1, 3};
    const double *ef[2] = {e, f};
    run(*state, "sce", zero, 2, ef, &o, 2, y);
    close_to(y, (double[]){1050. / 114, 3}, 2, 1e-7, "unweighted votes");
    // three models: variances of {0, 3, 4}, {2, 1, 3}, {1, 1, 1} are 26/9, 2/3, 0
    double u[3] = {0, 2, 1}, v[3] = {3, 1, 1}, w[3] = {4, 3, 1};
    const double *three[3] = {u, v, w};
    o = (options){0};
    set(&o, "density", 0.34);
    run(*state, "sce", zero, 3, three, &o, 3, y);
    close_to(y, (double[]){91. / 25, 0, 0}, 3, 1e-7, "three");
}

static void sce_energies(void **state) {
    enum { K = 100 };
    double base[K], p[K], q[K], y[K];
    const double *x[2] = {p, q};
    for (int i = 0; i < K; i++) {
        base[i] = 0;
        p[i] = 3e-4;
        q[i] = 6e-4;
    }
    options o = {0};
    set(&o, "density", 1);
    run(*state, "sce", base, 2, x, &o, K, y);
    assert_true(fabs(y[7] - 5.4e-4) < 1e-9);  // 0.2 and 0.8
    set(&o, "energy_floor", 1e-6);
    run(*state, "sce", base, 2, x, &o, K, y);
    assert_true(fabs(y[7] - 4.5e-4) < 1e-9);  // 4.5e-7 is below the floor: 0.5 each
}

// Models that are equal vary nowhere, whatever they are and however many.
static void sce_of_equals(void **state) {
    static double base[N], m[3][N], y[N];
    draw(base, m);
    const double *x[3] = {m[0], m[0], m[0]};
    options o = {0};
    set(&o, "density", 1);
    run(*state, "sce", base, 3, x, &o, N, y);
    close_to(y, m[0], N, 1e-6, "equal models");
    run(*state, "sce", base, 1, x, &o, N, y);
    close_to(y, m[0], N, 1e-7, "one model");
    o = (options){0};
    set(&o, "density", 0.9);
    choose(&o, "of", "varying");
    run(*state, "sce", base, 3, x, &o, N, y);
    equal_bits(y, base, N, "nothing varies");
}

// ---- ram ----

static void ram_by_hand(void **state) {
    double zero[5] = {0}, p[5] = {1, 1, 1, 0.5, 0}, q[5] = {3, 0, -1, 0, 0},
           r[5] = {5, 0, 4, 0, 0.25}, y[5];
    const double *x[3] = {p, q, r};
    options o = {0};
    set(&o, "epsilon", 0.5);  // 0.5 is not more than 0.5
    run(*state, "ram", zero, 3, x, &o, 5, y);
    close_to(y, (double[]){3, 1, 4. / 3, 0, 0}, 5, 1e-7, "ram");
    // model 0 shares two entries and has one alone: rho = 2
    set(&o, "alpha", 10);
    choose(&o, "scope", "tensor");
    run(*state, "ramplus", zero, 3, x, &o, 5, y);
    close_to(y, (double[]){3, 1.2, 4. / 3, 0, 0}, 5, 1e-7, "ramplus");
    o = (options){0};
    set(&o, "epsilon", 0.5);
    set(&o, "r", 0.5);
    run(*state, "ramplus", zero, 3, x, &o, 5, y);  // rho limited to 0.2
    close_to(y, (double[]){3, 1.1, 4. / 3, 0, 0}, 5, 1e-7, "ramplus, limited");
}

// Over two tensors: model 0 shares one entry of v and has one alone in v and two in w, rho = 1/3.
static void ramplus_over_tensors(void **state) {
    tarn_context *cx = *state;
    tarn_error err = {0};
    static const char *const names[2] = {"v", "w"};
    static const double numbers[3][4] = {{0, 0, 0, 0}, {1, 2, 3, 4}, {5, 0, 0, 0}};
    const int64_t two = 2;
    tarn_model *m[3], *planned, *made;
    for (int k = 0; k < 3; k++) {
        tarn_tensor t[2];
        for (int j = 0; j < 2; j++) {
            OK(tarn_tensor_new(cx, TARN_F32, 1, &two, &t[j], &err));
            tarn_tensor_set(&t[j], 0, numbers[k][2 * j]);
            tarn_tensor_set(&t[j], 1, numbers[k][2 * j + 1]);
        }
        OK(tarn_model_of_tensors(cx, 2, names, t, 1, NULL, &m[k], &err));
        tarn_tensor_release(&t[0]);
        tarn_tensor_release(&t[1]);
    }
    for (int tensor = 0; tensor < 2; tensor++) {
        double v = 1 + 0.3 * (tensor ? 1 : 1. / 3), w = tensor ? 1 : v;
        double want[4] = {3, 2 * v, 3 * w, 4 * w};
        options o = {0};
        set(&o, "r", 0.3);
        set(&o, "alpha", 10);
        choose(&o, "scope", tensor ? "tensor" : "global");
        OK(tarn_method_apply(cx, tarn_method_find("ramplus"), m[0], 2, m + 1, o.n, o.v, NULL,
                             &planned, &err));
        OK(tarn_model_load(cx, planned, &made, &err));
        for (int j = 0; j < 2; j++) {
            tarn_tensor t;
            double y[2];
            OK(tarn_model_tensor(cx, made, j, &t, &err));
            y[0] = tarn_tensor_get(&t, 0);
            y[1] = tarn_tensor_get(&t, 1);
            close_to(y, want + 2 * j, 2, 1e-7, tensor ? "per tensor" : "over the model");
            tarn_tensor_release(&t);
        }
        tarn_model_release(made);
        tarn_model_release(planned);
    }
    for (int k = 0; k < 3; k++) {
        tarn_model_release(m[k]);
    }
}

// Task vectors that do not overlap are all kept whole, those of equal models averaged to
// themselves.
static void ram_limits(void **state) {
    static double base[N], m[3][N], y[N], sum[N];
    const double *x[3] = {m[0], m[1], m[2]}, *same[3] = {m[0], m[0], m[0]};
    draw(base, m);
    options o = {0};
    run(*state, "ram", base, 3, same, &o, N, y);
    close_to(y, m[0], N, 1e-6, "equal models");
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 3; k++) {
            m[k][i] = i % 3 == k ? m[k][i] : base[i];
        }
        sum[i] = m[i % 3][i];
    }
    run(*state, "ram", base, 3, x, &o, N, y);
    close_to(y, sum, N, 1e-5, "disjoint");
    run(*state, "ramplus", base, 3, x, &o, N, y);  // nothing is shared: rho = 0
    close_to(y, sum, N, 1e-5, "disjoint, ramplus");
}

// ---- nearswap ----

static void nearswap_by_hand(void **state) {
    double base[5] = {0, 0, 0, -0.0, 1}, m[5] = {0.05F, 0.1F, -0.2F, -0.0, 1.25}, y[5];
    const double *x[1] = {m};
    options o = {0};
    set(&o, "t", 0.1);
    run(*state, "nearswap", base, 1, x, &o, 5, y);
    close_to(y, (double[]){0.05F, 0.1F, -0.1F, 0, 1.1F}, 5, 1e-7, "t = 0.1");
    equal_bits(y, m, 2, "at the limit and below");
    o = (options){0};
    set(&o, "t", 0);
    run(*state, "nearswap", base, 1, x, &o, 5, y);
    equal_bits(y, base, 5, "t = 0");
    o = (options){0};
    set(&o, "t", 1e9);
    run(*state, "nearswap", base, 1, x, &o, 5, y);
    equal_bits(y, m, 5, "t large");
}

// ---- arcee_fusion ----

// One row has one divergence, so importance goes by magnitude: of 0.1 … 0.9 the quartiles are 0.3,
// 0.5 and 0.7.
static void arcee_by_hand(void **state) {
    static const double size[9] = {0.4, -0.9, 0.2, 0.7, -0.1, 0.6, 0.3, -0.5, 0.8};
    static const double fences[] = {0, 0.4, 0.9, 1.1};  // limits 0.5, 0.66, 0.86, 0.94
    static const double limits[] = {0.49, 0.66, 0.86, 0.94};
    double base[9], m[9], y[9], want[9];
    const double *x[1] = {m};
    for (int i = 0; i < 9; i++) {
        base[i] = 0;
        m[i] = (float)size[i];
    }
    for (int f = 0; f < 4; f++) {
        options o = {0};
        set(&o, "fence", fences[f]);
        for (int i = 0; i < 9; i++) {
            want[i] = fabs(size[i]) > limits[f] ? m[i] : base[i];
        }
        run(*state, "arcee_fusion", base, 1, x, &o, 9, y);
        equal_bits(y, want, 9, "a vector");
        run_rows(*state, "arcee_fusion", 1, 9, base, m, &o, y);
        equal_bits(y, want, 9, "one row");
    }
}

static int up(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The definition, in f64, with probabilities. Entries so near the threshold that rounding may
// decide are not compared.
static void arcee_twin(void **state) {
    enum { ROWS = 23, COLUMNS = 61, ALL = ROWS * COLUMNS };
    static double base[ALL], m[ALL], y[ALL], importance[ALL], sorted[ALL];
    uint64_t seed = 5;
    for (int i = 0; i < ALL; i++) {
        double row = 1 + (double)(i / COLUMNS % 5);
        base[i] =
            (float)(3 * test_uniform(&seed) + 50 * (i / COLUMNS % 3));  // rows at different heights
        m[i] = (float)(base[i] + 0.02 * row * test_uniform(&seed));
    }
    for (int r = 0; r < ROWS; r++) {
        const double *p = m + (ptrdiff_t)r * COLUMNS, *q = base + (ptrdiff_t)r * COLUMNS;
        double sp = 0, sq = 0, kl = 0;
        for (int c = 0; c < COLUMNS; c++) {
            sp += exp(p[c] - p[0]);
            sq += exp(q[c] - q[0]);
        }
        for (int c = 0; c < COLUMNS; c++) {
            double a = exp(p[c] - p[0]) / sp, b = exp(q[c] - q[0]) / sq;
            kl += a * log(a / b);
        }
        for (int c = 0; c < COLUMNS; c++) {
            importance[r * COLUMNS + c] = fabs(p[c] - q[c]) * kl;
        }
    }
    memcpy(sorted, importance, sizeof sorted);
    qsort(sorted, ALL, sizeof *sorted, up);
    double fence =
        sorted[ALL / 2] + 1.5 * (sorted[(int)(0.75 * (ALL - 1))] - sorted[(int)(0.25 * (ALL - 1))]);
    options o = {0};
    run_rows(*state, "arcee_fusion", ROWS, COLUMNS, base, m, &o, y);
    int taken = 0;
    for (int i = 0; i < ALL; i++) {
        bool in = importance[i] >= fence;
        taken += y[i] == m[i];
        if (fabs(importance[i] - fence) > 1e-5 * fence && y[i] != (in ? m[i] : base[i])) {
            fail_msg("entry %d has importance %.9g, the threshold is %.9g", i, importance[i],
                     fence);
        }
    }
    assert_in_range(taken, ALL / 50, ALL / 4);
    run_rows(*state, "arcee_fusion", ROWS, COLUMNS, m, m, &o, y);
    equal_bits(y, m, ALL, "equal models");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appendix),
        cmocka_unit_test(breadcrumbs_by_hand),
        cmocka_unit_test(breadcrumbs_ties_by_hand),
        cmocka_unit_test(breadcrumbs_limits),
        cmocka_unit_test(sce_by_hand),
        cmocka_unit_test(sce_energies),
        cmocka_unit_test(sce_of_equals),
        cmocka_unit_test(ram_by_hand),
        cmocka_unit_test(ramplus_over_tensors),
        cmocka_unit_test(ram_limits),
        cmocka_unit_test(nearswap_by_hand),
        cmocka_unit_test(arcee_by_hand),
        cmocka_unit_test(arcee_twin),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
