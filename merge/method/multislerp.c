// SPDX-License-Identifier: Apache-2.0
// The weighted mean of the models' directions, with the weighted mean of their lengths. The length of
// the mean direction follows from the Gram matrix: two passes.
#include "merge/method/mix.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS], *gram[TARN_METHOD_MODELS * TARN_METHOD_MODELS];
    const tarn_node *unit[TARN_METHOD_MODELS], *plain[TARN_METHOD_MODELS], *square = tarn_num(g, 0), *length = square;
    double w[TARN_METHOD_MODELS], total = tarn_weights(b, w), eps = tarn_get(b, "eps");
    int n = b->n;
    if (tarn_flag(b, "normalize") && n == 1) {
        return b->x[0];
    }
    total = tarn_flag(b, "normalize") ? total : 1;
    tarn_operands(b, x);
    tarn_gram(g, n, x, gram);
    for (int i = 0; i < n; i++) {
        const tarn_node *size = tarn_sqrt(g, gram[i * n + i]);
        plain[i] = tarn_num(g, w[i] / total);
        unit[i] = tarn_share(g, plain[i], tarn_add(g, size, tarn_num(g, eps)));
        length = tarn_add(g, length, tarn_mul(g, plain[i], size));
        for (int j = 0; j <= i; j++) {
            const tarn_node *term = tarn_mul(g, tarn_mul(g, unit[i], unit[j]), gram[i * n + j]);
            square = tarn_add(g, square, i == j ? term : tarn_mul(g, term, tarn_num(g, 2)));
        }
    }
    const tarn_node *mean = tarn_sqrt(g, tarn_maximum(g, square, tarn_num(g, 0)));
    const tarn_node *none = tarn_le(g, mean, tarn_num(g, eps)), *scale = tarn_div(g, length, mean);
    for (int i = 0; i < n; i++) {
        unit[i] = tarn_where(g, none, plain[i], tarn_mul(g, unit[i], scale));
        x[i] = tarn_mul(g, x[i], unit[i]);
    }
    return tarn_on_base(b, tarn_sum_of(g, n, x));
}

static tarn_status check(const tarn_model *m, tarn_error *err) { return tarn_check_shares(m, "normalize", err); }

static const tarn_param params[] = {
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "weight of each model's direction and length"},
    {"normalize", TARN_BOOLEAN, 1, 0, 1, false, NULL, "divide the weights by their sum (mergekit's normalize_weights)"},
    {"eps", TARN_NUMBER, 1e-8, 0, 1, false, NULL, "added to each length; directions whose mean is shorter cancel"},
    {0},
};

const tarn_method tarn_method_multislerp = {
    .name = "multislerp",
    .summary = "mean of directions of models or their offsets, with the mean of the lengths",
    .paper = "Goddard et al. 2024, Arcee's MergeKit, arXiv:2403.13257 (its multislerp)",
    .detail = "The sum of w x/|x|, brought to the length sum of w |x|, per tensor. mergekit's further step along the mean "
              "of the tangents adds nothing: that mean is zero. Directions that cancel give the sum of w x; mergekit "
              "refuses them for more than two models. merge.karcher weighs angles, merge.nlerp the vectors themselves.",
    .example = "print(merge.multislerp { a, b, c, weight = {0.5, 0.3, 0.2} })",
    .version = 1, .tier = 'A', .needs = TARN_TAKES_BASE, .least = 1, .most = -1, .params = params, .check = check, .build = build,
};
