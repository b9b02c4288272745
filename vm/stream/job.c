// SPDX-License-Identifier: Apache-2.0
// One job, with those that are joined to it: pass by pass, what is due is computed in memory or swept over the
// data. Inputs that fit the hold budget are read in the first pass and swept in memory after it.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/run.h"

typedef struct {
    tarn_runner *r;
    int64_t job;
    const tarn_unit *it;
    tarn_graph *g;
    tarn_pool *pool;   // NULL: the whole job on this worker
    int worker;        // of this job, when pool is NULL
    tarn_arena arena;
    tarn_layout layout;
    tarn_tensor *values;  // [count]
    char **held;          // [count] of sources
    bool *loaded;         // [count]
    uint64_t share;       // of progress, for each operation that takes long; 0: by bytes
    tarn_error *err;
} job_run;

static void report(const job_run *j, uint64_t bytes) {
    tarn_progress *p = &j->r->cx->progress;
    atomic_fetch_add_explicit(&p->done, bytes, memory_order_relaxed);
    if (p->show) {
        p->show(p);
    }
}

static void let_go(job_run *j, int id) {
    tarn_tensor_release(&j->values[id]);
    if (j->held[id]) {
        tarn_free(&j->r->cx->budget, j->held[id], tarn_node_source(j->g->nodes[id])->bytes);
        j->held[id] = NULL;
    }
}

// One operation on values in memory. What was kept of tiles is as wide as its arithmetic, what an operation
// made as narrow as it says: where they meet, and a row asks for one dtype, all are as they say, exactly.
static tarn_status apply(job_run *j, const tarn_node *n, tarn_tensor *in, tarn_tensor *out) {
    bool alike = n->op->cls != TARN_CLASS_WHOLE;
    for (int k = 1; k < n->nin && !alike && in[k].dtype == in[0].dtype; k++) {
        alike = k + 1 == n->nin;
    }
    int own = 0;
    tarn_status s = TARN_OK;
    for (; own < n->nin && n->nin > 1 && !alike; own++) {
        tarn_tensor t = in[own];
        bool same = t.dtype == n->in[own]->desc.dtype;
        s = same ? TARN_OK : tarn_tensor_cast(j->r->cx, &t, n->in[own]->desc.dtype, &in[own], j->err);
        if (s != TARN_OK) {
            break;
        }
        if (same) {
            tarn_tensor_share(&t, &in[own]);
        }
        in[own].weak = t.weak;
    }
    s = s == TARN_OK ? tarn_op_apply(j->r->cx, n->op, n->nin, in, &n->attr, out, j->err) : s;
    for (int k = 0; k < own; k++) {
        tarn_tensor_release(&in[k]);
    }
    return s;
}

// Computes what lives in memory and is due before pass `pass`; operands go after their last use.
static tarn_status compute_memory(job_run *j, int pass) {
    for (int i = 0; i < j->layout.count; i++) {
        const tarn_spot *s = &j->layout.spot[i];
        const tarn_node *n = j->g->nodes[i];
        if (s->kind != TARN_AT_MEMORY || s->ready != pass || j->values[i].storage) {
            continue;
        }
        int64_t gid = tarn_gid(n);
        if (gid) {
            if (j->r->known[gid]) {
                TARN_TRY(tarn_reduce_result(j->r->cx, &n->desc, j->r->barriers[gid - 1].out,
                                            &j->values[i], j->err));
            }
            continue;
        }
        if (n->op->cls == TARN_CLASS_LEAF) {
            TARN_TRY(tarn_leaf_value(j->r->cx, n, &j->values[i], j->err));
            continue;
        }
        tarn_tensor few[16], *in = few;
        if (n->nin > 16) {
            in = tarn_arena_take(&j->arena, (size_t)n->nin * sizeof *in);
        }
        if (!in) {
            return tarn_raise_nomem(j->err, n->op->name, 0);
        }
        for (int k = 0; k < n->nin; k++) {
            in[k] = j->values[n->in[k]->id];
        }
        TARN_TRY(apply(j, n, in, &j->values[i]));
        for (int k = 0; k < n->nin; k++) {
            if (j->layout.spot[n->in[k]->id].last == tarn_moment(&j->layout, pass, i)) {
                let_go(j, n->in[k]->id);
            }
        }
        if (n->op->serial) {
            report(j, j->share);
        }
    }
    return TARN_OK;
}

