// SPDX-License-Identifier: Apache-2.0
// How a job is laid out over passes. Private to vm/stream.
#ifndef TARN_STREAM_LAYOUT_H
#define TARN_STREAM_LAYOUT_H

#include "vm/stream/stream.h"

typedef enum {
    TARN_AT_NONE,    // not needed
    TARN_AT_TILE,    // computed tile by tile, never whole
    TARN_AT_MEMORY,  // a tensor in memory
} tarn_place_kind;

typedef struct tarn_spot {
    unsigned char kind;     // tarn_place_kind
    unsigned char keep;     // a TILE node that is also needed whole: stored in its pass
    unsigned char sweeps;   // a REDUCE over tiles
    unsigned char band;     // TILE: made of whole rows (tarn_row_local), in a band of them
    unsigned char rows;     // TILE: one element a row of the bands that it is made of
    int step;               // TILE: bands below it, in a chain, within a pass
    int64_t row;            // TILE: elements of a row of those bands; 0: none
    int ready;              // TILE: the pass it can be computed in; MEMORY: the pass before which
    int stage;              // number of whole-model reductions below it, in a chain
} tarn_spot;

typedef struct tarn_layout {
    int count;        // nodes considered: ids below it
    tarn_spot *spot;  // [count]
    int passes;
    int stages;             // whole-model barriers before the root
    bool again;             // a reduction may ask for another sweep once it has seen the data
    uint64_t source_bytes;  // of all sources used
    uint64_t reads;         // bytes of sources over all passes, when none are held
    uint64_t whole_bytes;   // of tensors in memory
    uint64_t scratch;       // bytes of buffers that each worker of the job needs, at most
    uint64_t shared_parts;  // bytes of parts of reductions, one set for the job
    uint64_t worker_parts;  // the same per worker
    int64_t largest;        // elements of the largest tile domain
    int bands;              // nodes computed in bands
    int steps;              // bands in a chain, at most
} tarn_layout;

// The elements of the sweep that a TILE node is computed in.
static inline int64_t tarn_domain(const tarn_layout *l, const tarn_node *n) {
    const tarn_spot *s = &l->spot[n->id];
    return tarn_desc_numel(&n->desc) * (s->kind == TARN_AT_TILE && s->rows ? s->row : 1);
}
static inline int64_t tarn_gid(const tarn_node *n) {
    return n->op->cls == TARN_CLASS_REDUCE ? n->attr.i[1] : 0;
}
// When a value may be used: a kept tile becomes memory one pass later.
static inline int tarn_memory_ready(const tarn_spot *s) {
    return s->kind == TARN_AT_TILE ? s->ready + 1 : s->ready;
}
static inline bool tarn_is_total(const tarn_node *n) {  // a reduction over all elements
    return n->op->reducer->outputs > 0 || n->attr.ni == 2;
}

// x is computed in the same sweep as n, which reads it tile by tile; else n finds it in memory.
bool tarn_flows(const tarn_layout *l, const tarn_node *x, const tarn_node *n);
// The length of rows that sweeps over so many elements go by, 0 without bands.
int64_t tarn_row_of(const tarn_graph *g, const tarn_layout *l, int64_t numel);
// Elements that such a sweep reads and writes at a time, and the most that whole rows over them
// hold.
int64_t tarn_chunk_of(int64_t row);
int64_t tarn_window_of(int64_t numel, int64_t row);

// known[gid]: that whole-model reduction has a value already (may be NULL).
tarn_status tarn_stream_layout_make(tarn_graph *g, int nroots, const tarn_node *const *roots,
                             const bool *known, tarn_layout *l, tarn_error *err);
void tarn_stream_layout_free(tarn_layout *l);

#endif
