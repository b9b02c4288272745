// SPDX-License-Identifier: Apache-2.0
// MaTS, models in their task subspaces: the linear system that Fisher merging and RegMean solve in special cases,
// with block curvature of each layer as a Kronecker product, by conjugate gradients.
#include "merge/method/gram.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *mean = tarn_weighted_mean(b), *t[TARN_METHOD_MODELS];
    if (!tarn_gram_has(b->model, b->slot, "inputs")) {
        return mean;
    }
    const tarn_node *w = tarn_gram_matrix(b, mean);
    if (b->base && tarn_choice(b, "start", "arithmetic")) {
        const tarn_node *base = tarn_gram_matrix(b, b->base);
        for (int i = 0; i < b->n; i++) {
            t[i] = tarn_sub(g, tarn_gram_matrix(b, b->x[i]), base);
        }
        w = tarn_add(g, base, tarn_mul(g, tarn_sum_of(g, b->n, t), tarn_num(g, tarn_get(b, "lambda"))));
    }
    return tarn_gram_back(b, tarn_gram_match(b, w, (int)tarn_get(b, "iterations")));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_gram_check(m, "inputs", false, err));
    return tarn_gram_check(m, "outputs", true, err);
}

static const tarn_statistic statistics[] = {
    {"inputs", false, true, "second moments of the inputs of each layer, [in, in] under the name of its weight (probe.gram)"},
    {"outputs", false, false, "second moments of the gradients by the outputs of each layer, [out, out] likewise; without them "
                              "the objective is RegMean's (alpha = 1)"},
    {0},
};

static const tarn_param params[] = {
    TARN_PARAM_SHARE("factor of each model's curvature, and of its other tensors in their mean"),
    {"iterations", TARN_INTEGER, 30, 0, 1000, false, NULL, "steps of conjugate gradients, per tensor, in f64"},
    {"start", TARN_CHOICE, 0, 0, 0, false, "mean|arithmetic", "where they start: the mean, or task arithmetic (needs base)"},
    {"lambda", TARN_NUMBER, 0.3, 0, 0, false, NULL, "factor of the task vectors in start = \"arithmetic\""},
    {0},
};

const tarn_method tarn_method_mats = {
    .name = "mats",
    .summary = "models matched in their task subspaces, by conjugate gradients",
    .paper = "Tam, Bansal, Raffel 2024, Merging by Matching Models in Task Parameter Subspaces, arXiv:2312.04339",
    .detail = "Per weight [out, in] W solves sum of w_m B_m W A_m = sum of w_m B_m W_m A_m, with A_m the second moments of the "
              "layer's inputs and B_m those of the gradients by its outputs (Kronecker-factored Fisher). Diagonal factors give "
              "Fisher merging, no B_m RegMean. Directions without curvature stay at the start. Tensors without moments: the "
              "weighted mean.",
    .example = "local name = \"fc1.weight\"\n"
               "local inputs = model.new { [name] = tensor.eye(a[name].shape[2]) } -- probe.gram makes real ones\n"
               "print(merge.mats { a, b, inputs = { inputs, inputs } })",
    .version = 1, .tier = 'B', .needs = TARN_TAKES_BASE, .least = 1, .most = -1, .statistics = statistics, .params = params,
    .check = check, .build = build, .note = tarn_gram_note,
};
