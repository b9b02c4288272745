// SPDX-License-Identifier: Apache-2.0
// LiNeS: task vectors scaled by depth, shallow layers less than deep ones.
#include <math.h>

#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_name_info *info = tarn_model_info(b->model, b->slot);
    const tarn_names *names = tarn_model_names(b->model);
    bool layer = info && info->depth > 0;
    double at = layer ? (double)info->depth / (names->ndepth - 1) : 0;
    double scale = tarn_get(b, "alpha") + tarn_get(b, "beta") * at;
    return tarn_add(g, b->base, tarn_mul(g, tarn_vectors_sum(b), tarn_num(g, scale)));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    const tarn_names *names = tarn_model_names(m);
    const tarn_value *beta = tarn_model_value(m, "beta", -1);
    if ((!names || names->ndepth == 0) && (beta->each || beta->number != 0)) {
        TARN_RAISE(err, "NoLayers", "merge.lines: the names of %s show no layers, so beta has nothing to act on",
                   tarn_model_label(m->in[0]));
    }
    return TARN_OK;
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, NAN, 0, 0, false, NULL, "factor of the first layer, and of all that is in no layer"},
    {"beta", TARN_NUMBER, NAN, 0, 0, false, NULL, "what is added to it at the last layer, linearly in between"},
    TARN_PARAM_WEIGHT,
    {0},
};

const tarn_method tarn_method_lines = {
    .name = "lines",
    .summary = "task vectors scaled linearly with depth",
    .paper = "Wang, Dimitriadis, Favero, Ortiz-Jiménez, Fleuret, Frossard 2024, LiNeS: Post-training Layer Scaling "
             "Prevents Forgetting and Enhances Model Merging, arXiv:2410.17146",
    .detail = "base + (alpha + beta l / (L - 1)) times the sum of w_m (x_m - base) in layer l of L (from 0); alpha outside "
              "the layers. The paper: for one model beta = 1 - alpha; for N models alpha = 1 / N and beta searched; for "
              "another merge (TIES, consensus) give its result as the one model, with alpha = |sum of t_m|_1 / |t|_1 / N. "
              "task_arithmetic with lambda = by.depth { alpha, alpha + beta } differs only in the final norm and "
              "the head, which take the last value there.",
    .example = "print(merge.lines { base = base, a, alpha = 0.2, beta = 0.8 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .check = check,
    .build = build,
};
