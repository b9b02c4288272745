// SPDX-License-Identifier: Apache-2.0
// Gradients of single examples as factors. For a product of inputs and outputs they are the two
// matrices, of which the sum of squares is the product of squares when an example has one row
// (Goodfellow 2015, arXiv:1510.01799), and norms need only Gram matrices else. For rows of a table
// they are the rows.
#include "vm/grad/factors.h"

static int64_t numel(const tarn_node *x) { return tarn_desc_numel(&x->desc); }

static const tarn_node *swapped(tarn_graph *g, const tarn_node *x) {  // the last two axes
    int64_t order[TARN_MAX_RANK];
    int r = x ? x->desc.rank : 0;
    for (int d = 0; d < r; d++) {
        order[d] = d < r - 2 ? d : 2 * r - 3 - d;
    }
    return x ? tarn_permute(g, x, order) : NULL;
}

// The left factor picks rows.
tarn_examples tarn_examples_product(const tarn_by_example *w, tarn_examples p, int64_t size) {
    tarn_graph *g = w->g;
    if (!p.index) {
        return p;
    }
    int64_t rows = size / p.right->desc.shape[2], t = p.index->desc.shape[1];
    const tarn_node *pick =
        tarn_eq(g, tarn_reshape(g, p.index, 3, (int64_t[]){w->n, t, 1}), tarn_iota(g, rows));
    pick = tarn_cast(g, pick, p.right->desc.dtype);
    return (tarn_examples){
        .left = tarn_reshape(g, pick, 4, (int64_t[]){w->n, 1, t, rows}),
        .right = tarn_reshape(g, p.right, 4, (int64_t[]){w->n, 1, t, p.right->desc.shape[2]})};
}

const tarn_node *tarn_examples_dense(const tarn_by_example *w, tarn_examples p, int64_t size) {
    p = tarn_examples_product(w, p, size);
    const tarn_node *e =
        p.left && p.right ? tarn_matmul(w->g, swapped(w->g, p.left), p.right) : p.right;
    return tarn_reshape(w->g, e, 2, (int64_t[]){w->n, size});
}

static bool same_axes(const tarn_node *a, const tarn_node *b) {
    return a && b && a->desc.rank == 4 && b->desc.rank == 4 &&
           a->desc.shape[1] == b->desc.shape[1] && a->desc.shape[3] == b->desc.shape[3] &&
           a->desc.dtype == b->desc.dtype;
}

static const tarn_node *joined(tarn_graph *g, const tarn_node *a, const tarn_node *b, int axis) {
    return tarn_concat(g, 2, (const tarn_node *[]){a, b}, axis);
}

tarn_examples tarn_examples_sum(const tarn_by_example *w, tarn_examples p, tarn_examples q,
                                int64_t size) {
    if (!p.right) {
        return q;
    }
    if (p.index && q.index) {
        return (tarn_examples){.index = joined(w->g, p.index, q.index, 1),
                               .right = joined(w->g, p.right, q.right, 1)};
    }
    p = tarn_examples_product(w, p, size);
    q = tarn_examples_product(w, q, size);
    if (same_axes(p.left, q.left) && same_axes(p.right, q.right)) {
        return (tarn_examples){.left = joined(w->g, p.left, q.left, 2),
                               .right = joined(w->g, p.right, q.right, 2)};
    }
    return (tarn_examples){
        .right = tarn_add(w->g, tarn_examples_dense(w, p, size), tarn_examples_dense(w, q, size))};
}

static const tarn_node *square(tarn_graph *g, const tarn_node *x) { return tarn_mul(g, x, x); }
static const tarn_node *over(tarn_graph *g, const tarn_node *x, int axis) {
    return x ? tarn_reduce(g, &tarn_op_sum, x, 1, (int64_t[]){axis}, false) : NULL;
}
// The sum of all but the first axis.
static const tarn_node *of_each(const tarn_by_example *w, const tarn_node *x) {
    return over(w->g, tarn_reshape(w->g, x, 2, (int64_t[]){w->n, x ? numel(x) / w->n : 0}), 1);
}

