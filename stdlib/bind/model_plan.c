// SPDX-License-Identifier: Apache-2.0
// A plan as a Lua table: what saving a model would do, from headers alone. stdlib/plan.lua gives it
// its face.
#include <stdlib.h>
#include <string.h>

#include "merge/plan/measure.h"
#include "stdlib/bind/model.h"

static void set_flag(lua_State *L, const char *field, bool on) {
    lua_pushboolean(L, on);
    lua_setfield(L, -2, field);
}

// What is freed whatever happens on the way.
typedef struct {
    tarn_plan *plan;
    tarn_text json;
    tarn_arena arena;
} holder;

static void release(void *self) {
    holder *h = self;
    tarn_plan_free(h->plan);
    h->plan = NULL;
    tarn_text_free(&h->json);
    tarn_arena_free(&h->arena);
}

void tarn_bind_model_plan_type(lua_State *L) {
    static const tarn_lua_class class = {"plan holder", release, NULL};
    tarn_lua_type(L, &class);
}

static const char *operand_label(const tarn_model *m, int model) {
    int base = tarn_method_base(m);
    return tarn_model_label(m->in[base >= 0 && model >= base ? model + 1 : model]);
}

static bool is_flag(const tarn_model *m, const char *name) {
    const tarn_method *method = tarn_method_of(m);
    for (const tarn_param *p = method ? method->params : NULL; p && p->name; p++) {
        if (strcmp(p->name, name) == 0) {
            return p->type == TARN_BOOLEAN;
        }
    }
    return false;
}

static void push_values(lua_State *L, const tarn_model *m) {
    lua_newtable(L);
    for (int k = 0; k < m->nvalues; k++) {
        const tarn_value *v = &m->values[k];
        lua_newtable(L);
        tarn_bind_set_text(L, "name", v->name);
        if (v->origin) {
            tarn_bind_set_text(L, "origin", v->origin);
        }
        if (v->model >= 0 && tarn_method_of(m)) {
            tarn_bind_set_text(L, "model", operand_label(m, v->model));
        }
        if (v->text) {
            tarn_bind_set_text(L, "text", v->text);
        } else if (!v->each && is_flag(m, v->name)) {
            lua_pushboolean(L, v->number != 0);
            lua_setfield(L, -2, "flag");
        } else if (!v->each) {
            lua_pushnumber(L, v->number);
            lua_setfield(L, -2, "number");
        } else {
            lua_createtable(L, (int)m->n, 0);
            for (int64_t i = 0; i < m->n; i++) {
                lua_pushnumber(L, v->each[i]);
                lua_rawseti(L, -2, i + 1);
            }
            lua_setfield(L, -2, "each");
        }
        lua_rawseti(L, -2, k + 1);
    }
}

static void push_nodes(lua_State *L, tarn_model *const *list, int n) {
    lua_newtable(L);
    for (int k = 0; k < n; k++) {
        const tarn_model *m = list[k];
        const tarn_method *method = tarn_method_of(m);
        lua_newtable(L);
        tarn_bind_set_text(L, "node", m->op->name);
        tarn_bind_set_text(L, "title", tarn_model_title(m));
        if (m->nin == 0) {
            tarn_bind_set_text(L, "label", tarn_model_label(m));
        }
        if (method) {
            char tier[2] = {method->tier, '\0'};
            tarn_bind_set_text(L, "tier", tier);
            tarn_bind_set_integer(L, "version", (lua_Integer)method->version);
        }
        tarn_bind_set_integer(L, "dropped", (lua_Integer)m->ndropped);
        lua_newtable(L);
        for (int i = 0; i < m->nin; i++) {
            lua_pushinteger(L, tarn_plan_index(list, n, m->in[i]) + 1);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "operands");
        push_values(L, m);
        lua_setfield(L, -2, "values");
        bool each = false;
        for (int i = 0; i < m->nvalues; i++) {
            each = each || m->values[i].each;
        }
        if (each) {  // the tensors that its lists of values count
            lua_createtable(L, (int)m->n, 0);
            for (int64_t i = 0; i < m->n; i++) {
                lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
                lua_rawseti(L, -2, i + 1);
            }
            lua_setfield(L, -2, "names");
        }
        lua_rawseti(L, -2, k + 1);
    }
}

// Where tensor k comes from, in the order of the inputs.
static void push_from(lua_State *L, const tarn_parts *parts, tarn_model *const *list, int n) {
    lua_Integer at = 0;
    lua_createtable(L, parts->n, 0);
    for (int q = 0; q < n; q++) {
        for (int i = 0; list[q]->nin == 0 && i < parts->n; i++) {
            const tarn_part *part = &parts->list[i];
            if (tarn_plan_index(list, n, part->model) == q) {
                const tarn_slot *from = &part->model->slots[part->slot];
                lua_pushfstring(L, "%s: ", tarn_model_label(part->model));
                lua_pushlstring(L, from->name, from->len);
                lua_concat(L, 2);
                lua_rawseti(L, -2, ++at);
            }
        }
    }
}

