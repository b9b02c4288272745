// SPDX-License-Identifier: Apache-2.0
// The fused rows: each against its decomposition, to 1e-12 in f64, over random shapes around the
// widths of lanes and pieces; against naive twins written from their definitions; at the edges
// (huge logits, equal ones, rows that see nothing, labels to ignore, no rows); the same bits on
// every instruction set and for 1, 2 and 8 threads, which run_row sees to.
#include "tests/vm/op/rows.h"
#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/kernel/random.h"

enum { MOST = 5 };

typedef struct {
    const tarn_op *op;
    int n;
    tarn_tensor x[MOST];
    int64_t i[2];
    double f[1];
    tarn_attr a;
} call;

static tarn_context *cx(void) { return &row_context[0]; }

static double at(const tarn_tensor *t, int64_t i) { return tarn_tensor_get(t, i); }

static tarn_tensor numbers(tarn_dtype t, int rank, const int64_t *shape, uint64_t *seed, double low,
                           double high) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(cx(), t, rank, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, low + (high - low) * (test_uniform(seed) + 1) / 2);
    }
    return x;
}
static tarn_tensor integers(int rank, const int64_t *shape, uint64_t *seed, int64_t n) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(cx(), TARN_I64, rank, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, (double)below(seed, n));
    }
    return x;
}
static tarn_tensor apply(const tarn_op *op, int n, const tarn_tensor *in, const tarn_attr *a) {
    tarn_error err = {0};
    tarn_tensor out;
    OK(tarn_op_apply(cx(), op, n, in, a, &out, &err));
    return out;
}

static void close_call(call *c) {
    for (int k = 0; k < c->n; k++) {
        tarn_tensor_release(&c->x[k]);
    }
}

// Largest difference over the largest value.
static double distance(const tarn_tensor *a, const tarn_tensor *b) {
    double most = 0, size = 1e-300;
    assert_true(tarn_shape_equal(a->rank, a->shape, b->rank, b->shape));
    for (int64_t i = 0; i < tarn_tensor_numel(a); i++) {
        double d = fabs(at(a, i) - at(b, i)), v = fabs(at(b, i));
        most = d > most || d != d ? d : most;
        size = v > size ? v : size;
    }
    return most / size;
}

// ---- the rows against what they are made of ----

static void against_decomposition(call *c, double slack) {
    tarn_error err = {0};
    c->a.i = c->i;
    c->a.f = c->f;
    tarn_graph *g = tarn_graph_new(cx());
    const tarn_node *in[MOST];
    for (int k = 0; k < c->n; k++) {
        in[k] = tarn_leaf_tensor(g, &c->x[k]);
    }
    const tarn_node *y = tarn_node_make(g, c->op, c->n, in, &c->a);
    if (!y) {
        fail_msg("%s: %s", c->op->name, g->err.message);
    }
    const tarn_node *apart = c->op->decompose(g, y);
    if (!apart) {
        fail_msg("%s, in other rows: %s", c->op->name, g->err.message);
    }
    tarn_tensor want, got = run_row(c->op, c->n, c->x, &c->a);
    OK(tarn_graph_eval(g, 1, &apart, NULL, &want, &err));
    double d = tarn_tensor_numel(&got) > 0 ? distance(&got, &want) : 0;
    if (!(d <= slack)) {
        fail_msg("%s in %s is %.3g off", c->op->name, tarn_dtype_get(got.dtype)->name, d);
    }
    tarn_tensor_release(&got);
    tarn_tensor_release(&want);
    tarn_graph_release(g);
    close_call(c);
}

static const int64_t widths[] = {1, 2, 7, 15, 16, 17, 100, 256, 300, 1000};
static int64_t some_width(uint64_t *s) { return widths[below(s, 10)]; }

