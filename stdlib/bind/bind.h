// SPDX-License-Identifier: Apache-2.0
// The bindings: what scripts see of tensors, models and merging. Each file binds one module; this
// header is what they share. Private to stdlib/bind but for tarn_bind_open.
#ifndef TARN_BIND_BIND_H
#define TARN_BIND_BIND_H

#include "merge/plan/plan.h"
#include "vm/lua/host.h"

// Makes every module a global of the host. Once per host, before any script runs.
tarn_status tarn_bind_open(tarn_host *h, tarn_error *err);

// ---- one opener per module ----

tarn_status tarn_bind_tensor(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_model(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_merge(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_checkpoints(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_lora(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_by(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_grad(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_compile(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_checkpointing(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_yaml(tarn_host *h, tarn_error *err);
tarn_status tarn_bind_plot(tarn_host *h, tarn_error *err);

// ---- methods of userdata ----

// The table that `value:name` is looked up in, for type "tensor" or "model"; pushed.
void tarn_bind_methods(lua_State *L, const char *type);
// Rows "tensor:sum" become methods, rows "tensor.zeros" functions of the module; all documented.
void tarn_bind_rows(tarn_host *h, const char *module, const tarn_binding *rows, int n);
// An __index for string keys: a method, else an error that says what `elsewhere` has for the name (what other
// libraries call by it; may be NULL), or the nearest name.
int tarn_bind_method(lua_State *L, const char *type, int key, const char *(*elsewhere)(const char *));
// check(function, options, {names}, positional) for files of the library (see below).
int tarn_bind_check(lua_State *L);
// kind(x) -> "tensor", "model", "number" …, for files of the library.
int tarn_bind_kind_of(lua_State *L);
// Runs an embedded file that returns function(define, check, fail, kind). define(name, signature, text, example,
// fn) adds a function or method with its documentation; check(function, options, {names},
// positional) raises for an unknown option, with the nearest name; fail(text) raises where the script
// called the library.
tarn_status tarn_bind_library(tarn_host *h, const char *path, tarn_error *err);
void tarn_bind_push_define(lua_State *L);  // `define` itself, for a file that takes more than these two

// A text that the collector frees if an error cuts its making short; pushed.
tarn_text *tarn_bind_new_text(lua_State *L);
// Pushes its bytes as a string and frees it; raises when it lacked memory (`what`: "a tensor").
int tarn_bind_push_text(lua_State *L, tarn_text *t, const char *what);
// A row's phrase ("sum of x", "x + y") as a sentence of documentation.
void tarn_bind_sentence(tarn_text *out, const char *phrase);
// Fields of the table on top; an empty text or none is left out.
void tarn_bind_set_text(lua_State *L, const char *field, const char *text);
void tarn_bind_set_integer(lua_State *L, const char *field, lua_Integer v);
// "tensor", "model", "schedule", else the Lua type of the value: for messages.
const char *tarn_bind_kind(lua_State *L, int idx);
// Raises unless the arguments of merge.NAME are one table, and leaves that alone; option: one that it may hold.
void tarn_bind_one_table(lua_State *L, const char *merge, const char *option);
// Raises unless the first argument can be called.
void tarn_bind_check_callable(lua_State *L, const char *function);

// ---- tensors ----

// A tensor in memory, or an expression: planned over files, or recorded for differentiation.
typedef struct tarn_lua_tensor {
    tarn_tensor t;          // storage NULL: an expression
    tarn_graph *graph;      // retained
    const tarn_node *node;
    bool recorded;
} tarn_lua_tensor;

tarn_lua_tensor *tarn_bind_to_tensor(lua_State *L, int idx);  // NULL: something else
// Moves t into a new userdata; a rank-0 tensor becomes a Lua number, integer or boolean.
int tarn_bind_push_tensor(lua_State *L, tarn_tensor *t);
// Raises while a plan is only looked at or a recipe is built.
int tarn_bind_push_node(lua_State *L, tarn_graph *g, const tarn_node *n, bool recorded);
// Applies a row to values of the stack (numbers and tensors); pushes the result.
int tarn_bind_apply(lua_State *L, const tarn_op *op, int n, const int *idx, const tarn_attr *a);
// The value of an expression in memory (raises for recorded ones); a share for concrete tensors.
void tarn_bind_value(lua_State *L, int idx, tarn_tensor *out);
// The node of a value in graph g (numbers and tensors become leaves); raises on failure.
const tarn_node *tarn_bind_node(lua_State *L, int idx, tarn_graph *g);
// Reads {2, 3} or an integer from the stack as a shape; returns the rank.
int tarn_bind_shape(lua_State *L, int idx, const char *function, int64_t *shape);
tarn_dtype tarn_bind_dtype(lua_State *L, int idx, const char *function, tarn_dtype d);  // the option `dtype`
// A 1-based or negative dimension → 0-based; raises.
int tarn_bind_axis(lua_State *L, lua_Integer v, int rank, const char *function);
int tarn_bind_index(lua_State *L);  // t[i], t[{…}], t:method

// ---- models ----

typedef struct tarn_lua_model {
    tarn_model *m;
} tarn_lua_model;

tarn_model *tarn_bind_to_model(lua_State *L, int idx);  // NULL: something else

// ---- parameters by tensor (by.*) ----

// Resolves the value at idx for every slot of m: a number, or what by.* made. Returns false when the
// value is neither. *each lives in a userdata that is left on the stack (one value is pushed always);
// where one number serves all tensors *each is NULL.
bool tarn_bind_resolve(lua_State *L, int idx, const char *what, tarn_model *m, double *number,
                       const double **each, const char **origin);

// ---- plan-only mode ----

// True while a script is run for its plans (`tarn plan`): values may not be forced.
bool tarn_bind_planning(lua_State *L);
void tarn_bind_plan_only(lua_State *L, bool on);
void tarn_bind_force(lua_State *L, const char *what);  // raises in plan-only mode

#endif
