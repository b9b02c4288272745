// SPDX-License-Identifier: Apache-2.0
// The greedy zip for the library's align files. Private to stdlib/bind.
#ifndef TARN_BIND_ALIGN_ZIP_H
#define TARN_BIND_ALIGN_ZIP_H

#include "vm/lua/host.h"

// zip(similarity [n, n], {features of each model, …}, wanted, alpha, {budget of each, …}) -> i64 [n], group of
// each feature from 1, and {budget left of each, …}
int tarn_bind_align_zip(lua_State *L);

#endif
