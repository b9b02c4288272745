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

// An operand with one element a row, stretched over the rows of n.
static bool spreads(const tarn_node *x, const tarn_node *n, int64_t row) {
    const tarn_desc *d = &x->desc;
    bool column = tarn_desc_numel(d) == 1 || d->shape[d->rank - 1] == 1;
    return column && n->desc.rank > 0 && n->desc.shape[n->desc.rank - 1] == row;
}

bool tarn_flows(const tarn_layout *l, const tarn_node *x, const tarn_node *n) {
    const tarn_spot *s = &l->spot[n->id], *sx = &l->spot[x->id];
    if (s->kind != TARN_AT_TILE || sx->kind != TARN_AT_TILE ||
        tarn_domain(l, x) != tarn_domain(l, n)) {
        return false;
    }
    return s->band ? !sx->rows : sx->rows ? s->rows || spreads(x, n, sx->row) : !s->rows;
}

int64_t tarn_row_of(const tarn_graph *g, const tarn_layout *l, int64_t numel) {
    for (int i = 0; l->bands > 0 && i < l->count; i++) {
        if (l->spot[i].band && tarn_desc_numel(&g->nodes[i]->in[0]->desc) == numel) {
            return l->spot[i].row;
        }
    }
    return 0;
}

int64_t tarn_chunk_of(int64_t row) { return row > 1 ? TARN_CHUNK / 4 : TARN_CHUNK; }

int64_t tarn_window_of(int64_t numel, int64_t row) {
    int64_t chunk = tarn_chunk_of(row);
    int64_t rows = chunk % row == 0 ? chunk / row : (chunk + 2 * row - 2) / row;
    return rows < numel / row ? rows * row : numel;
}

// What flows into n says when it is ready; the rest is kept.
static void take_operands(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    for (int i = 0; i < n->nin; i++) {
        tarn_spot *x = &l->spot[n->in[i]->id];
        bool flows = tarn_flows(l, n->in[i], n);
        x->keep = x->keep || (x->kind == TARN_AT_TILE && !flows);
        int ready = flows ? x->ready : tarn_memory_ready(x), step = flows ? x->step : 0;
        s->ready = ready > s->ready ? ready : s->ready;
        if (step > s->step) {
            s->step = step;
            s->row = x->row;
        }
    }
}

// Of as many elements as an operand that streams: a tile beside it. Of as many as there are rows in
// the bands that an operand comes from: one element a row.
static void place_point(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    int64_t numel = tarn_desc_numel(&n->desc);
    bool tile = n->nin == 0;
    const tarn_spot *rows = NULL;
    for (int i = 0; i < n->nin; i++) {
        const tarn_spot *x = &l->spot[n->in[i]->id];
        bool same = x->kind == TARN_AT_TILE && tarn_desc_numel(&n->in[i]->desc) == numel;
        tile = tile || (same && !x->rows);
        rows = same && x->rows && !rows ? x : rows;
    }
    s->kind = tile || rows ? TARN_AT_TILE : TARN_AT_MEMORY;
    s->rows = !tile && rows;
    s->row = s->rows ? rows->row : 0;
    take_operands(n, s, l);
}

// Row by row over an operand that streams, unless a row is longer than a block, or another
// operation over as many elements has rows of another length.
static bool place_band(const tarn_graph *g, const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    if (n->nin != 1 || tarn_gid(n) || !tarn_row_local(n->op, &n->attr, &n->in[0]->desc)) {
        return false;
    }
    const tarn_desc *d = &n->in[0]->desc;
    const tarn_spot *x = &l->spot[n->in[0]->id];
    int64_t row = d->shape[d->rank - 1], numel = tarn_desc_numel(d),
            other = tarn_row_of(g, l, numel);
    if (x->kind != TARN_AT_TILE || x->rows || row > TARN_BLOCK || (other > 0 && other != row)) {
        return false;
    }
    s->kind = TARN_AT_TILE;
    s->band = 1;
    s->rows = tarn_desc_numel(&n->desc) != numel;
    s->row = row;
    s->ready = x->ready;
    s->step = x->step + 1;
    l->bands++;
    return true;
}