static tarn_status finish_fold(job_run *j, tarn_fold_spec *s, int64_t numel, int workers) {
    const tarn_reducer *red = s->node->op->reducer;
    if (!red->exact) {
        int64_t blocks = (numel + TARN_BLOCK - 1) / TARN_BLOCK;
        tarn_reduce_join(red, blocks, s->parts);
    } else {
        int first = -1;
        for (int w = 0; w < workers; w++) {
            if (!s->opened[w]) {
                continue;
            }
            if (first < 0) {
                first = w;
            } else {
                red->join(s->parts + (size_t)first * red->part, s->parts + (size_t)w * red->part);
            }
        }
        if (first > 0) {
            memcpy(s->parts, s->parts + (size_t)first * red->part, red->part);
        }
    }
    if (red->finish(s->parts, numel, &s->node->attr, s->state, s->out)) {
        s->active = false;
        tarn_recall_keep(j->r->cx, &j->r->recall, j->job, s->node->id, s->out);
        return tarn_reduce_result(j->r->cx, &s->node->desc, s->out, &j->values[s->node->id], j->err);
    }
    memset(s->opened, 0, (size_t)workers);
    return TARN_OK;
}

// Its blocks leave their subtrees in one place, and trees that are complete in the result.
static tarn_status open_columns(job_run *j, tarn_fold_spec *s) {
    const tarn_desc *d = &s->node->desc;
    tarn_tensor *v = &j->values[s->node->id];
    int room = tarn_columns_of_blocks(&s->columns, tarn_pool_size(j->pool));
    TARN_TRY(tarn_tensor_new(j->r->cx, d->dtype, d->rank, d->shape, v, j->err));
    s->bytes = tarn_columns_bytes(room, s->columns.width);
    s->memory = tarn_alloc(&j->r->cx->budget, s->bytes);
    if (!s->memory) {
        return tarn_raise_nomem(j->err, s->node->op->name, s->bytes);
    }
    tarn_columns_open(&s->whole, &s->columns, 0, s->columns.width, room, s->memory,
                      tarn_tensor_data(v));
    pthread_mutex_init(&s->lock, NULL);
    return TARN_OK;
}

static void close_columns(job_run *j, tarn_fold_spec *s) {
    if (s->memory) {
        pthread_mutex_destroy(&s->lock);
        tarn_free(&j->r->cx->budget, s->memory, s->bytes);
        s->memory = NULL;
    }
}

// Memory of a fold for its sweeps. A whole-model one uses the barrier's.
static tarn_status open_fold(job_run *j, tarn_fold_spec *s, int64_t numel, int workers) {
    const tarn_reducer *red = s->node->op->reducer;
    int64_t gid = tarn_gid(s->node);
    // Of several whole-model folds of a stage one may be done while others sweep again.
    s->active = !gid || !j->r->barriers[gid - 1].done;
    if (!s->active) {
        return TARN_OK;
    }
    if (s->by_columns) {
        return open_columns(j, s);
    }
    int64_t blocks = (numel + TARN_BLOCK - 1) / TARN_BLOCK;
    int sharing = gid ? workers : tarn_pool_size(j->pool);  // workers that fold into this one
    size_t nparts = red->exact ? (size_t)sharing : (size_t)(blocks > 0 ? blocks : 1);
    if (gid && red->exact) {
        tarn_barrier *b = &j->r->barriers[gid - 1];
        s->state = b->state;
        s->parts = b->parts;
        s->opened = b->opened;
        s->base = b->base[j->job];
        return TARN_OK;
    }
    s->state = tarn_arena_take(&j->arena, red->state + 1);
    s->parts = tarn_arena_take(&j->arena, nparts * red->part);
    s->opened = tarn_arena_take(&j->arena, (size_t)sharing);
    if (!s->state || !s->parts || !s->opened) {
        return tarn_raise_nomem(j->err, s->node->op->name, nparts * red->part);
    }
    memset(s->opened, 0, (size_t)sharing);
    if (gid) {
        s->base = j->r->barriers[gid - 1].base[j->job];
    } else if (red->begin) {
        red->begin(&s->node->attr, numel, s->state);
    }
    return TARN_OK;
}

