// SPDX-License-Identifier: Apache-2.0
// One program over its elements: blocks over the workers, chunks that fit the second-level cache
// read and written, tiles that fit the first computed. With bands, a worker holds a window of whole
// rows around its chunk: what the chunk before has left of it stays, the rows that are new are read
// once and go through all phases but the last, which runs over the chunk. A row that two blocks
// share is computed by both. Nothing is allocated after the start.
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

static size_t padded(size_t n) { return (n + 127) / 64 * 64; }

// Where sources are read straight into what is held. Rows at the ends of a block have two readers,
// so with bands each reads into its own window and leaves its own part.
static bool straight(const tarn_program *p, const tarn_load *l) {
    return l->held && (*l->loaded || p->row == 1);
}

static size_t load_bytes(const tarn_program *p, const tarn_load *l) {
    return straight(p, l) ? 0 : padded((size_t)tarn_window_of(p->numel, p->row) * l->size_in);
}
static size_t band_bytes(const tarn_program *p, const tarn_band *b) {
    return padded((size_t)(tarn_window_of(p->numel, p->row) / p->row * b->each) * b->size);
}
static size_t store_bytes(const tarn_program *p, const tarn_output *o) {
    int64_t chunk = tarn_chunk_of(p->row);
    return padded((size_t)(p->numel < chunk ? p->numel : chunk) * o->size);
}

