// SPDX-License-Identifier: Apache-2.0
// What averages share, flat and spherical: weighted sums, limits, inner products, the Gram
// matrix, the factors of an arc, the models sorted entry by entry. Not a method itself.
#ifndef TARN_METHOD_MEANS_H
#define TARN_METHOD_MEANS_H

#include "merge/method/method.h"

// Σ c_i x_i, left to right. A factor of zero leaves no trace (not even in the sign of a zero), a
// factor of one costs no rounding.
const tarn_node *tarn_combine(tarn_graph *g, int n, const tarn_node *const *x, const double *c);
// Σ c[i] x_i with a vector of reduced values.
const tarn_node *tarn_combine_by(tarn_graph *g, int n, const tarn_node *const *x, const tarn_node *c);
// Σ w_i x_i with weights of which some are recorded, divided by Σ w_i when `normalize`.
const tarn_node *tarn_combine_recorded(tarn_build *b, const tarn_node *const *x);
// The option `weight` of each model; returns their sum.
double tarn_weights(tarn_build *b, double *w);
// Σ w x / Σ w with them.
const tarn_node *tarn_weighted_mean(tarn_build *b);
// The models, or their offsets from the base where there is one.
void tarn_operands(tarn_build *b, const tarn_node **x);
// x, put back on the base where there is one.
const tarn_node *tarn_on_base(tarn_build *b, const tarn_node *x);

// Limited to [low, high].
const tarn_node *tarn_limit(tarn_graph *g, const tarn_node *x, double low, double high);
// x / y where y is not zero, else zero.
const tarn_node *tarn_share(tarn_graph *g, const tarn_node *x, const tarn_node *y);

// n n numbers as a square matrix.
const tarn_node *tarn_square(tarn_graph *g, int n, const tarn_node *const *x);
// <x_i, x_j> in cell[i n + j]: one pass over the data.
void tarn_gram(tarn_graph *g, int n, const tarn_node *const *x, const tarn_node **cell);

// The mean of the elements of a tensor that has some.
const tarn_node *tarn_mean(tarn_graph *g, const tarn_node *x);
// Σ along the last axis, which stays as one element; tensors of one axis or none are one row.
const tarn_node *tarn_row_sum(tarn_graph *g, const tarn_node *x);
// <p, q> as the option `axis` says: over the whole tensor, in each row (along the last axis) or
// in each column (along the first); one kept element there. Tensors of one axis or none are one vector.
const tarn_node *tarn_inner(tarn_build *b, const tarn_node *p, const tarn_node *q);
// <p, q> as the option `scope` says: over the tensor, or over the whole model as reduction `use`.
const tarn_node *tarn_inner_of(tarn_build *b, const tarn_node *p, const tarn_node *q, int use);
// The square root of pp, or 1 where that is not above `floor`: a divisor.
const tarn_node *tarn_length(tarn_graph *g, const tarn_node *pp, double floor);
// pq / (|p| |q|), within -1 … 1.
const tarn_node *tarn_cosine(tarn_graph *g, const tarn_node *pq, const tarn_node *p, const tarn_node *q);
// Factors s[0] of p and s[1] of q at t on the arc between unit vectors of cosine c; where |c| reaches
// `straight`, those of the straight line.
void tarn_arc(tarn_graph *g, const tarn_node *c, double t, double straight, const tarn_node *s[2]);

// Grows with the variance of each entry over the models (two or more), and is exactly 0 where all are equal.
const tarn_node *tarn_spread(tarn_graph *g, int n, const tarn_node *const *x);
// Entry by entry: x[0] becomes the least of the n, x[n - 1] the largest. n >= 1.
void tarn_sort_models(tarn_graph *g, int n, const tarn_node **x);

// Refuses weights that sum to zero for some tensor, unless the option `flag` (NULL: none) is off.
tarn_status tarn_check_shares(const tarn_model *m, const char *flag, tarn_error *err);

#define TARN_PARAM_SHARE(DOC) {"weight", TARN_NUMBER, 1, 0, 1e300, true, NULL, DOC}

#endif
