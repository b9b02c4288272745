// SPDX-License-Identifier: Apache-2.0
#include "stdlib/bind/align_zip.h"

#include <string.h>

#include "merge/align/zip.h"
#include "stdlib/bind/tensor.h"

static const char function[] = "align.zip";

// Element k (from 1) of the list at idx, at least `low`.
static int64_t listed(lua_State *L, int idx, int64_t k, int64_t low, const char *what) {
    lua_geti(L, idx, (lua_Integer)k);
    int64_t v = tarn_bind_integer(L, -1, function, what);
    lua_pop(L, 1);
    if (v < low) {
        tarn_lua_error(L, "%s: %s = %lld; expected at least %lld", function, what, (long long)v, (long long)low);
    }
    return v;
}

// origin [n], in a userdata that stays on the stack.
static int32_t *origins(lua_State *L, int idx, int models, int64_t n) {
    int32_t *origin = lua_newuserdatauv(L, (size_t)n * sizeof *origin + 1, 0);
    int64_t at = 0;
    for (int m = 0; m < models; m++) {
        int64_t size = listed(L, idx, m + 1, 1, "features of a model");
        if (size > n - at) {
            tarn_lua_error(L, "%s: more features than the %lld rows of the matrix", function, (long long)n);
        }
        for (int64_t k = 0; k < size; k++) {
            origin[at++] = m;
        }
    }
    if (at != n) {
        tarn_lua_error(L, "%s: %lld features for %lld rows of the matrix", function, (long long)at, (long long)n);
    }
    return origin;
}

// A matrix of our own in f32.
static void copy_matrix(const tarn_tensor *from, tarn_tensor *to) {
    float *out = tarn_tensor_data(to);
    if (from->dtype == TARN_F32 && tarn_tensor_contiguous(from)) {
        memcpy(out, tarn_tensor_data(from), tarn_tensor_bytes(from));
        return;
    }
    for (int64_t k = 0; k < tarn_tensor_numel(from); k++) {
        out[k] = (float)tarn_tensor_get(from, k);
    }
}

int tarn_bind_align_zip(lua_State *L) {
    lua_settop(L, 5);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    tarn_context *cx = tarn_host_context(L);
    tarn_tensor *t = tarn_bind_hold(L, 2);
    tarn_bind_value(L, 1, &t[0]);
    int64_t n = t[0].rank == 2 ? t[0].shape[0] : -1;
    if (n < 1 || t[0].shape[1] != n) {
        return tarn_lua_error(L, "%s: expected a square matrix of similarities", function);
    }
    int64_t models = (int64_t)lua_rawlen(L, 2);
    if (models < 1 || models > TARN_ZIP_MODELS) {
        return tarn_lua_error(L, "%s: %lld models; expected 1 … %d", function, (long long)models, TARN_ZIP_MODELS);
    }
    int64_t budget[TARN_ZIP_MODELS];
    for (int64_t m = 0; m < models; m++) {
        budget[m] = listed(L, 5, m + 1, 0, "budget");
    }
    tarn_zip z = {.n = n, .wanted = tarn_bind_integer(L, 3, function, "width"), .models = (int)models,
                  .origin = origins(L, 2, (int)models, n), .alpha = luaL_checknumber(L, 4), .budget = budget};
    tarn_lua_tensor *out = tarn_bind_new_tensor(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_tensor_new(cx, TARN_F32, 2, t[0].shape, &t[1], &err), &err);
    copy_matrix(&t[0], &t[1]);
    TARN_LUA_TRY(L, tarn_tensor_new(cx, TARN_I64, 1, &n, &out->t, &err), &err);
    int64_t *group = tarn_tensor_data(&out->t);
    TARN_LUA_TRY(L, tarn_align_zip(cx, &z, tarn_tensor_data(&t[1]), group, &err), &err);
    tarn_tensor_release(&t[1]);
    for (int64_t k = 0; k < n; k++) {
        group[k]++;
    }
    lua_createtable(L, (int)models, 0);
    for (int64_t m = 0; m < models; m++) {
        lua_pushinteger(L, budget[m]);
        lua_rawseti(L, -2, m + 1);
    }
    return 2;
}
