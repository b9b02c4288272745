// SPDX-License-Identifier: Apache-2.0
// Element-wise rows against naive twins in f64, written from their definitions: random shapes of rank
// 0 to 8, broadcasting, permuted and gapped views, every stored dtype, NaN and infinities, every
// instruction set and 1, 2, 8 threads. Equal bits where the row is exact, else within the stated ulp.
// Also that every row documents itself, and what errors say.
#include "tests/vm/op/rows.h"
#include "vm/op/kernel/kernel.h"

// ---- twins ----

typedef struct {
    const tarn_op *op;
    double ulp;                      // 0: exact
    enum { NUMBERS, FLOATS, BOOLS } in;  // what its operands become
    bool to_bool;
    double (*f)(const double *x);
    int64_t (*i)(const int64_t *x);  // on integers; NULL: through f
} twin;

#define F(name, expr) \
    static double f_##name(const double *x) { return (expr); }
#define I(name, expr) \
    static int64_t i_##name(const int64_t *x) { return (int64_t)(expr); }
#define U(k) ((uint64_t)x[k])
F(add, x[0] + x[1])
I(add, U(0) + U(1))
F(sub, x[0] - x[1])
I(sub, U(0) - U(1))
F(mul, x[0] *x[1])
I(mul, U(0) * U(1))
F(div, x[0] / x[1])
F(pow, pow(x[0], x[1]))
F(minimum, isnan(x[0]) || isnan(x[1]) ? (double)NAN : x[0] < x[1] ? x[0] : x[1])
F(maximum, isnan(x[0]) || isnan(x[1]) ? (double)NAN : x[0] > x[1] ? x[0] : x[1])
I(minimum, x[0] < x[1] ? x[0] : x[1])
I(maximum, x[0] > x[1] ? x[0] : x[1])
F(atan2, atan2(x[0], x[1]))
F(neg, -x[0])
I(neg, 0 - U(0))
F(abs, fabs(x[0]))
I(abs, x[0] < 0 ? 0 - U(0) : U(0))
F(sign, isnan(x[0]) ? x[0] : x[0] > 0 ? 1 : x[0] < 0 ? -1 : 0)
I(sign, x[0] > 0 ? 1 : x[0] < 0 ? -1 : 0)
F(sqrt, sqrt(x[0]))
F(rsqrt, 1 / sqrt(x[0]))
F(exp, exp(x[0]))
F(log, log(x[0]))
F(log1p, log1p(x[0]))
F(tanh, tanh(x[0]))
F(sigmoid, x[0] >= 0 ? 1 / (1 + exp(-x[0])) : exp(x[0]) / (1 + exp(x[0])))
F(erf, erf(x[0]))
F(sin, sin(x[0]))
F(cos, cos(x[0]))
F(acos, acos(x[0]))
F(relu, isnan(x[0]) || x[0] > 0 ? x[0] : x[0] == 0 ? x[0] : 0)
I(relu, x[0] > 0 ? x[0] : 0)
F(floor, floor(x[0]))
F(round, nearbyint(x[0]))
F(eq, x[0] == x[1])
F(ne, x[0] != x[1])
F(lt, x[0] < x[1])
F(le, x[0] <= x[1])
F(gt, x[0] > x[1])
F(ge, x[0] >= x[1])
F(logical_and, x[0] != 0 && x[1] != 0)
F(logical_or, x[0] != 0 || x[1] != 0)
F(logical_not, x[0] == 0)
F(isfinite, isfinite(x[0]) != 0)

