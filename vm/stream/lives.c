// SPDX-License-Identifier: Apache-2.0
// The lives of values in memory: a job goes through moments in a fixed order (before each pass the
// operations in memory by their ids, then the sweeps of the pass), so headers alone say at which
// moment each value is made, after which nothing reads it, and what is held at most. The job lets go
// of values by the same numbers. A view that needs no copy shares the bytes of its operand, which
// live as long as either.
#include <stdlib.h>
#include <string.h>

#include "vm/stream/program.h"

// ---- who reads what, when ----

static void read_at(tarn_spot *s, int64_t moment) { s->last = moment > s->last ? moment : s->last; }

// True for what compute_memory computes by an operation.
static bool applied(const tarn_spot *s, const tarn_node *n) {
    return s->kind == TARN_AT_MEMORY && !s->sweeps && n->op->cls != TARN_CLASS_LEAF &&
           tarn_gid(n) == 0;
}

// Marks what the goals of a pass ask for directly: folds, tensors to keep, roots. True if one of
// them may sweep again.
static bool mark_goals(const tarn_graph *g, const tarn_layout *l, int pass, int nroots,
                       const tarn_node *const *roots, unsigned char *use) {
    bool again = false;
    for (int i = 0; i < l->count; i++) {
        const tarn_spot *s = &l->spot[i];
        const tarn_node *n = g->nodes[i];
        if (s->sweeps && s->ready == pass + 1) {
            again = again || (n->op->reducer->state > 0 && tarn_gid(n) == 0);
            for (int k = 0; k < n->nin; k++) {
                use[n->in[k]->id] = 1;
            }
        }
        use[i] |= s->kind == TARN_AT_TILE && s->keep && s->ready == pass;
    }
    for (int r = 0; r < nroots; r++) {
        const tarn_spot *s = &l->spot[roots[r]->id];
        use[roots[r]->id] |= s->kind == TARN_AT_TILE && s->ready == pass;
    }
    return again;
}

static bool is_mask(const tarn_spot *s, const tarn_node *n) {
    return n->op->cls == TARN_CLASS_POINT && n->desc.dtype == TARN_BOOL &&
           s->kind == TARN_AT_TILE && s->step > 0 && !s->rows && !s->keep;
}

static uint64_t mask_bytes(const tarn_spot *s, const tarn_node *n) {
    return s->mask ? tarn_dtype_bytes(TARN_BOOL, tarn_desc_numel(&n->desc)) : 0;
}

// The sweeps of every pass read what their goals reach through what is computed tile by tile in them:
// sources, and tensors in memory.
static void read_by_sweeps(const tarn_graph *g, tarn_layout *l, int nroots,
                           const tarn_node *const *roots, unsigned char *use) {
    for (int pass = 0; pass < l->passes; pass++) {
        memset(use, 0, (size_t)l->count);
        bool again = mark_goals(g, l, pass, nroots, roots, use);
        for (int i = l->count - 1; i >= 0; i--) {
            const tarn_node *n = g->nodes[i];
            tarn_spot *s = &l->spot[i];
            if (!use[i]) {
                continue;
            }
            read_at(s, tarn_moment(l, pass, l->count));
            if (s->kind != TARN_AT_TILE || (s->keep && s->ready < pass)) {
                continue;
            }
            const tarn_source *src = tarn_node_source(n);
            l->reads += src ? src->bytes : 0;
            s->often = s->often || s->read || again;
            s->mask = s->mask || (s->read && is_mask(s, n));
            s->read = 1;
            for (int k = 0; k < n->nin; k++) {
                use[n->in[k]->id] = 1;
            }
        }
    }
}

// ---- what shares bytes ----

static tarn_tensor plain_like(const tarn_desc *d) {
    tarn_tensor t = {.dtype = tarn_dtype_compute(d->dtype), .rank = d->rank};
    int64_t step = tarn_desc_numel(d) > 0 ? 1 : 0;
    for (int k = d->rank - 1; k >= 0; k--) {
        t.shape[k] = d->shape[k];
        t.stride[k] = step;
        step *= d->shape[k];
    }
    return t;
}

// Shapes and strides of all values in memory, as they will be; like[]: tensors without storage.
static void find_owners(const tarn_graph *g, tarn_layout *l, tarn_tensor *like) {
    for (int i = 0; i < l->count; i++) {
        const tarn_node *n = g->nodes[i];
        tarn_spot *s = &l->spot[i];
        bool kept = s->kind == TARN_AT_TILE && s->keep;
        s->owner = i;
        if (s->kind != TARN_AT_MEMORY && !kept) {
            continue;
        }
        const tarn_tensor *there = tarn_node_tensor(n);
        like[i] = there ? *there : plain_like(&n->desc);
        if (kept || s->sweeps || (applied(s, n) && n->op->cls != TARN_CLASS_VIEW)) {
            s->bytes = tarn_dtype_bytes(like[i].dtype, tarn_desc_numel(&n->desc));
        } else if (applied(s, n)) {
            const tarn_node *x = n->in[0];
            if (n->op->view(&like[x->id], &n->attr, &n->desc, &like[i])) {
                s->owner = l->spot[x->id].owner;
            } else {
                tarn_tensor copy = plain_like(&x->desc);
                s->bytes = tarn_dtype_bytes(copy.dtype, tarn_desc_numel(&x->desc));
                n->op->view(&copy, &n->attr, &n->desc, &like[i]);
            }
        }
    }
}

