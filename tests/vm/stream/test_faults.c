// SPDX-License-Identifier: Apache-2.0
// What can go wrong while a stream runs: reads that fail half way, a stop, a sink that refuses, results
// that are not finite. The failure of the lowest block is reported, the same one for any number of
// threads; nothing leaks. And what the plan promises: passes, bytes, the peak of memory.
#include <math.h>

#include "tests/support.h"
#include "vm/stream/stream.h"

enum { N = 4 * TARN_BLOCK + 1234 };

// A source that counts what is read and fails at a byte, or raises the stop flag there.
typedef struct {
    tarn_source face;
    int64_t shape[1];
    atomic_uint_fast64_t read;
    uint64_t fail_at[2];  // UINT64_MAX: never
    tarn_cancel *stop;
    uint64_t stop_at;
    int64_t poison;  // element that is NaN, -1: none
} fake;

static tarn_status fake_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    fake *f = (fake *)(uintptr_t)s;
    atomic_fetch_add(&f->read, n);
    for (int k = 0; k < 2; k++) {
        if (at <= f->fail_at[k] && f->fail_at[k] < at + n) {
            TARN_RAISE(err, "FileChanged", "%s: byte %llu cannot be read", s->name,
                       (unsigned long long)f->fail_at[k]);
        }
    }
    if (f->stop && at <= f->stop_at && f->stop_at < at + n) {
        tarn_cancel_set(f->stop, TARN_STOP_INT);
    }
    float *x = dst;
    for (uint64_t i = 0; i < n / 4; i++) {
        x[i] = (float)((at / 4 + i) % 1000) * 0.25f - 100.0f;
    }
    uint64_t p = (uint64_t)f->poison * 4;
    if (f->poison >= 0 && at <= p && p < at + n) {
        x[(p - at) / 4] = NAN;
    }
    return TARN_OK;
}
static void fake_refs(const tarn_source *s) { (void)s; }

static fake make_fake(const char *name, int64_t n) {
    fake f = {.face = {.name = name, .where = "test", .dtype = TARN_F32, .rank = 1, .numel = n,
                       .bytes = (uint64_t)n * 4, .read = fake_read, .retain = fake_refs,
                       .release = fake_refs},
              .shape = {n},
              .fail_at = {UINT64_MAX, UINT64_MAX},
              .poison = -1};
    return f;
}

typedef struct {
    tarn_context cx;
    tarn_graph *g;
    fake a, b, more[14];
    const tarn_node *x, *y;
} bench;

static void open_bench(bench *t, int threads, int64_t n) {
    memset(t, 0, sizeof *t);
    open_context(&t->cx, threads, NULL);
    t->g = tarn_graph_new(&t->cx);
    t->a = make_fake("a", n);
    t->b = make_fake("b", n);
    t->a.face.shape = t->a.shape;
    t->b.face.shape = t->b.shape;
    t->x = tarn_leaf_source(t->g, &t->a.face);
    t->y = tarn_leaf_source(t->g, &t->b.face);
}
static void close_bench(bench *t) {
    tarn_graph_release(t->g);
    assert_int_equal(t->cx.budget.used, 0);
    tarn_context_free(&t->cx);
}

typedef struct {
    atomic_uint_fast64_t bytes;
    uint64_t fail_at;
} sink_state;
static tarn_status put(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    (void)job, (void)p;
    sink_state *s = arg;
    atomic_fetch_add(&s->bytes, n);
    if (at <= s->fail_at && s->fail_at < at + n) {
        TARN_RAISE(err, "NoSpace", "the disk is full at %llu", (unsigned long long)s->fail_at);
    }
    return TARN_OK;
}

static const tarn_node *interpolated(bench *t) {
    return tarn_add(t->g, t->x, tarn_mul(t->g, tarn_num(t->g, 0.4), tarn_sub(t->g, t->y, t->x)));
}
// Two passes: the difference over its norm.
static const tarn_node *normalised(bench *t) {
    const tarn_node *d = tarn_sub(t->g, t->x, tarn_mul(t->g, t->y, tarn_num(t->g, 0.5)));
    return tarn_div(t->g, d, tarn_sqrt(t->g, tarn_dot(t->g, d, d)));
}

