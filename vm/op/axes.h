// SPDX-License-Identifier: Apache-2.0
// The axis tracer's face for rows: each operation says which axes of its inputs and of its result
// move together, and how freely. The largest group that commutes: none < permutation < signed
// permutation < permutation with positive scales < any invertible linear map.
#ifndef TARN_OP_AXES_H
#define TARN_OP_AXES_H

#include "vm/op/op.h"

typedef enum {
    TARN_GROUP_NONE,
    TARN_GROUP_PERMUTATION,
    TARN_GROUP_SIGNED,
    TARN_GROUP_SCALED,
    TARN_GROUP_LINEAR,
} tarn_group;

struct tarn_axes {
    tarn_arena arena;
    int *parent;             // union-find over (node, axis): slot node * TARN_MAX_RANK + axis
    unsigned char *limit;    // tarn_group of each root
};

// Axis d of a and axis e of b move together, by at most `g`.
void tarn_axes_link(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e,
                    tarn_group g);
void tarn_axes_limit(tarn_axes *t, const tarn_node *a, int d, tarn_group g);

// Walks everything that the roots need. The axes of the roots and of `pinned` leaves stay fixed.
tarn_status tarn_axes_trace(tarn_graph *g, int nroots, const tarn_node *const *roots, int npinned,
                            const tarn_node *const *pinned, tarn_axes *out, tarn_error *err);
int tarn_axes_find(const tarn_axes *t, const tarn_node *a, int d);  // class of an axis
tarn_group tarn_axes_group(const tarn_axes *t, int class_id);
void tarn_axes_free(tarn_axes *t);
const char *tarn_group_name(tarn_group g);

// Rules that rows share.
// For element-wise rows of several operands: where one of them is stretched along an axis (a number,
// say), only permutations are left, but for products and quotients with it.
void tarn_axes_scaled(tarn_axes *t, const tarn_node *y);    // relu, abs, min, max: positive scales
void tarn_axes_signed(tarn_axes *t, const tarn_node *y);    // odd functions
void tarn_axes_permuted(tarn_axes *t, const tarn_node *y);  // any element-wise function
void tarn_axes_linear(tarn_axes *t, const tarn_node *y);    // sums and differences
void tarn_axes_product(tarn_axes *t, const tarn_node *y);   // x * y
void tarn_axes_quotient(tarn_axes *t, const tarn_node *y);  // x / y
void tarn_axes_none(tarn_axes *t, const tarn_node *y);         // leaves: nothing to link

#endif
