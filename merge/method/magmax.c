// SPDX-License-Identifier: Apache-2.0
// MagMax: of each entry, the task vector in which it is largest.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *best = NULL;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *t = tarn_vectors_task(b, i);
        best = best ? tarn_where(g, tarn_gt(g, tarn_abs(g, t), tarn_abs(g, best)), t, best) : t;
    }
    return tarn_vectors_scaled(b, best);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {0},
};

const tarn_method tarn_method_magmax = {
    .name = "magmax",
    .summary = "per entry, the task vector of largest magnitude",
    .paper = "Marczak, Twardowski, Trzciński, Cygert 2024, MagMax: Leveraging Model Merging for Seamless Continual "
             "Learning, arXiv:2407.06322",
    .detail = "base + lambda t, each entry of t being that w_m (x_m - base) whose magnitude is largest; of equal ones the "
              "first. The paper fine-tunes one task after the other, each from the last model, and takes task vectors "
              "from the common base.",
    .example = "print(merge.magmax { base = base, a, b, c })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
