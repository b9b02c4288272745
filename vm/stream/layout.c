// SPDX-License-Identifier: Apache-2.0
// Laying out: which nodes are computed tile by tile, which live in memory, in which pass each is
// ready. Levels follow design rule 6: level(node) = max(level(inputs)) + (reduction ? 1 : 0).
#include "vm/stream/layout.h"

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

static void measure(tarn_graph *g, tarn_layout *l) {
    for (int i = 0; i < l->count; i++) {
        const tarn_spot *s = &l->spot[i];
        const tarn_node *n = g->nodes[i];
        int64_t numel = tarn_desc_numel(&n->desc);
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
    free(use);
    measure(g, l);
    return TARN_OK;
}

void tarn_stream_layout_free(tarn_layout *l) {
    free(l->spot);
    l->spot = NULL;
}
