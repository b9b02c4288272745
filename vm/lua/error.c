// SPDX-License-Identifier: Apache-2.0
// Error objects: a userdata that holds the C error record and the place in the script. Scripts read
// `code`, `message` and `where`; tostring gives place and message; `..` works as with strings.
#include <stdio.h>
#include <string.h>

#include "vm/lua/state.h"

#define ERROR_CLASS "error"

typedef struct {
    tarn_error record;
    char where[128];  // "script.lua:3: " or ""
} error_object;

// Pushes "script.lua:3: " of the nearest script line, or "". The embedded library's own lines
// say nothing to the user.
static void push_where(lua_State *L) {
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.source, "@stdlib/", 8) != 0) {
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

int tarn_lua_raise(lua_State *L, const tarn_error *err) {
    tarn_host *h = tarn_host_of(L);
    if (err->status == TARN_CANCELLED ||
        (err->status == TARN_NOMEM && h->trust == TARN_TRUST_RECIPE)) {
        tarn_fatal(L, err);
    }
    error_object *e = lua_newuserdatauv(L, sizeof *e, 0);
    e->record = *err;
    if (e->record.status == TARN_OK) {
        e->record.status = TARN_ERROR;
    }
    luaL_setmetatable(L, ERROR_CLASS);
    push_where(L);
    snprintf(e->where, sizeof e->where, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    return lua_error(L);
}

int tarn_lua_error(lua_State *L, const char *fmt, ...) {
    char text[sizeof((tarn_error *)0)->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    push_where(L);
    lua_pushstring(L, text);
    lua_concat(L, 2);
    return lua_error(L);
}

const tarn_error *tarn_error_of(lua_State *L, int idx) {
    error_object *e = luaL_testudata(L, idx, ERROR_CLASS);
    return e ? &e->record : NULL;
}

const char *tarn_error_where(lua_State *L, int idx) {
    error_object *e = luaL_testudata(L, idx, ERROR_CLASS);
    return e ? e->where : "";
}

static int l_index(lua_State *L) {
    error_object *e = luaL_checkudata(L, 1, ERROR_CLASS);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "message") == 0) {
        lua_pushstring(L, e->record.message);
    } else if (strcmp(key, "code") == 0) {
        lua_pushstring(L, e->record.code);
    } else if (strcmp(key, "where") == 0) {
        lua_pushstring(L, e->where);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int l_tostring(lua_State *L) {
    error_object *e = luaL_checkudata(L, 1, ERROR_CLASS);
    lua_pushfstring(L, "%s%s", e->where, e->record.message);
    return 1;
}

static int l_concat(lua_State *L) {
    tarn_tolstring(L, 1, NULL);
    tarn_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

void tarn_error_class(lua_State *L) {
    static const luaL_Reg methods[] = {
        {"__index", l_index}, {"__tostring", l_tostring}, {"__concat", l_concat}, {NULL, NULL}};
    luaL_newmetatable(L, ERROR_CLASS);
    luaL_setfuncs(L, methods, 0);
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
