// SPDX-License-Identifier: Apache-2.0
// sort, argsort and rank along the last dimension. Elements become unsigned keys whose order is
// that of the values (exact for every dtype), then a radix sort, least digit first, of (key,
// index): stable, linear, without recursion, and it polls the stop flag. Floats of at most 32 bits
// and their index share one 64-bit word; digits that all elements have in common cost nothing but
// their count; in rows of some thousands few elements differ in their lowest digits only, so those
// are left to an insertion that gives up, for all digits, when it has much to move. Such rows of
// 32-bit floats are first tried without digits: in buckets of equal width around the mean, where an
// insertion finds little to do unless the tails are heavy. The values of a sorted row are copied by
// index, so they keep their bits. Rows know nothing of each other: the same function serves tensors
// in memory and the bands of a stream.
#include <string.h>

#include "vm/op/convert.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/rules.h"

typedef uint64_t narrow;  // key << 32 | index
typedef uint32_t narrow_count;
typedef struct {
    uint64_t key, i;
} wide;
typedef uint64_t wide_count;

enum {
    POLL = 1 << 16,   // elements moved between two looks at the stop flag
    FEW = 32,         // elements that are sorted by insertion
    SHORT = 1024,     // elements from which digits of 11 bits pay, instead of 8
    LONG = 1 << 14,   // elements from which no digits are left to insertion
    FAR = 1 << 16,    // elements from which buckets leave the cache
    PER = 2,          // buckets for each element
    REACH = 6,        // mean distances from the mean that they cover
    BINS = 6 * 2048,  // counts of all digits, at most: 64 / 11 or 64 / 8 digits
};

static inline uint32_t narrow_key(const narrow *x) { return (uint32_t)(*x >> 32); }
static inline uint64_t wide_key(const wide *x) { return x->key; }
// Equals come by rising index, and stay so.
static inline bool narrow_after(const narrow *a, const narrow *b) { return *a > *b; }
static inline bool wide_after(const wide *a, const wide *b) { return a->key > b->key; }
static inline int64_t narrow_index(const narrow *x) { return (int64_t)(uint32_t)*x; }
static inline int64_t wide_index(const wide *x) { return (int64_t)x->i; }

// ---- sorting ----

// Where the elements of each digit begin; false: all have the same, and stay as they are.
#define STARTS(ITEM)                                                                               \
    static bool ITEM##_starts(ITEM##_count *count, int64_t bins, int64_t n) {                      \
        ITEM##_count at = 0;                                                                       \
        for (int64_t b = 0; b < bins; b++) {                                                       \
            ITEM##_count here = count[b];                                                          \
            if (here == (ITEM##_count)n) {                                                         \
                return false;                                                                      \
            }                                                                                      \
            count[b] = at;                                                                         \
            at += here;                                                                            \
        }                                                                                          \
        return true;                                                                               \
    }
STARTS(narrow)
STARTS(wide)

static inline size_t digit(uint64_t key, int d, int bits) {
    return (size_t)(key >> (d * bits)) & (((size_t)1 << bits) - 1);
}

