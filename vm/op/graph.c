// SPDX-License-Identifier: Apache-2.0
// The graph: append-only nodes in an arena, hash-consed, with sticky errors. Inputs of element-wise
// rows are cast to the working dtype here, once, so that evaluators never see mixed dtypes.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vm/op/infer.h"
#include "vm/op/op.h"

tarn_graph *tarn_graph_new(tarn_context *cx) {
    tarn_graph *g = tarn_alloc_zero(&cx->budget, sizeof *g);
    if (g) {
        g->cx = cx;
        atomic_init(&g->refs, 1);
        tarn_arena_init(&g->arena, &cx->budget);
    }
    return g;
}

tarn_graph *tarn_graph_retain(tarn_graph *g) {
    atomic_fetch_add(&g->refs, 1);
    return g;
}

const tarn_tensor *tarn_node_tensor(const tarn_node *n) {
    return n->op == &tarn_op_tensor ? n->attr.p : NULL;
}
const tarn_source *tarn_node_source(const tarn_node *n) {
    return n->op == &tarn_op_source ? n->attr.p : NULL;
}

bool tarn_node_input(const tarn_node *n) { return n->op == &tarn_op_input; }

static void release_leaf(const tarn_node *n) {
    if (n->op == &tarn_op_source) {
        const tarn_source *s = n->attr.p;
        s->release(s);
    } else if (n->op == &tarn_op_tensor) {
        union {
            const void *in;
            tarn_tensor *out;
        } u = {.in = n->attr.p};
        tarn_tensor_release(u.out);
    }
}

void tarn_graph_release(tarn_graph *g) {
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) {
        return;
    }
    for (int i = 0; i < g->count; i++) {
        release_leaf(g->nodes[i]);
    }
    tarn_budget *b = &g->cx->budget;
    tarn_free(b, (void *)g->nodes, (size_t)g->room * sizeof *g->nodes);
    tarn_free(b, g->table, (size_t)g->slots * sizeof *g->table);
    tarn_arena_free(&g->arena);
    tarn_free(b, g, sizeof *g);
}

static uint64_t mixed(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
    return h ^ (h >> 32);
}

// Within a process only: by words, since a node is looked up each time an operation is recorded.
static uint64_t hash_node(const tarn_op *op, int nin, const tarn_node *const *in,
                          const tarn_attr *a) {
    uint64_t h = mixed((uintptr_t)op, (uintptr_t)a->p);
    for (int i = 0; i < nin; i++) {
        h = mixed(h, (uint64_t)in[i]->id + 1);
    }
    for (int i = 0; i < a->ni; i++) {
        h = mixed(h, (uint64_t)a->i[i]);
    }
    for (int i = 0; i < a->nf; i++) {
        uint64_t bits;
        memcpy(&bits, &a->f[i], sizeof bits);
        h = mixed(h, bits);
    }
    return h;
}

static bool same_bytes(const void *x, const void *y, size_t n) {
    return n == 0 || (x && y && memcmp(x, y, n) == 0);
}

// Numbers by their bits: 0 and -0 are two nodes.
static bool same_attr(const tarn_attr *x, const tarn_attr *y) {
    return x->ni == y->ni && x->nf == y->nf && x->p == y->p &&
           same_bytes(x->i, y->i, (size_t)x->ni * sizeof *x->i) &&
           same_bytes(x->f, y->f, (size_t)x->nf * sizeof *x->f);
}

static bool same_node(const tarn_node *n, const tarn_op *op, int nin, const tarn_node *const *in,
                      const tarn_attr *a) {
    if (n->op != op || n->nin != nin || !same_attr(&n->attr, a)) {
        return false;
    }
    for (int i = 0; i < nin; i++) {
        if (n->in[i] != in[i]) {
            return false;
        }
    }
    return true;
}

