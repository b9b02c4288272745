// SPDX-License-Identifier: Apache-2.0
// Methods on models of any dtype and shape: the same rows of numbers as a vector, as a matrix, or cut
// evenly into several tensors. And what no method may do: give NaN where the operands are degenerate.
#ifndef TARN_TESTS_MERGE_METHOD_SHAPED_H
#define TARN_TESTS_MERGE_METHOD_SHAPED_H

#include <math.h>

#include "tests/merge/method/values.h"

typedef struct {
    tarn_dtype dtype;
    int tensors;       // each of this shape
    int rank;
    int64_t shape[3];
} form;

static inline int64_t numel_of(const form *f) {
    int64_t n = 1;
    for (int d = 0; d < f->rank; d++) {
        n *= f->shape[d];
    }
    return n;
}

static inline tarn_model *model_shaped(tarn_context *cx, const form *f, const double *x) {
    static const char *const names[] = {"u", "v", "w", "x"};
    tarn_error err = {0};
    tarn_tensor t[4];
    tarn_model *m;
    for (int k = 0; k < f->tensors; k++) {
        OK(tarn_tensor_new(cx, f->dtype, f->rank, f->shape, &t[k], &err));
        for (int64_t i = 0; i < numel_of(f); i++) {
            tarn_tensor_set(&t[k], i, *x++);
        }
    }
    OK(tarn_model_of_tensors(cx, f->tensors, names, t, 1, NULL, &m, &err));
    for (int k = 0; k < f->tensors; k++) {
        tarn_tensor_release(&t[k]);
    }
    return m;
}

// The result's numbers, tensor after tensor. base may be NULL; o too.
static inline void run_shaped(tarn_context *cx, const form *f, const char *method, const double *base,
                              int k, const double *const *x, const options *o, double *y) {
    static const options none = {0};
    tarn_error err = {0};
    tarn_model *b = base ? model_shaped(cx, f, base) : NULL, *m[64], *planned, *done;
    const tarn_method *row = tarn_method_find(method);
    assert_non_null(row);
    o = o ? o : &none;
    for (int i = 0; i < k; i++) {
        m[i] = model_shaped(cx, f, x[i]);
    }
    OK(tarn_method_apply(cx, row, b, k, m, o->n, o->v, NULL, &planned, &err));
    OK(tarn_model_load(cx, planned, &done, &err));
    for (int s = 0; s < f->tensors; s++) {
        tarn_tensor t;
        OK(tarn_model_tensor(cx, done, s, &t, &err));
        assert_int_equal(tarn_tensor_numel(&t), numel_of(f));
        for (int64_t i = 0; i < numel_of(f); i++) {
            *y++ = tarn_tensor_get(&t, i);
        }
        tarn_tensor_release(&t);
    }
    for (int i = 0; i < k; i++) {
        tarn_model_release(m[i]);
    }
    tarn_model_release(b);
    tarn_model_release(done);
    tarn_model_release(planned);
}

static inline void equal_bits(const double *a, const double *b, int64_t n, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
            fail_msg("%s: element %d is %.17g, expected %.17g", what, (int)i, a[i], b[i]);
        }
    }
}
static inline void close_to(const double *a, const double *b, int64_t n, double tol, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= tol * (1 + fabs(b[i])))) {
            fail_msg("%s: element %d is %.17g, expected %.17g", what, (int)i, a[i], b[i]);
        }
    }
}

static inline double dot_of(int64_t n, const double *a, const double *b) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) {
        s += a[i] * b[i];
    }
    return s;
}

// Zero tensors, one zero among others, equal models, one element, no elements, in every dtype: nothing
// but finite numbers comes out; equal models give themselves back (to a rounding), where the method says so.
static inline void holds_up(tarn_context *cx, const char *method, bool base, int k, const options *o,
                            bool keeps) {
    static const tarn_dtype dtypes[] = {TARN_BF16, TARN_F16, TARN_F32, TARN_F64};
    static const form forms[] = {{0, 1, 1, {6}}, {0, 1, 2, {2, 3}}, {0, 1, 0, {0}}, {0, 1, 1, {0}}, {0, 1, 2, {3, 0}},
                                 {0, 2, 3, {1, 3, 1}}};
    const double some[6] = {0.5, -1.25, 2, 0.125, -3, 1}, zero[6] = {0}, small[6] = {1e-7, 0, 0, -1e-7, 0, 1e-7};
    const double *const sets[][3] = {{zero, zero, zero}, {some, zero, some}, {zero, some, some},
                                     {some, some, some}, {small, small, small}, {some, small, zero}};
    for (int d = 0; d < 4; d++) {
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            form f = forms[i];
            f.dtype = dtypes[d];
            for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
                double y[6] = {0}, tol = d == 0 ? 0.01 : d == 1 ? 0.001 : 1e-6;
                run_shaped(cx, &f, method, base ? sets[s][2] : NULL, k, sets[s], o, y);
                for (int j = 0; j < 6; j++) {
                    if (!isfinite(y[j])) {
                        fail_msg("%s: set %d, form %d, dtype %d: %g", method, (int)s, (int)i, d, y[j]);
                    }
                }
                if (keeps && (s == 0 || s == 3)) {
                    close_to(y, sets[s][0], f.tensors * numel_of(&f), tol, method);
                }
            }
        }
    }
}

#endif
