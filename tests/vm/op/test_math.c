// SPDX-License-Identifier: Apache-2.0
// The elementary functions against long double, on dense samples and at special values; the tile
// kernels of every instruction set against the scalar functions, to the bit; the kernel objects
// call nothing of libm.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/op/kernel/kernel.h"
#include "vm/op/kernel/math.h"

static uint64_t next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}
static double between(uint64_t *s, double a, double b) {
    return a + (b - a) * ((double)(next(s) >> 11) * 0x1p-53);
}

// Distance in units of the last place of the exact value (of the smallest subnormal at least).
static double ulps(long double got, long double want, int digits, int least, long double max) {
    if (isnan(got) || isnan(want)) {
        return isnan(got) && isnan(want) ? 0.0 : (double)INFINITY;
    }
    int e;
    frexpl(want, &e);
    if (isinf(got) || isinf(want) || fabsl(want) > max) {
        // Within half a unit beyond the largest finite number either answer may come out.
        return got == want || (isinf(got) && fabsl(want) >= max && (got > 0) == (want > 0))
                   ? 0.0
                   : (double)INFINITY;
    }
    e = e < least ? least : e;
    return (double)(fabsl(got - want) / ldexpl(1.0L, e - digits));
}
static double ulps32(float got, long double want) {
    return ulps((long double)got, want, 24, -125, (long double)FLT_MAX);
}
static double ulps64(double got, long double want) {
    return ulps((long double)got, want, 53, -1021, (long double)DBL_MAX);
}

static long double sigmoidl(long double x) { return 1.0L / (1.0L + expl(-x)); }

typedef struct unary {
    const char *name;
    float (*f)(float);
    double (*d)(double);
    long double (*l)(long double);
    double bound32, bound64; // ulp
    struct {
        double a, b;
    } range[6];    // a < b: uniform in x; a > b: uniform in log2 |x| from b to a, both signs
    bool positive; // no negative arguments in logarithmic ranges
} unary;

#define F(name) #name, tk_##name##f, tk_##name
static const unary unaries[] = {
    {F(exp), expl, 0.51, 1.0, {{-745.2, 709.7}, {-1, 1}, {-104, 88.8}, {2, -60}}, false},
    {F(log), logl, 0.51, 1.0, {{0.5, 2}, {0.99, 1.01}, {1023, -1074}, {127, -149}}, true},
    {F(tanh), tanhl, 0.52, 1.6, {{-1, 1}, {-20, 20}, {5, -60}, {-1000, -1070}}, false},
    {F(sigmoid), sigmoidl, 0.51, 2.0, {{-745, 40}, {-5, 5}, {-104, 20}, {2, -60}}, false},
    {F(erf), erfl, 0.51, 1.7, {{-1, 1}, {-6, 6}, {3, -60}, {-1000, -1070}}, false},
    {F(sin), sinl, 0.51, 1.0, {{-1, 1}, {-100, 100}, {20, -60}, {62, 20}, {1023, 20}}, false},
    {F(cos), cosl, 0.51, 1.0, {{-1, 1}, {-100, 100}, {20, -60}, {62, 20}, {1023, 20}}, false},
    {F(acos), acosl, 0.51, 1.3, {{-1, 1}, {0.99, 1}, {0, -60}}, false},
};

