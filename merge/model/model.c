// SPDX-License-Identifier: Apache-2.0
// Model nodes: making, finding, releasing, and the walk that expands a tensor of a model into an
// expression.
#include "merge/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

tarn_status tarn_model_new(tarn_context *cx, const tarn_model_op *op, int nin,
                           tarn_model *const *in, tarn_model **out, tarn_error *err) {
    int level = 0;
    for (int k = 0; k < nin; k++) {
        level = in[k]->level >= level ? in[k]->level + 1 : level;
    }
    if (level > TARN_MODEL_LEVELS) {
        TARN_RAISE(err, "PlanTooDeep",
                   "%s: more than %d operations on top of each other; m:stage() or m:load() makes "
                   "values on the way", op->name, (int)TARN_MODEL_LEVELS);
    }
    tarn_model *m = tarn_alloc_zero(&cx->budget, sizeof *m);
    if (!m) {
        return tarn_raise_nomem(err, "a model", sizeof *m);
    }
    m->cx = cx;
    m->op = op;
    atomic_init(&m->refs, 1);
    tarn_arena_init(&m->arena, &cx->budget);
    m->in = tarn_arena_take(&m->arena, (size_t)nin * sizeof *m->in + 1);
    if (!m->in) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "a model", (size_t)nin * sizeof *m->in);
    }
    for (int k = 0; k < nin; k++) {
        m->in[k] = tarn_model_retain(in[k]);
        m->nin = k + 1;
        m->recording = m->recording ? m->recording : in[k]->recording;
    }
    m->matched = nin;
    m->level = level;
    m->policy = nin > 0 ? in[0]->policy : (tarn_policy){0};
    *out = m;
    return TARN_OK;
}

tarn_model *tarn_model_retain(tarn_model *m) {
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void tarn_model_release(tarn_model *m) {
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1) {
        return;
    }
    if (m->op && m->op->release) {
        m->op->release(m);
    }
    for (int k = 0; k < m->nin; k++) {
        tarn_model_release(m->in[k]);
    }
    tarn_model_release(m->kept);
    tarn_arena_free(&m->arena);
    tarn_free(&m->cx->budget, m, sizeof *m);
}

static int compare_names(const tarn_slot *a, const char *name, size_t len) {
    size_t n = a->len < len ? a->len : len;
    int c = memcmp(a->name, name, n);
    return c ? c : (a->len > len) - (a->len < len);
}

int64_t tarn_model_find(const tarn_model *m, const char *name, size_t len) {
    int64_t lo = 0, hi = m->n;
    while (lo < hi) {
        int64_t mid = lo + (hi - lo) / 2;
        int c = compare_names(&m->slots[m->by_name[mid]], name, len);
        if (c == 0) {
            return m->by_name[mid];
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return -1;
}

int tarn_slot_order(const tarn_slot *a, const tarn_slot *b) { return compare_names(a, b->name, b->len); }

static int by_slot_name(const void *a, const void *b, void *slots) {
    const tarn_slot *s = slots;
    return tarn_slot_order(&s[*(const int64_t *)a], &s[*(const int64_t *)b]);
}

tarn_status tarn_model_index(tarn_model *m, tarn_error *err) {
    m->by_name = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *m->by_name + 1);
    if (!m->by_name) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *m->by_name);
    }
    for (int64_t i = 0; i < m->n; i++) {
        m->by_name[i] = i;
    }
    qsort_r(m->by_name, (size_t)m->n, sizeof *m->by_name, by_slot_name, m->slots);
    for (int64_t i = 1; i < m->n; i++) {
        const tarn_slot *a = &m->slots[m->by_name[i - 1]], *b = &m->slots[m->by_name[i]];
        if (compare_names(a, b->name, b->len) == 0) {
            TARN_RAISE(err, "DuplicateTensor", "two tensors would be called %s", a->name);
        }
    }
    return TARN_OK;
}

bool tarn_model_wide(tarn_model *m) {
    bool wide = m->wide == 2;
    for (int k = 0; m->wide == 0 && k < m->nin; k++) {
        wide = tarn_model_wide(m->in[k]) || wide;
    }
    for (int64_t i = 0; m->wide == 0 && i < m->n; i++) {
        wide = wide || m->slots[i].dtype == TARN_F64;
    }
    m->wide = wide ? 2 : 1;
    return wide;
}

const tarn_names *tarn_model_names(const tarn_model *m) {
    return m->named ? m->named->names : NULL;
}

const tarn_name_info *tarn_model_info(const tarn_model *m, int64_t i) {
    const tarn_names *names = tarn_model_names(m);
    if (!names) {
        return NULL;
    }
    const tarn_slot *s = tarn_slot_source(m, i);
    int64_t k = tarn_model_find(m->named, s->name, s->len);
    return k < 0 || k >= names->n ? NULL : &names->info[k];
}

int64_t tarn_slot_numel(const tarn_slot *s) {
    int64_t n;
    return tarn_shape_numel(s->rank, s->shape, &n, NULL) == TARN_OK ? n : 0;
}

int64_t tarn_model_numel(const tarn_model *m) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        n += tarn_slot_numel(&m->slots[i]);
    }
    return n;
}

uint64_t tarn_model_bytes(const tarn_model *m) {
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->n; i++) {
        bytes += tarn_dtype_bytes(m->slots[i].dtype, tarn_slot_numel(&m->slots[i]));
    }
    return bytes;
}

const tarn_model *tarn_model_files(const tarn_model *m) {
    const tarn_model *side = m->side;
    while (side && !side->store && side->nin > 0) {  // edits of a config
        side = side->in[0]->side;
    }
    return side && side->store ? side : NULL;
}

