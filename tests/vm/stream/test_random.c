// SPDX-License-Identifier: Apache-2.0
// Streaming == one operation after another, to the bit, on random graphs of all rows that take what is
// there (tests/vm/op/random_graph.h): any dtype, shapes with no and with one element, numbers, views and
// slices of streams, sorts, products, reductions over any dimensions. What tests/vm/stream/test_equal.c
// makes by hand is denser; this is wider. TARN_TEST_FIRST=n begins at another graph, TARN_TEST_COUNT=n
// takes so many.
#include "tests/vm/op/random_graph.h"
#include "vm/stream/stream.h"

enum { JOBS = 4 };

// Node by node, a number that was cast for a row is as wide as the row reads it; a graph knows better.
static tarn_dtype stored(const tarn_node *n) { return n->desc.dtype; }

static void make(random_graph *r, tarn_context *cx, uint64_t seed, const tarn_node **root) {
    static const int64_t shapes[][2] = {{1, 1},  {3, 5},   {17, 64},  {5, 1},    {33, 700}, {0, 4},
                                        {7, 0},  {1, 40},  {2, 1030}, {600, 12}, {1, 0},    {1300, 3}};
    const int64_t *s = shapes[seed % 12];
    rg_begin(r, cx, seed, s[0], s[1], false, true);
    rg_grow(r, 14 + (int)(seed % 5) * 12);
    for (int k = 0; k < JOBS; k++) {
        root[k] = k < 2 ? r->node[r->n - 1 - k] : r->node[rg_below(r, (uint64_t)r->n)];
    }
}

static void stream(uint64_t seed, const char *isa, int threads, size_t hold, const tarn_tensor *want) {
    tarn_context cx;
    tarn_error err = {0};
    random_graph r;
    const tarn_node *root[JOBS];
    tarn_job jobs[JOBS];
    tarn_tensor out[JOBS];
    open_context(&cx, threads, isa);
    cx.hold = hold;
    make(&r, &cx, seed, root);
    for (int k = 0; k < JOBS; k++) {
        jobs[k] = (tarn_job){.name = "t", .graph = r.g, .root = root[k], .store = stored(root[k])};
    }
    OK(tarn_stream_load(&cx, JOBS, jobs, out, &err));
    for (int k = 0; k < JOBS; k++) {
        if (!rg_equal(&cx, &want[k], &out[k])) {
            fail_msg("seed %llu: root %d (%s), %s, %d threads, hold %zu: other bytes than node by node",
                     (unsigned long long)seed, k, root[k]->op->name, tarn_isa_name(cx.isa), threads, hold);
        }
        tarn_tensor_release(&out[k]);
    }
    rg_close(&r);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static void one_graph(uint64_t seed) {
    static const int threads[] = {1, 2, 3, 8};
    tarn_context cx;
    random_graph r;
    const tarn_node *root[JOBS];
    tarn_tensor want[JOBS];
    open_context(&cx, 1, "v1");
    make(&r, &cx, seed, root);
    rg_by_nodes(&r, JOBS, root, want);
    int run = 0;
    for (const char *const *isa = test_isas(); *isa; isa++, run++) {
        size_t hold = (seed + (uint64_t)run) % 2 ? (size_t)64 : (size_t)256 << 20;
        stream(seed, *isa, threads[(seed + (uint64_t)run) % 4], hold, want);
    }
    for (int k = 0; k < JOBS; k++) {
        tarn_tensor_release(&want[k]);
    }
    rg_close(&r);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

static uint64_t number(const char *name, uint64_t otherwise) {
    const char *s = getenv(name);
    return s ? strtoull(s, NULL, 10) : otherwise;
}

static void test_same_bits(void **state) {
    (void)state;
    uint64_t first = number("TARN_TEST_FIRST", 1), count = number("TARN_TEST_COUNT", 120);
    for (uint64_t seed = first; seed < first + count; seed++) {
        one_graph(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
