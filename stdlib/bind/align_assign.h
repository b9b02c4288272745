// SPDX-License-Identifier: Apache-2.0
// Assignment and transport for the library's align files. Private to stdlib/bind.
#ifndef TARN_BIND_ALIGN_ASSIGN_H
#define TARN_BIND_ALIGN_ASSIGN_H

#include "vm/lua/host.h"

// assign(cost [n, m], maximise, prices or nil) -> i64 [n], column of each row from 1 or 0; value; f64 prices of
// the longer side
int tarn_bind_align_assign(lua_State *L);
// transport(cost [n, m], a [n], b [m]) -> plan, f64 [n, m]; value
int tarn_bind_align_transport(lua_State *L);

#endif
