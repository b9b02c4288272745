// SPDX-License-Identifier: Apache-2.0
// A strict JSON reader (RFC 8259) for headers and indexes: a cursor over text that the caller walks
// in the order that its own grammar asks for. Builds no tree, does not recurse, allocates nothing:
// strings are unescaped where they stand (an escape is never shorter than what it stands for) and
// end in a NUL that takes the place of the closing quote. Numbers that count something are plain
// digits. The text must be valid UTF-8 already. The first fault stays in the cursor, and every
// later call does nothing and says so.
#ifndef TARN_STORE_JSON_H
#define TARN_STORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TARN_JSON_DEPTH = 64 };  // of values that are skipped

typedef struct tarn_json {
    char *text;         // modified by reading
    size_t len;         // bytes
    size_t at;          // the next byte
    const char *fault;  // what was wrong, static text; NULL: nothing yet
    size_t fault_at;    // byte of the fault
} tarn_json;

typedef struct tarn_json_string {
    const char *s;  // NUL-terminated, may hold further NULs
    size_t len;
} tarn_json_string;

static inline tarn_json tarn_json_of(char *text, size_t len) {
    return (tarn_json){.text = text, .len = len};
}

// The first byte of the next value, '\0' at the end of the text; consumes white space only.
char tarn_json_peek(tarn_json *j);
// Consumes '{' or '['.
bool tarn_json_open(tarn_json *j, char bracket);
// True while a further member or element follows, past its comma; false once `close` has been
// consumed, or after a fault. `*first` is true before the first call.
bool tarn_json_next(tarn_json *j, char close, bool *first);
bool tarn_json_key(tarn_json *j, tarn_json_string *out);  // a member's name and its colon
bool tarn_json_text(tarn_json *j, tarn_json_string *out);
// Digits that fit 64 bits: no sign, fraction, exponent or leading zero.
bool tarn_json_u64(tarn_json *j, uint64_t *out);
bool tarn_json_null(tarn_json *j);
bool tarn_json_bool(tarn_json *j, bool *out);
// Where any number stands in the text (no NUL comes after it); *whole: it has no fraction and no exponent.
bool tarn_json_number(tarn_json *j, tarn_json_string *out, bool *whole);
// Any one value, down to TARN_JSON_DEPTH.
bool tarn_json_skip(tarn_json *j);
// Nothing but white space is left.
bool tarn_json_end(tarn_json *j);
// Notes a fault at byte `at` unless there is one; returns false.
bool tarn_json_fail(tarn_json *j, size_t at, const char *fault);

static inline bool tarn_json_is(const tarn_json_string *a, const char *literal, size_t len) {
    return a->len == len && __builtin_memcmp(a->s, literal, len) == 0;
}

#endif
