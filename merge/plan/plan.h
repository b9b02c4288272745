// SPDX-License-Identifier: Apache-2.0
// Plans: a model expanded into one job per tensor, looked at before it runs, run, written down as
// canonical JSON and read back. Everything that makes values out of a model node goes through here.
// The JSON holds model-level nodes with every parameter resolved, never paths, dates or versions of
// the program; it is validated like any hostile file.
#ifndef TARN_PLAN_PLAN_H
#define TARN_PLAN_PLAN_H

#include "merge/method/method.h"

// ---- expansion ----

typedef struct tarn_plan_options {
    bool has_dtype;
    tarn_dtype dtype;      // of every floating tensor of the output
    bool allow_nonfinite;
} tarn_plan_options;

// What an output tensor is made of: a tensor of an input, or what an operation made on the way.
typedef struct tarn_part {
    const tarn_model *model;
    int64_t slot;
} tarn_part;

typedef struct tarn_parts {
    int n;            // of inputs
    int all;          // with the operations
    tarn_part *list;  // [all], inputs first, else in no order; in the arena of the job's graph
} tarn_parts;

typedef struct tarn_plan {
    tarn_context *cx;
    tarn_model *model;
    int64_t n;          // jobs that write; hidden ones follow
    int64_t count;      // all jobs
    tarn_job *jobs;     // [count]
    int64_t *slot;      // [count] slot of each job
    tarn_model **of;    // [count] of this model
    bool *copied;       // [n] an integer or bool tensor that is copied
    tarn_parts *parts;  // [count] what each job is made of
    struct tarn_globals *globals;
    const tarn_check **checks;  // [count] integer tensors that must be equal
    tarn_plan_options options;
    size_t room;        // of the arrays
    bool light;         // jobs without expressions: each is made again when the run is at it
    uint64_t traffic;   // light: bytes that all jobs read and write
} tarn_plan;

// `want`: [slots] of the tensors to make; NULL: all. Opens nothing, reads nothing.
tarn_status tarn_plan_make(tarn_context *cx, tarn_model *m, const unsigned char *want,
                           const tarn_plan_options *o, tarn_plan **out, tarn_error *err);
// All tensors, everything checked, but without keeping the expressions, so that memory does not grow
// with their number.
tarn_status tarn_plan_survey(tarn_context *cx, tarn_model *m, const tarn_plan_options *o,
                             tarn_plan **out, tarn_error *err);
void tarn_plan_free(tarn_plan *p);  // p may be NULL
tarn_status tarn_plan_run(tarn_plan *p, const tarn_sink *sink, tarn_error *err);
// For numbers of a model: a job whose root `build` makes, stored in f64; then what is hidden.
tarn_status tarn_plan_add(tarn_plan *p, const tarn_slot *slot,
                          const tarn_node *(*build)(tarn_expand *e, void *arg, int64_t i), void *arg,
                          int64_t i, tarn_error *err);
tarn_status tarn_plan_hidden(tarn_plan *p, tarn_error *err);
// Compares the integer tensors that have to be equal (reads those and no other).
tarn_status tarn_plan_check(tarn_plan *p, tarn_error *err);

// ---- values ----

// What a recipe says of itself, for provenance and model card; texts may be NULL.
typedef struct tarn_about_input {
    const char *label, *source, *license;
} tarn_about_input;

typedef struct tarn_about {
    const char *name, *version, *license, *summary;
    const char *recipe, *lock;  // texts of the files
    size_t recipe_len, lock_len;
    int ninputs;
    const tarn_about_input *inputs;
} tarn_about;

// A side file that is written in the place of the one that would be carried along; text NULL: none is.
typedef struct tarn_save_file {
    const char *name, *text;
    size_t len;
} tarn_save_file;
// The i-th name that side files may have, config.json apart; NULL behind the last.
const char *tarn_save_carried(int i);

typedef struct tarn_save_options {
    tarn_plan_options plan;
    uint64_t max_shard_size;  // bytes; 0: the writer's default
    bool overwrite;
    const char *script;       // text of the script, for tarn-provenance.json; NULL: none
    size_t script_len;
    const tarn_about *about;  // the recipe that the model is made by; NULL: none
    const char *adapter;      // text of adapter_config.json: the folder is one of PEFT's; NULL: a model
    int nfiles;
    const tarn_save_file *files;
} tarn_save_options;

