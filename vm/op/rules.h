// SPDX-License-Identifier: Apache-2.0
// Helpers that rows share. Private to vm/op.
#ifndef TARN_OP_RULES_H
#define TARN_OP_RULES_H

#include "vm/op/op.h"

// A contiguous tensor of dtype t: a view of `in` where it is one already, else a copy.
tarn_status tarn_tensor_plain(tarn_context *cx, const tarn_tensor *in, tarn_dtype t,
                              tarn_tensor *out, tarn_error *err);

// Fresh memory for the result of apply, unless it has its place already (rows that are `placed`).
tarn_status tarn_result(tarn_context *cx, const tarn_desc *d, tarn_tensor *out, tarn_error *err);

#define TARN_VJP(name) \
    static const tarn_node *name(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which)
#define TARN_JVP(name) \
    static const tarn_node *name(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx)

// Sums a gradient over the dimensions that x was broadcast along and casts it to x's dtype.
const tarn_node *tarn_unbroadcast(tarn_graph *g, const tarn_node *gy, const tarn_node *x);
// a + b where either may be NULL (zero).
const tarn_node *tarn_add_opt(tarn_graph *g, const tarn_node *a, const tarn_node *b);

// Piecewise constant rows: the derivative is zero everywhere it exists.
const tarn_node *tarn_vjp_zero(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which);
const tarn_node *tarn_jvp_zero(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx);

// y is its operand, of the same shape.
void tarn_axes_kept(tarn_axes *t, const tarn_node *y);
// `some` is a window of `all`: {start, count, step} for each dimension.
void tarn_axes_window(tarn_axes *t, const tarn_node *all, const tarn_node *some, const int64_t *window);

#endif
