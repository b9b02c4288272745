// SPDX-License-Identifier: Apache-2.0
// One cap on memory for everything: Lua heap, tensors, buffers, arenas. Taking bytes never blocks: what would
// pass the cap is refused. Thread-safe.
#ifndef TARN_BASE_BUDGET_H
#define TARN_BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm/base/status.h"

typedef struct tarn_budget {
    atomic_size_t used;      // bytes taken now
    atomic_size_t peak;      // highest `used` so far
    size_t limit;            // bytes
    atomic_size_t external;  // bytes of tensors (not Lua heap) now: drives the collector
} tarn_budget;

void tarn_budget_init(tarn_budget *b, size_t limit);
bool tarn_budget_take(tarn_budget *b, size_t bytes);
void tarn_budget_give(tarn_budget *b, size_t bytes);

// Memory charged to the budget, aligned to 64 bytes; NULL when the cap or the machine refuses.
// The caller gives the same size back. Zero bytes give a valid pointer.
void *tarn_alloc(tarn_budget *b, size_t bytes);
void *tarn_alloc_zero(tarn_budget *b, size_t bytes);
void tarn_free(tarn_budget *b, void *p, size_t bytes);  // p may be NULL

// The default cap: nine tenths of the smaller of available memory and the control-group limit.
size_t tarn_budget_default(void);

#endif
