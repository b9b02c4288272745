// SPDX-License-Identifier: Apache-2.0
// Rank crossover: a's values in the order of b's. The entry where b is largest gets a's largest value,
// and so on; only values of a within a window of magnitudes move.
#include "merge/method/mix.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    int64_t n = b->numel, up = 0, axis = 0;
    tarn_attr order = {.ni = 1, .i = &up}, along = {.ni = 1, .i = &axis};
    tarn_stretch s = tarn_stretch_of(tarn_get(b, "alpha"), tarn_get(b, "beta"), n, true);
    if (s.from >= s.to && !s.outside) {
        return b->x[0];
    }
    const tarn_node *flat = tarn_reshape(g, b->x[0], 1, &n), *other = tarn_reshape(g, b->x[1], 1, &n);
    const tarn_node *sorted = tarn_node_make(g, &tarn_op_sort, 1, &flat, &order);
    const tarn_node *pick[2] = {sorted, tarn_node_make(g, &tarn_op_rank, 1, &other, &order)};
    const tarn_node *moved = tarn_node_make(g, &tarn_op_gather, 2, pick, &along);
    if (s.outside || s.from > 0 || s.to < n) {
        const tarn_node *size = tarn_abs(g, moved), *all = tarn_abs(g, flat), *in = NULL;
        if (s.to > 0 && s.from < s.to) {
            in = tarn_le(g, size, tarn_kth(g, all, n - s.to + 1));
        }
        if (in && s.from > 0) {
            in = tarn_binary(g, &tarn_op_logical_and, in, tarn_gt(g, size, tarn_kth(g, all, n - s.from + 1)));
        }
        if (in) {
            moved = s.outside ? tarn_where(g, in, flat, moved) : tarn_where(g, in, moved, flat);
        }
    }
    return tarn_reshape(g, moved, b->source->rank, b->source->shape);
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 1, 0, 1, false, NULL,
     "width of the window, as a share of a's values by magnitude; 1: all move"},
    {"beta", TARN_NUMBER, 0, 0, 1, false, NULL,
     "where the window begins, from the smallest magnitude; it wraps around"},
    {0},
};

const tarn_method tarn_method_rank_crossover = {
    .name = "rank_crossover",
    .summary = "the values of the first model in the order of the second's",
    .paper = "sd-meh (top_k_tensor_sum), github.com/s1dlx/meh",
    .detail = "Both tensors are flattened and sorted; the entry of rank r in b gets a's value of rank r "
              "where that value lies in the window of magnitudes, else it keeps a's own. With alpha = 1 "
              "the values of a are permuted. Equals keep their order. sd-mecha's window includes its "
              "lower end. A tensor of one element keeps a's value.",
    .example = "print(merge.rank_crossover { a, b })",
    .version = 1, .tier = 'A', .least = 2, .most = 2, .params = params, .build = build,
};
