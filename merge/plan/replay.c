// SPDX-License-Identifier: Apache-2.0
// Replay: the plan that a saved model embeds is executed again, and what comes out is compared with
// the file as it streams. Needs the inputs and nothing else: no Lua, no space on the disk.
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "merge/model/tree.h"
#include "merge/plan/output.h"

typedef struct {
    int n;
    const char *const *given;  // "NAME=PATH"
    json_t *provenance;        // NULL: none
} hints;

static const char *find_path(void *arg, const char *label, int k) {
    const hints *h = arg;
    size_t len = strlen(label);
    for (int i = 0; i < h->n; i++) {
        if (strncmp(h->given[i], label, len) == 0 && h->given[i][len] == '=') {
            return h->given[i] + len + 1;
        }
    }
    const json_t *list = json_object_get(h->provenance, "inputs");
    (void)k;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(o, "label"));
        if (name && strcmp(name, label) == 0) {
            return json_string_value(json_object_get(o, "path"));
        }
    }
    return NULL;
}

typedef struct {
    tarn_store *stored;
    tarn_plan *plan;
    int64_t *at;  // [jobs] index in the store
    pthread_mutex_t lock;
    unsigned char *differs;  // [jobs]
} comparison;

static tarn_status compare(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                           tarn_error *err) {
    enum { STEP = 1 << 16 };
    comparison *c = arg;
    const tarn_source *s = tarn_store_source(c->stored, c->at[job]);
    if (!s) {
        return tarn_raise_nomem(err, "replay", 0);
    }
    char buffer[STEP];
    tarn_status st = TARN_OK;
    for (uint64_t k = 0; k < n && st == TARN_OK; k += STEP) {
        uint64_t m = n - k < STEP ? n - k : STEP;
        st = s->read(s, at + k, m, buffer, err);
        if (st == TARN_OK && memcmp(buffer, (const char *)p + k, m) != 0) {
            pthread_mutex_lock(&c->lock);
            c->differs[job] = 1;
            pthread_mutex_unlock(&c->lock);
            break;
        }
    }
    s->release(s);
    return st;
}

// A line of the report: names are those of a file.
static void tell(tarn_text *report, const char *name, const char *what) {
    tarn_text_show(report, name, strlen(name), 400);
    tarn_text_printf(report, ": %s\n", what);
}

// What the header says must agree before the data is looked at.
static tarn_status same_header(comparison *c, bool *same, tarn_text *report, tarn_error *err) {
    tarn_plan *p = c->plan;
    if (tarn_store_count(c->stored) != p->n) {
        tarn_text_printf(report, "%lld tensors are stored, the plan makes %lld\n",
                         (long long)tarn_store_count(c->stored), (long long)p->n);
        *same = false;
        return TARN_OK;
    }
    for (int64_t i = 0; i < p->n; i++) {
        const tarn_slot *s = &p->model->slots[p->slot[i]];
        c->at[i] = tarn_store_find(c->stored, s->name, s->len);
        const tarn_store_tensor *t = c->at[i] < 0 ? NULL : tarn_store_at(c->stored, c->at[i]);
        if (!t || t->dtype != p->jobs[i].store ||
            !tarn_shape_equal(t->rank, t->shape, s->rank, s->shape)) {
            tell(report, s->name, t ? "another dtype or shape is stored" : "is not stored");
            *same = false;
        }
    }
    (void)err;
    return TARN_OK;
}

static tarn_status run(tarn_context *cx, tarn_store *stored, tarn_model *m,
                       const tarn_plan_options *o, bool *same, tarn_text *report, tarn_error *err) {
    comparison c = {.stored = stored};
    TARN_TRY(tarn_plan_survey(cx, m, o, &c.plan, err));
    size_t n = (size_t)c.plan->n + 1;
    c.at = calloc(n, sizeof *c.at);
    c.differs = calloc(n, 1);
    pthread_mutex_init(&c.lock, NULL);
    tarn_status s = c.at && c.differs ? tarn_plan_check(c.plan, err) : tarn_raise_nomem(err, "replay", n);
    s = s == TARN_OK ? same_header(&c, same, report, err) : s;
    if (s == TARN_OK && *same) {
        tarn_sink sink = {compare, &c};
        tarn_progress_begin(cx, "replaying", c.plan->traffic);
        s = tarn_plan_run(c.plan, &sink, err);
        tarn_progress_end(cx);
        for (int64_t i = 0; i < c.plan->n && s == TARN_OK; i++) {
            if (c.differs[i]) {
                tell(report, c.plan->jobs[i].name, "other bytes");
                *same = false;
            }
        }
    }
    pthread_mutex_destroy(&c.lock);
    free(c.at);
    free(c.differs);
    tarn_plan_free(c.plan);
    return s;
}

