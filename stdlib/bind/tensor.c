// SPDX-License-Identifier: Apache-2.0
// Tensors in Lua: the userdata, applying rows of the operation table to what is on the stack, and
// getting values out. A tensor in memory computes at once; a tensor of a file gives an expression.
// A tensor of rank 0 in memory is a Lua number. Whatever owns memory is a userdata before it does,
// so that a Lua error leaks nothing.
#include "stdlib/bind/tensor.h"

#include <string.h>

tarn_lua_tensor *tarn_bind_to_tensor(lua_State *L, int idx) {
    return tarn_lua_test(L, idx, "tensor");
}

static void release(void *self) {
    tarn_lua_tensor *u = self;
    tarn_tensor_release(&u->t);
    tarn_graph_release(u->graph);
    u->graph = NULL;
    u->node = NULL;
}

typedef struct {
    int n;
    tarn_tensor t[];
} held;

static void release_held(void *self) {
    held *p = self;
    for (int i = 0; i < p->n; i++) {
        tarn_tensor_release(&p->t[i]);
    }
}

tarn_tensor *tarn_bind_hold(lua_State *L, int n) {
    held *p = tarn_lua_new(L, "tensors", sizeof *p + (size_t)n * sizeof *p->t);
    p->n = n;
    return p->t;
}

int tarn_bind_push_scalar(lua_State *L, const tarn_tensor *t) {
    switch (tarn_dtype_compute(t->dtype)) {
    case TARN_BOOL:
        lua_pushboolean(L, tarn_tensor_get(t, 0) != 0);
        break;
    case TARN_I64:
        lua_pushinteger(L, tarn_tensor_get_int(t, 0));
        break;
    default:
        lua_pushnumber(L, tarn_tensor_get(t, 0));
    }
    return 1;
}

tarn_lua_tensor *tarn_bind_new_tensor(lua_State *L) {
    return tarn_lua_new(L, "tensor", sizeof(tarn_lua_tensor));
}

int tarn_bind_settle(lua_State *L) {
    tarn_lua_tensor *u = lua_touserdata(L, -1);
    if (u->t.storage && u->t.rank == 0) {
        tarn_bind_push_scalar(L, &u->t);
        tarn_tensor_release(&u->t);
        lua_remove(L, -2);
    }
    return 1;
}

int tarn_bind_only(lua_State *L, int top) {
    lua_insert(L, top + 1);
    lua_settop(L, top + 1);
    return 1;
}

int tarn_bind_push_tensor(lua_State *L, tarn_tensor *t) {
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    u->t = *t;
    memset(t, 0, sizeof *t);
    return tarn_bind_settle(L);
}

int tarn_bind_push_node(lua_State *L, tarn_graph *g, const tarn_node *n, bool recorded) {
    if (!n) {
        tarn_error err = g->err;
        tarn_error_clear(&g->err);  // the graph serves on: what failed was not appended
        return tarn_lua_raise(L, &err);
    }
    tarn_lua_tensor *u = tarn_bind_new_tensor(L);
    u->graph = tarn_graph_retain(g);
    u->node = n;
    u->recorded = recorded;
    return 1;
}

// ---- operands ----

typedef struct {
    tarn_lua_tensor *u;  // NULL: a number
    double v;
    bool whole;  // a Lua integer or boolean
    tarn_desc d;
} operand;

static void read_operand(lua_State *L, int idx, const char *function, operand *x) {
    *x = (operand){.u = tarn_bind_to_tensor(L, idx)};
    if (x->u) {
        if (!x->u->t.storage && !x->u->node) {
            tarn_lua_error(L, "%s: the tensor is closed", function);
        }
        if (x->u->node) {
            x->d = x->u->node->desc;
        } else {
            tarn_desc_of(&x->u->t, &x->d);
        }
        return;
    }
    int type = lua_type(L, idx);
    if (type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
        tarn_lua_error(L, "%s: expected a tensor or a number, got %s", function, tarn_bind_kind(L, idx));
    }
    x->v = type == LUA_TBOOLEAN ? lua_toboolean(L, idx) : lua_tonumber(L, idx);
    x->whole = type == LUA_TBOOLEAN || lua_isinteger(L, idx);
    x->d = (tarn_desc){.dtype = TARN_F64, .weak = true};
}