static call softmax_call(const tarn_op *op, int n, tarn_dtype t, uint64_t *s) {
    const int64_t shape[3] = {below(s, 4), 1 + below(s, 200), some_width(s)};
    call c = {.op = op, .n = n};
    for (int k = 0; k < n; k++) {
        c.x[k] = numbers(t, 3, shape, s, -4, 1);
    }
    if (n == 2) {  // the first is what the function gave
        tarn_tensor y = apply(op == &tarn_op_softmax_vjp ? &tarn_op_softmax : &tarn_op_log_softmax,
                              1, c.x, NULL);
        tarn_tensor_release(&c.x[0]);
        c.x[0] = y;
    }
    return c;
}
static call ce_call(bool back, tarn_dtype t, uint64_t *s) {
    const int64_t shape[2] = {below(s, 6) ? 1 + below(s, 300) : 0, some_width(s)};
    call c = {.op = back ? &tarn_op_cross_entropy_vjp : &tarn_op_cross_entropy,
              .n = back ? 3 : 2,
              .i = {below(s, 2), 0},
              .f = {below(s, 2) ? 0.25 : 0},
              .a = {.ni = 2, .nf = 1}};
    c.x[0] = numbers(t, 2, shape, s, -5, 5);
    c.x[1] = integers(1, shape, s, shape[1]);
    if (back) {
        c.x[2] = numbers(t, 1, shape, s, -1, 1);
    }
    return c;
}
static call norm_call(const tarn_op *op, tarn_dtype t, uint64_t *s) {
    bool rows = below(s, 2);
    const int64_t x[4] = {below(s, 8) ? 1 + below(s, rows ? 400 : 3) : 0,
                          rows ? 1 : 1 + below(s, 900), rows ? 1 : 1 + below(s, 20),
                          rows ? 1 + some_width(s) : 1 + below(s, 4)};
    call c = {.op = op,
              .i = {op == &tarn_op_norm_stats || below(s, 2), 0},
              .f = {0.1},
              .a = {.ni = 1, .nf = 1}};
    c.a.i = c.i;
    c.a.f = c.f;
    tarn_tensor v = numbers(t, 4, x, s, -2, 3), w = numbers(t, 2, x + 2, s, -1, 1);
    tarn_tensor b = numbers(t, 2, x + 2, s, -1, 1), g = numbers(t, 4, x, s, -1, 1);
    tarn_tensor stats = apply(&tarn_op_norm_stats, 1, &v, &c.a);
    tarn_tensor sums = apply(&tarn_op_norm_sums, 3, (tarn_tensor[]){v, stats, g}, &c.a);
    tarn_tensor all[5] = {v, w, b, stats, g};
    if (op == &tarn_op_norm_stats) {
        c.n = 1;
    } else if (op == &tarn_op_norm) {
        c.n = 4;
    } else if (op == &tarn_op_norm_sums) {
        c.n = 3;
        all[1] = stats;
        all[2] = g;
    } else {
        c.n = 5;
        all[2] = stats;
        all[3] = g;
        all[4] = sums;
    }
    for (int k = 0; k < c.n; k++) {
        tarn_tensor_share(&all[k], &c.x[k]);
    }
    tarn_tensor used[6] = {v, w, b, stats, g, sums};
    for (int k = 0; k < 6; k++) {
        tarn_tensor_release(&used[k]);
    }
    return c;
}
// Heads in groups, masks of every kind, operands that lie as [batch, T, heads, size].
static tarn_tensor heads(tarn_dtype t, const int64_t *shape, bool swapped, uint64_t *s) {
    static const int64_t order[4] = {0, 2, 1, 3};
    const int64_t memory[4] = {shape[0], shape[2], shape[1], shape[3]};
    tarn_attr a = {.ni = 4, .i = order};
    tarn_tensor x = numbers(t, 4, swapped ? memory : shape, s, -2, 2), y;
    if (!swapped) {
        return x;
    }
    y = apply(&tarn_op_permute, 1, &x, &a);
    tarn_tensor_release(&x);
    return y;
}
static call attention_call(bool back, tarn_dtype t, uint64_t *s) {
    int64_t group = 1 + below(s, 3), own = 1 + below(s, 2), size = 1 + below(s, 9);
    const int64_t q[4] = {1 + below(s, 2), own * group, 1 + below(s, 150), size};
    const int64_t k[4] = {q[0], own, 1 + below(s, 150), size},
                  v[4] = {q[0], own, k[2], 1 + below(s, 9)};
    const int64_t y[4] = {q[0], q[1], q[2], v[3]}, wide[3] = {q[1], q[2], k[2]}, row[1] = {k[2]};
    int kind = (int)below(s, 4);
    call c = {.op = back ? &tarn_op_attention_vjp : &tarn_op_attention,
              .n = back ? 4 : 3,
              .i = {below(s, 2), 0},
              .f = {0.4},
              .a = {.ni = 1, .nf = 1}};
    c.x[0] = heads(t, q, below(s, 2), s);
    c.x[1] = heads(t, k, below(s, 2), s);
    c.x[2] = heads(t, v, below(s, 2), s);
    if (back) {
        c.x[3] = heads(t, y, below(s, 2), s);
    }
    if (kind == 1) {  // some rows see nothing
        c.x[c.n] = numbers(TARN_BOOL, 3, wide, s, 0, 1);
        for (int64_t i = 0; i < tarn_tensor_numel(&c.x[c.n]); i++) {
            bool seen = i / k[2] % 5 != 0 && below(s, 3);
            tarn_tensor_set(&c.x[c.n], i, seen);
        }
        c.n++;
    } else if (kind == 2) {
        c.x[c.n++] = numbers(t, 3, wide, s, -3, 0);
    } else if (kind == 3) {
        c.x[c.n++] = numbers(t, 1, row, s, -3, 0);
    }
    return c;
}

