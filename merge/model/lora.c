// SPDX-License-Identifier: Apache-2.0
// The node of an adapter: operands are the base (for its names, and its values where DoRA or whole
// tensors need them) and the adapter's tensors. The product B A is made when a tensor is built,
// from two thin matrices; nothing of the base's size is stored. LoRA: Hu et al. 2021,
// arXiv:2106.09685.
#include "merge/model/lora.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vm/base/size.h"

// ---- the expression ----

static const tarn_node *tensor(tarn_expand *e, tarn_model *m, int64_t slot) {
    const tarn_node *x = slot < 0 ? NULL : tarn_model_expr(e, m->in[1], slot);
    return x ? tarn_cast(e->graph, x, tarn_dtype_compute(x->desc.dtype)) : NULL;
}

// As a matrix: the first axis, and all others together (kernels of convolutions).
static const tarn_node *matrix(tarn_graph *g, const tarn_node *x) {
    int64_t numel = x ? tarn_desc_numel(&x->desc) : 0, rows = x ? x->desc.shape[0] : 0;
    int64_t shape[2] = {rows, rows ? numel / rows : 0};
    return x && x->desc.rank != 2 ? tarn_reshape(g, x, 2, shape) : x;
}

static const tarn_node *product(tarn_expand *e, tarn_model *m, const tarn_lora_part *p) {
    static const int64_t swap[2] = {1, 0};
    tarn_graph *g = e->graph;
    const tarn_slot *s = &m->in[0]->slots[p->slot];
    const tarn_node *b = tensor(e, m, p->b), *a = tensor(e, m, p->a), *d;
    if (p->a < 0) {
        d = b;
    } else {
        a = matrix(g, a);
        b = matrix(g, b);
        d = a && b ? tarn_matmul(g, b, a) : NULL;
        d = d && p->turned ? tarn_permute(g, d, swap) : d;
        d = d ? tarn_reshape(g, d, s->rank, s->shape) : NULL;
    }
    return d && p->scale != 1 ? tarn_mul(g, d, tarn_num(g, p->scale)) : d;
}

// (m / |v|) v, the norm over the inputs of each output; zero where |v| is.
static const tarn_node *rescale(tarn_expand *e, tarn_model *m, const tarn_lora_part *p,
                                const tarn_node *v) {
    tarn_graph *g = e->graph;
    int outputs = p->turned ? 1 : 0, n = 0;
    int64_t axes[TARN_MAX_RANK], shape[TARN_MAX_RANK];
    for (int d = 0; d < v->desc.rank; d++) {
        shape[d] = d == outputs ? v->desc.shape[d] : 1;
        if (d != outputs) {
            axes[n++] = d;
        }
    }
    const tarn_node *length =
        tarn_sqrt(g, tarn_reduce(g, &tarn_op_sum, tarn_mul(g, v, v), n, axes, true));
    const tarn_node *magnitude = tarn_reshape(g, tensor(e, m, p->magnitude), v->desc.rank, shape);
    const tarn_node *zero = tarn_num(g, 0);
    const tarn_node *factor =
        tarn_where(g, tarn_ne(g, length, zero), tarn_div(g, magnitude, length), zero);
    return tarn_mul(g, v, factor);
}

static const tarn_node *expand_lora(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_lora_part *p = &((const tarn_lora_part *)m->extra)[i];
    tarn_graph *g = e->graph;
    const tarn_node *d = p->b < 0 ? NULL : product(e, m, p);
    if (p->magnitude < 0 && p->full < 0) {
        return d;
    }
    const tarn_node *w = tarn_model_expr(e, m->in[0], p->slot);
    if (p->full >= 0) {
        const tarn_node *change = tarn_sub(g, tensor(e, m, p->full), w);
        return d ? tarn_add(g, change, d) : change;
    }
    const tarn_node *v = tarn_add(g, w, d);
    return v ? tarn_sub(g, rescale(e, m, p, v), w) : NULL;
}

// ---- the plan ----

static void write_slot(tarn_text *out, const char *key, const tarn_model *m, int64_t slot) {
    if (slot >= 0) {
        tarn_text_printf(out, ",\"%s\":", key);
        tarn_text_json(out, m->slots[slot].name, m->slots[slot].len);
    }
}

static void write_lora(const tarn_model *m, tarn_text *out) {
    tarn_text_puts(out, ",\"tensors\":[");
    for (int64_t k = 0; k < m->n; k++) {
        int64_t i = m->by_name[k];
        const tarn_lora_part *p = &((const tarn_lora_part *)m->extra)[i];
        tarn_text_puts(out, k ? ",{\"name\":" : "{\"name\":");
        tarn_text_json(out, m->slots[i].name, m->slots[i].len);
        write_slot(out, "a", m->in[1], p->a);
        write_slot(out, "b", m->in[1], p->b);
        write_slot(out, "magnitude", m->in[1], p->magnitude);
        write_slot(out, "full", m->in[1], p->full);
        tarn_text_puts(out, ",\"scale\":");
        tarn_model_write_number(out, p->scale);
        tarn_text_puts(out, p->turned ? ",\"turned\":true}" : "}");
    }
    tarn_text_puts(out, "]");
}

