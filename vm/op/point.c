// SPDX-License-Identifier: Apache-2.0
// The element-wise rows: what each is called, its kernel, its derivatives, its axis rule. The
// numbers are in kernel/isa_point.c.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/infer.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"

const tarn_node *tarn_vjp_zero(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)g, (void)y, (void)gy, (void)which;
    return NULL;
}

const tarn_node *tarn_jvp_zero(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    (void)g, (void)y, (void)dx;
    return NULL;
}

const tarn_node *tarn_add_opt(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    return !a ? b : !b ? a : tarn_add(g, a, b);
}

const tarn_node *tarn_unbroadcast(tarn_graph *g, const tarn_node *gy, const tarn_node *x) {
    if (!gy) {
        return NULL;
    }
    int64_t axes[TARN_MAX_RANK];
    int n = 0, extra = gy->desc.rank - x->desc.rank;
    for (int d = 0; d < gy->desc.rank; d++) {
        if (d < extra || (x->desc.shape[d - extra] == 1 && gy->desc.shape[d] != 1)) {
            axes[n++] = d;
        }
    }
    if (n == gy->desc.rank && n > 0) {
        gy = tarn_total(g, &tarn_op_sum, gy);
    } else if (n > 0) {
        gy = tarn_reduce(g, &tarn_op_sum, gy, n, axes, true);
    }
    gy = tarn_reshape(g, gy, x->desc.rank, x->desc.shape);
    tarn_dtype t = tarn_dtype_compute(x->desc.dtype);
    return gy && gy->desc.dtype != t ? tarn_cast(g, gy, t) : gy;
}

#define X (y->in[0])
#define Y (y->in[1])
#define OUT(which, node) return tarn_unbroadcast(g, (node), y->in[which])

// ---- arithmetic ----

TARN_VJP(vjp_add) { OUT(which, gy); }
TARN_JVP(jvp_add) {
    (void)y;
    return tarn_add_opt(g, dx[0], dx[1]);
}
TARN_VJP(vjp_sub) { OUT(which, which == 0 ? gy : tarn_neg(g, gy)); }
TARN_JVP(jvp_sub) {
    (void)y;
    return !dx[1] ? dx[0] : !dx[0] ? tarn_neg(g, dx[1]) : tarn_sub(g, dx[0], dx[1]);
}
TARN_VJP(vjp_mul) { OUT(which, tarn_mul(g, gy, y->in[1 - which])); }
TARN_JVP(jvp_mul) {
    return tarn_add_opt(g, dx[0] ? tarn_mul(g, dx[0], Y) : NULL,
                        dx[1] ? tarn_mul(g, X, dx[1]) : NULL);
}
TARN_VJP(vjp_div) {
    OUT(which, which == 0 ? tarn_div(g, gy, Y)
                          : tarn_neg(g, tarn_div(g, tarn_mul(g, gy, y), Y)));
}
TARN_JVP(jvp_div) {
    return tarn_add_opt(g, dx[0] ? tarn_div(g, dx[0], Y) : NULL,
                        dx[1] ? tarn_neg(g, tarn_div(g, tarn_mul(g, y, dx[1]), Y)) : NULL);
}
// d(x^p): p x^(p-1) dx + x^p log(x) dp, and zero at p = 0 and at x = 0 where the factors are 0 and
// infinite (PyTorch).
static const tarn_node *pow_slope(tarn_graph *g, const tarn_node *y, int which) {
    const tarn_node *zero = tarn_num(g, 0);
    if (which == 0) {
        const tarn_node *less = tarn_binary(g, &tarn_op_pow, X, tarn_sub(g, Y, tarn_num(g, 1)));
        return tarn_where(g, tarn_eq(g, Y, zero), zero, tarn_mul(g, Y, less));
    }
    const tarn_node *flat =
        tarn_binary(g, &tarn_op_logical_and, tarn_eq(g, X, zero), tarn_ge(g, Y, zero));
    return tarn_where(g, flat, zero, tarn_mul(g, y, tarn_log(g, X)));
}
TARN_VJP(vjp_pow) { OUT(which, tarn_mul(g, gy, pow_slope(g, y, which))); }
TARN_JVP(jvp_pow) {
    return tarn_add_opt(g, dx[0] ? tarn_mul(g, dx[0], pow_slope(g, y, 0)) : NULL,
                        dx[1] ? tarn_mul(g, dx[1], pow_slope(g, y, 1)) : NULL);
}

