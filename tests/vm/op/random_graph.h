// SPDX-License-Identifier: Apache-2.0
// Random graphs over inputs and tensors of related shapes, from all rows that take what is there,
// and their values node by node: what the compiled executor is compared with.
#ifndef TARN_TESTS_VM_OP_RANDOM_GRAPH_H
#define TARN_TESTS_VM_OP_RANDOM_GRAPH_H

#include "tests/support.h"

enum { GRAPH_INPUTS = 5, GRAPH_LEAVES = 3, GRAPH_MOST = 400 };

typedef struct {
    tarn_context *cx;
    tarn_graph *g;
    uint64_t seed;
    const tarn_node *node[GRAPH_MOST];
    int n;
    const tarn_node *input[GRAPH_INPUTS];
    tarn_tensor value[GRAPH_INPUTS], leaf[GRAPH_LEAVES];
    int64_t rows, columns;
    bool smooth;  // floating rows that have derivatives only
    bool files;   // sources in the place of inputs
} random_graph;

static inline uint64_t rg_below(random_graph *r, uint64_t n) { return test_random(&r->seed) % n; }
static inline const tarn_node *rg_pick(random_graph *r) {
    // Mostly what is new, so that chains grow.
    uint64_t back = rg_below(r, 3) ? rg_below(r, 8) : rg_below(r, (uint64_t)r->n);
    return r->node[back < (uint64_t)r->n ? r->n - 1 - (int)back : 0];
}
static inline void rg_add(random_graph *r, const tarn_node *n) {
    if (n && r->n < GRAPH_MOST) {
        r->node[r->n++] = n;
    }
}
// The node, if the row takes these operands; the graph's errors stick, so it is asked before.
static inline const tarn_node *rg_try(random_graph *r, const tarn_op *op, int nin,
                                      const tarn_node *const *in, const tarn_attr *a) {
    static const tarn_attr none = {0};
    tarn_desc d[4], out;
    for (int k = 0; k < nin; k++) {
        d[k] = in[k]->desc;
    }
    if (tarn_op_infer(op, nin, d, a ? a : &none, &out, NULL) != TARN_OK ||
        tarn_desc_numel(&out) > 4 * r->rows * r->columns + 4096) {
        return NULL;
    }
    return tarn_node_make(r->g, op, nin, in, a);
}

static inline void rg_shape(random_graph *r, int *rank, int64_t *shape) {
    static const signed char kinds[][3] = {{2, 0, 1}, {2, 0, 1}, {2, 0, 1}, {2, 1, 0}, {1, 1}, {2, 0, 2},
                                           {2, 2, 1}, {1, 2}, {0}, {1, 0}};
    const int64_t size[3] = {r->rows, r->columns, 1};
    const signed char *k = kinds[rg_below(r, sizeof kinds / sizeof *kinds)];
    *rank = k[0];
    for (int d = 0; d < *rank; d++) {
        shape[d] = size[k[d + 1]];
    }
}

static inline const tarn_node *rg_leaf(random_graph *r, const tarn_tensor *x) {
    if (r->files) {
        const tarn_source *s = tarn_source_of_tensor(x, "t");
        const tarn_node *n = tarn_leaf_source(r->g, s);
        s->release(s);
        return n;
    }
    tarn_desc d;
    tarn_desc_of(x, &d);
    return tarn_leaf_input(r->g, &d);
}

static inline void rg_begin(random_graph *r, tarn_context *cx, uint64_t seed, int64_t rows,
                            int64_t columns, bool smooth, bool files) {
    static const tarn_dtype any[] = {TARN_F32, TARN_F32, TARN_F32, TARN_F64, TARN_BF16, TARN_I64,
                                     TARN_U8, TARN_BOOL};
    memset(r, 0, sizeof *r);
    r->cx = cx;
    r->seed = seed;
    r->rows = rows;
    r->columns = columns;
    r->smooth = smooth;
    r->files = files;
    r->g = tarn_graph_new(cx);
    for (int k = 0; k < GRAPH_INPUTS + GRAPH_LEAVES; k++) {
        int rank = 2;
        int64_t shape[TARN_MAX_RANK] = {rows, columns};
        if (k > 0) {
            rg_shape(r, &rank, shape);
        }
        tarn_dtype t = smooth ? k == 1 ? TARN_F64 : TARN_F32 : any[rg_below(r, 8)];
        t = k == 0 ? TARN_F32 : t;
        tarn_tensor x = filled(cx, t, rank, shape, test_random(&r->seed));
        if (k < GRAPH_INPUTS) {
            r->value[k] = x;
            r->input[k] = rg_leaf(r, &x);
            rg_add(r, r->input[k]);
        } else {
            r->leaf[k - GRAPH_INPUTS] = x;
            rg_add(r, tarn_leaf_tensor(r->g, &x));
        }
    }
    rg_add(r, tarn_num(r->g, 0.75));
    rg_add(r, tarn_num(r->g, 3));
}

