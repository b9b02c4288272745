// SPDX-License-Identifier: Apache-2.0
// Several outputs of one computation: jobs that are joined give the bytes that they give one by one, for any number
// of threads, any hold budget, with their expressions there or made while the run goes on, and what they share is
// computed once: an operation that counts how often it runs, and sources that count what is read. Where there is
// no room for all at once they are computed by themselves, and the plan says so. Errors name the output.
#include "tests/oom.h"
#include "tests/support.h"
#include "vm/stream/stream.h"

// ---- an operation that counts: of [m, n] the sums up to each element, then their squares, [2 m, n] ----

static atomic_int applied;

static tarn_status infer_running(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, tarn_error *err) {
    (void)nin, (void)a, (void)err;
    *out = in[0];
    out->shape[0] *= 2;
    return TARN_OK;
}
static tarn_status apply_running(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                 const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin, (void)a;
    TARN_TRY(tarn_tensor_new(cx, TARN_F32, d->rank, d->shape, out, err));
    int64_t n = tarn_tensor_numel(&in[0]);
    const float *x = tarn_tensor_data(&in[0]);
    float *y = tarn_tensor_data(out);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        y[i] = (float)sum;
        y[n + i] = y[i] * y[i];
    }
    atomic_fetch_add(&applied, 1);
    return TARN_OK;
}
static size_t no_workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out, int threads) {
    (void)nin, (void)in, (void)a, (void)out, (void)threads;
    return 0;
}
static const tarn_op running = {.name = "running", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1, .max_in = 1,
                                .infer = infer_running, .apply = apply_running, .workspace = no_workspace,
                                .serial = true};

// ---- tensors, and nine outputs of each ----

enum { TENSORS = 3, OUTPUTS = TARN_JOINED + 1, JOBS = (TENSORS - 1) * OUTPUTS + 1, COUNTED = 4 };

typedef struct {
    tarn_source source;
    tarn_tensor tensor;
    unsigned char id;  // 0: it has none
    int64_t fails;     // the byte that cannot be read; -1: none
    atomic_long read;
} counted;

typedef struct {
    tarn_context cx;
    counted x[TENSORS], y[TENSORS];
    bool joined, made, whole;  // whole: with a norm of the whole model, and hidden jobs
    int nan;                   // the output of the second tensor that holds NaN; -1: none
    tarn_job jobs[JOBS];
    char *out[JOBS];
    size_t bytes[JOBS];
} world;

static tarn_status counted_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    counted *c = (counted *)(uintptr_t)s;
    atomic_fetch_add(&c->read, (long)n);
    if (c->fails >= 0 && at <= (uint64_t)c->fails && (uint64_t)c->fails < at + n) {
        TARN_RAISE(err, "FileChanged", "%s: byte %lld cannot be read", s->name, (long long)c->fails);
    }
    memcpy(dst, (const char *)tarn_tensor_data(&c->tensor) + at, n);
    return TARN_OK;
}
static bool counted_identity(const tarn_source *s, unsigned char out[32]) {
    memset(out, ((const counted *)s)->id, 32);
    return out[0] != 0;
}
static void nothing(const tarn_source *s) { (void)s; }

static void open_source(world *w, counted *c, const char *name, const int64_t *shape, unsigned char id) {
    c->tensor = filled(&w->cx, TARN_F32, 2, shape, id);
    c->id = id;
    c->fails = -1;
    c->source = (tarn_source){.name = name, .where = "test", .dtype = TARN_F32, .rank = 2, .shape = c->tensor.shape,
                              .numel = shape[0] * shape[1], .bytes = (uint64_t)(shape[0] * shape[1]) * 4,
                              .read = counted_read, .identity = counted_identity, .retain = nothing, .release = nothing};
}

static void open_world(world *w, int threads, int64_t rows, int64_t columns) {
    memset(w, 0, sizeof *w);
    open_context(&w->cx, threads, NULL);
    w->nan = -1;
    for (int k = 0; k < TENSORS; k++) {
        const int64_t shape[2] = {rows + k, columns};
        open_source(w, &w->x[k], "x", shape, (unsigned char)(2 * k + 1));
        open_source(w, &w->y[k], "y", shape, (unsigned char)(2 * k + 2));
    }
}
static void close_world(world *w) {
    for (int k = 0; k < TENSORS; k++) {
        tarn_tensor_release(&w->x[k].tensor);
        tarn_tensor_release(&w->y[k].tensor);
    }
    for (int k = 0; k < JOBS; k++) {
        free(w->out[k]);
    }
    assert_int_equal(atomic_load(&w->cx.budget.used), 0);
    tarn_context_free(&w->cx);
}

