// SPDX-License-Identifier: Apache-2.0
// Linear algebra against identities and closed forms: reconstruction, orthogonality, Eckart-Young,
// eigenvalues of known matrices, agreement of routes, every kind of shape, batches, the same bytes
// for any thread count and instruction set, what is refused, and the promise of workspace.
#include "tests/vm/op/rows.h"
#include "vm/op/linalg.h"

// ---- matrices in f64, row-major ----

static double *zeros(int64_t n) { return calloc((size_t)n + 1, sizeof(double)); }

// x y, or x^T y (tx), or x y^T (ty); the result is m by n.
static double *product(int64_t m, int64_t n, int64_t k, const double *x, bool tx, const double *y,
                       bool ty) {
    double *z = zeros(m * n);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double s = 0;
            for (int64_t l = 0; l < k; l++) {
                s += (tx ? x[l * m + i] : x[i * k + l]) * (ty ? y[j * k + l] : y[l * n + j]);
            }
            z[i * n + j] = s;
        }
    }
    return z;
}

static double apart(int64_t n, const double *x, const double *y) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = x[i] - (y ? y[i] : 0);
        s += d * d;
    }
    return sqrt(s);
}

// |x^T x - 1| for orthonormal columns, x [m, n]
static double not_orthonormal(int64_t m, int64_t n, const double *x) {
    double *g = product(n, n, m, x, true, x, false), s = 0;
    for (int64_t i = 0; i < n * n; i++) {
        double d = g[i] - (i % (n + 1) == 0);
        s += d * d;
    }
    free(g);
    return sqrt(s);
}

static double *random_matrix(int64_t m, int64_t n, uint64_t seed) {
    double *x = zeros(m * n);
    for (int64_t i = 0; i < m * n; i++) {
        x[i] = test_uniform(&seed);
    }
    return x;
}

// Gram-Schmidt, twice.
static double *orthonormal(int64_t m, int64_t n, uint64_t seed) {
    double *q = random_matrix(m, n, seed);
    for (int64_t j = 0; j < n; j++) {
        for (int pass = 0; pass < 2; pass++) {
            for (int64_t l = 0; l < j; l++) {
                double s = 0;
                for (int64_t i = 0; i < m; i++) {
                    s += q[i * n + j] * q[i * n + l];
                }
                for (int64_t i = 0; i < m; i++) {
                    q[i * n + j] -= s * q[i * n + l];
                }
            }
        }
        double s = 0;
        for (int64_t i = 0; i < m; i++) {
            s += q[i * n + j] * q[i * n + j];
        }
        for (int64_t i = 0; i < m; i++) {
            q[i * n + j] /= sqrt(s);
        }
    }
    return q;
}

// u diag(s) v^T
static double *composed(int64_t m, int64_t n, int64_t k, const double *u, const double *s,
                        const double *v) {
    double *us = zeros(m * k);
    for (int64_t i = 0; i < m * k; i++) {
        us[i] = u[i] * s[i % k];
    }
    double *a = product(m, n, k, us, false, v, true);
    free(us);
    return a;
}

// ---- through the graph ----

static tarn_tensor tensor_of(tarn_context *cx, tarn_dtype t, int rank, const int64_t *shape,
                             const double *v) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(cx, t, rank, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, v[i]);
    }
    return x;
}

static double *values_of(const tarn_tensor *t) {
    double *v = zeros(tarn_tensor_numel(t));
    for (int64_t i = 0; i < tarn_tensor_numel(t); i++) {
        v[i] = tarn_tensor_get(t, i);
    }
    return v;
}

typedef struct {
    tarn_context *cx;
    tarn_graph *g;
    const tarn_node *a;
} scene;

static scene scene_of(tarn_dtype t, int64_t m, int64_t n, const double *v) {
    scene s = {.cx = &row_context[0]};
    s.g = tarn_graph_new(s.cx);
    tarn_tensor x = tensor_of(s.cx, t, 2, (const int64_t[]){m, n}, v);
    s.a = tarn_leaf_tensor(s.g, &x);
    tarn_tensor_release(&x);
    return s;
}

static double *computed(scene *s, const tarn_node *n, int rank, int64_t rows, int64_t cols) {
    tarn_error err = {0};
    tarn_tensor t;
    if (!n) {
        fail_msg("no node: %s", s->g->err.message);
    }
    OK(tarn_graph_eval(s->g, 1, &n, NULL, &t, &err));
    assert_int_equal(t.rank, rank);
    assert_true(rank < 1 || t.shape[0] == rows);
    assert_true(rank < 2 || t.shape[1] == cols);
    double *v = values_of(&t);
    tarn_tensor_release(&t);
    return v;
}

