// SPDX-License-Identifier: Apache-2.0
// Reading a regular file: opened without waiting for what is no file (a pipe without a writer), its
// size known before anything is allocated. Messages begin with the path.
#ifndef TARN_FORMAT_FILE_H
#define TARN_FORMAT_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "vm/base/context.h"

// An open descriptor and the file's size; the caller closes it.
tarn_status tarn_file_open(const char *path, int *fd, uint64_t *bytes, tarn_error *err);
// Reads n bytes, or as many as there are before the end: *got.
tarn_status tarn_file_take(int fd, void *dst, size_t n, size_t *got, tarn_error *err);
// The whole file in memory charged to the budget; at most `most` bytes. Given back with tarn_free of
// *bytes + 1 (a NUL follows the data).
tarn_status tarn_file_read(tarn_context *cx, const char *path, uint64_t most, char **data,
                           size_t *bytes, tarn_error *err);

#endif
