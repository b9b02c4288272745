// SPDX-License-Identifier: Apache-2.0
// The part of the method row that no catalogue method uses yet: several outputs for one tensor, with
// names and shapes of their own (masks, factors). A row made for the test yields the trimmed offset and
// a vector of two numbers; tensors called "skip" have no output at all.
#include "tests/merge/method/values.h"

enum { N = 5000 };

static bool outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out) {
    static const int64_t two = 2;
    char name[64];
    (void)m, (void)i;
    if (strcmp(out->name, "skip") == 0 || k > 1) {
        return false;
    }
    if (k == 1) {
        int n = snprintf(name, sizeof name, "%s.ends", out->name);
        out->name = tarn_arena_string(a, name, (size_t)n);
        out->len = (size_t)n;
        out->rank = 1;
        out->shape = &two;
    }
    return true;
}

// Output 0: the largest half of all offsets of the model. Output 1: its largest and smallest entry.
static const tarn_node *build(tarn_build *b) {
    int64_t one = 1, axis = 0;
    tarn_attr along = {.ni = 1, .i = &axis};
    const tarn_node *t = tarn_keep_top(b, tarn_delta(b, 0), 0.5, true, 0);
    if (b->output == 0) {
        return t;
    }
    const tarn_node *cell[2] = {
        tarn_reshape(b->g, tarn_cast(b->g, tarn_total(b->g, &tarn_op_max, t), TARN_F32), 1, &one),
        tarn_reshape(b->g, tarn_cast(b->g, tarn_total(b->g, &tarn_op_min, t), TARN_F32), 1, &one)};
    return tarn_node_make(b->g, &tarn_op_concat, 2, cell, &along);
}

static const tarn_param params[] = {{0}};
static const tarn_method row = {.name = "two_outputs", .summary = "a test", .paper = "none", .version = 1,
                                .tier = 'A', .needs = TARN_NEEDS_BASE, .least = 1, .most = 1,
                                .params = params, .build = build, .outputs = outputs};

static tarn_model *family(tarn_context *cx, uint64_t seed) {
    const char *names[3] = {"a", "skip", "b"};
    int64_t n = N;
    tarn_tensor t[3];
    tarn_model *m;
    tarn_error err = {0};
    for (int k = 0; k < 3; k++) {
        t[k] = filled(cx, TARN_F32, 1, &n, seed + (uint64_t)k);
    }
    OK(tarn_model_of_tensors(cx, 3, names, t, 1, NULL, &m, &err));
    for (int k = 0; k < 3; k++) {
        tarn_tensor_release(&t[k]);
    }
    return m;
}

static void test_outputs(void **state) {
    (void)state;
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    tarn_model *base = family(&cx, 1), *x = family(&cx, 10), *planned, *m;
    OK(tarn_method_apply(&cx, &row, base, 1, &x, 0, NULL, NULL, &planned, &err));
    static const char *const want[4] = {"a", "a.ends", "b", "b.ends"};
    assert_int_equal(planned->n, 4);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(planned->slots[i].name, want[i]);
    }
    OK(tarn_model_load(&cx, planned, &m, &err));
    // The offsets once, in the order of names: what is kept is half of those of a, b and nothing else.
    int64_t kept = 0;
    for (int k = 0; k < 2; k++) {
        tarn_tensor t, ends;
        double most = 0, least = 0;
        OK(tarn_model_tensor(&cx, m, 2 * k, &t, &err));
        OK(tarn_model_tensor(&cx, m, 2 * k + 1, &ends, &err));
        assert_int_equal(tarn_tensor_numel(&ends), 2);
        for (int64_t i = 0; i < N; i++) {
            double v = tarn_tensor_get(&t, i);
            kept += v != 0;
            most = v > most ? v : most;
            least = v < least ? v : least;
        }
        assert_true(tarn_tensor_get(&ends, 0) == most && tarn_tensor_get(&ends, 1) == least);
        tarn_tensor_release(&t);
        tarn_tensor_release(&ends);
    }
    assert_int_equal(kept, N);
    tarn_model_release(m);
    tarn_model_release(planned);
    tarn_model_release(x);
    tarn_model_release(base);
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
