// SPDX-License-Identifier: Apache-2.0
// The ground floor: error records, the budget, arenas, text (JSON of bad UTF-8, messages, the nearest
// name), the stop flag.
#include "tests/support.h"
#include "vm/base/digest.h"
#include "vm/base/size.h"

// ---- errors ----

static tarn_status inner(tarn_error *err) { TARN_RAISE(err, "Code", "%s is %d", "x", 7); }
static tarn_status outer(tarn_error *err) {
    TARN_TRY(inner(err));
    return TARN_OK;
}

static void errors(void **state) {
    tarn_error e = {0};
    assert_int_equal(outer(&e), TARN_ERROR);
    assert_int_equal(outer(NULL), TARN_ERROR);
    assert_string_equal(e.message, "x is 7");
    assert_int_equal(tarn_error_prefix(&e, "file %d", 3), TARN_ERROR);
    tarn_error_append(&e, "\nhint");
    assert_string_equal(e.message, "file 3: x is 7\nhint");
    assert_string_equal(e.code, "Code");
    // What does not fit is cut, never dropped and never past the end.
    char *wide = malloc(5000);
    memset(wide, 'w', 4999);
    wide[4999] = 0;
    tarn_raise(&e, wide, "%s", wide);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
    assert_int_equal(strlen(e.code), sizeof e.code - 1);
    tarn_error_prefix(&e, "a");
    tarn_error_append(&e, "b");
    assert_memory_equal(e.message, "a: www", 6);
    assert_int_equal(strlen(e.message), sizeof e.message - 1);
    assert_int_equal(tarn_raise_nomem(&e, "a thing", 12), TARN_NOMEM);
    assert_non_null(strstr(e.message, "a thing needs 12 bytes"));
    tarn_error_clear(&e);
    assert_int_equal(e.status, TARN_OK);
    free(wide);
}

// ---- sizes ----

static void sizes(void **state) {
    uint64_t u;
    int64_t i;
    size_t z;
    assert_true(tarn_mul_u64(1ULL << 32, (1ULL << 32) - 1, &u) && u == 0xFFFFFFFF00000000ULL);
    assert_false(tarn_mul_u64(1ULL << 32, 1ULL << 32, &u));
    assert_false(tarn_add_u64(UINT64_MAX, 1, &u));
    assert_false(tarn_mul_i64(INT64_MAX, 2, &i));
    assert_false(tarn_add_i64(INT64_MIN, -1, &i));
    assert_false(tarn_mul_size(SIZE_MAX, 2, &z));
}

// ---- the budget ----

static void budget(void **state) {
    tarn_budget b;
    tarn_budget_init(&b, 100);
    assert_true(tarn_budget_take(&b, 60));
    assert_false(tarn_budget_take(&b, 41));
    assert_false(tarn_budget_take(&b, SIZE_MAX));  // used + bytes would wrap
    assert_true(tarn_budget_take(&b, 40));
    assert_int_equal(b.used, 100);
    assert_int_equal(b.peak, 100);
    tarn_budget_give(&b, 100);
    assert_null(tarn_alloc(&b, 101));
    assert_null(tarn_alloc(&b, SIZE_MAX - 8));
    char *p = tarn_alloc_zero(&b, 100), *none;
    assert_true(((uintptr_t)p & 63) == 0 && p[0] == 0 && p[99] == 0);
    none = tarn_alloc(&b, 0);
    assert_non_null(none);
    tarn_free(&b, p, 100);
    tarn_free(&b, none, 0);
    tarn_free(&b, NULL, 12345);
    assert_int_equal(b.used, 0);
    assert_true(tarn_budget_default() > (size_t)16 << 20);
}

// ---- arenas ----

