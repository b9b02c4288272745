// SPDX-License-Identifier: Apache-2.0
// Derivatives of the decompositions, as nodes of other rows, so that they have derivatives themselves.
// Formulas: Giles 2008 ("An extended collection of matrix derivative results"), Townsend 2016
// ("Differentiating the singular value decomposition"), Walter and Lehmann 2010 (QR, arXiv 1009.6112),
// with one change: terms stand over s_j - s_i and s_i + s_j by themselves, so that what needs only one of
// them (a polar factor) does not meet the other. Where two singular values or eigenvalues are equal, to
// rounding, their vectors are any basis of a plane and have no derivative: the result is NaN where it
// would need one. Values themselves, and vectors of values that stand alone, are right at such a point
// too, since a term whose numerator is zero is zero. A singular value of zero is treated alike.
#include "vm/op/linalg_grad.h"

#include <math.h>

#include "vm/op/linalg.h"
#include "vm/op/rules.h"

#define X (y->in[0])

// ---- pieces ----

static const tarn_node *mm(tarn_graph *g, const tarn_node *a, const tarn_node *b) {
    return tarn_matmul(g, a, b);
}
static const tarn_node *T(tarn_graph *g, const tarn_node *a) { return tarn_transpose(g, a); }
static const tarn_node *half(tarn_graph *g, const tarn_node *a) {
    return tarn_mul(g, tarn_num(g, 0.5), a);
}

// x [..] as [.., 1].
static const tarn_node *with_axis(tarn_graph *g, const tarn_node *x) {
    int64_t shape[TARN_MAX_RANK + 1] = {0};
    if (!x) {
        return NULL;
    }
    for (int d = 0; d < x->desc.rank; d++) {
        shape[d] = x->desc.shape[d];
    }
    shape[x->desc.rank] = 1;
    return tarn_reshape(g, x, x->desc.rank + 1, shape);
}

// v [.., k] as [.., 1, k] (a row) or [.., k, 1] (a column).
static const tarn_node *lying(tarn_graph *g, const tarn_node *v, bool column) {
    int64_t shape[TARN_MAX_RANK + 1] = {0};
    if (!v) {
        return NULL;
    }
    int r = v->desc.rank;
    for (int d = 0; d < r - 1; d++) {
        shape[d] = v->desc.shape[d];
    }
    shape[r - 1] = column ? v->desc.shape[r - 1] : 1;
    shape[r] = column ? 1 : v->desc.shape[r - 1];
    return tarn_reshape(g, v, r + 1, shape);
}

// bool [rows, cols]: `op` of the row's and the column's number.
static const tarn_node *pattern(tarn_graph *g, const tarn_op *op, int64_t rows, int64_t cols) {
    const int64_t down[2] = {rows, 1}, across[2] = {1, cols};
    return tarn_binary(g, op, tarn_reshape(g, tarn_iota(g, rows), 2, down),
                       tarn_reshape(g, tarn_iota(g, cols), 2, across));
}
static const tarn_node *masked(tarn_graph *g, const tarn_op *op, const tarn_node *a) {
    if (!a) {
        return NULL;
    }
    int r = a->desc.rank;
    const tarn_node *mask = pattern(g, op, a->desc.shape[r - 2], a->desc.shape[r - 1]);
    return tarn_where(g, mask, a, tarn_num(g, 0));
}
static const tarn_node *lower(tarn_graph *g, const tarn_node *a) { return masked(g, &tarn_op_ge, a); }
static const tarn_node *below(tarn_graph *g, const tarn_node *a) { return masked(g, &tarn_op_gt, a); }

// v [.., k] on the diagonal of [.., k, k], and the diagonal of such a matrix.
static const tarn_node *diagonal(tarn_graph *g, const tarn_node *v) {
    if (!v) {
        return NULL;
    }
    int64_t k = v->desc.shape[v->desc.rank - 1];
    return tarn_where(g, pattern(g, &tarn_op_eq, k, k), lying(g, v, false), tarn_num(g, 0));
}
static const tarn_node *diagonal_of(tarn_graph *g, const tarn_node *a) {
    if (!a) {
        return NULL;
    }
    const tarn_node *only = masked(g, &tarn_op_eq, a);
    const int64_t axis = a->desc.rank - 1;
    return tarn_reduce(g, &tarn_op_sum, only, 1, &axis, false);
}

