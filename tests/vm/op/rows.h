// SPDX-License-Identifier: Apache-2.0
// What the row tests share: one context per instruction set and thread count, random tensors seen
// through random views, running a row on all of them.
#ifndef TARN_TESTS_VM_OP_ROWS_H
#define TARN_TESTS_VM_OP_ROWS_H

#include <math.h>

#include "tests/support.h"

static const int row_threads[] = {1, 2, 8};
enum { ROW_CONTEXTS = 9 };
static tarn_context row_context[ROW_CONTEXTS];
static int row_contexts;

static inline int rows_open(void **state) {
    (void)state;
    for (const char *const *isa = test_isas(); *isa; isa++) {
        for (int t = 0; t < 3; t++) {
            open_context(&row_context[row_contexts++], row_threads[t], *isa);
        }
    }
    return 0;
}
static inline int rows_close(void **state) {
    (void)state;
    for (int i = 0; i < row_contexts; i++) {
        assert_int_equal(row_context[i].budget.used, 0);
        tarn_context_free(&row_context[i]);
    }
    return 0;
}

static const tarn_dtype row_stored[] = {
    TARN_BOOL, TARN_U8, TARN_I8, TARN_F8_E5M2, TARN_F8_E4M3, TARN_F8_E8M0, TARN_F8_E4M3FNUZ,
    TARN_F8_E5M2FNUZ, TARN_I16, TARN_U16, TARN_F16, TARN_BF16, TARN_I32, TARN_U32, TARN_F32,
    TARN_F64, TARN_I64, TARN_U64};
enum { ROW_STORED = sizeof row_stored / sizeof *row_stored };

static inline int64_t below(uint64_t *seed, int64_t n) {
    return (int64_t)(test_random(seed) % (uint64_t)n);
}

// A number with a taste for edges.
static inline double any_value(uint64_t *seed) {
    static const double edge[] = {0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2.5, 1e-40, -1e-42, 65504, -70000,
                                  3e38, 1e-310, 4194304.5, 8388607.5, -2147483648.0};
    switch (below(seed, 8)) {
    case 0:
        return edge[below(seed, (int64_t)(sizeof edge / sizeof *edge))];
    case 1:
        return below(seed, 3) ? (double)INFINITY * (below(seed, 2) ? 1 : -1) : (double)NAN;
    case 2:
        return (double)(below(seed, 41) - 20);
    default:
        return test_uniform(seed) * 4;
    }
}

// A fresh tensor of that shape whose memory is permuted, gapped or contiguous.
static inline tarn_tensor any_view(tarn_context *cx, tarn_dtype t, int rank, const int64_t *shape,
                                   uint64_t *seed) {
    tarn_error err = {0};
    int64_t memory[TARN_MAX_RANK] = {0}, gap[TARN_MAX_RANK];
    int order[TARN_MAX_RANK];
    bool plain = below(seed, 3) == 0;
    for (int d = 0; d < rank; d++) {
        int64_t j = plain ? d : below(seed, d + 1);
        order[d] = d;
        order[d] = order[j];
        order[j] = d;
    }
    for (int d = 0; d < rank; d++) {
        gap[d] = plain ? 1 : 1 + below(seed, 2);
        memory[d] = shape[order[d]] * gap[d] + (plain ? 0 : 1);
    }
    tarn_tensor m, v;
    OK(tarn_tensor_zeros(cx, t, rank, memory, &m, &err));
    v = m;
    for (int d = 0; d < rank; d++) {
        v.shape[order[d]] = shape[order[d]];
        v.stride[order[d]] = m.stride[d] * gap[d];
        v.offset += plain ? 0 : m.stride[d];
    }
    return v;
}

static inline void fill_any(tarn_tensor *t, uint64_t *seed, double (*value)(uint64_t *)) {
    bool whole = tarn_dtype_get(t->dtype)->kind != TARN_KIND_FLOAT;
    for (int64_t i = 0; i < tarn_tensor_numel(t); i++) {
        double v = value(seed);
        if (whole && !(fabs(v) < 1e6)) {
            v = (double)(below(seed, 201) - 100);
        }
        tarn_tensor_set(t, i, v);
    }
}

// Element i of t as seen through the broadcast shape.
static inline int64_t seen_index(const tarn_tensor *t, int rank, const int64_t *shape, int64_t i) {
    int64_t at = 0, step = 1;
    for (int d = rank - 1; d >= 0; d--) {
        int k = d - (rank - t->rank);
        int64_t here = i % shape[d];
        i /= shape[d];
        if (k >= 0) {
            at += (t->shape[k] == 1 ? 0 : here) * step;
            step *= t->shape[k];
        }
    }
    return at;
}

static inline bool same_bytes(const tarn_tensor *a, const tarn_tensor *b) {
    return a->dtype == b->dtype && tarn_tensor_contiguous(a) && tarn_tensor_contiguous(b) &&
           tarn_tensor_bytes(a) == tarn_tensor_bytes(b) &&
           (tarn_tensor_numel(a) == 0 ||
            memcmp(tarn_tensor_data(a), tarn_tensor_data(b), tarn_tensor_bytes(a)) == 0);
}

// The row's result, the same bytes on every instruction set and thread count.
static inline tarn_tensor run_row(const tarn_op *op, int nin, const tarn_tensor *in,
                                  const tarn_attr *a) {
    tarn_tensor first = {0};
    tarn_error err = {0};
    for (int c = 0; c < row_contexts; c++) {
        tarn_tensor out;
        if (tarn_op_apply(&row_context[c], op, nin, in, a, &out, &err) != TARN_OK) {
            fail_msg("%s: %s", op->name, err.message);
        }
        if (c == 0) {
            first = out;
            continue;
        }
        if (op->cls != TARN_CLASS_VIEW && !same_bytes(&first, &out)) {
            fail_msg("%s: other bytes with %s and %d threads", op->name,
                     tarn_isa_name(row_context[c].isa), row_threads[c % 3]);
        }
        tarn_tensor_release(&out);
    }
    return first;
}

static inline void same_number(const char *what, double got, double want, double slack) {
    if (!(got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= slack)) {
        fail_msg("%s is %a, not %a", what, got, want);
    }
}

#endif
