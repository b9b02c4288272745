// SPDX-License-Identifier: Apache-2.0
// Gradients of the single examples of a batch by one parameter, as factors (tarn_examples): their
// sum, and what they come to. `size` is the number of elements of the parameter. Private to
// vm/grad.
#ifndef TARN_GRAD_FACTORS_H
#define TARN_GRAD_FACTORS_H

#include "vm/op/op.h"

typedef struct tarn_by_example {
    tarn_graph *g;  // errors stick there
    int64_t n;      // examples
    tarn_arena *arena;
} tarn_by_example;

// Rows of a table as a product; other factors as they are.
tarn_examples tarn_examples_product(const tarn_by_example *w, tarn_examples p, int64_t size);
// The gradients themselves, [n, size].
const tarn_node *tarn_examples_dense(const tarn_by_example *w, tarn_examples p, int64_t size);
// p may be none (right NULL).
tarn_examples tarn_examples_sum(const tarn_by_example *w, tarn_examples p, tarn_examples q,
                                int64_t size);
// The sum of squares, of `size` elements in some shape (sum NULL: not wanted), and the squared norm
// of each.
void tarn_examples_squares(const tarn_by_example *w, tarn_examples p, int64_t size,
                           const tarn_node **sum, const tarn_node **norms);

#endif
