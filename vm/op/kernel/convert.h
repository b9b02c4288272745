// SPDX-License-Identifier: Apache-2.0
// The conversions of one instruction set, by source and destination dtype (vm/op/convert.h says
// what they do). The bits are the same on each.
#ifndef TARN_OP_KERNEL_CONVERT_H
#define TARN_OP_KERNEL_CONVERT_H

#include "vm/op/convert.h"

typedef struct tarn_convert_table {
    tarn_convert_fn fn[TARN_DTYPE_COUNT][TARN_DTYPE_COUNT]; // [from][to]; NULL: not offered
} tarn_convert_table;

extern const tarn_convert_table tarn_convert_table_v1, tarn_convert_table_v3, tarn_convert_table_v4;

#endif
