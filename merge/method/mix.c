// SPDX-License-Identifier: Apache-2.0
#include "merge/method/mix.h"

#include <math.h>

const tarn_node *tarn_mix(tarn_graph *g, const tarn_node *x, const tarn_node *y, double t) {
    return tarn_combine(g, 2, (const tarn_node *[2]){x, y}, (double[2]){1 - t, t});
}

const tarn_node *tarn_places(tarn_graph *g, int rank, int axis, int64_t n) {
    int64_t shape[TARN_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        shape[d] = d == axis ? n : 1;
    }
    return tarn_reshape(g, tarn_cast(g, tarn_iota(g, n), TARN_F64), rank, shape);
}

// A border that a rounding error put just below a whole place is that place.
static int64_t place(double x, bool nearest) { return (int64_t)(nearest ? rint(x) : floor(x + 1e-9)); }

tarn_stretch tarn_stretch_of(double width, double offset, int64_t n, bool nearest) {
    double size = (double)n;
    if (width + offset <= 1) {
        return (tarn_stretch){place(offset * size, nearest), place((width + offset) * size, nearest), false};
    }
    return (tarn_stretch){place((width + offset - 1) * size, nearest), place(offset * size, nearest), true};
}
