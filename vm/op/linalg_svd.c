// SPDX-License-Identifier: Apache-2.0
// svd(a [.., m, n]), attr.i = {rank, route, oversample, power, seed} (linalg.h). The result is
// packed: u [m, r], s [r], vt [r, n] and the residual, one after another, so that each part is
// plain memory.
//
// EXACT is gesdd, which begins with a QR factorisation where one side is 1.8 times the other. GRAM
// takes eigenvectors of the smaller of a^T a and a a^T. Squaring would cost half the digits, so the
// Gram matrix is formed and decomposed in f64: of f32 operands nothing is lost that they had (σ is
// off by about 1e-8 σ1 at worst), of f64 ones half of the digits of small values. The other side is
// the orthonormal factor of a times these vectors, so it stays orthonormal whatever the values are.
// RANDOM is the subspace iteration of Halko, Martinsson and Tropp (SIAM Review 53, 2011, algorithms
// 4.4 and 5.1): q spans a x noise after `power` steps, then the small q^T a is decomposed. Noise is
// a function of seed, matrix of the batch and position.
// The residual of the last two is the norm of a - u s vt itself, computed in bands of rows: no
// probabilistic bound is as good as the number, and the product costs as much as one power step.
#include <string.h>

#include "vm/op/kernel/random.h"
#include "vm/op/linalg.h"
#include "vm/op/linalg_grad.h"
#include "vm/op/linalg_task.h"

enum { BAND = 256 };  // rows of the residual at a time

static int64_t rank_of(const tarn_la_size *z) { return z->a->i[0] > 0 ? z->a->i[0] : z->k; }
static int64_t sketch_of(const tarn_la_size *z) {
    int64_t l = rank_of(z) + z->a->i[2];
    return l < z->k ? l : z->k;
}

typedef struct {
    void *u, *s, *vt, *residual;
    int64_t r;
} parts;

static parts parts_of(tarn_la_task *t) {
    int64_t r = rank_of(&t->z), m = t->z.m, n = t->z.n;
    return (parts){t->out, tarn_la_at(t, t->out, m * r), tarn_la_at(t, t->out, m * r + r),
                   tarn_la_at(t, t->out, m * r + r + r * n), r};
}

// ---- |x - u diag(s) vt|, x [m, n] in dtype ----

static size_t residual_need(const tarn_la_size *z, size_t size) {
    int64_t r = rank_of(z);
    return tarn_la_bytes(size, BAND * r) + tarn_la_bytes(size, r * z->n) +
           tarn_la_bytes(size, BAND * z->n);
}

static tarn_status set_residual(tarn_la_task *t, tarn_dtype dtype, const void *x, parts *p,
                                tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n, r = p->r, size = dtype == TARN_F64 ? 8 : 4;
    tarn_dtype own = t->z.dtype;
    void *us = tarn_la_take(t, (size_t)size, BAND * r), *vt = tarn_la_take(t, (size_t)size, r * n);
    void *product = tarn_la_take(t, (size_t)size, BAND * n);
    for (int64_t i = 0; i < r * n; i++) {
        tarn_la_set(dtype, vt, i, tarn_la_get(own, p->vt, i));
    }
    double sum = 0;
    for (int64_t at = 0; at < m; at += BAND) {
        int64_t rows = m - at < BAND ? m - at : BAND;
        for (int64_t i = 0; i < rows * r; i++) {
            double s = tarn_la_get(own, p->s, i % r);
            tarn_la_set(dtype, us, i, tarn_la_get(own, p->u, at * r + i) * s);
        }
        TARN_TRY(
            tarn_blas_gemm(t->cx, dtype, false, false, rows, n, r, us, r, vt, n, product, n, err));
        double band = 0;
        for (int64_t i = 0; i < rows * n; i++) {
            double d = tarn_la_get(dtype, x, at * n + i) - tarn_la_get(dtype, product, i);
            band += d * d;
        }
        sum += band;
    }
    tarn_la_set(own, p->residual, 0, __builtin_sqrt(sum));
    return TARN_OK;
}

// ---- exact ----

