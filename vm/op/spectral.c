// SPDX-License-Identifier: Apache-2.0
// Rows that spectral merging needs beside the decompositions: how many leading singular values hold a
// share of their sum, and Adam on a quadratic of matrices, whose gradient is one matrix product (as a
// graph it would be hundreds of nodes).
#include <math.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/blas.h"
#include "vm/op/rules.h"

// leading(s), attr.f = {share, power}. s [.., k] descends and is not negative. Yields [.., k]: 1 at the
// fewest first elements whose powers sum to share · Σ s^power, 0 at the others.
static tarn_status infer_leading(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, tarn_error *err) {
    (void)nin;
    if (a->nf != 2 || in[0].rank < 1 || !(a->f[0] >= 0 && a->f[0] <= 1) || (a->f[1] != 1 && a->f[1] != 2)) {
        TARN_RAISE(err, "Argument", "expected values along the last dimension, a share within 0 to 1 and the power 1 or 2");
    }
    *out = in[0];
    out->dtype = tarn_dtype_compute(in[0].dtype) == TARN_F64 ? TARN_F64 : TARN_F32;
    return TARN_OK;
}

static tarn_status apply_leading(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                 const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin;
    int64_t k = d->shape[d->rank - 1], rows = k ? tarn_desc_numel(d) / k : 0;
    TARN_TRY(tarn_tensor_zeros(cx, d->dtype, d->rank, d->shape, out, err));
    for (int64_t r = 0; r < rows; r++) {
        double total = 0, sum = 0;
        for (int64_t i = 0; i < k; i++) {
            double s = tarn_tensor_get(&in[0], r * k + i);
            total += a->f[1] == 2 ? s * s : s;
        }
        for (int64_t i = 0; i < k && (a->f[0] >= 1 || sum < a->f[0] * total); i++) {
            double s = tarn_tensor_get(&in[0], r * k + i);
            sum += a->f[1] == 2 ? s * s : s;
            tarn_tensor_set(out, r * k + i, 1);
        }
    }
    return TARN_OK;
}

const tarn_op tarn_op_leading = {.name = "leading", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1, .max_in = 1,
                                 .infer = infer_leading, .apply = apply_leading, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero,
                                 .summary = "1 at the first elements of s that hold a share of their sum, else 0"};

// descend(d, k, r), attr.f = {rate, steps, beta1, beta2, eps}: Adam (Kingma, Ba 2014) from d [m, n] on
// tr(d k d^T) - 2 tr(d r^T), with k [n, n] symmetric: the gradient is 2 (d k - r).
static tarn_status infer_descend(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, tarn_error *err) {
    (void)nin;
    const tarn_desc *d = &in[0], *k = &in[1], *r = &in[2];
    if (a->nf != 5 || d->rank != 2 || k->rank != 2 || r->rank != 2 || k->shape[0] != d->shape[1] ||
        k->shape[1] != d->shape[1] || r->shape[0] != d->shape[0] || r->shape[1] != d->shape[1]) {
        TARN_RAISE(err, "ShapeMismatch", "expected [m, n], [n, n] and [m, n]");
    }
    *out = *d;
    out->dtype = tarn_dtype_compute(d->dtype) == TARN_F64 ? TARN_F64 : TARN_F32;
    return TARN_OK;
}

typedef struct {
    tarn_dtype dtype;
    int64_t n;
    const double *f;       // rate, steps, beta1, beta2, eps
    double fix1, fix2;     // 1 - beta^step
    void *x, *mean, *square;
    const void *gradient, *r;
} adam;

enum { CHUNK = 1 << 16 };

