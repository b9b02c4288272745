// SPDX-License-Identifier: Apache-2.0
// The writer when things go wrong: what it leaves behind when any one system call fails, when it is stopped,
// and when the disk is full.
#include "tests/vm/store/written.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

// ---- faults: the n-th call of a kind that may fail does ----

static long fault_at;  // calls until the fault; 0: none
static int fault_errno;
static bool no_exchange, no_links;
static bool stutter;  // writes are interrupted, or end after 5 bytes

static bool fault(void) {
    if (fault_at > 0 && --fault_at == 0) {
        errno = fault_errno;
        return true;
    }
    return false;
}

#define CALL(...) (fault() ? -1 : (int)syscall(__VA_ARGS__))
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    static bool again;
    if (stutter && (again = !again)) {
        errno = EINTR;
        return -1;
    }
    n = stutter && n > 5 ? 5 : n;
    return fault() ? -1 : syscall(SYS_pwrite64, fd, p, n, at);
}
ssize_t pwritev2(int fd, const struct iovec *v, int n, off_t at, int flags) {
    return fault() ? -1 : syscall(SYS_pwritev2, fd, v, n, at, 0, flags);
}
int fsync(int fd) { return CALL(SYS_fsync, fd); }
int ftruncate(int fd, off_t n) { return CALL(SYS_ftruncate, fd, n); }
int fallocate(int fd, int mode, off_t at, off_t n) { return CALL(SYS_fallocate, fd, mode, at, n); }
int mkdirat(int fd, const char *name, mode_t mode) { return CALL(SYS_mkdirat, fd, name, mode); }
int fchmod(int fd, mode_t mode) { return CALL(SYS_fchmod, fd, mode); }
int renameat(int a, const char *x, int b, const char *y) {
    return CALL(SYS_renameat2, a, x, b, y, 0);
}
int renameat2(int a, const char *x, int b, const char *y, unsigned flags) {
    if (no_exchange && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return CALL(SYS_renameat2, a, x, b, y, flags);
}
int linkat(int a, const char *x, int b, const char *y, int flags) {
    if (no_links) {
        errno = EPERM;
        return -1;
    }
    return CALL(SYS_linkat, a, x, b, y, flags);
}

// ---- any one call fails ----

static void test_stutter(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    stutter = true;
    OK(save(&cx, at_path(dir, "s.safetensors"), reference, COUNT(reference), NULL, 0, &err));
    stutter = false;
    assert_same_file(at_path(dir, "s.safetensors"), GOLDEN "writer/reference.safetensors");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void sweep(tarn_context *cx, const char *name, const char *weights, int e, bool exists) {
    tarn_error err = {0};
    tarn_writer_options o = {.overwrite = true};
    bool done = false;
    int descriptors = open_descriptors();
    for (long n = 1; !done; n++) {
        char *dir = scratch(), *m = at_path(dir, name);
        if (exists) {
            OK(save(cx, m, small, 2, NULL, 1, &err));
            if (strcmp(name, "m") == 0) {
                write_bytes(at_path(m, "notes.md"), "mine", 4);
            }
        }
        fault_at = n;
        fault_errno = e;
        memset(&err, 0, sizeof err);
        tarn_status s = save(cx, m, small, 2, &o, 2, &err);
        done = fault_at > 0;  // it did not come to the n-th call
        fault_at = 0;
        int seed = seed_of(at_path(dir, weights));
        if (s == TARN_OK) {
            assert_int_equal(seed, 2);
        } else {
            assert_non_null(strstr(err.message, name));
            assert_true(e != ENOSPC || strcmp(err.code, "NoSpace") == 0);
            // Old or new, whole. (New: when the last sync of the folder above failed.)
            assert_true(seed == 2 || seed == (exists ? 1 : -1));
        }
        if (exists && strcmp(name, "m") == 0) {
            assert_int_equal(access(at_path(m, "notes.md"), F_OK), 0);
        }
        char want[64];
        snprintf(want, sizeof want, "%s ", name);
        assert_string_equal(names_in(dir), seed >= 0 ? want : "");
        remove_tree(dir);
        assert_int_equal(open_descriptors(), descriptors);
        assert_true(n < 2000);
    }
}

static void test_faults(void **state) {
    tarn_context cx;
    open_context(&cx, 1, NULL);
    cx.warn = catch_warning;
    static const int codes[] = {ENOSPC, EIO, EACCES};
    for (int k = 0; k < 3; k++) {
        for (int exists = 0; exists < 2; exists++) {
            sweep(&cx, "m", "m/model.safetensors", codes[k], exists);
            sweep(&cx, "m.safetensors", "m.safetensors", codes[k], exists);
        }
    }
    no_exchange = true;
    sweep(&cx, "m", "m/model.safetensors", EIO, true);
    sweep(&cx, "m.safetensors", "m.safetensors", EIO, false);
    no_exchange = false;
    tarn_context_free(&cx);
}

// Into a folder that cannot be renamed: when any call fails, what was moved in already goes again.
static void test_faults_inside(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    cx.warn = catch_warning;
    tarn_writer_options o = {.max_shard_size = 512};
    int was = open(".", O_RDONLY | O_DIRECTORY);
    for (int plain = 0; plain < 2; plain++) {
        no_exchange = plain == 1;
        bool done = false;
        for (long n = 1; !done; n++) {
            char *dir = scratch();
            if (chdir(dir) != 0) {
                fail();
            }
            write_bytes("notes.md", "mine", 4);
            fault_at = n;
            fault_errno = EIO;
            tarn_status s = save(&cx, ".", small, 2, &o, 1, &err);
            done = fault_at > 0;
            fault_at = 0;
            // The last sync fails when all is there.
            bool whole = access("model.safetensors.index.json", F_OK) == 0;
            assert_true(whole || s != TARN_OK);
            assert_string_equal(
                names_in("."),
                !whole ? "notes.md "
                       : "config.json model-00001-of-00002.safetensors "
                         "model-00002-of-00002.safetensors model.safetensors.index.json notes.md ");
            if (fchdir(was) != 0) {
                fail();
            }
            remove_tree(dir);
            assert_true(n < 2000);
        }
    }
    no_exchange = false;
    close(was);
    tarn_context_free(&cx);
}

static void test_no_links(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch(), *m = at_path(dir, "m");
    tarn_writer_options over = {.overwrite = true};
    tarn_writer *w;
    OK(save(&cx, m, small, 2, NULL, 1, &err));
    write_bytes(at_path(m, "notes.md"), "mine", 4);
    no_links = true;
    assert_int_equal(open_writer(&cx, m, small, 2, &over, &w, &err), TARN_ERROR);
    no_links = false;
    assert_non_null(strstr(err.message, "hint"));
    assert_string_equal(names_in(m), "config.json model.safetensors notes.md ");
    assert_string_equal(names_in(dir), "m ");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_cancel(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    tarn_writer *w;
    OK(open_writer(&cx, at_path(dir, "m"), small, 2, NULL, &w, &err));
    OK(put_all(w, small, 2, 1, &err));
    tarn_cancel_set(&cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_writer_commit(w, &err), TARN_CANCELLED);
    assert_string_equal(names_in(dir), "");
    remove_tree(dir);
    tarn_context_free(&cx);
}

static void test_file_size_limit(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    char *dir = scratch();
    struct rlimit was, less;
    getrlimit(RLIMIT_FSIZE, &was);
    less = was;
    less.rlim_cur = 600;
    setrlimit(RLIMIT_FSIZE, &less);
    tarn_status s = save(&cx, at_path(dir, "m"), small, 2, NULL, 1, &err);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(s, TARN_ERROR);
    assert_string_equal(err.code, "NoSpace");
    assert_string_equal(names_in(dir), "");
    remove_tree(dir);
    tarn_context_free(&cx);
}

// A real full disk, where this process may mount one: 77 when it may not.
static int on_small_disk(const char *dir) {
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=1m") != 0) {
        return 77;
    }
    tarn_context cx;
    tarn_error err = {0};
    tarn_options co = {.threads = 1, .memory = 64 << 20};
    tarn_context_init(&cx, &co, &err);
    int64_t too_much = 1 << 20, much = 700000;
    tarn_writer_tensor t = {"w", 1, TARN_U8, 1, &too_much};
    tarn_writer *w;
    char *zeros = calloc(1, 1 << 20);
    if (tarn_writer_open(&cx, at_path(dir, "m"), 1, &t, NULL, &w, &err) == TARN_OK ||
        strcmp(err.code, "NoSpace") != 0 || !strstr(err.message, "1.05 MB are free")) {
        print_message("%s\n", err.message);
        return 1;
    }
    // Room at first, taken by someone else later.
    t.shape = &much;
    if (tarn_writer_open(&cx, at_path(dir, "m"), 1, &t, NULL, &w, &err) != TARN_OK) {
        return 2;
    }
    write_bytes(at_path(dir, "other"), zeros, 500000);
    if (tarn_writer_put(w, 0, 0, zeros, 700000, &err) == TARN_OK ||
        strcmp(err.code, "NoSpace") != 0) {
        return 3;
    }
    tarn_writer_abort(w);
    if (strcmp(names_in(dir), "other ") != 0) {
        return 4;
    }
    // A mounted folder cannot be renamed: the files are moved into it.
    much = 1000;
    if (tarn_writer_open(&cx, dir, 1, &t, NULL, &w, &err) != TARN_OK ||
        tarn_writer_put(w, 0, 0, zeros, 1000, &err) != TARN_OK ||
        tarn_writer_commit(w, &err) != TARN_OK ||
        strcmp(names_in(dir), "model.safetensors other ") != 0) {
        return 5;
    }
    tarn_writer_options over = {.overwrite = true};
    if (tarn_writer_open(&cx, dir, 1, &t, &over, &w, &err) == TARN_OK ||
        !strstr(err.message, "mount point")) {
        return 6;
    }
    free(zeros);
    tarn_context_free(&cx);
    return 0;
}

static void test_full_disk(void **state) {
    char *dir = scratch();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        _exit(on_small_disk(dir));
    }
    int status = 0;
    waitpid(child, &status, 0);
    remove_tree(dir);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: may not mount a tmpfs\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stutter),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_faults_inside),
        cmocka_unit_test(test_no_links),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_file_size_limit),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
