// SPDX-License-Identifier: Apache-2.0
// Random tiles, by chunks: Philox words into a small buffer that stays in the first-level cache,
// then a vectorised pass that turns words into numbers. Compiled once per instruction set.
#include "vm/op/kernel/random.h"

#include <immintrin.h>

#include "vm/op/kernel/isa.h"
#include "vm/op/kernel/math.h"

enum { CHUNK = 128 }; // Philox blocks

typedef enum { STREAM_WORDS, STREAM_UNIFORM, STREAM_NORMAL, STREAM_NORMAL_F64 } stream;

// One block per 64-bit lane, a word in the low half of each; the upper halves hold what
// multiplication left there, which it ignores.
#if defined(__AVX512F__)
enum { LANES = 8 };
typedef uint64_t lanes __attribute__((vector_size(64)));
static inline lanes mul32(lanes a, lanes b) {
    return (lanes)_mm512_mul_epu32((__m512i)a, (__m512i)b);
}
#define EVEN 0, 8, 1, 9, 2, 10, 3, 11
#define ODD 4, 12, 5, 13, 6, 14, 7, 15
#elif defined(__AVX2__)
enum { LANES = 4 };
typedef uint64_t lanes __attribute__((vector_size(32)));
static inline lanes mul32(lanes a, lanes b) {
    return (lanes)_mm256_mul_epu32((__m256i)a, (__m256i)b);
}
#define EVEN 0, 4, 1, 5
#define ODD 2, 6, 3, 7
#else
enum { LANES = 2 };
typedef uint64_t lanes __attribute__((vector_size(16)));
static inline lanes mul32(lanes a, lanes b) { return (lanes)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#define EVEN 0, 2
#define ODD 1, 3
#endif

static inline lanes splat(uint64_t x) { return x - (lanes){0}; }

// Blocks first … first + CHUNK - 1.
static void fill(uint64_t key, stream s, uint64_t first, uint32_t *restrict out) {
    const lanes m0 = splat(0xD2511F53U), m1 = splat(0xCD9E8D57U), low = splat(0xFFFFFFFFU);
    lanes block = splat(first);
    for (uint64_t i = 0; i < LANES; i++) {
        block[i] += i;
    }
    for (int i = 0; i < CHUNK; i += LANES, block += LANES) {
        lanes c0 = block, c1 = block >> 32, c2 = splat((uint64_t)s), c3 = splat(0);
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < 10; round++) {
            lanes p0 = mul32(m0, c0), p1 = mul32(m1, c2);
            c0 = (p1 >> 32) ^ c1 ^ splat(k0);
            c1 = p1;
            c2 = (p0 >> 32) ^ c3 ^ splat(k1);
            c3 = p0;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }
        lanes a = (c0 & low) | (c1 << 32), b = (c2 & low) | (c3 << 32);
        lanes even = __builtin_shufflevector(a, b, EVEN);
        lanes odd = __builtin_shufflevector(a, b, ODD);
        memcpy(out + 4 * i, &even, sizeof even);
        memcpy(out + 4 * i + 2 * LANES, &odd, sizeof odd);
    }
}

// Runs `body` for each chunk, with w: its words (or y: what `make` turned them into), skip:
// elements of the chunk before the first that is asked for, m: how many of it are asked for. `per`
// elements come from one block.
#define CHUNKS(per, s, body)                                                                       \
    uint32_t w[4 * CHUNK] __attribute__((aligned(64)));                                            \
    for (int64_t done = 0; done < n;) {                                                            \
        int64_t block = (at + done) / (per), skip = (at + done) % (per);                           \
        int64_t m = (per) * (int64_t)CHUNK - skip;                                                 \
        m = m < n - done ? m : n - done;                                                           \
        fill(key, s, (uint64_t)block, w);                                                          \
        body;                                                                                      \
        done += m;                                                                                 \
    }

static void words(uint64_t key, int64_t at, int64_t n, uint32_t *out) {
    CHUNKS(4, STREAM_WORDS, memcpy(out + done, w + skip, (size_t)m * sizeof *w))
}

static void to_uniform_f32(int64_t n, const uint32_t *restrict w, float *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)(int32_t)(w[i] >> 8) * 0x1p-24F;
    }
}

static void uniform_f32(uint64_t key, int64_t at, int64_t n, float *out) {
    CHUNKS(4, STREAM_WORDS, to_uniform_f32(m, w + skip, out + done))
}

static void to_bits(int64_t n, const uint32_t *restrict w, uint32_t below,
                    unsigned char *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = w[i] < below;
    }
}

static void bernoulli(uint64_t key, int64_t at, int64_t n, double p, unsigned char *out) {
    if (!(p < 1.0)) {
        memset(out, p >= 1.0, (size_t)n); // NaN: never
        return;
    }
    uint32_t below = p > 0.0 ? (uint32_t)(p * 0x1p32) : 0;
    CHUNKS(4, STREAM_WORDS, to_bits(m, w + skip, below, out + done))
}

static inline double fraction(uint32_t a, uint32_t b) {
    return (double)(int32_t)(a >> 5) * 0x1p-27 + (double)(int32_t)(b >> 6) * 0x1p-53;
}

static void to_uniform_f64(int64_t n, const uint32_t *restrict w, double *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = fraction(w[2 * i], w[2 * i + 1]);
    }
}

static void uniform_f64(uint64_t key, int64_t at, int64_t n, double *out) {
    CHUNKS(2, STREAM_UNIFORM, to_uniform_f64(m, w + 2 * skip, out + done))
}

// w as a number, without the unsigned conversion that old instruction sets lack.
static inline double number(uint32_t w) { return (double)(int32_t)(w ^ 0x80000000U) + 0x1p31; }

static void to_normal_f32(const uint32_t *restrict w, float *restrict out) {
    for (int i = 0; i < 2 * CHUNK; i++) {
        double r = __builtin_sqrt(-2.0 * tk_log_short((number(w[2 * i]) + 1.0) * 0x1p-32));
        double a = number(w[2 * i + 1]) * (TK_PI_HI * 0x1p-31);
        out[2 * i] = (float)(r * tk_quadrant_short(a, 1));
        out[2 * i + 1] = (float)(r * tk_quadrant_short(a, 0));
    }
}

static void normal_f32(uint64_t key, int64_t at, int64_t n, float *out) {
    float y[4 * CHUNK] __attribute__((aligned(64)));
    CHUNKS(4, STREAM_NORMAL,
           (to_normal_f32(w, y), memcpy(out + done, y + skip, (size_t)m * sizeof *y)))
}

static void to_normal_f64(const uint32_t *restrict w, double *restrict out) {
    for (int i = 0; i < CHUNK; i++) {
        double r = __builtin_sqrt(-2.0 * tk_log(fraction(w[4 * i], w[4 * i + 1]) + 0x1p-53));
        double a = fraction(w[4 * i + 2], w[4 * i + 3]) * (2.0 * TK_PI_HI);
        out[2 * i] = r * tk_cos_near(a);
        out[2 * i + 1] = r * tk_sin_near(a);
    }
}

static void normal_f64(uint64_t key, int64_t at, int64_t n, double *out) {
    double y[2 * CHUNK] __attribute__((aligned(64)));
    CHUNKS(2, STREAM_NORMAL_F64,
           (to_normal_f64(w, y), memcpy(out + done, y + skip, (size_t)m * sizeof *y)))
}

const tarn_random_table TARN_ISA_NAME(tarn_random_table) = {
    words, uniform_f32, uniform_f64, bernoulli, normal_f32, normal_f64,
};
