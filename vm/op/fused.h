// SPDX-License-Identifier: Apache-2.0
// What networks are made of beside products and convolutions, as expressions: some functions are
// compositions of element-wise rows, which evaluators fuse by themselves, some are rows that work
// on whole rows of their operand at once and know their decomposition (op.h). Axes count from 0; a
// NULL operand comes with an error in the graph, and so does a NULL result.
#ifndef TARN_OP_FUSED_H
#define TARN_OP_FUSED_H

#include "vm/op/op.h"

// ---- activation.c: element-wise ----

// log(1 + exp(beta x)) / beta, and x where beta x > threshold.
const tarn_node *tarn_softplus(tarn_graph *g, const tarn_node *x, double beta, double threshold);
const tarn_node *tarn_leaky_relu(tarn_graph *g, const tarn_node *x, double slope);
// Zero with probability p, else x / (1 - p); key: an integer of rank 0.
const tarn_node *tarn_dropout(tarn_graph *g, const tarn_node *x, const tarn_node *key, double p);

// ---- softmax.c ----

const tarn_node *tarn_softmax(tarn_graph *g, const tarn_node *x, int axis);
const tarn_node *tarn_log_softmax(tarn_graph *g, const tarn_node *x, int axis);
// No axes: all.
const tarn_node *tarn_logsumexp(tarn_graph *g, const tarn_node *x, int naxes, const int64_t *axes,
                                bool keep);
const tarn_node *tarn_entropy(tarn_graph *g, const tarn_node *x, int axis);

// ---- loss.c: one value for each row or element ----

// Labels: integers of x's shape without its last axis. Rows with the label `ignore` count as 0
// (has_ignore false: there are none).
typedef struct tarn_ce_options {
    double smoothing;
    bool has_ignore;
    int64_t ignore;
} tarn_ce_options;
const tarn_node *tarn_cross_entropy(tarn_graph *g, const tarn_node *x, const tarn_node *labels,
                                    const tarn_ce_options *o);
// p: class probabilities of x's shape.
const tarn_node *tarn_cross_entropy_soft(tarn_graph *g, const tarn_node *x, const tarn_node *p,
                                         double smoothing);
// weight: of the positive class, NULL: 1.
const tarn_node *tarn_bce_with_logits(tarn_graph *g, const tarn_node *x, const tarn_node *y,
                                      const tarn_node *weight);
const tarn_node *tarn_squared_error(tarn_graph *g, const tarn_node *x, const tarn_node *y);
// KL(softmax x || softmax y) over the last axis.
const tarn_node *tarn_kl_div(tarn_graph *g, const tarn_node *x, const tarn_node *y);

// ---- norm.c ----

// x as [A, S, G, K]: statistics over S and K, affine over G and K.
typedef struct tarn_norm_shape {
    int64_t a, s, g, k;
    bool centred;  // false: divided by the root mean square only
    double eps;
} tarn_norm_shape;
// (x - mean) / sqrt(var + eps) * w + b; w, b of G K elements, or NULL.
const tarn_node *tarn_norm(tarn_graph *g, const tarn_node *x, const tarn_node *w,
                           const tarn_node *b, const tarn_norm_shape *shape);
// [2, A, G] in f64: the means and the variances (biased) that tarn_norm takes.
const tarn_node *tarn_norm_stats(tarn_graph *g, const tarn_node *x, const tarn_norm_shape *shape);

// ---- attention.c ----

typedef struct tarn_attention_options {
    bool causal;  // query i sees keys up to i
    double scale;
} tarn_attention_options;
// q [.., H, T, D], k [.., Hk, S, D], v [.., Hk, S, E] with H a multiple of Hk; mask (or NULL) of a
// shape that stretches to [.., H, T, S]: bool (true: seen) or a float that is added. A row that
// sees nothing gives zeros.
const tarn_node *tarn_attention(tarn_graph *g, const tarn_node *q, const tarn_node *k,
                                const tarn_node *v, const tarn_node *mask,
                                const tarn_attention_options *o);

// ---- rotary.c ----

// x [.., T, size] turned by position * base^(-2 i / size); positions: [T] numbers. turns: the base
// and, with n = 1 + size / 2, a divisor for the angle of each pair.
const tarn_node *tarn_rope(tarn_graph *g, const tarn_node *x, const tarn_node *positions, int n,
                           const double *turns, bool adjacent);

// ---- embedding.c ----

// Rows of w [n, size] by numbers from 0.
const tarn_node *tarn_embedding(tarn_graph *g, const tarn_node *w, const tarn_node *index);

#endif
