// SPDX-License-Identifier: Apache-2.0
// Methods with a trailing underscore: they write into a tensor in memory. The value is computed as
// the pure method would, then stored with one rounding to the tensor's dtype. Tensors of files and
// recorded ones refuse; a plan that holds the tensor notices (storage version).
#include <string.h>

#include "stdlib/bind/tensor.h"

// A tensor in memory that may be written to; raises for planned and recorded ones.
static tarn_lua_tensor *writable(lua_State *L, int idx, const char *function) {
    tarn_lua_tensor *u = tarn_lua_check(L, idx, "tensor");
    tarn_desc d;
    tarn_bind_desc(L, idx, function, &d);
    if (u->node) {
        tarn_lua_error(L, u->recorded ? "%s: a tensor inside a recorded function cannot be changed"
                                      : "%s: a planned tensor (of a file) cannot be changed; load it first, "
                                        "with :load()", function);
    }
    if (u->t.storage->frozen) {
        tarn_lua_error(L, "%s: the tensor is part of a model or of a compiled function, which do not change; :clone() it first", function);
    }
    for (int k = 0; k < u->t.rank; k++) {
        if (u->t.stride[k] == 0 && u->t.shape[k] > 1) {
            tarn_lua_error(L, "%s: elements of an expanded tensor share memory; :clone() it first",
                           function);
        }
    }
    return u;
}

// Copies v, contiguous and of the same shape and dtype, into the view t.
static void store(tarn_tensor *t, const tarn_tensor *v) {
    size_t size = (size_t)tarn_dtype_get(t->dtype)->bits / 8;
    int64_t at[TARN_MAX_RANK] = {0}, n = tarn_tensor_numel(t), row = t->rank ? t->shape[t->rank - 1] : 1;
    int64_t step = t->rank ? t->stride[t->rank - 1] : 1;
    const char *from = tarn_tensor_data(v);
    t->storage->version++;
    for (int64_t i = 0; i < n; i += row) {
        int64_t o = t->offset;
        for (int k = 0; k + 1 < t->rank; k++) {
            o += at[k] * t->stride[k];
        }
        char *to = (char *)t->storage->data + o * (int64_t)size;
        if (step == 1) {
            memcpy(to, from, (size_t)row * size);
            from += row * (int64_t)size;
        } else {
            for (int64_t j = 0; j < row; j++, from += size) {
                memcpy(to + j * step * (int64_t)size, from, size);
            }
        }
        for (int k = t->rank - 2; k >= 0 && ++at[k] == t->shape[k]; k--) {
            at[k] = 0;
        }
    }
}

// Stores the value on top into the tensor at 1 and returns that.
static int assign(lua_State *L, const char *function) {
    tarn_lua_tensor *u = writable(L, 1, function);
    tarn_error err;
    tarn_desc d;
    tarn_bind_desc(L, -1, function, &d);
    if (!tarn_shape_equal(d.rank, d.shape, u->t.rank, u->t.shape)) {
        tarn_bind_broadcast(L, -1, u->t.rank, u->t.shape);
    }
    tarn_tensor *t = tarn_bind_hold(L, 2);
    tarn_bind_value(L, -2, &t[0]);
    // Always a copy: the value may share the memory that is written.
    TARN_LUA_TRY(L, tarn_tensor_cast(tarn_host_context(L), &t[0], u->t.dtype, &t[1], &err), &err);
    store(&u->t, &t[1]);
    tarn_tensor_release(&t[0]);
    tarn_tensor_release(&t[1]);
    lua_settop(L, 1);
    return 1;
}

static int changed_by(lua_State *L, const char *function, const tarn_op *op) {
    static const int idx[2] = {1, 2};
    writable(L, 1, function);
    lua_settop(L, 2);
    tarn_bind_apply(L, op, 2, idx, NULL);
    return assign(L, function);
}
static int l_add_(lua_State *L) { return changed_by(L, "tensor:add_", &tarn_op_add); }
static int l_sub_(lua_State *L) { return changed_by(L, "tensor:sub_", &tarn_op_sub); }
static int l_mul_(lua_State *L) { return changed_by(L, "tensor:mul_", &tarn_op_mul); }
static int l_div_(lua_State *L) { return changed_by(L, "tensor:div_", &tarn_op_div); }

static int l_copy_(lua_State *L) {
    writable(L, 1, "tensor:copy_");
    lua_settop(L, 2);
    return assign(L, "tensor:copy_");
}

