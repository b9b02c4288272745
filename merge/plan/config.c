// SPDX-License-Identifier: Apache-2.0
// config.json of a saved model: that of its side files, with what follows from the tensors brought
// up to date where it is stated: their dtype, the number of layers, lists with one value per layer.
// Which key counts which stack is rows of data.
#include <string.h>

#include "merge/model/tree.h"
#include "merge/plan/output.h"

typedef struct {
    const char *group;  // an object of its own inside the config; NULL: the config itself
    const char *key;
    const char *word;  // a part of the name of the stack that it counts; with ^: its beginning
    bool sole;         // or the only stack, whatever its name
} layer_key;

static const layer_key layer_keys[] = {
    {NULL, "num_hidden_layers", "encoder", true},
    {NULL, "n_layer", "encoder", true},
    {NULL, "n_layers", "encoder", true},
    {NULL, "num_layers", "encoder", true},
    {NULL, "encoder_layers", "encoder", false},
    {NULL, "num_encoder_layers", "encoder", false},
    {NULL, "decoder_layers", "decoder", false},
    {NULL, "num_decoder_layers", "decoder", false},
    {NULL, "num_hidden_layers", "^model.layers", false},  // beside a tower
    {"vision_config", "num_hidden_layers", "vis", false},
    {"vision_config", "depth", "vis", false},
    {"text_config", "num_hidden_layers", "^model.layers", false},
    {"text_config", "num_hidden_layers", "language", true},
    {"text_config", "num_hidden_layers", "text", false},
};

// One value per layer, of models with one stack of layers.
static const char *const list_keys[] = {"layer_types",      "layers_block_type", "mlp_layer_types",
                                        "attention_layers", "no_rope_layers",    "window_layers"};

