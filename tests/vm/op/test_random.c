// SPDX-License-Identifier: Apache-2.0
// Random numbers: published vectors, the layout written out naively, independence of tiling and of
// the instruction set, moments.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vm/op/kernel/random.h"

static bool available(int isa) {
    return isa == TARN_ISA_V1 ||
           (isa == TARN_ISA_V3 && __builtin_cpu_supports("avx2") &&
            __builtin_cpu_supports("fma")) ||
           (isa == TARN_ISA_V4 && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"));
}
#define EACH_ISA(isa)                                                                              \
    for (int isa = 0; isa < TARN_ISA_COUNT; isa++)                                                 \
        if (available(isa))

// Known answers published with Random123.
static void test_vectors(void **state) {
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } row[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        uint32_t got[4];
        tarn_philox(row[i].counter, row[i].key, got);
        assert_memory_equal(got, row[i].want, sizeof got);
    }
    EACH_ISA(isa) {
        uint32_t got[4];
        tarn_random((tarn_isa)isa)->words(0, 0, 4, got);
        assert_memory_equal(got, row[0].want, sizeof got);
    }
}

// ---- the layout, element by element ----

static void block_of(uint64_t key, uint64_t block, uint32_t stream, uint32_t w[4]) {
    const uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    const uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), stream, 0};
    tarn_philox(c, k, w);
}
static uint32_t word_at(uint64_t key, int64_t i) {
    uint32_t w[4];
    block_of(key, (uint64_t)i / 4, 0, w);
    return w[i % 4];
}
static double unit(uint32_t a, uint32_t b) {
    return ldexp(ldexp((double)(a >> 5), 26) + (double)(b >> 6), -53);
}
static double uniform_at(uint64_t key, int64_t i) {
    uint32_t w[4];
    block_of(key, (uint64_t)i / 2, 1, w);
    return i % 2 ? unit(w[2], w[3]) : unit(w[0], w[1]);
}
static const long double two_pi = 6.28318530717958647692528676655900577L;
static long double normal32_at(uint64_t key, int64_t i) {
    uint32_t w[4];
    block_of(key, (uint64_t)i / 4, 2, w);
    int pair = (int)(i % 4) & ~1;
    long double r = sqrtl(-2 * logl(((long double)w[pair] + 1) * 0x1p-32L));
    long double a = two_pi * (long double)w[pair + 1] * 0x1p-32L;
    return i % 2 ? r * sinl(a) : r * cosl(a);
}
static long double normal64_at(uint64_t key, int64_t i) {
    uint32_t w[4];
    block_of(key, (uint64_t)i / 2, 3, w);
    long double r = sqrtl(-2 * logl((long double)unit(w[0], w[1]) + 0x1p-53L));
    long double a = two_pi * (long double)unit(w[2], w[3]);
    return i % 2 ? r * sinl(a) : r * cosl(a);
}

enum { N = 5000 };

static void test_layout(void **state) {
    static uint32_t w[N];
    static float f[N];
    static double d[N];
    static unsigned char b[N];
    const struct {
        uint64_t key;
        int64_t at;
    } row[] = {{0, 0},
               {0x123456789abcdef0ULL, 3},
               {99, 511},
               {~0ULL, ((int64_t)1 << 34) - 1000},
               {7, ((int64_t)1 << 33) - 1001},
               {5, ((int64_t)1 << 60) + 1}};
    EACH_ISA(isa) {
        const tarn_random_table *t = tarn_random((tarn_isa)isa);
        for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
            uint64_t key = row[r].key;
            int64_t at = row[r].at;
            t->words(key, at, N, w);
            t->uniform_f32(key, at, N, f);
            t->uniform_f64(key, at, N, d);
            t->bernoulli(key, at, N, 0.3, b);
            for (int i = 0; i < N; i++) {
                uint32_t want = word_at(key, at + i);
                assert_int_equal(w[i], want);
                assert_true((double)f[i] == (double)(want >> 8) * 0x1p-24);
                assert_true(d[i] == uniform_at(key, at + i));
                assert_int_equal(b[i], want < 1288490188U); // floor(0.3 · 2^32)
            }
            t->normal_f32(key, at, N, f);
            t->normal_f64(key, at, N, d);
            for (int i = 0; i < N; i++) {
                long double want = normal32_at(key, at + i);
                assert_true(fabsl((long double)f[i] - want) <= 1e-9L + fabsl(want) * 0x1.1p-24L);
                want = normal64_at(key, at + i);
                assert_true(fabsl((long double)d[i] - want) <= 2e-14L);
            }
        }
    }
}

// Any cut into tiles gives the same elements, on every instruction set.
static void test_tiling(void **state) {
    enum { TOTAL = 4096 };
    static float f[TOTAL], f1[TOTAL], g[TOTAL], g1[TOTAL];
    static double d[TOTAL], d1[TOTAL], h[TOTAL], h1[TOTAL];
    static uint32_t w[TOTAL], w1[TOTAL];
    static unsigned char b[TOTAL], b1[TOTAL];
    const uint64_t key = 0xfeedULL;
    const int64_t from = 77;
    const tarn_random_table *t = tarn_random(TARN_ISA_V1);
    t->words(key, from, TOTAL, w);
    t->uniform_f32(key, from, TOTAL, f);
    t->uniform_f64(key, from, TOTAL, d);
    t->bernoulli(key, from, TOTAL, 0.5, b);
    t->normal_f32(key, from, TOTAL, g);
    t->normal_f64(key, from, TOTAL, h);
    EACH_ISA(isa) {
        t = tarn_random((tarn_isa)isa);
        uint32_t s = 12345;
        for (int round = 0; round < 20; round++) {
            for (int64_t i = 0; i < TOTAL;) {
                s = s * 1664525U + 1013904223U;
                int64_t m = round < 2 ? round + 1 : (int64_t)(s >> 8) % 700 + (s >> 31);
                m = m < TOTAL - i ? m : TOTAL - i;
                t->words(key, from + i, m, w1 + i);
                t->uniform_f32(key, from + i, m, f1 + i);
                t->uniform_f64(key, from + i, m, d1 + i);
                t->bernoulli(key, from + i, m, 0.5, b1 + i);
                t->normal_f32(key, from + i, m, g1 + i);
                t->normal_f64(key, from + i, m, h1 + i);
                i += m;
            }
            assert_memory_equal(w, w1, sizeof w);
            assert_memory_equal(f, f1, sizeof f);
            assert_memory_equal(d, d1, sizeof d);
            assert_memory_equal(b, b1, sizeof b);
            assert_memory_equal(g, g1, sizeof g);
            assert_memory_equal(h, h1, sizeof h);
        }
    }
}

