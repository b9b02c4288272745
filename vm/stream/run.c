// SPDX-License-Identifier: Apache-2.0
// Running jobs. Small tensors are whole tasks, one per worker; a large one is cut into blocks that
// all workers share, pass by pass. Whole-model reductions are stages: every job contributes its part,
// then all jobs go on.
#include <stdlib.h>
#include <string.h>

#include "vm/op/kernel/kernel.h"
#include "vm/stream/program.h"

typedef struct {
    bool done;
    const tarn_node *node;  // one of its nodes: the row and its attributes
    int64_t total;          // elements over all jobs
    int64_t members;        // jobs that contribute
    int64_t *base;          // [jobs] where the job's tensor starts in the whole model
    int64_t *place;         // [jobs] its place among the members by start; -1: contributes nothing
    char *state;
    char *parts;            // per place, or per worker when exact
    bool *opened;
    double out[4];
} barrier;

typedef struct {
    tarn_context *cx;
    int64_t njobs;
    const tarn_job *jobs;
    const tarn_sink *sink;
    const tarn_stream_options *options;
    int nbarriers;   // gids run from 1 to nbarriers
    barrier *barriers;
    bool *known;     // [nbarriers + 1]
    int stage;       // the stage being run; == stages: the last, which writes
    int stages;
    int64_t *large, *small;  // job indices
    int64_t nlarge, nsmall;
} runner;

// ---- one program ----

typedef struct {
    runner *r;
    int64_t job;
    tarn_program *p;
    int worker_base;
    char *scratch;  // per worker
    size_t scratch_bytes;
} program_run;

static size_t chunk_bytes(const tarn_program *p) {
    size_t n = (size_t)(p->numel < TARN_CHUNK ? p->numel : TARN_CHUNK), bytes = 0;
    for (int i = 0; i < p->nload; i++) {
        bytes += p->load[i].held ? 0 : (n * p->load[i].size_in + 127) / 64 * 64;
    }
    return bytes + (n * p->store_size + 127) / 64 * 64;
}

// True if every stored element is finite. The masks are the exponent bits of the stored dtype.
static bool all_finite(tarn_dtype t, int64_t n, const void *p) {
    uint64_t bad = 0;
    if (t == TARN_F32) {
        const uint32_t *u = p;
        for (int64_t i = 0; i < n; i++) {
            bad |= (u[i] & 0x7F800000U) == 0x7F800000U;
        }
    } else if (t == TARN_BF16 || t == TARN_F16) {
        const uint16_t *u = p;
        uint16_t mask = t == TARN_BF16 ? 0x7F80 : 0x7C00;
        uint16_t any = 0;
        for (int64_t i = 0; i < n; i++) {
            any |= (uint16_t)((u[i] & mask) == mask);
        }
        bad = any;
    } else if (t == TARN_F64) {
        const uint64_t *u = p;
        for (int64_t i = 0; i < n; i++) {
            bad |= (u[i] & 0x7FF0000000000000ULL) == 0x7FF0000000000000ULL;
        }
    } else if (tarn_dtype_is_float(t)) {
        for (int64_t i = 0; i < n && !bad; i++) {
            double v = tarn_element_get(t, (const char *)p + i);
            bad = v - v != 0;
        }
    }
    return bad == 0;
}

static tarn_status read_chunk(program_run *x, int64_t at, int64_t n, char *buffer,
                              const char **where, tarn_error *err) {
    tarn_program *p = x->p;
    for (int i = 0; i < p->nload; i++) {
        tarn_load *l = &p->load[i];
        uint64_t from = (uint64_t)at * l->size_in, bytes = (uint64_t)n * l->size_in;
        char *to = l->held ? l->held + from : buffer;
        if (!l->held || !*l->loaded) {
            TARN_TRY(l->source->read(l->source, from, bytes, to, err));
            atomic_fetch_add_explicit(&x->r->cx->progress.done, bytes, memory_order_relaxed);
        }
        if (!l->held) {
            buffer += (bytes + 127) / 64 * 64;
        }
        where[i] = to;
    }
    where[p->nload] = buffer;
    return TARN_OK;
}

typedef struct {
    const void **value;  // per slot: where its elements are
    char *slots;
    tarn_fold *fold;
    char *store;  // of the chunk
} frame;

static void *slot_of(const frame *f, int s) { return f->slots + (size_t)s * TARN_TILE * 8; }

