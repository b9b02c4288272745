// SPDX-License-Identifier: Apache-2.0
// Methods made from the rows of the operation table: a row that names its arguments (op.h, `lua`)
// becomes t:name(…), with its documentation. Rows with arguments of their own shape (casts, products,
// order) follow by hand.
#include <stdio.h>
#include <string.h>

#include "stdlib/bind/tensor.h"

static const tarn_op *row_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }

void tarn_bind_count(lua_State *L, const char *function, int most) {
    int n = lua_gettop(L);
    while (n > most && lua_isnil(L, n)) {
        n--;
    }
    if (n > most) {
        tarn_lua_error(L, "%s takes %d argument%s, got %d", function, most, most == 1 ? "" : "s", n);
    }
}

// ---- element-wise ----

static int l_point(lua_State *L) {
    static const int idx[3] = {1, 2, 3};
    const tarn_op *op = row_of(L);
    tarn_bind_count(L, op->name, op->min_in);
    lua_settop(L, op->min_in);
    return tarn_bind_apply(L, op, op->min_in, idx, NULL);
}

// ---- reductions ----

static const char *const reduction_names[] = {"dim", "keepdim", NULL};

// (t, dim, keepdim): dim is a number, a list, or a table that also has the options dim and keepdim;
// the last may be {keepdim = true}. All dimensions named and none kept: the same as none named.
void tarn_bind_read_reduction(lua_State *L, const char *function, int rank,
                              tarn_bind_reduction *r) {
    *r = (tarn_bind_reduction){0};
    tarn_bind_count(L, function, 3);
    lua_settop(L, 3);
    for (int k = 2; k <= 3; k++) {
        if (lua_isboolean(L, k) && k == 3) {
            r->i[0] = lua_toboolean(L, k);
        } else if (lua_istable(L, k)) {
            tarn_lua_check_options(L, k, function, reduction_names, k == 2);
            r->i[0] = tarn_lua_opt_boolean(L, k, function, "keepdim", r->i[0]);
            if (lua_getfield(L, k, "dim") != LUA_TNIL) {
                r->n = tarn_bind_axes(L, -1, rank, function, r->i + 2);
            } else if (k == 2 && lua_rawlen(L, k) > 0) {
                r->n = tarn_bind_axes(L, k, rank, function, r->i + 2);
            }
            lua_pop(L, 1);
        } else if (!lua_isnil(L, k)) {
            if (k == 3) {
                tarn_lua_error(L, "%s: keepdim is true, false or a table of options, not a %s", function,
                               tarn_bind_kind(L, k));
            }
            r->n = tarn_bind_axes(L, k, rank, function, r->i + 2);
        }
    }
    if (r->n == rank && !r->i[0]) {
        r->n = 0;
    }
}

static int l_reduce(lua_State *L) {
    const tarn_op *op = row_of(L);
    tarn_desc d;
    tarn_bind_reduction r;
    tarn_bind_desc(L, 1, op->name, &d);
    tarn_bind_read_reduction(L, op->name, d.rank, &r);
    tarn_attr a = {.ni = r.n + 2, .i = r.i};
    return tarn_bind_unary(L, op, 1, &a);
}

// Positions count from 1.
static int l_arg(lua_State *L) {
    const tarn_op *op = row_of(L);
    tarn_desc d;
    tarn_bind_reduction r;
    tarn_bind_desc(L, 1, op->name, &d);
    tarn_bind_read_reduction(L, op->name, d.rank, &r);
    if (tarn_desc_numel(&d) == 0) {
        return tarn_lua_error(L, "%s: the tensor has no elements", op->name);
    }
    tarn_attr a = {.ni = r.n + 2, .i = r.i};
    tarn_bind_unary(L, op, 1, &a);
    return tarn_bind_shift(L, -1, 1);
}

static int l_dot(lua_State *L) {
    static const int idx[2] = {1, 2};
    const tarn_op *op = row_of(L);
    tarn_attr a = {.ni = 2, .i = (const int64_t[]){0, 0}};
    tarn_bind_count(L, op->name, 2);
    lua_settop(L, 2);
    return tarn_bind_apply(L, op, 2, idx, &a);
}

// ---- the rows as methods ----

typedef struct {
    const char *lua;  // op.h: what the row takes
    lua_CFunction call;
    const char *signature;  // with the row's name for %s
} form;

static const form forms[] = {
    {"x", l_point, "x:%s() -> tensor"},
    {"xy", l_point, "x:%s(y) -> tensor"},
    {"xyz", l_point, "tensor.%s(x, y, z) -> tensor"},  // a condition is no receiver
    {"r", l_reduce, "t:%s(dim, {keepdim = false}) -> tensor or number"},
    {"a", l_arg, "t:%s(dim, {keepdim = false}) -> tensor or integer"},
    {"dd", l_dot, "x:%s(y) -> number"},
};

