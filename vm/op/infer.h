// SPDX-License-Identifier: Apache-2.0
// Inference shared by the rows of vm/op: dtype promotion, broadcasting, axis lists. Private to the
// room.
#ifndef TARN_OP_INFER_H
#define TARN_OP_INFER_H

#include "vm/op/op.h"

// The dtype each input of a POINT row is read as, and the output's. want: [nin].
tarn_status tarn_point_types(const tarn_op *op, int nin, const tarn_desc *in, tarn_dtype *want,
                             tarn_dtype *out, tarn_error *err);
// The dtype a reduction folds in.
tarn_status tarn_reduce_type(const tarn_op *op, tarn_dtype in, tarn_dtype *work, tarn_error *err);
// reduced[d] = 1 for every reduced axis of a reduction's attributes.
void tarn_reduce_axes(const tarn_attr *a, int rank, bool *reduced);

#define TARN_INFER(name)                                                                    \
    tarn_status tarn_infer_##name(int nin, const tarn_desc *in, const tarn_attr *a,         \
                                  tarn_desc *out, tarn_error *err)
TARN_INFER(reduce);
TARN_INFER(arg);
TARN_INFER(kth);

#endif
