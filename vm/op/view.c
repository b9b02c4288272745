// SPDX-License-Identifier: Apache-2.0
// The view rows: the same elements seen through another shape, order or range.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/rules.h"

#define X (y->in[0])
#define INFER(name)                                                                           \
    static tarn_status name(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, \
                            tarn_error *err)
#define VIEW(name)                                                                       \
    static bool name(const tarn_tensor *in, const tarn_attr *a, const tarn_desc *d,      \
                     tarn_tensor *out)

static void with_shape(const tarn_tensor *in, const tarn_desc *d, tarn_tensor *out) {
    *out = *in;
    out->rank = d->rank;
    memcpy(out->shape, d->shape, sizeof out->shape);
}

// ---- reshape: attr.i = new shape ----

INFER(infer_reshape) {
    (void)nin;
    int64_t n, m;
    if (a->ni > TARN_MAX_RANK) {
        TARN_RAISE(err, "Rank", "expected at most %d dimensions, got %d", TARN_MAX_RANK, a->ni);
    }
    *out = in[0];
    out->rank = a->ni;
    out->weak = in[0].weak && a->ni == 0;
    memcpy(out->shape, a->i, (size_t)a->ni * sizeof *a->i);
    TARN_TRY(tarn_shape_numel(in[0].rank, in[0].shape, &n, err));
    TARN_TRY(tarn_shape_numel(out->rank, out->shape, &m, err));
    if (n != m) {
        TARN_RAISE(err, "ShapeMismatch", "%lld elements cannot take a shape of %lld",
                   (long long)n, (long long)m);
    }
    return TARN_OK;
}
VIEW(view_reshape) {
    (void)a;
    if (!tarn_tensor_contiguous(in)) {
        return false;
    }
    with_shape(in, d, out);
    int64_t step = tarn_desc_numel(d) > 0 ? 1 : 0;
    for (int k = d->rank - 1; k >= 0; k--) {
        out->stride[k] = step;
        step *= d->shape[k];
    }
    return true;
}
TARN_VJP(vjp_reshape) {
    (void)which;
    return tarn_reshape(g, gy, X->desc.rank, X->desc.shape);
}
TARN_JVP(jvp_reshape) {
    return dx[0] ? tarn_reshape(g, dx[0], y->desc.rank, y->desc.shape) : NULL;
}
// Runs of dimensions with equal products correspond: what a run of X is as a row-major product, the run
// of y is too. Axes of one element come and go by themselves.
static void axes_reshape(tarn_axes *t, const tarn_node *y) {
    const tarn_node *side[2] = {X, y};
    int at[2] = {0, 0};
    if (tarn_desc_numel(&y->desc) == 0) {
        tarn_axes_fixed(t, X);
        tarn_axes_fixed(t, y);
        return;
    }
    while (at[0] < X->desc.rank && at[1] < y->desc.rank) {
        int64_t size[2] = {X->desc.shape[at[0]], y->desc.shape[at[1]]};
        if ((size[0] == 1) != (size[1] == 1)) {
            at[size[1] == 1]++;
            continue;
        }
        int first[2] = {at[0]++, at[1]++};
        while (size[0] != size[1]) {
            int k = size[1] < size[0];
            size[k] *= side[k]->desc.shape[at[k]++];
        }
        tarn_axis run[2];
        for (int k = 0; k < 2; k++) {
            tarn_axis own[TARN_MAX_RANK];
            for (int d = first[k]; d < at[k]; d++) {
                own[d - first[k]] = tarn_axes_of(t, side[k], d);
            }
            run[k] = at[k] - first[k] == 1 ? own[0] : tarn_axes_product_of(t, at[k] - first[k], own);
        }
        tarn_axes_unify(t, run[0], run[1]);
    }
}

// ---- permute: attr.i = order; dimension k of the result is dimension order[k] ----

