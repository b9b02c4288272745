// SPDX-License-Identifier: Apache-2.0
// Plans and adapters that were made to do harm: each is refused, by its code. What the fuzzers found
// goes here where a replay could not tell that something is wrong.
#include "tests/support.h"

#include <dirent.h>
#include <jansson.h>

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
    tarn_text_printf(&text, "{\"tarn\":\"plan\",\"format\":1,\"dtype\":null,\"allow_nonfinite\":false,\"nodes\":["
                     "{\"node\":\"input\",\"label\":\"a\",\"tensors\":1,\"header\":\"%s\"},{\"values\":[],"
                     "\"missing\":\"error\",\"on_integer\":\"error\",%s}]}", hex, node);
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

// ---- plans of the corpus, each with one member changed ----

static const char *read_changed(tarn_context *cx, const json_t *root, fuzz_inputs *in) {
    static tarn_error err;
    tarn_model *m = NULL;
    tarn_plan_options o;
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    memset(&err, 0, sizeof err);
    tarn_status s = tarn_plan_read(cx, text, strlen(text), fuzz_path, in, &m, &o, &err);
    if (s == TARN_OK) {
        tarn_model_release(m);
    }
    free(text);
    assert_int_equal(cx->budget.used, 0);
    return s == TARN_OK ? "" : err.code;
}

// Each member of an object within a plan under a name that nothing has, then of a kind that it never is; and
// of the objects within it, but for config.json's own.
static void change_members(tarn_context *cx, const char *file, const json_t *root, json_t *object, fuzz_inputs *in) {
    size_t k;
    json_t *element;
    json_array_foreach(object, k, element) {
        change_members(cx, file, root, element, in);
    }
    json_t *members = json_copy(object), *v;
    const char *key;
    json_object_foreach(members, key, v) {
        char wrong[64];
        snprintf(wrong, sizeof wrong, "%s_", key);
        json_object_del(object, key);
        json_object_set(object, wrong, v);
        const char *code = read_changed(cx, root, in);
        if (strcmp(code, "PlanInvalid") != 0 && strcmp(code, "PlanVersion") != 0) {
            fail_msg("%s: %s instead of %s: '%s'", file, wrong, key, code);
        }
        json_object_del(object, wrong);
        json_object_set_new(object, key, json_is_boolean(v) ? json_null() : json_true());
        code = read_changed(cx, root, in);
        if (strcmp(code, "PlanInvalid") != 0 && strcmp(code, "PlanVersion") != 0) {
            fail_msg("%s: %s is true: '%s'", file, key, code);
        }
        json_object_set(object, key, v);
        if (strcmp(key, "config") != 0) {
            change_members(cx, file, root, v, in);
        }
    }
    json_decref(members);
}

static void test_members(void **state) {
    static const char folder[] = TARN_SOURCE_DIR "/tests/fuzz/corpus/plan";
    fuzz_file a = {0}, b = {0}, l = {0};
    tarn_context cx;
    fuzz_model(&a, fuzz_weights);
    fuzz_model(&b, fuzz_weights);
    fuzz_model(&l, fuzz_adapter);
    fuzz_inputs in = {(const fuzz_input[]){{"a", a.path}, {"b", b.path}, {"l", l.path}}, 3};
    fuzz_context(&cx);
    DIR *d = opendir(folder);
    assert_non_null(d);
    int plans = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        json_t *root = json_load_file(path, 0, NULL);
        if (!root) {
            continue;
        }
        assert_string_equal(read_changed(&cx, root, &in), "");
        change_members(&cx, e->d_name, root, root, &in);
        json_decref(root);
        plans++;
    }
    closedir(d);
    assert_true(plans >= 12);
    tarn_context_free(&cx);
    fuzz_close(&a);
    fuzz_close(&b);
    fuzz_close(&l);
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
                                       cmocka_unit_test(test_members),
                                       cmocka_unit_test(test_factors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
