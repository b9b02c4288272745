// SPDX-License-Identifier: Apache-2.0
// Attention: softmax(scale q k' + mask) v for each head, by blocks of queries, so that scores exist
// for one block a thread and never for all. Heads of q share those of k and v in groups (GQA).
// Operands are read where they lie if their last dimension is contiguous. The way back computes the
// scores of a block again (Dao et al., "FlashAttention", NeurIPS 2022) and gives the three
// gradients in one vector. A query that sees nothing gets zeros, as in PyTorch. Tier B: the
// products are BLAS.
#include <math.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/axes.h"
#include "vm/op/blas.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"

#define Q (y->in[0])
#define K (y->in[1])
#define V (y->in[2])

enum { BLOCK = 64 };  // queries

// ---- attention(q, k, v[, mask]): attr.i = {causal}, attr.f = {scale} ----

static tarn_status wrong(tarn_error *err) {
    TARN_RAISE(
        err, "ShapeMismatch",
        "expected q [.., heads, T, size], k [.., heads of k, S, size], v [.., heads of k, S, "
        "size of v] with equal leading dimensions, and heads a multiple of the heads of k");
}
// The shape of the scores, [.., H, T, S], or an error.
static tarn_status check(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *scores,
                         tarn_error *err) {
    const tarn_desc *q = &in[0], *k = &in[1], *v = &in[2];
    int r = q->rank;
    if (a->ni != 1 || a->nf != 1) {
        TARN_RAISE(err, "Argument", "attributes are {causal}, {scale}");
    }
    if (r < 3 || k->rank != r || v->rank != r ||
        !tarn_shape_equal(r - 3, q->shape, r - 3, k->shape) ||
        !tarn_shape_equal(r - 1, k->shape, r - 1, v->shape) || q->shape[r - 1] != k->shape[r - 1] ||
        k->shape[r - 3] == 0 || q->shape[r - 3] % k->shape[r - 3] != 0) {
        return wrong(err);
    }
    *scores = *q;
    scores->shape[r - 1] = k->shape[r - 2];
    for (int d = 0; nin == 4 && d < in[3].rank; d++) {
        int e = d + r - in[3].rank;
        if (e < 0 || (in[3].shape[d] != 1 && in[3].shape[d] != scores->shape[e])) {
            TARN_RAISE(err, "ShapeMismatch", "the mask does not stretch to [.., heads, T, S]");
        }
    }
    if (nin == 4 && tarn_dtype_compute(in[3].dtype) == TARN_I64) {
        TARN_RAISE(err, "Dtype", "the mask is %s; expected bool (true: seen) or a float to add",
                   tarn_dtype_get(in[3].dtype)->name);
    }
    return TARN_OK;
}
static tarn_status infer_attention(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                   tarn_error *err) {
    tarn_desc scores;
    TARN_TRY(check(nin, in, a, &scores, err));
    *out = in[0];
    out->shape[out->rank - 1] = in[2].shape[out->rank - 1];
    out->dtype = tarn_float_of(3, in);
    out->weak = false;
    return TARN_OK;
}
// attention_vjp(q, k, v, gy[, mask]): the gradients by q, k and v, one after another.
static tarn_status infer_vjp(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                             tarn_error *err) {
    tarn_desc own[4] = {in[0], in[1], in[2], nin == 5 ? in[4] : in[3]}, y;
    TARN_TRY(infer_attention(nin - 1, own, a, &y, err));
    if (!tarn_shape_equal(y.rank, y.shape, in[3].rank, in[3].shape)) {
        return wrong(err);
    }
    int64_t n = tarn_desc_numel(&in[0]);
    if (!tarn_add_i64(n, tarn_desc_numel(&in[1]), &n) ||
        !tarn_add_i64(n, tarn_desc_numel(&in[2]), &n)) {
        TARN_RAISE(err, "Overflow", "the gradients have more than 2^63 elements");
    }
    *out = (tarn_desc){.dtype = y.dtype, .rank = 1, .shape = {n}};
    return TARN_OK;
}

