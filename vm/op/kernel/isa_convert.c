// SPDX-License-Identifier: Apache-2.0
// Conversions as plain loops over inline functions that convert one element: integer arithmetic and
// selections, which the compiler vectorises. Compiled once per instruction set; f16 uses the F16C
// instructions where they are (the same bits). Semantics: vm/op/convert.h. The naive twin that
// tests compare with is vm/tensor/element.c.
//
// The trick: a wide number (f64, i64) narrows through f32 rounded to odd (inexact results get an
// odd last bit). f32 has more than two bits over every narrower type, so the second rounding, to
// nearest even, then sees what it needs, and the whole rounds once.
#include "vm/op/kernel/convert.h"

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "vm/op/kernel/isa.h"
#include "vm/op/kernel/math.h"

// ---- narrow floats from the bits of an f32 ----

// x (sign apart) to a format of `mant` mantissa bits and the given bias, by round to nearest even;
// codes past `max` become `over`. NaN is the caller's.
static inline uint32_t round_to(uint32_t a, int mant, int bias, int32_t max, uint32_t over) {
    const int drop = 23 - mant;
    const uint32_t half = (1U << (drop - 1)) - 1;
    // Adding 2^(1 - bias - mant + 23) leaves the subnormal code, rounded, in the low bits.
    const uint32_t magic = (uint32_t)(127 + 1 - bias + drop) << 23;
    uint32_t normal = (a + half + ((a >> drop) & 1) - ((uint32_t)(127 - bias) << 23)) >> drop;
    uint32_t tiny = tk_bitsf(tk_from_bitsf(a) + tk_from_bitsf(magic)) - magic;
    uint32_t r = (int32_t)a < (int32_t)((uint32_t)(128 - bias) << 23) ? tiny : normal;
    return (int32_t)r > max ? over : r;
}

static inline uint16_t bf16_of(uint32_t u) {
    uint32_t r = (u + 0x7FFF + ((u >> 16) & 1)) >> 16;
    return (uint16_t)((int32_t)(u & 0x7FFFFFFF) > 0x7F800000 ? (u >> 16) | 0x40 : r);
}

static inline uint16_t f16_of(uint32_t u) {
    uint32_t a = u & 0x7FFFFFFF, sign = (u >> 16) & 0x8000;
    uint32_t r = round_to(a, 10, 15, 0x7BFF, 0x7C00);
    return (uint16_t)(sign | ((int32_t)a > 0x7F800000 ? 0x7E00 | (a >> 13 & 0x3FF) : r));
}

static inline uint8_t f8_e5m2_of(uint32_t u) {
    uint32_t a = u & 0x7FFFFFFF, sign = (u >> 24) & 0x80;
    uint32_t r = round_to(a, 2, 15, 0x7B, 0x7C);
    return (uint8_t)(sign | ((int32_t)a > 0x7F800000 ? 0x7F : r));
}

static inline uint8_t f8_e4m3_of(uint32_t u) {
    uint32_t a = u & 0x7FFFFFFF, sign = (u >> 24) & 0x80;
    uint32_t r = round_to(a, 3, 7, 0x7E, 0x7E);
    return (uint8_t)(sign | ((int32_t)a > 0x7F800000 ? 0x7F : r));
}

// The fnuz types have one zero and, at its negative, one NaN.
static inline uint8_t fnuz_of(uint32_t u, int mant, int bias) {
    uint32_t a = u & 0x7FFFFFFF, sign = (u >> 24) & 0x80;
    uint32_t r = round_to(a, mant, bias, 0x7F, 0x80);
    r = r == 0 ? 0 : r | sign;
    return (uint8_t)((int32_t)a > 0x7F800000 ? 0x80 : r);
}
static inline uint8_t f8_e4m3fnuz_of(uint32_t u) { return fnuz_of(u, 3, 8); }
static inline uint8_t f8_e5m2fnuz_of(uint32_t u) { return fnuz_of(u, 2, 16); }

static inline uint8_t f8_e8m0_of(uint32_t u) {
    uint32_t a = u & 0x7FFFFFFF;
    uint32_t r = (a + 0x400000) >> 23;
    r = (int32_t)a < 0x800000 ? ((int32_t)a < 0x600000 ? 0 : 1) : r;
    uint32_t negative = (int32_t)u < 0 ? 0xFF : r;
    r = a == 0 ? 0 : negative;
    return (uint8_t)((int32_t)a >= 0x7F800000 ? 0xFF : r);
}

