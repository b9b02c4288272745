// SPDX-License-Identifier: Apache-2.0
// Convolutions of channels-last images: the value, the gradient of the input and the gradient of
// the weight. They are the partial sums of one trilinear form <conv(x, w), y>, so each one's
// derivatives are the other two, with the same attributes, and derivatives of every order stay
// within the three rows. The arithmetic is in convolve.c.
#include "vm/base/size.h"
#include "vm/op/axes.h"
#include "vm/op/convolve.h"
#include "vm/op/rules.h"

// The operands of the form. Attributes: stride, padding, dilation (each height, width), groups,
// kernel height and width, height and width of x.
enum { IMAGE, WEIGHT, MAP, ROLES };
enum { SH, SW, PH, PW, DH, DW, GROUPS, KH, KW, H, W, ATTRIBUTES };

typedef struct {
    int in[2], out;
} roles;

static roles roles_of(const tarn_op *op) {
    static const roles forward = {{IMAGE, WEIGHT}, MAP}, input = {{MAP, WEIGHT}, IMAGE},
                       weight = {{IMAGE, MAP}, WEIGHT};
    return op == &tarn_op_conv2d ? forward : op == &tarn_op_conv2d_input ? input : weight;
}
static const tarn_op *row_for(int out) {
    return out == MAP     ? &tarn_op_conv2d
           : out == IMAGE ? &tarn_op_conv2d_input
                          : &tarn_op_conv2d_weight;
}

// ---- shapes ----

static tarn_status check_attributes(const tarn_attr *a, tarn_error *err) {
    static const char *const names[] = {
        "stride", "stride",        "padding",      "padding",      "dilation",   "dilation",
        "groups", "kernel height", "kernel width", "image height", "image width"};
    if (a->ni != ATTRIBUTES) {
        TARN_RAISE(err, "Argument",
                   "attributes are stride, padding, dilation, groups, kernel and image");
    }
    for (int k = 0; k < ATTRIBUTES; k++) {
        int64_t low = k == PH || k == PW || k == H || k == W ? 0 : 1;
        if (a->i[k] < low || a->i[k] > INT32_MAX) {
            TARN_RAISE(err, "Argument", "%s is %lld; expected %lld to 2^31", names[k],
                       (long long)a->i[k], (long long)low);
        }
    }
    return TARN_OK;
}

// Places of the kernel along one axis: 1 + (size + 2 padding - reach) / stride.
static tarn_status places(const tarn_attr *a, int axis, int64_t *n, tarn_error *err) {
    int64_t size = a->i[H + axis], reach = (a->i[KH + axis] - 1) * a->i[DH + axis] + 1;
    int64_t room = size + 2 * a->i[PH + axis] - reach;
    if (room < 0) {
        TARN_RAISE(err, "ShapeMismatch",
                   "a kernel of %s %lld with dilation %lld reaches over %lld pixels; the image has "
                   "%lld, with padding %lld",
                   axis ? "width" : "height", (long long)a->i[KH + axis],
                   (long long)a->i[DH + axis], (long long)reach, (long long)size,
                   (long long)(size + 2 * a->i[PH + axis]));
    }
    *n = room / a->i[SH + axis] + 1;
    return TARN_OK;
}

static tarn_status rank_4(const tarn_desc *d, int role, tarn_error *err) {
    static const char *const what[] = {"the image [n, height, width, channels]",
                                       "the weight [out, in / groups, height, width]",
                                       "the map [n, height, width, channels]"};
    if (d->rank != 4) {
        TARN_RAISE(err, "Rank", "expected %s, got rank %d", what[role], d->rank);
    }
    return TARN_OK;
}

static tarn_status two_axes(const tarn_desc *d, const char *what, int axis, int64_t h, int64_t w,
                            tarn_error *err) {
    if (d->shape[axis] != h || d->shape[axis + 1] != w) {
        TARN_RAISE(err, "ShapeMismatch", "expected %s of %lld x %lld, got %lld x %lld", what,
                   (long long)h, (long long)w, (long long)d->shape[axis],
                   (long long)d->shape[axis + 1]);
    }
    return TARN_OK;
}