static void arenas(void **state) {
    tarn_budget b;
    tarn_arena a;
    tarn_budget_init(&b, 8 << 20);
    tarn_arena_init(&a, &b);
    unsigned char *p[3000];
    uint64_t s = 1;
    size_t size[3000];
    for (int i = 0; i < 3000; i++) {  // nothing overlaps, everything is aligned
        size[i] = (size_t)(test_random(&s) % (i % 500 == 0 ? 90000 : 900));
        p[i] = tarn_arena_take(&a, size[i]);
        assert_true(p[i] && ((uintptr_t)p[i] & 15) == 0);
        memset(p[i], i & 255, size[i]);
    }
    for (int i = 0; i < 3000; i++) {
        for (size_t k = 0; k < size[i]; k++) {
            assert_int_equal(p[i][k], i & 255);
        }
    }
    assert_int_equal(b.used, a.total);
    assert_null(tarn_arena_take(&a, 16 << 20));
    assert_null(tarn_arena_take(&a, SIZE_MAX));
    assert_null(tarn_arena_string(&a, "x", SIZE_MAX));
    assert_string_equal(tarn_arena_string(&a, "abcd", 3), "abc");
    assert_string_equal(tarn_arena_string(&a, NULL, 0), "");
    tarn_arena_free(&a);
    tarn_arena_free(&a);
    assert_int_equal(b.used, 0);
}

// ---- text ----

static void check_json(tarn_budget *b, const char *in, size_t len, const char *want) {
    tarn_text t;
    tarn_text_init(&t, b);
    tarn_text_json(&t, in, len);
    assert_string_equal(t.data, want);
    assert_true(tarn_utf8_valid(t.data, t.len));
    tarn_text_free(&t);
}

