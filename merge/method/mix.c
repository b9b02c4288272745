// SPDX-License-Identifier: Apache-2.0
#include "merge/method/mix.h"

#include <math.h>
#include <string.h>

#include "vm/base/digest.h"

const tarn_node *tarn_mix(tarn_graph *g, const tarn_node *x, const tarn_node *y, double t) {
    return tarn_combine(g, 2, (const tarn_node *[2]){x, y}, (double[2]){1 - t, t});
}

const tarn_node *tarn_limit(tarn_graph *g, const tarn_node *x, double low, double high) {
    return tarn_minimum(g, tarn_maximum(g, x, tarn_num(g, low)), tarn_num(g, high));
}

const tarn_node *tarn_share(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    const tarn_node *zero = tarn_num(g, 0);
    return tarn_where(g, tarn_eq(g, y, zero), zero, tarn_div(g, x, y));
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

const tarn_node *tarn_draw(tarn_build *b, double seed, const char *use) {
    const tarn_slot *s = b->source;
    uint64_t key = tarn_hash64((uint64_t)(int64_t)seed, s->name, s->len);
    int64_t i[TARN_MAX_RANK + 2] = {TARN_F32};
    key = tarn_hash64(key, use, strlen(use));
    memcpy(i + 1, s->shape, (size_t)s->rank * sizeof *i);
    memcpy(&i[s->rank + 1], &key, sizeof key);
    tarn_attr a = {.ni = s->rank + 2, .i = i};
    return tarn_node_make(b->g, &tarn_op_uniform, 0, NULL, &a);
}
