// SPDX-License-Identifier: Apache-2.0
#include "vm/repl/repl.h"
int tarn_repl_run(tarn_host *h, const char *banner) { (void)h; (void)banner; return 0; }
