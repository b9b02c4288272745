// SPDX-License-Identifier: Apache-2.0
#include "vm/tensor/dtype.h"

#include <string.h>

static const tarn_dtype_info table[TARN_DTYPE_COUNT] = {
    [TARN_BOOL] = {"bool", "BOOL", 8, TARN_KIND_BOOL},
    [TARN_F4] = {"f4", "F4", 4, TARN_KIND_OPAQUE},
    [TARN_F6_E2M3] = {"f6_e2m3", "F6_E2M3", 6, TARN_KIND_OPAQUE},
    [TARN_F6_E3M2] = {"f6_e3m2", "F6_E3M2", 6, TARN_KIND_OPAQUE},
    [TARN_U8] = {"u8", "U8", 8, TARN_KIND_INT},
    [TARN_I8] = {"i8", "I8", 8, TARN_KIND_INT},
    [TARN_F8_E5M2] = {"f8_e5m2", "F8_E5M2", 8, TARN_KIND_FLOAT},
    [TARN_F8_E4M3] = {"f8_e4m3", "F8_E4M3", 8, TARN_KIND_FLOAT},
    [TARN_F8_E8M0] = {"f8_e8m0", "F8_E8M0", 8, TARN_KIND_FLOAT},
    [TARN_F8_E4M3FNUZ] = {"f8_e4m3fnuz", "F8_E4M3FNUZ", 8, TARN_KIND_FLOAT},
    [TARN_F8_E5M2FNUZ] = {"f8_e5m2fnuz", "F8_E5M2FNUZ", 8, TARN_KIND_FLOAT},
    [TARN_I16] = {"i16", "I16", 16, TARN_KIND_INT},
    [TARN_U16] = {"u16", "U16", 16, TARN_KIND_INT},
    [TARN_F16] = {"f16", "F16", 16, TARN_KIND_FLOAT},
    [TARN_BF16] = {"bf16", "BF16", 16, TARN_KIND_FLOAT},
    [TARN_I32] = {"i32", "I32", 32, TARN_KIND_INT},
    [TARN_U32] = {"u32", "U32", 32, TARN_KIND_INT},
    [TARN_F32] = {"f32", "F32", 32, TARN_KIND_FLOAT},
    [TARN_C64] = {"c64", "C64", 64, TARN_KIND_OPAQUE},
    [TARN_F64] = {"f64", "F64", 64, TARN_KIND_FLOAT},
    [TARN_I64] = {"i64", "I64", 64, TARN_KIND_INT},
    [TARN_U64] = {"u64", "U64", 64, TARN_KIND_INT},
};

const tarn_dtype_info *tarn_dtype_get(tarn_dtype t) { return &table[t]; }

bool tarn_dtype_find(const char *name, tarn_dtype *out) {
    static const struct {
        const char *name;
        tarn_dtype dtype;
    } alias[] = {
        {"float32", TARN_F32}, {"float", TARN_F32},   {"float16", TARN_F16}, {"half", TARN_F16},
        {"bfloat16", TARN_BF16}, {"float64", TARN_F64}, {"double", TARN_F64},  {"int64", TARN_I64},
        {"long", TARN_I64},    {"int32", TARN_I32},   {"int16", TARN_I16},   {"int8", TARN_I8},
        {"uint8", TARN_U8},    {"float8_e4m3fn", TARN_F8_E4M3}, {"float8_e5m2", TARN_F8_E5M2},
    };
    if (strncmp(name, "torch.", 6) == 0) {
        name += 6;
    }
    for (int i = 0; i < TARN_DTYPE_COUNT; i++) {
        if (strcmp(name, table[i].name) == 0 || strcmp(name, table[i].code) == 0) {
            *out = (tarn_dtype)i;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof alias / sizeof *alias; i++) {
        if (strcmp(name, alias[i].name) == 0) {
            *out = alias[i].dtype;
            return true;
        }
    }
    return false;
}

tarn_dtype tarn_dtype_compute(tarn_dtype t) {
    switch (table[t].kind) {
    case TARN_KIND_FLOAT:
        return t == TARN_F64 ? TARN_F64 : TARN_F32;
    case TARN_KIND_INT:
        return TARN_I64;
    case TARN_KIND_BOOL:
        return TARN_BOOL;
    case TARN_KIND_OPAQUE:
    default:
        return t;
    }
}