static void near(const char *what, double got, double want, double slack) {
    if (!(fabs(got - want) <= slack)) {
        fail_msg("%s is %.9g, not %.9g (within %.3g)", what, got, want, slack);
    }
}

static double unit(tarn_dtype t) { return t == TARN_F64 ? 0x1p-52 : 0x1p-23; }
static const tarn_dtype both[] = {TARN_F32, TARN_F64};

// Rounded to t, as the row will see it.
static void rounded(tarn_dtype t, int64_t n, double *v) {
    for (int64_t i = 0; i < n && t == TARN_F32; i++) {
        v[i] = (double)(float)v[i];
    }
}

// ---- svd ----

static const int64_t sides[][2] = {{1, 1},   {5, 5},   {7, 3},   {3, 7}, {1, 6}, {6, 1},
                                   {40, 12}, {12, 40}, {33, 33}, {0, 4}, {4, 0}, {0, 0}};
enum { SIDES = sizeof sides / sizeof *sides };

static void check_svd(tarn_dtype t, int64_t m, int64_t n, const double *a, tarn_svd_options o,
                      double slack) {
    int64_t k = m < n ? m : n, r = o.rank ? o.rank : k;
    scene c = scene_of(t, m, n, a);
    tarn_svd_nodes d = tarn_svd(c.g, c.a, &o);
    double *u = computed(&c, d.u, 2, m, r), *s = computed(&c, d.s, 1, r, 0);
    double *vt = computed(&c, d.vt, 2, r, n), *rest = computed(&c, d.residual, 0, 0, 0);
    double size = apart(m * n, a, NULL), *v = zeros(n * r);
    for (int64_t i = 0; i < r * n; i++) {
        v[i % n * r + i / n] = vt[i];
    }
    near("|u^T u - 1|", not_orthonormal(m, r, u), 0, slack * (double)(k + 4));
    near("|v^T v - 1|", not_orthonormal(n, r, v), 0, slack * (double)(k + 4));
    double *back = composed(m, n, r, u, s, v);
    double off = apart(m * n, a, back);
    near("the residual", rest[0], off, slack * (size + 1) * 4);
    if (r == k) {
        near("|a - u s vt|", off, 0, slack * 4 * (size + 1));
    }
    for (int64_t j = 0; j < r; j++) {
        assert_true(s[j] >= 0 && (j == 0 || s[j] <= s[j - 1]));
        double best = 0;
        for (int64_t i = 0; i < m; i++) {
            best = fabs(u[i * r + j]) > fabs(best) ? u[i * r + j] : best;
        }
        assert_true(best > 0);
    }
    free(u), free(s), free(vt), free(rest), free(v), free(back);
    tarn_graph_release(c.g);
}

static void svd_shapes(void **state) {
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < SIDES; i++) {
            int64_t m = sides[i][0], n = sides[i][1], k = m < n ? m : n;
            double *a = random_matrix(m, n, (uint64_t)i + 1);
            rounded(both[d], m * n, a);
            double slack = 8 * unit(both[d]);
            check_svd(both[d], m, n, a, (tarn_svd_options){0}, slack);
            // Of a well-conditioned matrix the Gram route is as good; of any f32 matrix too.
            check_svd(both[d], m, n, a, (tarn_svd_options){.route = TARN_SVD_GRAM},
                      both[d] == TARN_F64 ? 1e-12 : slack);
            if (k > 2) {
                check_svd(both[d], m, n, a, (tarn_svd_options){.rank = 2}, slack);
                check_svd(both[d], m, n, a, (tarn_svd_options){.rank = 2, .route = TARN_SVD_GRAM},
                          both[d] == TARN_F64 ? 1e-12 : slack);
            }
            if (k > 0) {
                // A sketch as wide as the matrix leaves nothing to chance; the power step undoes
                // the condition of the noise.
                check_svd(
                    both[d], m, n, a,
                    (tarn_svd_options){.rank = k, .route = TARN_SVD_RANDOM, .power = 1, .seed = 5},
                    slack);
            }
            free(a);
        }
    }
}

