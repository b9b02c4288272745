// SPDX-License-Identifier: Apache-2.0
// Making tensors: from nested tables, filled, in steps, at random. Random numbers are a function of
// (seed, position), never of what was drawn before; a generator only counts which use of a seed is
// next.
#include <string.h>

#include "stdlib/bind/tensor.h"
#include "vm/op/kernel/random.h"

// ---- arguments ----

static const char *next_dtype(void *arg, size_t i) {
    (void)arg;
    return i < TARN_DTYPE_COUNT ? tarn_dtype_get((tarn_dtype)i)->name : NULL;
}

static tarn_dtype dtype_named(lua_State *L, const char *name, const char *function) {
    tarn_dtype t;
    if (!tarn_dtype_find(name, &t)) {
        const char *near = tarn_nearest(name, next_dtype, NULL);
        tarn_lua_error(L, "%s: unknown dtype '%.40s'; %s%s%s", function, name,
                       near ? "did you mean '" : "expected f32, f64, bf16, f16, i64, i32, i16, i8, u8, bool …",
                       near ? near : "", near ? "'?" : "");
    }
    return t;
}

tarn_dtype tarn_bind_dtype_at(lua_State *L, int idx, const char *function) {
    if (lua_type(L, idx) != LUA_TSTRING) {
        tarn_lua_error(L, "%s: a dtype is a name such as \"f32\", not a %s", function,
                       tarn_bind_kind(L, idx));
    }
    return dtype_named(L, lua_tostring(L, idx), function);
}

tarn_dtype tarn_bind_dtype(lua_State *L, int idx, const char *function, tarn_dtype d) {
    const char *name = tarn_lua_opt_string(L, idx, function, "dtype", NULL);
    return name ? dtype_named(L, name, function) : d;
}

int64_t tarn_bind_integer(lua_State *L, int idx, const char *function, const char *what) {
    int is = 0;
    lua_Integer v = lua_type(L, idx) == LUA_TNUMBER ? lua_tointegerx(L, idx, &is) : 0;
    if (!is) {
        tarn_lua_error(L, "%s: %s must be a whole number, got %s", function, what,
                       lua_type(L, idx) == LUA_TNUMBER ? lua_tostring(L, idx) : tarn_bind_kind(L, idx));
    }
    return v;
}

static void no_options(lua_State *L, int idx, const char *function, const char *what) {
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            tarn_lua_error(L, "%s: '%s' in %s: options go into a table of their own, after it", function,
                           lua_tostring(L, -1), what);
        }
    }
}

int tarn_bind_shape(lua_State *L, int idx, const char *function, int64_t *shape) {
    int rank = 1;
    idx = lua_absindex(L, idx);
    if (lua_istable(L, idx)) {
        if (lua_rawlen(L, idx) > TARN_MAX_RANK) {
            tarn_lua_error(L, "%s: a shape has at most %d dimensions", function, TARN_MAX_RANK);
        }
        no_options(L, idx, function, "a shape");
        rank = (int)lua_rawlen(L, idx);
        for (int k = 0; k < rank; k++) {
            lua_rawgeti(L, idx, k + 1);
            shape[k] = tarn_bind_integer(L, -1, function, "a dimension");
            lua_pop(L, 1);
        }
    } else if (lua_type(L, idx) == LUA_TNUMBER) {
        shape[0] = tarn_bind_integer(L, idx, function, "a dimension");
    } else {
        tarn_lua_error(L, "%s: a shape is a table such as {2, 3} or one integer, got %s", function, tarn_bind_kind(L, idx));
    }
    for (int k = 0; k < rank; k++) {
        if (shape[k] < 0) {
            tarn_lua_error(L, "%s: dimension %d of the shape is negative (%lld)", function, k + 1,
                           (long long)shape[k]);
        }
    }
    return rank;
}

static const char *const dtype_only[] = {"dtype", NULL};

// The option dtype of the table at idx, which is the last argument.
static tarn_dtype last_dtype(lua_State *L, int idx, const char *function, tarn_dtype d) {
    if (lua_type(L, idx) == LUA_TNUMBER) {
        tarn_lua_error(L, "%s: a shape of several dimensions is a table: {2, 3}", function);
    }
    tarn_lua_check_options(L, idx, function, dtype_only, false);
    return tarn_bind_dtype(L, idx, function, d);
}

