// SPDX-License-Identifier: Apache-2.0
// Promotion: f64 if a tensor operand is f64, else f32 if one is floating, else i64, else bool; bare
// numbers give way to the tensor they meet (a fraction makes integers f32). A dtype for which a row
// has no kernel moves up: bool, i64, f32.
#include "vm/op/infer.h"

#include <stdio.h>
#include <string.h>

#include "vm/op/kernel/kernel.h"

static void fail_shapes(tarn_error *err, const char *op, int nin, const tarn_desc *in) {
    char text[512];
    size_t at = 0;
    for (int i = 0; i < nin && at < sizeof text - 96; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, i ? " and [" : "[");
        for (int d = 0; d < in[i].rank; d++) {
            at += (size_t)snprintf(text + at, sizeof text - at, d ? ", %lld" : "%lld",
                                   (long long)in[i].shape[d]);
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "]");
    }
    tarn_raise(err, "ShapeMismatch", "%s: shapes %s do not broadcast", op, text);
}

tarn_status tarn_broadcast_shape(const char *op, int nin, const tarn_desc *in, tarn_desc *out,
                                 tarn_error *err) {
    out->rank = 0;
    for (int i = 0; i < nin; i++) {
        out->rank = in[i].rank > out->rank ? in[i].rank : out->rank;
    }
    for (int d = 0; d < out->rank; d++) {
        int64_t size = 1;
        for (int i = 0; i < nin; i++) {
            int k = d - (out->rank - in[i].rank);
            int64_t s = k < 0 ? 1 : in[i].shape[k];
            if (s != 1 && size != 1 && s != size) {
                fail_shapes(err, op, nin, in);
                return TARN_ERROR;
            }
            size = s != 1 ? s : size;
        }
        out->shape[d] = size;
    }
    return TARN_OK;
}

static int level(tarn_dtype t) {
    return t == TARN_F64 ? 3 : t == TARN_F32 ? 2 : t == TARN_I64 ? 1 : 0;
}

static tarn_status common(const char *op, int nin, const tarn_desc *in, const char *sig,
                          tarn_dtype *work, tarn_error *err) {
    static const tarn_dtype of_level[] = {TARN_BOOL, TARN_I64, TARN_F32, TARN_F64};
    int strong = -1, weak = -1;
    for (int i = 0; i < nin; i++) {
        tarn_dtype t = tarn_dtype_compute(in[i].dtype);
        if (!tarn_dtype_is_compute(t)) {
            TARN_RAISE(err, "Dtype", "%s: %s can be stored and copied, not computed with", op,
                       tarn_dtype_get(in[i].dtype)->name);
        }
        if (sig[i] != 'T') {
            continue;
        }
        int l = level(t);
        if (in[i].weak) {
            weak = l > weak ? l : weak;
        } else {
            strong = l > strong ? l : strong;
        }
    }
    int l = strong < 0 ? (weak < 0 ? 2 : weak) : strong;
    if (strong >= 0 && strong < 2 && weak > 1) {
        l = 2;
    } else if (strong == 0 && weak == 1) {
        l = 1;
    }
    *work = of_level[l];
    return TARN_OK;
}

// The first dtype from `t` upwards that has a kernel; false when there is none.
static bool settle(const void *const *column, tarn_dtype *t) {
    for (;;) {
        if (column[tarn_work(*t)]) {
            return true;
        }
        if (*t == TARN_BOOL) {
            *t = TARN_I64;
        } else if (*t == TARN_I64) {
            *t = TARN_F32;
        } else {
            return false;
        }
    }
}

tarn_status tarn_point_types(const tarn_op *op, int nin, const tarn_desc *in, tarn_dtype *want,
                             tarn_dtype *out, tarn_error *err) {
    tarn_dtype work = TARN_F32;
    TARN_TRY(common(op->name, nin, in, op->sig, &work, err));
    const tarn_kernels *k = tarn_kernels_get(TARN_ISA_V1);
    const void *column[TARN_W_COUNT];
    for (int w = 0; w < TARN_W_COUNT; w++) {
        column[w] = k->tile[op->kernel][w] ? op : NULL;
    }
    if (strchr(op->sig, 'T') && !settle(column, &work)) {
        TARN_RAISE(err, "Dtype", "%s is not defined for %s", op->name, tarn_dtype_get(work)->name);
    }
    for (int i = 0; i < nin; i++) {
        char c = op->sig[i];
        want[i] = c == 'T' ? work : c == 'b' ? TARN_BOOL : c == 'd' ? TARN_F64 : TARN_I64;
    }
    if (out) {
        char c = op->sig[nin + 1];
        *out = c == 'T' ? work : c == 'b' ? TARN_BOOL : c == 'd' ? TARN_F64 : TARN_I64;
    }
    return TARN_OK;
}

tarn_status tarn_reduce_type(const tarn_op *op, tarn_dtype in, tarn_dtype *work, tarn_error *err) {
    *work = tarn_dtype_compute(in);
    if (!tarn_dtype_is_compute(*work)) {
        TARN_RAISE(err, "Dtype", "%s: %s can be stored and copied, not computed with", op->name,
                   tarn_dtype_get(in)->name);
    }
    const tarn_kernels *k = tarn_kernels_get(TARN_ISA_V1);
    const void *column[TARN_W_COUNT];
    for (int w = 0; w < TARN_W_COUNT; w++) {
        column[w] = k->fold[op->kernel][w] ? op : NULL;
    }
    if (!settle(column, work)) {
        TARN_RAISE(err, "Dtype", "%s is not defined for %s", op->name, tarn_dtype_get(in)->name);
    }
    return TARN_OK;
}

