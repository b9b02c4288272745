// SPDX-License-Identifier: Apache-2.0
// DELLA: drop entries of the task vectors at random, the small ones of a row more often, rescale, keep
// what agrees in sign.
#include "merge/method/magprune.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_magprune(b, t);
    return tarn_vectors_consensus(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAMS_MAGPRUNE,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_SEED,
    TARN_PARAM_ELECT,
    TARN_PARAM_AGREE(1),
    {0},
};

const tarn_method tarn_method_della = {
    .name = "della",
    .summary = "drop by rank of magnitude and rescale task vectors, then sign election",
    .paper = "Deep, Bhardwaj, Poria 2024, DELLA-Merging, arXiv:2406.11617",
    .detail = TARN_DETAIL_MAGPRUNE " Then signs are elected as in ties.",
    .example = "print(merge.della { base = base, a, b, density = 0.5, seed = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .check = tarn_magprune_check, .build = build,
};
