// SPDX-License-Identifier: Apache-2.0
// Spherical interpolation of two models, each tensor as one vector: the angle comes from the unit
// vectors, the combination is of the vectors themselves. Nearly parallel or opposite tensors
// (|cos| > 0.9995) are interpolated linearly.
#include "merge/method/method.h"

static const tarn_node *norm(tarn_graph *g, const tarn_node *x) {
    const tarn_node *n = tarn_sqrt(g, tarn_dot(g, x, x));
    return tarn_where(g, tarn_gt(g, n, tarn_num(g, 1e-8)), n, tarn_num(g, 1));
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *p = b->x[0], *q = b->x[1];
    double t = tarn_get(b, "t");
    if (t == 0 || t == 1) {
        return t == 0 ? p : q;
    }
    const tarn_node *one = tarn_num(g, 1), *tt = tarn_num(g, t);
    const tarn_node *c = tarn_div(g, tarn_dot(g, p, q), tarn_mul(g, norm(g, p), norm(g, q)));
    c = tarn_maximum(g, tarn_minimum(g, c, one), tarn_num(g, -1));
    const tarn_node *flat = tarn_gt(g, tarn_abs(g, c), tarn_num(g, tarn_get(b, "threshold")));
    const tarn_node *angle = tarn_acos(g, c);
    const tarn_node *sine = tarn_sin(g, angle), *part = tarn_mul(g, angle, tt);
    const tarn_node *s0 = tarn_div(g, tarn_sin(g, tarn_sub(g, angle, part)), sine);
    const tarn_node *s1 = tarn_div(g, tarn_sin(g, part), sine);
    s0 = tarn_where(g, flat, tarn_num(g, 1 - t), s0);
    s1 = tarn_where(g, flat, tt, s1);
    return tarn_add(g, tarn_mul(g, p, s0), tarn_mul(g, q, s1));
}

static const tarn_param params[] = {
    {"t", TARN_NUMBER, 0.5, 0, 1, false, NULL, "0 gives the first model, 1 the second"},
    {"threshold", TARN_NUMBER, 0.9995, 0, 1, false, NULL,
     "beyond this cosine (of either sign) tensors are interpolated linearly"},
    {0},
};

const tarn_method tarn_method_slerp = {
    .name = "slerp",
    .summary = "spherical interpolation of two models",
    .paper = "Shoemake 1985, Animating rotation with quaternion curves",
    .detail = "sin((1-t)w)/sin(w) a + sin(t w)/sin(w) b with cos(w) = <a, b>/(|a||b|), per tensor. "
              "mergekit's `slerp` is the same; its base_model is the first operand here.",
    .example = "print(merge.slerp { a, b, t = by.depth { 0, 0.5, 1 } })",
    .version = 1, .tier = 'A', .least = 2, .most = 2, .params = params, .build = build,
};
