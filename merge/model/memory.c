// SPDX-License-Identifier: Apache-2.0
// Models whose tensors are in memory: values over a signature. The signature holds all that does not
// change with the values and is shared by whatever has the same names, so that a step of training, or a
// sum, makes a model without looking at names again.
#include <string.h>

#include "merge/model/model.h"

// Never expanded: what values lie over.
static const tarn_model_op row_signature = {.name = "names"};

typedef struct {
    tarn_tensor *tensor;        // [n]
    const tarn_source **source;  // [n] made when a plan first asks; NULL before
} held;

const tarn_tensor *tarn_model_held(const tarn_model *m, int64_t i) {
    return m->op == &tarn_model_row_memory ? &((const held *)m->extra)->tensor[i] : NULL;
}

static const tarn_node *expand_memory(tarn_expand *e, tarn_model *m, int64_t i) {
    const held *h = m->extra;
    if (!h->source[i]) {
        h->source[i] = tarn_source_of_tensor(&h->tensor[i], m->slots[i].name);
        if (!h->source[i]) {
            tarn_raise_nomem(&e->graph->err, "a model", 0);
            return NULL;
        }
    }
    return tarn_leaf_source(e->graph, h->source[i]);
}

static void release_memory(tarn_model *m) {
    const held *h = m->extra;
    for (int64_t i = 0; h && i < m->n; i++) {
        tarn_tensor_release(&h->tensor[i]);
        if (h->source[i]) {
            h->source[i]->release(h->source[i]);
        }
    }
}

const tarn_model_op tarn_model_row_memory = {.name = "tensors", .expand = expand_memory,
                                             .release = release_memory};

// ---- signatures ----

static bool has_files(const tarn_model *side) { return side && (side->store || side->nin > 0); }

// A signature over the slots given, whose names and shapes are copied; from: as in tarn_model_of_tensors.
static tarn_status new_signature(tarn_context *cx, int64_t n, const tarn_slot *slots, const tarn_model *from,
                                 tarn_model **out, tarn_error *err) {
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &row_signature, 0, NULL, &m, err));
    tarn_name_in *in = tarn_arena_take(&m->arena, (size_t)n * sizeof *in + 1);
    m->slots = tarn_arena_copy(&m->arena, slots, (size_t)n * sizeof *slots);
    m->names = tarn_arena_take(&m->arena, sizeof *m->names);
    bool ok = in && m->slots && m->names;
    for (int64_t i = 0; i < n && ok; i++) {
        tarn_slot *s = &m->slots[i];
        s->name = tarn_arena_string(&m->arena, s->name, s->len);
        s->shape = tarn_arena_copy(&m->arena, s->shape, (size_t)s->rank * sizeof *s->shape);
        in[i] = (tarn_name_in){s->name, s->len, s->dtype, s->rank, s->shape};
        ok = s->name && s->shape;
    }
    tarn_status st = ok ? TARN_OK : tarn_raise_nomem(err, "a model", (size_t)n * sizeof *slots);
    m->n = n;
    m->side = m->named = m;
    m->label = "memory";
    if (from && has_files(from->side)) {
        m->kept = tarn_model_retain((tarn_model *)(uintptr_t)from->side);
        m->side = m->kept;
    }
    st = st == TARN_OK ? tarn_names_find(cx, &m->arena, n, in, m->side->config, m->side->config_len, m->names, err)
                       : st;
    st = st == TARN_OK ? tarn_model_index(m, err) : st;
    if (st != TARN_OK) {
        tarn_model_release(m);
        return st;
    }
    *out = m;
    return TARN_OK;
}

static bool same_side(const tarn_model *a, const tarn_model *b) {
    return a == b || (!has_files(a) && !has_files(b));
}