// The symmetric matrix whose lower triangle is read, and the adjoint of reading it.
static const tarn_node *from_lower(tarn_graph *g, const tarn_node *a) {
    return tarn_add(g, lower(g, a), T(g, below(g, a)));
}
static const tarn_node *to_lower(tarn_graph *g, const tarn_node *a) {
    return tarn_add(g, lower(g, a), below(g, T(g, a)));
}

// x / d. Where |d| is not above `least` the quotient is not known: NaN, but zero where x is zero.
static const tarn_node *over(tarn_graph *g, const tarn_node *x, const tarn_node *d,
                             const tarn_node *least) {
    const tarn_node *close = tarn_le(g, tarn_abs(g, d), least), *zero = tarn_num(g, 0);
    const tarn_node *q = tarn_div(g, x, tarn_where(g, close, tarn_num(g, 1), d));
    const tarn_node *open = tarn_where(g, tarn_eq(g, x, zero), zero, tarn_num(g, (double)NAN));
    return tarn_where(g, close, open, q);
}

// What counts as equal between values of this size [..]: some units of rounding.
static const tarn_node *rounding(tarn_graph *g, const tarn_node *size) {
    return size ? tarn_mul(g, tarn_num(g, size->desc.dtype == TARN_F64 ? 0x1p-48 : 0x1p-19), size) : NULL;
}
// The largest magnitude of v [.., k], as [.., 1].
static const tarn_node *largest(tarn_graph *g, const tarn_node *v) {
    const int64_t axis = v ? v->desc.rank - 1 : 0;
    return tarn_reduce(g, &tarn_op_max, tarn_abs(g, v), 1, &axis, true);
}

// x_ij / (v_j - v_i) off the diagonal (`sum`: over v_i + v_j) for x [.., k, k] and values v [.., k].
static const tarn_node *over_values(tarn_graph *g, const tarn_node *x, const tarn_node *v, bool sum) {
    const tarn_node *least = lying(g, rounding(g, largest(g, v)), true);
    const tarn_node *i = lying(g, v, true), *j = lying(g, v, false);
    return over(g, masked(g, &tarn_op_ne, x), sum ? tarn_add(g, i, j) : tarn_sub(g, j, i), least);
}

// x with zeros behind it along an axis, up to `size`.
static const tarn_node *grown(tarn_graph *g, const tarn_node *x, int axis, int64_t size) {
    int64_t i[4 * TARN_MAX_RANK];
    int r = x ? x->desc.rank : 0;
    for (int d = 0; d < r; d++) {
        i[3 * d] = 0;
        i[3 * d + 1] = x->desc.shape[d];
        i[3 * d + 2] = 1;
        i[3 * r + d] = d == axis ? size : x->desc.shape[d];
    }
    tarn_attr a = {.ni = 4 * r, .i = i};
    return tarn_node_make(g, &tarn_op_pad, 1, &x, &a);
}

// The parts of a result put together as its row packs them.
static const tarn_node *packed(tarn_graph *g, const tarn_node *y, int64_t rank,
                               const tarn_node *const *part) {
    tarn_linalg_part p[TARN_LINALG_PARTS];
    const tarn_node *flat[TARN_LINALG_PARTS];
    int n = tarn_linalg_parts(y->op, &X->desc, rank, p), lead = X->desc.rank - 2;
    for (int i = 0; i < n; i++) {
        int64_t shape[TARN_MAX_RANK], count = 1;
        for (int d = 0; d < lead; d++) {
            shape[d] = X->desc.shape[d];
        }
        for (int d = 0; d < p[i].rank; d++) {
            count *= p[i].shape[d];
        }
        shape[lead] = count;
        flat[i] = tarn_reshape(g, p[i].transposed ? T(g, part[i]) : part[i], lead + 1, shape);
    }
    return tarn_concat(g, n, flat, lead);
}

static bool empty(const tarn_node *y) { return tarn_desc_numel(&X->desc) == 0; }

// ---- svd ----

typedef struct {
    const tarn_node *u, *s, *vt, *residual;
    int64_t m, n, k, r;  // k: all values; r: those that y keeps
} triples;