// Known singular values: every route finds them, and the residual is that of Eckart and Young.
static void svd_known(void **state) {
    enum { M = 60, N = 35, R = 8 };
    double *u = orthonormal(M, N, 1), *v = orthonormal(N, N, 2), s[N], rest = 0;
    for (int i = 0; i < N; i++) {
        s[i] = pow(0.6, i);
        rest += i >= R ? s[i] * s[i] : 0;
    }
    double *a = composed(M, N, N, u, s, v);
    for (int d = 0; d < 2; d++) {
        for (int route = 0; route < 3; route++) {
            tarn_svd_options o = {
                .rank = R, .route = (tarn_svd_route)route, .oversample = 10, .power = 2, .seed = 3};
            scene c = scene_of(both[d], M, N, a);
            tarn_svd_nodes p = tarn_svd(c.g, c.a, &o);
            double *got = computed(&c, p.s, 1, R, 0), *left = computed(&c, p.residual, 0, 0, 0);
            double *gu = computed(&c, p.u, 2, M, R);
            double slack = both[d] == TARN_F32 ? 2e-6 : route == TARN_SVD_RANDOM ? 1e-8 : 1e-13;
            for (int i = 0; i < R; i++) {
                near("a singular value", got[i], s[i], slack);
                double dot = 0;
                for (int j = 0; j < M; j++) {
                    dot += gu[j * R + i] * u[j * N + i];
                }
                near("a left vector's cosine", fabs(dot), 1, both[d] == TARN_F32 ? 1e-4 : 1e-6);
            }
            near("the residual", left[0], sqrt(rest), both[d] == TARN_F32 ? 2e-6 : 1e-9);
            free(got), free(left), free(gu);
            tarn_graph_release(c.g);
        }
    }
    // Without power steps and oversampling the residual says how far off the answer is.
    tarn_svd_options o = {.rank = R, .route = TARN_SVD_RANDOM, .seed = 3};
    scene c = scene_of(TARN_F64, M, N, a);
    double *left = computed(&c, tarn_svd(c.g, c.a, &o).residual, 0, 0, 0);
    assert_true(left[0] > sqrt(rest) * 1.0001 && left[0] < 1);
    free(left), free(u), free(v), free(a);
    tarn_graph_release(c.g);
}

// The Hilbert matrix of order 5 has singular values known to many digits; f32 operands lose none of
// theirs through the Gram matrix, whose condition number is 2e11.
static void svd_hilbert(void **state) {
    static const double want[5] = {1.567050691098231, 0.208534218611013, 0.011407491623420,
                                   0.000305898040151, 0.000003287928772};
    double a[25];
    for (int i = 0; i < 25; i++) {
        a[i] = 1.0 / (1 + i / 5 + i % 5);
    }
    for (int route = 0; route < 2; route++) {
        tarn_svd_options o = {.route = (tarn_svd_route)route};
        scene c = scene_of(TARN_F64, 5, 5, a), f = scene_of(TARN_F32, 5, 5, a);
        double *s = computed(&c, tarn_svd(c.g, c.a, &o).s, 1, 5, 0);
        double *sf = computed(&f, tarn_svd(f.g, f.a, &o).s, 1, 5, 0);
        for (int i = 0; i < 5; i++) {
            near("a singular value", s[i], want[i], route ? 1e-10 : 2e-15);
            near("a singular value in f32", sf[i], want[i], 2e-7);
        }
        free(s), free(sf);
        tarn_graph_release(c.g);
        tarn_graph_release(f.g);
    }
}

// Zero, of one column, of rank one: nothing divides by a vanished value.
static void svd_deficient(void **state) {
    double a[6 * 4] = {0};
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < 24; i++) {
            a[i] = kind == 0 ? 0 : kind == 1 ? (i % 4 == 2) * (i + 1) : (1 + i / 4) * (i % 4 - 1.5);
        }
        for (int route = 0; route < 3; route++) {
            for (int d = 0; d < 2; d++) {
                tarn_svd_options o = {.rank = 4, .route = (tarn_svd_route)route, .power = 1};
                check_svd(both[d], 6, 4, a, o, route == TARN_SVD_GRAM ? 1e-6 : 16 * unit(both[d]));
            }
        }
    }
}

// ---- the others ----

