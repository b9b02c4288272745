// SPDX-License-Identifier: Apache-2.0
// YAML into a tree. libyaml scans and gives events; this file keeps a stack of open collections,
// shares the node of an anchor instead of copying it (a "billion laughs" costs one pointer per
// alias, and the count of nodes as they would be when written out stops it), and says what plain
// scalars mean in vm/format/yaml_scalar.c. It is no general YAML processor: tags beyond the core
// ones, duplicate keys and keys that are not scalars are refused. Merge keys (`<<`) are honoured.
#include "vm/format/yaml.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "vm/base/digest.h"
#include "vm/base/text.h"
#include "vm/format/yaml_scalar.h"

enum { TEXT_MAX = 16 << 20, DEPTH_MAX = 64, NODES_MAX = 1000000, BUCKETS = 1 << 16 };

typedef struct {
    tarn_yaml y;    // first: a tarn_yaml * is a node *
    int64_t nodes;  // as written out, aliases expanded, itself included
    int height;     // levels below it, itself included
    bool open;      // its end has not come yet
    bool merge;     // the plain scalar `<<`
} node;

typedef struct {
    const char *name;
    node *target;
    int64_t next;  // in its bucket, -1
    size_t bucket;
} anchor;

typedef struct {
    node *node;
    int64_t first;  // index into `pending` of its first child
} level;

typedef struct {
    tarn_arena *arena;
    tarn_error *err;
    const char *name;  // of the file
    const char *text;
    size_t len;
    yaml_parser_t parser;
    level levels[DEPTH_MAX];
    int depth;
    node **pending;  // children of the open collections, keys and values in turn
    int64_t npending, pending_room;
    anchor *anchors;
    int64_t nanchors, anchors_room;
    int64_t *buckets;  // [BUCKETS] newest anchor of each hash + 1, 0: none; NULL before the first
    int64_t nodes;     // of all documents so far
    node *root;        // of the document that ended last
} reader;

static tarn_status fail(reader *r, const char *code, int line, int column, const char *fmt, ...)
    TARN_PRINTF(5, 6);
static tarn_status fail(reader *r, const char *code, int line, int column, const char *fmt, ...) {
    char what[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    tarn_text shown;  // keys and tags may hold control bytes
    tarn_text_init(&shown, r->arena->budget);
    tarn_text_show(&shown, what, strlen(what), sizeof what);
    tarn_status s = tarn_raise(r->err, code, "%s:%d:%d: %s", r->name, line, column,
                               shown.data ? shown.data : "");
    tarn_text_free(&shown);
    return s;
}
static int line_of(yaml_mark_t m) { return m.line < INT_MAX ? (int)m.line + 1 : INT_MAX; }
static int column_of(yaml_mark_t m) { return m.column < INT_MAX ? (int)m.column + 1 : INT_MAX; }

// Doubles an array in the budget's memory until it holds one more.
static bool grow(reader *r, void **p, int64_t n, int64_t *room, size_t each) {
    if (n < *room) {
        return true;
    }
    int64_t wider = *room ? *room * 2 : 64;
    void *q = tarn_alloc(r->arena->budget, (size_t)wider * each);
    if (!q) {
        return false;
    }
    if (*p) {
        memcpy(q, *p, (size_t)n * each);
        tarn_free(r->arena->budget, *p, (size_t)*room * each);
    }
    *p = q;
    *room = wider;
    return true;
}

// ---- errors of the scanner ----

// The collection that libyaml was in when it gave up, in our words.
static const char *unclosed(const char *context) {
    if (!context) {
        return NULL;
    }
    if (strstr(context, "flow sequence")) {
        return "the list '['";
    }
    if (strstr(context, "flow mapping")) {
        return "the map '{'";
    }
    if (strstr(context, "quoted scalar")) {
        return "the quoted text";
    }
    return NULL;
}

static tarn_status reader_failed(reader *r) {
    int line = 1, column = 1;
    size_t end = r->parser.problem_offset < r->len ? r->parser.problem_offset : r->len;
    for (size_t i = 0; i < end; i++) {
        unsigned char c = (unsigned char)r->text[i];
        if (c == '\n') {
            line++;
            column = 1;
        } else if ((c & 0xC0) != 0x80) {
            column++;
        }
    }
    return fail(r, "YamlSyntax", line, column, "%s (byte 0x%02X)", r->parser.problem,
                end < r->len ? (unsigned char)r->text[end] : 0);
}

static tarn_status scanner_failed(reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return tarn_raise_nomem(r->err, "reading YAML", r->len);
    }
    if (p->error == YAML_READER_ERROR) {
        return reader_failed(r);
    }
    int line = line_of(p->problem_mark), column = column_of(p->problem_mark);
    const char *what = unclosed(p->context);
    const char *problem = p->problem ? p->problem : "unreadable";
    if (what) {
        return fail(r, "YamlSyntax", line, column,
                    "syntax error: %s of line %d, column %d is not closed: %s", what,
                    line_of(p->context_mark), column_of(p->context_mark), problem);
    }
    const char *hint = "";
    if (p->problem_mark.index < r->len && strstr(problem, "cannot start any token")) {
        const char *at = r->text;  // marks count characters, and tabs come after spaces here
        for (int k = 1; k < line && at; k++) {
            at = memchr(at, '\n', r->len - (size_t)(at - r->text));
            at = at ? at + 1 : NULL;
        }
        size_t left = at ? r->len - (size_t)(at - r->text) : 0;
        if ((size_t)column <= left && at[column - 1] == '\t') {
            hint = ": a tab in the indentation; YAML indents by spaces";
        }
    }
    return fail(r, "YamlSyntax", line, column, "syntax error: %s%s%s%s", problem,
                p->context ? " " : "", p->context ? p->context : "", hint);
}

