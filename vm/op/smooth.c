// SPDX-License-Identifier: Apache-2.0
// smooth(x): the median of the 3 x … x 3 neighbourhood of every element, then a Gaussian of standard
// deviation 1, cut off at 4, along every dimension; edges are mirrored with the edge element twice.
// It is what SciPy's median_filter(size = 3) and gaussian_filter(sigma = 1) do. A dimension of one
// element is left out: all that the filters would see along it is the element itself.
#include <string.h>

#include "vm/base/size.h"
#include "vm/op/kernel/math.h"
#include "vm/op/rules.h"

enum { RADIUS = 4, WINDOW = 6561, POLL = 1 << 14 };  // WINDOW: 3 to the power TARN_MAX_RANK

static tarn_status infer_smooth(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                tarn_error *err) {
    (void)nin, (void)a, (void)err;
    *out = in[0];
    out->weak = false;
    out->dtype = tarn_dtype_compute(in[0].dtype) == TARN_F64 ? TARN_F64 : TARN_F32;
    return TARN_OK;
}
static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    (void)nin, (void)out, (void)a, (void)threads;
    return 3 * sizeof(double) * (size_t)tarn_desc_numel(&in[0]);
}

typedef struct {
    int rank;  // of the dimensions that have more than one element
    int64_t shape[TARN_MAX_RANK], stride[TARN_MAX_RANK], n;
    const double *x;
    double *y;
    int64_t axis_stride, axis_size;
    double weight[RADIUS + 1];
} filter;

// … c b a | a b c | c b a …
static int64_t mirrored(int64_t i, int64_t n) {
    i %= 2 * n;
    i = i < 0 ? i + 2 * n : i;
    return i < n ? i : 2 * n - 1 - i;
}

// The middle of v[0 .. n), n odd; leaves v in another order.
static double middle(double *v, int n) {
    int low = 0, high = n - 1, want = n / 2;
    while (low < high) {
        double pivot = v[(low + high) / 2];
        int i = low, j = high;
        while (i <= j) {
            for (; v[i] < pivot; i++) {
            }
            for (; v[j] > pivot; j--) {
            }
            if (i <= j) {
                double t = v[i];
                v[i++] = v[j];
                v[j--] = t;
            }
        }
        if (want <= j) {
            high = j;
        } else if (want >= i) {
            low = i;
        } else {
            break;
        }
    }
    return v[want];
}

static double median_at(const filter *f, int64_t at) {
    double v[WINDOW];
    int64_t offset[WINDOW];
    int count = 1;
    offset[0] = 0;
    for (int d = 0; d < f->rank; d++) {
        int64_t i = at / f->stride[d] % f->shape[d], down = mirrored(i - 1, f->shape[d]) * f->stride[d];
        int64_t up = mirrored(i + 1, f->shape[d]) * f->stride[d], here = i * f->stride[d];
        for (int k = 0; k < count; k++) {
            offset[count + k] = offset[k] + down;
            offset[2 * count + k] = offset[k] + up;
            offset[k] += here;
        }
        count *= 3;
    }
    for (int k = 0; k < count; k++) {
        v[k] = f->x[offset[k]];
        if (v[k] != v[k]) {
            return v[k];  // NaN has no place in an order
        }
    }
    return middle(v, count);
}

static double gauss_at(const filter *f, int64_t at) {
    int64_t i = at / f->axis_stride % f->axis_size, start = at - i * f->axis_stride;
    double sum = f->weight[0] * f->x[at];
    for (int k = 1; k <= RADIUS; k++) {
        double left = f->x[start + mirrored(i - k, f->axis_size) * f->axis_stride];
        double right = f->x[start + mirrored(i + k, f->axis_size) * f->axis_stride];
        sum += f->weight[k] * (left + right);
    }
    return sum;
}

static tarn_status task_of(const filter *f, int64_t task, double (*value)(const filter *, int64_t)) {
    int64_t end = (task + 1) * POLL < f->n ? (task + 1) * POLL : f->n;
    for (int64_t i = task * POLL; i < end; i++) {
        f->y[i] = value(f, i);
    }
    return TARN_OK;
}
static tarn_status median_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    return task_of(arg, task, median_at);
}
static tarn_status gauss_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    return task_of(arg, task, gauss_at);
}

static void gaussian(double *weight) {
    double sum = 0;
    for (int k = 0; k <= RADIUS; k++) {
        weight[k] = tk_exp(-0.5 * k * k);
        sum += k > 0 ? 2 * weight[k] : weight[k];
    }
    for (int k = 0; k <= RADIUS; k++) {
        weight[k] /= sum;
    }
}

// From one buffer to the other and back; *result is where the last pass wrote.
static tarn_status filter_all(tarn_context *cx, filter *f, double *a, double *b, const double **result,
                              tarn_error *err) {
    int64_t tasks = (f->n + POLL - 1) / POLL;
    f->x = a;
    f->y = b;
    TARN_TRY(tarn_pool_run(cx->pool, tasks, median_task, f, &cx->cancel, err));
    for (int d = 0; d < f->rank; d++) {
        f->x = f->y;
        f->y = f->y == a ? b : a;
        f->axis_stride = f->stride[d];
        f->axis_size = f->shape[d];
        TARN_TRY(tarn_pool_run(cx->pool, tasks, gauss_task, f, &cx->cancel, err));
    }
    *result = f->y;
    return TARN_OK;
}

