// SPDX-License-Identifier: Apache-2.0
// The globals of a script. They are put one by one into a fresh table, so that a function that a
// library gains stays out until somebody let it in. Reading a global that is not there is an error.
#include <errno.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "vm/lua/state.h"

enum { PRINT_MAX_RECIPE = 64 << 20, NAME_SHOWN = 64 };

// ---- values as text ----

void tarn_push_kind(lua_State *L, int idx) {
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 4, "name of a type");
    if (lua_type(L, idx) == LUA_TFUNCTION) {
        const tarn_doc *d = tarn_doc_of(tarn_host_of(L), lua_tocfunction(L, idx));
        lua_pushfstring(L, "function: %s",
                        d ? d->name : lua_iscfunction(L, idx) ? "builtin" : "script");
        return;
    }
    if (lua_getmetatable(L, idx)) {
        lua_pushliteral(L, "__name");
        lua_rawget(L, -2);
        lua_remove(L, -2);
        size_t len;
        if (lua_type(L, -1) == LUA_TSTRING) {
            const char *name = lua_tolstring(L, -1, &len);
            lua_pushlstring(L, name, len < NAME_SHOWN ? len : NAME_SHOWN);
            lua_remove(L, -2);
            return;
        }
        lua_pop(L, 1);
    }
    lua_pushstring(L, luaL_typename(L, idx));
}

const char *tarn_tolstring(lua_State *L, int idx, size_t *len) {
    idx = lua_absindex(L, idx);
    int type = lua_type(L, idx);
    if (type == LUA_TNUMBER || type == LUA_TSTRING) {  // no script reaches their metatables
        lua_pushvalue(L, idx);
    } else if (luaL_callmeta(L, idx, "__tostring")) {
        if (!lua_isstring(L, -1)) {
            luaL_error(L, "'__tostring' must return a string");
        }
    } else if (type == LUA_TNIL || type == LUA_TBOOLEAN) {
        luaL_tolstring(L, idx, NULL);
    } else {
        tarn_push_kind(L, idx);
    }
    return lua_tolstring(L, -1, len);
}

static int l_tostring(lua_State *L) {
    luaL_checkany(L, 1);
    tarn_tolstring(L, 1, NULL);
    return 1;
}

// ---- print ----

// A write that a signal cut short goes on unless the signal was a stop.
static void put(lua_State *L, const char *s, size_t n) {
    tarn_host *h = tarn_host_of(L);
    while (n > 0) {
        size_t piece = n < BUFSIZ ? n : BUFSIZ;
        size_t w = fwrite(s, 1, piece, stdout);
        s += w;
        n -= w;
        h->printed += w;
        if (w < piece) {
            if (errno != EINTR) {
                clearerr(stdout);
                tarn_lua_error(L, "print: cannot write the output: %s", strerror(errno));
            }
            clearerr(stdout);
        }
        tarn_poll(L);
    }
    if (h->trust == TARN_TRUST_RECIPE && h->printed > PRINT_MAX_RECIPE) {
        tarn_error why;
        tarn_raise(&why, "OutputTooLarge", "print: a recipe may print at most %d MiB",
                   PRINT_MAX_RECIPE >> 20);
        tarn_fatal(L, &why);
    }
}

// A plain table has no text of its own, so it is written out as the prompt shows it.
static const char *printed(lua_State *L, int idx, size_t *len) {
    enum { COLUMNS = 100 };  // the same wherever it goes to
    int n = lua_gettop(L);
    if (lua_istable(L, idx) && !lua_getmetatable(L, idx)) {
        return tarn_push_shown(L, idx, COLUMNS, len);
    }
    lua_settop(L, n);
    return tarn_tolstring(L, idx, len);
}

static int l_print(lua_State *L) {
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        size_t len;
        const char *s = printed(L, i, &len);
        if (i > 1) {
            put(L, "\t", 1);
        }
        put(L, s, len);
        lua_pop(L, 1);
    }
    put(L, "\n", 1);
    if (fflush(stdout) != 0 && errno != EINTR) {
        return tarn_lua_error(L, "print: cannot write the output: %s", strerror(errno));
    }
    return 0;
}

