// SPDX-License-Identifier: Apache-2.0
// Triple sum: three models in one weighted sum.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    double alpha = tarn_get(b, "alpha"), beta = tarn_get(b, "beta");
    return tarn_combine(b->g, 3, b->x, (double[3]){1 - alpha - beta, alpha, beta});
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 1.0 / 3, 0, 0, false, NULL, "weight of b"},
    {"beta", TARN_NUMBER, 1.0 / 3, 0, 0, false, NULL, "weight of c; a has the rest"},
    {0},
};

const tarn_method tarn_method_triple_sum = {
    .name = "triple_sum",
    .summary = "three models in one weighted sum, the first with what the others leave",
    .paper = "SuperMerger, github.com/hako-mikan/sd-webui-supermerger; sd-meh, github.com/s1dlx/meh",
    .detail = "(1 - alpha - beta) a + alpha b + beta c.",
    .example = "print(merge.triple_sum { a, b, c, alpha = 0.5, beta = 0.25 })",
    .version = 1, .tier = 'A', .least = 3, .most = 3, .params = params, .build = build,
};
