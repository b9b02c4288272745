// SPDX-License-Identifier: Apache-2.0
// polar(a [.., m, n]), attr.i = {route}: the orthogonal factor, and orthogonal_power(q, t).
//
// ITERATE needs matrix products only, so a large matrix uses all processors. Each step maps all
// singular values by an odd polynomial of degree five, x <- x (a + b g + c g²) with g = x^T x,
// whose coefficients bring the interval [l, 1] closest to one value (equioscillation: Remez); near
// the end it is the Newton-Schulz step (15 x - 10 x³ + 3 x⁵) / 8, which cubes the error. l starts
// at an estimate of the smallest singular value from a Cholesky factorisation of g (at rounding
// where that fails). Two departures from the optimal sequence of polynomials (Chen and Chow 2014;
// Amsel et al. 2025, arXiv 2505.16932) keep it backward stable: l enters at no less than 0.05, so
// that no value in [0.05, 1] falls below a fifth of the largest, and the result is scaled into [0,
// 1] every step. Steps: a value below 0.05 grows 4-fold in each, then 3 bring it near 1 and 2 or 3
// finish. Over spectra of all kinds that is at most 10 for a condition number up to 1000, 15 for
// what f32 can tell from a singular matrix, 34 for f64; MOST is a cap. What is singular to rounding
// gets some orthonormal completion, as through the SVD, or is refused at the cap.
#include <string.h>

#include "vm/op/kernel/math.h"
#include "vm/op/linalg.h"
#include "vm/op/linalg_grad.h"
#include "vm/op/linalg_task.h"

enum { MOST = 60 };

// ---- through the SVD ----

static size_t by_svd_need(const tarn_la_size *z) {
    int64_t k = z->k;
    return tarn_la_bytes(z->size, z->m * z->n) + tarn_la_bytes(z->size, z->m * k) +
           tarn_la_bytes(z->size, k) + tarn_la_bytes(z->size, k * z->n) +
           tarn_la_bytes(z->size, tarn_la_gesdd_work(z->m, z->n)) +
           tarn_la_bytes(sizeof(int), 8 * k);
}

// The sign of the determinant of an orthogonal q [n, n], which is destroyed.
static double determinant_sign(tarn_la_task *t, int64_t n, void *q, int *pivot) {
    int size = (int)n, info = 0;
    double sign = 1;
    t->lapack->getrf[t->w](&size, &size, q, &size, pivot, &info);
    for (int64_t i = 0; i < n; i++) {
        sign = (tarn_la_get(t->z.dtype, q, i * n + i) < 0) != (pivot[i] != i + 1) ? -sign : sign;
    }
    return sign;
}

static tarn_status by_svd(tarn_la_task *t, bool rotation, tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n, k = t->z.k;
    tarn_dtype d = t->z.dtype;
    void *x = tarn_la_take(t, t->z.size, m * n), *u = tarn_la_take(t, t->z.size, m * k);
    void *s = tarn_la_take(t, t->z.size, k), *vt = tarn_la_take(t, t->z.size, k * n);
    void *work = tarn_la_take(t, t->z.size, tarn_la_gesdd_work(m, n));
    int *iwork = tarn_la_take(t, sizeof(int), 8 * k);
    TARN_TRY(tarn_la_load(t, 0, false, d, x, err));
    TARN_TRY(tarn_la_gesdd(t, d, m, n, x, u, s, vt, work, iwork, err));
    TARN_TRY(tarn_blas_gemm(t->cx, d, false, false, m, n, k, u, k, vt, n, t->out, n, err));
    if (!rotation || k == 0) {
        return TARN_OK;
    }
    memcpy(x, t->out, (size_t)(n * n) * t->z.size);
    if (determinant_sign(t, n, x, iwork) < 0) {
        for (int64_t i = 0; i < n; i++) {
            tarn_la_set(d, u, i * n + n - 1, -tarn_la_get(d, u, i * n + n - 1));
        }
        return tarn_blas_gemm(t->cx, d, false, false, m, n, k, u, k, vt, n, t->out, n, err);
    }
    return TARN_OK;
}

// ---- by iteration ----