static void place_whole(const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    s->kind = TARN_AT_MEMORY;
    for (int i = 0; i < n->nin; i++) {
        tarn_spot *x = &l->spot[n->in[i]->id];
        x->keep = x->keep || x->kind == TARN_AT_TILE;
        s->ready = tarn_memory_ready(x) > s->ready ? tarn_memory_ready(x) : s->ready;
    }
}

static bool columns_plan(const tarn_graph *g, const tarn_node *n, tarn_columns_plan *p) {
    return tarn_columns_plan_of(g->cx->isa, n->op, &n->attr, &n->in[0]->desc, &n->desc, p);
}
static uint64_t columns_of_worker(const tarn_columns_plan *p) {
    return tarn_columns_bytes(tarn_columns_of_block(p), p->width);
}
static uint64_t columns_of_job(const tarn_columns_plan *p, int64_t workers) {
    return tarn_columns_bytes(tarn_columns_of_blocks(p, workers), p->width);
}

// Down columns, unless the subtrees of a few workers would take as much as the operand in memory.
static bool sums_columns(const tarn_graph *g, const tarn_node *n) {
    enum { WORKERS = 8 };  // of any run, so that plans do not depend on the machine
    tarn_columns_plan p;
    if (!columns_plan(g, n, &p)) {
        return false;
    }
    int64_t numel = tarn_desc_numel(&n->in[0]->desc), blocks = (numel - 1) / TARN_BLOCK + 1;
    int64_t workers = blocks < WORKERS ? blocks : WORKERS;
    return columns_of_job(&p, workers) + (uint64_t)workers * columns_of_worker(&p) <=
           tarn_dtype_bytes(p.work, numel);
}

static void place_reduce(const tarn_graph *g, const tarn_node *n, tarn_spot *s, tarn_layout *l) {
    bool tile = false;
    for (int i = 0; i < n->nin; i++) {
        tile = tile || (streams(l, n->in[i]) && !l->spot[n->in[i]->id].rows);
    }
    if ((!tarn_is_total(n) && !sums_columns(g, n)) || (!tile && tarn_gid(n) == 0)) {
        place_whole(n, s, l);
        return;
    }
    s->kind = TARN_AT_MEMORY;
    s->sweeps = 1;
    for (int i = 0; i < n->nin; i++) {
        tarn_spot *x = &l->spot[n->in[i]->id];
        x->keep = x->keep || x->rows;  // few: folded from memory
        int ready = x->rows ? tarn_memory_ready(x) : x->ready;
        s->ready = ready > s->ready ? ready : s->ready;
    }
    s->ready++;
}

static void place(const tarn_graph *g, const tarn_node *n, const bool *known, tarn_layout *l) {
    tarn_spot *s = &l->spot[n->id];
    if (tarn_gid(n) && known && known[tarn_gid(n)]) {
        s->kind = TARN_AT_MEMORY;
        return;
    }
    for (int i = 0; i < n->nin; i++) {
        int stage = l->spot[n->in[i]->id].stage;
        s->stage = stage > s->stage ? stage : s->stage;
    }
    if (place_band(g, n, s, l)) {
        return;
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
            const tarn_spot *x = &l->spot[n->in[0]->id];
            s->kind = TARN_AT_TILE;
            s->ready = x->ready;
            s->rows = x->rows;
            s->row = x->row;
            s->step = x->step;
        } else {
            place_whole(n, s, l);
        }
        break;
    case TARN_CLASS_REDUCE:
        place_reduce(g, n, s, l);
        s->stage += tarn_gid(n) ? 1 : 0;
        break;
    case TARN_CLASS_WHOLE:
    default:
        place_whole(n, s, l);
    }
}

// What a band takes of each worker: its operand and its result over a window, and what the
// operation needs beside them. A value of one element a row may become a band too.
static void measure_band(const tarn_graph *g, const tarn_node *n, const tarn_spot *s,
                         tarn_layout *l) {
    int64_t window = tarn_window_of(tarn_domain(l, n), s->row);
    if (s->rows) {
        l->scratch += (uint64_t)(window / s->row) * 8 + 128;
    }
    if (s->band) {
        tarn_row_plan p;
        const tarn_desc *x = &n->in[0]->desc;
        l->scratch += tarn_dtype_bytes(tarn_dtype_compute(x->dtype), window) + 128;
        l->scratch +=
            s->rows ? 0 : tarn_dtype_bytes(tarn_dtype_compute(n->desc.dtype), window) + 128;
        if (tarn_row_plan_of(g->cx->isa, n->op, &n->attr, x, &n->desc, &p, NULL) == TARN_OK) {
            l->scratch += p.scratch + 64;
        }
    }
}

