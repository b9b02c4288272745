// SPDX-License-Identifier: Apache-2.0
// What holds for every row of the table of methods, new ones included: nothing but finite numbers
// comes out of degenerate operands, in any dtype; the same bytes for any number of threads; and,
// unless a method is named in invariances.h with its reason, one model gives itself back, equal
// models do, models equal to the base give the base, the order of the models does not matter, and what
// is done to numbers of another size is the same in that size.
#include "tests/merge/method/invariances.h"

// ---- promises ----

enum { ALL = 100 };
static const slot several[] = {{"model.layers.0.a.weight", 2, {6, 10}},
                               {"model.layers.1.b.weight", 1, {7}},
                               {"model.layers.2.c.weight", 4, {2, 2, 3, 2}},
                               {"model.norm.weight", 2, {9, 1}}};

static void compare(const tarn_method *m, const char *what, const double *y, int64_t n,
                    const double *want, double tol) {
    if (n != ALL) {
        fail_msg("%s: %s: %d numbers", m->name, what, (int)n);
    }
    for (int i = 0; i < ALL; i++) {
        if (!(fabs(y[i] - want[i]) <= tol * (1 + fabs(want[i])))) {
            fail_msg("%s: %s: element %d is %.9g, expected %.9g (a promise that is not made "
                     "belongs in the "
                     "table `broken`)",
                     m->name, what, i, y[i], want[i]);
        }
    }
}

static void promises_are_kept(void **state) {
    static double base[ALL], x[3][ALL], wide_base[ALL], wide_x[3][ALL];
    uint64_t seed = 3;
    for (int i = 0; i < ALL; i++) {
        base[i] = (float)test_uniform(&seed);
        wide_base[i] = 8 * base[i];
        for (int k = 0; k < 3; k++) {
            x[k][i] = (float)(base[i] + 0.2 * test_uniform(&seed));
            wide_x[k][i] = 8 * x[k][i];
        }
    }
    const double *given[3] = {x[0], x[1], x[2]}, *turned[3] = {x[2], x[0], x[1]},
                 *two[2] = {x[1], x[0]}, *wide[3] = {wide_x[0], wide_x[1], wide_x[2]};
    const double *same[3] = {x[0], x[0], x[0]}, *still[3] = {base, base, base};
    const cut f = {TARN_F32, COUNT(several), several};
    for (int i = 0; tarn_methods[i]; i++) {
        const tarn_method *m = tarn_methods[i];
        int k = models_of(m);
        int64_t n, n2;
        double *y;
        if (is_special(m) || m->outputs) {
            continue;
        }
        if (m->least <= 1 && promises(m, ONE)) {
            y = result(*state, m, &f, base, 1, given, true, &n);
            compare(m, "one model", y, n, x[0], 1e-5);
            free(y);
        }
        if (promises(m, EQUAL)) {
            y = result(*state, m, &f, base, k, same, true, &n);
            compare(m, "equal models", y, n, x[0], 1e-5);
            free(y);
        }
        if (promises(m, STILL)) {
            y = result(*state, m, &f, base, k, still, true, &n);
            compare(m, "models equal to the base", y, n, base, 1e-5);
            free(y);
        }
        if (k > 1 && promises(m, ORDER)) {
            double *z = result(*state, m, &f, base, k, k == 2 ? two : turned, true, &n2);
            y = result(*state, m, &f, base, k, given, true, &n);
            assert_int_equal(n, n2);
            compare(m, "models in another order", y, n, z, 1e-5);
            free(y);
            free(z);
        }
        if (promises(m, SCALE)) {
            double *z = result(*state, m, &f, wide_base, k, wide, true, &n2);
            y = result(*state, m, &f, base, k, given, true, &n);
            assert_int_equal(n, n2);
            for (int j = 0; j < n; j++) {
                z[j] /= 8;
            }
            compare(m, "numbers 8 times as large", y, n, z, 1e-5);
            free(y);
            free(z);
        }
    }
}

