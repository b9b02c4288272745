// SPDX-License-Identifier: Apache-2.0
// Eager == streaming, to the bit: random expressions over random sources, for 1, 2, 3 and 8 threads,
// every instruction set, inputs held or read again, several jobs in any order. Expressions mix fused
// element-wise work with reductions that later passes use, axis reductions, selections, views, casts
// and whole-tensor rows. The two evaluators share kernels and the reduction tree, and nothing of how
// tiles are found, fused, scheduled and stored.
#include <math.h>

#include "tests/support.h"
#include "vm/stream/stream.h"

enum { SOURCES = 4, MOST = 64 };

typedef struct {
    tarn_graph *g;
    const tarn_node *pool[MOST];  // tensors of the full shape
    int n;
    const tarn_node *scalar[MOST];
    int ns;
    uint64_t seed;
    bool whole;  // rows that sort or multiply may take part
} maker;

static const tarn_node *pick(maker *m) { return m->pool[test_random(&m->seed) % (uint64_t)m->n]; }
static const tarn_node *pick_scalar(maker *m) {
    return m->ns ? m->scalar[test_random(&m->seed) % (uint64_t)m->ns] : tarn_num(m->g, 0.37);
}
static void add_scalar(maker *m, const tarn_node *s) {
    if (m->ns < MOST) {
        m->scalar[m->ns++] = s;
    }
}

// The 30 % of a with the largest magnitudes.
static const tarn_node *trimmed(tarn_graph *g, const tarn_node *a) {
    const tarn_node *x = tarn_abs(g, tarn_dtype_is_float(a->desc.dtype) ? a : tarn_cast(g, a, TARN_F32));
    int64_t i[4] = {0, 0, 0, tarn_dtype_compute(x->desc.dtype) == TARN_F64 ? 64 : 32};
    double density = 0.3;
    tarn_attr at = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *k = tarn_node_make(g, &tarn_op_kth, 1, &x, &at);
    const tarn_node *in[3] = {x, tarn_item(g, k, 0), tarn_item(g, k, 1)};
    return tarn_where(g, tarn_node_make(g, &tarn_op_top, 3, in, NULL), a, tarn_num(g, 0));
}

static const tarn_node *coin(tarn_graph *g, const tarn_desc *d, uint64_t key) {
    int64_t i[TARN_MAX_RANK + 2] = {TARN_BOOL};
    memcpy(i + 1, d->shape, (size_t)d->rank * sizeof *i);
    memcpy(&i[d->rank + 1], &key, sizeof key);
    double p = 0.6;
    tarn_attr at = {.ni = d->rank + 2, .i = i, .nf = 1, .f = &p};
    return tarn_node_make(g, &tarn_op_bernoulli, 0, NULL, &at);
}

// A small tensor times a under two shapes of as many elements: [2, 1] against [2, n / 2] and against
// [n / 2, 2, 1]. The tiles are the same, what is fetched for them is not.
static const tarn_node *two_shapes(tarn_graph *g, const tarn_node *a) {
    int64_t n = tarn_desc_numel(&a->desc) / 2, pair[2] = {2, 1}, flat[2] = {2, n}, deep[3] = {n, 2, 1};
    int64_t axis = 1;
    const tarn_node *x = tarn_reshape(g, a, 2, flat);
    const tarn_node *small = tarn_reshape(g, tarn_reduce(g, &tarn_op_max, x, 1, &axis, false), 2, pair);
    x = tarn_add(g, x, small);
    x = tarn_sub(g, tarn_reshape(g, x, 3, deep), small);
    return tarn_reshape(g, x, a->desc.rank, a->desc.shape);
}

