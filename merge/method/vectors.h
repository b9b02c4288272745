// SPDX-License-Identifier: Apache-2.0
// What the task-vector family shares: the weighted sum of (sparsified) task vectors, with or without
// agreement on signs, put back on the base. Not a method itself.
#ifndef TARN_METHOD_VECTORS_H
#define TARN_METHOD_VECTORS_H

#include "merge/method/means.h"

// t times the weight of model i; t_i = x_i - base so weighted; their sum Σ w_m t_m; base + λ t.
const tarn_node *tarn_vectors_weighted(tarn_build *b, const tarn_node *t, int i);
const tarn_node *tarn_vectors_task(tarn_build *b, int i);
const tarn_node *tarn_vectors_sum(tarn_build *b);
const tarn_node *tarn_vectors_scaled(tarn_build *b, const tarn_node *t);
// base + λ Σ w_m t_m, divided by Σ w_m when `normalize` (a sum under 1e-8 counts as 1).
const tarn_node *tarn_vectors_linear(tarn_build *b, const tarn_node *const *t);
// base + λ M with M = Σ w_m t_m over the entries whose sign is the elected one, divided by Σ w_m
// over the same when `normalize`. Reads the options elect, zero, normalize, mean_by, lambda, weight.
const tarn_node *tarn_vectors_consensus(tarn_build *b, const tarn_node *const *t);
// Σ v_m over the entries where v_m has the sign of `votes`, divided by Σ w_m over the same (w NULL:
// not). An exact zero votes for plus; zero entries never agree, and where none does the result is 0.
const tarn_node *tarn_vectors_agreeing(tarn_graph *g, int n, const tarn_node *const *v,
                                       const tarn_node *const *w, const tarn_node *votes);
// Of weighted task vectors v: their sum over the entries whose sign is that of the sum over all, divided by the
// weights of the same where `mean`.
const tarn_node *tarn_vectors_elected(tarn_build *b, const tarn_node *const *v, bool mean);
// How far all tasks pull an entry the way that task i does, from its task vectors t, or those scaled to -1 … 1 (z),
// as the option `inter` says: tanh(t_i Σ t_j), tanh(t_i Σ z_j) or Σ tanh(z_i z_j).
const tarn_node *tarn_vectors_concord(tarn_build *b, int i, const tarn_node *const *t, const tarn_node *const *z);
// For rows with density and trim: one density for the whole model under trim = "global".
tarn_status tarn_vectors_trim_check(const tarn_model *m, tarn_error *err);
// The task vectors after Breadcrumbs: each without its trunc(gamma N) largest magnitudes, and of the
// rest the trunc(density N) largest; fewer of the largest go where density + gamma exceeds 1.
void tarn_vectors_breadcrumbs(tarn_build *b, const tarn_node **t);
// The task vectors after DARE: a Bernoulli(density) mask, rescaled by 1 / density, by the ratio of L1
// norms, or not.
void tarn_vectors_dare(tarn_build *b, const tarn_node **t);

// t where the mask says, else 0, brought back in size by the option `rescale`: divided by the probability
// p of the mask, by the ratio of L1 norms, or not.
const tarn_node *tarn_vectors_drop(tarn_build *b, const tarn_node *t, const tarn_node *mask, const tarn_node *p);
// kept times |t|₁ / |kept|₁, per tensor; sums under 1e-7 are left alone.
const tarn_node *tarn_vectors_rescale(tarn_build *b, const tarn_node *t, const tarn_node *kept);

#define TARN_PARAM_WEIGHT \
    {"weight", TARN_NUMBER, 1, 0, 0, true, NULL, "factor of each model's task vector"}
#define TARN_PARAM_LAMBDA \
    {"lambda", TARN_NUMBER, 1, 0, 0, false, NULL, "factor of the merged task vector"}
#define TARN_PARAM_ELECT                                                                          \
    {"elect", TARN_CHOICE, 0, 0, 0, false, "mass|count",                                          \
     "sign elected per entry: by the sum of weighted values (paper), or by the majority of signs"}, \
    {"zero", TARN_CHOICE, 0, 0, 0, false, "plus|majority",                                        \
     "elected where the votes cancel exactly: plus (mergekit), or the sign that most entries of the " \
     "whole model elected (official code of TIES; one more pass)"}
#define TARN_PARAM_NORMALIZE \
    {"normalize", TARN_BOOLEAN, 0, 0, 1, false, NULL, "divide by the sum of the weights"}
#define TARN_PARAM_AGREE(DEFAULT)                                     \
    {"normalize", TARN_BOOLEAN, DEFAULT, 0, 1, false, NULL,           \
     "divide by the weights that agree (mean, TIES); false: sum (mergekit's forms with dare, della, " \
     "breadcrumbs; FusionBench)"},                                    \
    {"mean_by", TARN_CHOICE, 0, 0, 0, false, "weight|count",          \
     "what normalize divides by: the weights that agree, or how many do"}
#define TARN_PARAM_KEEP                                           \
    {"density", TARN_NUMBER, 0.5, 0, 1, true, NULL,               \
     "probability of keeping an entry (1 - p of the paper)"}
#define TARN_DETAIL_DARE                                                                       \
    "Each entry of x_m - base is kept with probability density and divided by it, so the "     \
    "expectation stays. rescale = \"l1\" is mergekit's since 2025. Masks come from a counter " \
    "generator keyed by seed, tensor name and model: they do not depend on threads, sharding " \
    "or order."
#define TARN_PARAM_RESCALE_L1                       \
    {"rescale", TARN_CHOICE, 0, 0, 0, false, "none|l1", \
     "l1: what is kept of a tensor gets the L1 norm that all of it had (an option of mergekit)"}
#define TARN_PARAM_BAND                                                                            \
    {"density", TARN_NUMBER, 0.1, 0, 1, true, NULL,                                                \
     "share of each tensor's entries that is kept: exactly trunc(density N); the smallest go"},    \
    {"gamma", TARN_NUMBER, 0.01, 0, 1, true, NULL,                                                 \
     "share that is removed from the top, as outliers: trunc(gamma N) entries"},                   \
    TARN_PARAM_RESCALE_L1
#define TARN_DETAIL_BAND                                                                           \
    "Of the magnitudes of each x_m - base, per tensor, the trunc(gamma N) largest are removed as " \
    "outliers and the trunc(density N) next ones kept (ties count as larger at the lower index); " \
    "gamma gives way where both do not fit. The paper writes beta for the share that goes at the " \
    "bottom, here 1 - density - gamma: 0.85 to 0.9, with gamma about 0.01."
#define TARN_PARAM_SEED \
    {"seed", TARN_INTEGER, 0, 0, 9007199254740991.0, false, NULL, \
     "of the masks: with the tensor's name and the model's number it decides every draw"}
#define TARN_PARAM_RESCALE                                         \
    {"rescale", TARN_CHOICE, 0, 0, 0, false, "expected|l1|none",   \
     "expected: each kept entry by 1 / its probability (paper); l1: by the ratio of L1 norms (mergekit " \
     "since 2025)"}

#endif
