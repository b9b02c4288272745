// SPDX-License-Identifier: Apache-2.0
// What every room below Lua needs of its surroundings, in one pointer: the memory budget, the stop
// flag, the thread pool, the instruction set chosen at start, progress. One context per runtime; two
// contexts in one process share nothing. It outlives everything made with it.
#ifndef TARN_BASE_CONTEXT_H
#define TARN_BASE_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "vm/base/budget.h"
#include "vm/base/cancel.h"
#include "vm/base/known.h"
#include "vm/base/pool.h"
#include "vm/base/status.h"

typedef enum { TARN_ISA_V1 = 0, TARN_ISA_V3, TARN_ISA_V4, TARN_ISA_COUNT } tarn_isa;

// Work reports bytes done; the owner decides whether and how to show them.
typedef struct tarn_progress {
    void (*show)(struct tarn_progress *p);  // called at most ~10 times a second, any thread; or NULL
    void *arg;
    const char *what;         // static text or text that outlives the work; may be NULL
    uint64_t total;           // bytes; 0: unknown
    atomic_uint_fast64_t done;  // bytes
} tarn_progress;

typedef struct tarn_context {
    tarn_budget budget;
    tarn_cancel cancel;
    tarn_pool *pool;
    tarn_isa isa;         // the kernels in use
    size_t hold;          // bytes that one tensor's inputs may occupy to be read only once
    bool rehash;          // files are hashed anew: what was remembered of them is not used
    tarn_known known;      // numbers that were computed from files
    tarn_progress progress;
    void (*warn)(void *arg, const char *message);  // one line, no newline; NULL: stderr
    void *warn_arg;
} tarn_context;

typedef struct tarn_options {
    int threads;    // 0: one per processor
    size_t memory;  // bytes; 0: tarn_budget_default()
    size_t hold;    // bytes; 0: 128 MiB
    bool rehash;    // the store of digests is not used
    const char *isa;  // "v1", "v3", "v4" or NULL: TARN_ISA, else the best the processor has
} tarn_options;

tarn_status tarn_context_init(tarn_context *cx, const tarn_options *o, tarn_error *err);
void tarn_context_free(tarn_context *cx);
void tarn_warn(tarn_context *cx, const char *fmt, ...) TARN_PRINTF(2, 3);
const char *tarn_isa_name(tarn_isa isa);

// Around a piece of work of `total` bytes (0: unknown) whose loops add to cx->progress.done and call
// `show`. The end tells `show` that nothing is under way: no label, no total, nothing done.
void tarn_progress_begin(tarn_context *cx, const char *what, uint64_t total);
void tarn_progress_end(tarn_context *cx);

#endif