// All triples of the operand: what y leaves out takes part in the derivative of what it keeps.
static triples triples_of(tarn_graph *g, const tarn_node *y) {
    int d = X->desc.rank;
    triples t = {.m = X->desc.shape[d - 2], .n = X->desc.shape[d - 1]};
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    t.k = t.m < t.n ? t.m : t.n;
    t.r = y->attr.i[0] > 0 ? y->attr.i[0] : t.k;
    tarn_linalg_unpack(g, y->op, &X->desc, t.r, y, p);
    t.u = p[0], t.s = p[1], t.vt = p[2];
    if (t.r < t.k) {
        t.residual = with_axis(g, p[3]);
        tarn_svd_nodes all = tarn_svd(g, X, NULL);
        t.u = all.u, t.s = all.s, t.vt = all.vt;
    }
    return t;
}

// d residual / d s: s / residual from place r on; zero where nothing is left out.
static const tarn_node *tail(tarn_graph *g, const triples *t) {
    const tarn_node *zero = tarn_num(g, 0), *none = tarn_le(g, t->residual, rounding(g, largest(g, t->s)));
    const tarn_node *left_out = tarn_ge(g, tarn_iota(g, t->k), tarn_num(g, (double)t->r));
    const tarn_node *share = tarn_div(g, t->s, tarn_where(g, none, tarn_num(g, 1), t->residual));
    return tarn_where(g, left_out, tarn_where(g, none, zero, share), zero);
}
// Columns (or rows) of x over the singular values.
static const tarn_node *over_each(tarn_graph *g, const tarn_node *x, const tarn_node *s, bool rows) {
    return over(g, x, lying(g, s, rows), lying(g, rounding(g, largest(g, s)), true));
}

const tarn_node *tarn_la_vjp_svd(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)which;
    if (empty(y)) {
        return NULL;
    }
    triples t = triples_of(g, y);
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    tarn_linalg_unpack(g, y->op, &X->desc, t.r, gy, p);
    const tarn_node *gu = p[0], *gs = p[1], *gvt = p[2];
    if (t.r < t.k) {
        int d = X->desc.rank;
        gu = grown(g, gu, d - 1, t.k);
        gvt = grown(g, gvt, d - 2, t.k);
        gs = tarn_add(g, grown(g, gs, d - 2, t.k), tarn_mul(g, with_axis(g, p[3]), tail(g, &t)));
    }
    const tarn_node *v = T(g, t.vt), *ug = mm(g, T(g, t.u), gu), *vg = mm(g, t.vt, T(g, gvt));
    const tarn_node *a = tarn_sub(g, ug, T(g, ug)), *b = tarn_sub(g, vg, T(g, vg));
    const tarn_node *inner = half(g, tarn_add(g, over_values(g, tarn_sub(g, a, b), t.s, true),
                                              over_values(g, tarn_add(g, a, b), t.s, false)));
    const tarn_node *out = mm(g, mm(g, t.u, tarn_add(g, inner, diagonal(g, gs))), t.vt);
    if (t.m > t.k) {
        const tarn_node *scaled = over_each(g, gu, t.s, false);
        const tarn_node *rest = tarn_sub(g, scaled, mm(g, t.u, mm(g, T(g, t.u), scaled)));
        out = tarn_add(g, out, mm(g, rest, t.vt));
    }
    if (t.n > t.k) {
        const tarn_node *scaled = over_each(g, gvt, t.s, true);
        const tarn_node *rest = tarn_sub(g, scaled, mm(g, mm(g, scaled, v), t.vt));
        out = tarn_add(g, out, mm(g, t.u, rest));
    }
    return out;
}

