// SPDX-License-Identifier: Apache-2.0
// Segments that are computed again: the gradients have the bits they have without, of any order and on any
// number of threads, the graph's peak falls, and a budget that only holds the lower peak is enough.
#include <math.h>

#include "tests/vm/op/random_graph.h"
#include "vm/grad/grad.h"
#include "vm/op/exec.h"

enum { BLOCKS = 6, INPUTS = BLOCKS + 1, ROWS = 512, WIDE = 96 };

static const tarn_node *end_segment(tarn_graph *g, const tarn_node *y, int start) {
    const int64_t i = start;
    const tarn_attr a = {.ni = 1, .i = &i};
    return tarn_node_make(g, &tarn_op_checkpoint, 1, &y, &a);
}

// The first operation is element-wise on what comes in, so that it could join a group of the way forward.
static const tarn_node *block(tarn_graph *g, const tarn_node *x, const tarn_node *w) {
    const tarn_node *h = tarn_mul(g, x, tarn_unary(g, &tarn_op_sigmoid, x));
    h = tarn_unary(g, &tarn_op_tanh, tarn_matmul(g, h, w));
    return tarn_add(g, tarn_mul(g, h, tarn_unary(g, &tarn_op_sigmoid, h)), x);
}

// step: blocks a segment; 0: none are marked.
static const tarn_node *network(tarn_graph *g, const tarn_node *const *in, int step) {
    const tarn_node *x = in[0];
    for (int k = 0, start = 0; k < BLOCKS; k++) {
        start = step && k % step == 0 ? g->count : start;
        x = block(g, x, in[k + 1]);
        x = step && (k + 1) % step == 0 ? end_segment(g, x, start) : x;
    }
    return tarn_total(g, &tarn_op_sum, tarn_mul(g, x, x));
}

typedef struct {
    tarn_graph *g;
    const tarn_node *in[INPUTS];
    tarn_tensor value[INPUTS];
    const tarn_node *root[INPUTS];
    tarn_exec *exec;
} problem;

static void open_problem(problem *p, tarn_context *cx, int step, int order) {
    tarn_error err = {0};
    p->g = tarn_graph_new(cx);
    for (int k = 0; k < INPUTS; k++) {
        const int64_t shape[2] = {k ? WIDE : ROWS, WIDE};
        tarn_desc d = {.dtype = TARN_F32, .rank = 2, .shape = {shape[0], shape[1]}};
        p->in[k] = tarn_leaf_input(p->g, &d);
        OK(tarn_tensor_new(cx, TARN_F32, 2, shape, &p->value[k], &err));
        for (int64_t i = 0; i < shape[0] * shape[1]; i++) {
            tarn_tensor_set(&p->value[k], i, 0.1 * sin((double)(i * 7 + k * 31)));
        }
    }
    const tarn_node *y = network(p->g, p->in, step);
    OK(tarn_vjp(p->g, y, NULL, INPUTS, p->in, p->root, &err));
    if (order == 2) {  // the gradient of the squared length of the gradient by one weight
        y = tarn_total(p->g, &tarn_op_sum, tarn_mul(p->g, p->root[2], p->root[2]));
        OK(tarn_vjp(p->g, y, NULL, INPUTS, p->in, p->root, &err));
    }
    OK(tarn_exec_make(p->g, INPUTS, p->root, INPUTS, p->in, &p->exec, &err));
}

static void close_problem(problem *p) {
    tarn_exec_free(p->exec);
    for (int k = 0; k < INPUTS; k++) {
        tarn_tensor_release(&p->value[k]);
    }
    tarn_graph_release(p->g);
}

static void run(problem *p, tarn_tensor *out) {
    tarn_error err = {0};
    if (tarn_exec_run(p->exec, p->value, NULL, out, &err) != TARN_OK) {
        fail_msg("%s", err.message);
    }
}

static void release(tarn_tensor *t) {
    for (int k = 0; k < INPUTS; k++) {
        tarn_tensor_release(&t[k]);
    }
}

static void check_near(const tarn_tensor *want, const tarn_tensor *got) {
    double size = 0, most = 0;
    for (int64_t i = 0; i < tarn_tensor_numel(want); i++) {
        size = fmax(size, fabs(tarn_tensor_get(want, i)));
        most = fmax(most, fabs(tarn_tensor_get(got, i) - tarn_tensor_get(want, i)));
    }
    if (!(most <= 1e-5 * size)) {
        fail_msg("%g apart, of %g", most, size);
    }
}

