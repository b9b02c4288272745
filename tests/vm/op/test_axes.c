// SPDX-License-Identifier: Apache-2.0
// Axis tracing: the symmetry groups of a two-layer network read off its graph, for each activation;
// every derived group is put to the proof by moving the parameters and evaluating again; a planted
// permutation is recovered by nearest rows; what is stretched, reshaped or pinned stays fixed.
#include <math.h>

#include "tests/support.h"
#include "vm/op/axes.h"

enum { BATCH = 7, IN = 5, HIDDEN = 24, OUT = 3, PARAMS = 4 };
enum { W1, B1, W2, B2 };

typedef struct {
    tarn_context cx;
    tarn_graph *g;
    const tarn_node *x, *p[PARAMS], *y;
    tarn_tensor data, value[PARAMS];
} network;

typedef const tarn_node *activation(tarn_graph *g, const tarn_node *h);
static const tarn_node *act_none(tarn_graph *g, const tarn_node *h) {
    (void)g;
    return h;
}
static const tarn_node *act_relu(tarn_graph *g, const tarn_node *h) { return tarn_relu(g, h); }
static const tarn_node *act_tanh(tarn_graph *g, const tarn_node *h) {
    return tarn_unary(g, &tarn_op_tanh, h);
}
// gelu as scripts write it: h / 2 (1 + erf(h / sqrt 2))
static const tarn_node *act_gelu(tarn_graph *g, const tarn_node *h) {
    const tarn_node *e = tarn_unary(g, &tarn_op_erf, tarn_div(g, h, tarn_num(g, sqrt(2))));
    return tarn_mul(g, tarn_mul(g, h, tarn_num(g, 0.5)), tarn_add(g, e, tarn_num(g, 1)));
}
// Half of a relu: a number as a factor takes nothing away.
static const tarn_node *act_half_relu(tarn_graph *g, const tarn_node *h) {
    return tarn_mul(g, tarn_num(g, 0.5), tarn_relu(g, h));
}
static const tarn_node *act_square(tarn_graph *g, const tarn_node *h) { return tarn_mul(g, h, h); }
static const tarn_node *act_inverse(tarn_graph *g, const tarn_node *h) {
    return tarn_div(g, tarn_num(g, 1), h);
}
static const tarn_node *act_clamp(tarn_graph *g, const tarn_node *h) {
    return tarn_minimum(g, tarn_maximum(g, h, tarn_num(g, -1)), tarn_num(g, 1));
}
static const tarn_node *act_shift(tarn_graph *g, const tarn_node *h) {
    return tarn_add(g, h, tarn_num(g, 1));
}
static const tarn_node *act_softmax(tarn_graph *g, const tarn_node *h) {
    const int64_t last = 1;
    const tarn_node *e = tarn_exp(g, tarn_sub(g, h, tarn_reduce(g, &tarn_op_max, h, 1, &last, true)));
    return tarn_div(g, e, tarn_reduce(g, &tarn_op_sum, e, 1, &last, true));
}

static const tarn_node *input(tarn_graph *g, int rank, int64_t a, int64_t b) {
    const tarn_desc d = {.dtype = TARN_F64, .rank = rank, .shape = {a, b}};
    return tarn_leaf_input(g, &d);
}

static void open_network(network *n, activation *act, uint64_t seed) {
    static const int64_t swap[2] = {1, 0};
    memset(n, 0, sizeof *n);
    open_context(&n->cx, 1, NULL);
    tarn_graph *g = n->g = tarn_graph_new(&n->cx);
    n->x = input(g, 2, BATCH, IN);
    n->p[W1] = input(g, 2, HIDDEN, IN);
    n->p[B1] = input(g, 1, HIDDEN, 0);
    n->p[W2] = input(g, 2, OUT, HIDDEN);
    n->p[B2] = input(g, 1, OUT, 0);
    const tarn_node *h = tarn_add(g, tarn_matmul(g, n->x, tarn_permute(g, n->p[W1], swap)), n->p[B1]);
    n->y = tarn_add(g, tarn_matmul(g, act(g, h), tarn_permute(g, n->p[W2], swap)), n->p[B2]);
    assert_non_null(n->y);
    for (int k = 0; k < PARAMS; k++) {
        n->value[k] = filled(&n->cx, TARN_F64, n->p[k]->desc.rank, n->p[k]->desc.shape, seed + (uint64_t)k);
    }
    n->data = filled(&n->cx, TARN_F64, 2, n->x->desc.shape, 99);
}

