// SPDX-License-Identifier: Apache-2.0
#include "merge/method/means.h"

const tarn_node *tarn_combine(tarn_graph *g, int n, const tarn_node *const *x, const double *c) {
    const tarn_node *term[TARN_METHOD_MODELS];
    int k = 0;
    for (int i = 0; i < n; i++) {
        if (c[i] != 0) {
            term[k++] = c[i] == 1 ? x[i] : tarn_mul(g, x[i], tarn_num(g, c[i]));
        }
    }
    return k > 0 ? tarn_sum_of(g, k, term) : tarn_mul(g, x[0], tarn_num(g, 0));
}

const tarn_node *tarn_combine_by(tarn_graph *g, int n, const tarn_node *const *x, const tarn_node *c) {
    const tarn_node *term[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        term[i] = tarn_mul(g, x[i], tarn_item(g, c, i));
    }
    return tarn_sum_of(g, n, term);
}

const tarn_node *tarn_combine_recorded(tarn_build *b, const tarn_node *const *x) {
    const tarn_node *term[TARN_METHOD_MODELS], *w[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        w[i] = tarn_value_node(b, "weight", i);
        term[i] = tarn_mul(b->g, x[i], w[i]);
    }
    const tarn_node *sum = tarn_sum_of(b->g, b->n, term);
    return tarn_flag(b, "normalize") ? tarn_div(b->g, sum, tarn_sum_of(b->g, b->n, w)) : sum;
}

double tarn_weights(tarn_build *b, double *w) {
    double total = 0;
    for (int i = 0; i < b->n; i++) {
        w[i] = tarn_get_of(b, "weight", i);
        total += w[i];
    }
    return total;
}

const tarn_node *tarn_weighted_mean(tarn_build *b) {
    double w[TARN_METHOD_MODELS], total = tarn_weights(b, w);
    return tarn_div(b->g, tarn_combine(b->g, b->n, b->x, w), tarn_num(b->g, total));
}

void tarn_operands(tarn_build *b, const tarn_node **x) {
    for (int i = 0; i < b->n; i++) {
        x[i] = b->base ? tarn_delta(b, i) : b->x[i];
    }
}

const tarn_node *tarn_on_base(tarn_build *b, const tarn_node *x) {
    return b->base ? tarn_add(b->g, b->base, x) : x;
}

const tarn_node *tarn_limit(tarn_graph *g, const tarn_node *x, double low, double high) {
    return tarn_minimum(g, tarn_maximum(g, x, tarn_num(g, low)), tarn_num(g, high));
}

const tarn_node *tarn_share(tarn_graph *g, const tarn_node *x, const tarn_node *y) {
    const tarn_node *zero = tarn_num(g, 0);
    return tarn_where(g, tarn_eq(g, y, zero), zero, tarn_div(g, x, y));
}

const tarn_node *tarn_square(tarn_graph *g, int n, const tarn_node *const *x) {
    const int64_t square[2] = {n, n};
    return tarn_reshape(g, tarn_stack(g, n * n, x), 2, square);
}

void tarn_gram(tarn_graph *g, int n, const tarn_node *const *x, const tarn_node **cell) {
    for (int i = 0; i < n; i++) {
        for (int j = i; j < n; j++) {
            cell[i * n + j] = cell[j * n + i] = tarn_dot(g, x[i], x[j]);
        }
    }
}

const tarn_node *tarn_mean(tarn_graph *g, const tarn_node *x) {
    const tarn_node *n = x ? tarn_num(g, (double)tarn_desc_numel(&x->desc)) : NULL;
    return tarn_div(g, tarn_total(g, &tarn_op_sum, x), n);
}

const tarn_node *tarn_row_sum(tarn_graph *g, const tarn_node *x) {
    if (!x || x->desc.rank < 2) {
        return tarn_total(g, &tarn_op_sum, x);
    }
    int64_t last = x->desc.rank - 1;
    return tarn_reduce(g, &tarn_op_sum, x, 1, &last, true);
}

const tarn_node *tarn_inner(tarn_build *b, const tarn_node *p, const tarn_node *q) {
    if (b->source->rank < 2 || tarn_choice(b, "axis", "tensor")) {
        return tarn_dot(b->g, p, q);
    }
    const tarn_node *product = tarn_mul(b->g, p, q);
    const int64_t first = 0;
    return tarn_choice(b, "axis", "row") ? tarn_row_sum(b->g, product)
                                         : tarn_reduce(b->g, &tarn_op_sum, product, 1, &first, true);
}

