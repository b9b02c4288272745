// SPDX-License-Identifier: Apache-2.0
// One tensor of a planned model as an expression of its own. Where the tensor hangs on a reduction
// over the whole model, other tensors have to be read for it, and integers have to be compared: then
// it is a leaf whose bytes are computed when they are first read, once.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "merge/model/globals.h"
#include "merge/plan/plan.h"

typedef struct {
    tarn_source face;
    atomic_int refs;
    tarn_model *model;  // retained
    int64_t slot;
    pthread_mutex_t lock;
    tarn_tensor value;  // storage NULL until it is computed
} lazy;

static lazy *of(const tarn_source *s) { return (lazy *)(uintptr_t)s; }

static void retain(const tarn_source *s) { atomic_fetch_add(&of(s)->refs, 1); }

static void release(const tarn_source *s) {
    lazy *z = of(s);
    if (atomic_fetch_sub(&z->refs, 1) == 1) {
        tarn_context *cx = z->model->cx;
        tarn_tensor_release(&z->value);
        tarn_model_release(z->model);
        pthread_mutex_destroy(&z->lock);
        tarn_free(&cx->budget, z, sizeof *z);
    }
}

static tarn_status read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    lazy *z = of(s);
    tarn_status st = TARN_OK;
    pthread_mutex_lock(&z->lock);
    if (!z->value.storage) {
        st = tarn_model_tensor(z->model->cx, z->model, z->slot, &z->value, err);
    }
    pthread_mutex_unlock(&z->lock);
    if (st == TARN_OK) {
        memcpy(dst, (const char *)tarn_tensor_data(&z->value) + at, n);
    }
    return st;
}

static const tarn_source *make(tarn_model *m, int64_t slot, tarn_dtype dtype, tarn_error *err) {
    const tarn_slot *s = &m->slots[slot];
    lazy *z = tarn_alloc_zero(&m->cx->budget, sizeof *z);
    if (!z) {
        tarn_raise_nomem(err, s->name, sizeof *z);
        return NULL;
    }
    atomic_init(&z->refs, 1);
    z->face = (tarn_source){.name = s->name, .where = tarn_model_label(m), .dtype = dtype,
                            .rank = s->rank, .shape = s->shape, .read = read, .retain = retain,
                            .release = release};
    z->model = tarn_model_retain(m);
    z->slot = slot;
    pthread_mutex_init(&z->lock, NULL);
    if (tarn_shape_numel(s->rank, s->shape, &z->face.numel, err) != TARN_OK) {
        release(&z->face);
        return NULL;
    }
    z->face.bytes = tarn_dtype_bytes(dtype, z->face.numel);
    return &z->face;
}

tarn_status tarn_model_node(tarn_graph *g, tarn_model *m, int64_t slot, const tarn_node **out,
                            tarn_error *err) {
    tarn_globals globals = {0};
    tarn_arena_init(&globals.arena, &m->cx->budget);
    tarn_expand e = {.cx = m->cx, .graph = g, .globals = &globals};
    const tarn_node *n = tarn_model_slot(&e, m, slot);
    bool whole = globals.n > 0 || e.checks;
    tarn_arena_free(&globals.arena);
    if (n && whole) {
        const tarn_source *s = make(m, slot, n->desc.dtype, err);
        if (!s) {
            return err->status;
        }
        n = tarn_leaf_source(g, s);
        s->release(s);
    }
    if (!n) {
        *err = g->err;
        return tarn_error_prefix(err, "%s", m->slots[slot].name);
    }
    *out = n;
    return TARN_OK;
}