static void run_tile(const program_run *x, const frame *f, const char *const *chunk,
                     int64_t chunk_at, int64_t at, int64_t n) {
    const tarn_program *p = x->p;
    const void *in[16];
    for (int k = 0; k < p->ninstr; k++) {
        const tarn_instr *i = &p->instr[k];
        for (int j = 0; j < i->nin; j++) {
            in[j] = f->value[i->in[j]];
        }
        switch (i->what) {
        case TARN_DO_SPLAT:
            break;
        case TARN_DO_FETCH:
            f->value[i->out] = tarn_fetch_tile(&p->fetch[i->index], at, n, slot_of(f, i->out));
            break;
        case TARN_DO_LOAD: {
            const tarn_load *l = &p->load[i->index];
            const char *src = chunk[i->index] + (at - chunk_at) * (int64_t)l->size_in;
            if (l->convert) {
                l->convert(n, src, slot_of(f, i->out));
                f->value[i->out] = slot_of(f, i->out);
            } else if (((uintptr_t)src & 63) == 0) {
                f->value[i->out] = src;
            } else {
                memcpy(slot_of(f, i->out), src, (size_t)n * l->size_in);
                f->value[i->out] = slot_of(f, i->out);
            }
            break;
        }
        case TARN_DO_POINT: {
            tarn_tile_args args = {.attr = i->attr, .at = at};
            i->fn(n, in, slot_of(f, i->out), &args);
            f->value[i->out] = slot_of(f, i->out);
            break;
        }
        case TARN_DO_ROUND: {
            char narrow[TARN_TILE * 8];
            const void *v = in[0];
            if (i->first && i->second) {
                i->first(n, v, narrow);
                i->second(n, narrow, slot_of(f, i->out));
                v = slot_of(f, i->out);
            } else if (i->first) {
                i->first(n, v, slot_of(f, i->out));
                v = slot_of(f, i->out);
            } else if (i->second) {
                i->second(n, v, slot_of(f, i->out));
                v = slot_of(f, i->out);
            } else {
                memcpy(slot_of(f, i->out), v, (size_t)n * i->size);
                v = slot_of(f, i->out);
            }
            f->value[i->out] = v;
            break;
        }
        case TARN_DO_FOLD:
            if (p->fold[i->index].active) {
                tarn_fold_tile(&f->fold[i->index], p->fold[i->index].base + at, n, in);
            }
            break;
        case TARN_DO_STORE:
        case TARN_DO_KEEP: {
            char *dst = i->what == TARN_DO_STORE
                            ? f->store + (at - chunk_at) * (int64_t)i->size
                            : (char *)p->keep[i->index]->storage->data + at * (int64_t)i->size;
            if (i->first) {
                i->first(n, in[0], dst);
            } else {
                memcpy(dst, in[0], (size_t)n * i->size);
            }
            break;
        }
        }
    }
}

static tarn_status put_chunk(program_run *x, int64_t at, int64_t n, const char *store,
                             tarn_error *err) {
    const tarn_program *p = x->p;
    const runner *r = x->r;
    if (!(r->options && r->options->allow_nonfinite) && !all_finite(p->store_dtype, n, store)) {
        TARN_RAISE(err, "NonFinite",
                   "%s: the result holds NaN or infinity as %s; allow it with allow_nonfinite = true",
                   r->jobs[x->job].name, tarn_dtype_get(p->store_dtype)->name);
    }
    TARN_TRY(r->sink->put(r->sink->arg, x->job, (uint64_t)at * p->store_size, store,
                          (uint64_t)n * p->store_size, err));
    atomic_fetch_add_explicit(&r->cx->progress.done, (uint64_t)n * p->store_size,
                              memory_order_relaxed);
    return TARN_OK;
}