// ---- fresh memory ----

static tarn_tensor *fresh(lua_State *L, const char *function, tarn_dtype dtype, int rank,
                          const int64_t *shape) {
    tarn_error err;
    int64_t n;
    if (tarn_dtype_get(dtype)->kind == TARN_KIND_OPAQUE) {
        tarn_lua_error(L, "%s: %s can be stored and copied, not made", function,
                       tarn_dtype_get(dtype)->name);
    }
    if (tarn_shape_numel(rank, shape, &n, &err) != TARN_OK) {
        tarn_error_prefix(&err, "%s", function);
        tarn_lua_raise(L, &err);
    }
    tarn_lua_account(L, n < (int64_t)1 << 50 ? tarn_dtype_bytes(dtype, n) : (size_t)1 << 50);
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    if (tarn_tensor_new(tarn_host_context(L), dtype, rank, shape, &u->t, &err) != TARN_OK) {
        tarn_error_prefix(&err, "%s", function);
        tarn_lua_raise(L, &err);
    }
    return &u->t;
}

// Every element becomes v, rounded to the dtype once.
static void fill(tarn_tensor *t, double v) {
    char *p = t->storage->data;
    size_t size = (size_t)tarn_dtype_get(t->dtype)->bits / 8, bytes = tarn_tensor_bytes(t);
    if (bytes == 0) {
        return;
    }
    tarn_element_set(t->dtype, p, v);
    for (size_t done = size; done < bytes; done *= 2) {
        memcpy(p + done, p, done < bytes - done ? done : bytes - done);
    }
}

static int filled(lua_State *L, const char *function, double v) {
    int64_t shape[TARN_MAX_RANK];
    int rank = tarn_bind_shape(L, 1, function, shape);
    tarn_dtype dtype = last_dtype(L, 2, function, TARN_F32);
    fill(fresh(L, function, dtype, rank, shape), v);
    return tarn_bind_settle(L);
}
static int l_zeros(lua_State *L) { return filled(L, "tensor.zeros", 0); }
static int l_ones(lua_State *L) { return filled(L, "tensor.ones", 1); }

static double value_at(lua_State *L, int idx, const char *function, const char *what) {
    if (lua_isboolean(L, idx)) {
        return lua_toboolean(L, idx);
    }
    if (lua_type(L, idx) != LUA_TNUMBER) {
        tarn_lua_error(L, "%s: %s must be a number, got %s", function, what,
                       tarn_bind_kind(L, idx));
    }
    return lua_tonumber(L, idx);
}

static int l_full(lua_State *L) {
    int64_t shape[TARN_MAX_RANK];
    int rank = tarn_bind_shape(L, 1, "tensor.full", shape);
    double v = value_at(L, 2, "tensor.full", "the value");
    tarn_dtype dtype = last_dtype(L, 3, "tensor.full", lua_isboolean(L, 2) ? TARN_BOOL : TARN_F32);
    fill(fresh(L, "tensor.full", dtype, rank, shape), v);
    return tarn_bind_settle(L);
}

static int filled_like(lua_State *L, const char *function, double v) {
    tarn_desc d;
    tarn_bind_desc(L, 1, function, &d);
    tarn_dtype dtype = last_dtype(L, 2, function, d.dtype);
    fill(fresh(L, function, dtype, d.rank, d.shape), v);
    return tarn_bind_settle(L);
}
static int l_zeros_like(lua_State *L) { return filled_like(L, "tensor.zeros_like", 0); }
static int l_ones_like(lua_State *L) { return filled_like(L, "tensor.ones_like", 1); }

static int l_eye(lua_State *L) {
    int64_t shape[2];
    shape[0] = shape[1] = tarn_bind_integer(L, 1, "tensor.eye", "the size");
    bool two = lua_type(L, 2) == LUA_TNUMBER;
    if (two) {
        shape[1] = tarn_bind_integer(L, 2, "tensor.eye", "the number of columns");
    }
    tarn_dtype dtype = last_dtype(L, two ? 3 : 2, "tensor.eye", TARN_F32);
    tarn_tensor *t = fresh(L, "tensor.eye", dtype, 2, shape);
    fill(t, 0);
    for (int64_t i = 0; i < shape[0] && i < shape[1]; i++) {
        tarn_tensor_set(t, i * shape[1] + i, 1);
    }
    return 1;
}

