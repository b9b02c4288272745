// SPDX-License-Identifier: Apache-2.0
// Tile functions of the element-wise operations: plain loops that the compiler vectorises. One
// macro per shape of operation; a table at the end.
#include <math.h>
#include <string.h>

#include "vm/op/kernel/isa.h"
#include "vm/op/kernel/kernel.h"
#include "vm/op/kernel/math.h"
#include "vm/op/kernel/random.h"

#define UNUSED (void)a, (void)in

#define UNARY(name, tag, T, R, expr)                                                            \
    static void name##_##tag(int64_t n, const void *const *in, void *out,                       \
                             const tarn_tile_args *a) {                                         \
        UNUSED;                                                                                 \
        const T *restrict px = __builtin_assume_aligned(in[0], 64);                             \
        R *restrict r = __builtin_assume_aligned(out, 64);                                      \
        for (int64_t i = 0; i < n; i++) {                                                       \
            T x = px[i];                                                                        \
            r[i] = (R)(expr);                                                                   \
        }                                                                                       \
    }
#define BINARY(name, tag, T, R, expr)                                                           \
    static void name##_##tag(int64_t n, const void *const *in, void *out,                       \
                             const tarn_tile_args *a) {                                         \
        UNUSED;                                                                                 \
        const T *px = __builtin_assume_aligned(in[0], 64);                                      \
        const T *py = __builtin_assume_aligned(in[1], 64);                                      \
        R *restrict r = __builtin_assume_aligned(out, 64);                                      \
        for (int64_t i = 0; i < n; i++) {                                                       \
            T x = px[i], y = py[i];                                                             \
            r[i] = (R)(expr);                                                                   \
        }                                                                                       \
    }
#define UNARY_FLOAT(name, e32, e64)   \
    UNARY(name, f32, float, float, e32) \
    UNARY(name, f64, double, double, e64)
#define BINARY_FLOAT(name, e32, e64)   \
    BINARY(name, f32, float, float, e32) \
    BINARY(name, f64, double, double, e64)
#define UNARY_NUM(name, expr)              \
    UNARY(name, f32, float, float, expr)   \
    UNARY(name, f64, double, double, expr) \
    UNARY(name, i64, int64_t, int64_t, expr)
#define BINARY_NUM(name, expr)              \
    BINARY(name, f32, float, float, expr)   \
    BINARY(name, f64, double, double, expr) \
    BINARY(name, i64, int64_t, int64_t, expr)
#define COMPARE(name, op)                               \
    BINARY(name, f32, float, unsigned char, x op y)     \
    BINARY(name, f64, double, unsigned char, x op y)    \
    BINARY(name, i64, int64_t, unsigned char, x op y)   \
    BINARY(name, bool, unsigned char, unsigned char, x op y)

