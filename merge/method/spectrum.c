// SPDX-License-Identifier: Apache-2.0
#include "merge/method/spectrum.h"

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
