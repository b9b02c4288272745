// SPDX-License-Identifier: Apache-2.0
// Frozen modules. A script sees an empty table whose metatable leads to the table of fields: reading
// is fast, assigning is an error, reading a name that is not there is an error with the nearest one.
// It protects a script from itself (a state belongs to one run); it is no wall.
#include <string.h>

#include "vm/lua/state.h"

// Registry keys: name -> table of fields; metatable of a module -> its name.
static const char fields_key, names_key;

// A script can make the table of globals as large as it likes: the search ends after a while.
static const char *next_key(void *arg, size_t i) {
    enum { MOST = 10000 };
    lua_State *L = arg;  // table, key
    if (i == 0) {
        lua_pushnil(L);
    }
    if (i >= MOST) {
        return NULL;
    }
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        const char *key = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "_";
        if (strspn(key, "_") != strlen(key)) {  // "_" of the prompt is near to every short word
            return key;
        }
    }
    return NULL;
}

const char *tarn_nearest_key(lua_State *L, int idx, const char *word) {
    int top = lua_gettop(L);
    luaL_checkstack(L, 4, "nearest name");
    lua_pushvalue(L, idx);
    const char *near = tarn_nearest(word, next_key, L);
    lua_settop(L, top);
    return near;
}

// ---- what a host does without ----

void tarn_host_refuse(tarn_host *h, const char *const *names, int n, const char *because) {
    h->refused = names;
    h->refused_count = n;
    h->refused_because = because;
}

