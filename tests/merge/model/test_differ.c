// SPDX-License-Identifier: Apache-2.0
// What models that do not fit say. The pairs of tests/golden/headers/pairs.json are made in memory
// from headers and edits, combined as half of each, and must get their verdict with a message that
// holds what the pair asks; then shapes of trouble that no pair has.
#include "tests/merge/model/pairs.h"

#include "merge/model/differ.h"

// What the message of a refused pair must hold, and must not.
typedef struct {
    const char *id;
    const char *holds[8];
    const char *lacks[3];
} want;

static const want wants[] = {
    {"llama31-mistral",
     {"2 shapes differ", "289 tensors agree",
      "lm_head.weight: [128256, 4096] in a, [32000, 4096] in b",
      "model.embed_tokens.weight: [128256, 4096] in a, [32000, 4096] in b", "hint"},
     {0}},
    {"llama2-mistral",
     {"160 shapes differ", "the other 131 tensors agree",
      "32 of model.layers.N.mlp.down_proj.weight (layers 0-31): [4096, 11008] in a, [4096, 14336] "
      "in b",
      "self_attn.k_proj", "self_attn.v_proj"},
     {"layers.1."}},
    {"vocab-32000-32003",
     {"lm_head.weight: [32000, 4096] in a, [32003, 4096] in b",
      "hint: the vocabularies have 32000 and 32003 rows", "explicit gather", "tokenizers"},
     {0}},
    {"tied-untied",
     {"a is tied: lm_head.weight is another name of its model.embed_tokens.weight",
      "with b as the first operand"},
     {0}},
    {"missing-head",
     {"1 only in a, 0 only in b", "lm_head.weight is not in b, and b is not tied",
      "missing = \"base\"", "\"zero\"", "\"drop\""},
     {"another name"}},
    {"inv-freq",
     {"0 only in a, 32 only in b, 291 agree",
      "only in b:\n  32 of model.layers.N.self_attn.rotary_emb.inv_freq (layers 0-31), F32 [64], "
      "constant",
      "missing = \"drop\""},
     {"layers.1."}},
    {"inv-freq-base",
     {"32 only in a, 0 only in b",
      "only in a:\n  32 of model.layers.N.self_attn.rotary_emb.inv_freq (layers 0-31), F32 [64], "
      "constant",
      "b lacks these constants; missing = \"drop\""},
     {"layers.1."}},
    {"prefix",
     {"272 only in a, 272 only in b, no name in common",
      "b says \"transformer.\" where a says \"model.\": renamed, 272 names agree, and 272 of their "
      "shapes",
      "m:rename"},
     {"missing ="}},
    {"gpt2-published",
     {"b has no prefix \"transformer.\": renamed, 148 names agree, and 148 of their shapes",
      "m:rename",
      "only in b:\n  12 of h.N.attn.bias (layers 0-11), F32 [1, 1, 1024, 1024], constant",
      "hint: a lacks these constants; missing = \"drop\" leaves them out"},
     {"only in a:"}},
    {"gpt2-transposed",
     {"36 shapes differ", "transpose", "[out, in]",
      "the 12 square ones (transformer.h.N.attn.c_proj.weight)", "never only those"},
     {0}},
    {"depth",
     {"72 only in a, 0 only in b", "a has 32 layers, b has 24",
      "the 72 tensors of layers 24-31 are only in a", "m:layers", "model.stack"},
     {"input_layernorm"}},
    {"bias-absent",
     {"72 only in a", "24 of model.layers.N.self_attn.k_proj.bias (layers 0-23)",
      "missing = \"zero\" is exact here, an absent bias is zero"},
     {0}},
    {"fused-qkv",
     {"64 only in a, 160 only in b",
      "a has q, k, v fused where b has them apart; the rows agree: 9216 = 3072 + 3072 + 3072",
      "a has gate, up fused where b has them apart; the rows agree: 16384 = 8192 + 8192"},
     {0}},
    {"dense-moe",
     {"96 only in a, 800 only in b, 195 agree in name and shape",
      "b is a mixture of experts, a is dense", "upcycling", "only in b:\n"},
     {"missing ="}},
    {"inpainting",
     {"1 shape differs", "the other 685 tensors agree",
      "conv_in.weight: [320, 4, 3, 3] in a, [320, 9, 3, 3] in b"},
     {0}},
};

