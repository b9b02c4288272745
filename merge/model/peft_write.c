// SPDX-License-Identifier: Apache-2.0
// PEFT's names and adapter_config.json for factors made here.
#include <string.h>

#include "merge/model/lora.h"

static const char prefix[] = "base_model.model.";

const char *tarn_lora_name(tarn_arena *a, const tarn_slot *s, const char *end, const char *suffix) {
    size_t keep = s->len - strlen(end), before = strlen(prefix), after = strlen(suffix);
    char *name = tarn_arena_take(a, before + keep + after + 1);
    if (name) {
        memcpy(name, prefix, before);
        memcpy(name + before, s->name, keep);
        memcpy(name + before + keep, suffix, after + 1);
    }
    return name;
}

bool tarn_lora_turned(const tarn_names *names) {
    static const char *const types[] = {"gpt2", "openai-gpt", "imagegpt", "decision_transformer"};
    for (size_t k = 0; names && k < sizeof types / sizeof *types; k++) {
        if (strcmp(names->model_type, types[k]) == 0) {
            return true;
        }
    }
    return false;
}

typedef enum { FACTOR, WHOLE, WHOLE_BIAS, OTHER } kind;

// What the config has to say of a tensor; the module is `len` bytes from `name`.
static kind look(const tarn_slot *s, const char **name, size_t *len) {
    static const char *const a[] = {".lora_A.weight", ".lora_embedding_A"},
                             *const b[] = {".lora_B.", ".lora_embedding_B"};
    *name = s->name + (strncmp(s->name, prefix, strlen(prefix)) == 0 ? strlen(prefix) : 0);
    for (int k = 0; k < 2; k++) {
        const char *at = strstr(*name, a[k]);
        *len = at ? (size_t)(at - *name) : 0;
        if (at) {
            return FACTOR;
        }
        if (strstr(*name, b[k])) {
            return OTHER;
        }
    }
    if (strstr(*name, ".base_layer.bias")) {
        return WHOLE_BIAS;
    }
    const char *dot = strrchr(*name, '.');
    *len = dot ? (size_t)(dot - *name) : strlen(*name);
    return WHOLE;
}

// The modules of one kind as a JSON list; with `ranks`, an object of those whose rank is not
// `usual`.
static void add_modules(tarn_text *t, const tarn_model *m, kind want, bool ranks, int64_t usual) {
    const char *name, *before = NULL;
    size_t len, before_len = 0;
    bool first = true;
    tarn_text_puts(t, ranks ? "{" : "[");
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        bool again = look(s, &name, &len) != want ||
                     (before && len == before_len &&
                      memcmp(name, before, len) == 0);  // weight and bias of one
        if (again || (ranks && s->shape[0] == usual)) {
            continue;
        }
        tarn_text_puts(t, first ? "\n    " : ",\n    ");
        tarn_text_json(t, name, len);
        if (ranks) {
            tarn_text_printf(t, ": %lld", (long long)s->shape[0]);
        }
        first = false;
        before = name;
        before_len = len;
    }
    tarn_text_puts(t, first ? (ranks ? "}" : "]") : ranks ? "\n  }" : "\n  ]");
}

tarn_status tarn_lora_config(const tarn_model *m, const char *base, bool turned, tarn_text *out,
                             tarn_error *err) {
    int64_t usual = -1, biases = 0, whole = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const char *name;
        size_t len;
        kind k = look(&m->slots[m->by_name[i]], &name, &len);
        usual = k == FACTOR && usual < 0 && m->slots[m->by_name[i]].rank > 0
                    ? m->slots[m->by_name[i]].shape[0]
                    : usual;
        biases += k == WHOLE_BIAS;
        whole += k == WHOLE;
    }
    if (usual < 0) {
        TARN_RAISE(err, "NoAdapter",
                   "%s has no lora_A under PEFT's names (base_model.model.MODULE.lora_A.weight); "
                   "merge.lora_extract and model.lora_sum make such models",
                   tarn_model_label(m));
    }
    tarn_text_puts(out, "{\n  \"peft_type\": \"LORA\",\n  \"base_model_name_or_path\": ");
    tarn_text_json(out, base, strlen(base));
    tarn_text_printf(out, ",\n  \"r\": %lld,\n  \"lora_alpha\": %lld,\n  \"rank_pattern\": ",
                     (long long)usual, (long long)usual);
    add_modules(out, m, FACTOR, true, usual);
    tarn_text_puts(out, ",\n  \"alpha_pattern\": ");
    add_modules(out, m, FACTOR, true, usual);
    tarn_text_puts(out, ",\n  \"target_modules\": ");
    add_modules(out, m, FACTOR, false, 0);
    tarn_text_puts(out, ",\n  \"modules_to_save\": ");
    if (whole > 0) {
        add_modules(out, m, WHOLE, false, 0);
    } else {
        tarn_text_puts(out, "null");
    }
    tarn_text_printf(
        out,
        ",\n  \"bias\": \"%s\",\n  \"fan_in_fan_out\": %s,\n  \"use_rslora\": false,\n  "
        "\"use_dora\": false,\n"
        "  \"lora_dropout\": 0.0,\n  \"init_lora_weights\": true,\n  \"inference_mode\": true\n}\n",
        biases ? "all" : "none", turned ? "true" : "false");
    return out->failed ? tarn_raise_nomem(err, "adapter_config.json", out->len) : TARN_OK;
}