typedef struct {
    int node;
    int64_t slot;
} step;

static int compare_steps(const void *a, const void *b) {
    const step *x = a, *y = b;
    return x->node != y->node ? (x->node > y->node) - (x->node < y->node) : (x->slot > y->slot) - (x->slot < y->slot);
}

// The operations that make a tensor, operands before users: {node =, slot =, note =}, the slot as an
// index into what values say by tensor, the note what a method does otherwise with it.
static void push_steps(lua_State *L, const tarn_parts *parts, tarn_model *const *list, int n) {
    int count = parts->all - parts->n;
    step *steps = lua_newuserdatauv(L, (size_t)count * sizeof *steps + 1, 0);
    for (int k = 0; k < count; k++) {
        const tarn_part *part = &parts->list[parts->n + k];
        steps[k] = (step){tarn_plan_index(list, n, part->model), part->slot};
    }
    qsort(steps, (size_t)count, sizeof *steps, compare_steps);
    lua_createtable(L, count, 0);
    for (int k = 0; k < count; k++) {
        lua_createtable(L, 0, 2);
        tarn_bind_set_integer(L, "node", steps[k].node + 1);
        tarn_bind_set_integer(L, "slot", steps[k].slot + 1);
        const tarn_model *m = list[steps[k].node];
        const tarn_method *method = tarn_method_of(m);
        tarn_bind_set_text(L, "note", method && method->note ? method->note(m, steps[k].slot) : NULL);
        lua_rawseti(L, -2, k + 1);
    }
    lua_remove(L, -2);
}

static void push_tensor(lua_State *L, const tarn_plan *p, int64_t k, const tarn_job_plan *jp,
                        tarn_model *const *list, int n) {
    const tarn_slot *s = &p->model->slots[p->slot[k]];
    lua_createtable(L, 0, 12);
    lua_pushlstring(L, s->name, s->len);
    lua_setfield(L, -2, "name");
    tarn_bind_set_text(L, "dtype", tarn_dtype_get(p->jobs[k].store)->name);
    lua_createtable(L, s->rank, 0);
    for (int d = 0; d < s->rank; d++) {
        lua_pushinteger(L, s->shape[d]);
        lua_rawseti(L, -2, d + 1);
    }
    lua_setfield(L, -2, "shape");
    tarn_bind_set_integer(L, "passes", (lua_Integer)jp->passes);
    tarn_bind_set_integer(L, "reads", (lua_Integer)jp->reads);
    tarn_bind_set_integer(L, "writes", (lua_Integer)jp->writes);
    tarn_bind_set_integer(L, "workspace", (lua_Integer)jp->workspace);
    if (jp->with > 0) {
        tarn_bind_set_text(L, "with", p->jobs[k - jp->with].name);
    }
    set_flag(L, "held", jp->held);
    set_flag(L, "more", jp->more);
    if (p->copied[k]) {
        tarn_bind_set_text(L, "copied", "integers and bools are not averaged");
    } else if (p->jobs[k].root->nin == 0) {
        tarn_bind_set_text(L, "copied", "as it is in the input");
    }
    push_from(L, &p->parts[k], list, n);
    lua_setfield(L, -2, "from");
    push_steps(L, p->copied[k] ? &(tarn_parts){0} : &p->parts[k], list, n);
    lua_setfield(L, -2, "steps");
}

// Inputs, with the tensors of each that no output is made of.
static void push_inputs(lua_State *L, const tarn_plan *p, tarn_model *const *list, int n) {
    int out = 0;
    lua_newtable(L);
    for (int k = 0; k < n; k++) {
        const tarn_model *m = list[k];
        if (m->nin > 0) {
            continue;
        }
        unsigned char *used = lua_newuserdatauv(L, (size_t)m->n + 1, 0);
        memset(used, 0, (size_t)m->n + 1);
        for (int64_t j = 0; j < p->n; j++) {
            for (int i = 0; i < p->parts[j].n; i++) {
                if (tarn_plan_index(list, n, p->parts[j].list[i].model) == k) {
                    used[p->parts[j].list[i].slot] = 1;
                }
            }
        }
        lua_newtable(L);
        tarn_bind_set_text(L, "label", tarn_model_label(m));
        if (m->path) {
            tarn_bind_set_text(L, "path", m->path);
        }
        tarn_bind_set_integer(L, "tensors", (lua_Integer)m->n);
        lua_newtable(L);
        lua_Integer unused = 0;
        for (int64_t i = 0; i < m->n; i++) {
            if (!used[i]) {
                lua_pushlstring(L, m->slots[i].name, m->slots[i].len);
                lua_rawseti(L, -2, ++unused);
            }
        }
        lua_setfield(L, -2, "unused");
        lua_remove(L, -2);  // used
        lua_rawseti(L, -2, ++out);
    }
}