static void decompositions(void **state) {
    for (uint64_t seed = 1; seed <= 16; seed++) {
        for (int wide = 0; wide < 2; wide++) {
            uint64_t s = seed * 2 + (uint64_t)wide;
            tarn_dtype t = wide ? TARN_F64 : TARN_F32;
            double slack = wide ? 1e-12 : 4e-6;
            call all[] = {softmax_call(&tarn_op_softmax, 1, t, &s),
                          softmax_call(&tarn_op_log_softmax, 1, t, &s),
                          softmax_call(&tarn_op_softmax_vjp, 2, t, &s),
                          softmax_call(&tarn_op_log_softmax_vjp, 2, t, &s),
                          ce_call(false, t, &s),
                          ce_call(true, t, &s),
                          norm_call(&tarn_op_norm_stats, t, &s),
                          norm_call(&tarn_op_norm, t, &s),
                          norm_call(&tarn_op_norm_sums, t, &s),
                          norm_call(&tarn_op_norm_vjp, t, &s),
                          attention_call(false, t, &s),
                          attention_call(true, t, &s)};
            for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
                against_decomposition(&all[k], slack);
            }
        }
    }
}

// Every row that has a decomposition and a function of its own stands above.
static void nothing_left_out(void **state) {
    int fused = 0;
    for (int i = 0; i < TARN_OP_COUNT; i++) {
        const tarn_op *op = tarn_ops[i];
        fused +=
            op->decompose && (strstr(op->name, "softmax") || strstr(op->name, "norm") ||
                              strstr(op->name, "cross_entropy") || strstr(op->name, "attention"));
    }
    assert_int_equal(fused, 12);
}

// ---- naive twins ----

static void softmax_twin(void **state) {
    uint64_t s = 5;
    const int64_t shape[2] = {300, 131};
    for (int wide = 0; wide < 2; wide++) {
        tarn_tensor x = numbers(wide ? TARN_F64 : TARN_F32, 2, shape, &s, -30, 30);
        tarn_tensor p = run_row(&tarn_op_softmax, 1, &x, NULL),
                    l = run_row(&tarn_op_log_softmax, 1, &x, NULL);
        for (int64_t r = 0; r < shape[0]; r++) {
            double sum = 0;
            for (int64_t k = 0; k < shape[1]; k++) {
                sum += exp(at(&x, r * shape[1] + k));
            }
            for (int64_t k = 0; k < shape[1]; k++) {
                int64_t i = r * shape[1] + k;
                same_number("softmax", at(&p, i), exp(at(&x, i)) / sum, wide ? 1e-14 : 2e-7);
                same_number("log_softmax", at(&l, i), at(&x, i) - log(sum), wide ? 1e-13 : 8e-6);
            }
        }
        tarn_tensor_release(&x);
        tarn_tensor_release(&p);
        tarn_tensor_release(&l);
    }
    // Rows of a stored dtype are read as f32, integers too.
    tarn_tensor h = filled(cx(), TARN_BF16, 2, shape, 3), w = integers(2, shape, &s, 9), f, a, b;
    tarn_error err = {0};
    for (int k = 0; k < 2; k++) {
        const tarn_tensor *x = k ? &w : &h;
        OK(tarn_tensor_cast(cx(), x, TARN_F32, &f, &err));
        a = run_row(&tarn_op_softmax, 1, x, NULL);
        b = run_row(&tarn_op_softmax, 1, &f, NULL);
        assert_true(same_bytes(&a, &b));
        tarn_tensor_release(&f);
        tarn_tensor_release(&a);
        tarn_tensor_release(&b);
    }
    tarn_tensor_release(&h);
    tarn_tensor_release(&w);
}

