// SPDX-License-Identifier: Apache-2.0
// TSV-Compress: many fine-tuned models as the leading singular triples of their task vectors.
#include <string.h>

#include "merge/method/tsv.h"

static const tarn_node *build(tarn_build *b) {
    if (!tarn_singular(b)) {
        const tarn_node *t[TARN_METHOD_MODELS];
        for (int i = 0; i < b->n; i++) {
            t[i] = tarn_vectors_task(b, i);
        }
        return tarn_stack(b->g, b->n, t);
    }
    tarn_svd_nodes p = tarn_tsv_parts(b);
    return b->output == 0 ? p.u : b->output == 1 ? p.s : p.vt;
}

static bool outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out) {
    static const char *const suffix[] = {".u", ".s", ".vt"};
    const tarn_slot *s = tarn_slot_source(m, i);
    bool matrix = tarn_singular_is(m, i) && s->shape[0] > 0;
    if (k > (matrix ? 2 : 0)) {
        return false;
    }
    int64_t tasks = tarn_method_models(m), shape[TARN_MAX_RANK + 1] = {tasks};
    memcpy(shape + 1, s->shape, (size_t)s->rank * sizeof *shape);
    int rank = s->rank + 1;
    if (matrix) {
        int64_t side[2] = {s->shape[0], tarn_slot_numel(s) / s->shape[0]};
        int64_t count = tarn_tsv_count(m, i, side[0] < side[1] ? side[0] : side[1]);
        rank = k == 1 ? 2 : 3;
        shape[1] = k == 0 ? side[0] : count;
        shape[2] = k == 0 ? count : side[1];
    }
    out->rank = rank;
    out->shape = tarn_arena_copy(a, shape, (size_t)rank * sizeof *shape);
    tarn_slot_rename(out, matrix ? suffix[k] : ".offset", a);
    return true;
}

static const tarn_param params[] = {
    TARN_PARAM_WEIGHT,
    TARN_PARAM_SHARE_TRIPLES,
    TARN_PARAM_SINGULAR,
    {0},
};

const tarn_method tarn_method_tsv_c = {
    .name = "tsv_c",
    .summary = "many fine-tuned models as the leading singular triples of each",
    .paper = "Gargiulo, Crisostomi, Bucarelli, Scardapane, Silvestri, Rodolà 2024, Task Singular Vectors, arXiv:2412.00081",
    .detail = "For each matrix w the leading triples of all T task vectors w_m (x_m - base): w.u [T, m, k], w.s [T, k], w.vt "
              "[T, k, n]; for other tensors w.offset [T, ..]. merge.tsv_task makes the model of a task of them. All T tasks "
              "together take about as much as two models.",
    .example = "local kept = merge.tsv_c { base = base, a, b }\n"
               "print(merge.tsv_task { base = base, kept, task = 1 })",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE, .least = 1, .most = -1, .params = params, .mass = tarn_mass_none,
    .build = build, .outputs = outputs,
};
