// SPDX-License-Identifier: Apache-2.0
#include "merge/method/singular.h"

#include <string.h>

bool tarn_singular_is(const tarn_model *m, int64_t i) {
    const char *which = tarn_model_value(m, "tensors", -1)->text;
    const tarn_name_info *info = tarn_model_info(m, i);
    int rank = tarn_slot_source(m, i)->rank;
    if (which[0] == 'l' && info && (info->place == TARN_PLACE_EMBED || info->place == TARN_PLACE_HEAD)) {
        return false;
    }
    return rank == 2 || (rank > 2 && which[0] == 'a');
}

const char *tarn_singular_note(const tarn_model *m, int64_t i) {
    if (tarn_singular_is(m, i)) {
        return NULL;
    }
    return tarn_slot_source(m, i)->rank == 2 ? "mean offset: an embedding or head" : "mean offset: not a matrix";
}

static int64_t rows_of(const tarn_build *b) { return b->source->shape[0]; }
int64_t tarn_singular_columns(const tarn_build *b) { return b->numel / b->source->shape[0]; }
int64_t tarn_singular_side(const tarn_build *b) {
    int64_t m = rows_of(b), n = tarn_singular_columns(b);
    return m < n ? m : n;
}
int64_t tarn_singular_count(const tarn_build *b, double share) {
    int64_t side = tarn_singular_side(b), k = (int64_t)(share * (double)side);
    return k < 1 ? 1 : k > side ? side : k;
}

const tarn_node *tarn_singular_matrix(tarn_build *b, const tarn_node *t) {
    int64_t shape[2] = {rows_of(b), tarn_singular_columns(b)};
    return tarn_reshape(b->g, t, 2, shape);
}

const tarn_node *tarn_singular_offsets(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_singular_matrix(b, tarn_vectors_task(b, i));
    }
    return tarn_stack(b->g, b->n, t);
}

const tarn_node *tarn_singular_joint(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        t[i] = tarn_singular_matrix(b, tarn_delta(b, i));
    }
    return tarn_concat(b->g, b->n, t, 1);
}

const tarn_node *tarn_singular_pick(tarn_graph *g, const tarn_node *x, int64_t i) {
    const tarn_node *s = tarn_slice(g, x, 0, i, 1);
    return s ? tarn_reshape(g, s, x->desc.rank - 1, x->desc.shape + 1) : NULL;
}

const tarn_node *tarn_singular_sum(tarn_graph *g, const tarn_node *x) {
    const int64_t batch = 0;
    return tarn_reduce(g, &tarn_op_sum, x, 1, &batch, false);
}

const tarn_node *tarn_singular_diagonal(tarn_graph *g, const tarn_node *x) {
    if (!x) {
        return NULL;
    }
    const int64_t m = x->desc.shape[0], column[2] = {m, 1};
    return tarn_eq(g, tarn_iota(g, x->desc.shape[1]), tarn_reshape(g, tarn_iota(g, m), 2, column));
}

const tarn_node *tarn_singular_beside(tarn_graph *g, const tarn_node *u) {
    if (!u) {
        return NULL;
    }
    const int64_t order[3] = {1, 0, 2}, *s = u->desc.shape;
    int64_t shape[2] = {s[1], s[0] * s[2]};
    const tarn_node *p = tarn_permute(g, u, order);
    return p ? tarn_reshape(g, p, 2, shape) : NULL;
}

const tarn_node *tarn_singular_above(tarn_graph *g, const tarn_node *vt) {
    if (!vt) {
        return NULL;
    }
    const int64_t *s = vt->desc.shape;
    int64_t shape[2] = {s[0] * s[1], vt->desc.rank > 2 ? s[2] : 0};
    return tarn_reshape(g, vt, vt->desc.rank - 1, shape);
}

tarn_svd_nodes tarn_singular_svd(tarn_build *b, const tarn_node *a, int64_t rank) {
    tarn_svd_options o = {.rank = rank, .oversample = 10, .power = 2, .seed = (int64_t)tarn_get(b, "seed")};
    o.route = tarn_choice(b, "route", "gram")     ? TARN_SVD_GRAM
              : tarn_choice(b, "route", "random") ? TARN_SVD_RANDOM
                                                  : TARN_SVD_EXACT;
    return tarn_svd(b->g, a, &o);
}

const tarn_node *tarn_singular_rows(tarn_graph *g, const tarn_node *s, const tarn_node *vt) {
    if (!s) {
        return NULL;
    }
    const int64_t column[2] = {s->desc.shape[0], 1};
    return tarn_mul(g, tarn_reshape(g, s, 2, column), vt);
}

const tarn_node *tarn_singular_product(tarn_graph *g, const tarn_node *u, const tarn_node *s, const tarn_node *vt) {
    if (s && s->desc.rank > 1) {  // [T, k] beside the columns of [T, m, k]
        int64_t shape[3] = {s->desc.shape[0], 1, s->desc.shape[1]};
        s = tarn_reshape(g, s, 3, shape);
    }
    return tarn_matmul(g, tarn_mul(g, u, s), vt);
}

const tarn_node *tarn_singular_result(tarn_build *b, const tarn_node *a) {
    return tarn_vectors_scaled(b, tarn_reshape(b->g, a, b->source->rank, b->source->shape));
}

const tarn_node *tarn_singular_mean(tarn_build *b) {
    return tarn_vectors_scaled(b, tarn_div(b->g, tarn_vectors_sum(b), tarn_num(b->g, b->n)));
}

const tarn_node *tarn_singular_leading(tarn_graph *g, const tarn_node *s, double share, double power) {
    double f[2] = {share, power};
    tarn_attr a = {.nf = 2, .f = f};
    return tarn_node_make(g, &tarn_op_leading, 1, &s, &a);
}
