// SPDX-License-Identifier: Apache-2.0
// A trial of the derivatives of one expression at a random point: operands of random shapes seen through
// strided views, and the identities that derivatives keep. See test_properties.c.
#ifndef TARN_TESTS_VM_GRAD_PROPERTIES_H
#define TARN_TESTS_VM_GRAD_PROPERTIES_H

#include "tests/vm/op/rows.h"
#include "vm/grad/grad.h"

enum { MOST = 4, SEEDS = 12 };

typedef struct {
    tarn_context *cx;
    tarn_graph *g;
    tarn_dtype dtype;
    uint64_t seed;
    int n;
    const tarn_node *x[MOST], *v[MOST], *w[MOST], *u;  // inputs: point, directions, cotangent
    tarn_tensor at[MOST], dv[MOST], dw[MOST], du;
} trial;

typedef struct {
    const tarn_op *op;
    const tarn_node *(*make)(trial *t);
    double slack;  // by how much exactness falls behind 1e-11 where an inverse amplifies rounding; 0: not
    bool rough;    // not differentiable by differences (a cast to f32 under way)
} entry;

static tarn_context context;
static bool covered[TARN_OP_COUNT];  // by an entry, or in the derivatives of one

// ---- operands ----

static tarn_tensor random_tensor(trial *t, const tarn_desc *d, double low, double high) {
    tarn_tensor x = any_view(t->cx, d->dtype, d->rank, d->shape, &t->seed);
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, low + (high - low) * (test_uniform(&t->seed) + 1) / 2);
    }
    return x;
}

static const tarn_node *operand(trial *t, int rank, const int64_t *shape, double low, double high) {
    tarn_desc d = {.dtype = t->dtype, .rank = rank};
    memcpy(d.shape, shape, (size_t)rank * sizeof *shape);
    int k = t->n++;
    t->x[k] = tarn_leaf_input(t->g, &d);
    t->v[k] = tarn_leaf_input(t->g, &d);
    t->w[k] = tarn_leaf_input(t->g, &d);
    t->at[k] = random_tensor(t, &d, low, high);
    t->dv[k] = random_tensor(t, &d, -1, 1);
    t->dw[k] = random_tensor(t, &d, -1, 1);
    return t->x[k];
}

static int any_shape(trial *t, int least, int most, int64_t *shape) {
    int rank = least + (int)below(&t->seed, most - least + 1);
    for (int d = 0; d < rank; d++) {
        shape[d] = below(&t->seed, 12) == 0 ? 0 : 1 + below(&t->seed, 5);
    }
    return rank;
}

// An operand that broadcasts against `shape`: leading dimensions missing, some of size 1.
static const tarn_node *partner(trial *t, int rank, const int64_t *shape, double low, double high) {
    int64_t own[TARN_MAX_RANK];
    int lack = below(&t->seed, 3) == 0 && rank > 0 ? (int)below(&t->seed, rank + 1) : 0;
    for (int d = lack; d < rank; d++) {
        own[d - lack] = below(&t->seed, 4) == 0 ? 1 : shape[d];
    }
    return operand(t, rank - lack, own, low, high);
}

// An integer leaf of that shape with numbers from 0 to n - 1.
static const tarn_node *places(trial *t, int rank, const int64_t *shape, int64_t n) {
    tarn_tensor i = any_view(t->cx, TARN_I64, rank, shape, &t->seed);
    for (int64_t k = 0; k < tarn_tensor_numel(&i); k++) {
        tarn_tensor_set(&i, k, (double)below(&t->seed, n));
    }
    const tarn_node *leaf = tarn_leaf_tensor(t->g, &i);
    tarn_tensor_release(&i);
    return leaf;
}

// ---- values ----

