// SPDX-License-Identifier: Apache-2.0
// sort and argsort along the last dimension. Elements become 64-bit keys whose unsigned order is that
// of the values (exact for every dtype), then a bottom-up merge sort of (key, index): stable, without
// recursion, and it polls the stop flag, which the library's qsort cannot. The values of a sorted row
// are copied by index, so they keep their bits.
#include <string.h>

#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"

typedef struct {
    uint64_t key;
    int64_t i;
} keyed;

// NaN sorts above everything; zeros of both signs are equal.
static uint64_t key_at(const tarn_tensor *t, int64_t i) {
    if (t->dtype == TARN_U64) {
        return (uint64_t)tarn_tensor_get_int(t, i);
    }
    if (!tarn_dtype_is_float(t->dtype)) {
        return (uint64_t)tarn_tensor_get_int(t, i) ^ 1ULL << 63;
    }
    double v = tarn_tensor_get(t, i);
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    return v != v ? UINT64_MAX : tarn_key64(u);
}

enum { POLL = 1 << 16 };  // elements merged between two looks at the stop flag

static tarn_status merge(tarn_context *cx, const keyed *a, int64_t n, int64_t m, keyed *out,
                         tarn_error *err) {
    const keyed *b = a + n;
    for (int64_t i = 0, j = 0; i + j < n + m;) {
        if ((i + j) % POLL == 0) {
            TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        }
        bool left = j == m || (i < n && a[i].key <= b[j].key);
        out[i + j] = left ? a[i] : b[j];
        i += left;
        j += !left;
    }
    return TARN_OK;
}

// Sorts row[0 .. n); spare holds as many. *sorted is where the result is.
static tarn_status merge_sort(tarn_context *cx, keyed *row, keyed *spare, int64_t n,
                              const keyed **sorted, tarn_error *err) {
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t at = 0; at < n; at += 2 * width) {
            int64_t left = n - at < width ? n - at : width;
            int64_t right = n - at - left < width ? n - at - left : width;
            TARN_TRY(merge(cx, row + at, left, right, spare + at, err));
        }
        keyed *other = row;
        row = spare;
        spare = other;
    }
    *sorted = row;
    return TARN_OK;
}

static tarn_status infer_sort(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                              tarn_error *err) {
    (void)nin;
    if (in[0].rank == 0 || a->ni != 1) {
        TARN_RAISE(err, "Rank", "expected a tensor of rank 1 or more, got rank %d", in[0].rank);
    }
    *out = in[0];
    out->weak = false;
    return TARN_OK;
}
static tarn_status infer_argsort(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    TARN_TRY(infer_sort(nin, in, a, out, err));
    out->dtype = TARN_I64;
    return TARN_OK;
}

static tarn_status sort_row(tarn_context *cx, const tarn_tensor *in, int64_t at, int64_t n,
                            bool descending, keyed *row, const keyed **sorted, tarn_error *err) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = key_at(in, at + i);
        row[i] = (keyed){descending ? ~key : key, i};
    }
    return merge_sort(cx, row, row + n, n, sorted, err);
}

static size_t row_bytes(const tarn_desc *d) {
    return 2 * (size_t)d->shape[d->rank - 1] * sizeof(keyed);
}

static tarn_status sort_rows(tarn_context *cx, const tarn_tensor *in, const tarn_attr *a,
                             const tarn_desc *d, bool indices, tarn_tensor *out, tarn_error *err) {
    int64_t n = d->shape[d->rank - 1], total = tarn_desc_numel(d);
    size_t size = (size_t)tarn_dtype_get(in->dtype)->bits / 8;
    TARN_TRY(tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err));
    tarn_tensor x = {0};
    tarn_status s = tarn_tensor_plain(cx, in, in->dtype, &x, err);
    keyed *row = s == TARN_OK ? tarn_alloc(&cx->budget, row_bytes(d)) : NULL;
    s = s != TARN_OK || row ? s : tarn_raise_nomem(err, "sort", row_bytes(d));
    for (int64_t at = 0; s == TARN_OK && at < total; at += n) {
        const keyed *sorted = NULL;
        s = sort_row(cx, &x, at, n, a->i[0] != 0, row, &sorted, err);
        for (int64_t i = 0; s == TARN_OK && i < n; i++) {
            if (indices) {
                ((int64_t *)out->storage->data)[at + i] = sorted[i].i;
            } else {
                memcpy((char *)out->storage->data + (size_t)(at + i) * size,
                       (const char *)tarn_tensor_data(&x) + (size_t)(at + sorted[i].i) * size, size);
            }
        }
    }
    tarn_free(&cx->budget, row, row_bytes(d));
    tarn_tensor_release(&x);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static tarn_status apply_sort(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                              const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin;
    return sort_rows(cx, in, a, d, false, out, err);
}
static tarn_status apply_argsort(tarn_context *cx, int nin, const tarn_tensor *in,
                                 const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                 tarn_error *err) {
    (void)nin;
    return sort_rows(cx, in, a, d, true, out, err);
}
static size_t workspace(int nin, const tarn_desc *in, const tarn_desc *out) {
    (void)nin;
    return row_bytes(out) + tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0]));
}

// Positions move in jumps: the derivative is zero everywhere it exists.
TARN_VJP(vjp_argsort) {
    (void)g, (void)y, (void)gy, (void)which;
    return NULL;
}
TARN_JVP(jvp_argsort) {
    (void)g, (void)y, (void)dx;
    return NULL;
}

const tarn_op tarn_op_sort = {.name = "sort", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 1,
                              .max_in = 1, .infer = infer_sort, .apply = apply_sort,
                              .workspace = workspace,
                              .summary = "elements in order along the last dimension; NaN counts as "
                                         "the largest"};
const tarn_op tarn_op_argsort = {.name = "argsort", .version = 1, .cls = TARN_CLASS_WHOLE,
                                 .min_in = 1, .max_in = 1, .infer = infer_argsort,
                                 .apply = apply_argsort, .workspace = workspace,
                                 .vjp = vjp_argsort, .jvp = jvp_argsort,
                                 .summary = "where the elements of sort come from: indices along the "
                                            "last dimension; equals keep their order"};
