// SPDX-License-Identifier: Apache-2.0
// merge.map and m:map: a user's method. The Lua functions are called once per tensor with input
// leaves; what they return is an expression, recorded, so the data streams through C alone.
#include <string.h>

#include "stdlib/bind/model.h"
#include "stdlib/bind/tensor.h"

// What must be released whatever a user's function does.
typedef struct {
    tarn_graph *graph;
    tarn_model *matched;     // operands matched, nothing mapped
    const tarn_tensor *stats;  // [slots] values of the stats phase; owned by a userdata of their own
} mapping;

static void release(void *self) {
    mapping *p = self;
    tarn_graph_release(p->graph);
    tarn_model_release(p->matched);
    memset(p, 0, sizeof *p);
}

// One phase: its graph, and the input leaves made so far by operand and shape.
typedef struct {
    int operand;
    const tarn_node *node;
} leaf;
typedef struct {
    lua_State *L;
    tarn_context *cx;
    const char *function;
    tarn_model *m;      // the matched node
    bool based;         // operand 0 is the base
    tarn_graph *graph;
    leaf *leaves;
    int nleaves, room;
} phase;

static void fail(lua_State *L, const tarn_graph *g) {
    tarn_error err = g->err;
    tarn_lua_raise(L, &err);
}

static const tarn_node *leaf_of(phase *f, int k, int64_t i) {
    const tarn_slot *s = &f->m->slots[i];
    tarn_desc d = {.dtype = tarn_dtype_compute(s->dtype), .rank = s->rank};
    if (s->rank > TARN_MAX_RANK) {
        tarn_lua_error(f->L, "%s: %s has %d dimensions, at most %d are handled", f->function, s->name,
                       s->rank, TARN_MAX_RANK);
    }
    memcpy(d.shape, s->shape, (size_t)s->rank * sizeof *d.shape);
    for (int j = 0; j < f->nleaves; j++) {
        const tarn_desc *have = &f->leaves[j].node->desc;
        if (f->leaves[j].operand == k && have->dtype == d.dtype &&
            tarn_shape_equal(have->rank, have->shape, d.rank, d.shape)) {
            return f->leaves[j].node;
        }
    }
    if (f->nleaves == f->room) {
        int room = f->room ? 2 * f->room : 64;
        leaf *now = tarn_arena_take(&f->graph->arena, (size_t)room * sizeof *now);
        if (!now) {
            tarn_lua_error(f->L, "%s: not enough memory", f->function);
        }
        if (f->nleaves > 0) {
            memcpy(now, f->leaves, (size_t)f->nleaves * sizeof *now);
        }
        f->leaves = now;
        f->room = room;
    }
    const tarn_node *n = tarn_leaf_input(f->graph, &d);
    if (!n) {
        fail(f->L, f->graph);
    }
    f->leaves[f->nleaves++] = (leaf){k, n};
    return n;
}

// t = { [1] = …, base = … } for slot i.
static void push_operands(phase *f, int64_t i) {
    lua_State *L = f->L;
    lua_createtable(L, f->m->nin, 1);
    for (int k = 0; k < f->m->nin; k++) {
        tarn_bind_push_node(L, f->graph, leaf_of(f, k, i), true);
        if (f->based && k == 0) {
            lua_setfield(L, -2, "base");
        } else {
            lua_rawseti(L, -2, k + 1 - (f->based ? 1 : 0));
        }
    }
}

static void make_template(phase *f, const tarn_node *root, tarn_template *t) {
    unsigned char *use = lua_newuserdatauv(f->L, (size_t)f->graph->count + 1, 0);
    memset(use, 0, (size_t)f->graph->count + 1);
    tarn_graph_mark(f->graph, 1, &root, use);
    *t = (tarn_template){.root = root->id, .ninputs = f->m->nin};
    for (int k = 0; k < f->m->nin; k++) {
        t->input[k] = -1;
    }
    for (int j = 0; j < f->nleaves; j++) {
        if (use[f->leaves[j].node->id]) {
            t->input[f->leaves[j].operand] = f->leaves[j].node->id;
        }
    }
    lua_pop(f->L, 1);
}

static bool mapped(const tarn_model *m, int64_t i) { return !tarn_slot_integer(&m->slots[i]); }

