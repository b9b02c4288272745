// SPDX-License-Identifier: Apache-2.0
// The operation row, the graph of operations, and nothing else. Every evaluator (eager, streaming,
// differentiating, axis-tracing) reads rows through these fields; no code outside vm/op asks which
// operation a node holds. A row lives in the file of its family; ops.def lists them all.
#ifndef TARN_OP_OP_H
#define TARN_OP_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/arena.h"
#include "vm/base/context.h"
#include "vm/tensor/tensor.h"

enum {
    TARN_TILE = 1024,               // elements that an element-wise kernel sees at most
    TARN_LEAF = 4096,               // elements of one leaf of a reduction tree
    TARN_BLOCK = TARN_LEAF * 256,   // elements of one task: a complete subtree of leaves
};

typedef enum {
    TARN_CLASS_LEAF,    // no inputs: source, tensor, number, input
    TARN_CLASS_POINT,   // element-wise, operands broadcast; no inputs: made from the position
    TARN_CLASS_REDUCE,  // many elements to few, by leaves and a fixed tree; may ask to sweep again
    TARN_CLASS_VIEW,    // another view of the same elements
    TARN_CLASS_WHOLE,   // a function of whole tensors in memory
} tarn_class;

typedef struct tarn_desc {
    tarn_dtype dtype;  // of arithmetic, or a stored dtype for leaves and casts to storage
    bool weak;         // gives way to the dtype it meets; only rank 0
    int rank;
    int64_t shape[TARN_MAX_RANK];
} tarn_desc;

typedef struct tarn_attr {
    int ni, nf;
    const int64_t *i;  // [ni] axes, shapes, keys …
    const double *f;   // [nf]
    const void *p;     // LEAF: the tarn_source or tarn_tensor
} tarn_attr;

typedef struct tarn_op tarn_op;
typedef struct tarn_node tarn_node;
typedef struct tarn_graph tarn_graph;

// What a kernel may know of where it is.
typedef struct tarn_tile_args {
    const tarn_attr *attr;
    int64_t at;         // row-major index of the tile's first element
    const void *state;  // REDUCE: what earlier sweeps found
} tarn_tile_args;

// n <= TARN_TILE elements; every input holds n elements of the working dtype its signature names.
typedef void (*tarn_tile_fn)(int64_t n, const void *const *in, void *out, const tarn_tile_args *a);
// Folds n elements into an accumulator. A leaf arrives in order, TARN_TILE elements at a time.
typedef void (*tarn_fold_fn)(int64_t n, const void *const *in, void *acc, const tarn_tile_args *a);

typedef struct tarn_reducer {
    size_t acc, part, state;  // bytes; part: what a closed leaf leaves; state: between sweeps
    bool exact;               // join is order-free and exact: one accumulator per worker, no leaves
    int outputs;              // 0: a rank-0 result; k: a vector of k f64
    void (*begin)(const tarn_attr *a, int64_t n, void *state);      // before the first sweep
    void (*open)(void *acc);                                        // empties an accumulator
    void (*close)(const void *acc, void *part);
    void (*join)(void *part, const void *next);                     // part = part then next
    bool (*finish)(const void *part, int64_t n, const tarn_attr *a, void *state, double *out);
    // true: out is final. false: sweep again with the state left behind.
    // The positions that the next sweep has to see, [from, to); NULL: all of them.
    void (*window)(const void *state, int64_t *from, int64_t *to);
    double start;  // what a reduction over no elements yields
} tarn_reducer;

// An operation that works on each row (the last axis) of its operand by itself.
typedef struct tarn_rows {
    // n rows of `length` elements of dtype t, one after another in memory; so has the result.
    tarn_status (*run)(tarn_context *cx, int64_t n, int64_t length, tarn_dtype t, const void *in,
                       const tarn_attr *a, void *out, void *scratch, tarn_error *err);
    size_t (*scratch)(tarn_dtype t, int64_t length);  // bytes that run needs, a multiple of 64
} tarn_rows;

typedef struct tarn_axes tarn_axes;  // the axis tracer (vm/op/axes.h)

