// SPDX-License-Identifier: Apache-2.0
// From nodes assigned to steps to steps that can be run: where values lie in memory, instructions
// of groups, slots reused as soon as their last reader has run.
#include <string.h>

#include "vm/op/exec_parts.h"
#include "vm/op/kernel/kernel.h"

typedef struct {
    exec_maker *m;
    tarn_exec *e;
    int *base, *spot;   // [count] of a node, -1
    int *reg;           // [count] register that holds a node's tiles in its group, -1
    int *loaded;        // [count] register that a node was fetched to by the group …
    int *loaded_by;     // [count] … step, -1
    const tarn_node **loaded_for;  // … and the reader that it is broadcast to
    int *tile;          // [count] the constant's tile, -1
    const tarn_node **member;      // [count] the nodes of all groups, one after another
    int *first_member;             // [nproto + 1]
    exec_instr *fill, *body;       // of the group being made
    int nfill, nbody, nreg, nconst;
    int *constant;                 // tiles of the group …
    int *constant_reg;             // … and their registers
} emitter;

static void *take(emitter *x, size_t n, size_t size) {
    return tarn_arena_take(x->m->a, (n + 1) * size);
}
static void *keep(emitter *x, size_t n, size_t size) {
    return tarn_arena_take(&x->e->a, (n + 1) * size);
}

// ---- memory ----

static exec_kind kind_of(const exec_maker *m, const tarn_node *n) {
    if (m->input[n->id] >= 0) {
        return EXEC_INPUT;
    }
    if (n->op->cls == TARN_CLASS_LEAF) {
        return EXEC_LEAF;
    }
    if (n->op->cls == TARN_CLASS_WHOLE && !n->op->placed && !n->op->rows) {
        return EXEC_LOOSE;
    }
    if (m->is_root[n->id] && (m->phase[n->id] == 2 || m->e->once)) {
        return EXEC_RESULT;
    }
    return m->phase[n->id] == 1 && m->is_root[n->id] ? EXEC_KEPT : EXEC_ARENA;
}

static int base_of(emitter *x, int id) {
    exec_maker *m = x->m;
    if (x->base[id] >= 0) {
        return x->base[id];
    }
    const tarn_node *n = m->g->nodes[id];
    exec_base *b = &x->e->base[x->e->nbase];
    *b = (exec_base){.kind = kind_of(m, n),
                     .node = id,
                     .input = m->input[id],
                     .phase = m->phase[id],
                     .first = m->step[id],
                     .last = m->is_root[id] ? INT32_MAX : m->step[id],
                     .same = -1,
                     .donor = -1};
    b->bytes = tarn_dtype_bytes(n->desc.dtype, m->numel[id]);
    return x->base[id] = x->e->nbase++;
}

// The spot of a node that step `reader` reads from memory (INT32_MAX: after all steps).
static int spot_of(emitter *x, int id, int reader) {
    exec_maker *m = x->m;
    int holder = m->holder[id];
    exec_base *b = &x->e->base[base_of(x, holder)];
    if (reader != INT32_MAX && m->proto[reader].phase != b->phase) {
        reader = INT32_MAX;
        b->kind = b->kind == EXEC_ARENA ? EXEC_KEPT : b->kind;
    }
    b->last = reader > b->last ? reader : b->last;
    if (x->spot[id] >= 0) {
        return x->spot[id];
    }
    exec_spot *s = &x->e->spot[x->e->nspot];
    const tarn_desc *d = &m->g->nodes[id]->desc;
    if (m->layout[id]) {
        s->t = *m->layout[id];
    } else {
        memset(&s->t, 0, sizeof s->t);
        s->t.rank = d->rank;
        memcpy(s->t.shape, d->shape, sizeof s->t.shape);
        int64_t step = m->numel[id] > 0 ? 1 : 0;
        for (int k = d->rank - 1; k >= 0; k--) {
            s->t.stride[k] = step;
            step *= d->shape[k];
        }
    }
    s->t.dtype = d->dtype;
    s->t.weak = d->weak;
    s->base = x->base[holder];
    return x->spot[id] = x->e->nspot++;
}

// ---- operands of groups ----

static exec_instr *add_instr(exec_instr *list, int *n, int what, size_t size) {
    exec_instr *i = &list[(*n)++];
    memset(i, 0, sizeof *i);
    i->what = what;
    i->base = -1;
    i->size = size;
    return i;
}