static void cross_entropy_twin(void **state) {
    uint64_t s = 6;
    const int64_t shape[2] = {400, 37};
    const int64_t i[2] = {1, -100};
    const double f[1] = {0.1};
    tarn_attr a = {.ni = 2, .i = i, .nf = 1, .f = f};
    tarn_tensor in[2] = {numbers(TARN_F64, 2, shape, &s, -3, 3), integers(1, shape, &s, 37)};
    tarn_tensor_set(&in[1], 7, -100);
    tarn_tensor y = run_row(&tarn_op_cross_entropy, 2, in, &a);
    for (int64_t r = 0; r < shape[0]; r++) {
        double sum = 0, want = 0;
        for (int64_t k = 0; k < 37; k++) {
            sum += exp(at(&in[0], r * 37 + k));
        }
        for (int64_t k = 0; k < 37; k++) {
            double q = 0.1 / 37 + (k == (int64_t)at(&in[1], r) ? 0.9 : 0);
            want -= q * (at(&in[0], r * 37 + k) - log(sum));
        }
        same_number("cross_entropy", at(&y, r), r == 7 ? 0 : want, 1e-13);
    }
    tarn_tensor_release(&y);
    tarn_error err = {0};
    tarn_tensor_set(&in[1], 9, 37);
    assert_int_equal(tarn_op_apply(cx(), &tarn_op_cross_entropy, 2, in, &a, &y, &err), TARN_ERROR);
    assert_string_equal(err.message, "cross_entropy: label 37 (row 10) is outside 0 to 36");
    tarn_tensor_release(&in[0]);
    tarn_tensor_release(&in[1]);
}

static void norm_twin(void **state) {
    uint64_t s = 7;
    static const int64_t shapes[3][4] = {{200, 1, 1, 190}, {3, 77, 2, 3}, {1, 3000, 17, 1}};
    for (int n = 0; n < 3; n++) {
        const int64_t *d = shapes[n], one = 1;
        const double eps = 1e-5;
        tarn_attr a = {.ni = 1, .i = &one, .nf = 1, .f = &eps};
        tarn_tensor in[4] = {numbers(TARN_F64, 4, d, &s, 100, 101),
                             numbers(TARN_F64, 2, d + 2, &s, -1, 1),
                             numbers(TARN_F64, 2, d + 2, &s, -1, 1)};
        in[3] = run_row(&tarn_op_norm_stats, 1, in, &a);
        tarn_tensor y = run_row(&tarn_op_norm, 4, in, &a);
        for (int64_t i = 0; i < tarn_tensor_numel(&y); i++) {
            int64_t c = d[2] * d[3], ia = i / (d[1] * c), g = i / d[3] % d[2];
            double mean = 0, var = 0, count = (double)(d[1] * d[3]);
            if (i % 97 != 0) {
                continue;
            }
            for (int pass = 0; pass < 2; pass++) {
                for (int64_t m = 0; m < d[1] * d[3]; m++) {
                    double x = at(&in[0], (ia * d[1] + m / d[3]) * c + g * d[3] + m % d[3]);
                    *(pass ? &var : &mean) += pass ? (x - mean) * (x - mean) / count : x / count;
                }
            }
            double want =
                (at(&in[0], i) - mean) / sqrt(var + eps) * at(&in[1], i % c) + at(&in[2], i % c);
            same_number("norm", at(&y, i), want, 1e-11);
            same_number("mean", at(&in[3], ia * d[2] + g), mean, 1e-11);
            same_number("variance", at(&in[3], (d[0] + ia) * d[2] + g), var, 1e-11);
        }
        for (int k = 0; k < 4; k++) {
            tarn_tensor_release(&in[k]);
        }
        tarn_tensor_release(&y);
    }
}

static void rope_twin(void **state) {
    uint64_t s = 8;
    const int64_t shape[3] = {3, 50, 10}, places[1] = {50};
    for (int n = 0; n < 8; n++) {
        bool adjacent = n % 2, back = n / 2 % 2, divided = n / 4;
        const int64_t i[2] = {adjacent, back};
        const double turns[6] = {500, 1, 2, 0.5, 8, 3};
        tarn_attr a = {.ni = 2, .i = i, .nf = divided ? 6 : 1, .f = turns};
        tarn_tensor in[2] = {numbers(TARN_F64, 3, shape, &s, -1, 1), integers(1, places, &s, 3000)};
        tarn_tensor y = run_row(&tarn_op_rope, 2, in, &a);
        for (int64_t r = 0; r < 150; r++) {
            for (int64_t k = 0; k < 5; k++) {
                double angle = at(&in[1], r % 50) * pow(500, -(double)k / 5) * (back ? -1 : 1);
                angle /= divided ? turns[k + 1] : 1;
                int64_t p = r * 10 + (adjacent ? 2 * k : k),
                        q = r * 10 + (adjacent ? 2 * k + 1 : k + 5);
                double u = at(&in[0], p), v = at(&in[0], q);
                same_number("rope", at(&y, p), u * cos(angle) - v * sin(angle), 1e-11);
                same_number("rope", at(&y, q), v * cos(angle) + u * sin(angle), 1e-11);
            }
        }
        tarn_tensor_release(&in[0]);
        tarn_tensor_release(&in[1]);
        tarn_tensor_release(&y);
    }
}