static void test_unary_error(void **state) {
    enum { SAMPLES = 100000 };
    uint64_t s = 88172645463325252ULL;
    for (size_t i = 0; i < sizeof unaries / sizeof *unaries; i++) {
        const unary *u = &unaries[i];
        double worst32 = 0, worst64 = 0, at32 = 0, at64 = 0;
        for (int r = 0; r < 6; r++) {
            double a = u->range[r].a, b = u->range[r].b;
            for (int k = 0; a != b && k < SAMPLES; k++) {
                double x = a < b ? between(&s, a, b)
                                 : ldexp(between(&s, 1, 2), (int)floor(between(&s, b, a)));
                x = a > b && !u->positive && (next(&s) >> 40 & 1) ? -x : x;
                double e = ulps64(u->d(x), u->l((long double)x));
                if (e > worst64) {
                    worst64 = e;
                    at64 = x;
                }
                float y = (float)x;
                e = ulps32(u->f(y), u->l((long double)y));
                if (e > worst32 && (y != 0.0F || x == 0.0)) {
                    worst32 = e;
                    at32 = (double)y;
                }
            }
        }
        print_message("%-8s f32 %.4f ulp at %a, f64 %.4f at %a\n", u->name, worst32, at32, worst64,
                      at64);
        assert_true(worst32 <= u->bound32);
        assert_true(worst64 <= u->bound64);
    }
}

static void test_binary_error(void **state) {
    enum { SAMPLES = 300000 };
    uint64_t s = 1234567;
    double worst[4] = {0};
    for (int i = 0; i < SAMPLES; i++) {
        double y, x;
        int kind = i % 4;
        if (kind == 0) {
            y = between(&s, -1, 1);
            x = between(&s, -1, 1);
        } else {
            int span = kind == 1 ? 60 : kind == 2 ? 2040 : 140;
            y = ldexp(between(&s, -2, 2), (int)(next(&s) % (unsigned)span) - span / 2);
            x = ldexp(between(&s, -2, 2), (int)(next(&s) % (unsigned)span) - span / 2);
        }
        worst[0] = fmax(worst[0], ulps64(tk_atan2(y, x), atan2l((long double)y, (long double)x)));
        float yf = (float)y, xf = (float)x;
        if (isfinite(yf) && isfinite(xf)) {
            worst[1] =
                fmax(worst[1], ulps32(tk_atan2f(yf, xf), atan2l((long double)yf, (long double)xf)));
        }
        if (kind == 0) {
            x = between(&s, 0, 10);
            y = between(&s, -300, 300);
        } else if (kind == 1) {
            x = ldexp(between(&s, 1, 2), (int)(next(&s) % 2090) - 1070);
            y = between(&s, -1, 1);
        } else if (kind == 2) {
            x = between(&s, 0.9, 1.1);
            y = between(&s, -7000, 7000);
        } else {
            x = -(double)(1 + next(&s) % 1000);
            y = (double)(int)(next(&s) % 200) - 100;
        }
        worst[2] = fmax(worst[2], ulps64(tk_pow(x, y), powl((long double)x, (long double)y)));
        xf = (float)x;
        yf = (float)y;
        if (isfinite(xf)) {
            worst[3] =
                fmax(worst[3], ulps32(tk_powf(xf, yf), powl((long double)xf, (long double)yf)));
        }
    }
    print_message("atan2    f32 %.4f ulp, f64 %.4f\npow      f32 %.4f ulp, f64 %.4f\n", worst[1],
                  worst[0], worst[3], worst[2]);
    assert_true(worst[0] <= 2.0);
    assert_true(worst[1] <= 0.51);
    assert_true(worst[2] <= 1.0);
    assert_true(worst[3] <= 0.53);
}

// Doubles that come closest to a multiple of pi/2, and the like: the reductions must not lose them.
static void test_hard_angles(void **state) {
    const double hard[] = {0x1.6ac5b262ca1ffp+849,
                           0x1.921fb54442d18p+1,
                           0x1.921fb54442d18p+0,
                           0x1.2d97c7f3321d2p+2,
                           0x1.921fb54442d18p+20,
                           0x1.fffffffffffffp+1023,
                           0x1p20,
                           0x1.0000000000001p20,
                           0x1.0p61};
    for (size_t i = 0; i < sizeof hard / sizeof *hard; i++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            double x = sign * hard[i];
            assert_true(ulps64(tk_sin(x), sinl((long double)x)) <= 1.0);
            assert_true(ulps64(tk_cos(x), cosl((long double)x)) <= 1.0);
        }
    }
    for (int k = 1; k < 700000; k += 7) { // neighbours of multiples of pi/2
        double x = (double)((long double)k * 1.57079632679489661923132169163975144L);
        assert_true(ulps64(tk_sin(x), sinl((long double)x)) <= 1.0);
        assert_true(ulps64(tk_cos(x), cosl((long double)x)) <= 1.0);
    }
}

