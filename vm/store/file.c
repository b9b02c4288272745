// SPDX-License-Identifier: Apache-2.0
// A failed fsync is final: the system may have dropped the bytes and will not say so twice, so
// nothing here retries one.
#include "vm/store/file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

// Linux 6.14: write through the page cache without keeping the pages. Older headers lack the name,
// older systems and some file systems (tmpfs) refuse the flag.
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080
#endif

enum {
    ONCE = 1 << 30,       // bytes that one call may move
    COLD_LEAST = 1 << 18  // smaller pieces share pages with their neighbours
};

static const char *code_of(int e) { return e == ENOSPC || e == EDQUOT ? "NoSpace" : "IoError"; }

tarn_status tarn_file_fail(tarn_error *err, int e, const char *path, const char *verb) {
    char text[128];
    return tarn_raise(err, code_of(e), "%s: cannot %s: %s", path, verb,
                      strerror_r(e, text, sizeof text));
}

static ssize_t write_some(int fd, uint64_t at, const void *p, size_t n, bool cold) {
    if (cold && n >= COLD_LEAST) {
        struct iovec v = {(void *)p, n};
        ssize_t r = pwritev2(fd, &v, 1, (off_t)at, RWF_DONTCACHE);
        if (r >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS)) {
            return r;
        }
    }
    return pwrite(fd, p, n, (off_t)at);
}

tarn_status tarn_file_write(int fd, uint64_t at, const void *p, uint64_t n, bool cold,
                            const char *path, tarn_error *err) {
    const char *from = p;
    while (n > 0) {
        ssize_t r = write_some(fd, at, from, n < ONCE ? (size_t)n : (size_t)ONCE, cold);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            int e = r < 0 ? errno : ENOSPC;
            char text[128];
            TARN_RAISE(err, code_of(e),
                       "%s: cannot write %" PRIu64 " bytes at byte %" PRIu64 ": %s", path, n, at,
                       strerror_r(e, text, sizeof text));
        }
        from += r;
        at += (uint64_t)r;
        n -= (uint64_t)r;
    }
    return TARN_OK;
}

tarn_status tarn_file_finish(int fd, const char *path, tarn_error *err) {
    int e = fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP ? errno : 0;
    if (close(fd) != 0 && e == 0 && errno != EINTR) {
        e = errno;
    }
    return e == 0 ? TARN_OK : tarn_file_fail(err, e, path, "sync");
}

tarn_status tarn_file_sync_folder(int fd, const char *path, tarn_error *err) {
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        return tarn_file_fail(err, errno, path, "sync");
    }
    return TARN_OK;
}
