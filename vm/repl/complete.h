// SPDX-License-Identifier: Apache-2.0
// What may stand at the cursor of the prompt.
#ifndef TARN_REPL_COMPLETE_H
#define TARN_REPL_COMPLETE_H

#include "vm/lua/host.h"
#include "vm/repl/line.h"

// The words that may stand at the cursor in `text`, an entry up to there. words->start counts from
// the beginning of the text. Runs no code of the script.
void tarn_complete(tarn_host *host, const char *text, size_t cursor, tarn_words *words);
// The same where a path without quotes begins at `from`.
void tarn_complete_path(tarn_host *host, const char *text, size_t from, size_t cursor,
                        tarn_words *words);

#endif
