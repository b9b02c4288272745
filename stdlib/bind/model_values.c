// SPDX-License-Identifier: Apache-2.0
// What a model says of itself, numbers of whole models, plans, saving and replaying.
#include <math.h>
#include <string.h>

#include "stdlib/bind/model.h"

// ---- what is known from headers ----

static void push_shape(lua_State *L, const tarn_slot *s) {
    lua_createtable(L, s->rank, 0);
    for (int d = 0; d < s->rank; d++) {
        lua_pushinteger(L, s->shape[d]);
        lua_rawseti(L, -2, d + 1);
    }
}

void tarn_bind_push_info(lua_State *L, const tarn_model *m, int64_t i) {
    const tarn_slot *s = &m->slots[i];
    const tarn_name_info *known = tarn_model_info(m, i);
    lua_createtable(L, 0, 12);
    lua_pushlstring(L, s->name, s->len);
    lua_setfield(L, -2, "name");
    tarn_bind_set_text(L, "dtype", tarn_dtype_get(s->dtype)->name);
    push_shape(L, s);
    lua_setfield(L, -2, "shape");
    tarn_bind_set_integer(L, "numel", tarn_slot_numel(s));
    tarn_bind_set_integer(L, "bytes", (int64_t)tarn_dtype_bytes(s->dtype, tarn_slot_numel(s)));
    tarn_bind_set_text(L, "place", tarn_place_name(known ? known->place : TARN_PLACE_OTHER));
    if (!known) {
        return;
    }
    tarn_bind_set_text(L, "role", known->role);
    lua_pushboolean(L, known->buffer);
    lua_setfield(L, -2, "buffer");
    if (known->place == TARN_PLACE_LAYER) {
        tarn_bind_set_integer(L, "layer", known->layer);
        tarn_bind_set_integer(L, "depth", known->depth);
        const tarn_name_stack *stack = known->stack >= 0 ? &tarn_model_names(m)->stacks[known->stack] : NULL;
        tarn_bind_set_text(L, "stack", stack ? stack->name : "");
        tarn_bind_set_text(L, "block", stack && stack->labels ? stack->labels[known->layer] : "");
    }
    if (known->expert >= 0) {
        tarn_bind_set_integer(L, "expert", known->expert);
    }
}

static int l_info(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_bind_push_info(L, m, tarn_bind_slot(L, 2, m, "model:info"));
    return 1;
}

static int l_numel(lua_State *L) {
    lua_pushinteger(L, tarn_model_numel(tarn_bind_check_model(L, 1)));
    return 1;
}

static int l_bytes(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)tarn_model_bytes(tarn_bind_check_model(L, 1)));
    return 1;
}

// The one dtype of the floating tensors, or NULL when there are several or none.
static const char *dtype_of(const tarn_model *m) {
    const char *one = NULL;
    for (int64_t i = 0; i < m->n; i++) {
        const char *name = tarn_dtype_get(m->slots[i].dtype)->name;
        if (tarn_dtype_is_float(m->slots[i].dtype)) {
            if (one && strcmp(one, name) != 0) {
                return NULL;
            }
            one = name;
        }
    }
    return one;
}

static int l_dtype(lua_State *L) {
    const char *name = dtype_of(tarn_bind_check_model(L, 1));
    lua_pushstring(L, name ? name : "mixed");
    return 1;
}

static int l_mass(lua_State *L) {
    lua_pushnumber(L, tarn_bind_check_model(L, 1)->mass);
    return 1;
}

static int l_label(lua_State *L) {
    lua_pushstring(L, tarn_model_label(tarn_bind_check_model(L, 1)));
    return 1;
}

static int l_config(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    if (!m->side || !m->side->config) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushlstring(L, m->side->config, m->side->config_len);
    return 1;
}

static int l_folder(lua_State *L) {
    const tarn_model *files = tarn_model_files(tarn_bind_check_model(L, 1));
    lua_pushstring(L, files ? tarn_store_folder(files->store) : NULL);
    return 1;
}

