// SPDX-License-Identifier: Apache-2.0
// Transport with entropy, as nodes: the row `sinkhorn` and the plan that its potentials stand for.
#ifndef TARN_OP_SINKHORN_H
#define TARN_OP_SINKHORN_H

#include "vm/op/op.h"

typedef struct tarn_sinkhorn_options {
    double reg;        // weight of the entropy, in units of the cost; > 0
    int64_t iterations;  // at most
    double tolerance;  // ends where no row's sum is off by a larger share
} tarn_sinkhorn_options;

typedef struct tarn_sinkhorn_nodes {
    const tarn_node *plan;  // [.., n, m] exp((f + g - cost) / reg)
    const tarn_node *f, *g;  // [.., n], of mean zero; [.., m]
} tarn_sinkhorn_nodes;

// cost [.., n, m]; a [n] and b [m] are the sums of the plan's rows and columns, of equal totals; NULL: 1 for each
// row, n / m for each column.
tarn_sinkhorn_nodes tarn_sinkhorn(tarn_graph *g, const tarn_node *cost, const tarn_node *a, const tarn_node *b,
                                  const tarn_sinkhorn_options *o);

#endif