static tarn_status infer_point(const tarn_op *op, int nin, const tarn_desc *in, tarn_desc *out,
                               tarn_error *err) {
    tarn_dtype want[16];
    TARN_TRY(tarn_point_types(op, nin, in, want, &out->dtype, err));
    TARN_TRY(tarn_broadcast_shape(op->name, nin, in, out, err));
    out->weak = true;
    for (int i = 0; i < nin; i++) {
        out->weak = out->weak && in[i].weak;
    }
    return TARN_OK;
}

void tarn_reduce_axes(const tarn_attr *a, int rank, bool *reduced) {
    for (int d = 0; d < rank; d++) {
        reduced[d] = a->ni == 2;
    }
    for (int k = 2; k < a->ni; k++) {
        reduced[a->i[k]] = true;
    }
}

static tarn_status reduced_shape(const char *op, const tarn_desc *in, const tarn_attr *a,
                                 tarn_desc *out, tarn_error *err) {
    for (int k = 2; k < a->ni; k++) {
        if (a->i[k] < 0 || a->i[k] >= in->rank) {
            TARN_RAISE(err, "Axis", "%s: dimension %lld of a tensor of rank %d", op,
                       (long long)a->i[k] + 1, in->rank);
        }
    }
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(a, in->rank, reduced);
    out->rank = 0;
    for (int d = 0; d < in->rank; d++) {
        if (!reduced[d]) {
            out->shape[out->rank++] = in->shape[d];
        } else if (a->i[0]) {
            out->shape[out->rank++] = 1;
        }
    }
    return TARN_OK;
}

// Over all elements: a weak f64 number. Over some axes: f32 for f32, f64 for f64, i64 otherwise.
TARN_INFER(reduce) {
    for (int i = 1; i < nin; i++) {
        if (!tarn_shape_equal(in[0].rank, in[0].shape, in[i].rank, in[i].shape)) {
            fail_shapes(err, "dot", nin, in);
            return TARN_ERROR;
        }
    }
    TARN_TRY(reduced_shape("reduction", &in[0], a, out, err));
    bool all = a->ni == 2 && !a->i[0];
    tarn_dtype t = tarn_dtype_compute(in[0].dtype);
    out->weak = all;
    out->dtype = all ? TARN_F64 : t == TARN_BOOL ? TARN_I64 : t;
    return TARN_OK;
}

TARN_INFER(arg) {
    (void)nin;
    TARN_TRY(reduced_shape("argmax/argmin", &in[0], a, out, err));
    if (a->ni > 3) {
        TARN_RAISE(err, "Axis", "argmax and argmin take one dimension, or none for all elements");
    }
    out->weak = false;
    out->dtype = TARN_I64;
    return TARN_OK;
}

// {threshold, index of the last kept among its equals}
TARN_INFER(kth) {
    (void)nin;
    if (a->ni != 4 || a->nf != (a->i[1] ? 2 : 1)) {
        TARN_RAISE(err, "Argument", "kth: bad attributes");
    }
    if (!tarn_dtype_is_float(in[0].dtype)) {
        TARN_RAISE(err, "Dtype", "kth_largest is defined for floating dtypes, not %s",
                   tarn_dtype_get(in[0].dtype)->name);
    }
    *out = (tarn_desc){.dtype = TARN_F64, .rank = 1, .shape = {2}};
    return TARN_OK;
}

tarn_status tarn_op_infer(const tarn_op *op, int nin, const tarn_desc *in, const tarn_attr *a,
                          tarn_desc *out, tarn_error *err) {
    if (nin < op->min_in || (op->max_in >= 0 && nin > op->max_in)) {
        TARN_RAISE(err, "Argument", "%s takes %d operand%s, got %d", op->name, op->min_in,
                   op->min_in == 1 ? "" : "s", nin);
    }
    memset(out, 0, sizeof *out);
    if (op->infer) {
        TARN_TRY(op->infer(nin, in, a, out, err));
    } else {
        TARN_TRY(infer_point(op, nin, in, out, err));
    }
    int64_t n;
    return tarn_shape_numel(out->rank, out->shape, &n, err);
}

void tarn_desc_of(const tarn_tensor *t, tarn_desc *d) {
    memset(d, 0, sizeof *d);
    d->dtype = t->dtype;
    d->weak = t->weak;
    d->rank = t->rank;
    memcpy(d->shape, t->shape, sizeof d->shape);
}

int64_t tarn_desc_numel(const tarn_desc *d) {
    int64_t n = 1;
    for (int k = 0; k < d->rank; k++) {
        n *= d->shape[k];
    }
    return n;
}

void tarn_desc_show(const tarn_desc *d, tarn_text *out) {
    tarn_text_puts(out, tarn_dtype_get(d->dtype)->name);
    tarn_shape_show(out, d->rank, d->shape);
}
