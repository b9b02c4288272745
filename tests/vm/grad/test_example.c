// SPDX-License-Identifier: Apache-2.0
// Sums of squares and norms of per-example gradients, from one walk over the batch, against a
// gradient for each example by itself, in f64.
#include <math.h>

#include "tests/support.h"
#include "vm/grad/example.h"
#include "vm/grad/grad.h"
#include "vm/op/fused.h"

enum { MOST = 12, EXAMPLES = 3 };

static tarn_context cx;

typedef struct {
    tarn_graph *g;
    int64_t n;  // examples
    int nwrt, nbatch;
    int64_t first, of;  // examples of the data that the batch holds, and how many there are
    const tarn_node *wrt[MOST], *batch[MOST];
    uint64_t seed;
} trial;

// ---- operands: the same numbers in every trial of a case ----

static const tarn_node *leaf(trial *t, tarn_tensor *x) {
    const tarn_node *n = tarn_leaf_tensor(t->g, x);
    tarn_tensor_release(x);
    return n;
}
static const tarn_node *parameter(trial *t, int rank, const int64_t *shape) {
    tarn_tensor x = filled(&cx, TARN_F64, rank, shape, ++t->seed * 1000);
    return t->wrt[t->nwrt++] = leaf(t, &x);
}
#define P(t, ...)                                                                                  \
    parameter(t, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                        \
              (const int64_t[]){__VA_ARGS__})

// [n, …] of floats, or of integers below `limit`.
static const tarn_node *examples(trial *t, int64_t limit, int rank, const int64_t *each) {
    int64_t shape[TARN_MAX_RANK] = {t->of}, size = 1;
    tarn_error err = {0};
    for (int d = 0; d < rank; d++) {
        shape[d + 1] = each[d];
        size *= each[d];
    }
    tarn_tensor all = filled(&cx, TARN_F64, rank + 1, shape, ++t->seed * 1000), x;
    shape[0] = t->n;
    OK(tarn_tensor_new(&cx, limit ? TARN_I64 : TARN_F64, rank + 1, shape, &x, &err));
    for (int64_t i = 0; i < t->n * size; i++) {
        double v = tarn_tensor_get(&all, t->first * size + i);
        tarn_tensor_set(&x, i, limit ? floor((v + 2) / 4 * (double)limit) : v);
    }
    tarn_tensor_release(&all);
    return t->batch[t->nbatch++] = leaf(t, &x);
}
#define X(t, ...)                                                                                  \
    examples(t, 0, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                      \
             (const int64_t[]){__VA_ARGS__})
#define TOKENS(t, limit, ...)                                                                      \
    examples(t, limit, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                  \
             (const int64_t[]){__VA_ARGS__})

static const tarn_node *shaped(trial *t, const tarn_node *x, int rank, const int64_t *shape) {
    return tarn_reshape(t->g, x, rank, shape);
}
#define SHAPED(t, x, ...)                                                                          \
    shaped(t, x, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                        \
           (const int64_t[]){__VA_ARGS__})

// As networks do: all rows in one product, with the weight [out, in] turned.
static const tarn_node *linear(trial *t, const tarn_node *x, const tarn_node *w,
                               const tarn_node *b) {
    const int64_t turn[2] = {1, 0}, last = x->desc.shape[x->desc.rank - 1];
    int64_t shape[TARN_MAX_RANK], rows[2] = {tarn_desc_numel(&x->desc) / last, last};
    memcpy(shape, x->desc.shape, sizeof shape);
    shape[x->desc.rank - 1] = w->desc.shape[0];
    const tarn_node *y =
        tarn_matmul(t->g, tarn_reshape(t->g, x, 2, rows), tarn_permute(t->g, w, turn));
    y = tarn_reshape(t->g, y, x->desc.rank, shape);
    return b ? tarn_add(t->g, y, b) : y;
}
// A sum over examples of something curved.
static const tarn_node *total(trial *t, const tarn_node *y) {
    return tarn_total(t->g, &tarn_op_sum, tarn_unary(t->g, &tarn_op_tanh, y));
}

// ---- the cases ----