static void eigh_known(void **state) {
    enum { N = 9 };
    // Second differences: eigenvalues 2 - 2 cos(k pi / (n + 1)). The upper triangle is not read.
    double a[N * N] = {0};
    for (int i = 0; i < N; i++) {
        a[i * N + i] = 2;
        for (int j = 0; j < i; j++) {
            a[i * N + j] = j == i - 1 ? -1 : 0;
            a[j * N + i] = 77;
        }
    }
    for (int d = 0; d < 2; d++) {
        scene c = scene_of(both[d], N, N, a);
        tarn_eigh_nodes e = tarn_eigh(c.g, c.a);
        double *w = computed(&c, e.w, 1, N, 0), *v = computed(&c, e.v, 2, N, N);
        for (int k = 0; k < N; k++) {
            near("an eigenvalue", w[k], 2 - 2 * cos((k + 1) * 3.14159265358979323846 / (N + 1)),
                 20 * unit(both[d]));
            // Eigenvectors are sampled sines; the signs follow the rule.
            double best = 0, lead = 0;
            for (int i = 0; i < N; i++) {
                double sine = sin((i + 1) * (k + 1) * 3.14159265358979323846 / (N + 1)) / sqrt(5);
                near("an eigenvector", fabs(v[i * N + k]), fabs(sine), 60 * unit(both[d]));
                lead = fabs(v[i * N + k]) > fabs(best) ? v[i * N + k] : lead;
                best = lead;
            }
            assert_true(best > 0);
        }
        near("|v^T v - 1|", not_orthonormal(N, N, v), 0, 40 * unit(both[d]));
        free(w), free(v);
        tarn_graph_release(c.g);
    }
}

static void qr_shapes(void **state) {
    for (int d = 0; d < 2; d++) {
        for (int i = 0; i < SIDES; i++) {
            int64_t m = sides[i][0], n = sides[i][1], k = m < n ? m : n;
            double *a = random_matrix(m, n, (uint64_t)i + 50), slack = 30 * unit(both[d]);
            scene c = scene_of(both[d], m, n, a);
            tarn_qr_nodes f = tarn_qr(c.g, c.a);
            double *q = computed(&c, f.q, 2, m, k), *r = computed(&c, f.r, 2, k, n);
            double *back = product(m, n, k, q, false, r, false);
            near("|a - q r|", apart(m * n, a, back), 0, slack * (1 + apart(m * n, a, NULL)));
            near("|q^T q - 1|", not_orthonormal(m, k, q), 0, slack);
            for (int64_t j = 0; j < k; j++) {
                assert_true(r[j * n + j] >= 0);
                for (int64_t l = 0; l < j; l++) {
                    assert_true(r[j * n + l] == 0);
                }
            }
            free(a), free(q), free(r), free(back);
            tarn_graph_release(c.g);
        }
    }
}

static void cholesky_and_solve(void **state) {
    for (int d = 0; d < 2; d++) {
        double want[4] = {2, 0, 3, 1}, a[4] = {4, -9, 6, 10};  // only the lower triangle counts
        scene c = scene_of(both[d], 2, 2, a);
        double *l = computed(&c, tarn_cholesky(c.g, c.a), 2, 2, 2);
        near("l l^T", apart(4, l, want), 0, 4 * unit(both[d]));
        free(l);
        tarn_graph_release(c.g);

        enum { N = 20, R = 3 };
        double *m = random_matrix(N, N, 9), *x = random_matrix(N, R, 10);
        for (int i = 0; i < N; i++) {
            m[i * N + i] += 8;
        }
        double *b = product(N, R, N, m, false, x, false);
        scene s = scene_of(both[d], N, N, m);
        tarn_tensor right = tensor_of(s.cx, both[d], 2, (const int64_t[]){N, R}, b);
        double *got = computed(&s, tarn_solve(s.g, s.a, tarn_leaf_tensor(s.g, &right)), 2, N, R);
        near("|x - solution|", apart(N * R, got, x), 0, 60 * unit(both[d]));
        tarn_tensor_release(&right);
        free(m), free(x), free(b), free(got);
        tarn_graph_release(s.g);
    }
}

static void schur_form(void **state) {
    enum { N = 14 };
    double *a = random_matrix(N, N, 4);
    for (int d = 0; d < 2; d++) {
        scene c = scene_of(both[d], N, N, a);
        tarn_schur_nodes s = tarn_schur(c.g, c.a);
        double *t = computed(&c, s.t, 2, N, N), *z = computed(&c, s.z, 2, N, N);
        double *zt = product(N, N, N, z, false, t, false),
               *back = product(N, N, N, zt, false, z, true);
        near("|z t z^T - a|", apart(N * N, back, a), 0, 200 * unit(both[d]));
        near("|z^T z - 1|", not_orthonormal(N, N, z), 0, 60 * unit(both[d]));
        int blocks = 0;
        for (int i = 0; i < N; i++) {
            for (int j = 0; j + 1 < i; j++) {
                assert_true(t[i * N + j] == 0);
            }
            blocks += i > 0 && t[i * N + i - 1] != 0;
            assert_true(i < 2 || t[i * N + i - 1] == 0 || t[(i - 1) * N + i - 2] == 0);
        }
        assert_true(blocks > 0);  // of a matrix with complex eigenvalues
        free(t), free(z), free(zt), free(back);
        tarn_graph_release(c.g);
    }
    free(a);
}

