// SPDX-License-Identifier: Apache-2.0
// Brackets on a tensor: t[2], t[{1, -1}], t[{ {2, 5}, 3 }], t[rows], and the names of fields and
// methods. Indices count from 1, negative ones from the end; ranges include both ends. In memory the
// result is a view of the same elements; of an expression it is an expression.
#include <string.h>

#include "stdlib/bind/tensor.h"

// What one key asks of every axis.
typedef struct {
    int64_t range[3 * TARN_MAX_RANK];  // start, count, step
    bool drop[TARN_MAX_RANK];          // a single index: the axis goes
} selection;

static _Noreturn void outside(lua_State *L, lua_Integer i, int axis, int64_t size) {
    tarn_lua_error(L, "index %lld is outside axis %d, which has %lld element%s (1 to %lld, or -%lld to -1)",
                   (long long)i, axis + 1, (long long)size, size == 1 ? "" : "s", (long long)size,
                   (long long)size);
    __builtin_unreachable();
}

static lua_Integer whole(lua_State *L, int idx, int axis) {
    int is = 0;
    lua_Integer v = lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &is) : 0;
    if (!is) {
        tarn_lua_error(L, "axis %d: an index is a whole number, a range {first, last} or {} for all, "
                       "not %s", axis + 1,
                       lua_type(L, idx) == LUA_TNUMBER ? lua_tostring(L, idx) : tarn_bind_kind(L, idx));
    }
    return v;
}

// A 1-based or negative index as a 0-based one. `ends`: one place before the first and one behind
// the last are still no error (empty ranges).
static int64_t resolve(lua_State *L, lua_Integer i, int axis, int64_t size, bool ends) {
    int64_t at = i < 0 ? size + i : i - 1;
    int64_t least = ends ? -1 : 0, most = ends ? size : size - 1;
    if (at < least || at > most || (i == 0 && !ends)) {
        outside(L, i, axis, size);
    }
    return at;
}

// {}, {first}, {first, last}, {first, last, step} on top of the stack.
static void read_range(lua_State *L, int axis, int64_t size, int64_t *range) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1), v[3] = {1, -1, 1};
    if (n > 3) {
        tarn_lua_error(L, "axis %d: a range is {first, last, step}, got %d numbers", axis + 1, (int)n);
    }
    tarn_lua_check_options(L, -1, "a range", (const char *const[]){NULL}, true);
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, -1, k + 1);
        v[k] = whole(L, -1, axis);
        lua_pop(L, 1);
    }
    if (v[2] < 1) {
        tarn_lua_error(L, "axis %d: the step of a range is at least 1, not %lld", axis + 1,
                       (long long)v[2]);
    }
    int64_t first = size == 0 && n == 0 ? 0 : resolve(L, v[0], axis, size, true);
    int64_t last = size == 0 && n == 0 ? -1 : resolve(L, v[1], axis, size, true);
    if (last >= first && (first < 0 || last >= size)) {
        outside(L, first < 0 ? v[0] : v[1], axis, size);
    }
    range[2] = v[2];
    range[1] = last < first ? 0 : (last - first) / v[2] + 1;
    range[0] = range[1] == 0 ? 0 : first;
}

static void read_axis(lua_State *L, int axis, int64_t size, selection *s) {
    int64_t *range = s->range + 3 * axis;
    if (lua_type(L, -1) == LUA_TTABLE) {
        read_range(L, axis, size, range);
    } else {
        range[0] = resolve(L, whole(L, -1, axis), axis, size, false);
        range[1] = range[2] = 1;
        s->drop[axis] = true;
    }
}

