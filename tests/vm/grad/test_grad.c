// SPDX-License-Identifier: Apache-2.0
// Derivatives of expressions against central differences in f64: vjp of each operand,
// jvp along a direction (all operands moving, and each alone), <u, J v> = <J^T u, v>, and the second
// derivative of a scalar: against differences of the gradient, and symmetric. Random shapes, and that no
// row is left out: test_properties.c.
#include <math.h>

#include "tests/support.h"
#include "vm/grad/grad.h"

enum { MOST = 3 };

typedef struct {
    const char *name;
    int n;
    struct {
        int rank;
        int64_t shape[4];
        double low, high;
    } x[MOST];
    const tarn_node *(*f)(tarn_graph *g, const tarn_node *const *x);
    double slack;  // of first derivatives, relative; 0: 1e-7
    bool rough;    // the first derivative is not differentiable by differences (casts to f32)
} form;

typedef struct {
    tarn_context cx;
    tarn_graph *g;
    const form *of;
    const tarn_node *x[MOST], *v[MOST], *w[MOST], *u;  // inputs: point, directions, cotangent
    tarn_tensor at[MOST], dv[MOST], dw[MOST], du;
    const tarn_node *y;
} trial;

// ---- evaluating ----

static tarn_tensor value(trial *t, const tarn_node *n) {
    tarn_error err = {0};
    const tarn_tensor **feeds = calloc((size_t)t->g->count + 1, sizeof *feeds);
    tarn_tensor out;
    for (int k = 0; k < t->of->n; k++) {
        feeds[t->x[k]->id] = &t->at[k];
        feeds[t->v[k]->id] = &t->dv[k];
        feeds[t->w[k]->id] = &t->dw[k];
    }
    feeds[t->u->id] = &t->du;
    OK(tarn_graph_eval(t->g, 1, &n, feeds, &out, &err));
    free((void *)feeds);
    return out;
}

static double number(trial *t, const tarn_node *n) {
    tarn_tensor v = value(t, n);
    assert_int_equal(tarn_tensor_numel(&v), 1);
    double d = tarn_tensor_get(&v, 0);
    tarn_tensor_release(&v);
    return d;
}

static void move(trial *t, const tarn_tensor *along, double step) {
    for (int k = 0; k < t->of->n; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&t->at[k]); i++) {
            double x = tarn_tensor_get(&t->at[k], i);
            tarn_tensor_set(&t->at[k], i, x + step * tarn_tensor_get(&along[k], i));
        }
    }
}

// d/dh of a number at the point moved by h along a direction.
static double difference(trial *t, const tarn_node *n, const tarn_tensor *along, double h) {
    move(t, along, h);
    double up = number(t, n);
    move(t, along, -2 * h);
    double down = number(t, n);
    move(t, along, h);
    return (up - down) / (2 * h);
}

static void near(const trial *t, const char *what, double got, double want, double slack) {
    double size = fabs(want) > 1 ? fabs(want) : 1;
    if (!(fabs(got - want) <= slack * size)) {
        fail_msg("%s: %s is %.12g, not %.12g", t->of->name, what, got, want);
    }
}

// ---- one form ----

static const tarn_node *inner(tarn_graph *g, int n, const tarn_node *const *a,
                              const tarn_node *const *b) {
    const tarn_node *s = tarn_num(g, 0);
    for (int k = 0; k < n; k++) {
        s = tarn_add(g, s, tarn_total(g, &tarn_op_sum, tarn_mul(g, a[k], b[k])));
    }
    return s;
}

static tarn_tensor random_like(trial *t, const tarn_desc *d, double low, double high, uint64_t *s) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(&t->cx, TARN_F64, d->rank, d->shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, low + (high - low) * (test_uniform(s) + 1) / 2);
    }
    return x;
}

