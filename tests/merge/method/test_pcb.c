// SPDX-License-Identifier: Apache-2.0
// PCB against a plain twin in f64 that sorts the whole model, for every variant, whatever the cut into
// tensors; a small example worked by hand; scores that cannot be scaled (one model, equal entries,
// nothing but zeros).
#include "tests/merge/method/values.h"

#include <math.h>

enum { N = 2500, T = 3 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double order(const double *x, int n, double rank) {
    double *sorted = malloc((size_t)n * sizeof *sorted);
    assert_non_null(sorted);
    memcpy(sorted, x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    double v = sorted[(int)fmax(0, fmin(n - 1, rank))];
    free(sorted);
    return v;
}

typedef struct {
    int models, n;
    double clamp, ratio;
    const char *inter;
} variant;

static double score_of(const variant *v, int m, int i, double t[][N], double z[][N]) {
    double raw = 0, scaled = 0, pairs = 0;
    for (int j = 0; j < v->models; j++) {
        raw += t[j][i];
        scaled += z[j][i];
        pairs += tanh(z[m][i] * z[j][i]);
    }
    double inter = strcmp(v->inter, "raw") == 0      ? tanh(t[m][i] * raw)
                   : strcmp(v->inter, "scaled") == 0 ? tanh(t[m][i] * scaled)
                                                     : pairs;
    return exp(v->models * z[m][i] * z[m][i]) * inter;
}

// The merged vector. Also checks that shares lie within 0 … 1, and that about `ratio` of them are above.
static void twin(const variant *v, double t[][N], double *out) {
    static double size[T][N], z[T][N], score[N], top[N], weight[N];
    int n = v->n;
    for (int m = 0; m < v->models; m++) {
        double raw[N];
        for (int i = 0; i < n; i++) {
            raw[i] = fabs(t[m][i]);
        }
        double low = order(raw, n, floor(n * v->clamp)), high = order(raw, n, floor(n * (1 - v->clamp) - 1));
        for (int i = 0; i < n; i++) {
            double sign = t[m][i] > 0 ? 1 : t[m][i] < 0 ? -1 : 0, x = fmin(fmax(raw[i], low), high);
            size[m][i] = sign * x;
            z[m][i] = high > low ? sign * (x - low) / (high - low) : 0;
        }
    }
    memset(top, 0, sizeof top);
    memset(weight, 0, sizeof weight);
    for (int m = 0; m < v->models; m++) {
        int above = 0;
        for (int i = 0; i < n; i++) {
            score[i] = score_of(v, m, i, t, z);
        }
        double low = order(score, n, floor(n * (1 - v->ratio))), high = order(score, n, n - 1);
        for (int i = 0; i < n; i++) {
            double s = high > low ? (fmax(score[i], low) - low) / (high - low) : high > 0 && score[i] >= high;
            assert_true(s >= 0 && s <= 1);
            above += s > 0;
            top[i] += s * size[m][i];
            weight[i] += s;
        }
        assert_true(n < 100 || abs(above - (int)(n * v->ratio)) <= 2);
    }
    for (int i = 0; i < n; i++) {
        out[i] = top[i] / fmax(weight[i], 1e-12);
    }
}

static const slot whole[] = {{"w", 1, {N}}},
                  three[] = {{"c", 1, {1000}}, {"a", 1, {1}}, {"b", 1, {N - 1001}}};

typedef struct {
    tarn_context cx;
    double base[N], t[T][N], x[T][N];
} fixture;

static int start(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    uint64_t seed = 5;
    open_context(&f->cx, 2, NULL);
    for (int i = 0; i < N; i++) {
        f->base[i] = 0;  // so that task vectors are the same numbers in f32 and f64
        for (int m = 0; m < T; m++) {
            double u = test_uniform(&seed), w = test_uniform(&seed);
            f->t[m][i] = f->x[m][i] = (float)(2 * u * u * w);
        }
    }
    *state = f;
    return 0;
}
static int stop(void **state) {
    fixture *f = *state;
    tarn_context_free(&f->cx);
    free(f);
    return 0;
}

static void settings(const variant *v, options *o) {
    set(o, "clamp", v->clamp);
    set(o, "density", v->ratio);
    choose(o, "inter", v->inter);
}

// Where scores lie close to the threshold, shares are small numbers of little precision, so that a
// quotient of them is compared by what it is made of: its error is bounded by that of the shares.
static void against_twin(void **state) {
    fixture *f = *state;
    static const variant variants[] = {{T, N, 0.0001, 0.1, "raw"}, {T, N, 0.01, 0.05, "scaled"},
                                       {T, N, 0.01, 0.05, "pairs"}, {2, N, 0.0001, 0.5, "raw"},
                                       {1, N, 0.0001, 0.1, "raw"}, {T, N, 0, 1, "pairs"}};
    static const cut cuts[] = {{TARN_F64, 1, whole}, {TARN_F64, 3, three}, {TARN_F32, 3, three}};
    static double want[N], y[N];
    const double *rows[T] = {f->x[0], f->x[1], f->x[2]};
    for (int v = 0; v < 6; v++) {
        twin(&variants[v], f->t, want);
        for (int c = 0; c < 3; c++) {
            options o = {0};
            settings(&variants[v], &o);
            run_cut(&f->cx, &cuts[c], "pcb", f->base, variants[v].models, rows, &o, N, y);
            int off = 0;
            for (int i = 0; i < N; i++) {
                off += !(fabs(y[i] - want[i]) <= (cuts[c].dtype == TARN_F64 ? 1e-9 : 1e-4));
            }
            if (off > 0) {
                fail_msg("variant %d, cut %d: %d of %d elements differ", v, c, off, N);
            }
        }
    }
}

// Two models of four entries, ratio 1/2, no clamping (rank floor(4 - 1) is the largest).
//   t_1: 4 2 0 -1      z: 1 1/2 0 -1/4    intra exp(2 z²): e² √e 1 e^(1/8)
//   t_2: 2 -4 1 0      z: 1/2 -1 1/4 0                      √e e² e^(1/8) 1
//   sum: 6 -2 1 -1     inter 1: tanh 24, tanh -4, 0, tanh 1    inter 2: tanh 12, tanh 8, tanh 1, 0
// Scores 1: e² -√e·tanh 4 0 e^(1/8) tanh 1, cut at rank 2, e^(1/8) tanh 1: shares 1 0 0 0.
// Scores 2: √e e² e^(1/8) tanh 1 0, cut at √e: shares 0 1 0 0.
static void by_hand(void **state) {
    fixture *f = *state;
    const cut c = {TARN_F64, 2, (const slot[]){{"p", 1, {3}}, {"q", 1, {1}}}};
    const double x[2][4] = {{4, 2, 0, -1}, {2, -4, 1, 0}}, *rows[2] = {x[0], x[1]}, zero[4] = {0};
    const variant v = {2, 4, 0, 0.5, "raw"};
    options o = {0};
    double y[4];
    settings(&v, &o);
    run_cut(&f->cx, &c, "pcb", zero, 2, rows, &o, 4, y);
    same_row(y, (double[]){4, -4, 0, 0}, 4, 1e-12, "the halves");
    // All of them share, and the second model counts twice: shares s = (score - least) / (most - least).
    double s[2][4], score[2][4] = {{exp(2) * tanh(24), exp(0.5) * tanh(-4), 0, exp(0.125) * tanh(1)},
                                   {exp(0.5) * tanh(12), exp(2) * tanh(8), exp(0.125) * tanh(1), 0}};
    for (int m = 0; m < 2; m++) {
        double least = m == 0 ? score[0][1] : 0, most = score[m][m];
        for (int i = 0; i < 4; i++) {
            s[m][i] = (score[m][i] - least) / (most - least);
        }
    }
    double want[4];
    for (int i = 0; i < 4; i++) {
        want[i] = 0.5 * (s[0][i] * x[0][i] + s[1][i] * 2 * x[1][i]) / (s[0][i] + s[1][i]);
    }
    o.v[1].number = 1;
    set(&o, "lambda", 0.5);
    set_of(&o, "weight", 0, 1);
    set_of(&o, "weight", 1, 2);
    run_cut(&f->cx, &c, "pcb", zero, 2, rows, &o, 4, y);
    same_row(y, want, 4, 1e-12, "all");
}

static void degenerate(void **state) {
    fixture *f = *state;
    static const tarn_dtype dtypes[] = {TARN_F64, TARN_F32, TARN_F16, TARN_BF16};
    const double base[4] = {1, 2, 3, 4}, x[4] = {2, 3, 4, 5}, *one[1] = {x}, *with_base[2] = {x, base};
    const double *bases[2] = {base, base};
    for (int d = 0; d < 4; d++) {
        const cut c = {dtypes[d], 3, (const slot[]){{"p", 1, {3}}, {"e", 1, {0}}, {"q", 1, {1}}}},
                  single = {dtypes[d], 1, (const slot[]){{"w", 1, {1}}}};
        double y[4];
        options o = {0};
        run_cut(&f->cx, &c, "pcb", base, 1, one, &o, 4, y);  // all scores equal and positive
        same_row(y, x, 4, 0, "an even task vector");
        run_cut(&f->cx, &c, "pcb", base, 2, with_base, &o, 4, y);  // the base has no share
        same_row(y, x, 4, 0, "with the base");
        run_cut(&f->cx, &c, "pcb", base, 2, bases, &o, 4, y);
        same_row(y, base, 4, 0, "nothing but zeros");
        run_cut(&f->cx, &single, "pcb", base, 1, one, &o, 1, y);
        same_row(y, x, 1, 0, "one element");
    }
}

// Whole-model reductions, two barriers in a chain: the same bytes for any number of threads.
static void threads(void **state) {
    fixture *f = *state;
    static const char *const methods[] = {"pcb", "emr", "consensus_ties"};
    static const cut c = {TARN_BF16, 3, three};
    static double y[4][N];
    const double *rows[T] = {f->x[0], f->x[1], f->x[2]};
    for (int k = 0; k < 3; k++) {
        options o = {0};
        if (k == 1) {
            set(&o, "task", 2);
        }
        for (int n = 0; n < 4; n++) {
            tarn_context cx;
            open_context(&cx, (const int[]){1, 2, 3, 8}[n], NULL);
            run_cut(&cx, &c, methods[k], f->base, T, rows, &o, N, y[n]);
            tarn_context_free(&cx);
            assert_memory_equal(y[n], y[0], sizeof y[n]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_twin), cmocka_unit_test(by_hand),
                                       cmocka_unit_test(degenerate), cmocka_unit_test(threads)};
    return cmocka_run_group_tests(tests, start, stop);
}
