// SPDX-License-Identifier: Apache-2.0
// The kernels of the fused rows for one dtype: T, WORD (an integer as wide), EXP (of what is not
// above 0) and FN(name) are defined by isa_fused.c, which includes this file once for each.

typedef T FN(four) __attribute__((vector_size(4 * sizeof(T))));
typedef T FN(lanes) __attribute__((vector_size(32)));
typedef WORD FN(bits) __attribute__((vector_size(32)));
enum { FN(WIDTH) = 32 / sizeof(T) };

// Four elements as doubles. Through pointers: a vector in a return value has no common ABI.
static inline void FN(wide)(const T *p, v4 *out) {
    FN(four) x;
    memcpy(&x, p, sizeof x);
    *out = __builtin_convertvector(x, v4);
}

// NaN is passed over here; it comes back through the exponentials.
static inline T FN(largest)(int64_t n, const T *x) {
    FN(lanes) m[16 / FN(WIDTH)], v;
    int64_t i = 0;
    for (int k = 0; k < 16 / FN(WIDTH); k++) {
        m[k] = (FN(lanes)){0} - (T)TK_INF;
    }
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 16 / FN(WIDTH); k++) {
            memcpy(&v, x + i + k * FN(WIDTH), sizeof v);
            FN(bits) above = v > m[k];
            m[k] = (FN(lanes))((above & (FN(bits))v) | (~above & (FN(bits))m[k]));
        }
    }
    T most[16];
    memcpy(most, m, sizeof most);
    for (; i < n; i++) {
        most[0] = x[i] > most[0] ? x[i] : most[0];
    }
    for (int k = 1; k < 16; k++) {
        most[0] = most[k] > most[0] ? most[k] : most[0];
    }
    return most[0];
}

static inline double FN(join)(const double *lane) {
    double s[8];
    for (int k = 0; k < 8; k++) {
        s[k] = lane[k] + lane[k + 8];
    }
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}
static inline void FN(sum_into)(int64_t n, const T *x, double *lane) {
    int64_t i = 0;
    v4 a[4], p;
    memcpy(a, lane, sizeof a);
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 4; k++) {
            FN(wide)(x + i + 4 * k, &p);
            a[k] += p;
        }
    }
    memcpy(lane, a, sizeof a);
    for (; i < n; i++) {
        lane[i % 16] += (double)x[i];
    }
}
static inline double FN(sum)(int64_t n, const T *x) {
    double lane[16] = {0};
    FN(sum_into)(n, x, lane);
    return FN(join)(lane);
}
static inline double FN(inner)(int64_t n, const T *x, const T *y) {
    double lane[16];
    int64_t i = 0;
    v4 a[4] = {{0}}, p, q;
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 4; k++) {
            FN(wide)(x + i + 4 * k, &p);
            FN(wide)(y + i + 4 * k, &q);
            a[k] += p * q;
        }
    }
    memcpy(lane, a, sizeof a);
    for (; i < n; i++) {
        lane[i % 16] += (double)x[i] * (double)y[i];
    }
    return FN(join)(lane);
}
// The sum of exp(x - m), by pieces that stay in the first-level cache.
static double FN(exp_sum)(int64_t n, const T *x, T m) {
    double lane[16] = {0};
    T e[256];
    for (int64_t at = 0; at < n; at += 256) {
        int64_t k = n - at < 256 ? n - at : 256;
        for (int64_t i = 0; i < k; i++) {
            e[i] = EXP(x[at + i] - m);
        }
        FN(sum_into)(k, e, lane);
    }
    return FN(join)(lane);
}

// ---- softmax and cross entropy ----

