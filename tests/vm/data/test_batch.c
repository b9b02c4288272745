// SPDX-License-Identifier: Apache-2.0
// Batches against a naive twin that is written pixel by pixel, on every dtype and instruction set; the
// same bits for 1, 2 and 8 threads, for any batch size and order; orders are permutations.
#include "tests/support.h"

#include <math.h>

#include "tests/oom.h"
#include "vm/data/batch.h"
#include "vm/op/kernel/random.h"

enum { N = 40, H = 7, W = 6 };

// ---- the twin ----

static uint64_t twin_key(uint64_t seed, uint64_t epoch, int64_t row, int use) {
    return tarn_random_key(seed, "data.augment", 12, epoch, 2 * (uint64_t)row + (uint64_t)use);
}

static float twin_number(const tarn_tensor *x, const tarn_batch_options *o, int64_t row, int64_t y, int64_t col, int64_t c) {
    float v = 0;
    if (y >= 0 && y < H && col >= 0 && col < W) {
        int64_t ch = x->shape[3];
        v = (float)tarn_tensor_get(x, ((row * H + y) * W + col) * ch + c);
    }
    v = o->divisor > 0 ? v / (float)o->divisor : v;
    if (o->channels > 0) {
        int k = o->channels > 1 ? (int)c : 0;
        v = (v - (float)o->mean[k]) / (float)o->std[k];
    }
    return v;
}

static float twin(tarn_context *cx, const tarn_tensor *x, const tarn_batch_options *o, uint64_t epoch, int64_t row, int64_t y, int64_t col,
                  int64_t c) {
    uint32_t w[8];
    tarn_random(cx->isa)->words(twin_key(o->seed, epoch, row, 0), 0, 8, w);
    int64_t side = 2 * o->shift + 1, ch = x->shape[3];
    int64_t dy = (int64_t)((double)w[0] / 4294967296.0 * (double)side) - o->shift;
    int64_t dx = (int64_t)((double)w[1] / 4294967296.0 * (double)side) - o->shift;
    int64_t cy = (int64_t)((double)w[3] / 4294967296.0 * H), cxx = (int64_t)((double)w[4] / 4294967296.0 * W);
    bool flip = (double)w[2] / 4294967296.0 < o->flip;
    if (o->cutout > 0 && y >= cy - o->cutout / 2 && y < cy - o->cutout / 2 + o->cutout && col >= cxx - o->cutout / 2 &&
        col < cxx - o->cutout / 2 + o->cutout) {
        return 0;
    }
    float v = twin_number(x, o, row, y - dy, (flip ? W - 1 - col : col) - dx, c);
    if (o->noise > 0) {
        float z;
        tarn_random(cx->isa)->normal_f32(twin_key(o->seed, epoch, row, 1), (y * W + col) * ch + c, 1, &z);
        v += (float)o->noise * z;
    }
    return v;
}

static const double mean[3] = {0.25, 0.5, 0.125}, std[3] = {0.5, 0.3, 2};
static const tarn_batch_options cases[] = {
    {.image = true},
    {.image = true, .divisor = 255},
    {.image = true, .divisor = 255, .channels = 1, .mean = mean, .std = std},
    {.image = true, .divisor = 255, .channels = 3, .mean = mean, .std = std},
    {.image = true, .divisor = 255, .shift = 2, .seed = 3},
    {.image = true, .divisor = 255, .flip = 0.5, .seed = 4},
    {.image = true, .divisor = 255, .flip = 1, .shift = 9, .seed = 4},
    {.image = true, .divisor = 255, .channels = 1, .mean = mean, .std = std, .shift = 3, .flip = 0.7, .noise = 0.2, .cutout = 3, .seed = 5},
    {.image = true, .divisor = 2, .channels = 3, .mean = mean, .std = std, .shift = 1, .flip = 0.5, .noise = 1, .cutout = 4, .seed = 6},
};

static tarn_tensor images(tarn_context *cx, tarn_dtype t, int64_t channels) {
    const int64_t shape[4] = {N, H, W, channels};
    tarn_error err = {0};
    tarn_tensor x;
    uint64_t seed = 9;
    OK(tarn_tensor_new(cx, t, 4, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, t == TARN_U8 ? (double)(test_random(&seed) % 256) : test_uniform(&seed));
    }
    return x;
}

static tarn_tensor take(tarn_context *cx, const tarn_tensor *x, const tarn_batch_options *o, int64_t n, const int64_t *rows, uint64_t epoch) {
    tarn_error err = {0};
    tarn_batcher *b;
    tarn_tensor y;
    OK(tarn_batcher_make(cx, x, o, &b, &err));
    OK(tarn_batcher_take(b, n, rows, epoch, &y, &err));
    tarn_batcher_free(b);
    return y;
}

