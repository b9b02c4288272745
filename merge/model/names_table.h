// SPDX-License-Identifier: Apache-2.0
// The rows that names.c reads, private to the room. To teach tarn a new family, add rows to
// names_table.c; the engine knows no family. Each table ends with a row whose first text is NULL,
// and the first row that matches decides.
#ifndef TARN_MODEL_NAMES_TABLE_H
#define TARN_MODEL_NAMES_TABLE_H

#include <stdbool.h>

#include "merge/model/names.h"
#include "merge/model/regex.h"

// What stands before a number at the end of a component, the dot included where there is one:
// "model.layers." of model.layers.17.mlp, "fc" of fc1.weight, "" of 0.weight.
typedef enum {
    TARN_STEM_STACK,   // numbers the layers of a stack
    TARN_STEM_TOWER,   // a stack beside the others: its depth starts at 0
    TARN_STEM_INNER,   // numbers something larger than a layer: look further right in the name
    TARN_STEM_WORD,    // a numbered word: a layer where the model has no stack
    TARN_STEM_BESIDE,  // belongs to the numbered word of the same number: bn1 to conv1
    TARN_STEM_EXPERT,  // numbers the experts of a layer
    TARN_STEM_NONE,    // no row
} tarn_stem_kind;

typedef struct tarn_stem_row {
    const char *regex;
    tarn_stem_kind kind;
    int order;  // stacks run in this order, equal ones in natural order of their names
} tarn_stem_row;

// A block of a UNet. Blocks run by (phase, group 1, group 2).
typedef enum { TARN_UNIT_ENCODE = 1, TARN_UNIT_MIDDLE, TARN_UNIT_DECODE } tarn_unit_phase;
typedef enum {
    TARN_UNIT_PLAIN,
    TARN_UNIT_AFTER,  // a block of its own after all of its group 1
    TARN_UNIT_LAST,   // part of the last block of its group 1
} tarn_unit_kind;
typedef struct tarn_unit_row {
    const char *regex;
    tarn_unit_phase phase;
    tarn_unit_kind kind;
    bool first;    // before everything of its phase
    bool witness;  // a name that matches shows that the model is a UNet
} tarn_unit_row;

typedef struct tarn_role_row {
    const char *role, *regex;
} tarn_role_row;

typedef struct tarn_place_row {
    const char *regex;
    tarn_place place;
} tarn_place_row;

typedef struct tarn_buffer_row {
    const char *regex;
    int rank;  // at least: tells GPT-2's mask attn.bias from a bias
} tarn_buffer_row;

// Two names of one parameter.
typedef struct tarn_tie_row {
    const char *kept, *other;
    const char *needs;  // only where this name is in the file; NULL: always
    bool word;          // only where the config ties the word embeddings
} tarn_tie_row;

// A role whose rows are those of others, one below the other.
typedef struct tarn_fused_row {
    const char *whole, *parts[4];  // parts end with NULL
} tarn_fused_row;

extern const tarn_stem_row tarn_stem_rows[];
extern const tarn_unit_row tarn_unit_rows[];
extern const tarn_role_row tarn_role_rows[];
extern const tarn_place_row tarn_place_rows[];  // of names outside the layers
extern const tarn_buffer_row tarn_buffer_rows[];
extern const char *const tarn_tokenless_rows[];  // of embeddings and heads: their rows are no tokens
extern const tarn_tie_row tarn_tie_rows[];
extern const tarn_fused_row tarn_fused_rows[];
extern const char *const tarn_untied_types[];  // model types that do not tie unless they say so
extern const char tarn_head_architectures[];   // classes that have the head which is tied

// Reads what config.json says of ties and lists them (ties.c): fills ties, model_type, tied_config.
tarn_status tarn_names_ties(tarn_context *cx, tarn_regex_env *env, int64_t n,
                            const tarn_name_in *in, const char *config, size_t config_len,
                            tarn_names *out, tarn_error *err);
// Layers that config.json declares, in the place of those found (declared.c).
tarn_status tarn_names_declared(tarn_context *cx, const char *config, size_t config_len, int64_t n,
                                const tarn_name_in *in, tarn_names *out, tarn_error *err);

#endif