static tarn_status close_fold(job_run *j, tarn_fold_spec *s, int64_t numel) {
    int64_t gid = tarn_gid(s->node);
    if (s->by_columns) {
        s->active = false;
        close_columns(j, s);
        return TARN_OK;
    }
    if (!gid) {
        return finish_fold(j, s, numel, tarn_pool_size(j->pool));
    }
    const tarn_reducer *red = s->node->op->reducer;
    s->active = false;
    if (!red->exact) {
        tarn_reduce_join(red, (numel + TARN_BLOCK - 1) / TARN_BLOCK, s->parts);
        tarn_barrier *b = &j->r->barriers[gid - 1];
        memcpy(b->parts + (size_t)b->place[j->job] * red->part, s->parts, red->part);
    }
    return TARN_OK;
}

static tarn_status sweep(job_run *j, tarn_program *p, int64_t numel) {
    int workers = tarn_pool_size(j->r->cx->pool);
    for (int i = 0; i < p->nfold; i++) {
        TARN_TRY(open_fold(j, &p->fold[i], numel, workers));
    }
    for (;;) {
        TARN_TRY(tarn_program_run(j->r, j->job, p, j->pool, j->worker, j->err));
        for (int i = 0; i < p->nload; i++) {
            if (p->load[i].held && !p->part) {
                union {
                    const bool *in;
                    bool *out;
                } u = {.in = p->load[i].loaded};
                *u.out = true;
            }
        }
        bool again = false;
        for (int i = 0; i < p->nfold; i++) {
            if (p->fold[i].active) {
                TARN_TRY(close_fold(j, &p->fold[i], numel));
                again = again || p->fold[i].active;
            }
        }
        if (!again) {
            return TARN_OK;
        }
        // Further sweeps only count: what was stored or kept is there already.
        p->again = true;
        p->nstore = 0;
    }
}

static tarn_status sweep_group(job_run *j, int64_t numel, int ngoals, const tarn_goal *goals) {
    tarn_program p;
    TARN_TRY(tarn_program_make(j->r->cx, &j->arena, j->g, &j->layout, j->values, numel, ngoals,
                               goals, &p, j->err));
    p.quiet = j->share > 0;
    for (int i = 0; i < p.nload; i++) {
        for (int id = 0; id < j->layout.count; id++) {
            if (tarn_node_source(j->g->nodes[id]) == p.load[i].source) {
                p.load[i].held = j->held[id];
                p.load[i].loaded = &j->loaded[id];
            }
        }
    }
    tarn_status s = sweep(j, &p, numel);
    for (int i = 0; i < p.nfold; i++) {
        close_columns(j, &p.fold[i]);  // those of a sweep that failed
    }
    return s;
}

// An empty reduction never meets a tile.
static tarn_status empty_goal(job_run *j, const tarn_goal *goal) {
    const tarn_node *n = goal->node;
    if (goal->what == TARN_GOAL_FOLD) {
        const tarn_reducer *red = n->op->reducer;
        double out[4] = {red->start, 0, 0, 0};
        int64_t gid = tarn_gid(n);
        if (!gid) {
            return tarn_reduce_result(j->r->cx, &n->desc, out, &j->values[n->id], j->err);
        }
        tarn_barrier *b = &j->r->barriers[gid - 1];
        if (!red->exact && !b->done) {
            char acc[1024];
            red->open(acc);
            red->close(acc, b->parts + (size_t)b->place[j->job] * red->part);
        }
    }
    return TARN_OK;
}