static const tarn_node *mlp(trial *t) {
    const tarn_node *x = X(t, 5), *labels = TOKENS(t, 3, 1);
    x = tarn_relu(t->g, linear(t, x, P(t, 4, 5), P(t, 4)));
    x = linear(t, x, P(t, 3, 4), P(t, 3));
    const tarn_ce_options o = {.smoothing = 0.1};
    return tarn_total(t->g, &tarn_op_sum, tarn_cross_entropy(t->g, x, SHAPED(t, labels, t->n), &o));
}
static const tarn_node *convolution(trial *t, int64_t groups, int64_t stride) {
    const int64_t i[11] = {stride, 1, 1, 0, 1, 2, groups, 3, 2, 5, 6};
    const tarn_node *in[2] = {X(t, 5, 6, 4), P(t, 6, 4 / groups, 3, 2)};
    tarn_attr a = {.ni = 11, .i = i};
    const tarn_node *y = tarn_node_make(t->g, &tarn_op_conv2d, 2, in, &a);
    const tarn_norm_shape s = {t->n, y->desc.shape[1] * y->desc.shape[2], 2, 3, true, 1e-3};
    y = tarn_relu(t->g, tarn_norm(t->g, tarn_add(t->g, y, P(t, 6)), P(t, 6), P(t, 6), &s));
    return total(t, linear(t, SHAPED(t, y, t->n, tarn_desc_numel(&y->desc) / t->n),
                           P(t, 2, tarn_desc_numel(&y->desc) / t->n), NULL));
}
static const tarn_node *conv(trial *t) { return convolution(t, 1, 1); }
static const tarn_node *conv_groups(trial *t) { return convolution(t, 2, 2); }
static const tarn_node *conv_depthwise(trial *t) {
    const int64_t i[11] = {1, 1, 1, 1, 1, 1, 3, 3, 3, 4, 4};
    const tarn_node *in[2] = {X(t, 4, 4, 3), P(t, 6, 1, 3, 3)};
    tarn_attr a = {.ni = 11, .i = i};
    return total(t, tarn_node_make(t->g, &tarn_op_conv2d, 2, in, &a));
}
// Tokens repeat within an example, so that their rows are added before they are squared.
static const tarn_node *embedding(trial *t) {
    const tarn_node *x = tarn_embedding(t->g, P(t, 3, 4), TOKENS(t, 3, 6));
    return total(t, linear(t, x, P(t, 2, 4), P(t, 2)));
}
static const tarn_node *layer_norm(trial *t, bool centred) {
    const tarn_node *x = linear(t, X(t, 4, 3), P(t, 5, 3), P(t, 5));
    const tarn_norm_shape s = {t->n * 4, 1, 1, 5, centred, 1e-3};
    return total(
        t, linear(t, tarn_norm(t->g, x, P(t, 5), centred ? P(t, 5) : NULL, &s), P(t, 2, 5), NULL));
}
static const tarn_node *norm_layer(trial *t) { return layer_norm(t, true); }
static const tarn_node *norm_rms(trial *t) { return layer_norm(t, false); }
// One table as embedding and as head: rows of it and a product of it.
static const tarn_node *tied(trial *t) {
    const tarn_node *w = P(t, 4, 3), *tokens = TOKENS(t, 4, 5);
    const tarn_node *z = linear(t, tarn_embedding(t->g, w, tokens), w, NULL);
    const tarn_ce_options o = {0};
    return tarn_total(t->g, &tarn_op_sum, tarn_cross_entropy(t->g, z, tokens, &o));
}
static const tarn_node *twice(trial *t) {
    const tarn_node *w = P(t, 4, 4), *b = P(t, 4), *x = X(t, 4);
    return total(t, linear(t, tarn_relu(t->g, linear(t, x, w, b)), w, b));
}
static const tarn_node *two_tables(trial *t) {
    const tarn_node *w = P(t, 4, 3);
    const tarn_node *x = tarn_embedding(t->g, w, TOKENS(t, 4, 2)),
                    *y = tarn_embedding(t->g, w, TOKENS(t, 4, 2));
    return total(t, tarn_mul(t->g, x, y));
}
// A transformer's block: class token, positions, heads, attention, a table of positions without
// examples.
static const tarn_node *transformer(trial *t) {
    enum { T = 4, C = 6, H = 2 };
    tarn_graph *g = t->g;
    const int64_t token[3] = {t->n, 1, C}, order[4] = {0, 2, 1, 3};
    const tarn_node *x = linear(t, X(t, T - 1, 5), P(t, C, 5), P(t, C));
    const tarn_node *both[2] = {tarn_broadcast(g, P(t, 1, 1, C), 3, token), x};
    x = tarn_concat(g, 2, both, 1);
    x = tarn_add(g, x, tarn_embedding(g, P(t, 7, C), tarn_iota(g, T)));
    const tarn_node *qkv =
                        SHAPED(t, linear(t, x, P(t, 3 * C, C), P(t, 3 * C)), t->n, T, 3, H, C / H),
                    *head[3];
    for (int k = 0; k < 3; k++) {
        head[k] = tarn_permute(g, SHAPED(t, tarn_slice(g, qkv, 2, k, 1), t->n, T, H, C / H), order);
    }
    const tarn_attention_options o = {.causal = true, .scale = 0.5};
    const tarn_node *a =
        tarn_permute(g, tarn_attention(g, head[0], head[1], head[2], NULL, &o), order);
    x = tarn_add(g, x, linear(t, SHAPED(t, a, t->n, T, C), P(t, C, C), NULL));
    return total(t, x);
}
// What lies between the parameter and its use: scaled, joined, sliced; a merge's coefficient.
static const tarn_node *composed(trial *t) {
    tarn_graph *g = t->g;
    const tarn_node *lambda = P(t, 1), *w = P(t, 3, 4), *v = P(t, 3, 4), *half[2];
    const tarn_node *m = tarn_add(g, w, tarn_mul(g, lambda, tarn_sub(g, v, w)));
    half[0] = tarn_slice(g, m, 1, 0, 2);
    half[1] = tarn_mul(g, tarn_slice(g, m, 1, 2, 2), tarn_num(g, -2));
    return total(t, linear(t, X(t, 4), tarn_concat(g, 2, half, 1), NULL));
}
// Element-wise rows that stretch the parameter, in both orders, and a product with the shared
// factor left.
static const tarn_node *stretched(trial *t) {
    tarn_graph *g = t->g;
    const tarn_node *x = X(t, 3, 4);
    x = tarn_div(g, x, tarn_add(g, tarn_mul(g, P(t, 4), P(t, 4)), tarn_num(g, 9)));
    x = tarn_matmul(g, P(t, 2, 3), x);
    x = tarn_maximum(g, P(t, 2, 1), tarn_sub(g, P(t, 1, 1, 4), x));
    return total(t, tarn_matmul(g, x, P(t, 4, 3)));
}
// A product of its own for each group.
static const tarn_node *experts(trial *t) {
    return total(t, tarn_matmul(t->g, X(t, 2, 3, 4), P(t, 2, 4, 5)));
}
// Weights so large that norms alone take the Gram matrices of the rows, and squares some examples
// at a time.
static const tarn_node *wide(trial *t) {
    return total(t, linear(t, X(t, 2, 1500), P(t, 1700, 1500), P(t, 1700)));
}
static const tarn_node *mean_of_means(trial *t) {
    tarn_graph *g = t->g;
    const int64_t axis = 1;
    const tarn_node *y = linear(t, X(t, 5, 3), P(t, 2, 3), P(t, 2));
    y = tarn_reduce(g, &tarn_op_max, y, 1, &axis, false);
    return tarn_div(g, total(t, y), tarn_num(g, 7));
}