static inline void rg_open(random_graph *r, tarn_context *cx, uint64_t seed, int64_t rows,
                           int64_t columns, bool smooth) {
    rg_begin(r, cx, seed, rows, columns, smooth, false);
}

static inline void rg_close(random_graph *r) {
    for (int k = 0; k < GRAPH_INPUTS; k++) {
        tarn_tensor_release(&r->value[k]);
    }
    for (int k = 0; k < GRAPH_LEAVES; k++) {
        tarn_tensor_release(&r->leaf[k]);
    }
    tarn_graph_release(r->g);
}

static inline const tarn_node *rg_view(random_graph *r, const tarn_node *x) {
    int64_t i[3 * TARN_MAX_RANK], n = tarn_desc_numel(&x->desc);
    int rank = x->desc.rank;
    switch (rg_below(r, 5)) {
    case 0:
        i[0] = n;
        return tarn_reshape(r->g, x, 1, i);
    case 1:
        i[0] = 1, i[1] = n;
        return tarn_reshape(r->g, x, 2, i);
    case 2:
        for (int d = 0; d < rank; d++) {
            i[d] = rank - 1 - d;
        }
        return rank > 1 ? tarn_permute(r->g, x, i) : NULL;
    case 3:
        for (int d = 0; d < rank; d++) {
            int64_t s = x->desc.shape[d];
            i[3 * d] = s > 2 ? (int64_t)rg_below(r, (uint64_t)s / 2) : 0;
            i[3 * d + 1] = s > 2 ? s / 3 : s;
            i[3 * d + 2] = s > 2 && i[3 * d] + 2 * (s / 3 - 1) < s ? 2 : 1;
        }
        {
            tarn_attr a = {.ni = 3 * rank, .i = i};
            return rg_try(r, &tarn_op_slice, 1, &x, &a);
        }
    default:
        i[0] = r->rows, i[1] = r->columns;
        {
            tarn_attr a = {.ni = 2, .i = i};
            return rg_try(r, &tarn_op_broadcast_to, 1, &x, &a);
        }
    }
}

static inline const tarn_node *rg_reduce(random_graph *r, const tarn_node *x) {
    static const tarn_op *const op[] = {&tarn_op_sum, &tarn_op_max, &tarn_op_min, &tarn_op_argmax,
                                        &tarn_op_argmin};
    const tarn_op *o = op[rg_below(r, r->smooth ? 2 : 5)];
    int64_t i[4] = {(int64_t)rg_below(r, 2), 0};
    int rank = x->desc.rank, axes = (int)rg_below(r, 3);
    if (tarn_desc_numel(&x->desc) == 0 && o != &tarn_op_sum) {
        return NULL;
    }
    tarn_attr a = {.ni = 2, .i = i};
    if (axes == 1 && rank > 0) {
        i[2] = (int64_t)rg_below(r, (uint64_t)rank);
        a.ni = 3;
    } else if (axes == 2 && rank > 1) {
        i[2] = 0, i[3] = 1;
        a.ni = 4;
    } else {
        i[0] = 0;
    }
    return rg_try(r, o, 1, &x, &a);
}

static inline const tarn_node *rg_whole(random_graph *r, const tarn_node *x, const tarn_node *y) {
    const tarn_node *in[2] = {x, y};
    int64_t i[TARN_MAX_RANK] = {x->desc.rank > 0 ? (int64_t)rg_below(r, (uint64_t)x->desc.rank) : 0};
    tarn_attr a = {.ni = 1, .i = i};
    switch (rg_below(r, r->smooth ? 4 : 6)) {
    case 0:
    case 1:
        return rg_try(r, &tarn_op_matmul, 2, in, NULL);
    case 2: {  // x xᵀ and the like: an operand that is a view
        const int64_t swap[2] = {1, 0};
        in[1] = y->desc.rank == 2 ? tarn_permute(r->g, y, swap) : y;
        return in[1] ? rg_try(r, &tarn_op_matmul, 2, in, NULL) : NULL;
    }
    case 3:
        return x->desc.rank > 0 ? rg_try(r, &tarn_op_concat, 2, in, &a) : NULL;
    default: {  // sorts go along the last axis; attributes: {descending}
        int64_t way = (int64_t)rg_below(r, 2), last = x->desc.rank - 1;
        tarn_attr order = {.ni = 1, .i = &way}, along = {.ni = 1, .i = &last};
        if (x->desc.rank == 0 || tarn_desc_numel(&x->desc) == 0) {
            return NULL;
        }
        if (rg_below(r, 2)) {
            return rg_try(r, &tarn_op_sort, 1, in, &order);
        }
        if (y->desc.rank != x->desc.rank || y->desc.shape[last] > x->desc.shape[last]) {
            return NULL;
        }
        in[1] = rg_try(r, &tarn_op_argsort, 1, &y, &order);
        return in[1] ? rg_try(r, &tarn_op_gather, 2, in, &along) : NULL;
    }
    }
}

