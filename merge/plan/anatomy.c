// SPDX-License-Identifier: Apache-2.0
// Inner products and counts over a result and what it was made of, in f64: one job per tensor, each
// file read once, whole-model reductions shared by all. From the Gram matrix of offsets follow norms,
// cosines, projections and the fit of the result by the mean offset; counts tell what signs and
// rounding did.
#include "merge/plan/anatomy.h"

#include <string.h>

// ---- what a tensor was merged from ----

static bool same_shape(const tarn_model *a, int64_t i, const tarn_model *b, int64_t j) {
    const tarn_slot *x = &a->slots[i], *y = &b->slots[j];
    return tarn_shape_equal(x->rank, x->shape, y->rank, y->shape);
}

// The only operand that has the tensor; -1: none or several.
static int only_operand(const tarn_model *m, int64_t i) {
    int found = -1;
    for (int k = 0; k < m->matched; k++) {
        if (m->map[k][i] >= 0) {
            if (found >= 0) {
                return -1;
            }
            found = k;
        }
    }
    return found;
}

// The first input below a tensor: it stands for an expression.
static tarn_part first_input(const tarn_model *m, int64_t i) {
    while (m->nin > 0) {
        int k = 0;
        while (k < m->matched && m->map[k][i] < 0) {
            k++;
        }
        if (k == m->matched) {
            break;
        }
        i = m->map[k][i];
        m = m->in[k];
    }
    return (tarn_part){m, i};
}

static bool same_part(const tarn_part *a, const tarn_part *b) {
    return a->model == b->model && a->slot == b->slot;
}

static void add(tarn_anatomy *a, const tarn_model *root, int64_t at, tarn_part p) {
    for (int k = 0; k < a->n; k++) {
        if (same_part(&a->x[k], &p)) {
            return;
        }
    }
    if (!same_shape(root, at, p.model, p.slot)) {
        return;
    }
    if (a->n == TARN_ANATOMY_MODELS) {
        a->skipped = true;
        return;
    }
    a->x[a->n++] = p;
}

// All inputs below, and the base: what a method calls so, or what is subtracted from a point. A walk
// over the tree, given up when it is long.
static void collect(tarn_anatomy *a, const tarn_model *root, int64_t at, const tarn_model *m, int64_t i,
                    int *steps) {
    if (m->nin == 0) {
        add(a, root, at, (tarn_part){m, i});
        return;
    }
    if (++*steps > 4096) {
        a->skipped = true;
        return;
    }
    int base = tarn_method_of(m) ? tarn_method_base(m) : -1;
    if (base < 0 && m->nin == 2 && m->mass == 0 && m->in[1]->mass != 0) {
        base = 1;
    }
    if (base >= 0 && !a->based && m->map[base][i] >= 0) {
        a->base = first_input(m->in[base], m->map[base][i]);
        a->based = same_shape(root, at, a->base.model, a->base.slot);
    }
    for (int k = 0; k < m->matched; k++) {
        if (m->map[k][i] >= 0) {
            collect(a, root, at, m->in[k], m->map[k][i], steps);
        }
    }
}

static void find(tarn_anatomy *a, const tarn_model *root, int64_t at) {
    const tarn_model *m = root;
    int64_t i = at;
    for (int k; m->nin > 0 && (k = only_operand(m, i)) >= 0 &&
                same_shape(root, at, m->in[k], m->map[k][i]);) {
        i = m->map[k][i];
        m = m->in[k];
    }
    const tarn_method *method = m->nin > 0 ? tarn_method_of(m) : NULL;
    int base = method ? tarn_method_base(m) : -1, steps = 0;
    if (!method) {
        collect(a, root, at, m, i, &steps);
    }
    for (int k = 0; method && k < m->matched; k++) {
        tarn_part p = {m->in[k], m->map[k][i]};
        if (p.slot >= 0 && k == base) {
            a->base = p;
            a->based = same_shape(root, at, p.model, p.slot);
        } else if (p.slot >= 0) {
            add(a, root, at, p);
        }
    }
    for (int k = 0; a->based && k < a->n; k++) {
        if (same_part(&a->x[k], &a->base)) {
            memmove(&a->x[k], &a->x[k + 1], (size_t)(--a->n - k) * sizeof a->x[0]);
        }
    }
    a->skipped = a->skipped || !tarn_dtype_is_float(root->slots[at].dtype) || a->n + a->based < 2;
}

// ---- the expressions ----

typedef struct {
    tarn_model *m, *stored;
    tarn_anatomy *list;
    bool exact;
    const tarn_plan_options *o;
} survey;

enum { CELLS = 512 };

