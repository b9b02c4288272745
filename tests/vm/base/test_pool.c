// SPDX-License-Identifier: Apache-2.0
// The thread pool: every task once, worker numbers unique, the lowest failure reported whatever the
// timing, every task below it run, stopping, calls from inside a task, two pools at once, runs
// close together and apart. Run it under the thread sanitizer too (preset tsan).
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "tests/support.h"

enum { TASKS = 5000 };

typedef struct {
    atomic_int ran[TASKS];
    atomic_int inside[16];  // tasks running as each worker
    int64_t fail[4];
    int nfail;
    tarn_cancel *cancel;
    int64_t stop_at;
    tarn_pool *pool;
} work;

static tarn_status task(void *arg, int64_t i, int worker, tarn_error *err) {
    work *w = arg;
    assert_int_equal(atomic_fetch_add(&w->inside[worker], 1), 0);
    atomic_fetch_add(&w->ran[i], 1);
    if (i % 7 == 0) {
        sched_yield();
    }
    if (w->cancel && i == w->stop_at) {
        tarn_cancel_set(w->cancel, TARN_STOP_INT);
    }
    atomic_fetch_sub(&w->inside[worker], 1);
    for (int k = 0; k < w->nfail; k++) {
        if (i == w->fail[k]) {
            TARN_RAISE(err, "Task", "task %lld", (long long)i);
        }
    }
    return TARN_OK;
}

static const int sizes[] = {1, 2, 3, 8};

static void all_tasks(void **state) {
    for (int k = 0; k < 4; k++) {
        tarn_pool *p = tarn_pool_create(sizes[k]);
        assert_int_equal(tarn_pool_size(p), sizes[k]);
        for (int round = 0; round < 20; round++) {
            work *w = calloc(1, sizeof *w);
            tarn_error err = {0};
            int64_t n = round == 0 ? 0 : round == 1 ? 1 : TASKS / round;
            OK(tarn_pool_run(p, n, task, w, NULL, &err));
            for (int64_t i = 0; i < TASKS; i++) {
                assert_int_equal(w->ran[i], i < n);
            }
            free(w);
        }
        tarn_pool_destroy(p);
    }
    assert_int_equal(tarn_pool_size(NULL), 1);
    work *w = calloc(1, sizeof *w);
    tarn_error err = {0};
    OK(tarn_pool_run(NULL, 10, task, w, NULL, &err));
    free(w);
    tarn_pool_destroy(NULL);
    assert_null(tarn_pool_create(0));
}

static void lowest_failure(void **state) {
    for (int k = 0; k < 4; k++) {
        tarn_pool *p = tarn_pool_create(sizes[k]);
        for (int round = 0; round < 50; round++) {
            work *w = calloc(1, sizeof *w);
            tarn_error err = {0};
            int64_t first = 13 + round * 31;
            w->nfail = 4;
            for (int i = 0; i < 4; i++) {
                w->fail[3 - i] = first + i * (1 + round % 3);
            }
            char want[32];
            snprintf(want, sizeof want, "task %lld", (long long)first);
            assert_int_equal(tarn_pool_run(p, TASKS, task, w, NULL, &err), TARN_ERROR);
            assert_string_equal(err.message, want);
            assert_int_equal(err.status, TARN_ERROR);
            for (int64_t i = 0; i <= first; i++) {
                assert_int_equal(w->ran[i], 1);
            }
            assert_int_equal(w->ran[TASKS - 1], 0);
            assert_int_equal(tarn_pool_run(p, TASKS, task, w, NULL, NULL), TARN_ERROR);
            free(w);
        }
        tarn_pool_destroy(p);
    }
}

static void stopped(void **state) {
    for (int k = 0; k < 4; k++) {
        tarn_pool *p = tarn_pool_create(sizes[k]);
        work *w = calloc(1, sizeof *w);
        tarn_cancel c = {0};
        tarn_error err = {0};
        w->cancel = &c;
        w->stop_at = 100;
        assert_int_equal(tarn_pool_run(p, TASKS, task, w, &c, &err), TARN_CANCELLED);
        assert_string_equal(err.message, "interrupted");
        assert_int_equal(w->ran[TASKS - 1], 0);
        tarn_cancel_clear(&c);
        w->cancel = NULL;
        memset(w->ran, 0, sizeof w->ran);
        OK(tarn_pool_run(p, TASKS, task, w, &c, &err));  // and the pool goes on
        free(w);
        tarn_pool_destroy(p);
    }
}

