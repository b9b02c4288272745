// SPDX-License-Identifier: Apache-2.0
// What holds for the derivatives of every row, on random shapes (broadcast, empty, seen through strided
// views), in f64 and f32: <u, J v> = <J' u, v>; the gradient's derivative along w by forward mode is the
// one by reverse mode, and the gradient of the derivative; in f64, where the row is smooth, all of them
// against central differences. Rows that move in jumps give zeros, rows without derivatives are refused
// by name with what to do instead. A row that no entry here covers fails the test.
#include "tests/vm/grad/net_rows.h"
#include "tests/vm/grad/properties.h"
#include "vm/op/linalg.h"
#include "vm/op/sinkhorn.h"

// ---- element-wise rows: domains of their operands ----

typedef struct {
    const tarn_op *op;
    double low, high, low2, high2;
} point;
static const point points[] = {
    {&tarn_op_add, -2, 2, -2, 2},       {&tarn_op_sub, -2, 2, -2, 2},   {&tarn_op_mul, -2, 2, -2, 2},
    {&tarn_op_div, -2, 2, 0.5, 2},      {&tarn_op_pow, 0.4, 2, -2, 2},  {&tarn_op_minimum, -2, 2, -2, 2},
    {&tarn_op_maximum, -2, 2, -2, 2},   {&tarn_op_atan2, -2, 2, 0.5, 2}, {&tarn_op_neg, -2, 2, 0, 0},
    {&tarn_op_abs, -2, 2, 0, 0},        {&tarn_op_sqrt, 0.4, 2, 0, 0},  {&tarn_op_rsqrt, 0.4, 2, 0, 0},
    {&tarn_op_exp, -2, 2, 0, 0},        {&tarn_op_log, 0.4, 2, 0, 0},   {&tarn_op_log1p, -0.6, 2, 0, 0},
    {&tarn_op_tanh, -2, 2, 0, 0},       {&tarn_op_sigmoid, -2, 2, 0, 0}, {&tarn_op_erf, -2, 2, 0, 0},
    {&tarn_op_sin, -2, 2, 0, 0},        {&tarn_op_cos, -2, 2, 0, 0},    {&tarn_op_acos, -0.8, 0.8, 0, 0},
    {&tarn_op_relu, -2, 2, 0, 0},       {&tarn_op_gelu, -2, 2, 0, 0},   {&tarn_op_gelu_tanh, -2, 2, 0, 0},
    {&tarn_op_silu, -2, 2, 0, 0},       {&tarn_op_gelu_slope, -2, 2, 0, 0},
    {&tarn_op_gelu_tanh_slope, -2, 2, 0, 0}, {&tarn_op_silu_slope, -2, 2, 0, 0},
};
static const point *current;  // of the entry below; tests run one after another
static const tarn_node *make_point(trial *t) {
    int64_t shape[TARN_MAX_RANK] = {0};
    int rank = any_shape(t, 0, 4, shape);
    const tarn_node *in[2] = {operand(t, rank, shape, current->low, current->high)};
    if (current->op->min_in == 2) {
        in[1] = partner(t, rank, shape, current->low2, current->high2);
    }
    return tarn_node_make(t->g, current->op, current->op->min_in, in, NULL);
}

// ---- the other rows ----

