// SPDX-License-Identifier: Apache-2.0
// Digests against values that Python's hashlib gave, whatever the sharding and the number of
// threads; and the memory of them: used when it fits, doubted when anything is off, done without
// when absent.
#include "tests/vm/store/folder.h"

#include <time.h>

#include "vm/store/digests.h"

enum { PIECE = 8 << 20, COUNT = 4 };
static const struct {
    const char *name, *digest;
    tarn_dtype dtype;
    int rank;
    int64_t shape[2];
    size_t bytes;
} row[COUNT] = {
    {"w",
     "8416ca34218de428cd5a0e6ae951f60ec11c4a61a23d4678aaad1aaaf042e9ed",
     TARN_F32,
     2,
     {3, 4},
     48},
    {"big",
     "95820c3ab95ba06ca5937d5e097dd4b48b3de537f32f9eb0bf894219e6bc3172",
     TARN_U8,
     1,
     {2 * PIECE + 5},
     2 * PIECE + 5},
    {"none",
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
     TARN_F32,
     1,
     {0},
     0},
    {"a\tb\\",
     "c6e1302b12165b494344903f9aea9f4c3f13e543d8553e6d9037be36c8939bbe",
     TARN_U8,
     1,
     {1},
     1},
};
static const char model_digest[] =
    "7acc94434aa9ad03533b4d8332bc5ccee2f67a133cda1f0a6515e4a3cb500c86";
static const char header_digest[] =
    "42cfca40b29584c8f6cf46a4c7c2e5bf7fcf729b053dbe0200cbc928a91a6621";

static void save(tarn_context *cx, const char *path, uint64_t max_shard) {
    tarn_error err = {0};
    tarn_writer_tensor t[COUNT];
    for (int i = 0; i < COUNT; i++) {
        t[i] = (tarn_writer_tensor){row[i].name, strlen(row[i].name), row[i].dtype, row[i].rank,
                                    row[i].shape};
    }
    tarn_writer_options o = {.max_shard_size = max_shard};
    tarn_writer *w;
    OK(tarn_writer_open(cx, path, COUNT, t, &o, &w, &err));
    for (int i = 0; i < COUNT; i++) {
        unsigned char *data = malloc(row[i].bytes + 1);
        for (size_t k = 0; k < row[i].bytes; k++) {
            data[k] = (unsigned char)(i * 37 + (int)(k % 256) * 11);
        }
        OK(tarn_writer_put(w, i, 0, data, row[i].bytes, &err));
        free(data);
    }
    OK(tarn_writer_commit(w, &err));
}

// Sets the times of all files of a folder this many seconds back.
static void age(const char *folder, double seconds) {
    struct timespec now, then[2];
    clock_gettime(CLOCK_REALTIME, &now);
    then[0] = then[1] = (struct timespec){now.tv_sec - (time_t)seconds - 1, now.tv_nsec};
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.') {
            assert_int_equal(utimensat(AT_FDCWD, at_path(folder, e->d_name), then, 0), 0);
        }
    }
    closedir(d);
}

static void assert_hex(const unsigned char digest[32], const char *want) {
    char hex[65];
    tarn_hex(digest, 32, hex);
    assert_string_equal(hex, want);
}

// Opens, asks, compares; returns the bytes that were not known.
static uint64_t get(tarn_context *cx, const char *path, const tarn_digests_options *o) {
    tarn_error err = {0};
    tarn_store *s;
    unsigned char out[COUNT][32], sum[32];
    OK(tarn_store_open(cx, path, NULL, &s, &err));
    tarn_digests_todo todo;
    OK(tarn_digests_unknown(cx, s, o, &todo, &err));
    assert_int_equal(todo.files > 0, todo.bytes > 0);
    OK(tarn_digests_get(cx, s, o, out, &err));
    for (int i = 0; i < COUNT; i++) {
        int64_t at = tarn_store_find(s, row[i].name, strlen(row[i].name));
        assert_hex(out[at], row[i].digest);
    }
    OK(tarn_digest_model(cx, s, out, sum, &err));
    assert_hex(sum, model_digest);
    OK(tarn_digest_model(cx, s, NULL, sum, &err));
    assert_hex(sum, header_digest);
    tarn_store_release(s);
    return todo.bytes;
}