// Integer arithmetic wraps, through unsigned.
#define WRAP(op) (int64_t)((uint64_t)x op(uint64_t) y)
BINARY_FLOAT(add, x + y, x + y)
BINARY(add, i64, int64_t, int64_t, WRAP(+))
BINARY_FLOAT(sub, x - y, x - y)
BINARY(sub, i64, int64_t, int64_t, WRAP(-))
BINARY_FLOAT(mul, x *y, x *y)
BINARY(mul, i64, int64_t, int64_t, WRAP(*))
BINARY_FLOAT(div, x / y, x / y)
BINARY_FLOAT(pow, tk_powf(x, y), tk_pow(x, y))
BINARY_FLOAT(atan2, tk_atan2f(x, y), tk_atan2(x, y))
BINARY_NUM(minimum, (x < y || x != x) ? x : y)
BINARY_NUM(maximum, (x > y || x != x) ? x : y)
UNARY_FLOAT(neg, -x, -x)
UNARY(neg, i64, int64_t, int64_t, (int64_t)(0 - (uint64_t)x))
UNARY_FLOAT(abs, __builtin_fabsf(x), __builtin_fabs(x))
UNARY(abs, i64, int64_t, int64_t, x < 0 ? (int64_t)(0 - (uint64_t)x) : x)
UNARY(sign, f32, float, float, x != x ? x : (float)((x > 0) - (x < 0)))
UNARY(sign, f64, double, double, x != x ? x : (double)((x > 0) - (x < 0)))
UNARY(sign, i64, int64_t, int64_t, (x > 0) - (x < 0))
UNARY_FLOAT(sqrt, __builtin_sqrtf(x), __builtin_sqrt(x))
UNARY_FLOAT(rsqrt, 1.0f / __builtin_sqrtf(x), 1.0 / __builtin_sqrt(x))
UNARY_FLOAT(exp, tk_expf(x), tk_exp(x))
UNARY_FLOAT(log, tk_logf(x), tk_log(x))
// What 1 + x rounded off is made good by the slope of log at 1 + x (Kahan).
static inline double log1p64(double x) {
    double u = 1.0 + x, d = u - 1.0;
    double y = tk_log(u) * (x / (d == 0.0 ? 1.0 : d));
    y = d == 0.0 ? x : y;
    return x == TK_INF ? x : y;
}
static inline float log1p32(float v) {
    double x = (double)v, u = 1.0 + x, d = u - 1.0;
    double y = tk_log_short(u) * (x / (d == 0.0 ? 1.0 : d));
    y = d == 0.0 ? x : y;
    y = u == 0.0 ? -TK_INF : y;
    y = u < 0.0 ? TK_NAN : y;
    y = x == TK_INF ? x : y;
    return v != v ? v + v : (float)y;
}
UNARY_FLOAT(log1p, log1p32(x), log1p64(x))
UNARY_FLOAT(tanh, tk_tanhf(x), tk_tanh(x))
UNARY_FLOAT(sigmoid, tk_sigmoidf(x), tk_sigmoid(x))
UNARY_FLOAT(erf, tk_erff(x), tk_erf(x))
UNARY_FLOAT(sin, tk_sinf(x), tk_sin(x))
UNARY_FLOAT(cos, tk_cosf(x), tk_cos(x))
UNARY_FLOAT(acos, tk_acosf(x), tk_acos(x))
UNARY_NUM(relu, x < 0 ? 0 : x)
// Activations and their slopes, in f32 to some 4 units of |x|: one exponential of what is below 0 each.
// A NaN keeps its sign all the way: of two NaNs that differ a compiler may give either.
// The normal distribution function at -|x| is exp(-x^2 / 2) P(1 / (1 + k |x|)), P fitted to 1e-8.
static inline float density32(float x) { return tk_expf_below(x * x * -0.5f); }
static inline float normal32(float x) {
    float t = 1.0f / (1.0f + 0x1.1eb852p-2f * (x < 0.0f ? -x : x)), p = -0x1.b165c6p-4f;
    p = p * t + 0x1.8f3d14p-2f;
    p = p * t + -0x1.e56396p-3f;
    p = p * t + 0x1.136016p-2f;
    p = p * t + 0x1.147284p-4f;
    p = p * t + 0x1.dd45bcp-4f;
    float q = p * t * density32(x);
    return x < 0.0f ? q : 1.0f - q;
}
static inline double normal64(double x) { return 0.5 * (1.0 + tk_erf(x * 0x1.6a09e667f3bcdp-1)); }
static inline float gate32(float z) {
    float e = tk_expf_below(z > 0.0f ? -z : z);
    return (z < 0.0f ? e : 1.0f) / (1.0f + e);
}
// s + x s (1 - s) dz; where s is 0 or 1 dz may be infinite.
static inline float gate_slope32(float x, float z, float dz) {
    float e = tk_expf_below(z > 0.0f ? -z : z), r = 1.0f / (1.0f + e);
    float s = (z < 0.0f ? e : 1.0f) * r, d = e * r * r;
    return d == 0.0f ? s : s + x * d * dz;
}
static inline double gate_slope64(double x, double z, double dz) {
    double s = tk_sigmoid(z), d = s * tk_sigmoid(-z);
    double y = d == 0.0 ? s : s + x * d * dz;
    return z != z ? z : y;
}
// gelu by tanh is x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)).
#define INNER(T, x) (((x) * (x) * (T)0.044715 + 1) * (x) * (T)1.5957691216057308)
#define INNER_SLOPE(T, x) (((x) * (x) * (T)0.134145 + 1) * (T)1.5957691216057308)
UNARY_FLOAT(gelu, x * normal32(x), x * normal64(x))
UNARY_FLOAT(gelu_slope, normal32(x) + x * density32(x) * 0x1.988454p-2f,
            normal64(x) + x * tk_exp(x * x * -0.5) * 0x1.9884533d43651p-2)
