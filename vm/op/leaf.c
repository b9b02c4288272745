// SPDX-License-Identifier: Apache-2.0
// Leaves: a tensor in a file, a tensor in memory, a bare number, an input of a recorded function.
// They have no inputs; evaluators read their attributes.
#include "vm/op/axes.h"
#include "vm/op/op.h"

static tarn_status infer_never(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                               tarn_error *err) {
    (void)nin, (void)in, (void)a, (void)out;
    TARN_RAISE(err, "Argument", "leaves are made by their own constructors");
}

const tarn_op tarn_op_source = {.name = "source", .version = 1, .cls = TARN_CLASS_LEAF,
                                .infer = infer_never, .axes = tarn_axes_none,
                                .summary = "a tensor of a file"};
const tarn_op tarn_op_tensor = {.name = "tensor", .version = 1, .cls = TARN_CLASS_LEAF,
                                .infer = infer_never, .axes = tarn_axes_none,
                                .summary = "a tensor in memory"};
const tarn_op tarn_op_number = {.name = "number", .version = 1, .cls = TARN_CLASS_LEAF,
                                .infer = infer_never, .axes = tarn_axes_none,
                                .summary = "a bare number: its dtype gives way"};
const tarn_op tarn_op_input = {.name = "input", .version = 1, .cls = TARN_CLASS_LEAF,
                               .infer = infer_never, .axes = tarn_axes_none,
                                .summary = "an operand of a recorded function"};
