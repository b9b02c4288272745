// SPDX-License-Identifier: Apache-2.0
// The recording of a host, and values made of tensors taken apart and put together. See recording.h.
#include "stdlib/bind/recording.h"

#include <math.h>
#include <string.h>

// ---- the recording of a host ----

typedef struct {
    tarn_graph *graph;  // NULL: nothing is being recorded
    int depth;          // nested calls
} recording;

static const char recording_key;

static void release_recording(void *self) {
    recording *r = self;
    tarn_graph_release(r->graph);
    r->graph = NULL;
}

// The host's one recording; the registry keeps it.
static recording *recording_of(lua_State *L) {
    luaL_checkstack(L, 4, "recording");
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &recording_key) != LUA_TUSERDATA) {
        lua_pop(L, 1);
        tarn_lua_new(L, "recording", sizeof(recording));
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &recording_key);
    }
    recording *r = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return r;
}

tarn_graph *tarn_bind_recording(lua_State *L) { return recording_of(L)->graph; }

typedef struct {
    recording *r;  // NULL: ended
} level;

static void end_level(void *self) {
    level *v = self;
    if (v->r && --v->r->depth == 0) {
        release_recording(v->r);
    }
    v->r = NULL;
}

tarn_graph *tarn_bind_record(lua_State *L) {
    recording *r = recording_of(L);
    level *v = tarn_lua_new(L, "recording level", sizeof *v);
    lua_toclose(L, -1);
    if (!r->graph && !(r->graph = tarn_graph_new(tarn_host_context(L)))) {
        tarn_error err;
        tarn_raise_nomem(&err, "a recording", sizeof(tarn_graph));
        tarn_lua_raise(L, &err);
    }
    r->depth++;
    v->r = r;
    return r->graph;
}

_Noreturn void tarn_bind_fail(lua_State *L, tarn_graph *g) {
    tarn_error err = g->err;
    tarn_error_clear(&g->err);
    tarn_lua_raise(L, &err);
    __builtin_unreachable();
}

// ---- running ----

typedef struct {
    tarn_exec *e;
} runner;

static void release_runner(void *self) {
    runner *r = self;
    tarn_exec_free(r->e);
    r->e = NULL;
}

static uint64_t room_in(const tarn_budget *b) {
    size_t used = atomic_load(&b->used);
    return used < b->limit ? b->limit - used : 0;
}

bool tarn_bind_has_room(lua_State *L, uint64_t peak) {
    const tarn_budget *b = &tarn_host_context(L)->budget;
    if (peak > room_in(b)) {
        lua_gc(L, LUA_GCCOLLECT);
    }
    return peak <= room_in(b);
}

void tarn_bind_check_room(lua_State *L, const char *function, uint64_t peak) {
    const tarn_budget *b = &tarn_host_context(L)->budget;
    if (!tarn_bind_has_room(L, peak)) {
        char need[32], left[32], limit[32];
        tarn_error err;
        tarn_raise(&err, "OutOfMemory", "%s: this takes up to %s beside its arguments, and %s of the budget of %s are "
                   "left; a smaller batch, checkpoint(f, …) around parts of the function or --memory with more lets it fit",
                   function, tarn_show_bytes(peak, need), tarn_show_bytes(room_in(b), left),
                   tarn_show_bytes(b->limit, limit));
        tarn_lua_raise(L, &err);
    }
}

tarn_exec *tarn_bind_exec(lua_State *L, const char *function, tarn_graph *g, int nroots, const tarn_node *const *roots,
                          int ninputs, const tarn_node *const *inputs) {
    tarn_error err;
    tarn_error_clear(&err);
    runner *r = tarn_lua_new(L, "runner", sizeof *r);
    if (tarn_exec_make(g, nroots, roots, ninputs, inputs, &r->e, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_bind_check_room(L, function, tarn_exec_peak(r->e));
    return r->e;
}

void tarn_bind_exec_free(lua_State *L, int idx) { release_runner(lua_touserdata(L, idx)); }

void *tarn_bind_scratch(lua_State *L, size_t bytes) {
    void *s = lua_newuserdatauv(L, bytes + 1, 0);
    memset(s, 0, bytes + 1);
    return s;
}

// ---- values made of tensors ----

enum { DEEPEST = 64 };

static bool is_leaf(lua_State *L, tarn_leaves kind) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, -1);
    const tarn_model *m = u ? NULL : tarn_bind_to_model(L, -1);
    return kind == TARN_RESULTS ? (u && u->recorded) || (m && m->recording)
                                : u || m || lua_type(L, -1) == LUA_TNUMBER;
}

