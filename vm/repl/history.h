// SPDX-License-Identifier: Apache-2.0
// The history file: $XDG_STATE_HOME/tarn/history or ~/.local/state/tarn/history, mode 0600, one
// entry a line with newlines written as \n. Entries are appended as they are made, so sessions that
// run at the same time do not lose each other's; the file is cut when it has grown.
#ifndef TARN_REPL_HISTORY_H
#define TARN_REPL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "vm/base/budget.h"

// False when there is no home for it; makes the folders.
bool tarn_history_path(char *buf, size_t room);
// Calls `each` with every entry, oldest first. A file that cannot be read is an empty one.
void tarn_history_load(const char *path, tarn_budget *b, void (*each)(void *arg, const char *entry),
                       void *arg);
void tarn_history_append(const char *path, tarn_budget *b, const char *entry);

#endif