MAKE(where) {
    SHAPE(0, 3);
    tarn_desc d = {.dtype = TARN_BOOL, .rank = rank};
    memcpy(d.shape, shape, sizeof shape);
    tarn_tensor mask = random_tensor(t, &d, 0, 1);
    for (int64_t i = 0; i < tarn_tensor_numel(&mask); i++) {
        tarn_tensor_set(&mask, i, (double)below(&t->seed, 2));
    }
    const tarn_node *c = tarn_leaf_tensor(t->g, &mask);
    tarn_tensor_release(&mask);
    const tarn_node *a = operand(t, rank, shape, -2, 2), *b = partner(t, rank, shape, -2, 2);
    return tarn_where(t->g, c, tarn_mul(t->g, a, a), b);
}
MAKE(cast) {  // up and down
    SHAPE(0, 3);
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    const tarn_node *there = tarn_cast(t->g, tarn_mul(t->g, x, x), TARN_F64);
    return tarn_mul(t->g, tarn_cast(t->g, there, TARN_F32), x);
}
// A random selection of dimensions, or all.
static const tarn_node *reduced(trial *t, const tarn_op *op) {
    SHAPE(0, 4);
    int64_t axes[TARN_MAX_RANK];
    int n = 0;
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    for (int d = 0; d < rank; d++) {
        if (below(&t->seed, 2)) {
            axes[n++] = d;
        }
    }
    if (tarn_desc_numel(&x->desc) == 0 && op != &tarn_op_sum) {  // an extreme of nothing is infinite
        op = &tarn_op_sum;
    }
    return tarn_reduce(t->g, op, tarn_mul(t->g, x, x), n, axes, below(&t->seed, 2));
}
MAKE(sum) { return reduced(t, &tarn_op_sum); }
MAKE(max) { return reduced(t, &tarn_op_max); }
MAKE(min) { return reduced(t, &tarn_op_min); }
MAKE(dot) {
    SHAPE(0, 4);
    const tarn_node *a = operand(t, rank, shape, -2, 2);
    return tarn_dot(t->g, a, operand(t, rank, shape, -2, 2));
}
MAKE(kth) {
    const int64_t n = 3 + below(&t->seed, 20), i[4] = {0, 0, 1 + below(&t->seed, 3), t->dtype == TARN_F64 ? 64 : 32};
    const double density = 0;
    tarn_attr a = {.ni = 4, .i = i, .nf = 1, .f = &density};
    const tarn_node *x = operand(t, 1, &n, -2, 2), *square = tarn_mul(t->g, x, x);
    return tarn_item(t->g, tarn_node_make(t->g, &tarn_op_kth, 1, &square, &a), 0);
}
MAKE(reshape) {
    SHAPE(0, 4);
    int64_t flat = 1;
    for (int d = 0; d < rank; d++) {
        flat *= shape[d];
    }
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_reshape(t->g, tarn_mul(t->g, x, x), 1, &flat);
}
MAKE(permute) {
    SHAPE(0, 5);
    int64_t order[TARN_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        int64_t j = below(&t->seed, d + 1);
        order[d] = d;
        order[d] = order[j];
        order[j] = d;
    }
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_permute(t->g, tarn_mul(t->g, x, x), order);
}
MAKE(broadcast_to) {
    SHAPE(0, 4);
    const tarn_node *x = partner(t, rank, shape, -2, 2);
    return tarn_broadcast(t->g, tarn_mul(t->g, x, x), rank, shape);
}
// A strided range of each dimension: start, count, step.
static void any_range(trial *t, int rank, const int64_t *shape, int64_t *range) {
    for (int d = 0; d < rank; d++) {
        int64_t start = shape[d] > 0 ? below(&t->seed, shape[d]) : 0, step = 1 + below(&t->seed, 3);
        int64_t most = shape[d] > 0 ? (shape[d] - 1 - start) / step + 1 : 0;
        range[3 * d] = start;
        range[3 * d + 1] = most > 0 ? below(&t->seed, most + 1) : 0;
        range[3 * d + 2] = step;
    }
}
MAKE(slice) {
    SHAPE(1, 4);
    int64_t range[3 * TARN_MAX_RANK];
    any_range(t, rank, shape, range);
    tarn_attr a = {.ni = 3 * rank, .i = range};
    const tarn_node *x = operand(t, rank, shape, -2, 2), *square = tarn_mul(t->g, x, x);
    return tarn_node_make(t->g, &tarn_op_slice, 1, &square, &a);
}
MAKE(pad) {
    SHAPE(1, 4);
    int64_t range[4 * TARN_MAX_RANK], inside[TARN_MAX_RANK];
    any_range(t, rank, shape, range);
    for (int d = 0; d < rank; d++) {
        inside[d] = range[3 * d + 1];
        range[3 * rank + d] = shape[d];
    }
    tarn_attr a = {.ni = 4 * rank, .i = range};
    const tarn_node *x = operand(t, rank, inside, -2, 2), *square = tarn_mul(t->g, x, x);
    return tarn_node_make(t->g, &tarn_op_pad, 1, &square, &a);
}
MAKE(item) {
    const int64_t n = 1 + below(&t->seed, 5);
    const tarn_node *x = operand(t, 1, &n, -2, 2);
    return tarn_mul(t->g, tarn_item(t->g, x, below(&t->seed, n)), x);
}
MAKE(concat) {
    SHAPE(1, 4);
    const tarn_node *part[3];
    int64_t axis = below(&t->seed, rank);
    for (int k = 0; k < 3; k++) {
        part[k] = operand(t, rank, shape, -2, 2);
        shape[axis] = below(&t->seed, 4);
    }
    part[1] = tarn_mul(t->g, part[1], part[1]);
    return tarn_concat(t->g, 3, part, axis);
}
MAKE(gather) {
    SHAPE(1, 4);
    int64_t axis = below(&t->seed, rank), index[TARN_MAX_RANK];
    shape[axis] = 1 + below(&t->seed, 5);
    for (int d = 0; d < rank; d++) {
        index[d] = d == axis ? below(&t->seed, 7) : shape[d] > 0 ? below(&t->seed, shape[d] + 1) : 0;
    }
    tarn_attr a = {.ni = 1, .i = &axis};
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    const tarn_node *in[2] = {tarn_mul(t->g, x, x), places(t, rank, index, shape[axis])};
    return tarn_node_make(t->g, &tarn_op_gather, 2, in, &a);
}
MAKE(scatter_add) {
    SHAPE(1, 4);
    int64_t to[TARN_MAX_RANK + 1] = {below(&t->seed, rank)};
    for (int d = 0; d < rank; d++) {
        to[d + 1] = d == to[0] ? 1 + below(&t->seed, 5) : shape[d] + below(&t->seed, 2);
    }
    tarn_attr a = {.ni = rank + 1, .i = to};
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    const tarn_node *in[2] = {places(t, rank, shape, to[to[0] + 1]), tarn_mul(t->g, x, x)};
    return tarn_node_make(t->g, &tarn_op_scatter_add, 2, in, &a);
}
MAKE(matmul) {
    SHAPE(2, 4);
    int64_t other[TARN_MAX_RANK];
    int lack = (int)below(&t->seed, rank - 1);
    for (int d = lack; d < rank; d++) {
        other[d - lack] = below(&t->seed, 4) == 0 ? 1 : shape[d];
    }
    other[rank - lack - 2] = shape[rank - 1];
    other[rank - lack - 1] = below(&t->seed, 5);
    const tarn_node *a = operand(t, rank, shape, -2, 2);
    return tarn_matmul(t->g, a, operand(t, rank - lack, other, -2, 2));
}
static const tarn_node *by_row(trial *t, const tarn_op *op) {
    SHAPE(1, 4);
    const int64_t flag = below(&t->seed, 2);
    tarn_attr a = {.ni = 1, .i = &flag};
    const tarn_node *x = operand(t, rank, shape, -2, 2), *square = tarn_mul(t->g, x, x);
    return tarn_node_make(t->g, op, 1, &square, &a);
}
MAKE(sort) { return by_row(t, &tarn_op_sort); }
MAKE(cumsum) { return by_row(t, &tarn_op_cumsum); }