tarn_status tarn_model_save(tarn_context *cx, tarn_model *m, const char *path,
                            const tarn_save_options *o, tarn_error *err);
// All tensors in memory: a new model without files behind it (its plan is gone).
tarn_status tarn_model_load(tarn_context *cx, tarn_model *m, tarn_model **out, tarn_error *err);
// One tensor.
tarn_status tarn_model_tensor(tarn_context *cx, tarn_model *m, int64_t slot, tarn_tensor *out,
                              tarn_error *err);
// The same as an expression in g that reads the files when its value is wanted. A tensor that depends
// on a whole-model reduction is a leaf that computes itself then, as a whole.
tarn_status tarn_model_node(tarn_graph *g, tarn_model *m, int64_t slot, const tarn_node **out,
                            tarn_error *err);
// The result of the plan in a temporary file under `folder` (NULL: TMPDIR, else /tmp), gone with the
// last reference. In plans it stands for what it was made from.
tarn_status tarn_model_stage(tarn_context *cx, tarn_model *m, const char *folder, tarn_model **out,
                             tarn_error *err);
// Inner products over the floating tensors of models that match: out[k] = <a[k], b[k]>, in f64, in
// byte order of names, each file read once. At most 8 of them.
tarn_status tarn_model_dots(tarn_context *cx, int n, tarn_model *const *a, tarn_model *const *b,
                            double *out, tarn_error *err);
// For slot i of the map node m: count[i] expressions of `graph` over its operands, computed for all
// slots in one run. results: [slots], zeroed by the caller, whose tensors they become: f64 vectors with
// the values of the slot's expressions one after the other; closed where count is 0.
tarn_status tarn_model_stats(tarn_context *cx, tarn_model *m, tarn_graph *graph,
                             const tarn_template *const *roots, const int *count,
                             tarn_tensor *results, tarn_error *err);
// Σ|x| and max|x| over the floating tensors.
tarn_status tarn_model_sizes(tarn_context *cx, tarn_model *m, double *l1, double *linf,
                             tarn_error *err);

const char *tarn_plan_version(void);  // of the program, as provenance states it: "0.1.0"

// ---- the plan as data ----

// Canonical JSON; *replayable is false when the plan holds what only this process has (tensors in
// memory), and then a model node says so by name.
tarn_status tarn_plan_json(tarn_model *m, const tarn_plan_options *o, tarn_text *out,
                           bool *replayable, tarn_error *err);
// Every node of m's plan, operands before users; the list lives in the arena. A file that was opened
// twice under one label is one node.
tarn_status tarn_plan_nodes(tarn_model *m, tarn_arena *a, int *n, tarn_model ***list,
                            tarn_error *err);
int tarn_plan_index(tarn_model *const *list, int n, const tarn_model *m);  // -1: absent
// SHA-256 over the lines name\tdtype\tshape in byte order of names, as hex.
tarn_status tarn_header_digest(const tarn_model *m, char hex[65], tarn_error *err);
// Input files whose content digests are not known yet, and the bytes that a save will hash for them.
tarn_status tarn_plan_unhashed(tarn_model *m, int *files, uint64_t *bytes, tarn_error *err);
// The model digest of an input in files: content, not header. Hashes what the digest store lacks.
tarn_status tarn_model_digest(const tarn_model *input, char hex[65], tarn_error *err);
// Builds the models of a plan's text; `path(arg, label, k)` says where input k lies (NULL: unknown).
tarn_status tarn_plan_read(tarn_context *cx, const char *text, size_t len,
                           const char *(*path)(void *arg, const char *label, int k), void *arg,
                           tarn_model **out, tarn_plan_options *o, tarn_error *err);
// The model that a saved one embeds the plan of, over its inputs, whose contents are checked. inputs:
// as in tarn_replay.
tarn_status tarn_plan_recall(tarn_context *cx, const char *path, int ninputs, const char *const *inputs,
                             tarn_model **out, tarn_plan_options *o, tarn_error *err);
// Executes the plan embedded in a saved model again and compares every byte of every tensor with
// what is stored; nothing is written. inputs: "NAME=PATH" texts, before the hints of
// tarn-provenance.json. report: one line per tensor that differs.
tarn_status tarn_replay(tarn_context *cx, const char *path, int ninputs, const char *const *inputs,
                        bool *same, tarn_text *report, tarn_error *err);

#endif
