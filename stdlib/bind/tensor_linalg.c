// SPDX-License-Identifier: Apache-2.0
// Linear algebra on tensors: svd, eigh, qr, cholesky, solve, schur, polar, orthogonal_power. Names and
// order of results as in torch.linalg. A row whose result is packed is applied once and taken apart by
// views (tarn_linalg_parts), on values in memory as on planned ones.
#include <string.h>

#include "stdlib/bind/tensor.h"
#include "vm/op/linalg.h"

static void matrix_desc(lua_State *L, int idx, const char *function, tarn_desc *d) {
    tarn_bind_desc(L, idx, function, d);
    if (d->rank < 2) {
        tarn_lua_error(L, "%s: expected a matrix or a batch of them, got rank %d", function, d->rank);
    }
}

// Pushes one part of the packed value at idx.
static void push_part(lua_State *L, int idx, const char *function, const tarn_linalg_part *p) {
    tarn_desc d;
    tarn_bind_desc(L, idx, function, &d);
    int top = lua_gettop(L), rank = d.rank - 1 + p->rank;
    int64_t range[3 * TARN_MAX_RANK], shape[TARN_MAX_RANK + 2], order[TARN_MAX_RANK + 2], count = 1;
    for (int k = 0; k < p->rank; k++) {
        count *= p->shape[k];
    }
    for (int k = 0; k < d.rank; k++) {
        range[3 * k] = k == d.rank - 1 ? p->at : 0;
        range[3 * k + 1] = k == d.rank - 1 ? count : d.shape[k];
        range[3 * k + 2] = 1;
        shape[k] = d.shape[k];
    }
    memcpy(shape + d.rank - 1, p->shape, (size_t)p->rank * sizeof *shape);
    tarn_attr a = {.ni = 3 * d.rank, .i = range};
    tarn_bind_unary(L, &tarn_op_slice, idx, &a);
    tarn_bind_reshape(L, -1, rank, shape);
    if (p->transposed) {
        for (int k = 0; k < rank; k++) {
            order[k] = k;
        }
        order[rank - 1] = rank - 2;
        order[rank - 2] = rank - 1;
        tarn_bind_permute(L, -1, order);
    }
    tarn_bind_only(L, top);
}

// The parts of `op` applied to the value at 1; returns how many were pushed.
static int push_parts(lua_State *L, const tarn_op *op, const char *function, int64_t rank,
                      const tarn_attr *a) {
    tarn_desc d;
    tarn_linalg_part parts[TARN_LINALG_PARTS];
    matrix_desc(L, 1, function, &d);
    tarn_bind_unary(L, op, 1, a);
    int packed = lua_gettop(L), n = tarn_linalg_parts(op, &d, rank, parts);
    for (int i = 0; i < n; i++) {
        push_part(L, packed, function, &parts[i]);
    }
    return n;
}

static void no_more(lua_State *L, const char *function, int most) {
    if (lua_gettop(L) > most) {
        tarn_lua_error(L, "%s takes %d argument%s, got %d", function, most, most == 1 ? "" : "s",
                       lua_gettop(L));
    }
}

// The place of the option `route` in the list.
static int64_t read_route(lua_State *L, int idx, const char *function, const char *const *routes) {
    const char *s = tarn_lua_opt_string(L, idx, function, "route", routes[0]);
    for (int64_t i = 0; routes[i]; i++) {
        if (strcmp(s, routes[i]) == 0) {
            return i;
        }
    }
    return tarn_lua_error(L, "%s: route is \"%s\"; expected \"%s\", \"%s\" or \"%s\"", function, s,
                          routes[0], routes[1], routes[2]);
}

static int l_svd(lua_State *L) {
    static const char *const names[] = {"rank", "route", "oversample", "power", "seed", NULL};
    static const char *const routes[] = {"exact", "gram", "random", NULL};
    const char *f = "tensor:svd";
    no_more(L, f, 2);
    lua_settop(L, 2);
    tarn_lua_check_options(L, 2, f, names, false);
    int64_t i[5] = {tarn_lua_opt_integer(L, 2, f, "rank", 0), read_route(L, 2, f, routes), 0, 0, 0};
    if (i[1] == TARN_SVD_RANDOM) {
        i[2] = tarn_lua_opt_integer(L, 2, f, "oversample", 10);
        i[3] = tarn_lua_opt_integer(L, 2, f, "power", 2);
        i[4] = tarn_lua_opt_integer(L, 2, f, "seed", 0);
    } else {
        for (int k = 2; k < 5; k++) {
            if (lua_istable(L, 2) && lua_getfield(L, 2, names[k]) != LUA_TNIL) {
                tarn_lua_error(L, "%s: %s belongs to route = \"random\"", f, names[k]);
            }
        }
        lua_settop(L, 2);
    }
    tarn_attr a = {.ni = 5, .i = i};
    return push_parts(L, &tarn_op_svd, f, i[0], &a);
}