#define ROW(name, ulp, in, to_bool, i) {&tarn_op_##name, ulp, in, to_bool, f_##name, i}
static const twin twins[] = {
    ROW(add, 0, NUMBERS, false, i_add), ROW(sub, 0, NUMBERS, false, i_sub),
    ROW(mul, 0, NUMBERS, false, i_mul), ROW(div, 0, FLOATS, false, NULL),
    ROW(pow, 2, FLOATS, false, NULL), ROW(minimum, 0, NUMBERS, false, i_minimum),
    ROW(maximum, 0, NUMBERS, false, i_maximum), ROW(atan2, 3, FLOATS, false, NULL),
    ROW(neg, 0, NUMBERS, false, i_neg), ROW(abs, 0, NUMBERS, false, i_abs),
    ROW(sign, 0, NUMBERS, false, i_sign), ROW(sqrt, 0, FLOATS, false, NULL),
    ROW(rsqrt, 1.5, FLOATS, false, NULL), ROW(exp, 2, FLOATS, false, NULL),
    ROW(log, 2, FLOATS, false, NULL), ROW(log1p, 2, FLOATS, false, NULL), ROW(tanh, 3, FLOATS, false, NULL),
    ROW(sigmoid, 4, FLOATS, false, NULL), ROW(erf, 3, FLOATS, false, NULL),
    ROW(sin, 2, FLOATS, false, NULL), ROW(cos, 2, FLOATS, false, NULL),
    ROW(acos, 3, FLOATS, false, NULL), ROW(relu, 0, NUMBERS, false, i_relu),
    ROW(floor, 0, FLOATS, false, NULL), ROW(round, 0, FLOATS, false, NULL),
    ROW(eq, 0, NUMBERS, true, NULL), ROW(ne, 0, NUMBERS, true, NULL),
    ROW(lt, 0, NUMBERS, true, NULL), ROW(le, 0, NUMBERS, true, NULL),
    ROW(gt, 0, NUMBERS, true, NULL), ROW(ge, 0, NUMBERS, true, NULL),
    ROW(logical_and, 0, BOOLS, true, NULL), ROW(logical_or, 0, BOOLS, true, NULL),
    ROW(logical_not, 0, BOOLS, true, NULL), ROW(isfinite, 0, FLOATS, true, NULL)};
enum { TWINS = sizeof twins / sizeof *twins };

// The promotion of the language, once more: f64 if an operand is f64, else f32 if one is floating,
// else i64; bare numbers give way. Bools stay bools only where they are compared.
static tarn_dtype promoted(const twin *w, int n, const tarn_tensor *in) {
    bool f64 = false, f32 = false, whole = false, fraction = false, tensors = false;
    for (int k = 0; k < n; k++) {
        const tarn_dtype_info *t = tarn_dtype_get(in[k].dtype);
        if (in[k].weak) {
            fraction = true;
            continue;
        }
        tensors = true;
        f64 = f64 || in[k].dtype == TARN_F64;
        f32 = f32 || t->kind == TARN_KIND_FLOAT;
        whole = whole || t->kind == TARN_KIND_INT;
    }
    if (!tensors || f64) {
        return TARN_F64;
    }
    if (f32 || fraction || w->in == FLOATS) {
        return TARN_F32;
    }
    return whole || !w->to_bool ? TARN_I64 : TARN_BOOL;
}

static void check_element(const twin *w, tarn_dtype work, int n, const double *x, double got,
                          tarn_dtype out, int64_t at) {
    double read[3];
    int64_t whole[3];
    for (int k = 0; k < n; k++) {
        read[k] = w->in == BOOLS ? x[k] : work == TARN_F32 ? (double)(float)x[k] : x[k];
        whole[k] = work == TARN_I64 ? (int64_t)x[k] : 0;
    }
    double want = work == TARN_I64 && w->i ? (double)w->i(whole) : w->f(read);
    if (out == TARN_F32) {
        want = (double)(float)want;
    }
    if (isnan(want) && isnan(got)) {
        return;
    }
    bool right = got == want && (w->ulp > 0 || signbit(got) == signbit(want));
    if (!right && w->ulp > 0 && !isnan(want) && !isnan(got)) {
        double unit = out == TARN_F32 ? (double)nextafterf((float)fabs(want), INFINITY) - fabs(want)
                                      : nextafter(fabs(want), (double)INFINITY) - fabs(want);
        right = fabs(got - want) <= w->ulp * unit;
    }
    if (!right) {
        fail_msg("%s(%a, %a) in %s is %a, not %a (element %lld)", w->op->name, read[0],
                 n > 1 ? read[1] : 0, tarn_dtype_get(work)->name, got, want, (long long)at);
    }
}

