// SPDX-License-Identifier: Apache-2.0
// Building programs: a walk over the nodes that the goals need, in order; slots are reused as soon
// as their last reader has run. With bands between them, one such walk per phase.
#include "vm/stream/program.h"

#include <string.h>

#include "vm/op/kernel/kernel.h"

typedef struct {
    tarn_context *cx;
    tarn_arena *arena;
    const tarn_graph *g;
    const tarn_layout *l;
    const tarn_tensor *values;
    tarn_program *p;
    int *slot;       // [count] slot of each node in this program, -1
    int *last;       // [count] index of the last step that reads the node
    const tarn_node **seen;  // [count] the reader whose shape a value in memory was broadcast to
    unsigned char *use;
    unsigned char *free_slot;  // [count + few]
    unsigned char *need;       // [count] what the goals of the program ask for, through all phases
    int *band;                 // [count] the band that holds the node by now, -1
    bool rows;                 // the phase goes by one element a row
    tarn_error *err;
} builder;

static int take_slot(builder *b) {
    for (int i = 0; i < b->p->nslots; i++) {
        if (b->free_slot[i]) {
            b->free_slot[i] = 0;
            return i;
        }
    }
    return b->p->nslots++;
}

static tarn_instr *emit(builder *b, unsigned what) {
    tarn_instr *i = &b->p->instr[b->p->ninstr++];
    memset(i, 0, sizeof *i);
    i->what = what;
    return i;
}

// True if the node is part of the tile stream of the sweep, and not in memory yet.
static bool swept(const builder *b, const tarn_node *n) {
    return b->l->spot[n->id].kind == TARN_AT_TILE && tarn_domain(b->l, n) == b->p->numel &&
           !b->values[n->id].storage;
}
// True if the node is computed in the tiles of this phase; else it is read from a band or memory.
static bool tiled(const builder *b, const tarn_node *n) {
    const tarn_spot *s = &b->l->spot[n->id];
    return swept(b, n) && !s->band && b->band[n->id] < 0 && s->rows == b->rows;
}
static int64_t phase_numel(const builder *b) {
    return b->rows ? b->p->numel / b->p->row : b->p->numel;
}

static void mark(builder *b, const tarn_node *n) {
    b->use[n->id] = 1;
    for (int i = n->id; i >= 0; i--) {
        const tarn_node *m = b->g->nodes[i];
        if (!b->use[i] || !tiled(b, m)) {
            continue;
        }
        for (int k = 0; k < m->nin; k++) {
            b->use[m->in[k]->id] = 1;
        }
    }
}

static void release_after(builder *b, const tarn_node *n, int step) {
    if (b->slot[n->id] >= 0 && b->last[n->id] == step) {
        b->free_slot[b->slot[n->id]] = 1;
    }
}

static tarn_status emit_memory(builder *b, const tarn_node *n, const tarn_node *reader) {
    const tarn_tensor *t = &b->values[n->id];
    tarn_fetch *f = &b->p->fetch[b->p->nfetch];
    tarn_dtype work = tarn_dtype_compute(n->desc.dtype);
    // As many elements have the same order in any shape; fewer are stretched to the reader's.
    reader = tarn_desc_numel(&n->desc) == phase_numel(b) ? n : reader;
    TARN_TRY(tarn_fetch_init(f, b->cx->isa, t, reader->desc.rank, reader->desc.shape, work, b->err));
    b->seen[n->id] = reader;
    tarn_instr *i = emit(b, f->mode == TARN_FETCH_SPLAT ? TARN_DO_SPLAT : TARN_DO_FETCH);
    i->index = b->p->nfetch++;
    i->out = f->mode == TARN_FETCH_SPLAT ? b->p->nslots++ : take_slot(b);
    b->slot[n->id] = i->out;
    if (i->what == TARN_DO_SPLAT) {
        b->last[n->id] = INT32_MAX;
    }
    return TARN_OK;
}

