// SPDX-License-Identifier: Apache-2.0
// Fisher merging: an average weighted entry by entry by how sure each model is of it.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *share[TARN_METHOD_MODELS], *x[TARN_METHOD_MODELS];
    double w[TARN_METHOD_MODELS];
    bool unit = tarn_choice(b, "normalize", "l2"), first = tarn_choice(b, "floor_of", "first");
    tarn_weights(b, w);
    for (int i = 0; i < b->n; i++) {
        const tarn_node *f = tarn_statistic_of(b, "fisher", i), *part = tarn_num(g, w[i]);
        if (unit) {
            const tarn_node *norm = tarn_sqrt(g, tarn_expand_global(b->expand, b->model, b->slot, i, &tarn_op_sum,
                                                                    tarn_mul(g, f, f), NULL));
            part = tarn_share(g, part, norm);
        }
        if (i == 0 || !first) {
            f = tarn_maximum(g, f, tarn_num(g, tarn_get(b, "floor")));
        }
        share[i] = tarn_mul(g, f, part);
        x[i] = tarn_mul(g, share[i], b->x[i]);
    }
    const tarn_node *total = tarn_sum_of(g, b->n, share), *none = tarn_eq(g, total, tarn_num(g, 0));
    return tarn_where(g, none, tarn_weighted_mean(b), tarn_div(g, tarn_sum_of(g, b->n, x), total));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_check_shares(m, NULL, err));
    return tarn_statistic_whole(m, "fisher", err);
}

static const tarn_statistic statistics[] = {
    {"fisher", false, true, "diagonal Fisher information of each model, as probe.fisher makes it: not negative"}, {0}};

static const tarn_param params[] = {
    TARN_PARAM_SHARE("factor of each model's information (lambda of the paper)"),
    {"floor", TARN_NUMBER, 1e-6, 0, 1e300, false, NULL, "information counts as at least this much"},
    {"floor_of", TARN_CHOICE, 0, 0, 0, false, "all|first",
     "which models' information has the floor; first: where nobody is sure, the first model wins (official code)"},
    {"normalize", TARN_CHOICE, 0, 0, 0, false, "none|l2",
     "l2: each weight is divided by the norm of that model's whole information (official code; two passes)"},
    {0},
};

const tarn_method tarn_method_fisher = {
    .name = "fisher",
    .summary = "average weighted per entry by each model's Fisher information",
    .paper = "Matena, Raffel 2022, Merging Models with Fisher-Weighted Averaging, arXiv:2111.09832",
    .detail = "sum of w_m F_m x_m divided by the sum of w_m F_m; the weighted mean where that is zero. Equal information gives the "
              "weighted mean. Only ratios of the F_m matter, so floor belongs to their scale (per example, in nats squared).",
    .example = "local sure, unsure = a * 0 + 1, b * 0 + 0.5 -- probe.fisher makes real ones\n"
               "print(merge.fisher { a, b, fisher = { sure, unsure } })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .statistics = statistics, .params = params, .check = check, .build = build,
};
