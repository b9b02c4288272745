// SPDX-License-Identifier: Apache-2.0
// grad, value_and_grad, vjp, jvp, hvp: the function is called once with recorded values, its result
// is differentiated by appending to the same graph, and what is asked for is computed. Inside another
// recording the derivative stays an expression: derivatives of derivatives are nothing special. The
// fresh inputs of an inner call are replaced by its arguments afterwards, so the two never mix. What a
// derivative by a model is: a vector (mass 0) of its floating tensors, without buffers.
#include <string.h>

#include "stdlib/bind/recording.h"
#include "vm/grad/example.h"
#include "vm/grad/grad.h"

// ---- one differentiation ----

typedef struct {
    const char *function;
    int top;                  // arguments: the function, x, what else
    int only;                 // stack: what chooses tensors of models
    tarn_graph *g;
    int leaves;               // stack: list of what is differentiated by
    int count;                // of leaves
    const tarn_bind_part *part;  // [count]
    int n;                    // tensors in them
    const tarn_node **wrt;    // [n] fresh inputs
    tarn_tensor *value;       // [n] their values; closed where the argument is recorded itself
    const tarn_node **outer;  // [n] the argument's own node, NULL: a value
    int results;              // stack: first result of the function
    int nresults;
    const tarn_node *y;
} problem;

// f, x, … as they are, or in one table with options: { f, x, …, only = }. Leaves them from 1 on.
static void open_call(lua_State *L, problem *p) {
    static const char *const names[] = {"only", NULL};
    bool called = lua_isfunction(L, 1);
    if (!called && luaL_getmetafield(L, 1, "__call") != LUA_TNIL) {
        lua_pop(L, 1);
        called = true;
    }
    if (!called && lua_istable(L, 1) && lua_gettop(L) == 1) {
        tarn_lua_check_options(L, 1, p->function, names, true);
        int n = (int)luaL_len(L, 1);
        luaL_checkstack(L, n + 8, p->function);
        for (int k = 1; k <= n; k++) {
            lua_geti(L, 1, k);
        }
        lua_getfield(L, 1, "only");
        lua_remove(L, 1);
        p->top = n;
        called = n > 0 && (lua_isfunction(L, 1) || luaL_getmetafield(L, 1, "__call") != LUA_TNIL);
        lua_settop(L, n + 1);
    } else {
        p->top = lua_gettop(L);
        lua_pushnil(L);
    }
    if (!called) {
        tarn_lua_error(L, "%s: expected a function and what it is differentiated by, got %s", p->function,
                       p->top == 0 ? "nothing" : tarn_bind_kind(L, 1));
    }
    while (p->top < 2) {
        lua_pushnil(L);
        lua_insert(L, ++p->top);
    }
    p->only = p->top + 1;
}

static const tarn_node *input(lua_State *L, problem *p, int k, const tarn_desc *d) {
    p->wrt[k] = tarn_leaf_input(p->g, d);
    if (!p->wrt[k]) {
        tarn_bind_fail(L, p->g);
    }
    return p->wrt[k];
}

// A fresh input for the tensor or number on top, which the recorded tensor replaces.
static void open_tensor(lua_State *L, problem *p, int k) {
    tarn_desc d;
    tarn_bind_desc(L, -1, p->function, &d);
    if (!tarn_dtype_is_float(d.dtype)) {
        tarn_lua_error(L, "%s: derivatives by %s values do not exist; convert with :to(\"f32\")",
                       p->function, tarn_dtype_get(d.dtype)->name);
    }
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, -1);
    if (u && u->recorded) {
        p->outer[k] = tarn_bind_node(L, -1, p->g);
    } else {
        tarn_bind_value(L, -1, &p->value[k]);
    }
    tarn_bind_push_node(L, p->g, input(L, p, k, &d), true);
    lua_replace(L, -2);
}

