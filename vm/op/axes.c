// SPDX-License-Identifier: Apache-2.0
// Axis tracing: a union-find over the axes of every node; each class keeps the smallest of the
// groups that its links allow. Which groups of parameters may move is read off the classes.
#include "vm/op/axes.h"

#include <stdlib.h>
#include <string.h>

#include "vm/op/rules.h"

static int root_of(const tarn_axes *t, int s) {
    while (t->parent[s] != s) {
        s = t->parent[s];
    }
    return s;
}

static int slot(const tarn_node *a, int d) { return a->id * TARN_MAX_RANK + d; }

void tarn_axes_limit(tarn_axes *t, const tarn_node *a, int d, tarn_group g) {
    int r = root_of(t, slot(a, d));
    if (t->limit[r] > g) {
        t->limit[r] = (unsigned char)g;
    }
}

void tarn_axes_link(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e,
                    tarn_group g) {
    int r = root_of(t, slot(a, d)), s = root_of(t, slot(b, e));
    unsigned char least = t->limit[r] < t->limit[s] ? t->limit[r] : t->limit[s];
    t->parent[s] = r;
    t->limit[r] = least;
    tarn_axes_limit(t, a, d, g);
}

int tarn_axes_find(const tarn_axes *t, const tarn_node *a, int d) {
    return root_of(t, slot(a, d));
}

tarn_group tarn_axes_group(const tarn_axes *t, int class_id) {
    return (tarn_group)t->limit[class_id];
}

// True if operand x has the whole of axis e of y, false if it is stretched along it.
static bool has_axis(const tarn_node *x, const tarn_node *y, int e) {
    int d = e - (y->desc.rank - x->desc.rank);
    return d >= 0 && x->desc.shape[d] == y->desc.shape[e];
}

// Links every operand's axis with the axis of y that it becomes: by `all` where every operand has it,
// by `some` where one is stretched along it.
static void elementwise(tarn_axes *t, const tarn_node *y, tarn_group all, tarn_group some) {
    for (int e = 0; e < y->desc.rank; e++) {
        tarn_group g = all;
        for (int i = 0; i < y->nin; i++) {
            g = has_axis(y->in[i], y, e) ? g : some;
        }
        for (int i = 0; i < y->nin; i++) {
            const tarn_node *x = y->in[i];
            if (has_axis(x, y, e)) {
                tarn_axes_link(t, x, e - (y->desc.rank - x->desc.rank), y, e, g);
            }
        }
    }
}

void tarn_axes_scaled(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_SCALED, TARN_GROUP_PERMUTATION);
}
void tarn_axes_signed(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_SIGNED, TARN_GROUP_PERMUTATION);
}
void tarn_axes_permuted(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_PERMUTATION, TARN_GROUP_PERMUTATION);
}
void tarn_axes_linear(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_LINEAR, TARN_GROUP_PERMUTATION);
}
// With a factor that does not vary along the axis, y is x times a number there.
void tarn_axes_product(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_PERMUTATION, TARN_GROUP_LINEAR);
}
void tarn_axes_quotient(tarn_axes *t, const tarn_node *y) {
    tarn_axes_product(t, y);
    for (int e = 0; e < y->desc.rank; e++) {
        if (has_axis(y->in[1], y, e)) {
            tarn_axes_limit(t, y, e, TARN_GROUP_PERMUTATION);
        }
    }
}
void tarn_axes_none(tarn_axes *t, const tarn_node *y) {
    (void)t;
    (void)y;
}

tarn_status tarn_axes_trace(tarn_graph *g, int nroots, const tarn_node *const *roots, int npinned,
                            const tarn_node *const *pinned, tarn_axes *out, tarn_error *err) {
    memset(out, 0, sizeof *out);
    tarn_arena_init(&out->arena, &g->cx->budget);
    size_t slots = (size_t)g->count * TARN_MAX_RANK;
    out->parent = tarn_arena_take(&out->arena, slots * sizeof *out->parent);
    out->limit = tarn_arena_take(&out->arena, slots);
    unsigned char *use = tarn_arena_take(&out->arena, (size_t)g->count);
    if (!out->parent || !out->limit || !use) {
        tarn_axes_free(out);
        return tarn_raise_nomem(err, "axis tracing", slots);
    }
    memset(use, 0, (size_t)g->count);
    memset(out->limit, TARN_GROUP_LINEAR, slots);
    for (size_t s = 0; s < slots; s++) {
        out->parent[s] = (int)s;
    }
    tarn_graph_mark(g, nroots, roots, use);
    for (int i = 0; i < g->count; i++) {
        const tarn_node *n = g->nodes[i];
        if (!use[i]) {
            continue;
        }
        if (!n->op->axes) {
            tarn_axes_free(out);
            TARN_RAISE(err, "AxisRule", "%s has no axis rule: symmetries cannot be traced through it",
                       n->op->name);
        }
        n->op->axes(out, n);
    }
    for (int i = 0; i < nroots + npinned; i++) {
        const tarn_node *n = i < nroots ? roots[i] : pinned[i - nroots];
        for (int d = 0; d < n->desc.rank; d++) {
            tarn_axes_limit(out, n, d, TARN_GROUP_NONE);
        }
    }
    return TARN_OK;
}

void tarn_axes_free(tarn_axes *t) {
    tarn_arena_free(&t->arena);
    t->parent = NULL;
}

const char *tarn_group_name(tarn_group g) {
    static const char *const names[] = {"none", "permutation", "signed", "scaled", "linear"};
    return names[g];
}

void tarn_axes_kept(tarn_axes *t, const tarn_node *y) {
    const tarn_node *x = y->in[0];
    for (int k = 0; k < x->desc.rank; k++) {
        if (x->desc.shape[k] == y->desc.shape[k]) {
            tarn_axes_link(t, x, k, y, k, TARN_GROUP_LINEAR);
        } else {
            tarn_axes_limit(t, x, k, TARN_GROUP_NONE);
            tarn_axes_limit(t, y, k, TARN_GROUP_NONE);
        }
    }
}
