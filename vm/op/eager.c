// SPDX-License-Identifier: Apache-2.0
// The eager evaluator: one operation on tensors in memory. Walks over graphs are exec.c's.
#include <stdlib.h>
#include <string.h>

#include "vm/op/eager.h"
#include "vm/op/infer.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"
#include "vm/op/tile.h"

// ---- element-wise ----

typedef struct {
    int nin;
    tarn_fetch fetch[16];
    tarn_tile_plan plan;
    tarn_tile_args args;
    tarn_convert_fn narrow;  // from the function's dtype to a stored one; NULL: none
    char *out;
    size_t size_out, size_work;
    int64_t numel;
    char *scratch;
    size_t scratch_bytes;
} point_run;

static tarn_status point_block(void *arg, int64_t block, int worker, tarn_error *err) {
    (void)err;
    point_run *p = arg;
    char *buf = p->scratch + (size_t)worker * p->scratch_bytes;
    char *made = buf + (size_t)p->nin * TARN_TILE * 8;
    int64_t end = (block + 1) * TARN_BLOCK < p->numel ? (block + 1) * TARN_BLOCK : p->numel;
    tarn_tile_args args = p->args;
    for (int64_t at = block * TARN_BLOCK; at < end; at += TARN_TILE) {
        int64_t n = end - at < TARN_TILE ? end - at : TARN_TILE;
        const void *in[16];
        for (int i = 0; i < p->nin; i++) {
            in[i] = tarn_fetch_tile(&p->fetch[i], at, n, buf + (size_t)i * TARN_TILE * 8);
        }
        char *dst = p->out + at * (int64_t)p->size_out;
        args.at = at;
        const void *result = in[0];
        if (p->plan.fn) {
            void *to = p->narrow ? made : dst;
            p->plan.fn(n, in, to, &args);
            result = to;
        }
        if (p->narrow) {
            p->narrow(n, result, dst);
        } else if (result != dst) {
            memcpy(dst, result, (size_t)n * p->size_out);
        }
    }
    return TARN_OK;
}

