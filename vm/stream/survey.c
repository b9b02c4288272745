// SPDX-License-Identifier: Apache-2.0
// What a run knows of its jobs before it starts: each is looked at once, and what is kept of it is a few
// numbers. A job may come without its expression; then it is made by whoever needs it and let go again, so that
// the memory of a run does not grow with the number of tensors, whole-model reductions or not.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/run.h"

// ---- expressions ----

tarn_status tarn_unit_fresh(tarn_runner *r, int64_t i, tarn_unit *u, tarn_error *err) {
    *u = tarn_unit_of(r->njobs, r->jobs, i);
    if (u->graph) {
        tarn_graph_retain(u->graph);
        return TARN_OK;
    }
    pthread_mutex_lock(&r->making);
    tarn_status s = r->maker->make(r->maker->arg, i, u->n, &u->graph, u->root, err);
    pthread_mutex_unlock(&r->making);
    return s;
}

tarn_status tarn_unit_take(tarn_runner *r, int64_t i, tarn_unit *u, tarn_error *err) {
    TARN_TRY(tarn_unit_fresh(r, i, u, err));
    tarn_status s = r->jobs[i].graph ? TARN_OK : tarn_recall_put(r, u, err);
    if (s != TARN_OK) {
        tarn_unit_drop(u);
    }
    return s;
}

void tarn_unit_drop(tarn_unit *u) {
    tarn_graph_release(u->graph);
    u->graph = NULL;
}

void *tarn_run_grow(void *list, int64_t n, int64_t *room, size_t size) {
    if (n < *room) {
        return list;
    }
    int64_t want = *room ? 2 * *room : 64;
    void *more = realloc(list, (size_t)want * size);
    *room = more ? want : *room;
    return more;
}

// ---- whole-model reductions ----

typedef struct {
    int64_t gid, start, job, numel;
} member;

typedef struct {
    member *list;
    int64_t n, room;
} members;

static int by_start(const void *a, const void *b) {
    const member *x = a, *y = b;
    if (x->gid != y->gid) {
        return (x->gid > y->gid) - (x->gid < y->gid);
    }
    if (x->start != y->start) {
        return (x->start > y->start) - (x->start < y->start);
    }
    return (x->job > y->job) - (x->job < y->job);
}

static tarn_status room_for(tarn_runner *r, int64_t gid, members *m, tarn_error *err) {
    member *list = tarn_run_grow(m->list, m->n, &m->room, sizeof *list);
    if (!list) {
        return tarn_raise_nomem(err, "a whole-model reduction", (size_t)m->n * sizeof *list);
    }
    m->list = list;
    if (gid > r->nbarriers) {
        tarn_barrier *more = realloc(r->barriers, (size_t)gid * sizeof *more);
        if (!more) {
            return tarn_raise_nomem(err, "a whole-model reduction", (size_t)gid * sizeof *more);
        }
        memset(more + r->nbarriers, 0, (size_t)(gid - r->nbarriers) * sizeof *more);
        r->barriers = more;
        r->nbarriers = (int)gid;
    }
    return TARN_OK;
}

// The reductions that a unit contributes to, one part to each.
static tarn_status add_members(tarn_runner *r, const tarn_unit *u, const tarn_layout *l, members *m,
                               tarn_error *err) {
    int64_t first = m->n;
    for (int k = 0; k < l->count; k++) {
        const tarn_node *n = u->graph->nodes[k];
        int64_t gid = tarn_gid(n);
        if (!gid) {
            continue;
        }
        TARN_TRY(room_for(r, gid, m, err));  // numbers of nodes that nothing needs any more count too
        if (!l->spot[k].kind) {
            continue;
        }
        tarn_barrier *b = &r->barriers[gid - 1];
        b->stage = l->spot[k].stage > b->stage ? l->spot[k].stage : b->stage;
        bool met = false;
        for (int64_t q = first; q < m->n; q++) {
            met = met || m->list[q].gid == gid;
        }
        if (met) {
            continue;
        }
        m->list[m->n++] = (member){gid, (int64_t)n->attr.f[n->attr.nf - 1], u->job,
                                   tarn_desc_numel(&n->in[0]->desc)};
        if (!b->node) {
            b->node = n;
            b->graph = tarn_graph_retain(u->graph);
        }
    }
    return TARN_OK;
}