// Rows of the tables name methods and options that there are.
static void tables_are_current(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        assert_non_null(tarn_method_find(broken[i].method));
        assert_true(broken[i].why[0] != '\0');
    }
    for (size_t i = 0; i < COUNT(required); i++) {
        assert_non_null(tarn_method_find(required[i].method));
    }
    for (size_t i = 0; i < COUNT(whole); i++) {
        assert_non_null(tarn_method_find(whole[i].method));
    }
}

// ---- edges ----

static void edge(tarn_context *cx, const tarn_method *m, const cut *f, const double *const *set) {
    int64_t n;
    double *y = result(cx, m, f, set[3], models_of(m), set, false, &n);
    if (!m->outputs && n != numel_of(f->slots)) {
        fail_msg("%s: %d numbers from %d", m->name, (int)n, (int)numel_of(f->slots));
    }
    for (int64_t j = 0; j < n; j++) {
        if (!isfinite(y[j])) {
            fail_msg("%s: %s, rank %d, %d elements: element %d is %g", m->name,
                     tarn_dtype_get(f->dtype)->name, f->slots->rank, (int)numel_of(f->slots),
                     (int)j, y[j]);
        }
    }
    free(y);
}

// Zeros, equal models, a zero model among others, tiny offsets; no elements, one, a few: finite
// numbers only, as many as went in, in every dtype.
static void edges(void **state) {
    static const slot shapes[] = {{"w", 0, {0}},    {"w", 1, {0}},    {"w", 1, {1}},
                                  {"w", 2, {1, 1}}, {"w", 2, {3, 0}}, {"w", 1, {6}},
                                  {"w", 2, {2, 3}}, {"w", 2, {6, 1}}, {"w", 3, {1, 3, 2}}};
    static const tarn_dtype others[] = {TARN_BF16, TARN_F16, TARN_F64};
    static const double some[6] = {0.5, -1.25, 2, 0.125, -3, 1}, zero[6] = {0};
    static const double small[6] = {1e-7, 0, 0, -1e-7, 0, 1e-7},
                        more[6] = {0.5, -1, 2, 0.25, -3, 1.5};
    static const double *const sets[][4] = {// three models and the base
                                            {zero, zero, zero, zero}, {some, some, some, some},
                                            {some, some, some, zero}, {some, zero, more, zero},
                                            {zero, some, some, some}, {small, small, small, zero},
                                            {some, more, some, more}};
    tarn_context cx;
    open_context(&cx, 1, NULL);
    for (int i = 0; tarn_methods[i]; i++) {
        for (size_t s = 0; !is_special(tarn_methods[i]) && s < COUNT(shapes); s++) {
            int64_t n = numel_of(&shapes[s]);
            const cut f = {TARN_F32, 1, &shapes[s]};
            // all sets as a vector and as a matrix, some in the odder shapes
            for (size_t k = 0; k < (n > 0 ? COUNT(sets) : 1); k += s == 5 || s == 6 ? 1 : 3) {
                edge(&cx, tarn_methods[i], &f, sets[k]);
            }
        }
        for (int d = 0; !is_special(tarn_methods[i]) && d < 3; d++) {
            for (size_t k = 3; k < 5; k++) {
                const cut vector = {others[d], 1, &shapes[5]}, matrix = {others[d], 1, &shapes[6]};
                edge(&cx, tarn_methods[i], &vector, sets[k]);
                edge(&cx, tarn_methods[i], &matrix, sets[k]);
            }
        }
    }
    tarn_context_free(&cx);
}

// ---- threads ----

static void threads(void **state) {
    static const slot slots[] = {{"model.layers.0.a.weight", 1, {9000}},
                                 {"model.layers.0.b.weight", 2, {40, 70}},
                                 {"model.layers.1.b.weight", 2, {70, 40}},
                                 {"model.layers.1.c.weight", 1, {3000}},
                                 {"model.norm.weight", 1, {40}}};
    static const int counts[] = {1, 2, 3, 8, 0};
    const cut f = {TARN_BF16, COUNT(slots), slots};
    same_for_threads(&f, counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_current),
        cmocka_unit_test(promises_are_kept),
        cmocka_unit_test(edges),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
