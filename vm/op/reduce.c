// SPDX-License-Identifier: Apache-2.0
// The reduction rows: reducers (leaf, join, finish), derivatives, axis rules. All accumulate in f64.
// kth keeps the k largest values exactly, ties to the lowest index; its result is a threshold and
// the index up to which equals are kept, which the row `top` turns into a mask. Integers are folded
// as f64: exact up to 2^53.
#include <math.h>
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/infer.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"

// ---- sum, dot ----

static void lanes_open(void *acc) { memset(acc, 0, sizeof(tarn_acc_lanes)); }
static void lanes_close(const void *acc, void *part) {
    tarn_acc_lanes l;
    memcpy(&l, acc, sizeof l);
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            l.lane[i] += l.lane[i + half];
        }
    }
    *(double *)part = l.lane[0];
}
static void sum_join(void *part, const void *next) {
    *(double *)part += *(const double *)next;
}
static bool number_finish(const void *part, int64_t n, const tarn_attr *a, void *state,
                          double *out) {
    (void)n, (void)a, (void)state;
    *out = *(const double *)part;
    return true;
}
static const tarn_reducer lanes = {.acc = sizeof(tarn_acc_lanes), .part = sizeof(double),
                                   .open = lanes_open, .close = lanes_close, .join = sum_join,
                                   .finish = number_finish};

// ---- max, min ----

static void max_open(void *acc) { *(tarn_acc_extreme *)acc = (tarn_acc_extreme){-INFINITY, 0}; }
static void min_open(void *acc) { *(tarn_acc_extreme *)acc = (tarn_acc_extreme){INFINITY, 0}; }
static void extreme_close(const void *acc, void *part) { memcpy(part, acc, sizeof(double)); }
static void max_join(void *part, const void *next) {
    double a = *(double *)part, b = *(const double *)next;
    *(double *)part = b > a || b != b ? b : a;
}
static void min_join(void *part, const void *next) {
    double a = *(double *)part, b = *(const double *)next;
    *(double *)part = b < a || b != b ? b : a;
}
static const tarn_reducer greatest = {.acc = sizeof(tarn_acc_extreme), .part = sizeof(double),
                                      .open = max_open, .close = extreme_close,
                                      .join = max_join, .finish = number_finish,
                                      .start = -INFINITY};
static const tarn_reducer least = {.acc = sizeof(tarn_acc_extreme), .part = sizeof(double),
                                   .open = min_open, .close = extreme_close,
                                   .join = min_join, .finish = number_finish, .start = INFINITY};

// ---- argmax, argmin ----

static void arg_open(void *acc) {
    tarn_acc_arg *e = acc;
    e->value = 0;
    e->index = -1;
}
static void arg_close(const void *acc, void *part) { memcpy(part, acc, sizeof(tarn_acc_arg)); }
static void argmax_join(void *part, const void *next) {
    tarn_acc_arg *a = part;
    const tarn_acc_arg *b = next;
    if (b->index >= 0 && (a->index < 0 || b->value > a->value ||
                          (b->value != b->value && a->value == a->value))) {
        *a = *b;
    }
}
static void argmin_join(void *part, const void *next) {
    tarn_acc_arg *a = part;
    const tarn_acc_arg *b = next;
    if (b->index >= 0 && (a->index < 0 || b->value < a->value ||
                          (b->value != b->value && a->value == a->value))) {
        *a = *b;
    }
}
static bool arg_finish(const void *part, int64_t n, const tarn_attr *a, void *state, double *out) {
    (void)n, (void)a, (void)state;
    *out = (double)((const tarn_acc_arg *)part)->index;
    return true;
}
static const tarn_reducer arg_greatest = {.acc = sizeof(tarn_acc_arg), .part = sizeof(tarn_acc_arg),
                                          .open = arg_open, .close = arg_close,
                                          .join = argmax_join, .finish = arg_finish, .start = -1};
static const tarn_reducer arg_least = {.acc = sizeof(tarn_acc_arg), .part = sizeof(tarn_acc_arg),
                                       .open = arg_open, .close = arg_close, .join = argmin_join,
                                       .finish = arg_finish, .start = -1};

