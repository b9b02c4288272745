// SPDX-License-Identifier: Apache-2.0
// Rows that need whole tensors in memory: matrix products, gathers, concatenation, padding. Sorting
// is in sort.c.
#include <stdlib.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/axes.h"
#include "vm/op/blas.h"
#include "vm/op/rules.h"

#define X (y->in[0])
#define INFER(name)                                                                           \
    static tarn_status name(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, \
                            tarn_error *err)
#define APPLY(name)                                                                          \
    static tarn_status name(tarn_context *cx, int nin, const tarn_tensor *in,                \
                            const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,        \
                            tarn_error *err)

// ---- matmul ----

INFER(infer_matmul) {
    (void)nin, (void)a;
    const tarn_desc *p = &in[0], *q = &in[1];
    if (p->rank < 2 || q->rank < 2) {
        TARN_RAISE(err, "Rank", "expected operands of rank 2 or more, got %d and %d", p->rank, q->rank);
    }
    int64_t k = p->shape[p->rank - 1], k2 = q->shape[q->rank - 2];
    if (k != k2) {
        TARN_RAISE(err, "ShapeMismatch",
                   "%lld columns on the left meet %lld rows on the right", (long long)k,
                   (long long)k2);
    }
    out->rank = p->rank > q->rank ? p->rank : q->rank;
    for (int d = 0; d < out->rank - 2; d++) {
        int i = d - (out->rank - p->rank), j = d - (out->rank - q->rank);
        int64_t s = i < 0 ? 1 : p->shape[i], t = j < 0 ? 1 : q->shape[j];
        if (s != t && s != 1 && t != 1) {
            TARN_RAISE(err, "ShapeMismatch", "batch dimensions %lld and %lld do not match",
                       (long long)s, (long long)t);
        }
        out->shape[d] = s != 1 ? s : t;
    }
    out->shape[out->rank - 2] = p->shape[p->rank - 2];
    out->shape[out->rank - 1] = q->shape[q->rank - 1];
    out->dtype = tarn_dtype_compute(p->dtype) == TARN_F64 || tarn_dtype_compute(q->dtype) == TARN_F64
                     ? TARN_F64
                     : TARN_F32;
    return TARN_OK;
}

// A matrix operand: contiguous, or stored transposed, or copied.
typedef struct {
    tarn_tensor t;
    bool trans;
    int64_t ld;
} matrix;

static tarn_status matrix_of(tarn_context *cx, const tarn_tensor *in, tarn_dtype dtype, matrix *m,
                             tarn_error *err) {
    int r = in->rank;
    const int64_t *s = in->stride, *n = in->shape;
    m->trans = false;
    if (in->dtype == dtype && s[r - 1] == 1 && s[r - 2] >= n[r - 1]) {
        tarn_tensor_share(in, &m->t);
        m->ld = s[r - 2];
        return TARN_OK;
    }
    if (in->dtype == dtype && s[r - 2] == 1 && s[r - 1] >= n[r - 2]) {
        tarn_tensor_share(in, &m->t);
        m->trans = true;
        m->ld = s[r - 1];
        return TARN_OK;
    }
    TARN_TRY(tarn_tensor_cast(cx, in, dtype, &m->t, err));
    m->ld = n[r - 1] > 0 ? n[r - 1] : 1;
    return TARN_OK;
}

// Elements between neighbouring matrices along each batch dimension of the result.
static void batch_steps(const matrix *m, const tarn_desc *d, int64_t *step) {
    for (int k = 0; k < d->rank - 2; k++) {
        int j = k - (d->rank - m->t.rank);
        step[k] = j >= 0 && m->t.shape[j] != 1 ? m->t.stride[j] : 0;
    }
}

