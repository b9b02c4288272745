// SPDX-License-Identifier: Apache-2.0
// What the bindings share: tables of methods by type, registration of rows, and the door through
// which parts of the library written in Lua enter with their documentation.
#include "stdlib/bind/bind.h"

#include <stdio.h>
#include <string.h>

#include "stdlib/bind/data.h"
#include "stdlib/bind/recipe.h"
#include "stdlib/bind/train.h"

void tarn_bind_methods(lua_State *L, const char *type) {
    lua_pushfstring(L, "methods of %s", type);
    if (lua_rawget(L, LUA_REGISTRYINDEX) == LUA_TTABLE) {
        return;
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushfstring(L, "methods of %s", type);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

void tarn_bind_rows(tarn_host *h, const char *module, const tarn_binding *rows, int n) {
    lua_State *L = tarn_host_state(h);
    size_t len = strlen(module);
    luaL_checkstack(L, 8, module);
    tarn_bind_methods(L, module);
    for (int i = 0; i < n; i++) {
        const char *name = rows[i].doc.name;
        if (rows[i].call && strncmp(name, module, len) == 0 && name[len] == ':') {
            lua_pushcfunction(L, rows[i].call);
            tarn_lua_admit(L, name);
            lua_setfield(L, -2, name + len + 1);
        }
    }
    lua_pop(L, 1);
    tarn_host_module(h, module, rows, n);
}

static const char *next_method(void *arg, size_t i) {
    lua_State *L = arg;  // methods, key
    if (i == 0) {
        lua_pushnil(L);
    }
    if (!lua_next(L, -2)) {
        return NULL;
    }
    lua_pop(L, 1);
    return lua_tostring(L, -1);
}

int tarn_bind_method(lua_State *L, const char *type, int key, const char *(*elsewhere)(const char *)) {
    key = lua_absindex(L, key);
    tarn_bind_methods(L, type);
    lua_pushvalue(L, key);
    if (lua_rawget(L, -2) != LUA_TNIL) {
        return 1;
    }
    lua_pop(L, 1);
    if (lua_type(L, key) != LUA_TSTRING) {
        return tarn_lua_error(L, "a %s has no field of type %s", type, tarn_bind_kind(L, key));
    }
    const char *word = lua_tostring(L, key);
    const char *here = elsewhere ? elsewhere(word) : NULL;
    if (here) {
        return tarn_lua_error(L, "%s:%.60s: no such method; here it is %s", type, word, here);
    }
    const char *near = tarn_nearest(word, next_method, L);
    if (near) {
        return tarn_lua_error(L, "%s:%.60s: no such method; did you mean %s:%s?", type, word, type,
                              near);
    }
    return tarn_lua_error(L, "%s:%.60s: no such method (help \"%s\" lists what there is)", type, word,
                          type);
}

void tarn_bind_set_text(lua_State *L, const char *field, const char *text) {
    if (text && *text) {
        lua_pushstring(L, text);
        lua_setfield(L, -2, field);
    }
}

void tarn_bind_set_integer(lua_State *L, const char *field, lua_Integer v) {
    lua_pushinteger(L, v);
    lua_setfield(L, -2, field);
}

const char *tarn_bind_kind(lua_State *L, int idx) {
    const char *kind = lua_type(L, idx) == LUA_TNONE ? "nothing" : luaL_typename(L, idx);
    int found = luaL_getmetafield(L, idx, "__name");
    if (found == LUA_TSTRING) {
        kind = lua_tostring(L, -1);  // the metatable keeps it
    }
    lua_pop(L, found != LUA_TNIL);
    return kind;
}

// ---- texts ----

static void release_text(void *self) { tarn_text_free(self); }

tarn_text *tarn_bind_new_text(lua_State *L) {
    tarn_text *t = tarn_lua_new(L, "text", sizeof *t);
    tarn_text_init(t, &tarn_host_context(L)->budget);
    return t;
}

int tarn_bind_push_text(lua_State *L, tarn_text *t, const char *what) {
    if (t->failed) {
        tarn_error err;
        tarn_raise_nomem(&err, what, t->len);
        return tarn_lua_raise(L, &err);
    }
    lua_pushlstring(L, t->data ? t->data : "", t->len);
    tarn_text_free(t);
    return 1;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

void tarn_bind_sentence(tarn_text *out, const char *phrase) {
    size_t n = strlen(phrase), word = 0;
    while (is_letter(phrase[word])) {
        word++;
    }
    bool plain = word > 1 && (phrase[word] == ' ' || phrase[word] == ',') && *phrase >= 'a';  // not "x + y", not "max(x, 0)"
    tarn_text_printf(out, "%c%s", plain ? *phrase - 'a' + 'A' : *phrase, n > 0 ? phrase + 1 : "");
    if (n > 0 && phrase[n - 1] != '.') {
        tarn_text_puts(out, ".");
    }
}

// ---- parts of the library written in Lua ----

// Where the function on top of the stack is written; of other values, and functions of C: who defines them.
static void find_place(lua_State *L, char *out, size_t room) {
    lua_Debug at = {.linedefined = -1};
    if (lua_isfunction(L, -1) && !lua_iscfunction(L, -1)) {
        lua_pushvalue(L, -1);
        lua_getinfo(L, ">S", &at);
        snprintf(out, room, "%s:%d", at.short_src, at.linedefined);
    } else if (lua_getstack(L, 1, &at) && lua_getinfo(L, "Sl", &at)) {
        snprintf(out, room, "%s:%d", at.short_src, at.currentline);
    } else {
        snprintf(out, room, "C");
    }
}

// define(name, signature, text, example, function)
static int l_define(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    const char *name = luaL_checkstring(L, 1);
    const char *part = strpbrk(name, ".:");
    tarn_doc doc = {name, luaL_checkstring(L, 2), luaL_checkstring(L, 3), luaL_optstring(L, 4, NULL)};
    tarn_error err;
    char where[LUA_IDSIZE + 16];
    lua_settop(L, 5);
    find_place(L, where, sizeof where);
    TARN_LUA_TRY(L, tarn_host_define(h, &doc, where, &err), &err);
    tarn_lua_admit(L, name);
    if (!part) {
        lua_pushvalue(L, 5);
        lua_setglobal(L, name);
    } else {
        lua_pushlstring(L, name, (size_t)(part - name));
        if (*part == ':') {
            tarn_bind_methods(L, lua_tostring(L, -1));
        } else {
            tarn_host_push_module(h, lua_tostring(L, -1));
        }
        lua_pushvalue(L, 5);
        lua_setfield(L, -2, part + 1);
    }
    tarn_lua_document(L, 5, name);
    return 0;
}

// check(function, options, {name, …}, positional): tarn_lua_check_options
int tarn_bind_check(lua_State *L) {
    enum { MOST = 32 };
    const char *names[MOST + 1] = {NULL};
    lua_settop(L, 4);
    luaL_checktype(L, 3, LUA_TTABLE);
    luaL_checkstack(L, MOST + 8, "options");
    for (int k = 0; k < MOST && lua_rawgeti(L, 3, k + 1) == LUA_TSTRING; k++) {
        names[k] = lua_tostring(L, -1);
    }
    tarn_lua_check_options(L, 2, luaL_checkstring(L, 1), names, lua_toboolean(L, 4));
    return 0;
}

int tarn_bind_kind_of(lua_State *L) {
    lua_pushstring(L, tarn_bind_kind(L, 1));
    return 1;
}

// fail(text): an error that stands where a script called the library, however deep inside it is raised.
static int l_fail(lua_State *L) { return tarn_lua_error(L, "%s", luaL_checkstring(L, 1)); }

void tarn_bind_push_define(lua_State *L) { lua_pushcfunction(L, l_define); }

tarn_status tarn_bind_library(tarn_host *h, const char *path, tarn_error *err) {
    TARN_TRY(tarn_host_load_embedded(h, path, err));
    lua_pushcfunction(tarn_host_running(h), l_define);
    lua_pushcfunction(tarn_host_running(h), tarn_bind_check);
    lua_pushcfunction(tarn_host_running(h), l_fail);
    lua_pushcfunction(tarn_host_running(h), tarn_bind_kind_of);
    return tarn_host_call(h, 4, 0, err);
}

// Modules in Lua that are compiled when something of them is first asked for; their parts are
// stdlib/NAME/*.lua, required as "NAME.part".
static tarn_status open_lazy(tarn_host *h, tarn_error *err) {
    static const struct {
        const char *name, *file;
        tarn_lazy_load load;
    } modules[] = {
        {"nn", "stdlib/nn.lua", tarn_bind_library},     {"data", "stdlib/data.lua", tarn_bind_data},
        {"train", "stdlib/train.lua", tarn_bind_train}, {"eval", "stdlib/eval.lua", tarn_bind_train},
        {"search", "stdlib/search.lua", tarn_bind_train}, {"probe", "stdlib/probe.lua", tarn_bind_train},
        {"align", "stdlib/align.lua", tarn_bind_train},
    };
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        tarn_host_lazy(h, modules[i].name, modules[i].file, modules[i].load);
    }
    return tarn_bind_train(h, "stdlib/cache.lua", err);
}

// value, width -> its text at the prompt; upvalue: the type. The file is compiled when it is first needed.
static int l_show(lua_State *L) {
    tarn_error err;
    lua_settop(L, 2);
    TARN_LUA_TRY(L, tarn_host_load_embedded(tarn_host_of(L), "stdlib/values.lua", &err), &err);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_gettable(L, -2);
    lua_insert(L, 1);
    lua_settop(L, 3);
    lua_call(L, 2, 1);
    return 1;
}

static tarn_status open_values(tarn_host *h, tarn_error *err) {
    static const char *const types[] = {"tensor", "model"};
    lua_State *L = tarn_host_state(h);
    (void)err;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        luaL_getmetatable(L, types[i]);
        lua_pushstring(L, types[i]);
        lua_pushcclosure(L, l_show, 1);
        lua_setfield(L, -2, "__show");
        lua_pop(L, 1);
    }
    return TARN_OK;
}

// Protected as a whole: registering allocates, and Lua raises when memory ends.
static int l_open(lua_State *L) {
    static tarn_status (*const open[])(tarn_host *, tarn_error *) = {
        tarn_bind_tensor, tarn_bind_model, tarn_bind_merge, tarn_bind_checkpoints, tarn_bind_lora, tarn_bind_by, tarn_bind_grad, tarn_bind_compile, tarn_bind_checkpointing, tarn_bind_yaml,
        tarn_bind_plot, open_values, tarn_bind_recipe, open_lazy,
    };
    static const tarn_lua_class text = {"text", release_text, NULL};
    tarn_lua_type(L, &text);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++) {
        tarn_error err;
        TARN_LUA_TRY(L, open[i](tarn_host_of(L), &err), &err);
    }
    return 0;
}

tarn_status tarn_bind_open(tarn_host *h, tarn_error *err) {
    lua_pushcfunction(tarn_host_state(h), l_open);
    return tarn_host_call(h, 0, 0, err);
}