MAKE(rfftn) {
    int64_t shape[TARN_MAX_RANK];
    int rank = full_shape(t, 1, 3, shape);
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_unary(t->g, &tarn_op_rfftn, tarn_mul(t->g, x, x));
}
MAKE(irfftn) {
    int64_t shape[TARN_MAX_RANK + 1] = {2}, n;
    int rank = full_shape(t, 1, 3, shape + 1);
    n = shape[rank];
    shape[rank] = n / 2 + 1;
    tarn_attr a = {.ni = 1, .i = &n};
    const tarn_node *x = operand(t, rank + 1, shape, -2, 2), *square = tarn_mul(t->g, x, x);
    return tarn_node_make(t->g, &tarn_op_irfftn, 1, &square, &a);
}
MAKE(smooth) {
    int64_t shape[TARN_MAX_RANK];
    int rank = full_shape(t, 1, 3, shape);
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    return tarn_unary(t->g, &tarn_op_smooth, tarn_mul(t->g, x, x));
}
// A batch of matrices; square or [m, n], some without elements.
static const tarn_node *matrices(trial *t, bool square) {
    int64_t shape[3] = {1 + below(&t->seed, 2), 1 + below(&t->seed, 5), 1 + below(&t->seed, 5)};
    if (below(&t->seed, 10) == 0) {
        shape[1 + below(&t->seed, 2)] = 0;
    }
    shape[1] = square ? shape[2] : shape[1];
    int lead = (int)below(&t->seed, 2);
    return operand(t, 2 + lead, shape + 1 - lead, -2, 2);
}
// Far from singular: 4 on the diagonal.
static const tarn_node *safe(trial *t, const tarn_node *a) {
    int64_t n = a->desc.shape[a->desc.rank - 1];
    const int64_t down[2] = {n, 1};
    const tarn_node *i = tarn_iota(t->g, n), *on = tarn_eq(t->g, tarn_reshape(t->g, i, 2, down), i);
    return tarn_add(t->g, a, tarn_where(t->g, on, tarn_num(t->g, 4), tarn_num(t->g, 0)));
}
static const tarn_node *summed(trial *t, int n, const tarn_node *const *part) {
    const tarn_node *s = tarn_num(t->g, 0);
    for (int k = 0; k < n; k++) {
        s = tarn_add(t->g, s, tarn_total(t->g, &tarn_op_sum, tarn_mul(t->g, part[k], tarn_num(t->g, k + 1))));
    }
    return s;
}
MAKE(svd) {
    const tarn_node *a = matrices(t, false);
    int64_t m = a->desc.shape[a->desc.rank - 2], n = a->desc.shape[a->desc.rank - 1];
    tarn_svd_options o = {.rank = m * n > 0 && below(&t->seed, 2) ? 1 + below(&t->seed, m < n ? m : n) : 0,
                          .route = t->dtype == TARN_F64 && below(&t->seed, 3) == 0 ? TARN_SVD_GRAM : TARN_SVD_EXACT};
    tarn_svd_nodes s = tarn_svd(t->g, a, &o);
    const tarn_node *part[5] = {s.u, s.s, s.vt, s.residual, tarn_mul(t->g, s.u, s.u)};
    return summed(t, o.rank > 0 && o.rank < (m < n ? m : n) ? 5 : 3, part);
}
MAKE(eigh) {
    tarn_eigh_nodes e = tarn_eigh(t->g, matrices(t, true));
    const tarn_node *part[2] = {tarn_mul(t->g, e.w, e.w), tarn_exp(t->g, e.v)};
    return summed(t, 2, part);
}
MAKE(qr) {
    tarn_qr_nodes q = tarn_qr(t->g, matrices(t, false));
    const tarn_node *part[2] = {tarn_exp(t->g, q.q), q.r};
    return summed(t, 2, part);
}
MAKE(cholesky) {
    return tarn_cholesky(t->g, safe(t, tarn_mul(t->g, tarn_num(t->g, 0.3), matrices(t, true))));
}
MAKE(solve) {
    const tarn_node *a = matrices(t, true);
    int64_t shape[TARN_MAX_RANK];
    memcpy(shape, a->desc.shape, sizeof shape);
    shape[a->desc.rank - 1] = 1 + below(&t->seed, 3);
    const tarn_node *m = safe(t, tarn_mul(t->g, tarn_num(t->g, 0.3), a));
    return tarn_solve(t->g, m, operand(t, a->desc.rank, shape, -2, 2));
}
MAKE(polar) {
    tarn_polar_route route = (tarn_polar_route)below(&t->seed, 3);
    const tarn_node *a = matrices(t, route == TARN_POLAR_ROTATION);
    if (route == TARN_POLAR_ROTATION) {  // of determinants of both signs
        a = tarn_mul(t->g, safe(t, a), tarn_num(t->g, below(&t->seed, 2) ? 1 : -1));
    }
    return tarn_polar(t->g, a, route);
}

