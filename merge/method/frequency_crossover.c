// SPDX-License-Identifier: Apache-2.0
// Frequency crossover: low frequencies of a tensor from a, high ones from b.
#include "merge/method/spectrum.h"

// Squared distance from frequency 0, in [0, 1]: the mean over dimensions of (|k| / (n / 2))^2.
static const tarn_node *distance(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_slot *s = b->source;
    const tarn_node *sum = NULL;
    for (int d = 0; d < s->rank; d++) {
        int64_t n = s->shape[d];
        bool last = d + 1 == s->rank;  // of the last dimension half is kept
        const tarn_node *k = tarn_places(g, s->rank, d, last ? n / 2 + 1 : n);
        if (!last) {  // the second half are the negative ones
            k = tarn_minimum(g, k, tarn_sub(g, tarn_num(g, (double)n), k));
        }
        k = tarn_div(g, k, tarn_num(g, n > 1 ? (double)(n / 2) : 1));
        k = tarn_div(g, tarn_mul(g, k, k), tarn_num(g, s->rank));
        sum = sum ? tarn_add(g, sum, k) : k;
    }
    return sum;
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    double alpha = tarn_get(b, "alpha"), tilt = tarn_get(b, "tilt");
    if (alpha == 0 || alpha == 1 || tilt == 1 || b->source->rank == 0) {
        return tarn_mix(g, b->x[0], b->x[1], alpha);
    }
    const tarn_node *r = distance(b), *share;
    if (tilt < 1e-10) {
        share = tarn_gt(g, r, tarn_num(g, (1 - alpha) * (1 - alpha)));
    } else {
        const tarn_node *angle = tarn_num(g, 1.5707963267948966 * tilt);
        const tarn_node *slope = tarn_div(g, tarn_cos(g, angle), tarn_sin(g, angle));
        share = tarn_mul(g, tarn_sub(g, tarn_sqrt(g, r), tarn_num(g, 1 - alpha)), slope);
        share = tarn_limit(g, tarn_add(g, share, tarn_num(g, alpha)), 0, 1);
    }
    return tarn_add(g, b->x[0], tarn_filtered(g, tarn_sub(g, b->x[1], b->x[0]), share));
}

static const tarn_param params[] = {
    {"alpha", TARN_NUMBER, 0.5, 0, 1, false, NULL,
     "share of the frequencies that come from b, from the highest down"},
    {"tilt", TARN_NUMBER, 0, 0, 1, false, NULL,
     "0: a hard cut; between: a ramp over frequency through alpha at the cut; 1: one weight for all"},
    {0},
};

const tarn_method tarn_method_frequency_crossover = {
    .name = "frequency_crossover",
    .summary = "low frequencies of each tensor from the first model, high ones from the second",
    .paper = "sd-mecha (crossover), github.com/ljleb/sd-mecha",
    .detail = "a + F^-1(w F(b - a)) with the Fourier transform F over all dimensions and r the root mean "
              "square of |k| / (n / 2): w = 1 where r > 1 - alpha; with a tilt, w = alpha + cot(pi tilt / "
              "2) (r - 1 + alpha), limited to [0, 1]. Needs the tensor in memory. Rank 0 has one "
              "frequency and is mixed by alpha. sd-mecha's tilts beyond 1 are not offered.",
    .example = "print(merge.frequency_crossover { a, b, alpha = 0.5, tilt = 0.2 })",
    .version = 1, .tier = 'A', .least = 2, .most = 2, .params = params, .build = build,
};