UNARY_FLOAT(gelu_tanh, x * gate32(INNER(float, x)), x * tk_sigmoid(INNER(double, x)))
UNARY_FLOAT(gelu_tanh_slope, gate_slope32(x, INNER(float, x), INNER_SLOPE(float, x)),
            gate_slope64(x, INNER(double, x), INNER_SLOPE(double, x)))
UNARY_FLOAT(silu, x * gate32(x), x * tk_sigmoid(x))
UNARY_FLOAT(silu_slope, gate_slope32(x, x, 1.0f), gate_slope64(x, x, 1.0))
// Rounding by adding and subtracting 1.5·2^23 (2^52): exact for smaller magnitudes, and larger ones
// are integers already. The sign of zero is kept.
static inline float round32(float x) {
    const float big = 0x1.8p23f;
    float r = __builtin_copysignf((x + big) - big, x);
    return __builtin_fabsf(x) < 0x1p22f ? r : x;
}
static inline double round64(double x) {
    const double big = 0x1.8p52;
    double r = __builtin_copysign((x + big) - big, x);
    return __builtin_fabs(x) < 0x1p51 ? r : x;
}
// Between 2^22 and 2^23 halves still exist; the comparison below settles them through the integer.
static inline float floor32(float x) {
    float t = __builtin_fabsf(x) < 0x1p23f ? (float)(int32_t)x : x;
    return __builtin_copysignf(t > x ? t - 1.0f : t, x);
}
static inline double floor64(double x) {
    double t = __builtin_fabs(x) < 0x1p52 ? (double)(int64_t)x : x;
    return __builtin_copysign(t > x ? t - 1.0 : t, x);
}
static inline float even32(float x) {
    if (__builtin_fabsf(x) < 0x1p22f || !(__builtin_fabsf(x) < 0x1p23f)) {
        return round32(x);
    }
    float f = floor32(x), d = x - f;
    int32_t odd = (int32_t)f & 1;
    return d > 0.5f || (d == 0.5f && odd) ? f + 1.0f : f;
}
static inline double even64(double x) {
    if (__builtin_fabs(x) < 0x1p51 || !(__builtin_fabs(x) < 0x1p52)) {
        return round64(x);
    }
    double f = floor64(x), d = x - f;
    int64_t odd = (int64_t)f & 1;
    return d > 0.5 || (d == 0.5 && odd) ? f + 1.0 : f;
}
UNARY_FLOAT(floor, floor32(x), floor64(x))
UNARY_FLOAT(round, even32(x), even64(x))
COMPARE(eq, ==)
COMPARE(ne, !=)
COMPARE(lt, <)
COMPARE(le, <=)
COMPARE(gt, >)
COMPARE(ge, >=)
BINARY(logical_and, bool, unsigned char, unsigned char, x &y)
BINARY(logical_or, bool, unsigned char, unsigned char, x | y)
UNARY(logical_not, bool, unsigned char, unsigned char, !x)
UNARY(isfinite, f32, float, unsigned char, __builtin_fabsf(x) <= 0x1.fffffep127f)
UNARY(isfinite, f64, double, unsigned char, __builtin_fabs(x) <= 0x1.fffffffffffffp1023)

