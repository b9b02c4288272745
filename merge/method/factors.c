// SPDX-License-Identifier: Apache-2.0
// Names and shapes of an adapter's tensors (factors.h).
#include "merge/method/factors.h"

#include <string.h>

#include "merge/model/lora.h"

static bool is(const tarn_model *m, const char *param, const char *text) {
    return strcmp(tarn_model_value(m, param, -1)->text, text) == 0;
}

static bool ends(const tarn_slot *s, const char *end) {
    size_t n = strlen(end);
    return s->len > n && memcmp(s->name + s->len - n, end, n) == 0;
}

static bool embedding(const tarn_model *m, const tarn_slot *s) {
    int64_t at = tarn_model_find(m->in[0], s->name, s->len);
    const tarn_name_info *info = at < 0 ? NULL : tarn_model_info(m->in[0], at);
    return info && info->place == TARN_PLACE_EMBED && s->rank == 2;
}

tarn_factors tarn_factors_of(const tarn_model *m, const tarn_slot *s) {
    bool layer = ends(s, ".weight") && (s->rank == 2 || s->rank == 4) && tarn_slot_numel(s) > 0;
    if (layer && embedding(m, s)) {
        return is(m, "embeddings", "lora")   ? TARN_FACTORS_TURNED
               : is(m, "embeddings", "full") ? TARN_FACTORS_WHOLE
                                             : TARN_FACTORS_NONE;
    }
    if (!layer) {
        return is(m, "rest", "full") ? TARN_FACTORS_WHOLE : TARN_FACTORS_NONE;
    }
    bool turned = is(m, "fan_in_fan_out", "yes") ||
                  (is(m, "fan_in_fan_out", "auto") && tarn_lora_turned(tarn_model_names(m->in[0])));
    return turned && s->rank == 2 ? TARN_FACTORS_TURNED : TARN_FACTORS_PLAIN;
}

// A layer that has an adapter keeps its bias one level deeper.
static bool inner_bias(const tarn_model *m, const tarn_slot *s, tarn_arena *a) {
    size_t n = s->len - 5;  // without ".bias"
    char *name = ends(s, ".bias") ? tarn_arena_take(a, n + sizeof ".weight") : NULL;
    if (!name) {
        return false;
    }
    memcpy(name, s->name, n);
    memcpy(name + n, ".weight", sizeof ".weight");
    int64_t at = tarn_model_find(m->in[0], name, n + 7);
    return at >= 0 && tarn_factors_of(m, &m->in[0]->slots[at]) <= TARN_FACTORS_TURNED;
}

static void set_factor(const tarn_model *m, int64_t i, bool b, bool turned, tarn_arena *a,
                       tarn_slot *out) {
    double rank = tarn_value_at(tarn_model_value(m, "rank", -1), i);
    int64_t rows = out->shape[0], columns = tarn_slot_numel(out) / rows,
            least = rows < columns ? rows : columns;
    int64_t r = rank < (double)least ? (int64_t)rank : least;
    const char *suffix = embedding(m, out) ? (b ? ".lora_embedding_B" : ".lora_embedding_A")
                         : b               ? ".lora_B.weight"
                                           : ".lora_A.weight";
    int64_t *shape = tarn_arena_copy(a, out->shape, (size_t)out->rank * sizeof *shape);
    if (shape && b) {  // [out, r], or [out, r, 1, 1]
        shape[0] = turned ? columns : rows;
        shape[1] = r;
        for (int d = 2; d < out->rank; d++) {
            shape[d] = 1;
        }
    } else if (shape) {  // [r, in], or [r, in, height, width]
        shape[0] = r;
        shape[1] = turned ? rows : shape[1];
    }
    out->name = tarn_lora_name(a, out, ".weight", suffix);
    out->dtype = tarn_dtype_compute(out->dtype);
    out->shape = shape;
}

bool tarn_factors_outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out) {
    tarn_factors f = tarn_factors_of(m, out);
    if (f == TARN_FACTORS_NONE || k > (f == TARN_FACTORS_WHOLE ? 0 : 1)) {
        return false;
    }
    if (f == TARN_FACTORS_WHOLE) {
        bool inner = inner_bias(m, out, a);
        out->name = tarn_lora_name(a, out, inner ? ".bias" : "", inner ? ".base_layer.bias" : "");
    } else {
        set_factor(m, i, k == 1, f == TARN_FACTORS_TURNED, a, out);
    }
    out->len = out->name ? strlen(out->name) : 0;
    return true;
}