static void FN(softmax)(int64_t n, const void *px, void *py) {
    const T *restrict x = px;
    T *restrict y = py;
    T m = FN(largest)(n, x);
    for (int64_t i = 0; i < n; i++) {
        y[i] = EXP(x[i] - m);
    }
    T r = (T)(1.0 / FN(sum)(n, y));
    for (int64_t i = 0; i < n; i++) {
        y[i] *= r;
    }
}
static void FN(log_softmax)(int64_t n, const void *px, void *py) {
    const T *restrict x = px;
    T *restrict y = py;
    T m = FN(largest)(n, x), l = (T)tk_log(FN(exp_sum)(n, x, m));
    for (int64_t i = 0; i < n; i++) {
        y[i] = (x[i] - m) - l;
    }
}
static void FN(softmax_vjp)(int64_t n, const void *py, const void *pg, void *pr) {
    const T *restrict y = py, *restrict g = pg;
    T *restrict r = pr;
    T s = (T)FN(inner)(n, y, g);
    for (int64_t i = 0; i < n; i++) {
        r[i] = y[i] * (g[i] - s);
    }
}
static void FN(log_softmax_vjp)(int64_t n, const void *py, const void *pg, void *pr) {
    const T *restrict y = py, *restrict g = pg;
    T *restrict r = pr;
    T s = (T)FN(sum)(n, g);
    for (int64_t i = 0; i < n; i++) {
        r[i] = g[i] - EXP(y[i]) * s;
    }
}
static void FN(cross_entropy)(int64_t n, const void *px, int64_t label, double smoothing,
                              void *loss) {
    const T *x = px;
    T m = FN(largest)(n, x);
    double l = tk_log(FN(exp_sum)(n, x, m)), mean = 0;
    double r = (1 - smoothing) * (((double)m - (double)x[label]) + l);
    if (smoothing > 0) {
        mean = FN(sum)(n, x) / (double)n;
        r += smoothing * (((double)m - mean) + l);
    }
    *(T *)loss = (T)r;
}
static void FN(cross_entropy_vjp)(int64_t n, const void *px, int64_t label, double smoothing,
                                  const void *pg, void *pr) {
    const T *restrict x = px;
    T *restrict r = pr;
    T m = FN(largest)(n, x), g = *(const T *)pg;
    for (int64_t i = 0; i < n; i++) {
        r[i] = EXP(x[i] - m);
    }
    T scale = (T)((double)g / FN(sum)(n, r)), less = (T)((double)g * smoothing / (double)n);
    for (int64_t i = 0; i < n; i++) {
        r[i] = r[i] * scale - less;
    }
    r[label] -= (T)((double)g * (1 - smoothing));
}

// ---- norms whose statistics are of one row ----

static void FN(row_stats)(int64_t n, const void *px, bool centred, double *mean, double *var) {
    const T *x = px;
    double lane[16], m = centred ? FN(sum)(n, x) / (double)n : 0;
    int64_t i = 0;
    v4 a[4] = {{0}}, p;
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 4; k++) {
            FN(wide)(x + i + 4 * k, &p);
            p -= m;
            a[k] += p * p;
        }
    }
    memcpy(lane, a, sizeof a);
    for (; i < n; i++) {
        double d = (double)x[i] - m;
        lane[i % 16] += d * d;
    }
    *mean = m;
    *var = FN(join)(lane) / (double)n;
}
static void FN(row_norm)(int64_t n, const void *px, double mean, double scale, const void *pw,
                         const void *pb, void *py) {
    const T *restrict x = px, *restrict w = pw, *restrict b = pb;
    T *restrict y = py;
    T m = (T)mean, r = (T)scale;
    for (int64_t i = 0; i < n; i++) {
        y[i] = (x[i] - m) * r * w[i] + b[i];
    }
}
static void FN(row_norm_vjp)(int64_t n, const void *px, double mean, double scale, bool centred,
                             const void *pw, const void *pg, void *pr) {
    const T *restrict x = px, *restrict w = pw, *restrict g = pg;
    T *restrict r = pr;
    double one[16], two[16];
    T m = (T)mean, s = (T)scale;
    int64_t i = 0;
    v4 a1[4] = {{0}}, a2[4] = {{0}};
    for (; i + 16 <= n; i += 16) {
        for (int k = 0; k < 4; k++) {
            FN(four) gk, wk, xk;
            memcpy(&gk, g + i + 4 * k, sizeof gk);
            memcpy(&wk, w + i + 4 * k, sizeof wk);
            memcpy(&xk, x + i + 4 * k, sizeof xk);
            gk *= wk;
            xk = gk * (xk - m);
            a1[k] += __builtin_convertvector(gk, v4);
            a2[k] += __builtin_convertvector(xk, v4);
        }
    }
    memcpy(one, a1, sizeof one);
    memcpy(two, a2, sizeof two);
    for (; i < n; i++) {
        T v = g[i] * w[i], u = v * (x[i] - m);
        one[i % 16] += (double)v;
        two[i % 16] += (double)u;
    }
    T a = centred ? (T)(FN(join)(one) / (double)n) : (T)0;
    T b = (T)(FN(join)(two) / (double)n * scale * scale);
    for (i = 0; i < n; i++) {
        r[i] = s * ((g[i] * w[i] - a) - (x[i] - m) * b);
    }
}
static void FN(row_sums)(int64_t n, const void *px, double mean, double scale, const void *pg,
                         double *restrict sums) {
    const T *restrict x = px, *restrict g = pg;
    T m = (T)mean, r = (T)scale;
    for (int64_t i = 0; i < n; i++) {
        T v = g[i] * ((x[i] - m) * r);
        sums[i] += (double)v;
    }
    for (int64_t i = 0; i < n; i++) {
        sums[n + i] += (double)g[i];
    }
}

