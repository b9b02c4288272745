// SPDX-License-Identifier: Apache-2.0
// Models in Lua: opening, algebra, looking inside, choosing, renaming. A model of files is a plan
// that grows with every operation; a model whose inputs are all in memory is computed at once.
#include "stdlib/bind/model.h"
#include "stdlib/bind/tensor.h"

#include <string.h>

tarn_model *tarn_bind_to_model(lua_State *L, int idx) {
    tarn_lua_model *u = tarn_lua_test(L, idx, "model");
    return u ? u->m : NULL;
}

tarn_model *tarn_bind_check_model(lua_State *L, int idx) {
    tarn_lua_model *u = tarn_lua_check(L, idx, "model");
    if (!u->m) {
        tarn_lua_error(L, "the model is closed");
    }
    return u->m;
}

static void release(void *self) {
    tarn_lua_model *u = self;
    tarn_model_release(u->m);
    u->m = NULL;
}

tarn_model **tarn_bind_new_model(lua_State *L) {
    tarn_lua_model *u = tarn_lua_new(L, "model", sizeof *u);
    return &u->m;
}

int tarn_bind_finish_model(lua_State *L) {
    tarn_lua_model *u = lua_touserdata(L, -1);
    if (u->m->nin == 0 || !(u->m->recording || tarn_model_in_memory(u->m))) {
        return 1;
    }
    tarn_model **now = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    if (u->m->recording) {
        TARN_LUA_TRY(L, tarn_model_record(tarn_host_context(L), u->m, now, &err), &err);
        return 1;
    }
    tarn_lua_account(L, (size_t)tarn_model_bytes(u->m));
    TARN_LUA_TRY(L, tarn_model_load(tarn_host_context(L), u->m, now, &err), &err);
    return 1;
}

// ---- opening ----

static const char *const missing_names[] = {"error", "base", "zero", "drop", NULL};

bool tarn_bind_policy(lua_State *L, int idx, const char *function, tarn_policy *policy) {
    const char *missing = tarn_lua_opt_string(L, idx, function, "missing", NULL);
    const char *integer = tarn_lua_opt_string(L, idx, function, "on_integer", NULL);
    for (int k = 0; missing && missing_names[k]; k++) {
        if (strcmp(missing, missing_names[k]) == 0) {
            policy->missing = (tarn_missing)k;
            break;
        }
        if (!missing_names[k + 1]) {
            tarn_lua_error(L, "%s: missing = \"%.40s\"; expected error, base, zero or drop", function,
                           missing);
        }
    }
    if (integer && strcmp(integer, "base") != 0 && strcmp(integer, "error") != 0) {
        tarn_lua_error(L, "%s: on_integer = \"%.40s\"; expected error or base", function, integer);
    }
    if (integer) {
        policy->integer_base = integer[0] == 'b';
    }
    return missing || integer;
}

static int l_open(lua_State *L) {
    static const char *const names[] = {"label", "strict", "missing", "on_integer", NULL};
    const char *path = tarn_lua_check_path(L, 1);
    tarn_lua_check_options(L, 2, "model.open", names, false);
    tarn_open_options o = {.label = tarn_lua_opt_string(L, 2, "model.open", "label", NULL),
                           .strict = tarn_lua_opt_boolean(L, 2, "model.open", "strict", false)};
    tarn_bind_policy(L, 2, "model.open", &o.policy);
    tarn_model **m = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_open(tarn_host_context(L), path, &o, m, &err), &err);
    return 1;
}

static int l_load(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_error err;
    tarn_error_clear(&err);
    if (m->recording || (m->nin == 0 && tarn_model_in_memory(m))) {
        lua_settop(L, 1);
        return 1;
    }
    tarn_bind_force(L, "model:load()");
    tarn_model **now = tarn_bind_new_model(L);
    tarn_lua_account(L, (size_t)tarn_model_bytes(m));
    TARN_LUA_TRY(L, tarn_model_load(tarn_host_context(L), m, now, &err), &err);
    return 1;
}

