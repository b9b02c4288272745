// SPDX-License-Identifier: Apache-2.0
// An index of any bytes, compared with a model of two shards: an answer, within memory in
// proportion; no name that could leave the folder passes; every entry has its shard.
#include <stdlib.h>
#include <string.h>

#include "vm/store/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void insist(bool truth) {
    if (!truth) {
        abort();
    }
}

static void check_index(const tarn_index *x) {
    insist(x->nfiles > 0 && x->count >= x->nfiles);
    for (int i = 0; i < x->nfiles; i++) {
        const char *f = x->file[i];
        insist(f[0] && !strchr(f, '/') && !strchr(f, '\\') && strcmp(f, ".") && strcmp(f, ".."));
        insist(i == 0 || strcmp(x->file[i - 1], f) < 0);
    }
    for (int64_t i = 0; i < x->count; i++) {
        const tarn_index_entry *e = &x->entry[i];
        insist(e->file >= 0 && e->file < x->nfiles);
        insist(strcmp(x->file[e->file], e->shard.s) == 0);
    }
}

static void add_shard(tarn_table *t, int file, const char *header, uint64_t bytes) {
    size_t n = strlen(header);
    char *text = malloc(n);
    insist(text != NULL);
    memcpy(text, header, n);
    insist(tarn_header_parse(t, file, "shard", text, n, 8 + n + bytes, NULL) == TARN_OK);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size ? size : 1);
    insist(text != NULL);
    memcpy(text, data, size);
    tarn_budget budget;
    tarn_error err = {0};
    tarn_index x;
    tarn_budget_init(&budget, (size_t)1 << 30);
    if (tarn_index_parse(&x, &budget, "fuzz", text, size, &err) == TARN_OK) {
        check_index(&x);
        tarn_table t;
        tarn_index_finding found;
        tarn_table_init(&t, &budget);
        add_shard(&t, 0, "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 16);
        if (x.nfiles > 1) {
            add_shard(&t, 1, "{\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1);
        }
        insist(tarn_table_sort(&t, &err) == TARN_OK);
        if (tarn_index_check(&x, &t, "fuzz", &found, &err) == TARN_OK) {
            insist(found.unmapped + x.count == t.count);
        }
        tarn_table_free(&t);
    } else {
        insist(err.code[0] && strstr(err.message, "fuzz"));
    }
    insist(budget.peak < 40 * size + 131072);
    tarn_index_free(&x);
    insist(budget.used == 0);
    free(text);
    return 0;
}
