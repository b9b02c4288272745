// SPDX-License-Identifier: Apache-2.0
// The strict JSON cursor: what it takes, what it refuses and where; strings and their escapes; and
// the index sort.
#include "tests/support.h"

#include "vm/store/json.h"
#include "vm/store/sort.h"

// Reads `text` as one value; returns the byte of the fault, -1 when there is none.
static long fault_of(const char *text, size_t len) {
    char *copy = malloc(len + 1);  // exact, so that a sanitizer sees a step too far
    copy = realloc(copy, len ? len : 1);
    memcpy(copy, text, len);
    tarn_json j = tarn_json_of(copy, len);
    bool ok = tarn_json_skip(&j) && tarn_json_end(&j);
    assert_true(ok == (j.fault == NULL));
    long at = ok ? -1 : (long)j.fault_at;
    assert_true(at <= (long)len);
    free(copy);
    return at;
}

static void values(void **state) {
    static const char *const good[] = {
        "null",
        "true",
        "false",
        "0",
        "-0",
        "12",
        "-1.5e+3",
        "0.0E-1",
        "\"\"",
        "[]",
        "{}",
        " [ ] ",
        "{\"a\":1}",
        "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"d\":\"e\"}",
        "[[[[]]],[]]",
        "\t\n\r 1 ",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83C\\uDF0A\"",
        "[1 , 2]",
        "{ \"a\" : [ ] }",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (fault_of(good[i], strlen(good[i])) != -1) {
            fail_msg("refused: %s", good[i]);
        }
    }
    static const struct {
        const char *text;
        long at;
    } bad[] = {
        {"", 0},
        {" ", 1},
        {"nul", 0},
        {"True", 0},
        {"NaN", 0},
        {"Infinity", 0},
        {"+1", 0},
        {".5", 0},
        {"01", 0},
        {"-01", 1},
        {"1.", 2},
        {"1.e3", 2},
        {"1e", 2},
        {"1e+", 3},
        {"-", 1},
        {"0x10", 1},
        {"\"", 0},
        {"\"a", 0},
        {"'a'", 0},
        {"\"\\x\"", 1},
        {"\"\\u12\"", 1},
        {"\"\\u12g4\"", 1},
        {"\"\\ud800\"", 1},
        {"\"\\udc00\"", 1},
        {"\"\\ud800\\u0041\"", 1},
        {"\"\\ud800x\"", 1},
        {"\"\\", 1},
        {"[", 1},
        {"[1", 2},
        {"[1,", 3},
        {"[1,]", 3},
        {"[,1]", 1},
        {"[1 2]", 3},
        {"]", 0},
        {"[1}", 2},
        {"{", 1},
        {"{\"a\"", 4},
        {"{\"a\":", 5},
        {"{\"a\":1", 6},
        {"{\"a\":1,", 7},
        {"{\"a\":1,}", 7},
        {"{\"a\" 1}", 5},
        {"{a:1}", 1},
        {"{1:1}", 1},
        {"{\"a\":1]", 6},
        {"}", 0},
        {"1 2", 2},
        {"{} x", 3},
        {"// c\n1", 0},
        {"[1,/**/2]", 3},
        {"\"a\nb\"", 2},
        {"1,", 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        long at = fault_of(bad[i].text, strlen(bad[i].text));
        if (at != bad[i].at) {
            fail_msg("%s: fault at %ld, expected %ld", bad[i].text, at, bad[i].at);
        }
    }
    assert_int_equal(fault_of("[\0]", 3), 1);
    assert_int_equal(fault_of("\"\0\"", 3), 1);
    assert_int_equal(fault_of("1\0", 2), 1);
}

static void depth(void **state) {
    char text[2 * TARN_JSON_DEPTH + 2];
    memset(text, '[', TARN_JSON_DEPTH);
    memset(text + TARN_JSON_DEPTH, ']', TARN_JSON_DEPTH);
    assert_int_equal(fault_of(text, 2 * TARN_JSON_DEPTH), -1);
    memset(text, '[', TARN_JSON_DEPTH + 1);
    memset(text + TARN_JSON_DEPTH + 1, ']', TARN_JSON_DEPTH + 1);
    assert_int_equal(fault_of(text, sizeof text), TARN_JSON_DEPTH);
}

static void strings(void **state) {
    char text[] = "\"a\\u0000b\\u00e9\\u20AC\\ud83c\\udf0a\\n\" : \"\\\"\"";
    tarn_json j = tarn_json_of(text, sizeof text - 1);
    tarn_json_string s;
    assert_true(tarn_json_key(&j, &s));
    assert_int_equal(s.len, 13);
    assert_memory_equal(s.s, "a\0b\xC3\xA9\xE2\x82\xAC\xF0\x9F\x8C\x8A\n", 14);
    assert_true(tarn_json_text(&j, &s));
    assert_true(tarn_json_is(&s, "\"", 1));
    assert_true(tarn_json_end(&j));
}

// Every code point, escaped, comes out as its UTF-8.
static void code_points(void **state) {
    for (uint32_t c = 0; c < 0x110000; c += c < 0x3000 ? 1 : 13) {
        if (c >= 0xD800 && c < 0xE000) {
            continue;
        }
        char text[32], want[5] = {0};
        if (c < 0x10000) {
            snprintf(text, sizeof text, "\"\\u%04x\"", c);
        } else {
            snprintf(text, sizeof text, "\"\\u%04X\\u%04x\"", 0xD800 + ((c - 0x10000) >> 10),
                     0xDC00 + ((c - 0x10000) & 0x3FF));
        }
        int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        static const int lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
        for (int i = n - 1; i > 0; i--) {
            want[i] = (char)(0x80 | (c >> 6 * (n - 1 - i) & 63));
        }
        want[0] = (char)((uint32_t)lead[n] | c >> 6 * (n - 1));
        tarn_json j = tarn_json_of(text, strlen(text));
        tarn_json_string s;
        assert_true(tarn_json_text(&j, &s));
        assert_int_equal(s.len, n);
        assert_memory_equal(s.s, want, (size_t)n);
    }
}

static void numbers(void **state) {
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"7", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"-1", false, 0},
        {"00", false, 0},
        {"01", false, 0},
        {"1.0", false, 0},
        {"1e3", false, 0},
        {"1E3", false, 0},
        {"", false, 0},
        {"\"1\"", false, 0},
        {"null", false, 0},
        {" 3", true, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[32];
        strcpy(text, cases[i].text);
        tarn_json j = tarn_json_of(text, strlen(text));
        uint64_t v = 0;
        assert_int_equal(tarn_json_u64(&j, &v), cases[i].ok);
        assert_int_equal(v, cases[i].value);
    }
}

