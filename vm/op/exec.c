// SPDX-License-Identifier: Apache-2.0
// Making and running compiled graphs. A run binds inputs and results to their bases, points the
// fetches at them, and goes through the steps; a group is run by an interpreter of a few
// instructions over tiles, with the tile functions that the eager evaluator calls, hence with its
// bits.
//
// vm/stream/program.c has such an interpreter too. What they have in common (tile functions,
// fetching, the reduction tree) is vm/op/tile.h and is shared; the rest has little in common: there
// tiles come from files in chunks, bands of rows are filled between phases and all results are one
// output; here everything is in memory, results are many and in place, and what counts is the cost
// of an instruction.
#include "vm/op/exec_parts.h"

#include <stdlib.h>
#include <string.h>

static size_t padded(size_t n) { return (n + 63) / 64 * 64; }

// ---- making ----

static void release_storage(tarn_storage **s) {
    if (*s) {
        tarn_tensor t = {.storage = *s};
        tarn_tensor_release(&t);
        *s = NULL;
    }
}

void tarn_exec_free(tarn_exec *e) {
    if (!e) {
        return;
    }
    for (int i = 0; i < e->nbase; i++) {
        if (!e->base[i].borrowed) {
            release_storage(&e->base[i].storage);
        }
    }
    for (int i = 0; i < 3; i++) {
        release_storage(&e->arena[i]);
    }
    tarn_free(&e->cx->budget, e->scratch, e->worker_bytes * (size_t)e->workers);
    tarn_graph *g = e->g;
    tarn_context *cx = e->cx;
    tarn_arena_free(&e->a);
    tarn_free(&cx->budget, e, sizeof *e);
    tarn_graph_release(g);
}

// phase 2: depends on an input. What the roots do not need has none.
static void find_phases(exec_maker *m, int nroots, const tarn_node *const *roots) {
    tarn_graph_mark(m->g, nroots, roots, m->phase);
    for (int k = 0; k < m->e->ninputs; k++) {
        m->input[m->e->input[k]->id] = k;
    }
    for (int i = 0; i < m->count; i++) {
        const tarn_node *n = m->g->nodes[i];
        bool varies = m->input[i] >= 0;
        for (int k = 0; m->phase[i] && k < n->nin; k++) {
            varies = varies || m->phase[n->in[k]->id] == 2;
        }
        m->phase[i] = !m->phase[i] ? 0 : varies ? 2 : 1;
    }
}

static bool open_maker(exec_maker *m) {
    size_t count = (size_t)m->count + 1;
    m->phase = tarn_arena_take(m->a, 2 * count);
    m->input = tarn_arena_take(m->a, 6 * count * sizeof *m->input);
    m->numel = tarn_arena_take(m->a, count * sizeof *m->numel);
    m->layout = tarn_arena_take(m->a, count * sizeof *m->layout);
    m->proto = tarn_arena_take(m->a, count * sizeof *m->proto);
    if (!m->phase || !m->input || !m->numel || !m->layout || !m->proto) {
        return false;
    }
    memset(m->phase, 0, 2 * count);
    memset(m->input, -1, 6 * count * sizeof *m->input);
    memset((void *)m->layout, 0, count * sizeof *m->layout);
    m->is_root = m->phase + count;
    m->holder = m->input + count;
    m->stream = m->holder + count;
    m->step = m->stream + count;
    m->seen = m->step + count;
    m->readers = m->seen + count;
    memset(m->readers, 0, count * sizeof *m->readers);
    return true;
}

// Scratch of a worker: for each slot of the largest group a pointer and a tile.
static void size_scratch(tarn_exec *e) {
    int64_t tile = 1;
    int slots = 1;
    e->workers = 1;
    for (int s = 0; s < e->nstep; s++) {
        const exec_step *step = &e->step[s];
        int64_t n = step->node ? 0 : step->numel < TARN_TILE ? step->numel : TARN_TILE;
        tile = n > tile ? n : tile;
        slots = step->nslot + step->nconst > slots ? step->nslot + step->nconst : slots;
        e->workers = step->shared ? tarn_pool_size(e->cx->pool) : e->workers;
    }
    e->tile_size = (size_t)tile;
    e->worker_bytes = padded((size_t)slots * sizeof(void *));
    e->worker_bytes += (size_t)slots * padded((size_t)tile * 8);
}

