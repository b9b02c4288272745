// SPDX-License-Identifier: Apache-2.0
// Cosines of two tensors column by column (along their first dimension), for methods that mix by
// them. Not a method itself.
#ifndef TARN_METHOD_SIMILARITY_H
#define TARN_METHOD_SIMILARITY_H

#include "merge/method/mix.h"

typedef enum {
    TARN_WHOLE_NONE,   // the columns' cosines alone
    TARN_WHOLE_PLAIN,  // mean with the cosine of the whole tensors
    TARN_WHOLE_LEVEL,  // mean with that of the tensors whose columns are brought to length 1
} tarn_whole;

// Of each column, in [-1, 1], the first dimension kept with one element; 0 where a column is zero. A tensor
// of rank 1 is one column, the number of rank 0 too.
const tarn_node *tarn_columns_cosine(tarn_build *b, const tarn_node *x, const tarn_node *y);
const tarn_node *tarn_columns_similarity(tarn_build *b, const tarn_node *x, const tarn_node *y,
                                         const tarn_node *each, tarn_whole whole);
// The smallest or the largest similarity of the model's columns, 1 % of them left out at either end.
const tarn_node *tarn_columns_range(tarn_build *b, const tarn_node *s, bool high);

#endif
