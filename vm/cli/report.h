// SPDX-License-Identifier: Apache-2.0
// How errors and warnings reach the user: one line "tarn: message [Code]" on stderr, with the Lua
// traceback where it helps.
#ifndef TARN_CLI_REPORT_H
#define TARN_CLI_REPORT_H

#include <stdbool.h>

#include "vm/cli/progress.h"
#include "vm/lua/host.h"

typedef struct tarn_report {
    tarn_bar *bar;    // wiped before a line is written
    bool quiet;       // no warnings
    bool traceback;   // always
} tarn_report;

// Text that may quote files and scripts of strangers, for a terminal: lines and tabs stay, what else it would obey
// becomes visible.
void tarn_report_lines(tarn_text *out, const char *s, size_t len);
void tarn_report_error(const tarn_report *r, const tarn_error *err, const char *traceback);
void tarn_report_warning(void *report, const char *message);  // for tarn_context.warn
// Writes out what stdout still holds; false (and a line on stderr) when it cannot be written.
bool tarn_report_flush(const tarn_report *r);

#endif