// Sorts row[0 .. n) by its digits from the `first` on; spare holds as many. *sorted is where the
// result is.
#define RADIX(ITEM, WIDTH)                                                                         \
    static inline __attribute__((always_inline)) tarn_status ITEM##_digits(                        \
        tarn_context *cx, ITEM *row, ITEM *spare, ITEM##_count *count, int64_t n, const int first, \
        const int bits, ITEM **sorted, tarn_error *err) {                                          \
        const int digits = (WIDTH + bits - 1) / bits, bins = 1 << bits;                            \
        memset(count, 0, (size_t)(digits * bins) * sizeof *count);                                 \
        for (int64_t i = 0; i < n; i++) {                                                          \
            for (int d = first; d < digits; d++) {                                                 \
                (count + d * bins)[digit(ITEM##_key(&row[i]), d, bits)]++;                         \
            }                                                                                      \
        }                                                                                          \
        for (int d = first; d < digits; d++) {                                                     \
            ITEM##_count *next = count + d * bins;                                                 \
            if (!ITEM##_starts(next, bins, n)) {                                                   \
                continue;                                                                          \
            }                                                                                      \
            for (int64_t at = 0; at < n; at += POLL) {                                             \
                int64_t end = n - at < POLL ? n : at + POLL;                                       \
                TARN_TRY(tarn_cancel_check(&cx->cancel, err));                                     \
                for (int64_t i = at; i < end; i++) {                                               \
                    spare[next[digit(ITEM##_key(&row[i]), d, bits)]++] = row[i];                   \
                }                                                                                  \
            }                                                                                      \
            ITEM *other = row;                                                                     \
            row = spare;                                                                           \
            spare = other;                                                                         \
        }                                                                                          \
        *sorted = row;                                                                             \
        return TARN_OK;                                                                            \
    }                                                                                              \
    /* By insertion; false: given up after about `most` moves. */                                  \
    static bool ITEM##_insert(ITEM *row, int64_t n, int64_t most) {                                \
        for (int64_t i = 1; i < n && most >= 0; i++) {                                             \
            ITEM x = row[i];                                                                       \
            int64_t k = i;                                                                         \
            for (; k > 0 && ITEM##_after(&row[k - 1], &x); k--, most--) {                          \
                row[k] = row[k - 1];                                                               \
            }                                                                                      \
            row[k] = x;                                                                            \
        }                                                                                          \
        return most >= 0;                                                                          \
    }                                                                                              \
    static tarn_status ITEM##_radix(tarn_context *cx, ITEM *row, ITEM *spare, ITEM##_count *count, \
                                    int64_t n, bool all, ITEM **sorted, tarn_error *err) {         \
        const int low8 = (WIDTH + 7) / 8 / 3, low11 = (WIDTH + 10) / 11 / 3;                       \
        if (n < SHORT) {                                                                           \
            return all ? ITEM##_digits(cx, row, spare, count, n, 0, 8, sorted, err)                \
                       : ITEM##_digits(cx, row, spare, count, n, low8, 8, sorted, err);            \
        }                                                                                          \
        return all ? ITEM##_digits(cx, row, spare, count, n, 0, 11, sorted, err)                   \
                   : ITEM##_digits(cx, row, spare, count, n, low11, 11, sorted, err);              \
    }                                                                                              \
    static tarn_status ITEM##_sort(tarn_context *cx, ITEM *row, ITEM *spare, ITEM##_count *count,  \
                                   int64_t n, ITEM **sorted, tarn_error *err) {                    \
        *sorted = row;                                                                             \
        if (n <= FEW) {                                                                            \
            ITEM##_insert(row, n, FEW *FEW);                                                       \
            return TARN_OK;                                                                        \
        }                                                                                          \
        if (n < LONG) {                                                                            \
            TARN_TRY(ITEM##_radix(cx, row, spare, count, n, false, sorted, err));                  \
            if (ITEM##_insert(*sorted, n, n)) {                                                    \
                return TARN_OK;                                                                    \
            }                                                                                      \
        }                                                                                          \
        return ITEM##_radix(cx, *sorted, *sorted == row ? spare : row, count, n, true, sorted,     \
                            err);                                                                  \
    }
RADIX(narrow, 32)
RADIX(wide, 64)

// ---- keys: NaN sorts above everything; zeros of both signs are equal ----

static inline narrow narrow_of(float x, int64_t i, uint32_t flip) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    uint32_t key = (u & 0x7FFFFFFFU) > 0x7F800000U ? UINT32_MAX : tarn_key32(u);
    return (narrow)(key ^ flip) << 32 | (uint32_t)i;
}
static void narrow_keys(const float *x, int64_t n, bool descending, narrow *row) {
    for (int64_t i = 0; i < n; i++) {
        row[i] = narrow_of(x[i], i, descending ? UINT32_MAX : 0);
    }
}

// x: f64 or i64.
static void wide_keys(tarn_dtype t, const uint64_t *x, int64_t n, bool descending, wide *row) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = x[i] ^ (t == TARN_U64 ? 0 : 1ULL << 63);
        if (tarn_dtype_is_float(t)) {
            key = (x[i] & ~(1ULL << 63)) > 0x7FF0000000000000ULL ? UINT64_MAX : tarn_key64(x[i]);
        }
        row[i] = (wide){descending ? ~key : key, (uint64_t)i};
    }
}

// ---- buckets ----

