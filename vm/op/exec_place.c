// SPDX-License-Identifier: Apache-2.0
// Where values lie. Each value lives from the step that makes it to the last that reads it; walking
// over the steps, it takes the smallest hole that fits. Where the last reader goes over it element
// by element, a result of that step is written in its place.
#include <string.h>

#include "vm/op/exec_parts.h"

typedef struct {
    size_t at, size;
} hole;

typedef struct {
    exec_maker *m;
    tarn_exec *e;
    int *made, *gone;            // [nstep] first of the bases made, last read by a step
    int *next_made, *next_gone;  // [nbase]
    int *direct;   // [nbase] the step that reads it in place so far
    int *reader;   // [nbase] … by this instruction at last
    hole *hole;
    int nhole;
    size_t top;
} placer;

static size_t padded(size_t n) { return (n + 63) / 64 * 64; }

static size_t take_hole(placer *p, size_t size) {
    int best = -1;
    for (int i = 0; i < p->nhole; i++) {
        if (p->hole[i].size >= size && (best < 0 || p->hole[i].size < p->hole[best].size)) {
            best = i;
        }
    }
    if (best >= 0) {
        size_t at = p->hole[best].at;
        p->hole[best].at += size;
        p->hole[best].size -= size;
        if (p->hole[best].size == 0) {
            p->nhole--;
            memmove(&p->hole[best], &p->hole[best + 1],
                    (size_t)(p->nhole - best) * sizeof *p->hole);
        }
        return at;
    }
    hole *last = p->nhole > 0 ? &p->hole[p->nhole - 1] : NULL;
    size_t at = p->top;
    if (last && last->at + last->size == p->top) {  // the end grows
        at = last->at;
        p->nhole--;
    }
    p->top = at + size;
    return at;
}

static void give_hole(placer *p, size_t at, size_t size) {
    int i = 0;
    while (i < p->nhole && p->hole[i].at < at) {
        i++;
    }
    bool left = i > 0 && p->hole[i - 1].at + p->hole[i - 1].size == at;
    bool right = i < p->nhole && at + size == p->hole[i].at;
    if (left && right) {
        p->hole[i - 1].size += size + p->hole[i].size;
        p->nhole--;
        memmove(&p->hole[i], &p->hole[i + 1], (size_t)(p->nhole - i) * sizeof *p->hole);
    } else if (left) {
        p->hole[i - 1].size += size;
    } else if (right) {
        p->hole[i].at = at;
        p->hole[i].size += size;
    } else {
        memmove(&p->hole[i + 1], &p->hole[i], (size_t)(p->nhole - i) * sizeof *p->hole);
        p->hole[i] = (hole){at, size};
        p->nhole++;
    }
}

// ---- in place ----

// reader[b]: the last instruction that reads base b, where all of the group read it element by
// element.
static void find_readers(placer *p, int step) {
    tarn_exec *e = p->e;
    exec_step *s = &e->step[step];
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < s->ninstr; i++) {
            const exec_instr *in = &s->instr[i];
            if (in->what != EXEC_FETCH) {
                continue;
            }
            const exec_fetch *f = &e->fetch[in->fetch];
            int b = e->spot[f->spot].base;
            bool plain = f->f.mode == TARN_FETCH_DIRECT && !f->f.convert &&
                         (size_t)s->numel * f->f.size_in == e->base[b].bytes;
            if (pass == 0) {
                p->direct[b] = step;
                p->reader[b] = -1;
            } else if (!plain || e->base[b].last != step) {
                p->direct[b] = -1;
            } else if (p->direct[b] == step) {
                p->reader[b] = i > p->reader[b] ? i : p->reader[b];
                for (int j = i + 1; j < s->ninstr; j++) {  // until its slot is filled anew
                    const exec_instr *r = &s->instr[j];
                    for (int k = 0; k < r->nin; k++) {
                        p->reader[b] = r->in[k] == in->out && j > p->reader[b] ? j : p->reader[b];
                    }
                    if (r->out == in->out) {
                        break;
                    }
                }
            }
        }
    }
}

