// SPDX-License-Identifier: Apache-2.0
// The CSV reader: numbers to the last bit against the C library, quotes and line ends, labels, and
// every refusal with its line and column.
#include "tests/support.h"

#include <locale.h>
#include <math.h>

#include "tests/oom.h"
#include "vm/format/csv.h"

typedef struct {
    tarn_context cx;
    tarn_error err;
    tarn_csv *t;
    double x[64];
    int64_t y[32];
} world;

static tarn_status read_text(world *w, const char *text, size_t len, const tarn_csv_options *o) {
    w->t = NULL;
    tarn_status s = tarn_csv_open(&w->cx, text, len, "t.csv", o, &w->t, &w->err);
    if (s == TARN_OK) {
        assert_true(tarn_csv_rows(w->t) * tarn_csv_columns(w->t) <= 64 && tarn_csv_rows(w->t) <= 32);
        s = tarn_csv_read(w->t, w->x, w->y, &w->err);
    }
    return s;
}

static void begin(world *w, const char *text, const tarn_csv_options *o) {
    memset(w, 0, sizeof *w);
    open_context(&w->cx, 1, NULL);
    if (read_text(w, text, strlen(text), o) != TARN_OK) {
        fail_msg("%s", w->err.message);
    }
}
static void end(world *w) {
    tarn_csv_close(w->t);
    assert_int_equal(w->cx.budget.used, 0);
    tarn_context_free(&w->cx);
}
static void refused_bytes(const char *text, size_t len, tarn_csv_options o, const char *code, const char *message) {
    world w;
    memset(&w, 0, sizeof w);
    open_context(&w.cx, 1, NULL);
    assert_int_equal(read_text(&w, text, len, &o), TARN_ERROR);
    assert_string_equal(w.err.message, message);
    assert_string_equal(w.err.code, code);
    end(&w);
}
static void refused(const char *text, tarn_csv_options o, const char *code, const char *message) {
    refused_bytes(text, strlen(text), o, code, message);
}

static void numbers(void **state) {
    static const char *const good[] = {
        "0", "-0", "+7", "3.25", "-.5", "1.", "1e3", "1E-3", "0.1", "123456789.125", "9007199254740993", "1e22", "1e23",
        "4.35", "0.000001", "1e-22", "1e-23", "2.2250738585072014e-308", "5e-324", "1e400", "-1e-400",
        "123456789012345678901234567890", "0000000000000000000000000001.5", "0.00000000000000000000000000015", "1e0000000005",
        "17976931348623157e292"};
    static const char *const bad[] = {"", "+", "-", ".", "1e", "1e+", "1,5", "0x10", "1 2", "--1", "1.2.3", "e5", "infx", "nanx", "1f", "½"};
    double v;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(tarn_csv_number(good[i], strlen(good[i]), &v));
        double want = strtod(good[i], NULL);
        if (memcmp(&v, &want, sizeof v) != 0) {
            fail_msg("%s: %.17g instead of %.17g", good[i], v, want);
        }
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (tarn_csv_number(bad[i], strlen(bad[i]), &v)) {
            fail_msg("'%s' is a number", bad[i]);
        }
    }
    assert_true(tarn_csv_number("-Infinity", 9, &v) && v == -HUGE_VAL);
    assert_true(tarn_csv_number("NaN", 3, &v) && isnan(v));
}

// Random numbers in many spellings.
static void random_numbers(void **state) {
    static const char *const forms[] = {"%.17g", "%.3f", "%.6e", "%.15g", "%g", "%.1f"};
    uint64_t seed = 5;
    for (int i = 0; i < 20000; i++) {
        char text[400];
        uint64_t bits = test_random(&seed);
        double x = test_uniform(&seed) * ldexp(1, (int)(bits % 100) - 50), v;
        snprintf(text, sizeof text, forms[bits % 6], x);
        double want = strtod(text, NULL);
        if (!tarn_csv_number(text, strlen(text), &v) || v != want) {
            fail_msg("%s", text);
        }
    }
}

// A locale with a decimal comma, where the machine has one.
static void any_locale(void **state) {
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8"};
    for (size_t i = 0; i < 3 && strcmp(localeconv()->decimal_point, ",") != 0; i++) {
        setlocale(LC_NUMERIC, names[i]);
    }
    double v;
    assert_true(tarn_csv_number("1.5", 3, &v) && v == 1.5);
    assert_true(tarn_csv_number("0.30000000000000004", 19, &v) && v == 0.1 + 0.2);
    setlocale(LC_NUMERIC, "C");
}

