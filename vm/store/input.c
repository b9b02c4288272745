// SPDX-License-Identifier: Apache-2.0
// Files by pread. Not mapped: read in pieces that fit the L2 cache, the copy costs nothing in a
// memory file system and a fifth of the processor time from a disk's page cache, where the disk is
// the limit anyway; in return, a file that shrinks is an error here and not a signal.
#include "vm/store/input.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// The path that the system has of an open file or folder; false when it cannot be told.
static bool real_path(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX);
    if (n <= 0 || n >= PATH_MAX) {
        return false;
    }
    path[n] = '\0';
    return true;
}

// Asked of the open file, not of its name: no link can be changed in between.
static bool lies_beneath(int dir, int fd) {
    char folder[PATH_MAX], file[PATH_MAX];
    if (!real_path(dir, folder) || !real_path(fd, file)) {
        return false;
    }
    size_t n = strlen(folder);
    n -= folder[n - 1] == '/';  // the root
    return strncmp(folder, file, n) == 0 && file[n] == '/';
}

// Sharded models hold many files open; the soft limit is raised when it is met, not before.
static bool raise_limit(void) {
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur >= r.rlim_max) {
        return false;
    }
    r.rlim_cur = r.rlim_max;
    return setrlimit(RLIMIT_NOFILE, &r) == 0;
}

static int64_t mtime_of(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static tarn_status refuse(int e, const char *path, tarn_error *err) {
    if (e == ENOENT || e == ENOTDIR) {
        TARN_RAISE(err, "NotFound", "%s: there is no such file", path);
    }
    TARN_RAISE(err, "OpenFailed", "%s: cannot be opened: %s%s", path, strerror(e),
               e == EMFILE ? " (raise the limit with ulimit -n)" : "");
}

tarn_status tarn_input_open(tarn_input *f, int dir, const char *name, const char *path,
                            bool beneath, tarn_error *err) {
    // O_NONBLOCK: a FIFO must not make us wait; it means nothing for regular files.
    int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    *f = (tarn_input){.path = path};
    do {
        f->fd = openat(dir, name, flags);
    } while (f->fd < 0 && (errno == EINTR || (errno == EMFILE && raise_limit())));
    struct stat st;
    if (f->fd < 0 || fstat(f->fd, &st) != 0) {
        int e = errno;
        tarn_input_close(f);
        return refuse(e, path, err);
    }
    if (!S_ISREG(st.st_mode)) {
        tarn_input_close(f);
        TARN_RAISE(err, "NotAFile", "%s: is not a regular file", path);
    }
    if (beneath && !lies_beneath(dir, f->fd)) {
        tarn_input_close(f);
        TARN_RAISE(err, "IndexPath", "%s: is a link that leads out of the folder (strict mode)",
                   path);
    }
    f->device = st.st_dev;
    f->inode = st.st_ino;
    f->size = (uint64_t)st.st_size;
    f->mtime = mtime_of(&st);
    f->settled = time(NULL) - st.st_mtim.tv_sec > 1;
    return TARN_OK;
}

void tarn_input_close(tarn_input *f) {
    if (f->fd >= 0) {
        close(f->fd);
        f->fd = -1;
    }
}

tarn_status tarn_input_read(const tarn_input *f, uint64_t at, uint64_t n, void *dst,
                            tarn_error *err) {
    char *to = dst;
    while (n > 0) {
        ssize_t got = pread(f->fd, to, n, (off_t)at);
        if (got > 0) {
            to += got;
            at += (uint64_t)got;
            n -= (uint64_t)got;
        } else if (got == 0) {
            TARN_RAISE(err, "FileChanged",
                       "%s: has become shorter since it was opened: byte %llu is gone", f->path,
                       (unsigned long long)at);
        } else if (errno != EINTR) {
            TARN_RAISE(err, "ReadFailed", "%s: reading at byte %llu failed: %s", f->path,
                       (unsigned long long)at, strerror(errno));
        }
    }
    return TARN_OK;
}

tarn_status tarn_input_check(const tarn_input *f, tarn_error *err) {
    struct stat st;
    if (fstat(f->fd, &st) != 0) {
        TARN_RAISE(err, "ReadFailed", "%s: %s", f->path, strerror(errno));
    }
    if ((uint64_t)st.st_size != f->size) {
        TARN_RAISE(err, "FileChanged", "%s: had %llu bytes when it was opened and now has %llu",
                   f->path, (unsigned long long)f->size, (unsigned long long)st.st_size);
    }
    if (mtime_of(&st) != f->mtime) {
        TARN_RAISE(err, "FileChanged", "%s: was written to since it was opened", f->path);
    }
    return TARN_OK;
}