static void open_trial(trial *t, const form *f, uint64_t *s) {
    memset(t, 0, sizeof *t);
    open_context(&t->cx, 2, NULL);
    t->of = f;
    t->g = tarn_graph_new(&t->cx);
    for (int k = 0; k < f->n; k++) {
        tarn_desc d = {.dtype = TARN_F64, .rank = f->x[k].rank};
        memcpy(d.shape, f->x[k].shape, sizeof f->x[k].shape);
        t->x[k] = tarn_leaf_input(t->g, &d);
        t->v[k] = tarn_leaf_input(t->g, &d);
        t->w[k] = tarn_leaf_input(t->g, &d);
        t->at[k] = random_like(t, &d, f->x[k].low, f->x[k].high, s);
        t->dv[k] = random_like(t, &d, -1, 1, s);
        t->dw[k] = random_like(t, &d, -1, 1, s);
    }
    t->y = f->f(t->g, t->x);
    if (!t->y) {
        fail_msg("%s: %s", f->name, t->g->err.message);
    }
    tarn_desc d = t->y->desc;
    d.dtype = TARN_F64;
    d.weak = false;
    t->u = tarn_leaf_input(t->g, &d);
    t->du = random_like(t, &d, -1, 1, s);
}

static void close_trial(trial *t) {
    for (int k = 0; k < t->of->n; k++) {
        tarn_tensor_release(&t->at[k]);
        tarn_tensor_release(&t->dv[k]);
        tarn_tensor_release(&t->dw[k]);
    }
    tarn_tensor_release(&t->du);
    tarn_graph_release(t->g);
    assert_int_equal(t->cx.budget.used, 0);
    tarn_context_free(&t->cx);
}

static void first_order(trial *t, const tarn_node *scalar, const tarn_node **grad) {
    tarn_error err = {0};
    tarn_graph *g = t->g;
    int n = t->of->n;
    double slack = t->of->slack > 0 ? t->of->slack : 1e-7, h = t->of->rough ? 1e-2 : 1e-5;
    double same = t->of->rough ? 1e-6 : 1e-12;
    const tarn_node *u = t->u, *jv;
    OK(tarn_vjp(g, t->y, u, n, t->x, grad, &err));
    for (int k = 0; k < n; k++) {
        assert_true(tarn_shape_equal(grad[k]->desc.rank, grad[k]->desc.shape, t->x[k]->desc.rank,
                                     t->x[k]->desc.shape));
        assert_int_equal(grad[k]->desc.dtype, TARN_F64);
    }
    double want = difference(t, scalar, t->dv, h);
    near(t, "vjp", number(t, inner(g, n, grad, t->v)), want, slack);
    OK(tarn_jvp(g, t->y, n, t->x, t->v, &jv, &err));
    assert_true(tarn_shape_equal(jv->desc.rank, jv->desc.shape, t->y->desc.rank, t->y->desc.shape));
    double forward = number(t, inner(g, 1, &u, &jv));
    near(t, "jvp", forward, want, slack);
    near(t, "<u, Jv> - <J'u, v>", forward, number(t, inner(g, n, grad, t->v)), same);
    // Each operand alone: the others do not depend on it.
    for (int k = 0; k < n && n > 1; k++) {
        const tarn_node *one;
        OK(tarn_jvp(g, t->y, 1, &t->x[k], &t->v[k], &jv, &err));
        OK(tarn_vjp(g, t->y, u, 1, &t->x[k], &one, &err));
        double a = number(t, inner(g, 1, &u, &jv)), b = number(t, inner(g, 1, &grad[k], &t->v[k]));
        near(t, "jvp of one operand", a, b, same);
        near(t, "vjp of one operand", number(t, inner(g, 1, &one, &t->v[k])), b, same);
    }
}