static void read_selection(lua_State *L, int key, const tarn_desc *d, selection *s) {
    memset(s, 0, sizeof *s);
    for (int k = 0; k < d->rank; k++) {
        s->range[3 * k + 1] = d->shape[k];
        s->range[3 * k + 2] = 1;
    }
    bool list = lua_type(L, key) == LUA_TTABLE;
    lua_Integer n = list ? (lua_Integer)lua_rawlen(L, key) : 1;
    if (list) {
        tarn_lua_check_options(L, key, "an index", (const char *const[]){NULL}, true);
    }
    if (n > d->rank) {
        tarn_lua_error(L, "%lld indices for a tensor of rank %d", (long long)n, d->rank);
    }
    for (int k = 0; k < n; k++) {
        if (list) {
            lua_rawgeti(L, key, k + 1);
        } else {
            lua_pushvalue(L, key);
        }
        read_axis(L, k, d->shape[k], s);
        lua_pop(L, 1);
    }
}

// A view of the same memory: what is written to it is written to the tensor.
static int select_view(lua_State *L, const tarn_lua_tensor *u, const selection *s) {
    tarn_lua_tensor *v = tarn_bind_new_tensor(L);
    tarn_tensor_share(&u->t, &v->t);
    v->t.rank = 0;
    for (int k = 0; k < u->t.rank; k++) {
        const int64_t *r = s->range + 3 * k;
        v->t.offset += r[0] * u->t.stride[k];
        if (!s->drop[k]) {
            v->t.shape[v->t.rank] = r[1];
            v->t.stride[v->t.rank++] = u->t.stride[k] * r[2];
        }
    }
    return tarn_bind_settle(L);
}

static int select_node(lua_State *L, int idx, const tarn_desc *d, const selection *s) {
    int64_t shape[TARN_MAX_RANK] = {1}, first = 0;
    int rank = 0, top = lua_gettop(L);
    tarn_attr slice = {.ni = 3 * d->rank, .i = s->range}, item = {.ni = 1, .i = &first};
    bool all = true;
    for (int k = 0; k < d->rank; k++) {
        all = all && s->range[3 * k + 1] == d->shape[k] && s->range[3 * k + 2] == 1;
        if (!s->drop[k]) {
            shape[rank++] = s->range[3 * k + 1];
        }
    }
    if (d->rank == 1 && rank == 0) {
        first = s->range[0];
        return tarn_bind_unary(L, &tarn_op_item, idx, &item);
    }
    if (all) {
        lua_pushvalue(L, idx);
    } else {
        tarn_bind_unary(L, &tarn_op_slice, idx, &slice);
    }
    if (rank > 0 || d->rank == 0) {
        tarn_bind_reshape(L, -1, rank, shape);
    } else {
        tarn_bind_reshape(L, -1, 1, shape);
        tarn_bind_unary(L, &tarn_op_item, -1, &item);
    }
    return tarn_bind_only(L, top);
}

int tarn_bind_select(lua_State *L, int idx, int key) {
    tarn_desc d;
    selection s;
    idx = lua_absindex(L, idx);
    tarn_bind_desc(L, idx, "index", &d);
    read_selection(L, lua_absindex(L, key), &d, &s);
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    return u->t.storage ? select_view(L, u, &s) : select_node(L, idx, &d, &s);
}

// ---- fields ----

