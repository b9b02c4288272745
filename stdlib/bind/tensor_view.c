// SPDX-License-Identifier: Apache-2.0
// Shapes and orders: reshape, permute, expand, picking and joining. Each is a row of the operation
// table with its arguments counted from 1 and checked.
#include <string.h>

#include "stdlib/bind/tensor.h"

int tarn_bind_axis(lua_State *L, lua_Integer v, int rank, const char *function) {
    lua_Integer axis = v < 0 ? rank + v : v - 1;
    if (v == 0 || axis < 0 || axis >= rank) {
        tarn_lua_error(L, "%s: dimension %lld of a tensor of rank %d (dimensions count from 1, or from "
                       "-1 at the end)", function, (long long)v, rank);
    }
    return (int)axis;
}

static int axis_at(lua_State *L, int idx, int rank, const char *function) {
    return tarn_bind_axis(L, tarn_bind_integer(L, idx, function, "a dimension"), rank, function);
}

int tarn_bind_axes(lua_State *L, int idx, int rank, const char *function, int64_t *axes) {
    bool seen[TARN_MAX_RANK] = {false};
    idx = lua_absindex(L, idx);
    bool list = lua_istable(L, idx);
    lua_Integer n = list ? (lua_Integer)lua_rawlen(L, idx) : 1;
    for (lua_Integer k = 1; k <= n; k++) {
        if (list) {
            lua_rawgeti(L, idx, k);
        } else {
            lua_pushvalue(L, idx);
        }
        int axis = axis_at(L, -1, rank, function);
        lua_pop(L, 1);
        if (seen[axis]) {
            tarn_lua_error(L, "%s: dimension %d is named twice", function, axis + 1);
        }
        seen[axis] = true;
    }
    int count = 0;
    for (int k = 0; k < rank; k++) {
        if (seen[k]) {
            axes[count++] = k;
        }
    }
    return count;
}

// ---- rows applied to one value ----

int tarn_bind_unary(lua_State *L, const tarn_op *op, int idx, const tarn_attr *a) {
    int at = lua_absindex(L, idx);
    return tarn_bind_apply(L, op, 1, &at, a);
}

int tarn_bind_reshape(lua_State *L, int idx, int rank, const int64_t *shape) {
    tarn_attr a = {.ni = rank, .i = shape};
    tarn_desc d;
    tarn_bind_desc(L, idx, "reshape", &d);
    if (tarn_shape_equal(d.rank, d.shape, rank, shape)) {
        lua_pushvalue(L, idx);
        return 1;
    }
    return tarn_bind_unary(L, &tarn_op_reshape, idx, &a);
}

int tarn_bind_broadcast(lua_State *L, int idx, int rank, const int64_t *shape) {
    tarn_attr a = {.ni = rank, .i = shape};
    return tarn_bind_unary(L, &tarn_op_broadcast_to, idx, &a);
}

int tarn_bind_permute(lua_State *L, int idx, const int64_t *order) {
    tarn_desc d;
    tarn_bind_desc(L, idx, "permute", &d);
    tarn_attr a = {.ni = d.rank, .i = order};
    return tarn_bind_unary(L, &tarn_op_permute, idx, &a);
}

int tarn_bind_cast(lua_State *L, int idx, tarn_dtype dtype) {
    int64_t to = dtype;
    tarn_attr a = {.ni = 1, .i = &to};
    return tarn_bind_unary(L, &tarn_op_cast, idx, &a);
}

int tarn_bind_shift(lua_State *L, int idx, int by) {
    int at[2] = {lua_absindex(L, idx), lua_gettop(L) + 1};
    luaL_checkstack(L, 4, "shift");
    lua_pushinteger(L, by);
    if (lua_isinteger(L, at[0])) {
        lua_pushinteger(L, lua_tointeger(L, at[0]) + by);
    } else {
        tarn_bind_apply(L, &tarn_op_add, 2, at, NULL);
    }
    lua_remove(L, at[1]);
    return 1;
}

// ---- reshape ----

