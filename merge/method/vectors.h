// SPDX-License-Identifier: Apache-2.0
// What the task-vector family shares: the weighted sum of (sparsified) task vectors, with or without
// agreement on signs, put back on the base. Not a method itself.
#ifndef TARN_METHOD_VECTORS_H
#define TARN_METHOD_VECTORS_H

#include "merge/method/method.h"

// base + λ Σ w_m t_m, divided by Σ w_m when `normalize` (a sum under 1e-8 counts as 1).
const tarn_node *tarn_vectors_linear(tarn_build *b, const tarn_node *const *t);
// base + λ M with M = Σ w_m t_m over the entries whose sign is the elected one, divided by Σ w_m
// over the same when `normalize`. Reads the options elect, normalize, lambda, weight.
const tarn_node *tarn_vectors_consensus(tarn_build *b, const tarn_node *const *t);
// The task vectors after DARE: a Bernoulli(density) mask, rescaled by 1 / density, by the ratio of L1
// norms, or not.
void tarn_vectors_dare(tarn_build *b, const tarn_node **t);

// kept times |t|₁ / |kept|₁, per tensor; sums under 1e-7 are left alone.
const tarn_node *tarn_vectors_rescale(tarn_build *b, const tarn_node *t, const tarn_node *kept);

#define TARN_PARAM_WEIGHT \
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "factor of each model's task vector"}
#define TARN_PARAM_LAMBDA \
    {"lambda", TARN_NUMBER, 1, 0, 0, false, NULL, "factor of the merged task vector"}
#define TARN_PARAM_ELECT                                          \
    {"elect", TARN_CHOICE, 0, 0, 0, false, "mass|count",          \
     "sign elected per entry: by the sum of weighted values (paper), or by the majority of signs"}
#define TARN_PARAM_KEEP                                           \
    {"density", TARN_NUMBER, 0.5, 0, 1, true, NULL,               \
     "probability of keeping an entry (1 - p of the paper)"}
#define TARN_DETAIL_DARE                                                                       \
    "Each entry of x_m - base is kept with probability density and divided by it, so the "     \
    "expectation stays. rescale = \"l1\" is mergekit's since 2025. Masks come from a counter " \
    "generator keyed by seed, tensor name and model: they do not depend on threads, sharding " \
    "or order."
#define TARN_PARAM_SEED \
    {"seed", TARN_INTEGER, 0, 0, 9007199254740991.0, false, NULL, \
     "of the masks: with the tensor's name and the model's number it decides every draw"}
#define TARN_PARAM_RESCALE                                         \
    {"rescale", TARN_CHOICE, 0, 0, 0, false, "expected|l1|none",   \
     "expected: by 1 / density (paper); l1: by the ratio of L1 norms (mergekit)"}

#endif