// The gradients by one operand of each of n examples, as factors (vm/grad/example.h): of example i in
// group g the product left[i, g]^T right[i, g], with the groups one after another in the operand's
// row-major order; or, with index [n, t], rows right [n, t, size] to be added to the operand's rows.
typedef struct tarn_examples {
    const tarn_node *left, *right;  // [n, groups, t, m], [n, groups, t, k]; left NULL: right [n, elements]
    const tarn_node *index;
} tarn_examples;

struct tarn_op {
    const char *name;
    int version;  // of the semantics: counts up when results change
    tarn_class cls;
    int min_in, max_in;  // max_in -1: any number
    // POINT: one letter per input, then '>' and the output. T: the common arithmetic dtype (f32,
    // f64, i64), F: the same but integers become f32, b: bool, d: f64, i: i64. "TT>T", "TT>b".
    const char *sig;
    int kernel;  // POINT, REDUCE: row in the table of kernels
    // Shape and dtype of the result. Operands have a dtype that can be computed with; attributes are
    // checked here. Messages say what was expected and got: the name is put before them by the caller.
    tarn_status (*infer)(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                         tarn_error *err);
    const tarn_reducer *reducer;
    // VIEW: false when the elements have to be copied into row-major order first.
    bool (*view)(const tarn_tensor *in, const tarn_attr *a, const tarn_desc *d, tarn_tensor *out);
    tarn_status (*apply)(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                         const tarn_desc *d, tarn_tensor *out,
                         tarn_error *err);  // WHOLE; NULL where `rows` says it
    // WHOLE: where out->storage is there already (contiguous, as d says), apply writes into it. Such an
    // apply gets fresh memory by tarn_result (vm/op/rules.h) and releases out on failure as ever.
    bool placed;
    // WHOLE: on rows in plain memory, where rows know nothing of each other (such an operation streams
    // in bands); NULL: the result needs the whole tensor.
    const tarn_rows *rows;
    // WHOLE: bytes beside the result, at most; threads: of the pool it may run on
    size_t (*workspace)(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads);
    // WHOLE: long work on one processor for each matrix of a batch, and workspace for as many as run
    // at once: jobs with such a row run side by side.
    bool serial;
    bool same_order;  // VIEW: keeps the row-major order of elements (streams pass through)
    bool late;        // VIEW: what is made of it runs after all nodes that stand before it in the graph
    // Derivatives emit nodes; NULL result: zero. Absent: through `decompose`, else not differentiable.
    const tarn_node *(*vjp)(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which);
    const tarn_node *(*jvp)(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx);
    // The derivative by an operand that all examples share, for each example by itself, where y has n
    // examples along its first axis in equal groups of rows. False: no factors in this case.
    bool (*examples)(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which, int64_t n,
                     tarn_examples *out);
    // Why it has none, and what to do instead: "it is …; compute it outside". For the error.
    const char *refuses;
    // The value of y, made of y's operands by other rows: what a fused row does at once.
    const tarn_node *(*decompose)(tarn_graph *g, const tarn_node *y);
    // Links the axes of the inputs and of the output, each with the largest group that commutes.
    void (*axes)(tarn_axes *t, const tarn_node *y);
    // Mass of a result over models of mass p and q: a p + b q (add 1 1, sub 1 -1, neg -1), else 0;
    // `scale`: by a number c, the mass is p c (1) or p / c (-1), else p.
    struct {
        signed char a, b, scale;
    } mass;
    // For the language: "exp(x)", argument kinds as parsed by the bindings; NULL: internal.
    const char *lua;
    const char *summary;
    const char *example;  // runnable; "-- > " before what it prints
};

struct tarn_node {
    const tarn_op *op;
    int id;  // position in its graph; inputs have smaller ids
    int nin;
    const tarn_node *const *in;
    tarn_attr attr;
    tarn_desc desc;
};

// ---- the table ----

typedef enum {
#define TARN_ROW(name) TARN_OP_##name,
#include "vm/op/ops.def"
#undef TARN_ROW
    TARN_OP_COUNT
} tarn_op_id;

