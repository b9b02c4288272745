// SPDX-License-Identifier: Apache-2.0
// Operations on rows by themselves, streamed in bands of whole rows: random expressions of sorts, ranks
// and reductions along the last dimension, chained, beside values of one element a row, equal the eager
// evaluator's to the bit for rows of odd lengths that straddle tiles, chunks and blocks, for any number
// of threads and any hold budget. That they do stream: no tensor in memory, one pass, and memory that
// does not grow with the tensor.
#include "tests/support.h"
#include "vm/stream/stream.h"

enum { SOURCES = 3, MOST = 48, JOBS = 3 };

typedef struct {
    tarn_graph *g;
    const tarn_node *full[MOST], *column[MOST], *scalar[MOST];
    int nf, nc, ns;
    int64_t rows, length;
    uint64_t seed;
} maker;

static uint64_t below(maker *m, int n) { return test_random(&m->seed) % (uint64_t)n; }
static const tarn_node *pick(maker *m) { return m->full[below(m, m->nf)]; }

static const tarn_node *by_rows(maker *m, const tarn_op *op, const tarn_node *x) {
    int64_t down = (int64_t)below(m, 2);
    tarn_attr a = {.ni = 1, .i = &down};
    return tarn_node_make(m->g, op, 1, &x, &a);
}
static const tarn_node *along(maker *m, const tarn_op *op, const tarn_node *x) {
    int64_t axis = x->desc.rank - 1;
    return tarn_reduce(m->g, op, x, 1, &axis, true);
}
static const tarn_node *uniform(maker *m) {
    int64_t i[4] = {TARN_F32, m->rows, m->length, (int64_t)test_random(&m->seed)};
    tarn_attr a = {.ni = 4, .i = i};
    return tarn_node_make(m->g, &tarn_op_uniform, 0, NULL, &a);
}

static void grow(maker *m) {
    tarn_graph *g = m->g;
    static const tarn_op *const orders[] = {&tarn_op_sort, &tarn_op_argsort, &tarn_op_rank, &tarn_op_cumsum};
    static const tarn_op *const folds[] = {&tarn_op_sum, &tarn_op_max, &tarn_op_min, &tarn_op_argmax};
    const tarn_node *a = pick(m), *b = pick(m), *f = NULL, *c = NULL, *s = NULL;
    const tarn_node *k = m->nc ? m->column[below(m, m->nc)] : tarn_num(g, 0.5);
    const tarn_node *t = m->ns ? m->scalar[below(m, m->ns)] : tarn_num(g, 0.25);
    const int64_t flat[1] = {m->rows * m->length}, shape[2] = {m->rows, m->length};
    switch (below(m, 20)) {
    case 0: f = tarn_sub(g, a, b); break;
    case 1: f = tarn_mul(g, tarn_add(g, a, b), tarn_num(g, 0.5)); break;
    case 2: f = tarn_abs(g, a); break;
    case 3: case 4: case 5: f = by_rows(m, orders[below(m, 4)], a); break;
    case 6: f = by_rows(m, &tarn_op_rank, tarn_abs(g, tarn_sub(g, a, b))); break;
    case 7: case 8: c = along(m, folds[below(m, 4)], a); break;
    case 9: c = tarn_sqrt(g, along(m, &tarn_op_sum, tarn_mul(g, a, a))); break;
    case 10: c = m->nc ? tarn_add(g, k, m->column[below(m, m->nc)]) : along(m, &tarn_op_sum, b); break;
    case 11: c = m->nc ? tarn_mul(g, k, t) : along(m, &tarn_op_max, b); break;
    case 12: case 13: f = tarn_sub(g, a, k); break;
    case 14: f = tarn_where(g, tarn_lt(g, uniform(m), tarn_mul(g, a, tarn_num(g, 0.3))), b, k); break;
    case 15: s = tarn_dot(g, tarn_cast(g, a, TARN_F32), tarn_cast(g, b, TARN_F32)); break;
    case 16: s = m->nc ? tarn_total(g, &tarn_op_sum, k) : tarn_total(g, &tarn_op_max, a); break;
    case 17: f = tarn_reshape(g, tarn_relu(g, tarn_reshape(g, a, 1, flat)), 2, shape); break;
    case 18: {  // rows of another length: whole, in memory
        const int64_t turned[2] = {m->length, m->rows};
        f = tarn_reshape(g, by_rows(m, &tarn_op_rank, tarn_reshape(g, a, 2, turned)), 2, shape);
        break;
    }
    default: f = tarn_add(g, tarn_mul(g, a, tarn_num(g, 0.01)), t); break;
    }
    if (!f && !c && !s) {
        fail_msg("%s", g->err.message);
    }
    if (f) {
        m->full[m->nf++] = f;
    } else if (c) {
        m->column[m->nc++] = c;
    } else {
        m->scalar[m->ns++] = tarn_mul(g, s, tarn_num(g, 1e-6));
    }
}

