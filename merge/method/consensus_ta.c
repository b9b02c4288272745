// SPDX-License-Identifier: Apache-2.0
// Consensus task arithmetic: the sum of the task vectors, without the entries that too few tasks use.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) { return tarn_masks_consensus(b, tarn_vectors_sum(b)); }

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"k", TARN_INTEGER, 2, 0, TARN_METHOD_MODELS, false, NULL,
     "masks that must hold for an entry to stay. 0: task arithmetic; 1: without what no task uses "
     "(catastrophic); 2: nor what one alone uses (selfish); more than there are tasks: the base"},
    TARN_PARAM_MASK_LAMBDA,
    {0},
};

const tarn_method tarn_method_consensus_ta = {
    .name = "consensus_ta",
    .summary = "task arithmetic without the entries that fewer than k tasks use",
    .paper = "Wang, Dimitriadis, Ortiz-Jiménez, Fleuret, Frossard 2024, Localizing Task Information for Improved "
             "Model Merging and Compression, arXiv:2405.07813",
    .detail = "t = sum of w_m t_m with t_m = x_m - base; the TALL mask of task m holds where |t_m| > mask_lambda "
              "|t - t_m|; the result is base + lambda t where at least k masks hold, else base. At mask_lambda = 1 a "
              "mask gives the least |mask t - t_m| in L1 and in L2, so no data are needed; the paper's code searches "
              "{0.2, 0.3, 0.4, 0.5, 0.6} by validation accuracy (FusionBench: 0.6, MergeBench: 0.2), and lambda too.",
    .example = "print(merge.consensus_ta { base = base, a, b, c, lambda = 0.5 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
