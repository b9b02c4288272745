// SPDX-License-Identifier: Apache-2.0
// What models that do not fit say. The pairs of tests/golden/headers/pairs.json are made in memory
// from headers and edits, combined as half of each, and must get their verdict with a message that
// holds what the pair asks; then shapes of trouble that no pair has.
#include "tests/merge/model/pairs.h"

#include "merge/model/regex.h"

// What the message of a refused pair must hold, and must not.
typedef struct {
    const char *id;
    const char *holds[8];
    const char *lacks[3];
} want;

static const want wants[] = {
    {"llama31-mistral",
     {"2 shapes differ", "289 tensors agree", "lm_head.weight: [128256, 4096] in a, [32000, 4096] in b",
      "model.embed_tokens.weight: [128256, 4096] in a, [32000, 4096] in b", "hint"},
     {0}},
    {"llama2-mistral",
     {"160 shapes differ", "the other 131 tensors agree",
      "32 of model.layers.N.mlp.down_proj.weight (layers 0-31): [4096, 11008] in a, [4096, 14336] in b",
      "self_attn.k_proj", "self_attn.v_proj"},
     {"layers.1."}},
    {"vocab-32000-32003",
     {"lm_head.weight: [32000, 4096] in a, [32003, 4096] in b",
      "hint: the vocabularies have 32000 and 32003 rows", "explicit gather", "tokenizers"},
     {0}},
    {"tied-untied",
     {"a is tied: lm_head.weight is another name of its model.embed_tokens.weight"},
     {0}},
    {"missing-head",
     {"1 only in a, 0 only in b", "lm_head.weight is not in b, and b is not tied", "missing = \"base\"",
      "\"zero\"", "\"drop\""},
     {"another name"}},
    {"inv-freq",
     {"0 only in a, 32 only in b, 291 agree",
      "only in b:\n  32 of model.layers.N.self_attn.rotary_emb.inv_freq (layers 0-31), F32 [64], constant",
      "missing = \"drop\""},
     {"layers.1."}},
    {"inv-freq-base",
     {"32 only in a, 0 only in b",
      "only in a:\n  32 of model.layers.N.self_attn.rotary_emb.inv_freq (layers 0-31), F32 [64], constant",
      "missing = \"drop\""},
     {"layers.1."}},
    {"prefix",
     {"272 only in a, 272 only in b, no name in common",
      "b says \"transformer.\" where a says \"model.\": renamed, 272 names agree, and 272 of their shapes",
      "m:rename"},
     {"missing ="}},
    {"gpt2-published",
     {"b has no prefix \"transformer.\": renamed, 148 names agree, and 148 of their shapes", "m:rename",
      "only in b:\n  12 of h.N.attn.bias (layers 0-11), F32 [1, 1, 1024, 1024], constant",
      "missing = \"drop\" leaves these constants out"},
     {"only in a:"}},
    {"gpt2-transposed",
     {"36 shapes differ", "transpose", "[out, in]", "the 12 square ones (transformer.h.N.attn.c_proj.weight)",
      "never only those"},
     {0}},
    {"depth",
     {"72 only in a, 0 only in b", "a has 32 layers, b has 24", "the 72 tensors of layers 24-31 are only in a",
      "m:layers", "model.stack"},
     {"input_layernorm"}},
    {"bias-absent",
     {"72 only in a", "24 of model.layers.N.self_attn.k_proj.bias (layers 0-23)",
      "missing = \"zero\" is exact here, an absent bias is zero"},
     {0}},
    {"fused-qkv",
     {"64 only in a, 160 only in b", "a has q, k, v fused where b has them apart; the rows agree: 9216 = 3072 + 3072 + 3072",
      "a has gate, up fused where b has them apart; the rows agree: 16384 = 8192 + 8192"},
     {0}},
    {"dense-moe",
     {"96 only in a, 800 only in b, 195 agree in name and shape", "b is a mixture of experts, a is dense",
      "upcycling", "only in b:\n"},
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
    s = s == TARN_OK ? tarn_model_with_number(cx, tarn_op_find("mul"), b, &half, false, &y, err) : s;
    s = s == TARN_OK ? tarn_model_binary(cx, tarn_op_find("add"), x, y, out, err) : s;
    tarn_model_release(x);
    tarn_model_release(y);
    return s;
}

static void check_refusal(const char *id, const char *code, const tarn_error *err) {
    print_message("--- %s [%s]\n%s\n", id, err->code, err->message);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
