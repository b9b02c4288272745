// SPDX-License-Identifier: Apache-2.0
// The IDX reader on any bytes: an answer within bounded memory, and nothing kept.
#include <stdlib.h>

#include "vm/format/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tarn_context cx = {0};
    tarn_error err = {0};
    tarn_idx *f;
    tarn_budget_init(&cx.budget, (size_t)64 << 20);
    if (tarn_idx_open_bytes(&cx, data, size, "fuzz", &f, &err) == TARN_OK) {
        const tarn_idx_header *h = tarn_idx_header_of(f);
        if (h->bytes > (uint64_t)size * 1032) {
            abort();
        }
        size_t bytes = (size_t)h->bytes;
        void *dst = tarn_alloc(&cx.budget, bytes);
        if (dst && tarn_idx_read(f, dst, &err) != TARN_OK && err.message[0] == '\0') {
            abort();
        }
        tarn_free(&cx.budget, dst, bytes);
        tarn_idx_close(f);
    } else if (err.message[0] == '\0') {
        abort();
    }
    if (cx.budget.used != 0) {
        abort();
    }
    return 0;
}