// d atan2(y, x) = (x dy - y dx) / (x² + y²); the row's first operand is y.
static const tarn_node *atan2_slope(tarn_graph *g, const tarn_node *y, int which) {
    const tarn_node *square = tarn_add(g, tarn_mul(g, X, X), tarn_mul(g, Y, Y));
    return tarn_div(g, which == 0 ? Y : tarn_neg(g, X), square);
}
TARN_VJP(vjp_atan2) { OUT(which, tarn_mul(g, gy, atan2_slope(g, y, which))); }
TARN_JVP(jvp_atan2) {
    return tarn_add_opt(g, dx[0] ? tarn_mul(g, dx[0], atan2_slope(g, y, 0)) : NULL,
                        dx[1] ? tarn_mul(g, dx[1], atan2_slope(g, y, 1)) : NULL);
}

// 1 and 0 of a bool tensor, in the dtype of y.
static const tarn_node *ones_where(tarn_graph *g, const tarn_node *y, const tarn_node *b) {
    return tarn_cast(g, b, tarn_dtype_compute(y->desc.dtype));
}

// Derivatives of min and max go to the operand that was taken; at equality half to each (PyTorch).
static const tarn_node *share(tarn_graph *g, const tarn_node *y, int which) {
    const tarn_node *won = ones_where(g, y, tarn_eq(g, y, y->in[which]));
    const tarn_node *both = ones_where(g, y, tarn_eq(g, X, Y));
    return tarn_sub(g, won, tarn_mul(g, tarn_num(g, 0.5), both));
}
TARN_VJP(vjp_extreme) { OUT(which, tarn_mul(g, gy, share(g, y, which))); }
TARN_JVP(jvp_extreme) {
    return tarn_add_opt(g, dx[0] ? tarn_mul(g, dx[0], share(g, y, 0)) : NULL,
                        dx[1] ? tarn_mul(g, dx[1], share(g, y, 1)) : NULL);
}

// ---- functions of one operand: the slope as nodes serves both directions ----

