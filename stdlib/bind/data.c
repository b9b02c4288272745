// SPDX-License-Identifier: Apache-2.0
// What the library's data sets need of C beside tensors: files (IDX, CSV, bytes), windows over a text,
// orders, batches, digests. These are handed to stdlib/data.lua alone, which checks what scripts give;
// rows are numbers from 0 here. A recipe reads no files.
#include "stdlib/bind/data.h"

#include <string.h>
#include <unistd.h>

#include "stdlib/bind/tensor.h"
#include "vm/base/digest.h"
#include "vm/data/batch.h"
#include "vm/format/csv.h"
#include "vm/format/file.h"
#include "vm/format/idx.h"
#include "vm/op/kernel/random.h"

static const char *path_at(lua_State *L, int idx) {
    const char *path = tarn_lua_check_path(L, idx);
    if (tarn_host_trust(tarn_host_of(L)) == TARN_TRUST_RECIPE) {
        tarn_lua_error(L, "data: %s: files are not available to a recipe: it reads what `inputs` names", path);
    }
    tarn_bind_force(L, "a data set");
    return path;
}

// there(path) -> boolean: the file can be read
static int l_there(lua_State *L) {
    lua_pushboolean(L, access(path_at(L, 1), R_OK) == 0);
    return 1;
}