static tarn_status apply_smooth(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin, (void)a;
    filter f = {.n = tarn_desc_numel(d)};
    int64_t stride = 1;
    for (int k = d->rank - 1; k >= 0; k--) {
        if (d->shape[k] > 1) {
            f.shape[f.rank] = d->shape[k];
            f.stride[f.rank++] = stride;
        }
        stride *= d->shape[k];
    }
    gaussian(f.weight);
    size_t bytes = 2 * sizeof(double) * (size_t)f.n;
    tarn_tensor x = {0};
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    tarn_status s = tarn_tensor_plain(cx, &in[0], TARN_F64, &x, err);
    double *room = s == TARN_OK ? tarn_alloc(&cx->budget, bytes) : NULL;
    s = s != TARN_OK || room ? s : tarn_raise_nomem(err, "smooth", bytes);
    if (s == TARN_OK && f.n > 0) {
        const double *result = NULL;
        memcpy(room, tarn_tensor_data(&x), bytes / 2);
        s = filter_all(cx, &f, room, room + f.n, &result, err);
        for (int64_t i = 0; s == TARN_OK && i < f.n; i++) {
            tarn_tensor_set(out, i, result[i]);
        }
    }
    tarn_free(&cx->budget, room, bytes);
    tarn_tensor_release(&x);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

// ---- in other rows, for derivatives: medians by sorting, the Gaussian as a weighted sum of shifts ----

// x with position i + by in the place of i along an axis, mirrored at the ends.
static const tarn_node *shifted(tarn_graph *g, const tarn_node *x, int axis, int64_t by) {
    if (!x) {
        return NULL;
    }
    int64_t n = x->desc.shape[axis], shape[TARN_MAX_RANK], where = axis;
    tarn_tensor index;
    if (by == 0 || tarn_tensor_new(g->cx, TARN_I64, 1, &n, &index, &g->err) != TARN_OK) {
        return by == 0 ? x : NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        ((int64_t *)index.storage->data)[i] = mirrored(i + by, n);
    }
    for (int d = 0; d < x->desc.rank; d++) {
        shape[d] = d == axis ? n : 1;
    }
    const tarn_node *at = tarn_reshape(g, tarn_leaf_tensor(g, &index), x->desc.rank, shape);
    tarn_tensor_release(&index);
    const tarn_node *in[2] = {x, tarn_broadcast(g, at, x->desc.rank, x->desc.shape)};
    tarn_attr a = {.ni = 1, .i = &where};
    return tarn_node_make(g, &tarn_op_gather, 2, in, &a);
}

static const tarn_node *medians(tarn_graph *g, const tarn_node *x) {
    const tarn_node **near = tarn_arena_take(&g->arena, WINDOW * sizeof *near);
    int64_t shape[TARN_MAX_RANK + 1], up = 0;
    int count = 1, rank = x ? x->desc.rank : 0;
    if (!near) {
        tarn_raise_nomem(&g->err, "a derivative of smooth", WINDOW * sizeof *near);
    } else if (rank == TARN_MAX_RANK) {
        tarn_raise(&g->err, "Rank", "smooth: derivatives of at most %d dimensions", TARN_MAX_RANK - 1);
    }
    if (!x || g->err.status != TARN_OK) {
        return NULL;
    }
    near[0] = x;
    for (int d = 0; d < rank; d++) {
        if (x->desc.shape[d] > 1) {
            for (int k = 0; k < count; k++) {
                near[count + k] = shifted(g, near[k], d, -1);
                near[2 * count + k] = shifted(g, near[k], d, 1);
            }
            count *= 3;
        }
        shape[d] = x->desc.shape[d];
    }
    shape[rank] = 1;
    for (int k = 0; k < count; k++) {
        near[k] = tarn_reshape(g, near[k], rank + 1, shape);
    }
    const tarn_node *all = tarn_concat(g, count, near, rank);
    tarn_attr a = {.ni = 1, .i = &up};
    all = tarn_node_make(g, &tarn_op_sort, 1, &all, &a);
    return tarn_reshape(g, tarn_slice(g, all, rank, count / 2, 1), rank, shape);
}

static const tarn_node *decompose_smooth(tarn_graph *g, const tarn_node *y) {
    double weight[RADIUS + 1];
    const tarn_node *x = medians(g, tarn_cast(g, y->in[0], TARN_F64));
    gaussian(weight);
    for (int d = 0; d < y->desc.rank && x; d++) {
        const tarn_node *sum = tarn_mul(g, tarn_num(g, weight[0]), x);
        for (int k = 1; k <= RADIUS && y->desc.shape[d] > 1; k++) {
            const tarn_node *pair = tarn_add(g, shifted(g, x, d, -k), shifted(g, x, d, k));
            sum = tarn_add(g, sum, tarn_mul(g, tarn_num(g, weight[k]), pair));
        }
        x = y->desc.shape[d] > 1 ? sum : x;
    }
    return tarn_cast(g, x, y->desc.dtype);
}

const tarn_op tarn_op_smooth = {.name = "smooth", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1,
                                .max_in = 1, .infer = infer_smooth, .apply = apply_smooth,
                                .workspace = workspace, .decompose = decompose_smooth,
                                .summary = "median of the nearest neighbours, then a Gaussian of "
                                           "deviation 1, along every dimension"};
