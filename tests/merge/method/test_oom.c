// SPDX-License-Identifier: Apache-2.0
// The expressions of every row of the table of methods, while each of the allocations that they take fails,
// alone, then with all later ones: an error or the whole plan, and every byte of the budget comes back.
#include "tests/oom.h"
#include "tests/merge/method/invariances.h"

enum { MODELS = 3, SIDE = 3 };

// The method over models of one square tensor, which does for its statistics too.
static tarn_model *node_of(tarn_context *cx, const tarn_method *m, tarn_model *base, tarn_model *const *in) {
    tarn_error err = {0};
    tarn_given_statistic given[8];
    int k = models_of(m), count = 0;
    for (const tarn_statistic *s = m->statistics; s && s->name; s++) {
        given[count++] = (tarn_given_statistic){s->name, s->of_base ? 1 : k, in};
    }
    options o = options_of(m, false);
    tarn_model *node;
    bool based = m->needs & (TARN_NEEDS_BASE | TARN_TAKES_BASE);
    OK(tarn_method_apply_with(cx, m, based ? base : NULL, k, in, count, given, o.n, o.v, NULL, &node, &err));
    return node;
}

// False: no allocation failed.
static bool attempt(tarn_context *cx, const tarn_method *m, tarn_model *node, long n, bool onwards) {
    tarn_error err = {0};
    tarn_plan *p = NULL;
    size_t used = atomic_load(&cx->budget.used);
    oom_arm(n, onwards);
    tarn_status s = tarn_plan_make(cx, node, NULL, &(tarn_plan_options){0}, &p, &err);
    bool failed = oom_disarm() > 0;
    if (s == TARN_OK) {
        tarn_plan_free(p);
    }
    if (s == TARN_OK ? false : !failed || !*err.message) {
        fail_msg("%s, allocation %ld%s: %s", m->name, n, onwards ? " and all later" : "", err.message);
    }
    if (atomic_load(&cx->budget.used) != used) {
        fail_msg("%s, allocation %ld%s: bytes are left", m->name, n, onwards ? " and all later" : "");
    }
    return failed;
}

static void expressions(void **state) {
    tarn_context *cx = *state;
    static const slot square = {"model.layers.0.a.weight", 2, {SIDE, SIDE}};
    const cut f = {TARN_F32, 1, &square};
    double x[MODELS + 1][SIDE * SIDE];
    tarn_model *in[MODELS + 1];
    uint64_t seed = 4;
    for (int k = 0; k <= MODELS; k++) {
        for (int i = 0; i < SIDE * SIDE; i++) {
            x[k][i] = (i % (SIDE + 1) == 0) + 0.1 * test_uniform(&seed);
        }
        in[k] = model_cut(cx, &f, x[k]);
    }
    for (int i = 0; tarn_methods[i]; i++) {
        if (tarn_methods[i]->needs & TARN_BESIDE) {
            continue;  // its operands are what other methods make
        }
        tarn_model *node = node_of(cx, tarn_methods[i], in[MODELS], in);
        for (int onwards = 0; onwards < 2; onwards++) {
            long n = 1;
            while (attempt(cx, tarn_methods[i], node, n, onwards)) {
                n++;
            }
            assert_true(n > 1);
        }
        tarn_model_release(node);
    }
    for (int k = 0; k <= MODELS; k++) {
        tarn_model_release(in[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(expressions)};
    return cmocka_run_group_tests(tests, start_plain, stop_plain);
}
