// SPDX-License-Identifier: Apache-2.0
// Distribution crossover: a and b, each laid out as one line in the order of c's values, exchange
// frequencies of that line.
#include "merge/method/spectrum.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double alpha = tarn_get(b, "alpha"), tilt = tarn_get(b, "beta");
    int64_t n = b->numel, half = n / 2 + 1, up = 0, axis = 0;
    tarn_attr order = {.ni = 1, .i = &up}, along = {.ni = 1, .i = &axis};
    if (b->source->rank == 0) {
        return tarn_mix(g, b->x[1], b->x[0], alpha);
    }
    const tarn_node *line = tarn_reshape(g, tarn_sub(g, b->x[1], b->x[0]), 1, &n);
    const tarn_node *rule = tarn_reshape(g, b->x[2], 1, &n);
    const tarn_node *at = tarn_node_make(g, &tarn_op_argsort, 1, &rule, &order);
    const tarn_node *sorted[2] = {line, at};
    line = tarn_node_make(g, &tarn_op_gather, 2, sorted, &along);
    const tarn_node *k = tarn_places(g, 1, 0, half), *share;
    double all = (double)half;
    if (tilt > 1e-10) {
        share = tarn_mul(g, k, tarn_num(g, 1 / (all * tilt)));
        share = tarn_limit(g, tarn_add(g, share, tarn_num(g, 0.5 - alpha / tilt)), 0, 1);
    } else {
        share = tarn_ge(g, k, tarn_num(g, alpha * all));
    }
    const tarn_node *back[2] = {tarn_filtered(g, line, share), tarn_node_make(g, &tarn_op_rank, 1, &rule, &order)};
    line = tarn_node_make(g, &tarn_op_gather, 2, back, &along);
    return tarn_add(g, b->x[0], tarn_reshape(g, line, b->source->rank, b->source->shape));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1, false, NULL,
     "frequencies below this share of all come from a, those above from b"},
    {"beta", TARN_NUMBER, 0, 0, 1, false, NULL,
     "width of the ramp between the two, as a share of all frequencies; 0: a hard cut"},
    {0},
};

const tarn_method tarn_method_distribution_crossover = {
    .name = "distribution_crossover",
    .summary = "two models exchange frequencies along the order of a third's values",
    .paper = "sd-meh, github.com/s1dlx/meh",
    .detail = "Tensors are flattened and put in the ascending order of c's values; of the n / 2 + 1 "
              "frequencies k of that line b gives the share min(1, max(0, (k / (n / 2 + 1) - alpha) / "
              "beta + 1 / 2)), a the rest; then the order is undone. Needs the tensor in memory. Rank 0: "
              "alpha a + (1 - alpha) b.",
    .example = "print(merge.distribution_crossover { a, b, c, alpha = 0.5 })",
    .version = 1, .tier = 'A', .least = 3, .most = 3, .params = params, .build = build,
};
