// SPDX-License-Identifier: Apache-2.0
// CART: task vectors taken from the mean of the models rather than from the base, at low rank.
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *t[TARN_METHOD_MODELS];
    double lambda = tarn_get(b, "lambda");
    const tarn_node *mean = tarn_div(g, tarn_sum_of(g, b->n, b->x), tarn_num(g, b->n));
    if (!tarn_singular(b) || lambda == 0) {
        return mean;
    }
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_singular_matrix(b, tarn_vectors_weighted(b, tarn_sub(g, b->x[i], mean), i));
    }
    tarn_svd_nodes p = tarn_singular_svd(b, tarn_stack(g, b->n, t), tarn_singular_count(b, tarn_get(b, "share")));
    const tarn_node *sum = tarn_singular_sum(g, tarn_singular_product(g, p.u, p.s, p.vt));
    sum = tarn_reshape(g, tarn_mul(g, sum, tarn_num(g, lambda)), b->source->rank, b->source->shape);
    return tarn_add(g, mean, sum);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"share", TARN_NUMBER, 0.08, 0, 1, false, NULL, "share of min(m, n) singular triples kept of each model, at least one"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_cart = {
    .name = "cart",
    .summary = "mean of the models plus low-rank offsets of each from it",
    .paper = "Choi, Kim, Lee, Hong 2024, Revisiting Weight Averaging for Model Merging, arXiv:2412.12153",
    .detail = "Per matrix: c + lambda sum of w_m U_k S_k V_k^T of x_m - c, c the mean of the models; other tensors: c. At share = "
              "1 and equal weights the offsets cancel and the mean comes out.",
    .example = "print(merge.cart { a, b })",
    .version = 1, .tier = 'B', .least = 1, .most = -1, .params = params, .build = build, .note = tarn_singular_note,
};