// A batch of a's rows against one b is one product of all rows, where they lie evenly.
static void merge_rows(tarn_product *p) {
    while (p->batch_rank > 0 && !p->ta) {
        int d = p->batch_rank - 1;
        if (p->step_b[d] != 0 || p->m > INT32_MAX / (p->batch[d] + 1) ||
            (p->batch[d] != 1 && p->step_a[d] != p->m * p->lda)) {
            return;
        }
        for (int k = 0; k < d; k++) {
            if (p->step_b[k] != 0) {
                return;
            }
        }
        p->m *= p->batch[d];
        p->batch_rank--;
    }
}

APPLY(apply_matmul) {
    (void)nin, (void)a;
    matrix p, q;
    TARN_TRY(matrix_of(cx, &in[0], d->dtype, &p, err));
    tarn_status s = matrix_of(cx, &in[1], d->dtype, &q, err);
    if (s != TARN_OK) {
        tarn_tensor_release(&p.t);
        return s;
    }
    s = tarn_result(cx, d, out, err);
    if (s == TARN_OK) {
        int64_t n = d->shape[d->rank - 1];
        tarn_product product = {.dtype = d->dtype, .ta = p.trans, .tb = q.trans,
                                .m = d->shape[d->rank - 2], .n = n,
                                .k = p.t.shape[p.t.rank - 1], .lda = p.ld, .ldb = q.ld,
                                .ldc = n > 0 ? n : 1, .a = tarn_tensor_data(&p.t),
                                .b = tarn_tensor_data(&q.t), .c = tarn_tensor_data(out),
                                .batch_rank = d->rank - 2};
        memcpy(product.batch, d->shape, sizeof product.batch);
        batch_steps(&p, d, product.step_a);
        batch_steps(&q, d, product.step_b);
        merge_rows(&product);
        s = tarn_blas_products(cx, &product, err);
    }
    tarn_tensor_release(&p.t);
    tarn_tensor_release(&q.t);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

static const tarn_node *transposed(tarn_graph *g, const tarn_node *x) {
    int64_t order[TARN_MAX_RANK];
    if (!x) {
        return NULL;
    }
    for (int d = 0; d < x->desc.rank; d++) {
        order[d] = d;
    }
    order[x->desc.rank - 1] = x->desc.rank - 2;
    order[x->desc.rank - 2] = x->desc.rank - 1;
    return tarn_permute(g, x, order);
}
// The product of a b, or where the operand that it is the gradient of was transposed, the transpose of
// b' a': what is stored is then laid out as the matrix that was transposed.
static const tarn_node *laid_out(tarn_graph *g, const tarn_node *a, const tarn_node *b,
                                 const tarn_node *like) {
    bool swapped = like->op == &tarn_op_permute;
    int r = like->desc.rank;
    for (int d = 0; swapped && d < r; d++) {
        swapped = like->attr.i[d] == (d == r - 1 ? r - 2 : d == r - 2 ? r - 1 : d);
    }
    return swapped ? transposed(g, tarn_matmul(g, transposed(g, b), transposed(g, a)))
                   : tarn_matmul(g, a, b);
}
// All rows of all batches.
static const tarn_node *all_rows(tarn_graph *g, const tarn_node *x) {
    int64_t last = x->desc.shape[x->desc.rank - 1];
    int64_t shape[2] = {tarn_desc_numel(&x->desc) / last, last};
    return tarn_reshape(g, x, 2, shape);
}
TARN_VJP(vjp_matmul) {
    const tarn_node *a = X, *b = y->in[1];
    if (which == 1 && b->desc.rank == 2 && a->desc.rank > 2 && gy->desc.rank > 2 &&
        tarn_desc_numel(&a->desc) > 0 && tarn_desc_numel(&gy->desc) > 0) {
        a = all_rows(g, a);  // one product sums over the batch as well
        gy = all_rows(g, gy);
    }
    const tarn_node *r = which == 0 ? laid_out(g, gy, transposed(g, b), a)
                                    : laid_out(g, transposed(g, a), gy, b);
    return r ? tarn_unbroadcast(g, r, y->in[which]) : NULL;
}
// Rows of the left operand and of the cotangent, or columns of the right one, belong to examples.
static bool examples_matmul(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which,
                            int64_t n, tarn_examples *out) {
    const tarn_node *a = X, *b = y->in[1];
    if (tarn_desc_numel(&y->desc) == 0 || tarn_desc_numel(&a->desc) == 0) {
        return false;
    }
    if (which == 0) {
        const int64_t order[3] = {0, 2, 1};
        if (a->desc.rank != 2 || b->desc.rank != 3 || b->desc.shape[0] != n) {
            return false;
        }
        const int64_t t = b->desc.shape[2], left[4] = {n, 1, t, a->desc.shape[0]};
        const int64_t right[4] = {n, 1, t, a->desc.shape[1]};
        out->left = tarn_reshape(g, tarn_permute(g, gy, order), 4, left);
        out->right = tarn_reshape(g, tarn_permute(g, b, order), 4, right);
        return true;
    }
    int64_t groups = 1, k = b->desc.shape[b->desc.rank - 2], m = b->desc.shape[b->desc.rank - 1];
    bool batched = b->desc.rank > 2, fits = !batched || (a->desc.rank == b->desc.rank + 1 && a->desc.shape[0] == n);
    for (int d = 0; d < b->desc.rank - 2 && fits; d++) {
        groups *= b->desc.shape[d];
        fits = a->desc.shape[d + 1] == b->desc.shape[d];
    }
    int64_t t = fits ? tarn_desc_numel(&a->desc) / (n * groups * k) : 0;
    const int64_t left[4] = {n, groups, t, k}, right[4] = {n, groups, t, m};
    out->left = fits ? tarn_reshape(g, a, 4, left) : NULL;
    out->right = fits ? tarn_reshape(g, gy, 4, right) : NULL;
    return fits;
}
TARN_JVP(jvp_matmul) {
    return tarn_add_opt(g, dx[0] ? tarn_matmul(g, dx[0], y->in[1]) : NULL,
                        dx[1] ? tarn_matmul(g, X, dx[1]) : NULL);
}
// The contracted axis may be changed by any invertible map and its inverse.
static void axes_matmul(tarn_axes *t, const tarn_node *y) {
    const tarn_node *p = X, *q = y->in[1];
    int r = y->desc.rank;
    tarn_axes_contract(t, p, p->desc.rank - 1, q, q->desc.rank - 2);
    tarn_axes_link(t, p, p->desc.rank - 2, y, r - 2, TARN_GROUP_LINEAR);
    tarn_axes_link(t, q, q->desc.rank - 1, y, r - 1, TARN_GROUP_LINEAR);
    for (int i = 0; i < 2; i++) {
        const tarn_node *x = y->in[i], *other = y->in[1 - i];
        unsigned last = (unsigned)x->desc.rank - 1, apart = 1u << (i == 0 ? last - 1 : last);
        for (int d = 0; d < x->desc.rank - 2; d++) {
            int e = r - x->desc.rank + d, f = e - (r - other->desc.rank);
            if (x->desc.shape[d] == y->desc.shape[e]) {
                tarn_axes_link(t, x, d, y, e, TARN_GROUP_PERMUTATION);
            }
            apart |= f < 0 || other->desc.shape[f] != x->desc.shape[d] ? 1u << d : 0;
        }
        tarn_axes_mix(t, x, 1u << (i == 0 ? last : last - 1), apart);
    }
}

static tarn_status zeroed(tarn_context *cx, const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    TARN_TRY(tarn_result(cx, d, out, err));
    memset(tarn_tensor_data(out), 0, tarn_tensor_bytes(out));
    return TARN_OK;
}

// ---- gather(x, index), attr.i = {axis}: out[i, j] = x[index[i, j], j] for axis 0 ----

static tarn_status same_but(const tarn_desc *x, const tarn_desc *index, int64_t axis,
                            tarn_error *err) {
    if (x->rank != index->rank || x->rank == 0) {
        TARN_RAISE(err, "Rank", "index of rank %d for a tensor of rank %d; expected the same, from 1",
                   index->rank, x->rank);
    }
    if (axis < 0 || axis >= x->rank) {
        TARN_RAISE(err, "Axis", "dimension %lld of a tensor of rank %d", (long long)axis + 1, x->rank);
    }
    for (int d = 0; d < x->rank; d++) {
        if (d != axis && index->shape[d] > x->shape[d]) {
            TARN_RAISE(err, "ShapeMismatch", "dimension %d: index has %lld, tensor %lld", d + 1,
                       (long long)index->shape[d], (long long)x->shape[d]);
        }
    }
    if (tarn_dtype_get(index->dtype)->kind != TARN_KIND_INT) {
        TARN_RAISE(err, "Dtype", "the index is %s; expected an integer dtype",
                   tarn_dtype_get(index->dtype)->name);
    }
    return TARN_OK;
}
INFER(infer_gather) {
    (void)nin;
    TARN_TRY(same_but(&in[0], &in[1], a->ni == 1 ? a->i[0] : -1, err));
    *out = in[1];
    out->dtype = in[0].dtype;
    out->weak = false;
    return TARN_OK;
}

// Walks the index tensor in row-major order; position[d] counts along dimension d.
typedef struct {
    int64_t position[TARN_MAX_RANK];
} walker;
static void step(walker *w, const tarn_desc *d) {
    for (int k = d->rank - 1; k >= 0; k--) {
        if (++w->position[k] < d->shape[k]) {
            return;
        }
        w->position[k] = 0;
    }
}
static int64_t offset_of(const tarn_tensor *t, const walker *w, int axis, int64_t at) {
    int64_t o = 0;
    for (int k = 0; k < t->rank; k++) {
        o += (k == axis ? at : w->position[k]) * t->stride[k];
    }
    return o;
}
static tarn_status out_of_range(const char *op, int64_t i, int64_t n, tarn_error *err) {
    TARN_RAISE(err, "IndexRange", "%s: index %lld is outside 1 to %lld", op, (long long)i + 1,
               (long long)n);
}
// True when the index does not vary beyond `axis` and whole inner rows can be copied.
static bool by_rows(const tarn_tensor *x, const tarn_tensor *index, int axis) {
    int64_t inner = 1;
    for (int k = x->rank - 1; k > axis; k--) {
        if (index->shape[k] != x->shape[k] || (index->shape[k] > 1 && index->stride[k] != 0) ||
            (x->shape[k] > 1 && x->stride[k] != inner)) {
            return false;
        }
        inner *= x->shape[k];
    }
    return true;
}

APPLY(apply_gather) {
    (void)nin;
    int axis = (int)a->i[0];
    tarn_tensor index;
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = TARN_OK;
    if (in[1].dtype == TARN_I64) {
        tarn_tensor_share(&in[1], &index);  // as it is: its zero strides tell whole rows apart
    } else {
        s = tarn_tensor_cast(cx, &in[1], TARN_I64, &index, err);
    }
    if (s != TARN_OK) {
        tarn_tensor_release(out);
        return s;
    }
    int64_t size = tarn_dtype_get(d->dtype)->bits / 8, n = tarn_tensor_numel(out), run = 1;
    const char *x = tarn_tensor_data(&in[0]);
    const int64_t *ix = tarn_tensor_data(&index);
    char *to = tarn_tensor_data(out);
    tarn_desc outer = *d;
    if (by_rows(&in[0], &index, axis)) {
        for (int k = axis + 1; k < d->rank; k++) {
            run *= d->shape[k];
        }
        outer.rank = axis + 1;
    }
    walker w = {{0}};
    for (int64_t i = 0; i < n && s == TARN_OK; i += run) {
        int64_t at = ix[offset_of(&index, &w, -1, 0)];
        if (at < 0 || at >= in[0].shape[axis]) {
            s = out_of_range("gather", at, in[0].shape[axis], err);
            break;
        }
        memcpy(to + i * size, x + offset_of(&in[0], &w, axis, at) * size, (size_t)(run * size));
        step(&w, &outer);
    }
    tarn_tensor_release(&index);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
TARN_VJP(vjp_gather) {
    if (which != 0) {
        return NULL;
    }
    int64_t i[TARN_MAX_RANK + 1] = {y->attr.i[0]};
    memcpy(i + 1, X->desc.shape, sizeof X->desc.shape);
    tarn_attr a = {.ni = X->desc.rank + 1, .i = i};
    const tarn_node *in[2] = {y->in[1], gy};
    return tarn_node_make(g, &tarn_op_scatter_add, 2, in, &a);
}
TARN_JVP(jvp_gather) {
    const tarn_node *in[2] = {dx[0], y->in[1]};
    return dx[0] ? tarn_node_make(g, &tarn_op_gather, 2, in, &y->attr) : NULL;
}
static void axes_gather(tarn_axes *t, const tarn_node *y) {
    int axis = (int)y->attr.i[0];
    for (int k = 0; k < X->desc.rank; k++) {
        if (k == axis) {
            tarn_axes_limit(t, X, k, TARN_GROUP_NONE);
            tarn_axes_link(t, y->in[1], k, y, k, TARN_GROUP_PERMUTATION);
        } else if (X->desc.shape[k] == y->desc.shape[k]) {
            tarn_axes_link(t, X, k, y, k, TARN_GROUP_LINEAR);
            tarn_axes_link(t, y->in[1], k, y, k, TARN_GROUP_PERMUTATION);
        } else {
            tarn_axes_limit(t, y, k, TARN_GROUP_NONE);
        }
    }
}

// ---- scatter_add(index, src), attr.i = {axis, shape …}: zeros, out[index[i, j], j] += src[i, j] ----

INFER(infer_scatter) {
    (void)nin;
    if (a->ni < 1 || a->ni > TARN_MAX_RANK + 1) {
        TARN_RAISE(err, "Argument", "attributes are {dimension, shape …}");
    }
    tarn_dtype t = tarn_dtype_compute(in[1].dtype);
    *out = (tarn_desc){.dtype = t == TARN_BOOL ? TARN_I64 : t, .rank = a->ni - 1};
    memcpy(out->shape, a->i + 1, (size_t)out->rank * sizeof *a->i);
    TARN_TRY(same_but(out, &in[0], a->i[0], err));
    if (!tarn_shape_equal(in[0].rank, in[0].shape, in[1].rank, in[1].shape)) {
        TARN_RAISE(err, "ShapeMismatch", "index and source differ in shape");
    }
    return TARN_OK;
}
// One thread, in row-major order of the source: the order of additions is part of the result.
APPLY(apply_scatter) {
    (void)nin;
    int axis = (int)a->i[0];
    tarn_tensor index = {0}, src = {0};
    tarn_status s = zeroed(cx, d, out, err);
    s = s == TARN_OK ? tarn_tensor_plain(cx, &in[0], TARN_I64, &index, err) : s;
    s = s == TARN_OK ? tarn_tensor_plain(cx, &in[1], d->dtype, &src, err) : s;
    if (s == TARN_OK) {
        tarn_desc shape;
        tarn_desc_of(&src, &shape);
        walker w = {{0}};
        int64_t n = tarn_tensor_numel(&src);
        const int64_t *ix = tarn_tensor_data(&index);
        const void *from = tarn_tensor_data(&src);
        void *to = tarn_tensor_data(out);
        for (int64_t i = 0; i < n; i++, step(&w, &shape)) {
            if (ix[i] < 0 || ix[i] >= out->shape[axis]) {
                s = out_of_range("scatter_add", ix[i], out->shape[axis], err);
                break;
            }
            int64_t o = offset_of(out, &w, axis, ix[i]);
            if (d->dtype == TARN_F32) {
                ((float *)to)[o] += ((const float *)from)[i];
            } else if (d->dtype == TARN_F64) {
                ((double *)to)[o] += ((const double *)from)[i];
            } else {
                ((uint64_t *)to)[o] += ((const uint64_t *)from)[i];  // wraps, like add
            }
        }
    }
    tarn_tensor_release(&index);
    tarn_tensor_release(&src);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static const tarn_node *gather_back(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    const tarn_node *in[2] = {x, y->in[0]};
    tarn_attr a = {.ni = 1, .i = y->attr.i};
    return tarn_node_make(g, &tarn_op_gather, 2, in, &a);
}
TARN_VJP(vjp_scatter) { return which == 1 ? gather_back(g, gy, y) : NULL; }
TARN_JVP(jvp_scatter) {
    const tarn_node *in[2] = {y->in[0], dx[1]};
    return dx[1] ? tarn_node_make(g, &tarn_op_scatter_add, 2, in, &y->attr) : NULL;
}
static void axes_scatter(tarn_axes *t, const tarn_node *y) {
    int axis = (int)y->attr.i[0];
    for (int k = 0; k < y->desc.rank; k++) {
        tarn_axes_link(t, y->in[0], k, y->in[1], k, TARN_GROUP_PERMUTATION);
        if (k == axis || y->desc.shape[k] != y->in[1]->desc.shape[k]) {
            tarn_axes_limit(t, y, k, TARN_GROUP_NONE);
        } else {
            tarn_axes_link(t, y->in[1], k, y, k, TARN_GROUP_LINEAR);
        }
    }
}

// ---- concat, attr.i = {axis} ----

INFER(infer_concat) {
    int64_t axis = a->ni == 1 ? a->i[0] : -1;
    *out = in[0];
    out->weak = false;
    if (axis < 0 || axis >= in[0].rank) {
        TARN_RAISE(err, "Axis", "dimension %lld of tensors of rank %d", (long long)axis + 1,
                   in[0].rank);
    }
    int64_t total = 0;
    for (int i = 0; i < nin; i++) {
        bool fits = in[i].rank == in[0].rank;
        for (int k = 0; fits && k < in[0].rank; k++) {
            fits = k == axis || in[i].shape[k] == in[0].shape[k];
        }
        if (!fits) {
            TARN_RAISE(err, "ShapeMismatch",
                       "operand %d differs from the first outside dimension %lld", i + 1,
                       (long long)axis + 1);
        }
        if (in[i].dtype != in[0].dtype) {
            TARN_RAISE(err, "Dtype", "operand %d is %s, the first %s", i + 1,
                       tarn_dtype_get(in[i].dtype)->name, tarn_dtype_get(in[0].dtype)->name);
        }
        if (!tarn_add_i64(total, in[i].shape[axis], &total)) {
            TARN_RAISE(err, "Overflow", "the result has more than 2^63 rows");
        }
    }
    out->shape[axis] = total;
    return TARN_OK;
}
APPLY(apply_concat) {
    int axis = (int)a->i[0];
    TARN_TRY(tarn_result(cx, d, out, err));
    int64_t outer = 1, inner = tarn_dtype_get(d->dtype)->bits / 8;
    for (int k = 0; k < axis; k++) {
        outer *= d->shape[k];
    }
    for (int k = axis + 1; k < d->rank; k++) {
        inner *= d->shape[k];
    }
    int64_t at = 0;
    for (int i = 0; i < nin; i++) {
        tarn_tensor t;
        tarn_status s = tarn_tensor_plain(cx, &in[i], d->dtype, &t, err);
        if (s != TARN_OK) {
            tarn_tensor_release(out);
            return s;
        }
        int64_t rows = t.shape[axis];
        for (int64_t o = 0; o < outer; o++) {
            memcpy((char *)tarn_tensor_data(out) + (o * d->shape[axis] + at) * inner,
                   (const char *)tarn_tensor_data(&t) + o * rows * inner, (size_t)(rows * inner));
        }
        at += rows;
        tarn_tensor_release(&t);
    }
    return TARN_OK;
}
TARN_VJP(vjp_concat) {
    int axis = (int)y->attr.i[0];
    int64_t at = 0;
    for (int k = 0; k < which; k++) {
        at += y->in[k]->desc.shape[axis];
    }
    return tarn_slice(g, gy, axis, at, y->in[which]->desc.shape[axis]);
}
TARN_JVP(jvp_concat) {
    const tarn_node **part = tarn_arena_take(&g->arena, (size_t)y->nin * sizeof *part);
    bool any = false;
    for (int k = 0; part && k < y->nin; k++) {
        any = any || dx[k];
        part[k] = dx[k] ? dx[k] : tarn_zeros_like(g, y->in[k]);
    }
    if (!part) {
        tarn_raise_nomem(&g->err, "a derivative", (size_t)y->nin * sizeof *part);
    }
    return any ? tarn_node_make(g, &tarn_op_concat, y->nin, part, &y->attr) : NULL;
}
static void axes_concat(tarn_axes *t, const tarn_node *y) {
    int axis = (int)y->attr.i[0];
    tarn_axis part[TARN_AXIS_PARTS];
    for (int i = 0; i < y->nin; i++) {
        for (int k = 0; k < y->desc.rank; k++) {
            if (k != axis) {
                tarn_axes_link(t, y->in[i], k, y, k, TARN_GROUP_LINEAR);
            } else if (y->nin > TARN_AXIS_PARTS) {
                tarn_axes_limit(t, y->in[i], k, TARN_GROUP_NONE);
                tarn_axes_limit(t, y, k, TARN_GROUP_NONE);
            } else {
                part[i] = tarn_axes_of(t, y->in[i], k);
            }
        }
    }
    if (y->nin <= TARN_AXIS_PARTS) {
        tarn_axes_unify(t, tarn_axes_of(t, y, axis), tarn_axes_sum_of(t, y->nin, part));
    }
}

// ---- pad: zeros of shape attr.i[3 rank …] with x at {start, count, step}: the adjoint of slice ----

INFER(infer_pad) {
    (void)nin;
    int r = in[0].rank;
    if (a->ni != 4 * r) {
        TARN_RAISE(err, "Axis", "one range and one size for each of %d dimensions", r);
    }
    *out = in[0];
    out->dtype = tarn_dtype_compute(in[0].dtype);
    out->weak = false;
    for (int k = 0; k < r; k++) {
        int64_t start = a->i[3 * k], count = a->i[3 * k + 1], stride = a->i[3 * k + 2];
        int64_t size = a->i[3 * r + k];
        if (count != in[0].shape[k] || start < 0 || stride < 1 ||
            (count > 0 && (start >= size || (count - 1) > (size - 1 - start) / stride))) {
            TARN_RAISE(err, "IndexRange", "dimension %d does not fit", k + 1);
        }
        out->shape[k] = size;
    }
    return TARN_OK;
}
APPLY(apply_pad) {
    (void)nin;
    TARN_TRY(zeroed(cx, d, out, err));
    tarn_tensor x;
    tarn_status s = tarn_tensor_plain(cx, &in[0], d->dtype, &x, err);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
        return s;
    }
    tarn_desc outer;  // the dimensions that are walked; what lies within is copied at once
    tarn_desc_of(&x, &outer);
    int64_t size = tarn_dtype_get(d->dtype)->bits / 8, n = tarn_tensor_numel(&x), run = 1;
    for (bool whole = true; whole && outer.rank > 0 && a->i[3 * outer.rank - 1] == 1;) {
        run *= outer.shape[--outer.rank];
        whole = outer.shape[outer.rank] == d->shape[outer.rank];
    }
    walker w = {{0}};
    for (int64_t i = 0; i < n; i += run, step(&w, &outer)) {
        int64_t o = 0;
        for (int k = 0; k < d->rank; k++) {
            o += (a->i[3 * k] + w.position[k] * a->i[3 * k + 2]) * out->stride[k];
        }
        memcpy((char *)tarn_tensor_data(out) + o * size,
               (const char *)tarn_tensor_data(&x) + i * size, (size_t)(run * size));
    }
    tarn_tensor_release(&x);
    return TARN_OK;
}
TARN_VJP(vjp_pad) {
    (void)which;
    tarn_attr a = {.ni = 3 * X->desc.rank, .i = y->attr.i};
    return tarn_node_make(g, &tarn_op_slice, 1, &gy, &a);
}
static void axes_pad(tarn_axes *t, const tarn_node *y) { tarn_axes_window(t, y, X, y->attr.i); }
TARN_JVP(jvp_pad) { return dx[0] ? tarn_node_make(g, &tarn_op_pad, 1, dx, &y->attr) : NULL; }

// ---- memory beside the result, at most: operands that have to be converted or made contiguous ----

#define WORKSPACE(name)                                                                        \
    static size_t name(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out, \
                       int threads)
static size_t copies(int n, const tarn_desc *in, tarn_dtype t) {
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += tarn_dtype_bytes(t, tarn_desc_numel(&in[i]));
    }
    return bytes;
}
WORKSPACE(workspace_matmul) {
    (void)a, (void)threads;
    return copies(nin, in, out->dtype);
}
WORKSPACE(workspace_gather) {
    (void)nin, (void)out, (void)a, (void)threads;
    return copies(1, &in[1], TARN_I64);
}
WORKSPACE(workspace_copies) {
    (void)out, (void)a, (void)threads;
    return copies(nin, in, TARN_F64);
}
// Operands one at a time: the largest; together they are the result.
WORKSPACE(workspace_concat) {
    (void)nin, (void)in, (void)a, (void)threads;
    return copies(1, out, out->dtype);
}

// clang-format off
#define WHOLE(NAME, LEAST, MOST, ...)                                                     \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE, \
                                    .min_in = LEAST, .max_in = MOST, __VA_ARGS__};