// An operand [batches, heads, rows, size] in memory, by strides in elements; its rows are
// contiguous.
typedef struct {
    tarn_tensor t;
    const char *data;
    int64_t rows, size, ld;
} matrices;

typedef struct {
    tarn_context *cx;
    const tarn_fused_kernels *k;
    tarn_dtype dtype;
    int64_t bytes;  // of an element
    int64_t heads, group, batches, seen, queries, size,
        out_size;  // group: heads of q per head of k
    matrices q, kk, v, gy;
    tarn_tensor mask;  // stretched to the scores; storage NULL: none
    bool causal;
    double scale;
    char *out, *dk, *dv;  // out: y, or the gradient by q
    char *room;           // of each worker
    size_t room_bytes;
} attention_run;

static tarn_status open_matrices(const attention_run *r, const tarn_tensor *in, matrices *m,
                                 tarn_error *err) {
    int n = in->rank;
    m->rows = in->shape[n - 2];
    m->size = in->shape[n - 1];
    bool fits = in->dtype == r->dtype && (in->stride[n - 1] == 1 || m->size == 1) &&
                in->stride[n - 2] >= m->size;
    if (fits) {
        tarn_tensor_share(in, &m->t);
    } else {
        TARN_TRY(tarn_tensor_cast(r->cx, in, r->dtype, &m->t, err));
    }
    m->ld = m->t.stride[n - 2] > m->size ? m->t.stride[n - 2] : m->size > 0 ? m->size : 1;
    m->data = tarn_tensor_data(&m->t);
    return TARN_OK;
}
// The matrix of a batch and head.
static const char *matrix_at(const attention_run *r, const matrices *m, int64_t batch,
                             int64_t head) {
    int n = m->t.rank;
    int64_t at = head * m->t.stride[n - 3];
    for (int d = n - 4; d >= 0; d--) {
        at += batch % m->t.shape[d] * m->t.stride[d];
        batch /= m->t.shape[d];
    }
    return m->data + at * r->bytes;
}
static void *row_of(const attention_run *r, const void *matrix, int64_t ld, int64_t row) {
    return (char *)(uintptr_t)matrix + row * ld * r->bytes;
}
static int64_t keys_for(const attention_run *r, int64_t end) {  // for queries before `end`
    return r->causal && end < r->seen ? end : r->seen;
}

// Row `row` of the mask as bytes or numbers in `to`.
static void mask_row(const attention_run *r, int64_t batch, int64_t head, int64_t row, int64_t n,
                     void *to) {
    const tarn_tensor *m = &r->mask;
    int rank = m->rank;
    int64_t at = head * m->stride[rank - 3] + row * m->stride[rank - 2];
    for (int d = rank - 4; d >= 0; d--) {
        at += batch % m->shape[d] * m->stride[d];
        batch /= m->shape[d];
    }
    size_t size = m->dtype == TARN_BOOL ? 1 : (size_t)r->bytes;
    const char *from = (const char *)tarn_tensor_data(m) + at * (int64_t)size;
    int64_t step = m->stride[rank - 1] * (int64_t)size;
    for (int64_t i = 0; i < n; i++) {
        memcpy((char *)to + (size_t)i * size, from + i * step, size);
    }
}

// The probabilities of queries first … first + n - 1, over `keys` keys, to p [n, keys].
static tarn_status probabilities(const attention_run *r, int64_t batch, int64_t head, int64_t first,
                                 int64_t n, int64_t keys, char *p, char *mask, tarn_error *err) {
    const char *q = matrix_at(r, &r->q, batch, head),
               *k = matrix_at(r, &r->kk, batch, head / r->group);
    TARN_TRY(tarn_blas_gemm(r->cx, r->dtype, false, true, n, keys, r->size,
                            row_of(r, q, r->q.ld, first), r->q.ld, k, r->kk.ld, p, keys, err));
    for (int64_t i = 0; i < n; i++) {
        int64_t seen = keys_for(r, first + i + 1);
        void *s = row_of(r, p, keys, i);
        double scale = r->scale;
        if (r->mask.storage) {
            mask_row(r, batch, head, first + i, seen, mask);
        }
        if (r->mask.storage && r->mask.dtype == TARN_BOOL) {
            r->k->mask(seen, (const unsigned char *)mask, s);
        } else if (r->mask.storage) {
            r->k->add_scaled(seen, mask, scale, s);
            scale = 1;
        }
        r->k->attend(seen, keys, scale, s);
    }
    return TARN_OK;
}

