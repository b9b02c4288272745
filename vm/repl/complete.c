// SPDX-License-Identifier: Apache-2.0
// Completion: globals and keywords, fields and methods behind a path of names, tensor names inside
// m["…, files inside any other string. Tables are walked raw and userdata is asked through the
// completer of its type, so that Tab never runs code of the user.
#include "vm/repl/complete.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { WORD = 256, METATABLES = 8 };

static const char *const keywords[] = {
    "and", "break", "do",  "else", "elseif", "end",    "false",  "for",  "function", "goto", "if",
    "in",  "local", "nil", "not",  "or",     "repeat", "return", "then", "true", "until", "while"};

typedef struct {
    tarn_host *host;
    const char *line;     // the line up to the cursor: len bytes
    size_t len;
    tarn_words *words;
    char how;             // '.', ':' or '[': what stands before the word; 0: nothing
    size_t path, path_len;  // the expression before it, bytes of the line
    char word[WORD];      // what was typed of the word
    bool failed;          // nothing sensible stands there
} request;

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c >= '0' && c <= '9');
}

static bool is_name(const char *s) {
    if (!*s || (*s >= '0' && *s <= '9')) {
        return false;
    }
    while (is_letter(*s)) {
        s++;
    }
    return *s == '\0';
}

// ---- where the cursor stands ----

// The quote of the string that is open at the end of the text and where it began; 0: none is.
static char open_quote(const char *s, size_t len, size_t *at) {
    char quote = 0;
    for (size_t i = 0; i < len; i++) {
        if (quote && s[i] == '\\') {
            i++;
        } else if (quote && s[i] == quote) {
            quote = 0;
        } else if (!quote && (s[i] == '"' || s[i] == '\'')) {
            quote = s[i];
            *at = i;
        } else if (!quote && s[i] == '-' && i + 1 < len && s[i + 1] == '-') {
            return 0;
        }
    }
    return quote;
}

// The path of names that ends before `end`: "a.b" of "x = a.b". Returns where it begins.
static size_t path_start(const char *s, size_t end) {
    while (end > 0 && (is_letter(s[end - 1]) || s[end - 1] == '.')) {
        end--;
    }
    return end;
}

static void set_word(request *r, size_t from) {
    size_t n = r->len - from;
    r->words->start = from;
    r->failed = n >= WORD;
    if (!r->failed) {
        memcpy(r->word, r->line + from, n);
        r->word[n] = '\0';
    }
}

static void find_names(request *r) {
    const char *s = r->line;
    size_t from = r->len;
    while (from > 0 && is_letter(s[from - 1])) {
        from--;
    }
    set_word(r, from);
    if (from > 0 && (s[from - 1] == '.' || s[from - 1] == ':')) {
        size_t end = from - 1;
        r->how = s[end];
        r->path = path_start(s, end);
        r->path_len = end - r->path;
        r->failed = r->failed || r->path_len == 0 || (r->how == '.' && s[end - 1] == '.');
    }
}

// ---- adding ----

static void note_of(const request *r, const char *word, char *note, size_t room) {
    char name[2 * WORD];
    const char *path = r->line + r->path;
    snprintf(name, sizeof name, "%.*s%s%s", (int)(r->path_len < WORD ? r->path_len : 0), path,
             r->how == '.' ? "." : r->how == ':' ? ":" : "", word);
    note[0] = '\0';
    for (int i = 0; i < tarn_host_doc_count(r->host); i++) {
        const tarn_doc *d = tarn_host_doc_at(r->host, i);
        if (strcmp(d->name, name) == 0 && d->text) {
            snprintf(note, room, "%.*s", (int)strcspn(d->text, "\n"), d->text);
            return;
        }
    }
}

static void add(void *arg, const char *word) {
    enum { NOTED = 64 };
    request *r = arg;
    char note[160];
    size_t typed = strlen(r->word);
    if (strncmp(word, r->word, typed) != 0 || (r->how != '[' && !is_name(word)) ||
        (r->how != '[' && typed == 0 && word[0] == '_')) {
        return;
    }
    note[0] = '\0';
    if (r->how != '[' && r->words->count < NOTED) {
        note_of(r, word, note, sizeof note);
    }
    tarn_words_add(r->words, word, note);
}

// ---- values ----

// Replaces the value on top by its field, raw: of a table, of a module, of a metatable's __index.
static void raw_field(lua_State *L, const char *name, size_t len) {
    int top = lua_gettop(L);
    for (int i = 0; i < METATABLES && lua_istable(L, -1); i++) {
        lua_pushlstring(L, name, len);
        if (lua_rawget(L, -2) != LUA_TNIL) {
            lua_replace(L, top);
            lua_settop(L, top);
            return;
        }
        lua_pop(L, 1);
        if (!lua_getmetatable(L, -1)) {
            break;
        }
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
    }
    lua_settop(L, top);
    lua_pushnil(L);
    lua_replace(L, top);
}

