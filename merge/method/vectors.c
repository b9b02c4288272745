// SPDX-License-Identifier: Apache-2.0
#include "merge/method/vectors.h"

const tarn_node *tarn_vectors_scaled(tarn_build *b, const tarn_node *sum) {
    bool recorded = tarn_is_recorded(b, "lambda");
    if (recorded || tarn_get(b, "lambda") != 1) {
        sum = tarn_mul(b->g, sum, tarn_value_node(b, "lambda", -1));
    }
    return tarn_add(b->g, b->base, sum);
}

const tarn_node *tarn_vectors_weighted(tarn_build *b, const tarn_node *t, int i) {
    double w = tarn_get_of(b, "weight", i);
    return w == 1 ? t : tarn_mul(b->g, t, tarn_num(b->g, w));
}

const tarn_node *tarn_vectors_task(tarn_build *b, int i) { return tarn_vectors_weighted(b, tarn_delta(b, i), i); }

const tarn_node *tarn_vectors_sum(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    double w[TARN_METHOD_MODELS];
    tarn_operands(b, t);
    tarn_weights(b, w);
    return tarn_combine(b->g, b->n, t, w);
}

const tarn_node *tarn_vectors_linear(tarn_build *b, const tarn_node *const *t) {
    if (tarn_is_recorded(b, "weight")) {
        return tarn_vectors_scaled(b, tarn_combine_recorded(b, t));
    }
    double w[TARN_METHOD_MODELS], total = tarn_weights(b, w);
    const tarn_node *sum = tarn_combine(b->g, b->n, t, w);
    if (tarn_flag(b, "normalize") && (total >= 1e-8 || total <= -1e-8)) {
        sum = tarn_div(b->g, sum, tarn_num(b->g, total));
    }
    return tarn_vectors_scaled(b, sum);
}

const tarn_node *tarn_vectors_agreeing(tarn_graph *g, int n, const tarn_node *const *v,
                                       const tarn_node *const *w, const tarn_node *votes) {
    // An exact zero counts as positive; zero entries never agree.
    const tarn_node *zero = tarn_num(g, 0), *up = tarn_ge(g, votes, zero);
    const tarn_node *sign = tarn_where(g, up, tarn_num(g, 1), tarn_num(g, -1));
    const tarn_node *kept[TARN_METHOD_MODELS], *weight[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        const tarn_node *agrees = tarn_gt(g, tarn_mul(g, v[i], sign), zero);
        kept[i] = tarn_where(g, agrees, v[i], zero);
        weight[i] = w ? tarn_where(g, agrees, w[i], zero) : NULL;
    }
    const tarn_node *sum = tarn_sum_of(g, n, kept);
    if (!w) {
        return sum;
    }
    const tarn_node *total = tarn_sum_of(g, n, weight);
    return tarn_div(g, sum, tarn_where(g, tarn_eq(g, total, zero), tarn_num(g, 1), total));
}

const tarn_node *tarn_vectors_consensus(tarn_build *b, const tarn_node *const *t) {
    const tarn_node *v[TARN_METHOD_MODELS], *vote[TARN_METHOD_MODELS], *w[TARN_METHOD_MODELS];
    bool count = tarn_choice(b, "elect", "count");
    for (int i = 0; i < b->n; i++) {
        v[i] = tarn_vectors_weighted(b, t[i], i);
        vote[i] = count ? tarn_sign(b->g, v[i]) : v[i];
        w[i] = tarn_num(b->g, tarn_choice(b, "mean_by", "count") ? 1 : tarn_get_of(b, "weight", i));
    }
    const tarn_node *votes = tarn_sum_of(b->g, b->n, vote);
    if (tarn_choice(b, "zero", "majority")) {
        const tarn_node *all = tarn_expand_global(b->expand, b->model, b->slot, b->n, &tarn_op_sum, tarn_sign(b->g, votes), NULL);
        votes = tarn_where(b->g, tarn_eq(b->g, votes, tarn_num(b->g, 0)), all, votes);
    }
    return tarn_vectors_scaled(b, tarn_vectors_agreeing(b->g, b->n, v, tarn_flag(b, "normalize") ? w : NULL, votes));
}

const tarn_node *tarn_vectors_elected(tarn_build *b, const tarn_node *const *v, bool mean) {
    const tarn_node *w[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        w[i] = tarn_num(b->g, tarn_get_of(b, "weight", i));
    }
    return tarn_vectors_agreeing(b->g, b->n, v, mean ? w : NULL, tarn_sum_of(b->g, b->n, v));
}

const tarn_node *tarn_vectors_concord(tarn_build *b, int i, const tarn_node *const *t, const tarn_node *const *z) {
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

tarn_status tarn_vectors_trim_check(const tarn_model *m, tarn_error *err) {
    bool whole = tarn_model_value(m, "trim", -1)->text[0] == 'g';
    return whole ? tarn_method_shared(m, "density", "trim = \"tensor\"", err) : TARN_OK;
}

const tarn_node *tarn_vectors_drop(tarn_build *b, const tarn_node *t, const tarn_node *mask, const tarn_node *p) {
    const tarn_node *kept = tarn_where(b->g, mask, t, tarn_num(b->g, 0));
    if (tarn_choice(b, "rescale", "none")) {
        return kept;
    }
    return tarn_choice(b, "rescale", "expected") ? tarn_div(b->g, kept, p) : tarn_vectors_rescale(b, t, kept);
}

void tarn_vectors_dare(tarn_build *b, const tarn_node **t) {
    for (int i = 0; i < b->n; i++) {
        double density = tarn_get_of(b, "density", i);
        t[i] = tarn_delta(b, i);
        if (density <= 0) {
            t[i] = tarn_mul(b->g, t[i], tarn_num(b->g, 0));
        } else if (density < 1) {
            const tarn_node *mask = tarn_mask(b, density, tarn_get(b, "seed"), i, "dare");
            t[i] = tarn_vectors_drop(b, t[i], mask, tarn_num(b->g, density));
        }
    }
}

// Ranks by size from `top` to `top + keep`, from the largest.
static const tarn_node *between(tarn_graph *g, const tarn_node *t, int64_t top, int64_t keep) {
    const tarn_node *zero = tarn_num(g, 0), *size = tarn_abs(g, t);
    const tarn_node *kept = tarn_where(g, tarn_largest(g, size, top + keep, 0), t, zero);
    return top > 0 ? tarn_where(g, tarn_largest(g, size, top, 0), zero, kept) : kept;
}

void tarn_vectors_breadcrumbs(tarn_build *b, const tarn_node **t) {
    double n = (double)b->numel;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *d = tarn_delta(b, i);
        int64_t keep = (int64_t)(tarn_get_of(b, "density", i) * n);
        int64_t top = (int64_t)(tarn_get_of(b, "gamma", i) * n);
        top = top < b->numel - keep ? top : b->numel - keep;
        t[i] = keep == b->numel ? d : keep == 0 ? tarn_mul(b->g, d, tarn_num(b->g, 0))
                                                : between(b->g, d, top, keep);
        if (tarn_choice(b, "rescale", "l1")) {
            t[i] = tarn_vectors_rescale(b, d, t[i]);
        }
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
