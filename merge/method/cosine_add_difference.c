// SPDX-License-Identifier: Apache-2.0
// Cosine add difference: a keeps what it shares in direction with b, column by column, and takes the
// rest from b; over differences from a base, or over the models themselves.
#include "merge/method/order.h"
#include "merge/method/similarity.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    tarn_whole whole = tarn_choice(b, "variant", "a")   ? TARN_WHOLE_LEVEL
                       : tarn_choice(b, "variant", "b") ? TARN_WHOLE_PLAIN
                                                        : TARN_WHOLE_NONE;
    const tarn_node *x = b->base ? tarn_delta(b, 0) : b->x[0], *y = b->base ? tarn_delta(b, 1) : b->x[1];
    const tarn_node *each = tarn_columns_cosine(b, x, y), *s = tarn_columns_similarity(b, x, y, each, whole);
    if (tarn_choice(b, "rescale", "model")) {
        const tarn_node *seen = whole == TARN_WHOLE_PLAIN ? s : each;
        s = tarn_order_scale(g, s, tarn_columns_range(b, seen, false), tarn_columns_range(b, seen, true), s);
    }
    const tarn_node *k = tarn_limit(g, tarn_sub(g, s, tarn_num(g, tarn_get(b, "alpha"))), 0, 1);
    const tarn_node *rest = tarn_mul(g, y, tarn_sub(g, tarn_num(g, 1), k));
    const tarn_node *sum = tarn_add(g, tarn_mul(g, x, k), rest);
    return b->base ? tarn_add(g, b->base, sum) : sum;
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, -1, 1, false, NULL,
     "similarity at and below which b is taken whole; one above it by 1 gives a"},
    {"variant", TARN_CHOICE, 0, 0, 0, false, "a|b|columns",
     "similarity: mean of a column's cosine and that of the whole tensor, its columns brought to one "
     "length (a) or as they are (b); or the column's alone"},
    {"rescale", TARN_CHOICE, 0, 0, 0, false, "none|model",
     "model: the range of similarities over the whole model, 1 % cut off at each end, becomes 0 to 1"},
    {0},
};

const tarn_method tarn_method_cosine_add_difference = {
    .name = "cosine_add_difference",
    .summary = "columns that agree from the first model, the others from the second",
    .paper = "SuperMerger (cosineA, cosineB), github.com/hako-mikan/sd-webui-supermerger",
    .detail = "k = min(1, max(0, s - alpha)), k a + (1 - k) b; with a base, of the differences from it, "
              "put back on it. s is the cosine along the first dimension, see variant; a zero column has "
              "cosine 0; rank 1 is one column. SuperMerger: rescale = \"model\", without the VAE; "
              "sd-mecha's add_cosine_a is variant columns, add_cosine_b is b.",
    .example = "print(merge.cosine_add_difference { base = base, a, b, alpha = 0.2 })",
    .version = 1, .tier = 'A', .needs = TARN_TAKES_BASE, .least = 2, .most = 2, .params = params, .build = build,
};