// ---- norms whose statistics are of columns ----

static void FN(column_sum)(int64_t rows, int64_t n, const void *px, double *restrict sum) {
    const T *restrict x = px;
    for (int64_t r = 0; r < rows; r++, x += n) {
        for (int64_t i = 0; i < n; i++) {
            sum[i] += (double)x[i];
        }
    }
}
static void FN(column_square)(int64_t rows, int64_t n, const void *px, const double *restrict mean,
                              double *restrict sum) {
    const T *restrict x = px;
    for (int64_t r = 0; r < rows; r++, x += n) {
        for (int64_t i = 0; i < n; i++) {
            double d = (double)x[i] - mean[i];
            sum[i] += d * d;
        }
    }
}
static void FN(column_norm)(int64_t rows, int64_t n, const void *px, const double *restrict mean,
                            const double *restrict scale, const void *pb, void *py) {
    const T *restrict x = px, *restrict b = pb;
    T *restrict y = py;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        for (int64_t i = 0; i < n; i++) {
            y[i] = (x[i] - (T)mean[i]) * (T)scale[i] + b[i];
        }
    }
}
static void FN(column_sums)(int64_t rows, int64_t n, const void *px, const double *restrict mean,
                            const double *restrict scale, const void *pg, double *restrict sums) {
    const T *restrict x = px, *restrict g = pg;
    for (int64_t r = 0; r < rows; r++, x += n, g += n) {
        for (int64_t i = 0; i < n; i++) {
            T v = g[i] * ((x[i] - (T)mean[i]) * (T)scale[i]);
            sums[i] += (double)v;
        }
        for (int64_t i = 0; i < n; i++) {
            sums[n + i] += (double)g[i];
        }
    }
}
static void FN(column_norm_vjp)(int64_t rows, int64_t n, const void *px,
                                const double *restrict mean, const double *restrict p,
                                const double *restrict q, const double *restrict u, const void *pg,
                                void *py) {
    const T *restrict x = px, *restrict g = pg;
    T *restrict y = py;
    for (int64_t r = 0; r < rows; r++, x += n, g += n, y += n) {
        for (int64_t i = 0; i < n; i++) {
            y[i] = (g[i] * (T)p[i] - (T)q[i]) - (x[i] - (T)mean[i]) * (T)u[i];
        }
    }
}

// ---- attention ----

