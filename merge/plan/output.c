// SPDX-License-Identifier: Apache-2.0
// Side files and provenance of a saved model. config.json is carried with two fields brought up to
// date where it has them: the dtype, and the number of layers when layers were chosen or joined.
#include "merge/plan/output.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "vm/base/digest.h"
#include "vm/op/blas.h"

// What transformers, tokenizers and diffusers look for beside the weights.
static const char *const carried[] = {
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt",
    "spiece.model", "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json",
    "preprocessor_config.json", "processor_config.json", "modules.json", "configuration.json",
    "scheduler_config.json", "feature_extractor_config.json", "normalizer.json",
};

tarn_status tarn_plan_inputs(tarn_model *m, tarn_model **list, int *n, tarn_error *err) {
    tarn_arena a;
    tarn_model **all;
    int count;
    tarn_arena_init(&a, &m->cx->budget);
    tarn_status s = tarn_plan_nodes(m, &a, &count, &all, err);
    *n = 0;
    for (int k = 0; k < count && s == TARN_OK; k++) {
        if (all[k]->nin > 0) {
            continue;
        }
        if (*n == TARN_PLAN_INPUTS) {
            s = tarn_raise(err, "PlanInputs", "a plan has at most %d inputs; m:stage() or m:load() makes values "
                           "on the way", (int)TARN_PLAN_INPUTS);
            break;
        }
        list[(*n)++] = all[k];
    }
    tarn_arena_free(&a);
    return s;
}

void tarn_plan_label(tarn_model *const *list, int k, tarn_text *out) {
    const char *label = tarn_model_label(list[k]);
    int twin = 1;
    for (int i = 0; i < k; i++) {
        twin += list[i]->nin == 0 && strcmp(tarn_model_label(list[i]), label) == 0;
    }
    if (twin == 1) {
        tarn_text_json(out, label, strlen(label));
        return;
    }
    tarn_text t;
    tarn_text_init(&t, out->budget);
    tarn_text_printf(&t, "%s#%d", label, twin);
    out->failed = out->failed || t.failed;
    tarn_text_json(out, t.data ? t.data : "", t.len);
    tarn_text_free(&t);
}

tarn_status tarn_output_unchanged(tarn_model *m, tarn_error *err) {
    tarn_model *list[TARN_PLAN_INPUTS];
    int n;
    TARN_TRY(tarn_plan_inputs(m, list, &n, err));
    for (int k = 0; k < n; k++) {
        if (list[k]->store) {
            TARN_TRY(tarn_store_check(list[k]->store, err));
        }
    }
    return TARN_OK;
}

static const char *torch_name(tarn_dtype t) {
    return t == TARN_F32 ? "float32" : t == TARN_BF16 ? "bfloat16" : t == TARN_F16 ? "float16"
           : t == TARN_F64 ? "float64" : NULL;
}

// The dtype of all floating tensors of the output; NULL when there are several.
static const char *one_dtype(const tarn_plan *p) {
    const char *one = NULL;
    for (int64_t i = 0; i < p->n; i++) {
        if (tarn_dtype_is_float(p->jobs[i].store)) {
            const char *name = torch_name(p->jobs[i].store);
            if (!name || (one && strcmp(one, name) != 0)) {
                return NULL;
            }
            one = name;
        }
    }
    return one;
}

// Layers that the output has, by the table of names of its own; 0 when it has none.
static tarn_status count_layers(tarn_plan *p, int *layers, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &p->cx->budget);
    const tarn_model *side = p->model->side;
    tarn_name_in *in = tarn_arena_take(&a, (size_t)p->n * sizeof *in + 1);
    tarn_status s = in ? TARN_OK : tarn_raise_nomem(err, "the table of names", 0);
    for (int64_t i = 0; in && i < p->n; i++) {
        const tarn_slot *t = &p->model->slots[p->slot[i]];
        in[i] = (tarn_name_in){t->name, t->len, t->dtype, t->rank, t->shape};
    }
    tarn_names names;
    if (s == TARN_OK) {
        s = tarn_names_find(p->cx, &a, p->n, in, side->config, side->config_len, &names, err);
    }
    *layers = s == TARN_OK && names.nstacks == 1 ? names.stacks[0].count : 0;
    tarn_arena_free(&a);
    return s;
}

// Sets a field that is there; false when memory ends.
static bool set(json_t *root, const char *key, json_t *value, bool *changed) {
    *changed = true;
    return json_object_set_new(root, key, value) == 0;
}

static tarn_status write_config(tarn_plan *p, tarn_writer *w, tarn_error *err) {
    static const char *const dtype_keys[] = {"torch_dtype", "dtype"};
    static const char *const layer_keys[] = {"num_hidden_layers", "n_layer", "num_layers"};
    const tarn_model *side = p->model->side;
    json_error_t why;
    json_t *root = json_loadb(side->config, side->config_len, 0, &why);
    if (!json_is_object(root)) {
        bool nomem = !root && json_error_code(&why) == json_error_out_of_memory;
        json_decref(root);
        return nomem ? tarn_raise_nomem(err, "config.json", side->config_len)
                     : tarn_writer_side(w, "config.json", side->config, side->config_len, err);
    }
    bool changed = false, good = true;
    const char *dtype = one_dtype(p);
    for (int k = 0; dtype && k < 2; k++) {
        const char *was = json_string_value(json_object_get(root, dtype_keys[k]));
        if (was && strcmp(was, dtype) != 0) {
            good = set(root, dtype_keys[k], json_string(dtype), &changed) && good;
        }
    }
    int layers;
    tarn_status s = count_layers(p, &layers, err);
    const tarn_names *before = side->names;
    if (s == TARN_OK && layers > 0 && before && before->nstacks == 1 &&
        before->stacks[0].count != layers) {
        for (int k = 0; k < 3; k++) {
            const json_t *was = json_object_get(root, layer_keys[k]);
            if (json_is_integer(was) && json_integer_value(was) == before->stacks[0].count) {
                good = set(root, layer_keys[k], json_integer(layers), &changed) && good;
            }
        }
    }
    if (s == TARN_OK && !changed) {
        s = tarn_writer_side(w, "config.json", side->config, side->config_len, err);
    } else if (s == TARN_OK) {
        char *text = good ? json_dumps(root, JSON_INDENT(2) | JSON_ENSURE_ASCII) : NULL;
        s = text ? tarn_writer_side(w, "config.json", text, strlen(text), err)
                 : tarn_raise_nomem(err, "config.json", side->config_len);
        free(text);
    }
    json_decref(root);
    return s;
}

