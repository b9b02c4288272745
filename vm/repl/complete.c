// SPDX-License-Identifier: Apache-2.0
// Completion: globals and keywords, fields and methods behind a path of names, methods of what a
// documented call returns, options inside merge.ties { …, tensor names inside m["…, names of the
// documentation inside help "…, files inside any other string, commands of the prompt. Tables are
// walked raw and userdata is asked through the completer of its type, so that Tab never runs code
// of the user.
#include "vm/repl/complete.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { WORD = 256, METATABLES = 8, BRACKETS = 64 };

// What the text up to the cursor has left open.
typedef struct {
    size_t open[BRACKETS];   // where the brackets stand; the innermost is the last
    int depth;               // may be more than BRACKETS
    size_t opened, closed;   // the brackets of the pair that was closed last; 0, 0: none was
    char quote;              // of a string; 0: none
    size_t quote_at;
    bool comment;
} surroundings;

typedef struct {
    tarn_host *host;
    const char *line;     // the text up to the cursor: len bytes
    size_t len;
    tarn_words *words;
    surroundings around;
    char how;             // '.', ':' or '[': what stands before the word; 0: nothing
    size_t path, path_len;  // the expression before it, bytes of the text
    size_t call, call_len;  // the documented function around or before it
    char owner[WORD];     // whose rows describe the words: "merge", "model"
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

static void bracket(surroundings *a, char c, size_t at) {
    if (c == '(' || c == '[' || c == '{') {
        if (a->depth < BRACKETS) {
            a->open[a->depth] = at;
        }
        a->depth++;
    } else if (a->depth > 0) {
        a->depth--;
        a->opened = a->depth < BRACKETS ? a->open[a->depth] : 0;
        a->closed = at;
    }
}

static void look_around(const char *s, size_t len, surroundings *a) {
    memset(a, 0, sizeof *a);
    for (size_t i = 0; i < len; i++) {
        if (a->comment) {
            a->comment = s[i] != '\n';
        } else if (a->quote && s[i] == '\\') {
            i++;
        } else if (a->quote) {
            a->quote = s[i] == a->quote ? 0 : a->quote;
        } else if (s[i] == '"' || s[i] == '\'') {
            a->quote = s[i];
            a->quote_at = i;
        } else if (s[i] == '-' && i + 1 < len && s[i + 1] == '-') {
            a->comment = true;
        } else if (s[i] == '[' && i + 1 < len && s[i + 1] == '[') {
            const char *end = memmem(s + i, len - i, "]]", 2);
            a->comment = end == NULL;  // nothing is known of what stands in a long string
            i = end ? (size_t)(end - s) + 1 : len;
        } else if (s[i] && strchr("([{)]}", s[i])) {
            bracket(a, s[i], i);
        }
    }
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

static size_t before_space(const char *s, size_t end) {
    while (end > 0 && strchr(" \t\n", s[end - 1])) {
        end--;
    }
    return end;
}

// The function that is called with the bracket or string at `at`: "merge.ties" of "merge.ties {".
static void find_call(request *r, size_t at) {
    const char *s = r->line;
    size_t end = before_space(s, at), from = end;
    while (from > 0 && (is_letter(s[from - 1]) || s[from - 1] == '.' || s[from - 1] == ':')) {
        from--;
    }
    r->call = from;
    r->call_len = end - from;
}

static void find_names(request *r) {
    const char *s = r->line;
    const surroundings *a = &r->around;
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
        if (r->how == ':' && end > 0 && a->closed == end - 1 && a->closed > a->opened) {
            find_call(r, a->opened);
            r->path_len = 0;
        } else {
            r->failed = r->failed || r->path_len == 0 || (r->how == '.' && s[end - 1] == '.');
        }
        return;
    }
    // Where a name may stand in a table, it may be an option of the call that the table is for.
    size_t end = before_space(s, from);
    int top = a->depth - 1;
    if (top >= 0 && top < BRACKETS && s[a->open[top]] == '{' && end > 0 &&
        (s[end - 1] == '{' || s[end - 1] == ',')) {
        find_call(r, a->open[top]);
        if (r->call_len == 0 && top > 0 && s[a->open[top - 1]] == '(') {
            find_call(r, a->open[top - 1]);
        }
    }
}

// ---- adding ----

// True for "merge.ties" where the owner is "merge" and the word "ties".
static bool is_row_of(const char *name, const char *owner, const char *word) {
    size_t n = strlen(owner);
    if (n == 0) {
        return strcmp(name, word) == 0;
    }
    return strncmp(name, owner, n) == 0 && (name[n] == '.' || name[n] == ':') &&
           strcmp(name + n + 1, word) == 0;
}

static void note_of(const request *r, const char *word, char *note, size_t room) {
    note[0] = '\0';
    for (int i = 0; i < tarn_host_doc_count(r->host); i++) {
        const tarn_doc *d = tarn_host_doc_at(r->host, i);
        if (is_row_of(d->name, r->owner, word) && d->text) {
            snprintf(note, room, "%.*s", (int)strcspn(d->text, "\n"), d->text);
            return;
        }
    }
}

static void add(void *arg, const char *word) {
    enum { NOTED = 100 };
    request *r = arg;
    char note[400];
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

// The type of the value on top, whose rows describe its methods.
static void set_owner(lua_State *L, request *r) {
    if (lua_getmetatable(L, -1)) {
        lua_pushliteral(L, "__name");
        if (lua_rawget(L, -2) == LUA_TSTRING) {
            const char *name = lua_tostring(L, -1);
            snprintf(r->owner, sizeof r->owner, "%s",
                     strncmp(name, "module ", 7) == 0 ? name + 7 : name);
        }
        lua_pop(L, 2);
    }
}

// "m:save" is looked for as "model:save". Pushes what `function` of the library "options" says of
// the row; nil when there is none.
static void push_from_row(lua_State *L, request *r, const char *function) {
    char name[2 * WORD], call[WORD];
    tarn_error err;
    snprintf(call, sizeof call, "%.*s", (int)r->call_len, r->line + r->call);
    const char *method = strchr(call, ':');
    snprintf(name, sizeof name, "%s", call);
    if (method) {
        r->path = r->call;
        r->path_len = (size_t)(method - call);
        push_path(L, r);
        set_owner(L, r);
        lua_pop(L, 1);
        snprintf(name, sizeof name, "%s%s", r->owner, method);
    }
    const tarn_doc *d = *call ? tarn_host_doc_find(r->host, name) : NULL;
    if (tarn_host_load_embedded(r->host, "stdlib/lua/options.lua", &err) != TARN_OK) {
        lua_pushnil(L);
        return;
    }
    lua_getfield(L, -1, function);
    lua_getfield(L, -2, "doc");
    lua_pushstring(L, d ? d->name : "");
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        return;
    }
    lua_call(L, 1, 1);
}

// Options of the call around the cursor, each with its line of the documentation.
static void add_options(lua_State *L, request *r) {
    int top = lua_gettop(L), before = r->words->count;
    push_from_row(L, r, "of");
    lua_Integer n = 0;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "list");
        n = (lua_Integer)lua_rawlen(L, -1);
    }
    for (lua_Integer i = 1; i <= n; i++) {
        char note[400];
        lua_rawgeti(L, -1, i);
        lua_getfield(L, -1, "name");
        lua_getfield(L, -2, "default");
        lua_getfield(L, -3, "text");
        const char *name = lua_tostring(L, -3), *def = lua_tostring(L, -2),
                   *text = lua_tostring(L, -1);
        snprintf(note, sizeof note, "%s%s%s", def ? def : "", def && text && *text ? ": " : "",
                 text ? text : "");
        if (strncmp(name, r->word, strlen(r->word)) == 0) {
            tarn_words_add(r->words, name, note);
        }
        lua_pop(L, 4);
    }
    r->words->closing = r->words->count > before ? " = " : NULL;
    lua_settop(L, top);
    r->path_len = 0;
    r->owner[0] = '\0';
}

