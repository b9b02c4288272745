// SPDX-License-Identifier: Apache-2.0
#include "vm/op/fused_run.h"

#include <string.h>

tarn_status tarn_plain_open(tarn_context *cx, int nin, const tarn_tensor *in,
                            const tarn_dtype *want, tarn_plain *p, tarn_error *err) {
    memset(p, 0, sizeof *p);
    for (int k = 0; k < nin; k++) {
        TARN_TRY(tarn_tensor_plain(cx, &in[k], want[k], &p->t[k], err));
        p->n = k + 1;
        p->data[k] = tarn_tensor_data(&p->t[k]);
    }
    return TARN_OK;
}

void tarn_plain_close(tarn_plain *p) {
    for (int k = 0; k < p->n; k++) {
        tarn_tensor_release(&p->t[k]);
    }
    p->n = 0;
}

size_t tarn_plain_bytes(int nin, const tarn_desc *in, tarn_dtype t) {
    size_t bytes = 0;
    for (int k = 0; k < nin; k++) {
        bytes += tarn_dtype_bytes(t, tarn_desc_numel(&in[k]));
    }
    return bytes;
}

tarn_dtype tarn_float_of(int nin, const tarn_desc *in) {
    tarn_dtype t = TARN_F32;
    for (int k = 0; k < nin; k++) {
        t = tarn_dtype_compute(in[k].dtype) == TARN_F64 ? TARN_F64 : t;
    }
    return t;
}

enum {
    PIECE = 1 << 14,
    SMALL = 1 << 15
};  // elements: of one task; below which one thread is enough

typedef struct {
    int64_t rows, each;
    tarn_rows_fn fn;
    void *arg;
} rows_run;

static tarn_status rows_piece(void *arg, int64_t task, int worker, tarn_error *err) {
    const rows_run *r = arg;
    int64_t first = task * r->each, left = r->rows - first;
    (void)worker;
    return r->fn(r->arg, first, left < r->each ? left : r->each, err);
}

tarn_status tarn_rows_run(tarn_context *cx, int64_t rows, int64_t length, tarn_rows_fn fn,
                          void *arg, tarn_error *err) {
    rows_run r = {rows, length < PIECE ? PIECE / (length > 0 ? length : 1) : 1, fn, arg};
    bool small = (double)rows * (double)length < SMALL;
    return tarn_pool_run(small ? NULL : cx->pool, (rows + r.each - 1) / r.each, rows_piece, &r,
                         &cx->cancel, err);
}

const tarn_node *tarn_last_sum(tarn_graph *g, const tarn_node *x) {
    int64_t last = x ? x->desc.rank - 1 : 0;
    return tarn_reduce(g, &tarn_op_sum, x, 1, &last, true);
}

const tarn_node *tarn_as_float(tarn_graph *g, const tarn_node *x) {
    return !x || tarn_dtype_is_float(tarn_dtype_compute(x->desc.dtype)) ? x
                                                                        : tarn_cast(g, x, TARN_F32);
}
