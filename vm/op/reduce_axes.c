// SPDX-License-Identifier: Apache-2.0
// Reductions over some dimensions. Where results lie side by side in a row they go by the tree over rows
// (columns.h), 64 columns abreast. Else each result has its own leaves and tree over the reduced
// elements, at the positions they have in row-major order of the reduced dimensions, so it does not
// matter in which order memory is read: rows that lie in memory as they are folded go through one
// kernel, many short ones at once; all else is fetched element by element.
#include <string.h>

#include "vm/op/columns.h"
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
    tarn_columns_plan columns;  // of one slab: as many columns as there are results
    tarn_fetch fetch;           // all else; columns that cannot be read where they are
    walk kept, reduced;
    const char *data;  // NULL: fetched
    size_t size;       // bytes of an element
    int64_t across;    // columns that lie side by side
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
    tarn_parts_store(r->dtype, n, part, r->out + (size_t)first * r->out_size);
    return TARN_OK;
}

// ---- columns ----

enum { ABREAST = 64 };

// Columns [first, first + c->width), which step by one in memory.
static void columns_in_place(const axes_run *r, int64_t first, tarn_columns *c) {
    const walk *w = &r->reduced;
    int64_t run_of = w->rank > 0 ? w->shape[w->rank - 1] : 1;
    int64_t stride = w->rank > 0 ? w->stride[w->rank - 1] : 0;
    const char *x = r->data + offset_at(&r->kept, first) * (int64_t)r->size;
    for (int64_t at = 0, rows; at < w->numel; at += rows) {
        bool subtree = at % TARN_SUBTREE == 0 && run_of - at % run_of >= TARN_SUBTREE;
        rows = subtree ? TARN_SUBTREE : 1;
        tarn_columns_add(c, 0, at, rows, first, c->width, stride,
                         x + offset_at(w, at) * (int64_t)r->size);
    }
}

static void columns_fetched(const axes_run *r, int64_t first, tarn_columns *c, char *rows) {
    size_t size = tarn_work_size(r->columns.work), row = (size_t)c->width * size;
    for (int64_t at = 0, n; at < r->reduced.numel; at += n) {
        n = at + TARN_SUBTREE <= r->reduced.numel ? TARN_SUBTREE : 1;
        for (int64_t k = 0; k < n; k++) {
            char *to = rows + (size_t)k * row;
            const void *x =
                tarn_fetch_tile(&r->fetch, (at + k) * r->kept.numel + first, c->width, to);
            if (x != to) {
                memcpy(to, x, row);
            }
        }
        tarn_columns_add(c, 0, at, n, first, c->width, c->width, rows);
    }
}

static size_t columns_scratch(const axes_run *r) {
    return tarn_columns_bytes(tarn_columns_in_order(&r->columns), ABREAST) +
           TARN_SUBTREE * ABREAST * sizeof(double);
}

static tarn_status columns_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    axes_run *r = arg;
    char *scratch = r->scratch + (size_t)worker * r->scratch_bytes;
    int64_t groups = (r->across + ABREAST - 1) / ABREAST;
    int64_t first = task % groups * ABREAST, left = r->across - first;
    tarn_columns c;
    first += task / groups * r->across;
    tarn_columns_open(&c, &r->columns, first, left < ABREAST ? left : ABREAST,
                      tarn_columns_in_order(&r->columns), scratch, r->out);
    if (r->data) {
        columns_in_place(r, first, &c);
    } else {
        columns_fetched(r, first, &c,
                        scratch + r->scratch_bytes - TARN_SUBTREE * ABREAST * sizeof(double));
    }
    return TARN_OK;
}

// ---- all ----

// Dimensions that are kept and those that are reduced; as a view, those that are `outer` first.
static void arrange(const tarn_tensor *t, const bool *reduced, bool outer, tarn_tensor *view,
                    axes_run *r) {
    *view = *t;
    int at = 0;
    for (int pass = 0; pass < 2; pass++) {
        bool which = outer == (pass == 0);
        walk *w = which ? &r->reduced : &r->kept;
        w->numel = 1;
        for (int d = 0; d < t->rank; d++) {
            if (reduced[d] == which) {
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
    bool plain = in->dtype == work && work != TARN_BOOL && k->numel > 0 && w->numel > 0;
    if (r->columns.columns) {
        bool abreast = k->rank > 0 && k->stride[k->rank - 1] == 1;
        r->data = plain && abreast ? r->data : NULL;
        r->across = r->data ? k->shape[k->rank - 1] : k->numel;
    } else if (plain && w->numel <= TARN_TILE && (w->rank == 0 || (w->rank == 1 && w->stride[0] == 1))) {
        r->rows_fn = tarn_kernels_get(isa)->rows[op->kernel][tarn_work(work)];
    }
}

tarn_status tarn_reduce_some(tarn_context *cx, const tarn_op *op, const tarn_tensor *in,
                             const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                             tarn_error *err) {
    axes_run r = {.reducer = op->reducer, .attr = a, .dtype = d->dtype,
                  .data = tarn_tensor_data(in)};
    if (r.reducer->exact) {
        TARN_RAISE(err, "Axis", "%s works on all elements only", op->name);
    }
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(a, in->rank, reduced);
    tarn_tensor view;
    tarn_desc desc;
    tarn_dtype work;
    tarn_desc_of(in, &desc);
    bool columns = tarn_columns_choose(cx->isa, op, a, &desc, d, &r.columns);
    arrange(in, reduced, columns, &view, &r);
    r.columns.slabs = 1;
    r.columns.rows = r.reduced.numel;
    r.columns.width = r.kept.numel;
    TARN_TRY(tarn_fold_fn_of(cx->isa, op, in->dtype, &work, &r.fn, err));
    choose(&r, cx->isa, op, in, work);
    TARN_TRY(tarn_fetch_init(&r.fetch, cx->isa, &view, view.rank, view.shape, work, err));
    TARN_TRY(tarn_result(cx, d, out, err));
    r.size = (size_t)tarn_dtype_get(in->dtype)->bits / 8;
    r.out = tarn_tensor_data(out);
    r.out_size = (size_t)tarn_dtype_get(d->dtype)->bits / 8;
    int64_t tasks = columns ? r.kept.numel / r.across * ((r.across + ABREAST - 1) / ABREAST)
                            : (r.kept.numel + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
    tarn_pool *pool = tasks > 1 && r.kept.numel * r.reduced.numel >= PARALLEL ? cx->pool : NULL;
    r.scratch_bytes = columns     ? columns_scratch(&r)
                      : r.rows_fn ? 0
                                  : tarn_fold_rows_scratch(r.reducer);
    _Alignas(64) char here[20 << 10];
    size_t total = r.scratch_bytes * (size_t)tarn_pool_size(pool);
    bool fits = total <= sizeof here;
    r.scratch = fits ? here : tarn_alloc(&cx->budget, total);
    tarn_status s = r.scratch ? tarn_pool_run(pool, tasks, columns ? columns_task : rows_task, &r,
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