static void close_network(network *n) {
    for (int k = 0; k < PARAMS; k++) {
        tarn_tensor_release(&n->value[k]);
    }
    tarn_tensor_release(&n->data);
    tarn_graph_release(n->g);
    assert_int_equal(n->cx.budget.used, 0);
    tarn_context_free(&n->cx);
}

static tarn_tensor output(network *n) {
    tarn_error err = {0};
    const tarn_tensor **feeds = calloc((size_t)n->g->count + 1, sizeof *feeds);
    tarn_tensor out;
    feeds[n->x->id] = &n->data;
    for (int k = 0; k < PARAMS; k++) {
        feeds[n->p[k]->id] = &n->value[k];
    }
    OK(tarn_graph_eval(n->g, 1, &n->y, feeds, &out, &err));
    free((void *)feeds);
    return out;
}

static void trace(network *n, tarn_axes *t) {
    tarn_error err = {0};
    OK(tarn_axes_trace(n->g, 1, &n->y, 1, &n->x, t, &err));
}

// element i of the hidden axis becomes scale[i] times element from[i], on every parameter axis of
// the class; what the next layer reads is divided instead.
static void transform(network *n, const tarn_axes *t, int class_id, const int *from,
                      const double *scale) {
    for (int k = 0; k < PARAMS; k++) {
        const tarn_desc *d = &n->p[k]->desc;
        for (int axis = 0; axis < d->rank; axis++) {
            if (tarn_axes_find(t, n->p[k], axis) != class_id) {
                continue;
            }
            tarn_error err = {0};
            tarn_tensor moved;
            OK(tarn_tensor_cast(&n->cx, &n->value[k], TARN_F64, &moved, &err));
            int64_t inner = d->rank == 2 && axis == 0 ? d->shape[1] : 1;
            for (int64_t i = 0; i < tarn_tensor_numel(&moved); i++) {
                int64_t at = i / inner % d->shape[axis];
                double c = k == W2 ? 1 / scale[at] : scale[at];
                tarn_tensor_set(&moved, i, c * tarn_tensor_get(&n->value[k], i + (from[at] - at) * inner));
            }
            tarn_tensor_release(&n->value[k]);
            n->value[k] = moved;
        }
    }
}

static void random_member(tarn_group group, uint64_t *s, int *from, double *scale) {
    for (int i = 0; i < HIDDEN; i++) {
        int j = (int)(test_random(s) % (uint64_t)(i + 1));
        from[i] = from[j];
        from[j] = i;
        double positive = exp(test_uniform(s));
        scale[i] = group == TARN_GROUP_PERMUTATION ? 1
                   : group == TARN_GROUP_SIGNED    ? (test_random(s) & 1 ? 1 : -1)
                   : group == TARN_GROUP_SCALED    ? positive
                                                   : positive * (test_random(s) & 1 ? 1 : -1);
    }
}

static double largest_change(network *n, const tarn_tensor *before) {
    tarn_tensor after = output(n);
    double most = 0;
    for (int64_t i = 0; i < tarn_tensor_numel(&after); i++) {
        double d = fabs(tarn_tensor_get(&after, i) - tarn_tensor_get(before, i));
        most = d > most ? d : most;
    }
    tarn_tensor_release(&after);
    return most;
}

