// SPDX-License-Identifier: Apache-2.0
// What the files that bind models share. Private to stdlib/bind.
#ifndef TARN_BIND_MODEL_H
#define TARN_BIND_MODEL_H

#include "merge/model/select.h"
#include "stdlib/bind/bind.h"

tarn_model *tarn_bind_check_model(lua_State *L, int idx);  // raises; also when it is closed
enum { TARN_BIND_PARTS = 4096 };  // models joined or stacked at most
// The models of the list at 1, `least` to `most` of them, in a userdata that is pushed; the list keeps
// them. Raises.
tarn_model **tarn_bind_models(lua_State *L, const char *function, int least, int most, int *n);
// Pushes a closed model; the caller fills it.
tarn_model **tarn_bind_new_model(lua_State *L);
// The model on top is ready: computed now if all its inputs are in memory. Returns 1.
int tarn_bind_finish_model(lua_State *L);
// Marks the slots that the pattern or function at idx chooses in a new userdata on the stack.
unsigned char *tarn_bind_choose(lua_State *L, int idx, tarn_model *m, const char *function);
// Slot of the tensor named at idx; raises with the nearest name.
int64_t tarn_bind_slot(lua_State *L, int idx, const tarn_model *m, const char *function);
// Options missing and on_integer of the table at idx; false when neither is given.
bool tarn_bind_policy(lua_State *L, int idx, const char *function, tarn_policy *policy);
// Pushes what is known of slot i: {name, dtype, shape, numel, place, layer, depth, role, …}.
void tarn_bind_push_info(lua_State *L, const tarn_model *m, int64_t i);

// model_plan.c: pushes the plan of m as a table (see stdlib/plan.lua); with an estimate of its time when
// `folder`, where the output would go, is not NULL.
void tarn_bind_push_plan(lua_State *L, tarn_model *m, const tarn_plan_options *o, const char *folder);
void tarn_bind_model_plan_type(lua_State *L);

// model_recorded.c: inside a recorded function. m op the value at `other`, where that is a recorded number or
// a schedule of them, pushed; false: it is none. The others push their number where a model is recorded.
bool tarn_bind_recorded_factor(lua_State *L, const tarn_op *op, tarn_model *m, int other, bool reversed);
// The recorded number at idx, of rank 0; NULL: something else.
const tarn_node *tarn_bind_recorded_number(lua_State *L, int idx, const char *what);
bool tarn_bind_recorded_dot(lua_State *L, const char *function, bool cosine);
bool tarn_bind_recorded_norm(lua_State *L, double p);
// Pushes a model of the values at the stack indices `at`, of which some are recorded.
void tarn_bind_new_recorded(lua_State *L, int64_t n, const char *const *names, const int *at, double mass);

// by.c: pushes the list of what the schedule at idx is for each slot of m; false: it is no schedule.
bool tarn_bind_schedule_values(lua_State *L, int idx, tarn_model *m);

// map.c: merge.map and model:map.
void tarn_bind_map(tarn_host *h);

// report.c: merge.report. Pushes the report on m; stored may be NULL (see merge/plan/anatomy.h).
void tarn_bind_push_report(lua_State *L, tarn_model *m, const tarn_plan_options *o, tarn_model *stored,
                           bool exact);
tarn_status tarn_bind_report(tarn_host *h, tarn_error *err);

// method_rows.c: merge.methods.
void tarn_bind_method_rows(tarn_host *h);

// structure.c: layers, stacking. vocab.c: rows of tokens.
tarn_status tarn_bind_structure(tarn_host *h, tarn_error *err);
void tarn_bind_vocab(tarn_host *h);

// model_values.c: what a model says of itself, numbers of it, saving.
void tarn_bind_model_values(tarn_host *h);
void tarn_bind_model_show(lua_State *L, int idx, tarn_text *out);
int tarn_bind_model_tostring(lua_State *L);

#endif
