// SPDX-License-Identifier: Apache-2.0
// The tree over rows has one value whoever makes its subtrees, in whatever order they meet: operands cut
// anywhere, folded in tiles of any length, taken over in any order, against the tree written down
// naively, to the bit. And as many workers take blocks, no more subtrees are open than there is room for.
#include <math.h>

#include "tests/support.h"
#include "vm/op/columns.h"

enum { MOST = 6000 };

static double naive(const float *x, const tarn_columns_plan *p, int64_t slab, int64_t column) {
    static double part[MOST];
    for (int64_t r = 0; r < p->rows; r++) {
        part[r] = 0.0 + (double)x[(slab * p->rows + r) * p->width + column];
    }
    for (int64_t step = 1; step < p->rows; step *= 2) {
        for (int64_t i = 0; i + step < p->rows; i += 2 * step) {
            part[i] += part[i + step];
        }
    }
    return part[0];
}

typedef struct {
    tarn_columns c;
    void *memory;
} owned;

static owned opened(const tarn_columns_plan *p, int room, void *out) {
    owned o = {.memory = aligned_alloc(64, tarn_columns_bytes(room, p->width))};
    tarn_columns_open(&o.c, p, 0, p->width, room, o.memory, out);
    return o;
}

static void fold(tarn_columns *c, const float *x, int64_t from, int64_t to, uint64_t *seed) {
    for (int64_t n; from < to; from += n) {
        n = seed ? (int64_t)(test_random(seed) % TARN_TILE) + 1 : TARN_TILE;
        n = n < to - from ? n : to - from;
        tarn_columns_tile(c, from, n, x + from);
    }
}

// Of many sizes: sums of numbers of one size would be exact in f64, in any order.
static float *material(int64_t n, uint64_t seed) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) {
        x[i] = i % 97 == 5 ? -0.0F : ldexpf((float)test_uniform(&seed), (int)(test_random(&seed) % 60));
    }
    return x;
}

static tarn_columns_plan plan_of(tarn_isa isa, const int64_t *shape, const tarn_attr *a) {
    tarn_columns_plan p;
    tarn_desc in = {.dtype = TARN_F32, .rank = 3}, out = {.dtype = TARN_F64};
    memcpy(in.shape, shape, 3 * sizeof *shape);
    assert_true(tarn_columns_plan_of(isa, &tarn_op_sum, a, &in, &out, &p));
    assert_true(p.slabs == shape[0] && p.rows == shape[1] && p.width == shape[2]);
    return p;
}

static const int64_t middle[3] = {0, 0, 1};
static const tarn_attr by_middle = {.ni = 3, .i = middle};

static void any_order(void **state) {
    enum { PIECES = 12 };
    uint64_t seed = 1;
    for (int round = 0; round < 120; round++) {
        tarn_context cx;
        const char *const *isas = test_isas();
        int n = 0;
        while (isas[n]) {
            n++;
        }
        open_context(&cx, 1, isas[round % n]);
        int64_t width = (int64_t)(test_random(&seed) % (round % 3 ? 20 : 3000)) + 2;
        const int64_t shape[3] = {(int64_t)(test_random(&seed) % 5) + 1, (int64_t)(test_random(&seed) % 90) + 2, width};
        int64_t numel = shape[0] * shape[1] * width, cut[PIECES + 1] = {0};
        tarn_columns_plan p = plan_of(cx.isa, shape, &by_middle);
        float *x = material(numel, seed);
        double *out = malloc((size_t)(shape[0] * width) * sizeof *out);
        int order[PIECES], room = (int)(shape[0] * shape[1]) + 2;
        owned piece[PIECES], whole = opened(&p, room, out);
        for (int k = 1; k <= PIECES; k++) {
            int64_t at = (int64_t)(test_random(&seed) % (uint64_t)(numel + 1));
            int j = k;
            for (; j > 1 && cut[j - 1] > at; j--) {
                cut[j] = cut[j - 1];
            }
            cut[j] = at;
        }
        cut[PIECES] = numel;
        for (int k = 0; k < PIECES; k++) {
            piece[k] = opened(&p, room, out);
            fold(&piece[k].c, x, cut[k], cut[k + 1], &seed);
            int j = (int)(test_random(&seed) % (uint64_t)(k + 1));
            order[k] = order[j];
            order[j] = k;
        }
        for (int k = 0; k < PIECES; k++) {
            tarn_columns_merge(&whole.c, &piece[order[k]].c);
            free(piece[order[k]].memory);
        }
        assert_int_equal(whole.c.count, 0);
        for (int64_t i = 0; i < shape[0] * width; i++) {
            double want = naive(x, &p, i / width, i % width);
            if (memcmp(&want, &out[i], sizeof want) != 0) {
                fail_msg("[%d, %d, %d] at %d: %.17g, expected %.17g", (int)shape[0], (int)shape[1], (int)width,
                         (int)i, out[i], want);
            }
        }
        free(whole.memory);
        free(out);
        free(x);
        tarn_context_free(&cx);
    }
}

