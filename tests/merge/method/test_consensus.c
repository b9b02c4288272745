// SPDX-License-Identifier: Apache-2.0
// TALL masks and the consensus over them: an example worked by hand in numbers that f32 holds exactly,
// the ends of k, the one-task identity, the closed criterion, and masks stored and read back.
#include "tests/merge/method/values.h"

#include <math.h>

enum { N = 8, T = 3 };

// The task vectors by columns, their sum, and which of them pass |t| > |sum - t|:
//   t_1    1    1   -2    0    4    1    0   0.5
//   t_2    1   -1    1    0   -1    1    0   0.25
//   t_3    1    2   -1    0   -1    2    0   0
//   sum    3    2   -2    0    2    4    0   0.75
//   mask   -    3    1    -    1    -    -   1
// and with lambda = 1/2, |t| > |sum - t| / 2 (at equality not):
//   mask   -   1,3  1,3   -    1    3    -   1
static const double base_row[N] = {0.5, -1, 2, 3, 0, 1, -4, 8};
static const double task[T][N] = {{1, 1, -2, 0, 4, 1, 0, 0.5}, {1, -1, 1, 0, -1, 1, 0, 0.25},
                                  {1, 2, -1, 0, -1, 2, 0, 0}};
static const double sum[N] = {3, 2, -2, 0, 2, 4, 0, 0.75};
static const double word_at_one[N] = {0, 4, 1, 0, 1, 0, 0, 1};
static const double word_at_half[N] = {0, 5, 5, 0, 1, 4, 0, 1};

static const slot pieces_of[] = {{"p", 1, {5}}, {"q", 1, {3}}};
static const cut pieces = {TARN_F32, 2, pieces_of};

typedef worked fixture;

static int start(void **state) {
    static fixture f;
    worked_open(&f, &pieces, T, N, base_row, task[0]);
    *state = &f;
    return 0;
}
static int stop(void **state) {
    worked_close(*state);
    return 0;
}

static int bits(double word) {
    int n = 0;
    for (int w = (int)word; w; w >>= 1) {
        n += w & 1;
    }
    return n;
}

static void by_hand(void **state) {
    fixture *f = *state;
    double y[N], want[N];
    for (int half = 0; half < 2; half++) {
        for (int k = 0; k <= T + 1; k++) {
            options o = {0};
            set(&o, "k", k);
            set(&o, "lambda", 0.5);
            set(&o, "mask_lambda", half ? 0.5 : 1);
            for (int i = 0; i < N; i++) {
                int used = bits((half ? word_at_half : word_at_one)[i]);
                want[i] = base_row[i] + (used >= k ? 0.5 * sum[i] : 0);
            }
            run_cut(&f->cx, &pieces, "consensus_ta", base_row, T, f->rows, &o, N, y);
            same_row(y, want, N, 0, "consensus_ta");
        }
    }
    // One mask_lambda per task: the third task's masks are those of 1/2, the others' of 1.
    options o = {0};
    set(&o, "k", 1);
    set_of(&o, "mask_lambda", 0, 1);
    set_of(&o, "mask_lambda", 1, 1);
    set_of(&o, "mask_lambda", 2, 0.5);
    for (int i = 0; i < N; i++) {
        int word = ((int)word_at_one[i] & 3) | ((int)word_at_half[i] & 4);
        want[i] = base_row[i] + (word ? sum[i] : 0);
    }
    run_cut(&f->cx, &pieces, "consensus_ta", base_row, T, f->rows, &o, N, y);
    same_row(y, want, N, 0, "consensus_ta, per task");
}

// k = 0 is the method that the masks would prune, k above the number of tasks the base.
static void ends_of_k(void **state) {
    fixture *f = *state;
    double y[N], want[N];
    options o = {0}, plain = {0};
    set(&o, "k", 0);
    set(&o, "lambda", 0.3);
    set(&plain, "lambda", 0.3);
    for (int k = 0; k < T; k++) {
        set_of(&o, "weight", k, 0.3 + k);
        set_of(&plain, "weight", k, 0.3 + k);
    }
    run_cut(&f->cx, &pieces, "consensus_ta", base_row, T, f->rows, &o, N, y);
    run_cut(&f->cx, &pieces, "task_arithmetic", base_row, T, f->rows, &plain, N, want);
    assert_memory_equal(y, want, sizeof y);
    for (int mean = 0; mean < 2; mean++) {
        options c = o, t = plain;
        set(&c, "density", 0.5);
        set(&t, "density", 0.5);
        set(&c, "normalize", mean);
        set(&t, "normalize", mean);
        run_cut(&f->cx, &pieces, "consensus_ties", base_row, T, f->rows, &c, N, y);
        run_cut(&f->cx, &pieces, "ties", base_row, T, f->rows, &t, N, want);
        assert_memory_equal(y, want, sizeof y);
        set(&c, "k", 0);
        c.v[0].number = T + 1;
        run_cut(&f->cx, &pieces, "consensus_ties", base_row, T, f->rows, &c, N, y);
        assert_memory_equal(y, base_row, sizeof y);
    }
}

