// SPDX-License-Identifier: Apache-2.0
// Tensors in memory: a reference-counted storage and a strided view of it. A tensor owns one
// reference on its storage, so a view keeps its parent's bytes alive. Tensors are plain structs,
// passed by pointer and copied with tarn_tensor_share.
#ifndef TARN_TENSOR_TENSOR_H
#define TARN_TENSOR_TENSOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"
#include "vm/base/text.h"
#include "vm/tensor/dtype.h"
#include "vm/tensor/source.h"

typedef struct tarn_storage {
    atomic_int refs;
    tarn_budget *budget;
    void *data;       // 64-byte aligned
    size_t bytes;
    uint64_t version;  // counts in-place writes: a plan that saw an older one refuses to run
    bool frozen;       // part of a model, which does not change: no in-place writes
} tarn_storage;

typedef struct tarn_tensor {
    tarn_storage *storage;  // NULL: closed (moved from or released)
    tarn_dtype dtype;
    bool weak;   // a bare number: its dtype gives way to that of the tensor it meets
    int rank;    // 0 … TARN_MAX_RANK
    int64_t shape[TARN_MAX_RANK];
    int64_t stride[TARN_MAX_RANK];  // in elements
    int64_t offset;                 // in elements
} tarn_tensor;

// Fresh contiguous memory, not initialised. On failure *t is closed.
tarn_status tarn_tensor_new(tarn_context *cx, tarn_dtype dtype, int rank, const int64_t *shape,
                            tarn_tensor *t, tarn_error *err);
tarn_status tarn_tensor_zeros(tarn_context *cx, tarn_dtype dtype, int rank, const int64_t *shape,
                              tarn_tensor *t, tarn_error *err);
// A rank-0 f64 weak tensor (what a full reduction yields, what a number becomes).
tarn_status tarn_tensor_number(tarn_context *cx, double v, tarn_tensor *t, tarn_error *err);
void tarn_tensor_share(const tarn_tensor *t, tarn_tensor *out);  // another reference, same view
void tarn_tensor_release(tarn_tensor *t);                        // idempotent

int64_t tarn_tensor_numel(const tarn_tensor *t);
bool tarn_tensor_contiguous(const tarn_tensor *t);
static inline size_t tarn_tensor_bytes(const tarn_tensor *t) {
    return tarn_dtype_bytes(t->dtype, tarn_tensor_numel(t));
}
// First element's address (dtypes of whole bytes only).
static inline void *tarn_tensor_data(const tarn_tensor *t) {
    return (char *)t->storage->data + t->offset * (tarn_dtype_get(t->dtype)->bits / 8);
}
// Checked product of a shape; TARN_ERROR "Overflow" when it leaves int64.
tarn_status tarn_shape_numel(int rank, const int64_t *shape, int64_t *numel, tarn_error *err);
bool tarn_shape_equal(int rank_a, const int64_t *a, int rank_b, const int64_t *b);
// "[4, 64]" into the text.
void tarn_shape_show(tarn_text *t, int rank, const int64_t *shape);

// Element i (row-major over the view) as a number; any readable dtype.
double tarn_tensor_get(const tarn_tensor *t, int64_t i);
int64_t tarn_tensor_get_int(const tarn_tensor *t, int64_t i);  // exact for integer dtypes
void tarn_tensor_set(tarn_tensor *t, int64_t i, double v);     // rounds to nearest even
// One stored element of any readable dtype, exactly, as f64 (naive: twins in tests, printing).
double tarn_element_get(tarn_dtype t, const void *p);
void tarn_element_set(tarn_dtype t, void *p, double v);

// Reads a whole source into memory, in its stored dtype.
tarn_status tarn_tensor_read(tarn_context *cx, const tarn_source *s, tarn_tensor *t,
                             tarn_error *err);
// A tensor in memory seen as a source (contiguous; keeps a reference). NULL: no memory.
const tarn_source *tarn_source_of_tensor(const tarn_tensor *t, const char *name);
// The tensor behind such a source; NULL: its elements are elsewhere.
const tarn_tensor *tarn_source_tensor(const tarn_source *s);

// Prints like PyTorch: values for up to 1000 elements, 3 at each edge beyond; first line
// "f32[4, 11008]". Ends without a newline.
void tarn_tensor_show(const tarn_tensor *t, tarn_text *out);

#endif
