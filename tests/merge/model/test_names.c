// SPDX-License-Identifier: Apache-2.0
// The table of names against 27 real families (tests/golden/headers): every count, tie, stack,
// place, depth and role; then what no family has: numbered words, towers, odd configs, hostile
// names.
#include "tests/merge/model/headers.h"

#include <time.h>

#include "vm/base/digest.h"
#include "vm/base/text.h"

typedef struct {
    tarn_context cx;
    tarn_arena a;
    tarn_error err;
    int64_t n;
    tarn_name_in *in;
    tarn_names names;
} fixture;

static void open_fixture(fixture *f) {
    memset(f, 0, sizeof *f);
    open_context(&f->cx, 1, NULL);
    tarn_arena_init(&f->a, &f->cx.budget);
}

static void close_fixture(fixture *f) {
    tarn_arena_free(&f->a);
    assert_int_equal(f->cx.budget.used, 0);
    tarn_context_free(&f->cx);
}

static void find(fixture *f, const char *config) {
    tarn_error err = {0};
    OK(tarn_names_find(&f->cx, &f->a, f->n, f->in, config, config ? strlen(config) : 0, &f->names,
                       &err));
}

// Names alone, all F32 of shape [4, 4].
static void find_texts(fixture *f, const char *const *texts, const char *config) {
    static const int64_t shape[] = {4, 4};
    f->n = 0;
    while (texts[f->n]) {
        f->n++;
    }
    f->in = tarn_arena_take(&f->a, (size_t)f->n * sizeof *f->in + 1);
    for (int64_t i = 0; i < f->n; i++) {
        f->in[i] = (tarn_name_in){texts[i], strlen(texts[i]), TARN_F32, 2, shape};
    }
    find(f, config);
}

static const tarn_name_info *info_of(const fixture *f, const char *name) {
    for (int64_t i = 0; i < f->n; i++) {
        if (strcmp(f->in[i].name, name) == 0) {
            return &f->names.info[i];
        }
    }
    fail_msg("%s is not there", name);
    return NULL;
}

// ---- the families ----

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *place_of(const fixture *f, int64_t i) {
    const tarn_name_info *x = &f->names.info[i];
    return x->place == TARN_PLACE_LAYER ? f->names.stacks[x->stack].name
                                        : tarn_place_name(x->place);
}

// One line for each name, as expect/ digests them.
static void check_digest(fixture *f, const char *model, json_t *want) {
    char **lines = calloc((size_t)f->n, sizeof *lines);
    for (int64_t i = 0; i < f->n; i++) {
        const tarn_name_info *x = &f->names.info[i];
        char depth[16] = "-";
        if (x->depth >= 0) {
            snprintf(depth, sizeof depth, "%d", x->depth);
        }
        assert_true(asprintf(&lines[i], "%s\t%s\t%s\t%s\n", f->in[i].name, place_of(f, i), depth,
                             x->role) > 0);
    }
    qsort(lines, (size_t)f->n, sizeof *lines, by_text);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    for (int64_t i = 0; i < f->n; i++) {
        tarn_sha256_add(&h, lines[i], strlen(lines[i]));
    }
    unsigned char bytes[32];
    char hex[65];
    tarn_sha256_end(&h, bytes);
    tarn_hex(bytes, 32, hex);
    if (strcmp(hex, json_string_value(json_object_get(want, "digest"))) != 0) {
        for (int64_t i = 0; i < f->n; i++) {
            fprintf(stderr, "%s", lines[i]);
        }
        fail_msg("%s: some name has another place, depth or role", model);
    }
    for (int64_t i = 0; i < f->n; i++) {
        free(lines[i]);
    }
    free(lines);
}

