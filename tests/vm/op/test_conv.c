// SPDX-License-Identifier: Apache-2.0
// The convolution family against loops over its definition, on random shapes (empty, 1 x 1,
// strides, padding, dilation, groups, depthwise) and views: one trilinear form seen from three
// sides. Pooling against loops with PyTorch's windows. The same bytes on every instruction set and
// for 1, 2 and 8 threads, what is refused, and the promise of workspace.
#include "tests/vm/op/rows.h"

enum { SH, SW, PH, PW, DH, DW, GROUPS, KH, KW, H, W, ATTRIBUTES };

typedef struct {
    int64_t i[ATTRIBUTES], x[4], w[4], y[4];
} shapes;

static int64_t places(const int64_t *i, int axis) {
    return (i[H + axis] + 2 * i[PH + axis] - (i[KH + axis] - 1) * i[DH + axis] - 1) / i[SH + axis] +
           1;
}

// n images, c and o channels of each group.
static shapes shape_of(const int64_t *i, int64_t n, int64_t c, int64_t o) {
    shapes s = {.x = {n, i[H], i[W], c * i[GROUPS]},
                .w = {o * i[GROUPS], c, i[KH], i[KW]},
                .y = {n, places(i, 0), places(i, 1), o * i[GROUPS]}};
    memcpy(s.i, i, sizeof s.i);
    return s;
}

static shapes random_shapes(uint64_t *s) {
    int64_t i[ATTRIBUTES];
    int64_t groups = below(s, 2) ? 1 : 1 + below(s, 4);
    i[GROUPS] = groups;
    for (int axis = 0; axis < 2; axis++) {
        i[SH + axis] = 1 + below(s, 3);
        i[PH + axis] = below(s, 4);
        i[DH + axis] = below(s, 2) ? 1 : 1 + below(s, 3);
        i[KH + axis] = 1 + below(s, 4);
        int64_t least = (i[KH + axis] - 1) * i[DH + axis] + 1 - 2 * i[PH + axis];
        i[H + axis] = (least > 0 ? least : 0) + below(s, 9);
    }
    int64_t wide = below(s, 3) == 0;
    bool deep = groups > 1 && below(s, 2);
    return shape_of(i, below(s, 10) == 0 ? 0 : 1 + below(s, 3),
                    deep                ? 1
                    : below(s, 12) == 0 ? 0
                                        : 1 + below(s, wide ? 20 : 5),
                    deep ? 1 : 1 + below(s, wide ? 40 : 9));
}

// What each of the three should be, in f64: every product of the form goes to its place.
static void naive(const shapes *s, const tarn_tensor *x, const tarn_tensor *w, const tarn_tensor *y,
                  double *out) {
    const int64_t *i = s->i;
    int64_t c = s->w[1], o = s->w[0] / i[GROUPS];
    for (int64_t n = 0; n < s->y[0]; n++)
        for (int64_t r = 0; r < s->y[1]; r++)
            for (int64_t q = 0; q < s->y[2]; q++)
                for (int64_t k = 0; k < s->y[3]; k++)
                    for (int64_t a = 0; a < i[KH]; a++)
                        for (int64_t b = 0; b < i[KW]; b++)
                            for (int64_t l = 0; l < c; l++) {
                                int64_t h = r * i[SH] - i[PH] + a * i[DH],
                                        v = q * i[SW] - i[PW] + b * i[DW];
                                if (h < 0 || h >= i[H] || v < 0 || v >= i[W]) {
                                    continue;
                                }
                                int64_t at_x =
                                    ((n * i[H] + h) * i[W] + v) * s->x[3] + k / o * c + l;
                                int64_t at_w = ((k * c + l) * i[KH] + a) * i[KW] + b;
                                int64_t at_y = ((n * s->y[1] + r) * s->y[2] + q) * s->y[3] + k;
                                double p = (x ? tarn_tensor_get(x, at_x) : 1) *
                                           (w ? tarn_tensor_get(w, at_w) : 1) *
                                           (y ? tarn_tensor_get(y, at_y) : 1);
                                out[!x ? at_x : !w ? at_w : at_y] += p;
                            }
}

static double taste(uint64_t *s) { return test_uniform(s); }