static void one_activation(activation *act, tarn_group want) {
    network n;
    tarn_axes t;
    open_network(&n, act, 5);
    trace(&n, &t);
    int hidden = tarn_axes_find(&t, n.p[W1], 0);
    assert_int_equal(tarn_axes_find(&t, n.p[B1], 0), hidden);
    assert_int_equal(tarn_axes_find(&t, n.p[W2], 1), hidden);
    assert_string_equal(tarn_group_name(tarn_axes_group(&t, hidden)), tarn_group_name(want));
    // Inputs, outputs and the batch stay where they are.
    const tarn_node *fixed[] = {n.x, n.x, n.p[W1], n.p[W2], n.p[B2], n.y, n.y};
    static const int axis[] = {0, 1, 1, 0, 0, 0, 1};
    for (int k = 0; k < 7; k++) {
        assert_int_equal(tarn_axes_group(&t, tarn_axes_find(&t, fixed[k], axis[k])), TARN_GROUP_NONE);
    }
    tarn_tensor before = output(&n);
    uint64_t s = 11;
    int from[HIDDEN];
    double scale[HIDDEN];
    random_member(want, &s, from, scale);
    transform(&n, &t, hidden, from, scale);
    assert_true(largest_change(&n, &before) < 1e-11);
    if (want < TARN_GROUP_LINEAR) {  // and no more than that: a wider group changes the function
        random_member(TARN_GROUP_LINEAR, &s, from, scale);
        transform(&n, &t, hidden, from, scale);
        assert_true(largest_change(&n, &before) > 1e-3);
    }
    tarn_tensor_release(&before);
    tarn_axes_free(&t);
    close_network(&n);
}

static void activations(void **state) {
    one_activation(act_none, TARN_GROUP_LINEAR);
    one_activation(act_relu, TARN_GROUP_SCALED);
    one_activation(act_half_relu, TARN_GROUP_SCALED);
    one_activation(act_tanh, TARN_GROUP_SIGNED);
    one_activation(act_gelu, TARN_GROUP_PERMUTATION);
    one_activation(act_square, TARN_GROUP_PERMUTATION);
    one_activation(act_inverse, TARN_GROUP_PERMUTATION);
    one_activation(act_clamp, TARN_GROUP_PERMUTATION);
    one_activation(act_shift, TARN_GROUP_PERMUTATION);
    one_activation(act_softmax, TARN_GROUP_PERMUTATION);
}

// b is a with its hidden units permuted and a little noise: nearest rows of what enters a unit find
// the permutation, and moving b by it brings the parameters together.
static void planted_permutation(void **state) {
    network a, b;
    tarn_axes t;
    open_network(&a, act_relu, 21);
    open_network(&b, act_relu, 21);
    trace(&b, &t);
    int hidden = tarn_axes_find(&t, b.p[W1], 0);
    uint64_t s = 3;
    int planted[HIDDEN], found[HIDDEN];
    double one[HIDDEN];
    random_member(TARN_GROUP_PERMUTATION, &s, planted, one);
    transform(&b, &t, hidden, planted, one);
    for (int k = 0; k < PARAMS; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&b.value[k]); i++) {
            tarn_tensor_set(&b.value[k], i, tarn_tensor_get(&b.value[k], i) + 0.02 * test_uniform(&s));
        }
    }
    for (int i = 0; i < HIDDEN; i++) {
        double least = INFINITY;
        for (int j = 0; j < HIDDEN; j++) {
            double d = 0;
            for (int c = 0; c < IN; c++) {
                double e = tarn_tensor_get(&a.value[W1], i * IN + c) - tarn_tensor_get(&b.value[W1], j * IN + c);
                d += e * e;
            }
            if (d < least) {
                least = d;
                found[i] = j;
            }
        }
        assert_int_equal(planted[found[i]], i);
    }
    transform(&b, &t, hidden, found, one);
    for (int k = 0; k < PARAMS; k++) {
        for (int64_t i = 0; i < tarn_tensor_numel(&b.value[k]); i++) {
            double d = tarn_tensor_get(&a.value[k], i) - tarn_tensor_get(&b.value[k], i);
            assert_true(fabs(d) <= 0.02);
        }
    }
    tarn_axes_free(&t);
    close_network(&a);
    close_network(&b);
}

