// SPDX-License-Identifier: Apache-2.0
// The table of operations and the table of kernels.
#include <string.h>

#include "vm/op/kernel/kernel.h"
#include "vm/op/op.h"

const tarn_op *const tarn_ops[TARN_OP_COUNT] = {
#define TARN_ROW(name) [TARN_OP_##name] = &tarn_op_##name,
#include "vm/op/ops.def"
#undef TARN_ROW
};

const tarn_op *tarn_op_find(const char *name) {
    for (int i = 0; i < TARN_OP_COUNT; i++) {
        if (strcmp(tarn_ops[i]->name, name) == 0) {
            return tarn_ops[i];
        }
    }
    return NULL;
}

const tarn_kernels *tarn_kernels_get(tarn_isa isa) {
    return isa == TARN_ISA_V4 ? &tarn_kernels_v4 : isa == TARN_ISA_V3 ? &tarn_kernels_v3
                                                                     : &tarn_kernels_v1;
}
