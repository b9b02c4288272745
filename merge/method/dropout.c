// SPDX-License-Identifier: Apache-2.0
// Dropout: at random, entries of the base are replaced by what the other models made of them.
#include "merge/method/overlap.h"
#include "merge/method/vectors.h"

// Whether model i takes part in an entry.
static const tarn_node *mask(tarn_build *b, int i, double density) {
    tarn_graph *g = b->g;
    if (tarn_choice(b, "overlap", "independent")) {
        return tarn_mask(b, density, tarn_get(b, "seed"), i, "dropout");
    }
    bool shared = tarn_choice(b, "overlap", "shared");
    double low = shared ? 0 : density * i / b->n, high = shared ? density : density * (i + 1) / b->n;
    const tarn_node *u = tarn_draw(b, tarn_get(b, "seed"), -1, "dropout");
    const tarn_node *above = tarn_ge(g, u, tarn_num(g, low)), *below = tarn_lt(g, u, tarn_num(g, high));
    return low == 0 ? below : tarn_binary(g, &tarn_op_logical_and, above, below);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double density = tarn_get(b, "density"), rescale = tarn_get(b, "rescale");
    const tarn_node *part[TARN_METHOD_MODELS];
    tarn_overlap o;
    if (density == 0) {
        return b->base;
    }
    for (int i = 0; i < b->n; i++) {
        part[i] = mask(b, i, density);
    }
    tarn_overlap_of(b, part, &o);
    const tarn_node *scale = tarn_binary(g, &tarn_op_pow, tarn_num(g, density), tarn_num(g, rescale));
    return tarn_add(g, b->base, rescale == 0 || density == 1 ? o.mean : tarn_div(g, o.mean, scale));
}

static const tarn_param params[] = {
    {"density", TARN_NUMBER, 0.1, 0, 1, false, NULL,
     "probability of keeping an entry of a difference (1 - sd-mecha's probability)"},
    {"rescale", TARN_NUMBER, 1, 0, 2, false, NULL, "what is kept is divided by density to this power; 0: not at all"},
    {"overlap", TARN_CHOICE, 0, 0, 0, false, "independent|shared|disjoint",
     "of the masks of several models: drawn apart, one for all, or one model an entry (sd-mecha's overlap "
     "1, just below 1, 0)"},
    TARN_PARAM_SEED,
    {0},
};

const tarn_method tarn_method_dropout = {
    .name = "dropout",
    .summary = "differences from the base, entries dropped at random, averaged over the models that keep one",
    .paper = "sd-mecha, github.com/ljleb/sd-mecha; after Yu et al. 2024, arXiv:2311.03099",
    .detail = "base + mean over the models that keep the entry of (x_m - base) / "
              "density^rescale. One model and rescale = 0: each entry is the model's or the base's. "
              "In expectation the mean difference for shared, disjoint, or one model; independent masks "
              "of n models give (1 - (1 - density)^n) / density of it.",
    .example = "print(merge.dropout { base = base, a, b, density = 0.5, overlap = \"disjoint\", seed = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
