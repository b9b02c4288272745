// SPDX-License-Identifier: Apache-2.0
// What methods share that average each entry over the models that take part in it. Not a method itself.
#ifndef TARN_METHOD_OVERLAP_H
#define TARN_METHOD_OVERLAP_H

#include "merge/method/method.h"

typedef struct tarn_overlap {
    const tarn_node *active[TARN_METHOD_MODELS];  // 1 where the mask of the model holds, else 0
    const tarn_node *kept[TARN_METHOD_MODELS];    // t_m there, else 0
    const tarn_node *count;                       // Σ active
    const tarn_node *mean;                        // Σ kept / count, 0 where nothing is active
} tarn_overlap;

void tarn_overlap_of(tarn_build *b, const tarn_node *const *mask, tarn_overlap *o);
// With the masks |t_m| > epsilon.
void tarn_overlap_changed(tarn_build *b, tarn_overlap *o);

#define TARN_PARAM_EPSILON                                                                         \
    {                                                                                              \
        "epsilon", TARN_NUMBER, 1e-5, 0, 1e300, false, NULL,                                       \
            "an entry counts as changed where it differs from the base by more than this"          \
    }

#endif
