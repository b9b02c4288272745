// SPDX-License-Identifier: Apache-2.0
// Reverse and forward mode over a graph. Nodes are in topological order by id, so one descending
// (ascending) walk over what matters is enough. A fused row that lacks a rule stands for the nodes of
// its decomposition: those between its operands and its value are walked in its place, and rows
// among them that lack it as well are taken apart in turn.
#include "vm/grad/grad.h"

#include <stdlib.h>
#include <string.h>

// Marks nodes first … count - 1 that have a marked operand.
static void spread(const tarn_graph *g, int first, int count, unsigned char *a) {
    for (int i = first; i < count; i++) {
        const tarn_node *n = g->nodes[i];
        for (int k = 0; k < n->nin && !a[i]; k++) {
            a[i] = a[n->in[k]->id];
        }
    }
}

// active[id]: depends on one of wrt.
static unsigned char *depends(const tarn_graph *g, int count, int nwrt,
                              const tarn_node *const *wrt) {
    unsigned char *a = calloc((size_t)count + 1, 1);
    if (!a) {
        return NULL;
    }
    for (int i = 0; i < nwrt; i++) {
        if (wrt[i]->id < count) {
            a[wrt[i]->id] = 1;
        }
    }
    spread(g, 0, count, a);
    return a;
}

static tarn_status failed(const tarn_graph *g, tarn_error *err) {
    if (err) {
        *err = g->err;
    }
    return g->err.status;
}

static tarn_status not_differentiable(const tarn_node *n, tarn_error *err) {
    TARN_RAISE(err, "NotDifferentiable", "%s is not differentiable%s%s", n->op->name,
               n->op->refuses ? ": " : "", n->op->refuses ? n->op->refuses : "");
}

static tarn_status shapes_differ(const tarn_graph *g, const char *what, const tarn_desc *want,
                                 const tarn_desc *got, tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &g->cx->budget);
    tarn_text_puts(&t, "expected ");
    tarn_shape_show(&t, want->rank, want->shape);
    tarn_text_puts(&t, ", got ");
    tarn_shape_show(&t, got->rank, got->shape);
    tarn_raise(err, "ShapeMismatch", "%s: %s", what, t.data ? t.data : "the shapes differ");
    tarn_text_free(&t);
    return TARN_ERROR;
}

static tarn_status backward(tarn_graph *g, const tarn_node *y, const unsigned char *active,
                            const unsigned char *stop, const tarn_node **cotangent,
                            tarn_error *err);

static void accumulate(tarn_graph *g, const tarn_node **cotangent, int id, const tarn_node *part) {
    if (part) {
        cotangent[id] = cotangent[id] ? tarn_add(g, cotangent[id], part) : part;
    }
}

// The cotangents of what n is made of, by way of its decomposition. The walk ends at the nodes before n:
// what lies below them is the caller's. These are not only its operands: a view of a view among the new
// nodes may have become a view of what lies below an operand.
static tarn_status backward_apart(tarn_graph *g, const tarn_node *n, const unsigned char *active,
                                  const tarn_node **cotangent, tarn_error *err) {
    const tarn_node *d = n->op->decompose(g, n);
    if (!d) {
        return failed(g, err);
    }
    int count = (d->id > n->id ? d->id : n->id) + 1;
    unsigned char *stop = calloc((size_t)count, 1), *inside = calloc((size_t)count, 1);
    const tarn_node **part = calloc((size_t)count, sizeof *part);
    tarn_status s = stop && part && inside ? TARN_OK
                                           : tarn_raise_nomem(err, "grad", (size_t)count * 8);
    if (s == TARN_OK) {
        memcpy(stop, active, (size_t)n->id);
        memcpy(inside, active, (size_t)n->id);
        spread(g, n->id, count, inside);
        part[d->id] = cotangent[n->id];
        s = backward(g, d, inside, stop, part, err);
    }
    for (int i = 0; s == TARN_OK && i < n->id; i++) {
        accumulate(g, cotangent, i, part[i]);
    }
    free(stop);
    free(inside);
    free((void *)part);
    return s;
}

// stop: nodes whose operands are not walked to; NULL: none.
static tarn_status backward(tarn_graph *g, const tarn_node *y, const unsigned char *active,
                            const unsigned char *stop, const tarn_node **cotangent,
                            tarn_error *err) {
    for (int i = y->id; i >= 0; i--) {
        const tarn_node *n = g->nodes[i];
        if (!cotangent[i] || !active[i] || n->nin == 0 || (stop && stop[i])) {
            continue;
        }
        bool moves = false;
        for (int k = 0; k < n->nin; k++) {
            moves = moves || active[n->in[k]->id];
        }
        if (moves && !n->op->vjp && n->op->decompose) {
            TARN_TRY(backward_apart(g, n, active, cotangent, err));
            continue;
        }
        if (moves && !n->op->vjp) {
            return not_differentiable(n, err);
        }
        // The last first: the slope of a layer's weights, after which what the layer was given may go.
        for (int k = n->nin - 1; k >= 0; k--) {
            int id = n->in[k]->id;
            if (active[id]) {
                accumulate(g, cotangent, id, n->op->vjp(g, n, cotangent[i], k));
            }
            if (g->err.status != TARN_OK) {
                return failed(g, err);
            }
        }
    }
    return g->err.status == TARN_OK ? TARN_OK : failed(g, err);
}

