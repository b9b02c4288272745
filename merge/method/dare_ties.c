// SPDX-License-Identifier: Apache-2.0
// DARE with TIES: drop entries of the task vectors at random, rescale the rest, keep what agrees in sign.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_vectors_dare(b, t);
    return tarn_vectors_consensus(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_KEEP,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_RESCALE,
    TARN_PARAM_SEED,
    TARN_PARAM_ELECT,
    TARN_PARAM_AGREE(1),
    {0},
};

const tarn_method tarn_method_dare_ties = {
    .name = "dare_ties",
    .summary = "random drop and rescale of task vectors, then sign election",
    .paper = "Yu et al. 2024, Language models are super Mario, arXiv:2311.03099",
    .detail = TARN_DETAIL_DARE " Then signs are elected as in ties.",
    .example = "print(merge.dare_ties { base = base, a, b, density = 0.5, seed = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .build = build,
};
