// SPDX-License-Identifier: Apache-2.0
// STAR: each task vector cut to the singular values that hold a share of their sum, and these scaled up
// so that their sum stays.
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    tarn_svd_nodes p = tarn_singular_svd(b, tarn_singular_offsets(b), 0);
    const tarn_node *sum = NULL;
    const tarn_node *kept = tarn_mul(g, p.s, tarn_singular_leading(g, p.s, tarn_get(b, "eta"), 1));
    for (int i = 0; i < b->n; i++) {  // one by one, so that one product is in memory
        const tarn_node *s = tarn_singular_pick(g, kept, i);
        const tarn_node *before = tarn_total(g, &tarn_op_sum, tarn_singular_pick(g, p.s, i));
        s = tarn_mul(g, s, tarn_share(g, before, tarn_total(g, &tarn_op_sum, s)));
        const tarn_node *u = tarn_singular_pick(g, p.u, i), *vt = tarn_singular_pick(g, p.vt, i);
        const tarn_node *t = tarn_singular_product(g, u, s, vt);
        sum = sum ? tarn_add(g, sum, t) : t;
    }
    return tarn_singular_result(b, tarn_flag(b, "normalize") ? tarn_div(g, sum, tarn_num(g, b->n)) : sum);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"eta", TARN_NUMBER, 0.4, 0, 1, false, NULL,
     "share of the sum of singular values that the leading ones have to hold (0.4: eta = 40 of the paper)"},
    {"normalize", TARN_BOOLEAN, 1, 0, 1, false, NULL, "the mean over tasks; false: their sum"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_star = {
    .name = "star",
    .summary = "spectral truncation and rescaling of each task vector",
    .paper = "Lee, Chen, Lai et al. 2025, STAR: Spectral Truncation and Rescale for Model Merging, arXiv:2502.10339",
    .detail = "Per matrix: of t_m = U S V^T the fewest leading triples whose values sum to eta sum(S), times sum(S) / "
              "sum(kept S), so that the nuclear norm stays; base + lambda times the mean of these. eta and the mean "
              "are those of the official repository (IBM/STAR)." TARN_DETAIL_SINGULAR,
    .example = "print(merge.star { base = base, a, b })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
    .note = tarn_singular_note,
};
