// SPDX-License-Identifier: Apache-2.0
// Models inside a recorded function: recorded numbers and schedules of them times a model, recorded
// norms and inner products, models of recorded tensors. All else about them is as for any model.
#include <math.h>
#include <string.h>

#include "stdlib/bind/recording.h"

// The recorded tensor at idx; NULL: something else.
static const tarn_lua_tensor *recorded_at(lua_State *L, int idx) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    return u && u->recorded ? u : NULL;
}

const tarn_node *tarn_bind_recorded_number(lua_State *L, int idx, const char *what) {
    const tarn_lua_tensor *u = recorded_at(L, idx);
    tarn_graph *g = tarn_bind_recording(L);
    if (!u) {
        return NULL;
    }
    if (!g || u->graph != g) {
        tarn_lua_error(L, "%s: a tensor of a recording that has ended: return it from the function instead", what);
    }
    const tarn_node *c = tarn_bind_node(L, idx, g);
    if (tarn_desc_numel(&c->desc) != 1) {
        tarn_lua_error(L, "%s: expected one number, got a tensor of shape %s", what,
                       tarn_bind_shape_text(L, c->desc.rank, c->desc.shape));
    }
    return c->desc.rank > 0 ? tarn_reshape(g, c, 0, &(int64_t){0}) : c;
}

// The value at idx, of one element, as a rank-0 node.
static const tarn_node *factor(lua_State *L, int idx, const tarn_op *op, tarn_graph *g) {
    if (tarn_bind_to_tensor(L, idx) && tarn_bind_to_tensor(L, idx)->graph && tarn_bind_to_tensor(L, idx)->graph != g) {
        tarn_lua_error(L, "%s: a tensor of a recording that has ended: return it from the function instead", op->name);
    }
    const tarn_node *c = tarn_bind_node(L, idx, g);
    if (tarn_desc_numel(&c->desc) != 1) {
        tarn_lua_error(L, "%s: a model meets a tensor of shape %s; expected one number, a model, or by.depth(t) with one "
                       "number a layer", op->name, tarn_bind_shape_text(L, c->desc.rank, c->desc.shape));
    }
    return c->desc.rank > 0 ? tarn_reshape(g, c, 0, &(int64_t){0}) : c;
}

// What a factor makes of the mass: a recorded number is not known, so neither is its product with a point.
static double mass_of(const tarn_op *op, const tarn_model *m, bool reversed) {
    if (op->mass.scale != 0) {
        return m->mass == 0 || (reversed && op->mass.scale < 0) ? 0 : (double)NAN;
    }
    return op->mass.a != 0 || op->mass.b != 0 ? tarn_mass_of(op, reversed ? 0 : m->mass, reversed ? m->mass : 0) : m->mass;
}

// Pushes m op c for each tensor: c is the one at `other`, or each of the list there.
static int combine(lua_State *L, const tarn_op *op, tarn_graph *g, tarn_model *m, int other, bool list, bool reversed) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    luaL_checkstack(L, 12, op->name);
    const tarn_node **node = tarn_bind_scratch(L, (size_t)m->n * sizeof *node);
    const tarn_node *one = list ? NULL : factor(L, other, op, g);
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_node *x = tarn_model_recorded(g, m, i), *c = one;
        if (list && !tarn_slot_integer(&m->slots[i])) {
            lua_rawgeti(L, other, (lua_Integer)i + 1);
            c = factor(L, lua_gettop(L), op, g);
            lua_pop(L, 1);
        }
        node[i] = tarn_slot_integer(&m->slots[i]) ? x : tarn_binary(g, op, reversed ? c : x, reversed ? x : c);
        if (!node[i]) {
            tarn_bind_fail(L, g);
        }
    }
    tarn_model **signature = tarn_bind_new_model(L), **out = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_signature(cx, m, signature, &err), &err);
    TARN_LUA_TRY(L, tarn_model_of_nodes(cx, *signature, g, node, mass_of(op, m, reversed), out, &err), &err);
    (*out)->policy = m->policy;
    return 1;
}