static tarn_status make(exec_maker *m, int nroots, const tarn_node *const *roots) {
    tarn_exec *e = m->e;
    e->root = tarn_arena_take(&e->a, ((size_t)nroots + 1) * sizeof *e->root);
    if (!open_maker(m) || !e->root) {
        return tarn_raise_nomem(m->err, "a recorded function", (size_t)m->count * 64);
    }
    find_phases(m, nroots, roots);
    TARN_TRY(tarn_exec_group(m, nroots, roots));
    TARN_TRY(tarn_exec_emit(m, nroots, roots));
    TARN_TRY(tarn_exec_place(m));
    size_scratch(e);
    for (int i = 0; i < e->ntile; i++) {
        e->tile[i].data = tarn_arena_take(&e->a, padded(e->tile_size * 8) + 64);
        if (!e->tile[i].data) {
            return tarn_raise_nomem(m->err, "a recorded function", e->tile_size * 8);
        }
        e->tile[i].data = (char *)(((uintptr_t)e->tile[i].data + 63) / 64 * 64);
    }
    size_t total = e->worker_bytes * (size_t)e->workers;
    e->scratch = tarn_alloc(&e->cx->budget, total);
    if (!e->scratch) {
        return tarn_raise_nomem(m->err, "a recorded function", total);
    }
    e->peak += total + e->a.total + sizeof *e;
    return TARN_OK;
}

// once: the caller runs it a single time.
static tarn_status make_for(tarn_graph *g, bool once, int nroots, const tarn_node *const *roots,
                            int ninputs, const tarn_node *const *inputs, tarn_exec **out, tarn_error *err) {
    *out = NULL;
    tarn_exec *e = tarn_alloc_zero(&g->cx->budget, sizeof *e);
    if (!e) {
        return tarn_raise_nomem(err, "a recorded function", sizeof *e);
    }
    e->g = tarn_graph_retain(g);
    e->cx = g->cx;
    e->once = once;
    e->nroots = nroots;
    e->ninputs = ninputs;
    tarn_arena_init(&e->a, &g->cx->budget);
    tarn_arena work;
    tarn_arena_init(&work, &g->cx->budget);
    exec_maker m = {.e = e, .g = g, .a = &work, .count = g->count, .err = err};
    e->input = tarn_arena_copy(&e->a, inputs, (size_t)ninputs * sizeof *inputs);
    e->input_base = tarn_arena_take(&e->a, ((size_t)ninputs + 1) * sizeof *e->input_base);
    tarn_status s = e->input && e->input_base ? make(&m, nroots, roots)
                                              : tarn_raise_nomem(err, "a recorded function", 64);
    tarn_arena_free(&work);
    if (s != TARN_OK) {
        tarn_exec_free(e);
        return s;
    }
    *out = e;
    return TARN_OK;
}

tarn_status tarn_exec_make(tarn_graph *g, int nroots, const tarn_node *const *roots, int ninputs,
                           const tarn_node *const *inputs, tarn_exec **out, tarn_error *err) {
    return make_for(g, false, nroots, roots, ninputs, inputs, out, err);
}

uint64_t tarn_exec_peak(const tarn_exec *e) { return e->peak; }

// ---- binding ----

static void bind(exec_base *b, const tarn_tensor *t, bool borrowed) {
    b->storage = t->storage;
    b->data = tarn_tensor_data(t);
    b->borrowed = borrowed;
}

static void unbind(exec_base *b) {
    if (!b->borrowed) {
        release_storage(&b->storage);
    }
    b->storage = NULL;
    b->borrowed = false;
}

// A spot as a tensor; the reference stays with the base.
static tarn_tensor at_spot(const tarn_exec *e, int spot) {
    const exec_spot *s = &e->spot[spot];
    const exec_base *b = &e->base[s->base];
    tarn_tensor t = s->t;
    t.storage = b->storage;
    int size = tarn_dtype_get(t.dtype)->bits / 8;
    t.offset += size > 0 ? (b->data - (char *)b->storage->data) / size : 0;
    return t;
}

static tarn_status bind_input(tarn_exec *e, int k, const tarn_tensor *t, tarn_error *err) {
    const tarn_desc *d = &e->input[k]->desc;
    exec_base *b = &e->base[e->input_base[k]];
    // What was recorded holds for the recorded shapes only.
    if (!tarn_shape_equal(t->rank, t->shape, d->rank, d->shape) || t->dtype != d->dtype) {
        tarn_desc got;
        tarn_desc_of(t, &got);
        tarn_text x;
        tarn_text_init(&x, &e->cx->budget);
        tarn_desc_show(&got, &x);
        tarn_text_puts(&x, "; it was recorded with ");
        tarn_desc_show(d, &x);
        tarn_raise(err, "ShapeMismatch", "input %d of a recorded function is %s", k + 1,
                   x.data ? x.data : "of another shape");
        tarn_text_free(&x);
        return TARN_ERROR;
    }
    if (tarn_tensor_contiguous(t)) {
        bind(b, t, true);
        return TARN_OK;
    }
    tarn_tensor plain;
    TARN_TRY(tarn_tensor_cast(e->cx, t, t->dtype, &plain, err));
    bind(b, &plain, false);
    return TARN_OK;
}