static bool grow(tarn_graph *g) {
    if (g->count < g->room) {
        return true;
    }
    int room = g->room ? g->room * 2 : 64;
    tarn_budget *b = &g->cx->budget;
    const tarn_node **nodes = tarn_alloc(b, (size_t)room * sizeof *nodes);
    int *table = tarn_alloc_zero(b, (size_t)room * 2 * sizeof *table);
    if (!nodes || !table) {
        tarn_free(b, (void *)nodes, (size_t)room * sizeof *nodes);
        tarn_free(b, table, (size_t)room * 2 * sizeof *table);
        return false;
    }
    if (g->count) {
        memcpy((void *)nodes, (const void *)g->nodes, (size_t)g->count * sizeof *nodes);
    }
    tarn_free(b, (void *)g->nodes, (size_t)g->room * sizeof *g->nodes);
    tarn_free(b, g->table, (size_t)g->slots * sizeof *g->table);
    g->nodes = nodes;
    g->table = table;
    g->room = room;
    g->slots = room * 2;
    for (int i = 0; i < g->count; i++) {
        const tarn_node *n = nodes[i];
        uint64_t h = hash_node(n->op, n->nin, n->in, &n->attr);
        size_t at = (size_t)(h % (uint64_t)g->slots);
        while (table[at]) {
            at = (at + 1) % (size_t)g->slots;
        }
        table[at] = i + 1;
    }
    return true;
}

static const tarn_node *out_of_memory(tarn_graph *g) {
    tarn_raise_nomem(&g->err, "a graph", 0);
    return NULL;
}

// Appends without looking for an equal node first when `fresh`.
static const tarn_node *append(tarn_graph *g, const tarn_op *op, int nin,
                               const tarn_node *const *in, const tarn_attr *a, const tarn_desc *d,
                               bool fresh) {
    static const tarn_attr none = {0};
    a = a ? a : &none;
    if (!grow(g)) {
        return out_of_memory(g);
    }
    size_t at = (size_t)(hash_node(op, nin, in, a) % (uint64_t)g->slots);
    for (; g->table[at]; at = (at + 1) % (size_t)g->slots) {
        const tarn_node *n = g->nodes[g->table[at] - 1];
        if (!fresh && same_node(n, op, nin, in, a)) {
            return n;
        }
    }
    tarn_node *n = tarn_arena_take(&g->arena, sizeof *n);
    void *ins = tarn_arena_copy(&g->arena, in, (size_t)nin * sizeof *in);
    void *ai = tarn_arena_copy(&g->arena, a->i, (size_t)a->ni * sizeof *a->i);
    void *af = tarn_arena_copy(&g->arena, a->f, (size_t)a->nf * sizeof *a->f);
    if (!n || !ins || !ai || !af) {
        return out_of_memory(g);
    }
    *n = (tarn_node){.op = op,
                     .id = g->count,
                     .nin = nin,
                     .in = ins,
                     .attr = {.ni = a->ni, .nf = a->nf, .i = ai, .f = af, .p = a->p},
                     .desc = *d};
    g->table[at] = n->id + 1;
    g->nodes[g->count++] = n;
    return n;
}

const tarn_node *tarn_node_make(tarn_graph *g, const tarn_op *op, int nin,
                                const tarn_node *const *in, const tarn_attr *a) {
    static const tarn_attr none = {0};
    if (g->err.status != TARN_OK) {
        return NULL;
    }
    enum { FEW = 16 };
    tarn_desc few[FEW];
    few[0] = (tarn_desc){0};  // without inputs
    const tarn_node *few_in[FEW];
    tarn_desc *d = nin <= FEW ? few : tarn_arena_take(&g->arena, (size_t)nin * sizeof *d);
    const tarn_node **use = nin <= FEW ? few_in
                                       : tarn_arena_take(&g->arena, (size_t)nin * sizeof *use);
    if (!d || !use) {
        return out_of_memory(g);
    }
    for (int i = 0; i < nin; i++) {
        if (!in[i]) {
            tarn_raise(&g->err, "", "%s: operand %d is missing", op->name, i + 1);
            return NULL;
        }
        d[i] = in[i]->desc;
        use[i] = in[i];
    }
    tarn_desc out;
    if (tarn_op_infer(op, nin, d, a ? a : &none, &out, &g->err) != TARN_OK) {
        return NULL;
    }
    if (op->cls == TARN_CLASS_POINT && op->sig) {
        tarn_dtype want[FEW];
        if (tarn_point_types(op, nin, d, want, NULL, &g->err) != TARN_OK) {
            return NULL;
        }
        for (int i = 0; i < nin; i++) {
            if (tarn_dtype_compute(d[i].dtype) != want[i]) {
                use[i] = tarn_cast(g, in[i], want[i]);
                if (!use[i]) {
                    return NULL;
                }
            }
        }
    }
    return append(g, op, nin, use, a, &out, false);
}

