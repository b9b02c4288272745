// SPDX-License-Identifier: Apache-2.0
// WARP's merge: the task vectors joined one after the other by spherical interpolation, then a step
// back towards the base. The angles between a running join and the vectors still to come follow
// from the Gram matrix of the task vectors, so two passes serve any number of them.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *gram[TARN_METHOD_MODELS * TARN_METHOD_MODELS], *d[TARN_METHOD_MODELS], *s[2];
    int n = b->n;
    double eta = tarn_get(b, "eta"), total = tarn_get_of(b, "weight", 0);
    tarn_operands(b, d);
    tarn_gram(g, n, d, gram);
    const tarn_node *u = d[0], *uu = gram[0], **ud = gram;  // the join, <u, u>, <u, d_j> in ud[j]
    for (int i = 1; i < n; i++) {
        const tarn_node *const *row = gram + i * n;
        double w = tarn_get_of(b, "weight", i);
        total += w;
        const tarn_node *c = tarn_cosine(g, ud[i], tarn_length(g, uu, 0), tarn_length(g, row[i], 0));
        tarn_arc(g, c, total == 0 ? 0 : w / total, tarn_get(b, "threshold"), s);
        u = tarn_add(g, tarn_mul(g, u, s[0]), tarn_mul(g, d[i], s[1]));
        const tarn_node *cross = tarn_mul(g, tarn_mul(g, s[0], s[1]), ud[i]);
        uu = tarn_add(g, tarn_mul(g, tarn_mul(g, s[0], s[0]), uu), tarn_mul(g, tarn_mul(g, s[1], s[1]), row[i]));
        uu = tarn_add(g, uu, tarn_mul(g, cross, tarn_num(g, 2)));
        for (int j = i + 1; j < n; j++) {
            ud[j] = tarn_add(g, tarn_mul(g, ud[j], s[0]), tarn_mul(g, row[j], s[1]));
        }
    }
    if (eta == 0 || (eta == 1 && n == 1)) {
        return eta == 0 ? b->base : b->x[0];
    }
    return tarn_add(g, b->base, eta == 1 ? u : tarn_mul(g, u, tarn_num(g, eta)));
}

static const tarn_param params[] = {
    {"eta", TARN_NUMBER, 0.3, 0, 1, false, NULL, "how far from the base towards the joined policies; 1: all the way"},
    TARN_PARAM_SHARE("share of each model in the join; equal: each counts 1 / n"),
    {"threshold", TARN_NUMBER, 0.9995, 0, 1, false, NULL,
     "from this cosine on (of either sign) task vectors are interpolated linearly"},
    {0},
};

const tarn_method tarn_method_warp = {
    .name = "warp",
    .summary = "spherical interpolation of task vectors, then a step back to the base",
    .paper = "Ramé et al. 2024, WARP: On the benefits of weight averaged rewarded policies, arXiv:2406.16768",
    .detail = "Per tensor: u_1 = d_1, u_m = slerp(u_(m-1), d_m) at w_m / (w_1 + ... + w_m), with d_m = x_m - base; the "
              "result is base + eta u_n: equal weights are eq. 26 of the paper (appendix B.3), eta = 0.3 is what it "
              "takes from round to round (section 3.4). It has an angle for each layer, here for each tensor. The order "
              "of more than two models matters a little. WARP's other average, of the policy in training, is merge.ema.",
    .example = "print(merge.warp { base = base, a, b, eta = 0.3 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
