// SPDX-License-Identifier: Apache-2.0
// Convolution and pooling of images with channels last: conv2d, max_pool2d, avg_pool2d, adaptive_*.
// Names, options and the weight's layout are PyTorch's; a pair of numbers is {height, width}.
#include "stdlib/bind/tensor.h"

static void only(lua_State *L, const char *function, int most) {
    if (lua_gettop(L) > most) {
        tarn_lua_error(L, "%s takes %d arguments, got %d", function, most, lua_gettop(L));
    }
    lua_settop(L, most);
}

// A whole number, or a list of two.
static void read_pair(lua_State *L, int idx, const char *function, const char *what,
                      int64_t pair[2]) {
    idx = lua_absindex(L, idx);
    bool list = lua_istable(L, idx);
    if (list && lua_rawlen(L, idx) != 2) {
        tarn_lua_error(L, "%s: %s has %d elements; expected a number or {height, width}", function,
                       what, (int)lua_rawlen(L, idx));
    }
    for (int k = 0; k < 2; k++) {
        if (list) {
            lua_rawgeti(L, idx, k + 1);
        } else {
            lua_pushvalue(L, idx);
        }
        pair[k] = tarn_bind_integer(L, -1, function, what);
        lua_pop(L, 1);
    }
}
static void opt_pair(lua_State *L, int idx, const char *function, const char *field,
                     int64_t pair[2]) {
    if (!lua_istable(L, idx)) {
        return;
    }
    lua_pushstring(L, field);
    if (lua_rawget(L, idx) != LUA_TNIL) {
        read_pair(L, -1, function, field, pair);
    }
    lua_pop(L, 1);
}

static void desc_4(lua_State *L, int idx, const char *function, const char *what, tarn_desc *d) {
    tarn_bind_desc(L, idx, function, d);
    if (d->rank != 4) {
        tarn_lua_error(L, "%s: expected %s, got %s", function, what,
                       tarn_bind_shape_text(L, d->rank, d->shape));
    }
}

static int l_conv2d(lua_State *L) {
    static const char *const names[] = {"stride", "padding", "dilation", "groups", NULL};
    static const int idx[2] = {1, 2};
    const char *f = "tensor:conv2d";
    tarn_desc x, w;
    only(L, f, 3);
    desc_4(L, 1, f, "an image [n, height, width, channels]", &x);
    desc_4(L, 2, f, "a weight [out, in / groups, height, width]", &w);
    tarn_lua_check_options(L, 3, f, names, false);
    int64_t i[11] = {1, 1, 0, 0, 1, 1, 1, w.shape[2], w.shape[3], x.shape[1], x.shape[2]};
    opt_pair(L, 3, f, "stride", i);
    opt_pair(L, 3, f, "padding", i + 2);
    opt_pair(L, 3, f, "dilation", i + 4);
    i[6] = tarn_lua_opt_integer(L, 3, f, "groups", 1);
    tarn_attr a = {.ni = 11, .i = i};
    return tarn_bind_apply(L, &tarn_op_conv2d, 2, idx, &a);
}

// ---- pooling ----

typedef enum { MEAN, MAXIMUM } pooling;

static int push_pool(lua_State *L, pooling kind, const int64_t i[11]) {
    tarn_attr a = {.ni = 11, .i = i};
    if (kind == MEAN) {
        return tarn_bind_unary(L, &tarn_op_pool_mean, 1, &a);
    }
    tarn_bind_unary(L, &tarn_op_pool_index, 1, &a);
    int at[2] = {1, lua_gettop(L)};
    tarn_attr image = {.ni = 2, .i = i + 9};
    return tarn_bind_apply(L, &tarn_op_pool_take, 2, at, &image);
}

static int windows(lua_State *L, const char *f, pooling kind) {
    static const char *const mean[] = {"stride", "padding", "ceil_mode", "count_include_pad", NULL};
    static const char *const maximum[] = {"stride", "padding", "ceil_mode", NULL};
    tarn_desc x;
    only(L, f, 3);
    desc_4(L, 1, f, "an image [n, height, width, channels]", &x);
    tarn_lua_check_options(L, 3, f, kind == MEAN ? mean : maximum, false);
    int64_t i[11] = {0};
    read_pair(L, 2, f, "the kernel size", i);
    i[2] = i[0];
    i[3] = i[1];
    opt_pair(L, 3, f, "stride", i + 2);
    opt_pair(L, 3, f, "padding", i + 4);
    i[6] = tarn_lua_opt_boolean(L, 3, f, "ceil_mode", false);
    i[7] = kind == MEAN && tarn_lua_opt_boolean(L, 3, f, "count_include_pad", true);
    i[9] = x.shape[1];
    i[10] = x.shape[2];
    return push_pool(L, kind, i);
}
static int l_max_pool2d(lua_State *L) { return windows(L, "tensor:max_pool2d", MAXIMUM); }
static int l_avg_pool2d(lua_State *L) { return windows(L, "tensor:avg_pool2d", MEAN); }

