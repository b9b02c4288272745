// SPDX-License-Identifier: Apache-2.0
// Operations on what a model is made of: its layers, its vocabulary, its config.json. Each yields
// nodes that say everything by name or number, so a plan that was written before a family's names
// were better understood does the same when it is replayed.
#ifndef TARN_MODEL_STRUCTURE_H
#define TARN_MODEL_STRUCTURE_H

#include "merge/model/model.h"

// ---- layers (layers.c finds them, stack.c moves them) ----

// Layers `first` to `last` of one stack, by the numbers in their names, with all that stands
// outside that stack. Numbers stay.
tarn_status tarn_model_layers(tarn_context *cx, tarn_model *m, const char *stack, int first,
                              int last, tarn_model **out, tarn_error *err);
// The layers of one stack numbered anew: first, first + 1, … in their order.
tarn_status tarn_model_renumber(tarn_context *cx, tarn_model *m, const char *stack, int first,
                                tarn_model **out, tarn_error *err);

typedef struct tarn_stack_options {
    const char *stack;  // NULL: the only one
    int embed;          // the part that gives what stands before the layers and beside them
    int head;           // the part that gives final norms and heads
} tarn_stack_options;
// The layers of the parts on top of one another, numbered through.
tarn_status tarn_model_stack(tarn_context *cx, int n, tarn_model *const *parts,
                             const tarn_stack_options *o, tarn_model **out, tarn_error *err);

// ---- vocabularies (vocab.c) ----

// Tensors with a row per token: embeddings and heads of tokens with as many rows as the largest such
// embedding has. Their slots into `list` (room for m->n) and their rows; an error when there is none.
tarn_status tarn_vocab_find(const tarn_model *m, int64_t *list, int64_t *n, int64_t *rows,
                            tarn_error *err);

typedef struct tarn_vocab_rows {
    int64_t rows;                // of the result
    const int64_t *const *from;  // [models][rows]: row of that model, -1: it lacks the token
    bool mean;  // what no model has is the mean of all rows of the first; else zero
} tarn_vocab_rows;
// The first model with its rows moved: row i is its own row from[0][i], else the mean of the rows
// from[k][i] of the others, else the fill. `tensors`: names in the first model. Other tensors stay.
tarn_status tarn_model_rows(tarn_context *cx, int n, tarn_model *const *models, int64_t ntensors,
                            const char *const *tensors, const tarn_vocab_rows *r, tarn_model **out,
                            tarn_error *err);
// The same of all tensors that tarn_vocab_find finds, with vocab_size brought up to date in the
// config.
tarn_status tarn_model_vocab(tarn_context *cx, int n, tarn_model *const *models,
                             const tarn_vocab_rows *r, tarn_model **out, tarn_error *err);

// ---- new tensors (fill.c) ----

// n tensors of the given names, dtypes and shapes: zeros where std is 0, else normal numbers.
// `beside`: whose side files and mass they have.
tarn_status tarn_model_fill(tarn_context *cx, tarn_model *beside, int64_t n, const tarn_slot *slots,
                            double std, double seed, tarn_model **out, tarn_error *err);

// ---- config.json (config.c) ----

// patch: a JSON object, merged into the config.json of the side files as RFC 7396 says: null takes
// a field away, objects are merged, all else replaces.
tarn_status tarn_model_with_config(tarn_context *cx, tarn_model *m, const char *patch,
                                   tarn_model **out, tarn_error *err);

#endif
