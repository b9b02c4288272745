// SPDX-License-Identifier: Apache-2.0
// What the methods of image generators share: interpolation with exact ends, places along an axis, and
// the stretch of it that a width and an offset name. Not a method itself.
#ifndef TARN_METHOD_MIX_H
#define TARN_METHOD_MIX_H

#include "merge/method/means.h"

// (1 - t) x + t y; where t is 0 or 1 the operand itself, whatever the other one holds.
const tarn_node *tarn_mix(tarn_graph *g, const tarn_node *x, const tarn_node *y, double t);
// 0, 1, 2 … n - 1 along one of `rank` axes, as f64; the others have one place.
const tarn_node *tarn_places(tarn_graph *g, int rank, int axis, int64_t n);

// Places [from, to) of n, or with `outside` all but those: a stretch of width n that begins at offset n
// and goes on at the start when it passes the end. Borders are cut to whole places.
typedef struct {
    int64_t from, to;
    bool outside;
} tarn_stretch;
tarn_stretch tarn_stretch_of(double width, double offset, int64_t n, bool nearest);

#endif