static int64_t domain_of(const job_run *j, const tarn_goal *goal) {
    return goal->what == TARN_GOAL_FOLD ? tarn_desc_numel(&goal->node->in[0]->desc)
                                        : tarn_domain(&j->layout, goal->node);
}

static tarn_status run_pass(job_run *j, int pass, bool last) {
    TARN_TRY(compute_memory(j, pass));
    int most = j->layout.count * 2 + TARN_JOINED, ngoals = 0;
    tarn_goal *goals = tarn_arena_take(&j->arena, (size_t)most * sizeof *goals);
    tarn_goal *group = tarn_arena_take(&j->arena, (size_t)most * sizeof *group);
    if (!goals || !group) {
        return tarn_raise_nomem(j->err, "a pass", (size_t)most * sizeof *goals);
    }
    tarn_status s = TARN_OK;
    for (int i = 0; i < j->layout.count && s == TARN_OK; i++) {
        tarn_spot *spot = &j->layout.spot[i];
        const tarn_node *n = j->g->nodes[i];
        int64_t gid = tarn_gid(n);
        bool ours = !gid || (!j->r->known[gid] && spot->stage == j->r->stage + 1);
        if (spot->sweeps && spot->ready == pass + 1 && ours) {
            goals[ngoals++] = (tarn_goal){.node = n, .what = TARN_GOAL_FOLD};
        }
        if (spot->kind == TARN_AT_TILE && spot->keep && spot->ready == pass) {
            // Not visible as a value before the pass has filled it.
            tarn_tensor *keep = tarn_arena_take(&j->arena, sizeof *keep);
            tarn_error *told = spot->mask ? NULL : j->err;
            s = keep ? tarn_tensor_new(j->r->cx, tarn_dtype_compute(n->desc.dtype), n->desc.rank,
                                       n->desc.shape, &j->values[i], told)
                     : tarn_raise_nomem(told, "a pass", sizeof *keep);
            if (s == TARN_NOMEM && spot->mask) {
                spot->keep = 0;  // no room: made again instead
                s = TARN_OK;
                continue;
            }
            if (s != TARN_OK) {
                break;  // those before it are given back below
            }
            *keep = j->values[i];
            j->values[i].storage = NULL;
            goals[ngoals++] = (tarn_goal){.node = n, .what = TARN_GOAL_KEEP, .keep = keep};
        }
    }
    for (int k = 0; last && k < j->it->n; k++) {
        const tarn_node *root = j->it->root[k];
        if (tarn_in_tiles(&j->layout.spot[root->id]) && j->layout.spot[root->id].ready == pass) {
            goals[ngoals++] = (tarn_goal){.node = root, .what = TARN_GOAL_STORE,
                                          .store = j->it->jobs[k].store, .which = k};
        }
    }
    // Goals over equally many elements share one sweep.
    for (int left = ngoals; left > 0 && s == TARN_OK;) {
        int64_t numel = domain_of(j, &goals[0]);
        int n = 0, rest = 0;
        for (int i = 0; i < left; i++) {
            if (domain_of(j, &goals[i]) == numel) {
                group[n++] = goals[i];
            } else {
                goals[rest++] = goals[i];
            }
        }
        left = rest;
        for (int i = 0; i < n && numel == 0 && s == TARN_OK; i++) {
            s = empty_goal(j, &group[i]);
        }
        s = s == TARN_OK && numel > 0 ? sweep_group(j, numel, n, group) : s;
        for (int i = 0; i < n; i++) {
            if (group[i].what == TARN_GOAL_KEEP) {
                j->values[group[i].node->id] = *group[i].keep;
            }
        }
    }
    for (int i = 0; s != TARN_OK && i < ngoals; i++) {
        // goals that were never reached still own their tensors
        if (goals[i].what == TARN_GOAL_KEEP && !j->values[goals[i].node->id].storage) {
            j->values[goals[i].node->id] = *goals[i].keep;
        }
    }
    return s;
}

