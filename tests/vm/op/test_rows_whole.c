// SPDX-License-Identifier: Apache-2.0
// Reductions, views and whole-tensor rows against naive loops: random shapes of rank 0 to 8, views,
// dtypes, empty tensors, NaN, every instruction set and 1, 2, 8 threads. Data are small integers where
// sums have to be exact, so that any order of additions must give the same number.
#include "tests/vm/op/rows.h"

static double small_whole(uint64_t *seed) { return (double)(below(seed, 17) - 8); }

static void random_shape(uint64_t *s, int *rank, int64_t *shape) {
    static const int ranks[] = {0, 1, 2, 3, 4, 8};
    static const int64_t most[] = {1, 9000, 70, 12, 7, 2};
    int64_t k = below(s, 6);
    *rank = ranks[k];
    for (int d = 0; d < *rank; d++) {
        shape[d] = below(s, 15) == 0 ? 0 : 1 + below(s, most[k]);
    }
}

static tarn_tensor random_tensor(uint64_t *s, double (*value)(uint64_t *)) {
    int rank;
    int64_t shape[TARN_MAX_RANK];
    random_shape(s, &rank, shape);
    tarn_tensor t = any_view(&row_context[0], row_stored[below(s, ROW_STORED)], rank, shape, s);
    fill_any(&t, s, value);
    return t;
}

// The index of an element of t when some dimensions are fixed by `out` and the others run: calls
// `visit` for every element with the row-major index of the result it belongs to.
typedef struct {
    double sum, size, max, min;
    int64_t n, first_max, first_min;  // position among the reduced ones
} tally;

static void tally_of(const tarn_tensor *t, const bool *gone, tally *all) {
    int64_t n = tarn_tensor_numel(t);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, to = 0, step = 1;
        for (int d = t->rank - 1; d >= 0; d--) {
            if (!gone[d]) {
                to += rest % t->shape[d] * step;
                step *= t->shape[d];
            }
            rest /= t->shape[d];
        }
        double v = tarn_tensor_get(t, i);
        tally *k = &all[to];
        k->sum += v;
        k->size += fabs(v);
        if (k->n == 0 || v > k->max || (isnan(v) && !isnan(k->max))) {
            k->max = v;
            k->first_max = k->n;
        }
        if (k->n == 0 || v < k->min || (isnan(v) && !isnan(k->min))) {
            k->min = v;
            k->first_min = k->n;
        }
        k->n++;
    }
}

static double as_dtype(tarn_dtype t, double v) { return t == TARN_F32 ? (double)(float)v : v; }

static void reduce_case(uint64_t seed, bool exact) {
    uint64_t s = seed;
    tarn_tensor t = random_tensor(&s, exact ? small_whole : any_value);
    bool gone[TARN_MAX_RANK], over_all = t.rank == 0 || below(&s, 3) == 0;
    int64_t attr[TARN_MAX_RANK + 2] = {below(&s, 2), 0};
    int n = 2;
    int64_t rows = 1;
    for (int d = 0; d < t.rank; d++) {
        gone[d] = over_all || below(&s, 2);
        if (!over_all && gone[d]) {
            attr[n++] = d;
        }
        rows *= gone[d] ? 1 : t.shape[d];
    }
    over_all = n == 2;
    for (int d = 0; d < t.rank && over_all; d++) {
        gone[d] = true;
    }
    rows = over_all ? 1 : rows;
    tally *want = calloc((size_t)rows + 1, sizeof *want);
    tally_of(&t, gone, want);
    tarn_attr a = {.ni = n, .i = attr};
    static const tarn_op *const ops[] = {&tarn_op_sum, &tarn_op_max, &tarn_op_min, &tarn_op_argmax,
                                         &tarn_op_argmin};
    for (int k = 0; k < 5; k++) {
        if (k >= 3 && n > 3) {
            continue;
        }
        tarn_tensor out = run_row(ops[k], 1, &t, &a);
        assert_int_equal(tarn_tensor_numel(&out), rows);
        bool finite = exact || k > 0;
        for (int64_t r = 0; r < rows && finite; r++) {
            double got = tarn_tensor_get(&out, r);
            if (want[r].n == 0) {
                double none[] = {0, -INFINITY, INFINITY, -1, -1};
                assert_true(got == none[k] || out.dtype == TARN_I64);
                continue;
            }
            double value[] = {want[r].sum, want[r].max, want[r].min, (double)want[r].first_max,
                              (double)want[r].first_min};
            same_number(ops[k]->name, got, as_dtype(out.dtype, value[k]), 0);
        }
        tarn_tensor_release(&out);
    }
    free(want);
    tarn_tensor_release(&t);
}

