// SPDX-License-Identifier: Apache-2.0
// MagMax and LiNeS: the entry that is taken, the layers that are scaled.
#include "tests/merge/method/values.h"

static void magmax(void **state) {
    static const tarn_dtype dtypes[] = {TARN_F64, TARN_F32, TARN_F16, TARN_BF16};
    const double base[6] = {1, -1, 0.5, 2, 0, 8}, y[3][6] = {{2, -3, 0.5, 2, 0, 8.5}, {0, -2, 1, 3, 0, 7}, {1, 1, -1, 2, 0, 6}};
    // Offsets: 1 -2 0 0 0 1/2;  -1 -1 1/2 1 0 -1;  0 2 -3/2 0 0 -2. Of equal ones the first.
    const double most[6] = {1, -2, -1.5, 1, 0, -2}, *rows[3] = {y[0], y[1], y[2]}, *back[3] = {y[2], y[1], y[0]};
    for (int d = 0; d < 4; d++) {
        const cut c = {dtypes[d], 3, (const slot[]){{"a", 1, {5}}, {"e", 1, {0}}, {"b", 1, {1}}}};
        double got[6], want[6];
        options none = {0}, half = {0};
        for (int i = 0; i < 6; i++) {
            want[i] = base[i] + most[i];
        }
        run_cut(*state, &c, "magmax", base, 3, rows, &none, 6, got);
        same_row(got, want, 6, 0, "magmax");
        want[0] = base[0] - 1;  // in the other order the other of equals
        want[1] = base[1] + 2;
        run_cut(*state, &c, "magmax", base, 3, back, &none, 6, got);
        same_row(got, want, 6, 0, "magmax, the other way");
        run_cut(*state, &c, "magmax", base, 1, rows, &none, 6, got);
        same_row(got, y[0], 6, 0, "magmax of one");
        // A weight decides as well: the first model counts four times.
        set_of(&half, "weight", 0, 4);
        set_of(&half, "weight", 1, 1);
        set_of(&half, "weight", 2, 1);
        set(&half, "lambda", 0.5);
        const double heavy[6] = {4, -8, -1.5, 1, 0, 2};  // of equal sizes (4 · 1/2 and -2) the first
        for (int i = 0; i < 6; i++) {
            want[i] = base[i] + 0.5 * heavy[i];
        }
        run_cut(*state, &c, "magmax", base, 3, rows, &half, 6, got);
        same_row(got, want, 6, 0, "magmax, weighted");
    }
}

// Three layers, an embedding and a head: alpha outside the layers and in the first, alpha + beta in the
// last, half of beta between.
static void lines(void **state) {
    tarn_context *cx = *state;
    static const char *const names[5] = {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight",
                                         "model.layers.1.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight",
                                         "lm_head.weight"};
    const double scale[5] = {0.25, 0.25, 0.5, 0.75, 0.25};
    tarn_error err = {0};
    tarn_model *m[3], *out;
    for (int k = 0; k < 3; k++) {
        tarn_tensor t[5];
        int64_t shape[2] = {2, 2};
        for (int s = 0; s < 5; s++) {
            OK(tarn_tensor_new(cx, TARN_F32, 2, shape, &t[s], &err));
            for (int i = 0; i < 4; i++) {
                tarn_tensor_set(&t[s], i, k == 0 ? s : s + (k == 1 ? 4 : 8) * (i + 1));
            }
        }
        OK(tarn_model_of_tensors(cx, 5, names, t, 1, NULL, &m[k], &err));
        for (int s = 0; s < 5; s++) {
            tarn_tensor_release(&t[s]);
        }
    }
    options o = {0}, flat = {0}, plain = {0};
    double y[20], want[20];
    set(&o, "alpha", 0.25);
    set(&o, "beta", 0.5);
    set_of(&o, "weight", 0, 1);
    set_of(&o, "weight", 1, 0.5);
    out = planned_of(cx, "lines", m[0], 2, m + 1, &o);
    assert_int_equal(row_of(cx, out, 20, y), 20);
    for (int i = 0; i < 20; i++) {
        want[i] = i / 4 + scale[i / 4] * (4 + 0.5 * 8) * (i % 4 + 1);
    }
    same_row(y, want, 20, 0, "lines");
    tarn_model_release(out);
    // beta = 0 is task arithmetic.
    set(&flat, "alpha", 0.3);
    set(&flat, "beta", 0);
    set(&plain, "lambda", 0.3);
    out = planned_of(cx, "lines", m[0], 2, m + 1, &flat);
    row_of(cx, out, 20, y);
    tarn_model_release(out);
    out = planned_of(cx, "task_arithmetic", m[0], 2, m + 1, &plain);
    row_of(cx, out, 20, want);
    tarn_model_release(out);
    assert_memory_equal(y, want, sizeof y);
    for (int k = 0; k < 3; k++) {
        tarn_model_release(m[k]);
    }
}

// Names without layers: beta would do nothing, silently.
static void no_layers(void **state) {
    const double x[2] = {1, 2};
    tarn_error err = {0};
    tarn_model *m = model_of(*state, 2, x), *out;
    options o = {0};
    set(&o, "alpha", 0.5);
    set(&o, "beta", 0.5);
    assert_int_not_equal(tarn_method_apply(*state, tarn_method_find("lines"), m, 1, &m, o.n, o.v, NULL, &out, &err),
                         TARN_OK);
    assert_string_equal(err.code, "NoLayers");
    o.v[1].number = 0;
    OK(tarn_method_apply(*state, tarn_method_find("lines"), m, 1, &m, o.n, o.v, NULL, &out, &err));
    tarn_model_release(out);
    tarn_model_release(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(magmax), cmocka_unit_test(lines), cmocka_unit_test(no_layers)};
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