// Sums that have equal totals wherever they move.
MAKE(sinkhorn) {
    int rank = 2 + (int)below(&t->seed, 2);
    int64_t shape[3] = {2, 1 + below(&t->seed, 4), 1 + below(&t->seed, 4)}, n = shape[1], m = shape[2];
    const tarn_node *c = operand(t, rank, shape + 3 - rank, -2, 2);
    const tarn_node *a = tarn_softmax(t->g, operand(t, 1, &n, -1, 1), 0), *b = tarn_softmax(t->g, operand(t, 1, &m, -1, 1), 0);
    const tarn_sinkhorn_options o = {.reg = 0.7 + 0.3 * (double)below(&t->seed, 3), .iterations = 3000, .tolerance = 1e-15};
    tarn_sinkhorn_nodes s = tarn_sinkhorn(t->g, c, a, b, &o);
    const tarn_node *part[3] = {s.plan, tarn_mul(t->g, s.f, s.f), tarn_exp(t->g, s.g)};
    return summed(t, 3, part);
}

MAKE(checkpoint) {
    SHAPE(0, 3);
    const tarn_node *x = operand(t, rank, shape, -2, 2);
    const int64_t start = t->g->count - below(&t->seed, 2);  // with the operand and without
    const tarn_attr a = {.ni = 1, .i = &start};
    const tarn_node *y = tarn_mul(t->g, tarn_unary(t->g, &tarn_op_sin, x), x);
    return tarn_node_make(t->g, &tarn_op_checkpoint, 1, &y, &a);
}
MAKE(barrier) {
    SHAPE(0, 3);
    const tarn_attr a = {.ni = 1, .i = shape};
    const tarn_node *x = operand(t, rank, shape, -2, 2), *y = tarn_mul(t->g, x, x);
    return tarn_node_make(t->g, &tarn_op_barrier, 1, &y, rank ? &a : NULL);
}

