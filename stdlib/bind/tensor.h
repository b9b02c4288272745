// SPDX-License-Identifier: Apache-2.0
// What the files that bind tensors share. Private to stdlib/bind.
#ifndef TARN_BIND_TENSOR_H
#define TARN_BIND_TENSOR_H

#include "stdlib/bind/bind.h"

// ---- make, run, convert: the userdata is there before the tensor is ----

// Pushes a closed tensor; the caller fills it.
tarn_lua_tensor *tarn_bind_new_tensor(lua_State *L);
// The tensor on top: of rank 0 and in memory it becomes a Lua number, integer or boolean. Returns 1.
int tarn_bind_settle(lua_State *L);
// The only element of t as a Lua number, integer or boolean. Returns 1.
int tarn_bind_push_scalar(lua_State *L, const tarn_tensor *t);
// Drops what lies between `top` and the value on top. Returns 1.
int tarn_bind_only(lua_State *L, int top);
// Pushes n closed tensors in one userdata that releases them.
tarn_tensor *tarn_bind_hold(lua_State *L, int n);

// ---- arguments ----

// Shape and dtype of a tensor or number; raises for anything else and for closed tensors.
void tarn_bind_desc(lua_State *L, int idx, const char *function, tarn_desc *d);
// "[2, 3]" pushed as a string; returned.
const char *tarn_bind_shape_text(lua_State *L, int rank, const int64_t *shape);
// Raises when a stop is wanted; for loops over elements, once per TARN_BIND_POLL of them.
void tarn_bind_poll(lua_State *L);
#define TARN_BIND_POLL 65536
// A whole number at idx; raises.
int64_t tarn_bind_integer(lua_State *L, int idx, const char *function, const char *what);
// A dtype by name at idx; raises with the nearest name.
tarn_dtype tarn_bind_dtype_at(lua_State *L, int idx, const char *function);
// Dimensions at idx (an integer or a list) as 0-based axes, ascending; returns how many.
int tarn_bind_axes(lua_State *L, int idx, int rank, const char *function, int64_t *axes);

// ---- rows applied to the stack; each pushes its result ----

int tarn_bind_unary(lua_State *L, const tarn_op *op, int idx, const tarn_attr *a);
int tarn_bind_reshape(lua_State *L, int idx, int rank, const int64_t *shape);
int tarn_bind_broadcast(lua_State *L, int idx, int rank, const int64_t *shape);
int tarn_bind_permute(lua_State *L, int idx, const int64_t *order);
int tarn_bind_cast(lua_State *L, int idx, tarn_dtype dtype);
// The value at idx plus a whole number, which stays whole.
int tarn_bind_shift(lua_State *L, int idx, int by);
// Slices of `axis` chosen by an integer tensor (1-based); the index's shape takes the axis's place.
int tarn_bind_take(lua_State *L, int idx, int axis, int index, const char *function);
// The view of a tensor in memory, or the expression, that the key at `key` names.
int tarn_bind_select(lua_State *L, int idx, int key);

// ---- expressions of several rows ----

// Fills out[0 .. nout) with nodes made of x; a NULL comes with an error in the graph.
typedef void (*tarn_bind_builder)(tarn_graph *g, const tarn_node *const *x, const void *arg,
                                  const tarn_node **out);
// Builds on the values at idx[0 .. n) (0: none, x[k] is NULL) and pushes nout results: expressions where
// an operand is one, else values, computed at once.
int tarn_bind_build(lua_State *L, const char *function, int n, const int *idx, int nout,
                    tarn_bind_builder build, const void *arg);
// Raises when there are more than `most` arguments; nil at the end does not count.
void tarn_bind_count(lua_State *L, const char *function, int most);
// What reductions are told at stack index 2 and 3: (dim, keepdim), see tensor.reductions.
typedef struct tarn_bind_reduction {
    int64_t i[TARN_MAX_RANK + 2];  // keep, scope, axes …
    int n;                         // axes; 0: all
} tarn_bind_reduction;
void tarn_bind_read_reduction(lua_State *L, const char *function, int rank, tarn_bind_reduction *r);

// ---- registration ----

void tarn_bind_tensor_values(tarn_host *h);
void tarn_bind_tensor_make(tarn_host *h);
tarn_status tarn_bind_tensor_ops(tarn_host *h, tarn_error *err);
void tarn_bind_tensor_view(tarn_host *h);
void tarn_bind_tensor_inplace(tarn_host *h);
void tarn_bind_tensor_linalg(tarn_host *h);
void tarn_bind_tensor_sinkhorn(tarn_host *h);
void tarn_bind_tensor_conv(tarn_host *h);
void tarn_bind_tensor_nn(tarn_host *h);
void tarn_bind_tensor_more(tarn_host *h);

#endif