static void check_stacks(fixture *f, json_t *want) {
    json_t *stacks = json_object_get(want, "stacks"), *s;
    size_t k;
    json_array_foreach(stacks, k, s) {
        const tarn_name_stack *got = &f->names.stacks[k];
        char depth[32];
        snprintf(depth, sizeof depth, "%d-%d", got->depth_first, got->depth_last);
        assert_string_equal(got->name, json_string_value(json_object_get(s, "name")));
        assert_string_equal(got->regex, json_string_value(json_object_get(s, "regex")));
        assert_int_equal(got->count, json_integer_value(json_object_get(s, "count")));
        assert_string_equal(depth, json_string_value(json_object_get(s, "depth")));
        assert_null(got->labels);
    }
    if (json_array_size(stacks) > 0) {
        assert_int_equal(f->names.nstacks, json_array_size(stacks));
        return;
    }
    // A UNet: labels stand in depth_order between "embed" and "final".
    assert_int_equal(f->names.nstacks, 1);
    json_t *order = json_object_get(want, "depth_order");
    assert_int_equal(f->names.stacks[0].count, json_array_size(order) - 3);
    for (int d = 0; d < f->names.stacks[0].count; d++) {
        const char *text = json_string_value(json_array_get(order, (size_t)d + 1));
        const char *label = f->names.stacks[0].labels[d];
        assert_memory_equal(text, label, strlen(label));
        assert_int_equal(text[strlen(label)], ' ');
    }
}

static void check_place(fixture *f, json_t *want, tarn_place place) {
    json_t *names = json_object_get(want, tarn_place_name(place));
    size_t k = 0;
    for (int64_t i = 0; i < f->n; i++) {
        if (f->names.info[i].place == place) {
            assert_string_equal(f->in[i].name, json_string_value(json_array_get(names, k)));
            k++;
        }
    }
    assert_int_equal(k, json_array_size(names));
}

static void check_ties(fixture *f, json_t *want) {
    json_t *groups = json_object_get(want, "tied"), *g;
    size_t k, ties = 0;
    json_array_foreach(groups, k, g) {
        const char *kept = json_string_value(json_array_get(json_object_get(g, "kept"), 0));
        json_t *others = json_object_get(g, "not_in_file");
        for (size_t o = 0; o < json_array_size(others); o++, ties++) {
            const char *other = json_string_value(json_array_get(others, o));
            bool found = false;
            for (int t = 0; t < f->names.nties; t++) {
                found = found ||
                        (strcmp(f->names.ties[t].kept, kept) == 0 &&
                         strcmp(f->names.ties[t].other, other) == 0 && !f->names.ties[t].stored);
            }
            assert_true(found);
        }
    }
    assert_int_equal(f->names.nties, ties);
}

static int64_t want_int(json_t *want, const char *key) {
    return json_integer_value(json_object_get(want, key));
}

// Sorted numbers as "1-3,5".
static void spans(const bool *has, int n, char *out, size_t size) {
    size_t at = 0;
    out[0] = '\0';
    for (int k = 0; k < n; k++) {
        int from = k;
        while (has[k] && k + 1 < n && has[k + 1]) {
            k++;
        }
        if (has[k]) {
            at += (size_t)snprintf(out + at, size - at, from < k ? "%s%d-%d" : "%s%d",
                                   at ? "," : "", from, k);
        }
    }
}

