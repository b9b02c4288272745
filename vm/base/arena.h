// SPDX-License-Identifier: Apache-2.0
// A bump allocator: many small things that die together (graph nodes, names, plans). Charged to the
// budget by chunk; pointers stay valid until the arena is freed. Not thread-safe.
#ifndef TARN_BASE_ARENA_H
#define TARN_BASE_ARENA_H

#include <stddef.h>

#include "vm/base/budget.h"

typedef struct tarn_arena_chunk tarn_arena_chunk;
typedef struct tarn_arena {
    tarn_budget *budget;
    tarn_arena_chunk *chunks;
    size_t used;   // bytes used in the newest chunk
    size_t total;  // bytes of all chunks
} tarn_arena;

void tarn_arena_init(tarn_arena *a, tarn_budget *b);
void tarn_arena_free(tarn_arena *a);
void *tarn_arena_take(tarn_arena *a, size_t bytes);                // 16-byte aligned; NULL: no memory
void *tarn_arena_copy(tarn_arena *a, const void *p, size_t bytes);  // NULL: no memory
char *tarn_arena_string(tarn_arena *a, const char *s, size_t len);  // adds a NUL

#endif
