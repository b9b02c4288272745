// SPDX-License-Identifier: Apache-2.0
// What may stand at the cursor of the prompt.
#ifndef TARN_REPL_COMPLETE_H
#define TARN_REPL_COMPLETE_H

#include "vm/lua/host.h"
#include "vm/repl/line.h"

// For tarn_line_options.complete; `host` is a tarn_host. Runs no code of the script.
void tarn_complete(void *host, const char *line, size_t cursor, tarn_words *words);

#endif
