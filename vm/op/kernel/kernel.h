// SPDX-License-Identifier: Apache-2.0
// The table of kernels: tile functions of element-wise operations and fold functions of reductions,
// by working dtype. Compiled once per instruction set from the same source; the bits are the same on
// each, because nothing is contracted, re-associated or left to libm.
#ifndef TARN_OP_KERNEL_H
#define TARN_OP_KERNEL_H

#include "vm/op/op.h"

// Working dtypes, in the order of the table's columns.
enum { TARN_W_F32, TARN_W_F64, TARN_W_I64, TARN_W_BOOL, TARN_W_COUNT };

static inline int tarn_work(tarn_dtype t) {
    return t == TARN_F32 ? TARN_W_F32 : t == TARN_F64 ? TARN_W_F64 : t == TARN_I64 ? TARN_W_I64
                                                                                  : TARN_W_BOOL;
}
static inline size_t tarn_work_size(tarn_dtype t) {
    return t == TARN_F32 ? 4 : t == TARN_BOOL ? 1 : 8;
}

// clang-format off
#define TARN_TILE_KERNELS(K)                                                                     \
    K(add) K(sub) K(mul) K(div) K(pow) K(minimum) K(maximum) K(atan2) K(neg) K(abs) K(sign)      \
    K(sqrt) K(rsqrt) K(exp) K(log) K(tanh) K(sigmoid) K(erf) K(sin) K(cos) K(acos) K(relu)       \
    K(floor) K(round) K(eq) K(ne) K(lt) K(le) K(gt) K(ge) K(logical_and) K(logical_or)           \
    K(logical_not) K(log1p) K(dropout) K(gelu) K(gelu_slope) K(gelu_tanh) \
    K(gelu_tanh_slope) K(silu) K(silu_slope) K(isfinite) K(where) K(top) K(iota) K(bernoulli) K(uniform) K(normal)
#define TARN_FOLD_KERNELS(K) K(sum) K(dot) K(max) K(min) K(argmax) K(argmin) K(kth)
// clang-format on

enum {
#define K(name) TARN_K_##name,
    TARN_TILE_KERNELS(K)
#undef K
    TARN_K_COUNT,
};
enum {
#define K(name) TARN_KF_##name,
    TARN_FOLD_KERNELS(K)
#undef K
    TARN_KF_COUNT,
};

// Rows of up to TARN_TILE elements, `stride` elements apart: what fold and close yield for each.
typedef void (*tarn_rows_fn)(int64_t n, int64_t length, int64_t stride, const void *x, double *part);
// The tree over rows (vm/op/columns.h), n neighbouring columns at once: the part of one row, or of a
// subtree of TARN_SUBTREE rows `stride` elements apart; and the part of two subtrees, `next` the later.
enum { TARN_SUBTREE = 8, TARN_SUBTREE_LEVEL = 3 };
typedef void (*tarn_columns_fn)(int64_t rows, int64_t n, int64_t stride, const void *x, double *part);
typedef void (*tarn_join_fn)(int64_t n, double *part, const double *next);

typedef struct tarn_kernels {
    tarn_tile_fn tile[TARN_K_COUNT][TARN_W_COUNT];
    tarn_fold_fn fold[TARN_KF_COUNT][TARN_W_COUNT];
    tarn_rows_fn rows[TARN_KF_COUNT][TARN_W_COUNT];        // NULL: fold row by row
    tarn_columns_fn columns[TARN_KF_COUNT][TARN_W_COUNT];  // NULL: column by column
    tarn_join_fn join[TARN_KF_COUNT];                      // of the same rows
} tarn_kernels;

const tarn_kernels *tarn_kernels_get(tarn_isa isa);
extern const tarn_kernels tarn_kernels_v1, tarn_kernels_v3, tarn_kernels_v4;

// Accumulators of the folds.
typedef struct tarn_acc_lanes {  // sum, dot: element i goes to lane i mod 16
    double lane[16];
} tarn_acc_lanes;
typedef struct tarn_acc_extreme {  // max, min
    double value;
    int64_t n;
} tarn_acc_extreme;
typedef struct tarn_acc_arg {  // argmax, argmin: the first of equals
    double value;
    int64_t index;  // -1: none yet
} tarn_acc_arg;

// kth: radix selection over 16-bit digits, of the ordered bits of the values first, then (where
// equals have to be told apart) of the indices. One digit a sweep.
enum { TARN_KTH_BINS = 65536 };
typedef struct tarn_kth_state {
    int64_t k;        // how many are still to be kept among those that match `prefix`
    int64_t n;        // elements in all
    uint64_t prefix;  // the value digits found so far
    int shift;        // bits below the digit being counted; value phase
    int index_phase;  // 1: the value is known, digits of the index are counted
    uint64_t index_prefix;
    int index_shift;
    int bits;  // 32 or 64: width of the keys; set by the first fold
} tarn_kth_state;

// Order-preserving keys of floats: a < b as floats iff key(a) < key(b). Both zeros have one key, as
// they are equal. A positive NaN sorts above infinity, a negative one below everything.
static inline uint32_t tarn_key32(uint32_t u) {
    u = u == 0x80000000U ? 0 : u;
    return u >> 31 ? ~u : u | 0x80000000U;
}
static inline uint64_t tarn_key64(uint64_t u) {
    u = u == 1ULL << 63 ? 0 : u;
    return u >> 63 ? ~u : u | (1ULL << 63);
}

#endif
