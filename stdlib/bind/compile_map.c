// SPDX-License-Identifier: Apache-2.0
// compile.map(f, calls): the calls of a compiled function side by side. Arguments are walked call by call
// as ever, here; then all runs of one program are handed to the executor in one go
// (vm/op/exec_many.c), and the results are put together in the order of the calls.
#include <stdlib.h>
#include <string.h>

#include "stdlib/bind/compile.h"

typedef struct {
    int number;  // of the program, in the list of programs; 0: not there yet
    program *program;
    int tensors;          // of both, which the program is no longer there to tell at the end
    tarn_tensor *value;   // [in.tensors] references
    tarn_tensor *result;  // [out.tensors] behind them
} call;

typedef struct {
    int n, next;
    call *call;                  // [n]
    const tarn_tensor **value;   // [n] of the runs of one program
    tarn_tensor **result;        // [n]
} calls;

static void release_calls(void *self) {
    calls *c = self;
    for (int i = 0; c->call && i < c->n; i++) {
        call *one = &c->call[i];
        for (int k = 0; k < one->tensors; k++) {
            tarn_tensor_release(&one->value[k]);
        }
        free(one->value);
    }
    free(c->call);
    free((void *)c->value);
    free(c->result);
    *c = (calls){0};
}

static _Noreturn void out_of_memory(lua_State *L, size_t bytes) {
    tarn_error err;
    tarn_raise_nomem(&err, "compile.map", bytes);
    tarn_lua_raise(L, &err);
    __builtin_unreachable();
}

static calls *new_calls(lua_State *L, int n) {
    calls *c = tarn_lua_new(L, "compiled calls", sizeof *c);
    size_t count = (size_t)n + 1;
    c->n = n;
    c->call = calloc(count, sizeof *c->call);
    c->value = calloc(count, sizeof *c->value);
    c->result = calloc(count, sizeof *c->result);
    if (!c->call || !c->value || !c->result) {
        out_of_memory(L, count * sizeof *c->call);
    }
    return c;
}

// Takes one call's arguments down; upvalues: those of the compiled function, then the calls.
static int l_take(lua_State *L) {
    int nargs = lua_gettop(L), list;
    calls *c = lua_touserdata(L, lua_upvalueindex(4));
    const compiled *f = lua_touserdata(L, lua_upvalueindex(2));
    program *p = tarn_program_for(L, nargs, false, &list);
    int tensors = p->in.tensors + p->out.tensors;
    call *one = &c->call[c->next++];
    tarn_tensor *value = calloc((size_t)tensors + 1, sizeof *value);
    if (!value) {
        out_of_memory(L, (size_t)tensors * sizeof *value);
    }
    *one = (call){f->hot, p, tensors, value, value + p->in.tensors};
    for (int k = 0; k < p->in.tensors; k++) {
        tarn_tensor_share(&p->value[k], &one->value[k]);
    }
    return 0;
}

// Pushes the arguments of call i behind a function; returns how many.
static int push_arguments(lua_State *L, int i) {
    if (lua_rawgeti(L, 2, i) != LUA_TTABLE) {
        tarn_lua_error(L, "compile.map: call %d is a %s; expected the list of its arguments", i, tarn_bind_kind(L, -1));
    }
    int at = lua_gettop(L);
    bool packed = lua_getfield(L, at, "n") == LUA_TNUMBER && lua_isinteger(L, -1);
    lua_Integer n = packed ? lua_tointeger(L, -1) : (lua_Integer)lua_rawlen(L, at);
    lua_pop(L, 1);
    if (n < 0 || n > 200) {
        tarn_lua_error(L, "compile.map: call %d has %lld arguments", i, (long long)n);
    }
    luaL_checkstack(L, (int)n + 8, "compile.map");
    for (lua_Integer k = 1; k <= n; k++) {
        lua_rawgeti(L, at, k);
    }
    lua_remove(L, at);
    return (int)n;
}

