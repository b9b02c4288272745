// SPDX-License-Identifier: Apache-2.0
// The header of one safetensors file, validated in full: syntax, types, names, shapes, and that the
// tensors tile the data section without gap or overlap. Rows go into a table that may hold those of
// earlier files. Rules and error codes follow the safetensors reference; DuplicateKey,
// LimitExceeded, LfsPointer and UnknownField are ours. Private to vm/store.
#ifndef TARN_STORE_HEADER_H
#define TARN_STORE_HEADER_H

#include "vm/base/arena.h"
#include "vm/store/json.h"
#include "vm/store/store.h"

#define TARN_HEADER_MAX ((uint64_t)100000000)  // bytes of a header or an index
#define TARN_DIM_MAX (((uint64_t)1 << 48) - 1)
enum {
    TARN_TENSORS_MAX = 1 << 22,  // of one store
    TARN_RANK_MAX = 64,
    TARN_SHOWN_MAX = 200,  // bytes of a name in a message
};

typedef struct tarn_meta {
    const char *key, *value;
    size_t key_len, value_len;
} tarn_meta;

// Tensors of one or several files. Names, shapes and metadata live in the arena.
typedef struct tarn_table {
    tarn_budget *budget;
    tarn_arena arena;
    int64_t count, room;
    tarn_store_tensor *row;  // by file, then by offset
    uint32_t *by_name;       // per file a sorted run of row numbers
    int64_t nmeta;           // __metadata__ of the first file
    tarn_meta *meta;
    int64_t nunknown;  // header fields that the format does not know, over all files
    char unknown[TARN_SHOWN_MAX * 8 + 64];  // "field 'x' of tensor 'y'": the first of them
} tarn_table;

void tarn_table_init(tarn_table *t, tarn_budget *b);
void tarn_table_free(tarn_table *t);
// Sorts the first n entries of by_name by name over all files.
tarn_status tarn_table_sort(tarn_table *t, tarn_error *err);
int64_t tarn_table_find(const tarn_table *t, const char *name, size_t len);  // -1: absent

// `text`: the N header bytes of file number `file` (modified); `size`: of the whole file; `path`
// for messages. Adds the file's tensors to the table; after a failure the table is only fit to be
// freed.
tarn_status tarn_header_parse(tarn_table *t, int file, const char *path, char *text, size_t n,
                              uint64_t size, tarn_error *err);

// A name for a message: unprintable bytes escaped, cut at TARN_SHOWN_MAX bytes. Returns buf.
typedef char tarn_shown[TARN_SHOWN_MAX * 4 + 8];
const char *tarn_show_name(tarn_shown buf, const char *name, size_t len);

// Room for n items of `size` bytes, charged; NULL with OutOfMemory raised.
void *tarn_store_alloc(tarn_budget *b, uint64_t n, size_t size, const char *what, tarn_error *err);

#endif
