// SPDX-License-Identifier: Apache-2.0
// Iso-C: the sum of task vectors with a flat spectrum, so that no direction of one task rules.
#include "merge/method/singular.h"

// d, or ones on the diagonal where all of it is zero: that has no polar factor, and any serves there.
static const tarn_node *filled(tarn_graph *g, const tarn_node *d) {
    const tarn_node *eye = tarn_singular_diagonal(g, d), *zero = tarn_num(g, 0);
    const tarn_node *some = tarn_gt(g, tarn_total(g, &tarn_op_max, tarn_abs(g, d)), zero);
    return tarn_where(g, some, d, tarn_where(g, eye, tarn_num(g, 1), zero));
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    const tarn_node *d = tarn_singular_matrix(b, tarn_vectors_sum(b));
    if (tarn_flag(b, "polar")) {  // the sum of singular values is the trace of the polar factor against d
        const tarn_node *q = tarn_polar(g, filled(g, d), TARN_POLAR_ITERATE);
        const tarn_node *side = tarn_num(g, (double)tarn_singular_side(b));
        return tarn_singular_result(b, tarn_mul(g, q, tarn_div(g, tarn_dot(g, q, d), side)));
    }
    tarn_svd_nodes p = tarn_singular_svd(b, d, 0);
    return tarn_singular_result(b, tarn_singular_product(g, p.u, tarn_mean(g, p.s), p.vt));
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