#define STEP(T)                                                                                  \
    do {                                                                                         \
        T *x = s->x, *m = s->mean, *v = s->square;                                               \
        const T *p = s->gradient, *r = s->r;                                                     \
        const T b1 = (T)s->f[2], b2 = (T)s->f[3], eps = (T)s->f[4];                              \
        const T rate = (T)(s->f[0] / s->fix1), root = (T)(1 / s->fix2);                          \
        for (int64_t i = from; i < to; i++) {                                                    \
            T g = 2 * (p[i] - r[i]);                                                             \
            m[i] = b1 * m[i] + (1 - b1) * g;                                                     \
            v[i] = b2 * v[i] + (1 - b2) * g * g;                                                 \
            x[i] -= rate * m[i] / ((T)sqrt((double)(v[i] * root)) + eps);                        \
        }                                                                                        \
    } while (0)

static tarn_status step(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    const adam *s = arg;
    int64_t from = task * CHUNK, to = from + CHUNK < s->n ? from + CHUNK : s->n;
    if (s->dtype == TARN_F64) {
        STEP(double);
    } else {
        STEP(float);
    }
    return TARN_OK;
}

static size_t workspace_descend(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out, int threads) {
    (void)nin, (void)a, (void)threads;
    // Gradient and two moments; operands in the result's dtype, where they are not.
    size_t size = out->dtype == TARN_F64 ? 8 : 4;
    return size * (4 * (size_t)tarn_desc_numel(out) + (size_t)tarn_desc_numel(&in[1])) + 256;
}

static tarn_status descend(tarn_context *cx, const tarn_attr *a, const tarn_desc *d, const tarn_tensor *k,
                           const tarn_tensor *r, tarn_tensor *out, tarn_tensor *work, tarn_error *err) {
    int64_t rows = d->shape[0], n = d->shape[1];
    adam s = {.dtype = d->dtype, .n = tarn_desc_numel(d), .f = a->f, .r = tarn_tensor_data(r), .fix1 = 1, .fix2 = 1};
    for (int i = 0; i < 3; i++) {
        TARN_TRY(tarn_tensor_zeros(cx, d->dtype, d->rank, d->shape, &work[i], err));
    }
    s.x = tarn_tensor_data(out);
    s.gradient = tarn_tensor_data(&work[0]);
    s.mean = tarn_tensor_data(&work[1]);
    s.square = tarn_tensor_data(&work[2]);
    double power1 = 1, power2 = 1;
    for (int64_t i = 0; i < (int64_t)a->f[1] && s.n > 0; i++) {
        power1 *= a->f[2];
        power2 *= a->f[3];
        s.fix1 = 1 - power1;
        s.fix2 = 1 - power2;
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        TARN_TRY(tarn_blas_gemm(cx, d->dtype, false, false, rows, n, n, s.x, n, tarn_tensor_data(k), n,
                                tarn_tensor_data(&work[0]), n, err));
        TARN_TRY(tarn_pool_run(cx->pool, (s.n + CHUNK - 1) / CHUNK, step, &s, &cx->cancel, err));
    }
    return TARN_OK;
}

static tarn_status apply_descend(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                 const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin;
    tarn_tensor k = {0}, r = {0}, work[3] = {{0}};
    tarn_status s = tarn_tensor_cast(cx, &in[0], d->dtype, out, err);
    if (s != TARN_OK) {
        return s;
    }
    s = tarn_tensor_cast(cx, &in[1], d->dtype, &k, err);
    s = s == TARN_OK ? tarn_tensor_cast(cx, &in[2], d->dtype, &r, err) : s;
    s = s == TARN_OK ? descend(cx, a, d, &k, &r, out, work, err) : s;
    for (int i = 0; i < 3; i++) {
        tarn_tensor_release(&work[i]);
    }
    tarn_tensor_release(&k);
    tarn_tensor_release(&r);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

const tarn_op tarn_op_descend = {.name = "descend", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 3, .max_in = 3,
                                 .infer = infer_descend, .apply = apply_descend, .workspace = workspace_descend,
                                 .refuses = "it runs many steps in one; write the steps as expressions, or "
                                            "compute its result once, outside, and pass it in",
                                 .summary = "steps of Adam on a quadratic function of a matrix"};
