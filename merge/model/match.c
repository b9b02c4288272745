// SPDX-License-Identifier: Apache-2.0
// Matching operands by name: which tensor of each operand stands behind each tensor of the result.
// Names missing from a vector (mass 0) are zero; between points they must agree unless a policy says
// otherwise (design rule 4). Shapes must agree always. What is tied is one slot.
#include <stdlib.h>
#include <string.h>

#include "merge/model/differ.h"
#include "merge/model/model.h"

// The other name of a tied slot: lm_head.weight of a model whose head is its embedding. -1: none.
static int64_t tied_slot(const tarn_model *m, const char *name, size_t len) {
    const tarn_names *names = tarn_model_names(m);
    for (int t = 0; names && t < names->nties; t++) {
        const tarn_tie *tie = &names->ties[t];
        if (strlen(tie->other) == len && memcmp(tie->other, name, len) == 0) {
            return tarn_model_find(m, tie->kept, strlen(tie->kept));
        }
    }
    return -1;
}

// A stored copy of a tied tensor is no slot of its own: "both configs are tied; one slot, written
// once".
static bool is_stored_tie(const tarn_model *m, int64_t i) {
    const tarn_names *names = tarn_model_names(m);
    for (int t = 0; names && t < names->nties; t++) {
        const tarn_tie *tie = &names->ties[t];
        if (tie->stored && strlen(tie->other) == m->slots[i].len &&
            memcmp(tie->other, m->slots[i].name, m->slots[i].len) == 0) {
            return true;
        }
    }
    return false;
}

int64_t tarn_match_slot(const tarn_model *from, int64_t i, const tarn_model *in) {
    const tarn_slot *s = &from->slots[i];
    int64_t k = tarn_model_find(in, s->name, s->len);
    return k >= 0 ? k : tied_slot(in, s->name, s->len);
}

static bool both_tied(const tarn_model *a, const tarn_model *b) {
    const tarn_names *p = tarn_model_names(a), *q = tarn_model_names(b);
    return p && q && p->nties > 0 && q->nties > 0;
}

bool tarn_match_spare(const tarn_model *from, int64_t i, const tarn_model *in) {
    return is_stored_tie(from, i) && both_tied(from, in);
}

static tarn_status check_shapes(const tarn_model *m, const tarn_model *lead, int k, int64_t i,
                                tarn_error *err) {
    const tarn_model *x = m->in[k];
    const tarn_slot *a = &m->slots[i], *b = &x->slots[m->map[k][i]];
    if (tarn_shape_equal(a->rank, a->shape, b->rank, b->shape)) {
        return TARN_OK;
    }
    return tarn_differ_shapes(lead, x, err);
}

tarn_status tarn_model_match(tarn_model *m, const bool *point, int first, tarn_error *err) {
    tarn_model *lead = m->in[first];
    tarn_missing missing = m->policy.missing;
    m->map = tarn_arena_take(&m->arena, (size_t)m->nin * sizeof *m->map + 1);
    m->slots = tarn_arena_take(&m->arena, (size_t)lead->n * sizeof *m->slots + 1);
    if (!m->map || !m->slots) {
        return tarn_raise_nomem(err, "a model", (size_t)lead->n * sizeof *m->slots);
    }
    for (int k = 0; k < m->nin; k++) {
        m->map[k] = tarn_arena_take(&m->arena, (size_t)lead->n * sizeof **m->map + 1);
        if (!m->map[k]) {
            return tarn_raise_nomem(err, "a model", (size_t)lead->n * sizeof **m->map);
        }
    }
    m->side = lead->side;
    m->n = 0;
    for (int64_t i = 0; i < lead->n; i++) {
        bool drop = false, tied = false;
        for (int k = 0; k < m->nin; k++) {
            int64_t at = k == first ? i : tarn_match_slot(lead, i, m->in[k]);
            m->map[k][m->n] = at;
            tied = tied || (k != first && tarn_match_spare(lead, i, m->in[k]));
            if (at < 0 && point[k] && point[first]) {
                if (missing == TARN_MISSING_ERROR) {
                    return tarn_differ_names(lead, m->in[k], err);
                }
                drop = drop || missing == TARN_MISSING_DROP;
            }
        }
        if (drop) {
            m->ndropped++;
            continue;
        }
        (void)tied;
        m->slots[m->n] = lead->slots[i];
        for (int k = 0; k < m->nin; k++) {
            if (m->map[k][m->n] >= 0) {
                TARN_TRY(check_shapes(m, lead, k, m->n, err));
            }
        }
        m->n++;
    }
    // What only a later operand has would find no place: an error unless dropped by policy, a tied
    // copy, or a vector's coordinate that the point lacks.
    for (int k = 0; k < m->nin; k++) {
        const tarn_model *x = m->in[k];
        for (int64_t i = 0; k != first && i < x->n; i++) {
            if (tarn_model_find(lead, x->slots[i].name, x->slots[i].len) >= 0) {
                continue;
            }
            if (tarn_match_spare(x, i, lead)) {
                continue;
            }
            if (missing != TARN_MISSING_DROP && missing != TARN_MISSING_BASE) {
                return tarn_differ_names(lead, x, err);
            }
            m->ndropped++;
        }
    }
    return tarn_model_index(m, err);
}

tarn_status tarn_model_compare(const tarn_model *a, const tarn_model *b, tarn_missing missing,
                               bool vector_b, tarn_error *err) {
    for (int64_t i = 0; i < a->n; i++) {
        int64_t k = tarn_match_slot(a, i, b);
        if (k < 0 && !vector_b && missing == TARN_MISSING_ERROR) {
            return tarn_differ_names(a, b, err);
        }
        if (k >= 0 && !tarn_shape_equal(a->slots[i].rank, a->slots[i].shape, b->slots[k].rank,
                                        b->slots[k].shape)) {
            return tarn_differ_shapes(a, b, err);
        }
    }
    return TARN_OK;
}
