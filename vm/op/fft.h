// SPDX-License-Identifier: Apache-2.0
// The discrete Fourier transform of one line of complex f64 numbers, of any length. Private to vm/op;
// the rows over tensors are in fourier.c.
#ifndef TARN_OP_FFT_H
#define TARN_OP_FFT_H

#include <stdbool.h>
#include <stdint.h>

#include "vm/base/context.h"

typedef struct {
    double re, im;
} tarn_complex;

enum { TARN_FFT_FACTORS = 64 };

typedef struct tarn_fft {
    tarn_context *cx;
    int64_t n;       // length of the lines
    int64_t radix;   // length that is factored: n, or a power of two for Bluestein's form
    int factors;
    int factor[TARN_FFT_FACTORS];
    tarn_complex *memory;  // what the pointers below are parts of
    size_t bytes;
    tarn_complex *root;    // [radix] exp(-2 pi i k / radix)
    tarn_complex *spare;   // [radix]
    tarn_complex *chirp;   // [n] exp(-pi i k^2 / n); NULL: n is factored itself
    tarn_complex *kernel;  // [radix] transform of the conjugate chirp
    tarn_complex *line;    // [radix]
} tarn_fft;

size_t tarn_fft_bytes(int64_t n);  // what tarn_fft_open takes, SIZE_MAX on overflow; n >= 1
tarn_status tarn_fft_open(tarn_context *cx, int64_t n, tarn_fft *f, tarn_error *err);
void tarn_fft_close(tarn_fft *f);
// x[k] = sum over j of x[j] exp(-2 pi i j k / n), in place; inverse: with +, divided by n.
tarn_status tarn_fft_run(tarn_fft *f, tarn_complex *x, bool inverse, tarn_error *err);

#endif