static int64_t blocks_of(const attention_run *r) { return (r->queries + BLOCK - 1) / BLOCK; }

static tarn_status forward_block(void *arg, int64_t task, int worker, tarn_error *err) {
    const attention_run *r = arg;
    int64_t blocks = blocks_of(r), head = task / blocks % r->heads,
            batch = task / blocks / r->heads;
    int64_t first = task % blocks * BLOCK,
            n = r->queries - first < BLOCK ? r->queries - first : BLOCK;
    int64_t keys = keys_for(r, first + n);
    char *p = r->room + (size_t)worker * r->room_bytes;
    char *mask = p + (size_t)(BLOCK * r->seen * r->bytes);
    char *y = r->out + ((batch * r->heads + head) * r->queries + first) * r->out_size * r->bytes;
    TARN_TRY(probabilities(r, batch, head, first, n, keys, p, mask, err));
    return tarn_blas_gemm(r->cx, r->dtype, false, false, n, r->out_size, keys, p,
                          keys > 0 ? keys : 1, matrix_at(r, &r->v, batch, head / r->group), r->v.ld,
                          y, r->out_size, err);
}

// dk or dv [rows, size] += p' x, p [n, rows], x [n, size]
static tarn_status add_product(const attention_run *r, int64_t rows, int64_t size, int64_t n,
                               const char *p, const char *x, int64_t ld, char *to, char *room,
                               tarn_error *err) {
    TARN_TRY(tarn_blas_gemm(r->cx, r->dtype, true, false, rows, size, n, p, rows > 0 ? rows : 1, x,
                            ld, room, size > 0 ? size : 1, err));
    r->k->add(rows * size, room, to);
    return TARN_OK;
}
static tarn_status backward_block(const attention_run *r, int64_t batch, int64_t head,
                                  int64_t first, int64_t n, char *room, tarn_error *err) {
    int64_t keys = keys_for(r, first + n), kv = head / r->group;
    int64_t at = batch * (r->heads / r->group) + kv;
    char *p = room, *dp = p + BLOCK * r->seen * r->bytes, *mask = dp + BLOCK * r->seen * r->bytes;
    char *part = mask + r->seen * 8;
    const char *gy = row_of(r, matrix_at(r, &r->gy, batch, head), r->gy.ld, first);
    const char *q = row_of(r, matrix_at(r, &r->q, batch, head), r->q.ld, first);
    char *dq = r->out + ((batch * r->heads + head) * r->queries + first) * r->size * r->bytes;
    TARN_TRY(probabilities(r, batch, head, first, n, keys, p, mask, err));
    TARN_TRY(add_product(r, keys, r->out_size, n, p, gy, r->gy.ld,
                         r->dv + at * r->seen * r->out_size * r->bytes, part, err));
    TARN_TRY(tarn_blas_gemm(r->cx, r->dtype, false, true, n, keys, r->out_size, gy, r->gy.ld,
                            matrix_at(r, &r->v, batch, kv), r->v.ld, dp, keys > 0 ? keys : 1, err));
    for (int64_t i = 0; i < n; i++) {
        r->k->attend_vjp(keys, r->scale, row_of(r, p, keys, i), row_of(r, dp, keys, i));
    }
    TARN_TRY(tarn_blas_gemm(r->cx, r->dtype, false, false, n, r->size, keys, dp,
                            keys > 0 ? keys : 1, matrix_at(r, &r->kk, batch, kv), r->kk.ld, dq,
                            r->size > 0 ? r->size : 1, err));
    return add_product(r, keys, r->size, n, dp, q, r->q.ld,
                       r->dk + at * r->seen * r->size * r->bytes, part, err);
}
// One head of k and v: all its queries, in order.
static tarn_status backward_head(void *arg, int64_t task, int worker, tarn_error *err) {
    const attention_run *r = arg;
    int64_t shared = r->heads / r->group, batch = task / shared, kv = task % shared;
    char *room = r->room + (size_t)worker * r->room_bytes;
    memset(r->dk + task * r->seen * r->size * r->bytes, 0, (size_t)(r->seen * r->size * r->bytes));
    memset(r->dv + task * r->seen * r->out_size * r->bytes, 0,
           (size_t)(r->seen * r->out_size * r->bytes));
    for (int64_t head = kv * r->group; head < (kv + 1) * r->group; head++) {
        for (int64_t first = 0; first < r->queries; first += BLOCK) {
            int64_t n = r->queries - first < BLOCK ? r->queries - first : BLOCK;
            TARN_TRY(tarn_cancel_check(&r->cx->cancel, err));
            TARN_TRY(backward_block(r, batch, head, first, n, room, err));
        }
    }
    return TARN_OK;
}

