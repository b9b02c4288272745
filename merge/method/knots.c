// SPDX-License-Identifier: Apache-2.0
// KnOTS: low-rank updates brought into one basis by a joint SVD, merged there entry by entry.
#include "merge/method/singular.h"

// w_m times the coordinates x of task m, sparsified as `inner` says.
static const tarn_node *coordinates(tarn_build *b, const tarn_node *x, int i) {
    double density = tarn_get_of(b, "density", i);
    if (tarn_choice(b, "inner", "ties")) {
        x = tarn_keep_share(b, x, -1, density, tarn_choice(b, "trim", "global"), i);
    } else if (x && tarn_choice(b, "inner", "dare_ties") && density < 1) {
        const tarn_node *mask = tarn_mask_shaped(b, 2, x->desc.shape, density, tarn_get(b, "seed"), i, "knots");
        x = tarn_where(b->g, mask, tarn_div(b->g, x, tarn_num(b->g, density)), tarn_num(b->g, 0));
    }
    return tarn_vectors_weighted(b, x, i);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS];
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    tarn_svd_nodes p = tarn_singular_svd(b, tarn_singular_joint(b), 0);
    const tarn_node *s = tarn_where(g, tarn_gt(g, p.s, tarn_num(g, tarn_get(b, "tol"))), p.s, tarn_num(g, 0));
    const tarn_node *joint = tarn_singular_rows(g, s, p.vt);
    for (int64_t i = 0, n = tarn_singular_columns(b); i < b->n; i++) {
        x[i] = coordinates(b, tarn_slice(g, joint, 1, i * n, n), (int)i);
    }
    const tarn_node *merged = tarn_choice(b, "inner", "mean") ? tarn_div(g, tarn_sum_of(g, b->n, x), tarn_num(g, b->n))
                                                              : tarn_vectors_elected(b, x, true);
    return tarn_singular_result(b, tarn_matmul(g, p.u, merged));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    return tarn_model_value(m, "inner", -1)->text[0] == 't' ? tarn_vectors_trim_check(m, err) : TARN_OK;
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"inner", TARN_CHOICE, 0, 0, 0, false, "ties|dare_ties|mean", "how the coordinates are merged"},
    {"density", TARN_NUMBER, 0.2, 0, 1, true, NULL,
     "share of a task's coordinates that ties keeps (of those that are not zero; by.… needs trim = \"tensor\"), chance of "
     "each in dare_ties (drawn by seed)"},
    {"trim", TARN_CHOICE, 0, 0, 0, false, "global|tensor", "ties over all matrices of a task (paper), or in each"},
    {"tol", TARN_NUMBER, 1e-5, 0, 1e300, false, NULL, "singular values up to it count as zero"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_knots = {
    .name = "knots",
    .summary = "task vectors merged in the basis of their joint SVD: for LoRA updates",
    .paper = "Stoica, Ramesh, Ecsedi, Choshen, Hoffman 2024, Model Merging with SVD to Tie the KnOTS, arXiv:2410.19735",
    .detail = "Per matrix: [t_1 | .. | t_T] = U S [V_1^T | .. | V_T^T]; the coordinates S V_m^T of the tasks are merged by TIES "
              "or DARE-TIES; base + lambda U times that. inner = \"mean\" is the mean of the t_m." TARN_DETAIL_SINGULAR,
    .example = "print(merge.knots { base = base, a, b })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .check = check,
    .build = build, .note = tarn_singular_note,
};