typedef const tarn_node *slope(tarn_graph *g, const tarn_node *y);
static const tarn_node *slope_abs(tarn_graph *g, const tarn_node *y) { return tarn_sign(g, X); }
static const tarn_node *slope_sqrt(tarn_graph *g, const tarn_node *y) {
    return tarn_div(g, tarn_num(g, 0.5), y);
}
static const tarn_node *slope_rsqrt(tarn_graph *g, const tarn_node *y) {
    return tarn_mul(g, tarn_num(g, -0.5), tarn_div(g, y, X));
}
static const tarn_node *slope_exp(tarn_graph *g, const tarn_node *y) {
    (void)g;
    return y;
}
static const tarn_node *slope_log(tarn_graph *g, const tarn_node *y) {
    return tarn_div(g, tarn_num(g, 1), X);
}
static const tarn_node *slope_log1p(tarn_graph *g, const tarn_node *y) {
    return tarn_div(g, tarn_num(g, 1), tarn_add(g, X, tarn_num(g, 1)));
}
static const tarn_node *slope_tanh(tarn_graph *g, const tarn_node *y) {
    return tarn_sub(g, tarn_num(g, 1), tarn_mul(g, y, y));
}
static const tarn_node *slope_sigmoid(tarn_graph *g, const tarn_node *y) {
    return tarn_mul(g, y, tarn_sub(g, tarn_num(g, 1), y));
}
static const tarn_node *slope_erf(tarn_graph *g, const tarn_node *y) {
    return tarn_mul(g, tarn_num(g, 1.1283791670955126), tarn_exp(g, tarn_neg(g, tarn_mul(g, X, X))));
}
static const tarn_node *slope_sin(tarn_graph *g, const tarn_node *y) { return tarn_cos(g, X); }
static const tarn_node *slope_cos(tarn_graph *g, const tarn_node *y) {
    return tarn_neg(g, tarn_sin(g, X));
}
static const tarn_node *slope_acos(tarn_graph *g, const tarn_node *y) {
    const tarn_node *s = tarn_sqrt(g, tarn_sub(g, tarn_num(g, 1), tarn_mul(g, X, X)));
    return tarn_div(g, tarn_num(g, -1), s);
}
#define SLOPE(name)                                                               \
    TARN_VJP(vjp_##name) { OUT(which, tarn_mul(g, gy, slope_##name(g, y))); }     \
    TARN_JVP(jvp_##name) {                                                        \
        return dx[0] ? tarn_mul(g, dx[0], slope_##name(g, y)) : NULL;             \
    }
SLOPE(abs)
SLOPE(sqrt)
SLOPE(rsqrt)
SLOPE(exp)
SLOPE(log)
SLOPE(log1p)
SLOPE(tanh)
SLOPE(sigmoid)
SLOPE(erf)
SLOPE(sin)
SLOPE(cos)
SLOPE(acos)
TARN_VJP(vjp_relu) {
    OUT(which, tarn_where(g, tarn_gt(g, X, tarn_num(g, 0)), gy, tarn_num(g, 0)));
}
TARN_JVP(jvp_relu) {
    return dx[0] ? tarn_where(g, tarn_gt(g, X, tarn_num(g, 0)), dx[0], tarn_num(g, 0)) : NULL;
}
TARN_VJP(vjp_neg) { OUT(which, tarn_neg(g, gy)); }
TARN_JVP(jvp_neg) {
    (void)y;
    return dx[0] ? tarn_neg(g, dx[0]) : NULL;
}


// Linear in x: the same elements are kept, wherever they come from.
static const tarn_node *dropped(tarn_graph *g, const tarn_node *y, const tarn_node *x) {
    const tarn_node *in[2] = {x, Y};
    return x ? tarn_node_make(g, &tarn_op_dropout, 2, in, &y->attr) : NULL;
}
TARN_VJP(vjp_dropout) { return which == 0 ? dropped(g, y, gy) : NULL; }
TARN_JVP(jvp_dropout) { return dropped(g, y, dx[0]); }
static tarn_status infer_dropout(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    tarn_dtype want[2];
    (void)nin;
    if (a->nf != 1 || !(a->f[0] >= 0 && a->f[0] <= 1)) {
        TARN_RAISE(err, "Argument", "the attribute is the probability, from 0 to 1");
    }
    if (in[1].rank != 0 || tarn_dtype_compute(in[1].dtype) != TARN_I64) {
        TARN_RAISE(err, "Argument", "the key is an integer, one for all elements");
    }
    TARN_TRY(tarn_point_types(&tarn_op_dropout, 2, in, want, &out->dtype, err));
    tarn_dtype t = out->dtype;
    *out = in[0];
    out->dtype = t;
    return TARN_OK;
}

TARN_VJP(vjp_where) {
    if (which == 0) {
        return NULL;
    }
    const tarn_node *zero = tarn_num(g, 0);
    OUT(which, which == 1 ? tarn_where(g, X, gy, zero) : tarn_where(g, X, zero, gy));
}
TARN_JVP(jvp_where) {
    if (!dx[1] && !dx[2]) {
        return NULL;
    }
    const tarn_node *zero = tarn_num(g, 0);
    return tarn_where(g, X, dx[1] ? dx[1] : zero, dx[2] ? dx[2] : zero);
}

static tarn_status infer_cast(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                              tarn_error *err) {
    (void)nin;
    if (a->ni != 1 || a->i[0] < 0 || a->i[0] >= TARN_DTYPE_COUNT) {
        TARN_RAISE(err, "Argument", "the attribute is the dtype");
    }
    *out = in[0];
    out->dtype = (tarn_dtype)a->i[0];
    out->weak = false;
    if (!tarn_dtype_is_compute(tarn_dtype_compute(out->dtype))) {
        TARN_RAISE(err, "Dtype", "%s cannot be turned into %s", tarn_dtype_get(in[0].dtype)->name,
                   tarn_dtype_get(out->dtype)->name);
    }
    return TARN_OK;
}
TARN_VJP(vjp_cast) {
    if (!tarn_dtype_is_float(y->desc.dtype) || !tarn_dtype_is_float(X->desc.dtype)) {
        return NULL;
    }
    OUT(which, gy);
}
TARN_JVP(jvp_cast) {
    return dx[0] && tarn_dtype_is_float(y->desc.dtype)
               ? tarn_cast(g, dx[0], tarn_dtype_compute(y->desc.dtype))
               : NULL;
}

// Rows without inputs: attr.i = {dtype, shape …, key}; bernoulli also attr.f = {p}. `kinds` has a bit
// for each dtype that the row makes.
static tarn_status infer_made(const tarn_attr *a, unsigned long kinds, int nf, tarn_desc *out,
                              tarn_error *err) {
    if (a->ni < 2 || a->ni - 2 > TARN_MAX_RANK || a->nf != nf || a->i[0] < 0 ||
        a->i[0] >= TARN_DTYPE_COUNT || !(kinds >> a->i[0] & 1)) {
        TARN_RAISE(err, "Argument", "attributes are {dtype, shape …, key}, of a dtype that it makes");
    }
    *out = (tarn_desc){.dtype = (tarn_dtype)a->i[0], .rank = a->ni - 2};
    memcpy(out->shape, a->i + 1, (size_t)out->rank * sizeof *out->shape);
    return TARN_OK;
}
#define MADE(name, kinds, nf)                                                             \
    static tarn_status infer_##name(int nin, const tarn_desc *in, const tarn_attr *a,     \
                                    tarn_desc *out, tarn_error *err) {                    \
        (void)nin, (void)in;                                                              \
        return infer_made(a, kinds, nf, out, err);                                        \
    }
MADE(iota, 1UL << TARN_I64, 0)
MADE(bernoulli, 1UL << TARN_BOOL, 1)
MADE(uniform, 1UL << TARN_F32 | 1UL << TARN_F64, 0)
MADE(normal, 1UL << TARN_F32 | 1UL << TARN_F64, 0)

// clang-format off
#define POINT(NAME, SIG, ARITY, ...)                                                     \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_POINT, \
                                    .min_in = ARITY, .max_in = ARITY, .sig = SIG,         \
                                    .kernel = TARN_K_##NAME, __VA_ARGS__};
#define DIFF(NAME) .vjp = vjp_##NAME, .jvp = jvp_##NAME
#define FLAT .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero
#define DOC(LUA, TEXT, EXAMPLE) .lua = LUA, .summary = TEXT, .example = EXAMPLE

POINT(add, "TT>T", 2, DIFF(add), .mass = {1, 1, 0}, .axes = tarn_axes_linear,
      DOC("xy", "x + y, element by element, with broadcasting",
          "print((tensor { 1, 2 } + tensor { 3, 4 }):sum())\n-- > 10.0"))
POINT(sub, "TT>T", 2, DIFF(sub), .mass = {1, -1, 0}, .axes = tarn_axes_linear,
      DOC("xy", "x - y, element by element, with broadcasting",
          "print((tensor { 5, 7 } - tensor { 1, 2 }):sum())\n-- > 9.0"))
POINT(mul, "TT>T", 2, DIFF(mul), .mass = {0, 0, 1}, .axes = tarn_axes_product,
      DOC("xy", "x * y, element by element, with broadcasting",
          "print((tensor { 2, 3 } * 10):sum())\n-- > 50.0"))
POINT(div, "TT>T", 2, DIFF(div), .mass = {0, 0, -1}, .axes = tarn_axes_quotient,
      DOC("xy", "x / y, element by element; integers become f32",
          "print((tensor { 8, 2 } / 4):sum())\n-- > 2.5"))
POINT(pow, "TT>T", 2, DIFF(pow), .axes = tarn_axes_permuted,
      DOC("xy", "x to the power y, element by element",
          "print((tensor { 2, 3 } ^ 2):sum())\n-- > 13.0"))
POINT(minimum, "TT>T", 2, DIFF(extreme), .axes = tarn_axes_scaled,
      DOC("xy", "the smaller of x and y, element by element; NaN wins",
          "print(tensor { 1, 5 }:minimum(3):sum())\n-- > 4.0"))
POINT(maximum, "TT>T", 2, DIFF(extreme), .axes = tarn_axes_scaled,
      DOC("xy", "the larger of x and y, element by element; NaN wins",
          "print(tensor { 1, 5 }:maximum(3):sum())\n-- > 8.0"))
POINT(atan2, "TT>T", 2, DIFF(atan2), .axes = tarn_axes_permuted,
      DOC("xy", "angle of the point with ordinate x and abscissa y, in radians",
          "print(tensor { 0 }:atan2(tensor { 1 }):sum())\n-- > 0.0"))
POINT(neg, "T>T", 1, DIFF(neg), .mass = {-1, 0, 0}, .axes = tarn_axes_linear,
      DOC("x", "-x",
          "print((-tensor { 1, 2 }):sum())\n-- > -3.0"))
POINT(abs, "T>T", 1, DIFF(abs), .axes = tarn_axes_scaled,
      DOC("x", "absolute value",
          "print(tensor { -1, 2 }:abs():sum())\n-- > 3.0"))
POINT(sign, "T>T", 1, FLAT, .axes = tarn_axes_signed,
      DOC("x", "-1, 0 or 1; NaN stays NaN",
          "print(tensor { -4, -2, 9 }:sign():sum())\n-- > -1.0"))
POINT(sqrt, "T>T", 1, DIFF(sqrt), .axes = tarn_axes_permuted,
      DOC("x", "square root",
          "print(tensor { 4, 9 }:sqrt():sum())\n-- > 5.0"))
POINT(rsqrt, "T>T", 1, DIFF(rsqrt), .axes = tarn_axes_permuted,
      DOC("x", "1 / sqrt(x)",
          "print(tensor { 4, 16 }:rsqrt():sum())\n-- > 0.75"))
POINT(exp, "T>T", 1, DIFF(exp), .axes = tarn_axes_permuted,
      DOC("x", "e to the power x",
          "print(tensor { 0, 0 }:exp():sum())\n-- > 2.0"))
POINT(log, "T>T", 1, DIFF(log), .axes = tarn_axes_permuted,
      DOC("x", "natural logarithm",
          "print(tensor { 1, 1 }:log():sum())\n-- > 0.0"))
POINT(log1p, "T>T", 1, DIFF(log1p), .axes = tarn_axes_permuted,
      DOC("x", "log(1 + x), without loss near 0",
          "print(tensor { 0, 0 }:log1p():sum())\n-- > 0.0"))
POINT(tanh, "T>T", 1, DIFF(tanh), .axes = tarn_axes_signed,
      DOC("x", "hyperbolic tangent",
          "print(tensor { 0 }:tanh():sum())\n-- > 0.0"))
POINT(sigmoid, "T>T", 1, DIFF(sigmoid), .axes = tarn_axes_permuted,
      DOC("x", "1 / (1 + exp(-x))",
          "print(tensor { 0, 0 }:sigmoid():sum())\n-- > 1.0"))
POINT(erf, "T>T", 1, DIFF(erf), .axes = tarn_axes_signed,
      DOC("x", "error function",
          "print(tensor { 0 }:erf():sum())\n-- > 0.0"))
POINT(sin, "T>T", 1, DIFF(sin), .axes = tarn_axes_signed,
      DOC("x", "sine of x radians",
          "print(tensor { 0 }:sin():sum())\n-- > 0.0"))
POINT(cos, "T>T", 1, DIFF(cos), .axes = tarn_axes_permuted,
      DOC("x", "cosine of x radians",
          "print(tensor { 0, 0 }:cos():sum())\n-- > 2.0"))
POINT(acos, "T>T", 1, DIFF(acos), .axes = tarn_axes_permuted,
      DOC("x", "arc cosine, in radians",
          "print(tensor { 1 }:acos():sum())\n-- > 0.0"))
POINT(relu, "T>T", 1, DIFF(relu), .axes = tarn_axes_scaled,
      DOC("x", "max(x, 0)",
          "print(tensor { -2, 3 }:relu():sum())\n-- > 3.0"))
POINT(floor, "T>T", 1, FLAT, .axes = tarn_axes_permuted,
      DOC("x", "largest integer not above x",
          "print(tensor { 1.5, -1.5 }:floor():sum())\n-- > -1.0"))
POINT(round, "T>T", 1, FLAT, .axes = tarn_axes_signed,
      DOC("x", "nearest integer, halves to even",
          "print(tensor { 0.5, 1.5, 2.5 }:round():sum())\n-- > 4.0"))
POINT(eq, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x == y, element by element: a bool tensor",
          "print(tensor { 1, 2 }:eq(tensor { 1, 3 }):sum())\n-- > 1.0"))
