// SPDX-License-Identifier: Apache-2.0
// Fourier rows against the sum that defines them, in long double: every length to 70 and lengths of
// all kinds beyond (powers of two, primes below and above what a stage takes, products), every dtype,
// permuted and gapped views; the round trip, Parseval's identity, the same bits on every instruction
// set. smooth against its definition, window by window.
#include "tests/vm/op/rows.h"
#include "vm/op/fft.h"

static const long double pi = 3.141592653589793238462643383279502884L;

// The largest distance from the defining sum, relative to the norm of the line.
static double distance(const tarn_complex *x, const tarn_complex *y, int64_t n) {
    long double worst = 0, norm = 0;
    for (int64_t k = 0; k < n; k++) {
        norm += (long double)x[k].re * x[k].re + (long double)x[k].im * x[k].im;
    }
    for (int64_t k = 0; k < n; k++) {
        long double re = 0, im = 0;
        for (int64_t j = 0; j < n; j++) {
            long double t = -2 * pi * (long double)(j * k % n) / (long double)n, c = cosl(t), s = sinl(t);
            re += x[j].re * c - x[j].im * s;
            im += x[j].re * s + x[j].im * c;
        }
        long double d = hypotl(re - y[k].re, im - y[k].im);
        worst = d > worst ? d : worst;
    }
    return (double)(worst / sqrtl(norm));
}

static void lengths(void **state) {
    static const int64_t more[] = {121, 128, 193, 243, 256, 320, 331, 511, 512, 640, 961, 1001, 1009};
    uint64_t seed = 3;
    tarn_error err = {0};
    for (int64_t i = 0; i < 70 + (int64_t)(sizeof more / sizeof *more); i++) {
        int64_t n = i < 70 ? i + 1 : more[i - 70];
        tarn_complex x[1009], y[1009];
        tarn_fft f;
        OK(tarn_fft_open(&row_context[0], n, &f, &err));
        for (int64_t k = 0; k < n; k++) {
            y[k] = x[k] = (tarn_complex){test_uniform(&seed), test_uniform(&seed)};
        }
        OK(tarn_fft_run(&f, y, false, &err));
        double d = distance(x, y, n);
        if (!(d < 3e-15)) {
            fail_msg("length %d: off by %g", (int)n, d);
        }
        double in = 0, out = 0;
        for (int64_t k = 0; k < n; k++) {
            in += x[k].re * x[k].re + x[k].im * x[k].im;
            out += y[k].re * y[k].re + y[k].im * y[k].im;
        }
        assert_true(fabs(out / (double)n - in) < 1e-13 * in);  // Parseval
        OK(tarn_fft_run(&f, y, true, &err));
        for (int64_t k = 0; k < n; k++) {
            assert_true(fabs(x[k].re - y[k].re) < 2e-15 * sqrt(in) && fabs(x[k].im - y[k].im) < 2e-15 * sqrt(in));
        }
        tarn_fft_close(&f);
    }
}

// The defining sum over all dimensions at one frequency of the half spectrum.
static void defined(const tarn_tensor *x, const int64_t *at, double *re, double *im) {
    int64_t n = tarn_tensor_numel(x);
    long double sum[2] = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        long double t = 0;
        int64_t rest = i;
        for (int d = x->rank - 1; d >= 0; d--) {
            t += (long double)(rest % x->shape[d] * at[d] % x->shape[d]) / (long double)x->shape[d];
            rest /= x->shape[d];
        }
        sum[0] += tarn_tensor_get(x, i) * cosl(-2 * pi * t);
        sum[1] += tarn_tensor_get(x, i) * sinl(-2 * pi * t);
    }
    *re = (double)sum[0];
    *im = (double)sum[1];
}

static void check_spectrum(const tarn_tensor *x, const tarn_tensor *y, double tol) {
    int64_t half = tarn_tensor_numel(y) / 2, last = x->shape[x->rank - 1] / 2 + 1;
    double norm = 0;
    for (int64_t i = 0; i < tarn_tensor_numel(x); i++) {
        norm += fabs(tarn_tensor_get(x, i));
    }
    for (int64_t k = 0; k < half; k++) {
        int64_t at[TARN_MAX_RANK], rest = k / last;
        double re, im;
        at[x->rank - 1] = k % last;
        for (int d = x->rank - 2; d >= 0; d--) {
            at[d] = rest % x->shape[d];
            rest /= x->shape[d];
        }
        defined(x, at, &re, &im);
        assert_true(fabs(re - tarn_tensor_get(y, k)) <= tol * norm);
        assert_true(fabs(im - tarn_tensor_get(y, half + k)) <= tol * norm);
    }
}

