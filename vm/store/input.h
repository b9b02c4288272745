// SPDX-License-Identifier: Apache-2.0
// One input file: opened so that nothing but a regular file is ever waited for, known by device,
// inode, size and time, read with pread. Private to vm/store.
#ifndef TARN_STORE_INPUT_H
#define TARN_STORE_INPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/status.h"

typedef struct tarn_input {
    const char *path;  // for messages; the owner's
    int fd;            // -1: closed
    uint64_t device, inode, size;
    int64_t mtime;  // ns since the epoch
    bool settled;   // it was not written to in the last second: another content would have another time
} tarn_input;

// Opens `name` in folder `dir` (or AT_FDCWD). `beneath`: links that lead out of the folder are
// refused with IndexPath. Codes: NotFound, NotAFile, OpenFailed.
tarn_status tarn_input_open(tarn_input *f, int dir, const char *name, const char *path,
                            bool beneath, tarn_error *err);
void tarn_input_close(tarn_input *f);
// Exactly n bytes from byte `at`. FileChanged when the file has become shorter, ReadFailed.
tarn_status tarn_input_read(const tarn_input *f, uint64_t at, uint64_t n, void *dst,
                            tarn_error *err);
// FileChanged unless size and time are still those of opening.
tarn_status tarn_input_check(const tarn_input *f, tarn_error *err);

#endif