// A fresh tensor on the stack.
static tarn_tensor *fresh(lua_State *L, tarn_dtype dtype, int rank, const int64_t *shape) {
    tarn_error err;
    int64_t n;
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    if (tarn_shape_numel(rank, shape, &n, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_lua_account(L, (size_t)n * 8);
    if (tarn_tensor_new(tarn_host_context(L), dtype, rank, shape, &u->t, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    return &u->t;
}

static const tarn_tensor *tensor_at(lua_State *L, int idx) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    if (!u || !u->t.storage) {
        tarn_lua_error(L, "data: a tensor in memory is expected, got %s",
                       u ? u->recorded ? "a recorded one" : "one of a file (:load() it first)" : tarn_bind_kind(L, idx));
    }
    return &u->t;
}

// ---- IDX ----

typedef struct {
    tarn_idx *f;
} idx_file;

static void release_idx(void *self) {
    idx_file *p = self;
    tarn_idx_close(p->f);
    p->f = NULL;
}

static tarn_dtype dtype_of(tarn_idx_type t) {
    switch (t) {
    case TARN_IDX_U8:
        return TARN_U8;
    case TARN_IDX_I8:
        return TARN_I8;
    case TARN_IDX_I16:
        return TARN_I16;
    case TARN_IDX_I32:
        return TARN_I32;
    case TARN_IDX_F32:
        return TARN_F32;
    default:
        return TARN_F64;
    }
}

// idx(path) -> tensor
static int l_idx(lua_State *L) {
    tarn_error err;
    const char *path = path_at(L, 1);
    idx_file *p = tarn_lua_new(L, "idx file", sizeof *p);
    TARN_LUA_TRY(L, tarn_idx_open(tarn_host_context(L), path, &p->f, &err), &err);
    const tarn_idx_header *h = tarn_idx_header_of(p->f);
    tarn_tensor *t = fresh(L, dtype_of(h->type), h->rank, h->shape);
    TARN_LUA_TRY(L, tarn_idx_read(p->f, tarn_tensor_data(t), &err), &err);
    release_idx(p);
    return 1;
}

// ---- CSV and bytes ----

typedef struct {
    tarn_budget *budget;
    char *data;
    size_t bytes;
    tarn_csv *table;
} text_file;

static void release_text(void *self) {
    text_file *p = self;
    tarn_csv_close(p->table);
    if (p->data) {
        tarn_free(p->budget, p->data, p->bytes + 1);
    }
    p->table = NULL;
    p->data = NULL;
}

static text_file *read_text(lua_State *L, const char *path) {
    enum { MOST = 31 };  // bits
    tarn_error err;
    tarn_context *cx = tarn_host_context(L);
    text_file *p = tarn_lua_new(L, "text file", sizeof *p);
    p->budget = &cx->budget;
    if (tarn_file_read(cx, path, (uint64_t)1 << MOST, &p->data, &p->bytes, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    return p;
}

static void push_names(lua_State *L, const tarn_csv *t, int64_t n, const char *(*name)(const tarn_csv *, int64_t)) {
    if (n == 0 || !name(t, 0)) {
        lua_pushnil(L);
        return;
    }
    lua_newtable(L);
    for (int64_t i = 0; i < n; i++) {
        lua_pushstring(L, name(t, i));
        lua_rawseti(L, -2, i + 1);
    }
}

// csv(path, separator, header, label) -> numbers f64[rows, columns], labels or nil, classes, names of columns or
// nil, names of classes or nil
static int l_csv(lua_State *L) {
    tarn_error err;
    lua_settop(L, 4);
    const char *path = path_at(L, 1);
    tarn_csv_options o = {
        .separator = *luaL_optstring(L, 2, ","),
        .head = lua_isnil(L, 3) ? TARN_CSV_GUESS : lua_toboolean(L, 3) ? TARN_CSV_HEADER : TARN_CSV_NO_HEADER,
    };
    if (lua_isinteger(L, 4)) {
        o.label_column = lua_tointeger(L, 4);
    } else {
        o.label = luaL_optstring(L, 4, NULL);
    }
    text_file *p = read_text(L, path);
    TARN_LUA_TRY(L, tarn_csv_open(tarn_host_context(L), p->data, p->bytes, path, &o, &p->table, &err), &err);
    const int64_t shape[2] = {tarn_csv_rows(p->table), tarn_csv_columns(p->table)};
    tarn_tensor *numbers = fresh(L, TARN_F64, 2, shape), *labels = NULL;
    if (tarn_csv_labelled(p->table)) {
        labels = fresh(L, TARN_I64, 1, shape);
    } else {
        lua_pushnil(L);
    }
    TARN_LUA_TRY(L, tarn_csv_read(p->table, tarn_tensor_data(numbers), labels ? tarn_tensor_data(labels) : NULL, &err), &err);
    lua_pushinteger(L, tarn_csv_classes(p->table));
    push_names(L, p->table, shape[1], tarn_csv_column);
    push_names(L, p->table, tarn_csv_classes(p->table), tarn_csv_class);
    release_text(p);
    return 5;
}

// bytes(text) -> u8 tensor
static int l_bytes(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    memcpy(tarn_tensor_data(fresh(L, TARN_U8, 1, &(int64_t){(int64_t)n})), s, n);
    return 1;
}

// read(path) -> u8 tensor
static int l_read(lua_State *L) {
    text_file *p = read_text(L, path_at(L, 1));
    memcpy(tarn_tensor_data(fresh(L, TARN_U8, 1, &(int64_t){(int64_t)p->bytes})), p->data, p->bytes);
    release_text(p);
    return 1;
}

// windows(t, length, stride) -> x, y: views [n, length] of a vector, y one element later than x
static int l_windows(lua_State *L) {
    const tarn_tensor *t = tensor_at(L, 1);
    int64_t length = luaL_checkinteger(L, 2), stride = luaL_checkinteger(L, 3);
    int64_t n = t->shape[0] > length ? (t->shape[0] - 1 - length) / stride + 1 : 0;
    for (int k = 0; k < 2; k++) {
        tarn_lua_tensor *u = tarn_bind_new_tensor(L);
        tarn_tensor_share(t, &u->t);
        u->t.rank = 2;
        u->t.shape[0] = n;
        u->t.shape[1] = length;
        u->t.stride[0] = n > 0 ? stride * t->stride[0] : 0;
        u->t.stride[1] = n > 0 ? t->stride[0] : 0;
        u->t.offset += n > 0 ? k * t->stride[0] : 0;
    }
    return 2;
}

// ---- batches ----

#define BATCHER "batcher"

typedef struct {
    tarn_batcher *b;
} batcher;

static void release_batcher(void *self) {
    batcher *p = self;
    tarn_batcher_free(p->b);
    p->b = NULL;
}

// The list of numbers in a field of the options; it lives on the stack.
static const double *list(lua_State *L, int idx, const char *field, int n) {
    double *v = lua_newuserdatauv(L, (size_t)(n > 0 ? n : 1) * sizeof *v, 0);
    lua_getfield(L, idx, field);
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, -1, i + 1);
        v[i] = luaL_checknumber(L, -1);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return v;
}

// batcher(x, {raw =, image =, divisor =, channels =, mean = {…}, std = {…}, shift =, flip =, noise =, cutout =, seed =})
static int l_batcher(lua_State *L) {
    static const char what[] = "data";
    tarn_error err;
    lua_settop(L, 2);
    int channels = (int)tarn_lua_opt_integer(L, 2, what, "channels", 0);
    tarn_batch_options o = {
        .raw = tarn_lua_opt_boolean(L, 2, what, "raw", false),
        .image = tarn_lua_opt_boolean(L, 2, what, "image", false),
        .divisor = tarn_lua_opt_number(L, 2, what, "divisor", 0),
        .channels = channels,
        .shift = (int)tarn_lua_opt_integer(L, 2, what, "shift", 0),
        .flip = tarn_lua_opt_number(L, 2, what, "flip", 0),
        .noise = tarn_lua_opt_number(L, 2, what, "noise", 0),
        .cutout = (int)tarn_lua_opt_integer(L, 2, what, "cutout", 0),
        .seed = (uint64_t)tarn_lua_opt_integer(L, 2, what, "seed", 0),
    };
    o.mean = list(L, 2, "mean", channels);
    o.std = list(L, 2, "std", channels);
    batcher *p = tarn_lua_new(L, BATCHER, sizeof *p);
    TARN_LUA_TRY(L, tarn_batcher_make(tarn_host_context(L), tensor_at(L, 1), &o, &p->b, &err), &err);
    return 1;
}

// Row numbers: elements first … first + n - 1 of an i64 vector.
static const int64_t *rows_at(lua_State *L, int idx, int64_t first, int64_t n) {
    const tarn_tensor *t = tensor_at(L, idx);
    if (t->dtype != TARN_I64 || t->rank != 1 || !tarn_tensor_contiguous(t) || first < 0 || n < 0 || n > t->shape[0] - first) {
        tarn_lua_error(L, "data: rows %lld to %lld of an i64 vector are expected", (long long)first,
                       (long long)(first + n));
    }
    return (const int64_t *)tarn_tensor_data(t) + first;
}

// take(batcher, rows, first, n, epoch) -> tensor [n, …]
static int l_take(lua_State *L) {
    tarn_error err;
    const batcher *p = tarn_lua_check(L, 1, BATCHER);
    int64_t first = luaL_checkinteger(L, 3), n = luaL_checkinteger(L, 4);
    const int64_t *rows = rows_at(L, 2, first, n);
    uint64_t epoch = (uint64_t)luaL_optinteger(L, 5, 0);
    tarn_lua_account(L, tarn_batcher_bytes(p->b, n));
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    TARN_LUA_TRY(L, tarn_batcher_take(p->b, n, rows, epoch, &u->t, &err), &err);
    return 1;
}

// order(n, seed, epoch) -> i64 vector: 0 … n-1
static int l_order(lua_State *L) {
    int64_t n = luaL_checkinteger(L, 1);
    uint64_t seed = (uint64_t)luaL_checkinteger(L, 2), epoch = (uint64_t)luaL_checkinteger(L, 3);
    tarn_tensor *t = fresh(L, TARN_I64, 1, &n);
    tarn_data_order(tarn_host_context(L)->isa, seed, epoch, n, tarn_tensor_data(t));
    return 1;
}

// key(seed, step) -> integer
static int l_key(lua_State *L) {
    static const char name[] = "data.key";
    uint64_t seed = (uint64_t)luaL_checkinteger(L, 1), step = (uint64_t)luaL_checkinteger(L, 2);
    lua_pushinteger(L, (lua_Integer)(tarn_random_key(seed, name, sizeof name - 1, step, 0) >> 1));
    return 1;
}

// ---- digests ----

// digest(t) -> SHA-256 of dtype, shape and elements in row-major order
static int l_digest(lua_State *L) {
    const tarn_tensor *t = tensor_at(L, 1);
    tarn_sha256 h;
    unsigned char out[32];
    char hex[65];
    int64_t head[TARN_MAX_RANK + 1] = {t->rank};
    memcpy(head + 1, t->shape, (size_t)t->rank * sizeof *head);
    const char *dtype = tarn_dtype_get(t->dtype)->code;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, dtype, strlen(dtype) + 1);
    tarn_sha256_add(&h, head, ((size_t)t->rank + 1) * sizeof *head);
    tarn_tensor row = *t;  // rows of a window overlap: each is hashed
    row.shape[0] = t->shape[0] > 0 ? 1 : 0;
    if (!tarn_tensor_contiguous(&row)) {
        return tarn_lua_error(L, "data: an example is not contiguous");
    }
    const size_t one = tarn_tensor_bytes(&row), step = (size_t)t->stride[0] * (size_t)tarn_dtype_get(t->dtype)->bits / 8;
    const char *p = tarn_tensor_data(t);
    for (int64_t i = 0; i < t->shape[0]; i++) {
        tarn_sha256_add(&h, p + (size_t)i * step, one);
        if (i % 4096 == 0) {
            tarn_bind_poll(L);
        }
    }
    tarn_sha256_end(&h, out);
    tarn_hex(out, sizeof out, hex);
    lua_pushstring(L, hex);
    return 1;
}

tarn_status tarn_bind_data(tarn_host *h, const char *path, tarn_error *err) {
    static const luaL_Reg natives[] = {
        {"there", l_there},     {"idx", l_idx},         {"csv", l_csv},   {"bytes", l_bytes}, {"read", l_read},     {"windows", l_windows},
        {"batcher", l_batcher}, {"take", l_take},       {"order", l_order}, {"key", l_key},   {"digest", l_digest}, {"kind", tarn_bind_kind_of}, {NULL, NULL},
    };
    static const tarn_lua_class classes[] = {
        {"idx file", release_idx, NULL}, {"text file", release_text, NULL}, {BATCHER, release_batcher, NULL}};
    TARN_TRY(tarn_host_load_embedded(h, path, err));
    lua_State *L = tarn_host_running(h);
    luaL_checkstack(L, 8, "library");
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        tarn_lua_type(L, &classes[i]);
    }
    tarn_bind_push_define(L);
    lua_pushcfunction(L, tarn_bind_check);
    luaL_newlib(L, natives);
    return tarn_host_call(h, 3, 0, err);
}
