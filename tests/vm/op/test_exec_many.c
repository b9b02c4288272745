// SPDX-License-Identifier: Apache-2.0
// Many runs of a compiled graph at once: the bits of runs after one another for any number of threads,
// what is kept computed once, memory as promised and fewer at once where there is little, the failure of
// the lowest run, stops, failing allocations.
#include <pthread.h>
#include <time.h>

#include "tests/oom.h"
#include "tests/vm/op/random_graph.h"
#include "vm/op/blas.h"
#include "vm/op/exec.h"
#include "vm/op/linalg.h"

enum { ROOTS = 4, RUNS = 9, MOST = 4000 };

// Values of `count` runs of one graph and room for their results.
typedef struct {
    tarn_tensor value[RUNS][GRAPH_INPUTS], result[RUNS][ROOTS];
    const tarn_tensor *values[RUNS];
    tarn_tensor *results[RUNS];
} batch;

static void open_batch(batch *b, const random_graph *r) {
    tarn_error err = {0};
    uint64_t seed = r->seed + 77;
    for (int i = 0; i < RUNS; i++) {
        b->values[i] = b->value[i];
        b->results[i] = b->result[i];
        for (int k = 0; k < GRAPH_INPUTS; k++) {
            tarn_tensor *t = &b->value[i][k];
            OK(tarn_tensor_cast(r->cx, &r->value[k], r->value[k].dtype, t, &err));
            t->weak = r->value[k].weak;
            for (int64_t j = 0; j < tarn_tensor_numel(t); j++) {
                tarn_tensor_set(t, j, test_uniform(&seed) * 2);
            }
        }
    }
}

static void release_results(batch *b) {
    for (int i = 0; i < RUNS; i++) {
        for (int k = 0; k < ROOTS; k++) {
            tarn_tensor_release(&b->result[i][k]);
        }
    }
}

static void close_batch(batch *b) {
    for (int i = 0; i < RUNS; i++) {
        for (int k = 0; k < GRAPH_INPUTS; k++) {
            tarn_tensor_release(&b->value[i][k]);
        }
    }
}

static void choose_roots(random_graph *r, const tarn_node **root) {
    for (int k = 0; k < ROOTS; k++) {
        root[k] = k < 2 ? r->node[r->n - 1 - k] : r->node[rg_below(r, (uint64_t)r->n)];
    }
}

// ---- bits ----

static void one_graph(tarn_context *cx, uint64_t seed, int64_t rows, int64_t columns, bool warm) {
    tarn_error err = {0};
    random_graph r;
    batch b;
    rg_open(&r, cx, seed, rows, columns, false);
    rg_grow(&r, 20 + (int)(seed % 4) * 15);
    const tarn_node *root[ROOTS];
    choose_roots(&r, root);
    open_batch(&b, &r);
    tarn_exec *e, *serial;
    OK(tarn_exec_make(r.g, ROOTS, root, GRAPH_INPUTS, r.input, &e, &err));
    OK(tarn_exec_make(r.g, ROOTS, root, GRAPH_INPUTS, r.input, &serial, &err));
    tarn_tensor want[ROOTS];
    if (warm) {
        OK(tarn_exec_run(e, b.values[0], NULL, want, &err));
        for (int k = 0; k < ROOTS; k++) {
            tarn_tensor_release(&want[k]);
        }
    }
    for (int round = 0; round < 2; round++) {
        OK(tarn_exec_run_many(e, RUNS, b.values, b.results, &err));
        for (int i = 0; i < RUNS; i++) {
            OK(tarn_exec_run(serial, b.values[i], NULL, want, &err));
            for (int k = 0; k < ROOTS; k++) {
                if (!rg_equal(cx, &want[k], &b.result[i][k])) {
                    fail_msg("seed %llu, run %d: root %d (%s) differs", (unsigned long long)seed, i, k,
                             root[k]->op->name);
                }
                assert_int_equal(b.result[i][k].weak, root[k]->desc.weak);
                tarn_tensor_release(&want[k]);
            }
        }
        release_results(&b);
    }
    // the executor serves single runs as before
    OK(tarn_exec_run(e, b.values[1], NULL, b.result[0], &err));
    OK(tarn_exec_run(serial, b.values[1], NULL, b.result[1], &err));
    for (int k = 0; k < ROOTS; k++) {
        assert_true(rg_equal(cx, &b.result[0][k], &b.result[1][k]));
    }
    release_results(&b);
    tarn_exec_free(e);
    tarn_exec_free(serial);
    close_batch(&b);
    rg_close(&r);
}

