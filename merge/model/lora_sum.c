// SPDX-License-Identifier: Apache-2.0
// A sum of adapters as one adapter. Concatenated: B = [w1 s1 B1, w2 s2 B2 …], A = [A1; A2; …],
// exact, with the sum of the ranks; cut to a lower rank, still exactly (the nearest of that rank),
// by QR of both factors and an SVD of the small product of their triangles: nothing of the base's
// size is made. By factors: A = Σ w A, B = s Σ w B, whose product has cross terms and is not the
// sum (LoRAHub: Huang et al. 2023, arXiv:2307.13269).
#include <string.h>

#include "merge/model/lora.h"
#include "vm/op/linalg.h"

static const char *const mode_names[] = {"concat", "factors"};

static const tarn_lora_part *part_of(const tarn_model *m, int k, int64_t i) {
    int64_t at = m->map[k][i];
    return at < 0 ? NULL : &((const tarn_lora_part *)m->in[k]->extra)[at];
}

static const tarn_slot *factor(const tarn_model *m, int k, const tarn_lora_part *p, bool b) {
    return &m->in[k]->in[1]->slots[b ? p->b : p->a];
}

static double weight_of(const tarn_model *m, int k) {
    return tarn_model_value(m, "weight", k)->number;
}
static bool by_factors(const tarn_model *m) {
    return strcmp(tarn_model_value(m, "mode", -1)->text, mode_names[1]) == 0;
}

// ---- the expression ----

// A or B of operand k as a matrix in its arithmetic dtype; B with its weight.
static const tarn_node *matrix(tarn_expand *e, tarn_model *m, int k, const tarn_lora_part *p,
                               bool b, double weight) {
    tarn_graph *g = e->graph;
    const tarn_slot *s = factor(m, k, p, b);
    const tarn_node *x = tarn_model_expr(e, m->in[k]->in[1], b ? p->b : p->a);
    int64_t shape[2] = {s->shape[0], s->shape[0] ? tarn_slot_numel(s) / s->shape[0] : 0};
    x = x ? tarn_cast(g, x, tarn_dtype_compute(s->dtype)) : NULL;
    x = x && s->rank != 2 ? tarn_reshape(g, x, 2, shape) : x;
    return x && weight != 1 ? tarn_mul(g, x, tarn_num(g, weight)) : x;
}

// The factors of all operands that have the tensor, put together or added up.
static const tarn_node *gather(tarn_expand *e, tarn_model *m, int64_t i, bool b) {
    const tarn_node *list[TARN_LORA_MODELS], *sum = NULL;
    int n = 0;
    for (int k = 0; k < m->nin; k++) {
        const tarn_lora_part *p = part_of(m, k, i);
        if (!p) {
            continue;
        }
        double weight = by_factors(m) || b ? weight_of(m, k) : 1;
        list[n] = matrix(e, m, k, p, b, b ? weight * p->scale : weight);
        if (!list[n++]) {
            return NULL;
        }
    }
    for (int k = 0; k < n && by_factors(m); k++) {
        sum = sum ? tarn_add(e->graph, sum, list[k]) : list[k];
    }
    return sum ? sum : tarn_concat(e->graph, n, list, b ? 1 : 0);
}

// The pair of rank r that is nearest to B A.
static const tarn_node *cut(tarn_graph *g, const tarn_node *a, const tarn_node *b, int64_t r,
                            bool want_b) {
    tarn_qr_nodes qb = tarn_qr(g, b), qa = tarn_qr(g, tarn_transpose(g, a));
    const tarn_node *small = qb.r && qa.r ? tarn_matmul(g, qb.r, tarn_transpose(g, qa.r)) : NULL;
    tarn_svd_options o = {.rank = r};
    tarn_svd_nodes d = small ? tarn_svd(g, small, &o) : (tarn_svd_nodes){0};
    if (!d.s) {
        return NULL;
    }
    const tarn_node *root = tarn_sqrt(g, d.s);
    int64_t column[2] = {r, 1};
    return want_b ? tarn_matmul(g, qb.q, tarn_mul(g, d.u, root))
                  : tarn_matmul(g, tarn_mul(g, tarn_reshape(g, root, 2, column), d.vt),
                                tarn_transpose(g, qa.q));
}

static int64_t stacked_rank(const tarn_model *m, int64_t i) {
    int64_t r = 0;
    for (int k = 0; k < m->nin; k++) {
        const tarn_lora_part *p = part_of(m, k, i);
        int64_t its = p ? factor(m, k, p, false)->shape[0] : 0;
        r = by_factors(m) ? (its > r ? its : r) : r + its;
    }
    return r;
}