#define WHERE(tag, T)                                                                           \
    static void where_##tag(int64_t n, const void *const *in, void *out,                        \
                            const tarn_tile_args *a) {                                          \
        (void)a;                                                                                \
        const unsigned char *c = __builtin_assume_aligned(in[0], 64);                           \
        const T *px = __builtin_assume_aligned(in[1], 64);                                      \
        const T *py = __builtin_assume_aligned(in[2], 64);                                      \
        T *restrict r = __builtin_assume_aligned(out, 64);                                      \
        for (int64_t i = 0; i < n; i++) {                                                       \
            T x = px[i], y = py[i];                                                             \
            r[i] = c[i] ? x : y;                                                                \
        }                                                                                       \
    }
WHERE(f32, float)
WHERE(f64, double)
WHERE(i64, int64_t)
WHERE(bool, unsigned char)

// top(x, threshold, cut): above the threshold, or equal to it at an index up to cut. Indices are
// compared relative to the tile, where 32 bits hold them.
#define TOP(tag, T)                                                                             \
    static void top_##tag(int64_t n, const void *const *in, void *out,                          \
                          const tarn_tile_args *a) {                                            \
        const T *restrict px = __builtin_assume_aligned(in[0], 64);                             \
        const T *restrict thr = __builtin_assume_aligned(in[1], 64);                            \
        const double *restrict cut = __builtin_assume_aligned(in[2], 64);                       \
        unsigned char *restrict r = __builtin_assume_aligned(out, 64);                          \
        double at = (double)a->at;                                                              \
        for (int i = 0; i < (int)n; i++) {                                                      \
            r[i] = (unsigned char)((px[i] > thr[i]) |                                           \
                                   ((px[i] == thr[i]) & ((double)i <= cut[i] - at)));           \
        }                                                                                       \
    }
TOP(f32, float)
TOP(f64, double)

static void iota_i64(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    int64_t *r = out;
    for (int64_t i = 0; i < n; i++) {
        r[i] = a->at + i;
    }
}

// Random tiles: attr.i = {dtype, shape …, key}; the key is a 64-bit hash of seed, name, model, use.
static uint64_t key_of(const tarn_attr *a) { return (uint64_t)a->i[a->ni - 1]; }

static void bernoulli_bool(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    TARN_ISA_NAME(tarn_random_table).bernoulli(key_of(a->attr), a->at, n, a->attr->f[0], out);
}
static void uniform_f32(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    TARN_ISA_NAME(tarn_random_table).uniform_f32(key_of(a->attr), a->at, n, out);
}
static void uniform_f64(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    TARN_ISA_NAME(tarn_random_table).uniform_f64(key_of(a->attr), a->at, n, out);
}
static void normal_f32(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    TARN_ISA_NAME(tarn_random_table).normal_f32(key_of(a->attr), a->at, n, out);
}
static void normal_f64(int64_t n, const void *const *in, void *out, const tarn_tile_args *a) {
    (void)in;
    TARN_ISA_NAME(tarn_random_table).normal_f64(key_of(a->attr), a->at, n, out);
}

// dropout(x, key), attr.f = {p}: the key is the same for all elements.
#define DROPOUT(tag, T)                                                                         \
    static void dropout_##tag(int64_t n, const void *const *in, void *out,                      \
                              const tarn_tile_args *a) {                                        \
        const T *restrict x = __builtin_assume_aligned(in[0], 64);                              \
        const uint64_t *key = in[1];                                                            \
        T *restrict r = __builtin_assume_aligned(out, 64);                                      \
        double keep = 1 - a->attr->f[0];                                                        \
        T scale = (T)(1 / keep);                                                                \
        unsigned char kept[TARN_TILE];                                                          \
        if (n > 0) {                                                                            \
            TARN_ISA_NAME(tarn_random_table).bernoulli(key[0], a->at, n, keep, kept);           \
        }                                                                                       \
        for (int64_t i = 0; i < n; i++) {                                                       \
            T y = x[i] * scale;                                                                 \
            r[i] = kept[i] ? y : (T)0;                                                          \
        }                                                                                       \
    }