// ---- the comparison ----

static void evaluate(trial *t, int n, const tarn_node *const *roots, tarn_tensor *out) {
    tarn_error err = {0};
    OK(tarn_graph_eval(t->g, n, roots, NULL, out, &err));
}

static void start(trial *t, int64_t first, int64_t n) {
    *t = (trial){.g = tarn_graph_new(&cx), .first = first, .n = n, .of = EXAMPLES};
}

static void check(const tarn_node *(*make)(trial *t)) {
    trial t, one;
    tarn_error err = {0};
    const tarn_node *root[MOST + 2];
    tarn_tensor got[MOST + 2], want[MOST], g[MOST];
    start(&t, 0, EXAMPLES);
    const tarn_node *y = make(&t);
    if (!y) {
        fail_msg("%s", t.g->err.message);
    }
    OK(tarn_example_squares(t.g, y, t.nbatch, t.batch, t.nwrt, t.wrt, root, &root[t.nwrt], &err));
    OK(tarn_example_squares(t.g, y, t.nbatch, t.batch, t.nwrt, t.wrt, NULL, &root[t.nwrt + 1],
                            &err));
    evaluate(&t, t.nwrt + 2, root, got);
    double norms[EXAMPLES] = {0};
    for (int64_t e = 0; e < EXAMPLES; e++) {
        start(&one, e, 1);
        y = make(&one);
        OK(tarn_vjp(one.g, y, NULL, one.nwrt, one.wrt, root, &err));
        evaluate(&one, one.nwrt, root, g);
        for (int k = 0; k < one.nwrt; k++) {
            if (e == 0) {
                OK(tarn_tensor_new(&cx, TARN_F64, g[k].rank, g[k].shape, &want[k], &err));
            }
            for (int64_t i = 0; i < tarn_tensor_numel(&g[k]); i++) {
                double v = tarn_tensor_get(&g[k], i);
                tarn_tensor_set(&want[k], i, (e ? tarn_tensor_get(&want[k], i) : 0) + v * v);
                norms[e] += v * v;
            }
            tarn_tensor_release(&g[k]);
        }
        tarn_graph_release(one.g);
    }
    for (int k = 0; k < t.nwrt; k++) {
        double size = 0, gap = 0;
        assert_true(tarn_shape_equal(got[k].rank, got[k].shape, want[k].rank, want[k].shape));
        for (int64_t i = 0; i < tarn_tensor_numel(&want[k]); i++) {
            size = fmax(size, fabs(tarn_tensor_get(&want[k], i)));
            gap = fmax(gap, fabs(tarn_tensor_get(&got[k], i) - tarn_tensor_get(&want[k], i)));
        }
        assert_true(size > 0);
        if (!(gap <= 1e-12 * size)) {
            fail_msg("parameter %d: off by %g of %g", k + 1, gap, size);
        }
        tarn_tensor_release(&want[k]);
    }
    for (int64_t e = 0; e < 2 * EXAMPLES; e++) {  // with the squares, and alone
        double v = tarn_tensor_get(&got[t.nwrt + e / EXAMPLES], e % EXAMPLES),
               norm = norms[e % EXAMPLES];
        if (!(fabs(v - norm) <= 1e-12 * norm)) {
            fail_msg("norm of example %d: %.17g, expected %.17g", (int)(e % EXAMPLES) + 1, v, norm);
        }
    }
    for (int k = 0; k < t.nwrt + 2; k++) {
        tarn_tensor_release(&got[k]);
    }
    tarn_graph_release(t.g);
}

