// SPDX-License-Identifier: Apache-2.0
// Tensors that no file has: zeros, or normal numbers from the counter generator, keyed by seed and
// name. For what is added to a model, such as the router of a mixture of experts.
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "merge/model/structure.h"
#include "vm/base/digest.h"

static const tarn_node *expand_fill(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_slot *s = &m->slots[i];
    double std = tarn_model_value(m, "std", -1)->number,
           seed = tarn_model_value(m, "seed", -1)->number;
    tarn_dtype t = tarn_dtype_compute(s->dtype);
    if (std == 0) {
        return tarn_broadcast(e->graph, tarn_cast(e->graph, tarn_num(e->graph, 0), t), s->rank,
                              s->shape);
    }
    uint64_t key = tarn_hash64((uint64_t)(int64_t)seed, s->name, s->len);
    int64_t at[TARN_MAX_RANK + 2] = {t};
    memcpy(at + 1, s->shape, (size_t)s->rank * sizeof *at);
    memcpy(&at[s->rank + 1], &key, sizeof key);
    tarn_attr a = {.ni = s->rank + 2, .i = at};
    return tarn_mul(e->graph, tarn_node_make(e->graph, &tarn_op_normal, 0, NULL, &a),
                    tarn_num(e->graph, std));
}

static void write_fill(const tarn_model *m, tarn_text *out) {
    tarn_text_puts(out, ",\"tensors\":[");
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        tarn_text_puts(out, i ? ",{\"name\":" : "{\"name\":");
        tarn_text_json(out, s->name, s->len);
        tarn_text_printf(out, ",\"dtype\":\"%s\",\"shape\":[", tarn_dtype_get(s->dtype)->name);
        for (int d = 0; d < s->rank; d++) {
            tarn_text_printf(out, d ? ",%lld" : "%lld", (long long)s->shape[d]);
        }
        tarn_text_puts(out, "]}");
    }
    tarn_text_puts(out, "]");
}

static tarn_status read_slot(const tarn_model_json *j, const json_t *o, tarn_slot *s,
                             tarn_error *err) {
    const json_t *dims = json_object_get(o, "shape");
    const char *name = json_string_value(json_object_get(o, "name")),
               *dtype = json_string_value(json_object_get(o, "dtype"));
    size_t rank = json_array_size(dims);
    int64_t *shape = tarn_arena_take(j->arena, (rank + 1) * sizeof *shape);
    if (!shape) {
        return tarn_raise_nomem(err, "a plan", rank * sizeof *shape);
    }
    if (!name || !dtype || !tarn_dtype_find(dtype, &s->dtype) || !json_is_array(dims) ||
        rank > TARN_MAX_RANK) {
        TARN_RAISE(err, "PlanInvalid", "plan: fill: a tensor without name, dtype or shape");
    }
    TARN_TRY(tarn_restore_only(o, name, "name|dtype|shape", NULL, err));
    for (size_t d = 0; d < rank; d++) {
        const json_t *x = json_array_get(dims, d);
        shape[d] = json_is_integer(x) ? json_integer_value(x) : -1;
    }
    *s = (tarn_slot){
        .name = name, .len = strlen(name), .dtype = s->dtype, .rank = (int)rank, .shape = shape};
    return TARN_OK;
}

static tarn_status restore_fill(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const void *list;
    TARN_TRY(tarn_restore_list(j, "tensors", &list, err));
    size_t n = json_array_size(list);
    tarn_slot *slots = tarn_arena_take(j->arena, n * sizeof *slots + 1);
    if (!slots) {
        return tarn_raise_nomem(err, "a plan", n * sizeof *slots);
    }
    if (nin != 1 || j->nvalues != 2 || strcmp(j->values[0].name, "std") ||
        strcmp(j->values[1].name, "seed") || j->values[0].each || j->values[1].each) {
        TARN_RAISE(err, "PlanInvalid", "plan: fill takes one model, std and seed");
    }
    for (size_t k = 0; k < n; k++) {
        TARN_TRY(read_slot(j, json_array_get(list, k), &slots[k], err));
    }
    return tarn_model_fill(cx, in[0], (int64_t)n, slots, j->values[0].number, j->values[1].number,
                           out, err);
}

const tarn_model_op tarn_model_row_fill = {
    .name = "fill", .expand = expand_fill, .members = "tensors", .write = write_fill, .restore = restore_fill};

static tarn_status fill(tarn_model *m, int64_t n, const tarn_slot *slots, tarn_error *err) {
    m->slots = tarn_arena_copy(&m->arena, slots, (size_t)n * sizeof *slots);
    m->map = tarn_arena_take(&m->arena, sizeof *m->map);
    int64_t *none = tarn_arena_take(&m->arena, (size_t)n * sizeof *none + 1);
    if (!m->slots || !m->map || !none) {
        return tarn_raise_nomem(err, "a model", (size_t)n * sizeof *slots);
    }
    m->map[0] = none;
    for (int64_t i = 0, numel; i < n; i++) {
        tarn_slot *s = &m->slots[i];
        TARN_TRY(tarn_shape_numel(s->rank, s->shape, &numel, err));
        if (!tarn_dtype_is_float(s->dtype)) {
            TARN_RAISE(err, "OptionType", "fill: %s: %s is no floating dtype", s->name,
                       tarn_dtype_get(s->dtype)->name);
        }
        none[i] = -1;
        s->name = tarn_arena_string(&m->arena, s->name, s->len);
        s->shape = tarn_arena_copy(&m->arena, s->shape, (size_t)s->rank * sizeof *s->shape);
        if (!s->name || !s->shape) {
            return tarn_raise_nomem(err, "a model", s->len);
        }
    }
    m->n = n;
    return TARN_OK;
}

tarn_status tarn_model_fill(tarn_context *cx, tarn_model *beside, int64_t n, const tarn_slot *slots,
                            double std, double seed, tarn_model **out, tarn_error *err) {
    if (!(std >= 0 && std < 1e30) || !(seed >= 0 && seed <= 9007199254740991.0) ||
        seed != floor(seed)) {
        TARN_RAISE(err, "OptionRange",
                   "fill: std = %g and seed = %g; expected 0 or more, and a whole number", std,
                   seed);
    }
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_fill, 1, &beside, &m, err));
    m->values = tarn_arena_take(&m->arena, 2 * sizeof *m->values);
    tarn_status s = m->values ? fill(m, n, slots, err) : tarn_raise_nomem(err, "a model", 0);
    if (s == TARN_OK) {
        m->nvalues = 2;
        m->values[0] = (tarn_value){.name = "std", .model = -1, .number = std, .origin = "given"};
        m->values[1] = (tarn_value){.name = "seed", .model = -1, .number = seed, .origin = "given"};
        m->side = beside->side;
        m->mass = beside->mass;
        s = tarn_model_index(m, err);
        s = s == TARN_OK ? tarn_model_find_names(m, err) : s;
    }
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}
