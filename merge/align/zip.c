// SPDX-License-Identifier: Apache-2.0
#include "merge/align/zip.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct {
    int64_t n, live;   // features; those that still stand for a group
    float *s;          // [n][n]
    int64_t *list;     // [live] which they are, ascending
    int64_t *at;       // [n] the most similar feature of each, the lowest of equal ones; -1: none
    int64_t *into;     // [n] the lower feature that each was merged into; itself: none
    float *best;       // [n] its similarity
    uint64_t *holds;   // [n] models that each group has features of, as bits
    const int32_t *origin;
} state;

// What is out is this much lower, below all that is not.
#define OUT 4.0f
static bool is_out(float v) { return v < -2; }
static float put_out(float v) { return is_out(v) ? v : v - OUT; }
static float scaled(float v, double alpha) {
    float own = is_out(v) ? v + OUT : v;
    own = (float)(alpha * (double)own);
    return is_out(v) ? own - OUT : own;
}

static size_t bytes_of(int64_t n) {
    return (size_t)n * (3 * sizeof(int64_t) + sizeof(float) + sizeof(uint64_t));
}

static void lay_out(state *t, void *memory, const tarn_zip *z, float *s) {
    *t = (state){.n = z->n, .live = z->n, .s = s, .origin = z->origin};
    t->holds = memory;
    t->list = (int64_t *)(t->holds + z->n);
    t->at = t->list + z->n;
    t->into = t->at + z->n;
    t->best = (float *)(t->into + z->n);
    for (int64_t k = 0; k < z->n; k++) {
        t->list[k] = t->into[k] = k;
        t->holds[k] = UINT64_C(1) << z->origin[k];
    }
}

static void find_best(state *t, int64_t k) {
    const float *row = t->s + k * t->n;
    float best = -INFINITY;
    int64_t at = -1;
    for (int64_t p = 0; p < t->live; p++) {
        int64_t m = t->list[p];
        if (row[m] > best && m != k) {
            best = row[m];
            at = m;
        }
    }
    t->best[k] = best;
    t->at[k] = at;
}

// Pairs of one model are out from now on: its budget is spent.
static void close_budget(state *t, int32_t model) {
    for (int64_t p = 0; p < t->live; p++) {
        int64_t k = t->list[p];
        if (t->origin[k] != model) {
            continue;
        }
        for (int64_t q = 0; q < t->live; q++) {
            int64_t m = t->list[q];
            float *v = &t->s[k * t->n + m];
            *v = t->origin[m] == model ? put_out(*v) : *v;
        }
        find_best(t, k);
    }
}

// Column i of row k has a new value; column j is gone.
static void changed(state *t, int64_t k, int64_t i, int64_t j) {
    float v = t->s[k * t->n + i];
    if (v > t->best[k] || (v == t->best[k] && i <= t->at[k])) {
        t->best[k] = v;
        t->at[k] = i;
    } else if (t->at[k] == i || t->at[k] == j) {
        find_best(t, k);
    }
}

static void drop(state *t, int64_t j) {
    int64_t p = 0;
    while (t->list[p] != j) {
        p++;
    }
    t->live--;
    memmove(t->list + p, t->list + p + 1, (size_t)(t->live - p) * sizeof *t->list);
}

static void merge(state *t, int64_t i, int64_t j, double alpha) {
    float *a = t->s + i * t->n, *b = t->s + j * t->n;
    t->into[j] = i;
    t->holds[i] |= t->holds[j];
    drop(t, j);
    for (int64_t p = 0; p < t->live; p++) {
        int64_t k = t->list[p];
        float least = a[k] < b[k] ? a[k] : b[k];
        if (alpha > 0) {
            least = scaled(least, alpha);
        } else if (t->holds[k] & t->holds[i]) {
            least = put_out(least);
        }
        a[k] = least;
        t->s[k * t->n + i] = least;
    }
    find_best(t, i);
    for (int64_t p = 0; p < t->live; p++) {
        if (t->list[p] != i) {
            changed(t, t->list[p], i, j);
        }
    }
}

static int64_t most_similar(const state *t) {
    int64_t top = t->list[0];
    for (int64_t p = 1; p < t->live; p++) {
        top = t->best[t->list[p]] > t->best[top] ? t->list[p] : top;
    }
    return top;
}

static tarn_status run(tarn_context *cx, const tarn_zip *z, state *t, tarn_error *err) {
    for (int64_t k = 0; k < t->n; k++) {
        find_best(t, k);
    }
    for (int32_t m = 0; m < z->models; m++) {
        if (z->budget[m] <= 0) {
            close_budget(t, m);
        }
    }
    while (t->live > z->wanted) {
        TARN_TRY(tarn_cancel_check(&cx->cancel, err));
        int64_t i = most_similar(t), j = t->at[i];  // i < j: of a pair the lower row comes first
        merge(t, i, j, z->alpha);
        int32_t own = t->origin[i];
        if (own == t->origin[j] && --z->budget[own] == 0) {
            close_budget(t, own);
        }
    }
    return TARN_OK;
}

static tarn_status check(const tarn_zip *z, const float *s, tarn_error *err) {
    if (z->models < 1 || z->models > TARN_ZIP_MODELS || z->wanted < 1 || z->wanted > z->n) {
        TARN_RAISE(err, "OutOfRange", "%lld features of %d models cannot become %lld", (long long)z->n, z->models,
                   (long long)z->wanted);
    }
    for (int64_t k = 0; k < z->n * z->n; k++) {
        if (!(s[k] >= -1.001f && s[k] <= 1.001f) && k / z->n != k % z->n) {
            TARN_RAISE(err, "OutOfRange", "the similarity of features %lld and %lld is %g; expected -1 … 1",
                       (long long)(k / z->n + 1), (long long)(k % z->n + 1), (double)s[k]);
        }
    }
    return TARN_OK;
}

tarn_status tarn_align_zip(tarn_context *cx, const tarn_zip *z, float *s, int64_t *group, tarn_error *err) {
    TARN_TRY(check(z, s, err));
    void *memory = tarn_alloc(&cx->budget, bytes_of(z->n));
    if (!memory) {
        return tarn_raise_nomem(err, "a zip", bytes_of(z->n));
    }
    for (int64_t k = 0; k < z->n; k++) {  // of a pair the lower row has to come first, to the last bit
        for (int64_t m = 0; m < k; m++) {
            s[k * z->n + m] = s[m * z->n + k];
        }
    }
    state t;
    lay_out(&t, memory, z, s);
    tarn_status status = run(cx, z, &t, err);
    int64_t next = 0;
    for (int64_t k = 0; status == TARN_OK && k < z->n; k++) {  // what a feature was merged into has a lower number
        group[k] = t.into[k] == k ? next++ : group[t.into[k]];
    }
    tarn_free(&cx->budget, memory, bytes_of(z->n));
    return status;
}
