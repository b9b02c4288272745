// SPDX-License-Identifier: Apache-2.0
// RegMean: for each layer the weight whose outputs are nearest to those of every model on its own inputs: a
// least-squares problem in which inputs count only through their Gram matrices.
#include "merge/method/gram.h"
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *grams[TARN_METHOD_MODELS], *parts[TARN_METHOD_MODELS];
    if (!tarn_gram_has(b->model, b->slot, "gram")) {
        return tarn_weighted_mean(b);
    }
    for (int i = 0; i < b->n; i++) {
        grams[i] = tarn_gram_shrunk(b, "gram", i, tarn_get(b, "alpha"));
        grams[i] = tarn_mul(g, grams[i], tarn_num(g, tarn_get_of(b, "weight", i)));
        parts[i] = tarn_matmul(g, tarn_gram_matrix(b, b->x[i]), grams[i]);
    }
    const tarn_node *gram = tarn_sum_of(g, b->n, grams), *right = tarn_sum_of(g, b->n, parts);
    // Inputs that are always zero say nothing: their columns are averaged. The ridge draws all a little that way.
    const tarn_node *zero = tarn_num(g, 0), *diagonal = tarn_singular_diagonal(g, gram);
    const int64_t last = 1;
    const tarn_node *own = tarn_reduce(g, &tarn_op_sum, tarn_where(g, diagonal, gram, zero), 1, &last, false);
    const tarn_node *ridge = tarn_mul(g, tarn_mean(g, own), tarn_num(g, tarn_get(b, "ridge")));
    const tarn_node *extra = tarn_add(g, tarn_cast(g, tarn_eq(g, own, zero), TARN_F64), ridge);
    gram = tarn_add(g, gram, tarn_where(g, diagonal, extra, zero));
    right = tarn_add(g, right, tarn_mul(g, tarn_gram_matrix(b, tarn_weighted_mean(b)), extra));
    return tarn_gram_back(b, tarn_transpose(g, tarn_solve(g, gram, tarn_transpose(g, right))));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    return tarn_gram_check(m, "gram", false, err);
}

static const tarn_statistic statistics[] = {
    {"gram", false, true, "Gram matrix X^T X / rows of the inputs of each layer, [in, in] under its name, as by probe.gram"},
    {0},
};

static const tarn_param params[] = {
    TARN_PARAM_SHARE("factor of each model's Gram matrices, and of its other tensors in their mean"),
    {"alpha", TARN_NUMBER, 0.9, 0, 1, false, NULL, "factor of what is not on the diagonal of a Gram matrix"},
    {"ridge", TARN_NUMBER, 0, 0, 1e300, false, NULL, "pull towards the mean, in parts of the mean of the diagonal"},
    {0},
};

const tarn_method tarn_method_regmean = {
    .name = "regmean",
    .summary = "weights whose outputs are nearest to every model's on its own inputs",
    .paper = "Jin, Ren, Preotiuc-Pietro, Cheng 2023, Dataless Knowledge Fusion by Merging Weights of Language Models, "
             "arXiv:2212.09849",
    .detail = "W = (sum of w_m W_m G_m) (sum of w_m G_m)^-1 for weights [out, in] with G_m = alpha X_m^T X_m + (1 - alpha) of its "
              "diagonal, solved in f64; convolutions as [out, in h w]. Tensors without Gram matrices: the weighted mean.",
    .example = "local name = \"fc1.weight\"\n"
               "local inputs = model.new { [name] = tensor.eye(a[name].shape[2]) } -- probe.gram makes real ones\n"
               "print(merge.regmean { a, b, gram = { inputs, inputs } })",
    .version = 1, .tier = 'B', .least = 1, .most = -1, .statistics = statistics, .params = params, .check = check,
    .build = build, .note = tarn_gram_note,
};
