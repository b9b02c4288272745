// SPDX-License-Identifier: Apache-2.0
// What the library's training files need of C beside tensors: the line that says how far a run has
// come, stops that wait until a checkpoint is written, a model with other values, and the fingerprint
// of a model's contents that a cache is keyed by. These are handed to the files alone; no script sees
// them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "merge/plan/output.h"
#include "stdlib/bind/align.h"
#include "stdlib/bind/model.h"
#include "stdlib/bind/recording.h"
#include "stdlib/bind/tensor.h"
#include "stdlib/bind/train.h"
#include "vm/base/digest.h"
#include "vm/store/digests.h"

// now() -> seconds of a clock that only goes forward
static int l_now(lua_State *L) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    lua_pushnumber(L, (double)t.tv_sec + (double)t.tv_nsec * 1e-9);
    return 1;
}

// ---- the progress line ----

static bool can_draw(lua_State *L) {
    const char *term = getenv("TERM");
    return tarn_host_context(L)->progress.show && isatty(STDERR_FILENO) && term && *term &&
           strcmp(term, "dumb") != 0;
}

static void put_line(const char *text, size_t n) {
    struct winsize w;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1;
    size_t room = known ? (size_t)w.ws_col - 1 : 79;
    char out[512];
    room = room < sizeof out - 8 ? room : sizeof out - 8;
    int m = snprintf(out, sizeof out, "\r%.*s\033[K", (int)(n < room ? n : room), text);
    ssize_t done = write(STDERR_FILENO, out, (size_t)m);
    (void)done;
}

// line(text) draws it over the one before; line() wipes that. Returns false where nothing is to be drawn.
static int l_line(lua_State *L) {
    size_t n = 0;
    const char *text = luaL_optlstring(L, 1, "", &n);
    bool draws = can_draw(L);
    if (draws) {
        put_line(text, n);
    }
    lua_pushboolean(L, draws);
    return 1;
}

// ---- stops that wait ----

typedef struct {
    tarn_host *host;  // that stops are held in; NULL: they are not, or no longer
    bool draws;       // there may be a progress line
} hold;

static void release_hold(void *self) {
    hold *h = self;
    if (h->draws) {
        put_line("", 0);
        h->draws = false;
    }
    if (h->host) {
        tarn_host_release(h->host);
        h->host = NULL;
    }
}

// run(hold) -> a value to be closed, also by an error or a stop, which wipes the progress line. With hold a
// stop waits until then; a second one does not.
static int l_run(lua_State *L) {
    hold *h = tarn_lua_new(L, "training run", sizeof *h);
    h->draws = can_draw(L);
    if (lua_toboolean(L, 1)) {
        h->host = tarn_host_of(L);
        tarn_host_hold(h->host);
    }
    return 1;
}

// stopping() -> true when a stop waits
static int l_stopping(lua_State *L) {
    lua_pushboolean(L, tarn_host_held(tarn_host_of(L)));
    return 1;
}

// stop(run): ends what it holds, and raises the stop that waited, if there is one and nothing else holds it
static int l_stop(lua_State *L) {
    tarn_error err;
    tarn_error_clear(&err);
    release_hold(tarn_lua_check(L, 1, "training run"));
    TARN_LUA_TRY(L, tarn_cancel_check(&tarn_host_context(L)->cancel, &err), &err);
    return 0;
}

// note(text): what the error of a stop says besides; note(): nothing
static int l_note(lua_State *L) {
    tarn_host_note(tarn_host_of(L), luaL_optstring(L, 1, NULL));
    return 0;
}

// ---- models ----

typedef struct {
    int64_t n;
    const char **names;
    tarn_tensor *tensors;
} values;

