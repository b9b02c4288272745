// SPDX-License-Identifier: Apache-2.0
// Bottom-up merge sort with the check that makes ordered input linear.
#include "vm/store/sort.h"

#include <string.h>

// Merges [lo, mid) and [mid, hi): the left part moves to `spare`, then both flow back.
static void merge(uint32_t *index, size_t lo, size_t mid, size_t hi, uint32_t *spare,
                  tarn_order_fn order, const void *arg) {
    size_t left = mid - lo, i = 0, j = mid, to = lo;
    memcpy(spare, index + lo, left * sizeof *index);
    while (i < left && j < hi) {
        index[to++] = order(arg, spare[i], index[j]) <= 0 ? spare[i++] : index[j++];
    }
    memcpy(index + to, spare + i, (left - i) * sizeof *index);
}

void tarn_sort_indices(uint32_t *index, size_t n, uint32_t *spare, tarn_order_fn order,
                       const void *arg) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo + width < n; lo += 2 * width) {
            size_t mid = lo + width, hi = n - mid < width ? n : mid + width;
            if (order(arg, index[mid - 1], index[mid]) > 0) {
                merge(index, lo, mid, hi, spare, order, arg);
            }
        }
    }
}

int tarn_compare_names(const char *a, size_t a_len, const char *b, size_t b_len) {
    int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return c != 0 ? c : (a_len > b_len) - (a_len < b_len);
}
