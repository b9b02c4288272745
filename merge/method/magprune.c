// SPDX-License-Identifier: Apache-2.0
#include "merge/method/magprune.h"

// The probability of keeping each entry of a tensor t, from its rank in its row.
static const tarn_node *chances(tarn_build *b, const tarn_node *t, double density, double epsilon) {
    tarn_graph *g = b->g;
    int rank = t->desc.rank;
    int64_t n = b->numel, up = 0;
    if (rank > 1 && tarn_choice(b, "ranks", "row")) {
        n /= t->desc.shape[0];
    }
    if (n == 1) {
        return tarn_num(g, density);
    }
    const int64_t rows[2] = {b->numel / n, n};
    const tarn_node *size = tarn_reshape(g, tarn_abs(g, t), 2, rows);
    tarn_attr a = {.ni = 1, .i = &up};
    const tarn_node *r = tarn_node_make(g, &tarn_op_rank, 1, &size, &a);
    bool half = tarn_choice(b, "window", "half");
    double first = half ? density - epsilon / 2 + epsilon / (double)n : density - epsilon;
    double step = half ? epsilon / (double)n : 2 * epsilon / (double)(n - 1);
    r = tarn_add(g, tarn_mul(g, r, tarn_num(g, step)), tarn_num(g, first));
    return tarn_reshape(g, r, rank, t->desc.shape);
}

void tarn_magprune(tarn_build *b, const tarn_node **t) {
    tarn_graph *g = b->g;
    for (int i = 0; i < b->n; i++) {
        double density = tarn_get_of(b, "density", i);
        t[i] = tarn_delta(b, i);
        if (density <= 0) {
            t[i] = tarn_mul(g, t[i], tarn_num(g, 0));
        } else if (density < 1 && t[i]) {
            const tarn_node *p = chances(b, t[i], density, tarn_get_of(b, "epsilon", i));
            const tarn_node *draw = tarn_draw(b, tarn_get(b, "seed"), i, "della");
            t[i] = tarn_vectors_drop(b, t[i], tarn_lt(g, draw, p), p);
        }
    }
}

tarn_status tarn_magprune_check(const tarn_model *m, tarn_error *err) {
    double reach = tarn_model_value(m, "window", -1)->text[0] == 'h' ? 0.5 : 1;
    int base = tarn_method_base(m);
    for (int k = 0; k < tarn_method_models(m); k++) {
        const tarn_value *density = tarn_model_value(m, "density", k);
        const tarn_value *epsilon = tarn_model_value(m, "epsilon", k);
        for (int64_t i = 0; i < m->n; i++) {
            double d = tarn_value_at(density, i), e = tarn_value_at(epsilon, i);
            if (d <= 0 || d >= 1 || (d - reach * e > 0 && d + reach * e < 1)) {
                continue;
            }
            TARN_RAISE(err, "OptionRange",
                       "merge.%s: density %g with epsilon %g of %s leaves 0 to 1: probabilities "
                       "would reach from %g to %g (%s); take an epsilon below %g",
                       tarn_method_of(m)->name, d, e,
                       tarn_model_label(m->in[base >= 0 && k >= base ? k + 1 : k]), d - reach * e,
                       d + reach * e, m->slots[i].name, (d < 1 - d ? d : 1 - d) / reach);
        }
    }
    return TARN_OK;
}
