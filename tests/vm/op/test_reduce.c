// SPDX-License-Identifier: Apache-2.0
// Reductions over dimensions have one value whatever path computes it: rows in one kernel, columns
// abreast where they lie or fetched, elements one by one, against the tree written down naively, to the bit. Lengths around
// lanes, tiles, leaves and subtrees; one, two and eight threads; every instruction set.
#include <math.h>

#include "tests/support.h"

// 16 lanes over leaves of 4096, lanes joined by halves, leaves by neighbours.
static double tree_sum(const double *x, int64_t n) {
    double part[64];
    int64_t leaves = (n + TARN_LEAF - 1) / TARN_LEAF;
    for (int64_t l = 0; l < leaves; l++) {
        double lane[16] = {0};
        for (int64_t i = l * TARN_LEAF; i < n && i < (l + 1) * TARN_LEAF; i++) {
            lane[i % 16] += x[i];
        }
        for (int half = 8; half >= 1; half /= 2) {
            for (int k = 0; k < half; k++) {
                lane[k] += lane[k + half];
            }
        }
        part[l] = lane[0];
    }
    for (int64_t step = 1; step < leaves; step *= 2) {
        for (int64_t i = 0; i + step < leaves; i += 2 * step) {
            part[i] += part[i + step];
        }
    }
    return leaves ? part[0] : 0;
}

// Neighbours, an odd one passing up. x is gone.
static double pair_sum(double *x, int64_t n) {
    for (int64_t step = 1; step < n; step *= 2) {
        for (int64_t i = 0; i + step < n; i += 2 * step) {
            x[i] += x[i + step];
        }
    }
    return x[0];
}

static double reduced(const tarn_op *op, double *x, int64_t n, bool columns) {
    if (op == &tarn_op_sum) {
        return columns ? pair_sum(x, n) : tree_sum(x, n);
    }
    double best = x[0];
    for (int64_t i = 1; i < n; i++) {
        best = (op == &tarn_op_max) == (x[i] > best) && x[i] != best ? x[i] : best;
    }
    return best;
}

// x seen as [outer, n, inner], reduced over the middle, or over the last of [outer, inner, n].
static void check(tarn_context *cx, const tarn_op *op, tarn_dtype t, int64_t outer, int64_t n,
                  int64_t inner, bool last) {
    tarn_error err = {0};
    int64_t shape[3] = {outer, last ? inner : n, last ? n : inner}, i[3] = {0, 0, last ? 2 : 1};
    tarn_attr a = {.ni = 3, .i = i};
    tarn_tensor x = filled(cx, t, 3, shape, (uint64_t)(n * 7 + inner)), y;
    OK(tarn_op_apply(cx, op, 1, &x, &a, &y, &err));
    double *row = malloc(((size_t)n + 1) * sizeof *row);
    for (int64_t o = 0; o < outer; o++) {
        for (int64_t c = 0; c < inner; c++) {
            for (int64_t k = 0; k < n; k++) {
                row[k] = tarn_tensor_get(&x, last ? (o * inner + c) * n + k : (o * n + k) * inner + c);
            }
            double want = reduced(op, row, n, !last && inner > 1), got = tarn_tensor_get(&y, o * inner + c);
            want = t == TARN_F32 ? (double)(float)want : want;
            if (want != got) {
                fail_msg("%s of %s[%d, %d, %d] over %s: %.17g, expected %.17g", op->name,
                         tarn_dtype_get(t)->name, (int)outer, (int)n, (int)inner,
                         last ? "the last" : "the middle", got, want);
            }
        }
    }
    free(row);
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
}

