// SPDX-License-Identifier: Apache-2.0
// Per-example derivatives. What depends on the batch has a cotangent that is apart by example already, so
// the walk is the ordinary one until it comes to an operand that all examples share. There the
// gradients of the examples are kept as factors: for a product of inputs and outputs the two matrices, of
// which the sum of squares is the product of squares (Goodfellow 2015, arXiv:1510.01799) when an example
// has one row, and norms need only Gram matrices else; for rows of a table the rows. Any row that broadcasts
// the operand does so as well if the operand is stretched along the examples first, which gives a rule for
// element-wise rows and views. Where the first axis goes is read off the rows' axis rules. Fused rows
// without a rule are taken apart first.
#include "vm/grad/example.h"

#include <stdlib.h>
#include <string.h>

#include "vm/grad/grad.h"
#include "vm/op/axes.h"

// Of a node: whether it depends on the batch, and still has the examples along its first axis.
enum { SHARED, APART, JOINED };
// Of a node: whether it depends on what is differentiated by, or is it.
enum { DEPENDS = 1, LEAF = 2 };

typedef struct {
    tarn_graph *g;
    const tarn_node *y;
    int64_t n;  // examples
    int nbatch, nwrt;
    const tarn_node *const *batch, *const *wrt;
    int count;                 // nodes up to y
    tarn_arena arena;          // of what follows
    unsigned char *state;      // [count]
    unsigned char *active;     // [count]
    const tarn_node **cotangent;  // [count] of nodes that depend on the batch
    tarn_examples *part;       // [count] of those that do not; right NULL: none
    tarn_axes axes;            // of one row at a time
    tarn_error *err;
} walk;

static tarn_status failed(const walk *w) {
    if (w->err) {
        *w->err = w->g->err;
    }
    return w->g->err.status;
}

static tarn_status not_apart(const walk *w, const tarn_node *n) {
    TARN_RAISE(w->err, "NotByExample", "the gradients of single examples have no closed form at %s", n->op->name);
}

// ---- where the examples are ----

// Whether axis d of operand k becomes axis e of n, by n's axis rule.
static bool linked(walk *w, const tarn_node *n, int k, int d, int e) {
    const tarn_node *x = n->in[k];
    if (!n->op->axes || x->desc.rank <= d || n->desc.rank <= e) {
        return false;
    }
    for (int i = -1; i < n->nin; i++) {
        int first = (i < 0 ? n : n->in[i])->id * TARN_MAX_RANK;
        for (int s = first; s < first + TARN_MAX_RANK; s++) {
            w->axes.parent[s] = s;
            w->axes.limit[s] = TARN_GROUP_LINEAR;
        }
    }
    n->op->axes(&w->axes, n);
    return tarn_axes_find(&w->axes, x, d) == tarn_axes_find(&w->axes, n, e);
}

// Whether n has the examples along its first axis if operand k has.
static bool leads(walk *w, const tarn_node *n, int k) {
    if (n->desc.rank == 0 || n->in[k]->desc.rank == 0 || n->desc.shape[0] % w->n != 0 || n->desc.shape[0] == 0) {
        return false;
    }
    return n->op->same_order || (n->desc.shape[0] == n->in[k]->desc.shape[0] && linked(w, n, k, 0, 0));
}

// Operands that were repeated for each example (a class token before it is joined to the others).
static void repeated(walk *w, const tarn_node *n) {
    for (int k = 0; k < n->nin; k++) {
        const tarn_node *x = n->in[k];
        if (w->state[x->id] == SHARED && x->nin > 0 && w->active[x->id] && x->desc.rank == n->desc.rank &&
            leads(w, n, k)) {
            w->state[x->id] = APART;
            repeated(w, x);
        }
    }
}

static void find_examples(walk *w) {
    memset(w->state, SHARED, (size_t)w->count);
    memset(w->active, 0, (size_t)w->count);
    for (int i = 0; i < w->nbatch; i++) {
        w->state[w->batch[i]->id] = APART;
    }
    for (int i = 0; i < w->nwrt; i++) {
        w->active[w->wrt[i]->id] = LEAF;
    }
    for (int i = 0; i < w->count; i++) {
        const tarn_node *n = w->g->nodes[i];
        for (int k = 0; k < n->nin && w->state[i] != APART; k++) {
            unsigned char s = w->state[n->in[k]->id];
            w->state[i] = s == APART && leads(w, n, k) ? APART : s == SHARED ? w->state[i] : JOINED;
        }
        for (int k = 0; k < n->nin; k++) {
            w->active[i] |= w->active[n->in[k]->id] ? DEPENDS : 0;
        }
        if (w->state[i] == APART) {
            repeated(w, n);
        }
    }
}

