// SPDX-License-Identifier: Apache-2.0
// Values and help as the prompt shows them. Showing may run a script's __tostring, so it happens in
// a protected call, under the limits; the text is in a userdata, so that an error on the way loses
// nothing.
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vm/repl/repl.h"

#define TEXT_CLASS "shown text"

int tarn_repl_columns(void) {
    enum { USUAL = 80, LEAST = 20 };
    struct winsize w;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0 || w.ws_col == 0) {
        return USUAL;
    }
    return w.ws_col > LEAST ? w.ws_col : LEAST;
}

static void release_text(void *self) {
    tarn_text *t = self;
    if (t->budget) {
        tarn_text_free(t);
    }
}

static int l_print_values(lua_State *L) {
    static const tarn_lua_class text_class = {TEXT_CLASS, release_text, NULL};
    int n = lua_gettop(L), width = tarn_repl_columns();
    luaL_checkstack(L, 8, "values to print");
    tarn_lua_type(L, &text_class);
    tarn_text *t = tarn_lua_new(L, TEXT_CLASS, sizeof *t);
    tarn_text_init(t, &tarn_host_context(L)->budget);
    for (int i = 1; i <= n; i++) {
        tarn_lua_show(L, i, width, t);
        tarn_text_puts(t, "\n");
    }
    if (t->failed) {
        return luaL_error(L, "the values are too large to print");
    }
    if (t->len > 0 && fwrite(t->data, 1, t->len, stdout) < t->len) {
        return luaL_error(L, "cannot write the output: %s", strerror(errno));
    }
    fflush(stdout);
    release_text(t);
    lua_pushglobaltable(L);
    lua_pushliteral(L, "__");
    lua_pushliteral(L, "_");
    lua_rawget(L, -3);
    lua_rawset(L, -3);
    lua_pushvalue(L, 1);
    lua_setglobal(L, "_");
    return 0;
}

tarn_status tarn_repl_print(tarn_host *h, int n, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    if (n == 0) {
        return TARN_OK;
    }
    if (!lua_checkstack(L, 4)) {
        return tarn_raise_nomem(err, "the Lua stack", 0);
    }
    lua_pushcfunction(L, l_print_values);
    lua_insert(L, -n - 1);
    return tarn_host_call(h, n, 0, err);
}

static int l_help(lua_State *L) {
    const char *name = lua_touserdata(L, 1);
    lua_pushglobaltable(L);
    lua_pushliteral(L, "help");
    lua_rawget(L, -2);
    lua_pushstring(L, name);
    lua_rawget(L, -3);
    if (*name && (tarn_host_doc_find(tarn_host_of(L), name) || lua_isnil(L, -1) ||
                  lua_istable(L, -1))) {
        lua_pop(L, 1);
        lua_pushstring(L, name);
    }
    lua_call(L, 1, 0);
    fflush(stdout);
    return 0;
}

tarn_status tarn_repl_help(tarn_host *h, const char *name, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    if (!lua_checkstack(L, 4)) {
        return tarn_raise_nomem(err, "the Lua stack", 0);
    }
    lua_pushcfunction(L, l_help);
    lua_pushlightuserdata(L, (void *)(uintptr_t)name);
    return tarn_host_call(h, 1, 0, err);
}