const tarn_node *tarn_num(tarn_graph *g, double v) {
    if (g->err.status != TARN_OK) {
        return NULL;
    }
    tarn_desc d = {.dtype = TARN_F64, .weak = true};
    tarn_attr a = {.nf = 1, .f = &v};
    return append(g, &tarn_op_number, 0, NULL, &a, &d, false);
}

const tarn_node *tarn_leaf_source(tarn_graph *g, const tarn_source *s) {
    if (g->err.status != TARN_OK) {
        return NULL;
    }
    if (s->rank > TARN_MAX_RANK) {
        tarn_raise(&g->err, "Rank", "%s: %d dimensions; arithmetic takes at most %d", s->name,
                   s->rank, TARN_MAX_RANK);
        return NULL;
    }
    tarn_desc d = {.dtype = s->dtype, .rank = s->rank};
    if (s->rank) {
        memcpy(d.shape, s->shape, (size_t)s->rank * sizeof *s->shape);
    }
    tarn_attr a = {.p = s};
    int before = g->count;
    const tarn_node *n = append(g, &tarn_op_source, 0, NULL, &a, &d, false);
    if (n && n->id >= before) {
        s->retain(s);
    }
    return n;
}

// attr.i = {version of the storage}: what is computed later must see the same values.
static const tarn_node *leaf_tensor(tarn_graph *g, const tarn_tensor *t, int64_t version) {
    if (g->err.status != TARN_OK) {
        return NULL;
    }
    tarn_tensor *copy = tarn_arena_take(&g->arena, sizeof *copy);
    if (!copy) {
        return out_of_memory(g);
    }
    tarn_desc d;
    tarn_desc_of(t, &d);
    tarn_attr a = {.ni = 1, .i = &version, .p = copy};
    tarn_tensor_share(t, copy);
    const tarn_node *n = append(g, &tarn_op_tensor, 0, NULL, &a, &d, true);
    if (!n) {
        tarn_tensor_release(copy);
    }
    return n;
}

const tarn_node *tarn_leaf_tensor(tarn_graph *g, const tarn_tensor *t) {
    return leaf_tensor(g, t, (int64_t)t->storage->version);
}

const tarn_node *tarn_leaf_input(tarn_graph *g, const tarn_desc *d) {
    if (g->err.status != TARN_OK) {
        return NULL;
    }
    return append(g, &tarn_op_input, 0, NULL, NULL, d, true);
}

static const tarn_node *copy_node(tarn_graph *g, const tarn_node *n, const tarn_node **memo) {
    if (n->op == &tarn_op_source) {
        return tarn_leaf_source(g, n->attr.p);
    }
    if (n->op == &tarn_op_tensor) {
        return leaf_tensor(g, n->attr.p, n->attr.i[0]);
    }
    if (n->op == &tarn_op_input) {
        return tarn_leaf_input(g, &n->desc);
    }
    const tarn_node **in = malloc(((size_t)n->nin + 1) * sizeof *in);
    if (!in) {
        return out_of_memory(g);
    }
    for (int i = 0; i < n->nin; i++) {
        in[i] = memo[n->in[i]->id];
    }
    const tarn_node *r = n->op == &tarn_op_number ? tarn_num(g, n->attr.f[0])
                                                   : tarn_node_make(g, n->op, n->nin, in, &n->attr);
    free((void *)in);
    return r;
}

// Ids grow from inputs to users, so one ascending sweep over the marked nodes suffices.
static bool rebuild(tarn_graph *g, const tarn_graph *from, int n, const tarn_node *const *nodes,
                    const tarn_node **memo, bool into_self) {
    int top = -1;
    for (int i = 0; i < n; i++) {
        top = nodes[i]->id > top ? nodes[i]->id : top;
    }
    unsigned char *use = calloc((size_t)top + 2, 1);
    if (!use) {
        out_of_memory(g);
        return false;
    }
    for (int i = 0; i < n; i++) {
        use[nodes[i]->id] = 1;
    }
    for (int i = top; i >= 0; i--) {
        if (use[i] && !memo[i]) {
            const tarn_node *m = from->nodes[i];
            for (int k = 0; k < m->nin; k++) {
                use[m->in[k]->id] = 1;
            }
        }
    }
    bool whole = true;
    for (int i = 0; i <= top && whole; i++) {
        if (use[i] && !memo[i]) {
            const tarn_node *m = from->nodes[i];
            memo[i] = into_self && m->nin == 0 ? m : copy_node(g, m, memo);
            whole = memo[i] != NULL;
        }
    }
    free(use);
    return whole;
}

