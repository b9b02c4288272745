// SPDX-License-Identifier: Apache-2.0
// compile(f): f is called once for each signature of its arguments with recorded values, and what it
// recorded is run from then on. A signature is a list of entries in preorder, so that a call is one walk
// over its arguments, which checks them against the entries and takes their tensors down on the way, one
// run of the graph, and one walk over the entries of the results. Nothing is looked up by name.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "stdlib/bind/compile.h"

static void free_entries(entries *e) {
    for (int i = 0; i < e->n; i++) {
        free(e->list[i].dtype);
    }
    free(e->list);
    *e = (entries){0};
}

static void release_program(void *self) {
    program *p = self;
    for (int k = 0; p->number && k < p->in.tensors; k++) {
        if (p->number[k]) {
            tarn_tensor_release(&p->value[k]);
        }
    }
    for (int r = 0; p->result && r < p->out.tensors; r++) {
        tarn_tensor_release(&p->result[r]);
    }
    tarn_exec_free(p->exec);
    free_entries(&p->in);
    free_entries(&p->out);
    free(p->value);
    free(p->result);
    free(p->given);
    free(p->fixed);
    free(p->number);
    *p = (program){0};
}

static _Noreturn void out_of_memory(lua_State *L) {
    tarn_error err;
    tarn_raise_nomem(&err, "a compiled function", 0);
    tarn_lua_raise(L, &err);
    __builtin_unreachable();
}

static void *zeroed(lua_State *L, int n, size_t size) {
    void *p = calloc((size_t)n + 1, size);
    if (!p) {
        out_of_memory(L);
    }
    return p;
}

// ---- taking values down ----

static entry *add(lua_State *L, entries *e, entry_kind kind) {
    if (e->n == e->room) {
        int room = e->room ? 2 * e->room : 16;
        entry *list = realloc(e->list, (size_t)room * sizeof *list);
        if (!list) {
            out_of_memory(L);
        }
        e->list = list;
        e->room = room;
    }
    e->list[e->n] = (entry){.kind = kind, .first = e->tensors};
    return &e->list[e->n++];
}

// Keeps the value on top, which it takes off.
static int keep(lua_State *L, entries *e, int list) {
    lua_rawseti(L, list, ++e->listed);
    return e->listed;
}

