// SPDX-License-Identifier: Apache-2.0
// Losses, one value for each row or element. The cross entropy with class numbers is a row,
// forwards and backwards, so that neither probabilities nor one-hot labels are ever stored; the
// others are compositions. Numerically as PyTorch: no exponential of a positive number.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"

#define X (y->in[0])

// ---- cross_entropy(x, labels), cross_entropy_vjp(x, labels, g): attr.i = {has_ignore, ignore},
// attr.f = {smoothing} ----

static tarn_status infer_ce(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                            tarn_error *err) {
    int r = in[0].rank - 1;
    if (a->ni != 2 || a->nf != 1 || !(a->f[0] >= 0 && a->f[0] <= 1)) {
        TARN_RAISE(err, "Argument", "the label smoothing is a number from 0 to 1");
    }
    if (in[0].rank == 0 || in[0].shape[r] == 0) {
        TARN_RAISE(err, "Rank", "logits need a last dimension of at least one class");
    }
    if (tarn_dtype_get(in[1].dtype)->kind != TARN_KIND_INT) {
        TARN_RAISE(err, "Dtype", "labels are %s; expected integers (class numbers from 0)",
                   tarn_dtype_get(in[1].dtype)->name);
    }
    for (int k = 1; k < nin; k++) {
        if (!tarn_shape_equal(r, in[0].shape, in[k].rank, in[k].shape)) {
            TARN_RAISE(
                err, "ShapeMismatch",
                "%s have %d dimension%s; expected the shape of the logits without the last of "
                "its %d dimensions",
                k == 1 ? "labels" : "cotangents", in[k].rank, in[k].rank == 1 ? "" : "s", r + 1);
        }
    }
    *out = in[0];
    out->rank = nin == 3 ? r + 1 : r;
    out->weak = false;
    out->dtype = tarn_float_of(1, in);
    return TARN_OK;
}

typedef struct {
    const tarn_fused_kernels *k;
    const char *x, *g;
    const int64_t *label;
    char *out;
    int64_t classes;
    size_t size;
    const tarn_attr *a;
} ce_run;

static tarn_status ce_piece(void *arg, int64_t first, int64_t n, tarn_error *err) {
    const ce_run *r = arg;
    size_t step = (size_t)r->classes * r->size, result = r->g ? step : r->size;
    for (int64_t i = first; i < first + n; i++) {
        int64_t label = r->label[i];
        const char *x = r->x + (size_t)i * step;
        char *out = r->out + (size_t)i * result;
        if (r->a->i[0] && label == r->a->i[1]) {
            memset(out, 0, result);
            continue;
        }
        if (label < 0 || label >= r->classes) {
            TARN_RAISE(err, "IndexRange",
                       "cross_entropy: label %lld (row %lld) is outside 0 to %lld",
                       (long long)label, (long long)i + 1, (long long)r->classes - 1);
        }
        if (r->g) {
            r->k->cross_entropy_vjp(r->classes, x, label, r->a->f[0], r->g + (size_t)i * r->size,
                                    out);
        } else {
            r->k->cross_entropy(r->classes, x, label, r->a->f[0], out);
        }
    }
    return TARN_OK;
}

