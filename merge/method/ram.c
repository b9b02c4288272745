// SPDX-License-Identifier: Apache-2.0
// RAM: each entry is averaged over the models that changed it, so that what one model alone changed
// is not diluted by those that did not.
#include "merge/method/overlap.h"

static const tarn_node *build(tarn_build *b) {
    tarn_overlap o;
    tarn_overlap_changed(b, &o);
    return tarn_add(b->g, b->base, o.mean);
}

static const tarn_param params[] = {
    TARN_PARAM_EPSILON,
    {0},
};

const tarn_method tarn_method_ram = {
    .name = "ram",
    .summary = "task vectors averaged per entry over the models that changed it",
    .paper = "Yuan et al. 2026, Behavior Knowledge Merge in Reinforced Agentic Models, "
             "arXiv:2601.13572",
    .detail = "base + sum of t_m over the models with |t_m| > epsilon, divided by their number: "
              "entries of one model whole, shared ones averaged, others at the base. mergekit's "
              "`ram` is the same.",
    .example = "print(merge.ram { base = base, a, b, c })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1,
    .params = params, .build = build,
};
