// SPDX-License-Identifier: Apache-2.0
// `pairs` for recipes. The order of string keys in a Lua table changes from run to run (their hash
// is seeded with addresses), and with it the bytes of whatever a script makes in that order. Here
// numbers come first, ascending, then strings in byte order, then the rest as the table has it.
// A table without string keys needs none of this and is walked as it is.
#include <stdlib.h>
#include <string.h>

#include "vm/lua/state.h"

typedef struct {
    int rank;           // 0: a number, 1: a string, 2: something else
    long double number; // holds every integer and every float exactly
    const char *text;
    size_t len;
    lua_Integer at;     // index in the table of keys
} entry;

static int compare(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->rank != y->rank) {
        return x->rank - y->rank;
    }
    if (x->rank == 0 && x->number != y->number) {
        return x->number < y->number ? -1 : 1;
    }
    if (x->rank == 1) {
        int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
        if (c != 0 || x->len != y->len) {
            return c != 0 ? c : x->len < y->len ? -1 : 1;
        }
    }
    return x->at < y->at ? -1 : x->at > y->at;
}

static bool has_order(lua_State *L) {  // table at 1
    bool ordered = true;
    lua_pushnil(L);
    while (ordered && lua_next(L, 1)) {
        lua_pop(L, 1);
        ordered = lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TBOOLEAN;
    }
    lua_settop(L, 1);
    return ordered;
}

static lua_Integer push_keys(lua_State *L) {
    lua_Integer n = 0;
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        lua_rawseti(L, 2, ++n);
        if (n % 4096 == 0) {
            tarn_poll(L);
        }
    }
    return n;
}

static entry describe(lua_State *L, lua_Integer at) {
    entry e = {.rank = 2, .at = at};
    if (lua_rawgeti(L, 2, at) == LUA_TSTRING) {
        e.rank = 1;
        e.text = lua_tolstring(L, -1, &e.len);
    } else if (lua_type(L, -1) == LUA_TNUMBER) {
        e.rank = 0;
        e.number = lua_isinteger(L, -1) ? (long double)lua_tointeger(L, -1)
                                        : (long double)lua_tonumber(L, -1);
    }
    lua_pop(L, 1);
    return e;
}

static int next_in_order(lua_State *L) {  // upvalues: table, keys in order, how many were seen
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(3));
    for (;;) {
        if (lua_rawgeti(L, lua_upvalueindex(2), ++i) == LUA_TNIL) {
            return 1;
        }
        lua_pushvalue(L, -1);
        if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {  // it may have been cleared since
            lua_pushinteger(L, i);
            lua_replace(L, lua_upvalueindex(3));
            return 2;
        }
        lua_pop(L, 2);
    }
}

static int l_next(lua_State *L) {
    lua_settop(L, 2);
    return lua_next(L, 1) ? 2 : 0;
}

static int pairs_done(lua_State *L, int status, lua_KContext k) {
    (void)L;
    (void)status;
    (void)k;
    return 3;
}

int tarn_pairs(lua_State *L) {
    luaL_checkany(L, 1);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_callk(L, 1, 3, 0, pairs_done);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (has_order(L)) {
        lua_pushcfunction(L, l_next);
    } else {
        lua_Integer n = push_keys(L);
        entry *list = lua_newuserdatauv(L, (size_t)n * sizeof *list, 0);
        for (lua_Integer i = 0; i < n; i++) {
            list[i] = describe(L, i + 1);
        }
        qsort(list, (size_t)n, sizeof *list, compare);
        lua_pushvalue(L, 1);
        lua_createtable(L, n < 1 << 20 ? (int)n : 1 << 20, 0);
        for (lua_Integer i = 0; i < n; i++) {
            lua_rawgeti(L, 2, list[i].at);
            lua_rawseti(L, -2, i + 1);
        }
        lua_pushinteger(L, 0);
        lua_pushcclosure(L, next_in_order, 3);
    }
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}
