// SPDX-License-Identifier: Apache-2.0
// Setting up and tearing down a context; choosing the instruction set.
#include "vm/base/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tarn_isa best_isa(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
        return TARN_ISA_V4;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2")) {
        return TARN_ISA_V3;
    }
    return TARN_ISA_V1;
}

const char *tarn_isa_name(tarn_isa isa) {
    static const char *const names[TARN_ISA_COUNT] = {"v1", "v3", "v4"};
    return names[isa];
}

static tarn_status choose_isa(const char *want, tarn_isa *isa, tarn_error *err) {
    tarn_isa best = best_isa();
    if (!want || !*want) {
        *isa = best;
        return TARN_OK;
    }
    for (int i = 0; i < TARN_ISA_COUNT; i++) {
        if (strcmp(want, tarn_isa_name((tarn_isa)i)) == 0) {
            if ((tarn_isa)i > best) {
                TARN_RAISE(err, "Isa", "instruction set %s is not available on this processor (best: %s)",
                           want, tarn_isa_name(best));
            }
            *isa = (tarn_isa)i;
            return TARN_OK;
        }
    }
    TARN_RAISE(err, "Isa", "unknown instruction set '%s'; expected v1, v3 or v4", want);
}

tarn_status tarn_context_init(tarn_context *cx, const tarn_options *o, tarn_error *err) {
    memset(cx, 0, sizeof *cx);
    tarn_known_init(&cx->known);
    TARN_TRY(choose_isa(o->isa ? o->isa : getenv("TARN_ISA"), &cx->isa, err));
    tarn_budget_init(&cx->budget, o->memory ? o->memory : tarn_budget_default());
    cx->rehash = o->rehash;
    cx->hold = o->hold ? o->hold : (size_t)128 << 20;
    long threads = o->threads;
    if (threads <= 0) {
        threads = sysconf(_SC_NPROCESSORS_ONLN);
    }
    threads = threads < 1 ? 1 : threads > 256 ? 256 : threads;
    cx->pool = tarn_pool_create((int)threads);
    if (!cx->pool) {
        return tarn_raise_nomem(err, "the thread pool", 0);
    }
    return TARN_OK;
}

void tarn_context_free(tarn_context *cx) {
    tarn_pool_destroy(cx->pool);
    cx->pool = NULL;
    tarn_known_free(&cx->known);
}

void tarn_warn(tarn_context *cx, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (cx->warn) {
        cx->warn(cx->warn_arg, text);
    } else {
        fprintf(stderr, "tarn: warning: %s\n", text);
    }
}

void tarn_progress_begin(tarn_context *cx, const char *what, uint64_t total) {
    cx->progress.what = what;
    cx->progress.total = total;
    atomic_store(&cx->progress.done, 0);
}

void tarn_progress_end(tarn_context *cx) {
    tarn_progress_begin(cx, NULL, 0);
    if (cx->progress.show) {
        cx->progress.show(&cx->progress);
    }
}
