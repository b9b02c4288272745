// SPDX-License-Identifier: Apache-2.0
// kill -9 at random moments of a save that replaces a model: what lies under the final name is the
// old model or the new one, whole, the user's own file included; the next save removes what the
// dead run left behind.
#include "tests/vm/store/folder.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { KILLS = 200, TENSORS = 12, BYTES = 20000 };

static tarn_status save(const char *path, int seed, tarn_error *err) {
    tarn_context cx;
    tarn_options co = {.threads = 1, .memory = 64 << 20};
    TARN_TRY(tarn_context_init(&cx, &co, err));
    tarn_writer_tensor t[TENSORS];
    char names[TENSORS][8];
    int64_t shape = BYTES;
    for (int i = 0; i < TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "t%02d", i);
        t[i] = (tarn_writer_tensor){names[i], 3, TARN_U8, 1, &shape};
    }
    // Odd seeds: four shards and an index, even ones: one file.
    tarn_writer_options o = {.overwrite = true, .max_shard_size = seed % 2 ? 3 * BYTES : 0};
    tarn_writer *w;
    tarn_status s = tarn_writer_open(&cx, path, TENSORS, t, &o, &w, err);
    if (s == TARN_OK) {
        static char data[BYTES];
        memset(data, seed, sizeof data);
        for (int i = 0; i < TENSORS && s == TARN_OK; i++) {
            s = tarn_writer_put(w, i, 0, data, sizeof data, err);
        }
        s = s == TARN_OK ? tarn_writer_side(w, "config.json", data, 10, err) : s;
        if (s == TARN_OK) {
            s = tarn_writer_commit(w, err);
        } else {
            tarn_writer_abort(w);
        }
    }
    tarn_context_free(&cx);
    return s;
}

// The seed of the model that lies there, every byte looked at; fails when it is a mixture.
static int whole(const char *m) {
    int seed = -1;
    size_t n = 0, bytes = 0;
    char *index = slurp(at_path(m, "model.safetensors.index.json"), &n);
    for (int i = 0; i < TENSORS; i++) {
        char name[64] = "model.safetensors", tensor[8];
        if (index) {
            snprintf(name, sizeof name, "model-%05d-of-00004.safetensors", i / 3 + 1);
        }
        snprintf(tensor, sizeof tensor, "t%02d", i);
        char *file = slurp(at_path(m, name), &n);
        if (!file) {
            fail_msg("%s is missing: %s", name, names_in(m));
        }
        const unsigned char *x = tensor_in(file, n, tensor, &bytes);
        assert_non_null(x);
        assert_int_equal(bytes, BYTES);
        seed = i == 0 ? x[0] : seed;
        for (size_t k = 0; k < bytes; k++) {
            assert_int_equal(x[k], seed);
        }
        free(file);
    }
    assert_int_equal(index != NULL, seed % 2);
    free(index);
    char *config = slurp(at_path(m, "config.json"), &n);
    assert_non_null(config);
    assert_int_equal(n, 10);
    assert_int_equal(config[0], seed);
    free(config);
    assert_string_equal(
        names_in(m), seed % 2
                         ? "config.json model-00001-of-00004.safetensors "
                           "model-00002-of-00004.safetensors model-00003-of-00004.safetensors "
                           "model-00004-of-00004.safetensors model.safetensors.index.json notes.md "
                         : "config.json model.safetensors notes.md ");
    return seed;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_kill(void **state) {
    tarn_error err = {0};
    char *dir = scratch();
    path_text m;
    path_in(m, dir, "m");
    OK(save(m, 1, &err));
    write_bytes(at_path(m, "notes.md"), "mine", 4);
    double t0 = seconds();
    for (int k = 0; k < 10; k++) {
        OK(save(m, 2 + k % 2, &err));
    }
    double one = (seconds() - t0) / 10;
    uint64_t random = 7;
    int old = 0, new = 0, before = whole(m);
    for (int k = 0; k < KILLS; k++) {
        int seed = 4 + k % 100;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            _exit(save(m, seed, &err) == TARN_OK ? 0 : 1);
        }
        double wait = (test_uniform(&random) + 1) / 2 * one * 1.2;
        nanosleep(&(struct timespec){.tv_nsec = (long)(wait * 1e9)}, NULL);
        kill(child, SIGKILL);
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        int now = whole(m);
        assert_true(now == before || now == seed);
        old += now == before;
        new += now == seed;
        before = now;
    }
    print_message("%d times the old model, %d times the new one; a save takes %.1f ms\n", old, new,
                  one * 1e3);
    assert_true(old > KILLS / 20 && new > KILLS / 20);
    OK(save(m, 3, &err));
    assert_int_equal(whole(m), 3);
    assert_string_equal(names_in(dir), "m ");
    remove_tree(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
