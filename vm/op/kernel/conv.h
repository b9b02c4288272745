// SPDX-License-Identifier: Apache-2.0
// The register tile of convolutions: rows of c (positions of a map, or rows of a weight's gradient)
// times one block of channels, kept in registers over the whole sum. Every element of c is summed
// in the order of the segments, one product and one sum at a time, so the bits are the same for
// each instruction set and each way of cutting work into tiles.
#ifndef TARN_OP_KERNEL_CONV_H
#define TARN_OP_KERNEL_CONV_H

#include "vm/op/op.h"

enum {
    TARN_CONV_ROWS = 14,
    TARN_CONV_BLOCK = 64
};  // rows of a tile at most; bytes of a block: this or half

// c[r, v] (+)= sum over segments s, k < n[s] of a[at[s] + k ak + r ar (+ v)] · b[j bk + v], where j
// counts all k of all segments. Steps are in elements.
typedef struct tarn_conv_tile {
    int64_t segments;
    const int64_t *at, *n;
    int64_t ar, ak, bk, cr;
    int64_t width;  // elements of the block that are stored
    bool add;       // to what c holds
} tarn_conv_tile;

typedef void (*tarn_conv_fn)(const tarn_conv_tile *t, const void *a, const void *b, void *c);

typedef struct tarn_conv_table {
    int rows[2];  // of a tile at most, for half and whole blocks
    // By dtype (f32, f64), block (half, whole), a's element (one for the block, one for each
    // channel), rows - 1
    tarn_conv_fn run[2][2][2][TARN_CONV_ROWS];
} tarn_conv_table;

extern const tarn_conv_table tarn_conv_table_v1, tarn_conv_table_v3, tarn_conv_table_v4;

#endif