static int l_load_path(lua_State *L) {
    l_open(L);
    lua_replace(L, 1);
    lua_settop(L, 1);
    return l_load(L);
}

// model.new { {"fc.weight", t}, … } or { ["fc.weight"] = t, … } (then in byte order of names).
typedef struct {
    int64_t n;
    const char **names;
    tarn_tensor *tensors;  // owned by a userdata on the stack
    bool recorded;         // one of them is
} parts;

static void add_part(lua_State *L, parts *p, int name, int value) {
    if (lua_type(L, name) != LUA_TSTRING || !tarn_bind_to_tensor(L, value)) {
        tarn_lua_error(L, "model.new: expected { {name, tensor}, … } or { [name] = tensor, … }, got a %s as name, "
                       "a %s as tensor", tarn_bind_kind(L, name), tarn_bind_kind(L, value));
    }
    if (strlen(lua_tostring(L, name)) != lua_rawlen(L, name)) {
        tarn_lua_error(L, "model.new: a name holds a zero byte");
    }
    p->names[p->n] = lua_tostring(L, name);
    p->recorded = p->recorded || tarn_bind_to_tensor(L, value)->recorded;
    p->n++;
}

// The tensors, kept in the table at `values`, as a recorded model.
static void new_recorded(lua_State *L, const parts *p, int values, double mass) {
    int *at = lua_newuserdatauv(L, ((size_t)p->n + 1) * sizeof *at, 0);
    luaL_checkstack(L, (int)p->n + 8, "model.new");
    for (int64_t i = 0; i < p->n; i++) {
        lua_rawgeti(L, values, (lua_Integer)i + 1);
        at[i] = lua_gettop(L);
    }
    tarn_bind_new_recorded(L, p->n, p->names, at, mass);
}

static int l_new(lua_State *L) {
    static const char *const names[] = {"mass", NULL};
    luaL_checktype(L, 1, LUA_TTABLE);
    tarn_lua_check_options(L, 2, "model.new", names, false);
    double mass = tarn_lua_opt_number(L, 2, "model.new", "mass", 1);
    lua_settop(L, 2);
    size_t count = (size_t)luaL_len(L, 1);
    bool listed = count > 0;
    lua_newtable(L);  // 3: sorted names
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (!listed && lua_type(L, -1) != LUA_TSTRING) {
            tarn_lua_error(L, "model.new: expected { {name, tensor}, … } or { [name] = tensor, … }, got a %s as name",
                           tarn_bind_kind(L, -1));
        } else if (!listed) {
            lua_pushvalue(L, -1);
            lua_rawseti(L, 3, (lua_Integer)++count);
        } else if (!lua_isinteger(L, -1)) {
            tarn_lua_error(L, "model.new: a list { {name, tensor}, … } that also holds '%s': write {\"%s\", tensor}",
                           luaL_tolstring(L, -1, NULL), luaL_tolstring(L, -1, NULL));
        }
    }
    parts p = {.tensors = tarn_bind_hold(L, (int)count),
               .names = lua_newuserdatauv(L, (count + 1) * sizeof *p.names, 0)};
    if (!listed) {
        lua_getglobal(L, "table");
        lua_getfield(L, -1, "sort");
        lua_pushvalue(L, 3);
        lua_call(L, 1, 0);
    }
    lua_newtable(L);
    int values = lua_gettop(L);
    for (size_t i = 1; i <= count; i++) {
        int top = lua_gettop(L);
        if (listed) {
            lua_geti(L, 1, (lua_Integer)i);
            luaL_checktype(L, -1, LUA_TTABLE);
            lua_geti(L, top + 1, 1);
            lua_geti(L, top + 1, 2);
        } else {
            lua_pushnil(L);
            lua_geti(L, 3, (lua_Integer)i);
            lua_pushvalue(L, -1);
            lua_gettable(L, 1);
        }
        add_part(L, &p, top + 2, top + 3);
        lua_pushvalue(L, top + 3);
        lua_rawseti(L, values, (lua_Integer)i);
        lua_settop(L, top);
    }
    if (p.recorded) {
        new_recorded(L, &p, values, mass);
        return 1;
    }
    for (int64_t i = 0; i < p.n; i++) {
        lua_rawgeti(L, values, (lua_Integer)i + 1);
        tarn_bind_value(L, -1, &p.tensors[i]);
        lua_pop(L, 1);
    }
    tarn_model **m = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_of_tensors(tarn_host_context(L), p.n, p.names, p.tensors, mass, NULL,
                                          m, &err), &err);
    return 1;
}

