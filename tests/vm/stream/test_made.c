// SPDX-License-Identifier: Apache-2.0
// Jobs whose expressions are made while the run goes on: the same bytes as with all of them there, in memory
// that does not grow with their number, and a maker that fails is the error of the run. Two whole-model
// reductions, one upon the other, tie the jobs together; some are hidden, some two of one tensor.
#include "tests/support.h"
#include "vm/stream/stream.h"

enum { N = 3000, MOST = 900 };

typedef struct {
    tarn_source source;  // first: what is read is the data beside it
    tarn_context cx;
    tarn_tensor data;
    int jobs;
    int fails;     // the call that fails; 0: none
    int stops;     // the call during which a stop comes; 0: none
    int calls;
    size_t most;   // bytes of the budget in use when an expression is asked for, at most
    float *out;    // [jobs][N]
} world;

static tarn_status copy(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    (void)err;
    memcpy(dst, (const char *)tarn_tensor_data(&((const world *)s)->data) + at, n);
    return TARN_OK;
}
static void nothing(const tarn_source *s) { (void)s; }

static void open_world(world *w, int threads, int jobs) {
    static const int64_t shape[1] = {N};
    memset(w, 0, sizeof *w);
    open_context(&w->cx, threads, NULL);
    w->jobs = jobs;
    w->data = filled(&w->cx, TARN_F32, 1, shape, 5);
    w->source = (tarn_source){.name = "x", .where = "test", .dtype = TARN_F32, .rank = 1, .shape = shape,
                              .numel = N, .bytes = N * 4, .read = copy, .retain = nothing, .release = nothing};
    w->out = calloc((size_t)jobs * N, sizeof *w->out);
}
static void close_world(world *w) {
    free(w->out);
    tarn_tensor_release(&w->data);
    assert_int_equal(atomic_load(&w->cx.budget.used), 0);
    tarn_context_free(&w->cx);
}

// Of job k: x + k, cut at the magnitude of the largest tenth of all, over the norm of what is left.
static const tarn_node *expression(tarn_graph *g, const tarn_source *s, int64_t k) {
    const double density = 0.1;
    int64_t i[4] = {0, 1, 0, 32}, start = k / 2 * N;  // two jobs a tensor
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *x = tarn_add(g, tarn_leaf_source(g, s), tarn_num(g, (double)(k / 2)));
    const tarn_node *abs = tarn_abs(g, x);
    const tarn_node *cut = tarn_minimum(g, x, tarn_item(g, tarn_reduce_global(g, &tarn_op_kth, 1, &abs, 1, start, &a), 0));
    const tarn_node *square = tarn_mul(g, cut, cut);
    return tarn_div(g, cut, tarn_sqrt(g, tarn_reduce_global(g, &tarn_op_sum, 1, &square, 2, start, NULL)));
}

static tarn_status make(void *arg, int64_t job, int n, tarn_graph **g, const tarn_node **root, tarn_error *err) {
    world *w = arg;
    size_t used = atomic_load(&w->cx.budget.used);
    w->most = used > w->most ? used : w->most;
    assert_int_equal(n, 1);
    if (++w->calls == w->fails) {
        TARN_RAISE(err, "Test", "no expression");
    }
    if (w->calls == w->stops) {
        tarn_cancel_set(&w->cx.cancel, TARN_STOP_INT);
    }
    *g = tarn_graph_new(&w->cx);
    *root = expression(*g, &w->source, job);
    assert_non_null(*root);
    return TARN_OK;
}

static tarn_status put(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    (void)err;
    memcpy((char *)((world *)arg)->out + (size_t)job * N * 4 + at, p, n);
    return TARN_OK;
}

static tarn_status run(world *w, bool made, tarn_error *err) {
    tarn_maker maker = {make, w};
    tarn_sink sink = {put, w};
    tarn_stream_options o = {.maker = made ? &maker : NULL};
    static tarn_job jobs[MOST];
    for (int k = 0; k < w->jobs; k++) {
        jobs[k] = (tarn_job){.name = "x", .store = TARN_F32, .hidden = k % 5 == 4};
        if (!made) {
            make(w, k, 1, &jobs[k].graph, &jobs[k].root, err);
        }
    }
    w->calls = 0;
    w->most = 0;
    tarn_status s = tarn_stream_run(&w->cx, w->jobs, jobs, &sink, &o, err);
    for (int k = 0; k < w->jobs; k++) {
        tarn_graph_release(jobs[k].graph);
    }
    return s;
}

static void test_same_bytes(void **state) {
    tarn_error err = {0};
    world all;
    open_world(&all, 1, 23);
    OK(run(&all, false, &err));
    assert_true(all.out[N - 1] != 0);
    for (int threads = 1; threads <= 3; threads += 2) {
        world w;
        open_world(&w, threads, 23);
        OK(run(&w, true, &err));
        assert_memory_equal(w.out, all.out, 23 * N * sizeof *w.out);
        close_world(&w);
    }
    close_world(&all);
}

static void test_memory(void **state) {
    tarn_error err = {0};
    size_t most[2];
    for (int k = 0; k < 2; k++) {
        world w;
        open_world(&w, 1, k ? MOST : MOST / 10);
        OK(run(&w, true, &err));
        most[k] = w.most;
        close_world(&w);
    }
    // An expression takes some 10 KB; what is left of a job is its part of the second reduction.
    assert_true(most[1] - most[0] < (size_t)MOST * 256);
}

static void test_failure(void **state) {
    tarn_error err = {0};
    world w;
    open_world(&w, 1, 10);
    OK(run(&w, true, &err));
    int calls = w.calls;
    for (int n = 1; n <= calls; n++) {
        w.fails = n;
        assert_int_equal(run(&w, true, &err), TARN_ERROR);
        assert_non_null(strstr(err.message, "no expression"));
    }
    close_world(&w);
}

// A stop is heard before the next expression is made, wherever the run is: some take long to make, or are many.
static void test_stop(void **state) {
    tarn_error err = {0};
    world w;
    open_world(&w, 1, 10);
    OK(run(&w, true, &err));
    int calls = w.calls;
    for (int n = 1; n < calls; n++) {
        w.stops = n;
        assert_int_equal(run(&w, true, &err), TARN_CANCELLED);
        assert_true(w.calls <= n + 1);
        tarn_cancel_clear(&w.cx.cancel);
    }
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_failure), cmocka_unit_test(test_stop)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
