// SPDX-License-Identifier: Apache-2.0
// Weighted average: Σ w_m x_m, divided by Σ w_m. Model soups are this with equal weights.
#include "merge/method/method.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *term[TARN_METHOD_MODELS];
    double total = 0;
    int n = 0;
    for (int i = 0; i < b->n; i++) {
        double w = tarn_get_of(b, "weight", i);
        total += w;
        if (w != 0) {  // a model of weight zero leaves no trace, not even in the sign of a zero
            term[n++] = w == 1 ? b->x[i] : tarn_mul(b->g, b->x[i], tarn_num(b->g, w));
        }
    }
    const tarn_node *sum = n > 0 ? tarn_sum_of(b->g, n, term) : tarn_mul(b->g, b->x[0], tarn_num(b->g, 0));
    return tarn_flag(b, "normalize") && total != 1 ? tarn_div(b->g, sum, tarn_num(b->g, total)) : sum;
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    if (tarn_model_value(m, "normalize", -1)->number == 0) {
        return TARN_OK;
    }
    for (int64_t i = 0; i < m->n; i++) {
        double total = 0;
        for (int k = 0; k < tarn_method_models(m); k++) {
            total += tarn_value_at(tarn_model_value(m, "weight", k), i);
        }
        if (total == 0) {
            TARN_RAISE(err, "OptionRange",
                       "merge.linear: the weights sum to zero for %s; normalize = false keeps the sum",
                       m->slots[i].name);
        }
    }
    return TARN_OK;
}

// Weights that vary by tensor count by their mean.
static double mass(const tarn_model *m) {
    double sum = 0, total = 0;
    for (int k = 0; k < tarn_method_models(m); k++) {
        const tarn_value *v = tarn_model_value(m, "weight", k);
        double w = v->each ? 0 : v->number;
        for (int64_t i = 0; v->each && i < m->n; i++) {
            w += v->each[i] / (double)m->n;
        }
        sum += w * m->in[k]->mass;
        total += w;
    }
    bool mean = tarn_model_value(m, "normalize", -1)->number != 0 && total != 0;
    return mean ? sum / total : sum;
}

static const tarn_param params[] = {
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "factor of each model"},
    {"normalize", TARN_BOOLEAN, 1, 0, 1, false, NULL, "divide by the sum of the weights"},
    {0},
};

const tarn_method tarn_method_linear = {
    .name = "linear",
    .summary = "weighted average of models",
    .paper = "Wortsman et al. 2022, Model soups, arXiv:2203.05482",
    .detail = "sum of w_m x_m, divided by the sum of w_m unless normalize = false. Equal weights: a "
              "uniform soup. mergekit's `linear` is the same.",
    .example = "print(merge.linear { a, b, weight = {0.6, 0.4} })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .mass = mass, .check = check, .build = build,
};
