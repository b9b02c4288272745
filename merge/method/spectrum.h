// SPDX-License-Identifier: Apache-2.0
// What the crossover methods share: weights over the half spectrum of a tensor. Not a method itself.
#ifndef TARN_METHOD_SPECTRUM_H
#define TARN_METHOD_SPECTRUM_H

#include "merge/method/mix.h"

// x with each frequency of its half spectrum times `share`, or kept where that is true; x has rank 1
// or more.
const tarn_node *tarn_filtered(tarn_graph *g, const tarn_node *x, const tarn_node *share);

#endif