extern const tarn_op *const tarn_ops[TARN_OP_COUNT];
const tarn_op *tarn_op_find(const char *name);  // NULL when absent
#define TARN_ROW(name) extern const tarn_op tarn_op_##name;
#include "vm/op/ops.def"
#undef TARN_ROW

// ---- graphs ----

// Append-only, hash-consed (equal operation, inputs and attributes: the same node). Errors stick:
// after the first, every constructor returns NULL and `err` says what happened. Reference-counted:
// handles keep the graph. Sources and tensors of leaves are retained.
struct tarn_graph {
    tarn_context *cx;
    atomic_int refs;
    tarn_arena arena;
    tarn_error err;
    int count;
    const tarn_node **nodes;  // [count]
    int room;
    int *table;  // hash slots: node id + 1, 0 empty
    int slots;
};

tarn_graph *tarn_graph_new(tarn_context *cx);  // NULL: no memory
tarn_graph *tarn_graph_retain(tarn_graph *g);
void tarn_graph_release(tarn_graph *g);  // g may be NULL

const tarn_node *tarn_node_make(tarn_graph *g, const tarn_op *op, int nin,
                                const tarn_node *const *in, const tarn_attr *a);
// The node of another graph, with all it depends on, in this graph. `memo` maps ids of `from` to
// nodes (calloc'ed by the caller, from->count entries), NULL for a single import.
const tarn_node *tarn_node_import(tarn_graph *g, const tarn_graph *from, const tarn_node *n,
                                  const tarn_node **memo);
// The source that a leaf reads; NULL for any other node.
const tarn_source *tarn_node_source(const tarn_node *n);
// The tensor in memory of such a leaf; NULL for other nodes.
const tarn_tensor *tarn_node_tensor(const tarn_node *n);
bool tarn_node_input(const tarn_node *n);  // a leaf whose value comes with each evaluation
// Rebuilds `n` with some nodes replaced: repl[id] non-NULL stands for node id. memo as above.
const tarn_node *tarn_node_rebuild(tarn_graph *g, const tarn_node *n, const tarn_node **memo);
// The same of several at once, in the order they have: node i is then memo[nodes[i]->id]; false: see g->err.
bool tarn_nodes_rebuild(tarn_graph *g, int n, const tarn_node *const *nodes, const tarn_node **memo);

// Marks in use[id] every node that the roots need (use: calloc'ed, g->count bytes).
void tarn_graph_mark(const tarn_graph *g, int nroots, const tarn_node *const *roots,
                     unsigned char *use);

// ---- evaluating in memory ----

// One operation on tensors in memory, the result in fresh memory (VIEW: shares it). Inputs may have
// any stored dtype. This is the eager evaluator.
tarn_status tarn_op_apply(tarn_context *cx, const tarn_op *op, int nin, const tarn_tensor *in,
                          const tarn_attr *a, tarn_tensor *out, tarn_error *err);
// The shape and dtype of the result, or the error, without computing.
tarn_status tarn_op_infer(const tarn_op *op, int nin, const tarn_desc *in, const tarn_attr *a,
                          tarn_desc *out, tarn_error *err);
// Computes the roots node by node, freeing what is no longer needed. `feeds[id]` (may be NULL)
// gives values of input leaves. Results are the caller's.
tarn_status tarn_graph_eval(tarn_graph *g, int nroots, const tarn_node *const *roots,
                            const tarn_tensor *const *feeds, tarn_tensor *results,
                            tarn_error *err);
// What a leaf holds (a source: read whole into memory). An input without a feed has no value.
tarn_status tarn_leaf_value(tarn_context *cx, const tarn_node *n, tarn_tensor *out,
                            tarn_error *err);
// Copies any view into fresh row-major memory of the given dtype (one rounding).
tarn_status tarn_tensor_cast(tarn_context *cx, const tarn_tensor *t, tarn_dtype dtype,
                             tarn_tensor *out, tarn_error *err);

