// SPDX-License-Identifier: Apache-2.0
// What must hold for merge methods whatever the numbers: exact ends, symmetries, limits in which
// one method is another, and for DARE the expectation. No expected numbers here, only relations.
#include "tests/merge/method/values.h"

enum { N = 3000 };  // three tiles, the last one short

typedef struct {
    tarn_context cx;
    double base[N], x[3][N];  // f32 numbers
} fixture;

static int start(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    uint64_t seed = 7;
    open_context(&f->cx, 2, NULL);
    for (int i = 0; i < N; i++) {
        f->base[i] = (float)test_uniform(&seed);
        for (int k = 0; k < 3; k++) {
            f->x[k][i] = (float)(f->base[i] + 0.3 * test_uniform(&seed));
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

// The method on the given numbers (base NULL: without one).
static void run(fixture *f, const char *method, const double *base, int k, const double *const *x,
                const options *o, int64_t n, double *y) {
    const slot w = {"w", 1, {n}};
    const cut c = {TARN_F32, 1, &w};
    run_cut(&f->cx, &c, method, base, k, x, o, n, y);
}

// Weights (1, 0) and t = 0 or 1 give the model itself, bit for bit: signed zeros stay, and what the
// other model holds (even infinities) leaves no trace.
static void ends(void **state) {
    fixture *f = *state;
    double a[6] = {-0.0, 0.0, 1e-40F, 3.5, -1.25, 0.1F},
           b[6] = {1, -1, 2, HUGE_VAL, -HUGE_VAL, 0.3F};
    double c[6] = {1, -1, 2, 4, -5, 0.3F}, y[6];
    const double *ab[2] = {a, b}, *ba[2] = {b, a}, *ac[2] = {a, c};
    options o = {0};
    set_of(&o, "weight", 0, 1);
    set_of(&o, "weight", 1, 0);
    run(f, "linear", NULL, 2, ab, &o, 6, y);
    equal_bits(y, a, 6, "linear (1, 0)");
    o = (options){0};
    set_of(&o, "weight", 0, 0);
    set_of(&o, "weight", 1, 1);
    run(f, "linear", NULL, 2, ba, &o, 6, y);
    equal_bits(y, a, 6, "linear (0, 1)");
    o = (options){0};
    set(&o, "t", 0);
    run(f, "slerp", NULL, 2, ac, &o, 6, y);
    equal_bits(y, a, 6, "slerp at 0");
    o = (options){0};
    set(&o, "t", 1);
    run(f, "slerp", NULL, 2, ac, &o, 6, y);
    equal_bits(y, c, 6, "slerp at 1");
}

static double cosine(const double *a, const double *b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

// The Karcher mean of two vectors lies where slerp of them is halfway; its norm is the mean norm.
static void karcher_is_the_midpoint(void **state) {
    fixture *f = *state;
    static double mean[N], mid[N], p[N], q[N], unit[2][N];
    double size[2] = {0, 0}, got = 0;
    for (int i = 0; i < N; i++) {  // far apart, of different length
        p[i] = f->x[0][i];
        q[i] = (float)(3 * f->x[1][(i + 5) % N]);
        size[0] += p[i] * p[i];
        size[1] += q[i] * q[i];
    }
    for (int i = 0; i < N; i++) {
        unit[0][i] = p[i] / sqrt(size[0]);
        unit[1][i] = q[i] / sqrt(size[1]);
    }
    const double *pq[2] = {p, q}, *units[2] = {unit[0], unit[1]};
    options o = {0}, half = {0};
    set(&half, "t", 0.5);
    run(f, "karcher", NULL, 2, pq, &o, N, mean);
    run(f, "slerp", NULL, 2, units, &half, N, mid);
    assert_true(1 - cosine(mean, mid, N) < 1e-12);
    for (int i = 0; i < N; i++) {
        got += mean[i] * mean[i];
    }
    double want = (sqrt(size[0]) + sqrt(size[1])) / 2;
    assert_true(fabs(sqrt(got) - want) < 1e-6 * want);
}

// Orthogonal offsets give the base, identical ones the model itself.
static void model_stock_limits(void **state) {
    fixture *f = *state;
    double base[4] = {1, 2, -3, 0.5}, p[4] = {1.5, 2, -3, 0.5}, q[4] = {1, 2, -3.25, 0.5}, y[4];
    const double *orthogonal[2] = {p, q}, *same[3] = {p, p, p};
    options o = {0};
    run(f, "model_stock", base, 2, orthogonal, &o, 4, y);
    close_to(y, base, 4, 1e-7, "orthogonal offsets");
    run(f, "model_stock", base, 3, same, &o, 4, y);
    close_to(y, p, 4, 1e-7, "identical offsets");
    // small offsets too, unless mergekit's floor is asked for
    double tiny[4] = {1.0000001, 2, -3, 0.5};
    const double *small[2] = {tiny, tiny};
    run(f, "model_stock", base, 2, small, &o, 4, y);
    assert_true(y[0] == (double)1.0000001F);
    set(&o, "norm_floor", 1e-6);
    run(f, "model_stock", base, 2, small, &o, 4, y);
    assert_true(y[0] == 1);
}

typedef struct {
    const char *method;
    bool base;
    int models;
    options o;
} recipe;

// One recipe per method, with uneven weights where the method has them.
static int recipes(recipe *r, bool equal_weights) {
    static const char *const weighted[] = {"linear", "karcher",     "task_arithmetic",
                                           "ties",   "dare_linear", "dare_ties"};
    int n = 0;
    for (int k = 0; k < 6; k++) {
        r[n] = (recipe){.method = weighted[k], .base = k >= 2, .models = 3};
        for (int i = 0; i < 3; i++) {
            set_of(&r[n].o, "weight", i, equal_weights ? 1 : 0.2 + 0.3 * i);
        }
        if (k >= 3) {
            set(&r[n].o, "density", 0.4);
        }
        n++;
    }
    r[n] = (recipe){.method = "model_stock", .base = true, .models = 3};
    n++;
    r[n] = (recipe){.method = "slerp", .models = 2};
    set(&r[n].o, "t", equal_weights ? 0.5 : 0.3);
    return n + 1;
}

// Every method commutes with a change of unit: a power of two costs no rounding at all.
static void scale(void **state) {
    fixture *f = *state;
    static double y[N], z[N], base[N], x[3][N];
    const double *in[3] = {f->x[0], f->x[1], f->x[2]}, *wide[3] = {x[0], x[1], x[2]};
    recipe r[16];
    int n = recipes(r, false);
    for (int i = 0; i < N; i++) {
        base[i] = 8 * f->base[i];
        for (int k = 0; k < 3; k++) {
            x[k][i] = 8 * f->x[k][i];
        }
    }
    for (int k = 0; k < n; k++) {
        run(f, r[k].method, r[k].base ? f->base : NULL, r[k].models, in, &r[k].o, N, y);
        run(f, r[k].method, r[k].base ? base : NULL, r[k].models, wide, &r[k].o, N, z);
        for (int i = 0; i < N; i++) {
            y[i] *= 8;
        }
        equal_bits(z, y, N, r[k].method);
    }
}

// The order of the models does not matter beyond rounding (their weights go with them; DARE's masks
// are numbered and are not asked), nor does the order of the elements.
static void permutation(void **state) {
    fixture *f = *state;
    static double y[N], z[N], base[N], x[3][N];
    const double *in[3] = {f->x[0], f->x[1], f->x[2]}, *turned[3] = {f->x[2], f->x[0], f->x[1]};
    const double *mirrored[3] = {x[0], x[1], x[2]}, *swapped[2] = {f->x[1], f->x[0]};
    recipe r[16];
    int n = recipes(r, true);
    for (int i = 0; i < N; i++) {
        base[N - 1 - i] = f->base[i];
        for (int k = 0; k < 3; k++) {
            x[k][N - 1 - i] = f->x[k][i];
        }
    }
    for (int k = 0; k < n; k++) {
        if (strncmp(r[k].method, "dare", 4) == 0) {
            continue;
        }
        const double *b = r[k].base ? f->base : NULL;
        run(f, r[k].method, b, r[k].models, in, &r[k].o, N, y);
        run(f, r[k].method, b, r[k].models, r[k].models == 2 ? swapped : turned, &r[k].o, N, z);
        close_to(z, y, N, 1e-6, r[k].method);
        run(f, r[k].method, r[k].base ? base : NULL, r[k].models, mirrored, &r[k].o, N, z);
        for (int i = 0; i < N / 2; i++) {
            double swap = z[i];
            z[i] = z[N - 1 - i];
            z[N - 1 - i] = swap;
        }
        close_to(z, y, N, 1e-6, r[k].method);
    }
}

// With density 1 nothing is trimmed: one model is task arithmetic, models that never disagree too.
static void ties_of_everything(void **state) {
    fixture *f = *state;
    static double y[N], z[N], up[2][N];
    const double *one[1] = {f->x[0]}, *two[2] = {up[0], up[1]};
    options o = {0}, t = {0};
    set(&t, "weight", 0.7);
    o = t;
    set(&o, "density", 1);
    set(&o, "normalize", 0);
    run(f, "ties", f->base, 1, one, &o, N, y);
    run(f, "task_arithmetic", f->base, 1, one, &t, N, z);
    equal_bits(y, z, N, "one model");
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 2; k++) {
            up[k][i] = (float)(f->base[i] + fabs(f->x[k][i] - f->base[i]) + 0.125);
        }
    }
    run(f, "ties", f->base, 2, two, &o, N, y);
    run(f, "task_arithmetic", f->base, 2, two, &t, N, z);
    equal_bits(y, z, N, "models that agree");
}

// Exactly trunc(density · N) entries stay, at least one; equal magnitudes: the first ones.
static void ties_counts(void **state) {
    fixture *f = *state;
    static double y[N], flat[N], zero[N];
    static const double density[] = {0.5, 0.1, 0.33333, 1e-9, 0.9999};
    const double *one[1] = {f->x[0]}, *even[1] = {flat};
    for (int i = 0; i < N; i++) {
        flat[i] = i % 2 ? 1 : -1;
        zero[i] = 0;
    }
    for (int d = 0; d < 5; d++) {
        int64_t want = (int64_t)(density[d] * N), kept = 0;
        want = want < 1 ? 1 : want;
        options o = {0};
        set(&o, "density", density[d]);
        choose(&o, "trim", "tensor");
        run(f, "ties", f->base, 1, one, &o, N, y);
        double least = HUGE_VAL, most = 0;
        for (int i = 0; i < N; i++) {
            double size = fabs((double)(float)(f->x[0][i] - f->base[i]));
            bool in = y[i] != f->base[i];
            kept += in;
            least = in && size < least ? size : least;
            most = !in && size > most ? size : most;
        }
        assert_int_equal(kept, want);
        assert_true(least >= most);
        run(f, "ties", zero, 1, even, &o, N, y);
        for (int i = 0; i < N; i++) {
            assert_true((y[i] != 0) == (i < want));
        }
    }
}

// Each entry stays with probability p and is divided by it, so the mean over entries and seeds of
// (result - base) / offset is 1; its deviation is sqrt((1 - p) / (p · draws)). Masks of two models
// are independent, and the same seed gives the same bytes.
static void dare_is_unbiased(void **state) {
    fixture *f = *state;
    static double y[N], again[N], zero[N], a[N], b[N];
    const double *two[2] = {a, b};
    enum { SEEDS = 40 };
    const double p = 0.3;
    double sum[2] = {0, 0}, both = 0, draws = (double)N * SEEDS;
    for (int i = 0; i < N; i++) {  // sums tell which models were kept
        a[i] = 1;
        b[i] = 4;
    }
    for (int s = 0; s < SEEDS; s++) {
        options o = {0};
        set(&o, "density", p);
        set(&o, "seed", s);
        run(f, "dare_linear", zero, 2, two, &o, N, y);
        for (int i = 0; i < N; i++) {
            long bits = lround(y[i] * p);  // 0, 1, 4 or 5
            assert_true(fabs(y[i] * p - (double)bits) < 1e-6);
            assert_true(bits == 0 || bits == 1 || bits == 4 || bits == 5);
            sum[0] += (double)(bits & 1) / p;
            sum[1] += (bits >= 4) / p;
            both += bits == 5;
        }
        if (s == 0) {
            run(f, "dare_linear", zero, 2, two, &o, N, again);
            equal_bits(y, again, N, "the same seed");
        }
    }
    double sigma = sqrt((1 - p) / (p * draws));
    assert_true(fabs(sum[0] / draws - 1) < 6 * sigma);
    assert_true(fabs(sum[1] / draws - 1) < 6 * sigma);
    assert_true(fabs(both / draws - p * p) < 6 * sqrt(p * p * (1 - p * p) / draws));
}

// Masks belong to a tensor's name, not to its place.
static void dare_masks_follow_names(void **state) {
    fixture *f = *state;
    static double ones[N], zero[N], y[2][N];
    static const char *const names[2] = {"v", "w"};
    int differ = 0;
    for (int i = 0; i < N; i++) {
        ones[i] = 1;
    }
    for (int k = 0; k < 2; k++) {
        options o = {0};
        set(&o, "density", 0.5);
        tarn_model *b = model_named(&f->cx, names[k], TARN_F32, N, zero);
        tarn_model *m = model_named(&f->cx, names[k], TARN_F32, N, ones);
        apply(&f->cx, "dare_linear", b, 1, &m, &o, N, y[k]);
        tarn_model_release(b);
        tarn_model_release(m);
    }
    for (int i = 0; i < N; i++) {
        differ += y[0][i] != y[1][i];
    }
    assert_in_range(differ, N / 2 - 170, N / 2 + 170);  // 6 sigma
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends),
        cmocka_unit_test(karcher_is_the_midpoint),
        cmocka_unit_test(model_stock_limits),
        cmocka_unit_test(scale),
        cmocka_unit_test(permutation),
        cmocka_unit_test(ties_of_everything),
        cmocka_unit_test(ties_counts),
        cmocka_unit_test(dare_is_unbiased),
        cmocka_unit_test(dare_masks_follow_names),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
