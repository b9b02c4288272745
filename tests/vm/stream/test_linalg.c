// SPDX-License-Identifier: Apache-2.0
// Linear algebra inside a streamed job, as a spectral method writes it: singular vectors of
// offsets, put together, made orthonormal, multiplied. The bits of the evaluation in memory, and
// not a byte more than the plan promised. Jobs beside each other, and their progress.
#include <pthread.h>
#include <time.h>

#include "tests/support.h"
#include "vm/op/linalg.h"
#include "vm/stream/stream.h"

enum { MODELS = 3 };

// base + u_perp diag(s) vt_perp over the leading rank-k parts of the offsets.
static const tarn_node *merged(tarn_graph *g, const tarn_node *base, const tarn_node *const *x,
                               tarn_svd_route route, tarn_polar_route polar) {
    const tarn_node *u[MODELS], *s[MODELS], *vt[MODELS];
    tarn_svd_options o = {.rank = base->desc.shape[1] / MODELS,
                          .route = route,
                          .oversample = 8,
                          .power = 1,
                          .seed = 11};
    for (int i = 0; i < MODELS; i++) {
        tarn_svd_nodes d = tarn_svd(g, tarn_sub(g, x[i], base), &o);
        u[i] = d.u;
        s[i] = d.s;
        vt[i] = d.vt;
    }
    const int64_t axis[2] = {0, 1};
    const tarn_node *us =
        tarn_node_make(g, &tarn_op_concat, MODELS, u, &(tarn_attr){1, 0, axis + 1, 0, 0});
    const tarn_node *ss =
        tarn_node_make(g, &tarn_op_concat, MODELS, s, &(tarn_attr){1, 0, axis, 0, 0});
    const tarn_node *vs =
        tarn_node_make(g, &tarn_op_concat, MODELS, vt, &(tarn_attr){1, 0, axis, 0, 0});
    const tarn_node *left = tarn_mul(g, tarn_polar(g, us, polar), ss);
    return tarn_add(g, base, tarn_matmul(g, left, tarn_polar(g, vs, polar)));
}

