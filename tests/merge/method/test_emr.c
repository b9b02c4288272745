// SPDX-License-Identifier: Apache-2.0
// EMR: an example worked by hand, the identities that the paper states (one model comes back, the L1
// norm of each offset stays), and the stored form against the model it stands for.
#include "tests/merge/method/values.h"

#include <math.h>

enum { N = 6, T = 3 };

// Columns: the task vectors, their sum, the unified vector. In place 3 the sum is zero: the paper elects
// no sign there, the code minus.
//   t_1    1   -2    0    1   -1    4
//   t_2    3    1    0   -1    2    4
//   t_3   -2   -3    1    0    1   -8
//   sum    2   -4    1    0    2    0
//   u      3   -3    1    0    2    0       (code: -1 in place 3, -8 in place 5)
//   masks  1,2  1,3  3    -   2,3   -       (code: 2 in place 3, 3 in place 5)
static const double base_row[N] = {0.5, -1, 2, 3, 0, 1};
static const double task[T][N] = {{1, -2, 0, 1, -1, 4}, {3, 1, 0, -1, 2, 4}, {-2, -3, 1, 0, 1, -8}};
static const double unified[2][N] = {{3, -3, 1, 0, 2, 0}, {3, -3, 1, -1, 2, -8}};
static const double word[2][N] = {{3, 5, 4, 0, 6, 0}, {3, 5, 4, 2, 6, 4}};

static const slot pieces_of[] = {{"p", 1, {4}}, {"q", 1, {2}}};
static const cut pieces = {TARN_F32, 2, pieces_of};

typedef worked fixture;

static int start(void **state) {
    static fixture f;
    worked_open(&f, &pieces, T, N, base_row, task[0]);
    *state = &f;
    return 0;
}
static int stop(void **state) {
    worked_close(*state);
    return 0;
}

static bool holds(int code, int t, int i) { return (int)word[code][i] >> t & 1; }

// The rescaler of task t: over all entries, or over the means of the two tensors (of 4 and 2 entries).
static double rescaler(int code, int t, bool means) {
    double before = 0, after = 0;
    for (int i = 0; i < N; i++) {
        double share = !means ? 1 : i < 4 ? 1.0 / 4 : 1.0 / 2;
        before += share * fabs(task[t][i]);
        after += holds(code, t, i) ? share * fabs(unified[code][i]) : 0;
    }
    return before / after;
}

static void by_hand(void **state) {
    fixture *f = *state;
    double y[N], want[N];
    assert_true(rescaler(0, 0, false) == 9.0 / 6);   // 1 + 2 + 1 + 1 + 4 over 3 + 3
    assert_true(rescaler(0, 0, true) == 3.5 / 1.5);  // 4 / 4 + 5 / 2 over 6 / 4
    for (int code = 0; code < 2; code++) {
        for (int means = 0; means < 2; means++) {
            for (int t = 0; t < T; t++) {
                options o = {0};
                set(&o, "task", t + 1);
                choose(&o, "zero", code ? "minus" : "none");
                choose(&o, "rescale", means ? "mean" : "sum");
                for (int i = 0; i < N; i++) {
                    want[i] = base_row[i] + (holds(code, t, i) ? rescaler(code, t, means) * unified[code][i] : 0);
                }
                run_cut(&f->cx, &pieces, "emr", base_row, T, f->rows, &o, N, y);
                same_row(y, want, N, 1e-6, "emr");
            }
        }
    }
}

// The offset of every task's model has the L1 norm of its task vector, over the whole model.
static void norms_stay(void **state) {
    fixture *f = *state;
    enum { MANY = 9000 };
    static double base[MANY], x[T][MANY], y[MANY];
    const double *rows[T] = {x[0], x[1], x[2]};
    const cut parts = {TARN_F32, 3, (const slot[]){{"a", 1, {1}}, {"b", 1, {5000}}, {"c", 1, {3999}}}};
    uint64_t seed = 11;
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < MANY; i++) {  // tensors of quite different sizes
            x[t][i] = (float)(test_uniform(&seed) * (i < 5001 ? 1 : 0.01));
        }
    }
    for (int t = 0; t < T; t++) {
        double before = 0, after = 0;
        options o = {0};
        set(&o, "task", t + 1);
        run_cut(&f->cx, &parts, "emr", base, T, rows, &o, MANY, y);
        for (int i = 0; i < MANY; i++) {
            before += fabs(x[t][i]);
            after += fabs(y[i]);
            assert_true(y[i] == 0 || (y[i] > 0) == (x[t][i] > 0));
        }
        assert_true(fabs(after - before) <= 1e-6 * before);
    }
}

