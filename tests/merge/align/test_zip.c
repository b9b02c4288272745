// SPDX-License-Identifier: Apache-2.0
// The greedy zip against a twin that looks through the whole matrix for each merge, with many ties, several
// models, widths and budgets; a case by hand, and what is refused.
#include "merge/align/zip.h"

#include <math.h>

#include "tests/support.h"

typedef struct {
    int64_t n, wanted;
    int models;
    int32_t origin[96];
    int64_t budget[4];
    double alpha;
    float s[96 * 96];
} problem;

// The rule as it reads: what is out is 4 lower.
static float lowered(float v) { return v < -2 ? v : v - 4; }

static void twin(const problem *p, int64_t *group) {
    static float s[96 * 96];
    int64_t n = p->n, live = n, budget[4], into[96];
    bool gone[96] = {false};
    unsigned holds[96];
    memcpy(s, p->s, sizeof s);
    memcpy(budget, p->budget, sizeof budget);
    for (int64_t k = 0; k < n; k++) {
        into[k] = k;
        holds[k] = 1u << p->origin[k];
    }
    for (int m = 0; m < p->models; m++) {
        for (int64_t a = 0; budget[m] <= 0 && a < n * n; a++) {
            s[a] = p->origin[a / n] == m && p->origin[a % n] == m ? lowered(s[a]) : s[a];
        }
    }
    while (live > p->wanted) {
        float best = -INFINITY;
        int64_t i = -1, j = -1;
        for (int64_t a = 0; a < n; a++) {
            for (int64_t b = a + 1; b < n; b++) {
                if (!gone[a] && !gone[b] && s[a * n + b] > best) {
                    best = s[a * n + b];
                    i = a;
                    j = b;
                }
            }
        }
        for (int64_t k = 0; k < n; k++) {
            float v = fminf(s[i * n + k], s[j * n + k]);
            if (p->alpha > 0 && v < -2) {
                v = (float)(p->alpha * (double)(v + 4)) - 4;
            } else if (p->alpha > 0) {
                v = (float)(p->alpha * (double)v);
            } else if (holds[k] & (holds[i] | holds[j])) {
                v = lowered(v);
            }
            s[i * n + k] = s[k * n + i] = v;
        }
        holds[i] |= holds[j];
        int m = p->origin[i];
        if (m == p->origin[j] && --budget[m] == 0) {
            for (int64_t a = 0; a < n * n; a++) {
                s[a] = p->origin[a / n] == m && p->origin[a % n] == m ? lowered(s[a]) : s[a];
            }
        }
        into[j] = i;
        gone[j] = true;
        live--;
    }
    int64_t next = 0;
    for (int64_t k = 0; k < n; k++) {
        group[k] = into[k] == k ? next++ : group[into[k]];
    }
}

static void draw(problem *p, uint64_t *state, bool coarse) {
    static const double alphas[] = {0.3, 1, 1e-4, 0, 0.8};
    p->models = 2 + (int)(test_random(state) % 3);
    p->n = 0;
    int64_t widest = 0;
    for (int m = 0; m < p->models; m++) {
        int64_t width = 1 + (int64_t)(test_random(state) % 24);
        for (int64_t k = 0; k < width; k++) {
            p->origin[p->n++] = m;
        }
        widest = width > widest ? width : widest;
        p->budget[m] = (int64_t)(test_random(state) % 6) - 1;
    }
    p->wanted = widest;
    p->alpha = alphas[test_random(state) % 5];
    for (int64_t i = 0; i < p->n; i++) {
        for (int64_t j = i; j < p->n; j++) {
            double v = test_uniform(state);
            v = coarse ? floor(4 * v) / 4 : v;
            p->s[i * p->n + j] = p->s[j * p->n + i] = i == j ? 2 : (float)v;
        }
    }
}

static tarn_status solve(tarn_context *cx, const problem *p, int64_t *group, int64_t *left, tarn_error *err) {
    static float s[96 * 96];
    memcpy(s, p->s, sizeof s);
    for (int64_t k = 0; k < p->n * p->n; k++) {
        s[k] -= k / p->n > k % p->n ? 1e-6f : 0;  // below the diagonal nothing counts, roundings least of all
    }
    memcpy(left, p->budget, sizeof p->budget);
    tarn_zip z = {p->n, p->wanted, p->models, p->origin, p->alpha, left};
    return tarn_align_zip(cx, &z, s, group, err);
}

static void against_twin(void **unused) {
    tarn_context cx;
    tarn_error err;
    uint64_t state = 7;
    open_context(&cx, 1, NULL);
    for (int round = 0; round < 600; round++) {
        static problem p;
        int64_t want[96], got[96], left[4];
        draw(&p, &state, round % 2);
        twin(&p, want);
        OK(solve(&cx, &p, got, left, &err));
        assert_memory_equal(got, want, (size_t)p.n * sizeof *got);
        for (int m = 0; m < p.models && p.models == 2; m++) {
            assert_true(left[m] >= 0 || left[m] == p.budget[m]);  // never more than allowed
        }
    }
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

// a1 a2 a3 | b1 b2 b3, wanted 3. Most similar: a1 a2 (0.9), which uses up the budget of a; min(0.8, 0.1) alpha for
// {a1 a2} b1; then a3 b3 (0.7), then b1 b2 (0.5) is out (budget 0), so {a1 a2} b1: 0.5 * 0.1 = 0.05 against
// {a1 a2} b2: 0.5 * 0.2 = 0.1.
static void by_hand(void **unused) {
    tarn_context cx;
    tarn_error err;
    problem p = {.n = 6, .wanted = 3, .models = 2, .origin = {0, 0, 0, 1, 1, 1}, .budget = {1, 0}, .alpha = 0.5};
    static const float upper[] = {0.9f, 0, 0.8f, 0.3f, 0, /**/ 0.8f, 0.1f, 0.2f, 0, /**/ 0.0f, 0, 0.7f, /**/ 0.5f, 0, 0};
    for (int i = 0, k = 0; i < 6; i++) {
        for (int j = i + 1; j < 6; j++) {
            p.s[i * 6 + j] = p.s[j * 6 + i] = upper[k++];
        }
    }
    int64_t group[6], left[4];
    open_context(&cx, 1, NULL);
    OK(solve(&cx, &p, group, left, &err));
    const int64_t want[] = {0, 0, 1, 2, 0, 1};
    assert_memory_equal(group, want, sizeof want);
    assert_int_equal(left[0], 0);
    tarn_context_free(&cx);
}

static void refusals(void **unused) {
    tarn_context cx;
    tarn_error err;
    problem p = {.n = 2, .wanted = 3, .models = 1, .budget = {5}, .alpha = 1};
    int64_t group[2], left[4];
    open_context(&cx, 1, NULL);
    assert_int_equal(solve(&cx, &p, group, left, &err), TARN_ERROR);
    assert_string_equal(err.code, "OutOfRange");
    p.wanted = 1;
    for (int k = 0; k < 2; k++) {
        p.s[1] = k ? 1.5f : NAN;
        assert_int_equal(solve(&cx, &p, group, left, &err), TARN_ERROR);
        assert_string_equal(err.code, "OutOfRange");
    }
    p.s[1] = 0;
    tarn_cancel_set(&cx.cancel, TARN_STOP_INT);
    assert_int_equal(solve(&cx, &p, group, left, &err), TARN_CANCELLED);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_twin), cmocka_unit_test(by_hand),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
