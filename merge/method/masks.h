// SPDX-License-Identifier: Apache-2.0
// What methods with a mask per task share: TALL masks and the consensus over them, EMR's election, and
// how masks are stored. An entry takes one integer: bit t - 1 is the mask of task t, so that packing
// and unpacking are element-wise and stream; u8 holds 8 tasks, u16, u32 and u64 more. Not a method.
#ifndef TARN_METHOD_MASKS_H
#define TARN_METHOD_MASKS_H

#include <math.h>

#include "merge/method/vectors.h"

enum { TARN_MASKS_MOST = 53 };  // tasks in one integer: f64 counts exactly so far

// The vector that TIES merges (options weight, density, normalize).
const tarn_node *tarn_masks_ties(tarn_build *b);
// mask[m]: |t_m| > mask_lambda_m |merged - t_m|.
void tarn_masks_tall(tarn_build *b, const tarn_node *merged, const tarn_node **mask);
// base + λ merged where at least k of these masks hold.
const tarn_node *tarn_masks_consensus(tarn_build *b, const tarn_node *merged);
// EMR's unified vector: the elected sign, with the largest magnitude that has it. mask[m]: t_m has it.
const tarn_node *tarn_masks_elect(tarn_build *b, const tarn_node **mask);
// EMR's rescaler of model i, a number: |t_i| / |unified where mask|, over the whole model.
const tarn_node *tarn_masks_rescale(tarn_build *b, const tarn_node *unified, const tarn_node *mask, int i);

// The mask of task t (from 0) in the integer of all.
const tarn_node *tarn_masks_unpack(tarn_graph *g, const tarn_node *word, int t);
// Of a tensor w: 0 the vector itself, 1 the masks w.mask, 2 the factor of each task w.rescale, 3 how many
// entries 0, 1 … n of the masks hold in, w.used.
bool tarn_masks_outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out);
const tarn_node *tarn_masks_output(tarn_build *b, const tarn_node *vector, const tarn_node *const *mask,
                                   const tarn_node *const *scale);
tarn_status tarn_masks_check(const tarn_model *m, tarn_error *err);  // not too many tasks

#define TARN_PARAM_TASK \
    {"task", TARN_INTEGER, NAN, 1, TARN_METHOD_MODELS, false, NULL, "whose model: the number of the task, from 1"}
#define TARN_PARAM_MASK_LAMBDA                                                                         \
    {"mask_lambda", TARN_NUMBER, 1, 0, 1e300, true, NULL,                                              \
     "of each task's mask: larger is sparser. 1: the closed criterion, each entry goes to the nearer " \
     "of 0 and the merged value; searched over 0.2 to 0.6 by accuracy in the paper's code"}
#define TARN_PARAM_TIES_DENSITY                                                              \
    {"density", TARN_NUMBER, 0.2, 0, 1, TARN_PER_MODEL | TARN_UNIFORM, NULL,                 \
     "share of each whole task vector that TIES keeps: exactly trunc(density N) entries"}
#define TARN_PARAM_TIES_MEAN                                                                     \
    {"normalize", TARN_BOOLEAN, 0, 0, 1, false, NULL,                                            \
     "TIES averages the values that agree (its own paper); false: sums them (consensus code)"}
#define TARN_PARAM_ZERO                                                                     \
    {"zero", TARN_CHOICE, 0, 0, 0, false, "none|minus",                                     \
     "where the task vectors sum to zero, no sign is elected (paper), or minus (code, FusionBench)"}
#define TARN_PARAM_EMR_RESCALE                                                                  \
    {"rescale", TARN_CHOICE, 0, 0, 0, false, "sum|mean",                                        \
     "sizes compared: sums over all entries (paper), or sums of the means of tensors, in which " \
     "small tensors weigh as much as large ones (code, FusionBench)"}

#endif