// What takes time, in seconds and bytes per second, found by trying.
static void push_time(lua_State *L, tarn_plan *p, const char *folder) {
    tarn_error err;
    tarn_error_clear(&err);
    tarn_measure t;
    if (tarn_plan_measure(p, folder, 2, &t, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    const struct {
        const char *name;
        double v;
    } fields[] = {{"seconds", t.seconds}, {"reading", t.reading}, {"running", t.running}, {"writing", t.writing},
                  {"hashing", t.hashing}, {"read_rate", t.read_rate}, {"run_rate", t.run_rate},
                  {"write_rate", t.write_rate}, {"sampled", t.sampled}};
    lua_createtable(L, 0, 10);
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        lua_pushnumber(L, fields[k].v);
        lua_setfield(L, -2, fields[k].name);
    }
    tarn_bind_set_text(L, "folder", folder);
}

static int push_raw(lua_State *L, holder *h, tarn_model *m, const tarn_plan_options *o, const char *folder) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    tarn_error_clear(&err);
    tarn_stream_plan total;
    bool replayable = true;
    int n;
    tarn_model **list;
    TARN_LUA_TRY(L, tarn_plan_make(cx, m, NULL, o, &h->plan, &err), &err);
    const tarn_plan *p = h->plan;
    tarn_job_plan *jobs = lua_newuserdatauv(L, ((size_t)p->count + 1) * sizeof *jobs, 0);
    TARN_LUA_TRY(L, tarn_stream_plan_of(cx, p->count, p->jobs, &total, jobs, &err), &err);
    TARN_LUA_TRY(L, tarn_plan_json(m, o, &h->json, &replayable, &err), &err);
    TARN_LUA_TRY(L, tarn_plan_nodes(m, &h->arena, &n, &list, &err), &err);
    TARN_LUA_TRY(L, tarn_plan_check(h->plan, &err), &err);  // the one thing that planning reads
    int files = 0;
    uint64_t bytes = 0;
    TARN_LUA_TRY(L, tarn_plan_unhashed(m, &files, &bytes, &err), &err);
    lua_newtable(L);
    tarn_bind_set_integer(L, "unhashed_files", (lua_Integer)files);
    tarn_bind_set_integer(L, "unhashed_bytes", (lua_Integer)bytes);
    tarn_bind_set_integer(L, "passes", (lua_Integer)total.passes);
    tarn_bind_set_integer(L, "barriers", (lua_Integer)total.barriers);
    tarn_bind_set_integer(L, "reads", (lua_Integer)total.reads);
    tarn_bind_set_integer(L, "writes", (lua_Integer)total.writes);
    tarn_bind_set_integer(L, "peak", (lua_Integer)total.peak);
    lua_pushnumber(L, m->mass);
    lua_setfield(L, -2, "mass");
    set_flag(L, "more", total.more);
    set_flag(L, "replayable", replayable);
    lua_pushlstring(L, h->json.data, h->json.len);
    lua_setfield(L, -2, "json");
    push_nodes(L, list, n);
    lua_setfield(L, -2, "nodes");
    push_inputs(L, p, list, n);
    lua_setfield(L, -2, "inputs");
    lua_createtable(L, (int)p->n, 0);
    for (int64_t k = 0; k < p->n; k++) {
        push_tensor(L, p, k, &jobs[k], list, n);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "tensors");
    if (o->has_dtype) {
        tarn_bind_set_text(L, "dtype", tarn_dtype_get(o->dtype)->name);
    }
    *tarn_bind_new_model(L) = tarn_model_retain(m);
    lua_setfield(L, -2, "model");
    if (folder) {
        push_time(L, h->plan, folder);
        lua_setfield(L, -2, "time");
    }
    return 1;
}

void tarn_bind_push_plan(lua_State *L, tarn_model *m, const tarn_plan_options *o, const char *folder) {
    int top = lua_gettop(L);
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    if (tarn_host_load_embedded(tarn_host_of(L), "stdlib/plan.lua", &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    holder *h = tarn_lua_new(L, "plan holder", sizeof *h);
    tarn_text_init(&h->json, &cx->budget);
    tarn_arena_init(&h->arena, &cx->budget);
    push_raw(L, h, m, o, folder);
    release(h);
    lua_replace(L, top + 2);
    lua_settop(L, top + 2);
    lua_call(L, 1, 1);
}