static void check_against(const shapes *s, const tarn_op *op, const tarn_tensor *x,
                          const tarn_tensor *w, const tarn_tensor *y, const char *name) {
    tarn_tensor in[2] = {x ? *x : *y, x && y ? *y : *w};
    tarn_attr a = {.ni = ATTRIBUTES, .i = s->i};
    tarn_tensor out = run_row(op, 2, in, &a);
    const int64_t *want_shape = !x ? s->x : !w ? s->w : s->y;
    assert_true(tarn_shape_equal(out.rank, out.shape, 4, want_shape));
    bool f64 = in[0].dtype == TARN_F64 || in[1].dtype == TARN_F64;
    assert_int_equal(out.dtype, f64 ? TARN_F64 : TARN_F32);
    int64_t n = tarn_tensor_numel(&out);
    double *want = calloc((size_t)n + 1, sizeof *want);
    naive(s, x, w, y, want);
    for (int64_t k = 0; k < n; k++) {
        double slack = f64 ? 1e-13 : 2e-5;
        same_number(name, tarn_tensor_get(&out, k), want[k], slack * (1 + fabs(want[k])));
    }
    free(want);
    tarn_tensor_release(&out);
}

static void check_family(const shapes *s, uint64_t *seed) {
    static const tarn_dtype t[] = {TARN_F32, TARN_F64, TARN_BF16, TARN_F32};
    tarn_tensor x = any_view(&row_context[0], t[below(seed, 4)], 4, s->x, seed);
    tarn_tensor w = any_view(&row_context[0], t[below(seed, 4)], 4, s->w, seed);
    tarn_tensor y = any_view(&row_context[0], t[below(seed, 4)], 4, s->y, seed);
    fill_any(&x, seed, taste);
    fill_any(&w, seed, taste);
    fill_any(&y, seed, taste);
    char name[200];
    snprintf(name, sizeof name,
             "x [%d, %d, %d, %d], w [%d, %d, %d, %d], stride %d %d, padding %d %d, dilation %d %d",
             (int)s->x[0], (int)s->x[1], (int)s->x[2], (int)s->x[3], (int)s->w[0], (int)s->w[1],
             (int)s->w[2], (int)s->w[3], (int)s->i[SH], (int)s->i[SW], (int)s->i[PH], (int)s->i[PW],
             (int)s->i[DH], (int)s->i[DW]);
    check_against(s, &tarn_op_conv2d, &x, &w, NULL, name);
    check_against(s, &tarn_op_conv2d_input, NULL, &w, &y, name);
    check_against(s, &tarn_op_conv2d_weight, &x, NULL, &y, name);
    tarn_tensor_release(&x);
    tarn_tensor_release(&w);
    tarn_tensor_release(&y);
}

static void family(void **state) {
    for (uint64_t seed = 1; seed <= 120; seed++) {
        uint64_t s = seed * 7919;
        shapes z = random_shapes(&s);
        check_family(&z, &s);
    }
}

// Shapes with paths of their own: pointwise, depthwise with whole and broken blocks, one channel,
// many images (several parts), one image in bands, a stride past the kernel and past the image.
static void chosen(void **state) {
    static const struct {
        int64_t i[ATTRIBUTES], n, c, o;
    } cases[] = {
        {{1, 1, 0, 0, 1, 1, 1, 1, 1, 6, 5}, 2, 16, 24},
        {{2, 2, 0, 0, 1, 1, 1, 1, 1, 7, 7}, 2, 8, 16},
        {{1, 1, 1, 1, 1, 1, 16, 3, 3, 6, 6}, 2, 1, 1},
        {{2, 1, 1, 2, 1, 2, 13, 3, 3, 8, 7}, 2, 1, 1},
        {{1, 1, 1, 1, 1, 1, 1, 3, 3, 9, 9}, 2, 1, 8},
        {{1, 1, 1, 1, 1, 1, 1, 3, 3, 5, 5}, 21, 3, 4},
        {{1, 1, 2, 2, 1, 1, 1, 5, 5, 33, 17}, 1, 4, 20},
        {{5, 4, 0, 1, 1, 1, 1, 2, 3, 13, 11}, 2, 3, 8},
        {{9, 9, 1, 1, 1, 1, 1, 3, 3, 4, 4}, 2, 3, 8},
        {{1, 1, 3, 3, 2, 3, 2, 3, 3, 7, 8}, 2, 2, 12},
        {{1, 1, 5, 5, 1, 1, 1, 2, 2, 3, 3}, 1, 2, 3},
        {{1, 1, 1, 1, 1, 1, 3, 3, 3, 5, 5}, 2, 1, 2},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        uint64_t s = k + 5;
        shapes z = shape_of(cases[k].i, cases[k].n, cases[k].c, cases[k].o);
        check_family(&z, &s);
    }
}

