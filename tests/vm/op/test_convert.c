// SPDX-License-Identifier: Apache-2.0
// Conversions against the naive twin (vm/tensor/element.c) and against PyTorch's tables: every
// pattern of the 8- and 16-bit types, boundary cases and samples of the wider ones, every pair of
// dtypes that is offered, every instruction set to the bit, at unaligned addresses.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/op/convert.h"
#include "vm/tensor/tensor.h"

static bool available(int isa) {
    return isa == TARN_ISA_V1 ||
           (isa == TARN_ISA_V3 && __builtin_cpu_supports("avx2") &&
            __builtin_cpu_supports("fma")) ||
           (isa == TARN_ISA_V4 && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"));
}

static uint64_t next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

enum { N = 65536 + 37 };
static unsigned char source[N * 8 + 8], wide[N * 8 + 8], got[N * 8 + 8], first[N * 8 + 8];

static size_t size_of(tarn_dtype t) { return (size_t)tarn_dtype_get(t)->bits / 8; }
static bool opaque(tarn_dtype t) { return tarn_dtype_get(t)->kind == TARN_KIND_OPAQUE; }

// Values where narrow floats and integers change their mind: around every power of two, around
// halfway points of each format, around the ends of the integers.
static double boundary(uint64_t *s) {
    int mantissa = (int)(next(s) % 12), e = (int)(next(s) % 320) - 170;
    double v =
        ldexp((double)(next(s) >> 8 & ((2U << mantissa) - 1)) + (next(s) >> 60 & 1 ? 0.5 : 0),
              e - mantissa);
    switch (next(s) >> 20 & 7) {
    case 0:
        v = nextafter(v, (double)INFINITY);
        break;
    case 1:
        v = nextafter(v, 0.0);
        break;
    case 2:
        v = (double)nextafterf((float)v, (float)INFINITY);
        break;
    case 3:
        v = (double)nextafterf((float)v, 0.0F);
        break;
    case 4:
        v = ldexp(1.0, (int)(next(s) % 70)) + ((double)(next(s) % 9) - 4) * 0.5;
        break;
    default:
        break;
    }
    return next(s) >> 50 & 1 ? -v : v;
}

static void fill(tarn_dtype t, unsigned char *p, uint64_t *s) {
    static const double special[] = {0.0,
                                     -0.0,
                                     (double)INFINITY,
                                     -(double)INFINITY,
                                     65504,
                                     65519.999,
                                     65520,
                                     448,
                                     464,
                                     480,
                                     57344,
                                     61440,
                                     240,
                                     247.999,
                                     248,
                                     0x1p-1074,
                                     -0x1p-1074,
                                     0x1p-149,
                                     0x1p-150,
                                     0x1.fffffep127,
                                     0x1.ffffffp127,
                                     0x1.fffffefffffffp127,
                                     0x1p63,
                                     -0x1p63,
                                     0x1p64,
                                     0x1p-127,
                                     0x1.8p-127,
                                     0x1.7ffffep-127,
                                     0x1.8p127,
                                     -1,
                                     0.5,
                                     1.5,
                                     2.5,
                                     -0.5};
    size_t size = size_of(t);
    for (int64_t i = 0; i < N; i++) {
        uint64_t u = next(s);
        if (size <= 2) {
            u = (uint64_t)i; // every pattern
        } else if (t == TARN_F32 || t == TARN_F64) {
            double v = i < (int64_t)(sizeof special / sizeof *special) ? special[i] : boundary(s);
            if (i % 3 == 0 && i > 100) {
                if (t == TARN_F32) {
                    u >>= 7;
                } else if (i % 2) { // a NaN, loud or quiet
                    u |= 0x7FF0000000000001ULL;
                }
            } else if (t == TARN_F32) {
                float f = (float)v;
                memcpy(&u, &f, 4);
            } else {
                memcpy(&u, &v, 8);
            }
        } else if (i % 2) {
            int bits = (int)(next(s) % 64);
            u = (1ULL << bits) + next(s) % 5 - 2;
            u = next(s) >> 60 & 1 ? 0 - u : u;
        } else {
            u >>= next(s) % 64;
        }
        memcpy(p + i * (int64_t)size, &u, size);
    }
}

// What an integer becomes as another: saturated, but u64 and i64 exchange bits.
static uint64_t integer_to(tarn_dtype from, tarn_dtype to, const void *p) {
    uint64_t u = 0;
    memcpy(&u, p, size_of(from));
    if (from == TARN_BOOL) {
        return u != 0;
    }
    if (to == TARN_BOOL) {
        return u != 0;
    }
    if (from == TARN_U64 || to == TARN_U64) {
        return u; // the other one is i64, u64 or bool
    }
    bool is_signed = from == TARN_I8 || from == TARN_I16 || from == TARN_I32 || from == TARN_I64;
    int shift = 64 - 8 * (int)size_of(from);
    int64_t x = is_signed ? (int64_t)(u << shift) >> shift : (int64_t)u;
    if (to == TARN_I64) {
        return (uint64_t)x;
    }
    int bits = 8 * (int)size_of(to);
    bool to_signed = to == TARN_I8 || to == TARN_I16 || to == TARN_I32;
    int64_t low = to_signed ? -((int64_t)1 << (bits - 1)) : 0;
    int64_t high = to_signed ? ((int64_t)1 << (bits - 1)) - 1 : ((int64_t)1 << bits) - 1;
    return (uint64_t)(x < low ? low : x > high ? high : x);
}

// Integers beyond 2^53 have no exact double, but long double holds them: the nearest narrow value
// is known by comparing with its neighbours.
static void check_big(tarn_dtype from, tarn_dtype to, const void *p, const void *q) {
    uint64_t u;
    memcpy(&u, p, 8);
    long double x = from == TARN_U64 ? (long double)u : (long double)(int64_t)u;
    if (to == TARN_F32) {
        float f;
        memcpy(&f, q, 4);
        assert_true(f == (float)x);
        return;
    }
    if (to == TARN_F64) {
        double d;
        memcpy(&d, q, 8);
        assert_true(d == (double)x);
        return;
    }
    if (to == TARN_BF16) {
        uint16_t code, below, above;
        memcpy(&code, q, 2);
        below = (uint16_t)(code - 1);
        above = (uint16_t)(code + 1);
        long double mid = fabsl((long double)tarn_element_get(to, &code) - x);
        long double down = fabsl((long double)tarn_element_get(to, &below) - x);
        long double up = fabsl((long double)tarn_element_get(to, &above) - x);
        assert_true(mid < down || (mid == down && code % 2 == 0));
        assert_true(mid < up || (mid == up && code % 2 == 0));
        return;
    }
    if (to == TARN_F8_E8M0) { // 0.75 and 1.5 times a power go up
        unsigned char code;
        memcpy(&code, q, 1);
        long double power = (long double)tarn_element_get(to, &code);
        assert_true(x < 0 ? code == 255 : x >= 0.75L * power && x < 1.5L * power);
        return;
    }
    unsigned char want[2]; // the others have overflowed
    tarn_element_set(to, want, (double)x);
    assert_memory_equal(q, want, size_of(to));
}

static void check_one(tarn_dtype from, tarn_dtype to, const void *p, const void *q) {
    tarn_kind fk = tarn_dtype_get(from)->kind, tk = tarn_dtype_get(to)->kind;
    if (from == to && from != TARN_BOOL) {
        assert_memory_equal(p, q, size_of(from));
        return;
    }
    if (fk != TARN_KIND_FLOAT && tk != TARN_KIND_FLOAT) {
        uint64_t want = integer_to(from, to, p);
        if (memcmp(q, &want, size_of(to)) != 0) {
            fail_msg("%s to %s", tarn_dtype_get(from)->name, tarn_dtype_get(to)->name);
        }
        return;
    }
    double v = tarn_element_get(from, p);
    if ((from == TARN_I64 || from == TARN_U64) && fabs(v) >= 0x1p53) {
        check_big(from, to, p, q);
        return;
    }
    unsigned char want[8] = {0};
    tarn_element_set(to, want, v);
    if (isnan(v) && tk == TARN_KIND_FLOAT) {
        double r = tarn_element_get(to, q);
        bool one_nan = to == TARN_F8_E8M0 || to == TARN_F8_E4M3FNUZ || to == TARN_F8_E5M2FNUZ;
        if (!isnan(r) || (!one_nan && !signbit(r) != !signbit(v))) {
            fail_msg("NaN, %s to %s", tarn_dtype_get(from)->name, tarn_dtype_get(to)->name);
        }
        return;
    }
    if (memcmp(q, want, size_of(to)) != 0) {
        uint64_t a = 0, b = 0;
        memcpy(&a, q, size_of(to));
        memcpy(&b, want, size_of(to));
        fail_msg("%s %a to %s: %llx, twin %llx", tarn_dtype_get(from)->name, v,
                 tarn_dtype_get(to)->name, (unsigned long long)a, (unsigned long long)b);
    }
}

static void test_every_pair(void **state) {
    uint64_t s = 99;
    int pairs = 0;
    for (int f = 0; f < TARN_DTYPE_COUNT; f++) {
        tarn_dtype from = (tarn_dtype)f;
        if (opaque(from)) {
            for (int t = 0; t < TARN_DTYPE_COUNT; t++) {
                assert_null(tarn_convert(TARN_ISA_V1, from, (tarn_dtype)t));
                assert_null(tarn_convert(TARN_ISA_V1, (tarn_dtype)t, from));
            }
            continue;
        }
        fill(from, wide, &s);
        for (int t = 0; t < TARN_DTYPE_COUNT; t++) {
            tarn_dtype to = (tarn_dtype)t;
            bool offered = !opaque(to) &&
                           (from == to || tarn_dtype_is_compute(from) || tarn_dtype_is_compute(to));
            size_t in = size_of(from), out = size_of(to);
            for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
                tarn_convert_fn fn = tarn_convert((tarn_isa)isa, from, to);
                assert_true((fn != NULL) == offered);
                if (!fn || !available(isa)) {
                    continue;
                }
                // Addresses off by one and three, and canaries around the output.
                memcpy(source + 1, wide, N * in);
                memset(got, 0xA5, sizeof got);
                fn(N, source + 1, got + 3);
                assert_true(got[2] == 0xA5 && got[3 + N * out] == 0xA5);
                if (isa == 0) {
                    pairs++;
                    memcpy(first, got + 3, N * out);
                    for (int64_t i = 0; i < N; i++) {
                        check_one(from, to, wide + (size_t)i * in, first + (size_t)i * out);
                    }
                } else {
                    assert_memory_equal(first, got + 3, N * out);
                }
                for (int64_t n = 0; n < 40; n++) { // short runs: nothing but the tail
                    memset(got, 0xA5, 400);
                    fn(n, source + 1, got + 3);
                    assert_memory_equal(first, got + 3, (size_t)n * out);
                    assert_true(got[3 + (size_t)n * out] == 0xA5);
                }
            }
        }
    }
    assert_int_equal(pairs, 4 * 18 + 14 * 4 + 14);
}