static tarn_status run_block(void *arg, int64_t block, int worker, tarn_error *err) {
    program_run *x = arg;
    tarn_program *p = x->p;
    char *memory = x->scratch + (size_t)worker * x->scratch_bytes;
    frame f = {.slots = memory};
    memory += (size_t)p->nslots * TARN_TILE * 8;
    f.value = (const void **)(void *)memory;
    memory += ((size_t)p->nslots + 1) * 64;
    f.fold = (tarn_fold *)(void *)memory;
    memory += ((size_t)p->nfold * sizeof(tarn_fold) + 63) / 64 * 64;
    const char **chunk = (const char **)(void *)memory;
    memory += ((size_t)p->nload + 1) * 64;
    char *folds = memory;
    memory += p->fold_scratch;
    for (int i = 0; i < p->ninstr; i++) {
        if (p->instr[i].what == TARN_DO_SPLAT) {
            int s = p->instr[i].out;
            f.value[s] = tarn_fetch_tile(&p->fetch[p->instr[i].index], 0, TARN_TILE, slot_of(&f, s));
        }
    }
    for (int i = 0; i < p->nfold; i++) {
        tarn_fold_spec *s = &p->fold[i];
        const tarn_reducer *red = s->node->op->reducer;
        tarn_fold_init(&f.fold[i], red, s->fn, &s->node->attr, s->state, folds);
        folds += tarn_fold_scratch(red);
        if (!s->active) {
            continue;
        }
        int w = worker + x->worker_base;
        if (red->exact) {
            f.fold[i].acc = s->parts + (size_t)w * red->part;
            if (!s->opened[w]) {
                red->open(f.fold[i].acc);
                s->opened[w] = true;
            }
        } else {
            tarn_fold_begin(&f.fold[i]);
        }
    }
    int64_t end = (block + 1) * TARN_BLOCK < p->numel ? (block + 1) * TARN_BLOCK : p->numel;
    for (int64_t at = block * TARN_BLOCK; at < end; at += TARN_CHUNK) {
        int64_t n = end - at < TARN_CHUNK ? end - at : TARN_CHUNK;
        TARN_TRY(tarn_cancel_check(&x->r->cx->cancel, err));
        TARN_TRY(read_chunk(x, at, n, memory, chunk, err));
        union {
            const char *in;
            char *out;
        } u = {.in = chunk[p->nload]};
        f.store = u.out;
        for (int64_t t = at; t < at + n; t += TARN_TILE) {
            run_tile(x, &f, chunk, at, t, at + n - t < TARN_TILE ? at + n - t : TARN_TILE);
        }
        if (p->store_size) {
            TARN_TRY(put_chunk(x, at, n, f.store, err));
        }
        if (x->r->cx->progress.show) {
            x->r->cx->progress.show(&x->r->cx->progress);
        }
    }
    for (int i = 0; i < p->nfold; i++) {
        tarn_fold_spec *s = &p->fold[i];
        if (s->active && !s->node->op->reducer->exact) {
            tarn_fold_end(&f.fold[i], s->parts + (size_t)block * s->node->op->reducer->part);
        }
    }
    return TARN_OK;
}

static tarn_status run_program(runner *r, int64_t job, tarn_program *p, tarn_pool *pool,
                               int worker_base, tarn_error *err) {
    program_run x = {.r = r, .job = job, .p = p, .worker_base = worker_base};
    int64_t blocks = (p->numel + TARN_BLOCK - 1) / TARN_BLOCK;
    x.scratch_bytes = (size_t)p->nslots * TARN_TILE * 8 + ((size_t)p->nslots + 1) * 64 +
                      ((size_t)p->nfold * sizeof(tarn_fold) + 63) / 64 * 64 +
                      ((size_t)p->nload + 1) * 64 + p->fold_scratch + chunk_bytes(p);
    size_t total = x.scratch_bytes * (size_t)tarn_pool_size(pool);
    x.scratch = tarn_alloc(&r->cx->budget, total);
    if (!x.scratch) {
        return tarn_raise_nomem(err, r->jobs[job].name, total);
    }
    tarn_status s = tarn_pool_run(pool, blocks, run_block, &x, &r->cx->cancel, err);
    tarn_free(&r->cx->budget, x.scratch, total);
    return s;
}

// ---- one job ----

typedef struct {
    runner *r;
    int64_t job;
    tarn_graph *g;
    tarn_pool *pool;   // NULL: the whole job on this worker
    int worker;        // of this job, when pool is NULL
    tarn_arena arena;
    tarn_layout layout;
    tarn_tensor *values;  // [count]
    char **held;          // [count] of sources
    bool *loaded;         // [count]
    size_t held_bytes;
    tarn_error *err;
} job_run;

// Computes what lives in memory and is due before pass `pass`.
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
        TARN_TRY(tarn_op_apply(j->r->cx, n->op, n->nin, in, &n->attr, &j->values[i], j->err));
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
        return tarn_reduce_result(j->r->cx, &s->node->desc, s->out, &j->values[s->node->id], j->err);
    }
    memset(s->opened, 0, (size_t)workers);
    return TARN_OK;
}

// Memory of a fold for its sweeps. A whole-model one uses the barrier's.
static tarn_status open_fold(job_run *j, tarn_fold_spec *s, int64_t numel, int workers) {
    const tarn_reducer *red = s->node->op->reducer;
    int64_t gid = tarn_gid(s->node);
    s->active = true;
    int64_t blocks = (numel + TARN_BLOCK - 1) / TARN_BLOCK;
    size_t nparts = red->exact ? (size_t)workers : (size_t)(blocks > 0 ? blocks : 1);
    if (gid && red->exact) {
        barrier *b = &j->r->barriers[gid - 1];
        s->state = b->state;
        s->parts = b->parts;
        s->opened = b->opened;
        s->base = b->base[j->job];
        return TARN_OK;
    }
    s->state = tarn_arena_take(&j->arena, red->state + 1);
    s->parts = tarn_arena_take(&j->arena, nparts * red->part);
    s->opened = tarn_arena_take(&j->arena, (size_t)workers);
    if (!s->state || !s->parts || !s->opened) {
        return tarn_raise_nomem(j->err, s->node->op->name, nparts * red->part);
    }
    memset(s->opened, 0, (size_t)workers);
    if (gid) {
        s->base = j->r->barriers[gid - 1].base[j->job];
    } else if (red->begin) {
        red->begin(&s->node->attr, numel, s->state);
    }
    return TARN_OK;
}

