// SPDX-License-Identifier: Apache-2.0
#include "merge/method/similarity.h"

#include <math.h>

// Sum over the first dimension; a number is its own sum.
static const tarn_node *down(tarn_build *b, const tarn_node *x, const tarn_node *y) {
    const int64_t first = 0;
    const tarn_node *xy = tarn_mul(b->g, x, y);
    return b->source->rank > 0 ? tarn_reduce(b->g, &tarn_op_sum, xy, 1, &first, true) : xy;
}

static const tarn_node *cosine(tarn_graph *g, const tarn_node *xy, const tarn_node *xx, const tarn_node *yy) {
    return tarn_cosine(g, xy, tarn_length(g, xx, 0), tarn_length(g, yy, 0));
}

const tarn_node *tarn_columns_cosine(tarn_build *b, const tarn_node *x, const tarn_node *y) {
    return cosine(b->g, down(b, x, y), down(b, x, x), down(b, y, y));
}

static const tarn_node *live(tarn_build *b, const tarn_node *x) {  // columns that are not zero
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0);
    return tarn_total(g, &tarn_op_sum, tarn_where(g, tarn_gt(g, down(b, x, x), zero), tarn_num(g, 1), zero));
}

const tarn_node *tarn_columns_similarity(tarn_build *b, const tarn_node *x, const tarn_node *y,
                                         const tarn_node *each, tarn_whole whole) {
    tarn_graph *g = b->g;
    const tarn_node *all;
    if (whole == TARN_WHOLE_NONE) {
        return each;
    }
    if (whole == TARN_WHOLE_PLAIN) {
        all = cosine(g, tarn_dot(g, x, y), tarn_dot(g, x, x), tarn_dot(g, y, y));
    } else {
        all = cosine(g, tarn_total(g, &tarn_op_sum, each), live(b, x), live(b, y));
    }
    return tarn_div(g, tarn_add(g, each, all), tarn_num(g, 2));
}

static int64_t columns(const tarn_slot *s) {
    return s->rank == 0 || s->shape[0] == 0 ? s->rank == 0 : tarn_slot_numel(s) / s->shape[0];
}

const tarn_node *tarn_columns_range(tarn_build *b, const tarn_node *s, bool high) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->model->n; i++) {
        n += tarn_slot_integer(&b->model->slots[i]) ? 0 : columns(&b->model->slots[i]);
    }
    int64_t at = (int64_t)ceil(0.01 * (double)(n - 1));  // counted from the smallest
    at += high ? (int64_t)floor(0.99 * (double)(n - at - 1)) : 0;
    return tarn_kth_of_model(b, s, n - at, high);
}