// The rules for NaN in the wide formats, by bits.
static void test_nan_bits(void **state) {
    for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
        if (!available(isa)) {
            continue;
        }
        uint32_t f[9];
        uint16_t h[9];
        double d[9];
        for (int i = 0; i < 9; i++) {
            f[i] = 0xFF812345; // loud, with a payload
        }
        tarn_convert((tarn_isa)isa, TARN_F32, TARN_BF16)(9, f, h);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(h[i], 0xFFC1);
        }
        tarn_convert((tarn_isa)isa, TARN_F32, TARN_F16)(9, f, h);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(h[i], 0xFE09);
            h[i] = 0xFD03;
        }
        tarn_convert((tarn_isa)isa, TARN_F16, TARN_F32)(9, h, f);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(f[i], 0xFFE06000);
            uint64_t u = 0x7FF0000000000001ULL;
            memcpy(&d[i], &u, 8);
        }
        tarn_convert((tarn_isa)isa, TARN_F64, TARN_BF16)(9, d, h);
        for (int i = 0; i < 9; i++) {
            assert_int_equal(h[i], 0x7FC0);
        }
    }
}

// Cases where rounding to f32 first would give the wrong neighbour.
static void test_single_rounding(void **state) {
    const struct {
        double x;
        uint16_t bf16, f16;
    } row[] = {
        {0x1.0100000000001p0, 0x3F81, 0x3C04},    {0x1.00fffffffffffp0, 0x3F80, 0x3C04},
        {0x1.0020000000001p0, 0x3F80, 0x3C01},    {0x1.001ffffffffffp0, 0x3F80, 0x3C00},
        {0x1.0000000000001p-25, 0x3300, 0x0001},  {0x1p-25, 0x3300, 0x0000},
        {0x1.0000000000001p-134, 0x0001, 0x0000}, {0x1p-134, 0x0000, 0x0000},
        {0x1.feffffffffffep127, 0x7F7F, 0x7C00},  {0x1.ffp127, 0x7F80, 0x7C00},
        {-0x1.0100000000001p0, 0xBF81, 0xBC04},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
            uint16_t h;
            if (available(isa)) {
                tarn_convert((tarn_isa)isa, TARN_F64, TARN_BF16)(1, &row[i].x, &h);
                assert_int_equal(h, row[i].bf16);
                tarn_convert((tarn_isa)isa, TARN_F64, TARN_F16)(1, &row[i].x, &h);
                assert_int_equal(h, row[i].f16);
            }
        }
        uint16_t h;
        tarn_element_set(TARN_BF16, &h, row[i].x);
        assert_int_equal(h, row[i].bf16);
        tarn_element_set(TARN_F16, &h, row[i].x);
        assert_int_equal(h, row[i].f16);
    }
}

