// SPDX-License-Identifier: Apache-2.0
// The models of a pair: a header with edits applied (drop, keep, rename, resize, reshape, add,
// dtype, config), as a model without data.
#ifndef TARN_TESTS_PAIRS_H
#define TARN_TESTS_PAIRS_H

#include "tests/merge/model/headers.h"

#include "merge/model/model.h"
#include "merge/model/regex.h"

typedef struct {
    tarn_regex_env env;
    pcre2_code *code;
} pattern;

static inline void pattern_open(tarn_context *cx, pattern *p, json_t *regex) {
    tarn_error err = {0};
    const char *text = json_is_string(regex) ? json_string_value(regex) : ".";
    OK(tarn_regex_open(&p->env, &cx->budget, &err));
    OK(tarn_regex_compile(&p->env, text, strlen(text), false, &p->code, &err));
}

static inline bool pattern_hits(const pattern *p, const char *name) {
    return tarn_regex_search(&p->env, p->code, name, strlen(name)) > 0;
}

static inline void pattern_close(pattern *p) {
    pcre2_code_free(p->code);
    tarn_regex_close(&p->env);
}

// "model.layers.{L}.x" for every layer.
static inline void edit_add(json_t *tensors, json_t *edit) {
    json_t *spec;
    const char *name;
    int layers = (int)json_integer_value(json_object_get(edit, "layers"));
    json_object_foreach(json_object_get(edit, "add"), name, spec) {
        const char *at = strstr(name, "{L}");
        for (int l = 0; l < (at ? layers : 1); l++) {
            char text[256];
            if (at) {
                snprintf(text, sizeof text, "%.*s%d%s", (int)(at - name), name, l, at + 3);
            } else {
                snprintf(text, sizeof text, "%s", name);
            }
            json_object_set(tensors, text, spec);
        }
    }
}

static inline json_t *edit_shape(json_t *spec, json_t *edit) {
    json_t *copy = json_deep_copy(spec), *dims = json_array_get(copy, 1);
    json_t *to = json_object_get(edit, "to");
    if (to) {
        json_array_set(dims, (size_t)json_integer_value(json_object_get(edit, "axis")), to);
    } else {
        json_t *first = json_incref(json_array_get(dims, 0));
        json_array_remove(dims, 0);
        json_array_append_new(dims, first);
    }
    return copy;
}

// The tensors after one edit, in their order.
static inline json_t *edit_tensors(tarn_context *cx, json_t *tensors, json_t *edit) {
    static const char *const verbs[] = {"drop", "keep", "rename", "resize", "reshape", "dtype"};
    json_t *what = NULL, *out = json_object(), *spec;
    int verb = 0;
    for (; verb < 6 && !(what = json_object_get(edit, verbs[verb])); verb++) {
    }
    pattern p;
    pattern_open(cx, &p,
                 verb == 2   ? json_array_get(what, 0)
                 : verb == 5 ? json_object_get(edit, "match")
                             : what);
    const char *name;
    json_object_foreach(tensors, name, spec) {
        bool hit = pattern_hits(&p, name);
        char text[256];
        snprintf(text, sizeof text, "%s", name);
        json_t *x = json_incref(spec);
        if (verb == 2 && hit) {
            size_t end = pcre2_get_ovector_pointer(p.env.data)[1];  // anchored in every pair
            snprintf(text, sizeof text, "%s%s", json_string_value(json_array_get(what, 1)),
                     name + end);
        }
        if ((verb == 3 || verb == 4) && hit) {
            json_decref(x);
            x = edit_shape(spec, edit);
        }
        if (verb == 5 && hit) {
            json_decref(x);
            x = json_deep_copy(spec);
            json_array_set(x, 0, what);
        }
        if ((verb == 0 && hit) || (verb == 1 && !hit)) {
            json_decref(x);
        } else {
            json_object_set_new(out, text, x);
        }
    }
    pattern_close(&p);
    if (json_object_get(edit, "add")) {
        edit_add(out, edit);
    }
    return out;
}

static inline json_t *pair_header(tarn_context *cx, json_t *pair, const char *which) {
    json_t *side = json_object_get(pair, which), *edit;
    json_t *h = header_load(json_string_value(json_object_get(side, "model")));
    size_t k;
    json_array_foreach(json_object_get(side, "edit"), k, edit) {
        json_object_update(json_object_get(h, "config"), json_object_get(edit, "config"));
        json_object_set_new(h, "tensors", edit_tensors(cx, json_object_get(h, "tensors"), edit));
        if (json_object_get(edit, "shards")) {
            json_object_set(h, "shards", json_object_get(edit, "shards"));
        }
    }
    return h;
}

// A model of names and shapes: all that planning needs. It can be combined and never run.
static inline tarn_model *model_of(tarn_context *cx, int64_t n, const tarn_name_in *in,
                                   const char *config, const char *label) {
    tarn_error err = {0};
    tarn_model *m;
    OK(tarn_model_new(cx, &tarn_model_row_memory, 0, NULL, &m, &err));
    m->n = n;
    m->mass = 1;
    m->side = m->named = m;
    m->label = tarn_arena_string(&m->arena, label, strlen(label));
    m->slots = tarn_arena_take(&m->arena, (size_t)n * sizeof *m->slots + 1);
    m->names = tarn_arena_take(&m->arena, sizeof *m->names);
    for (int64_t i = 0; i < n; i++) {
        m->slots[i] = (tarn_slot){
            .name = tarn_arena_string(&m->arena, in[i].name, in[i].len),
            .len = in[i].len,
            .dtype = in[i].dtype,
            .rank = in[i].rank,
            .shape = tarn_arena_copy(&m->arena, in[i].shape, (size_t)in[i].rank * sizeof(int64_t))};
    }
    OK(tarn_names_find(cx, &m->arena, n, in, config, config ? strlen(config) : 0, m->names, &err));
    OK(tarn_model_index(m, &err));
    return m;
}

static inline tarn_model *pair_model(tarn_context *cx, json_t *pair, const char *which) {
    json_t *h = pair_header(cx, pair, which);
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    int64_t n;
    tarn_name_in *in = header_names(&a, h, &n);
    tarn_model *m = model_of(cx, n, in, header_config(&a, h), which);
    tarn_arena_free(&a);
    json_decref(h);
    return m;
}

#endif
