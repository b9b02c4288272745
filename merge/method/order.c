// SPDX-License-Identifier: Apache-2.0
#include "merge/method/order.h"

double tarn_order_count(tarn_build *b, int use) {
    return (double)tarn_expand_numel(b->expand, b->model, use);
}

const tarn_node *tarn_order_value(tarn_build *b, const tarn_node *x, double rank, int use) {
    int64_t n = tarn_expand_numel(b->expand, b->model, use);
    double last = (double)n - 1, value_only = -1;
    rank = rank > last ? last : rank;
    rank = rank < 0 ? 0 : rank;
    if (!x) {
        return NULL;
    }
    int64_t i[4] = {0, 0, n - (int64_t)rank, x->desc.dtype == TARN_F64 ? 64 : 32};
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &value_only};
    return tarn_item(b->g, tarn_expand_global(b->expand, b->model, b->slot, use, &tarn_op_kth, x, &a), 0);
}

const tarn_node *tarn_order_largest(tarn_build *b, const tarn_node *x, int use) {
    return tarn_expand_global(b->expand, b->model, b->slot, use, &tarn_op_max, x, NULL);
}

const tarn_node *tarn_order_scale(tarn_graph *g, const tarn_node *x, const tarn_node *low, const tarn_node *high,
                                  const tarn_node *flat) {
    const tarn_node *y = tarn_div(g, tarn_sub(g, x, low), tarn_sub(g, high, low));
    return tarn_where(g, tarn_gt(g, high, low), y, flat);
}
