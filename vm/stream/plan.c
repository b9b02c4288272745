// SPDX-License-Identifier: Apache-2.0
// What a run would do, from headers alone, and the constructor of whole-model reductions.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/layout.h"

// Bytes of the parts of whole-model reductions that a unit is the first to show. seen: [gids + 1].
static uint64_t barrier_bytes(const tarn_unit *u, const tarn_layout *l, uint64_t workers,
                              uint64_t members, bool *seen) {
    uint64_t bytes = 0;
    for (int k = 0; k < l->count; k++) {
        const tarn_node *n = u->graph->nodes[k];
        int64_t gid = l->spot[k].kind ? tarn_gid(n) : 0;
        if (gid && !seen[gid]) {
            seen[gid] = true;
            bytes += n->op->reducer->part * (n->op->reducer->exact ? workers : members);
        }
    }
    return bytes;
}

static int64_t largest_gid(int64_t n, const tarn_job *jobs) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int k = 0; k <= jobs[i].root->id; k++) {
            int64_t gid = tarn_gid(jobs[i].graph->nodes[k]);
            most = gid > most ? gid : most;
        }
    }
    return most;
}

// ---- what jobs take ----

tarn_hold tarn_layout_hold(const tarn_context *cx, const tarn_graph *g, const tarn_layout *l, bool pooled,
                           tarn_hold most, uint64_t output) {
    int workers = tarn_pool_size(cx->pool);
    uint64_t hold = cx->hold / (pooled ? 1 : 8), room = tarn_room(cx) / (pooled ? 1 : (uint64_t)workers);
    uint64_t inputs = l->stages > 0 ? l->source_bytes : l->hold_bytes;
    if (l->serial > 0 || inputs == 0 || inputs > hold) {
        return TARN_HOLD_NONE;
    }
    tarn_hold h = most == TARN_HOLD_MASKS && l->mask_bytes > hold - inputs ? TARN_HOLD_INPUTS : most;
    while (h > TARN_HOLD_NONE && tarn_layout_peak(g, l, pooled ? workers : 1, h, output, false) > room) {
        h = (tarn_hold)(h - 1);
    }
    return h;
}

static void size_of(const tarn_context *cx, const tarn_unit *u, const tarn_layout *l, tarn_job_size *s) {
    int workers = tarn_pool_size(cx->pool);
    uint64_t output = tarn_unit_largest(u, l);
    *s = (tarn_job_size){.job = u->job};
    s->least = tarn_layout_peak(u->graph, l, 1, TARN_HOLD_NONE, output, true);
    s->whole = tarn_layout_peak(u->graph, l, workers, TARN_HOLD_NONE, output, true);
    s->kind = l->largest <= TARN_BLOCK && s->whole <= (uint64_t)1 << 20 ? TARN_JOB_SMALL
              : l->serial > 0                                           ? TARN_JOB_SIDE
                                                                        : TARN_JOB_LARGE;
    bool pooled = s->kind != TARN_JOB_SMALL;
    tarn_hold most = l->stages == 0               ? TARN_HOLD_MASKS
                     : l->passes - l->stages > 1 ? TARN_HOLD_INPUTS
                                                 : TARN_HOLD_NONE;
    s->held = tarn_layout_hold(cx, u->graph, l, pooled, most, output);
    s->single = tarn_layout_peak(u->graph, l, 1, s->held, output, false);
    s->shared = tarn_layout_peak(u->graph, l, workers, s->held, output, false);
}

tarn_status tarn_unit_look(const tarn_context *cx, const tarn_unit *u, tarn_layout *l, tarn_job_size *s,
                           tarn_error *err) {
    TARN_TRY(tarn_stream_layout_make(u->graph, u->n, u->root, NULL, l, err));
    size_of(cx, u, l, s);
    return TARN_OK;
}

