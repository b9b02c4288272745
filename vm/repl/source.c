// SPDX-License-Identifier: Apache-2.0
// ??name: the text of a function. Lua knows file and lines; for functions of entries, which are all
// called "input", the entry is found by their code: that of a nested function is part of the code
// of its entry, but for the name of the source, which is written once.
#include <stdio.h>
#include <string.h>

#include "vm/lua/embedded.h"
#include "vm/repl/session.h"

static int write_code(lua_State *L, const void *p, size_t n, void *text) {
    (void)L;
    tarn_text_add(text, p, n);
    return ((tarn_text *)text)->failed;
}

static bool contains(const tarn_text *where, const char *what, size_t n) {
    return n > 0 && where->data && memmem(where->data, where->len, what, n) != NULL;
}

// Compiles an entry as the prompt does; leaves the function, true when it is one.
static bool compile(lua_State *L, tarn_text *text, const char *entry) {
    for (int plain = 0; plain < 2; plain++) {
        text->len = 0;
        tarn_text_puts(text, plain ? "" : "return ");
        tarn_text_puts(text, entry + (*entry == '='));
        if (!text->failed &&
            luaL_loadbufferx(L, text->data ? text->data : "", text->len, "=input", "t") == LUA_OK) {
            return true;
        }
        lua_pop(L, text->failed ? 0 : 1);
    }
    return false;
}

// The entry whose code holds that of the function on top; NULL: none does.
static const char *entry_of(tarn_session *s, lua_State *L) {
    static const char source[] = "=input";
    tarn_text code, whole, text;
    tarn_text *const all[] = {&code, &whole, &text};
    for (int i = 0; i < 3; i++) {
        tarn_text_init(all[i], &s->cx->budget);
    }
    const char *found = NULL, *end = s->entries.data ? s->entries.data + s->entries.len : NULL;
    lua_dump(L, write_code, &code, 0);
    const char *at = code.data ? memmem(code.data, code.len, source, sizeof source - 1) : NULL;
    at = at ? at + sizeof source - 1 : NULL;
    for (const char *e = s->entries.data; at && e && e < end; e += strlen(e) + 1) {
        if (strstr(e, "function") && compile(L, &text, e + 1)) {
            whole.len = 0;
            lua_dump(L, write_code, &whole, 0);
            lua_pop(L, 1);
            found = contains(&whole, at, (size_t)(code.data + code.len - at)) ? e + 1 : found;
        }
    }
    for (int i = 0; i < 3; i++) {
        tarn_text_free(all[i]);
    }
    return found;
}

static void print_lines(const char *text, int first, int last) {
    for (int n = 1; *text && n <= last; n++) {
        size_t len = strcspn(text, "\n");
        if (n >= first) {
            printf("%.*s\n", (int)len, text);
        }
        text += len + (text[len] == '\n');
    }
}

static void print_file(const char *path, int first, int last) {
    FILE *f = fopen(path, "r");
    char line[4096];
    printf("-- %s:%d\n", path, first);
    for (int n = 1; f && n <= last && fgets(line, sizeof line, f);) {
        if (n >= first) {
            fputs(line, stdout);
        }
        n += strchr(line, '\n') != NULL;
    }
    if (f) {
        fclose(f);
    } else {
        printf("(the file cannot be read)\n");
    }
}

// A function of the library may stand around the one that does the work, so that errors are told at the
// script's line: it calls that one `inner`, which takes its place on top.
static bool see_through(lua_State *L) {
    static const char library[] = "@stdlib/";
    lua_Debug ar;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    if (strncmp(ar.source, library, sizeof library - 1) != 0) {
        return false;
    }
    const char *name;
    for (int i = 1; (name = lua_getupvalue(L, -1, i)); i++) {
        if (strcmp(name, "inner") == 0 && lua_isfunction(L, -1)) {
            lua_replace(L, -2);
            return true;
        }
        lua_pop(L, 1);
    }
    return false;
}

// The function on top.
static void print_source(tarn_session *s, lua_State *L, const char *name) {
    lua_Debug ar;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    if (*ar.what == 'C') {
        printf("%s is written in C; ?%s shows its documentation\n", name, name);
        return;
    }
    const char *entry = strcmp(ar.source, "=input") == 0 ? entry_of(s, L) : NULL;
    if (entry) {
        print_lines(entry, ar.linedefined, ar.lastlinedefined);
        return;
    }
    const char *path = ar.source + (*ar.source == '@');
    for (const tarn_embedded_file *f = tarn_embedded_files; f->path; f++) {
        if (strcmp(f->path, path) == 0) {
            printf("-- %s:%d, in the program\n", path, ar.linedefined);
            print_lines(f->text, ar.linedefined, ar.lastlinedefined);
            return;
        }
    }
    if (*ar.source == '@') {
        print_file(path, ar.linedefined, ar.lastlinedefined);
    } else {
        printf("the text of %s is not kept\n", name);
    }
}

typedef struct {
    tarn_session *s;
    const char *name;
} request;

static int l_source(lua_State *L) {
    const request *r = lua_touserdata(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushstring(L, r->name);
    lua_call(L, 1, 1);  // the value of that name
    if (!lua_isfunction(L, -1)) {
        return luaL_error(L, "??%s: expected a function, got a %s", r->name, luaL_typename(L, -1));
    }
    luaL_checkstack(L, 8, "source");
    for (int depth = 0; depth < 8 && see_through(L); depth++) {
    }
    print_source(r->s, L, r->name);
    fflush(stdout);
    return 0;
}

tarn_status tarn_session_source(tarn_session *s, const char *name, tarn_error *err) {
    lua_State *L = tarn_host_state(s->h);
    request r = {s, name};
    TARN_TRY(tarn_session_call(s, "finder", 0, NULL, err));
    lua_pushcclosure(L, l_source, 1);
    lua_pushlightuserdata(L, &r);
    return tarn_host_call(s->h, 1, 0, err);
}
