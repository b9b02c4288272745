// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters as vectors: what an adapter adds to each tensor of its base, as a model of mass
// 0 over the base's names, so that base + 0.7 * lora is a merge. Reading PEFT's files (peft.c) and
// what they mean for a tensor (lora.c) are apart: the plan holds only the second.
#ifndef TARN_MODEL_LORA_H
#define TARN_MODEL_LORA_H

#include "merge/model/model.h"

// What an adapter does to one tensor W of the base. With D = scale · B A (turned: transposed, as
// for weights stored [in, out] and for embeddings) the tensor of the vector is
//     D                                    a and b
//     (m / |W + D|) (W + D) - W            a, b and m (DoRA, Liu et al. 2024, arXiv:2402.09353)
//     scale · b                            b alone: the bias of an adapter's B
//     F - W                                full alone: the adapter has the whole tensor
//     F - W + D                            full, a and b: trained on a W of its own
// where |·| is the norm over the inputs of each output.
typedef struct tarn_lora_part {
    int64_t slot;                   // of the base
    int64_t a, b, magnitude, full;  // slots of the adapter; -1: absent
    double scale;
    bool turned;
} tarn_lora_part;

// Checks that shapes fit: AdapterPair, AdapterRank, AdapterShape. `parts` in any order, one a slot.
tarn_status tarn_model_lora(tarn_context *cx, tarn_model *base, tarn_model *adapter, int64_t n,
                            const tarn_lora_part *parts, tarn_model **out, tarn_error *err);
// What PEFT's adapter_config.json says of an adapter's tensors.
tarn_status tarn_lora_read(tarn_model *base, tarn_model *adapter, const char *config, size_t len,
                           tarn_model **out, tarn_error *err);
// The adapter in PEFT's folder `path` (adapter_config.json, adapter_model.safetensors) for a base.
// label: of its tensors in plans; NULL: the folder's name.
tarn_status tarn_lora_open(tarn_context *cx, const char *path, const char *label, tarn_model *base,
                           tarn_model **out, tarn_error *err);

enum { TARN_LORA_MODELS = 64 };
// The sum of n adapters, each as tarn_model_lora made it, as factors under PEFT's names, for
// tarn_lora_config. rank 0: that of the sum; `factors`: factors are added instead of products.
tarn_status tarn_model_lora_sum(tarn_context *cx, int n, tarn_model *const *loras,
                                const double *weight, int64_t rank, bool factors, tarn_model **out,
                                tarn_error *err);

// ---- writing (peft_write.c) ----

// How an adapter calls what it has of the base's tensor: base_model.model.MODULE and a suffix,
// which takes the place of `end` of the name (".weight"); in `a`, NULL without memory.
const char *tarn_lora_name(tarn_arena *a, const tarn_slot *s, const char *end, const char *suffix);
// Whether linear layers of a model with these names are stored [in, out].
bool tarn_lora_turned(const tarn_names *names);
// adapter_config.json for factors under such names: ranks from their shapes, alpha = rank, so that
// the product is not scaled.
tarn_status tarn_lora_config(const tarn_model *factors, const char *base, bool turned,
                             tarn_text *out, tarn_error *err);

#endif
