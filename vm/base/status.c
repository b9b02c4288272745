// SPDX-License-Identifier: Apache-2.0
// The error record: formatting, prefixing, appending. Messages that would overflow are cut, never
// dropped.
#include "vm/base/status.h"

#include <stdio.h>
#include <string.h>

void tarn_error_clear(tarn_error *e) {
    if (e) {
        e->status = TARN_OK;
        e->code[0] = '\0';
        e->message[0] = '\0';
    }
}

static void fill(tarn_error *e, tarn_status s, const char *code, const char *fmt, va_list ap) {
    if (!e) {
        return;
    }
    e->status = s;
    snprintf(e->code, sizeof e->code, "%s", code ? code : "");
    vsnprintf(e->message, sizeof e->message, fmt, ap);
}

tarn_status tarn_raise(tarn_error *e, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fill(e, TARN_ERROR, code, fmt, ap);
    va_end(ap);
    return TARN_ERROR;
}

tarn_status tarn_raise_status(tarn_error *e, tarn_status s, const char *code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fill(e, s, code, fmt, ap);
    va_end(ap);
    return s;
}

tarn_status tarn_raise_nomem(tarn_error *e, const char *what, unsigned long long bytes) {
    return tarn_raise_status(e, TARN_NOMEM, "OutOfMemory",
                             "out of memory: %s needs %llu bytes more than the budget leaves "
                             "(raise it with --memory)",
                             what, bytes);
}

tarn_status tarn_error_prefix(tarn_error *e, const char *fmt, ...) {
    if (!e) {
        return TARN_ERROR;
    }
    char old[sizeof e->message];
    memcpy(old, e->message, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : (size_t)n;
    if (at < sizeof e->message) {
        snprintf(e->message + at, sizeof e->message - at, ": %s", old);
    }
    return e->status;
}

tarn_status tarn_error_append(tarn_error *e, const char *fmt, ...) {
    if (!e) {
        return TARN_ERROR;
    }
    size_t at = strlen(e->message);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->message + at, sizeof e->message - at, fmt, ap);
    va_end(ap);
    return e->status;
}