DROPOUT(f32, float)
DROPOUT(f64, double)

// ---- folds ----

typedef double v8 __attribute__((vector_size(64)));
typedef float v8f __attribute__((vector_size(32)));

#define LANES_HEAD                 \
    tarn_acc_lanes *l = acc;       \
    v8 s0, s1;                     \
    memcpy(&s0, l->lane, 64);      \
    memcpy(&s1, l->lane + 8, 64);  \
    int64_t i = 0;                 \
    (void)a
#define LANES_TAIL                 \
    memcpy(l->lane, &s0, 64);      \
    memcpy(l->lane + 8, &s1, 64)

// Eight elements as doubles. Through pointers: a vector in a return value has no common ABI.
static inline void wide(const float *p, v8 *out) {
    v8f x;
    memcpy(&x, p, 32);
    *out = __builtin_convertvector(x, v8);
}
static inline void load8(const double *p, v8 *out) { memcpy(out, p, 64); }

#define SUM(tag, T, LOAD)                                                                       \
    static void sum_##tag(int64_t n, const void *const *in, void *acc, const tarn_tile_args *a) { \
        const T *x = in[0];                                                                     \
        LANES_HEAD;                                                                             \
        for (; i + 16 <= n; i += 16) {                                                          \
            v8 x0, x1;                                                                          \
            LOAD(x + i, &x0);                                                                   \
            LOAD(x + i + 8, &x1);                                                               \
            s0 += x0;                                                                           \
            s1 += x1;                                                                           \
        }                                                                                       \
        LANES_TAIL;                                                                             \
        for (; i < n; i++) {                                                                    \
            l->lane[i % 16] += (double)x[i];                                                    \
        }                                                                                       \
    }
#define DOT(tag, T, LOAD)                                                                       \
    static void dot_##tag(int64_t n, const void *const *in, void *acc, const tarn_tile_args *a) { \
        const T *x = in[0], *y = in[1];                                                         \
        LANES_HEAD;                                                                             \
        for (; i + 16 <= n; i += 16) {                                                          \
            v8 x0, x1, y0, y1;                                                                  \
            LOAD(x + i, &x0);                                                                   \
            LOAD(x + i + 8, &x1);                                                               \
            LOAD(y + i, &y0);                                                                   \
            LOAD(y + i + 8, &y1);                                                               \
            s0 += x0 * y0;                                                                      \
            s1 += x1 * y1;                                                                      \
        }                                                                                       \
        LANES_TAIL;                                                                             \
        for (; i < n; i++) {                                                                    \
            l->lane[i % 16] += (double)x[i] * (double)y[i];                                     \
        }                                                                                       \
    }
