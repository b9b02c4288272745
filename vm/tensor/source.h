// SPDX-License-Identifier: Apache-2.0
// A source: something that yields the bytes of one stored tensor, row-major and contiguous. A tensor
// in a checkpoint file is one; a tensor in memory can be seen as one. Expressions over sources are
// planned, not computed. Reading is thread-safe. Reference-counted by its owner's functions.
#ifndef TARN_TENSOR_SOURCE_H
#define TARN_TENSOR_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/status.h"
#include "vm/tensor/dtype.h"

#define TARN_MAX_RANK 8  // of tensors that take part in arithmetic

typedef struct tarn_source tarn_source;
struct tarn_source {
    const char *name;   // the tensor's name (may hold any bytes; for messages), NUL-terminated
    const char *where;  // the file or model it lives in, for messages
    tarn_dtype dtype;
    int rank;
    const int64_t *shape;  // [rank]
    int64_t numel;
    uint64_t bytes;  // of the whole tensor as stored
    // Copies `n` bytes from byte `at` of the tensor into dst. Fails with FileChanged when the file
    // shrank or changed, never with a signal. at + n <= bytes is the caller's duty.
    tarn_status (*read)(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err);
    // What these bytes are, for as long as the process lives: equal for two sources means equal bytes.
    // false: nobody can tell. NULL: never.
    bool (*identity)(const tarn_source *s, unsigned char out[32]);
    void (*retain)(const tarn_source *s);
    void (*release)(const tarn_source *s);
};

#endif