POINT(ne, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x ~= y, element by element: a bool tensor",
          "print(tensor { 1, 2 }:ne(tensor { 1, 3 }):sum())\n-- > 1.0"))
POINT(lt, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x < y, element by element: a bool tensor",
          "print(tensor { 1, 2, 3 }:lt(2):sum())\n-- > 1.0"))
POINT(le, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x <= y, element by element: a bool tensor",
          "print(tensor { 1, 2, 3 }:le(2):sum())\n-- > 2.0"))
POINT(gt, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x > y, element by element: a bool tensor",
          "print(tensor { 1, 2, 3 }:gt(2):sum())\n-- > 1.0"))
POINT(ge, "TT>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x >= y, element by element: a bool tensor",
          "print(tensor { 1, 2, 3 }:ge(2):sum())\n-- > 2.0"))
POINT(logical_and, "bb>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x and y; numbers count as true unless zero",
          "print(tensor { 1, 0 }:logical_and(tensor { 1, 1 }):sum())\n-- > 1.0"))
POINT(logical_or, "bb>b", 2, FLAT, .axes = tarn_axes_permuted,
      DOC("xy", "x or y; numbers count as true unless zero",
          "print(tensor { 1, 0 }:logical_or(tensor { 1, 1 }):sum())\n-- > 2.0"))
