// SPDX-License-Identifier: Apache-2.0
// Fourier transforms of whole tensors. rfftn(x) of x [d1, …, dr] transforms along every dimension and
// keeps the half of the last one that a real input leaves free: [2, d1, …, dr / 2 + 1], the real parts,
// then the imaginary ones. irfftn is its inverse. Lines are computed in f64; what is stored is f64 for
// f64, else f32. The spectrum as one real tensor lets element-wise rows work on it: a filter of shape
// [d1, …, dr / 2 + 1] times a spectrum is a product as any other.
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/fft.h"
#include "vm/op/rules.h"

static tarn_dtype kept(tarn_dtype t) {
    return tarn_dtype_compute(t) == TARN_F64 ? TARN_F64 : TARN_F32;
}

static tarn_status infer_rfftn(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                               tarn_error *err) {
    (void)nin, (void)a;
    int r = in[0].rank;
    if (r < 1 || r >= TARN_MAX_RANK || tarn_desc_numel(&in[0]) == 0) {
        TARN_RAISE(err, "Rank", "expected a tensor with elements, of rank 1 to %d, got rank %d",
                   TARN_MAX_RANK - 1, r);
    }
    *out = (tarn_desc){.dtype = kept(in[0].dtype), .rank = r + 1, .shape = {2}};
    memcpy(out->shape + 1, in[0].shape, (size_t)r * sizeof *out->shape);
    out->shape[r] = in[0].shape[r - 1] / 2 + 1;
    return TARN_OK;
}

static tarn_status infer_irfftn(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                tarn_error *err) {
    (void)nin;
    int r = in[0].rank - 1;
    int64_t n = a->ni == 1 ? a->i[0] : 0;
    if (r < 1 || in[0].shape[0] != 2 || tarn_desc_numel(&in[0]) == 0 || n < 1 || in[0].shape[r] != n / 2 + 1) {
        TARN_RAISE(err, "ShapeMismatch", "expected a spectrum [2, …, n / 2 + 1] and n, the last dimension");
    }
    *out = (tarn_desc){.dtype = kept(in[0].dtype), .rank = r};
    memcpy(out->shape, in[0].shape + 1, (size_t)r * sizeof *out->shape);
    out->shape[r - 1] = n;
    return TARN_OK;
}

// A tensor under way: the half spectrum, and one line with its plan.
typedef struct {
    tarn_context *cx;
    int rank;
    int64_t shape[TARN_MAX_RANK], half, lines;  // lines: along the last dimension
    size_t bytes;
    tarn_complex *spectrum;  // [lines, half]
} field;

static void field_of(field *w, const tarn_desc *real) {
    w->rank = real->rank;
    memcpy(w->shape, real->shape, sizeof w->shape);
    w->half = w->shape[w->rank - 1] / 2 + 1;
    w->lines = tarn_desc_numel(real) / w->shape[w->rank - 1];
    size_t numbers = (size_t)w->lines * (size_t)w->half;
    w->bytes = tarn_mul_size(numbers, sizeof *w->spectrum, &w->bytes) ? w->bytes : SIZE_MAX;
}

static tarn_status field_open(tarn_context *cx, const tarn_desc *real, field *w, tarn_error *err) {
    *w = (field){.cx = cx};
    field_of(w, real);
    w->spectrum = w->bytes == SIZE_MAX ? NULL : tarn_alloc(&cx->budget, w->bytes);
    return w->spectrum ? TARN_OK : tarn_raise_nomem(err, "a Fourier transform", w->bytes);
}

// Of a real tensor and its spectrum, whose operand of `copied` elements may have to be copied into the
// dtype of the result.
static size_t workspace_of(const tarn_desc *real, const tarn_desc *out, int64_t copied) {
    field w = {0};
    size_t line = 0;
    field_of(&w, real);
    for (int d = 0; d < w.rank; d++) {
        size_t plan = tarn_fft_bytes(w.shape[d]), own = (size_t)w.shape[d] * sizeof(tarn_complex);
        line = plan > SIZE_MAX / 4 ? SIZE_MAX / 4 : plan + own > line ? plan + own : line;
    }
    return w.bytes > SIZE_MAX / 4 ? SIZE_MAX / 2 : w.bytes + line + tarn_dtype_bytes(out->dtype, copied);
}
static size_t workspace_rfftn(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                              int threads) {
    (void)nin, (void)a, (void)threads;
    return workspace_of(&in[0], out, tarn_desc_numel(&in[0]));
}
static size_t workspace_irfftn(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                               int threads) {
    (void)nin, (void)a, (void)threads;
    return workspace_of(out, out, tarn_desc_numel(&in[0]));
}