static tarn_status check_channels(const tarn_desc *const d[ROLES], int64_t groups,
                                  tarn_error *err) {
    const tarn_desc *x = d[IMAGE], *w = d[WEIGHT], *y = d[MAP];
    int64_t in = x ? x->shape[3] : 0, out = y ? y->shape[3] : w->shape[0];
    if (!x && !tarn_mul_i64(w->shape[1], groups, &in)) {
        TARN_RAISE(err, "Overflow", "groups times the weight's channels pass 2^63");
    }
    if (in % groups != 0 || out % groups != 0) {
        TARN_RAISE(err, "ShapeMismatch", "groups = %lld must divide %lld channels in and %lld out",
                   (long long)groups, (long long)in, (long long)out);
    }
    if (w && x && w->shape[1] != in / groups) {
        TARN_RAISE(
            err, "ShapeMismatch",
            "expected a weight of %lld channels in (%lld of the image, groups = %lld), got %lld",
            (long long)(in / groups), (long long)in, (long long)groups, (long long)w->shape[1]);
    }
    if (w && y && w->shape[0] != out) {
        TARN_RAISE(err, "ShapeMismatch",
                   "expected a map of %lld channels, as the weight has, got %lld",
                   (long long)w->shape[0], (long long)out);
    }
    if (x && y && x->shape[0] != y->shape[0]) {
        TARN_RAISE(err, "ShapeMismatch", "expected a map of %lld images, got %lld",
                   (long long)x->shape[0], (long long)y->shape[0]);
    }
    return TARN_OK;
}

// The form that a row's operands are part of.
static tarn_status form_of(roles r, const tarn_desc *in, const tarn_attr *a, tarn_conv *s,
                           tarn_error *err) {
    const tarn_desc *d[ROLES] = {NULL};
    bool wide = false;
    int64_t oh = 0, ow = 0;
    TARN_TRY(check_attributes(a, err));
    for (int k = 0; k < 2; k++) {
        d[r.in[k]] = &in[k];
        TARN_TRY(rank_4(&in[k], r.in[k], err));
        wide = wide || tarn_dtype_compute(in[k].dtype) == TARN_F64;
    }
    const int64_t *i = a->i;
    TARN_TRY(check_channels(d, i[GROUPS], err));
    if (d[WEIGHT]) {
        TARN_TRY(two_axes(d[WEIGHT], "a kernel", 2, i[KH], i[KW], err));
    }
    if (d[IMAGE]) {
        TARN_TRY(two_axes(d[IMAGE], "an image", 1, i[H], i[W], err));
    }
    TARN_TRY(places(a, 0, &oh, err));
    TARN_TRY(places(a, 1, &ow, err));
    if (d[MAP]) {
        TARN_TRY(two_axes(d[MAP], "a map", 1, oh, ow, err));
    }
    const tarn_desc *x = d[IMAGE], *w = d[WEIGHT], *y = d[MAP];
    *s = (tarn_conv){.dtype = wide ? TARN_F64 : TARN_F32,
                     .n = x ? x->shape[0] : y->shape[0],
                     .h = i[H],
                     .w = i[W],
                     .c = x ? x->shape[3] : w->shape[1] * i[GROUPS],
                     .oh = oh,
                     .ow = ow,
                     .o = y ? y->shape[3] : w->shape[0],
                     .kh = i[KH],
                     .kw = i[KW],
                     .groups = i[GROUPS],
                     .sh = i[SH],
                     .sw = i[SW],
                     .ph = i[PH],
                     .pw = i[PW],
                     .dh = i[DH],
                     .dw = i[DW]};
    return TARN_OK;
}

static tarn_status infer(roles r, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                         tarn_error *err) {
    tarn_conv s;
    TARN_TRY(form_of(r, in, a, &s, err));
    const int64_t shape[ROLES][4] = {[IMAGE] = {s.n, s.h, s.w, s.c},
                                     [WEIGHT] = {s.o, s.c / s.groups, s.kh, s.kw},
                                     [MAP] = {s.n, s.oh, s.ow, s.o}};
    *out = (tarn_desc){.dtype = s.dtype, .rank = 4};
    for (int k = 0; k < 4; k++) {
        out->shape[k] = shape[r.out][k];
    }
    return TARN_OK;
}

