// SPDX-License-Identifier: Apache-2.0
// What the fuzzers of models share: files in memory, values, and the way through a plan and back.
#ifndef TARN_TESTS_FUZZ_MODELS_H
#define TARN_TESTS_FUZZ_MODELS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "merge/plan/plan.h"

static inline void insist(bool truth) {
    if (!truth) {
        abort();
    }
}

typedef struct {
    int fd;
    char path[32];
} fuzz_file;

static inline void fuzz_bytes(fuzz_file *f, const void *data, size_t size) {
    f->fd = memfd_create("fuzz", MFD_CLOEXEC);
    insist(f->fd >= 0 && write(f->fd, data, size) == (ssize_t)size);
    snprintf(f->path, sizeof f->path, "/proc/self/fd/%d", f->fd);
}

// The headers of the models and of the adapter that the plans of the corpus are about.
static const char fuzz_weights[] =
    "{\"h.0.w.weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,48]},"
    "\"h.1.b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[48,56]},"
    "\"n\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[56,72]}}";
static const char fuzz_adapter[] =
    "{\"h.0.w.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"h.0.w.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[24,56]}}";

static inline void fuzz_close(const fuzz_file *f) { close(f->fd); }

// A safetensors file with this header, made once; its numbers are small in every dtype.
static inline void fuzz_model(fuzz_file *f, const char *header) {
    enum { DATA = 4096 };
    size_t n = strlen(header), bytes = 0;
    if (f->path[0]) {
        return;
    }
    for (const char *at = header; (at = strstr(at, "data_offsets\":[")) != NULL; at++) {
        bytes = strtoul(strchr(strchr(at, '['), ',') + 1, NULL, 10);
    }
    unsigned char file[8 + 4096 + DATA] = {0};
    insist(n <= 4096 && bytes <= DATA);
    for (int k = 0; k < 8; k++) {
        file[k] = (unsigned char)((uint64_t)n >> 8 * k);
    }
    memcpy(file + 8, header, n);
    for (size_t k = 0; k < bytes; k++) {
        file[8 + n + k] = k % 2 ? 0x3D : (unsigned char)(37 * k);
    }
    fuzz_bytes(f, file, 8 + n + bytes);
}

static inline void fuzz_silence(void *arg, const char *message) {
    (void)arg;
    (void)message;
}

static inline void fuzz_context(tarn_context *cx) {
    tarn_options o = {.threads = 1, .memory = (size_t)64 << 20};
    insist(tarn_context_init(cx, &o, NULL) == TARN_OK);
    cx->warn = fuzz_silence;
}

// Its value, or a reason.
static inline void fuzz_value(tarn_context *cx, tarn_model *m) {
    tarn_error err = {0};
    tarn_model *loaded = NULL;
    if (tarn_model_load(cx, m, &loaded, &err) != TARN_OK) {
        insist(!loaded && err.message[0]);
    }
    tarn_model_release(loaded);
}

typedef struct {
    const char *label, *path;
} fuzz_input;

typedef struct {
    const fuzz_input *list;
    int n;
} fuzz_inputs;

static inline const char *fuzz_path(void *arg, const char *label, int k) {
    const fuzz_inputs *in = arg;
    (void)k;
    for (int i = 0; i < in->n; i++) {
        if (strcmp(in->list[i].label, label) == 0) {
            return in->list[i].path;
        }
    }
    return NULL;
}

// The plan of m, read back, says what it said.
static inline void fuzz_again(tarn_context *cx, tarn_model *m, const fuzz_input *list, int n) {
    fuzz_inputs in = {list, n};
    tarn_text first, second;
    tarn_error err = {0};
    tarn_plan_options o;
    tarn_model *again = NULL;
    bool replayable;
    tarn_text_init(&first, &cx->budget);
    tarn_text_init(&second, &cx->budget);
    if (tarn_plan_json(m, NULL, &first, &replayable, &err) == TARN_OK && replayable) {
        tarn_status s = tarn_plan_read(cx, first.data, first.len, fuzz_path, &in, &again, &o, &err);
        insist(s == TARN_OK || s == TARN_NOMEM);
        if (s == TARN_OK && tarn_plan_json(again, NULL, &second, &replayable, &err) == TARN_OK) {
            insist(replayable && first.len == second.len && !memcmp(first.data, second.data, first.len));
        }
    }
    tarn_model_release(again);
    tarn_text_free(&first);
    tarn_text_free(&second);
}

#endif
