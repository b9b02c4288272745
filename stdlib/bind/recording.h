// SPDX-License-Identifier: Apache-2.0
// Calling a function of a script with recorded values: the graph of the host that everything recorded
// goes into, and values made of tensors (tensors, numbers, models, tables of them) as lists of what they
// hold. Used by the derivatives and by compile. Private to stdlib/bind.
#ifndef TARN_BIND_RECORDING_H
#define TARN_BIND_RECORDING_H

#include "stdlib/bind/model.h"
#include "stdlib/bind/tensor.h"
#include "vm/op/exec.h"

// ---- the recording of a host ----

// The graph that is recorded now; NULL: nothing is.
tarn_graph *tarn_bind_recording(lua_State *L);
// Begins a level of recording, which ends with the C function that called this, also by an error. The
// outermost one opens a graph, inner ones go on in it.
tarn_graph *tarn_bind_record(lua_State *L);
// Raises what went wrong in the graph, which serves on.
_Noreturn void tarn_bind_fail(lua_State *L, tarn_graph *g);

void tarn_bind_recording_types(lua_State *L);

// ---- running ----

// Pushes the graph made ready to run; raises when it would not fit into the budget, before it runs.
tarn_exec *tarn_bind_exec(lua_State *L, const char *function, tarn_graph *g, int nroots, const tarn_node *const *roots,
                          int ninputs, const tarn_node *const *inputs);
// Whether so many bytes fit into the budget, if need be after a collection.
bool tarn_bind_has_room(lua_State *L, uint64_t peak);
// Raises OutOfMemory when so many bytes do not fit into the budget, if need be after a collection.
void tarn_bind_check_room(lua_State *L, const char *function, uint64_t peak);
// Frees one early.
void tarn_bind_exec_free(lua_State *L, int idx);

// ---- values made of tensors ----

// ARGUMENTS: every tensor, number and model is a leaf, anything else an error. RESULTS: every recorded
// tensor and model is one, anything else stays as it is. OUTPUTS: as arguments, of what a function returned.
typedef enum { TARN_ARGUMENTS, TARN_RESULTS, TARN_OUTPUTS } tarn_leaves;

// Appends the leaves of the value on top to the list at `list`; leaves the value there.
void tarn_bind_collect(lua_State *L, const char *function, tarn_leaves kind, int list);
// Pushes the value on top with its leaves, in that order, replaced by list[1], list[2] …
void tarn_bind_rebuilt(lua_State *L, const char *function, tarn_leaves kind, int list);
// Appends for every leaf of the value on top what lies at the same place of the value at `along`; false
// where there is nothing.
void tarn_bind_collect_along(lua_State *L, const char *function, int along, int list);

// One leaf as the tensors it holds: itself, or those of a model that are wanted.
typedef struct tarn_bind_part {
    tarn_model *model;  // NULL: a tensor or a number
    tarn_model *names;  // signature of the tensors that are wanted; on the list that `collect` made
    int first, n;       // of all tensors
    const int64_t *slot;  // [n] of the model
} tarn_bind_part;

// The parts of `count` leaves of the list: one for each, in a userdata that is pushed, followed by a list
// that keeps what they refer to. only: stack index of a pattern or function that chooses tensors of models;
// 0 or nil: all. Of models the floating tensors that are no buffers are wanted. *n: tensors in all.
tarn_bind_part *tarn_bind_parts(lua_State *L, const char *function, int list, int only, int *n);
// All tensors of every leaf, buffers and integers too.
tarn_bind_part *tarn_bind_whole_parts(lua_State *L, const char *function, int list, int *n);
// Pushes part k of what came out: nodes or values (one of them NULL), those of all parts in order.
void tarn_bind_push_part(lua_State *L, const tarn_bind_part *part, double mass, tarn_graph *g,
                         const tarn_node *const *nodes, tarn_tensor *values);

// The model at idx as an argument: its values in memory, or recorded. What is neither but in memory is
// computed, and takes its place at idx. Raises for plans over files.
tarn_model *tarn_bind_ready(lua_State *L, int idx, const char *function);
// example_squares(f, x, batch, …) -> Σ g_n², |g_n|², f(x, batch, …): see vm/grad/example.h.
int tarn_bind_example_squares(lua_State *L);
int tarn_bind_example_norms(lua_State *L);  // without the first
void *tarn_bind_scratch(lua_State *L, size_t bytes);  // zeroed; pushed, the collector frees it

#endif
