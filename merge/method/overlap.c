// SPDX-License-Identifier: Apache-2.0
#include "merge/method/overlap.h"

void tarn_overlap_of(tarn_build *b, const tarn_node *const *mask, tarn_overlap *o) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *one = tarn_num(g, 1);
    for (int i = 0; i < b->n; i++) {
        o->active[i] = tarn_where(g, mask[i], one, zero);
        o->kept[i] = tarn_where(g, mask[i], tarn_delta(b, i), zero);
    }
    o->count = tarn_sum_of(g, b->n, o->active);
    o->mean = tarn_div(g, tarn_sum_of(g, b->n, o->kept), tarn_maximum(g, o->count, one));
}

void tarn_overlap_changed(tarn_build *b, tarn_overlap *o) {
    const tarn_node *mask[TARN_METHOD_MODELS], *epsilon = tarn_num(b->g, tarn_get(b, "epsilon"));
    for (int i = 0; i < b->n; i++) {
        mask[i] = tarn_gt(b->g, tarn_abs(b->g, tarn_delta(b, i)), epsilon);
    }
    tarn_overlap_of(b, mask, o);
}