// The slot of operand x of `reader`. A value in memory that another reader of as many elements, but
// of another shape, has been given already is fetched once more, into a slot of its own.
static tarn_status operand_slot(builder *b, const tarn_node *x, const tarn_node *reader, int *slot) {
    const tarn_node *seen = b->seen[x->id];
    *slot = b->slot[x->id];
    if (!seen || seen == x || tarn_desc_numel(&x->desc) == 1 ||
        tarn_shape_equal(seen->desc.rank, seen->desc.shape, reader->desc.rank,
                         reader->desc.shape)) {
        return TARN_OK;
    }
    tarn_fetch *f = &b->p->fetch[b->p->nfetch];
    TARN_TRY(tarn_fetch_init(f, b->cx->isa, &b->values[x->id], reader->desc.rank,
                             reader->desc.shape, tarn_dtype_compute(x->desc.dtype), b->err));
    tarn_instr *i = emit(b, TARN_DO_FETCH);
    i->index = b->p->nfetch++;
    i->out = b->p->nslots++;
    *slot = i->out;
    return TARN_OK;
}

static void emit_band(builder *b, const tarn_node *n) {
    tarn_instr *i = emit(b, TARN_DO_BAND);
    i->index = b->band[n->id];
    i->size = b->p->band[i->index].size;
    i->out = take_slot(b);
    b->slot[n->id] = i->out;
}

static int new_band(tarn_program *p, tarn_dtype t, int64_t each) {
    p->band[p->nband] = (tarn_band){tarn_work_size(tarn_dtype_compute(t)), each};
    return p->nband++;
}

static tarn_status emit_load(builder *b, const tarn_node *n) {
    const tarn_source *s = n->attr.p;
    tarn_dtype work = tarn_dtype_compute(s->dtype);
    int index = 0;  // phases share what they read
    while (index < b->p->nload && b->p->load[index].source != s) {
        index++;
    }
    tarn_load *load = &b->p->load[index];
    *load = (tarn_load){.source = s,
                        .convert = s->dtype == work && work != TARN_BOOL
                                       ? NULL
                                       : tarn_convert(b->cx->isa, s->dtype, work),
                        .size_in = (size_t)tarn_dtype_get(s->dtype)->bits / 8,
                        .size_out = tarn_work_size(work)};
    if (s->dtype != work && !load->convert) {
        TARN_RAISE(b->err, "Dtype", "%s: %s cannot be computed with", s->name,
                   tarn_dtype_get(s->dtype)->name);
    }
    tarn_instr *i = emit(b, TARN_DO_LOAD);
    i->index = index;
    b->p->nload += index == b->p->nload;
    i->out = take_slot(b);
    b->slot[n->id] = i->out;
    return TARN_OK;
}

static tarn_status emit_point(builder *b, const tarn_node *n, int step) {
    tarn_desc in[16];
    int slot[16];
    tarn_tile_plan plan;
    for (int k = 0; k < n->nin; k++) {
        in[k] = n->in[k]->desc;
        TARN_TRY(operand_slot(b, n->in[k], n, &slot[k]));
    }
    TARN_TRY(tarn_tile_plan_of(b->cx->isa, n->op, n->nin, in, &n->attr, &n->desc, &plan, b->err));
    tarn_dtype out = tarn_dtype_compute(n->desc.dtype);
    tarn_instr *i = emit(b, plan.fn ? TARN_DO_POINT : TARN_DO_ROUND);
    i->nin = n->nin;
    i->fn = plan.fn;
    i->attr = &n->attr;
    i->size = tarn_work_size(out);
    if (!plan.fn) {
        tarn_dtype from = plan.want[0];
        i->first = from == n->desc.dtype ? NULL : tarn_convert(b->cx->isa, from, n->desc.dtype);
        i->second = out == n->desc.dtype ? NULL : tarn_convert(b->cx->isa, n->desc.dtype, out);
    }
    for (int k = 0; k < n->nin; k++) {
        i->in[k] = slot[k];
    }
    i->out = take_slot(b);
    b->slot[n->id] = i->out;
    for (int k = 0; k < n->nin; k++) {
        release_after(b, n->in[k], step);
    }
    return TARN_OK;
}

