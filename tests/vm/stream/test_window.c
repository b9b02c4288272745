// SPDX-License-Identifier: Apache-2.0
// Exact selection among massive ties: values from four magnitudes, so that the cut falls between equal
// elements and the last sweeps look at a window of positions only. What is kept is counted and placed by
// a plain loop: all above the threshold, of those equal to it the first by position. One tensor of
// several blocks, and several jobs as one whole model.
#include <malloc.h>

#include "tests/support.h"
#include "vm/stream/stream.h"

enum { N = 3 * 1024 * 1024 + 777, JOBS = 3 };

static double magnitude(int64_t i, uint64_t seed) {
    uint64_t s = seed + (uint64_t)i * 977;
    double v = (double)(test_random(&s) % 4);
    return test_random(&s) & 1 ? v : -v;
}

static tarn_tensor values(tarn_context *cx, int64_t n, uint64_t seed) {
    tarn_error err = {0};
    tarn_tensor t;
    OK(tarn_tensor_new(cx, TARN_BF16, 1, &n, &t, &err));
    for (int64_t i = 0; i < n; i++) {
        tarn_tensor_set(&t, i, magnitude(i, seed));
    }
    return t;
}

// The job that marks what selection `gid` (0: of this tensor alone) keeps.
static tarn_job marked(tarn_context *cx, const tarn_tensor *t, double density, int64_t gid,
                       int64_t start) {
    tarn_graph *g = tarn_graph_new(cx);
    const tarn_source *s = tarn_source_of_tensor(t, "w");
    assert_non_null(g);
    assert_non_null(s);
    const tarn_node *x = tarn_abs(g, tarn_leaf_source(g, s));
    s->release(s);
    int64_t i[4] = {0, 0, 0, 32};
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *k = gid ? tarn_reduce_global(g, &tarn_op_kth, 1, &x, gid, start, &a)
                             : tarn_node_make(g, &tarn_op_kth, 1, &x, &a);
    const tarn_node *cut = tarn_sub(g, tarn_item(g, k, 1), tarn_num(g, (double)start));
    const tarn_node *in[3] = {x, tarn_item(g, k, 0), cut};
    const tarn_node *root = tarn_node_make(g, &tarn_op_top, 3, in, NULL);
    assert_non_null(root);
    return (tarn_job){.name = "w", .graph = g, .root = root, .store = TARN_BOOL};
}

// Position by position over the tensors in order.
static void check(int n, const tarn_tensor *t, const tarn_tensor *got, double density) {
    int64_t total = 0, above[5] = {0};
    for (int k = 0; k < n; k++) {
        total += tarn_tensor_numel(&t[k]);
        for (int64_t i = 0; i < tarn_tensor_numel(&t[k]); i++) {
            double v = tarn_tensor_get(&t[k], i);
            above[(int)(v < 0 ? -v : v)]++;
        }
    }
    int64_t keep = (int64_t)(density * (double)total), threshold = 4;
    keep = keep < 1 ? 1 : keep;
    int64_t left = keep;
    while (threshold > 0 && left > above[threshold]) {
        left -= above[threshold--];
    }
    for (int k = 0; k < n; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&t[k]); i++) {
            double v = tarn_tensor_get(&t[k], i);
            v = v < 0 ? -v : v;
            bool want = v > (double)threshold || ((int64_t)v == threshold && left-- > 0);
            if (want != (tarn_tensor_get(&got[k], i) != 0)) {
                fail_msg("density %g, tensor %d, element %lld: %d", density, k, (long long)i, want);
            }
        }
    }
}

static void run(int threads, size_t hold, int n, const int64_t *sizes, double density) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_options o = {.threads = threads, .memory = (size_t)2 << 30, .hold = hold};
    OK(tarn_context_init(&cx, &o, &err));
    tarn_tensor t[JOBS], got[JOBS];
    tarn_job jobs[JOBS];
    int64_t start = 0;
    for (int k = 0; k < n; k++) {
        t[k] = values(&cx, sizes[k], 11 + (uint64_t)k);
        jobs[k] = marked(&cx, &t[k], density, n > 1, start);
        start += sizes[k];
    }
    OK(tarn_stream_load(&cx, n, jobs, got, &err));
    check(n, t, got, density);
    for (int k = 0; k < n; k++) {
        tarn_tensor_release(&t[k]);
        tarn_tensor_release(&got[k]);
        tarn_graph_release(jobs[k].graph);
    }
    tarn_context_free(&cx);
}

