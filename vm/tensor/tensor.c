// SPDX-License-Identifier: Apache-2.0
// Storage, views, and reading a source into memory.
#include "vm/tensor/tensor.h"

#include <stdlib.h>
#include <string.h>

#include "vm/base/size.h"

tarn_status tarn_shape_numel(int rank, const int64_t *shape, int64_t *numel, tarn_error *err) {
    int64_t n = 1;
    bool empty = false, fits = true;
    for (int d = 0; d < rank; d++) {
        if (shape[d] < 0) {
            TARN_RAISE(err, "Shape", "dimension %d of a shape is negative (%lld)", d + 1,
                       (long long)shape[d]);
        }
        empty = empty || shape[d] == 0;
        fits = fits && tarn_mul_i64(n, shape[d], &n);
    }
    if (!fits && !empty) {
        TARN_RAISE(err, "Overflow", "a shape has more than 2^63 elements");
    }
    *numel = empty ? 0 : n;
    return TARN_OK;
}

bool tarn_shape_equal(int rank_a, const int64_t *a, int rank_b, const int64_t *b) {
    return rank_a == rank_b && (rank_a == 0 || memcmp(a, b, (size_t)rank_a * sizeof *a) == 0);
}

void tarn_shape_show(tarn_text *t, int rank, const int64_t *shape) {
    tarn_text_puts(t, "[");
    for (int d = 0; d < rank; d++) {
        tarn_text_printf(t, d ? ", %lld" : "%lld", (long long)shape[d]);
    }
    tarn_text_puts(t, "]");
}

// A tensor without elements has zero strides: the product of its other dimensions may leave int64.
static void row_major(tarn_tensor *t, int64_t numel) {
    int64_t step = numel > 0 ? 1 : 0;
    for (int d = t->rank - 1; d >= 0; d--) {
        t->stride[d] = step;
        step *= t->shape[d];
    }
}

tarn_status tarn_tensor_new(tarn_context *cx, tarn_dtype dtype, int rank, const int64_t *shape,
                            tarn_tensor *t, tarn_error *err) {
    memset(t, 0, sizeof *t);
    if (rank < 0 || rank > TARN_MAX_RANK) {
        TARN_RAISE(err, "Rank", "a tensor has at most %d dimensions, not %d", TARN_MAX_RANK, rank);
    }
    int64_t n = 0;
    TARN_TRY(tarn_shape_numel(rank, shape, &n, err));
    int64_t bits;
    if (!tarn_mul_i64(n, tarn_dtype_get(dtype)->bits, &bits)) {
        TARN_RAISE(err, "Overflow", "a tensor of %lld elements has no size in bytes", (long long)n);
    }
    size_t bytes = tarn_dtype_bytes(dtype, n);
    tarn_storage *s = calloc(1, sizeof *s);
    void *data = s ? tarn_alloc(&cx->budget, bytes) : NULL;
    if (!data) {
        free(s);
        return tarn_raise_nomem(err, "a tensor", bytes);
    }
    atomic_init(&s->refs, 1);
    s->budget = &cx->budget;
    s->data = data;
    s->bytes = bytes;
    atomic_fetch_add(&cx->budget.external, bytes);
    t->storage = s;
    t->dtype = dtype;
    t->rank = rank;
    if (rank > 0) {
        memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    }
    row_major(t, n);
    return TARN_OK;
}

tarn_status tarn_tensor_zeros(tarn_context *cx, tarn_dtype dtype, int rank, const int64_t *shape,
                              tarn_tensor *t, tarn_error *err) {
    TARN_TRY(tarn_tensor_new(cx, dtype, rank, shape, t, err));
    memset(t->storage->data, 0, t->storage->bytes);
    return TARN_OK;
}

tarn_status tarn_tensor_number(tarn_context *cx, double v, tarn_tensor *t, tarn_error *err) {
    TARN_TRY(tarn_tensor_new(cx, TARN_F64, 0, NULL, t, err));
    t->weak = true;
    *(double *)t->storage->data = v;
    return TARN_OK;
}

void tarn_tensor_share(const tarn_tensor *t, tarn_tensor *out) {
    *out = *t;
    if (out->storage) {
        atomic_fetch_add(&out->storage->refs, 1);
    }
}

void tarn_tensor_release(tarn_tensor *t) {
    tarn_storage *s = t->storage;
    t->storage = NULL;
    if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
        atomic_fetch_sub(&s->budget->external, s->bytes);
        tarn_free(s->budget, s->data, s->bytes);
        free(s);
    }
}