static void unbind_arena(tarn_exec *e, int which) {
    for (int i = 0; i < e->nbase; i++) {
        exec_base *b = &e->base[i];
        if (b->kind == EXEC_ARENA && b->phase == which) {
            unbind(b);
        }
    }
    release_storage(&e->arena[which]);
}

static tarn_status bind_arena(tarn_exec *e, int which, tarn_error *err) {
    if (!e->arena[which]) {
        tarn_tensor t;
        int64_t bytes = (int64_t)e->arena_bytes[which];
        TARN_TRY(tarn_tensor_new(e->cx, TARN_U8, 1, &bytes, &t, err));
        e->arena[which] = t.storage;
        for (int i = 0; i < e->nbase; i++) {
            exec_base *b = &e->base[i];
            if (b->kind == EXEC_KEPT ? which == 0 : b->kind == EXEC_ARENA && b->phase == which) {
                b->storage = t.storage;
                b->data = (char *)t.storage->data + b->at;
                b->borrowed = true;
            }
        }
    }
    return TARN_OK;
}

// The memory of an input given away, if nothing else holds it and it is used whole.
static bool take_over(tarn_exec *e, exec_base *b, const bool *donate) {
    exec_base *from = b->donor >= 0 ? &e->base[b->donor] : NULL;
    bool taken = donate && from && donate[from->input] && from->borrowed &&
                 atomic_load(&from->storage->refs) == 1 && from->storage->bytes == b->bytes &&
                 from->data == (char *)from->storage->data;
    if (taken) {
        b->storage = from->storage;
        b->data = from->data;
        b->borrowed = false;
        atomic_fetch_add(&b->storage->refs, 1);
        b->storage->version++;
    }
    if (taken && b->over) {
        b->over->through = true;
    }
    return taken;
}

static tarn_status bind_results(tarn_exec *e, int phase, const bool *donate, tarn_error *err) {
    for (int i = 0; i < e->nbase; i++) {
        exec_base *b = &e->base[i];
        if (b->kind != EXEC_RESULT || b->phase != phase || take_over(e, b, donate)) {
            continue;
        }
        const tarn_desc *d = &e->g->nodes[b->node]->desc;
        tarn_tensor t;
        TARN_TRY(tarn_tensor_new(e->cx, d->dtype, d->rank, d->shape, &t, err));
        bind(b, &t, false);
    }
    return TARN_OK;
}

static tarn_status bind_leaves(tarn_exec *e, tarn_error *err) {
    for (int i = 0; i < e->nbase; i++) {
        exec_base *b = &e->base[i];
        const tarn_node *n = e->g->nodes[b->node];
        bool done = e->ready && b->last != INT32_MAX;  // the first run has used it up
        if (b->kind != EXEC_LEAF || done || (b->storage && !tarn_node_tensor(n))) {
            continue;
        }
        tarn_tensor t;
        TARN_TRY(tarn_leaf_value(e->cx, n, &t, err));  // checks that a tensor is as it was
        if (!tarn_node_tensor(n) && !tarn_tensor_contiguous(&t)) {
            tarn_tensor plain;
            tarn_status s = tarn_tensor_cast(e->cx, &t, t.dtype, &plain, err);
            tarn_tensor_release(&t);
            TARN_TRY(s);
            t = plain;
        }
        unbind(b);
        bind(b, &t, false);
    }
    return TARN_OK;
}

// ---- groups ----

typedef struct {
    const tarn_exec *e;
    const exec_step *s;
} group_run;

// What an instruction left in its slot goes to memory as well, where somebody reads it there.
static inline void deliver(const tarn_exec *e, const exec_instr *i, int64_t at, int64_t n,
                           const void *value) {
    char *dst = e->base[i->base].data + at * (int64_t)i->size_out;
    if (i->narrow) {
        i->narrow(n, value, dst);
    } else if (value != dst) {
        memcpy(dst, value, (size_t)n * i->size_out);
    }
}

