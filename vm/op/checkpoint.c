// SPDX-License-Identifier: Apache-2.0
// Activations that are computed again instead of kept (Chen et al., "Training deep nets with sublinear memory
// cost", arXiv:1604.06174). A `checkpoint` is the identity at the end of a segment of the graph: what was
// recorded since node attr.i[0]. It has no reverse rule, only a decomposition, which is made when the backward
// walk arrives: the segment once more, on `barrier`s of what it reads. A barrier is the identity too; what is
// made of it is another node than what is made of its operand, and runs after all that stood before it. So the
// segment's first values die on the way forward, and the derivative uses the second ones. Which node a segment
// begins with only decides how much is computed again: any cut gives the same value.
#include <stdlib.h>

#include "vm/op/axes.h"
#include "vm/op/rules.h"

static tarn_status infer_same(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out, tarn_error *err) {
    (void)nin, (void)a, (void)err;
    *out = in[0];
    return TARN_OK;
}

static bool view_same(const tarn_tensor *in, const tarn_attr *a, const tarn_desc *d, tarn_tensor *out) {
    (void)a, (void)d;
    *out = *in;
    return true;
}

TARN_VJP(vjp_barrier) {
    (void)g, (void)y, (void)which;
    return gy;
}
TARN_JVP(jvp_same) {
    (void)g, (void)y;
    return dx[0];
}

static const tarn_node *barrier(tarn_graph *g, const tarn_node *x, int64_t which) {
    tarn_attr a = {.ni = 1, .i = &which};
    return x->op == &tarn_op_number ? x : tarn_node_make(g, &tarn_op_barrier, 1, &x, &a);
}

// The nodes before `start` that the segment reads stand in memo as barriers.
static void cut(tarn_graph *g, const tarn_node *y, int64_t start, const tarn_node **memo, unsigned char *use) {
    use[y->id] = 1;
    for (int i = y->id; i >= start; i--) {
        for (int k = 0; use[i] && k < g->nodes[i]->nin; k++) {
            use[g->nodes[i]->in[k]->id] = 1;
        }
    }
    for (int i = 0; i < start && i <= y->id; i++) {
        memo[i] = use[i] ? barrier(g, g->nodes[i], start) : NULL;
    }
}

static const tarn_node *again(tarn_graph *g, const tarn_node *y) {
    const tarn_node *x = y->in[0], *r = NULL;
    const tarn_node **memo = calloc((size_t)x->id + 1, sizeof *memo);
    unsigned char *use = calloc((size_t)x->id + 1, 1);
    if (memo && use) {
        cut(g, x, y->attr.i[0], memo, use);
        r = g->err.status == TARN_OK ? tarn_node_rebuild(g, x, memo) : NULL;
    } else {
        tarn_raise_nomem(&g->err, "a checkpoint", (size_t)x->id * sizeof *memo);
    }
    free((void *)memo);
    free(use);
    return r;
}

// clang-format off
const tarn_op tarn_op_checkpoint = {
    .name = "checkpoint", .version = 1, .cls = TARN_CLASS_VIEW, .min_in = 1, .max_in = 1, .infer = infer_same, .view = view_same,
    .same_order = true, .decompose = again, .jvp = jvp_same, .axes = tarn_axes_kept, .mass = {.a = 1},
    .summary = "the same elements; what they are made of is computed again by a backward pass"};
const tarn_op tarn_op_barrier = {
    .name = "barrier", .version = 1, .cls = TARN_CLASS_VIEW, .min_in = 1, .max_in = 1, .infer = infer_same, .view = view_same,
    .same_order = true, .late = true, .vjp = vjp_barrier, .jvp = jvp_same, .axes = tarn_axes_kept, .mass = {.a = 1},
    .summary = "the same elements; what is made of them waits for all that stands before"};
// clang-format on