static void reductions(void **state) {
    for (uint64_t seed = 1; seed < 120; seed++) {
        reduce_case(seed, true);
        reduce_case(seed + 1000, false);
    }
}

// The tree of additions, written down once more: it is part of the semantics, so that bytes stay the
// same from version to version. Leaves of 4096 elements in 16 lanes, neighbours joined level by level.
static double leaf_sum(const double *v, int64_t n) {
    double lane[16] = {0};
    for (int64_t i = 0; i < n; i++) {
        lane[i % 16] += v[i];
    }
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            lane[i] += lane[i + half];
        }
    }
    return lane[0];
}
static double tree_sum(const double *v, int64_t n) {
    int64_t left = 4096;
    if (n <= left) {
        return leaf_sum(v, n);
    }
    while (left * 2 < n) {
        left *= 2;
    }
    return tree_sum(v, left) + tree_sum(v + left, n - left);
}

// Sums over many blocks: near the long double sum, the very bits of the tree, the same bytes for all
// threads, and the same for a view of the same elements in the same order.
static void long_sums(void **state) {
    const int64_t shape[2] = {1001, 2501};
    uint64_t s = 5;
    tarn_tensor t = filled(&row_context[0], TARN_F32, 2, shape, 3);
    tarn_tensor u = filled(&row_context[0], TARN_BF16, 2, shape, 4), in[2] = {t, u};
    long double sum = 0, dot = 0;
    int64_t n = tarn_tensor_numel(&t);
    double *element = malloc((size_t)n * sizeof *element), *product = malloc((size_t)n * sizeof *product);
    for (int64_t i = 0; i < n; i++) {
        element[i] = tarn_tensor_get(&t, i);
        product[i] = element[i] * tarn_tensor_get(&u, i);
        sum += (long double)tarn_tensor_get(&t, i);
        dot += (long double)tarn_tensor_get(&t, i) * (long double)tarn_tensor_get(&u, i);
    }
    const int64_t all[2] = {0, 0};
    tarn_attr a = {.ni = 2, .i = all};
    tarn_tensor x = run_row(&tarn_op_sum, 1, &t, &a), y = run_row(&tarn_op_dot, 2, in, &a);
    same_number("sum", tarn_tensor_get(&x, 0), (double)sum, 1e-9);
    same_number("dot", tarn_tensor_get(&y, 0), (double)dot, 1e-9);
    same_number("sum as a tree", tarn_tensor_get(&x, 0), tree_sum(element, n), 0);
    same_number("dot as a tree", tarn_tensor_get(&y, 0), tree_sum(product, n), 0);
    free(element);
    free(product);
    tarn_tensor v = any_view(&row_context[0], TARN_F32, 2, shape, &s);
    for (int64_t i = 0; i < tarn_tensor_numel(&t); i++) {
        tarn_tensor_set(&v, i, tarn_tensor_get(&t, i));
    }
    tarn_tensor z = run_row(&tarn_op_sum, 1, &v, &a);
    assert_true(same_bytes(&x, &z));
    tarn_tensor_release(&t);
    tarn_tensor_release(&u);
    tarn_tensor_release(&v);
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
    tarn_tensor_release(&z);
}

static void whole_dot(void **state) {
    const int64_t shape[1] = {3}, all[2] = {0, 0};
    tarn_attr a = {.ni = 2, .i = all};
    tarn_error err = {0};
    tarn_tensor t;
    OK(tarn_tensor_new(&row_context[0], TARN_I64, 1, shape, &t, &err));
    int64_t *p = t.storage->data;
    p[0] = 20000001, p[1] = -3, p[2] = 7;
    tarn_tensor in[2] = {t, t}, out = run_row(&tarn_op_dot, 2, in, &a);
    assert_true(tarn_tensor_get(&out, 0) == 400000040000001.0 + 58);
    tarn_tensor_release(&t);
    tarn_tensor_release(&out);
}

// ---- the k largest ----

static int falling(const void *p, const void *q) {
    double a = *(const double *)p, b = *(const double *)q;
    return (a < b) - (a > b);
}

