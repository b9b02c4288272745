// SPDX-License-Identifier: Apache-2.0
// model.safetensors.index.json: which tensor lies in which shard. The map is the truth; shard names
// are never parsed, only required to be plain names inside the folder. Private to vm/store.
#ifndef TARN_STORE_INDEX_H
#define TARN_STORE_INDEX_H

#include "vm/store/header.h"

enum { TARN_SHARDS_MAX = 1 << 16 };

typedef struct tarn_index_entry {
    tarn_json_string name, shard;
    int file;  // number of the shard
} tarn_index_entry;

typedef struct tarn_index {
    tarn_budget *budget;
    int64_t count, room;
    tarn_index_entry *entry;  // in the order of the file; strings lie in the text
    int nfiles;
    const char **file;  // [nfiles] shard names in byte order
    enum { TARN_TOTAL_ABSENT, TARN_TOTAL_KNOWN, TARN_TOTAL_ODD } has_total;
    uint64_t total;  // metadata.total_size
} tarn_index;

// `text`: the bytes of the index (modified; it has to outlive the index); `path` for messages.
tarn_status tarn_index_parse(tarn_index *x, tarn_budget *b, const char *path, char *text, size_t n,
                             tarn_error *err);
void tarn_index_free(tarn_index *x);

typedef struct tarn_index_finding {
    int64_t unmapped;  // tensors that no entry names
    int64_t first;     // the row of the first of them
    uint64_t bytes;    // of the tensors that entries name
} tarn_index_finding;

// Compares the index with the tensors found in its shards (table sorted): MissingTensor.
tarn_status tarn_index_check(const tarn_index *x, const tarn_table *t, const char *path,
                             tarn_index_finding *found, tarn_error *err);

#endif