static void streamed(void **state) {
    static const int threads[] = {1, 2, 8};
    const int64_t shape[2] = {400, 150};
    for (int route = 0; route < 3; route++) {
        tarn_tensor first = {0};
        tarn_context home;
        open_context(&home, 1, NULL);
        for (int k = 0; k < 3; k++) {
            tarn_context cx;
            tarn_error err = {0};
            open_context(&cx, threads[k], NULL);
            tarn_graph *g = tarn_graph_new(&cx);
            const tarn_node *leaf[MODELS + 1];
            for (int i = 0; i <= MODELS; i++) {
                tarn_tensor t =
                    filled(&cx, i % 2 ? TARN_BF16 : TARN_F32, 2, shape, (uint64_t)i + 1);
                const tarn_source *s = tarn_source_of_tensor(&t, "w");
                leaf[i] = tarn_leaf_source(g, s);
                s->release(s);
                tarn_tensor_release(&t);
            }
            const tarn_node *root = merged(g, leaf[0], leaf + 1, (tarn_svd_route)route,
                                           route ? TARN_POLAR_ITERATE : TARN_POLAR_SVD);
            if (!root) {
                fail_msg("%s", g->err.message);
            }
            tarn_job job = {.name = "w", .graph = g, .root = root, .store = TARN_F32};
            tarn_stream_plan plan;
            OK(tarn_stream_plan_of(&cx, 1, &job, &plan, NULL, &err));
            size_t before = cx.budget.used;
            atomic_store(&cx.budget.peak, before);
            tarn_tensor out, eager;
            OK(tarn_stream_load(&cx, 1, &job, &out, &err));
            size_t took = cx.budget.peak - before - tarn_tensor_bytes(&out);
            if (took > plan.peak) {
                fail_msg("%zu bytes taken, %zu promised", took, (size_t)plan.peak);
            }
            OK(tarn_graph_eval(g, 1, &root, NULL, &eager, &err));
            assert_memory_equal(tarn_tensor_data(&out), tarn_tensor_data(&eager),
                                tarn_tensor_bytes(&out));
            if (k == 0) {
                OK(tarn_tensor_cast(&home, &out, TARN_F32, &first, &err));
            }
            assert_memory_equal(tarn_tensor_data(&out), tarn_tensor_data(&first),
                                tarn_tensor_bytes(&out));
            tarn_tensor_release(&out);
            tarn_tensor_release(&eager);
            tarn_graph_release(g);
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
        tarn_tensor_release(&first);
        tarn_context_free(&home);
    }
}

// ---- memory, and jobs beside each other ----

enum { JOBS = 4, SINGULAR = MODELS + 2 };  // operations of a job that take long

typedef struct {
    tarn_context cx;
    tarn_graph *g[JOBS];
    tarn_job jobs[JOBS];
} family;

static void open_family(family *f, int threads, int n, int64_t rows, int64_t columns) {
    const int64_t shape[2] = {rows, columns};
    static const char *names[JOBS] = {"first", "second", "third", "fourth"};
    memset(f, 0, sizeof *f);
    open_context(&f->cx, threads, NULL);
    for (int q = 0; q < n; q++) {
        const tarn_node *leaf[MODELS + 1];
        f->g[q] = tarn_graph_new(&f->cx);
        for (int i = 0; i <= MODELS; i++) {
            tarn_tensor t = filled(&f->cx, TARN_BF16, 2, shape, (uint64_t)(10 * q + i) + 1);
            const tarn_source *s = tarn_source_of_tensor(&t, "w");
            leaf[i] = tarn_leaf_source(f->g[q], s);
            s->release(s);
            tarn_tensor_release(&t);
        }
        const tarn_node *root =
            merged(f->g[q], leaf[0], leaf + 1, TARN_SVD_EXACT, TARN_POLAR_SVD);
        assert_non_null(root);
        f->jobs[q] = (tarn_job){
            .name = names[q], .graph = f->g[q], .root = root, .store = TARN_BF16};
    }
}
static void close_family(family *f) {
    for (int q = 0; q < JOBS; q++) {
        tarn_graph_release(f->g[q]);
    }
    assert_int_equal(f->cx.budget.used, 0);
    tarn_context_free(&f->cx);
}

// Waits until two jobs put at once, or for so long that they cannot be beside each other.
typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t met;
    int64_t first;  // the job that put first, -1: none
    bool wait, both;
} meeting;

static tarn_status meet(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                        tarn_error *err) {
    (void)at, (void)p, (void)n, (void)err;
    meeting *m = arg;
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 60;
    pthread_mutex_lock(&m->lock);
    m->both = m->both || (m->first >= 0 && m->first != job);
    m->first = m->first < 0 ? job : m->first;
    pthread_cond_broadcast(&m->met);
    while (m->wait && !m->both && pthread_cond_timedwait(&m->met, &m->lock, &end) == 0) {
    }
    pthread_mutex_unlock(&m->lock);
    return TARN_OK;
}

// Runs n jobs; returns what they took at most.
static uint64_t taken(family *f, int n, bool wait, bool *both) {
    tarn_error err = {0};
    meeting m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1, wait, false};
    tarn_sink sink = {meet, &m};
    size_t before = f->cx.budget.used;
    atomic_store(&f->cx.budget.peak, before);
    OK(tarn_stream_run(&f->cx, n, f->jobs, &sink, NULL, &err));
    assert_int_equal(f->cx.budget.used, before);
    *both = m.both;
    return f->cx.budget.peak - before;
}

// What is promised is what is needed: values go after their last use, in the plan and in the run.
static void tight(void **state) {
    for (int threads = 1; threads <= 2; threads++) {
        family f;
        tarn_error err = {0};
        tarn_stream_plan plan;
        bool both;
        open_family(&f, threads, 1, 512, 400);
        OK(tarn_stream_plan_of(&f.cx, 1, f.jobs, &plan, NULL, &err));
        uint64_t used = taken(&f, 1, false, &both);
        if (used > plan.peak || plan.peak > used + used / 4) {
            fail_msg("%llu bytes taken, %llu promised", (unsigned long long)used,
                     (unsigned long long)plan.peak);
        }
        close_family(&f);
    }
}

