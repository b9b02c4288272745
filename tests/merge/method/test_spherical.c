// SPDX-License-Identifier: Apache-2.0
// Directions and lengths: published results of mergekit's functions (our guide's Appendix A: f32, seven
// decimals), closed forms, naive twins, and the limits in which one method is another.
#include "tests/merge/method/values.h"

enum { ROWS = 6, COLS = 50, N = ROWS * COLS, K = 4 };

typedef struct {
    tarn_context cx;
    double base[N], x[K][N];  // f32 numbers; vectors far apart, of different lengths
    const double *all[K];
} fixture;

static int start(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    uint64_t seed = 5;
    open_context(&f->cx, 2, NULL);
    for (int i = 0; i < N; i++) {
        f->base[i] = (float)test_uniform(&seed);
        for (int k = 0; k < K; k++) {
            f->x[k][i] = (float)((1 + k) * (0.5 * f->base[i] + test_uniform(&seed)));
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

static const form row_f64 = {TARN_F64, 1, 1, {N}}, matrix_f64 = {TARN_F64, 1, 2, {ROWS, COLS}},
                  row_f32 = {TARN_F32, 1, 1, {N}};

static double norm_of(int64_t n, const double *x) { return sqrt(dot_of(n, x, x)); }
static double cosine_of(int64_t n, const double *a, const double *b) {
    return dot_of(n, a, b) / (norm_of(n, a) * norm_of(n, b));
}

static options weights(int n, const double *w) {
    options o = {0};
    for (int i = 0; i < n; i++) {
        set_of(&o, "weight", i, w[i]);
    }
    return o;
}

// ---- published numbers ----

static void published(void **state) {
    fixture *f = *state;
    static const float base[8] = {0.5F, -1.25F, 2.0F, 0.125F, 1.0F, 0.75F, -0.5F, -3.0F};
    static const float offset[3][8] = {{0.10F, -0.20F, 0.30F, 0.05F, -0.40F, 0.15F, 0.25F, -0.35F},
                                       {-0.12F, -0.22F, 0.08F, 0.45F, 0.33F, 0.02F, -0.28F, -0.17F},
                                       {0.07F, 0.26F, -0.11F, 0.01F, -0.05F, 0.38F, 0.21F, -0.44F}};
    const form block = {TARN_F32, 1, 2, {2, 4}};
    double m[3][8], y[8], w[3] = {0.6, 0.4, 0.3};
    const double *x[3] = {m[0], m[1], m[2]};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 8; i++) {
            m[k][i] = base[i] + offset[k][i];
        }
    }
    options o = weights(2, w);
    run_shaped(&f->cx, &block, "nuslerp", NULL, 2, x, &o, y);
    close_to(y, (double[]){0.5153571, -1.4678516, 2.2268331, 0.3374419, 0.8983508, 0.8536659, -0.4653578, -3.3000474},
             8, 5e-7, "nuslerp");
    choose(&o, "axis", "row");
    run_shaped(&f->cx, &block, "nuslerp", NULL, 2, x, &o, y);
    close_to(y, (double[]){0.5139111, -1.4636081, 2.220444, 0.33639, 0.8996934, 0.8548635, -0.4660677, -3.3047078},
             8, 5e-7, "nuslerp by row");
    o = weights(3, w);
    run_shaped(&f->cx, &block, "multislerp", NULL, 3, x, &o, y);
    close_to(y, (double[]){0.5294415, -1.3578663, 2.1520576, 0.2904703, 0.9134636, 0.9213791, -0.4252516, -3.3413367},
             8, 5e-7, "multislerp");
}

// ---- two models ----

// On the arc between the unit vectors, at t of the angle, with the interpolated length.
static void slerp_keeps_the_norm(void **state) {
    fixture *f = *state;
    static double y[N], opposite[N];
    const double *p = f->x[0], *q = f->x[1], *both[2] = {p, opposite};
    double np = norm_of(N, p), nq = norm_of(N, q), angle = acos(cosine_of(N, p, q));
    for (int k = 1; k < 10; k++) {
        double t = k / 10.0, length = (1 - t) * np + t * nq;
        options o = {0};
        set(&o, "t", t);
        choose(&o, "norm", "lerp");
        run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, f->all, &o, y);
        assert_true(fabs(norm_of(N, y) / length - 1) < 1e-12);
        assert_true(fabs(dot_of(N, p, y) / (np * length) - cos(t * angle)) < 1e-12);
        assert_true(fabs(dot_of(N, q, y) / (nq * length) - cos((1 - t) * angle)) < 1e-12);
        // nearly parallel: on the straight line, and still of that length
        for (int i = 0; i < N; i++) {
            opposite[i] = 2 * p[i] + 0.01 * q[i];
        }
        run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, both, &o, y);
        assert_true(cosine_of(N, p, opposite) > 0.9995);
        assert_true(fabs(norm_of(N, y) / ((1 - t) * np + t * norm_of(N, opposite)) - 1) < 1e-12);
    }
}

