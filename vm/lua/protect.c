// SPDX-License-Identifier: Apache-2.0
// pcall, xpcall and the coroutine functions, written anew for two reasons: a fatal error (a stop, a
// limit, os.exit) passes through them, and the host always knows which coroutine runs, since that is
// where a stop must arm its hook.
#include "vm/lua/state.h"

static int finish(lua_State *L, int status, lua_KContext skip) {
    if (status != LUA_OK && status != LUA_YIELD) {
        tarn_rethrow_fatal(L, status);
        lua_pushboolean(L, 0);
        lua_pushvalue(L, -2);
        return 2;
    }
    return lua_gettop(L) - (int)skip;
}

static int l_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish);
    return finish(L, status, 0);
}

// The script's handler sees no fatal error, so it cannot hold one up.
static int handler(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    if (h->fatal || tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        lua_settop(L, 1);
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

// Pushes handler() around the function at `idx`. Upvalues: the last such function, what was made.
static void push_handler(lua_State *L, int idx) {
    if (!lua_rawequal(L, idx, lua_upvalueindex(1))) {
        lua_pushvalue(L, idx);
        lua_pushcclosure(L, handler, 1);
        lua_replace(L, lua_upvalueindex(2));
        lua_pushvalue(L, idx);
        lua_replace(L, lua_upvalueindex(1));
    }
    lua_pushvalue(L, lua_upvalueindex(2));
}

static int l_xpcall(lua_State *L) {
    int n = lua_gettop(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    push_handler(L, 2);
    lua_replace(L, 2);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);  // f handler true f args …
    int status = lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, finish);
    return finish(L, status, 2);
}

const luaL_Reg tarn_protect_functions[] = {{"pcall", l_pcall}, {"xpcall", l_xpcall}, {NULL, NULL}};

static lua_State *check_coroutine(lua_State *L) {
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

static int l_create(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

// Moves n arguments over and runs co until it yields or ends. Returns the number of values that it
// left on L, or -1 with the error value there.
static int resume(lua_State *L, lua_State *co, int n) {
    tarn_host *h = tarn_host_of(L);
    int results = 0;
    if (!lua_checkstack(co, n)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, n);
    atomic_store(&h->current, co);
    if (tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        tarn_stop_arm(h, co);
    }
    int status = lua_resume(co, L, n, &results);
    atomic_store(&h->current, L);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        tarn_rethrow_fatal(L, status);
        return -1;
    }
    tarn_poll(L);
    if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, results);
    return results;
}

static int l_resume(lua_State *L) {
    lua_State *co = check_coroutine(L);
    int n = resume(L, co, lua_gettop(L) - 1);
    if (n < 0) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, -(n + 1));
    return n + 1;
}

// Closes the pending variables of a coroutine. This Lua release counts the C stack from nothing
// again in the coroutine that it closes, so the depth is bounded here, and so is the stack itself:
// up to 200 C calls may stand between two closes. A coroutine that a stop ended keeps its variables
// (hooks are off in it for good, so a loop there would not end); the collector releases them.
static int reset(lua_State *L, lua_State *co) {
    enum { DEPTH = 100 };
    tarn_host *h = tarn_host_of(L);
    if (h->fatal) {
        tarn_fatal(L, &h->fatal_error);
    }
    if (h->close_depth >= DEPTH || (uintptr_t)__builtin_frame_address(0) < h->stack_floor) {
        return luaL_error(L, "coroutine.close: the closes are nested too deep");
    }
    h->close_depth++;
    atomic_store(&h->current, co);
    if (tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        tarn_stop_arm(h, co);
    }
    int status = lua_resetthread(co);
    atomic_store(&h->current, L);
    h->close_depth--;
    return status;
}

static int wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int n = resume(L, co, lua_gettop(L));
    if (n >= 0) {
        return n;
    }
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {  // it ended by the error: close its variables
        status = reset(L, co);
        if (status != LUA_OK) {
            lua_xmove(co, L, 1);
            tarn_rethrow_fatal(L, status);
        }
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int l_wrap(lua_State *L) {
    l_create(L);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

static int l_close(lua_State *L) {
    lua_State *co = check_coroutine(L);
    lua_Debug ar;
    if (co == L) {
        return luaL_error(L, "cannot close a running coroutine");
    }
    if (lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar)) {
        return luaL_error(L, "cannot close a normal coroutine");
    }
    int status = reset(L, co);
    if (status != LUA_OK) {
        lua_xmove(co, L, 1);
        tarn_rethrow_fatal(L, status);
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    return 1;
}

const luaL_Reg tarn_coroutine_functions[] = {
    {"create", l_create}, {"resume", l_resume}, {"wrap", l_wrap}, {"close", l_close}, {NULL, NULL}};
