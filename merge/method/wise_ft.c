// SPDX-License-Identifier: Apache-2.0
// WiSE-FT: interpolation between the model that was fine-tuned and the one it came from.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    double alpha = tarn_get(b, "alpha");
    if (alpha == 0 || alpha == 1) {
        return alpha == 0 ? b->base : b->x[0];
    }
    return tarn_add(b->g, b->base, tarn_mul(b->g, tarn_delta(b, 0), tarn_num(b->g, alpha)));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1, false, NULL, "0 gives the base, 1 the tuned model"},
    {0},
};

const tarn_method tarn_method_wise_ft = {
    .name = "wise_ft",
    .summary = "interpolation from a base to the model tuned from it",
    .paper = "Wortsman et al. 2021, Robust fine-tuning of zero-shot models, arXiv:2109.01903",
    .detail = "(1 - alpha) base + alpha tuned: what fine-tuning won on its task for what it lost elsewhere; the curve over "
              "alpha is what to look at. merge.linear { base, tuned, weight = {1 - alpha, alpha} } is the same for any "
              "two models, merge.paint for several tuned ones.",
    .example = "print(merge.wise_ft { base = base, a, alpha = 0.5 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1, .params = params, .build = build,
};