// ---- base functions that differ from the standard ones ----

static int l_setmetatable(lua_State *L) {  // upvalue: "__gc"
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL) {
        return tarn_lua_error(L, "setmetatable: this metatable is protected");
    }
    if (type == LUA_TTABLE) {
        lua_pushvalue(L, lua_upvalueindex(1));
        if (lua_rawget(L, 2) != LUA_TNIL) {
            return tarn_lua_error(L, "setmetatable: __gc is not available to scripts (use "
                                  "__close and `local x <close>`)");
        }
    }
    lua_settop(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int l_rawset(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    if (tarn_is_module(L, 1)) {
        tarn_tolstring(L, 1, NULL);
        return tarn_lua_error(L, "rawset: %s is read-only", lua_tostring(L, -1));
    }
    lua_rawset(L, 1);
    return 1;
}

static int l_collectgarbage(lua_State *L) {
    static const char *const what[] = {"collect", "count", NULL};
    if (luaL_checkoption(L, 1, "collect", what) == 0) {
        lua_gc(L, LUA_GCCOLLECT);
        lua_pushinteger(L, 0);
        return 1;
    }
    lua_pushnumber(L, lua_gc(L, LUA_GCCOUNT) + lua_gc(L, LUA_GCCOUNTB) / 1024.0);
    return 1;
}

const luaL_Reg tarn_base_functions[] = {
    {"tostring", l_tostring}, {"print", l_print},
    {"rawset", l_rawset},     {"load", tarn_load},
    {"require", tarn_require}, {"collectgarbage", l_collectgarbage},
    {"help", tarn_help},      {NULL, NULL}};

// A seed is always given: runs repeat.
static int l_randomseed(lua_State *L) {
    luaL_checknumber(L, 1);
    lua_settop(L, 2);
    int n = lua_isnil(L, 2) ? 1 : 2;
    lua_getfield(L, lua_upvalueindex(1), "randomseed");
    lua_insert(L, 1);
    lua_settop(L, n + 1);
    lua_call(L, n, 0);
    return 0;
}

static int l_exit(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    tarn_error why;
    lua_Integer code = lua_isboolean(L, 1) ? !lua_toboolean(L, 1) : luaL_optinteger(L, 1, 0);
    h->exiting = true;
    h->exit_code = (int)(code & 0xFF);
    tarn_raise_status(&why, TARN_CANCELLED, "Exit", "the script ended itself with exit code %d",
                      h->exit_code);
    tarn_fatal(L, &why);
}

static int l_file_tostring(lua_State *L) {  // the standard one shows an address
    const luaL_Stream *f = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    lua_pushstring(L, f->closef ? "file" : "file (closed)");
    return 1;
}

static int l_item(lua_State *L) {
    luaL_checknumber(L, 1);
    lua_settop(L, 1);
    return 1;
}

// ---- files ----

// A standard function whose first n values are paths, if they are texts. It runs in this frame, so that
// its messages name what called it; upvalue 1: the standard table.
static int with_paths(lua_State *L, const char *name, int n) {
    for (int i = 1; i <= n; i++) {
        if (lua_type(L, i) == LUA_TSTRING) {
            tarn_lua_check_path(L, i);
        }
    }
    lua_getfield(L, lua_upvalueindex(1), name);
    lua_CFunction standard = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return standard(L);
}

static int l_io_input(lua_State *L) { return with_paths(L, "input", 1); }
static int l_io_lines(lua_State *L) { return with_paths(L, "lines", 1); }
static int l_io_open(lua_State *L) { return with_paths(L, "open", 1); }
static int l_io_output(lua_State *L) { return with_paths(L, "output", 1); }
static int l_os_remove(lua_State *L) { return with_paths(L, "remove", 1); }
static int l_os_rename(lua_State *L) { return with_paths(L, "rename", 2); }

// ---- names that are not there ----

static const char *absent_reason(lua_State *L, const char *word) {
    static const char *const script_only[] = {"io", "os", "dofile", "loadfile", NULL};
    const tarn_host *h = tarn_host_of(L);
    bool refused = tarn_is_refused(h, word);
    for (int i = 0; script_only[i]; i++) {
        refused |= strcmp(word, script_only[i]) == 0 && h->trust == TARN_TRUST_RECIPE;
    }
    if (refused) {
        return "is not available to a recipe";
    }
    if (strcmp(word, "debug") == 0 || strcmp(word, "package") == 0) {
        return "is not available to scripts";
    }
    return NULL;
}

static int l_undefined(lua_State *L) {
    if (lua_type(L, 2) != LUA_TSTRING) {
        return 0;
    }
    const char *word = lua_tostring(L, 2);
    const char *reason = absent_reason(L, word);
    if (reason) {
        return tarn_lua_error(L, "%s %s", word, reason);
    }
    const char *near = tarn_nearest_key(L, 1, word);
    if (near) {
        return tarn_lua_error(L, "undefined global '%.60s'; did you mean '%s'?", word, near);
    }
    return tarn_lua_error(L, "undefined global '%.60s'", word);
}

// ---- building ----

// Copies the named fields of the table on top into the table below it; pops the upper one.
static void keep(lua_State *L, const char *const *names) {
    for (; *names; names++) {
        lua_getfield(L, -1, *names);
        lua_setfield(L, -3, *names);
    }
    lua_pop(L, 1);
}

typedef struct {
    const char *name;
    lua_CFunction open;
    const luaL_Reg *own;         // replace or join what is kept; upvalue 1: the standard table
    const luaL_Reg *own_too;
    const char *const *kept;
    bool script_only;
} library;

static const char *const base_kept[] = {
    "assert", "error", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen",
    "select", "tonumber", "type", "warn", "_VERSION", NULL};
static const char *const string_kept[] = {"byte", "char", "len", "sub", "unpack", "packsize", NULL};
static const char *const table_kept[] = {"pack", "unpack", NULL};
static const char *const math_kept[] = {
    "abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge", "log",
    "max", "maxinteger", "min", "mininteger", "modf", "pi", "rad", "random", "sin", "sqrt", "tan",
    "tointeger", "type", "ult", NULL};
static const char *const utf8_kept[] = {"char", "charpattern", "codepoint", "codes", "len",
                                        "offset", NULL};
static const char *const coroutine_kept[] = {"isyieldable", "running", "status", "yield", NULL};
static const char *const io_kept[] = {"close", "popen", "read", "stderr", "stdin", "stdout",
                                      "tmpfile", "type", "write", NULL};
static const char *const os_kept[] = {"clock", "date", "difftime", "execute", "getenv", "time",
                                      "tmpname", NULL};
static const luaL_Reg math_own[] = {{"randomseed", l_randomseed}, {NULL, NULL}};
static const luaL_Reg io_own[] = {{"input", l_io_input}, {"lines", l_io_lines}, {"open", l_io_open},
                                  {"output", l_io_output}, {NULL, NULL}};
static const luaL_Reg os_own[] = {{"exit", l_exit}, {"remove", l_os_remove},
                                  {"rename", l_os_rename}, {NULL, NULL}};

static const library libraries[] = {
    {"string", luaopen_string, tarn_string_functions, tarn_pattern_functions, string_kept, false},
    {"table", luaopen_table, tarn_table_functions, NULL, table_kept, false},
    {"math", luaopen_math, math_own, NULL, math_kept, false},
    {"utf8", luaopen_utf8, NULL, NULL, utf8_kept, false},
    {"coroutine", luaopen_coroutine, tarn_coroutine_functions, NULL, coroutine_kept, false},
    {"io", luaopen_io, io_own, NULL, io_kept, true},
    {"os", luaopen_os, os_own, NULL, os_kept, true},
};

static void own_functions(lua_State *L, const luaL_Reg *own) {  // standard, fresh
    if (own) {
        lua_pushvalue(L, -2);
        luaL_setfuncs(L, own, 1);
    }
}

// globals, loaded -> the same, with the library in both.
static void open_library(lua_State *L, const library *lib) {
    lua_pushcfunction(L, lib->open);
    lua_pushstring(L, lib->name);
    lua_call(L, 1, 1);
    lua_newtable(L);
    lua_pushvalue(L, -2);
    keep(L, lib->kept);
    own_functions(L, lib->own);
    own_functions(L, lib->own_too);
    lua_remove(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, lib->name);
    lua_setfield(L, -3, lib->name);
}

static void protect_metatable(lua_State *L) {  // of the value on top
    if (lua_getmetatable(L, -1)) {
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pop(L, 1);
    }
}

// Strings find their methods in the new table; numbers have `item`, so that a scalar may be either
// a number or a tensor.
static void set_type_metatables(lua_State *L) {
    static const luaL_Reg number[] = {{"item", l_item}, {NULL, NULL}};
    lua_getglobal(L, "string");
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    protect_metatable(L);
    lua_pop(L, 2);

    lua_pushinteger(L, 0);
    lua_createtable(L, 0, 2);
    luaL_newlib(L, number);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    protect_metatable(L);
    lua_pop(L, 1);
}

// The standard base functions go into the table of globals that the state was made with; a fresh one
// takes its place.
static void open_base(lua_State *L) {
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 1);
    lua_newtable(L);
    lua_insert(L, -2);
    keep(L, base_kept);
    luaL_setfuncs(L, tarn_base_functions, 0);
    lua_pushliteral(L, "__gc");
    lua_pushcclosure(L, l_setmetatable, 1);
    lua_setfield(L, -2, "setmetatable");
    lua_pushnil(L);
    lua_pushnil(L);
    luaL_setfuncs(L, tarn_protect_functions, 2);
    if (tarn_host_of(L)->trust == TARN_TRUST_SCRIPT) {
        luaL_setfuncs(L, tarn_file_functions, 0);
    } else {
        lua_pushcfunction(L, tarn_pairs);
        lua_setfield(L, -2, "pairs");
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}

static void make_strict(lua_State *L) {  // the table on top
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, l_undefined);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, 0);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
}

