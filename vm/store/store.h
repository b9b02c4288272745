// SPDX-License-Identifier: Apache-2.0
// Checkpoint files: one reader face and one writer face. A checkpoint is a .safetensors file or a
// folder (single file or shards with an index). Opening validates every header and nothing of the
// data: what comes out is a table of tensors, each of which is a tarn_source. Every byte of a file is
// hostile until validated; verdict codes are those of the safetensors reference where it has one.
// Knows nothing of models, merging or Lua.
#ifndef TARN_STORE_STORE_H
#define TARN_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"
#include "vm/base/text.h"
#include "vm/tensor/source.h"

// ---- reading ----

typedef struct tarn_store tarn_store;  // reference-counted, immutable, thread-safe

typedef struct tarn_store_tensor {
    const char *name;  // bytes, NUL-terminated; may hold any UTF-8, NUL included
    size_t name_len;
    tarn_dtype dtype;
    int rank;              // up to 64
    const int64_t *shape;  // [rank]
    int64_t numel;
    int file;        // index of its file
    uint64_t begin;  // byte offset in the file (absolute)
    uint64_t bytes;
} tarn_store_tensor;

typedef struct tarn_store_options {
    bool strict;  // links that leave the folder, unknown header fields, warnings: errors
} tarn_store_options;

// `path`: a file, or a folder with model.safetensors, or one with model.safetensors.index.json, or
// one holding exactly one *.safetensors file. o may be NULL.
tarn_status tarn_store_open(tarn_context *cx, const char *path, const tarn_store_options *o,
                            tarn_store **out, tarn_error *err);
void tarn_store_release(tarn_store *s);  // s may be NULL

// A store without its data: the header of one safetensors file that has `data` bytes of them. `text` is
// modified, `name` stands for the path in messages. Reading a tensor fails with DataNotHere.
tarn_status tarn_store_of_header(tarn_context *cx, const char *name, char *text, size_t n,
                                 uint64_t data, tarn_store **out, tarn_error *err);
// Writes such a header: all tensors of s in their order, as if in one file. Returns the bytes of data.
uint64_t tarn_store_header(const tarn_store *s, tarn_text *out);

int64_t tarn_store_count(const tarn_store *s);
// Tensors in file order: by file (in the order of file names for a sharded folder), then by offset.
const tarn_store_tensor *tarn_store_at(const tarn_store *s, int64_t i);
// By exact name; -1 when absent. O(log n).
int64_t tarn_store_find(const tarn_store *s, const char *name, size_t len);
// A new reference to tensor i as a source; it keeps the store alive.
const tarn_source *tarn_store_source(tarn_store *s, int64_t i);

const char *tarn_store_folder(const tarn_store *s);  // the folder that side files lie in
int tarn_store_files(const tarn_store *s);
const char *tarn_store_file(const tarn_store *s, int i);  // full path of a file
// device, inode, size, mtime in ns: the key of the digest store
void tarn_store_file_id(const tarn_store *s, int i, uint64_t id[4]);
// __metadata__ of the first file (all files agree or the first wins): pairs in file order.
int tarn_store_meta_count(const tarn_store *s);
void tarn_store_meta(const tarn_store *s, int i, const char **key, const char **value);
// Warnings of opening ("UnmappedTensor", "TotalSize"): code and message.
int tarn_store_warnings(const tarn_store *s);
void tarn_store_warning(const tarn_store *s, int i, const char **code, const char **message);
// Re-checks that no file has changed since it was opened; FileChanged names the file.
tarn_status tarn_store_check(const tarn_store *s, tarn_error *err);

// ---- writing ----

typedef struct tarn_writer tarn_writer;

typedef struct tarn_writer_tensor {
    const char *name;
    size_t name_len;
    tarn_dtype dtype;
    int rank;
    const int64_t *shape;
} tarn_writer_tensor;

typedef struct tarn_writer_options {
    bool overwrite;           // replace an existing model (by directory exchange or rename); files
                              // in the folder that are no weights stay unless the new model has
                              // one of that name
    uint64_t max_shard_size;  // bytes; 0: 5 GB (5e9)
    int reserve;              // bytes of header kept free for metadata set at commit
    const char *weights;      // in a folder: the name of the one file of tensors; NULL: as models have it
} tarn_writer_options;

// Plans everything and creates the temporary output: order (dtype descending in the order of
// tarn_dtype, then name by bytes), offsets, shards, free-space check. A path ending in .safetensors
// is one file, anything else a folder. Nothing appears under the final name before commit.
tarn_status tarn_writer_open(tarn_context *cx, const char *path, int64_t n,
                             const tarn_writer_tensor *tensors, const tarn_writer_options *o,
                             tarn_writer **out, tarn_error *err);
// Metadata of every file (key "format" = "pt" is always there; a key set again is replaced). Before
// commit, any time: what is set after the first put has to fit into `reserve` (else HeaderRoom).
tarn_status tarn_writer_meta(tarn_writer *w, const char *key, const char *value, tarn_error *err);
// Writes bytes of tensor i (index into `tensors` as given) at byte offset `at`. Thread-safe.
tarn_status tarn_writer_put(tarn_writer *w, int64_t i, uint64_t at, const void *p, uint64_t n,
                            tarn_error *err);
// A further file of the output folder (config.json, README.md …), written at once into the
// temporary folder; ignored for single-file output. `name` is a plain name.
tarn_status tarn_writer_side(tarn_writer *w, const char *name, const void *p, size_t n,
                             tarn_error *err);
// Copies a file into the output folder under `name`.
tarn_status tarn_writer_side_copy(tarn_writer *w, const char *name, const char *from,
                                  tarn_error *err);
// Writes headers and index, syncs, renames. Frees w whatever happens; on failure nothing is left.
tarn_status tarn_writer_commit(tarn_writer *w, tarn_error *err);
void tarn_writer_abort(tarn_writer *w);  // removes the temporary output; w may be NULL

#endif