static tarn_status add_fetch(emitter *x, const tarn_node *n, const tarn_node *shape, int step,
                             exec_instr **out) {
    static const double place[TARN_MAX_RANK] = {0};
    tarn_exec *e = x->e;
    exec_fetch *f = &e->fetch[e->nfetch];
    f->spot = spot_of(x, n->id, step);
    const exec_base *b = &e->base[e->spot[f->spot].base];
    tarn_dtype work = tarn_dtype_compute(n->desc.dtype);
    // The data come with each run; shapes and strides are known now.
    tarn_storage none = {.data = (void *)(uintptr_t)place};
    tarn_tensor t = e->spot[f->spot].t;
    t.storage = &none;
    t.offset = 0;
    TARN_TRY(tarn_fetch_init(&f->f, e->cx->isa, &t, shape->desc.rank, shape->desc.shape, work,
                             x->m->err));
    if (t.dtype == TARN_BOOL && b->kind != EXEC_LEAF && b->kind != EXEC_INPUT) {
        f->f.convert = NULL;  // our own bools are 0 and 1
    }
    bool splat = f->f.mode == TARN_FETCH_SPLAT && x->m->numel[shape->id] != 1;
    exec_instr *i = add_instr(splat ? x->fill : x->body, splat ? &x->nfill : &x->nbody, EXEC_FETCH,
                              tarn_work_size(work));
    i->fetch = e->nfetch++;
    i->out = x->nreg++;
    *out = i;
    return TARN_OK;
}

static int constant_tile(emitter *x, const tarn_node *n) {
    if (x->tile[n->id] < 0) {
        tarn_exec *e = x->e;
        exec_tile *t = &e->tile[e->ntile];
        *t = (exec_tile){.spot = spot_of(x, n->id, INT32_MAX),
                         .work = tarn_dtype_compute(n->desc.dtype)};
        exec_base *b = &e->base[e->spot[t->spot].base];
        b->kind = b->kind == EXEC_ARENA ? EXEC_KEPT : b->kind;
        x->tile[n->id] = e->ntile++;
    }
    return x->tile[n->id];
}

static tarn_status operand(emitter *x, const tarn_node *n, int k, int step, int *reg) {
    exec_maker *m = x->m;
    const tarn_node *in = n->in[k];
    if (tarn_exec_streams(m, in, n)) {
        *reg = x->reg[m->stream[in->id]];
        return TARN_OK;
    }
    const tarn_node *shape = m->numel[in->id] == m->numel[n->id] ? in : n;
    const tarn_node *seen = x->loaded_by[in->id] == step ? x->loaded_for[in->id] : NULL;
    if (seen && (m->numel[in->id] == 1 || tarn_shape_equal(seen->desc.rank, seen->desc.shape,
                                                           shape->desc.rank, shape->desc.shape))) {
        *reg = x->loaded[in->id];
        return TARN_OK;
    }
    if (m->numel[in->id] == 1 && m->phase[in->id] == 1 && m->phase[n->id] == 2) {
        x->constant[x->nconst] = constant_tile(x, in);
        x->constant_reg[x->nconst++] = *reg = x->nreg++;
    } else {
        exec_instr *i;
        TARN_TRY(add_fetch(x, in, shape, step, &i));
        *reg = i->out;
    }
    x->loaded[in->id] = *reg;
    x->loaded_by[in->id] = step;
    x->loaded_for[in->id] = shape;
    return TARN_OK;
}

// ---- instructions ----

static tarn_status emit_node(emitter *x, const tarn_node *n, int step) {
    exec_maker *m = x->m;
    tarn_exec *e = x->e;
    tarn_dtype work = tarn_dtype_compute(n->desc.dtype);
    exec_instr *i;
    if (n->op->cls == TARN_CLASS_VIEW) {
        TARN_TRY(add_fetch(x, n->in[0], n->in[0], step, &i));
        i->through = true;
    } else {
        tarn_desc in[16];
        int reg[16];
        tarn_tile_plan plan;
        for (int k = 0; k < n->nin; k++) {
            in[k] = n->in[k]->desc;
            TARN_TRY(operand(x, n, k, step, &reg[k]));
        }
        tarn_status s = tarn_tile_plan_of(e->cx->isa, n->op, n->nin, in, &n->attr, &n->desc, &plan,
                                          m->err);
        if (s != TARN_OK) {
            return tarn_error_prefix(m->err, "%s", n->op->name);
        }
        i = add_instr(x->body, &x->nbody, plan.fn ? EXEC_POINT : EXEC_ROUND, tarn_work_size(work));
        i->nin = n->nin;
        memcpy(i->in, reg, (size_t)n->nin * sizeof *reg);
        i->out = x->nreg++;
        i->fn = plan.fn;
        i->attr = &n->attr;
        if (!plan.fn) {  // a cast: through the stored dtype and back
            tarn_dtype from = plan.want[0], to = n->desc.dtype;
            i->first = from == to ? NULL : tarn_convert(e->cx->isa, from, to);
            i->second = work == to ? NULL : tarn_convert(e->cx->isa, to, work);
            if ((from != to && !i->first) || (work != to && !i->second)) {
                TARN_RAISE(m->err, "Dtype", "%s: no conversion from %s to %s", n->op->name,
                           tarn_dtype_get(from)->name, tarn_dtype_get(to)->name);
            }
        }
    }
    x->reg[n->id] = i->out;
    if (m->readers[n->id] > 0) {
        i->base = base_of(x, n->id);
        i->size_out = (size_t)tarn_dtype_get(n->desc.dtype)->bits / 8;
        if (work != n->desc.dtype) {
            i->through = true;
            i->narrow = tarn_convert(e->cx->isa, work, n->desc.dtype);
        }
        x->spot[n->id] = spot_of(x, n->id, step);
    }
    return TARN_OK;
}

