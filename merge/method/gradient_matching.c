// SPDX-License-Identifier: Apache-2.0
// Uncertainty-based gradient matching: task vectors scaled entry by entry by curvature, so that the gradient
// mismatch between the merged model and training on all tasks at once is least.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *own = tarn_statistic_of(b, "base_fisher", 0), *ridge = tarn_num(g, tarn_get(b, "ridge"));
    const tarn_node *start = own ? tarn_add(g, own, ridge) : ridge, *all = start;
    const tarn_node *sum = NULL;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *h = tarn_statistic_of(b, "fisher", i), *w = tarn_num(g, tarn_get_of(b, "weight", i));
        const tarn_node *part = tarn_mul(g, w, tarn_mul(g, tarn_add(g, start, h), tarn_delta(b, i)));
        all = tarn_add(g, all, tarn_mul(g, w, h));
        sum = sum ? tarn_add(g, sum, part) : part;
    }
    return tarn_add(g, b->base, tarn_share(g, sum, all));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_statistic_whole(m, "base_fisher", err));
    return tarn_statistic_whole(m, "fisher", err);
}

static const tarn_statistic statistics[] = {
    {"fisher", false, true, "diagonal curvature of each model's loss: Fisher information, as probe.fisher makes it"},
    {"base_fisher", true, false, "that of the base's own loss; without it only the ridge"},
    {0},
};

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    {"ridge", TARN_NUMBER, 1e-3, 0, 1e300, false, NULL, "added to the base's curvature (delta: the prior's precision)"},
    {0},
};

const tarn_method tarn_method_gradient_matching = {
    .name = "gradient_matching",
    .summary = "task vectors scaled by curvature so that gradients match",
    .paper = "Daheim, Moellenhoff, Ponti, Gurevych, Khan 2024, Model Merging by Uncertainty-Based Gradient Matching, "
             "arXiv:2310.12808",
    .detail = "base + sum of w_t (H_0 + H_t) / (H_0 + sum of w_t H_t) (x_t - base), entry by entry, H_0 with the ridge; zero "
              "where the divisor is. All H_t zero: task arithmetic; H_0 zero: Fisher merging when the weights sum to 1.",
    .example = "local f = a * 0 + 1 -- probe.fisher makes real ones\n"
               "print(merge.gradient_matching { base = base, a, b, fisher = { f, f }, weight = 0.5 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .statistics = statistics, .params = params,
    .check = check, .build = build,
};