static const form *form_of(const tarn_op *op) {
    for (size_t i = 0; op->lua && i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(forms[i].lua, op->lua) == 0) {
            return &forms[i];
        }
    }
    return NULL;
}

// methods, module -> the same, with the row in one of them.
static tarn_status add_row(tarn_host *h, const tarn_op *op, const form *f, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    char name[64], signature[128];
    tarn_text text;
    bool method = f->signature[1] == ':';
    lua_pushlightuserdata(L, (void *)(uintptr_t)op);
    lua_pushcclosure(L, f->call, 1);
    lua_setfield(L, method ? -3 : -2, op->name);
    snprintf(name, sizeof name, "tensor%c%s", method ? ':' : '.', op->name);
    snprintf(signature, sizeof signature, f->signature, op->name);
    tarn_text_init(&text, &tarn_host_context(L)->budget);
    tarn_bind_sentence(&text, op->summary ? op->summary : "");
    tarn_text_puts(&text, op->vjp || op->jvp ? "" : " Not differentiable.");
    tarn_doc doc = {name, signature, text.data, op->example};
    tarn_status s = text.failed ? tarn_raise_nomem(err, "documentation", text.len)
                                : tarn_host_doc_copy(h, &doc, err);
    tarn_text_free(&text);
    return s;
}

// ---- casts ----

static int l_cast(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:to", &d);
    tarn_dtype t = tarn_bind_dtype_at(L, 2, "tensor:to");
    tarn_bind_count(L, "tensor:to", 2);
    if (t == d.dtype && !d.weak) {
        lua_settop(L, 1);
        return 1;
    }
    return tarn_bind_cast(L, 1, t);
}

// ---- products ----

// The operand at idx as at least a matrix; a vector becomes a row or a column.
static void as_matrix(lua_State *L, int idx, const tarn_desc *d, bool column) {
    int64_t shape[2] = {column ? d->shape[0] : 1, column ? 1 : d->shape[0]};
    if (d->rank == 1) {
        tarn_bind_reshape(L, idx, 2, shape);
    } else {
        lua_pushvalue(L, idx);
    }
}

static int l_matmul(lua_State *L) {
    tarn_desc a, b, d;
    tarn_bind_count(L, "matmul", 2);
    tarn_bind_desc(L, 1, "matmul", &a);
    tarn_bind_desc(L, 2, "matmul", &b);
    if (a.rank == 0 || b.rank == 0) {
        return tarn_lua_error(L, "matmul: operands of rank %d and %d; both need at least 1", a.rank,
                              b.rank);
    }
    as_matrix(L, 1, &a, false);
    as_matrix(L, 2, &b, true);
    int at[2] = {lua_gettop(L) - 1, lua_gettop(L)};
    tarn_bind_apply(L, &tarn_op_matmul, 2, at, NULL);
    if (a.rank > 1 && b.rank > 1) {
        return 1;
    }
    if (a.rank == 1 && b.rank == 1) {
        lua_createtable(L, 2, 0);
        for (int k = 1; k <= 2; k++) {
            lua_pushinteger(L, 1);
            lua_rawseti(L, -2, k);
        }
        return tarn_bind_select(L, -2, -1);
    }
    tarn_bind_desc(L, -1, "matmul", &d);
    int64_t shape[TARN_MAX_RANK];
    int rank = 0;
    for (int k = 0; k < d.rank; k++) {
        bool gone = (a.rank == 1 && k == d.rank - 2) || (b.rank == 1 && k == d.rank - 1);
        if (!gone) {
            shape[rank++] = d.shape[k];
        }
    }
    return tarn_bind_reshape(L, -1, rank, shape);
}

// ---- order ----

static const char *const sort_names[] = {"dim", "descending", NULL};

// (t, dim, {descending = true}) or (t, {dim =, descending =}).
static bool read_sort(lua_State *L, const char *function, int rank, int *axis) {
    int options = lua_istable(L, 2) ? 2 : 3;
    tarn_bind_count(L, function, options);
    lua_settop(L, 3);
    *axis = rank - 1;
    if (lua_isboolean(L, 3) && options == 3) {
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, 3);
        lua_setfield(L, -2, "descending");
        lua_replace(L, 3);
    }
    tarn_lua_check_options(L, options, function, sort_names, false);
    lua_Integer dim = tarn_lua_opt_integer(L, options, function, "dim", -1);
    if (options == 3 && !lua_isnil(L, 2)) {
        dim = tarn_bind_integer(L, 2, function, "a dimension");
    }
    *axis = tarn_bind_axis(L, dim, rank, function);
    return tarn_lua_opt_boolean(L, options, function, "descending", false);
}

