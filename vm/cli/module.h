// SPDX-License-Identifier: Apache-2.0
// The global `tarn`: what a script or command may know of the run it belongs to.
#ifndef TARN_CLI_MODULE_H
#define TARN_CLI_MODULE_H

#include "vm/cli/options.h"
#include "vm/lua/host.h"

// `failure_code` (outlives the host) is the exit code of a failed run; scripts may change it.
tarn_status tarn_cli_module(tarn_host *h, const tarn_cli_options *o, int *failure_code,
                            tarn_error *err);

#endif