static tarn_status apply_point(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                               const tarn_attr *a, const tarn_desc *din, const tarn_desc *d,
                               tarn_tensor *out, tarn_error *err) {
    point_run p = {.nin = nin, .args = {.attr = a}};
    TARN_TRY(tarn_tile_plan_of(cx->isa, op, nin, din, a, d, &p.plan, err));
    for (int i = 0; i < nin; i++) {
        TARN_TRY(tarn_fetch_init(&p.fetch[i], cx->isa, &in[i], d->rank, d->shape, p.plan.want[i],
                                 err));
    }
    tarn_dtype made = p.plan.fn ? p.plan.out : p.plan.want[0];
    if (made != d->dtype) {
        p.narrow = tarn_convert(cx->isa, made, d->dtype);
        if (!p.narrow) {
            TARN_RAISE(err, "Dtype", "%s: no conversion from %s to %s", op->name,
                       tarn_dtype_get(made)->name, tarn_dtype_get(d->dtype)->name);
        }
    }
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    out->weak = d->weak;
    p.out = out->storage->data;
    p.size_out = (size_t)tarn_dtype_get(d->dtype)->bits / 8;
    p.numel = tarn_tensor_numel(out);
    int64_t blocks = (p.numel + TARN_BLOCK - 1) / TARN_BLOCK;
    tarn_pool *pool = blocks > 1 ? cx->pool : NULL;
    p.scratch_bytes = ((size_t)nin + 1) * TARN_TILE * 8;
    size_t total = p.scratch_bytes * (size_t)tarn_pool_size(pool);
    _Alignas(64) char here[4 * TARN_TILE * 8];
    p.scratch = total <= sizeof here ? here : tarn_alloc(&cx->budget, total);
    tarn_status s = p.scratch ? tarn_pool_run(pool, blocks, point_block, &p, &cx->cancel, err)
                              : tarn_raise_nomem(err, op->name, total);
    if (p.scratch != here) {
        tarn_free(&cx->budget, p.scratch, total);
    }
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

tarn_status tarn_tensor_cast(tarn_context *cx, const tarn_tensor *t, tarn_dtype dtype,
                             tarn_tensor *out, tarn_error *err) {
    int64_t to = dtype;
    tarn_attr a = {.ni = 1, .i = &to};
    return tarn_op_apply(cx, &tarn_op_cast, 1, t, &a, out, err);
}

tarn_status tarn_result(tarn_context *cx, const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    if (!out->storage) {
        TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    }
    out->weak = d->weak;
    return TARN_OK;
}

tarn_status tarn_tensor_plain(tarn_context *cx, const tarn_tensor *in, tarn_dtype t,
                              tarn_tensor *out, tarn_error *err) {
    if (in->dtype == t && tarn_tensor_contiguous(in)) {
        tarn_tensor_share(in, out);
        return TARN_OK;
    }
    return tarn_tensor_cast(cx, in, t, out, err);
}

// ---- rows by themselves ----

typedef struct {
    tarn_context *cx;
    const tarn_op *op;
    const tarn_attr *attr;
    tarn_dtype dtype;
    int64_t rows, length, per_task;
    const char *in;
    char *out, *scratch;
    size_t size_in, size_out, scratch_bytes;
} own_run;

static tarn_status own_task(void *arg, int64_t task, int worker, tarn_error *err) {
    own_run *r = arg;
    int64_t first = task * r->per_task,
            n = r->rows - first < r->per_task ? r->rows - first : r->per_task;
    size_t at = (size_t)(first * r->length);
    return r->op->rows->run(r->cx, n, r->length, r->dtype, r->in + at * r->size_in, r->attr,
                            r->out + at * r->size_out,
                            r->scratch + (size_t)worker * r->scratch_bytes, err);
}

static tarn_status apply_rows(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                              const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                              tarn_error *err) {
    own_run r = {
        .cx = cx, .op = op, .attr = a, .dtype = in->dtype, .length = d->shape[d->rank - 1]};
    tarn_tensor x = {0};
    TARN_TRY(tarn_result(cx, d, out, err));
    int64_t numel = tarn_desc_numel(d);
    tarn_status s = tarn_tensor_plain(cx, in, in->dtype, &x, err);
    if (s == TARN_OK && numel > 0) {
        r.rows = numel / r.length;
        r.per_task = r.length < TARN_BLOCK / 16 ? TARN_BLOCK / 16 / r.length : 1;
        r.in = tarn_tensor_data(&x);
        r.out = tarn_tensor_data(out);
        r.size_in = (size_t)tarn_dtype_get(x.dtype)->bits / 8;
        r.size_out = (size_t)tarn_dtype_get(d->dtype)->bits / 8;
        int64_t tasks = (r.rows + r.per_task - 1) / r.per_task;
        tarn_pool *pool = tasks >= tarn_pool_size(cx->pool) ? cx->pool : NULL;
        r.scratch_bytes = op->rows->scratch(x.dtype, r.length);
        size_t total = r.scratch_bytes * (size_t)tarn_pool_size(pool);
        r.scratch = tarn_alloc(&cx->budget, total);
        s = r.scratch ? tarn_pool_run(pool, tasks, own_task, &r, &cx->cancel, err)
                      : tarn_raise_nomem(err, op->name, total);
        tarn_free(&cx->budget, r.scratch, total);
    }
    tarn_tensor_release(&x);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

static tarn_status apply_reduce(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                                const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                tarn_error *err) {
    if (a->i[1]) {
        TARN_RAISE(err, "Argument", "%s over a whole model is computed by a run over all its tensors",
                   op->name);
    }
    bool all = op->reducer->outputs > 0 || a->ni == 2;
    if (!all) {
        return tarn_reduce_some(cx, op, in, a, d, out, err);
    }
    double value[4];
    TARN_TRY(tarn_reduce_tensors(cx, op, nin, in, a, value, err));
    TARN_TRY(tarn_result(cx, d, out, err));
    for (int64_t i = 0; i < tarn_desc_numel(d); i++) {
        tarn_tensor_set(out, i, value[i]);
    }
    return TARN_OK;
}

size_t tarn_op_workspace(tarn_context *cx, const tarn_op *op, int nin, const tarn_desc *in,
                         const tarn_attr *a, const tarn_desc *d) {
    size_t workers = (size_t)tarn_pool_size(cx->pool);
    if (op->cls == TARN_CLASS_REDUCE) {
        size_t part = op->reducer->exact
                          ? workers
                          : (size_t)(tarn_desc_numel(&in[0]) / TARN_BLOCK) + 1;
        return workers * (tarn_fold_rows_scratch(op->reducer) + (size_t)(nin + 1) * TARN_TILE * 8 + 1) +
               op->reducer->part * part + op->reducer->state + 512;
    }
    if (op->rows) {
        int64_t length = in[0].rank > 0 ? in[0].shape[in[0].rank - 1] : 1;
        return tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0])) + 2 * TARN_TILE * 8 * workers +
               workers * op->rows->scratch(in[0].dtype, length);
    }
    size_t casts = 2 * TARN_TILE * 8 * workers;  // tiles of a conversion
    return casts + (op->workspace ? op->workspace(nin, in, a, d, (int)workers) : 0);
}