static void against_twin(void **state) {
    static const tarn_dtype dtypes[] = {TARN_U8, TARN_F32, TARN_BF16, TARN_F16};
    const int64_t rows[] = {3, 39, 0, 3, 17};
    for (const char *const *isa = test_isas(); *isa; isa++) {
        tarn_context cx;
        open_context(&cx, 2, *isa);
        for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
            for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
                if (dtypes[d] == TARN_U8 && cases[k].divisor == 0) {
                    continue;  // integers
                }
                tarn_tensor x = images(&cx, dtypes[d], 3), y = take(&cx, &x, &cases[k], 5, rows, 7);
                assert_int_equal(y.dtype, TARN_F32);
                const float *p = tarn_tensor_data(&y);
                for (int64_t i = 0; i < 5; i++) {
                    for (int64_t e = 0; e < H * W * 3; e++) {
                        float want = twin(&cx, &x, &cases[k], 7, rows[i], e / (3 * W), e / 3 % W, e % 3);
                        if (*p++ != want) {
                            fail_msg("%s, dtype %d, case %zu, example %d, element %d: %.9g instead of %.9g", *isa, (int)dtypes[d], k, (int)i,
                                     (int)e, (double)p[-1], (double)want);
                        }
                    }
                }
                tarn_tensor_release(&x);
                tarn_tensor_release(&y);
            }
        }
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
}

// What a batch holds does not depend on threads, nor on how examples are dealt to batches.
static void same_bits(void **state) {
    static const int threads[] = {1, 2, 8};
    enum { MANY = 3000 };
    int64_t rows[MANY];
    float *first = NULL;
    for (int i = 0; i < MANY; i++) {
        rows[i] = i * 7 % N;
    }
    for (int t = 0; t < 3; t++) {
        tarn_context cx;
        open_context(&cx, threads[t], NULL);
        tarn_tensor x = images(&cx, TARN_U8, 1), y = take(&cx, &x, &cases[7], MANY, rows, 2);
        size_t bytes = tarn_tensor_bytes(&y);
        if (t == 0) {
            first = malloc(bytes);
            memcpy(first, tarn_tensor_data(&y), bytes);
        }
        assert_memory_equal(first, tarn_tensor_data(&y), bytes);
        for (int i = 0; i < MANY; i += 377) {
            tarn_tensor one = take(&cx, &x, &cases[7], 1, rows + i, 2);
            assert_memory_equal(tarn_tensor_data(&one), first + i * H * W, H * W * sizeof *first);
            tarn_tensor_release(&one);
        }
        tarn_tensor other = take(&cx, &x, &cases[7], MANY, rows, 3);  // another epoch
        assert_memory_not_equal(first, tarn_tensor_data(&other), bytes);
        tarn_tensor_release(&other);
        tarn_tensor_release(&x);
        tarn_tensor_release(&y);
        tarn_context_free(&cx);
    }
    free(first);
}

// An example of more numbers than are drawn at a time.
static void long_noise(void **state) {
    enum { LONG = 1300 };
    static float z[LONG];
    tarn_context cx;
    tarn_error err = {0};
    tarn_tensor x;
    const tarn_batch_options o = {.noise = 0.5, .seed = 8};
    open_context(&cx, 1, NULL);
    OK(tarn_tensor_zeros(&cx, TARN_F32, 2, (const int64_t[]){3, LONG}, &x, &err));
    tarn_tensor y = take(&cx, &x, &o, 1, &(int64_t){2}, 4);
    tarn_random(cx.isa)->normal_f32(twin_key(8, 4, 2, 1), 0, LONG, z);
    for (int i = 0; i < LONG; i++) {
        assert_true(((float *)tarn_tensor_data(&y))[i] == 0.5F * z[i]);
    }
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
    tarn_context_free(&cx);
}

