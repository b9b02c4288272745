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

static tarn_status infer_square(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                 tarn_error *err) {
    (void)nin;
    int64_t k = in[1].rank == 1 ? in[1].shape[0] : -1;
    if (a->nf != 2 || in[0].rank != 2 || in[0].shape[0] != k || in[0].shape[1] != k || k > MOST) {
        TARN_RAISE(err, "ShapeMismatch", "expected a k by k matrix and k weights, k <= %d",
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
            if (theta <= tol) {
                continue;
            }
            double f = w[m] * theta / tk_sin(theta);
            t[m] += f;
            for (int j = 0; j < k; j++) {
                t[j] -= f * c * u[j];
            }
        }
        double len = length_of(k, cosine, t);
        if (len <= tol) {
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
        if (inner(k, cosine, u, u) <= tol * tol) {
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
                                         .infer = infer_square, .apply = apply_karcher,
                                         .refuses = "it is the end of an iteration; compute the weights once, "
                                                    "outside, and pass them in",
                                         .summary = "coefficients of the Karcher mean of directions, "
                                                    "from the Gram matrix and weights"};

// median_weights(squares, weights), attr.f = {max_iter, tol}. squares [k, k]: squared distances
// between k points; weights [k]. Yields [k]: the shares, of sum 1, of the points in their geometric
// median, the minimum of Σ w_m |y - x_m|. For shares c and e of sum 1,
// |Σ (c_m - e_m) x_m|² = -½ (c - e)ᵀ squares (c - e), so distances are all that the iteration needs.

// Zero where what is left of the sum could be rounding alone.
static double distance(int k, const double *squares, const double *c, const double *e) {
    double sum = 0, size = 0;
    for (int i = 0; i < k; i++) {
        for (int j = 0; j < i; j++) {
            double term = -(c[i] - e[i]) * (c[j] - e[j]) * squares[i * k + j];
            sum += term;
            size += term > 0 ? term : -term;
        }
    }
    return sum > 1e-14 * size ? __builtin_sqrt(sum) : 0;
}

// The unit vectors from the point y (shares c, at distance d[m] from x_m) to the points, summed by weight:
// its length. `step` gets the shares of the point that they balance in; *here the weight of the points at y.
static double pull(int k, const double *squares, const double *w, const double *d, const double *c,
                   double *step, double *here) {
    double total = 0;
    *here = 0;
    for (int m = 0; m < k; m++) {
        step[m] = d[m] > 0 ? w[m] / d[m] : 0;
        *here += d[m] > 0 ? 0 : w[m];
        total += step[m];
    }
    for (int m = 0; m < k && total > 0; m++) {
        step[m] /= total;
    }
    return total > 0 ? total * distance(k, squares, step, c) : 0;
}

// Weiszfeld's iteration, with the correction of Vardi and Zhang (2000, doi:10.1073/pnas.97.4.1423) where
// the point sits on one of those given.
static void weiszfeld(int k, const double *squares, const double *w, double *c, int steps, double tol) {
    double d[MOST], step[MOST], corner[MOST], here;
    for (int n = 0; n < steps; n++) {
        double change = 0;
        memset(corner, 0, (size_t)k * sizeof *corner);
        for (int m = 0; m < k; m++) {
            corner[m] = 1;
            d[m] = distance(k, squares, c, corner);
            corner[m] = 0;
        }
        double r = pull(k, squares, w, d, c, step, &here);
        double stay = here == 0 ? 0 : r > here ? here / r : 1;
        for (int m = 0; m < k; m++) {
            double next = (1 - stay) * step[m] + stay * c[m], by = next > c[m] ? next - c[m] : c[m] - next;
            change = by > change ? by : change;
            c[m] = next;
        }
        if (change <= tol) {
            return;
        }
    }
}

static void median(int k, const double *squares, const double *w, double *c, int steps, double tol) {
    double total = 0, d[MOST], step[MOST], here;
    for (int m = 0; m < k; m++) {
        total += w[m];
    }
    for (int at = 0; at < k; at++) {  // a point that outweighs the pull of all others is the median
        memset(c, 0, (size_t)k * sizeof *c);
        c[at] = 1;
        for (int m = 0; m < k; m++) {
            d[m] = __builtin_sqrt(squares[at * k + m]);
        }
        double r = pull(k, squares, w, d, c, step, &here);
        if (r < here * (1 - 1e-9)) {
            return;
        }
    }
    for (int m = 0; m < k; m++) {
        c[m] = total > 0 ? w[m] / total : 1.0 / k;
    }
    weiszfeld(k, squares, w, c, steps, tol);
}

static tarn_status apply_median(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin;
    int k = (int)d->shape[0];
    double w[MOST], c[MOST], *squares = tarn_alloc(&cx->budget, sizeof *squares * (size_t)(k * k + 1));
    if (!squares) {
        return tarn_raise_nomem(err, "median_weights", sizeof *squares * (size_t)(k * k));
    }
    tarn_status s = tarn_tensor_zeros(cx, TARN_F64, 1, d->shape, out, err);
    double broken = 0;  // NaN as soon as a distance is not finite: so is the result then
    for (int i = 0; s == TARN_OK && i < k; i++) {
        w[i] = tarn_tensor_get(&in[1], i);
        for (int j = 0; j < k; j++) {
            squares[i * k + j] = tarn_tensor_get(&in[0], (int64_t)i * k + j);
            broken += squares[i * k + j] * 0;
        }
    }
    if (s == TARN_OK && broken == 0) {
        median(k, squares, w, c, (int)a->f[0], a->f[1]);
    }
    for (int i = 0; s == TARN_OK && i < k; i++) {
        tarn_tensor_set(out, i, broken == 0 ? c[i] : broken);
    }
    tarn_free(&cx->budget, squares, sizeof *squares * (size_t)(k * k + 1));
    return s;
}

const tarn_op tarn_op_median_weights = {.name = "median_weights", .version = 1,
                                        .cls = TARN_CLASS_WHOLE, .min_in = 2, .max_in = 2,
                                        .infer = infer_square, .apply = apply_median,
                                        .refuses = "it is the end of an iteration; compute the shares once, "
                                                   "outside, and pass them in",
                                        .summary = "shares of points in their geometric median, from "
                                                   "squared distances and weights"};