static const want *want_of(const char *id) {
    for (size_t k = 0; k < sizeof wants / sizeof *wants; k++) {
        if (strcmp(wants[k].id, id) == 0) {
            return &wants[k];
        }
    }
    return NULL;
}

static tarn_status half_of_each(tarn_context *cx, tarn_model *a, tarn_model *b, tarn_model **out,
                                tarn_error *err) {
    tarn_value half = {.name = "c", .model = -1, .number = 0.5, .origin = "given"};
    tarn_model *x = NULL, *y = NULL;
    tarn_status s = tarn_model_with_number(cx, tarn_op_find("mul"), a, &half, false, &x, err);
    s = s == TARN_OK ? tarn_model_with_number(cx, tarn_op_find("mul"), b, &half, false, &y, err)
                     : s;
    s = s == TARN_OK ? tarn_model_binary(cx, tarn_op_find("add"), x, y, out, err) : s;
    tarn_model_release(x);
    tarn_model_release(y);
    return s;
}

static void check_refusal(const char *id, const char *code, const tarn_error *err) {
    assert_string_equal(err->code, code);
    const want *w = want_of(id);
    assert_non_null(w);
    for (int k = 0; k < 8 && w->holds[k]; k++) {
        if (!strstr(err->message, w->holds[k])) {
            fail_msg("%s: the message lacks: %s", id, w->holds[k]);
        }
    }
    for (int k = 0; k < 3 && w->lacks[k]; k++) {
        if (strstr(err->message, w->lacks[k])) {
            fail_msg("%s: the message holds: %s", id, w->lacks[k]);
        }
    }
    assert_true(strlen(err->message) < sizeof err->message - 1);
}

// The result of an accepted pair: every name of a once, with a's dtypes.
static void check_result(const tarn_model *m, const tarn_model *a) {
    assert_int_equal(m->n, a->n);
    for (int64_t i = 0; i < m->n; i++) {
        assert_int_equal(m->slots[i].dtype, a->slots[i].dtype);
        assert_true(m->map[0][i] >= 0 && m->map[1][i] >= 0);
    }
}

static void pairs(void **state) {
    json_t *list = json_read(HEADERS "/pairs.json"), *pair;
    size_t k;
    int refused = 0, accepted = 0;
    json_array_foreach(list, k, pair) {
        const char *id = json_string_value(json_object_get(pair, "id"));
        const char *verdict = json_string_value(json_object_get(pair, "verdict"));
        if (strcmp(json_string_value(json_object_get(pair, "op")), "linear") != 0) {
            continue;
        }
        tarn_context cx;
        tarn_error err = {0};
        open_context(&cx, 1, NULL);
        tarn_model *a = pair_model(&cx, pair, "a"), *b = pair_model(&cx, pair, "b"), *m = NULL;
        tarn_status s = half_of_each(&cx, a, b, &m, &err);
        // Integers that differ are found by reading them, later.
        if (strcmp(verdict, "accept") == 0 || strcmp(id, "counters-differ") == 0) {
            if (s != TARN_OK) {
                fail_msg("%s: %s", id, err.message);
            }
            check_result(m, a);
            accepted++;
        } else {
            assert_int_equal(s, TARN_ERROR);
            check_refusal(id, json_string_value(json_object_get(pair, "code")), &err);
            refused++;
        }
        tarn_model_release(m);
        tarn_model_release(a);
        tarn_model_release(b);
        assert_int_equal(cx.budget.used, 0);
        tarn_context_free(&cx);
    }
    assert_int_equal(refused, 15);
    assert_int_equal(accepted, 8);
    json_decref(list);
}