static void other_forms(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_batcher *b;
    const int64_t rows[] = {2, 0}, shape[1] = {9};
    open_context(&cx, 1, NULL);
    tarn_tensor text, y;
    OK(tarn_tensor_new(&cx, TARN_U8, 1, shape, &text, &err));
    for (int i = 0; i < 9; i++) {
        tarn_tensor_set(&text, i, 10 * i);
    }
    tarn_tensor windows = text;  // rows overlap
    windows.rank = 2;
    windows.shape[0] = 3;
    windows.shape[1] = 4;
    windows.stride[0] = 2;
    windows.stride[1] = 1;
    y = take(&cx, &windows, &(tarn_batch_options){0}, 2, rows, 0);
    assert_int_equal(y.dtype, TARN_I64);
    assert_int_equal(tarn_tensor_get_int(&y, 0), 40);
    assert_int_equal(tarn_tensor_get_int(&y, 7), 30);
    tarn_tensor_release(&y);
    y = take(&cx, &windows, &(tarn_batch_options){.raw = true}, 2, rows, 0);
    assert_int_equal(y.dtype, TARN_U8);
    assert_int_equal(tarn_tensor_get_int(&y, 3), 70);
    tarn_tensor_release(&y);
    tarn_tensor f64 = filled(&cx, TARN_F64, 2, (const int64_t[]){3, 2}, 1);
    y = take(&cx, &f64, &(tarn_batch_options){0}, 2, rows, 0);
    assert_int_equal(y.dtype, TARN_F64);
    assert_true(tarn_tensor_get(&y, 0) == tarn_tensor_get(&f64, 4));
    tarn_tensor_release(&y);

    assert_int_equal(tarn_batcher_make(&cx, &f64, &(tarn_batch_options){.noise = 1}, &b, &err), TARN_ERROR);
    assert_string_equal(err.message, "normalisation and augmentation are for batches of f32, not f64");
    tarn_tensor f32 = filled(&cx, TARN_F32, 2, (const int64_t[]){3, 2}, 1);
    assert_int_equal(tarn_batcher_make(&cx, &f32, &(tarn_batch_options){.shift = 1}, &b, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "shift, flip and cutout are for images"));
    OK(tarn_batcher_make(&cx, &f32, &(tarn_batch_options){0}, &b, &err));
    assert_int_equal(tarn_batcher_take(b, 1, &(int64_t){3}, 0, &y, &err), TARN_ERROR);
    assert_string_equal(err.message, "example 4 is asked for; there are 3");
    assert_int_equal(tarn_batcher_take(b, 1, &(int64_t){-1}, 0, &y, &err), TARN_ERROR);
    OK(tarn_batcher_take(b, 0, NULL, 0, &y, &err));
    assert_int_equal(y.shape[0], 0);
    tarn_tensor_release(&y);
    tarn_batcher_free(b);
    tarn_tensor_release(&text);
    tarn_tensor_release(&f64);
    tarn_tensor_release(&f32);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void orders(void **state) {
    enum { MANY = 5000 };
    static int64_t a[MANY], b[MANY];
    static int seen[MANY];
    for (const char *const *isa = test_isas(); *isa; isa++) {
        tarn_context cx;
        open_context(&cx, 1, *isa);
        memset(seen, 0, sizeof seen);
        tarn_data_order(cx.isa, 1, 1, MANY, b);
        if (isa == test_isas()) {
            memcpy(a, b, sizeof a);
        }
        assert_memory_equal(a, b, sizeof a);  // on every instruction set
        int64_t fixed = 0;
        for (int i = 0; i < MANY; i++) {
            seen[a[i]]++;
            fixed += a[i] == i;
        }
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(seen[i], 1);
        }
        assert_true(fixed < 12);
        tarn_data_order(cx.isa, 1, 2, MANY, b);
        assert_memory_not_equal(a, b, sizeof a);
        tarn_data_order(cx.isa, 2, 1, MANY, b);
        assert_memory_not_equal(a, b, sizeof a);
        tarn_context_free(&cx);
    }
    // All 24 orders of 4 come about equally often: chi-squared of 23 degrees stays below 50.
    int count[256] = {0};
    for (uint64_t e = 0; e < 24000; e++) {
        tarn_data_order(TARN_ISA_V1, 5, e, 4, a);
        count[a[0] * 64 + a[1] * 16 + a[2] * 4 + a[3]]++;
    }
    double chi = 0;
    int kinds = 0;
    for (int i = 0; i < 256; i++) {
        kinds += count[i] > 0;
        chi += count[i] > 0 ? (count[i] - 1000.0) * (count[i] - 1000.0) / 1000 : 0;
    }
    assert_int_equal(kinds, 24);
    assert_true(chi < 50);
}

static bool attempt(void *arg) {
    tarn_context *cx = arg;
    tarn_error err = {0};
    tarn_batcher *b = NULL;
    tarn_tensor x, y = {0};
    if (tarn_tensor_zeros(cx, TARN_U8, 4, (const int64_t[]){N, H, W, 3}, &x, &err) == TARN_OK) {
        if (tarn_batcher_make(cx, &x, &cases[8], &b, &err) == TARN_OK) {
            (void)tarn_batcher_take(b, 2, (const int64_t[]){1, 2}, 1, &y, &err);
        }
        tarn_batcher_free(b);
        tarn_tensor_release(&x);
        tarn_tensor_release(&y);
    }
    return cx->budget.used == 0;
}

static void failing_allocations(void **state) {
    oom_or_skip();
    tarn_context cx;
    open_context(&cx, 1, NULL);
    assert_true(oom_sweep(attempt, &cx, 0) > 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_twin), cmocka_unit_test(same_bits), cmocka_unit_test(other_forms), cmocka_unit_test(long_noise),
        cmocka_unit_test(orders),       cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