// Slots come in pairs: A, then B.
static const tarn_node *expand_sum(tarn_expand *e, tarn_model *m, int64_t i) {
    bool b = i % 2 == 1;
    const tarn_slot *s = &m->slots[i];
    int64_t r = s->shape[b];
    const tarn_node *x;
    if (r == stacked_rank(m, i)) {
        x = gather(e, m, i, b);
    } else {
        const tarn_node *fa = gather(e, m, i, false), *fb = gather(e, m, i, true);
        x = fa && fb ? cut(e->graph, fa, fb, r, b) : NULL;
    }
    return x ? tarn_reshape(e->graph, x, s->rank, s->shape) : NULL;
}

static tarn_status restore_sum(tarn_context *cx, const tarn_model_json *j, int nin,
                               tarn_model *const *in, tarn_model **out, tarn_error *err) {
    double weight[TARN_LORA_MODELS], rank = -1;
    const char *mode = NULL;
    int n = 0;
    for (int k = 0; k < j->nvalues; k++) {
        const tarn_value *v = &j->values[k];
        if (v->model == n && n < TARN_LORA_MODELS && strcmp(v->name, "weight") == 0 && !v->each) {
            weight[n++] = v->number;
        } else if (strcmp(v->name, "rank") == 0 && !v->each) {
            rank = v->number;
        } else if (strcmp(v->name, "mode") == 0) {
            mode = v->text;
        }
    }
    if (n != nin || !(rank >= 0 && rank < 1e9) || !mode ||
        (strcmp(mode, mode_names[0]) && strcmp(mode, mode_names[1]))) {
        TARN_RAISE(err, "PlanInvalid",
                   "plan: lora_sum takes a weight for each adapter, a rank and a mode");
    }
    return tarn_model_lora_sum(cx, nin, in, weight, (int64_t)rank, strcmp(mode, mode_names[1]) == 0,
                               out, err);
}

const tarn_model_op tarn_model_row_lora_sum = {
    .name = "lora_sum", .expand = expand_sum, .restore = restore_sum};

// ---- making ----

static bool embeds(const tarn_model *lora, const tarn_lora_part *p) {
    return strstr(lora->in[1]->slots[p->a].name, "lora_embedding") != NULL;
}

static tarn_status check_pair(const tarn_model *m, int k, int64_t i, int first, tarn_error *err) {
    const tarn_lora_part *p = part_of(m, k, i), *q = part_of(m, first, i);
    const tarn_slot *s = &m->in[k]->slots[m->map[k][i]];
    const char *label = tarn_model_label(m->in[k]->in[1]);
    if (p->a < 0 || p->magnitude >= 0 || p->full >= 0) {
        TARN_RAISE(
            err, "NotFactors",
            "lora_sum: what %s does to %s is no product of two factors (%s); add the vectors, and "
            "merge.lora_extract makes an adapter of the sum",
            label, s->name,
            p->magnitude >= 0 ? "DoRA"
            : p->full >= 0    ? "a whole tensor"
                              : "a bias");
    }
    const tarn_slot *a = factor(m, k, p, false), *c = factor(m, first, q, false);
    const tarn_slot *b = factor(m, k, p, true), *d = factor(m, first, q, true);
    bool fits = a->rank == c->rank && b->rank == d->rank && p->turned == q->turned &&
                embeds(m->in[k], p) == embeds(m->in[first], q) && b->shape[0] == d->shape[0];
    for (int x = 1; fits && x < a->rank; x++) {
        fits = a->shape[x] == c->shape[x];
    }
    if (!fits) {
        TARN_RAISE(err, "ShapeMismatch", "lora_sum: %s has other factors for %s than %s", label,
                   s->name, tarn_model_label(m->in[first]->in[1]));
    }
    if (by_factors(m) && (a->shape[0] != c->shape[0] || p->scale != q->scale)) {
        TARN_RAISE(err, "AdapterRank",
                   "lora_sum: factors are added where ranks and scales are equal, but for %s %s "
                   "has rank %lld and "
                   "scale %g, %s rank %lld and scale %g",
                   s->name, label, (long long)a->shape[0], p->scale,
                   tarn_model_label(m->in[first]->in[1]), (long long)c->shape[0], q->scale);
    }
    return TARN_OK;
}