// ---- shapes of trouble that no pair has ----

typedef struct {
    tarn_context cx;
    tarn_arena a;
} fixture;

static void open_fixture(fixture *f) {
    open_context(&f->cx, 1, NULL);
    tarn_arena_init(&f->a, &f->cx.budget);
}

static void close_fixture(fixture *f) {
    tarn_arena_free(&f->a);
    assert_int_equal(f->cx.budget.used, 0);
    tarn_context_free(&f->cx);
}

static const int64_t square[] = {4, 4};

static tarn_model *texts(fixture *f, const char *const *names, const char *config,
                         const char *label) {
    int64_t n = 0;
    while (names[n]) {
        n++;
    }
    tarn_name_in *in = tarn_arena_take(&f->a, (size_t)n * sizeof *in + 1);
    for (int64_t i = 0; i < n; i++) {
        in[i] = (tarn_name_in){names[i], strlen(names[i]), TARN_F32, 2, square};
    }
    return model_of(&f->cx, n, in, config, label);
}

static tarn_status add_models(fixture *f, tarn_model *a, tarn_model *b, tarn_error *err) {
    tarn_model *m = NULL;
    tarn_status s = tarn_model_binary(&f->cx, tarn_op_find("add"), a, b, &m, err);
    tarn_model_release(m);
    tarn_model_release(a);
    tarn_model_release(b);
    return s;
}

#define HOLDS(text)                                                                                \
    do {                                                                                           \
        if (!strstr(err.message, text)) {                                                          \
            fail_msg("the message lacks: %s\n%s", text, err.message);                              \
        }                                                                                          \
    } while (0)

static void labels(void **state) {
    static const char *const one[] = {"x", "y", NULL}, *const two[] = {"x", "z.3.w", "z.4.w",
                                                                       "z.9.w", NULL};
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    assert_int_equal(
        add_models(&f, texts(&f, one, NULL, "model"), texts(&f, two, NULL, "model"), &err),
        TARN_ERROR);
    HOLDS("the first model and the second model do not hold the same tensors: 1 only in the first "
          "model");
    HOLDS("only in the first model:\n  y, F32 [4, 4]");
    HOLDS("only in the second model:\n  3 of z.N.w (N = 3-4,9), F32 [4, 4]");
    close_fixture(&f);
}

// A vector may lack names, but what it has must have a place.
static void vectors(void **state) {
    static const char *const point[] = {"x", "y", NULL}, *const less[] = {"x", NULL},
                             *const odd[] = {"x", "q", NULL};
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    tarn_model *v = texts(&f, less, NULL, "tau");
    v->mass = 0;
    OK(add_models(&f, texts(&f, point, NULL, "base"), v, &err));
    v = texts(&f, odd, NULL, "tau");
    v->mass = 0;
    assert_int_equal(add_models(&f, texts(&f, point, NULL, "base"), v, &err), TARN_ERROR);
    HOLDS("0 only in base, 1 only in tau");
    assert_null(strstr(err.message, "only in base:"));
    // The point leads although it comes second.
    v = texts(&f, odd, NULL, "tau");
    v->mass = 0;
    assert_int_equal(add_models(&f, v, texts(&f, point, NULL, "base"), &err), TARN_ERROR);
    HOLDS("base and tau do not hold the same tensors: 0 only in base, 1 only in tau");
    close_fixture(&f);
}