static void check_counts(fixture *f, json_t *want) {
    tarn_error err = {0};
    tarn_names_summary s;
    OK(tarn_names_summarise(&f->cx, &f->names, f->in, &s, &err));
    assert_int_equal(s.tensors, want_int(want, "tensors"));
    assert_int_equal(s.elements, want_int(want, "elements"));
    assert_int_equal(s.parameters, want_int(want, "parameters"));
    assert_int_equal(s.bytes, want_int(want, "bytes"));
    assert_int_equal(s.largest_bytes, want_int(want, "largest_bytes"));
    assert_int_equal(s.integers, want_int(json_object_get(want, "integers"), "count"));
    assert_int_equal(s.float_buffers, want_int(want, "float_buffers"));
    assert_int_equal(s.layers, want_int(want, "layers"));
    json_t *dtypes = json_object_get(want, "dtypes");
    for (int t = 0; t < TARN_DTYPE_COUNT; t++) {
        assert_int_equal(s.of_dtype[t], want_int(dtypes, tarn_dtype_get((tarn_dtype)t)->code));
    }
    json_t *experts = json_object_get(want, "experts");
    assert_int_equal(s.experts, experts ? want_int(experts, "count") : 0);
    assert_int_equal(s.experts_stacked,
                     json_is_true(json_object_get(experts, "stacked_in_one_tensor")));
    bool layers[512] = {false}, ids[512] = {false};
    for (int64_t i = 0; i < f->n; i++) {
        const tarn_name_info *x = &f->names.info[i];
        if (strncmp(x->role, "expert", 6) == 0) {
            layers[x->layer] = true;
            if (x->expert >= 0) {
                ids[x->expert] = true;
            }
        }
    }
    if (experts) {
        char text[256];
        spans(layers, 512, text, sizeof text);
        assert_string_equal(text, json_string_value(json_object_get(experts, "layers")));
        if (!s.experts_stacked) {
            spans(ids, 512, text, sizeof text);
            assert_string_equal(text, json_string_value(json_object_get(experts, "ids")));
        }
    }
}

// The layer's number is the one that the name holds after the stack's name.
static void check_layers(fixture *f) {
    for (int64_t i = 0; i < f->n; i++) {
        const tarn_name_info *x = &f->names.info[i];
        const char *at = strstr(f->in[i].name, ".experts.");
        assert_int_equal(x->expert, at && at[9] >= '0' && at[9] <= '9' ? atoi(at + 9) : -1);
        if (x->place != TARN_PLACE_LAYER) {
            assert_true(x->stack == -1 && x->layer == -1 && x->depth == -1);
            continue;
        }
        const tarn_name_stack *s = &f->names.stacks[x->stack];
        if (!s->labels) {
            assert_memory_equal(f->in[i].name, s->name, strlen(s->name));
            assert_int_equal(x->layer, atoi(f->in[i].name + strlen(s->name) + 1));
        }
        assert_int_equal(x->depth, s->depth_first + x->layer);
    }
}

static void families(void **state) {
    char list[64][64];
    int n = header_list(list);
    assert_int_equal(n, 27);
    for (int k = 0; k < n; k++) {
        fixture f;
        open_fixture(&f);
        json_t *h = header_load(list[k]);
        char path[8192];
        snprintf(path, sizeof path, "%s/expect/%s.json", HEADERS, list[k]);
        json_t *want = json_read(path);
        f.in = header_names(&f.a, h, &f.n);
        find(&f, header_config(&f.a, h));
        check_digest(&f, list[k], want);
        check_stacks(&f, want);
        check_place(&f, want, TARN_PLACE_EMBED);
        check_place(&f, want, TARN_PLACE_FINAL);
        check_place(&f, want, TARN_PLACE_HEAD);
        check_ties(&f, want);
        check_counts(&f, want);
        check_layers(&f);
        json_t *buffers = json_object_get(h, "buffers");
        int64_t seen = 0;
        for (int64_t i = 0; i < f.n; i++) {
            seen += f.names.info[i].buffer;
        }
        assert_int_equal(seen, json_array_size(buffers));
        json_decref(h);
        json_decref(want);
        close_fixture(&f);
    }
}

// ---- what no family has ----

static void words(void **state) {
    static const char *const lenet[] = {
        "conv1.weight", "bn1.running_mean", "conv2.weight", "bn2.weight", "fc1.weight",
        "fc2.bias",     "fc10.weight",      "bn7.weight",   "out.weight", NULL};
    fixture f;
    open_fixture(&f);
    find_texts(&f, lenet, NULL);
    assert_int_equal(f.names.nstacks, 2);
    assert_string_equal(f.names.stacks[0].name, "conv");
    assert_string_equal(f.names.stacks[0].regex, "^conv([0-9]+)(?:\\.|$)");
    assert_string_equal(f.names.stacks[1].name, "fc");
    assert_int_equal(f.names.ndepth, 5);
    static const int depth[] = {0, 0, 1, 1, 2, 3, 4, -1, -1},
                     layer[] = {1, 1, 2, 2, 1, 2, 10, -1, -1};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(f.names.info[i].depth, depth[i]);
        assert_int_equal(f.names.info[i].layer, layer[i]);
    }
    assert_true(f.names.info[1].buffer);
    assert_string_equal(info_of(&f, "out.weight")->role, "head");
    close_fixture(&f);
}