static const char *torch_name(tarn_dtype t) {
    return t == TARN_F32    ? "float32"
           : t == TARN_BF16 ? "bfloat16"
           : t == TARN_F16  ? "float16"
           : t == TARN_F64  ? "float64"
                            : NULL;
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

typedef struct {
    const tarn_plan *plan;
    json_t *root;
    const tarn_names *before;  // what the names of the side files say; may be NULL
    tarn_names after;          // of the output's own
    bool changed, failed;      // failed: memory ended
} editing;

static void set(editing *e, json_t *in, const char *key, json_t *value) {
    e->changed = true;
    e->failed = json_object_set_new(in, key, value) != 0 || e->failed;
}

static void edit_dtype(editing *e) {
    static const char *const keys[] = {"torch_dtype", "dtype"};
    const char *dtype = one_dtype(e->plan);
    for (int k = 0; dtype && k < 2; k++) {
        const char *was = json_string_value(json_object_get(e->root, keys[k]));
        if (was && strcmp(was, dtype) != 0) {
            set(e, e->root, keys[k], json_string(dtype));
        }
    }
}

// ---- layers ----

static const tarn_name_stack *stack_named(const tarn_names *names, const char *name) {
    for (int k = 0; k < names->nstacks; k++) {
        if (strcmp(names->stacks[k].name, name) == 0) {
            return &names->stacks[k];
        }
    }
    return NULL;
}

static bool is_named(const char *stack, const char *word) {
    return *word == '^' ? strncmp(stack, word + 1, strlen(word + 1)) == 0 : strstr(stack, word) != NULL;
}

static void edit_counts(editing *e) {
    for (int s = 0; s < e->after.nstacks; s++) {
        const tarn_name_stack *now = &e->after.stacks[s], *was = stack_named(e->before, now->name);
        for (size_t k = 0;
             was && was->count != now->count && k < sizeof layer_keys / sizeof *layer_keys; k++) {
            const layer_key *row = &layer_keys[k];
            json_t *in = row->group ? json_object_get(e->root, row->group) : e->root;
            const json_t *count = json_object_get(in, row->key);
            if (json_is_integer(count) && json_integer_value(count) == was->count &&
                (is_named(now->name, row->word) || (row->sole && e->after.nstacks == 1))) {
                set(e, in, row->key, json_integer(now->count));
            }
        }
    }
}

// The tensor that slot i was made of, through first operands, in a model with a config of its own.
static const tarn_name_info *origin(const tarn_model *m, int64_t i, const tarn_model **input) {
    while (m->nin > 0 && !m->config) {
        int k = 0;
        while (k < m->nin && !(m->map && m->map[k] && m->map[k][i] >= 0)) {
            k++;
        }
        if (k == m->nin) {
            return NULL;
        }
        i = m->map[k][i];
        m = m->in[k];
    }
    *input = m;
    return tarn_model_info(m, i);
}

// The value that a layer had in the list of its own model's config; new reference, NULL: not known.
static json_t *value_of(editing *e, const tarn_model *input, int depth, const char *key) {
    json_error_t why;
    const char *text = input->config;
    json_t *root = text ? tarn_tree_read(&e->plan->cx->budget, text, input->config_len, 0, &why) : NULL;
    e->failed = e->failed || (text && !root && tarn_tree_nomem(&why));
    json_t *v = depth < 0 ? NULL : json_array_get(json_object_get(root, key), (size_t)depth);
    json_incref(v);
    json_decref(root);
    return v;
}

static json_t *new_list(editing *e, const char *key) {
    const tarn_model *m = e->plan->model;
    int count = e->after.stacks[0].count;
    json_t *list = json_array();
    e->failed = e->failed || !list;
    for (int depth = 0; list && depth < count; depth++) {
        json_t *v = NULL;
        for (int64_t i = 0; i < e->plan->n && !v; i++) {
            const tarn_model *input;
            const tarn_name_info *from =
                e->after.info[i].depth == depth ? origin(m, e->plan->slot[i], &input) : NULL;
            v = from ? value_of(e, input, from->depth, key) : NULL;
        }
        e->failed = e->failed || (v && json_array_append(list, v) != 0);
        json_decref(v);
        if (!v || e->failed) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static void edit_lists(editing *e) {
    if (e->after.nstacks != 1 || e->before->nstacks != 1) {
        return;
    }
    for (size_t k = 0; k < sizeof list_keys / sizeof *list_keys; k++) {
        const json_t *was = json_object_get(e->root, list_keys[k]);
        if (!json_is_array(was) || json_array_size(was) != (size_t)e->before->stacks[0].count) {
            continue;
        }
        json_t *now = new_list(e, list_keys[k]);
        if (!now) {
            tarn_warn(e->plan->cx,
                      "config.json: %s is left as it was: not every layer's value is known",
                      list_keys[k]);
        } else if (json_equal(was, now)) {
            json_decref(now);
        } else {
            set(e, e->root, list_keys[k], now);
        }
    }
}

static tarn_status read_names(editing *e, tarn_arena *a, tarn_error *err) {
    const tarn_plan *p = e->plan;
    const tarn_model *side = p->model->side;
    tarn_name_in *in = tarn_arena_take(a, (size_t)p->n * sizeof *in + 1);
    if (!in) {
        return tarn_raise_nomem(err, "the table of names", (size_t)p->n * sizeof *in);
    }
    for (int64_t i = 0; i < p->n; i++) {
        const tarn_slot *t = &p->model->slots[p->slot[i]];
        in[i] = (tarn_name_in){t->name, t->len, t->dtype, t->rank, t->shape};
    }
    return tarn_names_find(p->cx, a, p->n, in, side->config, side->config_len, &e->after, err);
}

tarn_status tarn_output_config(tarn_plan *p, tarn_writer *w, tarn_error *err) {
    const tarn_model *side = p->model->side, *files = tarn_model_files(p->model);
    json_error_t why;
    editing e = {.plan = p, .before = files ? files->names : NULL};
    e.root = tarn_tree_read(&p->cx->budget, side->config, side->config_len, 0, &why);
    if (!json_is_object(e.root)) {
        bool nomem = !e.root && tarn_tree_nomem(&why);
        json_decref(e.root);
        return nomem ? tarn_raise_nomem(err, "config.json", side->config_len)
                     : tarn_writer_side(w, "config.json", side->config, side->config_len, err);
    }
    tarn_arena a;
    tarn_arena_init(&a, &p->cx->budget);
    tarn_status s = read_names(&e, &a, err);
    edit_dtype(&e);
    if (s == TARN_OK && e.before) {
        edit_counts(&e);
        edit_lists(&e);
    }
    if (s == TARN_OK && !e.changed && !e.failed) {
        s = tarn_writer_side(w, "config.json", side->config, side->config_len, err);
    } else if (s == TARN_OK) {
        tarn_text text;
        tarn_text_init(&text, &p->cx->budget);
        bool whole = !e.failed && tarn_tree_write(e.root, JSON_INDENT(2) | JSON_ENSURE_ASCII, &text);
        s = whole ? tarn_writer_side(w, "config.json", text.data, text.len, err)
                  : tarn_raise_nomem(err, "config.json", side->config_len);
        tarn_text_free(&text);
    }
    json_decref(e.root);
    tarn_arena_free(&a);
    return s;
}
