// SPDX-License-Identifier: Apache-2.0
// What the fused rows share: operands in plain memory, loops over rows on the pool, small pieces of
// expressions. Private to vm/op.
#ifndef TARN_OP_FUSED_RUN_H
#define TARN_OP_FUSED_RUN_H

#include "vm/op/rules.h"

enum { TARN_PLAIN_MOST = 8 };

typedef struct tarn_plain {
    int n;
    tarn_tensor t[TARN_PLAIN_MOST];
    const char *data[TARN_PLAIN_MOST];
} tarn_plain;

// Operand k contiguous and of dtype want[k]: shared where it is so already. Released by close, also
// after a failure.
tarn_status tarn_plain_open(tarn_context *cx, int nin, const tarn_tensor *in,
                            const tarn_dtype *want, tarn_plain *p, tarn_error *err);
void tarn_plain_close(tarn_plain *p);
// Bytes of the copies at most, when all are in dtype t.
size_t tarn_plain_bytes(int nin, const tarn_desc *in, tarn_dtype t);

// f64 if one of the operands is, else f32.
tarn_dtype tarn_float_of(int nin, const tarn_desc *in);

// Rows 0 … rows - 1 of `length` elements in pieces [first, first + n) that depend on the shape
// alone.
typedef tarn_status (*tarn_rows_fn)(void *arg, int64_t first, int64_t n, tarn_error *err);
tarn_status tarn_rows_run(tarn_context *cx, int64_t rows, int64_t length, tarn_rows_fn fn,
                          void *arg, tarn_error *err);

// The sum over the last axis, which stays with size 1.
const tarn_node *tarn_last_sum(tarn_graph *g, const tarn_node *x);
// x in arithmetic on floats: integers become f32.
const tarn_node *tarn_as_float(tarn_graph *g, const tarn_node *x);

#endif
