// SPDX-License-Identifier: Apache-2.0
// Breadcrumbs with the sign election of TIES: task vectors without their outliers and small
// entries, then only what agrees in sign.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    tarn_vectors_breadcrumbs(b, t);
    return tarn_vectors_consensus(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_BAND,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_ELECT,
    TARN_PARAM_AGREE(0),
    {0},
};

const tarn_method tarn_method_breadcrumbs_ties = {
    .name = "breadcrumbs_ties",
    .summary = "breadcrumbs, then sign election",
    .paper = "Davari, Belilovsky 2023, Model Breadcrumbs, arXiv:2312.06795; Yadav et al. 2023, "
             "TIES-Merging, arXiv:2306.01708",
    .detail = TARN_DETAIL_BAND 
              " Then signs are elected as in ties. The combination is mergekit's, of no paper; "
              "its default density is 1.",
    .example = "print(merge.breadcrumbs_ties { base = base, a, b, density = 0.3, gamma = 0.01 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .build = build,
};
