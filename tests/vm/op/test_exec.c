// SPDX-License-Identifier: Apache-2.0
// Compiled graphs against the same graphs node by node, to the bit: random graphs of all kinds of
// rows for 1, 2 and 8 threads and every instruction set, run again and again with new values, with
// inputs given away; what is kept; memory; failing allocations; stops.
#include "tests/oom.h"
#include "tests/vm/op/random_graph.h"
#include "vm/op/blas.h"
#include "vm/op/exec.h"

enum { ROOTS = 6 };

typedef struct {
    const char *isa;
    int threads;
} setting;

static void refill(random_graph *r, uint64_t seed) {
    for (int k = 0; k < GRAPH_INPUTS; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&r->value[k]); i++) {
            tarn_tensor_set(&r->value[k], i, test_uniform(&seed) * 2);
        }
    }
}

static void fresh_inputs(random_graph *r) {  // nothing else holds them: they may be given away
    tarn_error err = {0};
    for (int k = 0; k < GRAPH_INPUTS; k++) {
        tarn_tensor t;
        OK(tarn_tensor_cast(r->cx, &r->value[k], r->value[k].dtype, &t, &err));
        t.weak = r->value[k].weak;
        tarn_tensor_release(&r->value[k]);
        r->value[k] = t;
    }
}

static void compare(random_graph *r, tarn_exec *e, const tarn_node *const *root, bool donate,
                    uint64_t seed, const char *where) {
    tarn_error err = {0};
    tarn_tensor want[ROOTS], got[ROOTS];
    bool give[GRAPH_INPUTS] = {donate, donate, donate, donate, donate};
    rg_by_nodes(r, ROOTS, root, want);
    if (donate) {
        for (int k = 0; k < ROOTS; k++) {  // roots may be inputs, and what is kept of them must stay
            tarn_tensor t;
            OK(tarn_tensor_cast(r->cx, &want[k], want[k].dtype, &t, &err));
            t.weak = want[k].weak;
            tarn_tensor_release(&want[k]);
            want[k] = t;
        }
        fresh_inputs(r);
    }
    OK(tarn_exec_run(e, r->value, donate ? give : NULL, got, &err));
    for (int k = 0; k < ROOTS; k++) {
        if (!rg_equal(r->cx, &want[k], &got[k])) {
            fail_msg("seed %llu, %s: root %d (%s) differs", (unsigned long long)seed, where, k,
                     root[k]->op->name);
        }
        assert_int_equal(got[k].weak, root[k]->desc.weak);
        tarn_tensor_release(&want[k]);
        tarn_tensor_release(&got[k]);
    }
}

static void one_graph(tarn_context *cx, uint64_t seed, int64_t rows, int64_t columns, int nodes) {
    tarn_error err = {0};
    random_graph r;
    rg_open(&r, cx, seed, rows, columns, false);
    rg_grow(&r, nodes);
    const tarn_node *root[ROOTS];
    for (int k = 0; k < ROOTS; k++) {
        root[k] = k < 3 ? r.node[r.n - 1 - k] : r.node[rg_below(&r, (uint64_t)r.n)];
    }
    tarn_exec *e;
    OK(tarn_exec_make(r.g, ROOTS, root, GRAPH_INPUTS, r.input, &e, &err));
    compare(&r, e, root, false, seed, "first run");
    refill(&r, seed + 1);
    compare(&r, e, root, false, seed, "second run");
    size_t before = cx->budget.used;
    refill(&r, seed + 2);
    compare(&r, e, root, false, seed, "third run");
    assert_int_equal(cx->budget.used, before);
    compare(&r, e, root, true, seed, "inputs given away");
    refill(&r, seed + 3);
    compare(&r, e, root, false, seed, "last run");
    tarn_exec_free(e);
    // in one go, all leaves constant
    tarn_tensor want[ROOTS], got[ROOTS];
    const tarn_tensor **feeds = calloc((size_t)r.g->count, sizeof *feeds);
    for (int k = 0; k < GRAPH_INPUTS; k++) {
        feeds[r.input[k]->id] = &r.value[k];
    }
    rg_by_nodes(&r, ROOTS, root, want);
    OK(tarn_graph_eval(r.g, ROOTS, root, feeds, got, &err));
    for (int k = 0; k < ROOTS; k++) {
        assert_true(rg_equal(cx, &want[k], &got[k]));
        tarn_tensor_release(&want[k]);
        tarn_tensor_release(&got[k]);
    }
    free((void *)feeds);
    rg_close(&r);
}