// The masks of consensus_ties compare the trimmed and summed vector with whole task vectors. Half of
// each task vector, ties to the lowest index:   t_1: 1 1 -2 4   t_2: 1 -1 1 -1   t_3: 1 2 -1 2 of
// places (0 1 2 4), (0 1 2 4), (0 1 2 5); elected sums 3, 3, -3, 4, 0, 2 in places 0 1 2 4 3 5.
static void ties_by_hand(void **state) {
    fixture *f = *state;
    static const double merged[N] = {3, 3, -3, 0, 4, 2, 0, 0};
    double y[N], want[N];
    for (int k = 0; k <= T; k++) {
        options o = {0};
        set(&o, "k", k);
        set(&o, "density", 0.5);
        for (int i = 0; i < N; i++) {
            int used = 0;
            for (int t = 0; t < T; t++) {
                used += fabs(task[t][i]) > fabs(merged[i] - task[t][i]);
            }
            want[i] = base_row[i] + (used >= k ? merged[i] : 0);
        }
        run_cut(&f->cx, &pieces, "consensus_ties", base_row, T, f->rows, &o, N, y);
        same_row(y, want, N, 0, "consensus_ties");
    }
    options o = {0};
    set(&o, "density", 0.5);
    choose(&o, "vector", "ties");
    tarn_model *kept = planned_of(&f->cx, "tall_masks", f->base, T, f->m, &o);
    assert_int_equal(tensor_of(&f->cx, kept, "p", N, y), 5);
    same_row(y, merged, 5, 0, "the merged vector");
    assert_int_equal(tensor_of(&f->cx, kept, "p.mask", N, y), 5);
    for (int i = 0; i < 5; i++) {
        for (int t = 0; t < T; t++) {
            assert_true(((int)y[i] >> t & 1) == (fabs(task[t][i]) > fabs(merged[i] - task[t][i])));
        }
    }
    tarn_model_release(kept);
}

// With one task a mask holds exactly where the task vector is not zero, whatever mask_lambda is.
static void one_task(void **state) {
    fixture *f = *state;
    static const double lambdas[] = {0, 0.2, 1, 1e6};
    double y[N], want[N];
    for (int l = 0; l < 4; l++) {
        options o = {0}, first = {0};
        set(&o, "mask_lambda", lambdas[l]);
        tarn_model *kept = planned_of(&f->cx, "tall_masks", f->base, 1, f->m, &o);
        assert_int_equal(tensor_of(&f->cx, kept, "p.mask", N, y), 5);
        assert_int_equal(tensor_of(&f->cx, kept, "q.mask", N - 5, y + 5), 3);
        for (int i = 0; i < N; i++) {
            want[i] = task[0][i] != 0;
        }
        same_row(y, want, N, 0, "mask of one task");
        set(&first, "task", 1);
        tarn_model *again = planned_of(&f->cx, "unmask", f->base, 1, &kept, &first);
        assert_int_equal(row_of(&f->cx, again, N, y), N);
        same_row(y, f->x[0], N, 0, "rebuilt");
        tarn_model_release(again);
        tarn_model_release(kept);
    }
}

static tarn_dtype dtype_of(const tarn_model *m, const char *name) {
    int64_t at = tarn_model_find(m, name, strlen(name));
    assert_true(at >= 0);
    return m->slots[at].dtype;
}

