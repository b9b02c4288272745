// SPDX-License-Identifier: Apache-2.0
// Arcee Fusion: only the entries of the task vector that stand out are taken over. Importance is
// the entry's change times the divergence of its row, seen as logits; what reaches Tukey's fence is
// kept. KL(softmax x | softmax b) = Σ e^x (x - b) / Σ e^x - log Σ e^x + log Σ e^b: three sums of
// one pass, in f64, because nearly all of it cancels between fine-tunes.
#include "merge/method/means.h"

static const tarn_node *divergence(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *x = tarn_cast(g, b->x[0], TARN_F64), *y = tarn_cast(g, b->base, TARN_F64);
    // One shift for all rows: differences beyond 700 would be needed for it to show.
    const tarn_node *most =
        tarn_maximum(g, tarn_total(g, &tarn_op_max, b->x[0]), tarn_total(g, &tarn_op_max, b->base));
    const tarn_node *low = tarn_num(g, -700);
    const tarn_node *ex = tarn_exp(g, tarn_maximum(g, tarn_sub(g, x, most), low));
    const tarn_node *ey = tarn_exp(g, tarn_maximum(g, tarn_sub(g, y, most), low));
    const tarn_node *sum = tarn_row_sum(g, ex);
    const tarn_node *moved = tarn_row_sum(g, tarn_mul(g, ex, tarn_sub(g, x, y)));
    const tarn_node *shift = tarn_log(g, tarn_div(g, tarn_row_sum(g, ey), sum));
    return tarn_maximum(g, tarn_add(g, tarn_div(g, moved, sum), shift), tarn_num(g, 0));
}

// The value at index trunc(q (N - 1)) of the sorted importance.
static const tarn_node *quantile(tarn_build *b, const tarn_node *importance, double q) {
    int64_t at = (int64_t)(q * (double)(b->numel - 1));
    return tarn_kth(b->g, importance, b->numel - at);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *size = tarn_abs(g, tarn_delta(b, 0)), *kl = divergence(b);
    if (!size || !kl) {
        return NULL;
    }
    const tarn_node *importance = tarn_mul(g, size, kl->desc.weak ? kl : tarn_cast(g, kl, size->desc.dtype));
    const tarn_node *range = tarn_sub(g, quantile(b, importance, 0.75), quantile(b, importance, 0.25));
    const tarn_node *fence = tarn_mul(g, range, tarn_num(g, tarn_get(b, "fence")));
    fence = tarn_add(g, quantile(b, importance, 0.5), fence);
    return tarn_where(g, tarn_ge(g, importance, fence), b->x[0], b->base);
}

static const tarn_param params[] = {
    {"fence", TARN_NUMBER, 1.5, 0, 1e300, false, NULL,
     "interquartile ranges above the median that an entry has to reach; less takes over more"},
    {0},
};

const tarn_method tarn_method_arcee_fusion = {
    .name = "arcee_fusion",
    .summary = "takes over only the entries that change the most important rows most",
    .paper = "Arcee 2024, Arcee Fusion, method of the mergekit project",
    .detail = "importance = |x - base| KL(softmax of x's row, softmax of the base's row), rows "
              "along the last axis; entries with importance >= median + fence (Q3 - Q1), by "
              "tensor, are taken from x. mergekit computes KL in f32 with 1e-8 added to the "
              "probabilities, where rounding decides for small changes, and samples quantiles "
              "above a million entries; here both are exact.",
    .example = "print(merge.arcee_fusion { base = base, a })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1,
    .params = params, .build = build,
};