// ---- the derivative by a shared operand ----

static int64_t numel(const tarn_node *x) { return tarn_desc_numel(&x->desc); }

// The operand's shape with the first axis of n before it.
static bool stretched(const tarn_node *n, int k, tarn_desc *d) {
    const tarn_desc *x = &n->in[k]->desc;
    int extra = n->desc.rank - x->rank;
    if (extra < 0 || (extra == 0 && x->rank > 0 && x->shape[0] != 1)) {
        return false;
    }
    *d = (tarn_desc){.dtype = tarn_dtype_compute(x->dtype), .rank = n->desc.rank};
    for (int e = 0; e < d->rank; e++) {
        d->shape[e] = e == 0 ? n->desc.shape[0] : e < extra ? 1 : x->shape[e - extra];
    }
    return true;
}

static bool can_stretch(const tarn_node *n, int k, tarn_desc *d) {
    tarn_desc in[8], out;
    tarn_error err;
    if (n->nin > 8 || !n->op->vjp || !stretched(n, k, d)) {
        return false;
    }
    for (int i = 0; i < n->nin; i++) {
        in[i] = i == k ? *d : n->in[i]->desc;
    }
    tarn_error_clear(&err);
    return tarn_op_infer(n->op, n->nin, in, &n->attr, &out, &err) == TARN_OK &&
           tarn_shape_equal(out.rank, out.shape, n->desc.rank, n->desc.shape);
}

// [first, second …] of as many elements.
static const tarn_node *shaped(tarn_graph *g, const tarn_node *x, int rank, const int64_t *shape) {
    return x ? tarn_reshape(g, x, rank, shape) : NULL;
}

// The gradient by operand k stretched along the examples: the row n again, with an input in its place.
static const tarn_node *by_stretching(walk *w, const tarn_node *n, int k, const tarn_node *gy, const tarn_desc *d) {
    tarn_graph *g = w->g;
    const tarn_node *in[8], *x = tarn_leaf_input(g, d);
    for (int i = 0; i < n->nin; i++) {
        in[i] = i == k ? x : n->in[i];
    }
    const tarn_node *again = x ? tarn_node_make(g, n->op, n->nin, in, &n->attr) : NULL;
    const tarn_node *e = again ? n->op->vjp(g, again, gy, k) : NULL;
    if (!e) {
        return NULL;  // or zero: no error then
    }
    const tarn_node **memo = calloc((size_t)g->count + 1, sizeof *memo);
    if (!memo) {
        tarn_raise_nomem(&g->err, "grad", (size_t)g->count * sizeof *memo);
        return NULL;
    }
    for (int i = 0; i < x->id; i++) {
        memo[i] = g->nodes[i];  // nothing before it depends on it
    }
    int64_t one[TARN_MAX_RANK];
    int extra = d->rank - n->in[k]->desc.rank;
    for (int i = 0; i < d->rank; i++) {
        one[i] = i < extra || i == 0 ? 1 : d->shape[i];
    }
    memo[again->id] = n;  // the same value
    memo[x->id] = tarn_broadcast(g, tarn_cast(g, tarn_reshape(g, n->in[k], d->rank, one), d->dtype), d->rank, d->shape);
    e = memo[x->id] ? tarn_node_rebuild(g, e, memo) : NULL;
    free((void *)memo);
    int64_t size = numel(n->in[k]), rows[3] = {w->n, d->shape[0] / w->n, size}, axis = 1;
    e = shaped(g, e, 3, rows);
    e = rows[1] == 1 ? e : tarn_reduce(g, &tarn_op_sum, e, 1, &axis, true);
    return shaped(g, e, 2, (int64_t[]){w->n, size});
}