// Each result of a group over the first operand that it may take the place of.
static void overlay(placer *p, int step) {
    tarn_exec *e = p->e;
    exec_step *s = &e->step[step];
    find_readers(p, step);
    for (int i = 0; i < s->ninstr; i++) {
        exec_instr *out = &s->instr[i];
        exec_base *o = out->base >= 0 ? &e->base[out->base] : NULL;
        if (!o || o->bytes == 0 || (o->kind != EXEC_ARENA && o->kind != EXEC_RESULT)) {
            continue;
        }
        exec_kind from = o->kind == EXEC_ARENA ? EXEC_ARENA : EXEC_INPUT;
        for (int j = 0; j < i + 1; j++) {
            const exec_instr *in = &s->instr[j];
            if (in->what != EXEC_FETCH) {
                continue;
            }
            int b = e->spot[e->fetch[in->fetch].spot].base;
            const exec_base *x = &e->base[b];
            if (p->direct[b] != step || x->kind != from || x->bytes != o->bytes ||
                p->reader[b] > i || (from == EXEC_ARENA && x->phase != o->phase)) {
                continue;
            }
            if (from == EXEC_ARENA) {
                o->same = b;
                out->through = out->through || p->reader[b] == i;
            } else {
                o->donor = b;
                o->over = p->reader[b] == i && !out->through ? out : NULL;
            }
            p->direct[b] = -1;
            break;
        }
    }
}

// Results may also be put where an input was that nobody reads any more.
static void match_donors(tarn_exec *e, bool *taken) {
    for (int r = 0; r < e->nbase; r++) {
        if (e->base[r].kind == EXEC_RESULT && e->base[r].donor >= 0) {
            taken[e->base[r].donor] = true;
        }
    }
    for (int r = 0; r < e->nbase; r++) {
        exec_base *o = &e->base[r];
        for (int b = 0; o->kind == EXEC_RESULT && o->donor < 0 && b < e->nbase; b++) {
            const exec_base *x = &e->base[b];
            if (x->kind == EXEC_INPUT && !taken[b] && x->bytes == o->bytes && x->last < o->first) {
                o->donor = b;
                taken[b] = true;
            }
        }
    }
}

// ---- the walk ----

static void walk(placer *p, int phase) {
    tarn_exec *e = p->e;
    p->nhole = 0;
    p->top = 0;
    for (int s = 0; s < e->nstep; s++) {
        if (e->step[s].phase != phase) {
            continue;
        }
        if (!e->step[s].node) {
            overlay(p, s);
        }
        for (int b = p->made[s]; b >= 0; b = p->next_made[b]) {
            exec_base *x = &e->base[b];
            x->at = x->same >= 0 ? e->base[x->same].at : take_hole(p, padded(x->bytes));
        }
        for (int b = p->gone[s]; b >= 0; b = p->next_gone[b]) {
            bool passed_on = false;
            for (int o = p->made[s]; o >= 0; o = p->next_made[o]) {
                passed_on = passed_on || e->base[o].same == b;
            }
            if (!passed_on && e->base[b].bytes > 0) {
                give_hole(p, e->base[b].at, padded(e->base[b].bytes));
            }
        }
    }
    e->arena_bytes[phase] = p->top;
}

// ---- the peak ----

static size_t result_bytes(const exec_base *b) { return padded(b->bytes); }

// What the first run leaves behind where operations put it themselves.
static uint64_t kept_loose(const tarn_exec *e) {
    uint64_t bytes = 0;
    for (int b = 0; b < e->nbase; b++) {
        const exec_base *x = &e->base[b];
        bytes += x->kind == EXEC_LOOSE && x->last == INT32_MAX && x->phase == 1 ? result_bytes(x) : 0;
    }
    return bytes;
}

