// SPDX-License-Identifier: Apache-2.0
// Statistics: models that a method takes beside those that it merges (Fisher information, Gram matrices). They
// are operands of its node like any other, after the matched ones, and found tensor by tensor by name.
#include <string.h>

#include "merge/method/applied.h"

const tarn_statistic *tarn_statistic_row(const tarn_method *method, const char *name) {
    const tarn_statistic *s = method->statistics;
    while (s && s->name && strcmp(s->name, name) != 0) {
        s++;
    }
    return s && s->name ? s : NULL;
}

tarn_status tarn_statistics_check(const tarn_method *method, bool base, int n, int nstatistics,
                                  const tarn_given_statistic *given, tarn_error *err) {
    for (const tarn_statistic *s = method->statistics; s && s->name; s++) {
        int k = 0;
        while (k < nstatistics && strcmp(given[k].name, s->name) != 0) {
            k++;
        }
        if (k == nstatistics && s->required) {
            TARN_RAISE(err, "MissingOption", "merge.%s: %s is missing: %s", method->name, s->name, s->doc);
        }
        if (k < nstatistics && s->of_base && !base) {
            TARN_RAISE(err, "MissingBase", "merge.%s: %s is of the base, but there is none", method->name, s->name);
        }
        if (k < nstatistics && given[k].n != (s->of_base ? 1 : n)) {
            TARN_RAISE(err, "ModelCount", "merge.%s: %s has %d for %d model%s", method->name, s->name, given[k].n,
                       s->of_base ? 1 : n, n == 1 || s->of_base ? "" : "s");
        }
    }
    return TARN_OK;
}

void tarn_statistics_write(const tarn_model *m, tarn_text *out) {
    const tarn_applied *a = m->extra;
    const tarn_statistic *s = a->method->statistics;
    for (int k = 0, written = 0; s && s[k].name; k++) {
        if (a->statistic[k]) {
            tarn_text_printf(out, written++ ? ",\"%s\"" : ",\"statistics\":[\"%s\"", s[k].name);
        }
        tarn_text_puts(out, !s[k + 1].name && written ? "]" : "");
    }
}

tarn_status tarn_statistics_restore(const tarn_model_json *j, const tarn_method *method, bool base, int *nin,
                                    tarn_model *const *in, int *count, tarn_given_statistic *given, tarn_error *err) {
    int64_t n = -1;
    const char *const *names;
    *count = 0;
    if (!tarn_restore_has(j, "statistics")) {
        return TARN_OK;
    }
    TARN_TRY(tarn_restore_texts(j, "statistics", &n, &names, err));
    int each = 0, single = 0;
    for (int64_t k = 0; k < n; k++) {
        const tarn_statistic *s = tarn_statistic_row(method, names[k]);
        if (!s || n > TARN_METHOD_STATISTICS) {
            TARN_RAISE(err, "PlanInvalid", "plan: %s has no statistic '%.60s'", method->name, names[k]);
        }
        each += !s->of_base;
        single += s->of_base;
        given[k] = (tarn_given_statistic){.name = s->name, .n = s->of_base};
    }
    int models = *nin - base - single;
    if (models < 1 || models % (1 + each) != 0) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s with %d operands", method->name, *nin);
    }
    models /= 1 + each;
    int at = base + models;
    for (int64_t k = 0; k < n; k++) {
        given[k].n = given[k].n ? 1 : models;
        given[k].models = in + at;
        at += given[k].n;
    }
    *nin = base + models;
    *count = (int)n;
    return TARN_OK;
}

// The operand index of statistic `name` of model i; -1: not given.
static int statistic_at(const tarn_model *m, const char *name, int i) {
    const tarn_applied *a = m->extra;
    const tarn_statistic *s = tarn_statistic_row(a->method, name);
    int first = s ? a->statistic[s - a->method->statistics] : 0;
    return first ? first + i : -1;
}

const tarn_model *tarn_method_statistic(const tarn_model *m, const char *name, int i) {
    int k = statistic_at(m, name, i);
    return k < 0 ? NULL : m->in[k];
}

tarn_status tarn_statistic_whole(const tarn_model *m, const char *name, tarn_error *err) {
    const tarn_applied *a = m->extra;
    const tarn_statistic *row = tarn_statistic_row(a->method, name);
    int first = statistic_at(m, name, 0), n = row->of_base ? 1 : a->models;
    for (int k = first; first > 0 && k < first + n; k++) {
        for (int64_t i = 0; i < m->n; i++) {
            const tarn_slot *s = &m->slots[i], *x = m->map[k][i] < 0 ? NULL : &m->in[k]->slots[m->map[k][i]];
            if (!x && !tarn_slot_integer(s)) {
                TARN_RAISE(err, "MissingTensor", "merge.%s: %s: %s has no tensor %s", a->method->name, name,
                           tarn_model_label(m->in[k]), s->name);
            }
            if (x && !tarn_shape_equal(x->rank, x->shape, s->rank, s->shape)) {
                TARN_RAISE(err, "ShapeMismatch", "merge.%s: %s: %s of %s has another shape than the model's", a->method->name,
                           name, s->name, tarn_model_label(m->in[k]));
            }
        }
    }
    return TARN_OK;
}

const tarn_node *tarn_statistic_of(tarn_build *b, const char *name, int i) {
    int k = statistic_at(b->model, name, i);
    int64_t at = k < 0 ? -1 : b->model->map[k][b->slot];
    return at < 0 ? NULL : tarn_model_expr(b->expand, b->model->in[k], at);
}