tarn_status tarn_vjp(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int nwrt,
                     const tarn_node *const *wrt, const tarn_node **out, tarn_error *err) {
    if (!gy && y->desc.rank != 0) {
        TARN_RAISE(err, "Rank", "grad: the function must yield one number, not a tensor of rank %d",
                   y->desc.rank);
    }
    if (gy && !tarn_shape_equal(gy->desc.rank, gy->desc.shape, y->desc.rank, y->desc.shape)) {
        return shapes_differ(g, "vjp: the cotangent", &y->desc, &gy->desc, err);
    }
    int count = y->id + 1;
    unsigned char *active = depends(g, count, nwrt, wrt);
    const tarn_node **cotangent = calloc((size_t)count, sizeof *cotangent);
    tarn_status s = active && cotangent ? TARN_OK : tarn_raise_nomem(err, "grad", (size_t)count * 8);
    if (s == TARN_OK) {
        cotangent[y->id] = gy ? gy : tarn_num(g, 1);
        s = backward(g, y, active, NULL, cotangent, err);
    }
    for (int i = 0; i < nwrt && s == TARN_OK; i++) {
        const tarn_node *c = wrt[i]->id < count ? cotangent[wrt[i]->id] : NULL;
        out[i] = c ? c : tarn_zeros_like(g, wrt[i]);
        s = out[i] ? TARN_OK : failed(g, err);
    }
    free(active);
    free((void *)cotangent);
    return s;
}

// Rules may leave a tangent in a smaller shape that would be broadcast, or in a wider dtype.
static const tarn_node *whole_tangent(tarn_graph *g, const tarn_node *n, const tarn_node *d) {
    if (!d) {
        return NULL;
    }
    tarn_dtype t = tarn_dtype_compute(n->desc.dtype);
    return tarn_broadcast(g, d->desc.dtype == t ? d : tarn_cast(g, d, t), n->desc.rank,
                          n->desc.shape);
}

// The tangent of n by way of its decomposition, given those of the nodes before it (see backward_apart).
static tarn_status forward_apart(tarn_graph *g, const tarn_node *n, const tarn_node *const *tangent,
                                 const tarn_node **out, tarn_error *err) {
    const tarn_node *y = n->op->decompose(g, n);
    size_t bytes = (size_t)n->id * 2 * sizeof *tangent;
    const tarn_node **wrt = malloc(bytes + 1);
    if (!wrt) {
        return tarn_raise_nomem(err, "jvp", bytes);
    }
    const tarn_node **dx = wrt + n->id;
    int nwrt = 0;
    for (int i = 0; i < n->id; i++) {
        if (tangent[i]) {
            wrt[nwrt] = g->nodes[i];
            dx[nwrt++] = whole_tangent(g, g->nodes[i], tangent[i]);
        }
    }
    tarn_status s = g->err.status == TARN_OK ? tarn_jvp(g, y, nwrt, wrt, dx, out, err)
                                             : failed(g, err);
    free((void *)wrt);
    return s;
}

tarn_status tarn_jvp(tarn_graph *g, const tarn_node *y, int nwrt, const tarn_node *const *wrt,
                     const tarn_node *const *dx, const tarn_node **out, tarn_error *err) {
    for (int i = 0; i < nwrt; i++) {
        const tarn_desc *d = dx[i] ? &dx[i]->desc : &wrt[i]->desc;
        if (!tarn_shape_equal(d->rank, d->shape, wrt[i]->desc.rank, wrt[i]->desc.shape)) {
            return shapes_differ(g, "jvp: a tangent", &wrt[i]->desc, d, err);
        }
    }
    int count = y->id + 1;
    unsigned char *active = depends(g, count, nwrt, wrt);
    unsigned char *use = calloc((size_t)g->count + 1, 1);
    const tarn_node **tangent = calloc((size_t)count, sizeof *tangent);
    tarn_status s = active && use && tangent ? TARN_OK
                                             : tarn_raise_nomem(err, "jvp", (size_t)count * 8);
    if (s == TARN_OK) {
        tarn_graph_mark(g, 1, &y, use);
        for (int i = 0; i < nwrt; i++) {
            if (wrt[i]->id < count) {
                tangent[wrt[i]->id] = dx[i];
            }
        }
    }
    for (int i = 0; i < count && s == TARN_OK; i++) {
        const tarn_node *n = g->nodes[i];
        if (!use[i] || !active[i] || n->nin == 0 || tangent[i]) {
            continue;
        }
        const tarn_node **d = malloc((size_t)n->nin * sizeof *d);
        bool any = false;
        for (int k = 0; d && k < n->nin; k++) {
            d[k] = tangent[n->in[k]->id];
            any = any || d[k];
        }
        if (!d) {
            s = tarn_raise_nomem(err, "jvp", (size_t)n->nin * sizeof *d);
        } else if (any && !n->op->jvp && n->op->decompose) {
            s = forward_apart(g, n, tangent, &tangent[i], err);
        } else if (any && !n->op->jvp) {
            s = not_differentiable(n, err);
        } else if (any) {
            tangent[i] = whole_tangent(g, n, n->op->jvp(g, n, d));
            s = g->err.status == TARN_OK ? TARN_OK : failed(g, err);
        }
        free((void *)d);
    }
    if (s == TARN_OK) {
        *out = tangent[y->id] ? tangent[y->id] : tarn_zeros_like(g, y);
        s = *out ? TARN_OK : failed(g, err);
    }
    free(active);
    free(use);
    free((void *)tangent);
    return s;
}
