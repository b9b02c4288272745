// SPDX-License-Identifier: Apache-2.0
// Singular task interference: how far the singular bases of the tasks overlap, one number per matrix.
#include "merge/method/tsv.h"

// |x x^T - 1| of x [T k, ..] with orthonormal blocks.
static const tarn_node *overlap(tarn_graph *g, const tarn_node *x) {
    const tarn_node *gram = x ? tarn_matmul(g, x, tarn_transpose(g, x)) : NULL;
    const tarn_node *diagonal = tarn_singular_diagonal(g, gram);
    return tarn_sub(g, gram, tarn_where(g, diagonal, tarn_num(g, 1), tarn_num(g, 0)));
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    if (b->numel == 0) {
        return tarn_num(g, 0);
    }
    tarn_svd_nodes p = tarn_tsv_parts(b);
    const tarn_node *u = overlap(g, tarn_transpose(g, tarn_singular_beside(g, p.u)));
    const tarn_node *v = overlap(g, tarn_singular_above(g, p.vt));
    const tarn_node *x = tarn_singular_product(g, u, tarn_singular_above(g, p.s), v);
    return tarn_total(g, &tarn_op_sum, tarn_abs(g, x));
}

static bool outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out) {
    (void)a;
    out->rank = 0;
    out->dtype = TARN_F64;
    return k == 0 && tarn_singular_is(m, i);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_SHARE_TRIPLES,
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_task_interference = {
    .name = "task_interference",
    .summary = "singular task interference: a number for each matrix, not a model",
    .paper = "Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodolà 2024, arXiv:2412.00081",
    .detail = "STI = the sum of |(U^T U - 1) S (V^T V - 1)| over all entries, U = [U_1 .. U_T] the leading left singular "
              "vectors of all t_m = w_m (x_m - base) side by side, V alike. 0: the tasks use orthogonal directions. "
              "Tensors that are not taken as matrices are left out.",
    .example = "local sti = merge.task_interference { base = base, a, b, tensors = \"matrices\" }\n"
               "for name, value in pairs(sti:load()) do print(name, value) end",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .mass = tarn_mass_none,
    .build = build, .outputs = outputs,
};
