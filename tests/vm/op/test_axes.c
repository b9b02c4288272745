// SPDX-License-Identifier: Apache-2.0
// Axis tracing: the symmetry groups of a two-layer network read off its graph, for each activation;
// every derived group is put to the proof by moving the parameters and evaluating again; a planted
// permutation is recovered by nearest rows; what is stretched or pinned stays fixed. Axes as products and
// segments, who takes the inverse, and on whose index a class may depend: told for small graphs here, put to
// the proof on whole networks and random programs in tests/stdlib/align.
#include <math.h>

#include "tests/support.h"
#include "vm/op/symmetry.h"

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

// A residual stream is one class; an axis that a reshape splits is a product.
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
    assert_int_equal(group_of(&t, e, 1), TARN_GROUP_SCALED);
    tarn_axis_list f[2] = {0};
    tarn_axes_factors(&t, tarn_axes_of(&t, e, 1), &f[0]);
    tarn_axes_factors(&t, tarn_axes_of(&t, head, 0), &f[1]);
    assert_int_equal(f[0].n, 2);
    for (int k = 0; k < 2; k++) {
        assert_int_equal(f[0].a[k].term, f[1].a[k].term);
    }
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
    // What a row without a rule touches stays.
    const int64_t up = 0;
    tarn_attr a = {.ni = 1, .i = &up};
    y = tarn_matmul(g, tarn_node_make(g, &tarn_op_sort, 1, &e, &a), head);
    OK(tarn_axes_trace(g, 1, &y, 0, NULL, &t, &err));
    assert_int_equal(group_of(&t, e, 1), TARN_GROUP_NONE);
    assert_int_equal(group_of(&t, head, 0), TARN_GROUP_NONE);
    tarn_axes_free(&t);
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
                                              : groups ? TARN_GROUP_PERMUTATION  // 2 groups of 4
                                                       : TARN_GROUP_LINEAR);
        assert_int_equal(group_of(&t, w2, 0), largest ? TARN_GROUP_SCALED : TARN_GROUP_LINEAR);
        if (!groups) {
            assert_int_equal(tarn_axes_find(&t, w1, 0), tarn_axes_find(&t, w2, 1));
        }
        assert_int_equal(groups, t.term[tarn_axes_find(&t, w1, 0)].kind == TARN_TERM_PRODUCT);
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

// ---- terms ----

static tarn_axis atom(tarn_axes *t, int64_t size) { return tarn_axes_atom(t, size, TARN_GROUP_LINEAR); }
static tarn_axis product(tarn_axes *t, int64_t a, int64_t b) {
    const tarn_axis f[2] = {atom(t, a), atom(t, b)};
    return tarn_axes_product_of(t, 2, f);
}
static tarn_axis sum(tarn_axes *t, int64_t a, int64_t b) {
    const tarn_axis f[2] = {atom(t, a), atom(t, b)};
    return tarn_axes_sum_of(t, 2, f);
}
// "4x3x64", "5+7", with ! behind what stays and ' behind what is dual.
static const char *shown(tarn_axes *t, tarn_axis a, char *out) {
    tarn_axis_list p = {0};
    char *at = out;
    tarn_axes_parts(t, a, &p);
    for (int i = 0; i < p.n; i++) {
        tarn_axis_list f = {0};
        tarn_axes_factors(t, p.a[i], &f);
        for (int k = 0; k < f.n; k++) {
            const tarn_term *s = &t->term[f.a[k].term];
            at += sprintf(at, "%s%d%s%s", k > 0 ? "x" : i > 0 ? "+" : "", (int)s->size,
                          s->limit == TARN_GROUP_NONE ? "!" : "", f.a[k].dual ? "'" : "");
        }
    }
    return out;
}

