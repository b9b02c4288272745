// SPDX-License-Identifier: Apache-2.0
// Order statistics over the whole model, and values scaled between two of them. Not a method.
#ifndef TARN_METHOD_ORDER_H
#define TARN_METHOD_ORDER_H

#include "merge/method/method.h"

// Elements of the model that reductions number `use` of the method go over.
double tarn_order_count(tarn_build *b, int use);
// (x - low) / (high - low) of an x between them; `flat` where they are equal.
const tarn_node *tarn_order_scale(tarn_graph *g, const tarn_node *x, const tarn_node *low, const tarn_node *high,
                                  const tarn_node *flat);
// x limited to its elements of these ranks (reductions `use` and `use` + 1); *scaled: that, as 0 to 1 (all equal: 0).
const tarn_node *tarn_order_limit(tarn_build *b, const tarn_node *x, double low, double high, int use,
                                  const tarn_node **scaled);
// x as 0 (its element of this rank, and what is less) to 1 (its largest). Where they are equal, 1 for those elements
// if they are positive, else 0. Reductions `use` and `use` + 1.
const tarn_node *tarn_order_lead(tarn_build *b, const tarn_node *x, double rank, int use);

#endif