void tarn_bind_desc(lua_State *L, int idx, const char *function, tarn_desc *d) {
    operand x;
    read_operand(L, idx, function, &x);
    *d = x.d;
}

// Numbers give way to the tensor they meet. Where all tensors are integers or bools, a Lua integer
// stays an integer and a Lua float makes f32 of them, as in PyTorch.
static void settle_numbers(int n, operand *x) {
    bool strong = false, floating = false;
    for (int i = 0; i < n; i++) {
        strong = strong || !x[i].d.weak;
        floating = floating || (!x[i].d.weak && tarn_dtype_is_float(x[i].d.dtype));
    }
    for (int i = 0; i < n && strong && !floating; i++) {
        if (x[i].d.weak) {
            x[i].d.weak = false;
            x[i].d.dtype = x[i].whole ? TARN_I64 : TARN_F32;
        }
    }
}

static tarn_graph *largest_graph(lua_State *L, int n, const operand *x, bool *recorded) {
    tarn_graph *g = NULL;
    for (int i = 0; i < n; i++) {
        if (!x[i].u || !x[i].u->node) {
            continue;
        }
        bool r = x[i].u->recorded;
        if (g && r != *recorded) {
            tarn_lua_error(L, "a planned tensor (of a file) meets a recorded one: load it first, with "
                           ":load()");
        }
        if (g && r && x[i].u->graph != g) {
            tarn_lua_error(L, "a tensor of a recording that has ended: return it from the function "
                           "instead");
        }
        *recorded = r;
        if (!g || (x[i].u->graph->count > g->count && !r)) {
            g = x[i].u->graph;
        }
    }
    return g;
}

static const tarn_node *node_of(tarn_graph *g, const operand *x) {
    const tarn_node *n;
    if (!x->u) {
        n = tarn_num(g, x->v);
    } else if (!x->u->node) {
        return tarn_leaf_tensor(g, &x->u->t);
    } else if (x->u->graph == g) {
        n = x->u->node;
    } else {
        n = tarn_node_import(g, x->u->graph, x->u->node, NULL);
    }
    return n && n->desc.weak && !x->d.weak ? tarn_cast(g, n, x->d.dtype) : n;
}

const tarn_node *tarn_bind_node(lua_State *L, int idx, tarn_graph *g) {
    operand x;
    read_operand(L, idx, "tensor", &x);
    const tarn_node *n = node_of(g, &x);
    if (!n) {
        tarn_error err = g->err;
        tarn_error_clear(&g->err);
        tarn_lua_raise(L, &err);
    }
    return n;
}

static tarn_status number(tarn_context *cx, const operand *x, tarn_tensor *out, tarn_error *err) {
    if (x->d.weak) {
        return tarn_tensor_number(cx, x->v, out, err);
    }
    TARN_TRY(tarn_tensor_new(cx, x->d.dtype, 0, NULL, out, err));
    tarn_tensor_set(out, 0, x->v);
    return TARN_OK;
}

static tarn_status compute(tarn_context *cx, const tarn_op *op, int n, const operand *x,
                           tarn_tensor *in, const tarn_attr *a, tarn_tensor *out, tarn_error *err) {
    tarn_status s = TARN_OK;
    memset(in, 0, (size_t)n * sizeof *in);
    for (int i = 0; i < n && s == TARN_OK; i++) {
        if (x[i].u) {
            tarn_tensor_share(&x[i].u->t, &in[i]);
        } else {
            s = number(cx, &x[i], &in[i], err);
        }
    }
    s = s == TARN_OK ? tarn_op_apply(cx, op, n, in, a, out, err) : s;
    for (int i = 0; i < n; i++) {
        tarn_tensor_release(&in[i]);
    }
    return s;
}