const tarn_value *tarn_model_value(const tarn_model *m, const char *name, int model) {
    for (int k = 0; k < m->nvalues; k++) {
        if (m->values[k].model == model && strcmp(m->values[k].name, name) == 0) {
            return &m->values[k];
        }
    }
    return NULL;
}

const char *tarn_model_label(const tarn_model *m) {
    if (m->label) {
        return m->label;
    }
    return m->nin == 1 ? tarn_model_label(m->in[0]) : tarn_model_title(m);
}

const char *tarn_model_title(const tarn_model *m) {
    return m->op->title ? m->op->title(m) : m->op->name;
}

bool tarn_model_in_memory(const tarn_model *m) {
    if (m->store || m->recording) {
        return false;
    }
    for (int k = 0; k < m->nin; k++) {
        if (!tarn_model_in_memory(m->in[k])) {
            return false;
        }
    }
    return true;
}

struct tarn_memo {
    const tarn_model *model;
    int64_t slot;
    const tarn_node *node;
};

static struct tarn_memo *memo_find(const tarn_expand *e, const tarn_model *m, int64_t i) {
    uint64_t h = ((uint64_t)(uintptr_t)m >> 4) * 0x9E3779B97F4A7C15ULL + (uint64_t)i;
    h ^= h >> 29;
    unsigned mask = (unsigned)e->memo_slots - 1;
    for (unsigned k = (unsigned)h & mask;; k = (k + 1) & mask) {
        struct tarn_memo *c = &e->memo[k];
        if (!c->node || (c->model == m && c->slot == i)) {
            return c;
        }
    }
}

static bool memo_grow(tarn_expand *e) {
    int old = e->memo_slots, slots = old ? old * 2 : 16;
    struct tarn_memo *was = e->memo;
    size_t bytes = (size_t)slots * sizeof *was;
    e->memo = tarn_arena_take(&e->graph->arena, bytes);
    if (!e->memo) {
        e->memo = was;
        return false;
    }
    memset(e->memo, 0, bytes);
    e->memo_slots = slots;
    for (int k = 0; k < old; k++) {
        if (was[k].node) {
            *memo_find(e, was[k].model, was[k].slot) = was[k];
        }
    }
    return true;
}

const tarn_node *tarn_model_expr(tarn_expand *e, tarn_model *m, int64_t i) {
    if (e->graph->err.status != TARN_OK) {
        return NULL;
    }
    if (e->memo_slots > 0) {
        const struct tarn_memo *c = memo_find(e, m, i);
        if (c->node) {
            return c->node;
        }
    }
    const tarn_node *n = m->op->expand(e, m, i);
    if (!n || (2 * e->memo_count >= e->memo_slots && !memo_grow(e))) {
        return n;
    }
    *memo_find(e, m, i) = (struct tarn_memo){m, i, n};
    e->memo_count++;
    return n;
}

const tarn_node *tarn_model_slot(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_slot *slot = &m->slots[i];
    const tarn_node *root = tarn_model_expr(e, m, i);
    if (root && root->desc.weak) {
        root = tarn_cast(e->graph, root, tarn_dtype_compute(slot->dtype));
    }
    if (root && !tarn_shape_equal(root->desc.rank, root->desc.shape, slot->rank, slot->shape)) {
        root = tarn_broadcast(e->graph, root, slot->rank, slot->shape);
    }
    return root;
}

bool tarn_expand_visited(const tarn_expand *e, int *k, const tarn_model **m, int64_t *slot) {
    while (*k < e->memo_slots) {
        const struct tarn_memo *c = &e->memo[(*k)++];
        if (c->node) {
            *m = c->model;
            *slot = c->slot;
            return true;
        }
    }
    return false;
}

const tarn_node *tarn_expand_integer(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_node *first = NULL;
    const tarn_model *from = NULL;
    e->copied = true;
    for (int k = 0; k < m->nin; k++) {
        if (m->map[k][i] < 0 || (first && m->policy.integer_base)) {
            continue;
        }
        const tarn_node *x = tarn_model_expr(e, m->in[k], m->map[k][i]);
        if (!first) {
            first = x;
            from = m->in[k];
            continue;
        }
        tarn_check *c = x && x != first ? tarn_arena_take(&e->graph->arena, sizeof *c) : NULL;
        if (c) {
            *c = (tarn_check){first, x, from, m->in[k], &m->slots[i], e->checks};
            e->checks = c;
        }
    }
    return first;
}

const tarn_node *tarn_model_operand(tarn_expand *e, tarn_model *m, int k, int64_t i, int first) {
    if (m->map[k][i] >= 0) {
        return tarn_model_expr(e, m->in[k], m->map[k][i]);
    }
    int64_t at = m->map[first][i];
    double whole = m->in[first]->mass, part = m->in[k]->mass;
    if (at >= 0 && m->policy.missing == TARN_MISSING_BASE && whole != 0 && part != 0) {
        const tarn_node *x = tarn_model_expr(e, m->in[first], at);
        return part == whole ? x : tarn_mul(e->graph, x, tarn_num(e->graph, part / whole));
    }
    const tarn_slot *s = &m->slots[i];
    const tarn_node *zero = tarn_cast(e->graph, tarn_num(e->graph, 0), tarn_dtype_compute(s->dtype));
    return tarn_broadcast(e->graph, zero, s->rank, s->shape);
}

double tarn_mass_of(const tarn_op *op, double a, double b) {
    return tarn_mass_near(op->mass.a * a + op->mass.b * b);
}

double tarn_mass_near(double mass) {
    double whole = floor(mass + 0.5);
    return fabs(mass - whole) < 1e-9 ? whole : mass;
}