// The model on top with fresh inputs for what is differentiated by; all else is as it was.
static void open_model(lua_State *L, problem *p, const tarn_bind_part *part) {
    tarn_model *m = part->model, **signature, **out;
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    const tarn_node **node = tarn_bind_scratch(L, (size_t)m->n * sizeof *node);
    for (int64_t i = 0, k = 0; i < m->n; i++) {
        bool wanted = k < part->n && part->slot[k] == i;
        const tarn_tensor *held = tarn_model_held(m, i);
        if (!wanted || !held) {
            node[i] = tarn_model_recorded(p->g, m, i);
        }
        if (wanted) {
            int at = part->first + (int)k++;
            tarn_desc d;
            if (held) {
                tarn_desc_of(held, &d);
                tarn_tensor_share(held, &p->value[at]);
            } else {
                p->outer[at] = node[i];
            }
            if (!held && !node[i]) {
                tarn_bind_fail(L, p->g);
            }
            node[i] = input(L, p, at, held ? &d : &node[i]->desc);
        }
        if (!node[i]) {
            tarn_bind_fail(L, p->g);
        }
    }
    signature = tarn_bind_new_model(L);
    out = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    tarn_status s = tarn_model_signature(cx, m, signature, &err);
    s = s == TARN_OK ? tarn_model_of_nodes(cx, *signature, p->g, node, m->mass, out, &err) : s;
    if (s != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    (*out)->policy = m->policy;
    lua_insert(L, -4);
    lua_pop(L, 3);  // the model as it was, nodes, signature
}

// The value at idx as a node.
static const tarn_node *result_node(lua_State *L, const problem *p, int idx) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    if (u && u->recorded && u->graph != p->g) {
        tarn_lua_error(L, "%s: the function returned a tensor of a recording that has ended", p->function);
    }
    if (u && u->node && !u->recorded) {
        tarn_lua_error(L, "%s: the function returned a planned tensor (of a file) that does not depend on "
                       "its argument", p->function);
    }
    return tarn_bind_node(L, idx, p->g);
}

// The function's first result, which has to be one tensor or number, as a node.
static void read_result(lua_State *L, problem *p) {
    const tarn_lua_tensor *u = p->nresults ? tarn_bind_to_tensor(L, p->results) : NULL;
    if (!u && (!p->nresults || lua_type(L, p->results) != LUA_TNUMBER)) {
        tarn_lua_error(L, "%s: the function returned %s; expected a number or a tensor", p->function,
                       p->nresults ? tarn_bind_kind(L, p->results) : "nothing");
    }
    p->y = result_node(L, p, p->results);
}

// Calls f(x, …) with recorded values for the leaves of x; the arguments of f from `rest` on go with it.
static void record(lua_State *L, problem *p, int rest) {
    luaL_checkstack(L, 32 + p->top, p->function);
    lua_newtable(L);
    p->leaves = lua_gettop(L);
    lua_pushvalue(L, 2);
    tarn_bind_collect(L, p->function, TARN_ARGUMENTS, p->leaves);
    lua_pop(L, 1);
    p->g = tarn_bind_record(L);
    p->part = tarn_bind_parts(L, p->function, p->leaves, p->only, &p->n);
    p->count = (int)lua_rawlen(L, p->leaves);
    if (p->n == 0) {
        tarn_lua_error(L, "%s: there is nothing to differentiate by%s", p->function,
                       !lua_isnoneornil(L, p->only) ? ": `only` chooses no floating-point tensor of it" : "");
    }
    p->wrt = tarn_bind_scratch(L, (size_t)p->n * sizeof *p->wrt);
    p->outer = tarn_bind_scratch(L, (size_t)p->n * sizeof *p->outer);
    p->value = tarn_bind_hold(L, p->n);
    lua_createtable(L, p->count, 0);
    int inputs = lua_gettop(L);
    for (int i = 0; i < p->count; i++) {
        lua_rawgeti(L, p->leaves, i + 1);
        if (p->part[i].model) {
            open_model(L, p, &p->part[i]);
        } else {
            open_tensor(L, p, p->part[i].first);
        }
        lua_rawseti(L, inputs, i + 1);
    }
    int before = lua_gettop(L);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    tarn_bind_rebuilt(L, p->function, TARN_ARGUMENTS, inputs);
    lua_remove(L, -2);
    for (int k = rest; k <= p->top; k++) {
        lua_pushvalue(L, k);
    }
    lua_call(L, 1 + (p->top >= rest ? p->top - rest + 1 : 0), LUA_MULTRET);
    p->results = before + 1;
    p->nresults = lua_gettop(L) - before;
    luaL_checkstack(L, 32, p->function);
}