static void FN(mask)(int64_t n, const unsigned char *restrict seen, void *ps) {
    T *restrict s = ps;
    for (int64_t i = 0; i < n; i++) {
        s[i] = seen[i] ? s[i] : (T)-TK_INF;
    }
}
static void FN(add_scaled)(int64_t n, const void *px, double scale, void *ps) {
    const T *restrict x = px;
    T *restrict s = ps;
    T by = (T)scale;
    for (int64_t i = 0; i < n; i++) {
        s[i] = s[i] * by + x[i];
    }
}
static void FN(attend)(int64_t seen, int64_t n, double scale, void *ps) {
    T *s = ps;
    T by = (T)scale, r = 0;
    for (int64_t i = 0; i < seen; i++) {
        s[i] *= by;
    }
    T m = FN(largest)(seen, s);
    if (m > (T)-TK_INF) {
        for (int64_t i = 0; i < seen; i++) {
            s[i] = EXP(s[i] - m);
        }
        r = (T)(1.0 / FN(sum)(seen, s));
    } else {
        for (int64_t i = 0; i < seen; i++) {
            s[i] = s[i] != s[i] ? s[i] : (T)0;
        }
        r = 1;
    }
    for (int64_t i = 0; i < seen; i++) {
        s[i] *= r;
    }
    for (int64_t i = seen; i < n; i++) {
        s[i] = 0;
    }
}
static void FN(attend_vjp)(int64_t n, double scale, const void *pp, void *pd) {
    const T *restrict p = pp;
    T *restrict d = pd;
    T sum = (T)FN(inner)(n, p, d), by = (T)scale;
    for (int64_t i = 0; i < n; i++) {
        d[i] = by * (p[i] * (d[i] - sum));
    }
}

// ---- rotations, sums of rows ----

static void FN(rotate)(int64_t n, bool adjacent, const double *restrict c, const double *restrict s,
                       const void *px, void *py) {
    const T *restrict x = px;
    T *restrict y = py;
    for (int64_t i = 0; !adjacent && i < n; i++) {
        T a = x[i], b = x[n + i], ci = (T)c[i], si = (T)s[i];
        y[i] = a * ci - b * si;
        y[n + i] = b * ci + a * si;
    }
    // In two loops: of one GCC 12 makes vfmaddsub, although contraction is off.
    for (int64_t i = 0; adjacent && i < n; i++) {
        y[2 * i] = x[2 * i] * (T)c[i] - x[2 * i + 1] * (T)s[i];
    }
    for (int64_t i = 0; adjacent && i < n; i++) {
        y[2 * i + 1] = x[2 * i + 1] * (T)c[i] + x[2 * i] * (T)s[i];
    }
}
static void FN(add)(int64_t n, const void *px, void *py) {
    const T *restrict x = px;
    T *restrict y = py;
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

// ---- windows ----

// `more` where v takes the place of best: not where best is NaN. In lanes, each a channel; the last
// few are done with some before them once more.
static void FN(largest_at)(int64_t n, int64_t rows, int64_t columns, int64_t width, const void *px,
                           int64_t first, int32_t *index) {
    enum { LANES = 8 };
    typedef T lanes __attribute__((vector_size(LANES * sizeof(T))));
    typedef WORD words __attribute__((vector_size(LANES * sizeof(T))));
    const T *x = px;
    for (int64_t k = 0; n >= LANES && k < n; k += LANES) {
        int64_t c = n - k < LANES ? n - LANES : k;
        lanes best, v;
        words at = {0};
        memcpy(&best, x + c, sizeof best);
        for (int64_t a = 0; a < rows; a++) {
            for (int64_t b = 0; b < columns; b++) {
                memcpy(&v, x + (a * width + b) * n + c, sizeof v);
                words more = ~(v <= best) & (best == best);
                words here = (WORD)(a * width + b) - (words){0};
                best = (lanes)((more & (words)v) | (~more & (words)best));
                at = (more & here) | (~more & at);
            }
        }
        for (int l = 0; l < LANES; l++) {
            index[c + l] = (int32_t)(first + at[l]);
        }
    }
    for (int64_t c = 0; n < LANES && c < n; c++) {
        T best = x[c];
        int64_t at = 0;
        for (int64_t a = 0; a < rows; a++) {
            for (int64_t b = 0; b < columns; b++) {
                T v = x[(a * width + b) * n + c];
                bool more = !(v <= best) & (best == best);
                best = more ? v : best;
                at = more ? a * width + b : at;
            }
        }
        index[c] = (int32_t)(first + at);
    }
}
