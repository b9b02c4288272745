// SPDX-License-Identifier: Apache-2.0
// Staging: the result of a plan in a temporary file that goes away with the model. In plans it stands
// for what it was made from, each tensor rounded to its stored dtype, so a replay needs no file.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "merge/plan/output.h"

typedef struct {
    char *folder;  // of the temporary file; NULL: restored from a plan, there is no file
    tarn_store *store;
} staged;

static const tarn_node *expand(tarn_expand *e, tarn_model *m, int64_t i) {
    const staged *s = m->extra;
    const tarn_slot *slot = &m->slots[i];
    if (!s->store) {
        const tarn_node *x = tarn_model_expr(e, m->in[0], i);
        return x && tarn_dtype_is_float(slot->dtype) ? tarn_cast(e->graph, x, slot->dtype) : x;
    }
    const tarn_source *source = tarn_store_source(s->store, tarn_store_find(s->store, slot->name, slot->len));
    if (!source) {
        tarn_raise_nomem(&e->graph->err, "a source", 0);
        return NULL;
    }
    const tarn_node *n = tarn_leaf_source(e->graph, source);
    source->release(source);
    return n;
}

static void release(tarn_model *m) {
    const staged *s = m->extra;
    char path[4096];
    if (!s) {
        return;
    }
    tarn_store_release(s->store);
    if (s->folder) {
        snprintf(path, sizeof path, "%s/stage.safetensors", s->folder);
        unlink(path);
        rmdir(s->folder);
    }
}

static tarn_status make(tarn_context *cx, tarn_model *m, tarn_model **out, staged **s,
                        tarn_error *err) {
    TARN_TRY(tarn_model_with(cx, m, &m->policy, out, err));
    *s = tarn_arena_take(&(*out)->arena, sizeof **s);
    if (!*s) {
        tarn_model_release(*out);
        *out = NULL;
        return tarn_raise_nomem(err, "a staged model", sizeof **s);
    }
    memset(*s, 0, sizeof **s);
    (*out)->op = &tarn_model_row_stage;
    (*out)->extra = *s;
    return TARN_OK;
}

static tarn_status restore(tarn_context *cx, const tarn_model_json *j, int nin,
                           tarn_model *const *in, tarn_model **out, tarn_error *err) {
    staged *s;
    (void)j;
    if (nin != 1) {
        TARN_RAISE(err, "PlanInvalid", "plan: stage takes one model, got %d", nin);
    }
    return make(cx, in[0], out, &s, err);
}

const tarn_model_op tarn_model_row_stage = {.name = "stage", .expand = expand, .release = release,
                                            .restore = restore};

static tarn_status fill(tarn_context *cx, tarn_model *m, const char *folder, tarn_model *r, staged *s,
                        tarn_error *err) {
    char path[4096];
    const char *base = folder ? folder : getenv("TMPDIR");
    base = base && *base ? base : "/tmp";
    int n = snprintf(path, sizeof path - 32, "%s/tarn-stage-XXXXXX", base);
    if (n < 0 || n >= (int)sizeof path - 32 || !mkdtemp(path)) {
        TARN_RAISE(err, "Io", "stage: no folder could be made in %s", base);
    }
    s->folder = tarn_arena_string(&r->arena, path, strlen(path));
    if (!s->folder) {
        rmdir(path);
        return tarn_raise_nomem(err, "a staged model", 0);
    }
    strcat(path, "/stage.safetensors");
    tarn_plan *p;
    tarn_save_options o = {0};
    TARN_TRY(tarn_plan_survey(cx, m, NULL, &p, err));
    tarn_status st = tarn_plan_save(p, path, &o, false, err);
    tarn_plan_free(p);
    TARN_TRY(st);
    return tarn_store_open(cx, path, NULL, &s->store, err);
}

tarn_status tarn_model_stage(tarn_context *cx, tarn_model *m, const char *folder, tarn_model **out,
                             tarn_error *err) {
    staged *s;
    TARN_TRY(make(cx, m, out, &s, err));
    tarn_status st = fill(cx, m, folder, *out, s, err);
    if (st != TARN_OK) {
        tarn_model_release(*out);
        *out = NULL;
    }
    return st;
}
