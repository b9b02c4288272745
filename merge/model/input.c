// SPDX-License-Identifier: Apache-2.0
// Inputs of a plan: a checkpoint in files. Opening reads headers and config.json only.
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "merge/model/model.h"

tarn_status tarn_model_side(tarn_arena *a, const char *folder, const char *name, char **text, size_t *len,
                            tarn_error *err) {
    enum { MOST = 16 << 20 };
    char path[4096];
    *text = NULL;
    *len = 0;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
        return TARN_OK;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MOST) {
        if (fd >= 0) {
            close(fd);
        }
        return TARN_OK;
    }
    size_t n = (size_t)st.st_size, at = 0;
    char *to = tarn_arena_take(a, n + 1);
    while (to && at < n) {
        ssize_t got = read(fd, to + at, n - at);
        if (got <= 0) {
            break;
        }
        at += (size_t)got;
    }
    close(fd);
    if (!to) {
        return tarn_raise_nomem(err, name, n);
    }
    to[at] = '\0';
    *text = to;
    *len = at;
    return TARN_OK;
}

static const tarn_node *expand_input(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_source *s = tarn_store_source(m->store, i);
    if (!s) {
        tarn_raise_nomem(&e->graph->err, "a source", 0);
        return NULL;
    }
    const tarn_node *n = tarn_leaf_source(e->graph, s);
    s->release(s);
    return n;
}

static void release_input(tarn_model *m) { tarn_store_release(m->store); }

const tarn_model_op tarn_model_row_input = {.name = "input", .expand = expand_input,
                                            .release = release_input};

static tarn_status fill_input(tarn_context *cx, tarn_model *m, tarn_error *err) {
    m->n = tarn_store_count(m->store);
    m->slots = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *m->slots + 1);
    tarn_name_in *in = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *in + 1);
    m->names = tarn_arena_take(&m->arena, sizeof *m->names);
    if (!m->slots || !in || !m->names) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *m->slots);
    }
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_store_tensor *t = tarn_store_at(m->store, i);
        m->slots[i] = (tarn_slot){.name = t->name, .len = t->name_len, .dtype = t->dtype,
                                  .rank = t->rank, .shape = t->shape};
        in[i] = (tarn_name_in){.name = t->name, .len = t->name_len, .dtype = t->dtype,
                               .rank = t->rank, .shape = t->shape};
    }
    TARN_TRY(tarn_names_find(cx, &m->arena, m->n, in, m->config, m->config_len, m->names, err));
    return tarn_model_index(m, err);
}

// "base" of path/base.safetensors, of path/base/, and of path/base/model.safetensors: there the folder
// is what tells one model from another.
static const char *short_name(tarn_arena *a, const char *path) {
    static const char suffix[] = ".safetensors", usual[] = "/model.safetensors";
    size_t n = strlen(path), k = sizeof suffix - 1, u = sizeof usual - 1;
    if (n > u && strcmp(path + n - u, usual) == 0) {
        n -= u;
    }
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    size_t start = n;
    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    if (n - start > k && strncmp(path + n - k, suffix, k) == 0) {
        n -= k;
    }
    return tarn_arena_string(a, path + start, n - start);
}

// A model of an open store, which it owns from here on, still without config and names.
static tarn_status of_store(tarn_context *cx, tarn_store *store, const char *path,
                            const tarn_open_options *o, tarn_model **out, tarn_error *err) {
    tarn_model *m;
    if (tarn_model_new(cx, &tarn_model_row_input, 0, NULL, &m, err) != TARN_OK) {
        tarn_store_release(store);
        return err->status;
    }
    m->store = store;
    m->mass = 1;
    m->side = m->named = m;
    m->policy = o ? o->policy : (tarn_policy){0};
    m->path = tarn_arena_string(&m->arena, path, strlen(path));
    m->label = o && o->label ? tarn_arena_string(&m->arena, o->label, strlen(o->label))
                             : short_name(&m->arena, path);
    *out = m;
    return TARN_OK;
}

static tarn_status finish_input(tarn_context *cx, tarn_model *m, tarn_model **out, tarn_error *err) {
    tarn_status s = m->path && m->label ? fill_input(cx, m, err)
                                        : tarn_raise_nomem(err, "a model", 0);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

tarn_status tarn_model_open(tarn_context *cx, const char *path, const tarn_open_options *o,
                            tarn_model **out, tarn_error *err) {
    tarn_store_options so = {.strict = o && o->strict};
    tarn_store *store;
    tarn_model *m;
    TARN_TRY(tarn_store_open(cx, path, &so, &store, err));
    TARN_TRY(of_store(cx, store, path, o, &m, err));
    const char *folder = tarn_store_folder(store);
    char *config;
    json_t *root = NULL;
    tarn_status s = tarn_model_side(&m->arena, folder, "config.json", &config, &m->config_len, err);
    s = s == TARN_OK ? tarn_config_read(cx, folder, config, m->config_len, &root, err) : s;
    json_decref(root);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    m->config = config;
    TARN_TRY(finish_input(cx, m, out, err));
    for (int i = 0; i < tarn_store_warnings(store); i++) {
        const char *code, *message;
        tarn_store_warning(store, i, &code, &message);
        tarn_warn(cx, "%s [%s]", message, code);
    }
    return TARN_OK;
}

tarn_status tarn_model_of_header(tarn_context *cx, const char *name, const tarn_header_text *h,
                                 const tarn_policy *policy, tarn_model **out, tarn_error *err) {
    tarn_open_options o = {.label = name, .policy = *policy};
    tarn_store *store;
    tarn_model *m;
    char *text = tarn_alloc(&cx->budget, h->len);  // reading it changes it
    if (!text) {
        return tarn_raise_nomem(err, "a header", h->len);
    }
    memcpy(text, h->text, h->len);
    tarn_status s = tarn_store_of_header(cx, name, text, h->len, h->data, &store, err);
    tarn_free(&cx->budget, text, h->len);
    TARN_TRY(s);
    TARN_TRY(of_store(cx, store, name, &o, &m, err));
    if (h->config) {
        m->config_len = h->config_len;
        m->config = tarn_arena_string(&m->arena, h->config, h->config_len);
        m->path = m->config ? m->path : NULL;  // as any other lack of memory
    }
    return finish_input(cx, m, out, err);
}