static char *memory(const char *dir) { return at_path(dir, "cache/tarn/digests"); }

static void test_values(void **state) {
    char *dir = scratch();
    setenv("XDG_CACHE_HOME", at_path(dir, "cache"), 1);
    for (int threads = 1; threads <= 3; threads += 2) {
        tarn_context cx;
        open_context(&cx, threads, NULL);
        tarn_digests_options off = {.off = true};
        const char *name = threads == 1 ? "a" : "b", *shards = threads == 1 ? "c" : "d";
        save(&cx, at_path(dir, name), 0);
        save(&cx, at_path(dir, shards), 50);
        assert_int_equal(get(&cx, at_path(dir, name), &off), 2 * PIECE + 5 + 49);
        assert_int_equal(get(&cx, at_path(dir, shards), &off), 2 * PIECE + 5 + 49);
        assert_int_equal(cx.progress.total, 0);
        assert_int_equal(atomic_load(&cx.budget.used), 0);
        tarn_context_free(&cx);
    }
    assert_int_not_equal(access(at_path(dir, "cache"), F_OK), 0);  // nothing kept
    remove_tree(dir);
}

static void test_memory(void **state) {
    tarn_context cx;
    open_context(&cx, 2, NULL);
    char *dir = scratch();
    path_text m;
    path_in(m, dir, "m");
    setenv("XDG_CACHE_HOME", at_path(dir, "cache"), 1);
    uint64_t all = 2 * PIECE + 5 + 49;
    save(&cx, m, 50);  // two shards
    age(m, 10);
    assert_int_equal(get(&cx, m, NULL), all);
    assert_int_equal(get(&cx, m, NULL), 0);
    tarn_digests_options off = {.off = true};
    assert_int_equal(get(&cx, m, &off), all);
    setenv("TARN_DIGESTS", "off", 1);
    assert_int_equal(get(&cx, m, NULL), all);
    unsetenv("TARN_DIGESTS");
    // another time: that file is unknown, and its entry gives way to the new one
    char *list = strdup(names_in(memory(dir)));
    age(m, 100);
    assert_int_equal(get(&cx, m, NULL), all);
    assert_int_equal(get(&cx, m, NULL), 0);
    assert_string_equal(names_in(memory(dir)), list);
    free(list);
    remove_tree(dir);
    tarn_context_free(&cx);
}

// Every byte of an entry matters; so do missing and extra ones.
static void test_damage(void **state) {
    tarn_context cx;
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    path_text m, entry;
    path_in(m, dir, "m");
    setenv("XDG_CACHE_HOME", at_path(dir, "cache"), 1);
    save(&cx, m, 0);
    age(m, 10);
    get(&cx, m, NULL);
    char *name = strdup(names_in(memory(dir)));
    name[strlen(name) - 1] = '\0';  // there is one
    path_in(entry, memory(dir), name);
    free(name);
    size_t n = 0;
    char *good = slurp(entry, &n);
    assert_int_equal(n, 80 + COUNT * 32 + 32);
    tarn_error err = {0};
    tarn_store *s;
    tarn_digests_todo todo;
    OK(tarn_store_open(&cx, m, NULL, &s, &err));
    OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
    assert_int_equal(todo.files, 0);
    for (size_t k = 0; k < n; k++) {
        good[k] ^= 0x10;
        write_bytes(entry, good, n);
        OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
        assert_int_equal(todo.files, 1);
        good[k] ^= 0x10;
    }
    for (size_t k = 0; k < n; k += 7) {
        write_bytes(entry, good, k);
        OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
        assert_int_equal(todo.files, 1);
    }
    good = realloc(good, n + 2);
    good[n] = 0;
    write_bytes(entry, good, n + 1);
    OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
    assert_int_equal(todo.files, 1);
    free(good);
    tarn_store_release(s);
    get(&cx, m, NULL);  // computed, and mended
    assert_int_equal(get(&cx, m, NULL), 0);
    remove_tree(dir);
    tarn_context_free(&cx);
}

