// SPDX-License-Identifier: Apache-2.0
// Old or new, never torn: every path through here ends in one rename, except into a folder that
// cannot be renamed, where no model may lie yet. After Pillai et al., "All File Systems Are Not
// Created Equal" (OSDI 2014): sync the files, sync their folder, rename, sync the folder above.
#include "vm/store/target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "vm/base/text.h"
#include "vm/store/carry.h"
#include "vm/store/file.h"

static const char hint_overwrite[] =
    "\nhint: overwrite = true (--force on the command line) replaces it";

static tarn_status exists(const tarn_target *t, const char *what, tarn_error *err) {
    tarn_raise(err, "OutputExists", "%s: %s", t->path, what);
    return tarn_error_append(err, "%s", hint_overwrite);
}

// ---- names ----

static char *copy(const char *s, size_t n) { return strndup(s, n); }

// Splits into parent and last component: "a/b" → "a", "b"; "b" → ".", "b".
static tarn_status split(tarn_target *t, const char *full, char **parent, tarn_error *err) {
    const char *slash = strrchr(full, '/');
    const char *name = slash ? slash + 1 : full;
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        TARN_RAISE(err, "InvalidName", "%s: this names no file or folder that could be written", t->path);
    }
    t->name = copy(name, strlen(name));
    *parent = !slash ? copy(".", 1) : slash == full ? copy("/", 1) : copy(full, (size_t)(slash - full));
    return t->name && *parent ? TARN_OK : tarn_raise_nomem(err, "a path", strlen(full));
}

// The temporary's name, up to the random part, into out[NAME_MAX + 1].
static size_t temp_prefix(const tarn_target *t, char *out) {
    return (size_t)snprintf(out, NAME_MAX + 1, ".%.*s.tarn-", NAME_MAX - 20, t->name);
}

static bool random_name(const tarn_target *t, char *out) {
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    unsigned char r[6];
    size_t n = temp_prefix(t, out);
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r) {
        return false;
    }
    for (size_t i = 0; i < sizeof r; i++) {
        out[n + i] = digits[r[i] & 31];
    }
    memcpy(out + n + sizeof r, ".part", 6);
    return true;
}

// ---- the folder above ----

// Makes missing parents; the outermost one made is remembered so that a failure can take it back.
static tarn_status make_parents(tarn_target *t, char *parent, tarn_error *err) {
    for (char *p = parent + 1;; p++) {
        if (*p != '/' && *p != '\0') {
            continue;
        }
        char c = *p;
        *p = '\0';
        bool made = mkdir(parent, 0777) == 0;
        if (made && !t->made) {
            t->made = copy(parent, strlen(parent));
        }
        if (!made && errno != EEXIST && errno != EISDIR) {
            struct stat st;
            int e = errno;  // a read-only parent that is there says EROFS
            if (stat(parent, &st) != 0 || !S_ISDIR(st.st_mode)) {
                return tarn_file_fail(err, e, parent, "make this folder");
            }
        }
        *p = c;
        if (c == '\0') {
            return TARN_OK;
        }
    }
}

// Takes back the folders made, innermost first; one that holds something by now stays.
static void unmake_parents(tarn_target *t) {
    char *full = t->made ? copy(t->path, strlen(t->path)) : NULL;
    size_t least = t->made ? strlen(t->made) : 0;
    for (char *slash; full && (slash = strrchr(full, '/')) != NULL;) {
        *slash = '\0';
        if (strlen(full) < least || (rmdir(full) != 0 && errno != ENOENT)) {
            break;
        }
    }
    free(full);
}

// ---- what is there ----

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

// Why an existing folder cannot be swapped for another; NULL when it can.
static const char *fixed(const char *full, const char *parent) {
    struct statx x;
    struct stat st, here;
    if (statx(AT_FDCWD, full, 0, STATX_BASIC_STATS, &x) == 0 &&
        (x.stx_attributes & STATX_ATTR_MOUNT_ROOT)) {
        return "a mount point";
    }
    if (stat(full, &st) == 0 && stat(".", &here) == 0 && same_file(&st, &here)) {
        return "the working directory";
    }
    return access(parent, W_OK) == 0 ? NULL : "in a folder that may not be written";
}