SUM(f32, float, wide)
SUM(f64, double, load8)
DOT(f32, float, wide)
DOT(f64, double, load8)
static void sum_i64(int64_t n, const void *const *in, void *acc, const tarn_tile_args *a) {
    (void)a;
    const int64_t *x = in[0];
    tarn_acc_lanes *l = acc;
    for (int64_t i = 0; i < n; i++) {
        l->lane[i % 16] += (double)x[i];
    }
}
static void sum_bool(int64_t n, const void *const *in, void *acc, const tarn_tile_args *a) {
    (void)a;
    const unsigned char *x = in[0];
    tarn_acc_lanes *l = acc;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        count += x[i];
    }
    l->lane[0] += (double)count;
}
#define EXTREME(name, tag, T, op)                                                               \
    static void name##_##tag(int64_t n, const void *const *in, void *acc,                       \
                             const tarn_tile_args *a) {                                         \
        (void)a;                                                                                \
        const T *x = in[0];                                                                     \
        tarn_acc_extreme *e = acc;                                                              \
        if (n == 0) {                                                                           \
            return;                                                                             \
        }                                                                                       \
        T m[16];                                                                                \
        int64_t i = 0;                                                                          \
        for (int k = 0; k < 16; k++) {                                                          \
            m[k] = x[0];                                                                        \
        }                                                                                       \
        for (; i + 16 <= n; i += 16) {                                                          \
            for (int k = 0; k < 16; k++) {                                                      \
                T v = x[i + k];                                                                 \
                m[k] = (v op m[k] || v != v) ? v : m[k];                                        \
            }                                                                                   \
        }                                                                                       \
        for (; i < n; i++) {                                                                    \
            m[0] = (x[i] op m[0] || x[i] != x[i]) ? x[i] : m[0];                                \
        }                                                                                       \
        for (int k = 1; k < 16; k++) {                                                          \
            m[0] = (m[k] op m[0] || m[k] != m[k]) ? m[k] : m[0];                                \
        }                                                                                       \
        double v = (double)m[0];                                                                \
        if (e->n == 0 || v op e->value || v != v) {                                             \
            e->value = v;                                                                       \
        }                                                                                       \
        e->n += n;                                                                              \
    }                                                                                           \
    static void arg##name##_##tag(int64_t n, const void *const *in, void *acc,                  \
                                  const tarn_tile_args *a) {                                    \
        const T *x = in[0];                                                                     \
        tarn_acc_arg *e = acc;                                                                  \
        for (int64_t i = 0; i < n; i++) {                                                       \
            double v = (double)x[i];                                                            \
            if (e->index < 0 || v op e->value || (v != v && e->value == e->value)) {            \
                e->value = v;                                                                   \
                e->index = a->at + i;                                                           \
            }                                                                                   \
        }                                                                                       \
    }
EXTREME(max, f32, float, >)
EXTREME(max, f64, double, >)
EXTREME(max, i64, int64_t, >)
EXTREME(max, bool, unsigned char, >)
EXTREME(min, f32, float, <)
EXTREME(min, f64, double, <)
EXTREME(min, i64, int64_t, <)
EXTREME(min, bool, unsigned char, <)

// Short rows at once: the folds above, with what opens and closes them (vm/op/reduce.c) in between.
static inline double close_lanes(tarn_acc_lanes *l) {
    for (int half = 8; half >= 1; half /= 2) {
        for (int i = 0; i < half; i++) {
            l->lane[i] += l->lane[i + half];
        }
    }
    return l->lane[0];
}
#define ROWS(name, tag, T, ACC, OPEN, CLOSE)                                                    \
    static void name##_rows_##tag(int64_t n, int64_t length, int64_t stride, const void *x,     \
                                  double *part) {                                               \
        for (int64_t r = 0; r < n; r++) {                                                       \
            ACC acc = OPEN;                                                                     \
            const void *row = (const T *)x + r * stride;                                        \
            name##_##tag(length, &row, &acc, NULL);                                             \
            part[r] = CLOSE;                                                                    \
        }                                                                                       \
    }
ROWS(sum, f32, float, tarn_acc_lanes, {{0}}, close_lanes(&acc))
ROWS(sum, f64, double, tarn_acc_lanes, {{0}}, close_lanes(&acc))
#define EXTREME_ROWS(tag, T)                                              \
    ROWS(max, tag, T, tarn_acc_extreme, {.value = -(double)INFINITY}, acc.value)   \
    ROWS(min, tag, T, tarn_acc_extreme, {.value = (double)INFINITY}, acc.value)
EXTREME_ROWS(f32, float)
EXTREME_ROWS(f64, double)