static tarn_status read_slot(const json_t *o, const char *key, const tarn_model *m, int64_t *slot,
                             tarn_error *err) {
    const json_t *v = json_object_get(o, key);
    const char *name = json_string_value(v);
    *slot = name ? tarn_model_find(m, name, strlen(name)) : -1;
    if (v && *slot < 0) {
        TARN_RAISE(err, "PlanInvalid", "plan: lora: no tensor %.200s in %s",
                   name ? name : "of that name", tarn_model_label(m));
    }
    return TARN_OK;
}

static tarn_status read_part(const json_t *o, tarn_model *const *in, tarn_lora_part *p,
                             tarn_error *err) {
    TARN_TRY(read_slot(o, "name", in[0], &p->slot, err));
    TARN_TRY(read_slot(o, "a", in[1], &p->a, err));
    TARN_TRY(read_slot(o, "b", in[1], &p->b, err));
    TARN_TRY(read_slot(o, "magnitude", in[1], &p->magnitude, err));
    TARN_TRY(read_slot(o, "full", in[1], &p->full, err));
    TARN_TRY(tarn_restore_only(o, "lora", "name|a|b|magnitude|full|scale|turned", NULL, err));
    const json_t *turned = json_object_get(o, "turned");
    p->turned = json_is_true(turned);
    if ((turned && !json_is_boolean(turned)) || p->slot < 0 || !tarn_model_read_number(json_object_get(o, "scale"), &p->scale)) {
        TARN_RAISE(err, "PlanInvalid", "plan: lora: a tensor without name or scale, or turned otherwise than true or false");
    }
    return TARN_OK;
}

static tarn_status restore_lora(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const void *list;
    TARN_TRY(tarn_restore_list(j, "tensors", &list, err));
    size_t n = json_array_size(list);
    if (nin != 2) {
        TARN_RAISE(err, "PlanInvalid", "plan: lora takes a base and an adapter, got %d models", nin);
    }
    tarn_lora_part *parts = tarn_arena_take(j->arena, n * sizeof *parts + 1);
    if (!parts) {
        return tarn_raise_nomem(err, "a plan", n * sizeof *parts);
    }
    for (size_t k = 0; k < n; k++) {
        TARN_TRY(read_part(json_array_get(list, k), in, &parts[k], err));
    }
    return tarn_model_lora(cx, in[0], in[1], (int64_t)n, parts, out, err);
}

const tarn_model_op tarn_model_row_lora = {
    .name = "lora", .expand = expand_lora, .members = "tensors", .write = write_lora, .restore = restore_lora};

// ---- making ----

static const char *name_of(const tarn_model *m, int64_t slot) { return m->slots[slot].name; }

// Rows and columns of a factor as `matrix` sees it; false: no matrix.
static bool sides(const tarn_slot *s, int64_t *rows, int64_t *columns) {
    *rows = s->rank > 0 ? s->shape[0] : 0;
    *columns = 1;
    for (int d = 1; d < s->rank; d++) {
        if (!tarn_mul_i64(*columns, s->shape[d], columns)) {
            return false;
        }
    }
    return s->rank >= 2;
}

static void show_shape(tarn_text *t, const tarn_slot *s) {
    tarn_text_puts(t, "[");
    for (int d = 0; d < s->rank; d++) {
        tarn_text_printf(t, d ? ", %lld" : "%lld", (long long)s->shape[d]);
    }
    tarn_text_puts(t, "]");
}

static tarn_status misfit(const tarn_model *base, const tarn_model *adapter, int64_t slot,
                          int64_t other, const char *what, tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &base->cx->budget);
    tarn_text_printf(&t, "%s of %s ", name_of(adapter, other), tarn_model_label(adapter));
    show_shape(&t, &adapter->slots[other]);
    tarn_text_printf(&t, " %s %s of %s ", what, name_of(base, slot), tarn_model_label(base));
    show_shape(&t, &base->slots[slot]);
    tarn_status s = t.failed ? tarn_raise_nomem(err, "a message", t.len)
                             : tarn_raise(err, "AdapterShape", "%s", t.data);
    tarn_text_free(&t);
    return s;
}

