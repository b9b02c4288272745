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
    unsigned char read;     // by a sweep
    unsigned char often;    // by several: a source that is worth holding
    unsigned char mask;     // TILE: bools made of bands, that the sweeps of several passes need
    int owner;              // in memory: the node whose bytes it shares, itself where it has its own
    uint64_t bytes;         // of its own
    int64_t last, until;    // moments after which nothing reads it; any that shares its bytes
} tarn_spot;

typedef struct tarn_layout {
    int count;        // nodes considered: ids below it
    tarn_spot *spot;  // [count]
    int passes;
    int stages;             // whole-model barriers before the root
    bool again;             // a reduction may ask for another sweep once it has seen the data
    uint64_t source_bytes;  // of all sources used
    uint64_t reads;         // bytes of sources over all passes, when none are held
    uint64_t hold_bytes;    // of those that are worth holding
    uint64_t mask_bytes;    // of masks
    int serial;             // operations in memory that take long on one processor
    uint64_t scratch;       // bytes of buffers that each worker of the job needs, at most
    uint64_t shared;        // and that they share
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
// Moments of a job, in order: before each pass the operations in memory by their ids, then its
// sweeps.
static inline int64_t tarn_moment(const tarn_layout *l, int pass, int id) {
    return (int64_t)pass * (l->count + 1) + id;
}
static inline int64_t tarn_gid(const tarn_node *n) {
    return n->op->cls == TARN_CLASS_REDUCE ? n->attr.i[1] : 0;
}
// Of a root: stored tile by tile; one with an element a row of bands is kept, then stored whole.
static inline bool tarn_in_tiles(const tarn_spot *s) {
    return s->kind == TARN_AT_TILE && !s->rows;
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

// What a unit keeps from sweep to sweep: nothing; inputs that several sweeps read; masks beside them, so that rows
// are ranked once: a byte an element is little beside that.
typedef enum { TARN_HOLD_NONE, TARN_HOLD_INPUTS, TARN_HOLD_MASKS } tarn_hold;

// known[gid]: that whole-model reduction has a value already (may be NULL).
tarn_status tarn_stream_layout_make(tarn_graph *g, int nroots, const tarn_node *const *roots,
                             const bool *known, tarn_layout *l, tarn_error *err);
// When the values of a layout are read last; use: [count + 1] for its own purposes.
tarn_status tarn_layout_lives(const tarn_graph *g, tarn_layout *l, int nroots,
                              const tarn_node *const *roots, unsigned char *use, tarn_error *err);
// The most that a job takes at any moment, with so many workers; values: by tensors in memory alone.
// output: bytes of a root in memory as it is stored, of the largest.
uint64_t tarn_layout_peak(const tarn_graph *g, const tarn_layout *l, int threads, tarn_hold held,
                          uint64_t output, bool values);
void tarn_stream_layout_free(tarn_layout *l);

// A job with those that are joined to it: outputs of one graph, which are computed together.
typedef struct tarn_unit {
    int64_t job;            // the first of them
    int n;
    const tarn_job *jobs;   // [n] names and dtypes
    tarn_graph *graph;      // NULL: not made yet
    const tarn_node *root[TARN_JOINED];
} tarn_unit;

// The one that begins with job i of n.
static inline tarn_unit tarn_unit_of(int64_t n, const tarn_job *jobs, int64_t i) {
    tarn_unit u = {.job = i, .jobs = jobs + i, .graph = jobs[i].graph};
    do {
        u.root[u.n] = jobs[i + u.n].root;
        u.n++;
    } while (u.n < TARN_JOINED && i + u.n < n && jobs[i + u.n].joined);
    return u;
}
static inline int tarn_unit_nodes(const tarn_unit *u) {  // ids of what it needs are below it
    int top = 0;
    for (int k = 0; k < u->n; k++) {
        top = u->root[k]->id > top ? u->root[k]->id : top;
    }
    return top + 1;
}
static inline uint64_t tarn_unit_output(const tarn_unit *u, int k) {  // bytes
    return tarn_dtype_bytes(u->jobs[k].store, tarn_desc_numel(&u->root[k]->desc));
}
// The most bytes of a root that stands in memory as it is stored.
static inline uint64_t tarn_unit_largest(const tarn_unit *u, const tarn_layout *l) {
    uint64_t most = 0;
    for (int k = 0; k < u->n; k++) {
        uint64_t bytes = tarn_in_tiles(&l->spot[u->root[k]->id]) ? 0 : tarn_unit_output(u, k);
        most = bytes > most ? bytes : most;
    }
    return most;
}
static inline uint64_t tarn_unit_writes(const tarn_unit *u) {
    uint64_t bytes = 0;
    for (int k = 0; k < u->n; k++) {
        bytes += tarn_unit_output(u, k);
    }
    return bytes;
}

// What a unit takes, and how it is run for it.
typedef struct tarn_job_size {
    int64_t job;  // its first
    enum {
        TARN_JOB_SMALL,  // one worker each, as many as there are workers
        TARN_JOB_SIDE,   // long work on one processor: side by side as far as memory allows
        TARN_JOB_LARGE,  // its blocks over all workers, one job at a time
    } kind;
    tarn_hold held;
    uint64_t least;           // bytes: tensors in memory alone, on one worker
    uint64_t whole;           // the same on all workers
    uint64_t single, shared;  // everything, on one worker; on all
} tarn_job_size;

// Lays a unit out and says what it takes. The layout is the caller's to free.
tarn_status tarn_unit_look(const tarn_context *cx, const tarn_unit *u, tarn_layout *l, tarn_job_size *s,
                           tarn_error *err);
// Whether there is room to compute it as one; else each of its jobs is a unit of its own.
bool tarn_unit_whole(const tarn_context *cx, const tarn_unit *u, const tarn_job_size *s);
// Units of kind SIDE, the largest first; and how many of s[0 .. n) are run next within `room` bytes:
// one, which then has the pool if that fits, or several on a worker each. peak: what they take.
void tarn_side_order(int64_t n, tarn_job_size *s);
int64_t tarn_side_next(const tarn_context *cx, int64_t n, const tarn_job_size *s, uint64_t room,
                       uint64_t *peak);
uint64_t tarn_room(const tarn_context *cx);  // bytes that the budget has left
// What is kept, at most so much: as far as the hold budget allows and what is left has room for the rest. Nothing where
// time goes into operations in memory, since that would only take room from them. pooled: on all workers, else every
// worker has a unit. output: as in tarn_layout_peak.
tarn_hold tarn_layout_hold(const tarn_context *cx, const tarn_graph *g, const tarn_layout *l, bool pooled,
                           tarn_hold most, uint64_t output);
// OutOfMemory, naming its first job and what it needs.
tarn_status tarn_unit_fits(const tarn_context *cx, const tarn_unit *u, const tarn_job_size *s,
                           tarn_error *err);

#endif
