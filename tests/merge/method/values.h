// SPDX-License-Identifier: Apache-2.0
// What the tests of merge methods share: models of one tensor "w" made from numbers, a method
// applied to them with named options, and the numbers of the result.
#ifndef TARN_TESTS_MERGE_METHOD_VALUES_H
#define TARN_TESTS_MERGE_METHOD_VALUES_H

#include "tests/support.h"

#include "merge/plan/plan.h"

enum { OPTIONS = 32 };

typedef struct {
    int n;
    tarn_value v[OPTIONS];
} options;

static inline void set(options *o, const char *name, double number) {
    o->v[o->n++] = (tarn_value){.name = name, .model = -1, .number = number};
}
static inline void set_of(options *o, const char *name, int model, double number) {
    o->v[o->n++] = (tarn_value){.name = name, .model = model, .number = number};
}
static inline void choose(options *o, const char *name, const char *text) {
    o->v[o->n++] = (tarn_value){.name = name, .model = -1, .text = text};
}

static inline tarn_model *model_named(tarn_context *cx, const char *name, tarn_dtype dtype,
                                      int64_t n, const double *x) {
    tarn_error err = {0};
    tarn_tensor t;
    tarn_model *m;
    OK(tarn_tensor_new(cx, dtype, 1, &n, &t, &err));
    for (int64_t i = 0; i < n; i++) {
        tarn_tensor_set(&t, i, x[i]);
    }
    OK(tarn_model_of_tensors(cx, 1, &name, &t, 1, NULL, &m, &err));
    tarn_tensor_release(&t);
    return m;
}
static inline tarn_model *model_of(tarn_context *cx, int64_t n, const double *x) {
    return model_named(cx, "w", TARN_F32, n, x);
}

// The method's result, computed; the numbers of its tensor go to out[n].
static inline void apply(tarn_context *cx, const char *name, tarn_model *base, int k,
                         tarn_model *const *models, const options *o, int64_t n, double *out) {
    tarn_error err = {0};
    tarn_model *planned, *m;
    tarn_tensor t;
    const tarn_method *method = tarn_method_find(name);
    assert_non_null(method);
    OK(tarn_method_apply(cx, method, base, k, models, o->n, o->v, NULL, &planned, &err));
    OK(tarn_model_load(cx, planned, &m, &err));
    OK(tarn_model_tensor(cx, m, 0, &t, &err));
    assert_int_equal(tarn_tensor_numel(&t), n);
    for (int64_t i = 0; i < n; i++) {
        out[i] = tarn_tensor_get(&t, i);
    }
    tarn_tensor_release(&t);
    tarn_model_release(m);
    tarn_model_release(planned);
}

#endif