// ---- algebra ----

static void check_operand(lua_State *L, int idx, const tarn_op *op) {
    const tarn_lua_tensor *t = tarn_bind_to_tensor(L, idx);
    tarn_lua_error(L, "%s: expected a model, a number or by.…, got a %s%s", op->name, tarn_bind_kind(L, idx),
                   t && t->node && t->node->desc.rank == 0 ? " that is not computed yet: :item() makes a number of it" : "");
}

static int arithmetic(lua_State *L, const tarn_op *op) {
    tarn_context *cx = tarn_host_context(L);
    tarn_model *a = tarn_bind_to_model(L, 1), *b = tarn_bind_to_model(L, 2);
    tarn_error err;
    tarn_error_clear(&err);
    lua_settop(L, 2);
    if (a && b) {
        tarn_model **r = tarn_bind_new_model(L);
        TARN_LUA_TRY(L, tarn_model_binary(cx, op, a, b, r, &err), &err);
        return tarn_bind_finish_model(L);
    }
    tarn_model *m = a ? a : b;
    int other = a ? 2 : 1;
    tarn_value v = {.name = "c", .model = -1, .origin = "given"};
    if (!m) {
        m = tarn_bind_check_model(L, other == 2 ? 1 : 2);
    }
    if (tarn_bind_recorded_factor(L, op, m, other, !a)) {
        return 1;
    }
    if (!tarn_bind_resolve(L, other, op->name, m, &v.number, &v.each, &v.origin)) {
        check_operand(L, other, op);
    }
    tarn_model **r = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_model_with_number(cx, op, m, &v, !a, r, &err), &err);
    return tarn_bind_finish_model(L);
}

#define ARITHMETIC(NAME) \
    static int m_##NAME(lua_State *L) { return arithmetic(L, &tarn_op_##NAME); }
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)

static int m_neg(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_unary(tarn_host_context(L), &tarn_op_neg, m, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int m_compare(lua_State *L) {
    return tarn_lua_error(L, "models have no order; compare numbers of them, such as a:norm() < b:norm()");
}

// ---- tensors by name ----

static const char *next_name(void *arg, size_t i) {
    const tarn_model *m = arg;
    return i < (size_t)m->n ? m->slots[i].name : NULL;
}

int64_t tarn_bind_slot(lua_State *L, int idx, const tarn_model *m, const char *function) {
    size_t len;
    const char *name = luaL_checklstring(L, idx, &len);
    int64_t i = tarn_model_find(m, name, len);
    if (i >= 0) {
        return i;
    }
    const char *near = tarn_nearest(name, next_name, (void *)(uintptr_t)m);
    tarn_text *shown = tarn_bind_new_text(L);
    tarn_text_show(shown, name, len, 120);
    tarn_bind_push_text(L, shown, "a message");
    if (near) {
        tarn_lua_error(L, "%s: %s has no tensor %s; did you mean %s?", function, tarn_model_label(m),
                       lua_tostring(L, -1), near);
    }
    tarn_lua_error(L, "%s: %s has no tensor %s (m:names() lists its %d)", function, tarn_model_label(m),
                   lua_tostring(L, -1), (int)m->n);
    return -1;
}

// A tensor of a model in memory is in memory; of a plan, an expression; of a recorded model, recorded.
static int push_slot(lua_State *L, tarn_model *m, int64_t i) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    tarn_error_clear(&err);
    if (m->recording) {
        return tarn_bind_push_node(L, m->recording, tarn_model_recorded(m->recording, m, i), true);
    }
    if (tarn_model_held(m, i)) {
        tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);
        tarn_tensor_share(tarn_model_held(m, i), &u->t);
        return 1;
    }
    if (tarn_model_in_memory(m)) {
        tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);
        TARN_LUA_TRY(L, tarn_model_tensor(cx, m, i, &u->t, &err), &err);
        return 1;
    }
    tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);
    u->graph = tarn_graph_new(cx);
    if (!u->graph) {
        tarn_raise_nomem(&err, "a tensor", 0);
        return tarn_lua_raise(L, &err);
    }
    if (tarn_model_node(u->graph, m, i, &u->node, &err) != TARN_OK) {
        return tarn_lua_raise(L, &err);
    }
    return 1;
}

