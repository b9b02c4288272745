// SPDX-License-Identifier: Apache-2.0
// The point with the least sum of distances to the models. It is a weighted mean of them, and its
// distances follow from those between the models, so Weiszfeld's iteration runs on n x n numbers
// between two passes over the data.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    int n = b->n, pair = 0;
    const tarn_node *cell[TARN_METHOD_MODELS * TARN_METHOD_MODELS], *w[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        w[i] = tarn_num(g, tarn_get_of(b, "weight", i));
        cell[i * n + i] = tarn_num(g, 0);
        for (int j = i + 1; j < n; j++) {
            const tarn_node *d = tarn_sub(g, b->x[i], b->x[j]);
            cell[i * n + j] = cell[j * n + i] = tarn_inner_of(b, d, d, pair++);
        }
    }
    double f[2] = {tarn_get(b, "max_iter"), tarn_get(b, "tol")};
    tarn_attr a = {.nf = 2, .f = f};
    const tarn_node *in[2] = {tarn_square(g, n, cell), tarn_stack(g, n, w)};
    return tarn_combine_by(g, n, b->x, tarn_node_make(g, &tarn_op_median_weights, 2, in, &a));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    if (tarn_model_value(m, "scope", -1)->text[0] == 'g') {
        TARN_TRY(tarn_method_shared(m, "weight", "scope = \"tensor\"", err));
    }
    return tarn_check_shares(m, NULL, err);
}

static const tarn_param params[] = {
    TARN_PARAM_SHARE("weight of each model's distance; by.… needs scope = \"tensor\""),
    {"scope", TARN_CHOICE, 0, 0, 0, false, "global|tensor",
     "distances between whole models (paper), or in each tensor by itself (sd-mecha)"},
    {"max_iter", TARN_INTEGER, 1000, 0, 100000, false, NULL, "iterations at most"},
    {"tol", TARN_NUMBER, 1e-12, 0, 1, false, NULL, "stop when no model's share of the result changes by more"},
    {0},
};

const tarn_method tarn_method_geometric_median = {
    .name = "geometric_median",
    .summary = "point with the least sum of distances to the models",
    .paper = "Weiszfeld 1937, Sur le point pour lequel la somme des distances de n points donnés est minimum; for models: "
             "Pillutla, Kakade, Harchaoui 2019, Robust aggregation for federated learning, arXiv:1912.13445",
    .detail = "A weighted mean whose weights fall with the distance to the result: models of less than half of the weight "
              "cannot drag it away. Where the median is one of the models, that model comes out. Of two models, or an "
              "even number on a line, all points between the middle ones are medians: the iteration starts at the mean.",
    .example = "print(merge.geometric_median { a, b, c })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .check = check, .build = build,
};
