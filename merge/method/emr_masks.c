// SPDX-License-Identifier: Apache-2.0
// EMR-Merging as storage: the unified vector, and for each task a bit per entry and one number.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *mask[TARN_METHOD_MODELS], *scale[TARN_METHOD_MODELS] = {NULL};
    const tarn_node *unified = tarn_masks_elect(b, mask);
    for (int i = 0; i < b->n && b->output == 2; i++) {
        scale[i] = tarn_masks_rescale(b, unified, mask[i], i);
    }
    return tarn_masks_output(b, unified, mask, scale);
}

static const tarn_param params[] = {
    TARN_PARAM_ZERO,
    TARN_PARAM_EMR_RESCALE,
    {0},
};

const tarn_method tarn_method_emr_masks = {
    .name = "emr_masks",
    .summary = "many fine-tuned models as EMR's unified vector, a bit mask and a number each",
    .paper = "Huang, Ye, Chen, He, Yue, Ouyang 2024, EMR-Merging: Tuning-Free High-Performance Model Merging, "
             "arXiv:2405.17461",
    .detail = "For each tensor w: w, the unified vector; w.mask, one integer per entry (u8 for up to 8 tasks, then u16, "
              "u32, u64) whose bit m - 1 is the mask of task m; w.rescale, the rescalers of all tasks (the same for "
              "every tensor); w.used, how many entries are in 0, 1, ... of the masks. merge.unmask makes the model of a "
              "task, that of merge.emr, of them.",
    .example = "local kept = merge.emr_masks { base = base, a, b }\n"
               "print(merge.unmask { base = base, kept, task = 2 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .mass = tarn_mass_none,
    .check = tarn_masks_check, .build = build, .outputs = tarn_masks_outputs,
};