static bool is_branch(lua_State *L) {
    if (!lua_istable(L, -1)) {
        return false;
    }
    bool plain = !lua_getmetatable(L, -1);
    lua_settop(L, plain ? lua_gettop(L) : lua_gettop(L) - 1);
    return plain;
}

static void check_depth(lua_State *L, const char *function, int depth) {
    luaL_checkstack(L, 12, function);
    if (depth > DEEPEST) {
        tarn_lua_error(L, "%s: tables more than %d deep (does one hold itself?)", function, DEEPEST);
    }
}

static void collect(lua_State *L, const char *function, tarn_leaves kind, int list, int depth) {
    check_depth(L, function, depth);
    if (is_leaf(L, kind)) {
        lua_pushvalue(L, -1);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    } else if (is_branch(L)) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            collect(L, function, kind, list, depth + 1);
            lua_pop(L, 1);
        }
    } else if (kind == TARN_ARGUMENTS) {
        tarn_lua_error(L, "%s: what is differentiated by holds a %s; expected tensors, models, numbers and tables of "
                       "them (other values go after it)", function, tarn_bind_kind(L, -1));
    } else if (kind == TARN_OUTPUTS) {
        tarn_lua_error(L, "%s: the function returned a %s; expected tensors, models, numbers and tables of them",
                       function, tarn_bind_kind(L, -1));
    }
}

void tarn_bind_collect(lua_State *L, const char *function, tarn_leaves kind, int list) {
    collect(L, function, kind, list, 0);
}

static void rebuilt(lua_State *L, const char *function, tarn_leaves kind, int list, lua_Integer *next,
                    int depth) {
    check_depth(L, function, depth);
    if (is_leaf(L, kind)) {
        lua_rawgeti(L, list, (*next)++);
    } else if (is_branch(L)) {
        int from = lua_gettop(L);
        lua_newtable(L);
        lua_pushnil(L);
        while (lua_next(L, from)) {
            rebuilt(L, function, kind, list, next, depth + 1);
            lua_remove(L, -2);
            lua_pushvalue(L, -2);
            lua_insert(L, -2);
            lua_rawset(L, from + 1);
        }
    } else {
        lua_pushvalue(L, -1);
    }
}

void tarn_bind_rebuilt(lua_State *L, const char *function, tarn_leaves kind, int list) {
    lua_Integer first = 1;
    rebuilt(L, function, kind, list, &first, 0);
}

static void collect_along(lua_State *L, const char *function, int along, int list, int depth) {
    check_depth(L, function, depth);
    along = lua_absindex(L, along);
    if (is_leaf(L, TARN_ARGUMENTS)) {
        bool absent = lua_isnil(L, along), model = tarn_bind_to_model(L, -1) != NULL;
        bool fits = model ? tarn_bind_to_model(L, along) != NULL
                          : tarn_bind_to_tensor(L, along) || lua_type(L, along) == LUA_TNUMBER;
        if (!absent && !fits) {
            tarn_lua_error(L, "%s: the direction holds a %s where a %s is expected", function,
                           tarn_bind_kind(L, along), model ? "model" : "tensor or number");
        }
        if (absent) {
            lua_pushboolean(L, 0);
        } else {
            lua_pushvalue(L, along);
        }
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
        return;
    }
    if (!lua_isnil(L, along) && !lua_istable(L, along)) {
        tarn_lua_error(L, "%s: the direction holds a %s where a table is expected", function,
                       tarn_bind_kind(L, along));
    }
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pushnil(L);
        if (lua_istable(L, along)) {
            lua_pushvalue(L, -3);
            lua_rawget(L, along);
            lua_replace(L, -2);
        }
        lua_insert(L, -2);
        collect_along(L, function, -2, list, depth + 1);
        lua_pop(L, 2);
    }
}

void tarn_bind_collect_along(lua_State *L, const char *function, int along, int list) {
    collect_along(L, function, along, list, 0);
}

// ---- models among them ----