// The mean of x - from, or of its size: about, since the last few are left out.
static float mean_of(int64_t n, const float *x, float from, bool size) {
    enum { LANES = 16 };
    float part[LANES] = {0}, sum = 0;
    for (int64_t i = 0; i + LANES <= n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            float d = x[i + k] - from;
            part[k] += size ? __builtin_fabsf(d) : d;
        }
    }
    for (int k = 0; k < LANES; k++) {
        sum += part[k];
    }
    return sum / (float)(n / LANES * LANES);
}

// Sorts a row of more than FEW elements; what lies further out than buckets reach is in the first or
// the last. Right whatever is in them, as the insertion compares keys. False: it has much to do.
// count: PER * n; bucket: n; row: gets the items.
static bool narrow_buckets(const float *x, int64_t n, bool descending, uint32_t *count,
                           uint32_t *bucket, narrow *row) {
    const int64_t buckets = PER * n;
    float mean = mean_of(n, x, 0, false), reach = REACH * mean_of(n, x, mean, true);
    float step = (float)buckets / (2 * reach), top = (float)(buckets - 1);
    if (!(step <= 0x1p100F)) {
        return false;  // all alike, or not all finite
    }
    float first = descending ? mean + reach : mean - reach, scale = descending ? -step : step;
    memset(count, 0, (size_t)buckets * sizeof *count);
    for (int64_t i = 0; i < n; i++) {
        float b = (x[i] - first) * scale;
        b = b < top ? b : top;
        bucket[i] = (uint32_t)(int32_t)(b > 0 ? b : 0);
    }
    for (int64_t i = 0; i < n; i++) {
        count[bucket[i]]++;
    }
    uint32_t at = 0;
    for (int64_t b = 0; b < buckets; b++) {
        uint32_t here = count[b];
        count[b] = at;
        at += here;
    }
    for (int64_t i = 0; i < n; i++) {
        row[count[bucket[i]]++] = narrow_of(x[i], i, descending ? UINT32_MAX : 0);
    }
    return narrow_insert(row, n, n);
}

// ---- what is made of an order ----

typedef enum { VALUES, ORDER, RANK } result;

