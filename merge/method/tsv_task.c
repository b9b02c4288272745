// SPDX-License-Identifier: Apache-2.0
// The model of one task from what tsv_c kept of many.
#include "merge/method/masks.h"
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    const tarn_node *x[3] = {tarn_beside(b, 0, ".offset", false)}, *delta;
    bool plain = x[0] != NULL;
    x[0] = plain ? x[0] : tarn_beside(b, 0, ".u", true);
    x[1] = plain ? NULL : tarn_beside(b, 0, ".s", true);
    x[2] = plain ? NULL : tarn_beside(b, 0, ".vt", true);
    int64_t task = (int64_t)tarn_get(b, "task") - 1;
    for (int i = 0; i < (plain ? 1 : 3); i++) {
        if (!x[i]) {
            return NULL;
        }
        if (x[i]->desc.rank == 0 || task >= x[i]->desc.shape[0]) {
            tarn_raise(&b->g->err, "OptionRange", "task = %lld, but there are %lld tasks", (long long)task + 1,
                       (long long)(x[i]->desc.rank ? x[i]->desc.shape[0] : 0));
            return NULL;
        }
        x[i] = tarn_singular_pick(b->g, x[i], task);
    }
    delta = plain ? x[0] : tarn_singular_product(b->g, x[0], x[1], x[2]);
    return tarn_singular_result(b, delta);
}

static const tarn_param params[] = {
    TARN_PARAM_TASK,
    TARN_PARAM_LAMBDA,
    {0},
};

const tarn_method tarn_method_tsv_task = {
    .name = "tsv_task",
    .summary = "the model of one task from the result of merge.tsv_c",
    .paper = "Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodolà 2024, arXiv:2412.00081",
    .detail = "base + lambda u diag(s) vt of the task, per matrix; base + lambda offset for other tensors.",
    .example = "local kept = merge.tsv_c { base = base, a, b }\n"
               "print(merge.tsv_task { base = base, kept, task = 2 })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE | TARN_BESIDE, .least = 1, .most = 1, .params = params,
    .build = build,
};
