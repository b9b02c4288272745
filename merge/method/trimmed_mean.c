// SPDX-License-Identifier: Apache-2.0
// The mean of the models without the extremes, entry by entry; sorted by a network, so it streams.
#include <math.h>

#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *x[TARN_METHOD_MODELS];
    int n = b->n, most = (n - 1) / 2;
    double trim = tarn_get(b, "trim");
    trim = floor((trim < 1 ? trim * n : trim) + 1e-9);  // 0.3 of ten is three
    int cut = trim < most ? (int)trim : most;
    for (int i = 0; i < n; i++) {
        x[i] = b->x[i];
    }
    if (cut > 0) {
        tarn_sort_models(b->g, n, x);
    }
    const tarn_node *sum = tarn_sum_of(b->g, n - 2 * cut, x + cut);
    return n - 2 * cut == 1 ? sum : tarn_div(b->g, sum, tarn_num(b->g, n - 2 * cut));
}

static const tarn_param params[] = {
    {"trim", TARN_NUMBER, 0.2, 0, TARN_METHOD_MODELS, false, NULL,
     "cut at each end of the sorted values: below 1 a share of the models, rounded down, from 1 on so many of them; "
     "what is left at the most is the median"},
    {0},
};

const tarn_method tarn_method_trimmed_mean = {
    .name = "trimmed_mean",
    .summary = "mean of models without the extremes, entry by entry",
    .paper = "Yin et al. 2018, Byzantine-robust distributed learning, arXiv:1803.01498",
    .detail = "In each entry the values of the models are sorted, trim of them are left out at either end, and the "
              "rest is averaged. trim = 0 is the mean, 0.5 the median; a share that comes to less than one model cuts nothing.",
    .example = "print(merge.trimmed_mean { a, b, c, trim = 1 })",
    .version = 1, .tier = 'A', .least = 1, .most = -1, .params = params, .build = build,
};