static void test_dimensions(void **state) {
    static const int64_t length[] = {1, 2, 15, 16, 17, 100, 1023, 1024, 1025, 4096, 4097, 9000, 12289};
    static const tarn_op *const op[] = {&tarn_op_sum, &tarn_op_max, &tarn_op_min};
    const int threads[] = {1, 2, 8};
    for (const char *const *isa = test_isas(); *isa; isa++) {
        for (int th = 0; th < 3; th++) {
            tarn_context cx;
            open_context(&cx, threads[th], *isa);
            for (size_t l = 0; l < sizeof length / sizeof *length; l++) {
                for (int k = 0; k < 3; k++) {
                    for (int last = 0; last < 2; last++) {
                        check(&cx, op[k], TARN_F32, 1, length[l], 4, last);
                        check(&cx, op[k], TARN_F64, 2, length[l], 3, last);
                    }
                }
                int64_t few = length[l] < 2000 ? 1 : 0;
                check(&cx, &tarn_op_sum, TARN_F32, 1 + few, length[l], 65 + few * 64, false);
                check(&cx, &tarn_op_sum, TARN_F64, 1, length[l], 1 + few * 63, false);
            }
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
    }
}

// Reduced dimensions that do not lie evenly: the tree goes on across their runs. Columns that do not lie
// side by side, and elements that are stored in another dtype.
static void test_uneven(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    const int64_t shape[4] = {9, 5, 37, 66}, i[4] = {0, 0, 0, 2}, flip[4] = {2, 0, 1, 3};
    const int64_t cut[12] = {0, 9, 1, 0, 5, 1, 3, 30, 1, 1, 65, 1};
    tarn_attr a = {.ni = 4, .i = i}, p = {.ni = 4, .i = flip}, s = {.ni = 12, .i = cut};
    tarn_tensor x = filled(&cx, TARN_F32, 4, shape, 5), v, plain, y, z, w;
    OK(tarn_op_apply(&cx, &tarn_op_slice, 1, &x, &s, &v, &err));
    OK(tarn_op_apply(&cx, &tarn_op_sum, 1, &v, &a, &y, &err));
    for (int64_t r = 0; r < 5; r++) {
        for (int64_t c = 0; c < 65; c++) {
            double row[9 * 30];
            for (int64_t o = 0; o < 9; o++) {
                for (int64_t k = 0; k < 30; k++) {
                    row[o * 30 + k] = tarn_tensor_get(&x, ((o * 5 + r) * 37 + k + 3) * 66 + c + 1);
                }
            }
            assert_true((double)(float)pair_sum(row, 270) == tarn_tensor_get(&y, r * 65 + c));
        }
    }
    OK(tarn_op_apply(&cx, &tarn_op_permute, 1, &v, &p, &w, &err));  // no dimension steps by one reduced
    OK(tarn_tensor_cast(&cx, &w, TARN_F32, &plain, &err));
    OK(tarn_op_apply(&cx, &tarn_op_sum, 1, &w, &a, &z, &err));
    tarn_tensor same;
    OK(tarn_op_apply(&cx, &tarn_op_sum, 1, &plain, &a, &same, &err));
    assert_memory_equal(tarn_tensor_data(&same), tarn_tensor_data(&z), tarn_tensor_bytes(&z));
    tarn_tensor *all[] = {&x, &v, &plain, &y, &z, &w, &same};
    for (int k = 0; k < 7; k++) {
        tarn_tensor_release(all[k]);
    }
    const int64_t first[3] = {0, 0, 0}, across[2] = {1, 0}, wide[2] = {131, 77};
    a = (tarn_attr){.ni = 3, .i = first}, p = (tarn_attr){.ni = 2, .i = across};
    x = filled(&cx, TARN_BF16, 2, wide, 6);
    OK(tarn_op_apply(&cx, &tarn_op_permute, 1, &x, &p, &w, &err));
    for (int k = 0; k < 2; k++) {
        OK(tarn_tensor_cast(&cx, k ? &w : &x, TARN_F32, &plain, &err));
        OK(tarn_op_apply(&cx, &tarn_op_sum, 1, k ? &w : &x, &a, &z, &err));
        OK(tarn_op_apply(&cx, &tarn_op_sum, 1, &plain, &a, &same, &err));
        assert_memory_equal(tarn_tensor_data(&same), tarn_tensor_data(&z), tarn_tensor_bytes(&z));
        tarn_tensor_release(&plain);
        tarn_tensor_release(&z);
        tarn_tensor_release(&same);
    }
    tarn_tensor_release(&x);
    tarn_tensor_release(&w);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dimensions),
        cmocka_unit_test(test_uneven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
