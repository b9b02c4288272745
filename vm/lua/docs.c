// SPDX-License-Identifier: Apache-2.0
// The registry of documentation and the global `help`: one row per public name, searched by its full
// name, by its last part, by the function itself, and by words of its text.
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "vm/lua/state.h"

static tarn_status add(tarn_host *h, const tarn_doc *doc, lua_CFunction call, tarn_error *err) {
    if (h->doc_count == h->doc_room) {
        int room = h->doc_room ? 2 * h->doc_room : 256;
        size_t bytes = (size_t)room * sizeof *h->docs;
        tarn_doc_entry *docs = tarn_alloc(&h->cx->budget, bytes);
        if (!docs) {
            return tarn_raise_nomem(err, "the documentation registry", bytes);
        }
        if (h->docs) {
            memcpy(docs, h->docs, (size_t)h->doc_count * sizeof *docs);
        }
        tarn_free(&h->cx->budget, h->docs, (size_t)h->doc_room * sizeof *docs);
        h->docs = docs;
        h->doc_room = room;
    }
    h->docs[h->doc_count++] = (tarn_doc_entry){.doc = doc, .call = call};
    return TARN_OK;
}

void tarn_host_docs(tarn_host *h, const tarn_binding *rows, int n) {
    tarn_error err;
    for (int i = 0; n < 0 ? rows[i].doc.name != NULL : i < n; i++) {
        if (add(h, &rows[i].doc, rows[i].call, &err) != TARN_OK) {
            tarn_lua_raise(h->L, &err);
        }
    }
}

static bool copy(tarn_host *h, const char *s, const char **out) {
    *out = s ? tarn_arena_string(&h->arena, s, strlen(s)) : NULL;
    return !s || *out;
}

tarn_status tarn_host_doc_copy(tarn_host *h, const tarn_doc *doc, tarn_error *err) {
    tarn_doc *d = tarn_arena_take(&h->arena, sizeof *d);
    if (!d || !copy(h, doc->name, &d->name) || !copy(h, doc->signature, &d->signature) ||
        !copy(h, doc->text, &d->text) || !copy(h, doc->example, &d->example)) {
        return tarn_raise_nomem(err, "a documentation row", sizeof *d);
    }
    return add(h, d, NULL, err);
}

tarn_status tarn_host_define(tarn_host *h, const tarn_doc *doc, const char *where, tarn_error *err) {
    for (int i = 0; i < h->doc_count; i++) {
        if (strcmp(h->docs[i].doc->name, doc->name) == 0) {
            TARN_RAISE(err, "DefinedTwice", "%s is defined twice: in %s and in %s", doc->name,
                       h->docs[i].where ? h->docs[i].where : "C", where);
        }
    }
    const char *kept;
    if (!copy(h, where, &kept)) {
        return tarn_raise_nomem(err, "a documentation row", 0);
    }
    TARN_TRY(tarn_host_doc_copy(h, doc, err));
    h->docs[h->doc_count - 1].where = kept;
    return TARN_OK;
}

static void load_all(tarn_host *h) {
    tarn_error ignored;
    (void)tarn_host_load_lazy(h, NULL, &ignored);
}

int tarn_host_doc_count(tarn_host *h) {
    load_all(h);
    return h->doc_count;
}

const tarn_doc *tarn_host_doc_at(const tarn_host *h, int i) {
    return i >= 0 && i < h->doc_count ? h->docs[i].doc : NULL;
}

// "ties" of "merge.ties", "sum" of "tensor:sum".
static const char *last_part(const char *name) {
    const char *p = name;
    for (const char *s = name; *s; s++) {
        p = *s == '.' || *s == ':' ? s + 1 : p;
    }
    return p;
}

// Equal but for '.' against ':': what is a method may be called as a function too.
static bool alike(const char *a, const char *b) {
    while (*a && (*a == ':' ? '.' : *a) == (*b == ':' ? '.' : *b)) {
        a++;
        b++;
    }
    return *a == *b;
}

