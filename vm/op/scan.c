// SPDX-License-Identifier: Apache-2.0
// cumsum(x), attr.i = {from the end}: running sums along the last dimension, one row by itself, so that
// it streams. Each row is added up in order in f64 (integers in i64, wrapping like add); that order is
// part of the result. Its adjoint is the same sum from the other end.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/convert.h"
#include "vm/op/rules.h"

static tarn_status infer_cumsum(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                tarn_error *err) {
    (void)nin;
    if (in[0].rank == 0 || a->ni != 1) {
        TARN_RAISE(err, "Rank", "expected a tensor of rank 1 or more, got rank %d", in[0].rank);
    }
    *out = in[0];
    out->weak = false;
    out->dtype = tarn_dtype_compute(in[0].dtype);
    out->dtype = out->dtype == TARN_BOOL ? TARN_I64 : out->dtype;
    return TARN_OK;
}

// The dtype that a row is read as: what its sums are kept in while they grow.
static tarn_dtype work_of(tarn_dtype t) { return tarn_dtype_is_float(t) ? TARN_F64 : TARN_I64; }

static size_t scratch(tarn_dtype t, int64_t length) {
    (void)t;
    return ((size_t)length * 8 + 63) / 64 * 64;
}

static void add_up(int64_t n, bool back, double *x) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = back ? n - 1 - i : i;
        x[at] = sum += x[at];
    }
}
static void add_up_whole(int64_t n, bool back, uint64_t *x) {
    uint64_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = back ? n - 1 - i : i;
        x[at] = sum += x[at];
    }
}

static tarn_status run(tarn_context *cx, int64_t rows, int64_t n, tarn_dtype t, const void *in,
                       const tarn_attr *a, void *out, void *room, tarn_error *err) {
    tarn_dtype work = work_of(t), made = tarn_dtype_compute(t);
    made = made == TARN_BOOL ? TARN_I64 : made;
    size_t size = (size_t)tarn_dtype_get(t)->bits / 8, step = (size_t)tarn_dtype_get(made)->bits / 8;
    tarn_convert_fn read = tarn_convert(cx->isa, t, work), write = tarn_convert(cx->isa, work, made);
    for (int64_t r = 0; r < rows; r++) {
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        read(n, (const char *)in + (size_t)(r * n) * size, room);
        if (work == TARN_F64) {
            add_up(n, a->i[0] != 0, room);
        } else {
            add_up_whole(n, a->i[0] != 0, room);
        }
        write(n, room, (char *)out + (size_t)(r * n) * step);
    }
    return TARN_OK;
}
static const tarn_rows rows = {run, scratch};

static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    (void)nin, (void)a;
    int64_t n = out->shape[out->rank - 1], count = n > 0 ? tarn_desc_numel(out) / n : 0;
    size_t workers = (size_t)(count < threads ? count : threads);
    return workers * scratch(in[0].dtype, n) + tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0]));
}

static const tarn_node *cumsum(tarn_graph *g, const tarn_node *x, bool back) {
    const int64_t i = back;
    tarn_attr a = {.ni = 1, .i = &i};
    return tarn_node_make(g, &tarn_op_cumsum, 1, &x, &a);
}
TARN_VJP(vjp_cumsum) {
    (void)which;
    return cumsum(g, gy, y->attr.i[0] == 0);
}
TARN_JVP(jvp_cumsum) { return dx[0] ? cumsum(g, dx[0], y->attr.i[0] != 0) : NULL; }

static void axes_cumsum(tarn_axes *t, const tarn_node *y) {
    int last = y->desc.rank - 1;
    for (int d = 0; d < last; d++) {
        tarn_axes_link(t, y->in[0], d, y, d, TARN_GROUP_LINEAR);
    }
    tarn_axes_limit(t, y->in[0], last, TARN_GROUP_NONE);
    tarn_axes_limit(t, y, last, TARN_GROUP_NONE);
}

const tarn_op tarn_op_cumsum = {.name = "cumsum", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1,
                                .max_in = 1, .infer = infer_cumsum, .rows = &rows,
                                .workspace = workspace, .vjp = vjp_cumsum, .jvp = jvp_cumsum,
                                .axes = axes_cumsum,
                                .summary = "running sums along the last dimension, from its start or its end"};