// ---- views ----

static tarn_status apply_view(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                              const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                              tarn_error *err) {
    if (op->view(in, a, d, out)) {
        atomic_fetch_add(&out->storage->refs, 1);
        out->weak = d->weak;
        return TARN_OK;
    }
    tarn_tensor plain;
    TARN_TRY(tarn_tensor_cast(cx, in, in->dtype, &plain, err));
    op->view(&plain, a, d, out);
    out->weak = d->weak;
    return TARN_OK;  // the view took over plain's reference
}

// `out` given: the row gets a reference of its own, which it releases if it fails.
tarn_status tarn_op_into(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                         const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                         tarn_error *err) {
    tarn_storage *given = out->storage;
    if (given) {
        atomic_fetch_add(&given->refs, 1);
    }
    tarn_status s = op->cls == TARN_CLASS_REDUCE ? apply_reduce(cx, op, nin, in, a, d, out, err)
                    : op->rows                   ? apply_rows(cx, op, in, a, d, out, err)
                                                 : op->apply(cx, nin, in, a, d, out, err);
    if (given && s == TARN_OK) {
        atomic_fetch_sub(&given->refs, 1);
    } else if (s != TARN_OK) {
        tarn_tensor_release(out);  // a row may fail before it looks at `out`
    }
    return s;
}

tarn_status tarn_op_apply(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                          const tarn_attr *a, tarn_tensor *out, tarn_error *err) {
    static const tarn_attr none = {0};
    a = a ? a : &none;
    *out = (tarn_tensor){0};
    enum { FEW = 16 };
    tarn_desc few[FEW];
    tarn_desc *din = nin <= FEW ? few : malloc((size_t)nin * sizeof *din);
    memset(few, 0, sizeof few[0]);
    if (!din) {
        return tarn_raise_nomem(err, op->name, (size_t)nin * sizeof *din);
    }
    tarn_status s = TARN_OK;
    for (int i = 0; i < nin && s == TARN_OK; i++) {
        if (!in[i].storage) {
            s = tarn_raise(err, "Released", "%s: operand %d has been released", op->name, i + 1);
        }
        tarn_desc_of(&in[i], &din[i]);
    }
    tarn_desc d;
    if (s == TARN_OK) {
        s = tarn_op_infer(op, nin, din, a, &d, err);
    }
    if (s == TARN_OK) {
        switch (op->cls) {
        case TARN_CLASS_POINT:
            s = apply_point(cx, op, nin, in, a, din, &d, out, err);
            break;
        case TARN_CLASS_VIEW:
            s = apply_view(cx, op, in, a, &d, out, err);
            break;
        case TARN_CLASS_REDUCE:
        case TARN_CLASS_WHOLE:
            s = tarn_op_into(cx, op, nin, in, a, &d, out, err);
            break;
        case TARN_CLASS_LEAF:
        default:
            s = tarn_raise(err, "Argument", "%s is a leaf", op->name);
        }
    }
    if (din != few) {
        free(din);
    }
    return s;
}

// ---- leaves ----

tarn_status tarn_leaf_value(tarn_context *cx, const tarn_node *n, tarn_tensor *out,
                            tarn_error *err) {
    if (n->op == &tarn_op_number) {
        return tarn_tensor_number(cx, n->attr.f[0], out, err);
    }
    if (n->op == &tarn_op_tensor) {
        const tarn_tensor *t = n->attr.p;
        if ((int64_t)t->storage->version != n->attr.i[0]) {
            TARN_RAISE(err, "Changed", "a tensor in memory was changed (by a method with a trailing _) "
                       "after it became part of an expression; :clone() it before");
        }
        tarn_tensor_share(t, out);
        return TARN_OK;
    }
    if (n->op == &tarn_op_source) {
        const tarn_tensor *held = tarn_source_tensor(n->attr.p);
        if (held) {
            tarn_tensor_share(held, out);
            return TARN_OK;
        }
        return tarn_tensor_read(cx, n->attr.p, out, err);
    }
    TARN_RAISE(err, "Argument", "an input of a recorded function has no value");
}
