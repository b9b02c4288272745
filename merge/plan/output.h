// SPDX-License-Identifier: Apache-2.0
// What a saved folder holds besides tensors: side files of the first point operand and the
// provenance. Private to merge/plan.
#ifndef TARN_PLAN_OUTPUT_H
#define TARN_PLAN_OUTPUT_H

#include "merge/plan/plan.h"

// Inputs of a model in the order that plans number them; at most TARN_PLAN_INPUTS of them.
enum { TARN_PLAN_INPUTS = 256 };
tarn_status tarn_plan_inputs(tarn_model *m, tarn_model **list, int *n, tarn_error *err);
// The label of list[k] in the plan, as a JSON text: two inputs of one label are told apart as "a", "a#2".
void tarn_plan_label(tarn_model *const *list, int k, tarn_text *out);

// An input and what it is, as hex; digest "" for tensors in memory.
typedef struct tarn_digested {
    tarn_model *input;
    char header[65], digest[65];
} tarn_digested;
// The inputs with header digests; digests of the right width but all zeros.
tarn_status tarn_output_inputs(tarn_model *m, tarn_digested *list, int *n, tarn_error *err);
// Their content digests.
tarn_status tarn_output_digests(tarn_digested *list, int n, tarn_error *err);

typedef struct tarn_provenance {
    const char *path;  // of the output
    const char *plan;
    bool replayable;
    int n;
    const tarn_digested *inputs;
} tarn_provenance;
// What travels inside the file; set before the data and, with digests, again after it.
tarn_status tarn_output_metadata(tarn_plan *p, tarn_writer *w, const tarn_provenance *from,
                                 tarn_error *err);
tarn_status tarn_output_sides(tarn_plan *p, tarn_writer *w, const tarn_save_options *o,
                              const tarn_provenance *from, tarn_error *err);
// What is known of an input beside its contents (card.c): where it came from, and its licence, as the recipe
// states it or else the input's own card; empty texts where nothing is known.
typedef struct tarn_card_row {
    bool on_hub;  // name is ORGANISATION/NAME of a model hub
    char name[256], license[64];
} tarn_card_row;
void tarn_card_input(tarn_context *cx, const tarn_about *a, const tarn_model *m, tarn_card_row *row);
// README.md (card.c).
tarn_status tarn_output_card(tarn_plan *p, tarn_writer *w, const tarn_save_options *o,
                             const tarn_provenance *from, tarn_error *err);
// config.json alone (config.c).
tarn_status tarn_output_config(tarn_plan *p, tarn_writer *w, tarn_error *err);
// Runs a plan of tarn_plan_survey into a checkpoint. `dressed`: with side files and provenance.
tarn_status tarn_plan_save(tarn_plan *p, const char *path, const tarn_save_options *o, bool dressed,
                           tarn_error *err);
// Fails if an input file changed since it was opened.
tarn_status tarn_output_unchanged(tarn_model *m, tarn_error *err);

#endif
