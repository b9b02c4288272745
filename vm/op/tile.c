// SPDX-License-Identifier: Apache-2.0
// Tiles: fetching operands, choosing tile functions, and the reduction tree.
#include "vm/op/tile.h"

#include <string.h>

#include "vm/op/infer.h"
#include "vm/op/kernel/kernel.h"

tarn_status tarn_tile_plan_of(tarn_isa isa, const tarn_op *op, int nin, const tarn_desc *in,
                              const tarn_attr *a, const tarn_desc *out, tarn_tile_plan *plan,
                              tarn_error *err) {
    memset(plan, 0, sizeof *plan);
    plan->out = tarn_dtype_compute(out->dtype);
    (void)a;
    if (!op->sig) {
        plan->want[0] = tarn_dtype_compute(in[0].dtype);
        return TARN_OK;
    }
    TARN_TRY(tarn_point_types(op, nin, in, plan->want, NULL, err));
    const char *t = strchr(op->sig, 'T');
    tarn_dtype column = nin > 0 && t && t - op->sig < nin ? plan->want[t - op->sig]
                        : nin > 0                         ? plan->want[0]
                                                          : plan->out;
    plan->fn = tarn_kernels_get(isa)->tile[op->kernel][tarn_work(column)];
    return TARN_OK;
}

tarn_status tarn_fetch_init(tarn_fetch *f, tarn_isa isa, const tarn_tensor *t, int rank,
                            const int64_t *shape, tarn_dtype work, tarn_error *err) {
    memset(f, 0, sizeof *f);
    f->size_in = (size_t)tarn_dtype_get(t->dtype)->bits / 8;
    f->size_out = tarn_work_size(work);
    f->data = tarn_tensor_data(t);
    if (t->dtype != work || work == TARN_BOOL) {  // a bool of a file may be any byte
        f->convert = tarn_convert(isa, t->dtype, work);
        if (!f->convert) {
            TARN_RAISE(err, "Dtype", "%s cannot be read as %s", tarn_dtype_get(t->dtype)->name,
                       tarn_dtype_get(work)->name);
        }
    }
    TARN_TRY(tarn_shape_numel(rank, shape, &f->numel, err));
    if (tarn_tensor_numel(t) == 1) {
        f->mode = TARN_FETCH_SPLAT;
        return TARN_OK;
    }
    int64_t stride[TARN_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        int k = d - (rank - t->rank);
        stride[d] = k < 0 || t->shape[k] == 1 ? 0 : t->stride[k];
    }
    // Neighbouring dimensions that step evenly become one.
    for (int d = 0; d < rank; d++) {
        if (shape[d] == 1) {
            continue;
        }
        if (f->rank > 0 && f->stride[f->rank - 1] == stride[d] * shape[d]) {
            f->shape[f->rank - 1] *= shape[d];
            f->stride[f->rank - 1] = stride[d];
        } else {
            f->shape[f->rank] = shape[d];
            f->stride[f->rank++] = stride[d];
        }
    }
    f->mode = f->rank == 0 || (f->rank == 1 && f->stride[0] == 1) ? TARN_FETCH_DIRECT
                                                                  : TARN_FETCH_STRIDED;
    return TARN_OK;
}

static void copy_strided(char *dst, const char *src, int64_t n, int64_t stride, size_t size) {
    int64_t step = stride * (int64_t)size;
    switch (size) {
    case 4:
        for (int64_t i = 0; i < n; i++) {
            memcpy(dst + i * 4, src + i * step, 4);
        }
        break;
    case 8:
        for (int64_t i = 0; i < n; i++) {
            memcpy(dst + i * 8, src + i * step, 8);
        }
        break;
    case 2:
        for (int64_t i = 0; i < n; i++) {
            memcpy(dst + i * 2, src + i * step, 2);
        }
        break;
    default:
        for (int64_t i = 0; i < n; i++) {
            memcpy(dst + i, src + i * step, 1);
        }
        break;
    }
}

// Gathers stored elements [at, at + n) into dst, row by row of the innermost dimension.
static void gather_rows(const tarn_fetch *f, int64_t at, int64_t n, char *dst) {
    int64_t index[TARN_MAX_RANK], rest = at;
    for (int d = f->rank - 1; d >= 0; d--) {
        index[d] = rest % f->shape[d];
        rest /= f->shape[d];
    }
    int last = f->rank - 1;
    while (n > 0) {
        int64_t offset = 0;
        for (int d = 0; d < f->rank; d++) {
            offset += index[d] * f->stride[d];
        }
        int64_t run = f->shape[last] - index[last];
        run = run < n ? run : n;
        const char *src = f->data + offset * (int64_t)f->size_in;
        if (f->stride[last] == 1) {
            memcpy(dst, src, (size_t)run * f->size_in);
        } else {
            copy_strided(dst, src, run, f->stride[last], f->size_in);
        }
        dst += run * (int64_t)f->size_in;
        n -= run;
        index[last] += run;
        for (int d = last; d > 0 && index[d] == f->shape[d]; d--) {
            index[d] = 0;
            index[d - 1]++;
        }
    }
}