typedef struct {
    double a, b, c;  // on singular values of [0, 1]
    double reach;    // the smallest that [l, 1] is mapped to; the largest is 1
} quintic;

// Gaussian elimination with pivoting, 4 unknowns.
static void eliminate(double m[4][5], double *x) {
    for (int c = 0; c < 4; c++) {
        int p = c;
        for (int i = c; i < 4; i++) {
            p = __builtin_fabs(m[i][c]) > __builtin_fabs(m[p][c]) ? i : p;
        }
        for (int j = 0; j < 5; j++) {
            double swap = m[c][j];
            m[c][j] = m[p][j];
            m[p][j] = swap;
        }
        for (int i = c + 1; i < 4; i++) {
            double f = m[i][c] / m[c][c];
            for (int j = c; j < 5; j++) {
                m[i][j] -= f * m[c][j];
            }
        }
    }
    for (int i = 3; i >= 0; i--) {
        x[i] = m[i][4];
        for (int j = i + 1; j < 4; j++) {
            x[i] -= m[i][j] * x[j];
        }
        x[i] /= m[i][i];
    }
}

// The odd polynomial of degree five nearest to 1 on [l, 1], 0.05 <= l <= 0.9: its error takes the
// values -e, e, -e, e at l, two extremes between and 1 (signs as 1 - p). Divided by 1 + e.
static quintic nearest_to_one(double l) {
    double at[4] = {l, (3 * l + 1) / 4, (l + 3) / 4, 1}, x[4] = {0};
    for (int round = 0; round < 8; round++) {
        double m[4][5];
        for (int i = 0; i < 4; i++) {
            double s = at[i];
            double line[5] = {s, s * s * s, s * s * s * s * s, i % 2 ? -1.0 : 1.0, 1};
            memcpy(m[i], line, sizeof line);
        }
        eliminate(m, x);
        double root = __builtin_sqrt(9 * x[1] * x[1] - 20 * x[0] * x[2]);
        at[1] = __builtin_sqrt((-3 * x[1] - root) / (10 * x[2]));
        at[2] = __builtin_sqrt((-3 * x[1] + root) / (10 * x[2]));
    }
    double top = 1 + x[3];
    return (quintic){x[0] / top, x[1] / top, x[2] / top, (1 - x[3]) / top};
}

typedef struct {
    int64_t p, q;  // tall: p >= q
    void *x, *next, *g, *f, *h;
    double l;
} iteration;

static size_t iterate_need(const tarn_la_size *z) {
    int64_t q = z->k;
    return 2 * tarn_la_bytes(z->size, z->m * z->n) + 3 * tarn_la_bytes(z->size, q * q) +
           tarn_la_bytes(z->size, 3 * q) + tarn_la_bytes(sizeof(int), q);
}

static void scale(tarn_dtype d, void *x, int64_t n, double by) {
    for (int64_t i = 0; i < n; i++) {
        tarn_la_set(d, x, i, tarn_la_get(d, x, i) * by);
    }
}

static tarn_status gram(tarn_la_task *t, iteration *it, tarn_error *err) {
    return tarn_blas_gram(t->cx, t->z.dtype, false, it->q, it->p, it->x, it->q, it->g, it->q, err);
}

// Scales x to singular values of at most 1, its largest not far below, and estimates the smallest.
static tarn_status begin(tarn_la_task *t, iteration *it, tarn_error *err) {
    tarn_dtype d = t->z.dtype;
    int64_t q = it->q, n = it->p * q;
    void *work = tarn_la_take(t, t->z.size, 3 * q);
    int *iwork = tarn_la_take(t, sizeof(int), q), size = (int)q, info = 0;
    double most = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = __builtin_fabs(tarn_la_get(d, it->x, i));
        most = v > most ? v : most;
    }
    if (most == 0) {
        TARN_RAISE(err, "Singular",
                   "the matrix is zero: its polar factor is not unique (route \"svd\" picks one)");
    }
    scale(d, it->x, n, 1 / most);
    TARN_TRY(gram(t, it, err));
    for (int64_t i = 0; i < q; i++) {
        double sum = 0;
        for (int64_t j = 0; j < q; j++) {
            sum += __builtin_fabs(tarn_la_get(d, it->g, i * q + j));
        }
        norm = sum > norm ? sum : norm;
    }
    norm *= 1 + 1e-5;
    scale(d, it->x, n, 1 / __builtin_sqrt(norm));
    scale(d, it->g, q * q, 1 / norm);
    memcpy(it->f, it->g, (size_t)(q * q) * t->z.size);
    it->l = d == TARN_F64 ? 0x1p-53 : 0x1p-24;
    t->lapack->potrf[t->w]("U", &size, it->f, &size, &info, 1);
    if (info == 0) {
        double one[1] = {0}, inverse[1] = {0};  // of either precision
        tarn_la_set(d, one, 0, 1);
        t->lapack->pocon[t->w]("U", &size, it->f, &size, one, inverse, work, iwork, &info, 1);
        double least = __builtin_sqrt(tarn_la_get(d, inverse, 0));
        it->l = info == 0 && least > it->l ? least : it->l;
    }
    return TARN_OK;
}

