// SPDX-License-Identifier: Apache-2.0
// DELLA without sign election: drop entries of the task vectors at random, the small ones of a row more
// often, rescale, add them up.
#include "merge/method/magprune.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_magprune(b, t);
    return tarn_vectors_linear(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAMS_MAGPRUNE,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_SEED,
    TARN_PARAM_NORMALIZE,
    {0},
};

const tarn_method tarn_method_della_linear = {
    .name = "della_linear",
    .summary = "drop by rank of magnitude and rescale task vectors, then their weighted sum",
    .paper = "Deep, Bhardwaj, Poria 2024, DELLA-Merging, arXiv:2406.11617",
    .detail = TARN_DETAIL_MAGPRUNE " The sum without election is mergekit's.",
    .example = "print(merge.della_linear { base = base, a, b, density = 0.5, seed = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .check = tarn_magprune_check, .build = build,
};
