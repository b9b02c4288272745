// SPDX-License-Identifier: Apache-2.0
// Derivatives of the rows of linear algebra, for their files. Private to vm/op.
#ifndef TARN_OP_LINALG_GRAD_H
#define TARN_OP_LINALG_GRAD_H

#include "vm/op/op.h"

#define TARN_LA_RULES(name)                                                                        \
    const tarn_node *tarn_la_vjp_##name(tarn_graph *g, const tarn_node *y, const tarn_node *gy,    \
                                        int which);                                                \
    const tarn_node *tarn_la_jvp_##name(tarn_graph *g, const tarn_node *y,                         \
                                        const tarn_node *const *dx);
TARN_LA_RULES(svd)
TARN_LA_RULES(eigh)
TARN_LA_RULES(qr)
TARN_LA_RULES(cholesky)
TARN_LA_RULES(polar)
#undef TARN_LA_RULES

#endif