static const entry entries[] = {
    {&tarn_op_checkpoint, make_checkpoint, 0, false}, {&tarn_op_barrier, make_barrier, 0, false},
    {&tarn_op_where, make_where, 0, false},     {&tarn_op_cast, make_cast, 0, true},
    {&tarn_op_sum, make_sum, 0, false},         {&tarn_op_max, make_max, 0, false},
    {&tarn_op_min, make_min, 0, false},         {&tarn_op_dot, make_dot, 0, false},
    {&tarn_op_kth, make_kth, 0, false},         {&tarn_op_reshape, make_reshape, 0, false},
    {&tarn_op_permute, make_permute, 0, false}, {&tarn_op_broadcast_to, make_broadcast_to, 0, false},
    {&tarn_op_slice, make_slice, 0, false},     {&tarn_op_item, make_item, 0, false},
    {&tarn_op_matmul, make_matmul, 0, false},   {&tarn_op_gather, make_gather, 0, false},
    {&tarn_op_scatter_add, make_scatter_add, 0, false}, {&tarn_op_concat, make_concat, 0, false},
    {&tarn_op_pad, make_pad, 0, false},         {&tarn_op_sort, make_sort, 0, false},
    {&tarn_op_cumsum, make_cumsum, 0, false},   {&tarn_op_rfftn, make_rfftn, 0, false},
    {&tarn_op_irfftn, make_irfftn, 0, false},   {&tarn_op_smooth, make_smooth, 0, false},
    {&tarn_op_svd, make_svd, 1e3, false},       {&tarn_op_eigh, make_eigh, 1e3, false},
    {&tarn_op_qr, make_qr, 1e3, false},         {&tarn_op_cholesky, make_cholesky, 10, false},
    {&tarn_op_solve, make_solve, 10, false},    {&tarn_op_polar, make_polar, 1e3, false},
    {&tarn_op_sinkhorn, make_sinkhorn, 100, false},
};

