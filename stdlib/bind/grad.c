// SPDX-License-Identifier: Apache-2.0
// grad, value_and_grad, vjp, jvp, hvp: the function is called once with recorded tensors, its result
// is differentiated by appending to the same graph, and what is asked for is computed. Inside another
// recording the derivative stays an expression: derivatives of derivatives are nothing special. The
// fresh inputs of an inner call are replaced by its arguments afterwards, so the two never mix.
#include <string.h>

#include "stdlib/bind/tensor.h"
#include "vm/grad/grad.h"

// ---- the recording of a host ----

typedef struct {
    tarn_graph *graph;  // NULL: nothing is being recorded
    int depth;          // nested calls
    lua_Integer inputs;  // ids in the uservalue, those of the outer calls first
} recording;

static const char recording_key;

static void release_recording(void *self) {
    recording *r = self;
    tarn_graph_release(r->graph);
    r->graph = NULL;
}

static recording *push_recording(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &recording_key) != LUA_TUSERDATA) {
        lua_pop(L, 1);
        tarn_lua_new(L, "recording", sizeof(recording));
        lua_newtable(L);
        lua_setiuservalue(L, -2, 1);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &recording_key);
    }
    return lua_touserdata(L, -1);
}

// Ends one level, also when an error passes by.
typedef struct {
    recording *r;  // kept alive by the registry; NULL: closed
    lua_Integer outer;
} level;

static void end_level(void *self) {
    level *v = self;
    if (v->r) {
        v->r->inputs = v->outer;
        if (--v->r->depth == 0) {
            release_recording(v->r);
        }
        v->r = NULL;
    }
}

static tarn_graph *begin_level(lua_State *L, level **out) {
    recording *r = push_recording(L);
    lua_pop(L, 1);
    level *v = tarn_lua_new(L, "recording level", sizeof *v);
    lua_toclose(L, -1);
    if (!r->graph && !(r->graph = tarn_graph_new(tarn_host_context(L)))) {
        tarn_error err;
        tarn_raise_nomem(&err, "a recording", sizeof(tarn_graph));
        tarn_lua_raise(L, &err);
    }
    v->outer = r->inputs;
    r->depth++;
    v->r = r;
    *out = v;
    return r->graph;
}

static _Noreturn void fail(lua_State *L, tarn_graph *g) {
    tarn_error err = g->err;
    tarn_error_clear(&g->err);
    tarn_lua_raise(L, &err);
    __builtin_unreachable();
}

// ---- tables of tensors ----

enum { DEEPEST = 64 };

// What counts as a leaf: of arguments every tensor and number (anything else is an error), of results
// every recorded tensor (anything else passes through).
typedef enum { ARGUMENTS, RESULTS } leaf_kind;

static bool is_leaf(lua_State *L, leaf_kind kind) {
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, -1);
    return kind == RESULTS ? u && u->recorded : u || lua_type(L, -1) == LUA_TNUMBER;
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

// Appends the leaves of the value on top to the list at `list`; leaves the value there.
static void collect(lua_State *L, const char *function, leaf_kind kind, int list, int depth) {
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
    } else if (kind == ARGUMENTS) {
        const char *name = luaL_typename(L, -1);
        if (luaL_getmetafield(L, -1, "__name") == LUA_TSTRING) {
            name = lua_tostring(L, -1);
        }
        tarn_lua_error(L, "%s: what is differentiated by holds a %s; expected tensors, numbers and tables "
                       "of them (other values go after it)", function, name);
    }
}

