// SPDX-License-Identifier: Apache-2.0
// What an earlier run found out is not computed again: reductions over sources with an identity, of one job
// and of whole models, alone and one upon another. Counted by the bytes that the sources give away, and
// compared to the bit with a context that has no memory.
#include "tests/support.h"
#include "vm/stream/stream.h"

enum { N = 40000, TENSORS = 3 };

typedef struct {
    tarn_source source;
    tarn_tensor tensor;
    unsigned char id;  // 0: it has none
    atomic_long read;  // bytes
} counted;

static tarn_status counted_read(const tarn_source *s, uint64_t at, uint64_t n, void *dst, tarn_error *err) {
    (void)err;
    union {
        const tarn_source *in;
        counted *out;
    } u = {.in = s};
    atomic_fetch_add(&u.out->read, (long)n);
    memcpy(dst, (const char *)tarn_tensor_data(&u.out->tensor) + at, n);
    return TARN_OK;
}
static bool counted_identity(const tarn_source *s, unsigned char out[32]) {
    memset(out, ((const counted *)s)->id, 32);
    return out[0] != 0;
}
static void nothing(const tarn_source *s) { (void)s; }

typedef struct {
    tarn_context cx;
    counted of[TENSORS];
    bool made;  // expressions are made while the run goes on
} files;

static void open_files(files *f, int threads, bool rehash) {
    static const char *const names[] = {"a", "b", "c"};
    memset(f, 0, sizeof *f);
    open_context(&f->cx, threads, NULL);
    f->cx.rehash = rehash;
    f->cx.hold = 1;  // what two passes need is read twice
    for (int k = 0; k < TENSORS; k++) {
        const int64_t n = N + k;
        counted *c = &f->of[k];
        c->tensor = filled(&f->cx, TARN_F32, 1, &n, 7 + (uint64_t)k);
        c->id = (unsigned char)(k + 1);
        c->source = (tarn_source){.name = names[k], .where = "test", .dtype = TARN_F32, .rank = 1,
                                  .shape = c->tensor.shape, .numel = n, .bytes = (uint64_t)n * 4,
                                  .read = counted_read, .identity = counted_identity,
                                  .retain = nothing, .release = nothing};
    }
}

static void close_files(files *f) {
    for (int k = 0; k < TENSORS; k++) {
        tarn_tensor_release(&f->of[k].tensor);
    }
    tarn_context_free(&f->cx);
}

// The 10 % with the largest magnitudes, of one tensor or of the model.
static const tarn_node *threshold(tarn_graph *g, const tarn_node *x, int64_t gid, int64_t start, double density) {
    int64_t i[4] = {0, gid, 0, 32};
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    x = tarn_abs(g, x);
    return tarn_item(g, gid ? tarn_reduce_global(g, &tarn_op_kth, 1, &x, gid, start, &a)
                            : tarn_node_make(g, &tarn_op_kth, 1, &x, &a), 0);
}

typedef const tarn_node *expression(tarn_graph *g, const tarn_node *x, int64_t start, double factor, double density);

// x scaled by its norm and `factor`, cut at its own threshold
static const tarn_node *local(tarn_graph *g, const tarn_node *x, int64_t start, double factor, double density) {
    (void)start;
    const tarn_node *norm = tarn_total(g, &tarn_op_sum, tarn_mul(g, x, x));
    const tarn_node *cut = tarn_minimum(g, x, threshold(g, x, 0, 0, density));
    return tarn_mul(g, tarn_div(g, cut, norm), tarn_num(g, factor));
}
// the same for the whole model, and a second reduction over what the first one left
static const tarn_node *whole(tarn_graph *g, const tarn_node *x, int64_t start, double factor, double density) {
    const tarn_node *cut = tarn_minimum(g, x, threshold(g, x, 1, start, density));
    const tarn_node *norm = tarn_reduce_global(g, &tarn_op_sum, 1, &cut, 2, start, NULL);
    return tarn_mul(g, tarn_div(g, cut, norm), tarn_num(g, factor));
}

typedef struct {
    files *f;
    expression *e;
    double factor, density;
    tarn_tensor *out;
} request;

static tarn_status make(void *arg, int64_t job, int n, tarn_graph **g, const tarn_node **root, tarn_error *err) {
    (void)err, (void)n;
    const request *q = arg;
    int64_t start = 0;
    for (int64_t k = 0; k < job; k++) {
        start += q->f->of[k].source.numel;
    }
    *g = tarn_graph_new(&q->f->cx);
    *root = q->e(*g, tarn_leaf_source(*g, &q->f->of[job].source), start, q->factor, q->density);
    assert_non_null(*root);
    return TARN_OK;
}

