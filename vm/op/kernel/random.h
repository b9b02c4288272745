// SPDX-License-Identifier: Apache-2.0
// Random numbers as a function of position: Philox4x32-10 (Salmon et al., "Parallel random numbers:
// as easy as 1, 2, 3", SC 2011) of a 64-bit key and the row-major index of the element in its
// logical tensor. Sharding, blocks, tiles and threads cannot matter. This layout is part of the
// semantics of seeded methods: it never changes.
//
// Counter words: (block low, block high, stream, 0); the block gives four words w0 … w3.
//   stream 0  words, uniform_f32, bernoulli: element i has word w(i mod 4) of block i / 4
//             uniform_f32 = (w >> 8) 2^-24; bernoulli(p) = w < floor(p 2^32), always for p >= 1
//   stream 1  uniform_f64: element i has the pair (w0, w1) of block i / 2, or (w2, w3) if i is odd
//             = ((w >> 5) 2^26 + (w' >> 6)) 2^-53
//   stream 2  normal_f32: elements 4 j … 4 j + 3 come from block j, two by two from (w0, w1) and
//             (w2, w3): r cos a, r sin a with r = sqrt(-2 log((w + 1) 2^-32)), a = 2 pi w' 2^-32
//   stream 3  normal_f64: elements 2 j, 2 j + 1 come from block j: r cos a, r sin a with
//             r = sqrt(-2 log(u + 2^-53)), a = 2 pi u', u and u' as in uniform_f64 from (w0, w1),
//             (w2, w3)
#ifndef TARN_OP_KERNEL_RANDOM_H
#define TARN_OP_KERNEL_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "vm/base/context.h"

// Each fills out[0 … n) with elements at … at + n - 1 of the sequence of `key`; at >= 0.
typedef struct tarn_random_table {
    void (*words)(uint64_t key, int64_t at, int64_t n, uint32_t *out);
    void (*uniform_f32)(uint64_t key, int64_t at, int64_t n, float *out);                 // [0, 1)
    void (*uniform_f64)(uint64_t key, int64_t at, int64_t n, double *out);                // [0, 1)
    void (*bernoulli)(uint64_t key, int64_t at, int64_t n, double p, unsigned char *out); // 0, 1
    void (*normal_f32)(uint64_t key, int64_t at, int64_t n, float *out);
    void (*normal_f64)(uint64_t key, int64_t at, int64_t n, double *out);
} tarn_random_table;

extern const tarn_random_table tarn_random_table_v1, tarn_random_table_v3, tarn_random_table_v4;

const tarn_random_table *tarn_random(tarn_isa isa);

// The key of one use of random numbers: hash64(hash64(seed, name), model and use as 16 bytes, low
// bytes first).
uint64_t tarn_random_key(uint64_t seed, const char *name, size_t name_bytes, uint64_t model,
                         uint64_t use);

// One Philox4x32-10 block, for tests against the published vectors.
static inline void tarn_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53U * c0, p1 = (uint64_t)0xCD9E8D57U * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

#endif