static void second_order(trial *t, const tarn_node *const *grad) {
    tarn_error err = {0};
    tarn_graph *g = t->g;
    int n = t->of->n;
    const tarn_node *hv[MOST], *hw[MOST], *fv;
    const tarn_node *along_v = inner(g, n, grad, t->v), *along_w = inner(g, n, grad, t->w);
    OK(tarn_vjp(g, along_v, NULL, n, t->x, hv, &err));
    OK(tarn_vjp(g, along_w, NULL, n, t->x, hw, &err));
    double a = number(t, inner(g, n, hv, t->w)), b = number(t, inner(g, n, hw, t->v));
    near(t, "symmetry of the second derivative", a, b, t->of->rough ? 1e-6 : 1e-11);
    OK(tarn_jvp(g, along_v, n, t->x, t->w, &fv, &err));
    near(t, "forward over reverse", number(t, fv), a, t->of->rough ? 1e-6 : 1e-11);
    if (!t->of->rough) {
        near(t, "second derivative", a, difference(t, along_v, t->dw, 1e-5), 1e-6);
    }
}

static void check(const form *f) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        uint64_t s = seed * 77;
        trial t;
        const tarn_node *grad[MOST];
        open_trial(&t, f, &s);
        const tarn_node *scalar = inner(t.g, 1, &t.u, &t.y);
        first_order(&t, scalar, grad);
        second_order(&t, grad);
        close_trial(&t);
    }
}

// ---- the forms ----

