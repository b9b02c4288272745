// SPDX-License-Identifier: Apache-2.0
// The CSV reader on any text: an answer, values where it says so, and nothing kept.
#include <stdlib.h>
#include <string.h>

#include "vm/format/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_with(tarn_context *cx, const char *text, size_t size, const tarn_csv_options *o) {
    tarn_error err = {0};
    tarn_csv *t;
    if (tarn_csv_open(cx, text, size, "fuzz", o, &t, &err) != TARN_OK) {
        if (err.message[0] == '\0') {
            abort();
        }
        return;
    }
    size_t rows = (size_t)tarn_csv_rows(t), n = rows * (size_t)tarn_csv_columns(t);
    if (n > size || rows > size) {
        abort();
    }
    double *x = tarn_alloc(&cx->budget, n * sizeof *x);
    int64_t *y = tarn_alloc(&cx->budget, rows * sizeof *y);
    if (x && y && tarn_csv_read(t, x, y, &err) == TARN_OK && tarn_csv_labelled(t)) {
        for (size_t i = 0; i < rows; i++) {
            if (y[i] < 0 || y[i] >= tarn_csv_classes(t)) {
                abort();
            }
        }
    }
    tarn_free(&cx->budget, x, n * sizeof *x);
    tarn_free(&cx->budget, y, rows * sizeof *y);
    tarn_csv_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    tarn_context cx = {0};
    tarn_budget_init(&cx.budget, (size_t)256 << 20);
    char *text = malloc(size + 1);
    if (!text) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    read_with(&cx, text, size, &(tarn_csv_options){0});
    read_with(&cx, text, size, &(tarn_csv_options){.label_column = -1});
    read_with(&cx, text, size, &(tarn_csv_options){.separator = ';', .head = TARN_CSV_HEADER, .label_column = 1});
    free(text);
    if (cx.budget.used != 0) {
        abort();
    }
    return 0;
}