// Methods of what a documented call returns.
static void add_results_methods(lua_State *L, request *r) {
    push_from_row(L, r, "result");
    const char *type = lua_tostring(L, -1);
    size_t n = type ? strlen(type) : 0;
    snprintf(r->owner, sizeof r->owner, "%s", type ? type : "");
    for (int i = 0; n > 0 && i < tarn_host_doc_count(r->host); i++) {
        const char *name = tarn_host_doc_at(r->host, i)->name;
        if (strncmp(name, type, n) == 0 && name[n] == ':') {
            add(r, name + n + 1);
        }
    }
}

static void add_globals(lua_State *L, request *r) {
    int before = r->words->count;
    lua_pushglobaltable(L);
    add_keys(L, r);
    for (size_t i = 0; r->word[0] && tarn_lua_keywords[i]; i++) {
        add(r, tarn_lua_keywords[i]);
    }
    r->words->closing = r->words->count > before ? NULL : r->words->closing;
}

static int l_names(lua_State *L) {
    request *r = lua_touserdata(L, 1);
    luaL_checkstack(L, 4 * METATABLES, "completion");
    if (r->how == 0) {
        if (r->call_len > 0) {
            add_options(L, r);
        }
        if (r->word[0] || r->words->count == 0) {
            add_globals(L, r);
        }
        return 0;
    }
    if (r->call_len > 0) {
        add_results_methods(L, r);
        return 0;
    }
    push_path(L, r);
    snprintf(r->owner, sizeof r->owner, "%.*s", (int)r->path_len, r->line + r->path);
    set_owner(L, r);
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

static void complete_documented(request *r) {
    for (int i = 0; i < tarn_host_doc_count(r->host); i++) {
        const tarn_doc *d = tarn_host_doc_at(r->host, i);
        if (strncmp(d->name, r->word, strlen(r->word)) == 0) {
            char note[400];
            snprintf(note, sizeof note, "%.*s", d->text ? (int)strcspn(d->text, "\n") : 0,
                     d->text ? d->text : "");
            tarn_words_add(r->words, d->name, note);
        }
    }
}

// Inside a string: m["… holds names of m's, help "… names of the language, anything else a path.
static void complete_string(request *r) {
    size_t at = r->around.quote_at;
    bool single = r->around.quote != '"';
    set_word(r, at + 1);
    if (r->failed) {
        return;
    }
    size_t end = at > 0 && r->line[at - 1] == '[' ? at - 1 : 0;
    size_t from = path_start(r->line, end);
    find_call(r, at > 0 && r->line[at - 1] == '(' ? at - 1 : at);
    if (from < end) {
        r->how = '[';
        r->path = from;
        r->path_len = end - from;
        r->call_len = 0;
        r->words->closing = single ? "']" : "\"]";
        complete_names(r);
    } else if (r->call_len == 4 && memcmp(r->line + r->call, "help", 4) == 0) {
        r->words->closing = single ? "'" : "\"";
        complete_documented(r);
    } else {
        r->words->closing = single ? "'" : "\"";
        complete_files(r);
    }
}

void tarn_complete(tarn_host *host, const char *text, size_t cursor, tarn_words *words) {
    request r = {.host = host, .line = text, .len = cursor, .words = words};
    look_around(text, cursor, &r.around);
    if (r.around.comment) {
        return;
    }
    if (r.around.quote) {
        complete_string(&r);
        return;
    }
    find_names(&r);
    if (!r.failed) {
        complete_names(&r);
    }
}

void tarn_complete_path(tarn_host *host, const char *text, size_t from, size_t cursor,
                        tarn_words *words) {
    request r = {.host = host, .line = text, .len = cursor, .words = words};
    set_word(&r, from);
    if (!r.failed) {
        complete_files(&r);
    }
}