// Shapes that broadcast to one: some operands lack leading dimensions or have ones.
static void any_shapes(uint64_t *seed, int n, int rank, int64_t most, int64_t shape[],
                       int64_t own[][TARN_MAX_RANK], int ranks[]) {
    for (int d = 0; d < rank; d++) {
        shape[d] = below(seed, 12) == 0 ? 0 : 1 + below(seed, most);
    }
    for (int k = 0; k < n; k++) {
        int lack = k > 0 && rank > 0 ? (int)below(seed, rank + 1) : 0;
        ranks[k] = rank - lack;
        for (int d = lack; d < rank; d++) {
            own[k][d - lack] = k > 0 && below(seed, 4) == 0 ? 1 : shape[d];
        }
    }
}

static void one_case(const twin *w, uint64_t seed) {
    int n = w->op->min_in;
    static const int ranks_of[] = {0, 1, 2, 3, 8};
    static const int64_t most[] = {1, 3000, 40, 9, 2};
    int64_t which = below(&seed, 5);
    int rank = ranks_of[which], ranks[3];
    int64_t shape[TARN_MAX_RANK], own[3][TARN_MAX_RANK];
    any_shapes(&seed, n, rank, most[which], shape, own, ranks);
    tarn_tensor in[3];
    for (int k = 0; k < n; k++) {
        if (k > 0 && below(&seed, 6) == 0) {
            tarn_error err = {0};
            OK(tarn_tensor_number(&row_context[0], test_uniform(&seed), &in[k], &err));
            continue;
        }
        in[k] = any_view(&row_context[0], row_stored[below(&seed, ROW_STORED)], ranks[k], own[k],
                         &seed);
        fill_any(&in[k], &seed, any_value);
    }
    tarn_tensor out = run_row(w->op, n, in, NULL);
    assert_int_equal(out.rank, rank);
    assert_true(tarn_shape_equal(out.rank, out.shape, rank, shape));
    tarn_dtype work = promoted(w, n, in);
    assert_int_equal(out.dtype, w->to_bool ? TARN_BOOL : work);
    for (int64_t i = 0; i < tarn_tensor_numel(&out); i++) {
        double x[3];
        for (int k = 0; k < n; k++) {
            x[k] = tarn_tensor_get(&in[k], seen_index(&in[k], rank, shape, i));
        }
        check_element(w, work, n, x, tarn_tensor_get(&out, i), out.dtype, i);
    }
    for (int k = 0; k < n; k++) {
        tarn_tensor_release(&in[k]);
    }
    tarn_tensor_release(&out);
}

static void element_wise(void **state) {
    for (int w = 0; w < TWINS; w++) {
        for (uint64_t s = 0; s < 24; s++) {
            one_case(&twins[w], s * 1000003 + (uint64_t)w);
        }
    }
}

// Enough elements that several threads have work.
static void across_threads(void **state) {
    const int64_t shape[2] = {3, 700001}, row[1] = {700001};
    tarn_tensor a = filled(&row_context[0], TARN_BF16, 2, shape, 1);
    tarn_tensor b = filled(&row_context[0], TARN_F32, 1, row, 2);
    tarn_tensor in[2] = {a, b};
    tarn_tensor out = run_row(&tarn_op_mul, 2, in, NULL);
    for (int64_t i = 0; i < tarn_tensor_numel(&out); i += 977) {
        double want = tarn_tensor_get(&a, i) * tarn_tensor_get(&b, i % 700001);
        assert_true(tarn_tensor_get(&out, i) == (double)(float)want);
    }
    tarn_tensor_release(&a);
    tarn_tensor_release(&b);
    tarn_tensor_release(&out);
}

// ---- rows that do not fit the table of twins ----

