// SPDX-License-Identifier: Apache-2.0
// What a merge did to every tensor, in numbers: for reports and for looking at a merge that came out
// badly. Nothing in it knows a method: it compares a result with the operands it was made of.
#ifndef TARN_PLAN_ANATOMY_H
#define TARN_PLAN_ANATOMY_H

#include "merge/plan/plan.h"

enum { TARN_ANATOMY_MODELS = 16 };

// What the tensor of a slot was merged from: the operands of the topmost method, else the inputs
// below; `base` is what their offsets count from: the base of a method, else what is subtracted
// somewhere in the algebra. Operands of another shape are left out.
typedef struct tarn_anatomy {
    bool based, skipped;  // skipped: nothing to compare (integers, one input, too many operands)
    int n;
    tarn_part base, x[TARN_ANATOMY_MODELS];
    // With v = base, x[k] - base …, result - base (without a base: x[k] …, result), d of them:
    //   dots   <v[i], v[j]>, i <= j, row by row; sums of v[i]
    //   differ entries in which the result is not x[k]
    //   with a base: for each model moved (x[k] is not the base there) and agree (the result went the
    //   same way); then conflict (offsets of both signs), any (some offset), changed (the result is not
    //   the base as rounded to its dtype)
    //   with the unrounded result: the sum of the squares of what rounding did, the entries that it
    //   changed; with a base those that left it, and of these those that rounding put back
    int d, count;
    double *v;  // [count], owned by the caller's block
} tarn_anatomy;

// Slots of m in order. stored: a saved model whose tensors are the results (NULL: the plan is run and
// rounded as `o` says). exact: run the plan too, for what rounding did. *list: [m->n]; free with
// tarn_anatomy_free.
tarn_status tarn_model_anatomy(tarn_context *cx, tarn_model *m, const tarn_plan_options *o,
                               tarn_model *stored, bool exact, tarn_anatomy **list, tarn_error *err);
void tarn_anatomy_free(tarn_context *cx, const tarn_model *m, tarn_anatomy *list);

#endif
