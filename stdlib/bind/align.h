// SPDX-License-Identifier: Apache-2.0
// What the library's align files need of C. Private to stdlib/bind.
#ifndef TARN_BIND_ALIGN_H
#define TARN_BIND_ALIGN_H

#include <lauxlib.h>

// By name, ended by NULL; handed to the files of align with the functions of train.c.
extern const luaL_Reg tarn_bind_align_functions[];
void tarn_bind_align_types(lua_State *L);

#endif