const char *tarn_bind_shape_text(lua_State *L, int rank, const int64_t *shape) {
    luaL_Buffer b;
    luaL_checkstack(L, 4, "shape");
    luaL_buffinit(L, &b);
    luaL_addchar(&b, '[');
    for (int k = 0; k < rank; k++) {
        lua_pushfstring(L, k ? ", %I" : "%I", (LUAI_UACINT)shape[k]);
        luaL_addvalue(&b);
    }
    luaL_addchar(&b, ']');
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

static int shape_tostring(lua_State *L) {
    int64_t shape[TARN_MAX_RANK];
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    n = n < TARN_MAX_RANK ? n : TARN_MAX_RANK;
    for (lua_Integer k = 0; k < n; k++) {
        lua_rawgeti(L, 1, k + 1);
        shape[k] = lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    tarn_bind_shape_text(L, (int)n, shape);
    return 1;
}

static int shape_equal(lua_State *L) {
    bool same = lua_rawlen(L, 1) == lua_rawlen(L, 2);
    for (lua_Integer k = 1; same && k <= (lua_Integer)lua_rawlen(L, 1); k++) {
        lua_rawgeti(L, 1, k);
        lua_rawgeti(L, 2, k);
        same = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
    }
    lua_pushboolean(L, same);
    return 1;
}

static int shape_call(lua_State *L) {
    return tarn_lua_error(L, "shape is a field: t.shape[1], not t:shape()");
}

static int push_shape(lua_State *L, const tarn_desc *d) {
    lua_createtable(L, d->rank, 0);
    for (int k = 0; k < d->rank; k++) {
        lua_pushinteger(L, d->shape[k]);
        lua_rawseti(L, -2, k + 1);
    }
    if (luaL_newmetatable(L, "shape")) {
        static const luaL_Reg functions[] = {{"__tostring", shape_tostring}, {"__eq", shape_equal},
                                             {"__call", shape_call}, {NULL, NULL}};
        luaL_setfuncs(L, functions, 0);
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return 1;
}

// What PyTorch and NumPy call things that have another name here, and which no near name leads to.
static const char *elsewhere(const char *name) {
    static const char *const names[][2] = {
        {"view", "t:reshape({2, 3})"},  {"size", "t.shape"},           {"dim", "t.rank"},
        {"ndim", "t.rank"},             {"mm", "t:matmul(other)"},     {"bmm", "t:matmul(other)"},
        {"T", "t:t()"},                 {"mT", "t:transpose(-2, -1)"}, {"cat", "tensor.cat { t, other }"},
        {"tolist", "t:totable()"},      {"numpy", "t:totable()"},      {"float", "t:to \"f32\""},
        {"double", "t:to \"f64\""},     {"half", "t:to \"f16\""},      {"long", "t:to \"i64\""},
        {"astype", "t:to \"f32\""},     {"type", "t:to \"f32\""},       {"inv", "t:pinv()"},
        {"inverse", "t:pinv()"}, {"percentile", "t:quantile(0.9)"}, {"argwhere", "t:nonzero()"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i][0], name) == 0) {
            return names[i][1];
        }
    }
    return NULL;
}

static int field(lua_State *L, const char *name) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, 1);
    tarn_desc d;
    if (strcmp(name, "shape") == 0) {
        tarn_bind_desc(L, 1, "shape", &d);
        return push_shape(L, &d);
    }
    if (strcmp(name, "dtype") == 0) {
        tarn_bind_desc(L, 1, "dtype", &d);
        lua_pushstring(L, tarn_dtype_get(d.dtype)->name);
        return 1;
    }
    if (strcmp(name, "rank") == 0) {
        tarn_bind_desc(L, 1, "rank", &d);
        lua_pushinteger(L, d.rank);
        return 1;
    }
    if (strcmp(name, "planned") == 0) {
        lua_pushboolean(L, u->node != NULL);
        return 1;
    }
    if (strcmp(name, "recorded") == 0) {
        lua_pushboolean(L, u->node && u->recorded);
        return 1;
    }
    return tarn_bind_method(L, "tensor", 2, elsewhere);
}

int tarn_bind_index(lua_State *L) {
    switch (lua_type(L, 2)) {
    case LUA_TSTRING:
        return field(L, lua_tostring(L, 2));
    case LUA_TNUMBER:
    case LUA_TTABLE:
        return tarn_bind_select(L, 1, 2);
    default:
        if (tarn_bind_to_tensor(L, 2)) {
            return tarn_bind_take(L, 1, 0, 2, "index");
        }
        return tarn_lua_error(L, "a tensor is indexed by a number, a table of numbers and ranges, or an "
                              "integer tensor, not by a %s", tarn_bind_kind(L, 2));
    }
}