static void test_same_bits(void **state) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 5}, {17, 64}, {33, 700}, {0, 4}, {7, 0}, {2, 1030}};
    const int threads[] = {1, 2, 3, 8};
    for (int t = 0; t < 4; t++) {
        tarn_context cx;
        open_context(&cx, threads[t], NULL);
        for (uint64_t seed = 1; seed <= 35; seed++) {
            const int64_t *s = shapes[seed % 7];
            one_graph(&cx, seed, s[0], s[1], seed % 2);
        }
        one_graph(&cx, 1001, 300, 400, false);
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
}

// ---- what is kept ----

typedef struct {
    tarn_source s;
    int64_t shape[2];
    atomic_int reads;
} counted;

static void counted_retain(const tarn_source *s) { (void)s; }
static tarn_status counted_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    atomic_fetch_add(&((counted *)(uintptr_t)s)->reads, 1);
    for (uint64_t i = 0; i < n / 4; i++) {
        ((float *)dst)[i] = (float)((at / 4 + i) % 64) * 0.01f;
    }
    return TARN_OK;
}

// y = (x w)², where w comes from a file by way of exp.
typedef struct {
    tarn_context cx;
    tarn_graph *g;
    counted c;
    const tarn_node *in, *root;
    tarn_exec *e;
    int64_t n;
    tarn_tensor x, wrong, other;
    const tarn_tensor *values[MOST];
    tarn_tensor result[MOST], *results[MOST];
} square;

static void open_square(square *q, int threads, int64_t n) {
    tarn_error err = {0};
    memset(q, 0, sizeof *q);
    open_context(&q->cx, threads, NULL);
    q->n = n;
    q->c.shape[0] = q->c.shape[1] = n;
    q->c.s = (tarn_source){.name = "counted", .dtype = TARN_F32, .rank = 2, .shape = q->c.shape, .numel = n * n,
                           .bytes = (uint64_t)n * (uint64_t)n * 4, .where = "here", .read = counted_read,
                           .retain = counted_retain, .release = counted_retain};
    q->g = tarn_graph_new(&q->cx);
    const int64_t wrong[2] = {2, n}, other[2] = {3, n};
    q->x = filled(&q->cx, TARN_F32, 2, q->c.shape, 3);
    q->wrong = filled(&q->cx, TARN_F32, 2, wrong, 4);
    q->other = filled(&q->cx, TARN_F32, 2, other, 4);
    tarn_desc d;
    tarn_desc_of(&q->x, &d);
    q->in = tarn_leaf_input(q->g, &d);
    const tarn_node *w = tarn_exp(q->g, tarn_leaf_source(q->g, &q->c.s));
    const tarn_node *y = tarn_matmul(q->g, q->in, w);
    q->root = tarn_total(q->g, &tarn_op_sum, tarn_mul(q->g, y, y));
    OK(tarn_exec_make(q->g, 1, &q->root, 1, &q->in, &q->e, &err));
    for (int i = 0; i < MOST; i++) {
        q->values[i] = &q->x;
        q->results[i] = &q->result[i];
    }
}

static void release_squares(square *q) {
    for (int i = 0; i < MOST; i++) {
        tarn_tensor_release(&q->result[i]);
    }
}

static void close_square(square *q) {
    tarn_exec_free(q->e);
    tarn_graph_release(q->g);
    tarn_tensor_release(&q->x);
    tarn_tensor_release(&q->wrong);
    tarn_tensor_release(&q->other);
    assert_int_equal(q->cx.budget.used, 0);
    tarn_context_free(&q->cx);
}

static void test_kept(void **state) {
    tarn_error err = {0};
    square *q = malloc(sizeof *q);
    open_square(q, 3, 20);
    OK(tarn_exec_run_many(q->e, 50, q->values, q->results, &err));
    int reads = atomic_load(&q->c.reads);
    assert_true(reads > 0);
    for (int i = 1; i < 50; i++) {
        assert_true(rg_equal(&q->cx, &q->result[0], &q->result[i]));
    }
    release_squares(q);
    OK(tarn_exec_run_many(q->e, 0, q->values, q->results, &err));
    OK(tarn_exec_run_many(q->e, 50, q->values, q->results, &err));
    assert_int_equal(atomic_load(&q->c.reads), reads);
    release_squares(q);
    close_square(q);
    free(q);
}