static bool has_rule(walk *w, const tarn_node *n, int k) {
    tarn_desc d;
    tarn_examples e = {0};
    tarn_error kept = w->g->err;
    bool known = n->op->examples && n->op->examples(w->g, n, n, k, w->n, &e);
    w->g->err = kept;
    return known || can_stretch(n, k, &d);
}

// ---- rows that have to be taken apart before the walk ----

static bool must_split(walk *w, const tarn_node *n) {
    if (!w->active[n->id] || n->nin == 0 || !n->op->decompose) {
        return false;
    }
    bool split = !n->op->vjp;
    for (int k = 0; k < n->nin && !split && w->state[n->id] == APART; k++) {
        int id = n->in[k]->id;
        split = w->active[id] && w->state[id] == SHARED && !has_rule(w, n, k);
    }
    return split;
}

static tarn_status make_room(walk *w) {
    w->count = w->g->count;
    size_t n = (size_t)w->count, slots = n * TARN_MAX_RANK;
    w->state = tarn_arena_take(&w->arena, n);
    w->active = tarn_arena_take(&w->arena, n);
    w->cotangent = tarn_arena_take(&w->arena, n * sizeof *w->cotangent);
    w->part = tarn_arena_take(&w->arena, n * sizeof *w->part);
    w->axes.parent = tarn_arena_take(&w->arena, slots * sizeof *w->axes.parent);
    w->axes.limit = tarn_arena_take(&w->arena, slots);
    if (!w->state || !w->active || !w->cotangent || !w->part || !w->axes.parent || !w->axes.limit) {
        return tarn_raise_nomem(w->err, "grad", slots);
    }
    memset((void *)w->cotangent, 0, n * sizeof *w->cotangent);
    memset(w->part, 0, n * sizeof *w->part);
    return TARN_OK;
}

// y with such rows replaced by what they are made of, until there are none.
static tarn_status split_rows(walk *w) {
    for (bool again = true; again;) {
        tarn_arena_free(&w->arena);
        tarn_arena_init(&w->arena, &w->g->cx->budget);
        TARN_TRY(make_room(w));
        find_examples(w);
        size_t count = (size_t)w->count;
        unsigned char *use = tarn_arena_take(&w->arena, count);
        const tarn_node **memo = tarn_arena_take(&w->arena, count * sizeof *memo);
        if (!use || !memo) {
            return tarn_raise_nomem(w->err, "grad", count);
        }
        memset(use, 0, count);
        memset((void *)memo, 0, count * sizeof *memo);
        tarn_graph_mark(w->g, 1, &w->y, use);
        again = false;
        for (int i = 0; i < w->count; i++) {
            const tarn_node *n = w->g->nodes[i];
            if (use[i] && must_split(w, n)) {
                memo[i] = n->op->decompose(w->g, n);
                again = true;
                if (!memo[i]) {
                    return failed(w);
                }
                break;  // what follows is made of it
            }
        }
        if (again && !(w->y = tarn_node_rebuild(w->g, w->y, memo))) {
            return failed(w);
        }
    }
    return TARN_OK;
}

// ---- factors ----

static const tarn_node *swapped(tarn_graph *g, const tarn_node *x) {  // the last two axes
    int64_t order[TARN_MAX_RANK];
    int r = x ? x->desc.rank : 0;
    for (int d = 0; d < r; d++) {
        order[d] = d < r - 2 ? d : 2 * r - 3 - d;
    }
    return x ? tarn_permute(g, x, order) : NULL;
}

// Rows of a table as a product: the left factor picks them.
static tarn_examples as_product(walk *w, tarn_examples p, int64_t size) {
    tarn_graph *g = w->g;
    if (!p.index) {
        return p;
    }
    int64_t rows = size / p.right->desc.shape[2], t = p.index->desc.shape[1];
    const tarn_node *pick = tarn_eq(g, shaped(g, p.index, 3, (int64_t[]){w->n, t, 1}), tarn_iota(g, rows));
    pick = tarn_cast(g, pick, p.right->desc.dtype);
    return (tarn_examples){.left = shaped(g, pick, 4, (int64_t[]){w->n, 1, t, rows}),
                           .right = shaped(g, p.right, 4, (int64_t[]){w->n, 1, t, p.right->desc.shape[2]})};
}

