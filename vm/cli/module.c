// SPDX-License-Identifier: Apache-2.0
// The global `tarn`. Options that the program took from the command line are seen here, so that a
// command honours `--json` wherever it stood.
#include "vm/cli/module.h"
#include "vm/cli/untrusted.h"

#include <string.h>

static const char failure_key;  // registry: where the exit code of a failed run is kept

static int l_exit_on_error(lua_State *L) {
    lua_Integer code = luaL_checkinteger(L, 1);
    luaL_argcheck(L, code >= 1 && code <= 125, 1, "an exit code from 1 to 125 expected");
    lua_rawgetp(L, LUA_REGISTRYINDEX, &failure_key);
    *(int *)lua_touserdata(L, -1) = (int)code;
    return 0;
}

static void text_field(lua_State *L, const char *name, const char *s, size_t len) {
    if (s && len > 0) {
        lua_pushlstring(L, s, len);
        lua_setfield(L, -2, name);
    }
}

static void string_field(lua_State *L, const char *name, const char *s) {
    text_field(L, name, s, s ? strlen(s) : 0);
}

static int l_docs(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    int n = tarn_host_doc_count(h);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        const tarn_doc *d = tarn_host_doc_at(h, i);
        lua_createtable(L, 0, 4);
        string_field(L, "name", d->name);
        string_field(L, "signature", d->signature);
        string_field(L, "text", d->text);
        string_field(L, "example", d->example);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_commands(lua_State *L) {
    tarn_commands c;
    tarn_commands_find(&c);
    lua_createtable(L, c.count, 0);
    for (int i = 0; i < c.count; i++) {
        const tarn_command *row = &c.row[i];
        lua_createtable(L, 0, 4);
        string_field(L, "name", row->name);
        text_field(L, "usage", row->usage, row->usage_len);
        text_field(L, "summary", row->summary, row->summary_len);
        text_field(L, "help", row->help, row->help_len);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_flags(lua_State *L) {
    const char *name, *value, *text;
    lua_newtable(L);
    for (int i = 0; tarn_cli_option_at(i, &name, &value, &text); i++) {
        lua_createtable(L, 0, 3);
        string_field(L, "name", name);
        string_field(L, "value", value);
        string_field(L, "text", text);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static const tarn_binding bindings[] = {
    {{"help", "help(name or value)",
      "Prints what is documented of a name (\"merge.ties\", \"ties\"), a module, a function or the type of a value; a text that "
      "is no name is searched for. At the prompt ?name is the same.",
      "help \"tarn.version\"\n-- > tarn.version -> string\n-- >\n-- > The version of the program.\n-- >\n-- > example:\n"
      "-- >     print(type(tarn.version))\n-- >     -- > string"}, NULL},
    {{"tarn", "tarn", "The run itself: version, options, command.", NULL}, NULL},
    {{"tarn.version", "tarn.version -> string", "The version of the program.",
      "print(type(tarn.version))\n-- > string"}, NULL},
    {{"tarn.options", "tarn.options -> table",
      "Options of the command line: quiet, json, traceback (booleans), threads (of the pool), "
      "memory and hold (bytes), isa (\"v1\", \"v3\" or \"v4\"), time (seconds, or false).",
      "print(tarn.options.threads >= 1)\n-- > true"}, NULL},
    {{"tarn.command", "tarn.command -> string or false",
      "The name of the command that runs, false in a script.", NULL}, NULL},
    {{"tarn.usage", "tarn.usage -> string or false",
      "The comment block at the head of the command's file, false in a script.", NULL}, NULL},
    {{"tarn.docs", "tarn.docs() -> list of {name, signature, text, example}",
      "The documentation rows of the language, in the order in which they were registered; what a row "
      "lacks is nil. `tarn reference` prints them.",
      "for _, d in ipairs(tarn.docs()) do\n"
      "  if d.name == \"merge.ties\" then print(d.text:match \"[^\\n]*\") end\nend\n"
      "-- > Trim, elect sign, merge: task vectors without their conflicts."}, l_docs},
    {{"tarn.commands", "tarn.commands() -> list of {name, usage, summary, help}",
      "The program's commands, by name; help is the comment below the first line of the command's file, "
      "with its dashes.",
      "for _, c in ipairs(tarn.commands()) do\n  if c.name == \"diff\" then print(c.usage) end\nend\n-- > diff A B"}, l_commands},
    {{"tarn.flags", "tarn.flags() -> list of {name, value, text}",
      "The options of the program itself; value is what follows the name, nil for a switch.",
      "print(tarn.flags()[1].name, tarn.flags()[1].value)\n-- > --threads\tN"}, l_flags},
    {{"tarn.exit_on_error", "tarn.exit_on_error(code)",
      "Sets the exit code that an error of this run ends with (1 if it is not called).",
      NULL}, l_exit_on_error},
};

static void flag(lua_State *L, const char *name, bool on) {
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

static void integer(lua_State *L, const char *name, size_t v) {
    lua_pushinteger(L, (lua_Integer)v);
    lua_setfield(L, -2, name);
}

static void push_options(lua_State *L, const tarn_cli_options *o, const tarn_context *cx) {
    lua_createtable(L, 0, 8);
    flag(L, "quiet", o->quiet);
    flag(L, "json", o->json);
    flag(L, "traceback", o->traceback);
    integer(L, "threads", (size_t)tarn_pool_size(cx->pool));
    integer(L, "memory", cx->budget.limit);
    integer(L, "hold", cx->hold);
    lua_pushstring(L, tarn_isa_name(cx->isa));
    lua_setfield(L, -2, "isa");
    flag(L, "time", false);
    if (o->seconds > 0) {
        lua_pushnumber(L, o->seconds);
        lua_setfield(L, -2, "time");
    }
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
    tarn_untrusted_module(r->h);
    tarn_host_push_module(r->h, "tarn");
    text_or_false(L, "version", TARN_VERSION, sizeof TARN_VERSION - 1);
    text_or_false(L, "command", c ? c->name : NULL, c ? strlen(c->name) : 0);
    text_or_false(L, "usage", c ? c->usage : NULL,
                  c ? (size_t)(c->help + c->help_len - c->usage) : 0);
    push_options(L, o, cx);
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