static tarn_status put(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n, tarn_error *err) {
    (void)err;
    const request *q = arg;
    memcpy((char *)q->out[job].storage->data + at, p, n);
    return TARN_OK;
}

// Runs the expression over all tensors; returns the bytes that were read, in multiples of the whole.
static double run(files *f, expression *e, double factor, double density, tarn_tensor out[TENSORS]) {
    tarn_error err = {0};
    tarn_job jobs[TENSORS];
    request q = {f, e, factor, density, out};
    tarn_maker maker = {make, &q};
    tarn_sink sink = {put, &q};
    tarn_stream_options o = {.maker = &maker};
    long bytes = 0, read = 0;
    for (int k = 0; k < TENSORS; k++) {
        jobs[k] = (tarn_job){.name = f->of[k].source.name, .store = TARN_F32};
        if (!f->made) {
            make(&q, k, 1, &jobs[k].graph, &jobs[k].root, &err);
        }
        OK(tarn_tensor_new(&f->cx, TARN_F32, 1, f->of[k].tensor.shape, &out[k], &err));
        atomic_store(&f->of[k].read, 0);
        bytes += (long)f->of[k].source.bytes;
    }
    OK(tarn_stream_run(&f->cx, TENSORS, jobs, &sink, &o, &err));
    for (int k = 0; k < TENSORS; k++) {
        tarn_graph_release(jobs[k].graph);
        read += atomic_load(&f->of[k].read);
    }
    return (double)read / (double)bytes;
}

// A run of a context that has seen others equals that of a fresh one that remembers nothing.
static double same(files *f, expression *e, double factor, double density) {
    files fresh;
    tarn_tensor got[TENSORS], want[TENSORS];
    open_files(&fresh, 1, true);
    run(&fresh, e, factor, density, want);
    double read = run(f, e, factor, density, got);
    for (int k = 0; k < TENSORS; k++) {
        assert_memory_equal(tarn_tensor_data(&got[k]), tarn_tensor_data(&want[k]), tarn_tensor_bytes(&want[k]));
        tarn_tensor_release(&got[k]);
        tarn_tensor_release(&want[k]);
    }
    close_files(&fresh);
    return read;
}

static void check(expression *e, double passes, int threads, bool made) {
    files f;
    open_files(&f, threads, false);
    f.made = made;
    double first = same(&f, e, 0.5, 0.1);
    assert_true(first >= passes);
    assert_true(same(&f, e, 0.7, 0.1) == 1);   // another factor: the last pass alone
    double other = same(&f, e, 0.5, 0.2);      // another density: thresholds anew
    assert_true(other > 1 && other <= first);
    assert_true(same(&f, e, 0.5, 0.2) == 1);
    f.of[1].id = 0;                            // a file that nobody can tell apart from others
    double again = same(&f, e, 0.5, 0.1);
    assert_true(again > 1);
    assert_true(same(&f, e, 0.5, 0.1) == again);
    f.of[1].id = 9;                            // another file
    assert_true(same(&f, e, 0.5, 0.1) == again);
    assert_true(same(&f, e, 0.5, 0.1) == 1);
    f.cx.rehash = true;
    assert_true(same(&f, e, 0.5, 0.1) == first);
    close_files(&f);
}

static void test_local(void **state) {
    check(local, 2, 1, false);
    check(local, 2, 3, true);
}
static void test_whole_model(void **state) {
    check(whole, 3, 1, false);
    check(whole, 3, 3, false);
    check(whole, 3, 1, true);
    check(whole, 3, 3, true);
}

// More keys than there is room for: it begins anew and goes on.
static void test_bounded(void **state) {
    tarn_known m;
    tarn_known_init(&m);
    double out[4];
    for (uint32_t k = 1; k <= 200000; k++) {
        tarn_known_key key = {{0}};
        memcpy(key.bytes, &k, sizeof k);
        const double value[4] = {k};
        tarn_known_put(&m, &key, value);
        assert_true(tarn_known_get(&m, &key, out) && out[0] == k);
        assert_true(m.slots <= 1 << 16 && m.count * 2 <= m.slots + 2);
    }
    tarn_known_free(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_local), cmocka_unit_test(test_whole_model),
                                       cmocka_unit_test(test_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
