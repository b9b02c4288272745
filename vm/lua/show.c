// SPDX-License-Identifier: Apache-2.0
// A value as the prompt shows it: strings quoted, tables written out to a small depth and width,
// over several lines where one is too narrow, userdata by the printer that its room registered.
// What has a metamethod __show is asked for its own text, with the width. Tables are read raw, with
// their words in order; no script code runs except __show, and __tostring of values that have one.
#include <stdlib.h>
#include <string.h>

#include "vm/lua/state.h"

enum { DEPTH = 3, MOST = 32, SORTED = 1024, TEXT = 2000 };

typedef struct {
    tarn_text *out;
    int width;   // columns; 0: one line
    int depth;   // of tables around this value
    int indent;  // of the line it stands on; -1: nothing may be broken into lines
} face;

static void show(lua_State *L, int idx, face f);

const char *const tarn_lua_keywords[] = {
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while", NULL};

static bool is_word(const char *s, size_t n) {
    for (size_t i = 0; tarn_lua_keywords[i]; i++) {
        if (strlen(tarn_lua_keywords[i]) == n && memcmp(s, tarn_lua_keywords[i], n) == 0) {
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

static void show_key(lua_State *L, int idx, face f) {
    size_t n;
    if (lua_type(L, idx) == LUA_TSTRING) {
        const char *s = lua_tolstring(L, idx, &n);
        if (is_word(s, n)) {
            tarn_text_add(f.out, s, n);
            return;
        }
    }
    tarn_text_puts(f.out, "[");
    f.depth = DEPTH;
    show(L, idx, f);
    tarn_text_puts(f.out, "]");
}

static void cut(tarn_text *t, size_t len) {
    if (t->data && len < t->len) {
        t->len = len;
        t->data[len] = '\0';
    }
}

// ---- tables ----

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// True for 1 … n, which are shown without a key, and for the words in `words`.
static bool is_listed(lua_State *L, int key, lua_Integer n, int words, int room) {
    if (lua_isinteger(L, key)) {
        return lua_tointeger(L, key) >= 1 && lua_tointeger(L, key) <= n;
    }
    if (lua_type(L, key) != LUA_TSTRING || words == room) {
        return false;
    }
    return strlen(lua_tostring(L, key)) == lua_rawlen(L, key);
}

// The words that are keys, sorted (those found first of a very large table); all entries are
// counted.
static int find_words(lua_State *L, int idx, lua_Integer n, const char **words,
                      lua_Integer *total) {
    int count = 0;
    *total = n;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        lua_pop(L, 1);
        bool counted = lua_isinteger(L, -1) && is_listed(L, -1, n, 0, 1);
        *total += !counted;
        if (!lua_isinteger(L, -1) && is_listed(L, -1, n, count, SORTED)) {
            words[count++] = lua_tostring(L, -1);
        }
    }
    qsort(words, (size_t)count, sizeof *words, by_bytes);
    return count;
}

static void between(face f, int shown) {
    tarn_text_puts(f.out, shown ? "," : "");
    if (f.indent < 0) {
        tarn_text_puts(f.out, " ");
    } else {
        tarn_text_printf(f.out, "\n%*s", f.indent, "");
    }
}

// Columns of the last line of the text; more than can be wanted when lines were broken after
// `mark`.
static int columns(const tarn_text *t, size_t mark) {
    size_t from = t->len;
    while (from > 0 && t->data[from - 1] != '\n') {
        from--;
    }
    int n = from > mark ? 1 << 20 : 0;
    for (size_t i = from; i < t->len; i++) {
        n += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    }
    return n;
}

// The entry of a list on top: numbers stand beside each other as long as they fit. Returns whether
// the next one may stand beside this.
static bool show_item(lua_State *L, face f, int shown, bool beside) {
    size_t mark = f.out->len;
    bool number = lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TBOOLEAN;
    if (beside && number && f.indent >= 0) {
        tarn_text_puts(f.out, ", ");
        show(L, lua_gettop(L), f);
        if (!f.out->failed && columns(f.out, mark) < f.width) {
            return true;
        }
        cut(f.out, mark);
    }
    between(f, shown);
    show(L, lua_gettop(L), f);
    return number;
}

// Key and value are on top; pops the value.
static void show_entry(lua_State *L, face f, int shown) {
    between(f, shown);
    show_key(L, lua_gettop(L) - 1, f);
    tarn_text_puts(f.out, " = ");
    show(L, lua_gettop(L), f);
    lua_pop(L, 1);
}

// Returns how many entries were written.
static int write_entries(lua_State *L, int idx, face f, lua_Integer *total) {
    const char *words[SORTED];
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
    int count = find_words(L, idx, n, words, total), shown = 0;
    bool beside = false;
    for (lua_Integer i = 1; i <= n && shown < MOST; i++, shown++) {
        lua_rawgeti(L, idx, i);
        beside = show_item(L, f, shown, beside);
        lua_pop(L, 1);
    }
    for (int i = 0; i < count && shown < MOST; i++, shown++) {
        lua_pushstring(L, words[i]);
        lua_pushvalue(L, -1);
        lua_rawget(L, idx);
        show_entry(L, f, shown);
        lua_pop(L, 1);
    }
    lua_pushnil(L);
    while (shown < MOST && shown < *total && lua_next(L, idx)) {
        if (is_listed(L, -2, n, 0, count < SORTED ? 1 : 0)) {
            lua_pop(L, 1);
        } else {
            show_entry(L, f, shown++);
        }
    }
    return shown;
}

static void write_table(lua_State *L, int idx, face f) {
    lua_Integer total;
    int outer = f.indent;
    f.depth++;
    f.indent += outer < 0 ? 0 : 2;
    tarn_text_puts(f.out, "{");
    int shown = write_entries(L, idx, f, &total);
    if (shown < total) {
        between(f, shown);
        tarn_text_printf(f.out, "… %lld more", (long long)(total - shown));
    }
    if (outer < 0) {
        tarn_text_puts(f.out, shown ? " }" : "}");
    } else {
        tarn_text_printf(f.out, "\n%*s}", outer, "");
    }
}

static void show_table(lua_State *L, int idx, face f) {
    tarn_poll(L);
    face flat = f;
    size_t mark = f.out->len;
    flat.indent = -1;
    write_table(L, idx, flat);
    if (f.indent >= 0 && f.width > 0 && !f.out->failed && columns(f.out, mark) > f.width &&
        f.out->len - mark > 2) {  // "{}" stays
        cut(f.out, mark);
        write_table(L, idx, f);
    }
}

// ---- values ----

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

// The metamethod __show of the value, called with it and the width.
static bool shows_itself(lua_State *L, int idx, face f) {
    size_t len;
    if (f.depth > 0 || luaL_getmetafield(L, idx, "__show") == LUA_TNIL) {
        return false;
    }
    lua_pushvalue(L, idx);
    lua_pushinteger(L, f.width);
    lua_call(L, 2, 1);
    if (lua_type(L, -1) != LUA_TSTRING) {
        luaL_error(L, "'__show' must return a string");
    }
    const char *s = lua_tolstring(L, -1, &len);
    tarn_text_add(f.out, s, len);
    return true;
}

static void show_text(lua_State *L, int idx, face f) {
    size_t len, most = f.depth == 0 && !lua_isuserdata(L, idx) ? SIZE_MAX : TEXT;
    const char *s = tarn_tolstring(L, idx, &len);
    tarn_text_add(f.out, s, len < most ? len : most);
}

// Inside a table a value has one line.
static void keep_line(tarn_text *t, size_t mark) {
    const char *newline = t->data ? memchr(t->data + mark, '\n', t->len - mark) : NULL;
    if (newline) {
        cut(t, (size_t)(newline - t->data));
    }
}

static bool is_plain_table(lua_State *L, int idx) {
    return lua_istable(L, idx) && !tarn_is_module(L, idx) &&
           luaL_getmetafield(L, idx, "__tostring") == LUA_TNIL;
}

static void show_plainly(lua_State *L, int idx, face f) {
    tarn_lua_printer print = printer_of(L, idx);
    if (print) {
        print(L, idx, f.out);
    } else if (lua_type(L, idx) == LUA_TSTRING) {
        show_string(L, idx, f.out);
    } else if (!is_plain_table(L, idx)) {
        show_text(L, idx, f);
    } else if (f.depth < DEPTH) {
        show_table(L, idx, f);
    } else {
        lua_pushnil(L);
        tarn_text_puts(f.out, lua_next(L, idx) ? "{…}" : "{}");
    }
}

static void show(lua_State *L, int idx, face f) {
    luaL_checkstack(L, 10, "showing a value");
    int top = lua_gettop(L);
    size_t mark = f.out->len;
    if (!shows_itself(L, idx, f)) {
        show_plainly(L, idx, f);
    }
    if (f.depth > 0 && !is_plain_table(L, idx)) {
        keep_line(f.out, mark);
    }
    lua_settop(L, top);
}

void tarn_lua_show(lua_State *L, int idx, int width, tarn_text *out) {
    int top = lua_gettop(L);
    show(L, lua_absindex(L, idx), (face){.out = out, .width = width});
    lua_settop(L, top);
}

static void release_text(void *self) {
    tarn_text *t = self;
    if (t->budget) {
        tarn_text_free(t);
    }
}

const char *tarn_push_shown(lua_State *L, int idx, int width, size_t *len) {
    static const tarn_lua_class text_class = {"shown value", release_text, NULL};
    idx = lua_absindex(L, idx);
    luaL_checkstack(L, 4, "showing a value");
    tarn_lua_type(L, &text_class);
    tarn_text *t = tarn_lua_new(L, text_class.type, sizeof *t);  // released after an error too
    tarn_text_init(t, &tarn_host_context(L)->budget);
    tarn_lua_show(L, idx, width, t);
    if (t->failed) {
        luaL_error(L, "the value is too large to print");
    }
    lua_pushlstring(L, t->data ? t->data : "", t->len);
    release_text(t);
    lua_remove(L, -2);
    return lua_tolstring(L, -1, len);
}
