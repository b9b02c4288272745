// SPDX-License-Identifier: Apache-2.0
// Reductions over some dimensions. Each result has its own leaves and tree over the reduced
// elements, at the positions they have in row-major order of the reduced dimensions, so it does not
// matter in which order memory is read. Rows that lie in memory as they are folded go through one
// kernel, many short ones at once. Sums down columns go through memory row by row, 64 columns
// abreast, each with its lanes and its stack of subtrees. All else is fetched element by element.
#include <string.h>

#include "vm/op/eager.h"
#include "vm/op/infer.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"
#include "vm/op/tile.h"

// Dimensions that are walked in row-major order; those that step evenly are one.
typedef struct {
    int rank;
    int64_t numel, shape[TARN_MAX_RANK], stride[TARN_MAX_RANK];
} walk;

typedef struct {
    const tarn_reducer *reducer;
    const tarn_attr *attr;
    tarn_fold_fn fn;
    tarn_rows_fn rows_fn;
    tarn_columns_fn columns_fn;
    tarn_fetch fetch;  // all else
    walk kept, reduced;
    const char *data;
    size_t size;     // bytes of an element
    int64_t blocks;  // columns: of TARN_COLUMNS in the last kept dimension
    tarn_dtype dtype;
    char *out;
    size_t out_size;
    char *scratch;
    size_t scratch_bytes;
} axes_run;

enum { ROWS_PER_TASK = 256, PARALLEL = 1 << 18 };

static void add_dimension(walk *w, int64_t n, int64_t stride) {
    w->numel *= n;
    if (n == 1) {
        return;
    }
    if (w->rank > 0 && w->stride[w->rank - 1] == stride * n) {
        w->shape[w->rank - 1] *= n;
        w->stride[w->rank - 1] = stride;
    } else {
        w->shape[w->rank] = n;
        w->stride[w->rank++] = stride;
    }
}

static int64_t offset_at(const walk *w, int64_t i) {
    int64_t offset = 0;
    for (int d = w->rank - 1; d >= 0; d--) {
        offset += i % w->shape[d] * w->stride[d];
        i /= w->shape[d];
    }
    return offset;
}

static void put(const axes_run *r, int64_t at, int64_t n, const double *v) {
    char *to = r->out + at * (int64_t)r->out_size;
    if (r->dtype == TARN_F32) {
        for (int64_t i = 0; i < n; i++) {
            ((float *)(void *)to)[i] = (float)v[i];
        }
    } else if (r->dtype == TARN_F64) {
        memcpy(to, v, (size_t)n * sizeof *v);
    } else {
        for (int64_t i = 0; i < n; i++) {
            tarn_element_set(r->dtype, to + (size_t)i * r->out_size, v[i]);
        }
    }
}

// ---- rows ----

static tarn_status rows_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    axes_run *r = arg;
    int64_t first = task * ROWS_PER_TASK;
    int64_t n = r->kept.numel - first < ROWS_PER_TASK ? r->kept.numel - first : ROWS_PER_TASK;
    if (!r->rows_fn) {
        tarn_fold_rows(r->reducer, r->fn, r->attr, &r->fetch, r->reduced.numel, first, n, r->dtype,
                       r->out + (size_t)first * r->out_size,
                       r->scratch + (size_t)worker * r->scratch_bytes);
        return TARN_OK;
    }
    double part[ROWS_PER_TASK];
    const walk *k = &r->kept;
    int64_t last = k->rank > 0 ? k->shape[k->rank - 1] : 1;
    int64_t stride = k->rank > 0 ? k->stride[k->rank - 1] : 0;
    for (int64_t i = 0, run; i < n; i += run) {
        run = last - (first + i) % last < n - i ? last - (first + i) % last : n - i;
        r->rows_fn(run, r->reduced.numel, stride,
                   r->data + offset_at(k, first + i) * (int64_t)r->size, part + i);
    }
    put(r, first, n, part);
    return TARN_OK;
}

// ---- columns ----

typedef struct {
    double lane[16][TARN_COLUMNS];
    double part[24][TARN_COLUMNS];  // of the open subtrees
    int level[24], depth;
} columns;

static void close_leaf(columns *c) {
    for (int half = 8; half >= 1; half /= 2) {
        for (int k = 0; k < half; k++) {
            for (int i = 0; i < TARN_COLUMNS; i++) {
                c->lane[k][i] += c->lane[k + half][i];
            }
        }
    }
    memcpy(c->part[c->depth], c->lane[0], sizeof c->lane[0]);
    c->level[c->depth++] = 0;
    memset(c->lane, 0, sizeof c->lane);
}

static void join_last(columns *c) {
    c->depth--;
    for (int i = 0; i < TARN_COLUMNS; i++) {
        c->part[c->depth - 1][i] += c->part[c->depth][i];
    }
}