INFER(infer_permute) {
    (void)nin;
    *out = in[0];
    bool seen[TARN_MAX_RANK] = {false};
    if (a->ni != in[0].rank) {
        TARN_RAISE(err, "Axis", "%d dimensions named for a tensor of rank %d", a->ni,
                   in[0].rank);
    }
    for (int k = 0; k < a->ni; k++) {
        if (a->i[k] < 0 || a->i[k] >= in[0].rank || seen[a->i[k]]) {
            TARN_RAISE(err, "Axis", "every dimension 1 to %d once", in[0].rank);
        }
        seen[a->i[k]] = true;
        out->shape[k] = in[0].shape[a->i[k]];
    }
    return TARN_OK;
}
VIEW(view_permute) {
    with_shape(in, d, out);
    for (int k = 0; k < a->ni; k++) {
        out->stride[k] = in->stride[a->i[k]];
    }
    return true;
}
TARN_VJP(vjp_permute) {
    (void)which;
    int64_t back[TARN_MAX_RANK] = {0};
    for (int k = 0; k < y->attr.ni; k++) {
        back[y->attr.i[k]] = k;
    }
    return tarn_permute(g, gy, back);
}
TARN_JVP(jvp_permute) { return dx[0] ? tarn_permute(g, dx[0], y->attr.i) : NULL; }
static void axes_permute(tarn_axes *t, const tarn_node *y) {
    for (int k = 0; k < y->attr.ni; k++) {
        tarn_axes_link(t, X, (int)y->attr.i[k], y, k, TARN_GROUP_LINEAR);
    }
}

// ---- broadcast_to: attr.i = shape ----

INFER(infer_broadcast) {
    (void)nin;
    *out = in[0];
    out->weak = false;
    out->rank = a->ni;
    if (a->ni > TARN_MAX_RANK) {
        TARN_RAISE(err, "Rank", "expected at most %d dimensions, got %d", TARN_MAX_RANK, a->ni);
    }
    bool fits = a->ni >= in[0].rank;
    for (int k = 0; fits && k < in[0].rank; k++) {
        int64_t s = in[0].shape[k];
        fits = s == 1 || s == a->i[k + a->ni - in[0].rank];
    }
    if (!fits) {
        TARN_RAISE(err, "ShapeMismatch", "a shape of rank %d does not stretch to the one asked for, of rank %d",
                   in[0].rank, a->ni);
    }
    memcpy(out->shape, a->i, (size_t)a->ni * sizeof *a->i);
    return TARN_OK;
}
VIEW(view_broadcast) {
    (void)a;
    with_shape(in, d, out);
    int extra = d->rank - in->rank;
    for (int k = 0; k < d->rank; k++) {
        bool own = k >= extra && in->shape[k - extra] == d->shape[k];
        out->stride[k] = own ? in->stride[k - extra] : 0;
    }
    return true;
}
TARN_VJP(vjp_broadcast) {
    (void)which;
    return tarn_unbroadcast(g, gy, X);
}
TARN_JVP(jvp_broadcast) {
    return dx[0] ? tarn_broadcast(g, dx[0], y->desc.rank, y->desc.shape) : NULL;
}

// Along a new or stretched dimension every element is the same: only permutations keep that.
static void axes_broadcast(tarn_axes *t, const tarn_node *y) {
    int extra = y->desc.rank - X->desc.rank;
    for (int k = 0; k < y->desc.rank; k++) {
        if (k >= extra && X->desc.shape[k - extra] == y->desc.shape[k]) {
            tarn_axes_link(t, X, k - extra, y, k, TARN_GROUP_LINEAR);
        } else {
            tarn_axes_limit(t, y, k, TARN_GROUP_PERMUTATION);
        }
    }
}

// ---- slice: attr.i = {start, count, step} for each dimension ----