tarn_status tarn_layout_lives(const tarn_graph *g, tarn_layout *l, int nroots,
                              const tarn_node *const *roots, unsigned char *use, tarn_error *err) {
    tarn_tensor *like = calloc((size_t)l->count + 1, sizeof *like);
    if (!like) {
        return tarn_raise_nomem(err, "a plan", (size_t)l->count * sizeof *like);
    }
    for (int i = 0; i < l->count; i++) {
        l->spot[i].last = -1;
    }
    read_by_sweeps(g, l, nroots, roots, use);
    for (int i = 0; i < l->count; i++) {
        const tarn_node *n = g->nodes[i];
        tarn_spot *s = &l->spot[i];
        for (int k = 0; applied(s, n) && k < n->nin; k++) {
            read_at(&l->spot[n->in[k]->id], tarn_moment(l, s->ready, i));
        }
        l->serial += applied(s, n) && n->op->serial;
        l->hold_bytes += s->often && tarn_node_source(n) ? tarn_node_source(n)->bytes : 0;
        l->mask_bytes += mask_bytes(s, n);
    }
    for (int r = 0; r < nroots; r++) {
        read_at(&l->spot[roots[r]->id], INT64_MAX);
    }
    find_owners(g, l, like);
    for (int i = 0; i < l->count; i++) {
        tarn_spot *s = &l->spot[i], *owner = &l->spot[s->owner];
        owner->until = s->last > owner->until ? s->last : owner->until;
    }
    free(like);
    return TARN_OK;
}

// ---- the most at any moment ----

// Bytes of workspace while an operation runs in memory. Only serial rows take less where their job
// has one processor.
static uint64_t workspace(const tarn_node *n, int threads) {
    tarn_desc in[16];
    for (int k = 0; k < n->nin && k < 16; k++) {
        in[k] = n->in[k]->desc;
    }
    return n->op->workspace ? n->op->workspace(n->nin, in, &n->attr, &n->desc, threads) : 0;
}
// And of buffers: tiles, parts of reductions.
static uint64_t buffers(const tarn_graph *g, const tarn_node *n) {
    uint64_t workers = (uint64_t)tarn_pool_size(g->cx->pool);
    uint64_t bytes = workers * (uint64_t)(n->nin + 2) * TARN_TILE * 8;
    if (n->op->cls == TARN_CLASS_REDUCE) {
        const tarn_reducer *r = n->op->reducer;
        uint64_t blocks = (uint64_t)(tarn_desc_numel(&n->in[0]->desc) / TARN_BLOCK) + 1;
        bytes += workers * (r->part + tarn_fold_scratch(r)) + blocks * r->part;
    }
    return bytes;
}

typedef struct {
    const tarn_graph *g;
    const tarn_layout *l;
    int threads;
    tarn_hold held;
    bool values;
    uint64_t live, most, made, extra;  // now; at most; ever; beside them at most
} account;

static void look(account *a, uint64_t extra) {
    a->extra = extra > a->extra ? extra : a->extra;
    a->most = a->live + extra > a->most ? a->live + extra : a->most;
}
static void make(account *a, const tarn_spot *s) {
    a->live += s->bytes;
    a->made += s->bytes;
}
static void drop(account *a, int id, int64_t moment) {
    const tarn_spot *s = &a->l->spot[id];
    if (s->until == moment) {
        a->live -= s->bytes;
        const tarn_node *n = a->g->nodes[id];
        const tarn_source *src = a->held && s->often ? tarn_node_source(n) : NULL;
        a->live -= src ? src->bytes : 0;
        a->live -= a->held == TARN_HOLD_MASKS ? mask_bytes(s, n) : 0;
    }
}

static void count_operation(account *a, int pass, int i) {
    const tarn_node *n = a->g->nodes[i];
    make(a, &a->l->spot[i]);
    int threads = n->op->serial ? a->threads : tarn_pool_size(a->g->cx->pool);
    look(a, workspace(n, threads) + (a->values ? 0 : buffers(a->g, n)));
    for (int k = 0; k < n->nin; k++) {
        int owner = a->l->spot[n->in[k]->id].owner;
        bool met = false;
        for (int q = 0; q < k; q++) {
            met = met || a->l->spot[n->in[q]->id].owner == owner;
        }
        if (!met) {
            drop(a, owner, tarn_moment(a->l, pass, i));
        }
    }
}

static void count_sweep(account *a, int pass, uint64_t scratch) {
    for (int i = 0; i < a->l->count; i++) {
        const tarn_spot *s = &a->l->spot[i];
        bool kept = s->kind == TARN_AT_TILE && s->keep && s->ready == pass;
        if (kept || (s->sweeps && s->ready == pass + 1)) {
            make(a, s);
        }
    }
    look(a, scratch);
    for (int i = 0; i < a->l->count; i++) {
        drop(a, i, tarn_moment(a->l, pass, a->l->count));
    }
}

uint64_t tarn_layout_peak(const tarn_graph *g, const tarn_layout *l, int threads, tarn_hold held,
                          uint64_t output, bool values) {
    account a = {.g = g, .l = l, .threads = threads, .held = held, .values = values};
    uint64_t fixed = values ? 0 : l->shared_parts + l->worker_parts * (uint64_t)threads;
    a.live = !held ? 0 : l->stages > 0 ? l->source_bytes : l->hold_bytes;
    a.live += held == TARN_HOLD_MASKS ? l->mask_bytes : 0;
    a.made = a.live;
    for (int pass = 0; pass <= l->passes + 1; pass++) {
        for (int i = 0; i < l->count; i++) {
            if (l->spot[i].ready == pass && applied(&l->spot[i], g->nodes[i])) {
                count_operation(&a, pass, i);
            }
        }
        if (pass < l->passes) {
            count_sweep(&a, pass, values ? 0 : l->scratch * (uint64_t)threads + l->shared);
        }
    }
    look(&a, output);
    // Stages order the same operations in another way: nothing is taken to end there.
    return fixed + (l->stages > 0 ? a.made + a.extra : a.most);
}
