// SPDX-License-Identifier: Apache-2.0
// Per-example derivatives. What depends on the batch has a cotangent that is apart by example
// already, so the walk is the ordinary one until it comes to an operand that all examples share.
// There the gradients of the examples are kept as factors (factors.h). Any row that broadcasts the
// operand does so as well if the operand is stretched along the examples first, which gives a rule
// for element-wise rows and views. Where the first axis goes is read off the rows' axis rules.
// Fused rows without a rule are taken apart first.
#include "vm/grad/example.h"

#include <stdlib.h>
#include <string.h>

#include "vm/grad/factors.h"
#include "vm/grad/grad.h"
#include "vm/op/axes.h"

// Of a node: whether it depends on the batch, and still has the examples along its first axis.
enum { SHARED, APART, JOINED };
// Of a node: whether it depends on what is differentiated by, or is it.
enum { DEPENDS = 1, LEAF = 2 };

typedef struct {
    tarn_by_example by;
    const tarn_node *y;
    int nbatch, nwrt;
    const tarn_node *const *batch, *const *wrt;
    int count;                    // nodes up to y
    tarn_arena arena;             // of what follows
    unsigned char *state;         // [count]
    unsigned char *active;        // [count]
    const tarn_node **cotangent;  // [count] of nodes that depend on the batch
    tarn_examples *part;          // [count] of those that do not; right NULL: none
    tarn_axes axes;               // of one row at a time
    tarn_error *err;
} walk;

static tarn_status failed(const walk *w) {
    if (w->err) {
        *w->err = w->by.g->err;
    }
    return w->by.g->err.status;
}

static tarn_status not_apart(const walk *w, const tarn_node *n) {
    TARN_RAISE(w->err, "NotByExample", "the gradients of single examples have no closed form at %s",
               n->op->name);
}

// ---- where the examples are ----

// Whether n has the examples along its first axis if operand k has.
static bool leads(walk *w, const tarn_node *n, int k) {
    if (n->desc.rank == 0 || n->in[k]->desc.rank == 0 || n->desc.shape[0] % w->by.n != 0 ||
        n->desc.shape[0] == 0) {
        return false;
    }
    return n->op->same_order ||
           (n->desc.shape[0] == n->in[k]->desc.shape[0] && tarn_axes_linked(&w->axes, n, k, 0, 0));
}

