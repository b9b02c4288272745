// SPDX-License-Identifier: Apache-2.0
// The method row. A merge method is a small function from tensor expressions to a tensor expression,
// called once per tensor; argument checks, help, completion, plans and recipe validation come from
// the row. Adding a method is one file and one line of methods.def.
#ifndef TARN_METHOD_METHOD_H
#define TARN_METHOD_METHOD_H

#include "merge/model/model.h"

typedef enum { TARN_NUMBER, TARN_INTEGER, TARN_BOOLEAN, TARN_CHOICE } tarn_param_type;

enum {
    TARN_PER_MODEL = true,  // a list gives one value per model; else one is for all
    TARN_UNIFORM = 2,       // the same for all tensors: no by.…
};

typedef struct tarn_param {
    const char *name;
    tarn_param_type type;
    double def;            // NUMBER, INTEGER, BOOLEAN; NAN: required
    double min, max;       // range, inclusive; min == max: any
    unsigned scope;        // whose value it is, below
    const char *choices;   // CHOICE: "paper|mergekit"; the first is the default
    const char *doc;
} tarn_param;

// What a method takes beside the models (Fisher information, Gram matrices): models whose tensors stand
// for the tensors of the same name, in shapes of their own. An option with one for each model, or one for
// the base.
typedef struct tarn_statistic {
    const char *name;
    bool of_base;   // one, for the base; else a list with one for each model
    bool required;
    const char *doc;
} tarn_statistic;

enum { TARN_METHOD_STATISTICS = 4 };  // kinds of them at most, per method

typedef struct tarn_given_statistic {
    const char *name;
    int n;
    tarn_model *const *models;  // [n]
} tarn_given_statistic;

enum {
    TARN_NEEDS_BASE = 1,  // base = … is required
    TARN_TAKES_BASE = 2,  // base = … is allowed
    TARN_BESIDE = 4,      // operands may hold more than the base: what build asks for by name
    TARN_FLOATS = 8,      // with outputs: integer tensors have no place among them
};

enum { TARN_METHOD_MODELS = 64 };  // operands at most, the base included

// What build sees of one tensor.
typedef struct tarn_build {
    tarn_graph *g;
    tarn_expand *expand;
    tarn_model *model;      // the method's node
    int64_t slot;
    const tarn_slot *source;  // the matched tensor: name, dtype, shape of the operands
    int64_t numel;            // of it
    int output;               // which of the method's outputs for it, from 0
    int n;                  // models, without the base
    const tarn_node *x[TARN_METHOD_MODELS];
    const tarn_node *base;  // NULL when there is none
} tarn_build;

typedef struct tarn_method {
    const char *name;
    const char *summary;
    const char *paper;   // citation, with the identifier
    const char *detail;  // formulas, variants and who uses which; may be NULL
    const char *example; // runnable, with models a, b, c, base at hand
    int version;         // of the semantics
    char tier;           // 'A': the same bytes on any machine; 'B': given BLAS and core type
    unsigned needs;
    int least, most;     // models besides the base; most -1: any number
    const tarn_param *params;  // ends with a row without a name
    const tarn_statistic *statistics;  // likewise; NULL: none
    // Of the result; NULL: 1, or 0 when all operands are vectors.
    double (*mass)(const tarn_model *m);
    // Checks that rows of ranges cannot state; may be NULL.
    tarn_status (*check)(const tarn_model *m, tarn_error *err);
    const tarn_node *(*build)(tarn_build *b);
    // Parameters that may be recorded, "weight|lambda": build reads them by tarn_value_node.
    const char *recorded;
    // What is done otherwise with matched slot i ("mean offset: not a matrix"), for plans; NULL: nothing.
    const char *(*note)(const tarn_model *m, int64_t i);
    // A method whose result has other tensors than its operands (masks, factors): output k of matched
    // slot i into *out, which holds the slot on entry; names and shapes from the arena. False: there is
    // no output k; with k = 0, the slot is left out. Parameters are known. NULL: every slot stays itself.
    bool (*outputs)(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out);
} tarn_method;

extern const tarn_model_op tarn_model_row_method;
extern const tarn_method *const tarn_methods[];  // ends with NULL
const tarn_method *tarn_method_find(const char *name);

// A method applied: base may be NULL. values are the given parameters; `each` has a
// number per slot of the first operand (the base, if there is one);
// absent ones take their defaults. Checks everything the row states.
tarn_status tarn_method_apply(tarn_context *cx, const tarn_method *method, tarn_model *base, int n,
                              tarn_model *const *models, int nvalues, const tarn_value *values,
                              const tarn_policy *policy, tarn_model **out, tarn_error *err);