// Pushes the value of the path "a.b.c" from the globals; nil when it leads nowhere.
static void push_path(lua_State *L, const request *r) {
    const char *s = r->line + r->path, *end = s + r->path_len;
    lua_pushglobaltable(L);
    while (s <= end) {
        const char *dot = memchr(s, '.', (size_t)(end - s));
        size_t n = (size_t)((dot ? dot : end) - s);
        raw_field(L, s, n);
        s += n + 1;
    }
}

// String keys of the table on top and of the tables behind it.
static void add_keys(lua_State *L, request *r) {
    int top = lua_gettop(L);
    for (int i = 0; i < METATABLES && lua_istable(L, -1); i++) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            bool callable = lua_isfunction(L, -1);
            lua_pop(L, 1);
            if (lua_type(L, -1) == LUA_TSTRING && (r->how != ':' || callable)) {
                add(r, lua_tostring(L, -1));
            }
        }
        if (!lua_getmetatable(L, -1)) {
            break;
        }
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
    }
    lua_settop(L, top);
}

static int l_names(lua_State *L) {
    request *r = lua_touserdata(L, 1);
    luaL_checkstack(L, 4 * METATABLES, "completion");
    if (r->how == 0) {
        lua_pushglobaltable(L);
        add_keys(L, r);
        for (size_t i = 0; r->word[0] && i < sizeof keywords / sizeof *keywords; i++) {
            add(r, keywords[i]);
        }
        return 0;
    }
    push_path(L, r);
    tarn_lua_completer complete = tarn_lua_completer_of(L, lua_gettop(L));
    if (complete) {
        complete(L, lua_gettop(L), r->how, add, r);
    } else if (lua_type(L, -1) == LUA_TSTRING && r->how == ':') {
        lua_getmetatable(L, -1);
        lua_pushliteral(L, "__index");
        lua_rawget(L, -2);
        add_keys(L, r);
    } else if (r->how != '[' || lua_istable(L, -1)) {
        add_keys(L, r);
    }
    return 0;
}

static void complete_names(request *r) {
    lua_State *L = tarn_host_state(r->host);
    tarn_error err;
    if (lua_checkstack(L, 4)) {
        lua_pushcfunction(L, l_names);
        lua_pushlightuserdata(L, r);
        tarn_host_call(r->host, 1, 0, &err);  // a failure leaves fewer words
    }
}

// ---- files ----

static void complete_files(request *r) {
    char folder[WORD], path[2 * WORD + 256], name[300];
    const char *slash = strrchr(r->word, '/');
    size_t n = slash ? (size_t)(slash - r->word) + 1 : 0;
    memcpy(folder, r->word, n);
    folder[n] = '\0';
    const char *typed = r->word + n;
    size_t typed_len = strlen(typed);
    DIR *dir = opendir(n ? folder : ".");
    r->words->start += n;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        struct stat st;
        if (strncmp(e->d_name, typed, typed_len) != 0 ||
            (e->d_name[0] == '.' && typed[0] != '.') || strcmp(e->d_name, ".") == 0 ||
            strcmp(e->d_name, "..") == 0) {
            continue;
        }
        snprintf(path, sizeof path, "%s%s", folder, e->d_name);
        bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        snprintf(name, sizeof name, "%s%s", e->d_name, is_folder ? "/" : "");
        tarn_words_add(r->words, name, NULL);
        r->words->closing = is_folder ? NULL : r->words->closing;
    }
    if (dir) {
        closedir(dir);
    }
}

// Inside a string: m["… holds names of m's, anything else a path.
static void complete_string(request *r, size_t at, char quote) {
    set_word(r, at + 1);
    if (r->failed) {
        return;
    }
    size_t end = at > 0 && r->line[at - 1] == '[' ? at - 1 : 0;
    size_t from = path_start(r->line, end);
    if (from < end) {
        r->how = '[';
        r->path = from;
        r->path_len = end - from;
        r->words->closing = quote == '"' ? "\"]" : "']";
        complete_names(r);
    } else {
        r->words->closing = quote == '"' ? "\"" : "'";
        complete_files(r);
    }
}

void tarn_complete(void *host, const char *line, size_t cursor, tarn_words *words) {
    request r = {.host = host, .line = line, .len = cursor, .words = words};
    size_t at = 0;
    char quote = open_quote(line, cursor, &at);
    if (quote) {
        complete_string(&r, at, quote);
        return;
    }
    find_names(&r);
    if (!r.failed) {
        complete_names(&r);
    }
}
