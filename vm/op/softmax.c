// SPDX-License-Identifier: Apache-2.0
// softmax and log_softmax over the last axis, each row by itself (they stream in bands), and their
// derivatives as rows of their own. As in PyTorch a row of -infinity alone gives NaN. Along other
// axes and for logsumexp: compositions.
#include "vm/op/axes.h"
#include "vm/op/convert.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"

#define X (y->in[0])

static tarn_status infer_rows(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                              tarn_error *err) {
    (void)a;
    if (in[0].rank == 0) {
        TARN_RAISE(err, "Rank", "expected a tensor of rank 1 or more, got a number");
    }
    for (int k = 1; k < nin; k++) {
        if (!tarn_shape_equal(in[0].rank, in[0].shape, in[k].rank, in[k].shape)) {
            TARN_RAISE(err, "ShapeMismatch", "operand %d has another shape than the first", k + 1);
        }
    }
    *out = in[0];
    out->weak = false;
    out->dtype = tarn_float_of(nin, in);
    return TARN_OK;
}

// ---- softmax, log_softmax: rows of one operand ----

static size_t scratch(tarn_dtype t, int64_t length) {
    return ((size_t)length * (t == TARN_F64 ? 8 : 4) + 63) / 64 * 64;
}

// Rows of a stored dtype are read into `scratch` first.
static tarn_status each_row(tarn_context *cx, int64_t n, int64_t length, tarn_dtype t,
                            const char *in, void (*fn)(int64_t, const void *, void *), char *out,
                            void *buffer, tarn_error *err) {
    tarn_dtype work = t == TARN_F64 ? TARN_F64 : TARN_F32;
    tarn_convert_fn convert = t == work ? NULL : tarn_convert(cx->isa, t, work);
    size_t from = (size_t)tarn_dtype_get(t)->bits / 8, to = work == TARN_F64 ? 8 : 4;
    for (int64_t r = 0; r < n; r++, in += (size_t)length * from, out += (size_t)length * to) {
        if (r % 64 == 0) {
            TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        }
        if (convert) {
            convert(length, in, buffer);
        }
        fn(length, convert ? buffer : in, out);
    }
    return TARN_OK;
}
#define ROWS(NAME)                                                                                 \
    static tarn_status rows_##NAME(tarn_context *cx, int64_t n, int64_t length, tarn_dtype t,      \
                                   const void *in, const tarn_attr *a, void *out, void *room,      \
                                   tarn_error *err) {                                              \
        (void)a;                                                                                   \
        return each_row(cx, n, length, t, in, tarn_fused(cx->isa, t)->NAME, out, room, err);       \
    }                                                                                              \
    static const tarn_rows by_##NAME = {rows_##NAME, scratch};
ROWS(softmax)
ROWS(log_softmax)

static size_t workspace_rows(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                             int threads) {
    int64_t n = out->shape[out->rank - 1], rows = n > 0 ? tarn_desc_numel(out) / n : 0;
    (void)nin, (void)a;
    return (size_t)(rows < threads ? rows : threads) * scratch(out->dtype, n) +
           tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0]));
}

// ---- their derivatives: (y, gy) ----

typedef struct {
    const char *y, *gy;
    char *gx;
    int64_t length;
    size_t size;
    void (*fn)(int64_t n, const void *y, const void *gy, void *gx);
} vjp_run;

static tarn_status vjp_piece(void *arg, int64_t first, int64_t n, tarn_error *err) {
    const vjp_run *r = arg;
    size_t step = (size_t)r->length * r->size;
    (void)err;
    for (int64_t i = first; i < first + n; i++) {
        size_t at = (size_t)i * step;
        r->fn(r->length, r->y + at, r->gy + at, r->gx + at);
    }
    return TARN_OK;
}
static tarn_status apply_vjp(tarn_context *cx, const tarn_tensor *in, const tarn_desc *d,
                             void (*fn)(int64_t, const void *, const void *, void *),
                             tarn_tensor *out, tarn_error *err) {
    tarn_plain p;
    int64_t length = d->shape[d->rank - 1], n = tarn_desc_numel(d);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, 2, in, (tarn_dtype[]){d->dtype, d->dtype}, &p, err);
    if (s == TARN_OK && n > 0) {
        vjp_run r = {
            p.data[0], p.data[1], tarn_tensor_data(out), length, d->dtype == TARN_F64 ? 8 : 4, fn};
        s = tarn_rows_run(cx, n / length, length, vjp_piece, &r, err);
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
#define APPLY(NAME)                                                                                \
    static tarn_status apply_##NAME(tarn_context *cx, int nin, const tarn_tensor *in,              \
                                    const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,      \
                                    tarn_error *err) {                                             \
        (void)nin, (void)a;                                                                        \
        return apply_vjp(cx, in, d, tarn_fused(cx->isa, d->dtype)->NAME, out, err);                \
    }
APPLY(softmax_vjp)
APPLY(log_softmax_vjp)

static size_t workspace_vjp(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                            int threads) {
    (void)a, (void)threads;
    return tarn_plain_bytes(nin, in, out->dtype);
}

// The Jacobian of softmax is symmetric: both directions are one row.
TARN_VJP(vjp_softmax) {
    (void)which;
    return tarn_unbroadcast(g, tarn_binary(g, &tarn_op_softmax_vjp, y, gy), X);
}
TARN_JVP(jvp_softmax) { return dx[0] ? tarn_binary(g, &tarn_op_softmax_vjp, y, dx[0]) : NULL; }
TARN_VJP(vjp_log_softmax) {
    (void)which;
    return tarn_unbroadcast(g, tarn_binary(g, &tarn_op_log_softmax_vjp, y, gy), X);
}
TARN_JVP(jvp_log_softmax) {
    return dx[0] ? tarn_sub(g, dx[0], tarn_last_sum(g, tarn_mul(g, tarn_exp(g, y), dx[0]))) : NULL;
}