static const int threads[] = {1, 2, 3, 8};

static tarn_status run(bench *t, const tarn_node *root, sink_state *s, tarn_error *err) {
    tarn_job job = {.name = "w", .graph = t->g, .root = root, .store = TARN_F32};
    tarn_sink sink = {put, s};
    return tarn_stream_run(&t->cx, 1, &job, &sink, NULL, err);
}

static void failing_reads(void **state) {
    for (int k = 0; k < 4; k++) {
        for (int two = 0; two < 2; two++) {
            bench t;
            tarn_error err = {0};
            sink_state s = {.fail_at = UINT64_MAX};
            open_bench(&t, threads[k], N);
            t.a.fail_at[0] = (uint64_t)4 * (4 * TARN_BLOCK + 7);  // two faults of one source, one of the other
            t.a.fail_at[1] = (uint64_t)4 * (2 * TARN_BLOCK + 9);
            t.b.fail_at[0] = (uint64_t)4 * (3 * TARN_BLOCK);
            const tarn_node *root = two ? normalised(&t) : interpolated(&t);
            assert_int_equal(run(&t, root, &s, &err), TARN_ERROR);
            char want[80];
            snprintf(want, sizeof want, "w: a: byte %llu cannot be read", (unsigned long long)t.a.fail_at[1]);
            assert_string_equal(err.message, want);
            assert_string_equal(err.code, "FileChanged");
            assert_int_equal(err.status, TARN_ERROR);
            close_bench(&t);
        }
    }
}

static void refusing_sink(void **state) {
    for (int k = 0; k < 4; k++) {
        bench t;
        tarn_error err = {0};
        sink_state s = {.fail_at = 4 * (TARN_BLOCK + 3)};
        open_bench(&t, threads[k], N);
        t.a.fail_at[0] = (uint64_t)4 * (3 * TARN_BLOCK);  // a later block: not the one that is reported
        assert_int_equal(run(&t, interpolated(&t), &s, &err), TARN_ERROR);
        assert_string_equal(err.code, "NoSpace");
        close_bench(&t);
    }
}

static void stopped(void **state) {
    for (int k = 0; k < 4; k++) {
        for (int two = 0; two < 2; two++) {
            bench t;
            tarn_error err = {0};
            sink_state s = {.fail_at = UINT64_MAX};
            open_bench(&t, threads[k], N);
            t.a.stop = &t.cx.cancel;
            t.a.stop_at = 0;
            assert_int_equal(run(&t, two ? normalised(&t) : interpolated(&t), &s, &err), TARN_CANCELLED);
            assert_string_equal(err.code, "Interrupted");
            // A few chunks per thread at most were read after it.
            assert_true(t.a.read < (uint64_t)N * 4 / 2 + (uint64_t)threads[k] * (4 << 20));
            close_bench(&t);
        }
    }
}

static void not_finite(void **state) {
    for (int k = 0; k < 4; k++) {
        bench t;
        tarn_error err = {0};
        sink_state s = {.fail_at = UINT64_MAX};
        open_bench(&t, threads[k], N);
        t.b.poison = 3 * TARN_BLOCK + 5;
        assert_int_equal(run(&t, interpolated(&t), &s, &err), TARN_ERROR);
        assert_string_equal(err.code, "NonFinite");
        assert_true(strstr(err.message, "w: the result holds NaN or infinity as f32") == err.message);
        tarn_job job = {.name = "w", .graph = t.g, .root = interpolated(&t), .store = TARN_F32};
        tarn_sink sink = {put, &s};
        tarn_stream_options o = {.allow_nonfinite = true};
        OK(tarn_stream_run(&t.cx, 1, &job, &sink, &o, &err));
        close_bench(&t);
        // A number that only the stored dtype cannot hold.
        open_bench(&t, threads[k], 5000);
        const tarn_node *big = tarn_mul(t.g, t.x, tarn_num(t.g, 1e4));
        job = (tarn_job){.name = "w", .graph = t.g, .root = big, .store = TARN_F16};
        assert_int_equal(tarn_stream_run(&t.cx, 1, &job, &sink, NULL, &err), TARN_ERROR);
        assert_non_null(strstr(err.message, "as f16"));
        close_bench(&t);
    }
}