static int l_tensor(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    return push_slot(L, m, tarn_bind_slot(L, 2, m, "model:tensor"));
}

static int m_index(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    if (lua_type(L, 2) == LUA_TSTRING) {
        tarn_bind_methods(L, "model");
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) != LUA_TNIL) {
            return 1;
        }
        size_t len;
        const char *name = lua_tolstring(L, 2, &len);
        int64_t i = tarn_model_find(m, name, len);
        if (i >= 0) {
            return push_slot(L, m, i);
        }
        // Without a dot it is a method's name or a short tensor's: the nearer one is meant.
        if (!memchr(name, '.', len) && !tarn_nearest(name, next_name, m)) {
            return tarn_bind_method(L, "model", 2, NULL);
        }
        return push_slot(L, m, tarn_bind_slot(L, 2, m, "model"));
    }
    return tarn_lua_error(L, "a model is indexed by the name of a tensor, got a %s", tarn_bind_kind(L, 2));
}

static int m_newindex(lua_State *L) {
    return tarn_lua_error(L, "models do not change; model.new makes one from tensors, m:map(f) from a function");
}

static int m_len(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)tarn_bind_check_model(L, 1)->n);
    return 1;
}

static int next_pair(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    int64_t i = 0;
    if (!lua_isnil(L, 2)) {
        i = tarn_bind_slot(L, 2, m, "pairs") + 1;
    }
    if (i >= m->n) {
        return 0;
    }
    lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
    push_slot(L, m, i);
    return 2;
}

static int m_pairs(lua_State *L) {
    tarn_bind_check_model(L, 1);
    lua_pushcfunction(L, next_pair);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

// ---- choosing and renaming ----

typedef struct {
    tarn_select *s;
} pattern;

static void release_pattern(void *self) {
    pattern *p = self;
    tarn_select_free(p->s);
    p->s = NULL;
}

unsigned char *tarn_bind_choose(lua_State *L, int idx, tarn_model *m, const char *function) {
    idx = lua_absindex(L, idx);
    unsigned char *keep = lua_newuserdatauv(L, (size_t)m->n + 1, 0);
    memset(keep, 0, (size_t)m->n + 1);
    tarn_error err;
    tarn_error_clear(&err);
    if (lua_type(L, idx) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, idx, &len);
        pattern *p = tarn_lua_new(L, "pattern", sizeof *p);
        if (tarn_select_compile(tarn_host_context(L), text, len, &p->s, &err) != TARN_OK) {
            tarn_lua_raise(L, &err);
        }
        for (int64_t i = 0; i < m->n; i++) {
            bool hit;
            if (tarn_select_match(p->s, m->slots[i].name, m->slots[i].len, &hit, &err) != TARN_OK) {
                tarn_lua_raise(L, &err);
            }
            keep[i] = hit;
        }
        release_pattern(p);
        lua_pop(L, 1);
        return keep;
    }
    if (!lua_isfunction(L, idx)) {
        tarn_lua_error(L, "%s: expected a pattern or a function(name, info), got %s", function,
                       tarn_bind_kind(L, idx));
    }
    for (int64_t i = 0; i < m->n; i++) {
        lua_pushvalue(L, idx);
        lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
        tarn_bind_push_info(L, m, i);
        lua_call(L, 2, 1);
        keep[i] = (unsigned char)lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return keep;
}

static int l_names(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    unsigned char *keep = lua_isnoneornil(L, 2) ? NULL : tarn_bind_choose(L, 2, m, "model:names");
    lua_createtable(L, m->n < 1 << 20 ? (int)m->n : 0, 0);
    lua_Integer n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        if (!keep || keep[i]) {
            lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
            lua_rawseti(L, -2, ++n);
        }
    }
    return 1;
}

