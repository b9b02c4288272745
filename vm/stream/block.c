// SPDX-License-Identifier: Apache-2.0
// One program over its elements: blocks over the workers, chunks that fit the second-level cache read
// and written, tiles that fit the first computed. Nothing is allocated after the start.
#include <string.h>

#include "vm/stream/run.h"

typedef struct {
    tarn_runner *r;
    int64_t job;
    tarn_program *p;
    int worker_base;
    int64_t first;  // block of task 0
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

tarn_status tarn_check_finite(const tarn_runner *r, int64_t job, tarn_dtype dtype, int64_t n,
                              const void *p, tarn_error *err) {
    if ((r->options && r->options->allow_nonfinite) || all_finite(dtype, n, p)) {
        return TARN_OK;
    }
    TARN_RAISE(err, "NonFinite",
               "%s: the result holds NaN or infinity as %s; allow it with allow_nonfinite = true",
               r->jobs[job].name, tarn_dtype_get(dtype)->name);
}

static tarn_status put_chunk(program_run *x, int64_t at, int64_t n, const char *store,
                             tarn_error *err) {
    const tarn_program *p = x->p;
    const tarn_runner *r = x->r;
    TARN_TRY(tarn_check_finite(r, x->job, p->store_dtype, n, store, err));
    TARN_TRY(r->sink->put(r->sink->arg, x->job, (uint64_t)at * p->store_size, store,
                          (uint64_t)n * p->store_size, err));
    atomic_fetch_add_explicit(&r->cx->progress.done, (uint64_t)n * p->store_size,
                              memory_order_relaxed);
    return TARN_OK;
}

static tarn_status run_block(void *arg, int64_t task, int worker, tarn_error *err) {
    program_run *x = arg;
    int64_t block = x->first + task;
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
        // A whole-model fold is shared with the jobs of other workers, another one is not.
        int w = tarn_gid(s->node) ? worker + x->worker_base : worker;
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

// The blocks that a sweep needs: all of them, unless all it does is to fold positions of a window.
static void blocks_of(const tarn_program *p, int64_t *first, int64_t *last) {
    int64_t from = INT64_MAX, to = 0;
    *first = 0;
    *last = (p->numel + TARN_BLOCK - 1) / TARN_BLOCK;
    for (int i = 0; i < p->ninstr; i++) {
        if (p->instr[i].what == TARN_DO_STORE || p->instr[i].what == TARN_DO_KEEP) {
            return;
        }
    }
    for (int i = 0; i < p->nfold; i++) {
        const tarn_fold_spec *s = &p->fold[i];
        int64_t a = 0, b = INT64_MAX;
        if (!s->active) {
            continue;
        }
        if (s->node->op->reducer->window) {
            s->node->op->reducer->window(s->state, &a, &b);
        }
        a = a > s->base ? a - s->base : 0;
        b = b > s->base ? b - s->base : 0;
        from = a < from ? a : from;
        to = b > to ? b : to;
    }
    to = to < p->numel ? to : p->numel;
    *first = from < to ? from / TARN_BLOCK : 0;
    *last = from < to ? (to + TARN_BLOCK - 1) / TARN_BLOCK : 0;
}

tarn_status tarn_program_run(tarn_runner *r, int64_t job, tarn_program *p, tarn_pool *pool,
                             int worker_base, tarn_error *err) {
    program_run x = {.r = r, .job = job, .p = p, .worker_base = worker_base};
    int64_t last;
    blocks_of(p, &x.first, &last);
    x.scratch_bytes = (size_t)p->nslots * TARN_TILE * 8 + ((size_t)p->nslots + 1) * 64 +
                      ((size_t)p->nfold * sizeof(tarn_fold) + 63) / 64 * 64 +
                      ((size_t)p->nload + 1) * 64 + p->fold_scratch + chunk_bytes(p);
    size_t total = x.scratch_bytes * (size_t)tarn_pool_size(pool);
    x.scratch = tarn_alloc(&r->cx->budget, total);
    if (!x.scratch) {
        return tarn_raise_nomem(err, r->jobs[job].name, total);
    }
    tarn_status s = tarn_pool_run(pool, last - x.first, run_block, &x, &r->cx->cancel, err);
    tarn_free(&r->cx->budget, x.scratch, total);
    return s;
}
