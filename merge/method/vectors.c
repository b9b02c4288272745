// SPDX-License-Identifier: Apache-2.0
#include "merge/method/vectors.h"

static const tarn_node *scaled(tarn_build *b, const tarn_node *sum) {
    double lambda = tarn_get(b, "lambda");
    if (lambda != 1) {
        sum = tarn_mul(b->g, sum, tarn_num(b->g, lambda));
    }
    return tarn_add(b->g, b->base, sum);
}

static const tarn_node *weighted(tarn_build *b, const tarn_node *t, int i) {
    double w = tarn_get_of(b, "weight", i);
    return w == 1 ? t : tarn_mul(b->g, t, tarn_num(b->g, w));
}

const tarn_node *tarn_vectors_linear(tarn_build *b, const tarn_node *const *t) {
    const tarn_node *term[TARN_METHOD_MODELS] = {NULL};
    double total = 0;
    for (int i = 0; i < b->n; i++) {
        term[i] = weighted(b, t[i], i);
        total += tarn_get_of(b, "weight", i);
    }
    const tarn_node *sum = tarn_sum_of(b->g, b->n, term);
    if (tarn_flag(b, "normalize") && (total >= 1e-8 || total <= -1e-8)) {
        sum = tarn_div(b->g, sum, tarn_num(b->g, total));
    }
    return scaled(b, sum);
}

const tarn_node *tarn_vectors_consensus(tarn_build *b, const tarn_node *const *t) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *v[TARN_METHOD_MODELS], *vote[TARN_METHOD_MODELS];
    bool count = tarn_choice(b, "elect", "count");
    for (int i = 0; i < b->n; i++) {
        v[i] = weighted(b, t[i], i);
        vote[i] = count ? tarn_sign(g, v[i]) : v[i];
    }
    // An exact zero counts as positive; zero entries never agree.
    const tarn_node *up = tarn_ge(g, tarn_sum_of(g, b->n, vote), zero);
    const tarn_node *sign = tarn_where(g, up, tarn_num(g, 1), tarn_num(g, -1));
    const tarn_node *weight[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        const tarn_node *agrees = tarn_gt(g, tarn_mul(g, v[i], sign), zero);
        weight[i] = tarn_where(g, agrees, tarn_num(g, tarn_get_of(b, "weight", i)), zero);
        v[i] = tarn_where(g, agrees, v[i], zero);
    }
    const tarn_node *sum = tarn_sum_of(g, b->n, v);
    if (tarn_flag(b, "normalize")) {
        const tarn_node *total = tarn_sum_of(g, b->n, weight);
        total = tarn_where(g, tarn_eq(g, total, zero), tarn_num(g, 1), total);
        sum = tarn_div(g, sum, total);
    }
    return scaled(b, sum);
}

static const tarn_node *drop(tarn_build *b, const tarn_node *t, int model) {
    tarn_graph *g = b->g;
    double density = tarn_get_of(b, "density", model);
    if (density >= 1) {
        return t;
    }
    const tarn_node *zero = tarn_num(g, 0);
    if (density <= 0) {
        return tarn_mul(g, t, zero);
    }
    const tarn_node *mask = tarn_mask(b, density, tarn_get(b, "seed"), model, "dare");
    const tarn_node *kept = tarn_where(g, mask, t, zero);
    if (tarn_choice(b, "rescale", "none")) {
        return kept;
    }
    if (tarn_choice(b, "rescale", "expected")) {
        return tarn_div(g, kept, tarn_num(g, density));
    }
    return tarn_vectors_rescale(b, t, kept);
}

void tarn_vectors_dare(tarn_build *b, const tarn_node **t) {
    for (int i = 0; i < b->n; i++) {
        t[i] = drop(b, tarn_delta(b, i), i);
    }
}

const tarn_node *tarn_vectors_rescale(tarn_build *b, const tarn_node *t, const tarn_node *kept) {
    tarn_graph *g = b->g;
    if (kept == t) {
        return t;
    }
    const tarn_node *before = tarn_total(g, &tarn_op_sum, tarn_abs(g, t));
    const tarn_node *after = tarn_total(g, &tarn_op_sum, tarn_abs(g, kept));
    const tarn_node *least = tarn_minimum(g, before, after);
    const tarn_node *ratio = tarn_where(g, tarn_lt(g, least, tarn_num(g, 1e-7)), tarn_num(g, 1),
                                        tarn_div(g, before, after));
    return tarn_mul(g, kept, ratio);
}
