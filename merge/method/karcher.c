// SPDX-License-Identifier: Apache-2.0
// The Karcher (Riemannian) mean on the sphere, each tensor as one vector. The iteration needs inner
// products only, so it runs on the Gram matrix between two passes: coefficients of the operands are
// all that comes out.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    int n = b->n;
    const tarn_node *cell[TARN_METHOD_MODELS * TARN_METHOD_MODELS], *w[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        w[i] = tarn_num(g, tarn_get_of(b, "weight", i));
    }
    tarn_gram(g, n, b->x, cell);
    const tarn_node *in[2] = {tarn_square(g, n, cell), tarn_stack(g, n, w)};
    double f[2] = {tarn_get(b, "max_iter"), tarn_get(b, "tol")};
    tarn_attr a = {.nf = 2, .f = f};
    const tarn_node *c = tarn_node_make(g, &tarn_op_karcher_weights, 2, in, &a);
    return n == 1 ? b->x[0] : tarn_combine_by(g, n, b->x, c);
}

static const tarn_param params[] = {
    TARN_PARAM_SHARE("weight of each model in the mean"),
    {"max_iter", TARN_INTEGER, 100, 0, 100000, false, NULL, "iterations at most"},
    {"tol", TARN_NUMBER, 1e-9, 0, 1, false, NULL,
     "stop when the tangent is shorter (radians); shorter tensors count as zero"},
    {0},
};

const tarn_method tarn_method_karcher = {
    .name = "karcher",
    .summary = "Karcher mean of directions, with the mean of the norms",
    .paper = "Karcher 1977, Riemannian center of mass and mollifier smoothing, doi:10.1002/cpa.3160300502",
    .detail = "The unit vector that minimises the weighted sum of squared angles to the operands, times "
              "the weighted mean of their norms, per tensor. mergekit's `karcher` is the same with "
              "equal weights, max_iter = 10, tol = 1e-5.",
    .example = "print(merge.karcher { a, b, c })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .build = build,
};