const tarn_doc *tarn_host_doc_find(tarn_host *h, const char *name) {
    load_all(h);
    for (int i = 0; i < h->doc_count; i++) {
        if (strcmp(h->docs[i].doc->name, name) == 0) {
            return h->docs[i].doc;
        }
    }
    for (int i = 0; i < h->doc_count; i++) {
        if (alike(h->docs[i].doc->name, name)) {
            return h->docs[i].doc;
        }
    }
    for (int i = 0; i < h->doc_count; i++) {
        if (strcmp(last_part(h->docs[i].doc->name), name) == 0) {
            return h->docs[i].doc;
        }
    }
    return NULL;
}

const tarn_doc *tarn_doc_of(const tarn_host *h, lua_CFunction call) {
    for (int i = 0; call && i < h->doc_count; i++) {
        if (h->docs[i].call == call) {
            return h->docs[i].doc;
        }
    }
    return NULL;
}

static const char *next_doc(void *arg, size_t i) {
    const tarn_host *h = arg;
    return i < (size_t)h->doc_count ? h->docs[i].doc->name : NULL;
}

static const char *next_part(void *arg, size_t i) {
    const char *name = next_doc(arg, i);
    return name ? last_part(name) : NULL;
}

enum { WIDTH = 96 };

static int columns_of(const char *s, size_t n) {
    int c = 0;
    for (size_t i = 0; i < n; i++) {
        c += ((unsigned char)s[i] & 0xC0) != 0x80;
    }
    return c;
}

// Words of a text from column `at` on, broken between them; what goes on begins at column `hang`.
static void print_words(const char *s, size_t n, int at, int hang) {
    bool first = true;
    for (size_t i = 0; i < n; first = false) {
        size_t word = 0;
        while (i + word < n && s[i + word] != ' ') {
            word++;
        }
        int wide = columns_of(s + i, word);
        if (!first && at + 1 + wide > WIDTH) {
            fprintf(stdout, "\n%*s", hang, "");
            at = hang;
        } else if (!first) {
            fputc(' ', stdout);
            at++;
        }
        fwrite(s + i, 1, word, stdout);
        at += wide;
        i += word;
        while (i < n && s[i] == ' ') {
            i++;
        }
    }
    fputc('\n', stdout);
}

// One line of text; what goes on is indented two further than its start.
static void print_line(const char *s, size_t n) {
    size_t indent = 0;
    while (indent < n && s[indent] == ' ') {
        indent++;
    }
    fprintf(stdout, "%*s", (int)indent, "");
    print_words(s + indent, n - indent, (int)indent, (int)indent + 2);
}

static void print_lines(const char *text) {
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, "\n");
        print_line(s, n);
        s += n + (s[n] == '\n');
    }
}

static void print_doc(const tarn_doc *d) {
    print_lines(d->signature && *d->signature ? d->signature : d->name);
    if (d->text && *d->text) {
        fputc('\n', stdout);
        print_lines(d->text);
    }
    if (d->example && *d->example) {
        fputs("\nexample:\n", stdout);
        for (const char *s = d->example; *s;) {
            size_t n = strcspn(s, "\n");
            fprintf(stdout, "    %.*s\n", (int)n, s);
            s += n + (s[n] == '\n');
        }
    }
}

// True where a sentence ends at text[i]; the stop of "et al." ends none.
static bool is_end(const char *text, size_t i, size_t n) {
    bool said = text[i] == '.' && (i < 3 || strncmp(text + i - 3, " al", 3) != 0);
    return (said || text[i] == '?') && (i + 1 == n || text[i + 1] == ' ');
}

// The first sentence of the text, or the question that it begins with.
static void print_summary(const tarn_doc *d) {
    enum { NAMES = 27 };  // columns
    const char *text = d->text ? d->text : "";
    size_t n = strcspn(text, "\n"), end = 0;
    while (end < n && !is_end(text, end, n)) {
        end++;
    }
    end += end < n && text[end] == '?';
    int at = fprintf(stdout, "  %-24s ", d->name);
    print_words(text, end, at > NAMES ? at : NAMES, NAMES);
}

