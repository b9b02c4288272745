// SPDX-License-Identifier: Apache-2.0
// Spherical interpolation of two models, or of their offsets from a base, by weights; each tensor as
// one vector, or each of its rows or columns by itself.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS], *s[2];
    double w[TARN_METHOD_MODELS], total = tarn_weights(b, w);
    double t = total < 1e-6 && total > -1e-6 ? 0.5 : w[1] / total;
    tarn_operands(b, x);
    if (t == 0 || t == 1) {
        return b->x[t == 0 ? 0 : 1];
    }
    const tarn_node *pn = tarn_length(g, tarn_inner(b, x[0], x[0]), 0);
    const tarn_node *qn = tarn_length(g, tarn_inner(b, x[1], x[1]), 0);
    tarn_arc(g, tarn_cosine(g, tarn_inner(b, x[0], x[1]), pn, qn), t, 1, s);
    return tarn_on_base(b, tarn_add(g, tarn_mul(g, x[0], s[0]), tarn_mul(g, x[1], s[1])));
}

static const tarn_param params[] = {
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "t is the second weight's share of both; of weights that cancel, 0.5"},
    {"axis", TARN_CHOICE, 0, 0, 0, false, "tensor|row|column",
     "one angle for the tensor, or one for each row (vectors along the last axis), or for each column (along the "
     "first)"},
    {0},
};

const tarn_method tarn_method_nuslerp = {
    .name = "nuslerp",
    .summary = "spherical interpolation of two models or their offsets, by tensor, row or column",
    .paper = "Goddard et al. 2024, Arcee's MergeKit, arXiv:2403.13257 (its nuslerp)",
    .detail = "sin((1-t)w)/sin(w) a + sin(t w)/sin(w) b on the vectors themselves, linear only where they are exactly parallel or "
              "opposite; a base is subtracted first and added again. mergekit's nuslerp_flatten: false is axis = \"row\"; with "
              "nuslerp_row_wise: true it is axis = \"column\", whatever that name says.",
    .example = "print(merge.nuslerp { base = base, a, b, weight = {0.6, 0.4}, axis = \"row\" })",
    .version = 1, .tier = 'A', .needs = TARN_TAKES_BASE, .least = 2, .most = 2, .params = params, .build = build,
};