int tarn_bind_apply(lua_State *L, const tarn_op *op, int n, const int *idx, const tarn_attr *a) {
    static const tarn_attr none = {0};
    a = a ? a : &none;
    tarn_context *cx = tarn_host_context(L);
    operand few[4], *x = few;
    tarn_tensor few_in[4], *in = few_in;
    tarn_desc few_d[4], *d = few_d;
    tarn_error err;
    int top = lua_gettop(L);
    luaL_checkstack(L, 8, op->name);
    if (n > 4) {
        x = lua_newuserdatauv(L, (size_t)n * sizeof *x, 0);
        in = lua_newuserdatauv(L, (size_t)n * sizeof *in, 0);
        d = lua_newuserdatauv(L, (size_t)n * sizeof *d, 0);
    }
    for (int i = 0; i < n; i++) {
        read_operand(L, idx[i], op->name, &x[i]);
    }
    settle_numbers(n, x);
    for (int i = 0; i < n; i++) {
        d[i] = x[i].d;
    }
    bool recorded = false;
    tarn_graph *g = largest_graph(L, n, x, &recorded);
    if (!g) {
        tarn_desc result;
        tarn_error_clear(&err);
        TARN_LUA_TRY(L, tarn_op_infer(op, n, d, a, &result, &err), &err);
        tarn_lua_account(L, (size_t)tarn_desc_numel(&result) * 8);
        tarn_lua_tensor *u = tarn_bind_new_tensor(L);
        TARN_LUA_TRY(L, compute(cx, op, n, x, in, a, &u->t, &err), &err);
        tarn_bind_settle(L);
        return tarn_bind_only(L, top);
    }
    const tarn_node *few_nodes[4], **nodes = few_nodes;
    if (n > 4) {
        nodes = lua_newuserdatauv(L, (size_t)n * sizeof *nodes, 0);
    }
    for (int i = 0; i < n; i++) {
        nodes[i] = node_of(g, &x[i]);
    }
    tarn_bind_push_node(L, g, tarn_node_make(g, op, n, nodes, a), recorded);
    return tarn_bind_only(L, top);
}

// ---- expressions of several rows ----