#define PUT(ITEM)                                                                                  \
    static void ITEM##_put(const ITEM *sorted, int64_t n, result what, size_t size, const char *x, \
                           char *out) {                                                            \
        int64_t *index = (int64_t *)(void *)out;                                                   \
        for (int64_t k = 0; what == ORDER && k < n; k++) {                                         \
            index[k] = ITEM##_index(&sorted[k]);                                                   \
        }                                                                                          \
        for (int64_t k = 0; what == RANK && k < n; k++) {                                          \
            index[ITEM##_index(&sorted[k])] = k;                                                   \
        }                                                                                          \
        for (int64_t k = 0; what == VALUES && size == 4 && k < n; k++) {                           \
            memcpy(out + 4 * k, x + 4 * ITEM##_index(&sorted[k]), 4);                              \
        }                                                                                          \
        for (int64_t k = 0; what == VALUES && size != 4 && k < n; k++) {                           \
            memcpy(out + (size_t)k * size, x + (size_t)ITEM##_index(&sorted[k]) * size, size);     \
        }                                                                                          \
    }
PUT(narrow)
PUT(wide)

// Floats of at most 32 bits, in rows whose indices have as many.
static bool is_narrow(tarn_dtype t, int64_t length) {
    return tarn_dtype_is_float(t) && t != TARN_F64 && length <= (int64_t)UINT32_MAX;
}
// Counts, the row twice as items, and the row in the dtype that keys are made of.
static size_t rows_scratch(tarn_dtype t, int64_t length) {
    size_t item = is_narrow(t, length) ? 2 * sizeof(narrow) : 2 * sizeof(wide);
    return (BINS * sizeof(wide_count) + (size_t)length * (item + sizeof(uint64_t)) + 63) / 64 * 64;
}

static tarn_status order_rows(tarn_context *cx, int64_t rows, int64_t n, tarn_dtype t,
                              const char *x, bool descending, result what, char *out, char *scratch,
                              tarn_error *err) {
    size_t size = (size_t)tarn_dtype_get(t)->bits / 8,
           step = what == VALUES ? size : sizeof(int64_t);
    bool thin = is_narrow(t, n);
    tarn_dtype work = thin ? TARN_F32 : tarn_dtype_is_float(t) ? TARN_F64 : TARN_I64;
    tarn_convert_fn convert = tarn_convert(cx->isa, t, work);
    void *count = scratch, *read = scratch + BINS * sizeof(wide_count);
    void *item = (char *)read + (size_t)n * sizeof(uint64_t);
    for (int64_t r = 0; r < rows; r++, x += (size_t)n * size, out += (size_t)n * step) {
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        convert(n, x, read);
        if (thin) {
            narrow *a = item, *sorted = a;
            // The places that are not used otherwise: half of what is read, the second items.
            uint32_t *bucket = (uint32_t *)read + n, *counts = (uint32_t *)(void *)(a + n);
            if (n <= FEW || n >= FAR || !narrow_buckets(read, n, descending, counts, bucket, a)) {
                narrow_keys(read, n, descending, a);
                TARN_TRY(narrow_sort(cx, a, a + n, count, n, &sorted, err));
            }
            narrow_put(sorted, n, what, size, x, out);
        } else {
            wide *sorted;
            wide *a = item;
            wide_keys(t, read, n, descending, a);
            TARN_TRY(wide_sort(cx, a, a + n, count, n, &sorted, err));
            wide_put(sorted, n, what, size, x, out);
        }
    }
    return TARN_OK;
}

// ---- the rows of the table: attr.i = {descending} ----

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
static tarn_status infer_order(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                               tarn_error *err) {
    TARN_TRY(infer_sort(nin, in, a, out, err));
    out->dtype = TARN_I64;
    return TARN_OK;
}

#define ROWS(NAME, WHAT)                                                                           \
    static tarn_status NAME(tarn_context *cx, int64_t n, int64_t length, tarn_dtype t,             \
                            const void *in, const tarn_attr *a, void *out, void *scratch,          \
                            tarn_error *err) {                                                     \
        return order_rows(cx, n, length, t, in, a->i[0] != 0, WHAT, out, scratch, err);            \
    }
ROWS(rows_sort, VALUES)
ROWS(rows_argsort, ORDER)
ROWS(rows_rank, RANK)
static const tarn_rows by_sort = {rows_sort, rows_scratch};
static const tarn_rows by_argsort = {rows_argsort, rows_scratch};
static const tarn_rows by_rank = {rows_rank, rows_scratch};

static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    (void)nin, (void)a;
    int64_t n = out->shape[out->rank - 1], rows = n > 0 ? tarn_desc_numel(out) / n : 0;
    size_t workers = (size_t)(rows < threads ? rows : threads);
    return workers * rows_scratch(in[0].dtype, n) +
           tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0]));
}

// Elements take their derivatives with them.
static const tarn_node *order_node(tarn_graph *g, const tarn_node *y) {
    return tarn_node_make(g, &tarn_op_argsort, 1, y->in, &y->attr);
}
TARN_VJP(vjp_sort) {
    (void)which;
    const tarn_node *in[2] = {order_node(g, y), gy};
    int64_t i[TARN_MAX_RANK + 1] = {y->desc.rank - 1};
    memcpy(i + 1, y->desc.shape, sizeof y->desc.shape);
    tarn_attr a = {.ni = y->desc.rank + 1, .i = i};
    return tarn_node_make(g, &tarn_op_scatter_add, 2, in, &a);
}
TARN_JVP(jvp_sort) {
    const int64_t axis = y->desc.rank - 1;
    tarn_attr a = {.ni = 1, .i = &axis};
    const tarn_node *in[2] = {dx[0], dx[0] ? order_node(g, y) : NULL};
    return dx[0] ? tarn_node_make(g, &tarn_op_gather, 2, in, &a) : NULL;
}

// clang-format off
// Indices and ranks move in jumps: their derivative is zero everywhere it exists.
#define SORT(NAME, ...)                                                                   \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE, \
                                    .min_in = 1, .max_in = 1, .rows = &by_##NAME,         \
                                    .workspace = workspace, __VA_ARGS__};
SORT(sort, .infer = infer_sort, .vjp = vjp_sort, .jvp = jvp_sort,
     .summary = "elements in order along the last dimension; NaN counts as the largest")
SORT(argsort, .infer = infer_order, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero,
     .summary = "where the elements of sort come from: indices along the last dimension; equals keep their order")
SORT(rank, .infer = infer_order, .vjp = tarn_vjp_zero, .jvp = tarn_jvp_zero,
     .summary = "the place of each element in the order of sort, from 0: the inverse of argsort")
// clang-format on