// <conv(x, w), y> = <x, conv_input(y, w)> = <w, conv_weight(x, y)> in f64.
static double against(const tarn_op *op, const tarn_tensor *p, const tarn_tensor *q,
                      const tarn_tensor *other, const tarn_attr *a) {
    tarn_tensor in[2] = {*p, *q}, out;
    tarn_error err = {0};
    double sum = 0;
    OK(tarn_op_apply(&row_context[0], op, 2, in, a, &out, &err));
    for (int64_t k = 0; k < tarn_tensor_numel(&out); k++) {
        sum += tarn_tensor_get(&out, k) * tarn_tensor_get(other, k);
    }
    tarn_tensor_release(&out);
    return sum;
}
static void adjoints(void **state) {
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t s = seed * 31337;
        shapes z = random_shapes(&s);
        tarn_attr a = {.ni = ATTRIBUTES, .i = z.i};
        tarn_tensor x = filled(&row_context[0], TARN_F64, 4, z.x, s),
                    w = filled(&row_context[0], TARN_F64, 4, z.w, s + 1),
                    y = filled(&row_context[0], TARN_F64, 4, z.y, s + 2);
        double want = against(&tarn_op_conv2d, &x, &w, &y, &a);
        double slack = 1e-12 * (1 + fabs(want));
        same_number("<x, conv2d_input>", against(&tarn_op_conv2d_input, &y, &w, &x, &a), want,
                    slack);
        same_number("<w, conv2d_weight>", against(&tarn_op_conv2d_weight, &x, &y, &w, &a), want,
                    slack);
        tarn_tensor_release(&x);
        tarn_tensor_release(&w);
        tarn_tensor_release(&y);
    }
}

// ---- pooling ----

enum { P_KH, P_KW, P_SH, P_SW, P_PH, P_PW, P_CEIL, P_COUNT, P_ADAPTIVE, P_H, P_W };

// Windows along one axis by PyTorch's rules, written as it words them: from, to, and with padding.
static int64_t naive_windows(const int64_t *i, int axis, int64_t (*window)[3]) {
    int64_t k = i[P_KH + axis], s = i[P_SH + axis], p = i[P_PH + axis], n = i[P_H + axis],
            count = 0;
    if (i[P_ADAPTIVE]) {
        for (; count < k; count++) {
            window[count][0] = (int64_t)floor((double)(count * n) / (double)k);
            window[count][1] = (int64_t)ceil((double)((count + 1) * n) / (double)k);
            window[count][2] = window[count][1] - window[count][0];
        }
        return count;
    }
    for (int64_t start = -p; i[P_CEIL] ? start < n && start + k < n + p + s : start + k <= n + p;
         start += s, count++) {
        int64_t end = start + k > n + p ? n + p : start + k;
        window[count][2] = end - start;
        window[count][0] = start < 0 ? 0 : start;
        window[count][1] = end > n ? n : end;
    }
    return count;
}

static void random_windows(uint64_t *s, int64_t *i) {
    memset(i, 0, 11 * sizeof *i);
    i[P_ADAPTIVE] = below(s, 4) == 0;
    i[P_CEIL] = below(s, 2);
    i[P_COUNT] = below(s, 2);
    for (int axis = 0; axis < 2; axis++) {
        i[P_KH + axis] = 1 + below(s, 4);
        i[P_SH + axis] = 1 + below(s, 3);
        i[P_PH + axis] = below(s, i[P_KH + axis] / 2 + 1);
        i[P_H + axis] = i[P_KH + axis] + below(s, 7);
    }
}

static double few(uint64_t *s) {
    return below(s, 40) == 0   ? (double)NAN
           : below(s, 30) == 0 ? -(double)INFINITY
                               : (double)(below(s, 7) - 3);
}

static int64_t pixel(const tarn_tensor *x, int64_t n, int64_t h, int64_t w, int64_t c) {
    return ((n * x->shape[1] + h) * x->shape[2] + w) * x->shape[3] + c;
}