// ---- steps ----

static int steps(lua_State *L, const char *function, bool closed) {
    double v[3] = {closed ? 1 : 0, 0, 1};
    int n = 0;
    bool whole = true;
    while (n < 3 && lua_type(L, n + 1) == LUA_TNUMBER) {
        whole = whole && lua_isinteger(L, n + 1);
        n++;
    }
    if (n == 0) {
        value_at(L, 1, function, "the end");
    }
    for (int k = 0; k < n; k++) {
        v[n == 1 ? 1 : k] = lua_tonumber(L, k + 1);
    }
    tarn_dtype dtype = last_dtype(L, n + 1, function, whole ? TARN_I64 : TARN_F32);
    double count = (v[1] - v[0]) / v[2];
    if (v[2] == 0 || !(count > -9e15 && count < 9e15)) {
        return tarn_lua_error(L, "%s: from %g to %g in steps of %g has no end", function, v[0], v[1],
                              v[2]);
    }
    count = closed ? __builtin_floor(count) + 1 : __builtin_ceil(count);
    int64_t size = count > 0 ? (int64_t)count : 0;
    tarn_tensor *t = fresh(L, function, dtype, 1, &size);
    for (int64_t i = 0; i < size; i++) {
        if (i % TARN_BIND_POLL == 0) {
            tarn_bind_poll(L);
        }
        tarn_tensor_set(t, i, v[0] + (double)i * v[2]);
    }
    return 1;
}
static int l_arange(lua_State *L) { return steps(L, "tensor.arange", false); }
static int l_range(lua_State *L) { return steps(L, "tensor.range", true); }

static int l_linspace(lua_State *L) {
    double a = value_at(L, 1, "tensor.linspace", "the start");
    double b = value_at(L, 2, "tensor.linspace", "the end");
    int64_t n = tarn_bind_integer(L, 3, "tensor.linspace", "the number of points");
    if (n < 0) {
        return tarn_lua_error(L, "tensor.linspace: the number of points is negative (%lld)",
                              (long long)n);
    }
    tarn_dtype dtype = last_dtype(L, 4, "tensor.linspace", TARN_F32);
    tarn_tensor *t = fresh(L, "tensor.linspace", dtype, 1, &n);
    for (int64_t i = 0; i < n; i++) {  // from both ends, so that both are exact
        double s = n > 1 ? (b - a) / (double)(n - 1) : 0;
        tarn_tensor_set(t, i, i < (n + 1) / 2 ? a + (double)i * s : b - (double)(n - 1 - i) * s);
    }
    return 1;
}

// ---- nested tables ----

typedef struct {
    int rank;
    int64_t shape[TARN_MAX_RANK];
    tarn_dtype dtype;  // of the first element: bool or f32
    size_t size;
    char *at;          // where the next element goes
    int64_t place[TARN_MAX_RANK];
} nested;

