// SPDX-License-Identifier: Apache-2.0
#include "merge/method/gram.h"

#include "merge/method/singular.h"
#include "merge/model/lora.h"

// GPT-2 and its like store linear layers [in, out].
static bool turned(const tarn_model *m, const tarn_slot *s) {
    const tarn_names *names = tarn_model_names(m);
    return s->rank == 2 && names && tarn_lora_turned(names);
}

static void sides(const tarn_model *m, const tarn_slot *s, int64_t side[2]) {
    bool t = turned(m, s);
    side[0] = s->shape[t ? 1 : 0];
    side[1] = 1;
    for (int d = 0; d < s->rank; d++) {
        side[1] *= d == (t ? 1 : 0) ? 1 : s->shape[d];
    }
}

const tarn_node *tarn_gram_matrix(tarn_build *b, const tarn_node *x) {
    int64_t side[2];
    sides(b->model, b->source, side);
    x = turned(b->model, b->source) ? tarn_transpose(b->g, x) : tarn_reshape(b->g, x, 2, side);
    return tarn_cast(b->g, x, TARN_F64);
}

const tarn_node *tarn_gram_back(tarn_build *b, const tarn_node *x) {
    x = tarn_cast(b->g, x, tarn_dtype_compute(b->source->dtype));
    return turned(b->model, b->source) ? tarn_transpose(b->g, x)
                                       : tarn_reshape(b->g, x, b->source->rank, b->source->shape);
}

bool tarn_gram_has(const tarn_model *m, int64_t slot, const char *name) {
    const tarn_slot *s = tarn_slot_source(m, slot);
    bool all = s->rank >= 2 && !tarn_slot_integer(s);
    for (int i = 0; i < tarn_method_models(m) && all; i++) {
        const tarn_model *of = tarn_method_statistic(m, name, i);
        all = of && tarn_model_find(of, s->name, s->len) >= 0;
    }
    return all;
}

const char *tarn_gram_note(const tarn_model *m, int64_t i) {
    bool has = tarn_gram_has(m, i, tarn_method_of(m)->statistics[0].name);
    return has ? NULL : "mean: no Gram matrix of its inputs";
}

const tarn_node *tarn_gram_shrunk(tarn_build *b, const char *name, int i, double a) {
    tarn_graph *g = b->g;
    const tarn_node *x = tarn_cast(g, tarn_statistic_of(b, name, i), TARN_F64);
    if (!x || a == 1) {
        return x;
    }
    const tarn_node *less = tarn_mul(g, x, tarn_num(g, a));
    return tarn_where(g, tarn_singular_diagonal(g, x), x, less);
}

// Σ w_m B_m X_m A_m with X_m = x[m], or the one for all where x is NULL. Nodes are NULL once memory ended.
static const tarn_node *curve(tarn_build *b, const tarn_node *const *x, const tarn_node *one) {
    tarn_graph *g = b->g;
    const tarn_node *part[TARN_METHOD_MODELS];
    bool out = tarn_gram_has(b->model, b->slot, "outputs");
    for (int i = 0; i < b->n; i++) {
        part[i] = tarn_matmul(g, x ? x[i] : one, tarn_gram_shrunk(b, "inputs", i, 1));
        part[i] = out ? tarn_matmul(g, tarn_gram_shrunk(b, "outputs", i, 1), part[i]) : part[i];
        part[i] = tarn_mul(g, part[i], tarn_num(g, tarn_get_of(b, "weight", i)));
    }
    return tarn_sum_of(g, b->n, part);
}

const tarn_node *tarn_gram_match(tarn_build *b, const tarn_node *w, int steps) {
    tarn_graph *g = b->g;
    const tarn_node *x[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        x[i] = tarn_gram_matrix(b, b->x[i]);
    }
    const tarn_node *r = tarn_sub(g, curve(b, x, NULL), curve(b, NULL, w)), *p = r;
    const tarn_node *rr = tarn_dot(g, r, r);
    for (int k = 0; k < steps && rr; k++) {
        const tarn_node *q = curve(b, NULL, p), *step = tarn_share(g, rr, tarn_dot(g, p, q));
        w = tarn_add(g, w, tarn_mul(g, step, p));
        r = tarn_sub(g, r, tarn_mul(g, step, q));
        const tarn_node *next = tarn_dot(g, r, r);
        p = tarn_add(g, r, tarn_mul(g, tarn_share(g, next, rr), p));
        rr = next;
    }
    return w;
}

tarn_status tarn_gram_check(const tarn_model *m, const char *name, bool out, tarn_error *err) {
    TARN_TRY(tarn_check_shares(m, NULL, err));
    for (int i = 0; i < tarn_method_models(m); i++) {
        const tarn_model *of = tarn_method_statistic(m, name, i);
        for (int64_t k = 0; of && k < m->n; k++) {
            const tarn_slot *s = &m->slots[k];
            int64_t at = s->rank >= 2 ? tarn_model_find(of, s->name, s->len) : -1, side[2];
            if (at < 0) {
                continue;
            }
            sides(m, s, side);
            const tarn_slot *x = &of->slots[at];
            int64_t n = side[out ? 0 : 1];
            if (x->rank != 2 || x->shape[0] != n || x->shape[1] != n) {
                TARN_RAISE(err, "ShapeMismatch", "merge.%s: %s of %s for %s is not [%lld, %lld]", tarn_method_of(m)->name,
                           name, tarn_model_label(of), s->name, (long long)n, (long long)n);
            }
        }
    }
    return TARN_OK;
}
