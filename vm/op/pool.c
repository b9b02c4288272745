// SPDX-License-Identifier: Apache-2.0
// Pooling of channels-last images. The mean over windows and its adjoint are linear rows of their
// own. The maximum is split: pool_index finds where it lies (it does not move, so its derivative is
// zero), pool_take picks values at such places and pool_put adds values there: linear, each the
// other's adjoint. So derivatives of every order stay within these rows. Of equal values the first
// counts; a NaN counts as largest, the first one. An index is stored as i32, since a derivative
// keeps it. Windows are those of PyTorch, including ceil_mode and adaptive sizes.
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/axes.h"
#include "vm/op/kernel/fused.h"
#include "vm/op/rules.h"

#define X (y->in[0])

// Attributes of a row over windows: kernel (adaptive: size of the result) height and width, stride,
// padding, ceil_mode, count_include_pad, adaptive, height and width of the image.
enum { KH, KW, SH, SW, PH, PW, CEIL, COUNT_PAD, ADAPTIVE, H, W, ATTRIBUTES };

// ---- windows ----

// Number of windows along one axis.
static int64_t windows(const int64_t *i, int axis) {
    int64_t k = i[KH + axis], s = i[SH + axis], p = i[PH + axis], n = i[H + axis];
    if (i[ADAPTIVE]) {
        return k;
    }
    int64_t room = n + 2 * p - k, count = (room + (i[CEIL] ? s - 1 : 0)) / s + 1;
    return i[CEIL] && (count - 1) * s >= n + p ? count - 1
                                               : count;  // none starts in the padding behind
}

// Pixels [from, to) of window `at`; `all` counts padding.
static void window(const int64_t *i, int axis, int64_t at, int64_t *from, int64_t *to,
                   int64_t *all) {
    int64_t k = i[KH + axis], n = i[H + axis];
    if (i[ADAPTIVE]) {
        *from = at * n / k;
        *to = ((at + 1) * n + k - 1) / k;
        *all = *to - *from;
        return;
    }
    int64_t start = at * i[SH + axis] - i[PH + axis], end = start + k;
    end = end < n + i[PH + axis] ? end : n + i[PH + axis];
    *all = end - start;
    *from = start > 0 ? start : 0;
    *to = end < n ? end : n;
}

static tarn_status check_windows(const tarn_attr *a, tarn_error *err) {
    static const char *const names[] = {"height", "width"};
    if (a->ni != ATTRIBUTES) {
        TARN_RAISE(err, "Argument", "attributes are kernel, stride, padding, options and image");
    }
    for (int k = 0; k < ATTRIBUTES; k++) {
        if (a->i[k] < 0 || a->i[k] > INT32_MAX) {
            TARN_RAISE(err, "Argument", "a size of %lld; expected 0 to 2^31", (long long)a->i[k]);
        }
    }
    for (int axis = 0; axis < 2; axis++) {
        int64_t k = a->i[KH + axis], p = a->i[PH + axis], n = a->i[H + axis];
        if (k < 1 || a->i[SH + axis] < 1) {
            TARN_RAISE(err, "Argument", "kernel %s %lld with stride %lld; expected both from 1",
                       names[axis], (long long)k, (long long)a->i[SH + axis]);
        }
        if (n == 0) {
            TARN_RAISE(err, "ShapeMismatch", "the image has no pixels: its %s is 0", names[axis]);
        }
        if (a->i[ADAPTIVE]) {
            continue;
        }
        if (p > k / 2) {
            TARN_RAISE(err, "Argument",
                       "padding %lld for a kernel %s of %lld; expected half of it at most",
                       (long long)p, names[axis], (long long)k);
        }
        if (n + 2 * p < k) {
            TARN_RAISE(err, "ShapeMismatch",
                       "a kernel of %s %lld meets an image of %lld, with padding %lld", names[axis],
                       (long long)k, (long long)n, (long long)(n + 2 * p));
        }
    }
    return TARN_OK;
}