// One model comes back, in every dtype; so do equal ones. Models equal to the base give the base.
static void one_model(void **state) {
    fixture *f = *state;
    static const tarn_dtype dtypes[] = {TARN_F64, TARN_F32, TARN_F16, TARN_BF16};
    double y[N];
    for (int d = 0; d < 4; d++) {
        cut c = pieces;
        c.dtype = dtypes[d];
        for (int k = 1; k <= T; k++) {
            const double *same[T] = {f->x[0], f->x[0], f->x[0]};
            const double *none[T] = {base_row, base_row, base_row};
            options o = {0};
            set(&o, "task", k);
            run_cut(&f->cx, &c, "emr", base_row, k, same, &o, N, y);
            same_row(y, f->x[0], N, 0, "equal models");
            run_cut(&f->cx, &c, "emr", base_row, k, none, &o, N, y);
            same_row(y, base_row, N, 0, "models equal to the base");
        }
    }
    const cut small = {TARN_F32, 3, (const slot[]){{"a", 1, {1}}, {"b", 1, {0}}, {"c", 1, {1}}}};
    options o = {0};
    set(&o, "task", 1);
    run_cut(&f->cx, &small, "emr", base_row, 1, f->rows, &o, 2, y);
    same_row(y, f->x[0], 2, 0, "one element, and none");
}

// What emr_masks stores, and that unmask makes of it what emr gives, bit for bit. A tensor's rescalers
// asked for alone count the whole model all the same.
static void stored(void **state) {
    fixture *f = *state;
    for (int code = 0; code < 2; code++) {
        double y[64], again[N], want[T];
        options o = {0};
        choose(&o, "zero", code ? "minus" : "none");
        choose(&o, "rescale", code ? "mean" : "sum");
        tarn_model *kept = planned_of(&f->cx, "emr_masks", f->base, T, f->m, &o);
        assert_int_equal(tensor_of(&f->cx, kept, "p.mask", 64, y), 4);
        same_row(y, word[code], 4, 0, "p.mask");
        assert_int_equal(tensor_of(&f->cx, kept, "q", 64, y), 2);
        same_row(y, unified[code] + 4, 2, 0, "q");
        for (int t = 0; t < T; t++) {
            want[t] = rescaler(code, t, code);
        }
        assert_int_equal(tensor_of(&f->cx, kept, "q.rescale", 64, y), T);
        same_row(y, want, T, 1e-6, "q.rescale");
        assert_int_equal(row_of(&f->cx, kept, 64, y), 6 + 6 + 2 * T + 2 * (T + 1));
        same_row(y + 8, y + 16 + T, T, 0, "the same for every tensor");
        for (int t = 0; t < T; t++) {
            options which = {0};
            set(&which, "task", t + 1);
            tarn_model *back = planned_of(&f->cx, "unmask", f->base, 1, &kept, &which);
            assert_int_equal(row_of(&f->cx, back, N, again), N);
            set(&o, "task", t + 1);
            run_cut(&f->cx, &pieces, "emr", base_row, T, f->rows, &o, N, y);
            assert_memory_equal(y, again, sizeof again);
            o.n--;
            tarn_model_release(back);
        }
        tarn_model_release(kept);
    }
}

// Empty tensors have outputs too, and no part in the sums.
static void stored_empty(void **state) {
    fixture *f = *state;
    const cut parts = {TARN_BF16, 3, (const slot[]){{"a", 1, {0}}, {"b", 1, {3}}, {"c", 1, {3}}}};
    double y[64];
    options o = {0};
    choose(&o, "rescale", "mean");
    tarn_model *base = model_cut(&f->cx, &parts, base_row), *x = model_cut(&f->cx, &parts, f->x[0]);
    tarn_model *kept = planned_of(&f->cx, "emr_masks", base, 1, &x, &o);
    assert_int_equal(row_of(&f->cx, kept, 64, y), 2 * N + 3 + 3 * 2);
    same_row(y, (double[]){1, 0, 0}, 3, 0, "a.rescale, a.used");
    options first = {0};
    set(&first, "task", 1);
    tarn_model *back = planned_of(&f->cx, "unmask", base, 1, &kept, &first);
    assert_int_equal(row_of(&f->cx, back, N, y), N);
    same_row(y, f->x[0], N, 0, "rebuilt");
    tarn_model_release(back);
    tarn_model_release(kept);
    tarn_model_release(x);
    tarn_model_release(base);
}

static void refused(void **state) {
    fixture *f = *state;
    tarn_error err = {0};
    tarn_model *out;
    options o = {0}, each = {0};
    double task_of[2] = {1, 2};
    set(&o, "task", 4);
    assert_int_not_equal(tarn_method_apply(&f->cx, tarn_method_find("emr"), f->base, T, f->m, o.n, o.v, NULL, &out,
                                           &err), TARN_OK);
    assert_string_equal(err.message, "merge.emr: task = 4, but there are 3 models");
    each.v[each.n++] = (tarn_value){.name = "task", .model = -1, .each = task_of};
    assert_int_not_equal(tarn_method_apply(&f->cx, tarn_method_find("emr"), f->base, T, f->m, each.n, each.v, NULL,
                                           &out, &err), TARN_OK);
    assert_string_equal(err.code, "OptionType");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand), cmocka_unit_test(norms_stay),   cmocka_unit_test(one_model),
        cmocka_unit_test(stored),  cmocka_unit_test(stored_empty), cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