#define FORM(name) static const tarn_node *f_##name(tarn_graph *g, const tarn_node *const *x)
#define UN(row) \
    FORM(row) { return tarn_unary(g, &tarn_op_##row, x[0]); }
#define BIN(row) \
    FORM(row) { return tarn_binary(g, &tarn_op_##row, x[0], x[1]); }
BIN(add) BIN(sub) BIN(mul) BIN(div) BIN(pow) BIN(minimum) BIN(maximum) BIN(atan2) BIN(matmul)
UN(neg) UN(abs) UN(sign) UN(sqrt) UN(rsqrt) UN(exp) UN(log) UN(tanh) UN(sigmoid) UN(erf) UN(sin)
UN(cos) UN(acos) UN(relu) UN(floor) UN(round)
FORM(where) { return tarn_where(g, tarn_gt(g, x[0], x[1]), tarn_mul(g, x[0], x[2]), x[1]); }
FORM(cast) { return tarn_cast(g, tarn_cast(g, tarn_mul(g, x[0], x[0]), TARN_F32), TARN_F64); }
static const int64_t last[1] = {1}, both[2] = {0, 2}, flat[2] = {6, 4}, order[3] = {2, 0, 1};
FORM(sum) { return tarn_total(g, &tarn_op_sum, tarn_mul(g, x[0], x[0])); }
FORM(sum_axes) { return tarn_reduce(g, &tarn_op_sum, tarn_mul(g, x[0], x[1]), 2, both, false); }
FORM(sum_keep) { return tarn_mul(g, x[0], tarn_reduce(g, &tarn_op_sum, x[0], 1, last, true)); }
FORM(sum_stretched) { return tarn_total(g, &tarn_op_sum, tarn_add(g, x[0], x[1])); }
FORM(dot) { return tarn_dot(g, x[0], tarn_exp(g, x[1])); }
FORM(max) { return tarn_mul(g, tarn_total(g, &tarn_op_max, x[0]), tarn_total(g, &tarn_op_max, x[0])); }
FORM(max_axes) { return tarn_reduce(g, &tarn_op_max, x[0], 2, both, true); }
FORM(min) { return tarn_reduce(g, &tarn_op_min, tarn_mul(g, x[0], x[0]), 1, last, false); }
FORM(kth) {
    const int64_t i[4] = {0, 0, 3, 64};
    const double density = 0;
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *square = tarn_mul(g, x[0], x[0]);
    return tarn_item(g, tarn_node_make(g, &tarn_op_kth, 1, &square, &a), 0);
}
FORM(trim) {  // the largest part of x: the mask does not move
    const int64_t i[4] = {0, 0, 3, 64};
    const double density = 0;
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *k = tarn_node_make(g, &tarn_op_kth, 1, x, &a);
    const tarn_node *in[3] = {x[0], tarn_item(g, k, 0), tarn_item(g, k, 1)};
    return tarn_where(g, tarn_node_make(g, &tarn_op_top, 3, in, NULL), tarn_mul(g, x[0], x[0]), tarn_num(g, 0));
}
FORM(rank) {  // constant but for jumps
    const int64_t up = 0;
    tarn_attr a = {.ni = 1, .i = &up};
    return tarn_mul(g, tarn_node_make(g, &tarn_op_rank, 1, &x[0], &a), x[0]);
}
FORM(solve) {  // far from singular
    const int64_t square[2] = {3, 3};
    tarn_tensor three;
    if (tarn_tensor_zeros(g->cx, TARN_F64, 2, square, &three, &g->err) != TARN_OK) {
        return NULL;
    }
    for (int64_t i = 0; i < 3; i++) {
        tarn_tensor_set(&three, 4 * i, 3);
    }
    const tarn_node *a = tarn_add(g, x[0], tarn_leaf_tensor(g, &three));
    tarn_tensor_release(&three);
    return tarn_binary(g, &tarn_op_solve, a, x[1]);
}
FORM(reshape) { return tarn_mul(g, tarn_reshape(g, x[0], 2, flat), x[1]); }
FORM(permute) { return tarn_mul(g, tarn_permute(g, x[0], order), x[1]); }
FORM(broadcast_to) { return tarn_exp(g, tarn_broadcast(g, x[0], 2, flat)); }
FORM(slice) {
    const int64_t range[6] = {1, 2, 2, 0, 2, 1};
    tarn_attr a = {.ni = 6, .i = range};
    const tarn_node *square = tarn_mul(g, x[0], x[0]);
    return tarn_node_make(g, &tarn_op_slice, 1, &square, &a);
}
FORM(pad) {
    const int64_t range[8] = {1, 6, 2, 0, 4, 1, 14, 5};
    tarn_attr a = {.ni = 8, .i = range};
    const tarn_node *square = tarn_mul(g, x[0], x[0]);
    return tarn_node_make(g, &tarn_op_pad, 1, &square, &a);
}
FORM(item) { return tarn_mul(g, tarn_item(g, x[0], 2), x[0]); }
FORM(concat) {
    const int64_t axis = 0;
    tarn_attr a = {.ni = 1, .i = &axis};
    const tarn_node *many[80];  // more operands than any small array holds
    for (int k = 0; k < 80; k++) {
        many[k] = k % 3 == 0 ? x[0] : k % 3 == 1 ? tarn_mul(g, x[0], x[1]) : x[1];
    }
    return tarn_node_make(g, &tarn_op_concat, 80, many, &a);
}
static const tarn_node *positions(tarn_graph *g, int64_t rows) {
    tarn_error err = {0};
    const int64_t shape[2] = {rows, 4};
    tarn_tensor t;
    OK(tarn_tensor_new(g->cx, TARN_I64, 2, shape, &t, &err));
    for (int64_t i = 0; i < rows * 4; i++) {
        ((int64_t *)t.storage->data)[i] = i * 5 % 6;
    }
    const tarn_node *n = tarn_leaf_tensor(g, &t);
    tarn_tensor_release(&t);
    return n;
}
FORM(gather) {
    const int64_t axis = 0;
    tarn_attr a = {.ni = 1, .i = &axis};
    const tarn_node *in[2] = {tarn_mul(g, x[0], x[0]), positions(g, 9)};
    return tarn_node_make(g, &tarn_op_gather, 2, in, &a);
}
FORM(scatter_add) {
    const int64_t to[3] = {0, 6, 4};
    tarn_attr a = {.ni = 3, .i = to};
    const tarn_node *in[2] = {positions(g, 6), tarn_mul(g, x[0], x[0])};
    return tarn_node_make(g, &tarn_op_scatter_add, 2, in, &a);
}
FORM(cross_entropy) {  // softmax over the last dimension, as a script composes it
    const tarn_node *top = tarn_reduce(g, &tarn_op_max, x[0], 1, last, true);
    const tarn_node *z = tarn_sub(g, x[0], top);
    const tarn_node *sum = tarn_reduce(g, &tarn_op_sum, tarn_exp(g, z), 1, last, true);
    return tarn_total(g, &tarn_op_sum, tarn_mul(g, x[1], tarn_sub(g, tarn_log(g, sum), z)));
}

// stride 2 1, padding 1 0, dilation 1 2, groups 2, kernel 3 x 2, image 5 x 6
static const int64_t conv[11] = {2, 1, 1, 0, 1, 2, 2, 3, 2, 5, 6};
static const tarn_node *conv_row(tarn_graph *g, const tarn_op *op, const tarn_node *const *x) {
    tarn_attr a = {.ni = 11, .i = conv};
    const tarn_node *in[2] = {tarn_sin(g, x[0]), tarn_mul(g, x[1], x[1])};
    return tarn_node_make(g, op, 2, in, &a);
}
FORM(conv2d) { return conv_row(g, &tarn_op_conv2d, x); }
FORM(conv2d_input) { return conv_row(g, &tarn_op_conv2d_input, x); }
FORM(conv2d_weight) { return conv_row(g, &tarn_op_conv2d_weight, x); }
// windows of 3 x 2, stride 2 1, padding 1 1, not counted, image 5 x 4
static const int64_t pool[11] = {3, 2, 2, 1, 1, 1, 0, 0, 0, 5, 4};
static const tarn_node *pool_row(tarn_graph *g, const tarn_op *op, const tarn_node *x) {
    tarn_attr a = {.ni = 11, .i = pool};
    return tarn_node_make(g, op, 1, &x, &a);
}
FORM(pool_mean) { return pool_row(g, &tarn_op_pool_mean, tarn_mul(g, x[0], x[0])); }
FORM(pool_spread) { return pool_row(g, &tarn_op_pool_spread, tarn_mul(g, x[0], x[0])); }
FORM(pool_max) {  // the largest of each window, squared and put back
    tarn_attr a = {.ni = 2, .i = pool + 9};
    const tarn_node *in[2] = {x[0], pool_row(g, &tarn_op_pool_index, x[0])};
    const tarn_node *top = tarn_node_make(g, &tarn_op_pool_take, 2, in, &a);
    in[0] = tarn_mul(g, top, top);
    return tarn_mul(g, tarn_node_make(g, &tarn_op_pool_put, 2, in, &a), x[0]);
}

#define M {2, {6, 4}, -2, 2}
#define ROW4 {1, {4}, -2, 2}
#define POS {2, {6, 4}, 0.3, 2}
#define CUBE {3, {2, 3, 4}, -2, 2}
static const form forms[] = {
    {"add", 2, {M, ROW4}, f_add, 0, 0}, {"sub", 2, {ROW4, M}, f_sub, 0, 0},
    {"mul", 2, {M, {2, {6, 1}, -2, 2}}, f_mul, 0, 0}, {"div", 2, {M, {1, {1}, 0.5, 2}}, f_div, 0, 0},
    {"pow", 2, {POS, ROW4}, f_pow, 0, 0}, {"minimum", 2, {M, ROW4}, f_minimum, 0, 0},
    {"maximum", 2, {ROW4, M}, f_maximum, 0, 0}, {"atan2", 2, {M, ROW4}, f_atan2, 0, 0},
    {"neg", 1, {M}, f_neg, 0, 0}, {"abs", 1, {M}, f_abs, 0, 0}, {"sign", 1, {M}, f_sign, 0, 0},
    {"sqrt", 1, {POS}, f_sqrt, 0, 0}, {"rsqrt", 1, {POS}, f_rsqrt, 0, 0},
    {"exp", 1, {M}, f_exp, 0, 0}, {"log", 1, {POS}, f_log, 0, 0}, {"tanh", 1, {M}, f_tanh, 0, 0},
    {"sigmoid", 1, {M}, f_sigmoid, 0, 0}, {"erf", 1, {M}, f_erf, 0, 0}, {"sin", 1, {M}, f_sin, 0, 0},
    {"cos", 1, {M}, f_cos, 0, 0}, {"acos", 1, {{2, {6, 4}, -0.8, 0.8}}, f_acos, 0, 0},
    {"relu", 1, {M}, f_relu, 0, 0}, {"floor", 1, {M}, f_floor, 0, 0}, {"round", 1, {M}, f_round, 0, 0},
    {"where", 3, {M, ROW4, {0, {0}, 1, 2}}, f_where, 0, 0}, {"cast", 1, {M}, f_cast, 1e-4, true},
    {"sum", 1, {M}, f_sum, 0, 0}, {"sum over dimensions", 2, {CUBE, CUBE}, f_sum_axes, 0, 0},
    {"sum, kept", 1, {M}, f_sum_keep, 0, 0}, {"sum of x + b", 2, {M, ROW4}, f_sum_stretched, 0, 0},
    {"dot", 2, {M, M}, f_dot, 0, 0}, {"max", 1, {M}, f_max, 0, 0},
    {"max over dimensions", 1, {CUBE}, f_max_axes, 0, 0}, {"min", 1, {M}, f_min, 0, 0},
    {"kth", 1, {M}, f_kth, 0, 0}, {"trim", 1, {M}, f_trim, 0, 0},
    {"reshape", 2, {CUBE, M}, f_reshape, 0, 0}, {"permute", 2, {CUBE, {1, {3}, -2, 2}}, f_permute, 0, 0},
    {"broadcast_to", 1, {ROW4}, f_broadcast_to, 0, 0}, {"slice", 1, {M}, f_slice, 0, 0},
    {"pad", 1, {M}, f_pad, 0, 0}, {"item", 1, {ROW4}, f_item, 0, 0},
    {"concat", 2, {M, {2, {6, 4}, -2, 2}}, f_concat, 0, 0}, {"gather", 1, {M}, f_gather, 0, 0},
    {"scatter_add", 1, {M}, f_scatter_add, 0, 0},
    {"rank", 1, {M}, f_rank, 0, 0},
    {"matmul", 2, {{3, {2, 3, 5}, -1, 1}, {2, {5, 4}, -1, 1}}, f_matmul, 0, 0},
    {"matmul, stretched", 2, {{3, {1, 3, 5}, -1, 1}, {3, {4, 5, 2}, -1, 1}}, f_matmul, 0, 0},
    {"solve", 2, {{3, {2, 3, 3}, -1, 1}, {3, {2, 3, 2}, -1, 1}}, f_solve, 0, 0},
    {"cross entropy", 2, {M, M}, f_cross_entropy, 0, 0},
    {"conv2d", 2, {{4, {2, 5, 6, 4}, -1, 1}, {4, {6, 2, 3, 2}, -1, 1}}, f_conv2d, 0, 0},
    {"conv2d_input", 2, {{4, {2, 3, 4, 6}, -1, 1}, {4, {6, 2, 3, 2}, -1, 1}}, f_conv2d_input, 0, 0},
    {"conv2d_weight", 2, {{4, {2, 5, 6, 4}, -1, 1}, {4, {2, 3, 4, 6}, -1, 1}}, f_conv2d_weight, 0, 0},
    {"pool_mean", 1, {{4, {2, 5, 4, 3}, -2, 2}}, f_pool_mean, 0, 0},
    {"pool_spread", 1, {{4, {2, 3, 5, 3}, -2, 2}}, f_pool_spread, 0, 0},
    {"max pooling", 1, {{4, {2, 5, 4, 3}, -2, 2}}, f_pool_max, 0, 0},
};

static void rows(void **state) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        check(&forms[i]);
    }
}

static void refused(void **state) {
    tarn_context cx;
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_desc square = {.dtype = TARN_F64, .rank = 2, .shape = {3, 3}};
    const tarn_desc three = {.dtype = TARN_F64, .rank = 1, .shape = {3}};
    const tarn_node *in[2] = {tarn_leaf_input(g, &square), tarn_leaf_input(g, &three)};
    const tarn_node *out;
    tarn_error err = {0};
    assert_int_equal(tarn_vjp(g, in[0], NULL, 1, in, &out, &err), TARN_ERROR);
    assert_string_equal(err.message, "grad: the function must yield one number, not a tensor of rank 2");
    assert_int_equal(tarn_vjp(g, in[0], in[1], 1, in, &out, &err), TARN_ERROR);
    assert_string_equal(err.message, "vjp: the cotangent: expected [3, 3], got [3]");
    assert_int_equal(tarn_jvp(g, in[0], 1, in, &in[1], &out, &err), TARN_ERROR);
    assert_string_equal(err.message, "jvp: a tangent: expected [3, 3], got [3]");
    // Independent of the variable: zeros of its shape.
    OK(tarn_vjp(g, tarn_total(g, &tarn_op_sum, in[1]), NULL, 1, in, &out, &err));
    assert_true(tarn_shape_equal(out->desc.rank, out->desc.shape, 2, square.shape));
    tarn_graph_release(g);
    tarn_context_free(&cx);
}

// Where a factor is zero and the other infinite the derivative is zero, not NaN.
static void edges(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_desc d = {.dtype = TARN_F64, .rank = 1, .shape = {4}};
    const tarn_node *x[2] = {tarn_leaf_input(g, &d), tarn_leaf_input(g, &d)}, *out[2];
    static const double base[4] = {0, 0, 3, 0}, power[4] = {0, 2, 0, 1};
    static const double by_base[4] = {0, 0, 0, 1}, by_power[4] = {0, 0, 1.0986122886681098, 0};
    tarn_tensor at[2], value[2];
    const tarn_tensor *feeds[64] = {0};
    for (int k = 0; k < 2; k++) {
        OK(tarn_tensor_new(&cx, TARN_F64, 1, d.shape, &at[k], &err));
        memcpy(at[k].storage->data, k ? power : base, sizeof base);
        feeds[x[k]->id] = &at[k];
    }
    const tarn_node *y = tarn_total(g, &tarn_op_sum, tarn_binary(g, &tarn_op_pow, x[0], x[1]));
    OK(tarn_vjp(g, y, NULL, 2, x, out, &err));
    assert_true(g->count <= 64);
    OK(tarn_graph_eval(g, 2, out, feeds, value, &err));
    for (int i = 0; i < 4; i++) {
        assert_true(tarn_tensor_get(&value[0], i) == by_base[i]);
        assert_true(fabs(tarn_tensor_get(&value[1], i) - by_power[i]) < 1e-15);
    }
    for (int k = 0; k < 2; k++) {
        tarn_tensor_release(&at[k]);
        tarn_tensor_release(&value[k]);
    }
    tarn_graph_release(g);
    tarn_context_free(&cx);
}

// Derivatives keep the dtype of what they belong to: f32 stays f32, whatever numbers the rules use.
static void dtypes(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_desc d = {.dtype = TARN_F32, .rank = 1, .shape = {4}};
    const tarn_node *x = tarn_leaf_input(g, &d), *v = tarn_leaf_input(g, &d), *dy, *dx;
    const tarn_node *ys[] = {tarn_relu(g, x), tarn_maximum(g, x, v), tarn_abs(g, x), tarn_exp(g, x),
                             tarn_binary(g, &tarn_op_pow, x, tarn_num(g, 2))};
    for (int k = 0; k < 5; k++) {
        int before = g->count;
        OK(tarn_jvp(g, ys[k], 1, &x, &v, &dy, &err));
        OK(tarn_vjp(g, ys[k], v, 1, &x, &dx, &err));
        assert_int_equal(dy->desc.dtype, TARN_F32);
        assert_int_equal(dx->desc.dtype, TARN_F32);
        for (int i = before; i < g->count; i++) {
            const tarn_desc *n = &g->nodes[i]->desc;
            assert_true(n->rank == 0 || n->dtype != TARN_F64);
        }
    }
    tarn_graph_release(g);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows), cmocka_unit_test(refused), cmocka_unit_test(edges),
                                       cmocka_unit_test(dtypes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