static void tables(void **state) {
    world w;
    begin(&w, "a,b\n1, 2.5\n\n-3,4e1", &(tarn_csv_options){0});
    assert_int_equal(tarn_csv_rows(w.t), 2);
    assert_int_equal(tarn_csv_columns(w.t), 2);
    assert_string_equal(tarn_csv_column(w.t, 1), "b");
    assert_true(w.x[0] == 1 && w.x[1] == 2.5 && w.x[2] == -3 && w.x[3] == 40);
    end(&w);
    begin(&w, "1;2\r\n3;4\r\n", &(tarn_csv_options){.separator = ';'});
    assert_int_equal(tarn_csv_rows(w.t), 2);
    assert_null(tarn_csv_column(w.t, 0));
    assert_true(w.x[3] == 4);
    end(&w);
    begin(&w, "\xEF\xBB\xBF\"a \"\"x\"\"\",\"b,\nc\"\n\"1\",2\n", &(tarn_csv_options){0});
    assert_string_equal(tarn_csv_column(w.t, 0), "a \"x\"");
    assert_string_equal(tarn_csv_column(w.t, 1), "b,\nc");
    assert_true(w.x[0] == 1 && w.x[1] == 2);
    end(&w);
    begin(&w, "1,2\n3,4\n", &(tarn_csv_options){.head = TARN_CSV_HEADER});
    assert_int_equal(tarn_csv_rows(w.t), 1);
    assert_string_equal(tarn_csv_column(w.t, 0), "1");
    end(&w);
}

static void labels(void **state) {
    world w;
    begin(&w, "x,kind,z\n1,oak,2\n3,\"elm\",4\n5,oak,6\n", &(tarn_csv_options){.label = "kind"});
    assert_int_equal(tarn_csv_columns(w.t), 2);
    assert_string_equal(tarn_csv_column(w.t, 1), "z");
    assert_int_equal(tarn_csv_classes(w.t), 2);
    assert_string_equal(tarn_csv_class(w.t, 0), "elm");
    assert_true(w.y[0] == 1 && w.y[1] == 0 && w.y[2] == 1 && w.x[1] == 2 && w.x[5] == 6);
    end(&w);
    begin(&w, "1,7\n2,0\n", &(tarn_csv_options){.label_column = -1});
    assert_int_equal(tarn_csv_classes(w.t), 8);
    assert_null(tarn_csv_class(w.t, 0));
    assert_true(w.y[0] == 7 && w.y[1] == 0 && w.x[1] == 2);
    end(&w);
    begin(&w, "-1,2\n1,2\n", &(tarn_csv_options){.label_column = 1});  // not classes: texts
    assert_int_equal(tarn_csv_classes(w.t), 2);
    assert_true(w.y[0] == 0 && w.y[1] == 1);
    end(&w);
}

static void refusals(void **state) {
    tarn_csv_options none = {0};
    refused("", none, "CsvEmpty", "t.csv: the file holds no line");
    refused("\n\r\n", none, "CsvEmpty", "t.csv: the file holds no line");
    refused("a,b\n1,2\n3,x4\n", none, "CsvNumber", "t.csv:3:3: 'x4' is no number (column 'b')");
    refused("1,2\n3,\n", none, "CsvNumber", "t.csv:2:3: an empty field; expected a number (field 2)");
    refused("1,2\n3\n", none, "CsvFields", "t.csv:2: fewer fields; the first line has 2");
    refused("1,2\n3,4,5\n", none, "CsvFields", "t.csv:2: more fields; the first line has 2");
    refused("1,2\n3,\"4\n5", none, "CsvQuote", "t.csv:2:3: the quote that opens here is not closed");
    refused("1,\"2\"x\n", none, "CsvQuote", "t.csv:1:6: text after a closing quote; expected the separator or the end of the line");
    refused("1,2\"\n", none, "CsvQuote", "t.csv:1:4: a quote inside a field that does not begin with one");
    refused_bytes("1,\0\n", 4, none, "CsvQuote", "t.csv:1:3: a NUL byte");
    refused("\"a\nb\",c\n1,z\n", none, "CsvNumber", "t.csv:3:3: 'z' is no number (column 'c')");
    refused("width,kind\n1,2\n", (tarn_csv_options){.label = "knid"}, "CsvLabel", "t.csv: no column is called 'knid'; did you mean 'kind'?");
    refused("1,2\n", (tarn_csv_options){.label = "kind"}, "CsvLabel", "t.csv: no header, so that no column is called 'kind'");
    refused("1,2\n", (tarn_csv_options){.label_column = 3}, "CsvLabel", "t.csv: column 3 is asked for, but there are 2");
    refused("1,2\n3,\n", (tarn_csv_options){.label_column = 2}, "CsvLabel", "t.csv:2:3: an empty label");
}

static bool attempt(void *arg) {
    world *w = arg;
    static const char text[] = "x,\"ki\"\"nd\"\n1,oak\n3.00000000000000000001,elm\n";
    read_text(w, text, sizeof text - 1, &(tarn_csv_options){.label_column = 2});
    tarn_csv_close(w->t);
    return w->cx.budget.used == 0;
}

static void failing_allocations(void **state) {
    oom_or_skip();
    world w = {0};
    open_context(&w.cx, 1, NULL);
    assert_true(oom_sweep(attempt, &w, 0) > 0);
    tarn_context_free(&w.cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers), cmocka_unit_test(random_numbers), cmocka_unit_test(any_locale), cmocka_unit_test(tables),
        cmocka_unit_test(labels),  cmocka_unit_test(refusals),       cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
