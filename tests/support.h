// SPDX-License-Identifier: Apache-2.0
// What the C tests share: cmocka's includes in their order, a context, filled tensors.
#ifndef TARN_TESTS_SUPPORT_H
#define TARN_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vm/op/op.h"

#define OK(expr)                                               \
    do {                                                       \
        if ((expr) != TARN_OK) {                               \
            fail_msg("%s: %s [%s]", #expr, err.message, err.code); \
        }                                                      \
    } while (0)

static inline void open_context(tarn_context *cx, int threads, const char *isa) {
    tarn_error err = {0};
    tarn_options o = {.threads = threads, .memory = (size_t)4 << 30, .isa = isa};
    OK(tarn_context_init(cx, &o, &err));
}

static inline uint64_t test_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}
static inline double test_uniform(uint64_t *state) {  // -1 .. 1
    return (double)(int64_t)(test_random(state) >> 11) * 0x1p-52 - 1;
}

static inline tarn_tensor filled(tarn_context *cx, tarn_dtype t, int rank, const int64_t *shape,
                                 uint64_t seed) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(cx, t, rank, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, test_uniform(&seed) * 2);
    }
    return x;
}

// What this processor can run, NULL-terminated.
static inline const char *const *test_isas(void) {
    static const char *list[4];
    int n = 0;
    static const char *const all[] = {"v1", "v3", "v4"};
    for (int i = 0; i < 3; i++) {
        tarn_context cx;
        tarn_options o = {.threads = 1, .memory = 1 << 20, .isa = all[i]};
        if (tarn_context_init(&cx, &o, NULL) == TARN_OK) {
            tarn_context_free(&cx);
            list[n++] = all[i];
        }
    }
    list[n] = NULL;
    return list;
}

#endif