// The gradients themselves, [n, size].
static const tarn_node *as_dense(walk *w, tarn_examples p, int64_t size) {
    p = as_product(w, p, size);
    const tarn_node *e = p.left && p.right ? tarn_matmul(w->g, swapped(w->g, p.left), p.right) : p.right;
    return shaped(w->g, e, 2, (int64_t[]){w->n, size});
}

static bool same_axes(const tarn_node *a, const tarn_node *b) {
    return a && b && a->desc.rank == 4 && b->desc.rank == 4 && a->desc.shape[1] == b->desc.shape[1] &&
           a->desc.shape[3] == b->desc.shape[3] && a->desc.dtype == b->desc.dtype;
}

static const tarn_node *joined(tarn_graph *g, const tarn_node *a, const tarn_node *b, int axis) {
    return tarn_concat(g, 2, (const tarn_node *[]){a, b}, axis);
}

static tarn_examples sum_of(walk *w, tarn_examples p, tarn_examples q, int64_t size) {
    if (!p.right) {
        return q;
    }
    if (p.index && q.index) {
        return (tarn_examples){.index = joined(w->g, p.index, q.index, 1), .right = joined(w->g, p.right, q.right, 1)};
    }
    p = as_product(w, p, size);
    q = as_product(w, q, size);
    if (same_axes(p.left, q.left) && same_axes(p.right, q.right)) {
        return (tarn_examples){.left = joined(w->g, p.left, q.left, 2), .right = joined(w->g, p.right, q.right, 2)};
    }
    return (tarn_examples){.right = tarn_add(w->g, as_dense(w, p, size), as_dense(w, q, size))};
}

static const tarn_node *square(tarn_graph *g, const tarn_node *x) { return tarn_mul(g, x, x); }
static const tarn_node *over(tarn_graph *g, const tarn_node *x, int axis) {
    return x ? tarn_reduce(g, &tarn_op_sum, x, 1, (int64_t[]){axis}, false) : NULL;
}
// The sum of all but the first axis.
static const tarn_node *of_each(walk *w, const tarn_node *x) {
    return over(w->g, shaped(w->g, x, 2, (int64_t[]){w->n, x ? numel(x) / w->n : 0}), 1);
}

// Equal rows of one example are added before they are squared: each of m equal ones carries 1 / m of it.
static void squares_of_rows(walk *w, tarn_examples p, int64_t size, const tarn_node **sum, const tarn_node **norms) {
    tarn_graph *g = w->g;
    int64_t t = p.index->desc.shape[1], rows = size / p.right->desc.shape[2];
    const tarn_node *equal = tarn_eq(g, shaped(g, p.index, 3, (int64_t[]){w->n, t, 1}),
                                     shaped(g, p.index, 3, (int64_t[]){w->n, 1, t}));
    equal = tarn_cast(g, equal, p.right->desc.dtype);
    const tarn_node *total = tarn_matmul(g, equal, p.right);
    const tarn_node *m = tarn_reduce(g, &tarn_op_sum, equal, 1, (int64_t[]){2}, true);
    const tarn_node *in[2] = {p.index, tarn_div(g, square(g, total), m)};
    tarn_attr a = {.ni = 1, .i = &rows};
    *sum = in[1] ? tarn_node_make(g, &tarn_op_scatter_rows, 2, in, &a) : NULL;
    *norms = of_each(w, tarn_mul(g, total, p.right));
}

// Of the parts of one parameter: the sum of squares, flat, and the squared norm of each example.
static void squares_of(walk *w, tarn_examples p, int64_t size, const tarn_node **sum, const tarn_node **norms) {
    tarn_graph *g = w->g;
    if (p.index) {
        squares_of_rows(w, p, size, sum, norms);
        return;
    }
    if (p.left && p.left->desc.shape[2] == 1) {  // one row an example
        const tarn_node *a = square(g, p.left), *b = square(g, p.right);
        int64_t groups = p.left->desc.shape[1], m = p.left->desc.shape[3], k = p.right->desc.shape[3];
        const tarn_node *left = shaped(g, a, 3, (int64_t[]){w->n, groups, m});
        const tarn_node *right = shaped(g, b, 3, (int64_t[]){w->n, groups, k});
        *norms = of_each(w, tarn_mul(g, over(g, left, 2), over(g, right, 2)));
        const int64_t in_left[3] = {1, 2, 0}, in_right[3] = {1, 0, 2};
        *sum = left && right ? tarn_matmul(g, tarn_permute(g, left, in_left), tarn_permute(g, right, in_right)) : NULL;
        return;
    }
    const tarn_node *e = square(g, as_dense(w, p, size));
    *sum = over(g, e, 0);
    *norms = of_each(w, e);
}

