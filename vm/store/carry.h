// SPDX-License-Identifier: Apache-2.0
// What to do with the files that already lie where a model folder is to appear. The weights of the
// old model go; every other file, of the model or not, stays unless the new model brings one of the
// same name: it is carried into the new folder as a hard link before the folders are exchanged, so
// that at every moment it lies where its owner expects it. Private to vm/store.
#ifndef TARN_STORE_CARRY_H
#define TARN_STORE_CARRY_H

#include "vm/base/context.h"

// The name of a file in the folder that says a model lies there, into `name` (256 bytes); false
// when there is none. *others: files that would have to be carried. One that cannot be read counts.
bool tarn_carry_model(int base, char *name, bool *others);
// Links everything but weights of `from` into `to`, subfolders too. `replace`: a file that `to` has
// already wins over the old one; else the old one wins and a warning says so. `path` for messages.
tarn_status tarn_carry(tarn_context *cx, int from, int to, bool replace, const char *path,
                       tarn_error *err);
// Removes a file or a folder with all it holds; returns 0 or an errno.
int tarn_carry_remove(int base, const char *name);

#endif
