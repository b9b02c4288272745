// SPDX-License-Identifier: Apache-2.0
// A model node as JSON and back: what is common to all rows. Each row writes and reads the rest. A
// plan's text is hostile until it is validated: every count, index and number is checked here or by
// the constructor that is called with it.
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "merge/model/model.h"

static const char *const missing_names[] = {"error", "base", "zero", "drop"};

void tarn_model_write_number(tarn_text *out, double v) {
    if (!isfinite(v)) {
        tarn_text_puts(out, isnan(v) ? "\"nan\"" : v > 0 ? "\"inf\"" : "\"-inf\"");
    } else if (v == 0 && signbit(v)) {
        tarn_text_puts(out, "-0.0");
    } else {
        tarn_text_printf(out, "%.17g", v);
    }
}

bool tarn_model_read_number(const void *json, double *out) {
    const char *word = json_string_value(json);
    if (word) {
        *out = strcmp(word, "nan") == 0 ? NAN : word[0] == '-' ? -INFINITY : INFINITY;
        return strcmp(word, "nan") == 0 || strcmp(word + (word[0] == '-'), "inf") == 0;
    }
    *out = json_number_value(json);
    return json_is_number((const json_t *)json);
}

static void write_value(const tarn_model *m, const tarn_value *v, tarn_text *out) {
    tarn_text_puts(out, "{\"name\":");
    tarn_text_json(out, v->name, strlen(v->name));
    if (v->model >= 0) {
        tarn_text_printf(out, ",\"model\":%d", v->model);
    }
    if (v->text) {
        tarn_text_puts(out, ",\"text\":");
        tarn_text_json(out, v->text, strlen(v->text));
    } else if (!v->each) {
        tarn_text_puts(out, ",\"number\":");
        tarn_model_write_number(out, v->number);
    } else {
        // In byte order of the first operand's names; what was dropped has none.
        const tarn_model *x = m->in[0];
        int64_t *back = tarn_alloc(&m->cx->budget, (size_t)x->n * sizeof *back + 1);
        out->failed = out->failed || !back;
        for (int64_t i = 0; back && i < x->n; i++) {
            back[i] = -1;
        }
        for (int64_t i = 0; back && i < m->n; i++) {
            if (m->map[0][i] >= 0) {
                back[m->map[0][i]] = i;
            }
        }
        tarn_text_puts(out, ",\"each\":[");
        for (int64_t i = 0; back && i < x->n; i++) {
            int64_t at = back[x->by_name[i]];
            tarn_text_puts(out, i ? "," : "");
            if (at < 0) {
                tarn_text_puts(out, "null");
            } else {
                tarn_model_write_number(out, v->each[at]);
            }
        }
        tarn_text_puts(out, "]");
        tarn_free(&m->cx->budget, back, (size_t)x->n * sizeof *back + 1);
    }
    tarn_text_puts(out, "}");
}

void tarn_model_write(const tarn_model *m, int (*index)(void *arg, const tarn_model *in), void *arg,
                      tarn_text *out) {
    tarn_text_printf(out, "{\"node\":\"%s\",\"in\":[", m->op->name);
    for (int k = 0; k < m->nin; k++) {
        tarn_text_printf(out, "%s%d", k ? "," : "", index(arg, m->in[k]));
    }
    tarn_text_puts(out, "]");
    if (m->op->write) {
        m->op->write(m, out);
    }
    tarn_text_puts(out, ",\"values\":[");
    for (int k = 0; k < m->nvalues; k++) {
        tarn_text_puts(out, k ? "," : "");
        write_value(m, &m->values[k], out);
    }
    tarn_text_printf(out, "],\"missing\":\"%s\",\"on_integer\":\"%s\"}",
                     missing_names[m->policy.missing], m->policy.integer_base ? "base" : "error");
}

bool tarn_word_in(const char *words, const char *word) {
    size_t len = strlen(word);
    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL) {
        if (strncmp(w, word, len) == 0 && (w[len] == '|' || w[len] == '\0')) {
            return true;
        }
    }
    return false;
}

tarn_status tarn_restore_only(const void *json, const char *what, const char *names, const char *more,
                              tarn_error *err) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)json, key, v) {
        if (!tarn_word_in(names, key) && !tarn_word_in(more, key)) {
            TARN_RAISE(err, "PlanInvalid", "plan: %s holds '%.60s', which has no meaning there", what, key);
        }
    }
    return TARN_OK;
}

tarn_status tarn_restore_text(const tarn_model_json *j, const char *key, const char **out,
                           tarn_error *err) {
    *out = json_string_value(json_object_get(j->object, key));
    if (!*out) {
        TARN_RAISE(err, "PlanInvalid", "plan: a node lacks the text '%s'", key);
    }
    return TARN_OK;
}

bool tarn_restore_has(const tarn_model_json *j, const char *key) {
    return json_object_get(j->object, key) != NULL;
}

tarn_status tarn_restore_number(const tarn_model_json *j, const char *key, double *out,
                             tarn_error *err) {
    if (!tarn_model_read_number(json_object_get(j->object, key), out)) {
        TARN_RAISE(err, "PlanInvalid", "plan: a node lacks the number '%s'", key);
    }
    return TARN_OK;
}

