// SPDX-License-Identifier: Apache-2.0
// MaTS, models in their task subspaces: the linear system that Fisher merging and RegMean solve in special cases,
// with block curvature of each layer as a Kronecker product, by conjugate gradients.
#include "merge/method/gram.h"

// Σ w_m B_m X_m A_m with X_m = x[m] (or the one x for all). B: [out, out], NULL: the identity.
static const tarn_node *curve(tarn_build *b, const tarn_node *const *x, const tarn_node *one,
                              const tarn_node *const *in, const tarn_node *const *out) {
    tarn_graph *g = b->g;
    const tarn_node *part[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        part[i] = tarn_matmul(g, one ? one : x[i], in[i]);
        part[i] = out[i] ? tarn_matmul(g, out[i], part[i]) : part[i];
        part[i] = tarn_mul(g, part[i], tarn_num(g, tarn_get_of(b, "weight", i)));
    }
    return tarn_sum_of(g, b->n, part);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS], *in[TARN_METHOD_MODELS], *out[TARN_METHOD_MODELS];
    if (!tarn_gram_has(b->model, b->slot, "inputs")) {
        return tarn_weighted_mean(b);
    }
    for (int i = 0; i < b->n; i++) {
        x[i] = tarn_gram_matrix(b, b->x[i]);
        in[i] = tarn_gram_shrunk(b, "inputs", i, 1);
        out[i] = tarn_gram_has(b->model, b->slot, "outputs") ? tarn_gram_shrunk(b, "outputs", i, 1) : NULL;
    }
    const tarn_node *w = tarn_gram_matrix(b, tarn_weighted_mean(b));
    if (b->base && tarn_choice(b, "start", "arithmetic")) {
        const tarn_node *base = tarn_gram_matrix(b, b->base), *sum = tarn_num(g, 0);
        for (int i = 0; i < b->n; i++) {
            sum = tarn_add(g, sum, tarn_sub(g, x[i], base));
        }
        w = tarn_add(g, base, tarn_mul(g, sum, tarn_num(g, tarn_get(b, "lambda"))));
    }
    const tarn_node *r = tarn_sub(g, curve(b, x, NULL, in, out), curve(b, NULL, w, in, out)), *p = r;
    const tarn_node *rr = tarn_dot(g, r, r);
    for (int k = (int)tarn_get(b, "iterations"); k > 0 && rr; k--) {
        const tarn_node *q = curve(b, NULL, p, in, out), *step = tarn_share(g, rr, tarn_dot(g, p, q));
        w = tarn_add(g, w, tarn_mul(g, step, p));
        r = tarn_sub(g, r, tarn_mul(g, step, q));
        const tarn_node *next = tarn_dot(g, r, r);
        p = tarn_add(g, r, tarn_mul(g, tarn_share(g, next, rr), p));
        rr = next;
    }
    return tarn_gram_back(b, w);
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_check_shares(m, NULL, err));
    TARN_TRY(tarn_gram_check(m, "inputs", false, err));
    return tarn_gram_check(m, "outputs", true, err);
}

static const char *note(const tarn_model *m, int64_t i) {
    return tarn_gram_has(m, i, "inputs") ? NULL : "mean: no second moments of its inputs";
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
    .check = check, .build = build, .note = note,
};
