// SPDX-License-Identifier: Apache-2.0
#include "merge/method/order.h"

double tarn_order_count(tarn_build *b, int use) {
    return (double)tarn_expand_numel(b->expand, b->model, use);
}

// The element of the model that has `rank` smaller ones in order, a number; ranks outside are the ends.
static const tarn_node *value_at(tarn_build *b, const tarn_node *x, double rank, int use) {
    int64_t n = tarn_expand_numel(b->expand, b->model, use);
    double last = (double)n - 1;
    rank = rank > last ? last : rank;
    rank = rank < 0 ? 0 : rank;
    return tarn_kth_of_model(b, x, n - (int64_t)rank, use);
}

// The largest element of the model.
static const tarn_node *largest(tarn_build *b, const tarn_node *x, int use) {
    return tarn_expand_global(b->expand, b->model, b->slot, use, &tarn_op_max, x, NULL);
}

const tarn_node *tarn_order_scale(tarn_graph *g, const tarn_node *x, const tarn_node *low, const tarn_node *high,
                                  const tarn_node *flat) {
    const tarn_node *y = tarn_div(g, tarn_sub(g, x, low), tarn_sub(g, high, low));
    return tarn_where(g, tarn_gt(g, high, low), y, flat);
}

const tarn_node *tarn_order_limit(tarn_build *b, const tarn_node *x, double low, double high, int use,
                                  const tarn_node **scaled) {
    tarn_graph *g = b->g;
    const tarn_node *least = value_at(b, x, low, use), *most = value_at(b, x, high, use + 1);
    x = tarn_minimum(g, tarn_maximum(g, x, least), most);
    *scaled = tarn_order_scale(g, x, least, most, tarn_num(g, 0));
    return x;
}

const tarn_node *tarn_order_lead(tarn_build *b, const tarn_node *x, double rank, int use) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0);
    const tarn_node *low = value_at(b, x, rank, use), *high = largest(b, x, use + 1);
    const tarn_node *best = tarn_where(g, tarn_ge(g, x, high), tarn_num(g, 1), zero);
    const tarn_node *flat = tarn_where(g, tarn_gt(g, high, zero), best, zero);
    return tarn_order_scale(g, tarn_maximum(g, x, low), low, high, flat);
}