// ---- kth: attr.i = {0, scope, k, bits}, attr.f = {density}; k = 0: max(1, trunc(density n));
// k = -1: trunc(density m) of the m elements that are not zero, where none is negative; the threshold
// is +infinity when that is none; k > 0 with a density below 0: only the value is wanted, no sweeps to
// tell its equals apart ----

static void kth_begin(const tarn_attr *a, int64_t n, void *state) {
    tarn_kth_state *s = state;
    memset(s, 0, sizeof *s);
    s->n = n;
    s->k = a->i[2] > 0 ? a->i[2] : (int64_t)(a->f[0] * (double)n);
    s->k = s->k < 1 ? 1 : s->k > n ? n : s->k;
    s->bits = (int)a->i[3];
    s->shift = s->bits - 16;
}
enum { KTH_COUNTS = TARN_KTH_BINS + 1 };  // the last one is that of zeros
static void kth_open(void *acc) { memset(acc, 0, KTH_COUNTS * sizeof(uint64_t)); }
static void kth_close(const void *acc, void *part) {
    memcpy(part, acc, KTH_COUNTS * sizeof(uint64_t));
}
static void kth_join(void *part, const void *next) {
    uint64_t *a = part;
    const uint64_t *b = next;
    for (int i = 0; i < KTH_COUNTS; i++) {
        a[i] += b[i];
    }
}
static double value_of_key(const tarn_kth_state *s) {
    if (s->bits == 64) {
        uint64_t u = s->prefix >> 63 ? s->prefix & ~(1ULL << 63) : ~s->prefix;
        double v;
        memcpy(&v, &u, sizeof v);
        return v;
    }
    uint32_t k = (uint32_t)s->prefix, u = k >> 31 ? k & 0x7FFFFFFFU : ~k;
    float v;
    memcpy(&v, &u, sizeof v);
    return (double)v;
}
// One digit is known after each sweep. Values are searched from the largest, indices from the
// smallest.
static bool kth_finish(const void *part, int64_t n, const tarn_attr *a, void *state, double *out) {
    const uint64_t *bin = part;
    tarn_kth_state *s = state;
    int64_t seen = 0;
    if (a->i[2] < 0 && !s->index_phase && s->shift == s->bits - 16) {
        s->k = (int64_t)(a->f[0] * (double)(n - (int64_t)bin[TARN_KTH_BINS]));
        if (s->k < 1) {
            out[0] = INFINITY;
            out[1] = -1;
            return true;
        }
    }
    if (!s->index_phase) {
        int b = TARN_KTH_BINS - 1;
        while (b > 0 && seen + (int64_t)bin[b] < s->k) {
            seen += (int64_t)bin[b--];
        }
        s->prefix = s->prefix << 16 | (uint64_t)b;
        s->k -= seen;
        if (s->shift > 0) {
            s->shift -= 16;
            return false;
        }
        out[0] = value_of_key(s);
        if ((int64_t)bin[b] == s->k || a->f[0] < 0) {
            out[1] = (double)n;
            return true;
        }
        s->index_phase = 1;
        int top = 64 - __builtin_clzll((unsigned long long)(n | 1));
        s->index_shift = (top + 15) / 16 * 16 - 16;
        return false;
    }
    int b = 0;
    while (b < TARN_KTH_BINS - 1 && seen + (int64_t)bin[b] < s->k) {
        seen += (int64_t)bin[b++];
    }
    s->index_prefix = s->index_prefix << 16 | (uint64_t)b;
    s->k -= seen;
    if (s->index_shift > 0) {
        s->index_shift -= 16;
        return false;
    }
    out[0] = value_of_key(s);
    out[1] = (double)s->index_prefix;
    return true;
}
// Once digits of the index are known, only those positions matter.
static void kth_window(const void *state, int64_t *from, int64_t *to) {
    const tarn_kth_state *s = state;
    int high = s->index_shift + 16;
    if (s->index_phase && high < 48) {
        *from = (int64_t)(s->index_prefix << high);
        *to = *from + ((int64_t)1 << high);
    }
}
static const tarn_reducer selection = {.acc = KTH_COUNTS * sizeof(uint64_t),
                                       .part = KTH_COUNTS * sizeof(uint64_t),
                                       .state = sizeof(tarn_kth_state), .exact = true, .outputs = 2,
                                       .begin = kth_begin, .open = kth_open, .close = kth_close,
                                       .join = kth_join, .finish = kth_finish,
                                       .window = kth_window};