// ---- what comes out ----

// Nodes inside an outer recording, else values; one list is NULL.
typedef struct {
    const tarn_node **node;
    tarn_tensor *value;
} answers;

// True when a root needs an input of an outer call: then it stays an expression.
static bool is_inner(lua_State *L, const problem *p, int n, const tarn_node *const *roots) {
    tarn_graph *g = p->g;
    bool needs = false;
    unsigned char *use = tarn_bind_scratch(L, (size_t)g->count);
    tarn_graph_mark(g, n, roots, use);
    for (int i = 0; i < p->n; i++) {
        needs = needs || (p->outer[i] && use[p->wrt[i]->id]);
        use[p->wrt[i]->id] = 0;
    }
    for (int i = 0; i < g->count && !needs; i++) {
        needs = use[i] && tarn_node_input(g->nodes[i]);
    }
    lua_pop(L, 1);
    return needs;
}

// The roots as expressions in the arguments' own nodes.
static void substitute(lua_State *L, const problem *p, int n, const tarn_node *const *roots,
                       const tarn_node **out) {
    tarn_graph *g = p->g;
    const tarn_node **memo = tarn_bind_scratch(L, ((size_t)g->count + 1) * sizeof *memo);
    for (int k = 0; k < p->count; k++) {
        const tarn_bind_part *part = &p->part[k];
        for (int i = 0; i < part->n; i++) {
            int at = part->first + i;
            const tarn_node *own = p->outer[at];
            if (!own && part->model) {
                own = tarn_model_recorded(g, part->model, part->slot[i]);
            } else if (!own) {
                lua_rawgeti(L, p->leaves, k + 1);
                own = tarn_bind_node(L, -1, g);
                lua_pop(L, 1);
            }
            memo[p->wrt[at]->id] = own;
        }
    }
    if (!tarn_nodes_rebuild(g, n, roots, memo)) {
        tarn_bind_fail(L, g);
    }
    for (int i = 0; i < n; i++) {
        out[i] = memo[roots[i]->id];
    }
    lua_pop(L, 1);
}