int64_t tarn_tensor_numel(const tarn_tensor *t) {
    int64_t n = 0;
    tarn_shape_numel(t->rank, t->shape, &n, NULL);  // checked when the tensor was made
    return n;
}

bool tarn_tensor_contiguous(const tarn_tensor *t) {
    int64_t step = 1;
    if (tarn_tensor_numel(t) == 0) {
        return true;
    }
    for (int d = t->rank - 1; d >= 0; d--) {
        if (t->shape[d] != 1 && t->stride[d] != step) {
            return false;
        }
        step *= t->shape[d];
    }
    return true;
}

static const void *element(const tarn_tensor *t, int64_t i) {
    int64_t at = t->offset;
    for (int d = t->rank - 1; d >= 0; d--) {
        at += i % t->shape[d] * t->stride[d];
        i /= t->shape[d];
    }
    return (const char *)t->storage->data + at * (tarn_dtype_get(t->dtype)->bits / 8);
}

double tarn_tensor_get(const tarn_tensor *t, int64_t i) {
    return tarn_element_get(t->dtype, element(t, i));
}

int64_t tarn_tensor_get_int(const tarn_tensor *t, int64_t i) {
    const void *p = element(t, i);
    if (t->dtype == TARN_I64 || t->dtype == TARN_U64) {
        int64_t v;
        memcpy(&v, p, sizeof v);
        return v;
    }
    return (int64_t)tarn_element_get(t->dtype, p);
}

void tarn_tensor_set(tarn_tensor *t, int64_t i, double v) {
    union {
        const void *in;
        void *out;
    } u = {.in = element(t, i)};
    tarn_element_set(t->dtype, u.out, v);
}

tarn_status tarn_tensor_read(tarn_context *cx, const tarn_source *s, tarn_tensor *t,
                             tarn_error *err) {
    if (s->rank > TARN_MAX_RANK) {
        memset(t, 0, sizeof *t);
        TARN_RAISE(err, "Rank", "%s has %d dimensions; tensors in memory have at most %d", s->name,
                   s->rank, TARN_MAX_RANK);
    }
    TARN_TRY(tarn_tensor_new(cx, s->dtype, s->rank, s->shape, t, err));
    const uint64_t piece = (uint64_t)8 << 20;
    for (uint64_t at = 0; at < s->bytes; at += piece) {
        uint64_t n = s->bytes - at < piece ? s->bytes - at : piece;
        tarn_status st = tarn_cancel_check(&cx->cancel, err);
        if (st == TARN_OK) {
            st = s->read(s, at, n, (char *)t->storage->data + at, err);
        }
        if (st != TARN_OK) {
            tarn_tensor_release(t);
            return st;
        }
    }
    return TARN_OK;
}

typedef struct {
    tarn_source face;
    atomic_int refs;
    tarn_tensor tensor;
    char name[];
} memory_source;

static tarn_status memory_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst,
                               tarn_error *err) {
    (void)err;
    const memory_source *m = (const memory_source *)(const void *)s;
    memcpy(dst, (const char *)tarn_tensor_data(&m->tensor) + at, n);
    return TARN_OK;
}

static void memory_retain(const tarn_source *s) {
    union {
        const tarn_source *in;
        memory_source *out;
    } u = {.in = s};
    atomic_fetch_add(&u.out->refs, 1);
}

static void memory_release(const tarn_source *s) {
    union {
        const tarn_source *in;
        memory_source *out;
    } u = {.in = s};
    if (atomic_fetch_sub(&u.out->refs, 1) == 1) {
        tarn_tensor_release(&u.out->tensor);
        free(u.out);
    }
}

const tarn_source *tarn_source_of_tensor(const tarn_tensor *t, const char *name) {
    size_t len = strlen(name);
    memory_source *m = calloc(1, sizeof *m + len + 1);
    if (!m) {
        return NULL;
    }
    memcpy(m->name, name, len + 1);
    atomic_init(&m->refs, 1);
    tarn_tensor_share(t, &m->tensor);
    m->face = (tarn_source){.name = m->name,
                            .where = "memory",
                            .dtype = t->dtype,
                            .rank = t->rank,
                            .shape = m->tensor.shape,
                            .numel = tarn_tensor_numel(t),
                            .bytes = tarn_tensor_bytes(t),
                            .read = memory_read,
                            .retain = memory_retain,
                            .release = memory_release};
    return &m->face;
}

const tarn_tensor *tarn_source_tensor(const tarn_source *s) {
    return s->read == memory_read ? &((const memory_source *)(const void *)s)->tensor : NULL;
}
