// SPDX-License-Identifier: Apache-2.0
// Storage and views, sources, names of dtypes, what is printed.
#include <math.h>

#include "tests/support.h"

static tarn_context cx;
static int open_one(void **state) {
    open_context(&cx, 1, NULL);
    return 0;
}
static int close_one(void **state) {
    assert_int_equal(cx.budget.used, 0);
    assert_int_equal(cx.budget.external, 0);
    tarn_context_free(&cx);
    return 0;
}

static void storage(void **state) {
    const int64_t shape[2] = {3, 4}, none[3] = {1LL << 40, 0, 1LL << 40};
    tarn_error err = {0};
    tarn_tensor a, b, e;
    OK(tarn_tensor_zeros(&cx, TARN_F32, 2, shape, &a, &err));
    assert_true(cx.budget.external == 48 && ((uintptr_t)tarn_tensor_data(&a) & 63) == 0);
    tarn_tensor_share(&a, &b);
    tarn_tensor_set(&b, 5, 2.5);
    assert_true(tarn_tensor_get(&a, 5) == 2.5);
    tarn_tensor_release(&a);
    tarn_tensor_release(&a);  // idempotent
    assert_true(tarn_tensor_get(&b, 5) == 2.5);
    b.shape[0] = 4, b.shape[1] = 3, b.stride[0] = 1, b.stride[1] = 4;  // transposed
    assert_true(tarn_tensor_get(&b, 4) == 2.5 && !tarn_tensor_contiguous(&b));
    tarn_tensor_release(&b);
    OK(tarn_tensor_new(&cx, TARN_F64, 3, none, &e, &err));
    assert_true(tarn_tensor_numel(&e) == 0 && tarn_tensor_contiguous(&e));
    tarn_tensor_release(&e);
    const int64_t huge[2] = {1LL << 40, 1LL << 40}, bits[1] = {1LL << 60}, negative[1] = {-1};
    assert_int_equal(tarn_tensor_new(&cx, TARN_F32, 2, huge, &a, &err), TARN_ERROR);
    assert_string_equal(err.code, "Overflow");
    assert_null(a.storage);
    assert_int_equal(tarn_tensor_new(&cx, TARN_F64, 1, bits, &a, &err), TARN_ERROR);
    assert_int_equal(tarn_tensor_new(&cx, TARN_F64, 1, negative, &a, &err), TARN_ERROR);
    const int64_t large[1] = {1LL << 40};
    assert_int_equal(tarn_tensor_new(&cx, TARN_F32, 1, large, &a, &err), TARN_NOMEM);
    assert_non_null(strstr(err.message, "a tensor needs 4398046511104 bytes"));
}

static void sources(void **state) {
    const int64_t shape[1] = {10};
    tarn_error err = {0};
    tarn_tensor t, back;
    OK(tarn_tensor_zeros(&cx, TARN_I16, 1, shape, &t, &err));
    for (int i = 0; i < 10; i++) {
        tarn_tensor_set(&t, i, i * 100 - 300);
    }
    const tarn_source *s = tarn_source_of_tensor(&t, "name");
    tarn_tensor_release(&t);  // the source keeps it
    assert_string_equal(s->name, "name");
    assert_int_equal(s->bytes, 20);
    int16_t part[3];
    OK(s->read(s, 8, 6, part, &err));
    assert_true(part[0] == 100 && part[2] == 300);
    OK(tarn_tensor_read(&cx, s, &back, &err));
    assert_true(tarn_tensor_get_int(&back, 9) == 600);
    tarn_tensor_release(&back);
    tarn_cancel_set(&cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_tensor_read(&cx, s, &back, &err), TARN_CANCELLED);
    assert_null(back.storage);
    tarn_cancel_clear(&cx.cancel);
    s->retain(s);
    s->release(s);
    s->release(s);
}