static tarn_status apply(roles r, tarn_context *cx, const tarn_tensor *in, const tarn_attr *a,
                         const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    tarn_conv s;
    tarn_desc desc[2];
    tarn_tensor plain[2] = {{0}};
    const void *data[ROLES] = {NULL};
    tarn_desc_of(&in[0], &desc[0]);
    tarn_desc_of(&in[1], &desc[1]);
    TARN_TRY(form_of(r, desc, a, &s, err));
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status status = TARN_OK;
    for (int k = 0; k < 2 && status == TARN_OK; k++) {
        status = tarn_tensor_plain(cx, &in[k], d->dtype, &plain[k], err);
        data[r.in[k]] = status == TARN_OK ? tarn_tensor_data(&plain[k]) : NULL;
    }
    if (status == TARN_OK) {
        void *to = tarn_tensor_data(out);
        status = r.out == MAP     ? tarn_conv_forward(cx, &s, data[IMAGE], data[WEIGHT], to, err)
                 : r.out == IMAGE ? tarn_conv_input(cx, &s, data[MAP], data[WEIGHT], to, err)
                                  : tarn_conv_weight(cx, &s, data[IMAGE], data[MAP], to, err);
    }
    tarn_tensor_release(&plain[0]);
    tarn_tensor_release(&plain[1]);
    if (status != TARN_OK) {
        tarn_tensor_release(out);
    }
    return status;
}

// Operands that are not plain are copied.
static size_t workspace(roles r, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    tarn_conv s;
    if (form_of(r, in, a, &s, NULL) != TARN_OK) {
        return 0;
    }
    size_t bytes = r.out == MAP     ? tarn_conv_forward_bytes(&s, threads)
                   : r.out == IMAGE ? tarn_conv_input_bytes(&s, threads)
                                    : tarn_conv_weight_bytes(&s, threads);
    return bytes + tarn_dtype_bytes(out->dtype, tarn_desc_numel(&in[0])) +
           tarn_dtype_bytes(out->dtype, tarn_desc_numel(&in[1]));
}

// ---- derivatives ----

// The row that yields `out` from the other two operands of the form.
static const tarn_node *product(tarn_graph *g, const tarn_node *const value[ROLES], int out,
                                const tarn_attr *a) {
    roles r = roles_of(row_for(out));
    const tarn_node *in[2] = {value[r.in[0]], value[r.in[1]]};
    return tarn_node_make(g, row_for(out), 2, in, a);
}
TARN_VJP(vjp_conv) {
    roles r = roles_of(y->op);
    const tarn_node *value[ROLES];
    value[r.in[0]] = y->in[0];
    value[r.in[1]] = y->in[1];
    value[r.out] = gy;
    const tarn_node *d = product(g, value, r.in[which], &y->attr);
    return d ? tarn_unbroadcast(g, d, y->in[which]) : NULL;
}
TARN_JVP(jvp_conv) {
    const tarn_node *left[2] = {dx[0], y->in[1]}, *right[2] = {y->in[0], dx[1]};
    return tarn_add_opt(g, dx[0] ? tarn_node_make(g, y->op, 2, left, &y->attr) : NULL,
                        dx[1] ? tarn_node_make(g, y->op, 2, right, &y->attr) : NULL);
}

// What the kernel sees at each place, [n, oh, ow, channels kh kw] in the weight's order: the convolution
// of each channel by itself with kernels that are one at one place.
static const tarn_node *patches(tarn_graph *g, const tarn_node *x, const tarn_attr *a) {
    int64_t i[ATTRIBUTES], size = a->i[KH] * a->i[KW], c = x->desc.shape[3];
    const int64_t column[2] = {size, 1}, each[3] = {c, size, size}, kernel[4] = {c * size, 1, a->i[KH], a->i[KW]};
    for (int k = 0; k < ATTRIBUTES; k++) {
        i[k] = k == GROUPS ? c : a->i[k];
    }
    const tarn_node *place = tarn_iota(g, size);
    const tarn_node *one = tarn_eq(g, tarn_reshape(g, place, 2, column), place);
    one = tarn_broadcast(g, tarn_cast(g, one, tarn_dtype_compute(x->desc.dtype)), 3, each);
    const tarn_node *in[2] = {x, tarn_reshape(g, one, 4, kernel)};
    tarn_attr own = {.ni = ATTRIBUTES, .i = i};
    return in[1] ? tarn_node_make(g, &tarn_op_conv2d, 2, in, &own) : NULL;
}
static bool examples_conv2d(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which,
                            int64_t n, tarn_examples *out) {
    if (which != 1 || y->in[0]->desc.shape[0] != n || tarn_desc_numel(&y->desc) == 0) {
        return false;
    }
    const int64_t *w = y->in[1]->desc.shape, groups = y->attr.i[GROUPS], order[4] = {0, 2, 1, 3};
    const int64_t t = y->desc.shape[1] * y->desc.shape[2];
    const int64_t left[4] = {n, t, groups, w[0] / groups}, right[4] = {n, t, groups, w[1] * w[2] * w[3]};
    const tarn_node *x = tarn_reshape(g, patches(g, y->in[0], &y->attr), 4, right);
    out->left = tarn_permute(g, tarn_reshape(g, gy, 4, left), order);
    out->right = tarn_permute(g, x, order);
    return true;
}