// The signature that m's slots are those of; NULL: they have none yet.
static tarn_model *known_signature(const tarn_model *m) {
    const tarn_model *k = m->named;
    if (!k || k->op != &row_signature || k->n != m->n || !same_side(k->side, m->side)) {
        return NULL;
    }
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *a = &k->slots[i], *b = &m->slots[i];
        if (a->name != b->name || a->len != b->len || a->dtype != b->dtype ||
            !tarn_shape_equal(a->rank, a->shape, b->rank, b->shape)) {
            return NULL;
        }
    }
    return (tarn_model *)(uintptr_t)k;
}

tarn_status tarn_model_signature(tarn_context *cx, const tarn_model *m, tarn_model **out, tarn_error *err) {
    tarn_model *known = known_signature(m);
    if (known) {
        *out = tarn_model_retain(known);
        return TARN_OK;
    }
    return new_signature(cx, m->n, m->slots, m, out, err);
}

tarn_status tarn_model_signature_of(tarn_context *cx, int64_t n, const tarn_slot *slots, tarn_model **out,
                                    tarn_error *err) {
    return new_signature(cx, n, slots, NULL, out, err);
}

// ---- values ----

// A tensor as a model holds it: row-major, and not to be written to any more.
static tarn_status hold(tarn_context *cx, const tarn_tensor *t, tarn_tensor *out, tarn_error *err) {
    if (tarn_tensor_contiguous(t)) {
        tarn_tensor_share(t, out);
    } else {
        TARN_TRY(tarn_tensor_cast(cx, t, t->dtype, out, err));
    }
    out->storage->frozen = true;
    out->weak = false;
    return TARN_OK;
}

tarn_status tarn_model_of_values(tarn_context *cx, tarn_model *signature, const tarn_tensor *tensors,
                                 double mass, tarn_model **out, tarn_error *err) {
    tarn_model *m;
    size_t n = (size_t)signature->n;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_memory, 0, NULL, &m, err));
    held *h = tarn_arena_take(&m->arena, sizeof *h);
    tarn_tensor *t = tarn_arena_take(&m->arena, n * sizeof *t + 1);
    const tarn_source **s = tarn_arena_take(&m->arena, n * sizeof *s + 1);
    if (!h || !t || !s) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "a model", n * sizeof *t);
    }
    memset((void *)s, 0, n * sizeof *s);
    *h = (held){t, s};
    m->extra = h;
    m->kept = tarn_model_retain(signature);
    m->slots = signature->slots;
    m->by_name = signature->by_name;
    m->named = signature;
    m->side = signature->side;
    m->label = signature->label;
    m->mass = mass;
    for (size_t i = 0; i < n; i++) {
        if (hold(cx, &tensors[i], &t[i], err) != TARN_OK) {
            tarn_model_release(m);
            return err->status;
        }
        m->n++;
    }
    *out = m;
    return TARN_OK;
}

tarn_status tarn_model_of_tensors(tarn_context *cx, int64_t n, const char *const *names,
                                  const tarn_tensor *tensors, double mass, const tarn_model *from,
                                  tarn_model **out, tarn_error *err) {
    tarn_model *signature = NULL;
    tarn_slot *slots = NULL;
    size_t bytes = (size_t)n * sizeof *slots + 1;
    tarn_status s = TARN_OK;
    if (from) {
        s = tarn_model_signature(cx, from, &signature, err);
    } else {
        slots = tarn_alloc(&cx->budget, bytes);
        for (int64_t i = 0; slots && i < n; i++) {
            slots[i] = (tarn_slot){.name = names[i], .len = strlen(names[i]), .dtype = tensors[i].dtype,
                                   .rank = tensors[i].rank, .shape = tensors[i].shape};
        }
        s = slots ? new_signature(cx, n, slots, NULL, &signature, err) : tarn_raise_nomem(err, "a model", bytes);
        tarn_free(&cx->budget, slots, bytes);
    }
    s = s == TARN_OK ? tarn_model_of_values(cx, signature, tensors, mass, out, err) : s;
    if (s == TARN_OK && from) {
        (*out)->policy = from->policy;
    }
    tarn_model_release(signature);
    return s;
}