static void terms(void **state) {
    tarn_context cx;
    tarn_axes t;
    tarn_error err = {0};
    char text[256];
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    OK(tarn_axes_open(&t, g, &err));
    // An atom takes the structure that it meets, its limit and its side too.
    tarn_axis a = tarn_axes_atom(&t, 12, TARN_GROUP_SIGNED), b = product(&t, 3, 4);
    tarn_axes_unify(&t, (tarn_axis){a.term, true}, b);
    assert_string_equal(shown(&t, a, text), "3'x4'");
    assert_int_equal(tarn_axes_group(&t, b.term), TARN_GROUP_SIGNED);
    // Common factors from the innermost on; where sizes do not nest, they stay.
    a = product(&t, 12, 64), b = product(&t, 4, 192);
    tarn_axes_unify(&t, a, b);
    assert_string_equal(shown(&t, a, text), "4x3x64");
    assert_string_equal(shown(&t, b, text), "4x3x64");
    assert_int_equal(tarn_axes_root(&t, a).term, tarn_axes_root(&t, b).term);
    a = product(&t, 4, 6), b = product(&t, 6, 4);
    tarn_axes_unify(&t, a, b);
    assert_string_equal(shown(&t, a, text), "4!x6!");
    assert_string_equal(shown(&t, b, text), "6!x4!");
    // Sums are cut at each other's boundaries, products where the outermost factor can be.
    a = sum(&t, 5, 7), b = sum(&t, 8, 4);
    tarn_axes_unify(&t, a, b);
    assert_string_equal(shown(&t, a, text), "5+3+4");
    a = product(&t, 6, 4), b = sum(&t, 8, 16);
    tarn_axes_unify(&t, a, b);
    assert_string_equal(shown(&t, b, text), "2x4+4x4");
    a = product(&t, 6, 4), b = sum(&t, 9, 15);
    tarn_axes_unify(&t, a, b);
    assert_string_equal(shown(&t, b, text), "9!+15!");
    assert_string_equal(shown(&t, a, text), "6!x4!");
    // Its own inverse: signs are left, and with positive scales not even they.
    a = atom(&t, 5);
    tarn_axes_unify(&t, a, (tarn_axis){a.term, true});
    assert_int_equal(tarn_axes_group(&t, a.term), TARN_GROUP_SIGNED);
    tarn_axes_hold(&t, a, TARN_GROUP_SCALED);
    assert_int_equal(tarn_axes_group(&t, a.term), TARN_GROUP_PERMUTATION);
    // A part of a part.
    a = atom(&t, 12);
    assert_true(tarn_axes_part(&t, a, 4, 8, &b));
    assert_true(tarn_axes_part(&t, b, 2, 3, &b));
    assert_string_equal(shown(&t, a, text), "4+2+3+3");
    assert_string_equal(shown(&t, b, text), "3");
    // More parts than an axis may have.
    tarn_axis one[TARN_AXIS_PARTS], ones, twos;
    for (int k = 0; k < TARN_AXIS_PARTS; k++) {
        one[k] = atom(&t, 2);
    }
    ones = tarn_axes_sum_of(&t, TARN_AXIS_PARTS, one);
    twos = sum(&t, 1, 2 * TARN_AXIS_PARTS - 1);
    tarn_axes_unify(&t, ones, twos);
    assert_int_equal(tarn_axes_group(&t, ones.term), TARN_GROUP_NONE);
    assert_int_equal(tarn_axes_group(&t, twos.term), TARN_GROUP_NONE);
    tarn_axes_free(&t);
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// Two levels of heads: q [2 x 2 x 4], k and v [2 x 4], out. What is inside a head of k is under it; queries are too, and
// of q and k, which meet in a product, k takes the inverse.
static void heads(void **state) {
    static const int64_t swap[2] = {1, 0}, forwards[4] = {0, 2, 1, 3};
    tarn_context cx;
    tarn_axes t;
    tarn_symmetry s;
    tarn_axis_view v;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_graph *g = tarn_graph_new(&cx);
    const tarn_desc d = {.dtype = TARN_F64, .rank = 2, .shape = {BATCH * 3, IN}};
    const tarn_node *x = tarn_leaf_input(g, &d), *p[4], *h[3];
    for (int k = 0; k < 3; k++) {
        p[k] = input(g, 2, k == 0 ? 16 : 8, IN);
        h[k] = tarn_matmul(g, x, tarn_permute(g, p[k], swap));
        h[k] = tarn_permute(g, tarn_reshape(g, h[k], 4, (int64_t[]){BATCH, 3, k == 0 ? 4 : 2, 4}), forwards);
    }
    p[3] = input(g, 2, OUT, 16);
    const tarn_attr a = {.ni = 1, .i = &(int64_t){0}, .nf = 1, .f = &(double){1}};
    const tarn_node *y = tarn_permute(g, tarn_node_make(g, &tarn_op_attention, 3, h, &a), forwards);
    y = tarn_matmul(g, tarn_reshape(g, y, 2, (int64_t[]){BATCH * 3, 16}), tarn_permute(g, p[3], swap));
    assert_non_null(y);
    OK(tarn_axes_trace(g, 1, &y, 1, &x, &t, &err));
    OK(tarn_symmetry_of(&t, 4, p, &s, &err));
    static const struct {
        int64_t size;
        tarn_group group;
        int under;
    } want[] = {{2, TARN_GROUP_PERMUTATION, -1}, {2, TARN_GROUP_PERMUTATION, 0}, {4, TARN_GROUP_LINEAR, 0},
                {4, TARN_GROUP_LINEAR, 0}};
    int own[4], n = 0;
    for (int k = 0; k < s.n; k++) {
        if (!s.classes[k].anchored) {
            assert_true(n < 4);
            assert_int_equal(s.classes[k].size, want[n].size);
            assert_int_equal(s.classes[k].group, want[n].group);
            assert_int_equal(s.classes[k].nunder, want[n].under >= 0);
            assert_true(want[n].under < 0 || s.classes[k].under[0] == own[want[n].under]);
            own[n++] = k;
        }
    }
    assert_int_equal(n, 4);
    static const struct {
        int param, axis, n, id[3];
        bool dual[3];
    } axes[] = {{0, 0, 3, {0, 1, 2}, {false, false, false}}, {1, 0, 2, {0, 2}, {false, true}},
                {2, 0, 2, {0, 3}, {false, false}}, {3, 1, 3, {0, 1, 3}, {true, true, true}}};
    for (int k = 0; k < 4; k++) {
        tarn_symmetry_axis(&s, p[axes[k].param], axes[k].axis, &v);
        assert_int_equal(v.segments, 1);
        assert_int_equal(v.segment[0].n, axes[k].n);
        for (int i = 0; i < axes[k].n; i++) {
            assert_int_equal(v.factor[i].id, own[axes[k].id[i]]);
            assert_int_equal(v.factor[i].dual, axes[k].dual[i]);
        }
    }
    tarn_axes_free(&t);
    tarn_graph_release(g);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(activations),
                                       cmocka_unit_test(planted_permutation),
                                       cmocka_unit_test(structure), cmocka_unit_test(images),
                                       cmocka_unit_test(terms), cmocka_unit_test(heads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
