// SPDX-License-Identifier: Apache-2.0
// Many runs of one compiled graph at once, each on one worker. A run needs of its own only where values
// lie: a *twin* shares steps, instructions and what is kept with the executor, and has bindings, scratch
// and an arena of its own. Parallel loops inside a run find the pool busy and go on where they are, and no
// result depends on the number of threads, so the bits are those of runs after one another. What is won:
// no worker waits for another within a run, and serial parts of different runs overlap.
#include <string.h>

#include "vm/op/exec_parts.h"

typedef struct {
    tarn_exec *e;    // the first: the executor itself
    tarn_exec twin;  // the others
    int64_t failed;  // its run that did
    tarn_status status;
    tarn_error err;
} lane;

typedef struct {
    lane *lane;
    int64_t count;
    const tarn_tensor *const *values;  // [count][ninputs]
    tarn_tensor *const *results;       // [count][nroots]
    atomic_llong next;    // to be claimed
    atomic_llong failed;  // the lowest, or count
} many;

// ---- memory ----

// What the results of one run leave behind.
static uint64_t result_bytes(const tarn_exec *e) {
    uint64_t bytes = 0;
    for (int r = 0; r < e->nroots; r++) {
        const exec_base *b = &e->base[e->spot[e->root[r].spot].base];
        bool shared = b->kind == EXEC_INPUT || b->kind == EXEC_LEAF;
        bytes += shared ? 0 : (b->bytes + 63) / 64 * 64;
    }
    return bytes;
}

static uint64_t twin_bytes(const tarn_exec *e) {
    return e->worker_bytes + (size_t)e->nbase * sizeof *e->base +
           (size_t)e->nfetch * sizeof *e->fetch + (size_t)e->widest * sizeof *e->in;
}

uint64_t tarn_exec_many_takes(const tarn_exec *e, int64_t count, int lanes) {
    uint64_t made = e->worker_bytes * (size_t)e->workers + e->a.total + sizeof *e;
    uint64_t first = e->ready ? e->each - (e->arena[2] ? e->arena_bytes[2] : 0) : e->peak - made;
    uint64_t more = (uint64_t)(lanes - 1) * (e->each + twin_bytes(e));
    return first + more + (uint64_t)count * result_bytes(e);
}

static int lanes_for(const tarn_exec *e, int64_t count) {
    tarn_budget *b = &e->cx->budget;
    int lanes = tarn_pool_size(e->cx->pool);
    lanes = count < lanes ? (int)count : lanes;
    size_t used = atomic_load(&b->used);
    uint64_t room = used < b->limit ? b->limit - used : 0;
    while (lanes > 1 && tarn_exec_many_takes(e, count, lanes) > room) {
        lanes--;
    }
    return lanes;
}

// ---- twins ----

static void close_twin(tarn_exec *t) {
    tarn_tensor arena = {.storage = t->arena[2]};
    tarn_tensor_release(&arena);
    tarn_free(&t->cx->budget, t->scratch, t->worker_bytes);
    tarn_arena_free(&t->a);
}

static tarn_status open_twin(const tarn_exec *e, tarn_exec *t, tarn_error *err) {
    *t = *e;
    t->twin = true;
    t->arena[2] = NULL;
    tarn_arena_init(&t->a, &e->cx->budget);
    t->base = tarn_arena_copy(&t->a, e->base, (size_t)e->nbase * sizeof *e->base);
    t->fetch = tarn_arena_copy(&t->a, e->fetch, (size_t)e->nfetch * sizeof *e->fetch);
    t->in = tarn_arena_take(&t->a, (size_t)e->widest * sizeof *e->in);
    t->scratch = tarn_alloc(&e->cx->budget, e->worker_bytes);
    if (!t->base || !t->fetch || !t->in || !t->scratch) {
        close_twin(t);
        return tarn_raise_nomem(err, "runs side by side", twin_bytes(e));
    }
    for (int i = 0; i < t->nbase; i++) {
        t->base[i].borrowed = true;  // what is bound now is what is kept
    }
    return TARN_OK;
}

// ---- runs ----

// Claims ascend, and who has failed claims no more: all runs below the lowest failure are made.
static tarn_status run_lane(void *arg, int64_t task, int worker, tarn_error *err) {
    many *m = arg;
    lane *l = &m->lane[task];
    (void)worker, (void)err;
    while (l->status == TARN_OK) {
        int64_t i = atomic_fetch_add(&m->next, 1);
        if (i >= m->count || i > atomic_load(&m->failed)) {
            break;
        }
        l->status = tarn_exec_run(l->e, m->values[i], NULL, m->results[i], &l->err);
        long long lowest = atomic_load(&m->failed);
        while (l->status != TARN_OK && i < lowest &&
               !atomic_compare_exchange_weak(&m->failed, &lowest, i)) {
        }
        l->failed = i;
    }
    return TARN_OK;
}

static tarn_status run_lanes(many *m, int lanes, tarn_error *err) {
    tarn_exec *e = m->lane[0].e;
    tarn_status s = tarn_pool_run(e->cx->pool, lanes, run_lane, m, &e->cx->cancel, err);
    for (int k = 0; k < lanes; k++) {
        const lane *l = &m->lane[k];
        if (l->status != TARN_OK && l->failed == atomic_load(&m->failed)) {
            *err = l->err;
            s = l->status;
        }
    }
    return s;
}

static tarn_status side_by_side(many *m, tarn_exec *e, int lanes, tarn_error *err) {
    size_t bytes = (size_t)lanes * sizeof *m->lane;
    m->lane = tarn_alloc_zero(&e->cx->budget, bytes);
    if (!m->lane) {
        return tarn_raise_nomem(err, "runs side by side", bytes);
    }
    m->lane[0].e = e;
    tarn_status s = tarn_exec_prepare(e, err);
    int open = 1;
    while (open < lanes && s == TARN_OK) {
        m->lane[open].e = &m->lane[open].twin;
        s = open_twin(e, m->lane[open].e, err);
        open += s == TARN_OK;
    }
    s = s == TARN_OK ? run_lanes(m, lanes, err) : s;
    for (int k = 1; k < open; k++) {
        close_twin(m->lane[k].e);
    }
    tarn_free(&e->cx->budget, m->lane, bytes);
    return s;
}

tarn_status tarn_exec_run_many(tarn_exec *e, int64_t count, const tarn_tensor *const *values,
                               tarn_tensor *const *results, tarn_error *err) {
    many m = {.count = count, .values = values, .results = results};
    tarn_status s = TARN_OK;
    for (int64_t i = 0; i < count; i++) {
        memset(results[i], 0, (size_t)e->nroots * sizeof *results[i]);
    }
    atomic_init(&m.failed, count);
    int lanes = lanes_for(e, count);
    if (lanes > 1) {
        s = side_by_side(&m, e, lanes, err);
    }
    for (int64_t i = 0; lanes <= 1 && i < count && s == TARN_OK; i++) {
        s = tarn_exec_run(e, values[i], NULL, results[i], err);
    }
    for (int64_t i = 0; s != TARN_OK && i < count; i++) {
        for (int r = 0; r < e->nroots; r++) {
            tarn_tensor_release(&results[i][r]);
        }
    }
    return s;
}
