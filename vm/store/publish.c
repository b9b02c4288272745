// SPDX-License-Identifier: Apache-2.0
// Old or new, never torn: every path through here ends in one rename, except into a folder that
// cannot be renamed, where no model may lie yet. After Pillai et al., "All File Systems Are Not
// Created Equal" (OSDI 2014): sync the files, sync their folder, rename, sync the folder above.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vm/base/text.h"
#include "vm/store/carry.h"
#include "vm/store/file.h"
#include "vm/store/target.h"

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
    return errno == EEXIST
               ? tarn_target_exists(t, "this file appeared while the new one was being written",
                                    err)
               : tarn_file_fail(err, errno, t->path, "rename the new file to this name");
}

// Opens and locks the folder that is to be replaced, whatever it is by now; waits for another
// writer that is replacing it. -1 with the error raised.
static int hold_old(tarn_target *t, tarn_error *err) {
    for (int tries = 0; tries < 2000; tries++) {
        int fd = openat(t->base, t->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
            tarn_file_fail(err, errno, t->path, "replace this folder");
            return -1;
        }
        if (tarn_target_lock(t->base, t->name, fd, false)) {
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
        return tarn_target_exists(t, "a model appeared here while the new one was being written",
                                  err);
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
    return strcmp(name, "model.safetensors.index.json") == 0                ? 1
           : n > weights && strcmp(name + n - weights, ".safetensors") == 0 ? 2
                                                                            : 0;
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
        return tarn_target_exists(t, "a model appeared here while the new one was being written",
                                  err);
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
    TARN_TRY(!t->folder  ? publish_file(t, err)
             : t->inside ? publish_inside(t, err)
                         : publish_folder(t, err));
    if (!t->inside) {
        t->temp[0] = '\0';
    }
    free(t->made);
    t->made = NULL;
    return tarn_file_sync_folder(t->base, t->path, err);
}
