// SPDX-License-Identifier: Apache-2.0
// The opener of the modules train, eval and search. Private to stdlib/bind.
#ifndef TARN_BIND_TRAIN_H
#define TARN_BIND_TRAIN_H

#include "stdlib/bind/bind.h"

// As tarn_bind_library; the file's third argument holds the functions of train.c.
tarn_status tarn_bind_train(tarn_host *h, const char *path, tarn_error *err);

#endif
