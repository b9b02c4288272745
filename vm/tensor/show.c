// SPDX-License-Identifier: Apache-2.0
// Printing tensors as PyTorch does: one format for all numbers of a tensor, 4 digits, summary of the
// edges beyond 1000 elements.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "vm/tensor/tensor.h"

enum { WHOLE = 1000, EDGE = 3, LINE = 80 };

typedef struct {
    bool integral;    // every value is an integer
    bool scientific;  // too wide a range for fixed point
    int width;
    int64_t seen;
    double least, most;  // of the non-zero magnitudes
} format;

// Element `at` of the tensor (row-major).
static void number(const tarn_tensor *t, int64_t at, const format *f, char *buf, size_t n) {
    double v = tarn_tensor_get(t, at);
    if (t->dtype == TARN_BOOL) {
        snprintf(buf, n, "%s", v != 0 ? "true" : "false");
    } else if (t->dtype == TARN_U64) {
        snprintf(buf, n, "%" PRIu64, (uint64_t)tarn_tensor_get_int(t, at));
    } else if (tarn_dtype_get(t->dtype)->kind == TARN_KIND_INT) {
        snprintf(buf, n, "%" PRId64, tarn_tensor_get_int(t, at));
    } else if (isnan(v)) {
        snprintf(buf, n, "nan");
    } else if (isinf(v)) {
        snprintf(buf, n, v > 0 ? "inf" : "-inf");
    } else if (f->scientific) {
        snprintf(buf, n, "%.4e", v);
    } else {
        snprintf(buf, n, f->integral ? "%.0f." : "%.4f", v);
    }
}

// True for an index along dimension d that the summary leaves out.
static bool skipped(const tarn_tensor *t, bool summary, int d, int64_t i) {
    return summary && t->shape[d] > 2 * EDGE && i >= EDGE && i < t->shape[d] - EDGE;
}

static void survey(const tarn_tensor *t, bool summary, int d, int64_t at, format *f) {
    if (d == t->rank) {
        double v = tarn_tensor_get(t, at);
        if (isfinite(v)) {
            f->integral = f->integral && v == floor(v);
            double m = fabs(v);
            if (m > 0) {
                f->least = f->seen == 0 || m < f->least ? m : f->least;
                f->most = f->seen == 0 || m > f->most ? m : f->most;
                f->seen++;
            }
        }
        return;
    }
    for (int64_t i = 0; i < t->shape[d]; i++) {
        if (skipped(t, summary, d, i)) {
            i = t->shape[d] - EDGE;
        }
        survey(t, summary, d + 1, at * t->shape[d] + i, f);
    }
}

static void widest(const tarn_tensor *t, bool summary, int d, int64_t at, format *f) {
    if (d == t->rank) {
        char buf[64];
        number(t, at, f, buf, sizeof buf);
        int w = (int)strlen(buf);
        f->width = w > f->width ? w : f->width;
        return;
    }
    for (int64_t i = 0; i < t->shape[d]; i++) {
        if (skipped(t, summary, d, i)) {
            i = t->shape[d] - EDGE;
        }
        widest(t, summary, d + 1, at * t->shape[d] + i, f);
    }
}

static void body(const tarn_tensor *t, bool summary, int d, int64_t at, const format *f,
                 tarn_text *out) {
    if (d == t->rank) {
        char buf[64];
        number(t, at, f, buf, sizeof buf);
        tarn_text_printf(out, "%*s", f->width, buf);
        return;
    }
    bool last = d + 1 == t->rank;
    int per_line = (LINE - t->rank) / (f->width + 2);
    per_line = per_line < 1 ? 1 : per_line;
    int on_line = 0;
    tarn_text_puts(out, "[");
    for (int64_t i = 0; i < t->shape[d]; i++) {
        if (i > 0) {
            tarn_text_puts(out, last ? ", " : ",");
            if (!last || on_line == per_line) {
                tarn_text_printf(out, "\n%*s", d + 1, "");
                on_line = 0;
            }
        }
        if (skipped(t, summary, d, i)) {
            tarn_text_puts(out, last ? "..., " : "...,");
            if (!last) {
                tarn_text_printf(out, "\n%*s", d + 1, "");
            }
            on_line++;
            i = t->shape[d] - EDGE;
        }
        body(t, summary, d + 1, at * t->shape[d] + i, f, out);
        on_line++;
    }
    tarn_text_puts(out, "]");
}

void tarn_tensor_show(const tarn_tensor *t, tarn_text *out) {
    if (!t->storage) {
        tarn_text_puts(out, "tensor (released)");
        return;
    }
    tarn_text_puts(out, tarn_dtype_get(t->dtype)->name);
    tarn_shape_show(out, t->rank, t->shape);
    if (tarn_dtype_get(t->dtype)->kind == TARN_KIND_OPAQUE) {
        tarn_text_puts(out, " (stored only)");
        return;
    }
    if (tarn_tensor_numel(t) == 0) {
        return;
    }
    bool summary = tarn_tensor_numel(t) > WHOLE;
    format f = {.integral = true};
    survey(t, summary, 0, 0, &f);
    f.scientific = f.seen > 0 && ((!f.integral && (f.most / f.least > 1000 || f.least < 1e-4)) ||
                                  f.most > 1e8);
    widest(t, summary, 0, 0, &f);
    tarn_text_puts(out, t->rank == 0 ? " " : "\n");
    body(t, summary, 0, 0, &f, out);
}