static const tarn_node *whole_row(maker *m, const tarn_node *a, const tarn_node *b) {
    tarn_graph *g = m->g;
    const int64_t swap[2] = {1, 0}, up[1] = {0}, axis = 1;
    tarn_attr at = {.ni = 1, .i = up};
    switch (test_random(&m->seed) % 4) {
    case 0:
        return tarn_node_make(g, &tarn_op_sort, 1, &a, &at);
    case 1: {  // a bᵀ b, small
        const tarn_node *k = tarn_matmul(g, tarn_mul(g, a, tarn_num(g, 0.01)), tarn_permute(g, b, swap));
        return tarn_matmul(g, k, tarn_mul(g, b, tarn_num(g, 0.01)));
    }
    case 2: {  // rows put in the order of their sums
        const tarn_node *sum = tarn_reduce(g, &tarn_op_sum, a, 1, &axis, false);
        const tarn_node *by = tarn_node_make(g, &tarn_op_argsort, 1, &sum, &at);
        const int64_t column[2] = {a->desc.shape[0], 1};
        const tarn_node *in[2] = {b, tarn_broadcast(g, tarn_reshape(g, by, 2, column), 2, a->desc.shape)};
        return tarn_node_make(g, &tarn_op_gather, 2, in, &at);
    }
    default: {  // half of a, half of b
        int64_t rows = a->desc.shape[0] / 2, all = a->desc.shape[1];
        const int64_t top[6] = {0, rows, 1, 0, all, 1}, rest[6] = {rows, a->desc.shape[0] - rows, 1, 0, all, 1};
        tarn_attr ta = {.ni = 6, .i = top}, ra = {.ni = 6, .i = rest};
        const tarn_node *in[2] = {tarn_cast(g, tarn_node_make(g, &tarn_op_slice, 1, &a, &ta), TARN_F32),
                                  tarn_cast(g, tarn_node_make(g, &tarn_op_slice, 1, &b, &ra), TARN_F32)};
        return tarn_node_make(g, &tarn_op_concat, 2, in, &at);
    }
    }
}

// a beside what the columns of b come to: those of the tensor, or of each half of its rows.
static const tarn_node *beside_columns(maker *m, const tarn_node *a, const tarn_node *b) {
    static const tarn_op *const folds[] = {&tarn_op_sum, &tarn_op_max, &tarn_op_min};
    tarn_graph *g = m->g;
    int64_t rows = a->desc.shape[0], parts = rows % 2 ? 1 : 1 + (int64_t)(test_random(&m->seed) % 2), axis = 1;
    const int64_t shape[3] = {parts, rows / parts, a->desc.shape[1]};
    const tarn_op *fold = folds[test_random(&m->seed) % 3];
    const tarn_node *x = tarn_reshape(g, a, 3, shape), *y = tarn_reshape(g, b, 3, shape);
    y = tarn_reduce(g, fold, y, 1, &axis, true);
    x = fold == folds[0] ? tarn_mul(g, x, y) : tarn_sub(g, x, y);
    return tarn_reshape(g, x, 2, a->desc.shape);
}

static void grow(maker *m) {
    tarn_graph *g = m->g;
    const tarn_node *a = pick(m), *b = pick(m), *r = NULL;
    int64_t axis = a->desc.rank - 1;
    switch (test_random(&m->seed) % (m->whole ? 24 : 22)) {
    case 0: r = tarn_add(g, a, b); break;
    case 1: r = tarn_sub(g, a, b); break;
    case 2: r = tarn_mul(g, a, pick_scalar(m)); break;
    case 3: r = tarn_maximum(g, a, b); break;
    case 4: r = tarn_where(g, tarn_gt(g, a, b), a, tarn_num(g, 0.25)); break;
    case 5: r = tarn_exp(g, tarn_minimum(g, a, tarn_num(g, 2))); break;
    case 6: r = tarn_abs(g, a); break;
    case 7: r = tarn_cast(g, a, TARN_BF16); break;
    case 8: r = tarn_relu(g, tarn_neg(g, a)); break;
    case 9: r = tarn_div(g, a, tarn_num(g, 3)); break;
    case 10: add_scalar(m, tarn_dot(g, a, b)); return;
    case 11: add_scalar(m, tarn_sqrt(g, tarn_dot(g, a, a))); return;
    case 12: add_scalar(m, tarn_total(g, &tarn_op_max, tarn_abs(g, a))); return;
    case 13: r = trimmed(g, a); break;
    case 14: r = tarn_sub(g, a, tarn_reduce(g, &tarn_op_max, a, 1, &axis, true)); break;
    case 15: r = tarn_where(g, coin(g, &a->desc, test_random(&m->seed)), a, b); break;
    case 16: case 20: case 21: r = beside_columns(m, a, b); break;
    case 17: r = tarn_desc_numel(&a->desc) % 2 ? a : two_shapes(g, a); break;
    case 18: r = tarn_cast(g, tarn_cast(g, a, TARN_F8_E4M3), TARN_F32); break;
    case 19: r = tarn_unary(g, &tarn_op_tanh, tarn_cast(g, a, TARN_F16)); break;
    default: r = whole_row(m, a, b); break;
    }
    if (!r) {
        fail_msg("%s", g->err.message);
    }
    if (m->n < MOST) {
        m->pool[m->n++] = r;
    }
}

