// SPDX-License-Identifier: Apache-2.0
#include "vm/op/linalg_task.h"

#include <string.h>

#include "vm/op/tile.h"

void *tarn_la_take(tarn_la_task *t, size_t size, int64_t count) {
    char *p = t->memory;
    size_t bytes = tarn_la_bytes(size, count);
    if (bytes > t->left) {
        return NULL;  // only if a row's `need` forgets something, which its tests would find
    }
    t->memory += bytes;
    t->left -= bytes;
    return p;
}

static void swap_axes(tarn_tensor *x) {
    int64_t shape = x->shape[0], stride = x->stride[0];
    x->shape[0] = x->shape[1];
    x->stride[0] = x->stride[1];
    x->shape[1] = shape;
    x->stride[1] = stride;
}

static bool finite_all(tarn_dtype t, const void *p, int64_t n, int64_t *at) {
    for (int64_t i = 0; i < n; i++) {
        double v = tarn_la_get(t, p, i);
        if (v - v != 0) {
            *at = i;
            return false;
        }
    }
    return true;
}

tarn_status tarn_la_load(tarn_la_task *t, int i, bool transposed, tarn_dtype dtype, void *to,
                         tarn_error *err) {
    tarn_tensor x = t->in[i];
    if (transposed) {
        swap_axes(&x);
    }
    tarn_fetch f;
    TARN_TRY(tarn_fetch_init(&f, t->cx->isa, &x, x.rank, x.shape, dtype, err));
    int64_t numel = tarn_tensor_numel(&x), size = dtype == TARN_F64 ? 8 : 4, bad = 0;
    for (int64_t at = 0; at < numel; at += TARN_TILE) {
        int64_t n = numel - at < TARN_TILE ? numel - at : TARN_TILE;
        char *here = (char *)to + at * size;
        const void *p = tarn_fetch_tile(&f, at, n, here);
        if (p != here) {
            memcpy(here, p, (size_t)(n * size));
        }
        if (!finite_all(dtype, here, n, &bad)) {
            int64_t cols = x.shape[1], row = (at + bad) / cols, col = (at + bad) % cols;
            TARN_RAISE(err, "NotFinite",
                       "element [%lld, %lld] of operand %d is %s; every element has to be finite",
                       (long long)(transposed ? col : row) + 1,
                       (long long)(transposed ? row : col) + 1, i + 1,
                       tarn_la_get(dtype, here, bad) != tarn_la_get(dtype, here, bad) ? "NaN"
                                                                                      : "infinite");
        }
    }
    return TARN_OK;
}

tarn_status tarn_la_infer(const tarn_desc *x, bool square, tarn_desc *out, tarn_error *err) {
    if (x->rank < 2) {
        TARN_RAISE(err, "Rank", "expected a matrix or a batch of them, got rank %d", x->rank);
    }
    int64_t m = x->shape[x->rank - 2], n = x->shape[x->rank - 1];
    if (square && m != n) {
        TARN_RAISE(err, "ShapeMismatch", "expected a square matrix, got %lld by %lld", (long long)m,
                   (long long)n);
    }
    // LAPACK counts its workspace in 32 bits, and the largest is that of gesdd.
    if (m > INT32_MAX / 64 || n > INT32_MAX / 64 || tarn_la_gesdd_work(m, n) > INT32_MAX) {
        TARN_RAISE(err, "Overflow",
                   "a matrix of %lld by %lld passes what LAPACK's 32-bit sizes hold (a smaller "
                   "side of about 23000)",
                   (long long)m, (long long)n);
    }
    *out = *x;
    out->weak = false;
    out->dtype = tarn_dtype_compute(x->dtype) == TARN_F64 ? TARN_F64 : TARN_F32;
    return TARN_OK;
}

static void size_of(int nin, const tarn_desc *in, const tarn_attr *a, tarn_dtype dtype, tarn_la_size *z) {
    const tarn_desc *x = &in[0];
    *z = (tarn_la_size){.dtype = dtype, .size = dtype == TARN_F64 ? 8 : 4, .batches = 1, .a = a};
    z->m = x->shape[x->rank - 2];
    z->n = x->shape[x->rank - 1];
    z->k = z->m < z->n ? z->m : z->n;
    z->r = nin > 1 && in[1].rank >= 2 ? in[1].shape[in[1].rank - 1] : 0;
    for (int d = 0; d < x->rank - 2; d++) {
        z->batches *= x->shape[d];
    }
}

// ---- a row over its batch ----

typedef struct {
    const tarn_la_row *row;
    tarn_la_task task;  // what all tasks share
    int nin;
    const tarn_tensor *in;
    size_t need, part;  // bytes: of a worker's block, of a matrix's result
    char *out;
} batch_run;

// The matrix `batch` of a tensor with leading dimensions; anything of lower rank serves all.
static tarn_tensor matrix_at(const tarn_tensor *x, int64_t batch) {
    tarn_tensor m = *x;
    if (x->rank <= 2) {
        return m;
    }
    for (int d = x->rank - 3; d >= 0; d--) {
        m.offset += batch % x->shape[d] * x->stride[d];
        batch /= x->shape[d];
    }
    m.rank = 2;
    for (int d = 0; d < 2; d++) {
        m.shape[d] = x->shape[x->rank - 2 + d];
        m.stride[d] = x->stride[x->rank - 2 + d];
    }
    return m;
}