static void where_row(void **state) {
    for (uint64_t seed = 1; seed < 60; seed++) {
        uint64_t s = seed;
        int64_t shape[TARN_MAX_RANK], own[3][TARN_MAX_RANK];
        int ranks[3];
        any_shapes(&s, 3, 2, 30, shape, own, ranks);
        tarn_dtype t[3] = {row_stored[below(&s, ROW_STORED)], TARN_F16, TARN_F32};
        tarn_tensor in[3];
        for (int k = 0; k < 3; k++) {
            in[k] = any_view(&row_context[0], t[k], ranks[k], own[k], &s);
            fill_any(&in[k], &s, any_value);
        }
        tarn_tensor out = run_row(&tarn_op_where, 3, in, NULL);
        assert_int_equal(out.dtype, TARN_F32);
        for (int64_t i = 0; i < tarn_tensor_numel(&out); i++) {
            double c = tarn_tensor_get(&in[0], seen_index(&in[0], 2, shape, i));
            const tarn_tensor *from = c != 0 ? &in[1] : &in[2];
            double want = tarn_tensor_get(from, seen_index(from, 2, shape, i));
            double got = tarn_tensor_get(&out, i);
            assert_true(got == want || (isnan(got) && isnan(want)));
        }
        for (int k = 0; k < 3; k++) {
            tarn_tensor_release(&in[k]);
        }
        tarn_tensor_release(&out);
    }
}

static void cast_row(void **state) {
    for (int from = 0; from < ROW_STORED; from++) {
        for (int to = 0; to < ROW_STORED; to++) {
            uint64_t s = (uint64_t)(from * 64 + to);
            const int64_t shape[2] = {7, 11};
            tarn_tensor x = any_view(&row_context[0], row_stored[from], 2, shape, &s);
            fill_any(&x, &s, any_value);
            int64_t t = row_stored[to];
            tarn_attr a = {.ni = 1, .i = &t};
            tarn_tensor out = run_row(&tarn_op_cast, 1, &x, &a);
            for (int64_t i = 0; i < 77; i++) {
                unsigned char want[8] = {0}, got[8] = {0};
                double v = tarn_tensor_get(&x, i);
                if (isnan(v) || x.dtype == TARN_U64 || t == TARN_U64) {
                    continue;  // payloads and the trip of u64 through i64: test_convert
                }
                tarn_element_set((tarn_dtype)t, want, v);
                size_t size = (size_t)tarn_dtype_get((tarn_dtype)t)->bits / 8;
                memcpy(got, (char *)tarn_tensor_data(&out) + (size_t)i * size, size);
                if (memcmp(want, got, size) != 0) {
                    fail_msg("%s %a as %s", tarn_dtype_get(x.dtype)->name, v,
                             tarn_dtype_get((tarn_dtype)t)->name);
                }
            }
            tarn_tensor_release(&x);
            tarn_tensor_release(&out);
        }
    }
}

// A bool tensor of a file may hold bytes other than 0 and 1: they are all "true".
static void strange_bools(void **state) {
    const int64_t shape[1] = {64};
    tarn_error err = {0};
    tarn_tensor x, y;
    OK(tarn_tensor_new(&row_context[0], TARN_BOOL, 1, shape, &x, &err));
    OK(tarn_tensor_new(&row_context[0], TARN_BOOL, 1, shape, &y, &err));
    for (int i = 0; i < 64; i++) {
        ((unsigned char *)x.storage->data)[i] = (unsigned char)(i % 2 ? 2 * i : 0);
        ((unsigned char *)y.storage->data)[i] = 1;
    }
    tarn_tensor in[2] = {x, y};
    tarn_tensor both = run_row(&tarn_op_logical_and, 2, in, NULL);
    const int64_t all[2] = {0, 0};
    tarn_attr a = {.ni = 2, .i = all};
    tarn_tensor count = run_row(&tarn_op_sum, 1, &x, &a);
    assert_true(tarn_tensor_get(&count, 0) == 32);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(((unsigned char *)both.storage->data)[i], i % 2);
    }
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
    tarn_tensor_release(&both);
    tarn_tensor_release(&count);
}