// Pushes the nodes as expressions of g, or what they come to.
static void push_built(lua_State *L, tarn_graph *g, bool values, bool recorded, int nout,
                       const tarn_node *const *out) {
    tarn_error err;
    luaL_checkstack(L, nout + 4, "tensor");
    for (int k = 0; k < nout; k++) {
        if (!out[k]) {
            tarn_bind_push_node(L, g, NULL, recorded);  // raises what the graph says
        }
    }
    if (!values) {
        for (int k = 0; k < nout; k++) {
            tarn_bind_push_node(L, g, out[k], recorded);
        }
        return;
    }
    size_t bytes = 0;
    for (int k = 0; k < nout; k++) {
        bytes += (size_t)tarn_desc_numel(&out[k]->desc) * 8;
    }
    tarn_lua_account(L, bytes);
    tarn_tensor *results = tarn_bind_hold(L, nout);
    int holder = lua_gettop(L);
    tarn_error_clear(&err);
    if (tarn_graph_eval(g, nout, out, NULL, results, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    for (int k = 0; k < nout; k++) {
        tarn_bind_push_tensor(L, &results[k]);
    }
    lua_remove(L, holder);
}

int tarn_bind_build(lua_State *L, const char *function, int n, const int *idx, int nout,
                    tarn_bind_builder build, const void *arg) {
    enum { MOST = 6, RESULTS = 4 };
    operand x[MOST], present[MOST];
    const tarn_node *in[MOST] = {NULL}, *out[RESULTS] = {NULL};
    int count = 0, top = lua_gettop(L);
    luaL_checkstack(L, 12, function);
    for (int k = 0; k < n; k++) {
        if (idx[k]) {
            read_operand(L, idx[k], function, &x[k]);
            present[count++] = x[k];
        }
    }
    settle_numbers(count, present);
    bool recorded = false;
    tarn_graph *g = largest_graph(L, count, present, &recorded), *own = NULL;
    if (!g) {
        tarn_lua_tensor *holder = tarn_bind_new_tensor(L);  // closes the graph whatever happens
        own = g = holder->graph = tarn_graph_new(tarn_host_context(L));
        if (!g) {
            tarn_error err;
            tarn_raise_nomem(&err, function, sizeof *g);
            return tarn_lua_raise(L, &err);
        }
    }
    for (int k = 0, i = 0; k < n; k++) {
        in[k] = idx[k] ? node_of(g, &present[i++]) : NULL;
    }
    if (g->err.status == TARN_OK) {
        build(g, in, arg, out);
    }
    if (g->err.status != TARN_OK) {
        tarn_bind_push_node(L, g, NULL, recorded);
    }
    push_built(L, g, own != NULL, recorded, nout, out);
    if (own) {
        release(lua_touserdata(L, top + 1));
        lua_remove(L, top + 1);
    }
    return nout;
}

// ---- values ----

void tarn_bind_value(lua_State *L, int idx, tarn_tensor *out) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    operand x;
    read_operand(L, idx, "tensor", &x);
    if (!x.u) {
        if (tarn_tensor_number(cx, x.v, out, &err) != TARN_OK) {
            tarn_lua_raise(L, &err);
        }
        return;
    }
    if (!x.u->node) {
        tarn_tensor_share(&x.u->t, out);
        return;
    }
    if (x.u->recorded) {
        tarn_lua_error(L, "a value inside a recorded function is not known yet: :item() and :totable() "
                       "belong outside (return the tensor)");
    }
    tarn_bind_force(L, "this value");
    tarn_lua_account(L, (size_t)tarn_desc_numel(&x.d) * 8);
    tarn_job job = {.name = "tensor", .graph = x.u->graph, .root = x.u->node, .store = x.d.dtype};
    tarn_error_clear(&err);
    if (tarn_stream_load(cx, 1, &job, out, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
}

void tarn_bind_poll(lua_State *L) {
    tarn_error err;
    if (tarn_cancel_check(&tarn_host_context(L)->cancel, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
}

// ---- what a tensor says of itself ----

static int m_len(lua_State *L) {
    tarn_desc d;
    tarn_bind_desc(L, 1, "#", &d);
    if (d.rank == 0) {
        return tarn_lua_error(L, "a tensor of rank 0 has no length");
    }
    lua_pushinteger(L, d.shape[0]);
    return 1;
}

// What computing it would take; nothing is computed.
static void show_node(lua_State *L, const tarn_lua_tensor *u, tarn_text *out) {
    tarn_desc_show(&u->node->desc, out);
    if (u->recorded) {
        tarn_text_puts(out, " recorded");
        return;
    }
    tarn_job job = {.name = "tensor", .graph = u->graph, .root = u->node, .store = u->node->desc.dtype};
    tarn_stream_plan plan;
    tarn_error err;
    char bytes[32];
    tarn_text_puts(out, " planned");
    tarn_status s = tarn_stream_plan_of(tarn_host_context(L), 1, &job, &plan, NULL, &err);
    out->failed = out->failed || s == TARN_NOMEM;
    if (s == TARN_OK) {
        tarn_text_printf(out, ": %d pass%s, %s to read", plan.passes, plan.passes == 1 ? "" : "es",
                         tarn_show_bytes(plan.reads, bytes));
    }
}

static void show(lua_State *L, int idx, tarn_text *out) {
    tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    if (u->t.storage) {
        tarn_tensor_show(&u->t, out);
    } else if (u->node) {
        show_node(L, u, out);
    } else {
        tarn_text_puts(out, "closed tensor");
    }
}

static int m_tostring(lua_State *L) {
    tarn_lua_check(L, 1, "tensor");
    tarn_text *t = tarn_bind_new_text(L);
    show(L, 1, t);
    return tarn_bind_push_text(L, t, "the text of a tensor");
}

// ---- metamethods ----

// A tensor on the left of a model: the model's own operation.
static bool meets_model(lua_State *L) { return tarn_bind_to_model(L, 2) != NULL; }

static int by_model(lua_State *L, const char *event) {
    lua_settop(L, 2);
    luaL_getmetafield(L, 2, event);
    lua_insert(L, 1);
    lua_call(L, 2, 1);
    return 1;
}

#define ARITHMETIC(NAME)                                                                              \
    static int m_##NAME(lua_State *L) {                                                               \
        static const int idx[2] = {1, 2};                                                             \
        return meets_model(L) ? by_model(L, "__" #NAME) : tarn_bind_apply(L, &tarn_op_##NAME, 2, idx, NULL); \
    }
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
static int m_pow(lua_State *L) {
    static const int idx[2] = {1, 2};
    return tarn_bind_apply(L, &tarn_op_pow, 2, idx, NULL);
}
static int m_neg(lua_State *L) { return tarn_bind_unary(L, &tarn_op_neg, 1, NULL); }

// The methods written in Lua.
static int by_method(lua_State *L, const char *name) {
    lua_settop(L, 2);
    tarn_bind_methods(L, "tensor");
    lua_getfield(L, -1, name);
    lua_insert(L, 1);
    lua_settop(L, 3);
    lua_call(L, 2, 1);
    return 1;
}
static int m_idiv(lua_State *L) { return by_method(L, "floor_divide"); }
static int m_mod(lua_State *L) { return by_method(L, "remainder"); }

static int m_compare(lua_State *L) {
    for (int i = 1; i <= 2; i++) {
        const tarn_lua_tensor *u = tarn_bind_to_tensor(L, i);
        if (u && u->recorded) {
            return tarn_lua_error(L, "a comparison inside a recorded function has no answer yet, so it cannot choose "
                                  "what is done: tensor.where(a:gt(b), x, y) chooses between values");
        }
    }
    return tarn_lua_error(L, "tensors are compared element by element: a:lt(b), a:le(b), a:gt(b), "
                          "a:ge(b), a:eq(b); the number of a one-element tensor is a:item()");
}

static int m_equal(lua_State *L) {
    return tarn_lua_error(L, "== between two tensors: use tensor.equal(a, b) for one answer, a:eq(b) for "
                          "one per element, rawequal(a, b) for the same handle");
}

static int m_newindex(lua_State *L) {
    return tarn_lua_error(L, "a tensor is not assigned into: t:set_({1, 2}, v) writes one element, "
                          "t[{ {1, 3} }]:copy_(v) and :fill_(v) write a range");
}

static int m_call(lua_State *L) {
    return tarn_lua_error(L, "a tensor is indexed with brackets: t[i], t[{ {1, 3}, 2 }]");
}

static int m_concat(lua_State *L) {
    lua_settop(L, 2);
    for (int i = 1; i <= 2; i++) {
        luaL_tolstring(L, i, NULL);
    }
    lua_concat(L, 2);
    return 1;
}

static void complete(lua_State *L, int idx, char how, void (*add)(void *, const char *), void *arg) {
    static const char *const fields[] = {"shape", "dtype", "rank", "planned", "recorded", NULL};
    (void)idx;
    if (how == '.') {
        for (int i = 0; fields[i]; i++) {
            add(arg, fields[i]);
        }
    }
    if (how != ':' && how != '.') {
        return;
    }
    tarn_bind_methods(L, "tensor");
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        add(arg, lua_tostring(L, -1));
    }
    lua_pop(L, 1);
}

// A number answers as a tensor of rank 0 does, so that what is written for expressions serves in
// memory too: (x * y):sum():sqrt().
static void give_numbers_methods(lua_State *L) {
    luaL_checkstack(L, 5, "methods of numbers");
    lua_pushinteger(L, 0);
    if (lua_getmetatable(L, -1)) {
        lua_getfield(L, -1, "__index");
        lua_createtable(L, 0, 1);
        tarn_bind_methods(L, "tensor");
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
        lua_pop(L, 2);
    }
    lua_pop(L, 1);
}

// tensor.f(t, …) is t:f(…), for every method that changes nothing.
static void give_module_methods(tarn_host *h) {
    lua_State *L = tarn_host_state(h);
    tarn_bind_methods(L, "tensor");
    tarn_host_push_module(h, "tensor");
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        const char *name = lua_tostring(L, -2);
        lua_pushvalue(L, -2);
        if (name[strlen(name) - 1] != '_' && lua_rawget(L, -4) == LUA_TNIL) {
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, -6);
        }
        lua_pop(L, 2);
    }
    lua_pop(L, 2);
}

static const tarn_binding rows[] = {
    {{"tensor.shape", "t.shape -> {n1, n2, …}", "The size of every dimension, a table that prints as "
      "[n1, n2]. A field, not a method: t.shape[1], #t.shape.",
      "print(tensor.zeros({2, 3}).shape)\n-- > [2, 3]"}, NULL},
    {{"tensor.dtype", "t.dtype -> string", "The data type: f32, f64, i64, bool, or a stored type such as "
      "bf16. A field, not a method.", "print(tensor { 1, 2 }.dtype)\n-- > f32"}, NULL},
    {{"tensor.rank", "t.rank -> integer", "The number of dimensions. A field, not a method.",
      "print(tensor.zeros({2, 3}).rank)\n-- > 2"}, NULL},
    {{"tensor.planned", "t.planned -> boolean", "True while the values are not there: the tensor is an "
      "expression over files, or stands inside a recorded function (grad …).", "print(tensor { 1, 2 }.planned)\n-- > false"},
     NULL},
    {{"tensor.recorded", "t.recorded -> boolean", "True inside a function that is being recorded (grad, compile …), of what depends "
      "on its arguments.", "grad(function(x) print(x.recorded) return x end, 1.0)\n-- > true"},
     NULL},
    {{"tensor.indexing", "indexing: t[i], t[{i, j}], t[{ {first, last, step}, {}, k }], t[index] -> tensor or number",
      "Indices count from 1, negative ones from the end; a range includes both ends, {} is all of an axis, and axes "
      "that are left out stay whole. A single index takes its axis away, a range keeps it. In memory the result is a "
      "view: what is written into it (:copy_, :fill_, :add_ …) is written into t; t[i] = v is an error. One element is "
      "a number. An integer tensor as index picks rows (index_select along dimension 1); a bool tensor is an error "
      "that names tensor.where and t:masked_select. An index outside is an error that names axis and size.",
      "local t = tensor { {1, 2, 3}, {4, 5, 6} }\nprint(t[{2, -1}], t[{ {}, {1, 3, 2} }])\n-- > 6.0\tf32[2, 2]\n"
      "-- > [[1., 3.],\n-- >  [4., 6.]]"}, NULL},
    {{"tensor.operators", "operators: a + b, a - b, a * b, a / b, a ^ b, a // b, a % b, -a, #a, a .. b",
      "Element by element with broadcasting (PyTorch's: shapes are compared from the last dimension, 1 stretches); "
      "either side may be a number. A shape that does not fit is an error. The result is f64 if a tensor operand is "
      "f64, else f32 if one is floating, else i64; a number is rounded once to that dtype (a Lua float, 2.0 "
      "too, makes f32 of integers), / of integers gives f32. #a is the size of dimension 1, .. joins "
      "text. Comparison is by method, a:lt(b), a:eq(b) …: a < b and a == b are errors.",
      "print((tensor { {1}, {2} } * tensor { 10, 20 }).shape)\n-- > [2, 2]"}, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__index", tarn_bind_index}, {"__newindex", m_newindex}, {"__call", m_call}, {"__len", m_len},
    {"__tostring", m_tostring}, {"__add", m_add}, {"__sub", m_sub}, {"__mul", m_mul}, {"__div", m_div},
    {"__pow", m_pow}, {"__unm", m_neg}, {"__idiv", m_idiv}, {"__mod", m_mod}, {"__lt", m_compare},
    {"__le", m_compare}, {"__eq", m_equal}, {"__concat", m_concat}, {NULL, NULL}};

tarn_status tarn_bind_tensor(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class tensor = {"tensor", release, metamethods};
    static const tarn_lua_class several = {"tensors", release_held, NULL};
    static const char *const composed[] = {"stdlib/lua/tensor.lua", "stdlib/lua/tensor/order.lua",
                                           "stdlib/lua/tensor/shapes.lua", "stdlib/lua/tensor/matrix.lua"};
    lua_State *L = tarn_host_state(h);
    tarn_lua_type(L, &tensor);
    tarn_lua_type(L, &several);
    tarn_host_printer(h, "tensor", show);
    tarn_host_completer(h, "tensor", complete);
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
    tarn_bind_tensor_values(h);
    tarn_bind_tensor_make(h);
    tarn_bind_tensor_view(h);
    tarn_bind_tensor_inplace(h);
    tarn_bind_tensor_linalg(h);
    tarn_bind_tensor_sinkhorn(h);
    tarn_bind_tensor_conv(h);
    tarn_bind_tensor_nn(h);
    tarn_bind_tensor_more(h);
    TARN_TRY(tarn_bind_tensor_ops(h, err));
    for (size_t i = 0; i < sizeof composed / sizeof *composed; i++) {
        TARN_TRY(tarn_bind_library(h, composed[i], err));
    }
    give_numbers_methods(L);
    give_module_methods(h);
    return TARN_OK;
}
