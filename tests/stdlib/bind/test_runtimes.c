// SPDX-License-Identifier: Apache-2.0
// Several runtimes in one process: two merges one after the other, two hosts that merge at the same
// time in two threads (each with a pool of its own), and a stop that reaches one of them only. Every
// one writes the same bytes as a runtime that is alone.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <ftw.h>
#include <pthread.h>

#include "stdlib/bind/bind.h"

static char folder[] = "/tmp/tarn-runtimes-XXXXXX";

// Methods of one and of several passes, saves, a matrix product (which opens BLAS), a gradient, digests
// of inputs, random numbers; `out` is a prefix of paths. Returns a text.
static const char script[] =
    "local base = model.open 'examples/data/base.safetensors'\n"
    "local low = model.open 'examples/data/low.safetensors'\n"
    "local high = model.open 'examples/data/high.safetensors'\n"
    "local said = {}\n"
    "for k, m in ipairs { merge.linear { low, high }, merge.slerp { low, high, t = by.depth { 0, 1 } },\n"
    "    merge.ties { base = base, low, high, density = 0.2 },\n"
    "    merge.dare_ties { base = base, low, high, density = 0.5, seed = 7 },\n"
    "    merge.karcher { low, high, base }, base + 0.4 * (low - base) } do\n"
    "  m:save(out .. k, { overwrite = true })\n"
    "  said[#said + 1] = string.format('%.17g', (model.open(out .. k) - base):norm())\n"
    "  assert(model.replay(out .. k))\n"
    "end\n"
    "local x = tensor.randn({ 200, 300 }, 1)\n"
    "said[#said + 1] = tostring(x:matmul(x:t()):sum())\n"
    "said[#said + 1] = tostring(grad(function(x) return (x:matmul(x:t()) ^ 2):sum() end, x):sum())\n"
    "return table.concat(said, ' ')\n";

typedef struct {
    const char *name;
    int threads, rounds;
    tarn_status status;
    tarn_error err;
    char said[1024];
    size_t left;
    pthread_mutex_t lock;
    tarn_host *host;  // while it runs; under the lock
} runtime;

#define LOCK .lock = PTHREAD_MUTEX_INITIALIZER

static void set_host(runtime *r, tarn_host *h) {
    pthread_mutex_lock(&r->lock);
    r->host = h;
    pthread_mutex_unlock(&r->lock);
}

static tarn_status run_text(tarn_host *h, const char *text, char *said, size_t room, tarn_error *err) {
    int n = 0;
    TARN_TRY(tarn_host_run(h, "=script", text, strlen(text), 0, NULL, &n, err));
    const char *s = n > 0 ? lua_tostring(tarn_host_state(h), -1) : NULL;
    snprintf(said, room, "%s", s ? s : "");
    lua_pop(tarn_host_state(h), n);
    return TARN_OK;
}

static tarn_status run_rounds(runtime *r, tarn_host *h, const char *text) {
    char set[128];
    snprintf(set, sizeof set, "out = '%s/%s'", folder, r->name);
    TARN_TRY(run_text(h, set, r->said, sizeof r->said, &r->err));
    for (int k = 0; k < r->rounds; k++) {
        TARN_TRY(run_text(h, text, r->said, sizeof r->said, &r->err));
    }
    return TARN_OK;
}

static void run_runtime(runtime *r, const char *text) {
    tarn_context cx;
    tarn_host *h = NULL;
    tarn_options co = {.threads = r->threads, .memory = (size_t)256 << 20};
    tarn_host_options ho = {.trust = TARN_TRUST_SCRIPT, .seconds = 300, .folder = "."};
    r->status = tarn_context_init(&cx, &co, &r->err);
    if (r->status != TARN_OK) {
        return;
    }
    r->status = tarn_host_open(&cx, &ho, &h, &r->err);
    if (r->status == TARN_OK) {
        r->status = tarn_bind_open(h, &r->err);
    }
    if (r->status == TARN_OK) {
        set_host(r, h);
        r->status = run_rounds(r, h, text);
        set_host(r, NULL);
    }
    tarn_host_close(h);
    r->left = atomic_load(&cx.budget.used);
    tarn_context_free(&cx);
}

static void *merging(void *arg) {
    run_runtime(arg, script);
    return NULL;
}
static void *looping(void *arg) {
    run_runtime(arg, "while true do local a = tensor.randn({ 100, 100 }, 1):sum() end");
    return NULL;
}

static void check(const runtime *r, const char *said) {
    if (r->status != TARN_OK) {
        fail_msg("%s: %s", r->name, r->err.message);
    }
    assert_string_equal(r->said, said);
    assert_int_equal(r->left, 0);
}

// Every file that runtime a wrote is the same in b.
static void same_files(const char *a, const char *b) {
    char command[512];
    for (int k = 1; k <= 6; k++) {
        snprintf(command, sizeof command, "cmp %s/%s%d/model.safetensors %s/%s%d/model.safetensors",
                 folder, a, k, folder, b, k);
        assert_int_equal(system(command), 0);
    }
}

static runtime alone = {.name = "alone", .threads = 2, .rounds = 1, LOCK};

static void test_one_after_the_other(void **state) {
    runtime twice = {.name = "twice", .threads = 1, .rounds = 2, LOCK};
    merging(&alone);
    check(&alone, alone.said);
    merging(&twice);
    check(&twice, alone.said);
    same_files("alone", "twice");
}

static void test_at_the_same_time(void **state) {
    runtime r[3] = {{.name = "x", .threads = 2, .rounds = 3, LOCK},
                    {.name = "y", .threads = 3, .rounds = 3, LOCK},
                    {.name = "z", .threads = 1, .rounds = 3, LOCK}};
    pthread_t t[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&t[i], NULL, merging, &r[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
        check(&r[i], alone.said);
        same_files("alone", r[i].name);
    }
}

static void test_a_stop_reaches_one(void **state) {
    runtime stopped = {.name = "stopped", .threads = 2, .rounds = 1, LOCK};
    runtime other = {.name = "other", .threads = 2, .rounds = 1, LOCK};
    pthread_t t, u;
    assert_int_equal(pthread_create(&t, NULL, looping, &stopped), 0);
    assert_int_equal(pthread_create(&u, NULL, merging, &other), 0);
    for (bool done = false; !done;) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        pthread_mutex_lock(&stopped.lock);
        done = stopped.host != NULL;
        if (done) {
            tarn_host_stop(stopped.host, TARN_STOP_INT);
        }
        pthread_mutex_unlock(&stopped.lock);
    }
    pthread_join(t, NULL);
    pthread_join(u, NULL);
    assert_int_equal(stopped.status, TARN_CANCELLED);
    assert_int_equal(stopped.left, 0);
    check(&other, alone.said);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at) {
    return remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_after_the_other),
                                       cmocka_unit_test(test_at_the_same_time),
                                       cmocka_unit_test(test_a_stop_reaches_one)};
    if (chdir(TARN_SOURCE_DIR) != 0 || !mkdtemp(folder)) {
        return 1;
    }
    setenv("XDG_CACHE_HOME", folder, 1);  // one memory of digests for all
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed;
}