static void embedding_twin(void **state) {
    uint64_t s = 9;
    const int64_t table[2] = {61, 33}, shape[3] = {40, 50, 33};
    tarn_tensor in[2] = {numbers(TARN_F32, 2, table, &s, -1, 1), integers(2, shape, &s, 61)};
    tarn_tensor y = run_row(&tarn_op_embedding, 2, in, NULL);
    tarn_tensor back[2] = {in[1], y};
    tarn_attr a = {.ni = 1, .i = table};
    tarn_tensor sum = run_row(&tarn_op_scatter_rows, 2, back, &a);
    for (int64_t i = 0; i < tarn_tensor_numel(&y); i++) {
        assert_true(at(&y, i) == at(&in[0], (int64_t)at(&in[1], i / 33) * 33 + i % 33));
    }
    for (int64_t r = 0; r < 61; r++) {  // in the order of the source
        float want = 0;
        for (int64_t i = 0; i < 2000; i++) {
            want = (int64_t)at(&in[1], i) == r ? want + (float)at(&y, i * 33 + 5) : want;
        }
        assert_true(at(&sum, r * 33 + 5) == (double)want);
    }
    tarn_error err = {0};
    tarn_tensor bad;
    tarn_tensor_set(&in[1], 3, 61);
    assert_int_equal(tarn_op_apply(cx(), &tarn_op_embedding, 2, in, NULL, &bad, &err), TARN_ERROR);
    assert_string_equal(err.message, "embedding: row 61 is outside 0 to 60");
    assert_int_equal(tarn_op_apply(cx(), &tarn_op_scatter_rows, 2, back, &a, &bad, &err),
                     TARN_ERROR);
    assert_string_equal(err.message, "scatter_rows: row 61 is outside 0 to 60");
    tarn_tensor_release(&in[0]);
    tarn_tensor_release(&in[1]);
    tarn_tensor_release(&y);
    tarn_tensor_release(&sum);
}

// Kept where the word of the element is below (1 - p) 2^32.
static void dropout_twin(void **state) {
    uint64_t s = 10;
    const int64_t n = TARN_BLOCK + 77;
    const double p = 0.3;
    tarn_attr a = {.nf = 1, .f = &p};
    for (int wide = 0; wide < 2; wide++) {
        tarn_tensor in[2] = {numbers(wide ? TARN_F64 : TARN_F32, 1, &n, &s, -1, 1),
                             integers(0, NULL, &s, 99)};
        ((int64_t *)in[1].storage->data)[0] = -123456789012345;
        tarn_tensor y = run_row(&tarn_op_dropout, 2, in, &a);
        uint64_t key = (uint64_t)-123456789012345;
        for (int64_t i = 0; i < n; i += 1 + i / 50) {
            uint32_t counter[4] = {(uint32_t)(i / 4), 0, 0, 0},
                     k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
            uint32_t w[4];
            tarn_philox(counter, k, w);
            bool kept = w[i % 4] < (uint32_t)(0.7 * 0x1p32);
            double v = at(&in[0], i),
                   scaled = wide ? v * (1 / (1 - p)) : (double)((float)v * (float)(1 / (1 - p)));
            assert_true(at(&y, i) == (kept ? scaled : 0));
        }
        tarn_tensor_release(&in[0]);
        tarn_tensor_release(&in[1]);
        tarn_tensor_release(&y);
    }
}

// ---- activations ----

static double phi(double x) { return erfc(-x * sqrt(0.5)) / 2; }
static double gate(double z) { return z < 0 ? exp(z) / (1 + exp(z)) : 1 / (1 + exp(-z)); }
static double bent(double x) { return sqrt(8 / M_PI) * (x + 0.044715 * x * x * x); }
static double bend(double x) { return sqrt(8 / M_PI) * (1 + 0.134145 * x * x); }
static double t_gelu(double x) { return x * phi(x); }
static double t_gelu_slope(double x) { return phi(x) + x * exp(-x * x / 2) / sqrt(2 * M_PI); }
static double t_gelu_tanh(double x) { return x * gate(bent(x)); }
static double t_gelu_tanh_slope(double x) {
    return gate(bent(x)) + x * gate(bent(x)) * gate(-bent(x)) * bend(x);
}
static double t_silu(double x) { return x * gate(x); }
static double t_silu_slope(double x) { return gate(x) + x * gate(x) * gate(-x); }

