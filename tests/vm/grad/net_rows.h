// SPDX-License-Identifier: Apache-2.0
// Trials of the rows that networks are made of.
#ifndef TARN_TESTS_VM_GRAD_NET_ROWS_H
#define TARN_TESTS_VM_GRAD_NET_ROWS_H

#include "tests/vm/grad/properties.h"
#include "vm/op/fused.h"

MAKE(dropout) {
    SHAPE(0, 4);
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_dropout(t->g, tarn_mul(t->g, x, x), places(t, 0, shape, 1000), 0.3);
}
MAKE(softmax) {
    SHAPE(1, 4);
    return tarn_softmax(t->g, operand(t, rank, shape, -2, 2), (int)below(&t->seed, rank));
}
MAKE(log_softmax) {
    SHAPE(1, 4);
    return tarn_log_softmax(t->g, operand(t, rank, shape, -2, 2), (int)below(&t->seed, rank));
}
MAKE(cross_entropy) {
    int64_t shape[TARN_MAX_RANK] = {0};
    int rank = full_shape(t, 1, 3, shape);
    const tarn_ce_options o = {.smoothing = below(&t->seed, 2) ? 0.2 : 0, .has_ignore = below(&t->seed, 2), .ignore = 0};
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_cross_entropy(t->g, x, places(t, rank - 1, shape, shape[rank - 1]), &o);
}
static const tarn_node *normalised(trial *t, bool stats) {
    int64_t shape[TARN_MAX_RANK] = {0};
    full_shape(t, 4, 4, shape);
    shape[3] += 1;  // more than one element to take the variance of
    const int64_t channels[1] = {shape[2] * shape[3]};
    const tarn_norm_shape s = {shape[0], shape[1], shape[2], shape[3], stats || below(&t->seed, 2), 0.1};
    const tarn_node *x = operand(t, 4, shape, -2, 2);
    if (stats) {
        return tarn_norm_stats(t->g, x, &s);
    }
    const tarn_node *w = below(&t->seed, 3) ? operand(t, 1, channels, -2, 2) : NULL;
    return tarn_norm(t->g, x, w, w ? operand(t, 1, channels, -2, 2) : NULL, &s);
}
MAKE(norm) { return normalised(t, false); }
MAKE(norm_stats) { return normalised(t, true); }
MAKE(attention) {
    int64_t n = 1 + below(&t->seed, 2), kv = 1 + below(&t->seed, 2), h = kv * (1 + below(&t->seed, 2));
    const int64_t q[4] = {n, h, 1 + below(&t->seed, 4), 3}, k[4] = {n, kv, q[2] + below(&t->seed, 3), 3};
    const int64_t v[4] = {n, kv, k[2], 2}, m[2] = {q[2], k[2]};
    const tarn_attention_options o = {.causal = below(&t->seed, 2), .scale = 0.6};
    const tarn_node *x[3] = {operand(t, 4, q, -1, 1), operand(t, 4, k, -1, 1), operand(t, 4, v, -1, 1)};
    return tarn_attention(t->g, x[0], x[1], x[2], below(&t->seed, 2) ? operand(t, 2, m, -1, 1) : NULL, &o);
}
MAKE(rope) {
    int64_t shape[TARN_MAX_RANK] = {0};
    int rank = full_shape(t, 2, 4, shape);
    shape[rank - 1] *= 2;
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    double turns[33] = {100};
    int half = (int)shape[rank - 1] / 2, n = below(&t->seed, 2) && half < 33 ? 1 + half : 1;
    for (int i = 1; i < n; i++) {
        turns[i] = 1 + 0.5 * i;
    }
    return tarn_rope(t->g, tarn_mul(t->g, x, x), places(t, 1, shape + rank - 2, 50), n, turns, below(&t->seed, 2));
}
MAKE(embedding) {
    const int64_t shape[2] = {1 + below(&t->seed, 5), 1 + below(&t->seed, 4)};
    int64_t index[TARN_MAX_RANK] = {0};
    int rank = any_shape(t, 0, 2, index);
    const tarn_node *w = operand(t, 2, shape, -2, 2);
    return tarn_embedding(t->g, tarn_mul(t->g, w, w), places(t, rank, index, shape[0]));
}
MAKE(conv2d) {
    int64_t groups = 1 + below(&t->seed, 2), each = 1 + below(&t->seed, 2), kh = 1 + below(&t->seed, 3), kw = 1 + below(&t->seed, 3);
    const int64_t image[4] = {1 + below(&t->seed, 2), 5 + below(&t->seed, 2), 5 + below(&t->seed, 3), groups * each};
    const int64_t weight[4] = {groups * (1 + below(&t->seed, 2)), each, kh, kw};
    const int64_t i[11] = {1 + below(&t->seed, 2), 1 + below(&t->seed, 2), below(&t->seed, 2), below(&t->seed, 2),
                           1 + below(&t->seed, 2), 1 + below(&t->seed, 2), groups, kh, kw, image[1], image[2]};
    const tarn_node *in[2] = {operand(t, 4, image, -1, 1), operand(t, 4, weight, -1, 1)};
    tarn_attr a = {.ni = 11, .i = i};
    return tarn_node_make(t->g, &tarn_op_conv2d, 2, in, &a);
}
// Windows with kernel, stride, padding, ceil_mode, count_include_pad, adaptive, over an image.
static const tarn_node *pooled(trial *t, bool largest) {
    const int64_t image[4] = {1 + below(&t->seed, 2), 4 + below(&t->seed, 3), 4 + below(&t->seed, 3), 1 + below(&t->seed, 3)};
    const int64_t adaptive = below(&t->seed, 2), padding = adaptive ? 0 : below(&t->seed, 2);
    const int64_t i[11] = {2 + below(&t->seed, 2), 2 + below(&t->seed, 2), 1 + below(&t->seed, 2), 1 + below(&t->seed, 2),
                           padding, padding, below(&t->seed, 2), below(&t->seed, 2), adaptive, image[1], image[2]};
    tarn_attr a = {.ni = 11, .i = i};
    const tarn_node *x = operand(t, 4, image, -2, 2), *square = tarn_mul(t->g, x, x);
    if (!largest) {
        return tarn_node_make(t->g, &tarn_op_pool_mean, 1, &square, &a);
    }
    const tarn_node *in[2] = {square, tarn_node_make(t->g, &tarn_op_pool_index, 1, &square, &a)};
    const int64_t size[2] = {image[1], image[2]};
    tarn_attr b = {.ni = 2, .i = size};
    return tarn_node_make(t->g, &tarn_op_pool_take, 2, in, &b);
}
MAKE(pool_mean) { return pooled(t, false); }
MAKE(pool_take) { return pooled(t, true); }

static const entry net_entries[] = {
    {&tarn_op_dropout, make_dropout, 0, false},     {&tarn_op_softmax, make_softmax, 0, false},
    {&tarn_op_log_softmax, make_log_softmax, 0, false}, {&tarn_op_cross_entropy, make_cross_entropy, 0, false},
    {&tarn_op_norm, make_norm, 10, false},          {&tarn_op_norm_stats, make_norm_stats, 0, false},
    {&tarn_op_attention, make_attention, 10, false}, {&tarn_op_rope, make_rope, 0, false},
    {&tarn_op_embedding, make_embedding, 0, false}, {&tarn_op_conv2d, make_conv2d, 0, false},
    {&tarn_op_pool_mean, make_pool_mean, 0, false}, {&tarn_op_pool_take, make_pool_take, 0, false},
};

#endif