static void splat(const tarn_fetch *f, int64_t n, void *buf) {
    char one[8];
    if (f->convert) {
        f->convert(1, f->data, one);
    } else {
        memcpy(one, f->data, f->size_out);
    }
    char *p = buf;
    if (f->size_out == 4) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(p + i * 4, one, 4);
        }
    } else if (f->size_out == 8) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(p + i * 8, one, 8);
        }
    } else {
        memset(p, one[0], (size_t)n);
    }
}

const void *tarn_fetch_tile(const tarn_fetch *f, int64_t at, int64_t n, void *buf) {
    if (f->mode == TARN_FETCH_SPLAT) {
        splat(f, n, buf);
        return buf;
    }
    if (f->mode == TARN_FETCH_DIRECT) {
        const char *src = f->data + at * (int64_t)f->size_in;
        if (f->convert) {
            f->convert(n, src, buf);
            return buf;
        }
        if (((uintptr_t)src & 63) == 0) {
            return src;
        }
        memcpy(buf, src, (size_t)n * f->size_in);
        return buf;
    }
    if (!f->convert) {
        gather_rows(f, at, n, buf);
        return buf;
    }
    char raw[TARN_TILE * 8];
    gather_rows(f, at, n, raw);
    f->convert(n, raw, buf);
    return buf;
}

// ---- the reduction tree ----

static size_t padded(size_t n) { return (n + 63) / 64 * 64; }

// An exact reducer folds straight into its worker's part.
size_t tarn_fold_scratch(const tarn_reducer *r) {
    return r->exact ? 0 : padded(r->acc) + 24 * padded(r->part);
}

void tarn_fold_init(tarn_fold *f, const tarn_reducer *r, tarn_fold_fn fn, const tarn_attr *a,
                    const void *state, void *scratch) {
    memset(f, 0, sizeof *f);
    f->reducer = r;
    f->fn = fn;
    f->args.attr = a;
    f->args.state = state;
    f->acc = scratch;
    f->stack = (char *)scratch + padded(r->acc);
}

static void *part_at(const tarn_fold *f, int i) {
    return (char *)f->stack + (size_t)i * padded(f->reducer->part);
}

void tarn_fold_begin(tarn_fold *f) {
    f->depth = 0;
    f->in_leaf = 0;
    f->reducer->open(f->acc);
}

static void push(tarn_fold *f) {
    const tarn_reducer *r = f->reducer;
    r->close(f->acc, part_at(f, f->depth));
    f->level[f->depth++] = 0;
    while (f->depth > 1 && f->level[f->depth - 1] == f->level[f->depth - 2]) {
        r->join(part_at(f, f->depth - 2), part_at(f, f->depth - 1));
        f->depth--;
        f->level[f->depth - 1]++;
    }
    r->open(f->acc);
    f->in_leaf = 0;
}

void tarn_fold_tile(tarn_fold *f, int64_t at, int64_t n, const void *const *in) {
    f->args.at = at;
    f->fn(n, in, f->acc, &f->args);
    f->in_leaf += n;
    if (!f->reducer->exact && f->in_leaf >= TARN_LEAF) {
        push(f);
    }
}

void tarn_fold_end(tarn_fold *f, void *part) {
    const tarn_reducer *r = f->reducer;
    if (f->in_leaf > 0 || f->depth == 0) {
        push(f);
    }
    while (f->depth > 1) {
        r->join(part_at(f, f->depth - 2), part_at(f, f->depth - 1));
        f->depth--;
    }
    memcpy(part, part_at(f, 0), r->part);
}

// Joining neighbours level by level, the odd one passing up, is the tree that pushing leaves one by
// one and collapsing the stack builds: blocks are complete subtrees of it.
void tarn_reduce_join(const tarn_reducer *r, int64_t n, void *parts) {
    char *p = parts;
    for (int64_t step = 1; step < n; step *= 2) {
        for (int64_t i = 0; i + step < n; i += 2 * step) {
            r->join(p + (size_t)i * r->part, p + (size_t)(i + step) * r->part);
        }
    }
}

tarn_status tarn_fold_fn_of(tarn_isa isa, const tarn_op *op, tarn_dtype in, tarn_dtype *work,
                            tarn_fold_fn *fn, tarn_error *err) {
    TARN_TRY(tarn_reduce_type(op, in, work, err));
    *fn = tarn_kernels_get(isa)->fold[op->kernel][tarn_work(*work)];
    return TARN_OK;
}

