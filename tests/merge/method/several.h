// SPDX-License-Identifier: Apache-2.0
// Models of several tensors cut from one row of numbers, for methods whose reductions go over the whole
// model: there the cut must not matter.
#ifndef TARN_TESTS_MERGE_METHOD_SEVERAL_H
#define TARN_TESTS_MERGE_METHOD_SEVERAL_H

#include "tests/merge/method/values.h"

typedef struct {
    tarn_dtype dtype;
    int n;
    const char *name[4];
    int64_t numel[4];
} cut;

static inline tarn_model *model_cut(tarn_context *cx, const cut *c, const double *x) {
    tarn_error err = {0};
    tarn_tensor t[4];
    tarn_model *m;
    for (int k = 0; k < c->n; k++) {
        OK(tarn_tensor_new(cx, c->dtype, 1, &c->numel[k], &t[k], &err));
        for (int64_t i = 0; i < c->numel[k]; i++) {
            tarn_tensor_set(&t[k], i, *x++);
        }
    }
    OK(tarn_model_of_tensors(cx, c->n, c->name, t, 1, NULL, &m, &err));
    for (int k = 0; k < c->n; k++) {
        tarn_tensor_release(&t[k]);
    }
    return m;
}

// The method's node.
static inline tarn_model *planned_of(tarn_context *cx, const char *name, tarn_model *base, int k,
                                     tarn_model *const *models, const options *o) {
    tarn_error err = {0};
    tarn_model *m;
    const tarn_method *method = tarn_method_find(name);
    assert_non_null(method);
    OK(tarn_method_apply(cx, method, base, k, models, o->n, o->v, NULL, &m, &err));
    return m;
}

// Its tensors, computed, into one row. Returns how many numbers there are.
static inline int64_t row_of(tarn_context *cx, tarn_model *planned, int64_t room, double *y) {
    tarn_error err = {0};
    tarn_model *m;
    int64_t n = 0;
    OK(tarn_model_load(cx, planned, &m, &err));
    for (int64_t s = 0; s < m->n; s++) {
        tarn_tensor t;
        OK(tarn_model_tensor(cx, m, s, &t, &err));
        assert_true(n + tarn_tensor_numel(&t) <= room);
        for (int64_t i = 0; i < tarn_tensor_numel(&t); i++) {
            y[n++] = tarn_tensor_get(&t, i);
        }
        tarn_tensor_release(&t);
    }
    tarn_model_release(m);
    return n;
}

// One tensor, computed alone.
static inline int64_t tensor_of(tarn_context *cx, tarn_model *planned, const char *name, int64_t room, double *y) {
    tarn_error err = {0};
    tarn_tensor t;
    int64_t at = tarn_model_find(planned, name, strlen(name));
    assert_true(at >= 0);
    OK(tarn_model_tensor(cx, planned, at, &t, &err));
    int64_t n = tarn_tensor_numel(&t);
    assert_true(n <= room);
    for (int64_t i = 0; i < n; i++) {
        y[i] = tarn_tensor_get(&t, i);
    }
    tarn_tensor_release(&t);
    return n;
}

// base, models, the method's result in a row: all in one step.
static inline void run_cut(tarn_context *cx, const cut *c, const char *method, const double *base, int k,
                           const double *const *x, const options *o, int64_t n, double *y) {
    tarn_model *b = model_cut(cx, c, base), *m[8], *planned;
    for (int i = 0; i < k; i++) {
        m[i] = model_cut(cx, c, x[i]);
    }
    planned = planned_of(cx, method, b, k, m, o);
    assert_int_equal(row_of(cx, planned, n, y), n);
    tarn_model_release(planned);
    for (int i = 0; i < k; i++) {
        tarn_model_release(m[i]);
    }
    tarn_model_release(b);
}

static inline void same_row(const double *a, const double *b, int64_t n, double tol, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        double gap = a[i] - b[i];
        if (!(gap <= tol && gap >= -tol)) {
            fail_msg("%s: element %d is %.9g, expected %.9g", what, (int)i, a[i], b[i]);
        }
    }
}

#endif