static tarn_status apply_ce(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                            const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    tarn_plain p;
    int64_t classes = in[0].shape[in[0].rank - 1];
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s =
        tarn_plain_open(cx, nin, in, (tarn_dtype[]){d->dtype, TARN_I64, d->dtype}, &p, err);
    if (s == TARN_OK) {
        ce_run r = {tarn_fused(cx->isa, d->dtype), p.data[0],
                    nin == 3 ? p.data[2] : NULL,   (const int64_t *)(const void *)p.data[1],
                    tarn_tensor_data(out),         classes,
                    d->dtype == TARN_F64 ? 8 : 4,  a};
        s = tarn_rows_run(cx, tarn_tensor_numel(&in[1]), classes, ce_piece, &r, err);
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static size_t workspace_ce(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                           int threads) {
    (void)out, (void)a, (void)threads;
    return tarn_plain_bytes(nin, in, TARN_F64);
}

static const tarn_node *ce_vjp(tarn_graph *g, const tarn_node *y, const tarn_node *gy) {
    const tarn_node *in[3] = {X, y->in[1], gy};
    return tarn_node_make(g, &tarn_op_cross_entropy_vjp, 3, in, &y->attr);
}
TARN_VJP(vjp_ce) { return which == 0 ? tarn_unbroadcast(g, ce_vjp(g, y, gy), X) : NULL; }
// The gradient of each row times the direction, summed over the row.
TARN_JVP(jvp_ce) {
    if (!dx[0]) {
        return NULL;
    }
    const tarn_node *one = tarn_cast(g, tarn_num(g, 1), y->desc.dtype);
    const tarn_node *gradient = ce_vjp(g, y, tarn_broadcast(g, one, y->desc.rank, y->desc.shape));
    int64_t last = X->desc.rank - 1;
    return tarn_reduce(g, &tarn_op_sum, tarn_mul(g, gradient, dx[0]), 1, &last, false);
}

// labels as [.., 1], those to ignore as class 0; *ignored: where they are, NULL: nowhere.
static const tarn_node *label_column(tarn_graph *g, const tarn_node *y, const tarn_node **ignored) {
    const tarn_node *label = y->in[1];
    int64_t shape[TARN_MAX_RANK];
    int r = label->desc.rank;
    memcpy(shape, label->desc.shape, sizeof shape);
    shape[r] = 1;
    label = tarn_reshape(g, tarn_cast(g, label, TARN_I64), r + 1, shape);
    *ignored = NULL;
    if (y->attr.i[0]) {
        *ignored = tarn_eq(g, label, tarn_num(g, (double)y->attr.i[1]));
        label = tarn_where(g, *ignored, tarn_cast(g, tarn_num(g, 0), TARN_I64), label);
    }
    return label;
}
static const tarn_node *cross_entropy_apart(tarn_graph *g, const tarn_node *y) {
    int r = y->desc.rank;
    double s = y->attr.f[0], classes = (double)X->desc.shape[r];
    int64_t axis = r;
    const tarn_node *ignored, *label = label_column(g, y, &ignored);
    const tarn_node *l = tarn_log_softmax(g, X, r), *in[2] = {l, label};
    tarn_attr a = {.ni = 1, .i = &axis};
    const tarn_node *loss =
        tarn_mul(g, tarn_node_make(g, &tarn_op_gather, 2, in, &a), tarn_num(g, s - 1));
    if (s > 0) {
        loss = tarn_sub(g, loss, tarn_mul(g, tarn_last_sum(g, l), tarn_num(g, s / classes)));
    }
    loss = ignored ? tarn_where(g, ignored, tarn_num(g, 0), loss) : loss;
    return tarn_reshape(g, loss, r, y->desc.shape);
}
static const tarn_node *cross_entropy_vjp_apart(tarn_graph *g, const tarn_node *y) {
    int r = y->desc.rank - 1;
    double s = y->attr.f[0];
    int64_t classes = X->desc.shape[r], shape[TARN_MAX_RANK];
    const tarn_node *ignored, *label = label_column(g, y, &ignored);
    const tarn_node *hit = tarn_cast(g, tarn_eq(g, tarn_iota(g, classes), label), y->desc.dtype);
    const tarn_node *q = tarn_mul(g, hit, tarn_num(g, 1 - s));
    const tarn_node *p = tarn_softmax(g, X, r);
    q = s > 0 ? tarn_add(g, q, tarn_num(g, s / (double)classes)) : q;
    memcpy(shape, X->desc.shape, sizeof shape);
    shape[r] = 1;
    const tarn_node *gy = tarn_reshape(g, y->in[2], r + 1, shape);
    const tarn_node *product = tarn_mul(g, gy, tarn_sub(g, p, q));
    return ignored ? tarn_where(g, ignored, tarn_num(g, 0), product) : product;
}

// Classes are fixed by the labels; the leading dimensions move together.
static void axes_ce(tarn_axes *t, const tarn_node *y) {
    int r = X->desc.rank - 1;
    tarn_axes_limit(t, X, r, TARN_GROUP_NONE);
    for (int d = 0; d < r; d++) {
        for (int k = 0; k < y->nin; k++) {
            tarn_axes_link(t, y->in[k], d, y, d, TARN_GROUP_PERMUTATION);
        }
    }
    if (y->desc.rank > r) {
        tarn_axes_limit(t, y, r, TARN_GROUP_NONE);
    }
}

const tarn_node *tarn_cross_entropy(tarn_graph *g, const tarn_node *x, const tarn_node *labels,
                                    const tarn_ce_options *o) {
    const tarn_node *in[2] = {x, labels};
    const int64_t i[2] = {o->has_ignore, o->ignore};
    tarn_attr a = {.ni = 2, .i = i, .nf = 1, .f = &o->smoothing};
    return tarn_node_make(g, &tarn_op_cross_entropy, 2, in, &a);
}

// ---- compositions ----

const tarn_node *tarn_cross_entropy_soft(tarn_graph *g, const tarn_node *x, const tarn_node *p,
                                         double smoothing) {
    if (!x || x->desc.rank == 0) {
        return tarn_log_softmax(g, x, 0);  // says so
    }
    int64_t last = x->desc.rank - 1, classes = x->desc.shape[last];
    const tarn_node *l = tarn_log_softmax(g, x, (int)last);
    if (smoothing > 0) {
        p = tarn_add(g, tarn_mul(g, p, tarn_num(g, 1 - smoothing)),
                     tarn_num(g, smoothing / (double)classes));
    }
    return tarn_neg(g, tarn_reduce(g, &tarn_op_sum, tarn_mul(g, p, l), 1, &last, false));
}

// log(1 + exp(z)) by the exponential of -|z|; the derivative at 0 is 1/2.
static const tarn_node *soft_positive(tarn_graph *g, const tarn_node *z) {
    const tarn_node *zero = tarn_num(g, 0), *up = tarn_gt(g, z, zero);
    const tarn_node *low = tarn_where(g, up, tarn_neg(g, z), z);
    return tarn_add(g, tarn_where(g, up, z, zero), tarn_unary(g, &tarn_op_log1p, tarn_exp(g, low)));
}
// (1 - y) x + (1 + (w - 1) y) log(1 + exp(-x))
const tarn_node *tarn_bce_with_logits(tarn_graph *g, const tarn_node *x, const tarn_node *y,
                                      const tarn_node *weight) {
    const tarn_node *one = tarn_num(g, 1), *soft = soft_positive(g, tarn_neg(g, x));
    if (weight) {
        const tarn_node *more = tarn_mul(g, tarn_sub(g, weight, one), y);
        soft = tarn_mul(g, tarn_add(g, more, one), soft);
    }
    return tarn_add(g, tarn_mul(g, tarn_sub(g, one, y), x), soft);
}

const tarn_node *tarn_squared_error(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    const tarn_node *d = tarn_sub(g, x, y);
    return tarn_mul(g, d, d);
}

const tarn_node *tarn_kl_div(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    int64_t last = x && x->desc.rank > 0 ? x->desc.rank - 1 : 0;
    const tarn_node *lx = tarn_log_softmax(g, x, (int)last), *p = tarn_exp(g, lx);
    const tarn_node *ly = tarn_log_softmax(g, y, y && y->desc.rank > 0 ? y->desc.rank - 1 : 0);
    const tarn_node *zero = tarn_num(g, 0), *some = tarn_gt(g, p, zero);
    const tarn_node *apart = tarn_where(g, some, tarn_sub(g, lx, ly), zero);
    return tarn_reduce(g, &tarn_op_sum, tarn_mul(g, p, apart), 1, &last, false);
}

// clang-format off
#define WHOLE(NAME, IN, ...)                                                                    \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE,       \
                                    .min_in = IN, .max_in = IN, .infer = infer_ce,              \
                                    .apply = apply_ce, .placed = true,                          \
                                    .workspace = workspace_ce,                                  \
                                    .decompose = NAME##_apart, .axes = axes_ce, __VA_ARGS__};
WHOLE(cross_entropy, 2, .vjp = vjp_ce, .jvp = jvp_ce,
      .summary = "the cross entropy of each row of logits with a class number, with smoothed labels")
WHOLE(cross_entropy_vjp, 3,
      .summary = "g (softmax(x) - the smoothed label) of each row: the derivative of cross_entropy")
// clang-format on
