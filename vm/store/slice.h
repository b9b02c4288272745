// SPDX-License-Identifier: Apache-2.0
// A rectangular part of a stored tensor, read as few runs of bytes as there are. Private to
// vm/store.
#ifndef TARN_STORE_SLICE_H
#define TARN_STORE_SLICE_H

#include "vm/tensor/source.h"

// As tarn_store_read_slice, of any source.
tarn_status tarn_slice_read(const tarn_source *s, int dims, const int64_t *start,
                            const int64_t *stop, void *dst, tarn_error *err);

#endif
