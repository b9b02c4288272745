// SPDX-License-Identifier: Apache-2.0
// The memory budget and the aligned allocator that is charged to it.
#include "vm/base/budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void tarn_budget_init(tarn_budget *b, size_t limit) {
    memset(b, 0, sizeof *b);
    b->limit = limit;
}

bool tarn_budget_take(tarn_budget *b, size_t bytes) {
    size_t used = atomic_load(&b->used);
    do {
        if (bytes > b->limit || used > b->limit - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&b->used, &used, used + bytes));
    size_t now = used + bytes;
    size_t peak = atomic_load(&b->peak);
    while (peak < now && !atomic_compare_exchange_weak(&b->peak, &peak, now)) {
    }
    return true;
}

void tarn_budget_give(tarn_budget *b, size_t bytes) { atomic_fetch_sub(&b->used, bytes); }

// Large blocks ask for huge pages: a fault for each 4 KiB costs as much as reading them.
enum { HUGE_PAGE = 2 << 20 };

void *tarn_alloc(tarn_budget *b, size_t bytes) {
    if (bytes > SIZE_MAX - 64 || !tarn_budget_take(b, bytes)) {
        return NULL;
    }
    bool large = bytes >= 2 * HUGE_PAGE;
    size_t align = large ? HUGE_PAGE : 64;
    size_t room = bytes == 0 ? 64 : (bytes + 63) / 64 * 64;
    void *p = NULL;
    if (posix_memalign(&p, align, room) != 0) {
        tarn_budget_give(b, bytes);
        return NULL;
    }
    if (large) {
        madvise(p, room / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);  // a hint: may fail
    }
    return p;
}

void *tarn_alloc_zero(tarn_budget *b, size_t bytes) {
    void *p = tarn_alloc(b, bytes);
    if (p) {
        memset(p, 0, bytes);
    }
    return p;
}

void tarn_free(tarn_budget *b, void *p, size_t bytes) {
    if (p) {
        free(p);
        tarn_budget_give(b, bytes);
    }
}

// Reads one unsigned number from a small file; 0 when absent or "max".
static unsigned long long number_in(const char *path) {
    FILE *f = fopen(path, "r");
    if (!f) {
        return 0;
    }
    unsigned long long v = 0;
    if (fscanf(f, "%llu", &v) != 1) {
        v = 0;
    }
    fclose(f);
    return v;
}

size_t tarn_budget_default(void) {
    unsigned long long avail = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    if (f) {
        char line[128];
        while (fgets(line, sizeof line, f)) {
            unsigned long long kib;
            if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
                avail = kib * 1024;
            }
        }
        fclose(f);
    }
    unsigned long long cap = number_in("/sys/fs/cgroup/memory.max");
    if (cap == 0) {
        cap = number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    }
    if (avail == 0) {
        avail = 1ULL << 30;
    }
    if (cap > 0 && cap < avail) {
        avail = cap;
    }
    return (size_t)(avail - avail / 10);
}
