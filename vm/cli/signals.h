// SPDX-License-Identifier: Apache-2.0
// Ctrl-C, TERM, HUP and a closed pipe become stops of the host, so that everything unwinds and
// nothing half-written stays behind. A second Ctrl-C, a second or more after one that nothing
// answered, ends the process at once.
#ifndef TARN_CLI_SIGNALS_H
#define TARN_CLI_SIGNALS_H

#include "vm/lua/host.h"

void tarn_signals_install(tarn_host *h);
void tarn_signals_remove(void);  // back to the default actions; before the host is closed for good
// True when standard output (or another pipe) lost its reader: end without a word.
bool tarn_signals_pipe_closed(void);

#endif