// ---- special values ----

static const double specials[] = {0.0,
                                  -0.0,
                                  1.0,
                                  -1.0,
                                  0.5,
                                  -0.5,
                                  2.0,
                                  -2.0,
                                  3.0,
                                  -3.0,
                                  4.0,
                                  1e-320,
                                  -1e-320,
                                  0x1p-1074,
                                  -0x1p-1074,
                                  0x1p-1022,
                                  0x1p-149,
                                  -0x1p-149,
                                  0x1p-126,
                                  1e300,
                                  -1e300,
                                  1e-300,
                                  709.0,
                                  -709.0,
                                  746.0,
                                  -746.0,
                                  88.0,
                                  -88.0,
                                  104.0,
                                  -104.0,
                                  0x1p52,
                                  0x1.0000000000001p52,
                                  0x1.fffffffffffffp52,
                                  0x1p53,
                                  -0x1p53,
                                  -0x1.0000000000001p52,
                                  0x1.fffffffffffffp1023,
                                  -0x1.fffffffffffffp1023,
                                  0x1.fffffep127,
                                  1e38,
                                  0x1.fffffffffffffp-1,
                                  0x1.0000000000001p0,
                                  0x1.fffffep-1,
                                  0x1.000002p0,
                                  1048576.0,
                                  1048577.0,
                                  2147483647.0,
                                  -2147483647.0,
                                  0.25,
                                  1e9,
                                  (double)INFINITY,
                                  -(double)INFINITY,
                                  (double)NAN};
enum { SPECIALS = sizeof specials / sizeof *specials };

// The same class as libm's answer: NaN, infinity, zero with its sign, or close.
static void agree(const char *what, double x, double y, double got, long double want, double bound,
                  bool single) {
    double e = single ? ulps32((float)got, want) : ulps64(got, want);
    bool zero = want == 0.0L;
    if (e > bound || (zero && (got != 0.0 || !signbit(got) != !signbit(want)))) {
        fail_msg("%s(%a, %a) = %a, expected %La", what, x, y, got, want);
    }
}

static void test_special_values(void **state) {
    for (size_t i = 0; i < sizeof unaries / sizeof *unaries; i++) {
        const unary *u = &unaries[i];
        for (int k = 0; k < SPECIALS; k++) {
            double x = specials[k];
            agree(u->name, x, 0, u->d(x), u->l((long double)x), u->bound64, false);
            float f = (float)x;
            agree(u->name, (double)f, 0, (double)u->f(f), u->l((long double)f), u->bound32, true);
        }
    }
    for (int i = 0; i < SPECIALS; i++) {
        for (int k = 0; k < SPECIALS; k++) {
            double x = specials[i], y = specials[k];
            float xf = (float)x, yf = (float)y;
            long double lx = (long double)x, ly = (long double)y;
            agree("atan2", x, y, tk_atan2(x, y), atan2l(lx, ly), 2.0, false);
            agree("pow", x, y, tk_pow(x, y), (long double)pow(x, y), 1.5, false);
            lx = (long double)xf;
            ly = (long double)yf;
            agree("atan2f", (double)xf, (double)yf, (double)tk_atan2f(xf, yf), atan2l(lx, ly), 0.51,
                  true);
            agree("powf", (double)xf, (double)yf, (double)tk_powf(xf, yf), powl(lx, ly), 0.53,
                  true);
        }
    }
}

