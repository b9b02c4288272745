// SPDX-License-Identifier: Apache-2.0
// A safetensors file of any bytes: opening it answers, within memory in proportion to its size;
// what is accepted tiles the file exactly and can be read. The header is parsed a second time from
// a buffer of its exact size, where a sanitizer sees a step too far; both have to agree.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/store/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool truth) {
    if (!truth) {
        abort();
    }
}

static void check_store(tarn_store *s, const uint8_t *data, size_t size, uint64_t start) {
    uint64_t at = start;
    for (int64_t i = 0; i < tarn_store_count(s); i++) {
        const tarn_store_tensor *t = tarn_store_at(s, i);
        insist(t->begin == at && t->file == 0);
        at += t->bytes;
        uint64_t numel = 1;
        for (int d = 0; d < t->rank; d++) {
            numel *= (uint64_t)t->shape[d];
        }
        insist(numel == (uint64_t)t->numel);
        insist(numel * (uint64_t)tarn_dtype_get(t->dtype)->bits == t->bytes * 8);
        insist(t->name[t->name_len] == '\0' && tarn_store_find(s, t->name, t->name_len) == i);
        const tarn_source *source = tarn_store_source(s, i);
        uint8_t *copy = malloc(t->bytes + 1);
        insist(copy && source->read(source, 0, t->bytes, copy, NULL) == TARN_OK);
        insist(memcmp(copy, data + t->begin, t->bytes) == 0);
        free(copy);
        source->release(source);
    }
    insist(at == size);
    for (int i = 0; i < tarn_store_meta_count(s); i++) {
        const char *key, *value;
        tarn_store_meta(s, i, &key, &value);
        insist(strlen(key) + strlen(value) < size);
    }
    insist(tarn_store_check(s, NULL) == TARN_OK);
}

static bool parse_exactly(tarn_budget *b, const uint8_t *data, size_t size, uint64_t n) {
    char *text = malloc(n ? n : 1);
    insist(text != NULL);
    memcpy(text, data + 8, n);
    tarn_table t;
    tarn_table_init(&t, b);
    bool ok = tarn_header_parse(&t, 0, "fuzz", text, n, size, NULL) == TARN_OK;
    tarn_table_free(&t);
    free(text);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    insist(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    tarn_context cx;
    tarn_error err = {0};
    tarn_options o = {.threads = 1, .memory = (size_t)1 << 30};
    insist(tarn_context_init(&cx, &o, &err) == TARN_OK);
    tarn_store *s;
    bool ok = tarn_store_open(&cx, path, NULL, &s, &err) == TARN_OK;
    insist(ok || (err.code[0] && strstr(err.message, path)));
    insist(cx.budget.peak < 12 * size + 32768);
    uint64_t n = 0;
    for (size_t i = 8; i-- > 0 && size >= 8;) {
        n = n << 8 | data[i];
    }
    if (size >= 8 && n <= size - 8) {
        insist(ok == parse_exactly(&cx.budget, data, size, n));
    }
    if (ok) {
        check_store(s, data, size, n + 8);
        tarn_store_release(s);
    }
    insist(cx.budget.used == 0);
    tarn_context_free(&cx);
    close(fd);
    return 0;
}