// x <- x (a + b g + c g²)
static tarn_status advance(tarn_la_task *t, iteration *it, quintic c, tarn_error *err) {
    tarn_dtype d = t->z.dtype;
    int64_t p = it->p, q = it->q;
    TARN_TRY(tarn_blas_gram(t->cx, d, false, q, q, it->g, q, it->h, q, err));
    for (int64_t i = 0; i < q; i++) {
        for (int64_t j = 0; j < q; j++) {
            int64_t k = i * q + j;
            double v = c.b * tarn_la_get(d, it->g, k) + c.c * tarn_la_get(d, it->h, k);
            tarn_la_set(d, it->f, k, i == j ? v + c.a : v);
        }
    }
    TARN_TRY(tarn_blas_gemm(t->cx, d, false, false, p, q, q, it->x, q, it->f, q, it->next, q, err));
    void *spare = it->x;
    it->x = it->next;
    it->next = spare;
    return tarn_cancel_check(&t->cx->cancel, err);
}

// |g - 1| (Frobenius)
static double distance(tarn_la_task *t, const iteration *it) {
    double sum = 0;
    for (int64_t i = 0; i < it->q; i++) {
        double row = 0;
        for (int64_t j = 0; j < it->q; j++) {
            double v = tarn_la_get(t->z.dtype, it->g, i * it->q + j) - (i == j);
            row += v * v;
        }
        sum += row;
    }
    return __builtin_sqrt(sum);
}

// Of the Newton-Schulz steps, which take an error e of the singular values to 2.5 e³ at most.
static int steps_left(tarn_dtype d, double e) {
    int n = 1;
    for (e = 2.5 * e * e * e; e > (d == TARN_F64 ? 0x1p-54 : 0x1p-25); n++) {
        e = 2.5 * e * e * e;
    }
    return n;
}

static tarn_status iterate(tarn_la_task *t, tarn_error *err) {
    static const quintic schulz = {15.0 / 8, -10.0 / 8, 3.0 / 8, 1};
    tarn_dtype d = t->z.dtype;
    bool wide = t->z.m < t->z.n;
    iteration it = {.p = wide ? t->z.n : t->z.m, .q = t->z.k};
    int64_t n = it.p * it.q;
    it.x = tarn_la_take(t, t->z.size, n);
    it.next = tarn_la_take(t, t->z.size, n);
    it.g = tarn_la_take(t, t->z.size, it.q * it.q);
    it.f = tarn_la_take(t, t->z.size, it.q * it.q);
    it.h = tarn_la_take(t, t->z.size, it.q * it.q);
    TARN_TRY(tarn_la_load(t, 0, wide, d, it.x, err));
    if (n == 0) {
        return TARN_OK;
    }
    TARN_TRY(begin(t, &it, err));
    int left = -1;  // steps still to do, once that is known
    for (int step = 0; left != 0; step++) {
        if (step > 0) {
            TARN_TRY(gram(t, &it, err));
        }
        double off = distance(t, &it);
        if (step == MOST || off - off != 0) {
            TARN_RAISE(err, "NotConverged",
                       "no orthogonal factor after %d steps: the matrix is singular or nearly so "
                       "(route \"svd\" picks a factor)",
                       step);
        }
        left = left < 0 && off < 0.4 ? steps_left(d, 0.6 * off) : left;
        if (left < 0 && it.l > 0.9 && off > 0.9) {
            it.l = 0.05;  // a value smaller than estimated is still on its way
        }
        double l = it.l < 0.05 ? 0.05 : it.l;
        quintic c = left > 0 || l > 0.9 ? schulz : nearest_to_one(l);
        TARN_TRY(advance(t, &it, c, err));
        it.l = it.l < l ? it.l * c.reach / l : c.reach;
        left -= left > 0;
    }
    for (int64_t i = 0; i < it.p; i++) {
        for (int64_t j = 0; j < it.q; j++) {
            tarn_la_set(d, t->out, wide ? j * it.p + i : i * it.q + j,
                        tarn_la_get(d, it.x, i * it.q + j));
        }
    }
    return TARN_OK;
}