// A shape at idx, one entry of which may be -1: what is left of the elements.
static int shape_for(lua_State *L, int idx, const char *function, int64_t numel, int64_t *shape) {
    int rank = lua_istable(L, idx) ? (int)lua_rawlen(L, idx) : 1, open = -1;
    if (rank > TARN_MAX_RANK) {
        return tarn_bind_shape(L, idx, function, shape);
    }
    int64_t known = 1;
    for (int k = 0; k < rank; k++) {
        if (lua_istable(L, idx)) {
            lua_rawgeti(L, idx, k + 1);
        } else {
            lua_pushvalue(L, idx);
        }
        shape[k] = tarn_bind_integer(L, -1, function, "a dimension");
        lua_pop(L, 1);
        if (shape[k] == -1 && open < 0) {
            open = k;
        } else if (shape[k] < 0) {
            tarn_lua_error(L, "%s: dimension %d of the shape is %lld; one may be -1 (what is left)",
                           function, k + 1, (long long)shape[k]);
        } else if (__builtin_mul_overflow(known, shape[k], &known)) {
            known = -1;
        }
    }
    if (open >= 0) {
        if (known <= 0 || numel % known != 0) {
            tarn_lua_error(L, "%s: %lld elements do not divide into the shape asked for", function,
                           (long long)numel);
        }
        shape[open] = numel / known;
    }
    return rank;
}

static int l_reshape(lua_State *L) {
    tarn_desc d;
    int64_t shape[TARN_MAX_RANK];
    tarn_bind_desc(L, 1, "tensor:reshape", &d);
    if (lua_gettop(L) > 2) {
        return tarn_lua_error(L, "tensor:reshape: the shape is a table: t:reshape({2, 3})");
    }
    int rank = shape_for(L, 2, "tensor:reshape", tarn_desc_numel(&d), shape);
    return tarn_bind_reshape(L, 1, rank, shape);
}

static int l_flatten(lua_State *L) {
    tarn_desc d;
    int64_t shape[TARN_MAX_RANK];
    tarn_bind_desc(L, 1, "tensor:flatten", &d);
    int first = 0, last = d.rank - 1, rank = 0;
    if (!lua_isnoneornil(L, 2)) {
        first = axis_at(L, 2, d.rank, "tensor:flatten");
    }
    if (!lua_isnoneornil(L, 3)) {
        last = axis_at(L, 3, d.rank, "tensor:flatten");
    }
    if (first > last) {
        if (d.rank > 0) {
            return tarn_lua_error(L, "tensor:flatten: dimension %d comes after %d", first + 1, last + 1);
        }
        shape[rank++] = 1;
    }
    for (int k = 0; k < d.rank; k++) {
        if (k > first && k <= last) {
            shape[rank - 1] *= d.shape[k];
        } else {
            shape[rank++] = d.shape[k];
        }
    }
    return tarn_bind_reshape(L, 1, rank, shape);
}

static int l_squeeze(lua_State *L) {
    tarn_desc d;
    int64_t axes[TARN_MAX_RANK], shape[TARN_MAX_RANK];
    bool named[TARN_MAX_RANK] = {false};
    tarn_bind_desc(L, 1, "tensor:squeeze", &d);
    bool all = lua_isnoneornil(L, 2);
    int n = all ? 0 : tarn_bind_axes(L, 2, d.rank, "tensor:squeeze", axes), rank = 0;
    for (int k = 0; k < n; k++) {
        named[axes[k]] = true;
    }
    for (int k = 0; k < d.rank; k++) {
        if (d.shape[k] != 1 || !(all || named[k])) {
            shape[rank++] = d.shape[k];
        }
    }
    if (rank == 0 && d.rank > 0) {  // one element: as an index yields it
        lua_createtable(L, d.rank, 0);
        for (int k = 0; k < d.rank; k++) {
            lua_pushinteger(L, 1);
            lua_rawseti(L, -2, k + 1);
        }
        return tarn_bind_select(L, 1, -1);
    }
    return tarn_bind_reshape(L, 1, rank, shape);
}

static int l_unsqueeze(lua_State *L) {
    tarn_desc d;
    int64_t shape[TARN_MAX_RANK + 1];
    tarn_bind_desc(L, 1, "tensor:unsqueeze", &d);
    int at = axis_at(L, 2, d.rank + 1, "tensor:unsqueeze");
    memcpy(shape, d.shape, (size_t)at * sizeof *shape);
    shape[at] = 1;
    memcpy(shape + at + 1, d.shape + at, (size_t)(d.rank - at) * sizeof *shape);
    return tarn_bind_reshape(L, 1, d.rank + 1, shape);
}