// ---- the sort ----

static int by_value(const void *arg, uint32_t a, uint32_t b) {
    const int *v = arg;
    return (v[a] > v[b]) - (v[a] < v[b]);
}

static void sorting(void **state) {
    uint64_t seed = 3;
    for (int round = 0; round < 500; round++) {
        enum { MAX = 300 };
        int v[MAX], n = (int)(test_random(&seed) % MAX), kind = round % 4;
        uint32_t index[MAX], spare[MAX];
        for (int i = 0; i < n; i++) {
            v[i] = kind == 0   ? i
                   : kind == 1 ? -i
                   : kind == 2 ? i % 17
                               : (int)(test_random(&seed) % 50);
            index[i] = (uint32_t)i;
        }
        tarn_sort_indices(index, (size_t)n, spare, by_value, v);
        bool seen[MAX] = {false};
        for (int i = 0; i < n; i++) {
            assert_false(seen[index[i]]);
            seen[index[i]] = true;
            if (i > 0) {
                int c = by_value(v, index[i - 1], index[i]);
                assert_true(c < 0 || (c == 0 && index[i - 1] < index[i]));  // stable
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),      cmocka_unit_test(depth),   cmocka_unit_test(strings),
        cmocka_unit_test(code_points), cmocka_unit_test(numbers), cmocka_unit_test(sorting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
