// SPDX-License-Identifier: Apache-2.0
// The adapter pairs of tests/golden/headers/pairs.json: an adapter for Llama 3.1 8B on bases that
// are right, of another family, too shallow, and damaged. From headers alone.
#include "tests/merge/model/pairs.h"

#include "merge/model/lora.h"

static int warnings;
static void count_warning(void *arg, const char *message) {
    warnings += strstr(message, "[BaseName]") != NULL;
}

static void test_pairs(void **state) {
    (void)state;
    tarn_context cx;
    open_context(&cx, 1, NULL);
    cx.warn = count_warning;
    json_t *pairs = json_read(HEADERS "/pairs.json"), *pair;
    size_t k;
    int tried = 0;
    json_array_foreach(pairs, k, pair) {
        if (strcmp(json_string_value(json_object_get(pair, "op")), "adapter") != 0) {
            continue;
        }
        const char *id = json_string_value(json_object_get(pair, "id"));
        const char *verdict = json_string_value(json_object_get(pair, "verdict"));
        const char *code = json_string_value(json_object_get(pair, "code"));
        tarn_model *base = pair_model(&cx, pair, "a"), *adapter = pair_model(&cx, pair, "b"),
                   *lora = NULL;
        json_t *h = pair_header(&cx, pair, "b");
        char *config = json_dumps(json_object_get(h, "config"), 0);
        tarn_error err = {0};
        base->label = json_string_value(json_object_get(json_object_get(pair, "a"), "model"));
        warnings = 0;
        tarn_status s = tarn_lora_read(base, adapter, config, strlen(config), &lora, &err);
        tried++;
        if (strcmp(verdict, "refuse") == 0) {
            assert_int_not_equal(s, TARN_OK);
            assert_non_null(strstr(code, err.code));
            assert_non_null(strstr(err.message, strstr(id, "half") ? "model.layers.7.mlp.down_proj"
                                                : strstr(id, "rank")
                                                    ? "model.layers.3.self_attn.q_proj"
                                                    : "layers.16."));
        } else {
            OK(s);
            json_t *facts = json_object_get(pair, "facts");
            assert_int_equal(lora->n, json_integer_value(json_object_get(facts, "modules")));
            assert_true(lora->mass == 0);
            for (int64_t i = 0; i < lora->n; i++) {
                assert_true(((const tarn_lora_part *)lora->extra)[i].scale ==
                            json_number_value(json_object_get(facts, "scale")));
            }
            assert_int_equal(warnings, strcmp(verdict, "accept") == 0 ? 0 : 1);
            tarn_model_release(lora);
        }
        free(config);
        json_decref(h);
        tarn_model_release(adapter);
        tarn_model_release(base);
    }
    assert_int_equal(tried, 5);
    json_decref(pairs);
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
