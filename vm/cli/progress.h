// SPDX-License-Identifier: Apache-2.0
// What long work shows on stderr: a bar on a terminal, JSON lines for programs, or nothing. Work of
// less than a second shows nothing.
#ifndef TARN_CLI_PROGRESS_H
#define TARN_CLI_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>

#include "vm/base/context.h"

typedef enum { TARN_SHOW_NOTHING, TARN_SHOW_BAR, TARN_SHOW_JSON } tarn_show_how;

typedef struct tarn_bar {
    tarn_show_how how;
    pthread_mutex_t lock;           // over everything below; whoever finds it taken goes on working
    atomic_int_fast64_t due;        // CLOCK_MONOTONIC, ns: no look at the work before this
    int64_t begun, seen;            // ns: when the work began, when it last reported
    const char *what;               // of the work that is shown
    uint64_t total, first, last;    // bytes: of the work; done at its beginning and when last seen
    bool drawn;                     // something is on the line
} tarn_bar;

// Registers with the context. `quiet` shows nothing; `json` shows lines; else a bar if stderr is a
// terminal.
void tarn_bar_open(tarn_bar *b, tarn_context *cx, bool quiet, bool json);
// Wipes the line, before anything else is written to the terminal.
void tarn_bar_clear(tarn_bar *b);
void tarn_bar_close(tarn_bar *b, tarn_context *cx);

#endif