static void slerp_of_the_whole(void **state) {
    fixture *f = *state;
    static double y[N], want[N], apart[N];
    const form three = {TARN_F32, 3, 1, {N / 3}};
    static const char *const norms[] = {"raw", "lerp"};
    for (int k = 0; k < 2; k++) {
        options o = {0};
        set(&o, "t", 0.3);
        choose(&o, "norm", norms[k]);
        run_shaped(&f->cx, &row_f32, "slerp", NULL, 2, f->all, &o, want);
        run_shaped(&f->cx, &three, "slerp", NULL, 2, f->all, &o, apart);
        choose(&o, "scope", "global");
        run_shaped(&f->cx, &three, "slerp", NULL, 2, f->all, &o, y);
        close_to(y, want, N, 2e-7, "one angle");
        double gap = 0;
        for (int i = 0; i < N; i++) {
            gap = fmax(gap, fabs(y[i] - apart[i]));
        }
        assert_true(gap > 1e-4);
    }
}

// Without a threshold, equal models and opposite ones are finite; and the arc has no jump where it ends.
static void straight(void **state) {
    fixture *f = *state;
    static double y[N], minus[N], zero[N], nearly[N], z[N];
    const double *same[2] = {f->x[0], f->x[0]}, *across[2] = {f->x[0], minus}, *close[2] = {f->x[0], nearly};
    options o = {0}, half = {0};
    for (int i = 0; i < N; i++) {
        minus[i] = -f->x[0][i];
        nearly[i] = f->x[0][i] + 0.025 * f->x[1][i];  // cosine 0.9989
    }
    set(&o, "threshold", 1);
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, same, &o, y);
    close_to(y, f->x[0], N, 1e-15, "equal models");
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, across, &o, y);
    close_to(y, zero, N, 1e-15, "opposite models");
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, close, &o, y);
    set(&half, "threshold", 0.5);
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, close, &half, z);
    close_to(z, y, N, 2e-3, "the line beside the arc");
    for (int by_row = 0; by_row < 2; by_row++) {
        options n = {0};
        choose(&n, "axis", by_row ? "row" : "tensor");
        run_shaped(&f->cx, &matrix_f64, "nuslerp", NULL, 2, same, &n, y);
        close_to(y, f->x[0], N, 1e-15, "nuslerp of equal models");
    }
}

