// SPDX-License-Identifier: Apache-2.0
// Model stock: the mean of the models, pulled towards the base by how much their offsets disagree.
// t = n cos / (1 + (n - 1) cos), with cos the mean cosine over pairs of offsets; result
// t mean + (1 - t) base.
#include "merge/method/method.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    int n = b->n, pairs = 0;
    const tarn_node *d[TARN_METHOD_MODELS], *size[TARN_METHOD_MODELS], *cosine = NULL;
    const tarn_node *one = tarn_num(g, 1), *zero = tarn_num(g, 0);
    const tarn_node *floor = tarn_num(g, tarn_get(b, "norm_floor"));
    for (int i = 0; i < n; i++) {
        d[i] = tarn_delta(b, i);
        size[i] = tarn_sqrt(g, tarn_dot(g, d[i], d[i]));
    }
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; j < n; j++) {
            const tarn_node *product = tarn_maximum(g, tarn_mul(g, size[i], size[j]), floor);
            const tarn_node *c = tarn_div(g, tarn_dot(g, d[i], d[j]), product);
            c = tarn_where(g, tarn_gt(g, product, zero), c, zero);
            c = tarn_maximum(g, tarn_minimum(g, c, one), tarn_num(g, -1));
            cosine = cosine ? tarn_add(g, cosine, c) : c;
            pairs++;
        }
    }
    cosine = tarn_div(g, cosine, tarn_num(g, pairs));
    const tarn_node *below = tarn_add(g, one, tarn_mul(g, tarn_num(g, n - 1), cosine));
    const tarn_node *pole = tarn_lt(g, tarn_abs(g, below), tarn_num(g, 1e-6));
    const tarn_node *t = tarn_div(g, tarn_mul(g, tarn_num(g, n), cosine), below);
    t = tarn_where(g, pole, zero, t);
    const tarn_node *mean = tarn_div(g, tarn_sum_of(g, n, b->x), tarn_num(g, n));
    return tarn_add(g, tarn_mul(g, mean, t), tarn_mul(g, b->base, tarn_sub(g, one, t)));
}

static const tarn_param params[] = {
    {"norm_floor", TARN_NUMBER, 0, 0, 1, false, NULL,
     "least product of two offset norms in a cosine; mergekit: 1e-6, which pulls small tensors to the base"},
    {0},
};

const tarn_method tarn_method_model_stock = {
    .name = "model_stock",
    .summary = "mean of models, pulled to the base by the angle between their offsets",
    .paper = "Jang, Yun, Han 2024, Model Stock, arXiv:2403.19522",
    .detail = "t = n c / (1 + (n-1) c) with c the mean cosine between offsets from the base, per tensor; "
              "t mean + (1-t) base. Orthogonal offsets give the base, identical ones the mean.",
    .example = "print(merge.model_stock { base = base, a, b })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 2, .most = -1, .params = params, .build = build,
};
