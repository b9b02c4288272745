// SPDX-License-Identifier: Apache-2.0
// Conversions between stored and arithmetic dtypes, for whole arrays.
//
// Offered: any readable dtype to f32, f64, i64 and bool; those four to any readable dtype; any
// readable dtype to itself (a copy; bools become 0 or 1). Other pairs go through the arithmetic
// dtype of the source (tarn_dtype_compute), which holds every value of it. F4, F6 and C64 are
// opaque.
//
// Every conversion rounds once, to nearest, ties to even:
// - to a float: overflow becomes infinity in f32, f16, bf16, e5m2; saturates (infinity too) in
// e4m3;
//   becomes NaN in e4m3fnuz and e5m2fnuz. NaN stays NaN, quiet, with its sign (but in the fnuz
//   types, which have one NaN) and, in f32, f16 and bf16, the top bits of its payload. Copies and
//   bf16 to f32 keep all bits, so a signalling NaN stays one there.
// - e8m0 holds powers of two only: ties (1.5 times a power) go up, as in PyTorch; zero becomes
// 2^-127;
//   negative, infinite and too large numbers become NaN.
// - to an integer: saturates at the ends of the range, NaN becomes 0.
// - to bool: true unless equal to zero.
// - between u64 and i64 the bits are kept (values from 2^63 on are negative meanwhile), so that
//   copying integers through i64 loses nothing; u64 to a float reads the unsigned value.
#ifndef TARN_OP_CONVERT_H
#define TARN_OP_CONVERT_H

#include <stdint.h>

#include "vm/base/context.h"
#include "vm/tensor/dtype.h"

// n elements; src and dst need no alignment and must not overlap.
typedef void (*tarn_convert_fn)(int64_t n, const void *src, void *dst);

tarn_convert_fn tarn_convert(tarn_isa isa, tarn_dtype from, tarn_dtype to); // NULL: not offered

#endif
