// SPDX-License-Identifier: Apache-2.0
// What bindings are made of: userdata classes whose __gc and __close share one idempotent release,
// and option tables that are read raw and refuse names they do not know.
#include <stdio.h>
#include <string.h>

#include "vm/lua/state.h"

typedef void (*release_fn)(void *self);

// Both finalisers may run in any order, by hand, and after the state began to close.
static int l_release(lua_State *L) {
    release_fn *release = lua_touserdata(L, lua_upvalueindex(1));
    void *self = lua_touserdata(L, 1);
    if (self && lua_getmetatable(L, 1) && lua_rawequal(L, -1, lua_upvalueindex(2))) {
        (*release)(self);
    }
    return 0;
}

void tarn_lua_type(lua_State *L, const tarn_lua_class *c) {
    luaL_newmetatable(L, c->type);
    if (c->metamethods) {
        luaL_setfuncs(L, c->metamethods, 0);
    }
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    if (c->release) {
        release_fn *release = lua_newuserdatauv(L, sizeof *release, 0);
        *release = c->release;
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, l_release, 2);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "__gc");
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
}

void *tarn_lua_new(lua_State *L, const char *type, size_t size) {
    void *p = lua_newuserdatauv(L, size, 1);
    memset(p, 0, size);
    luaL_setmetatable(L, type);
    return p;
}

void *tarn_lua_test(lua_State *L, int idx, const char *type) { return luaL_testudata(L, idx, type); }

void *tarn_lua_check(lua_State *L, int idx, const char *type) {
    void *p = luaL_testudata(L, idx, type);
    if (!p) {
        luaL_typeerror(L, idx, type);
    }
    return p;
}

const char *tarn_lua_check_path(lua_State *L, int idx) {
    size_t len;
    const char *path = luaL_checklstring(L, idx, &len);
    if (strlen(path) != len) {
        tarn_lua_error(L, "'%s' followed by a zero byte is no path", path);
    }
    return path;
}

static const char *next_name(void *arg, size_t i) { return ((const char *const *)arg)[i]; }

static bool is_name(const char *word, const char *const *names) {
    for (; *names; names++) {
        if (strcmp(word, *names) == 0) {
            return true;
        }
    }
    return false;
}

static void join(const char *const *names, char *buf, size_t room) {
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; names[i] && n < room; i++) {
        int w = snprintf(buf + n, room - n, i ? ", %s" : "%s", names[i]);
        n += w > 0 ? (size_t)w : 0;
    }
}

static void unknown_option(lua_State *L, const char *function, const char *const *names) {
    char list[512];
    const char *word = lua_tostring(L, -1);
    const char *near = tarn_nearest(word, next_name, (void *)(uintptr_t)names);
    join(names, list, sizeof list);
    if (near) {
        tarn_lua_error(L, "%s: unknown option '%.60s'; did you mean '%s'?", function, word, near);
    }
    tarn_lua_error(L, "%s: unknown option '%.60s' (options: %s)", function, word,
                   *list ? list : "none");
}

void tarn_lua_check_options(lua_State *L, int idx, const char *function, const char *const *names,
                            bool positional) {
    idx = lua_absindex(L, idx);
    if (lua_isnoneornil(L, idx)) {
        return;
    }
    luaL_checkstack(L, 4, function);
    bool object = luaL_getmetafield(L, idx, "__name") != LUA_TNIL;  // a data set, say, in their place
    lua_pop(L, object);
    if ((object && !positional) || !lua_istable(L, idx)) {  // a shape is a list
        tarn_push_kind(L, idx);
        tarn_lua_error(L, "%s: expected a table of options, got %s", function, lua_tostring(L, -1));
    }
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            if (!is_name(lua_tostring(L, -1), names)) {
                unknown_option(L, function, names);
            }
        } else if (!positional || !lua_isinteger(L, -1)) {
            tarn_tolstring(L, -1, NULL);
            tarn_lua_error(L, "%s: options are given by name, found the key %.60s", function,
                           lua_tostring(L, -1));
        }
    }
}

// Pushes the field; false when it is absent (nothing pushed).
static bool field(lua_State *L, int idx, const char *name) {
    if (lua_isnoneornil(L, idx)) {
        return false;
    }
    idx = lua_absindex(L, idx);
    luaL_checktype(L, idx, LUA_TTABLE);
    lua_pushstring(L, name);
    if (lua_rawget(L, idx) == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    return true;
}

static void wrong(lua_State *L, const char *function, const char *name, const char *expected) {
    if (lua_type(L, -1) == LUA_TNUMBER) {
        tarn_tolstring(L, -1, NULL);
    } else {
        tarn_push_kind(L, -1);
    }
    tarn_lua_error(L, "%s: option '%s' must be %s, got %s", function, name, expected,
                   lua_tostring(L, -1));
}

double tarn_lua_opt_number(lua_State *L, int idx, const char *function, const char *name, double d) {
    if (field(L, idx, name)) {
        if (lua_type(L, -1) != LUA_TNUMBER) {
            wrong(L, function, name, "a number");
        }
        d = lua_tonumber(L, -1);
        lua_pop(L, 1);
    }
    return d;
}

lua_Integer tarn_lua_opt_integer(lua_State *L, int idx, const char *function, const char *name,
                                 lua_Integer d) {
    if (field(L, idx, name)) {
        int whole = 0;
        lua_Integer v = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &whole) : 0;
        if (!whole) {
            wrong(L, function, name, "a whole number");
        }
        d = v;
        lua_pop(L, 1);
    }
    return d;
}

bool tarn_lua_opt_boolean(lua_State *L, int idx, const char *function, const char *name, bool d) {
    if (field(L, idx, name)) {
        if (!lua_isboolean(L, -1)) {
            wrong(L, function, name, "true or false");
        }
        d = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return d;
}

// The string stays valid while it is in the table.
const char *tarn_lua_opt_string(lua_State *L, int idx, const char *function, const char *name,
                                const char *d) {
    if (field(L, idx, name)) {
        if (lua_type(L, -1) != LUA_TSTRING) {
            wrong(L, function, name, "a string");
        }
        d = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    return d;
}
