// SPDX-License-Identifier: Apache-2.0
// Reductions down columns, streamed: [slabs, rows, width] reduced over the rows equals the eager
// evaluator's to the bit where blocks and tiles end in the middle of rows, beside total reductions and
// stores of the same pass, for any number of threads and any hold budget. That they do stream: no tensor
// in memory but results, and memory that does not grow with the operand; where results are not small
// beside it, it is whole, as the plan says.
#include "tests/support.h"
#include "vm/stream/stream.h"

enum { SOURCES = 3, JOBS = 3 };

// b beside its columns, normalised by those of a c; the columns themselves; and their sum.
static tarn_graph *expressions(tarn_context *cx, const tarn_tensor *t, const tarn_node **root) {
    tarn_graph *g = tarn_graph_new(cx);
    const tarn_node *x[SOURCES];
    for (int i = 0; i < SOURCES; i++) {
        const tarn_source *s = tarn_source_of_tensor(&t[i], "t");
        x[i] = tarn_leaf_source(g, s);
        s->release(s);
    }
    const int64_t middle = 1;
    const tarn_node *ac = tarn_reduce(g, &tarn_op_sum, tarn_mul(g, x[0], x[2]), 1, &middle, true);
    const tarn_node *high = tarn_reduce(g, &tarn_op_max, tarn_abs(g, x[1]), 1, &middle, true);
    const tarn_node *low = tarn_reduce(g, &tarn_op_min, x[1], 1, &middle, true);
    const tarn_node *all = tarn_dot(g, x[0], x[1]);
    const tarn_node *b = tarn_div(g, tarn_sub(g, x[1], low), high);
    root[0] = tarn_add(g, tarn_mul(g, b, ac), tarn_mul(g, x[0], all));
    root[1] = tarn_reduce(g, &tarn_op_sum, b, 1, &middle, false);  // of what columns are known of
    root[2] = tarn_mul(g, tarn_total(g, &tarn_op_sum, tarn_mul(g, root[1], root[1])), high);
    for (int k = 0; k < JOBS; k++) {
        assert_non_null(root[k]);
    }
    return g;
}

static void compare(uint64_t seed, const int64_t *shape) {
    static const tarn_dtype stored[] = {TARN_BF16, TARN_F32, TARN_F16, TARN_F64, TARN_I8};
    static const int threads[] = {1, 2, 3, 8};
    tarn_context cx;
    tarn_error err = {0};
    const tarn_node *root[JOBS];
    tarn_tensor t[SOURCES], want[JOBS];
    open_context(&cx, 1, NULL);
    for (int i = 0; i < SOURCES; i++) {
        t[i] = filled(&cx, stored[(seed + (uint64_t)i) % 5], 3, shape, seed * 7 + (uint64_t)i);
    }
    tarn_graph *g = expressions(&cx, t, root);
    OK(tarn_graph_eval(g, JOBS, root, NULL, want, &err));
    tarn_graph_release(g);
    for (int k = 0; k < 4; k++) {
        tarn_context other;
        tarn_tensor out[JOBS];
        tarn_job jobs[JOBS];
        open_context(&other, threads[k], NULL);
        other.hold = (seed + (uint64_t)k) % 2 ? 64 : (size_t)256 << 20;
        g = expressions(&other, t, root);
        for (int j = 0; j < JOBS; j++) {
            jobs[j] = (tarn_job){.name = "t", .graph = g, .root = root[j],
                                 .store = tarn_dtype_compute(root[j]->desc.dtype)};
        }
        OK(tarn_stream_load(&other, JOBS, jobs, out, &err));
        for (int j = 0; j < JOBS; j++) {
            if (memcmp(tarn_tensor_data(&out[j]), tarn_tensor_data(&want[j]), tarn_tensor_bytes(&want[j])) != 0) {
                fail_msg("[%d, %d, %d], job %d, %d threads: other bytes than eager", (int)shape[0], (int)shape[1],
                         (int)shape[2], j, threads[k]);
            }
            tarn_tensor_release(&out[j]);
        }
        tarn_graph_release(g);
        assert_int_equal(other.budget.used, 0);
        tarn_context_free(&other);
    }
    for (int k = 0; k < JOBS; k++) {
        tarn_tensor_release(&want[k]);
        tarn_tensor_release(&t[k]);
    }
    tarn_context_free(&cx);
}

