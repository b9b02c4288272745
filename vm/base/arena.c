// SPDX-License-Identifier: Apache-2.0
// Chunks double from 4 KiB to 1 MiB; a large request gets a chunk of its own.
#include "vm/base/arena.h"

#include <stdint.h>
#include <string.h>

struct tarn_arena_chunk {
    tarn_arena_chunk *next;
    size_t size;  // bytes of the whole chunk, this header included
    char pad[48];
};

void tarn_arena_init(tarn_arena *a, tarn_budget *b) {
    memset(a, 0, sizeof *a);
    a->budget = b;
}

void tarn_arena_free(tarn_arena *a) {
    tarn_arena_chunk *c = a->chunks;
    while (c) {
        tarn_arena_chunk *next = c->next;
        tarn_free(a->budget, c, c->size);
        c = next;
    }
    a->chunks = NULL;
    a->used = a->total = 0;
}

void *tarn_arena_take(tarn_arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) {
        return NULL;
    }
    bytes = (bytes + 15) / 16 * 16;
    if (!a->chunks || a->chunks->size - a->used < bytes) {
        size_t size = a->total < 4096 ? 4096 : a->total < (1U << 20) ? a->total : (1U << 20);
        if (size < bytes + sizeof(tarn_arena_chunk)) {
            size = bytes + sizeof(tarn_arena_chunk);
        }
        tarn_arena_chunk *c = tarn_alloc(a->budget, size);
        if (!c) {
            return NULL;
        }
        c->next = a->chunks;
        c->size = size;
        a->chunks = c;
        a->used = sizeof *c;
        a->total += size;
    }
    void *p = (char *)a->chunks + a->used;
    a->used += bytes;
    return p;
}

void *tarn_arena_copy(tarn_arena *a, const void *p, size_t bytes) {
    void *q = tarn_arena_take(a, bytes);
    if (q && bytes) {
        memcpy(q, p, bytes);
    }
    return q;
}

char *tarn_arena_string(tarn_arena *a, const char *s, size_t len) {
    char *q = len == SIZE_MAX ? NULL : tarn_arena_take(a, len + 1);
    if (q) {
        if (len) {
            memcpy(q, s, len);
        }
        q[len] = '\0';
    }
    return q;
}