static int l_expand(lua_State *L) {
    tarn_desc d;
    int64_t shape[TARN_MAX_RANK];
    tarn_bind_desc(L, 1, "tensor:expand", &d);
    if (lua_gettop(L) > 2) {
        return tarn_lua_error(L, "tensor:expand: the shape is a table: t:expand({2, 3})");
    }
    int rank = tarn_bind_shape(L, 2, "tensor:expand", shape);
    return tarn_bind_broadcast(L, 1, rank, shape);
}

// ---- order ----

static int l_permute(lua_State *L) {
    tarn_desc d;
    int64_t order[TARN_MAX_RANK];
    tarn_bind_desc(L, 1, "tensor:permute", &d);
    bool list = lua_istable(L, 2);
    int n = list ? (int)lua_rawlen(L, 2) : lua_gettop(L) - 1;
    if (n != d.rank) {
        return tarn_lua_error(L, "tensor:permute: %d dimensions named for a tensor of rank %d", n,
                              d.rank);
    }
    bool seen[TARN_MAX_RANK] = {false};
    for (int k = 0; k < n; k++) {
        if (list) {
            lua_rawgeti(L, 2, k + 1);
        } else {
            lua_pushvalue(L, 2 + k);
        }
        int axis = axis_at(L, -1, d.rank, "tensor:permute");
        lua_pop(L, 1);
        if (seen[axis]) {
            return tarn_lua_error(L, "tensor:permute: dimension %d is named twice", axis + 1);
        }
        seen[axis] = true;
        order[k] = axis;
    }
    return tarn_bind_permute(L, 1, order);
}

static int swapped(lua_State *L, int rank, int a, int b) {
    int64_t order[TARN_MAX_RANK];
    for (int k = 0; k < rank; k++) {
        order[k] = k == a ? b : k == b ? a : k;
    }
    return tarn_bind_permute(L, 1, order);
}

static int l_transpose(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:transpose", &d);
    int a = axis_at(L, 2, d.rank, "tensor:transpose");
    int b = axis_at(L, 3, d.rank, "tensor:transpose");
    return swapped(L, d.rank, a, b);
}

static int l_t(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:t", &d);
    if (d.rank > 2) {
        return tarn_lua_error(L, "tensor:t: a tensor of rank %d; expected a matrix (t:transpose(a, b) "
                              "swaps two dimensions)", d.rank);
    }
    if (d.rank < 2) {
        lua_settop(L, 1);
        return 1;
    }
    return swapped(L, 2, 0, 1);
}

// ---- picking ----

// The indices at idx, counted from 0, on top.
static void push_index(lua_State *L, int idx, const char *function) {
    tarn_desc d;
    tarn_bind_desc(L, idx, function, &d);
    if (!tarn_bind_to_tensor(L, idx) || tarn_dtype_get(d.dtype)->kind != TARN_KIND_INT) {
        tarn_lua_error(L, "%s: the index is %s; expected an integer tensor%s", function,
                       tarn_dtype_get(d.dtype)->name,
                       d.dtype == TARN_BOOL ? " (tensor.where(mask, a, b) chooses by a bool tensor, "
                                              "t:masked_select(mask) picks)"
                                            : " (t:to(\"i64\"))");
    }
    tarn_bind_shift(L, idx, -1);
}

static int l_gather(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:gather", &d);
    int64_t axis = axis_at(L, 2, d.rank, "tensor:gather");
    push_index(L, 3, "tensor:gather");
    int at[2] = {1, lua_gettop(L)};
    tarn_attr a = {.ni = 1, .i = &axis};
    return tarn_bind_apply(L, &tarn_op_gather, 2, at, &a);
}