// What is kept between runs: the sources.
typedef struct {
    tarn_context cx;
    tarn_tensor t[SOURCES];
    int rank;
    int64_t shape[2];
    uint64_t seed;
    bool whole;
} material;

static void open_material(material *x, uint64_t seed, int rank, const int64_t *shape, bool whole) {
    static const tarn_dtype stored[] = {TARN_BF16, TARN_F32, TARN_F16, TARN_F64, TARN_I8};
    memset(x, 0, sizeof *x);
    open_context(&x->cx, 1, NULL);
    x->seed = seed;
    x->rank = rank;
    x->whole = whole;
    memcpy(x->shape, shape, (size_t)rank * sizeof *shape);
    for (int i = 0; i < SOURCES; i++) {
        x->t[i] = filled(&x->cx, stored[(seed + (uint64_t)i) % 5], rank, shape, seed * 7 + (uint64_t)i);
    }
}

static void close_material(material *x) {
    for (int i = 0; i < SOURCES; i++) {
        tarn_tensor_release(&x->t[i]);
    }
    tarn_context_free(&x->cx);
}

enum { JOBS = 3 };

// The expressions of a seed, in one graph: JOBS roots that share parts.
static tarn_graph *expressions(tarn_context *cx, const material *x, const tarn_node **root) {
    maker m = {.g = tarn_graph_new(cx), .seed = x->seed, .whole = x->whole};
    for (int i = 0; i < SOURCES; i++) {
        const tarn_source *s = tarn_source_of_tensor(&x->t[i], "t");
        m.pool[m.n++] = tarn_leaf_source(m.g, s);
        s->release(s);
    }
    for (int i = 0; i < 16; i++) {
        grow(&m);
    }
    for (int k = 0; k < JOBS; k++) {
        root[k] = m.pool[m.n - 1 - k];
        for (int i = k; i < m.ns; i++) {  // scalars take part
            root[k] = tarn_add(m.g, root[k], tarn_mul(m.g, m.scalar[i], tarn_num(m.g, 1e-3)));
        }
        assert_non_null(root[k]);
    }
    return m.g;
}

static void eager(const material *x, const char *isa, int threads, tarn_tensor *out) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_tensor wide[JOBS];
    const tarn_node *root[JOBS];
    open_context(&cx, threads, isa);
    tarn_graph *g = expressions(&cx, x, root);
    OK(tarn_graph_eval(g, JOBS, root, NULL, wide, &err));
    for (int k = 0; k < JOBS; k++) {
        tarn_tensor t;
        OK(tarn_tensor_cast(&cx, &wide[k], TARN_BF16, &t, &err));
        // into memory that outlives the context
        OK(tarn_tensor_new((tarn_context *)&x->cx, TARN_BF16, t.rank, t.shape, &out[k], &err));
        memcpy(out[k].storage->data, tarn_tensor_data(&t), tarn_tensor_bytes(&t));
        tarn_tensor_release(&t);
        tarn_tensor_release(&wide[k]);
    }
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void streamed(const material *x, const char *isa, int threads, size_t hold, int first,
                     const tarn_tensor *want) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_tensor out[JOBS];
    const tarn_node *root[JOBS];
    open_context(&cx, threads, isa);
    cx.hold = hold;
    tarn_graph *g = expressions(&cx, x, root);
    tarn_job jobs[JOBS];
    for (int k = 0; k < JOBS; k++) {
        jobs[k] = (tarn_job){.name = "t", .graph = g, .root = root[(k + first) % JOBS], .store = TARN_BF16};
    }
    OK(tarn_stream_load(&cx, JOBS, jobs, out, &err));
    for (int k = 0; k < JOBS; k++) {
        const tarn_tensor *w = &want[(k + first) % JOBS];
        assert_int_equal(tarn_tensor_numel(&out[k]), tarn_tensor_numel(w));
        if (memcmp(tarn_tensor_data(&out[k]), tarn_tensor_data(w), tarn_tensor_bytes(w)) != 0) {
            fail_msg("seed %llu: %s, %d threads, hold %zu: other bytes than eager",
                     (unsigned long long)x->seed, tarn_isa_name(cx.isa), threads, hold);
        }
        tarn_tensor_release(&out[k]);
    }
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// `quick`: every instruction set once, every number of threads once.
static void compare(uint64_t seed, int rank, const int64_t *shape, bool whole, bool quick) {
    static const int threads[] = {1, 2, 3, 8};
    material x;
    tarn_tensor want[JOBS], again[JOBS];
    open_material(&x, seed, rank, shape, whole);
    eager(&x, "v1", 1, want);
    int run = 0;
    for (const char *const *isa = test_isas(); *isa; isa++) {
        eager(&x, *isa, 2, again);
        for (int k = 0; k < JOBS; k++) {
            assert_memory_equal(tarn_tensor_data(&want[k]), tarn_tensor_data(&again[k]),
                                tarn_tensor_bytes(&want[k]));
            tarn_tensor_release(&again[k]);
        }
        for (int t = 0; t < 4; t++, run++) {
            if (quick && isa[1] && t != 1) {
                continue;
            }
            size_t hold = (seed + (uint64_t)run) % 2 ? (size_t)64 : (size_t)256 << 20;
            streamed(&x, *isa, threads[t], hold, run % JOBS, want);
        }
    }
    for (int k = 0; k < JOBS; k++) {
        tarn_tensor_release(&want[k]);
    }
    close_material(&x);
}