// Rows whose name starts with "word." or "word:", the members of a module.
static int print_members(const tarn_host *h, const char *word) {
    size_t n = strlen(word);
    int found = 0;
    for (int i = 0; i < h->doc_count; i++) {
        const char *name = h->docs[i].doc->name;
        if (strncmp(name, word, n) == 0 && (name[n] == '.' || name[n] == ':')) {
            print_summary(h->docs[i].doc);
            found++;
        }
    }
    return found;
}

// True if every word of the query is in the text (or, in = the name alone, in the name).
static bool mentions(const tarn_doc *d, const char *query, bool in_name) {
    for (const char *s = query + strspn(query, " "); *s; s += strspn(s, " ")) {
        char word[64];
        size_t n = strcspn(s, " ");
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), s);
        if (!strcasestr(d->name, word) && (in_name || !d->text || !strcasestr(d->text, word))) {
            return false;
        }
        s += n;
    }
    return true;
}

// Rows that hold all words of the query, those with all of them in the name first.
static int print_mentions(const tarn_host *h, const char *query) {
    int found = 0;
    for (int pass = 0; query[strspn(query, " ")] && pass < 2; pass++) {
        for (int i = 0; i < h->doc_count; i++) {
            const tarn_doc *d = h->docs[i].doc;
            bool named = mentions(d, query, true);
            if (pass == 0 ? named : !named && mentions(d, query, false)) {
                print_summary(d);
                found++;
            }
        }
    }
    return found;
}

static void help_on(tarn_host *h, const char *word) {
    const tarn_doc *d = tarn_host_doc_find(h, word);
    if (d && alike(d->name, word)) {
        print_doc(d);
        if (strcmp(d->name, word) == 0) {
            print_members(h, word);
        }
        return;
    }
    if (print_members(h, word) > 0) {  // "merge" is the module before it is the end of zip:merge
        return;
    }
    if (d) {
        print_doc(d);
        return;
    }
    if (print_mentions(h, word) > 0) {
        return;
    }
    const char *near = tarn_nearest(word, next_doc, h);
    near = near ? near : tarn_nearest(word, next_part, h);
    fprintf(stdout, "no help on '%.60s'", word);
    if (near) {
        const tarn_doc *n = tarn_host_doc_find(h, near);
        fprintf(stdout, "; did you mean %s?", n ? n->name : near);
    }
    fputc('\n', stdout);
}

static const char names_key;  // registry: function -> its documented name

void tarn_lua_document(lua_State *L, int idx, const char *name) {
    idx = lua_absindex(L, idx);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &names_key);
    }
    lua_pushvalue(L, idx);
    lua_pushstring(L, name);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

// The documented name of the function at idx, or NULL.
static const char *name_of(lua_State *L, int idx) {
    const char *name = NULL;
    if (lua_isfunction(L, idx) && lua_rawgetp(L, LUA_REGISTRYINDEX, &names_key) == LUA_TTABLE) {
        lua_pushvalue(L, idx);
        name = lua_rawget(L, -2) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    }
    lua_settop(L, 1);
    return name;
}

int tarn_help(lua_State *L) {
    tarn_host *h = tarn_host_of(L);
    lua_settop(L, 1);
    const char *name = name_of(L, 1);
    const tarn_doc *d = name ? tarn_host_doc_find(h, name) : tarn_doc_of(h, lua_tocfunction(L, 1));
    if (d) {
        print_doc(d);
        return 0;
    }
    if (lua_type(L, 1) == LUA_TSTRING) {
        help_on(h, lua_tostring(L, 1));
    } else if (lua_isnoneornil(L, 1)) {
        fputs("help \"name\" shows what is known of a function, a method or a module; "
              "a word that is no name is searched for.\n", stdout);
    } else if (luaL_getmetafield(L, 1, "__name") == LUA_TSTRING) {
        const char *kind = lua_tostring(L, -1);
        help_on(h, strncmp(kind, "module ", 7) == 0 ? kind + 7 : kind);
    } else {
        tarn_push_kind(L, 1);
        fprintf(stdout, "no help on a %s\n", lua_tostring(L, -1));
    }
    return 0;
}
