// SPDX-License-Identifier: Apache-2.0
// Weighted average: Σ w_m x_m, divided by Σ w_m. Model soups are this with equal weights.
#include <math.h>

#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    if (tarn_is_recorded(b, "weight")) {
        return tarn_combine_recorded(b, b->x);
    }
    double w[TARN_METHOD_MODELS], total = tarn_weights(b, w);
    const tarn_node *sum = tarn_combine(b->g, b->n, b->x, w);
    return tarn_flag(b, "normalize") && total != 1 ? tarn_div(b->g, sum, tarn_num(b->g, total)) : sum;
}

static tarn_status check(const tarn_model *m, tarn_error *err) { return tarn_check_shares(m, "normalize", err); }

// Weights that vary by tensor count by their mean; a mean of equal masses has it whatever they are.
static double mass(const tarn_model *m) {
    double sum = 0, total = 0;
    bool equal = true;
    for (int k = 0; k < tarn_method_models(m); k++) {
        const tarn_value *v = tarn_model_value(m, "weight", k);
        double w = v->each ? 0 : v->number;
        for (int64_t i = 0; v->each && i < m->n; i++) {
            w += v->each[i] / (double)m->n;
        }
        sum += w * m->in[k]->mass;
        total += w;
        equal = equal && m->in[k]->mass == m->in[0]->mass;
    }
    bool mean = tarn_model_value(m, "normalize", -1)->number != 0 && total != 0;
    return mean && equal && isnan(total) ? m->in[0]->mass : mean ? sum / total : sum;
}

static const tarn_param params[] = {
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "factor of each model: also the samples or steps that it saw"},
    {"normalize", TARN_BOOLEAN, 1, 0, 1, false, NULL, "divide by the sum of the weights"},
    {0},
};

const tarn_method tarn_method_linear = {
    .name = "linear",
    .summary = "weighted average of models: soups, SWA, LAWA, FedAvg",
    .paper = "Wortsman et al. 2022, Model soups, arXiv:2203.05482",
    .detail = "sum of w_m x_m, divided by the sum of w_m unless normalize = false. Equal weights: a uniform soup, "
              "sd-mecha's n_average, and of checkpoints SWA and LAWA (merge.swa and merge.lawa find them in a folder); "
              "numbers of samples as weights: FedAvg (arXiv:1602.05629). mergekit's `linear` is the same.",
    .example = "print(merge.linear { a, b, weight = {0.6, 0.4} })",
    .recorded = "weight", .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .mass = mass, .check = check, .build = build,
};
