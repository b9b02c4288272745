// SPDX-License-Identifier: Apache-2.0
// Clamp: the first model, kept within what the others span, entry by entry.
#include "merge/method/mix.h"

// The bound nearest to the mean on one side of it, from the outermost one inwards.
static const tarn_node *nearest(tarn_build *b, const tarn_node *outer, const tarn_node *mean, bool above) {
    tarn_graph *g = b->g;
    for (int i = 1; i < b->n; i++) {
        const tarn_node *x = b->x[i];
        const tarn_node *side = above ? tarn_ge(g, x, mean) : tarn_le(g, x, mean);
        outer = tarn_where(g, side, above ? tarn_minimum(g, outer, x) : tarn_maximum(g, outer, x), outer);
    }
    return outer;
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double stiffness = tarn_get(b, "stiffness");
    const tarn_node *low = b->x[1], *high = b->x[1];
    for (int i = 2; i < b->n; i++) {
        low = tarn_minimum(g, low, b->x[i]);
        high = tarn_maximum(g, high, b->x[i]);
    }
    if (stiffness > 0) {
        const tarn_node *mean = tarn_div(g, tarn_sum_of(g, b->n - 1, b->x + 1), tarn_num(g, b->n - 1));
        const tarn_node *up = nearest(b, high, mean, true), *down = nearest(b, low, mean, false);
        high = tarn_mix(g, high, up, stiffness);
        low = tarn_mix(g, low, down, stiffness);
    }
    return tarn_minimum(g, tarn_maximum(g, b->x[0], low), high);
}

static const tarn_param params[] = {
    {"stiffness", TARN_NUMBER, 0, 0, 1, false, NULL,
     "0: between the smallest and the largest bound; 1: between the two nearest to the bounds' mean on "
     "either side"},
    {0},
};

const tarn_method tarn_method_clamp = {
    .name = "clamp",
    .summary = "the first model, held between the smallest and the largest of the others",
    .paper = "sd-mecha, github.com/ljleb/sd-mecha",
    .detail = "min(max(a, min of the bounds), max of the bounds), entry by entry. With two bounds "
              "stiffness changes nothing.",
    .example = "print(merge.clamp { a + 0.5 * (b - c), a, b })",
    .version = 1, .tier = 'A', .least = 2, .most = -1, .params = params, .build = build,
};