bool tarn_bind_recorded_factor(lua_State *L, const tarn_op *op, tarn_model *m, int other, bool reversed) {
    tarn_graph *g = tarn_bind_recording(L);
    bool list = false, any = recorded_at(L, other) != NULL;
    if (!g && !any) {
        return false;
    }
    if (!any && tarn_bind_schedule_values(L, other, m)) {
        list = true;
        other = lua_gettop(L);
        for (lua_Integer i = 1; i <= m->n && !any; i++) {
            lua_rawgeti(L, other, i);
            any = recorded_at(L, -1) != NULL;
            lua_pop(L, 1);
        }
        if (!any) {
            lua_pop(L, 1);
        }
    }
    if (!any) {
        return false;
    }
    if (!g) {
        tarn_lua_error(L, "%s: a tensor of a recording that has ended: return it from the function instead", op->name);
    }
    luaL_checkstack(L, 4, op->name);
    *tarn_bind_new_model(L) = tarn_model_retain(m);
    m = tarn_bind_ready(L, lua_gettop(L), op->name);
    combine(L, op, g, m, other, list, reversed);
    return true;
}

// ---- numbers ----

static _Noreturn void raise(lua_State *L, const tarn_error *err) {
    tarn_lua_raise(L, err);
    __builtin_unreachable();
}

static const tarn_node *dot(lua_State *L, tarn_graph *g, tarn_model *a, tarn_model *b) {
    tarn_error err;
    tarn_error_clear(&err);
    if (tarn_model_compare(a, b, a->policy.missing, b->mass == 0, &err) != TARN_OK ||
        tarn_model_compare(b, a, b->policy.missing, a->mass == 0, &err) != TARN_OK) {
        raise(L, &err);
    }
    const tarn_node *d = tarn_model_recorded_dot(g, a, b);
    if (!d) {
        tarn_bind_fail(L, g);
    }
    return d;
}

bool tarn_bind_recorded_dot(lua_State *L, const char *function, bool cosine) {
    tarn_model *a = tarn_bind_check_model(L, 1), *b = tarn_bind_check_model(L, 2);
    if (!a->recording && !b->recording) {
        return false;
    }
    lua_settop(L, 2);
    a = tarn_bind_ready(L, 1, function);
    b = tarn_bind_ready(L, 2, function);
    tarn_graph *g = tarn_bind_recording(L);
    const tarn_node *d = dot(L, g, a, b);
    if (cosine) {
        d = tarn_div(g, d, tarn_mul(g, tarn_sqrt(g, dot(L, g, a, a)), tarn_sqrt(g, dot(L, g, b, b))));
    }
    tarn_bind_push_node(L, g, d, true);
    return true;
}

bool tarn_bind_recorded_norm(lua_State *L, double p) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    if (!m->recording) {
        return false;
    }
    m = tarn_bind_ready(L, 1, "model:norm");
    tarn_graph *g = m->recording;
    const tarn_node *sum = NULL;
    if (p == 2) {
        sum = tarn_sqrt(g, dot(L, g, m, m));
    }
    for (int64_t j = 0; p != 2 && j < m->n; j++) {
        int64_t i = m->by_name[j];
        if (tarn_slot_integer(&m->slots[i]) || tarn_slot_numel(&m->slots[i]) == 0) {
            continue;
        }
        const tarn_node *x = tarn_abs(g, tarn_model_recorded(g, m, i));
        const tarn_node *one = tarn_total(g, p == 1 ? &tarn_op_sum : &tarn_op_max, x);
        sum = !sum ? one : p == 1 ? tarn_add(g, sum, one) : tarn_maximum(g, sum, one);
    }
    tarn_bind_push_node(L, g, sum ? sum : g->err.status == TARN_OK ? tarn_num(g, 0) : NULL, true);
    return true;
}

// ---- models of recorded tensors ----

void tarn_bind_new_recorded(lua_State *L, int64_t n, const char *const *names, const int *at, double mass) {
    tarn_context *cx = tarn_host_context(L);
    tarn_graph *g = tarn_bind_recording(L);
    tarn_error err;
    if (!g) {
        tarn_lua_error(L, "model.new: a tensor of a recording that has ended: return it from the function instead");
    }
    const tarn_node **node = tarn_bind_scratch(L, (size_t)n * sizeof *node);
    tarn_slot *slots = tarn_bind_scratch(L, (size_t)n * sizeof *slots);
    for (int64_t i = 0; i < n; i++) {
        node[i] = tarn_bind_node(L, at[i], g);
        const tarn_desc *d = &node[i]->desc;
        slots[i] = (tarn_slot){.name = names[i], .len = strlen(names[i]), .dtype = tarn_dtype_compute(d->dtype),
                               .rank = d->rank, .shape = d->shape};
    }
    tarn_model **signature = tarn_bind_new_model(L), **m = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    if (tarn_model_signature_of(cx, n, slots, signature, &err) != TARN_OK ||
        tarn_model_of_nodes(cx, *signature, g, node, mass, m, &err) != TARN_OK) {
        raise(L, &err);
    }
}