static void kth_case(uint64_t seed, tarn_dtype t, int64_t n, bool many_equal) {
    uint64_t s = seed;
    tarn_tensor x = any_view(&row_context[0], t, 1, &n, &s);
    double *v = malloc(((size_t)n + 1) * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        double u = many_equal ? (double)(below(&s, 5) - 2) * (below(&s, 2) ? 1 : -1)
                              : test_uniform(&s) * exp(test_uniform(&s) * 20);
        tarn_tensor_set(&x, i, u);
        v[i] = tarn_tensor_get(&x, i);
    }
    qsort(v, (size_t)n, sizeof *v, falling);
    int64_t k = 1 + below(&s, n);
    const int64_t attr[4] = {0, 0, k, t == TARN_F64 ? 64 : 32};
    const double density = 0;
    tarn_attr a = {.ni = 4, .i = attr, .nf = 1, .f = &density};
    tarn_tensor out = run_row(&tarn_op_kth, 1, &x, &a);
    double threshold = tarn_tensor_get(&out, 0);
    same_number("kth", threshold, v[k - 1], 0);
    tarn_error err = {0};
    tarn_tensor in[3] = {x};
    for (int j = 0; j < 2; j++) {
        OK(tarn_tensor_number(&row_context[0], tarn_tensor_get(&out, j), &in[j + 1], &err));
    }
    tarn_tensor mask = run_row(&tarn_op_top, 3, in, NULL);
    int64_t above = 0, kept = 0;
    for (int64_t i = 0; i < n; i++) {
        above += tarn_tensor_get(&x, i) > threshold;
    }
    int64_t equals = k - above;
    for (int64_t i = 0; i < n; i++) {
        double u = tarn_tensor_get(&x, i);
        bool want = u > threshold || (u == threshold && equals-- > 0);
        kept += want;
        assert_int_equal(tarn_tensor_get(&mask, i) != 0, want);
    }
    assert_int_equal(kept, k);
    tarn_tensor_release(&x);
    tarn_tensor_release(&out);
    tarn_tensor_release(&mask);
    tarn_tensor_release(&in[1]);
    tarn_tensor_release(&in[2]);
    free(v);
}

// A share of what is not zero: k = -1. Nothing is above the threshold when that is no element.
static void kth_of_nonzero(tarn_dtype t, int64_t n, int64_t every, double share) {
    double *v = calloc((size_t)n + 1, sizeof *v);
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(&row_context[0], t, 1, &n, &x, &err));
    int64_t nonzero = 0;
    uint64_t s = (uint64_t)n;
    for (int64_t i = 0; i < n; i++) {
        double u = i % every == 0 ? 1 + (double)below(&s, 1000) : i % 2 ? -0.0 : 0;
        tarn_tensor_set(&x, i, u);
        v[i] = tarn_tensor_get(&x, i);
        nonzero += u > 0;
    }
    qsort(v, (size_t)n, sizeof *v, falling);
    const int64_t attr[4] = {0, 0, -1, t == TARN_F64 ? 64 : 32}, k = (int64_t)(share * (double)nonzero);
    tarn_attr a = {.ni = 4, .i = attr, .nf = 1, .f = &share};
    tarn_tensor out = run_row(&tarn_op_kth, 1, &x, &a);
    same_number("kth of nonzero", tarn_tensor_get(&out, 0), k > 0 ? v[k - 1] : INFINITY, 0);
    tarn_tensor_release(&x);
    tarn_tensor_release(&out);
    free(v);
}

static void selection(void **state) {
    for (int t = 0; t < 2; t++) {
        tarn_dtype dtype = t ? TARN_F64 : TARN_F32;
        kth_of_nonzero(dtype, 1000, 3, 0.5);
        kth_of_nonzero(dtype, 5000, 1, 0.999);
        kth_of_nonzero(dtype, 5000, 4999, 0.4);  // of two
        kth_of_nonzero(dtype, TARN_BLOCK + 7, 5, 0.01);
    }
    static const tarn_dtype types[] = {TARN_F32, TARN_F64, TARN_BF16, TARN_F8_E4M3};
    for (uint64_t seed = 1; seed < 13; seed++) {
        for (int t = 0; t < 4; t++) {
            kth_case(seed, types[t], 1 + (int64_t)(seed * seed * 17), seed % 2);
        }
    }
    kth_case(77, TARN_F32, TARN_BLOCK * 2 + 5, true);
}

// ---- views ----

static void check_view(const tarn_op *op, const tarn_tensor *x, const tarn_attr *a, int rank,
                       const int64_t *shape, const int64_t *from) {
    tarn_tensor out = run_row(op, 1, x, a);
    assert_true(tarn_shape_equal(out.rank, out.shape, rank, shape));
    assert_int_equal(out.dtype, x->dtype);
    for (int64_t i = 0; i < tarn_tensor_numel(&out); i++) {
        double got = tarn_tensor_get(&out, i), want = tarn_tensor_get(x, from ? from[i] : i);
        if (!(got == want || (isnan(got) && isnan(want)))) {
            fail_msg("%s: element %lld", op->name, (long long)i);
        }
    }
    tarn_tensor_release(&out);
}

