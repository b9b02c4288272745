// SPDX-License-Identifier: Apache-2.0
// What methods on the second moments of layer inputs share: a weight as a matrix that its inputs meet
// from the right, and which tensors have such moments. Not a method itself.
#ifndef TARN_METHOD_GRAM_H
#define TARN_METHOD_GRAM_H

#include "merge/method/means.h"
#include "vm/op/linalg.h"

// The matched tensor x as [out, in] (convolutions: [out, in h w]), in f64; and back, in its own dtype.
const tarn_node *tarn_gram_matrix(tarn_build *b, const tarn_node *x);
const tarn_node *tarn_gram_back(tarn_build *b, const tarn_node *x);
// Whether every model has statistic `name` of the tensor: only then it is more than averaged.
bool tarn_gram_has(const tarn_model *m, int64_t slot, const char *name);
// Statistic `name` of model i in f64, shrunk: a G + (1 - a) diag(G).
const tarn_node *tarn_gram_shrunk(tarn_build *b, const char *name, int i, double a);
// Shapes of the statistics that are there: [in, in] or, with `out`, [out, out].
tarn_status tarn_gram_check(const tarn_model *m, const char *name, bool out, tarn_error *err);

#endif