static tarn_status close_fold(job_run *j, tarn_fold_spec *s, int64_t numel, int workers) {
    int64_t gid = tarn_gid(s->node);
    if (!gid) {
        return finish_fold(j, s, numel, workers);
    }
    const tarn_reducer *red = s->node->op->reducer;
    s->active = false;
    if (!red->exact) {
        tarn_reduce_join(red, (numel + TARN_BLOCK - 1) / TARN_BLOCK, s->parts);
        barrier *b = &j->r->barriers[gid - 1];
        memcpy(b->parts + (size_t)b->place[j->job] * red->part, s->parts, red->part);
    }
    return TARN_OK;
}

static tarn_status sweep_group(job_run *j, int64_t numel, int ngoals, const tarn_goal *goals) {
    tarn_program p;
    TARN_TRY(tarn_program_make(j->r->cx, &j->arena, j->g, &j->layout, j->values, numel, ngoals,
                               goals, &p, j->err));
    for (int i = 0; i < p.nload; i++) {
        for (int id = 0; id < j->layout.count; id++) {
            if (tarn_node_source(j->g->nodes[id]) == p.load[i].source) {
                p.load[i].held = j->held[id];
                p.load[i].loaded = &j->loaded[id];
            }
        }
    }
    int workers = tarn_pool_size(j->r->cx->pool);
    for (int i = 0; i < p.nfold; i++) {
        TARN_TRY(open_fold(j, &p.fold[i], numel, workers));
    }
    for (;;) {
        TARN_TRY(run_program(j->r, j->job, &p, j->pool, j->worker, j->err));
        for (int i = 0; i < p.nload; i++) {
            if (p.load[i].held) {
                union {
                    const bool *in;
                    bool *out;
                } u = {.in = p.load[i].loaded};
                *u.out = true;
            }
        }
        bool again = false;
        for (int i = 0; i < p.nfold; i++) {
            if (p.fold[i].active) {
                TARN_TRY(close_fold(j, &p.fold[i], numel, workers));
                again = again || p.fold[i].active;
            }
        }
        if (!again) {
            return TARN_OK;
        }
        // Further sweeps only count: what was stored or kept is there already.
        int k = 0;
        for (int i = 0; i < p.ninstr; i++) {
            if (p.instr[i].what != TARN_DO_STORE && p.instr[i].what != TARN_DO_KEEP) {
                p.instr[k++] = p.instr[i];
            }
        }
        p.ninstr = k;
        p.store_size = 0;
    }
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
        if (!red->exact) {
            barrier *b = &j->r->barriers[gid - 1];
            char acc[1024];
            red->open(acc);
            red->close(acc, b->parts + (size_t)b->place[j->job] * red->part);
        }
    }
    return TARN_OK;
}

static int64_t domain_of(const tarn_goal *goal) {
    const tarn_node *n = goal->what == TARN_GOAL_FOLD ? goal->node->in[0] : goal->node;
    return tarn_desc_numel(&n->desc);
}

