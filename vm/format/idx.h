// SPDX-License-Identifier: Apache-2.0
// IDX files, the format of MNIST and its relatives, plain or inside gzip: two zero bytes, a type, the
// number of dimensions, the sizes as big-endian 32-bit numbers, then the elements, row-major and
// big-endian. The header is checked against the size of the file before anything is allocated; for
// gzip against the most that so many bytes can hold, so a small file cannot ask for much memory.
#ifndef TARN_FORMAT_IDX_H
#define TARN_FORMAT_IDX_H

#include "vm/base/context.h"

typedef enum {
    TARN_IDX_U8 = 0x08,
    TARN_IDX_I8 = 0x09,
    TARN_IDX_I16 = 0x0B,
    TARN_IDX_I32 = 0x0C,
    TARN_IDX_F32 = 0x0D,
    TARN_IDX_F64 = 0x0E,
} tarn_idx_type;

enum { TARN_IDX_RANK = 8 };  // dimensions at most

typedef struct tarn_idx_header {
    tarn_idx_type type;
    int size;  // bytes of an element
    int rank;  // 1 … TARN_IDX_RANK
    int64_t shape[TARN_IDX_RANK];
    uint64_t bytes;  // of all elements
} tarn_idx_header;

typedef struct tarn_idx tarn_idx;

// Opens the file and checks its header. Messages begin with the path.
tarn_status tarn_idx_open(tarn_context *cx, const char *path, tarn_idx **out, tarn_error *err);
// The same of bytes in memory, which outlive it; `name` is what messages call them.
tarn_status tarn_idx_open_bytes(tarn_context *cx, const void *data, size_t bytes, const char *name,
                                tarn_idx **out, tarn_error *err);
const tarn_idx_header *tarn_idx_header_of(const tarn_idx *f);
// Once: all elements into dst, header.bytes of them, in the byte order of this machine; that the data
// end there, and in gzip their checksum, is checked too.
tarn_status tarn_idx_read(tarn_idx *f, void *dst, tarn_error *err);
void tarn_idx_close(tarn_idx *f);  // f may be NULL

#endif
