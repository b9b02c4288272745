// SPDX-License-Identifier: Apache-2.0
// PEFT's adapters: adapter_config.json, and tensors called base_model.model.MODULE.lora_A.weight
// and so on. Each tensor must find its place in the base: what an adapter has and we do not
// understand is an error and never left out, since the result would look right and be wrong.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "merge/model/lora.h"
#include "merge/model/regex.h"
#include "merge/model/tree.h"

// ---- names ----

typedef enum { FACTOR_A, FACTOR_B, BIAS, MAGNITUDE, FULL } kind;

typedef struct {
    const char *marker;
    kind kind;
    bool embedding;
} marker_row;
static const marker_row markers[] = {
    {".lora_A", FACTOR_A, false},
    {".lora_B", FACTOR_B, false},
    {".lora_embedding_A", FACTOR_A, true},
    {".lora_embedding_B", FACTOR_B, true},
    {".lora_magnitude_vector", MAGNITUDE, false},
};

typedef struct {
    kind kind;
    bool embedding;
    char name[1024];    // of the base's tensor
    size_t module_len;  // the module is the name's beginning
} place;

static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

// Takes a component out of a name, wherever it stands.
static void without(char *name, const char *component) {
    char *at = strstr(name, component);
    size_t n = strlen(component);
    if (at && (at[n] == '.' || at[n] == '\0')) {
        memmove(at, at + n, strlen(at + n) + 1);
    }
}

// What follows a marker: nothing, "weight", "bias", each perhaps behind the adapter's name.
static bool ending(const char *rest, const char **last) {
    const char *dot = strrchr(rest, '.');
    *last = *rest == '\0' ? "weight" : dot + 1;
    return *rest == '\0' || (*rest == '.' && (dot == rest || strchr(rest + 1, '.') == dot));
}

static bool find_place(const tarn_slot *s, place *p) {
    static const char prefix[] = "base_model.model.";
    const char *name = s->name + (starts(s->name, prefix) ? strlen(prefix) : 0);
    if (strlen(s->name) != s->len || strlen(name) >= sizeof p->name - 16) {
        return false;
    }
    for (size_t k = 0; k < sizeof markers / sizeof *markers; k++) {
        const char *at = strstr(name, markers[k].marker),
                   *rest = at ? at + strlen(markers[k].marker) : NULL;
        const char *last;
        if (!at || (*rest && *rest != '.') || !ending(rest, &last)) {
            continue;
        }
        bool bias = markers[k].kind == FACTOR_B && strcmp(last, "bias") == 0;
        p->kind = bias ? BIAS : markers[k].kind;
        p->embedding = markers[k].embedding;
        p->module_len = (size_t)(at - name);
        snprintf(p->name, sizeof p->name, "%.*s.%s", (int)(at - name), name,
                 bias ? "bias" : "weight");
        return true;
    }
    *p = (place){.kind = FULL};
    snprintf(p->name, sizeof p->name, "%s", name);
    without(p->name, ".base_layer");
    without(p->name, ".modules_to_save.default");
    without(p->name, ".modules_to_save");
    return true;
}

// ---- adapter_config.json ----

typedef struct {
    json_t *root;
    double r, alpha;
    bool rslora, dora, turned;
} config;

// Fields that change what an adapter means in ways that are not understood here.
static const char *const foreign[] = {
    "use_qalora",
    "use_bdlora",
    "velora_config",
    "monteclora_config",
    "kasa_config",
    "arrow_config",
    "alora_invocation_tokens",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
};

static bool says_nothing(const json_t *v) {
    return !v || json_is_null(v) || json_is_false(v) ||
           (json_is_array(v) && json_array_size(v) == 0) ||
           (json_is_object(v) && json_object_size(v) == 0);
}

static tarn_status read_number(const config *c, const char *key, double def, double *out,
                               tarn_error *err) {
    const json_t *v = json_object_get(c->root, key);
    *out = v ? json_number_value(v) : def;
    if ((v && !json_is_number(v)) || !isfinite(*out)) {
        TARN_RAISE(err, "AdapterConfig", "adapter_config.json: %s is no number", key);
    }
    return TARN_OK;
}