// The inputs are those that the plan ran on, by their content. `recorded`: [{label, digest}, …].
static tarn_status check_inputs(tarn_model *m, const json_t *recorded, tarn_error *err) {
    tarn_model *list[TARN_PLAN_INPUTS];
    int n;
    TARN_TRY(tarn_plan_inputs(m, list, &n, err));
    for (size_t i = 0; i < json_array_size(recorded); i++) {
        const json_t *o = json_array_get(recorded, i);
        const char *label = json_string_value(json_object_get(o, "label"));
        const char *was = json_string_value(json_object_get(o, "digest"));
        for (int k = 0; k < n && label && was; k++) {
            char hex[65];
            if (strcmp(tarn_model_label(list[k]), label) != 0) {
                continue;
            }
            TARN_TRY(tarn_model_digest(list[k], hex, err));
            if (strcmp(hex, was) != 0) {
                TARN_RAISE(err, "InputDiffers", "%s is not the input '%s' of the plan: its contents differ (digest "
                           "%.12s…, was %.12s…)", list[k]->path, label, hex, was);
            }
        }
    }
    return TARN_OK;
}

static const char *metadata(const tarn_store *s, const char *want) {
    for (int i = 0; i < tarn_store_meta_count(s); i++) {
        const char *key, *value;
        tarn_store_meta(s, i, &key, &value);
        if (strcmp(key, want) == 0) {
            return value;
        }
    }
    return NULL;
}

// One that cannot be read is as good as none.
static tarn_status read_provenance(tarn_context *cx, const char *folder, json_t **out, tarn_error *err) {
    tarn_arena a;
    char *text;
    size_t len;
    json_error_t why;
    tarn_arena_init(&a, &cx->budget);
    tarn_status s = tarn_model_side(&a, folder, "tarn-provenance.json", &text, &len, err);
    if (s == TARN_OK && text) {
        *out = tarn_tree_read(&cx->budget, text, len, JSON_REJECT_DUPLICATES, &why);
        s = *out || !tarn_tree_nomem(&why) ? TARN_OK : tarn_raise_nomem(err, "tarn-provenance.json", len);
    }
    tarn_arena_free(&a);
    return s;
}

static tarn_status read_inputs(tarn_context *cx, const char *path, const char *text, json_t **out, tarn_error *err) {
    json_error_t why;
    *out = tarn_tree_read(&cx->budget, text, strlen(text), JSON_REJECT_DUPLICATES, &why);
    if (!*out && tarn_tree_nomem(&why)) {
        return tarn_raise_nomem(err, "a plan", strlen(text));
    }
    return *out ? TARN_OK
                : tarn_raise(err, "PlanInvalid", "%s: its list of inputs cannot be read: %s", path, why.text);
}

// The plan embedded in `stored`, over its inputs.
static tarn_status recall(tarn_context *cx, const tarn_store *stored, const char *path, int ninputs,
                          const char *const *inputs, tarn_model **m, tarn_plan_options *o, tarn_error *err) {
    const char *plan = metadata(stored, "tarn_plan"), *inputs_text = metadata(stored, "tarn_inputs");
    if (!plan) {
        TARN_RAISE(err, "NoPlan", "%s holds no plan: tarn did not save it", path);
    }
    hints h = {ninputs, inputs, NULL};
    json_t *recorded = NULL;
    TARN_TRY(read_provenance(cx, tarn_store_folder(stored), &h.provenance, err));
    tarn_status s = tarn_plan_read(cx, plan, strlen(plan), find_path, &h, m, o, err);
    s = s == TARN_OK && inputs_text ? read_inputs(cx, path, inputs_text, &recorded, err) : s;
    s = s == TARN_OK ? check_inputs(*m, recorded, err) : s;
    json_decref(recorded);
    json_decref(h.provenance);
    return s;
}

tarn_status tarn_plan_recall(tarn_context *cx, const char *path, int ninputs, const char *const *inputs,
                             tarn_model **out, tarn_plan_options *o, tarn_error *err) {
    tarn_store *stored;
    tarn_model *m = NULL;
    TARN_TRY(tarn_store_open(cx, path, NULL, &stored, err));
    tarn_status s = recall(cx, stored, path, ninputs, inputs, &m, o, err);
    tarn_store_release(stored);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

tarn_status tarn_replay(tarn_context *cx, const char *path, int ninputs, const char *const *inputs,
                        bool *same, tarn_text *report, tarn_error *err) {
    tarn_store *stored;
    TARN_TRY(tarn_store_open(cx, path, NULL, &stored, err));
    tarn_model *m = NULL;
    tarn_plan_options o;
    *same = true;
    tarn_status s = recall(cx, stored, path, ninputs, inputs, &m, &o, err);
    s = s == TARN_OK ? run(cx, stored, m, &o, same, report, err) : s;
    tarn_model_release(m);
    tarn_store_release(stored);
    return s;
}