static tarn_status nested_task(void *arg, int64_t i, int worker, tarn_error *err) {
    (void)worker;
    work *w = arg;
    work *mine = calloc(1, sizeof *mine);
    mine->nfail = i == 5;
    mine->fail[0] = 3;
    tarn_status s = tarn_pool_run(w->pool, 20, task, mine, NULL, err);
    for (int k = 0; k < 20; k++) {
        if (mine->ran[k] != (i != 5 || k <= 3)) {
            s = tarn_raise(err, "Nested", "task %d ran %d times", k, mine->ran[k]);
        }
    }
    free(mine);
    return s;
}

static void nested(void **state) {
    tarn_pool *p = tarn_pool_create(4);
    work w = {.pool = p};
    tarn_error err = {0};
    OK(tarn_pool_run(p, 5, nested_task, &w, NULL, &err));
    assert_int_equal(tarn_pool_run(p, 12, nested_task, &w, NULL, &err), TARN_ERROR);
    assert_string_equal(err.message, "task 3");
    tarn_pool_destroy(p);
}

static void *other_pool(void *arg) {
    (void)arg;
    for (int round = 0; round < 10; round++) {
        tarn_pool *p = tarn_pool_create(3);
        work *w = calloc(1, sizeof *w);
        tarn_error err = {0};
        tarn_status s = tarn_pool_run(p, TASKS, task, w, NULL, &err);
        free(w);
        tarn_pool_destroy(p);
        if (s != TARN_OK) {
            return "failed";
        }
    }
    return NULL;
}

static void two_pools(void **state) {
    pthread_t t;
    void *result;
    assert_int_equal(pthread_create(&t, NULL, other_pool, NULL), 0);
    assert_null(other_pool(NULL));
    pthread_join(t, &result);
    assert_null(result);
}

// The budget and the progress counters are shared by workers: nothing is lost.
static tarn_status take_and_give(void *arg, int64_t i, int worker, tarn_error *err) {
    (void)worker;
    tarn_context *cx = arg;
    void *p = tarn_alloc(&cx->budget, (size_t)(i % 1000));
    if (!p) {
        return tarn_raise_nomem(err, "a test", 0);
    }
    atomic_fetch_add(&cx->progress.done, 1);
    tarn_free(&cx->budget, p, (size_t)(i % 1000));
    return TARN_OK;
}

static void shared_budget(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 4, NULL);
    OK(tarn_pool_run(cx.pool, TASKS, take_and_give, &cx, &cx.cancel, &err));
    assert_int_equal(cx.budget.used, 0);
    assert_true(cx.budget.peak <= 4 * 999);
    assert_int_equal(cx.progress.done, TASKS);
    tarn_context_free(&cx);
}

// Ends when as many tasks are under way as there are workers.
static tarn_status meet(void *arg, int64_t i, int worker, tarn_error *err) {
    work *w = arg;
    (void)i, (void)worker;
    atomic_fetch_add(&w->inside[0], 1);
    for (time_t end = time(NULL) + 20; atomic_load(&w->inside[0]) < tarn_pool_size(w->pool);) {
        if (time(NULL) > end) {
            TARN_RAISE(err, "Task", "a worker sleeps");
        }
        sched_yield();
    }
    return TARN_OK;
}

// Runs close together, which workers look out for, and apart, for which they have to be woken; all
// of a run has happened when it returns. Nobody waits busily: processor time stands still in
// between.
static void gaps(void **state) {
    (void)state;
    static const long gap[] = {0, 0, 5, 30, 80, 400};  // microseconds
    for (int k = 1; k < 4; k++) {
        tarn_pool *p = tarn_pool_create(sizes[k]);
        for (int round = 0; round < 300; round++) {
            static work w;
            tarn_error err = {0};
            int64_t n = 2 + round % 7;
            memset(&w, 0, sizeof w);
            nanosleep(&(struct timespec){.tv_nsec = gap[round % 6] * 1000}, NULL);
            OK(tarn_pool_run(p, n, task, &w, NULL, &err));
            for (int64_t i = 0; i < n + 3; i++) {
                assert_int_equal(w.ran[i], i < n);
            }
            if (round % 20 < 6) {
                memset(&w, 0, sizeof w);
                w.pool = p;
                nanosleep(&(struct timespec){.tv_nsec = gap[round % 6] * 1000}, NULL);
                OK(tarn_pool_run(p, sizes[k], meet, &w, NULL, &err));
            }
        }
        clock_t before = clock();
        nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL);
        assert_true((double)(clock() - before) / CLOCKS_PER_SEC < 0.03);
        tarn_pool_destroy(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_tasks), cmocka_unit_test(lowest_failure), cmocka_unit_test(stopped),
        cmocka_unit_test(nested),    cmocka_unit_test(two_pools),      cmocka_unit_test(shared_budget),
        cmocka_unit_test(gaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
