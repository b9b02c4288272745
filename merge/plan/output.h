// SPDX-License-Identifier: Apache-2.0
// What a saved folder holds besides tensors: side files of the first point operand and the
// provenance. Private to merge/plan.
#ifndef TARN_PLAN_OUTPUT_H
#define TARN_PLAN_OUTPUT_H

#include "merge/plan/plan.h"

// Inputs of a model in the order that plans number them. Returns how many there are; `list` gets at
// most `most`.
int tarn_plan_inputs(tarn_model *m, tarn_model **list, int most);
tarn_status tarn_output_sides(tarn_plan *p, tarn_writer *w, const tarn_save_options *o,
                              const char *plan, bool replayable, tarn_error *err);
// Fails if an input file changed since it was opened.
tarn_status tarn_output_unchanged(tarn_model *m, tarn_error *err);

#endif
