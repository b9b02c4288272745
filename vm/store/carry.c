// SPDX-License-Identifier: Apache-2.0
// Hard links are made without following symbolic ones; a subfolder is made anew and filled.
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

// The next entry that is not "." or ".."; NULL at the end.
static const char *next(DIR *d) {
    struct dirent *e;
    do {
        e = readdir(d);
    } while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    return e ? e->d_name : NULL;
}

static DIR *open_folder(int base, const char *name) {
    int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && !d) {
        close(fd);
    }
    return d;
}

bool tarn_carry_model(int folder, char *name, bool *others) {
    bool found = false;
    *others = false;
    DIR *d = open_folder(folder, ".");
    for (const char *e; d && (e = next(d)) != NULL;) {
        *others = *others || !is_weight(e);
        // The least name: the same answer every time.
        if (is_model(e) && (!found || strcmp(e, name) < 0)) {
            found = true;
            snprintf(name, 256, "%s", e);
        }
    }
    if (d) {
        closedir(d);
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
    DIR *d = open_folder(from, ".");
    if (!d) {
        return tarn_file_fail(err, errno, path, "read the folder");
    }
    tarn_status s = TARN_OK;
    bool changed = false;
    for (const char *e; s == TARN_OK && (e = next(d)) != NULL;) {
        if (depth > 0 || !is_weight(e)) {
            s = carry_entry(cx, from, to, e, depth, replace, path, &changed, err);
        }
    }
    closedir(d);
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
    DIR *d = depth > DEPTH ? NULL : open_folder(base, name);
    if (!d) {
        return depth > DEPTH ? ELOOP : errno;
    }
    int first = 0;
    for (const char *e; (e = next(d)) != NULL;) {
        int r = remove_at(dirfd(d), e, depth + 1);
        first = first ? first : r;
    }
    closedir(d);
    return unlinkat(base, name, AT_REMOVEDIR) == 0 ? 0 : first ? first : errno;
}

int tarn_carry_remove(int base, const char *name) { return remove_at(base, name, 0); }
