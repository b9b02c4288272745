// SPDX-License-Identifier: Apache-2.0
// Open addressing, linear probing, at most half full. The hash starts from where the table lies,
// which no file can know: names made to collide do not. Numbers follow arrival, so nothing else
// depends on it.
#include "merge/model/intern.h"

#include <string.h>

#include "vm/base/digest.h"

static uint64_t hash_of(const tarn_intern *t, const char *text, size_t len) {
    return tarn_hash64((uint64_t)(uintptr_t)t->arena, text, len);
}

static int32_t *slot_of(const tarn_intern *t, const char *text, size_t len, uint64_t hash) {
    size_t mask = 2 * (size_t)t->room - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        int32_t id = t->slots[i];
        if (id < 0) {
            return &t->slots[i];
        }
        const tarn_intern_text *x = &t->texts[id];
        if (x->hash == hash && x->len == len && memcmp(x->text, text, len) == 0) {
            return &t->slots[i];
        }
    }
}

static bool grow(tarn_intern *t) {
    if (t->room > INT32_MAX / 4) {
        return false;
    }
    int32_t room = t->room ? 2 * t->room : 64;
    tarn_intern_text *texts = tarn_arena_take(t->arena, (size_t)room * sizeof *texts);
    int32_t *slots = tarn_arena_take(t->arena, 2 * (size_t)room * sizeof *slots);
    if (!texts || !slots) {
        return false;
    }
    if (t->count) {
        memcpy(texts, t->texts, (size_t)t->count * sizeof *texts);
    }
    memset(slots, 0xff, 2 * (size_t)room * sizeof *slots);
    t->texts = texts;
    t->slots = slots;
    t->room = room;
    for (int32_t i = 0; i < t->count; i++) {
        *slot_of(t, texts[i].text, texts[i].len, texts[i].hash) = i;
    }
    return true;
}

int32_t tarn_intern_add(tarn_intern *t, const char *text, size_t len, bool *fresh) {
    *fresh = false;
    if (t->count == t->room && !grow(t)) {
        return -1;
    }
    uint64_t hash = hash_of(t, text, len);
    int32_t *slot = slot_of(t, text, len, hash);
    if (*slot < 0) {
        const char *copy = tarn_arena_string(t->arena, text, len);
        if (!copy) {
            return -1;
        }
        t->texts[t->count] = (tarn_intern_text){copy, len, hash};
        *slot = t->count++;
        *fresh = true;
    }
    return *slot;
}

int32_t tarn_intern_find(const tarn_intern *t, const char *text, size_t len) {
    return t->count ? *slot_of(t, text, len, hash_of(t, text, len)) : -1;
}