static size_t polar_need(const tarn_la_size *z) {
    return z->a->i[0] == TARN_POLAR_ITERATE ? iterate_need(z) : by_svd_need(z);
}
static tarn_status polar_work(tarn_la_task *t, tarn_error *err) {
    return t->z.a->i[0] == TARN_POLAR_ITERATE ? iterate(t, err)
                                              : by_svd(t, t->z.a->i[0] == TARN_POLAR_ROTATION, err);
}
static tarn_status infer_polar(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                               tarn_error *err) {
    (void)nin;
    if (a->ni != 1 || a->i[0] < TARN_POLAR_SVD || a->i[0] > TARN_POLAR_ROTATION) {
        TARN_RAISE(err, "Argument", "expected a route of 0 to 2");
    }
    return tarn_la_infer(&in[0], a->i[0] == TARN_POLAR_ROTATION, out, err);
}

// ---- orthogonal_power(q, t) ----

static size_t power_need(const tarn_la_size *z) {
    int64_t n = z->n;
    return 3 * tarn_la_bytes(z->size, n * n) + tarn_la_bytes(z->size, 2 * n) +
           tarn_la_bytes(z->size, 67 * n + 8192) + tarn_la_bytes(sizeof(int), n) +
           tarn_la_bytes(8, 2 * n) + tarn_la_bytes(sizeof(int), n);
}

// The Schur form of an orthogonal matrix is diagonal but for 2 x 2 rotations. f: cosine and sine of
// t times each angle; mate[i]: the other axis of i's plane, or -1.
static tarn_status planes(tarn_la_task *t, int64_t n, const void *s, double power, double *f,
                          int *mate, tarn_error *err) {
    tarn_dtype d = t->z.dtype;
    double slack = d == TARN_F64 ? 1e-7 : 1e-3;
    int64_t single = -1;
    for (int64_t i = 0; i < n; i++) {
        mate[i] = -1;
    }
    for (int64_t i = 0; i < n; i++) {
        // Column-major: element (row, column) at column * n + row.
        double c = tarn_la_get(d, s, i * n + i);
        double below = i + 1 < n ? tarn_la_get(d, s, i * n + i + 1) : 0;
        double above = i + 1 < n ? tarn_la_get(d, s, (i + 1) * n + i) : 0;
        double far = 0;
        for (int64_t j = i + (below != 0 ? 2 : 1); j < n; j++) {
            double v = __builtin_fabs(tarn_la_get(d, s, j * n + i));
            far = v > far ? v : far;
        }
        double sine = below != 0 ? 0.5 * (below - above) : 0;
        if (far > slack || __builtin_fabs(c * c + sine * sine - 1) > slack ||
            (below != 0 && __builtin_fabs(below + above) > slack)) {
            TARN_RAISE(err, "NotOrthogonal",
                       "the matrix is not orthogonal, so its power is not a "
                       "rotation");
        }
        if (below != 0) {
            double angle = power * tk_atan2(sine, c);
            mate[i] = (int)i + 1;
            mate[i + 1] = (int)i;
            f[2 * i] = f[2 * i + 2] = tk_cos(angle);
            f[2 * i + 1] = -(f[2 * i + 3] = -tk_sin(angle));
            i++;
        } else if (c > 0) {
            f[2 * i] = 1;
            f[2 * i + 1] = 0;
        } else if (single < 0) {
            single = i;
        } else {  // two eigenvalues -1 make a half turn
            double angle = power * 3.14159265358979323846;
            mate[i] = (int)single;
            mate[single] = (int)i;
            f[2 * i] = f[2 * single] = tk_cos(angle);
            f[2 * single + 1] = tk_sin(angle);
            f[2 * i + 1] = -f[2 * single + 1];
            single = -1;
        }
    }
    if (single >= 0) {
        double half = power / 2;
        if (power != __builtin_rint(power)) {
            TARN_RAISE(err, "Reflection",
                       "the matrix has determinant -1: a reflection has no real power %g "
                       "(tensor:polar with route \"rotation\" gives the nearest rotation)",
                       power);
        }
        f[2 * single] = half == __builtin_rint(half) ? 1 : -1;
        f[2 * single + 1] = 0;
    }
    return TARN_OK;
}

