// SPDX-License-Identifier: Apache-2.0
// One stored element as a number and back, for printing, for single reads and writes, and as the
// twin that the vectorised conversions (vm/op/kernel/isa_convert.c) are tested against. So it is
// written from the definition of the formats, in double arithmetic, with nothing of the kernels'
// bit tricks: a narrow float is sign, exponent, mantissa; rounding finds the spacing of the format
// at the value and takes the nearest multiple, ties to even. vm/op/convert.h states the rules.
#include <math.h>
#include <string.h>

#include "vm/tensor/tensor.h"

typedef struct format {
    int exponent, mantissa; // bits
    int bias;
    enum { IEEE, SATURATE, FNUZ } kind; // IEEE: top exponent is infinity and NaN
    double max;                         // largest finite value
} format;

static const format f16 = {5, 10, 15, IEEE, 65504.0};
static const format bf16 = {8, 7, 127, IEEE, 0x1.fep127};
static const format e5m2 = {5, 2, 15, IEEE, 57344.0};
static const format e4m3 = {4, 3, 7, SATURATE, 448.0};
static const format e4m3fnuz = {4, 3, 8, FNUZ, 240.0};
static const format e5m2fnuz = {5, 2, 16, FNUZ, 57344.0};

static const format *format_of(tarn_dtype t) {
    switch (t) {
    case TARN_F16:
        return &f16;
    case TARN_BF16:
        return &bf16;
    case TARN_F8_E5M2:
        return &e5m2;
    case TARN_F8_E4M3:
        return &e4m3;
    case TARN_F8_E4M3FNUZ:
        return &e4m3fnuz;
    case TARN_F8_E5M2FNUZ:
        return &e5m2fnuz;
    default:
        return NULL;
    }
}

static double signed_nan(bool negative) { return copysign((double)NAN, negative ? -1.0 : 1.0); }

static double decode(const format *f, unsigned code) {
    unsigned e = code >> f->mantissa & ((1U << f->exponent) - 1);
    unsigned m = code & ((1U << f->mantissa) - 1);
    unsigned last = (1U << f->exponent) - 1;
    bool negative = code >> (f->exponent + f->mantissa) & 1;
    if (f->kind == FNUZ && negative && e == 0 && m == 0) {
        return signed_nan(false);
    }
    if (f->kind == SATURATE && e == last && m == (1U << f->mantissa) - 1) {
        return signed_nan(negative);
    }
    if (f->kind == IEEE && e == last) {
        return m != 0 ? signed_nan(negative) : negative ? -(double)INFINITY : (double)INFINITY;
    }
    double v = e == 0 ? ldexp(m, 1 - f->bias - f->mantissa)
                      : ldexp(m + (1U << f->mantissa), (int)e - f->bias - f->mantissa);
    return negative ? -v : v;
}

// The nearest integer, ties to even, without the rounding mode of the library.
static double nearest(double x) {
    double down = floor(x), d = x - down;
    if (d > 0.5 || (d == 0.5 && fmod(down, 2.0) != 0.0)) {
        down += 1.0;
    }
    return down;
}

static unsigned encode(const format *f, double v) {
    unsigned sign = signbit(v) ? 1U << (f->exponent + f->mantissa) : 0;
    unsigned last = (1U << f->exponent) - 1, full = (1U << f->mantissa) - 1;
    if (f->kind == FNUZ && isnan(v)) {
        return 1U << (f->exponent + f->mantissa);
    }
    if (isnan(v)) {
        // The quiet bit; 8-bit formats all ones, as PyTorch.
        return sign | last << f->mantissa | (f->mantissa < 7 ? full : 1U << (f->mantissa - 1));
    }
    double a = fabs(v);
    int e = 1 - f->bias; // of the binade a lies in, at least the subnormals'
    if (a >= ldexp(1.0, e)) {
        frexp(isinf(a) ? f->max : a, &e);
        e -= 1;
    }
    double spacing = ldexp(1.0, e - f->mantissa);
    double r = isinf(a) ? a : nearest(a / spacing) * spacing;
    if (r > f->max) {
        switch (f->kind) {
        case IEEE:
            return sign | last << f->mantissa;
        case SATURATE:
            r = f->max;
            break;
        case FNUZ:
            return 1U << (f->exponent + f->mantissa);
        }
    }
    if (r == 0.0) {
        return f->kind == FNUZ ? 0 : sign;
    }
    if (r < ldexp(1.0, 1 - f->bias)) {
        return sign | (unsigned)ldexp(r, f->bias - 1 + f->mantissa);
    }
    frexp(r, &e);
    unsigned m = (unsigned)ldexp(r, f->mantissa - (e - 1)) & full;
    return sign | (unsigned)(e - 1 + f->bias) << f->mantissa | m;
}

