// SPDX-License-Identifier: Apache-2.0
// Sorting of index lists: a stable merge sort that leaves alone what is in order already. Headers
// are written in order of offset, and mostly of name, so that sorting them costs one pass of
// comparisons; the worst case stays n log n. Names come from files, so nothing here is a hash that
// a file could flood.
#ifndef TARN_STORE_SORT_H
#define TARN_STORE_SORT_H

#include <stddef.h>
#include <stdint.h>

// Below, equal to or above 0 as item a comes before, with or after item b.
typedef int (*tarn_order_fn)(const void *arg, uint32_t a, uint32_t b);

// Sorts the n indices; spare: room for n of them.
void tarn_sort_indices(uint32_t *index, size_t n, uint32_t *spare, tarn_order_fn order,
                       const void *arg);

// The order of names: by bytes, the shorter first when one begins the other.
int tarn_compare_names(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
