// SPDX-License-Identifier: Apache-2.0
// Iso-C: the sum of task vectors with a flat spectrum, so that no direction of one task rules.
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *t[TARN_METHOD_MODELS];
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_vectors_weighted(b, tarn_delta(b, i), i);
    }
    const tarn_node *d = tarn_singular_pick(g, tarn_singular_matrix(b, tarn_sum_of(g, b->n, t)), 0);
    const tarn_node *side = tarn_num(g, (double)tarn_singular_side(b));
    if (tarn_flag(b, "polar")) {  // the sum of singular values is the trace of the polar factor against d
        const tarn_node *q = tarn_polar(g, d, TARN_POLAR_ITERATE);
        return tarn_singular_result(b, tarn_mul(g, q, tarn_div(g, tarn_dot(g, q, d), side)));
    }
    tarn_svd_nodes p = tarn_singular_svd(b, d, 0);
    const tarn_node *mean = tarn_div(g, tarn_total(g, &tarn_op_sum, p.s), side);
    return tarn_singular_result(b, tarn_singular_product(g, p.u, mean, p.vt));
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"polar", TARN_BOOLEAN, 0, 0, 1, false, NULL,
     "by steps of matrix products for the polar factor instead of an SVD, for sums of full rank: pays with several processors"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_iso_c = {
    .name = "iso_c",
    .summary = "sum of task vectors with all singular values set to their mean",
    .paper = "Marczak, Magistri, Cygert, Twardowski, Bagdanov, van de Weijer 2025, No Task Left Behind: Isotropic Model "
             "Merging with Common and Task-Specific Subspaces, arXiv:2502.04959",
    .detail = "Per matrix: the sum of w_m t_m = U S V^T; base + lambda mean(S) U V^T. FusionBench's lambda for ViT-B/32 is 1.5."
              TARN_DETAIL_SINGULAR,
    .example = "print(merge.iso_c { base = base, a, b })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
    .note = tarn_singular_note,
};