static tarn_status check_image(const tarn_desc *d, const char *what, int64_t h, int64_t w,
                               tarn_error *err) {
    if (d->rank != 4) {
        TARN_RAISE(err, "Rank", "expected %s [n, height, width, channels], got rank %d", what,
                   d->rank);
    }
    if (d->shape[1] != h || d->shape[2] != w) {
        TARN_RAISE(err, "ShapeMismatch", "expected %s of %lld x %lld, got %lld x %lld", what,
                   (long long)h, (long long)w, (long long)d->shape[1], (long long)d->shape[2]);
    }
    return TARN_OK;
}

static tarn_status check_area(int64_t h, int64_t w, int64_t *area, tarn_error *err) {
    if (!tarn_mul_i64(h, w, area) || *area > INT32_MAX) {
        TARN_RAISE(err, "Argument", "an image of %lld x %lld; expected fewer than 2^31 pixels",
                   (long long)h, (long long)w);
    }
    return TARN_OK;
}

static void image_desc(const tarn_desc *like, tarn_dtype dtype, int64_t h, int64_t w,
                       tarn_desc *out) {
    *out = (tarn_desc){.dtype = dtype, .rank = 4, .shape = {like->shape[0], h, w, like->shape[3]}};
}
static tarn_dtype floating(const tarn_desc *d) {
    return tarn_dtype_compute(d->dtype) == TARN_F64 ? TARN_F64 : TARN_F32;
}

#define INFER(name)                                                                                \
    static tarn_status name(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,      \
                            tarn_error *err)
INFER(infer_mean) {
    (void)nin;
    TARN_TRY(check_windows(a, err));
    TARN_TRY(check_image(&in[0], "an image", a->i[H], a->i[W], err));
    image_desc(&in[0], floating(&in[0]), windows(a->i, 0), windows(a->i, 1), out);
    return TARN_OK;
}
INFER(infer_index) {
    TARN_TRY(infer_mean(nin, in, a, out, err));
    int64_t area;
    out->dtype = TARN_I32;
    return check_area(a->i[H], a->i[W], &area, err);
}
INFER(infer_spread) {
    (void)nin;
    TARN_TRY(check_windows(a, err));
    TARN_TRY(check_image(&in[0], "a map", windows(a->i, 0), windows(a->i, 1), err));
    image_desc(&in[0], floating(&in[0]), a->i[H], a->i[W], out);
    return TARN_OK;
}
static tarn_status check_index(const tarn_desc *in, const tarn_attr *a, tarn_error *err) {
    int64_t area;
    if (a->ni != 2 || a->i[0] < 0 || a->i[1] < 0) {
        TARN_RAISE(err, "Argument", "attributes are the image's height and width");
    }
    TARN_TRY(check_area(a->i[0], a->i[1], &area, err));
    if (in[1].dtype != TARN_I32) {
        TARN_RAISE(err, "Dtype", "the index is %s; expected i32",
                   tarn_dtype_get(in[1].dtype)->name);
    }
    if (in[1].rank != 4 || in[0].rank != 4 || in[1].shape[0] != in[0].shape[0] ||
        in[1].shape[3] != in[0].shape[3]) {
        TARN_RAISE(err, "ShapeMismatch",
                   "expected an index of as many images and channels as the operand");
    }
    return TARN_OK;
}
INFER(infer_take) {
    (void)nin;
    TARN_TRY(check_index(in, a, err));
    TARN_TRY(check_image(&in[0], "an image", a->i[0], a->i[1], err));
    image_desc(&in[1], floating(&in[0]), in[1].shape[1], in[1].shape[2], out);
    return TARN_OK;
}
INFER(infer_put) {
    (void)nin;
    TARN_TRY(check_index(in, a, err));
    TARN_TRY(check_image(&in[0], "a map", in[1].shape[1], in[1].shape[2], err));
    image_desc(&in[0], floating(&in[0]), a->i[0], a->i[1], out);
    return TARN_OK;
}

// ---- running: one task for each image ----

