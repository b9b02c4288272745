// SPDX-License-Identifier: Apache-2.0
// Expanding a model: one job per tensor that is wanted, with a graph of its own or, for further outputs of what
// a method makes of one tensor, that of the first; then hidden jobs for tensors that only contribute to
// whole-model reductions, until no reduction lacks a part.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge/model/globals.h"
#include "merge/plan/plan.h"

static tarn_status grow(tarn_plan *p, tarn_error *err) {
    if ((size_t)p->count < p->room) {
        return TARN_OK;
    }
    size_t room = p->room ? 2 * p->room : (size_t)p->model->n + 8;
    tarn_job *jobs = realloc(p->jobs, room * sizeof *jobs);
    p->jobs = jobs ? jobs : p->jobs;
    const tarn_check **checks = realloc((void *)p->checks, room * sizeof *checks);
    p->checks = checks ? checks : p->checks;
    int64_t *slot = realloc(p->slot, room * sizeof *slot);
    p->slot = slot ? slot : p->slot;
    tarn_model **of = realloc((void *)p->of, room * sizeof *of);
    p->of = of ? of : p->of;
    bool *copied = realloc(p->copied, room * sizeof *copied);
    p->copied = copied ? copied : p->copied;
    tarn_parts *parts = realloc(p->parts, room * sizeof *parts);
    p->parts = parts ? parts : p->parts;
    if (!jobs || !checks || !slot || !of || !copied || !parts) {
        return tarn_raise_nomem(err, "a plan", room * sizeof *jobs);
    }
    p->room = room;
    return TARN_OK;
}

static tarn_dtype stored_as(const tarn_plan *p, const tarn_slot *s) {
    return p->options.has_dtype && tarn_dtype_is_float(s->dtype) ? p->options.dtype : s->dtype;
}

// What the walk met: the leaves from the front of the list, operations from its back.
static tarn_status gather_parts(const tarn_expand *e, tarn_parts *parts, tarn_error *err) {
    *parts = (tarn_parts){0};
    parts->list = tarn_arena_take(&e->graph->arena, (size_t)e->memo_count * sizeof *parts->list + 1);
    if (!parts->list) {
        return tarn_raise_nomem(err, "a plan", (size_t)e->memo_count * sizeof *parts->list);
    }
    const tarn_model *m;
    int64_t slot;
    parts->all = e->memo_count;
    for (int k = 0, back = e->memo_count; tarn_expand_visited(e, &k, &m, &slot);) {
        parts->list[m->nin == 0 ? parts->n++ : --back] = (tarn_part){m, slot};
    }
    return TARN_OK;
}

static tarn_status expand(tarn_plan *p, const tarn_slot *slot,
                          const tarn_node *(*build)(tarn_expand *e, void *arg, int64_t i), void *arg,
                          int64_t i, tarn_graph *in, tarn_expand *e, const tarn_node **root, tarn_error *err) {
    tarn_graph *g = in ? tarn_graph_retain(in) : tarn_graph_new(p->cx);
    if (!g) {
        return tarn_raise_nomem(err, "a plan", 0);
    }
    *e = (tarn_expand){.cx = p->cx, .graph = g, .globals = p->globals};
    *root = build(e, arg, i);
    if (!*root || g->err.status != TARN_OK) {
        tarn_status s = g->err.status;
        *err = g->err;
        tarn_graph_release(g);
        return s == TARN_OK ? tarn_raise_nomem(err, slot->name, 0)
                            : tarn_error_prefix(err, "%s", slot->name);
    }
    return TARN_OK;
}

// in: the graph of the job before it, to which it is joined; NULL: none.
static tarn_status add(tarn_plan *p, const tarn_slot *slot,
                       const tarn_node *(*build)(tarn_expand *e, void *arg, int64_t i), void *arg,
                       int64_t i, tarn_graph *in, tarn_error *err) {
    TARN_TRY(grow(p, err));
    tarn_expand e;
    const tarn_node *root = NULL;
    TARN_TRY(expand(p, slot, build, arg, i, in, &e, &root, err));
    if (gather_parts(&e, &p->parts[p->count], err) != TARN_OK) {
        tarn_graph_release(e.graph);
        return err->status;
    }
    p->checks[p->count] = e.checks;
    p->copied[p->count] = e.copied;
    p->slot[p->count] = i;
    p->of[p->count] = NULL;
    p->jobs[p->count++] = (tarn_job){.name = slot->name, .graph = e.graph, .root = root, .store = TARN_F64,
                                     .joined = in != NULL};
    return TARN_OK;
}

tarn_status tarn_plan_add(tarn_plan *p, const tarn_slot *slot,
                          const tarn_node *(*build)(tarn_expand *e, void *arg, int64_t i), void *arg,
                          int64_t i, tarn_error *err) {
    return add(p, slot, build, arg, i, NULL, err);
}

static const tarn_node *build_slot(tarn_expand *e, void *arg, int64_t i) { return tarn_model_slot(e, arg, i); }