static void run_instr(const tarn_exec *e, const exec_instr *i, int64_t at, int64_t n,
                      const void **value, char *slots, size_t slot_bytes) {
    char *slot = slots + (size_t)i->out * slot_bytes;
    bool direct = i->base >= 0 && !i->through;
    char *to = direct ? e->base[i->base].data + at * (int64_t)i->size_out : slot;
    const void *result = to;
    switch (i->what) {
    case EXEC_FETCH:
        result = tarn_fetch_tile(&e->fetch[i->fetch].f, at, n, slot);
        break;
    case EXEC_POINT: {
        const void *in[16];
        for (int k = 0; k < i->nin; k++) {
            in[k] = value[i->in[k]];
        }
        tarn_tile_args args = {.attr = i->attr, .at = at};
        i->fn(n, in, to, &args);
        break;
    }
    case EXEC_ROUND:
    default: {
        char narrow[TARN_TILE * 8];
        const void *v = value[i->in[0]];
        if (i->first) {
            i->first(n, v, i->second ? narrow : to);
        }
        if (i->second) {
            i->second(n, i->first ? narrow : v, to);
        }
        if (!i->first && !i->second) {
            memcpy(to, v, (size_t)n * i->size);
        }
        break;
    }
    }
    value[i->out] = result;
    if (i->base >= 0 && (i->through || result != to)) {
        deliver(e, i, at, n, result);
    }
}

static void run_range(const group_run *r, int64_t from, int64_t to, char *scratch) {
    const tarn_exec *e = r->e;
    const exec_step *s = r->s;
    const void **value = (const void **)(void *)scratch;
    size_t slot_bytes = padded(e->tile_size * 8);
    char *slots = scratch + padded((size_t)(s->nslot + s->nconst) * sizeof *value);
    for (int c = 0; c < s->nconst; c++) {
        value[s->nslot + c] = e->tile[s->constant[c]].data;
    }
    for (int64_t at = from; at < to; at += TARN_TILE) {
        int64_t n = to - at < TARN_TILE ? to - at : TARN_TILE;
        for (int i = at == from ? 0 : s->nfill; i < s->ninstr; i++) {
            run_instr(e, &s->instr[i], at, n, value, slots, slot_bytes);
        }
    }
}

static tarn_status group_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    const group_run *r = arg;
    int64_t from = task * EXEC_BLOCK, n = r->s->numel - from;
    run_range(r, from, from + (n < EXEC_BLOCK ? n : EXEC_BLOCK),
              r->e->scratch + (size_t)worker * r->e->worker_bytes);
    return TARN_OK;
}

static tarn_status run_group(tarn_exec *e, const exec_step *s, tarn_error *err) {
    group_run r = {e, s};
    for (int i = s->fetch; i < s->fetch + s->nfetch; i++) {
        exec_fetch *f = &e->fetch[i];
        const exec_spot *spot = &e->spot[f->spot];
        f->f.data = e->base[spot->base].data + spot->t.offset * (int64_t)f->f.size_in;
    }
    return tarn_pool_run(s->shared ? e->cx->pool : NULL, (s->numel + EXEC_BLOCK - 1) / EXEC_BLOCK,
                         group_task, &r, &e->cx->cancel, err);
}

// ---- steps ----

static tarn_status run_single(tarn_exec *e, const exec_step *s, tarn_error *err) {
    const tarn_node *n = s->node;
    exec_base *b = &e->base[e->spot[s->out].base];
    TARN_TRY(tarn_cancel_check(&e->cx->cancel, err));
    for (int k = 0; k < s->nin; k++) {
        e->in[k] = at_spot(e, s->in[k]);
    }
    tarn_tensor out = {0};
    if (b->kind != EXEC_LOOSE) {
        out = at_spot(e, s->out);
        return tarn_op_into(e->cx, n->op, s->nin, e->in, &n->attr, &n->desc, &out, err);
    }
    TARN_TRY(tarn_op_into(e->cx, n->op, s->nin, e->in, &n->attr, &n->desc, &out, err));
    if (!tarn_tensor_contiguous(&out) || atomic_load(&out.storage->refs) > 1) {
        tarn_tensor own;  // an operand's memory is not its own
        tarn_status st = tarn_tensor_cast(e->cx, &out, out.dtype, &own, err);
        tarn_tensor_release(&out);
        TARN_TRY(st);
        out = own;
    }
    bind(b, &out, false);
    return TARN_OK;
}

static tarn_status run_phase(tarn_exec *e, int phase, tarn_error *err) {
    for (int i = 0; i < e->nstep; i++) {
        const exec_step *s = &e->step[i];
        if (s->phase != phase) {
            continue;
        }
        TARN_TRY(s->node ? run_single(e, s, err) : run_group(e, s, err));
        for (int b = s->drop; b >= 0; b = e->base[b].next_drop) {
            unbind(&e->base[b]);
        }
    }
    return TARN_OK;
}

