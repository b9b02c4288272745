// SPDX-License-Identifier: Apache-2.0
// The model: a vector whose coordinates are named tensors. A model is an immutable node of the plan:
// a row of the table of model operations, its operands, its resolved parameters, and the signature
// that follows from them (names, dtypes, shapes, mass), all from headers. Values exist only when a
// plan is run (merge/plan). Errors that headers can tell come when the node is made.
#ifndef TARN_MODEL_MODEL_H
#define TARN_MODEL_MODEL_H

#include <stdatomic.h>

#include "merge/model/names.h"
#include "vm/base/arena.h"
#include "vm/op/op.h"
#include "vm/store/store.h"
#include "vm/stream/stream.h"

typedef struct tarn_model tarn_model;
typedef struct tarn_model_op tarn_model_op;
typedef struct tarn_model_json tarn_model_json;

typedef struct tarn_slot {
    const char *name;  // NUL-terminated; may hold NUL inside: compare with len
    size_t len;
    tarn_dtype dtype;  // of the stored output
    int rank;
    const int64_t *shape;  // [rank]
} tarn_slot;

// A resolved parameter: a number for every tensor, or one for all, or a text.
typedef struct tarn_value {
    const char *name;
    int model;             // which operand it belongs to; -1: shared
    const char *text;      // a choice; NULL: a number
    double number;         // when `each` is NULL
    const double *each;    // [slots]
    const tarn_node *node; // recorded, of rank 0; number is NaN then
    const char *origin;    // "default", "given", "by.depth", … for explaining
} tarn_value;

typedef enum { TARN_MISSING_ERROR, TARN_MISSING_BASE, TARN_MISSING_ZERO, TARN_MISSING_DROP } tarn_missing;

typedef struct tarn_policy {
    tarn_missing missing;
    bool integer_base;  // on_integer = "base": integers of the first point operand are taken
} tarn_policy;

struct tarn_model {
    atomic_int refs;
    tarn_context *cx;
    tarn_arena arena;  // owns everything this node points to
    const tarn_model_op *op;
    int nin;
    tarn_model **in;  // [nin], retained
    int matched;      // the first of them, whose tensors must agree; those after are looked up by name
    int nvalues;
    tarn_value *values;
    tarn_policy policy;
    const void *extra;  // the row's own data (a method row, a source list, …)

    int64_t n;
    tarn_slot *slots;        // [n] in order: file order of the first operand, then additions
    int64_t *by_name;        // [n] slot indices in byte order of names
    int64_t **map;           // [nin][n]: slot of operand k behind slot i; -1: absent there
    // Where one matched slot becomes several outputs (a method's masks, factors): what each was made
    // of, and the first output of the same. NULL: every slot is its own.
    const tarn_slot *source;  // [n]
    const int64_t *first;     // [n]
    double mass;
    int level;               // operations below it, at most; inputs 0
    tarn_graph *recording;   // what it depends on holds nodes of this graph (not retained); NULL: nothing does
    signed char wide;        // tarn_model_wide: 1 no, 2 yes; 0 not looked at yet
    const tarn_model *side;   // the input whose side files go with it; may be self
    const tarn_model *named;  // the node whose table of names describes the tensors; may be self
    tarn_model *kept;         // what `slots`, `side` and `named` of values lie in; retained, may be NULL
    // inputs only
    tarn_store *store;
    const char *label;  // "base", "a" … or the path
    const char *path;
    const char *config;  // text of config.json, NULL if none
    size_t config_len;
    tarn_names *names;         // of inputs and new names: what they say
    int64_t ndropped;          // names left out by policy, for the plan
};

// What expands a model operation into tensor expressions.
typedef struct tarn_expand tarn_expand;