static void reshape_case(uint64_t *s, const tarn_tensor *x) {
    // The factors of the element count, dealt anew.
    int64_t shape[TARN_MAX_RANK], n = tarn_tensor_numel(x);
    int rank = (int)below(s, 4);
    rank = rank == 0 && n != 1 ? 1 : rank;
    for (int d = 0; d < rank; d++) {
        shape[d] = 1;
    }
    if (n == 0) {
        shape[0] = 0;
    }
    for (int64_t p = 2; n > 1; p++) {
        for (; n % p == 0; n /= p) {
            shape[below(s, rank)] *= p;
        }
    }
    tarn_attr a = {.ni = rank, .i = shape};
    check_view(&tarn_op_reshape, x, &a, rank, shape, NULL);
}

static void permute_case(uint64_t *s, const tarn_tensor *x, int64_t *from) {
    int64_t order[TARN_MAX_RANK], shape[TARN_MAX_RANK];
    for (int d = 0; d < x->rank; d++) {
        int64_t j = below(s, d + 1);
        order[d] = d;
        order[d] = order[j];
        order[j] = d;
    }
    for (int d = 0; d < x->rank; d++) {
        shape[d] = x->shape[order[d]];
    }
    for (int64_t i = 0; i < tarn_tensor_numel(x); i++) {
        int64_t rest = i, at[TARN_MAX_RANK] = {0}, o = 0;
        for (int d = x->rank - 1; d >= 0; d--) {
            at[order[d]] = rest % shape[d];
            rest /= shape[d];
        }
        for (int d = 0; d < x->rank; d++) {
            o = o * x->shape[d] + at[d];
        }
        from[i] = o;
    }
    tarn_attr a = {.ni = x->rank, .i = order};
    check_view(&tarn_op_permute, x, &a, x->rank, shape, from);
}

// slice, and pad as its adjoint: what slice took is put back, zeros elsewhere.
static void slice_case(uint64_t *s, const tarn_tensor *x, int64_t *from) {
    int64_t range[4 * TARN_MAX_RANK], shape[TARN_MAX_RANK], n = 1;
    int r = x->rank;
    for (int d = 0; d < r; d++) {
        int64_t step = 1 + below(s, 3), start = x->shape[d] ? below(s, x->shape[d]) : 0;
        int64_t most = x->shape[d] ? (x->shape[d] - 1 - start) / step + 1 : 0;
        range[3 * d] = start;
        range[3 * d + 1] = shape[d] = below(s, most + 1);
        range[3 * d + 2] = step;
        range[3 * r + d] = x->shape[d];
        n *= shape[d];
    }
    double *back = calloc((size_t)tarn_tensor_numel(x) + 1, sizeof *back);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, o = 0, step = 1;
        for (int d = r - 1; d >= 0; d--) {
            o += (range[3 * d] + rest % shape[d] * range[3 * d + 2]) * step;
            rest /= shape[d];
            step *= x->shape[d];
        }
        from[i] = o;
        back[o] = tarn_tensor_get(x, o);
    }
    tarn_attr a = {.ni = 3 * r, .i = range};
    check_view(&tarn_op_slice, x, &a, r, shape, from);
    tarn_error err = {0};
    tarn_tensor cut;
    OK(tarn_op_apply(&row_context[0], &tarn_op_slice, 1, x, &a, &cut, &err));
    a.ni = 4 * r;
    tarn_tensor out = run_row(&tarn_op_pad, 1, &cut, &a);
    for (int64_t i = 0; i < tarn_tensor_numel(x); i++) {
        same_number("pad", tarn_tensor_get(&out, i), back[i], 0);
    }
    tarn_tensor_release(&cut);
    tarn_tensor_release(&out);
    free(back);
}

static void broadcast_case(uint64_t *s, int64_t *from) {
    int64_t own[3], shape[4] = {1 + below(s, 3), 0, 0, 0};
    for (int d = 0; d < 3; d++) {
        shape[d + 1] = 1 + below(s, 5);
        own[d] = below(s, 2) ? 1 : shape[d + 1];
    }
    tarn_tensor x = any_view(&row_context[0], TARN_F16, 3, own, s);
    fill_any(&x, s, any_value);
    for (int64_t i = 0; i < shape[0] * shape[1] * shape[2] * shape[3]; i++) {
        from[i] = seen_index(&x, 4, shape, i);
    }
    tarn_attr a = {.ni = 4, .i = shape};
    check_view(&tarn_op_broadcast_to, &x, &a, 4, shape, from);
    tarn_tensor_release(&x);
}