// Pushes the order (argsort) or the ranks along axis, counted from 0, with the axis in its place.
static void push_order(lua_State *L, const tarn_op *op, int axis, int rank, bool descending) {
    int64_t order[TARN_MAX_RANK], down = descending;
    tarn_attr a = {.ni = 1, .i = &down};
    if (axis == rank - 1) {  // without permutations, so that it streams
        tarn_bind_unary(L, op, 1, &a);
        return;
    }
    for (int k = 0; k < rank; k++) {
        order[k] = k;
    }
    order[axis] = rank - 1;
    order[rank - 1] = axis;
    tarn_bind_permute(L, 1, order);
    tarn_bind_unary(L, op, -1, &a);
    tarn_bind_permute(L, -1, order);
}

static int order_of(lua_State *L, const tarn_op *op, const char *function) {
    tarn_desc d;
    int axis;
    tarn_bind_desc(L, 1, function, &d);
    bool down = read_sort(L, function, d.rank, &axis);
    push_order(L, op, axis, d.rank, down);
    return tarn_bind_shift(L, -1, 1);
}
static int l_argsort(lua_State *L) { return order_of(L, &tarn_op_argsort, "tensor:argsort"); }
static int l_ranks(lua_State *L) { return order_of(L, &tarn_op_rank, "tensor:ranks"); }

static int l_sort(lua_State *L) {
    tarn_desc d;
    int axis;
    tarn_bind_desc(L, 1, "tensor:sort", &d);
    bool down = read_sort(L, "tensor:sort", d.rank, &axis);
    push_order(L, &tarn_op_argsort, axis, d.rank, down);
    int at[2] = {1, lua_gettop(L)};
    int64_t i = axis;
    tarn_attr a = {.ni = 1, .i = &i};
    tarn_bind_apply(L, &tarn_op_gather, 2, at, &a);
    tarn_bind_shift(L, at[1], 1);
    return 2;
}

// The k-th largest value and the place up to which its equals belong to the k largest, as one vector;
// k or, when it is 0, a share of the elements.
static void push_kth(lua_State *L, int idx, int64_t k, double share) {
    tarn_desc d;
    tarn_bind_desc(L, idx, "kth_largest", &d);
    int64_t i[4] = {0, 0, k, tarn_dtype_compute(d.dtype) == TARN_F64 ? 64 : 32};
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &share};
    tarn_bind_unary(L, &tarn_op_kth, idx, &a);
}

static void push_item(lua_State *L, int idx, int64_t i) {
    idx = lua_absindex(L, idx);
    lua_pushinteger(L, i);
    tarn_bind_select(L, idx, -1);
    lua_remove(L, -2);
}

static int l_kth_largest(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "tensor:kth_largest", &d);
    int64_t k = tarn_bind_integer(L, 2, "tensor:kth_largest", "k"), n = tarn_desc_numel(&d);
    if (k < 1 || k > n) {
        return tarn_lua_error(L, "tensor:kth_largest: k is %lld; the tensor has %lld elements",
                              (long long)k, (long long)n);
    }
    push_kth(L, 1, k, 0);
    push_item(L, -1, 1);
    return 1;
}

