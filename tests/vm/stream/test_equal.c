// SPDX-License-Identifier: Apache-2.0
// Eager == streaming, to the bit: random expressions over random sources, for 1, 2, 3 and 8 threads
// and every instruction set. The two evaluators share kernels and the reduction tree, and nothing of
// how tiles are found, fused, scheduled and stored.
#include <math.h>

#include "tests/support.h"
#include "vm/stream/stream.h"

enum { SOURCES = 3 };

typedef struct {
    tarn_context *cx;
    tarn_graph *g;
    const tarn_node *pool[64];  // tensors of the full shape
    int n;
    const tarn_node *scalar[64];
    int ns;
    uint64_t seed;
} maker;

static const tarn_node *pick(maker *m) { return m->pool[test_random(&m->seed) % (uint64_t)m->n]; }
static const tarn_node *pick_scalar(maker *m) {
    return m->ns ? m->scalar[test_random(&m->seed) % (uint64_t)m->ns] : tarn_num(m->g, 0.37);
}

static void grow(maker *m) {
    tarn_graph *g = m->g;
    const tarn_node *a = pick(m), *b = pick(m), *r = NULL;
    switch (test_random(&m->seed) % 16) {
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
    case 10: m->scalar[m->ns++ % 64] = tarn_dot(g, a, b); return;
    case 11: m->scalar[m->ns++ % 64] = tarn_sqrt(g, tarn_dot(g, a, a)); return;
    case 12: m->scalar[m->ns++ % 64] = tarn_total(g, &tarn_op_max, tarn_abs(g, a)); return;
    case 13: {
        const tarn_node *x = tarn_abs(g, a);
        int64_t i[4] = {0, 0, 0, tarn_dtype_compute(x->desc.dtype) == TARN_F64 ? 64 : 32};
        double density = 0.3;
        tarn_attr at = {.ni = 4, .i = i, .nf = 1, .f = &density};
        const tarn_node *k = tarn_node_make(g, &tarn_op_kth, 1, &x, &at);
        const tarn_node *in[3] = {x, tarn_item(g, k, 0), tarn_item(g, k, 1)};
        r = tarn_where(g, tarn_node_make(g, &tarn_op_top, 3, in, NULL), a, tarn_num(g, 0));
        break;
    }
    case 14: {
        int64_t axis = a->desc.rank - 1;
        r = tarn_sub(g, a, tarn_reduce(g, &tarn_op_max, a, 1, &axis, true));
        break;
    }
    case 15: {
        int64_t i[TARN_MAX_RANK + 2] = {TARN_BOOL};
        memcpy(i + 1, a->desc.shape, (size_t)a->desc.rank * sizeof *i);
        i[a->desc.rank + 1] = (int64_t)test_random(&m->seed);
        double p = 0.6;
        tarn_attr at = {.ni = a->desc.rank + 2, .i = i, .nf = 1, .f = &p};
        r = tarn_where(g, tarn_node_make(g, &tarn_op_bernoulli, 0, NULL, &at), a, b);
        break;
    }
    }
    assert_non_null(r);
    if (m->n < 64) {
        m->pool[m->n++] = r;
    }
}

static void one_expression(uint64_t seed, int rank, const int64_t *shape, unsigned char **bytes,
                           size_t *nbytes, int threads, const char *isa, bool streaming) {
    static const tarn_dtype stored[] = {TARN_BF16, TARN_F32, TARN_F16, TARN_F64};
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, threads, isa);
    cx.hold = seed % 2 ? (size_t)64 : (size_t)64 << 20;
    maker m = {.cx = &cx, .g = tarn_graph_new(&cx), .seed = seed};
    for (int i = 0; i < SOURCES; i++) {
        tarn_tensor t = filled(&cx, stored[(seed + (uint64_t)i) % 4], rank, shape, seed * 7 + (uint64_t)i);
        const tarn_source *s = tarn_source_of_tensor(&t, "t");
        m.pool[m.n++] = tarn_leaf_source(m.g, s);
        s->release(s);
        tarn_tensor_release(&t);
    }
    for (int i = 0; i < 14; i++) {
        grow(&m);
    }
    const tarn_node *root = m.pool[m.n - 1];
    for (int i = 0; i < m.ns; i++) {  // every scalar takes part
        root = tarn_add(m.g, root, tarn_mul(m.g, m.scalar[i], tarn_num(m.g, 1e-3)));
    }
    assert_non_null(root);
    tarn_tensor out, narrow;
    if (streaming) {
        tarn_job job = {.name = "t", .graph = m.g, .root = root, .store = TARN_BF16};
        OK(tarn_stream_load(&cx, 1, &job, &narrow, &err));
    } else {
        OK(tarn_graph_eval(m.g, 1, &root, NULL, &out, &err));
        OK(tarn_tensor_cast(&cx, &out, TARN_BF16, &narrow, &err));
        tarn_tensor_release(&out);
    }
    *nbytes = tarn_tensor_bytes(&narrow);
    *bytes = malloc(*nbytes + 1);
    memcpy(*bytes, tarn_tensor_data(&narrow), *nbytes);
    tarn_tensor_release(&narrow);
    tarn_graph_release(m.g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void compare(uint64_t seed, int rank, const int64_t *shape) {
    static const int threads[] = {1, 2, 3, 8};
    unsigned char *want, *got;
    size_t n, m;
    one_expression(seed, rank, shape, &want, &n, 1, "v1", false);
    for (const char *const *isa = test_isas(); *isa; isa++) {
        for (int t = 0; t < 4; t++) {
            one_expression(seed, rank, shape, &got, &m, threads[t], *isa, true);
            assert_int_equal(n, m);
            if (memcmp(want, got, n) != 0) {
                fail_msg("seed %llu: %s with %d threads differs from eager",
                         (unsigned long long)seed, *isa, threads[t]);
            }
            free(got);
        }
        one_expression(seed, rank, shape, &got, &m, 2, *isa, false);
        assert_memory_equal(want, got, n);
        free(got);
    }
    free(want);
}

static void small_shapes(void **state) {
    const int64_t shapes[][2] = {{1, 1}, {3, 5}, {1, 1023}, {32, 32}, {7, 999}, {64, 1025}};
    for (uint64_t seed = 1; seed <= 30; seed++) {
        compare(seed, 2, shapes[seed % 6]);
    }
}

static void across_blocks(void **state) {
    const int64_t shape[2] = {3, 1024 * 1024 / 2 + 4097};
    for (uint64_t seed = 100; seed < 103; seed++) {
        compare(seed, 2, shape);
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

// Whole-model reductions: a norm over several tensors, and one selection across all of them, agree
// with the same computed on the concatenation.
static void whole_model(void **state) {
    const int64_t sizes[3] = {700, 5000, 1100000};
    for (int threads = 1; threads <= 3; threads++) {
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
        int cmp(const void *p, const void *q);
        qsort(sorted, (size_t)n, sizeof *sorted, cmp);
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
int cmp(const void *p, const void *q) {
    double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interpolation),
        cmocka_unit_test(small_shapes),
        cmocka_unit_test(across_blocks),
        cmocka_unit_test(whole_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
