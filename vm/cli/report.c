// SPDX-License-Identifier: Apache-2.0
// Reporting. A line number in tarn's own Lua says nothing to the user and is left out, unless the
// error is a fault of that code: then everything is shown.
#include "vm/cli/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm/lua/embedded.h"

// The length of "scripts/inspect.lua:12: " at the front of a message: a line of tarn's own Lua. 0:
// none.
static size_t own_position(const char *s) {
    size_t n = strcspn(s, ":\n");
    const tarn_embedded_file *f = tarn_embedded_files;
    while (f->path && (strlen(f->path) != n || memcmp(f->path, s, n) != 0)) {
        f++;
    }
    if (!f->path || s[n] != ':') {
        return 0;
    }
    size_t digits = strspn(s + n + 1, "0123456789");
    return digits > 0 && strncmp(s + n + 1 + digits, ": ", 2) == 0 ? n + digits + 3 : 0;
}

// A failure of Lua code inside tarn, as against one that this code reports: Lua's own words.
static bool is_fault(const char *s) {
    static const char *const words[] = {"attempt to ", "bad argument #", "undefined global ",
                                        "stack overflow"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strncmp(s, words[i], strlen(words[i])) == 0) {
            return true;
        }
    }
    return false;
}

void tarn_report_lines(tarn_text *out, const char *s, size_t len) {
    for (size_t i = 0, from = 0; i <= len; i++) {
        if (i == len || s[i] == '\n' || s[i] == '\t') {
            tarn_text_show(out, s + from, i - from, len);
            tarn_text_add(out, s + i, i < len);
            from = i + 1;
        }
    }
}

static void put(const char *before, const char *s, const char *after) {
    tarn_budget enough;
    tarn_budget_init(&enough, 1 << 20);
    tarn_text t;
    tarn_text_init(&t, &enough);
    tarn_report_lines(&t, s, strlen(s));
    // Where even this finds no memory, it is better said as it is than not at all.
    fprintf(stderr, "%s%s%s", before, t.data && !t.failed ? t.data : s, after);
    tarn_text_free(&t);
}

void tarn_report_error(const tarn_report *r, const tarn_error *err, const char *traceback) {
    if (r->bar) {
        tarn_bar_clear(r->bar);
    }
    fflush(stdout);
    size_t skip = own_position(err->message);
    bool fault = skip > 0 && !err->code[0] && is_fault(err->message + skip);
    bool whole = fault || r->traceback;
    put(fault ? "tarn: internal error: " : "tarn: ", err->message + (whole ? 0 : skip), "");
    fprintf(stderr, err->code[0] ? " [%s]\n" : "\n", err->code);
    if (whole && traceback && *traceback) {
        put("", traceback, "\n");
    }
}

void tarn_report_warning(void *report, const char *message) {
    const tarn_report *r = report;
    if (!r->quiet) {
        if (r->bar) {
            tarn_bar_clear(r->bar);
        }
        put("tarn: warning: ", message, "\n");
    }
}

bool tarn_report_flush(const tarn_report *r) {
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !failed) {
        return true;
    }
    int why = errno;
    if (r->bar) {
        tarn_bar_clear(r->bar);
    }
    fprintf(stderr, "tarn: cannot write the output%s%s\n", why ? ": " : "",
            why ? strerror(why) : "");
    return false;
}