// ---- derivatives ----

#define X (y->in[0])

// A gradient or value of the reduced shape, spread over the shape of x.
static const tarn_node *spread(tarn_graph *g, const tarn_node *r, const tarn_node *y,
                               const tarn_node *x) {
    if (!r) {
        return NULL;
    }
    bool reduced[TARN_MAX_RANK];
    int64_t kept[TARN_MAX_RANK];
    tarn_reduce_axes(&y->attr, x->desc.rank, reduced);
    for (int d = 0; d < x->desc.rank; d++) {
        kept[d] = reduced[d] ? 1 : x->desc.shape[d];
    }
    if (r->desc.rank > 0) {
        r = tarn_reshape(g, r, x->desc.rank, kept);
    }
    tarn_dtype t = tarn_dtype_compute(x->desc.dtype);
    if (r && r->desc.dtype != t && tarn_dtype_is_float(t)) {
        r = tarn_cast(g, r, t);
    }
    return tarn_broadcast(g, r, x->desc.rank, x->desc.shape);
}
// The same reduction of another tensor of x's shape.
static const tarn_node *again(tarn_graph *g, const tarn_op *op, const tarn_node *x,
                              const tarn_node *y) {
    return tarn_node_make(g, op, 1, &x, &y->attr);
}
TARN_VJP(vjp_sum) {
    (void)which;
    return spread(g, gy, y, X);
}
TARN_JVP(jvp_sum) { return dx[0] ? again(g, &tarn_op_sum, dx[0], y) : NULL; }
TARN_VJP(vjp_dot) {
    const tarn_node *other = y->in[1 - which];
    return tarn_unbroadcast(g, tarn_mul(g, gy, other), y->in[which]);
}
TARN_JVP(jvp_dot) {
    const tarn_node *a = dx[0] ? tarn_dot(g, dx[0], y->in[1]) : NULL;
    const tarn_node *b = dx[1] ? tarn_dot(g, y->in[0], dx[1]) : NULL;
    return tarn_add_opt(g, a, b);
}
// max and min: equal shares to all places where the extreme is taken (PyTorch's amax).
static const tarn_node *extreme_share(tarn_graph *g, const tarn_node *y) {
    const tarn_node *at = tarn_eq(g, X, spread(g, y, y, X));
    const tarn_node *one = tarn_cast(g, at, tarn_dtype_compute(X->desc.dtype));
    return tarn_div(g, one, spread(g, again(g, &tarn_op_sum, one, y), y, X));
}
TARN_VJP(vjp_extreme) {
    (void)which;
    return tarn_mul(g, spread(g, gy, y, X), extreme_share(g, y));
}
TARN_JVP(jvp_extreme) {
    return dx[0] ? again(g, &tarn_op_sum, tarn_mul(g, dx[0], extreme_share(g, y)), y) : NULL;
}
// kth: the threshold moves with the elements that take it, in equal shares; the index does not.
static const tarn_node *threshold_share(tarn_graph *g, const tarn_node *y) {
    tarn_dtype t = tarn_dtype_compute(X->desc.dtype);
    const tarn_node *at = tarn_cast(g, tarn_eq(g, X, tarn_item(g, y, 0)), t);
    return tarn_div(g, at, tarn_total(g, &tarn_op_sum, at));
}
TARN_VJP(vjp_kth) {
    (void)which;
    return tarn_mul(g, threshold_share(g, y), tarn_item(g, gy, 0));
}
TARN_JVP(jvp_kth) {
    const int64_t one = 1, at[4] = {0, 1, 1, 2};
    if (!dx[0]) {
        return NULL;
    }
    const tarn_node *moved = tarn_dot(g, dx[0], threshold_share(g, y));
    tarn_attr a = {.ni = 4, .i = at};
    moved = tarn_cast(g, tarn_reshape(g, moved, 1, &one), TARN_F64);
    return tarn_node_make(g, &tarn_op_pad, 1, &moved, &a);
}