static void test_bits(void **state) {
    const int threads[] = {1, 2, 8};
    for (int t = 0; t < 3; t++) {
        tarn_context cx;
        open_context(&cx, threads[t], NULL);
        for (int order = 1; order <= 2; order++) {
            problem plain;
            tarn_tensor want[INPUTS], got[INPUTS];
            open_problem(&plain, &cx, 0, order);
            run(&plain, want);
            for (int step = 1; step <= 3; step++) {
                problem p;
                open_problem(&p, &cx, step, order);
                for (int again = 0; again < 2; again++) {
                    run(&p, got);
                    for (int k = 0; k < INPUTS && order == 1; k++) {
                        assert_true(rg_equal(&cx, &want[k], &got[k]));
                    }
                    check_near(&want[1], &got[1]);  // second order: parts may be summed in another order
                    release(got);
                }
                close_problem(&p);
            }
            release(want);
            close_problem(&plain);
        }
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
}

static void test_memory(void **state) {
    tarn_context cx;
    open_context(&cx, 2, NULL);
    problem first, plain, p;
    tarn_tensor want[INPUTS], got[INPUTS], none[INPUTS] = {{0}};
    tarn_error err = {0};
    open_problem(&first, &cx, 0, 1);
    run(&first, want);
    close_problem(&first);
    open_problem(&plain, &cx, 0, 1);
    open_problem(&p, &cx, 1, 1);
    const uint64_t high = tarn_exec_peak(plain.exec), low = tarn_exec_peak(p.exec);
    // One block holds 4 values of ROWS x WIDE; without, 6 blocks hold theirs.
    if (low * 2 > high) {
        fail_msg("the peak is %llu, and %llu without", (unsigned long long)low, (unsigned long long)high);
    }
    size_t limit = cx.budget.limit;
    cx.budget.limit = atomic_load(&cx.budget.used) + low;
    assert_true(tarn_exec_run(plain.exec, plain.value, NULL, none, &err) != TARN_OK);
    assert_string_equal(err.code, "OutOfMemory");
    run(&p, got);
    cx.budget.limit = limit;
    for (int k = 0; k < INPUTS; k++) {
        assert_true(rg_equal(&cx, &want[k], &got[k]));
    }
    release(got);
    release(want);
    close_problem(&p);
    close_problem(&plain);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// Where a segment begins decides nothing but what is computed again; forward mode passes through.
static void test_any_cut(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    const tarn_desc d = {.dtype = TARN_F64, .rank = 1, .shape = {3}};
    for (int start = 0; start < 9; start++) {
        tarn_graph *g = tarn_graph_new(&cx);
        const tarn_node *x = tarn_leaf_input(g, &d), *y = x, *dx, *dy, *one = tarn_num(g, 1);
        for (int k = 0; k < 3; k++) {
            y = tarn_mul(g, tarn_unary(g, &tarn_op_sin, y), y);
        }
        const tarn_node *marked = end_segment(g, y, start), *root[4];
        const tarn_node *u = tarn_broadcast(g, tarn_cast(g, one, TARN_F64), 1, d.shape);
        for (int k = 0; k < 2; k++) {
            OK(tarn_vjp(g, tarn_total(g, &tarn_op_sum, k ? marked : y), NULL, 1, &x, &dx, &err));
            OK(tarn_jvp(g, k ? marked : y, 1, &x, &u, &dy, &err));
            root[2 * k] = dx;
            root[2 * k + 1] = dy;
        }
        tarn_tensor v, r[4];
        OK(tarn_tensor_new(&cx, TARN_F64, 1, d.shape, &v, &err));
        for (int i = 0; i < 3; i++) {
            tarn_tensor_set(&v, i, 0.4 + i);
        }
        const tarn_tensor **feeds = calloc((size_t)g->count, sizeof *feeds);
        feeds[x->id] = &v;
        OK(tarn_graph_eval(g, 4, root, feeds, r, &err));
        assert_true(rg_equal(&cx, &r[0], &r[2]) && rg_equal(&cx, &r[1], &r[3]));
        for (int k = 0; k < 4; k++) {
            tarn_tensor_release(&r[k]);
        }
        free((void *)feeds);
        tarn_tensor_release(&v);
        tarn_graph_release(g);
    }
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bits), cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_any_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