static int l_eigh(lua_State *L) {
    no_more(L, "tensor:eigh", 1);
    return push_parts(L, &tarn_op_eigh, "tensor:eigh", 0, NULL);
}
static int l_qr(lua_State *L) {
    no_more(L, "tensor:qr", 1);
    return push_parts(L, &tarn_op_qr, "tensor:qr", 0, NULL);
}
static int l_schur(lua_State *L) {
    no_more(L, "tensor:schur", 1);
    return push_parts(L, &tarn_op_schur, "tensor:schur", 0, NULL);
}
static int l_cholesky(lua_State *L) {
    tarn_desc d;
    no_more(L, "tensor:cholesky", 1);
    matrix_desc(L, 1, "tensor:cholesky", &d);
    return tarn_bind_unary(L, &tarn_op_cholesky, 1, NULL);
}

static int l_solve(lua_State *L) {
    tarn_desc a, b;
    no_more(L, "tensor:solve", 2);
    lua_settop(L, 2);
    matrix_desc(L, 1, "tensor:solve", &a);
    tarn_bind_desc(L, 2, "tensor:solve", &b);
    bool vector = b.rank == 1;
    if (vector) {
        tarn_bind_reshape(L, 2, 2, (const int64_t[]){b.shape[0], 1});
        lua_replace(L, 2);
    }
    static const int idx[2] = {1, 2};
    tarn_bind_apply(L, &tarn_op_solve, 2, idx, NULL);
    return vector ? tarn_bind_reshape(L, -1, 1, b.shape) : 1;
}

static int l_polar(lua_State *L) {
    static const char *const names[] = {"route", NULL};
    static const char *const routes[] = {"svd", "iterate", "rotation", NULL};
    tarn_desc d;
    no_more(L, "tensor:polar", 2);
    lua_settop(L, 2);
    matrix_desc(L, 1, "tensor:polar", &d);
    tarn_lua_check_options(L, 2, "tensor:polar", names, false);
    int64_t route = read_route(L, 2, "tensor:polar", routes);
    tarn_attr a = {.ni = 1, .i = &route};
    return tarn_bind_unary(L, &tarn_op_polar, 1, &a);
}

static int l_power(lua_State *L) {
    static const int idx[2] = {1, 2};
    tarn_desc d;
    no_more(L, "tensor:orthogonal_power", 2);
    lua_settop(L, 2);
    matrix_desc(L, 1, "tensor:orthogonal_power", &d);
    return tarn_bind_apply(L, &tarn_op_orthogonal_power, 2, idx, NULL);
}

