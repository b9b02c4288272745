// SPDX-License-Identifier: Apache-2.0
// The greedy rule of ZipIt! (Stoica et al. 2023, arXiv:2305.03053): features of several models, similar ones
// first, become the features of one. Which is a partition of them and nothing more; the matrices that follow
// from it are made by who asks.
#ifndef TARN_ALIGN_ZIP_H
#define TARN_ALIGN_ZIP_H

#include "vm/base/context.h"

enum { TARN_ZIP_MODELS = 64 };

typedef struct tarn_zip {
    int64_t n;              // features of all models together
    int64_t wanted;         // groups to be left, 1 … n
    int models;             // 1 … TARN_ZIP_MODELS
    const int32_t *origin;  // [n] the model of each feature, from 0
    double alpha;           // a merged feature's similarities are multiplied by it; <= 0: see below
    int64_t *budget;        // [models] merges of two features of one model that are allowed; counted down
} tarn_zip;

// Merges the most similar pair of features until `wanted` groups are left. Of equal pairs the one whose lower
// number is lowest goes first, then the one whose higher number is. The similarity of a merged feature to
// another is the smaller of the two (complete linkage) times alpha. It keeps the number and the origin of its
// lower feature; a merge of two features of equal origin costs that model one of its budget.
//
// Pairs of one model whose budget is spent are out, and so is, with alpha <= 0, a merged feature with all that
// holds a feature of a model that it holds one of already. What is merged from an out pair's partner is out as
// well, since the smaller counts. Pairs that are out come last, in order of their similarity, so that `wanted`
// is always reached: two models of at most `wanted` features never need them.
//
// s: [n][n], symmetric, within -1 … 1, of which what is above the diagonal counts; overwritten. group: [n] numbers from 0
// in order of the lowest feature of each. Takes O(n²) for most matrices: only the largest of each row is kept,
// and a row is looked through again when it loses that.
tarn_status tarn_align_zip(tarn_context *cx, const tarn_zip *z, float *s, int64_t *group, tarn_error *err);

#endif
