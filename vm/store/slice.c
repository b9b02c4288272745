// SPDX-License-Identifier: Apache-2.0
// Slices: trailing dimensions that are taken whole fuse with the innermost one that is not into one
// run; an odometer over the dimensions before it visits the runs.
#include "vm/store/slice.h"

#include <stdbool.h>

#include "vm/store/header.h"

static tarn_status check(const tarn_source *s, int dims, const int64_t *start, const int64_t *stop,
                         tarn_error *err) {
    if (dims > s->rank) {
        TARN_RAISE(err, "TooManySlices",
                   "%s: tensor '%s': %d slices of a tensor with %d dimensions", s->where, s->name,
                   dims, s->rank);
    }
    for (int d = 0; d < dims; d++) {
        if (start[d] < 0 || start[d] > stop[d] || stop[d] > s->shape[d]) {
            TARN_RAISE(err, "SliceOutOfRange",
                       "%s: tensor '%s': dimension %d has %lld entries, asked for %lld to %lld",
                       s->where, s->name, d + 1, (long long)s->shape[d], (long long)start[d] + 1,
                       (long long)stop[d]);
        }
    }
    return TARN_OK;
}

tarn_status tarn_slice_read(const tarn_source *s, int dims, const int64_t *start,
                            const int64_t *stop, void *dst, tarn_error *err) {
    TARN_TRY(check(s, dims, start, stop, err));
    int64_t stride[TARN_RANK_MAX],
        at[TARN_RANK_MAX];  // in elements; no overflow: numel was checked
    int64_t step = 1, runs = 1;
    for (int d = s->rank - 1; d >= 0; d--) {
        stride[d] = step;
        step *= s->shape[d];
    }
    int inner = dims;  // dimensions before `inner` are walked, `inner - 1` bounds the run
    while (inner > 0 && start[inner - 1] == 0 && stop[inner - 1] == s->shape[inner - 1]) {
        inner--;
    }
    int64_t run = inner > 0 ? (stop[inner - 1] - start[inner - 1]) * stride[inner - 1] : s->numel;
    int64_t first = inner > 0 ? start[inner - 1] * stride[inner - 1] : 0;
    for (int d = 0; d < inner - 1; d++) {
        runs *= stop[d] - start[d];
        at[d] = start[d];
    }
    if (s->numel == 0 || run == 0) {
        return TARN_OK;
    }
    uint64_t bits = (uint64_t)tarn_dtype_get(s->dtype)->bits;
    char *to = dst;
    for (; runs > 0; runs--) {
        int64_t from = first;
        for (int d = 0; d < inner - 1; d++) {
            from += at[d] * stride[d];
        }
        if ((uint64_t)from * bits % 8 != 0 || (uint64_t)run * bits % 8 != 0) {
            TARN_RAISE(err, "MisalignedSlice",
                       "%s: tensor '%s': the slice cuts through a byte of its %s elements",
                       s->where, s->name, tarn_dtype_get(s->dtype)->code);
        }
        uint64_t bytes = (uint64_t)run * bits / 8;
        TARN_TRY(s->read(s, (uint64_t)from * bits / 8, bytes, to, err));
        to += bytes;
        for (int d = inner - 2; d >= 0 && ++at[d] == stop[d]; d--) {
            at[d] = start[d];
        }
    }
    return TARN_OK;
}