static void ties(void **state) {
    static const char *const once[] = {"model.embed_tokens.weight", NULL},
                             *const twice[] = {"lm_head.weight", "model.embed_tokens.weight", NULL};
    static const char tied[] = "{\"model_type\": \"gemma\"}",
                      apart[] = "{\"model_type\": \"llama\"}";
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    OK(add_models(&f, texts(&f, once, tied, "a"), texts(&f, twice, tied, "b"), &err));
    OK(add_models(&f, texts(&f, twice, tied, "a"), texts(&f, once, tied, "b"), &err));
    OK(add_models(&f, texts(&f, twice, apart, "a"), texts(&f, once, tied, "b"), &err));
    assert_int_equal(add_models(&f, texts(&f, once, tied, "a"), texts(&f, twice, apart, "b"), &err),
                     TARN_ERROR);
    HOLDS("a is tied");
    assert_int_equal(
        add_models(&f, texts(&f, twice, apart, "a"), texts(&f, once, apart, "b"), &err),
        TARN_ERROR);
    HOLDS("b is not tied");
    // The spare copy of a tied head is not counted among what only b has.
    static const char *const more[] = {"lm_head.weight", "model.embed_tokens.weight", "z", NULL};
    assert_int_equal(add_models(&f, texts(&f, once, tied, "a"), texts(&f, more, tied, "b"), &err),
                     TARN_ERROR);
    HOLDS("0 only in a, 1 only in b");
    assert_null(strstr(err.message, "lm_head"));
    close_fixture(&f);
}

static void prefixes(void **state) {
    static const char *const plain[] = {"embed.weight", "layers.0.w", "layers.1.w", "head.weight",
                                        NULL},
                             *const wrapped[] = {"module.embed.weight", "module.layers.0.w",
                                                 "module.layers.1.w", "module.head.weight", NULL},
                             *const deep[] = {"lm_head.weight",       "net.core.embed.weight",
                                              "net.core.layers.0.w",  "net.core.layers.1.w",
                                              "net.core.head.weight", NULL},
                             *const strange[] = {"p", "q", "r", NULL};
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    assert_int_equal(
        add_models(&f, texts(&f, plain, NULL, "a"), texts(&f, wrapped, NULL, "b"), &err),
        TARN_ERROR);
    HOLDS("a has no prefix \"module.\": renamed, 4 names agree, and 4 of their shapes");
    assert_int_equal(
        add_models(&f, texts(&f, deep, NULL, "a"), texts(&f, wrapped, NULL, "b"), &err),
        TARN_ERROR);
    HOLDS("b says \"module.\" where a says \"net.core.\": renamed, 4 names agree");
    HOLDS("only in a:\n  lm_head.weight");
    assert_int_equal(
        add_models(&f, texts(&f, plain, NULL, "a"), texts(&f, strange, NULL, "b"), &err),
        TARN_ERROR);
    assert_null(strstr(err.message, "renamed"));
    // One name that happens to fit is no renaming.
    static const char *const some[] = {"x.w", "p", "q", "r", NULL}, *const other[] = {
                                                                        "y.w", "s", "t", "u", NULL};
    assert_int_equal(add_models(&f, texts(&f, some, NULL, "a"), texts(&f, other, NULL, "b"), &err),
                     TARN_ERROR);
    assert_null(strstr(err.message, "renamed"));
    close_fixture(&f);
}

// Fused projections are spoken of only where the rows add up.
static void fused(void **state) {
    static const char *const whole[] = {"layers.0.attn.qkv_proj.weight", "x", NULL},
                             *const apart[] = {"layers.0.attn.q_proj.weight",
                                               "layers.0.attn.k_proj.weight",
                                               "layers.0.attn.v_proj.weight", "x", NULL};
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    for (int rows = 12; rows >= 11; rows--) {
        tarn_model *a = texts(&f, whole, NULL, "a"), *b = texts(&f, apart, NULL, "b");
        a->slots[0].shape = (const int64_t[]){rows, 4};
        assert_int_equal(tarn_differ_names(b, a, &err), TARN_ERROR);
        if (rows == 12) {
            HOLDS("a has q, k, v fused where b has them apart; the rows agree: 12 = 4 + 4 + 4");
        } else {
            assert_null(strstr(err.message, "fused"));
        }
        tarn_model_release(a);
        tarn_model_release(b);
    }
    close_fixture(&f);
}

