// SPDX-License-Identifier: Apache-2.0
// Running chunks and calls, and what becomes of their errors. Everything that can raise, compiling
// and building `arg` included, happens inside one protected call, so an error never meets an
// unprotected state; the error value is made text there too, while the limits still hold.
#include <stdio.h>
#include <string.h>

#include "vm/lua/state.h"

typedef struct {
    const char *chunkname;  // as lua_load wants it
    const char *path;       // a file to read, instead of text; NULL: none
    const char *text;
    size_t len;
    int nargs;
    const char *const *args;
    bool with_args;   // set the global `arg`
    bool *incomplete; // a line of the prompt; NULL: a whole chunk
} request;

lua_State *tarn_host_running(tarn_host *h) {
    lua_State *L = atomic_load(&h->current);
    return L ? L : h->L;
}

// ---- errors ----

static int stringify(lua_State *L) {
    tarn_tolstring(L, 1, NULL);
    return 1;
}

static void keep_traceback(lua_State *L) {
    tarn_text *t = &tarn_host_of(L)->traceback;
    size_t len;
    luaL_traceback(L, L, NULL, 1);
    const char *s = lua_tolstring(L, -1, &len);
    t->len = 0;
    t->failed = false;
    tarn_text_add(t, s, len);
    lua_pop(L, 1);
}

// Leaves a string or an error object. Script code runs here only in a protected call of its own.
static int message_handler(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    lua_settop(L, 1);
    if (h->fatal || tarn_cancel_reason(&h->cx->cancel) != TARN_STOP_NONE) {
        return 1;
    }
    if (!tarn_error_of(L, 1) && lua_type(L, 1) != LUA_TSTRING) {
        lua_pushcfunction(L, stringify);
        lua_pushvalue(L, 1);
        int status = lua_pcall(L, 1, 1, 0);
        if (status != LUA_OK && !h->fatal) {
            tarn_push_kind(L, 1);
            lua_pushfstring(L, "an error value (%s) whose __tostring failed",
                            lua_tostring(L, -1));
        }
        lua_replace(L, 1);
        lua_settop(L, 1);
    }
    keep_traceback(L);
    return 1;
}

// Copies text into a message of the record; what does not fit ends in "…" on a whole character.
static void set_message(tarn_error *err, const char *where, const char *s, size_t len) {
    static const char more[] = "…";
    size_t room = sizeof err->message;
    size_t n = (size_t)snprintf(err->message, room, "%s", where);
    n = n < room ? n : room - 1;
    if (len < room - n) {
        memcpy(err->message + n, s, len);
        err->message[n + len] = '\0';
        return;
    }
    size_t take = room - n > sizeof more ? room - n - sizeof more : 0;
    while (take > 0 && ((unsigned char)s[take] & 0xC0) == 0x80) {
        take--;
    }
    memcpy(err->message + n, s, take);
    snprintf(err->message + n + take, room - n - take, "%s", more);
}

tarn_status tarn_take_error(tarn_host *h, int status, tarn_error *err) {
    lua_State *L = tarn_host_running(h);
    tarn_error dummy;
    err = err ? err : &dummy;
    const tarn_error *record = tarn_error_of(L, -1);
    tarn_error_clear(err);
    err->status = TARN_ERROR;
    if (h->fatal) {
        *err = h->fatal_error;
    } else if (tarn_cancel_check(&h->cx->cancel, err) != TARN_OK) {
        tarn_set_fatal(h, err);
        *err = h->fatal_error;
    } else if (status == LUA_ERRMEM) {
        tarn_raise_status(err, TARN_NOMEM, "OutOfMemory",
                          "out of memory: the script needs more than the budget of %zu bytes",
                          h->cx->budget.limit);
    } else if (record) {
        *err = *record;
        set_message(err, tarn_error_where(L, -1), record->message, strlen(record->message));
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        size_t len;
        const char *s = lua_tolstring(L, -1, &len);
        set_message(err, "", s, len);
    } else {
        set_message(err, "", "an error without a message", 26);
    }
    lua_pop(L, 1);
    return err->status;
}

const char *tarn_host_traceback(tarn_host *h) {
    return h->traceback.len > 0 && h->traceback.data ? h->traceback.data : "";
}

bool tarn_host_exiting(const tarn_host *h, int *code) {
    *code = h->exit_code;
    return h->exiting;
}

// ---- calls ----

// Nothing starts while a stop stands: the prompt clears it first (tarn_host_resume_work).
static tarn_status enter(tarn_host *h, tarn_error *err) {
    if (h->fatal) {
        *err = h->fatal_error;
        return err->status;
    }
    h->traceback.len = 0;
    return tarn_cancel_check(&h->cx->cancel, err);
}

static tarn_status no_stack(tarn_error *err) {
    return tarn_raise_nomem(err, "the Lua stack", 0);
}

tarn_status tarn_host_call(tarn_host *h, int nargs, int nresults, tarn_error *err) {
    tarn_error dummy;
    err = err ? err : &dummy;
    lua_State *L = tarn_host_running(h);
    int base = lua_gettop(L) - nargs;
    tarn_status s = enter(h, err);
    if (s == TARN_OK && !lua_checkstack(L, 4)) {
        s = no_stack(err);
    }
    if (s != TARN_OK) {
        lua_settop(L, base - 1);
        return s;
    }
    lua_pushcfunction(L, message_handler);
    lua_insert(L, base);
    int status = lua_pcall(L, nargs, nresults, base);
    atomic_store(&h->current, L);
    lua_remove(L, base);
    return status == LUA_OK ? TARN_OK : tarn_take_error(h, status, err);
}