// ---- f32 bits from narrow floats ----

static inline uint32_t of_bf16(uint16_t h) { return (uint32_t)h << 16; }

// Magnitude code -> f32, exact: the code shifted into place is the value scaled by 2^(bias - 127).
static inline uint32_t widen(uint32_t code, int mant, int bias) {
    float scale = tk_from_bitsf((uint32_t)(127 + 127 - bias) << 23);
    return tk_bitsf(tk_from_bitsf(code << (23 - mant)) * scale);
}

static inline uint32_t of_f16(uint16_t h) {
    uint32_t a = h & 0x7FFFU, sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t r = widen(a, 10, 15);
    r = (int32_t)a >= 0x7C00 ? r | 0x7F800000 : r;
    return sign | ((int32_t)a > 0x7C00 ? r | 0x400000 : r);
}

static inline uint32_t of_f8_e5m2(uint8_t c) { return of_f16((uint16_t)((uint32_t)c << 8)); }

static inline uint32_t of_f8_e4m3(uint8_t c) {
    uint32_t a = c & 0x7FU, r = widen(a, 3, 7);
    return (uint32_t)(c & 0x80U) << 24 | (a == 0x7F ? 0x7FC00000 : r);
}

static inline uint32_t of_fnuz(uint8_t c, int mant, int bias) {
    uint32_t r = (uint32_t)(c & 0x80U) << 24 | widen(c & 0x7FU, mant, bias);
    return c == 0x80 ? 0x7FC00000 : r;
}
static inline uint32_t of_f8_e4m3fnuz(uint8_t c) { return of_fnuz(c, 3, 8); }
static inline uint32_t of_f8_e5m2fnuz(uint8_t c) { return of_fnuz(c, 2, 16); }

static inline uint32_t of_f8_e8m0(uint8_t c) {
    uint32_t r = c == 0 ? 0x400000U : (uint32_t)c << 23;
    return c == 0xFF ? 0x7FC00000 : r;
}

// ---- between the wide types ----

// f64 to the bits of an f32, rounded to odd: of the two neighbours of an inexact value, the odd
// one.
static inline uint32_t odd_f32(double x) {
    float f = (float)x;
    double back = (double)f;
    uint32_t u = tk_bitsf(f);
    uint32_t step = tk_abs(back) > tk_abs(x) ? 0xFFFFFFFFU : 1U;
    uint32_t odd = u + ((u & 1) ^ 1) * step; // away from an even nearest, towards x
    double lower = back < x ? 1.0 : 0.0;
    double inexact = back > x ? 1.0 : lower; // NaN: 0
    return inexact != 0.0 ? odd : u;
}

// i64 to f64 rounded to odd: bits below the mantissa fold into its last one.
static inline double odd_f64(int64_t x) {
    uint64_t a = x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
    uint64_t folded = (a >> 11) | ((a & 0x7FF) != 0);
    double r = a >> 53 ? (double)(int64_t)folded * 0x1p11 : (double)(int64_t)a;
    return x < 0 ? -r : r;
}

static inline double integer_near(double x) { // any x; NaN becomes 0
    double a = tk_abs(x);
    double r = a < 0x1p52 ? (a + 0x1p52) - 0x1p52 : a;
    r = tk_with_sign(r, x);
    return x != x ? 0.0 : r;
}

static inline int64_t i64_of(double x) {
    double r = integer_near(x);
    int64_t v = (int64_t)(tk_abs(r) < 0x1p63 ? r : 0.0);
    v = r >= 0x1p63 ? INT64_MAX : v;
    return r <= -0x1p63 ? INT64_MIN : v;
}

static inline uint64_t u64_of(double x) {
    double r = integer_near(x);
    r = r < 0.0 ? 0.0 : r;
    return r >= 0x1p64 ? UINT64_MAX : (uint64_t)r;
}

// The low 32 bits of the integer nearest to x within [low, high].
static inline uint32_t int_of(double x, double low, double high) {
    double r = tk_clamp(x != x ? 0.0 : x, low, high);
    return (uint32_t)tk_bits(r + TK_MAGIC);
}

