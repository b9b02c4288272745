// SPDX-License-Identifier: Apache-2.0
// RAM+: RAM, where what one model alone changed is enlarged by as much as the rest of its task
// vector is shared with others.
#include "merge/method/overlap.h"

// Σ x over the tensor, or over the whole model.
static const tarn_node *total(tarn_build *b, const tarn_node *x, int k) {
    return tarn_choice(b, "scope", "tensor")
               ? tarn_total(b->g, &tarn_op_sum, x)
               : tarn_expand_global(b->expand, b->model, b->slot, k, &tarn_op_sum, x, NULL);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *one = tarn_num(g, 1), *term[TARN_METHOD_MODELS];
    const tarn_node *r = tarn_num(g, tarn_get(b, "r")), *alpha = tarn_num(g, tarn_get(b, "alpha"));
    tarn_overlap o;
    tarn_overlap_changed(b, &o);
    const tarn_node *shared = o.count ? tarn_gt(g, o.count, one) : NULL;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *alone = total(b, tarn_where(g, shared, zero, o.active[i]), 2 * i);
        const tarn_node *common = total(b, tarn_where(g, shared, o.active[i], zero), 2 * i + 1);
        const tarn_node *ratio = tarn_div(g, common, tarn_maximum(g, alone, one));
        const tarn_node *factor = tarn_add(g, one, tarn_mul(g, r, tarn_minimum(g, ratio, alpha)));
        term[i] = tarn_mul(g, o.kept[i], factor);
    }
    return tarn_add(g, b->base, tarn_where(g, shared, o.mean, tarn_sum_of(g, b->n, term)));
}

static const tarn_param params[] = {
    TARN_PARAM_EPSILON,
    {"r", TARN_NUMBER, 0.1, 0, 0, false, NULL,
     "how much the share counts: lambda = 1 + r min(rho, alpha)"},
    {"alpha", TARN_NUMBER, 0.2, 0, 1e300, false, NULL, "limit of the ratio rho"},
    {"scope", TARN_CHOICE, 0, 0, 0, false, "global|tensor",
     "where entries are counted: in the whole task vector (paper), or in each tensor (mergekit's "
     "ramplus_tl)"},
    {0},
};

const tarn_method tarn_method_ramplus = {
    .name = "ramplus",
    .summary = "ram, with what one model alone changed enlarged by its overlap with others",
    .paper = "Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, "
             "arXiv:2601.13572",
    .detail = "Entries that several models changed are averaged over them; those of one model are "
              "its t_m times 1 + r min(rho_m, alpha), rho_m the number of changed entries that "
              "model m shares over the number that it alone has. r and alpha are mergekit's, whose "
              "`ramplus_tl` counts per tensor; the authors' script (xiangchi-yuan/mrl, "
              "arm-r-v2 with 1.05) counts over the model with r = 0.05 and alpha = 1.",
    .example = "print(merge.ramplus { base = base, a, b, c, r = 0.1, alpha = 0.2 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .build = build,
};
