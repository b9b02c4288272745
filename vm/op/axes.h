// SPDX-License-Identifier: Apache-2.0
// The axis tracer's face for rows: each operation says which axes of its inputs and of its result
// move together, and how freely. The largest group that commutes: none < permutation < signed
// permutation < permutation with positive scales < any invertible linear map. An axis is a term: an
// atom, a row-major product of terms, or a sum of terms one after another; linking two axes unifies
// their terms. What the terms say of a network is read by vm/op/symmetry.h.
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

enum { TARN_AXIS_PARTS = 256 };  // factors or parts of one axis, at most; an axis with more stays fixed

// A term seen from one place: as it is, or `dual`: where the term is moved by A, this by the inverse
// of A transposed, as the input axis of a matrix whose operand is moved by A.
typedef struct tarn_axis {
    int term;
    bool dual;
} tarn_axis;

typedef enum { TARN_TERM_ATOM, TARN_TERM_PRODUCT, TARN_TERM_SUM } tarn_term_kind;

typedef struct tarn_term {
    int64_t size;
    int parent;            // union-find: -1 for a root; else `dual` against it
    bool dual;
    unsigned char kind;
    unsigned char limit;   // of an atom: tarn_group
    bool anchored;         // of an atom: an axis of the network's inputs or outputs
    int n;                 // PRODUCT, SUM: parts, in row-major order
    tarn_axis *part;
} tarn_term;

// Axes `mixed` of x (bits) meet in one sum, and each element of the result belongs to one place of the axes
// `apart`, in which what it is multiplied with knows nothing of them. Sums whose result lacks the axis, as
// those of a norm's statistics, need not be told.
typedef struct tarn_mixture {
    int node;
    unsigned mixed, apart;
} tarn_mixture;

enum { TARN_AXES_USED = 1, TARN_AXES_DATA = 2 };

struct tarn_axes {
    tarn_graph *graph;
    tarn_arena arena;
    bool failed;            // no memory
    int *slot;              // [nodes * TARN_MAX_RANK] term of a node's axis, -1: none yet
    unsigned char *use;     // [nodes] 0: the roots do not need it; TARN_AXES_DATA: depends on pinned leaves
    int nodes;
    tarn_term *term;
    int terms, room;
    tarn_mixture *mixture;
    int mixtures, mixture_room;
};

// ---- for rows ----

// Axis d of a and axis e of b move together, by at most `g`.
void tarn_axes_link(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e,
                    tarn_group g);
// Where they are summed over together: one is moved by the inverse of the other, in any linear way.
void tarn_axes_contract(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e);
void tarn_axes_limit(tarn_axes *t, const tarn_node *a, int d, tarn_group g);
// Axes of x (bits) are mixed by a product or a softmax; see tarn_mixture.
void tarn_axes_mix(tarn_axes *t, const tarn_node *x, unsigned mixed, unsigned apart);

// Terms. What does not fit (sizes that do not divide) stays where it is: limit none.
tarn_axis tarn_axes_of(tarn_axes *t, const tarn_node *a, int d);
tarn_axis tarn_axes_atom(tarn_axes *t, int64_t size, tarn_group g);
tarn_axis tarn_axes_product_of(tarn_axes *t, int n, const tarn_axis *factor);  // outermost first
tarn_axis tarn_axes_sum_of(tarn_axes *t, int n, const tarn_axis *part);
void tarn_axes_unify(tarn_axes *t, tarn_axis a, tarn_axis b);
// The `count` places from `start` of an axis, as an axis; false: it cannot be cut there.
bool tarn_axes_part(tarn_axes *t, tarn_axis a, int64_t start, int64_t count, tarn_axis *out);
void tarn_axes_hold(tarn_axes *t, tarn_axis a, tarn_group g);  // limits all parts

typedef struct tarn_axis_list {
    int n;
    bool full;  // there were more
    tarn_axis a[TARN_AXIS_PARTS];
} tarn_axis_list;

// What a consists of, appended: factors that are no products, or parts that are no sums.
void tarn_axes_factors(const tarn_axes *t, tarn_axis a, tarn_axis_list *out);
void tarn_axes_parts(tarn_axes *t, tarn_axis a, tarn_axis_list *out);

// ---- for users ----

// Walks everything that the roots need. The axes of the roots and of `pinned` leaves (the inputs and
// constants of a network) stay fixed.
tarn_status tarn_axes_trace(tarn_graph *g, int nroots, const tarn_node *const *roots, int npinned,
                            const tarn_node *const *pinned, tarn_axes *out, tarn_error *err);
tarn_status tarn_axes_open(tarn_axes *t, tarn_graph *g, tarn_error *err);  // nothing is linked yet
// Whether axis d of operand k becomes axis e of n, by n's rule alone. Forgets what was linked before.
bool tarn_axes_linked(tarn_axes *t, const tarn_node *n, int k, int d, int e);
// The root of an axis' term, with its dual.
tarn_axis tarn_axes_root(const tarn_axes *t, tarn_axis a);
// The term alone; -1: the roots do not need the node. Axes that never met may be products of the same factors.
int tarn_axes_find(const tarn_axes *t, const tarn_node *a, int d);
tarn_group tarn_axes_group(const tarn_axes *t, int class_id);  // the least of its parts'
void tarn_axes_free(tarn_axes *t);
const char *tarn_group_name(tarn_group g);

// ---- rules that rows share ----

// For element-wise rows of several operands: where one of them is stretched along an axis (a number,
// say), only permutations are left, but for products and quotients with it.
void tarn_axes_scaled(tarn_axes *t, const tarn_node *y);    // relu, abs, min, max: positive scales
void tarn_axes_signed(tarn_axes *t, const tarn_node *y);    // odd functions
void tarn_axes_permuted(tarn_axes *t, const tarn_node *y);  // any element-wise function
void tarn_axes_linear(tarn_axes *t, const tarn_node *y);    // sums and differences
void tarn_axes_product(tarn_axes *t, const tarn_node *y);   // x * y
void tarn_axes_quotient(tarn_axes *t, const tarn_node *y);  // x / y
void tarn_axes_rows(tarn_axes *t, const tarn_node *y);      // a function of whole rows that any order commutes with
void tarn_axes_none(tarn_axes *t, const tarn_node *y);      // leaves: nothing to link
void tarn_axes_fixed(tarn_axes *t, const tarn_node *y);     // made from the position: nothing moves

#endif
