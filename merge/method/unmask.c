// SPDX-License-Identifier: Apache-2.0
// The model of one task from what tall_masks or emr_masks kept of many.
#include "merge/method/masks.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *vector = tarn_beside(b, 0, "", true), *word = tarn_beside(b, 0, ".mask", true);
    const tarn_node *scale = tarn_beside(b, 0, ".rescale", true);
    int task = (int)tarn_get(b, "task");
    if (!vector || !word || !scale) {
        return NULL;
    }
    if (!tarn_shape_equal(word->desc.rank, word->desc.shape, b->source->rank, b->source->shape) ||
        scale->desc.rank != 1) {
        tarn_raise(&g->err, "ShapeMismatch", "masks of another shape than the tensor");
        return NULL;
    }
    if (task > scale->desc.shape[0]) {
        tarn_raise(&g->err, "OptionRange", "task = %d, but the masks are of %lld tasks", task,
                   (long long)scale->desc.shape[0]);
        return NULL;
    }
    const tarn_node *t = tarn_where(g, tarn_masks_unpack(g, word, task - 1), vector, tarn_num(g, 0));
    return tarn_vectors_scaled(b, tarn_mul(g, t, tarn_item(g, scale, task - 1)));
}

static const tarn_param params[] = {
    TARN_PARAM_TASK,
    TARN_PARAM_LAMBDA,
    {0},
};

const tarn_method tarn_method_unmask = {
    .name = "unmask",
    .summary = "the model of one task from the result of merge.tall_masks or merge.emr_masks",
    .paper = "Wang et al. 2024, arXiv:2405.07813; Huang et al. 2024, arXiv:2405.17461",
    .detail = "base + lambda c_m mask_m t for task m, per tensor w: t is the tensor w of the operand, mask_m bit m - 1 of "
              "w.mask, c_m element m of w.rescale.",
    .example = "local kept = merge.tall_masks { base = base, a, b }\n"
               "print(merge.unmask { base = base, kept, task = 1 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE | TARN_BESIDE, .least = 1, .most = 1, .params = params,
    .build = build,
};
