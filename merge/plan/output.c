// SPDX-License-Identifier: Apache-2.0
// Side files and provenance of a saved model. config.json is config.c's.
#include "merge/plan/output.h"

#include <errno.h>
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

const char *tarn_save_carried(int i) {
    return i < (int)(sizeof carried / sizeof *carried) ? carried[i] : NULL;
}

const char *tarn_plan_version(void) { return TARN_VERSION; }

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

static bool is_replaced(const tarn_save_options *o, const char *name) {
    for (int k = 0; k < o->nfiles; k++) {
        if (strcmp(o->files[k].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static tarn_status carry(tarn_plan *p, tarn_writer *w, const tarn_save_options *o, tarn_error *err) {
    const tarn_model *side = p->model->side, *files = tarn_model_files(p->model);
    if (side && side->config) {
        TARN_TRY(tarn_output_config(p, w, err));
    }
    for (size_t k = 0; files && k < sizeof carried / sizeof *carried; k++) {
        char from[4096];
        struct stat st;
        if (is_replaced(o, carried[k])) {
            continue;
        }
        int n = snprintf(from, sizeof from, "%s/%s", tarn_store_folder(files->store), carried[k]);
        if (n > 0 && n < (int)sizeof from && stat(from, &st) == 0 && S_ISREG(st.st_mode)) {
            TARN_TRY(tarn_writer_side_copy(w, carried[k], from, err));
        }
    }
    for (int k = 0; k < o->nfiles; k++) {
        const tarn_save_file *f = &o->files[k];
        if (f->text) {
            TARN_TRY(tarn_writer_side(w, f->name, f->text, f->len, err));
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

// A member behind others, `between` first; a text of `len` bytes or null.
static void member(tarn_text *t, const char *between, const char *key, const char *s, size_t len) {
    tarn_text_printf(t, "%s\"%s\": ", between, key);
    if (s) {
        tarn_text_json(t, s, len);
    } else {
        tarn_text_puts(t, "null");
    }
}
static void text_member(tarn_text *t, const char *key, const char *s) {
    member(t, ", ", key, s, s ? strlen(s) : 0);
}

static void add_input(tarn_text *t, const tarn_provenance *from, const tarn_about *about, int k) {
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
    tarn_card_row row;
    tarn_card_input(m->cx, about, m, &row);
    text_member(t, "source", row.name[0] ? row.name : NULL);
    text_member(t, "license", row.license[0] ? row.license : NULL);
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
        add_input(&t, from, o->about, k);
        tarn_text_puts(&t, k + 1 < from->n ? ",\n" : "\n");
    }
    tarn_text_puts(&t, "  ]");
    const tarn_about *a = o->about;
    if (a) {
        tarn_text_puts(&t, ",\n  \"recipe\": {\"name\": ");
        tarn_text_json(&t, a->name, strlen(a->name));
        text_member(&t, "version", a->version);
        text_member(&t, "license", a->license);
        tarn_text_puts(&t, "}");
        member(&t, ",\n  ", "lock", a->lock, a->lock_len);
    }
    member(&t, ",\n  ", "script", a ? a->recipe : o->script, a ? a->recipe_len : o->script_len);
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
    TARN_TRY(o->adapter ? tarn_writer_side(w, "adapter_config.json", o->adapter, strlen(o->adapter), err)
                        : carry(p, w, o, err));
    TARN_TRY(tarn_output_card(p, w, o, from, err));
    return provenance(p, w, o, from, err);
}