const tarn_node *tarn_la_jvp_svd(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    if (!dx[0] || empty(y)) {
        return NULL;
    }
    triples t = triples_of(g, y);
    int d = X->desc.rank;
    const int64_t last = d - 2;
    const tarn_node *ua = mm(g, T(g, t.u), dx[0]), *p = mm(g, ua, T(g, t.vt)), *part[4];
    const tarn_node *even = over_values(g, tarn_add(g, p, T(g, p)), t.s, false);
    const tarn_node *odd = over_values(g, tarn_sub(g, p, T(g, p)), t.s, true);
    part[0] = mm(g, t.u, half(g, tarn_add(g, even, odd)));
    part[1] = diagonal_of(g, p);
    part[2] = mm(g, T(g, half(g, tarn_sub(g, even, odd))), t.vt);
    if (t.m > t.k) {
        const tarn_node *rest = tarn_sub(g, mm(g, dx[0], T(g, t.vt)), mm(g, t.u, p));
        part[0] = tarn_add(g, part[0], over_each(g, rest, t.s, false));
    }
    if (t.n > t.k) {
        const tarn_node *rest = tarn_sub(g, ua, mm(g, p, t.vt));
        part[2] = tarn_add(g, part[2], over_each(g, rest, t.s, true));
    }
    part[3] = tarn_mul(g, part[1], t.r < t.k ? tail(g, &t) : tarn_num(g, 0));
    part[3] = tarn_reduce(g, &tarn_op_sum, part[3], 1, &last, true);
    if (t.r < t.k) {
        part[0] = tarn_slice(g, part[0], d - 1, 0, t.r);
        part[1] = tarn_slice(g, part[1], d - 2, 0, t.r);
        part[2] = tarn_slice(g, part[2], d - 2, 0, t.r);
    }
    return packed(g, y, t.r, part);
}

// ---- polar: its derivative is its own adjoint ----

// In: a direction, or a cotangent. By route "rotation" the last singular value may count as negative.
static const tarn_node *polar_slope(tarn_graph *g, const tarn_node *y, const tarn_node *d) {
    tarn_svd_nodes t = tarn_svd(g, X, NULL);
    int64_t m = X->desc.shape[X->desc.rank - 2], n = X->desc.shape[X->desc.rank - 1];
    const tarn_node *u = t.u, *s = t.s;
    if (y->attr.i[0] == TARN_POLAR_ROTATION) {
        const tarn_node *sign = diagonal_of(g, mm(g, mm(g, T(g, u), y), T(g, t.vt)));
        sign = tarn_sign(g, sign);
        u = tarn_mul(g, u, lying(g, sign, false));
        s = tarn_mul(g, s, sign);
    }
    const tarn_node *v = T(g, t.vt), *ud = mm(g, T(g, u), d), *p = mm(g, ud, v);
    const tarn_node *out = mm(g, mm(g, u, over_values(g, tarn_sub(g, p, T(g, p)), s, true)), t.vt);
    if (m > n) {
        const tarn_node *rest = tarn_sub(g, mm(g, d, v), mm(g, u, p));
        return tarn_add(g, out, mm(g, over_each(g, rest, s, false), t.vt));
    }
    if (m < n) {
        const tarn_node *rest = tarn_sub(g, ud, mm(g, p, t.vt));
        return tarn_add(g, out, mm(g, u, over_each(g, rest, s, true)));
    }
    return out;
}
const tarn_node *tarn_la_vjp_polar(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)which;
    return empty(y) ? NULL : polar_slope(g, y, gy);
}
const tarn_node *tarn_la_jvp_polar(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    return !dx[0] || empty(y) ? NULL : polar_slope(g, y, dx[0]);
}

// ---- eigh: a function of the lower triangle ----

const tarn_node *tarn_la_vjp_eigh(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)which;
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL}, *c[TARN_LINALG_PARTS] = {NULL};
    if (empty(y)) {
        return NULL;
    }
    tarn_linalg_unpack(g, y->op, &X->desc, 0, y, p);
    tarn_linalg_unpack(g, y->op, &X->desc, 0, gy, c);
    const tarn_node *turn = mm(g, T(g, p[1]), c[1]);
    turn = half(g, over_values(g, tarn_sub(g, turn, T(g, turn)), p[0], false));
    const tarn_node *inner = tarn_add(g, diagonal(g, c[0]), turn);
    return to_lower(g, mm(g, mm(g, p[1], inner), T(g, p[1])));
}
const tarn_node *tarn_la_jvp_eigh(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    if (!dx[0] || empty(y)) {
        return NULL;
    }
    tarn_linalg_unpack(g, y->op, &X->desc, 0, y, p);
    const tarn_node *turn = mm(g, mm(g, T(g, p[1]), from_lower(g, dx[0])), p[1]);
    const tarn_node *part[2] = {diagonal_of(g, turn),
                                mm(g, p[1], over_values(g, turn, p[0], false))};
    return packed(g, y, 0, part);
}