// Two at a time on two processors, where memory allows; else one after another; else not at all.
static void side_by_side(void **state) {
    family f;
    tarn_error err = {0};
    tarn_stream_plan one, all;
    bool both;
    open_family(&f, 2, JOBS, 400, 360);
    OK(tarn_stream_plan_of(&f.cx, 1, f.jobs, &one, NULL, &err));
    OK(tarn_stream_plan_of(&f.cx, JOBS, f.jobs, &all, NULL, &err));
    uint64_t used = taken(&f, JOBS, true, &both);
    assert_true(both);
    assert_true(used <= all.peak);

    size_t before = f.cx.budget.used;
    assert_true(all.peak > one.peak + one.peak / 4);
    f.cx.budget.limit = before + one.peak;
    OK(tarn_stream_plan_of(&f.cx, JOBS, f.jobs, &all, NULL, &err));
    used = taken(&f, JOBS, false, &both);
    if (used > all.peak || all.peak > one.peak) {
        fail_msg("%llu bytes taken, %llu promised for all, %llu for one", (unsigned long long)used,
                 (unsigned long long)all.peak, (unsigned long long)one.peak);
    }

    f.cx.budget.limit = before + one.peak / 8;
    assert_int_equal(tarn_stream_fits(&f.cx, &f.jobs[2], &err), TARN_NOMEM);
    assert_string_equal(err.code, "OutOfMemory");
    assert_true(strncmp(err.message, "third needs ", 12) == 0);
    meeting m = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1, false, false};
    tarn_sink sink = {meet, &m};
    atomic_store(&f.cx.budget.peak, before);
    assert_int_equal(tarn_stream_run(&f.cx, JOBS, f.jobs, &sink, NULL, &err), TARN_NOMEM);
    assert_true(strncmp(err.message, "first needs ", 12) == 0);
    assert_int_equal(m.first, -1);  // before anything is read or put
    assert_int_equal(f.cx.budget.peak, before);
    close_family(&f);
}

// Factorisations are where the time goes, so progress moves with them and ends at its total.
typedef struct {
    uint64_t last;
    int moves;
} watcher;

static void watch(tarn_progress *p) {
    watcher *w = p->arg;
    uint64_t done = atomic_load(&p->done);
    if (p->total > 0) {
        assert_true(done >= w->last && done <= p->total);
        w->moves += done > w->last;
        w->last = done;
    }
}

static void progress(void **state) {
    family f;
    watcher w = {0};
    tarn_error err = {0};
    tarn_stream_plan plan;
    bool both;
    open_family(&f, 1, JOBS, 256, 192);
    OK(tarn_stream_plan_of(&f.cx, JOBS, f.jobs, &plan, NULL, &err));
    f.cx.progress.arg = &w;
    f.cx.progress.show = watch;
    taken(&f, JOBS, false, &both);
    assert_int_equal(w.moves, JOBS * SINGULAR);
    assert_true(w.last + JOBS * SINGULAR > plan.reads + plan.writes);
    assert_int_equal(f.cx.progress.total, 0);
    // As a part of a longer piece of work it goes on with that.
    tarn_progress_begin(&f.cx, "merging", 3 * (plan.reads + plan.writes));
    w = (watcher){0};
    taken(&f, JOBS, false, &both);
    taken(&f, JOBS, false, &both);
    assert_int_equal(w.moves, 2 * JOBS * SINGULAR);
    assert_string_equal(f.cx.progress.what, "merging");
    f.cx.progress.show = NULL;
    close_family(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(streamed), cmocka_unit_test(tight),
                                       cmocka_unit_test(side_by_side), cmocka_unit_test(progress)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
