// SPDX-License-Identifier: Apache-2.0
// TIES: trim each task vector to its largest magnitudes, elect a sign per entry, average the values
// that agree with it.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    bool whole = tarn_choice(b, "trim", "global"), rescale = tarn_choice(b, "rescale", "l1");
    for (int i = 0; i < b->n; i++) {
        const tarn_node *d = tarn_delta(b, i);
        t[i] = tarn_keep_top(b, d, tarn_get_of(b, "density", i), whole, i);
        t[i] = rescale ? tarn_vectors_rescale(b, d, t[i]) : t[i];
    }
    return tarn_vectors_consensus(b, t);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    {"density", TARN_NUMBER, 0.2, 0, 1, true, NULL,
     "share of each task vector kept: exactly trunc(density N) entries, at least one, ties to the lowest index; "
     "by.… needs trim = \"tensor\""},
    TARN_PARAM_LAMBDA,
    {"trim", TARN_CHOICE, 0, 0, 0, false, "global|tensor",
     "over the whole task vector (paper, official code), or in each tensor (mergekit, sd-mecha)"},
    TARN_PARAM_RESCALE_L1,
    TARN_PARAM_ELECT,
    TARN_PARAM_AGREE(1),
    {0},
};

const tarn_method tarn_method_ties = {
    .name = "ties",
    .summary = "trim, elect sign, merge: task vectors without their conflicts",
    .paper = "Yadav et al. 2023, TIES-Merging, arXiv:2306.01708",
    .detail = "Signs are elected on weighted values; the result is base + lambda * sum(w t) / sum(w) over "
              "the entries that agree. An exact zero sum elects as `zero` says; zero entries never agree.",
    .example = "print(merge.ties { base = base, a, b, density = 0.2 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .check = tarn_vectors_trim_check, .build = build,
};
