// SPDX-License-Identifier: Apache-2.0
// Where an output appears: under a temporary name beside its place until all of it is written and
// synced, then under its own at once. Knows names, folders and locks, not what the files hold.
//
//   a file     .NAME.tarn-XXXXXX.part   renamed over NAME
//   a folder   .NAME.tarn-XXXXXX.part/  renamed to NAME; exchanged with NAME when that holds files,
//              which are carried over first (carry.h)
//   a folder that cannot be renamed (a mount point, the working directory, in a folder that one may
//              not write): the temporary folder lies inside, and its files are moved out of it, an
//              index first, so that a half-moved model is never readable. Never over a model.
//
// The temporary is locked (flock) while its writer lives: one that can be locked is a dead run's
// and is removed when the same target is written again. Private to vm/store.
#ifndef TARN_STORE_TARGET_H
#define TARN_STORE_TARGET_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"

typedef struct tarn_target {
    tarn_context *cx;
    char *path;  // as given, without slashes at the end
    char *name;  // last component, links to folders resolved
    char *temp;  // name of the temporary in `base`; "" when there is none (any more)
    bool folder;
    bool overwrite;
    bool inside;  // the temporary lies inside the target
    int base;     // the folder that holds the temporary (and the target, unless `inside`)
    int fd;       // the temporary
    char *made;   // the outermost parent folder made for the target; NULL: none
} tarn_target;

// Checks the place (what is there, whether it may be replaced, room for `bytes` bytes and for files
// of `largest`), and makes the temporary. On failure *t needs no closing.
tarn_status tarn_target_open(tarn_context *cx, const char *path, bool folder, bool overwrite,
                             uint64_t bytes, uint64_t largest, tarn_target *t, tarn_error *err);
// Opens a file of the temporary folder for writing, made when absent; -1 with the error raised.
// `name` is a plain name. For an output of one file: the file itself, whatever the name.
int tarn_target_file(tarn_target *t, const char *name, tarn_error *err);
// Puts the temporary, synced by its writer, under its final name.
tarn_status tarn_target_publish(tarn_target *t, tarn_error *err);
// Removes what is left of the temporary.
void tarn_target_close(tarn_target *t);

// For target.c and publish.c alone:
// OutputExists: "PATH: what", and how to replace it.
tarn_status tarn_target_exists(const tarn_target *t, const char *what, tarn_error *err);
// True when fd, still called `name` in `base`, is locked now. Where the file system has no locks,
// true unless `must`.
bool tarn_target_lock(int base, const char *name, int fd, bool must);

#endif