// The key fits, the header does not: the same file with another name in its header. Before that:
// what was written just now is not remembered.
static void test_other_header(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    setenv("XDG_CACHE_HOME", at_path(dir, "cache"), 1);
    static const char a[] = "{\"x\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    static const char b[] = "{\"y\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}";
    char *m = at_path(dir, "m");
    mkdir(m, 0777);
    struct stat st;
    tarn_digests_todo todo;
    for (int k = 0; k < 2; k++) {
        write_safetensors(at_path(m, "model.safetensors"), k ? b : a, sizeof a - 1, "x", 1);
        tarn_store *s;
        unsigned char out[1][32];
        if (k == 0) {
            for (int again = 0; again < 2; again++) {
                OK(tarn_store_open(&cx, m, NULL, &s, &err));
                OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
                assert_int_equal(todo.files, 1);
                OK(tarn_digests_get(&cx, s, NULL, out, &err));
                tarn_store_release(s);
            }
            age(m, 10);
            stat(at_path(m, "model.safetensors"), &st);
        } else {
            utimensat(AT_FDCWD, at_path(m, "model.safetensors"),
                      (struct timespec[]){st.st_mtim, st.st_mtim}, 0);
        }
        OK(tarn_store_open(&cx, m, NULL, &s, &err));
        OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
        assert_int_equal(todo.files, 1);
        OK(tarn_digests_get(&cx, s, NULL, out, &err));
        OK(tarn_digests_unknown(&cx, s, NULL, &todo, &err));
        assert_int_equal(todo.files, 0);
        tarn_store_release(s);
    }
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_no_place(void **state) {
    tarn_context cx;
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    path_text m;
    path_in(m, dir, "m");
    save(&cx, m, 0);
    age(m, 10);
    uint64_t all = 2 * PIECE + 5 + 49;
    char *home = getenv("HOME") ? strdup(getenv("HOME")) : NULL;
    unsetenv("XDG_CACHE_HOME");
    unsetenv("HOME");
    assert_int_equal(get(&cx, m, NULL), all);
    setenv("HOME", at_path(dir, "absent"), 1);
    assert_int_equal(get(&cx, m, NULL), all);
    write_bytes(at_path(dir, "file"), "x", 1);
    setenv("XDG_CACHE_HOME", at_path(dir, "file"), 1);
    assert_int_equal(get(&cx, m, NULL), all);
    setenv("XDG_CACHE_HOME", "relative", 1);  // not allowed: the home counts
    setenv("HOME", dir, 1);
    assert_int_equal(get(&cx, m, NULL), all);
    assert_int_equal(get(&cx, m, NULL), 0);
    assert_int_equal(access(at_path(dir, ".cache/tarn/digests"), F_OK), 0);
    if (home) {
        setenv("HOME", home, 1);
    }
    free(home);
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void stop_half_way(tarn_progress *p) {
    if (atomic_load(&p->done) > PIECE) {
        tarn_cancel_set(&((tarn_context *)p->arg)->cancel, TARN_STOP_INT);
    }
}

static void test_stop(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    char *dir = scratch();
    path_text m;
    path_in(m, dir, "m");
    setenv("XDG_CACHE_HOME", at_path(dir, "cache"), 1);
    save(&cx, m, 0);
    age(m, 10);
    tarn_store *s;
    unsigned char out[COUNT][32];
    OK(tarn_store_open(&cx, m, NULL, &s, &err));
    cx.progress.arg = &cx;
    cx.progress.show = stop_half_way;
    assert_int_equal(tarn_digests_get(&cx, s, NULL, out, &err), TARN_CANCELLED);
    cx.progress.show = NULL;
    tarn_cancel_clear(&cx.cancel);
    // Changed under the reader: an error that names it, and nothing is remembered.
    age(m, 50);
    assert_int_equal(tarn_digests_get(&cx, s, NULL, out, &err), TARN_ERROR);
    assert_string_equal(err.code, "FileChanged");
    tarn_store_release(s);
    assert_int_not_equal(access(memory(dir), F_OK), 0);
    remove_tree(dir);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),   cmocka_unit_test(test_memory),
        cmocka_unit_test(test_damage),   cmocka_unit_test(test_other_header),
        cmocka_unit_test(test_no_place), cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