// clang-format off
static const tarn_binding rows[] = {
    {{"tensor:svd", "t:svd({rank =, route = \"exact\", oversample = 10, power = 2, seed = 0}) -> U, S, Vh, residual",
      "Singular value decomposition of a matrix, or of each of a batch [.., m, n]: t = U diag(S) Vh with the rank (or all "
      "min(m, n)) largest values, descending. The entry of largest magnitude in each column of U is positive. residual is the Frobenius norm of t - U diag(S) Vh: no singular "
      "value is off by more. route = \"exact\" is LAPACK's gesdd; \"gram\" takes eigenvectors of the smaller Gram matrix, formed in f64 "
      "(as good as exact for f32, half the digits for small values of f64; pays for few values of long matrices); \"random\" projects on the range of t times "
      "noise with oversample more columns and power steps (Halko, Martinsson and Tropp 2011), and needs a rank to pay. For the last two the residual is computed from "
      "the product itself. f64 if t is f64, else f32. A call into LAPACK cannot be stopped half-way. Differentiable, by the formulas of the exact decomposition on every route: where two values are equal to rounding their "
      "vectors have no derivative, and a gradient that needs one is NaN (S alone has one; for the polar factor take t:polar()). Tier B.",
      "local U, S, Vh, rest = tensor { {3, 0}, {0, 4}, {0, 0} }:svd()\nprint(S, rest)\n-- > f32[2]\n-- > [4., 3.]\t0.0\n"
      "local u, s, vh, left = tensor { {3, 0}, {0, 4} }:svd { rank = 1 }\nprint(u:matmul(s:reshape { 1, 1 } * vh), left)\n-- > f32[2, 2]\n-- > [[0., 0.],\n-- >  [0., 4.]]\t3.0"}, l_svd},
    {{"tensor:eigh", "t:eigh() -> values, vectors", "Eigenvalues (ascending) and eigenvectors (one in each column, its entry of largest magnitude positive) "
      "of symmetric matrices; only the lower triangle is read, and a gradient is one by the lower triangle. Where eigenvalues are equal to rounding, a gradient that needs their vectors is NaN. Tier B.",
      "local w, v = tensor { {2, 0}, {0, 1} }:eigh()\nprint(w)\n-- > f32[2]\n-- > [1., 2.]"}, l_eigh},
    {{"tensor:qr", "t:qr() -> Q, R", "t = Q R with orthonormal columns in Q [.., m, k] and an upper triangular R [.., k, n] whose diagonal is not negative; k = min(m, n). "
      "A gradient needs linearly independent columns (the first m, where t is wide); else it is an error. Tier B.",
      "local Q, R = tensor { {0, 2}, {3, 1} }:qr()\nprint(R)\n-- > f32[2, 2]\n-- > [[3., 1.],\n-- >  [0., 2.]]"}, l_qr},
    {{"tensor:cholesky", "t:cholesky() -> L", "The lower triangular L with t = L L^T, of positive definite matrices (an error otherwise); only the lower triangle is read, and a gradient is "
      "one by the lower triangle. Tier B.",
      "print(tensor { {4, 2}, {2, 10} }:cholesky())\n-- > f32[2, 2]\n-- > [[2., 0.],\n-- >  [1., 3.]]"}, l_cholesky},
    {{"tensor:solve", "a:solve(b) -> x", "x with a x = b, by LU factorisation with pivoting; b is a vector, a matrix, or a batch like a. A singular a is an error. Tier B.",
      "print(tensor { {2, 0}, {1, 4} }:solve(tensor { 2, 9 }))\n-- > f32[2]\n-- > [1., 2.]"}, l_solve},
    {{"tensor:schur", "t:schur() -> T, Z", "The real Schur form t = Z T Z^T: Z orthogonal, T upper triangular but for 2 by 2 blocks on the diagonal, one for each pair of complex "
      "eigenvalues. Not differentiable. Tier B.",
      "local T, Z = tensor { {1, 2}, {0, 3} }:schur()\nprint(T[{1, 1}], T[{2, 2}])\n-- > 1.0\t3.0"}, l_schur},
    {{"tensor:polar", "t:polar({route = \"svd\"}) -> Q", "The orthogonal polar factor: the matrix with orthonormal columns (rows, where t is wide) that is nearest to t. route = \"iterate\" "
      "uses matrix products only (steps of Newton-Schulz kind, at most 10 for a condition number up to 1000, 34 for any), which run on all processors where the SVD runs on one; a matrix "
      "that is singular to rounding may be refused. \"rotation\" gives the nearest rotation of a square t: determinant +1. "
      "A gradient (by way of the SVD) is NaN where the factor has none: a rank below min(m, n), of a square t below n - 1. Tier B.",
      "print(tensor { {0, -3}, {2, 0} }:polar())\n-- > f32[2, 2]\n-- > [[ 0., -1.],\n-- >  [ 1.,  0.]]"}, l_polar},
    {{"tensor:orthogonal_power", "q:orthogonal_power(t) -> tensor", "q^t for an orthogonal q and any number t: every plane that q turns is turned by t times its angle in (-pi, pi]. A determinant "
      "of -1 is an error unless t is whole: t:polar { route = \"rotation\" } makes rotations. Not differentiable. Tier B.",
      "local q = tensor { {0, -1}, {1, 0} }\nprint(q:orthogonal_power(2):round())\n-- > f32[2, 2]\n-- > [[-1., -0.],\n-- >  [ 0., -1.]]"}, l_power},
};
// clang-format on

void tarn_bind_tensor_linalg(tarn_host *h) {
    tarn_bind_rows(h, "tensor", rows, (int)(sizeof rows / sizeof *rows));
}
