// SPDX-License-Identifier: Apache-2.0
// EMR-Merging: elect a unified vector, mask and rescale it for each task. This row gives the model of
// one task; emr_masks keeps what all of them are made of.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *mask[TARN_METHOD_MODELS];
    int task = (int)tarn_get(b, "task") - 1;
    const tarn_node *unified = tarn_masks_elect(b, mask);
    const tarn_node *scale = tarn_masks_rescale(b, unified, mask[task], task);
    unified = tarn_where(g, mask[task], unified, tarn_num(g, 0));
    return tarn_add(g, b->base, tarn_mul(g, unified, scale));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_method_shared(m, "task", NULL, err));
    double task = tarn_model_value(m, "task", -1)->number;
    if (task > tarn_method_models(m)) {
        TARN_RAISE(err, "OptionRange", "merge.emr: task = %g, but there are %d models", task, tarn_method_models(m));
    }
    return TARN_OK;
}

static const tarn_param params[] = {
    TARN_PARAM_TASK,
    TARN_PARAM_ZERO,
    TARN_PARAM_EMR_RESCALE,
    {0},
};

const tarn_method tarn_method_emr = {
    .name = "emr",
    .summary = "elect, mask, rescale: the model of one task from a vector that serves all",
    .paper = "Huang, Ye, Chen, He, Yue, Ouyang 2024, EMR-Merging: Tuning-Free High-Performance Model Merging, "
             "arXiv:2405.17461",
    .detail = "With t_m = x_m - base: the sign s of the sum of t_m, per entry; u = s times the largest |t_m| of those with "
              "that sign; the mask of task m, t_m s > 0; its rescaler c_m = sum |t_m| / sum |mask_m u|, over the whole "
              "model. The result is base + c_m mask_m u, whose offset has the L1 norm of t_m. merge.emr_masks stores u, "
              "all masks and rescalers, and merge.unmask makes this model of them.",
    .example = "print(merge.emr { base = base, a, b, task = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .check = check,
    .build = build,
};
