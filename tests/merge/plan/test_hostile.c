// SPDX-License-Identifier: Apache-2.0
// Plans and adapters that were made to do harm: each is refused, by its code. What the fuzzers found
// goes here where a replay could not tell that something is wrong.
#include "tests/support.h"

#include "merge/model/lora.h"
#include "tests/fuzz/models.h"

static const char wte[] = "{\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,48]}}";
static const char deep[] =
    "{\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,8]}}";

// A plan of `node` over the model of this header: the code of the error.
static void plan(const char *header, const char *node, char code[64]) {
    fuzz_file f = {0};
    tarn_context cx;
    tarn_error err = {0};
    tarn_model *m = NULL;
    tarn_plan_options o;
    tarn_text text;
    char hex[65];
    fuzz_model(&f, header);
    fuzz_context(&cx);
    tarn_text_init(&text, &cx.budget);
    OK(tarn_model_open(&cx, f.path, NULL, &m, &err));
    OK(tarn_header_digest(m, hex, &err));
    tarn_model_release(m);
    tarn_text_printf(&text, "{\"format\":1,\"nodes\":[{\"node\":\"input\",\"label\":\"a\",\"header\":\"%s\"},{"
                     "\"values\":[],\"missing\":\"error\",\"on_integer\":\"error\",%s}]}", hex, node);
    fuzz_inputs in = {(const fuzz_input[]){{"a", f.path}}, 1};
    tarn_status s = tarn_plan_read(&cx, text.data, text.len, fuzz_path, &in, &m, &o, &err);
    snprintf(code, 64, "%s", s == TARN_OK ? "" : err.code);
    if (s == TARN_OK) {
        tarn_model_release(m);
    }
    tarn_text_free(&text);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
    fuzz_close(&f);
}

#define ROWS(rows, from) \
    "\"in\":[0],\"node\":\"rows\",\"rows\":" rows ",\"fill\":\"zero\",\"tensors\":[\"wte.weight\"],\"from\":[[" from "]]"

static void test_rows(void **state) {
    char code[64];
    plan(wte, ROWS("5", "[0,1,3],[4,0,1]"), code);
    assert_string_equal(code, "");
    plan(wte, ROWS("5", "[0,3,3]"), code);  // rows 3 to 5 of 4
    assert_string_equal(code, "IndexRange");
    plan(wte, ROWS("5", "[0,9223372036854775807,2]"), code);
    assert_string_equal(code, "PlanInvalid");
    // Each run takes as long as it is, so they may not say the same rows again and again.
    plan(wte, ROWS("5", "[0,0,4],[0,0,4]"), code);
    assert_string_equal(code, "PlanInvalid");
    plan(wte, ROWS("5", "[2,0,1],[0,0,1]"), code);
    assert_string_equal(code, "PlanInvalid");
}

// A file may hold more dimensions than arithmetic knows.
static void test_dimensions(void **state) {
    char code[64];
    plan(deep, ROWS("2", "[0,1,1]"), code);
    assert_string_equal(code, "ShapeMismatch");
    plan(deep, "\"in\":[0,0],\"node\":\"method\",\"method\":\"tsv_c\",\"version\":1,\"base\":0", code);
    assert_string_equal(code, "Rank");
}

// The code of the error of an adapter over wte.
static void adapter(const char *header, char code[64]) {
    static const char config[] = "{\"r\":2,\"lora_alpha\":2}";
    fuzz_file f = {0}, g = {0};
    tarn_context cx;
    tarn_error err = {0};
    tarn_model *base = NULL, *a = NULL, *m = NULL;
    fuzz_model(&f, wte);
    fuzz_model(&g, header);
    fuzz_context(&cx);
    OK(tarn_model_open(&cx, f.path, NULL, &base, &err));
    OK(tarn_model_open(&cx, g.path, NULL, &a, &err));
    tarn_status s = tarn_lora_read(base, a, config, strlen(config), &m, &err);
    snprintf(code, 64, "%s", s == TARN_OK ? "" : err.code);
    tarn_model_release(m);
    tarn_model_release(a);
    tarn_model_release(base);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
    fuzz_close(&f);
    fuzz_close(&g);
}

#define FACTORS(a, b, bytes)                                                                                   \
    "{\"wte.lora_A.weight\":{\"dtype\":\"U8\",\"shape\":" a ",\"data_offsets\":[0,1]},"                        \
    "\"wte.lora_B.weight\":{\"dtype\":\"U8\",\"shape\":" b ",\"data_offsets\":[1," bytes "]}}"

static void test_factors(void **state) {
    char code[64];
    adapter(FACTORS("[]", "[]", "2"), code);
    assert_string_equal(code, "AdapterShape");
    adapter(FACTORS("[1]", "[2]", "3"), code);
    assert_string_equal(code, "AdapterShape");
    adapter(FACTORS("[1,1]", "[4,2]", "9"), code);
    assert_string_equal(code, "AdapterRank");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_dimensions),
                                       cmocka_unit_test(test_factors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
