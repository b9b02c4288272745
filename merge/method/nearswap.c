// SPDX-License-Identifier: Apache-2.0
// NearSwap: entries that hardly differ are taken from the second model, the others move towards it
// by t. With w = min(t / |x - base|, 1) this is w x + (1 - w) base.
#include <math.h>

#include "merge/method/method.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *t = tarn_num(g, tarn_get(b, "t")), *d = tarn_delta(b, 0);
    const tarn_node *moved = tarn_add(g, b->base, tarn_mul(g, tarn_sign(g, d), t));
    return tarn_where(g, tarn_le(g, tarn_abs(g, d), t), b->x[0], moved);
}

static const tarn_param params[] = {
    {"t", TARN_NUMBER, NAN, 0, 1e300, false, NULL,
     "how far an entry moves from the base at most; 0 gives the base, a large one the model"},
    {0},
};

const tarn_method tarn_method_nearswap = {
    .name = "nearswap",
    .summary = "swaps what is near: each entry moves from the base towards the model by t at most",
    .paper = "alchemonaut 2024, NearSwap, model card of BoreanGale-70B",
    .detail = "w x + (1 - w) base with w = min(t / |x - base|, 1), which is base + clamp(x - "
              "base, -t, t). mergekit's `nearswap` is the same; it floors |x - base| at 1e-6, "
              "which shows where t is less.",
    .example = "print(merge.nearswap { base = base, a, t = 0.001 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1,
    .params = params, .build = build,
};
