// SPDX-License-Identifier: Apache-2.0
// A model whose config.json says something else: a JSON merge patch (RFC 7396) over that of its
// side files. What follows from the tensors (their dtype, the number of layers) is brought up to
// date at saving (merge/plan/config.c) and needs no patch.
#include <string.h>

#include "merge/model/structure.h"
#include "merge/model/tree.h"

enum { EDITS = JSON_COMPACT | JSON_ENSURE_ASCII | JSON_SORT_KEYS };

static const tarn_node *expand_config(tarn_expand *e, tarn_model *m, int64_t i) {
    return tarn_model_expr(e, m->in[0], i);
}

static void write_config(const tarn_model *m, tarn_text *out) {
    tarn_text_puts(out, ",\"config\":");
    tarn_text_puts(out, m->extra);
}

static tarn_status restore_config(tarn_context *cx, const tarn_model_json *j, int nin,
                                  tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const json_t *patch = json_object_get(j->object, "config");
    if (nin != 1 || !json_is_object(patch)) {
        TARN_RAISE(err, "PlanInvalid", "plan: config takes one model and an object");
    }
    tarn_text text;
    tarn_text_init(&text, &cx->budget);
    tarn_status s = tarn_tree_write(patch, EDITS, &text) ? tarn_model_with_config(cx, in[0], text.data, out, err)
                                                         : tarn_raise_nomem(err, "a plan", 0);
    tarn_text_free(&text);
    return s;
}

const tarn_model_op tarn_model_row_config = {
    .name = "config", .expand = expand_config, .members = "config", .write = write_config, .restore = restore_config};

// False when memory ends. Parsed texts are at most 2048 deep.
static bool apply(json_t *to, const json_t *patch) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)patch, key, v) {
        if (json_is_null(v)) {
            json_object_del(to, key);
            continue;
        }
        if (json_is_object(v) && !json_is_object(json_object_get(to, key)) &&
            json_object_set_new(to, key, json_object()) != 0) {
            return false;
        }
        if (json_is_object(v) ? !apply(json_object_get(to, key), v)
                              : json_object_set(to, key, v) != 0) {
            return false;
        }
    }
    return true;
}

static tarn_status patched(tarn_model *r, const char *was, size_t len, const json_t *patch,
                           tarn_error *err) {
    json_error_t why;
    tarn_budget *b = &r->cx->budget;
    json_t *root = tarn_tree_read(b, was, len, 0, &why);
    if (!root && tarn_tree_nomem(&why)) {
        return tarn_raise_nomem(err, "config.json", len);
    }
    if (!json_is_object(root)) {
        bool parsed = root;
        json_decref(root);
        TARN_RAISE(err, "ConfigInvalid", "config.json of %s cannot be changed: %s",
                   tarn_model_label(r->in[0]), parsed ? "it holds no object" : why.text);
    }
    // By name, as a replay reads them: new fields must not come in the order of some hash table.
    tarn_text edits, text;
    tarn_text_init(&edits, b);
    tarn_text_init(&text, b);
    json_t *sorted = tarn_tree_write(patch, EDITS, &edits) ? tarn_tree_read(b, edits.data, edits.len, 0, &why) : NULL;
    if (sorted && apply(root, sorted) && tarn_tree_write(root, JSON_INDENT(2) | JSON_ENSURE_ASCII, &text)) {
        r->config_len = text.len;
        r->config = tarn_arena_string(&r->arena, text.data, text.len);
        r->extra = tarn_arena_string(&r->arena, edits.data, edits.len);
    }
    tarn_text_free(&text);
    tarn_text_free(&edits);
    json_decref(sorted);
    json_decref(root);
    return r->config && r->extra ? TARN_OK : tarn_raise_nomem(err, "config.json", len);
}

tarn_status tarn_model_with_config(tarn_context *cx, tarn_model *m, const char *patch,
                                   tarn_model **out, tarn_error *err) {
    json_error_t why;
    json_t *edits = tarn_tree_read(&cx->budget, patch, strlen(patch), JSON_REJECT_DUPLICATES, &why);
    if (!edits && tarn_tree_nomem(&why)) {
        return tarn_raise_nomem(err, "the patch of config.json", strlen(patch));
    }
    if (!json_is_object(edits)) {
        bool parsed = edits;
        json_decref(edits);
        TARN_RAISE(err, "ConfigInvalid", "the patch of config.json is no JSON object: %.200s",
                   parsed ? patch : why.text);
    }
    const tarn_model *side = m->side;
    bool has = side && side->config;
    tarn_model *r = NULL;
    tarn_status s = tarn_model_like(cx, &tarn_model_row_config, m, &r, err);
    s = s == TARN_OK ? patched(r, has ? side->config : "{}", has ? side->config_len : 2, edits, err)
                     : s;
    json_decref(edits);
    if (s == TARN_OK) {
        r->side = r;
        s = tarn_model_find_names(r, err);
    }
    if (s != TARN_OK) {
        tarn_model_release(r);
        return s;
    }
    *out = r;
    return TARN_OK;
}