// Pushes the value on top with its leaves, in the order of `collect`, replaced by those of the list.
static void rebuilt(lua_State *L, const char *function, leaf_kind kind, int list, lua_Integer *next,
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

// Appends to `list` the direction for every leaf of the value on top: what lies at the same place of
// the value at `along`, false where there is nothing.
static void collect_along(lua_State *L, const char *function, int along, int list, int depth) {
    check_depth(L, function, depth);
    along = lua_absindex(L, along);
    if (is_leaf(L, ARGUMENTS)) {
        bool absent = lua_isnil(L, along);
        if (!absent && !tarn_bind_to_tensor(L, along) && lua_type(L, along) != LUA_TNUMBER) {
            tarn_lua_error(L, "%s: the direction holds a %s where a tensor or number is expected", function,
                           luaL_typename(L, along));
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
                       luaL_typename(L, along));
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

// ---- one differentiation ----

typedef struct {
    const char *function;
    tarn_graph *g;
    level *level;
    int leaves;               // stack: list of what is differentiated by
    int n;                    // how many
    const tarn_node **wrt;    // [n] fresh inputs
    tarn_tensor *value;       // [n] their values; closed where the argument is recorded itself
    const tarn_node **outer;  // [n] the argument's own node, NULL: a value
    int results;              // stack: first result of the function
    int nresults;
    const tarn_node *y;
} problem;

static void register_input(lua_State *L, const tarn_node *n) {
    recording *r = push_recording(L);
    lua_getiuservalue(L, -1, 1);
    lua_pushinteger(L, n->id);
    lua_rawseti(L, -2, ++r->inputs);
    lua_pop(L, 2);
}

// A fresh input for leaf i, pushed as a recorded tensor.
static void open_leaf(lua_State *L, problem *p, int i) {
    tarn_desc d;
    lua_rawgeti(L, p->leaves, i + 1);
    tarn_bind_desc(L, -1, p->function, &d);
    if (!tarn_dtype_is_float(d.dtype)) {
        tarn_lua_error(L, "%s: derivatives by %s values do not exist; convert with :to(\"f32\")",
                       p->function, tarn_dtype_get(d.dtype)->name);
    }
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, -1);
    if (u && u->recorded) {
        p->outer[i] = tarn_bind_node(L, -1, p->g);
    } else {
        tarn_bind_value(L, -1, &p->value[i]);
    }
    lua_pop(L, 1);
    p->wrt[i] = tarn_leaf_input(p->g, &d);
    tarn_bind_push_node(L, p->g, p->wrt[i], true);
    register_input(L, p->wrt[i]);
}

static void *scratch(lua_State *L, size_t bytes) {
    void *s = lua_newuserdatauv(L, bytes + 1, 0);
    memset(s, 0, bytes + 1);
    return s;
}

// The function's first result as a node.
static void read_result(lua_State *L, problem *p) {
    const tarn_lua_tensor *u = p->nresults ? tarn_bind_to_tensor(L, p->results) : NULL;
    if (!u && (!p->nresults || lua_type(L, p->results) != LUA_TNUMBER)) {
        tarn_lua_error(L, "%s: the function returned %s; expected a number or a tensor", p->function,
                       p->nresults ? luaL_typename(L, p->results) : "nothing");
    }
    if (u && u->recorded && u->graph != p->g) {
        tarn_lua_error(L, "%s: the function returned a tensor of a recording that has ended", p->function);
    }
    if (u && u->node && !u->recorded) {
        tarn_lua_error(L, "%s: the function returned a planned tensor (of a file) that does not depend on "
                       "its argument", p->function);
    }
    p->y = tarn_bind_node(L, p->results, p->g);
}

// Calls f(x, …) with recorded tensors for the leaves of x. Stack: f, x, then from `rest` on what else
// f is given.
static void record(lua_State *L, problem *p, int rest) {
    int top = lua_gettop(L);
    luaL_checkstack(L, 24 + top, p->function);
    lua_newtable(L);
    p->leaves = lua_gettop(L);
    lua_pushvalue(L, 2);
    collect(L, p->function, ARGUMENTS, p->leaves, 0);
    lua_pop(L, 1);
    p->n = (int)lua_rawlen(L, p->leaves);
    if (p->n == 0) {
        tarn_lua_error(L, "%s: there is nothing to differentiate by", p->function);
    }
    p->wrt = scratch(L, (size_t)p->n * sizeof *p->wrt);
    p->outer = scratch(L, (size_t)p->n * sizeof *p->outer);
    p->value = tarn_bind_hold(L, p->n);
    p->g = begin_level(L, &p->level);
    lua_newtable(L);
    int inputs = lua_gettop(L);
    for (int i = 0; i < p->n; i++) {
        open_leaf(L, p, i);
        lua_rawseti(L, inputs, i + 1);
    }
    int before = lua_gettop(L);
    lua_Integer next = 1;
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    rebuilt(L, p->function, ARGUMENTS, inputs, &next, 0);
    lua_remove(L, -2);
    for (int k = rest; k <= top; k++) {
        lua_pushvalue(L, k);
    }
    lua_call(L, 1 + (top >= rest ? top - rest + 1 : 0), LUA_MULTRET);
    p->results = before + 1;
    p->nresults = lua_gettop(L) - before;
    luaL_checkstack(L, 24, p->function);
    read_result(L, p);
}

// True when a root needs an input of an outer call: then it stays an expression.
static bool is_inner(lua_State *L, const problem *p, int n, const tarn_node *const *roots) {
    if (p->level->outer == 0) {
        return false;
    }
    bool needs = false;
    unsigned char *use = scratch(L, (size_t)p->g->count);
    tarn_graph_mark(p->g, n, roots, use);
    for (int i = 0; i < p->n; i++) {
        needs = needs || (p->outer[i] && use[p->wrt[i]->id]);
    }
    push_recording(L);
    lua_getiuservalue(L, -1, 1);
    for (lua_Integer k = 1; k <= p->level->outer && !needs; k++) {
        lua_rawgeti(L, -1, k);
        needs = use[lua_tointeger(L, -1)];
        lua_pop(L, 1);
    }
    lua_pop(L, 3);
    return needs;
}

// Appends the roots, as expressions in the arguments' own nodes, to the list at `list`.
static void substitute(lua_State *L, const problem *p, int n, const tarn_node *const *roots, int list) {
    tarn_graph *g = p->g;
    const tarn_node **memo = scratch(L, ((size_t)g->count + 1) * sizeof *memo);
    for (int i = 0; i < p->n; i++) {
        memo[p->wrt[i]->id] = p->outer[i];
        if (!p->outer[i]) {
            lua_rawgeti(L, p->leaves, i + 1);
            memo[p->wrt[i]->id] = tarn_bind_node(L, -1, g);
            lua_pop(L, 1);
        }
    }
    for (int i = 0; i < n; i++) {
        tarn_bind_push_node(L, g, tarn_node_rebuild(g, roots[i], memo), true);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    }
    lua_pop(L, 1);
}

static void evaluate(lua_State *L, const problem *p, int n, const tarn_node *const *roots, int list) {
    tarn_error err;
    size_t bytes = 0;
    for (int i = 0; i < n; i++) {
        bytes += (size_t)tarn_desc_numel(&roots[i]->desc) * 8;
    }
    tarn_lua_account(L, bytes + p->g->arena.total);
    const tarn_tensor **feeds = scratch(L, ((size_t)p->g->count + 1) * sizeof *feeds);
    for (int i = 0; i < p->n; i++) {
        feeds[p->wrt[i]->id] = &p->value[i];
    }
    tarn_tensor *results = tarn_bind_hold(L, n);
    tarn_error_clear(&err);
    if (tarn_graph_eval(p->g, n, roots, feeds, results, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    for (int i = 0; i < n; i++) {
        tarn_bind_push_tensor(L, &results[i]);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
    }
    lua_pop(L, 2);
}

// Pushes a list with the values of the roots, or with expressions inside an outer recording.
static int finish(lua_State *L, const problem *p, int n, const tarn_node *const *roots) {
    lua_createtable(L, n, 0);
    int list = lua_gettop(L);
    if (is_inner(L, p, n, roots)) {
        substitute(L, p, n, roots, list);
    } else {
        evaluate(L, p, n, roots, list);
    }
    return list;
}

// The gradient of y (with cotangent gy) by every leaf.
static void gradient(lua_State *L, const problem *p, const tarn_node *y, const tarn_node *gy,
                     const tarn_node **out) {
    tarn_error err;
    tarn_error_clear(&err);
    if (tarn_vjp(p->g, y, gy, p->n, p->wrt, out, &err) != TARN_OK) {
        tarn_error_clear(&p->g->err);
        tarn_error_prefix(&err, "%s", p->function);
        tarn_lua_raise(L, &err);
    }
}

// y as a rank-0 node.
static const tarn_node *one_number(lua_State *L, const problem *p) {
    const tarn_node *y = p->y;
    if (tarn_desc_numel(&y->desc) != 1) {
        tarn_lua_error(L, "%s: the function must yield one number, not a tensor of shape %s", p->function,
                       tarn_bind_shape_text(L, y->desc.rank, y->desc.shape));
    }
    if (y->desc.rank > 0) {
        y = tarn_reshape(p->g, y, 0, &(int64_t){0});
    }
    if (!y) {
        fail(L, p->g);
    }
    return y;
}

// Pushes x with its leaves replaced by entries first … of the list.
static void push_like_x(lua_State *L, const problem *p, int list, lua_Integer first) {
    lua_pushvalue(L, 2);
    rebuilt(L, p->function, ARGUMENTS, list, &first, 0);
    lua_remove(L, -2);
}

static void check_function(lua_State *L, const char *function) {
    if (!lua_isfunction(L, 1) && luaL_getmetafield(L, 1, "__call") == LUA_TNIL) {
        tarn_lua_error(L, "%s: expected a function and what it is differentiated by, got %s", function,
                       lua_isnone(L, 1) ? "nothing" : luaL_typename(L, 1));
    }
    lua_settop(L, lua_isfunction(L, 1) ? lua_gettop(L) : lua_gettop(L) - 1);
    lua_settop(L, lua_gettop(L) > 2 ? lua_gettop(L) : 2);
}

static int l_grad(lua_State *L) {
    problem p = {.function = "grad"};
    check_function(L, p.function);
    record(L, &p, 3);
    const tarn_node **g = scratch(L, (size_t)p.n * sizeof *g);
    gradient(L, &p, one_number(L, &p), NULL, g);
    int list = finish(L, &p, p.n, g);
    push_like_x(L, &p, list, 1);
    return 1;
}

static int l_value_and_grad(lua_State *L) {
    problem p = {.function = "value_and_grad"};
    check_function(L, p.function);
    record(L, &p, 3);
    // Other results: their recorded tensors are computed in the same run.
    lua_newtable(L);
    int extra = lua_gettop(L);
    for (int k = 1; k < p.nresults; k++) {
        lua_pushvalue(L, p.results + k);
        collect(L, p.function, RESULTS, extra, 0);
        lua_pop(L, 1);
    }
    int m = (int)lua_rawlen(L, extra);
    const tarn_node **roots = scratch(L, (size_t)(1 + p.n + m) * sizeof *roots);
    roots[0] = one_number(L, &p);
    gradient(L, &p, roots[0], NULL, roots + 1);
    for (int k = 0; k < m; k++) {
        lua_rawgeti(L, extra, k + 1);
        roots[1 + p.n + k] = tarn_bind_node(L, -1, p.g);
        lua_pop(L, 1);
    }
    int list = finish(L, &p, 1 + p.n + m, roots);
    lua_rawgeti(L, list, 1);
    push_like_x(L, &p, list, 2);
    lua_Integer next = 2 + p.n;
    luaL_checkstack(L, p.nresults + 8, p.function);
    for (int k = 1; k < p.nresults; k++) {
        lua_pushvalue(L, p.results + k);
        rebuilt(L, p.function, RESULTS, list, &next, 0);
        lua_remove(L, -2);
    }
    return 1 + (p.nresults > 1 ? p.nresults : 1);
}

static void check_shape(lua_State *L, const problem *p, const tarn_desc *want, const tarn_desc *got) {
    if (!tarn_shape_equal(want->rank, want->shape, got->rank, got->shape)) {
        tarn_lua_error(L, "%s: the direction has the shape %s; expected %s", p->function,
                       tarn_bind_shape_text(L, got->rank, got->shape),
                       tarn_bind_shape_text(L, want->rank, want->shape));
    }
}

// The direction at stack index 3 as nodes, one for each leaf (NULL: zero).
static const tarn_node **directions(lua_State *L, const problem *p) {
    const tarn_node **dx = scratch(L, (size_t)p->n * sizeof *dx);
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushvalue(L, 2);
    collect_along(L, p->function, 3, list, 0);
    lua_pop(L, 1);
    for (int i = 0; i < p->n; i++) {
        if (lua_rawgeti(L, list, i + 1) != LUA_TBOOLEAN) {
            const tarn_node *v = tarn_bind_node(L, -1, p->g);
            check_shape(L, p, &p->wrt[i]->desc, &v->desc);
            tarn_dtype t = tarn_dtype_compute(p->wrt[i]->desc.dtype);
            dx[i] = v->desc.dtype == t ? v : tarn_cast(p->g, v, t);
            if (!dx[i]) {
                fail(L, p->g);
            }
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return dx;
}

static const tarn_node *tangent(lua_State *L, const problem *p, const tarn_node *y,
                                const tarn_node *const *dx) {
    tarn_error err;
    const tarn_node *dy;
    tarn_error_clear(&err);
    if (tarn_jvp(p->g, y, p->n, p->wrt, dx, &dy, &err) != TARN_OK) {
        tarn_error_clear(&p->g->err);
        tarn_error_prefix(&err, "%s", p->function);
        tarn_lua_raise(L, &err);
    }
    return dy;
}

static void check_direction(lua_State *L, const char *function, const char *what) {
    if (lua_isnoneornil(L, 3)) {
        tarn_lua_error(L, "%s: the third argument is missing: %s", function, what);
    }
}

static int l_vjp(lua_State *L) {
    problem p = {.function = "vjp"};
    check_function(L, p.function);
    check_direction(L, p.function, "a value of the shape of the function's result");
    record(L, &p, 4);
    const tarn_node **roots = scratch(L, (size_t)(p.n + 1) * sizeof *roots);
    const tarn_node *v = tarn_bind_node(L, 3, p.g);
    check_shape(L, &p, &p.y->desc, &v->desc);
    roots[0] = p.y;
    gradient(L, &p, p.y, v, roots + 1);
    int list = finish(L, &p, p.n + 1, roots);
    push_like_x(L, &p, list, 2);
    lua_rawgeti(L, list, 1);
    return 2;
}

static int l_jvp(lua_State *L) {
    problem p = {.function = "jvp"};
    check_function(L, p.function);
    check_direction(L, p.function, "a direction with the structure of the argument");
    record(L, &p, 4);
    const tarn_node *roots[2] = {tangent(L, &p, p.y, directions(L, &p)), p.y};
    int list = finish(L, &p, 2, roots);
    lua_rawgeti(L, list, 1);
    lua_rawgeti(L, list, 2);
    return 2;
}

// H v is the gradient of the derivative along v.
static int l_hvp(lua_State *L) {
    problem p = {.function = "hvp"};
    check_function(L, p.function);
    check_direction(L, p.function, "a direction with the structure of the argument");
    record(L, &p, 4);
    const tarn_node **roots = scratch(L, (size_t)p.n * sizeof *roots);
    const tarn_node *dy = tangent(L, &p, one_number(L, &p), directions(L, &p));
    gradient(L, &p, dy, NULL, roots);
    int list = finish(L, &p, p.n, roots);
    push_like_x(L, &p, list, 1);
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"grad", "grad(f, x, …) -> gradient",
      "The gradient of f(x, …), which must be one number, by x: a tensor, a number, or a table of them; the result has "
      "the same structure. f is called once, with recorded tensors; inside it values are not known (no :item()). "
      "Further arguments are passed to f as they are. Derivatives nest.",
      "print(grad(function(x) return (x * x):sum() end, tensor { 1, 2 }))\n-- > f32[2]\n-- > [2., 4.]"}, l_grad},
    {{"value_and_grad", "value_and_grad(f, x, …) -> value, gradient, …",
      "f(x, …) and its gradient by x, as grad. What else f returns follows, with its recorded tensors computed.",
      "print(value_and_grad(function(x) return x ^ 3 end, 2.0))\n-- > 8.0\t12.0"}, l_value_and_grad},
    {{"vjp", "vjp(f, x, v, …) -> v^T J, f(x)",
      "The product of v, of the shape of f(x, …), with the Jacobian of f at x (reverse mode), and the value.",
      "print(vjp(function(x) return x * x end, tensor { 1, 2 }, tensor { 1, 10 }))\n-- > f32[2]\n-- > [ 2., 40.]\tf32[2]\n-- > [1., 4.]"}, l_vjp},
    {{"jvp", "jvp(f, x, v, …) -> J v, f(x)",
      "The derivative of f at x along v, which has the structure of x (forward mode), and the value. What is left out of v "
      "counts as zero.", "print(jvp(function(x) return x ^ 2 end, 3.0, 1.0))\n-- > 6.0\t9.0"}, l_jvp},
    {{"hvp", "hvp(f, x, v, …) -> H v",
      "The product of the Hessian of f at x with v (the gradient of the derivative along v): the same structure as x. "
      "Costs about twice a gradient.",
      "print(hvp(function(x) return (x ^ 3):sum() end, tensor { 1, 2 }, tensor { 1, 1 }))\n-- > f32[2]\n-- > [ 6., 12.]"}, l_hvp},
};
// clang-format on

tarn_status tarn_bind_grad(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class recorder = {"recording", release_recording, NULL};
    static const tarn_lua_class one = {"recording level", end_level, NULL};
    lua_State *L = tarn_host_state(h);
    (void)err;
    tarn_lua_type(L, &recorder);
    tarn_lua_type(L, &one);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lua_pushcfunction(L, rows[i].call);
        lua_setglobal(L, rows[i].doc.name);
    }
    tarn_host_docs(h, rows, (int)(sizeof rows / sizeof *rows));
    return TARN_OK;
}