static void small_shapes(void **state) {
    const int64_t shapes[][2] = {{1, 1},     {3, 5}, {1, 1023},   {32, 32}, {7, 999},
                                 {64, 1025}, {2, 2}, {1001, 130}, {2000, 7}, {600, 64}};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        compare(seed, 2, shapes[seed % 10], false, false);
    }
}

// Rows over whole tensors between the passes; products stay in tier B, but their bytes do not depend
// on the evaluator.
static void whole_rows(void **state) {
    const int64_t shapes[][2] = {{6, 5}, {40, 33}, {1, 7}, {130, 70}};
    for (uint64_t seed = 200; seed < 216; seed++) {
        compare(seed, 2, shapes[seed % 4], true, false);
    }
}

static void across_blocks(void **state) {
    const int64_t shapes[][2] = {{2, 1024 * 1024 + 4097}, {700, 3001}};
    for (uint64_t seed = 101; seed < 103; seed++) {
        compare(seed, 2, shapes[seed - 101], false, true);
    }
}

// a + 0.4 (b - a) over two sources: the first expression of the house.
static void interpolation(void **state) {
    const int64_t shape[1] = {5000};
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    tarn_tensor t[2];
    const tarn_node *x[2];
    for (int i = 0; i < 2; i++) {
        t[i] = filled(&cx, TARN_F32, 1, shape, (uint64_t)i + 1);
        const tarn_source *s = tarn_source_of_tensor(&t[i], "w");
        x[i] = tarn_leaf_source(g, s);
        s->release(s);
    }
    const tarn_node *y = tarn_add(g, x[0], tarn_mul(g, tarn_num(g, 0.4), tarn_sub(g, x[1], x[0])));
    tarn_job job = {.name = "w", .graph = g, .root = y, .store = TARN_F32};
    tarn_tensor out;
    OK(tarn_stream_load(&cx, 1, &job, &out, &err));
    for (int64_t i = 0; i < 5000; i++) {
        float a = (float)tarn_tensor_get(&t[0], i), b = (float)tarn_tensor_get(&t[1], i);
        float d = b - a, p = 0.4f * d, want = a + p;
        assert_true((float)tarn_tensor_get(&out, i) == want);
    }
    tarn_stream_plan plan;
    OK(tarn_stream_plan_of(&cx, 1, &job, &plan, NULL, &err));
    assert_int_equal(plan.passes, 1);
    assert_int_equal(plan.reads, 40000);
    assert_int_equal(plan.writes, 20000);
    tarn_tensor_release(&out);
    tarn_tensor_release(&t[0]);
    tarn_tensor_release(&t[1]);
    tarn_graph_release(g);
    tarn_context_free(&cx);
}

