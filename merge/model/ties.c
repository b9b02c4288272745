// SPDX-License-Identifier: Apache-2.0
// Which names are two names of one parameter: read from config.json and the rows of names_table.c.
// A config that does not parse is as good as none, with a warning; nothing is tied then but what
// the file's own names prove.
#include <string.h>

#include "merge/model/intern.h"
#include "merge/model/names_table.h"
#include "merge/model/tree.h"

static bool word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Python writes NaN and Infinity, which JSON has not: they become spaces and a 0, in place.
static void tame_constants(char *s, size_t len) {
    static const char *const words[] = {"NaN", "Infinity"};
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (quoted && s[i] == '\\') {
            i++;
        } else if (s[i] == '"') {
            quoted = !quoted;
        }
        for (int w = 0; !quoted && w < 2; w++) {
            size_t n = strlen(words[w]);
            if (len - i >= n && memcmp(s + i, words[w], n) == 0 &&
                (i == 0 || !word_char(s[i - 1])) && (i + n == len || !word_char(s[i + n]))) {
                memset(s + i, ' ', n);
                s[i + (i > 0 && s[i - 1] == '-' ? 0 : n - 1)] = '0';
            }
        }
    }
}

tarn_status tarn_config_read(tarn_context *cx, const char *folder, const char *config, size_t len, json_t **out,
                             tarn_error *err) {
    json_error_t why, again;
    *out = config ? tarn_tree_read(&cx->budget, config, len, 0, &why) : NULL;
    bool nomem = config && !*out && tarn_tree_nomem(&why);
    if (config && !*out && !nomem) {
        char *copy = tarn_alloc(&cx->budget, len);
        if (!copy) {
            return tarn_raise_nomem(err, "config.json", len);
        }
        memcpy(copy, config, len);
        tame_constants(copy, len);
        *out = tarn_tree_read(&cx->budget, copy, len, 0, &again);
        nomem = !*out && tarn_tree_nomem(&again);
        tarn_free(&cx->budget, copy, len);
    }
    if (nomem) {
        return tarn_raise_nomem(err, "config.json", len);
    }
    if (config && !*out && folder) {
        tarn_warn(cx, "%s/config.json is left aside: line %d: %s", folder, why.line, why.text);
    }
    if (*out && !json_is_object(*out)) {
        if (folder) {
            tarn_warn(cx, "%s/config.json is left aside: it holds no object", folder);
        }
        json_decref(*out);
        *out = NULL;
    }
    return TARN_OK;
}

// As the ecosystem does: what the config says, at the top or for its language model, else what its
// type says.
static bool words_tied(const json_t *config, const char *model_type) {
    const json_t *text = json_object_get(config, "text_config");
    const json_t *said[] = {json_object_get(config, "tie_word_embeddings"),
                            json_object_get(text, "tie_word_embeddings")};
    for (int k = 0; k < 2; k++) {
        if (json_is_boolean(said[k])) {
            return json_is_true(said[k]);
        }
    }
    for (int k = 0; tarn_untied_types[k]; k++) {
        if (strcmp(tarn_untied_types[k], model_type) == 0) {
            return false;
        }
    }
    return *model_type != '\0';
}

// Whether the class that was saved has a head at all; where nothing says which it was, it may.
static tarn_status has_head(tarn_regex_env *env, const json_t *config, bool *yes, tarn_error *err) {
    const json_t *classes = json_object_get(config, "architectures"), *one;
    *yes = json_array_size(classes) == 0;
    pcre2_code *code = NULL;
    TARN_TRY(tarn_regex_compile(env, tarn_head_architectures, strlen(tarn_head_architectures),
                                false, &code, err));
    size_t k;
    json_array_foreach((json_t *)classes, k, one) {
        const char *name = json_string_value(one);
        *yes = *yes || (name && tarn_regex_search(env, code, name, strlen(name)) > 0);
    }
    pcre2_code_free(code);
    return TARN_OK;
}

static tarn_status read_config(tarn_context *cx, tarn_regex_env *env, const char *config,
                               size_t len, tarn_names *out, bool *tied_head, tarn_error *err) {
    json_t *root;
    *tied_head = false;
    TARN_TRY(tarn_config_read(cx, NULL, config, len, &root, err));
    if (!root) {
        return TARN_OK;
    }
    const char *type = json_string_value(json_object_get(root, "model_type"));
    out->model_type = tarn_arena_string(out->arena, type ? type : "", type ? strlen(type) : 0);
    tarn_status s = out->model_type ? TARN_OK : tarn_raise_nomem(err, "config.json", len);
    if (s == TARN_OK) {
        out->tied_config = words_tied(root, out->model_type);
        s = has_head(env, root, tied_head, err);
        *tied_head = *tied_head && out->tied_config;
    }
    json_decref(root);
    return s;
}

// Where the names of the rows are in the file: by their number in `wanted`, -1: absent.
static int64_t *locate(tarn_intern *wanted, int64_t n, const tarn_name_in *in) {
    for (const tarn_tie_row *r = tarn_tie_rows; r->kept; r++) {
        const char *texts[] = {r->kept, r->other, r->needs};
        for (int k = 0; k < 3; k++) {
            bool fresh;
            if (texts[k] && tarn_intern_add(wanted, texts[k], strlen(texts[k]), &fresh) < 0) {
                return NULL;
            }
        }
    }
    int64_t *at = tarn_arena_take(wanted->arena, (size_t)wanted->count * sizeof *at + 1);
    for (int32_t k = 0; at && k < wanted->count; k++) {
        at[k] = -1;
    }
    for (int64_t i = 0; at && i < n; i++) {
        int32_t id = tarn_intern_find(wanted, in[i].name, in[i].len);
        if (id >= 0) {
            at[id] = i;
        }
    }
    return at;
}

static int64_t found(const tarn_intern *wanted, const int64_t *at, const char *name) {
    return at[tarn_intern_find(wanted, name, strlen(name))];
}

static bool same_shape(const tarn_name_in *a, const tarn_name_in *b) {
    return a->rank == b->rank &&
           (a->rank == 0 || memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0);
}

tarn_status tarn_names_ties(tarn_context *cx, tarn_regex_env *env, int64_t n,
                            const tarn_name_in *in, const char *config, size_t config_len,
                            tarn_names *out, tarn_error *err) {
    bool tied_head;
    TARN_TRY(read_config(cx, env, config, config_len, out, &tied_head, err));
    int most = 0;
    while (tarn_tie_rows[most].kept) {
        most++;
    }
    tarn_intern wanted = {.arena = out->arena};
    int64_t *at = locate(&wanted, n, in);
    out->ties = tarn_arena_take(out->arena, (size_t)most * sizeof *out->ties);
    if (!at || !out->ties) {
        return tarn_raise_nomem(err, "the table of names", (size_t)most * sizeof *out->ties);
    }
    for (const tarn_tie_row *r = tarn_tie_rows; r->kept; r++) {
        int64_t kept = found(&wanted, at, r->kept), other = found(&wanted, at, r->other);
        bool holds = kept >= 0 && (!r->word || tied_head) &&
                     (!r->needs || found(&wanted, at, r->needs) >= 0);
        // Stored under both names, two shapes are two parameters whatever the config says.
        if (holds && (other < 0 || same_shape(&in[kept], &in[other]))) {
            out->ties[out->nties++] = (tarn_tie){r->kept, r->other, other >= 0};
        }
    }
    return TARN_OK;
}
