// SPDX-License-Identifier: Apache-2.0
// Published results of mergekit's numeric functions on one small tensor (the f32 vectors of our
// guide's Appendix A, with seven decimals): the methods of ours that compute the same, each with
// the options that make it mergekit's.
#include "tests/merge/method/values.h"

#include <math.h>

enum { N = 8 };

static const float base_numbers[N] = {0.5F, -1.25F, 2.0F, 0.125F, 1.0F, 0.75F, -0.5F, -3.0F};
static const float offsets[3][N] = {
    {0.10F, -0.20F, 0.30F, 0.05F, -0.40F, 0.15F, 0.25F, -0.35F},
    {-0.12F, -0.22F, 0.08F, 0.45F, 0.33F, 0.02F, -0.28F, -0.17F},
    {0.07F, 0.26F, -0.11F, 0.01F, -0.05F, 0.38F, 0.21F, -0.44F},
};

typedef struct {
    tarn_context cx;
    tarn_model *base, *m[3];
} fixture;

static int start(void **state) {
    static fixture f;
    double x[N];
    open_context(&f.cx, 2, NULL);
    for (int i = 0; i < N; i++) {
        x[i] = base_numbers[i];
    }
    f.base = model_of(&f.cx, N, x);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < N; i++) {
            x[i] = base_numbers[i] + offsets[k][i];  // formed in f32
        }
        f.m[k] = model_of(&f.cx, N, x);
    }
    *state = &f;
    return 0;
}

static int stop(void **state) {
    fixture *f = *state;
    for (int k = 0; k < 3; k++) {
        tarn_model_release(f->m[k]);
    }
    tarn_model_release(f->base);
    tarn_context_free(&f->cx);
    return 0;
}

static options weighted(void) {
    options o = {0};
    set_of(&o, "weight", 0, 0.6);
    set_of(&o, "weight", 1, 0.4);
    set_of(&o, "weight", 2, 0.3);
    return o;
}

// Within 1e-6, relative or absolute: the vectors have seven decimals, and mergekit rounds to f32
// after each step where we round once.
static void expect(const double *got, const double *want) {
    for (int i = 0; i < N; i++) {
        if (!(fabs(got[i] - want[i]) <= 1e-6 + 1e-6 * fabs(want[i]))) {
            fail_msg("element %d: %.9g, expected %.9g", i, got[i], want[i]);
        }
    }
}

static void linear(void **state) {
    fixture *f = *state;
    double y[N];
    options o = weighted();
    apply(&f->cx, "linear", NULL, 3, f->m, &o, N, y);
    expect(y, (double[]){0.5253847, -1.3500001, 2.1376922, 0.2888462, 0.9053847, 0.913077,
                         -0.4223077, -3.3153846});
    set(&o, "normalize", 0);
    apply(&f->cx, "linear", NULL, 3, f->m, &o, N, y);
    expect(y, (double[]){0.683, -1.7550001, 2.7789998, 0.3755, 1.177, 1.187, -0.549, -4.3099999});
}

static void task_arithmetic(void **state) {
    fixture *f = *state;
    double y[N];
    options o = weighted();
    set(&o, "lambda", 0.8);
    apply(&f->cx, "task_arithmetic", f->base, 3, f->m, &o, N, y);
    expect(y,
           (double[]){0.5264, -1.3540001, 2.1431999, 0.2954, 0.9016, 0.9196, -0.4192, -3.3280001});
}

static void ties(void **state) {
    fixture *f = *state;
    double y[N];
    options o = weighted();
    set(&o, "density", 0.5);
    choose(&o, "trim", "tensor");
    apply(&f->cx, "ties", f->base, 3, f->m, &o, N, y);
    expect(y, (double[]){0.5, -1.47, 2.3, 0.575, 0.6, 1.13, -0.2633334, -3.3799999});
    choose(&o, "elect", "count");
    apply(&f->cx, "ties", f->base, 3, f->m, &o, N, y);
    expect(y, (double[]){0.5, -0.99, 2.3, 0.575, 1.33, 1.13, -0.2633334, -3.3799999});
}

static void slerp(void **state) {
    fixture *f = *state;
    double y[N];
    options o = {0};
    tarn_model *two[2] = {f->base, f->m[0]};
    set(&o, "t", 0.3);
    apply(&f->cx, "slerp", NULL, 2, two, &o, N, y);
    expect(y, (double[]){0.5310422, -1.3125639, 2.0940857, 0.1402813, 0.8815856, 0.7965633,
                         -0.4257512, -3.1110454});
}

static void karcher(void **state) {
    fixture *f = *state;
    double y[N];
    options o = {0};
    set(&o, "max_iter", 10);
    set(&o, "tol", 1e-5);
    apply(&f->cx, "karcher", NULL, 3, f->m, &o, N, y);
    expect(y, (double[]){0.5209982, -1.3108174, 2.1045048, 0.2963786, 0.9685218, 0.9424496,
                         -0.4427995, -3.3473668});
}

static void model_stock(void **state) {
    fixture *f = *state;
    double y[N];
    options o = {0};
    set(&o, "norm_floor", 1e-6);
    apply(&f->cx, "model_stock", f->base, 3, f->m, &o, N, y);
    expect(y, (double[]){0.5025133, -1.2580423, 2.0135715, 0.1506352, 0.9939682, 0.7776458,
                         -0.4909523, -3.0482545});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear), cmocka_unit_test(task_arithmetic), cmocka_unit_test(ties),
        cmocka_unit_test(slerp),  cmocka_unit_test(karcher),         cmocka_unit_test(model_stock),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
