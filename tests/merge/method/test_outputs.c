// SPDX-License-Identifier: Apache-2.0
// The part of the method row that no catalogue method uses yet: several outputs for one tensor, with
// names and shapes of their own (masks, factors). A row made for the test yields the trimmed offset and
// a vector of two numbers; tensors called "skip" have no output at all. Outputs of one tensor are jobs that are
// joined, by whatever names and dtypes they go.
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

// The plan's jobs for m: what is joined to what is before it, as a text of + and -.
static void expect_joined(tarn_context *cx, tarn_model *m, const unsigned char *want, const char *joined) {
    tarn_error err = {0};
    tarn_plan *p;
    OK(tarn_plan_make(cx, m, want, NULL, &p, &err));
    assert_int_equal(p->n, strlen(joined));
    for (int64_t i = 0; i < p->count; i++) {
        assert_int_equal(p->jobs[i].joined, i < p->n && joined[i] == '+');
        assert_true(!p->jobs[i].joined || p->jobs[i].graph == p->jobs[i - 1].graph);
        for (int k = p->parts[i].n; k < p->parts[i].all; k++) {  // each is made of its own operations only
            const tarn_part *part = &p->parts[i].list[k];
            assert_true(part->model != m || part->slot == p->slot[i]);
        }
    }
    tarn_plan_free(p);
}

static void test_joined(void **state) {
    (void)state;
    static const char *const names[4] = {"one", "two", "three", "four"};
    const unsigned char two[4] = {1, 1, 0, 0}, ends[4] = {1, 0, 0, 1}, all[4] = {1, 1, 1, 1};
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    tarn_model *base = family(&cx, 1), *x = family(&cx, 10), *m[6];
    OK(tarn_method_apply(&cx, &row, base, 1, &x, 0, NULL, NULL, &m[0], &err));
    expect_joined(&cx, m[0], NULL, "-+-+");
    expect_joined(&cx, m[0], two, "-+");
    expect_joined(&cx, m[0], ends, "--");
    OK(tarn_model_rename(&cx, m[0], names, &m[1], &err));
    OK(tarn_model_cast(&cx, m[1], TARN_BF16, &m[2], &err));
    OK(tarn_model_only(&cx, m[2], all, &m[3], &err));
    expect_joined(&cx, m[3], NULL, "-+-+");
    tarn_model *parts[2] = {m[3], base};
    OK(tarn_model_join(&cx, 2, parts, &m[4], &err));
    expect_joined(&cx, m[4], NULL, "-+-+---");
    OK(tarn_model_binary(&cx, &tarn_op_add, m[3], m[3], &m[5], &err));
    expect_joined(&cx, m[5], NULL, "----");  // of two operands: nobody knows that they are one
    expect_joined(&cx, base, NULL, "---");
    for (int k = 5; k >= 0; k--) {
        tarn_model_release(m[k]);
    }
    tarn_model_release(x);
    tarn_model_release(base);
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_outputs), cmocka_unit_test(test_joined)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