static void sequence(void **state) {
    static const char *const net[] = {"0.weight",  "0.bias",     "2.weight",
                                      "10.weight", "4.1.weight", NULL};
    fixture f;
    open_fixture(&f);
    find_texts(&f, net, NULL);
    assert_int_equal(f.names.nstacks, 1);
    assert_int_equal(f.names.ndepth, 4);
    static const int depth[] = {0, 0, 1, 3, 2}, layer[] = {0, 0, 2, 10, 4};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(f.names.info[i].depth, depth[i]);
        assert_int_equal(f.names.info[i].layer, layer[i]);
    }
    close_fixture(&f);

    // Words are no layers where there is a stack.
    static const char *const mixed[] = {"fc1.weight", "module.layers.3.fc1.weight",
                                        "module.layers.12.fc1.weight", NULL};
    open_fixture(&f);
    find_texts(&f, mixed, NULL);
    assert_int_equal(f.names.ndepth, 2);
    assert_int_equal(f.names.info[0].place, TARN_PLACE_OTHER);
    assert_int_equal(f.names.info[1].layer, 3);
    assert_int_equal(f.names.info[1].depth, 0);
    assert_int_equal(f.names.info[2].depth, 1);
    close_fixture(&f);
}

static void without_numbers(void **state) {
    static const char *const plain[] = {"alpha", "beta.gamma", "", "norm.weight", NULL};
    fixture f;
    open_fixture(&f);
    find_texts(&f, plain, "{}");
    assert_int_equal(f.names.nstacks, 0);
    assert_int_equal(f.names.ndepth, 0);
    assert_string_equal(f.names.info[0].role, "");
    assert_int_equal(f.names.info[3].place, TARN_PLACE_FINAL);
    assert_string_equal(f.names.model_type, "");
    f.n = 0;
    find(&f, NULL);
    assert_int_equal(f.names.ndepth, 0);
    close_fixture(&f);
}

static void stacks_in_order(void **state) {
    static const char *const whisper[] = {
        "model.decoder.layers.0.fc1.weight", "model.decoder.layers.1.encoder_attn.q_proj.weight",
        "model.encoder.layers.0.fc1.weight", "model.encoder.conv1.weight",
        "model.encoder.layer_norm.weight",   "model.decoder.embed_tokens.weight",
        "model.encoder.layers.1.fc1.weight", NULL};
    fixture f;
    open_fixture(&f);
    find_texts(
        &f, whisper,
        "{\"model_type\": \"whisper\", \"architectures\": [\"WhisperForConditionalGeneration\"]}");
    static const int depth[] = {2, 3, 0, -1, -1, -1, 1};
    for (int i = 0; i < 7; i++) {
        assert_int_equal(f.names.info[i].depth, depth[i]);
    }
    assert_string_equal(f.names.info[1].role, "attention.cross.q");
    assert_int_equal(f.names.info[3].place, TARN_PLACE_EMBED);
    assert_int_equal(f.names.info[4].place, TARN_PLACE_FINAL);
    assert_true(f.names.tied_config);
    bool head = false;
    for (int t = 0; t < f.names.nties; t++) {
        head = head || strcmp(f.names.ties[t].other, "proj_out.weight") == 0;
    }
    assert_true(head);
    close_fixture(&f);

    // Stages within stages: the outer number is no layer.
    static const char *const swin[] = {
        "swin.encoder.layers.0.blocks.0.attention.self.query.weight",
        "swin.encoder.layers.10.blocks.0.attention.self.query.weight",
        "swin.encoder.layers.2.blocks.0.attention.self.query.weight",
        "swin.encoder.layers.0.blocks.1.attention.self.query.weight",
        "swin.encoder.layers.0.downsample.norm.weight",
        NULL};
    open_fixture(&f);
    find_texts(&f, swin, NULL);
    static const int deep[] = {0, 3, 2, 1, -1};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(f.names.info[i].depth, deep[i]);
    }
    assert_string_equal(f.names.stacks[1].name, "swin.encoder.layers.2.blocks");
    assert_int_equal(f.names.info[4].place, TARN_PLACE_TRANSITION);
    close_fixture(&f);
}

