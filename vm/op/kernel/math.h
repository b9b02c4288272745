// SPDX-License-Identifier: Apache-2.0
// Elementary functions in plain C: exp log tanh erf sigmoid sin cos acos atan2 pow, in f32
// (tk_expf) and f64 (tk_exp). Nothing of libm is called but sqrt and fabs, which are instructions.
// Every function is a chain of additions, multiplications, divisions and selections without
// branches, so that gcc vectorises a loop over it (-fno-math-errno -fno-trapping-math), and without
// fused operations (-ffp-contract=off), so that the bits are the same on every instruction set. f32
// functions are evaluated in f64 with shorter polynomials and rounded once at the end.
// Polynomials and quotients interpolate the function at Chebyshev nodes, computed with 300 bits.
//
// Largest error in ulp, measured by tests/vm/op/test_math.c against long double functions:
//         exp   log   tanh  erf   sigm  sin   cos   acos  atan2 pow
//   f32   0.51  0.51  0.51  0.51  0.51  0.51  0.51  0.51  0.51  0.52
//   f64   0.91  0.84  1.40  1.50  1.91  0.90  0.91  1.12  1.73  0.90
//
// A NaN operand yields a quiet NaN with its sign and payload (of the first, if both are NaN); an
// invalid one (log of -1) yields the positive quiet NaN. The mode is round to nearest, subnormals
// on.
//
// sin and cos have a branch: tk_sin_near and its kin are the fast forms, for |x| <= TK_NEAR only;
// beyond, tk_sin takes a slow exact reduction (tk_sin_far). Kernels use tk_sin_map, which runs the
// fast form over the whole array and mends the far elements afterwards.
#ifndef TARN_OP_KERNEL_MATH_H
#define TARN_OP_KERNEL_MATH_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

// ---- tools ----

// Horner's rule in x: TK_H3(x, a, b, c, d) = a + x (b + x (c + x d)).
#define TK_H1(x, a, b) ((a) + (x) * (b))
#define TK_H2(x, a, ...) ((a) + (x)*TK_H1(x, __VA_ARGS__))
#define TK_H3(x, a, ...) ((a) + (x)*TK_H2(x, __VA_ARGS__))
#define TK_H4(x, a, ...) ((a) + (x)*TK_H3(x, __VA_ARGS__))
#define TK_H5(x, a, ...) ((a) + (x)*TK_H4(x, __VA_ARGS__))
#define TK_H6(x, a, ...) ((a) + (x)*TK_H5(x, __VA_ARGS__))
#define TK_H7(x, a, ...) ((a) + (x)*TK_H6(x, __VA_ARGS__))
#define TK_H8(x, a, ...) ((a) + (x)*TK_H7(x, __VA_ARGS__))
#define TK_H9(x, a, ...) ((a) + (x)*TK_H8(x, __VA_ARGS__))

// Adding and subtracting rounds to the nearest integer, ties to even, for |x| <= 2^51; the sum's
// low bits are that integer.
#define TK_MAGIC 0x1.8p52

#define TK_LN2 0x1.62e42fefa39efp-1
#define TK_LN2_HI 0x1.62e42feep-1 // 33 bits: its product with an exponent is exact
#define TK_LN2_LO 0x1.a39ef35793c76p-33
#define TK_LOG2E 0x1.71547652b82fep+0
#define TK_PI_HI 0x1.921fb54442d18p+1
#define TK_PI_LO 0x1.1a62633145c07p-53
#define TK_3PI4_HI 0x1.2d97c7f3321d2p+1
#define TK_3PI4_LO 0x1.a79394c9e8a0ap-54

#define TK_SIGN 0x8000000000000000ULL
#define TK_NAN (tk_from_bits(0x7ff8000000000000ULL))
#define TK_INF (tk_from_bits(0x7ff0000000000000ULL))