// ---- PyTorch's tables ----

static FILE *golden(const char *name) {
    char path[512], line[256];
    snprintf(path, sizeof path, "%s/tests/golden/op/%s", TARN_SOURCE_DIR, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    return f;
}

static void test_torch_rounding(void **state) {
    static const tarn_dtype to[4] = {TARN_BF16, TARN_F16, TARN_F8_E4M3, TARN_F8_E5M2};
    FILE *f = golden("f32_to.tsv");
    char cell[5][16];
    int rows = 0;
    while (fscanf(f, "%15s %15s %15s %15s %15s", cell[0], cell[1], cell[2], cell[3], cell[4]) ==
           5) {
        rows++;
        uint32_t u = (uint32_t)strtoul(cell[0], NULL, 16);
        float x;
        memcpy(&x, &u, sizeof x);
        for (int k = 0; k < 4; k++) {
            bool nan = strcmp(cell[k + 1], "nan") == 0;
            unsigned long want = strtoul(cell[k + 1], NULL, 16);
            for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
                uint32_t in[9];
                unsigned char out[18];
                if (!available(isa)) {
                    continue;
                }
                for (int i = 0; i < 9; i++) {
                    in[i] = u;
                }
                tarn_convert((tarn_isa)isa, TARN_F32, to[k])(9, in, out);
                for (size_t i = 0; i < 9; i++) {
                    const unsigned char *p = out + i * size_of(to[k]);
                    if (nan) {
                        assert_true(isnan(tarn_element_get(to[k], p)));
                    } else {
                        assert_memory_equal(p, &want, size_of(to[k]));
                    }
                }
            }
            unsigned char twin[2];
            tarn_element_set(to[k], twin, (double)x);
            if (!nan) {
                assert_memory_equal(twin, &want, size_of(to[k]));
            }
        }
    }
    fclose(f);
    assert_int_equal(rows, 540);
}

