// SPDX-License-Identifier: Apache-2.0
// The global `tarn`. Options that the program took from the command line are seen here, so that a
// command honours `--json` wherever it stood.
#include "vm/cli/module.h"

#include <string.h>

static const char failure_key;  // registry: where the exit code of a failed run is kept

static int l_exit_on_error(lua_State *L) {
    lua_Integer code = luaL_checkinteger(L, 1);
    luaL_argcheck(L, code >= 1 && code <= 125, 1, "an exit code from 1 to 125 expected");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &failure_key);
    *(int *)lua_touserdata(L, -1) = (int)code;
    return 0;
}

static const tarn_binding bindings[] = {
    {{"tarn", "tarn", "The run itself: version, options, command.", NULL}, NULL},
    {{"tarn.version", "tarn.version -> string", "The version of the program.",
      "print(type(tarn.version))\n-- > string"}, NULL},
    {{"tarn.options", "tarn.options -> table",
      "Options of the command line: quiet, json and traceback (booleans), threads (number of worker "
      "threads) and memory (bytes that everything together may take).",
      "print(tarn.options.threads >= 1)\n-- > true"}, NULL},
    {{"tarn.command", "tarn.command -> string or false",
      "The name of the command that runs, false in a script.", NULL}, NULL},
    {{"tarn.usage", "tarn.usage -> string or false",
      "The comment block at the head of the command's file, false in a script.", NULL}, NULL},
    {{"tarn.exit_on_error", "tarn.exit_on_error(code)",
      "Sets the exit code that an error of this run ends with (1 if it is not called).",
      NULL}, l_exit_on_error},
};

static void flag(lua_State *L, const char *name, bool on) {
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

static void text_or_false(lua_State *L, const char *name, const char *s, size_t len) {
    if (s) {
        lua_pushlstring(L, s, len);
    } else {
        lua_pushboolean(L, 0);
    }
    lua_setfield(L, -2, name);
}

// `arg` as scripts know it; running a script or command sets its own.
static void set_arg(lua_State *L, const tarn_cli_options *o) {
    lua_createtable(L, o->nargs, 1);
    lua_pushliteral(L, "tarn");
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < o->nargs; i++) {
        lua_pushstring(L, o->args[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

typedef struct {
    tarn_host *h;
    const tarn_cli_options *o;
    int *failure_code;
} request;

static int build(lua_State *L) {
    const request *r = lua_touserdata(L, 1);
    const tarn_cli_options *o = r->o;
    const tarn_context *cx = tarn_host_context(L);
    const tarn_command *c = o->run == TARN_RUN_COMMAND ? o->command : NULL;
    set_arg(L, o);
    lua_pushlightuserdata(L, r->failure_code);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &failure_key);
    tarn_host_module(r->h, "tarn", bindings, sizeof bindings / sizeof *bindings);
    tarn_host_push_module(r->h, "tarn");
    text_or_false(L, "version", TARN_VERSION, sizeof TARN_VERSION - 1);
    text_or_false(L, "command", c ? c->name : NULL, c ? strlen(c->name) : 0);
    text_or_false(L, "usage", c ? c->usage : NULL,
                  c ? (size_t)(c->help + c->help_len - c->usage) : 0);
    lua_createtable(L, 0, 5);
    flag(L, "quiet", o->quiet);
    flag(L, "json", o->json);
    flag(L, "traceback", o->traceback);
    lua_pushinteger(L, tarn_pool_size(cx->pool));
    lua_setfield(L, -2, "threads");
    lua_pushinteger(L, (lua_Integer)cx->budget.limit);
    lua_setfield(L, -2, "memory");
    lua_setfield(L, -2, "options");
    lua_pop(L, 1);
    return 0;
}

tarn_status tarn_cli_module(tarn_host *h, const tarn_cli_options *o, int *failure_code,
                            tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    request r = {h, o, failure_code};
    lua_pushcfunction(L, build);
    lua_pushlightuserdata(L, &r);
    return tarn_host_call(h, 1, 0, err);
}
