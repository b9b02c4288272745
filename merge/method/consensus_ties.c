// SPDX-License-Identifier: Apache-2.0
// Consensus TIES: what TIES merges, without the entries that too few tasks use.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) { return tarn_masks_consensus(b, tarn_masks_ties(b)); }

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"k", TARN_INTEGER, 2, 0, TARN_METHOD_MODELS, false, NULL,
     "masks that must hold for an entry to stay; 0: TIES; more than there are tasks: the base"},
    TARN_PARAM_MASK_LAMBDA,
    TARN_PARAM_TIES_DENSITY,
    TARN_PARAM_TIES_MEAN,
    {0},
};

const tarn_method tarn_method_consensus_ties = {
    .name = "consensus_ties",
    .summary = "TIES without the entries that fewer than k tasks use",
    .paper = "Wang, Dimitriadis, Ortiz-Jiménez, Fleuret, Frossard 2024, Localizing Task Information for Improved "
             "Model Merging and Compression, arXiv:2405.07813",
    .detail = "As consensus_ta, but t is what merge.ties (trim = \"global\", elect = \"mass\") puts on the base; the "
              "masks compare it with the whole task vectors, not with the trimmed ones. The paper's code sums the "
              "values that agree; normalize = true is their mean, as in merge.ties.",
    .example = "print(merge.consensus_ties { base = base, a, b, c, lambda = 0.5 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params,
    .build = build,
};