int tarn_bind_take(lua_State *L, int idx, int axis, int index, const char *function) {
    tarn_desc d, di;
    int64_t shape[TARN_MAX_RANK];
    int top = lua_gettop(L);
    idx = lua_absindex(L, idx);
    index = lua_absindex(L, index);
    tarn_bind_desc(L, idx, function, &d);
    tarn_bind_desc(L, index, function, &di);
    if (d.rank == 0) {
        tarn_lua_error(L, "%s: a tensor of rank 0 has no dimension to pick from", function);
    }
    if (d.rank - 1 + di.rank > TARN_MAX_RANK) {
        tarn_lua_error(L, "%s: the result would have %d dimensions; at most %d", function,
                       d.rank - 1 + di.rank, TARN_MAX_RANK);
    }
    push_index(L, index, function);
    // The index as [n] along the axis, stretched over the others.
    int64_t n = tarn_desc_numel(&di);
    for (int k = 0; k < d.rank; k++) {
        shape[k] = k == axis ? n : 1;
    }
    tarn_bind_reshape(L, -1, d.rank, shape);
    memcpy(shape, d.shape, sizeof d.shape);
    shape[axis] = n;
    tarn_bind_broadcast(L, -1, d.rank, shape);
    int at[2] = {idx, lua_gettop(L)};
    int64_t i = axis;
    tarn_attr a = {.ni = 1, .i = &i};
    tarn_bind_apply(L, &tarn_op_gather, 2, at, &a);
    if (di.rank == 1) {
        return tarn_bind_only(L, top);
    }
    memcpy(shape, d.shape, (size_t)axis * sizeof *shape);
    memcpy(shape + axis, di.shape, (size_t)di.rank * sizeof *shape);
    memcpy(shape + axis + di.rank, d.shape + axis + 1, (size_t)(d.rank - axis - 1) * sizeof *shape);
    tarn_bind_reshape(L, -1, d.rank - 1 + di.rank, shape);
    return tarn_bind_only(L, top);
}

static int l_index_select(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:index_select", &d);
    int axis = axis_at(L, 2, d.rank, "tensor:index_select");
    return tarn_bind_take(L, 1, axis, 3, "tensor:index_select");
}

static int l_scatter_add(lua_State *L) {
    tarn_desc d;
    int64_t i[TARN_MAX_RANK + 1];
    tarn_bind_desc(L, 1, "tensor:scatter_add", &d);
    i[0] = axis_at(L, 2, d.rank, "tensor:scatter_add");
    memcpy(i + 1, d.shape, sizeof d.shape);
    push_index(L, 3, "tensor:scatter_add");
    int at[2] = {lua_gettop(L), 4};
    tarn_attr a = {.ni = d.rank + 1, .i = i};
    tarn_bind_apply(L, &tarn_op_scatter_add, 2, at, &a);
    int sum[2] = {1, lua_gettop(L)};
    return tarn_bind_apply(L, &tarn_op_add, 2, sum, NULL);
}

// in[2], plain tensors; out: room for what the mask keeps.
static void pick(lua_State *L, const tarn_tensor *in, tarn_tensor *out) {
    size_t size = (size_t)tarn_dtype_get(in[0].dtype)->bits / 8;
    const char *from = tarn_tensor_data(&in[0]);
    const unsigned char *mask = tarn_tensor_data(&in[1]);
    char *to = tarn_tensor_data(out);
    int64_t n = tarn_tensor_numel(&in[0]);
    for (int64_t i = 0; i < n; i++) {
        if (i % TARN_BIND_POLL == 0) {
            tarn_bind_poll(L);
        }
        if (mask[i]) {
            memcpy(to, from + (size_t)i * size, size);
            to += size;
        }
    }
}

static int l_masked_select(lua_State *L) {
    tarn_context *cx = tarn_host_context(L);
    tarn_desc d, dm;
    tarn_error err;
    tarn_bind_desc(L, 1, "tensor:masked_select", &d);
    tarn_bind_desc(L, 2, "tensor:masked_select", &dm);
    if (dm.dtype != TARN_BOOL || !tarn_shape_equal(d.rank, d.shape, dm.rank, dm.shape)) {
        return tarn_lua_error(L, "tensor:masked_select: the mask must be a bool tensor of the same shape");
    }
    for (int k = 1; k <= 2; k++) {
        const tarn_lua_tensor *u = tarn_bind_to_tensor(L, k);
        if (u && u->recorded) {
            return tarn_lua_error(L, "tensor:masked_select: how many there are is not known while a function is recorded "
                                  "(grad, compile, merge.map): tensor.where(mask, a, b) chooses element by element");
        }
    }
    tarn_tensor *in = tarn_bind_hold(L, 2), *plain = tarn_bind_hold(L, 2);
    tarn_attr all = {.ni = 2, .i = (const int64_t[]){0, 0}};
    tarn_lua_tensor *count = tarn_bind_new_tensor(L);
    for (int k = 0; k < 2; k++) {
        tarn_bind_value(L, k + 1, &in[k]);
        TARN_LUA_TRY(L, tarn_tensor_cast(cx, &in[k], in[k].dtype, &plain[k], &err), &err);
    }
    TARN_LUA_TRY(L, tarn_op_apply(cx, &tarn_op_sum, 1, &plain[1], &all, &count->t, &err), &err);
    int64_t size = (int64_t)tarn_tensor_get(&count->t, 0);
    tarn_lua_account(L, tarn_dtype_bytes(d.dtype, size));
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    TARN_LUA_TRY(L, tarn_tensor_new(cx, d.dtype, 1, &size, &u->t, &err), &err);
    pick(L, plain, &u->t);
    return 1;
}

