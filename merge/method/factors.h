// SPDX-License-Identifier: Apache-2.0
// What becomes of each tensor where a difference is stored as a low-rank adapter: two factors under
// PEFT's names, the whole tensor, or nothing. Not a method itself.
#ifndef TARN_METHOD_FACTORS_H
#define TARN_METHOD_FACTORS_H

#include "merge/method/singular.h"

typedef enum {
    TARN_FACTORS_PLAIN,   // B A is the difference
    TARN_FACTORS_TURNED,  // its transpose: weights stored [in, out], embeddings
    TARN_FACTORS_WHOLE,   // the tensor itself
    TARN_FACTORS_NONE,
} tarn_factors;

// By the options embeddings, rest and fan_in_fan_out, for tensor s of the base of m.
tarn_factors tarn_factors_of(const tarn_model *m, const tarn_slot *s);
// For the row: output 0 is A or the whole tensor, output 1 is B; ranks by the option `rank`.
bool tarn_factors_outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out);

#endif