// ---- polar ----

// a = w h with w known and h positive definite of a given condition: every route finds w.
static void polar_known(void **state) {
    static const int64_t size[][2] = {{24, 24}, {50, 20}, {20, 50}, {1, 1}, {1, 9}, {130, 130}};
    static const double condition[] = {1, 30, 1e3, 1e5, 1e9};
    for (int d = 0; d < 2; d++) {
        for (int k = 0; k < 5; k++) {
            if (both[d] == TARN_F32 && condition[k] > 1e5) {
                continue;
            }
            for (int i = 0; i < 6; i++) {
                int64_t m = size[i][0], n = size[i][1], q = m < n ? m : n;
                double *u = orthonormal(m, q, 1), *v = orthonormal(n, q, 2), *s = zeros(q);
                for (int64_t j = 0; j < q; j++) {
                    s[j] = 3 * pow(condition[k], -(double)j / (double)(q > 1 ? q - 1 : 1));
                }
                double *a = composed(m, n, q, u, s, v), *w = product(m, n, q, u, false, v, true);
                // The factor's own sensitivity is the condition number.
                double slack = 30 * unit(both[d]) * condition[k] * sqrt((double)q);
                double loose = 60 * unit(both[d]) * sqrt((double)q);
                scene c = scene_of(both[d], m, n, a);
                for (int route = 0; route < 2; route++) {
                    double *p =
                        computed(&c, tarn_polar(c.g, c.a, (tarn_polar_route)route), 2, m, n);
                    near("the polar factor", apart(m * n, p, w), 0, slack);
                    double *pt = zeros(m * n);
                    for (int64_t j = 0; j < m * n; j++) {
                        pt[m < n ? j % n * m + j / n : j] = p[j];
                    }
                    near("|w^T w - 1|", not_orthonormal(m < n ? n : m, q, pt), 0, loose);
                    // a = w h whatever the condition: h = w^T a is symmetric to rounding.
                    double *h = m < n ? product(m, m, n, p, false, a, true)
                                      : product(n, n, m, p, true, a, false);
                    double skew = 0;
                    for (int64_t x = 0; x < q * q; x++) {
                        skew += pow(h[x] - h[x % q * q + x / q], 2);
                    }
                    near("|h - h^T|", sqrt(skew), 0, loose);
                    free(p), free(pt), free(h);
                }
                free(u), free(v), free(s), free(a), free(w);
                tarn_graph_release(c.g);
            }
        }
    }
}

// By elimination without pivoting: fine for random matrices. Destroys x.
static double determinant(int64_t n, double *x) {
    double d = 1;
    for (int64_t c = 0; c < n; c++) {
        d *= x[c * n + c];
        for (int64_t i = c + 1; i < n; i++) {
            double f = x[i * n + c] / x[c * n + c];
            for (int64_t j = c; j < n; j++) {
                x[i * n + j] -= f * x[c * n + j];
            }
        }
    }
    return d;
}

