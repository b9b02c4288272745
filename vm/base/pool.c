// SPDX-License-Identifier: Apache-2.0
// Workers claim tasks through one atomic counter and sleep on a condition variable between runs.
// Waking one takes longer than a short run, so a worker that had a run soon after the last one
// looks out for the next for a moment before it sleeps, and a run ends without those that did not
// come.
#include "vm/base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

enum { MOMENT = 50000 };  // nanoseconds

typedef struct {
    tarn_pool *pool;
    int index;
    pthread_t thread;
} worker;

struct tarn_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;  // a run began, or the pool ends
    pthread_cond_t done;  // a worker left the run
    int size;             // workers, the caller included
    int asleep;           // helpers that wait for `wake`
    atomic_llong inside;  // helpers in the current run; changes under the lock
    atomic_llong epoch;   // counts runs; changes under the lock
    int64_t began;        // when the last run did
    bool open;            // helpers may still enter the current run
    bool quit;
    bool busy;  // a run is under way
    // the current run
    tarn_task_fn fn;
    void *arg;
    const tarn_cancel *cancel;
    int64_t tasks;
    atomic_llong next;    // next task to claim
    atomic_llong failed;  // lowest failing task so far, or tasks
    tarn_error *err;      // error of the lowest failing task
    tarn_status status;
    worker *workers;
};

static void work(tarn_pool *p, int index) {
    tarn_error mine;
    for (;;) {
        int64_t t = atomic_fetch_add(&p->next, 1);
        if (t >= p->tasks || t > atomic_load(&p->failed)) {
            return;
        }
        tarn_error_clear(&mine);
        tarn_status s = p->cancel ? tarn_cancel_check(p->cancel, &mine) : TARN_OK;
        if (s == TARN_OK) {
            s = p->fn(p->arg, t, index, &mine);
        }
        if (s != TARN_OK) {
            pthread_mutex_lock(&p->lock);
            if (t < atomic_load(&p->failed)) {
                atomic_store(&p->failed, t);
                p->status = s;
                if (p->err) {
                    *p->err = mine;
                    p->err->status = s;
                }
            }
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Looks at a counter until it is no longer `was`, a moment at most.
static void look_out(atomic_llong *counter, long long was) {
    int64_t until = now() + MOMENT;
    for (int i = 1; atomic_load(counter) == was && (i % 64 || now() < until); i++) {
        pause_briefly();
    }
}

static void *worker_main(void *arg) {
    worker *w = arg;
    tarn_pool *p = w->pool;
    long long seen = 0;
    bool soon = false;  // the last run came a moment after the one before
    int64_t left = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        if (soon) {
            pthread_mutex_unlock(&p->lock);
            look_out(&p->epoch, seen);
            pthread_mutex_lock(&p->lock);
        }
        while (!p->quit && atomic_load(&p->epoch) == seen) {
            p->asleep++;
            pthread_cond_wait(&p->wake, &p->lock);
            p->asleep--;
        }
        if (p->quit) {
            break;
        }
        seen = atomic_load(&p->epoch);
        soon = p->began - left < MOMENT;
        if (p->open) {
            atomic_fetch_add(&p->inside, 1);
            pthread_mutex_unlock(&p->lock);
            work(p, w->index);
            pthread_mutex_lock(&p->lock);
            if (atomic_fetch_sub(&p->inside, 1) == 1) {
                pthread_cond_signal(&p->done);
            }
        }
        left = now();
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

tarn_pool *tarn_pool_create(int threads) {
    tarn_pool *p = calloc(1, sizeof *p);
    worker *workers = threads > 0 ? calloc((size_t)threads, sizeof *workers) : NULL;
    if (!p || !workers) {
        free(p);
        free(workers);
        return NULL;
    }
    p->workers = workers;
    p->size = 1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    // Signals belong to the main thread: it owns the Lua state that a handler touches.
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGSEGV);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (int i = 1; i < threads; i++) {
        workers[i] = (worker){.pool = p, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            break;
        }
        p->size++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return p;
}

void tarn_pool_destroy(tarn_pool *p) {
    if (!p) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->size; i++) {
        pthread_join(p->workers[i].thread, NULL);
    }
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    free(p->workers);
    free(p);
}

int tarn_pool_size(const tarn_pool *p) { return p ? p->size : 1; }

static tarn_status run_here(int64_t tasks, tarn_task_fn fn, void *arg, const tarn_cancel *cancel,
                            tarn_error *err) {
    for (int64_t t = 0; t < tasks; t++) {
        if (cancel) {
            TARN_TRY(tarn_cancel_check(cancel, err));
        }
        TARN_TRY(fn(arg, t, 0, err));
    }
    return TARN_OK;
}

tarn_status tarn_pool_run(tarn_pool *p, int64_t tasks, tarn_task_fn fn, void *arg,
                          const tarn_cancel *cancel, tarn_error *err) {
    if (!p || p->size == 1 || tasks <= 1) {
        return run_here(tasks, fn, arg, cancel, err);
    }
    pthread_mutex_lock(&p->lock);
    if (p->busy) {
        pthread_mutex_unlock(&p->lock);
        return run_here(tasks, fn, arg, cancel, err);
    }
    p->busy = true;
    p->fn = fn;
    p->arg = arg;
    p->cancel = cancel;
    p->tasks = tasks;
    p->err = err;
    p->status = TARN_OK;
    atomic_store(&p->next, 0);
    atomic_store(&p->failed, tasks);
    p->open = true;
    p->began = now();
    atomic_fetch_add(&p->epoch, 1);
    if (p->asleep > 0) {
        pthread_cond_broadcast(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
    work(p, 0);
    pthread_mutex_lock(&p->lock);
    p->open = false;
    long long inside = atomic_load(&p->inside);
    if (inside > 0) {
        pthread_mutex_unlock(&p->lock);
        look_out(&p->inside, inside);
        pthread_mutex_lock(&p->lock);
    }
    while (atomic_load(&p->inside) > 0) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    p->busy = false;
    tarn_status s = p->status;
    pthread_mutex_unlock(&p->lock);
    return s;
}