static void nuslerp(void **state) {
    fixture *f = *state;
    static double y[N], z[N], d[2][N], turned[2][N], unit[2][N];
    const double *delta[2] = {d[0], d[1]}, *columns[2] = {turned[0], turned[1]}, *units[2] = {unit[0], unit[1]};
    for (int end = 0; end < 2; end++) {  // bit for bit, whatever the base
        options o = weights(2, end ? (double[]){0, 2} : (double[]){2, 0});
        run_shaped(&f->cx, &row_f32, "nuslerp", f->base, 2, f->all, &o, y);
        equal_bits(y, f->x[end], N, "ends");
    }
    // weights mean their share; far from parallel it is slerp
    options o = weights(2, (double[]){3, 1}), s = {0}, even = {0}, none = weights(2, (double[]){1, -1});
    set(&s, "t", 0.25);
    run_shaped(&f->cx, &row_f64, "nuslerp", NULL, 2, f->all, &o, y);
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, f->all, &s, z);
    close_to(y, z, N, 1e-14, "slerp");
    run_shaped(&f->cx, &row_f64, "nuslerp", NULL, 2, f->all, &none, y);
    run_shaped(&f->cx, &row_f64, "nuslerp", NULL, 2, f->all, &even, z);
    equal_bits(y, z, N, "weights that cancel");
    // halfway between vectors of one length the length is the same
    for (int k = 0; k < 2; k++) {
        double size = norm_of(N, f->x[k]);
        for (int i = 0; i < N; i++) {
            unit[k][i] = 3 * f->x[k][i] / size;
        }
    }
    run_shaped(&f->cx, &row_f64, "nuslerp", NULL, 2, units, &even, y);
    assert_true(fabs(norm_of(N, y) - 3) < 1e-12);
    assert_true(fabs(cosine_of(N, y, unit[0]) - cosine_of(N, y, unit[1])) < 1e-12);
    // a base is taken off and put back
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            d[k][i] = f->x[k][i] - f->base[i];
        }
    }
    run_shaped(&f->cx, &row_f64, "nuslerp", f->base, 2, f->all, &o, y);
    run_shaped(&f->cx, &row_f64, "nuslerp", NULL, 2, delta, &o, z);
    for (int i = 0; i < N; i++) {
        z[i] += f->base[i];
    }
    close_to(y, z, N, 1e-14, "offsets");
    // rows are vectors by themselves, columns are the rows of the transposed
    static double rows[N];
    const form one_row = {TARN_F64, 1, 2, {1, COLS}}, across = {TARN_F64, 1, 2, {COLS, ROWS}};
    choose(&o, "axis", "row");
    run_shaped(&f->cx, &matrix_f64, "nuslerp", NULL, 2, f->all, &o, rows);
    for (int r = 0; r < ROWS; r++) {
        const double *part[2] = {f->x[0] + r * COLS, f->x[1] + r * COLS};
        options flat = weights(2, (double[]){3, 1});
        run_shaped(&f->cx, &one_row, "nuslerp", NULL, 2, part, &flat, y);
        close_to(rows + r * COLS, y, COLS, 1e-14, "a row");
        run_shaped(&f->cx, &one_row, "nuslerp", NULL, 2, part, &o, z);
        close_to(z, y, COLS, 1e-14, "a tensor of one row");
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            turned[k][i % COLS * ROWS + i / COLS] = f->x[k][i];
        }
    }
    options down = weights(2, (double[]){3, 1});
    choose(&down, "axis", "column");
    run_shaped(&f->cx, &across, "nuslerp", NULL, 2, columns, &down, y);
    for (int i = 0; i < N; i++) {
        z[i] = y[i % COLS * ROWS + i / COLS];
    }
    close_to(z, rows, N, 1e-14, "columns");
}

// ---- many models ----

// The algorithm as mergekit states it, tangent step and all.
static void multislerp_twin(int n, const double *const *x, const double *w, double *y) {
    static double u[K][N], mean[N], tangent[N];
    double length = 0, eps = 1e-8;
    memset(mean, 0, sizeof mean);
    memset(tangent, 0, sizeof tangent);
    for (int k = 0; k < n; k++) {
        double size = norm_of(N, x[k]);
        length += w[k] * size;
        for (int i = 0; i < N; i++) {
            u[k][i] = x[k][i] / (size + eps);
            mean[i] += w[k] * u[k][i];
        }
    }
    double size = norm_of(N, mean);
    for (int i = 0; i < N; i++) {
        mean[i] /= size;
    }
    for (int k = 0; k < n; k++) {
        double along = dot_of(N, u[k], mean);
        for (int i = 0; i < N; i++) {
            tangent[i] += w[k] * (u[k][i] - along * mean[i]);
        }
    }
    double s = norm_of(N, tangent) + eps;
    for (int i = 0; i < N; i++) {
        y[i] = (mean[i] * cos(s) + tangent[i] * sin(s) / s) * length;
    }
}

