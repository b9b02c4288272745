// SPDX-License-Identifier: Apache-2.0
// Model Breadcrumbs: task vectors without their outliers and without their small entries, summed.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_vectors_breadcrumbs(b, t);
    return tarn_vectors_linear(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_BAND,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_NORMALIZE,
    {0},
};

const tarn_method tarn_method_breadcrumbs = {
    .name = "breadcrumbs",
    .summary = "sum of task vectors without their largest and smallest entries",
    .paper = "Davari, Belilovsky 2023, Model Breadcrumbs, arXiv:2312.06795",
    .detail = TARN_DETAIL_BAND 
              " The result is base + lambda * sum(w t); the paper uses one lambda near 0.3. "
              "mergekit's `breadcrumbs` is the same with density 1 as its default.",
    .example = "print(merge.breadcrumbs { base = base, a, b, density = 0.14, gamma = 0.01 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .build = build,
};