static void evaluate(lua_State *L, const problem *p, int n, const tarn_node *const *roots, tarn_tensor *results) {
    tarn_error err;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += (size_t)tarn_desc_numel(&roots[i]->desc) * 8;
    }
    tarn_lua_account(L, bytes + p->g->arena.total);
    tarn_exec *e = tarn_bind_exec(L, p->function, p->g, n, roots, p->n, p->wrt);
    tarn_error_clear(&err);
    if (tarn_exec_run(e, p->value, NULL, results, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_bind_exec_free(L, -1);
    lua_pop(L, 1);
}

// Pushes what keeps the answers.
static answers finish(lua_State *L, const problem *p, int n, const tarn_node *const *roots) {
    answers a = {0};
    luaL_checkstack(L, 16, p->function);
    if (is_inner(L, p, n, roots)) {
        a.node = tarn_bind_scratch(L, (size_t)n * sizeof *a.node);
        substitute(L, p, n, roots, a.node);
    } else {
        a.value = tarn_bind_hold(L, n);
        evaluate(L, p, n, roots, a.value);
    }
    return a;
}

// Pushes the answers from `first` on as a value like the one at idx, whose parts these are.
static void push_like(lua_State *L, const problem *p, int idx, tarn_leaves kind, int count,
                      const tarn_bind_part *part, bool derivative, const answers *a, int first) {
    lua_createtable(L, count, 0);
    int list = lua_gettop(L);
    for (int k = 0; k < count; k++) {
        double mass = derivative || !part[k].model ? 0 : part[k].model->mass;
        tarn_bind_push_part(L, &part[k], mass, p->g, a->node ? a->node + first : NULL,
                            a->value ? a->value + first : NULL);
        lua_rawseti(L, list, k + 1);
    }
    lua_pushvalue(L, idx);
    tarn_bind_rebuilt(L, p->function, kind, list);
    lua_replace(L, list);
    lua_settop(L, list);
}

static void push_derivative(lua_State *L, const problem *p, const answers *a, int first) {
    push_like(L, p, 2, TARN_ARGUMENTS, p->count, p->part, true, a, first);
}

// ---- derivatives ----

static _Noreturn void raise(lua_State *L, const problem *p, tarn_error *err) {
    tarn_error_clear(&p->g->err);
    tarn_error_prefix(err, "%s", p->function);
    tarn_lua_raise(L, err);
    __builtin_unreachable();
}

// The gradient of y (with cotangent gy) by every tensor of x.
static void gradient(lua_State *L, const problem *p, const tarn_node *y, const tarn_node *gy,
                     const tarn_node **out) {
    tarn_error err;
    tarn_error_clear(&err);
    if (tarn_vjp(p->g, y, gy, p->n, p->wrt, out, &err) != TARN_OK) {
        raise(L, p, &err);
    }
}

static const tarn_node *tangent(lua_State *L, const problem *p, const tarn_node *y,
                                const tarn_node *const *dx) {
    tarn_error err;
    const tarn_node *dy;
    tarn_error_clear(&err);
    if (tarn_jvp(p->g, y, p->n, p->wrt, dx, &dy, &err) != TARN_OK) {
        raise(L, p, &err);
    }
    return dy;
}

// y as a rank-0 node.
static const tarn_node *one_number(lua_State *L, problem *p) {
    read_result(L, p);
    const tarn_node *y = p->y;
    if (tarn_desc_numel(&y->desc) != 1) {
        tarn_lua_error(L, "%s: the function must yield one number, not a tensor of shape %s", p->function,
                       tarn_bind_shape_text(L, y->desc.rank, y->desc.shape));
    }
    if (y->desc.rank > 0) {
        y = tarn_reshape(p->g, y, 0, &(int64_t){0});
    }
    if (!y) {
        tarn_bind_fail(L, p->g);
    }
    return y;
}

static int l_grad(lua_State *L) {
    problem p = {.function = "grad"};
    open_call(L, &p);
    record(L, &p, 3);
    const tarn_node **g = tarn_bind_scratch(L, (size_t)p.n * sizeof *g);
    gradient(L, &p, one_number(L, &p), NULL, g);
    answers a = finish(L, &p, p.n, g);
    push_derivative(L, &p, &a, 0);
    return 1;
}

// The leaves of the value at idx as nodes, in scratch memory that is pushed. parts: what they are;
// pushed too, with the list they came from.
typedef struct {
    int idx, count, n;
    tarn_leaves kind;
    const tarn_bind_part *part;
    const tarn_node **node;  // [n]
} outputs;

static outputs open_outputs(lua_State *L, const problem *p, int idx, tarn_leaves kind) {
    outputs o = {.idx = idx, .kind = kind};
    luaL_checkstack(L, 24, p->function);
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushvalue(L, idx);
    tarn_bind_collect(L, p->function, kind, list);
    lua_pop(L, 1);
    o.count = (int)lua_rawlen(L, list);
    o.part = tarn_bind_whole_parts(L, p->function, list, &o.n);
    o.node = tarn_bind_scratch(L, (size_t)o.n * sizeof *o.node);
    for (int k = 0; k < o.count; k++) {
        const tarn_bind_part *part = &o.part[k];
        if (!part->model) {
            lua_rawgeti(L, list, k + 1);
            o.node[part->first] = result_node(L, p, lua_gettop(L));
            lua_pop(L, 1);
        }
        for (int i = 0; part->model && i < part->n; i++) {
            o.node[part->first + i] = tarn_model_recorded(p->g, part->model, i);
            if (!o.node[part->first + i]) {
                tarn_bind_fail(L, p->g);
            }
        }
    }
    return o;
}

static int l_value_and_grad(lua_State *L) {
    problem p = {.function = "value_and_grad"};
    open_call(L, &p);
    record(L, &p, 3);
    const tarn_node *y = one_number(L, &p);
    // Other results: what is recorded in them is computed in the same run.
    outputs *extra = tarn_bind_scratch(L, (size_t)p.nresults * sizeof *extra);
    int more = 0;
    for (int k = 1; k < p.nresults; k++) {
        extra[k] = open_outputs(L, &p, p.results + k, TARN_RESULTS);
        more += extra[k].n;
    }
    const tarn_node **roots = tarn_bind_scratch(L, (size_t)(1 + p.n + more) * sizeof *roots);
    roots[0] = y;
    gradient(L, &p, y, NULL, roots + 1);
    for (int k = 1, at = 1 + p.n; k < p.nresults; at += extra[k++].n) {
        memcpy((void *)(roots + at), (const void *)extra[k].node, (size_t)extra[k].n * sizeof *roots);
    }
    answers a = finish(L, &p, 1 + p.n + more, roots);
    luaL_checkstack(L, p.nresults + 16, p.function);
    tarn_bind_push_part(L, &(tarn_bind_part){.n = 1}, 0, p.g, a.node, a.value);
    push_derivative(L, &p, &a, 1);
    for (int k = 1, at = 1 + p.n; k < p.nresults; at += extra[k++].n) {
        push_like(L, &p, extra[k].idx, TARN_RESULTS, extra[k].count, extra[k].part, false, &a, at);
    }
    return 1 + (p.nresults > 1 ? p.nresults : 1);
}

// ---- directions ----

static void check_shape(lua_State *L, const problem *p, const char *name, const tarn_desc *want, const tarn_desc *got) {
    if (!tarn_shape_equal(want->rank, want->shape, got->rank, got->shape)) {
        tarn_lua_error(L, "%s: the direction%s%s has the shape %s; expected %s", p->function, *name ? " for " : "", name,
                       tarn_bind_shape_text(L, got->rank, got->shape),
                       tarn_bind_shape_text(L, want->rank, want->shape));
    }
}

// v in the dtype of what it is a direction of.
static const tarn_node *fitted(lua_State *L, const problem *p, const char *name, const tarn_node *of, const tarn_node *v) {
    if (!v) {
        tarn_bind_fail(L, p->g);
    }
    check_shape(L, p, name, &of->desc, &v->desc);
    tarn_dtype t = tarn_dtype_compute(of->desc.dtype);
    v = v->desc.dtype == t ? v : tarn_cast(p->g, v, t);
    if (!v) {
        tarn_bind_fail(L, p->g);
    }
    return v;
}

// The tensors of the model on top as directions for those of a part, by name; what it lacks is zero.
static void model_direction(lua_State *L, const problem *p, const tarn_bind_part *part, const tarn_node *const *of,
                            const tarn_node **out) {
    tarn_model *v = tarn_bind_ready(L, -1, p->function), *m = part->model;
    for (int64_t i = 0; i < v->n; i++) {
        if (tarn_match_slot(v, i, m) < 0) {
            tarn_lua_error(L, "%s: the direction has a tensor %s, which %s lacks", p->function, v->slots[i].name,
                           tarn_model_label(m));
        }
    }
    for (int k = 0; k < part->n; k++) {
        int64_t at = tarn_match_slot(m, part->slot[k], v);
        out[k] = at < 0 ? NULL : fitted(L, p, v->slots[at].name, of[k], tarn_model_recorded(p->g, v, at));
    }
}

// The direction at stack index 3, of the structure of the value at idx, as nodes for the tensors of its
// parts (NULL: zero); pushed.
static const tarn_node **directions(lua_State *L, const problem *p, int idx, int count, const tarn_bind_part *part,
                                    int n, const tarn_node *const *of) {
    luaL_checkstack(L, 16, p->function);
    const tarn_node **dx = tarn_bind_scratch(L, (size_t)n * sizeof *dx);
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushvalue(L, idx);
    tarn_bind_collect_along(L, p->function, 3, list);
    lua_pop(L, 1);
    for (int k = 0; k < count; k++) {
        int first = part[k].first;
        if (lua_rawgeti(L, list, k + 1) != LUA_TBOOLEAN) {
            if (part[k].model) {
                model_direction(L, p, &part[k], of + first, dx + first);
            } else {
                dx[first] = fitted(L, p, "", of[first], tarn_bind_node(L, -1, p->g));
            }
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return dx;
}

static const tarn_node **directions_of_x(lua_State *L, const problem *p) {
    return directions(L, p, 2, p->count, p->part, p->n, p->wrt);
}

static void check_direction(lua_State *L, const problem *p, const char *what) {
    if (p->top < 3 || lua_isnil(L, 3)) {
        tarn_lua_error(L, "%s: the third argument is missing: %s", p->function, what);
    }
}

// The inner product of the outputs with the direction at 3: its gradient is v^T J.
static const tarn_node *inner_product(lua_State *L, const problem *p, const outputs *o) {
    const tarn_node **v = directions(L, p, o->idx, o->count, o->part, o->n, o->node), *sum = NULL;
    for (int i = 0; i < o->n; i++) {
        if (v[i] && tarn_dtype_is_float(o->node[i]->desc.dtype)) {
            const tarn_node *one = tarn_dot(p->g, o->node[i], v[i]);
            sum = sum ? tarn_add(p->g, sum, one) : one;
        }
    }
    sum = sum ? sum : tarn_num(p->g, 0);
    if (!sum || p->g->err.status != TARN_OK) {
        tarn_bind_fail(L, p->g);
    }
    return sum;
}

static void need_result(lua_State *L, const problem *p) {
    if (p->nresults == 0) {
        tarn_lua_error(L, "%s: the function returned nothing", p->function);
    }
}

static int l_vjp(lua_State *L) {
    problem p = {.function = "vjp"};
    open_call(L, &p);
    check_direction(L, &p, "a value with the structure of the function's result");
    record(L, &p, 4);
    need_result(L, &p);
    outputs o = open_outputs(L, &p, p.results, TARN_OUTPUTS);
    const tarn_node **roots = tarn_bind_scratch(L, (size_t)(p.n + o.n) * sizeof *roots);
    gradient(L, &p, inner_product(L, &p, &o), NULL, roots);
    memcpy((void *)(roots + p.n), (const void *)o.node, (size_t)o.n * sizeof *roots);
    answers a = finish(L, &p, p.n + o.n, roots);
    push_derivative(L, &p, &a, 0);
    push_like(L, &p, o.idx, o.kind, o.count, o.part, false, &a, p.n);
    return 2;
}

static int l_jvp(lua_State *L) {
    problem p = {.function = "jvp"};
    open_call(L, &p);
    check_direction(L, &p, "a direction with the structure of the argument");
    record(L, &p, 4);
    need_result(L, &p);
    outputs o = open_outputs(L, &p, p.results, TARN_OUTPUTS);
    const tarn_node **dx = directions_of_x(L, &p);
    const tarn_node **roots = tarn_bind_scratch(L, (size_t)(2 * o.n) * sizeof *roots);
    for (int i = 0; i < o.n; i++) {
        bool moves = tarn_dtype_is_float(o.node[i]->desc.dtype);
        roots[i] = moves ? tangent(L, &p, o.node[i], dx) : tarn_zeros_like(p.g, o.node[i]);
        if (!roots[i]) {
            tarn_bind_fail(L, p.g);
        }
        roots[o.n + i] = o.node[i];
    }
    answers a = finish(L, &p, 2 * o.n, roots);
    push_like(L, &p, o.idx, o.kind, o.count, o.part, true, &a, 0);
    push_like(L, &p, o.idx, o.kind, o.count, o.part, false, &a, o.n);
    return 2;
}

// H v is the gradient of the derivative along v.
static int l_hvp(lua_State *L) {
    problem p = {.function = "hvp"};
    open_call(L, &p);
    check_direction(L, &p, "a direction with the structure of the argument");
    record(L, &p, 4);
    const tarn_node **roots = tarn_bind_scratch(L, (size_t)p.n * sizeof *roots);
    const tarn_node *y = one_number(L, &p);
    const tarn_node *dy = tangent(L, &p, y, directions_of_x(L, &p));
    gradient(L, &p, dy, NULL, roots);
    answers a = finish(L, &p, p.n, roots);
    push_derivative(L, &p, &a, 0);
    return 1;
}

// ---- examples one by one ----

// The tensors of the batch at 3, recorded; pushes what keeps the list.
static const tarn_node **open_batch(lua_State *L, const problem *p, tarn_graph *g, int *n) {
    luaL_checkstack(L, 16, p->function);
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushvalue(L, 3);
    tarn_bind_collect(L, p->function, TARN_ARGUMENTS, list);
    lua_pop(L, 1);
    *n = (int)lua_rawlen(L, list);
    const tarn_node **node = tarn_bind_scratch(L, (size_t)*n * sizeof *node);
    for (int k = 0; k < *n; k++) {
        lua_rawgeti(L, list, k + 1);
        if (!tarn_bind_to_tensor(L, -1)) {
            tarn_lua_error(L, "%s: the batch holds a %s; expected tensors", p->function, tarn_bind_kind(L, -1));
        }
        node[k] = tarn_bind_node(L, -1, g);
        if (!node[k]) {
            tarn_bind_fail(L, g);
        }
        tarn_bind_push_node(L, g, node[k], true);
        lua_rawseti(L, list, k + 1);
        lua_pop(L, 1);
    }
    lua_pushvalue(L, 3);
    tarn_bind_rebuilt(L, p->function, TARN_ARGUMENTS, list);
    lua_replace(L, 3);
    lua_pop(L, 1);
    return node;
}

// squares (where wanted), norms, value
static int by_example(lua_State *L, const char *function, bool squares) {
    problem p = {.function = function};
    open_call(L, &p);
    check_direction(L, &p, "the batch: a tensor or a table of tensors whose first dimension counts examples");
    int nbatch = 0;
    const tarn_node **batch = open_batch(L, &p, tarn_bind_record(L), &nbatch);
    record(L, &p, 3);
    const tarn_node **roots = tarn_bind_scratch(L, (size_t)(p.n + 2) * sizeof *roots);
    tarn_error err;
    tarn_error_clear(&err);
    roots[0] = one_number(L, &p);
    if (tarn_example_squares(p.g, roots[0], nbatch, batch, p.n, p.wrt, squares ? roots + 2 : NULL, &roots[1], &err) !=
        TARN_OK) {
        raise(L, &p, &err);
    }
    answers a = finish(L, &p, 2 + (squares ? p.n : 0), roots);
    if (squares) {
        push_derivative(L, &p, &a, 2);
    }
    for (int k = 1; k >= 0; k--) {
        tarn_bind_push_part(L, &(tarn_bind_part){.n = 1, .first = k}, 0, p.g, a.node, a.value);
    }
    return squares ? 3 : 2;
}

int tarn_bind_example_squares(lua_State *L) { return by_example(L, "probe.example_squares", true); }
int tarn_bind_example_norms(lua_State *L) { return by_example(L, "example_norms", false); }

#define THETA "local theta = model.new { w = tensor { 1, 2 }, b = tensor { 3 } }\n"

// clang-format off
static const tarn_binding rows[] = {
    {{"grad", "grad(f, x, …) or grad { f, x, …, only = pattern } -> gradient",
      "The gradient of f(x, …), which must be one number, by x: a tensor, a number, a model, or a table of them; the result "
      "has the same structure. f is called once, with recorded values; inside it they are not known (no :item()), and models "
      "obey all that models obey: algebra, m[name], by.…, merge.…, :dot, :norm. Further arguments are passed to f as they are. "
      "Derivatives nest. The gradient by a model is a vector (a model of mass 0), so theta - 0.1 * g is a model again; "
      "integer tensors and buffers (running means …) are constants and have no place in it, and tensors that f does not use "
      "have zeros. Models have to be in memory: a plan over files is an error that says :load().\n"
      "  only: a regular expression or function(name, info), as in m:only, that chooses the tensors of models; the others are "
      "constants",
      THETA "local g = grad(function(m) return (m.w * m.w):sum() * m.b:sum() end, theta)\n"
      "print(g.w, (theta - 0.1 * g).b)\n-- > f32[2]\n-- > [ 6., 12.]\tf32[1]\n-- > [2.5000]"}, l_grad},
    {{"value_and_grad", "value_and_grad(f, x, …) or { f, x, …, only = } -> value, gradient, …",
      "f(x, …) and its gradient by x, as grad. What else f returns follows, with what is recorded in it computed.",
      "print(value_and_grad(function(x) return x ^ 3 end, 2.0))\n-- > 8.0\t12.0"}, l_value_and_grad},
    {{"vjp", "vjp(f, x, v, …) or { f, x, v, …, only = } -> v^T J, f(x)",
      "The product of v with the Jacobian of f at x (reverse mode), and the value. f may return a tensor, a model, or a table of "
      "them; v has the structure of what it returns, and what is left out of v counts as zero.",
      "print(vjp(function(x) return x * x end, tensor { 1, 2 }, tensor { 1, 10 }))\n-- > f32[2]\n-- > [ 2., 40.]\tf32[2]\n-- > [1., 4.]"}, l_vjp},
    {{"jvp", "jvp(f, x, v, …) or { f, x, v, …, only = } -> J v, f(x)",
      "The derivative of f at x along v, which has the structure of x (forward mode), and the value. What is left out of v "
      "counts as zero; the direction of a model is a model. f may return a tensor, a model, or a table of them: the velocity of a "
      "curve of models is a vector.",
      "local a, b = model.new { w = tensor { 1 } }, model.new { w = tensor { 5 } }\n"
      "print(jvp(function(t) return a + t ^ 2 * (b - a) end, 0.5, 1.0).w)\n-- > f32[1]\n-- > [4.]"}, l_jvp},
    {{"hvp", "hvp(f, x, v, …) or { f, x, v, …, only = } -> H v",
      "The product of the Hessian of f at x with v (the gradient of the derivative along v): the same structure as the gradient. "
      "Costs about twice a gradient.",
      "print(hvp(function(x) return (x ^ 3):sum() end, tensor { 1, 2 }, tensor { 1, 1 }))\n-- > f32[2]\n-- > [ 6., 12.]"}, l_hvp},
};
// clang-format on

tarn_status tarn_bind_grad(tarn_host *h, tarn_error *err) {
    lua_State *L = tarn_host_state(h);
    (void)err;
    tarn_bind_recording_types(L);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lua_pushcfunction(L, rows[i].call);
        lua_setglobal(L, rows[i].doc.name);
    }
    tarn_host_docs(h, rows, (int)(sizeof rows / sizeof *rows));
    return TARN_OK;
}
