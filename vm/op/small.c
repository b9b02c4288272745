// SPDX-License-Identifier: Apache-2.0
// Rows that work on reduced values between two passes over the data: iterations that live in the
// k × k Gram matrix of the operands, so that they cost nothing against the passes.
#include <string.h>

#include "vm/op/kernel/math.h"
#include "vm/op/rules.h"

// karcher_weights(gram, weights), attr.f = {max_iter, tol}. gram [k, k]: inner products of the k
// operands; weights [k]. Yields [k]: coefficients c such that Σ c_m x_m has the direction of the
// Karcher mean of the unit vectors and the length Σ w_m |x_m| / Σ w_m (zero operands count in the
// length). The iterate u is kept as coefficients over the unit vectors: every inner product that
// the iteration needs is one of the Gram matrix.
enum { MOST = 256 };

static tarn_status infer_karcher(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    (void)nin;
    int64_t k = in[1].rank == 1 ? in[1].shape[0] : -1;
    if (a->nf != 2 || in[0].rank != 2 || in[0].shape[0] != k || in[0].shape[1] != k || k > MOST) {
        TARN_RAISE(err, "ShapeMismatch", "expected a k by k Gram matrix and k weights, k <= %d",
                   MOST);
    }
    *out = (tarn_desc){.dtype = TARN_F64, .rank = 1, .shape = {k}};
    return TARN_OK;
}

// <u, v> for coefficient vectors over the unit vectors.
static double inner(int k, const double *cosine, const double *u, const double *v) {
    double s = 0;
    for (int i = 0; i < k; i++) {
        double t = 0;
        for (int j = 0; j < k; j++) {
            t += cosine[i * k + j] * v[j];
        }
        s += u[i] * t;
    }
    return s;
}

static double length_of(int k, const double *cosine, const double *u) {
    double s = inner(k, cosine, u, u);
    return s > 0 ? __builtin_sqrt(s) : 0;
}

static void normalise(int k, const double *cosine, double *u, double tol) {
    double n = length_of(k, cosine, u);
    if (n > tol) {
        for (int i = 0; i < k; i++) {
            u[i] /= n;
        }
    }
}

static void iterate(int k, const double *cosine, const double *w, double *u, int steps, double tol) {
    double t[MOST];
    for (int step = 0; step < steps; step++) {
        memset(t, 0, (size_t)k * sizeof *t);
        for (int m = 0; m < k; m++) {
            if (w[m] == 0) {
                continue;
            }
            double c = 0;
            for (int j = 0; j < k; j++) {
                c += cosine[m * k + j] * u[j];
            }
            c = c > 1 ? 1 : c < -1 ? -1 : c;
            double theta = tk_acos(c);
            if (theta < tol) {
                continue;
            }
            double f = w[m] * theta / tk_sin(theta);
            t[m] += f;
            for (int j = 0; j < k; j++) {
                t[j] -= f * c * u[j];
            }
        }
        double len = length_of(k, cosine, t);
        if (len < tol) {
            return;
        }
        double c = tk_cos(len), s = tk_sin(len) / len;
        for (int j = 0; j < k; j++) {
            u[j] = c * u[j] + s * t[j];
        }
        normalise(k, cosine, u, tol);
    }
}

static tarn_status apply_karcher(tarn_context *cx, int nin, const tarn_tensor *in,
                                 const tarn_attr *a, const tarn_desc *d, tarn_tensor *out,
                                 tarn_error *err) {
    (void)nin;
    int k = (int)d->shape[0];
    double tol = a->f[1], norm[MOST], w[MOST], u[MOST], length = 0, total = 0, live = 0;
    double *cosine = tarn_alloc(&cx->budget, sizeof *cosine * (size_t)(k * k + 1));
    if (!cosine) {
        return tarn_raise_nomem(err, "karcher_weights", sizeof *cosine * (size_t)(k * k));
    }
    tarn_status s = tarn_tensor_zeros(cx, TARN_F64, 1, d->shape, out, err);
    for (int m = 0; s == TARN_OK && m < k; m++) {
        norm[m] = __builtin_sqrt(tarn_tensor_get(&in[0], (int64_t)m * k + m));
        w[m] = tarn_tensor_get(&in[1], m);
        length += w[m] * norm[m];
        total += w[m];
        w[m] = norm[m] > tol ? w[m] : 0;
        live += w[m];
    }
    if (s == TARN_OK && live != 0 && total != 0) {
        int first = -1;
        for (int i = 0; i < k; i++) {
            w[i] /= live;
            u[i] = w[i];
            first = first < 0 && w[i] != 0 ? i : first;
            for (int j = 0; j < k; j++) {
                double p = norm[i] * norm[j];
                cosine[i * k + j] = i == j ? 1 : p > 0 ? tarn_tensor_get(&in[0], (int64_t)i * k + j) / p : 0;
            }
        }
        if (inner(k, cosine, u, u) < tol * tol) {
            memset(u, 0, (size_t)k * sizeof *u);
            u[first] = 1;
        }
        normalise(k, cosine, u, tol);
        iterate(k, cosine, w, u, (int)a->f[0], tol);
        for (int i = 0; i < k; i++) {
            tarn_tensor_set(out, i, norm[i] > 0 ? u[i] * (length / total) / norm[i] : 0);
        }
    }
    tarn_free(&cx->budget, cosine, sizeof *cosine * (size_t)(k * k + 1));
    return s;
}

const tarn_op tarn_op_karcher_weights = {.name = "karcher_weights", .version = 1,
                                         .cls = TARN_CLASS_WHOLE, .min_in = 2, .max_in = 2,
                                         .infer = infer_karcher, .apply = apply_karcher,
                                         .summary = "coefficients of the Karcher mean of directions, "
                                                    "from the Gram matrix and weights"};
