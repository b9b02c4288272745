// SPDX-License-Identifier: Apache-2.0
// The linear average brought to the mean length: averaging shortens, since what the models disagree
// in cancels, and this takes the length back.
#include "merge/method/means.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS], *length = tarn_num(g, 0);
    double share[TARN_METHOD_MODELS], total = tarn_weights(b, share);
    tarn_operands(b, x);
    for (int i = 0; i < b->n; i++) {
        share[i] /= total;
        if (share[i] == 1) {
            return b->x[i];
        }
        const tarn_node *size = tarn_sqrt(g, tarn_inner(b, x[i], x[i]));
        length = tarn_add(g, length, tarn_mul(g, size, tarn_num(g, share[i])));
    }
    const tarn_node *mean = tarn_combine(g, b->n, x, share), *size = tarn_sqrt(g, tarn_inner(b, mean, mean));
    const tarn_node *scale = tarn_where(g, tarn_gt(g, size, tarn_num(g, 0)), tarn_div(g, length, size), tarn_num(g, 1));
    return tarn_on_base(b, tarn_mul(g, mean, scale));
}

static tarn_status check(const tarn_model *m, tarn_error *err) { return tarn_check_shares(m, NULL, err); }

static const tarn_param params[] = {
    TARN_PARAM_SHARE("factor of each model, and of its length"),
    {"axis", TARN_CHOICE, 0, 0, 0, false, "tensor|row|column",
     "lengths of whole tensors, of rows (vectors along the last axis), or of columns (along the first; holds the whole "
     "tensor in memory)"},
    {0},
};

const tarn_method tarn_method_nlerp = {
    .name = "nlerp",
    .summary = "weighted average of models or their offsets that keeps the norm",
    .paper = "Blow 2004, Understanding slerp, then not using it",
    .detail = "The direction of sum of w x, the length sum of w |x| / sum of w. For models close to one another slerp, "
              "karcher and multislerp differ little from it. A mean that is exactly zero stays zero.",
    .example = "print(merge.nlerp { base = base, a, b, weight = {0.6, 0.4} })",
    .version = 1, .tier = 'A', .needs = TARN_TAKES_BASE, .least = 1, .most = -1, .params = params, .check = check, .build = build,
};
