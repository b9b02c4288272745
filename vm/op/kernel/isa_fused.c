// SPDX-License-Identifier: Apache-2.0
// The kernels of the fused rows, compiled once per instruction set: plain loops that the compiler
// vectorises, in lanes that are the same on each.
#include "vm/op/kernel/fused.h"

#include <string.h>

#include "vm/op/kernel/isa.h"
#include "vm/op/kernel/math.h"

typedef double v4 __attribute__((vector_size(32)));

#define T float
#define WORD int32_t
#define EXP tk_expf_below
#define FN(name) name##_f32
#include "vm/op/kernel/fused_body.h"
#undef T
#undef WORD
#undef EXP
#undef FN

#define T double
#define WORD int64_t
#define EXP tk_exp
#define FN(name) name##_f64
#include "vm/op/kernel/fused_body.h"
#undef T
#undef WORD
#undef EXP
#undef FN

#define TABLE(t)                                                                                   \
    {                                                                                              \
        softmax_##t, log_softmax_##t, softmax_vjp_##t, log_softmax_vjp_##t, cross_entropy_##t,     \
            cross_entropy_vjp_##t, row_stats_##t, row_norm_##t, row_norm_vjp_##t, row_sums_##t,    \
            column_sum_##t, column_square_##t, column_norm_##t, column_sums_##t,                   \
            column_norm_vjp_##t, mask_##t, add_scaled_##t, attend_##t, attend_vjp_##t, rotate_##t, \
            add_##t, largest_at_##t                                                                \
    }
const tarn_fused_kernels TARN_ISA_NAME(tarn_fused_table)[2] = {TABLE(f32), TABLE(f64)};
