// SPDX-License-Identifier: Apache-2.0
#include "merge/method/overlap.h"

void tarn_overlap_of(tarn_build *b, tarn_overlap *o) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *one = tarn_num(g, 1);
    const tarn_node *epsilon = tarn_num(g, tarn_get(b, "epsilon"));
    for (int i = 0; i < b->n; i++) {
        const tarn_node *d = tarn_delta(b, i);
        const tarn_node *is = tarn_gt(g, tarn_abs(g, d), epsilon);
        o->active[i] = tarn_where(g, is, one, zero);
        o->kept[i] = tarn_where(g, is, d, zero);
    }
    o->count = tarn_sum_of(g, b->n, o->active);
    o->mean = tarn_div(g, tarn_sum_of(g, b->n, o->kept), tarn_maximum(g, o->count, one));
}