// ---- stats ----

// Calls stats for slot i; keeps the names and shapes of what it returns at `kept`[i + 1].
static void ask(phase *f, int fn, int kept, int64_t i, const tarn_template **roots, int *count) {
    lua_State *L = f->L;
    lua_pushvalue(L, fn);
    push_operands(f, i);
    lua_pushlstring(L, f->m->slots[i].name, f->m->slots[i].len);
    lua_call(L, 2, 1);
    if (lua_type(L, -1) != LUA_TTABLE) {
        tarn_lua_error(L, "%s: stats returned a %s for %s, not a table of expressions", f->function,
                       tarn_bind_kind(L, -1), f->m->slots[i].name);
    }
    int answer = lua_gettop(L), n = 0, most = 0;
    for (lua_pushnil(L); lua_next(L, answer); lua_pop(L, 1)) {
        most++;
    }
    tarn_template *t = lua_newuserdatauv(L, (size_t)most * sizeof *t + 1, 0);
    lua_createtable(L, most, 0);  // {key, node tensor} in the order of the templates
    lua_pushnil(L);
    while (lua_next(L, answer)) {
        if (!tarn_bind_to_tensor(L, -1) && lua_type(L, -1) != LUA_TNUMBER) {
            tarn_lua_error(L, "%s: stats returned a %s among its values for %s, not an expression", f->function,
                           tarn_bind_kind(L, -1), f->m->slots[i].name);
        }
        const tarn_node *root = tarn_bind_node(L, -1, f->graph);
        make_template(f, root, &t[n++]);
        lua_createtable(L, 2, 0);
        lua_pushvalue(L, -3);
        lua_rawseti(L, -2, 1);
        tarn_bind_push_node(L, f->graph, root, true);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, answer + 2, n);
        lua_pop(L, 1);
    }
    roots[i] = t;
    count[i] = n;
    lua_createtable(L, 2, 0);
    lua_pushvalue(L, answer + 1);
    lua_rawseti(L, -2, 1);  // keeps the templates
    lua_pushvalue(L, answer + 2);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, kept, (lua_Integer)i + 1);
    lua_settop(L, answer - 1);
}