// Of a phase, beside what is kept.
static uint64_t peak_of(const exec_maker *m, int phase) {
    const tarn_exec *e = m->e;
    uint64_t fixed = e->arena_bytes[phase], loose = 0, most = 0;
    for (int b = 0; b < e->nbase; b++) {
        const exec_base *x = &e->base[b];
        fixed += x->kind == EXEC_RESULT && x->phase <= phase ? result_bytes(x) : 0;
    }
    for (int r = 0; phase == 2 && r < e->nroots; r++) {
        fixed += e->root[r].copy ? result_bytes(&e->base[e->spot[e->root[r].spot].base]) : 0;
    }
    for (int s = 0; s < e->nstep; s++) {
        const exec_step *step = &e->step[s];
        const tarn_node *n = step->node;
        if (step->phase != phase || !n) {
            continue;
        }
        const exec_base *x = &e->base[e->spot[step->out].base];
        loose += x->kind == EXEC_LOOSE ? result_bytes(x) : 0;
        tarn_desc few[16], *in = few;
        in = n->nin <= 16 ? few : tarn_arena_take(m->a, (size_t)n->nin * sizeof *in);
        for (int k = 0; in && k < n->nin; k++) {
            in[k] = n->in[k]->desc;
        }
        uint64_t beside = in ? tarn_op_workspace(e->cx, n->op, n->nin, in, &n->attr, &n->desc) : 0;
        most = loose + beside > most ? loose + beside : most;
        for (int b = 0; b < e->nbase; b++) {
            const exec_base *y = &e->base[b];
            bool gone = y->kind == EXEC_LOOSE && y->phase == phase && y->last == s;
            loose -= gone ? result_bytes(y) : 0;
        }
    }
    return fixed + most;
}

tarn_status tarn_exec_place(exec_maker *m) {
    tarn_exec *e = m->e;
    size_t nbase = (size_t)e->nbase, nstep = (size_t)e->nstep;
    placer p = {.m = m, .e = e};
    p.made = tarn_arena_take(m->a, (2 * nstep + 4 * nbase + 1) * sizeof *p.made);
    p.hole = tarn_arena_take(m->a, (nbase + 2) * sizeof *p.hole);
    bool *taken = tarn_arena_take(m->a, nbase + 1);
    if (!p.made || !p.hole || !taken) {
        return tarn_raise_nomem(m->err, "a recorded function", nbase * 32);
    }
    memset(p.made, -1, (2 * nstep + 4 * nbase + 1) * sizeof *p.made);
    memset(taken, 0, nbase + 1);
    p.gone = p.made + nstep;
    p.next_made = p.gone + nstep;
    p.next_gone = p.next_made + nbase;
    p.direct = p.next_gone + nbase;
    p.reader = p.direct + nbase;
    for (int b = e->nbase - 1; b >= 0; b--) {
        exec_base *x = &e->base[b];
        if (x->kind == EXEC_KEPT) {
            x->at = e->arena_bytes[0];
            e->arena_bytes[0] += padded(x->bytes);
        } else if (x->kind == EXEC_ARENA) {
            p.next_made[b] = p.made[x->first];
            p.made[x->first] = b;
            p.next_gone[b] = p.gone[x->last];
            p.gone[x->last] = b;
        } else if ((x->kind == EXEC_LOOSE || x->kind == EXEC_LEAF) && x->last >= 0 &&
                   x->last != INT32_MAX) {
            x->next_drop = e->step[x->last].drop;
            e->step[x->last].drop = b;
        }
    }
    walk(&p, 1);
    walk(&p, 2);
    match_donors(e, taken);
    uint64_t first = peak_of(m, 1), later = kept_loose(e);
    e->each = peak_of(m, 2);
    later += e->each;
    e->peak = e->arena_bytes[0] + (first > later ? first : later);
    return TARN_OK;
}
