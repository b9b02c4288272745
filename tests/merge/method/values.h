// SPDX-License-Identifier: Apache-2.0
// What the tests of merge methods share: models cut from a row of numbers (one tensor, several, of any
// dtype and shape), a method applied to them with named options, the numbers of the result, and how
// rows of numbers are compared.
#ifndef TARN_TESTS_MERGE_METHOD_VALUES_H
#define TARN_TESTS_MERGE_METHOD_VALUES_H

#include "tests/support.h"

#include <math.h>

#include "merge/plan/plan.h"

// ---- options ----

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

// ---- models ----

typedef struct {
    const char *name;
    int rank;
    int64_t shape[4];
} slot;

// How a row of numbers is cut into tensors.
typedef struct {
    tarn_dtype dtype;
    int n;
    const slot *slots;
} cut;

static inline int64_t numel_of(const slot *s) {
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++) {
        n *= s->shape[d];
    }
    return n;
}

static inline tarn_model *model_cut(tarn_context *cx, const cut *c, const double *x) {
    tarn_error err = {0};
    tarn_tensor t[8];
    const char *name[8];
    tarn_model *m;
    for (int k = 0; k < c->n; k++) {
        name[k] = c->slots[k].name;
        OK(tarn_tensor_new(cx, c->dtype, c->slots[k].rank, c->slots[k].shape, &t[k], &err));
        for (int64_t i = 0; i < numel_of(&c->slots[k]); i++) {
            tarn_tensor_set(&t[k], i, *x++);
        }
    }
    OK(tarn_model_of_tensors(cx, c->n, name, t, 1, NULL, &m, &err));
    for (int k = 0; k < c->n; k++) {
        tarn_tensor_release(&t[k]);
    }
    return m;
}

static inline tarn_model *model_named(tarn_context *cx, const char *name, tarn_dtype dtype,
                                      int64_t n, const double *x) {
    const slot s = {name, 1, {n}};
    return model_cut(cx, &(const cut){dtype, 1, &s}, x);
}
static inline tarn_model *model_of(tarn_context *cx, int64_t n, const double *x) {
    return model_named(cx, "w", TARN_F32, n, x);
}

// ---- results ----

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

// The method's result, computed; its numbers go to out[n].
static inline void apply(tarn_context *cx, const char *name, tarn_model *base, int k,
                         tarn_model *const *models, const options *o, int64_t n, double *out) {
    tarn_model *planned = planned_of(cx, name, base, k, models, o);
    assert_int_equal(row_of(cx, planned, n, out), n);
    tarn_model_release(planned);
}

// base (may be NULL), models, the method's result in a row: all in one step.
static inline void run_cut(tarn_context *cx, const cut *c, const char *method, const double *base, int k,
                           const double *const *x, const options *o, int64_t n, double *y) {
    tarn_model *b = base ? model_cut(cx, c, base) : NULL, *m[64];
    for (int i = 0; i < k; i++) {
        m[i] = model_cut(cx, c, x[i]);
    }
    apply(cx, method, b, k, m, o, n, y);
    for (int i = 0; i < k; i++) {
        tarn_model_release(m[i]);
    }
    tarn_model_release(b);
}

// The same for tensors of one shape.
typedef struct {
    tarn_dtype dtype;
    int tensors;
    int rank;
    int64_t shape[4];
} form;

// As a cut, whose slots go to s[4].
static inline cut cut_of(const form *f, slot *s) {
    static const char *const names[] = {"u", "v", "w", "x"};
    for (int i = 0; i < f->tensors; i++) {
        s[i] = (slot){names[i], f->rank, {0}};
        memcpy(s[i].shape, f->shape, sizeof f->shape);
    }
    return (cut){f->dtype, f->tensors, s};
}
static inline tarn_model *model_shaped(tarn_context *cx, const form *f, const double *x) {
    slot s[4];
    const cut c = cut_of(f, s);
    return model_cut(cx, &c, x);
}
// o may be NULL too.
static inline void run_shaped(tarn_context *cx, const form *f, const char *method, const double *base,
                              int k, const double *const *x, const options *o, double *y) {
    static const options none = {0};
    slot s[4];
    const cut c = cut_of(f, s);
    run_cut(cx, &c, method, base, k, x, o ? o : &none, f->tensors * numel_of(s), y);
}

// ---- comparing ----

static inline void equal_bits(const double *a, const double *b, int64_t n, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) {
            fail_msg("%s: element %d is %.17g, expected %.17g", what, (int)i, a[i], b[i]);
        }
    }
}
static inline void same_row(const double *a, const double *b, int64_t n, double tol, const char *what) {
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= tol)) {
            fail_msg("%s: element %d is %.17g, expected %.17g", what, (int)i, a[i], b[i]);
        }
    }
}
// Relative to values above 1.
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
    static const int numbers[] = {6, 6, 1, 0, 0, 6};
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
                    close_to(y, sets[s][0], numbers[i], tol, method);
                }
            }
        }
    }
}

// ---- a test's state: a context and nothing else ----

static inline int start_plain(void **state) {
    static tarn_context cx;
    open_context(&cx, 2, NULL);
    *state = &cx;
    return 0;
}
static inline int stop_plain(void **state) {
    tarn_context *cx = *state;
    assert_int_equal(atomic_load(&cx->budget.used), 0);
    tarn_context_free(cx);
    return 0;
}

// ---- a base and the models of several tasks, from worked examples ----

enum { TASKS = 4, ENTRIES = 16 };
typedef struct {
    tarn_context cx;
    int n;
    double x[TASKS][ENTRIES];
    const double *rows[TASKS];
    tarn_model *base, *m[TASKS];
} worked;

// task: n task vectors of `entries` numbers, one after another.
static inline void worked_open(worked *f, const cut *c, int n, int entries, const double *base, const double *task) {
    assert_true(n <= TASKS && entries <= ENTRIES);
    open_context(&f->cx, 2, NULL);
    f->n = n;
    f->base = model_cut(&f->cx, c, base);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < entries; i++) {
            f->x[k][i] = base[i] + task[k * entries + i];
        }
        f->rows[k] = f->x[k];
        f->m[k] = model_cut(&f->cx, c, f->x[k]);
    }
}

static inline void worked_close(worked *f) {
    for (int k = 0; k < f->n; k++) {
        tarn_model_release(f->m[k]);
    }
    tarn_model_release(f->base);
    assert_int_equal(atomic_load(&f->cx.budget.used), 0);
    tarn_context_free(&f->cx);
}

#endif
