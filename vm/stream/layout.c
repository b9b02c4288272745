// SPDX-License-Identifier: Apache-2.0
// Laying out: which nodes are computed tile by tile, which live in memory, in which pass each is
// ready. Levels follow design rule 6: level(node) = max(level(inputs)) + (reduction ? 1 : 0).
#include "vm/stream/program.h"

#include <stdlib.h>
#include <string.h>

static void place_leaf(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    s->kind = TARN_AT_MEMORY;
    const tarn_source *src = tarn_node_source(n);
    if (src) {
        l->source_bytes += src->bytes;
        if (src->numel != 1) {
            s->kind = TARN_AT_TILE;
        }
    }
}

static bool streams(const tarn_layout *l, const tarn_node *n) {
    return l->spot[n->id].kind == TARN_AT_TILE;
}

static void place_point(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    int64_t numel = tarn_desc_numel(&n->desc);
    bool tile = n->nin == 0;
    for (int i = 0; i < n->nin; i++) {
        tile = tile || (streams(l, n->in[i]) && tarn_desc_numel(&n->in[i]->desc) == numel);
    }
    s->kind = tile ? TARN_AT_TILE : TARN_AT_MEMORY;
    for (int i = 0; i < n->nin; i++) {
        tarn_spot *x = &l->spot[n->in[i]->id];
        bool fits = tile && x->kind == TARN_AT_TILE && tarn_desc_numel(&n->in[i]->desc) == numel;
        if (x->kind == TARN_AT_TILE && !fits) {
            x->keep = 1;
        }
        int ready = fits ? x->ready : tarn_memory_ready(x);
        s->ready = ready > s->ready ? ready : s->ready;
    }
}

static void place_whole(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    s->kind = TARN_AT_MEMORY;
    for (int i = 0; i < n->nin; i++) {
        tarn_spot *x = &l->spot[n->in[i]->id];
        x->keep = x->keep || x->kind == TARN_AT_TILE;
        s->ready = tarn_memory_ready(x) > s->ready ? tarn_memory_ready(x) : s->ready;
    }
}

static void place_reduce(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    bool tile = false;
    for (int i = 0; i < n->nin; i++) {
        tile = tile || streams(l, n->in[i]);
    }
    if (!tarn_is_total(n) || (!tile && tarn_gid(n) == 0)) {
        place_whole(n, s, l);
        return;
    }
    s->kind = TARN_AT_MEMORY;
    s->sweeps = 1;
    for (int i = 0; i < n->nin; i++) {
        const tarn_spot *x = &l->spot[n->in[i]->id];
        s->ready = x->ready > s->ready ? x->ready : s->ready;
    }
    s->ready++;
}

static void place(const tarn_node *n, const bool *known, tarn_layout *l) {
    tarn_spot *s = &l->spot[n->id];
    if (tarn_gid(n) && known && known[tarn_gid(n)]) {
        s->kind = TARN_AT_MEMORY;
        return;
    }
    for (int i = 0; i < n->nin; i++) {
        int stage = l->spot[n->in[i]->id].stage;
        s->stage = stage > s->stage ? stage : s->stage;
    }
    switch (n->op->cls) {
    case TARN_CLASS_LEAF:
        place_leaf(n, s, l);
        break;
    case TARN_CLASS_POINT:
        place_point(n, s, l);
        break;
    case TARN_CLASS_VIEW:
        if (n->op->same_order && streams(l, n->in[0])) {
            s->kind = TARN_AT_TILE;
            s->ready = l->spot[n->in[0]->id].ready;
        } else {
            place_whole(n, s, l);
        }
        break;
    case TARN_CLASS_REDUCE:
        place_reduce(n, s, l);
        s->stage += tarn_gid(n) ? 1 : 0;
        break;
    case TARN_CLASS_WHOLE:
    default:
        place_whole(n, s, l);
    }
}

// Marks what the goals of a pass ask for directly: folds, tensors to keep, roots.
static void mark_goals(const tarn_graph *g, const tarn_layout *l, int pass, int nroots,
                       const tarn_node *const *roots, unsigned char *use) {
    for (int i = 0; i < l->count; i++) {
        const tarn_spot *s = &l->spot[i];
        const tarn_node *n = g->nodes[i];
        for (int k = 0; s->sweeps && s->ready == pass + 1 && k < n->nin; k++) {
            use[n->in[k]->id] = 1;
        }
        use[i] |= s->kind == TARN_AT_TILE && s->keep && s->ready == pass;
    }
    for (int r = 0; r < nroots; r++) {
        use[roots[r]->id] |= streams(l, roots[r]) && l->spot[roots[r]->id].ready == pass;
    }
}