// ---- in other rows ----

// Any shift near the largest element will do. Its whole part has no derivative, so none of it is
// left in a gradient; where it is not finite nothing is shifted.
static const tarn_node *shift_of(tarn_graph *g, const tarn_node *x, int naxes, const int64_t *axes,
                                 bool keep) {
    const tarn_node *m = tarn_reduce(g, &tarn_op_max, x, naxes, axes, keep);
    m = tarn_unary(g, &tarn_op_floor, m);
    return tarn_where(g, tarn_unary(g, &tarn_op_isfinite, m), m, tarn_num(g, 0));
}
static const tarn_node *softmax_apart(tarn_graph *g, const tarn_node *y) {
    int64_t last = y->desc.rank - 1;
    const tarn_node *x = tarn_as_float(g, X);
    const tarn_node *e = tarn_exp(g, tarn_sub(g, x, shift_of(g, x, 1, &last, true)));
    return tarn_div(g, e, tarn_last_sum(g, e));
}
static const tarn_node *log_softmax_apart(tarn_graph *g, const tarn_node *y) {
    int64_t last = y->desc.rank - 1;
    const tarn_node *x = tarn_as_float(g, X);
    const tarn_node *z = tarn_sub(g, x, shift_of(g, x, 1, &last, true));
    return tarn_sub(g, z, tarn_log(g, tarn_last_sum(g, tarn_exp(g, z))));
}
static const tarn_node *softmax_vjp_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *gy = y->in[1];
    return tarn_mul(g, X, tarn_sub(g, gy, tarn_last_sum(g, tarn_mul(g, X, gy))));
}
static const tarn_node *log_softmax_vjp_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *gy = y->in[1];
    return tarn_sub(g, gy, tarn_mul(g, tarn_exp(g, X), tarn_last_sum(g, gy)));
}

// ---- as expressions ----

// The row along any axis: the axis changes places with the last.
static const tarn_node *along(tarn_graph *g, const tarn_op *op, const tarn_node *x, int axis) {
    int64_t order[TARN_MAX_RANK];
    if (!x || x->desc.rank == 0 || axis == x->desc.rank - 1) {
        return tarn_unary(g, op, x);
    }
    for (int d = 0; d < x->desc.rank; d++) {
        order[d] = d;
    }
    order[axis] = x->desc.rank - 1;
    order[x->desc.rank - 1] = axis;
    return tarn_permute(g, tarn_unary(g, op, tarn_permute(g, x, order)), order);
}
const tarn_node *tarn_softmax(tarn_graph *g, const tarn_node *x, int axis) {
    return along(g, &tarn_op_softmax, x, axis);
}
const tarn_node *tarn_log_softmax(tarn_graph *g, const tarn_node *x, int axis) {
    return along(g, &tarn_op_log_softmax, x, axis);
}

const tarn_node *tarn_logsumexp(tarn_graph *g, const tarn_node *x, int naxes, const int64_t *axes,
                                bool keep) {
    x = tarn_as_float(g, x);
    bool stretch = naxes > 0;  // the shift has to meet x again
    const tarn_node *m = shift_of(g, x, naxes, axes, stretch || keep);
    const tarn_node *e = tarn_exp(g, tarn_sub(g, x, m));
    const tarn_node *s = tarn_log(g, tarn_reduce(g, &tarn_op_sum, e, naxes, axes, keep));
    int64_t shape[TARN_MAX_RANK];
    for (int d = 0; s && d < s->desc.rank; d++) {
        shape[d] = s->desc.shape[d];
    }
    return s ? tarn_add(g, s, tarn_reshape(g, m, s->desc.rank, shape)) : NULL;
}

const tarn_node *tarn_entropy(tarn_graph *g, const tarn_node *x, int axis) {
    int64_t at = axis;
    const tarn_node *l = tarn_log_softmax(g, x, axis), *p = tarn_exp(g, l), *zero = tarn_num(g, 0);
    // Where p is 0 so is p log p: the logarithm is kept finite there, for derivatives too.
    const tarn_node *some = tarn_gt(g, p, zero);
    const tarn_node *term = tarn_mul(g, p, tarn_where(g, some, l, zero));
    return tarn_neg(g, tarn_reduce(g, &tarn_op_sum, term, 1, &at, false));
}

// clang-format off
#define WHOLE(NAME, IN, ...)                                                                   \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE,      \
                                    .min_in = IN, .max_in = IN, .infer = infer_rows,           \
                                    .decompose = NAME##_apart, __VA_ARGS__};
WHOLE(softmax, 1, .rows = &by_softmax, .workspace = workspace_rows, .vjp = vjp_softmax, .jvp = jvp_softmax, .axes = tarn_axes_rows,
      .summary = "exp(x) / sum(exp(x)) along the last dimension")
WHOLE(log_softmax, 1, .rows = &by_log_softmax, .workspace = workspace_rows, .vjp = vjp_log_softmax, .jvp = jvp_log_softmax, .axes = tarn_axes_rows,
      .summary = "x - log(sum(exp(x))) along the last dimension")
WHOLE(softmax_vjp, 2, .placed = true, .apply = apply_softmax_vjp, .workspace = workspace_vjp,
      .summary = "y (g - sum(y g)) along the last dimension: the derivative of y = softmax(x)")
WHOLE(log_softmax_vjp, 2, .placed = true, .apply = apply_log_softmax_vjp, .workspace = workspace_vjp,
      .summary = "g - exp(y) sum(g) along the last dimension: the derivative of y = log_softmax(x)")
// clang-format on