// To some units of |x| (of 1 for slopes), from -20 to 20; and in other rows, in f64.
static void activations(void **state) {
    static const struct {
        const tarn_op *op;
        double (*f)(double);
    } all[] = {{&tarn_op_gelu, t_gelu},           {&tarn_op_gelu_slope, t_gelu_slope},
               {&tarn_op_gelu_tanh, t_gelu_tanh}, {&tarn_op_gelu_tanh_slope, t_gelu_tanh_slope},
               {&tarn_op_silu, t_silu},           {&tarn_op_silu_slope, t_silu_slope}};
    const int64_t n = 40001;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        bool slope = k % 2;
        for (int wide = 0; wide < 2; wide++) {
            uint64_t s = k;
            tarn_tensor x = numbers(wide ? TARN_F64 : TARN_F32, 1, &n, &s, -20, 20);
            tarn_tensor_set(&x, 0, 0);
            tarn_tensor_set(&x, 1, 1e30);
            tarn_tensor_set(&x, 2, -1e30);
            tarn_tensor_set(&x, 3, (double)NAN);
            tarn_tensor_set(&x, 4, -(double)NAN);
            tarn_tensor y = run_row(all[k].op, 1, &x, NULL);
            for (int64_t i = 0; i < n; i++) {
                double v = at(&x, i), unit = wide ? 0x1p-52 : 0x1p-23,
                       size = fabs(v) > 1 || !slope ? fabs(v) : 1;
                double want = i == 1 ? (slope ? 1 : v) : i == 2 ? 0 : all[k].f(v);
                size = slope && size > 2 ? 2 : size;
                same_number(all[k].op->name, at(&y, i), want, 6 * unit * size);
            }
            tarn_tensor_release(&y);
            if (!wide) {
                tarn_tensor_release(&x);
                continue;
            }
            for (int64_t i = 1; i < 5; i++) {
                tarn_tensor_set(&x, i, 1);
            }
            call c = {.op = all[k].op, .n = 1, .x = {x}};
            against_decomposition(&c, 1e-14);
        }
    }
}

// ---- edges ----

static tarn_tensor of(int rank, const int64_t *shape, const double *v) {
    tarn_error err = {0};
    tarn_tensor x;
    OK(tarn_tensor_new(cx(), TARN_F32, rank, shape, &x, &err));
    for (int64_t i = 0; i < tarn_tensor_numel(&x); i++) {
        tarn_tensor_set(&x, i, v[i]);
    }
    return x;
}

static void extreme_logits(void **state) {
    const double inf = (double)INFINITY,
                 v[20] = {1e4, -1e4, 0,    1e4,  7,    7,    7,           7, -inf, 0,
                          0,   -inf, -inf, -inf, -inf, -inf, (double)NAN, 0, 0,    0};
    const double want[12] = {0.5, 0, 0, 0.5, 0.25, 0.25, 0.25, 0.25, 0, 0.5, 0.5, 0};
    const int64_t shape[2] = {5, 4}, labels[1] = {5}, none[2] = {1, 3};
    const double zero = 0;
    tarn_tensor in[3] = {of(2, shape, v)}, p = run_row(&tarn_op_softmax, 1, in, NULL);
    tarn_tensor l = run_row(&tarn_op_log_softmax, 1, in, NULL);
    for (int64_t i = 0; i < 20; i++) {
        assert_true(i < 12 ? at(&p, i) == want[i] : isnan(at(&p, i)));
    }
    assert_true(at(&l, 1) == -20000 - (double)logf(2) || fabs(at(&l, 1) + 20000.6931) < 1e-2);
    assert_true(at(&l, 8) == -inf);
    // A label at a large distance costs that distance; the row that is ignored costs nothing and
    // has no gradient, whatever its logits are.
    uint64_t s = 1;
    in[1] = integers(1, labels, &s, 1);
    tarn_tensor_set(&in[1], 0, 1);
    tarn_tensor_set(&in[1], 1, 2);
    tarn_tensor_set(&in[1], 2, 1);
    tarn_tensor_set(&in[1], 3, 3);
    tarn_tensor_set(&in[1], 4, 3);
    in[2] = of(1, labels, (double[]){1, 1, 1, 1, 1});
    tarn_attr a = {.ni = 2, .i = none, .nf = 1, .f = &zero};
    tarn_tensor y = run_row(&tarn_op_cross_entropy, 2, in, &a);
    tarn_tensor g = run_row(&tarn_op_cross_entropy_vjp, 3, in, &a);
    same_number("far label", at(&y, 0), 20000.693, 2e-3);
    same_number("equal logits", at(&y, 1), log(4), 1e-6);
    same_number("an entry of -infinity", at(&y, 2), log(2), 1e-6);
    assert_true(at(&y, 3) == 0 && at(&y, 4) == 0);
    assert_true(at(&g, 0) == 0.5 && at(&g, 1) == -1 && at(&g, 8) == 0 && at(&g, 9) == -0.5);
    for (int64_t i = 12; i < 20; i++) {
        assert_true(at(&g, i) == 0);
    }
    tarn_tensor all[7] = {in[0], in[1], in[2], p, l, y, g};
    for (int k = 0; k < 7; k++) {
        tarn_tensor_release(&all[k]);
    }
}