static tarn_status read_config(tarn_budget *b, const char *text, size_t len, config *c, tarn_error *err) {
    json_error_t why = {.line = 1};
    c->root = tarn_tree_read(b, text, len, JSON_REJECT_DUPLICATES, &why);
    if (!c->root && tarn_tree_nomem(&why)) {
        return tarn_raise_nomem(err, "adapter_config.json", len);
    }
    if (!json_is_object(c->root)) {
        TARN_RAISE(err, "AdapterConfig", "adapter_config.json: line %d: %s", why.line,
                   c->root ? "it holds no object" : why.text);
    }
    const char *type = json_string_value(json_object_get(c->root, "peft_type"));
    if (type && strcmp(type, "LORA") != 0) {
        TARN_RAISE(err, "AdapterConfig",
                   "adapter_config.json: peft_type is '%.40s', expected 'LORA'", type);
    }
    for (size_t k = 0; k < sizeof foreign / sizeof *foreign; k++) {
        if (!says_nothing(json_object_get(c->root, foreign[k]))) {
            TARN_RAISE(
                err, "AdapterConfig",
                "adapter_config.json: %s is set; adapters of that kind are not supported, and "
                "without it the weights would be wrong",
                foreign[k]);
        }
    }
    TARN_TRY(read_number(c, "r", 8, &c->r, err));
    TARN_TRY(read_number(c, "lora_alpha", 8, &c->alpha, err));
    c->rslora = json_is_true(json_object_get(c->root, "use_rslora"));
    c->dora = json_is_true(json_object_get(c->root, "use_dora"));
    c->turned = json_is_true(json_object_get(c->root, "fan_in_fan_out"));
    return TARN_OK;
}

// The value of the first pattern that fits a module, at its end and from the start of a component.
static tarn_status by_pattern(tarn_context *cx, const config *c, const char *key,
                              const char *module, size_t len, double *value, tarn_error *err) {
    tarn_regex_env env = {0};
    const char *pattern;
    json_t *v;
    TARN_TRY(tarn_regex_open(&env, &cx->budget, err));
    tarn_status s = TARN_OK;
    json_object_foreach(json_object_get(c->root, key), pattern, v) {
        tarn_text t;
        pcre2_code *code = NULL;
        tarn_text_init(&t, &cx->budget);
        tarn_text_printf(&t, "^(?:.*\\.)?(?:%s)$", pattern);
        s = t.failed ? tarn_raise_nomem(err, key, strlen(pattern))
                     : tarn_regex_compile(&env, t.data, t.len, false, &code, err);
        int answer = s == TARN_OK ? tarn_regex_search(&env, code, module, len) : 0;
        if (s == TARN_OK && answer <= 0 && answer != PCRE2_ERROR_NOMATCH) {
            s = tarn_regex_failed(&env, answer, t.data, t.len, module, len, err);
        }
        pcre2_code_free(code);
        tarn_text_free(&t);
        if (s == TARN_OK && answer > 0 && !json_is_number(v)) {
            s = tarn_raise(err, "AdapterConfig", "adapter_config.json: %s of '%.60s' is no number",
                           key, pattern);
        }
        if (s != TARN_OK || answer > 0) {
            *value = json_number_value(v);
            break;
        }
    }
    tarn_regex_close(&env);
    return s;
}

// ---- the parts ----

typedef struct {
    tarn_model *base, *adapter;
    config config;
    tarn_arena *arena;
    int64_t n;
    tarn_lora_part *parts;
    int64_t *of_slot;    // [base slots] part + 1; 0: none
    bool *embedding;     // [parts]
    size_t *module_len;  // [parts] of the base's name
    int64_t missing, first_missing;
} reading;

