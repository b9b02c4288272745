// SPDX-License-Identifier: Apache-2.0
// All 2^32 patterns of f32 to bf16 and to f16, on every instruction set. Rounding to nearest never
// decreases, so the answers are runs: the naive twin (vm/tensor/element.c) is asked by bisection where
// each of the 2^15 results begins, and every pattern is then compared with the run it lies in. The twin
// itself is held against the runs at random patterns. Half a minute on two cores.
#include <math.h>

#include "tests/support.h"
#include "vm/op/convert.h"

enum { BLOCK = 1 << 14, TASK = 1 << 22, CODES = 1 << 15 };
#define INFINITE 0x7F800000U

typedef struct {
    tarn_dtype to;
    uint32_t start[CODES + 1];  // first f32 pattern that becomes code c or a larger one
    int isas;
    atomic_uint_fast64_t wrong;
    atomic_uint_fast64_t where;
} work;

static uint16_t twin(tarn_dtype to, uint32_t u) {
    float x;
    uint16_t code;
    memcpy(&x, &u, sizeof x);
    tarn_element_set(to, &code, (double)x);
    return code;
}

// NaN: sign kept, quiet, top of the payload kept.
static uint16_t nan_of(tarn_dtype to, uint32_t u) {
    return to == TARN_BF16 ? (uint16_t)(u >> 16 | 0x40)
                           : (uint16_t)((u >> 16 & 0x8000) | 0x7E00 | (u >> 13 & 0x3FF));
}

static void find_runs(work *w) {
    uint32_t at = 0;
    for (uint32_t c = 0; c <= CODES; c++) {
        uint32_t low = at, high = INFINITE + 1;  // the answer lies in (low, high] or is low
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (twin(w->to, middle) >= c) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        w->start[c] = at = low;
    }
}

// The results of BLOCK patterns from u on, all of one sign, finite or infinite.
static void expected(const work *w, uint32_t u, uint16_t *want) {
    uint32_t magnitude = u & 0x7FFFFFFF;
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    int low = 0, high = CODES;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        *(w->start[middle] <= magnitude ? &low : &high) = middle;
    }
    for (int i = 0; i < BLOCK; i++) {
        while (low + 1 <= CODES && w->start[low + 1] <= magnitude + (uint32_t)i) {
            low++;
        }
        want[i] = (uint16_t)(sign | low);
    }
}

static tarn_status compare(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    work *w = arg;
    uint32_t in[BLOCK];
    uint16_t want[BLOCK], got[BLOCK];
    for (int64_t b = 0; b < TASK / BLOCK; b++) {
        uint32_t u = (uint32_t)(task * TASK + b * BLOCK);
        for (uint32_t i = 0; i < BLOCK; i++) {
            in[i] = u + i;
        }
        if ((u & 0x7FFFFFFF) < INFINITE) {
            expected(w, u, want);
        } else {
            for (uint32_t i = 0; i < BLOCK; i++) {
                bool nan = ((u + i) & 0x7FFFFFFF) > INFINITE;
                want[i] = nan ? nan_of(w->to, u + i) : twin(w->to, u + i);
            }
        }
        for (int isa = 0; isa < w->isas; isa++) {
            tarn_convert((tarn_isa)isa, TARN_F32, w->to)(BLOCK, in, got);
            for (int i = 0; memcmp(want, got, sizeof got) != 0 && i < BLOCK; i++) {
                if (want[i] != got[i]) {
                    atomic_fetch_add(&w->wrong, 1);
                    atomic_store(&w->where, in[i]);
                }
            }
        }
    }
    return TARN_OK;
}

static void all_of(tarn_dtype to) {
    tarn_context cx;
    tarn_error err = {0};
    work *w = calloc(1, sizeof *w);
    open_context(&cx, 0, NULL);
    w->to = to;
    w->isas = (int)cx.isa + 1;
    find_runs(w);
    uint64_t s = 1;
    for (int i = 0; i < 1 << 19; i++) {
        uint32_t u = (uint32_t)test_random(&s) & 0x7FFFFFFF;
        uint16_t code = u <= INFINITE ? twin(to, u) : 0;
        assert_true(u > INFINITE || (w->start[code] <= u && (code + 1 > CODES || u < w->start[code + 1])));
    }
    OK(tarn_pool_run(cx.pool, (1LL << 32) / TASK, compare, w, NULL, &err));
    if (w->wrong) {
        fail_msg("%llu wrong, one of them %08x", (unsigned long long)w->wrong, (unsigned)w->where);
    }
    free(w);
    tarn_context_free(&cx);
}

static void to_bf16(void **state) { all_of(TARN_BF16); }
static void to_f16(void **state) { all_of(TARN_F16); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(to_bf16), cmocka_unit_test(to_f16)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