bool tarn_is_refused(const tarn_host *h, const char *name) {
    for (int i = 0; i < h->refused_count; i++) {
        if (strcmp(h->refused[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int l_refuse(lua_State *L) {
    return tarn_lua_error(L, "%s is not available to a recipe: %s", lua_tostring(L, lua_upvalueindex(1)),
                          tarn_host_of(L)->refused_because);
}

void tarn_lua_admit(lua_State *L, const char *name) {
    if (tarn_is_refused(tarn_host_of(L), name)) {
        lua_pop(L, 1);
        lua_pushstring(L, name);
        lua_pushcclosure(L, l_refuse, 1);
    }
}

// ---- parts that are loaded when they are first needed ----

void tarn_host_lazy(tarn_host *h, const char *module, const char *path, tarn_lazy_load load) {
    if (!tarn_is_embedded(path) || tarn_is_refused(h, module)) {
        return;
    }
    if (h->lazy_count == TARN_LAZY_PARTS) {
        tarn_lua_error(tarn_host_running(h), "more than %d lazy parts", TARN_LAZY_PARTS);
    }
    tarn_host_push_module(h, module);
    lua_pop(tarn_host_running(h), 1);
    h->lazy[h->lazy_count++] = (tarn_lazy){module, path, load, false};
}

// A file may serve several modules: it is loaded once.
static void set_load(tarn_host *h, const char *path, tarn_lazy_load load) {
    for (int i = 0; i < h->lazy_count; i++) {
        if (strcmp(h->lazy[i].path, path) == 0) {
            h->lazy[i].load = load;
        }
    }
}

tarn_status tarn_host_load_lazy(tarn_host *h, const char *module, tarn_error *err) {
    tarn_status s = TARN_OK;
    for (int i = 0; i < h->lazy_count; i++) {
        const tarn_lazy part = h->lazy[i];
        if (!part.load || (module && strcmp(part.module, module) != 0)) {
            continue;
        }
        if (!module && part.failed) {
            continue;  // whoever asks for it by name is told why
        }
        set_load(h, part.path, NULL);  // what it asks of its own module meanwhile is not there
        int docs = h->doc_count;
        tarn_error one;
        if (part.load(h, part.path, &one) != TARN_OK) {
            set_load(h, part.path, part.load);
            h->lazy[i].failed = true;
            h->doc_count = docs;
            *err = s == TARN_OK ? one : *err;
            s = s == TARN_OK ? one.status : s;
        }
    }
    return s;
}

static void load_now(lua_State *L, const char *module) {
    tarn_error err;
    if (tarn_host_load_lazy(tarn_host_of(L), module, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
}

static int l_unknown(lua_State *L) {  // upvalue 1: the module's name
    const char *module = lua_tostring(L, lua_upvalueindex(1));
    load_now(L, module);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, 1) != LUA_TNIL || lua_type(L, 2) != LUA_TSTRING) {
        return 1;
    }
    lua_pop(L, 1);
    const char *word = lua_tostring(L, 2);
    const char *near = tarn_nearest_key(L, 1, word);
    if (near) {
        return tarn_lua_error(L, "%s.%.60s: no such function; did you mean %s.%s?", module, word,
                              module, near);
    }
    return tarn_lua_error(L, "%s.%.60s: no such function (help \"%s\" lists what there is)", module,
                          word, module);
}

static int l_frozen(lua_State *L) {
    const char *module = lua_tostring(L, lua_upvalueindex(1));
    tarn_tolstring(L, 2, NULL);
    return tarn_lua_error(L, "%s.%.60s cannot be assigned: the module %s is read-only", module,
                          lua_tostring(L, -1), module);
}

static int l_next(lua_State *L) {
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    return lua_next(L, lua_upvalueindex(1)) ? 2 : 0;
}

static int l_pairs(lua_State *L) {  // upvalues: the fields, the module's name
    load_now(L, lua_tostring(L, lua_upvalueindex(2)));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, l_next, 1);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

static int l_tostring(lua_State *L) {
    lua_pushfstring(L, "module: %s", lua_tostring(L, lua_upvalueindex(1)));
    return 1;
}

// A module that is also a function: `tensor { 1, 2 }`.
static int l_call(lua_State *L) {
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static void push_registry_table(lua_State *L, const void *key) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, key);
    }
}

static void closure_field(lua_State *L, const char *name, lua_CFunction f, const char *module) {
    lua_pushstring(L, module);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -2, name);
}

// fields -> fields, proxy's metatable; makes the global.
static void make_proxy(lua_State *L, const char *name) {
    lua_newtable(L);       // the proxy
    lua_createtable(L, 0, 8);  // its metatable
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushvalue(L, -3);
    lua_pushstring(L, name);
    lua_pushcclosure(L, l_pairs, 2);
    lua_setfield(L, -2, "__pairs");
    closure_field(L, "__newindex", l_frozen, name);
    closure_field(L, "__tostring", l_tostring, name);
    lua_pushfstring(L, "module %s", name);
    lua_setfield(L, -2, "__name");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pushvalue(L, -1);
    lua_setmetatable(L, -3);
    push_registry_table(L, &names_key);
    lua_pushvalue(L, -2);
    lua_pushstring(L, name);
    lua_rawset(L, -3);
    lua_pop(L, 1);        // names
    lua_insert(L, -2);    // fields, metatable, proxy
    lua_setglobal(L, name);
}

// Pushes the table of fields and the proxy's metatable, making both when the module is new.
static void open_module(lua_State *L, const char *name) {
    push_registry_table(L, &fields_key);
    if (lua_getfield(L, -1, name) == LUA_TTABLE) {
        lua_remove(L, -2);
        lua_pushglobaltable(L);
        lua_pushstring(L, name);
        lua_rawget(L, -2);  // a script may have given the name to something else
        lua_remove(L, -2);
        if (!tarn_is_module(L, lua_gettop(L)) || !lua_getmetatable(L, -1)) {
            lua_newtable(L);
        }
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    lua_newtable(L);  // fields
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, name);
    lua_remove(L, -2);
    lua_createtable(L, 0, 1);  // metatable of the fields
    closure_field(L, "__index", l_unknown, name);
    lua_setmetatable(L, -2);
    make_proxy(L, name);
}

void tarn_host_module(tarn_host *h, const char *name, const tarn_binding *rows, int n) {
    lua_State *L = tarn_host_running(h);
    size_t len = strlen(name);
    luaL_checkstack(L, 10, "module");
    open_module(L, name);
    for (int i = 0; n < 0 ? rows[i].doc.name != NULL : i < n; i++) {
        const char *full = rows[i].doc.name;
        if (!rows[i].call || strncmp(full, name, len) != 0) {
            continue;
        }
        if (full[len] == '.' && !strpbrk(full + len + 1, ".:")) {
            lua_pushcfunction(L, rows[i].call);
            tarn_lua_admit(L, full);
            lua_setfield(L, -3, full + len + 1);
        } else if (full[len] == '\0') {
            lua_pushcfunction(L, rows[i].call);
            lua_pushcclosure(L, l_call, 1);
            lua_setfield(L, -2, "__call");
        }
    }
    lua_pop(L, 2);
    tarn_host_docs(h, rows, n);
}

void tarn_host_push_module(tarn_host *h, const char *name) {
    lua_State *L = tarn_host_running(h);
    luaL_checkstack(L, 10, "module");
    open_module(L, name);
    lua_pop(L, 1);
}

bool tarn_is_module(lua_State *L, int idx) {
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx)) {
        return false;
    }
    push_registry_table(L, &names_key);
    lua_insert(L, -2);
    bool is = lua_rawget(L, -2) == LUA_TSTRING;
    lua_pop(L, 2);
    return is;
}

// The names of a module, for Tab.
static void complete_module(lua_State *L, int idx, char how, void (*add)(void *, const char *),
                            void *arg) {
    if (how != '.' || !luaL_getmetafield(L, idx, "__index")) {
        return;
    }
    tarn_error ignored;
    (void)tarn_host_load_lazy(tarn_host_of(L), NULL, &ignored);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            add(arg, lua_tostring(L, -1));
        }
    }
    lua_pop(L, 1);
}

tarn_lua_completer tarn_lua_completer_of(lua_State *L, int idx) {
    tarn_host *h = tarn_host_of(L);
    if (tarn_is_module(L, idx)) {
        return complete_module;
    }
    if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) {
        return NULL;
    }
    lua_pushliteral(L, "__name");
    const char *name = lua_rawget(L, -2) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    tarn_lua_completer found = NULL;
    for (int i = 0; i < h->type_count; i++) {
        if (strcmp(h->types[i].type, name) == 0) {
            found = h->types[i].complete;
        }
    }
    lua_pop(L, 2);
    return found;
}