static void test_edges(void **state) {
    unsigned char b[1000], ones[1000], none[1000] = {0};
    memset(ones, 1, sizeof ones);
    EACH_ISA(isa) {
        const tarn_random_table *t = tarn_random((tarn_isa)isa);
        const double always[] = {1.0, 1.5, (double)INFINITY}, never[] = {0.0, -1.0, (double)NAN};
        for (int i = 0; i < 3; i++) {
            t->bernoulli(1, 0, 1000, always[i], b);
            assert_memory_equal(b, ones, sizeof b);
            t->bernoulli(1, 0, 1000, never[i], b);
            assert_memory_equal(b, none, sizeof b);
        }
        t->bernoulli(1, 0, 0, 0.5, b);
    }
}

static void test_moments(void **state) {
    enum { COUNT = 1 << 20 };
    float *f = malloc(COUNT * sizeof *f);
    double *d = malloc(COUNT * sizeof *d);
    unsigned char *b = malloc(COUNT);
    assert_true(f && d && b);
    const tarn_random_table *t = tarn_random(TARN_ISA_V1);
    const double root = 1024; // sqrt(COUNT)
    for (uint64_t key = 1; key <= 4; key++) {
        double m[6] = {0}, n[5] = {0}, serial = 0;
        t->uniform_f32(key, 0, COUNT, f);
        t->uniform_f64(key, 0, COUNT, d);
        for (int i = 0; i < COUNT; i++) {
            assert_true(f[i] >= 0.0F && f[i] < 1.0F && d[i] >= 0.0 && d[i] < 1.0);
            m[0] += (double)f[i];
            m[1] += (double)f[i] * (double)f[i];
            m[2] += d[i];
            m[3] += d[i] * d[i];
            m[4] += (double)f[i] * d[i];
        }
        assert_true(fabs(m[0] / COUNT - 0.5) < 5 * 0.289 / root);
        assert_true(fabs(m[1] / COUNT - 1.0 / 3) < 5 * 0.299 / root);
        assert_true(fabs(m[2] / COUNT - 0.5) < 5 * 0.289 / root);
        assert_true(fabs(m[3] / COUNT - 1.0 / 3) < 5 * 0.299 / root);
        assert_true(fabs(m[4] / COUNT - 0.25) < 5 * 0.221 / root);
        t->normal_f32(key, 0, COUNT, f);
        t->normal_f64(key, 0, COUNT, d);
        int beyond = 0;
        for (int i = 0; i < COUNT; i++) {
            double x = (double)f[i], y = d[i];
            n[0] += x;
            n[1] += x * x;
            n[2] += x * x * x * x;
            n[3] += y;
            n[4] += y * y;
            serial += i ? x * (double)f[i - 1] : 0;
            beyond += fabs(x) > 1.959963984540054;
        }
        assert_true(fabs(n[0] / COUNT) < 5 / root);
        assert_true(fabs(n[1] / COUNT - 1) < 5 * sqrt(2) / root);
        assert_true(fabs(n[2] / COUNT - 3) < 5 * sqrt(96) / root);
        assert_true(fabs(n[3] / COUNT) < 5 / root);
        assert_true(fabs(n[4] / COUNT - 1) < 5 * sqrt(2) / root);
        assert_true(fabs(serial / COUNT) < 5 / root);
        assert_true(fabs((double)beyond / COUNT - 0.05) < 5 * sqrt(0.0475) / root);
        t->bernoulli(key, 0, COUNT, 0.53, b);
        int kept = 0;
        for (int i = 0; i < COUNT; i++) {
            kept += b[i];
        }
        assert_true(fabs((double)kept / COUNT - 0.53) < 5 * sqrt(0.53 * 0.47) / root);
    }
    free(f);
    free(d);
    free(b);
}

// Keys are part of the semantics: these never change. Any differing part gives another key.
static void test_keys(void **state) {
    uint64_t k = tarn_random_key(1, "a.weight", 8, 0, 0);
    assert_int_equal(k, 0xe93a501d39297f43ULL);
    assert_int_equal(tarn_random_key(42, "model.embed_tokens.weight", 25, 2, 17),
                     0xd330cae97709ac3ULL);
    assert_true(k != tarn_random_key(2, "a.weight", 8, 0, 0));
    assert_true(k != tarn_random_key(1, "b.weight", 8, 0, 0));
    assert_true(k != tarn_random_key(1, "a.weight", 8, 1, 0));
    assert_true(k != tarn_random_key(1, "a.weight", 8, 0, 1));
    assert_true(tarn_random_key(1, "a", 1, 1, 0) != tarn_random_key(1, "a", 1, 0, 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_layout),
        cmocka_unit_test(test_tiling),  cmocka_unit_test(test_edges),
        cmocka_unit_test(test_moments), cmocka_unit_test(test_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
