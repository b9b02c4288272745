// SPDX-License-Identifier: Apache-2.0
// PCB-Merging: entries compete within a task by size and between tasks by agreement; the few with the
// best scores share in the result. Scores are scaled over the whole model, which makes two barriers:
// order statistics of the magnitudes, then of the scores.
#include "merge/method/order.h"
#include "merge/method/vectors.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    const tarn_node *t[TARN_METHOD_MODELS], *z[TARN_METHOD_MODELS], *x[TARN_METHOD_MODELS], *share[TARN_METHOD_MODELS];
    double clamp = tarn_get(b, "clamp"), density = tarn_get(b, "density"), n = tarn_order_count(b, 0);
    if (density == 0) {
        return b->base;
    }
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_delta(b, i);
        const tarn_node *size = tarn_abs(g, t[i]), *sign = tarn_sign(g, t[i]);
        size = tarn_order_limit(b, size, n * clamp, n * (1 - clamp) - 1, 4 * i, &z[i]);
        z[i] = tarn_mul(g, sign, z[i]);
        x[i] = tarn_mul(g, sign, size);
    }
    for (int i = 0; i < b->n; i++) {
        const tarn_node *score = tarn_exp(g, tarn_mul(g, tarn_num(g, b->n), tarn_mul(g, z[i], z[i])));
        score = tarn_mul(g, score, tarn_vectors_concord(b, i, t, z));
        share[i] = tarn_order_lead(b, score, n * (1 - density), 4 * i + 2);
        x[i] = tarn_mul(g, share[i], tarn_vectors_weighted(b, x[i], i));
    }
    const tarn_node *total = tarn_maximum(g, tarn_sum_of(g, b->n, share), tarn_num(g, 1e-12));
    return tarn_vectors_scaled(b, tarn_div(g, tarn_sum_of(g, b->n, x), total));
}

static const tarn_param params[] = {
    {"density", TARN_NUMBER, 0.1, 0, 1, TARN_UNIFORM, NULL,
     "share of each model's entries that keep a part in the result, the best scored, at least one (the ratio r of the "
     "paper: official script 0.1, experiments 0.05)"},
    {"clamp", TARN_NUMBER, 0.0001, 0, 0.5, TARN_UNIFORM, NULL,
     "share of each model's magnitudes that is clamped at either end (script 0.0001, vision experiments 0.01)"},
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
    .version = 1, .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
};
