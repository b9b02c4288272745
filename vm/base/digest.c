// SPDX-License-Identifier: Apache-2.0
// libcrypto's own functions for SHA-256 are used, not its EVP interface, which allocates; OpenSSL 3
// calls them deprecated.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "vm/base/digest.h"

#include <openssl/sha.h>
#include <string.h>

_Static_assert(sizeof(SHA256_CTX) <= sizeof(tarn_sha256), "room for libcrypto's state");
_Static_assert(_Alignof(SHA256_CTX) <= _Alignof(tarn_sha256), "alignment of libcrypto's state");

void tarn_sha256_begin(tarn_sha256 *h) { SHA256_Init((void *)h->state); }

void tarn_sha256_add(tarn_sha256 *h, const void *p, size_t bytes) {
    SHA256_Update((void *)h->state, p, bytes);
}

void tarn_sha256_end(tarn_sha256 *h, unsigned char out[32]) { SHA256_Final(out, (void *)h->state); }

void tarn_sha256_of(const void *p, size_t bytes, unsigned char out[32]) {
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, p, bytes);
    tarn_sha256_end(&h, out);
}

void tarn_hex(const unsigned char *bytes, size_t n, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

static uint64_t finish(uint64_t h) {
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33);
}

uint64_t tarn_hash64(uint64_t seed, const void *p, size_t bytes) {
    const unsigned char *u = p;
    uint64_t h = 0xcbf29ce484222325ULL ^ finish(seed + 0x9E3779B97F4A7C15ULL);
    for (size_t i = 0; i < bytes; i++) {
        h = (h ^ u[i]) * 0x100000001b3ULL;
    }
    return finish(h);
}