struct tarn_model_op {
    const char *name;
    // The expression of slot i. NULL with e->graph->err set on failure.
    const tarn_node *(*expand)(tarn_expand *e, tarn_model *m, int64_t i);
    void (*release)(tarn_model *m);  // extra things; may be NULL
    // Members of the node's JSON beyond operands, values and policy: their names, "a|b"; and themselves, each
    // with a leading comma. NULL: none.
    const char *members;
    void (*write)(const tarn_model *m, tarn_text *out);
    // The node again, from its JSON object (validated here) and its operands. NULL: this node holds
    // what only this process has.
    tarn_status (*restore)(tarn_context *cx, const tarn_model_json *j, int nin,
                           tarn_model *const *in, tarn_model **out, tarn_error *err);
    const char *(*title)(const tarn_model *m);  // what people call this node; NULL: the row's name
    bool (*replayable)(const tarn_model *m);    // NULL: as soon as it can be restored
};

extern const tarn_model_op tarn_model_row_input, tarn_model_row_memory, tarn_model_row_binary,
    tarn_model_row_number, tarn_model_row_unary, tarn_model_row_with, tarn_model_row_cast,
    tarn_model_row_only, tarn_model_row_rename, tarn_model_row_join, tarn_model_row_slice,
    tarn_model_row_map, tarn_model_row_stage, tarn_model_row_config, tarn_model_row_lora,
    tarn_model_row_lora_sum, tarn_model_row_rows, tarn_model_row_fill, tarn_model_row_recorded;

// ---- reading a node's JSON (merge/model/restore.c) ----

struct tarn_model_json {
    void *object;        // a json_t
    tarn_arena *arena;   // for what the readers return
    tarn_policy policy;
    int nvalues;
    tarn_value *values;  // `each` in slot order of the first operand
};
// A text member; PlanInvalid when it is absent or something else.
tarn_status tarn_restore_text(const tarn_model_json *j, const char *key, const char **out,
                           tarn_error *err);
bool tarn_restore_has(const tarn_model_json *j, const char *key);
tarn_status tarn_restore_number(const tarn_model_json *j, const char *key, double *out,
                             tarn_error *err);
// A list, a json_t; PlanInvalid when it is absent or something else.
tarn_status tarn_restore_list(const tarn_model_json *j, const char *key, const void **out, tarn_error *err);
// A list of n texts, n given (-1: any, set).
tarn_status tarn_restore_texts(const tarn_model_json *j, const char *key, int64_t *n,
                            const char *const **out, tarn_error *err);
// Whether a word is one of "a|b|c"; NULL holds none.
bool tarn_word_in(const char *words, const char *word);
// PlanInvalid where a JSON object holds a member that is not among `names` and `more` ("a|b"; `more` may be
// NULL): a misspelt one would be left aside in silence. `what` is the object in the message.
tarn_status tarn_restore_only(const void *json, const char *what, const char *names, const char *more,
                              tarn_error *err);
// JSON has no words for what is not finite (texts here) and forgets the sign of a zero.
void tarn_model_write_number(tarn_text *out, double v);
// The number back; false: something else.
bool tarn_model_read_number(const void *json, double *out);
// One node's JSON, operands as numbers by `index`.
void tarn_model_write(const tarn_model *m, int (*index)(void *arg, const tarn_model *in), void *arg,
                      tarn_text *out);
tarn_status tarn_model_restore(tarn_context *cx, tarn_arena *arena, void *object,
                               const tarn_model_op *row, int nin, tarn_model *const *in,
                               tarn_model **out, tarn_error *err);

// An integer tensor that has to be equal in two operands before anything is written.
typedef struct tarn_check {
    const tarn_node *a, *b;
    const tarn_model *model, *other;
    const tarn_slot *slot;
    const struct tarn_check *next;
} tarn_check;

// One graph for one output tensor.
struct tarn_expand {
    tarn_context *cx;
    tarn_graph *graph;
    struct tarn_globals *globals;  // whole-model reductions met so far (merge/plan)
    struct tarn_recorder *recorder;  // the same while a function is recorded (recorded.c)
    bool copied;                   // out: an integer or bool tensor that is copied
    const tarn_check *checks;      // out
    struct tarn_memo *memo;        // what was expanded already, in this graph's arena
    int memo_count, memo_slots;
};

