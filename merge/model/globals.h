// SPDX-License-Identifier: Apache-2.0
// Whole-model reductions met while models are expanded: one number per (model node, reduction), and
// where each tensor starts in the model (byte order of names, floating tensors only). Private to
// merge/model and merge/plan.
#ifndef TARN_MODEL_GLOBALS_H
#define TARN_MODEL_GLOBALS_H

#include "merge/model/model.h"

typedef struct tarn_global {
    tarn_model *model;
    int k;
    int64_t *start;       // [slots] elements before the tensor
    unsigned char *seen;  // [slots] a job contributes it
    int64_t numel;        // elements of them all
} tarn_global;

typedef struct tarn_globals {
    tarn_arena arena;
    int n, room;
    tarn_global *list;  // gid - 1
} tarn_globals;

#endif
