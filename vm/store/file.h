// SPDX-License-Identifier: Apache-2.0
// Writing files: whole writes, syncs, and errors that name the file and say what the system said.
// Private to vm/store.
#ifndef TARN_STORE_FILE_H
#define TARN_STORE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/status.h"

// "PATH: cannot VERB: what `e` (an errno) means", code NoSpace or IoError.
tarn_status tarn_file_fail(tarn_error *err, int e, const char *path, const char *verb);
// All n bytes at offset `at`, through short counts and signals. `cold`: the bytes will not be read
// again soon, so the system need not keep them in memory (a hint that starts the transfer early).
tarn_status tarn_file_write(int fd, uint64_t at, const void *p, uint64_t n, bool cold,
                            const char *path, tarn_error *err);
// Syncs and closes fd, also on failure.
tarn_status tarn_file_finish(int fd, const char *path, tarn_error *err);
// Syncs a folder; file systems that cannot are forgiven.
tarn_status tarn_file_sync_folder(int fd, const char *path, tarn_error *err);

#endif
