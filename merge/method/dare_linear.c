// SPDX-License-Identifier: Apache-2.0
// DARE, linear: drop entries of the task vectors at random, rescale the rest, add them up.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_vectors_dare(b, tarn_delta(b, i), i);
    }
    return tarn_vectors_linear(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    {"density", TARN_NUMBER, 0.5, 0, 1, true, NULL, "probability of keeping an entry (1 - p of the paper)"},
    TARN_PARAM_LAMBDA,
    TARN_PARAM_RESCALE,
    TARN_PARAM_SEED,
    {"normalize", TARN_BOOLEAN, 0, 0, 1, false, NULL, "divide by the sum of the weights"},
    {0},
};

const tarn_method tarn_method_dare_linear = {
    .name = "dare_linear",
    .summary = "random drop and rescale of task vectors, then their weighted sum",
    .paper = "Yu et al. 2024, Language models are super Mario, arXiv:2311.03099",
    .detail = "Each entry of x_m - base is kept with probability density and divided by it, so the expectation stays. rescale = \"l1\" is mergekit's since 2025. Masks come from a counter generator keyed by seed, tensor name and model: they do not "
              "depend on threads, sharding or order.",
    .example = "print(merge.dare_linear { base = base, a, b, density = 0.5, seed = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