// ---- chunks ----

static void set_arg(lua_State *L, const request *r) {
    lua_createtable(L, r->nargs, 1);
    const char *name = r->chunkname;
    lua_pushstring(L, r->path ? r->path : *name == '@' || *name == '=' ? name + 1 : name);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < r->nargs; i++) {
        lua_pushstring(L, r->args[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

static int compile_file(lua_State *L, const request *r) {
    tarn_error err;
    size_t len;
    TARN_LUA_TRY(L, tarn_read_file(L, r->path, &err), &err);
    const char *text = lua_tolstring(L, -1, &len);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "tarn.script");  // for the provenance of what the script saves
    lua_pushfstring(L, "@%s", r->path);
    int status = tarn_compile(L, text, len, lua_tostring(L, -1));
    lua_insert(L, -3);
    lua_pop(L, 2);
    return status;
}

// More lines may complete the text: the parser met its end, but not inside a quoted string.
static bool wants_more(lua_State *L, int status) {
    static const char mark[] = "<eof>";
    size_t len, n = sizeof mark - 1;
    const char *s = lua_tolstring(L, -1, &len);
    return status == LUA_ERRSYNTAX && len >= n && strcmp(s + len - n, mark) == 0 &&
           !strstr(s, "unfinished string");
}

static int compile_line(lua_State *L, const request *r) {
    // A call behind a variable that is to be closed is no tail call: the entry stays on the stack, so
    // that errors of the library's Lua functions tell its line.
    lua_pushliteral(L, "local tarn_entry <close> = nil return ");
    lua_pushlstring(L, r->text, r->len);
    lua_concat(L, 2);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    int status = tarn_compile(L, text, len, r->chunkname);
    if (status != LUA_OK) {
        bool more = wants_more(L, status);  // "1 +" is no statement, but half an expression
        lua_pop(L, 1);
        status = tarn_compile(L, r->text, r->len, r->chunkname);
        *r->incomplete = status != LUA_OK && (more || wants_more(L, status));
    }
    lua_remove(L, -2);
    return status;
}

static int body(lua_State *L) {
    const request *r = lua_touserdata(L, 1);
    int status = r->path         ? compile_file(L, r)
                 : r->incomplete ? compile_line(L, r)
                                 : tarn_compile(L, r->text, r->len, r->chunkname);
    if (status != LUA_OK) {
        tarn_rethrow_fatal(L, status);
        return lua_error(L);
    }
    if (r->with_args) {
        set_arg(L, r);
    }
    tarn_env_keep(L);
    luaL_checkstack(L, r->nargs + 4, "arguments of the script");
    for (int i = 0; i < r->nargs; i++) {
        lua_pushstring(L, r->args[i]);
    }
    lua_call(L, r->nargs, LUA_MULTRET);
    return lua_gettop(L) - 1;
}

static tarn_status perform(tarn_host *h, request *r, int *results, tarn_error *err) {
    tarn_error dummy;
    err = err ? err : &dummy;
    lua_State *L = tarn_host_running(h);
    int base = lua_gettop(L);
    if (results) {
        *results = 0;
    }
    if (!lua_checkstack(L, 8)) {
        return no_stack(err);
    }
    lua_pushcfunction(L, body);
    lua_pushlightuserdata(L, r);
    TARN_TRY(tarn_host_call(h, 1, LUA_MULTRET, err));
    if (results) {
        *results = lua_gettop(L) - base;
    } else {
        lua_settop(L, base);
    }
    return TARN_OK;
}

// "soup.lua" becomes "@soup.lua", a file name to Lua; "=input" and "@file" stay.
static const char *source_name(const char *name, char *buf, size_t room) {
    if (*name == '@' || *name == '=') {
        return name;
    }
    snprintf(buf, room, "@%s", name);
    return buf;
}

tarn_status tarn_host_run(tarn_host *h, const char *chunkname, const char *text, size_t len,
                          int nargs, const char *const *args, int *results, tarn_error *err) {
    char buf[1024];
    request r = {.chunkname = source_name(chunkname, buf, sizeof buf), .text = text, .len = len,
                 .nargs = nargs, .args = args, .with_args = true};
    return perform(h, &r, results, err);
}

tarn_status tarn_host_run_file(tarn_host *h, const char *path, int nargs, const char *const *args,
                               int *results, tarn_error *err) {
    request r = {.chunkname = "", .path = path, .nargs = nargs, .args = args, .with_args = true};
    return perform(h, &r, results, err);
}

tarn_status tarn_host_run_line(tarn_host *h, const char *text, size_t len, int *results,
                               bool *incomplete, tarn_error *err) {
    request r = {.chunkname = "=input", .text = text, .len = len, .incomplete = incomplete};
    *incomplete = false;
    return perform(h, &r, results, err);
}

static int embedded_body(lua_State *L) {
    tarn_push_embedded(L, lua_touserdata(L, 1));
    return 1;
}

tarn_status tarn_host_load_embedded(tarn_host *h, const char *path, tarn_error *err) {
    lua_State *L = tarn_host_running(h);
    if (!lua_checkstack(L, 8)) {
        return no_stack(err);
    }
    lua_pushcfunction(L, embedded_body);
    lua_pushlightuserdata(L, (void *)(uintptr_t)path);
    return tarn_host_call(h, 1, 1, err);
}