// A tower starts at depth 0 whatever stands before it, and moves nothing that comes after.
static void towers(void **state) {
    static const char *const names[] = {"vision_tower.layers.0.w", "vision_tower.layers.1.w",
                                        "text_model.encoder.layers.0.w", "layers.0.w", NULL};
    fixture f;
    open_fixture(&f);
    find_texts(&f, names, NULL);
    static const int depth[] = {0, 1, 0, 2};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(f.names.info[i].depth, depth[i]);
    }
    assert_int_equal(f.names.ndepth, 3);
    close_fixture(&f);
}

// The layout of a UNet first published, in one file with an autoencoder and a text encoder.
static void published_unet(void **state) {
#define U "model.diffusion_model."
    static const char *const sd[] = {
        U "output_blocks.0.0.weight",
        U "input_blocks.11.0.weight",
        U "input_blocks.2.1.norm.weight",
        U "middle_block.1.proj_in.weight",
        U "output_blocks.11.0.weight",
        U "out.0.weight",
        U "time_embed.0.weight",
        "first_stage_model.encoder.down.0.block.1.norm1.weight",
        "cond_stage_model.transformer.text_model.encoder.layers.7.mlp.fc1.weight",
        NULL};
#undef U
    fixture f;
    open_fixture(&f);
    find_texts(&f, sd, NULL);
    assert_int_equal(f.names.nstacks, 2);
    assert_string_equal(f.names.stacks[1].name, "unet");
    static const char *const labels[] = {"IN00", "IN01", "M00", "OUT00", "OUT01"};
    assert_int_equal(f.names.stacks[1].count, 5);
    for (int k = 0; k < 5; k++) {
        assert_string_equal(f.names.stacks[1].labels[k], labels[k]);
    }
    static const int depth[] = {3, 1, 0, 2, 4, -1, -1, -1, 0};
    for (int i = 0; i < 9; i++) {
        assert_int_equal(f.names.info[i].depth, depth[i]);
    }
    assert_int_equal(f.names.info[5].place, TARN_PLACE_HEAD);
    assert_int_equal(f.names.info[6].place, TARN_PLACE_EMBED);
    assert_int_equal(f.names.ndepth, 5);
    close_fixture(&f);
}

static int warned;
static char warning[256];
static void count_warning(void *arg, const char *message) {
    warned++;
    snprintf(warning, sizeof warning, "%s", message);
}

