// SPDX-License-Identifier: Apache-2.0
// embedding: rows of a table by number, and its adjoint scatter_rows, which adds rows where the
// numbers say. Each task of the latter owns a range of the table and takes the rows that fall into
// it in their order: the additions to one row are in the same order whatever the number of threads.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"

#define X (y->in[0])

static tarn_status check_index(const tarn_desc *index, tarn_error *err) {
    if (tarn_dtype_get(index->dtype)->kind != TARN_KIND_INT) {
        TARN_RAISE(err, "Dtype", "the index is %s; expected integers (row numbers from 0)",
                   tarn_dtype_get(index->dtype)->name);
    }
    if (index->rank >= TARN_MAX_RANK) {
        TARN_RAISE(err, "Rank", "the index has %d dimensions; at most %d", index->rank,
                   TARN_MAX_RANK - 1);
    }
    return TARN_OK;
}
static tarn_status outside(const char *name, int64_t i, int64_t n, tarn_error *err) {
    TARN_RAISE(err, "IndexRange", "%s: row %lld is outside 0 to %lld", name, (long long)i,
               (long long)n - 1);
}

typedef struct {
    const tarn_fused_kernels *k;
    const char *from;
    char *to;
    const int64_t *index;
    int64_t n, rows, size, share;  // n: numbers, rows: of the table, share: of a task of scatter
    size_t step;                   // bytes of a row
} row_run;

// ---- embedding(w [rows, size], index) ----

