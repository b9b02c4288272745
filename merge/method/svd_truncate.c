// SPDX-License-Identifier: Apache-2.0
// A task vector cut to its leading singular triples, by their number or by the energy they hold.
#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double rank = tarn_get(b, "rank"), share = tarn_get(b, "share"), energy = tarn_get(b, "energy");
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    int64_t k = tarn_singular_count(b, share), side = tarn_singular_side(b);
    k = rank > 0 && rank < (double)k ? (int64_t)rank : k;
    if (k == side && energy >= 1) {
        return tarn_singular_result(b, tarn_vectors_task(b, 0));
    }
    // The energy is that of all singular values, so a cut by energy needs them all.
    tarn_svd_nodes p = tarn_singular_svd(b, tarn_singular_matrix(b, tarn_vectors_task(b, 0)), energy < 1 ? 0 : k);
    if (energy < 1) {
        const tarn_node *keep = tarn_singular_leading(g, p.s, energy, 2);
        keep = tarn_where(g, tarn_lt(g, tarn_iota(g, side), tarn_num(g, (double)k)), keep, tarn_num(g, 0));
        p.s = tarn_mul(g, p.s, keep);
    }
    return tarn_singular_result(b, tarn_singular_product(g, p.u, p.s, p.vt));
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"rank", TARN_INTEGER, 0, 0, 1e9, false, NULL, "singular triples kept at most; 0: as share and energy say"},
    {"share", TARN_NUMBER, 1, 0, 1, false, NULL, "share of min(m, n) triples kept at most, at least one"},
    {"energy", TARN_NUMBER, 1, 0, 1, false, NULL,
     "the fewest leading triples that hold this share of the sum of squared singular values"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_svd_truncate = {
    .name = "svd_truncate",
    .summary = "one task vector cut to low rank",
    .paper = "Eckart, Young 1936, The approximation of one matrix by another of lower rank",
    .detail = "Per matrix: base + lambda w U_k S_k V_k^T of t = x - base, with the least k that rank, share and energy allow; "
              "sd-mecha's truncate_rank. merge.lora_extract stores the factors instead." TARN_DETAIL_SINGULAR,
    .example = "print(merge.svd_truncate { base = base, a, energy = 0.9 })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1, .params = params, .build = build,
    .note = tarn_singular_note,
};