static void test_same_bits(void **state) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 5}, {17, 64}, {5, 1}, {33, 700}, {0, 4}, {7, 0}, {2, 1030}};
    const int threads[] = {1, 2, 8};
    for (const char *const *isa = test_isas(); *isa; isa++) {
        for (int t = 0; t < 3; t++) {
            tarn_context cx;
            open_context(&cx, threads[t], *isa);
            for (uint64_t seed = 1; seed <= 40; seed++) {
                const int64_t *s = shapes[seed % 8];
                one_graph(&cx, seed, s[0], s[1], 12 + (int)(seed % 5) * 14);
            }
            one_graph(&cx, 1001, 300, 400, 40);
            one_graph(&cx, 1002, 70, 2100, 40);
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
    }
}

// ---- order within groups ----

// What is written in place must not be read afterwards; what is read in another order, or whole,
// must have been written before.
static void test_order(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    for (int64_t n = 30; n <= 300; n += 270) {
        random_graph r;
        rg_open(&r, &cx, 5, n, n, false);
        tarn_graph *g = r.g;
        const int64_t swap[2] = {1, 0};
        const tarn_node *x = r.input[0], *m = tarn_matmul(g, x, x), *e = tarn_exp(g, m);
        const tarn_node *y = tarn_exp(g, x);
        const tarn_node *root[ROOTS] = {
            tarn_sub(g, m, e),                                        // m after e, where e is stored …
            tarn_matmul(g, e, x),                                     // … for this
            y,                                                        // x may be given away for y …
            tarn_sub(g, x, tarn_mul(g, y, tarn_num(g, 0.5))),         // … but is read after it
            tarn_add(g, tarn_permute(g, y, swap), x),                 // all of y before any of this
            tarn_matmul(g, tarn_mul(g, tarn_permute(g, m, swap), tarn_abs(g, m)), x),  // m in two orders
        };
        tarn_exec *ex;
        OK(tarn_exec_make(g, ROOTS, root, GRAPH_INPUTS, r.input, &ex, &err));
        compare(&r, ex, root, false, 0, "order");
        compare(&r, ex, root, true, 0, "order, inputs given away");
        tarn_exec_free(ex);
        rg_close(&r);
    }
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// ---- one training step of two layers, by hand ----

typedef struct {
    tarn_graph *g;
    const tarn_node *input[8], *root[5];
    tarn_tensor value[8];
    int n;
} step_graph;

// x, w, b, momentum of both; y = relu(x w' + b); every momentum moves by a gradient of sum(y).
static void step_open(step_graph *s, tarn_context *cx, int64_t rows, int64_t in, int64_t out) {
    const int64_t shape[5][2] = {{rows, in}, {out, in}, {out}, {out, in}, {out}}, swap[2] = {1, 0}, axis = 0;
    memset(s, 0, sizeof *s);
    s->g = tarn_graph_new(cx);
    s->n = 5;
    for (int k = 0; k < 5; k++) {
        s->value[k] = filled(cx, TARN_F32, k == 2 || k == 4 ? 1 : 2, shape[k], 11 + (uint64_t)k);
        tarn_desc d;
        tarn_desc_of(&s->value[k], &d);
        s->input[k] = tarn_leaf_input(s->g, &d);
    }
    tarn_graph *g = s->g;
    const tarn_node *x = s->input[0], *w = s->input[1], *b = s->input[2], *zero = tarn_num(g, 0);
    const tarn_node *h = tarn_add(g, tarn_matmul(g, x, tarn_permute(g, w, swap)), b);
    const tarn_node *y = tarn_relu(g, h);
    const tarn_node *gy = tarn_where(g, tarn_gt(g, h, zero), tarn_mul(g, y, tarn_num(g, 0.1)), zero);
    const tarn_node *gw = tarn_matmul(g, tarn_permute(g, gy, swap), x);
    const tarn_node *gb = tarn_reduce(g, &tarn_op_sum, gy, 1, &axis, false);
    const tarn_node *mw = tarn_add(g, tarn_mul(g, s->input[3], tarn_num(g, 0.9)), gw);
    const tarn_node *mb = tarn_add(g, tarn_mul(g, s->input[4], tarn_num(g, 0.9)), gb);
    s->root[0] = tarn_sub(g, w, tarn_mul(g, mw, tarn_num(g, 0.01)));
    s->root[1] = tarn_sub(g, b, tarn_mul(g, mb, tarn_num(g, 0.01)));
    s->root[2] = mw;
    s->root[3] = mb;
    s->root[4] = tarn_total(g, &tarn_op_sum, y);
    assert_int_equal(g->err.status, TARN_OK);
}

static void step_close(step_graph *s) {
    for (int k = 0; k < s->n; k++) {
        tarn_tensor_release(&s->value[k]);
    }
    tarn_graph_release(s->g);
}

static void test_given_away(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    step_graph s;
    step_open(&s, &cx, 20, 300, 200);
    tarn_exec *e;
    OK(tarn_exec_make(s.g, 5, s.root, 5, s.input, &e, &err));
    const bool give[5] = {false, true, true, true, true};
    for (int round = 0; round < 3; round++) {
        tarn_tensor want[5], got[5], held = {0};
        const void *memory[5];
        bool reused[5];
        tarn_tensor before;
        OK(tarn_exec_run(e, s.value, NULL, want, &err));
        OK(tarn_tensor_cast(&cx, &s.value[1], TARN_F32, &before, &err));
        if (round == 1) {
            tarn_tensor_share(&s.value[1], &held);  // somebody still needs it
        }
        for (int k = 0; k < 5; k++) {
            memory[k] = tarn_tensor_data(&s.value[k]);
        }
        OK(tarn_exec_run(e, s.value, give, got, &err));
        for (int r = 0; r < 5; r++) {
            assert_true(rg_equal(&cx, &want[r], &got[r]));
            reused[r] = r < 4 && tarn_tensor_data(&got[r]) == memory[r + 1];
            tarn_tensor_release(&want[r]);
        }
        assert_int_equal(reused[0], round != 1);
        assert_true(reused[1] && reused[2] && reused[3]);
        if (held.storage) {
            assert_true(rg_equal(&cx, &held, &before));
        }
        tarn_tensor_release(&held);
        tarn_tensor_release(&before);
        for (int r = 0; r < 4; r++) {
            tarn_tensor_release(&s.value[r + 1]);
            s.value[r + 1] = got[r];
        }
        tarn_tensor_release(&got[4]);
    }
    tarn_exec_free(e);
    step_close(&s);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// ---- what is kept ----

typedef struct {
    tarn_source s;
    int64_t shape[2];
    int reads;
    tarn_cancel *stop;  // set by reading
} counted;

static void counted_retain(const tarn_source *s) { (void)s; }
static tarn_status counted_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    counted *c = (counted *)(uintptr_t)s;
    c->reads++;
    if (c->stop) {
        tarn_cancel_set(c->stop, TARN_STOP_INT);
    }
    for (uint64_t i = 0; i < n / 4; i++) {
        ((float *)dst)[i] = (float)(at / 4 + i) * 0.01f;
    }
    return TARN_OK;
}

static void test_kept(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    counted c = {.shape = {300, 200}};
    c.s = (tarn_source){.name = "counted", .dtype = TARN_F32, .rank = 2, .shape = c.shape,
                        .numel = 60000, .bytes = 240000, .where = "here",
                        .read = counted_read, .retain = counted_retain, .release = counted_retain};
    tarn_graph *g = tarn_graph_new(&cx);
    tarn_tensor t = filled(&cx, TARN_F32, 2, c.shape, 3), v = filled(&cx, TARN_F32, 2, c.shape, 4);
    tarn_desc d;
    tarn_desc_of(&v, &d);
    const tarn_node *in = tarn_leaf_input(g, &d);
    const tarn_node *slope = tarn_exp(g, tarn_neg(g, tarn_mul(g, tarn_leaf_tensor(g, &t), tarn_leaf_source(g, &c.s))));
    const tarn_node *root[2] = {tarn_mul(g, in, slope), slope};
    tarn_exec *e;
    tarn_tensor first[2], later[2];
    OK(tarn_exec_make(g, 2, root, 1, &in, &e, &err));
    c.stop = &cx.cancel;
    assert_int_equal(tarn_exec_run(e, &v, NULL, first, &err), TARN_CANCELLED);
    tarn_cancel_clear(&cx.cancel);
    c.stop = NULL;
    OK(tarn_exec_run(e, &v, NULL, first, &err));
    int reads = c.reads;
    // Behind everybody's back: what was computed from it is kept, so nothing changes.
    memset(tarn_tensor_data(&t), 0, tarn_tensor_bytes(&t));
    OK(tarn_exec_run(e, &v, NULL, later, &err));
    assert_int_equal(c.reads, reads);
    for (int k = 0; k < 2; k++) {
        assert_true(rg_equal(&cx, &first[k], &later[k]));
    }
    // A result belongs to the caller: changing it in place does not change what is kept.
    memset(tarn_tensor_data(&later[1]), 0, tarn_tensor_bytes(&later[1]));
    for (int k = 0; k < 2; k++) {
        tarn_tensor_release(&later[k]);
    }
    OK(tarn_exec_run(e, &v, NULL, later, &err));
    for (int k = 0; k < 2; k++) {
        assert_true(rg_equal(&cx, &first[k], &later[k]));
        tarn_tensor_release(&first[k]);
        tarn_tensor_release(&later[k]);
    }
    tarn_cancel_set(&cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_exec_run(e, &v, NULL, later, &err), TARN_CANCELLED);
    tarn_cancel_clear(&cx.cancel);
    const int64_t other[2] = {200, 300};
    tarn_tensor wrong = filled(&cx, TARN_F32, 2, other, 4);
    assert_int_equal(tarn_exec_run(e, &wrong, NULL, later, &err), TARN_ERROR);
    assert_non_null(strstr(err.message, "input 1 of a recorded function is f32[200, 300]; it was recorded with f32[300, 200]"));
    tarn_tensor_release(&wrong);
    tarn_exec_free(e);
    tarn_graph_release(g);
    tarn_tensor_release(&t);
    tarn_tensor_release(&v);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// A tensor in memory that changed after it was recorded is refused, as by every evaluator.
static void test_changed(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const int64_t n = 7;
    tarn_tensor t = filled(&cx, TARN_F32, 1, &n, 3), out;
    tarn_desc d;
    tarn_desc_of(&t, &d);
    const tarn_node *in = tarn_leaf_input(g, &d), *root = tarn_add(g, in, tarn_leaf_tensor(g, &t));
    tarn_exec *e;
    OK(tarn_exec_make(g, 1, &root, 1, &in, &e, &err));
    OK(tarn_exec_run(e, &t, NULL, &out, &err));
    tarn_tensor_release(&out);
    t.storage->version++;
    assert_int_equal(tarn_exec_run(e, &t, NULL, &out, &err), TARN_ERROR);
    assert_string_equal(err.code, "Changed");
    tarn_exec_free(e);
    tarn_graph_release(g);
    tarn_tensor_release(&t);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// ---- memory ----

// Shapes whose bytes wrap around are refused before anything is placed; a view of as many elements is none.
static void test_sizes(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    const int64_t one[2] = {1, 1}, wide[2] = {1, (int64_t)1 << 62}, tall[2] = {(int64_t)1 << 62, 1};
    tarn_tensor x = filled(&cx, TARN_F32, 2, one, 3), out;
    tarn_graph *g = tarn_graph_new(&cx);
    tarn_desc d;
    tarn_desc_of(&x, &d);
    const tarn_node *in = tarn_leaf_input(g, &d), *view = tarn_broadcast(g, in, 2, wide);
    const tarn_node *root = tarn_matmul(g, tarn_mul(g, view, tarn_num(g, 2)), tarn_broadcast(g, in, 2, tall));
    tarn_exec *e;
    assert_non_null(root);
    assert_int_equal(tarn_exec_make(g, 1, &root, 1, &in, &e, &err), TARN_ERROR);
    assert_string_equal(err.code, "Overflow");
    assert_null(e);
    OK(tarn_exec_make(g, 1, &view, 1, &in, &e, &err));
    OK(tarn_exec_run(e, &x, NULL, &out, &err));
    assert_int_equal(tarn_tensor_numel(&out), wide[1]);
    tarn_tensor_release(&out);
    tarn_exec_free(e);
    tarn_graph_release(g);
    tarn_tensor_release(&x);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void test_peak(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    for (uint64_t seed = 1; seed <= 41; seed++) {
        random_graph r = {0};
        step_graph s = {0};
        const tarn_node *root[ROOTS];
        tarn_exec *e;
        tarn_tensor out[ROOTS];
        size_t before;
        if (seed <= 40) {
            rg_open(&r, &cx, seed, 150, 220, false);
            rg_grow(&r, 60);
            for (int k = 0; k < ROOTS; k++) {
                root[k] = k < 3 ? r.node[r.n - 1 - k] : r.node[rg_below(&r, (uint64_t)r.n)];
            }
            before = cx.budget.used;
            OK(tarn_exec_make(r.g, ROOTS, root, GRAPH_INPUTS, r.input, &e, &err));
        } else {
            step_open(&s, &cx, 400, 500, 600);
            before = cx.budget.used;
            OK(tarn_exec_make(s.g, 5, s.root, 5, s.input, &e, &err));
        }
        int n = seed <= 40 ? ROOTS : 5;
        for (int run = 0; run < 2; run++) {
            cx.budget.peak = cx.budget.used;
            OK(tarn_exec_run(e, seed <= 40 ? r.value : s.value, NULL, out, &err));
            uint64_t held = cx.budget.peak - before, said = tarn_exec_peak(e);
            if (held > said || (seed == 41 && said > held + held * 2 / 5)) {
                fail_msg("seed %d, run %d: %llu bytes held, %llu expected", (int)seed, run,
                         (unsigned long long)held, (unsigned long long)said);
            }
            for (int k = 0; k < n; k++) {
                tarn_tensor_release(&out[k]);
            }
        }
        tarn_exec_free(e);
        if (seed <= 40) {
            rg_close(&r);
        } else {
            step_close(&s);
        }
        assert_int_equal(cx.budget.used, 0);
    }
    tarn_context_free(&cx);
}

static bool attempt(void *arg) {
    random_graph *r = arg;
    tarn_error err = {0};
    size_t before = r->cx->budget.used;
    const tarn_node *root[3] = {r->node[r->n - 1], r->node[r->n - 4], r->node[r->n - 9]};
    tarn_exec *e;
    tarn_tensor out[3];
    tarn_status s = tarn_exec_make(r->g, 3, root, GRAPH_INPUTS, r->input, &e, &err);
    for (int run = 0; run < 2 && s == TARN_OK; run++) {
        s = tarn_exec_run(e, r->value, NULL, out, &err);
        for (int k = 0; k < 3; k++) {
            tarn_tensor_release(&out[k]);
        }
    }
    tarn_exec_free(e);
    return (s == TARN_OK || (s == TARN_NOMEM && err.message[0])) && r->cx->budget.used == before;
}

static void test_no_memory(void **state) {
    oom_or_skip();
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    const char *blas;
    OK(tarn_blas_describe(&blas, &err));  // opened once and for all, outside the sweep
    long failures = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        random_graph r;
        rg_open(&r, &cx, seed, 9, 40, false);
        rg_grow(&r, 50);
        assert_true(attempt(&r));
        long n = oom_sweep(attempt, &r, 0);
        assert_true(n > 0);
        failures += n;
        rg_close(&r);
    }
    assert_true(failures > 60);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_order), cmocka_unit_test(test_given_away), cmocka_unit_test(test_kept),
        cmocka_unit_test(test_changed),   cmocka_unit_test(test_sizes),      cmocka_unit_test(test_peak),       cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