// Lets go of the expressions of the newest jobs, from `first` on, which are joined; those with integer tensors that
// have to be compared keep theirs.
static tarn_status lighten(tarn_plan *p, int64_t first, tarn_error *err) {
    tarn_stream_plan here;
    bool checks = false;
    if (!p->light || first == p->count) {
        return TARN_OK;
    }
    TARN_TRY(tarn_stream_plan_of(p->cx, p->count - first, p->jobs + first, &here, NULL, err));
    p->traffic += here.reads + here.writes;
    for (int64_t k = first; k < p->count; k++) {
        TARN_TRY(tarn_stream_fits(p->cx, &p->jobs[k], err));
        checks = checks || p->checks[k];
    }
    for (int64_t k = first; k < p->count && !checks; k++) {
        tarn_graph_release(p->jobs[k].graph);
        p->jobs[k].graph = NULL;
        p->jobs[k].root = NULL;
        p->parts[k] = (tarn_parts){0};
    }
    return TARN_OK;
}

static tarn_status add_job(tarn_plan *p, tarn_model *m, int64_t i, bool hidden, bool joined, tarn_error *err) {
    tarn_graph *in = joined ? p->jobs[p->count - 1].graph : NULL;
    TARN_TRY(add(p, &m->slots[i], build_slot, m, i, in, err));
    p->jobs[p->count - 1].store = stored_as(p, &m->slots[i]);
    p->jobs[p->count - 1].hidden = hidden;
    p->of[p->count - 1] = m;
    return TARN_OK;
}

// The expressions of jobs that were let go of.
static tarn_status make_again(void *arg, int64_t job, int n, tarn_graph **g, const tarn_node **root, tarn_error *err) {
    tarn_plan *p = arg;
    tarn_graph *all = NULL;
    tarn_status s = TARN_OK;
    for (int k = 0; k < n && s == TARN_OK; k++) {
        tarn_model *m = p->of[job + k];
        int64_t i = p->slot[job + k];
        tarn_expand e;
        s = expand(p, &m->slots[i], build_slot, m, i, all, &e, &root[k], err);
        if (s == TARN_OK && all) {
            tarn_graph_release(e.graph);  // it holds it once already
        }
        all = s == TARN_OK ? e.graph : all;
    }
    if (s != TARN_OK) {
        tarn_graph_release(all);
        return s;
    }
    *g = all;
    return TARN_OK;
}

tarn_status tarn_plan_run(tarn_plan *p, const tarn_sink *sink, tarn_error *err) {
    tarn_maker maker = {make_again, p};
    tarn_stream_options o = {.allow_nonfinite = p->options.allow_nonfinite, .maker = p->light ? &maker : NULL};
    return tarn_stream_run(p->cx, p->count, p->jobs, sink, &o, err);
}

tarn_status tarn_plan_hidden(tarn_plan *p, tarn_error *err) {
    for (int k = 0; k < p->globals->n; k++) {
        for (int64_t i = 0; i < p->globals->list[k].model->n; i++) {
            tarn_model *m = p->globals->list[k].model;
            if (tarn_slot_first(m, i) == i && !p->globals->list[k].seen[i] &&
                !tarn_slot_integer(&m->slots[i])) {
                // Of a tensor's outputs, up to the first that has a part.
                for (int64_t j = i; j < m->n && tarn_slot_first(m, j) == i && !p->globals->list[k].seen[i]; j++) {
                    TARN_TRY(add_job(p, m, j, true, false, err));
                    TARN_TRY(lighten(p, p->count - 1, err));
                }
                p->globals->list[k].seen[i] = 1;  // a tensor that the method leaves alone has no part
            }
        }
    }
    return TARN_OK;
}

static tarn_status open_plan(tarn_context *cx, tarn_model *m, const tarn_plan_options *o,
                             tarn_plan **out, tarn_error *err) {
    tarn_plan *p = tarn_alloc_zero(&cx->budget, sizeof *p);
    tarn_globals *t = tarn_alloc_zero(&cx->budget, sizeof *t);
    if (!p || !t) {
        tarn_free(&cx->budget, p, sizeof *p);
        tarn_free(&cx->budget, t, sizeof *t);
        return tarn_raise_nomem(err, "a plan", sizeof *p);
    }
    p->cx = cx;
    p->model = tarn_model_retain(m);
    p->globals = t;
    p->options = o ? *o : (tarn_plan_options){0};
    tarn_arena_init(&t->arena, &cx->budget);
    *out = p;
    return TARN_OK;
}

// Whether a job so far contributes to a reduction over all of m.
static bool reduced(const tarn_plan *p, const tarn_model *m) {
    bool any = false;
    for (int k = 0; k < p->globals->n; k++) {
        any = any || p->globals->list[k].model == m;
    }
    return any;
}

// Goes down to what slot i of m was made of, as long as that is one tensor and a method has not made several of it.
// Not through whole-model reductions: jobs that are joined have one part in each.
static void find_maker(const tarn_plan *p, const tarn_model **m, int64_t *i) {
    while (!(*m)->first && (*m)->map && !reduced(p, *m)) {
        const tarn_model *one = NULL;
        int64_t at = 0;
        int n = 0;
        for (int k = 0; k < (*m)->nin; k++) {
            if ((*m)->map[k] && (*m)->map[k][*i] >= 0) {
                one = (*m)->in[k];
                at = (*m)->map[k][*i];
                n++;
            }
        }
        if (n != 1) {
            return;
        }
        *m = one;
        *i = at;
    }
}

