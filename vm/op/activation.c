// SPDX-License-Identifier: Apache-2.0
// Activations. gelu and silu are element-wise rows whose slope is a row of its own: one exponential
// each, where a composition and its derivative take many passes. The others are compositions, which
// evaluators fuse over tiles, written so that no branch that is not taken overflows or leaves NaN
// in a derivative.
#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"

#define X (y->in[0])
#define SLOPE(name)                                                                                \
    TARN_VJP(vjp_##name) {                                                                         \
        (void)which;                                                                               \
        const tarn_node *slope = tarn_unary(g, &tarn_op_##name##_slope, X);                        \
        return tarn_unbroadcast(g, tarn_mul(g, gy, slope), X);                                     \
    }                                                                                              \
    TARN_JVP(jvp_##name) {                                                                         \
        return dx[0] ? tarn_mul(g, dx[0], tarn_unary(g, &tarn_op_##name##_slope, X)) : NULL;       \
    }
SLOPE(gelu)
SLOPE(gelu_tanh)
SLOPE(silu)

// ---- in other rows ----

static const tarn_node *scaled(tarn_graph *g, const tarn_node *x, double by) {
    return tarn_mul(g, x, tarn_num(g, by));
}
static const tarn_node *plus(tarn_graph *g, const tarn_node *x, double more) {
    return tarn_add(g, x, tarn_num(g, more));
}
// The normal distribution function.
static const tarn_node *normal(tarn_graph *g, const tarn_node *x) {
    const tarn_node *f = tarn_unary(g, &tarn_op_erf, scaled(g, x, 0.7071067811865476));
    return scaled(g, plus(g, f, 1), 0.5);
}
// z = 2 sqrt(2 / pi) (x + 0.044715 x^3), whose sigmoid is (1 + tanh(z / 2)) / 2, and dz / dx.
static const tarn_node *inner(tarn_graph *g, const tarn_node *x, const tarn_node **slope) {
    const tarn_node *square = tarn_mul(g, x, x);
    *slope = scaled(g, plus(g, scaled(g, square, 0.134145), 1), 1.5957691216057308);
    return scaled(g, tarn_mul(g, plus(g, scaled(g, square, 0.044715), 1), x), 1.5957691216057308);
}
static const tarn_node *gate(tarn_graph *g, const tarn_node *z) {
    return tarn_unary(g, &tarn_op_sigmoid, z);
}
// s + x s (1 - s) dz, s = sigmoid(z)
static const tarn_node *gate_slope(tarn_graph *g, const tarn_node *x, const tarn_node *z,
                                   const tarn_node *dz) {
    const tarn_node *s = gate(g, z), *d = tarn_mul(g, s, gate(g, tarn_neg(g, z)));
    d = tarn_mul(g, x, d);
    return tarn_add(g, s, dz ? tarn_mul(g, d, dz) : d);
}
static const tarn_node *gelu_apart(tarn_graph *g, const tarn_node *y) {
    return tarn_mul(g, X, normal(g, X));
}
static const tarn_node *gelu_slope_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *e = tarn_exp(g, scaled(g, tarn_mul(g, X, X), -0.5));
    return tarn_add(g, normal(g, X), scaled(g, tarn_mul(g, X, e), 0.3989422804014327));
}
static const tarn_node *gelu_tanh_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *dz, *z = inner(g, X, &dz);
    return tarn_mul(g, X, gate(g, z));
}
static const tarn_node *gelu_tanh_slope_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *dz, *z = inner(g, X, &dz);
    return gate_slope(g, X, z, dz);
}
static const tarn_node *silu_apart(tarn_graph *g, const tarn_node *y) {
    return tarn_mul(g, X, gate(g, X));
}
static const tarn_node *silu_slope_apart(tarn_graph *g, const tarn_node *y) {
    return gate_slope(g, X, X, NULL);
}

// clang-format off
#define POINT(NAME, ...)                                                                              \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_POINT, .min_in = 1, \
                                    .max_in = 1, .sig = "T>T", .kernel = TARN_K_##NAME,               \
                                    .decompose = NAME##_apart, .axes = tarn_axes_permuted, __VA_ARGS__};
POINT(gelu, .vjp = vjp_gelu, .jvp = jvp_gelu, .summary = "x times the standard normal distribution function at x")
POINT(gelu_slope, .summary = "the derivative of gelu")
POINT(gelu_tanh, .vjp = vjp_gelu_tanh, .jvp = jvp_gelu_tanh, .summary = "gelu, approximated by tanh")
POINT(gelu_tanh_slope, .summary = "the derivative of gelu_tanh")
POINT(silu, .vjp = vjp_silu, .jvp = jvp_silu, .lua = "x", .summary = "x * sigmoid(x), also called swish",
      .example = "print(tensor { 0 }:silu())\n-- > f32[1]\n-- > [0.]")
POINT(silu_slope, .summary = "the derivative of silu")
// clang-format on

// ---- compositions ----

const tarn_node *tarn_softplus(tarn_graph *g, const tarn_node *x, double beta, double threshold) {
    const tarn_node *z = tarn_mul(g, x, tarn_num(g, beta));
    const tarn_node *large = tarn_gt(g, z, tarn_num(g, threshold));
    const tarn_node *e = tarn_exp(g, tarn_where(g, large, tarn_num(g, 0), z));
    const tarn_node *soft = tarn_mul(g, tarn_unary(g, &tarn_op_log1p, e), tarn_num(g, 1 / beta));
    return tarn_where(g, large, x, soft);
}

const tarn_node *tarn_leaky_relu(tarn_graph *g, const tarn_node *x, double slope) {
    return tarn_where(g, tarn_gt(g, x, tarn_num(g, 0)), x, tarn_mul(g, x, tarn_num(g, slope)));
}

const tarn_node *tarn_dropout(tarn_graph *g, const tarn_node *x, const tarn_node *key, double p) {
    const tarn_node *in[2] = {x, key};
    tarn_attr a = {.nf = 1, .f = &p};
    return tarn_node_make(g, &tarn_op_dropout, 2, in, &a);
}