// What running a node tile by tile takes of each worker: a chunk of a source, a slot for a tile (and
// one for a conversion), accumulators. And of the job: its part of the programs of all passes.
static void measure_scratch(const tarn_graph *g, const tarn_node *n, const tarn_spot *s,
                            tarn_layout *l) {
    enum { INSTRUCTIONS = 2048 };
    int64_t numel = tarn_desc_numel(&n->desc);
    uint64_t phases = 1 + 2 * (uint64_t)l->steps;
    l->scratch += phases * 2 * (TARN_TILE * 8 + 64);
    l->shared_parts += phases * INSTRUCTIONS * (uint64_t)(n->nin + 1);
    if (tarn_node_source(n) && s->kind == TARN_AT_TILE) {
        // A pass without bands takes chunks.
        int64_t row = tarn_row_of(g, l, numel), chunk = tarn_window_of(numel, 1);
        int64_t window = row > 0 ? tarn_window_of(numel, row) : 0;
        window = window > chunk ? window : chunk;
        l->scratch += tarn_dtype_bytes(n->desc.dtype, window) + 128;
    }
    if (s->kind == TARN_AT_TILE && s->row > 0) {
        measure_band(g, n, s, l);
    }
    if (s->sweeps) {
        const tarn_reducer *r = n->op->reducer;
        tarn_columns_plan p;
        l->again = l->again || r->state > 0;
        if (columns_plan(g, n, &p)) {
            uint64_t one = columns_of_job(&p, 1), more = columns_of_job(&p, 2) - one;
            l->scratch += columns_of_worker(&p) + more + sizeof(tarn_fold) + sizeof(tarn_columns) + 128;
            l->shared += one;
            return;
        }
        uint64_t blocks = (uint64_t)(tarn_desc_numel(&n->in[0]->desc) / TARN_BLOCK) + 1;
        l->scratch += tarn_fold_scratch(r) + sizeof(tarn_fold) + sizeof(tarn_columns) + 128;
        if (!r->exact) {
            l->shared_parts += r->part * blocks;
        } else if (tarn_gid(n) == 0) {
            l->worker_parts += r->part;  // those of the whole model belong to the run
        }
    }
}

static void measure(tarn_graph *g, int nroots, const tarn_node *const *roots, tarn_layout *l) {
    l->scratch = TARN_CHUNK * 8;  // what is stored: of each root
    for (int r = 1; r < nroots; r++) {
        l->scratch += tarn_in_tiles(&l->spot[roots[r]->id]) ? TARN_CHUNK * 8 : 0;
    }
    for (int i = 0; i < l->count; i++) {
        l->steps = l->spot[i].step > l->steps ? l->spot[i].step : l->steps;
    }
    for (int i = 0; i < l->count; i++) {
        const tarn_spot *s = &l->spot[i];
        const tarn_node *n = g->nodes[i];
        int64_t numel = tarn_desc_numel(&n->desc);
        if (s->kind != TARN_AT_NONE) {
            measure_scratch(g, n, s, l);
        }
        if (s->kind == TARN_AT_TILE) {
            l->largest = numel > l->largest ? numel : l->largest;
            l->passes = s->ready + 1 > l->passes ? s->ready + 1 : l->passes;
        }
        if (s->sweeps) {
            l->passes = s->ready > l->passes ? s->ready : l->passes;
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
            place(g, g->nodes[i], known, l);
        }
    }
    for (int r = 0; r < nroots; r++) {
        tarn_spot *s = &l->spot[roots[r]->id];
        s->keep = s->keep || (s->kind == TARN_AT_TILE && s->rows);  // stored from memory
    }
    measure(g, nroots, roots, l);
    tarn_status s = tarn_layout_lives(g, l, nroots, roots, use, err);
    free(use);
    if (s != TARN_OK) {
        tarn_stream_layout_free(l);
    }
    return s;
}

void tarn_stream_layout_free(tarn_layout *l) {
    free(l->spot);
    l->spot = NULL;
}