// Equal rows of one example are added before they are squared: each of m equal ones carries 1 / m
// of it.
static void squares_of_rows(const tarn_by_example *w, tarn_examples p, int64_t size,
                            const tarn_node **sum, const tarn_node **norms) {
    tarn_graph *g = w->g;
    int64_t t = p.index->desc.shape[1], rows = size / p.right->desc.shape[2];
    const tarn_node *equal = tarn_eq(g, tarn_reshape(g, p.index, 3, (int64_t[]){w->n, t, 1}),
                                     tarn_reshape(g, p.index, 3, (int64_t[]){w->n, 1, t}));
    equal = tarn_cast(g, equal, p.right->desc.dtype);
    const tarn_node *total = tarn_matmul(g, equal, p.right);
    const tarn_node *m = tarn_reduce(g, &tarn_op_sum, equal, 1, (int64_t[]){2}, true);
    const tarn_node *in[2] = {p.index, tarn_div(g, square(g, total), m)};
    tarn_attr a = {.ni = 1, .i = &rows};
    if (sum) {
        *sum = in[1] ? tarn_node_make(g, &tarn_op_scatter_rows, 2, in, &a) : NULL;
    }
    *norms = of_each(w, tarn_mul(g, total, p.right));
}

// Products with many rows: the gradients of some examples at a time, so that memory stays bounded.
static void squares_of_products(const tarn_by_example *w, tarn_examples p, int64_t size,
                                const tarn_node **sum, const tarn_node **norms) {
    enum { ELEMENTS = 1 << 22 };
    tarn_graph *g = w->g;
    int64_t each = size < ELEMENTS ? ELEMENTS / size : 1, pieces = 0;
    const tarn_node **norm = tarn_arena_take(w->arena, (size_t)(w->n / each + 1) * sizeof *norm);
    if (!norm) {
        tarn_raise_nomem(&g->err, "grad", (size_t)(w->n / each + 1) * sizeof *norm);
        return;
    }
    *sum = NULL;
    for (int64_t at = 0; at < w->n && g->err.status == TARN_OK; at += each) {
        tarn_by_example part = *w;
        part.n = w->n - at < each ? w->n - at : each;
        tarn_examples some = {.left = tarn_slice(g, p.left, 0, at, part.n),
                              .right = tarn_slice(g, p.right, 0, at, part.n)};
        const tarn_node *e = square(g, tarn_examples_dense(&part, some, size)),
                        *own = over(g, e, 0);
        norm[pieces++] = of_each(&part, e);
        *sum = *sum ? tarn_add(g, *sum, own) : own;
    }
    *norms = g->err.status == TARN_OK ? tarn_concat(g, (int)pieces, norm, 0) : NULL;
}

// |left' right|² of each example from left left' and right right'.
static const tarn_node *norms_by_gram(const tarn_by_example *w, tarn_examples p) {
    const tarn_node *left = tarn_matmul(w->g, p.left, swapped(w->g, p.left));
    return of_each(w, tarn_mul(w->g, left, tarn_matmul(w->g, p.right, swapped(w->g, p.right))));
}

void tarn_examples_squares(const tarn_by_example *w, tarn_examples p, int64_t size,
                           const tarn_node **sum, const tarn_node **norms) {
    tarn_graph *g = w->g;
    if (p.index) {
        squares_of_rows(w, p, size, sum, norms);
        return;
    }
    int64_t t = p.left ? p.left->desc.shape[2] : 0,
            wide = p.left ? p.left->desc.shape[3] + p.right->desc.shape[3] : 0;
    if (t > 1 && !sum && t * wide < p.left->desc.shape[3] * p.right->desc.shape[3]) {
        *norms = norms_by_gram(w, p);
        return;
    }
    const tarn_node *none;
    sum = sum ? sum : &none;
    if (t > 1) {
        squares_of_products(w, p, size, sum, norms);
        return;
    }
    if (t == 1) {
        const tarn_node *a = square(g, p.left), *b = square(g, p.right);
        int64_t groups = p.left->desc.shape[1], m = p.left->desc.shape[3],
                k = p.right->desc.shape[3];
        const tarn_node *left = tarn_reshape(g, a, 3, (int64_t[]){w->n, groups, m});
        const tarn_node *right = tarn_reshape(g, b, 3, (int64_t[]){w->n, groups, k});
        *norms = of_each(w, tarn_mul(g, over(g, left, 2), over(g, right, 2)));
        const int64_t in_left[3] = {1, 2, 0}, in_right[3] = {1, 0, 2};
        *sum = left && right ? tarn_matmul(g, tarn_permute(g, left, in_left),
                                           tarn_permute(g, right, in_right))
                             : NULL;
        return;
    }
    const tarn_node *e = square(g, tarn_examples_dense(w, p, size));
    *sum = over(g, e, 0);
    *norms = of_each(w, e);
}
