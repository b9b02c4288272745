// SPDX-License-Identifier: Apache-2.0
// The strict cursor of vm/store walks a copy of the text, and each value goes into its parent as soon as it
// is made, so that whatever stops the reading, the root owns all there is. No recursion: the open objects
// and arrays are a list.
#include "merge/model/tree.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/store/json.h"

typedef struct {
    tarn_json j;
    size_t flags;
    json_t *root;                   // owned
    json_t *open[TARN_TREE_DEPTH];  // parts of root
    int depth;
} tree;

// A value that is not there: a fault of the text, unless memory ended.
static json_t *refuse(tarn_json *j, size_t at, const char *fault) {
    tarn_json_fail(j, at, fault);
    return NULL;
}

static json_t *number(tarn_json *j) {
    tarn_json_string s;
    bool whole;
    if (!tarn_json_number(j, &s, &whole)) {
        return NULL;
    }
    size_t at = (size_t)(s.s - j->text);
    errno = 0;
    if (whole) {
        long long v = strtoll(s.s, NULL, 10);
        return errno == ERANGE ? refuse(j, at, "an integer beyond 64 bits") : json_integer(v);
    }
    double v = strtod(s.s, NULL);
    return isfinite(v) ? json_real(v) : refuse(j, at, "a number beyond the largest double");
}

static json_t *string(tarn_json *j) {
    tarn_json_string s;
    if (!tarn_json_text(j, &s)) {
        return NULL;
    }
    size_t at = (size_t)(s.s - j->text);
    return strlen(s.s) < s.len ? refuse(j, at, "a NUL in a string") : json_stringn_nocheck(s.s, s.len);
}

static json_t *value(tree *t) {
    bool yes;
    switch (tarn_json_peek(&t->j)) {
    case '{':
        return tarn_json_open(&t->j, '{') ? json_object() : NULL;
    case '[':
        return tarn_json_open(&t->j, '[') ? json_array() : NULL;
    case '"':
        return string(&t->j);
    case 'n':
        return tarn_json_null(&t->j) ? json_null() : NULL;
    case 't':
    case 'f':
        return tarn_json_bool(&t->j, &yes) ? json_boolean(yes) : NULL;
    default:
        return number(&t->j);
    }
}

static bool read_key(tree *t, const json_t *parent, tarn_json_string *key) {
    if (!tarn_json_key(&t->j, key)) {
        return false;
    }
    size_t at = (size_t)(key->s - t->j.text);
    if (strlen(key->s) < key->len) {
        return tarn_json_fail(&t->j, at, "a NUL in a name");
    }
    bool twice = t->flags & JSON_REJECT_DUPLICATES && json_object_get(parent, key->s);
    return !twice || tarn_json_fail(&t->j, at, "a name that comes twice");
}

// Into the innermost open object or array, which owns it from here on; the first value is the root.
static bool put(tree *t, const char *key, json_t *v) {
    json_t *parent = t->depth > 0 ? t->open[t->depth - 1] : NULL;
    if (!parent) {
        t->root = v;
        return v;
    }
    return (key ? json_object_set_new_nocheck(parent, key, v) : json_array_append_new(parent, v)) == 0;
}

static bool read_all(tree *t) {
    bool first = false;
    do {
        json_t *parent = t->depth > 0 ? t->open[t->depth - 1] : NULL;
        tarn_json_string key = {0};
        if (json_is_object(parent) && !read_key(t, parent, &key)) {
            return false;
        }
        char c = tarn_json_peek(&t->j);
        bool opens = c == '{' || c == '[';
        if (!opens && !parent) {
            return tarn_json_fail(&t->j, t->j.at, "expected an object or an array");
        }
        if (opens && t->depth == TARN_TREE_DEPTH) {
            return tarn_json_fail(&t->j, t->j.at, "values are nested too deeply");
        }
        json_t *v = value(t);
        if (!put(t, key.s, v)) {
            return false;
        }
        if (opens) {
            t->open[t->depth++] = v;
            first = true;
        }
        while (t->depth > 0 && !tarn_json_next(&t->j, json_is_object(t->open[t->depth - 1]) ? '}' : ']', &first)) {
            if (t->j.fault) {
                return false;
            }
            t->depth--;
        }
    } while (t->depth > 0);
    return tarn_json_end(&t->j);
}

static void explain(json_error_t *why, const tree *t, const char *text) {
    if (!why) {
        return;
    }
    *why = (json_error_t){.line = 1, .position = (int)t->j.fault_at};
    for (size_t i = 0; i < t->j.fault_at; i++) {
        why->column = text[i] == '\n' ? 0 : why->column + 1;
        why->line += text[i] == '\n';
    }
    snprintf(why->text, sizeof why->text - 1, "%s", t->j.fault ? t->j.fault : "out of memory");
    // where Jansson keeps the code
    why->text[sizeof why->text - 1] = (char)(t->j.fault ? json_error_invalid_syntax : json_error_out_of_memory);
}

json_t *tarn_tree_read(tarn_budget *b, const char *text, size_t len, size_t flags, json_error_t *why) {
    tree t = {.flags = flags};
    char *copy = tarn_alloc(b, len + 1);
    bool ok = false;
    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';  // where a number ends
        t.j = tarn_json_of(copy, len);
        ok = tarn_utf8_valid(text, len) ? read_all(&t) : tarn_json_fail(&t.j, 0, "not valid UTF-8");
    }
    if (!ok) {
        explain(why, &t, text);
        json_decref(t.root);
        t.root = NULL;
    }
    tarn_free(b, copy, len + 1);
    return t.root;
}

static int append(const char *s, size_t len, void *text) {
    tarn_text_add(text, s, len);
    return ((tarn_text *)text)->failed ? -1 : 0;
}

bool tarn_tree_write(const json_t *root, size_t flags, tarn_text *out) {
    return json_dump_callback(root, append, out, flags) == 0 && !out->failed;
}