static tarn_status carry(tarn_plan *p, tarn_writer *w, tarn_error *err) {
    const tarn_model *side = p->model->side;
    if (!side || !side->store) {
        return TARN_OK;
    }
    if (side->config) {
        TARN_TRY(write_config(p, w, err));
    }
    for (size_t k = 0; k < sizeof carried / sizeof *carried; k++) {
        char from[4096];
        struct stat st;
        int n = snprintf(from, sizeof from, "%s/%s", tarn_store_folder(side->store), carried[k]);
        if (n > 0 && n < (int)sizeof from && stat(from, &st) == 0 && S_ISREG(st.st_mode)) {
            TARN_TRY(tarn_writer_side_copy(w, carried[k], from, err));
        }
    }
    return TARN_OK;
}

static void add_label(const tarn_provenance *from, int k, tarn_text *t) {
    tarn_model *list[TARN_PLAN_INPUTS];
    for (int i = 0; i <= k; i++) {
        list[i] = from->inputs[i].input;
    }
    tarn_plan_label(list, k, t);
}

static void add_input(tarn_text *t, const tarn_provenance *from, int k) {
    const tarn_digested *d = &from->inputs[k];
    const tarn_model *m = d->input;
    tarn_text_puts(t, "    {\"label\": ");
    add_label(from, k, t);
    tarn_text_printf(t, ", \"header\": \"%s\", \"digest\": ", d->header);
    tarn_text_printf(t, d->digest[0] ? "\"%s\"" : "null", d->digest);
    tarn_text_puts(t, ", \"path\": ");
    char full[PATH_MAX];
    if (m->path && realpath(m->path, full)) {
        tarn_text_json(t, full, strlen(full));
    } else {
        t->failed = t->failed || (m->path && errno == ENOMEM);
        tarn_text_puts(t, "null");
    }
    tarn_text_puts(t, "}");
}

// tarn-provenance.json: what is not part of the plan because it does not change the bytes.
static tarn_status provenance(tarn_plan *p, tarn_writer *w, const tarn_save_options *o,
                              const tarn_provenance *from, tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &p->cx->budget);
    unsigned char sum[32];
    char hex[65];
    const char *blas = tarn_blas_in_use();
    tarn_sha256_of(from->plan, strlen(from->plan), sum);
    tarn_hex(sum, 32, hex);
    tarn_text_printf(&t, "{\n  \"format\": 1,\n  \"tarn\": \"%s\",\n  \"blas\": ", TARN_VERSION);
    tarn_text_printf(&t, blas ? "\"%s\"" : "null", blas ? blas : "");
    tarn_text_printf(&t, ",\n  \"plan\": \"%s\",\n  \"replayable\": %s,\n  \"threads\": %d,\n"
                     "  \"instruction_set\": \"%s\",\n  \"inputs\": [\n",
                     hex, from->replayable ? "true" : "false", tarn_pool_size(p->cx->pool),
                     tarn_isa_name(p->cx->isa));
    for (int k = 0; k < from->n; k++) {
        add_input(&t, from, k);
        tarn_text_puts(&t, k + 1 < from->n ? ",\n" : "\n");
    }
    tarn_text_puts(&t, "  ],\n  \"script\": ");
    if (o->script) {
        tarn_text_json(&t, o->script, o->script_len);
    } else {
        tarn_text_puts(&t, "null");
    }
    tarn_text_puts(&t, "\n}\n");
    tarn_status s = t.failed ? tarn_raise_nomem(err, "tarn-provenance.json", t.len)
                             : tarn_writer_side(w, "tarn-provenance.json", t.data, t.len, err);
    tarn_text_free(&t);
    return s;
}

// The plan, and the contents that it was run on.
tarn_status tarn_output_metadata(tarn_plan *p, tarn_writer *w, const tarn_provenance *from,
                                 tarn_error *err) {
    tarn_text t;
    tarn_text_init(&t, &p->cx->budget);
    tarn_text_puts(&t, "[");
    for (int k = 0; k < from->n; k++) {
        tarn_text_puts(&t, k ? ",{\"label\":" : "{\"label\":");
        add_label(from, k, &t);
        tarn_text_printf(&t, from->inputs[k].digest[0] ? ",\"digest\":\"%s\"}" : ",\"digest\":null}",
                         from->inputs[k].digest);
    }
    tarn_text_puts(&t, "]");
    tarn_status s = t.failed ? tarn_raise_nomem(err, "metadata", t.len)
                             : tarn_writer_meta(w, "tarn_inputs", t.data, err);
    tarn_text_free(&t);
    return s == TARN_OK ? tarn_writer_meta(w, "tarn_plan", from->plan, err) : s;
}

tarn_status tarn_output_sides(tarn_plan *p, tarn_writer *w, const tarn_save_options *o,
                              const tarn_provenance *from, tarn_error *err) {
    TARN_TRY(carry(p, w, err));
    return provenance(p, w, o, from, err);
}