static void cover(const tarn_op *op) {
    for (int k = 0; k < TARN_OP_COUNT; k++) {
        covered[k] = covered[k] || tarn_ops[k] == op;
    }
}

static void point_rows(void **state) {
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        current = &points[i];
        const entry e = {points[i].op, make_point, 0, false};
        cover(e.op);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            check(&e, TARN_F64, seed);
            check(&e, TARN_F32, seed);
        }
    }
}

static void check_all(size_t n, const entry *e) {
    for (size_t i = 0; i < n; i++) {
        cover(e[i].op);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            check(&e[i], TARN_F64, seed);
            check(&e[i], TARN_F32, seed);
        }
    }
}
static void other_rows(void **state) { check_all(sizeof entries / sizeof *entries, entries); }
static void net_rows(void **state) { check_all(sizeof net_entries / sizeof *net_entries, net_entries); }

// ---- rows that move in jumps: the derivative is zero, whatever is around them ----

typedef struct {
    const tarn_op *op;
    int n;  // operands of the same vector
    int ni;
    int64_t i[4];
    int nf;
    double f[2];
} flat;
static const flat flats[] = {
    {&tarn_op_sign, 1, 0, {0}, 0, {0}},        {&tarn_op_floor, 1, 0, {0}, 0, {0}},
    {&tarn_op_round, 1, 0, {0}, 0, {0}},       {&tarn_op_eq, 2, 0, {0}, 0, {0}},
    {&tarn_op_ne, 2, 0, {0}, 0, {0}},          {&tarn_op_lt, 2, 0, {0}, 0, {0}},
    {&tarn_op_le, 2, 0, {0}, 0, {0}},          {&tarn_op_gt, 2, 0, {0}, 0, {0}},
    {&tarn_op_ge, 2, 0, {0}, 0, {0}},          {&tarn_op_logical_and, 2, 0, {0}, 0, {0}},
    {&tarn_op_logical_or, 2, 0, {0}, 0, {0}},  {&tarn_op_logical_not, 1, 0, {0}, 0, {0}},
    {&tarn_op_isfinite, 1, 0, {0}, 0, {0}},    {&tarn_op_top, 3, 0, {0}, 0, {0}},
    {&tarn_op_argmax, 1, 2, {0, 0}, 0, {0}},   {&tarn_op_argmin, 1, 2, {0, 0}, 0, {0}},
    {&tarn_op_argsort, 1, 1, {0}, 0, {0}},     {&tarn_op_rank, 1, 1, {0}, 0, {0}},
    {&tarn_op_leading, 1, 0, {0}, 2, {0.5, 1}},
};

static void flat_rows(void **state) {
    tarn_error err = {0};
    for (size_t i = 0; i < sizeof flats / sizeof *flats; i++) {
        const flat *f = &flats[i];
        tarn_graph *g = tarn_graph_new(&context);
        const tarn_desc d = {.dtype = TARN_F32, .rank = 1, .shape = {4}};
        const tarn_node *x = tarn_leaf_input(g, &d), *in[3] = {x, x, x}, *dx, *dy;
        tarn_attr a = {.ni = f->ni, .i = f->i, .nf = f->nf, .f = f->f};
        const tarn_node *y = tarn_cast(g, tarn_node_make(g, f->op, f->n, in, &a), TARN_F32);
        assert_non_null(y);
        OK(tarn_vjp(g, tarn_total(g, &tarn_op_sum, y), NULL, 1, &x, &dx, &err));
        OK(tarn_jvp(g, y, 1, &x, &x, &dy, &err));
        const tarn_node *root[2] = {dx, dy};
        tarn_tensor r[2];
        OK(tarn_graph_eval(g, 2, root, NULL, r, &err));  // zeros need no value of x
        assert_true(size_of(&r[0]) == 0 && size_of(&r[1]) == 0);
        release(2, r);
        tarn_graph_release(g);
        cover(f->op);
    }
}

