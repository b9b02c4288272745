// SPDX-License-Identifier: Apache-2.0
// The eager evaluator: one operation on tensors in memory, and the walk over a graph that frees each
// value after its last use.
#include <stdlib.h>
#include <string.h>

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
    p.scratch = tarn_alloc(&cx->budget, total);
    tarn_status s = p.scratch ? tarn_pool_run(pool, blocks, point_block, &p, &cx->cancel, err)
                              : tarn_raise_nomem(err, op->name, total);
    tarn_free(&cx->budget, p.scratch, total);
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

tarn_status tarn_tensor_plain(tarn_context *cx, const tarn_tensor *in, tarn_dtype t,
                              tarn_tensor *out, tarn_error *err) {
    if (in->dtype == t && tarn_tensor_contiguous(in)) {
        tarn_tensor_share(in, out);
        return TARN_OK;
    }
    return tarn_tensor_cast(cx, in, t, out, err);
}

// ---- reductions over some dimensions ----

static void permuted(const tarn_tensor *t, const bool *reduced, tarn_tensor *out) {
    *out = *t;
    int k = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int d = 0; d < t->rank; d++) {
            if (reduced[d] == (pass == 1)) {
                out->shape[k] = t->shape[d];
                out->stride[k++] = t->stride[d];
            }
        }
    }
}

typedef struct {
    const tarn_reducer *reducer;
    tarn_fold_fn fn;
    const tarn_attr *attr;
    tarn_fetch fetch;
    int64_t rows, length;
    tarn_tensor *out;
    char *scratch;
    size_t scratch_bytes;
} row_run;

enum { ROWS_PER_TASK = 256 };

static tarn_status rows_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    row_run *r = arg;
    tarn_tensor *out = r->out;
    int64_t first = task * ROWS_PER_TASK;
    int64_t n = r->rows - first < ROWS_PER_TASK ? r->rows - first : ROWS_PER_TASK;
    size_t size = (size_t)tarn_dtype_get(out->dtype)->bits / 8;
    tarn_fold_rows(r->reducer, r->fn, r->attr, &r->fetch, r->length, first, n, out->dtype,
                   (char *)out->storage->data + (size_t)first * size,
                   r->scratch + (size_t)worker * r->scratch_bytes);
    return TARN_OK;
}

