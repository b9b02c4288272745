// SPDX-License-Identifier: Apache-2.0
// What spectral methods share: which tensors are taken as matrices, their offsets from the base, their
// decompositions as the option `route` says, and the rule for all other tensors: the mean of the
// offsets. Everything here holds whole tensors in memory, one tensor at a time. Not a method itself.
#ifndef TARN_METHOD_SINGULAR_H
#define TARN_METHOD_SINGULAR_H

#include "merge/method/vectors.h"
#include "vm/op/linalg.h"

// Does the method work on the spectrum of slot i of m (the matched slot)? By the option `tensors`:
// "linear": 2-D but embeddings and heads; "matrices": all 2-D; "all": also those of more dimensions, as
// matrices [first, all others].
bool tarn_singular_is(const tarn_model *m, int64_t i);
static inline bool tarn_singular(const tarn_build *b) { return tarn_singular_is(b->model, b->slot); }
// For plans: what is done with a tensor that is not taken as a matrix; NULL for one that is.
const char *tarn_singular_note(const tarn_model *m, int64_t i);

// Columns of the matrix, the smaller of its sides, and share · min(m, n) of it: at least 1.
int64_t tarn_singular_columns(const tarn_build *b);
int64_t tarn_singular_side(const tarn_build *b);
int64_t tarn_singular_count(const tarn_build *b, double share);

// t as a matrix: [m, n].
const tarn_node *tarn_singular_matrix(tarn_build *b, const tarn_node *t);
// w_m (x_m - base) of all models: [T, m, n]; x_m - base side by side: [m, T n].
const tarn_node *tarn_singular_offsets(tarn_build *b);
const tarn_node *tarn_singular_joint(tarn_build *b);
// Element i of the batch, without its dimension; the sum over the batch.
const tarn_node *tarn_singular_pick(tarn_graph *g, const tarn_node *x, int64_t i);
const tarn_node *tarn_singular_sum(tarn_graph *g, const tarn_node *x);
// [T, m, k] side by side as [m, T k]; [T, k, n] one above the other as [T k, n]; [T, k] as [T k].
const tarn_node *tarn_singular_beside(tarn_graph *g, const tarn_node *u);
const tarn_node *tarn_singular_above(tarn_graph *g, const tarn_node *vt);
// [m, n] of truth values: the diagonal of matrix x.
const tarn_node *tarn_singular_diagonal(tarn_graph *g, const tarn_node *x);

// By the options `route` and `seed`; rank 0: all.
tarn_svd_nodes tarn_singular_svd(tarn_build *b, const tarn_node *a, int64_t rank);
// diag(s) vt, of one matrix; u diag(s) vt, s may be a number for all.
const tarn_node *tarn_singular_rows(tarn_graph *g, const tarn_node *s, const tarn_node *vt);
const tarn_node *tarn_singular_product(tarn_graph *g, const tarn_node *u, const tarn_node *s, const tarn_node *vt);
// base + λ a in the base's shape.
const tarn_node *tarn_singular_result(tarn_build *b, const tarn_node *a);
// base + λ / T Σ w_m t_m: all other tensors.
const tarn_node *tarn_singular_mean(tarn_build *b);
// The leading singular values that hold `share` of Σ s^power, as 1 and 0.
const tarn_node *tarn_singular_leading(tarn_graph *g, const tarn_node *s, double share, double power);

#define TARN_PARAM_ROUTE                                                                           \
    {"route", TARN_CHOICE, 0, 0, 0, false, "exact|gram|random",                                    \
     "of the SVD: LAPACK's, by the eigenvectors of the smaller Gram matrix, or by random "         \
     "projection (Halko, Martinsson, Tropp 2011: 10 further columns, 2 power steps)"},             \
    {"seed", TARN_INTEGER, 0, 0, 9007199254740991.0, false, NULL, "of route = \"random\" and other draws"}
#define TARN_PARAM_SINGULAR                                                                        \
    {"tensors", TARN_CHOICE, 0, 0, 0, false, "linear|matrices|all",                                \
     "taken as matrices: 2-D tensors but embeddings and heads, all 2-D tensors, or also those of " \
     "more dimensions as [first, all others]; of the rest the mean offset is taken"},              \
    TARN_PARAM_ROUTE
#define TARN_DETAIL_SINGULAR                                                                       \
    " Other tensors (see `tensors`): base + lambda times the mean of w_m t_m. t_m = x_m - base."

#endif