static void json(void **state) {
    tarn_budget b;
    tarn_budget_init(&b, 1 << 20);
#define BAD "\xEF\xBF\xBD"
    check_json(&b, "a\"b\\c\n\t\x01\x1f\x7f", 10, "\"a\\\"b\\\\c\\n\\t\\u0001\\u001f\x7f\"");
    check_json(&b, "\0", 1, "\"\\u0000\"");
    check_json(&b, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9, "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"");
    check_json(&b, "\xC0\x80", 2, "\"" BAD BAD "\"");              // overlong
    check_json(&b, "\xED\xA0\x80", 3, "\"" BAD BAD BAD "\"");      // surrogate
    check_json(&b, "\xF4\x90\x80\x80", 4, "\"" BAD BAD BAD BAD "\"");  // beyond U+10FFFF
    check_json(&b, "x\xE2\x82", 3, "\"x" BAD BAD "\"");            // cut short
    check_json(&b, "\xF0\x8F\xBF\xBF", 4, "\"" BAD BAD BAD BAD "\"");
    check_json(&b, "\xFF", 1, "\"" BAD "\"");
    assert_int_equal(b.used, 0);
}

static void messages(void **state) {
    tarn_budget b;
    tarn_text t;
    tarn_budget_init(&b, 1 << 20);
    tarn_text_init(&t, &b);
    tarn_text_show(&t, "ab\n\xFF\xC3\xA9z", 7, 100);
    assert_string_equal(t.data, "ab\\x0a\\xff\xC3\xA9z");
    t.len = 0;
    // A terminal takes U+009B for ESC [, and U+202E turns the rest of a line round; U+2010 is a hyphen.
    static const char obeyed[] = "\xC2\x9B" "m\xE2\x80\xAE\xE2\x81\xA6\xD8\x9C\x7F\xE2\x80\x90\xC2\xA0";
    tarn_text_show(&t, obeyed, sizeof obeyed - 1, 100);
    assert_string_equal(t.data, "\\xc2\\x9bm\\xe2\\x80\\xae\\xe2\\x81\\xa6\\xd8\\x9c\\x7f\xE2\x80\x90\xC2\xA0");
    t.len = 0;
    tarn_text_show(&t, "abcdef", 6, 3);
    assert_string_equal(t.data, "abc…");
    t.len = 0;
    char *wide = malloc(3001);
    memset(wide, 'w', 3000);
    wide[3000] = 0;
    tarn_text_printf(&t, "%d %s", 5, wide);
    assert_int_equal(t.len, 3002);
    free(wide);
    tarn_text_free(&t);
    // The first refused growth sticks; what was there stays readable.
    tarn_budget_init(&b, 200);
    tarn_text_init(&t, &b);
    tarn_text_puts(&t, "start");
    for (int i = 0; i < 50; i++) {
        tarn_text_puts(&t, "0123456789");
    }
    assert_true(t.failed);
    assert_memory_equal(t.data, "start0123", 9);
    assert_int_equal(strlen(t.data), t.len);
    tarn_text_free(&t);
    assert_int_equal(b.used, 0);
    char buf[32];
    assert_string_equal(tarn_show_bytes(88, buf), "88 B");
    assert_string_equal(tarn_show_bytes(999, buf), "999 B");
    assert_string_equal(tarn_show_bytes(1000, buf), "1.00 kB");
    assert_string_equal(tarn_show_bytes(17200000, buf), "17.2 MB");
    assert_string_equal(tarn_show_bytes(999999, buf), "1.00 MB");
    assert_string_equal(tarn_show_bytes(UINT64_MAX, buf), "18446.7 PB");
}

static const char *const words[] = {"density", "weight", "lambda", "normalize", "t", "x", NULL};
static const char *next_word(void *arg, size_t i) {
    (void)arg;
    return words[i];
}

static void nearest(void **state) {
    assert_int_equal(tarn_distance("", "", 3), 0);
    assert_int_equal(tarn_distance("kitten", "sitting", 9), 3);
    assert_int_equal(tarn_distance("ab", "ba", 9), 1);  // a swap is one step
    assert_int_equal(tarn_distance("kitten", "sitting", 2), 3);  // limit + 1
    const struct {
        const char *word, *want;
    } cases[] = {{"densty", "density"}, {"dnesity", "density"}, {"wieght", "weight"},
                 {"lambda_", "lambda"}, {"normalise", "normalize"}, {"quux", NULL},
                 {"weight", "weight"}, {"T", "t"}, {"", "t"}, {"density_of_things", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *got = tarn_nearest(cases[i].word, next_word, NULL);
        if (!cases[i].want) {
            assert_null(got);
        } else {
            assert_non_null(got);
            assert_string_equal(got, cases[i].want);
        }
    }
    char wide[200];
    memset(wide, 'a', 199);
    wide[199] = 0;
    assert_null(tarn_nearest(wide, next_word, NULL));
}

// ---- stopping, digests, the context ----

static void stopping(void **state) {
    tarn_cancel c = {0};
    tarn_error e = {0};
    assert_int_equal(tarn_cancel_check(&c, &e), TARN_OK);
    assert_true(tarn_cancel_set(&c, TARN_STOP_DEADLINE));
    assert_false(tarn_cancel_set(&c, TARN_STOP_INT));  // the first reason stays
    assert_int_equal(tarn_cancel_check(&c, &e), TARN_CANCELLED);
    assert_string_equal(e.message, "time limit reached");
    tarn_cancel_clear(&c);
    assert_true(tarn_cancel_set(&c, TARN_STOP_INT));
    assert_int_equal(tarn_cancel_check(&c, &e), TARN_CANCELLED);
    assert_string_equal(e.message, "interrupted");
}

static void digests(void **state) {
    unsigned char d[32];
    char hex[65];
    tarn_sha256_of("abc", 3, d);  // FIPS 180-4, example 1
    tarn_hex(d, 32, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, "a", 1);
    tarn_sha256_add(&h, "bc", 2);
    tarn_sha256_end(&h, d);
    tarn_hex(d, 4, hex);
    assert_string_equal(hex, "ba7816bf");
    // Part of the semantics of seeded methods: these never change.
    assert_true(tarn_hash64(0, "", 0) == 0x9775a911a90dcf7aULL);
    assert_true(tarn_hash64(1, "a", 1) == 0x92d01e4f37d4351fULL);
    assert_true(tarn_hash64(42, "layers.0", 8) == 0xcbdad2b1434ba2feULL);
}

static void contexts(void **state) {
    tarn_context a, b;
    tarn_error e = {0};
    open_context(&a, 3, "v1");
    open_context(&b, 0, NULL);
    assert_int_equal(tarn_pool_size(a.pool), 3);
    assert_true(tarn_pool_size(b.pool) >= 1);
    assert_int_equal(a.isa, TARN_ISA_V1);
    assert_true(a.hold == (size_t)128 << 20);
    tarn_context_free(&a);
    tarn_context_free(&b);
    tarn_options o = {.threads = 1, .isa = "v9"};
    assert_int_equal(tarn_context_init(&a, &o, &e), TARN_ERROR);
    assert_string_equal(e.message, "unknown instruction set 'v9'; expected v1, v3 or v4");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),   cmocka_unit_test(sizes),    cmocka_unit_test(budget),
        cmocka_unit_test(arenas),   cmocka_unit_test(json),     cmocka_unit_test(messages),
        cmocka_unit_test(nearest),  cmocka_unit_test(stopping), cmocka_unit_test(digests),
        cmocka_unit_test(contexts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