// What was kept before the first run failed does not stay behind when it is tried again.
static void test_kept_fails(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    const int64_t shape[2] = {40, 40};
    tarn_tensor x = filled(&cx, TARN_F32, 2, shape, 3), w = filled(&cx, TARN_F32, 2, shape, 4), out[2];
    tarn_graph *g = tarn_graph_new(&cx);
    tarn_desc d;
    tarn_desc_of(&x, &d);
    const tarn_node *in = tarn_leaf_input(g, &d), *leaf = tarn_leaf_tensor(g, &w);
    const tarn_node *good = tarn_qr(g, leaf).r, *bad = tarn_cholesky(g, leaf);  // not symmetric: refused
    const tarn_node *root = tarn_add(g, tarn_total(g, &tarn_op_sum, tarn_matmul(g, in, good)),
                                     tarn_total(g, &tarn_op_sum, bad));
    tarn_exec *e;
    OK(tarn_exec_make(g, 1, &root, 1, &in, &e, &err));
    const tarn_tensor *values[2] = {&x, &x};
    tarn_tensor *results[2] = {&out[0], &out[1]};
    size_t held = 0;
    for (int round = 0; round < 4; round++) {
        assert_int_equal(tarn_exec_run_many(e, 2, values, results, &err), TARN_ERROR);
        assert_non_null(strstr(err.message, "positive definite"));
        assert_true(round == 0 || cx.budget.used == held);
        held = cx.budget.used;
    }
    tarn_exec_free(e);
    tarn_graph_release(g);
    tarn_tensor_release(&x);
    tarn_tensor_release(&w);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// An executor that was given its inputs before serves runs side by side: nobody writes to what they share.
static void test_given_before(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 4, NULL);
    const int64_t n = 5000;
    tarn_graph *g = tarn_graph_new(&cx);
    tarn_tensor x = filled(&cx, TARN_F32, 1, &n, 3), want, out[RUNS];
    tarn_desc d;
    tarn_desc_of(&x, &d);
    const tarn_node *in = tarn_leaf_input(g, &d), *root = tarn_exp(g, in);
    tarn_exec *e;
    OK(tarn_exec_make(g, 1, &root, 1, &in, &e, &err));
    OK(tarn_exec_run(e, &x, NULL, &want, &err));
    for (int round = 0; round < 20; round++) {
        const bool give = true;
        tarn_tensor own, given;
        const tarn_tensor *values[RUNS];
        tarn_tensor *results[RUNS];
        OK(tarn_tensor_cast(&cx, &x, TARN_F32, &own, &err));
        OK(tarn_exec_run(e, &own, &give, &given, &err));
        assert_ptr_equal(tarn_tensor_data(&given), tarn_tensor_data(&own));
        for (int i = 0; i < RUNS; i++) {
            values[i] = &x;
            results[i] = &out[i];
        }
        OK(tarn_exec_run_many(e, RUNS, values, results, &err));
        for (int i = 0; i < RUNS; i++) {
            assert_true(rg_equal(&cx, &want, &out[i]));
            tarn_tensor_release(&out[i]);
        }
        assert_true(rg_equal(&cx, &want, &given));
        tarn_tensor_release(&given);
        tarn_tensor_release(&own);
    }
    tarn_tensor_release(&want);
    tarn_tensor_release(&x);
    tarn_exec_free(e);
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// ---- memory ----

static void test_memory(void **state) {
    tarn_error err = {0};
    square *q = malloc(sizeof *q);
    open_square(q, 2, 200);
    tarn_budget *b = &q->cx.budget;
    size_t limit = b->limit, before = b->used;
    uint64_t first = tarn_exec_many_takes(q->e, 60, 1);
    b->peak = b->used;
    OK(tarn_exec_run_many(q->e, 1, q->values, q->results, &err));
    assert_true(b->peak - before <= first);
    release_squares(q);
    size_t held = b->used;
    uint64_t one = tarn_exec_many_takes(q->e, 60, 1), two = tarn_exec_many_takes(q->e, 60, 2);
    assert_true(two >= one + 160000);  // a second arena
    size_t alone = 0;
    b->limit = held + two - 1;  // room for one at once
    for (int k = 0; k < 5; k++) {
        b->peak = b->used;
        OK(tarn_exec_run_many(q->e, 60, q->values, q->results, &err));
        alone = b->peak - held > alone ? b->peak - held : alone;
        release_squares(q);
    }
    assert_true(alone <= one);
    b->limit = limit;
    bool both = false;  // the other worker may come late, but not every time
    for (int k = 0; k < 200 && !both; k++) {
        b->peak = b->used;
        OK(tarn_exec_run_many(q->e, 60, q->values, q->results, &err));
        assert_true(b->peak - held <= two);
        both = b->peak - held >= alone + 160000;
        release_squares(q);
    }
    assert_true(both);
    b->limit = b->used;
    assert_int_equal(tarn_exec_run_many(q->e, 60, q->values, q->results, &err), TARN_NOMEM);
    b->limit = limit;
    assert_int_equal(b->used, held);
    close_square(q);
    free(q);
}

// ---- failures and stops ----

static void test_lowest_failure(void **state) {
    for (int threads = 1; threads <= 4; threads++) {
        square *q = malloc(sizeof *q);
        open_square(q, threads, 90);
        tarn_error err = {0};
        OK(tarn_exec_run(q->e, &q->x, NULL, q->result, &err));
        release_squares(q);
        size_t before = q->cx.budget.used;
        for (int round = 0; round < 150; round++) {
            int at = 4 + round % 9;
            q->values[at] = &q->wrong;
            for (int i = at + 1; i < 20; i++) {
                q->values[i] = &q->other;
            }
            assert_int_equal(tarn_exec_run_many(q->e, 20, q->values, q->results, &err), TARN_ERROR);
            assert_non_null(strstr(err.message, "input 1 of a recorded function is f32[2, 90]"));
            assert_int_equal(q->cx.budget.used, before);  // no result is left
            for (int i = 0; i < 20; i++) {
                assert_null(q->result[i].storage);
                q->values[i] = &q->x;
            }
        }
        close_square(q);
        free(q);
    }
}

static void *stop_soon(void *arg) {
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    tarn_cancel_set(arg, TARN_STOP_INT);
    return NULL;
}

static void test_stop(void **state) {
    tarn_error err = {0};
    square *q = malloc(sizeof *q);
    open_square(q, 2, 200);  // some seconds of work
    OK(tarn_exec_run_many(q->e, 2, q->values, q->results, &err));
    release_squares(q);
    size_t before = q->cx.budget.used;
    tarn_cancel_set(&q->cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_exec_run_many(q->e, 9, q->values, q->results, &err), TARN_CANCELLED);
    tarn_cancel_clear(&q->cx.cancel);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, &q->cx.cancel), 0);
    assert_int_equal(tarn_exec_run_many(q->e, MOST, q->values, q->results, &err), TARN_CANCELLED);
    pthread_join(thread, NULL);
    assert_int_equal(q->cx.budget.used, before);
    tarn_cancel_clear(&q->cx.cancel);
    OK(tarn_exec_run_many(q->e, 9, q->values, q->results, &err));  // and on it goes
    release_squares(q);
    close_square(q);
    free(q);
}