static tarn_status one_matrix(void *arg, int64_t batch, int worker, tarn_error *err) {
    (void)worker;
    batch_run *r = arg;
    tarn_la_task t = r->task;
    char *block = tarn_alloc(&t.cx->budget, r->need);
    if (!block) {
        return tarn_raise_nomem(err, r->row->name, r->need);
    }
    t.memory = block;
    t.left = r->need;
    t.batch = batch;
    t.out = r->out + (size_t)batch * r->part;
    for (int i = 0; i < r->nin; i++) {
        t.in[i] = matrix_at(&r->in[i], batch);
    }
    tarn_status s = r->row->work(&t, err);
    tarn_free(&t.cx->budget, block, r->need);
    if (s == TARN_ERROR) {
        if (t.z.batches > 1) {
            tarn_error_prefix(err, "matrix %lld of %lld", (long long)batch + 1,
                              (long long)t.z.batches);
        }
        tarn_error_prefix(err, "%s", r->row->name);
    }
    return s;
}

tarn_status tarn_la_apply(const tarn_la_row *row, tarn_context *cx, int nin, const tarn_tensor *in,
                          const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                          tarn_error *err) {
    batch_run r = {.row = row, .task = {.cx = cx}, .nin = nin, .in = in};
    tarn_desc din[2];
    for (int i = 0; i < nin; i++) {
        tarn_desc_of(&in[i], &din[i]);
    }
    size_of(nin, din, a, d->dtype, &r.task.z);
    r.task.w = d->dtype == TARN_F64;
    TARN_TRY(tarn_lapack_get(&r.task.lapack, err));
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    int64_t batches = r.task.z.batches;
    tarn_status s = TARN_OK;
    if (batches > 0) {
        r.out = out->storage->data;
        r.part = tarn_tensor_bytes(out) / (size_t)batches;
        r.need = row->need(&r.task.z);
        s = tarn_pool_run(batches > 1 ? cx->pool : NULL, batches, one_matrix, &r, &cx->cancel, err);
    }
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

size_t tarn_la_workspace(const tarn_la_row *row, int nin, const tarn_desc *in, const tarn_attr *a,
                         const tarn_desc *out, int threads) {
    tarn_la_size z;
    size_of(nin, in, a, out->dtype, &z);
    int64_t at_once = z.batches < threads ? z.batches : threads;
    return (size_t)at_once * row->need(&z);
}

// ---- shared pieces ----

int64_t tarn_la_gesdd_work(int64_t m, int64_t n) {
    int64_t k = m < n ? m : n;
    return 4 * k * k + 7 * k + 64 * (m + n);
}

tarn_status tarn_la_gesdd(tarn_la_task *t, tarn_dtype dtype, int64_t m, int64_t n, void *x, void *u,
                          void *s, void *vt, void *work, int *iwork, tarn_error *err) {
    // Row-major x is x^T to LAPACK, whose left vectors are the rows of vt, and whose right ones,
    // given transposed, are the rows of u.
    int rows = (int)n, cols = (int)m, k = rows < cols ? rows : cols, info = 0;
    int lwork = (int)tarn_la_gesdd_work(m, n);
    if (k == 0) {
        return TARN_OK;
    }
    t->lapack->gesdd[dtype == TARN_F64]("S", &rows, &cols, x, &rows, s, vt, &rows, u, &k, work,
                                        &lwork, iwork, &info, 1);
    if (info != 0) {
        TARN_RAISE(err, "NotConverged",
                   "the singular value decomposition of a %lld by %lld matrix did not converge "
                   "(gesdd: %d)",
                   (long long)m, (long long)n, info);
    }
    return tarn_cancel_check(&t->cx->cancel, err);
}

size_t tarn_la_qr_need(size_t size, int64_t cols) { return tarn_la_bytes(size, 65 * cols + 1); }

tarn_status tarn_la_orthonormal(tarn_la_task *t, tarn_dtype dtype, int64_t rows, int64_t cols,
                                void *x, double *r, void *scratch, tarn_error *err) {
    int m = (int)cols, n = (int)rows, lwork = 64 * m, info = 0, w = dtype == TARN_F64;
    char *tau = scratch, *work = tau + (size_t)m * (w ? 8 : 4);
    if (m == 0) {
        return TARN_OK;
    }
    // Row-major x = q r is x^T = r^T q^T to LAPACK: an LQ factorisation.
    t->lapack->gelqf[w](&m, &n, x, &m, tau, work, &lwork, &info);
    for (int64_t j = 0; r && j < cols; j++) {
        r[j] = tarn_la_get(dtype, x, j * cols + j);
    }
    if (info == 0) {
        t->lapack->orglq[w](&m, &n, &m, x, &m, tau, work, &lwork, &info);
    }
    if (info != 0) {
        TARN_RAISE(err, "Lapack", "the QR factorisation failed (%d)", info);
    }
    for (int64_t i = 0; r && i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) {
            if (r[j] < 0) {
                tarn_la_set(dtype, x, i * cols + j, -tarn_la_get(dtype, x, i * cols + j));
            }
        }
    }
    for (int64_t j = 0; r && j < cols; j++) {
        r[j] = r[j] < 0 ? -r[j] : r[j];
    }
    return tarn_cancel_check(&t->cx->cancel, err);
}

void tarn_la_signs(tarn_dtype dtype, int64_t m, int64_t k, int64_t n, void *u, void *vt,
                   double *best) {
    memset(best, 0, (size_t)k * sizeof *best);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < k; j++) {
            double v = tarn_la_get(dtype, u, i * k + j), a = v < 0 ? -v : v;
            double b = best[j] < 0 ? -best[j] : best[j];
            best[j] = a > b ? v : best[j];
        }
    }
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < k; j++) {
            if (best[j] < 0) {
                tarn_la_set(dtype, u, i * k + j, -tarn_la_get(dtype, u, i * k + j));
            }
        }
    }
    for (int64_t j = 0; vt && j < k; j++) {
        for (int64_t i = 0; best[j] < 0 && i < n; i++) {
            tarn_la_set(dtype, vt, j * n + i, -tarn_la_get(dtype, vt, j * n + i));
        }
    }
}