// A line of n numbers and its plan, given to `work`.
typedef tarn_status (*line_fn)(field *w, tarn_fft *f, tarn_complex *line, int axis, void *arg,
                               tarn_error *err);
static tarn_status with_line(field *w, int axis, line_fn work, void *arg, tarn_error *err) {
    tarn_fft f;
    TARN_TRY(tarn_fft_open(w->cx, w->shape[axis], &f, err));
    size_t bytes = (size_t)w->shape[axis] * sizeof(tarn_complex);
    tarn_complex *line = tarn_alloc(&w->cx->budget, bytes);
    tarn_status s = line ? work(w, &f, line, axis, arg, err) : tarn_raise_nomem(err, "a Fourier transform", bytes);
    tarn_free(&w->cx->budget, line, bytes);
    tarn_fft_close(&f);
    return s;
}

// All lines of the spectrum along a dimension before the last.
static tarn_status along(field *w, tarn_fft *f, tarn_complex *line, int axis, void *inverse,
                         tarn_error *err) {
    int64_t n = w->shape[axis], stride = w->half;
    for (int d = axis + 1; d < w->rank - 1; d++) {
        stride *= w->shape[d];
    }
    int64_t outer = w->lines * w->half / (n * stride);
    for (int64_t at = 0; at < outer * stride; at++) {
        tarn_complex *x = w->spectrum + at / stride * n * stride + at % stride;
        for (int64_t k = 0; k < n; k++) {
            line[k] = x[k * stride];
        }
        TARN_TRY(tarn_fft_run(f, line, *(bool *)inverse, err));
        for (int64_t k = 0; k < n; k++) {
            x[k * stride] = line[k];
        }
    }
    return TARN_OK;
}

static tarn_status other_axes(field *w, bool inverse, tarn_error *err) {
    for (int d = w->rank - 2; d >= 0; d--) {
        if (w->shape[d] > 1) {
            TARN_TRY(with_line(w, d, along, &inverse, err));
        }
    }
    return TARN_OK;
}

// The two dtypes that are computed with here.
static inline double number_at(const tarn_tensor *t, int64_t i) {
    const void *p = tarn_tensor_data(t);
    return t->dtype == TARN_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}
static inline void put(tarn_tensor *t, int64_t i, double v) {
    void *p = tarn_tensor_data(t);
    if (t->dtype == TARN_F64) {
        ((double *)p)[i] = v;
    } else {
        ((float *)p)[i] = (float)v;
    }
}

static tarn_status last_forward(field *w, tarn_fft *f, tarn_complex *line, int axis, void *arg,
                                tarn_error *err) {
    const tarn_tensor *x = arg;
    int64_t n = w->shape[axis];
    for (int64_t at = 0; at < w->lines; at++) {
        for (int64_t k = 0; k < n; k++) {
            line[k] = (tarn_complex){number_at(x, at * n + k), 0};
        }
        TARN_TRY(tarn_fft_run(f, line, false, err));
        memcpy(w->spectrum + at * w->half, line, (size_t)w->half * sizeof *line);
    }
    return TARN_OK;
}

// A real line's spectrum is conjugate to itself: X[n - k] = conj X[k].
static tarn_status last_back(field *w, tarn_fft *f, tarn_complex *line, int axis, void *arg,
                             tarn_error *err) {
    tarn_tensor *out = arg;
    int64_t n = w->shape[axis];
    for (int64_t at = 0; at < w->lines; at++) {
        const tarn_complex *x = w->spectrum + at * w->half;
        for (int64_t k = 0; k < n; k++) {
            line[k] = k < w->half ? x[k] : (tarn_complex){x[n - k].re, -x[n - k].im};
        }
        TARN_TRY(tarn_fft_run(f, line, true, err));
        for (int64_t k = 0; k < n; k++) {
            put(out, at * n + k, line[k].re);
        }
    }
    return TARN_OK;
}

static tarn_status forward(field *w, tarn_tensor *x, tarn_tensor *out, tarn_error *err) {
    int64_t all = w->lines * w->half;
    TARN_TRY(with_line(w, w->rank - 1, last_forward, x, err));
    TARN_TRY(other_axes(w, false, err));
    for (int64_t i = 0; i < all; i++) {
        put(out, i, w->spectrum[i].re);
        put(out, all + i, w->spectrum[i].im);
    }
    return TARN_OK;
}