// Expands once: a model that is used twice is one expression.
const tarn_node *tarn_model_expr(tarn_expand *e, tarn_model *m, int64_t i);
// The same in the shape of the slot (a method may leave a number where a tensor is due).
const tarn_node *tarn_model_slot(tarn_expand *e, tarn_model *m, int64_t i);
// Operand k at slot i. Where it lacks the tensor: zero, or under missing = "base", between points, what
// operand `first` has, scaled to the mass of operand k.
const tarn_node *tarn_model_operand(tarn_expand *e, tarn_model *m, int k, int64_t i, int first);
// Walks what was expanded, in no order: *k counts from 0. False at the end.
bool tarn_expand_visited(const tarn_expand *e, int *k, const tarn_model **m, int64_t *slot);
// An integer or bool tensor: that of the first operand that has it, with checks against the others
// unless the policy says on_integer = "base".
const tarn_node *tarn_expand_integer(tarn_expand *e, tarn_model *m, int64_t i);
// A whole-model reduction number k of method node m, over slot i's expression x.
const tarn_node *tarn_expand_global(tarn_expand *e, tarn_model *m, int64_t i, int k,
                                    const tarn_op *op, const tarn_node *x, const tarn_attr *rest);
// Where slot i begins in what it goes over, for positions that it yields; `made`: what it returned.
double tarn_expand_start(tarn_expand *e, tarn_model *m, int64_t i, int k, const tarn_node *made);
// The elements that it goes over: of the floating tensors of m, each matched one once.
int64_t tarn_expand_numel(tarn_expand *e, tarn_model *m, int k);

// Chains of operations longer than this are refused: every walk over a plan recurses.
enum { TARN_MODEL_LEVELS = 4096 };
tarn_status tarn_model_new(tarn_context *cx, const tarn_model_op *op, int nin,
                           tarn_model *const *in, tarn_model **out, tarn_error *err);
tarn_model *tarn_model_retain(tarn_model *m);
void tarn_model_release(tarn_model *m);  // m may be NULL
int64_t tarn_model_find(const tarn_model *m, const char *name, size_t len);  // -1: absent
int tarn_slot_order(const tarn_slot *a, const tarn_slot *b);  // by the bytes of their names, as memcmp
// Sorts by_name; refuses duplicate names.
tarn_status tarn_model_index(tarn_model *m, tarn_error *err);
static inline const tarn_slot *tarn_slot_source(const tarn_model *m, int64_t i) {
    return m->source ? &m->source[i] : &m->slots[i];
}
static inline int64_t tarn_slot_first(const tarn_model *m, int64_t i) {
    return m->first ? m->first[i] : i;
}
static inline bool tarn_slot_integer(const tarn_slot *s) {
    return tarn_dtype_get(s->dtype)->kind == TARN_KIND_INT || s->dtype == TARN_BOOL;
}
int64_t tarn_slot_numel(const tarn_slot *s);
// Elements and bytes of all slots.
int64_t tarn_model_numel(const tarn_model *m);
uint64_t tarn_model_bytes(const tarn_model *m);
// Whether some tensor here or below is f64, so that values of all tensors compare in f64 only.
bool tarn_model_wide(tarn_model *m);
// What the name of slot i says (of the tensor that it was made of, where outputs have names of their
// own); NULL where nothing is known (new names).
const tarn_name_info *tarn_model_info(const tarn_model *m, int64_t i);
const tarn_names *tarn_model_names(const tarn_model *m);  // may be NULL
// The input whose files stand behind m->side; NULL: none has any.
const tarn_model *tarn_model_files(const tarn_model *m);
// A value by name and operand (-1: shared); NULL when absent. Its number for slot i.
const tarn_value *tarn_model_value(const tarn_model *m, const char *name, int model);
static inline double tarn_value_at(const tarn_value *v, int64_t i) {
    return v->each ? v->each[i] : v->number;
}
const char *tarn_model_label(const tarn_model *m);  // for messages: never NULL
const char *tarn_model_title(const tarn_model *m);  // "add", "ties", "only": the node itself

