// SPDX-License-Identifier: Apache-2.0
// Values of tensors, asked for by name: load, item, totable, clone; and the mode of a run that only plans, in
// which values of files may not be asked for.
#include "stdlib/bind/tensor.h"

// ---- plan-only mode ----

static void *planning_key(void) {
    static const char key = 0;
    return (void *)(uintptr_t)&key;
}

bool tarn_bind_planning(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, planning_key());
    bool on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

void tarn_bind_plan_only(lua_State *L, bool on) {
    lua_pushboolean(L, on);
    lua_rawsetp(L, LUA_REGISTRYINDEX, planning_key());
}

void tarn_bind_force(lua_State *L, const char *what) {
    if (tarn_bind_planning(L)) {
        tarn_lua_error(L, "%s needs the values of files, and this run only plans: nothing is read", what);
    }
}

// ---- values ----

// Pushes the tensor at idx with its values, in a userdata of its own.
static tarn_lua_tensor *push_value(lua_State *L, int idx, const char *function) {
    tarn_desc d;
    tarn_bind_desc(L, idx, function, &d);
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    tarn_bind_value(L, idx, &u->t);
    return u;
}

// A number is its own value. True if the argument is one.
static bool is_number(lua_State *L, const char *function) {
    if (tarn_bind_to_tensor(L, 1)) {
        return false;
    }
    tarn_desc d;
    tarn_bind_desc(L, 1, function, &d);
    lua_settop(L, 1);
    return true;
}

static int l_load(lua_State *L) {
    if (is_number(L, "tensor:load")) {
        return 1;
    }
    if (tarn_bind_to_tensor(L, 1)->t.storage) {
        lua_settop(L, 1);
        return 1;
    }
    push_value(L, 1, "tensor:load");
    return tarn_bind_settle(L);
}

static int l_item(lua_State *L) {
    if (is_number(L, "tensor:item")) {
        return 1;
    }
    tarn_lua_tensor *u = push_value(L, 1, "tensor:item");
    if (tarn_tensor_numel(&u->t) != 1) {
        return tarn_lua_error(L, "tensor:item: one element is wanted, the shape is %s",
                              tarn_bind_shape_text(L, u->t.rank, u->t.shape));
    }
    tarn_bind_push_scalar(L, &u->t);
    tarn_tensor_release(&u->t);
    return 1;
}

static void push_table(lua_State *L, const tarn_tensor *t, int dim, int64_t *at) {
    if (dim == t->rank) {
        tarn_tensor one = *t;
        one.rank = 0;
        one.offset = t->offset;
        for (int k = 0; k < t->rank; k++) {
            one.offset += at[k] * t->stride[k];
        }
        tarn_bind_push_scalar(L, &one);
        return;
    }
    luaL_checkstack(L, 3, "totable");
    tarn_bind_poll(L);
    lua_createtable(L, (int)(t->shape[dim] < 1 << 20 ? t->shape[dim] : 0), 0);
    for (at[dim] = 0; at[dim] < t->shape[dim]; at[dim]++) {
        push_table(L, t, dim + 1, at);
        lua_rawseti(L, -2, at[dim] + 1);
    }
}

static int l_totable(lua_State *L) {
    if (is_number(L, "tensor:totable")) {
        return 1;
    }
    tarn_lua_tensor *u = push_value(L, 1, "tensor:totable");
    int64_t at[TARN_MAX_RANK + 1] = {0};
    push_table(L, &u->t, 0, at);
    tarn_tensor_release(&u->t);
    return 1;
}

static int l_clone(lua_State *L) {
    tarn_error err;
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, 1);
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:clone", &d);
    if (!u || u->node) {  // nothing can change it
        lua_settop(L, 1);
        return 1;
    }
    tarn_lua_account(L, (size_t)tarn_desc_numel(&d) * 8);
    tarn_lua_tensor *copy = tarn_bind_new_tensor(L);
    TARN_LUA_TRY(L, tarn_tensor_cast(tarn_host_context(L), &u->t, u->t.dtype, &copy->t, &err), &err);
    return 1;
}

static int l_numel(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:numel", &d);
    lua_pushinteger(L, tarn_desc_numel(&d));
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:load", "t:load() -> tensor", "The values of a planned tensor, in memory. A tensor that is "
      "there already is returned as it is.", "print(tensor { 1, 2 }:load())\n-- > f32[2]\n-- > [1., 2.]"}, l_load},
    {{"tensor:item", "t:item() -> number", "The number of a tensor with one element; more or none is an error. "
      "Reads files when the tensor is planned; an error inside a recorded function, and under tarn plan.", "print(tensor { 5 }:item())\n-- > 5.0"}, l_item},
    {{"tensor:totable", "t:totable() -> table", "Nested tables of numbers. Reads files when the tensor is "
      "planned.", "print(tensor { {1, 2}, {3, 4} }:totable()[2][1])\n-- > 3.0"}, l_totable},
    {{"tensor:clone", "t:clone() -> tensor", "A copy with memory of its own, row-major. A planned tensor "
      "never changes and is returned as it is.", "local t = tensor { 1, 2 }\nlocal u = t:clone()\n"
      "u:add_(10)\nprint(t[1], u[1])\n-- > 1.0\t11.0"}, l_clone},
    {{"tensor:numel", "t:numel() -> integer", "The number of elements.",
      "print(tensor.zeros({2, 3}):numel())\n-- > 6"}, l_numel},
};
// clang-format on

void tarn_bind_tensor_values(tarn_host *h) { tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows)); }