static void test_one(void **state) {
    (void)state;
    const int64_t n = N;
    static const double densities[] = {0.3333, 0.77, 1e-9};
    for (int d = 0; d < 3; d++) {
        run(1 + d % 3, d % 2 ? 1 : 64 << 20, 1, &n, densities[d]);
    }
}

static void test_model(void **state) {
    (void)state;
    static const int64_t sizes[JOBS] = {1200000, 5000, 1500001};
    run(2, 1, JOBS, sizes, 0.3);
    run(3, 64 << 20, JOBS, sizes, 0.62);
}

// Two selections in one stage, in different passes: of |w|, and of (4 - |w|) m, where m is known after the
// first pass. Each ends with a sweep over a window of its own, and what the first has read is not all.
static void two_windows(size_t hold, int threads) {
    static const double densities[2] = {0.3333, 0.45};
    const int64_t n = N, few = 1000;
    tarn_context cx;
    tarn_error err = {0};
    tarn_options o = {.threads = threads, .memory = (size_t)2 << 30, .hold = hold};
    OK(tarn_context_init(&cx, &o, &err));
    mallopt(M_PERTURB, 0x5A);  // nothing right is in memory by chance
    tarn_tensor w = values(&cx, n, 11), c = values(&cx, few, 12), got[2], turned;
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_source *sw = tarn_source_of_tensor(&w, "w"), *sc = tarn_source_of_tensor(&c, "c");
    const tarn_node *x[2] = {tarn_abs(g, tarn_leaf_source(g, sw))};
    const tarn_node *most = tarn_total(g, &tarn_op_max, tarn_leaf_source(g, sc));  // 3
    x[1] = tarn_mul(g, tarn_sub(g, tarn_num(g, 4), x[0]), most);
    const tarn_node *kept[2];
    for (int k = 0; k < 2; k++) {
        int64_t i[4] = {0, 0, 0, 32};
        tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &densities[k]};
        const tarn_node *cut = tarn_reduce_global(g, &tarn_op_kth, 1, &x[k], k + 1, 0, &a);
        const tarn_node *in[3] = {x[k], tarn_item(g, cut, 0), tarn_item(g, cut, 1)};
        kept[k] = tarn_node_make(g, &tarn_op_top, 3, in, NULL);
    }
    // One job that has a part in both.
    const tarn_node *both = tarn_where(g, kept[0], tarn_num(g, 1), tarn_num(g, 0));
    both = tarn_add(g, both, tarn_where(g, kept[1], tarn_num(g, 2), tarn_num(g, 0)));
    tarn_job one = {.name = "w", .graph = g, .root = both, .store = TARN_F32};
    tarn_tensor sum;
    OK(tarn_stream_load(&cx, 1, &one, &sum, &err));
    OK(tarn_tensor_new(&cx, TARN_F32, 1, &n, &turned, &err));
    for (int k = 0; k < 2; k++) {
        OK(tarn_tensor_new(&cx, TARN_BOOL, 1, &n, &got[k], &err));
    }
    for (int64_t i = 0; i < n; i++) {
        double v = tarn_tensor_get(&w, i);
        int bits = (int)tarn_tensor_get(&sum, i);
        tarn_tensor_set(&turned, i, 4 - (v < 0 ? -v : v));
        tarn_tensor_set(&got[0], i, bits & 1);
        tarn_tensor_set(&got[1], i, bits >> 1);
    }
    check(1, &w, &got[0], densities[0]);
    check(1, &turned, &got[1], densities[1]);
    sw->release(sw);
    sc->release(sc);
    tarn_tensor_release(&w);
    tarn_tensor_release(&c);
    tarn_tensor_release(&turned);
    tarn_tensor_release(&sum);
    tarn_tensor_release(&got[0]);
    tarn_tensor_release(&got[1]);
    tarn_graph_release(g);
    tarn_context_free(&cx);
}

static void test_two_windows(void **state) {
    (void)state;
    two_windows(1, 2);
    two_windows(64 << 20, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one), cmocka_unit_test(test_model),
                                       cmocka_unit_test(test_two_windows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
