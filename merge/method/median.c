// SPDX-License-Identifier: Apache-2.0
// The median of the models, entry by entry: a sorting network of minima and maxima, so it streams.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *x[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        x[i] = b->x[i];
    }
    tarn_sort_models(b->g, b->n, x);
    const tarn_node *low = x[(b->n - 1) / 2], *high = x[b->n / 2];
    return low == high ? low : tarn_div(b->g, tarn_add(b->g, low, high), tarn_num(b->g, 2));
}

static const tarn_param params[] = {{0}};

const tarn_method tarn_method_median = {
    .name = "median",
    .summary = "median of models, entry by entry",
    .paper = "Yin et al. 2018, Byzantine-robust distributed learning, arXiv:1803.01498",
    .detail = "Of an even number of models, the mean of the two in the middle. Robust against outliers of fewer "
              "than half of the models in each entry; merge.geometric_median is so for whole vectors, and does not "
              "depend on the axes.",
    .example = "print(merge.median { a, b, c })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .build = build,
};