const tarn_node *tarn_node_import(tarn_graph *g, const tarn_graph *from, const tarn_node *n,
                                  const tarn_node **memo) {
    if (g == from) {
        return n;
    }
    const tarn_node **own = NULL;
    if (!memo) {
        own = calloc((size_t)from->count, sizeof *own);
        if (!own) {
            return out_of_memory(g);
        }
    }
    const tarn_node **all = memo ? memo : own;
    const tarn_node *r = rebuild(g, from, 1, &n, all, false) ? all[n->id] : NULL;
    free((void *)own);
    return r;
}

const tarn_node *tarn_node_rebuild(tarn_graph *g, const tarn_node *n, const tarn_node **memo) {
    return rebuild(g, g, 1, &n, memo, true) ? memo[n->id] : NULL;
}

bool tarn_nodes_rebuild(tarn_graph *g, int n, const tarn_node *const *nodes, const tarn_node **memo) {
    return rebuild(g, g, n, nodes, memo, true);
}

void tarn_graph_mark(const tarn_graph *g, int nroots, const tarn_node *const *roots,
                     unsigned char *use) {
    int top = -1;
    for (int i = 0; i < nroots; i++) {
        if (roots[i]) {
            use[roots[i]->id] = 1;
            top = roots[i]->id > top ? roots[i]->id : top;
        }
    }
    for (int i = top; i >= 0; i--) {
        if (use[i]) {
            for (int k = 0; k < g->nodes[i]->nin; k++) {
                use[g->nodes[i]->in[k]->id] = 1;
            }
        }
    }
}

// ---- constructors ----

const tarn_node *tarn_unary(tarn_graph *g, const tarn_op *op, const tarn_node *a) {
    return tarn_node_make(g, op, 1, &a, NULL);
}

const tarn_node *tarn_binary(tarn_graph *g, const tarn_op *op, const tarn_node *a,
                             const tarn_node *b) {
    const tarn_node *in[2] = {a, b};
    return tarn_node_make(g, op, 2, in, NULL);
}

const tarn_node *tarn_where(tarn_graph *g, const tarn_node *c, const tarn_node *a,
                            const tarn_node *b) {
    const tarn_node *in[3] = {c, a, b};
    return tarn_node_make(g, &tarn_op_where, 3, in, NULL);
}

const tarn_node *tarn_cast(tarn_graph *g, const tarn_node *a, tarn_dtype dtype) {
    if (a && a->desc.dtype == dtype && !a->desc.weak) {
        return a;
    }
    int64_t t = dtype;
    tarn_attr attr = {.ni = 1, .i = &t};
    return tarn_node_make(g, &tarn_op_cast, 1, &a, &attr);
}

// Attributes of a reduction: {keep, scope, axes …}; no axes: all.
const tarn_node *tarn_reduce(tarn_graph *g, const tarn_op *op, const tarn_node *a, int naxes,
                             const int64_t *axes, bool keep) {
    int64_t i[TARN_MAX_RANK + 2] = {keep, 0};
    for (int k = 0; k < naxes && k < TARN_MAX_RANK; k++) {
        i[k + 2] = axes[k];
    }
    tarn_attr attr = {.ni = naxes + 2, .i = i};
    return tarn_node_make(g, op, 1, &a, &attr);
}

const tarn_node *tarn_total(tarn_graph *g, const tarn_op *op, const tarn_node *a) {
    return tarn_reduce(g, op, a, 0, NULL, false);
}

const tarn_node *tarn_dot(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    const tarn_node *in[2] = {a, b};
    int64_t i[2] = {0, 0};
    tarn_attr attr = {.ni = 2, .i = i};
    return tarn_node_make(g, &tarn_op_dot, 2, in, &attr);
}