static size_t room_for(int64_t seen, int64_t size, int64_t out_size, int64_t bytes, bool back) {
    int64_t wide = size > out_size ? size : out_size;
    int64_t n = (back ? 2 : 1) * BLOCK * seen * bytes + seen * 8 + (back ? seen * wide * bytes : 0);
    return ((size_t)n + 63) / 64 * 64;
}

static tarn_status open_mask(attention_run *r, const tarn_tensor *q, const tarn_tensor *mask,
                             tarn_error *err) {
    tarn_tensor cast = {0};
    int64_t shape[TARN_MAX_RANK];
    memcpy(shape, q->shape, sizeof shape);
    shape[q->rank - 1] = r->seen;
    tarn_dtype t = tarn_dtype_compute(mask->dtype) == TARN_BOOL ? TARN_BOOL : r->dtype;
    if (mask->dtype == t) {
        tarn_tensor_share(mask, &cast);
    } else {
        TARN_TRY(tarn_tensor_cast(r->cx, mask, t, &cast, err));
    }
    tarn_attr a = {.ni = q->rank, .i = shape};
    tarn_status s = tarn_op_apply(r->cx, &tarn_op_broadcast_to, 1, &cast, &a, &r->mask, err);
    tarn_tensor_release(&cast);
    return s;
}
static tarn_status open_run(attention_run *r, tarn_context *cx, const tarn_tensor *in,
                            const tarn_tensor *gy, const tarn_tensor *mask, const tarn_attr *a,
                            tarn_dtype t, tarn_error *err) {
    int n = in[0].rank;
    *r = (attention_run){.cx = cx,
                         .k = tarn_fused(cx->isa, t),
                         .dtype = t,
                         .bytes = t == TARN_F64 ? 8 : 4,
                         .heads = in[0].shape[n - 3],
                         .batches = 1,
                         .queries = in[0].shape[n - 2],
                         .size = in[0].shape[n - 1],
                         .seen = in[1].shape[n - 2],
                         .out_size = in[2].shape[n - 1],
                         .causal = a->i[0] != 0,
                         .scale = a->f[0]};
    r->group = r->heads / in[1].shape[n - 3];
    for (int d = 0; d < n - 3; d++) {
        r->batches *= in[0].shape[d];
    }
    TARN_TRY(open_matrices(r, &in[0], &r->q, err));
    TARN_TRY(open_matrices(r, &in[1], &r->kk, err));
    TARN_TRY(open_matrices(r, &in[2], &r->v, err));
    if (gy) {
        TARN_TRY(open_matrices(r, gy, &r->gy, err));
    }
    if (mask) {
        TARN_TRY(open_mask(r, &in[0], mask, err));
    }
    r->room_bytes = room_for(r->seen, r->size, r->out_size, r->bytes, gy != NULL);
    size_t total = r->room_bytes * (size_t)tarn_pool_size(cx->pool);
    r->room = total ? tarn_alloc(&cx->budget, total) : NULL;
    return total && !r->room ? tarn_raise_nomem(err, "attention", total) : TARN_OK;
}
static void close_run(attention_run *r) {
    matrices *all[4] = {&r->q, &r->kk, &r->v, &r->gy};
    for (int k = 0; k < 4; k++) {
        tarn_tensor_release(&all[k]->t);
    }
    tarn_tensor_release(&r->mask);
    tarn_free(&r->cx->budget, r->room,
              r->room ? r->room_bytes * (size_t)tarn_pool_size(r->cx->pool) : 0);
}