static void made_rows(void **state) {
    for (int k = 0; k < 2; k++) {
        const int64_t n = k == 0 ? 12 : 2 * TARN_BLOCK + 77;
        const int64_t i[4] = {TARN_I64, n / 3, 3, 0};
        tarn_attr a = {.ni = 4, .i = i};
        tarn_tensor t = run_row(&tarn_op_iota, 0, NULL, &a);
        for (int64_t e = 0; e < tarn_tensor_numel(&t); e += 1 + e / 7) {
            assert_int_equal(tarn_tensor_get_int(&t, e), e);
        }
        tarn_tensor_release(&t);
        static const struct {
            const tarn_op *op;
            tarn_dtype t;
        } random[] = {{&tarn_op_bernoulli, TARN_BOOL}, {&tarn_op_uniform, TARN_F32},
                      {&tarn_op_uniform, TARN_F64}, {&tarn_op_normal, TARN_F32},
                      {&tarn_op_normal, TARN_F64}};
        for (int r = 0; r < 5; r++) {
            const double p = 0.25;
            const int64_t j[3] = {random[r].t, n, 12345};
            tarn_attr at = {.ni = 3, .i = j, .nf = r == 0 ? 1 : 0, .f = &p};
            t = run_row(random[r].op, 0, NULL, &at);
            double sum = 0;
            for (int64_t e = 0; e < n; e++) {
                sum += tarn_tensor_get(&t, e);
            }
            double mean = r == 0 ? p : r < 3 ? 0.5 : 0;
            assert_true(k == 0 || fabs(sum / (double)n - mean) < 5 / sqrt((double)n));
            tarn_tensor_release(&t);
        }
    }
}

// ---- every row says what it is ----

static void documented(void **state) {
    for (int i = 0; i < TARN_OP_COUNT; i++) {
        const tarn_op *op = tarn_ops[i];
        assert_ptr_equal(tarn_op_find(op->name), op);
        assert_true(op->version >= 1);
        if (!op->summary || op->summary[0] == 0) {
            fail_msg("%s has no summary", op->name);
        }
        if (op->lua && !op->example) {
            fail_msg("%s is offered to scripts without an example", op->name);
        }
        if ((op->vjp == NULL) != (op->jvp == NULL) && !op->decompose) {
            fail_msg("%s has one derivative of two", op->name);
        }
        static const tarn_op *const own_test[] = {&tarn_op_where, &tarn_op_cast, &tarn_op_top,
                                                  &tarn_op_iota, &tarn_op_bernoulli, &tarn_op_dropout, &tarn_op_gelu, &tarn_op_gelu_slope,
                                                  &tarn_op_gelu_tanh, &tarn_op_gelu_tanh_slope,
                                                  &tarn_op_silu, &tarn_op_silu_slope,
                                                  &tarn_op_uniform, &tarn_op_normal};
        bool tested = op->cls != TARN_CLASS_POINT;
        for (int k = 0; k < TWINS; k++) {
            tested = tested || twins[k].op == op;
        }
        for (size_t k = 0; k < sizeof own_test / sizeof *own_test; k++) {
            tested = tested || own_test[k] == op;
        }
        if (!tested) {
            fail_msg("%s has no twin here and no test of its own", op->name);
        }
        bool leaf = op->cls == TARN_CLASS_LEAF;
        assert_true(leaf || op->infer || op->sig);
        assert_true((op->cls == TARN_CLASS_REDUCE) == (op->reducer != NULL));
        assert_true((op->cls == TARN_CLASS_VIEW) == (op->view != NULL));
        assert_true((op->cls == TARN_CLASS_WHOLE) == (op->apply != NULL || op->rows != NULL));
    }
    // Every row with a signature has its kernel on each instruction set or on none.
    for (int k = 0; k < TARN_K_COUNT; k++) {
        for (int w = 0; w < TARN_W_COUNT; w++) {
            bool v1 = tarn_kernels_get(TARN_ISA_V1)->tile[k][w] != NULL;
            assert_int_equal(v1, tarn_kernels_get(TARN_ISA_V3)->tile[k][w] != NULL);
            assert_int_equal(v1, tarn_kernels_get(TARN_ISA_V4)->tile[k][w] != NULL);
        }
    }
}

// ---- errors ----

