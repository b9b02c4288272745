// SPDX-License-Identifier: Apache-2.0
// What the tests of the writer share: models that are made of a seed, saved and known again.
#ifndef TARN_TESTS_STORE_WRITTEN_H
#define TARN_TESTS_STORE_WRITTEN_H

#include "tests/vm/store/folder.h"

typedef struct {
    const char *name;
    size_t name_len;
    tarn_dtype dtype;
    int rank;
    int64_t shape[2];
} made;

#define NAMED(s) s, sizeof(s) - 1
static const made reference[] = {
    {NAMED("model.layers.0.mlp.weight"), TARN_F32, 2, {3, 4}},
    {NAMED("model.layers.0.mlp.bias"), TARN_F32, 1, {3}},
    {NAMED("model.embed"), TARN_BF16, 2, {5, 2}},
    {NAMED("z"), TARN_F64, 1, {2}},
    {NAMED("a"), TARN_F16, 2, {2, 2}},
    {NAMED("idx"), TARN_I64, 1, {3}},
    {NAMED("big"), TARN_U64, 1, {1}},
    {NAMED("i"), TARN_I32, 1, {2}},
    {NAMED("u"), TARN_U32, 1, {1}},
    {NAMED("s"), TARN_I16, 1, {3}},
    {NAMED("us"), TARN_U16, 1, {2}},
    {NAMED("b8"), TARN_I8, 1, {5}},
    {NAMED("q"), TARN_U8, 1, {7}},
    {NAMED("m"), TARN_BOOL, 1, {3}},
    {NAMED("e4"), TARN_F8_E4M3, 1, {4}},
    {NAMED("e5"), TARN_F8_E5M2, 1, {3}},
    {NAMED("e8"), TARN_F8_E8M0, 1, {2}},
    {NAMED("scalar"), TARN_F32, 0, {0}},
    {NAMED("none"), TARN_F32, 2, {0, 7}},
    {NAMED(""), TARN_F32, 1, {1}},
    {NAMED("quote\"back\\slash"), TARN_F32, 1, {1}},
    {NAMED("ctl\x01\b\t\n\f\r\x1f\x7f"), TARN_F32, 1, {1}},
    {NAMED("nul\0in"), TARN_F32, 1, {1}},
    {NAMED("größe/模型/🙂"), TARN_F32, 1, {2}},
    {NAMED("e4z"), TARN_F8_E4M3FNUZ, 1, {4}},
    {NAMED("e5z"), TARN_F8_E5M2FNUZ, 1, {3}},
    {NAMED("c"), TARN_C64, 1, {2}},
    {NAMED("f4"), TARN_F4, 1, {6}},
};
static const made small[] = {{NAMED("w"), TARN_F32, 2, {16, 16}}, {NAMED("b"), TARN_F32, 1, {16}}};
#define COUNT(a) (int)(sizeof(a) / sizeof *(a))

static inline tarn_writer_tensor as_given(const made *m) {
    return (tarn_writer_tensor){m->name, m->name_len, m->dtype, m->rank, m->shape};
}
static inline size_t size_of(const made *m) {
    int64_t n = 1;
    for (int d = 0; d < m->rank; d++) {
        n *= m->shape[d];
    }
    return tarn_dtype_bytes(m->dtype, n);
}
static inline unsigned char byte_of(int tensor, size_t k, int seed) {
    return (unsigned char)(tensor * 37 + (int)k * 11 + seed);
}

static inline tarn_status open_writer(tarn_context *cx, const char *path, const made *m, int n,
                               const tarn_writer_options *o, tarn_writer **w, tarn_error *err) {
    tarn_writer_tensor t[32];
    for (int i = 0; i < n; i++) {
        t[i] = as_given(&m[i]);
    }
    return tarn_writer_open(cx, path, n, t, o, w, err);
}

// Last tensor first, in pieces of 7 bytes from the end: no order may matter.
static inline tarn_status put_all(tarn_writer *w, const made *m, int n, int seed, tarn_error *err) {
    for (int i = n - 1; i >= 0; i--) {
        size_t size = size_of(&m[i]);
        for (size_t at = size; at > 0;) {
            size_t k = at < 7 ? at : 7;
            unsigned char piece[7];
            at -= k;
            for (size_t q = 0; q < k; q++) {
                piece[q] = byte_of(i, at + q, seed);
            }
            TARN_TRY(tarn_writer_put(w, i, at, piece, k, err));
        }
    }
    return TARN_OK;
}

static inline tarn_status save(tarn_context *cx, const char *path, const made *m, int n,
                        const tarn_writer_options *o, int seed, tarn_error *err) {
    tarn_writer *w;
    TARN_TRY(open_writer(cx, path, m, n, o, &w, err));
    tarn_status s = put_all(w, m, n, seed, err);
    s = s == TARN_OK ? tarn_writer_side(w, "config.json", seed ? "{1}" : "{0}", 3, err) : s;
    if (s != TARN_OK) {
        tarn_writer_abort(w);
        return s;
    }
    return tarn_writer_commit(w, err);
}

// Every byte of `small` in one file is that of the seed; -1: not a whole model.
static inline int seed_of(const char *path) {
    size_t n = 0, bytes = 0;
    char *file = slurp(path, &n);
    int seed = -1;
    if (file) {
        const unsigned char *w = tensor_in(file, n, "w", &bytes);
        seed = w && bytes == 1024 ? w[0] : -1;
        for (size_t k = 0; seed >= 0 && k < bytes; k++) {
            seed = w[k] == byte_of(0, k, seed) ? seed : -1;
        }
        const unsigned char *b = tensor_in(file, n, "b", &bytes);
        for (size_t k = 0; seed >= 0 && k < 64; k++) {
            seed = b && bytes == 64 && b[k] == byte_of(1, k, seed) ? seed : -1;
        }
        free(file);
    }
    return seed;
}

static inline void assert_same_file(const char *path, const char *golden) {
    size_t n, m;
    char *a = slurp(path, &n), *b = slurp(golden, &m);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static char warned[1024];
static inline void catch_warning(void *arg, const char *message) {
    snprintf(warned, sizeof warned, "%s", message);
}

#endif