static void tensors(void **state) {
    static const int64_t shapes[][4] = {{1}, {2}, {7}, {67}, {5, 8}, {1, 6}, {6, 1}, {3, 1, 4}, {4, 3, 3, 3}, {2, 5, 1, 1}};
    static const int ranks[] = {1, 1, 1, 1, 2, 2, 2, 3, 4, 4};
    uint64_t seed = 9;
    tarn_error err = {0};
    for (int i = 0; i < 10; i++) {
        static const tarn_dtype types[] = {TARN_F64, TARN_F32, TARN_BF16, TARN_I32};
        for (int t = 0; t < 4; t++) {
            tarn_tensor x = any_view(&row_context[0], types[t], ranks[i], shapes[i], &seed);
            for (int64_t k = 0; k < tarn_tensor_numel(&x); k++) {
                tarn_tensor_set(&x, k, t == 3 ? floor(9 * test_uniform(&seed)) : test_uniform(&seed));
            }
            double tol = t == 0 ? 1e-15 : 1e-7;
            tarn_attr none = {0}, last = {.ni = 1, .i = &x.shape[x.rank - 1]};
            tarn_tensor y = run_row(&tarn_op_rfftn, 1, &x, &none);
            assert_int_equal(y.dtype, t == 0 ? TARN_F64 : TARN_F32);
            check_spectrum(&x, &y, tol);
            tarn_tensor back = run_row(&tarn_op_irfftn, 1, &y, &last);
            for (int64_t k = 0; k < tarn_tensor_numel(&x); k++) {
                assert_true(fabs(tarn_tensor_get(&x, k) - tarn_tensor_get(&back, k)) < 20 * tol);
            }
            tarn_tensor_release(&x);
            tarn_tensor_release(&y);
            tarn_tensor_release(&back);
        }
    }
    // A stop is seen; wrong shapes are told.
    const int64_t two[2] = {2, 3}, three = 3;
    tarn_tensor x, y;
    tarn_attr wrong = {.ni = 1, .i = &three}, none = {0};
    OK(tarn_tensor_zeros(&row_context[0], TARN_F64, 2, two, &x, &err));
    assert_int_equal(tarn_op_apply(&row_context[0], &tarn_op_irfftn, 1, &x, &wrong, &y, &err), TARN_ERROR);
    assert_string_equal(err.code, "ShapeMismatch");
    tarn_cancel_set(&row_context[0].cancel, TARN_STOP_INT);
    assert_int_equal(tarn_op_apply(&row_context[0], &tarn_op_rfftn, 1, &x, &none, &y, &err), TARN_CANCELLED);
    tarn_cancel_clear(&row_context[0].cancel);
    tarn_tensor_release(&x);
}

// ---- smooth ----

static int64_t mirror(int64_t i, int64_t n) {
    while (i < 0 || i >= n) {
        i = i < 0 ? -1 - i : 2 * n - 1 - i;
    }
    return i;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

// Of a matrix: the sorted window of nine, then both passes of the bell.
static void naive_smooth(const double *x, int64_t rows, int64_t cols, double *out) {
    double *m = calloc((size_t)(rows * cols), sizeof *m), *h = calloc((size_t)(rows * cols), sizeof *h);
    double bell[9], total = 0;
    for (int k = 0; k < 9; k++) {
        total += bell[k] = exp(-0.5 * (k - 4) * (k - 4));
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        double window[9];
        for (int k = 0; k < 9; k++) {
            window[k] = x[mirror(i / cols + k / 3 - 1, rows) * cols + mirror(i % cols + k % 3 - 1, cols)];
        }
        qsort(window, 9, sizeof *window, by_value);
        m[i] = window[4];
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        for (int k = 0; k < 9; k++) {
            h[i] += bell[k] / total * m[mirror(i / cols + k - 4, rows) * cols + i % cols];
        }
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        out[i] = 0;
        for (int k = 0; k < 9; k++) {
            out[i] += bell[k] / total * h[i / cols * cols + mirror(i % cols + k - 4, cols)];
        }
    }
    free(m);
    free(h);
}

static void smoothed(void **state) {
    static const int64_t shapes[][2] = {{1, 1}, {1, 9}, {2, 2}, {3, 7}, {11, 6}, {40, 33}};
    uint64_t seed = 5;
    tarn_error err = {0};
    for (int i = 0; i < 6; i++) {
        int64_t rows = shapes[i][0], cols = shapes[i][1], n = rows * cols;
        double x[1320], want[1320];
        tarn_tensor t = any_view(&row_context[0], TARN_F64, 2, shapes[i], &seed);
        for (int64_t k = 0; k < n; k++) {
            x[k] = test_uniform(&seed);
            tarn_tensor_set(&t, k, x[k]);
        }
        tarn_attr none = {0};
        tarn_tensor y = run_row(&tarn_op_smooth, 1, &t, &none);
        naive_smooth(x, rows, cols, want);
        for (int64_t k = 0; k < n; k++) {
            assert_true(fabs(tarn_tensor_get(&y, k) - want[k]) < 1e-14);
        }
        // Dimensions of one element change nothing: the same bits.
        const int64_t shape[4] = {rows, 1, cols, 1};
        tarn_attr longer = {.ni = 4, .i = shape};
        tarn_tensor view, z;
        OK(tarn_op_apply(&row_context[0], &tarn_op_reshape, 1, &t, &longer, &view, &err));
        z = run_row(&tarn_op_smooth, 1, &view, &none);
        for (int64_t k = 0; k < n; k++) {
            assert_true(tarn_tensor_get(&z, k) == tarn_tensor_get(&y, k));
        }
        tarn_tensor_release(&view);
        tarn_tensor_release(&z);
        tarn_tensor_release(&t);
        tarn_tensor_release(&y);
    }
    // A constant stays what it is; one wild element among equals is gone.
    const int64_t cube[3] = {5, 6, 7};
    tarn_tensor t;
    tarn_attr none = {0};
    OK(tarn_tensor_zeros(&row_context[0], TARN_F32, 3, cube, &t, &err));
    for (int64_t k = 0; k < 210; k++) {
        tarn_tensor_set(&t, k, k == 100 ? 1e9 : 0.25);
    }
    tarn_tensor y = run_row(&tarn_op_smooth, 1, &t, &none);
    assert_int_equal(y.dtype, TARN_F32);
    for (int64_t k = 0; k < 210; k++) {
        assert_true(fabs(tarn_tensor_get(&y, k) - 0.25) < 1e-7);
    }
    tarn_tensor_release(&t);
    tarn_tensor_release(&y);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths), cmocka_unit_test(tensors), cmocka_unit_test(smoothed),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