static void values(trial *t, int n, const tarn_node *const *nodes, tarn_tensor *out) {
    tarn_error err = {0};
    const tarn_tensor **feeds = calloc((size_t)t->g->count + 1, sizeof *feeds);
    for (int k = 0; k < t->n; k++) {
        feeds[t->x[k]->id] = &t->at[k];
        feeds[t->v[k]->id] = &t->dv[k];
        feeds[t->w[k]->id] = &t->dw[k];
    }
    feeds[t->u->id] = &t->du;
    OK(tarn_graph_eval(t->g, n, nodes, feeds, out, &err));
    free((void *)feeds);
}
static void release(int n, tarn_tensor *x) {
    for (int k = 0; k < n; k++) {
        tarn_tensor_release(&x[k]);
    }
}

static double inner(const tarn_tensor *a, const tarn_tensor *b) {
    double s = 0;
    assert_int_equal(tarn_tensor_numel(a), tarn_tensor_numel(b));
    for (int64_t i = 0; i < tarn_tensor_numel(a); i++) {
        s += tarn_tensor_get(a, i) * tarn_tensor_get(b, i);
    }
    return s;
}
static double size_of(const tarn_tensor *a) { return sqrt(inner(a, a)); }

static void near(const tarn_op *op, const trial *t, const char *what, double got, double want, double size,
                 double slack) {
    if (!(fabs(got - want) <= slack * (size + 1e-4))) {
        fail_msg("%s in %s: %s is %.15g, not %.15g (size %g)", op->name, tarn_dtype_get(t->dtype)->name, what,
                 got, want, size);
    }
}
static void near_all(const tarn_op *op, const trial *t, const char *what, const tarn_tensor *got,
                     const tarn_tensor *want, double size, double slack) {
    for (int64_t i = 0; i < tarn_tensor_numel(want); i++) {
        near(op, t, what, tarn_tensor_get(got, i), tarn_tensor_get(want, i), size, slack);
    }
}

// ---- one trial ----

static const tarn_node *along(trial *t, const tarn_node *const *a, const tarn_node *const *b) {
    const tarn_node *s = tarn_num(t->g, 0);
    for (int k = 0; k < t->n; k++) {
        s = tarn_add(t->g, s, tarn_total(t->g, &tarn_op_sum, tarn_mul(t->g, a[k], b[k])));
    }
    return s;
}

static void check_desc(const entry *e, const tarn_node *d, const tarn_node *of) {
    if (!tarn_shape_equal(d->desc.rank, d->desc.shape, of->desc.rank, of->desc.shape) ||
        d->desc.dtype != tarn_dtype_compute(of->desc.dtype)) {
        fail_msg("%s: a derivative is %s of rank %d, for %s of rank %d", e->op->name,
                 tarn_dtype_get(d->desc.dtype)->name, d->desc.rank, tarn_dtype_get(of->desc.dtype)->name,
                 of->desc.rank);
    }
}

static void move(trial *t, const tarn_tensor *by, double step) {
    for (int k = 0; k < t->n; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&t->at[k]); i++) {
            tarn_tensor_set(&t->at[k], i, tarn_tensor_get(&t->at[k], i) + step * tarn_tensor_get(&by[k], i));
        }
    }
}
// d/dh of nodes, as one tensor each, by central differences along w.
static void compare_differences(const entry *e, trial *t, const tarn_node *n, const tarn_tensor *slope,
                                const tarn_tensor *by, const char *what) {
    const double h = 1e-5;
    tarn_tensor up, down;
    move(t, by, h);
    values(t, 1, &n, &up);
    move(t, by, -2 * h);
    values(t, 1, &n, &down);
    move(t, by, h);
    double size = size_of(slope) + size_of(&up);
    for (int64_t i = 0; i < tarn_tensor_numel(slope); i++) {
        double d = (tarn_tensor_get(&up, i) - tarn_tensor_get(&down, i)) / (2 * h);
        near(e->op, t, what, tarn_tensor_get(slope, i), d, size, e->slack > 1 ? 1e-5 : 1e-7);
    }
    release(1, &up);
    release(1, &down);
}