static int l_metadata(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    lua_newtable(L);
    for (int i = 0; m->store && i < tarn_store_meta_count(m->store); i++) {
        const char *key, *value;
        tarn_store_meta(m->store, i, &key, &value);
        tarn_bind_set_text(L, key, value);
    }
    return 1;
}

static int l_files(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    lua_newtable(L);
    for (int i = 0; m->store && i < tarn_store_files(m->store); i++) {
        lua_pushstring(L, tarn_store_file(m->store, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

// {depths, stacks = {{name, count, depth = {first, last}}}, tied = {{kept, other, stored}}, type}
static int l_structure(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    const tarn_names *names = tarn_model_names(m);
    lua_newtable(L);
    tarn_bind_set_integer(L, "depths", names ? names->ndepth : 0);
    tarn_bind_set_text(L, "type", names ? names->model_type : "");
    lua_newtable(L);
    for (int k = 0; names && k < names->nstacks; k++) {
        const tarn_name_stack *s = &names->stacks[k];
        lua_newtable(L);
        tarn_bind_set_text(L, "name", s->name);
        tarn_bind_set_text(L, "regex", s->regex);
        tarn_bind_set_integer(L, "count", s->count);
        tarn_bind_set_integer(L, "first", s->depth_first);
        tarn_bind_set_integer(L, "last", s->depth_last);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "stacks");
    lua_newtable(L);
    for (int k = 0; names && k < names->nties; k++) {
        const tarn_tie *t = &names->ties[k];
        lua_newtable(L);
        tarn_bind_set_text(L, "kept", t->kept);
        tarn_bind_set_text(L, "other", t->other);
        lua_pushboolean(L, t->stored);
        lua_setfield(L, -2, "stored");
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "tied");
    return 1;
}

// Counts of the whole; of a planned model they follow from its own names.
static int l_summary(lua_State *L) {
    const tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_context *cx = tarn_host_context(L);
    tarn_name_in *in = lua_newuserdatauv(L, ((size_t)m->n + 1) * sizeof *in, 0);
    tarn_name_info *info = lua_newuserdatauv(L, ((size_t)m->n + 1) * sizeof *info, 0);
    static const tarn_name_info unknown = {.place = TARN_PLACE_OTHER, .stack = -1, .layer = -1,
                                           .depth = -1, .expert = -1, .role = ""};
    tarn_names names = tarn_model_names(m) ? *tarn_model_names(m) : (tarn_names){0};
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[i];
        const tarn_name_info *known = tarn_model_info(m, i);
        in[i] = (tarn_name_in){s->name, s->len, s->dtype, s->rank, s->shape};
        info[i] = known ? *known : unknown;
    }
    names.n = m->n;
    names.info = info;
    tarn_names_summary s;
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_names_summarise(cx, &names, in, &s, &err), &err);
    lua_newtable(L);
    tarn_bind_set_integer(L, "tensors", s.tensors);
    tarn_bind_set_integer(L, "elements", s.elements);
    tarn_bind_set_integer(L, "bytes", s.bytes);
    tarn_bind_set_integer(L, "largest_bytes", s.largest_bytes);
    tarn_bind_set_integer(L, "parameters", s.parameters);
    tarn_bind_set_integer(L, "integers", s.integers);
    tarn_bind_set_integer(L, "float_buffers", s.float_buffers);
    tarn_bind_set_integer(L, "layers", s.layers);
    tarn_bind_set_integer(L, "experts", s.experts);
    tarn_bind_set_integer(L, "expert_layers", s.expert_layers);
    lua_newtable(L);
    lua_Integer kinds = 0;
    for (int t = 0; t < TARN_DTYPE_COUNT; t++) {
        if (s.of_dtype[t] > 0) {
            lua_newtable(L);
            tarn_bind_set_text(L, "dtype", tarn_dtype_get((tarn_dtype)t)->name);
            tarn_bind_set_integer(L, "tensors", s.of_dtype[t]);
            lua_rawseti(L, -2, ++kinds);
        }
    }
    lua_setfield(L, -2, "dtypes");
    return 1;
}

// "add(base, mul(…))": labels of inputs, operations by name, three levels deep.
static void show_expression(const tarn_model *m, int level, tarn_text *out) {
    if (m->nin == 0) {
        const char *label = tarn_model_label(m);
        tarn_text_show(out, label, strlen(label), 60);
        return;
    }
    tarn_text_printf(out, "%s(", tarn_model_title(m));
    for (int k = 0; k < m->nin && level > 0 && k < 6; k++) {
        tarn_text_puts(out, k ? ", " : "");
        show_expression(m->in[k], level - 1, out);
    }
    tarn_text_puts(out, level == 0 || m->nin > 6 ? "…)" : ")");
}

// What making the values would take; nothing is read for it.
static void show_cost(const tarn_model *m, tarn_text *out) {
    tarn_plan *p;
    tarn_stream_plan total;
    tarn_error ignored;
    char size[32];
    if (m->nin == 0 || m->recording || tarn_model_in_memory(m)) {
        return;
    }
    tarn_status s = tarn_plan_make(m->cx, (tarn_model *)(uintptr_t)m, NULL, NULL, &p, &ignored);
    if (s != TARN_OK) {
        out->failed = out->failed || s == TARN_NOMEM;
        return;
    }
    s = tarn_stream_plan_of(m->cx, p->count, p->jobs, &total, NULL, &ignored);
    out->failed = out->failed || s == TARN_NOMEM;
    if (s == TARN_OK) {
        tarn_text_printf(out, ": %d %s, %s%s to read", total.passes, total.passes == 1 ? "pass" : "passes",
                         total.more ? "at least " : "", tarn_show_bytes(total.reads, size));
    }
    tarn_plan_free(p);
}

void tarn_bind_model_show(lua_State *L, int idx, tarn_text *out) {
    const tarn_model *m = tarn_bind_to_model(L, idx);
    if (!m) {
        tarn_text_puts(out, "closed model");
        return;
    }
    char size[32];
    const char *dtype = dtype_of(m);
    tarn_text_puts(out, m->mass == 0 ? "vector " : "model ");
    show_expression(m, 2, out);
    tarn_text_printf(out, ": %lld tensors, %lld parameters, %s, %s, %s", (long long)m->n, (long long)tarn_model_numel(m),
                     dtype ? dtype : "mixed dtypes", tarn_show_bytes(tarn_model_bytes(m), size),
                     m->recording ? "recorded" : tarn_model_in_memory(m) ? "in memory" : m->nin == 0 ? "in files" : "planned");
    show_cost(m, out);
    if (m->mass != 0 && m->mass != 1) {
        tarn_text_printf(out, ", mass %g", m->mass);
    }
}

int tarn_bind_model_tostring(lua_State *L) {
    tarn_lua_check(L, 1, "model");
    tarn_text *t = tarn_bind_new_text(L);
    tarn_bind_model_show(L, 1, t);
    return tarn_bind_push_text(L, t, "the text of a model");
}

// ---- numbers: one pass over the files ----

static int l_norm(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    double p = luaL_optnumber(L, 2, 2), l1 = 0, linf = 0, l2 = 0;
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    tarn_error_clear(&err);
    if (p != 1 && p != 2 && p != (double)INFINITY) {
        return tarn_lua_error(L, "model:norm: p is 1, 2 or math.huge, got %f", p);
    }
    if (tarn_bind_recorded_norm(L, p)) {
        return 1;
    }
    tarn_bind_force(L, "model:norm()");
    if (p == 2) {
        TARN_LUA_TRY(L, tarn_model_dots(cx, 1, &m, &m, &l2, &err), &err);
        lua_pushnumber(L, sqrt(l2));
        return 1;
    }
    TARN_LUA_TRY(L, tarn_model_sizes(cx, m, &l1, &linf, &err), &err);
    lua_pushnumber(L, p == 1 ? l1 : linf);
    return 1;
}

static int l_dot(lua_State *L) {
    if (tarn_bind_recorded_dot(L, "model:dot", false)) {
        return 1;
    }
    tarn_model *a = tarn_bind_check_model(L, 1), *b = tarn_bind_check_model(L, 2);
    double r;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_bind_force(L, "model:dot()");
    TARN_LUA_TRY(L, tarn_model_dots(tarn_host_context(L), 1, &a, &b, &r, &err), &err);
    lua_pushnumber(L, r);
    return 1;
}

static int l_cosine(lua_State *L) {
    if (tarn_bind_recorded_dot(L, "model:cosine", true)) {
        return 1;
    }
    tarn_model *a = tarn_bind_check_model(L, 1), *b = tarn_bind_check_model(L, 2);
    tarn_model *x[3] = {a, a, b}, *y[3] = {b, a, b};
    double r[3];
    tarn_error err;
    tarn_error_clear(&err);
    tarn_bind_force(L, "model:cosine()");
    TARN_LUA_TRY(L, tarn_model_dots(tarn_host_context(L), 3, x, y, r, &err), &err);
    lua_pushnumber(L, r[0] / (sqrt(r[1]) * sqrt(r[2])));
    return 1;
}

// ---- plans and saving ----

static void read_options(lua_State *L, int idx, const char *function, const char *own, tarn_save_options *o) {
    const char *const names[] = {"dtype", "max_shard_size", "overwrite", "allow_nonfinite", "files", own, NULL};
    tarn_lua_check_options(L, idx, function, names, false);
    *o = (tarn_save_options){0};
    o->plan.has_dtype = tarn_lua_opt_string(L, idx, function, "dtype", NULL) != NULL;
    o->plan.dtype = tarn_bind_dtype(L, idx, function, TARN_F32);
    if (!tarn_dtype_is_float(o->plan.dtype)) {
        tarn_lua_error(L, "%s: dtype = \"%s\" is no floating dtype (f64 f32 f16 bf16 …)", function,
                       tarn_dtype_get(o->plan.dtype)->name);
    }
    o->plan.allow_nonfinite = tarn_lua_opt_boolean(L, idx, function, "allow_nonfinite", false);
    o->overwrite = tarn_lua_opt_boolean(L, idx, function, "overwrite", false);
    lua_Integer shard = tarn_lua_opt_integer(L, idx, function, "max_shard_size", 5000000000);
    if (shard < 1) {
        tarn_lua_error(L, "%s: max_shard_size is a number of bytes, at least 1", function);
    }
    o->max_shard_size = (uint64_t)shard;
}

static const char plans_key = 0;

// model.plans: every plan that :save makes while only planning is kept in a list.
static void keep_plan(lua_State *L) {  // pops the plan
    lua_rawgetp(L, LUA_REGISTRYINDEX, &plans_key);
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

// The option `report` of save: pushes true or the path of a file, or nothing and says false.
static bool report_wanted(lua_State *L, int idx) {
    int type = lua_isnil(L, idx) ? LUA_TNIL : lua_getfield(L, idx, "report");
    if (type != LUA_TNIL && type != LUA_TSTRING && type != LUA_TBOOLEAN) {
        tarn_lua_error(L, "model:save: report is a %s, not true or the path of a file", tarn_bind_kind(L, -1));
    }
    return type == LUA_TSTRING || (type == LUA_TBOOLEAN && lua_toboolean(L, -1));
}

// What was saved at `path` against what it was made of; the wish of report_wanted is on top.
static void report_on(lua_State *L, tarn_model *m, const char *path, const tarn_plan_options *o) {
    tarn_error err;
    tarn_error_clear(&err);
    int wish = lua_gettop(L);
    tarn_model **stored = tarn_bind_new_model(L);
    if (tarn_model_open(tarn_host_context(L), path, &(tarn_open_options){0}, stored, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_bind_push_report(L, m, o, *stored, false);
    if (lua_type(L, wish) == LUA_TSTRING) {
        lua_getfield(L, -1, "write");
        lua_insert(L, -2);
        lua_pushvalue(L, wish);
        lua_call(L, 2, 0);
    } else {
        lua_getglobal(L, "print");
        lua_insert(L, -2);
        lua_call(L, 1, 0);
    }
}

static bool is_carried(const char *name) {
    for (int i = 0; tarn_save_carried(i); i++) {
        if (strcmp(name, tarn_save_carried(i)) == 0) {
            return true;
        }
    }
    return false;
}

// The option `files` of save: {name = text or false}. What it points to lives as long as the table.
static void read_files(lua_State *L, int idx, tarn_save_options *o) {
    if (lua_isnil(L, idx) || lua_getfield(L, idx, "files") == LUA_TNIL) {
        return;
    }
    int t = lua_gettop(L), n = 0, most = 0;
    if (!lua_istable(L, t)) {
        tarn_lua_error(L, "model:save: files is a %s, expected a table of texts by name", tarn_bind_kind(L, t));
    }
    while (tarn_save_carried(most)) {
        most++;
    }
    tarn_save_file *list = lua_newuserdatauv(L, (size_t)most * sizeof *list, 0);
    lua_pushnil(L);
    while (lua_next(L, t)) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
        bool none = lua_type(L, -1) == LUA_TBOOLEAN && !lua_toboolean(L, -1);
        if (!is_carried(name) || strlen(name) != lua_rawlen(L, -2)) {
            tarn_lua_error(L, "model:save: files: '%.60s' is no side file of a model; there are tokenizer.json, "
                           "tokenizer_config.json, chat_template.jinja …", name);
        }
        if (lua_type(L, -1) != LUA_TSTRING && !none) {
            tarn_lua_error(L, "model:save: files: %s is a %s, expected a text or false", name, tarn_bind_kind(L, -1));
        }
        list[n].name = name;
        list[n].len = 0;
        list[n].text = none ? NULL : lua_tolstring(L, -1, &list[n].len);
        n++;
        lua_pop(L, 1);
    }
    o->files = list;
    o->nfiles = n;
}

static int l_save(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    const char *path = tarn_lua_check_path(L, 2);
    tarn_save_options o;
    tarn_error err;
    tarn_error_clear(&err);
    lua_settop(L, 3);
    read_options(L, 3, "model:save", "report", &o);
    if (tarn_bind_planning(L)) {
        tarn_bind_push_plan(L, m, &o.plan, NULL);
        tarn_bind_set_text(L, "path", path);
        keep_plan(L);
        return 0;
    }
    if (lua_getfield(L, LUA_REGISTRYINDEX, "tarn.script") == LUA_TSTRING) {
        o.script = lua_tolstring(L, -1, &o.script_len);
    }
    read_files(L, 3, &o);
    bool report = report_wanted(L, 3);
    TARN_LUA_TRY(L, tarn_model_save(tarn_host_context(L), m, path, &o, &err), &err);
    if (report) {
        report_on(L, m, path, &o.plan);
    }
    return 0;
}

static int l_plan(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    tarn_save_options o;
    lua_settop(L, 2);
    read_options(L, 2, "model:plan", "time", &o);
    const char *folder = NULL;  // where the output would go
    if (!lua_isnil(L, 2) && lua_getfield(L, 2, "time") != LUA_TNIL) {
        folder = lua_type(L, -1) == LUA_TSTRING ? tarn_lua_check_path(L, -1)
                 : lua_toboolean(L, -1)           ? "."
                                                  : NULL;
    }
    if (folder) {
        tarn_bind_force(L, "model:plan { time = … }");
    }
    tarn_bind_push_plan(L, m, &o.plan, folder);
    return 1;
}

// model.plans(f, …): runs f with saving replaced by planning.
static int l_plans(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (tarn_bind_planning(L)) {
        return tarn_lua_error(L, "model.plans: this run only plans already");
    }
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &plans_key);
    lua_insert(L, 1);
    tarn_bind_plan_only(L, true);
    int status = lua_pcall(L, lua_gettop(L) - 2, 0, 0);
    tarn_bind_plan_only(L, false);
    if (status != LUA_OK) {
        return lua_error(L);
    }
    lua_settop(L, 1);
    return 1;
}

enum { GIVEN = 64 };

// The option `input` of the table at 2, { NAME = PATH, … }, as "NAME=PATH" texts, which a table that is
// pushed keeps; returns how many.
static int read_inputs(lua_State *L, const char *function, const char **given) {
    static const char *const names[] = {"input", NULL};
    int n = 0;
    lua_settop(L, 2);
    tarn_lua_check_options(L, 2, function, names, false);
    lua_newtable(L);  // 3: keeps the texts
    if (!lua_isnil(L, 2) && lua_getfield(L, 2, "input") == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, 4)) {
            if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING || n == GIVEN) {
                tarn_lua_error(L, "%s: input = { NAME = PATH, … }", function);
            }
            lua_pushfstring(L, "%s=%s", tarn_lua_check_path(L, -2), tarn_lua_check_path(L, -1));
            given[n++] = lua_tostring(L, -1);
            lua_rawseti(L, 3, n);
            lua_pop(L, 1);
        }
    }
    return n;
}