// Every pass reads the sources that its goals reach through what is computed tile by tile in it.
static void count_reads(const tarn_graph *g, tarn_layout *l, int nroots,
                        const tarn_node *const *roots, unsigned char *use) {
    for (int pass = 0; pass < l->passes; pass++) {
        memset(use, 0, (size_t)l->count);
        mark_goals(g, l, pass, nroots, roots, use);
        for (int i = l->count - 1; i >= 0; i--) {
            const tarn_node *n = g->nodes[i];
            bool kept = l->spot[i].keep && l->spot[i].ready < pass;
            if (!use[i] || !streams(l, n) || kept) {
                continue;
            }
            const tarn_source *src = tarn_node_source(n);
            l->reads += src ? src->bytes : 0;
            for (int k = 0; k < n->nin; k++) {
                bool same = tarn_desc_numel(&n->in[k]->desc) == tarn_desc_numel(&n->desc);
                use[n->in[k]->id] |= same && streams(l, n->in[k]);
            }
        }
    }
}

// What running a node tile by tile takes of each worker: a chunk of a source, a slot for a tile (and
// one for a conversion), accumulators. And of the job: its part of the programs of all passes.
static void measure_scratch(const tarn_node *n, const tarn_spot *s, tarn_layout *l) {
    enum { INSTRUCTIONS = 2048 };
    int64_t numel = tarn_desc_numel(&n->desc);
    l->scratch += 2 * (TARN_TILE * 8 + 64);
    l->shared_parts += (uint64_t)INSTRUCTIONS * (uint64_t)(n->nin + 1);
    if (tarn_node_source(n) && s->kind == TARN_AT_TILE) {
        l->scratch += tarn_dtype_bytes(n->desc.dtype, numel < TARN_CHUNK ? numel : TARN_CHUNK) + 128;
    }
    if (s->sweeps) {
        const tarn_reducer *r = n->op->reducer;
        uint64_t blocks = (uint64_t)(tarn_desc_numel(&n->in[0]->desc) / TARN_BLOCK) + 1;
        l->scratch += tarn_fold_scratch(r) + sizeof(tarn_fold) + 128;
        if (!r->exact) {
            l->shared_parts += r->part * blocks;
        } else if (tarn_gid(n) == 0) {
            l->worker_parts += r->part;  // those of the whole model belong to the run
        }
    }
}

static void measure(tarn_graph *g, tarn_layout *l) {
    l->scratch = TARN_CHUNK * 8;  // what is stored
    for (int i = 0; i < l->count; i++) {
        const tarn_spot *s = &l->spot[i];
        const tarn_node *n = g->nodes[i];
        int64_t numel = tarn_desc_numel(&n->desc);
        if (s->kind != TARN_AT_NONE) {
            measure_scratch(n, s, l);
        }
        if (s->kind == TARN_AT_TILE) {
            l->largest = numel > l->largest ? numel : l->largest;
            l->passes = s->ready + 1 > l->passes ? s->ready + 1 : l->passes;
        }
        if (s->sweeps) {
            l->passes = s->ready > l->passes ? s->ready : l->passes;
        }
        if (s->keep || (s->kind == TARN_AT_MEMORY && n->op->cls != TARN_CLASS_LEAF)) {
            l->whole_bytes += tarn_dtype_bytes(tarn_dtype_compute(n->desc.dtype), numel);
            if (n->op->workspace) {
                tarn_desc in[16];
                for (int k = 0; k < n->nin && k < 16; k++) {
                    in[k] = n->in[k]->desc;
                }
                l->whole_bytes += n->op->workspace(n->nin, in, &n->desc);
            }
        }
        l->stages = s->stage > l->stages ? s->stage : l->stages;
    }
    l->shared_parts *= (uint64_t)(l->passes > 0 ? l->passes : 1);
}

tarn_status tarn_stream_layout_make(tarn_graph *g, int nroots, const tarn_node *const *roots,
                             const bool *known, tarn_layout *l, tarn_error *err) {
    memset(l, 0, sizeof *l);
    for (int r = 0; r < nroots; r++) {
        l->count = roots[r]->id + 1 > l->count ? roots[r]->id + 1 : l->count;
    }
    l->spot = calloc((size_t)l->count + 1, sizeof *l->spot);
    unsigned char *use = calloc((size_t)l->count + 1, 1);
    if (!l->spot || !use) {
        free(use);
        tarn_stream_layout_free(l);
        return tarn_raise_nomem(err, "a plan", (size_t)l->count * sizeof *l->spot);
    }
    for (int r = 0; r < nroots; r++) {
        use[roots[r]->id] = 1;
    }
    for (int i = l->count - 1; i >= 0; i--) {
        const tarn_node *n = g->nodes[i];
        bool stop = tarn_gid(n) && known && known[tarn_gid(n)];
        for (int k = 0; use[i] && !stop && k < n->nin; k++) {
            use[n->in[k]->id] = 1;
        }
    }
    for (int i = 0; i < l->count; i++) {
        if (use[i]) {
            place(g->nodes[i], known, l);
        }
    }
    measure(g, l);
    count_reads(g, l, nroots, roots, use);
    free(use);
    return TARN_OK;
}

void tarn_stream_layout_free(tarn_layout *l) {
    free(l->spot);
    l->spot = NULL;
}