static void run_stats(phase *f, mapping *p, int fn, int kept) {
    lua_State *L = f->L;
    int64_t n = f->m->n;
    const tarn_template **roots = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *roots, 0);
    int *count = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *count, 0);
    tarn_error err;
    tarn_error_clear(&err);
    memset(count, 0, ((size_t)n + 1) * sizeof *count);
    for (int64_t j = 0; j < n; j++) {
        int64_t i = f->m->by_name[j];
        if (mapped(f->m, i)) {
            ask(f, fn, kept, i, roots, count);
        }
    }
    tarn_tensor *stats = tarn_bind_hold(L, (int)n);
    p->stats = stats;
    lua_rawseti(L, kept, 0);  // keeps the array
    tarn_bind_force(L, "stats of merge.map");
    if (tarn_model_stats(f->cx, f->m, f->graph, roots, count, stats, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    lua_pop(L, 2);
}

// s for slot i: numbers, and tensors where a statistic is one.
static void push_stats(phase *f, const mapping *p, int kept, int64_t i) {
    lua_State *L = f->L;
    lua_newtable(L);
    if (!p->stats || !p->stats[i].storage) {
        return;
    }
    lua_rawgeti(L, kept, (lua_Integer)i + 1);
    lua_rawgeti(L, -1, 2);
    int list = lua_gettop(L);
    int64_t at = 0;
    for (lua_Integer k = 1; k <= (lua_Integer)lua_rawlen(L, list); k++) {
        lua_rawgeti(L, list, k);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        tarn_desc d = tarn_bind_to_tensor(L, -1)->node->desc;
        lua_pop(L, 1);
        tarn_tensor *t = &tarn_bind_new_tensor(L)->t;
        tarn_tensor_share(&p->stats[i], t);
        t->offset += at;
        at += tarn_desc_numel(&d);
        t->rank = d.rank;
        int64_t stride = 1;
        for (int a = d.rank - 1; a >= 0; a--) {
            t->shape[a] = d.shape[a];
            t->stride[a] = stride;
            stride *= d.shape[a];
        }
        tarn_bind_settle(L);
        lua_settable(L, list - 2);
        lua_settop(L, list);
    }
    lua_pop(L, 2);
}

// ---- apply ----

static const tarn_node *call_apply(phase *f, const mapping *p, int fn, int kept, int64_t i) {
    lua_State *L = f->L;
    const tarn_slot *s = &f->m->slots[i];
    lua_pushvalue(L, fn);
    push_operands(f, i);
    push_stats(f, p, kept, i);
    lua_pushlstring(L, s->name, s->len);
    lua_call(L, 3, 1);
    if (lua_isnoneornil(L, -1) || (!tarn_bind_to_tensor(L, -1) && lua_type(L, -1) != LUA_TNUMBER)) {
        tarn_lua_error(L, "%s: apply returned a %s for %s, not a tensor", f->function, tarn_bind_kind(L, -1),
                       s->name);
    }
    const tarn_node *root = tarn_bind_node(L, -1, f->graph);
    if (!root) {
        fail(L, f->graph);
    }
    return root;
}

static void start(phase *f, mapping *p) {
    tarn_graph_release(p->graph);
    p->graph = f->graph = tarn_graph_new(f->cx);
    f->leaves = NULL;
    f->nleaves = f->room = 0;
    if (!f->graph) {
        tarn_lua_error(f->L, "%s: not enough memory", f->function);
    }
}

// One template for each distinct root, in the order of first use. Pushes what holds them.
static tarn_template *make_templates(phase *f, const tarn_node *const *roots, int *which, int *n) {
    lua_State *L = f->L;
    int64_t slots = f->m->n;
    int *seen = lua_newuserdatauv(L, ((size_t)f->graph->count + 1) * sizeof *seen, 0);
    memset(seen, -1, (size_t)f->graph->count * sizeof *seen);
    *n = 0;
    for (int64_t j = 0; j < slots; j++) {
        if (roots[j] && seen[roots[j]->id] < 0) {
            seen[roots[j]->id] = (*n)++;
        }
        which[j] = roots[j] ? seen[roots[j]->id] : -1;
    }
    tarn_template *t = lua_newuserdatauv(L, ((size_t)*n + 1) * sizeof *t, 0);
    int made = 0;
    for (int64_t j = 0; j < slots; j++) {
        if (which[j] == made) {
            make_template(f, roots[j], &t[made++]);
        }
    }
    return t;
}

// Stack: apply at `fn`, stats at `sfn` (0: none). Pushes the mapped model. Tensors are visited in byte
// order of names, so that the plan does not depend on their order in files.
static int run(lua_State *L, const char *function, int nin, tarn_model *const *in, bool based, int fn,
               int sfn, const tarn_policy *policy) {
    tarn_context *cx = tarn_host_context(L);
    mapping *p = tarn_lua_new(L, "mapping", sizeof *p);
    phase f = {.L = L, .cx = cx, .function = function, .based = based};
    tarn_error err;
    tarn_error_clear(&err);
    start(&f, p);
    TARN_LUA_TRY(L, tarn_model_map(cx, nin, in, f.graph, 0, NULL, NULL, policy, &p->matched, &err), &err);
    f.m = p->matched;
    size_t slots = (size_t)f.m->n;
    int *which = lua_newuserdatauv(L, (slots + 1) * sizeof *which, 0), n;
    const tarn_node **roots = lua_newuserdatauv(L, (slots + 1) * sizeof *roots, 0);
    memset((void *)roots, 0, slots * sizeof *roots);
    lua_newtable(L);
    int kept = lua_gettop(L);
    if (sfn) {
        run_stats(&f, p, sfn, kept);
        start(&f, p);
    }
    for (int64_t j = 0; j < f.m->n; j++) {
        if (mapped(f.m, f.m->by_name[j])) {
            roots[j] = call_apply(&f, p, fn, kept, f.m->by_name[j]);
            lua_pop(L, 1);
        }
    }
    const tarn_template *t = make_templates(&f, roots, which, &n);
    tarn_model **out = tarn_bind_new_model(L);
    TARN_LUA_TRY(L, tarn_model_map(cx, nin, in, f.graph, n, t, which, policy, out, &err), &err);
    release(p);
    return tarn_bind_finish_model(L);
}

static int l_map(lua_State *L) {
    static const char *const names[] = {"base", "stats", "apply", "missing", "on_integer", NULL};
    tarn_model *in[TARN_METHOD_MODELS];
    int n = 0;
    tarn_bind_one_table(L, "map", "apply");
    tarn_lua_check_options(L, 1, "merge.map", names, true);
    lua_getfield(L, 1, "apply");  // 2
    lua_getfield(L, 1, "stats");  // 3
    lua_getfield(L, 1, "base");   // 4
    if (!lua_isfunction(L, 2)) {
        return tarn_lua_error(L, "merge.map: apply = function(t, s, name) is missing");
    }
    if (!lua_isnil(L, 3) && !lua_isfunction(L, 3)) {
        return tarn_lua_error(L, "merge.map: stats is a %s, not a function", tarn_bind_kind(L, 3));
    }
    bool based = !lua_isnil(L, 4);
    if (based) {
        if (!tarn_bind_to_model(L, 4)) {
            return tarn_lua_error(L, "merge.map: base is a %s, not a model", tarn_bind_kind(L, 4));
        }
        in[n++] = tarn_bind_to_model(L, 4);
    }
    int count;
    tarn_model **others = tarn_bind_models(L, "merge.map", 1 - n, TARN_METHOD_MODELS - n, &count);
    for (int k = 0; k < count; k++) {
        in[n++] = others[k];
    }
    lua_pop(L, 1);
    tarn_policy policy = in[0]->policy;
    tarn_bind_policy(L, 1, "merge.map", &policy);
    return run(L, "merge.map", n, in, based, 2, lua_isnil(L, 3) ? 0 : 3, &policy);
}

// function(t, s, name) → fn(t[1], name)
static int l_first(lua_State *L) {
    lua_settop(L, 3);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_rawgeti(L, 1, 1);
    lua_pushvalue(L, 3);
    lua_call(L, 2, 1);
    return 1;
}

static int l_map_one(lua_State *L) {
    tarn_model *m = tarn_bind_check_model(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_pushcclosure(L, l_first, 1);
    return run(L, "model:map", 1, &m, false, 2, 0, &m->policy);
}

static const tarn_binding map_row = {
    {"merge.map", "merge.map { [base = m,] a, b, …, apply = function(t, s, name) … end, stats = function(t, name) … end } -> model",
     "A merge method of your own. apply is called once per tensor with expressions t[1], t[2], …, t.base and "
     "returns one; arithmetic and methods of tensors record what to do, and the data then streams through. stats, "
     "when given, is called first and returns a table of expressions (norms, inner products, …) whose values, "
     "computed in one pass over the files, apply receives in s as numbers and tensors in memory; without stats s is empty. What apply "
     "returns is brought to the dtype of the first operand (the base, if there is one); it may have another shape, and a number or one-element "
     "tensor fills the tensor. The functions run once, when merge.map is called; the plan keeps the expressions, so it can be replayed unless they "
     "hold tensors that were in memory. Integer tensors are copied. missing and on_integer as in model.open.",
     "local a, b = model.open \"examples/data/low.safetensors\", model.open \"examples/data/high.safetensors\"\n"
     "local m = merge.map { a, b, apply = function(t) return 0.5 * t[1] + 0.5 * t[2] end }\n"
     "print((m - merge.linear { a, b }):norm(math.huge) < 1e-6)\n-- > true"}, l_map};
static const tarn_binding one_row = {
    {"model:map", "m:map(function(t, name) … end) -> model", "Every floating tensor through a function of expressions; see merge.map.",
     "local m = model.open \"examples/data/base.safetensors\"\n"
     "print(m:map(function(t) return t:abs() end):norm(1) == m:norm(1))\n-- > true"}, l_map_one};

void tarn_bind_map(tarn_host *h) {
    static const tarn_lua_class class = {"mapping", release, NULL};
    tarn_lua_type(tarn_host_state(h), &class);
    tarn_bind_rows(h, "merge", &map_row, 1);
    tarn_bind_rows(h, "model", &one_row, 1);
}
