// SPDX-License-Identifier: Apache-2.0
// A line of length n = p1 p2 … with small primes goes through Stockham's stages: each takes one factor
// off and writes in the order the next one reads, so nothing is ever permuted. Any other length
// becomes a convolution with a chirp (Bluestein 1970) of a power of two at least 2 n - 1. Written here
// rather than taken from a library for its bits: sines are our own and nothing is contracted, so a
// transform gives the same numbers on every machine.
#include "vm/op/fft.h"

#include <string.h>

#include "vm/base/size.h"
#include "vm/op/kernel/math.h"

enum { MOST = 61 };       // largest prime that a stage takes: its cost an element grows with it
enum { POLL = 1 << 16 };  // elements between two looks at the stop flag

static inline tarn_complex times(tarn_complex a, tarn_complex b) {
    return (tarn_complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
static inline tarn_complex plus(tarn_complex a, tarn_complex b) {
    return (tarn_complex){a.re + b.re, a.im + b.im};
}
static inline tarn_complex minus(tarn_complex a, tarn_complex b) {
    return (tarn_complex){a.re - b.re, a.im - b.im};
}
static inline tarn_complex conjugate(tarn_complex a) { return (tarn_complex){a.re, -a.im}; }

// Factors of n, 4 before 2 before odd primes; 0 when a larger prime is left.
static int factorise(int64_t n, int *factor) {
    int count = 0;
    for (int p = 4; p <= MOST; p = p == 4 ? 2 : p == 2 ? 3 : p + 2) {
        for (; n % p == 0; n /= p) {
            factor[count++] = p;
        }
    }
    if (n == 1 && count == 0) {
        factor[count++] = 1;
    }
    return n == 1 ? count : 0;
}

static int64_t radix_of(int64_t n, int *factor, int *count) {
    *count = factorise(n, factor);
    int64_t m = n;
    if (*count == 0) {
        for (m = 1; m < 2 * n - 1; m *= 2) {
        }
        *count = factorise(m, factor);
    }
    return m;
}

size_t tarn_fft_bytes(int64_t n) {
    int factor[TARN_FFT_FACTORS], count;
    if (n > INT64_MAX / 1024) {
        return SIZE_MAX;
    }
    int64_t m = radix_of(n, factor, &count);
    size_t numbers = m == n ? 2 * (size_t)m : 4 * (size_t)m + (size_t)n, bytes;
    return tarn_mul_size(numbers, sizeof(tarn_complex), &bytes) ? bytes : SIZE_MAX;
}

static tarn_complex turn(double angle) { return (tarn_complex){tk_cos(angle), -tk_sin(angle)}; }

// ---- stages: x holds `s` interleaved lines of length n, y gets s p of length n / p ----

typedef struct {
    const tarn_fft *f;
    int64_t n, s;
    const tarn_complex *x;
    tarn_complex *y;
} stage;

static void by_two(const stage *t, int64_t q) {
    int64_t m = t->n / 2, s = t->s;
    const tarn_complex *x = t->x + s * q, w = t->f->root[q * s];
    tarn_complex *y = t->y + 2 * s * q;
    for (int64_t k = 0; k < s; k++) {
        tarn_complex a = x[k], b = x[k + s * m];
        y[k] = plus(a, b);
        y[k + s] = times(minus(a, b), w);
    }
}

static void by_four(const stage *t, int64_t q) {
    int64_t m = t->n / 4, s = t->s;
    const tarn_complex *x = t->x + s * q, *root = t->f->root;
    tarn_complex *y = t->y + 4 * s * q;
    tarn_complex w1 = root[q * s], w2 = root[2 * q * s], w3 = root[3 * q * s];
    for (int64_t k = 0; k < s; k++) {
        tarn_complex a = x[k], b = x[k + s * m], c = x[k + 2 * s * m], d = x[k + 3 * s * m];
        tarn_complex even = plus(a, c), odd = plus(b, d), left = minus(a, c), right = minus(b, d);
        tarn_complex turned = {right.im, -right.re};  // times -i
        y[k] = plus(even, odd);
        y[k + s] = times(plus(left, turned), w1);
        y[k + 2 * s] = times(minus(even, odd), w2);
        y[k + 3 * s] = times(minus(left, turned), w3);
    }
}

static void by_any(const stage *t, int64_t q, int p) {
    int64_t m = t->n / p, s = t->s, step = t->f->radix / p;
    const tarn_complex *x = t->x + s * q, *root = t->f->root;
    tarn_complex *y = t->y + p * s * q;
    for (int64_t k = 0; k < s; k++) {
        for (int j = 0; j < p; j++) {
            tarn_complex sum = x[k];
            for (int r = 1; r < p; r++) {
                sum = plus(sum, times(x[k + r * s * m], root[j * r % p * step]));
            }
            y[k + j * s] = times(sum, root[q * j * s]);
        }
    }
}

// The transform of x[0 .. radix), in place, through the spare line.
static tarn_status transform(const tarn_fft *f, tarn_complex *x, tarn_error *err) {
    stage t = {.f = f, .n = f->radix, .s = 1, .x = x, .y = f->spare};
    for (int i = 0; i < f->factors; i++) {
        int p = f->factor[i];
        int64_t since = POLL;
        for (int64_t q = 0; q < t.n / p; q++) {
            since += t.s * p;
            if (since >= POLL) {
                TARN_TRY(tarn_cancel_check(&f->cx->cancel, err));
                since = 0;
            }
            if (p == 2) {
                by_two(&t, q);
            } else if (p == 4) {
                by_four(&t, q);
            } else {
                by_any(&t, q, p);
            }
        }
        t.n /= p;
        t.s *= p;
        t.x = t.y;
        t.y = t.y == x ? f->spare : x;
    }
    if (t.x != x) {
        memcpy(x, t.x, (size_t)f->radix * sizeof *x);
    }
    return TARN_OK;
}

// ---- a line ----

static tarn_status open_chirp(tarn_fft *f, tarn_error *err) {
    int64_t square = 0;  // k^2 modulo 2 n
    memset(f->kernel, 0, (size_t)f->radix * sizeof *f->kernel);
    for (int64_t k = 0; k < f->n; k++) {
        f->chirp[k] = turn(TK_PI_HI * (double)square / (double)f->n);
        f->kernel[k] = conjugate(f->chirp[k]);
        f->kernel[k > 0 ? f->radix - k : 0] = f->kernel[k];
        square = (square + 2 * k + 1) % (2 * f->n);
    }
    return transform(f, f->kernel, err);
}

tarn_status tarn_fft_open(tarn_context *cx, int64_t n, tarn_fft *f, tarn_error *err) {
    *f = (tarn_fft){.cx = cx, .n = n, .bytes = tarn_fft_bytes(n)};
    f->memory = f->bytes == SIZE_MAX ? NULL : tarn_alloc(&cx->budget, f->bytes);
    if (!f->memory) {
        return tarn_raise_nomem(err, "a Fourier transform", f->bytes);
    }
    f->radix = radix_of(n, f->factor, &f->factors);
    f->root = f->memory;
    f->spare = f->root + f->radix;
    for (int64_t k = 0; k <= f->radix / 2; k++) {
        f->root[k] = turn(2 * TK_PI_HI * (double)k / (double)f->radix);
        f->root[k > 0 ? f->radix - k : 0] = k > 0 ? conjugate(f->root[k]) : f->root[0];
    }
    if (f->radix == n) {
        return TARN_OK;
    }
    f->kernel = f->spare + f->radix;
    f->line = f->kernel + f->radix;
    f->chirp = f->line + f->radix;
    tarn_status s = open_chirp(f, err);
    if (s != TARN_OK) {
        tarn_fft_close(f);
    }
    return s;
}

void tarn_fft_close(tarn_fft *f) {
    if (f->memory) {
        tarn_free(&f->cx->budget, f->memory, f->bytes);
    }
    f->memory = NULL;
}

// The convolution with the chirp. A transform of the conjugate is the conjugate inverse.
static tarn_status bluestein(const tarn_fft *f, tarn_complex *x, tarn_error *err) {
    tarn_complex *y = f->line;
    for (int64_t k = 0; k < f->radix; k++) {
        y[k] = k < f->n ? times(x[k], f->chirp[k]) : (tarn_complex){0, 0};
    }
    TARN_TRY(transform(f, y, err));
    for (int64_t k = 0; k < f->radix; k++) {
        y[k] = conjugate(times(y[k], f->kernel[k]));
    }
    TARN_TRY(transform(f, y, err));
    double scale = 1 / (double)f->radix;
    for (int64_t k = 0; k < f->n; k++) {
        x[k] = times((tarn_complex){y[k].re * scale, -y[k].im * scale}, f->chirp[k]);
    }
    return TARN_OK;
}

tarn_status tarn_fft_run(tarn_fft *f, tarn_complex *x, bool inverse, tarn_error *err) {
    for (int64_t k = 0; inverse && k < f->n; k++) {
        x[k].im = -x[k].im;
    }
    TARN_TRY(f->chirp ? bluestein(f, x, err) : transform(f, x, err));
    for (int64_t k = 0; inverse && k < f->n; k++) {
        x[k] = (tarn_complex){x[k].re / (double)f->n, -x[k].im / (double)f->n};
    }
    return TARN_OK;
}
