// SPDX-License-Identifier: Apache-2.0
// SCE (select, calculate, erase): per tensor, the entries that vary most between the models, each
// model weighted by the energy of its task vector there, without what disagrees in sign.
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *d[TARN_METHOD_MODELS], *c[TARN_METHOD_MODELS];
    double density = tarn_get(b, "density");
    const tarn_node *selected = NULL;
    if (density < 1 && b->n > 1) {
        bool varying = tarn_choice(b, "of", "varying");
        int64_t k = (int64_t)(density * (double)b->numel);
        if (!varying && k == 0) {
            return b->base;
        }
        selected = tarn_largest(g, tarn_spread(g, b->n, b->x), varying ? -1 : k, density);
    }
    for (int i = 0; i < b->n; i++) {
        d[i] = tarn_delta(b, i);
        d[i] = selected ? tarn_where(g, selected, d[i], zero) : d[i];
        c[i] = tarn_dot(g, d[i], d[i]);
    }
    // Energies only matter by their ratio; where there is none (or too little), all count the same.
    const tarn_node *total = tarn_sum_of(g, b->n, c), *v[TARN_METHOD_MODELS];
    const tarn_node *least = tarn_num(g, tarn_get(b, "energy_floor") * (double)b->numel);
    const tarn_node *none = tarn_le(g, total, least);
    for (int i = 0; i < b->n; i++) {
        c[i] = tarn_where(g, none, tarn_num(g, 1), tarn_div(g, c[i], total));
        v[i] = tarn_mul(g, d[i], c[i]);
    }
    return tarn_add(g, b->base, tarn_vectors_agreeing(g, b->n, v, c, tarn_sum_of(g, b->n, d)));
}

static const tarn_param params[] = {
    {"density", TARN_NUMBER, 0.1, 0, 1, false, NULL,
     "share of each tensor's entries that is selected, by variance over the models (tau of the "
     "paper)"},
    {"of", TARN_CHOICE, 0, 0, 0, false, "all|varying",
     "what density is a share of: all entries (paper), or those that are not equal in all models "
     "(official code, mergekit)"},
    {"energy_floor", TARN_NUMBER, 0, 0, 1, false, NULL,
     "sum of the mean squares up to which all models count the same; mergekit: 1e-6, which many "
     "fine-tunes do not reach"},
    {0},
};

const tarn_method tarn_method_sce = {
    .name = "sce",
    .summary = "select by variance, weight by energy, erase minority signs",
    .paper = "Wan et al. 2024, FuseChat, arXiv:2408.07990",
    .detail = "Per tensor: of the task vectors t_m = x_m - base only the entries with the largest "
              "variance over the models stay (ties to the lowest index; one model has none, and "
              "all stays); c_m = sum t_m^2 / sum over models of the same; the sign of sum(t) is "
              "elected (zero: plus); base + sum(c t) / sum(c) over the entries that agree. "
              "mergekit's select_topk is density, 1 by default. FuseAI's code selects for c alone.",
    .example = "print(merge.sce { base = base, a, b, c, density = 0.1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params,
    .build = build,
};
