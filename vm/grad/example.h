// SPDX-License-Identifier: Apache-2.0
// Derivatives of each example of a batch by itself, from one walk over the batch: the sum of their
// squares and their norms, in closed form where a row knows one (tarn_op.examples), without a loop
// over examples.
#ifndef TARN_GRAD_EXAMPLE_H
#define TARN_GRAD_EXAMPLE_H

#include "vm/op/op.h"

// Let every example have a copy of wrt of its own, and g_n be the gradient of y by the copies of
// example n; y is a number, most often a sum over examples. squares[i] = Σ_n g_n² of wrt[i]'s
// shape, *norms = |g_n|² over all of wrt, of shape [examples]. batch: nodes whose first axis counts
// the examples; it has to stay the first axis, in equal groups of rows, until wrt is used no more.
// Where it does not, the error is NotByExample, and one example at a time is the way. squares NULL:
// only norms are wanted, which may cost less.
tarn_status tarn_example_squares(tarn_graph *g, const tarn_node *y, int nbatch,
                                 const tarn_node *const *batch, int nwrt,
                                 const tarn_node *const *wrt, const tarn_node **squares,
                                 const tarn_node **norms, tarn_error *err);

#endif
