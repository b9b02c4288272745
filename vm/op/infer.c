// SPDX-License-Identifier: Apache-2.0
// Promotion: f64 if a tensor operand is f64, else f32 if one is floating, else i64, else bool; bare
// numbers give way to the tensor they meet (a fraction makes integers f32), and where they alone fill a
// tensor, as in where(mask, 1, 0), it is f32. A dtype for which a row has no kernel moves up: bool, i64,
// f32.
#include "vm/op/infer.h"

#include <stdio.h>
#include <string.h>

#include "vm/op/kernel/kernel.h"

static tarn_status fail_shapes(tarn_error *err, const char *before, const char *after, int nin,
                               const tarn_desc *in) {
    char text[1024];
    size_t at = 0;
    for (int i = 0; i < nin && at < sizeof text - 256; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, i ? " and [" : "[");
        for (int d = 0; d < in[i].rank; d++) {
            at += (size_t)snprintf(text + at, sizeof text - at, d ? ", %lld" : "%lld",
                                   (long long)in[i].shape[d]);
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "]");
    }
    return tarn_raise(err, "ShapeMismatch", "%s%s%s", before, text, after);
}

static tarn_status broadcast_shape(int nin, const tarn_desc *in, tarn_desc *out, tarn_error *err) {
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
                return fail_shapes(err, "shapes ", " do not broadcast", nin, in);
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

static tarn_dtype common(int nin, const tarn_desc *in, const char *sig) {
    static const tarn_dtype of_level[] = {TARN_BOOL, TARN_I64, TARN_F32, TARN_F64};
    int strong = -1, weak = -1;
    bool spread = false;  // bare numbers that fill a tensor, as in where(mask, 1, 0)
    for (int i = 0; i < nin; i++) {
        spread = spread || in[i].rank > 0;
        if (sig[i] != 'T') {
            continue;
        }
        int l = level(tarn_dtype_compute(in[i].dtype));
        if (in[i].weak) {
            weak = l > weak ? l : weak;
        } else {
            strong = l > strong ? l : strong;
        }
    }
    weak = weak == 2 ? 3 : weak;  // a bare number is f64, an element of an f32 vector too
    weak = weak == 3 && strong < 0 && spread ? 2 : weak;
    int l = strong < 0 ? (weak < 0 ? 2 : weak) : strong;
    if (strong >= 0 && strong < 2 && weak > 1) {
        l = 2;
    } else if (strong == 0 && weak == 1) {
        l = 1;
    }
    return of_level[l];
}

// The first dtype from `t` upwards that has a kernel; false when there is none.
static bool settle(const tarn_tile_fn *column, tarn_dtype *t) {
    while (!column[tarn_work(*t)]) {
        if (tarn_dtype_is_float(*t)) {
            return false;
        }
        *t = *t == TARN_BOOL ? TARN_I64 : TARN_F32;
    }
    return true;
}

tarn_status tarn_point_types(const tarn_op *op, int nin, const tarn_desc *in, tarn_dtype *want,
                             tarn_dtype *out, tarn_error *err) {
    tarn_dtype work = common(nin, in, op->sig);
    if (strchr(op->sig, 'T') && !settle(tarn_kernels_get(TARN_ISA_V1)->tile[op->kernel], &work)) {
        TARN_RAISE(err, "Dtype", "not defined for %s", tarn_dtype_get(work)->name);
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

// Integers fold in f64 where a row has no integer kernel: the accumulators are f64 anyway.
tarn_status tarn_reduce_type(const tarn_op *op, tarn_dtype in, tarn_dtype *work, tarn_error *err) {
    *work = tarn_dtype_compute(in);
    const tarn_kernels *k = tarn_kernels_get(TARN_ISA_V1);
    if (!k->fold[op->kernel][tarn_work(*work)] && !tarn_dtype_is_float(*work)) {
        *work = TARN_F64;
    }
    if (!k->fold[op->kernel][tarn_work(*work)]) {
        TARN_RAISE(err, "Dtype", "%s is not defined for %s", op->name, tarn_dtype_get(in)->name);
    }
    return TARN_OK;
}

static tarn_status infer_point(const tarn_op *op, int nin, const tarn_desc *in, tarn_desc *out,
                               tarn_error *err) {
    tarn_dtype want[16];
    TARN_TRY(tarn_point_types(op, nin, in, want, &out->dtype, err));
    TARN_TRY(broadcast_shape(nin, in, out, err));
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

static tarn_status reduced_shape(const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    if (a->ni < 2) {
        TARN_RAISE(err, "Argument", "attributes are {keep, scope, dimensions …}");
    }
    for (int k = 2; k < a->ni; k++) {
        if (a->i[k] < 0 || a->i[k] >= in->rank) {
            TARN_RAISE(err, "Axis", "dimension %lld of a tensor of rank %d", (long long)a->i[k] + 1,
                       in->rank);
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
    TARN_TRY(reduced_shape(&in[0], a, out, err));
    bool all = a->ni == 2 && !a->i[0];
    for (int i = 1; i < nin; i++) {
        if (!tarn_shape_equal(in[0].rank, in[0].shape, in[i].rank, in[i].shape)) {
            return fail_shapes(err, "expected equal shapes, got ", "", nin, in);
        }
        if (a->ni != 2) {
            TARN_RAISE(err, "Axis", "goes over all elements; over dimensions it is the sum of x * y");
        }
    }
    tarn_dtype t = tarn_dtype_compute(in[0].dtype);
    out->weak = all;
    out->dtype = all ? TARN_F64 : t == TARN_BOOL ? TARN_I64 : t;
    return TARN_OK;
}

TARN_INFER(arg) {
    (void)nin;
    TARN_TRY(reduced_shape(&in[0], a, out, err));
    if (a->ni > 3) {
        TARN_RAISE(err, "Axis", "takes one dimension, or none for all elements; got %d", a->ni - 2);
    }
    out->weak = false;
    out->dtype = TARN_I64;
    return TARN_OK;
}

// {threshold, index of the last kept among its equals}
TARN_INFER(kth) {
    (void)nin;
    if (!tarn_dtype_is_float(in[0].dtype)) {
        TARN_RAISE(err, "Dtype", "expected a floating dtype, got %s",
                   tarn_dtype_get(in[0].dtype)->name);
    }
    int64_t bits = tarn_dtype_compute(in[0].dtype) == TARN_F64 ? 64 : 32;
    if (a->ni != 4 || a->nf != (a->i[1] ? 2 : 1) || a->i[3] != bits) {
        TARN_RAISE(err, "Argument", "attributes are {0, scope, k, %lld} and a density",
                   (long long)bits);
    }
    *out = (tarn_desc){.dtype = TARN_F64, .rank = 1, .shape = {2}};
    return TARN_OK;
}

static tarn_status infer_any(const tarn_op *op, int nin, const tarn_desc *in, const tarn_attr *a,
                             tarn_desc *out, tarn_error *err) {
    if (nin < op->min_in || (op->max_in >= 0 && nin > op->max_in)) {
        TARN_RAISE(err, "Argument", "expected %d operand%s, got %d", op->min_in,
                   op->min_in == 1 ? "" : "s", nin);
    }
    for (int i = 0; i < nin; i++) {
        if (!tarn_dtype_is_compute(tarn_dtype_compute(in[i].dtype))) {
            TARN_RAISE(err, "Dtype", "%s can be stored and copied, not computed with",
                       tarn_dtype_get(in[i].dtype)->name);
        }
    }
    memset(out, 0, sizeof *out);
    TARN_TRY(op->infer ? op->infer(nin, in, a, out, err) : infer_point(op, nin, in, out, err));
    int64_t n;
    return tarn_shape_numel(out->rank, out->shape, &n, err);
}

// Rows say what was expected and what they got; their name is put before it here.
tarn_status tarn_op_infer(const tarn_op *op, int nin, const tarn_desc *in, const tarn_attr *a,
                          tarn_desc *out, tarn_error *err) {
    tarn_status s = infer_any(op, nin, in, a, out, err);
    return s == TARN_OK ? s : tarn_error_prefix(err, "%s", op->name);
}

void tarn_desc_of(const tarn_tensor *t, tarn_desc *d) {
    memset(d, 0, sizeof *d);
    d->dtype = t->dtype;
    d->weak = t->weak;
    d->rank = t->rank;
    memcpy(d->shape, t->shape, sizeof d->shape);
}

int64_t tarn_desc_numel(const tarn_desc *d) {
    int64_t n = 0;
    tarn_shape_numel(d->rank, d->shape, &n, NULL);  // checked by inference
    return n;
}

void tarn_desc_show(const tarn_desc *d, tarn_text *out) {
    tarn_text_puts(out, tarn_dtype_get(d->dtype)->name);
    tarn_shape_show(out, d->rank, d->shape);
}
