// SPDX-License-Identifier: Apache-2.0
// Content digests of checkpoints, and the store that remembers them between runs. A tensor's digest
// is the SHA-256 over the SHA-256s of its 8 MiB pieces; a model's is the SHA-256 over one line per
// tensor in byte order of names, so it does not depend on sharding, order or path. Not a proof
// against someone who can write into the user's own cache folder or set a file's time back.
#ifndef TARN_STORE_DIGESTS_H
#define TARN_STORE_DIGESTS_H

#include "vm/base/digest.h"
#include "vm/base/text.h"
#include "vm/store/store.h"

typedef struct tarn_digests_options {
    bool off;  // nothing is looked up or kept (so does TARN_DIGESTS=off in the environment)
} tarn_digests_options;

typedef struct tarn_digests_todo {
    int files;       // whose digests are not known
    uint64_t bytes;  // of their tensors
} tarn_digests_todo;

// What tarn_digests_get would have to read. o may be NULL.
tarn_status tarn_digests_unknown(tarn_context *cx, tarn_store *s, const tarn_digests_options *o,
                                 tarn_digests_todo *out, tarn_error *err);
// The digest of every tensor, in the order of the store: out[tarn_store_count(s)]. Files that are
// not known are hashed over the pool, one after the other, and each is remembered as soon as it is
// done. Reports into cx->progress.
tarn_status tarn_digests_get(tarn_context *cx, tarn_store *s, const tarn_digests_options *o,
                             unsigned char (*out)[32], tarn_error *err);

// ---- looking at the memory ----

typedef struct tarn_digest_entry {
    uint64_t id[4];    // device, inode, size, mtime in ns of the file that it tells of
    uint64_t tensors;
    bool whole;        // the checksum of the entry fits
} tarn_digest_entry;

bool tarn_digests_on(const tarn_context *cx);  // neither TARN_DIGESTS=off nor cx->rehash
// Every entry as a tarn_digest_entry in `entries`, in byte order of file names, and the folder; `clear`:
// removes them. False when there is no place for a memory.
bool tarn_digests_list(tarn_context *cx, bool clear, tarn_text *entries, tarn_text *folder);
// Drops what is remembered of the files of s.
void tarn_digests_forget(tarn_context *cx, const tarn_store *s);

// One line of a model's digest: name \t dtype \t shape \t digest \n, as
// "w\tBF16\t[4096,128]\t3f2a…"; NULL for `digest` leaves the last column out (a header digest).
// Control bytes and backslashes in a name are written as \xNN, so that no name can look like two
// lines. `line` is room to work in.
void tarn_digest_line(tarn_sha256 *h, tarn_text *line, const char *name, size_t name_len,
                      tarn_dtype dtype, int rank, const int64_t *shape,
                      const unsigned char *digest);
// The model digest of a store; digests[count], NULL: the header digest.
tarn_status tarn_digest_model(tarn_context *cx, const tarn_store *s, unsigned char (*digests)[32],
                              unsigned char out[32], tarn_error *err);

#endif
