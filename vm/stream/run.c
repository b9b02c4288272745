// SPDX-License-Identifier: Apache-2.0
// Running jobs. Small tensors are whole tasks, one per worker; a large one is cut into blocks that
// all workers share, pass by pass. Whole-model reductions are stages: every job contributes its part,
// then all jobs go on.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/run.h"

static tarn_status small_task(void *arg, int64_t task, int worker, tarn_error *err) {
    tarn_runner *r = arg;
    return tarn_job_run(r, r->small[task], NULL, worker, err);
}

// Jobs that factorise are long on one processor each. As many as memory allows are run at once.
typedef struct {
    tarn_runner *r;
    const tarn_job_size *first;
} side_run;

static tarn_status side_task(void *arg, int64_t task, int worker, tarn_error *err) {
    side_run *x = arg;
    return tarn_job_run(x->r, x->first[task].job, NULL, worker, err);
}

static tarn_status run_sides(tarn_runner *r, tarn_error *err) {
    for (int64_t at = 0, n; at < r->nside; at += n) {
        side_run x = {r, r->side + at};
        uint64_t room = tarn_room(r->cx), peak;
        n = tarn_side_next(r->cx, r->nside - at, x.first, room, &peak);
        if (n == 1) {
            tarn_pool *pool = x.first->shared <= room ? r->cx->pool : NULL;
            TARN_TRY(tarn_job_run(r, x.first->job, pool, 0, err));
        } else {
            TARN_TRY(tarn_pool_run(r->cx->pool, n, side_task, &x, &r->cx->cancel, err));
        }
    }
    return TARN_OK;
}

// ---- stages ----

static tarn_status run_stage(tarn_runner *r, tarn_error *err) {
    TARN_TRY(tarn_pool_run(r->cx->pool, r->nsmall, small_task, r, &r->cx->cancel, err));
    TARN_TRY(run_sides(r, err));
    for (int64_t i = 0; i < r->nlarge; i++) {
        TARN_TRY(tarn_job_run(r, r->large[i], r->cx->pool, 0, err));
    }
    return TARN_OK;
}

static tarn_status find_barriers(tarn_runner *r, tarn_error *err) {
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
static tarn_status find_members(tarn_runner *r, int gid, tarn_barrier *b, tarn_error *err) {
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

static void free_parts(const tarn_runner *r, tarn_barrier *b) {
    tarn_free(&r->cx->budget, b->parts, b->bytes);
    b->parts = NULL;
}

static tarn_status open_barrier(tarn_runner *r, int gid, tarn_error *err) {
    tarn_barrier *b = &r->barriers[gid - 1];
    TARN_TRY(find_members(r, gid, b, err));
    if (!b->node) {
        return TARN_OK;
    }
    const tarn_reducer *red = b->node->op->reducer;
    int workers = tarn_pool_size(r->cx->pool);
    size_t nparts = red->exact ? (size_t)workers : (size_t)b->members;
    b->state = calloc(1, red->state + 1);
    b->bytes = nparts * red->part;
    b->parts = tarn_alloc_zero(&r->cx->budget, b->bytes);
    b->opened = calloc((size_t)workers, 1);
    if (!b->state || !b->parts || !b->opened) {
        return tarn_raise_nomem(err, "a whole-model reduction", b->bytes);
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

static bool close_barrier(tarn_runner *r, int gid) {
    tarn_barrier *b = &r->barriers[gid - 1];
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
static tarn_status stage_of_barriers(tarn_runner *r, int *stage, tarn_error *err) {
    for (int64_t i = 0; i < r->njobs; i++) {
        tarn_layout l;
        TARN_TRY(tarn_stream_layout_make(r->jobs[i].graph, 1, &r->jobs[i].root, NULL, &l, err));
        for (int k = 0; k < l.count; k++) {
            int64_t gid = l.spot[k].kind ? tarn_gid(r->jobs[i].graph->nodes[k]) : 0;
            if (gid && l.spot[k].stage > stage[gid]) {
                stage[gid] = l.spot[k].stage;
            }
        }
        r->stages = l.stages > r->stages ? l.stages : r->stages;
        tarn_stream_layout_free(&l);
    }
    return TARN_OK;
}

static tarn_status run_barriers(tarn_runner *r, tarn_error *err) {
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
                    tarn_barrier *b = &r->barriers[gid - 1];
                    b->done = close_barrier(r, gid);
                    again = again || !b->done;
                    if (b->done) {
                        tarn_recall_keep_global(r->cx, &r->recall, gid, b->out);
                        free_parts(r, b);
                    }
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

static tarn_status sort_by_size(tarn_runner *r, tarn_error *err) {
    r->large = calloc((size_t)r->njobs + 1, sizeof *r->large);
    r->small = calloc((size_t)r->njobs + 1, sizeof *r->small);
    r->side = calloc((size_t)r->njobs + 1, sizeof *r->side);
    if (!r->large || !r->small || !r->side) {
        return tarn_raise_nomem(err, "a run", (size_t)r->njobs * 16);
    }
    for (int64_t i = 0; i < r->njobs; i++) {
        tarn_layout l;
        tarn_job_size size;
        TARN_TRY(tarn_stream_layout_make(r->jobs[i].graph, 1, &r->jobs[i].root, NULL, &l, err));
        tarn_job_size_of(r->cx, i, &r->jobs[i], &l, &size);
        tarn_stream_layout_free(&l);
        TARN_TRY(tarn_job_fits(r->cx, &r->jobs[i], &size, err));
        if (size.kind == TARN_JOB_SMALL) {
            r->small[r->nsmall++] = i;
        } else if (size.kind == TARN_JOB_SIDE) {
            r->side[r->nside++] = size;
        } else {
            r->large[r->nlarge++] = i;
        }
    }
    tarn_side_order(r->nside, r->side);
    return TARN_OK;
}

tarn_status tarn_stream_run(tarn_context *cx, int64_t n, const tarn_job *jobs,
                            const tarn_sink *sink, const tarn_stream_options *o, tarn_error *err) {
    tarn_runner r = {.cx = cx, .njobs = n, .sink = sink, .options = o};
    tarn_stream_plan whole = {0};
    tarn_status s = tarn_recall_open(cx, n, jobs, &r.recall, err);
    r.jobs = jobs = r.recall.jobs;
    // Whoever began a longer piece of work, of which this is a part, ends it too.
    bool begins = !cx->progress.what && cx->progress.total == 0;
    if (s == TARN_OK && cx->progress.show && begins) {
        s = tarn_stream_plan_of(cx, n, jobs, &whole, NULL, err);
        tarn_progress_begin(cx, NULL, whole.reads + whole.writes);
    }
    s = s == TARN_OK ? find_barriers(&r, err) : s;
    s = s == TARN_OK ? sort_by_size(&r, err) : s;
    if (s == TARN_OK && r.nbarriers > 0) {
        s = run_barriers(&r, err);
    }
    s = s == TARN_OK ? run_stage(&r, err) : s;
    for (int i = 0; i < r.nbarriers && r.barriers; i++) {
        free(r.barriers[i].base);
        free(r.barriers[i].place);
        free(r.barriers[i].state);
        free_parts(&r, &r.barriers[i]);
        free(r.barriers[i].opened);
    }
    free(r.barriers);
    free(r.known);
    free(r.large);
    free(r.small);
    free(r.side);
    tarn_recall_close(&r.recall);
    if (begins) {
        tarn_progress_end(cx);
    }
    return s;
}

// ---- loading ----

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