// ---- failing allocations, those of the calling worker ----

typedef struct {
    random_graph r;
    batch b;
} trial;

static bool attempt(void *arg) {
    trial *t = arg;
    random_graph *r = &t->r;
    tarn_error err = {0};
    size_t before = r->cx->budget.used;
    const tarn_node *root[ROOTS] = {r->node[r->n - 1], r->node[r->n - 4], r->node[r->n - 9], r->node[r->n / 2]};
    tarn_exec *e;
    tarn_status s = tarn_exec_make(r->g, ROOTS, root, GRAPH_INPUTS, r->input, &e, &err);
    for (int run = 0; run < 2 && s == TARN_OK; run++) {
        s = tarn_exec_run_many(e, 3, t->b.values, t->b.results, &err);
        release_results(&t->b);
    }
    tarn_exec_free(e);
    return (s == TARN_OK || (s == TARN_NOMEM && err.message[0])) && r->cx->budget.used == before;
}

static void test_no_memory(void **state) {
    oom_or_skip();
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    const char *blas;
    OK(tarn_blas_describe(&blas, &err));  // opened once and for all, outside the sweep
    for (uint64_t seed = 1; seed <= 4; seed++) {
        trial t;
        rg_open(&t.r, &cx, seed, 9, 40, false);
        rg_grow(&t.r, 40);
        memset(&t.b, 0, sizeof t.b);
        open_batch(&t.b, &t.r);
        assert_true(attempt(&t));
        assert_true(oom_sweep(attempt, &t, 0) > 10);
        close_batch(&t.b);
        rg_close(&t.r);
    }
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),      cmocka_unit_test(test_kept), cmocka_unit_test(test_kept_fails),
        cmocka_unit_test(test_given_before),   cmocka_unit_test(test_memory),
        cmocka_unit_test(test_lowest_failure), cmocka_unit_test(test_stop), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
