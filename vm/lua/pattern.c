// SPDX-License-Identifier: Apache-2.0
// placeholder until the matcher is written
#include "vm/lua/state.h"
static int forward(lua_State *L, const char *name) {
    lua_getfield(L, lua_upvalueindex(1), name);
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}
static int l_find(lua_State *L) { return forward(L, "find"); }
static int l_match(lua_State *L) { return forward(L, "match"); }
static int l_gmatch(lua_State *L) { return forward(L, "gmatch"); }
static int l_gsub(lua_State *L) { return forward(L, "gsub"); }
const luaL_Reg tarn_pattern_functions[] = {
    {"find", l_find}, {"match", l_match}, {"gmatch", l_gmatch}, {"gsub", l_gsub}, {NULL, NULL}};