// ---- nodes ----

static node *new_node(reader *r, tarn_yaml_kind kind, yaml_mark_t at) {
    node *n = tarn_arena_take(r->arena, sizeof *n);
    if (!n) {
        tarn_raise_nomem(r->err, "YAML", sizeof *n);
        return NULL;
    }
    *n = (node){
        .y = {.kind = kind, .line = line_of(at), .column = column_of(at)}, .nodes = 1, .height = 1};
    return n;
}

static tarn_status too_many(reader *r, int line, int column) {
    return fail(r, "YamlLimit", line, column,
                "more than %d values when aliases are written out: refused", NODES_MAX);
}

static tarn_status too_deep(reader *r, int line, int column) {
    return fail(r, "YamlLimit", line, column, "nested deeper than %d levels", DEPTH_MAX);
}

// A complete child of the collection on top, or the document itself.
static tarn_status add(reader *r, node *n, int line, int column) {
    if (r->depth == 0) {
        r->root = n;
        return TARN_OK;
    }
    if (r->depth + n->height > DEPTH_MAX) {
        return too_deep(r, line, column);
    }
    const level *top = &r->levels[r->depth - 1];
    bool key = top->node->y.kind == TARN_YAML_MAP && (r->npending - top->first) % 2 == 0;
    if (key && n->y.kind >= TARN_YAML_LIST) {
        return fail(r, "YamlKey", line, column, "a %s as a key: keys are plain texts",
                    n->y.kind == TARN_YAML_LIST ? "list" : "map");
    }
    if (!grow(r, (void **)&r->pending, r->npending, &r->pending_room, sizeof *r->pending)) {
        return tarn_raise_nomem(r->err, "YAML", sizeof *r->pending);
    }
    r->pending[r->npending++] = n;
    return TARN_OK;
}

static tarn_status remember(reader *r, const yaml_char_t *name, node *n) {
    if (!name) {
        return TARN_OK;
    }
    r->buckets =
        r->buckets ? r->buckets : tarn_alloc_zero(r->arena->budget, BUCKETS * sizeof *r->buckets);
    if (!r->buckets ||
        !grow(r, (void **)&r->anchors, r->nanchors, &r->anchors_room, sizeof *r->anchors)) {
        return tarn_raise_nomem(r->err, "YAML anchors", BUCKETS * sizeof *r->buckets);
    }
    size_t len = strlen((const char *)name), bucket = tarn_hash64(0, name, len) % BUCKETS;
    const char *copy = tarn_arena_string(r->arena, (const char *)name, len);
    if (!copy) {
        return tarn_raise_nomem(r->err, "YAML anchors", len);
    }
    r->anchors[r->nanchors++] = (anchor){copy, n, r->buckets[bucket] - 1, bucket};
    r->buckets[bucket] = r->nanchors;
    return TARN_OK;
}

// The last one of that name counts.
static node *find_anchor(const reader *r, const char *name) {
    size_t bucket = tarn_hash64(0, name, strlen(name)) % BUCKETS;
    int64_t i = r->buckets ? r->buckets[bucket] - 1 : -1;
    while (i >= 0 && strcmp(r->anchors[i].name, name) != 0) {
        i = r->anchors[i].next;
    }
    return i >= 0 ? r->anchors[i].target : NULL;
}