typedef struct {
    const tarn_op *op;
    const int64_t *i;
    int64_t c, in_image, index_image, out_image;  // channels; elements of one image of each
    int64_t oh, ow;                               // windows
    const void *in;
    const int32_t *index;
    void *out;
    const tarn_fused_kernels *kernels;
    double *sums;  // [workers, c]
} pooling;

#define IMAGE(T)                                                                                   \
    const int64_t c = p->c, w = p->i[W];                                                           \
    const T *in = (const T *)p->in + image * p->in_image;                                          \
    (void)w
#define EACH_WINDOW                                                                                \
    int64_t r0, r1, q0, q1, high, wide;                                                            \
    for (int64_t r = 0; r < p->oh; r++)                                                            \
        for (int64_t q = 0; q < p->ow; q++)                                                        \
            if (window(p->i, 0, r, &r0, &r1, &high), window(p->i, 1, q, &q0, &q1, &wide), true)
#define AREA ((double)(p->i[COUNT_PAD] ? high * wide : (r1 - r0) * (q1 - q0)))

#define KERNELS(T)                                                                                 \
    static void mean_##T(const pooling *p, int64_t image, double *sum) {                           \
        IMAGE(T);                                                                                  \
        T *out = (T *)p->out + image * p->out_image;                                               \
        EACH_WINDOW {                                                                              \
            memset(sum, 0, (size_t)c * sizeof *sum);                                               \
            for (int64_t a = r0; a < r1; a++) {                                                    \
                for (int64_t b = q0; b < q1; b++) {                                                \
                    const T *x = in + (a * w + b) * c;                                             \
                    for (int64_t k = 0; k < c; k++) {                                              \
                        sum[k] += (double)x[k];                                                    \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
            for (int64_t k = 0; k < c; k++) {                                                      \
                *out++ = (T)(sum[k] / AREA);                                                       \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void spread_##T(const pooling *p, int64_t image) {                                      \
        IMAGE(T);                                                                                  \
        T *out = (T *)p->out + image * p->out_image;                                               \
        EACH_WINDOW {                                                                              \
            const T *x = in + (r * p->ow + q) * c;                                                 \
            const T share = (T)(1 / AREA);                                                         \
            for (int64_t a = r0; a < r1; a++) {                                                    \
                for (int64_t b = q0; b < q1; b++) {                                                \
                    T *restrict to = out + (a * w + b) * c;                                        \
                    for (int64_t k = 0; k < c; k++) {                                              \
                        to[k] += x[k] * share;                                                     \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void index_##T(const pooling *p, int64_t image) {                                       \
        IMAGE(T);                                                                                  \
        int32_t *out = (int32_t *)p->out + image * p->out_image;                                   \
        EACH_WINDOW {                                                                              \
            int64_t first = r0 * w + q0;                                                           \
            p->kernels->largest_at(c, r1 - r0, q1 - q0, w, in + first * c, first, out);            \
            out += c;                                                                              \
        }                                                                                          \
    }                                                                                              \
    static void take_##T(const pooling *p, int64_t image) {                                        \
        const T *in = (const T *)p->in + image * p->in_image;                                      \
        const int32_t *index = p->index + image * p->index_image;                                  \
        T *out = (T *)p->out + image * p->out_image;                                               \
        for (int64_t at = 0; at < p->index_image; at += p->c) {                                    \
            for (int64_t k = 0; k < p->c; k++) {                                                   \
                out[at + k] = in[index[at + k] * p->c + k];                                        \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static void put_##T(const pooling *p, int64_t image) {                                         \
        const T *in = (const T *)p->in + image * p->in_image;                                      \
        const int32_t *index = p->index + image * p->index_image;                                  \
        T *out = (T *)p->out + image * p->out_image;                                               \
        for (int64_t at = 0; at < p->index_image; at += p->c) {                                    \
            for (int64_t k = 0; k < p->c; k++) {                                                   \
                out[index[at + k] * p->c + k] += in[at + k];                                       \
            }                                                                                      \
        }                                                                                          \
    }
KERNELS(float)
KERNELS(double)

typedef struct {
    pooling p;
    bool f64;
    int64_t area;  // pixels that an index may name
    void (*run[2])(const pooling *p, int64_t image);
    void (*sum[2])(const pooling *p, int64_t image, double *scratch);
} job;

static tarn_status image_task(void *arg, int64_t image, int worker, tarn_error *err) {
    const job *j = arg;
    const pooling *p = &j->p;
    const int32_t *index = p->index + image * p->index_image;
    int32_t least = 0, most = 0;
    for (int64_t k = 0; k < p->index_image; k++) {
        least = index[k] < least ? index[k] : least;
        most = index[k] > most ? index[k] : most;
    }
    if (p->index_image > 0 && (least < 0 || most >= j->area)) {
        TARN_RAISE(err, "IndexRange", "%s: place %d of an image of %lld pixels", p->op->name,
                   least < 0 ? least : most, (long long)j->area);
    }
    if (j->sum[0]) {
        j->sum[j->f64](p, image, p->sums + (size_t)worker * (size_t)p->c);
    } else {
        j->run[j->f64](p, image);
    }
    return TARN_OK;
}

// in: plain, and the index where there is one.
static tarn_status run(tarn_context *cx, job *j, const tarn_tensor *in, const tarn_tensor *index,
                       const tarn_attr *a, tarn_tensor *out, tarn_error *err) {
    int64_t images = out->shape[0], threads = tarn_pool_size(cx->pool);
    pooling *p = &j->p;
    if (tarn_tensor_numel(out) == 0) {
        return TARN_OK;
    }
    p->i = a->i;
    p->c = out->shape[3];
    p->in_image = tarn_tensor_numel(in) / images;
    p->out_image = tarn_tensor_numel(out) / images;
    p->in = tarn_tensor_data(in);
    p->out = tarn_tensor_data(out);
    if (index) {
        p->index_image = tarn_tensor_numel(index) / images;
        p->index = tarn_tensor_data(index);
        j->area = a->i[0] * a->i[1];
    } else {
        p->oh = windows(a->i, 0);
        p->ow = windows(a->i, 1);
    }
    j->f64 = in->dtype == TARN_F64;
    p->kernels = tarn_fused(cx->isa, in->dtype);
    bool small = tarn_tensor_numel(in) + tarn_tensor_numel(out) < 1 << 15;
    size_t bytes = j->sum[0] ? (size_t)(p->c * threads) * sizeof(double) : 0;
    p->sums = tarn_alloc(&cx->budget, bytes);
    if (!p->sums) {
        return tarn_raise_nomem(err, p->op->name, bytes);
    }
    tarn_status s = tarn_pool_run(small ? NULL : cx->pool, images, image_task, j, &cx->cancel, err);
    tarn_free(&cx->budget, p->sums, bytes);
    return s;
}

static tarn_status apply(tarn_context *cx, job *j, int nin, const tarn_tensor *in,
                         const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                         tarn_error *err) {
    tarn_tensor plain = {0}, index = {0};
    tarn_desc x;
    tarn_desc_of(&in[0], &x);
    TARN_TRY(tarn_result(cx, d, out, err));
    memset(tarn_tensor_data(out), 0, tarn_dtype_bytes(d->dtype, tarn_desc_numel(d)));
    tarn_status s = tarn_tensor_plain(cx, &in[0], floating(&x), &plain, err);
    if (s == TARN_OK && nin == 2) {
        s = tarn_tensor_plain(cx, &in[1], TARN_I32, &index, err);
    }
    if (s == TARN_OK) {
        s = run(cx, j, &plain, nin == 2 ? &index : NULL, a, out, err);
    }
    tarn_tensor_release(&plain);
    tarn_tensor_release(&index);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

static size_t workspace_pool(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                             int threads) {
    (void)a;
    size_t image = tarn_dtype_bytes(floating(&in[0]), tarn_desc_numel(&in[0]));
    return image + (nin == 2 ? tarn_dtype_bytes(TARN_I32, tarn_desc_numel(&in[1]))
                             : (size_t)out->shape[3] * (size_t)threads * sizeof(double));
}

// ---- derivatives and axes ----

static const tarn_node *row(tarn_graph *g, const tarn_op *op, const tarn_node *x,
                            const tarn_node *y) {
    const tarn_node *in[2] = {x, y->nin == 2 ? y->in[1] : NULL};
    return tarn_node_make(g, op, y->nin, in, &y->attr);
}
static const tarn_op *adjoint(const tarn_op *op) {
    return op == &tarn_op_pool_mean     ? &tarn_op_pool_spread
           : op == &tarn_op_pool_spread ? &tarn_op_pool_mean
           : op == &tarn_op_pool_take   ? &tarn_op_pool_put
                                        : &tarn_op_pool_take;
}
TARN_VJP(vjp_pool) {
    const tarn_node *d = which == 0 ? row(g, adjoint(y->op), gy, y) : NULL;
    return d ? tarn_unbroadcast(g, d, X) : NULL;
}
TARN_JVP(jvp_pool) { return dx[0] ? row(g, y->op, dx[0], y) : NULL; }

static void images_and_channels(tarn_axes *t, const tarn_node *x, const tarn_node *y,
                                tarn_group g) {
    tarn_axes_link(t, x, 0, y, 0, g);
    tarn_axes_link(t, x, 3, y, 3, g);
    for (int k = 1; k < 3; k++) {
        tarn_axes_limit(t, x, k, TARN_GROUP_NONE);
        tarn_axes_limit(t, y, k, TARN_GROUP_NONE);
    }
}
static void axes_mean(tarn_axes *t, const tarn_node *y) {
    images_and_channels(t, X, y, TARN_GROUP_LINEAR);
}
// Places of the largest stay where they are under positive factors.
static void axes_index(tarn_axes *t, const tarn_node *y) {
    images_and_channels(t, X, y, TARN_GROUP_SCALED);
}
static void axes_by_index(tarn_axes *t, const tarn_node *y) {
    images_and_channels(t, X, y, TARN_GROUP_SCALED);
    images_and_channels(t, y->in[1], y, TARN_GROUP_SCALED);
}

// ---- the rows ----

#define ROW(NAME, COUNT, KERNEL, KIND, ...)                                                        \
    static tarn_status apply_##NAME(tarn_context *cx, int nin, const tarn_tensor *in,              \
                                    const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,      \
                                    tarn_error *err) {                                             \
        job j = {.p = {.op = &tarn_op_##NAME}, .KIND = {KERNEL##_float, KERNEL##_double}};         \
        return apply(cx, &j, nin, in, a, d, out, err);                                             \
    }                                                                                              \
    const tarn_op tarn_op_##NAME = {.name = #NAME,                                                 \
                                    .version = 1,                                                  \
                                    .cls = TARN_CLASS_WHOLE,                                       \
                                    .min_in = COUNT,                                               \
                                    .max_in = COUNT,                                               \
                                    .apply = apply_##NAME,                                         \
                                    .placed = true,                                                \
                                    .workspace = workspace_pool,                                   \
                                    __VA_ARGS__};
ROW(pool_mean, 1, mean, sum, .infer = infer_mean, .vjp = vjp_pool, .jvp = jvp_pool,
    .axes = axes_mean, .summary = "means over windows of channels-last images")
ROW(pool_spread, 1, spread, run, .infer = infer_spread, .vjp = vjp_pool, .jvp = jvp_pool,
    .axes = axes_mean,
    .summary = "each window's value shared out over its pixels: the adjoint of pool_mean")
ROW(pool_index, 1, index, run, .infer = infer_index, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero,
    .axes = axes_index,
    .summary =
        "where the largest pixel of each window lies, as row times width plus column, from 0")
ROW(pool_take, 2, take, run, .infer = infer_take, .vjp = vjp_pool, .jvp = jvp_pool,
    .axes = axes_by_index, .summary = "pixels of channels-last images at the places of an index")
ROW(pool_put, 2, put, run, .infer = infer_put, .vjp = vjp_pool, .jvp = jvp_pool,
    .axes = axes_by_index,
    .summary = "zeros, with values added at the places of an index: the adjoint of pool_take")