static void views(void **state) {
    int64_t *from = malloc(100000 * sizeof *from);
    for (uint64_t seed = 1; seed < 80; seed++) {
        uint64_t s = seed;
        tarn_tensor x = random_tensor(&s, any_value);
        reshape_case(&s, &x);
        permute_case(&s, &x, from);
        slice_case(&s, &x, from);
        broadcast_case(&s, from);
        if (x.rank == 1 && x.shape[0] > 0) {
            int64_t i = below(&s, x.shape[0]);
            tarn_attr a = {.ni = 1, .i = &i};
            check_view(&tarn_op_item, &x, &a, 0, NULL, &i);
        }
        tarn_tensor_release(&x);
    }
    free(from);
    // Shapes whose other dimensions have no product.
    const int64_t huge[3] = {1LL << 40, 0, 1LL << 40}, none[2] = {0, 1LL << 62};
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(&row_context[0], TARN_F32, 3, huge, &x, &err));
    tarn_attr a = {.ni = 2, .i = none};
    check_view(&tarn_op_reshape, &x, &a, 2, none, NULL);
    tarn_tensor_release(&x);
}

// ---- whole tensors ----

// Fetches x[at] of the last two dimensions within a batch that is broadcast.
static double matrix_element(const tarn_tensor *x, int rank, const int64_t *shape, int64_t batch,
                             int64_t i, int64_t j) {
    int64_t at[TARN_MAX_RANK] = {0}, o = 0;
    for (int d = rank - 3; d >= 0; d--) {
        int k = d - (rank - x->rank);
        if (k >= 0) {
            at[k] = x->shape[k] == 1 ? 0 : batch % shape[d];
        }
        batch /= shape[d];
    }
    at[x->rank - 2] = i;
    at[x->rank - 1] = j;
    for (int d = 0; d < x->rank; d++) {
        o = o * x->shape[d] + at[d];
    }
    return tarn_tensor_get(x, o);
}

static void matmul_case(uint64_t seed) {
    uint64_t s = seed;
    static const tarn_dtype types[] = {TARN_F32, TARN_F64, TARN_BF16, TARN_I8};
    int64_t m = below(&s, 20), k = below(&s, 20), n = 1 + below(&s, 20);
    if (seed % 10 == 0) {
        m = 300, k = 40, n = 530;  // several tiles
    }
    int64_t b0 = 1 + below(&s, 3), b1 = 1 + below(&s, 3);
    const int64_t p[4] = {b0, below(&s, 2) ? 1 : b1, m, k}, q[3] = {below(&s, 2) ? 1 : b1, k, n};
    tarn_tensor in[2];
    in[0] = any_view(&row_context[0], types[below(&s, 4)], 4, p, &s);
    in[1] = any_view(&row_context[0], types[below(&s, 4)], 3, q, &s);
    fill_any(&in[0], &s, small_whole);
    fill_any(&in[1], &s, small_whole);
    tarn_tensor out = run_row(&tarn_op_matmul, 2, in, NULL);
    assert_int_equal(out.rank, 4);
    assert_int_equal(out.dtype, in[0].dtype == TARN_F64 || in[1].dtype == TARN_F64 ? TARN_F64 : TARN_F32);
    for (int64_t e = 0; e < tarn_tensor_numel(&out); e += 1 + e / 900) {
        int64_t i = e / n % m, j = e % n, batch = e / n / m;
        double sum = 0;
        for (int64_t c = 0; c < k; c++) {
            sum += matrix_element(&in[0], 4, out.shape, batch, i, c) *
                   matrix_element(&in[1], 4, out.shape, batch, c, j);
        }
        same_number("matmul", tarn_tensor_get(&out, e), sum, 0);
    }
    tarn_tensor_release(&in[0]);
    tarn_tensor_release(&in[1]);
    tarn_tensor_release(&out);
}

static void products(void **state) {
    for (uint64_t seed = 1; seed <= 40; seed++) {
        matmul_case(seed);
    }
}

