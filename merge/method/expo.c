// SPDX-License-Identifier: Apache-2.0
// ExPO: a step beyond the tuned model, away from where its last training started.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    double alpha = tarn_get(b, "alpha");
    return alpha == 0 ? b->x[0] : tarn_add(b->g, b->x[0], tarn_mul(b->g, tarn_delta(b, 0), tarn_num(b->g, alpha)));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1e300, false, NULL, "length of the step, in units of tuned - base; 0 gives the tuned model"},
    {0},
};

const tarn_method tarn_method_expo = {
    .name = "expo",
    .summary = "extrapolation from an initial through a tuned model",
    .paper = "Zheng et al. 2024, Weak-to-strong extrapolation expedites alignment, arXiv:2404.16792",
    .detail = "tuned + alpha (tuned - base), with the supervised model as base and the one aligned by preferences as "
              "the tuned one. merge.wise_ft goes the other way.",
    .example = "print(merge.expo { base = base, a, alpha = 0.3 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1, .params = params, .build = build,
};