// The norm of d, of the tensor or of the model.
static const tarn_node *norm(const world *w, tarn_graph *g, const tarn_node *d, int64_t k) {
    const tarn_node *square = tarn_mul(g, d, d);
    int64_t start = 0;
    for (int64_t i = 0; i < k; i++) {
        start += w->x[i].source.numel;
    }
    return tarn_sqrt(g, w->whole ? tarn_reduce_global(g, &tarn_op_sum, 1, &square, 1, start, NULL)
                                 : tarn_total(g, &tarn_op_sum, square));
}

// Output `which` of tensor k: by tiles in the first and in a later pass, in memory, one element a row, single
// numbers, copies; four of them hang on the operation that counts.
static const tarn_node *expression(const world *w, tarn_graph *g, int64_t k, int64_t which) {
    const int64_t m = w->x[k].source.shape[0], first = 0, last = 1;
    const tarn_node *x = tarn_leaf_source(g, &w->x[k].source), *d = tarn_sub(g, x, tarn_leaf_source(g, &w->y[k].source));
    const tarn_node *all = tarn_unary(g, &running, d), *sums = tarn_slice(g, all, 0, 0, m),
                    *squares = tarn_slice(g, all, 0, m, m), *e = NULL;
    switch (which) {
    case 0:
        e = tarn_mul(g, sums, tarn_num(g, 0.5));
        break;
    case 1:
        e = tarn_sub(g, d, sums);
        break;
    case 2:
        e = tarn_div(g, d, norm(w, g, d, k));
        break;
    case 3:
        e = tarn_reduce(g, &tarn_op_sum, tarn_mul(g, d, d), 1, &last, true);
        break;
    case 4:
        e = x;
        break;
    case 5:
        e = squares;
        break;
    case 6:
        e = tarn_cast(g, tarn_total(g, &tarn_op_max, d), TARN_F32);
        break;
    case 7:
        e = tarn_reduce(g, &tarn_op_sum, d, 1, &first, false);
        break;
    default:
        e = tarn_add(g, squares, d);
    }
    return k == 1 && which == w->nan ? tarn_sqrt(g, tarn_sub(g, e, tarn_num(g, 1e9))) : e;
}

static tarn_status make(void *arg, int64_t job, int n, tarn_graph **g, const tarn_node **root, tarn_error *err) {
    const world *w = arg;
    tarn_graph *made = tarn_graph_new(&((world *)arg)->cx);
    for (int q = 0; q < n && made; q++) {
        root[q] = expression(w, made, (job + q) / OUTPUTS, job == JOBS - 1 ? 2 : (job + q) % OUTPUTS);
    }
    if (!made || made->err.status != TARN_OK) {
        tarn_graph_release(made);
        return tarn_raise_nomem(err, "an expression", 0);
    }
    *g = made;
    return TARN_OK;
}

static tarn_status put(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    world *w = arg;
    (void)err;
    assert_true(at + n <= w->bytes[job]);
    memcpy(w->out[job] + at, p, n);
    return TARN_OK;
}

static const tarn_dtype stored[OUTPUTS] = {TARN_F32, TARN_BF16, TARN_F32, TARN_F32, TARN_BF16,
                                           TARN_F32, TARN_F64,  TARN_F32, TARN_BF16};
static const char *const names[OUTPUTS] = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight"};

// The jobs with their expressions; those that are joined have one graph.
static int64_t open_jobs(world *w, tarn_error *err) {
    int64_t n = w->whole ? JOBS : JOBS - 1;
    for (int64_t k = 0; k < n; k++) {
        tarn_job *j = &w->jobs[k];
        *j = (tarn_job){.name = names[k % OUTPUTS], .store = stored[k % OUTPUTS], .hidden = k == JOBS - 1,
                        .joined = w->joined && k % OUTPUTS > 0};
        if (j->joined) {
            j->graph = tarn_graph_retain(j[-1].graph);
            j->root = expression(w, j->graph, k / OUTPUTS, k % OUTPUTS);
        } else {
            assert_int_equal(make(w, k, 1, &j->graph, &j->root, err), TARN_OK);
        }
        assert_non_null(j->root);
        w->bytes[k] = tarn_dtype_bytes(j->store, tarn_desc_numel(&j->root->desc));
        w->out[k] = w->out[k] ? w->out[k] : malloc(w->bytes[k] + 1);
        memset(w->out[k], 0xEE, w->bytes[k]);
    }
    return n;
}
static void drop_jobs(world *w, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
        tarn_graph_release(w->jobs[k].graph);
        w->jobs[k].graph = NULL;
        w->jobs[k].root = NULL;
    }
}

static long bytes_read(world *w) {
    long bytes = 0;
    for (int k = 0; k < TENSORS; k++) {
        bytes += atomic_exchange(&w->x[k].read, 0) + atomic_exchange(&w->y[k].read, 0);
    }
    return bytes;
}

