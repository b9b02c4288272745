// SPDX-License-Identifier: Apache-2.0
// Explaining why two models do not fit together: in layers and prefixes rather than in hundreds of
// names, with the count never cut and a hint that names the way out. Private to merge/model.
#ifndef TARN_MODEL_DIFFER_H
#define TARN_MODEL_DIFFER_H

#include "merge/model/model.h"
#include "vm/base/text.h"

// Both always fail: MissingTensor, ShapeMismatch.
tarn_status tarn_differ_names(const tarn_model *a, const tarn_model *b, tarn_error *err);
tarn_status tarn_differ_shapes(const tarn_model *a, const tarn_model *b, tarn_error *err);

// ---- what matching calls the same (match.c) ----

// A stored second name of a tied parameter where both models tie: no slot of its own.
bool tarn_match_spare(const tarn_model *from, int64_t i, const tarn_model *in);

// ---- the difference (differ.c), and what may be behind it (reason.c) ----

typedef struct tarn_differ_side {
    const tarn_model *model;
    char label[80];
    int64_t *only;  // [n] slots that only this model has, in byte order of names
    int64_t n;
} tarn_differ_side;

typedef struct tarn_differ {
    tarn_arena scratch;
    tarn_differ_side side[2];
    int64_t common;   // slots of the first behind which the second has one
    int64_t *shapes;  // [2 * nshapes] slots of both whose shapes differ
    int64_t nshapes;
    bool failed;  // out of memory
} tarn_differ;

// Each writes whole lines (each begins with '\n') and says whether it had something to say.
bool tarn_reason_prefix(tarn_differ *d, tarn_text *out);   // takes what then agrees off `only`
bool tarn_reason_depth(tarn_differ *d, tarn_text *out);    // one has layers that the other lacks
bool tarn_reason_experts(tarn_differ *d, tarn_text *out);  // one is a mixture, the other dense
bool tarn_reason_fused(tarn_differ *d, tarn_text *out);    // one has fused what the other has apart
bool tarn_reason_tie(tarn_differ *d, tarn_text *out);      // one has written out what may be tied
bool tarn_reason_turned(tarn_differ *d, tarn_text *out);   // shapes are each other's transpose
bool tarn_reason_rows(tarn_differ *d, tarn_text *out);     // vocabularies of two sizes

// "0-3,7" of n numbers, which get sorted.
void tarn_differ_spans(int64_t *numbers, int64_t n, tarn_text *out);
// The name with every number that is a component of its own as N; *first gets the first, -1: none.
size_t tarn_differ_blank(const tarn_slot *s, char *out, size_t room, int64_t *first);

#endif
