// SPDX-License-Identifier: Apache-2.0
// The thread pool. One call runs tasks 0 … n-1 over the workers (the caller is worker 0) and
// returns when all have ended. Tasks are claimed in ascending order. When tasks fail, the failure of
// the lowest task is the one reported, whatever the number of threads: every task below the lowest
// failing one is still run. Cancellation ends the run between tasks.
#ifndef TARN_BASE_POOL_H
#define TARN_BASE_POOL_H

#include <stdint.h>

#include "vm/base/cancel.h"
#include "vm/base/status.h"

typedef struct tarn_pool tarn_pool;

// `task` counts from 0; `worker` is below tarn_pool_size and unique among running tasks.
typedef tarn_status (*tarn_task_fn)(void *arg, int64_t task, int worker, tarn_error *err);

tarn_pool *tarn_pool_create(int threads);  // NULL when threads cannot be started; threads >= 1
void tarn_pool_destroy(tarn_pool *p);      // p may be NULL
int tarn_pool_size(const tarn_pool *p);    // 1 for NULL

// A NULL pool, or a call from inside a task, runs the tasks on the calling thread, worker 0.
tarn_status tarn_pool_run(tarn_pool *p, int64_t tasks, tarn_task_fn fn, void *arg,
                          const tarn_cancel *cancel, tarn_error *err);

#endif