static tarn_status power_work(tarn_la_task *t, tarn_error *err) {
    int64_t n = t->z.n;
    tarn_dtype d = t->z.dtype;
    size_t size = t->z.size;
    void *s = tarn_la_take(t, size, n * n), *z = tarn_la_take(t, size, n * n);
    void *fz = tarn_la_take(t, size, n * n), *w = tarn_la_take(t, size, 2 * n);
    void *work = tarn_la_take(t, size, 67 * n + 8192);
    int *unused = tarn_la_take(t, sizeof(int), n);
    double *f = tarn_la_take(t, 8, 2 * n);
    int *mate = tarn_la_take(t, sizeof(int), n);
    double power = tarn_tensor_get(&t->in[1], 0);
    TARN_TRY(tarn_la_load(t, 0, true, d, s, err));
    if (power - power != 0) {
        TARN_RAISE(err, "NotFinite", "the power is not finite");
    }
    if (n == 0) {
        return TARN_OK;
    }
    int m = (int)n, lwork = (int)(67 * n + 8192), info = 0, sdim = 0;
    t->lapack->gees[t->w]("V", "N", NULL, &m, s, &m, &sdim, w, tarn_la_at(t, w, n), z, &m, work,
                          &lwork, unused, &info, 1, 1);
    if (info != 0) {
        TARN_RAISE(err, "NotConverged", "the Schur form did not converge (gees: %d)", info);
    }
    TARN_TRY(planes(t, n, s, power, f, mate, err));
    // Rows of z here are its columns. In the plane (i, j) the turn sends axis i to cos i + sin j:
    // row i of f z^T is cos z_i - sin z_j, row j is sin z_i + cos z_j, with f[2 j + 1] = -sin.
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < n; k++) {
            double v = f[2 * i] * tarn_la_get(d, z, i * n + k);
            if (mate[i] >= 0) {
                v -= f[2 * i + 1] * tarn_la_get(d, z, (int64_t)mate[i] * n + k);
            }
            tarn_la_set(d, fz, i * n + k, v);
        }
    }
    return tarn_blas_gemm(t->cx, d, true, false, n, n, n, z, n, fz, n, t->out, n, err);
}

static tarn_status infer_power(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                               tarn_error *err) {
    (void)nin, (void)a;
    if (in[1].rank != 0) {
        TARN_RAISE(err, "Rank", "the power is a number, got rank %d", in[1].rank);
    }
    return tarn_la_infer(&in[0], true, out, err);
}

static const tarn_la_row polar_row = {"polar", polar_need, polar_work};
static const tarn_la_row power_row = {"orthogonal_power", power_need, power_work};

TARN_LA_ROW(polar, polar_row, 1, infer_polar, .vjp = tarn_la_vjp_polar, .jvp = tarn_la_jvp_polar,
            .summary = "the orthogonal factor of a matrix: the nearest with orthonormal columns "
                       "(rows)")
TARN_LA_ROW(orthogonal_power, power_row, 2, infer_power,
            .refuses = "angles and axes of its planes jump where eigenvalues meet; differentiate a curve "
                       "that passes through the same points, such as (q0 + s (q1 - q0)):polar()",
            .summary =
                "an orthogonal matrix to a real power: each plane turns by that share of its "
                "angle")
