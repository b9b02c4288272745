// SPDX-License-Identifier: Apache-2.0
// Sum twice: a weighted sum of two models, then of that and a third.
#include "merge/method/mix.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *ab = tarn_mix(b->g, b->x[0], b->x[1], tarn_get(b, "alpha"));
    return tarn_mix(b->g, ab, b->x[2], tarn_get(b, "beta"));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 0, false, NULL, "share of b in the first sum"},
    {"beta", TARN_NUMBER, 0.5, 0, 0, false, NULL, "share of c in the second"},
    {0},
};

const tarn_method tarn_method_sum_twice = {
    .name = "sum_twice",
    .summary = "weighted sum of two models, then of the result and a third",
    .paper = "SuperMerger, github.com/hako-mikan/sd-webui-supermerger; sd-meh, github.com/s1dlx/meh",
    .detail = "(1 - beta) ((1 - alpha) a + alpha b) + beta c.",
    .example = "print(merge.sum_twice { a, b, c, alpha = 0.3, beta = 0.2 })",
    .version = 1, .tier = 'A', .least = 3, .most = 3, .params = params, .build = build,
};
