// SPDX-License-Identifier: Apache-2.0
// TSV-Merge: the leading singular triples of every task, their bases made orthogonal to each other.
#include "merge/method/tsv.h"

// The nearest matrix with orthonormal columns; or u (u^T u)^-1/2, zero along what u does not span.
static const tarn_node *orthogonal(tarn_build *b, const tarn_node *u) {
    tarn_graph *g = b->g;
    if (!u || tarn_choice(b, "orthogonalize", "none")) {
        return u;
    }
    bool wide = u->desc.shape[0] < u->desc.shape[1];
    if (tarn_choice(b, "orthogonalize", "polar")) {
        return tarn_polar(g, u, TARN_POLAR_SVD);
    }
    const tarn_node *ut = tarn_transpose(g, u);
    tarn_eigh_nodes e = tarn_eigh(g, wide ? tarn_matmul(g, u, ut) : tarn_matmul(g, ut, u));
    const tarn_node *some = tarn_gt(g, e.w, tarn_num(g, 1e-5));
    const tarn_node *root = tarn_where(g, some, tarn_div(g, tarn_num(g, 1), tarn_sqrt(g, tarn_abs(g, e.w))), tarn_num(g, 0));
    const tarn_node *white = tarn_singular_product(g, e.v, root, tarn_transpose(g, e.v));
    return wide ? tarn_matmul(g, white, u) : tarn_matmul(g, u, white);
}

static const tarn_node *build(tarn_build *b) {
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    tarn_svd_nodes p = tarn_tsv_parts(b);
    const tarn_node *u = orthogonal(b, tarn_singular_beside(b->g, p.u));
    const tarn_node *vt = orthogonal(b, tarn_singular_above(b->g, p.vt));
    return tarn_singular_result(b, tarn_singular_product(b->g, u, tarn_singular_above(b->g, p.s), vt));
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    TARN_PARAM_SHARE_TRIPLES,
    {"orthogonalize", TARN_CHOICE, 0, 0, 0, false, "polar|whiten|none",
     "u replaced by its polar factor (paper), or by u (u^T u)^-1/2 with zeros where u is deficient: equal unless tasks "
     "share directions exactly, which leaves the polar factor open there"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_tsv_m = {
    .name = "tsv_m",
    .summary = "leading singular triples of every task vector, their bases made orthogonal",
    .paper = "Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodolà 2024, Task Singular Vectors, arXiv:2412.00081",
    .detail = "Per matrix: t_m = U_m S_m V_m^T, the leading min(m, n) / T triples of each; U = [U_1 .. U_T] and V alike are "
              "replaced by their nearest orthonormal matrices; base + lambda U S V^T. One model with lambda = 1 comes back."
              TARN_DETAIL_SINGULAR,
    .example = "print(merge.tsv_m { base = base, a, b })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
    .note = tarn_singular_note,
};
