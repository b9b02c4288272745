// SPDX-License-Identifier: Apache-2.0
// Factorisations: eigh, qr, cholesky, solve, schur, one matrix of a batch per task. What is
// row-major here is the transpose to LAPACK's Fortran; each function says how it lives with that.
#include <string.h>

#include "vm/op/linalg.h"
#include "vm/op/linalg_grad.h"
#include "vm/op/linalg_task.h"

#define INFER(name)                                                                                \
    static tarn_status name(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,      \
                            tarn_error *err)
#define NEED(name) static size_t name(const tarn_la_size *z)
#define WORK(name) static tarn_status name(tarn_la_task *t, tarn_error *err)

// ---- eigh: w [n], then v^T [n, n] ----

NEED(eigh_need) {
    int64_t n = z->n;
    return tarn_la_bytes(z->size, n * n) + tarn_la_bytes(z->size, 1 + 6 * n + 2 * n * n) +
           tarn_la_bytes(sizeof(int), 3 + 5 * n);
}
// The lower triangle is the upper one to LAPACK; eigenvectors come as its columns: rows here.
WORK(eigh_work) {
    int64_t n = t->z.n;
    void *x = tarn_la_take(t, t->z.size, n * n);
    void *work = tarn_la_take(t, t->z.size, 1 + 6 * n + 2 * n * n);
    int *iwork = tarn_la_take(t, sizeof(int), 3 + 5 * n);
    int size = (int)n, lwork = (int)(1 + 6 * n + 2 * n * n), liwork = (int)(3 + 5 * n), info = 0;
    TARN_TRY(tarn_la_load(t, 0, false, t->z.dtype, x, err));
    if (n == 0) {
        return TARN_OK;
    }
    t->lapack->syevd[t->w]("V", "U", &size, x, &size, t->out, work, &lwork, iwork, &liwork, &info,
                           1, 1);
    if (info != 0) {
        TARN_RAISE(err, "NotConverged",
                   "the eigenvalues of a matrix of size %d did not converge "
                   "(syevd: %d)",
                   size, info);
    }
    for (int64_t j = 0; j < n; j++) {
        double best = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = tarn_la_get(t->z.dtype, x, j * n + i);
            best = __builtin_fabs(v) > __builtin_fabs(best) ? v : best;
        }
        for (int64_t i = 0; i < n; i++) {
            double v = tarn_la_get(t->z.dtype, x, j * n + i);
            tarn_la_set(t->z.dtype, t->out, n + j * n + i, best < 0 ? -v : v);
        }
    }
    return TARN_OK;
}
INFER(infer_eigh) {
    (void)nin, (void)a;
    TARN_TRY(tarn_la_infer(&in[0], true, out, err));
    int64_t n = in[0].shape[in[0].rank - 1];
    out->rank = in[0].rank - 1;
    out->shape[out->rank - 1] = n + n * n;
    return TARN_OK;
}

// ---- qr: q [m, k], then r [k, n] ----

NEED(qr_need) {
    int64_t most = z->n > z->k ? z->n : z->k;
    return tarn_la_bytes(z->size, z->m * z->n) + tarn_la_bytes(z->size, z->k) +
           tarn_la_bytes(z->size, 64 * most + 1);
}
// Row-major a = q r is a^T = r^T q^T to LAPACK: an LQ factorisation, whose factors are r and q
// here.
WORK(qr_work) {
    int64_t rows = t->z.m, cols = t->z.n, k = t->z.k;
    tarn_dtype d = t->z.dtype;
    void *x = tarn_la_take(t, t->z.size, rows * cols), *tau = tarn_la_take(t, t->z.size, k);
    void *work = tarn_la_take(t, t->z.size, 64 * (cols > k ? cols : k) + 1);
    void *q = t->out, *r = tarn_la_at(t, t->out, rows * k);
    TARN_TRY(tarn_la_load(t, 0, false, d, x, err));
    if (k == 0) {
        return TARN_OK;
    }
    int m = (int)cols, n = (int)rows, least = (int)k, info = 0;
    int lwork = 64 * (m > least ? m : least);
    t->lapack->gelqf[t->w](&m, &n, x, &m, tau, work, &lwork, &info);
    for (int64_t i = 0; i < k; i++) {
        bool flip = tarn_la_get(d, x, i * cols + i) < 0;
        for (int64_t j = 0; j < cols; j++) {
            double v = tarn_la_get(d, x, i * cols + j);
            tarn_la_set(d, r, i * cols + j, j < i ? 0 : flip ? -v : v);
        }
        // The diagonal of x still tells q which columns to flip: orglq does not keep it.
        tarn_la_set(d, q, i, flip ? -1 : 1);
    }
    if (info == 0) {
        t->lapack->orglq[t->w](&least, &n, &least, x, &m, tau, work, &lwork, &info);
    }
    if (info != 0) {
        TARN_RAISE(err, "Lapack", "the factorisation failed (%d)", info);
    }
    for (int64_t i = rows - 1; i >= 0; i--) {  // the first row of q holds the signs until the end
        for (int64_t j = 0; j < k; j++) {
            double sign = tarn_la_get(d, q, j);
            tarn_la_set(d, q, i * k + j, sign * tarn_la_get(d, x, i * cols + j));
        }
    }
    return TARN_OK;
}
INFER(infer_qr) {
    (void)nin, (void)a;
    TARN_TRY(tarn_la_infer(&in[0], false, out, err));
    int64_t m = in[0].shape[in[0].rank - 2], n = in[0].shape[in[0].rank - 1], k = m < n ? m : n;
    out->rank = in[0].rank - 1;
    out->shape[out->rank - 1] = m * k + k * n;
    return TARN_OK;
}

