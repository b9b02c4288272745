// SPDX-License-Identifier: Apache-2.0
// Task singular vectors: what TSV-M, TSV-C and the interference measure share. Not a method itself.
#ifndef TARN_METHOD_TSV_H
#define TARN_METHOD_TSV_H

#include "merge/method/singular.h"

// Triples kept of each task, of a matrix (slot i of m) whose smaller side is given; by the option `share`.
static inline int64_t tarn_tsv_count(const tarn_model *m, int64_t i, int64_t side) {
    double share = tarn_value_at(tarn_model_value(m, "share", -1), i);
    int64_t k = share > 0 ? (int64_t)(share * (double)side) : side / tarn_method_models(m);
    k = k < 1 ? 1 : k;
    return k < side ? k : side;  // a matrix without elements has none
}
// The leading triples of every task: [T, m, k], [T, k], [T, k, n].
static inline tarn_svd_nodes tarn_tsv_parts(tarn_build *b) {
    return tarn_singular_svd(b, tarn_singular_offsets(b), tarn_tsv_count(b->model, b->slot, tarn_singular_side(b)));
}

#define TARN_PARAM_SHARE_TRIPLES                                                                 \
    {"share", TARN_NUMBER, 0, 0, 1, false, NULL,                                                \
     "share of min(m, n) singular triples kept of each task; 0: one T-th of T tasks (paper); 1: " \
     "all (the code's lossless variant)"}

#endif