// What is stored, and every task's model rebuilt from it: base + mask sum.
static void stored(void **state) {
    fixture *f = *state;
    double y[64];
    options o = {0};
    set(&o, "mask_lambda", 0.5);
    tarn_model *kept = planned_of(&f->cx, "tall_masks", f->base, T, f->m, &o);
    assert_int_equal(kept->n, 8);
    assert_true(kept->mass == 0);
    assert_int_equal(dtype_of(kept, "p.mask"), TARN_U8);
    assert_int_equal(tensor_of(&f->cx, kept, "p.mask", 64, y), 5);
    same_row(y, word_at_half, 5, 0, "p.mask");
    assert_int_equal(tensor_of(&f->cx, kept, "q", 64, y), 3);
    same_row(y, sum + 5, 3, 0, "q");
    assert_int_equal(dtype_of(kept, "p.used"), TARN_I64);
    assert_int_equal(tensor_of(&f->cx, kept, "p.used", 64, y), T + 1);
    same_row(y, (double[]){2, 1, 2, 0}, T + 1, 0, "p.used");
    for (int t = 0; t < T; t++) {
        double want[N];
        options which = {0};
        set(&which, "task", t + 1);
        set(&which, "lambda", 2);
        tarn_model *again = planned_of(&f->cx, "unmask", f->base, 1, &kept, &which);
        for (int i = 0; i < N; i++) {
            want[i] = base_row[i] + ((int)word_at_half[i] >> t & 1 ? 2 * sum[i] : 0);
        }
        assert_int_equal(again->n, 2);
        assert_int_equal(row_of(&f->cx, again, N, y), N);
        same_row(y, want, N, 0, "rebuilt");
        tarn_model_release(again);
    }
    tarn_model_release(kept);
}

// More tasks take wider integers; every bit comes back. Task t alone changes element t, by 1.
static void wide(void **state) {
    fixture *f = *state;
    enum { MOST = 53 };
    static const struct {
        int tasks;
        tarn_dtype dtype;
    } size[] = {{8, TARN_U8}, {9, TARN_U16}, {17, TARN_U32}, {32, TARN_U32}, {MOST, TARN_U64}};
    static double zero[MOST], x[MOST], y[MOST];
    tarn_model *m[MOST], *base = model_of(&f->cx, MOST, zero);
    for (int t = 0; t < MOST; t++) {
        memset(x, 0, sizeof x);
        x[t] = 1;
        m[t] = model_of(&f->cx, MOST, x);
    }
    for (int s = 0; s < 5; s++) {
        options none = {0};
        tarn_model *kept = planned_of(&f->cx, "tall_masks", base, size[s].tasks, m, &none);
        assert_int_equal(dtype_of(kept, "w.mask"), size[s].dtype);
        tensor_of(&f->cx, kept, "w.mask", MOST, y);
        for (int t = 0; t < size[s].tasks; t++) {
            assert_true(y[t] == ldexp(1, t));
            options which = {0};
            set(&which, "task", t + 1);
            tarn_model *again = planned_of(&f->cx, "unmask", base, 1, &kept, &which);
            double back[MOST];
            row_of(&f->cx, again, MOST, back);
            for (int i = 0; i < MOST; i++) {
                assert_true(back[i] == (i == t));
            }
            tarn_model_release(again);
        }
        tarn_model_release(kept);
    }
    for (int t = 0; t < MOST; t++) {
        tarn_model_release(m[t]);
    }
    tarn_model_release(base);
}

// mask_lambda = 1 gives the least distance to each fine-tuned model, in L1 and in L2: there is no need
// to search for it.
static void closed_criterion(void **state) {
    fixture *f = *state;
    enum { MANY = 3000 };
    static const double lambda[] = {1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9, 1.1, 1.5, 3};
    static double base[MANY], x[T][MANY], y[MANY];
    uint64_t seed = 3;
    tarn_model *m[T], *b = model_of(&f->cx, MANY, base);
    for (int t = 0; t < T; t++) {
        for (int i = 0; i < MANY; i++) {
            x[t][i] = (float)test_uniform(&seed);
        }
        m[t] = model_of(&f->cx, MANY, x[t]);
    }
    for (int t = 0; t < T; t++) {
        double least[2] = {0, 0};
        for (int l = 0; l < 10; l++) {
            options o = {0}, which = {0};
            double off[2] = {0, 0};
            set(&o, "mask_lambda", lambda[l]);
            set(&which, "task", t + 1);
            tarn_model *kept = planned_of(&f->cx, "tall_masks", b, T, m, &o);
            tarn_model *again = planned_of(&f->cx, "unmask", b, 1, &kept, &which);
            row_of(&f->cx, again, MANY, y);
            for (int i = 0; i < MANY; i++) {
                off[0] += fabs(y[i] - x[t][i]);
                off[1] += (y[i] - x[t][i]) * (y[i] - x[t][i]);
            }
            for (int p = 0; p < 2; p++) {
                least[p] = l == 0 ? off[p] : least[p];
                assert_true(l == 0 || off[p] > least[p]);
            }
            tarn_model_release(again);
            tarn_model_release(kept);
        }
    }
    for (int t = 0; t < T; t++) {
        tarn_model_release(m[t]);
    }
    tarn_model_release(b);
}

