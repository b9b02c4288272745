// SPDX-License-Identifier: Apache-2.0
// Register tiles of convolutions. With the image's channels last and the weight packed by blocks of output
// channels, a tile needs one vector of weights and one broadcast a row for each step, and no copy of
// the image (im2col) at all: with 8 to 32 channels, making that copy costs more than the product.
#include "vm/op/kernel/conv.h"
#include "vm/op/kernel/isa.h"

#define VECTOR(T, BYTES) T __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias))
#define INLINE static inline __attribute__((always_inline))

// The first channels of each row of a tile.
#define NARROW(T)                                                                                 \
    static __attribute__((noinline)) void narrow_##T(const tarn_conv_tile *t, const T *part,      \
                                                     int rows, int block, T *c) {                 \
        for (int r = 0; r < rows; r++) {                                                          \
            for (int64_t v = 0; v < t->width; v++) {                                              \
                T *q = c + r * t->cr + v;                                                         \
                *q = t->add ? *q + part[r * block + v] : part[r * block + v];                     \
            }                                                                                     \
        }                                                                                         \
    }
NARROW(float)
NARROW(double)

// `NV` vectors of `BYTES` bytes make one block.
#define TILE(name, T, BYTES, NV)                                                                  \
    typedef VECTOR(T, BYTES) name##_v;                                                            \
    INLINE void name(const tarn_conv_tile *t, const T *a, const T *b, T *c, const int rows,       \
                     const bool each) {                                                           \
        enum { LANES = BYTES / sizeof(T) };                                                       \
        name##_v acc[TARN_CONV_ROWS][NV];                                                         \
        const int64_t ar = t->ar, ak = t->ak, bk = t->bk;                                         \
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {                                 \
            _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) { acc[r][v] = (name##_v){0}; }   \
        }                                                                                         \
        for (int64_t s = 0; s < t->segments; s++) {                                               \
            const T *p = a + t->at[s];                                                            \
            for (int64_t k = t->n[s]; k > 0; k--, p += ak, b += bk) {                             \
                name##_v w[NV];                                                                   \
                _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) {                            \
                    w[v] = *(const name##_v *)(b + v * LANES);                                    \
                }                                                                                 \
                _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {                         \
                    _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) {                        \
                        acc[r][v] += each ? *(const name##_v *)(p + r * ar + v * LANES) * w[v]    \
                                          : p[r * ar] * w[v];                                     \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        if (t->width < NV * LANES) {                                                              \
            T part[TARN_CONV_ROWS * NV * LANES];                                                  \
            _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {                             \
                _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) {                            \
                    *(name##_v *)(part + (r * NV + v) * LANES) = acc[r][v];                       \
                }                                                                                 \
            }                                                                                     \
            narrow_##T(t, part, rows, NV * LANES, c);                                             \
            return;                                                                               \
        }                                                                                         \
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {                                 \
            _Pragma("GCC unroll 4") for (int v = 0; v < NV; v++) {                                \
                name##_v *q = (name##_v *)(c + r * t->cr + v * LANES);                            \
                if (t->add) {                                                                     \
                    acc[r][v] += *q;                                                              \
                }                                                                                 \
                *q = acc[r][v];                                                                   \
            }                                                                                     \
        }                                                                                         \
    }

#define ONE(name, T, R)                                                                           \
    static void name##_one_##R(const tarn_conv_tile *t, const void *a, const void *b, void *c) {  \
        name(t, a, b, c, R, false);                                                               \
    }                                                                                             \
    static void name##_each_##R(const tarn_conv_tile *t, const void *a, const void *b, void *c) { \
        name(t, a, b, c, R, true);                                                                \
    }
#define ROWS_3(F, ...) F(__VA_ARGS__, 1) F(__VA_ARGS__, 2) F(__VA_ARGS__, 3)
#define ROWS_6(F, ...) ROWS_3(F, __VA_ARGS__) F(__VA_ARGS__, 4) F(__VA_ARGS__, 5) F(__VA_ARGS__, 6)
#define ROWS_12(F, ...)                                                                       \
    ROWS_6(F, __VA_ARGS__) F(__VA_ARGS__, 7) F(__VA_ARGS__, 8) F(__VA_ARGS__, 9)              \
        F(__VA_ARGS__, 10) F(__VA_ARGS__, 11) F(__VA_ARGS__, 12)
#define ROWS_14(F, ...) ROWS_12(F, __VA_ARGS__) F(__VA_ARGS__, 13) F(__VA_ARGS__, 14)

// Registers: 16 of 16 bytes, 16 of 32 bytes, 32 of 64 bytes.
#if defined(__AVX512F__)
#define HALF_BYTES 32
#define WHOLE_BYTES 64
#define HALF_ROWS ROWS_14
#define WHOLE_ROWS ROWS_14
#elif defined(__AVX2__)
#define HALF_BYTES 32
#define WHOLE_BYTES 32
#define HALF_ROWS ROWS_12
#define WHOLE_ROWS ROWS_6
#else
#define HALF_BYTES 16
#define WHOLE_BYTES 16
#define HALF_ROWS ROWS_6
#define WHOLE_ROWS ROWS_3
#endif

TILE(half_f32, float, HALF_BYTES, TARN_CONV_BLOCK / 2 / HALF_BYTES)
TILE(whole_f32, float, WHOLE_BYTES, TARN_CONV_BLOCK / WHOLE_BYTES)
TILE(half_f64, double, HALF_BYTES, TARN_CONV_BLOCK / 2 / HALF_BYTES)
TILE(whole_f64, double, WHOLE_BYTES, TARN_CONV_BLOCK / WHOLE_BYTES)
HALF_ROWS(ONE, half_f32, float)
WHOLE_ROWS(ONE, whole_f32, float)
HALF_ROWS(ONE, half_f64, double)
WHOLE_ROWS(ONE, whole_f64, double)

#define ENTRY_ONE(name, R) name##_one_##R,
#define ENTRY_EACH(name, R) name##_each_##R,
#define COUNT(name, R) +1

extern const tarn_conv_table TARN_ISA_NAME(tarn_conv_table);
const tarn_conv_table TARN_ISA_NAME(tarn_conv_table) = {
    .rows = {HALF_ROWS(COUNT, ), WHOLE_ROWS(COUNT, )},
    .run = {{{{HALF_ROWS(ENTRY_ONE, half_f32)}, {HALF_ROWS(ENTRY_EACH, half_f32)}},
             {{WHOLE_ROWS(ENTRY_ONE, whole_f32)}, {WHOLE_ROWS(ENTRY_EACH, whole_f32)}}},
            {{{HALF_ROWS(ENTRY_ONE, half_f64)}, {HALF_ROWS(ENTRY_EACH, half_f64)}},
             {{WHOLE_ROWS(ENTRY_ONE, whole_f64)}, {WHOLE_ROWS(ENTRY_EACH, whole_f64)}}}},
};
