// SPDX-License-Identifier: Apache-2.0
// The writer: its bytes against those of the reference writers, what it refuses, and who wins when two write
// to one place. test_writer_faults.c has what it leaves behind when something fails.
#include "tests/vm/store/written.h"

#include <pthread.h>
#include <sys/file.h>

static const made sharded[] = {
    {NAMED("embed"), TARN_F32, 1, {100}},      {NAMED("größe"), TARN_F32, 1, {24}},
    {NAMED("layers.0.a"), TARN_F32, 1, {25}},  {NAMED("layers.0.b"), TARN_F32, 1, {25}},
    {NAMED("layers.1.a"), TARN_F32, 1, {15}},  {NAMED("layers.1.b"), TARN_F32, 1, {25}},
    {NAMED("layers.10.a"), TARN_F32, 1, {10}}, {NAMED("quote\"\\\x01\x7f🙂"), TARN_F32, 1, {2}},
    {NAMED("head"), TARN_F32, 1, {250}},
};

// ---- the bytes ----

static void test_reference_bytes(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    OK(save(&cx, at_path(dir, "m.safetensors"), reference, COUNT(reference), NULL, 0, &err));
    assert_same_file(at_path(dir, "m.safetensors"), GOLDEN "writer/reference.safetensors");
    assert_string_equal(names_in(dir), "m.safetensors ");  // no side file beside a single file
    OK(save(&cx, at_path(dir, "m/"), reference, COUNT(reference), NULL, 0, &err));
    assert_same_file(at_path(dir, "m/model.safetensors"), GOLDEN "writer/reference.safetensors");
    assert_string_equal(names_in(at_path(dir, "m")), "config.json model.safetensors ");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_order_of_tensors(void **state) {  // as given does not matter
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    made turned[COUNT(small)] = {small[1], small[0]};
    tarn_writer *w;
    OK(save(&cx, at_path(dir, "a.safetensors"), small, 2, NULL, 0, &err));
    OK(open_writer(&cx, at_path(dir, "b.safetensors"), turned, 2, NULL, &w, &err));
    for (int i = 0; i < 2; i++) {
        unsigned char data[1024];
        for (size_t k = 0; k < size_of(&turned[i]); k++) {
            data[k] = byte_of(1 - i, k, 0);
        }
        OK(tarn_writer_put(w, i, 0, data, size_of(&turned[i]), &err));
    }
    OK(tarn_writer_commit(w, &err));
    assert_same_file(at_path(dir, "a.safetensors"), at_path(dir, "b.safetensors"));
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_shards(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer_options o = {.max_shard_size = 256};
    OK(save(&cx, at_path(dir, "m"), sharded, COUNT(sharded), &o, 5, &err));
    assert_same_file(at_path(dir, "m/model.safetensors.index.json"), GOLDEN "writer/index.json");
    assert_string_equal(
        names_in(at_path(dir, "m")),
        "config.json model-00001-of-00005.safetensors model-00002-of-00005.safetensors "
        "model-00003-of-00005.safetensors model-00004-of-00005.safetensors "
        "model-00005-of-00005.safetensors model.safetensors.index.json ");
    size_t n = 0, bytes = 0;
    char *file = slurp(at_path(dir, "m/model-00004-of-00005.safetensors"), &n);
    const unsigned char *t = tensor_in(file, n, "layers.1.a", &bytes);
    assert_non_null(t);
    assert_int_equal(bytes, 60);
    for (size_t k = 0; k < bytes; k++) {
        assert_int_equal(t[k], byte_of(4, k, 5));
    }
    assert_null(tensor_in(file, n, "layers.1.b", &bytes));
    free(file);
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_no_tensors(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer *w;
    OK(tarn_writer_open(&cx, at_path(dir, "m.safetensors"), 0, NULL, NULL, &w, &err));
    OK(tarn_writer_commit(w, &err));
    size_t n;
    char *file = slurp(at_path(dir, "m.safetensors"), &n);
    assert_int_equal(n, 40);
    assert_memory_equal(file, "\x20\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}}", 40);
    free(file);
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_metadata(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer *w;
    tarn_writer_options o = {.reserve = 64};
    OK(open_writer(&cx, at_path(dir, "m.safetensors"), small, 2, &o, &w, &err));
    OK(tarn_writer_meta(w, "zebra", "1", &err));
    OK(tarn_writer_meta(w, "before", "of any length: \"quoted\"", &err));
    OK(put_all(w, small, 2, 3, &err));
    OK(tarn_writer_meta(w, "after", "fits into what was kept", &err));
    OK(tarn_writer_meta(w, "zebra", "2", &err));
    char *much = calloc(1, 101);
    memset(much, 'x', 100);
    assert_int_equal(tarn_writer_meta(w, "more", much, &err), TARN_ERROR);
    assert_string_equal(err.code, "HeaderRoom");
    assert_int_equal(tarn_writer_meta(w, "zebra", much, &err), TARN_ERROR);
    OK(tarn_writer_commit(w, &err));
    size_t n;
    char *text = slurp(at_path(dir, "m.safetensors"), &n);
    static const char head[] =
        "{\"__metadata__\":{\"after\":\"fits into what was kept\",\"before\":\"of any "
        "length: \\\"quoted\\\"\",\"format\":\"pt\",\"zebra\":\"2\"},\"b\":";
    assert_memory_equal(text + 8, head, sizeof head - 1);
    assert_int_equal(seed_of(at_path(dir, "m.safetensors")), 3);
    uint64_t header;
    memcpy(&header, text, 8);
    assert_int_equal(header % 8, 0);
    assert_int_equal(text[8 + header - 1], ' ');  // what is left of the reserve
    free(text);
    free(much);
    remove_tree(dir);
    tarn_context_free(&cx);
}

// ---- refusals ----

static void refused(tarn_context *cx, const made *m, int n, const char *code, const char *says) {
    tarn_error err = {0};
    tarn_writer *w;
    char *dir = scratch();
    assert_int_equal(open_writer(cx, at_path(dir, "m"), m, n, NULL, &w, &err), TARN_ERROR);
    assert_string_equal(err.code, code);
    if (!strstr(err.message, says)) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(names_in(dir), "");
    remove_tree(dir);
}

static void test_bad_tensors(void **state) {
    tarn_context cx;
    open_context(&cx, 1, NULL);
    refused(&cx, (made[]){{NAMED("__metadata__"), TARN_F32, 1, {1}}}, 1, "InvalidName",
            "__metadata__");
    refused(&cx, (made[]){{NAMED("x\xff"), TARN_F32, 1, {1}}}, 1, "InvalidName", "x\\xff");
    refused(&cx, (made[]){small[0], small[1], small[0]}, 3, "DuplicateKey",
            "two tensors are called w");
    refused(&cx, (made[]){{NAMED("odd"), TARN_F4, 1, {3}}}, 1, "MisalignedSlice", "odd");
    refused(&cx, (made[]){{NAMED("n"), TARN_F32, 1, {-1}}}, 1, "ValidationOverflow", "n");
    refused(&cx, (made[]){{NAMED("n"), TARN_F32, 2, {INT64_MAX, 8}}}, 1, "ValidationOverflow", "n");
    refused(&cx, (made[]){{NAMED("n"), TARN_U8, 1, {INT64_MAX / 2 + 1}}}, 1, "ValidationOverflow",
            "");
    refused(&cx, (made[]){{NAMED("n"), TARN_U8, 1, {INT64_C(1) << 50}}}, 1, "NoSpace", "1.13 PB");
    tarn_context_free(&cx);
}

static void test_header_too_large(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch(), *name = malloc(60000000);
    memset(name, 'n', 60000000);
    int64_t one = 1;
    tarn_writer_tensor t[2] = {{name, 59999999, TARN_F32, 1, &one},
                               {name, 60000000, TARN_F32, 1, &one}};
    tarn_writer *w;
    assert_int_equal(tarn_writer_open(&cx, at_path(dir, "m"), 2, t, NULL, &w, &err), TARN_ERROR);
    assert_string_equal(err.code, "HeaderTooLarge");
    assert_string_equal(names_in(dir), "");
    free(name);
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_misuse(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer *w;
    OK(open_writer(&cx, at_path(dir, "m"), small, 2, NULL, &w, &err));
    assert_int_equal(tarn_writer_put(w, 1, 60, "12345", 5, &err), TARN_ERROR);
    assert_string_equal(err.code, "OutOfRange");
    static const char *const bad[] = {
        "", ".", "..", "a/b", "model.safetensors", "model.safetensors.index.json"};
    for (int k = 0; k < COUNT(bad); k++) {
        assert_int_equal(tarn_writer_side(w, bad[k], "x", 1, &err), TARN_ERROR);
        assert_string_equal(err.code, "InvalidName");
    }
    assert_int_equal(tarn_writer_side_copy(w, "x", at_path(dir, "absent"), &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "absent: cannot read"));
    OK(tarn_writer_put(w, 0, 0, "1234", 4, &err));
    assert_int_equal(tarn_writer_commit(w, &err), TARN_ERROR);  // data is missing
    assert_string_equal(err.code, "Incomplete");
    assert_string_equal(names_in(dir), "");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_existing(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer_options over = {.overwrite = true},
                        shards = {.overwrite = true, .max_shard_size = 512};
    tarn_writer *w;
    // one file
    char *one = at_path(dir, "m.safetensors");
    OK(save(&cx, one, small, 2, NULL, 1, &err));
    chmod(one, 0640);
    assert_int_equal(save(&cx, one, small, 2, NULL, 2, &err), TARN_ERROR);
    assert_string_equal(err.code, "OutputExists");
    assert_non_null(strstr(err.message, "m.safetensors"));
    assert_non_null(strstr(err.message, "overwrite = true"));
    assert_int_equal(seed_of(one), 1);
    OK(save(&cx, one, small, 2, &over, 2, &err));
    assert_int_equal(seed_of(one), 2);
    struct stat st;
    stat(one, &st);
    assert_int_equal(st.st_mode & 0777, 0640);
    // a folder
    char *m = at_path(dir, "m");
    OK(save(&cx, m, small, 2, NULL, 0, &err));
    chmod(m, 0750);
    assert_int_equal(save(&cx, m, small, 2, NULL, 2, &err), TARN_ERROR);
    assert_string_equal(err.code, "OutputExists");
    assert_int_equal(seed_of(at_path(m, "model.safetensors")), 0);
    // notes of the user's stay, the weights go, side files of the new model win
    write_bytes(at_path(m, "notes.md"), "mine", 4);
    write_bytes(at_path(m, "model-00001-of-00009.safetensors"), "old", 3);
    mkdir(at_path(m, "runs"), 0700);
    mkdir(at_path(m, "runs/1"), 0755);
    write_bytes(at_path(m, "runs/1/log"), "log", 3);
    if (symlink("nowhere", at_path(m, "link")) != 0) {
        fail();
    }
    OK(save(&cx, m, small, 2, &shards, 4, &err));
    assert_string_equal(
        names_in(m),
        "config.json link model-00001-of-00002.safetensors "
        "model-00002-of-00002.safetensors model.safetensors.index.json notes.md runs ");
    size_t n;
    char *text = slurp(at_path(m, "runs/1/log"), &n);
    assert_string_equal(text, "log");
    free(text);
    text = slurp(at_path(m, "config.json"), &n);
    assert_string_equal(text, "{1}");
    free(text);
    stat(at_path(m, "runs"), &st);
    assert_int_equal(st.st_mode & 0777, 0700);
    stat(m, &st);
    assert_int_equal(st.st_mode & 0777, 0750);
    stat(at_path(m, "notes.md"), &st);
    assert_int_equal(st.st_nlink, 1);  // the old folder is gone
    assert_string_equal(names_in(dir), "m m.safetensors ");
    // wrong kinds
    assert_int_equal(save(&cx, one, small, 2, NULL, 1, &err), TARN_ERROR);
    mkdir(at_path(dir, "d.safetensors"), 0777);
    assert_int_equal(save(&cx, at_path(dir, "d.safetensors"), small, 2, &over, 1, &err),
                     TARN_ERROR);
    assert_non_null(strstr(err.message, "a folder"));
    write_bytes(at_path(dir, "plain"), "x", 1);
    assert_int_equal(save(&cx, at_path(dir, "plain"), small, 2, &over, 1, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "this is a file"));
    assert_int_equal(open_writer(&cx, "", small, 2, NULL, &w, &err), TARN_ERROR);
    assert_int_equal(open_writer(&cx, "/", small, 2, &over, &w, &err), TARN_ERROR);
    assert_int_equal(open_writer(&cx, at_path(dir, "absent/.."), small, 2, &over, &w, &err),
                     TARN_ERROR);
    assert_string_equal(names_in(dir), "d.safetensors m m.safetensors plain ");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_folder_without_model(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    cx.warn = catch_warning;
    char *dir = scratch(), *m = at_path(dir, "m");
    mkdir(m, 0777);
    OK(save(&cx, m, small, 2, NULL, 1, &err));  // an empty folder is as good as none
    assert_string_equal(names_in(m), "config.json model.safetensors ");
    unlink(at_path(m, "config.json"));
    unlink(at_path(m, "model.safetensors"));
    write_bytes(at_path(m, "README.md"), "mine", 4);
    write_bytes(at_path(m, ".gitattributes"), "x", 1);
    tarn_writer *w;
    OK(open_writer(&cx, m, small, 2, NULL, &w, &err));
    OK(put_all(w, small, 2, 7, &err));
    OK(tarn_writer_side(w, "README.md", "tarn's", 6, &err));
    OK(tarn_writer_commit(w, &err));
    assert_non_null(strstr(warned, "README.md"));
    assert_string_equal(names_in(m), ".gitattributes README.md model.safetensors ");
    size_t n;
    char *text = slurp(at_path(m, "README.md"), &n);
    assert_string_equal(text, "mine");
    free(text);
    assert_int_equal(seed_of(at_path(m, "model.safetensors")), 7);
    assert_string_equal(names_in(dir), "m ");
    // through a link; and a link that leads nowhere
    if (symlink("m", at_path(dir, "latest")) != 0 || symlink("gone", at_path(dir, "dead")) != 0) {
        fail();
    }
    tarn_writer_options over = {.overwrite = true};
    OK(save(&cx, at_path(dir, "latest/"), small, 2, &over, 9, &err));
    assert_int_equal(seed_of(at_path(m, "model.safetensors")), 9);
    assert_string_equal(names_in(dir), "dead latest m ");
    assert_int_equal(save(&cx, at_path(dir, "dead"), small, 2, &over, 9, &err), TARN_ERROR);
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_parents(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer *w;
    OK(save(&cx, at_path(dir, "a/b//c"), small, 2, NULL, 1, &err));
    assert_int_equal(seed_of(at_path(dir, "a/b/c/model.safetensors")), 1);
    OK(open_writer(&cx, at_path(dir, "a/x/y/z"), small, 2, NULL, &w, &err));
    tarn_writer_abort(w);
    assert_string_equal(names_in(at_path(dir, "a")), "b ");
    write_bytes(at_path(dir, "file"), "x", 1);
    assert_int_equal(save(&cx, at_path(dir, "file/m"), small, 2, NULL, 1, &err), TARN_ERROR);
    assert_string_equal(names_in(dir), "a file ");
    remove_tree(dir);
    tarn_context_free(&cx);
}

// The working directory and mount points stay what they are: files are moved in.
static void test_working_directory(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    cx.warn = catch_warning;
    char *dir = scratch();
    int was = open(".", O_RDONLY | O_DIRECTORY);
    if (chdir(dir) != 0) {
        fail();
    }
    tarn_writer_options shards = {.max_shard_size = 512};
    write_bytes("notes.md", "mine", 4);
    OK(save(&cx, ".", small, 2, &shards, 1, &err));
    assert_string_equal(names_in("."),
                        "config.json model-00001-of-00002.safetensors "
                        "model-00002-of-00002.safetensors model.safetensors.index.json notes.md ");
    shards.overwrite = true;
    assert_int_equal(save(&cx, ".", small, 2, &shards, 1, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "the working directory"));
    // So do those above it: whoever works below would be left in a folder that is gone.
    if (mkdir("above", 0777) != 0 || mkdir("above/here", 0777) != 0 || chdir("above/here") != 0) {
        fail();
    }
    struct stat before, after;
    assert_int_equal(save(&cx, "../..", small, 2, &shards, 1, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "above the working directory"));
    assert_int_equal(stat("..", &before), 0);
    OK(save(&cx, "..", small, 2, &shards, 1, &err));
    assert_int_equal(stat("..", &after), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_string_equal(names_in(".."),
                        "config.json here model-00001-of-00002.safetensors "
                        "model-00002-of-00002.safetensors model.safetensors.index.json ");
    if (fchdir(was) != 0) {
        fail();
    }
    close(was);
    remove_tree(dir);
    tarn_context_free(&cx);
}

// ---- leftovers ----

static void test_stale(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    cx.warn = catch_warning;
    char *dir = scratch();
    mkdir(at_path(dir, ".m.tarn-abcdef.part"), 0777);  // a dead run's
    write_bytes(at_path(dir, ".m.tarn-abcdef.part/model.safetensors"), "x", 1);
    write_bytes(at_path(dir, ".m.safetensors.tarn-abcdef.part"), "x", 1);  // of another target
    write_bytes(at_path(dir, ".m.tarn-abcdefg.part"), "x", 1);             // not one of ours
    mkdir(at_path(dir, ".m.tarn-ghijkl.part"), 0777);                      // a living run's
    int fd = open(at_path(dir, ".m.tarn-ghijkl.part"), O_RDONLY);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    OK(save(&cx, at_path(dir, "m"), small, 2, NULL, 1, &err));
    assert_string_equal(names_in(dir), ".m.safetensors.tarn-abcdef.part .m.tarn-abcdefg.part "
                                       ".m.tarn-ghijkl.part m ");
    OK(save(&cx, at_path(dir, "m.safetensors"), small, 2, NULL, 1, &err));
    assert_string_equal(names_in(dir), ".m.tarn-abcdefg.part .m.tarn-ghijkl.part m m.safetensors ");
    close(fd);
    // killed between the two steps that replace a folder where the file system cannot exchange
    rename(at_path(dir, "m"), at_path(dir, ".m.tarn-mnopqr.old"));
    assert_int_equal(save(&cx, at_path(dir, "m"), small, 2, NULL, 2, &err), TARN_ERROR);
    assert_string_equal(err.code, "OutputExists");
    assert_non_null(strstr(warned, "put back"));
    assert_int_equal(seed_of(at_path(dir, "m/model.safetensors")), 1);
    remove_tree(dir);
    tarn_context_free(&cx);
}

// ---- many writers ----

static void test_two_writers(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    static const char *const names[] = {"m", "m.safetensors"};
    static const char *const weights[] = {"m/model.safetensors", "m.safetensors"};
    for (int k = 0; k < 2; k++) {
        tarn_writer *a, *b;
        OK(open_writer(&cx, at_path(dir, names[k]), small, 2, NULL, &a, &err));
        OK(open_writer(&cx, at_path(dir, names[k]), small, 2, NULL, &b, &err));
        OK(put_all(a, small, 2, 1, &err));
        OK(put_all(b, small, 2, 2, &err));
        OK(tarn_writer_commit(a, &err));
        assert_int_equal(tarn_writer_commit(b, &err), TARN_ERROR);
        assert_string_equal(err.code, "OutputExists");
        assert_int_equal(seed_of(at_path(dir, weights[k])), 1);
    }
    assert_string_equal(names_in(dir), "m m.safetensors ");
    remove_tree(dir);
    tarn_context_free(&cx);
}

typedef struct {
    const char *path;
    int seed;
} contender;

static void *contend(void *arg) {
    const contender *c = arg;
    tarn_context cx;
    tarn_error err = {0};
    tarn_options co = {.threads = 1, .memory = 64 << 20};
    tarn_writer_options over = {.overwrite = true};
    tarn_context_init(&cx, &co, &err);
    intptr_t failed = 0;
    for (int k = 0; k < 30; k++) {
        failed += save(&cx, c->path, small, 2, &over, c->seed, &err) != TARN_OK;
    }
    if (failed) {
        print_message("%s\n", err.message);
    }
    tarn_context_free(&cx);
    return (void *)failed;
}

static void test_contenders(void **state) {
    char *dir = scratch(), path[520];
    snprintf(path, sizeof path, "%s/m", dir);
    mkdir(path, 0777);
    char *notes = at_path(path, "notes.md"), *weights = at_path(path, "model.safetensors");
    write_bytes(notes, "mine", 4);
    contender c[2] = {{path, 1}, {path, 2}};
    pthread_t t[2];
    for (int k = 0; k < 2; k++) {
        pthread_create(&t[k], NULL, contend, &c[k]);
    }
    for (int k = 0; k < 2; k++) {
        void *failed;
        pthread_join(t[k], &failed);
        assert_int_equal((intptr_t)failed, 0);
    }
    int seed = seed_of(weights);
    assert_true(seed == 1 || seed == 2);
    assert_string_equal(names_in(path), "config.json model.safetensors notes.md ");
    assert_string_equal(names_in(dir), "m ");
    remove_tree(dir);
}

typedef struct {
    tarn_writer *w;
    int64_t size;
} many;

enum { TENSORS = 20, PIECE = 300000 };

static tarn_status put_piece(void *arg, int64_t task, int worker, tarn_error *err) {
    const many *m = arg;
    int64_t pieces = (m->size + PIECE - 1) / PIECE, i = task % TENSORS, k = task / TENSORS % pieces;
    int64_t at = k * PIECE, n = m->size - at < PIECE ? m->size - at : PIECE;
    unsigned char *p = malloc((size_t)n);
    for (int64_t q = 0; q < n; q++) {
        p[q] = byte_of((int)i, (size_t)(at + q), 0);
    }
    tarn_status s = tarn_writer_put(m->w, i, (uint64_t)at, p, (uint64_t)n, err);
    free(p);
    return s;
}

static void test_threads(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 4, NULL);
    char *dir = scratch();
    many m = {.size = 1000003};
    tarn_writer_tensor t[TENSORS];
    char names[TENSORS][8];
    for (int i = 0; i < TENSORS; i++) {
        snprintf(names[i], sizeof names[i], "t%02d", i);
        t[i] = (tarn_writer_tensor){names[i], 3, TARN_U8, 1, &m.size};
    }
    tarn_writer_options o = {.max_shard_size = 3000009};
    OK(tarn_writer_open(&cx, at_path(dir, "m"), TENSORS, t, &o, &m.w, &err));
    OK(tarn_pool_run(cx.pool, TENSORS * 4, put_piece, &m, &cx.cancel, &err));
    OK(tarn_writer_commit(m.w, &err));
    for (int i = 0; i < TENSORS; i++) {
        char name[64];
        size_t n = 0, bytes = 0;
        snprintf(name, sizeof name, "m/model-%05d-of-00007.safetensors", i / 3 + 1);
        char *file = slurp(at_path(dir, name), &n);
        assert_non_null(file);
        const unsigned char *x = tensor_in(file, n, names[i], &bytes);
        assert_non_null(x);
        assert_int_equal(bytes, m.size);
        for (size_t k = 0; k < bytes; k++) {
            if (x[k] != byte_of(i, k, 0)) {
                fail_msg("tensor %d byte %zu", i, k);
            }
        }
        free(file);
    }
    remove_tree(dir);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_bytes),
        cmocka_unit_test(test_order_of_tensors),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_no_tensors),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_header_too_large),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_existing),
        cmocka_unit_test(test_folder_without_model),
        cmocka_unit_test(test_parents),
        cmocka_unit_test(test_working_directory),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_two_writers),
        cmocka_unit_test(test_contenders),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}