static tarn_status take(reading *r, tarn_error *err) {
    size_t n = (size_t)r->adapter->n;
    r->parts = tarn_arena_take(r->arena, n * sizeof *r->parts + 1);
    r->of_slot = tarn_arena_take(r->arena, (size_t)r->base->n * sizeof *r->of_slot + 1);
    r->embedding = tarn_arena_take(r->arena, n + 1);
    r->module_len = tarn_arena_take(r->arena, n * sizeof *r->module_len + 1);
    if (!r->parts || !r->of_slot || !r->embedding || !r->module_len) {
        return tarn_raise_nomem(err, "an adapter", n * sizeof *r->parts);
    }
    memset(r->of_slot, 0, (size_t)r->base->n * sizeof *r->of_slot);
    return TARN_OK;
}

static tarn_lora_part *part_of(reading *r, int64_t slot, const place *p) {
    if (r->of_slot[slot] == 0) {
        r->parts[r->n] = (tarn_lora_part){
            .slot = slot, .a = -1, .b = -1, .magnitude = -1, .full = -1, .scale = 1};
        r->embedding[r->n] = false;
        r->module_len[r->n] = 0;
        r->of_slot[slot] = ++r->n;
    }
    int64_t k = r->of_slot[slot] - 1;
    r->embedding[k] = r->embedding[k] || p->embedding;
    r->module_len[k] = p->module_len ? p->module_len : r->module_len[k];
    return &r->parts[k];
}

static tarn_status add_tensor(reading *r, int64_t i, tarn_error *err) {
    const tarn_slot *s = &r->adapter->slots[i];
    place p;
    if (!find_place(s, &p)) {
        TARN_RAISE(err, "AdapterPair", "%s: the name of %s is not one of an adapter",
                   tarn_model_label(r->adapter), s->name);
    }
    int64_t slot = tarn_model_find(r->base, p.name, strlen(p.name));
    if (slot < 0) {
        r->first_missing = r->missing++ ? r->first_missing : i;
        return TARN_OK;
    }
    tarn_lora_part *part = part_of(r, slot, &p);
    int64_t *at = p.kind == FACTOR_A    ? &part->a
                  : p.kind == MAGNITUDE ? &part->magnitude
                  : p.kind == FULL      ? &part->full
                                        : &part->b;
    if (*at >= 0) {
        TARN_RAISE(err, "AdapterPair", "%s: %s and %s are the same part of %s",
                   tarn_model_label(r->adapter), r->adapter->slots[*at].name, s->name, p.name);
    }
    *at = i;
    return TARN_OK;
}

static tarn_status say_missing(const reading *r, tarn_error *err) {
    const tarn_slot *s = &r->adapter->slots[r->first_missing];
    const tarn_names *names = tarn_model_names(r->base);
    char more[64] = "";
    place p;
    find_place(s, &p);
    if (r->missing > 1) {
        snprintf(more, sizeof more, ", and %lld more of its tensors find no place",
                 (long long)r->missing - 1);
    }
    for (int k = 0; names && k < names->nties; k++) {
        if (strcmp(names->ties[k].other, p.name) == 0) {
            TARN_RAISE(
                err, "MissingTensor",
                "%s: %s is for %s, which %s ties to %s: an adapter for one of them makes two%s",
                tarn_model_label(r->adapter), s->name, p.name, tarn_model_label(r->base),
                names->ties[k].kept, more);
        }
    }
    TARN_RAISE(err, "MissingTensor", "%s: %s is for %s, which %s lacks%s",
               tarn_model_label(r->adapter), s->name, p.name, tarn_model_label(r->base), more);
}

// scale = alpha / r, or alpha / sqrt(r), with the numbers that patterns give this module.
static tarn_status set_scale(reading *r, int64_t k, tarn_error *err) {
    tarn_lora_part *p = &r->parts[k];
    const config *c = &r->config;
    double rank = c->r, alpha = c->alpha;
    const char *name = r->base->slots[p->slot].name;
    if (p->b < 0 && p->a < 0) {
        return TARN_OK;
    }
    TARN_TRY(by_pattern(r->base->cx, c, "rank_pattern", name, r->module_len[k], &rank, err));
    TARN_TRY(by_pattern(r->base->cx, c, "alpha_pattern", name, r->module_len[k], &alpha, err));
    const tarn_slot *a = p->a < 0 ? NULL : &r->adapter->slots[p->a];
    if (a && (a->rank == 0 || (double)a->shape[0] != rank)) {
        TARN_RAISE(err, "AdapterRank", "%s of %s has rank %lld, adapter_config.json says %g",
                   a->name, tarn_model_label(r->adapter), a->rank ? (long long)a->shape[0] : 0LL,
                   rank);
    }
    p->scale = alpha / (c->rslora ? sqrt(rank) : rank);
    if (!isfinite(p->scale)) {
        TARN_RAISE(err, "AdapterConfig", "adapter_config.json: alpha %g over rank %g for %s", alpha,
                   rank, name);
    }
    return TARN_OK;
}