static int l_replay(lua_State *L) {
    const char *path = tarn_lua_check_path(L, 1), *given[GIVEN];
    int n = read_inputs(L, "model.replay", given);
    bool same = false;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_text *report = tarn_bind_new_text(L);
    TARN_LUA_TRY(L, tarn_replay(tarn_host_context(L), path, n, given, &same, report, &err), &err);
    lua_pushboolean(L, same);
    tarn_bind_push_text(L, report, "the report of a replay");
    return 2;
}

static int l_recall(lua_State *L) {
    const char *path = tarn_lua_check_path(L, 1), *given[GIVEN];
    int n = read_inputs(L, "model.recall", given);
    tarn_plan_options o;
    tarn_error err;
    tarn_error_clear(&err);
    tarn_model **m = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_plan_recall(tarn_host_context(L), path, n, given, m, &o, &err), &err);
    lua_pushstring(L, o.has_dtype ? tarn_dtype_get(o.dtype)->name : NULL);
    return 2;
}

static int l_stage(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    const char *folder = lua_isnoneornil(L, 2) ? NULL : tarn_lua_check_path(L, 2);
    tarn_bind_force(L, "model:stage()");
    tarn_model **r = tarn_bind_new_model(L);
    tarn_error err;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_model_stage(tarn_host_context(L), m, folder, r, &err), &err);
    return 1;
}

