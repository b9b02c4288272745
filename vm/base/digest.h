// SPDX-License-Identifier: Apache-2.0
// SHA-256 (FIPS 180-4, by libcrypto), and the 64-bit hash that keys random numbers. The tensor
// digest is the SHA-256 over the SHA-256s of the tensor's 8 MiB pieces, so that it can be computed
// in parallel and while streaming.
#ifndef TARN_BASE_DIGEST_H
#define TARN_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define TARN_DIGEST_PIECE ((size_t)8 << 20)  // bytes

// Nothing is allocated and nothing can fail: a digest that is wrong because memory ran out would be
// written down as the name of something.
typedef struct tarn_sha256 {
    _Alignas(8) unsigned char state[112];  // SHA256_CTX
} tarn_sha256;

void tarn_sha256_begin(tarn_sha256 *h);
void tarn_sha256_add(tarn_sha256 *h, const void *p, size_t bytes);
void tarn_sha256_end(tarn_sha256 *h, unsigned char out[32]);
void tarn_sha256_of(const void *p, size_t bytes, unsigned char out[32]);
void tarn_hex(const unsigned char *bytes, size_t n, char *out);  // 2 n + 1 characters

// A fixed 64-bit hash (part of the semantics of seeded methods: it never changes): FNV-1a over the
// bytes, started from a finalised mix of `seed`, then finalised again (murmur3's 64-bit finaliser).
uint64_t tarn_hash64(uint64_t seed, const void *p, size_t bytes);

#endif
