// SPDX-License-Identifier: Apache-2.0
// A value as the prompt shows it: strings quoted, tables written out to a small depth and width,
// userdata by the printer that its room registered. It reads tables raw and runs no script code
// except __tostring of values that have one.
#include <string.h>

#include "vm/lua/state.h"

enum { DEPTH = 3, WIDTH = 32, TEXT = 2000 };

static void show(lua_State *L, int idx, tarn_text *out, int depth);

static bool is_word(const char *s, size_t n) {
    static const char *const reserved[] = {
        "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if",
        "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strlen(reserved[i]) == n && memcmp(s, reserved[i], n) == 0) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9')) {
            return false;
        }
    }
    return n > 0;
}

static void show_string(lua_State *L, int idx, tarn_text *out) {
    size_t n;
    const char *s = lua_tolstring(L, idx, &n);
    tarn_text_puts(out, "\"");
    for (size_t i = 0, start = 0; i <= n && i <= TEXT; i++) {
        if (i == n || i == TEXT || s[i] == '"' || s[i] == '\\' || s[i] == '\n') {
            tarn_text_show(out, s + start, i - start, i - start);
            if (i < n && i < TEXT) {
                tarn_text_puts(out, s[i] == '\n' ? "\\n" : s[i] == '"' ? "\\\"" : "\\\\");
            }
            start = i + 1;
        }
    }
    tarn_text_puts(out, n > TEXT ? "\"…" : "\"");
}

static void show_key(lua_State *L, int idx, tarn_text *out) {
    size_t n;
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *s = lua_tolstring(L, idx, &n);
        if (is_word(s, n)) {
            tarn_text_add(out, s, n);
            return;
        }
    }
    tarn_text_puts(out, "[");
    show(L, idx, out, DEPTH);
    tarn_text_puts(out, "]");
}

static void show_table(lua_State *L, int idx, tarn_text *out, int depth) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
    int shown = 0;
    tarn_text_puts(out, "{");
    for (lua_Integer i = 1; i <= n && shown < WIDTH; i++, shown++) {
        tarn_text_puts(out, shown ? ", " : " ");
        lua_rawgeti(L, idx, i);
        show(L, lua_gettop(L), out, depth + 1);
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    while (shown < WIDTH && lua_next(L, idx)) {
        if (lua_isinteger(L, -2) && lua_tointeger(L, -2) >= 1 && lua_tointeger(L, -2) <= n) {
            lua_pop(L, 1);
            continue;
        }
        tarn_text_puts(out, shown++ ? ", " : " ");
        show_key(L, lua_gettop(L) - 1, out);
        tarn_text_puts(out, " = ");
        show(L, lua_gettop(L), out, depth + 1);
        lua_pop(L, 1);
    }
    tarn_text_puts(out, shown >= WIDTH ? ", … }" : shown ? " }" : "}");
}

static tarn_lua_printer printer_of(lua_State *L, int idx) {
    tarn_host *h = tarn_host_of(L);
    tarn_lua_printer found = NULL;
    if (lua_type(L, idx) != LUA_TUSERDATA || !lua_getmetatable(L, idx)) {
        return NULL;
    }
    lua_pushliteral(L, "__name");
    const char *name = lua_rawget(L, -2) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    for (int i = 0; i < h->type_count; i++) {
        if (strcmp(h->types[i].type, name) == 0) {
            found = h->types[i].show;
        }
    }
    lua_pop(L, 2);
    return found;
}

static void show(lua_State *L, int idx, tarn_text *out, int depth) {
    luaL_checkstack(L, 10, "showing a value");
    int top = lua_gettop(L);
    tarn_lua_printer print = printer_of(L, idx);
    if (print) {
        print(L, idx, out);
    } else if (lua_type(L, idx) == LUA_TSTRING) {
        show_string(L, idx, out);
    } else if (lua_istable(L, idx) && !tarn_is_module(L, idx) &&
               luaL_getmetafield(L, idx, "__tostring") == LUA_TNIL) {
        if (depth >= DEPTH) {
            tarn_text_puts(out, "{…}");
        } else {
            show_table(L, idx, out, depth);
        }
    } else {
        size_t len;
        const char *s = tarn_tolstring(L, idx, &len);
        tarn_text_add(out, s, len < (size_t)TEXT ? len : (size_t)TEXT);
    }
    lua_settop(L, top);
}

void tarn_lua_show(lua_State *L, int idx, tarn_text *out) {
    int top = lua_gettop(L);
    show(L, lua_absindex(L, idx), out, 0);
    lua_settop(L, top);
}