static void configs(void **state) {
    static const char *const llama[] = {"model.embed_tokens.weight",
                                        "model.layers.0.mlp.up_proj.weight", NULL};
    static const char *const stored[] = {"model.embed_tokens.weight", "lm_head.weight", NULL};
    static const struct {
        const char *const *names;
        const char *config;
        bool tied;
        int ties, warnings;
    } rows[] = {
        {llama, NULL, false, 0, 0},
        {llama, "{\"model_type\": \"llama\"}", false, 0, 0},
        {llama, "{\"model_type\": \"llama\", \"tie_word_embeddings\": true}", true, 1, 0},
        {llama, "{\"model_type\": \"gemma\"}", true, 1, 0},
        {llama, "{\"model_type\": \"gemma\", \"tie_word_embeddings\": false}", false, 0, 0},
        {llama, "{\"model_type\": \"x\", \"text_config\": {\"tie_word_embeddings\": false}}", false,
         0, 0},
        {llama, "{\"model_type\": \"gemma\", \"architectures\": [\"GemmaModel\"]}", true, 0, 0},
        {llama, "{\"model_type\": \"gemma\", \"architectures\": [\"GemmaForCausalLM\"]}", true, 1,
         0},
        {stored, "{\"model_type\": \"gemma\"}", true, 1, 0},
        {llama, "{\"model_type\": \"gemma\", \"limit\": [0.0, -Infinity, NaN], \"a\": \"NaN\\\"\"}",
         true, 1, 0},
        {llama, "{\"model_type\": ", false, 0, 1},
        {llama, "[1, 2]", false, 0, 1},
        {llama, "", false, 0, 1},
        {llama, "{\"model_type\": 7, \"architectures\": {}, \"tie_word_embeddings\": \"yes\"}",
         false, 0, 0},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        fixture f;
        open_fixture(&f);
        f.cx.warn = count_warning;
        warned = 0;
        find_texts(&f, rows[k].names, rows[k].config);
        assert_int_equal(f.names.tied_config, rows[k].tied);
        assert_int_equal(f.names.nties, rows[k].ties);
        assert_int_equal(warned, 0);  // whoever knows whose config it is says so
        json_t *root;
        tarn_error err = {0};
        size_t len = rows[k].config ? strlen(rows[k].config) : 0;
        OK(tarn_config_read(&f.cx, "folder", rows[k].config, len, &root, &err));
        json_decref(root);
        assert_int_equal(warned, rows[k].warnings);
        assert_true(!warned || strstr(warning, "folder/config.json is left aside: ") == warning);
        if (rows[k].ties) {
            assert_int_equal(f.names.ties[0].stored, rows[k].names == stored);
        }
        close_fixture(&f);
    }
    // Two shapes are two parameters, whatever the config says.
    fixture f;
    open_fixture(&f);
    int64_t small[] = {4, 4}, large[] = {5, 4};
    tarn_name_in in[] = {{"model.embed_tokens.weight", 25, TARN_F32, 2, small},
                         {"lm_head.weight", 14, TARN_F32, 2, large}};
    f.n = 2;
    f.in = in;
    find(&f, "{\"model_type\": \"gemma\"}");
    assert_int_equal(f.names.nties, 0);
    in[1].shape = small;
    find(&f, "{\"model_type\": \"gemma\"}");
    assert_int_equal(f.names.nties, 1);
    tarn_names_summary s;
    tarn_error err = {0};
    OK(tarn_names_summarise(&f.cx, &f.names, f.in, &s, &err));
    assert_int_equal(s.elements, 32);
    assert_int_equal(s.parameters, 16);  // one slot
    close_fixture(&f);
}

// Integers are no parameters; causal masks are told from biases by their rank.
static void buffers(void **state) {
    int64_t mask[] = {1, 1, 8, 8}, vector[] = {8};
    tarn_name_in in[] = {{"h.0.attn.bias", 13, TARN_F32, 4, mask},
                         {"h.1.attn.bias", 13, TARN_F32, 1, vector},
                         {"rotary.inv_freq", 15, TARN_F32, 1, vector},
                         {"anything", 8, TARN_I64, 0, NULL},
                         {"packed", 6, TARN_U8, 1, vector},
                         {"weight", 6, TARN_BF16, 1, vector}};
    fixture f;
    open_fixture(&f);
    f.n = 6;
    f.in = in;
    find(&f, NULL);
    static const bool want[] = {true, false, true, true, true, false};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(f.names.info[i].buffer, want[i]);
    }
    tarn_names_summary s;
    tarn_error err = {0};
    OK(tarn_names_summarise(&f.cx, &f.names, f.in, &s, &err));
    assert_int_equal(s.parameters, 16);
    assert_int_equal(s.integers, 2);
    assert_int_equal(s.float_buffers, 2);
    assert_int_equal(s.of_dtype[TARN_BF16], 1);
    int64_t huge[] = {INT64_MAX, INT64_MAX, 3}, none[] = {INT64_MAX, INT64_MAX, 0};
    in[0].shape = huge;
    in[0].rank = 3;
    in[1].rank = 3;
    in[1].shape = none;
    OK(tarn_names_summarise(&f.cx, &f.names, f.in, &s, &err));
    assert_true(s.elements == INT64_MAX && s.bytes == INT64_MAX && s.largest_bytes == INT64_MAX);
    close_fixture(&f);
}