// Places in the order of the model. A tensor that stands behind several outputs counts once.
static tarn_status place_members(tarn_runner *r, const members *m, tarn_error *err) {
    if (m->n > 0) {
        qsort(m->list, (size_t)m->n, sizeof *m->list, by_start);
    }
    for (int64_t q = 0; q < m->n; q++) {
        const member *x = &m->list[q];
        tarn_barrier *b = &r->barriers[x->gid - 1];
        bool first = q == 0 || x[-1].gid != x->gid;
        if (first) {
            b->base = calloc((size_t)r->njobs, sizeof *b->base);
            b->place = malloc((size_t)r->njobs * sizeof *b->place);
            if (!b->base || !b->place) {
                return tarn_raise_nomem(err, "a whole-model reduction", (size_t)r->njobs * 16);
            }
            memset(b->place, -1, (size_t)r->njobs * sizeof *b->place);
        }
        b->base[x->job] = x->start;
        if (first || x[-1].start != x->start) {
            b->place[x->job] = b->members++;
            b->total += x->numel;
        }
    }
    return TARN_OK;
}

// ---- every job once ----

static tarn_status look_at(tarn_runner *r, const tarn_unit *u, members *m, tarn_error *err) {
    tarn_layout l;
    tarn_job_size size;
    TARN_TRY(tarn_unit_look(r->cx, u, &l, &size, err));
    r->stages = l.stages > r->stages ? l.stages : r->stages;
    tarn_status s = add_members(r, u, &l, m, err);
    tarn_stream_layout_free(&l);
    TARN_TRY(s);
    TARN_TRY(tarn_unit_fits(r->cx, u, &size, err));
    if (size.kind == TARN_JOB_SMALL) {
        r->small[r->nsmall++] = u->job;
    } else if (size.kind == TARN_JOB_SIDE) {
        r->side[r->nside++] = size;
    } else {
        r->large[r->nlarge++] = u->job;
    }
    return TARN_OK;
}

// Takes a unit apart that there is no room for; asked before anything that is known is put in place, as the
// plan asks.
static tarn_status split(tarn_runner *r, const tarn_unit *u, bool *apart, tarn_error *err) {
    tarn_layout l;
    tarn_job_size size;
    TARN_TRY(tarn_unit_look(r->cx, u, &l, &size, err));
    tarn_stream_layout_free(&l);
    *apart = !tarn_unit_whole(r->cx, u, &size);
    for (int k = 1; k < u->n && *apart; k++) {
        r->jobs[u->job + k].joined = false;
    }
    return TARN_OK;
}

static tarn_status look_at_all(tarn_runner *r, members *m, tarn_error *err) {
    tarn_status s = TARN_OK;
    for (int64_t i = 0; i < r->njobs && s == TARN_OK;) {
        tarn_unit u;
        bool apart = false;
        TARN_TRY(tarn_cancel_check(&r->cx->cancel, err));
        TARN_TRY(tarn_unit_fresh(r, i, &u, err));
        s = u.n > 1 ? split(r, &u, &apart, err) : TARN_OK;
        if (s == TARN_OK && !apart) {
            s = tarn_recall_find(r, &u, err);
            s = s == TARN_OK ? look_at(r, &u, m, err) : s;
            for (int k = 0; k < u.n; k++) {
                r->jobs[i + k].root = r->jobs[i + k].graph ? u.root[k] : NULL;
            }
            i += u.n;
        }
        tarn_unit_drop(&u);
    }
    return s;
}

tarn_status tarn_survey(tarn_runner *r, tarn_error *err) {
    size_t n = (size_t)r->njobs + 1;
    r->large = calloc(n, sizeof *r->large);
    r->small = calloc(n, sizeof *r->small);
    r->side = calloc(n, sizeof *r->side);
    if (!r->large || !r->small || !r->side) {
        return tarn_raise_nomem(err, "a run", n * 16);
    }
    members m = {0};
    tarn_status s = tarn_recall_open(r, err);
    s = s == TARN_OK ? look_at_all(r, &m, err) : s;
    s = s == TARN_OK ? place_members(r, &m, err) : s;
    free(m.list);
    r->known = s == TARN_OK ? calloc((size_t)r->nbarriers + 1, sizeof *r->known) : NULL;
    if (s == TARN_OK && !r->known) {
        s = tarn_raise_nomem(err, "a run", 0);
    }
    tarn_side_order(r->nside, r->side);
    return s;
}