static tarn_status run_pass(job_run *j, int pass, const tarn_node *root) {
    TARN_TRY(compute_memory(j, pass));
    int most = j->layout.count * 2 + 2, ngoals = 0;
    tarn_goal *goals = tarn_arena_take(&j->arena, (size_t)most * sizeof *goals);
    tarn_goal *group = tarn_arena_take(&j->arena, (size_t)most * sizeof *group);
    if (!goals || !group) {
        return tarn_raise_nomem(j->err, "a pass", (size_t)most * sizeof *goals);
    }
    for (int i = 0; i < j->layout.count; i++) {
        const tarn_spot *s = &j->layout.spot[i];
        const tarn_node *n = j->g->nodes[i];
        int64_t gid = tarn_gid(n);
        bool ours = !gid || (!j->r->known[gid] && s->stage == j->r->stage + 1);
        if (s->sweeps && s->ready == pass + 1 && ours) {
            goals[ngoals++] = (tarn_goal){.node = n, .what = TARN_GOAL_FOLD};
        }
        if (s->kind == TARN_AT_TILE && s->keep && s->ready == pass) {
            TARN_TRY(tarn_tensor_new(j->r->cx, tarn_dtype_compute(n->desc.dtype), n->desc.rank,
                                     n->desc.shape, &j->values[i], j->err));
            // Not visible as a value before the pass has filled it.
            tarn_tensor *keep = tarn_arena_take(&j->arena, sizeof *keep);
            if (!keep) {
                return tarn_raise_nomem(j->err, "a pass", sizeof *keep);
            }
            *keep = j->values[i];
            j->values[i].storage = NULL;
            goals[ngoals++] = (tarn_goal){.node = n, .what = TARN_GOAL_KEEP, .keep = keep};
        }
    }
    if (root && j->layout.spot[root->id].kind == TARN_AT_TILE &&
        j->layout.spot[root->id].ready == pass) {
        goals[ngoals++] = (tarn_goal){.node = root, .what = TARN_GOAL_STORE,
                                      .store = j->r->jobs[j->job].store};
    }
    // Goals over equally many elements share one sweep.
    tarn_status s = TARN_OK;
    for (int left = ngoals; left > 0 && s == TARN_OK;) {
        int64_t numel = domain_of(&goals[0]);
        int n = 0, rest = 0;
        for (int i = 0; i < left; i++) {
            if (domain_of(&goals[i]) == numel) {
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

static tarn_status hold_inputs(job_run *j) {
    if (j->layout.passes < 2 || j->layout.source_bytes > j->r->cx->hold / (j->pool ? 1 : 8)) {
        return TARN_OK;
    }
    for (int i = 0; i < j->layout.count; i++) {
        const tarn_node *n = j->g->nodes[i];
        if (!tarn_node_source(n) || j->layout.spot[i].kind != TARN_AT_TILE) {
            continue;
        }
        const tarn_source *s = n->attr.p;
        j->held[i] = tarn_alloc(&j->r->cx->budget, s->bytes);
        if (!j->held[i]) {
            return TARN_OK;  // no room: read again instead
        }
        j->held_bytes += s->bytes;
    }
    return TARN_OK;
}

static tarn_status put_root(job_run *j, const tarn_node *root) {
    const tarn_tensor *v = &j->values[root->id];
    tarn_tensor t;
    TARN_TRY(tarn_tensor_cast(j->r->cx, v, j->r->jobs[j->job].store, &t, j->err));
    tarn_status s = TARN_OK;
    int64_t numel = tarn_tensor_numel(&t);
    if (!(j->r->options && j->r->options->allow_nonfinite) &&
        !all_finite(t.dtype, numel, tarn_tensor_data(&t))) {
        s = tarn_raise(j->err, "NonFinite",
                       "%s: the result holds NaN or infinity as %s; allow it with "
                       "allow_nonfinite = true",
                       j->r->jobs[j->job].name, tarn_dtype_get(t.dtype)->name);
    }
    if (s == TARN_OK) {
        s = j->r->sink->put(j->r->sink->arg, j->job, 0, tarn_tensor_data(&t), tarn_tensor_bytes(&t),
                            j->err);
    }
    tarn_tensor_release(&t);
    return s;
}

static tarn_status run_passes(job_run *j, bool last) {
    const tarn_node *root = last ? j->r->jobs[j->job].root : NULL;
    TARN_TRY(hold_inputs(j));
    for (int pass = 0; pass < j->layout.passes; pass++) {
        TARN_TRY(run_pass(j, pass, root));
    }
    for (int pass = j->layout.passes; root && pass <= j->layout.passes + 1; pass++) {
        TARN_TRY(compute_memory(j, pass));
    }
    if (root && j->layout.spot[root->id].kind == TARN_AT_MEMORY) {
        return put_root(j, root);
    }
    return TARN_OK;
}

static tarn_status run_job(runner *r, int64_t job, tarn_pool *pool, int worker, tarn_error *err) {
    job_run j = {.r = r, .job = job, .g = r->jobs[job].graph, .pool = pool, .worker = worker,
                 .err = err};
    bool last = r->stage == r->stages;
    if (last && r->jobs[job].hidden) {
        return TARN_OK;
    }
    // Before the last stage only the whole-model reductions that are due matter.
    const tarn_node *one = r->jobs[job].root;
    const tarn_node **roots = &one;
    int nroots = 1;
    tarn_arena_init(&j.arena, &r->cx->budget);
    tarn_status s = TARN_OK;
    tarn_layout all;
    if (!last) {
        s = tarn_layout_make(j.g, 1, &one, r->known, &all, err);
        if (s != TARN_OK) {
            return s;
        }
        nroots = 0;
        roots = tarn_arena_take(&j.arena, ((size_t)all.count + 1) * sizeof *roots);
        for (int i = 0; roots && i < all.count; i++) {
            const tarn_node *n = j.g->nodes[i];
            int64_t gid = all.spot[i].kind ? tarn_gid(n) : 0;
            if (gid && !r->known[gid] && all.spot[i].stage == 1 &&
                r->barriers[gid - 1].place && r->barriers[gid - 1].place[job] >= 0) {
                roots[nroots++] = n;
            }
        }
        tarn_layout_free(&all);
    }
    if (roots && nroots > 0) {
        s = tarn_layout_make(j.g, nroots, roots, r->known, &j.layout, err);
    } else {
        tarn_arena_free(&j.arena);
        return roots ? TARN_OK : tarn_raise_nomem(err, "a plan", 0);
    }
    size_t count = (size_t)j.layout.count + 1;
    j.values = s == TARN_OK ? calloc(count, sizeof *j.values) : NULL;
    j.held = s == TARN_OK ? calloc(count, sizeof *j.held) : NULL;
    j.loaded = s == TARN_OK ? calloc(count, sizeof *j.loaded) : NULL;
    if (s == TARN_OK && (!j.values || !j.held || !j.loaded)) {
        s = tarn_raise_nomem(err, "a job", count * sizeof *j.values);
    }
    if (s == TARN_OK) {
        s = run_passes(&j, last);
    }
    for (size_t i = 0; i + 1 < count && j.values && j.held; i++) {
        tarn_tensor_release(&j.values[i]);
        if (j.held[i]) {
            tarn_free(&r->cx->budget, j.held[i], ((const tarn_source *)j.g->nodes[i]->attr.p)->bytes);
        }
    }
    free(j.values);
    free(j.held);
    free(j.loaded);
    tarn_layout_free(&j.layout);
    tarn_arena_free(&j.arena);
    if (s == TARN_ERROR && err && !strstr(err->message, r->jobs[job].name)) {
        tarn_error_prefix(err, "%s", r->jobs[job].name);
    }
    return s;
}

static tarn_status small_task(void *arg, int64_t task, int worker, tarn_error *err) {
    runner *r = arg;
    return run_job(r, r->small[task], NULL, worker, err);
}

// ---- stages ----

static tarn_status run_stage(runner *r, tarn_error *err) {
    TARN_TRY(tarn_pool_run(r->cx->pool, r->nsmall, small_task, r, &r->cx->cancel, err));
    for (int64_t i = 0; i < r->nlarge; i++) {
        TARN_TRY(run_job(r, r->large[i], r->cx->pool, 0, err));
    }
    return TARN_OK;
}

static tarn_status find_barriers(runner *r, tarn_error *err) {
    for (int64_t i = 0; i < r->njobs; i++) {
        const tarn_graph *g = r->jobs[i].graph;
        for (int k = 0; k <= r->jobs[i].root->id; k++) {
            int64_t gid = tarn_gid(g->nodes[k]);
            if (gid > r->nbarriers) {
                r->nbarriers = (int)gid;
            }
        }
    }
    r->known = calloc((size_t)r->nbarriers + 1, sizeof *r->known);
    r->barriers = calloc((size_t)r->nbarriers + 1, sizeof *r->barriers);
    if (!r->known || !r->barriers) {
        return tarn_raise_nomem(err, "a run", (size_t)r->nbarriers * sizeof *r->barriers);
    }
    return TARN_OK;
}

typedef struct {
    int64_t start, job, numel;
} member;

static int by_start(const void *a, const void *b) {
    const member *x = a, *y = b;
    if (x->start != y->start) {
        return (x->start > y->start) - (x->start < y->start);
    }
    return (x->job > y->job) - (x->job < y->job);
}

// Which jobs contribute to a whole-model reduction, in the order of the model. A tensor that stands
// behind several outputs counts once.
static tarn_status find_members(runner *r, int gid, barrier *b, tarn_error *err) {
    member *m = calloc((size_t)r->njobs + 1, sizeof *m);
    b->base = calloc((size_t)r->njobs + 1, sizeof *b->base);
    b->place = calloc((size_t)r->njobs + 1, sizeof *b->place);
    if (!m || !b->base || !b->place) {
        free(m);
        return tarn_raise_nomem(err, "a whole-model reduction", (size_t)r->njobs * sizeof *m);
    }
    int64_t n = 0;
    for (int64_t i = 0; i < r->njobs; i++) {
        const tarn_graph *g = r->jobs[i].graph;
        unsigned char *use = calloc((size_t)g->count + 1, 1);
        if (!use) {
            free(m);
            return tarn_raise_nomem(err, "a whole-model reduction", 0);
        }
        tarn_graph_mark(g, 1, &r->jobs[i].root, use);
        b->place[i] = -1;
        for (int k = 0; k <= r->jobs[i].root->id; k++) {
            const tarn_node *x = g->nodes[k];
            if (use[k] && tarn_gid(x) == gid) {
                b->node = x;
                b->base[i] = (int64_t)x->attr.f[x->attr.nf - 1];
                m[n++] = (member){b->base[i], i, tarn_desc_numel(&x->in[0]->desc)};
                break;
            }
        }
        free(use);
    }
    qsort(m, (size_t)n, sizeof *m, by_start);
    for (int64_t k = 0; k < n; k++) {
        if (k == 0 || m[k].start != m[k - 1].start) {
            b->place[m[k].job] = b->members++;
            b->total += m[k].numel;
        }
    }
    free(m);
    return TARN_OK;
}

static tarn_status open_barrier(runner *r, int gid, tarn_error *err) {
    barrier *b = &r->barriers[gid - 1];
    TARN_TRY(find_members(r, gid, b, err));
    if (!b->node) {
        return TARN_OK;
    }
    const tarn_reducer *red = b->node->op->reducer;
    int workers = tarn_pool_size(r->cx->pool);
    size_t nparts = red->exact ? (size_t)workers : (size_t)b->members;
    b->state = calloc(1, red->state + 1);
    b->parts = calloc(nparts, red->part);
    b->opened = calloc((size_t)workers, 1);
    if (!b->state || !b->parts || !b->opened) {
        return tarn_raise_nomem(err, "a whole-model reduction", nparts * red->part);
    }
    if (!red->exact) {
        char acc[1024];
        for (size_t p = 0; p < nparts; p++) {
            red->open(acc);
            red->close(acc, b->parts + p * red->part);
        }
    }
    if (red->begin) {
        red->begin(&b->node->attr, b->total, b->state);
    }
    return TARN_OK;
}

static bool close_barrier(runner *r, int gid) {
    barrier *b = &r->barriers[gid - 1];
    const tarn_reducer *red = b->node->op->reducer;
    int workers = tarn_pool_size(r->cx->pool);
    if (!red->exact) {
        tarn_reduce_join(red, b->members, b->parts);
    } else {
        bool first = true;
        for (int w = 0; w < workers; w++) {
            if (!b->opened[w]) {
                continue;
            }
            if (first && w > 0) {
                memcpy(b->parts, b->parts + (size_t)w * red->part, red->part);
            } else if (!first) {
                red->join(b->parts, b->parts + (size_t)w * red->part);
            }
            first = false;
        }
        memset(b->opened, 0, (size_t)workers);
    }
    if (b->total == 0) {
        b->out[0] = red->start;
        return true;
    }
    return red->finish(b->parts, b->total, &b->node->attr, b->state, b->out);
}

// The stage of each whole-model reduction, from all jobs; stages in all.
static tarn_status stage_of_barriers(runner *r, int *stage, tarn_error *err) {
    for (int64_t i = 0; i < r->njobs; i++) {
        tarn_layout l;
        TARN_TRY(tarn_layout_make(r->jobs[i].graph, 1, &r->jobs[i].root, NULL, &l, err));
        for (int k = 0; k < l.count; k++) {
            int64_t gid = l.spot[k].kind ? tarn_gid(r->jobs[i].graph->nodes[k]) : 0;
            if (gid && l.spot[k].stage > stage[gid]) {
                stage[gid] = l.spot[k].stage;
            }
        }
        r->stages = l.stages > r->stages ? l.stages : r->stages;
        tarn_layout_free(&l);
    }
    return TARN_OK;
}

static tarn_status run_barriers(runner *r, tarn_error *err) {
    int *stage = calloc((size_t)r->nbarriers + 1, sizeof *stage);
    if (!stage) {
        return tarn_raise_nomem(err, "a run", 0);
    }
    tarn_status s = stage_of_barriers(r, stage, err);
    int stages = r->stages;
    for (int t = 1; t <= stages && s == TARN_OK; t++) {
        for (int gid = 1; gid <= r->nbarriers && s == TARN_OK; gid++) {
            if (stage[gid] == t) {
                s = open_barrier(r, gid, err);
            }
        }
        bool again = true;
        while (again && s == TARN_OK) {
            r->stage = 0;  // known reductions count as leaves, so the due ones are always the first
            r->stages = 1;
            s = run_stage(r, err);
            again = false;
            for (int gid = 1; gid <= r->nbarriers && s == TARN_OK; gid++) {
                if (stage[gid] == t && !r->barriers[gid - 1].done) {
                    r->barriers[gid - 1].done = close_barrier(r, gid);
                    again = again || !r->barriers[gid - 1].done;
                }
            }
        }
        for (int gid = 1; gid <= r->nbarriers; gid++) {
            r->known[gid] = r->known[gid] || stage[gid] == t;
        }
    }
    r->stage = r->stages = 0;
    free(stage);
    return s;
}

static tarn_status sort_by_size(runner *r, tarn_error *err) {
    r->large = calloc((size_t)r->njobs + 1, sizeof *r->large);
    r->small = calloc((size_t)r->njobs + 1, sizeof *r->small);
    if (!r->large || !r->small) {
        return tarn_raise_nomem(err, "a run", (size_t)r->njobs * 16);
    }
    for (int64_t i = 0; i < r->njobs; i++) {
        tarn_layout l;
        TARN_TRY(tarn_layout_make(r->jobs[i].graph, 1, &r->jobs[i].root, NULL, &l, err));
        if (l.largest > TARN_BLOCK || l.whole_bytes > ((uint64_t)1 << 20)) {
            r->large[r->nlarge++] = i;
        } else {
            r->small[r->nsmall++] = i;
        }
        tarn_layout_free(&l);
    }
    return TARN_OK;
}

tarn_status tarn_stream_run(tarn_context *cx, int64_t n, const tarn_job *jobs,
                            const tarn_sink *sink, const tarn_stream_options *o, tarn_error *err) {
    runner r = {.cx = cx, .njobs = n, .jobs = jobs, .sink = sink, .options = o};
    tarn_status s = find_barriers(&r, err);
    s = s == TARN_OK ? sort_by_size(&r, err) : s;
    if (s == TARN_OK && r.nbarriers > 0) {
        s = run_barriers(&r, err);
    }
    s = s == TARN_OK ? run_stage(&r, err) : s;
    for (int i = 0; i < r.nbarriers && r.barriers; i++) {
        free(r.barriers[i].base);
        free(r.barriers[i].place);
        free(r.barriers[i].state);
        free(r.barriers[i].parts);
        free(r.barriers[i].opened);
    }
    free(r.barriers);
    free(r.known);
    free(r.large);
    free(r.small);
    return s;
}

// ---- loading, planning ----

static tarn_status put_tensor(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                              tarn_error *err) {
    (void)err;
    tarn_tensor *t = arg;
    memcpy((char *)t[job].storage->data + at, p, n);
    return TARN_OK;
}

tarn_status tarn_stream_load(tarn_context *cx, int64_t n, const tarn_job *jobs,
                             tarn_tensor *results, tarn_error *err) {
    tarn_status s = TARN_OK;
    memset(results, 0, (size_t)n * sizeof *results);
    for (int64_t i = 0; i < n && s == TARN_OK; i++) {
        const tarn_desc *d = &jobs[i].root->desc;
        if (jobs[i].hidden) {
            continue;
        }
        s = tarn_tensor_new(cx, jobs[i].store, d->rank, d->shape, &results[i], err);
        results[i].weak = d->weak && s == TARN_OK;
    }
    tarn_sink sink = {put_tensor, results};
    tarn_stream_options o = {.allow_nonfinite = true};
    s = s == TARN_OK ? tarn_stream_run(cx, n, jobs, &sink, &o, err) : s;
    for (int64_t i = 0; i < n && s != TARN_OK; i++) {
        tarn_tensor_release(&results[i]);
    }
    return s;
}

tarn_status tarn_stream_plan_of(tarn_context *cx, int64_t n, const tarn_job *jobs,
                                tarn_stream_plan *total, tarn_job_plan *plans, tarn_error *err) {
    memset(total, 0, sizeof *total);
    uint64_t workers = (uint64_t)tarn_pool_size(cx->pool), most = 0;
    for (int64_t i = 0; i < n; i++) {
        tarn_layout l;
        tarn_job_plan p = {0};
        TARN_TRY(tarn_layout_make(jobs[i].graph, 1, &jobs[i].root, NULL, &l, err));
        p.passes = l.passes > 0 ? l.passes : 1;
        bool large = l.largest > TARN_BLOCK || l.whole_bytes > ((uint64_t)1 << 20);
        p.held = l.passes - l.stages > 1 && l.source_bytes <= cx->hold / (large ? 1 : 8);
        p.hold = p.held ? l.source_bytes : 0;
        p.reads = l.source_bytes * (uint64_t)(p.held ? 1 + l.stages : p.passes);
        p.writes = tarn_dtype_bytes(jobs[i].store, tarn_desc_numel(&jobs[i].root->desc));
        p.workspace = l.whole_bytes;
        uint64_t here = (p.hold + p.workspace) * (large ? 1 : workers);
        most = here > most ? here : most;
        total->passes = p.passes > total->passes ? p.passes : total->passes;
        total->barriers = l.stages > total->barriers ? l.stages : total->barriers;
        total->reads += p.reads;
        total->writes += p.writes;
        if (plans) {
            plans[i] = p;
        }
        tarn_layout_free(&l);
    }
    total->peak = most + workers * ((uint64_t)4 << 20);
    return TARN_OK;
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
