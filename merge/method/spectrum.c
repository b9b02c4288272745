// SPDX-License-Identifier: Apache-2.0
#include "merge/method/spectrum.h"

const tarn_node *tarn_frequencies(tarn_graph *g, int rank, const int64_t *shape, int d) {
    int64_t i[TARN_MAX_RANK + 2] = {TARN_I64};
    for (int k = 0; k < rank; k++) {
        i[1 + k] = k != d ? 1 : k + 1 < rank ? shape[k] : shape[k] / 2 + 1;
    }
    tarn_attr a = {.ni = rank + 2, .i = i};
    return tarn_cast(g, tarn_node_make(g, &tarn_op_iota, 0, NULL, &a), TARN_F64);
}

const tarn_node *tarn_filtered(tarn_graph *g, const tarn_node *x, const tarn_node *share) {
    if (!x || !share) {
        return NULL;
    }
    tarn_attr none = {0}, last = {.ni = 1, .i = &x->desc.shape[x->desc.rank - 1]};
    const tarn_node *s = tarn_node_make(g, &tarn_op_rfftn, 1, &x, &none);
    if (share->desc.dtype == TARN_BOOL) {
        s = tarn_where(g, share, s, tarn_num(g, 0));
    } else {
        s = tarn_mul(g, s, s ? tarn_cast(g, share, s->desc.dtype) : NULL);
    }
    return s ? tarn_node_make(g, &tarn_op_irfftn, 1, &s, &last) : NULL;
}
