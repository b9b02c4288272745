// SPDX-License-Identifier: Apache-2.0
// The methods of the image generators' community: worked examples by hand, exact ends, the definitions
// written out naively (slices, ranks, Fourier sums), statistics of random masks, and tensors for which
// a method's idea says nothing (one element, one dimension, none).
#include "tests/merge/method/values.h"

#include <math.h>

static tarn_context cx;

static int start(void **state) {
    open_context(&cx, 2, NULL);
    return 0;
}
static int stop(void **state) {
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
    return 0;
}

static slot tensor(int rank, const int64_t *shape) {
    slot s = {"w", rank, {0}};
    memcpy(s.shape, shape, (size_t)rank * sizeof *shape);
    return s;
}

enum { MOST = 4096 };

// The method on up to four tensors of one shape; base may be NULL.
static void run(const char *method, int rank, const int64_t *shape, const double *base, int k, const double *const *x,
                const options *o, double *y) {
    const slot w = tensor(rank, shape);
    const cut c = {TARN_F64, 1, &w};
    run_cut(&cx, &c, method, base, k, x, o, numel_of(&w), y);
}
static void run_line(const char *method, int64_t n, int k, const double *const *x, const options *o, double *y) {
    run(method, 1, &n, NULL, k, x, o, y);
}

static void fill(double *x, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        x[i] = test_uniform(&seed);
    }
}

// ---- entry by entry ----

static const double A[4] = {1, 2, -1, 0.5}, B[4] = {2, 2, 1, 1.5}, C[4] = {1, 4, -1, 1};
static const double *const abc[3] = {A, B, C};

static void by_hand(void **state) {
    double y[4];
    options o = {0};
    set(&o, "alpha", 0.5);
    run_line("add_difference", 4, 3, abc, &o, y);  // b - c = 1, -2, 2, 0.5
    close_to(y, (double[]){1.5, 1, 0, 0.75}, 4, 0, "add_difference");
    // |b - a| = 1, 0, 2, 1; |b - c| = 1, 2, 2, 0.5: shares 1/2, 0, 1/2, 2/3 times 0.9 (b - c)
    run_line("train_difference", 4, 3, abc, &o, y);
    close_to(y, (double[]){1.45, 2, -0.1, 0.8}, 4, 1e-15, "train_difference");
    set(&o, "beta", 0.25);
    run_line("sum_twice", 4, 3, abc, &o, y);  // 0.75 (a + b) / 2 + c / 4
    close_to(y, (double[]){1.375, 2.5, -0.25, 1}, 4, 1e-15, "sum_twice");
    run_line("triple_sum", 4, 3, abc, &o, y);  // a / 4 + b / 2 + c / 4
    close_to(y, (double[]){1.5, 2.5, 0, 1.125}, 4, 1e-15, "triple_sum");

    // a - c = 0, -2, 0, -0.5: opposite 2 |a - b| / (|a - b| + |a + b - 2 c|) = 1, 0, 1, 2 (of 1, 0)
    o = (options){0};
    choose(&o, "mask", "opposite");
    run_line("add_difference", 4, 3, abc, &o, y);
    close_to(y, (double[]){2, 2, 1, 1.5}, 4, 1e-15, "opposite");
    // strict: 2 max(0, -(a - c)(b - c)) / max^2 = 0, 0, 0, 2
    o = (options){0};
    choose(&o, "mask", "strict_opposite");
    run_line("add_difference", 4, 3, abc, &o, y);
    close_to(y, (double[]){1, 2, -1, 1.5}, 4, 1e-15, "strict_opposite");
    o = (options){0};
    set(&o, "alpha", 3);
    set(&o, "clamp", 1);
    run_line("add_difference", 4, 3, abc, &o, y);  // 4, -4, 5, 2 between a and b
    close_to(y, (double[]){2, 2, 1, 1.5}, 4, 0, "clamp to a, b");

    // Bounds 0, 1, 4, 2: mean 1.75, nearest above 2, below 1.
    static const double top[4] = {9, -9, 1.5, 1.75}, p[4] = {0, 0, 0, 0}, q[4] = {1, 1, 1, 1}, r[4] = {4, 4, 4, 4};
    const double *held[4] = {top, p, q, r};
    o = (options){0};
    run_line("clamp", 4, 4, held, &o, y);  // bounds 0, 1, 4
    close_to(y, (double[]){4, 0, 1.5, 1.75}, 4, 0, "clamp");
    set(&o, "stiffness", 1);  // mean 5/3: above 4, below 1
    run_line("clamp", 4, 4, held, &o, y);
    close_to(y, (double[]){4, 1, 1.5, 1.75}, 4, 0, "stiff clamp");
    o = (options){0};
    set(&o, "stiffness", 0.5);
    run_line("clamp", 4, 4, held, &o, y);
    close_to(y, (double[]){4, 0.5, 1.5, 1.75}, 4, 0, "half stiff clamp");
}