static int l_top_mask(lua_State *L) {
    static const char *const names[] = {"k", "density", NULL};
    const char *function = "tensor:top_mask";
    tarn_desc d;
    tarn_bind_desc(L, 1, function, &d);
    tarn_lua_check_options(L, 2, function, names, false);
    int64_t k = tarn_lua_opt_integer(L, 2, function, "k", 0), n = tarn_desc_numel(&d);
    double share = tarn_lua_opt_number(L, 2, function, "density", 0);
    if ((k == 0) == (share == 0) || k < 0 || k > n || !(share >= 0 && share <= 1)) {
        return tarn_lua_error(L, "%s: give k (1 to %lld) or density (above 0, at most 1)", function,
                              (long long)n);
    }
    push_kth(L, 1, k, share);
    int at[3] = {1, lua_gettop(L) + 1, lua_gettop(L) + 2};
    push_item(L, at[1] - 1, 1);
    push_item(L, at[1] - 1, 2);
    return tarn_bind_apply(L, &tarn_op_top, 3, at, NULL);
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor.reductions", "reductions: t:sum(), t:sum(dim), t:sum({dim1, dim2}), t:sum { dim = 1, keepdim = true } -> tensor or number",
      "How sum, mean, var, std, norm, max, min, argmax, argmin, all, any and logsumexp are told their dimensions: none (all of them), one, or a "
      "list; they count from 1, or from -1 at the end. A reduced dimension goes, or stays with size 1 under keepdim. Over everything "
      "the result is a number, in memory; of a planned or recorded tensor it is a tensor of rank 0 that :item() makes one of. Sums, means and "
      "norms accumulate in f64 in a fixed order. Along dimensions the dtype is f64 for f64, f32 for other floats; of integers sum, max and min give i64, "
      "the others f32. Over no elements sum is 0, max -infinity, min infinity; argmax and argmin are errors.",
      "local t = tensor { {1, 2, 3}, {4, 5, 6} }\nprint(t:sum(), t:sum(-1):totable()[2], t:sum { dim = 1, keepdim = true }.shape)\n-- > 21.0\t15.0\t[1, 3]"}, NULL},
    {{"tensor:to", "t:to(dtype) -> tensor", "Converted to a dtype, rounded once to nearest even (floats to integers too, where PyTorch cuts off); t itself if it has that dtype. "
      "The dtypes: f64 f32 f16 bf16 f8_e4m3 f8_e5m2, i64 i32 i16 i8 u64 u32 u16 u8, bool. Arithmetic happens in f64, f32, i64 or bool; "
      "every other dtype is read into one of these.", "print(tensor { 1, 2.5 }:to(\"i64\").dtype)\n-- > i64"}, l_cast},
    {{"tensor:cast", "t:cast(dtype) -> tensor", "The same as t:to(dtype).", NULL}, l_cast},
    {{"tensor:matmul", "a:matmul(b) -> tensor", "Matrix product: [.., m, k] times [.., k, n] gives [.., m, n]; the dimensions before the last two are batches and are "
      "broadcast. A vector is a row on the left, a column on the right. f64 if an operand is f64, else f32. Tier B: the bytes depend on "
      "the BLAS build.",
      "print(tensor { {1, 2}, {3, 4} }:matmul(tensor { 1, 1 }))\n-- > f32[2]\n-- > [3., 7.]"}, l_matmul},
    {{"tensor:sort", "t:sort(dim, {descending = false}) -> values, indices", "Sorted along dim (the last when left out); stable, NaN counts as largest. Indices count from 1.",
      "local v, i = tensor { 3, 1, 2 }:sort()\nprint(v)\nprint(i)\n-- > f32[3]\n-- > [1., 2., 3.]\n-- > i64[3]\n-- > [2, 3, 1]"}, l_sort},
    {{"tensor:argsort", "t:argsort(dim, {descending = false}) -> indices", "The indices (from 1) that sort t along dim.",
      "print(tensor { 3, 1, 2 }:argsort())\n-- > i64[3]\n-- > [2, 3, 1]"}, l_argsort},
    {{"tensor:ranks", "t:ranks(dim, {descending = false}) -> ranks", "The place (from 1) that each element of t has in its order along dim: of equals the first is before. "
      "t:argsort() undone. It streams along the last dimension of a planned tensor.",
      "print(tensor { 3, 1, 2 }:ranks())\n-- > i64[3]\n-- > [3, 1, 2]"}, l_ranks},
    {{"tensor:kth_largest", "t:kth_largest(k) -> number", "The k-th largest of all elements, exactly; floating dtypes. It takes a few sweeps over a planned tensor, not a sort. k is an "
      "integer from 1 to the number of elements; else an error.",
      "print(tensor { 3, 1, 2 }:kth_largest(2))\n-- > 2.0"}, l_kth_largest},
    {{"tensor:top_mask", "t:top_mask({k =} or {density =}) -> bool tensor", "True at exactly the k largest elements (or trunc(density * n), at least one; 0 < density <= 1); of equal values the first ones. "
      "Take t:abs() for the largest magnitudes.",
      "print(tensor { 3, 1, 3, 3 }:top_mask({ k = 2 }))\n-- > bool[4]\n-- > [ true, false,  true, false]"}, l_top_mask},
};
// clang-format on

tarn_status tarn_bind_tensor_ops(tarn_host *h, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    luaL_checkstack(L, 8, "tensor");
    tarn_bind_methods(L, "tensor");
    tarn_host_push_module(h, "tensor");
    for (int i = 0; i < TARN_OP_COUNT; i++) {
        const form *f = form_of(tarn_ops[i]);
        if (f) {
            TARN_TRY(add_row(h, tarn_ops[i], f, err));
        }
    }
    lua_pop(L, 2);
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
    return TARN_OK;
}