// ---- cholesky: l [n, n] ----

NEED(cholesky_need) {
    (void)z;
    return 0;
}
// In place in the result; the lower triangle is the upper one to LAPACK, and l^T its factor.
WORK(cholesky_work) {
    int64_t n = t->z.n;
    int size = (int)n, info = 0;
    TARN_TRY(tarn_la_load(t, 0, false, t->z.dtype, t->out, err));
    if (n == 0) {
        return TARN_OK;
    }
    t->lapack->potrf[t->w]("U", &size, t->out, &size, &info, 1);
    if (info != 0) {
        TARN_RAISE(
            err, "NotPositive",
            "the matrix is not positive definite: its leading minor of order %d is not positive",
            info);
    }
    for (int64_t i = 0; i < n; i++) {
        memset(tarn_la_at(t, t->out, i * n + i + 1), 0, (size_t)(n - 1 - i) * t->z.size);
    }
    return TARN_OK;
}
INFER(infer_cholesky) {
    (void)nin, (void)a;
    return tarn_la_infer(&in[0], true, out, err);
}

// ---- solve(a, b): x [n, r] ----

NEED(solve_need) {
    return tarn_la_bytes(z->size, z->n * z->n) + tarn_la_bytes(z->size, z->n * z->r) +
           tarn_la_bytes(sizeof(int), z->n);
}
WORK(solve_work) {
    int64_t n = t->z.n, r = t->z.r;
    void *x = tarn_la_take(t, t->z.size, n * n), *b = tarn_la_take(t, t->z.size, n * r);
    int *pivot = tarn_la_take(t, sizeof(int), n), size = (int)n, columns = (int)r, info = 0;
    TARN_TRY(tarn_la_load(t, 0, false, t->z.dtype, x, err));
    TARN_TRY(tarn_la_load(t, 1, true, t->z.dtype, b, err));
    if (n == 0 || r == 0) {
        return TARN_OK;
    }
    t->lapack->getrf[t->w](&size, &size, x, &size, pivot, &info);
    if (info != 0) {
        TARN_RAISE(err, "Singular", "the matrix is singular: pivot %d of its factorisation is zero",
                   info);
    }
    t->lapack->getrs[t->w]("T", &size, &columns, x, &size, pivot, b, &size, &info, 1);
    for (int64_t j = 0; j < r; j++) {
        for (int64_t i = 0; i < n; i++) {
            double v = tarn_la_get(t->z.dtype, b, j * n + i);
            if (v - v != 0) {
                TARN_RAISE(err, "Singular",
                           "the matrix is singular to rounding: the solution "
                           "overflows");
            }
            tarn_la_set(t->z.dtype, t->out, i * r + j, v);
        }
    }
    return TARN_OK;
}
INFER(infer_solve) {
    (void)nin, (void)a;
    tarn_desc b;
    TARN_TRY(tarn_la_infer(&in[0], true, out, err));
    TARN_TRY(tarn_la_infer(&in[1], false, &b, err));
    bool fits = in[0].rank == b.rank && in[0].shape[b.rank - 1] == b.shape[b.rank - 2];
    for (int d = 0; fits && d < b.rank - 2; d++) {
        fits = in[0].shape[d] == b.shape[d];
    }
    if (!fits) {
        TARN_RAISE(err, "ShapeMismatch",
                   "expected as many rows on the right as the matrix has, and the same leading "
                   "dimensions");
    }
    b.dtype = out->dtype == TARN_F64 ? TARN_F64 : b.dtype;
    *out = b;
    return TARN_OK;
}

