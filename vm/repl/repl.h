// SPDX-License-Identifier: Apache-2.0
// The prompt: reads lines through the editor face (vm/repl/line.h), runs them in the host, prints
// values, keeps the session alive through errors and Ctrl-C. Knows nothing of tensors: printers and
// completers are registered in the host.
#ifndef TARN_REPL_REPL_H
#define TARN_REPL_REPL_H

#include "vm/lua/host.h"

typedef struct tarn_repl_options {
    const char *banner;  // first line, on a terminal only; NULL: none
    // An error of an entry.
    void (*report)(void *arg, const tarn_error *err, const char *traceback);
    void *arg;
} tarn_repl_options;

// Runs until end of input. Returns the process's exit code.
int tarn_repl_run(tarn_host *h, const tarn_repl_options *o);
// Prints the `n` values on top of the stack, one per line, as the prompt does, and pops them (also
// for -e of an expression). The first of them becomes the global `_`, and what `_` was becomes
// `__`.
tarn_status tarn_repl_print(tarn_host *h, int n, tarn_error *err);
// Columns of the terminal; 80 where there is none.
int tarn_repl_columns(void);
// Prints help on a name: what the registry knows of it, else help on the value of that global.
tarn_status tarn_repl_help(tarn_host *h, const char *name, tarn_error *err);

#endif