// Which way the factors of part k make the base's tensor: 1 as they are, -1 transposed, 0 both or
// none.
static int direction(const reading *r, int64_t k) {
    const tarn_lora_part *p = &r->parts[k];
    if (p->a < 0 || p->b < 0 || r->embedding[k]) {
        return 0;
    }
    const tarn_slot *a = &r->adapter->slots[p->a], *b = &r->adapter->slots[p->b],
                    *w = &r->base->slots[p->slot];
    if (a->rank != 2 || b->rank != 2 || w->rank != 2) {
        return 0;
    }
    bool plain = w->shape[0] == b->shape[0] && w->shape[1] == a->shape[1];
    bool turned = w->shape[1] == b->shape[0] && w->shape[0] == a->shape[1];
    return plain - turned;
}

// fan_in_fan_out is often wrong (the library corrects it while it runs), so shapes decide; square
// weights go with the others, and with the config where there are no others or they differ.
static void set_direction(reading *r) {
    int64_t plain = 0, turned = 0;
    for (int64_t k = 0; k < r->n; k++) {
        int d = direction(r, k);
        plain += d > 0;
        turned += d < 0;
    }
    bool usual = (plain > 0) == (turned > 0) ? r->config.turned : turned > 0;
    for (int64_t k = 0; k < r->n; k++) {
        const tarn_slot *w = &r->base->slots[r->parts[k].slot];
        int d = direction(r, k);
        r->parts[k].turned =
            r->embedding[k] || (d ? d < 0 : usual && w->rank == 2 && r->parts[k].a >= 0);
    }
}

static tarn_status check_dora(const reading *r, tarn_error *err) {
    for (int64_t k = 0; k < r->n; k++) {
        const tarn_lora_part *p = &r->parts[k];
        if (r->config.dora && p->a >= 0 && p->magnitude < 0) {
            TARN_RAISE(err, "AdapterShape",
                       "%s: adapter_config.json says use_dora, but %s has no magnitude vector",
                       tarn_model_label(r->adapter), r->base->slots[p->slot].name);
        }
        if (!r->config.dora && p->magnitude >= 0) {
            TARN_RAISE(
                err, "AdapterConfig",
                "%s: %s has a magnitude vector, but adapter_config.json does not say use_dora",
                tarn_model_label(r->adapter), r->base->slots[p->slot].name);
        }
    }
    return TARN_OK;
}

static const char *last_part(const char *path, size_t *len) {
    size_t n = strlen(path), at;
    while (n > 0 && path[n - 1] == '/') {
        n--;
    }
    for (at = n; at > 0 && path[at - 1] != '/'; at--) {
    }
    *len = n - at;
    return path + at;
}

static bool same_last(const char *a, const char *b) {
    size_t n = 0, m = 0;
    const char *p = a ? last_part(a, &n) : NULL, *q = b ? last_part(b, &m) : NULL;
    return p && q && n == m && strncasecmp(p, q, n) == 0;
}