static tarn_status apply_attention(tarn_context *cx, int nin, const tarn_tensor *in,
                                   const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                   tarn_error *err) {
    attention_run r;
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = open_run(&r, cx, in, NULL, nin == 4 ? &in[3] : NULL, a, d->dtype, err);
    if (s == TARN_OK) {
        r.out = tarn_tensor_data(out);
        s = tarn_pool_run(cx->pool, r.batches * r.heads * blocks_of(&r), forward_block, &r,
                          &cx->cancel, err);
    }
    close_run(&r);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static tarn_status apply_vjp(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                             const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    attention_run r;
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = open_run(&r, cx, in, &in[3], nin == 5 ? &in[4] : NULL, a, d->dtype, err);
    if (s == TARN_OK) {
        r.out = tarn_tensor_data(out);
        r.dk = r.out + tarn_tensor_numel(&in[0]) * r.bytes;
        r.dv = r.dk + tarn_tensor_numel(&in[1]) * r.bytes;
        s = tarn_pool_run(cx->pool, r.batches * (r.heads / r.group), backward_head, &r, &cx->cancel,
                          err);
    }
    close_run(&r);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    int r = in[0].rank;
    (void)a;
    return tarn_plain_bytes(nin, in, out->dtype) +
           (size_t)threads * room_for(in[1].shape[r - 2], in[0].shape[r - 1], in[2].shape[r - 1],
                                      out->dtype == TARN_F64 ? 8 : 4, out->rank == 1);
}

// ---- in other rows ----

static const tarn_node *swapped(tarn_graph *g, const tarn_node *x) {
    int64_t order[TARN_MAX_RANK];
    int r = x ? x->desc.rank : 0;
    for (int d = 0; d < r; d++) {
        order[d] = d;
    }
    if (r > 1) {
        order[r - 1] = r - 2;
        order[r - 2] = r - 1;
    }
    return tarn_permute(g, x, order);
}
// k or v with each head repeated for the heads of q that it serves.
static const tarn_node *repeated(tarn_graph *g, const tarn_node *x, int64_t heads) {
    int r = x->desc.rank;
    int64_t shape[TARN_MAX_RANK + 1], own = x->desc.shape[r - 3], group = heads / own;
    if (group == 1) {
        return x;
    }
    int64_t flat = x->desc.shape[r - 2] * x->desc.shape[r - 1], batches = 1;
    for (int d = 0; d < r - 3; d++) {
        batches *= x->desc.shape[d];
    }
    const tarn_node *y = tarn_reshape(g, x, 3, (int64_t[]){batches * own, 1, flat});
    y = tarn_broadcast(g, y, 3, (int64_t[]){batches * own, group, flat});
    memcpy(shape, x->desc.shape, sizeof x->desc.shape);
    shape[r - 3] = heads;
    return tarn_reshape(g, y, r, shape);
}
// scores [.., H, T, S] and what they become; *k, *v: repeated.
static const tarn_node *weights(tarn_graph *g, const tarn_node *q, const tarn_node **k,
                                const tarn_node **v, const tarn_node *mask, const tarn_attr *a) {
    int r = q->desc.rank;
    int64_t heads = q->desc.shape[r - 3], last = r - 1;
    *k = repeated(g, *k, heads);
    *v = repeated(g, *v, heads);
    const tarn_node *s = tarn_mul(g, tarn_matmul(g, q, swapped(g, *k)), tarn_num(g, a->f[0]));
    const tarn_node *none = tarn_num(g, -(double)INFINITY), *zero = tarn_num(g, 0);
    if (mask && tarn_dtype_compute(mask->desc.dtype) == TARN_BOOL) {
        s = tarn_where(g, mask, s, none);
    } else if (mask) {
        s = tarn_add(g, s, mask);
    }
    if (a->i[0] && s) {
        const int64_t column[2] = {q->desc.shape[r - 2], 1};
        const tarn_node *row = tarn_reshape(g, tarn_iota(g, column[0]), 2, column);
        s = tarn_where(g, tarn_ge(g, row, tarn_iota(g, s->desc.shape[r - 1])), s, none);
    }
    // A row that sees nothing is a row of zeros: there the shift is 0 and the sum is taken as 1.
    const tarn_node *m =
        tarn_unary(g, &tarn_op_floor, tarn_reduce(g, &tarn_op_max, s, 1, &last, true));
    m = tarn_where(g, tarn_unary(g, &tarn_op_isfinite, m), m, zero);
    const tarn_node *e = tarn_exp(g, tarn_sub(g, s, m)), *sum = tarn_last_sum(g, e);
    sum = tarn_where(g, tarn_eq(g, sum, zero), tarn_num(g, 1), sum);
    return tarn_div(g, e, sum);
}
static const tarn_node *attention_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *k = K, *v = V;
    const tarn_node *p = weights(g, Q, &k, &v, y->nin == 4 ? y->in[3] : NULL, &y->attr);
    return tarn_matmul(g, p, v);
}
// Sums the gradient over the heads that shared one.
static const tarn_node *gathered(tarn_graph *g, const tarn_node *d, const tarn_node *x) {
    int r = x->desc.rank;
    int64_t own = x->desc.shape[r - 3], group = d ? d->desc.shape[r - 3] / own : 1, batches = 1;
    const int64_t axis = 1;
    for (int k = 0; k < r - 3; k++) {
        batches *= x->desc.shape[k];
    }
    int64_t shape[3] = {batches * own, group, x->desc.shape[r - 2] * x->desc.shape[r - 1]};
    return group == 1 ? d
                      : tarn_reduce(g, &tarn_op_sum, tarn_reshape(g, d, 3, shape), 1, &axis, false);
}
// The gradient by the scores.
static const tarn_node *by_scores(tarn_graph *g, const tarn_node *p, const tarn_node *gy,
                                  const tarn_node *v) {
    const tarn_node *dp = tarn_matmul(g, gy, swapped(g, v));
    return tarn_mul(g, p, tarn_sub(g, dp, tarn_last_sum(g, tarn_mul(g, p, dp))));
}
static const tarn_node *attention_vjp_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *k = K, *v = V, *gy = y->in[3], *part[3];
    const tarn_node *p = weights(g, Q, &k, &v, y->nin == 5 ? y->in[4] : NULL, &y->attr);
    const tarn_node *ds = tarn_mul(g, by_scores(g, p, gy, v), tarn_num(g, y->attr.f[0]));
    part[0] = tarn_matmul(g, ds, k);
    part[1] = gathered(g, tarn_matmul(g, swapped(g, ds), Q), K);
    part[2] = gathered(g, tarn_matmul(g, swapped(g, p), gy), V);
    for (int i = 0; i < 3; i++) {
        int64_t n = tarn_desc_numel(&y->in[i]->desc);
        part[i] = tarn_reshape(g, part[i], 1, &n);
    }
    return tarn_concat(g, 3, part, 0);
}