INFER(infer_slice) {
    (void)nin;
    *out = in[0];
    out->weak = false;
    if (a->ni != 3 * in[0].rank) {
        TARN_RAISE(err, "Axis", "one range for each of %d dimensions", in[0].rank);
    }
    for (int k = 0; k < in[0].rank; k++) {
        int64_t start = a->i[3 * k], count = a->i[3 * k + 1], step = a->i[3 * k + 2];
        int64_t span;
        bool fits = start >= 0 && count >= 0 && step >= 1 &&
                    !__builtin_mul_overflow(count > 0 ? count - 1 : 0, step, &span) &&
                    (count == 0 ? start <= in[0].shape[k]
                                : start < in[0].shape[k] && span < in[0].shape[k] - start);
        if (!fits) {
            TARN_RAISE(err, "IndexRange",
                       "dimension %d has %lld elements; asked for %lld from %lld, step %lld",
                       k + 1, (long long)in[0].shape[k], (long long)count, (long long)start + 1,
                       (long long)step);
        }
        out->shape[k] = count;
    }
    return TARN_OK;
}
VIEW(view_slice) {
    with_shape(in, d, out);
    for (int k = 0; k < in->rank; k++) {
        out->offset += a->i[3 * k] * in->stride[k];
        out->stride[k] = in->stride[k] * a->i[3 * k + 2];
    }
    return true;
}
// The gradient goes back into zeros of x's shape: `pad` is the adjoint of `slice`.
TARN_VJP(vjp_slice) {
    (void)which;
    int64_t i[4 * TARN_MAX_RANK];
    int r = X->desc.rank;
    memcpy(i, y->attr.i, (size_t)(3 * r) * sizeof *i);
    memcpy(i + 3 * r, X->desc.shape, (size_t)r * sizeof *i);
    tarn_attr a = {.ni = 4 * r, .i = i};
    return tarn_node_make(g, &tarn_op_pad, 1, &gy, &a);
}
TARN_JVP(jvp_slice) {
    return dx[0] ? tarn_node_make(g, &tarn_op_slice, 1, dx, &y->attr) : NULL;
}

static void axes_slice(tarn_axes *t, const tarn_node *y) { tarn_axes_window(t, X, y, y->attr.i); }

// ---- item: attr.i = {index}; one element of a vector as a bare number ----

INFER(infer_item) {
    (void)nin;
    if (a->ni != 1 || in[0].rank != 1 || a->i[0] < 0 || a->i[0] >= in[0].shape[0]) {
        TARN_RAISE(err, "IndexRange", "element %lld of a vector of %lld (rank %d)",
                   a->ni == 1 ? (long long)a->i[0] + 1 : 0, (long long)in[0].shape[0], in[0].rank);
    }
    *out = (tarn_desc){.dtype = in[0].dtype, .weak = true};
    return TARN_OK;
}
VIEW(view_item) {
    with_shape(in, d, out);
    out->offset += a->i[0] * in->stride[0];
    return true;
}
TARN_VJP(vjp_item) {
    (void)which;
    int64_t one = 1, i[4] = {y->attr.i[0], 1, 1, X->desc.shape[0]};
    tarn_attr a = {.ni = 4, .i = i};
    gy = tarn_cast(g, tarn_reshape(g, gy, 1, &one), tarn_dtype_compute(X->desc.dtype));
    return tarn_node_make(g, &tarn_op_pad, 1, &gy, &a);
}
TARN_JVP(jvp_item) {
    return dx[0] ? tarn_node_make(g, &tarn_op_item, 1, dx, &y->attr) : NULL;
}
static void axes_item(tarn_axes *t, const tarn_node *y) {
    tarn_axes_limit(t, X, 0, TARN_GROUP_NONE);
    (void)y;
}

// clang-format off
#define ROW(NAME, ...)                                                                    \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_VIEW,  \
                                    .min_in = 1, .max_in = 1, __VA_ARGS__};
ROW(reshape, .infer = infer_reshape, .view = view_reshape, .same_order = true, .vjp = vjp_reshape, .jvp = jvp_reshape, .axes = axes_reshape,
    .summary = "the same elements in row-major order, in another shape")
ROW(permute, .infer = infer_permute, .view = view_permute, .vjp = vjp_permute, .jvp = jvp_permute, .axes = axes_permute,
    .summary = "the same tensor with its dimensions in another order")
ROW(broadcast_to, .infer = infer_broadcast, .view = view_broadcast, .vjp = vjp_broadcast, .jvp = jvp_broadcast, .axes = axes_broadcast,
    .summary = "the same tensor repeated along dimensions of size 1 and new leading ones")
ROW(slice, .infer = infer_slice, .view = view_slice, .vjp = vjp_slice, .jvp = jvp_slice, .axes = axes_slice,
    .summary = "a range of every dimension: start, count, step")
ROW(item, .infer = infer_item, .view = view_item, .vjp = vjp_item, .jvp = jvp_item, .axes = axes_item,
    .summary = "one element of a vector as a bare number")
// clang-format on
