// SPDX-License-Identifier: Apache-2.0
// What the names of a checkpoint say: which layer a tensor belongs to, how deep that layer lies,
// what role the tensor plays, which names are tied, which tensors are buffers. Found from names and
// config.json by tables (merge/model/names_table.c): data, not code. A script can say otherwise.
#ifndef TARN_MODEL_NAMES_H
#define TARN_MODEL_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/arena.h"
#include "vm/base/context.h"
#include "vm/tensor/dtype.h"

typedef enum {
    TARN_PLACE_LAYER,       // inside a numbered layer of a stack
    TARN_PLACE_EMBED,       // before the first layer
    TARN_PLACE_FINAL,       // norms after the last layer
    TARN_PLACE_HEAD,        // after those
    TARN_PLACE_TRANSITION,  // between two stages
    TARN_PLACE_OTHER,       // not recognised
} tarn_place;

typedef struct tarn_name_in {
    const char *name;
    size_t len;
    tarn_dtype dtype;
    int rank;
    const int64_t *shape;
} tarn_name_in;

typedef struct tarn_name_info {
    tarn_place place;
    int stack;         // index into tarn_names.stacks, -1 outside layers
    int layer;         // the number in the name (of a UNet's block: its depth), -1 outside layers
    int depth;         // 0-based position in the forward order of all stacks, -1 outside layers
    int expert;        // expert number, -1
    const char *role;  // "attention.q", "mlp.up", "norm", "embed", "head" … or "" when unknown
    bool tokens;       // embeddings and heads: the rows may be tokens, not positions, kinds or channels
    bool buffer;       // not a parameter: a constant, a running statistic, integers, bools
} tarn_name_info;

typedef struct tarn_name_stack {
    const char *name;   // "model.layers", "encoder.block"
    const char *regex;  // group 1 is the index; "" where `labels` is set
    int count, depth_first, depth_last;
    // Blocks of a UNet have no single index; they count as one stack "unet", and this names each as
    // block-weighted merging does: "IN00" … "M00" … "OUT11". NULL for numbered stacks.
    const char *const *labels;
} tarn_name_stack;

typedef struct tarn_tie {
    const char *kept;      // in the file
    const char *other;     // another name of the same slot: not in the file, or stored again
    bool stored;           // `other` is in the file too
} tarn_tie;

typedef struct tarn_names {
    tarn_arena *arena;  // owns everything below
    int64_t n;
    tarn_name_info *info;  // [n], as the input
    int nstacks;
    tarn_name_stack *stacks;
    int ndepth;      // number of depths (layers over all stacks, side-by-side towers once)
    int nties;
    tarn_tie *ties;
    const char *model_type;  // of config.json, or "" when there is none
    bool tied_config;        // config says tie_word_embeddings (or the family's default does)
} tarn_names;

// `config` is the text of config.json or NULL; one that does not parse is left aside.
// Everything is allocated in `arena`.
tarn_status tarn_names_find(tarn_context *cx, tarn_arena *arena, int64_t n, const tarn_name_in *in,
                            const char *config, size_t config_len, tarn_names *out,
                            tarn_error *err);
struct json_t;
// The text as JSON (to be released), NULL where there is none or it is left aside: with a warning where its
// folder is given. Constants that only Python writes (NaN, Infinity) are read as zeros.
tarn_status tarn_config_read(tarn_context *cx, const char *folder, const char *config, size_t len,
                             struct json_t **out, tarn_error *err);
const char *tarn_place_name(tarn_place p);  // "layer", "embed", …

// What all names together say. Sums that would overflow stay at INT64_MAX.
typedef struct tarn_names_summary {
    int64_t tensors, elements, bytes, largest_bytes;  // of the file
    int64_t parameters;    // elements that are no buffer, tied ones once
    int64_t integers;      // integer and bool tensors
    int64_t float_buffers;
    int64_t of_dtype[TARN_DTYPE_COUNT];  // tensors
    int layers;            // over all stacks
    int experts;           // of the layer that has most; 0: none
    int expert_layers;     // layers that have any
    bool experts_stacked;  // in one tensor, its first axis
} tarn_names_summary;
tarn_status tarn_names_summarise(tarn_context *cx, const tarn_names *names, const tarn_name_in *in,
                                 tarn_names_summary *out, tarn_error *err);

#endif
