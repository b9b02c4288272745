// SPDX-License-Identifier: Apache-2.0
// The prompt: reads lines through the editor face (vm/repl/line.h), runs them in the host, prints
// values, keeps the session alive through errors and Ctrl-C. Knows nothing of tensors: printers and
// completers are registered in the host.
#ifndef TARN_REPL_REPL_H
#define TARN_REPL_REPL_H

#include "vm/lua/host.h"

// Runs until end of input. Returns the process's exit code.
int tarn_repl_run(tarn_host *h, const char *banner);
// Prints the `n` values on top of the stack, one per line, as the prompt does, and pops them (also
// for -e of an expression).
tarn_status tarn_repl_print(tarn_host *h, int n, tarn_error *err);

#endif