// A query that sees nothing: zeros, and no gradient through it.
static void blind_queries(void **state) {
    uint64_t s = 3;
    const int64_t shape[3] = {1, 2, 3}, scores[2] = {2, 2}, causal = 0;
    const double one = 1;
    tarn_attr a = {.ni = 1, .i = &causal, .nf = 1, .f = &one};
    tarn_tensor q = numbers(TARN_F32, 3, shape, &s, -1, 1),
                gy = numbers(TARN_F32, 3, shape, &s, -1, 1);
    for (int kind = 0; kind < 2; kind++) {
        tarn_tensor mask = numbers(kind ? TARN_F32 : TARN_BOOL, 2, scores, &s, 0, 0);
        for (int64_t i = 0; i < 4; i++) {
            tarn_tensor_set(&mask, i, kind ? (i < 2 ? -(double)INFINITY : 0) : i >= 2);
        }
        tarn_tensor in[5] = {q, q, q, mask}, y = run_row(&tarn_op_attention, 4, in, &a);
        in[3] = gy;
        in[4] = mask;
        tarn_tensor d = run_row(&tarn_op_attention_vjp, 5, in, &a);
        for (int64_t i = 0; i < 3; i++) {
            assert_true(at(&y, i) == 0 && at(&d, i) == 0);
            assert_true(at(&y, 3 + i) != 0 && isfinite(at(&d, 3 + i)) && isfinite(at(&d, 12 + i)));
        }
        tarn_tensor_release(&y);
        tarn_tensor_release(&d);
        tarn_tensor_release(&mask);
    }
    tarn_tensor_release(&q);
    tarn_tensor_release(&gy);
}

// Constant rows have no variance: the result is the bias, and the gradient is finite.
static void constant_rows(void **state) {
    uint64_t s = 4;
    const int64_t shape[4] = {3, 1, 1, 40}, one = 1;
    const double eps = 1e-5;
    tarn_attr a = {.ni = 1, .i = &one, .nf = 1, .f = &eps};
    tarn_tensor in[5] = {numbers(TARN_F32, 4, shape, &s, 3, 3),
                         numbers(TARN_F32, 2, shape + 2, &s, 1, 2),
                         numbers(TARN_F32, 2, shape + 2, &s, -1, 1)};
    in[3] = run_row(&tarn_op_norm_stats, 1, in, &a);
    tarn_tensor y = run_row(&tarn_op_norm, 4, in, &a);
    for (int64_t i = 0; i < 120; i++) {
        assert_true(at(&y, i) == at(&in[2], i % 40));
    }
    tarn_tensor sums = run_row(&tarn_op_norm_sums, 3, (tarn_tensor[]){in[0], in[3], y}, &a);
    tarn_tensor g =
        run_row(&tarn_op_norm_vjp, 5, (tarn_tensor[]){in[0], in[1], in[3], y, sums}, &a);
    for (int64_t i = 0; i < 120; i++) {
        assert_true(isfinite(at(&g, i)));
    }
    tarn_tensor all[7] = {in[0], in[1], in[2], in[3], y, sums, g};
    for (int k = 0; k < 7; k++) {
        tarn_tensor_release(&all[k]);
    }
}

// ---- how freely the hidden units of embedding, f, product may move ----