static size_t pointer_bytes(const tarn_program *p) {
    return padded((2 * (size_t)p->nload + (size_t)p->nband + (size_t)p->nstore) * sizeof(char *));
}
static size_t chunk_bytes(const tarn_program *p) {
    size_t bytes = padded(p->row_scratch);
    for (int i = 0; i < p->nstore; i++) {
        bytes += store_bytes(p, &p->store[i]);
    }
    for (int i = 0; i < p->nload; i++) {
        bytes += load_bytes(p, &p->load[i]);
    }
    for (int i = 0; i < p->nband; i++) {
        bytes += band_bytes(p, &p->band[i]);
    }
    return bytes;
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

// Of a block: over all elements, or down columns.
typedef struct {
    tarn_fold all;
    tarn_columns columns;
} fold;

typedef struct {
    const void **value;  // per slot: where its elements are
    char *slots;
    fold *fold;
    int64_t from, to;  // rows of the window
    char **load;       // per source: where the window's first element is
    char **buffer;     // per source: the worker's own memory, NULL when it is read straight
    char **band;       // per band
    char *row_scratch;
    int64_t chunk_at;          // first element of the chunk
    int64_t own_from, own_to;  // the block
    char **store;              // per output: of the chunk
} frame;

static void *slot_of(const frame *f, int s) { return f->slots + (size_t)s * TARN_TILE * 8; }

// Elements at src, in place where they are aligned, else copied to slot s.
static const void *aligned(const frame *f, const char *src, size_t bytes, int s) {
    return ((uintptr_t)src & 63) == 0 ? src : memcpy(slot_of(f, s), src, bytes);
}

// n copies of one element.
static void repeat(char *to, const char *one, int64_t n, size_t size) {
    if (size == 1) {
        memset(to, *one, (size_t)n);
    } else if (size == 4) {
        for (int64_t k = 0; k < n; k++) {
            memcpy(to + 4 * k, one, 4);
        }
    } else {
        for (int64_t k = 0; k < n; k++) {
            memcpy(to + 8 * k, one, 8);
        }
    }
}

// Elements [at, at + n) of a band with one element a row.
static const void *spread(const tarn_program *p, const frame *f, const tarn_instr *i, int64_t at,
                          int64_t n) {
    char *to = slot_of(f, i->out);
    int64_t row = at / p->row, left = (row + 1) * p->row - at;
    for (int64_t k = 0; k < n; k += left, row++, left = p->row) {
        left = left < n - k ? left : n - k;
        repeat(to + (size_t)k * i->size, f->band[i->index] + (size_t)(row - f->from) * i->size,
               left, i->size);
    }
    return to;
}

// n elements from `at`: rows, in a phase that goes by one element a row.
static void run_tile(const program_run *x, const frame *f, const tarn_phase *phase, int64_t at,
                     int64_t n) {
    const tarn_program *p = x->p;
    const void *in[16];
    int64_t origin = phase->rows ? f->from : f->from * p->row;  // of the window
    for (int k = phase->instr; k < phase->instr + phase->ninstr; k++) {
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
        case TARN_DO_BAND: {
            const char *src = f->band[i->index] + (size_t)(at - origin) * i->size;
            bool same = phase->rows || p->band[i->index].each == p->row;
            f->value[i->out] =
                same ? aligned(f, src, (size_t)n * i->size, i->out) : spread(p, f, i, at, n);
            break;
        }
        case TARN_DO_FILL:
            memcpy(f->band[i->index] + (size_t)(at - origin) * i->size, in[0], (size_t)n * i->size);
            break;
        case TARN_DO_LOAD: {
            const tarn_load *l = &p->load[i->index];
            const char *src = f->load[i->index] + (size_t)(at - origin) * l->size_in;
            if (l->convert) {
                l->convert(n, src, slot_of(f, i->out));
                f->value[i->out] = slot_of(f, i->out);
            } else {
                f->value[i->out] = aligned(f, src, (size_t)n * l->size_in, i->out);
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
        case TARN_DO_FOLD: {
            const tarn_fold_spec *s = &p->fold[i->index];
            if (s->active && s->by_columns) {
                tarn_columns_tile(&f->fold[i->index].columns, at, n, in[0]);
            } else if (s->active) {
                tarn_fold_tile(&f->fold[i->index].all, s->base + at, n, in);
            }
            break;
        }
        case TARN_DO_STORE:
        case TARN_DO_KEEP: {
            // Of a row that two blocks share, the one that it begins in keeps the element.
            int64_t skip = phase->rows && at * p->row < f->own_from ? 1 : 0;
            if (p->again || skip >= n) {
                break;
            }
            char *dst = i->what == TARN_DO_STORE ? f->store[i->index] + (at - f->chunk_at) * (int64_t)i->size
                                                 : (char *)p->keep[i->index]->storage->data +
                                                       (at + skip) * (int64_t)i->size;
            const char *src =
                (const char *)in[0] + (size_t)skip * (i->first ? i->size_in : i->size);
            if (i->first) {
                i->first(n - skip, src, dst);
            } else {
                memcpy(dst, src, (size_t)(n - skip) * i->size);
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

static void report(const program_run *x, uint64_t bytes) {
    if (!x->p->quiet) {
        atomic_fetch_add_explicit(&x->r->cx->progress.done, bytes, memory_order_relaxed);
    }
}

static tarn_status put_chunk(program_run *x, const tarn_output *o, int64_t at, int64_t n, const char *store,
                             tarn_error *err) {
    const tarn_runner *r = x->r;
    int64_t job = x->job + o->which;
    TARN_TRY(tarn_check_finite(r, job, o->dtype, n, store, err));
    TARN_TRY(r->sink->put(r->sink->arg, job, (uint64_t)at * o->size, store, (uint64_t)n * o->size, err));
    report(x, (uint64_t)n * o->size);
    return TARN_OK;
}

// Moves the window on to rows [from, to): what it holds of them stays. Rows from the result on are
// new.
static int64_t move_window(const tarn_program *p, frame *f, int64_t from, int64_t to) {
    int64_t keep = f->to > from ? f->to - from : 0, gone = from - f->from;
    for (int i = 0; i < p->nload && keep > 0 && gone > 0; i++) {
        size_t row = (size_t)p->row * p->load[i].size_in;
        if (f->buffer[i]) {
            memmove(f->buffer[i], f->buffer[i] + (size_t)gone * row, (size_t)keep * row);
        }
    }
    for (int i = 0; i < p->nband && keep > 0 && gone > 0; i++) {
        size_t row = (size_t)p->band[i].each * p->band[i].size;
        memmove(f->band[i], f->band[i] + (size_t)gone * row, (size_t)keep * row);
    }
    f->from = from;
    f->to = to > from + keep ? to : from + keep;
    return from + keep;
}

// Reads the rows of the window from `row` on.
static tarn_status read_rows(program_run *x, frame *f, int64_t row, tarn_error *err) {
    tarn_program *p = x->p;
    int64_t at = row * p->row, n = f->to * p->row - at;
    int64_t own = at > f->own_from ? at : f->own_from;
    int64_t owned = (at + n < f->own_to ? at + n : f->own_to) - own;
    for (int i = 0; i < p->nload; i++) {
        tarn_load *l = &p->load[i];
        char *window =
            f->buffer[i] ? f->buffer[i] : l->held + (size_t)(f->from * p->row) * l->size_in;
        f->load[i] = window;
        if (n == 0 || (l->held && *l->loaded)) {
            continue;
        }
        char *to = window + (size_t)(at - f->from * p->row) * l->size_in;
        TARN_TRY(l->source->read(l->source, (uint64_t)at * l->size_in, (uint64_t)n * l->size_in, to,
                                 err));
        if (l->held && f->buffer[i] && owned > 0) {
            memcpy(l->held + (size_t)own * l->size_in, to + (size_t)(own - at) * l->size_in,
                   (size_t)owned * l->size_in);
        }
        report(x, (uint64_t)(owned > 0 ? owned : 0) * l->size_in);
    }
    return TARN_OK;
}

// Brings the window over elements [at, at + n): reads the rows that are new and fills their bands.
static tarn_status fill_window(program_run *x, frame *f, int64_t at, int64_t n, tarn_error *err) {
    const tarn_program *p = x->p;
    int64_t row = move_window(p, f, at / p->row, (at + n + p->row - 1) / p->row),
            rows = f->to - row;
    TARN_TRY(read_rows(x, f, row, err));
    for (int k = 0; k + 1 < p->nphase && rows > 0; k++) {
        const tarn_phase *phase = &p->phase[k];
        for (int i = phase->row_step; i < phase->row_step + phase->nrow_step; i++) {
            const tarn_row_step *s = &p->row_step[i];
            const tarn_band *in = &p->band[s->in], *out = &p->band[s->out];
            size_t skip = (size_t)(row - f->from);
            TARN_TRY(tarn_row_plan_run(
                x->r->cx, &s->plan, rows, f->band[s->in] + skip * (size_t)in->each * in->size,
                f->band[s->out] + skip * (size_t)out->each * out->size, f->row_scratch, err));
        }
        int64_t each = phase->rows ? 1 : p->row, end = f->to * each;
        for (int64_t t = row * each; t < end && phase->ninstr > 0; t += TARN_TILE) {
            run_tile(x, f, phase, t, end - t < TARN_TILE ? end - t : TARN_TILE);
        }
    }
    return TARN_OK;
}

static size_t fold_bytes(const tarn_program *p) {
    return ((size_t)p->nfold * sizeof(fold) + 63) / 64 * 64;
}

static void open_folds(const program_run *x, const frame *f, int worker, char *scratch) {
    for (int i = 0; i < x->p->nfold; i++) {
        tarn_fold_spec *s = &x->p->fold[i];
        const tarn_reducer *red = s->node->op->reducer;
        if (s->by_columns) {
            int room = tarn_columns_of_block(&s->columns);
            tarn_columns_open(&f->fold[i].columns, &s->columns, 0, s->columns.width, room, scratch,
                              s->whole.out);
            scratch += tarn_columns_bytes(room, s->columns.width);
            continue;
        }
        tarn_fold *all = &f->fold[i].all;
        tarn_fold_init(all, red, s->fn, &s->node->attr, s->state, scratch);
        scratch += tarn_fold_scratch(red);
        if (!s->active) {
            continue;
        }
        // A whole-model fold is shared with the jobs of other workers, another one is not.
        int w = tarn_gid(s->node) ? worker + x->worker_base : worker;
        if (red->exact) {
            all->acc = s->parts + (size_t)w * red->part;
            if (!s->opened[w]) {
                red->open(all->acc);
                s->opened[w] = true;
            }
        } else {
            tarn_fold_begin(all);
        }
    }
}

static void close_folds(const program_run *x, const frame *f, int64_t block) {
    for (int i = 0; i < x->p->nfold; i++) {
        tarn_fold_spec *s = &x->p->fold[i];
        const tarn_reducer *red = s->node->op->reducer;
        if (s->active && s->by_columns) {
            pthread_mutex_lock(&s->lock);
            tarn_columns_merge(&s->whole, &f->fold[i].columns);
            pthread_mutex_unlock(&s->lock);
        } else if (s->active && !red->exact) {
            tarn_fold_end(&f->fold[i].all, s->parts + (size_t)block * red->part);
        }
    }
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
    f.fold = (fold *)(void *)memory;
    memory += fold_bytes(p);
    f.load = (char **)(void *)memory;
    f.buffer = f.load + p->nload;
    f.band = f.buffer + p->nload;
    f.store = f.band + p->nband;
    memory += pointer_bytes(p);
    char *folds = memory;
    memory += p->fold_scratch;
    f.row_scratch = memory;
    memory += padded(p->row_scratch);
    for (int i = 0; i < p->nload; i++) {
        f.buffer[i] = straight(p, &p->load[i]) ? NULL : memory;
        memory += load_bytes(p, &p->load[i]);
    }
    for (int i = 0; i < p->nband; i++) {
        f.band[i] = memory;
        memory += band_bytes(p, &p->band[i]);
    }
    for (int i = 0; i < p->nstore; i++) {
        f.store[i] = memory;
        memory += store_bytes(p, &p->store[i]);
    }
    for (int i = 0; i < p->ninstr; i++) {
        if (p->instr[i].what == TARN_DO_SPLAT) {
            int s = p->instr[i].out;
            f.value[s] = tarn_fetch_tile(&p->fetch[p->instr[i].index], 0, TARN_TILE, slot_of(&f, s));
        }
    }
    open_folds(x, &f, worker, folds);
    int64_t end = (block + 1) * TARN_BLOCK < p->numel ? (block + 1) * TARN_BLOCK : p->numel;
    int64_t step = tarn_chunk_of(p->row);
    f.own_from = block * TARN_BLOCK;
    f.own_to = end;
    for (int64_t at = f.own_from; at < end; at += step) {
        int64_t n = end - at < step ? end - at : step;
        TARN_TRY(tarn_cancel_check(&x->r->cx->cancel, err));
        TARN_TRY(fill_window(x, &f, at, n, err));
        f.chunk_at = at;
        for (int64_t t = at; t < at + n; t += TARN_TILE) {
            run_tile(x, &f, &p->phase[p->nphase - 1], t,
                     at + n - t < TARN_TILE ? at + n - t : TARN_TILE);
        }
        for (int i = 0; i < p->nstore; i++) {
            TARN_TRY(put_chunk(x, &p->store[i], at, n, f.store[i], err));
        }
        if (x->r->cx->progress.show) {
            x->r->cx->progress.show(&x->r->cx->progress);
        }
    }
    close_folds(x, &f, block);
    return TARN_OK;
}

// The blocks that a sweep needs: all of them, unless all it does is to fold positions of a window.
static void blocks_of(const tarn_program *p, int64_t *first, int64_t *last) {
    int64_t from = INT64_MAX, to = 0;
    *first = 0;
    *last = (p->numel + TARN_BLOCK - 1) / TARN_BLOCK;
    for (int i = 0; i < p->ninstr && !p->again; i++) {
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
    p->part = last - x.first < (p->numel + TARN_BLOCK - 1) / TARN_BLOCK;
    x.scratch_bytes = (size_t)p->nslots * TARN_TILE * 8 + ((size_t)p->nslots + 1) * 64 +
                      fold_bytes(p) + pointer_bytes(p) + p->fold_scratch + chunk_bytes(p);
    size_t total = x.scratch_bytes * (size_t)tarn_pool_size(pool);
    x.scratch = tarn_alloc(&r->cx->budget, total);
    if (!x.scratch) {
        return tarn_raise_nomem(err, r->jobs[job].name, total);
    }
    tarn_status s = tarn_pool_run(pool, last - x.first, run_block, &x, &r->cx->cancel, err);
    tarn_free(&r->cx->budget, x.scratch, total);
    return s;
}
