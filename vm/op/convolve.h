// SPDX-License-Identifier: Apache-2.0
// Convolution over channels-last images in plain memory: the three products of one trilinear form.
// Private to vm/op.
#ifndef TARN_OP_CONVOLVE_H
#define TARN_OP_CONVOLVE_H

#include "vm/op/op.h"

// sum over everything of x[n, i sh - ph + a dh, j sw - pw + b dw, c] · w[o, c, a, b] · y[n, i, j,
// o]
typedef struct tarn_conv {
    tarn_dtype dtype;                // f32 or f64, of all three
    int64_t n, h, w, c;              // x [n, h, w, c]
    int64_t oh, ow, o;               // y [n, oh, ow, o]
    int64_t kh, kw, groups;          // weight [o, c / groups, kh, kw]
    int64_t sh, sw, ph, pw, dh, dw;  // stride, padding, dilation
} tarn_conv;

tarn_status tarn_conv_forward(tarn_context *cx, const tarn_conv *s, const void *x, const void *w,
                              void *y, tarn_error *err);
tarn_status tarn_conv_input(tarn_context *cx, const tarn_conv *s, const void *y, const void *w,
                            void *x, tarn_error *err);
tarn_status tarn_conv_weight(tarn_context *cx, const tarn_conv *s, const void *x, const void *y,
                             void *w, tarn_error *err);
// Bytes that each of them takes on the way, at most.
size_t tarn_conv_forward_bytes(const tarn_conv *s, int threads);
size_t tarn_conv_input_bytes(const tarn_conv *s, int threads);
size_t tarn_conv_weight_bytes(const tarn_conv *s, int threads);

#endif