// c = a: train difference is a + 0.9 alpha (b - a), whatever the numbers.
static void learns_all(void **state) {
    double x[2][300], y[300], want[300];
    fill(x[0], 300, 1);
    fill(x[1], 300, 2);
    const double *m[3] = {x[0], x[1], x[0]};
    options o = {0};
    set(&o, "alpha", 0.7);
    run_line("train_difference", 300, 3, m, &o, y);
    for (int i = 0; i < 300; i++) {
        want[i] = x[0][i] + 0.63 * (x[1][i] - x[0][i]);
    }
    close_to(y, want, 300, 1e-15, "c = a");
    const double *none[3] = {x[0], x[1], x[1]};  // b = c: nothing to learn
    run_line("train_difference", 300, 3, none, &o, y);
    close_to(y, x[0], 300, 0, "b = c");
}

// At its ends a method is one of its models, bit for bit.
static void ends(void **state) {
    static const struct {
        const char *method;
        int models;
        const char *option;
        double value;
        const char *second;
        double second_value;
        int is;
    } rows[] = {
        {"add_difference", 3, "alpha", 0, NULL, 0, 0},      {"train_difference", 3, "alpha", 0, NULL, 0, 0},
        {"sum_twice", 3, "alpha", 0, "beta", 0, 0},         {"sum_twice", 3, "alpha", 1, "beta", 0, 1},
        {"sum_twice", 3, "alpha", 0.3, "beta", 1, 2},       {"triple_sum", 3, "alpha", 0, "beta", 0, 0},
        {"triple_sum", 3, "alpha", 1, "beta", 0, 1},        {"triple_sum", 3, "alpha", 0, "beta", 1, 2},
        {"tensor_sum", 2, "alpha", 0, "beta", 0.4, 0},      {"tensor_sum", 2, "alpha", 1, "beta", 0, 1},
        {"tensor_sum", 2, "alpha", 1, "beta", 0.4, 1},      {"rank_crossover", 2, "alpha", 0, "beta", 0.3, 0},
        {"frequency_crossover", 2, "alpha", 0, "tilt", 0, 0}, {"frequency_crossover", 2, "alpha", 1, "tilt", 0, 1},
        {"frequency_crossover", 2, "alpha", 0, "tilt", 0.5, 0}, {"distribution_crossover", 3, "alpha", 1, "beta", 0, 0},
        {"cosine_add_difference", 2, "alpha", 1, NULL, 0, 1},
    };
    double x[3][30], y[30];
    const int64_t shape[3] = {5, 3, 2};
    for (int k = 0; k < 3; k++) {
        fill(x[k], 30, 11 + (uint64_t)k);
    }
    const double *m[3] = {x[0], x[1], x[2]};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        options o = {0};
        set(&o, rows[i].option, rows[i].value);
        if (rows[i].second) {
            set(&o, rows[i].second, rows[i].second_value);
        }
        run(rows[i].method, 3, shape, NULL, rows[i].models, m, &o, y);
        close_to(y, x[rows[i].is], 30, 0, rows[i].method);
    }
    options o = {0};
    set(&o, "alpha", 0);  // every frequency from b
    run("distribution_crossover", 3, shape, NULL, 3, m, &o, y);
    close_to(y, x[1], 30, 1e-14, "distribution_crossover at 0");
}

// ---- slices and ranks ----