// Whether slots i and j are outputs of one method for one tensor, by whatever names and dtypes.
static bool made_together(const tarn_plan *p, const tarn_model *m, int64_t i, int64_t j) {
    const tarn_model *x = m, *y = m;
    find_maker(p, &x, &i);
    find_maker(p, &y, &j);
    return x == y && x->first && x->first[i] == x->first[j];
}

// Slot i and those after it that are made together with it; *next: the slot behind them.
static tarn_status add_slots(tarn_plan *p, tarn_model *m, const unsigned char *want, int64_t i, int64_t *next,
                             tarn_error *err) {
    int64_t first = p->count, j = i;
    do {
        if (!want || want[j]) {
            TARN_TRY(tarn_cancel_check(&p->cx->cancel, err));
            TARN_TRY(add_job(p, m, j, false, p->count > first, err));
        }
        j++;
    } while (j < m->n && j - i < TARN_JOINED && made_together(p, m, i, j));
    *next = j;
    return lighten(p, first, err);
}

static tarn_status make_plan(tarn_context *cx, tarn_model *m, const unsigned char *want, bool light,
                             const tarn_plan_options *o, tarn_plan **out, tarn_error *err) {
    tarn_plan *p = NULL;
    TARN_TRY(open_plan(cx, m, o, &p, err));
    p->light = light;
    tarn_status s = TARN_OK;
    for (int64_t i = 0; i < m->n && s == TARN_OK;) {
        s = add_slots(p, m, want, i, &i, err);
    }
    p->n = p->count;
    s = s == TARN_OK ? tarn_plan_hidden(p, err) : s;
    if (s != TARN_OK) {
        tarn_plan_free(p);
        return s;
    }
    *out = p;
    return TARN_OK;
}

tarn_status tarn_plan_make(tarn_context *cx, tarn_model *m, const unsigned char *want,
                           const tarn_plan_options *o, tarn_plan **out, tarn_error *err) {
    return make_plan(cx, m, want, false, o, out, err);
}

tarn_status tarn_plan_survey(tarn_context *cx, tarn_model *m, const tarn_plan_options *o,
                             tarn_plan **out, tarn_error *err) {
    return make_plan(cx, m, NULL, true, o, out, err);
}

void tarn_plan_free(tarn_plan *p) {
    if (!p) {
        return;
    }
    tarn_context *cx = p->cx;
    for (int64_t i = 0; i < p->count; i++) {
        tarn_graph_release(p->jobs[i].graph);
    }
    free(p->jobs);
    free((void *)p->checks);
    free(p->slot);
    free((void *)p->of);
    free(p->copied);
    free(p->parts);
    tarn_arena_free(&p->globals->arena);
    tarn_free(&cx->budget, p->globals, sizeof *p->globals);
    tarn_model_release(p->model);
    tarn_free(&cx->budget, p, sizeof *p);
}

// ---- integer tensors ----

// Whether the tensors of a check differ.
static tarn_status differs(tarn_plan *p, tarn_graph *g, const tarn_check *c, bool *yes, tarn_error *err) {
    *yes = false;
    if (tarn_desc_numel(&c->a->desc) == 0) {
        return TARN_OK;
    }
    const tarn_node *any = tarn_total(g, &tarn_op_max, tarn_ne(g, c->a, c->b));
    if (!any) {
        *err = g->err;
        return tarn_error_prefix(err, "%s", c->slot->name);
    }
    tarn_job job = {.name = c->slot->name, .graph = g, .root = any, .store = tarn_dtype_compute(any->desc.dtype)};
    tarn_tensor t;
    TARN_TRY(tarn_stream_load(p->cx, 1, &job, &t, err));
    *yes = tarn_tensor_get(&t, 0) != 0;
    tarn_tensor_release(&t);
    return TARN_OK;
}

tarn_status tarn_plan_check(tarn_plan *p, tarn_error *err) {
    const tarn_check *first = NULL;
    int64_t count = 0;
    for (int64_t i = 0; i < p->count; i++) {
        bool counted = false, yes;
        for (const tarn_check *c = p->checks[i]; c && !counted; c = c->next) {
            TARN_TRY(differs(p, p->jobs[i].graph, c, &yes, err));
            first = yes && !first ? c : first;
            counted = yes;
            count += yes;
        }
    }
    if (!first) {
        return TARN_OK;
    }
    char others[64] = "";
    if (count > 1) {
        snprintf(others, sizeof others, " and %lld more integer tensor%s", (long long)count - 1, count == 2 ? "" : "s");
    }
    TARN_RAISE(err, "IntegerMismatch",
               "%s (%s)%s differ%s between %s and %s: integers are not averaged; on_integer = \"base\" takes those "
               "of the first model", first->slot->name, tarn_dtype_get(first->slot->dtype)->name, others,
               count == 1 ? "s" : "", tarn_model_label(first->model), tarn_model_label(first->other));
}
