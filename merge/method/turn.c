// SPDX-License-Identifier: Apache-2.0
#include "merge/method/turn.h"

#include <math.h>

const tarn_node *tarn_turned(tarn_graph *g, const tarn_node *x, const tarn_node *q, double t) {
    if (t != floor(t)) {
        return tarn_matmul(g, x, tarn_orthogonal_power(g, q, tarn_num(g, t)));
    }
    q = t < 0 ? tarn_transpose(g, q) : q;
    for (double k = fabs(t); k > 0; k--) {
        x = tarn_matmul(g, x, q);
    }
    return x;
}

const tarn_node *tarn_mean_row(tarn_graph *g, const tarn_node *x, double share) {
    const int64_t rows = 0;
    const tarn_node *sum = tarn_reduce(g, &tarn_op_sum, x, 1, &rows, true);
    return sum ? tarn_mul(g, sum, tarn_num(g, share / (double)x->desc.shape[0])) : NULL;
}

const tarn_node *tarn_row_space(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    const tarn_node *rows[2] = {x, y};
    return tarn_qr(g, tarn_transpose(g, tarn_concat(g, 2, rows, 0))).q;
}
