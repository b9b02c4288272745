// SPDX-License-Identifier: Apache-2.0
// Finding the place: what lies there, what may be done about it, and the locked temporary. How the
// temporary takes the place is in publish.c.
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
#include <unistd.h>

#include "vm/base/text.h"
#include "vm/store/carry.h"
#include "vm/store/file.h"

tarn_status tarn_target_exists(const tarn_target *t, const char *what, tarn_error *err) {
    tarn_raise(err, "OutputExists", "%s: %s", t->path, what);
    return tarn_error_append(err,
                             "\nhint: overwrite = true (--force on the command line) replaces it");
}

// ---- names ----

static char *copy(const char *s, size_t n) { return strndup(s, n); }

// Splits into parent and last component: "a/b" → "a", "b"; "b" → ".", "b".
static tarn_status split(tarn_target *t, const char *full, char **parent, tarn_error *err) {
    const char *slash = strrchr(full, '/');
    const char *name = slash ? slash + 1 : full;
    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        TARN_RAISE(err, "InvalidName", "%s: this names no file or folder that could be written",
                   t->path);
    }
    t->name = copy(name, strlen(name));
    *parent = !slash          ? copy(".", 1)
              : slash == full ? copy("/", 1)
                              : copy(full, (size_t)(slash - full));
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
        if (made && !t->made && !(t->made = copy(parent, strlen(parent)))) {
            rmdir(parent);
            return tarn_raise_nomem(err, "a path", strlen(parent));
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

// How many folders above the working directory this one is; -1 when it is none of them.
static int levels_above(const struct stat *folder) {
    int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), levels = -1;
    struct stat here, before = {0};
    for (int k = 0; fd >= 0 && fstat(fd, &here) == 0; k++) {
        levels = same_file(folder, &here) ? k : -1;
        if (levels >= 0 || (k > 0 && same_file(&before, &here))) {
            break;  // found, or the root, which is above itself
        }
        before = here;
        int above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = above;
    }
    if (fd >= 0) {
        close(fd);
    }
    return levels;
}

// Why an existing folder cannot be swapped for another; NULL when it can.
static const char *fixed(const char *full, const char *parent) {
    struct statx x;
    struct stat st;
    if (statx(AT_FDCWD, full, 0, STATX_BASIC_STATS, &x) == 0 &&
        (x.stx_attributes & STATX_ATTR_MOUNT_ROOT)) {
        return "a mount point";
    }
    int levels = stat(full, &st) == 0 ? levels_above(&st) : -1;
    if (levels >= 0) {
        return levels == 0 ? "the working directory" : "above the working directory";
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
        return tarn_target_exists(t, what, err);
    }
    const char *why = fixed(full, parent);
    if (why && holds) {
        TARN_RAISE(
            err, "OutputExists",
            "%s: this folder holds a model (%s) and is %s, so it cannot be "
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
        TARN_RAISE(err, "OutputExists",
                   "%s: this is a file, where a folder is to be written\nhint: a "
                   "name that ends in .safetensors is saved as one file",
                   t->path);
    }
    if (there && !t->folder && !S_ISREG(st.st_mode)) {
        TARN_RAISE(err, "OutputExists", "%s: this is %s, where one file is to be written", t->path,
                   S_ISDIR(st.st_mode) ? "a folder" : "not a plain file");
    }
    there = there || lstat(t->path, &link) == 0;
    // A link to a folder is followed (the folder it leads to is replaced); one to a file is not
    // (the link itself is replaced: it may lead into a cache whose files are shared).
    char *full = there && t->folder ? realpath(t->path, NULL) : copy(t->path, strlen(t->path));
    char *parent = NULL;
    tarn_status s =
        full ? split(t, full, &parent, err) : tarn_file_fail(err, errno, t->path, "resolve it");
    if (s == TARN_OK && there && !t->folder && !t->overwrite) {
        s = tarn_target_exists(t, "this file exists already", err);
    } else if (s == TARN_OK && there && t->folder) {
        s = check_folder(t, full, parent, err);
    } else if (s == TARN_OK && !there) {
        s = make_parents(t, parent, err);
    }
    if (s == TARN_OK) {
        t->base = open(t->inside ? full : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        s = t->base >= 0 ? TARN_OK
                         : tarn_file_fail(err, errno, t->inside ? full : parent, "open the folder");
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
        TARN_RAISE(err, "NoSpace",
                   "%s: needs a file of %s; this process may write files of %s at most "
                   "(ulimit -f)",
                   t->path, tarn_show_bytes(largest, need), tarn_show_bytes(r.rlim_cur, have));
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

bool tarn_target_lock(int base, const char *name, int fd, bool must) {
    struct stat a, b;
    int r;
    while ((r = flock(fd, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {
    }
    return (r == 0 || (!must && errno != EWOULDBLOCK)) &&
           fstatat(base, name, &a, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &b) == 0 &&
           same_file(&a, &b);
}

// A dead run's leftover: ".part" is removed; ".old" (a model that was being replaced on a file
// system that cannot exchange) goes back to its name if nothing is there. Returns whether the
// target is there again.
static bool clean(tarn_target *t, const char *name, bool old) {
    bool back = false;
    int fd = openat(t->base, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    if (tarn_target_lock(t->base, name, fd, true)) {
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
    if (mkdirat(t->base, name, 0777) != 0) {
        return -1;
    }
    int fd = openat(t->base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        int e = errno;
        unlinkat(t->base, name, AT_REMOVEDIR);
        errno = e;
    }
    return fd;
}

static tarn_status open_temp(tarn_target *t, tarn_error *err) {
    char *name = calloc(1, NAME_MAX + 1);
    t->temp = name;  // closing removes what it names
    if (!name) {
        return tarn_raise_nomem(err, "a path", NAME_MAX + 1);
    }
    for (int tries = 0; tries < 100; tries++) {
        errno = EAGAIN;
        int fd = random_name(t, name) ? make_temp(t, name) : -1;
        if (fd < 0) {
            name[0] = '\0';
        }
        if (fd < 0 && (errno == EEXIST || (errno == ENOENT && t->folder))) {
            continue;  // another writer's cleaning may come before the lock
        }
        if (fd < 0) {
            return tarn_file_fail(err, errno, t->path, "make a temporary beside it");
        }
        if (tarn_target_lock(t->base, name, fd, false)) {
            t->fd = fd;
            return TARN_OK;
        }
        close(fd);
        name[0] = '\0';
    }
    TARN_RAISE(err, "IoError", "%s: no temporary could be made beside it", t->path);
}

// Files that lie in the folder to be replaced are carried over by hard links: better to hear now
// that the file system has none.
static tarn_status probe_links(tarn_target *t, tarn_error *err) {
    char model[256];
    bool others = false;
    int old =
        t->folder && !t->inside ? openat(t->base, t->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
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
        tarn_file_fail(err, e, t->path,
                       "carry the other files in this folder over into the new one");
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