typedef struct {
    int applied;
    long read;
    tarn_stream_plan total;
    tarn_job_plan plan[JOBS];
} told;

// Plans and runs; holds the run to what the plan says.
static tarn_status run(world *w, told *t, tarn_error *err) {
    tarn_maker maker = {make, w};
    tarn_sink sink = {put, w};
    tarn_stream_options o = {.maker = w->made ? &maker : NULL};
    int64_t n = open_jobs(w, err);
    assert_int_equal(tarn_stream_plan_of(&w->cx, n, w->jobs, &t->total, t->plan, err), TARN_OK);
    if (w->made) {
        drop_jobs(w, n);
    }
    bytes_read(w);
    atomic_store(&applied, 0);
    size_t before = atomic_load(&w->cx.budget.used);
    atomic_store(&w->cx.budget.peak, before);
    tarn_status s = tarn_stream_run(&w->cx, n, w->jobs, &sink, &o, err);
    size_t took = atomic_load(&w->cx.budget.peak) - before;
    t->applied = atomic_load(&applied);
    t->read = bytes_read(w);
    drop_jobs(w, n);
    if (s == TARN_OK && !w->made && took > t->total.peak) {
        fail_msg("%zu bytes taken, %zu promised", took, (size_t)t->total.peak);
    }
    return s;
}

static void same(const world *w, const world *want) {
    for (int k = 0; k < JOBS - 1; k++) {
        if (memcmp(w->out[k], want->out[k], w->bytes[k]) != 0) {
            fail_msg("output %s of tensor %d differs", names[k % OUTPUTS], k / OUTPUTS);
        }
    }
}

static const struct {
    int64_t rows, columns;
} sizes[] = {{12, 7}, {700, 300}, {1060, 1000}};

static void test_same_bytes(void **state) {
    static const int threads[] = {1, 2, 3, 8};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes; c++) {
        for (int whole = c == 2; whole < 2; whole++) {  // the large ones once
            tarn_error err = {0};
            told alone, t;
            world want, w;
            open_world(&want, 1, sizes[c].rows, sizes[c].columns);
            want.whole = whole;
            OK(run(&want, &alone, &err));
            assert_int_equal(alone.applied, 2 * COUNTED);
            for (int k = c == 2; k < 4; k += c == 2 ? 2 : 1) {
                open_world(&w, threads[k], sizes[c].rows, sizes[c].columns);
                w.joined = true;
                w.whole = whole;
                w.made = k % 2;
                w.cx.hold = k < 2 ? 64 : (size_t)64 << 20;
                OK(run(&w, &t, &err));
                same(&w, &want);
                // Three of the four are among the first eight outputs.
                assert_int_equal(t.applied, 2 * 2);
                assert_true(t.read < alone.read);
                close_world(&w);
            }
            close_world(&want);
        }
    }
}

// Bytes read are those of the plan, and the first output of those that go together reads for all.
static void test_plan(void **state) {
    tarn_error err = {0};
    told t;
    for (int joined = 0; joined < 2; joined++) {
        world w;
        open_world(&w, 1, 900, 800);
        w.joined = joined;
        w.cx.hold = 64;
        OK(run(&w, &t, &err));
        assert_int_equal(t.read, t.total.reads);
        uint64_t reads = 0, writes = 0;
        for (int k = 0; k < JOBS - 1; k++) {
            int with = joined && k % OUTPUTS < TARN_JOINED ? k % OUTPUTS : 0;
            assert_int_equal(t.plan[k].with, with);
            assert_true(with == 0 || t.plan[k].reads == 0);
            assert_int_equal(t.plan[k].writes, w.bytes[k]);
            assert_int_equal(t.plan[k].passes, t.plan[k - with].passes);
            reads += t.plan[k].reads;
            writes += t.plan[k].writes;
        }
        assert_int_equal(reads, t.total.reads);
        assert_int_equal(writes, t.total.writes);
        close_world(&w);
    }
}