static tarn_status emit_goal(builder *b, const tarn_goal *goal) {
    tarn_program *p = b->p;
    if (goal->what == TARN_GOAL_FOLD) {
        const tarn_node *n = goal->node;
        tarn_fold_spec *f = &p->fold[p->nfold];
        tarn_dtype work, common = n->in[0]->desc.dtype;
        for (int k = 1; k < n->nin; k++) {
            common = tarn_dtype_compute(n->in[k]->desc.dtype) == TARN_F64 ? TARN_F64 : common;
        }
        memset(f, 0, sizeof *f);
        f->node = n;
        TARN_TRY(tarn_fold_fn_of(b->cx->isa, n->op, common, &work, &f->fn, b->err));
        tarn_instr *i = emit(b, TARN_DO_FOLD);
        i->index = p->nfold++;
        i->nin = n->nin;
        for (int k = 0; k < n->nin; k++) {
            int from = b->slot[n->in[k]->id];
            tarn_dtype have = tarn_dtype_compute(n->in[k]->desc.dtype);
            if (have != work) {
                tarn_instr *fold = i;
                tarn_instr move = *fold;
                memset(fold, 0, sizeof *fold);
                fold->what = TARN_DO_ROUND;
                fold->nin = 1;
                fold->in[0] = from;
                fold->first = tarn_convert(b->cx->isa, have, work);
                fold->size = tarn_work_size(work);
                fold->out = p->nslots++;
                from = fold->out;
                i = &p->instr[p->ninstr++];
                *i = move;
            }
            i->in[k] = from;
        }
        f->by_columns = tarn_columns_plan_of(b->cx->isa, n->op, &n->attr, &n->in[0]->desc, &n->desc,
                                             &f->columns);
        p->fold_scratch += f->by_columns ? tarn_columns_bytes(tarn_columns_of_block(&f->columns),
                                                              f->columns.width)
                                         : tarn_fold_scratch(n->op->reducer);
        return TARN_OK;
    }
    tarn_dtype have = tarn_dtype_compute(goal->node->desc.dtype);
    if (goal->what == TARN_GOAL_BAND) {
        tarn_instr *fill = emit(b, TARN_DO_FILL);
        fill->nin = 1;
        fill->in[0] = b->slot[goal->node->id];
        fill->size = tarn_work_size(have);
        fill->index = new_band(p, have, b->rows ? 1 : p->row);
        return TARN_OK;
    }
    tarn_instr *i = emit(b, goal->what == TARN_GOAL_STORE ? TARN_DO_STORE : TARN_DO_KEEP);
    i->nin = 1;
    i->in[0] = b->slot[goal->node->id];
    tarn_dtype to = goal->what == TARN_GOAL_STORE ? goal->store : goal->keep->dtype;
    i->first = to == have ? NULL : tarn_convert(b->cx->isa, have, to);
    if (to != have && !i->first) {
        TARN_RAISE(b->err, "Dtype", "%s cannot be stored as %s", tarn_dtype_get(have)->name,
                   tarn_dtype_get(to)->name);
    }
    i->size = (size_t)tarn_dtype_get(to)->bits / 8;
    i->size_in = tarn_work_size(have);
    if (goal->what == TARN_GOAL_STORE) {
        i->index = p->nstore;
        p->store[p->nstore++] = (tarn_output){goal->which, i->size, to};
    } else {
        i->index = p->nkeep;
        p->keep[p->nkeep++] = goal->keep;
    }
    return TARN_OK;
}

