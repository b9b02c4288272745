// SPDX-License-Identifier: Apache-2.0
// TALL masks as storage: one merged vector and a bit per entry and task instead of a model per task.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *mask[TARN_METHOD_MODELS], *scale[TARN_METHOD_MODELS];
    const tarn_node *merged = tarn_choice(b, "vector", "ties") ? tarn_masks_ties(b) : tarn_vectors_sum(b);
    for (int i = 0; i < b->n; i++) {
        scale[i] = tarn_num(b->g, 1);
    }
    tarn_masks_tall(b, merged, mask);
    return tarn_masks_output(b, merged, mask, scale);
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_MASK_LAMBDA,
    {"vector", TARN_CHOICE, 0, 0, 0, false, "sum|ties", "the merged vector: the sum of task vectors, or that of TIES"},
    TARN_PARAM_TIES_DENSITY,
    TARN_PARAM_TIES_MEAN,
    {0},
};

const tarn_method tarn_method_tall_masks = {
    .name = "tall_masks",
    .summary = "many fine-tuned models as one vector and a bit mask each",
    .paper = "Wang, Dimitriadis, Ortiz-Jiménez, Fleuret, Frossard 2024, Localizing Task Information for Improved "
             "Model Merging and Compression, arXiv:2405.07813",
    .detail = "For each tensor w: w, the merged vector t; w.mask, one integer per entry (u8 for up to 8 tasks, then u16, "
              "u32, u64) whose bit m - 1 is the mask of task m, |t_m| > mask_lambda |t - t_m|; w.rescale, a one for each "
              "task; w.used, how many entries are in 0, 1, ... of the masks: what k of consensus_ta would prune. "
              "merge.unmask makes the model of a task again, base + mask_m t. The paper's code packs the entries of one "
              "task into bytes (numpy.packbits); here a byte holds the tasks of one entry, so that all streams.",
    .example = "local kept, used = merge.tall_masks { base = base, a, b, c }, 0\n"
               "for _, name in ipairs(kept:names [[\\.used$]]) do used = used + kept[name]:load() end\n"
               "print(used, merge.unmask { base = base, kept, task = 2 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .mass = tarn_mass_none,
    .check = tarn_masks_check, .build = build, .outputs = tarn_masks_outputs,
};
