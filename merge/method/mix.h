// SPDX-License-Identifier: Apache-2.0
// What the methods of image generators share: interpolation with exact ends, and the stretch of an
// axis that a width and an offset name. Not a method itself.
#ifndef TARN_METHOD_MIX_H
#define TARN_METHOD_MIX_H

#include "merge/method/means.h"

// (1 - t) x + t y; where t is 0 or 1 the operand itself, whatever the other one holds.
const tarn_node *tarn_mix(tarn_graph *g, const tarn_node *x, const tarn_node *y, double t);
// Limited to [low, high].
const tarn_node *tarn_limit(tarn_graph *g, const tarn_node *x, double low, double high);
// x / y where y is not zero, else zero.
const tarn_node *tarn_share(tarn_graph *g, const tarn_node *x, const tarn_node *y);

// Places [from, to) of n, or with `outside` all but those: a stretch of width n that begins at offset n
// and goes on at the start when it passes the end. Borders are cut to whole places.
typedef struct {
    int64_t from, to;
    bool outside;
} tarn_stretch;
tarn_stretch tarn_stretch_of(double width, double offset, int64_t n, bool nearest);

// One draw an entry, uniform in [0, 1): keyed by seed, tensor name and use.
const tarn_node *tarn_draw(tarn_build *b, double seed, const char *use);

#endif
