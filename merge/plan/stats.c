// SPDX-License-Identifier: Apache-2.0
// Numbers of every tensor that a user's method asks for before it decides: expressions over the
// operands of a map node, computed for all tensors in one run.
#include <string.h>

#include "merge/plan/plan.h"

typedef struct {
    tarn_model *m;
    tarn_graph *graph;
    const tarn_template *const *roots;  // [slots]
    const int *count;                   // [slots]
} wanted;

// The expressions of slot i one after the other, as a vector.
static const tarn_node *build(tarn_expand *e, void *arg, int64_t i) {
    const wanted *w = arg;
    const tarn_node **cell = tarn_arena_take(&e->graph->arena, (size_t)w->count[i] * sizeof *cell);
    if (!cell) {
        tarn_raise_nomem(&e->graph->err, "merge.map", 0);
        return NULL;
    }
    for (int k = 0; k < w->count[i]; k++) {
        const tarn_node *x = tarn_template_import(e, w->m, i, w->graph, &w->roots[i][k]);
        if (!x) {
            return NULL;
        }
        int64_t n = tarn_desc_numel(&x->desc);
        cell[k] = tarn_reshape(e->graph, tarn_cast(e->graph, x, TARN_F64), 1, &n);
    }
    return tarn_concat(e->graph, w->count[i], cell, 0);
}

static tarn_status collect(tarn_plan *p, const wanted *w, tarn_tensor *results, tarn_error *err) {
    for (int64_t i = 0; i < w->m->n; i++) {
        if (w->count[i] > 0) {
            TARN_TRY(tarn_plan_add(p, &w->m->slots[i], build, (void *)(uintptr_t)w, i, err));
        }
    }
    p->n = p->count;
    TARN_TRY(tarn_plan_hidden(p, err));
    size_t bytes = (size_t)p->count * sizeof(tarn_tensor) + 1;
    tarn_tensor *t = tarn_alloc_zero(&p->cx->budget, bytes);
    if (!t) {
        return tarn_raise_nomem(err, "merge.map", bytes);
    }
    tarn_status s = tarn_stream_load(p->cx, p->count, p->jobs, t, err);
    for (int64_t k = 0; k < p->n && s == TARN_OK; k++) {
        results[p->slot[k]] = t[k];
    }
    tarn_free(&p->cx->budget, t, bytes);
    return s;
}

tarn_status tarn_model_stats(tarn_context *cx, tarn_model *m, tarn_graph *graph,
                             const tarn_template *const *roots, const int *count,
                             tarn_tensor *results, tarn_error *err) {
    unsigned char *none = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    if (!none) {
        return tarn_raise_nomem(err, "merge.map", (size_t)m->n);
    }
    tarn_plan *p = NULL;
    tarn_status s = tarn_plan_make(cx, m, none, NULL, &p, err);  // empty: holds the jobs made here
    tarn_free(&cx->budget, none, (size_t)m->n + 1);
    TARN_TRY(s);
    wanted w = {m, graph, roots, count};
    s = collect(p, &w, results, err);
    tarn_plan_free(p);
    return s;
}