static void equal(void **state) {
    static const int64_t shapes[][3] = {
        {1, 1001, 1100}, {1, 400001, 3}, {3, 1000, 513}, {41, 300, 91}, {1, 2000, 7}, {2, 4096, 128}, {5, 3, 11},
    };
    for (uint64_t seed = 0; seed < 7; seed++) {
        compare(seed + 1, shapes[seed]);
    }
}

// ---- it streams ----

// A source of any size that is nowhere: its elements follow from their position.
typedef struct {
    tarn_source face;
    int64_t shape[2];
} sparse;
static tarn_status sparse_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    float *x = dst;
    for (uint64_t i = 0; i < n / 4; i++) {
        x[i] = (float)(((uint32_t)(at / 4 + i) * 2654435761U) >> 8) * 0x1p-24F;
    }
    return TARN_OK;
}
static void sparse_refs(const tarn_source *s) { (void)s; }
static tarn_status drop(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    return TARN_OK;
}

// Plans x / its columns' norms, and runs it.
static void measure(int threads, int64_t rows, int64_t width, bool runs, tarn_stream_plan *plan, tarn_job_plan *one) {
    tarn_context cx;
    tarn_error err = {0};
    sparse x = {.face = {.name = "w", .where = "nowhere", .dtype = TARN_F32, .rank = 2, .numel = rows * width,
                         .bytes = (uint64_t)(rows * width) * 4, .read = sparse_read, .retain = sparse_refs,
                         .release = sparse_refs},
                .shape = {rows, width}};
    const int64_t first = 0;
    x.face.shape = x.shape;
    open_context(&cx, threads, NULL);
    cx.hold = 64;
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_node *n = tarn_leaf_source(g, &x.face);
    const tarn_node *norm = tarn_sqrt(g, tarn_reduce(g, &tarn_op_sum, tarn_mul(g, n, n), 1, &first, true));
    tarn_job job = {.name = "w", .graph = g, .root = tarn_div(g, n, norm), .store = TARN_F32};
    OK(tarn_stream_plan_of(&cx, 1, &job, plan, one, &err));
    if (runs) {
        tarn_sink sink = {drop, NULL};
        size_t before = cx.budget.used;
        cx.budget.peak = before;
        OK(tarn_stream_run(&cx, 1, &job, &sink, NULL, &err));
        assert_true(cx.budget.peak - before <= plan->peak);
    }
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void bounded(void **state) {
    static const int64_t widths[] = {64, 4096, 14336};
    for (int k = 0; k < 3; k++) {
        for (int threads = 1; threads <= 8; threads *= 8) {
            tarn_stream_plan small, large;
            tarn_job_plan one;
            int64_t rows = 2500000 / widths[k] > 1200 ? 2500000 / widths[k] : 1200;
            measure(threads, rows, widths[k], k < 2, &small, &one);
            assert_int_equal(one.passes, 2);
            assert_int_equal(one.reads, 2 * (uint64_t)(rows * widths[k]) * 4);
            assert_true(one.workspace <= (uint64_t)widths[k] * 16 + 64);  // sums, norms
            measure(threads, rows * 64, widths[k], false, &large, &one);
            assert_true(large.peak < small.peak + small.peak / 2);
            assert_true(large.peak < ((uint64_t)1 << 22) + (uint64_t)threads * ((4 << 20) + 1000 * (uint64_t)widths[k]));
        }
    }
}

// Few rows, many columns: the subtrees would take more than the operand.
static void whole(void **state) {
    tarn_stream_plan plan;
    tarn_job_plan one;
    measure(2, 40, 100000, true, &plan, &one);
    assert_true(one.workspace >= 40 * 100000 * 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal),
        cmocka_unit_test(bounded),
        cmocka_unit_test(whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