static void multislerp(void **state) {
    fixture *f = *state;
    static double y[N], want[N], mid[N], d[K][N], unit[2][N], minus[N];
    static const double w[K] = {0.4, 0.3, 0.2, 0.1}, twice[K] = {0.8, 0.6, 0.4, 0.2};
    const double *delta[K] = {d[0], d[1], d[2], d[3]}, *units[2] = {unit[0], unit[1]}, *across[2] = {f->x[0], minus};
    options o = weights(K, w);
    run_shaped(&f->cx, &row_f64, "multislerp", NULL, K, f->all, &o, y);
    multislerp_twin(K, f->all, w, want);
    close_to(y, want, N, 1e-12, "mergekit's algorithm");
    options doubled = weights(K, twice), kept = weights(K, twice);
    run_shaped(&f->cx, &row_f64, "multislerp", NULL, K, f->all, &doubled, y);
    close_to(y, want, N, 1e-12, "weights are shares");
    set(&kept, "normalize", 0);
    run_shaped(&f->cx, &row_f64, "multislerp", NULL, K, f->all, &kept, y);
    multislerp_twin(K, f->all, twice, want);
    close_to(y, want, N, 1e-12, "weights as given");
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < N; i++) {
            d[k][i] = f->x[k][i] - f->base[i];
        }
    }
    run_shaped(&f->cx, &row_f64, "multislerp", f->base, K, f->all, &o, y);
    multislerp_twin(K, delta, w, want);
    for (int i = 0; i < N; i++) {
        want[i] += f->base[i];
    }
    close_to(y, want, N, 1e-12, "offsets");
    // of two: halfway on the arc, with the mean length
    double length = 0;
    for (int k = 0; k < 2; k++) {
        double size = norm_of(N, f->x[k]);
        length += size / 2;
        for (int i = 0; i < N; i++) {
            unit[k][i] = f->x[k][i] / size;
            minus[i] = -f->x[0][i];
        }
    }
    run_shaped(&f->cx, &row_f64, "slerp", NULL, 2, units, NULL, mid);
    run_shaped(&f->cx, &row_f64, "multislerp", NULL, 2, f->all, NULL, y);
    for (int i = 0; i < N; i++) {
        mid[i] *= length;
    }
    close_to(y, mid, N, 1e-7, "slerp of two");
    // directions that cancel: the weighted sum
    options uneven = weights(2, (double[]){0.5, 0.5});
    run_shaped(&f->cx, &row_f64, "multislerp", NULL, 2, across, &uneven, y);
    memset(want, 0, sizeof want);
    close_to(y, want, N, 1e-15, "opposite models");
    run_shaped(&f->cx, &row_f32, "multislerp", NULL, 1, f->all, NULL, y);
    equal_bits(y, f->x[0], N, "one model");
}

static void nlerp(void **state) {
    fixture *f = *state;
    static double y[N], mean[N], minus[N], zero[N];
    static const double w[3] = {1, 0.5, 2.5};
    const double *across[2] = {f->x[0], minus};
    options o = weights(3, w);
    run_shaped(&f->cx, &row_f64, "linear", NULL, 3, f->all, &o, mean);
    run_shaped(&f->cx, &row_f64, "nlerp", NULL, 3, f->all, &o, y);
    double length = (norm_of(N, f->x[0]) + 0.5 * norm_of(N, f->x[1]) + 2.5 * norm_of(N, f->x[2])) / 4;
    assert_true(fabs(norm_of(N, y) / length - 1) < 1e-12);
    assert_true(1 - cosine_of(N, y, mean) < 1e-13);
    assert_true(norm_of(N, mean) < 0.95 * length);
    choose(&o, "axis", "row");
    run_shaped(&f->cx, &matrix_f64, "nlerp", NULL, 3, f->all, &o, y);
    for (int r = 0; r < ROWS; r++) {
        double want = 0;
        for (int k = 0; k < 3; k++) {
            want += w[k] / 4 * norm_of(COLS, f->x[k] + r * COLS);
        }
        assert_true(fabs(norm_of(COLS, y + r * COLS) / want - 1) < 1e-12);
        assert_true(1 - cosine_of(COLS, y + r * COLS, mean + r * COLS) < 1e-13);
    }
    options even = {0};
    run_shaped(&f->cx, &row_f64, "nlerp", f->base, 2, f->all, &even, y);
    length = 0;
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < N; i++) {
            mean[i] = f->x[k][i] - f->base[i];
            minus[i] = -f->x[0][i];
        }
        length += norm_of(N, mean) / 2;
    }
    for (int i = 0; i < N; i++) {
        mean[i] = y[i] - f->base[i];
    }
    assert_true(fabs(norm_of(N, mean) / length - 1) < 1e-12);
    run_shaped(&f->cx, &row_f64, "nlerp", NULL, 2, across, &even, y);
    close_to(y, zero, N, 0, "opposite models");
    options first = weights(3, (double[]){0, 3, 0});
    run_shaped(&f->cx, &row_f32, "nlerp", NULL, 3, f->all, &first, y);
    equal_bits(y, f->x[1], N, "one of three");
}

// ---- model stock ----

// t (1 + (n - 1) c) = n c, and the result lies t of the way from the base to the mean.
static double stock_t(int n, double c) { return n * c / (1 + (n - 1) * c); }