static tarn_graph *expressions(tarn_context *cx, const tarn_tensor *t, uint64_t seed, const tarn_node **root) {
    maker m = {.g = tarn_graph_new(cx), .seed = seed, .rows = t[0].shape[0], .length = t[0].shape[1]};
    for (int i = 0; i < SOURCES; i++) {
        const tarn_source *s = tarn_source_of_tensor(&t[i], "t");
        m.full[m.nf++] = tarn_leaf_source(m.g, s);
        s->release(s);
    }
    for (int i = 0; i < 18; i++) {
        grow(&m);
    }
    const tarn_node *last = m.full[m.nf - 1];
    for (int i = 0; i < m.nc; i++) {
        last = tarn_add(m.g, last, m.column[i]);
    }
    for (int i = 0; i < m.ns; i++) {
        last = tarn_add(m.g, last, m.scalar[i]);
    }
    root[0] = last;
    root[1] = m.nc ? m.column[m.nc - 1] : along(&m, &tarn_op_sum, last);
    root[2] = by_rows(&m, &tarn_op_rank, m.full[m.nf - 2]);
    for (int k = 0; k < JOBS; k++) {
        assert_non_null(root[k]);
    }
    return m.g;
}

static void compare(uint64_t seed, int64_t rows, int64_t length, int runs) {
    static const tarn_dtype stored[] = {TARN_BF16, TARN_F32, TARN_F16, TARN_F64, TARN_I8};
    static const int threads[] = {2, 1, 8};
    static const size_t holds[] = {64, (size_t)256 << 20, (size_t)1 << 21};
    tarn_context cx;
    tarn_error err = {0};
    const int64_t shape[2] = {rows, length};
    const tarn_node *root[JOBS];
    tarn_tensor t[SOURCES], want[JOBS];
    open_context(&cx, 2, NULL);
    for (int i = 0; i < SOURCES; i++) {
        t[i] = filled(&cx, stored[(seed + (uint64_t)i) % 5], 2, shape, seed * 7 + (uint64_t)i);
    }
    tarn_graph *g = expressions(&cx, t, seed, root);
    OK(tarn_graph_eval(g, JOBS, root, NULL, want, &err));
    tarn_graph_release(g);
    for (int run = 0; run < runs; run++) {
        tarn_context other;
        tarn_tensor out[JOBS];
        tarn_job jobs[JOBS];
        open_context(&other, threads[(seed + (uint64_t)run) % 3], NULL);
        other.hold = holds[(seed / 2 + (uint64_t)run) % 3];
        g = expressions(&other, t, seed, root);
        for (int k = 0; k < JOBS; k++) {
            jobs[k] = (tarn_job){.name = "t", .graph = g, .root = root[k],
                                 .store = tarn_dtype_compute(root[k]->desc.dtype)};
        }
        OK(tarn_stream_load(&other, JOBS, jobs, out, &err));
        for (int k = 0; k < JOBS; k++) {
            tarn_tensor w;
            OK(tarn_tensor_cast(&cx, &want[k], jobs[k].store, &w, &err));
            if (memcmp(tarn_tensor_data(&out[k]), tarn_tensor_data(&w), tarn_tensor_bytes(&w)) != 0) {
                fail_msg("seed %llu, rows of %lld, job %d, %d threads, hold %zu: other bytes than eager",
                         (unsigned long long)seed, (long long)length, k, threads[(seed + (uint64_t)run) % 3], other.hold);
            }
            tarn_tensor_release(&w);
            tarn_tensor_release(&out[k]);
        }
        tarn_graph_release(g);
        assert_int_equal(other.budget.used, 0);
        tarn_context_free(&other);
    }
    for (int k = 0; k < JOBS; k++) {
        tarn_tensor_release(&want[k]);
        tarn_tensor_release(&t[k]);
    }
    tarn_context_free(&cx);
}

static void small(void **state) {
    static const int64_t shapes[][2] = {{1, 1}, {5, 1}, {7, 3}, {1, 1025}, {33, 1023}, {3, 4096}, {40, 1000}, {1, 3}};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        compare(seed, shapes[seed % 8][0], shapes[seed % 8][1], 3);
    }
}