// Reduced axes may be permuted at will; kept ones follow the input.
static void link_kept(tarn_axes *t, const tarn_node *y, tarn_group kept, tarn_group gone) {
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(&y->attr, X->desc.rank, reduced);
    int e = 0;
    for (int d = 0; d < X->desc.rank; d++) {
        if (reduced[d]) {
            tarn_axes_limit(t, X, d, gone);
            e += y->attr.i[0] ? 1 : 0;
        } else {
            tarn_axes_link(t, X, d, y, e++, kept);
        }
    }
}
static void axes_sum(tarn_axes *t, const tarn_node *y) {
    link_kept(t, y, TARN_GROUP_LINEAR, TARN_GROUP_PERMUTATION);
}
static void axes_extreme(tarn_axes *t, const tarn_node *y) {
    link_kept(t, y, TARN_GROUP_SCALED, TARN_GROUP_PERMUTATION);
}
static void axes_arg(tarn_axes *t, const tarn_node *y) {
    link_kept(t, y, TARN_GROUP_PERMUTATION, TARN_GROUP_NONE);
}
static void axes_dot(tarn_axes *t, const tarn_node *y) {
    for (int d = 0; d < X->desc.rank; d++) {
        tarn_axes_contract(t, X, d, y->in[1], d);
    }
}

// clang-format off
#define REDUCE(NAME, VERSION, ARITY, ...)                                                        \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = VERSION, .cls = TARN_CLASS_REDUCE, \
                                    .min_in = ARITY, .max_in = ARITY,                            \
                                    .kernel = TARN_KF_##NAME, __VA_ARGS__};
REDUCE(sum, 2, 1, .infer = tarn_infer_reduce, .reducer = &lanes, .vjp = vjp_sum, .jvp = jvp_sum, .axes = axes_sum,
       .lua = "r", .summary = "sum over all elements, or over dimensions; accumulated in f64",
       .example = "print(tensor { 1, 2, 3 }:sum())\n-- > 6.0")
REDUCE(dot, 1, 2, .infer = tarn_infer_reduce, .reducer = &lanes, .vjp = vjp_dot, .jvp = jvp_dot, .axes = axes_dot,
       .lua = "dd", .summary = "sum of x * y over all elements; products and sum in f64",
       .example = "print(tensor { 1, 2 }:dot(tensor { 3, 4 }))\n-- > 11.0")
REDUCE(max, 2, 1, .infer = tarn_infer_reduce, .reducer = &greatest, .vjp = vjp_extreme, .jvp = jvp_extreme, .axes = axes_extreme,
       .lua = "r", .summary = "largest element, over all or over dimensions; NaN wins",
       .example = "print(tensor { 1, 5, 2 }:max())\n-- > 5.0")
REDUCE(min, 2, 1, .infer = tarn_infer_reduce, .reducer = &least, .vjp = vjp_extreme, .jvp = jvp_extreme, .axes = axes_extreme,
       .lua = "r", .summary = "smallest element, over all or over dimensions; NaN wins",
       .example = "print(tensor { 4, 1, 2 }:min())\n-- > 1.0")
REDUCE(argmax, 1, 1, .infer = tarn_infer_arg, .reducer = &arg_greatest, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero, .axes = axes_arg,
       .lua = "a", .summary = "index (from 1) of the first largest element, over all (row-major) or one dimension",
       .example = "print(tensor { 1, 5, 2 }:argmax())\n-- > 2")
REDUCE(argmin, 1, 1, .infer = tarn_infer_arg, .reducer = &arg_least, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero, .axes = axes_arg,
       .lua = "a", .summary = "index (from 1) of the first smallest element, over all (row-major) or one dimension",
       .example = "print(tensor { 4, 1, 2 }:argmin())\n-- > 2")
REDUCE(kth, 1, 1, .infer = tarn_infer_kth, .reducer = &selection, .vjp = vjp_kth, .jvp = jvp_kth,
       .summary = "the k-th largest value and the index up to which its equals are kept: exact, in a "
                  "few sweeps")
// clang-format on