#define CASE(name)                                                                                 \
    static void test_##name(void **state) { check(name); }
CASE(mlp)
CASE(conv)
CASE(conv_groups)
CASE(conv_depthwise)
CASE(embedding)
CASE(norm_layer)
CASE(norm_rms)
CASE(tied)
CASE(twice)
CASE(two_tables)
CASE(transformer)
CASE(composed)
CASE(stretched)
CASE(experts)
CASE(mean_of_means)
CASE(wide)

// A batch of one is the plain gradient.
static void test_one_example(void **state) {
    trial t;
    tarn_error err = {0};
    const tarn_node *root[MOST + 1], *grad[MOST];
    tarn_tensor got[2];
    start(&t, 1, 1);
    const tarn_node *y = mlp(&t);
    OK(tarn_example_squares(t.g, y, t.nbatch, t.batch, t.nwrt, t.wrt, root, &root[t.nwrt], &err));
    OK(tarn_vjp(t.g, y, NULL, t.nwrt, t.wrt, grad, &err));
    assert_ptr_equal(root[0], tarn_mul(t.g, grad[0], grad[0]));
    evaluate(&t, 1, &root[t.nwrt], got);
    assert_int_equal(got[0].rank, 1);
    tarn_tensor_release(&got[0]);
    tarn_graph_release(t.g);
}

// Where an example's share has no meaning, or is not along the first axis, that is said.
static void refused(const tarn_node *(*make)(trial *t), const char *at) {
    trial t;
    tarn_error err = {0};
    const tarn_node *root[MOST + 1];
    start(&t, 0, EXAMPLES);
    const tarn_node *y = make(&t);
    assert_int_equal(
        tarn_example_squares(t.g, y, t.nbatch, t.batch, t.nwrt, t.wrt, root, &root[t.nwrt], &err),
        TARN_ERROR);
    assert_string_equal(err.code, "NotByExample");
    assert_non_null(strstr(err.message, at));
    tarn_graph_release(t.g);
}
static const tarn_node *decayed(trial *t) {
    const tarn_node *w = P(t, 2, 3);
    return tarn_add(t->g, total(t, linear(t, X(t, 3), w, NULL)),
                    tarn_total(t->g, &tarn_op_sum, tarn_mul(t->g, w, w)));
}
static const tarn_node *turned(trial *t) {  // time first
    const int64_t order[3] = {1, 0, 2};
    return total(t, linear(t, tarn_permute(t->g, X(t, 4, 3), order), P(t, 2, 3), NULL));
}
static void test_refused(void **state) {
    refused(decayed, "add");
    refused(turned, "matmul");
}

static int open_all(void **state) {
    open_context(&cx, 2, NULL);
    return 0;
}
static int close_all(void **state) {
    tarn_context_free(&cx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mlp),           cmocka_unit_test(test_conv),
        cmocka_unit_test(test_conv_groups),   cmocka_unit_test(test_conv_depthwise),
        cmocka_unit_test(test_embedding),     cmocka_unit_test(test_norm_layer),
        cmocka_unit_test(test_norm_rms),      cmocka_unit_test(test_tied),
        cmocka_unit_test(test_twice),         cmocka_unit_test(test_two_tables),
        cmocka_unit_test(test_transformer),   cmocka_unit_test(test_composed),
        cmocka_unit_test(test_stretched),     cmocka_unit_test(test_experts),
        cmocka_unit_test(test_mean_of_means), cmocka_unit_test(test_wide),
        cmocka_unit_test(test_one_example),   cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
