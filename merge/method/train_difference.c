// SPDX-License-Identifier: Apache-2.0
// Train difference: add difference, scaled per entry by how far b still is from a compared with how
// far it came from c: what a has already is not learnt twice.
#include "merge/method/mix.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double alpha = tarn_get(b, "alpha");
    if (alpha == 0) {
        return b->x[0];
    }
    const tarn_node *d = tarn_sub(g, b->x[1], b->x[2]);
    const tarn_node *left = tarn_abs(g, tarn_sub(g, b->x[1], b->x[0]));
    const tarn_node *share = tarn_share(g, left, tarn_add(g, left, tarn_abs(g, d)));
    return tarn_add(g, b->x[0], tarn_mul(g, tarn_mul(g, d, share), tarn_num(g, 1.8 * alpha)));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 1, 0, 0, false, NULL, "factor, on top of the constant 1.8"},
    {0},
};

const tarn_method tarn_method_train_difference = {
    .name = "train_difference",
    .summary = "add difference, weighted per entry by how far the first model still has to go",
    .paper = "SuperMerger (trainDifference), github.com/hako-mikan/sd-webui-supermerger",
    .detail = "a + 1.8 alpha (b - c) |b - a| / (|b - a| + |b - c|), 0 / 0 = 0, entry by entry. With c = a "
              "it is a + 0.9 alpha (b - a). sd-mecha's train_difference_mask is the factor alone.",
    .example = "print(merge.train_difference { a, b, base })",
    .version = 1, .tier = 'A', .least = 3, .most = 3, .params = params, .build = build,
};