// Blocks come as workers take them: in order, and end in any.
static void room(void **state) {
    static const int64_t shapes[][3] = {{1, 5000, 3001}, {1, 4097, 1024}, {3, 1025, 2049}, {700, 9, 1500}, {1, 2000, 7000}};
    uint64_t seed = 9;
    for (int s = 0; s < 5; s++) {
        for (int workers = 1; workers <= 8; workers = workers * 2 + 1) {
            tarn_context cx;
            open_context(&cx, 1, NULL);
            tarn_columns_plan p = plan_of(cx.isa, shapes[s], &by_middle);
            int64_t numel = p.slabs * p.rows * p.width, blocks = (numel + TARN_BLOCK - 1) / TARN_BLOCK;
            float *x = material(numel, seed);
            double *out = malloc((size_t)(p.slabs * p.width) * sizeof *out);
            int most = tarn_columns_of_blocks(&p, workers), each = tarn_columns_of_block(&p);
            owned whole = opened(&p, most, out), busy[8];
            int64_t next = 0, done = 0;
            int n = 0;
            while (done < blocks) {
                while (n < workers && next < blocks) {
                    int64_t end = (next + 1) * TARN_BLOCK;
                    busy[n] = opened(&p, each, out);
                    fold(&busy[n].c, x, next * TARN_BLOCK, end < numel ? end : numel, NULL);
                    assert_true(busy[n++].c.count < each);
                    next++;
                }
                // the first of them is the last to end
                int k = n > 1 && next < blocks ? 1 + (int)(test_random(&seed) % (uint64_t)(n - 1)) : n - 1;
                tarn_columns_merge(&whole.c, &busy[k].c);
                free(busy[k].memory);
                busy[k] = busy[--n];
                done++;
                assert_true(whole.c.count < most);
            }
            assert_int_equal(whole.c.count, 0);
            for (int64_t i = 0; i < p.slabs * p.width; i += 501) {
                assert_true(naive(x, &p, i / p.width, i % p.width) == out[i]);
            }
            free(whole.memory);
            free(out);
            free(x);
            tarn_context_free(&cx);
        }
    }
}

// Which reductions go by it, and the operand as it is seen.
static void shapes(void **state) {
    static const struct {
        int rank, naxes;
        int64_t shape[4], axes[2], want[3];  // {0}: by another way
    } cases[] = {
        {2, 1, {30, 7}, {0}, {1, 30, 7}},        {2, 1, {30, 7}, {1}, {0}},
        {3, 2, {4, 5, 6}, {0, 1}, {1, 20, 6}},   {3, 1, {4, 5, 6}, {1}, {4, 5, 6}},
        {3, 1, {4, 5, 1}, {0}, {1, 4, 5}},       {3, 1, {4, 5, 1}, {1}, {0}},
        {4, 2, {4, 5, 6, 7}, {0, 2}, {0}},       {4, 2, {4, 1, 6, 7}, {0, 2}, {1, 24, 7}},
        {4, 1, {4, 5, 6, 7}, {1}, {4, 5, 42}},   {3, 1, {0, 5, 6}, {0}, {0}},
        {3, 1, {4, 1, 6}, {1}, {1, 1, 24}},      {1, 1, {9}, {0}, {0}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        int64_t i[4] = {0, 0, cases[k].axes[0], cases[k].axes[1]};
        tarn_attr a = {.ni = 2 + cases[k].naxes, .i = i};
        tarn_desc in = {.dtype = TARN_F32, .rank = cases[k].rank}, out = {.dtype = TARN_F32};
        memcpy(in.shape, cases[k].shape, sizeof cases[k].shape);
        tarn_columns_plan p;
        bool does = tarn_columns_plan_of(TARN_ISA_V1, &tarn_op_max, &a, &in, &out, &p);
        assert_int_equal(does, cases[k].want[0] > 0);
        assert_true(!does || (p.slabs == cases[k].want[0] && p.rows == cases[k].want[1] && p.width == cases[k].want[2]));
        assert_false(tarn_columns_plan_of(TARN_ISA_V1, &tarn_op_argmax, &a, &in, &out, &p));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order),
        cmocka_unit_test(room),
        cmocka_unit_test(shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
