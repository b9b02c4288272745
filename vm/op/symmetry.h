// SPDX-License-Identifier: Apache-2.0
// What a traced graph says of its parameters: which factors of which axes form one class, who of them
// is moved by the inverse, and on whose index a class may depend.
#ifndef TARN_OP_SYMMETRY_H
#define TARN_OP_SYMMETRY_H

#include "vm/op/axes.h"

typedef struct tarn_factor {
    int64_t size;
    int id;     // class, -1: it stays
    bool dual;  // moved by the inverse transposed: what reads the features, where producers are not
} tarn_factor;

typedef struct tarn_segment {
    int64_t offset, size;
    int first, n;  // factors, row-major, outermost first
} tarn_segment;

// An axis as segments one after another.
typedef struct tarn_axis_view {
    int segments, factors;
    tarn_segment segment[TARN_AXIS_PARTS];
    tarn_factor factor[4 * TARN_AXIS_PARTS];
} tarn_axis_view;

typedef struct tarn_symmetry_class {
    int64_t size;
    tarn_group group;
    bool anchored;  // on an axis of inputs or outputs: it stays, unless these may move
    int term;
    bool flip;      // duals of its term are told the other way round
    int nunder;     // classes on whose index it may depend, outermost first; -1: not known yet
    int under[TARN_MAX_RANK];
} tarn_symmetry_class;

typedef struct tarn_symmetry {
    tarn_axes *axes;  // traced; keeps the memory of what follows
    int n;
    tarn_symmetry_class *classes;  // [n] in order of the parameters that they are first seen in
    int *id;                       // [terms] class of a term, -1: none
} tarn_symmetry;

tarn_status tarn_symmetry_of(tarn_axes *t, int nparams, const tarn_node *const *params,
                             tarn_symmetry *out, tarn_error *err);
// Axis d of n; fixed where the graph's roots do not need n.
void tarn_symmetry_axis(const tarn_symmetry *s, const tarn_node *n, int d, tarn_axis_view *out);

#endif
