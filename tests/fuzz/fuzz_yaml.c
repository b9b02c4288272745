// SPDX-License-Identifier: Apache-2.0
// The YAML reader on any bytes: an answer within bounded memory, and a tree that can be walked.
#include <stdlib.h>

#include "vm/format/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t walk(const tarn_yaml *y, int depth) {
    if (depth > 64) {
        abort();
    }
    uint64_t n = 1;
    for (int64_t i = 0; y->kind >= TARN_YAML_LIST && i < y->count; i++) {
        if (y->kind == TARN_YAML_MAP) {
            n += walk(y->keys[i], depth + 1);
        }
        n += walk(y->items[i], depth + 1);
    }
    if (y->kind < TARN_YAML_LIST && y->text[y->len] != '\0') {
        abort();
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tarn_budget budget;
    tarn_arena arena;
    tarn_error err = {0};
    tarn_yaml **docs;
    int n;
    tarn_budget_init(&budget, (size_t)512 << 20);
    tarn_arena_init(&arena, &budget);
    if (tarn_yaml_read(&arena, (const char *)data, size, "fuzz", &n, &docs, &err) == TARN_OK) {
        uint64_t values = 0;
        for (int i = 0; i < n; i++) {
            values += walk(docs[i], 1);
        }
        if (values > 1000000) {
            abort();
        }
    } else if (err.message[0] == '\0') {
        abort();
    }
    tarn_arena_free(&arena);
    if (budget.used != 0) {
        abort();
    }
    return 0;
}
