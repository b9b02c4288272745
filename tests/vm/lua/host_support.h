// SPDX-License-Identifier: Apache-2.0
// What the tests of the Lua host share: cmocka's includes in their order, opening a host, running a
// line of Lua, a clock.
#ifndef TARN_TESTS_VM_LUA_HOST_SUPPORT_H
#define TARN_TESTS_VM_LUA_HOST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "vm/lua/host.h"

#define OK(expr)                                                   \
    do {                                                           \
        if ((expr) != TARN_OK) {                                   \
            fail_msg("%s: %s [%s]", #expr, err.message, err.code); \
        }                                                          \
    } while (0)

typedef struct {
    tarn_context cx;
    tarn_host *h;
} world;

static inline void open_world(world *w, tarn_trust trust, size_t memory, double seconds,
                              const char *folder) {
    tarn_error err = {0};
    tarn_options o = {.threads = 1, .memory = memory};
    tarn_host_options ho = {.trust = trust, .seconds = seconds, .folder = folder};
    OK(tarn_context_init(&w->cx, &o, &err));
    OK(tarn_host_open(&w->cx, &ho, &w->h, &err));
}

// Closing gives every byte back to the budget.
static inline void close_world(world *w) {
    tarn_host_close(w->h);
    assert_int_equal(atomic_load(&w->cx.budget.used), 0);
    tarn_context_free(&w->cx);
}

static inline tarn_status run(tarn_host *h, const char *text, tarn_error *err) {
    tarn_error_clear(err);
    return tarn_host_run(h, "=test", text, strlen(text), 0, NULL, NULL, err);
}

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline uint64_t random_bits(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}
static inline int random_below(uint64_t *state, int n) {
    return (int)(random_bits(state) % (uint64_t)n);
}

#endif