static void find_last(builder *b, int ngoals, const tarn_goal *goals) {
    for (int id = 0; id < b->l->count; id++) {
        const tarn_node *n = b->g->nodes[id];
        if (b->use[id] && tiled(b, n)) {
            for (int k = 0; k < n->nin; k++) {
                b->last[n->in[k]->id] = id;
            }
        }
    }
    for (int i = 0; i < ngoals; i++) {
        const tarn_node *n = goals[i].node;
        if (goals[i].what == TARN_GOAL_FOLD) {
            for (int k = 0; k < n->nin; k++) {
                b->last[n->in[k]->id] = INT32_MAX;
            }
        } else {
            b->last[n->id] = INT32_MAX;
        }
    }
}

// The node whose shape the memory operand is broadcast to: any tile reader of it.
static const tarn_node *reader_of(const builder *b, const tarn_node *n) {
    for (int id = n->id + 1; id < b->l->count; id++) {
        const tarn_node *m = b->g->nodes[id];
        if (!b->use[id] || !tiled(b, m)) {
            continue;
        }
        for (int k = 0; k < m->nin; k++) {
            if (m->in[k] == n) {
                return m;
            }
        }
    }
    return n;
}

// Slots of the phases before are free again, but for those that are filled once and for all.
static void open_phase(builder *b, bool rows) {
    size_t count = (size_t)b->l->count;
    tarn_program *p = b->p;
    b->rows = rows;
    memset(b->slot, -1, (count + 1) * sizeof *b->slot);
    memset(b->last, 0, (count + 1) * sizeof *b->last);
    memset((void *)b->seen, 0, (count + 1) * sizeof *b->seen);
    memset(b->use, 0, count + 1);
    memset(b->free_slot, 1, (size_t)p->nslots);
    for (int i = 0; i < p->ninstr; i++) {
        if (p->instr[i].what == TARN_DO_SPLAT) {
            b->free_slot[p->instr[i].out] = 0;
        }
    }
}

static tarn_status add_phase(builder *b, int nrow_step, int ngoals, const tarn_goal *goals) {
    tarn_program *p = b->p;
    tarn_phase *phase = &p->phase[p->nphase++];
    *phase = (tarn_phase){.row_step = p->nrow_step - nrow_step,
                          .nrow_step = nrow_step,
                          .instr = p->ninstr,
                          .rows = b->rows};
    for (int i = 0; i < ngoals; i++) {
        const tarn_node *n = goals[i].node;
        if (goals[i].what == TARN_GOAL_FOLD) {
            for (int k = 0; k < n->nin; k++) {
                mark(b, n->in[k]);
            }
        } else {
            mark(b, n);
        }
    }
    find_last(b, ngoals, goals);
    // Bare values first: their slots are filled once and never reused.
    for (int id = 0; id < b->l->count; id++) {
        const tarn_node *n = b->g->nodes[id];
        if (b->use[id] && !tiled(b, n) && b->band[id] < 0 && tarn_desc_numel(&n->desc) == 1 &&
            phase_numel(b) != 1) {
            TARN_TRY(emit_memory(b, n, reader_of(b, n)));
        }
    }
    for (int id = 0; id < b->l->count; id++) {
        const tarn_node *n = b->g->nodes[id];
        if (!b->use[id] || b->slot[id] >= 0) {
            continue;
        }
        if (b->band[id] >= 0) {
            emit_band(b, n);
        } else if (!tiled(b, n)) {
            TARN_TRY(emit_memory(b, n, reader_of(b, n)));
        } else if (n->op->cls == TARN_CLASS_LEAF) {
            TARN_TRY(emit_load(b, n));
        } else if (n->op->cls == TARN_CLASS_VIEW) {
            // The same elements in the same order: the same slot, alive as long as either.
            b->slot[id] = b->slot[n->in[0]->id];
            int of = n->in[0]->id;
            b->last[of] = b->last[of] > b->last[id] ? b->last[of] : b->last[id];
            b->last[id] = b->last[of];
            if (b->last[of] != INT32_MAX) {
                b->last[of] = INT32_MAX;  // shared: kept until the end of the tile
                b->last[id] = INT32_MAX;
            }
        } else {
            TARN_TRY(emit_point(b, n, id));
        }
    }
    for (int i = 0; i < ngoals; i++) {
        TARN_TRY(emit_goal(b, &goals[i]));
        if (goals[i].what == TARN_GOAL_BAND) {
            b->band[goals[i].node->id] = p->nband - 1;
        }
    }
    phase->ninstr = p->ninstr - phase->instr;
    return TARN_OK;
}