static void slices(void **state) {
    enum { ROWS = 10, COLS = 3, N = ROWS * COLS };
    const int64_t shape[3] = {ROWS, COLS, 1};
    double a[N], b[N], y[N];
    for (int i = 0; i < N; i++) {
        a[i] = i;
        b[i] = 100 + i;
    }
    const double *ab[2] = {a, b};
    for (int width = 0; width <= 10; width++) {
        for (int offset = 0; offset <= 10; offset++) {
            options o = {0};
            set(&o, "alpha", width / 10.0);
            set(&o, "beta", offset / 10.0);
            choose(&o, "rounding", "nearest");
            run("tensor_sum", 3, shape, NULL, 2, ab, &o, y);
            for (int i = 0; i < N; i++) {
                bool from_b = (i / COLS - offset + 2 * ROWS) % ROWS < width;
                assert_true(y[i] == (from_b ? b[i] : a[i]));
            }
        }
    }
    // Seven rows: 0.4 7 = 2.8, 0.9 7 = 6.3; past the end 0.3 7 = 2.1 and 0.8 7 = 5.6.
    static const struct {
        double width, offset;
        const char *rounding;
        int from, to;
        bool outside;
    } stretch[] = {{0.5, 0.4, "down", 2, 6, false}, {0.5, 0.4, "nearest", 3, 6, false},
               {0.5, 0.8, "down", 2, 5, true},  {0.5, 0.8, "nearest", 2, 6, true},
               {0.05, 0, "down", 0, 0, false}};
    const int64_t seven[2] = {7, 2}, across[2] = {2, 7};
    for (int k = 0; k < 5; k++) {
        options o = {0};
        set(&o, "alpha", stretch[k].width);
        set(&o, "beta", stretch[k].offset);
        choose(&o, "rounding", stretch[k].rounding);
        run("tensor_sum", 2, seven, NULL, 2, ab, &o, y);
        for (int i = 0; i < 14; i++) {
            bool in = i / 2 >= stretch[k].from && i / 2 < stretch[k].to;
            assert_true(y[i] == (in != stretch[k].outside ? b[i] : a[i]));
        }
        choose(&o, "axis", "second");
        run("tensor_sum", 2, across, NULL, 2, ab, &o, y);
        for (int i = 0; i < 14; i++) {
            bool in = i % 7 >= stretch[k].from && i % 7 < stretch[k].to;
            assert_true(y[i] == (in != stretch[k].outside ? b[i] : a[i]));
        }
    }
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void ranks(void **state) {
    enum { N = 500 };
    double a[N], b[N], y[N], p[N], q[N];
    fill(a, N, 21);
    fill(b, N, 22);
    const double *ab[2] = {a, b};
    options o = {0};
    run_line("rank_crossover", N, 2, ab, &o, y);
    for (int i = 0; i < N; i++) {  // the order is b's …
        for (int j = 0; j < i; j++) {
            assert_true((b[i] < b[j]) == (y[i] < y[j]));
        }
    }
    memcpy(p, a, sizeof p);  // … and the values are a's
    memcpy(q, y, sizeof q);
    qsort(p, N, sizeof *p, by_value);
    qsort(q, N, sizeof *q, by_value);
    close_to(q, p, N, 0, "values");

    // By magnitude 1 2 3 4 of four: the window of the two middle ones, then its wrapped complement. In b's order
    // the entries would get -4 (of b = 1), 3, 1, -2 (of b = 0: second smallest of a).
    static const double u[4] = {1, -2, 3, -4}, v[4] = {5, 7, 9, 3};  // ranks 1 2 3 0 -> -2 1 3 -4
    const double *uv[2] = {u, v};
    set(&o, "alpha", 0.5);
    set(&o, "beta", 0.25);
    run_line("rank_crossover", 4, 2, uv, &o, y);  // only -2 and 3 may move in
    close_to(y, (double[]){-2, -2, 3, -4}, 4, 0, "window");
    o = (options){0};
    set(&o, "alpha", 0.5);
    set(&o, "beta", 0.75);  // all but (1, 3]: magnitudes 1 and 4
    run_line("rank_crossover", 4, 2, uv, &o, y);
    close_to(y, (double[]){1, 1, 3, -4}, 4, 0, "wrapped window");
}

// ---- frequencies ----

static const double pi = 3.14159265358979323846;

// x with every frequency (p, q) of rows x cols weighted, by the defining sums.
static void naive_filter(const double *x, int rows, int cols, double (*weight)(int p, int q, int rows, int cols),
                         double *y) {
    for (int i = 0; i < rows * cols; i++) {
        y[i] = 0;
    }
    for (int p = 0; p < rows; p++) {
        for (int q = 0; q < cols; q++) {
            double re = 0, im = 0, w = weight(p, q, rows, cols) / (rows * cols);
            for (int i = 0; i < rows * cols; i++) {
                double t = -2 * pi * ((double)(i / cols * p) / rows + (double)(i % cols * q) / cols);
                re += x[i] * cos(t);
                im += x[i] * sin(t);
            }
            for (int i = 0; i < rows * cols; i++) {
                double t = 2 * pi * ((double)(i / cols * p) / rows + (double)(i % cols * q) / cols);
                y[i] += w * (re * cos(t) - im * sin(t));
            }
        }
    }
}
static double radius(int p, int q, int rows, int cols) {
    double u = (double)(p < rows - p ? p : rows - p) / (rows / 2), v = (double)(q < cols - q ? q : cols - q) / (cols / 2);
    return sqrt((u * u + v * v) / 2);
}
static double hard(int p, int q, int rows, int cols) { return radius(p, q, rows, cols) > 1 - 0.4; }
static double soft(int p, int q, int rows, int cols) {
    double w = 0.4 + (radius(p, q, rows, cols) - 0.6) / tan(pi * 0.3 / 2);
    return w < 0 ? 0 : w > 1 ? 1 : w;
}
static double line_hard(int p, int q, int rows, int cols) {
    int k = q < cols - q ? q : cols - q;
    return (double)k / (cols / 2 + 1) >= 0.4;
}
static double line_soft(int p, int q, int rows, int cols) {
    int k = q < cols - q ? q : cols - q;
    double w = ((double)k / (cols / 2 + 1) - 0.4) / 0.3 + 0.5;
    return w < 0 ? 0 : w > 1 ? 1 : w;
}

static void frequencies(void **state) {
    static const int sizes[][2] = {{6, 5}, {7, 8}, {4, 4}, {9, 3}, {2, 11}};
    for (int s = 0; s < 5; s++) {
        int rows = sizes[s][0], cols = sizes[s][1], n = rows * cols;
        const int64_t shape[3] = {rows, 1, cols};
        double a[60], b[60], d[60], f[60], y[60], want[60], other[60];
        fill(a, n, 31);
        fill(b, n, 32);
        const double *ab[2] = {a, b}, *ba[2] = {b, a};
        for (int k = 0; k < 2; k++) {
            options o = {0};
            set(&o, "alpha", 0.4);
            set(&o, "tilt", k == 0 ? 0 : 0.3);
            const int64_t flat[2] = {rows, cols};
            run("frequency_crossover", 2, flat, NULL, 2, ab, &o, y);
            for (int i = 0; i < n; i++) {
                d[i] = b[i] - a[i];
            }
            naive_filter(d, rows, cols, k == 0 ? hard : soft, f);
            for (int i = 0; i < n; i++) {
                want[i] = a[i] + f[i];
            }
            close_to(y, want, n, 1e-13, "frequency_crossover");
            run("frequency_crossover", 3, shape, NULL, 2, ba, &o, other);  // what one loses the other gets
            run("frequency_crossover", 3, shape, NULL, 2, ab, &o, y);
            for (int i = 0; i < n; i++) {
                assert_true(fabs(y[i] + other[i] - a[i] - b[i]) < 1e-13);
            }
        }
        options o = {0};
        set(&o, "alpha", 0.3);
        set(&o, "tilt", 1);
        run("frequency_crossover", 3, shape, NULL, 2, ab, &o, y);
        for (int i = 0; i < n; i++) {
            want[i] = 0.7 * a[i] + 0.3 * b[i];
        }
        close_to(y, want, n, 1e-15, "tilt 1");
        set(&o, "tilt", 0.99999);  // and nearly so before
        o.n = 1;
        set(&o, "tilt", 0.99999);
        run("frequency_crossover", 3, shape, NULL, 2, ab, &o, y);
        close_to(y, want, n, 1e-4, "tilt near 1");
    }
}

static void along_ranks(void **state) {
    enum { N = 21 };
    double a[N], b[N], c[N], d[N], f[N], y[N], want[N];
    const int64_t shape[2] = {3, 7};
    int place[N];
    fill(a, N, 41);
    fill(b, N, 42);
    for (int i = 0; i < N; i++) {  // c's value at i is its rank
        place[i] = i * 8 % N;
        c[i] = place[i];
        d[place[i]] = b[i] - a[i];
    }
    const double *m[3] = {a, b, c};
    for (int k = 0; k < 2; k++) {
        options o = {0};
        set(&o, "alpha", 0.4);
        set(&o, "beta", k == 0 ? 0 : 0.3);
        run("distribution_crossover", 2, shape, NULL, 3, m, &o, y);
        naive_filter(d, 1, N, k == 0 ? line_hard : line_soft, f);
        for (int i = 0; i < N; i++) {
            want[i] = a[i] + f[place[i]];
        }
        close_to(y, want, N, 1e-13, "distribution_crossover");
    }
}

// ---- cosines ----

static void cosines(void **state) {
    const int64_t shape[2] = {2, 3};
    // columns: equal, orthogonal, opposite
    static const double a[6] = {3, 1, 2, 4, 0, 1}, b[6] = {3, 0, -2, 4, 2, -1}, base[6] = {5, -1, 2, 3, 1, 7};
    const double *ab[2] = {a, b};
    double y[6], shifted[2][6];
    options o = {0};
    set(&o, "alpha", 0.25);
    choose(&o, "variant", "columns");
    run("cosine_add_difference", 2, shape, NULL, 2, ab, &o, y);  // k = 0.75, 0, 0
    close_to(y, (double[]){3, 0, -2, 4, 2, -1}, 6, 1e-15, "columns");
    // b: the whole cosine is (25 - 5) / sqrt(31 34); k = (1 + w) / 2 - 1/4, w / 2 - 1/4, (w - 1) / 2 - 1/4 < 0
    double w = 20 / sqrt(31.0 * 34), k0 = (1 + w) / 2 - 0.25, k1 = w / 2 - 0.25;
    o.n = 1;
    choose(&o, "variant", "b");
    run("cosine_add_difference", 2, shape, NULL, 2, ab, &o, y);
    close_to(y, (double[]){3, k1, -2, 4, 2 * (1 - k1), -1}, 6, 1e-15, "b");
    assert_true(k0 > 0 && k1 > 0);
    // a: columns of length one have the whole cosine (1 + 0 - 1) / 3 = 0: k = 1/4, 0, 0
    o.n = 1;
    run("cosine_add_difference", 2, shape, NULL, 2, ab, &o, y);
    close_to(y, b, 6, 1e-15, "a");
    static const double c[6] = {3, 1, 2, 4, 0, 0}, d[6] = {6, 1, 2, 8, 1, 0};  // cosines 1, 0.7071, 1; whole: their mean
    const double *cd[2] = {c, d};
    double mean = (2 + sqrt(0.5)) / 3, first = (1 + mean) / 2 - 0.25, second = (sqrt(0.5) + mean) / 2 - 0.25;
    run("cosine_add_difference", 2, shape, NULL, 2, cd, &o, y);
    close_to(y, (double[]){3 * first + 6 * (1 - first), 1, 2, 4 * first + 8 * (1 - first), 1 - second, 0}, 6, 1e-15, "a, alike");
    // With a base, the same of the differences.
    o.v[0].number = 0;
    run("cosine_add_difference", 2, shape, NULL, 2, cd, &o, y);
    for (int i = 0; i < 6; i++) {
        shifted[0][i] = c[i] + base[i];
        shifted[1][i] = d[i] + base[i];
    }
    const double *moved[2] = {shifted[0], shifted[1]};
    double z[6];
    run("cosine_add_difference", 2, shape, base, 2, moved, &o, z);
    for (int i = 0; i < 6; i++) {
        y[i] += base[i];
    }
    close_to(z, y, 6, 1e-14, "on a base");
}

// The middle between the two neighbours of a percentile in v[0 .. n), ascending.
static double percentile(const double *v, int n, double share) {
    double at = share * (n - 1);
    return (v[(int)floor(at)] + v[(int)ceil(at)]) / 2;
}

// Similarities rescaled by their range over the model, as the web extension does it: what lies below the
// 1st percentile goes, then what lies above the 99th of the rest; the ends of what is left are 0 and 1.
static void rescaled(void **state) {
    enum { COLS = 333 };
    const int64_t shape[2] = {2, COLS};
    static double x[2 * COLS], y[2 * COLS], each[COLS], sim[COLS], seen[COLS], got[2 * COLS], want[2 * COLS];
    fill(x, 2 * COLS, 51);
    fill(y, 2 * COLS, 52);
    const double *m[2] = {x, y};
    for (int variant = 0; variant < 2; variant++) {
        double dot = 0, xx = 0, yy = 0, sum = 0;
        for (int c = 0; c < COLS; c++) {
            double p = x[c] * y[c] + x[COLS + c] * y[COLS + c];
            double q = x[c] * x[c] + x[COLS + c] * x[COLS + c], r = y[c] * y[c] + y[COLS + c] * y[COLS + c];
            each[c] = p / sqrt(q * r);
            sum += each[c];
            dot += p, xx += q, yy += r;
        }
        double whole = variant == 0 ? sum / COLS : dot / sqrt(xx * yy);
        for (int c = 0; c < COLS; c++) {
            sim[c] = (each[c] + whole) / 2;
            seen[c] = variant == 0 ? each[c] : sim[c];
        }
        qsort(seen, COLS, sizeof *seen, by_value);
        int from = 0, n = COLS;
        double edge = percentile(seen, n, 0.01);
        for (; seen[from] < edge; from++) {
        }
        n -= from;
        edge = percentile(seen + from, n, 0.99);
        for (; seen[from + n - 1] > edge; n--) {
        }
        double low = seen[from], high = seen[from + n - 1];
        assert_true(from > 1 && from + n < COLS - 1);
        for (int i = 0; i < 2 * COLS; i++) {
            double k = (sim[i % COLS] - low) / (high - low) - 0.2;
            k = k < 0 ? 0 : k > 1 ? 1 : k;
            want[i] = y[i] * (1 - k) + x[i] * k;
        }
        options o = {0};
        set(&o, "alpha", 0.2);
        choose(&o, "variant", variant == 0 ? "a" : "b");
        choose(&o, "rescale", "model");
        run("cosine_add_difference", 2, shape, NULL, 2, m, &o, got);
        close_to(got, want, 2 * COLS, 1e-13, "rescaled");
    }
}

// ---- random ----

static void random_entries(void **state) {
    enum { N = MOST };
    double base[N], x[2][N], y[N], z[N];
    const int64_t n = N;
    for (int i = 0; i < N; i++) {
        base[i] = 0;
        x[0][i] = 1;
        x[1][i] = 16;
    }
    const double *m[2] = {x[0], x[1]};
    options o = {0};
    set(&o, "density", 0.7);
    set(&o, "rescale", 0);
    set(&o, "seed", 5);
    run("dropout", 1, &n, base, 1, m, &o, y);  // entries of one or the other, 70 % of b
    double kept = 0;
    for (int i = 0; i < N; i++) {
        assert_true(y[i] == 0 || y[i] == 1);
        kept += y[i];
    }
    double deviation = sqrt(N * 0.3 * 0.7);
    assert_true(fabs(kept - 0.7 * N) < 4 * deviation);
    run("dropout", 1, &n, base, 1, m, &o, z);
    close_to(z, y, N, 0, "the same seed");
    o.v[2].number = 6;
    run("dropout", 1, &n, base, 1, m, &o, z);
    int differ = 0;
    for (int i = 0; i < N; i++) {
        differ += y[i] != z[i];
    }
    assert_true(abs(differ - (int)(2 * 0.3 * 0.7 * N)) < 5 * 32);

    // Which models an entry takes: 0 none, 1 the first, 16 the second, 8.5 both, and how often.
    static const struct {
        const char *overlap;
        double none, one, both;
    } rows[] = {{"independent", 0.09, 0.21, 0.49}, {"shared", 0.3, 0, 0.7}, {"disjoint", 0.3, 0.35, 0}};
    for (int r = 0; r < 3; r++) {
        options p = {0};
        set(&p, "density", 0.7);
        set(&p, "rescale", 0);
        choose(&p, "overlap", rows[r].overlap);
        run("dropout", 1, &n, base, 2, m, &p, y);
        int count[4] = {0};
        for (int i = 0; i < N; i++) {
            int kind = y[i] == 0 ? 0 : y[i] == 1 ? 1 : y[i] == 16 ? 2 : 3;
            assert_true(kind < 3 || y[i] == 8.5);
            count[kind]++;
        }
        const double want[4] = {rows[r].none, rows[r].one, rows[r].one, rows[r].both};
        for (int k = 0; k < 4; k++) {
            assert_true(fabs(count[k] - want[k] * N) <= 4 * sqrt(N * want[k] * (1 - want[k])));
        }
    }
    // Rescaled, the mean over seeds is the mean difference (one model, shared, disjoint).
    for (int r = 1; r < 3; r++) {
        double sum = 0;
        for (int seed = 0; seed < 20; seed++) {
            options p = {0};
            set(&p, "density", 0.4);
            set(&p, "seed", seed);
            choose(&p, "overlap", rows[r].overlap);
            run("dropout", 1, &n, base, 2, m, &p, y);
            for (int i = 0; i < N; i++) {
                sum += y[i];
            }
        }
        // deviation of one entry: at most 16 / 0.4 / 2
        assert_true(fabs(sum / (20.0 * N) - 8.5) < 4 * 20 / sqrt(20.0 * N));
    }
    o = (options){0};
    set(&o, "density", 0);
    run("dropout", 1, &n, base, 1, m, &o, y);
    close_to(y, base, N, 0, "all dropped");
    o.v[0].number = 1;
    run("dropout", 1, &n, base, 1, m, &o, y);
    close_to(y, x[0], N, 0, "none dropped");
}

// ---- rotations ----

// Rows of two numbers: the rotation from a to b is by one angle, in closed form.
static void by_an_angle(void **state) {
    enum { N = 40 };
    const int64_t shape[2] = {N, 2};
    double a[2 * N], b[2 * N], y[2 * N], want[2 * N], mean[2][2] = {{0, 0}, {0, 0}}, m[4] = {0};
    static const double power[] = {1, 0.5, -1, 2, 0.25, -0.75};
    fill(a, 2 * N, 61);
    for (int i = 0; i < N; i++) {  // b: a turned by 0.8, moved, disturbed
        uint64_t seed = 100 + (uint64_t)i;
        b[2 * i] = cos(0.8) * a[2 * i] - sin(0.8) * a[2 * i + 1] + 3 + 0.2 * test_uniform(&seed);
        b[2 * i + 1] = sin(0.8) * a[2 * i] + cos(0.8) * a[2 * i + 1] - 1 + 0.2 * test_uniform(&seed);
    }
    for (int i = 0; i < 2 * N; i++) {
        mean[0][i % 2] += a[i] / N;
        mean[1][i % 2] += b[i] / N;
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < 4; k++) {
            m[k] += (a[2 * i + k / 2] - mean[0][k / 2]) * (b[2 * i + k % 2] - mean[1][k % 2]);
        }
    }
    double angle = atan2(m[1] - m[2], m[0] + m[3]);
    assert_true(fabs(angle - 0.8) < 0.2);
    const double *ab[2] = {a, b};
    for (int k = 0; k < 6; k++) {
        double alpha = 0.3 * (k % 3), t = power[k], c = cos(angle), s = sin(angle);
        for (int i = 0; i < N; i++) {
            double p = a[2 * i] - mean[0][0], q = a[2 * i + 1] - mean[0][1];
            double u = b[2 * i] - mean[1][0], v = b[2 * i + 1] - mean[1][1];
            p = (1 - alpha) * p + alpha * (c * u + s * v);
            q = (1 - alpha) * q + alpha * (c * v - s * u);
            want[2 * i] = cos(t * angle) * p - sin(t * angle) * q + (1 - t) * mean[0][0] + t * mean[1][0];
            want[2 * i + 1] = sin(t * angle) * p + cos(t * angle) * q + (1 - t) * mean[0][1] + t * mean[1][1];
        }
        options o = {0};
        set(&o, "alignment", t);
        set(&o, "alpha", alpha);
        run("rotate", 2, shape, NULL, 2, ab, &o, y);
        close_to(y, want, 2 * N, 1e-12, "rotate");
    }
}

