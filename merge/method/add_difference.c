// SPDX-License-Identifier: Apache-2.0
// Add difference: a + alpha (b - c), what b learnt since c put on a; with the community's variants.
#include "merge/method/mix.h"

// How much of the difference each entry takes, 0 to 2.
static const tarn_node *masked(tarn_build *b, const tarn_node *d) {
    tarn_graph *g = b->g;
    const tarn_node *x = b->x[0], *y = b->x[1], *z = b->x[2], *share;
    if (tarn_choice(b, "mask", "none")) {
        return d;
    }
    if (tarn_choice(b, "mask", "opposite")) {
        const tarn_node *apart = tarn_abs(g, tarn_sub(g, x, y));
        const tarn_node *both = tarn_sub(g, tarn_add(g, x, y), tarn_mul(g, z, tarn_num(g, 2)));
        share = tarn_share(g, apart, tarn_add(g, apart, tarn_abs(g, both)));
    } else {
        const tarn_node *own = tarn_sub(g, x, z), *most = tarn_maximum(g, tarn_abs(g, own), tarn_abs(g, d));
        share = tarn_mul(g, tarn_share(g, own, most), tarn_share(g, d, most));
        share = tarn_maximum(g, tarn_sub(g, tarn_num(g, 0), share), tarn_num(g, 0));
    }
    return tarn_mul(g, d, tarn_mul(g, share, tarn_num(g, 2)));
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double alpha = tarn_get(b, "alpha");
    const tarn_node *x = b->x[0], *y = b->x[1];
    if (alpha == 0) {
        return x;
    }
    const tarn_node *d = masked(b, tarn_sub(g, y, b->x[2]));
    d = tarn_flag(b, "smooth") ? tarn_unary(g, &tarn_op_smooth, d) : d;
    const tarn_node *sum = tarn_add(g, x, tarn_mul(g, d, tarn_num(g, alpha)));
    if (tarn_flag(b, "clamp")) {
        sum = tarn_minimum(g, tarn_maximum(g, sum, tarn_minimum(g, x, y)), tarn_maximum(g, x, y));
    }
    return sum;
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 1, 0, 0, false, NULL, "factor of the difference"},
    {"mask", TARN_CHOICE, 0, 0, 0, false, "none|opposite|strict_opposite",
     "entries that a and b moved apart count up to twice, the others less or not at all"},
    {"smooth", TARN_BOOLEAN, 0, 0, 1, false, NULL,
     "filter the difference first: median of the nearest neighbours, then a Gaussian (SuperMerger's "
     "smoothAdd)"},
    {"clamp", TARN_BOOLEAN, 0, 0, 1, false, NULL, "keep the result between a and b (sd-mecha)"},
    {0},
};

const tarn_method tarn_method_add_difference = {
    .name = "add_difference",
    .summary = "what the second model learnt since the third, added to the first",
    .paper = "SuperMerger, github.com/hako-mikan/sd-webui-supermerger; sd-mecha, github.com/ljleb/sd-mecha",
    .detail = "a + alpha (b - c). mask, from sd-mecha: opposite weighs the difference by 2 |a - b| / (|a "
              "- b| + |a + b - 2 c|), strict_opposite by 2 max(0, -(a - c)(b - c)) / max(|a - c|, |b - "
              "c|)^2, 0 / 0 = 0. smooth runs over all dimensions, in memory; a single element stays.",
    .example = "print(merge.add_difference { a, b, base, alpha = 0.5 })",
    .version = 1, .tier = 'A', .least = 3, .most = 3, .params = params, .build = build,
};