static void add_model(lua_State *L, entries *e, int idx, int list) {
    tarn_error err;
    tarn_model *m = tarn_bind_ready(L, idx, "compile"), **names = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    if (tarn_model_signature(tarn_host_context(L), m, names, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    entry *x = add(L, e, MODEL);
    x->n = (int)m->n;
    x->names = *names;
    x->mass = m->mass;
    x->policy = m->policy;
    x->dtype = zeroed(L, x->n, sizeof *x->dtype);
    for (int i = 0; i < x->n; i++) {
        const tarn_tensor *t = tarn_model_held(m, i);
        x->dtype[i] = t ? t->dtype : TARN_F32;
    }
    e->tensors += x->n;
    keep(L, e, list);
}

static bool is_plain_table(lua_State *L, int idx) {
    if (!lua_istable(L, idx)) {
        return false;
    }
    bool plain = !lua_getmetatable(L, idx);
    lua_settop(L, plain ? lua_gettop(L) : lua_gettop(L) - 1);
    return plain;
}

static void note(lua_State *L, entries *e, int idx, int list, bool result, int depth);

static void add_table(lua_State *L, entries *e, int idx, int list, bool result, int depth) {
    if (depth > 64) {
        tarn_lua_error(L, "compile: tables more than 64 deep (does one hold itself?)");
    }
    int at = e->n;
    add(L, e, TABLE);
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        int here = e->n;
        note(L, e, lua_gettop(L), list, result, depth + 1);
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        e->list[here].key = keep(L, e, list);
        e->list[at].n++;
    }
}

// Appends the value at idx. Of arguments: tensors, numbers, models, texts, booleans, nil, tables of
// them. Of results: what is recorded, and anything else as it is.
static void note(lua_State *L, entries *e, int idx, int list, bool result, int depth) {
    luaL_checkstack(L, 16, "compile");
    const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    const tarn_model *m = u ? NULL : tarn_bind_to_model(L, idx);
    int type = lua_type(L, idx);
    if (u && !u->t.storage && !u->node) {
        tarn_lua_error(L, "compile: a tensor is closed");
    }
    if (u && (result ? u->recorded : true)) {
        if (u->node && !(result && u->recorded)) {
            tarn_lua_error(L, "compile: an argument is a planned tensor (of a file): :load() it first");
        }
        entry *x = add(L, e, TENSOR);
        x->n = 1;
        if (u->node) {
            x->desc = u->node->desc;
        } else {
            tarn_desc_of(&u->t, &x->desc);
        }
        e->tensors++;
    } else if (m && (result ? m->recording != NULL : true)) {
        add_model(L, e, idx, list);
    } else if (type == LUA_TNUMBER && !result) {
        entry *x = add(L, e, NUMBER);
        x->n = 1;
        x->desc = (tarn_desc){.dtype = TARN_F64, .weak = true};
        e->tensors++;
    } else if (is_plain_table(L, idx)) {
        add_table(L, e, idx, list, result, depth);
    } else if (result || type == LUA_TSTRING || type == LUA_TBOOLEAN || type == LUA_TNIL) {
        int at = e->n;
        add(L, e, CONSTANT);
        lua_pushvalue(L, idx);
        e->list[at].constant = keep(L, e, list);
    } else {
        tarn_lua_error(L, "compile: an argument is a %s; expected tensors, models, numbers, texts, booleans and plain "
                       "tables of them (other things are reached as upvalues)", tarn_bind_kind(L, idx));
    }
}

// ---- putting values together ----

// The nodes or the values of the tensors; one is NULL.
typedef struct {
    tarn_graph *graph;
    const tarn_node **node;
    tarn_tensor *value;
} tensors;

static void push_model(lua_State *L, const entry *x, const tensors *t) {
    tarn_context *cx = tarn_host_context(L);
    tarn_error err;
    tarn_model **m = tarn_bind_new_model(L);
    tarn_error_clear(&err);
    double mass = isnan(x->mass) && t->value ? 1 : x->mass;
    tarn_status s = t->node ? tarn_model_of_nodes(cx, x->names, t->graph, t->node + x->first, mass, m, &err)
                            : tarn_model_of_values(cx, x->names, t->value + x->first, mass, m, &err);
    if (s != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    (*m)->policy = x->policy;
    for (int i = 0; t->value && i < x->n; i++) {
        tarn_tensor_release(&t->value[x->first + i]);
    }
}

// Pushes the value of entry *at and goes past it.
static void push_entry(lua_State *L, const entries *e, int *at, int list, const tensors *t) {
    const entry *x = &e->list[(*at)++];
    switch (x->kind) {
    case TABLE:
        luaL_checkstack(L, 8, "compile");
        lua_createtable(L, 0, x->n);
        for (int i = 0; i < x->n; i++) {
            lua_rawgeti(L, list, e->list[*at].key);
            push_entry(L, e, at, list, t);
            lua_rawset(L, -3);
        }
        break;
    case CONSTANT:
        lua_rawgeti(L, list, x->constant);
        break;
    case MODEL:
        push_model(L, x, t);
        break;
    case TENSOR:
    case NUMBER:
    default:
        if (t->node) {
            tarn_bind_push_node(L, t->graph, t->node[x->first], true);
        } else {
            tarn_bind_push_tensor(L, &t->value[x->first]);
        }
    }
}

// ---- matching a call ----

static bool match_tensor(const entry *x, const tarn_lua_tensor *u, tarn_tensor *value) {
    const tarn_tensor *t = &u->t;
    if (!t->storage || t->dtype != x->desc.dtype || t->weak != x->desc.weak ||
        !tarn_shape_equal(t->rank, t->shape, x->desc.rank, x->desc.shape)) {
        return false;
    }
    *value = *t;
    return true;
}

static bool same_names(const tarn_model *a, const tarn_model *b) {
    if (a->slots == b->slots) {
        return true;
    }
    for (int64_t i = 0; i < a->n; i++) {
        const tarn_slot *p = &a->slots[i], *q = &b->slots[i];
        if (p->len != q->len || p->dtype != q->dtype || memcmp(p->name, q->name, p->len) != 0 ||
            !tarn_shape_equal(p->rank, p->shape, q->rank, q->shape)) {
            return false;
        }
    }
    return true;
}

static bool match_model(const entry *x, const tarn_model *m, tarn_tensor *value) {
    if (m->n != x->n || (m->n > 0 && !tarn_model_held(m, 0)) || !same_names(x->names, m) ||
        (m->mass != x->mass && !isnan(x->mass)) || m->policy.missing != x->policy.missing ||
        m->policy.integer_base != x->policy.integer_base) {
        return false;
    }
    for (int i = 0; i < x->n; i++) {
        const tarn_tensor *t = tarn_model_held(m, i);
        if (t->dtype != x->dtype[i]) {
            return false;
        }
        value[i] = *t;
    }
    return true;
}

// A number of the program's own, in memory of its own where the last one is still in use.
static bool set_number(lua_State *L, tarn_tensor *t, double v) {
    tarn_error err;
    if (t->storage && atomic_load(&t->storage->refs) > 1) {
        tarn_tensor_release(t);
    }
    if (!t->storage && tarn_tensor_number(tarn_host_context(L), v, t, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    *(double *)t->storage->data = v;
    return true;
}

static bool match(lua_State *L, program *p, int *at, int idx, int list) {
    const entry *x = &p->in.list[(*at)++];
    switch (x->kind) {
    case TENSOR: {
        const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
        return u && match_tensor(x, u, &p->value[x->first]);
    }
    case NUMBER:
        return lua_type(L, idx) == LUA_TNUMBER && set_number(L, &p->value[x->first], lua_tonumber(L, idx));
    case MODEL: {
        const tarn_model *m = tarn_bind_to_model(L, idx);
        return m && match_model(x, m, &p->value[x->first]);
    }
    case CONSTANT: {
        lua_rawgeti(L, list, x->constant);
        bool same = lua_rawequal(L, -1, idx);
        lua_pop(L, 1);
        return same;
    }
    case TABLE:
    default:
        break;
    }
    if (!is_plain_table(L, idx)) {
        return false;
    }
    luaL_checkstack(L, 8, "compile");
    int n = 0;
    for (lua_pushnil(L); lua_next(L, idx); n++) {
        lua_pop(L, 1);
    }
    bool fits = n == x->n;
    for (int i = 0; i < x->n && fits; i++) {
        lua_rawgeti(L, list, p->in.list[*at].key);
        lua_rawget(L, idx);
        fits = match(L, p, at, lua_gettop(L), list);
        lua_pop(L, 1);
    }
    return fits;
}

static bool matches(lua_State *L, program *p, int nargs, int list) {
    bool fits = p->nargs == nargs;
    for (int k = 1, at = 0; k <= nargs && fits; k++) {
        fits = match(L, p, &at, k, list);
    }
    return fits;
}

// ---- recording ----

// Inputs for all tensors of the arguments.
static const tarn_node **open_inputs(lua_State *L, tarn_graph *g, const program *p) {
    const tarn_node **node = tarn_bind_scratch(L, (size_t)p->in.tensors * sizeof *node);
    for (int i = 0; i < p->in.n; i++) {
        const entry *x = &p->in.list[i];
        for (int k = 0; k < x->n && x->kind != TABLE && x->kind != CONSTANT; k++) {
            tarn_desc d = x->desc;
            if (x->kind == MODEL) {
                const tarn_slot *s = &x->names->slots[k];
                d = (tarn_desc){.dtype = x->dtype[k], .rank = s->rank};
                memcpy(d.shape, s->shape, (size_t)s->rank * sizeof *s->shape);
            }
            node[x->first + k] = tarn_leaf_input(g, &d);
            if (!node[x->first + k]) {
                tarn_bind_fail(L, g);
            }
        }
    }
    return node;
}

// The recorded tensors of the value at idx, in the order of `note`.
static void result_nodes(lua_State *L, tarn_graph *g, const entries *e, int *at, int idx, int list,
                         const tarn_node **node) {
    const entry *x = &e->list[(*at)++];
    luaL_checkstack(L, 8, "compile");
    if (x->kind == TABLE) {
        for (int i = 0; i < x->n; i++) {
            lua_rawgeti(L, list, e->list[*at].key);
            lua_rawget(L, idx);
            result_nodes(L, g, e, at, lua_gettop(L), list, node);
            lua_pop(L, 1);
        }
    } else if (x->kind == TENSOR) {
        const tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
        if (u->graph != g) {
            tarn_lua_error(L, "compile: the function returned a tensor of a recording that has ended");
        }
        node[x->first] = u->node;
    } else if (x->kind == MODEL) {
        tarn_model *m = tarn_bind_ready(L, idx, "compile");
        for (int i = 0; i < x->n; i++) {
            node[x->first + i] = tarn_model_recorded(g, m, i);
            if (!node[x->first + i]) {
                tarn_bind_fail(L, g);
            }
        }
    }
}

// Which roots no input reaches.
static void find_fixed(lua_State *L, const tarn_graph *g, program *p, const tarn_node *const *root) {
    unsigned char *moves = tarn_bind_scratch(L, (size_t)g->count);
    for (int i = 0; i < g->count; i++) {
        const tarn_node *n = g->nodes[i];
        moves[i] = tarn_node_input(n);
        for (int k = 0; k < n->nin && !moves[i]; k++) {
            moves[i] = moves[n->in[k]->id];
        }
    }
    for (int r = 0; r < p->out.tensors; r++) {
        p->fixed[r] = !moves[root[r]->id];
    }
    lua_pop(L, 1);
}

// Marks the tensors of the arguments that may be overwritten.
static void mark_given(const compiled *c, program *p) {
    for (int k = 0, at = 0; k < p->nargs; k++) {
        int left = 1;  // entries of this argument still to come
        for (; left > 0; left--, at++) {
            const entry *x = &p->in.list[at];
            left += x->kind == TABLE ? x->n : 0;
            for (int i = 0; i < x->n && (x->kind == TENSOR || x->kind == MODEL); i++) {
                p->given[x->first + i] = k < 64 && (c->donated >> k & 1);
            }
        }
    }
}

static size_t bytes_of(const entries *e) {
    size_t bytes = 0;
    for (int i = 0; i < e->n; i++) {
        const entry *x = &e->list[i];
        bytes += x->kind == TENSOR ? (size_t)tarn_desc_numel(&x->desc) * 8
                                   : x->kind == MODEL ? (size_t)tarn_model_bytes(x->names) : 0;
    }
    return bytes;
}

// A program for these arguments, pushed with its list; f is called.
static program *record(lua_State *L, const compiled *c, int nargs, int *list) {
    luaL_checkstack(L, nargs + 32, "compile");
    program *p = tarn_lua_new(L, "compiled program", sizeof *p);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, -3, 1);
    *list = lua_gettop(L);
    p->nargs = nargs;
    for (int k = 1; k <= nargs; k++) {
        note(L, &p->in, k, *list, false, 0);
    }
    p->value = zeroed(L, p->in.tensors, sizeof *p->value);
    p->given = zeroed(L, p->in.tensors, sizeof *p->given);
    p->number = zeroed(L, p->in.tensors, sizeof *p->number);
    for (int i = 0; i < p->in.n; i++) {
        if (p->in.list[i].kind == NUMBER) {
            p->number[p->in.list[i].first] = true;
        }
    }
    mark_given(c, p);
    tarn_graph *g = tarn_bind_record(L);
    tensors inputs = {.graph = g, .node = open_inputs(L, g, p)};
    int before = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    for (int k = 0, at = 0; k < nargs; k++) {
        push_entry(L, &p->in, &at, *list, &inputs);
    }
    lua_call(L, nargs, LUA_MULTRET);
    p->nresults = lua_gettop(L) - before;
    luaL_checkstack(L, 32, "compile");
    p->out.listed = p->in.listed;
    for (int k = 1; k <= p->nresults; k++) {
        note(L, &p->out, before + k, *list, true, 0);
    }
    p->bytes = bytes_of(&p->out);
    p->result = zeroed(L, p->out.tensors, sizeof *p->result);
    p->fixed = zeroed(L, p->out.tensors, sizeof *p->fixed);
    const tarn_node **root = tarn_bind_scratch(L, (size_t)p->out.tensors * sizeof *root);
    for (int k = 1, at = 0; k <= p->nresults; k++) {
        result_nodes(L, g, &p->out, &at, before + k, *list, root);
    }
    if (p->out.tensors > 0) {
        tarn_error err;
        tarn_error_clear(&err);
        find_fixed(L, g, p, root);
        if (tarn_exec_make(g, p->out.tensors, root, p->in.tensors, inputs.node, &p->exec, &err) != TARN_OK) {
            tarn_lua_raise(L, &err);
        }
    }
    return p;
}

// ---- calling ----

// What is donated and held by nothing else; needs is every input counted once more.
static void settle_given(const program *p, bool *given) {
    for (int k = 0; k < p->in.tensors; k++) {
        atomic_fetch_add(&p->value[k].storage->refs, 1);
    }
    for (int k = 0; k < p->in.tensors; k++) {
        given[k] = p->given[k] && atomic_load(&p->value[k].storage->refs) == 2;
    }
    for (int k = 0; k < p->in.tensors; k++) {
        atomic_fetch_sub(&p->value[k].storage->refs, 1);
    }
}

// A model that something else holds too keeps its tensors.
static void spare_shared(lua_State *L, const program *p, int *at, int idx, int list, bool *given) {
    const entry *x = &p->in.list[(*at)++];
    if (x->kind == MODEL) {
        tarn_model *m = tarn_bind_to_model(L, idx);
        for (int i = 0; i < x->n && atomic_load(&m->refs) > 1; i++) {
            given[x->first + i] = false;
        }
    }
    for (int i = 0; i < x->n && x->kind == TABLE; i++) {
        lua_rawgeti(L, list, p->in.list[*at].key);
        lua_rawget(L, idx);
        spare_shared(L, p, at, lua_gettop(L), list, given);
        lua_pop(L, 1);
    }
}

static void close_value(lua_State *L, int idx) {
    tarn_lua_tensor *u = tarn_bind_to_tensor(L, idx);
    tarn_lua_model *m = u ? NULL : tarn_lua_test(L, idx, "model");
    if (u) {
        tarn_tensor_release(&u->t);
    } else if (m) {
        tarn_model_release(m->m);
        m->m = NULL;
    } else if (lua_istable(L, idx)) {
        luaL_checkstack(L, 4, "compile");
        for (lua_pushnil(L); lua_next(L, idx);) {
            close_value(L, lua_gettop(L));
            lua_pop(L, 1);
        }
    }
}

static void run(lua_State *L, const compiled *c, program *p, int nargs, int list) {
    tarn_error err;
    tarn_lua_account(L, p->bytes);
    bool *given = NULL;
    if (c->donated) {
        given = tarn_bind_scratch(L, (size_t)p->in.tensors);
        settle_given(p, given);
        for (int k = 1, at = 0; k <= nargs; k++) {
            spare_shared(L, p, &at, k, list, given);
        }
    }
    for (int r = 0; r < p->out.tensors; r++) {
        tarn_tensor_release(&p->result[r]);  // left by a call that ended in an error
    }
    tarn_error_clear(&err);
    tarn_status s = tarn_exec_run(p->exec, p->value, given, p->result, &err);
    for (int k = 1; k <= nargs && k <= 64; k++) {
        if (c->donated >> (k - 1) & 1) {
            close_value(L, k);
        }
    }
    if (s != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    tarn_program_protect(p, p->result);
}

void tarn_program_protect(const program *p, const tarn_tensor *results) {
    for (int r = 0; r < p->out.tensors; r++) {
        tarn_storage *m = results[r].storage;
        if (p->fixed[r]) {
            m->frozen = true;  // the next call gives the same memory
        } else if (atomic_load(&m->refs) == 1) {
            m->frozen = false;  // of a model that was donated
        }
    }
}

void tarn_program_push(lua_State *L, const program *p, int list, tarn_tensor *results) {
    luaL_checkstack(L, p->nresults + 16, "compile");
    tensors values = {.value = results};
    for (int k = 0, at = 0; k < p->nresults; k++) {
        push_entry(L, &p->out, &at, list, &values);
    }
}

// Room for a new program, if need be that of the others, which are recorded again when they are called.
static void make_room(lua_State *L, const program *p, bool alone, int *n) {
    if (alone && !tarn_bind_has_room(L, tarn_exec_peak(p->exec))) {
        for (; *n > 0; (*n)--) {
            lua_pushnil(L);
            lua_rawseti(L, lua_upvalueindex(3), *n);
        }
    }
    tarn_bind_check_room(L, "compile", tarn_exec_peak(p->exec));
}

program *tarn_program_for(lua_State *L, int nargs, bool alone, int *list) {
    compiled *c = lua_touserdata(L, lua_upvalueindex(2));
    int n = (int)lua_rawlen(L, lua_upvalueindex(3));
    luaL_checkstack(L, 16, "compile");
    for (int k = 0; k < n; k++) {
        int at = (c->hot + k - 1 + n) % n + 1;
        lua_rawgeti(L, lua_upvalueindex(3), at);
        program *p = lua_touserdata(L, -1);
        lua_getiuservalue(L, -1, 1);
        *list = lua_gettop(L);
        if (matches(L, p, nargs, *list)) {
            c->hot = at;
            return p;
        }
        lua_settop(L, nargs);
    }
    program *p = record(L, c, nargs, list);
    if (p->exec) {
        make_room(L, p, alone, &n);
    }
    if (!matches(L, p, nargs, *list)) {
        tarn_lua_error(L, "compile: the function changed its arguments while it was recorded");
    }
    lua_pushvalue(L, *list - 1);
    lua_rawseti(L, lua_upvalueindex(3), n + 1);
    c->hot = n + 1;
    return p;
}

// f(…); upvalues: f, the compiled function, its list of programs.
static int l_call(lua_State *L) {
    int nargs = lua_gettop(L), list = 0;
    compiled *c = lua_touserdata(L, lua_upvalueindex(2));
    luaL_checkstack(L, 16, "compile");
    if (tarn_bind_recording(L)) {  // part of another recording: a plain call
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_call(L, nargs, LUA_MULTRET);
        return lua_gettop(L);
    }
    program *p = tarn_program_for(L, nargs, true, &list);
    if (p->exec) {
        run(L, c, p, nargs, list);
    }
    tarn_program_push(L, p, list, p->result);
    return p->nresults;
}

// compile.memory's call; upvalues: f, a compiled function.
static int l_measure(lua_State *L) {
    int list;
    const program *p = record(L, lua_touserdata(L, lua_upvalueindex(2)), lua_gettop(L), &list);
    lua_pushinteger(L, p->exec ? (lua_Integer)tarn_exec_peak(p->exec) : 0);
    return 1;
}

void tarn_bind_check_callable(lua_State *L, const char *function) {
    if (lua_isfunction(L, 1)) {
        return;
    }
    if (luaL_getmetafield(L, 1, "__call") == LUA_TNIL) {
        tarn_lua_error(L, "%s: expected a function, got %s", function, tarn_bind_kind(L, 1));
    }
    lua_pop(L, 1);
}

static int l_memory(lua_State *L) {
    int nargs = lua_gettop(L) - 1;
    tarn_bind_check_callable(L, "compile.memory");
    if (tarn_bind_recording(L)) {
        return tarn_lua_error(L, "compile.memory: not inside a recorded function");
    }
    if (tarn_bind_is_compiled(L, 1)) {
        lua_getupvalue(L, 1, 1);
        lua_getupvalue(L, 1, 2);
    } else {
        lua_pushvalue(L, 1);
        tarn_lua_new(L, "compiled function", sizeof(compiled));
    }
    lua_pushcclosure(L, l_measure, 2);
    lua_replace(L, 1);
    lua_call(L, nargs, 1);
    return 1;
}

bool tarn_bind_is_compiled(lua_State *L, int idx) { return lua_tocfunction(L, idx) == l_call; }

static int l_compile(lua_State *L) {
    static const char *const names[] = {"donate", NULL};
    tarn_bind_check_callable(L, "compile");
    tarn_lua_check_options(L, 2, "compile", names, false);
    lua_settop(L, 2);
    compiled *c = tarn_lua_new(L, "compiled function", sizeof *c);
    c->hot = 1;
    if (!lua_isnil(L, 2) && lua_getfield(L, 2, "donate") != LUA_TNIL) {
        luaL_checktype(L, -1, LUA_TTABLE);
        for (lua_Integer k = 1; k <= luaL_len(L, -1); k++) {
            lua_geti(L, -1, k);
            if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1 || lua_tointeger(L, -1) > 64) {
                return tarn_lua_error(L, "compile: donate lists the positions of arguments, such as { 1, 3 }");
            }
            c->donated |= (uint64_t)1 << (lua_tointeger(L, -1) - 1);
            lua_pop(L, 1);
        }
    }
    lua_settop(L, 3);
    lua_remove(L, 2);
    lua_newtable(L);
    lua_pushcclosure(L, l_call, 3);
    return 1;
}

// clang-format off
static const tarn_binding rows[] = {
    {{"compile", "compile(f, {donate = {k, …}}) -> function",
      "f, recorded once for each signature of its arguments and then run without Lua: element-wise chains fused, memory placed "
      "once, the same bits. A signature is what the arguments are made of: tables by their keys, tensors by shape and dtype, "
      "models by names, shapes and dtypes; texts, booleans and nil by their value. Numbers are not part of it: inside f they are "
      "recorded like tensors (of f64, and give way to what they meet); an integer that has to stay one is given as a tensor. f may use "
      "anything that works in a recorded function, also grad and its relatives, and return tensors, models, numbers and tables of "
      "them; it must be pure: what else it does happens only when it is recorded, and what depends on no argument is computed once and kept. "
      "Inside another recording a compiled function is called plainly.\n"
      "  donate: positions of arguments whose memory the call may use for its results; they are closed by it",
      "local step = compile(function(x, rate) return x - rate * grad(function(v) return (v * v):sum() end, x) end)\n"
      "print(step(tensor { 1, 2 }, 0.25), step(tensor { 4, 8 }, 0.5))\n-- > f32[2]\n-- > [0.5000, 1.0000]\tf32[2]\n-- > [0., 0.]"}, l_compile},
    {{"compile.memory", "compile.memory(f, …) -> integer",
      "The most bytes that a call f(…) takes beside its arguments, compiled as by compile: f is recorded for what the arguments "
      "are, and nothing is computed. What a call takes grows as its batch does, so that two of these say which batch fits.",
      "local f = compile(function(x) return x:matmul(x) end)\nprint(compile.memory(f, tensor.zeros { 100, 100 }) >= 40000)\n-- > true"}, l_memory},
    {{"compile.map", "compile.map(f, {{…}, …}) -> list, …",
      "A compiled function at many arguments at once: each member is the list of the arguments of one call (with `n` as table.pack "
      "gives it where the last are nil), and result k of call i is entry i of the k-th list that comes back. Calls of one signature run "
      "side by side, each on one processor and in memory of its own: as many as there are processors and as --memory has room for. The bits "
      "are those of calls one after another; where some fail, the error is that of the first of them. What depends on no argument is computed "
      "once. It pays where a call is too small for all processors, or has parts that run on one. Of a function that donates arguments: an error. Inside a recording "
      "the calls are made plainly.",
      "local f = compile(function(x, y) return (x * y):sum(), x:max() end)\nlocal x = tensor { 1, 2, 3 }\n"
      "local dots, most = compile.map(f, { { x, 1 }, { x, 10 }, { -x, 100 } })\nprint(dots[1], dots[2], dots[3], most[3])\n"
      "-- > 6.0\t60.0\t-600.0\t-1.0"}, tarn_bind_compile_map},
};
// clang-format on

tarn_status tarn_bind_compile(tarn_host *h, tarn_error *err) {
    static const tarn_lua_class types[] = {{"compiled program", release_program, NULL},
                                           {"compiled function", NULL, NULL}};
    lua_State *L = tarn_host_state(h);
    (void)err;
    tarn_lua_type(L, &types[0]);
    tarn_lua_type(L, &types[1]);
    tarn_bind_compile_map_types(L);
    tarn_host_module(h, "compile", rows, sizeof rows / sizeof *rows);
    return TARN_OK;
}