static tarn_status fill_tiles(tarn_exec *e, tarn_error *err) {
    int64_t n = (int64_t)e->tile_size;
    for (int i = 0; i < e->ntile; i++) {
        tarn_tensor t = at_spot(e, e->tile[i].spot);
        tarn_fetch f;
        TARN_TRY(tarn_fetch_init(&f, e->cx->isa, &t, 1, &n, e->tile[i].work, err));
        tarn_fetch_tile(&f, 0, n, e->tile[i].data);
    }
    return TARN_OK;
}

// ---- runs ----

// What depends on no input; it stays until the end.
static tarn_status first_run(tarn_exec *e, tarn_error *err) {
    TARN_TRY(bind_arena(e, 0, err));
    TARN_TRY(bind_arena(e, 1, err));
    TARN_TRY(bind_results(e, 1, NULL, err));
    TARN_TRY(run_phase(e, 1, err));
    return fill_tiles(e, err);
}

tarn_status tarn_exec_prepare(tarn_exec *e, tarn_error *err) {
    TARN_TRY(bind_leaves(e, err));
    if (!e->ready) {
        tarn_status s = first_run(e, err);
        unbind_arena(e, 1);
        for (int i = 0; s != TARN_OK && i < e->nbase; i++) {
            if (e->base[i].kind == EXEC_LOOSE && e->base[i].phase == 1) {
                unbind(&e->base[i]);  // it is made again
            }
        }
        TARN_TRY(s);
        e->ready = true;
    }
    return TARN_OK;
}

static tarn_status run_all(tarn_exec *e, const tarn_tensor *values, const bool *donate,
                           tarn_error *err) {
    TARN_TRY(tarn_cancel_check(&e->cx->cancel, err));
    for (int k = 0; k < e->ninputs; k++) {
        if (e->input_base[k] >= 0) {
            TARN_TRY(bind_input(e, k, &values[k], err));
        }
    }
    if (!e->twin) {
        TARN_TRY(tarn_exec_prepare(e, err));
    }
    TARN_TRY(bind_arena(e, 2, err));
    TARN_TRY(bind_results(e, 2, donate, err));
    return run_phase(e, 2, err);
}

static tarn_status share_results(tarn_exec *e, tarn_tensor *results, tarn_error *err) {
    for (int r = 0; r < e->nroots; r++) {
        tarn_tensor t = at_spot(e, e->root[r].spot);
        if (e->root[r].copy) {
            TARN_TRY(tarn_tensor_cast(e->cx, &t, t.dtype, &results[r], err));
            results[r].weak = t.weak;
        } else {
            tarn_tensor_share(&t, &results[r]);
        }
    }
    return TARN_OK;
}

tarn_status tarn_exec_run(tarn_exec *e, const tarn_tensor *values, const bool *donate,
                          tarn_tensor *results, tarn_error *err) {
    memset(results, 0, (size_t)e->nroots * sizeof *results);
    tarn_status s = run_all(e, values, donate, err);
    s = s == TARN_OK ? share_results(e, results, err) : s;
    for (int r = 0; s != TARN_OK && r < e->nroots; r++) {
        tarn_tensor_release(&results[r]);
    }
    for (int i = 0; i < e->nbase; i++) {
        exec_base *b = &e->base[i];
        bool kept = b->kind == EXEC_KEPT || b->kind == EXEC_ARENA || b->kind == EXEC_LEAF ||
                    (b->kind == EXEC_LOOSE && b->phase == 1 && e->ready);
        if (!kept) {
            unbind(b);
        }
        if (b->over && b->over->through) {  // as runs that are given nothing find it, side by side
            b->over->through = false;
        }
    }
    return s;
}

tarn_status tarn_graph_eval(tarn_graph *g, int nroots, const tarn_node *const *roots,
                            const tarn_tensor *const *feeds, tarn_tensor *results,
                            tarn_error *err) {
    memset(results, 0, (size_t)nroots * sizeof *results);
    size_t count = (size_t)g->count + 1;
    const tarn_node **input = calloc(count, sizeof *input);
    tarn_tensor *value = calloc(count, sizeof *value);
    tarn_exec *e = NULL;
    int n = 0;
    for (int i = 0; feeds && input && value && i < g->count; i++) {
        if (feeds[i]) {
            input[n] = g->nodes[i];
            value[n++] = *feeds[i];
        }
    }
    tarn_status s = input && value ? make_for(g, true, nroots, roots, n, input, &e, err)
                                   : tarn_raise_nomem(err, "evaluation", count * sizeof *value);
    s = s == TARN_OK ? tarn_exec_run(e, value, NULL, results, err) : s;
    tarn_exec_free(e);
    free((void *)input);
    free(value);
    return s;
}