// with_values(model, {[name] = tensor}) -> the model with these values; names that the table lacks keep theirs.
// What is not changed in kind stays: order, mass, dtypes of the output, side files.
static int l_with_values(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    luaL_checkstack(L, 12, "model");
    values v = {.names = lua_newuserdatauv(L, ((size_t)m->n + 1) * sizeof *v.names, 0),
                .tensors = tarn_bind_hold(L, (int)m->n)};
    tarn_error err;
    tarn_error_clear(&err);
    for (int64_t i = 0; i < m->n; i++) {
        v.names[i] = m->slots[i].name;
        lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
        if (lua_rawget(L, 2) != LUA_TNIL) {
            if (!tarn_bind_to_tensor(L, -1)) {
                return tarn_lua_error(L, "the value of %s is a %s, not a tensor", v.names[i],
                                      tarn_bind_kind(L, -1));
            }
            tarn_bind_value(L, -1, &v.tensors[i]);
            if (m->slots[i].rank == 0 && v.tensors[i].rank == 1 && v.tensors[i].shape[0] == 1) {
                v.tensors[i].rank = 0;  // what computes keeps them so, since without an axis they are numbers
            }
        } else {
            TARN_LUA_TRY(L, tarn_model_tensor(tarn_host_context(L), m, i, &v.tensors[i], &err), &err);
        }
        lua_pop(L, 1);
    }
    tarn_model **out = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_model_of_tensors(tarn_host_context(L), m->n, v.names, v.tensors, m->mass, m, out,
                                          &err), &err);
    return 1;
}

// The SHA-256 over those of the pieces, as for tensors in files; the tensor is contiguous.
static void hash_tensor(const tarn_tensor *t, unsigned char out[32]) {
    const char *p = tarn_tensor_data(t);
    size_t left = tarn_tensor_bytes(t);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    while (left > 0) {
        unsigned char piece[32];
        size_t n = left < TARN_DIGEST_PIECE ? left : TARN_DIGEST_PIECE;
        tarn_sha256_of(p, n, piece);
        tarn_sha256_add(&h, piece, sizeof piece);
        p += n;
        left -= n;
    }
    tarn_sha256_end(&h, out);
}

static int push_hex(lua_State *L, tarn_sha256 *h) {
    unsigned char sum[32];
    char hex[65];
    tarn_sha256_end(h, sum);
    tarn_hex(sum, 32, hex);
    lua_pushstring(L, hex);
    return 1;
}

static void add_tensor(lua_State *L, tarn_sha256 *h, tarn_text *line, const char *name, size_t len,
                       const tarn_tensor *t) {
    unsigned char digest[32];
    if (!tarn_tensor_contiguous(t)) {
        tarn_lua_error(L, "fingerprint: %s is a view; make it whole first (:clone())", name);
    }
    hash_tensor(t, digest);
    tarn_digest_line(h, line, name, len, t->dtype, t->rank, t->shape, digest);
    if (line->failed) {
        tarn_error err;
        tarn_raise_nomem(&err, "a fingerprint", len);
        tarn_lua_raise(L, &err);
    }
}

// Of values in memory, as the digest of a model in files.
static int digest_of_memory(lua_State *L, tarn_model *m) {
    tarn_text *line = tarn_bind_new_text(L);
    tarn_tensor *t = tarn_bind_hold(L, 1);
    tarn_sha256 h;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_sha256_begin(&h);
    for (int64_t k = 0; k < m->n; k++) {
        const tarn_slot *s = &m->slots[m->by_name[k]];
        TARN_LUA_TRY(L, tarn_model_tensor(tarn_host_context(L), m, m->by_name[k], t, &err), &err);
        add_tensor(L, &h, line, s->name, s->len, t);
        tarn_tensor_release(t);
    }
    return push_hex(L, &h);
}

