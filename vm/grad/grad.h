// SPDX-License-Identifier: Apache-2.0
// The differentiating evaluator: appends derivatives to the graph that was recorded, as further
// nodes of the same table, so that derivatives have derivatives. What a root does not need is never
// computed: pruning is reachability. Executing is tarn_graph_eval.
#ifndef TARN_GRAD_GRAD_H
#define TARN_GRAD_GRAD_H

#include "vm/op/op.h"

// Vector-Jacobian product: for y and a cotangent gy of y's shape (NULL: the number 1, for rank-0 y),
// out[i] = gyᵀ ∂y/∂wrt[i], of wrt[i]'s shape; a node of zeros where y does not depend on it.
tarn_status tarn_vjp(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int nwrt,
                     const tarn_node *const *wrt, const tarn_node **out, tarn_error *err);
// Jacobian-vector product: *out = Σ ∂y/∂wrt[i] dx[i], of y's shape (dx[i] NULL: zero).
tarn_status tarn_jvp(tarn_graph *g, const tarn_node *y, int nwrt, const tarn_node *const *wrt,
                     const tarn_node *const *dx, const tarn_node **out, tarn_error *err);

#endif