static tarn_group group_of(const tarn_axes *t, const tarn_node *n, int axis) {
    return tarn_axes_group(t, tarn_axes_find(t, n, axis));
}

// A residual stream is one class; an axis that a reshape splits or merges is not traced: it stays.
static void structure(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_node *x = input(g, 2, BATCH, IN), *e = input(g, 2, IN, 12);
    const tarn_node *w[2] = {input(g, 2, 12, 12), input(g, 2, 12, 12)};
    const tarn_node *head = input(g, 2, 12, OUT);
    const tarn_node *h = tarn_matmul(g, x, e);
    for (int k = 0; k < 2; k++) {
        h = tarn_add(g, h, tarn_relu(g, tarn_matmul(g, h, w[k])));
    }
    const tarn_node *y = tarn_matmul(g, h, head);
    tarn_axes t;
    OK(tarn_axes_trace(g, 1, &y, 1, &x, &t, &err));
    int stream = tarn_axes_find(&t, e, 1);
    assert_int_equal(tarn_axes_group(&t, stream), TARN_GROUP_SCALED);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(tarn_axes_find(&t, w[k], 0), stream);
        assert_int_equal(tarn_axes_find(&t, w[k], 1), stream);
    }
    tarn_axes_free(&t);
    // Heads: 12 = 3 × 4.
    const int64_t split[3] = {BATCH, 3, 4}, joined[2] = {BATCH, 12}, same[3] = {1, BATCH, 12};
    const tarn_node *heads = tarn_reshape(g, tarn_matmul(g, x, e), 3, split);
    y = tarn_matmul(g, tarn_reshape(g, tarn_relu(g, heads), 2, joined), head);
    OK(tarn_axes_trace(g, 1, &y, 1, &x, &t, &err));
    assert_int_equal(group_of(&t, e, 1), TARN_GROUP_NONE);
    assert_int_equal(group_of(&t, head, 0), TARN_GROUP_NONE);
    tarn_axes_free(&t);
    // A reshape that keeps the axis whole loses nothing.
    const tarn_node *kept = tarn_reshape(g, tarn_relu(g, tarn_matmul(g, x, e)), 3, same);
    y = tarn_matmul(g, tarn_reshape(g, kept, 2, joined), head);
    OK(tarn_axes_trace(g, 1, &y, 1, &x, &t, &err));
    assert_int_equal(group_of(&t, e, 1), TARN_GROUP_SCALED);
    assert_int_equal(tarn_axes_find(&t, head, 0), tarn_axes_find(&t, e, 1));
    tarn_axes_free(&t);
    // A stretched operand: every element of the new axis is the same.
    y = tarn_matmul(g, tarn_broadcast(g, input(g, 2, 1, 12), 2, joined), head);
    OK(tarn_axes_trace(g, 1, &y, 0, NULL, &t, &err));
    assert_int_equal(group_of(&t, head, 0), TARN_GROUP_LINEAR);
    tarn_axes_free(&t);
    // A row without a rule is named.
    const int64_t up = 0;
    tarn_attr a = {.ni = 1, .i = &up};
    y = tarn_node_make(g, &tarn_op_sort, 1, &e, &a);
    assert_int_equal(tarn_axes_trace(g, 1, &y, 0, NULL, &t, &err), TARN_ERROR);
    assert_string_equal(err.message, "sort has no axis rule: symmetries cannot be traced through it");
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// Channels of convolutions move like those of products: freely, by positive scales behind relu or under a
// maximum, by permutations where a depthwise kernel multiplies each by its own numbers. Pixels stay.
static const tarn_node *image(tarn_graph *g, int64_t a, int64_t b, int64_t c, int64_t d) {
    const tarn_desc desc = {.dtype = TARN_F64, .rank = 4, .shape = {a, b, c, d}};
    return tarn_leaf_input(g, &desc);
}
static const tarn_node *conv(tarn_graph *g, const tarn_node *x, const tarn_node *w, int64_t groups) {
    const int64_t i[11] = {1, 1, 1, 1, 1, 1, groups, 3, 3, 6, 6};
    const tarn_node *in[2] = {x, w};
    tarn_attr a = {.ni = 11, .i = i};
    return tarn_node_make(g, &tarn_op_conv2d, 2, in, &a);
}
static const tarn_node *pooled(tarn_graph *g, const tarn_node *x, bool largest) {  // one number for each channel
    const int64_t i[11] = {1, 1, 1, 1, 0, 0, 0, 0, 1, 6, 6}, flat[2] = {BATCH, x->desc.shape[3]};
    tarn_attr a = {.ni = 11, .i = i}, size = {.ni = 2, .i = i + 9};
    const tarn_node *y = tarn_node_make(g, largest ? &tarn_op_pool_index : &tarn_op_pool_mean, 1, &x, &a);
    const tarn_node *in[2] = {x, y};
    return tarn_reshape(g, largest ? tarn_node_make(g, &tarn_op_pool_take, 2, in, &size) : y, 2, flat);
}
static void images(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    tarn_axes t;
    open_context(&cx, 1, NULL);
    for (int k = 0; k < 6; k++) {
        bool relu = k == 1 || k == 3, largest = k == 2 || k == 3, deep = k == 4, groups = k == 5;
        tarn_graph *g = tarn_graph_new(&cx);
        const tarn_node *x = image(g, BATCH, 6, 6, 3), *w1 = image(g, 8, 3, 3, 3), *dw = image(g, 8, groups ? 4 : 1, 3, 3);
        const tarn_node *w2 = image(g, 10, 8, 3, 3), *head = input(g, 2, 10, OUT);
        const tarn_node *h = conv(g, x, w1, 1);
        h = relu ? tarn_relu(g, h) : h;
        h = deep ? conv(g, h, dw, 8) : groups ? conv(g, h, dw, 2) : h;
        const tarn_node *y = tarn_matmul(g, pooled(g, conv(g, h, w2, 1), largest), head);
        assert_non_null(y);
        OK(tarn_axes_trace(g, 1, &y, 1, &x, &t, &err));
        assert_int_equal(group_of(&t, w1, 0), relu     ? TARN_GROUP_SCALED
                                              : deep   ? TARN_GROUP_PERMUTATION
                                              : groups ? TARN_GROUP_NONE
                                                       : TARN_GROUP_LINEAR);
        assert_int_equal(group_of(&t, w2, 0), largest ? TARN_GROUP_SCALED : TARN_GROUP_LINEAR);
        if (!groups) {
            assert_int_equal(tarn_axes_find(&t, w1, 0), tarn_axes_find(&t, w2, 1));
        }
        assert_int_equal(tarn_axes_find(&t, w1, 0) == tarn_axes_find(&t, dw, 0), deep);
        assert_int_equal(tarn_axes_find(&t, w2, 0), tarn_axes_find(&t, head, 0));
        for (int axis = 1; axis < 4; axis++) {
            assert_int_equal(group_of(&t, w1, axis), TARN_GROUP_NONE);
            assert_int_equal(group_of(&t, w2, axis == 1 ? 2 : axis), TARN_GROUP_NONE);
        }
        tarn_axes_free(&t);
        tarn_graph_release(g);
    }
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(activations),
                                       cmocka_unit_test(planted_permutation),
                                       cmocka_unit_test(structure), cmocka_unit_test(images)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