typedef struct {
    tarn_graph *g;
    int n;
    const tarn_node *list[CELLS];
} cells;

static void put(cells *c, const tarn_node *value) {
    if (c->n < CELLS) {
        c->list[c->n++] = tarn_cast(c->g, value, TARN_F64);
    }
}

static void put_count(cells *c, const tarn_node *yes) {
    put(c, tarn_total(c->g, &tarn_op_sum, tarn_cast(c->g, yes, TARN_F64)));
}

static const tarn_node *both(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    return tarn_binary(g, &tarn_op_logical_and, a, b);
}

static const tarn_node *either(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    return a ? tarn_binary(g, &tarn_op_logical_or, a, b) : b;
}

static const tarn_node *value_of(tarn_expand *e, const tarn_part *p) {
    return tarn_cast(e->graph, tarn_model_expr(e, (tarn_model *)(uintptr_t)p->model, p->slot), TARN_F64);
}

static tarn_dtype dtype_of(const survey *w, int64_t i) {
    const tarn_slot *s = &w->m->slots[i];
    return w->stored ? w->stored->slots[tarn_model_find(w->stored, s->name, s->len)].dtype
           : w->o && w->o->has_dtype ? w->o->dtype : s->dtype;
}

// The result as it is stored, and as the plan makes it (NULL when nobody asked).
static const tarn_node *result_of(tarn_expand *e, const survey *w, int64_t i, const tarn_node **exact) {
    tarn_graph *g = e->graph;
    const tarn_slot *s = &w->m->slots[i];
    *exact = NULL;
    if (w->exact || !w->stored) {
        *exact = tarn_model_slot(e, w->m, i);
    }
    if (w->stored) {
        int64_t at = tarn_model_find(w->stored, s->name, s->len);
        *exact = *exact ? tarn_cast(g, *exact, TARN_F64) : NULL;
        return value_of(e, &(tarn_part){w->stored, at});
    }
    const tarn_node *r = tarn_cast(g, *exact, dtype_of(w, i));
    *exact = tarn_cast(g, *exact, TARN_F64);
    return tarn_cast(g, r, TARN_F64);
}

// `still`: the base in the dtype of the output, which is what an entry that was left alone comes to.
static void put_counts(cells *c, const tarn_anatomy *a, const tarn_node *const *v, const tarn_node *base,
                       const tarn_node *still, const tarn_node *result, const tarn_node *exact) {
    tarn_graph *g = c->g;
    const tarn_node *zero = tarn_num(g, 0), *up = NULL, *down = NULL;
    const tarn_node *delta = a->based ? tarn_sub(g, result, still) : NULL;
    for (int k = 0; k < a->n && a->based; k++) {
        const tarn_node *t = v[1 + k];
        const tarn_node *rises = tarn_gt(g, t, zero), *falls = tarn_lt(g, t, zero);
        put_count(c, either(g, rises, falls));
        put_count(c, either(g, both(g, rises, tarn_gt(g, delta, zero)),
                            both(g, falls, tarn_lt(g, delta, zero))));
        up = either(g, up, rises);
        down = either(g, down, falls);
    }
    if (a->based) {
        put_count(c, both(g, up, down));
        put_count(c, either(g, up, down));
        put_count(c, tarn_ne(g, result, still));
    }
    if (exact) {
        const tarn_node *off = tarn_sub(g, result, exact);
        put(c, tarn_dot(g, off, off));
        put_count(c, tarn_ne(g, result, exact));
        if (a->based) {
            put_count(c, tarn_ne(g, exact, base));
            put_count(c, both(g, tarn_ne(g, exact, base), tarn_eq(g, result, still)));
        }
    }
}

static const tarn_node *build(tarn_expand *e, void *arg, int64_t i) {
    survey *w = arg;
    tarn_anatomy *a = &w->list[i];
    tarn_graph *g = e->graph;
    cells *c = tarn_arena_take(&g->arena, sizeof *c);
    if (!c) {
        tarn_raise_nomem(&g->err, "a report", sizeof *c);
        return NULL;
    }
    c->g = g;
    c->n = 0;
    const tarn_node *v[TARN_ANATOMY_MODELS + 2], *x[TARN_ANATOMY_MODELS], *exact;
    const tarn_node *result = result_of(e, w, i, &exact), *base = a->based ? value_of(e, &a->base) : NULL;
    a->d = 0;
    if (base) {
        v[a->d++] = base;
    }
    for (int k = 0; k < a->n; k++) {
        x[k] = value_of(e, &a->x[k]);
        v[a->d++] = base ? tarn_sub(g, x[k], base) : x[k];
    }
    v[a->d++] = base ? tarn_sub(g, result, base) : result;
    for (int p = 0; p < a->d; p++) {
        for (int q = p; q < a->d; q++) {
            put(c, tarn_dot(g, v[p], v[q]));
        }
    }
    for (int p = 0; p < a->d; p++) {
        put(c, tarn_total(g, &tarn_op_sum, v[p]));
    }
    for (int k = 0; k < a->n; k++) {
        put_count(c, tarn_ne(g, result, x[k]));
    }
    const tarn_node *still = base ? tarn_cast(g, tarn_cast(g, base, dtype_of(w, i)), TARN_F64) : NULL;
    put_counts(c, a, v, base, still, result, exact);
    a->count = c->n;
    return tarn_stack(g, c->n, c->list);
}