// ---- phases ----

// Marks what the goals need, and returns how many steps of bands are below them.
static int find_needed(builder *b, int ngoals, const tarn_goal *goals) {
    int steps = 0;
    for (int i = 0; i < ngoals; i++) {
        const tarn_node *n = goals[i].node;
        for (int k = 0; goals[i].what == TARN_GOAL_FOLD && k < n->nin; k++) {
            b->need[n->in[k]->id] = swept(b, n->in[k]);
        }
        if (goals[i].what != TARN_GOAL_FOLD) {
            b->need[n->id] = 1;
        }
    }
    for (int id = b->l->count - 1; id >= 0; id--) {
        const tarn_node *n = b->g->nodes[id];
        const tarn_spot *s = &b->l->spot[id];
        for (int k = 0; b->need[id] && k < n->nin; k++) {
            if (tarn_flows(b->l, n->in[k], n) && swept(b, n->in[k])) {
                b->need[n->in[k]->id] = 1;
            }
        }
        if (b->need[id] && (s->band || s->rows) && s->step > steps) {
            steps = s->step;
        }
    }
    return steps;
}

static bool read_by_elements(const builder *b, const tarn_node *n) {
    for (int id = n->id + 1; id < b->l->count; id++) {
        const tarn_node *m = b->g->nodes[id];
        for (int k = 0; b->need[id] && !b->l->spot[id].rows && k < m->nin; k++) {
            if (m->in[k] == n && tarn_flows(b->l, n, m)) {
                return true;
            }
        }
    }
    return false;
}

// Bands that row operations of a step are made from.
static tarn_status below_rows(builder *b, int step, tarn_goal *goals) {
    int n = 0;
    open_phase(b, false);
    for (int id = 0; id < b->l->count; id++) {
        const tarn_spot *s = &b->l->spot[id];
        if (!b->need[id] || !s->band || s->step != step) {
            continue;
        }
        const tarn_node *x = b->g->nodes[id]->in[0];
        bool there = b->band[x->id] >= 0;
        for (int i = 0; i < n; i++) {
            there = there || goals[i].node == x;
        }
        if (!there) {
            goals[n++] = (tarn_goal){.node = x, .what = TARN_GOAL_BAND};
        }
    }
    return n > 0 ? add_phase(b, 0, n, goals) : TARN_OK;
}

// The row operations of a step, and what is computed from their results with one element a row.
static tarn_status rows_step(builder *b, int step, int ngoals, const tarn_goal *given,
                             tarn_goal *goals) {
    tarn_program *p = b->p;
    int n = 0, steps = 0;
    for (int id = 0; id < b->l->count; id++) {
        const tarn_node *m = b->g->nodes[id];
        const tarn_spot *s = &b->l->spot[id];
        if (b->need[id] && s->band && s->step == step) {
            tarn_row_step *r = &p->row_step[p->nrow_step++];
            const tarn_node *x = m->in[0];
            TARN_TRY(tarn_row_plan_of(b->cx->isa, m->op, &m->attr, &x->desc, &m->desc, &r->plan,
                                      b->err));
            r->in = b->band[x->id];
            r->out = new_band(p, m->desc.dtype, r->plan.each);
            b->band[id] = r->out;
            p->row_scratch = r->plan.scratch > p->row_scratch ? r->plan.scratch : p->row_scratch;
            steps++;
        } else if (b->need[id] && s->rows && s->step == step && read_by_elements(b, m)) {
            goals[n++] = (tarn_goal){.node = m, .what = TARN_GOAL_BAND};
        }
    }
    for (int i = 0; i < ngoals; i++) {
        const tarn_spot *s = &b->l->spot[given[i].node->id];
        if (given[i].what == TARN_GOAL_KEEP && s->rows && s->step == step) {
            goals[n++] = given[i];
        }
    }
    open_phase(b, true);
    return n + steps > 0 ? add_phase(b, steps, n, goals) : TARN_OK;
}

