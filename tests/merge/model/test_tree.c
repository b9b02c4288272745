// SPDX-License-Identifier: Apache-2.0
// JSON as a tree: what Jansson's own reader makes of the same text, and clean ends when memory does.
#include "tests/oom.h"
#include "tests/support.h"

#include "merge/model/tree.h"

static const char *const good[] = {
    "{}",
    "[]",
    " [ { } , [ ] ]\n",
    "{\"a\":1,\"b\":[true,false,null,\"\"],\"c\":{\"\":{\"d\":-0.0}}}",
    "[0,-0,9223372036854775807,-9223372036854775808,1234567890123456,0.1,1e3,1E-400,-1.5e+300,2.5]",
    "[0.30000000000000004,123456789012345678.5,4.9e-324]",
    "{\"model.layers.11.self_attn.q_proj.weight\":\"a text of more than sixteen bytes\"}",
    "[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83C\\uDF0A\xC3\xA9\",\"\x7F\"]",
    "[[[[[[[[[[[[[[[[[[1]]]]]],2]]]]]],3]]]]]]",
};

static const struct {
    const char *text;
    int line;
} bad[] = {
    {"", 1}, {" \n ", 2}, {"1", 1}, {"\"a\"", 1}, {"null", 1}, {"[", 1}, {"{", 1}, {"[1,\n]", 2}, {"[1 2]", 1}, {"[01]", 1},
    {"[1.]", 1}, {"[-]", 1}, {"[+1]", 1}, {"[0x10]", 1}, {"[tru]", 1}, {"[truefalse]", 1}, {"[NaN]", 1}, {"[Infinity]", 1},
    {"[\n\n9223372036854775808]", 3}, {"[-9223372036854775809]", 1}, {"[1e400]", 1}, {"{\"a\"}", 1}, {"{\"a\":}", 1},
    {"{a:1}", 1}, {"{1:1}", 1}, {"{\"a\":1,}", 1}, {"[1}", 1}, {"{\"a\":1]", 1}, {"[1] x", 1}, {"[\"\\x\"]", 1},
    {"[\"\\ud800\"]", 1}, {"[\"a\\u0000\"]", 1}, {"{\"a\\u0000\":1}", 1}, {"[\"a\nb\"]", 1}, {"[\"a", 1}, {"[\"\xFF\"]", 1},
    {"[1,/**/2]", 1}, {"\xEF\xBB\xBF[]", 1},
};

static json_t *read(tarn_budget *b, const char *text, json_error_t *why) {
    return tarn_tree_read(b, text, strlen(text), 0, why);
}

static void test_texts(void **state) {
    tarn_budget b;
    tarn_budget_init(&b, 1 << 20);
    json_error_t why;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        json_t *want = json_loads(good[i], 0, NULL), *got = read(&b, good[i], &why);
        if (!want || !got || !json_equal(want, got)) {
            fail_msg("%s: %s", good[i], got ? "another tree" : why.text);
        }
        json_decref(want);
        json_decref(got);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(json_loads(bad[i].text, 0, NULL));
        if (read(&b, bad[i].text, &why) || !*why.text || why.line != bad[i].line || tarn_tree_nomem(&why)) {
            fail_msg("%s: line %d: %s", bad[i].text, why.line, why.text);
        }
    }
    assert_int_equal(b.used, 0);
}

static void test_names_that_come_twice(void **state) {
    static const char text[] = "{\"a\":1,\n\"b\":{\"a\":1},\n\"a\":2}";
    tarn_budget b;
    tarn_budget_init(&b, 1 << 20);
    json_error_t why;
    assert_null(tarn_tree_read(&b, text, strlen(text), JSON_REJECT_DUPLICATES, &why));
    assert_int_equal(why.line, 3);
    json_t *t = read(&b, text, &why);
    assert_int_equal(json_integer_value(json_object_get(t, "a")), 2);
    json_decref(t);
}

static void test_depth(void **state) {
    enum { MOST = TARN_TREE_DEPTH };
    static char text[2 * MOST + 3];
    tarn_budget b;
    tarn_budget_init(&b, 1 << 20);
    json_error_t why;
    for (int n = MOST; n <= MOST + 1; n++) {
        memset(text, '[', (size_t)n);
        memset(text + n, ']', (size_t)n);
        text[2 * n] = '\0';
        json_t *t = read(&b, text, &why);
        assert_int_equal(t != NULL, n == MOST);
        json_decref(t);
    }
}

// Every text while allocation n fails: its tree, or the word that memory ended. False: none failed.
static bool attempt(const char *text, long n, bool onwards) {
    tarn_budget b;
    tarn_budget_init(&b, 1 << 20);
    json_error_t why;
    oom_arm(n, onwards);
    json_t *got = read(&b, text, &why);
    bool failed = oom_disarm() > 0;
    json_t *want = json_loads(text, 0, NULL);
    if (got ? !json_equal(want, got) : !failed || !tarn_tree_nomem(&why)) {
        fail_msg("%s, allocation %ld%s: %s", text, n, onwards ? " and all later" : "", got ? "another tree" : why.text);
    }
    assert_int_equal(b.used, 0);
    json_decref(want);
    json_decref(got);
    return failed;
}

static void test_memory(void **state) {
    oom_or_skip();
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        for (int onwards = 0; onwards < 2; onwards++) {
            long n = 1;
            while (attempt(good[i], n, onwards)) {
                n++;
            }
            assert_true(n > 2);  // the copy, the root
        }
    }
}

// Objects whose names end at every place of a growing buffer, as text, while allocation n fails.
static bool attempt_writing(size_t length, long n) {
    char text[640];
    int len = snprintf(text, sizeof text, "{\"%0*d\":0}", (int)length, 0);
    tarn_budget b;
    tarn_text got;
    tarn_budget_init(&b, 1 << 20);
    tarn_text_init(&got, &b);
    json_t *t = read(&b, text, NULL);
    assert_non_null(t);
    oom_arm(n, false);
    bool whole = tarn_tree_write(t, JSON_COMPACT, &got), failed = oom_disarm() > 0;
    assert_true(whole ? got.len == (size_t)len && memcmp(got.data, text, got.len) == 0 : failed);
    tarn_text_free(&got);
    json_decref(t);
    assert_int_equal(b.used, 0);
    return failed;
}

static void test_writing(void **state) {
    oom_or_skip();
    for (size_t length = 1; length < 600; length++) {
        long n = 1;
        while (attempt_writing(length, n)) {
            n++;
        }
        assert_true(n > 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts), cmocka_unit_test(test_names_that_come_twice),
                                       cmocka_unit_test(test_depth), cmocka_unit_test(test_memory),
                                       cmocka_unit_test(test_writing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