static void expect_stock(const fixture *f, const double *y, int from, int to, int n, double t) {
    for (int i = from; i < to; i++) {
        double mean = 0;
        for (int k = 0; k < n; k++) {
            mean += f->x[k][i] / n;
        }
        double want = t * mean + (1 - t) * f->base[i];
        if (!(fabs(y[i] - want) <= 1e-12 * (1 + fabs(want)))) {
            fail_msg("model stock: element %d is %.17g, expected %.17g", i, y[i], want);
        }
    }
}

static void stock(void **state) {
    fixture *f = *state;
    static double y[N], z[N], d[K][N];
    for (int k = 0; k < K; k++) {
        for (int i = 0; i < N; i++) {
            d[k][i] = f->x[k][i] - f->base[i];
        }
    }
    double c01 = cosine_of(N, d[0], d[1]), c02 = cosine_of(N, d[0], d[2]), c12 = cosine_of(N, d[1], d[2]);
    options o = {0};
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 2, f->all, &o, y);
    expect_stock(f, y, 0, N, 2, 2 * c01 / (1 + c01));
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 3, f->all, &o, y);
    expect_stock(f, y, 0, N, 3, stock_t(3, (c01 + c02 + c12) / 3));
    choose(&o, "pairs", "consecutive");
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 3, f->all, &o, y);
    expect_stock(f, y, 0, N, 3, stock_t(3, (c01 + c12) / 2));
    o = (options){0};
    choose(&o, "mean", "angle");
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 3, f->all, &o, y);
    expect_stock(f, y, 0, N, 3, stock_t(3, cos((acos(c01) + acos(c02) + acos(c12)) / 3)));
    o = (options){0};
    choose(&o, "axis", "row");
    run_shaped(&f->cx, &matrix_f64, "model_stock", f->base, 2, f->all, &o, y);
    for (int r = 0; r < ROWS; r++) {
        double c = cosine_of(COLS, d[0] + r * COLS, d[1] + r * COLS);
        expect_stock(f, y, r * COLS, (r + 1) * COLS, 2, 2 * c / (1 + c));
    }
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 2, f->all, &o, y);
    run_shaped(&f->cx, &row_f64, "model_stock", f->base, 2, f->all, NULL, z);
    equal_bits(y, z, N, "a vector is one row");
    // offsets that oppose one another: far beyond the mean, or with clamp the base
    const double base[2] = {1, 2}, p[2] = {2, 2}, q[2] = {0.5, 2.1}, *pq[2] = {p, q};
    const form two = {TARN_F64, 1, 1, {2}};
    run_shaped(&f->cx, &two, "model_stock", base, 2, pq, NULL, y);
    assert_true(y[0] < -10);
    o = (options){0};
    set(&o, "clamp", 1);
    run_shaped(&f->cx, &two, "model_stock", base, 2, pq, &o, y);
    equal_bits(y, base, 2, "clamped");
}

static void degenerate(void **state) {
    fixture *f = *state;
    static const char *const axes[] = {"tensor", "row", "column"};
    for (int a = 0; a < 3; a++) {
        options o = {0};
        choose(&o, "axis", axes[a]);
        holds_up(&f->cx, "nuslerp", false, 2, &o, true);
        holds_up(&f->cx, "nuslerp", true, 2, &o, true);
        holds_up(&f->cx, "nlerp", false, 3, &o, true);
        holds_up(&f->cx, "nlerp", true, 3, &o, true);
        if (a < 2) {
            holds_up(&f->cx, "model_stock", true, 3, &o, true);
            choose(&o, "mean", "angle");
            holds_up(&f->cx, "model_stock", true, 2, &o, true);
        }
    }
    options o = {0};
    choose(&o, "norm", "lerp");
    choose(&o, "scope", "global");
    set(&o, "threshold", 1);
    holds_up(&f->cx, "slerp", false, 2, NULL, true);
    holds_up(&f->cx, "slerp", false, 2, &o, true);
    holds_up(&f->cx, "multislerp", false, 3, NULL, true);
    holds_up(&f->cx, "multislerp", true, 3, NULL, true);
    holds_up(&f->cx, "karcher", false, 3, NULL, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published), cmocka_unit_test(slerp_keeps_the_norm), cmocka_unit_test(slerp_of_the_whole),
        cmocka_unit_test(straight),  cmocka_unit_test(nuslerp),              cmocka_unit_test(multislerp),
        cmocka_unit_test(nlerp),     cmocka_unit_test(stock),                cmocka_unit_test(degenerate),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
