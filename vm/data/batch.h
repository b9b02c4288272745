// SPDX-License-Identifier: Apache-2.0
// Batches: rows of a stored tensor, chosen by number, as the numbers that a network takes, and varied
// at random on the way, in one go over the pool. What an example becomes depends on (seed, epoch, its
// row) alone: not on threads, not on the batch it is in, nor on its size.
#ifndef TARN_DATA_BATCH_H
#define TARN_DATA_BATCH_H

#include "vm/tensor/tensor.h"

typedef struct tarn_batch_options {
    bool raw;            // rows as they are stored; nothing below is looked at
    bool image;          // an example is [height, width, channels]
    double divisor;      // of stored numbers: 255 for pixels in bytes; 0: 1
    int channels;        // entries of mean and std: the size of the last dimension, or 1 for all; 0: none
    const double *mean;  // (x / divisor - mean) / std
    const double *std;
    int shift;           // an image moves by up to so many pixels each way, what comes in is 0 pixels
    double flip;         // probability of a mirror image
    double noise;        // standard deviation of normal noise on the numbers of the batch
    int cutout;          // side of a square, anywhere in the image, of zeros in the batch; 0: none
    uint64_t seed;       // of shift, flip, noise, cutout
} tarn_batch_options;

typedef struct tarn_batcher tarn_batcher;

// x: [n, …], an example contiguous (rows may overlap: windows of a text). It is shared, not copied. A
// batch is f64 of f64, f32 of other floats and of what has a divisor, i64 of integers. Augmentation and
// normalisation are for batches of f32.
tarn_status tarn_batcher_make(tarn_context *cx, const tarn_tensor *x, const tarn_batch_options *o,
                              tarn_batcher **out, tarn_error *err);
// The examples rows[0 … n), numbers from 0, as a fresh tensor [n, …].
tarn_status tarn_batcher_take(const tarn_batcher *b, int64_t n, const int64_t *rows, uint64_t epoch,
                              tarn_tensor *out, tarn_error *err);
size_t tarn_batcher_bytes(const tarn_batcher *b, int64_t n);  // of a batch of n examples
void tarn_batcher_free(tarn_batcher *b);  // b may be NULL

// A permutation of 0 … n-1 as a function of (seed, epoch): Fisher-Yates with Philox words.
void tarn_data_order(tarn_isa isa, uint64_t seed, uint64_t epoch, int64_t n, int64_t *out);

#endif
