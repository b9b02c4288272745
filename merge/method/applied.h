// SPDX-License-Identifier: Apache-2.0
// What a method's node holds, and the statistics among its operands. Private to method.c and
// statistics.c.
#ifndef TARN_METHOD_APPLIED_H
#define TARN_METHOD_APPLIED_H

#include "merge/method/method.h"

typedef struct {
    const tarn_method *method;
    int base;           // operand index of the base, -1
    int models;         // without the base
    int statistic[TARN_METHOD_STATISTICS];  // first operand of each; 0: not given
    const int *output;  // [slots] number among its source's outputs; NULL: every slot is its own
} tarn_applied;

// The row of a name; NULL: the method has none.
const tarn_statistic *tarn_statistic_row(const tarn_method *method, const char *name);
// Counts against what the rows ask for.
tarn_status tarn_statistics_check(const tarn_method *method, bool base, int n, int nstatistics,
                                  const tarn_given_statistic *given, tarn_error *err);
// Their names, as a member of the node's JSON, and back: the operands from the end; *nin becomes what is left.
void tarn_statistics_write(const tarn_model *m, tarn_text *out);
tarn_status tarn_statistics_restore(const tarn_model_json *j, const tarn_method *method, bool base, int *nin,
                                    tarn_model *const *in, int *count, tarn_given_statistic *given, tarn_error *err);

#endif