tarn_model *tarn_bind_ready(lua_State *L, int idx, const char *function) {
    tarn_model *m = tarn_bind_check_model(L, idx);
    tarn_error err;
    tarn_error_clear(&err);
    if (m->recording) {
        if (m->recording != tarn_bind_recording(L)) {
            tarn_lua_error(L, "%s: a model of a recording that has ended: return it from the function instead", function);
        }
        return m;
    }
    if (m->n == 0 || tarn_model_held(m, 0)) {
        return m;
    }
    if (!tarn_model_in_memory(m)) {
        char size[32];
        tarn_lua_error(L, "%s: %s is a plan over files; :load() it first (%s)", function, tarn_model_label(m),
                       tarn_show_bytes(tarn_model_bytes(m), size));
    }
    idx = lua_absindex(L, idx);
    tarn_model **now = tarn_bind_new_model(L);
    if (tarn_model_load(tarn_host_context(L), m, now, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    m = *now;
    lua_replace(L, idx);
    return m;
}

// The slots of the model of part p that are wanted; pushes memory and the signature, kept in `keep`.
static void choose_slots(lua_State *L, const char *function, int only, bool all, int keep, tarn_bind_part *p) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    int top = lua_gettop(L);
    int64_t *slot = tarn_bind_scratch(L, (size_t)p->model->n * sizeof *slot);
    unsigned char *want = tarn_bind_scratch(L, (size_t)p->model->n);
    unsigned char *chosen = only && !lua_isnil(L, only) ? tarn_bind_choose(L, only, p->model, function) : NULL;
    p->n = 0;
    for (int64_t i = 0; i < p->model->n; i++) {
        const tarn_name_info *info = all ? NULL : tarn_model_info(p->model, i);
        want[i] = all || (tarn_dtype_is_float(p->model->slots[i].dtype) && !(info && info->buffer) &&
                          (!chosen || chosen[i]));
        slot[p->n] = i;
        p->n += want[i];
    }
    p->slot = slot;
    lua_pushvalue(L, top + 1);
    lua_rawseti(L, keep, (lua_Integer)lua_rawlen(L, keep) + 1);
    tarn_model **some = tarn_bind_new_model(L), **names = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    tarn_status s = p->n < p->model->n ? tarn_model_only(cx, p->model, want, some, &err) : TARN_OK;
    s = s == TARN_OK ? tarn_model_signature(cx, *some ? *some : p->model, names, &err) : s;
    if (s != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    p->names = *names;
    lua_rawseti(L, keep, (lua_Integer)lua_rawlen(L, keep) + 1);
    lua_settop(L, top);
}

static tarn_bind_part *parts(lua_State *L, const char *function, int list, int only, bool all, int *n) {
    int count = (int)lua_rawlen(L, list);
    luaL_checkstack(L, 16, function);
    tarn_bind_part *part = tarn_bind_scratch(L, (size_t)count * sizeof *part);
    lua_newtable(L);
    int keep = lua_gettop(L);
    *n = 0;
    for (int k = 0; k < count; k++) {
        lua_rawgeti(L, list, k + 1);
        part[k] = (tarn_bind_part){.first = *n, .n = 1};
        if (tarn_bind_to_model(L, -1)) {
            part[k].model = tarn_bind_ready(L, -1, function);
            lua_pushvalue(L, -1);
            lua_rawseti(L, list, k + 1);
            choose_slots(L, function, only, all, keep, &part[k]);
        }
        lua_pop(L, 1);
        *n += part[k].n;
    }
    return part;
}

tarn_bind_part *tarn_bind_parts(lua_State *L, const char *function, int list, int only, int *n) {
    return parts(L, function, list, only, false, n);
}

tarn_bind_part *tarn_bind_whole_parts(lua_State *L, const char *function, int list, int *n) {
    return parts(L, function, list, 0, true, n);
}

void tarn_bind_push_part(lua_State *L, const tarn_bind_part *part, double mass, tarn_graph *g,
                         const tarn_node *const *nodes, tarn_tensor *values) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    if (!part->model) {
        if (nodes) {
            tarn_bind_push_node(L, g, nodes[part->first], true);
        } else {
            tarn_bind_push_tensor(L, &values[part->first]);
        }
        return;
    }
    tarn_error_clear(&err);
    tarn_model **m = tarn_bind_new_model(L);
    mass = isnan(mass) && values ? 1 : mass;  // times a recorded number: not known
    tarn_status s = nodes ? tarn_model_of_nodes(cx, part->names, g, nodes + part->first, mass, m, &err)
                          : tarn_model_of_values(cx, part->names, values + part->first, mass, m, &err);
    if (s != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    (*m)->policy = part->model->policy;
    for (int i = 0; values && i < part->n; i++) {
        tarn_tensor_release(&values[part->first + i]);
    }
}

void tarn_bind_recording_types(lua_State *L) {
    static const tarn_lua_class types[] = {{"recording", release_recording, NULL},
                                           {"recording level", end_level, NULL},
                                           {"runner", release_runner, NULL}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        tarn_lua_type(L, &types[i]);
    }
}