// ---- rows that are refused ----

static void refused_rows(void **state) {
    static const tarn_desc square = {.dtype = TARN_F64, .rank = 2, .shape = {3, 3}};
    static const tarn_desc three = {.dtype = TARN_F64, .rank = 1, .shape = {3}};
    static const tarn_desc number = {.dtype = TARN_F64, .rank = 0};
    static const struct {
        const tarn_op *op;
        const tarn_desc *in[3];
        int nf;
        double f[5];
    } refused[] = {
        {&tarn_op_schur, {&square}, 0, {0}},
        {&tarn_op_orthogonal_power, {&square, &number}, 0, {0}},
        {&tarn_op_karcher_weights, {&square, &three}, 2, {10, 1e-9}},
        {&tarn_op_median_weights, {&square, &three}, 2, {10, 1e-9}},
        {&tarn_op_descend, {&square, &square, &square}, 5, {0.1, 3, 0.9, 0.99, 1e-8}},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        tarn_error err = {0};
        tarn_graph *g = tarn_graph_new(&context);
        const tarn_op *op = refused[i].op;
        const tarn_node *in[3] = {NULL}, *out;
        for (int k = 0; k < op->min_in; k++) {
            in[k] = tarn_leaf_input(g, refused[i].in[k]);
        }
        tarn_attr a = {.nf = refused[i].nf, .f = refused[i].f};
        const tarn_node *y = tarn_node_make(g, op, op->min_in, in, &a);
        assert_non_null(y);
        char want[64];
        snprintf(want, sizeof want, "%s is not differentiable: it", op->name);
        for (int way = 0; way < 2; way++) {
            tarn_error_clear(&err);
            tarn_status s = way ? tarn_jvp(g, y, 1, in, in, &out, &err)
                                : tarn_vjp(g, tarn_total(g, &tarn_op_sum, y), NULL, 1, in, &out, &err);
            assert_int_equal(s, TARN_ERROR);
            assert_string_equal(err.code, "NotDifferentiable");
            if (!strstr(err.message, " is not differentiable: ") || strncmp(err.message, op->name, strlen(op->name)) != 0 ||
                !strstr(err.message, op->refuses)) {
                fail_msg("the message is \"%s\"; expected \"%s …\"", err.message, want);
            }
        }
        cover(op);
        tarn_graph_release(g);
    }
}

// ---- equal singular values and eigenvalues ----

static tarn_tensor gradient_at(tarn_graph *g, const tarn_node *y, const tarn_node *x, const double *a) {
    tarn_error err = {0};
    tarn_tensor at, out;
    const tarn_node *dx;
    OK(tarn_vjp(g, tarn_total(g, &tarn_op_sum, y), NULL, 1, &x, &dx, &err));
    OK(tarn_tensor_new(&context, TARN_F64, 2, x->desc.shape, &at, &err));
    memcpy(at.storage->data, a, (size_t)tarn_tensor_numel(&at) * sizeof *a);
    const tarn_tensor **feeds = calloc((size_t)g->count + 1, sizeof *feeds);
    feeds[x->id] = &at;
    OK(tarn_graph_eval(g, 1, &dx, feeds, &out, &err));
    free((void *)feeds);
    tarn_tensor_release(&at);
    return out;
}

