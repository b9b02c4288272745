// SPDX-License-Identifier: Apache-2.0
// The difference of two models as a low-rank adapter: each matrix cut to its leading singular
// triples, the square root of each singular value going to both factors.
#include "merge/method/factors.h"

static double mass(const tarn_model *m) {
    (void)m;
    return 1;  // factors are no vector over the base's names
}

static const tarn_node *build(tarn_build *b) {
    static const int64_t swap[2] = {1, 0};
    tarn_graph *g = b->g;
    tarn_factors f = tarn_factors_of(b->model, b->source);
    if (f == TARN_FACTORS_WHOLE) {
        return b->x[0];
    }
    const tarn_slot *s = &b->model->slots[b->slot];
    int64_t r = s->shape[b->output];
    tarn_svd_nodes d = tarn_singular_svd(b, tarn_singular_matrix(b, tarn_delta(b, 0)), r);
    const tarn_node *root = d.s ? tarn_sqrt(g, d.s) : NULL, *x;
    if (!root) {
        return NULL;
    }
    if (b->output == 0) {
        x = tarn_singular_rows(g, root, f == TARN_FACTORS_TURNED ? tarn_permute(g, d.u, swap) : d.vt);
    } else {
        x = tarn_mul(g, f == TARN_FACTORS_TURNED ? tarn_permute(g, d.vt, swap) : d.u, root);
    }
    return tarn_reshape(g, x, s->rank, s->shape);
}

static const tarn_param params[] = {
    {"rank", TARN_INTEGER, 16, 1, 1e9, false, NULL, "of each pair of factors; at most the rows and columns of the matrix"},
    {"embeddings", TARN_CHOICE, 0, 0, 0, false, "lora|full|drop", "embeddings as factors, whole, or left out"},
    {"rest", TARN_CHOICE, 0, 0, 0, false, "full|drop", "norms, biases and all else that is no matrix: whole, or left out"},
    {"fan_in_fan_out", TARN_CHOICE, 0, 0, 0, false, "auto|yes|no",
     "whether linear layers are stored [in, out]; auto: they are in GPT-2 and its like"},
    TARN_PARAM_ROUTE,
    {0},
};

const tarn_method tarn_method_lora_extract = {
    .name = "lora_extract",
    .summary = "the difference of a model and its base as a low-rank adapter",
    .paper = "Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685; Eckart, Young 1936",
    .detail = "Per matrix, U S V^T of x - base cut to `rank`: B = U S^(1/2), A = S^(1/2) V^T, the nearest of that rank. Linear "
              "layers, heads, convolutions ([out, in h w]) and embeddings are factored, all else is kept whole. The names are "
              "PEFT's; m:save_adapter writes it, model.lora reads and applies it. Ranks that keep a share of the energy: "
              "rank = merge.lora_ranks { … }. mergekit-extract-lora is the same with embeddings = \"full\".",
    .example = "local lora = merge.lora_extract { base = base, a, rank = 4 }\nprint(lora:names()[1])",
    .version = 1, .tier = 'B', .needs = TARN_NEEDS_BASE | TARN_FLOATS, .least = 1, .most = 1, .params = params,
    .mass = mass, .build = build, .outputs = tarn_factors_outputs,
};