size_t tarn_fold_rows_scratch(const tarn_reducer *r) {
    return tarn_fold_scratch(r) + padded(r->part) + TARN_TILE * 8;
}

void tarn_fold_rows(const tarn_reducer *r, tarn_fold_fn fn, const tarn_attr *a, const tarn_fetch *x,
                    int64_t length, int64_t first, int64_t n, tarn_dtype t, void *out,
                    void *scratch) {
    char *part = (char *)scratch + tarn_fold_scratch(r), *tile = part + padded(r->part);
    size_t size = (size_t)tarn_dtype_get(t)->bits / 8;
    tarn_fold f;
    tarn_fold_init(&f, r, fn, a, NULL, scratch);
    for (int64_t row = 0; row < n; row++) {
        tarn_fold_begin(&f);
        for (int64_t at = 0; at < length; at += TARN_TILE) {
            int64_t m = length - at < TARN_TILE ? length - at : TARN_TILE;
            const void *in = tarn_fetch_tile(x, (first + row) * length + at, m, tile);
            tarn_fold_tile(&f, at, m, &in);
        }
        tarn_fold_end(&f, part);
        double v = r->start;
        if (length > 0) {
            r->finish(part, length, a, NULL, &v);
        }
        tarn_element_set(t, (char *)out + (size_t)row * size, v);
    }
}

void tarn_parts_store(tarn_dtype t, int64_t n, const double *part, void *out) {
    if (t == TARN_F32) {
        for (int64_t i = 0; i < n; i++) {
            ((float *)out)[i] = (float)part[i];
        }
    } else if (t == TARN_F64) {
        memcpy(out, part, (size_t)n * sizeof *part);
    } else {
        size_t size = (size_t)tarn_dtype_get(t)->bits / 8;
        for (int64_t i = 0; i < n; i++) {
            tarn_element_set(t, (char *)out + (size_t)i * size, part[i]);
        }
    }
}

tarn_status tarn_reduce_result(tarn_context *cx, const tarn_desc *d, const double *out,
                               tarn_tensor *t, tarn_error *err) {
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, t, err));
    t->weak = d->weak;
    int64_t n = tarn_desc_numel(d);
    for (int64_t i = 0; i < n; i++) {
        tarn_tensor_set(t, i, out[i]);
    }
    return TARN_OK;
}

typedef struct {
    tarn_context *cx;
    const tarn_reducer *reducer;
    tarn_fold_fn fn;
    const tarn_attr *attr;
    int nin;
    const tarn_fetch *fetch;
    const void *state;
    int64_t numel;
    char *scratch;  // per worker: fold scratch, then tiles
    size_t scratch_bytes;
    char *parts;    // per block, or per worker when exact
    bool *opened;   // exact: the worker's accumulator is in use
} reduce_run;

static tarn_status reduce_block(void *arg, int64_t block, int worker, tarn_error *err) {
    (void)err;
    reduce_run *r = arg;
    char *scratch = r->scratch + (size_t)worker * r->scratch_bytes;
    size_t fold_bytes = tarn_fold_scratch(r->reducer);
    tarn_fold f;
    tarn_fold_init(&f, r->reducer, r->fn, r->attr, r->state, scratch);
    if (r->reducer->exact) {
        f.acc = r->parts + (size_t)worker * r->reducer->part;
        if (!r->opened[worker]) {
            r->reducer->open(f.acc);
            r->opened[worker] = true;
        }
    } else {
        tarn_fold_begin(&f);
    }
    int64_t end = (block + 1) * TARN_BLOCK < r->numel ? (block + 1) * TARN_BLOCK : r->numel;
    for (int64_t at = block * TARN_BLOCK; at < end; at += TARN_TILE) {
        int64_t n = end - at < TARN_TILE ? end - at : TARN_TILE;
        const void *in[2];
        for (int i = 0; i < r->nin; i++) {
            in[i] = tarn_fetch_tile(&r->fetch[i], at, n,
                                    scratch + fold_bytes + (size_t)i * TARN_TILE * 8);
        }
        tarn_fold_tile(&f, at, n, in);
    }
    if (!r->reducer->exact) {
        tarn_fold_end(&f, r->parts + (size_t)block * r->reducer->part);
    }
    return TARN_OK;
}

static tarn_status sweep(reduce_run *r, int64_t blocks, int workers, tarn_error *err) {
    const tarn_reducer *red = r->reducer;
    memset(r->opened, 0, (size_t)workers);
    TARN_TRY(tarn_pool_run(blocks > 1 ? r->cx->pool : NULL, blocks, reduce_block, r,
                           &r->cx->cancel, err));
    if (!red->exact) {
        tarn_reduce_join(red, blocks, r->parts);
        return TARN_OK;
    }
    int first = -1;
    for (int w = 0; w < workers; w++) {
        if (!r->opened[w]) {
            continue;
        }
        if (first < 0) {
            first = w;
        } else {
            red->join(r->parts + (size_t)first * red->part, r->parts + (size_t)w * red->part);
        }
    }
    if (first > 0) {
        memcpy(r->parts, r->parts + (size_t)first * red->part, red->part);
    }
    return TARN_OK;
}