static void sum_columns(const axes_run *r, const char *x, int64_t width, columns *c) {
    const walk *w = &r->reduced;
    int64_t run_of = w->rank > 0 ? w->shape[w->rank - 1] : 1;
    int64_t stride = w->rank > 0 ? w->stride[w->rank - 1] : 0;
    memset(c->lane, 0, sizeof c->lane);
    c->depth = 0;
    for (int64_t at = 0, run; at < w->numel; at += run) {
        int64_t leaf = TARN_LEAF - at % TARN_LEAF, left = w->numel - at;
        run = run_of - at % run_of;
        run = run < leaf ? run : leaf;
        run = run < left ? run : left;
        r->columns_fn(at, run, width, stride, x + offset_at(w, at) * (int64_t)r->size, c->lane);
        if (run == leaf || run == left) {
            close_leaf(c);
            while (c->depth > 1 && c->level[c->depth - 1] == c->level[c->depth - 2]) {
                join_last(c);
                c->level[c->depth - 1]++;
            }
        }
    }
    while (c->depth > 1) {
        join_last(c);
    }
}

static tarn_status columns_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    axes_run *r = arg;
    columns *c = (columns *)(void *)(r->scratch + (size_t)worker * r->scratch_bytes);
    const walk *k = &r->kept;
    int64_t across = k->shape[k->rank - 1];
    int64_t row = task / r->blocks, first = task % r->blocks * TARN_COLUMNS;
    int64_t width = across - first < TARN_COLUMNS ? across - first : TARN_COLUMNS;
    int64_t at = row * across + first;
    sum_columns(r, r->data + offset_at(k, at) * (int64_t)r->size, width, c);
    put(r, at, width, c->part[0]);
    return TARN_OK;
}

// ---- all ----

// Kept dimensions first, then reduced ones.
static void arrange(const tarn_tensor *t, const bool *reduced, tarn_tensor *view, axes_run *r) {
    *view = *t;
    int at = 0;
    for (int pass = 0; pass < 2; pass++) {
        walk *w = pass == 0 ? &r->kept : &r->reduced;
        w->numel = 1;
        for (int d = 0; d < t->rank; d++) {
            if (reduced[d] == (pass == 1)) {
                view->shape[at] = t->shape[d];
                view->stride[at++] = t->stride[d];
                add_dimension(w, t->shape[d], t->stride[d]);
            }
        }
    }
}

// Memory of the elements in their working dtype can be read as it is.
static void choose(axes_run *r, tarn_isa isa, const tarn_op *op, const tarn_tensor *in,
                   tarn_dtype work) {
    const walk *k = &r->kept, *w = &r->reduced;
    if (in->dtype != work || work == TARN_BOOL || k->numel == 0 || w->numel == 0) {
        return;
    }
    const tarn_kernels *table = tarn_kernels_get(isa);
    bool rows = w->rank == 0 || (w->rank == 1 && w->stride[0] == 1);
    if (rows && w->numel <= TARN_TILE) {
        r->rows_fn = table->rows[op->kernel][tarn_work(work)];
    } else if (!rows && k->rank > 0 && k->stride[k->rank - 1] == 1) {
        r->columns_fn = table->columns[op->kernel][tarn_work(work)];
    }
}

tarn_status tarn_reduce_some(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                             const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                             tarn_error *err) {
    axes_run r = {.reducer = op->reducer, .attr = a, .dtype = d->dtype};
    if (r.reducer->exact) {
        TARN_RAISE(err, "Axis", "%s works on all elements only", op->name);
    }
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(a, in->rank, reduced);
    tarn_tensor view;
    tarn_dtype work;
    arrange(in, reduced, &view, &r);
    TARN_TRY(tarn_fold_fn_of(cx->isa, op, in->dtype, &work, &r.fn, err));
    choose(&r, cx->isa, op, in, work);
    TARN_TRY(tarn_fetch_init(&r.fetch, cx->isa, &view, view.rank, view.shape, work, err));
    TARN_TRY(tarn_result(cx, d, out, err));
    r.data = tarn_tensor_data(in);
    r.size = (size_t)tarn_dtype_get(in->dtype)->bits / 8;
    r.out = tarn_tensor_data(out);
    r.out_size = (size_t)tarn_dtype_get(d->dtype)->bits / 8;
    int64_t tasks = (r.kept.numel + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    if (r.columns_fn) {
        int64_t across = r.kept.shape[r.kept.rank - 1];
        r.blocks = (across + TARN_COLUMNS - 1) / TARN_COLUMNS;
        tasks = r.kept.numel / across * r.blocks;
    }
    tarn_pool *pool = tasks > 1 && r.kept.numel * r.reduced.numel >= PARALLEL ? cx->pool : NULL;
    r.scratch_bytes = r.columns_fn ? sizeof(columns)
                      : r.rows_fn  ? 0
                                   : tarn_fold_rows_scratch(r.reducer);
    _Alignas(64) char here[sizeof(columns)];
    size_t total = r.scratch_bytes * (size_t)tarn_pool_size(pool);
    bool fits = total <= sizeof here;
    r.scratch = fits ? here : tarn_alloc(&cx->budget, total);
    tarn_status s = r.scratch ? tarn_pool_run(pool, tasks, r.columns_fn ? columns_task : rows_task, &r,
                                              &cx->cancel, err)
                              : tarn_raise_nomem(err, op->name, total);
    if (!fits) {
        tarn_free(&cx->budget, r.scratch, total);
    }
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