#define BASE "local m = model.open \"examples/data/base.safetensors\"\n"

static const tarn_binding rows[] = {
    {{"model:info", "m:info(name) -> {name, dtype, shape, numel, bytes, place, layer, depth, stack, block, role, expert, buffer}",
      "What headers and names say of one tensor. place is layer, embed, final, head, transition or other; "
      "layer is the number in the name, depth counts layers over all stacks from 0, stack is the name of the stack: nil "
      "outside layers. block names a UNet's blocks (IN00 … M00 … OUT11). role (attn.q, mlp.down …) and expert are nil where names do not tell; buffer marks what is no "
      "parameter.", BASE "local i = m:info \"fc2.weight\"\nprint(i.dtype, i.shape[1], i.shape[2], i.depth)\n-- > f32\t64\t128\t1"}, l_info},
    {{"model:numel", "m:numel() -> integer", "Elements of all tensors.", BASE "print(m:numel())\n-- > 17226"}, l_numel},
    {{"model:bytes", "m:bytes() -> integer", "Bytes of all tensors as they would be stored.", BASE "print(m:bytes())\n-- > 68904"}, l_bytes},
    {{"model:dtype", "m:dtype() -> string", "The dtype of the floating tensors, \"mixed\" when there are several.",
      BASE "print(m:dtype())\n-- > f32"}, l_dtype},
    {{"model:mass", "m:mass() -> number", "The sum of the coefficients over points: 1 for a model, 0 for a task vector.",
      BASE "print((m - m):mass(), (0.5 * m + 0.5 * m):mass())\n-- > 0.0\t1.0"}, l_mass},
    {{"model:label", "m:label() -> string", "The name that plans and messages use.", BASE "print(m:label())\n-- > base"}, l_label},
    {{"model:config", "m:config() -> string or nil", "The text of config.json of the model whose side files go with this one.",
      BASE "print(m:config())\n-- > nil"}, l_config},
    {{"model:folder", "m:folder() -> path or nil", "The folder of the model whose side files go with this one.",
      BASE "print(m:folder())\n-- > examples/data"}, l_folder},
    {{"model:metadata", "m:metadata() -> {key = value}", "The metadata of the file (of the first of several); empty for what is not a file.",
      BASE "print(m:metadata().network)\n-- > mlp 64-128-64-10, relu"}, l_metadata},
    {{"model:files", "m:files() -> {path, …}", "The files that hold the tensors; empty for what is not in files.",
      BASE "print(#m:files())\n-- > 1"}, l_files},
    {{"model:structure", "m:structure() -> {depths, stacks, tied, type}",
      "Layers as found from names and config.json: the number of depths, the stacks {name, count, first, last}, "
      "tied names {kept, other, stored}, the model type.", BASE "print(m:structure().depths)\n-- > 3"}, l_structure},
    {{"model:summary", "m:summary() -> {tensors, elements, parameters, bytes, largest_bytes, dtypes, …}",
      "Counts of the whole: tensors, elements, parameters (without buffers, tied ones once), bytes, "
      "largest_bytes, dtypes {dtype, tensors}, layers, integers, float_buffers, experts, expert_layers.",
      BASE "print(m:summary().parameters, m:summary().layers)\n-- > 17226\t3"}, l_summary},
    {{"model:norm", "m:norm(p = 2) -> number", "The p-norm (1, 2, math.huge) over all floating tensors, in f64. Reads the files once. An error under tarn plan, like "
      "whatever asks for values.",
      BASE "print((m - m):norm())\n-- > 0.0"}, l_norm},
    {{"model:dot", "a:dot(b) -> number", "The inner product over the floating tensors, in f64. Names missing from a vector count as zero there; between points they must agree.",
      BASE "print(m:dot(m) == m:norm()^2)\n-- > true"}, l_dot},
    {{"model:cosine", "a:cosine(b) -> number", "The cosine of the angle between two models or task vectors, from one pass; names as in model:dot.",
      BASE "print(m:cosine(-m))\n-- > -1.0"}, l_cosine},
    {{"model:save", "m:save(path, {dtype =, max_shard_size = 5e9, overwrite = false, allow_nonfinite = false, files =, report = false})",
      "Runs the plan and writes the result: one file if the path ends in .safetensors, else a folder with "
      "the side files (config, tokenizer …) of the first point operand, tarn-provenance.json and a model card README.md (a README.md of somebody's own stays). Nothing appears under the final "
      "name before all of it is on the disk. The metadata holds the plan and the digests of the inputs. A mass other than 1 "
      "is warned of.\n"
      "  dtype: of the floating tensors, rounded once (default: each tensor's in the first point operand)\n"
      "  max_shard_size: of one file of a folder, in bytes\n"
      "  overwrite: replace a model that is there; without it a path that exists is refused. Other files of a folder stay\n"
      "  allow_nonfinite: write NaN and infinity too, which else are an error that names the tensor\n"
      "  files: {name = text, …} side files that are written as they stand here, {name = false} that are left out, in the place "
      "of what is carried along; names are those that tokenizers and loaders look for (tokenizer.json …)\n"
      "  report: afterwards compare what was saved with what it was made of (see merge.report): the path of a JSON file, or true to print it",
      BASE "local half, path = 0.5 * m + 0.5 * m, os.tmpname()\nhalf:save(path .. \".safetensors\", { dtype = \"bf16\" })\n"
      "print(model.open(path .. \".safetensors\"):dtype())\nos.remove(path)\nos.remove(path .. \".safetensors\")\n-- > bf16"}, l_save},
    {{"model:plan", "m:plan({options of m:save, time = false}) -> plan", "What saving would do, from headers alone (integer tensors, which must agree, are "
      "read). Fields: passes, barriers (reductions over the whole model), reads, writes and peak (bytes), more (an exact selection may sweep "
      "again, so that reads is the least), mass, replayable, json (the canonical "
      "plan), nodes, inputs, tensors, unhashed_files and unhashed_bytes (inputs whose digests are not known yet). Prints itself; p:show(true) "
      "adds a line for each tensor: what it is made of and by which method, passes, cost, the parameters that differ between tensors. p:explain() is "
      "the same as a list, with every parameter of every tensor and where it came from; see merge.explain.\n"
      "  time: true, or the path where the output would go: tries for some two seconds how fast the inputs are read, the passes run and "
      "that folder is written, and adds p.time: seconds (the estimate) and its parts reading, running, writing, hashing; p:measure(path) does so later",
      BASE "print(m:plan().reads)\n-- > 68904"}, l_plan},
    {{"model.plans", "model.plans(f, …) -> {plan, …}", "Calls f with saving replaced by planning: nothing is read or written, and asking "
      "for values is an error. Each plan has the path it would be saved to.",
      BASE "print(#model.plans(function() m:save \"out\" end))\n-- > 1"}, l_plans},
    {{"model.replay", "model.replay(path, {input = {NAME = PATH}}) -> same, report",
      "Executes the plan that a saved model embeds again and compares every byte; report names the tensors that differ. "
      "Inputs are found by input, else where the tarn-provenance.json of a folder says they were; one that is not found, has other "
      "contents than the plan's digest, or a model without a plan is an error.",
      BASE "local half, path = 0.5 * m + 0.5 * m, os.tmpname()\nhalf:save(path .. \".safetensors\")\n"
      "print((model.replay(path .. \".safetensors\", { input = { base = \"examples/data/base.safetensors\" } })))\n"
      "os.remove(path)\nos.remove(path .. \".safetensors\")\n-- > true"}, l_replay},
    {{"model.recall", "model.recall(path, {input = {NAME = PATH}}) -> model, dtype",
      "The model that the one saved at path was made as: the plan that it embeds, over its inputs (found as in model.replay, and their contents "
      "checked), not run. dtype is the one that m:save was given, or nil. To look at a merge again, or to change something about it.",
      BASE "local half, path = 0.5 * m + 0.5 * m, os.tmpname()\nhalf:save(path .. \".safetensors\")\n"
      "local again = model.recall(path .. \".safetensors\", { input = { base = \"examples/data/base.safetensors\" } })\n"
      "print(again)\nos.remove(path)\nos.remove(path .. \".safetensors\")\n"
      "-- > model add(mul(base), mul(base)): 6 tensors, 17226 parameters, f32, 68.9 kB, planned: 1 pass, 68.9 kB to read"}, l_recall},
    {{"model:stage", "m:stage(folder) -> model", "The result of the plan in a temporary file that goes away with the model: for something "
      "expensive that is used many times. folder: where (default: TMPDIR).", BASE "print((m + m):stage():numel())\n-- > 17226"}, l_stage},
};

void tarn_bind_model_values(tarn_host *h) {
    tarn_bind_rows(h, "model", rows, (int)(sizeof rows / sizeof *rows));
}