static void gather_case(uint64_t seed) {
    uint64_t s = seed;
    int64_t shape[3] = {1 + below(&s, 6), 1 + below(&s, 6), 1 + below(&s, 6)}, picks[3];
    int64_t axis = below(&s, 3);
    for (int d = 0; d < 3; d++) {
        picks[d] = d == axis ? below(&s, 9) : below(&s, 2) ? shape[d] : below(&s, shape[d] + 1);
    }
    static const tarn_dtype index_types[] = {TARN_I64, TARN_I32, TARN_U8};
    tarn_tensor in[2], src;
    in[0] = any_view(&row_context[0], row_stored[below(&s, ROW_STORED)], 3, shape, &s);
    fill_any(&in[0], &s, small_whole);
    in[1] = any_view(&row_context[0], index_types[below(&s, 3)], 3, picks, &s);
    int64_t n = tarn_tensor_numel(&in[1]);
    for (int64_t i = 0; i < n; i++) {
        tarn_tensor_set(&in[1], i, (double)below(&s, shape[axis]));
    }
    tarn_attr a = {.ni = 1, .i = &axis};
    tarn_tensor out = run_row(&tarn_op_gather, 2, in, &a);
    src = any_view(&row_context[0], TARN_F32, 3, picks, &s);
    fill_any(&src, &s, small_whole);
    double *sum = calloc(512, sizeof *sum);
    for (int64_t i = 0; i < n; i++) {
        int64_t at[3] = {i / (picks[1] * picks[2]), i / picks[2] % picks[1], i % picks[2]};
        at[axis] = tarn_tensor_get_int(&in[1], i);
        int64_t o = (at[0] * shape[1] + at[1]) * shape[2] + at[2];
        same_number("gather", tarn_tensor_get(&out, i), tarn_tensor_get(&in[0], o), 0);
        sum[o] += tarn_tensor_get(&src, i);
    }
    tarn_tensor_release(&out);
    tarn_tensor scatter[2] = {in[1], src};
    const int64_t attr[4] = {axis, shape[0], shape[1], shape[2]};
    a = (tarn_attr){.ni = 4, .i = attr};
    out = run_row(&tarn_op_scatter_add, 2, scatter, &a);
    for (int64_t o = 0; o < shape[0] * shape[1] * shape[2]; o++) {
        same_number("scatter_add", tarn_tensor_get(&out, o), sum[o], 0);
    }
    free(sum);
    tarn_tensor_release(&out);
    tarn_tensor_release(&src);
    tarn_tensor_release(&in[0]);
    tarn_tensor_release(&in[1]);
}

static void picks(void **state) {
    for (uint64_t seed = 1; seed < 60; seed++) {
        gather_case(seed);
    }
    // Whole rows by an index that is stretched, the way embeddings are looked up.
    const int64_t table[2] = {50, 300}, index[2] = {7, 300};
    tarn_tensor in[2] = {filled(&row_context[0], TARN_F32, 2, table, 1)};
    tarn_error err = {0};
    const int64_t rows[2] = {7, 1};
    OK(tarn_tensor_new(&row_context[0], TARN_I64, 2, rows, &in[1], &err));
    for (int i = 0; i < 7; i++) {
        tarn_tensor_set(&in[1], i, i * 7);
    }
    in[1].shape[1] = index[1];
    in[1].stride[1] = 0;
    int64_t axis = 0;
    tarn_attr a = {.ni = 1, .i = &axis};
    tarn_tensor out = run_row(&tarn_op_gather, 2, in, &a);
    for (int64_t i = 0; i < 2100; i++) {
        same_number("rows", tarn_tensor_get(&out, i), tarn_tensor_get(&in[0], i / 300 * 2100 + i % 300), 0);
    }
    tarn_tensor_release(&out);
    // An index outside is refused with its place, from 1.
    tarn_tensor_set(&in[1], 6 * 300, 50);
    assert_int_equal(tarn_op_apply(&row_context[0], &tarn_op_gather, 2, in, &a, &out, &err), TARN_ERROR);
    assert_string_equal(err.message, "gather: index 51 is outside 1 to 50");
    tarn_tensor bools[2] = {in[1], in[1]};
    bools[1].dtype = TARN_BOOL;  // a bool source counts
    const int64_t zero[2] = {7, 1};
    OK(tarn_tensor_zeros(&row_context[0], TARN_BOOL, 2, zero, &bools[1], &err));
    OK(tarn_tensor_zeros(&row_context[0], TARN_I64, 2, zero, &bools[0], &err));
    for (int i = 0; i < 7; i++) {
        tarn_tensor_set(&bools[1], i, 1);
    }
    const int64_t to[3] = {0, 3, 1};
    a = (tarn_attr){.ni = 3, .i = to};
    out = run_row(&tarn_op_scatter_add, 2, bools, &a);
    assert_int_equal(out.dtype, TARN_I64);
    assert_int_equal(tarn_tensor_get_int(&out, 0), 7);
    tarn_tensor_release(&out);
    for (int i = 0; i < 2; i++) {
        tarn_tensor_release(&bools[i]);
        tarn_tensor_release(&in[i]);
    }
}