static tarn_status hold_inputs(job_run *j, bool last) {
    uint64_t output = last ? tarn_unit_largest(j->it, &j->layout) : 0;
    // Plans of whole-model stages do not count masks.
    tarn_hold most = j->r->nbarriers == 0 ? TARN_HOLD_MASKS : TARN_HOLD_INPUTS;
    tarn_hold hold = tarn_layout_hold(j->r->cx, j->g, &j->layout, j->pool != NULL, most, output);
    if (hold == TARN_HOLD_NONE) {
        return TARN_OK;
    }
    for (int i = 0; hold == TARN_HOLD_MASKS && i < j->layout.count; i++) {
        j->layout.spot[i].keep |= j->layout.spot[i].mask;
    }
    for (int i = 0; i < j->layout.count; i++) {
        const tarn_node *n = j->g->nodes[i];
        if (!tarn_node_source(n) || !j->layout.spot[i].often) {
            continue;
        }
        const tarn_source *s = n->attr.p;
        j->held[i] = tarn_alloc(&j->r->cx->budget, s->bytes);
        if (!j->held[i]) {
            return TARN_OK;  // no room: read again instead
        }
    }
    return TARN_OK;
}

static tarn_status put_root(job_run *j, int k) {
    const tarn_tensor *v = &j->values[j->it->root[k]->id];
    tarn_tensor t;
    tarn_dtype store = j->it->jobs[k].store;
    tarn_status s = TARN_OK;
    if (v->dtype == store && tarn_tensor_contiguous(v)) {
        tarn_tensor_share(v, &t);
    } else {
        TARN_TRY(tarn_tensor_cast(j->r->cx, v, store, &t, j->err));
    }
    int64_t numel = tarn_tensor_numel(&t);
    s = tarn_check_finite(j->r, j->job + k, t.dtype, numel, tarn_tensor_data(&t), j->err);
    if (s == TARN_OK) {
        s = j->r->sink->put(j->r->sink->arg, j->job + k, 0, tarn_tensor_data(&t), tarn_tensor_bytes(&t),
                            j->err);
    }
    report(j, s == TARN_OK && !j->share ? tarn_tensor_bytes(&t) : 0);
    tarn_tensor_release(&t);
    return s;
}

// What is stored as it is and has no whole bytes for elements: 4-bit blocks are bytes to everybody here.
static tarn_status copy_root(job_run *j, const tarn_source *s) {
    enum { STEP = 1 << 16 };
    char bytes[STEP];
    for (uint64_t at = 0; at < s->bytes; at += STEP) {
        uint64_t n = s->bytes - at < STEP ? s->bytes - at : STEP;
        TARN_TRY(tarn_cancel_check(&j->r->cx->cancel, j->err));
        TARN_TRY(s->read(s, at, n, bytes, j->err));
        TARN_TRY(j->r->sink->put(j->r->sink->arg, j->job, at, bytes, n, j->err));
    }
    return TARN_OK;
}

static tarn_status run_passes(job_run *j, bool last) {
    const tarn_source *source = last && j->it->n == 1 ? tarn_node_source(j->it->root[0]) : NULL;
    if (source && tarn_dtype_get(source->dtype)->bits % 8 != 0) {
        return copy_root(j, source);
    }
    TARN_TRY(hold_inputs(j, last));
    for (int pass = 0; pass < j->layout.passes; pass++) {
        TARN_TRY(run_pass(j, pass, last));
        for (int i = 0; i < j->layout.count; i++) {
            if (j->layout.spot[i].last == tarn_moment(&j->layout, pass, j->layout.count)) {
                let_go(j, i);
            }
        }
    }
    for (int pass = j->layout.passes; last && pass <= j->layout.passes + 1; pass++) {
        TARN_TRY(compute_memory(j, pass));
    }
    for (int k = 0; last && k < j->it->n; k++) {
        if (!tarn_in_tiles(&j->layout.spot[j->it->root[k]->id])) {
            TARN_TRY(put_root(j, k));
        }
    }
    return TARN_OK;
}