// ---- derivatives ----

TARN_VJP(vjp_attention) {
    const tarn_node *x = y->in[which];
    if (which == 3) {
        if (!tarn_dtype_is_float(x->desc.dtype)) {
            return NULL;
        }
        const tarn_node *k = K, *v = V, *p = weights(g, Q, &k, &v, x, &y->attr);
        return tarn_unbroadcast(g, by_scores(g, p, gy, v), x);
    }
    const tarn_node *in[5] = {Q, K, V, gy, y->nin == 4 ? y->in[3] : NULL};
    const tarn_node *all = tarn_node_make(g, &tarn_op_attention_vjp, y->nin + 1, in, &y->attr);
    int64_t at = 0;
    for (int i = 0; i < which; i++) {
        at += tarn_desc_numel(&y->in[i]->desc);
    }
    const tarn_node *part = tarn_slice(g, all, 0, at, tarn_desc_numel(&x->desc));
    return tarn_unbroadcast(g, tarn_reshape(g, part, x->desc.rank, x->desc.shape), x);
}

// Axes before heads go together through all operands that have them. Heads of q are those of k times
// the queries that share one; sizes of q and k meet in a product, those of v go through; places of queries
// and of keys may be permuted where no order is seen.
static void axes_attention(tarn_axes *t, const tarn_node *y) {
    int r = y->desc.rank, heads = r - 3, place = r - 2, size = r - 1;
    for (int k = 0; k < y->nin; k++) {
        const tarn_node *x = y->in[k];
        for (int d = 0, e = r - x->desc.rank; d < x->desc.rank; d++, e++) {
            if (e < heads && x->desc.shape[d] == y->desc.shape[e]) {
                tarn_axes_link(t, x, d, y, e, TARN_GROUP_PERMUTATION);
            }
        }
    }
    tarn_axis shared[2] = {tarn_axes_of(t, K, heads), tarn_axes_atom(t, Q->desc.shape[heads] / K->desc.shape[heads],
                                                                     TARN_GROUP_PERMUTATION)};
    tarn_axes_limit(t, K, heads, TARN_GROUP_PERMUTATION);
    tarn_axes_link(t, V, heads, K, heads, TARN_GROUP_PERMUTATION);
    tarn_axes_unify(t, tarn_axes_of(t, Q, heads), tarn_axes_product_of(t, 2, shared));
    tarn_axes_link(t, Q, heads, y, heads, TARN_GROUP_PERMUTATION);
    tarn_axes_contract(t, Q, size, K, size);
    tarn_axes_link(t, V, size, y, size, TARN_GROUP_LINEAR);
    tarn_group order = y->attr.i[0] ? TARN_GROUP_NONE : TARN_GROUP_PERMUTATION;
    tarn_axes_link(t, Q, place, y, place, order);
    tarn_axes_link(t, K, place, V, place, order);
    if (y->nin == 4) {
        const tarn_node *mask = y->in[3], *of[3] = {Q, Q, K};
        const int axis[3] = {heads, place, place};
        for (int k = 0; k < 3; k++) {
            int d = mask->desc.rank - 3 + k;
            if (d >= 0 && mask->desc.shape[d] == of[k]->desc.shape[axis[k]]) {
                tarn_axes_link(t, mask, d, of[k], axis[k], TARN_GROUP_PERMUTATION);
            }
        }
    }
    tarn_axes_mix(t, Q, 1u << size, 1u << place);
    tarn_axes_mix(t, K, 1u << size, 1u << place);
    tarn_axes_mix(t, V, 1u << place, 1u << size);
}

const tarn_node *tarn_attention(tarn_graph *g, const tarn_node *q, const tarn_node *k,
                                const tarn_node *v, const tarn_node *mask,
                                const tarn_attention_options *o) {
    const tarn_node *in[4] = {q, k, v, mask};
    const int64_t causal = o->causal;
    tarn_attr a = {.ni = 1, .i = &causal, .nf = 1, .f = &o->scale};
    return tarn_node_make(g, &tarn_op_attention, mask ? 4 : 3, in, &a);
}

// clang-format off
const tarn_op tarn_op_attention = {.name = "attention", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 3, .max_in = 4,
                                   .infer = infer_attention, .apply = apply_attention, .placed = true, .workspace = workspace,
                                   .vjp = vjp_attention, .decompose = attention_apart, .axes = axes_attention,
                                   .summary = "softmax(scale q k' + mask) v for each head; a query that sees nothing gets zeros"};
const tarn_op tarn_op_attention_vjp = {.name = "attention_vjp", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 4, .max_in = 5,
                                       .infer = infer_vjp, .apply = apply_vjp, .placed = true, .workspace = workspace,
                                       .decompose = attention_vjp_apart,
                                       .summary = "the derivatives of attention by q, k and v, one after another"};
// clang-format on