// x = a^-1 b: the gradient of b is a^-T g, that of a is -(a^-T g) x^T.
TARN_VJP(vjp_solve) {
    const tarn_node *gb = tarn_solve(g, tarn_transpose(g, y->in[0]), gy);
    return which == 1 || !gb ? gb : tarn_neg(g, tarn_matmul(g, gb, tarn_transpose(g, y)));
}
TARN_JVP(jvp_solve) {
    const tarn_node *da = dx[0] ? tarn_neg(g, tarn_matmul(g, dx[0], y)) : NULL;
    const tarn_node *b = tarn_add_opt(g, dx[1], da);
    return b ? tarn_solve(g, y->in[0], b) : NULL;
}

// ---- schur: t^T [n, n], then z^T [n, n] ----

NEED(schur_need) {
    int64_t n = z->n;
    return tarn_la_bytes(z->size, 2 * n) + tarn_la_bytes(z->size, 67 * n + 8192) +
           tarn_la_bytes(sizeof(int), n) + tarn_la_bytes(8, n);
}
WORK(schur_work) {
    int64_t n = t->z.n;
    tarn_dtype d = t->z.dtype;
    void *wr = tarn_la_take(t, t->z.size, 2 * n), *work = tarn_la_take(t, t->z.size, 67 * n + 8192);
    int *unused = tarn_la_take(t, sizeof(int), n);
    double *best = tarn_la_take(t, 8, n);
    void *x = t->out, *z = tarn_la_at(t, t->out, n * n);
    TARN_TRY(tarn_la_load(t, 0, true, d, x, err));
    if (n == 0) {
        return TARN_OK;
    }
    int size = (int)n, lwork = (int)(67 * n + 8192), info = 0, sdim = 0;
    t->lapack->gees[t->w]("V", "N", NULL, &size, x, &size, &sdim, wr, tarn_la_at(t, wr, n), z,
                          &size, work, &lwork, unused, &info, 1, 1);
    if (info != 0) {
        TARN_RAISE(err, "NotConverged",
                   "the Schur form of a matrix of size %d did not converge "
                   "(gees: %d)",
                   size, info);
    }
    for (int64_t j = 0; j < n; j++) {  // columns of z are rows here
        best[j] = 0;
        for (int64_t i = 0; i < n; i++) {
            double v = tarn_la_get(d, z, j * n + i);
            best[j] = __builtin_fabs(v) > __builtin_fabs(best[j]) ? v : best[j];
        }
    }
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < n; i++) {
            double v = tarn_la_get(d, z, j * n + i), u = tarn_la_get(d, x, j * n + i);
            tarn_la_set(d, z, j * n + i, best[j] < 0 ? -v : v);
            tarn_la_set(d, x, j * n + i, u == 0 || (best[j] < 0) == (best[i] < 0) ? u : -u);
        }
    }
    return TARN_OK;
}
INFER(infer_schur) {
    (void)nin, (void)a;
    TARN_TRY(tarn_la_infer(&in[0], true, out, err));
    int64_t n = in[0].shape[in[0].rank - 1];
    out->rank = in[0].rank - 1;
    out->shape[out->rank - 1] = 2 * n * n;
    return TARN_OK;
}

static const tarn_la_row eigh_row = {"eigh", eigh_need, eigh_work};
static const tarn_la_row qr_row = {"qr", qr_need, qr_work};
static const tarn_la_row cholesky_row = {"cholesky", cholesky_need, cholesky_work};
static const tarn_la_row solve_row = {"solve", solve_need, solve_work};
static const tarn_la_row schur_row = {"schur", schur_need, schur_work};

TARN_LA_ROW(eigh, eigh_row, 1, infer_eigh, .vjp = tarn_la_vjp_eigh, .jvp = tarn_la_jvp_eigh,
            .summary = "eigenvalues (ascending) and eigenvectors of a symmetric matrix, packed")
TARN_LA_ROW(qr, qr_row, 1, infer_qr, .vjp = tarn_la_vjp_qr, .jvp = tarn_la_jvp_qr,
            .summary = "thin QR factorisation, packed: q and r")
TARN_LA_ROW(cholesky, cholesky_row, 1, infer_cholesky, .vjp = tarn_la_vjp_cholesky,
            .jvp = tarn_la_jvp_cholesky,
            .summary = "lower triangular l with a = l l^T, of a positive definite a")
TARN_LA_ROW(solve, solve_row, 2, infer_solve, .vjp = vjp_solve, .jvp = jvp_solve,
            .summary = "x with a x = b, for a square a")
TARN_LA_ROW(schur, schur_row, 1, infer_schur,
            .refuses = "its form jumps where eigenvalues meet or turn complex; of a symmetric matrix "
                       "take eigh, which is differentiable",
            .summary = "real Schur form a = z t z^T, packed: t^T and z^T")