static void test_decode_tables(void **state) {
    static const tarn_dtype from[5] = {TARN_F8_E4M3, TARN_F8_E5M2, TARN_F8_E8M0, TARN_F8_E4M3FNUZ,
                                       TARN_F8_E5M2FNUZ};
    FILE *f = golden("f8_decode.tsv");
    char cell[5][16];
    int code = 0;
    while (fscanf(f, "%15s %15s %15s %15s %15s", cell[0], cell[1], cell[2], cell[3], cell[4]) ==
           5) {
        for (int k = 0; k < 5; k++) {
            unsigned char c = (unsigned char)code;
            float x;
            tarn_convert(TARN_ISA_V1, from[k], TARN_F32)(1, &c, &x);
            double twin = tarn_element_get(from[k], &c);
            if (strcmp(cell[k], "nan") == 0) {
                assert_true(isnan(x) && isnan(twin));
            } else {
                uint32_t u = (uint32_t)strtoul(cell[k], NULL, 16);
                float want;
                memcpy(&want, &u, sizeof want);
                assert_memory_equal(&x, &u, sizeof u);
                assert_true(twin == (double)want && !signbit(twin) == !signbit(want));
            }
        }
        code++;
    }
    fclose(f);
    assert_int_equal(code, 256);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair),      cmocka_unit_test(test_nan_bits),
        cmocka_unit_test(test_single_rounding), cmocka_unit_test(test_torch_rounding),
        cmocka_unit_test(test_decode_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