// Shapes cannot tell one model of a family from another: the name that the adapter gives can.
static tarn_status check_base(const reading *r, tarn_error *err) {
    const tarn_model *base = r->base, *files = tarn_model_files(base), *side = base->side;
    const char *made_for =
        json_string_value(json_object_get(r->config.root, "base_model_name_or_path"));
    json_t *root;
    TARN_TRY(tarn_config_read(base->cx, NULL, side ? side->config : NULL, side ? side->config_len : 0, &root,
                              err));
    const char *calls_itself = json_string_value(json_object_get(root, "_name_or_path"));
    bool packed = !says_nothing(json_object_get(root, "quantization_config"));
    bool same = !made_for || !*made_for || same_last(made_for, calls_itself) ||
                same_last(made_for, tarn_model_label(base)) ||
                (files && (same_last(made_for, tarn_model_label(files)) ||
                           same_last(made_for, files->path)));
    json_decref(root);
    if (packed) {
        TARN_RAISE(
            err, "QuantizedBase",
            "%s is quantized (quantization_config in its config.json): an adapter is added to "
            "weights that are not",
            tarn_model_label(base));
    }
    if (!same) {
        tarn_warn(base->cx,
                  "%s was made for '%s' and is applied to %s: equal names and shapes do not make "
                  "it fit [BaseName]",
                  tarn_model_label(r->adapter), made_for, tarn_model_label(base));
    }
    return TARN_OK;
}

// Two factors that are no matrices of one rank: tarn_model_lora tells of them.
static bool apart(const reading *r, const tarn_lora_part *p) {
    const tarn_slot *a = p->a < 0 ? NULL : &r->adapter->slots[p->a];
    const tarn_slot *b = p->b < 0 ? NULL : &r->adapter->slots[p->b];
    return a && b && (a->rank < 2 || b->rank < 2 || a->shape[0] != b->shape[1]);
}

static tarn_status read_adapter(reading *r, tarn_model **out, tarn_error *err) {
    TARN_TRY(take(r, err));
    for (int64_t i = 0; i < r->adapter->n; i++) {
        TARN_TRY(add_tensor(r, i, err));
    }
    if (r->missing > 0) {
        return say_missing(r, err);
    }
    set_direction(r);
    for (int64_t k = 0; k < r->n; k++) {
        TARN_TRY(apart(r, &r->parts[k]) ? TARN_OK : set_scale(r, k, err));
    }
    tarn_model *m;
    TARN_TRY(tarn_model_lora(r->base->cx, r->base, r->adapter, r->n, r->parts, &m, err));
    tarn_status s = check_dora(r, err);
    s = s == TARN_OK ? check_base(r, err) : s;
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

// ---- the folder ----

tarn_status tarn_lora_read(tarn_model *base, tarn_model *adapter, const char *text, size_t len,
                           tarn_model **out, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &base->cx->budget);
    reading r = {.base = base, .adapter = adapter, .arena = &a};
    tarn_status s = read_config(&base->cx->budget, text, len, &r.config, err);
    s = s == TARN_OK ? read_adapter(&r, out, err) : s;
    json_decref(r.config.root);
    tarn_arena_free(&a);
    return s;
}

tarn_status tarn_lora_open(tarn_context *cx, const char *path, const char *label, tarn_model *base,
                           tarn_model **out, tarn_error *err) {
    static const char weights[] = "adapter_model.safetensors";
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    size_t len = strlen(path), n;
    const char *last = last_part(path, &n);
    char *file = tarn_arena_take(&a, len + sizeof weights + 2);
    char *name = tarn_arena_string(&a, last, n);
    if (!file || !name) {
        tarn_arena_free(&a);
        return tarn_raise_nomem(err, "a path", len);
    }
    snprintf(file, len + sizeof weights + 2, "%s/%s", path, weights);
    struct stat st;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode) && stat(file, &st) == 0;
    tarn_open_options o = {.label = label ? label : folder ? name : NULL};
    tarn_model *adapter = NULL;
    tarn_status s = tarn_model_open(cx, folder ? file : path, &o, &adapter, err);
    if (s == TARN_OK) {
        size_t text_len = 0;
        const char *where = tarn_store_folder(adapter->store);
        char *text;
        s = tarn_model_side(&a, where, "adapter_config.json", &text, &text_len, err);
        if (s == TARN_OK) {
            s = text ? tarn_lora_read(base, adapter, text, text_len, out, err)
                     : tarn_raise(err, "NotFound",
                                  "%s has no adapter_config.json, which says how an adapter is scaled",
                                  where);
        }
    }
    tarn_model_release(adapter);
    tarn_arena_free(&a);
    return s;
}