static void refused(const tarn_op *op, int nin, const tarn_desc *in, const tarn_attr *a,
                    const char *code, const char *part) {
    static const tarn_attr none = {0};
    tarn_error err = {0};
    tarn_desc out;
    assert_int_equal(tarn_op_infer(op, nin, in, a ? a : &none, &out, &err), TARN_ERROR);
    assert_string_equal(err.code, code);
    if (strncmp(err.message, op->name, strlen(op->name)) != 0 || !strstr(err.message, part)) {
        fail_msg("%s: the message is \"%s\"; expected \"%s\" in it", op->name, err.message, part);
    }
}

static void errors(void **state) {
    const tarn_desc x = {.dtype = TARN_F32, .rank = 2, .shape = {3, 5}};
    const tarn_desc y = {.dtype = TARN_F32, .rank = 2, .shape = {4, 5}};
    const tarn_desc opaque = {.dtype = TARN_F4, .rank = 1, .shape = {8}};
    const tarn_desc number = {.dtype = TARN_F64, .weak = true};
    const tarn_desc whole = {.dtype = TARN_I64, .rank = 2, .shape = {3, 5}};
    tarn_desc two[2] = {x, y};
    refused(&tarn_op_add, 2, two, NULL, "ShapeMismatch", "[3, 5] and [4, 5] do not broadcast");
    refused(&tarn_op_matmul, 2, two, NULL, "ShapeMismatch", "5 columns on the left meet 4 rows");
    refused(&tarn_op_exp, 1, &opaque, NULL, "Dtype", "f4");
    refused(&tarn_op_exp, 2, two, NULL, "Argument", "expected 1 operand, got 2");
    const int64_t i[10] = {0, 0, 7};
    tarn_attr a = {.ni = 3, .i = i};
    refused(&tarn_op_sum, 1, &x, &a, "Axis", "dimension 8 of a tensor of rank 2");
    a.ni = 2;
    refused(&tarn_op_dot, 2, two, &a, "ShapeMismatch", "expected equal shapes, got [3, 5] and [4, 5]");
    refused(&tarn_op_sum, 1, &x, NULL, "Argument", "attributes");
    refused(&tarn_op_kth, 1, &whole, &a, "Dtype", "got i64");
    refused(&tarn_op_reshape, 1, &x, &a, "ShapeMismatch", "15 elements cannot take a shape of 0");
    refused(&tarn_op_permute, 1, &x, &a, "Axis", "every dimension 1 to 2 once");
    const int64_t wide[2] = {2, 5};
    a.i = wide;
    refused(&tarn_op_broadcast_to, 1, &x, &a, "ShapeMismatch", "does not stretch");
    const int64_t range[6] = {0, 4, 1, 0, 5, 1};
    a = (tarn_attr){.ni = 6, .i = range};
    refused(&tarn_op_slice, 1, &x, &a, "IndexRange", "dimension 1 has 3 elements; asked for 4 from 1");
    a = (tarn_attr){.ni = 1, .i = i};
    tarn_desc mixed[2] = {x, whole};
    mixed[1].dtype = TARN_F64;
    refused(&tarn_op_gather, 2, mixed, &a, "Dtype", "the index is f64; expected an integer");
    refused(&tarn_op_concat, 2, mixed, &a, "Dtype", "operand 2 is f64, the first f32");
    refused(&tarn_op_sort, 1, &number, &a, "Rank", "got rank 0");
    const int64_t bad[1] = {99};
    a.i = bad;
    refused(&tarn_op_cast, 1, &x, &a, "Argument", "dtype");
    const int64_t made[3] = {TARN_F32, 4, 0};
    a = (tarn_attr){.ni = 3, .i = made};
    refused(&tarn_op_iota, 0, NULL, &a, "Argument", "dtype");
    const int64_t huge[2] = {INT64_MAX / 2, 3};
    a = (tarn_attr){.ni = 2, .i = huge};
    refused(&tarn_op_broadcast_to, 1, &number, &a, "Overflow", "2^63");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documented), cmocka_unit_test(errors),
        cmocka_unit_test(element_wise), cmocka_unit_test(across_threads),
        cmocka_unit_test(where_row), cmocka_unit_test(cast_row),
        cmocka_unit_test(strange_bools), cmocka_unit_test(made_rows),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