// The largest part of d; over all jobs when `gid` is not 0.
static const tarn_node *trimmed(tarn_graph *g, const tarn_node *d, double density, int64_t gid) {
    const tarn_node *size = tarn_abs(g, d);
    const int64_t i[4] = {0, 0, 0, 32};
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *sel = gid ? tarn_reduce_global(g, &tarn_op_kth, 1, &size, gid, 0, &a)
                               : tarn_node_make(g, &tarn_op_kth, 1, &size, &a);
    const tarn_node *in[3] = {size, tarn_item(g, sel, 0), tarn_item(g, sel, 1)};
    return tarn_where(g, tarn_node_make(g, &tarn_op_top, 3, in, NULL), d, tarn_num(g, 0));
}
static const tarn_node *ties(bench *t) {
    const tarn_node *a = trimmed(t->g, tarn_sub(t->g, t->x, t->y), 0.2, 0);
    const tarn_node *b = trimmed(t->g, tarn_add(t->g, t->x, t->y), 0.3, 0);
    return tarn_add(t->g, t->y, tarn_add(t->g, a, b));
}
static const tarn_node *global_ties(bench *t) {
    const tarn_node *a = trimmed(t->g, tarn_sub(t->g, t->x, t->y), 0.2, 1);
    const tarn_node *b = trimmed(t->g, tarn_add(t->g, t->x, t->y), 0.3, 2);
    return tarn_add(t->g, t->y, tarn_add(t->g, a, b));
}
static const tarn_node *product(bench *t) {
    const int64_t rows = t->a.face.numel / 500, square[2] = {rows, 500}, swap[2] = {1, 0};
    const tarn_node *m = tarn_reshape(t->g, t->x, 2, square), *n = tarn_reshape(t->g, t->y, 2, square);
    return tarn_matmul(t->g, tarn_matmul(t->g, m, tarn_permute(t->g, n, swap)), m);
}
static const tarn_node *sorted(bench *t) {
    const int64_t up = 0;
    tarn_attr a = {.ni = 1, .i = &up};
    const tarn_node *s = tarn_node_make(t->g, &tarn_op_sort, 1, &t->x, &a);
    return tarn_add(t->g, s, tarn_relu(t->g, t->y));
}

// By rows of a thousand or so: their ranks, and each beside its norm.
static const tarn_node *ranked(bench *t) {
    const int64_t n = t->a.face.numel, length = n % 1024 == 0 ? 1024 : n / 985, last = 1, up = 0;
    const int64_t shape[2] = {n / length, length};
    tarn_attr a = {.ni = 1, .i = &up};
    const tarn_node *x = tarn_reshape(t->g, t->x, 2, shape), *y = tarn_reshape(t->g, t->y, 2, shape);
    const tarn_node *rank = tarn_node_make(t->g, &tarn_op_rank, 1, &x, &a);
    const tarn_node *norm = tarn_sqrt(t->g, tarn_reduce(t->g, &tarn_op_sum, tarn_mul(t->g, y, y), 1, &last, true));
    const tarn_node *r = tarn_add(t->g, rank, tarn_div(t->g, y, tarn_maximum(t->g, norm, tarn_num(t->g, 1))));
    return tarn_div(t->g, r, tarn_total(t->g, &tarn_op_max, r));
}

enum { JOBS = 6, LONG = TARN_BLOCK + 1234 };  // small jobs run side by side

// Many operands: their chunks are what a worker needs most of.
static const tarn_node *many(bench *t) {
    const tarn_node *sum = t->x;
    for (int i = 0; i < 14; i++) {
        t->more[i] = make_fake("m", t->a.face.numel);
        t->more[i].face.shape = t->more[i].shape;
        sum = tarn_add(t->g, sum, tarn_leaf_source(t->g, &t->more[i].face));
    }
    return tarn_div(t->g, sum, tarn_total(t->g, &tarn_op_max, tarn_abs(t->g, sum)));
}