// A product of rotations in planes (i, i + 1).
static void turn_rows(double *x, int n, int p, double angle) {
    for (int i = 0; i < n; i++) {
        for (int k = 0; k + 1 < p; k++) {
            double u = x[i * p + k], v = x[i * p + k + 1], c = cos(angle * (k + 1)), s = sin(angle * (k + 1));
            x[i * p + k] = c * u - s * v;
            x[i * p + k + 1] = s * u + c * v;
        }
    }
}

// A planted rotation is found: a goes to b, halfway twice too; tall, square, wide and very wide, kernels.
static void planted(void **state) {
    static const struct {
        int rank;
        int64_t shape[4];
        int n, p;
    } shapes[] = {{2, {30, 6}, 30, 6}, {2, {9, 8}, 9, 8}, {2, {5, 8}, 5, 8}, {2, {3, 20}, 3, 20},
                  {4, {6, 4, 3, 3}, 24, 9}, {4, {12, 5, 1, 1}, 12, 5}, {3, {4, 2, 2}, 4, 4}};
    for (int k = 0; k < 7; k++) {
        int n = shapes[k].n, p = shapes[k].p;
        double a[216] = {0}, b[216], y[216], z[216];
        fill(a, n * p, 71);
        memcpy(b, a, sizeof b);
        turn_rows(b, n, p, 0.11);
        const double *ab[2] = {a, b};
        options o = {0};
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, ab, &o, y);
        close_to(y, b, n * p, 1e-11, "all the way");
        set(&o, "alignment", 0);
        set(&o, "alpha", 0.6);  // b turned back is a
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, ab, &o, y);
        close_to(y, a, n * p, 1e-11, "b turned back");
        o = (options){0};
        set(&o, "alignment", 0.5);
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, ab, &o, y);
        const double *yb[2] = {y, b};
        if (n > p) {  // where a's rows say all of the rotation: from the middle the rest is as far
            double half[2] = {0, 0};
            for (int i = 0; i < n * p; i++) {
                half[0] += (y[i] - a[i]) * (y[i] - a[i]);
                half[1] += (b[i] - y[i]) * (b[i] - y[i]);
            }
            assert_true(fabs(half[0] - half[1]) < 1e-10 * half[0] && half[0] > 1e-3);
        }
        set(&o, "alignment", 1);
        o.v[0].number = 1;
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, yb, &o, z);
        close_to(z, b, n * p, 1e-11, "the rest of the way");
        o = (options){0};
        set(&o, "alignment", 0);
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, ab, &o, y);
        close_to(y, a, n * p, 0, "not at all");
        o.v[0].number = 1;
        set(&o, "alpha", 1);
        run("rotate", shapes[k].rank, shapes[k].shape, NULL, 2, ab, &o, y);
        close_to(y, b, n * p, 0, "b itself");
    }
}

