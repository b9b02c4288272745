// SPDX-License-Identifier: Apache-2.0
// WUDI: the vector whose differences from each task vector t_m have the least effect along t_m's own
// rows. The objective is quadratic, its gradient one product with the Gram matrices of the task vectors.
#include "merge/method/singular.h"

// r k^+ for the sum k of the Gram matrices, by its eigenvectors; all in f64, whose rounding stays under the cut.
static const tarn_node *minimiser(tarn_graph *g, const tarn_node *k, const tarn_node *r) {
    tarn_eigh_nodes e = tarn_eigh(g, k);
    const tarn_node *top = tarn_total(g, &tarn_op_max, e.w);
    const tarn_node *some = tarn_gt(g, e.w, tarn_mul(g, top, tarn_num(g, 1e-10)));
    const tarn_node *inverse = tarn_where(g, some, tarn_div(g, tarn_num(g, 1), e.w), tarn_num(g, 0));
    return tarn_matmul(g, tarn_mul(g, tarn_matmul(g, r, e.v), inverse), tarn_transpose(g, e.v));
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *k = NULL, *r = NULL, *sum = NULL;
    bool closed = tarn_choice(b, "solve", "closed");
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    for (int i = 0; i < b->n; i++) {  // one by one, so that one Gram matrix is in memory
        const tarn_node *t = tarn_singular_matrix(b, tarn_vectors_task(b, i));
        t = closed ? tarn_cast(g, t, TARN_F64) : t;
        const tarn_node *part = tarn_share(g, tarn_num(g, 1), tarn_dot(g, t, t));
        const tarn_node *gram = tarn_mul(g, tarn_matmul(g, tarn_transpose(g, t), t), part);
        const tarn_node *own = tarn_matmul(g, t, gram);
        k = k ? tarn_add(g, k, gram) : gram;
        r = r ? tarn_add(g, r, own) : own;
        sum = sum ? tarn_add(g, sum, t) : t;
    }
    if (!r || closed) {
        return tarn_singular_result(b, r ? minimiser(g, k, r) : NULL);
    }
    double f[5] = {tarn_get(b, "rate"), tarn_get(b, "steps"), 0.9, 0.999, 1e-8};
    const tarn_node *in[3] = {sum, k, r};
    return tarn_singular_result(b, tarn_node_make(g, &tarn_op_descend, 3, in, &(tarn_attr){.nf = 5, .f = f}));
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"solve", TARN_CHOICE, 0, 0, 0, false, "adam|closed",
     "Adam from the sum of task vectors (paper: published results are such early stops), or the minimiser itself"},
    {"rate", TARN_NUMBER, 1e-5, 0, 1, false, NULL, "learning rate of Adam"},
    {"steps", TARN_INTEGER, 300, 0, 1e6, false, NULL, "steps of Adam"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_wudi = {
    .name = "wudi",
    .summary = "vector of least interference with the rows of every task vector",
    .paper = "Cheng, Xiong, Wei, Zhu, Yuan 2025, Whoever Started the Interference Should End It, arXiv:2503.08099",
    .detail = "Per matrix d minimises the sum of |(d - t_m) t_m^T|^2 / |t_m|^2; base + lambda d. closed: d = (sum t_m K_m) (sum "
              "K_m)^+ with K_m = t_m^T t_m / |t_m|^2 (eigenvalues under 1e-10 of the largest count as zero)." TARN_DETAIL_SINGULAR,
    .example = "print(merge.wudi { base = base, a, b, solve = \"closed\" })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
    .note = tarn_singular_note,
};
