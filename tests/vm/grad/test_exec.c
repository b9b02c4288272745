// SPDX-License-Identifier: Apache-2.0
// Gradients of random expressions, and gradients of those, compiled and node by node: the same
// bits.
#include "tests/vm/op/random_graph.h"
#include "vm/grad/grad.h"
#include "vm/op/exec.h"

enum { ROOTS = 2 + 2 * GRAPH_INPUTS };

// Some smooth scalar of the last nodes.
static const tarn_node *scalar_of(random_graph *r) {
    const tarn_node *sum = NULL;
    for (int k = 0; k < 4; k++) {
        const tarn_node *x = r->node[r->n - 1 - k];
        x = tarn_unary(r->g, &tarn_op_tanh, tarn_cast(r->g, x, TARN_F64));
        x = tarn_total(r->g, &tarn_op_sum, x);
        sum = sum ? tarn_add(r->g, sum, x) : x;
    }
    return sum;
}

static int one(tarn_context *cx, uint64_t seed, int64_t rows, int64_t columns, int nodes) {
    tarn_error err = {0};
    random_graph r;
    rg_open(&r, cx, seed, rows, columns, true);
    rg_grow(&r, nodes);
    const tarn_node *root[ROOTS], *g1[GRAPH_INPUTS], *g2[GRAPH_INPUTS];
    root[0] = scalar_of(&r);
    bool works = tarn_vjp(r.g, root[0], NULL, GRAPH_INPUTS, r.input, g1, &err) == TARN_OK;
    const tarn_node *size = NULL;
    for (int k = 0; works && k < GRAPH_INPUTS; k++) {
        const tarn_node *t = tarn_total(r.g, &tarn_op_sum, tarn_mul(r.g, g1[k], g1[k]));
        size = size ? tarn_add(r.g, size, t) : t;
    }
    works = works && tarn_vjp(r.g, size, NULL, GRAPH_INPUTS, r.input, g2, &err) == TARN_OK;
    if (works) {
        root[1] = size;
        memcpy((void *)(root + 2), (const void *)g1, sizeof g1);
        memcpy((void *)(root + 2 + GRAPH_INPUTS), (const void *)g2, sizeof g2);
        tarn_tensor want[ROOTS], got[ROOTS];
        tarn_exec *e;
        OK(tarn_exec_make(r.g, ROOTS, root, GRAPH_INPUTS, r.input, &e, &err));
        rg_by_nodes(&r, ROOTS, root, want);
        for (int run = 0; run < 2; run++) {
            OK(tarn_exec_run(e, r.value, NULL, got, &err));
            for (int k = 0; k < ROOTS; k++) {
                if (!rg_equal(cx, &want[k], &got[k])) {
                    fail_msg("seed %llu: root %d (%s) differs", (unsigned long long)seed, k, root[k]->op->name);
                }
                tarn_tensor_release(&got[k]);
            }
        }
        for (int k = 0; k < ROOTS; k++) {
            tarn_tensor_release(&want[k]);
        }
        tarn_exec_free(e);
    }
    rg_close(&r);
    return works;
}

static void test_gradients(void **state) {
    static const int64_t shapes[][2] = {{1, 1}, {3, 5}, {17, 64}, {5, 1}, {33, 90}, {2, 1030}};
    const int threads[] = {1, 2, 8};
    for (const char *const *isa = test_isas(); *isa; isa++) {
        for (int t = 0; t < 3; t++) {
            tarn_context cx;
            int done = 0;
            open_context(&cx, threads[t], *isa);
            for (uint64_t seed = 1; seed <= 24; seed++) {
                const int64_t *s = shapes[seed % 6];
                done += one(&cx, seed, s[0], s[1], 12 + (int)(seed % 3) * 9);
            }
            assert_true(done >= 20);
            assert_int_equal(cx.budget.used, 0);
            tarn_context_free(&cx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