// More than a block: rows straddle its end, and chunks of it.
static void across_blocks(void **state) {
    static const int64_t lengths[] = {3, 1023, 1025, 300000};
    for (int k = 0; k < 4; k++) {
        compare(300 + (uint64_t)k, (TARN_BLOCK + 70000) / lengths[k] + 1, lengths[k], 1);
    }
}

// ---- it streams ----

// A source of any size that is nowhere: its elements follow from their position.
typedef struct {
    tarn_source face;
    int64_t shape[2];
    uint32_t salt;
} sparse;
static tarn_status sparse_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    float *x = dst;
    for (uint64_t i = 0; i < n / 4; i++) {
        uint32_t h = ((uint32_t)(at / 4 + i) ^ ((const sparse *)s)->salt) * 2654435761U;
        x[i] = (float)(h >> 8) * 0x1p-24F - 0.5F;
    }
    return TARN_OK;
}
static void sparse_refs(const tarn_source *s) { (void)s; }

// base + the offsets, each element kept by a chance that its rank in the row says.
static const tarn_node *chosen(tarn_graph *g, const sparse *x, bool rescale) {
    const tarn_node *base = tarn_leaf_source(g, &x[0].face), *sum = base;
    for (int k = 1; k < 3; k++) {
        const tarn_node *d = tarn_sub(g, tarn_leaf_source(g, &x[k].face), base);
        const tarn_node *size = tarn_abs(g, d);
        const int64_t up = 0, i[4] = {TARN_F32, x[0].shape[0], x[0].shape[1], k};
        tarn_attr a = {.ni = 1, .i = &up}, u = {.ni = 4, .i = i};
        const tarn_node *rank = tarn_node_make(g, &tarn_op_rank, 1, &size, &a);
        const tarn_node *p = tarn_div(g, rank, tarn_num(g, (double)x[0].shape[1]));
        const tarn_node *keep = tarn_lt(g, tarn_node_make(g, &tarn_op_uniform, 0, NULL, &u), p);
        const tarn_node *t = tarn_where(g, keep, d, tarn_num(g, 0));
        if (rescale) {
            t = tarn_mul(g, t, tarn_div(g, tarn_total(g, &tarn_op_sum, size),
                                        tarn_total(g, &tarn_op_sum, tarn_abs(g, t))));
        }
        sum = tarn_add(g, sum, t);
    }
    return sum;
}

static tarn_status drop(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    *(atomic_uint_fast64_t *)arg += n;
    return TARN_OK;
}

static void open_sparse(sparse *x, int64_t rows, int64_t length) {
    for (int k = 0; k < 3; k++) {
        x[k] = (sparse){.face = {.name = "w", .where = "nowhere", .dtype = TARN_F32, .rank = 2,
                                 .numel = rows * length, .bytes = (uint64_t)(rows * length) * 4,
                                 .read = sparse_read, .retain = sparse_refs, .release = sparse_refs},
                        .shape = {rows, length}, .salt = (uint32_t)k * 7919};
        x[k].face.shape = x[k].shape;
    }
}

static void plan_of(tarn_context *cx, const sparse *x, bool rescale, tarn_stream_plan *p, tarn_job_plan *one) {
    tarn_error err = {0};
    tarn_graph *g = tarn_graph_new(cx);
    tarn_job job = {.name = "w", .graph = g, .root = chosen(g, x, rescale), .store = TARN_F32};
    assert_non_null(job.root);
    OK(tarn_stream_plan_of(cx, 1, &job, p, one, &err));
    tarn_graph_release(g);
}

static void bounded(void **state) {
    static const int64_t lengths[] = {1536, 4096, 14336, 300000};
    for (int k = 0; k < 4; k++) {
        for (int threads = 1; threads <= 8; threads *= 8) {
            tarn_context cx;
            sparse x[3];
            tarn_stream_plan large, plan;
            tarn_job_plan one;
            open_context(&cx, threads, NULL);
            cx.hold = 64;
            open_sparse(x, 525000000 / lengths[k], lengths[k]);
            plan_of(&cx, x, false, &large, &one);
            assert_true(one.workspace < 256);
            assert_int_equal(one.passes, 1);
            plan_of(&cx, x, true, &large, &one);
            assert_int_equal(one.passes, 2);
            assert_true(one.workspace < 256);
            open_sparse(x, 1300000 / lengths[k] + 1, lengths[k]);
            plan_of(&cx, x, true, &plan, &one);
            assert_true(large.peak < plan.peak + ((uint64_t)1 << 20));
            assert_true(large.peak < ((uint64_t)1 << 22) + (uint64_t)threads * (lengths[k] > 14336 ? 64 << 20 : 8 << 20));
            tarn_error err = {0};
            tarn_graph *g = tarn_graph_new(&cx);
            atomic_uint_fast64_t written = 0;
            tarn_job job = {.name = "w", .graph = g, .root = chosen(g, x, true), .store = TARN_F32};
            tarn_sink sink = {drop, &written};
            size_t before = cx.budget.used;
            cx.budget.peak = before;
            OK(tarn_stream_run(&cx, 1, &job, &sink, NULL, &err));
            assert_int_equal(written, x[0].face.bytes);
            if (cx.budget.peak - before > plan.peak) {
                fail_msg("rows of %lld: %zu bytes, the plan says %llu", (long long)lengths[k],
                         cx.budget.peak - before, (unsigned long long)plan.peak);
            }
            tarn_graph_release(g);
            tarn_context_free(&cx);
        }
    }
}

