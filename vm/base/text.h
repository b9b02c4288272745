// SPDX-License-Identifier: Apache-2.0
// A growing byte buffer, and the nearest-name search behind every "did you mean".
#ifndef TARN_BASE_TEXT_H
#define TARN_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "vm/base/budget.h"
#include "vm/base/status.h"

// Appends never fail part way: after the first refused growth `failed` is set and appends do
// nothing. `data` is NUL-terminated whenever it is not NULL.
typedef struct tarn_text {
    tarn_budget *budget;
    char *data;
    size_t len;   // bytes without the NUL
    size_t room;  // bytes allocated
    bool failed;
} tarn_text;

void tarn_text_init(tarn_text *t, tarn_budget *b);
void tarn_text_free(tarn_text *t);
void tarn_text_add(tarn_text *t, const char *s, size_t len);
void tarn_text_puts(tarn_text *t, const char *s);
void tarn_text_printf(tarn_text *t, const char *fmt, ...) TARN_PRINTF(2, 3);
// The bytes as a JSON string with quotes; invalid UTF-8 becomes U+FFFD.
void tarn_text_json(tarn_text *t, const char *s, size_t len);
// For messages: control bytes and invalid UTF-8 escaped as \xNN, cut after `max` bytes with "…".
void tarn_text_show(tarn_text *t, const char *s, size_t len, size_t max);

// Edit distance (insert, delete, substitute, swap), at most `limit` + 1.
int tarn_distance(const char *a, const char *b, int limit);
// The candidate nearest to `word` (distance at most a third of its length, at least 1), or NULL.
// Equal distances: the first in byte order. `next(arg, i)` yields candidate i, NULL at the end; names
// stay valid until the search ends.
const char *tarn_nearest(const char *word, const char *(*next)(void *arg, size_t i), void *arg);

// True if the bytes are valid UTF-8 (no overlong forms, no surrogates).
bool tarn_utf8_valid(const char *s, size_t len);
// "2.6 GB", "17.2 MB", "88 B" (decimal units) into buf of at least 32 bytes; returns buf.
const char *tarn_show_bytes(unsigned long long bytes, char *buf);

#endif