static int adaptive(lua_State *L, const char *f, pooling kind) {
    tarn_desc x;
    only(L, f, 2);
    desc_4(L, 1, f, "an image [n, height, width, channels]", &x);
    int64_t i[11] = {0, 0, 1, 1, 0, 0, 0, 0, 1, x.shape[1], x.shape[2]};
    read_pair(L, 2, f, "the size", i);
    return push_pool(L, kind, i);
}
static int l_adaptive_max(lua_State *L) {
    return adaptive(L, "tensor:adaptive_max_pool2d", MAXIMUM);
}
static int l_adaptive_avg(lua_State *L) { return adaptive(L, "tensor:adaptive_avg_pool2d", MEAN); }

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:conv2d", "x:conv2d(w, {stride = 1, padding = 0, dilation = 1, groups = 1}) -> tensor",
      "Convolution (cross-correlation, as in PyTorch) of images x [n, height, width, channels] with a weight w [out, channels / groups, kernel height, kernel width]; "
      "gives [n, height', width', out] with height' = 1 + (height + 2 padding - dilation (kernel height - 1) - 1) // stride. Options are a number or {height, width}. "
      "Images have their channels last, weights PyTorch's layout. f64 if an operand is f64, else f32. No copy of the image in patches is made (im2col); a 1 x 1 kernel is a matrix "
      "product, groups = channels is depthwise. Differentiable any number of times. Tier A: every element is summed in one order, over kernel rows, columns and channels.",
      "local x = tensor { 1, 2, 3, 4, 5, 6, 7, 8, 9 }:reshape { 1, 3, 3, 1 }\nlocal w = tensor { 1, 0, 0, -1 }:reshape { 1, 1, 2, 2 }\n"
      "print(x:conv2d(w):reshape { 2, 2 })\n-- > f32[2, 2]\n-- > [[-4., -4.],\n-- >  [-4., -4.]]\nprint(x:conv2d(w, { stride = 2, padding = 1 }).shape)\n-- > [1, 2, 2, 1]"}, l_conv2d},
    {{"tensor:max_pool2d", "x:max_pool2d(size, {stride = size, padding = 0, ceil_mode = false}) -> tensor",
      "Largest pixel of each window of images [n, height, width, channels], channel by channel; sizes are a number or {height, width}, padding (at most half the window) never "
      "wins. ceil_mode also keeps a last window that does not fit whole. Of equal pixels the first takes the gradient; a NaN counts as largest.",
      "print(tensor { 1, 5, 2, 3 }:reshape { 1, 2, 2, 1 }:max_pool2d(2):reshape { 1 })\n-- > f32[1]\n-- > [5.]"}, l_max_pool2d},
    {{"tensor:avg_pool2d", "x:avg_pool2d(size, {stride = size, padding = 0, ceil_mode = false, count_include_pad = true}) -> tensor",
      "Mean of each window of images [n, height, width, channels], summed in f64; sizes are a number or {height, width}. Padding counts as zeros, or, with count_include_pad = false, not at all.",
      "print(tensor { 1, 5, 2, 4 }:reshape { 1, 2, 2, 1 }:avg_pool2d(2):reshape { 1 })\n-- > f32[1]\n-- > [3.]"}, l_avg_pool2d},
    {{"tensor:adaptive_max_pool2d", "x:adaptive_max_pool2d({height, width}) -> tensor",
      "x:max_pool2d with as many windows as asked for: window i of n goes from i height // n up to the next whole number from (i + 1) height / n (counted from 0).",
      "print(tensor { 1, 5, 2 }:reshape { 1, 1, 3, 1 }:adaptive_max_pool2d({ 1, 2 }):reshape { 2 })\n-- > f32[2]\n-- > [5., 5.]"}, l_adaptive_max},
    {{"tensor:adaptive_avg_pool2d", "x:adaptive_avg_pool2d({height, width}) -> tensor",
      "x:avg_pool2d with as many windows as asked for, those of x:adaptive_max_pool2d; 1 is the mean over each image.",
      "print(tensor { 1, 5, 2, 4 }:reshape { 1, 2, 2, 1 }:adaptive_avg_pool2d(1):reshape { 1 })\n-- > f32[1]\n-- > [3.]"}, l_adaptive_avg},
};
// clang-format on

void tarn_bind_tensor_conv(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