POINT(logical_not, "b>b", 1, FLAT, .axes = tarn_axes_permuted,
      DOC("x", "not x; numbers count as true unless zero",
          "print(tensor { 1, 0 }:logical_not():sum())\n-- > 1.0"))
POINT(isfinite, "T>b", 1, FLAT, .axes = tarn_axes_permuted,
      DOC("x", "true where x is neither NaN nor infinite",
          "print(tensor { 1, 1 / 0 }:isfinite():sum())\n-- > 1.0"))
POINT(where, "bTT>T", 3, DIFF(where), .axes = tarn_axes_permuted,
      DOC("xyz", "y where x is true, else z",
          "local t = tensor { 1, -2 }\nprint(tensor.where(t:gt(0), t, 0):sum())\n-- > 1.0"))
POINT(top, "TTd>b", 3, FLAT, .axes = tarn_axes_permuted,
      .summary = "true above a threshold, and at equals of it up to an index: what kth_largest keeps")
const tarn_op tarn_op_cast = {.name = "cast", .version = 1, .cls = TARN_CLASS_POINT, .min_in = 1, .max_in = 1,
                              .kernel = -1, .infer = infer_cast, DIFF(cast), .axes = tarn_axes_linear,
                              .summary = "the same numbers in another dtype, rounded once, to nearest even"};
POINT(iota, ">i", 0, .infer = infer_iota, FLAT, .axes = tarn_axes_fixed,
      .summary = "0, 1, 2 … in row-major order")
POINT(bernoulli, ">b", 0, .infer = infer_bernoulli, FLAT, .axes = tarn_axes_fixed,
      .summary = "true with probability p, by a counter-based generator")
POINT(dropout, "Ti>T", 2, .infer = infer_dropout, DIFF(dropout), .axes = tarn_axes_permuted,
      .summary = "zero with probability p, else x / (1 - p), by a counter-based generator")
POINT(uniform, ">T", 0, .infer = infer_uniform, FLAT, .axes = tarn_axes_fixed,
      .summary = "uniform numbers in [0, 1), by a counter-based generator")
POINT(normal, ">T", 0, .infer = infer_normal, FLAT, .axes = tarn_axes_fixed,
      .summary = "standard normal numbers, by a counter-based generator")
// clang-format on
