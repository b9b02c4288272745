// SPDX-License-Identifier: Apache-2.0
// Status codes and the error record. Every C function that can fail returns a tarn_status and
// writes what happened into the error record that its caller supplied: never errno, never a global,
// never exit or longjmp. TARN_RAISE fills the record; TARN_TRY forwards a failure unchanged.
#ifndef TARN_BASE_STATUS_H
#define TARN_BASE_STATUS_H

#include <stdarg.h>

typedef enum {
    TARN_OK = 0,
    TARN_ERROR,      // refused or failed: the message says what and why
    TARN_NOMEM,      // the memory budget or the machine is exhausted
    TARN_CANCELLED,  // stopped by Ctrl-C, a signal or a deadline
} tarn_status;

typedef struct tarn_error {
    tarn_status status;
    char code[32];       // a stable name such as "HeaderTooLarge"; "" if none
    char message[2048];  // UTF-8, at most a few lines, no trailing newline; names the thing
} tarn_error;

#if defined(__GNUC__)
#define TARN_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define TARN_PRINTF(f, a)
#endif

// Resets the record to "no error".
void tarn_error_clear(tarn_error *e);
// Fills the record (e may be NULL) and returns TARN_ERROR. `code` may be "".
tarn_status tarn_raise(tarn_error *e, const char *code, const char *fmt, ...) TARN_PRINTF(3, 4);
// The same with another status (TARN_NOMEM, TARN_CANCELLED).
tarn_status tarn_raise_status(tarn_error *e, tarn_status s, const char *code, const char *fmt, ...)
    TARN_PRINTF(4, 5);
// Out of memory for `bytes` bytes wanted by `what`.
tarn_status tarn_raise_nomem(tarn_error *e, const char *what, unsigned long long bytes);
// Puts "prefix: " before the message (for naming the file or tensor on the way up); returns status.
tarn_status tarn_error_prefix(tarn_error *e, const char *fmt, ...) TARN_PRINTF(2, 3);
// Appends text to the message, as a further line when it starts with '\n'; returns status.
tarn_status tarn_error_append(tarn_error *e, const char *fmt, ...) TARN_PRINTF(2, 3);

#define TARN_RAISE(e, code, ...) return tarn_raise((e), (code), __VA_ARGS__)
#define TARN_TRY(expr)                       \
    do {                                     \
        tarn_status tarn_try_ = (expr);      \
        if (tarn_try_ != TARN_OK) {          \
            return tarn_try_;                \
        }                                    \
    } while (0)

#endif
