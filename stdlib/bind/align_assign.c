// SPDX-License-Identifier: Apache-2.0
#include "stdlib/bind/align_assign.h"

#include "merge/align/assign.h"
#include "merge/align/transport.h"
#include "stdlib/bind/tensor.h"

// The value at idx in hold[1], contiguous, as f32 where `narrow` and that is its dtype of arithmetic, else as f64.
static void plain_matrix(lua_State *L, int idx, const char *function, bool narrow, tarn_tensor *hold) {
    tarn_error err;
    tarn_error_clear(&err);
    if (!tarn_bind_to_tensor(L, idx)) {
        tarn_lua_error(L, "%s: expected a matrix of costs, got a %s", function, tarn_bind_kind(L, idx));
    }
    tarn_bind_value(L, idx, &hold[0]);
    if (hold[0].rank != 2) {
        tarn_lua_error(L, "%s: expected a matrix of costs, got %s", function,
                       tarn_bind_shape_text(L, hold[0].rank, hold[0].shape));
    }
    tarn_dtype want = narrow && tarn_dtype_compute(hold[0].dtype) == TARN_F32 ? TARN_F32 : TARN_F64;
    if (hold[0].dtype == want && tarn_tensor_contiguous(&hold[0])) {
        tarn_tensor_share(&hold[0], &hold[1]);
        return;
    }
    if (tarn_tensor_cast(tarn_host_context(L), &hold[0], want, &hold[1], &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
}

// The f64 vector of n numbers at idx, kept by hold[1]; what: "prices to start from".
static const double *plain_vector(lua_State *L, int idx, const char *function, const char *what, int64_t n,
                                  tarn_tensor *hold) {
    tarn_error err;
    tarn_error_clear(&err);
    if (!tarn_bind_to_tensor(L, idx)) {
        tarn_lua_error(L, "%s: expected %s, got a %s", function, what, tarn_bind_kind(L, idx));
    }
    tarn_bind_value(L, idx, &hold[0]);
    if (hold[0].rank != 1 || hold[0].shape[0] != n) {
        tarn_lua_error(L, "%s: expected %lld %s, got a tensor of shape %s", function, (long long)n, what,
                       tarn_bind_shape_text(L, hold[0].rank, hold[0].shape));
    }
    if (tarn_tensor_cast(tarn_host_context(L), &hold[0], TARN_F64, &hold[1], &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    return tarn_tensor_data(&hold[1]);
}

static tarn_tensor *fresh(lua_State *L, tarn_dtype dtype, int rank, const int64_t *shape) {
    tarn_error err;
    tarn_error_clear(&err);
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    tarn_lua_account(L, 8 * (size_t)shape[0] * (rank > 1 ? (size_t)shape[1] : 1));
    if (tarn_tensor_new(tarn_host_context(L), dtype, rank, shape, &u->t, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    return &u->t;
}

int tarn_bind_align_assign(lua_State *L) {
    static const char f[] = "align.assignment";
    lua_settop(L, 3);
    tarn_context *cx = tarn_host_context(L);
    tarn_tensor *hold = tarn_bind_hold(L, 5);
    plain_matrix(L, 1, f, true, hold);
    int64_t n = hold[1].shape[0], m = hold[1].shape[1], longer = n > m ? n : m;
    tarn_assignment p = {.rows = n, .cols = m, .dtype = hold[1].dtype, .cost = tarn_tensor_data(&hold[1]),
                         .maximise = lua_toboolean(L, 2)};
    if (!lua_isnil(L, 3)) {
        p.start = plain_vector(L, 3, f, "prices to start from", longer, hold + 2);
    }
    double value = 0;
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_tensor_new(cx, TARN_I32, 1, &n, &hold[4], &err), &err);
    int64_t *index = tarn_tensor_data(fresh(L, TARN_I64, 1, &n));
    double *prices = tarn_tensor_data(fresh(L, TARN_F64, 1, &longer));
    int32_t *match = tarn_tensor_data(&hold[4]);
    TARN_LUA_TRY(L, tarn_assign(cx, &p, match, n > m ? prices : NULL, n > m ? NULL : prices, &value, &err), &err);
    for (int64_t i = 0; i < n; i++) {
        index[i] = match[i] + 1;
    }
    for (int k = 0; k < 5; k++) {
        tarn_tensor_release(&hold[k]);
    }
    lua_pushnumber(L, value);
    lua_insert(L, -2);
    return 3;
}

int tarn_bind_align_transport(lua_State *L) {
    static const char f[] = "align.transport";
    lua_settop(L, 3);
    tarn_tensor *hold = tarn_bind_hold(L, 6);
    plain_matrix(L, 1, f, false, hold);
    const int64_t *shape = hold[1].shape;
    tarn_transport p = {.rows = shape[0], .cols = shape[1], .cost = tarn_tensor_data(&hold[1])};
    p.a = plain_vector(L, 2, f, "masses of rows", shape[0], hold + 2);
    p.b = plain_vector(L, 3, f, "masses of columns", shape[1], hold + 4);
    double value = 0;
    tarn_error err;
    tarn_error_clear(&err);
    double *plan = tarn_tensor_data(fresh(L, TARN_F64, 2, shape));
    TARN_LUA_TRY(L, tarn_transport_solve(tarn_host_context(L), &p, plan, &value, &err), &err);
    for (int k = 0; k < 6; k++) {
        tarn_tensor_release(&hold[k]);
    }
    lua_pushnumber(L, value);
    return 2;
}