static void forget_anchors(reader *r) {  // they end with their document
    for (int64_t i = 0; i < r->nanchors; i++) {
        r->buckets[r->anchors[i].bucket] = 0;
    }
    r->nanchors = 0;
}

static tarn_status on_alias(reader *r, const yaml_event_t *e) {
    int line = line_of(e->start_mark), column = column_of(e->start_mark);
    const char *name = (const char *)e->data.alias.anchor;
    node *n = find_anchor(r, name);
    if (!n) {
        return fail(r, "YamlAlias", line, column, "alias *%.60s: no anchor &%.60s comes before it",
                    name, name);
    }
    if (n->open) {
        return fail(r, "YamlAlias", line, column, "alias *%.60s lies inside its own anchor", name);
    }
    r->nodes += n->nodes;
    if (r->nodes > NODES_MAX) {
        return too_many(r, line, column);
    }
    return add(r, n, line, column);
}

// ---- tags ----

#define CORE "tag:yaml.org,2002:"

static tarn_status refuse_tag(reader *r, const char *tag, yaml_mark_t at) {
    bool core = strncmp(tag, CORE, sizeof CORE - 1) == 0;
    return fail(r, "YamlTag", line_of(at), column_of(at), "the tag %s%.200s is not accepted",
                core ? "!!" : "", core ? tag + sizeof CORE - 1 : tag);
}

static bool tag_is(const yaml_char_t *tag, const char *what) {
    const char *t = (const char *)tag;
    return strncmp(t, CORE, sizeof CORE - 1) == 0 && strcmp(t + sizeof CORE - 1, what) == 0;
}

static tarn_status on_scalar(reader *r, const yaml_event_t *e) {
    static const char *const names[] = {"null", "bool", "int", "float", "str"};
    const yaml_char_t *tag = e->data.scalar.tag;
    node *n = new_node(r, TARN_YAML_STRING, e->start_mark);
    if (!n) {
        return TARN_NOMEM;
    }
    n->y.len = e->data.scalar.length;
    n->y.text = tarn_arena_string(r->arena, (const char *)e->data.scalar.value, n->y.len);
    if (!n->y.text) {
        return tarn_raise_nomem(r->err, "YAML", n->y.len);
    }
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    n->y.quoted = !plain;
    if (!tag || strcmp((const char *)tag, "!") == 0) {
        if (plain && !tag) {
            tarn_yaml_scalar(&n->y);
            n->merge = n->y.len == 2 && memcmp(n->y.text, "<<", 2) == 0;
        }
    } else {
        int kind = 0;
        while (kind <= TARN_YAML_STRING && !tag_is(tag, names[kind])) {
            kind++;
        }
        if (kind > TARN_YAML_STRING) {
            return refuse_tag(r, (const char *)tag, e->start_mark);
        }
        if (kind != TARN_YAML_STRING) {
            tarn_yaml_scalar(&n->y);
            if (kind == TARN_YAML_FLOAT && n->y.kind == TARN_YAML_INT) {
                n->y.kind = TARN_YAML_FLOAT;
            }
            if ((int)n->y.kind != kind) {
                char shown[64];
                snprintf(shown, sizeof shown, "%.60s", n->y.text);
                return fail(r, "YamlTag", n->y.line, n->y.column, "'%s' is no !!%s", shown,
                            names[kind]);
            }
            n->y.quoted = false;
        }
    }
    TARN_TRY(remember(r, e->data.scalar.anchor, n));
    return add(r, n, n->y.line, n->y.column);
}

// ---- collections ----

static tarn_status on_start(reader *r, tarn_yaml_kind kind, const yaml_event_t *e) {
    bool list = kind == TARN_YAML_LIST;
    const yaml_char_t *tag = list ? e->data.sequence_start.tag : e->data.mapping_start.tag;
    const yaml_char_t *name = list ? e->data.sequence_start.anchor : e->data.mapping_start.anchor;
    if (tag && strcmp((const char *)tag, "!") != 0 && !tag_is(tag, list ? "seq" : "map")) {
        return refuse_tag(r, (const char *)tag, e->start_mark);
    }
    node *n = new_node(r, kind, e->start_mark);
    if (!n) {
        return TARN_NOMEM;
    }
    if (r->depth >= DEPTH_MAX) {
        return too_deep(r, n->y.line, n->y.column);
    }
    n->open = true;
    TARN_TRY(remember(r, name, n));
    r->levels[r->depth++] = (level){n, r->npending};
    return TARN_OK;
}