static size_t exact_need(const tarn_la_size *z) {
    int64_t k = z->k;
    size_t bytes = tarn_la_bytes(z->size, z->m * z->n) +
                   tarn_la_bytes(z->size, tarn_la_gesdd_work(z->m, z->n)) +
                   tarn_la_bytes(sizeof(int), 8 * k) + tarn_la_bytes(sizeof(double), k);
    if (rank_of(z) < k) {
        bytes += tarn_la_bytes(z->size, z->m * k) + tarn_la_bytes(z->size, k) +
                 tarn_la_bytes(z->size, k * z->n);
    }
    return bytes;
}

static tarn_status exact(tarn_la_task *t, tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n, k = t->z.k;
    parts p = parts_of(t), full = p;
    void *x = tarn_la_take(t, t->z.size, m * n);
    void *work = tarn_la_take(t, t->z.size, tarn_la_gesdd_work(m, n));
    int *iwork = tarn_la_take(t, sizeof(int), 8 * k);
    double *best = tarn_la_take(t, sizeof(double), k);
    if (p.r < k) {
        full.u = tarn_la_take(t, t->z.size, m * k);
        full.s = tarn_la_take(t, t->z.size, k);
        full.vt = tarn_la_take(t, t->z.size, k * n);
    }
    TARN_TRY(tarn_la_load(t, 0, false, t->z.dtype, x, err));
    TARN_TRY(tarn_la_gesdd(t, t->z.dtype, m, n, x, full.u, full.s, full.vt, work, iwork, err));
    double rest = 0;
    for (int64_t i = p.r; i < k; i++) {
        double s = tarn_la_get(t->z.dtype, full.s, i);
        rest += s * s;
    }
    if (p.r < k) {
        for (int64_t i = 0; i < m; i++) {
            memcpy(tarn_la_at(t, p.u, i * p.r), tarn_la_at(t, full.u, i * k),
                   (size_t)p.r * t->z.size);
        }
        memcpy(p.s, full.s, (size_t)p.r * t->z.size);
        memcpy(p.vt, full.vt, (size_t)(p.r * n) * t->z.size);
    }
    tarn_la_set(t->z.dtype, p.residual, 0, __builtin_sqrt(rest));
    tarn_la_signs(t->z.dtype, m, p.r, n, p.u, p.vt, best);
    return TARN_OK;
}

// ---- through the Gram matrix, in f64 ----

static size_t gram_need(const tarn_la_size *z) {
    int64_t k = z->k, r = rank_of(z), large = z->m > z->n ? z->m : z->n;
    return tarn_la_bytes(8, z->m * z->n) + tarn_la_bytes(8, k * k) + tarn_la_bytes(8, k) +
           tarn_la_bytes(8, 1 + 6 * k + 2 * k * k) + tarn_la_bytes(sizeof(int), 3 + 5 * k) +
           tarn_la_bytes(8, r * k) + tarn_la_bytes(8, large * r) + tarn_la_bytes(8, r) +
           tarn_la_qr_need(8, r) + residual_need(z, 8);
}

// rows x cols of `from` into `to`, transposed or as they are.
static void put(tarn_dtype dtype, void *to, const double *from, int64_t rows, int64_t cols,
                bool transposed) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            tarn_la_set(dtype, to, transposed ? j * rows + i : i * cols + j, from[i * cols + j]);
        }
    }
}