// ---- every method, every shape and dtype ----

static const struct {
    const char *name;
    int models;
    bool base;
} methods[] = {
    {"add_difference", 3, false},         {"train_difference", 3, false},
    {"cosine_add_difference", 2, false},  {"cosine_add_difference", 2, true},
    {"sum_twice", 3, false},              {"triple_sum", 3, false},
    {"tensor_sum", 2, false},             {"rank_crossover", 2, false},
    {"distribution_crossover", 3, false}, {"frequency_crossover", 2, false},
    {"clamp", 3, false},                  {"dropout", 2, true},
    {"rotate", 2, false},
};

// Finite numbers for any tensor; equal models give themselves back (dropout: with nothing dropped).
static void every_shape(void **state) {
    static const struct {
        int rank;
        int64_t shape[4];
    } shapes[] = {{0, {0}}, {1, {1}}, {1, {6}}, {2, {1, 1}}, {2, {3, 4}}, {1, {0}}, {2, {0, 5}}, {4, {2, 3, 3, 3}}};
    static const tarn_dtype types[] = {TARN_F64, TARN_F32, TARN_F16, TARN_BF16};
    double x[4][64], y[64];
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            for (int t = 0; t < 4; t++) {
                for (int same = 0; same < 3; same++) {  // others, equal ones, zeros
                    const slot w = tensor(shapes[s].rank, shapes[s].shape);
                    const cut c = {types[t], 1, &w};
                    const int64_t n = numel_of(&w);
                    const double *in[4] = {x[0], x[1], x[2], x[3]};
                    for (int k = 0; k < 4; k++) {
                        fill(x[k], n, same ? 7 : 7 + (uint64_t)k);
                        for (int64_t j = 0; j < n; j++) {
                            x[k][j] = same == 2 ? 0 : floor(64 * x[k][j]) / 64;
                        }
                    }
                    options o = {0};
                    if (same && !strcmp(methods[i].name, "dropout")) {
                        set(&o, "density", 1);
                    }
                    run_cut(&cx, &c, methods[i].name, methods[i].base ? in[3] : NULL, methods[i].models, in, &o, n, y);
                    for (int64_t j = 0; j < n; j++) {
                        assert_true(isfinite(y[j]));
                    }
                    if (same) {
                        close_to(y, x[0], n, t == 0 ? 1e-14 : t == 1 ? 1e-6 : 1e-2, methods[i].name);
                    }
                }
            }
        }
    }
}

// smooth takes one wild entry of the difference away and leaves a constant one.
static void smooth_difference(void **state) {
    const int64_t shape[2] = {8, 9};
    double a[72], b[72], c[72], y[72], want[72];
    fill(a, 72, 3);
    for (int i = 0; i < 72; i++) {
        c[i] = 0.125 * i;
        b[i] = c[i] + 0.5 + (i == 40 ? 1000 : 0);
        want[i] = a[i] + 0.25;
    }
    const double *m[3] = {a, b, c};
    options o = {0};
    set(&o, "alpha", 0.5);
    set(&o, "smooth", 1);
    run("add_difference", 2, shape, NULL, 3, m, &o, y);
    close_to(y, want, 72, 1e-14, "smooth");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),        cmocka_unit_test(learns_all),  cmocka_unit_test(ends),
        cmocka_unit_test(slices),         cmocka_unit_test(ranks),       cmocka_unit_test(frequencies),
        cmocka_unit_test(along_ranks),    cmocka_unit_test(cosines),     cmocka_unit_test(random_entries),
        cmocka_unit_test(every_shape),    cmocka_unit_test(smooth_difference),
        cmocka_unit_test(rescaled), cmocka_unit_test(by_an_angle),
        cmocka_unit_test(planted),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