// ---- the globals of the library ----

static const char library_key = 0;  // registry: what the embedded library has for globals

void tarn_env_push_library(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &library_key) == LUA_TTABLE) {
        return;
    }
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 2);
    lua_pushglobaltable(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &library_key);
}

// What a script may put something else in the place of, for the library too: it collects what is said.
static bool is_for_scripts(const char *name) {
    static const char *const names[] = {"print", "warn", "arg", "_G"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

void tarn_env_keep(lua_State *L) {
    luaL_checkstack(L, 8, "globals");
    tarn_env_push_library(L);
    lua_pushnil(L);
    if (lua_next(L, -2)) {  // kept before
        lua_pop(L, 3);
        return;
    }
    lua_pushglobaltable(L);
    lua_pushnil(L);
    while (lua_next(L, -2)) {  // library, globals, name, value
        if (lua_type(L, -2) == LUA_TSTRING && !is_for_scripts(lua_tostring(L, -2))) {
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, -5);
        } else {
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 2);
}

int tarn_env_open(lua_State *L) {
    luaL_checkversion(L);
    tarn_stop_prepare(L);
    tarn_error_class(L);
    tarn_loader_open(L);
    open_base(L);
    lua_newtable(L);  // for names in messages: luaL_traceback looks functions up in it
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        if (!libraries[i].script_only || tarn_host_of(L)->trust == TARN_TRUST_SCRIPT) {
            open_library(L, &libraries[i]);
        }
    }
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "_G");
    lua_setfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    set_type_metatables(L);
    if (luaL_getmetatable(L, LUA_FILEHANDLE) == LUA_TTABLE) {
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
        lua_pushcfunction(L, l_file_tostring);
        lua_setfield(L, -2, "__tostring");
    }
    lua_pop(L, 1);
    lua_getfield(L, -1, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushinteger(L, 0);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
    make_strict(L);
    return 0;
}