// With ever more memory: no room for one, for one at a time, for all together. Whatever one by one can do,
// joined can.
static void test_budget(void **state) {
    for (int threads = 1; threads <= 2; threads++) {
        int seen[3] = {0};
        tarn_error err = {0};
        told t;
        world want;
        open_world(&want, 1, 700, 300);
        OK(run(&want, &t, &err));
        world w[2];
        for (int joined = 0; joined < 2; joined++) {
            open_world(&w[joined], threads, 700, 300);
            w[joined].joined = joined;
            w[joined].cx.rehash = true;  // each run is the first
        }
        for (size_t limit = (size_t)1 << 20; limit < (size_t)64 << 20; limit += limit / 4) {
            tarn_status s[2];
            for (int joined = 0; joined < 2; joined++) {
                tarn_budget *b = &w[joined].cx.budget;
                w[joined].made = limit % 2;
                size_t all = b->limit;
                b->limit = atomic_load(&b->used) + limit;
                s[joined] = run(&w[joined], &t, &err);
                assert_true(s[joined] == TARN_OK || s[joined] == TARN_NOMEM);
                b->limit = all;
                if (s[joined] == TARN_OK) {
                    same(&w[joined], &want);
                    int planned = (t.plan[1].with ? 2 : COUNTED) + (t.plan[OUTPUTS + 1].with ? 2 : COUNTED);
                    assert_true(t.applied == planned || w[joined].made);
                    seen[1] += joined && t.applied == 2 * COUNTED;
                    seen[2] += joined && t.applied == 2 * 2;
                }
                seen[0] += s[joined] == TARN_NOMEM;
            }
            // Small ones on several threads may meet where there is room for one.
            assert_true(s[0] != TARN_OK || s[1] == TARN_OK || threads > 1);
        }
        assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
        close_world(&w[0]);
        close_world(&w[1]);
        close_world(&want);
    }
}

// Reductions that an earlier run found out are put in the place of those of all outputs.
static void test_remembered(void **state) {
    for (int made = 0; made < 2; made++) {
        for (int whole = 0; whole < 2; whole++) {
            tarn_error err = {0};
            told first, again;
            world w, want;
            open_world(&want, 1, 200, 90);
            want.whole = whole;
            OK(run(&want, &first, &err));
            open_world(&w, 2, 200, 90);
            w.joined = true;
            w.made = made;
            w.whole = whole;
            w.cx.hold = 64;
            OK(run(&w, &first, &err));
            same(&w, &want);
            OK(run(&w, &again, &err));
            same(&w, &want);
            // A tensor alone is read twice in any case: its operation in memory waits for a pass.
            assert_true(whole ? again.read < first.read : again.read == first.read);
            assert_int_equal(again.applied, first.applied);
            close_world(&w);
            close_world(&want);
        }
    }
}

static void test_errors(void **state) {
    for (int threads = 1; threads <= 3; threads++) {
        for (int which = 0; which < OUTPUTS; which++) {
            if (which == 4 || which == 6) {
                continue;  // a copy; the maximum is a number of another kind
            }
            tarn_error err = {0};
            told t;
            world w;
            open_world(&w, threads, 300, 200);
            w.joined = true;
            w.nan = which;
            assert_int_equal(run(&w, &t, &err), TARN_ERROR);
            assert_string_equal(err.code, "NonFinite");
            assert_true(strncmp(err.message, names[which], strlen(names[which])) == 0);
            w.nan = -1;
            w.x[0].fails = 4 * 555;
            assert_int_equal(run(&w, &t, &err), TARN_ERROR);
            assert_string_equal(err.message, "zero: x: byte 2220 cannot be read");
            w.x[0].fails = -1;
            OK(run(&w, &t, &err));
            tarn_cancel_set(&w.cx.cancel, TARN_STOP_INT);
            assert_int_equal(run(&w, &t, &err), TARN_CANCELLED);
            close_world(&w);
        }
    }
}

typedef struct {
    world w, want;
    int64_t n;
    size_t held;
} sweep;

static bool attempt(void *arg) {
    sweep *s = arg;
    world *w = &s->w;
    tarn_error err = {0};
    tarn_maker maker = {make, w};
    tarn_sink sink = {put, w};
    tarn_stream_options o = {.maker = w->made ? &maker : NULL};
    tarn_status st = tarn_stream_run(&w->cx, s->n, w->jobs, &sink, &o, &err);
    if (st == TARN_OK) {
        same(w, &s->want);
    }
    return (st == TARN_OK || (st == TARN_NOMEM && err.message[0])) && atomic_load(&w->cx.budget.used) == s->held;
}

static void test_no_memory(void **state) {
    oom_or_skip();
    for (int made = 0; made < 2; made++) {
        tarn_error err = {0};
        told t;
        sweep s;
        open_world(&s.want, 1, 12, 7);
        s.want.whole = true;
        OK(run(&s.want, &t, &err));
        open_world(&s.w, 1, 12, 7);
        s.w.joined = true;
        s.w.made = made;
        s.w.whole = true;
        s.w.cx.rehash = true;  // else later attempts find reductions known
        s.n = open_jobs(&s.w, &err);
        if (made) {
            drop_jobs(&s.w, s.n);
        }
        s.held = atomic_load(&s.w.cx.budget.used);
        assert_true(attempt(&s));
        assert_true(oom_sweep(attempt, &s, 0) > 10);
        drop_jobs(&s.w, s.n);
        close_world(&s.w);
        close_world(&s.want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_plan),   cmocka_unit_test(test_budget),
        cmocka_unit_test(test_remembered), cmocka_unit_test(test_errors), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