// The two outputs that the pairs at slot i make.
static tarn_status set_slots(tarn_model *m, int64_t i, int first, int64_t rank, tarn_error *err) {
    const tarn_lora_part *p = part_of(m, first, i);
    const tarn_slot *base = &m->in[first]->slots[m->map[first][i]];
    const tarn_slot *fa = factor(m, first, p, false), *fb = factor(m, first, p, true);
    int64_t r = stacked_rank(m, i), ins = fa->shape[0] ? tarn_slot_numel(fa) / fa->shape[0] : 0;
    int64_t most = fb->shape[0] < ins ? fb->shape[0] : ins;
    r = rank > 0 && r > rank ? rank : r;
    r = rank > 0 && r > most ? most : r;
    bool embedding = embeds(m->in[first], p), wide = false;
    for (int k = 0; k < m->nin; k++) {
        const tarn_lora_part *q = part_of(m, k, i);
        wide = wide || (q && (factor(m, k, q, false)->dtype == TARN_F64 ||
                              factor(m, k, q, true)->dtype == TARN_F64));
    }
    for (int b = 0; b < 2; b++) {
        const char *suffix = embedding ? (b ? ".lora_embedding_B" : ".lora_embedding_A")
                             : b       ? ".lora_B.weight"
                                       : ".lora_A.weight";
        const tarn_slot *like = b ? fb : fa;
        int64_t *shape =
            tarn_arena_copy(&m->arena, like->shape, (size_t)like->rank * sizeof *shape);
        const char *name = tarn_lora_name(&m->arena, base, ".weight", suffix);
        if (!shape || !name) {
            return tarn_raise_nomem(err, "an adapter", base->len);
        }
        shape[b] = r;
        m->slots[i + b] = (tarn_slot){.name = name,
                                      .len = strlen(name),
                                      .dtype = wide ? TARN_F64 : TARN_F32,
                                      .rank = like->rank,
                                      .shape = shape};
    }
    return TARN_OK;
}

static tarn_status add_tensor(tarn_model *m, int64_t rank, const tarn_slot *s, tarn_error *err) {
    int first = -1;
    int64_t i = m->n;
    for (int k = 0; k < m->nin; k++) {
        m->map[k][i] = m->map[k][i + 1] = tarn_model_find(m->in[k], s->name, s->len);
        first = first < 0 && m->map[k][i] >= 0 ? k : first;
    }
    for (int k = first; k < m->nin; k++) {
        TARN_TRY(m->map[k][i] < 0 ? TARN_OK : check_pair(m, k, i, first, err));
    }
    TARN_TRY(set_slots(m, i, first, rank, err));
    m->n += 2;
    return TARN_OK;
}

static tarn_status fill(tarn_model *m, int64_t rank, tarn_error *err) {
    size_t room = 1;
    for (int k = 0; k < m->nin; k++) {
        room += 2 * (size_t)m->in[k]->n;
    }
    m->slots = tarn_arena_take(&m->arena, room * sizeof *m->slots);
    m->map = tarn_arena_take(&m->arena, (size_t)m->nin * sizeof *m->map);
    for (int k = 0; m->map && k < m->nin; k++) {
        m->map[k] = tarn_arena_take(&m->arena, room * sizeof **m->map);
        m->slots = m->map[k] ? m->slots : NULL;
    }
    if (!m->slots || !m->map) {
        return tarn_raise_nomem(err, "an adapter", room * sizeof *m->slots);
    }
    for (int k = 0; k < m->nin; k++) {
        for (int64_t i = 0; i < m->in[k]->n; i++) {
            const tarn_slot *s = &m->in[k]->slots[i];
            bool placed = false;
            for (int q = 0; q < k; q++) {
                placed = placed || tarn_model_find(m->in[q], s->name, s->len) >= 0;
            }
            TARN_TRY(placed ? TARN_OK : add_tensor(m, rank, s, err));
        }
    }
    m->side = m->in[0]->side;
    m->named = m->in[0]->named;
    m->mass = 1;
    return tarn_model_index(m, err);
}

tarn_status tarn_model_lora_sum(tarn_context *cx, int n, tarn_model *const *loras,
                                const double *weight, int64_t rank, bool factors, tarn_model **out,
                                tarn_error *err) {
    if (n < 1 || n > TARN_LORA_MODELS) {
        TARN_RAISE(err, "ModelCount", "lora_sum: %d adapters, expected 1 to %d", n,
                   (int)TARN_LORA_MODELS);
    }
    for (int k = 0; k < n; k++) {
        if (loras[k]->op != &tarn_model_row_lora) {
            TARN_RAISE(err, "NotFactors",
                       "lora_sum: operand %d (%s) is not as model.lora gives it: factors cannot be "
                       "seen in what was "
                       "computed with it",
                       k + 1, tarn_model_title(loras[k]));
        }
    }
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_lora_sum, n, loras, &m, err));
    m->values = tarn_arena_take(&m->arena, ((size_t)n + 2) * sizeof *m->values);
    if (!m->values) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "an adapter", 0);
    }
    for (int k = 0; k < n; k++) {
        m->values[m->nvalues++] =
            (tarn_value){.name = "weight", .model = k, .number = weight[k], .origin = "given"};
    }
    m->values[m->nvalues++] =
        (tarn_value){.name = "rank", .model = -1, .number = (double)rank, .origin = "given"};
    m->values[m->nvalues++] =
        (tarn_value){.name = "mode", .model = -1, .text = mode_names[factors], .origin = "given"};
    tarn_status s = fill(m, factors ? 0 : rank, err);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}
