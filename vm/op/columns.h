// SPDX-License-Identifier: Apache-2.0
// Reductions whose results lie side by side in a row: down columns, over all but the last dimension. Each
// result is folded in the balanced binary tree over the positions that are reduced, in row-major order,
// one row a leaf, a last one without a sibling passing up. A tree's value does not depend on when its
// nodes are joined, so subtrees may be made anywhere, from any range of rows, and joined as siblings
// meet: in memory by groups of columns, in a stream by blocks of the operand, over any workers.
#ifndef TARN_OP_COLUMNS_H
#define TARN_OP_COLUMNS_H

#include "vm/op/kernel/kernel.h"
#include "vm/op/op.h"

// The operand in row-major order: [slabs, rows, width], with one tree for each of slabs x width results.
typedef struct tarn_columns_plan {
    const tarn_op *op;
    const tarn_attr *attr;
    tarn_columns_fn columns;
    tarn_join_fn join;
    tarn_dtype work, out;  // what rows are read as; of the result
    int64_t slabs, rows, width;
} tarn_columns_plan;

// True if a reduction of a tensor of this shape goes by the tree over rows; sets all but the shape.
bool tarn_columns_choose(tarn_isa isa, const tarn_op *op, const tarn_attr *a, const tarn_desc *in,
                         const tarn_desc *out, tarn_columns_plan *p);
// And the reduced dimensions are neighbours, so that the operand can be folded in the order of its
// elements; sets the shape too.
bool tarn_columns_plan_of(tarn_isa isa, const tarn_op *op, const tarn_attr *a, const tarn_desc *in,
                          const tarn_desc *out, tarn_columns_plan *p);

// Rows [at << level, (at + 1) << level) of a slab, or as many as there are.
typedef struct tarn_subtree {
    int64_t slab, at;
    int level;
    int64_t first, filled;  // columns that are there: all, but in a row that is not complete
    double *part;
} tarn_subtree;

// Subtrees of columns [first, first + width) whose siblings are not there yet. A tree that is complete
// becomes its result.
typedef struct tarn_columns {
    const tarn_columns_plan *plan;
    int64_t first, width;
    int count;
    tarn_subtree *node;
    void *out;  // the whole result
} tarn_columns;

// Subtrees that can be open at once: when rows come in order from the first on; when elements
// [k TARN_BLOCK, (k + 1) TARN_BLOCK) come in order; when such blocks are brought by so many workers.
int tarn_columns_in_order(const tarn_columns_plan *p);
int tarn_columns_of_block(const tarn_columns_plan *p);
int tarn_columns_of_blocks(const tarn_columns_plan *p, int64_t workers);
size_t tarn_columns_bytes(int room, int64_t width);  // a multiple of 64
void tarn_columns_open(tarn_columns *c, const tarn_columns_plan *p, int64_t first, int64_t width,
                       int room, void *memory, void *out);

// `rows` rows from `row` on of a slab, n columns from `first` on, of dtype p->work. One row, or
// TARN_SUBTREE of them from a multiple of it.
void tarn_columns_add(tarn_columns *c, int64_t slab, int64_t row, int64_t rows, int64_t first,
                      int64_t n, int64_t stride, const void *x);
// Elements [at, at + n) of the operand, of dtype p->work.
void tarn_columns_tile(tarn_columns *c, int64_t at, int64_t n, const void *x);
// Takes over all that `from` holds.
void tarn_columns_merge(tarn_columns *c, tarn_columns *from);

#endif