static inline uint64_t tk_bits(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline double tk_from_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline uint32_t tk_bitsf(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float tk_from_bitsf(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static inline double tk_abs(double x) { return tk_from_bits(tk_bits(x) & ~TK_SIGN); }

// The magnitude of x (taken as not negative) with the sign of y.
static inline double tk_with_sign(double x, double y) {
    return tk_from_bits(tk_bits(x) | (tk_bits(y) & TK_SIGN));
}

static inline double tk_clamp(double x, double low, double high) { // NaN stays
    x = x < low ? low : x;
    return x > high ? high : x;
}

// h + l = a + b exactly.
static inline double tk_two_sum(double a, double b, double *l) {
    double h = a + b;
    double c = h - a;
    *l = (a - (h - c)) + (b - c);
    return h;
}

// h + l = a b to about 2^-106 (Dekker; halves cut by masks, not by a multiplication that could
// overflow).
static inline double tk_two_mul(double a, double b, double *l) {
    const uint64_t mask = ~0x7ffffffULL;
    double h = a * b;
    double ah = tk_from_bits(tk_bits(a) & mask), bh = tk_from_bits(tk_bits(b) & mask);
    double al = a - ah, bl = b - bh;
    *l = ((ah * bh - h) + ah * bl + al * bh) + al * bl;
    return h;
}

// ---- exp ----

// exp(x + tail) = (1 + t) 2^k: returns t, and k in the low bits of *magic.
static inline double tk_exp_reduced(double x, double tail, double *magic) {
    double m = x * TK_LOG2E + TK_MAGIC;
    double k = m - TK_MAGIC;
    double hi = x - k * TK_LN2_HI;
    double lo = k * TK_LN2_LO - tail;
    double r = hi - lo;
    double s = r * r;
    double even = TK_H5(s, 0x1.0000000000000p-1, 0x1.5555555555556p-5, 0x1.6c16c16c162d4p-10,
                        0x1.a01a01a6d889cp-16, 0x1.27e4db646b17ep-22, 0x1.1f730349868cep-29);
    double odd = TK_H4(s, 0x1.5555555555557p-3, 0x1.11111111100dcp-7, 0x1.a01a01abe7fe1p-13,
                       0x1.71de0231960ebp-19, 0x1.af4de97ca4194p-26);
    *magic = m;
    return hi + (s * (even + r * odd) - lo);
}

// 2^k from the low bits of u, -1022 <= k <= 1023.
static inline double tk_two_to(uint64_t u) { return tk_from_bits((u + 1023) << 52); }

// The exponential of x + tail for any x that is not NaN or infinite by accident: NaN gives a NaN.
static inline double tk_exp_tail(double x, double tail) {
    double m;
    double p = 1.0 + tk_exp_reduced(tk_clamp(x, -746.0, 710.0), tail, &m);
    // In two steps, so that results overflow and become subnormal by one rounding.
    double half = (m - TK_MAGIC) * 0.5 + TK_MAGIC;
    return p * tk_two_to(tk_bits(half)) * tk_two_to(tk_bits(m) - tk_bits(half));
}

// |x| < 700.
static inline double tk_exp_normal(double x) {
    double m;
    double t = tk_exp_reduced(x, 0.0, &m);
    return (1.0 + t) * tk_two_to(tk_bits(m));
}

static inline double tk_exp(double x) {
    double y = tk_exp_tail(x, 0.0);
    return x != x ? x + x : y;
}

// To 2^-32, for |x| < 700: the kernel of the f32 functions.
static inline double tk_exp_short(double x) {
    double m = x * TK_LOG2E + TK_MAGIC;
    double r = x - (m - TK_MAGIC) * TK_LN2;
    double s = r * r;
    double p = TK_H2(s, 0x1.0000000b9129bp-1, 0x1.5554e9063586ep-5, 0x1.6d43246b523b4p-10) +
               r * TK_H2(s, 0x1.5555555a78ed4p-3, 0x1.1110e0f238322p-7, 0x1.a124f19fe89acp-13);
    return (1.0 + (r + s * p)) * tk_two_to(tk_bits(m));
}

static inline float tk_expf(float x) {
    float y = (float)tk_exp_short(tk_clamp((double)x, -150.0, 130.0));
    return x != x ? x + x : y;
}

// exp(x) for x <= 0 in f32 arithmetic, to 1.1 units in the last place, twice as many lanes as tk_expf
// has: 2^k (1 + r + r^2 p(r)). Below -87 it is 0: beside the largest term, which is 1, nothing is lost.
static inline float tk_expf_below(float x) {
    float c = x < -87.0f ? -87.0f : x;
    float t = c * 0x1.715476p+0f + 0x1.8p23f, k = t - 0x1.8p23f;
    float r = (c - k * 0x1.63p-1f) - k * -0x1.bd0106p-13f;
    float p = 0x1.a151bap-13f;
    p = p * r + 0x1.6d4364p-10f;
    p = p * r + 0x1.1110c6p-7f;
    p = p * r + 0x1.5554e8p-5f;
    p = p * r + 0x1.555556p-3f;
    p = p * r + 0x1.0p-1f;
    float y = (p * (r * r) + r) + 1.0f, scale;
    uint32_t u;
    memcpy(&u, &t, sizeof u);
    u = (u + 127) << 23;
    memcpy(&scale, &u, sizeof scale);
    return x < -87.0f ? 0.0f : y * scale;
}

// ---- log ----

// x = m 2^k, sqrt(1/2) <= m < sqrt(2), for normal x > 0; yields m.
static inline double tk_split(double x, double *k) {
    const uint64_t one = 0x3ff0000000000000ULL;
    uint64_t u = tk_bits(x);
    uint64_t t = u + (one - 0x3fe6a09e667f3bcdULL);
    *k = tk_from_bits((t >> 52) | 0x4330000000000000ULL) - (0x1p52 + 1023.0);
    return tk_from_bits(u - (t & 0xfff0000000000000ULL) + one);
}

static inline double tk_split_any(double x, double *k) { // subnormal x too
    double scaled = x < 0x1p-1022 ? x * 0x1p54 : x;
    double m = tk_split(scaled, k);
    *k -= x < 0x1p-1022 ? 54.0 : 0.0;
    return m;
}

static inline double tk_log(double x) {
    double k;
    double f = tk_split_any(x, &k) - 1.0;
    double s = f / (2.0 + f);
    double z = s * s, w = z * z;
    double even = TK_H3(w, 0x1.5555555555555p-1, 0x1.2492492476a1ap-2, 0x1.745cf8e4bba1bp-3,
                        0x1.0fbde0f4ad17bp-3);
    double odd = TK_H3(w, 0x1.9999999999a39p-2, 0x1.c71c7201a55d7p-3, 0x1.3b1c3c1c81c8fp-3,
                       0x1.0c0aff044a970p-3);
    double half = 0.5 * f * f;
    double tail = s * (half + z * (even + z * odd)) + k * TK_LN2_LO;
    double y = k * TK_LN2_HI - ((half - tail) - f);
    y = x == 0.0 ? -TK_INF : y;
    y = x < 0.0 ? TK_NAN : y;
    y = x == TK_INF ? x : y;
    return x != x ? x + x : y;
}

// To 2^-35, for normal x > 0.
static inline double tk_log_short(double x) {
    double k;
    double f = tk_split(x, &k) - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double p = TK_H3(z, 0x1.5555554ba8b0ep-1, 0x1.9999eb9d6ddfep-2, 0x1.245c273432202p-2,
                     0x1.ddd4dad98e4c4p-3);
    return k * TK_LN2 + s * (2.0 + z * p);
}

static inline float tk_logf(float x) {
    float y = (float)tk_log_short((double)x);
    y = x == 0.0F ? -(float)TK_INF : y;
    y = x < 0.0F ? (float)TK_NAN : y;
    y = x == (float)TK_INF ? x : y;
    return x != x ? x + x : y;
}

// ---- tanh, sigmoid, erf ----

// |x| < 9/16: x + x z P(z) / Q(z) with z = x^2; beyond: 1 - 2 / (exp(2 |x|) + 1).
static inline double tk_tanh(double x) {
    double a = tk_abs(x);
    a = a > 22.0 ? 22.0 : a;
    double z = a * a;
    double e = tk_exp_normal(2.0 * a);
    double p = z * TK_H2(z, -0x1.5555555555555p-2, -0x1.4fe56107fbe7cp-6, -0x1.a1f45318c8277p-13);
    double q = TK_H3(z, 1.0, 0x1.d8949bcb18d3bp-2, 0x1.7da9d4a9c42c8p-6, 0x1.b165e3d0ea5f9p-13);
    double d = (a < 0.5625 ? p : 2.0) / (a < 0.5625 ? q : e + 1.0);
    double y = a < 0.5625 ? a + a * d : 1.0 - d;
    return x != x ? x + x : tk_with_sign(y, x);
}

// Below 2^-12 tanh(x) rounds to x, and the formula would lose what cancels.
static inline float tk_tanhf(float x) {
    double a = tk_abs((double)x);
    double e = tk_exp_short(2.0 * (a > 20.0 ? 20.0 : a));
    double y = 1.0 - 2.0 / (e + 1.0);
    y = a < 0x1p-12 ? a : y;
    return x != x ? x + x : (float)tk_with_sign(y, (double)x);
}

// 1 / (1 + e) or e / (1 + e) with e = exp(-|x|), corrected for what 1 + e rounded off.
static inline double tk_sigmoid(double x) {
    double e = tk_exp_tail(-tk_abs(x), 0.0);
    double d = 1.0 + e;
    double lost = e - (d - 1.0);
    double q = (x < 0.0 ? e : 1.0) / d;
    double y = q - q * lost * (x < 0.0 ? 1.0 - q : q);
    return x != x ? x + x : y;
}

static inline float tk_sigmoidf(float x) {
    float y = (float)(1.0 / (1.0 + tk_exp_short(tk_clamp(-(double)x, -130.0, 150.0))));
    return x != x ? x + x : y;
}

// |x| < 1: x + x P(z) / Q(z) with z = x^2; beyond: 1 - exp(-z) P(x) / Q(x), up to 6 where it is 1.
static inline double tk_erf(double x) {
    double a = tk_abs(x);
    a = a > 6.0 ? 6.0 : a;
    double z = a * a, w = z * z;
    double p = TK_H2(w, 0x1.06eba8214db69p-3, -0x1.8c41ea4f1a4d1p-5, -0x1.0461f0938045cp-11) +
               z * TK_H2(w, -0x1.4498cf0dff8eep-2, -0x1.21171efea4b04p-7, -0x1.5ca26665e4731p-16);
    double q = TK_H2(w, 1.0, 0x1.8082a96922d40p-4, 0x1.6bb7b3786916ep-11) +
               z * TK_H2(w, 0x1.d7b351c0292ccp-2, 0x1.5eca2957c0ad9p-7, 0x1.5e14dde65e1ddp-16);
    double pc = TK_H4(z, 0x1.ffffff2f0d941p-1, 0x1.b36e0252531d4p+0, 0x1.74501731bba05p-2,
                      0x1.cf6c531f35583p-7, 0x1.ecd91bf8c6952p-42) +
                a * TK_H3(z, 0x1.db665427dd45bp+0, 0x1.ee5761b4fb497p-1, 0x1.747bcbf8f1b8ep-4,
                          0x1.1e0820dfdec9ep-10);
    double qc = TK_H4(z, 1.0, 0x1.0473ddec7d179p+2, 0x1.ca7c198145061p+0, 0x1.4c15e04969f21p-3,
                      0x1.fafa6469b585ap-10) +
                a * TK_H3(z, 0x1.7e21e28a9696cp+1, 0x1.a984fa0342d4cp+1, 0x1.505ed7419a43cp-1,
                          0x1.9ab2b263f58eap-6);
    double d = (a < 1.0 ? p : pc) / (a < 1.0 ? q : qc);
    double y = a < 1.0 ? a + a * d : 1.0 - tk_exp_normal(-z) * d;
    return x != x ? x + x : tk_with_sign(y, x);
}

// x P(x^2 - 7.75), up to sqrt(15.5), where erf rounds to 1 in f32.
static inline float tk_erff(float x) {
    double a = tk_abs((double)x);
    double b = a > 0x1.f7efbeb8d4f12p+1 ? 0x1.f7efbeb8d4f12p+1 : a;
    double u = b * b - 7.75;
    double v = u * u;
    double even = TK_H9(v, 0x1.6fcd22af732c0p-2, 0x1.237b692a0653fp-9, 0x1.a51fe278dbcdap-16,
                        0x1.22419d11dfff6p-22, 0x1.481a23d1d6432p-29, 0x1.218c253335db3p-36,
                        0x1.85f4c6993bc15p-44, 0x1.c68394d3025ebp-52, 0x1.ed0bc1056161bp-61,
                        0x1.dd434f1c65465p-68);
    double odd = TK_H8(v, -0x1.7b26f0c788f4fp-6, -0x1.ea838bc69f035p-13, -0x1.642c8f5003f78p-19,
                       -0x1.c16681d0cca93p-26, -0x1.c31b34b7c0a4ap-33, -0x1.55b382ef6d7a9p-40,
                       -0x1.d0c784231d29dp-48, -0x1.dfff999bc2f61p-57, -0x1.37219ba408223p-63);
    double y = b * (even + u * odd);
    y = y > 1.0 ? 1.0 : y;
    return x != x ? x + x : (float)tk_with_sign(y, (double)x);
}

// ---- sin, cos ----

#define TK_NEAR 0x1p20 // the fast forms take |x| up to here

#define TK_TWO_OVER_PI 0x1.45f306dc9c883p-1
#define TK_HALF_PI_1 0x1.921fb544p+0  // 33 bits
#define TK_HALF_PI_2 0x1.0b4611a6p-34 // the next 33
#define TK_HALF_PI_3 0x1.3198a2e037073p-69
#define TK_HALF_PI_23 0x1.0b4611a626331p-34 // the next 53

// sin(r + t) times the sign and choice that the quadrant q asks for; q + 1 makes it the cosine.
static inline double tk_quadrant(double r, double t, uint64_t q) {
    double z = r * r, w = z * z;
    double ps = TK_H2(w, -0x1.5555555555555p-3, -0x1.a01a019e820acp-13, -0x1.ae6008d0f0520p-26) +
                z * TK_H2(w, 0x1.1111111110babp-7, 0x1.71de37946eb45p-19, 0x1.5e0a4fb47ace3p-33);
    double s = r + (r * z * ps + t * (1.0 - 0.5 * z));
    double pc =
        TK_H2(w, 0x1.5555555555555p-5, 0x1.a01a019f4ddfdp-16, 0x1.1eeb67d014ecep-29) +
        z * TK_H2(w, -0x1.6c16c16c16963p-10, -0x1.27e4fa16cc1bcp-22, -0x1.907cd8f26aa3fp-37);
    double h = 0.5 * z;
    double v = 1.0 - h;
    double c = v + (((1.0 - v) - h) + (w * pc - r * t));
    uint64_t swap = 0 - (q & 1);
    return tk_from_bits(((tk_bits(c) & swap) | (tk_bits(s) & ~swap)) ^ ((q & 2) << 62));
}

// x = r + t + q pi/2 for 0 <= x <= TK_NEAR, by a quarter turn of 33 + 33 + 53 bits.
static inline double tk_turns(double x, double *t, uint64_t *q) {
    double m = x * TK_TWO_OVER_PI + TK_MAGIC;
    double k = m - TK_MAGIC;
    double e;
    double r = tk_two_sum(x - k * TK_HALF_PI_1, -(k * TK_HALF_PI_2), &e);
    *q = tk_bits(m);
    return tk_two_sum(r, e - k * TK_HALF_PI_3, t);
}

static inline double tk_sin_near(double x) {
    double t;
    uint64_t q;
    double r = tk_turns(tk_abs(x), &t, &q);
    double y = tk_from_bits(tk_bits(tk_quadrant(r, t, q)) ^ (tk_bits(x) & TK_SIGN));
    return x != x ? x + x : y;
}

static inline double tk_cos_near(double x) {
    double t;
    uint64_t q;
    double r = tk_turns(tk_abs(x), &t, &q);
    double y = tk_quadrant(r, t, q + 1);
    return x != x ? x + x : y;
}

static inline double tk_quadrant_short(double x, uint64_t add) { // 0 <= x <= TK_NEAR
    double m = x * TK_TWO_OVER_PI + TK_MAGIC;
    double k = m - TK_MAGIC;
    double r = (x - k * TK_HALF_PI_1) - k * TK_HALF_PI_23;
    uint64_t q = tk_bits(m) + add;
    double z = r * r;
    double s = r + r * z *
                       TK_H3(z, -0x1.555555545d0d9p-3, 0x1.11110decc7187p-7, -0x1.a013a45587fc0p-13,
                             0x1.6dbcfb3cb85c8p-19);
    double c = 1.0 + z * (z * TK_H3(z, 0x1.55555555027acp-5, -0x1.6c16bf534c846p-10,
                                    0x1.a015c25343172p-16, -0x1.25239a89d2d5fp-22) -
                          0.5);
    uint64_t swap = 0 - (q & 1);
    return tk_from_bits(((tk_bits(c) & swap) | (tk_bits(s) & ~swap)) ^ ((q & 2) << 62));
}

static inline float tk_sinf_near(float x) {
    double y = tk_quadrant_short(tk_abs((double)x), 0);
    float f = (float)tk_from_bits(tk_bits(y) ^ (tk_bits((double)x) & TK_SIGN));
    return x != x ? x + x : f;
}

static inline float tk_cosf_near(float x) {
    float f = (float)tk_quadrant_short(tk_abs((double)x), 1);
    return x != x ? x + x : f;
}

// The same for finite x > TK_NEAR. With x = M 2^s, bits of 2/pi before the (s-1)th make multiples
// of four quarter turns, and what follows the next 192 is below 2^-136: an integer product of M
// with that window holds quadrant and fraction.
static inline double tk_turns_far(double x, double *t, uint64_t *q) {
    static const uint32_t two_over_pi[] = {
        // 2/pi after the point, 40 words
        0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,
        0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e,
        0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b,
        0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,
        0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,
        0x1f8d5d08, 0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d};
    __extension__ typedef unsigned __int128 wide;
    uint64_t u = tk_bits(x);
    int s = (int)(u >> 52) - 1075; // -32 … 971
    uint64_t m = (u & 0xfffffffffffffULL) | 0x10000000000000ULL;
    int first = s < 2 ? 0 : s - 2;
    uint64_t win[3]; // bits first … first + 191 of 2/pi, high word first
    for (int i = 0; i < 3; i++) {
        int at = first + 64 * i, w = at / 32, b = at % 32;
        wide three =
            (wide)two_over_pi[w] << 64 | (wide)two_over_pi[w + 1] << 32 | two_over_pi[w + 2];
        win[i] = (uint64_t)(three >> (32 - b));
    }
    wide low = (wide)win[2] * m, mid = (wide)win[1] * m + (uint64_t)(low >> 64);
    wide high = (wide)win[0] * m + (uint64_t)(mid >> 64);
    uint64_t word[4] = {(uint64_t)low, (uint64_t)mid, (uint64_t)high, (uint64_t)(high >> 64)};
    int drop = first + 192 - s - 128; // fraction bits below the 128 that are kept: 62 … 96
    wide frac;
    uint64_t whole;
    if (drop < 64) {
        wide a = (wide)word[1] << 64 | word[0], b = (wide)word[3] << 64 | word[2];
        frac = drop == 0 ? a : (a >> drop) | (b << (128 - drop));
        whole = (uint64_t)(b >> drop);
    } else {
        wide a = (wide)word[2] << 64 | word[1];
        drop -= 64;
        frac = drop == 0 ? a : (a >> drop) | ((wide)word[3] << (128 - drop));
        whole = word[3] >> drop;
    }
    bool negative = (frac >> 127) != 0; // more than half a quarter turn: to the nearest
    whole += negative;
    frac = negative ? (wide)0 - frac : frac;
    // The fraction as h + l, leading zeros shifted out first so that both are full.
    int zeros = 0;
    while (frac != 0 && (frac >> 127) == 0) {
        frac <<= 1;
        zeros++;
    }
    double scale = tk_two_to((uint64_t)(int64_t)-zeros);
    double h = (double)(uint64_t)(frac >> 75) * 0x1p-53; // the top 53 bits
    double l = (double)(uint64_t)((frac << 53) >> 64) * 0x1p-117;
    double e;
    double r = tk_two_mul(h, TK_PI_HI * 0.5, &e);
    e += h * (TK_PI_LO * 0.5) + l * (TK_PI_HI * 0.5);
    double y = tk_two_sum(r * scale, e * scale, t);
    *t = negative ? -*t : *t;
    *q = whole;
    return negative ? -y : y;
}

static inline double tk_sin_far(double x) {
    double t;
    uint64_t q;
    if (!(tk_abs(x) < TK_INF)) {
        return x != x ? x + x : TK_NAN;
    }
    double r = tk_turns_far(tk_abs(x), &t, &q);
    return tk_from_bits(tk_bits(tk_quadrant(r, t, q)) ^ (tk_bits(x) & TK_SIGN));
}

static inline double tk_cos_far(double x) {
    double t;
    uint64_t q;
    if (!(tk_abs(x) < TK_INF)) {
        return x != x ? x + x : TK_NAN;
    }
    double r = tk_turns_far(tk_abs(x), &t, &q);
    return tk_quadrant(r, t, q + 1);
}

static inline double tk_sin(double x) {
    return tk_abs(x) > TK_NEAR ? tk_sin_far(x) : tk_sin_near(x);
}

static inline double tk_cos(double x) {
    return tk_abs(x) > TK_NEAR ? tk_cos_far(x) : tk_cos_near(x);
}

static inline float tk_sinf(float x) {
    return tk_abs((double)x) > TK_NEAR ? (float)tk_sin_far((double)x) : tk_sinf_near(x);
}

static inline float tk_cosf(float x) {
    return tk_abs((double)x) > TK_NEAR ? (float)tk_cos_far((double)x) : tk_cosf_near(x);
}

// y[i] = f(x[i]), the near form for all and the far one where it has to be; y may be x only if the
// caller holds no other view of it (the far elements are found in the first pass).
#define TK_TRIG_MAP(name, type)                                                                    \
    static inline void tk_##name##_map(int64_t n, const type *x, type *y) {                        \
        unsigned far = 0;                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            far |= tk_abs((double)x[i]) > TK_NEAR ? 1U : 0U;                                       \
        }                                                                                          \
        if (far) {                                                                                 \
            for (int64_t i = 0; i < n; i++) {                                                      \
                y[i] = tk_##name(x[i]);                                                            \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                          \
            y[i] = tk_##name##_near(x[i]);                                                         \
        }                                                                                          \
    }
TK_TRIG_MAP(sin, double)
TK_TRIG_MAP(cos, double)
TK_TRIG_MAP(sinf, float)
TK_TRIG_MAP(cosf, float)
#undef TK_TRIG_MAP

// ---- acos, atan2 ----

// base + h (1 + R), one rounding that matters.
static inline double tk_compose(double base, double base_low, double h, double r) {
    return base + (h + (base_low + h * r));
}

// asin(s) = s + s R(s^2) for s <= 1/2; acos(x) = pi/2 - asin(x), beyond 1/2 2 asin(sqrt((1-x)/2)).
static inline double tk_acos(double x) {
    double a = tk_abs(x);
    double z = a > 0.5 ? (1.0 - a) * 0.5 : a * a;
    double w = z * z;
    double s = a > 0.5 ? 2.0 * __builtin_sqrt(z) : -a;
    double h = tk_from_bits(tk_bits(s) ^ (tk_bits(x) & TK_SIGN));
    double even = TK_H6(w, 0x1.5555555555556p-3, 0x1.6db6db6e31f13p-5, 0x1.6e8bb1c8209a2p-6,
                        0x1.c9cf07674736ap-7, 0x1.52420b04b37bep-7, 0x1.1d189408314eep-6,
                        0x1.d72b2bc8155f8p-6);
    double odd = TK_H5(w, 0x1.3333333332ecap-4, 0x1.f1c71c1db0623p-6, 0x1.1c4d35cf95421p-6,
                       0x1.782651caa6547p-7, 0x1.65a9c4dfcf8b2p-8, -0x1.e6aaa8a0a04ccp-7);
    double turn = a > 0.5 ? (x < 0.0 ? 1.0 : 0.0) : 0.5;
    double y = tk_compose(turn * TK_PI_HI, turn * TK_PI_LO, h, z * (even + z * odd));
    y = a > 1.0 ? TK_NAN : y;
    return x != x ? x + x : y;
}

static inline float tk_acosf(float x) {
    double a = tk_abs((double)x);
    double z = a > 0.5 ? (1.0 - a) * 0.5 : a * a;
    double s = a > 0.5 ? 2.0 * __builtin_sqrt(z) : -a;
    double h = tk_from_bits(tk_bits(s) ^ (tk_bits((double)x) & TK_SIGN));
    double r = TK_H6(z, 0x1.5555555c0171dp-3, 0x1.33331ecf8b70bp-4, 0x1.6dc0f007c13e8p-5,
                     0x1.efedf83ab6506p-6, 0x1.82db23768c84fp-6, 0x1.5a80a068e3ee2p-7,
                     0x1.fb7ca379d49c6p-6);
    double turn = a > 0.5 ? (x < 0.0F ? 1.0 : 0.0) : 0.5;
    double y = turn * TK_PI_HI + (h + h * (z * r));
    y = a > 1.0 ? TK_NAN : y;
    return x != x ? x + x : (float)y;
}

// With t = smaller / larger of |y| and |x|, atan(t) = t + t z A(z), z = t^2; beyond tan(pi/8),
// atan(t) = pi/4 + atan((t - 1) / (t + 1)), formed from the operands to spare a rounding.
static inline double tk_atan2(double y, double x) {
    double ay = tk_abs(y), ax = tk_abs(x);
    double big = ay > ax ? ay : ax, small = ay > ax ? ax : ay;
    double scale = big > 0x1p1000 ? 0x1p-2 : 1.0; // neither the sum nor the comparison may lose
    scale = big < 0x1p-900 ? 0x1p100 : scale;
    double both = small == TK_INF ? 1.0 : big * scale; // two infinities make a diagonal
    small = small == TK_INF ? 1.0 : small * scale;
    big = both == 0.0 ? 1.0 : both;
    double sum = small + big, difference = small - big;
    double eighth = small > 0x1.a8279ap-2 * big ? 0.25 : 0.0;
    double t = (eighth > 0.0 ? difference : small) / (eighth > 0.0 ? sum : big);
    double z = t * t, w = z * z;
    double even = TK_H5(w, -0x1.5555555555555p-2, -0x1.249249248d7e8p-3, -0x1.745d165de6c19p-4,
                        -0x1.110e87efaa766p-4, -0x1.ac7a81ce7905cp-5, -0x1.1b32e90dc1b73p-5);
    double odd = TK_H5(w, 0x1.9999999999953p-3, 0x1.c71c71c304728p-4, 0x1.3b1392d8695c8p-4,
                       0x1.e19a11516d8ebp-5, 0x1.74dd831f5c013p-5, 0x1.0ad19d106080cp-6);
    // The octant: angle = turn pi +- (eighth pi + atan(t)).
    double side = tk_with_sign(1.0, x);
    double turn = ay > ax ? 0.5 : (side < 0.0 ? 1.0 : 0.0);
    double flip = ay > ax ? -side : side;
    turn += flip * eighth;
    double base = turn == 0.75 ? TK_3PI4_HI : turn * TK_PI_HI;
    double low = turn == 0.75 ? TK_3PI4_LO : turn * TK_PI_LO;
    double v = tk_with_sign(tk_compose(base, low, flip * t, z * (even + z * odd)), y);
    v = y != y ? y + y : v;
    double first = y != y ? v : x + x;
    return x != x ? first : v;
}

static inline float tk_atan2f(float y, float x) {
    double ay = tk_abs((double)y), ax = tk_abs((double)x);
    double big = ay > ax ? ay : ax, small = ay > ax ? ax : ay;
    double t = small / (big == 0.0 ? 1.0 : big);
    t = small == TK_INF ? 1.0 : t;
    double z = t * t, w = z * z;
    double even = TK_H5(w, -0x1.5555554e74b35p-2, -0x1.249035356f79fp-3, -0x1.72251c83739b9p-4,
                        -0x1.d7eaf8f924fc4p-5, -0x1.3b92d4977ae50p-6, -0x1.eae3fce3e9b57p-11);
    double odd = TK_H4(w, 0x1.99998c8c70e06p-3, 0x1.c6d94a4e392f4p-4, 0x1.2fd217ccc6a7ap-4,
                       0x1.39fa7ae12ac35p-5, 0x1.96cc733874da8p-8);
    double side = tk_with_sign(1.0, (double)x);
    double turn = ay > ax ? 0.5 : (side < 0.0 ? 1.0 : 0.0);
    double h = ay > ax ? -side * t : side * t;
    double r = turn * TK_PI_HI + (h + h * (z * (even + z * odd)));
    float v = (float)tk_with_sign(r, (double)y);
    v = y != y ? y + y : v;
    float first = y != y ? v : x + x;
    return x != x ? first : v;
}

// ---- pow ----

// log(x) = h + l to about 2^-65, for x > 0.
static inline double tk_log_wide(double x, double *l) {
    double k;
    double m = tk_split_any(x, &k);
    double f = m - 1.0;
    double d = m + 1.0, dl = m - (d - 1.0);
    double s = f / d, e;
    double p = tk_two_mul(s, d, &e);
    double sl = (((f - p) - e) - s * dl) / d;
    double zl;
    double z = tk_two_mul(s, s, &zl);
    zl += 2.0 * s * sl;
    // log m = 2 s + s z (2/3 + z W(z)), the 2/3 and what surrounds it in two words.
    double v = z * z;
    double even = TK_H3(v, 0x1.999999999999ap-2, 0x1.c71c71c6ea5acp-3, 0x1.3b1395b82701ep-3,
                        0x1.df7ba1f4809c3p-4);
    double odd = TK_H3(v, 0x1.2492492492522p-2, 0x1.745d177ad436ap-3, 0x1.1118cd67251c5p-3,
                       0x1.e03a7acf07f85p-4);
    double g = z * (even + z * odd);
    double c = 0x1.5555555555555p-1 + g;
    double cl = (g - (c - 0x1.5555555555555p-1)) + (0x1.5555555555555p-55 + 0.4 * zl);
    double ul;
    double u = tk_two_mul(z, c, &ul);
    ul += z * cl + zl * c;
    double tl;
    double t = tk_two_mul(s, u, &tl);
    tl += s * ul + sl * u;
    double a = 2.0 * s + t;
    double al = ((2.0 * s - a) + t) + (2.0 * sl + tl);
    double kh = k * TK_LN2_HI;
    double h = kh + a;
    double low = ((kh - h) + a) + (al + k * TK_LN2_LO);
    double y = h + low;
    *l = (h - y) + low;
    return y;
}

// Distance of a >= 0 from the nearest integer.
static inline double tk_fraction(double a) {
    a = a > 0x1p52 ? 0x1p52 : a;
    return tk_abs(a - ((a + 0x1p52) - 0x1p52));
}

// Signs, zeros, infinities and NaN of IEEE 754's pow around r = |x|^y, which is right for finite x
// other than 0.
static inline double tk_pow_cases(double x, double y, double r) {
    double ax = tk_abs(x), ay = tk_abs(y);
    double zero = y < 0.0 ? TK_INF : 0.0, infinite = y < 0.0 ? 0.0 : TK_INF;
    double broken = tk_fraction(ay) > 0.0 ? TK_NAN : r;
    r = x < 0.0 ? broken : r;
    r = ax == 0.0 ? zero : r;
    r = ax == TK_INF ? infinite : r;
    double mirrored = r * tk_with_sign(1.0, x);
    r = tk_fraction(ay * 0.5) == 0.5 ? mirrored : r; // odd
    r = y != y ? y + y : r;
    r = x != x ? x + x : r;
    r = x == 1.0 ? 1.0 : r;
    return y == 0.0 ? 1.0 : r;
}

static inline double tk_pow(double x, double y) {
    double l, e;
    double h = tk_log_wide(tk_abs(x), &l);
    double c = tk_clamp(y, -0x1p80, 0x1p80); // |log x| >= 2^-53 or 0: the result is settled
    double p = tk_two_mul(c, h, &e);
    e = tk_abs(p) > 800.0 ? 0.0 : e + c * l;
    return tk_pow_cases(x, y, tk_exp_tail(p, e));
}

static inline float tk_powf(float x, float y) {
    double h = tk_log_short(tk_abs((double)x));
    double c = tk_clamp((double)y, -0x1p80, 0x1p80);
    double r = tk_exp_short(tk_clamp(c * h, -150.0, 130.0));
    return (float)tk_pow_cases((double)x, (double)y, r);
}

#endif
