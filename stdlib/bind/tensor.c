// SPDX-License-Identifier: Apache-2.0
// Tensors in Lua: the userdata, applying rows of the operation table to what is on the stack, and
// getting values out. A tensor in memory computes at once; a tensor of a file gives an expression.
#include <math.h>
#include <string.h>

#include "stdlib/bind/bind.h"

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

static int push_scalar(lua_State *L, const tarn_tensor *t) {
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

int tarn_bind_push_tensor(lua_State *L, tarn_tensor *t) {
    if (t->rank == 0) {
        push_scalar(L, t);
        tarn_tensor_release(t);
        return 1;
    }
    tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);
    u->t = *t;
    memset(t, 0, sizeof *t);
    return 1;
}

int tarn_bind_push_node(lua_State *L, tarn_graph *g, const tarn_node *n, bool recorded) {
    if (!n) {
        tarn_error err = g->err;
        return tarn_lua_raise(L, &err);
    }
    tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);
    u->graph = tarn_graph_retain(g);
    u->node = n;
    u->recorded = recorded;
    return 1;
}

// ---- operands ----

typedef struct {
    tarn_lua_tensor *u;  // NULL: a number
    double v;
    tarn_desc d;
} operand;

static void read_operand(lua_State *L, int idx, const char *function, operand *x) {
    x->u = tarn_bind_to_tensor(L, idx);
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
        tarn_lua_error(L, "%s: expected a tensor or a number, got %s", function,
                       luaL_typename(L, idx));
    }
    x->v = type == LUA_TBOOLEAN ? lua_toboolean(L, idx) : lua_tonumber(L, idx);
    x->d = (tarn_desc){.dtype = TARN_F64, .weak = true};
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
        *recorded = r;
        if (!g || (x[i].u->graph->count > g->count && !r)) {
            g = x[i].u->graph;
        }
    }
    return g;
}

static const tarn_node *node_of(tarn_graph *g, const operand *x) {
    if (!x->u) {
        return tarn_num(g, x->v);
    }
    if (!x->u->node) {
        return tarn_leaf_tensor(g, &x->u->t);
    }
    return x->u->graph == g ? x->u->node : tarn_node_import(g, x->u->graph, x->u->node, NULL);
}

const tarn_node *tarn_bind_node(lua_State *L, int idx, tarn_graph *g) {
    operand x;
    read_operand(L, idx, "tensor", &x);
    const tarn_node *n = node_of(g, &x);
    if (!n) {
        tarn_error err = g->err;
        tarn_lua_raise(L, &err);
    }
    return n;
}

static tarn_status compute(tarn_context *cx, const tarn_op *op, int n, const operand *x,
                           tarn_tensor *in, const tarn_attr *a, tarn_tensor *out, tarn_error *err) {
    tarn_status s = TARN_OK;
    memset(in, 0, (size_t)n * sizeof *in);
    for (int i = 0; i < n && s == TARN_OK; i++) {
        if (x[i].u) {
            tarn_tensor_share(&x[i].u->t, &in[i]);
        } else {
            s = tarn_tensor_number(cx, x[i].v, &in[i], err);
        }
    }
    s = s == TARN_OK ? tarn_op_apply(cx, op, n, in, a, out, err) : s;
    for (int i = 0; i < n; i++) {
        tarn_tensor_release(&in[i]);
    }
    return s;
}

int tarn_bind_apply(lua_State *L, const tarn_op *op, int n, const int *idx, const tarn_attr *a) {
    tarn_context *cx = tarn_host_context(L);
    operand few[4], *x = few;
    tarn_tensor few_in[4], *in = few_in;
    tarn_desc few_d[4], *d = few_d;
    tarn_error err;
    if (n > 4) {
        x = lua_newuserdatauv(L, (size_t)n * sizeof *x, 0);
        in = lua_newuserdatauv(L, (size_t)n * sizeof *in, 0);
        d = lua_newuserdatauv(L, (size_t)n * sizeof *d, 0);
    }
    for (int i = 0; i < n; i++) {
        read_operand(L, idx[i], op->name, &x[i]);
        d[i] = x[i].d;
    }
    bool recorded = false;
    tarn_graph *g = largest_graph(L, n, x, &recorded);
    tarn_desc result;
    tarn_error_clear(&err);
    TARN_LUA_TRY(L, tarn_op_infer(op, n, d, a, &result, &err), &err);
    if (!g) {
        tarn_tensor out;
        tarn_lua_account(L, (size_t)tarn_desc_numel(&result) * 8);
        TARN_LUA_TRY(L, compute(cx, op, n, x, in, a, &out, &err), &err);
        return tarn_bind_push_tensor(L, &out);
    }
    const tarn_node **nodes = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *nodes, 0);
    for (int i = 0; i < n; i++) {
        nodes[i] = node_of(g, &x[i]);
    }
    return tarn_bind_push_node(L, g, tarn_node_make(g, op, n, nodes, a), recorded);
}