// Counts are exact, lists are cut, control bytes are escaped, the hint is there, and it is quick.
static void hostile(void **state) {
    enum { N = 20000 };
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    for (int round = 0; round < 2; round++) {
        tarn_name_in *in[2];
        for (int k = 0; k < 2; k++) {
            in[k] = tarn_arena_take(&f.a, N * sizeof **in);
            for (int i = 0; i < N; i++) {
                char *text = tarn_arena_take(&f.a, 700);
                memset(text, 'x', 600);
                text[0] = (char)('a' + k);
                text[1] = '\n';
                text[2] = '\x1b';
                text[3] = '\xff';
                text[4] = '\0';
                int end = snprintf(text + 5, 32, "%c%c%c", 'a' + i % 26, 'a' + i / 26 % 26,
                                   'a' + i / 676);
                text[5 + end] = round ? '.' : 'y';
                in[k][i] = (tarn_name_in){text, 600, TARN_F32, 2, square};
            }
        }
        tarn_model *a = model_of(&f.cx, N, in[0], NULL, "a"),
                   *b = model_of(&f.cx, N, in[1], NULL, "b");
        assert_int_equal(add_models(&f, a, b, &err), TARN_ERROR);
        HOLDS("20000 only in a, 20000 only in b, no name in common");
        HOLDS("… and 19997 more tensors of 19997 kinds");
        HOLDS("\nhint: missing = ");
        assert_null(strchr(err.message, '\x1b'));
        assert_true(strlen(err.message) < sizeof err.message - 1);
    }
    close_fixture(&f);
}

// Long lists of shapes leave room for the hint; the one shape that differs is found beside others.
static void shapes(void **state) {
    static const int64_t wide[] = {4, 5}, deep[70] = {1};
    fixture f;
    open_fixture(&f);
    tarn_error err = {0};
    tarn_name_in in[2][40];
    char names[40][150];
    for (int i = 0; i < 40; i++) {
        memset(names[i], 'n', 140);
        snprintf(names[i] + 130, 20, "w%c%c", 'a' + i % 26, 'a' + i / 26);
        size_t len = strlen(names[i]);
        in[0][i] = (tarn_name_in){names[i], len, TARN_F32, 2, square};
        in[1][i] = (tarn_name_in){names[i], len, TARN_F32, i == 7 ? 2 : 64, i == 7 ? wide : deep};
    }
    assert_int_equal(add_models(&f, model_of(&f.cx, 40, in[0], NULL, "a"),
                                model_of(&f.cx, 40, in[1], NULL, "b"), &err),
                     TARN_ERROR);
    assert_string_equal(err.code, "ShapeMismatch");
    HOLDS("40 shapes differ between a and b, the other 0 tensors agree:");
    HOLDS("[4, 4] in a, [1, 0, 0, 0, 0, 0, …] in b");
    HOLDS("… and 34 more tensors of 34 kinds");
    HOLDS("\nhint: ");
    close_fixture(&f);
}

static void no_memory(void **state) {
    fixture f;
    open_fixture(&f);
    json_t *list = json_read(HEADERS "/pairs.json"), *pair = NULL;
    size_t k;
    json_array_foreach(list, k, pair) {
        if (strcmp(json_string_value(json_object_get(pair, "id")), "gpt2-published") == 0) {
            break;
        }
    }
    tarn_model *a = pair_model(&f.cx, pair, "a"), *b = pair_model(&f.cx, pair, "b");
    size_t limit = f.cx.budget.limit;
    bool done = false;
    for (size_t room = 0; !done; room += 512) {
        tarn_error err = {0};
        f.cx.budget.limit = f.cx.budget.used + room;
        tarn_status s = tarn_differ_names(a, b, &err);
        assert_true(s == TARN_NOMEM || s == TARN_ERROR);
        done = s == TARN_ERROR;
    }
    f.cx.budget.limit = limit;
    tarn_model_release(a);
    tarn_model_release(b);
    json_decref(list);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),   cmocka_unit_test(labels),   cmocka_unit_test(vectors),
        cmocka_unit_test(ties),    cmocka_unit_test(prefixes), cmocka_unit_test(fused),
        cmocka_unit_test(hostile), cmocka_unit_test(shapes),   cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