// Operands that were repeated for each example (a class token before it is joined to the others).
static void repeated(walk *w, const tarn_node *n) {
    for (int k = 0; k < n->nin; k++) {
        const tarn_node *x = n->in[k];
        if (w->state[x->id] == SHARED && x->nin > 0 && w->active[x->id] &&
            x->desc.rank == n->desc.rank && leads(w, n, k)) {
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
        const tarn_node *n = w->by.g->nodes[i];
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

// The gradient by operand k stretched along the examples: the row n again, with an input in its
// place.
static const tarn_node *by_stretching(walk *w, const tarn_node *n, int k, const tarn_node *gy,
                                      const tarn_desc *d) {
    tarn_graph *g = w->by.g;
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
    memo[x->id] = tarn_broadcast(g, tarn_cast(g, tarn_reshape(g, n->in[k], d->rank, one), d->dtype),
                                 d->rank, d->shape);
    e = memo[x->id] ? tarn_node_rebuild(g, e, memo) : NULL;
    free((void *)memo);
    int64_t size = numel(n->in[k]), rows[3] = {w->by.n, d->shape[0] / w->by.n, size}, axis = 1;
    e = tarn_reshape(g, e, 3, rows);
    e = rows[1] == 1 ? e : tarn_reduce(g, &tarn_op_sum, e, 1, &axis, true);
    return tarn_reshape(g, e, 2, (int64_t[]){w->by.n, size});
}

static bool has_rule(walk *w, const tarn_node *n, int k) {
    tarn_desc d;
    tarn_examples e = {0};
    tarn_error kept = w->by.g->err;
    bool known = n->op->examples && n->op->examples(w->by.g, n, n, k, w->by.n, &e);
    w->by.g->err = kept;
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
    w->count = w->by.g->count;
    size_t n = (size_t)w->count;
    w->state = tarn_arena_take(&w->arena, n);
    w->active = tarn_arena_take(&w->arena, n);
    w->cotangent = tarn_arena_take(&w->arena, n * sizeof *w->cotangent);
    w->part = tarn_arena_take(&w->arena, n * sizeof *w->part);
    if (!w->state || !w->active || !w->cotangent || !w->part) {
        return tarn_raise_nomem(w->err, "grad", n * sizeof *w->part);
    }
    tarn_axes_free(&w->axes);
    TARN_TRY(tarn_axes_open(&w->axes, w->by.g, w->err));
    memset((void *)w->cotangent, 0, n * sizeof *w->cotangent);
    memset(w->part, 0, n * sizeof *w->part);
    return TARN_OK;
}

// y with such rows replaced by what they are made of, until there are none.
static tarn_status split_rows(walk *w) {
    for (bool again = true; again;) {
        tarn_arena_free(&w->arena);
        tarn_arena_init(&w->arena, &w->by.g->cx->budget);
        TARN_TRY(make_room(w));
        find_examples(w);
        if (w->axes.failed) {
            return tarn_raise_nomem(w->err, "grad", (size_t)w->axes.room * sizeof *w->axes.term);
        }
        size_t count = (size_t)w->count;
        unsigned char *use = tarn_arena_take(&w->arena, count);
        const tarn_node **memo = tarn_arena_take(&w->arena, count * sizeof *memo);
        if (!use || !memo) {
            return tarn_raise_nomem(w->err, "grad", count);
        }
        memset(use, 0, count);
        memset((void *)memo, 0, count * sizeof *memo);
        tarn_graph_mark(w->by.g, 1, &w->y, use);
        again = false;
        for (int i = 0; i < w->count; i++) {
            const tarn_node *n = w->by.g->nodes[i];
            if (use[i] && must_split(w, n)) {
                memo[i] = n->op->decompose(w->by.g, n);
                again = true;
                if (!memo[i]) {
                    return failed(w);
                }
                break;  // what follows is made of it
            }
        }
        if (again && !(w->y = tarn_node_rebuild(w->by.g, w->y, memo))) {
            return failed(w);
        }
    }
    return TARN_OK;
}

// ---- the walk ----

static void add_part(walk *w, const tarn_node *x, tarn_examples e) {
    if (e.right) {
        w->part[x->id] = tarn_examples_sum(&w->by, w->part[x->id], e, numel(x));
    }
}

// From a row that has the examples apart to an operand that all of them share.
static tarn_status enter(walk *w, const tarn_node *n, int k, const tarn_node *gy) {
    tarn_examples e = {0};
    tarn_desc d;
    if (n->op->examples && n->op->examples(w->by.g, n, gy, k, w->by.n, &e)) {
        if (e.index) {
            e.index = tarn_cast(w->by.g, e.index, TARN_I64);
        }
    } else if (can_stretch(n, k, &d)) {
        e = (tarn_examples){.right = by_stretching(w, n, k, gy, &d)};
    } else {
        return not_apart(w, n);
    }
    add_part(w, n->in[k], e);
    return w->by.g->err.status == TARN_OK ? TARN_OK : failed(w);
}

// Below: what does not depend on the batch. Views keep the factors; else example by example.
static tarn_status descend(walk *w, const tarn_node *n) {
    tarn_graph *g = w->by.g;
    tarn_examples p = w->part[n->id];
    bool view = n->op->cls == TARN_CLASS_VIEW && numel(n) == numel(n->in[0]);
    if (view && n->op->same_order) {
        add_part(w, n->in[0], tarn_examples_product(&w->by, p, numel(n)));
        return g->err.status == TARN_OK ? TARN_OK : failed(w);
    }
    if (view && n->desc.rank == 2 && tarn_axes_linked(&w->axes, n, 0, 0, 1) && tarn_axes_linked(&w->axes, n, 0, 1, 0)) {
        p = tarn_examples_product(&w->by, p, numel(n));
        if (p.left && p.left->desc.shape[3] == n->desc.shape[0] && p.left->desc.shape[1] == 1) {
            add_part(w, n->in[0], (tarn_examples){.left = p.right, .right = p.left});
            return g->err.status == TARN_OK ? TARN_OK : failed(w);
        }
    }
    const tarn_node *e = tarn_examples_dense(&w->by, p, numel(n));
    for (int k = 0; k < n->nin && e; k++) {
        if (!w->active[n->in[k]->id]) {
            continue;
        }
        int64_t size = numel(n->in[k]);
        const tarn_node **row = tarn_arena_take(&w->arena, (size_t)w->by.n * sizeof *row);
        if (!row || !n->op->vjp) {
            return row ? not_apart(w, n)
                       : tarn_raise_nomem(w->err, "grad", (size_t)w->by.n * sizeof *row);
        }
        bool zero = false;
        for (int64_t i = 0; i < w->by.n && !zero; i++) {
            const tarn_node *gy =
                tarn_reshape(g, tarn_slice(g, e, 0, i, 1), n->desc.rank, n->desc.shape);
            const tarn_node *one = gy ? n->op->vjp(g, n, gy, k) : NULL;
            zero = !one;
            row[i] = one ? tarn_reshape(g, one, 2, (int64_t[]){1, size}) : NULL;
        }
        if (g->err.status == TARN_OK && !zero) {
            add_part(w, n->in[k], (tarn_examples){.right = tarn_concat(g, (int)w->by.n, row, 0)});
        }
    }
    return g->err.status == TARN_OK ? TARN_OK : failed(w);
}

static tarn_status backward(walk *w) {
    tarn_graph *g = w->by.g;
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
    tarn_graph *g = w->by.g;
    x = x ? tarn_cast(g, x, w->nwrt ? tarn_dtype_compute(w->wrt[0]->desc.dtype) : TARN_F32) : NULL;
    *out = x ? tarn_broadcast(g, x, 1, &w->by.n) : NULL;
    return g->err.status == TARN_OK ? TARN_OK : failed(w);
}

static tarn_status answer(walk *w, const tarn_node **squares, const tarn_node **norms) {
    tarn_graph *g = w->by.g;
    *norms = NULL;
    for (int i = 0; i < w->nwrt; i++) {
        const tarn_node *x = w->wrt[i], *sum = NULL, *each = NULL;
        if (x->id < w->count && w->cotangent[x->id]) {
            TARN_RAISE(w->err, "NotByExample", "what is differentiated by depends on the batch");
        }
        if (x->id >= w->count || !w->part[x->id].right || numel(x) == 0) {
            if (squares) {
                squares[i] = tarn_zeros_like(g, x);
            }
            continue;
        }
        tarn_examples_squares(&w->by, w->part[x->id], numel(x), squares ? &sum : NULL, &each);
        if (squares) {
            squares[i] = tarn_cast(g, tarn_reshape(g, sum, x->desc.rank, x->desc.shape),
                                   tarn_dtype_compute(x->desc.dtype));
        }
        *norms = *norms ? tarn_add(g, *norms, each) : each;
    }
    return in_dtype(w, *norms ? *norms : tarn_num(g, 0), norms);
}

// One example: its gradient is the gradient.
static tarn_status single(walk *w, const tarn_node **squares, const tarn_node **norms) {
    tarn_graph *g = w->by.g;
    const tarn_node **grad = tarn_arena_take(&w->arena, (size_t)w->nwrt * sizeof *grad + 1);
    if (!grad) {
        return tarn_raise_nomem(w->err, "grad", (size_t)w->nwrt * sizeof *grad);
    }
    TARN_TRY(tarn_vjp(g, w->y, NULL, w->nwrt, w->wrt, grad, w->err));
    *norms = tarn_num(g, 0);
    for (int i = 0; i < w->nwrt; i++) {
        grad[i] = tarn_mul(g, grad[i], grad[i]);
        *norms = tarn_add(g, *norms, tarn_total(g, &tarn_op_sum, grad[i]));
    }
    if (squares) {
        memcpy((void *)squares, (void *)grad, (size_t)w->nwrt * sizeof *grad);
    }
    return in_dtype(w, *norms, norms);
}

tarn_status tarn_example_squares(tarn_graph *g, const tarn_node *y, int nbatch,
                                 const tarn_node *const *batch, int nwrt,
                                 const tarn_node *const *wrt, const tarn_node **squares,
                                 const tarn_node **norms, tarn_error *err) {
    walk w = {.by = {.g = g},
              .y = y,
              .nbatch = nbatch,
              .batch = batch,
              .nwrt = nwrt,
              .wrt = wrt,
              .err = err};
    if (y->desc.rank != 0) {
        TARN_RAISE(err, "Rank", "expected one number, not a tensor of rank %d", y->desc.rank);
    }
    for (int i = 0; i < nbatch; i++) {
        int64_t n = batch[i]->desc.rank ? batch[i]->desc.shape[0] : 0;
        if (n == 0 || (i > 0 && n != w.by.n)) {
            TARN_RAISE(err, "ShapeMismatch",
                       "the batch has tensors of %lld and %lld examples along the first dimension",
                       (long long)w.by.n, (long long)n);
        }
        w.by.n = n;
    }
    if (nbatch == 0) {
        TARN_RAISE(err, "Argument", "the batch has no tensor");
    }
    w.by.arena = &w.arena;
    tarn_arena_init(&w.arena, &g->cx->budget);
    tarn_status s = w.by.n == 1 ? single(&w, squares, norms) : split_rows(&w);
    s = s == TARN_OK && w.by.n > 1 ? backward(&w) : s;
    s = s == TARN_OK && w.by.n > 1 ? answer(&w, squares, norms) : s;
    tarn_axes_free(&w.axes);
    tarn_arena_free(&w.arena);
    return s;
}
