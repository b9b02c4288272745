// SPDX-License-Identifier: Apache-2.0
// Matching operands by name: which tensor of each operand stands behind each tensor of the result.
// Names missing from a vector (mass 0) are zero; between points they must agree unless a policy says
// otherwise (design rule 4). Shapes must agree always. What is tied is one slot. A method's statistics
// (operands from m->matched on) are looked up alike, and neither add names nor need any shape.
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
    const tarn_slot *s = &from->slots[i];
    return is_stored_tie(from, i) && both_tied(from, in) && tied_slot(in, s->name, s->len) >= 0;
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

typedef struct {
    tarn_model *m, *lead;
    const bool *point;
    int first;
    bool join;  // names of any operand have a place: all are vectors, or missing = "zero"
} matching;

static tarn_status take_slots(const matching *t, tarn_error *err) {
    tarn_model *m = t->m;
    int64_t most = t->lead->n;
    for (int k = 0; k < m->matched && t->join; k++) {
        most += k == t->first ? 0 : m->in[k]->n;
    }
    m->map = tarn_arena_take(&m->arena, (size_t)m->nin * sizeof *m->map + 1);
    m->slots = tarn_arena_take(&m->arena, (size_t)most * sizeof *m->slots + 1);
    for (int k = 0; m->map && k < m->nin; k++) {
        m->map[k] = tarn_arena_take(&m->arena, (size_t)most * sizeof **m->map + 1);
        if (!m->map[k]) {
            m->map = NULL;
        }
    }
    if (!m->map || !m->slots) {
        return tarn_raise_nomem(err, "a model", (size_t)most * sizeof *m->slots);
    }
    m->n = 0;
    return TARN_OK;
}

// Gives slot i of operand `of` its place in the result, unless the policy drops it.
static tarn_status place(const matching *t, const tarn_model *of, int64_t i, tarn_error *err) {
    tarn_model *m = t->m;
    bool drop = false;
    for (int k = 0; k < m->nin; k++) {
        int64_t at = m->in[k] == of ? i : tarn_match_slot(of, i, m->in[k]);
        m->map[k][m->n] = at;
        if (at < 0 && k < m->matched && t->point[k] && t->point[t->first] && !t->join) {
            if (m->policy.missing == TARN_MISSING_ERROR) {
                return tarn_differ_names(of, m->in[k], err);
            }
            drop = drop || m->policy.missing == TARN_MISSING_DROP;
        }
    }
    if (drop) {
        m->ndropped++;
        return TARN_OK;
    }
    m->slots[m->n] = of->slots[i];
    for (int k = 0; k < m->matched; k++) {
        if (m->map[k][m->n] >= 0) {
            TARN_TRY(check_shapes(m, of, k, m->n, err));
        }
    }
    m->n++;
    return TARN_OK;
}

// Slot i of operand k is in an earlier operand, which gave it its place.
static bool is_placed(const matching *t, int k, int64_t i) {
    const tarn_model *x = t->m->in[k];
    const tarn_slot *s = &x->slots[i];
    if (tarn_model_find(t->lead, s->name, s->len) >= 0 || tarn_match_spare(x, i, t->lead)) {
        return true;
    }
    for (int j = 0; j < k && t->join; j++) {
        if (tarn_model_find(t->m->in[j], s->name, s->len) >= 0) {
            return true;
        }
    }
    return false;
}

// What only a later operand has gets a place where names are joined. Elsewhere it would find none: an
// error unless dropped by policy.
static tarn_status later_names(const matching *t, int k, tarn_error *err) {
    tarn_model *m = t->m;
    const tarn_model *x = m->in[k];
    tarn_missing missing = m->policy.missing;
    for (int64_t i = 0; i < x->n; i++) {
        if (is_placed(t, k, i)) {
            continue;
        }
        if (t->join) {
            TARN_TRY(place(t, x, i, err));
        } else if (missing == TARN_MISSING_ERROR) {
            return tarn_differ_names(t->lead, x, err);
        } else {
            m->ndropped++;
        }
    }
    return TARN_OK;
}

// The lead has written out a second time what all operands hold as one: it is merged once, too, so that no
// method gives the copies different values.
static bool is_spare(const matching *t, int64_t i) {
    for (int k = 0; k < t->m->matched; k++) {
        if (!tarn_match_spare(t->lead, i, t->m->in[k])) {
            return false;
        }
    }
    return true;
}

tarn_status tarn_model_match(tarn_model *m, const bool *point, int first, tarn_error *err) {
    matching t = {.m = m, .lead = m->in[first], .point = point, .first = first};
    t.join = m->policy.missing == TARN_MISSING_ZERO || !point[first];
    m->side = t.lead->side;
    m->named = t.lead->named;
    TARN_TRY(take_slots(&t, err));
    for (int64_t i = 0; i < t.lead->n; i++) {
        if (!is_spare(&t, i)) {
            TARN_TRY(place(&t, t.lead, i, err));
        }
    }
    for (int k = 0; k < m->matched; k++) {
        if (k != first && m->in[k] != t.lead) {
            TARN_TRY(later_names(&t, k, err));
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