// ---- joining ----

static int l_cat(lua_State *L) {
    tarn_desc d;
    lua_settop(L, 2);
    if (!lua_istable(L, 1) || lua_rawlen(L, 1) == 0) {
        return tarn_lua_error(L, "tensor.cat: expected a list of tensors: tensor.cat({a, b}, dim)");
    }
    int n = (int)(lua_rawlen(L, 1) < 1 << 20 ? lua_rawlen(L, 1) : 1 << 20);
    int *at = lua_newuserdatauv(L, (size_t)n * sizeof *at, 0);
    luaL_checkstack(L, n + 8, "tensor.cat");
    for (int k = 0; k < n; k++) {
        lua_rawgeti(L, 1, k + 1);
        at[k] = lua_gettop(L);
        if (!tarn_bind_to_tensor(L, -1)) {
            return tarn_lua_error(L, "tensor.cat: element %d is a %s; expected a tensor", k + 1,
                                  tarn_bind_kind(L, -1));
        }
    }
    tarn_bind_desc(L, at[0], "tensor.cat", &d);
    int64_t axis = lua_isnoneornil(L, 2) ? 0 : axis_at(L, 2, d.rank, "tensor.cat");
    tarn_attr a = {.ni = 1, .i = &axis};
    return tarn_bind_apply(L, &tarn_op_concat, n, at, &a);
}