// Rows as memory lies: neighbouring columns abreast, the rows of a subtree at once.
static inline double sum_of(double a, double b) { return a + b; }
static inline double max_of(double a, double b) { return b > a || b != b ? b : a; }
static inline double min_of(double a, double b) { return b < a || b != b ? b : a; }
#define COLUMNS(name, tag, T, START)                                                            \
    static void name##_columns_##tag(int64_t rows, int64_t n, int64_t stride, const void *in,   \
                                     double *restrict part) {                                   \
        const T *restrict x = in;                                                               \
        for (int64_t i = 0; rows == 1 && i < n; i++) {                                          \
            part[i] = name##_of(START, (double)x[i]);                                           \
        }                                                                                       \
        for (int64_t i = 0; rows == TARN_SUBTREE && i < n; i++) {                               \
            double v[TARN_SUBTREE];                                                             \
            for (int k = 0; k < TARN_SUBTREE; k++) {                                            \
                v[k] = (double)x[i + k * stride];                                               \
            }                                                                                   \
            double a = name##_of(name##_of(v[0], v[1]), name##_of(v[2], v[3]));                 \
            double b = name##_of(name##_of(v[4], v[5]), name##_of(v[6], v[7]));                 \
            part[i] = name##_of(START, name##_of(a, b));                                        \
        }                                                                                       \
    }
#define JOIN(name, START)                                                                       \
    COLUMNS(name, f32, float, START)                                                            \
    COLUMNS(name, f64, double, START)                                                           \
    static void name##_join(int64_t n, double *restrict part, const double *restrict next) {    \
        for (int64_t i = 0; i < n; i++) {                                                       \
            part[i] = name##_of(part[i], next[i]);                                              \
        }                                                                                       \
    }
JOIN(sum, 0.0)
JOIN(max, -(double)INFINITY)
JOIN(min, (double)INFINITY)

