// SPDX-License-Identifier: Apache-2.0
// The Karcher (Riemannian) mean on the sphere, each tensor as one vector. The iteration needs inner
// products only, so it runs on the Gram matrix between two passes: coefficients of the operands are
// all that comes out.
#include <string.h>

#include "merge/method/method.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    int n = b->n;
    const tarn_node *cell[TARN_METHOD_MODELS * TARN_METHOD_MODELS], *w[TARN_METHOD_MODELS];
    memset(cell, 0, sizeof cell);
    int64_t one = 1, axis = 0, square[2] = {n, n};
    tarn_attr along = {.ni = 1, .i = &axis};
    for (int i = 0; i < n; i++) {
        w[i] = tarn_reshape(g, tarn_num(g, tarn_get_of(b, "weight", i)), 1, &one);
        for (int j = i; j < n; j++) {
            cell[i * n + j] = tarn_reshape(g, tarn_dot(g, b->x[i], b->x[j]), 1, &one);
            cell[j * n + i] = cell[i * n + j];
        }
    }
    const tarn_node *gram = tarn_node_make(g, &tarn_op_concat, n * n, cell, &along);
    const tarn_node *in[2] = {tarn_reshape(g, gram, 2, square),
                              tarn_node_make(g, &tarn_op_concat, n, w, &along)};
    double f[2] = {tarn_get(b, "max_iter"), tarn_get(b, "tol")};
    tarn_attr a = {.nf = 2, .f = f};
    const tarn_node *c = tarn_node_make(g, &tarn_op_karcher_weights, 2, in, &a);
    const tarn_node *term[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        term[i] = tarn_mul(g, b->x[i], tarn_item(g, c, i));
    }
    return n == 1 ? b->x[0] : tarn_sum_of(g, n, term);
}

static const tarn_param params[] = {
    {"weight", TARN_NUMBER, 1, 0, 1e300, true, NULL, "weight of each model in the mean"},
    {"max_iter", TARN_INTEGER, 100, 0, 100000, false, NULL, "iterations at most"},
    {"tol", TARN_NUMBER, 1e-9, 0, 1, false, NULL,
     "stop when the tangent is shorter (radians); shorter tensors count as zero"},
    {0},
};

const tarn_method tarn_method_karcher = {
    .name = "karcher",
    .summary = "Karcher mean of directions, with the mean of the norms",
    .paper = "Karcher 1977, Riemannian center of mass and mollifier smoothing",
    .detail = "The unit vector that minimises the weighted sum of squared angles to the operands, times "
              "the weighted mean of their norms, per tensor. mergekit's `karcher` is the same with "
              "equal weights, max_iter = 10, tol = 1e-5.",
    .example = "print(merge.karcher { a, b, c })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .build = build,
};
