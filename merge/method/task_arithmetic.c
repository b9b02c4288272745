// SPDX-License-Identifier: Apache-2.0
// Task arithmetic: base + λ Σ w_m (x_m - base).
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_operands(b, t);
    return tarn_vectors_linear(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_NORMALIZE,
    {0},
};

const tarn_method tarn_method_task_arithmetic = {
    .name = "task_arithmetic",
    .summary = "base plus a weighted sum of task vectors",
    .paper = "Ilharco et al. 2023, Editing models with task arithmetic, arXiv:2212.04089",
    .detail = "base + lambda * sum of w_m (x_m - base). A negative weight forgets; the paper uses one "
              "lambda near 0.3 for eight tasks.",
    .example = "print(merge.task_arithmetic { base = base, a, b, lambda = 0.3 })",
    .recorded = "weight|lambda", .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
