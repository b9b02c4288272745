// SPDX-License-Identifier: Apache-2.0
// All 2^32 patterns of f32 to bf16 and to f16, on every instruction set, against the naive twin.
// Takes some minutes on two threads.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
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

enum { THREADS = 2, BLOCK = 1 << 14 };

typedef struct task {
    tarn_dtype to;
    uint64_t begin, end;
    uint64_t wrong; // count
    uint32_t where; // one pattern that is wrong
} task;

// NaN: sign kept, quiet, top of the payload kept.
static uint16_t nan_of(tarn_dtype to, uint32_t u) {
    return to == TARN_BF16 ? (uint16_t)(u >> 16 | 0x40)
                           : (uint16_t)((u >> 16 & 0x8000) | 0x7E00 | (u >> 13 & 0x3FF));
}

static void *run(void *arg) {
    task *k = arg;
    uint32_t in[BLOCK];
    uint16_t want[BLOCK], got[BLOCK];
    for (uint64_t at = k->begin; at < k->end; at += BLOCK) {
        for (uint32_t i = 0; i < BLOCK; i++) {
            in[i] = (uint32_t)at + i;
            float x;
            memcpy(&x, &in[i], sizeof x);
            if (isnan(x)) {
                want[i] = nan_of(k->to, in[i]);
            } else {
                tarn_element_set(k->to, &want[i], (double)x);
            }
        }
        for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
            if (!available(isa)) {
                continue;
            }
            tarn_convert((tarn_isa)isa, TARN_F32, k->to)(BLOCK, in, got);
            for (int i = 0; memcmp(want, got, sizeof got) != 0 && i < BLOCK; i++) {
                if (want[i] != got[i]) {
                    k->wrong++;
                    k->where = in[i];
                }
            }
        }
    }
    return NULL;
}

static void all_of(tarn_dtype to) {
    pthread_t thread[THREADS];
    task k[THREADS];
    const uint64_t share = (1ULL << 32) / THREADS;
    for (unsigned i = 0; i < THREADS; i++) {
        k[i] = (task){.to = to, .begin = i * share, .end = (i + 1) * share};
        assert_int_equal(pthread_create(&thread[i], NULL, run, &k[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        if (k[i].wrong) {
            fail_msg("%llu wrong, one of them %08x", (unsigned long long)k[i].wrong, k[i].where);
        }
    }
}

static void test_bf16(void **state) { all_of(TARN_BF16); }
static void test_f16(void **state) { all_of(TARN_F16); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bf16), cmocka_unit_test(test_f16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