static void concat_case(uint64_t seed) {
    uint64_t s = seed;
    int64_t shape[3] = {1 + below(&s, 4), 1 + below(&s, 4), 1 + below(&s, 4)}, axis = below(&s, 3);
    int n = 1 + (int)below(&s, 20);
    tarn_dtype t = row_stored[below(&s, ROW_STORED)];
    tarn_tensor in[20];
    for (int k = 0; k < n; k++) {
        shape[axis] = below(&s, 4);
        in[k] = any_view(&row_context[0], t, 3, shape, &s);
        fill_any(&in[k], &s, any_value);
    }
    tarn_attr a = {.ni = 1, .i = &axis};
    tarn_tensor out = run_row(&tarn_op_concat, n, in, &a);
    int64_t before = 0;
    for (int k = 0; k < n; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&in[k]); i++) {
            int64_t at[3] = {i / (in[k].shape[1] * in[k].shape[2]), i / in[k].shape[2] % in[k].shape[1],
                             i % in[k].shape[2]};
            at[axis] += before;
            int64_t o = (at[0] * out.shape[1] + at[1]) * out.shape[2] + at[2];
            same_number("concat", tarn_tensor_get(&out, o), tarn_tensor_get(&in[k], i), 0);
        }
        before += in[k].shape[axis];
        tarn_tensor_release(&in[k]);
    }
    assert_int_equal(out.shape[axis], before);
    tarn_tensor_release(&out);
}

static void joins(void **state) {
    for (uint64_t seed = 1; seed < 40; seed++) {
        concat_case(seed);
    }
}

// Sorted by looking for the next smallest (largest) not taken yet, NaN as the largest.
static bool before(double a, double b, bool down) {
    bool na = isnan(a), nb = isnan(b);
    return na || nb ? (down ? na && !nb : nb && !na) : down ? a > b : a < b;
}

static void sorts(void **state) {
    for (uint64_t seed = 1; seed < 90; seed++) {
        uint64_t s = seed;
        const int64_t shape[2] = {1 + below(&s, 3), below(&s, seed % 5 ? 40 : 400)};
        tarn_tensor x = any_view(&row_context[0], row_stored[below(&s, ROW_STORED)], 2, shape, &s);
        fill_any(&x, &s, any_value);
        int64_t down = below(&s, 2), n = shape[1];
        tarn_attr a = {.ni = 1, .i = &down};
        tarn_tensor value = run_row(&tarn_op_sort, 1, &x, &a);
        tarn_tensor index = run_row(&tarn_op_argsort, 1, &x, &a);
        for (int64_t r = 0; r < shape[0]; r++) {
            bool taken[400] = {false};
            for (int64_t k = 0; k < n; k++) {
                int64_t best = -1;
                for (int64_t i = 0; i < n; i++) {
                    if (!taken[i] && (best < 0 || before(tarn_tensor_get(&x, r * n + i),
                                                         tarn_tensor_get(&x, r * n + best), down))) {
                        best = i;
                    }
                }
                taken[best] = true;
                assert_int_equal(tarn_tensor_get_int(&index, r * n + k), best);
                same_number("sort", tarn_tensor_get(&value, r * n + k),
                            tarn_tensor_get(&x, r * n + best), 0);
            }
        }
        tarn_tensor_release(&x);
        tarn_tensor_release(&value);
        tarn_tensor_release(&index);
    }
    // Integers beyond the mantissa of a double are told apart.
    const int64_t shape[1] = {3}, up = 0;
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(&row_context[0], TARN_I64, 1, shape, &x, &err));
    int64_t *p = x.storage->data;
    p[0] = (1LL << 60) + 1, p[1] = 1LL << 60, p[2] = -5;
    tarn_attr a = {.ni = 1, .i = &up};
    tarn_tensor out = run_row(&tarn_op_sort, 1, &x, &a);
    p = out.storage->data;
    assert_true(p[0] == -5 && p[1] == 1LL << 60 && p[2] == (1LL << 60) + 1);
    tarn_tensor_release(&out);
    // A stop is seen while one long row is sorted.
    tarn_cancel_set(&row_context[0].cancel, TARN_STOP_INT);
    assert_int_equal(tarn_op_apply(&row_context[0], &tarn_op_sort, 1, &x, &a, &out, &err), TARN_CANCELLED);
    tarn_cancel_clear(&row_context[0].cancel);
    tarn_tensor_release(&x);
}

// Values that make radix sorting hard: few distinct ones, ones that differ in their last bits only, zeros
// of both signs, infinities, NaN; and those that buckets are made for or not: a bell with equals, heavy tails.
static double hard_value(uint64_t *s, int kind) {
    static const double special[] = {0, -0.0, INFINITY, -INFINITY, NAN, 1, -1, 0.5};
    switch (kind) {
    case 0: return test_uniform(s) * test_uniform(s) * 1e-3;
    case 1: return special[below(s, 8)];
    case 2: return 1 + (double)below(s, 500) * 0x1p-23;
    case 3: return below(s, 4) ? test_uniform(s) + test_uniform(s) + test_uniform(s) : below(s, 2) ? 0 : -0.0;
    case 4: return 1 / (test_uniform(s) + 1e-4);
    case 5: return (test_uniform(s) + 2) * 1e38;
    default: return (double)(below(s, 2000)) - 1000;
    }
}

