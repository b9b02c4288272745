// SPDX-License-Identifier: Apache-2.0
// The parts of a compiled graph, private to exec*.c. A graph becomes steps: groups of element-wise
// nodes that go over their elements tile by tile, and single operations on tensors. What a step
// leaves in memory lies in a `base`; nodes see it through `spots`, which are fixed but for the
// address.
#ifndef TARN_OP_EXEC_PARTS_H
#define TARN_OP_EXEC_PARTS_H

#include "vm/op/eager.h"
#include "vm/op/exec.h"
#include "vm/op/tile.h"

enum { EXEC_BLOCK = 32 * TARN_TILE };  // elements of one task of a group: eight leaves

typedef enum {
    EXEC_LEAF,    // a tensor, a number, a file: taken in the first run
    EXEC_INPUT,   // of this run
    EXEC_KEPT,    // computed in the first run, in memory of its own kind
    EXEC_ARENA,   // gone when its last reader has run: memory is reused
    EXEC_RESULT,  // a root: fresh memory in each run, or that of an input given away
    EXEC_LOOSE,   // where an operation puts its result itself
} exec_kind;

typedef struct exec_instr {
    enum { EXEC_FETCH, EXEC_POINT, EXEC_ROUND } what;
    int nin;
    int in[16];  // slots
    int out;     // slot
    int fetch;
    tarn_tile_fn fn;
    const tarn_attr *attr;
    tarn_convert_fn first, second;  // ROUND; NULL: none
    size_t size;                    // bytes of an element of the slot
    int base;                       // memory that the value is written to, -1: none
    bool through;                   // computed in the slot, then copied
    tarn_convert_fn narrow;         // … as another dtype
    size_t size_out;                // bytes of an element in memory
} exec_instr;

typedef struct exec_base {
    exec_kind kind;
    int node;
    int input;        // INPUT
    int phase;        // that makes it
    size_t bytes;
    int first, last;  // steps that make and last read it; last INT32_MAX: roots, what is kept
    size_t at;        // KEPT, ARENA: bytes from the start of their memory
    int same;         // the base whose memory it takes over in place, -1
    int donor;        // RESULT: the input whose memory it may take, -1
    exec_instr *over; // … and the instruction that reads it while writing the result, NULL: none
    int next_drop;    // LOOSE, LEAF: the next that the same step is the last to read
    // In a run:
    tarn_storage *storage;  // a reference but for KEPT, ARENA and borrowed inputs
    char *data;
    bool borrowed;
} exec_base;

typedef struct exec_spot {
    tarn_tensor t;  // no storage; offset from the base
    int base;
} exec_spot;

typedef struct exec_fetch {
    tarn_fetch f;
    int spot;
} exec_fetch;

// One value in the first places of a tile, filled when the first run has found it.
typedef struct exec_tile {
    int spot;
    tarn_dtype work;
    char *data;
} exec_tile;

typedef struct exec_step {
    int phase;
    const tarn_node *node;  // NULL: a group
    int nin;
    const int *in;  // spots
    int out;        // spot
    int drop;       // the first base to let go after it, -1
    // groups
    int64_t numel;
    int fetch, nfetch;
    int nfill, ninstr;  // the first nfill instructions run once a task
    exec_instr *instr;
    int nslot;   // with buffers
    int nconst;  // slots after those: tiles of constants
    const int *constant;
    bool shared;  // over the pool
} exec_step;

typedef struct exec_root {
    int spot;
    bool copy;  // kept for the next run: the caller gets a copy
} exec_root;

struct tarn_exec {
    tarn_graph *g;
    tarn_context *cx;
    tarn_arena a;  // all that is below
    bool once;     // there is one run: what is kept may be given away
    bool ready;    // what is kept is there
    bool twin;     // shares all but the memory of a run with another, which keeps what is kept
    int ninputs, nroots, nbase, nspot, nfetch, nstep, ntile;
    const tarn_node **input;  // [ninputs]
    int *input_base;          // [ninputs] -1: not needed
    exec_root *root;
    exec_base *base;
    exec_spot *spot;
    exec_fetch *fetch;
    exec_step *step;
    exec_tile *tile;
    int widest;              // operands of a step
    tarn_tensor *in;         // [widest]
    size_t arena_bytes[3];   // by phase; [0]: kept
    tarn_storage *arena[3];
    size_t tile_size;        // elements of the largest tile
    size_t worker_bytes;     // scratch of one worker
    int workers;
    char *scratch;
    uint64_t peak;
    uint64_t each;  // bytes of one run beside what is kept and scratch, results included
};

// What depends on no input, computed and kept.
tarn_status tarn_exec_prepare(tarn_exec *e, tarn_error *err);

typedef struct exec_proto {  // a step while groups form
    int phase;
    const tarn_node *node;  // NULL: a group
    int64_t numel;
    int members;
} exec_proto;

typedef struct exec_maker {
    tarn_exec *e;
    tarn_graph *g;
    tarn_arena *a;  // freed when all is made
    int count;
    unsigned char *phase;    // [count] 0: not needed, 1: in the first run, 2: in each
    int *input;              // [count] -1
    int64_t *numel;          // [count]
    tarn_tensor **layout;    // [count] of views and leaves; NULL: contiguous
    int *holder;             // [count] the node in whose memory it lies
    int *stream;             // [count] the node in whose tiles the same elements come in order, -1
    int *step;               // [count] -1: leaves
    int *readers;            // [count] readers of what it holds in memory
    unsigned char *is_root;  // [count] it holds a root
    int *first_user, *user;  // [count + 1] where its users start
    int *seen;               // [count] the last group that reads it from memory, -1
    exec_proto *proto;
    int nproto;
    tarn_error *err;
} exec_maker;

// Assigns nodes to steps (exec_group.c), then makes the steps (exec_emit.c) and places memory
// (exec_place.c).
tarn_status tarn_exec_group(exec_maker *m, int nroots, const tarn_node *const *roots);
tarn_status tarn_exec_emit(exec_maker *m, int nroots, const tarn_node *const *roots);
tarn_status tarn_exec_place(exec_maker *m);

// True if the tiles of x reach n within their group.
bool tarn_exec_streams(const exec_maker *m, const tarn_node *x, const tarn_node *n);
// Rows that go by elements, and views whose elements have to be copied.
bool tarn_exec_tiled(const exec_maker *m, const tarn_node *n);

#endif
