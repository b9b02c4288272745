// SPDX-License-Identifier: Apache-2.0
// Numbering whole-model reductions. See globals.h.
#include "merge/model/globals.h"

#include <string.h>

static tarn_status measure(tarn_globals *t, tarn_global *g, tarn_error *err) {
    const tarn_model *m = g->model;
    g->start = tarn_arena_take(&t->arena, (size_t)m->n * sizeof *g->start + 1);
    g->seen = tarn_arena_take(&t->arena, (size_t)m->n + 1);
    if (!g->start || !g->seen) {
        return tarn_raise_nomem(err, "a whole-model reduction", (size_t)m->n * sizeof *g->start);
    }
    memset(g->seen, 0, (size_t)m->n + 1);
    int64_t at = 0;
    for (int64_t j = 0; j < m->n; j++) {
        int64_t i = m->by_name[j], numel;
        const tarn_slot *s = tarn_slot_source(m, i);
        if (tarn_slot_first(m, i) == i) {
            TARN_TRY(tarn_shape_numel(s->rank, s->shape, &numel, err));
            g->start[i] = at;
            at += tarn_slot_integer(s) ? 0 : numel;
        }
    }
    for (int64_t i = 0; i < m->n; i++) {
        g->start[i] = g->start[tarn_slot_first(m, i)];
    }
    g->numel = at;
    return TARN_OK;
}

static int find(tarn_globals *t, tarn_model *m, int k, tarn_error *err) {
    for (int i = 0; i < t->n; i++) {
        if (t->list[i].model == m && t->list[i].k == k) {
            return i;
        }
    }
    if (t->n == t->room) {
        int room = t->room ? 2 * t->room : 8;
        tarn_global *list = tarn_arena_take(&t->arena, (size_t)room * sizeof *list);
        if (!list) {
            tarn_raise_nomem(err, "a whole-model reduction", (size_t)room * sizeof *list);
            return -1;
        }
        if (t->n > 0) {
            memcpy(list, t->list, (size_t)t->n * sizeof *list);
        }
        t->list = list;
        t->room = room;
    }
    tarn_global *g = &t->list[t->n];
    *g = (tarn_global){.model = m, .k = k};
    return measure(t, g, err) == TARN_OK ? t->n++ : -1;
}

int64_t tarn_expand_numel(tarn_expand *e, tarn_model *m, int k) {
    if (e->recorder) {
        int64_t n = 0;
        for (int64_t i = 0; i < m->n; i++) {
            const tarn_slot *s = tarn_slot_source(m, i);
            n += tarn_slot_first(m, i) != i || tarn_slot_integer(s) ? 0 : tarn_slot_numel(s);
        }
        return n;
    }
    int gid = e->graph->err.status == TARN_OK ? find(e->globals, m, k, &e->graph->err) : -1;
    return gid < 0 ? 0 : e->globals->list[gid].numel;
}

const tarn_node *tarn_expand_global(tarn_expand *e, tarn_model *m, int64_t i, int k,
                                    const tarn_op *op, const tarn_node *x, const tarn_attr *rest) {
    if (!x || e->graph->err.status != TARN_OK) {
        return NULL;
    }
    if (e->recorder) {
        return tarn_recorder_global(e, m, i, k, op, x, rest);
    }
    int gid = find(e->globals, m, k, &e->graph->err);
    if (gid < 0) {
        return NULL;
    }
    tarn_global *g = &e->globals->list[gid];
    g->seen[tarn_slot_first(m, i)] = 1;
    return tarn_reduce_global(e->graph, op, 1, &x, gid + 1, g->start[i], rest);
}

double tarn_expand_start(tarn_expand *e, tarn_model *m, int64_t i, int k, const tarn_node *made) {
    return e->recorder ? tarn_recorder_start(e, m, i, k) : made->attr.f[made->attr.nf - 1];
}