// All runs of program `number`, which is p.
static void run_program(lua_State *L, calls *c, int number, program *p) {
    tarn_context *cx = tarn_host_context(L);
    int64_t count = 0;
    for (int i = 0; i < c->n; i++) {
        if (c->call[i].number == number) {
            c->value[count] = c->call[i].value;
            c->result[count++] = c->call[i].result;
        }
    }
    if (count == 0 || !p->exec) {
        return;
    }
    tarn_lua_account(L, p->bytes * (size_t)count);
    int workers = tarn_pool_size(cx->pool);
    uint64_t all = tarn_exec_many_takes(p->exec, count, count < workers ? (int)count : workers);
    size_t used = atomic_load(&cx->budget.used);
    if (used > cx->budget.limit || all > cx->budget.limit - used) {
        lua_gc(L, LUA_GCCOLLECT);  // so that garbage does not cost a lane
    }
    tarn_bind_check_room(L, "compile.map", tarn_exec_many_takes(p->exec, count, 1));
    tarn_error err;
    tarn_error_clear(&err);
    if (tarn_exec_run_many(p->exec, count, c->value, c->result, &err) != TARN_OK) {
        tarn_lua_raise(L, &err);
    }
    for (int64_t i = 0; i < count; i++) {
        tarn_program_protect(p, c->result[i]);
    }
}

// Appends result k of call i, on the stack from `first` on, to the k-th list; lists lie from `lists` on.
static int put_results(lua_State *L, int i, int first, int lists, int nlists) {
    int n = lua_gettop(L) - first + 1;
    luaL_checkstack(L, n + 8, "compile.map");
    for (int k = nlists; k < n; k++) {
        lua_newtable(L);
        lua_insert(L, lists + k);
        first++;
    }
    for (int k = n - 1; k >= 0; k--) {
        lua_rawseti(L, lists + k, i);
    }
    return n > nlists ? n : nlists;
}

int tarn_bind_compile_map(lua_State *L) {
    if (!tarn_bind_is_compiled(L, 1)) {
        return tarn_lua_error(L, "compile.map: expected a compiled function (compile(f)), got %s", tarn_bind_kind(L, 1));
    }
    if (!lua_istable(L, 2)) {
        return tarn_lua_error(L, "compile.map: expected a list of calls, each a list of arguments, got %s",
                              tarn_bind_kind(L, 2));
    }
    lua_settop(L, 2);
    int n = (int)lua_rawlen(L, 2), lists = 0, nlists = 0;
    calls *c = new_calls(L, n);
    bool recording = tarn_bind_recording(L) != NULL;
    for (int k = 1; k <= 3; k++) {
        lua_getupvalue(L, 1, k);  // at 4, 5, 6
    }
    if (((compiled *)lua_touserdata(L, 5))->donated) {
        return tarn_lua_error(L, "compile.map: a function that donates its arguments is called once at a time");
    }
    lua_pushvalue(L, 4);
    lua_pushvalue(L, 5);
    lua_pushvalue(L, 6);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, l_take, 4);  // at 7
    lists = lua_gettop(L) + 1;
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, recording ? 4 : 7);
        int first = lua_gettop(L);
        lua_call(L, push_arguments(L, i), recording ? LUA_MULTRET : 0);
        nlists = put_results(L, i, first, lists, nlists);
    }
    int programs = recording ? 0 : (int)lua_rawlen(L, 6);
    for (int k = 1; k <= programs; k++) {
        lua_rawgeti(L, 6, k);
        run_program(L, c, k, lua_touserdata(L, -1));
        lua_pop(L, 1);
    }
    for (int i = 0; i < n && !recording; i++) {
        call *one = &c->call[i];
        lua_rawgeti(L, 6, one->number);
        lua_getiuservalue(L, -1, 1);
        int first = lua_gettop(L);
        tarn_program_push(L, one->program, first, one->result);
        nlists = put_results(L, i + 1, first + 1, lists, nlists);
        lua_settop(L, lists + nlists - 1);
    }
    if (n == 0) {
        lua_newtable(L);  // how many lists there would be is not known
        return 1;
    }
    release_calls(c);  // not when the collector comes: arguments may be given away next
    return nlists;
}

void tarn_bind_compile_map_types(lua_State *L) {
    static const tarn_lua_class type = {"compiled calls", release_calls, NULL};
    tarn_lua_type(L, &type);
}