// ---- hostile names ----

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check_sane(const fixture *f) {
    int depths = 0;
    for (int k = 0; k < f->names.nstacks; k++) {
        const tarn_name_stack *s = &f->names.stacks[k];
        assert_true(s->count > 0 && s->depth_last == s->depth_first + s->count - 1);
        depths = s->depth_last + 1 > depths ? s->depth_last + 1 : depths;
    }
    assert_int_equal(depths, f->names.ndepth);
    for (int64_t i = 0; i < f->n; i++) {
        const tarn_name_info *x = &f->names.info[i];
        assert_non_null(x->role);
        assert_int_equal(x->place == TARN_PLACE_LAYER, x->depth >= 0);
        if (x->depth >= 0) {
            const tarn_name_stack *s = &f->names.stacks[x->stack];
            assert_true(x->layer >= 0 && x->depth >= s->depth_first && x->depth <= s->depth_last);
        }
    }
}

// Names of random pieces: numbers, words of the tables, dots, any byte.
static void random_names(void **state) {
    static const char *const pieces[] = {"model",
                                         "layers",
                                         "0",
                                         "17",
                                         "999999999999",
                                         "00",
                                         ".",
                                         ".",
                                         ".",
                                         "experts",
                                         "fc",
                                         "conv1",
                                         "block",
                                         "encoder",
                                         "decoder",
                                         "down_blocks",
                                         "resnets",
                                         "input_blocks",
                                         "up_blocks",
                                         "upsamplers",
                                         "bn1",
                                         "vision_tower",
                                         "\xff",
                                         "\xc3\xa9",
                                         "self_attn.q_proj",
                                         "weight",
                                         "mid_block.",
                                         "down_blocks.1.resnets.0.",
                                         "norm",
                                         "lm_head",
                                         "shared",
                                         "(",
                                         "\\",
                                         "%s",
                                         "\n"};
    uint64_t seed = 1;
    for (int round = 0; round < 300; round++) {
        fixture f;
        open_fixture(&f);
        f.n = (int64_t)(test_random(&seed) % 60);
        f.in = tarn_arena_take(&f.a, (size_t)f.n * sizeof *f.in + 1);
        static const int64_t shape[4] = {3, 0, 1, 2};
        for (int64_t i = 0; i < f.n; i++) {
            char text[600];
            size_t len = 0, parts = test_random(&seed) % 12;
            for (size_t p = 0; p < parts && len < 500; p++) {
                const char *piece = pieces[test_random(&seed) % (sizeof pieces / sizeof *pieces)];
                memcpy(text + len, piece, strlen(piece));
                len += strlen(piece);
                if (test_random(&seed) % 16 == 0) {
                    text[len++] = (char)test_random(&seed);
                }
            }
            f.in[i] = (tarn_name_in){tarn_arena_string(&f.a, text, len), len,
                                     (tarn_dtype)(test_random(&seed) % TARN_DTYPE_COUNT),
                                     (int)(test_random(&seed) % 5), shape};
        }
        find(&f, round % 2 ? "{\"model_type\": \"t5\"}" : NULL);
        check_sane(&f);
        tarn_names_summary s;
        tarn_error err = {0};
        OK(tarn_names_summarise(&f.cx, &f.names, f.in, &s, &err));
        close_fixture(&f);
    }
}