// What it takes as it is run, where nothing else is run beside it but other small ones.
static uint64_t taken(const tarn_context *cx, const tarn_job_size *s) {
    return s->kind == TARN_JOB_SMALL  ? s->single * (uint64_t)tarn_pool_size(cx->pool)
           : s->kind == TARN_JOB_SIDE ? s->single
                                      : s->shared;
}

bool tarn_unit_whole(const tarn_context *cx, const tarn_unit *u, const tarn_job_size *s) {
    return u->n == 1 || taken(cx, s) <= tarn_room(cx);
}

static int by_single(const void *a, const void *b) {
    const tarn_job_size *x = a, *y = b;
    if (x->single != y->single) {
        return (x->single < y->single) - (x->single > y->single);
    }
    return (x->job > y->job) - (x->job < y->job);
}
void tarn_side_order(int64_t n, tarn_job_size *s) { qsort(s, (size_t)n, sizeof *s, by_single); }

int64_t tarn_side_next(const tarn_context *cx, int64_t n, const tarn_job_size *s, uint64_t room,
                       uint64_t *peak) {
    int64_t workers = tarn_pool_size(cx->pool), k = 0;
    uint64_t sum = 0;
    while (k < n && k < workers && s[k].single <= room - sum) {
        sum += s[k++].single;
    }
    if (k <= 1) {
        *peak = s[0].shared <= room ? s[0].shared : s[0].single;
        return 1;
    }
    // Where the largest have room on all workers, so have those after them, but for a last round of
    // fewer.
    *peak = sum;
    return k == workers ? n - n % workers : k;
}

uint64_t tarn_room(const tarn_context *cx) {
    size_t used = atomic_load(&cx->budget.used);
    return cx->budget.limit > used ? cx->budget.limit - used : 0;
}

tarn_status tarn_unit_fits(const tarn_context *cx, const tarn_unit *u, const tarn_job_size *s,
                           tarn_error *err) {
    uint64_t room = tarn_room(cx);
    if (s->least <= room) {
        return TARN_OK;
    }
    return tarn_raise_status(err, TARN_NOMEM, "OutOfMemory",
                             "%s needs %llu MB of memory at least for its tensors and the "
                             "workspace of their operations; %llu MB of the %llu MB allowed are "
                             "left (raise it with --memory)",
                             u->jobs[0].name, (unsigned long long)(s->least >> 20) + 1,
                             (unsigned long long)(room >> 20),
                             (unsigned long long)(cx->budget.limit >> 20));
}

tarn_status tarn_stream_fits(tarn_context *cx, const tarn_job *job, tarn_error *err) {
    tarn_layout l;
    tarn_job_size s;
    tarn_unit u = tarn_unit_of(1, job, 0);
    TARN_TRY(tarn_unit_look(cx, &u, &l, &s, err));
    tarn_stream_layout_free(&l);
    return tarn_unit_fits(cx, &u, &s, err);
}

// The most that the units of kind SIDE take together, in the rounds that they are run in.
static uint64_t side_peak(const tarn_context *cx, int64_t n, tarn_job_size *side) {
    uint64_t most = 0, here;
    tarn_side_order(n, side);
    for (int64_t at = 0; at < n;) {
        at += tarn_side_next(cx, n - at, side + at, tarn_room(cx), &here);
        most = here > most ? here : most;
    }
    return most;
}

static void plan_job(const tarn_unit *u, const tarn_layout *l, const tarn_job_size *s,
                     tarn_job_plan *p) {
    *p = (tarn_job_plan){.passes = l->passes > 0 ? l->passes : 1, .held = s->held};
    p->hold = !p->held ? 0 : l->stages > 0 ? l->source_bytes : l->hold_bytes;
    p->more = l->again && (!p->held || l->stages > 0);
    p->reads = p->held ? l->source_bytes * (uint64_t)(1 + l->stages) : l->reads;
    p->writes = tarn_unit_writes(u);
    p->workspace = s->whole;
}

static void add_plan(tarn_stream_plan *total, const tarn_layout *l, const tarn_job_plan *p) {
    total->passes = p->passes > total->passes ? p->passes : total->passes;
    total->barriers = l->stages > total->barriers ? l->stages : total->barriers;
    total->reads += p->reads;
    total->more = total->more || p->more;
    total->writes += p->writes;
}