// A NaN keeps sign and payload and becomes quiet; a made one is the positive default.
static void test_nan(void **state) {
    const uint64_t loud = 0xFFF4123456789ABCULL, quiet = loud | 0x8000000000000ULL;
    double x;
    memcpy(&x, &loud, sizeof x);
    for (size_t i = 0; i < sizeof unaries / sizeof *unaries; i++) {
        assert_int_equal(tk_bits(unaries[i].d(x)), quiet);
    }
    double other = tk_from_bits(0x7FF8000000000777ULL);
    assert_int_equal(tk_bits(tk_pow(other, x)), tk_bits(other));
    assert_int_equal(tk_bits(tk_pow(2.0, x)), quiet);
    assert_int_equal(tk_bits(tk_atan2(other, x)), tk_bits(other));
    assert_int_equal(tk_bits(tk_atan2(2.0, other)), tk_bits(other));
    assert_int_equal(tk_bits(tk_log(-1.0)), 0x7FF8000000000000ULL);
    assert_int_equal(tk_bits(tk_acos(2.0)), 0x7FF8000000000000ULL);
    assert_int_equal(tk_bits(tk_sin(-(double)INFINITY)), 0x7FF8000000000000ULL);
    assert_int_equal(tk_bitsf(tk_logf(-1.0F)), 0x7FC00000U);
}

// ---- every instruction set ----

static bool available(int isa) {
    return isa == TARN_ISA_V1 ||
           (isa == TARN_ISA_V3 && __builtin_cpu_supports("avx2") &&
            __builtin_cpu_supports("fma")) ||
           (isa == TARN_ISA_V4 && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"));
}

enum { N = TARN_TILE };
static _Alignas(64) double dx[N], dy[N], dz[N];
static _Alignas(64) float fx[N], fy[N], fz[N];

static void sample(uint64_t *s) {
    for (int i = 0; i < N; i++) {
        int kind = (int)(next(s) >> 33) % 4;
        dx[i] = kind == 0   ? tk_from_bits(next(s))
                : kind == 1 ? between(s, -1, 1)
                : kind == 2 ? between(s, -50, 50)
                            : specials[next(s) % SPECIALS];
        dy[i] = (next(s) & 256) ? between(s, -3, 3) : specials[next(s) % SPECIALS];
        uint64_t u = next(s) >> 16;
        fx[i] = kind == 0 ? tk_from_bitsf((uint32_t)u) : (float)dx[i];
        fy[i] = (float)dy[i];
    }
}

static int tile_of(const char *name) {
    static const struct {
        const char *name;
        int tile;
    } rows[] = {{"exp", TARN_K_exp},         {"log", TARN_K_log},  {"tanh", TARN_K_tanh},
                {"sigmoid", TARN_K_sigmoid}, {"erf", TARN_K_erf},  {"sin", TARN_K_sin},
                {"cos", TARN_K_cos},         {"acos", TARN_K_acos}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, name) == 0) {
            return rows[i].tile;
        }
    }
    fail();
    return 0;
}

static void same64(const char *name, int isa, int i, double want) {
    if (tk_bits(dz[i]) != tk_bits(want)) {
        fail_msg("%s on isa %d: %a, %a gives %a, scalar %a", name, isa, dx[i], dy[i], dz[i], want);
    }
}
static void same32(const char *name, int isa, int i, float want) {
    if (tk_bitsf(fz[i]) != tk_bitsf(want)) {
        fail_msg("%sf on isa %d: %a, %a gives %a, scalar %a", name, isa, (double)fx[i],
                 (double)fy[i], (double)fz[i], (double)want);
    }
}

