// SPDX-License-Identifier: Apache-2.0
#include "vm/op/kernel/convert.h"

tarn_convert_fn tarn_convert(tarn_isa isa, tarn_dtype from, tarn_dtype to) {
    const tarn_convert_table *t = isa == TARN_ISA_V4   ? &tarn_convert_table_v4
                                  : isa == TARN_ISA_V3 ? &tarn_convert_table_v3
                                                       : &tarn_convert_table_v1;
    return t->fn[from][to];
}