// ---- values ----

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

void tarn_bind_plan_only(lua_State *L, bool on);
void tarn_bind_plan_only(lua_State *L, bool on) {
    lua_pushboolean(L, on);
    lua_rawsetp(L, LUA_REGISTRYINDEX, planning_key());
}

void tarn_bind_force(lua_State *L, const char *what) {
    if (tarn_bind_planning(L)) {
        tarn_lua_error(L, "%s needs the values of files, and this run only plans: nothing is read", what);
    }
}

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
        tarn_lua_error(L, "a value inside a recorded function is not known yet (return it instead)");
    }
    tarn_bind_force(L, "this value");
    tarn_lua_account(L, (size_t)tarn_desc_numel(&x.d) * 8);
    tarn_job job = {.name = "tensor", .graph = x.u->graph, .root = x.u->node, .store = x.d.dtype};
    tarn_error_clear(&err);
    if (tarn_stream_load(cx, 1, &job, out, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
}

static int l_load(lua_State *L) {
    tarn_tensor t;
    if (lua_type(L, 1) == LUA_TNUMBER) {
        lua_settop(L, 1);
        return 1;
    }
    tarn_lua_check(L, 1, "tensor");
    tarn_bind_value(L, 1, &t);
    return tarn_bind_push_tensor(L, &t);
}

static int l_item(lua_State *L) {
    tarn_tensor t;
    tarn_lua_check(L, 1, "tensor");
    tarn_bind_value(L, 1, &t);
    if (tarn_tensor_numel(&t) != 1) {
        tarn_text shape;
        tarn_text_init(&shape, &tarn_host_context(L)->budget);
        tarn_shape_show(&shape, t.rank, t.shape);
        lua_pushstring(L, shape.data ? shape.data : "");
        tarn_text_free(&shape);
        tarn_tensor_release(&t);
        return tarn_lua_error(L, "tensor:item: one element is wanted, the shape is %s",
                              lua_tostring(L, -1));
    }
    push_scalar(L, &t);
    tarn_tensor_release(&t);
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
        push_scalar(L, &one);
        return;
    }
    luaL_checkstack(L, 3, "totable");
    lua_createtable(L, (int)(t->shape[dim] < 1 << 20 ? t->shape[dim] : 0), 0);
    for (at[dim] = 0; at[dim] < t->shape[dim]; at[dim]++) {
        push_table(L, t, dim + 1, at);
        lua_rawseti(L, -2, at[dim] + 1);
    }
}

static int l_totable(lua_State *L) {
    tarn_lua_check(L, 1, "tensor");
    tarn_lua_tensor *u = tarn_lua_new(L, "tensor", sizeof *u);  // owns the value if the table fails
    tarn_bind_value(L, 1, &u->t);
    int64_t at[TARN_MAX_RANK + 1] = {0};
    push_table(L, &u->t, 0, at);
    return 1;
}

// ---- what a tensor says of itself ----

static void desc_at(lua_State *L, int idx, tarn_desc *d) {
    operand x;
    tarn_lua_check(L, idx, "tensor");
    read_operand(L, idx, "tensor", &x);
    *d = x.d;
}

static int l_shape(lua_State *L) {
    tarn_desc d;
    desc_at(L, 1, &d);
    lua_createtable(L, d.rank, 0);
    for (int k = 0; k < d.rank; k++) {
        lua_pushinteger(L, d.shape[k]);
        lua_rawseti(L, -2, k + 1);
    }
    return 1;
}
static int l_rank(lua_State *L) {
    tarn_desc d;
    desc_at(L, 1, &d);
    lua_pushinteger(L, d.rank);
    return 1;
}
static int l_numel(lua_State *L) {
    tarn_desc d;
    desc_at(L, 1, &d);
    lua_pushinteger(L, tarn_desc_numel(&d));
    return 1;
}
static int l_dtype(lua_State *L) {
    tarn_desc d;
    desc_at(L, 1, &d);
    lua_pushstring(L, tarn_dtype_get(d.dtype)->name);
    return 1;
}
static int l_len(lua_State *L) {
    tarn_desc d;
    desc_at(L, 1, &d);
    if (d.rank == 0) {
        return tarn_lua_error(L, "a tensor of rank 0 has no length");
    }
    lua_pushinteger(L, d.shape[0]);
    return 1;
}

