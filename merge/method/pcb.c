// SPDX-License-Identifier: Apache-2.0
// PCB-Merging: entries compete within a task by size and between tasks by agreement; the few with the
// best scores share in the result. Scores are scaled over the whole model, which makes two barriers:
// order statistics of the magnitudes, then of the scores.
#include <math.h>

#include "merge/method/order.h"
#include "merge/method/vectors.h"

static const tarn_node *agreement(tarn_build *b, int i, const tarn_node *const *t, const tarn_node *const *z) {
    tarn_graph *g = b->g;
    const tarn_node *pair[TARN_METHOD_MODELS];
    if (!tarn_choice(b, "inter", "pairs")) {
        const tarn_node *all = tarn_sum_of(g, b->n, tarn_choice(b, "inter", "raw") ? t : z);
        return tarn_unary(g, &tarn_op_tanh, tarn_mul(g, t[i], all));
    }
    for (int j = 0; j < b->n; j++) {
        pair[j] = tarn_unary(g, &tarn_op_tanh, tarn_mul(g, z[i], z[j]));
    }
    return tarn_sum_of(g, b->n, pair);
}

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *low, *high;
    const tarn_node *t[TARN_METHOD_MODELS], *z[TARN_METHOD_MODELS], *x[TARN_METHOD_MODELS];
    double clamp = tarn_get(b, "clamp"), density = tarn_get(b, "density"), n = tarn_order_count(b, 0);
    if (density == 0) {
        return b->base;
    }
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_delta(b, i);
        const tarn_node *size = tarn_abs(g, t[i]), *sign = tarn_sign(g, t[i]);
        low = tarn_order_value(b, size, floor(n * clamp), 4 * i);
        high = tarn_order_value(b, size, floor(n * (1 - clamp) - 1), 4 * i + 1);
        size = tarn_minimum(g, tarn_maximum(g, size, low), high);
        z[i] = tarn_mul(g, sign, tarn_order_scale(g, size, low, high, zero));
        x[i] = tarn_mul(g, sign, size);
    }
    const tarn_node *share[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        const tarn_node *score = tarn_exp(g, tarn_mul(g, tarn_num(g, b->n), tarn_mul(g, z[i], z[i])));
        score = tarn_mul(g, score, agreement(b, i, t, z));
        low = tarn_order_value(b, score, floor(n * (1 - density)), 4 * i + 2);
        high = tarn_order_largest(b, score, 4 * i + 3);
        // a threshold at the best score leaves those that have it, if they agree at all
        const tarn_node *best = tarn_where(g, tarn_ge(g, score, high), tarn_num(g, 1), zero);
        const tarn_node *flat = tarn_where(g, tarn_gt(g, high, zero), best, zero);
        share[i] = tarn_order_scale(g, tarn_maximum(g, score, low), low, high, flat);
        x[i] = tarn_mul(g, share[i], tarn_vectors_weighted(b, x[i], i));
    }
    const tarn_node *total = tarn_maximum(g, tarn_sum_of(g, b->n, share), tarn_num(g, 1e-12));
    return tarn_vectors_scaled(b, tarn_div(g, tarn_sum_of(g, b->n, x), total));
}

static tarn_status check(const tarn_model *m, tarn_error *err) {
    TARN_TRY(tarn_method_shared(m, "clamp", NULL, err));
    return tarn_method_shared(m, "density", NULL, err);
}

static const tarn_param params[] = {
    {"density", TARN_NUMBER, 0.1, 0, 1, false, NULL,
     "share of each model's entries that keep a part in the result, the best scored, at least one (the ratio r of the "
     "paper: official script 0.1, experiments 0.05); one number for the whole model, no by.…"},
    {"clamp", TARN_NUMBER, 0.0001, 0, 0.5, false, NULL,
     "share of each model's magnitudes that is clamped at either end (script 0.0001, vision experiments 0.01); no by.…"},
    {"inter", TARN_CHOICE, 0, 0, 0, false, "raw|scaled|pairs",
     "agreement of t_m with the others: tanh(t_m sum t_j) (script), tanh(t_m sum z_j) (vision experiments), "
     "sum tanh(z_m z_j) (those with search)"},
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {0},
};

const tarn_method tarn_method_pcb = {
    .name = "pcb",
    .summary = "task vectors weighted entry by entry, by size within a task and agreement between tasks",
    .paper = "Du et al. 2024, Parameter Competition Balancing for Model Merging, arXiv:2410.02396",
    .detail = "Over the whole model of N elements: x_m = |t_m| clamped to its elements of rank floor(clamp N) and "
              "floor((1 - clamp) N - 1), z_m = x_m scaled to 0 ... 1; score_m = exp(n z_m^2) times the agreement; scores "
              "clamped from below to that of rank floor((1 - density) N) and scaled to s_m in 0 ... 1. base + lambda sum "
              "of s_m w_m x_m sign(t_m), divided by the sum of s_m. The steps are those of the official script; its "
              "experiments fix w_m = 1.2, or search it in 0.8 to 1.3.",
    .example = "print(merge.pcb { base = base, a, b, c, weight = 1.2 })",
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .check = check,
    .build = build,
};