// ---- running ----

static tarn_status take(tarn_context *cx, tarn_anatomy *a, const tarn_tensor *t, tarn_error *err) {
    a->v = tarn_alloc(&cx->budget, (size_t)a->count * sizeof *a->v + 1);
    if (!a->v) {
        return tarn_raise_nomem(err, "a report", (size_t)a->count * sizeof *a->v);
    }
    for (int k = 0; k < a->count; k++) {
        a->v[k] = tarn_tensor_get(t, k);
    }
    return TARN_OK;
}

// What is stored under the name of slot i has its shape and can be computed with.
static bool is_stored(const survey *w, int64_t i) {
    const tarn_slot *s = &w->m->slots[i];
    int64_t at = tarn_model_find(w->stored, s->name, s->len);
    return at >= 0 && same_shape(w->m, i, w->stored, at) && tarn_dtype_is_float(w->stored->slots[at].dtype);
}

static tarn_status run(tarn_plan *p, survey *w, tarn_error *err) {
    for (int64_t i = 0; i < w->m->n; i++) {
        tarn_anatomy *a = &w->list[i];
        find(a, w->m, i);
        if (!a->skipped && tarn_slot_numel(&w->m->slots[i]) > 0 && (!w->stored || is_stored(w, i))) {
            TARN_TRY(tarn_plan_add(p, &w->m->slots[i], build, w, i, err));
        }
    }
    p->n = p->count;
    TARN_TRY(tarn_plan_hidden(p, err));
    tarn_stream_plan total;
    TARN_TRY(tarn_stream_plan_of(p->cx, p->count, p->jobs, &total, NULL, err));
    size_t bytes = (size_t)p->count * sizeof(tarn_tensor) + 1;
    tarn_tensor *t = tarn_alloc_zero(&p->cx->budget, bytes);
    if (!t) {
        return tarn_raise_nomem(err, "a report", bytes);
    }
    tarn_progress_begin(p->cx, "comparing", total.reads);
    tarn_status s = tarn_stream_load(p->cx, p->count, p->jobs, t, err);
    tarn_progress_end(p->cx);
    for (int64_t k = 0; k < p->n; k++) {
        s = s == TARN_OK ? take(p->cx, &w->list[p->slot[k]], &t[k], err) : s;
        tarn_tensor_release(&t[k]);
    }
    tarn_free(&p->cx->budget, t, bytes);
    return s;
}

void tarn_anatomy_free(tarn_context *cx, const tarn_model *m, tarn_anatomy *list) {
    for (int64_t i = 0; list && i < m->n; i++) {
        tarn_free(&cx->budget, list[i].v, (size_t)list[i].count * sizeof *list[i].v + 1);
    }
    tarn_free(&cx->budget, list, ((size_t)m->n + 1) * sizeof *list);
}

tarn_status tarn_model_anatomy(tarn_context *cx, tarn_model *m, const tarn_plan_options *o,
                               tarn_model *stored, bool exact, tarn_anatomy **list, tarn_error *err) {
    size_t bytes = ((size_t)m->n + 1) * sizeof **list;
    unsigned char *none = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    tarn_anatomy *all = tarn_alloc_zero(&cx->budget, bytes);
    tarn_plan *p = NULL;
    tarn_status s = none && all ? TARN_OK : tarn_raise_nomem(err, "a report", bytes);
    s = s == TARN_OK ? tarn_plan_make(cx, m, none, o, &p, err) : s;  // empty: holds the jobs made here
    tarn_free(&cx->budget, none, (size_t)m->n + 1);
    survey w = {m, stored, all, exact, o};
    s = s == TARN_OK ? run(p, &w, err) : s;
    tarn_plan_free(p);
    if (s != TARN_OK && all) {
        tarn_anatomy_free(cx, m, all);
        return s;
    }
    *list = all;
    return s;
}
