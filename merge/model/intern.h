// SPDX-License-Identifier: Apache-2.0
// Distinct texts numbered from 0 in order of arrival, private to the room. Thousands of names have
// few shapes once their numbers are blanked: what is learned about a shape is learned once.
#ifndef TARN_MODEL_INTERN_H
#define TARN_MODEL_INTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm/base/arena.h"

typedef struct tarn_intern_text {
    const char *text;
    size_t len;
    uint64_t hash;
} tarn_intern_text;

typedef struct tarn_intern {
    tarn_arena *arena;  // holds everything; grown tables leave their old halves there
    tarn_intern_text *texts;
    int32_t count, room;
    int32_t *slots;  // [2 * room], -1: empty
} tarn_intern;

// -1 when memory is out. The text is copied when new; *fresh says whether it was.
int32_t tarn_intern_add(tarn_intern *t, const char *text, size_t len, bool *fresh);
// -1 when absent.
int32_t tarn_intern_find(const tarn_intern *t, const char *text, size_t len);

#endif
