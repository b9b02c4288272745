// SPDX-License-Identifier: Apache-2.0
// What della and della_linear share: MagPrune, the random drop whose chances follow the magnitudes
// of a row. Not a method itself.
#ifndef TARN_METHOD_MAGPRUNE_H
#define TARN_METHOD_MAGPRUNE_H

#include "merge/method/vectors.h"

// The task vectors after MagPrune, rescaled as the option `rescale` says.
void tarn_magprune(tarn_build *b, const tarn_node **t);
// The chances must lie between 0 and 1.
tarn_status tarn_magprune_check(const tarn_model *m, tarn_error *err);

// clang-format off
#define TARN_PARAMS_MAGPRUNE                                                                     \
    {"density", TARN_NUMBER, 0.5, 0, 1, true, NULL,                                              \
     "mean probability of keeping an entry (1 - p of the paper); 0 and 1 drop and keep all"},    \
    {"epsilon", TARN_NUMBER, 0.15, 0, 1, true, NULL, "width of the window of probabilities"},    \
    {"window", TARN_CHOICE, 0, 0, 0, false, "half|full",                                         \
     "half: probabilities within density +- epsilon / 2 (paper); full: within density +- "       \
     "epsilon (mergekit)"},                                                                      \
    {"ranks", TARN_CHOICE, 0, 0, 0, false, "row|tensor",                                         \
     "magnitudes are ranked within each row (paper, mergekit), or within the tensor (sd-mecha)"}, \
    TARN_PARAM_RESCALE
#define TARN_DETAIL_MAGPRUNE                                                                     \
    "Row by row the entries of x_m - base are ranked by magnitude, r = 1 for the smallest of n, " \
    "and kept with probability density - epsilon/2 + epsilon r/n, or under window = \"full\" "   \
    "density - epsilon + 2 epsilon (r-1)/(n-1): the larger, the likelier. Equals rank by "       \
    "position. A row is what belongs to the first index of a tensor, a vector is one row, and "  \
    "a row of one entry has probability density. half is section 2.2 of the paper; the authors' "  \
    "code (declare-lab/della) has the window of full, with 1 / p too. Draws come from a counter "  \
    "generator, as in dare."
// clang-format on

#endif
