// SPDX-License-Identifier: Apache-2.0
// The interposer behind oom.h. The definitions here come before those of the C library (or of a
// sanitizer, which then sees every call), so every library of the program calls them; what does not
// fail goes on to the next definition. Under valgrind, which replaces malloc by itself, run with
// --soname-synonyms=somalloc=nouserintercepts. ThreadSanitizer cannot be wrapped: nothing fails there.
#include "tests/oom.h"

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static _Thread_local struct {
    bool on, onwards;
    long first;   // the allocation that fails, from 1
    long left;    // allocations until it
    long failed;
} state;

void oom_arm(long n, bool onwards) {
    state.first = state.left = n;
    state.onwards = onwards;
    state.failed = 0;
    state.on = true;
}

long oom_disarm(void) {
    state.on = false;
    return state.failed;
}

long oom_asked(void) { return state.first - state.left; }

long oom_sweep(bool (*attempt)(void *arg), void *arg, long most) {
    long met = 0;
    for (int onwards = 0; onwards < 2; onwards++) {
        for (long n = 1; most == 0 || n <= most; n++) {
            oom_arm(n, onwards);
            bool go_on = attempt(arg);
            long failed = oom_disarm();
            if (!go_on) {
                return 0;
            }
            if (failed == 0) {
                break;
            }
            met++;
        }
    }
    return met;
}

#ifndef __SANITIZE_THREAD__

static bool fails(void) {
    if (!state.on || (--state.left > 0) || (state.left < 0 && !state.onwards)) {
        return false;
    }
    state.failed++;
    errno = ENOMEM;
    return true;
}

#define PUBLIC __attribute__((visibility("default")))

// The next definition of a function, looked up once (dlsym itself asks for no memory when it finds).
#define NEXT(f)                             \
    static __typeof__(f) *next;             \
    if (!next) {                            \
        *(void **)&next = dlsym(RTLD_NEXT, #f); \
    }

PUBLIC void *malloc(size_t n) {
    NEXT(malloc)
    return fails() ? NULL : next(n);
}

PUBLIC void *calloc(size_t n, size_t size) {
    NEXT(calloc)
    return fails() ? NULL : next(n, size);
}

PUBLIC void *realloc(void *p, size_t n) {
    NEXT(realloc)
    return fails() ? NULL : next(p, n);
}

PUBLIC void *aligned_alloc(size_t align, size_t n) {
    NEXT(aligned_alloc)
    return fails() ? NULL : next(align, n);
}

PUBLIC int posix_memalign(void **out, size_t align, size_t n) {
    NEXT(posix_memalign)
    return fails() ? ENOMEM : next(out, align, n);
}

#endif