static void show_node(const tarn_lua_tensor *u, tarn_text *out) {
    tarn_desc_show(&u->node->desc, out);
    tarn_text_puts(out, u->recorded ? " recorded" : " planned");
}

static void show(lua_State *L, int idx, tarn_text *out) {
    tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    if (u->t.storage) {
        tarn_tensor_show(&u->t, out);
    } else if (u->node) {
        show_node(u, out);
    } else {
        tarn_text_puts(out, "closed tensor");
    }
}

static int l_tostring(lua_State *L) {
    tarn_text t;
    tarn_text_init(&t, &tarn_host_context(L)->budget);
    tarn_lua_check(L, 1, "tensor");
    show(L, 1, &t);
    lua_pushlstring(L, t.data ? t.data : "", t.len);
    tarn_text_free(&t);
    return 1;
}

// ---- metamethods ----

#define ARITHMETIC(NAME)                                          \
    static int m_##NAME(lua_State *L) {                           \
        static const int idx[2] = {1, 2};                         \
        return tarn_bind_apply(L, &tarn_op_##NAME, 2, idx, NULL); \
    }
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
ARITHMETIC(pow)
static int m_neg(lua_State *L) {
    static const int idx[1] = {1};
    return tarn_bind_apply(L, &tarn_op_neg, 1, idx, NULL);
}

static int m_compare(lua_State *L) {
    return tarn_lua_error(L, "tensors are compared element by element: a:lt(b), a:le(b), a:gt(b), "
                          "a:ge(b), a:eq(b); the number of a one-element tensor is a:item()");
}

static int m_concat(lua_State *L) {
    for (int i = 1; i <= 2; i++) {
        luaL_tolstring(L, i, NULL);
    }
    lua_concat(L, 2);
    return 1;
}

static void complete(lua_State *L, int idx, char how, void (*add)(void *, const char *), void *arg) {
    (void)idx;
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

static const tarn_binding rows[] = {
    {{"tensor:load", "t:load() -> tensor", "The values of a planned tensor, in memory. A tensor that is "
      "there already is returned as it is.", "print(base[\"fc1.bias\"]:load():numel())\n-- > 64"}, l_load},
    {{"tensor:item", "t:item() -> number", "The number of a tensor with one element. Reads files when the "
      "tensor is planned.", "print(tensor { 5 }:item())\n-- > 5.0"}, l_item},
    {{"tensor:totable", "t:totable() -> table", "Nested tables of numbers. Reads files when the tensor is "
      "planned.", "print(tensor { {1, 2}, {3, 4} }:totable()[2][1])\n-- > 3.0"}, l_totable},
    {{"tensor:shape", "t:shape() -> {n1, n2, …}", "The size of every dimension.",
      "print(table.concat(tensor.zeros({2, 3}):shape(), \" x \"))\n-- > 2 x 3"}, l_shape},
    {{"tensor:rank", "t:rank() -> integer", "The number of dimensions.",
      "print(tensor.zeros({2, 3}):rank())\n-- > 2"}, l_rank},
    {{"tensor:numel", "t:numel() -> integer", "The number of elements.",
      "print(tensor.zeros({2, 3}):numel())\n-- > 6"}, l_numel},
    {{"tensor:dtype", "t:dtype() -> string", "The data type: f32, f64, i64, bool, or a stored type such as bf16.",
      "print(tensor { 1, 2 }:dtype())\n-- > f32"}, l_dtype},
};

static const luaL_Reg metamethods[] = {
    {"__index", tarn_bind_index}, {"__len", l_len}, {"__tostring", l_tostring}, {"__add", m_add},
    {"__sub", m_sub}, {"__mul", m_mul}, {"__div", m_div}, {"__pow", m_pow}, {"__unm", m_neg},
    {"__lt", m_compare}, {"__le", m_compare}, {"__concat", m_concat}, {NULL, NULL}};

tarn_status tarn_bind_tensor_make(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_tensor_ops(tarn_host *h, tarn_error *err);

tarn_status tarn_bind_tensor(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class class = {"tensor", release, metamethods};
    tarn_lua_type(tarn_host_state(h), &class);
    tarn_host_printer(h, "tensor", show);
    tarn_host_completer(h, "tensor", complete);
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
    TARN_TRY(tarn_bind_tensor_make(h, err));
    TARN_TRY(tarn_bind_tensor_ops(h, err));
    return tarn_bind_library(h, "stdlib/lua/tensor.lua", err);
}
