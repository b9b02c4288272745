// SPDX-License-Identifier: Apache-2.0
// Rotate: the rows of a tensor of a are turned towards b's by the orthogonal matrix that brings them
// closest (Procrustes), all of the way or a part of it. Where rows are longer than twice their number,
// all happens in the space that the rows of both span; what is at right angles to it stays.
#include "merge/method/turn.h"

#include <math.h>

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_slot *s = b->source;
    double alpha = tarn_get(b, "alpha"), t = tarn_get(b, "alignment"), centre = tarn_get(b, "centralization");
    if (s->rank < 2 || (alpha == t && (t == 0 || t == 1))) {
        return tarn_mix(g, b->x[0], b->x[1], alpha);
    }
    bool taps = s->rank == 4 && s->shape[2] * s->shape[3] > 1;
    const int64_t n = taps ? s->shape[0] * s->shape[1] : s->shape[0], shape[2] = {n, b->numel / n};
    const tarn_node *x = tarn_reshape(g, b->x[0], 2, shape), *y = tarn_reshape(g, b->x[1], 2, shape);
    const tarn_node *p = tarn_mean_row(g, x, centre), *q = tarn_mean_row(g, y, centre);
    x = tarn_sub(g, x, p);
    y = tarn_sub(g, y, q);
    const tarn_node *w = shape[1] > 2 * n ? tarn_row_space(g, x, y) : NULL;
    x = w ? tarn_matmul(g, x, w) : x;
    y = w ? tarn_matmul(g, y, w) : y;
    const tarn_node *turn = tarn_matmul(g, tarn_transpose(g, x), y);
    turn = tarn_polar(g, turn, t == floor(t) ? TARN_POLAR_SVD : TARN_POLAR_ROTATION);
    x = tarn_turned(g, tarn_mix(g, x, tarn_turned(g, y, turn, -1), alpha), turn, t);
    x = w ? tarn_matmul(g, x, tarn_transpose(g, w)) : x;
    return tarn_reshape(g, tarn_add(g, x, tarn_mix(g, p, q, t)), s->rank, s->shape);
}

static const char *note(const tarn_model *m, int64_t i) {
    return tarn_slot_source(m, i)->rank < 2 ? "weighted sum: not a matrix" : NULL;
}

static const tarn_param params[] = {
    {"alignment", TARN_NUMBER, 1, -8, 8, false, NULL,
     "power of the rotation from a to b: 0 leaves a as it is turned, 1 turns it to b"},
    {"alpha", TARN_NUMBER, 0, -8, 8, false, NULL, "share of b, turned back to a, mixed in before the turn"},
    {"centralization", TARN_NUMBER, 1, 0, 1, false, NULL,
     "share of the mean row taken away before and mixed by alignment after"},
    {0},
};

const tarn_method tarn_method_rotate = {
    .name = "rotate",
    .summary = "rows of the first model turned towards the second's by the nearest rotation",
    .paper = "sd-mecha, github.com/ljleb/sd-mecha; Schoenemann 1966, orthogonal Procrustes problem, doi:10.1007/BF02289451",
    .detail = "A, B: [first dimension, all others], or [out in, taps] for kernels of rank 4 larger than 1 "
              "x 1, less their mean rows. Q = polar factor of A^T B; ((1 - alpha) A + alpha B Q^T) "
              "Q^alignment + mean rows mixed by alignment. For a broken power Q is the nearest rotation "
              "(determinant 1); directions that A^T B says nothing of turn as the SVD leaves them. Rank 0 "
              "and 1: (1 - alpha) a + alpha b. sd-mecha's form for rows longer than their number is no "
              "rotation; here it is one. alignment = 0 is a Procrustes blend: b turned to a. sd-meh's alpha is alignment here, its beta alpha.",
    .example = "print(merge.rotate { a, b, alignment = 0.5 })",
    .version = 1, .tier = 'B', .least = 2, .most = 2, .params = params, .build = build, .note = note,
};