// "[2][1]": where a fault lies.
static const char *place(lua_State *L, const nested *s, int depth) {
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int k = 0; k < depth; k++) {
        lua_pushfstring(L, "[%I]", (LUAI_UACINT)s->place[k]);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

// The shape is that of the first elements.
static void measure(lua_State *L, nested *s) {
    luaL_checkstack(L, TARN_MAX_RANK + 4, "tensor");
    lua_pushvalue(L, 1);
    while (lua_type(L, -1) == LUA_TTABLE) {
        if (s->rank == TARN_MAX_RANK) {
            tarn_lua_error(L, "tensor: tables more than %d deep", TARN_MAX_RANK);
        }
        s->shape[s->rank++] = (int64_t)lua_rawlen(L, -1);
        lua_rawgeti(L, -1, 1);
    }
    s->dtype = lua_isboolean(L, -1) ? TARN_BOOL : TARN_F32;
    lua_settop(L, 2);
}

static void read_nested(lua_State *L, nested *s, int depth) {
    int type = lua_type(L, -1);
    if (depth == s->rank) {
        if (type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
            const char *hint = tarn_bind_to_tensor(L, -1) ? " (tensor.stack joins tensors)" : "";
            const char *kind = tarn_bind_kind(L, -1);
            tarn_lua_error(L, "tensor: element %s is a %s; expected a number%s", place(L, s, depth),
                           kind, hint);
        }
        if (s->dtype == TARN_I64 && lua_isinteger(L, -1)) {
            lua_Integer v = lua_tointeger(L, -1);
            memcpy(s->at, &v, sizeof v);
        } else {
            tarn_element_set(s->dtype, s->at, type == LUA_TBOOLEAN ? lua_toboolean(L, -1)
                                                                   : lua_tonumber(L, -1));
        }
        s->at += s->size;
        return;
    }
    if (type != LUA_TTABLE) {
        tarn_lua_error(L, "tensor: element %s is a %s; expected a table of %lld", place(L, s, depth),
                       tarn_bind_kind(L, -1), (long long)s->shape[depth]);
    }
    if ((int64_t)lua_rawlen(L, -1) != s->shape[depth]) {
        tarn_lua_error(L, "tensor: row %s has %lld elements, the first one %lld", place(L, s, depth),
                       (long long)lua_rawlen(L, -1), (long long)s->shape[depth]);
    }
    tarn_bind_poll(L);
    for (int64_t i = 0; i < s->shape[depth]; i++) {
        s->place[depth] = i + 1;
        lua_rawgeti(L, -1, i + 1);
        read_nested(L, s, depth + 1);
        lua_pop(L, 1);
    }
}

static int l_tensor(lua_State *L) {
    lua_settop(L, 2);
    if (lua_type(L, 1) == LUA_TNUMBER || lua_isboolean(L, 1) || tarn_bind_to_tensor(L, 1)) {
        tarn_desc d;
        tarn_bind_desc(L, 1, "tensor", &d);
        tarn_dtype dtype = last_dtype(L, 2, "tensor", d.dtype);
        return tarn_bind_cast(L, 1, dtype);
    }
    if (lua_type(L, 1) != LUA_TTABLE) {
        return tarn_lua_error(L, "tensor: expected a table of numbers, got %s",
                              lua_isnoneornil(L, 1) ? "nothing" : tarn_bind_kind(L, 1));
    }
    nested s = {0};
    no_options(L, 1, "tensor", "a table of numbers");
    measure(L, &s);
    s.dtype = last_dtype(L, 2, "tensor", s.dtype);
    s.size = (size_t)tarn_dtype_get(s.dtype)->bits / 8;
    s.at = fresh(L, "tensor", s.dtype, s.rank, s.shape)->storage->data;
    lua_pushvalue(L, 1);
    read_nested(L, &s, 0);
    lua_pop(L, 1);
    return 1;
}

// ---- random numbers ----

typedef struct {
    uint64_t seed;
    uint64_t used;  // how many tensors were drawn
} generator;

static int l_generator(lua_State *L) {
    int64_t seed = tarn_bind_integer(L, 1, "tensor.generator", "the seed");
    generator *g = tarn_lua_new(L, "generator", sizeof *g);
    g->seed = (uint64_t)seed;
    return 1;
}

static int generator_tostring(lua_State *L) {
    const generator *g = tarn_lua_check(L, 1, "generator");
    lua_pushfstring(L, "generator (seed %I, %I drawn)", (LUAI_UACINT)g->seed, (LUAI_UACINT)g->used);
    return 1;
}

// The key of the next tensor drawn from the seed or generator at idx. `use` keeps functions apart
// that are given the same seed.
static uint64_t next_key(lua_State *L, int idx, const char *function, uint64_t use) {
    generator *g = tarn_lua_test(L, idx, "generator");
    if (g) {
        return tarn_random_key(g->seed, "generator", 9, ++g->used, use);
    }
    if (lua_isnoneornil(L, idx) || lua_istable(L, idx)) {
        tarn_lua_error(L, "%s: a seed or generator is needed after the shape, so that runs repeat: "
                       "%s({2, 3}, 1)", function, function);
    }
    return tarn_random_key((uint64_t)tarn_bind_integer(L, idx, function, "the seed"), "", 0, 0, use);
}

enum { USE_UNIFORM = 1, USE_NORMAL, USE_BERNOULLI, USE_RANDINT, USE_RANDPERM };

// Pushes what a row without inputs makes; p: the probability, where the row takes one.
static int drawn(lua_State *L, const tarn_op *op, tarn_dtype dtype, int rank, const int64_t *shape,
                 uint64_t key, const double *p) {
    int64_t i[TARN_MAX_RANK + 2] = {dtype};
    memcpy(i + 1, shape, (size_t)rank * sizeof *shape);
    memcpy(&i[rank + 1], &key, sizeof key);
    tarn_attr a = {.ni = rank + 2, .i = i, .nf = p ? 1 : 0, .f = p};
    return tarn_bind_apply(L, op, 0, NULL, &a);
}

static tarn_dtype float_dtype(lua_State *L, int idx, const char *function) {
    tarn_dtype t = tarn_bind_dtype(L, idx, function, TARN_F32);
    if (!tarn_dtype_is_float(t)) {
        tarn_lua_error(L, "%s: dtype %s is not a floating one", function, tarn_dtype_get(t)->name);
    }
    return t;
}

// x * scale + shift, then narrowed to the dtype wanted.
static int scaled(lua_State *L, double scale, double shift, tarn_dtype dtype) {
    static const int both[2] = {-2, -1};
    const double v[2] = {scale, shift};
    for (int k = 0; k < 2; k++) {
        if (v[k] == (k == 0 ? 1 : 0)) {
            continue;
        }
        int at[2] = {lua_absindex(L, both[1]), lua_absindex(L, both[1]) + 1};
        lua_pushnumber(L, v[k]);
        tarn_bind_apply(L, k == 0 ? &tarn_op_mul : &tarn_op_add, 2, at, NULL);
    }
    return tarn_bind_cast(L, -1, dtype);
}

// Two bare numbers would be two dimensions in PyTorch, and a size and a seed here: neither.
static void refuse_dimensions(lua_State *L, const char *function) {
    int whole = 0;
    lua_tointegerx(L, 2, &whole);
    if (whole && lua_type(L, 1) == LUA_TNUMBER && lua_type(L, 2) == LUA_TNUMBER) {
        const char *n = luaL_tolstring(L, 1, NULL), *m = luaL_tolstring(L, 2, NULL);
        tarn_lua_error(L, "%s: a shape of several dimensions is a table: {%s, %s}; a seed goes with a table: "
                       "%s({%s}, %s)", function, n, m, function, n, m);
    }
}

static int random_float(lua_State *L, const char *function, const tarn_op *op, uint64_t use,
                        const char *const *names, bool centred) {
    int64_t shape[TARN_MAX_RANK];
    int rank = tarn_bind_shape(L, 1, function, shape);
    refuse_dimensions(L, function);
    uint64_t key = next_key(L, 2, function, use);
    tarn_lua_check_options(L, 3, function, names, false);
    tarn_dtype dtype = float_dtype(L, 3, function);
    double a = 0, b = 1;
    if (names[1]) {
        a = tarn_lua_opt_number(L, 3, function, names[1], 0);
        b = tarn_lua_opt_number(L, 3, function, names[2], 1);
    }
    drawn(L, op, tarn_dtype_compute(dtype), rank, shape, key, NULL);
    return scaled(L, centred ? b : b - a, a, dtype);
}
static int l_rand(lua_State *L) {
    return random_float(L, "tensor.rand", &tarn_op_uniform, USE_UNIFORM, dtype_only, false);
}
static int l_randn(lua_State *L) {
    return random_float(L, "tensor.randn", &tarn_op_normal, USE_NORMAL, dtype_only, true);
}
static int l_uniform(lua_State *L) {
    static const char *const names[] = {"dtype", "low", "high", NULL};
    return random_float(L, "tensor.uniform", &tarn_op_uniform, USE_UNIFORM, names, false);
}
static int l_normal(lua_State *L) {
    static const char *const names[] = {"dtype", "mean", "std", NULL};
    return random_float(L, "tensor.normal", &tarn_op_normal, USE_NORMAL, names, true);
}

static int l_bernoulli(lua_State *L) {
    const char *function = "tensor.bernoulli";
    int64_t shape[TARN_MAX_RANK];
    int rank = tarn_bind_shape(L, 1, function, shape);
    double p = value_at(L, 2, function, "the probability");
    if (!(p >= 0 && p <= 1)) {
        return tarn_lua_error(L, "%s: the probability is %g; expected 0 to 1", function, p);
    }
    uint64_t key = next_key(L, 3, function, USE_BERNOULLI);
    tarn_dtype dtype = last_dtype(L, 4, function, TARN_BOOL);
    drawn(L, &tarn_op_bernoulli, TARN_BOOL, rank, shape, key, &p);
    return tarn_bind_cast(L, -1, dtype);
}

// Word pairs of a Philox sequence as whole numbers below n, by the high half of a product: uniform up
// to n / 2^64.
static uint64_t below(lua_State *L, uint64_t key, int64_t i, uint64_t n) {
    tarn_context *cx = tarn_host_context(L);
    uint32_t w[2];
    if (i % TARN_BIND_POLL == 0) {
        tarn_bind_poll(L);
    }
    tarn_random(cx->isa)->words(key, 2 * i, 2, w);
    return (uint64_t)((unsigned __int128)((uint64_t)w[0] << 32 | w[1]) * n >> 64);
}

static int l_randint(lua_State *L) {
    const char *function = "tensor.randint";
    int64_t low = tarn_bind_integer(L, 1, function, "the lowest value");
    int64_t high = tarn_bind_integer(L, 2, function, "the end");
    int64_t shape[TARN_MAX_RANK];
    int rank = tarn_bind_shape(L, 3, function, shape);
    if (high <= low) {
        return tarn_lua_error(L, "%s: no whole number is at least %lld and below %lld", function,
                              (long long)low, (long long)high);
    }
    uint64_t key = next_key(L, 4, function, USE_RANDINT), n = (uint64_t)high - (uint64_t)low;
    tarn_tensor *t = fresh(L, function, TARN_I64, rank, shape);
    int64_t *p = tarn_tensor_data(t), count = tarn_tensor_numel(t);
    for (int64_t i = 0; i < count; i++) {
        p[i] = (int64_t)((uint64_t)low + below(L, key, i, n));
    }
    return tarn_bind_settle(L);
}

static int l_randperm(lua_State *L) {
    const char *function = "tensor.randperm";
    int64_t n = tarn_bind_integer(L, 1, function, "the size");
    if (n < 0) {
        return tarn_lua_error(L, "%s: the size is negative (%lld)", function, (long long)n);
    }
    uint64_t key = next_key(L, 2, function, USE_RANDPERM);
    tarn_tensor *t = fresh(L, function, TARN_I64, 1, &n);
    int64_t *p = tarn_tensor_data(t);
    for (int64_t i = 0; i < n; i++) {  // Fisher-Yates, inside out
        int64_t k = (int64_t)below(L, key, i, (uint64_t)i + 1);
        p[i] = p[k];
        p[k] = i + 1;
    }
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor", "tensor(values, {dtype = \"f32\"}) -> tensor",
      "A tensor in memory from nested tables of numbers; all rows of a level have the same length. Booleans make "
      "a bool tensor; numbers an f32 one unless dtype says otherwise (tensor:to lists the dtypes). A tensor is copied. "
      "See tensor.indexing and tensor.operators; tensors have at most 8 dimensions.", "print(tensor { {1, 2}, {3, 4} })\n-- > f32[2, 2]\n-- > [[1., 2.],\n-- >  [3., 4.]]"}, l_tensor},
    {{"tensor.zeros", "tensor.zeros(shape, {dtype = \"f32\"}) -> tensor", "Zeros. A shape is a table or one integer.",
      "print(tensor.zeros({2, 3}):sum())\n-- > 0.0"}, l_zeros},
    {{"tensor.ones", "tensor.ones(shape, {dtype = \"f32\"}) -> tensor", "Ones. A shape is a table or one integer.",
      "print(tensor.ones({2, 3}):sum())\n-- > 6.0"}, l_ones},
    {{"tensor.full", "tensor.full(shape, value, {dtype = \"f32\"}) -> tensor", "One value everywhere, rounded once.",
      "print(tensor.full({2}, 0.5))\n-- > f32[2]\n-- > [0.5000, 0.5000]"}, l_full},
    {{"tensor.zeros_like", "tensor.zeros_like(t, {dtype =}) -> tensor", "Zeros of t's shape and dtype, in memory.",
      "print(tensor.zeros_like(tensor { 1, 2 }).shape)\n-- > [2]"}, l_zeros_like},
    {{"tensor.ones_like", "tensor.ones_like(t, {dtype =}) -> tensor", "Ones of t's shape and dtype, in memory.",
      "print(tensor.ones_like(tensor { 5, 7 }):sum())\n-- > 2.0"}, l_ones_like},
    {{"tensor.eye", "tensor.eye(n, m, {dtype = \"f32\"}) -> tensor", "Ones on the diagonal of an n by m matrix; m is n when left out.",
      "print(tensor.eye(3):sum())\n-- > 3.0"}, l_eye},
    {{"tensor.arange", "tensor.arange(first, last, step, {dtype =}) -> tensor",
      "first, first + step, … below last (which is left out, as in PyTorch; tensor.range includes it). One argument is "
      "last, counted from 0. i64 for Lua integers, else f32.", "print(tensor.arange(4):totable()[4])\n-- > 3"}, l_arange},
    {{"tensor.range", "tensor.range(first, last, step, {dtype =}) -> tensor",
      "first, first + step, … up to and with last, like Lua's for. One argument is last, counted from 1. i64 for Lua "
      "integers, else f32.", "print(tensor.range(4):totable()[4])\n-- > 4"}, l_range},
    {{"tensor.linspace", "tensor.linspace(first, last, n, {dtype = \"f32\"}) -> tensor", "n evenly spaced points, both ends included.",
      "print(tensor.linspace(0, 1, 5)[2])\n-- > 0.25"}, l_linspace},
    {{"tensor.generator", "tensor.generator(seed) -> generator",
      "A source of random numbers that counts the tensors drawn from it: give it instead of a seed where many are "
      "wanted.", "local g = tensor.generator(1)\nprint(tensor.equal(tensor.rand(4, g), tensor.rand(4, g)))\n-- > false"}, l_generator},
    {{"tensor.rand", "tensor.rand(shape, seed, {dtype = \"f32\"}) -> tensor",
      "Uniform numbers in [0, 1). The seed (an integer, beside which the shape is a table, or a generator) is always given; the same seed, dtype and shape give "
      "the same numbers on any machine (Philox4x32-10).",
      "print(tensor.equal(tensor.rand({2, 3}, 1), tensor.rand({2, 3}, 1)))\n-- > true"}, l_rand},
    {{"tensor.randn", "tensor.randn(shape, seed, {dtype = \"f32\"}) -> tensor",
      "Normal numbers of mean 0 and variance 1 (Box-Muller). The seed is an integer, beside which the shape is a table, or a generator.",
      "print(tensor.randn({2, 3}, 1).shape)\n-- > [2, 3]"}, l_randn},
    {{"tensor.uniform", "tensor.uniform(shape, seed, {low = 0, high = 1, dtype = \"f32\"}) -> tensor",
      "Uniform numbers in [low, high). The seed is an integer or a generator.",
      "print(tensor.uniform({1000}, 7, { low = 2, high = 3 }):min() >= 2)\n-- > true"}, l_uniform},
    {{"tensor.normal", "tensor.normal(shape, seed, {mean = 0, std = 1, dtype = \"f32\"}) -> tensor",
      "Normal numbers. The seed is an integer or a generator.",
      "print(tensor.normal({4, 2}, 7, { mean = 10, std = 0.5 }).shape)\n-- > [4, 2]"}, l_normal},
    {{"tensor.bernoulli", "tensor.bernoulli(shape, p, seed, {dtype = \"bool\"}) -> tensor",
      "True with probability p, independently. The seed is an integer or a generator.",
      "print(tensor.bernoulli(3, 1, 7):sum())\n-- > 3.0"}, l_bernoulli},
    {{"tensor.randint", "tensor.randint(low, high, shape, seed) -> tensor",
      "Whole numbers at least low and below high (i64), as in PyTorch. The seed is an integer or a generator.",
      "print(tensor.randint(1, 7, {100}, 7):max() <= 6)\n-- > true"}, l_randint},
    {{"tensor.randperm", "tensor.randperm(n, seed) -> tensor",
      "The numbers 1 to n in random order (i64). The seed is an integer or a generator.",
      "print(tensor.randperm(5, 7):sum())\n-- > 15.0"}, l_randperm},
};
// clang-format on

void tarn_bind_tensor_make(tarn_host *h) {
    static const luaL_Reg metamethods[] = {{"__tostring", generator_tostring}, {NULL, NULL}};
    static const tarn_lua_class class = {"generator", NULL, metamethods};
    tarn_lua_type(tarn_host_state(h), &class);
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
