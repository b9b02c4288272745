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
// For plans: what is done with a tensor that lacks the row's first statistic; NULL for one that has it.
const char *tarn_gram_note(const tarn_model *m, int64_t i);
// Statistic `name` of model i in f64, shrunk: a G + (1 - a) diag(G).
const tarn_node *tarn_gram_shrunk(tarn_build *b, const char *name, int i, double a);
// W with Σ w_m B_m W A_m = Σ w_m B_m X_m A_m, by so many steps of conjugate gradients from w, with X_m the model's
// matrix, A_m its statistic "inputs" and B_m its "outputs" (absent: the identity).
const tarn_node *tarn_gram_match(tarn_build *b, const tarn_node *w, int steps);
// Weights with a sum, and statistics that are there with their shapes: [in, in] or, with `out`, [out, out].
tarn_status tarn_gram_check(const tarn_model *m, const char *name, bool out, tarn_error *err);

#endif