static void rotations(void **state) {
    // A reflection: the nearest rotation flips the weakest direction.
    const double a[9] = {3, 0, 0, 0, 2, 0, 0, 0, -1}, want[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    scene c = scene_of(TARN_F64, 3, 3, a);
    double *q = computed(&c, tarn_polar(c.g, c.a, TARN_POLAR_ROTATION), 2, 3, 3);
    near("the nearest rotation", apart(9, q, want), 0, 1e-14);
    free(q);
    tarn_graph_release(c.g);

    // Whatever the signs and the order of pivots, the determinant is +1.
    for (uint64_t seed = 1; seed < 9; seed++) {
        double *m = random_matrix(5, 5, seed);
        scene r = scene_of(TARN_F64, 5, 5, m);
        double *w = computed(&r, tarn_polar(r.g, r.a, TARN_POLAR_ROTATION), 2, 5, 5);
        near("a determinant", determinant(5, w), 1, 1e-13);
        free(m), free(w);
        tarn_graph_release(r.g);
    }

    // Powers: q^(1/3) three times is q, q^2 is q q, q^0 is 1, q^-1 is q^T.
    enum { N = 7 };
    double *r = orthonormal(N, N, 21);
    scene s = scene_of(TARN_F64, N, N, r);
    const tarn_node *rot = tarn_polar(s.g, s.a, TARN_POLAR_ROTATION);
    double *full = computed(&s, rot, 2, N, N);
    double *third = computed(&s, tarn_orthogonal_power(s.g, rot, tarn_num(s.g, 1.0 / 3)), 2, N, N);
    double *two = product(N, N, N, third, false, third, false);
    double *three = product(N, N, N, two, false, third, false);
    near("q^(1/3) cubed", apart(N * N, three, full), 0, 1e-13);
    double *square = computed(&s, tarn_orthogonal_power(s.g, rot, tarn_num(s.g, 2)), 2, N, N);
    double *twice = product(N, N, N, full, false, full, false);
    near("q^2", apart(N * N, square, twice), 0, 1e-13);
    double *one = computed(&s, tarn_orthogonal_power(s.g, rot, tarn_num(s.g, 0)), 2, N, N);
    double *back = computed(&s, tarn_orthogonal_power(s.g, rot, tarn_num(s.g, -1)), 2, N, N);
    double *unity = product(N, N, N, full, false, back, false);
    near("q^0 and q q^-1", apart(N * N, one, unity), 0, 1e-13);
    free(r), free(full), free(third), free(two), free(three), free(square), free(twice), free(one);
    free(back), free(unity);
    tarn_graph_release(s.g);

    // A half turn: the eigenvalues -1 turn in pairs. A quarter turn by hand.
    const double half[16] = {-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0};
    scene h = scene_of(TARN_F32, 4, 4, half);
    double *quarter = computed(&h, tarn_orthogonal_power(h.g, h.a, tarn_num(h.g, 0.5)), 2, 4, 4);
    double *again = product(4, 4, 4, quarter, false, quarter, false);
    near("a half turn", apart(16, again, half), 0, 1e-6);
    near("an eighth turn", quarter[10], sqrt(0.5), 1e-6);
    near("an eighth turn", quarter[14], sqrt(0.5), 1e-6);
    near("an eighth turn", quarter[11], -sqrt(0.5), 1e-6);
    free(quarter), free(again);
    tarn_graph_release(h.g);
}

// ---- batches, threads, views ----

static void batched(void **state) {
    const int64_t shape[4] = {2, 3, 17, 11};
    uint64_t seed = 8;
    tarn_tensor x = any_view(&row_context[0], TARN_BF16, 4, shape, &seed);
    fill_any(&x, &seed, test_uniform);
    const int64_t exact[5] = {0}, gram[5] = {4, TARN_SVD_GRAM};
    const int64_t noise[5] = {4, TARN_SVD_RANDOM, 3, 1, 7}, route = TARN_POLAR_ITERATE;
    const tarn_attr attr[] = {{.ni = 5, .i = exact},
                              {.ni = 5, .i = gram},
                              {.ni = 5, .i = noise},
                              {.ni = 1, .i = &route},
                              {.ni = 0}};
    const tarn_op *op[] = {&tarn_op_svd, &tarn_op_svd, &tarn_op_svd, &tarn_op_polar, &tarn_op_qr};
    for (int k = 0; k < 5; k++) {
        tarn_tensor all = run_row(op[k], 1, &x, &attr[k]);
        int64_t part = tarn_tensor_numel(&all) / 6;
        for (int64_t b = 0; b < 6 && k != 2; b++) {
            tarn_tensor one = x;
            one.rank = 2;
            one.offset += b / 3 * x.stride[0] + b % 3 * x.stride[1];
            for (int d = 0; d < 2; d++) {
                one.shape[d] = x.shape[2 + d];
                one.stride[d] = x.stride[2 + d];
            }
            tarn_error err = {0};
            tarn_tensor alone;
            OK(tarn_op_apply(&row_context[0], op[k], 1, &one, &attr[k], &alone, &err));
            assert_int_equal(tarn_tensor_numel(&alone), part);
            for (int64_t i = 0; i < part; i++) {
                assert_true(tarn_tensor_get(&alone, i) == tarn_tensor_get(&all, b * part + i));
            }
            tarn_tensor_release(&alone);
        }
        tarn_tensor_release(&all);
    }
    tarn_tensor_release(&x);
}

// Large enough that products inside use several threads: the same bytes.
static void across_threads(void **state) {
    const int64_t shape[2] = {300, 260}, square[2] = {270, 270};
    tarn_tensor x = filled(&row_context[0], TARN_F32, 2, shape, 5);
    tarn_tensor y = filled(&row_context[0], TARN_F32, 2, square, 6);
    const int64_t exact[5] = {0}, gram[5] = {20, TARN_SVD_GRAM};
    const int64_t noise[5] = {20, TARN_SVD_RANDOM, 10, 1, 7}, by_steps = TARN_POLAR_ITERATE;
    tarn_tensor out[6] = {run_row(&tarn_op_svd, 1, &x, &(tarn_attr){.ni = 5, .i = exact}),
                          run_row(&tarn_op_svd, 1, &x, &(tarn_attr){.ni = 5, .i = gram}),
                          run_row(&tarn_op_svd, 1, &x, &(tarn_attr){.ni = 5, .i = noise}),
                          run_row(&tarn_op_polar, 1, &x, &(tarn_attr){.ni = 1, .i = &by_steps}),
                          run_row(&tarn_op_schur, 1, &y, NULL),
                          run_row(&tarn_op_solve, 2, (const tarn_tensor[]){y, y}, NULL)};
    for (int k = 0; k < 6; k++) {
        tarn_tensor_release(&out[k]);
    }
    // LAPACK itself in several threads at once.
    const int64_t many[3] = {12, 90, 90};
    tarn_tensor z = filled(&row_context[0], TARN_F64, 3, many, 7);
    const tarn_op *at_once[4] = {&tarn_op_eigh, &tarn_op_schur, &tarn_op_qr, &tarn_op_svd};
    for (int k = 0; k < 4; k++) {
        const tarn_attr a = {.ni = k == 3 ? 5 : 0, .i = exact};
        tarn_tensor each = run_row(at_once[k], 1, &z, &a);
        tarn_tensor_release(&each);
    }
    tarn_tensor_release(&z);
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
}

// ---- what is refused, and memory ----

static void refused(const tarn_op *op, int nin, const tarn_tensor *in, const tarn_attr *a,
                    const char *code, const char *part) {
    tarn_error err = {0};
    tarn_tensor out;
    assert_int_equal(tarn_op_apply(&row_context[0], op, nin, in, a, &out, &err), TARN_ERROR);
    if (strcmp(err.code, code) != 0 || strncmp(err.message, op->name, strlen(op->name)) != 0 ||
        !strstr(err.message, part)) {
        fail_msg("%s: [%s] \"%s\"; expected [%s] with \"%s\"", op->name, err.code, err.message,
                 code, part);
    }
}

static void errors(void **state) {
    tarn_context *cx = &row_context[0];
    double v[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    tarn_tensor x = tensor_of(cx, TARN_F32, 2, (const int64_t[]){3, 4}, v);
    const int64_t all[5] = {0}, five[5] = {5}, strange[5] = {0, 3}, steps = TARN_POLAR_ITERATE;
    const tarn_attr a = {.ni = 5, .i = all}, ranked = {.ni = 5, .i = five};
    const tarn_attr unknown = {.ni = 5, .i = strange}, iterated = {.ni = 1, .i = &steps};
    refused(&tarn_op_svd, 1, &x, &ranked, "Argument", "rank 5 of a 3 by 4 matrix");
    refused(&tarn_op_svd, 1, &x, &unknown, "Argument", "route 3");
    refused(&tarn_op_eigh, 1, &x, NULL, "ShapeMismatch", "square matrix, got 3 by 4");
    tarn_tensor_set(&x, 6, (double)NAN);
    refused(&tarn_op_svd, 1, &x, &a, "NotFinite", "element [2, 3] of operand 1 is NaN");
    tarn_tensor_set(&x, 6, -(double)INFINITY);
    refused(&tarn_op_polar, 1, &x, &iterated, "NotFinite",
            "element [2, 3] of operand 1 is infinite");
    tarn_tensor_release(&x);
    for (int i = 0; i < 12; i++) {
        v[i] = 0;
    }
    x = tensor_of(cx, TARN_F64, 3, (const int64_t[]){2, 2, 2}, v);
    tarn_tensor_set(&x, 0, 1);
    tarn_tensor_set(&x, 3, 1);
    refused(&tarn_op_polar, 1, &x, &iterated, "Singular", "matrix 2 of 2: the matrix is zero");
    refused(&tarn_op_cholesky, 1, &x, NULL, "NotPositive", "matrix 2 of 2");
    const tarn_tensor xx[2] = {x, x};
    refused(&tarn_op_solve, 2, xx, NULL, "Singular", "pivot 1");
    tarn_tensor number;
    tarn_error err = {0};
    OK(tarn_tensor_number(cx, 0.5, &number, &err));
    const tarn_tensor power[2] = {x, number};
    refused(&tarn_op_orthogonal_power, 2, power, NULL, "NotOrthogonal", "not orthogonal");
    tarn_tensor_set(&x, 4, 1);
    tarn_tensor_set(&x, 7, -1);
    refused(&tarn_op_orthogonal_power, 2, power, NULL, "Reflection", "determinant -1");
    tarn_tensor_release(&x);
    static const int64_t huge[][2] = {{30000, 30000}, {50000000, 1}, {16000000, 20000}};
    for (int i = 0; i < 3; i++) {
        const tarn_desc d = {.dtype = TARN_F32, .rank = 2, .shape = {huge[i][0], huge[i][1]}};
        tarn_desc out;
        assert_int_equal(tarn_op_infer(&tarn_op_svd, 1, &d, &a, &out, &err), TARN_ERROR);
        assert_string_equal(err.code, "Overflow");
    }
    tarn_tensor_release(&number);
}

static void stopped(void **state) {
    tarn_context *cx = &row_context[1];
    const int64_t shape[3] = {2, 9, 9}, steps = TARN_POLAR_ITERATE;
    const tarn_attr a = {.ni = 1, .i = &steps};
    tarn_tensor x = filled(cx, TARN_F32, 3, shape, 1), out;
    tarn_error err = {0};
    tarn_cancel_set(&cx->cancel, TARN_STOP_INT);
    assert_int_equal(tarn_op_apply(cx, &tarn_op_polar, 1, &x, &a, &out, &err), TARN_CANCELLED);
    assert_int_equal(tarn_op_apply(cx, &tarn_op_eigh, 1, &x, NULL, &out, &err), TARN_CANCELLED);
    tarn_cancel_clear(&cx->cancel);
    tarn_tensor_release(&x);
}

// The workspace promised is what is taken, and a byte less is out of memory, not worse.
static void workspace(void **state) {
    const int64_t shape[3] = {3, 40, 24}, square[3] = {3, 30, 30};
    const int64_t exact[5] = {0}, cut[5] = {4}, gram[5] = {4, TARN_SVD_GRAM};
    const int64_t noise[5] = {4, TARN_SVD_RANDOM, 3, 1, 7}, steps = TARN_POLAR_ITERATE, by_svd = 0;
    const struct {
        const tarn_op *op;
        tarn_attr a;
        bool square;
    } row[] = {{&tarn_op_svd, {.ni = 5, .i = exact}, false},
               {&tarn_op_svd, {.ni = 5, .i = cut}, false},
               {&tarn_op_svd, {.ni = 5, .i = gram}, false},
               {&tarn_op_svd, {.ni = 5, .i = noise}, false},
               {&tarn_op_polar, {.ni = 1, .i = &steps}, false},
               {&tarn_op_polar, {.ni = 1, .i = &by_svd}, false},
               {&tarn_op_qr, {0}, false},
               {&tarn_op_eigh, {0}, true},
               {&tarn_op_schur, {0}, true},
               {&tarn_op_solve, {0}, true}};
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        for (int threads = 1; threads <= 2; threads++) {
            tarn_context cx;
            open_context(&cx, threads, NULL);
            tarn_tensor x = filled(&cx, TARN_F32, 3, row[k].square ? square : shape, 3), out;
            tarn_tensor in[2] = {x, x};
            int nin = row[k].op->min_in;
            tarn_desc d[2], result;
            tarn_error err = {0};
            tarn_desc_of(&x, &d[0]);
            d[1] = d[0];
            OK(tarn_op_infer(row[k].op, nin, d, &row[k].a, &result, &err));
            size_t promised = row[k].op->workspace(nin, d, &row[k].a, &result, threads);
            size_t room = cx.budget.used + tarn_dtype_bytes(TARN_F32, tarn_desc_numel(&result));
            atomic_store(&cx.budget.peak, cx.budget.used);
            cx.budget.limit = room + promised + 4096;  // 4096: rounding of sizes
            OK(tarn_op_apply(&cx, row[k].op, nin, in, &row[k].a, &out, &err));
            assert_true(cx.budget.peak <= cx.budget.limit);
            tarn_tensor_release(&out);
            cx.budget.limit = room + promised / (size_t)threads - 64;
            assert_int_equal(tarn_op_apply(&cx, row[k].op, nin, in, &row[k].a, &out, &err),
                             TARN_NOMEM);
            tarn_tensor_release(&x);
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(svd_shapes),
        cmocka_unit_test(svd_known),
        cmocka_unit_test(svd_hilbert),
        cmocka_unit_test(svd_deficient),
        cmocka_unit_test(eigh_known),
        cmocka_unit_test(qr_shapes),
        cmocka_unit_test(cholesky_and_solve),
        cmocka_unit_test(schur_form),
        cmocka_unit_test(polar_known),
        cmocka_unit_test(rotations),
        cmocka_unit_test(batched),
        cmocka_unit_test(across_threads),
        cmocka_unit_test(errors),
        cmocka_unit_test(stopped),
        cmocka_unit_test(workspace),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