// ---- the walk ----

static void add_part(walk *w, const tarn_node *x, tarn_examples e) {
    if (e.right) {
        w->part[x->id] = sum_of(w, w->part[x->id], e, numel(x));
    }
}

// From a row that has the examples apart to an operand that all of them share.
static tarn_status enter(walk *w, const tarn_node *n, int k, const tarn_node *gy) {
    tarn_examples e = {0};
    tarn_desc d;
    if (n->op->examples && n->op->examples(w->g, n, gy, k, w->n, &e)) {
        if (e.index) {
            e.index = tarn_cast(w->g, e.index, TARN_I64);
        }
    } else if (can_stretch(n, k, &d)) {
        e = (tarn_examples){.right = by_stretching(w, n, k, gy, &d)};
    } else {
        return not_apart(w, n);
    }
    add_part(w, n->in[k], e);
    return w->g->err.status == TARN_OK ? TARN_OK : failed(w);
}

// Below: what does not depend on the batch. Views keep the factors; else example by example.
static tarn_status descend(walk *w, const tarn_node *n) {
    tarn_graph *g = w->g;
    tarn_examples p = w->part[n->id];
    bool view = n->op->cls == TARN_CLASS_VIEW && numel(n) == numel(n->in[0]);
    if (view && n->op->same_order) {
        add_part(w, n->in[0], as_product(w, p, numel(n)));
        return g->err.status == TARN_OK ? TARN_OK : failed(w);
    }
    if (view && n->desc.rank == 2 && linked(w, n, 0, 0, 1) && linked(w, n, 0, 1, 0)) {
        p = as_product(w, p, numel(n));
        if (p.left && p.left->desc.shape[3] == n->desc.shape[0] && p.left->desc.shape[1] == 1) {
            add_part(w, n->in[0], (tarn_examples){.left = p.right, .right = p.left});
            return g->err.status == TARN_OK ? TARN_OK : failed(w);
        }
    }
    const tarn_node *e = as_dense(w, p, numel(n));
    for (int k = 0; k < n->nin && e; k++) {
        if (!w->active[n->in[k]->id]) {
            continue;
        }
        int64_t size = numel(n->in[k]);
        const tarn_node **row = tarn_arena_take(&w->arena, (size_t)w->n * sizeof *row);
        if (!row || !n->op->vjp) {
            return row ? not_apart(w, n) : tarn_raise_nomem(w->err, "grad", (size_t)w->n * sizeof *row);
        }
        bool zero = false;
        for (int64_t i = 0; i < w->n && !zero; i++) {
            const tarn_node *gy = shaped(g, tarn_slice(g, e, 0, i, 1), n->desc.rank, n->desc.shape);
            const tarn_node *one = gy ? n->op->vjp(g, n, gy, k) : NULL;
            zero = !one;
            row[i] = shaped(g, one, 2, (int64_t[]){1, size});
        }
        if (g->err.status == TARN_OK && !zero) {
            add_part(w, n->in[k], (tarn_examples){.right = tarn_concat(g, (int)w->n, row, 0)});
        }
    }
    return g->err.status == TARN_OK ? TARN_OK : failed(w);
}

static tarn_status backward(walk *w) {
    tarn_graph *g = w->g;
    w->cotangent[w->y->id] = tarn_num(g, 1);
    for (int i = w->y->id; i >= 0; i--) {
        const tarn_node *n = g->nodes[i], *gy = w->cotangent[i];
        if (!w->active[i] || w->active[i] & LEAF || n->nin == 0) {
            continue;
        }
        if (w->part[i].right) {
            TARN_TRY(descend(w, n));
        }
        for (int k = 0; gy && k < n->nin; k++) {
            int id = n->in[k]->id;
            if (!w->active[id]) {
                continue;
            }
            if (w->state[id] == SHARED && w->state[i] != APART) {
                return not_apart(w, n);
            }
            if (w->state[id] == SHARED) {
                TARN_TRY(enter(w, n, k, gy));
                continue;
            }
            if (!n->op->vjp) {
                TARN_RAISE(w->err, "NotDifferentiable", "%s is not differentiable%s%s", n->op->name,
                           n->op->refuses ? ": " : "", n->op->refuses ? n->op->refuses : "");
            }
            const tarn_node *d = n->op->vjp(g, n, gy, k);
            if (d) {
                w->cotangent[id] = w->cotangent[id] ? tarn_add(g, w->cotangent[id], d) : d;
            }
            if (g->err.status != TARN_OK) {
                return failed(w);
            }
        }
    }
    return g->err.status == TARN_OK ? TARN_OK : failed(w);
}

