// SPDX-License-Identifier: Apache-2.0
// The history file. Nothing here reports errors: a history that cannot be kept is no reason to
// disturb the session.
#include "vm/repl/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/base/text.h"

enum { KEPT = 1 << 20, ENTRY_MAX = 1 << 16 };  // bytes

static bool make_folders(char *path) {
    for (char *s = path + 1; *s; s++) {
        if (*s == '/') {
            *s = '\0';
            bool made = mkdir(path, 0700) == 0 || errno == EEXIST;
            *s = '/';
            if (!made) {
                return false;
            }
        }
    }
    return true;
}

bool tarn_history_path(char *buf, size_t room) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (state && state[0] == '/') {
        n = snprintf(buf, room, "%s/tarn/history", state);
    } else if (home && home[0] == '/') {
        n = snprintf(buf, room, "%s/.local/state/tarn/history", home);
    }
    return n > 0 && (size_t)n < room && make_folders(buf);
}

// The last KEPT bytes of the file, from the beginning of a line; *cut: there was more before them.
static bool read_tail(const char *path, tarn_text *out, bool *cut) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    bool ok = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    off_t from = ok && st.st_size > KEPT ? st.st_size - KEPT : 0;
    char piece[4096];
    ssize_t n = 0;
    while (ok && out->len < KEPT + sizeof piece &&
           (n = pread(fd, piece, sizeof piece, from + (off_t)out->len)) > 0) {
        tarn_text_add(out, piece, (size_t)n);
        ok = !out->failed;
    }
    if (fd >= 0) {
        close(fd);
    }
    *cut = from > 0;
    return ok && out->data;
}

static void write_all(int fd, const char *s, size_t n) {
    while (n > 0) {
        ssize_t w = write(fd, s, n);
        if (w < 0 && errno != EINTR) {
            return;
        }
        s += w > 0 ? w : 0;
        n -= w > 0 ? (size_t)w : 0;
    }
}

static void rewrite(const char *path, const char *s, size_t n) {
    char temporary[4096];
    int len = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    int fd = len > 0 && (size_t)len < sizeof temporary ? mkstemp(temporary) : -1;  // mode 0600
    if (fd >= 0) {
        write_all(fd, s, n);
        if (close(fd) != 0 || rename(temporary, path) != 0) {
            unlink(temporary);
        }
    }
}

// "\\n" -> newline, "\\\\" -> backslash, in place.
static void unescape(char *s) {
    char *to = s;
    for (; *s; s++) {
        if (*s == '\\' && (s[1] == 'n' || s[1] == '\\')) {
            s++;
            *to++ = *s == 'n' ? '\n' : '\\';
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

void tarn_history_load(const char *path, tarn_budget *b, void (*each)(void *arg, const char *entry),
                       void *arg) {
    tarn_text t;
    bool cut;
    tarn_text_init(&t, b);
    if (read_tail(path, &t, &cut)) {
        char *s = t.data;
        if (cut) {
            s += strcspn(s, "\n");
            s += *s == '\n';
            // Half of it stays, so that this does not happen at every start.
            char *half = t.data + t.len / 2;
            half += strcspn(half, "\n");
            half += *half == '\n';
            rewrite(path, half, (size_t)(t.data + t.len - half));
        }
        while (*s) {
            char *end = s + strcspn(s, "\n");
            char *next = *end ? end + 1 : end;
            *end = '\0';
            unescape(s);
            if (*s) {
                each(arg, s);
            }
            s = next;
        }
    }
    tarn_text_free(&t);
}

void tarn_history_append(const char *path, tarn_budget *b, const char *entry) {
    tarn_text t;
    tarn_text_init(&t, b);
    for (const char *s = entry; *s; s++) {
        tarn_text_add(&t, *s == '\n' ? "\\n" : *s == '\\' ? "\\\\" : s,
                      *s == '\n' || *s == '\\' ? 2 : 1);
    }
    tarn_text_puts(&t, "\n");
    int fd = t.failed || t.len > ENTRY_MAX ? -1
             : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
    if (fd >= 0) {
        write_all(fd, t.data, t.len);
        close(fd);
    }
    tarn_text_free(&t);
}