static int l_fill_(lua_State *L) {
    tarn_desc d;
    writable(L, 1, "tensor:fill_");
    lua_settop(L, 2);
    tarn_bind_desc(L, 2, "tensor:fill_", &d);
    if (d.rank != 0) {
        return tarn_lua_error(L, "tensor:fill_: expected a number (tensor:copy_ takes tensors)");
    }
    return assign(L, "tensor:fill_");
}

static int l_zero_(lua_State *L) {
    lua_settop(L, 1);
    lua_pushinteger(L, 0);
    return assign(L, "tensor:zero_");
}

// t:set_(index, v): what brackets would name, one element too.
static int l_set_(lua_State *L) {
    const tarn_lua_tensor *u = writable(L, 1, "tensor:set_");
    lua_settop(L, 3);
    int type = lua_type(L, 2);
    if (type != LUA_TTABLE && type != LUA_TNUMBER) {
        return tarn_lua_error(L, "tensor:set_: expected an index: t:set_({1, 2}, v)");
    }
    // Single indices become ranges of one, so that the result is a view of the tensor.
    int rank = u->t.rank;
    lua_createtable(L, rank, 0);
    for (int k = 1; k <= (type == LUA_TTABLE ? (int)lua_rawlen(L, 2) : 1); k++) {
        if (type == LUA_TTABLE) {
            lua_rawgeti(L, 2, k);
        } else {
            lua_pushvalue(L, 2);
        }
        if (lua_type(L, -1) == LUA_TNUMBER) {
            lua_createtable(L, 2, 0);
            lua_pushvalue(L, -2);
            lua_rawseti(L, -2, 1);
            lua_pushvalue(L, -2);
            lua_rawseti(L, -2, 2);
            lua_remove(L, -2);
        }
        lua_rawseti(L, 4, k);
    }
    tarn_bind_select(L, 1, 4);
    lua_pushcfunction(L, l_copy_);
    lua_insert(L, 5);
    lua_pushvalue(L, 3);
    lua_call(L, 2, 0);
    lua_settop(L, 1);
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:add_", "t:add_(x) -> t", "Adds a number or a tensor into t, in place. Not for tensors of files.", "print(tensor { 1, 2 }:add_(1))\n-- > f32[2]\n-- > [2., 3.]"}, l_add_},
    {{"tensor:sub_", "t:sub_(x) -> t", "Subtracts a number or a tensor from t, in place.", "print(tensor { 1, 2 }:sub_(1))\n-- > f32[2]\n-- > [0., 1.]"}, l_sub_},
    {{"tensor:mul_", "t:mul_(x) -> t", "Multiplies t by a number or a tensor, in place.", "print(tensor { 1, 2 }:mul_(2))\n-- > f32[2]\n-- > [2., 4.]"}, l_mul_},
    {{"tensor:div_", "t:div_(x) -> t", "Divides t by a number or a tensor, in place.", "print(tensor { 1, 2 }:div_(2))\n-- > f32[2]\n-- > [0.5000, 1.0000]"}, l_div_},
    {{"tensor:copy_", "t:copy_(x) -> t", "Overwrites t with a tensor (broadcast to its shape) or a number, rounded once to t's dtype.",
      "local t = tensor.zeros({2, 2})\nt[1]:copy_(tensor { 5, 6 })\nprint(t)\n-- > f32[2, 2]\n-- > [[5., 6.],\n-- >  [0., 0.]]"}, l_copy_},
    {{"tensor:fill_", "t:fill_(v) -> t", "Overwrites every element with a number.", "print(tensor.zeros(2):fill_(7))\n-- > f32[2]\n-- > [7., 7.]"}, l_fill_},
    {{"tensor:zero_", "t:zero_() -> t", "Overwrites every element with zero.", "print(tensor.ones(2):zero_())\n-- > f32[2]\n-- > [0., 0.]"}, l_zero_},
    {{"tensor:set_", "t:set_(index, v) -> t", "Overwrites what t[index] names (one element, or ranges) with a number or a tensor.",
      "print(tensor.zeros({2, 2}):set_({1, 2}, 3))\n-- > f32[2, 2]\n-- > [[0., 3.],\n-- >  [0., 0.]]"}, l_set_},
};
// clang-format on

void tarn_bind_tensor_inplace(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