static void pooling(void **state) {
    for (uint64_t seed = 1; seed <= 150; seed++) {
        uint64_t s = seed * 104729;
        int64_t i[11], rows[64][3], cols[64][3];
        random_windows(&s, i);
        const int64_t shape[4] = {below(&s, 9) == 0 ? 0 : 1 + below(&s, 3), i[P_H], i[P_W],
                                  1 + below(&s, 20)};
        int64_t oh = naive_windows(i, 0, rows), ow = naive_windows(i, 1, cols);
        tarn_tensor x = any_view(&row_context[0], below(&s, 2) ? TARN_F32 : TARN_F64, 4, shape, &s);
        fill_any(&x, &s, few);
        tarn_attr a = {.ni = 11, .i = i}, image = {.ni = 2, .i = i + P_H};
        tarn_tensor mean = run_row(&tarn_op_pool_mean, 1, &x, &a),
                    index = run_row(&tarn_op_pool_index, 1, &x, &a);
        tarn_tensor both[2] = {x, index};
        tarn_tensor top = run_row(&tarn_op_pool_take, 2, both, &image);
        both[0] = top;
        tarn_tensor put = run_row(&tarn_op_pool_put, 2, both, &image),
                    spread = run_row(&tarn_op_pool_spread, 1, &mean, &a);
        const int64_t out[4] = {shape[0], oh, ow, shape[3]};
        assert_true(tarn_shape_equal(mean.rank, mean.shape, 4, out));
        assert_true(tarn_shape_equal(index.rank, index.shape, 4, out));
        assert_true(tarn_shape_equal(put.rank, put.shape, 4, shape));
        assert_true(tarn_shape_equal(spread.rank, spread.shape, 4, shape));
        double *want_put = calloc((size_t)tarn_tensor_numel(&x) + 1, sizeof *want_put);
        double *want_spread = calloc((size_t)tarn_tensor_numel(&x) + 1, sizeof *want_spread);
        int64_t at = 0;
        for (int64_t n = 0; n < out[0]; n++)
            for (int64_t r = 0; r < oh; r++)
                for (int64_t q = 0; q < ow; q++)
                    for (int64_t c = 0; c < out[3]; c++, at++) {
                        double best = -(double)INFINITY, sum = 0;
                        int64_t where = -1;
                        int64_t area = i[P_COUNT]
                                           ? rows[r][2] * cols[q][2]
                                           : (rows[r][1] - rows[r][0]) * (cols[q][1] - cols[q][0]);
                        for (int64_t h = rows[r][0]; h < rows[r][1]; h++)
                            for (int64_t w = cols[q][0]; w < cols[q][1]; w++) {
                                double v = tarn_tensor_get(&x, pixel(&x, n, h, w, c));
                                sum += v;
                                if (where < 0 || v > best || (isnan(v) && !isnan(best))) {
                                    best = v;
                                    where = h * i[P_W] + w;
                                }
                                want_spread[pixel(&x, n, h, w, c)] +=
                                    tarn_tensor_get(&mean, at) / (double)area;
                            }
                        same_number("mean", tarn_tensor_get(&mean, at), sum / (double)area, 1e-6);
                        assert_int_equal(tarn_tensor_get_int(&index, at), where);
                        same_number("max", tarn_tensor_get(&top, at), best, 0);
                        want_put[pixel(&x, n, where / i[P_W], where % i[P_W], c)] += best;
                    }
        assert_int_equal(at, tarn_tensor_numel(&mean));
        for (int64_t k = 0; k < tarn_tensor_numel(&x); k++) {
            same_number("put", tarn_tensor_get(&put, k), want_put[k], 0);
            same_number("spread", tarn_tensor_get(&spread, k), want_spread[k], 1e-6);
        }
        free(want_put);
        free(want_spread);
        tarn_tensor *all[] = {&x, &mean, &index, &top, &put, &spread};
        for (int k = 0; k < 6; k++) {
            tarn_tensor_release(all[k]);
        }
    }
}

// ---- what is refused ----

static void refused(const tarn_op *op, int nin, const tarn_desc *in, const int64_t *i, int ni,
                    const char *code, const char *message) {
    tarn_error err = {0};
    tarn_desc out;
    tarn_attr a = {.ni = ni, .i = i};
    assert_int_equal(tarn_op_infer(op, nin, in, &a, &out, &err), TARN_ERROR);
    assert_string_equal(err.code, code);
    assert_string_equal(err.message, message);
}