static tarn_status gram(tarn_la_task *t, tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n, k = t->z.k, large = m > n ? m : n;
    bool tall = m >= n;
    parts p = parts_of(t);
    double *x = tarn_la_take(t, 8, m * n), *g = tarn_la_take(t, 8, k * k);
    double *w = tarn_la_take(t, 8, k), *work = tarn_la_take(t, 8, 1 + 6 * k + 2 * k * k);
    int *iwork = tarn_la_take(t, sizeof(int), 3 + 5 * k);
    double *near = tarn_la_take(t, 8, p.r * k), *far = tarn_la_take(t, 8, large * p.r);
    double *s = tarn_la_take(t, 8, p.r);
    void *scratch = tarn_la_take(t, 1, (int64_t)tarn_la_qr_need(8, p.r));
    TARN_TRY(tarn_la_load(t, 0, false, TARN_F64, x, err));
    TARN_TRY(tarn_blas_gram(t->cx, TARN_F64, !tall, k, large, x, n, g, k, err));
    int size = (int)k, lwork = (int)(1 + 6 * k + 2 * k * k), liwork = (int)(3 + 5 * k), info = 0;
    if (k > 0) {
        t->lapack->syevd[1]("V", "U", &size, g, &size, w, work, &lwork, iwork, &liwork, &info, 1,
                            1);
    }
    if (info != 0) {
        TARN_RAISE(err, "NotConverged", "the eigenvalues of the Gram matrix did not converge (%d)",
                   info);
    }
    for (int64_t j = 0; j < p.r; j++) {  // eigenvectors are rows here, by ascending value
        memcpy(near + j * k, g + (k - 1 - j) * k, (size_t)k * 8);
    }
    TARN_TRY(
        tarn_blas_gemm(t->cx, TARN_F64, !tall, true, large, p.r, k, x, n, near, k, far, p.r, err));
    TARN_TRY(tarn_la_orthonormal(t, TARN_F64, large, p.r, far, s, scratch, err));
    for (int64_t j = 1; j < p.r; j++) {
        s[j] = s[j] < s[j - 1] ? s[j] : s[j - 1];  // equal but for rounding
    }
    put(t->z.dtype, p.s, s, 1, p.r, false);
    put(t->z.dtype, tall ? p.u : p.vt, far, large, p.r, !tall);
    put(t->z.dtype, tall ? p.vt : p.u, near, p.r, k, !tall);
    tarn_la_signs(t->z.dtype, m, p.r, n, p.u, p.vt, s);
    return set_residual(t, TARN_F64, x, &p, err);
}

// ---- randomised ----

static size_t random_need(const tarn_la_size *z) {
    int64_t l = sketch_of(z), r = rank_of(z);
    return tarn_la_bytes(z->size, z->m * z->n) + 3 * tarn_la_bytes(z->size, z->n * l) +
           tarn_la_bytes(z->size, z->m * l) + tarn_la_bytes(z->size, l * l) +
           tarn_la_bytes(z->size, l) + tarn_la_bytes(z->size, tarn_la_gesdd_work(l, z->n)) +
           tarn_la_bytes(sizeof(int), 8 * l) + tarn_la_bytes(8, r) + tarn_la_qr_need(z->size, l) +
           residual_need(z, z->size);
}

// y [m, l]: orthonormal columns near the range of the leading left vectors of x.
static tarn_status range_of(tarn_la_task *t, int64_t l, const void *x, void *omega, void *y,
                            void *scratch, tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n;
    tarn_dtype d = t->z.dtype;
    static const char name[] = "svd";
    uint64_t key =
        tarn_random_key((uint64_t)t->z.a->i[4], name, sizeof name - 1, (uint64_t)t->batch, 0);
    const tarn_random_table *random = tarn_random(t->cx->isa);
    if (d == TARN_F64) {
        random->normal_f64(key, 0, n * l, omega);
    } else {
        random->normal_f32(key, 0, n * l, omega);
    }
    TARN_TRY(tarn_blas_gemm(t->cx, d, false, false, m, l, n, x, n, omega, l, y, l, err));
    TARN_TRY(tarn_la_orthonormal(t, d, m, l, y, NULL, scratch, err));
    for (int64_t step = 0; step < t->z.a->i[3]; step++) {
        TARN_TRY(tarn_blas_gemm(t->cx, d, true, false, n, l, m, x, n, y, l, omega, l, err));
        TARN_TRY(tarn_la_orthonormal(t, d, n, l, omega, NULL, scratch, err));
        TARN_TRY(tarn_blas_gemm(t->cx, d, false, false, m, l, n, x, n, omega, l, y, l, err));
        TARN_TRY(tarn_la_orthonormal(t, d, m, l, y, NULL, scratch, err));
    }
    return TARN_OK;
}