// ---- axes: channels move as those of a product, groups of them as wholes, images freely, pixels not at all ----

static void axes_conv(tarn_axes *t, const tarn_node *y) {
    roles r = roles_of(y->op);
    const tarn_node *v[ROLES];
    v[r.in[0]] = y->in[0];
    v[r.in[1]] = y->in[1];
    v[r.out] = y;
    const tarn_node *x = v[IMAGE], *w = v[WEIGHT], *m = v[MAP];
    tarn_axes_link(t, x, 0, m, 0, TARN_GROUP_LINEAR);
    for (int k = 1; k < 3; k++) {
        tarn_axes_limit(t, x, k, TARN_GROUP_NONE);
        tarn_axes_limit(t, m, k, TARN_GROUP_NONE);
        tarn_axes_limit(t, w, k + 1, TARN_GROUP_NONE);
    }
    int64_t groups = y->attr.i[GROUPS], out = w->desc.shape[0] / (groups > 0 ? groups : 1);
    tarn_axis group = tarn_axes_atom(t, groups, TARN_GROUP_PERMUTATION), into = tarn_axes_of(t, w, 1);
    tarn_axis product[2] = {group, {into.term, !into.dual}};
    tarn_axes_unify(t, tarn_axes_of(t, x, 3), tarn_axes_product_of(t, 2, product));
    product[1] = tarn_axes_atom(t, out, TARN_GROUP_LINEAR);
    tarn_axes_unify(t, tarn_axes_of(t, w, 0), tarn_axes_product_of(t, 2, product));
    tarn_axes_link(t, m, 3, w, 0, TARN_GROUP_LINEAR);
    tarn_axes_mix(t, x, 1u << 3, 0);
    tarn_axes_mix(t, w, 1u << 1, 1u << 0);
}

// ---- the rows ----

#define ROW(NAME, EXAMPLES, SUMMARY)                                                              \
    static tarn_status infer_##NAME(int nin, const tarn_desc *in, const tarn_attr *a,              \
                                    tarn_desc *out, tarn_error *err) {                             \
        (void)nin;                                                                                 \
        return infer(roles_of(&tarn_op_##NAME), in, a, out, err);                                  \
    }                                                                                              \
    static tarn_status apply_##NAME(tarn_context *cx, int nin, const tarn_tensor *in,              \
                                    const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,      \
                                    tarn_error *err) {                                             \
        (void)nin;                                                                                 \
        return apply(roles_of(&tarn_op_##NAME), cx, in, a, d, out, err);                           \
    }                                                                                              \
    static size_t workspace_##NAME(int nin, const tarn_desc *in, const tarn_attr *a,               \
                                   const tarn_desc *out, int threads) {                            \
        (void)nin;                                                                                 \
        return workspace(roles_of(&tarn_op_##NAME), in, a, out, threads);                          \
    }                                                                                              \
    const tarn_op tarn_op_##NAME = {.name = #NAME,                                                 \
                                    .version = 1,                                                  \
                                    .cls = TARN_CLASS_WHOLE,                                       \
                                    .min_in = 2,                                                   \
                                    .max_in = 2,                                                   \
                                    .infer = infer_##NAME,                                         \
                                    .apply = apply_##NAME,                                         \
                                    .placed = true,                                                \
                                    .workspace = workspace_##NAME,                                 \
                                    .vjp = vjp_conv,                                               \
                                    .jvp = jvp_conv,                                               \
                                    .examples = EXAMPLES,                                          \
                                    .axes = axes_conv,                                             \
                                    .summary = SUMMARY};
ROW(conv2d, examples_conv2d,
    "convolution of channels-last images with a weight [out, in / groups, height, width]")
ROW(conv2d_input, NULL,
    "gradient of a convolution by its image: a map convolved with the transposed weight")
ROW(conv2d_weight, NULL, "gradient of a convolution by its weight: images against maps")