// ---- for rows ----

// A node of one operand whose signature stays: shares slots and names with it.
tarn_status tarn_model_like(tarn_context *cx, const tarn_model_op *row, tarn_model *m,
                            tarn_model **out, tarn_error *err);
// *text: of a small file of a folder, up to 16 MB, NUL after it; NULL: it is not there.
tarn_status tarn_model_side(tarn_arena *a, const char *folder, const char *name, char **text, size_t *len,
                            tarn_error *err);
// Reads m's own names anew, with what its side's config says.
tarn_status tarn_model_find_names(tarn_model *m, tarn_error *err);

// ---- constructors; each returns a new reference ----

typedef struct tarn_open_options {
    const char *label;  // NULL: the path's last component
    bool strict;
    tarn_policy policy;
} tarn_open_options;
tarn_status tarn_model_open(tarn_context *cx, const char *path, const tarn_open_options *o,
                            tarn_model **out, tarn_error *err);
// What opening a checkpoint reads: enough to plan with, where its data may not be. `text` is a
// safetensors header for `data` bytes (tarn_store_header); config: of config.json, NULL: none.
typedef struct tarn_header_text {
    const char *text, *config;
    size_t len, config_len;
    uint64_t data;
} tarn_header_text;
// The input again; asking for a tensor's data fails with DataNotHere.
tarn_status tarn_model_of_header(tarn_context *cx, const char *name, const tarn_header_text *h,
                                 const tarn_policy *policy, tarn_model **out, tarn_error *err);
// Tensors in memory as a model (names and tensors are shared, not copied). `from`: the model whose
// values they are, slot by slot: they stay unrounded and keep the dtypes of its output, its side files
// and what its config says of names; NULL: none.
tarn_status tarn_model_of_tensors(tarn_context *cx, int64_t n, const char *const *names,
                                  const tarn_tensor *tensors, double mass, const tarn_model *from,
                                  tarn_model **out, tarn_error *err);
bool tarn_model_in_memory(const tarn_model *m);  // every input of the plan is in memory
// What a model has beside its values (names, dtypes, shapes, what names say, side files) in a node that
// models of equal names share. A new reference.
tarn_status tarn_model_signature(tarn_context *cx, const tarn_model *m, tarn_model **out, tarn_error *err);
// One of names, dtypes and shapes, which are copied.
tarn_status tarn_model_signature_of(tarn_context *cx, int64_t n, const tarn_slot *slots, tarn_model **out,
                                    tarn_error *err);
// Tensors in memory (shared) under a signature, slot by slot.
tarn_status tarn_model_of_values(tarn_context *cx, tarn_model *signature, const tarn_tensor *tensors,
                                 double mass, tarn_model **out, tarn_error *err);
// The tensor in memory of slot i; NULL: the model does not hold its tensors itself.
const tarn_tensor *tarn_model_held(const tarn_model *m, int64_t i);

// ---- models inside a recorded function (recorded.c) ----

// Nodes of one graph, which is being recorded, under a signature.
tarn_status tarn_model_of_nodes(tarn_context *cx, tarn_model *signature, tarn_graph *g,
                                const tarn_node *const *nodes, double mass, tarn_model **out, tarn_error *err);
// The expression of slot i of m in g: m is recorded in g, or its values are in memory.
const tarn_node *tarn_model_recorded(tarn_graph *g, tarn_model *m, int64_t i);
// An operation over models of which some are recorded, written into their graph: a recorded model.
// The others have to be in memory.
tarn_status tarn_model_record(tarn_context *cx, tarn_model *m, tarn_model **out, tarn_error *err);
// Inner product over the floating tensors, as tarn_model_dots.
const tarn_node *tarn_model_recorded_dot(tarn_graph *g, tarn_model *a, tarn_model *b);
double tarn_recorder_start(tarn_expand *e, tarn_model *m, int64_t i, int k);
const tarn_node *tarn_recorder_global(tarn_expand *e, tarn_model *m, int64_t i, int k, const tarn_op *op,
                                      const tarn_node *x, const tarn_attr *rest);

