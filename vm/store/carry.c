// SPDX-License-Identifier: Apache-2.0
// Hard links are made without following symbolic ones; a subfolder is made anew and filled. Folders
// are read without asking for memory: when it has run out, the temporary must still be removed, and a
// folder that holds a model must not look empty.
#include "vm/store/carry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vm/store/file.h"

enum { DEPTH = 64 };  // of subfolders

static bool ends(const char *name, const char *with) {
    size_t n = strlen(name), m = strlen(with);
    return n >= m && strcmp(name + n - m, with) == 0;
}

// "…-00001-of-00007.safetensors"
static bool is_shard(const char *name) {
    static const char like[] = "-00001-of-00001.safetensors";
    size_t n = strlen(name), m = sizeof like - 1;
    if (n < m) {
        return false;
    }
    for (size_t i = 0; i < m; i++) {
        char c = name[n - m + i];
        bool digit = like[i] == '0' || like[i] == '1';
        if (digit ? c < '0' || c > '9' : c != like[i]) {
            return false;
        }
    }
    return true;
}

static bool is_weight(const char *name) {
    return strcmp(name, "model.safetensors") == 0 || is_shard(name) ||
           ends(name, ".safetensors.index.json");
}

static bool is_model(const char *name) {
    return ends(name, ".safetensors") || ends(name, ".safetensors.index.json") ||
           strcmp(name, "config.json") == 0 || ends(name, ".gguf") ||
           (strncmp(name, "pytorch_model", 13) == 0 && ends(name, ".bin"));
}

typedef struct {
    int fd;
    int failed;        // errno, once reading failed
    ssize_t at, have;  // bytes of the buffer
    _Alignas(struct dirent64) char buffer[2048];
} folder;

static bool open_folder(folder *d, int base, const char *name) {
    d->failed = 0;
    d->at = d->have = 0;
    d->fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return d->fd >= 0;
}

// The next entry that is not "." or ".."; NULL at the end.
static const char *next(folder *d) {
    for (;;) {
        if (d->at == d->have) {
            d->at = 0;
            d->have = getdents64(d->fd, d->buffer, sizeof d->buffer);
            if (d->have <= 0) {
                d->failed = d->have < 0 ? errno : 0;
                d->have = 0;
                return NULL;
            }
        }
        const struct dirent64 *e = (const void *)(d->buffer + d->at);
        d->at += e->d_reclen;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            return e->d_name;
        }
    }
}

bool tarn_carry_model(int base, char *name, bool *others) {
    bool found = false;
    *others = false;
    folder d;
    bool open = open_folder(&d, base, ".");
    for (const char *e; open && (e = next(&d)) != NULL;) {
        *others = *others || !is_weight(e);
        // The least name: the same answer every time.
        if (is_model(e) && (!found || strcmp(e, name) < 0)) {
            found = true;
            snprintf(name, 256, "%s", e);
        }
    }
    if (!found && (!open || d.failed)) {  // for all we know, one does
        found = true;
        snprintf(name, 256, "the folder cannot be read");
    }
    if (open) {
        close(d.fd);
    }
    return found;
}

static tarn_status carry_folder(tarn_context *cx, int from, int to, int depth, bool replace,
                                const char *path, tarn_error *err);

static tarn_status fail(tarn_error *err, const char *path, const char *name, int e) {
    char verb[300];
    snprintf(verb, sizeof verb, "carry %s over into the new folder", name);
    tarn_file_fail(err, e, path, verb);
    return tarn_error_append(err, "\nhint: move it away, or save into another folder");
}

static tarn_status carry_subfolder(tarn_context *cx, int from, int to, const char *name, int depth,
                                   bool replace, const char *path, tarn_error *err) {
    int old = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int new = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    tarn_status s = old < 0 || new < 0 ? fail(err, path, name, errno)
                                       : carry_folder(cx, old, new, depth + 1, replace, path, err);
    if (old >= 0) {
        close(old);
    }
    if (new >= 0) {
        close(new);
    }
    return s;
}

static tarn_status carry_entry(tarn_context *cx, int from, int to, const char *name, int depth,
                               bool replace, const char *path, bool *changed, tarn_error *err) {
    struct stat old, new;
    if (fstatat(from, name, &old, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? TARN_OK : fail(err, path, name, errno);  // gone meanwhile
    }
    bool there = fstatat(to, name, &new, AT_SYMLINK_NOFOLLOW) == 0;
    if (S_ISDIR(old.st_mode)) {
        if (there && !S_ISDIR(new.st_mode)) {
            return fail(err, path, name, EISDIR);
        }
        if (!there && mkdirat(to, name, old.st_mode & 07777) != 0) {
            return fail(err, path, name, errno);
        }
        *changed = *changed || !there;
        return carry_subfolder(cx, from, to, name, depth, replace, path, err);
    }
    if (there && (replace || (old.st_dev == new.st_dev &&old.st_ino == new.st_ino))) {
        return TARN_OK;
    }
    if (there) {
        tarn_warn(cx, "%s: %s was there before and is kept; overwrite = true would replace it",
                  path, name);
        if (unlinkat(to, name, 0) != 0) {
            return fail(err, path, name, errno);
        }
    }
    *changed = true;
    return linkat(from, name, to, name, 0) == 0 ? TARN_OK : fail(err, path, name, errno);
}

static tarn_status carry_folder(tarn_context *cx, int from, int to, int depth, bool replace,
                                const char *path, tarn_error *err) {
    if (depth > DEPTH) {
        TARN_RAISE(err, "TooDeep", "%s: folders nest deeper than %d", path, DEPTH);
    }
    folder d;
    if (!open_folder(&d, from, ".")) {
        return tarn_file_fail(err, errno, path, "read the folder");
    }
    tarn_status s = TARN_OK;
    bool changed = false;
    for (const char *e; s == TARN_OK && (e = next(&d)) != NULL;) {
        if (depth > 0 || !is_weight(e)) {
            s = carry_entry(cx, from, to, e, depth, replace, path, &changed, err);
        }
    }
    close(d.fd);
    if (s == TARN_OK && d.failed) {
        return tarn_file_fail(err, d.failed, path, "read the folder");
    }
    return s == TARN_OK && changed ? tarn_file_sync_folder(to, path, err) : s;
}

tarn_status tarn_carry(tarn_context *cx, int from, int to, bool replace, const char *path,
                       tarn_error *err) {
    return carry_folder(cx, from, to, 0, replace, path, err);
}

static int remove_at(int base, const char *name, int depth) {
    if (unlinkat(base, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return errno;
    }
    folder d;
    if (depth > DEPTH || !open_folder(&d, base, name)) {
        return depth > DEPTH ? ELOOP : errno;
    }
    int first = 0;
    for (const char *e; (e = next(&d)) != NULL;) {
        int r = remove_at(d.fd, e, depth + 1);
        first = first ? first : r;
    }
    close(d.fd);
    return unlinkat(base, name, AT_REMOVEDIR) == 0 ? 0 : first ? first : errno;
}

int tarn_carry_remove(int base, const char *name) { return remove_at(base, name, 0); }