void tarn_desc_of(const tarn_tensor *t, tarn_desc *d);
int64_t tarn_desc_numel(const tarn_desc *d);
// "f32[4, 64]"
void tarn_desc_show(const tarn_desc *d, tarn_text *out);

// ---- constructors ----

const tarn_node *tarn_num(tarn_graph *g, double v);
const tarn_node *tarn_leaf_source(tarn_graph *g, const tarn_source *s);   // takes a reference
const tarn_node *tarn_leaf_tensor(tarn_graph *g, const tarn_tensor *t);   // takes a reference
const tarn_node *tarn_leaf_input(tarn_graph *g, const tarn_desc *d);      // always a new node
const tarn_node *tarn_unary(tarn_graph *g, const tarn_op *op, const tarn_node *a);
const tarn_node *tarn_binary(tarn_graph *g, const tarn_op *op, const tarn_node *a,
                             const tarn_node *b);
const tarn_node *tarn_where(tarn_graph *g, const tarn_node *c, const tarn_node *a,
                            const tarn_node *b);
const tarn_node *tarn_cast(tarn_graph *g, const tarn_node *a, tarn_dtype dtype);
// Reductions over `naxes` axes (0-based, ascending), or over all when naxes is 0 and axes NULL.
const tarn_node *tarn_reduce(tarn_graph *g, const tarn_op *op, const tarn_node *a, int naxes,
                             const int64_t *axes, bool keep);
const tarn_node *tarn_total(tarn_graph *g, const tarn_op *op, const tarn_node *a);  // over all
const tarn_node *tarn_dot(tarn_graph *g, const tarn_node *a, const tarn_node *b);   // over all
const tarn_node *tarn_reshape(tarn_graph *g, const tarn_node *a, int rank, const int64_t *shape);
const tarn_node *tarn_broadcast(tarn_graph *g, const tarn_node *a, int rank, const int64_t *shape);
const tarn_node *tarn_permute(tarn_graph *g, const tarn_node *a, const int64_t *order);
const tarn_node *tarn_item(tarn_graph *g, const tarn_node *a, int64_t i);  // element of a vector
// `count` places of one axis, from `start`.
const tarn_node *tarn_slice(tarn_graph *g, const tarn_node *a, int axis, int64_t start, int64_t count);
// n >= 1 operands joined along an axis; of one shape, along a new first axis.
const tarn_node *tarn_concat(tarn_graph *g, int n, const tarn_node *const *x, int64_t axis);
const tarn_node *tarn_stack(tarn_graph *g, int n, const tarn_node *const *x);
const tarn_node *tarn_iota(tarn_graph *g, int64_t n);  // 0, 1 … n - 1, as i64
const tarn_node *tarn_zeros_like(tarn_graph *g, const tarn_node *x);  // in x's arithmetic dtype
#define TARN_UNARY(name)                                                             \
    static inline const tarn_node *tarn_##name(tarn_graph *g, const tarn_node *a) {  \
        return tarn_unary(g, &tarn_op_##name, a);                                    \
    }
#define TARN_BINARY(name)                                                                       \
    static inline const tarn_node *tarn_##name(tarn_graph *g, const tarn_node *a,               \
                                               const tarn_node *b) {                            \
        return tarn_binary(g, &tarn_op_##name, a, b);                                           \
    }
TARN_UNARY(neg)
TARN_UNARY(abs)
TARN_UNARY(sign)
TARN_UNARY(sqrt)
TARN_UNARY(exp)
TARN_UNARY(log)
TARN_UNARY(sin)
TARN_UNARY(cos)
TARN_UNARY(acos)
TARN_UNARY(relu)
TARN_BINARY(add)
TARN_BINARY(sub)
TARN_BINARY(mul)
TARN_BINARY(div)
TARN_BINARY(minimum)
TARN_BINARY(maximum)
TARN_BINARY(eq)
TARN_BINARY(ne)
TARN_BINARY(lt)
TARN_BINARY(le)
TARN_BINARY(gt)
TARN_BINARY(ge)
TARN_BINARY(matmul)

#endif