static void test_instruction_sets(void **state) {
    uint64_t s = 42;
    const void *in64[2] = {dx, dy}, *in32[2] = {fx, fy};
    tarn_attr attr = {0};
    tarn_tile_args a = {.attr = &attr};
    for (int isa = 0; isa < TARN_ISA_COUNT; isa++) {
        if (!available(isa)) {
            print_message("isa %d is not available here\n", isa);
            continue;
        }
        const tarn_kernels *t = tarn_kernels_get((tarn_isa)isa);
        for (int round = 0; round < 60; round++) {
            int n = round % 3 == 0 ? N : 1 + (int)(next(&s) % N);
            sample(&s);
            for (size_t u = 0; u < sizeof unaries / sizeof *unaries; u++) {
                int k = tile_of(unaries[u].name);
                t->tile[k][TARN_W_F64](n, in64, dz, &a);
                t->tile[k][TARN_W_F32](n, in32, fz, &a);
                for (int i = 0; i < n; i++) {
                    same64(unaries[u].name, isa, i, unaries[u].d(dx[i]));
                    same32(unaries[u].name, isa, i, unaries[u].f(fx[i]));
                }
            }
            t->tile[TARN_K_pow][TARN_W_F64](n, in64, dz, &a);
            t->tile[TARN_K_pow][TARN_W_F32](n, in32, fz, &a);
            for (int i = 0; i < n; i++) {
                same64("pow", isa, i, tk_pow(dx[i], dy[i]));
                same32("pow", isa, i, tk_powf(fx[i], fy[i]));
            }
            t->tile[TARN_K_atan2][TARN_W_F64](n, in64, dz, &a);
            t->tile[TARN_K_atan2][TARN_W_F32](n, in32, fz, &a);
            for (int i = 0; i < n; i++) {
                same64("atan2", isa, i, tk_atan2(dx[i], dy[i]));
                same32("atan2", isa, i, tk_atan2f(fx[i], fy[i]));
            }
        }
    }
}

static void test_maps(void **state) {
    uint64_t s = 7;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < N; i++) {
            dx[i] = between(&s, -1000, 1000);
            fx[i] = (float)dx[i];
        }
        if (round % 2) {
            dx[next(&s) % N] = 1e22;
            fx[next(&s) % N] = -1e22F;
        }
        tk_sin_map(N, dx, dz);
        tk_sinf_map(N, fx, fz);
        for (int i = 0; i < N; i++) {
            same64("sin map", 0, i, tk_sin(dx[i]));
            same32("sin map", 0, i, tk_sinf(fx[i]));
        }
        tk_cos_map(N, dx, dz);
        tk_cosf_map(N, fx, fz);
        for (int i = 0; i < N; i++) {
            same64("cos map", 0, i, tk_cos(dx[i]));
            same32("cos map", 0, i, tk_cosf(fx[i]));
        }
    }
}

// Undefined symbols of the kernel objects: memory functions, sanitizers, our own, nothing else.
static void test_no_libm(void **state) {
    FILE *p =
        popen("for v in v1 v3 v4; do nm -u '" TARN_BINARY_DIR
              "/CMakeFiles/tarn_kernel_'$v'.dir'/vm/op/kernel/*.o || echo ' U nm-failed'; done",
              "r");
    assert_non_null(p);
    char line[512], symbol[256];
    int objects = 0;
    static const char *const allowed[] = {"memcpy", "memset",           "memmove",
                                          "tarn_",  "__asan",           "__ubsan",
                                          "__tsan", "__stack_chk_fail", "_GLOBAL_OFFSET"};
    while (fgets(line, sizeof line, p)) {
        if (strstr(line, ".o:")) {
            objects++;
        }
        if (sscanf(line, " U %255s", symbol) != 1) {
            continue;
        }
        bool known = false;
        for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
            known = known || strncmp(symbol, allowed[i], strlen(allowed[i])) == 0;
        }
        if (!known) {
            pclose(p);
            fail_msg("a kernel object calls %s", symbol);
        }
    }
    pclose(p);
    assert_true(objects >= 9); // three sources, three instruction sets
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary_error), cmocka_unit_test(test_binary_error),
        cmocka_unit_test(test_hard_angles), cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_nan),         cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_maps),        cmocka_unit_test(test_no_libm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