static tarn_status infer_embedding(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                   tarn_error *err) {
    (void)nin, (void)a;
    if (in[0].rank != 2) {
        TARN_RAISE(err, "Rank", "expected a table of rank 2, got rank %d", in[0].rank);
    }
    TARN_TRY(check_index(&in[1], err));
    *out = in[1];
    out->weak = false;
    out->shape[out->rank++] = in[0].shape[1];
    out->dtype = tarn_float_of(1, in);
    return TARN_OK;
}
static tarn_status copy_rows(void *arg, int64_t first, int64_t n, tarn_error *err) {
    const row_run *r = arg;
    for (int64_t i = first; i < first + n; i++) {
        int64_t at = r->index[i];
        if (at < 0 || at >= r->rows) {
            return outside("embedding", at, r->rows, err);
        }
        memcpy(r->to + (size_t)i * r->step, r->from + (size_t)at * r->step, r->step);
    }
    return TARN_OK;
}
static tarn_status apply_embedding(tarn_context *cx, int nin, const tarn_tensor *in,
                                   const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                   tarn_error *err) {
    tarn_plain p;
    (void)a;
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, (tarn_dtype[]){d->dtype, TARN_I64}, &p, err);
    if (s == TARN_OK) {
        row_run r = {.from = p.data[0],
                     .to = tarn_tensor_data(out),
                     .index = (const int64_t *)(const void *)p.data[1],
                     .n = tarn_tensor_numel(&in[1]),
                     .rows = in[0].shape[0],
                     .size = in[0].shape[1]};
        r.step = (size_t)r.size * (d->dtype == TARN_F64 ? 8 : 4);
        s = tarn_rows_run(cx, r.n, r.size, copy_rows, &r, err);
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
TARN_VJP(vjp_embedding) {
    if (which != 0) {
        return NULL;
    }
    const tarn_node *in[2] = {y->in[1], gy};
    tarn_attr a = {.ni = 1, .i = X->desc.shape};
    return tarn_unbroadcast(g, tarn_node_make(g, &tarn_op_scatter_rows, 2, in, &a), X);
}
static bool examples_embedding(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which,
                               int64_t n, tarn_examples *out) {
    const tarn_node *index = y->in[1];
    int64_t t = tarn_desc_numel(&index->desc) / n;
    if (which != 0 || t == 0) {
        return false;
    }
    const int64_t shape[3] = {n, t, X->desc.shape[1]};
    out->index = tarn_reshape(g, index, 2, shape);
    out->right = tarn_reshape(g, gy, 3, shape);
    return true;
}
TARN_JVP(jvp_embedding) { return dx[0] ? tarn_embedding(g, dx[0], y->in[1]) : NULL; }
static void axes_embedding(tarn_axes *t, const tarn_node *y) {
    int last = y->desc.rank - 1;
    tarn_axes_limit(t, X, 0, TARN_GROUP_NONE);
    tarn_axes_link(t, X, 1, y, last, TARN_GROUP_LINEAR);
    for (int d = 0; d < last; d++) {
        tarn_axes_link(t, y->in[1], d, y, d, TARN_GROUP_PERMUTATION);
    }
}

// ---- scatter_rows(index, x [.., size]): attr.i = {rows} ----

static tarn_status infer_scatter(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    int r = in[0].rank;
    (void)nin;
    TARN_TRY(check_index(&in[0], err));
    if (a->ni != 1 || a->i[0] < 0 || in[1].rank != r + 1 ||
        !tarn_shape_equal(r, in[0].shape, r, in[1].shape)) {
        TARN_RAISE(err, "ShapeMismatch", "expected a row for each number of the index");
    }
    *out = (tarn_desc){
        .dtype = tarn_float_of(1, &in[1]), .rank = 2, .shape = {a->i[0], in[1].shape[r]}};
    return TARN_OK;
}
static tarn_status add_rows(void *arg, int64_t task, int worker, tarn_error *err) {
    const row_run *r = arg;
    int64_t low = task * r->share, high = low + r->share < r->rows ? low + r->share : r->rows;
    (void)worker, (void)err;
    memset(r->to + (size_t)low * r->step, 0, (size_t)(high - low) * r->step);
    for (int64_t i = 0; i < r->n; i++) {
        if (r->index[i] >= low && r->index[i] < high) {
            r->k->add(r->size, r->from + (size_t)i * r->step,
                      r->to + (size_t)r->index[i] * r->step);
        }
    }
    return TARN_OK;
}
static tarn_status apply_scatter(tarn_context *cx, int nin, const tarn_tensor *in,
                                 const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                 tarn_error *err) {
    enum { TASKS = 16 };
    tarn_plain p;
    (void)a;
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, (tarn_dtype[]){TARN_I64, d->dtype}, &p, err);
    if (s == TARN_OK) {
        row_run r = {.k = tarn_fused(cx->isa, d->dtype),
                     .from = p.data[1],
                     .to = tarn_tensor_data(out),
                     .index = (const int64_t *)(const void *)p.data[0],
                     .n = tarn_tensor_numel(&in[0]),
                     .rows = d->shape[0],
                     .size = d->shape[1]};
        r.step = (size_t)r.size * (d->dtype == TARN_F64 ? 8 : 4);
        r.share = r.rows / TASKS + 1;
        for (int64_t i = 0; i < r.n && s == TARN_OK; i++) {
            if (r.index[i] < 0 || r.index[i] >= r.rows) {
                s = outside("scatter_rows", r.index[i], r.rows, err);
            }
        }
        s = s == TARN_OK ? tarn_pool_run(cx->pool, (r.rows + r.share - 1) / r.share, add_rows, &r,
                                         &cx->cancel, err)
                         : s;
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
TARN_VJP(vjp_scatter) {
    return which == 1 ? tarn_unbroadcast(g, tarn_embedding(g, gy, X), y->in[1]) : NULL;
}
TARN_JVP(jvp_scatter) {
    const tarn_node *in[2] = {X, dx[1]};
    return dx[1] ? tarn_node_make(g, &tarn_op_scatter_rows, 2, in, &y->attr) : NULL;
}
static void axes_scatter(tarn_axes *t, const tarn_node *y) {
    int last = X->desc.rank;
    tarn_axes_limit(t, y, 0, TARN_GROUP_NONE);
    tarn_axes_link(t, y->in[1], last, y, 1, TARN_GROUP_LINEAR);
    for (int d = 0; d < last; d++) {
        tarn_axes_link(t, X, d, y->in[1], d, TARN_GROUP_PERMUTATION);
    }
}

static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    (void)out, (void)a, (void)threads;
    return tarn_plain_bytes(nin, in, TARN_F64);
}

const tarn_node *tarn_embedding(tarn_graph *g, const tarn_node *w, const tarn_node *index) {
    return tarn_binary(g, &tarn_op_embedding, w, index);
}

// clang-format off
#define WHOLE(NAME, ...)                                                                   \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE,  \
                                    .min_in = 2, .max_in = 2, .placed = true,                \
                                    .workspace = workspace, __VA_ARGS__};
WHOLE(embedding, .infer = infer_embedding, .apply = apply_embedding, .vjp = vjp_embedding, .jvp = jvp_embedding, .examples = examples_embedding, .axes = axes_embedding,
      .summary = "rows of a table by their numbers from 0")
WHOLE(scatter_rows, .infer = infer_scatter, .apply = apply_scatter, .vjp = vjp_scatter, .jvp = jvp_scatter, .axes = axes_scatter,
      .summary = "zeros of a table, with each row of a source added where an index says: the adjoint of embedding")
// clang-format on