static int l_only(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    luaL_checkany(L, 2);
    unsigned char *keep = tarn_bind_choose(L, 2, m, "model:only");
    bool any = false;
    for (int64_t i = 0; i < m->n; i++) {
        any = any || keep[i];
    }
    if (!any && lua_type(L, 2) == LUA_TSTRING) {
        return tarn_lua_error(L, "model:only: no tensor of %s matches '%.120s' (a regular expression, "
                              "searched anywhere in the name)", tarn_model_label(m), lua_tostring(L, 2));
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_only(tarn_host_context(L), m, keep, r, &err), &err);
    return tarn_bind_finish_model(L);
}

// The new name of slot i by the table or function at 2; "" keeps the old one.
static void push_new_name(lua_State *L, const tarn_model *m, int64_t i) {
    const tarn_slot *s = &m->slots[i];
    if (lua_isfunction(L, 2)) {
        lua_pushvalue(L, 2);
        lua_pushlstring(L, s->name, s->len);
        lua_call(L, 1, 1);
    } else {
        lua_pushlstring(L, s->name, s->len);
        lua_rawget(L, 2);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushlstring(L, s->name, s->len);
    } else if (lua_type(L, -1) != LUA_TSTRING) {
        tarn_lua_error(L, "model:rename: the new name of %s is a %s, not a string", s->name,
                       tarn_bind_kind(L, -1));
    }
    if (strlen(lua_tostring(L, -1)) != lua_rawlen(L, -1)) {
        tarn_lua_error(L, "model:rename: the new name of %s holds a zero byte", s->name);
    }
}

static int l_rename(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    if (!lua_isfunction(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, 2)) {
            lua_pop(L, 1);
            tarn_bind_slot(L, lua_gettop(L), m, "model:rename");
        }
    }
    lua_settop(L, 2);
    const char **names = lua_newuserdatauv(L, ((size_t)m->n + 1) * sizeof *names, 0);
    lua_newtable(L);  // keeps the names alive
    for (int64_t i = 0; i < m->n; i++) {
        push_new_name(L, m, i);
        names[i] = lua_tostring(L, -1);
        lua_rawseti(L, 4, (lua_Integer)i + 1);
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_rename(tarn_host_context(L), m, names, r, &err), &err);
    return tarn_bind_finish_model(L);
}

tarn_model **tarn_bind_models(lua_State *L, const char *function, int least, int most, int *n) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer count = luaL_len(L, 1);
    if (count < least || count > most) {
        tarn_lua_error(L, "%s: expected %d to %d models, got %lld", function, least > 0 ? least : 1, most,
                       (long long)count);
    }
    tarn_model **in = lua_newuserdatauv(L, (size_t)count * sizeof *in + 1, 0);
    for (lua_Integer k = 1; k <= count; k++) {
        lua_rawgeti(L, 1, k);
        in[k - 1] = tarn_bind_to_model(L, -1);
        if (!in[k - 1]) {
            tarn_lua_error(L, "%s: entry %lld is a %s, not a model", function, (long long)k, tarn_bind_kind(L, -1));
        }
        lua_pop(L, 1);
    }
    *n = (int)count;
    return in;
}