// t:pad({ {before, after}, … }): one pair for each dimension.
static int l_pad(lua_State *L) {
    tarn_desc d;
    int64_t i[4 * TARN_MAX_RANK];
    tarn_bind_desc(L, 1, "tensor:pad", &d);
    if (!lua_istable(L, 2) || (int)lua_rawlen(L, 2) != d.rank) {
        return tarn_lua_error(L, "tensor:pad: one pair {before, after} for each of %d dimensions", d.rank);
    }
    for (int k = 0; k < d.rank; k++) {
        if (lua_rawgeti(L, 2, k + 1) != LUA_TTABLE || lua_rawlen(L, -1) != 2) {
            return tarn_lua_error(L, "tensor:pad: dimension %d: expected a pair {before, after}", k + 1);
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        int64_t before = tarn_bind_integer(L, -2, "tensor:pad", "a number of zeros");
        int64_t after = tarn_bind_integer(L, -1, "tensor:pad", "a number of zeros");
        lua_pop(L, 3);
        if (before < 0 || after < 0 || before > INT64_MAX / 4 || after > INT64_MAX / 4) {
            return tarn_lua_error(L, "tensor:pad: dimension %d: %lld and %lld zeros", k + 1,
                                  (long long)before, (long long)after);
        }
        i[3 * k] = before;
        i[3 * k + 1] = d.shape[k];
        i[3 * k + 2] = 1;
        i[3 * d.rank + k] = before + d.shape[k] + after;
    }
    static const char *const names[] = {"value", NULL};
    lua_settop(L, 3);
    tarn_lua_check_options(L, 3, "tensor:pad", names, false);
    double value = tarn_lua_opt_number(L, 3, "tensor:pad", "value", 0);
    tarn_attr a = {.ni = 4 * d.rank, .i = i};
    tarn_bind_unary(L, &tarn_op_pad, 1, &a);
    if (value == 0) {
        return 1;
    }
    lua_pushinteger(L, 1);  // ones where t is, zeros around
    tarn_bind_broadcast(L, -1, d.rank, d.shape);
    tarn_bind_unary(L, &tarn_op_pad, -1, &a);
    lua_pushnumber(L, value);
    int choose[3] = {lua_gettop(L) - 1, 4, lua_gettop(L)};
    return tarn_bind_apply(L, &tarn_op_where, 3, choose, NULL);
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:reshape", "t:reshape(shape) -> tensor", "The same elements in row-major order under another shape; one dimension "
      "may be -1 (what is left). Shares memory where the order allows.", "print(tensor.arange(6):reshape({2, -1}).shape)\n-- > [2, 3]"}, l_reshape},
    {{"tensor:flatten", "t:flatten(first, last) -> tensor", "Dimensions first to last (all when left out) made one.",
      "print(tensor.zeros({2, 3, 4}):flatten(2).shape)\n-- > [2, 12]"}, l_flatten},
    {{"tensor:squeeze", "t:squeeze(dim) -> tensor", "Without the dimensions of size 1, or without those named (a number or a list).",
      "print(tensor.zeros({2, 1, 3}):squeeze().shape)\n-- > [2, 3]"}, l_squeeze},
    {{"tensor:unsqueeze", "t:unsqueeze(dim) -> tensor", "With a dimension of size 1 put in at dim.",
      "print(tensor.zeros({2, 3}):unsqueeze(-1).shape)\n-- > [2, 3, 1]"}, l_unsqueeze},
    {{"tensor:expand", "t:expand(shape) -> tensor", "Repeated along dimensions of size 1 (and new ones in front) without copying.",
      "print(tensor { 1, 2 }:expand({3, 2}):sum())\n-- > 9.0"}, l_expand},
    {{"tensor:permute", "t:permute(dims) -> tensor", "The dimensions in another order: dimension k of the result is dims[k] of t. A view.",
      "print(tensor.zeros({2, 3, 4}):permute({3, 1, 2}).shape)\n-- > [4, 2, 3]"}, l_permute},
    {{"tensor:transpose", "t:transpose(a, b) -> tensor", "Dimensions a and b exchanged. A view.",
      "print(tensor.zeros({2, 3, 4}):transpose(1, -1).shape)\n-- > [4, 3, 2]"}, l_transpose},
    {{"tensor:t", "t:t() -> tensor", "A matrix transposed. A view.", "print(tensor.zeros({2, 3}):t().shape)\n-- > [3, 2]"}, l_t},
    {{"tensor:gather", "t:gather(dim, index) -> tensor", "Along dim, the elements that the integer tensor index names (counted from 1): for dim 1 "
      "the result is t[index[i][j]][j].", "local t = tensor { {1, 2}, {3, 4} }\nlocal i = tensor({ {2, 1} }, { dtype = \"i64\" })\nprint(t:gather(1, i))\n"
      "-- > f32[1, 2]\n-- > [[3., 2.]]"}, l_gather},
    {{"tensor:index_select", "t:index_select(dim, index) -> tensor", "Whole slices along dim, chosen by an integer tensor (counted from 1). t[index] is the same along "
      "dimension 1. The index's shape takes the place of dim.", "local t = tensor { {1, 2}, {3, 4} }\nlocal i = tensor({ 2, 2, 1 }, { dtype = \"i64\" })\n"
      "print(t:index_select(1, i).shape)\n-- > [3, 2]"}, l_index_select},
    {{"tensor:scatter_add", "t:scatter_add(dim, index, src) -> tensor", "t with src added at the places that index names along dim (counted from 1), in "
      "row-major order of src.", "local i = tensor({ 1, 1, 3 }, { dtype = \"i64\" })\nprint(tensor.zeros(3):scatter_add(1, i, tensor.ones(3)))\n"
      "-- > f32[3]\n-- > [2., 0., 1.]"}, l_scatter_add},
    {{"tensor:masked_select", "t:masked_select(mask) -> tensor", "The elements where the bool tensor mask is true, in row-major order. Needs values, so it reads "
      "files when t is planned.", "local t = tensor { 1, -2, 3 }\nprint(t:masked_select(t:gt(0)))\n-- > f32[2]\n-- > [1., 3.]"}, l_masked_select},
    {{"tensor:pad", "t:pad({ {before, after}, … }, {value = 0}) -> tensor", "With zeros, or another value, around: one pair for each dimension.",
      "print(tensor { 1, 2 }:pad({ {1, 2} }))\n-- > f32[5]\n-- > [0., 1., 2., 0., 0.]\nprint(tensor { 1, 2 }:pad({ {1, 0} }, { value = 5 }))\n-- > f32[3]\n-- > [5., 1., 2.]"}, l_pad},
    {{"tensor.cat", "tensor.cat({a, b, …}, dim) -> tensor", "Joined along dim (1 when left out); all other dimensions and the dtypes agree.",
      "print(tensor.cat({ tensor { 1, 2 }, tensor { 3 } }))\n-- > f32[3]\n-- > [1., 2., 3.]"}, l_cat},
};
// clang-format on

void tarn_bind_tensor_view(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
