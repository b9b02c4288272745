// SPDX-License-Identifier: Apache-2.0
// Tensor sum: a stretch of the first (or second) dimension is copied from b, the rest from a.
#include "merge/method/mix.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double alpha = tarn_get(b, "alpha"), beta = tarn_get(b, "beta");
    int rank = b->source->rank, axis = tarn_choice(b, "axis", "second") && rank > 1;
    if (rank == 0) {
        return b->x[alpha > 0.5];
    }
    int64_t n = b->source->shape[axis];
    tarn_stretch s = tarn_stretch_of(alpha, beta, n, tarn_choice(b, "rounding", "nearest"));
    const tarn_node *in = b->x[!s.outside], *out = b->x[s.outside];
    if (s.from >= s.to || (s.from == 0 && s.to == n)) {
        return s.from >= s.to ? out : in;
    }
    const tarn_node *at = tarn_places(g, rank, axis, n);
    const tarn_node *after = tarn_ge(g, at, tarn_num(g, (double)s.from));
    const tarn_node *before = tarn_lt(g, at, tarn_num(g, (double)s.to));
    return tarn_where(g, tarn_binary(g, &tarn_op_logical_and, after, before), in, out);
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1, false, NULL,
     "width: share of the rows that come from b (sd-mecha's width)"},
    {"beta", TARN_NUMBER, 0, 0, 1, false, NULL,
     "where they begin, as a share; past the end they go on at the start (offset)"},
    {"axis", TARN_CHOICE, 0, 0, 0, false, "first|second",
     "the dimension that is cut; second: SuperMerger's tensor2"},
    {"rounding", TARN_CHOICE, 0, 0, 0, false, "down|nearest",
     "of the borders: down (SuperMerger, sd-meh), nearest, halves to even (sd-mecha)"},
    {0},
};

const tarn_method tarn_method_tensor_sum = {
    .name = "tensor_sum",
    .summary = "rows of one stretch from the second model, all others from the first",
    .paper = "SuperMerger (tensor, tensor2), github.com/hako-mikan/sd-webui-supermerger",
    .detail = "With n rows: [beta n, (alpha + beta) n) from b; where alpha + beta > 1, all but [(alpha + "
              "beta - 1) n, beta n). A tensor of rank 1 has only a first dimension; one of rank 0 comes "
              "from b when alpha > 0.5 (sd-mecha; SuperMerger keeps a's). tensor2 of SuperMerger counts "
              "by the first dimension where the second has at most 100; this does not. Nor does a "
              "rounding error in alpha + beta cost a row.",
    .example = "print(merge.tensor_sum { a, b, alpha = 0.25, beta = 0.5 })",
    .version = 1, .tier = 'A', .least = 2, .most = 2, .params = params, .build = build,
};