// ---- cholesky: a function of the lower triangle ----

static const tarn_node *lower_halved(tarn_graph *g, const tarn_node *a) {
    return half(g, tarn_add(g, lower(g, a), below(g, a)));
}
const tarn_node *tarn_la_vjp_cholesky(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)which;
    const tarn_node *lt = T(g, y), *inner = lower_halved(g, mm(g, lt, gy));
    const tarn_node *left = tarn_solve(g, lt, inner);
    return to_lower(g, T(g, tarn_solve(g, lt, T(g, left))));
}
const tarn_node *tarn_la_jvp_cholesky(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    if (!dx[0]) {
        return NULL;
    }
    const tarn_node *left = tarn_solve(g, y, from_lower(g, dx[0]));
    return mm(g, y, lower_halved(g, T(g, tarn_solve(g, y, T(g, left)))));
}

// ---- qr ----

// q [m, k], r [k, k] of the first k columns; the others, if any, are r2 = q^T a2.
typedef struct {
    const tarn_node *q, *r, *rest;
    int64_t k, n;
    int last;
} factors;
static factors factors_of(tarn_graph *g, const tarn_node *y) {
    const tarn_node *p[TARN_LINALG_PARTS] = {NULL};
    int d = X->desc.rank;
    int64_t m = X->desc.shape[d - 2], n = X->desc.shape[d - 1];
    factors f = {.k = m < n ? m : n, .n = n, .last = d - 1};
    tarn_linalg_unpack(g, y->op, &X->desc, 0, y, p);
    f.q = p[0];
    f.r = tarn_slice(g, p[1], d - 1, 0, f.k);
    f.rest = n > f.k ? tarn_slice(g, X, d - 1, f.k, n - f.k) : NULL;
    return f;
}

const tarn_node *tarn_la_vjp_qr(tarn_graph *g, const tarn_node *y, const tarn_node *gy, int which) {
    (void)which;
    const tarn_node *c[TARN_LINALG_PARTS] = {NULL}, *part[2];
    if (empty(y)) {
        return NULL;
    }
    factors f = factors_of(g, y);
    tarn_linalg_unpack(g, y->op, &X->desc, 0, gy, c);
    const tarn_node *gq = c[0], *gr = tarn_slice(g, c[1], f.last, 0, f.k), *gr2 = NULL;
    if (f.rest) {
        gr2 = tarn_slice(g, c[1], f.last, f.k, f.n - f.k);
        gq = tarn_add(g, gq, mm(g, f.rest, T(g, gr2)));
    }
    const tarn_node *m = tarn_sub(g, mm(g, f.r, T(g, gr)), mm(g, T(g, gq), f.q));
    const tarn_node *sum = tarn_add(g, gq, mm(g, f.q, from_lower(g, m)));
    part[0] = T(g, tarn_solve(g, f.r, T(g, sum)));
    part[1] = f.rest ? mm(g, f.q, gr2) : NULL;
    return tarn_concat(g, f.rest ? 2 : 1, part, f.last);
}
const tarn_node *tarn_la_jvp_qr(tarn_graph *g, const tarn_node *y, const tarn_node *const *dx) {
    if (!dx[0] || empty(y)) {
        return NULL;
    }
    factors f = factors_of(g, y);
    const tarn_node *da = tarn_slice(g, dx[0], f.last, 0, f.k), *part[2], *r[2];
    const tarn_node *c = T(g, tarn_solve(g, T(g, f.r), T(g, da))), *w = mm(g, T(g, f.q), c);
    const tarn_node *turn = tarn_sub(g, below(g, w), T(g, below(g, w)));
    part[0] = tarn_add(g, tarn_sub(g, c, mm(g, f.q, w)), mm(g, f.q, turn));
    r[0] = mm(g, tarn_sub(g, w, turn), f.r);
    if (f.rest) {
        const tarn_node *da2 = tarn_slice(g, dx[0], f.last, f.k, f.n - f.k);
        r[1] = tarn_add(g, mm(g, T(g, part[0]), f.rest), mm(g, T(g, f.q), da2));
    }
    part[1] = tarn_concat(g, f.rest ? 2 : 1, r, f.last);
    return packed(g, y, 0, part);
}