// B [out, r], A [r, in] and the base's tensor of out · in elements, its first (turned: last) axis
// out.
static tarn_status check_factors(const tarn_model *base, const tarn_model *adapter,
                                 const tarn_lora_part *p, tarn_error *err) {
    int64_t outs, r, ranks, ins, rows, columns;
    const tarn_slot *s = &base->slots[p->slot];
    bool good =
        sides(&adapter->slots[p->b], &outs, &r) && sides(&adapter->slots[p->a], &ranks, &ins);
    if (good && r != ranks) {
        TARN_RAISE(err, "AdapterRank", "%s of %s has rank %lld, %s has rank %lld",
                   name_of(adapter, p->a), tarn_model_label(adapter), (long long)ranks,
                   name_of(adapter, p->b), (long long)r);
    }
    good = good && sides(s, &rows, &columns) && (!p->turned || s->rank == 2);
    if (!good || rows != (p->turned ? ins : outs) || columns != (p->turned ? outs : ins)) {
        return misfit(base, adapter, p->slot, p->b, "and its lora_A do not make", err);
    }
    if (p->magnitude >= 0) {
        int64_t n = tarn_slot_numel(&adapter->slots[p->magnitude]);
        return n == outs ? TARN_OK
                         : misfit(base, adapter, p->slot, p->magnitude,
                                  "has not one number per output of", err);
    }
    return TARN_OK;
}

static tarn_status check_part(const tarn_model *base, const tarn_model *adapter,
                              const tarn_lora_part *p, tarn_error *err) {
    const tarn_slot *s = &base->slots[p->slot];
    if (!tarn_dtype_is_float(s->dtype)) {
        TARN_RAISE(err, "AdapterShape",
                   "%s of %s holds %s, not floating numbers: an adapter cannot be added to it",
                   s->name, tarn_model_label(base), tarn_dtype_get(s->dtype)->name);
    }
    bool bias = p->a < 0 && p->full < 0 && p->b >= 0 && adapter->slots[p->b].rank == 1;
    if (p->b < 0 ? p->a >= 0 || p->full < 0 : p->a < 0 && !bias) {
        TARN_RAISE(err, "AdapterPair", "%s: %s has one of lora_A and lora_B and lacks the other",
                   s->name, tarn_model_label(adapter));
    }
    if (p->magnitude >= 0 && (p->a < 0 || p->full >= 0)) {
        TARN_RAISE(err, "AdapterPair", "%s: %s has a magnitude and no factors for it", s->name,
                   tarn_model_label(adapter));
    }
    if (p->full >= 0) {
        const tarn_slot *f = &adapter->slots[p->full];
        if (!tarn_shape_equal(s->rank, s->shape, f->rank, f->shape)) {
            return misfit(base, adapter, p->slot, p->full, "does not replace", err);
        }
    }
    if (p->a >= 0) {
        return check_factors(base, adapter, p, err);
    }
    if (bias && !tarn_shape_equal(s->rank, s->shape, adapter->slots[p->b].rank,
                                  adapter->slots[p->b].shape)) {
        return misfit(base, adapter, p->slot, p->b, "is no bias for", err);
    }
    return TARN_OK;
}

static int by_slot(const void *pa, const void *pb) {
    const tarn_lora_part *a = pa, *b = pb;
    return (a->slot > b->slot) - (a->slot < b->slot);
}

static tarn_status fill(tarn_model *m, int64_t n, const tarn_lora_part *parts, tarn_error *err) {
    tarn_lora_part *own = tarn_arena_copy(&m->arena, parts, (size_t)n * sizeof *parts);
    m->slots = tarn_arena_take(&m->arena, (size_t)n * sizeof *m->slots + 1);
    m->map = tarn_arena_take(&m->arena, 2 * sizeof *m->map);
    int64_t *base = tarn_arena_take(&m->arena, (size_t)n * sizeof *base + 1);
    int64_t *adapter = tarn_arena_take(&m->arena, (size_t)n * sizeof *adapter + 1);
    if (!own || !m->slots || !m->map || !base || !adapter) {
        return tarn_raise_nomem(err, "an adapter", (size_t)n * sizeof *own);
    }
    qsort(own, (size_t)n, sizeof *own, by_slot);
    m->extra = own;
    m->map[0] = base;
    m->map[1] = adapter;
    for (; m->n < n; m->n++) {
        const tarn_lora_part *p = &own[m->n];
        TARN_TRY(check_part(m->in[0], m->in[1], p, err));
        m->slots[m->n] = m->in[0]->slots[p->slot];
        base[m->n] = p->slot;
        adapter[m->n] = p->b >= 0 ? p->b : p->full;
    }
    m->side = m->in[0]->side;
    m->named = m->in[0]->named;
    return tarn_model_index(m, err);
}

tarn_status tarn_model_lora(tarn_context *cx, tarn_model *base, tarn_model *adapter, int64_t n,
                            const tarn_lora_part *parts, tarn_model **out, tarn_error *err) {
    tarn_model *in[2] = {base, adapter}, *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_lora, 2, in, &m, err));
    tarn_status s = fill(m, n, parts, err);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}