static int ascending(const void *p, const void *q) {
    double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

// Whole-model reductions: a norm over several tensors, and one selection across all of them, agree
// with the same computed on the concatenation.
static void whole_model(void **state) {
    const int64_t sizes[3] = {700, 5000, 1100000};
    for (int threads = 1; threads <= 3; threads += 2) {
        tarn_context cx;
        tarn_error err = {0};
        open_context(&cx, threads, NULL);
        static const char *const names[3] = {"b", "c", "a"};  // order by name: a b c
        tarn_graph *g = tarn_graph_new(&cx);
        tarn_job jobs[3];
        double *all = malloc(sizeof *all * 1200000);
        int64_t n = 0, start[3];
        tarn_tensor t[3];
        for (int i = 0; i < 3; i++) {
            t[i] = filled(&cx, TARN_BF16, 1, &sizes[i], (uint64_t)i + 9);
        }
        static const int by_name[3] = {2, 0, 1};
        for (int k = 0; k < 3; k++) {
            int i = by_name[k];
            start[i] = n;
            for (int64_t e = 0; e < sizes[i]; e++) {
                all[n++] = fabs(tarn_tensor_get(&t[i], e));
            }
        }
        int64_t keep = (int64_t)(0.2 * (double)n);
        for (int i = 0; i < 3; i++) {
            const tarn_source *s = tarn_source_of_tensor(&t[i], names[i]);
            const tarn_node *x = tarn_abs(g, tarn_leaf_source(g, s));
            s->release(s);
            int64_t at[4] = {0, 0, 0, 32};
            double density = 0.2;
            tarn_attr a = {.ni = 4, .i = at, .nf = 1, .f = &density};
            const tarn_node *k = tarn_reduce_global(g, &tarn_op_kth, 1, &x, 1, start[i], &a);
            const tarn_node *cut = tarn_sub(g, tarn_item(g, k, 1), tarn_num(g, (double)start[i]));
            const tarn_node *in[3] = {x, tarn_item(g, k, 0), cut};
            const tarn_node *mask = tarn_node_make(g, &tarn_op_top, 3, in, NULL);
            jobs[i] = (tarn_job){.name = names[i], .graph = g,
                                 .root = tarn_where(g, mask, x, tarn_num(g, 0)), .store = TARN_F32};
            assert_non_null(jobs[i].root);
        }
        tarn_tensor out[3];
        OK(tarn_stream_load(&cx, 3, jobs, out, &err));
        // The naive twin: sort, threshold, ties to the lowest position in name order.
        double *sorted = malloc(sizeof *sorted * (size_t)n);
        memcpy(sorted, all, sizeof *sorted * (size_t)n);
        qsort(sorted, (size_t)n, sizeof *sorted, ascending);
        double threshold = sorted[n - keep];
        int64_t above = 0;
        for (int64_t e = 0; e < n; e++) {
            above += all[e] > threshold;
        }
        int64_t equals = keep - above, kept = 0;
        for (int k = 0; k < 3; k++) {
            int i = by_name[k];
            for (int64_t e = 0; e < sizes[i]; e++) {
                double v = all[start[i] + e];
                bool want = v > threshold || (v == threshold && equals-- > 0);
                kept += want;
                assert_true(tarn_tensor_get(&out[i], e) == (want ? v : 0));
            }
        }
        assert_int_equal(kept, keep);
        for (int i = 0; i < 3; i++) {
            tarn_tensor_release(&out[i]);
            tarn_tensor_release(&t[i]);
        }
        free(all);
        free(sorted);
        tarn_graph_release(g);
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
}

// A tensor without elements has no say in the maximum of a model.
static void empty_member(void **state) {
    const int64_t sizes[3] = {3, 0, 2};
    for (int threads = 1; threads <= 2; threads++) {
        tarn_context cx;
        tarn_error err = {0};
        open_context(&cx, threads, NULL);
        tarn_graph *g = tarn_graph_new(&cx);
        tarn_job jobs[3];
        tarn_tensor t[3], out[3];
        int64_t start = 0;
        for (int i = 0; i < 3; i++) {
            OK(tarn_tensor_new(&cx, TARN_F32, 1, &sizes[i], &t[i], &err));
            for (int64_t k = 0; k < sizes[i]; k++) {
                tarn_tensor_set(&t[i], k, -5.0 - (double)k);
            }
            const tarn_source *s = tarn_source_of_tensor(&t[i], "t");
            const tarn_node *x = tarn_leaf_source(g, s);
            s->release(s);
            const tarn_node *top = tarn_reduce_global(g, &tarn_op_max, 1, &x, 1, start, NULL);
            jobs[i] = (tarn_job){.name = "t", .graph = g, .root = tarn_sub(g, x, top), .store = TARN_F32};
            start += sizes[i];
        }
        OK(tarn_stream_load(&cx, 3, jobs, out, &err));
        assert_true(tarn_tensor_get(&out[0], 0) == 0 && tarn_tensor_get(&out[2], 1) == -1);
        for (int i = 0; i < 3; i++) {
            tarn_tensor_release(&t[i]);
            tarn_tensor_release(&out[i]);
        }
        tarn_graph_release(g);
        tarn_context_free(&cx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interpolation),
        cmocka_unit_test(small_shapes),
        cmocka_unit_test(whole_rows),
        cmocka_unit_test(across_blocks),
        cmocka_unit_test(whole_model),
        cmocka_unit_test(empty_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