// Of 2 r with a rotation r: the sum of the singular values has the gradient r, a polar factor weighed by
// c the gradient (c - r c^T r) / 4, both exact; the trace of exp(a) has exp(a). Vectors have none: NaN.
static void repeated(void **state) {
    static const double r[9] = {0, -1, 0, 1, 0, 0, 0, 0, 1}, c[9] = {3, 1, 4, 2, 5, 9, 1, 6, 5};
    static const double d[9] = {2, 0, 0, 0, 2, 0, 0, 0, 5};
    double twice[9];
    tarn_error err = {0};
    tarn_graph *g = tarn_graph_new(&context);
    const tarn_desc square = {.dtype = TARN_F64, .rank = 2, .shape = {3, 3}};
    const tarn_node *x = tarn_leaf_input(g, &square);
    tarn_tensor t, weigh;
    OK(tarn_tensor_new(&context, TARN_F64, 2, square.shape, &weigh, &err));
    memcpy(weigh.storage->data, c, sizeof c);
    for (int i = 0; i < 9; i++) {
        twice[i] = 2 * r[i];
    }
    const tarn_node *cn = tarn_leaf_tensor(g, &weigh), *q = tarn_polar(g, x, TARN_POLAR_SVD);
    tarn_svd_nodes s = tarn_svd(g, x, NULL);
    tarn_eigh_nodes e = tarn_eigh(g, x);
    t = gradient_at(g, s.s, x, twice);
    for (int i = 0; i < 9; i++) {
        assert_true(fabs(tarn_tensor_get(&t, i) - r[i]) < 1e-14);
    }
    tarn_tensor_release(&t);
    t = gradient_at(g, tarn_mul(g, cn, q), x, twice);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            double turned = 0;
            for (int k = 0; k < 3; k++) {
                for (int l = 0; l < 3; l++) {
                    turned += r[3 * i + k] * c[3 * l + k] * r[3 * l + j];
                }
            }
            assert_true(fabs(tarn_tensor_get(&t, 3 * i + j) - (c[3 * i + j] - turned) / 4) < 1e-14);
        }
    }
    tarn_tensor_release(&t);
    t = gradient_at(g, tarn_exp(g, e.w), x, d);
    for (int i = 0; i < 9; i++) {
        assert_true(fabs(tarn_tensor_get(&t, i) - (i % 4 == 0 ? exp(d[i]) : 0)) < 1e-12);
    }
    tarn_tensor_release(&t);
    t = gradient_at(g, tarn_mul(g, cn, s.u), x, twice);
    assert_true(isnan(tarn_tensor_get(&t, 0)));
    tarn_tensor_release(&t);
    t = gradient_at(g, tarn_mul(g, cn, e.v), x, d);
    assert_true(isnan(tarn_tensor_get(&t, 0)));
    tarn_tensor_release(&t);
    tarn_tensor_release(&weigh);
    tarn_graph_release(g);
}

// Every row is here.
static void complete(void **state) {
    for (int i = 0; i < TARN_OP_COUNT; i++) {
        const tarn_op *op = tarn_ops[i];
        bool none = op->cls == TARN_CLASS_LEAF || op->min_in == 0;
        if (!none && !covered[i]) {
            fail_msg("%s has no entry here: derivatives, zeros (a row that moves in jumps) or a refusal", op->name);
        }
        bool rules = (op->vjp && op->jvp) || op->decompose;
        if (!none && !rules && !op->refuses) {
            fail_msg("%s has no derivatives and does not say why (op.h, refuses)", op->name);
        }
    }
}

static int open_one(void **state) {
    open_context(&context, 2, NULL);
    return 0;
}
static int close_one(void **state) {
    assert_int_equal(context.budget.used, 0);
    tarn_context_free(&context);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(point_rows), cmocka_unit_test(other_rows), cmocka_unit_test(net_rows), cmocka_unit_test(flat_rows),
        cmocka_unit_test(refused_rows), cmocka_unit_test(repeated), cmocka_unit_test(complete),
    };
    return cmocka_run_group_tests(tests, open_one, close_one);
}
