// SPDX-License-Identifier: Apache-2.0
// Spherical interpolation of two models, each tensor (or the whole model) as one vector: the angle
// comes from the unit vectors, the combination is of the vectors themselves or of the unit vectors.
// Nearly parallel or opposite ones (|cos| from 0.9995) are interpolated linearly.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *p = b->x[0], *q = b->x[1], *s[2];
    double t = tarn_get(b, "t");
    if (t == 0 || t == 1) {
        return t == 0 ? p : q;
    }
    const tarn_node *pn = tarn_length(g, tarn_inner_of(b, p, p, 0), 1e-8);
    const tarn_node *qn = tarn_length(g, tarn_inner_of(b, q, q, 1), 1e-8);
    const tarn_node *c = tarn_cosine(g, tarn_inner_of(b, p, q, 2), pn, qn);
    tarn_arc(g, c, t, tarn_get(b, "threshold"), s);
    if (tarn_choice(b, "norm", "lerp")) {
        // |s0 u + s1 v| is 1 on the arc, less on the straight line
        const tarn_node *cross = tarn_mul(g, tarn_mul(g, tarn_num(g, 2), c), tarn_mul(g, s[0], s[1]));
        const tarn_node *square = tarn_add(g, tarn_mul(g, s[0], s[0]), tarn_mul(g, s[1], s[1]));
        const tarn_node *wanted = tarn_add(g, tarn_mul(g, pn, tarn_num(g, 1 - t)), tarn_mul(g, qn, tarn_num(g, t)));
        const tarn_node *scale = tarn_div(g, wanted, tarn_length(g, tarn_add(g, square, cross), 1e-8));
        s[0] = tarn_div(g, tarn_mul(g, s[0], scale), pn);
        s[1] = tarn_div(g, tarn_mul(g, s[1], scale), qn);
    }
    return tarn_add(g, tarn_mul(g, p, s[0]), tarn_mul(g, q, s[1]));
}

static const tarn_param params[] = {
    {"t", TARN_NUMBER, 0.5, 0, 1, false, NULL, "0 gives the first model, 1 the second"},
    {"threshold", TARN_NUMBER, 0.9995, 0, 1, false, NULL,
     "from this cosine on (of either sign) tensors are interpolated linearly; 1: always along the arc"},
    {"norm", TARN_CHOICE, 0, 0, 0, false, "raw|lerp",
     "raw: the factors apply to the vectors themselves, whose lengths then mix as they may (mergekit); lerp: the direction "
     "from the unit vectors, the length interpolated linearly (sd-mecha)"},
    {"scope", TARN_CHOICE, 0, 0, 0, false, "tensor|global",
     "one angle for each tensor (mergekit, sd-mecha), or one for the whole model (Git Re-Basin's utility)"},
    {0},
};

const tarn_method tarn_method_slerp = {
    .name = "slerp",
    .summary = "spherical interpolation of two models",
    .paper = "Shoemake 1985, Animating rotation with quaternion curves, doi:10.1145/325334.325242",
    .detail = "sin((1-t)w)/sin(w) a + sin(t w)/sin(w) b with cos(w) = <a, b>/(|a||b|), per tensor. "
              "mergekit's `slerp` is the same; its base_model is the first operand here.",
    .example = "print(merge.slerp { a, b, t = by.depth { 0, 0.5, 1 } })",
    .version = 1, .tier = 'A', .least = 2, .most = 2, .params = params, .build = build,
};