// Registers become slots. last[r]: the last instruction that reads register r.
static int assign_slots(emitter *x, exec_step *s, int *last, int *slot, int *spare) {
    int nslot = 0, nspare = 0;
    for (int r = 0; r < x->nreg; r++) {
        last[r] = -1;
        slot[r] = -1;
    }
    for (int i = 0; i < s->ninstr; i++) {
        for (int k = 0; k < s->instr[i].nin; k++) {
            last[s->instr[i].in[k]] = i;
        }
    }
    for (int i = 0; i < s->nfill; i++) {
        last[s->instr[i].out] = INT32_MAX;  // filled once for all tiles
    }
    for (int c = 0; c < x->nconst; c++) {
        slot[x->constant_reg[c]] = -2 - c;
        last[x->constant_reg[c]] = INT32_MAX;
    }
    for (int i = 0; i < s->ninstr; i++) {
        exec_instr *in = &s->instr[i];
        int out = in->out;
        slot[out] = nspare > 0 ? spare[--nspare] : nslot++;  // while operands have theirs
        for (int k = 0; k < in->nin; k++) {
            int r = in->in[k];
            bool first = true;
            for (int j = 0; j < k; j++) {
                first = first && in->in[j] != slot[r];
            }
            if (last[r] == i && first) {
                spare[nspare++] = slot[r];
            }
            in->in[k] = slot[r];
        }
        in->out = slot[out];
        if (last[out] < 0) {
            spare[nspare++] = slot[out];
        }
    }
    for (int i = 0; i < s->ninstr; i++) {
        for (int k = 0; k < s->instr[i].nin; k++) {
            int r = s->instr[i].in[k];
            s->instr[i].in[k] = r < -1 ? nslot + (-2 - r) : r;
        }
    }
    return nslot;
}

static tarn_status emit_group(emitter *x, int step, exec_step *s) {
    exec_maker *m = x->m;
    x->nfill = x->nbody = x->nreg = x->nconst = 0;
    s->fetch = x->e->nfetch;
    for (int k = x->first_member[step]; k < x->first_member[step + 1]; k++) {
        TARN_TRY(emit_node(x, x->member[k], step));
    }
    s->nfetch = x->e->nfetch - s->fetch;
    s->numel = m->proto[step].numel;
    s->nfill = x->nfill;
    s->ninstr = x->nfill + x->nbody;
    s->instr = keep(x, (size_t)s->ninstr, sizeof *s->instr);
    int *constant = keep(x, (size_t)x->nconst, sizeof *constant);
    int *work = take(x, 3 * (size_t)x->nreg, sizeof *work);
    if (!s->instr || !work || !constant) {
        return tarn_raise_nomem(m->err, "a recorded function", sizeof *s->instr);
    }
    memcpy(s->instr, x->fill, (size_t)x->nfill * sizeof *s->instr);
    memcpy(s->instr + x->nfill, x->body, (size_t)x->nbody * sizeof *s->instr);
    memcpy(constant, x->constant, (size_t)x->nconst * sizeof *constant);
    s->constant = constant;
    s->nconst = x->nconst;
    s->nslot = assign_slots(x, s, work, work + x->nreg, work + 2 * x->nreg);
    s->shared = s->numel > EXEC_BLOCK && (double)s->numel * s->ninstr >= 1 << 17;
    return TARN_OK;
}

