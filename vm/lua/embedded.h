// SPDX-License-Identifier: Apache-2.0
// The Lua sources inside the binary, by path from the root of the source tree.
#ifndef TARN_LUA_EMBEDDED_H
#define TARN_LUA_EMBEDDED_H

#include <stddef.h>

typedef struct tarn_embedded_file {
    const char *path;  // "scripts/inspect.lua"
    const char *text;  // NUL-terminated
    size_t len;        // bytes without the NUL
} tarn_embedded_file;

extern const tarn_embedded_file tarn_embedded_files[];  // ends with a row of NULL

#endif