tarn_status tarn_reduce_tensors(tarn_context *cx, const tarn_op *op, int nin,
                                const tarn_tensor *in, const tarn_attr *a, double *out,
                                tarn_error *err) {
    const tarn_reducer *red = op->reducer;
    reduce_run r = {.cx = cx, .reducer = red, .attr = a, .nin = nin};
    r.numel = tarn_tensor_numel(&in[0]);
    if (r.numel == 0) {
        for (int i = 0; i < (red->outputs > 0 ? red->outputs : 1); i++) {
            out[i] = red->start;
        }
        return TARN_OK;
    }
    tarn_fetch fetch[2];
    tarn_dtype work, common = in[0].dtype;
    if (nin == 2 && tarn_dtype_compute(in[1].dtype) == TARN_F64) {
        common = in[1].dtype;
    }
    TARN_TRY(tarn_fold_fn_of(cx->isa, op, common, &work, &r.fn, err));
    for (int i = 0; i < nin; i++) {
        TARN_TRY(tarn_fetch_init(&fetch[i], cx->isa, &in[i], in[0].rank, in[0].shape, work, err));
    }
    r.fetch = fetch;
    int workers = tarn_pool_size(cx->pool);
    int64_t blocks = (r.numel + TARN_BLOCK - 1) / TARN_BLOCK;
    int64_t nparts = red->exact ? workers : blocks;
    r.scratch_bytes = tarn_fold_scratch(red) + (size_t)nin * TARN_TILE * 8;
    size_t total = r.scratch_bytes * (size_t)workers + red->part * (size_t)nparts +
                   padded(red->state) + (size_t)workers + 256;
    _Alignas(64) char here[20 << 10];
    char *memory = total <= sizeof here ? here : tarn_alloc(&cx->budget, total);
    if (!memory) {
        return tarn_raise_nomem(err, op->name, total);
    }
    r.scratch = memory;
    char *state = memory + r.scratch_bytes * (size_t)workers;
    r.parts = state + padded(red->state);
    r.opened = (bool *)(r.parts + red->part * (size_t)nparts);
    r.state = state;
    if (red->begin) {
        red->begin(a, r.numel, state);
    }
    tarn_status s;
    do {
        s = sweep(&r, blocks, workers, err);
    } while (s == TARN_OK && !red->finish(r.parts, r.numel, a, state, out));
    if (memory != here) {
        tarn_free(&cx->budget, memory, total);
    }
    return s;
}

// ---- rows by themselves ----

bool tarn_row_local(const tarn_op *op, const tarn_attr *a, const tarn_desc *in) {
    if (in->rank == 0 || tarn_desc_numel(in) == 0) {
        return false;
    }
    bool folds = op->cls == TARN_CLASS_REDUCE && !op->reducer->exact && op->max_in == 1;
    return op->rows || (folds && a->ni == 3 && a->i[2] == in->rank - 1);
}

tarn_status tarn_row_plan_of(tarn_isa isa, const tarn_op *op, const tarn_attr *a,
                             const tarn_desc *in, const tarn_desc *out, tarn_row_plan *p,
                             tarn_error *err) {
    *p = (tarn_row_plan){.op = op,
                         .attr = a,
                         .length = in->shape[in->rank - 1],
                         .in = tarn_dtype_compute(in->dtype),
                         .out = tarn_dtype_compute(out->dtype)};
    p->each = op->rows ? p->length : 1;
    if (op->rows) {
        p->scratch = op->rows->scratch(p->in, p->length);
        return TARN_OK;
    }
    p->scratch = tarn_fold_rows_scratch(op->reducer);
    return tarn_fold_fn_of(isa, op, p->in, &p->work, &p->fold, err);
}

tarn_status tarn_row_plan_run(tarn_context *cx, const tarn_row_plan *p, int64_t n, const void *in,
                              void *out, void *scratch, tarn_error *err) {
    if (p->op->rows) {
        return p->op->rows->run(cx, n, p->length, p->in, in, p->attr, out, scratch, err);
    }
    tarn_fetch f = {.data = in,
                    .size_in = tarn_work_size(p->in),
                    .size_out = tarn_work_size(p->work),
                    .numel = n * p->length,
                    .mode = TARN_FETCH_DIRECT};
    f.convert = p->in == p->work ? NULL : tarn_convert(cx->isa, p->in, p->work);
    tarn_fold_rows(p->op->reducer, p->fold, p->attr, &f, p->length, 0, n, p->out, out, scratch);
    return TARN_OK;
}