WHOLE(matmul, 2, 2, .infer = infer_matmul, .apply = apply_matmul, .placed = true, .vjp = vjp_matmul, .jvp = jvp_matmul, .examples = examples_matmul, .axes = axes_matmul, .workspace = workspace_matmul,
      .summary = "matrix product over the last two dimensions, batched over the others; integers become f32")
WHOLE(gather, 2, 2, .infer = infer_gather, .apply = apply_gather, .placed = true, .vjp = vjp_gather, .jvp = jvp_gather, .axes = axes_gather, .workspace = workspace_gather,
      .summary = "elements picked along one dimension by an index tensor of the result's shape")
WHOLE(scatter_add, 2, 2, .infer = infer_scatter, .apply = apply_scatter, .placed = true, .vjp = vjp_scatter, .jvp = jvp_scatter, .axes = axes_scatter, .workspace = workspace_copies,
      .summary = "zeros of a shape, with each element of a source added where an index says")
WHOLE(concat, 1, -1, .infer = infer_concat, .apply = apply_concat, .placed = true, .vjp = vjp_concat, .jvp = jvp_concat, .axes = axes_concat, .workspace = workspace_concat,
      .summary = "tensors one after another along a dimension")
WHOLE(pad, 1, 1, .infer = infer_pad, .apply = apply_pad, .placed = true, .vjp = vjp_pad, .jvp = jvp_pad, .axes = axes_pad, .workspace = workspace_copies,
      .summary = "zeros of a shape, with the tensor at a strided range: the adjoint of slice")
// clang-format on