static inline const tarn_node *rg_point(random_graph *r) {
    const tarn_op *op = tarn_ops[rg_below(r, TARN_OP_COUNT)];
    const tarn_node *in[3];
    if (op->cls != TARN_CLASS_POINT || op->max_in < 0 || op->max_in > 3 ||
        (r->smooth && (!op->vjp || op->vjp == tarn_op_floor.vjp))) {
        return NULL;
    }
    for (int k = 0; k < op->max_in; k++) {
        in[k] = rg_pick(r);
    }
    static const tarn_dtype to[] = {TARN_F32, TARN_F64, TARN_BF16, TARN_F16, TARN_I64, TARN_U8, TARN_BOOL};
    int64_t i[TARN_MAX_RANK + 2] = {to[rg_below(r, r->smooth ? 2 : 7)]};
    tarn_attr a = {.ni = 1, .i = i};
    const double p = 0.4;
    if (op->max_in == 0) {
        static const tarn_dtype made[] = {TARN_F32, TARN_F64, TARN_I64, TARN_BOOL};
        i[0] = made[rg_below(r, 4)];
        i[1] = r->rows, i[2] = r->columns, i[3] = (int64_t)rg_below(r, 1000);
        a = (tarn_attr){.ni = 4, .i = i, .nf = op == &tarn_op_bernoulli, .f = &p};
    } else if (op != &tarn_op_cast) {
        a = (tarn_attr){0};
    }
    return rg_try(r, op, op->max_in, in, &a);
}

static inline void rg_grow(random_graph *r, int nodes) {
    for (int tries = 0; r->n < nodes && tries < 40 * nodes; tries++) {
        switch (rg_below(r, 16)) {
        case 0:
            rg_add(r, rg_view(r, rg_pick(r)));
            break;
        case 4:
        case 5:
        case 6: {  // of the same shape, in memory: what groups may be written over
            const tarn_node *x = rg_pick(r);
            int64_t way = 0;
            tarn_attr a = {.ni = 1, .i = &way};
            rg_add(r, r->smooth || x->desc.rank == 0 ? NULL : rg_try(r, &tarn_op_sort, 1, &x, &a));
            break;
        }
        case 1:
            rg_add(r, rg_reduce(r, rg_pick(r)));
            break;
        case 2:
            rg_add(r, rg_whole(r, rg_pick(r), rg_pick(r)));
            break;
        case 3: {
            const tarn_node *in[2] = {rg_pick(r), rg_pick(r)};
            int64_t i[2] = {0, 0};
            tarn_attr a = {.ni = 2, .i = i};
            rg_add(r, rg_try(r, &tarn_op_dot, 2, in, &a));
            break;
        }
        default:
            rg_add(r, rg_point(r));
        }
        assert_int_equal(r->g->err.status, TARN_OK);
    }
}

// Every node by tarn_op_apply; value: [g->count], closed where the roots do not need it.
static inline void rg_by_nodes(random_graph *r, int nroots, const tarn_node *const *root,
                               tarn_tensor *result) {
    tarn_error err = {0};
    tarn_graph *g = r->g;
    unsigned char *use = calloc((size_t)g->count + 1, 1);
    tarn_tensor *value = calloc((size_t)g->count + 1, sizeof *value);
    tarn_graph_mark(g, nroots, root, use);
    for (int i = 0; i < g->count; i++) {
        const tarn_node *n = g->nodes[i];
        if (!use[i]) {
            continue;
        }
        int input = -1;
        for (int k = 0; k < GRAPH_INPUTS; k++) {
            input = r->input[k] == n ? k : input;
        }
        if (input >= 0) {
            tarn_tensor_share(&r->value[input], &value[i]);
        } else if (n->op->cls == TARN_CLASS_LEAF) {
            OK(tarn_leaf_value(g->cx, n, &value[i], &err));
        } else {
            tarn_tensor in[64];
            for (int k = 0; k < n->nin; k++) {
                in[k] = value[n->in[k]->id];
            }
            OK(tarn_op_apply(g->cx, n->op, n->nin, in, &n->attr, &value[i], &err));
        }
    }
    for (int k = 0; k < nroots; k++) {
        tarn_tensor_share(&value[root[k]->id], &result[k]);
    }
    for (int i = 0; i < g->count; i++) {
        tarn_tensor_release(&value[i]);
    }
    free(value);
    free(use);
}

// The same shape, dtype and bits. (Node by node, a number that was cast for a row makes its result
// strong; a graph knows better.)
static inline bool rg_equal(tarn_context *cx, const tarn_tensor *a, const tarn_tensor *b) {
    tarn_error err = {0};
    if (!tarn_shape_equal(a->rank, a->shape, b->rank, b->shape) || a->dtype != b->dtype) {
        return false;
    }
    tarn_tensor x, y;
    OK(tarn_tensor_cast(cx, a, a->dtype, &x, &err));
    OK(tarn_tensor_cast(cx, b, b->dtype, &y, &err));
    bool same = memcmp(tarn_tensor_data(&x), tarn_tensor_data(&y), tarn_tensor_bytes(&x)) == 0;
    tarn_tensor_release(&x);
    tarn_tensor_release(&y);
    return same;
}

#endif