// The whole-model reductions of the stage that the job has a part in: before the last stage only they matter.
static tarn_status find_due(job_run *j, const tarn_node ***roots, int *nroots) {
    const tarn_runner *r = j->r;
    tarn_layout all;
    TARN_TRY(tarn_stream_layout_make(j->g, j->it->n, j->it->root, r->known, &all, j->err));
    const tarn_node **due = tarn_arena_take(&j->arena, ((size_t)all.count + 1) * sizeof *due);
    *nroots = 0;
    for (int i = 0; due && i < all.count; i++) {
        const tarn_node *n = j->g->nodes[i];
        int64_t gid = all.spot[i].kind ? tarn_gid(n) : 0;
        if (gid && !r->known[gid] && all.spot[i].stage == 1 && r->barriers[gid - 1].parts &&
            r->barriers[gid - 1].place[j->job] >= 0) {
            due[(*nroots)++] = n;
        }
    }
    tarn_stream_layout_free(&all);
    *roots = due;
    return due ? TARN_OK : tarn_raise_nomem(j->err, "a plan", 0);
}

static tarn_status run_roots(job_run *j, int nroots, const tarn_node *const *roots, bool last) {
    const tarn_runner *r = j->r;
    TARN_TRY(tarn_stream_layout_make(j->g, nroots, roots, r->known, &j->layout, j->err));
    size_t count = (size_t)j->layout.count + 1;
    j->values = calloc(count, sizeof *j->values);
    j->held = calloc(count, sizeof *j->held);
    j->loaded = calloc(count, sizeof *j->loaded);
    tarn_status s = j->values && j->held && j->loaded
                        ? TARN_OK
                        : tarn_raise_nomem(j->err, "a job", count * sizeof *j->values);
    if (s == TARN_OK) {
        if (j->layout.serial > 0 && r->nbarriers == 0) {
            j->share = (j->layout.reads + tarn_unit_writes(j->it)) / (uint64_t)j->layout.serial;
        }
        s = run_passes(j, last);
    }
    for (int i = 0; i < j->layout.count && j->values && j->held; i++) {
        let_go(j, i);
    }
    free(j->values);
    free(j->held);
    free(j->loaded);
    tarn_stream_layout_free(&j->layout);
    return s;
}

// Whether the job has anything to do in a stage of whole-model reductions.
static bool contributes(const tarn_runner *r, int64_t job) {
    for (int i = 0; i < r->nbarriers; i++) {
        if (r->barriers[i].parts && r->barriers[i].place[job] >= 0) {
            return true;
        }
    }
    return false;
}

// Whether an error names one of the jobs already.
static bool named(const tarn_unit *u, const tarn_error *err) {
    bool any = false;
    for (int k = 0; k < u->n; k++) {
        any = any || strstr(err->message, u->jobs[k].name);
    }
    return any;
}

tarn_status tarn_job_run(tarn_runner *r, int64_t job, tarn_pool *pool, int worker, tarn_error *err) {
    bool last = r->stage == r->stages;
    if (last ? r->jobs[job].hidden : !contributes(r, job)) {
        return TARN_OK;
    }
    tarn_unit it;
    TARN_TRY(tarn_unit_take(r, job, &it, err));
    job_run j = {.r = r, .job = job, .it = &it, .g = it.graph, .pool = pool, .worker = worker,
                 .err = err};
    tarn_arena_init(&j.arena, &r->cx->budget);
    const tarn_node **roots = it.root;
    int nroots = it.n;
    tarn_status s = last ? TARN_OK : find_due(&j, &roots, &nroots);
    if (s == TARN_OK && nroots > 0) {
        s = run_roots(&j, nroots, roots, last);
    }
    tarn_arena_free(&j.arena);
    tarn_unit_drop(&it);
    if (s == TARN_ERROR && err && !named(&it, err)) {
        tarn_error_prefix(err, "%s", it.jobs[0].name);
    }
    return s;
}