// One digit of the radix selection. The first digit counts everything. Later ones count what matches
// the digits found so far: a tile is compared at once, then its matches are walked by the bits of the
// mask, eight elements a word.
#define KTH(tag, T, U, KEY, BITS)                                                               \
    static void kth_##tag(int64_t n, const void *const *in, void *acc,                          \
                          const tarn_tile_args *a) {                                            \
        uint64_t *bin = acc;                                                                    \
        const tarn_kth_state *s = a->state;                                                     \
        const U *x = in[0];                                                                     \
        int shift = s->index_phase ? 0 : s->shift + 16;                                         \
        if (!s->index_phase && s->shift == BITS - 16) {                                         \
            for (int64_t i = 0; i < n; i++) {                                                   \
                bin[KEY(x[i]) >> (BITS - 16)]++;                                                \
            }                                                                                   \
            U zeros = 0;                                                                        \
            for (int64_t i = 0; a->attr->i[2] < 0 && i < n; i++) {                              \
                zeros += (U)(x[i] << 1) == 0;                                                   \
            }                                                                                   \
            bin[TARN_KTH_BINS] += zeros;                                                        \
            return;                                                                             \
        }                                                                                       \
        U want = (U)s->prefix;                                                                  \
        unsigned char hit[TARN_TILE + 8];                                                       \
        for (int64_t i = 0; i < n; i++) {                                                       \
            hit[i] = (unsigned char)((KEY(x[i]) >> shift) == want);                             \
        }                                                                                       \
        memset(hit + n, 0, 8);                                                                  \
        int high = s->index_shift + 16;                                                         \
        for (int64_t i = 0; i < n; i += 8) {                                                    \
            uint64_t word;                                                                      \
            memcpy(&word, hit + i, sizeof word);                                                \
            for (; word; word &= word - 1) {                                                    \
                int64_t k = i + __builtin_ctzll(word) / 8;                                      \
                if (!s->index_phase) {                                                          \
                    bin[(KEY(x[k]) >> s->shift) & 0xFFFF]++;                                    \
                    continue;                                                                   \
                }                                                                               \
                uint64_t at = (uint64_t)(a->at + k);                                            \
                if (high >= 64 || at >> high == s->index_prefix) {                              \
                    bin[(at >> s->index_shift) & 0xFFFF]++;                                     \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
    }
KTH(f32, float, uint32_t, tarn_key32, 32)
KTH(f64, double, uint64_t, tarn_key64, 64)

#define ROW_FLOAT(name) [TARN_K_##name] = {name##_f32, name##_f64, 0, 0}
#define ROW_NUM(name) [TARN_K_##name] = {name##_f32, name##_f64, name##_i64, 0}
#define ROW_ALL(name) [TARN_K_##name] = {name##_f32, name##_f64, name##_i64, name##_bool}
#define ROW_BOOL(name) [TARN_K_##name] = {0, 0, 0, name##_bool}
#define FOLD_ALL(name) [TARN_KF_##name] = {name##_f32, name##_f64, name##_i64, name##_bool}

extern const tarn_kernels TARN_ISA_NAME(tarn_kernels);
const tarn_kernels TARN_ISA_NAME(tarn_kernels) = {
    .tile = {ROW_NUM(add), ROW_NUM(sub), ROW_NUM(mul), ROW_FLOAT(div), ROW_FLOAT(pow),
             ROW_NUM(minimum), ROW_NUM(maximum), ROW_FLOAT(atan2), ROW_NUM(neg), ROW_NUM(abs),
             ROW_NUM(sign), ROW_FLOAT(sqrt), ROW_FLOAT(rsqrt), ROW_FLOAT(exp), ROW_FLOAT(log),
             ROW_FLOAT(tanh), ROW_FLOAT(sigmoid), ROW_FLOAT(erf), ROW_FLOAT(sin), ROW_FLOAT(cos),
             ROW_FLOAT(acos), ROW_NUM(relu), ROW_FLOAT(floor), ROW_FLOAT(round), ROW_ALL(eq),
             ROW_ALL(ne), ROW_ALL(lt), ROW_ALL(le), ROW_ALL(gt), ROW_ALL(ge),
             ROW_BOOL(logical_and), ROW_BOOL(logical_or), ROW_BOOL(logical_not),
             ROW_FLOAT(log1p), ROW_FLOAT(dropout), ROW_FLOAT(gelu),
             ROW_FLOAT(gelu_slope), ROW_FLOAT(gelu_tanh), ROW_FLOAT(gelu_tanh_slope),
             ROW_FLOAT(silu), ROW_FLOAT(silu_slope), ROW_FLOAT(isfinite), ROW_ALL(where), ROW_FLOAT(top),
             [TARN_K_iota] = {0, 0, iota_i64, 0}, ROW_BOOL(bernoulli), ROW_FLOAT(uniform),
             ROW_FLOAT(normal)},
    .fold = {FOLD_ALL(sum), [TARN_KF_dot] = {dot_f32, dot_f64, 0, 0}, FOLD_ALL(max), FOLD_ALL(min),
             FOLD_ALL(argmax), FOLD_ALL(argmin), [TARN_KF_kth] = {kth_f32, kth_f64, 0, 0}},
    .rows = {[TARN_KF_sum] = {sum_rows_f32, sum_rows_f64, 0, 0},
             [TARN_KF_max] = {max_rows_f32, max_rows_f64, 0, 0},
             [TARN_KF_min] = {min_rows_f32, min_rows_f64, 0, 0}},
    .columns = {[TARN_KF_sum] = {sum_columns_f32, sum_columns_f64, 0, 0},
                [TARN_KF_max] = {max_columns_f32, max_columns_f64, 0, 0},
                [TARN_KF_min] = {min_columns_f32, min_columns_f64, 0, 0}},
    .join = {[TARN_KF_sum] = sum_join, [TARN_KF_max] = max_join, [TARN_KF_min] = min_join},
};
