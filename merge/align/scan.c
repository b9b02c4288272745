// SPDX-License-Identifier: Apache-2.0
// The passes over costs, for both dtypes (scan_body.h).
#include "merge/align/scan.h"

#include <math.h>
#include <string.h>

#define T float
#define FN(name) name##_f32
#include "merge/align/scan_body.h"
#undef T
#undef FN

#define T double
#define FN(name) name##_f64
#include "merge/align/scan_body.h"
#undef T
#undef FN

static const tarn_scan f32 = {sizeof(float), survey_f32, reduce_f32, at_f32, transpose_f32};
static const tarn_scan f64 = {sizeof(double), survey_f64, reduce_f64, at_f64, transpose_f64};

const tarn_scan *tarn_scan_of(tarn_dtype t) { return t == TARN_F64 ? &f64 : &f32; }