// The norms, in the dtype of what is differentiated by.
static tarn_status in_dtype(walk *w, const tarn_node *x, const tarn_node **out) {
    tarn_graph *g = w->g;
    x = x ? tarn_cast(g, x, w->nwrt ? tarn_dtype_compute(w->wrt[0]->desc.dtype) : TARN_F32) : NULL;
    *out = x ? tarn_broadcast(g, x, 1, &w->n) : NULL;
    return g->err.status == TARN_OK ? TARN_OK : failed(w);
}

static tarn_status answer(walk *w, const tarn_node **squares, const tarn_node **norms) {
    tarn_graph *g = w->g;
    *norms = NULL;
    for (int i = 0; i < w->nwrt; i++) {
        const tarn_node *x = w->wrt[i], *sum, *each;
        if (x->id < w->count && w->cotangent[x->id]) {
            TARN_RAISE(w->err, "NotByExample", "what is differentiated by depends on the batch");
        }
        if (x->id >= w->count || !w->part[x->id].right || numel(x) == 0) {
            squares[i] = tarn_zeros_like(g, x);
            continue;
        }
        squares_of(w, w->part[x->id], numel(x), &sum, &each);
        squares[i] = tarn_cast(g, shaped(g, sum, x->desc.rank, x->desc.shape), tarn_dtype_compute(x->desc.dtype));
        *norms = *norms ? tarn_add(g, *norms, each) : each;
    }
    return in_dtype(w, *norms ? *norms : tarn_num(g, 0), norms);
}

// One example: its gradient is the gradient.
static tarn_status single(walk *w, const tarn_node **squares, const tarn_node **norms) {
    tarn_graph *g = w->g;
    TARN_TRY(tarn_vjp(g, w->y, NULL, w->nwrt, w->wrt, squares, w->err));
    *norms = tarn_num(g, 0);
    for (int i = 0; i < w->nwrt; i++) {
        squares[i] = square(g, squares[i]);
        *norms = tarn_add(g, *norms, tarn_total(g, &tarn_op_sum, squares[i]));
    }
    return in_dtype(w, *norms, norms);
}

tarn_status tarn_example_squares(tarn_graph *g, const tarn_node *y, int nbatch, const tarn_node *const *batch,
                                 int nwrt, const tarn_node *const *wrt, const tarn_node **squares,
                                 const tarn_node **norms, tarn_error *err) {
    walk w = {.g = g, .y = y, .nbatch = nbatch, .batch = batch, .nwrt = nwrt, .wrt = wrt, .err = err};
    if (y->desc.rank != 0) {
        TARN_RAISE(err, "Rank", "expected one number, not a tensor of rank %d", y->desc.rank);
    }
    for (int i = 0; i < nbatch; i++) {
        int64_t n = batch[i]->desc.rank ? batch[i]->desc.shape[0] : 0;
        if (n == 0 || (i > 0 && n != w.n)) {
            TARN_RAISE(err, "ShapeMismatch", "the batch has tensors of %lld and %lld examples along the first dimension",
                       (long long)w.n, (long long)n);
        }
        w.n = n;
    }
    if (nbatch == 0) {
        TARN_RAISE(err, "Argument", "the batch has no tensor");
    }
    if (w.n == 1) {
        return single(&w, squares, norms);
    }
    tarn_arena_init(&w.arena, &g->cx->budget);
    tarn_status s = split_rows(&w);
    s = s == TARN_OK ? backward(&w) : s;
    s = s == TARN_OK ? answer(&w, squares, norms) : s;
    tarn_arena_free(&w.arena);
    return s;
}