// Masks that two passes need are kept where there is room beside the inputs: rows are ranked once. The same
// bytes with and without, and the plan counts them.
static void masks(void **state) {
    const int64_t rows = 1500, length = 1000, n = rows * length;
    const size_t inputs = 3 * 4 * (size_t)n, holds[] = {64, inputs + 2 * (size_t)n - 1, inputs + 2 * (size_t)n};
    for (int threads = 1; threads <= 8; threads *= 8) {
        tarn_tensor out[3];
        uint64_t peak[3];
        tarn_context cx;
        sparse x[3];
        tarn_error err = {0};
        open_context(&cx, threads, NULL);
        open_sparse(x, rows, length);
        for (int k = 0; k < 3; k++) {
            tarn_stream_plan plan;
            tarn_job_plan one;
            cx.hold = holds[k];
            plan_of(&cx, x, true, &plan, &one);
            assert_int_equal(one.held, k > 0);
            tarn_graph *g = tarn_graph_new(&cx);
            tarn_job job = {.name = "w", .graph = g, .root = chosen(g, x, true), .store = TARN_F32};
            size_t before = cx.budget.used, result = 4 * (size_t)n;
            cx.budget.peak = before;
            OK(tarn_stream_load(&cx, 1, &job, &out[k], &err));
            peak[k] = plan.peak;
            size_t used = cx.budget.peak - before - result;
            assert_true(used <= plan.peak);
            assert_true(used >= (k == 0 ? 0 : k == 1 ? inputs : inputs + 2 * (size_t)n));
            assert_memory_equal(tarn_tensor_data(&out[k]), tarn_tensor_data(&out[0]), result);
            tarn_graph_release(g);
        }
        assert_int_equal(peak[2] - peak[1], 2 * n);
        for (int k = 0; k < 3; k++) {
            tarn_tensor_release(&out[k]);
        }
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
}

// What is kept never takes the room that the sweeps need: from twice the result on there is enough.
static void tight(void **state) {
    const int64_t rows = 1500, length = 1000, n = rows * length;
    tarn_tensor first = {0}, again;
    tarn_context cx;
    sparse x[3];
    open_context(&cx, 2, NULL);
    open_sparse(x, rows, length);
    const size_t limit = cx.budget.limit, result = 4 * (size_t)n;
    cx.hold = 5 * result;
    for (size_t room = result; room < 7 * result; room += room == result ? result : result / 4) {
        tarn_error err = {0};
        tarn_graph *g = tarn_graph_new(&cx);
        tarn_job job = {.name = "w", .graph = g, .root = chosen(g, x, true), .store = TARN_F32};
        cx.budget.limit = atomic_load(&cx.budget.used) + room;
        tarn_status s = tarn_stream_load(&cx, 1, &job, first.storage ? &again : &first, &err);
        cx.budget.limit = limit;
        tarn_graph_release(g);
        assert_int_equal(s, room == result ? TARN_NOMEM : TARN_OK);
        if (room > 2 * result) {
            assert_memory_equal(tarn_tensor_data(&again), tarn_tensor_data(&first), result);
            tarn_tensor_release(&again);
        }
    }
    tarn_tensor_release(&first);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// Longer than a block: whole, as the plan says.
static void too_long(void **state) {
    tarn_context cx;
    sparse x[3];
    tarn_stream_plan plan;
    tarn_job_plan one;
    open_context(&cx, 2, NULL);
    open_sparse(x, 2, TARN_BLOCK + 1);
    plan_of(&cx, x, false, &plan, &one);
    assert_true(one.workspace > (uint64_t)TARN_BLOCK * 20);
    assert_int_equal(one.passes, 2);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small), cmocka_unit_test(across_blocks), cmocka_unit_test(bounded),
        cmocka_unit_test(masks), cmocka_unit_test(tight),
        cmocka_unit_test(too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
