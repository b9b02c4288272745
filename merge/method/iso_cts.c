// SPDX-License-Identifier: Apache-2.0
// Iso-CTS: a basis of the directions that tasks share and of those each has alone, with a flat spectrum.
#include <math.h>

#include "merge/method/singular.h"

static const tarn_node *build(tarn_build *b) {
    tarn_graph *g = b->g;
    if (!tarn_singular(b)) {
        return tarn_singular_mean(b);
    }
    int64_t side = tarn_singular_side(b);
    const tarn_node *t = tarn_singular_offsets(b);
    // The common part takes what the tasks' equal parts leave.
    int64_t each = (int64_t)nearbyint((double)(side - (int64_t)(tarn_get(b, "common") * (double)side)) / b->n);
    each = each * b->n > side ? side / b->n : each;
    int64_t common = side - each * b->n;
    tarn_svd_nodes c = tarn_singular_svd(b, tarn_singular_sum(g, t), common > 0 ? common : 1);
    const tarn_node *u = c.u, *s = c.s, *vt = c.vt;
    if (each > 0) {
        const tarn_node *shared = tarn_matmul(g, u, tarn_matmul(g, tarn_transpose(g, u), t));
        tarn_svd_nodes p = tarn_singular_svd(b, common > 0 ? tarn_sub(g, t, shared) : t, each);
        u = tarn_singular_beside(g, p.u);
        s = tarn_singular_above(g, p.s);
        vt = tarn_singular_above(g, p.vt);
        if (common > 0) {
            u = tarn_concat(g, 2, (const tarn_node *[]){u, c.u}, 1);
            s = tarn_concat(g, 2, (const tarn_node *[]){s, c.s}, 0);
            vt = tarn_concat(g, 2, (const tarn_node *[]){vt, c.vt}, 0);
        }
    }
    const tarn_node *mean = tarn_div(g, tarn_total(g, &tarn_op_sum, s), tarn_num(g, (double)side));
    u = tarn_polar(g, u, TARN_POLAR_SVD);
    return tarn_singular_result(b, tarn_singular_product(g, u, mean, tarn_polar(g, vt, TARN_POLAR_SVD)));
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_LAMBDA,
    {"common", TARN_NUMBER, 0.8, 0, 1, false, NULL,
     "share of min(m, n) directions taken from the sum; the rest, in equal numbers, from each task"},
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_iso_cts = {
    .name = "iso_cts",
    .summary = "flat spectrum over the common directions of all tasks and those of each",
    .paper = "Marczak, Magistri, Cygert, Twardowski, Bagdanov, van de Weijer 2025, arXiv:2502.04959",
    .detail = "Per matrix: the leading triples of the sum of w_m t_m are the common part (U_c ..); from each t_m - U_c U_c^T "
              "t_m its own leading triples; all bases put together and made orthogonal by their polar factors; base + "
              "lambda mean(S) U V^T." TARN_DETAIL_SINGULAR,
    .example = "print(merge.iso_cts { base = base, a, b })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .build = build,
    .note = tarn_singular_note,
};