static tarn_status make_phases(builder *b, int steps, int ngoals, const tarn_goal *given,
                               tarn_goal *goals) {
    for (int step = 1; step <= steps; step++) {
        TARN_TRY(below_rows(b, step, goals));
        TARN_TRY(rows_step(b, step, ngoals, given, goals));
    }
    int n = 0;
    for (int i = 0; i < ngoals; i++) {
        if (given[i].what != TARN_GOAL_KEEP || !b->l->spot[given[i].node->id].rows) {
            goals[n++] = given[i];
        }
    }
    open_phase(b, false);
    return add_phase(b, 0, n, goals);
}

tarn_status tarn_program_make(tarn_context *cx, tarn_arena *a, const tarn_graph *g,
                              const tarn_layout *l, const tarn_tensor *values, int64_t numel,
                              int ngoals, const tarn_goal *goals, tarn_program *p,
                              tarn_error *err) {
    memset(p, 0, sizeof *p);
    p->numel = numel;
    size_t count = (size_t)l->count, edges = 0, bands = (size_t)l->bands;
    for (size_t i = 0; i < count; i++) {
        edges += (size_t)g->nodes[i]->nin;
    }
    builder b = {.cx = cx, .arena = a, .g = g, .l = l, .values = values, .p = p, .err = err};
    b.need = tarn_arena_take(a, count + 1);
    b.band = tarn_arena_take(a, (count + 1) * sizeof *b.band);
    if (!b.need || !b.band) {
        return tarn_raise_nomem(err, "a program", count * sizeof *b.band);
    }
    memset(b.need, 0, count + 1);
    memset(b.band, -1, (count + 1) * sizeof *b.band);
    int steps = find_needed(&b, ngoals, goals);
    p->row = steps > 0 ? tarn_row_of(g, l, numel) : 1;
    size_t phases = 1 + 2 * (size_t)steps,
           most = phases * (4 * count + edges + 8 * (size_t)ngoals + 8);
    tarn_goal *some = tarn_arena_take(a, (count + (size_t)ngoals + 1) * sizeof *some);
    b.slot = tarn_arena_take(a, (count + 1) * sizeof *b.slot);
    b.last = tarn_arena_take(a, (count + 1) * sizeof *b.last);
    b.seen = tarn_arena_take(a, (count + 1) * sizeof *b.seen);
    b.use = tarn_arena_take(a, count + 1);
    b.free_slot = tarn_arena_take(a, most);
    p->phase = tarn_arena_take(a, phases * sizeof *p->phase);
    p->row_step = tarn_arena_take(a, (bands + 1) * sizeof *p->row_step);
    p->band = tarn_arena_take(a, (bands + count + 1) * sizeof *p->band);
    p->instr = tarn_arena_take(a, most * sizeof *p->instr);
    p->fetch = tarn_arena_take(a, phases * (count + edges + 1) * sizeof *p->fetch);
    p->load = tarn_arena_take(a, phases * (count + 1) * sizeof *p->load);
    p->fold = tarn_arena_take(a, ((size_t)ngoals + 1) * sizeof *p->fold);
    p->keep = tarn_arena_take(a, ((size_t)ngoals + 1) * sizeof *p->keep);
    p->store = tarn_arena_take(a, ((size_t)ngoals + 1) * sizeof *p->store);
    if (!some || !b.slot || !b.last || !b.seen || !b.use || !b.free_slot || !p->phase ||
        !p->row_step || !p->band || !p->instr || !p->fetch || !p->load || !p->fold || !p->keep ||
        !p->store) {
        return tarn_raise_nomem(err, "a program", most * sizeof *p->instr);
    }
    memset(b.free_slot, 0, most);
    return make_phases(&b, steps, ngoals, goals, some);
}
