// SPDX-License-Identifier: Apache-2.0
// The stop flag. A signal handler, a timer or another thread sets it with a reason; every kernel
// loop polls it once per block and returns TARN_CANCELLED. Setting is async-signal-safe. The first
// reason wins until the flag is cleared.
#ifndef TARN_BASE_CANCEL_H
#define TARN_BASE_CANCEL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vm/base/status.h"

typedef enum {
    TARN_STOP_NONE = 0,
    TARN_STOP_INT,       // Ctrl-C
    TARN_STOP_TERM,      // SIGTERM
    TARN_STOP_HUP,       // SIGHUP
    TARN_STOP_DEADLINE,  // --time ran out
} tarn_stop_reason;

typedef struct tarn_cancel {
    atomic_int reason;
} tarn_cancel;

static inline bool tarn_cancel_set(tarn_cancel *c, tarn_stop_reason why) {
    int none = TARN_STOP_NONE;
    return atomic_compare_exchange_strong(&c->reason, &none, (int)why);
}
static inline tarn_stop_reason tarn_cancel_reason(const tarn_cancel *c) {
    return (tarn_stop_reason)atomic_load_explicit(&c->reason, memory_order_relaxed);
}
static inline void tarn_cancel_clear(tarn_cancel *c) { atomic_store(&c->reason, TARN_STOP_NONE); }

// TARN_OK, or TARN_CANCELLED with a message ("interrupted", "time limit reached").
tarn_status tarn_cancel_check(const tarn_cancel *c, tarn_error *e);

#endif