static tarn_status reduce_rows(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                               const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                               tarn_error *err) {
    row_run r = {.reducer = op->reducer, .attr = a, .out = out};
    if (r.reducer->exact) {
        TARN_RAISE(err, "Axis", "%s works on all elements only", op->name);
    }
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(a, in->rank, reduced);
    tarn_tensor view;
    permuted(in, reduced, &view);
    r.length = 1;
    for (int k = 0; k < in->rank; k++) {
        r.length *= reduced[k] ? in->shape[k] : 1;
    }
    tarn_dtype work;
    TARN_TRY(tarn_fold_fn_of(cx->isa, op, in->dtype, &work, &r.fn, err));
    TARN_TRY(tarn_fetch_init(&r.fetch, cx->isa, &view, view.rank, view.shape, work, err));
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    out->weak = d->weak;
    r.rows = tarn_tensor_numel(out);
    int64_t tasks = (r.rows + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    tarn_pool *pool = r.rows * r.length >= TARN_BLOCK ? cx->pool : NULL;
    r.scratch_bytes = tarn_fold_rows_scratch(r.reducer);
    size_t total = r.scratch_bytes * (size_t)tarn_pool_size(pool);
    r.scratch = tarn_alloc(&cx->budget, total);
    tarn_status s = r.scratch ? tarn_pool_run(pool, tasks, rows_task, &r, &cx->cancel, err)
                              : tarn_raise_nomem(err, op->name, total);
    tarn_free(&cx->budget, r.scratch, total);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
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
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    int64_t numel = tarn_desc_numel(d);
    tarn_status s = tarn_tensor_plain(cx, in, in->dtype, &x, err);
    if (s == TARN_OK && numel > 0) {
        r.rows = numel / r.length;
        r.per_task = r.length < TARN_BLOCK / 16 ? TARN_BLOCK / 16 / r.length : 1;
        r.in = tarn_tensor_data(&x);
        r.out = out->storage->data;
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
        return reduce_rows(cx, op, in, a, d, out, err);
    }
    double value[4];
    TARN_TRY(tarn_reduce_tensors(cx, op, nin, in, a, value, err));
    return tarn_reduce_result(cx, d, value, out, err);
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

tarn_status tarn_op_apply(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                          const tarn_attr *a, tarn_tensor *out, tarn_error *err) {
    static const tarn_attr none = {0};
    a = a ? a : &none;
    out->storage = NULL;
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
        case TARN_CLASS_REDUCE:
            s = apply_reduce(cx, op, nin, in, a, &d, out, err);
            break;
        case TARN_CLASS_VIEW:
            s = apply_view(cx, op, in, a, &d, out, err);
            break;
        case TARN_CLASS_WHOLE:
            s = op->rows ? apply_rows(cx, op, in, a, &d, out, err)
                         : op->apply(cx, nin, in, a, &d, out, err);
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

// ---- graphs ----

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
        return tarn_tensor_read(cx, n->attr.p, out, err);
    }
    TARN_RAISE(err, "Argument", "an input of a recorded function has no value");
}

static tarn_status eval_leaf(tarn_graph *g, const tarn_node *n, const tarn_tensor *const *feeds,
                             tarn_tensor *out, tarn_error *err) {
    const tarn_tensor *t = feeds ? feeds[n->id] : NULL;
    if (t) {
        // What was recorded holds for the recorded shapes only.
        if (!tarn_shape_equal(t->rank, t->shape, n->desc.rank, n->desc.shape)) {
            TARN_RAISE(err, "ShapeMismatch",
                       "input %d of a recorded function has another shape than it was recorded with",
                       n->id);
        }
        tarn_tensor_share(t, out);
        return TARN_OK;
    }
    return tarn_leaf_value(g->cx, n, out, err);
}

tarn_status tarn_graph_eval(tarn_graph *g, int nroots, const tarn_node *const *roots,
                            const tarn_tensor *const *feeds, tarn_tensor *results,
                            tarn_error *err) {
    size_t count = (size_t)g->count;
    tarn_tensor *value = calloc(count + 1, sizeof *value);
    int *users = calloc(count + 1, sizeof *users);
    unsigned char *use = calloc(count + 1, 1);
    tarn_tensor *in = NULL;
    tarn_status s = TARN_OK;
    memset(results, 0, (size_t)nroots * sizeof *results);
    int widest = 1;
    if (!value || !users || !use) {
        s = tarn_raise_nomem(err, "evaluation", count * sizeof *value);
        goto done;
    }
    tarn_graph_mark(g, nroots, roots, use);
    for (int i = 0; i < g->count; i++) {
        if (use[i]) {
            const tarn_node *n = g->nodes[i];
            widest = n->nin > widest ? n->nin : widest;
            for (int k = 0; k < n->nin; k++) {
                users[n->in[k]->id]++;
            }
        }
    }
    for (int r = 0; r < nroots; r++) {
        users[roots[r]->id]++;
    }
    in = calloc((size_t)widest, sizeof *in);
    if (!in) {
        s = tarn_raise_nomem(err, "evaluation", (size_t)widest * sizeof *in);
        goto done;
    }
    for (int i = 0; i < g->count && s == TARN_OK; i++) {
        const tarn_node *n = g->nodes[i];
        if (!use[i]) {
            continue;
        }
        s = tarn_cancel_check(&g->cx->cancel, err);
        if (s != TARN_OK) {
            break;
        }
        if (n->op->cls == TARN_CLASS_LEAF) {
            s = eval_leaf(g, n, feeds, &value[i], err);
            continue;
        }
        for (int k = 0; k < n->nin; k++) {
            in[k] = value[n->in[k]->id];
        }
        s = tarn_op_apply(g->cx, n->op, n->nin, in, &n->attr, &value[i], err);
        for (int k = 0; k < n->nin; k++) {
            int id = n->in[k]->id;
            if (--users[id] == 0) {
                tarn_tensor_release(&value[id]);
            }
        }
    }
    for (int r = 0; r < nroots && s == TARN_OK; r++) {
        tarn_tensor_share(&value[roots[r]->id], &results[r]);
    }
done:
    for (size_t i = 0; value && i < count; i++) {
        tarn_tensor_release(&value[i]);
    }
    free(value);
    free(users);
    free(use);
    free(in);
    return s;
}