// Memory never passes what the plan says, over everything that was not there before the run.
static void peak(void **state) {
    static const struct {
        const char *name;
        const tarn_node *(*f)(bench *t);
        int64_t n;
    } cases[] = {{"interpolation", interpolated, LONG}, {"two passes", normalised, LONG},
                 {"two passes, small", normalised, 1 << 18}, {"ties", ties, LONG},
                 {"ties, small", ties, 1 << 19},
                 {"global ties", global_ties, LONG}, {"global ties, small", global_ties, 1 << 19}, {"product", product, 500 * 200},
                 {"sort", sorted, 1 << 17},
                 {"sort, long", sorted, LONG},
                 {"ranks", ranked, 985 * 1067}, {"ranks, small", ranked, 1 << 18},
                 {"many", many, LONG}, {"many, small", many, 1 << 16}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        for (int k = 0; k < 4; k += 3) {
            for (int tiny = 0; tiny < 2; tiny++) {
                bench t;
                tarn_error err = {0};
                sink_state s = {.fail_at = UINT64_MAX};
                open_bench(&t, threads[k], cases[c].n);
                t.cx.hold = tiny ? 64 : (size_t)64 << 20;
                tarn_job job[JOBS];
                for (int i = 0; i < JOBS; i++) {
                    job[i] = (tarn_job){.name = cases[c].name, .graph = t.g, .root = cases[c].f(&t), .store = TARN_F32};
                    assert_non_null(job[i].root);
                }
                tarn_stream_plan plan;
                tarn_job_plan one[JOBS];
                tarn_sink sink = {put, &s};
                int64_t jobs = cases[c].n < LONG ? JOBS : 1;
                OK(tarn_stream_plan_of(&t.cx, jobs, job, &plan, one, &err));
                size_t before = t.cx.budget.used;
                t.cx.budget.peak = before;
                OK(tarn_stream_run(&t.cx, jobs, job, &sink, NULL, &err));
                uint64_t used = t.cx.budget.peak - before;
                if (used > plan.peak) {
                    fail_msg("%s, %d threads, hold %zu: %llu bytes, the plan says %llu", cases[c].name,
                             threads[k], t.cx.hold, (unsigned long long)used, (unsigned long long)plan.peak);
                }
                assert_int_equal(s.bytes, plan.writes);
                if (one[0].held && plan.barriers == 0) {
                    // A row that two blocks share is read by both.
                    uint64_t shared = cases[c].f == ranked ? 2 * 1067 * 4 : 0;
                    assert_true(t.a.read >= t.a.face.bytes * (uint64_t)jobs);
                    assert_true(t.a.read <= t.a.face.bytes * (uint64_t)jobs + shared);
                } else {
                    uint64_t read = t.a.read + t.b.read;
                    for (int i = 0; i < 14; i++) {
                        read += t.more[i].read;
                    }
                    // Selections may sweep again; these jobs are one graph, whose part of a whole-model
                    // reduction is taken once.
                    assert_true(read >= plan.reads || (jobs > 1 && plan.barriers > 0));
                }
                // And it is not a careless promise.
                assert_true(plan.peak < 4 * used + ((uint64_t)8 << 20) * (uint64_t)threads[k]);
                close_bench(&t);
            }
        }
    }
}

// Out of budget is an error that says so, wherever it happens, and leaves nothing behind.
static void out_of_budget(void **state) {
    int refused = 0;
    for (size_t limit = (size_t)1 << 16; limit < (size_t)64 << 20; limit += limit / 2) {
        bench t;
        tarn_error err = {0};
        sink_state s = {.fail_at = UINT64_MAX};
        open_bench(&t, 2, 1 << 19);
        const tarn_node *root = ties(&t);
        t.cx.budget.limit = limit;
        tarn_status st = run(&t, root, &s, &err);
        assert_true(st == TARN_OK || st == TARN_NOMEM);
        refused += st == TARN_NOMEM;
        if (st == TARN_NOMEM) {
            assert_string_equal(err.code, "OutOfMemory");
        }
        close_bench(&t);
    }
    assert_true(refused > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failing_reads), cmocka_unit_test(refusing_sink), cmocka_unit_test(stopped),
        cmocka_unit_test(not_finite),    cmocka_unit_test(peak),          cmocka_unit_test(out_of_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