static void errors(void **state) {
    const tarn_desc x = {.dtype = TARN_F32, .rank = 4, .shape = {2, 8, 8, 3}},
                    flat = {.dtype = TARN_F32, .rank = 2};
    const tarn_desc w = {.dtype = TARN_F32, .rank = 4, .shape = {6, 3, 3, 3}},
                    y = {.dtype = TARN_F32, .rank = 4, .shape = {2, 6, 6, 6}};
    tarn_desc odd = x, in[2] = {x, w};
    int64_t i[ATTRIBUTES] = {1, 1, 0, 0, 1, 1, 1, 3, 3, 8, 8};
    const tarn_op *f = &tarn_op_conv2d;
    refused(f, 2, in, i, 3, "Argument",
            "conv2d: attributes are stride, padding, dilation, groups, kernel and image");
    i[SW] = 0;
    refused(f, 2, in, i, 11, "Argument", "conv2d: stride is 0; expected 1 to 2^31");
    i[SW] = 1, i[GROUPS] = 2;
    refused(f, 2, in, i, 11, "ShapeMismatch",
            "conv2d: groups = 2 must divide 3 channels in and 6 out");
    i[GROUPS] = 1, in[0].shape[3] = 4;
    refused(f, 2, in, i, 11, "ShapeMismatch",
            "conv2d: expected a weight of 4 channels in (4 of the image, groups = 1), got 3");
    in[0] = flat;
    refused(f, 2, in, i, 11, "Rank",
            "conv2d: expected the image [n, height, width, channels], got rank 2");
    in[0] = x, i[DH] = 4;
    refused(f, 2, in, i, 11, "ShapeMismatch",
            "conv2d: a kernel of height 3 with dilation 4 reaches over 9 pixels; the image has 8, "
            "with padding 8");
    i[DH] = 1, i[KH] = 2;
    refused(f, 2, in, i, 11, "ShapeMismatch", "conv2d: expected a kernel of 2 x 3, got 3 x 3");
    i[KH] = 3, in[0] = y, in[0].shape[1] = 5;
    refused(&tarn_op_conv2d_input, 2, in, i, 11, "ShapeMismatch",
            "conv2d_input: expected a map of 6 x 6, got 5 x 6");
    in[0] = y, in[0].shape[3] = 7;
    refused(&tarn_op_conv2d_input, 2, in, i, 11, "ShapeMismatch",
            "conv2d_input: expected a map of 6 channels, as the weight has, got 7");
    in[0] = x, in[1] = y, in[1].shape[0] = 3;
    refused(&tarn_op_conv2d_weight, 2, in, i, 11, "ShapeMismatch",
            "conv2d_weight: expected a map of 2 images, got 3");
    int64_t p[11] = {2, 2, 2, 2, 0, 0, 0, 0, 0, 8, 8};
    p[P_PW] = 2;
    refused(&tarn_op_pool_mean, 1, &x, p, 11, "Argument",
            "pool_mean: padding 2 for a kernel width of 2; expected half of it at most");
    p[P_PW] = 0, p[P_KH] = 9;
    refused(&tarn_op_pool_index, 1, &x, p, 11, "ShapeMismatch",
            "pool_index: a kernel of height 9 meets an image of 8, with padding 8");
    p[P_KH] = 0;
    refused(&tarn_op_pool_mean, 1, &x, p, 11, "Argument",
            "pool_mean: kernel height 0 with stride 2; expected both from 1");
    p[P_KH] = 2, p[P_H] = odd.shape[1] = 0;
    refused(&tarn_op_pool_mean, 1, &odd, p, 11, "ShapeMismatch",
            "pool_mean: the image has no pixels: its height is 0");
    in[0] = x, in[1] = x;
    refused(&tarn_op_pool_take, 2, in, p + P_H, 2, "Dtype",
            "pool_take: the index is f32; expected i32");
    // A place outside the image is found when it is met.
    const int64_t shape[4] = {1, 2, 2, 1}, one[4] = {1, 1, 1, 1}, size[2] = {2, 2};
    tarn_error err = {0};
    tarn_attr a = {.ni = 2, .i = size};
    tarn_tensor image = filled(&row_context[0], TARN_F32, 4, shape, 1),
                index = filled(&row_context[0], TARN_I32, 4, one, 1), out;
    tarn_tensor_set(&index, 0, 4);
    tarn_tensor both[2] = {image, index};
    assert_int_equal(tarn_op_apply(&row_context[0], &tarn_op_pool_take, 2, both, &a, &out, &err),
                     TARN_ERROR);
    assert_string_equal(err.message, "pool_take: place 4 of an image of 4 pixels");
    tarn_tensor_release(&image);
    tarn_tensor_release(&index);
}

