// SPDX-License-Identifier: Apache-2.0
// Nodes of linear algebra: a row and the views that take its packed result apart. How each result
// is packed is said once, by tarn_linalg_parts, for these constructors and for the language.
#include "vm/op/linalg.h"

#include <string.h>

static void part(tarn_linalg_part *p, const char *name, int rank, int64_t rows, int64_t cols,
                 bool transposed, int64_t *at) {
    *p = (tarn_linalg_part){.name = name, .at = *at, .rank = rank, .transposed = transposed};
    p->shape[0] = rows;
    p->shape[1] = cols;
    *at += (rank > 0 ? rows : 1) * (rank > 1 ? cols : 1);
}

int tarn_linalg_parts(const tarn_op *op, const tarn_desc *a, int64_t rank, tarn_linalg_part *p) {
    int64_t m = a->shape[a->rank - 2], n = a->shape[a->rank - 1], k = m < n ? m : n, at = 0;
    int64_t r = rank > 0 ? rank : k;
    if (op == &tarn_op_svd) {
        part(&p[0], "U", 2, m, r, false, &at);
        part(&p[1], "S", 1, r, 0, false, &at);
        part(&p[2], "Vh", 2, r, n, false, &at);
        part(&p[3], "residual", 0, 0, 0, false, &at);
        return 4;
    }
    if (op == &tarn_op_eigh) {
        part(&p[0], "values", 1, n, 0, false, &at);
        part(&p[1], "vectors", 2, n, n, true, &at);
        return 2;
    }
    if (op == &tarn_op_qr) {
        part(&p[0], "Q", 2, m, k, false, &at);
        part(&p[1], "R", 2, k, n, false, &at);
        return 2;
    }
    if (op == &tarn_op_schur) {
        part(&p[0], "T", 2, n, n, true, &at);
        part(&p[1], "Z", 2, n, n, true, &at);
        return 2;
    }
    return 0;
}

const tarn_node *tarn_transpose(tarn_graph *g, const tarn_node *a) {
    int64_t order[TARN_MAX_RANK];
    if (!a) {
        return NULL;
    }
    int rank = a->desc.rank;
    if (rank < 2) {
        tarn_raise(&g->err, "Rank", "transpose: expected a matrix, got rank %d", rank);
        return NULL;
    }
    for (int d = 0; d < rank; d++) {
        order[d] = d;
    }
    order[rank - 1] = rank - 2;
    order[rank - 2] = rank - 1;
    return tarn_permute(g, a, order);
}

// The part of a packed result whose last dimension holds all of them.
static const tarn_node *part_of(tarn_graph *g, const tarn_node *packed, const tarn_linalg_part *p) {
    if (!packed) {
        return NULL;
    }
    int64_t shape[TARN_MAX_RANK], count = 1;
    int rank = packed->desc.rank;
    for (int d = 0; d < p->rank; d++) {
        count *= p->shape[d];
    }
    for (int d = 0; d < rank; d++) {
        shape[d] = packed->desc.shape[d];
    }
    memcpy(shape + rank - 1, p->shape, (size_t)p->rank * sizeof *shape);
    const tarn_node *s = tarn_slice(g, packed, rank - 1, p->at, count);
    s = s ? tarn_reshape(g, s, rank - 1 + p->rank, shape) : NULL;
    return s && p->transposed ? tarn_transpose(g, s) : s;
}

void tarn_linalg_unpack(tarn_graph *g, const tarn_op *op, const tarn_desc *a, int64_t rank,
                        const tarn_node *packed, const tarn_node **out) {
    tarn_linalg_part p[TARN_LINALG_PARTS];
    int n = packed ? tarn_linalg_parts(op, a, rank, p) : 0;
    for (int i = 0; i < n; i++) {
        out[i] = part_of(g, packed, &p[i]);
    }
}

static void parts_of(tarn_graph *g, const tarn_op *op, const tarn_node *a, int64_t rank,
                     const tarn_attr *attr, const tarn_node **out) {
    const tarn_node *packed = tarn_node_make(g, op, 1, &a, attr);
    tarn_linalg_unpack(g, op, packed ? &a->desc : NULL, rank, packed, out);
}

tarn_svd_nodes tarn_svd(tarn_graph *g, const tarn_node *a, const tarn_svd_options *o) {
    static const tarn_svd_options all = {0};
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    o = o ? o : &all;
    int64_t rank = o->rank;
    if (a && a->desc.rank >= 2) {
        int64_t m = a->desc.shape[a->desc.rank - 2], n = a->desc.shape[a->desc.rank - 1];
        int64_t k = m < n ? m : n;
        rank = rank > k ? k : rank;
    }
    const int64_t i[5] = {rank, o->route, o->oversample, o->power, o->seed};
    parts_of(g, &tarn_op_svd, a, rank, &(tarn_attr){.ni = 5, .i = i}, p);
    return (tarn_svd_nodes){p[0], p[1], p[2], p[3]};
}

tarn_eigh_nodes tarn_eigh(tarn_graph *g, const tarn_node *a) {
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    parts_of(g, &tarn_op_eigh, a, 0, NULL, p);
    return (tarn_eigh_nodes){p[0], p[1]};
}
tarn_qr_nodes tarn_qr(tarn_graph *g, const tarn_node *a) {
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    parts_of(g, &tarn_op_qr, a, 0, NULL, p);
    return (tarn_qr_nodes){p[0], p[1]};
}
tarn_schur_nodes tarn_schur(tarn_graph *g, const tarn_node *a) {
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    parts_of(g, &tarn_op_schur, a, 0, NULL, p);
    return (tarn_schur_nodes){p[0], p[1]};
}
const tarn_node *tarn_cholesky(tarn_graph *g, const tarn_node *a) {
    return tarn_unary(g, &tarn_op_cholesky, a);
}
const tarn_node *tarn_solve(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    return tarn_binary(g, &tarn_op_solve, a, b);
}
const tarn_node *tarn_polar(tarn_graph *g, const tarn_node *a, tarn_polar_route route) {
    const int64_t i = route;
    return tarn_node_make(g, &tarn_op_polar, 1, &a, &(tarn_attr){.ni = 1, .i = &i});
}
const tarn_node *tarn_orthogonal_power(tarn_graph *g, const tarn_node *q, const tarn_node *t) {
    return tarn_binary(g, &tarn_op_orthogonal_power, q, t);
}