static tarn_status emit_single(emitter *x, int step, exec_step *s) {
    const tarn_node *n = x->m->proto[step].node;
    int *in = keep(x, (size_t)n->nin, sizeof *in);
    if (!in) {
        return tarn_raise_nomem(x->m->err, "a recorded function", (size_t)n->nin * sizeof *in);
    }
    s->node = n;
    s->nin = n->nin;
    for (int k = 0; k < n->nin; k++) {
        in[k] = spot_of(x, n->in[k]->id, step);
    }
    s->in = in;
    s->out = spot_of(x, n->id, step);
    return TARN_OK;
}

// ---- all ----

static bool open_emitter(emitter *x) {
    exec_maker *m = x->m;
    tarn_exec *e = x->e;
    size_t count = (size_t)m->count, edges = 0, used = 0, steps = (size_t)m->nproto;
    for (size_t i = 0; i < count; i++) {
        edges += m->phase[i] ? (size_t)m->g->nodes[i]->nin : 0;
        used += m->phase[i] ? 1 : 0;
    }
    x->base = take(x, 7 * count, sizeof *x->base);
    x->loaded_for = take(x, count, sizeof *x->loaded_for);
    x->member = take(x, count, sizeof *x->member);
    x->first_member = take(x, steps + 1, sizeof *x->first_member);
    x->fill = take(x, edges, sizeof *x->fill);
    x->body = take(x, edges + count, sizeof *x->body);
    x->constant = take(x, 2 * edges, sizeof *x->constant);
    e->base = keep(x, used, sizeof *e->base);
    e->spot = keep(x, used, sizeof *e->spot);
    e->fetch = keep(x, edges, sizeof *e->fetch);
    e->step = keep(x, steps, sizeof *e->step);
    e->tile = keep(x, used, sizeof *e->tile);
    if (!x->base || !x->loaded_for || !x->member || !x->first_member || !x->fill || !x->body ||
        !x->constant || !e->base || !e->spot || !e->fetch || !e->step || !e->tile) {
        return false;
    }
    memset(x->base, -1, 7 * count * sizeof *x->base);
    x->spot = x->base + count;
    x->reg = x->spot + count;
    x->loaded = x->reg + count;
    x->loaded_by = x->loaded + count;
    x->tile = x->loaded_by + count;
    x->constant_reg = x->constant + edges;
    memset(x->first_member, 0, (steps + 2) * sizeof *x->first_member);
    return true;
}

// The members of each group, in order: counted, then filled.
static void list_members(emitter *x) {
    exec_maker *m = x->m;
    int at = 0;
    for (int s = 0; s < m->nproto; s++) {
        x->first_member[s] = at;
        at += m->proto[s].node ? 0 : m->proto[s].members;
    }
    x->first_member[m->nproto] = at;
    for (int id = 0; id < m->count; id++) {
        const tarn_node *n = m->g->nodes[id];
        if (m->phase[id] && tarn_exec_tiled(m, n)) {
            x->member[x->first_member[m->step[id]]++] = n;
        }
    }
    for (int s = m->nproto; s > 0; s--) {
        x->first_member[s] = x->first_member[s - 1];
    }
    x->first_member[0] = 0;
}

tarn_status tarn_exec_emit(exec_maker *m, int nroots, const tarn_node *const *roots) {
    tarn_exec *e = m->e;
    emitter x = {.m = m, .e = e};
    if (!open_emitter(&x)) {
        return tarn_raise_nomem(m->err, "a recorded function", (size_t)m->count * sizeof *e->base);
    }
    list_members(&x);
    int widest = 1;
    for (int s = 0; s < m->nproto; s++) {
        const exec_proto *p = &m->proto[s];
        exec_step *step = &e->step[e->nstep++];
        *step = (exec_step){.phase = p->phase, .drop = -1};
        TARN_TRY(p->node ? emit_single(&x, s, step) : emit_group(&x, s, step));
        widest = step->nin > widest ? step->nin : widest;
    }
    for (int r = 0; r < nroots; r++) {
        e->root[r].spot = spot_of(&x, roots[r]->id, INT32_MAX);
        const exec_base *b = &e->base[e->spot[e->root[r].spot].base];
        e->root[r].copy =
            b->kind == EXEC_KEPT || (b->kind == EXEC_LOOSE && b->phase == 1 && !e->once);
    }
    for (int k = 0; k < e->ninputs; k++) {
        e->input_base[k] = x.base[e->input[k]->id];
    }
    e->widest = widest;
    e->in = keep(&x, (size_t)widest, sizeof *e->in);
    return e->in ? TARN_OK : tarn_raise_nomem(m->err, "a recorded function", 64);
}