static inline int64_t clamp_i64(int64_t x, int64_t low, int64_t high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

// ---- loops ----

// Arrays need no alignment, hence memcpy.
#define CONVERT(from, to, S, D, expr)                                                              \
    static void from##_to_##to(int64_t n, const void *src, void *dst) {                            \
        const unsigned char *restrict s = src;                                                     \
        unsigned char *restrict d = dst;                                                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            S x;                                                                                   \
            memcpy(&x, s + i * (int64_t)sizeof x, sizeof x);                                       \
            D y = (D)(expr);                                                                       \
            memcpy(d + i * (int64_t)sizeof y, &y, sizeof y);                                       \
        }                                                                                          \
    }
#define COPY(type, size)                                                                           \
    static void type##_to_##type(int64_t n, const void *src, void *dst) {                          \
        memcpy(dst, src, (size_t)n *(size));                                                       \
    }

#define FLOAT_LOADS(t, T)                                                                          \
    CONVERT(t, f64, T, double, tk_from_bitsf(of_##t(x)))                                           \
    CONVERT(t, i64, T, int64_t, i64_of((double)tk_from_bitsf(of_##t(x))))                          \
    CONVERT(t, b8, T, uint8_t, tk_from_bitsf(of_##t(x)) != 0.0F)
#define FLOAT_STORES(t, T)                                                                         \
    CONVERT(f64, t, double, T, t##_of(odd_f32(x)))                                                 \
    CONVERT(i64, t, int64_t, T, t##_of(odd_f32(odd_f64(x))))                                       \
    CONVERT(b8, t, uint8_t, T, t##_of(x ? 0x3F800000 : 0))                                         \
    COPY(t, sizeof(T))
#define FLOAT(t, T)                                                                                \
    CONVERT(t, f32, T, float, tk_from_bitsf(of_##t(x)))                                            \
    CONVERT(f32, t, float, T, t##_of(tk_bitsf(x)))                                                 \
    FLOAT_LOADS(t, T)                                                                              \
    FLOAT_STORES(t, T)
FLOAT(bf16, uint16_t)
FLOAT(f8_e4m3, uint8_t)
FLOAT(f8_e5m2, uint8_t)
FLOAT(f8_e8m0, uint8_t)
FLOAT(f8_e4m3fnuz, uint8_t)
FLOAT(f8_e5m2fnuz, uint8_t)
FLOAT_LOADS(f16, uint16_t)
FLOAT_STORES(f16, uint16_t)

#if defined(__F16C__)
static void f16_to_f32(int64_t n, const void *src, void *dst) {
    const unsigned char *s = src;
    unsigned char *d = dst;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m128i h = _mm_loadu_si128((const __m128i *)(const void *)(s + 2 * i));
        _mm256_storeu_ps((float *)(void *)(d + 4 * i), _mm256_cvtph_ps(h));
    }
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, s + 2 * i, 2);
        uint32_t u = of_f16(h);
        memcpy(d + 4 * i, &u, 4);
    }
}
static void f32_to_f16(int64_t n, const void *src, void *dst) {
    const unsigned char *s = src;
    unsigned char *d = dst;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 x = _mm256_loadu_ps((const float *)(const void *)(s + 4 * i));
        _mm_storeu_si128((__m128i *)(void *)(d + 2 * i),
                         _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    for (; i < n; i++) {
        uint32_t u;
        memcpy(&u, s + 4 * i, 4);
        uint16_t h = f16_of(u);
        memcpy(d + 2 * i, &h, 2);
    }
}
#else
CONVERT(f16, f32, uint16_t, float, tk_from_bitsf(of_f16(x)))
CONVERT(f32, f16, float, uint16_t, f16_of(tk_bitsf(x)))
#endif

CONVERT(f32, f64, float, double, x)
CONVERT(f64, f32, double, float, x)
CONVERT(f32, i64, float, int64_t, i64_of((double)x))
CONVERT(f64, i64, double, int64_t, i64_of(x))
CONVERT(i64, f32, int64_t, float, x)
CONVERT(i64, f64, int64_t, double, x)
CONVERT(f32, b8, float, uint8_t, x != 0.0F)
CONVERT(f64, b8, double, uint8_t, x != 0.0)
CONVERT(i64, b8, int64_t, uint8_t, x != 0)
CONVERT(b8, b8, uint8_t, uint8_t, x != 0)
CONVERT(b8, f32, uint8_t, float, x != 0)
CONVERT(b8, f64, uint8_t, double, x != 0)
CONVERT(b8, i64, uint8_t, int64_t, x != 0)
COPY(f32, 4)
COPY(f64, 8)
COPY(i64, 8)

#define INT(t, T, low, high)                                                                       \
    CONVERT(t, f32, T, float, x)                                                                   \
    CONVERT(t, f64, T, double, x)                                                                  \
    CONVERT(t, i64, T, int64_t, x)                                                                 \
    CONVERT(t, b8, T, uint8_t, x != 0)                                                             \
    CONVERT(f32, t, float, T, int_of((double)x, low, high))                                        \
    CONVERT(f64, t, double, T, int_of(x, low, high))                                               \
    CONVERT(i64, t, int64_t, T, clamp_i64(x, low, high))                                           \
    CONVERT(b8, t, uint8_t, T, x != 0)                                                             \
    COPY(t, sizeof(T))
INT(u8, uint8_t, 0, UINT8_MAX)
INT(i8, int8_t, INT8_MIN, INT8_MAX)
INT(i16, int16_t, INT16_MIN, INT16_MAX)
INT(u16, uint16_t, 0, UINT16_MAX)
INT(i32, int32_t, INT32_MIN, INT32_MAX)
INT(u32, uint32_t, 0, UINT32_MAX)

CONVERT(u64, f32, uint64_t, float, x)
CONVERT(u64, f64, uint64_t, double, x)
CONVERT(u64, b8, uint64_t, uint8_t, x != 0)
CONVERT(f32, u64, float, uint64_t, u64_of((double)x))
CONVERT(f64, u64, double, uint64_t, u64_of(x))
CONVERT(b8, u64, uint8_t, uint64_t, x != 0)
COPY(u64, 8)
#define u64_to_i64 u64_to_u64 // the bits are kept
#define i64_to_u64 u64_to_u64

// ---- the table ----

#define ROW(T, t)                                                                                  \
    [T] = {[TARN_F32] = t##_to_f32,                                                                \
           [TARN_F64] = t##_to_f64,                                                                \
           [TARN_I64] = t##_to_i64,                                                                \
           [TARN_BOOL] = t##_to_b8,                                                                \
           [T] = t##_to_##t}
#define ROW_ALL(T, t)                                                                              \
    [T] = {[TARN_BOOL] = t##_to_b8,                                                                \
           [TARN_U8] = t##_to_u8,                                                                  \
           [TARN_I8] = t##_to_i8,                                                                  \
           [TARN_F8_E5M2] = t##_to_f8_e5m2,                                                        \
           [TARN_F8_E4M3] = t##_to_f8_e4m3,                                                        \
           [TARN_F8_E8M0] = t##_to_f8_e8m0,                                                        \
           [TARN_F8_E4M3FNUZ] = t##_to_f8_e4m3fnuz,                                                \
           [TARN_F8_E5M2FNUZ] = t##_to_f8_e5m2fnuz,                                                \
           [TARN_I16] = t##_to_i16,                                                                \
           [TARN_U16] = t##_to_u16,                                                                \
           [TARN_F16] = t##_to_f16,                                                                \
           [TARN_BF16] = t##_to_bf16,                                                              \
           [TARN_I32] = t##_to_i32,                                                                \
           [TARN_U32] = t##_to_u32,                                                                \
           [TARN_F32] = t##_to_f32,                                                                \
           [TARN_F64] = t##_to_f64,                                                                \
           [TARN_I64] = t##_to_i64,                                                                \
           [TARN_U64] = t##_to_u64}

const tarn_convert_table TARN_ISA_NAME(tarn_convert_table) = {{
    ROW_ALL(TARN_BOOL, b8),
    ROW_ALL(TARN_F32, f32),
    ROW_ALL(TARN_F64, f64),
    ROW_ALL(TARN_I64, i64),
    ROW(TARN_U8, u8),
    ROW(TARN_I8, i8),
    ROW(TARN_I16, i16),
    ROW(TARN_U16, u16),
    ROW(TARN_I32, i32),
    ROW(TARN_U32, u32),
    ROW(TARN_U64, u64),
    ROW(TARN_F16, f16),
    ROW(TARN_BF16, bf16),
    ROW(TARN_F8_E4M3, f8_e4m3),
    ROW(TARN_F8_E5M2, f8_e5m2),
    ROW(TARN_F8_E8M0, f8_e8m0),
    ROW(TARN_F8_E4M3FNUZ, f8_e4m3fnuz),
    ROW(TARN_F8_E5M2FNUZ, f8_e5m2fnuz),
}};