static int by_text(const void *a, const void *b) {
    const tarn_yaml *x = *(tarn_yaml *const *)a, *y = *(tarn_yaml *const *)b;
    size_t least = x->len < y->len ? x->len : y->len;
    int c = memcmp(x->text, y->text, least);
    if (c == 0 && x->len != y->len) {
        c = x->len < y->len ? -1 : 1;
    }
    if (c == 0) {  // of equal keys the later one is the one to name
        c = x->line != y->line ? (x->line < y->line ? -1 : 1)
                               : (x->column < y->column ? -1 : x->column > y->column);
    }
    return c;
}

static bool same_key(const tarn_yaml *a, const tarn_yaml *b) {
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static tarn_status check_keys(reader *r, tarn_yaml **keys, int64_t n) {
    size_t bytes = (size_t)n * sizeof(tarn_yaml *);
    tarn_yaml **sorted = tarn_alloc(r->arena->budget, bytes);
    if (!sorted) {
        return tarn_raise_nomem(r->err, "YAML keys", bytes);
    }
    memcpy(sorted, keys, bytes);
    qsort(sorted, (size_t)n, sizeof *sorted, by_text);
    tarn_status s = TARN_OK;
    for (int64_t i = 1; i < n && s == TARN_OK; i++) {
        const tarn_yaml *a = sorted[i - 1], *b = sorted[i];
        if (same_key(a, b)) {
            s = fail(r, "YamlDuplicate", b->line, b->column,
                     "the key '%.60s' stands here twice (first at line %d, column %d)", b->text,
                     a->line, a->column);
        }
    }
    tarn_free(r->arena->budget, sorted, bytes);
    return s;
}

// Entries of a `<<` value that the map does not have itself; the first source wins.
static void merge_from(tarn_yaml *map, const tarn_yaml *from) {
    int64_t had = map->count;
    for (int64_t i = 0; i < from->count; i++) {
        bool known = false;
        for (int64_t k = 0; k < had && !known; k++) {
            known = same_key(map->keys[k], from->keys[i]);
        }
        if (!known) {
            map->keys[map->count] = from->keys[i];
            map->items[map->count++] = from->items[i];
        }
    }
}

static tarn_status bad_merge(reader *r, const tarn_yaml *v) {
    return fail(r, "YamlMerge", v->line, v->column, "'<<' takes a map or a list of maps");
}

// Replaces the entry `at` of the map by what it stands for. Its width was counted with the aliases,
// so the arrays are bounded; the search for known keys is bounded by KEYS_MAX.
static tarn_status merge_keys(reader *r, node *n, int64_t at) {
    enum { KEYS_MAX = 1000 };
    tarn_yaml *v = n->y.items[at], *one[1] = {v};
    int64_t count = v->kind == TARN_YAML_LIST ? v->count : 1, room = n->y.count;
    tarn_yaml **from = v->kind == TARN_YAML_LIST ? v->items : one;
    for (int64_t i = 0; i < count; i++) {
        if (from[i]->kind != TARN_YAML_MAP) {
            return bad_merge(r, from[i]);
        }
        room += from[i]->count;
    }
    if (room > KEYS_MAX) {
        return fail(r, "YamlLimit", v->line, v->column, "'<<' with more than %d entries", KEYS_MAX);
    }
    tarn_yaml **keys = tarn_arena_take(r->arena, (size_t)room * sizeof *keys);
    tarn_yaml **items = tarn_arena_take(r->arena, (size_t)room * sizeof *items);
    if (!keys || !items) {
        return tarn_raise_nomem(r->err, "YAML", (size_t)room * sizeof *keys);
    }
    int64_t k = 0;
    for (int64_t i = 0; i < n->y.count; i++) {
        if (i != at) {
            keys[k] = n->y.keys[i];
            items[k++] = n->y.items[i];
        }
    }
    n->y.keys = keys;
    n->y.items = items;
    n->y.count = k;
    for (int64_t i = 0; i < count; i++) {
        merge_from(&n->y, from[i]);
    }
    return TARN_OK;
}

static tarn_status close_map(reader *r, node *n) {
    TARN_TRY(check_keys(r, n->y.keys, n->y.count));
    for (int64_t i = 0; i < n->y.count; i++) {
        if (((const node *)(void *)n->y.keys[i])->merge) {
            return merge_keys(r, n, i);  // at most one: it would be a duplicate key
        }
    }
    return TARN_OK;
}

static tarn_status on_end(reader *r) {
    level top = r->levels[--r->depth];
    node *n = top.node;
    int64_t all = r->npending - top.first;
    bool map = n->y.kind == TARN_YAML_MAP;
    int64_t count = map ? all / 2 : all;
    size_t bytes = (size_t)count * sizeof(tarn_yaml *);
    n->y.count = count;
    n->y.items = tarn_arena_take(r->arena, bytes);
    n->y.keys = map ? tarn_arena_take(r->arena, bytes) : NULL;
    if (!n->y.items || (map && !n->y.keys)) {
        return tarn_raise_nomem(r->err, "YAML", bytes);
    }
    for (int64_t i = 0; i < all; i++) {
        node *c = r->pending[top.first + i];
        n->nodes += c->nodes;
        n->height = c->height + 1 > n->height ? c->height + 1 : n->height;
        if (map && i % 2 == 0) {
            n->y.keys[i / 2] = &c->y;
        } else {
            n->y.items[map ? i / 2 : i] = &c->y;
        }
    }
    r->npending = top.first;
    n->open = false;
    if (map) {
        TARN_TRY(close_map(r, n));
    }
    return add(r, n, n->y.line, n->y.column);
}

// ---- documents ----

static tarn_status on_event(reader *r, const yaml_event_t *e) {
    yaml_event_type_t t = e->type;
    if (t == YAML_SCALAR_EVENT || t == YAML_SEQUENCE_START_EVENT || t == YAML_MAPPING_START_EVENT) {
        if (++r->nodes > NODES_MAX) {
            return too_many(r, line_of(e->start_mark), column_of(e->start_mark));
        }
    }
    switch (t) {
    case YAML_SCALAR_EVENT:
        return on_scalar(r, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(r, TARN_YAML_LIST, e);
    case YAML_MAPPING_START_EVENT:
        return on_start(r, TARN_YAML_MAP, e);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(r);
    case YAML_ALIAS_EVENT:
        return on_alias(r, e);
    default:
        return TARN_OK;
    }
}

static tarn_status read_documents(reader *r, int *n, tarn_yaml ***docs) {
    tarn_yaml **list = NULL;
    int64_t count = 0, room = 0;
    tarn_status s = TARN_OK;
    for (bool more = true; more && s == TARN_OK;) {
        yaml_event_t e;
        if (!yaml_parser_parse(&r->parser, &e)) {
            s = scanner_failed(r);
            break;
        }
        s = on_event(r, &e);
        if (s == TARN_OK && e.type == YAML_DOCUMENT_END_EVENT && r->root) {
            if (grow(r, (void **)&list, count, &room, sizeof(tarn_yaml *))) {
                list[count++] = &r->root->y;
                r->root = NULL;
                forget_anchors(r);
            } else {
                s = tarn_raise_nomem(r->err, "YAML documents", 0);
            }
        }
        more = e.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
    }
    if (s == TARN_OK) {
        *docs = tarn_arena_copy(r->arena, list, (size_t)count * sizeof(tarn_yaml *));
        *n = (int)count;
        s = *docs ? TARN_OK : tarn_raise_nomem(r->err, "YAML documents", 0);
    }
    tarn_free(r->arena->budget, list, (size_t)room * sizeof(tarn_yaml *));
    return s;
}

tarn_status tarn_yaml_read(tarn_arena *a, const char *text, size_t len, const char *name, int *n,
                           tarn_yaml ***docs, tarn_error *err) {
    *n = 0;
    *docs = NULL;
    if (len > TEXT_MAX) {
        TARN_RAISE(err, "YamlLimit", "%s: %zu bytes of YAML; at most %d are read", name, len,
                   TEXT_MAX);
    }
    reader r = {.arena = a, .err = err, .name = name, .text = text, .len = len};
    if (!yaml_parser_initialize(&r.parser)) {
        return tarn_raise_nomem(err, "reading YAML", sizeof r.parser);
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    tarn_status s = read_documents(&r, n, docs);
    yaml_parser_delete(&r.parser);
    tarn_free(a->budget, r.pending, (size_t)r.pending_room * sizeof *r.pending);
    tarn_free(a->budget, r.anchors, (size_t)r.anchors_room * sizeof *r.anchors);
    tarn_free(a->budget, r.buckets, BUCKETS * sizeof *r.buckets);
    return s;
}