// fingerprint(tensor or model) -> hex: equal contents, equal texts. Of a plan over files the plan and the
// digests of its inputs, so nothing is computed.
static int l_fingerprint(lua_State *L) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, 1);
    tarn_sha256 h;
    tarn_error err;
    tarn_error_clear(&err);
    if (u) {
        tarn_text *line = tarn_bind_new_text(L);
        tarn_tensor *t = tarn_bind_hold(L, 1);
        tarn_bind_value(L, 1, t);
        tarn_sha256_begin(&h);
        add_tensor(L, &h, line, "tensor", 6, t);
        return push_hex(L, &h);
    }
    tarn_model *m = tarn_bind_check_model(L, 1);
    if (tarn_model_in_memory(m)) {
        return digest_of_memory(L, m);
    }
    tarn_bind_force(L, "fingerprint");
    if (m->store && m->nin == 0) {
        char hex[65];
        TARN_LUA_TRY(L, tarn_model_digest(m, hex, &err), &err);
        lua_pushstring(L, hex);
        return 1;
    }
    tarn_text *json = tarn_bind_new_text(L);
    tarn_plan_options o = {0};
    bool replayable = false;
    TARN_LUA_TRY(L, tarn_plan_json(m, &o, json, &replayable, &err), &err);
    if (!replayable) {
        tarn_model **now = tarn_bind_new_model(L);
        TARN_LUA_TRY(L, tarn_model_load(tarn_host_context(L), m, now, &err), &err);
        return digest_of_memory(L, *now);
    }
    tarn_model *inputs[TARN_PLAN_INPUTS];
    int n = 0;
    TARN_LUA_TRY(L, tarn_plan_inputs(m, inputs, &n, &err), &err);
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, json->data, json->len);
    for (int k = 0; k < n; k++) {
        char hex[65];
        TARN_LUA_TRY(L, tarn_model_digest(inputs[k], hex, &err), &err);
        tarn_sha256_add(&h, hex, 64);
    }
    return push_hex(L, &h);
}

// text_hash(text) -> hex
static int l_text_hash(lua_State *L) {
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, s, n);
    return push_hex(L, &h);
}

// memory() -> bytes of the budget, bytes of it that are in use
static int l_memory(lua_State *L) {
    tarn_budget *b = &tarn_host_context(L)->budget;
    lua_pushinteger(L, b->limit > INT64_MAX ? INT64_MAX : (lua_Integer)b->limit);
    lua_pushinteger(L, (lua_Integer)atomic_load(&b->used));
    return 2;
}

// no_room(text): the error OutOfMemory with this text
static int l_no_room(lua_State *L) {
    tarn_error err;
    tarn_raise(&err, "OutOfMemory", "%s", luaL_checkstring(L, 1));
    return tarn_lua_raise(L, &err);
}

// workers() -> processors that work is shared by
static int l_workers(lua_State *L) {
    lua_pushinteger(L, tarn_pool_size(tarn_host_context(L)->pool));
    return 1;
}

static const luaL_Reg functions[] = {
    {"workers", l_workers},
    {"kind", tarn_bind_kind_of}, {"now", l_now},
    {"line", l_line},           {"memory", l_memory},
    {"no_room", l_no_room},
    {"run", l_run},           {"stopping", l_stopping},
    {"stop", l_stop},         {"note", l_note},
    {"with_values", l_with_values}, {"fingerprint", l_fingerprint},
    {"text_hash", l_text_hash}, {"example_squares", tarn_bind_example_squares},
    {"example_norms", tarn_bind_example_norms}, {NULL, NULL}};

static int push_functions(lua_State *L) {
    static const char key;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TTABLE) {
        return 1;
    }
    lua_pop(L, 1);
    static const tarn_lua_class class = {"training run", release_hold, NULL};
    tarn_lua_type(L, &class);
    tarn_bind_align_types(L);
    luaL_newlib(L, functions);
    luaL_setfuncs(L, tarn_bind_align_functions, 0);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    return 1;
}

tarn_status tarn_bind_train(tarn_host *h, const char *path, tarn_error *err) {
    TARN_TRY(tarn_host_load_embedded(h, path, err));
    lua_State *L = tarn_host_running(h);
    luaL_checkstack(L, 8, "library");
    tarn_bind_push_define(L);
    lua_pushcfunction(L, tarn_bind_check);
    push_functions(L);
    return tarn_host_call(h, 3, 0, err);
}