static tarn_status check_folder(tarn_target *t, const char *full, const char *parent,
                                tarn_error *err) {
    char model[256];
    bool others;
    int fd = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return tarn_file_fail(err, errno, t->path, "read the folder");
    }
    bool holds = tarn_carry_model(fd, model, &others);
    close(fd);
    if (holds && !t->overwrite) {
        char what[320];
        snprintf(what, sizeof what, "this folder holds a model already (%s)", model);
        return exists(t, what, err);
    }
    const char *why = fixed(full, parent);
    if (why && holds) {
        TARN_RAISE(err, "OutputExists", "%s: this folder holds a model (%s) and is %s, so it cannot be "
                   "replaced in one step\nhint: save into a new folder, or remove the old model first",
                   t->path, model, why);
    }
    t->inside = why != NULL;
    return TARN_OK;
}

// Resolves the path, looks at what is there, makes the folders above. Sets name, inside, base.
static tarn_status look(tarn_target *t, tarn_error *err) {
    struct stat st, link;
    bool there = stat(t->path, &st) == 0;
    if (!there && t->folder && lstat(t->path, &link) == 0) {
        TARN_RAISE(err, "InvalidName", "%s: this is a link that leads nowhere", t->path);
    }
    if (there && t->folder && !S_ISDIR(st.st_mode)) {
        TARN_RAISE(err, "OutputExists", "%s: this is a file, where a folder is to be written\nhint: a "
                   "name that ends in .safetensors is saved as one file", t->path);
    }
    if (there && !t->folder && !S_ISREG(st.st_mode)) {
        TARN_RAISE(err, "OutputExists", "%s: this is %s, where one file is to be written", t->path,
                   S_ISDIR(st.st_mode) ? "a folder" : "not a plain file");
    }
    there = there || lstat(t->path, &link) == 0;
    // A link to a folder is followed (the folder it leads to is replaced); one to a file is not (the
    // link itself is replaced: it may lead into a cache whose files are shared).
    char *full = there && t->folder ? realpath(t->path, NULL) : copy(t->path, strlen(t->path));
    char *parent = NULL;
    tarn_status s = full ? split(t, full, &parent, err) : tarn_file_fail(err, errno, t->path, "resolve it");
    if (s == TARN_OK && there && !t->folder && !t->overwrite) {
        s = exists(t, "this file exists already", err);
    } else if (s == TARN_OK && there && t->folder) {
        s = check_folder(t, full, parent, err);
    } else if (s == TARN_OK && !there) {
        s = make_parents(t, parent, err);
    }
    if (s == TARN_OK) {
        t->base = open(t->inside ? full : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        s = t->base >= 0 ? TARN_OK : tarn_file_fail(err, errno, t->inside ? full : parent, "open the folder");
    }
    free(full);
    free(parent);
    return s;
}

static tarn_status check_room(const tarn_target *t, uint64_t bytes, uint64_t largest,
                              tarn_error *err) {
    struct statvfs v;
    struct rlimit r;
    char need[32], have[32];
    if (getrlimit(RLIMIT_FSIZE, &r) == 0 && r.rlim_cur != RLIM_INFINITY && largest > r.rlim_cur) {
        TARN_RAISE(err, "NoSpace", "%s: needs a file of %s; this process may write files of %s at most "
                   "(ulimit -f)", t->path, tarn_show_bytes(largest, need),
                   tarn_show_bytes(r.rlim_cur, have));
    }
    if (fstatvfs(t->base, &v) != 0 || v.f_blocks == 0) {
        return TARN_OK;  // some network and user-space file systems do not say
    }
    uint64_t available = (uint64_t)v.f_bavail * v.f_frsize;
    if (bytes > available) {
        TARN_RAISE(err, "NoSpace", "%s: needs %s, and %s are free on its file system", t->path,
                   tarn_show_bytes(bytes, need), tarn_show_bytes(available, have));
    }
    return TARN_OK;
}

// ---- temporaries ----

// Locks fd; false when someone else holds the lock. Where there are no locks, `none` says so.
static bool lock(int fd, bool *none) {
    int r;
    while ((r = flock(fd, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {
    }
    *none = r != 0 && errno != EWOULDBLOCK;
    return r == 0;
}

static bool still_named(int base, const char *name, int fd) {
    struct stat a, b;
    return fstatat(base, name, &a, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &b) == 0 && same_file(&a, &b);
}

// Returns whether the target is there again. A dead run's leftover: ".part" is removed, ".old" (a model that was being replaced on a file system
// that cannot exchange) goes back to its name if nothing is there.
static bool clean(tarn_target *t, const char *name, bool old) {
    bool none, back = false;
    int fd = openat(t->base, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    if (lock(fd, &none) && still_named(t->base, name, fd)) {
        if (!old || faccessat(t->base, t->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            tarn_carry_remove(t->base, name);
        } else if ((back = renameat(t->base, name, t->base, t->name) == 0)) {
            tarn_warn(t->cx, "%s: put back as it was before a run that was killed", t->path);
        }
    }
    close(fd);
    return back;
}

static bool clean_stale(tarn_target *t) {
    char prefix[NAME_MAX + 1];
    size_t n = temp_prefix(t, prefix);
    int fd = openat(t->base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    bool back = false;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        bool part = len == n + 11 && strcmp(e->d_name + n + 6, ".part") == 0;
        bool old = len == n + 10 && strcmp(e->d_name + n + 6, ".old") == 0;
        if ((part || old) && memcmp(e->d_name, prefix, n) == 0) {
            back = clean(t, e->d_name, old) || back;
        }
    }
    closedir(d);
    return back;
}

static int make_temp(const tarn_target *t, const char *name) {
    if (!t->folder) {
        return openat(t->base, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    }
    return mkdirat(t->base, name, 0777) != 0
               ? -1
               : openat(t->base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static tarn_status open_temp(tarn_target *t, tarn_error *err) {
    char name[NAME_MAX + 1];
    for (int tries = 0; tries < 100; tries++) {
        bool none;
        errno = EAGAIN;
        int fd = random_name(t, name) ? make_temp(t, name) : -1;
        if (fd < 0 && (errno == EEXIST || (errno == ENOENT && t->folder))) {
            continue;  // another writer's cleaning may come before the lock
        }
        if (fd < 0) {
            return tarn_file_fail(err, errno, t->path, "make a temporary beside it");
        }
        if ((lock(fd, &none) || none) && still_named(t->base, name, fd)) {
            t->fd = fd;
            t->temp = copy(name, strlen(name));
            return t->temp ? TARN_OK : tarn_raise_nomem(err, "a path", strlen(name));
        }
        close(fd);
    }
    TARN_RAISE(err, "IoError", "%s: no temporary could be made beside it", t->path);
}

// Files that lie in the folder to be replaced are carried over by hard links: better to hear now that
// the file system has none.
static tarn_status probe_links(tarn_target *t, tarn_error *err) {
    char model[256];
    bool others = false;
    int old = t->folder && !t->inside
                  ? openat(t->base, t->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (old >= 0) {
        tarn_carry_model(old, model, &others);
        close(old);
    }
    if (!others) {
        return TARN_OK;
    }
    int fd = openat(t->fd, "probe", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    bool good = fd >= 0 && linkat(t->fd, "probe", t->fd, "link", 0) == 0;
    int e = errno;
    if (fd >= 0) {
        close(fd);
    }
    unlinkat(t->fd, "link", 0);
    unlinkat(t->fd, "probe", 0);
    if (!good) {
        tarn_file_fail(err, e, t->path, "carry the other files in this folder over into the new one");
        return tarn_error_append(err, "\nhint: save into a new folder");
    }
    return TARN_OK;
}

tarn_status tarn_target_open(tarn_context *cx, const char *path, bool folder, bool overwrite,
                             uint64_t bytes, uint64_t largest, tarn_target *t, tarn_error *err) {
    *t = (tarn_target){.cx = cx, .folder = folder, .overwrite = overwrite, .base = -1, .fd = -1};
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') {
        n--;
    }
    t->path = copy(path, n);
    tarn_status s = t->path ? TARN_OK : tarn_raise_nomem(err, "a path", n);
    if (s == TARN_OK && n == 0) {
        s = tarn_raise(err, "InvalidName", "the name of the output is empty");
    }
    s = s == TARN_OK ? look(t, err) : s;
    if (s == TARN_OK && clean_stale(t)) {
        close(t->base);
        free(t->name);
        t->base = -1;
        t->name = NULL;
        s = look(t, err);
    }
    s = s == TARN_OK ? check_room(t, bytes, largest, err) : s;
    s = s == TARN_OK ? open_temp(t, err) : s;
    s = s == TARN_OK ? probe_links(t, err) : s;
    if (s != TARN_OK) {
        tarn_target_close(t);
    }
    return s;
}

int tarn_target_file(tarn_target *t, const char *name, tarn_error *err) {
    int fd = t->folder ? openat(t->fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666)
                       : fcntl(t->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        int e = errno;
        tarn_text shown;
        tarn_text_init(&shown, &t->cx->budget);
        tarn_text_printf(&shown, "%s/%s", t->path, name);
        tarn_file_fail(err, e, t->folder && shown.data ? shown.data : t->path, "make this file");
        tarn_text_free(&shown);
    }
    return fd;
}

// ---- publishing ----

static tarn_status publish_file(tarn_target *t, tarn_error *err) {
    struct stat old;
    bool there = fstatat(t->base, t->name, &old, AT_SYMLINK_NOFOLLOW) == 0;
    if (t->overwrite) {
        if (there && S_ISREG(old.st_mode) && fchmod(t->fd, old.st_mode & 07777) != 0) {
            return tarn_file_fail(err, errno, t->path, "keep the permissions");
        }
        if (renameat(t->base, t->temp, t->base, t->name) == 0) {
            return TARN_OK;
        }
    } else if (renameat2(t->base, t->temp, t->base, t->name, RENAME_NOREPLACE) == 0) {
        return TARN_OK;
    } else if (errno == EINVAL || errno == ENOSYS) {  // a link is as good: it never replaces
        if (linkat(t->base, t->temp, t->base, t->name, 0) == 0) {
            unlinkat(t->base, t->temp, 0);
            return TARN_OK;
        }
    }
    return errno == EEXIST ? exists(t, "this file appeared while the new one was being written", err)
                           : tarn_file_fail(err, errno, t->path, "rename the new file to this name");
}

// Opens and locks the folder that is to be replaced, whatever it is by now; waits for another writer
// that is replacing it. -1 with the error raised.
static int hold_old(tarn_target *t, tarn_error *err) {
    for (int tries = 0; tries < 2000; tries++) {
        bool none;
        int fd = openat(t->base, t->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            tarn_file_fail(err, errno, t->path, "replace this folder");
            return -1;
        }
        if ((lock(fd, &none) || none) && still_named(t->base, t->name, fd)) {
            return fd;
        }
        close(fd);
        if (tarn_cancel_check(&t->cx->cancel, err) != TARN_OK) {
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    tarn_raise(err, "OutputBusy", "%s: another process keeps this folder locked", t->path);
    return -1;
}

// The temporary takes the name; the old folder gets the temporary's. Where the file system cannot
// exchange, in two steps, with the old folder under a name from which clean() brings it back.
static int exchange(tarn_target *t) {
    if (renameat2(t->base, t->temp, t->base, t->name, RENAME_EXCHANGE) == 0) {
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS) {
        return errno;
    }
    char old[NAME_MAX + 1];
    snprintf(old, sizeof old, "%.*s.old", (int)(strlen(t->temp) - strlen(".part")), t->temp);
    if (renameat(t->base, t->name, t->base, old) != 0) {
        return errno;
    }
    if (renameat(t->base, t->temp, t->base, t->name) != 0) {
        int e = errno;
        renameat(t->base, old, t->base, t->name);
        return e;
    }
    memcpy(t->temp, old, strlen(old) + 1);
    return 0;
}

static tarn_status swap(tarn_target *t, int old, tarn_error *err) {
    char model[256];
    bool others;
    if (!t->overwrite && tarn_carry_model(old, model, &others)) {
        return exists(t, "a model appeared here while the new one was being written", err);
    }
    struct stat st;
    if (fstat(old, &st) == 0 && fchmod(t->fd, st.st_mode & 07777) != 0) {
        return tarn_file_fail(err, errno, t->path, "keep the permissions");
    }
    TARN_TRY(tarn_carry(t->cx, old, t->fd, t->overwrite, t->path, err));
    int e = exchange(t);
    if (e != 0) {
        return tarn_file_fail(err, e, t->path, "replace this folder");
    }
    // Done. What appeared in the old folder since it was carried over comes too.
    tarn_error ignored;
    if (tarn_carry(t->cx, old, t->fd, true, t->path, &ignored) != TARN_OK) {
        tarn_warn(t->cx, "%s; the old folder is kept as %s", ignored.message, t->temp);
        t->temp[0] = '\0';
    } else if ((e = tarn_carry_remove(t->base, t->temp)) != 0) {
        tarn_warn(t->cx, "%s: the replaced model could not be removed and lies beside it as %s",
                  t->path, t->temp);
    }
    return TARN_OK;
}

static tarn_status publish_folder(tarn_target *t, tarn_error *err) {
    // A rename replaces an empty folder and no other.
    if (renameat(t->base, t->temp, t->base, t->name) == 0) {
        return TARN_OK;
    }
    if (errno != ENOTEMPTY && errno != EEXIST) {
        return tarn_file_fail(err, errno, t->path, "rename the new folder to this name");
    }
    int old = hold_old(t, err);
    if (old < 0) {
        return err ? err->status : TARN_ERROR;
    }
    tarn_status s = swap(t, old, err);
    close(old);
    return s;
}

// 0: side files, 1: the index, 2: the weights.
static int rank_of(const char *name) {
    size_t n = strlen(name), weights = strlen(".safetensors");
    return strcmp(name, "model.safetensors.index.json") == 0                    ? 1
           : n > weights && strcmp(name + n - weights, ".safetensors") == 0 ? 2 : 0;
}

static tarn_status move_out(tarn_target *t, const char *name, tarn_text *moved, tarn_error *err) {
    tarn_text_add(moved, name, strlen(name) + 1);
    if (moved->failed) {
        return tarn_raise_nomem(err, "a list of files", moved->len);
    }
    if (renameat2(t->fd, name, t->base, name, RENAME_NOREPLACE) == 0) {
        return TARN_OK;
    }
    if ((errno == EINVAL || errno == ENOSYS) && linkat(t->fd, name, t->base, name, 0) == 0) {
        return TARN_OK;  // the other name goes with the temporary
    }
    int e = errno;
    moved->len -= strlen(name) + 1;
    if (e == EEXIST && rank_of(name) == 0) {
        tarn_warn(t->cx, "%s: %s was there before and is kept", t->path, name);
        return TARN_OK;
    }
    return tarn_file_fail(err, e, t->path, "move the new files into this folder");
}

// Moves the files of one rank; their names, NUL-ended, are added to `moved`.
static tarn_status move_rank(tarn_target *t, int rank, tarn_text *moved, tarn_error *err) {
    int fd = openat(t->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        tarn_file_fail(err, errno, t->path, "read the temporary folder");
        if (fd >= 0) {
            close(fd);
        }
        return TARN_ERROR;
    }
    tarn_status s = TARN_OK;
    for (struct dirent *e; s == TARN_OK && (e = readdir(d)) != NULL;) {
        if (e->d_name[0] != '.' || (e->d_name[1] != '\0' && strcmp(e->d_name, "..") != 0)) {
            s = rank_of(e->d_name) == rank ? move_out(t, e->d_name, moved, err) : TARN_OK;
        }
    }
    closedir(d);
    return s;
}

static tarn_status publish_inside(tarn_target *t, tarn_error *err) {
    char model[256];
    bool others;
    if (tarn_carry_model(t->base, model, &others)) {
        return exists(t, "a model appeared here while the new one was being written", err);
    }
    tarn_text moved;
    tarn_text_init(&moved, &t->cx->budget);
    tarn_status s = TARN_OK;
    for (int rank = 0; rank < 3 && s == TARN_OK; rank++) {
        s = move_rank(t, rank, &moved, err);
    }
    for (size_t i = 0; s != TARN_OK && i < moved.len; i += strlen(moved.data + i) + 1) {
        unlinkat(t->base, moved.data + i, 0);
    }
    tarn_text_free(&moved);
    return s;
}

tarn_status tarn_target_publish(tarn_target *t, tarn_error *err) {
    if (t->folder) {
        TARN_TRY(tarn_file_sync_folder(t->fd, t->path, err));
    }
    TARN_TRY(!t->folder ? publish_file(t, err) : t->inside ? publish_inside(t, err)
                                                           : publish_folder(t, err));
    if (!t->inside) {
        t->temp[0] = '\0';
    }
    free(t->made);
    t->made = NULL;
    return tarn_file_sync_folder(t->base, t->path, err);
}

void tarn_target_close(tarn_target *t) {
    if (t->temp && t->temp[0] != '\0') {
        tarn_carry_remove(t->base, t->temp);
    }
    if (t->fd >= 0) {
        close(t->fd);
    }
    if (t->base >= 0) {
        close(t->base);
    }
    unmake_parents(t);
    free(t->path);
    free(t->name);
    free(t->temp);
    free(t->made);
    memset(t, 0, sizeof *t);
    t->base = t->fd = -1;
}