static tarn_status randomised(tarn_la_task *t, tarn_error *err) {
    int64_t m = t->z.m, n = t->z.n, l = sketch_of(&t->z);
    size_t size = t->z.size;
    tarn_dtype d = t->z.dtype;
    parts p = parts_of(t);
    void *x = tarn_la_take(t, size, m * n), *omega = tarn_la_take(t, size, n * l);
    void *b = tarn_la_take(t, size, n * l), *vt = tarn_la_take(t, size, n * l);
    void *y = tarn_la_take(t, size, m * l), *ub = tarn_la_take(t, size, l * l);
    void *s = tarn_la_take(t, size, l), *work = tarn_la_take(t, size, tarn_la_gesdd_work(l, n));
    int *iwork = tarn_la_take(t, sizeof(int), 8 * l);
    double *best = tarn_la_take(t, 8, p.r);
    void *scratch = tarn_la_take(t, 1, (int64_t)tarn_la_qr_need(size, l));
    TARN_TRY(tarn_la_load(t, 0, false, d, x, err));
    TARN_TRY(range_of(t, l, x, omega, y, scratch, err));
    TARN_TRY(tarn_blas_gemm(t->cx, d, true, false, l, n, m, y, l, x, n, b, n, err));
    TARN_TRY(tarn_la_gesdd(t, d, l, n, b, ub, s, vt, work, iwork, err));
    TARN_TRY(tarn_blas_gemm(t->cx, d, false, false, m, p.r, l, y, l, ub, l, p.u, p.r, err));
    memcpy(p.s, s, (size_t)p.r * size);
    memcpy(p.vt, vt, (size_t)(p.r * n) * size);
    tarn_la_signs(d, m, p.r, n, p.u, p.vt, best);
    return set_residual(t, d, x, &p, err);
}

// ---- the row ----

static size_t need(const tarn_la_size *z) {
    switch ((tarn_svd_route)z->a->i[1]) {
    case TARN_SVD_GRAM:
        return gram_need(z);
    case TARN_SVD_RANDOM:
        return random_need(z);
    case TARN_SVD_EXACT:
    default:
        return exact_need(z);
    }
}

static tarn_status work(tarn_la_task *t, tarn_error *err) {
    switch ((tarn_svd_route)t->z.a->i[1]) {
    case TARN_SVD_GRAM:
        return gram(t, err);
    case TARN_SVD_RANDOM:
        return randomised(t, err);
    case TARN_SVD_EXACT:
    default:
        return exact(t, err);
    }
}

static tarn_status infer_svd(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                             tarn_error *err) {
    (void)nin;
    TARN_TRY(tarn_la_infer(&in[0], false, out, err));
    if (a->ni != 5) {
        TARN_RAISE(err, "Argument", "attributes are {rank, route, oversample, power, seed}");
    }
    int64_t m = in[0].shape[in[0].rank - 2], n = in[0].shape[in[0].rank - 1], k = m < n ? m : n;
    if (a->i[0] < 0 || a->i[0] > k) {
        TARN_RAISE(err, "Argument",
                   "rank %lld of a %lld by %lld matrix; expected 1 to %lld, or 0 for all",
                   (long long)a->i[0], (long long)m, (long long)n, (long long)k);
    }
    if (a->i[1] < TARN_SVD_EXACT || a->i[1] > TARN_SVD_RANDOM || a->i[2] < 0 || a->i[2] > 1000000 ||
        a->i[3] < 0 || a->i[3] > 1000) {
        TARN_RAISE(
            err, "Argument",
            "route %lld, oversample %lld, power %lld: expected a route of 0 to 2, oversample up "
            "to 1000000, power up to 1000",
            (long long)a->i[1], (long long)a->i[2], (long long)a->i[3]);
    }
    int64_t r = a->i[0] > 0 ? a->i[0] : k;
    out->rank = in[0].rank - 1;
    out->shape[out->rank - 1] = m * r + r + r * n + 1;  // sides are below 2^24 and 2^15
    return TARN_OK;
}

static const tarn_la_row row = {"svd", need, work};
TARN_LA_ROW(svd, row, 1, infer_svd, .vjp = tarn_la_vjp_svd, .jvp = tarn_la_jvp_svd,
            .summary = "singular value decomposition, packed: u, s, vt and the residual")
