// SPDX-License-Identifier: Apache-2.0
// Rows of a matrix and the orthogonal matrices that turn them. Not a method itself.
#ifndef TARN_METHOD_TURN_H
#define TARN_METHOD_TURN_H

#include "merge/method/mix.h"
#include "vm/op/linalg.h"

// x q^t with q orthogonal; a whole t by products, a broken one needs determinant 1.
const tarn_node *tarn_turned(tarn_graph *g, const tarn_node *x, const tarn_node *q, double t);
// [1, p]: `share` of the mean of the rows of x [n, p].
const tarn_node *tarn_mean_row(tarn_graph *g, const tarn_node *x, double share);
// [p, 2 n]: orthonormal columns that span the rows of x and y [n, p], p >= 2 n.
const tarn_node *tarn_row_space(tarn_graph *g, const tarn_node *x, const tarn_node *y);

#endif
