// SPDX-License-Identifier: Apache-2.0
// Programs: the fused element-wise work of one pass over one domain, as lists of instructions over
// tile buffers. Where rows are sorted or reduced by themselves, a list for each step between: what
// is below a row operation runs over whole rows into a band, the operation makes another band of
// it, and later lists fetch from bands. Private to vm/stream.
#ifndef TARN_STREAM_PROGRAM_H
#define TARN_STREAM_PROGRAM_H

#include <pthread.h>

#include "vm/op/columns.h"
#include "vm/op/tile.h"
#include "vm/stream/layout.h"

enum { TARN_CHUNK = 131072 };  // elements that are read and written at a time: fits a core's L2

typedef struct tarn_instr {
    enum {
        TARN_DO_SPLAT,  // a single value, filled once per worker
        TARN_DO_FETCH,  // a tensor in memory, broadcast
        TARN_DO_LOAD,   // a source's chunk
        TARN_DO_POINT,
        TARN_DO_ROUND,  // a cast: through a stored dtype and back
        TARN_DO_FOLD,
        TARN_DO_STORE,  // to an output
        TARN_DO_KEEP,   // to a tensor in memory
        TARN_DO_BAND,   // from a band, at the same place or one element a row
        TARN_DO_FILL,   // to a band
    } what;
    int nin;
    int in[16];  // slots
    int out;     // slot
    int index;   // LOAD: source; FETCH, SPLAT: fetch; FOLD: fold; STORE: output; KEEP: kept tensor;
                 // BAND, FILL: band
    tarn_tile_fn fn;
    const tarn_attr *attr;
    tarn_convert_fn first, second;  // conversions; NULL: none
    size_t size;                    // bytes per element written; BAND: read
    size_t size_in;                 // STORE, KEEP: bytes per element read
} tarn_instr;

typedef struct tarn_load {
    const tarn_source *source;
    tarn_convert_fn convert;
    size_t size_in, size_out;
    char *held;         // whole tensor in memory, or NULL
    const bool *loaded;  // the held bytes are there already
} tarn_load;

typedef struct tarn_fold_spec {
    const tarn_node *node;
    tarn_fold_fn fn;
    char *state;         // between sweeps
    char *parts;         // per block, or per worker when exact
    bool *opened;        // exact: per worker
    int64_t base;        // added to positions: where this tensor starts in the whole model
    bool active;         // still sweeping
    double out[4];
    bool by_columns;     // the tree over rows: what follows, in the place of parts
    tarn_columns_plan columns;
    pthread_mutex_t lock;
    tarn_columns whole;  // what blocks leave; under the lock
    char *memory;        // of `whole`, NULL before and after its sweep
    size_t bytes;
} tarn_fold_spec;

// What a worker holds of one value: the rows of its window, whole or one element each.
typedef struct tarn_band {
    size_t size;   // bytes per element
    int64_t each;  // elements a row
} tarn_band;

// What is stored tile by tile.
typedef struct tarn_output {
    int which;        // of the unit's jobs
    size_t size;      // bytes per element
    tarn_dtype dtype;
} tarn_output;

typedef struct tarn_row_step {
    tarn_row_plan plan;
    int in, out;  // bands
} tarn_row_step;

// Row operations, then instructions: over the rows of a window, by elements or with one element a
// row. The last phase runs over exactly the elements of a chunk.
typedef struct tarn_phase {
    int row_step, nrow_step;
    int instr, ninstr;
    bool rows;
} tarn_phase;

typedef struct tarn_program {
    int64_t numel;
    int64_t row;  // elements of a row of the bands; 1 without
    int ninstr, nslots, nfetch, nload, nfold, nkeep, nstore, nband, nrow_step, nphase;
    bool again;  // a further sweep: folds only
    bool quiet;  // reports no progress: the time goes elsewhere
    bool part;   // its last sweep left out blocks that no fold had to see
    tarn_phase *phase;
    tarn_row_step *row_step;
    tarn_band *band;
    size_t row_scratch;  // bytes per worker
    tarn_instr *instr;
    tarn_fetch *fetch;
    tarn_load *load;
    tarn_fold_spec *fold;
    tarn_tensor **keep;
    tarn_output *store;
    size_t fold_scratch;    // bytes per worker
} tarn_program;

// What a program has to deliver.
typedef struct tarn_goal {
    const tarn_node *node;
    enum { TARN_GOAL_FOLD, TARN_GOAL_STORE, TARN_GOAL_KEEP, TARN_GOAL_BAND } what;
    tarn_tensor *keep;   // KEEP: where to
    tarn_dtype store;    // STORE: as what,
    int which;           // of which of the unit's jobs
} tarn_goal;

// values[id]: tensors in memory that are ready. numel: of the goals' domain. Everything is
// allocated in the arena.
tarn_status tarn_program_make(tarn_context *cx, tarn_arena *a, const tarn_graph *g,
                              const tarn_layout *l, const tarn_tensor *values, int64_t numel,
                              int ngoals, const tarn_goal *goals, tarn_program *p, tarn_error *err);

#endif
