// SPDX-License-Identifier: Apache-2.0
// Data types. Every type can be stored; arithmetic happens in four of them only (f64, f32, i64,
// bool): `tarn_dtype_compute` says which one a stored type is read into. Codes are safetensors'.
#ifndef TARN_TENSOR_DTYPE_H
#define TARN_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// In the order of the safetensors reference (ascending alignment): writers sort by it, descending. The
// numbers stand in plans (a cast inside merge.map), so they never change.
typedef enum {
    TARN_BOOL = 0,
    TARN_F4,
    TARN_F6_E2M3,
    TARN_F6_E3M2,
    TARN_U8,
    TARN_I8,
    TARN_F8_E5M2,
    TARN_F8_E4M3,
    TARN_F8_E8M0,
    TARN_F8_E4M3FNUZ,
    TARN_F8_E5M2FNUZ,
    TARN_I16,
    TARN_U16,
    TARN_F16,
    TARN_BF16,
    TARN_I32,
    TARN_U32,
    TARN_F32,
    TARN_C64,
    TARN_F64,
    TARN_I64,
    TARN_U64,
    TARN_DTYPE_COUNT
} tarn_dtype;

typedef enum { TARN_KIND_FLOAT, TARN_KIND_INT, TARN_KIND_BOOL, TARN_KIND_OPAQUE } tarn_kind;

typedef struct tarn_dtype_info {
    const char *name;  // tarn's: "bf16"
    const char *code;  // safetensors': "BF16"
    int bits;          // per element
    tarn_kind kind;    // OPAQUE: copied only, never read as numbers (F4, F6, C64)
} tarn_dtype_info;

const tarn_dtype_info *tarn_dtype_get(tarn_dtype t);
// By tarn's name, safetensors' code, or the field's long names (float32, bfloat16, torch.float16 …).
// Returns false when unknown.
bool tarn_dtype_find(const char *name, tarn_dtype *out);
// Bytes of n elements; sub-byte types round up (the format refuses uneven ones before).
static inline size_t tarn_dtype_bytes(tarn_dtype t, int64_t n) {
    return (size_t)(((uint64_t)n * (uint64_t)tarn_dtype_get(t)->bits + 7) / 8);
}
// The type that arithmetic on a stored type happens in: F64, F32, I64 or BOOL (OPAQUE types: the
// type itself, which no operation accepts).
tarn_dtype tarn_dtype_compute(tarn_dtype t);
static inline bool tarn_dtype_is_compute(tarn_dtype t) {
    return t == TARN_F32 || t == TARN_F64 || t == TARN_I64 || t == TARN_BOOL;
}
static inline bool tarn_dtype_is_float(tarn_dtype t) {
    return tarn_dtype_get(t)->kind == TARN_KIND_FLOAT;
}

#endif
