// SPDX-License-Identifier: Apache-2.0
// Rows that work on reduced values between passes: means and medians of points known by their inner
// products or distances, the leading part of a spectrum. Closed forms, on every instruction set.
#include "tests/vm/op/rows.h"

// Two unit vectors at an angle, weights w: the mean lies at w2 times the angle from the first.
static void karcher(void **state) {
    for (int k = 0; k < 20; k++) {
        const double angle = 0.1 + 0.14 * k, w = 0.05 * k, stop[2] = {200, 1e-12};
        const int64_t square[2] = {2, 2}, two[1] = {2};
        tarn_error err = {0};
        tarn_tensor in[2];
        OK(tarn_tensor_new(&row_context[0], TARN_F64, 2, square, &in[0], &err));
        OK(tarn_tensor_new(&row_context[0], TARN_F64, 1, two, &in[1], &err));
        double *gram = in[0].storage->data, *weight = in[1].storage->data;
        gram[0] = 4, gram[1] = gram[2] = 2 * 3 * cos(angle), gram[3] = 9;
        weight[0] = 1 - w, weight[1] = w;
        tarn_attr a = {.nf = 2, .f = stop};
        tarn_tensor out = run_row(&tarn_op_karcher_weights, 2, in, &a);
        double length = 2 * (1 - w) + 3 * w;
        same_number("first", tarn_tensor_get(&out, 0) * 2, length * sin((1 - w) * angle) / sin(angle), 1e-9);
        same_number("second", tarn_tensor_get(&out, 1) * 3, length * sin(w * angle) / sin(angle), 1e-9);
        tarn_tensor_release(&in[0]);
        tarn_tensor_release(&in[1]);
        tarn_tensor_release(&out);
    }
}

// Three points of a triangle with right angle at the first: the point that sees all sides under 120
// degrees. A point that outweighs the rest is the median; distances that are not finite give NaN.
static void median(void **state) {
    static const double squares[9] = {0, 1, 1, 1, 0, 2, 1, 2, 0};
    const double stop[2] = {1000, 1e-14}, c = (3 - sqrt(3)) / 6;
    const double want[3][3] = {{1 - 2 * c, c, c}, {0, 1, 0}, {NAN, NAN, NAN}};
    const int64_t square[2] = {3, 3}, three[1] = {3};
    for (int k = 0; k < 3; k++) {
        tarn_error err = {0};
        tarn_tensor in[2];
        OK(tarn_tensor_new(&row_context[0], TARN_F64, 2, square, &in[0], &err));
        OK(tarn_tensor_new(&row_context[0], TARN_F64, 1, three, &in[1], &err));
        for (int i = 0; i < 9; i++) {
            tarn_tensor_set(&in[0], i, k == 2 ? squares[i] * HUGE_VAL : squares[i]);
        }
        for (int i = 0; i < 3; i++) {
            tarn_tensor_set(&in[1], i, k == 1 && i == 1 ? 2 : 1);
        }
        tarn_attr a = {.nf = 2, .f = stop};
        tarn_tensor out = run_row(&tarn_op_median_weights, 2, in, &a);
        for (int i = 0; i < 3; i++) {
            same_number("share", tarn_tensor_get(&out, i), want[k][i], k == 0 ? 1e-10 : 0);
        }
        tarn_tensor_release(&in[0]);
        tarn_tensor_release(&in[1]);
        tarn_tensor_release(&out);
    }
}

// The fewest first elements that hold the share: met exactly, just missed, all of them, none of nothing.
static void leading(void **state) {
    static const struct {
        double share, power;
        int keep;
    } cases[] = {{0, 1, 0}, {0.5, 1, 1}, {0.50001, 1, 2}, {0.75, 1, 2}, {1, 1, 4}, {0.66, 2, 1}, {0.8, 2, 2}, {1, 2, 4}};
    static const double values[2][4] = {{4, 2, 1, 1}, {0, 0, 0, 0}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        for (int rows = 0; rows <= 2; rows++) {
            const int64_t shape[2] = {rows, 4};
            const double f[2] = {cases[k].share, cases[k].power};
            tarn_error err = {0};
            tarn_tensor in;
            OK(tarn_tensor_new(&row_context[0], TARN_F32, 2, shape, &in, &err));
            for (int i = 0; i < 4 * rows; i++) {
                tarn_tensor_set(&in, i, values[i / 4][i % 4]);
            }
            tarn_attr a = {.nf = 2, .f = f};
            tarn_tensor out = run_row(&tarn_op_leading, 1, &in, &a);
            for (int i = 0; i < 4 * rows; i++) {
                bool kept = i < 4 ? i < cases[k].keep : cases[k].share >= 1;
                same_number("kept", tarn_tensor_get(&out, i), kept, 0);
            }
            tarn_tensor_release(&in);
            tarn_tensor_release(&out);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(karcher), cmocka_unit_test(median), cmocka_unit_test(leading),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
