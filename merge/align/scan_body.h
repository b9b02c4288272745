// SPDX-License-Identifier: Apache-2.0
// The passes of scan.h for costs of type T; FN(name) is the name for that type. Included twice by scan.c.

static int64_t FN(survey)(int64_t m, const void *cost, double sign, double *restrict lo) {
    const T *restrict c = cost;
    int64_t wrong = 0;
    for (int64_t j = 0; j < m; j++) {
        double x = sign * (double)c[j];
        wrong |= !(x > -INFINITY);
        lo[j] = x < lo[j] ? x : lo[j];
    }
    for (int64_t j = 0; wrong && j < m; j++) {
        if (!(sign * (double)c[j] > -INFINITY)) {
            return j;
        }
    }
    return -1;
}

static void FN(reduce)(int64_t m, const void *cost, double sign, const double *restrict v, double *restrict r,
                       double *restrict lane) {
    const T *restrict c = cost;
    double least[TARN_SCAN_LANES];
    int64_t j = 0;
    for (int l = 0; l < TARN_SCAN_LANES; l++) {
        least[l] = INFINITY;
    }
    for (; j + TARN_SCAN_LANES <= m; j += TARN_SCAN_LANES) {
        for (int l = 0; l < TARN_SCAN_LANES; l++) {
            double x = sign * (double)c[j + l] - v[j + l];
            r[j + l] = x;
            least[l] = x < least[l] ? x : least[l];
        }
    }
    for (int l = 0; j < m; j++, l++) {
        r[j] = sign * (double)c[j] - v[j];
        least[l] = r[j] < least[l] ? r[j] : least[l];
    }
    memcpy(lane, least, sizeof least);
}

static double FN(at)(const void *c, int64_t i) { return (double)((const T *)c)[i]; }

static void FN(transpose)(int64_t n, int64_t m, const void *from, void *to) {
    const T *restrict c = from;
    T *restrict out = to;
    enum { SIDE = 32 };
    for (int64_t i0 = 0; i0 < n; i0 += SIDE) {
        for (int64_t j0 = 0; j0 < m; j0 += SIDE) {
            int64_t i1 = i0 + SIDE < n ? i0 + SIDE : n, j1 = j0 + SIDE < m ? j0 + SIDE : m;
            for (int64_t j = j0; j < j1; j++) {
                for (int64_t i = i0; i < i1; i++) {
                    out[j * n + i] = c[i * m + j];
                }
            }
        }
    }
}