// The same with statistics.
tarn_status tarn_method_apply_with(tarn_context *cx, const tarn_method *method, tarn_model *base, int n,
                                   tarn_model *const *models, int nstatistics,
                                   const tarn_given_statistic *statistics, int nvalues,
                                   const tarn_value *values, const tarn_policy *policy, tarn_model **out,
                                   tarn_error *err);
const tarn_method *tarn_method_of(const tarn_model *m);  // NULL: not a method's node
// Models without the base, and which operand is the base (-1: none).
int tarn_method_models(const tarn_model *m);
int tarn_method_base(const tarn_model *m);
// For checks: an error when this parameter, which belongs to the whole model, varies by tensor; `unless`
// (may be NULL) is the option that would let it.
tarn_status tarn_method_shared(const tarn_model *m, const char *param, const char *unless, tarn_error *err);
double tarn_mass_none(const tarn_model *m);  // for rows: the result is a vector
// For checks: the operand that is statistic `name` of model i (NULL: not given), and the first tensor (floating,
// of models that it is given for) that it lacks or has in another shape is an error.
const tarn_model *tarn_method_statistic(const tarn_model *m, const char *name, int i);
tarn_status tarn_statistic_whole(const tarn_model *m, const char *name, tarn_error *err);

// ---- for build ----

double tarn_get(const tarn_build *b, const char *param);               // shared
double tarn_get_of(const tarn_build *b, const char *param, int model); // of model i (from 0)
// Whether values of it are recorded; the value as a node, recorded or not (model -1: shared).
bool tarn_is_recorded(const tarn_build *b, const char *param);
const tarn_node *tarn_value_node(const tarn_build *b, const char *param, int model);
bool tarn_flag(const tarn_build *b, const char *param);
bool tarn_choice(const tarn_build *b, const char *param, const char *text);
// x[i] - base.
const tarn_node *tarn_delta(tarn_build *b, int i);
// A further tensor of operand i: the one whose name is this tensor's and `suffix`, of any dtype and
// shape. Absent: NULL, and an error when `must`.
const tarn_node *tarn_beside(tarn_build *b, int i, const char *suffix, bool must);
// The tensor of this name in statistic `name` of model i (of_base: i = 0); NULL: it has none, or was not given.
const tarn_node *tarn_statistic_of(tarn_build *b, const char *name, int i);
// For `outputs`: the slot's name with a suffix.
void tarn_slot_rename(tarn_slot *s, const char *suffix, tarn_arena *a);
// Σ over models of terms (evaluated left to right); the first term opens the sum.
const tarn_node *tarn_sum_of(tarn_graph *g, int n, const tarn_node *const *terms);
// The k-th largest element of x, by its tensor; k from 1.
const tarn_node *tarn_kth(tarn_graph *g, const tarn_node *x, int64_t k);
// The same over the whole model, as reduction number `use` of the method.
const tarn_node *tarn_kth_of_model(tarn_build *b, const tarn_node *x, int64_t k, int use);
// True at the k largest elements; ties to the lowest index. k = 0: trunc(share N) of them, at least 1;
// k = -1: trunc(share M) of the M that are not zero, where none is negative.
const tarn_node *tarn_largest(tarn_graph *g, const tarn_node *x, int64_t k, double share);
// Keeps the density · N largest magnitudes of t, zero elsewhere; ties to the lowest index. Over the
// whole model when `whole`; `k` numbers the selections of the method.
const tarn_node *tarn_keep_top(tarn_build *b, const tarn_node *t, double density, bool whole, int k);
// The same with the share of all (of = 0) or of those that are not zero (of = -1).
const tarn_node *tarn_keep_share(tarn_build *b, const tarn_node *t, int64_t of, double share, bool whole, int k);
// One draw an entry, uniform in [0, 1): keyed by seed, tensor name, model (from 0; -1: one for all), use.
const tarn_node *tarn_draw(tarn_build *b, double seed, int model, const char *use);
// Bernoulli mask, keyed alike.
const tarn_node *tarn_mask(tarn_build *b, double p, double seed, int model, const char *use);
const tarn_node *tarn_mask_shaped(tarn_build *b, int rank, const int64_t *shape, double p, double seed, int model,
                                  const char *use);

#endif