static tarn_status back(field *w, tarn_tensor *x, tarn_tensor *out, tarn_error *err) {
    int64_t all = w->lines * w->half;
    for (int64_t i = 0; i < all; i++) {
        w->spectrum[i] = (tarn_complex){number_at(x, i), number_at(x, all + i)};
    }
    TARN_TRY(other_axes(w, true, err));
    return with_line(w, w->rank - 1, last_back, out, err);
}

static tarn_status apply(tarn_context *cx, const tarn_tensor *in, const tarn_desc *d, const tarn_desc *real,
                         tarn_status (*work)(field *, tarn_tensor *, tarn_tensor *, tarn_error *),
                         tarn_tensor *out, tarn_error *err) {
    field w = {0};
    tarn_tensor x = {0};
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    tarn_status s = tarn_tensor_plain(cx, in, d->dtype, &x, err);
    s = s == TARN_OK ? field_open(cx, real, &w, err) : s;
    s = s == TARN_OK ? work(&w, &x, out, err) : s;
    tarn_free(&cx->budget, w.spectrum, w.bytes);
    tarn_tensor_release(&x);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

static tarn_status apply_rfftn(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                               const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin, (void)a;
    tarn_desc real;
    tarn_desc_of(&in[0], &real);
    return apply(cx, &in[0], d, &real, forward, out, err);
}
static tarn_status apply_irfftn(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin, (void)a;
    return apply(cx, &in[0], d, d, back, out, err);
}

// ---- derivatives: both are linear ----

// 1 at the places of the last dimension that are their own mirror image in a real signal's spectrum of n,
// 2 at the others: [n / 2 + 1].
static const tarn_node *mirror_counts(tarn_graph *g, int64_t n) {
    const tarn_node *k = tarn_iota(g, n / 2 + 1), *own = tarn_eq(g, k, tarn_num(g, 0));
    if (n % 2 == 0) {
        own = tarn_binary(g, &tarn_op_logical_or, own, tarn_eq(g, k, tarn_num(g, (double)(n / 2))));
    }
    return tarn_where(g, own, tarn_num(g, 1), tarn_num(g, 2));
}
// With N elements and counts c, irfftn(z) is the adjoint of rfftn applied to c z / N.
TARN_VJP(vjp_rfftn) {
    (void)which;
    const int64_t n = y->in[0]->desc.shape[y->in[0]->desc.rank - 1];
    tarn_attr a = {.ni = 1, .i = &n};
    const tarn_node *z = tarn_div(g, gy, mirror_counts(g, n));
    z = tarn_mul(g, z, tarn_num(g, (double)tarn_desc_numel(&y->in[0]->desc)));
    return tarn_node_make(g, &tarn_op_irfftn, 1, &z, &a);
}
TARN_JVP(jvp_rfftn) {
    (void)y;
    return dx[0] ? tarn_unary(g, &tarn_op_rfftn, dx[0]) : NULL;
}
TARN_VJP(vjp_irfftn) {
    (void)which;
    const tarn_node *z = tarn_mul(g, tarn_unary(g, &tarn_op_rfftn, gy), mirror_counts(g, y->attr.i[0]));
    return tarn_mul(g, z, tarn_num(g, 1 / (double)tarn_desc_numel(&y->desc)));
}
TARN_JVP(jvp_irfftn) { return dx[0] ? tarn_node_make(g, &tarn_op_irfftn, 1, dx, &y->attr) : NULL; }

const tarn_op tarn_op_rfftn = {.name = "rfftn", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1,
                               .max_in = 1, .infer = infer_rfftn, .apply = apply_rfftn,
                               .workspace = workspace_rfftn, .vjp = vjp_rfftn, .jvp = jvp_rfftn,
                               .summary = "Fourier transform of a real tensor along every dimension: "
                                          "real and imaginary parts of its half spectrum"};
const tarn_op tarn_op_irfftn = {.name = "irfftn", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1,
                                .max_in = 1, .infer = infer_irfftn, .apply = apply_irfftn,
                                .workspace = workspace_irfftn, .vjp = vjp_irfftn, .jvp = jvp_irfftn,
                                .summary = "the real tensor of a half spectrum: what rfftn undoes"};