tarn_status tarn_restore_list(const tarn_model_json *j, const char *key, const void **out, tarn_error *err) {
    *out = json_object_get(j->object, key);
    if (!json_is_array((const json_t *)*out)) {
        TARN_RAISE(err, "PlanInvalid", "plan: a node lacks the list '%s'", key);
    }
    return TARN_OK;
}

tarn_status tarn_restore_texts(const tarn_model_json *j, const char *key, int64_t *n,
                            const char *const **out, tarn_error *err) {
    const void *list;
    TARN_TRY(tarn_restore_list(j, key, &list, err));
    size_t count = json_array_size(list);
    if (*n >= 0 && (int64_t)count != *n) {
        TARN_RAISE(err, "PlanInvalid", "plan: the list '%s' has %zu texts, not %lld", key, count, (long long)*n);
    }
    const char **texts = tarn_arena_take(j->arena, count * sizeof *texts + 1);
    if (!texts) {
        return tarn_raise_nomem(err, "a plan", count * sizeof *texts);
    }
    for (size_t i = 0; i < count; i++) {
        texts[i] = json_string_value(json_array_get(list, i));
        if (!texts[i]) {
            TARN_RAISE(err, "PlanInvalid", "plan: '%s' holds something that is no text", key);
        }
    }
    *n = (int64_t)count;
    *out = texts;
    return TARN_OK;
}

static tarn_status read_each(const json_t *list, tarn_arena *a, const tarn_model *x, tarn_value *v,
                             tarn_error *err) {
    double *each = tarn_arena_take(a, (size_t)x->n * sizeof *each + 1);
    if (!each) {
        return tarn_raise_nomem(err, "a plan", (size_t)x->n * sizeof *each);
    }
    if (!json_is_array(list) || (int64_t)json_array_size(list) != x->n) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s has %zu values for %lld tensors", v->name,
                   json_array_size(list), (long long)x->n);
    }
    for (int64_t i = 0; i < x->n; i++) {
        const json_t *e = json_array_get(list, (size_t)i);
        double *at = &each[x->by_name[i]];
        if (json_is_null(e)) {
            *at = NAN;  // the tensor was dropped: nothing asks
        } else if (!tarn_model_read_number(e, at)) {
            TARN_RAISE(err, "PlanInvalid", "plan: %s has something that is no number", v->name);
        }
    }
    v->each = each;
    return TARN_OK;
}

static tarn_status read_values(tarn_model_json *j, int nin, tarn_model *const *in, tarn_error *err) {
    const void *list;
    TARN_TRY(tarn_restore_list(j, "values", &list, err));
    size_t n = json_array_size(list);
    j->values = tarn_arena_take(j->arena, n * sizeof *j->values + 1);
    if (!j->values) {
        return tarn_raise_nomem(err, "a plan", n * sizeof *j->values);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(o, "name"));
        const json_t *model = json_object_get(o, "model"), *each = json_object_get(o, "each");
        tarn_value v = {.name = name, .model = -1, .origin = "plan"};
        if (!name || (model && !json_is_integer(model))) {
            TARN_RAISE(err, "PlanInvalid", "plan: a value without name");
        }
        if (model) {
            json_int_t k = json_integer_value(model);
            if (k < 0 || k >= nin) {
                TARN_RAISE(err, "PlanInvalid", "plan: %s of model %lld of %d", name, (long long)k, nin);
            }
            v.model = (int)k;
        }
        TARN_TRY(tarn_restore_only(o, name, "name|model", each ? "each" : json_object_get(o, "text") ? "text" : "number",
                                   err));
        v.text = json_string_value(json_object_get(o, "text"));
        if (each) {
            TARN_TRY(read_each(each, j->arena, in[0], &v, err));
        } else if (!v.text) {
            if (!tarn_model_read_number(json_object_get(o, "number"), &v.number)) {
                TARN_RAISE(err, "PlanInvalid", "plan: %s has no value", name);
            }
        }
        j->values[j->nvalues++] = v;
    }
    return TARN_OK;
}

static tarn_status read_policy(tarn_model_json *j, tarn_error *err) {
    const char *missing, *integer;
    TARN_TRY(tarn_restore_text(j, "missing", &missing, err));
    TARN_TRY(tarn_restore_text(j, "on_integer", &integer, err));
    for (int k = 0; k < 4; k++) {
        if (strcmp(missing, missing_names[k]) == 0) {
            j->policy = (tarn_policy){(tarn_missing)k, strcmp(integer, "base") == 0};
            return TARN_OK;
        }
    }
    TARN_RAISE(err, "PlanInvalid", "plan: missing = '%.20s'", missing);
}

tarn_status tarn_model_restore(tarn_context *cx, tarn_arena *arena, void *object,
                               const tarn_model_op *row, int nin, tarn_model *const *in,
                               tarn_model **out, tarn_error *err) {
    tarn_model_json j = {.object = object, .arena = arena};
    if (!row->restore) {
        TARN_RAISE(err, "NotReplayable", "plan: the node '%s' cannot be made again from a plan",
                   row->name);
    }
    TARN_TRY(tarn_restore_only(object, row->name, "node|in|values|missing|on_integer", row->members, err));
    TARN_TRY(read_policy(&j, err));
    TARN_TRY(read_values(&j, nin, in, err));
    TARN_TRY(row->restore(cx, &j, nin, in, out, err));
    (*out)->policy = j.policy;
    return TARN_OK;
}
