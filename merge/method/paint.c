// SPDX-License-Identifier: Apache-2.0
// PAINT: a model patched for several tasks at once, each patch scaled.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *x[TARN_METHOD_MODELS + 1] = {b->base};
    double factor[TARN_METHOD_MODELS + 1] = {1};
    int patches = 0, one = -1;
    for (int i = 0; i < b->n; i++) {
        x[i + 1] = tarn_delta(b, i);
        factor[i + 1] = tarn_get_of(b, "alpha", i);
        patches += factor[i + 1] != 0;
        one = factor[i + 1] == 1 ? i : one;
    }
    return patches == 1 && one >= 0 ? b->x[one] : tarn_combine(b->g, b->n + 1, x, factor);
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1, true, NULL, "how far towards each tuned model; 0 leaves its patch out"},
    {0},
};

const tarn_method tarn_method_paint = {
    .name = "paint",
    .summary = "patches of several tasks on one base, each a part of the way",
    .paper = "Ilharco et al. 2022, Patching open-vocabulary models by interpolating weights, arXiv:2208.05592",
    .detail = "base + sum of alpha_i (tuned_i - base), the paper's parallel patching; alpha is chosen on held-out data of "
              "the old and the new tasks. Of one model (also one tuned on all tasks jointly) it is merge.wise_ft. "
              "Sequential patching is wise_ft again and again: the patched model is the base of the next task's training.",
    .example = "print(merge.paint { base = base, a, b, alpha = {0.4, 0.3} })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