// Whatever a file holds, the work is bounded: many layers, many stacks, many shapes, long names.
static void many_names(void **state) {
    enum { N = 100000 };
    static const char *const forms[] = {
        "model.layers.%d.weight", "m%d.layers.3.weight", "t%d",
        "a%c%c%c%c.layers.1.w",   "%d.weight",           "conv%d.weight"};
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        fixture f;
        open_fixture(&f);
        f.n = N;
        f.in = tarn_arena_take(&f.a, N * sizeof *f.in);
        static const int64_t shape[] = {1};
        for (int i = 0; i < N; i++) {
            char text[64];
            if (k == 3) {
                snprintf(text, sizeof text, forms[k], 'a' + i % 26, 'a' + i / 26 % 26,
                         'a' + i / 676 % 26, 'a' + i / 17576 % 26);
            } else {
                snprintf(text, sizeof text, forms[k], i);
            }
            f.in[i] = (tarn_name_in){tarn_arena_string(&f.a, text, strlen(text)), strlen(text),
                                     TARN_F32, 1, shape};
        }
        double t = seconds();
        find(&f, NULL);
        check_sane(&f);
        t = seconds() - t;
        print_message("%d names like %s: %d depths, %.0f ms\n", N, f.in[N - 1].name, f.names.ndepth,
                      1e3 * t);
        assert_true(t < 20);  // minutes if anything were unbounded; generous for sanitizers
        static const int depths[] = {N, 4096, 0, 4096, N, N};
        assert_int_equal(f.names.ndepth, depths[k]);
        close_fixture(&f);
    }
}

static void long_names(void **state) {
    fixture f;
    open_fixture(&f);
    size_t len = (size_t)8 << 20;
    char *big = malloc(len);
    memset(big, '7', len);
    static const int64_t shape[] = {1};
    char nul[] = "model.layers.3.\0.weight", worst[257];
    for (size_t i = 0; i < 256; i++) {
        worst[i] = "vision."[i % 7];
    }
    memcpy(worst + 240, "layers.0.weight", 15);
    worst[255] = '\0';
    tarn_name_in in[] = {{big, len, TARN_F32, 1, shape},
                         {nul, sizeof nul - 1, TARN_F32, 1, shape},
                         {worst, 255, TARN_F32, 1, shape},
                         {"layers.1.w", 10, TARN_F32, 1, shape}};
    f.n = 4;
    f.in = in;
    find(&f, NULL);
    check_sane(&f);
    assert_int_equal(f.names.info[0].place, TARN_PLACE_OTHER);
    assert_int_equal(f.names.info[1].place, TARN_PLACE_OTHER);
    assert_int_equal(f.names.info[3].layer, 1);
    free(big);
    close_fixture(&f);
}

// Out of budget at any point is an error and leaves nothing behind.
static void no_memory(void **state) {
    json_t *h = header_load("sd15-unet");
    bool done = false;
    for (size_t limit = 1 << 18; !done; limit += 1 << 14) {
        fixture f;
        open_fixture(&f);
        f.in = header_names(&f.a, h, &f.n);
        f.cx.budget.limit = f.cx.budget.used + limit;
        tarn_error err = {0};
        tarn_status s = tarn_names_find(&f.cx, &f.a, f.n, f.in, "{\"a\": NaN}", 10, &f.names, &err);
        assert_true(s == TARN_OK || s == TARN_NOMEM);
        done = s == TARN_OK;
        close_fixture(&f);
    }
    json_decref(h);
}

static void stopped(void **state) {
    fixture f;
    open_fixture(&f);
    static const int64_t shape[] = {1};
    tarn_name_in in[] = {{"layers.1.w", 10, TARN_F32, 1, shape}};
    tarn_error err = {0};
    tarn_cancel_set(&f.cx.cancel, TARN_STOP_INT);
    assert_int_equal(tarn_names_find(&f.cx, &f.a, 1, in, NULL, 0, &f.names, &err), TARN_CANCELLED);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families),        cmocka_unit_test(words),
        cmocka_unit_test(sequence),        cmocka_unit_test(without_numbers),
        cmocka_unit_test(stacks_in_order), cmocka_unit_test(towers),
        cmocka_unit_test(published_unet),  cmocka_unit_test(configs),
        cmocka_unit_test(buffers),         cmocka_unit_test(random_names),
        cmocka_unit_test(many_names),      cmocka_unit_test(long_names),
        cmocka_unit_test(no_memory),       cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