// Point-wise algebra. op: the tensor row (add, sub, mul, div, …).
tarn_status tarn_model_binary(tarn_context *cx, const tarn_op *op, tarn_model *a, tarn_model *b,
                              tarn_model **out, tarn_error *err);
// value: a number for all tensors (model -1, name "c"), or one per slot of m. reversed: c op m.
tarn_status tarn_model_with_number(tarn_context *cx, const tarn_op *op, tarn_model *m,
                                   const tarn_value *value, bool reversed, tarn_model **out,
                                   tarn_error *err);
tarn_status tarn_model_unary(tarn_context *cx, const tarn_op *op, tarn_model *m, tarn_model **out,
                             tarn_error *err);
// keep[i] != 0: slot i stays (in order).
tarn_status tarn_model_only(tarn_context *cx, tarn_model *m, const unsigned char *keep,
                            tarn_model **out, tarn_error *err);
tarn_status tarn_model_rename(tarn_context *cx, tarn_model *m, const char *const *names,
                              tarn_model **out, tarn_error *err);
tarn_status tarn_model_cast(tarn_context *cx, tarn_model *m, tarn_dtype dtype, tarn_model **out,
                            tarn_error *err);
// Every input rounded to dtype on read (mergekit's `dtype`): floating tensors only.
tarn_status tarn_model_join(tarn_context *cx, int n, tarn_model *const *parts, tarn_model **out,
                            tarn_error *err);
tarn_status tarn_model_slice(tarn_context *cx, tarn_model *m, const char *name, int64_t first,
                             int64_t count, tarn_model **out, tarn_error *err);
// Side files of `from` go with the result instead of m's own.
tarn_status tarn_model_with(tarn_context *cx, tarn_model *m, const tarn_policy *policy,
                            tarn_model **out, tarn_error *err);
// Tensor expressions that make the tensors (merge.map): each a root in `graph` over leaves of
// tarn_op_input, one per operand.
typedef struct tarn_template {
    int root;        // node id in the graph
    int ninputs;
    int input[64];   // node ids of the input leaves, -1: operand not used; order of the operands
} tarn_template;
// which: for each slot of the result, in byte order of names, the template that makes it; -1: the
// tensor is that of the first operand. NULL: all -1.
tarn_status tarn_model_map(tarn_context *cx, int nin, tarn_model *const *in, tarn_graph *graph,
                           int ntemplates, const tarn_template *templates, const int *which,
                           const tarn_policy *policy, tarn_model **out, tarn_error *err);
// Template t of graph `from` over slot i of m's operands, in e's graph.
const tarn_node *tarn_template_import(tarn_expand *e, tarn_model *m, int64_t i, tarn_graph *from,
                                      const tarn_template *t);

// ---- matching operands ----

// Fills m->slots, m->map, m->side, m->named, by policy, from its operands: `point[k]` tells points from
// vectors (mass 0). The first point operand (the base, if there is one) gives order and dtypes.
tarn_status tarn_model_match(tarn_model *m, const bool *point, int first, tarn_error *err);
// The slot of `in` behind slot i of `from`, by name or through a tie of `in`; -1: none.
int64_t tarn_match_slot(const tarn_model *from, int64_t i, const tarn_model *in);
// Explains why a and b do not match (names, shapes): always fails with MissingTensor or
// ShapeMismatch, or yields TARN_OK when they do match under the policy.
tarn_status tarn_model_compare(const tarn_model *a, const tarn_model *b, tarn_missing missing,
                               bool vector_b, tarn_error *err);
// The mass of the result of a tensor row on models of mass a and b.
double tarn_mass_of(const tarn_op *op, double a, double b);
// Without what rounding left: 1e-17 of 0.1 a + 0.2 b - 0.3 c is a vector all the same.
double tarn_mass_near(double mass);

#endif
