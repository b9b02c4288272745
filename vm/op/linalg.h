// SPDX-License-Identifier: Apache-2.0
// Linear algebra as nodes: what a method author writes. Each function emits one row of class WHOLE
// (vm/op/linalg*.c, through LAPACK: tier B) and the views that take its packed result apart;
// nothing is computed here. Operands are [.., m, n]; leading dimensions are a batch whose matrices
// are worked on in parallel, so k offsets of one shape put together by `concat` are decomposed on
// all processors. f64 operands are computed in f64, everything else in f32. Elements that are not
// finite are an error. Matrices without elements give empty or zero results. Errors stick to the
// graph.
#ifndef TARN_OP_LINALG_H
#define TARN_OP_LINALG_H

#include "vm/op/op.h"

typedef enum {
    TARN_SVD_EXACT,   // gesdd, after a QR factorisation of matrices that are long on one side
    TARN_SVD_GRAM,    // eigenvectors of the smaller Gram matrix, which is formed in f64
    TARN_SVD_RANDOM,  // projection on the range of a x noise (Halko, Martinsson, Tropp 2011)
} tarn_svd_route;

typedef struct {
    int64_t rank;  // singular values kept, at most min(m, n); 0: all of them
    tarn_svd_route route;
    int64_t oversample, power;  // RANDOM: further columns of noise (usually 10), power steps (2)
    int64_t seed;               // RANDOM
} tarn_svd_options;

// a = u diag(s) vt, k = rank or min(m, n); s descends. The entry of largest magnitude of each
// column of u is positive (the first of equals), so that signs do not depend on the library.
typedef struct {
    const tarn_node *u;   // [.., m, k]
    const tarn_node *s;   // [.., k]
    const tarn_node *vt;  // [.., k, n]
    // [..]: |a - u diag(s) vt| (Frobenius). No singular value is off by more, and no matrix of rank
    // k comes nearer than EXACT's. EXACT: from the values left out (0 if none are; rounding adds
    // about 1e-6 s1 in f32, 1e-15 s1 in f64); GRAM, RANDOM: of the product itself, rounding
    // included.
    const tarn_node *residual;
} tarn_svd_nodes;
// o: NULL for all values by EXACT.
tarn_svd_nodes tarn_svd(tarn_graph *g, const tarn_node *a, const tarn_svd_options *o);

// Symmetric a [.., n, n] = v diag(w) v^T; only the lower triangle is read; w ascends; signs as
// for u.
typedef struct {
    const tarn_node *w;  // [.., n]
    const tarn_node *v;  // [.., n, n], an eigenvector in each column
} tarn_eigh_nodes;
tarn_eigh_nodes tarn_eigh(tarn_graph *g, const tarn_node *a);

// a = q r, k = min(m, n); the diagonal of r is not negative.
typedef struct {
    const tarn_node *q;  // [.., m, k], orthonormal columns
    const tarn_node *r;  // [.., k, n], upper triangular
} tarn_qr_nodes;
tarn_qr_nodes tarn_qr(tarn_graph *g, const tarn_node *a);

// Real Schur form a = z t z^T: z orthogonal, t upper triangular but for 2 x 2 blocks on the
// diagonal.
typedef struct {
    const tarn_node *t, *z;  // [.., n, n] each
} tarn_schur_nodes;
tarn_schur_nodes tarn_schur(tarn_graph *g, const tarn_node *a);

// Lower triangular l with a = l l^T; a not positive definite: an error. Only a's lower triangle is
// read.
const tarn_node *tarn_cholesky(tarn_graph *g, const tarn_node *a);
// x [.., n, r] with a x = b; a singular: an error.
const tarn_node *tarn_solve(tarn_graph *g, const tarn_node *a, const tarn_node *b);

typedef enum {
    // u vt of the SVD. Any rank: what the matrix leaves open is filled by the SVD's choice.
    TARN_POLAR_SVD,
    // Steps of matrix products, no SVD: at most 10 for a condition number up to 1000, 15 in f32, 34
    // in f64 (linalg_polar.c). They use all processors where gesdd uses one; on one it is the
    // slower route. A matrix that is singular to rounding gets some orthonormal completion or is
    // refused; the zero matrix is refused.
    TARN_POLAR_ITERATE,
    // SVD of a square matrix, the last singular pair flipped where that makes the determinant +1:
    // the nearest rotation (Kabsch).
    TARN_POLAR_ROTATION,
} tarn_polar_route;
// The orthogonal factor of a = q h: the nearest matrix with orthonormal columns (or rows where
// wide).
const tarn_node *tarn_polar(tarn_graph *g, const tarn_node *a, tarn_polar_route route);

// q^t for an orthogonal q [.., n, n] and a number t (rank 0): every plane turns by t times its
// angle in (-pi, pi]. Eigenvalues -1 turn in pairs; a single one is left (determinant -1, where no
// real power exists unless t is whole) and is an error then.
const tarn_node *tarn_orthogonal_power(tarn_graph *g, const tarn_node *q, const tarn_node *t);

const tarn_node *tarn_transpose(tarn_graph *g, const tarn_node *a);  // of the last two dimensions

// ---- how results are packed along the last dimension ----

enum { TARN_LINALG_PARTS = 4 };
typedef struct tarn_linalg_part {
    const char *name;  // as torch.linalg calls it
    int64_t at;        // its first element
    int rank;          // of a single matrix's part
    int64_t shape[2];
    bool transposed;  // stored so
} tarn_linalg_part;
// The parts of row `op` over a matrix operand (rank: as for svd); 0: the result is not packed.
int tarn_linalg_parts(const tarn_op *op, const tarn_desc *a, int64_t rank, tarn_linalg_part *parts);
// These parts of a result (or of its derivative) as nodes; out: [TARN_LINALG_PARTS].
void tarn_linalg_unpack(tarn_graph *g, const tarn_op *op, const tarn_desc *a, int64_t rank,
                        const tarn_node *packed, const tarn_node **out);

#endif