// Nodes of one point, evaluated together: J v, then the gradients, then H w three ways.
static void check(const entry *e, tarn_dtype dtype, uint64_t seed) {
    tarn_error err = {0};
    trial t = {.cx = &context, .g = tarn_graph_new(&context), .dtype = dtype, .seed = seed * 7919};
    const tarn_node *y = e->make(&t);
    if (!y) {
        fail_msg("%s: %s", e->op->name, t.g->err.message);
    }
    tarn_desc d = y->desc;
    d.weak = false;
    t.u = tarn_leaf_input(t.g, &d);
    t.du = random_tensor(&t, &d, -1, 1);
    int n = t.n;
    const tarn_node *root[1 + 4 * MOST], **grad = root + 1, **hw = root + 1 + n, **fw = hw + n, **rw = fw + n;
    OK(tarn_jvp(t.g, y, n, t.x, t.v, &root[0], &err));
    OK(tarn_vjp(t.g, y, t.u, n, t.x, grad, &err));
    check_desc(e, root[0], y);
    for (int k = 0; k < n; k++) {
        check_desc(e, grad[k], t.x[k]);
        OK(tarn_jvp(t.g, grad[k], n, t.x, t.w, &fw[k], &err));
    }
    const tarn_node *jw;
    OK(tarn_vjp(t.g, along(&t, grad, t.w), NULL, n, t.x, hw, &err));
    OK(tarn_jvp(t.g, y, n, t.x, t.w, &jw, &err));
    OK(tarn_vjp(t.g, jw, t.u, n, t.x, rw, &err));
    tarn_tensor r[1 + 4 * MOST];
    values(&t, 1 + 4 * n, root, r);
    for (int k = 0; k < TARN_OP_COUNT; k++) {
        for (int i = 0; i < t.g->count && !covered[k]; i++) {
            covered[k] = t.g->nodes[i]->op == tarn_ops[k];
        }
    }
    double left = inner(&r[0], &t.du), right = 0, size = size_of(&r[0]) * size_of(&t.du), curve = 0;
    double unit = (dtype == TARN_F64 ? 1e-11 : 2e-5) * (e->slack > 0 ? e->slack : 1);
    for (int k = 0; k < n; k++) {
        right += inner(&r[1 + k], &t.dv[k]);
        size += size_of(&r[1 + k]) * size_of(&t.dv[k]);
        curve += size_of(&r[1 + n + k]) + size_of(&r[1 + k]);
    }
    near(e->op, &t, "<u, J v>", left, right, size, e->rough ? 1e-5 : unit);
    for (int k = 0; k < n; k++) {
        double slack = e->rough ? 1e-5 : 10 * unit;
        near_all(e->op, &t, "forward over reverse", &r[1 + 2 * n + k], &r[1 + n + k], curve, slack);
        near_all(e->op, &t, "reverse over forward", &r[1 + 3 * n + k], &r[1 + n + k], curve, slack);
    }
    if (dtype == TARN_F64 && !e->rough) {
        compare_differences(e, &t, y, &r[0], t.dv, "J v by differences");
        for (int k = 0; k < n; k++) {
            compare_differences(e, &t, grad[k], &r[1 + 2 * n + k], t.dw, "second derivative by differences");
        }
    }
    release(1 + 4 * n, r);
    release(n, t.at);
    release(n, t.dv);
    release(n, t.dw);
    release(1, &t.du);
    tarn_graph_release(t.g);
}

// ---- entries ----

#define MAKE(name) static const tarn_node *make_##name(trial *t)
#define SHAPE(least, most)                \
    int64_t shape[TARN_MAX_RANK] = {0}; \
    int rank = any_shape(t, least, most, shape)

// None of its dimensions is empty.
static int full_shape(trial *t, int least, int most, int64_t *shape) {
    int rank = any_shape(t, least, most, shape);
    for (int d = 0; d < rank; d++) {
        shape[d] = shape[d] ? shape[d] : 3;
    }
    return rank;
}

#endif