typedef struct {
    const tarn_tensor *t;
    int64_t at, i;
    bool down;
} place;
static int by_place(const void *p, const void *q) {
    const place *a = p, *b = q;
    double x = tarn_tensor_get(a->t, a->at + a->i), y = tarn_tensor_get(b->t, b->at + b->i);
    return before(x, y, a->down) ? -1 : before(y, x, a->down) ? 1 : (a->i > b->i) - (a->i < b->i);
}

// sort, argsort and rank of rows of any length against the library's sort of places.
static void ranks(void **state) {
    static const int64_t lengths[] = {1, 2, 31, 33, 64, 1000, 1023, 1024, 1025, 4096, 16383, 16384, 70001};
    static const tarn_dtype types[] = {TARN_F32, TARN_F64, TARN_BF16, TARN_I64, TARN_F16, TARN_I8, TARN_U32};
    place *want = malloc(70001 * sizeof *want);
    for (int c = 0; c < 13 * 7; c++) {
        uint64_t s = (uint64_t)c + 1;
        const int64_t shape[2] = {lengths[c % 13] < 5000 ? 3 : 1, lengths[c % 13]};
        tarn_tensor x = any_view(&row_context[0], types[below(&s, 7)], 2, shape, &s);
        bool ints = !tarn_dtype_is_float(x.dtype);
        for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
            tarn_tensor_set(&x, i, ints ? (double)below(&s, 100) : hard_value(&s, c / 13));
        }
        int64_t down = below(&s, 2), n = shape[1];
        tarn_attr a = {.ni = 1, .i = &down};
        tarn_tensor value = run_row(&tarn_op_sort, 1, &x, &a);
        tarn_tensor index = run_row(&tarn_op_argsort, 1, &x, &a);
        tarn_tensor rank = run_row(&tarn_op_rank, 1, &x, &a);
        for (int64_t r = 0; r < shape[0]; r++) {
            for (int64_t i = 0; i < n; i++) {
                want[i] = (place){&x, r * n, i, down != 0};
            }
            qsort(want, (size_t)n, sizeof *want, by_place);
            for (int64_t k = 0; k < n; k++) {
                assert_int_equal(tarn_tensor_get_int(&index, r * n + k), want[k].i);
                assert_int_equal(tarn_tensor_get_int(&rank, r * n + want[k].i), k);
                same_number("sort", tarn_tensor_get(&value, r * n + k), tarn_tensor_get(&x, r * n + want[k].i), 0);
            }
        }
        tarn_tensor_release(&x);
        tarn_tensor_release(&value);
        tarn_tensor_release(&index);
        tarn_tensor_release(&rank);
    }
    free(want);
}

// ---- running sums ----

static void running_sums(void **state) {
    for (uint64_t seed = 1; seed < 60; seed++) {
        uint64_t s = seed;
        const int64_t shape[3] = {1 + below(&s, 3), below(&s, 4), below(&s, seed % 5 ? 40 : 5000)};
        int64_t back = below(&s, 2), n = shape[2];
        tarn_tensor x = any_view(&row_context[0], row_stored[below(&s, ROW_STORED)], 3, shape, &s);
        fill_any(&x, &s, any_value);
        tarn_attr a = {.ni = 1, .i = &back};
        tarn_tensor out = run_row(&tarn_op_cumsum, 1, &x, &a);
        tarn_dtype t = tarn_dtype_compute(x.dtype);
        assert_int_equal(out.dtype, t == TARN_BOOL ? TARN_I64 : t);
        for (int64_t r = 0; n > 0 && r < tarn_tensor_numel(&x) / n; r++) {
            double sum = 0;
            for (int64_t k = 0; k < n; k++) {
                int64_t at = r * n + (back ? n - 1 - k : k);
                sum += tarn_tensor_get(&x, at);
                same_number("cumsum", tarn_tensor_get(&out, at), as_dtype(out.dtype, sum), 0);
            }
        }
        tarn_tensor_release(&x);
        tarn_tensor_release(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(running_sums), cmocka_unit_test(reductions), cmocka_unit_test(long_sums), cmocka_unit_test(whole_dot),
        cmocka_unit_test(selection), cmocka_unit_test(views), cmocka_unit_test(products),
        cmocka_unit_test(picks), cmocka_unit_test(joins), cmocka_unit_test(sorts), cmocka_unit_test(ranks),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