static void expect_error(tarn_context *cx, const char *name, tarn_model *base, int k, tarn_model *const *m,
                         const options *o, const char *code, const char *part) {
    tarn_error err = {0};
    tarn_model *out = NULL, *loaded = NULL;
    tarn_status s = tarn_method_apply(cx, tarn_method_find(name), base, k, m, o->n, o->v, NULL, &out, &err);
    s = s == TARN_OK ? tarn_model_load(cx, out, &loaded, &err) : s;
    tarn_model_release(loaded);
    tarn_model_release(out);
    if (s == TARN_OK || strcmp(err.code, code) != 0 || !strstr(err.message, part)) {
        fail_msg("%s: \"%s\" [%s], expected %s with \"%s\"", name, err.message, err.code, code, part);
    }
}

static void refused(void **state) {
    fixture *f = *state;
    options none = {0}, fourth = {0}, first = {0}, each = {0};
    double density[2] = {0.5, 0.25};
    set(&fourth, "task", 4);
    set(&first, "task", 1);
    each.v[each.n++] = (tarn_value){.name = "density", .model = -1, .each = density};
    tarn_model *kept = planned_of(&f->cx, "tall_masks", f->base, T, f->m, &none), *part;
    tarn_error err = {0};
    expect_error(&f->cx, "unmask", f->base, 1, &kept, &fourth, "OptionRange", "masks are of 3 tasks");
    expect_error(&f->cx, "unmask", f->base, 1, &f->m[0], &first, "MissingTensor", "p.mask");
    expect_error(&f->cx, "unmask", f->base, 1, &kept, &none, "MissingOption", "task");
    expect_error(&f->cx, "consensus_ties", f->base, T, f->m, &each, "OptionType", "density");
    OK(tarn_model_only(&f->cx, kept, (unsigned char[]){1, 1, 1, 1, 0, 1, 1, 1}, &part, &err));  // without q
    expect_error(&f->cx, "unmask", f->base, 1, &part, &first, "MissingTensor", "no tensor q");
    tarn_model_release(part);
    tarn_model_release(kept);
}

// Through a file and back, its plan run again from the file alone. mask_lambda is 1/2 in p, 1 in q.
static void saved(void **state) {
    fixture *f = *state;
    tarn_error err = {0};
    tarn_save_options s = {0};
    char folder[] = "/tmp/tarn-consensus-XXXXXX", path[5][128], command[128];
    assert_non_null(mkdtemp(folder));
    tarn_model *in[4] = {f->base, f->m[0], f->m[1], f->m[2]}, *opened[4], *kept, *back, *again;
    for (int k = 0; k < 4; k++) {
        snprintf(path[k], sizeof *path, "%s/%d.safetensors", folder, k);
        OK(tarn_model_save(&f->cx, in[k], path[k], &s, &err));
        OK(tarn_model_open(&f->cx, path[k], NULL, &opened[k], &err));
    }
    options two = {0}, third = {0};
    double each[2] = {0.5, 1};
    two.v[two.n++] = (tarn_value){.name = "mask_lambda", .model = -1, .each = each};
    set(&third, "task", 3);
    snprintf(path[4], sizeof *path, "%s/kept", folder);
    kept = planned_of(&f->cx, "tall_masks", opened[0], T, opened + 1, &two);
    OK(tarn_model_save(&f->cx, kept, path[4], &s, &err));
    OK(tarn_model_open(&f->cx, path[4], NULL, &back, &err));
    again = planned_of(&f->cx, "unmask", opened[0], 1, &back, &third);
    double y[N], want[N];
    row_of(&f->cx, again, N, y);
    for (int i = 0; i < N; i++) {
        want[i] = base_row[i] + ((int)(i < 5 ? word_at_half : word_at_one)[i] >> 2 & 1 ? sum[i] : 0);
    }
    same_row(y, want, N, 0, "from a file");
    char out[2][128];
    bool same = false;
    snprintf(out[0], sizeof *out, "%s", path[4]);
    snprintf(out[1], sizeof *out, "%s/model", folder);
    OK(tarn_model_save(&f->cx, again, out[1], &s, &err));
    for (int k = 0; k < 2; k++) {
        tarn_text report = {0};
        OK(tarn_replay(&f->cx, out[k], 0, NULL, &same, &report, &err));
        assert_true(same);
        tarn_text_free(&report);
    }
    tarn_model_release(again);
    tarn_model_release(back);
    tarn_model_release(kept);
    for (int k = 0; k < 4; k++) {
        tarn_model_release(opened[k]);
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),  cmocka_unit_test(ends_of_k), cmocka_unit_test(ties_by_hand),
        cmocka_unit_test(one_task), cmocka_unit_test(stored),    cmocka_unit_test(wide),
        cmocka_unit_test(closed_criterion), cmocka_unit_test(refused), cmocka_unit_test(saved),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
