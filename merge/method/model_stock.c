// SPDX-License-Identifier: Apache-2.0
// Model stock: the mean of the models, pulled towards the base by how much their offsets disagree:
// t mean + (1 - t) base with t = n c / (1 + (n - 1) c), c the mean cosine over pairs of offsets.
#include "merge/method/means.h"

static const tarn_node *mean_cosine(tarn_build *b) {
    tarn_graph *g = b->g;
    int n = b->n, pairs = 0, reach = tarn_choice(b, "pairs", "all") ? n : 1;
    bool angle = tarn_choice(b, "mean", "angle");
    const tarn_node *d[TARN_METHOD_MODELS], *size[TARN_METHOD_MODELS], *sum = NULL, *one = tarn_num(g, 1);
    const tarn_node *floor = tarn_num(g, tarn_get(b, "norm_floor"));
    for (int i = 0; i < n; i++) {
        d[i] = tarn_delta(b, i);
        size[i] = tarn_length(g, tarn_inner(b, d[i], d[i]), 0);
    }
    for (int i = 0; i < n; i++) {
        for (int j = i + 1; j < n && j <= i + reach; j++, pairs++) {
            const tarn_node *product = tarn_maximum(g, tarn_mul(g, size[i], size[j]), floor);
            const tarn_node *c = tarn_cosine(g, tarn_inner(b, d[i], d[j]), product, one);
            c = angle ? tarn_acos(g, c) : c;
            sum = sum ? tarn_add(g, sum, c) : c;
        }
    }
    sum = tarn_div(g, sum, tarn_num(g, pairs));
    return angle ? tarn_cos(g, sum) : sum;
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *one = tarn_num(g, 1), *zero = tarn_num(g, 0), *cosine = mean_cosine(b);
    const tarn_node *below = tarn_add(g, one, tarn_mul(g, tarn_num(g, b->n - 1), cosine));
    const tarn_node *pole = tarn_lt(g, tarn_abs(g, below), tarn_num(g, 1e-6));
    const tarn_node *t = tarn_where(g, pole, zero, tarn_div(g, tarn_mul(g, tarn_num(g, b->n), cosine), below));
    t = tarn_flag(b, "clamp") ? tarn_limit(g, t, 0, 1) : t;
    const tarn_node *mean = tarn_div(g, tarn_sum_of(g, b->n, b->x), tarn_num(g, b->n));
    return tarn_add(g, tarn_mul(g, mean, t), tarn_mul(g, b->base, tarn_sub(g, one, t)));
}

static const tarn_param params[] = {
    {"axis", TARN_CHOICE, 0, 0, 0, false, "tensor|row",
     "one t for the tensor, or one for each row, the vectors along its last axis (mergekit's filter_wise, sd-mecha)"},
    {"mean", TARN_CHOICE, 0, 0, 0, false, "cosine|angle",
     "over pairs: of cosines (mergekit), or of angles (FusionBench); the paper leaves it open beyond two models"},
    {"pairs", TARN_CHOICE, 0, 0, 0, false, "all|consecutive", "every two offsets, or each with the next one (sd-mecha)"},
    {"clamp", TARN_BOOLEAN, 0, 0, 1, false, NULL, "keep t within 0 to 1: offsets that oppose one another give the base"},
    {"norm_floor", TARN_NUMBER, 0, 0, 1, false, NULL,
     "least product of two offset norms in a cosine; mergekit: 1e-6, which pulls small tensors to the base"},
    {0},
};

const tarn_method tarn_method_model_stock = {
    .name = "model_stock",
    .summary = "mean of models, pulled to the base by the angle between their offsets",
    .paper = "Jang, Yun, Han 2024, Model Stock, arXiv:2403.19522",
    .detail = "t = n c / (1 + (n-1) c) with c the mean cosine between offsets from the base, per tensor; "
              "t mean + (1-t) base. Orthogonal offsets give the base, identical ones the mean. Beyond the pole at "
              "c = -1/(n-1) t is large and of either sign unless clamp = true.",
    .example = "print(merge.model_stock { base = base, a, b })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 2, .most = -1, .params = params, .build = build,
};