static int l_join(lua_State *L) {
    int n;
    tarn_model **in = tarn_bind_models(L, "model.join", 1, TARN_BIND_PARTS, &n);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_join(tarn_host_context(L), n, in, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_slice(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    int64_t i = tarn_bind_slot(L, 2, m, "model:slice");
    const tarn_slot *s = &m->slots[i];
    int64_t rows = s->rank > 0 ? s->shape[0] : 0;
    lua_Integer first = luaL_checkinteger(L, 3), last = luaL_optinteger(L, 4, first);
    first = first < 0 ? rows + 1 + first : first;
    last = last < 0 ? rows + 1 + last : last;
    if (first < 1 || last > rows || last < first - 1) {
        return tarn_lua_error(L, "model:slice: rows %lld to %lld of %s, which has %lld", (long long)first,
                              (long long)last, s->name, (long long)rows);
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_slice(tarn_host_context(L), m, s->name, first - 1, last - first + 1, r,
                                     &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_cast(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_dtype dtype = tarn_bind_dtype_at(L, 2, "model:cast");
    if (!tarn_dtype_is_float(dtype)) {
        return tarn_lua_error(L, "model:cast: %s is no floating dtype (f64 f32 f16 bf16 …)",
                              tarn_dtype_get(dtype)->name);
    }
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_cast(tarn_host_context(L), m, dtype, r, &err), &err);
    return tarn_bind_finish_model(L);
}

static int l_with(lua_State *L) {
    static const char *const names[] = {"missing", "on_integer", NULL};
    tarn_model *m = tarn_bind_check_model(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    tarn_lua_check_options(L, 2, "model:with", names, false);
    tarn_policy policy = m->policy;
    tarn_bind_policy(L, 2, "model:with", &policy);
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_with(tarn_host_context(L), m, &policy, r, &err), &err);
    return tarn_bind_finish_model(L);
}

// ---- registration ----

static const tarn_binding rows[] = {
    {{"model.operators", "operators: a + b, a - b, a * b, a / b, -a, #m, m[name], for name, t in pairs(m)",
      "Models are combined tensor by tensor, matched by name; a and b are models, or one is a number, a schedule (by.…) or a "
      "one-element tensor in memory (not one of a file: make it a number with :item()). Names missing from a vector (mass 0) are zero "
      "there; between points they must agree unless missing says otherwise (model.open); shapes must agree always. What "
      "one operand's file holds is planned; if all are in memory it is computed. #m counts the tensors; m[name] is "
      "m:tensor(name), unless name is that of a method; pairs goes in file order. Models do not change and have no order: "
      "assignment and < are errors.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(#(m + 0.5 * (m - m)), (m + 0.5 * (m - m)):mass())\n-- > 6\t1.0"}, NULL},
    {{"model.open", "model.open(path, {label =, strict = false, missing = \"error\", on_integer = \"error\"}) -> model",
      "A checkpoint as a model: a .safetensors file, or a folder with model.safetensors or shards and "
      "their index. Only headers and config.json are read; what is done with the model is planned until "
      "it is saved or loaded. A file that breaks a rule of its format is refused; the message ends in a code, as [HeaderTooLarge].\n"
      "  label: the name in plans and messages (default: the path's last part without its ending)\n"
      "  strict: what only deserves a warning, such as links that leave the folder, is an error too\n"
      "  missing: a tensor that one point has and another lacks: \"error\"; \"base\": the first point operand (or base = …) stands "
      "in; \"zero\": zeros do; \"drop\": it is left out\n"
      "  on_integer: integer and bool tensors that are not equal everywhere: \"error\"; \"base\": those of the first point operand\n"
      "Both policies hold for what is computed with this model as the first point operand; see model:with.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(#m, m:numel())\n-- > 6\t17226"}, l_open},
    {{"model.load", "model.load(path, {…}) -> model", "As model.open, then :load(): every tensor in memory.",
      "print(model.load(\"examples/data/base.safetensors\")[\"fc1.weight\"].dtype)\n-- > f32"}, l_load_path},
    {{"model.new", "model.new({ {name, tensor}, … }, {mass = 1}) -> model",
      "A model from tensors; also from { [name] = tensor, … }, then in byte order of names. mass 0 makes a "
      "vector, such as a gradient or a task vector.",
      "local m = model.new { {\"w\", tensor { 1, 2 }}, {\"b\", tensor { 3 }} }\nprint(table.concat(m:names(), \" \"))\n-- > w b"}, l_new},
    {{"model.join", "model.join { m1, m2, … } -> model",
      "The tensors of several models, as one model; a name that two of them have is an error. Side files come from the first.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(#model.join { m:only \"fc1\", m:only \"fc2\" })\n-- > 4"}, l_join},
    {{"model:load", "m:load() -> model", "The plan is run and all tensors are in memory; operations on the result compute at once. What "
      "is saved from it has a plan that cannot be replayed.",
      "local m = model.open(\"examples/data/base.safetensors\"):load()\nprint((2 * m)[\"fc3.bias\"]:numel())\n-- > 10"}, l_load},
    {{"model:tensor", "m:tensor(name) -> tensor",
      "The tensor of that name, also where the name is that of a method; m[name] is the short form.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(m:tensor(\"fc3.weight\"):numel(), m[\"fc3.bias\"]:numel())\n-- > 640\t10"}, l_tensor},
    {{"model:names", "m:names(pattern or function(name, info)) -> {name, …}",
      "Names in file order: all, those in which the regular expression (PCRE2) is found, or those for which "
      "the function is true. info as in m:info(name).",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(table.concat(m:names \"bias$\", \" \"))\n-- > fc1.bias fc2.bias fc3.bias"}, l_names},
    {{"model:only", "m:only(pattern or function(name, info)) -> model",
      "The model restricted to some of its tensors; the choice as in m:names. Of a difference of models it "
      "is the difference in those tensors, zero elsewhere. A pattern that fits no name is an error.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(#m:only(function(name, info) return #info.shape == 2 end))\n-- > 3"}, l_only},
    {{"model:rename", "m:rename(function(name) or {[old] = new}) -> model", "Other names; nil keeps one. Two equal names are an error, and so is an "
      "old one that is not there. Layers are found again from the new names.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(m:rename(function(n) return \"net.\" .. n end):names()[1])\n-- > net.fc1.bias"}, l_rename},
    {{"model:slice", "m:slice(name, first, last) -> model", "The model with only rows first … last (from 1, inclusive, negative from the end; last = first when left out) of one tensor.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(m:slice(\"fc3.weight\", 1, 5)[\"fc3.weight\"].shape[1])\n-- > 5"}, l_slice},
    {{"model:cast", "m:cast(dtype) -> model", "Every floating tensor rounded to another floating dtype, once, to nearest even.",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(m:cast(\"bf16\")[\"fc1.bias\"].dtype)\n-- > bf16"}, l_cast},
    {{"model:with", "m:with {missing =, on_integer =} -> model", "The same model with other policies for what is computed with it as the first point operand (see model.open).",
      "local m = model.open \"examples/data/base.safetensors\"\nprint(#m:with { missing = \"base\" })\n-- > 6"}, l_with},
};

static void complete(lua_State *L, int idx, char how, void (*add)(void *, const char *), void *arg) {
    tarn_model *m = tarn_bind_to_model(L, idx);
    if (how == ':') {
        tarn_bind_methods(L, "model");
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pop(L, 1);
            add(arg, lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    for (int64_t i = 0; m && how == '[' && i < m->n; i++) {
        add(arg, m->slots[i].name);
    }
}

static const luaL_Reg metamethods[] = {
    {"__index", m_index}, {"__newindex", m_newindex}, {"__len", m_len}, {"__pairs", m_pairs},
    {"__add", m_add}, {"__sub", m_sub}, {"__mul", m_mul}, {"__div", m_div}, {"__unm", m_neg},
    {"__lt", m_compare}, {"__le", m_compare}, {"__tostring", tarn_bind_model_tostring}, {NULL, NULL}};

tarn_status tarn_bind_model(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class class = {"model", release, metamethods};
    static const tarn_lua_class pattern_class = {"pattern", release_pattern, NULL};
    lua_State *L = tarn_host_state(h);
    tarn_lua_type(L, &class);
    tarn_lua_type(L, &pattern_class);
    tarn_host_printer(h, "model", tarn_bind_model_show);
    tarn_host_completer(h, "model", complete);
    tarn_bind_rows(h, "model", rows, (int)(sizeof rows / sizeof *rows));
    tarn_bind_model_values(h);
    TARN_TRY(tarn_bind_structure(h, err));
    tarn_bind_vocab(h);
    tarn_bind_model_plan_type(L);
    return TARN_OK;
}