static const tarn_norm_shape layer = {15, 1, 1, 8, true, 0.1}, batch = {1, 15, 8, 1, true, 0.1};
static const tarn_norm_shape groups = {3, 5, 2, 4, true, 0.1};
typedef struct {
    const tarn_node *h, *w, *b;
} hidden;
static const tarn_node *plain(tarn_graph *g, const hidden *n) {
    (void)g;
    return n->h;
}
static const tarn_node *by_layer(tarn_graph *g, const hidden *n) {
    return tarn_norm(g, n->h, n->w, n->b, &layer);
}
static const tarn_node *by_batch(tarn_graph *g, const hidden *n) {
    return tarn_norm(g, n->h, n->w, NULL, &batch);
}
static const tarn_node *by_group(tarn_graph *g, const hidden *n) {
    return tarn_norm(g, n->h, n->w, n->b, &groups);
}
static const tarn_node *gelu(tarn_graph *g, const hidden *n) {
    return tarn_unary(g, &tarn_op_gelu, n->h);
}
static const tarn_node *softmax(tarn_graph *g, const hidden *n) { return tarn_softmax(g, n->h, 2); }
static const tarn_node *attention(tarn_graph *g, const hidden *n) {
    const tarn_attention_options o = {true, 1};
    return tarn_attention(g, n->h, n->h, n->h, NULL, &o);
}
static const tarn_node *rope(tarn_graph *g, const hidden *n) {
    return tarn_rope(g, n->h, tarn_iota(g, 5), 1, (const double[]){100}, false);
}

static void freedom(void **state) {
    static const struct {
        const char *name;
        const tarn_node *(*f)(tarn_graph *g, const hidden *n);
        tarn_group group;
    } all[] = {{"nothing", plain, TARN_GROUP_LINEAR},
               {"layer norm", by_layer, TARN_GROUP_PERMUTATION},
               {"batch norm", by_batch, TARN_GROUP_PERMUTATION},
               {"group norm", by_group, TARN_GROUP_PERMUTATION},
               {"gelu", gelu, TARN_GROUP_PERMUTATION},
               {"softmax", softmax, TARN_GROUP_PERMUTATION},
               {"attention", attention, TARN_GROUP_SIGNED},
               {"rope", rope, TARN_GROUP_NONE}};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        tarn_error err = {0};
        tarn_axes t;
        tarn_graph *g = tarn_graph_new(cx());
        const tarn_desc table = {.dtype = TARN_F32, .rank = 2, .shape = {50, 8}};
        const tarn_desc index = {.dtype = TARN_I64, .rank = 2, .shape = {3, 5}};
        const tarn_desc channel = {.dtype = TARN_F32, .rank = 1, .shape = {8}};
        const tarn_desc out = {.dtype = TARN_F32, .rank = 2, .shape = {8, 4}};
        const tarn_node *e = tarn_leaf_input(g, &table), *i = tarn_leaf_input(g, &index);
        const tarn_node *last = tarn_leaf_input(g, &out);
        hidden n = {tarn_embedding(g, e, i), tarn_leaf_input(g, &channel),
                    tarn_leaf_input(g, &channel)};
        const tarn_node *y = tarn_matmul(g, all[k].f(g, &n), last);
        assert_non_null(y);
        OK(tarn_axes_trace(g, 1, &y, 1, &i, &t, &err));
        if (tarn_axes_group(&t, tarn_axes_find(&t, last, 0)) != all[k].group ||
            tarn_axes_group(&t, tarn_axes_find(&t, e, 1)) != all[k].group) {
            fail_msg("%s: %s", all[k].name,
                     tarn_group_name(tarn_axes_group(&t, tarn_axes_find(&t, e, 1))));
        }
        bool one = all[k].group != TARN_GROUP_NONE && all[k].f != by_group;  // [2, 4]: a product
        assert_true(!one || tarn_axes_find(&t, last, 0) == tarn_axes_find(&t, e, 1));
        if (all[k].f == by_layer) {
            assert_int_equal(tarn_axes_find(&t, n.w, 0), tarn_axes_find(&t, e, 1));
        }
        assert_int_equal(tarn_axes_group(&t, tarn_axes_find(&t, e, 0)), TARN_GROUP_NONE);
        tarn_axes_free(&t);
        tarn_graph_release(g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decompositions), cmocka_unit_test(nothing_left_out),
        cmocka_unit_test(softmax_twin),   cmocka_unit_test(cross_entropy_twin),
        cmocka_unit_test(norm_twin),      cmocka_unit_test(rope_twin),
        cmocka_unit_test(embedding_twin), cmocka_unit_test(dropout_twin),
        cmocka_unit_test(activations),    cmocka_unit_test(extreme_logits),
        cmocka_unit_test(blind_queries),  cmocka_unit_test(constant_rows),
        cmocka_unit_test(freedom),
    };
    return cmocka_run_group_tests(tests, rows_open, rows_close);
}
