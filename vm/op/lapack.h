// SPDX-License-Identifier: Apache-2.0
// The LAPACK routines of the same OpenBLAS as the matrix products (blas.c opens both): Fortran
// symbols, so matrices are column-major, every argument is an address, and each text argument has
// its length (1) at the end, as gfortran passes it. [0]: single precision, [1]: double. Private to
// vm/op.
#ifndef TARN_OP_LAPACK_H
#define TARN_OP_LAPACK_H

#include <stddef.h>

#include "vm/base/status.h"

typedef const char *tarn_flag;
typedef const int *tarn_size;

// name, parameters
#define TARN_LAPACK_ROUTINES(X)                                                                    \
    X(gesdd, (tarn_flag jobz, tarn_size m, tarn_size n, void *a, tarn_size lda, void *s, void *u,  \
              tarn_size ldu, void *vt, tarn_size ldvt, void *work, tarn_size lwork, int *iwork,    \
              int *info, size_t))                                                                  \
    X(syevd, (tarn_flag jobz, tarn_flag uplo, tarn_size n, void *a, tarn_size lda, void *w,        \
              void *work, tarn_size lwork, int *iwork, tarn_size liwork, int *info, size_t, size_t)) \
    X(gelqf, (tarn_size m, tarn_size n, void *a, tarn_size lda, void *tau, void *work,             \
              tarn_size lwork, int *info))                                                         \
    X(orglq, (tarn_size m, tarn_size n, tarn_size k, void *a, tarn_size lda, const void *tau,      \
              void *work, tarn_size lwork, int *info))                                             \
    X(potrf, (tarn_flag uplo, tarn_size n, void *a, tarn_size lda, int *info, size_t))             \
    X(pocon, (tarn_flag uplo, tarn_size n, const void *a, tarn_size lda, const void *anorm,        \
              void *rcond, void *work, int *iwork, int *info, size_t))                             \
    X(getrf, (tarn_size m, tarn_size n, void *a, tarn_size lda, int *ipiv, int *info))             \
    X(getrs, (tarn_flag trans, tarn_size n, tarn_size nrhs, const void *a, tarn_size lda,          \
              const int *ipiv, void *b, tarn_size ldb, int *info, size_t))                         \
    X(gees, (tarn_flag jobvs, tarn_flag sort, void *select, tarn_size n, void *a, tarn_size lda,   \
             int *sdim, void *wr, void *wi, void *vs, tarn_size ldvs, void *work, tarn_size lwork, \
             int *bwork, int *info, size_t, size_t))

typedef struct tarn_lapack {
#define TARN_LAPACK_FIELD(name, parameters) void(*name[2]) parameters;
    TARN_LAPACK_ROUTINES(TARN_LAPACK_FIELD)
#undef TARN_LAPACK_FIELD
} tarn_lapack;

// The routines; opens the library on first need.
tarn_status tarn_lapack_get(const tarn_lapack **l, tarn_error *err);

#endif
