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

static void close_members(tarn_barrier *b) {
    free(b->base);
    free(b->place);
    b->base = b->place = NULL;
}

static void free_parts(const tarn_runner *r, tarn_barrier *b) {
    tarn_free(&r->cx->budget, b->parts, b->bytes);
    b->parts = NULL;
}

static tarn_status open_barrier(tarn_runner *r, int gid, tarn_error *err) {
    tarn_barrier *b = &r->barriers[gid - 1];
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

static tarn_status open_barriers(tarn_runner *r, int stage, tarn_error *err) {
    for (int gid = 1; gid <= r->nbarriers; gid++) {
        if (r->barriers[gid - 1].stage == stage) {
            TARN_TRY(open_barrier(r, gid, err));
        }
    }
    return TARN_OK;
}

// After a sweep; true: some of them ask for another.
static bool close_barriers(tarn_runner *r, int stage) {
    bool again = false;
    for (int gid = 1; gid <= r->nbarriers; gid++) {
        tarn_barrier *b = &r->barriers[gid - 1];
        if (b->stage != stage || b->done) {
            continue;
        }
        b->done = close_barrier(r, gid);
        again = again || !b->done;
        if (b->done) {
            tarn_recall_keep_global(r->cx, &r->recall, gid, b->out);
            free_parts(r, b);
        }
    }
    return again;
}

static tarn_status run_barriers(tarn_runner *r, tarn_error *err) {
    int stages = r->stages;
    for (int t = 1; t <= stages; t++) {
        TARN_TRY(open_barriers(r, t, err));
        r->stage = 0;  // known reductions count as leaves, so the due ones are always the first
        r->stages = 1;
        do {
            TARN_TRY(run_stage(r, err));
        } while (close_barriers(r, t));
        for (int gid = 1; gid <= r->nbarriers; gid++) {
            if (r->barriers[gid - 1].stage == t) {
                r->known[gid] = true;
                close_members(&r->barriers[gid - 1]);
            }
        }
    }
    r->stage = r->stages = 0;
    return TARN_OK;
}

static tarn_status open_run(tarn_runner *r, const tarn_job *jobs, tarn_error *err) {
    pthread_mutex_init(&r->making, NULL);
    r->jobs = malloc((size_t)r->njobs * sizeof *r->jobs + 1);
    if (!r->jobs) {
        return tarn_raise_nomem(err, "a run", (size_t)r->njobs * sizeof *r->jobs);
    }
    if (r->njobs > 0) {
        memcpy(r->jobs, jobs, (size_t)r->njobs * sizeof *jobs);
    }
    return tarn_survey(r, err);
}

static void close_run(tarn_runner *r) {
    for (int i = 0; i < r->nbarriers; i++) {
        tarn_barrier *b = &r->barriers[i];
        tarn_graph_release(b->graph);
        close_members(b);
        free(b->state);
        free_parts(r, b);
        free(b->opened);
    }
    free(r->barriers);
    free(r->known);
    free(r->large);
    free(r->small);
    free(r->side);
    free(r->jobs);
    tarn_recall_close(&r->recall);
    pthread_mutex_destroy(&r->making);
}

tarn_status tarn_stream_run(tarn_context *cx, int64_t n, const tarn_job *jobs,
                            const tarn_sink *sink, const tarn_stream_options *o, tarn_error *err) {
    tarn_runner r = {.cx = cx, .njobs = n, .sink = sink, .options = o, .maker = o ? o->maker : NULL};
    // Whoever began a longer piece of work, of which this is a part, ends it too.
    bool begins = !cx->progress.what && cx->progress.total == 0;
    tarn_status s = open_run(&r, jobs, err);
    if (s == TARN_OK && cx->progress.show && begins && !r.maker) {
        tarn_stream_plan whole = {0};
        s = tarn_stream_plan_of(cx, n, r.jobs, &whole, NULL, err);
        tarn_progress_begin(cx, NULL, whole.reads + whole.writes);
    }
    if (s == TARN_OK && r.nbarriers > 0) {
        s = run_barriers(&r, err);
    }
    s = s == TARN_OK ? run_stage(&r, err) : s;
    close_run(&r);
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