// Of each job: the first reads for all.
static void share_plan(const tarn_unit *u, tarn_job_plan p, tarn_job_plan *plans) {
    for (int k = 0; k < u->n; k++) {
        p.with = k;
        p.writes = tarn_unit_output(u, k);
        plans[k] = p;
        p.reads = p.hold = 0;
    }
}

typedef struct {
    tarn_context *cx;
    int64_t n;
    const tarn_job *jobs;
    tarn_stream_plan *total;
    tarn_job_plan *plans;
    uint64_t most, barriers;
    bool *seen;           // [gids + 1]
    tarn_job_size *side;  // [n]
    int64_t nside;
} planning;

// Takes in the unit that begins with job i; *next: the job after it. alone: up to it, none is joined.
static tarn_status plan_unit(planning *p, int64_t i, int64_t *alone, int64_t *next, tarn_error *err) {
    tarn_layout l;
    tarn_job_size size;
    tarn_job_plan one;
    tarn_unit u = tarn_unit_of(i < *alone ? i + 1 : p->n, p->jobs, i);
    uint64_t workers = (uint64_t)tarn_pool_size(p->cx->pool);
    TARN_TRY(tarn_unit_look(p->cx, &u, &l, &size, err));
    if (tarn_unit_whole(p->cx, &u, &size)) {
        p->barriers += barrier_bytes(&u, &l, workers, (uint64_t)p->n, p->seen);
        plan_job(&u, &l, &size, &one);
        add_plan(p->total, &l, &one);
        if (size.kind == TARN_JOB_SIDE) {
            p->side[p->nside++] = size;
        } else {
            uint64_t here = taken(p->cx, &size);
            p->most = here > p->most ? here : p->most;
        }
        if (p->plans) {
            share_plan(&u, one, p->plans + i);
        }
        *next = i + u.n;
    } else {
        *alone = i + u.n;
        *next = i;
    }
    tarn_stream_layout_free(&l);
    return TARN_OK;
}

tarn_status tarn_stream_plan_of(tarn_context *cx, int64_t n, const tarn_job *jobs,
                                tarn_stream_plan *total, tarn_job_plan *plans, tarn_error *err) {
    memset(total, 0, sizeof *total);
    planning p = {.cx = cx, .n = n, .jobs = jobs, .total = total, .plans = plans};
    p.seen = calloc((size_t)largest_gid(n, jobs) + 1, sizeof *p.seen);
    p.side = calloc((size_t)n + 1, sizeof *p.side);
    tarn_status s = p.seen && p.side ? TARN_OK
                                     : tarn_raise_nomem(err, "a plan", (size_t)n * sizeof *p.side);
    for (int64_t i = 0, alone = 0; i < n && s == TARN_OK;) {
        s = plan_unit(&p, i, &alone, &i, err);
    }
    if (s == TARN_OK) {
        uint64_t beside = side_peak(cx, p.nside, p.side);
        total->peak = (beside > p.most ? beside : p.most) + p.barriers + ((uint64_t)1 << 20);
    }
    free(p.side);
    free(p.seen);
    return s;
}

const tarn_node *tarn_reduce_global(tarn_graph *g, const tarn_op *op, int nin,
                                    const tarn_node *const *in, int64_t gid, int64_t start,
                                    const tarn_attr *rest) {
    int64_t i[8] = {0, gid};
    double f[8];
    int ni = 2, nf = 0;
    for (int k = 2; rest && k < rest->ni && k < 8; k++) {
        i[ni++] = rest->i[k];
    }
    for (int k = 0; rest && k < rest->nf && k < 7; k++) {
        f[nf++] = rest->f[k];
    }
    f[nf++] = (double)start;
    tarn_attr a = {.ni = ni, .i = i, .nf = nf, .f = f};
    return tarn_node_make(g, op, nin, in, &a);
}