// e8m0: powers of two 2^-127 … 2^127, code 255 NaN; halfway goes up.
static unsigned encode_power(double v) {
    if (v == 0.0) {
        return 0;
    }
    if (!(v > 0.0) || isinf(v)) {
        return 255;
    }
    int e;
    double m = frexp(v, &e); // v = m 2^e, m in [1/2, 1)
    int code = e - 1 + 127 + (m >= 0.75);
    return code < 0 ? 0 : code > 254 ? 255 : (unsigned)code;
}

double tarn_element_get(tarn_dtype t, const void *p) {
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        float f32;
        double f64;
    } x = {0};
    memcpy(&x, p, (size_t)tarn_dtype_get(t)->bits / 8);
    switch (t) {
    case TARN_BOOL:
        return x.u8 != 0;
    case TARN_U8:
        return x.u8;
    case TARN_I8:
        return x.i8;
    case TARN_I16:
        return x.i16;
    case TARN_U16:
        return x.u16;
    case TARN_I32:
        return x.i32;
    case TARN_U32:
        return x.u32;
    case TARN_I64:
        return (double)x.i64;
    case TARN_U64:
        return (double)x.u64;
    case TARN_F32:
        return (double)x.f32;
    case TARN_F64:
        return x.f64;
    case TARN_F16:
    case TARN_BF16:
        return decode(format_of(t), x.u16);
    case TARN_F8_E4M3:
    case TARN_F8_E5M2:
    case TARN_F8_E4M3FNUZ:
    case TARN_F8_E5M2FNUZ:
        return decode(format_of(t), x.u8);
    case TARN_F8_E8M0:
        return x.u8 == 255 ? signed_nan(false) : ldexp(1.0, x.u8 - 127);
    default:
        return signed_nan(false); // opaque: callers refuse these before
    }
}

static int64_t to_signed(double v, int bits) {
    double limit = ldexp(1.0, bits - 1), r = isnan(v) ? 0.0 : nearest(v);
    int64_t top = bits == 64 ? INT64_MAX : ((int64_t)1 << (bits - 1)) - 1;
    return r >= limit ? top : r < -limit ? -top - 1 : (int64_t)r;
}

static uint64_t to_unsigned(double v, int bits) {
    double limit = ldexp(1.0, bits), r = isnan(v) ? 0.0 : nearest(v);
    uint64_t top = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
    return r >= limit ? top : r <= 0.0 ? 0 : (uint64_t)r;
}

void tarn_element_set(tarn_dtype t, void *p, double v) {
    int bits = tarn_dtype_get(t)->bits;
    uint64_t code = 0; // little-endian: its first bytes are the element
    switch (t) {
    case TARN_BOOL:
        code = v != 0.0;
        break;
    case TARN_I8:
    case TARN_I16:
    case TARN_I32:
    case TARN_I64:
        code = (uint64_t)to_signed(v, bits);
        break;
    case TARN_U8:
    case TARN_U16:
    case TARN_U32:
    case TARN_U64:
        code = to_unsigned(v, bits);
        break;
    case TARN_F32: {
        float f = (float)v;
        memcpy(&code, &f, sizeof f);
        break;
    }
    case TARN_F64:
        memcpy(&code, &v, sizeof v);
        break;
    case TARN_F8_E8M0:
        code = encode_power(v);
        break;
    case TARN_F16:
    case TARN_BF16:
    case TARN_F8_E4M3:
    case TARN_F8_E5M2:
    case TARN_F8_E4M3FNUZ:
    case TARN_F8_E5M2FNUZ:
        code = encode(format_of(t), v);
        break;
    default:
        return; // opaque: callers refuse these before
    }
    memcpy(p, &code, (size_t)bits / 8);
}