// ---- the workspace promised is enough, and what is taken ----

enum { CAST = 24 << 10, HEADERS = 4096 };  // bytes: tiles of a cast, headers of storages

static void promise(tarn_context *cx, const tarn_op *op, int n, const tarn_tensor *in,
                    const tarn_attr *a) {
    tarn_desc d[2], result;
    tarn_tensor out;
    tarn_error err = {0};
    for (int k = 0; k < n; k++) {
        tarn_desc_of(&in[k], &d[k]);
    }
    OK(tarn_op_infer(op, n, d, a, &result, &err));
    size_t own = tarn_dtype_bytes(result.dtype, tarn_desc_numel(&result)), before = cx->budget.used;
    size_t promised = op->workspace(n, d, a, &result, tarn_pool_size(cx->pool));
    atomic_store(&cx->budget.peak, before);
    OK(tarn_op_apply(cx, op, n, in, a, &out, &err));
    size_t taken = cx->budget.peak - before - own;
    if (taken > promised + CAST + HEADERS || taken + HEADERS < promised) {
        fail_msg("%s promises %zu bytes and takes %zu", op->name, promised, taken);
    }
    tarn_tensor_release(&out);
    size_t limit = cx->budget.limit;  // half of it is out of memory, and nothing is kept
    cx->budget.limit = before + own + promised / 2;
    assert_int_equal(tarn_op_apply(cx, op, n, in, a, &out, &err), TARN_NOMEM);
    cx->budget.limit = limit;
    assert_int_equal(cx->budget.used, before);
}

// Operands in bf16: those that are plain already are promised a copy that they do not need.
static void workspace(void **state) {
    static const int64_t cases[][ATTRIBUTES] = {{1, 1, 1, 1, 1, 1, 1, 3, 3, 20, 15},
                                                {2, 2, 1, 1, 1, 1, 1, 3, 3, 21, 15},
                                                {1, 1, 0, 0, 1, 1, 1, 1, 1, 20, 15},
                                                {1, 1, 1, 1, 1, 1, 53, 3, 3, 40, 30},
                                                {1, 2, 1, 1, 2, 1, 3, 3, 3, 20, 15}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        bool deep = cases[k][GROUPS] == 53;
        shapes z = shape_of(cases[k], 9, deep ? 1 : 32, deep ? 1 : 61);
        for (int c = 0; c < 3; c++) {
            tarn_context *cx = &row_context[c];
            tarn_attr a = {.ni = ATTRIBUTES, .i = z.i}, image = {.ni = 2, .i = z.i + H};
            const int64_t window[11] = {3, 2, 2, 1, 1, 0, 1, 0, 0, z.i[H], z.i[W]};
            tarn_attr pool = {.ni = 11, .i = window};
            tarn_tensor x = filled(cx, TARN_BF16, 4, z.x, 1), w = filled(cx, TARN_BF16, 4, z.w, 2);
            tarn_tensor y = filled(cx, TARN_BF16, 4, z.y, 3), index;
            tarn_error err = {0};
            tarn_tensor in[4][2] = {{x, w}, {y, w}, {x, y}};
            promise(cx, &tarn_op_conv2d, 2, in[0], &a);
            promise(cx, &tarn_op_conv2d_input, 2, in[1], &a);
            promise(cx, &tarn_op_conv2d_weight, 2, in[2], &a);
            promise(cx, &tarn_op_pool_mean, 1, &x, &pool);
            OK(tarn_op_apply(cx, &tarn_op_pool_index, 1, &x, &pool, &index, &err));
            int64_t wider[4] = {index.shape[0], index.shape[1], index.shape[2], index.shape[3] + 1};
            tarn_tensor strided = filled(cx, TARN_I32, 4, wider, 4), both[2];
            strided.shape[3]--;
            for (int64_t e = 0; e < tarn_tensor_numel(&index); e++) {
                tarn_tensor_set(&strided, e, tarn_tensor_get(&index, e));
            }
            both[0] = x, both[1] = strided;
            promise(cx, &tarn_op_pool_take, 2, both, &image);
            tarn_tensor *all[] = {&x, &w, &y, &index, &strided};
            for (int t = 0; t < 5; t++) {
                tarn_tensor_release(all[t]);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(family),  cmocka_unit_test(chosen), cmocka_unit_test(adjoints),
        cmocka_unit_test(pooling), cmocka_unit_test(errors), cmocka_unit_test(workspace),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