static void names(void **state) {
    static const struct {
        const char *name;
        tarn_dtype t;
    } known[] = {{"bf16", TARN_BF16}, {"BF16", TARN_BF16}, {"torch.float16", TARN_F16},
                 {"float32", TARN_F32}, {"double", TARN_F64}, {"F8_E4M3", TARN_F8_E4M3}};
    tarn_dtype t;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_true(tarn_dtype_find(known[i].name, &t) && t == known[i].t);
    }
    assert_false(tarn_dtype_find("float17", &t));
    assert_false(tarn_dtype_find("", &t));
    for (int i = 0; i < TARN_DTYPE_COUNT; i++) {
        const tarn_dtype_info *d = tarn_dtype_get((tarn_dtype)i);
        assert_true(tarn_dtype_find(d->name, &t) && (int)t == i);
        assert_true(tarn_dtype_find(d->code, &t) && (int)t == i);
        bool computes = tarn_dtype_is_compute(tarn_dtype_compute((tarn_dtype)i));
        assert_int_equal(computes, d->kind != TARN_KIND_OPAQUE);
    }
    assert_int_equal(tarn_dtype_bytes(TARN_F4, 5), 3);
    assert_int_equal(tarn_dtype_bytes(TARN_F6_E2M3, 4), 3);
}

static void check_show(tarn_dtype dtype, int rank, const int64_t *shape, const double *v,
                       const char *want) {
    tarn_error err = {0};
    tarn_tensor t;
    tarn_text text;
    OK(tarn_tensor_zeros(&cx, dtype, rank, shape, &t, &err));
    for (int64_t i = 0; v && i < tarn_tensor_numel(&t); i++) {
        tarn_tensor_set(&t, i, v[i]);
    }
    tarn_text_init(&text, &cx.budget);
    tarn_tensor_show(&t, &text);
    assert_string_equal(text.data, want);
    tarn_text_free(&text);
    tarn_tensor_release(&t);
}

static void printing(void **state) {
    const int64_t two[2] = {2, 3}, three[1] = {3}, none[2] = {0, 3}, big[2] = {2000, 7};
    check_show(TARN_F32, 2, two, (double[]){1, -2, 3, 4, 5, 60},
               "f32[2, 3]\n[[ 1., -2.,  3.],\n [ 4.,  5., 60.]]");
    check_show(TARN_F32, 1, three, (double[]){0.5, -1.25, 100}, "f32[3]\n[  0.5000,  -1.2500, 100.0000]");
    check_show(TARN_F64, 1, three, (double[]){1e-7, 1, (double)NAN}, "f64[3]\n[1.0000e-07, 1.0000e+00,        nan]");
    check_show(TARN_F32, 1, three, (double[]){1, (double)INFINITY, -(double)INFINITY}, "f32[3]\n[  1.,  inf, -inf]");
    check_show(TARN_BOOL, 1, three, (double[]){0, 1, 0}, "bool[3]\n[false,  true, false]");
    check_show(TARN_I8, 1, three, (double[]){-128, 0, 7}, "i8[3]\n[-128,    0,    7]");
    check_show(TARN_F32, 0, NULL, (double[]){2.5}, "f32[] 2.5000");
    check_show(TARN_F32, 2, none, NULL, "f32[0, 3]");
    check_show(TARN_F4, 1, (int64_t[]){8}, NULL, "f4[8] (stored only)");
    check_show(TARN_F32, 2, big, NULL,
               "f32[2000, 7]\n[[0., 0., 0., ..., 0., 0., 0.],\n [0., 0., 0., ..., 0., 0., 0.],\n"
               " [0., 0., 0., ..., 0., 0., 0.],\n ...,\n [0., 0., 0., ..., 0., 0., 0.],\n"
               " [0., 0., 0., ..., 0., 0., 0.],\n [0., 0., 0., ..., 0., 0., 0.]]");
    // Integers beyond 2^53 keep every digit.
    tarn_error err = {0};
    tarn_tensor t;
    tarn_text text;
    OK(tarn_tensor_new(&cx, TARN_U64, 1, (int64_t[]){2}, &t, &err));
    ((uint64_t *)t.storage->data)[0] = UINT64_MAX;
    ((uint64_t *)t.storage->data)[1] = (1ULL << 53) + 1;
    tarn_text_init(&text, &cx.budget);
    tarn_tensor_show(&t, &text);
    assert_string_equal(text.data, "u64[2]\n[18446744073709551615,     9007199254740993]");
    tarn_text_free(&text);
    tarn_tensor_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(storage), cmocka_unit_test(sources),
                                       cmocka_unit_test(names), cmocka_unit_test(printing)};
    return cmocka_run_group_tests(tests, open_one, close_one);
}
