// SPDX-License-Identifier: Apache-2.0
// Where every tensor of a checkpoint to be written goes: order, shards, offsets, and the text of
// the headers and the index. Pure planning from names, dtypes and shapes: no file is touched here.
// Private to vm/store.
#ifndef TARN_STORE_LAYOUT_H
#define TARN_STORE_LAYOUT_H

#include "vm/base/arena.h"
#include "vm/base/text.h"
#include "vm/store/store.h"

typedef struct tarn_layout_tensor {
    const char *name;
    size_t name_len;
    tarn_dtype dtype;
    int rank;
    const int64_t *shape;
    uint64_t bytes;
    int file;
    uint64_t offset;  // bytes from the start of the data section
} tarn_layout_tensor;

typedef struct tarn_layout_file {
    char name[48];      // "model-00001-of-00007.safetensors"
    uint64_t bytes;     // of the data section
    tarn_text tensors;  // the header's entries, without braces and __metadata__
} tarn_layout_file;

typedef struct tarn_layout {
    int64_t n;
    tarn_layout_tensor *tensors;  // [n] as given; names and shapes are copies
    uint32_t *order;              // [n] indices in the order of files and offsets
    int nfiles;
    tarn_layout_file *files;  // [nfiles]
    uint64_t bytes;           // of all tensors
    tarn_arena arena;
} tarn_layout;

// `max_shard`: bytes of tensors per file; UINT64_MAX: one file. On failure *l needs no freeing.
tarn_status tarn_layout_make(tarn_context *cx, int64_t n, const tarn_writer_tensor *tensors,
                             uint64_t max_shard, tarn_layout *l, tarn_error *err);
void tarn_layout_free(tarn_layout *l);
// model.safetensors.index.json.
void tarn_layout_index(const tarn_layout *l, tarn_text *out);

#endif
