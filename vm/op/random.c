// SPDX-License-Identifier: Apache-2.0
#include "vm/op/kernel/random.h"

#include "vm/base/digest.h"

const tarn_random_table *tarn_random(tarn_isa isa) {
    return isa == TARN_ISA_V4   ? &tarn_random_table_v4
           : isa == TARN_ISA_V3 ? &tarn_random_table_v3
                                : &tarn_random_table_v1;
}

uint64_t tarn_random_key(uint64_t seed, const char *name, size_t name_bytes, uint64_t model,
                         uint64_t use) {
    unsigned char tail[16];
    for (int i = 0; i < 8; i++) {
        tail[i] = (unsigned char)(model >> (8 * i));
        tail[8 + i] = (unsigned char)(use >> (8 * i));
    }
    return tarn_hash64(tarn_hash64(seed, name, name_bytes), tail, sizeof tail);
}
