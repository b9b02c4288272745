// SPDX-License-Identifier: Apache-2.0
// Regular files, opened and read with errors that name them.
#include "vm/format/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

tarn_status tarn_file_open(const char *path, int *fd, uint64_t *bytes, tarn_error *err) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) {
        int why = errno;
        TARN_RAISE(err, why == ENOENT ? "NotFound" : "OpenFailed", "%s: %s", path,
                   why == ENOENT ? "there is no such file" : strerror(why));
    }
    if (fstat(*fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(*fd);
        *fd = -1;
        TARN_RAISE(err, "NotAFile", "%s: %s", path,
                   S_ISDIR(st.st_mode) ? "is a folder, not a file" : "is not a regular file");
    }
    *bytes = (uint64_t)st.st_size;
    return TARN_OK;
}

tarn_status tarn_file_take(int fd, void *dst, size_t n, size_t *got, tarn_error *err) {
    *got = 0;
    while (*got < n) {
        ssize_t k = read(fd, (char *)dst + *got, n - *got);
        if (k < 0 && errno != EINTR) {
            TARN_RAISE(err, "ReadFailed", "cannot be read: %s", strerror(errno));
        }
        if (k == 0) {
            break;
        }
        *got += k > 0 ? (size_t)k : 0;
    }
    return TARN_OK;
}

tarn_status tarn_file_read(tarn_context *cx, const char *path, uint64_t most, char **data,
                           size_t *bytes, tarn_error *err) {
    enum { PIECE = 4 << 20 };  // between two looks at the stop flag
    int fd;
    uint64_t size;
    *data = NULL;
    TARN_TRY(tarn_file_open(path, &fd, &size, err));
    if (size > most) {
        close(fd);
        TARN_RAISE(err, "FileTooLarge", "%s: %llu bytes; at most %llu are read", path,
                   (unsigned long long)size, (unsigned long long)most);
    }
    char *p = tarn_alloc(&cx->budget, (size_t)size + 1);
    tarn_status s = p ? TARN_OK : tarn_raise_nomem(err, path, size);
    size_t done = 0, got = 1;
    while (s == TARN_OK && done < size && got > 0) {
        size_t n = size - done < PIECE ? (size_t)size - done : PIECE;
        s = tarn_file_take(fd, p + done, n, &got, err);
        s = s == TARN_OK ? tarn_cancel_check(&cx->cancel, err) : tarn_error_prefix(err, "%s", path);
        done += got;
    }
    close(fd);
    if (s == TARN_OK && done != size) {
        s = tarn_raise(err, "FileChanged", "%s: became shorter while it was read", path);
    }
    if (s != TARN_OK) {
        tarn_free(&cx->budget, p, (size_t)size + 1);
        return s;
    }
    p[size] = '\0';
    *data = p;
    *bytes = (size_t)size;
    return TARN_OK;
}