const tarn_node *tarn_reshape(tarn_graph *g, const tarn_node *a, int rank, const int64_t *shape) {
    if (a && tarn_shape_equal(a->desc.rank, a->desc.shape, rank, shape)) {
        return a;
    }
    tarn_attr attr = {.ni = rank, .i = shape};
    return tarn_node_make(g, &tarn_op_reshape, 1, &a, &attr);
}

const tarn_node *tarn_broadcast(tarn_graph *g, const tarn_node *a, int rank, const int64_t *shape) {
    if (a && tarn_shape_equal(a->desc.rank, a->desc.shape, rank, shape)) {
        return a;
    }
    tarn_attr attr = {.ni = rank, .i = shape};
    return tarn_node_make(g, &tarn_op_broadcast_to, 1, &a, &attr);
}

// Of a permuted tensor: of what was permuted; the identity is no node.
const tarn_node *tarn_permute(tarn_graph *g, const tarn_node *a, const int64_t *order) {
    int64_t both[TARN_MAX_RANK];
    bool same = a != NULL, known = true;
    for (int d = 0; a && d < a->desc.rank; d++) {
        known = known && order[d] >= 0 && order[d] < a->desc.rank;
    }
    if (a && known && a->op == &tarn_op_permute) {
        for (int d = 0; d < a->desc.rank; d++) {
            both[d] = a->attr.i[order[d]];
        }
        a = a->in[0];
        order = both;
    }
    for (int d = 0; a && d < a->desc.rank; d++) {
        same = same && order[d] == d;
    }
    if (same && a->desc.rank > 0) {
        return a;
    }
    tarn_attr attr = {.ni = a ? a->desc.rank : 0, .i = order};
    return tarn_node_make(g, &tarn_op_permute, 1, &a, &attr);
}

const tarn_node *tarn_item(tarn_graph *g, const tarn_node *a, int64_t i) {
    tarn_attr attr = {.ni = 1, .i = &i};
    return tarn_node_make(g, &tarn_op_item, 1, &a, &attr);
}

const tarn_node *tarn_slice(tarn_graph *g, const tarn_node *a, int axis, int64_t start, int64_t count) {
    int64_t i[3 * TARN_MAX_RANK];
    int rank = a ? a->desc.rank : 0;
    for (int d = 0; d < rank; d++) {
        i[3 * d] = d == axis ? start : 0;
        i[3 * d + 1] = d == axis ? count : a->desc.shape[d];
        i[3 * d + 2] = 1;
    }
    tarn_attr attr = {.ni = 3 * rank, .i = i};
    return tarn_node_make(g, &tarn_op_slice, 1, &a, &attr);
}

const tarn_node *tarn_concat(tarn_graph *g, int n, const tarn_node *const *x, int64_t axis) {
    tarn_attr attr = {.ni = 1, .i = &axis};
    return n == 1 ? x[0] : tarn_node_make(g, &tarn_op_concat, n, x, &attr);
}

const tarn_node *tarn_stack(tarn_graph *g, int n, const tarn_node *const *x) {
    const tarn_node **row = tarn_arena_take(&g->arena, (size_t)n * sizeof *row);
    if (!row) {
        return out_of_memory(g);
    }
    for (int k = 0; k < n; k++) {
        int64_t shape[TARN_MAX_RANK + 1] = {1};
        int rank = x[k] ? x[k]->desc.rank : 0;
        for (int d = 0; d < rank; d++) {
            shape[d + 1] = x[k]->desc.shape[d];
        }
        row[k] = tarn_reshape(g, x[k], rank + 1, shape);
    }
    return tarn_concat(g, n, row, 0);
}

const tarn_node *tarn_iota(tarn_graph *g, int64_t n) {
    int64_t i[3] = {TARN_I64, n, 0};
    tarn_attr attr = {.ni = 3, .i = i};
    return tarn_node_make(g, &tarn_op_iota, 0, NULL, &attr);
}

const tarn_node *tarn_zeros_like(tarn_graph *g, const tarn_node *x) {
    if (!x) {
        return NULL;  // after an error
    }
    const tarn_node *z = tarn_cast(g, tarn_num(g, 0), tarn_dtype_compute(x->desc.dtype));
    return tarn_broadcast(g, z, x->desc.rank, x->desc.shape);
}