const tarn_node *tarn_inner_of(tarn_build *b, const tarn_node *p, const tarn_node *q, int use) {
    if (tarn_choice(b, "scope", "tensor")) {
        return tarn_dot(b->g, p, q);
    }
    return tarn_expand_global(b->expand, b->model, b->slot, use, &tarn_op_sum, tarn_mul(b->g, p, q), NULL);
}

const tarn_node *tarn_length(tarn_graph *g, const tarn_node *pp, double floor) {
    const tarn_node *n = tarn_sqrt(g, pp);
    return tarn_where(g, tarn_gt(g, n, tarn_num(g, floor)), n, tarn_num(g, 1));
}

const tarn_node *tarn_cosine(tarn_graph *g, const tarn_node *pq, const tarn_node *p, const tarn_node *q) {
    return tarn_limit(g, tarn_div(g, pq, tarn_mul(g, p, q)), -1, 1);
}

void tarn_arc(tarn_graph *g, const tarn_node *c, double t, double straight, const tarn_node *s[2]) {
    const tarn_node *tt = tarn_num(g, t), *angle = tarn_acos(g, c);
    const tarn_node *line = tarn_ge(g, tarn_abs(g, c), tarn_num(g, straight));
    const tarn_node *sine = tarn_sin(g, angle), *part = tarn_mul(g, angle, tt);
    s[0] = tarn_div(g, tarn_sin(g, tarn_sub(g, angle, part)), sine);
    s[1] = tarn_div(g, tarn_sin(g, part), sine);
    s[0] = tarn_where(g, line, tarn_num(g, 1 - t), s[0]);
    s[1] = tarn_where(g, line, tt, s[1]);
}

// With e_m = x_m - x_0: Σ e² - (Σ e)² / n, which is a multiple of e² where there are two.
const tarn_node *tarn_spread(tarn_graph *g, int n, const tarn_node *const *x) {
    const tarn_node *e[TARN_METHOD_MODELS], *square[TARN_METHOD_MODELS];
    for (int i = 1; i < n; i++) {
        e[i - 1] = tarn_sub(g, x[i], x[0]);
        square[i - 1] = tarn_mul(g, e[i - 1], e[i - 1]);
    }
    const tarn_node *squares = tarn_sum_of(g, n - 1, square), *sum = tarn_sum_of(g, n - 1, e);
    return n == 2 ? squares : tarn_sub(g, squares, tarn_div(g, tarn_mul(g, sum, sum), tarn_num(g, n)));
}

// Batcher's merge exchange (Knuth, The Art of Computer Programming 3, 5.2.2 M): about n log² n / 4
// comparators, each a minimum and a maximum; those that no wanted entry needs are never computed.
void tarn_sort_models(tarn_graph *g, int n, const tarn_node **x) {
    int top = 1;
    while (2 * top < n) {
        top *= 2;
    }
    for (int p = top; p > 0; p /= 2) {
        for (int q = top, r = 0, d = p;; d = q - p, q /= 2, r = p) {
            for (int i = 0; i + d < n; i++) {
                if ((i & p) == r) {
                    const tarn_node *low = tarn_minimum(g, x[i], x[i + d]);
                    x[i + d] = tarn_maximum(g, x[i], x[i + d]);
                    x[i] = low;
                }
            }
            if (q == p) {
                break;
            }
        }
    }
}

tarn_status tarn_check_shares(const tarn_model *m, const char *flag, tarn_error *err) {
    if (flag && tarn_model_value(m, flag, -1)->number == 0) {
        return TARN_OK;
    }
    for (int64_t i = 0; i < m->n; i++) {
        double total = 0;
        for (int k = 0; k < tarn_method_models(m); k++) {
            total += tarn_value_at(tarn_model_value(m, "weight", k), i);
        }
        if (total == 0) {
            TARN_RAISE(err, "OptionRange", "merge.%s: the weights sum to zero for %s%s%s%s", tarn_method_of(m)->name,
                       m->slots[i].name, flag ? "; " : "", flag ? flag : "", flag ? " = false keeps the sum" : "");
        }
    }
    return TARN_OK;
}
