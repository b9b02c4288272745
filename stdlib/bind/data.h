// SPDX-License-Identifier: Apache-2.0
// The opener of the module data. Private to stdlib/bind.
#ifndef TARN_BIND_DATA_H
#define TARN_BIND_DATA_H

#include "stdlib/bind/bind.h"

// As tarn_bind_library; the file's third argument holds the functions of data.c.
tarn_status tarn_bind_data(tarn_host *h, const char *path, tarn_error *err);

#endif
