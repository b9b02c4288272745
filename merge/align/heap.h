// SPDX-License-Identifier: Apache-2.0
// A heap of numbered things by (key, number), least first, in which keys may fall: four children a node, since
// one cache line holds them. Memory is the caller's.
#ifndef TARN_ALIGN_HEAP_H
#define TARN_ALIGN_HEAP_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tarn_heap_entry {
    double key;
    int32_t id;
} tarn_heap_entry;

typedef struct tarn_heap {
    tarn_heap_entry *e;  // [as many ids as there are]
    int32_t *place;      // [ids] -1: not in the heap
    int64_t n;
} tarn_heap;

static inline bool tarn_heap_before(tarn_heap_entry a, tarn_heap_entry b) {
    return a.key < b.key || (a.key == b.key && a.id < b.id);
}

static inline void tarn_heap_put(tarn_heap *h, int64_t at, tarn_heap_entry e) {
    h->e[at] = e;
    h->place[e.id] = (int32_t)at;
}

// Puts it in, or lowers its key.
static inline void tarn_heap_lower(tarn_heap *h, double key, int32_t id) {
    tarn_heap_entry e = {key, id};
    int64_t at = h->place[id] >= 0 ? h->place[id] : h->n++;
    while (at > 0 && tarn_heap_before(e, h->e[(at - 1) / 4])) {
        tarn_heap_put(h, at, h->e[(at - 1) / 4]);
        at = (at - 1) / 4;
    }
    tarn_heap_put(h, at, e);
}

// Takes the first out of a heap that is not empty.
static inline tarn_heap_entry tarn_heap_pop(tarn_heap *h) {
    tarn_heap_entry first = h->e[0], last = h->e[--h->n];
    int64_t at = 0;
    h->place[first.id] = -1;
    while (h->n > 0) {
        int64_t from = 4 * at + 1, to = from + 4 < h->n ? from + 4 : h->n, best = from;
        for (int64_t c = from + 1; c < to; c++) {
            best = tarn_heap_before(h->e[c], h->e[best]) ? c : best;
        }
        if (from >= h->n || !tarn_heap_before(h->e[best], last)) {
            tarn_heap_put(h, at, last);
            break;
        }
        tarn_heap_put(h, at, h->e[best]);
        at = best;
    }
    return first;
}

static inline void tarn_heap_clear(tarn_heap *h) {
    while (h->n > 0) {
        h->place[h->e[--h->n].id] = -1;
    }
}

#endif
