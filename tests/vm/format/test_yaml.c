// SPDX-License-Identifier: Apache-2.0
// The YAML reader: what scalars mean (the table was made with PyYAML 6.0.3's safe_load; rows marked
// 1.2 are texts there), structure, positions, and every refusal with its line and column.
#include "tests/support.h"

#include <math.h>

#include "vm/format/yaml.h"

typedef struct {
    tarn_budget budget;
    tarn_arena arena;
    tarn_error err;
    int n;
    tarn_yaml **docs;
} doc;

static tarn_status read_text(doc *d, const char *text, size_t len) {
    tarn_budget_init(&d->budget, (size_t)256 << 20);
    tarn_arena_init(&d->arena, &d->budget);
    tarn_error_clear(&d->err);
    return tarn_yaml_read(&d->arena, text, len, "c.yml", &d->n, &d->docs, &d->err);
}
static void close_doc(doc *d) {
    tarn_arena_free(&d->arena);
    assert_int_equal(d->budget.used, 0);
}
static const tarn_yaml *parse(doc *d, const char *text) {
    if (read_text(d, text, strlen(text)) != TARN_OK) {
        fail_msg("%s: %s", text, d->err.message);
    }
    return d->n > 0 ? d->docs[0] : NULL;
}
static const tarn_yaml *get(const tarn_yaml *map, const char *key) {
    size_t len = strlen(key);
    for (int64_t i = 0; map && map->kind == TARN_YAML_MAP && i < map->count; i++) {
        const tarn_yaml *k = map->keys[i];
        if (k->len == len && memcmp(k->text, key, len) == 0) {
            return map->items[i];
        }
    }
    return NULL;
}
static void refused(const char *text, const char *code, const char *message) {
    doc d;
    if (read_text(&d, text, strlen(text)) == TARN_OK) {
        fail_msg("accepted: %s", text);
    }
    assert_string_equal(d.err.message, message);
    assert_string_equal(d.err.code, code);
    close_doc(&d);
}

static void scalars(void **state) {
    static const struct {
        const char *text;
        tarn_yaml_kind kind;
        double value;
    } rows[] = {
        {"", TARN_YAML_NULL, 0}, {"~", TARN_YAML_NULL, 0}, {"NULL", TARN_YAML_NULL, 0},
        {"nULL", TARN_YAML_STRING, 0},
        {"yes", TARN_YAML_BOOL, 1}, {"On", TARN_YAML_BOOL, 1}, {"TRUE", TARN_YAML_BOOL, 1},
        {"no", TARN_YAML_BOOL, 0}, {"off", TARN_YAML_BOOL, 0}, {"false", TARN_YAML_BOOL, 0},
        {"y", TARN_YAML_STRING, 0}, {"oN", TARN_YAML_STRING, 0},
        {"0", TARN_YAML_INT, 0}, {"-0", TARN_YAML_INT, 0}, {"+12", TARN_YAML_INT, 12},
        {"010", TARN_YAML_INT, 8}, {"-017", TARN_YAML_INT, -15}, {"0_7", TARN_YAML_INT, 7},
        {"08", TARN_YAML_INT, 8 /* 1.2 */}, {"0o17", TARN_YAML_INT, 15 /* 1.2 */},
        {"0x1F", TARN_YAML_INT, 31}, {"0X1F", TARN_YAML_STRING, 0}, {"0b101", TARN_YAML_INT, 5},
        {"0b12", TARN_YAML_STRING, 0}, {"1_000", TARN_YAML_INT, 1000},
        {"1:30", TARN_YAML_INT, 90}, {"-1:2:3", TARN_YAML_INT, -3723},
        {"1:60", TARN_YAML_STRING, 0},
        {"0:30", TARN_YAML_STRING, 0}, {"0:30.5", TARN_YAML_FLOAT, 30.5},
        {"9223372036854775807", TARN_YAML_INT, 9223372036854775807.0},
        {"-9223372036854775808", TARN_YAML_INT, -9223372036854775808.0},
        {"9223372036854775808", TARN_YAML_FLOAT, 9223372036854775808.0},
        {"-99999999999999999999", TARN_YAML_FLOAT, -1e20},
        {"0.1", TARN_YAML_FLOAT, 0.1}, {"1.", TARN_YAML_FLOAT, 1}, {".5", TARN_YAML_FLOAT, 0.5},
        {"-.5", TARN_YAML_FLOAT, -0.5 /* 1.2 */}, {"._5", TARN_YAML_STRING, 0},
        {"1.5e+3", TARN_YAML_FLOAT, 1500}, {"1.5e3", TARN_YAML_FLOAT, 1500 /* 1.2 */},
        {"1e-5", TARN_YAML_FLOAT, 1e-5 /* 1.2 */}, {"1e", TARN_YAML_STRING, 0},
        {"1_0.5e+3", TARN_YAML_FLOAT, 10500}, {"1_0.5e3", TARN_YAML_STRING, 0},
        {"1_0e3", TARN_YAML_STRING, 0}, {"1.2.3", TARN_YAML_STRING, 0}, {".", TARN_YAML_STRING, 0},
        {".inf", TARN_YAML_FLOAT, HUGE_VAL}, {"-.INF", TARN_YAML_FLOAT, -HUGE_VAL},
        {"inf", TARN_YAML_STRING, 0}, {"nan", TARN_YAML_STRING, 0},
        {"2001-01-01", TARN_YAML_STRING, 0}, {"=", TARN_YAML_STRING, 0},
        {"'1'", TARN_YAML_STRING, 0}, {"\"yes\"", TARN_YAML_STRING, 0}, {"''", TARN_YAML_STRING, 0},
        {"! 1", TARN_YAML_STRING, 0}, {"!!str 1", TARN_YAML_STRING, 0},
        {"!!float 1", TARN_YAML_FLOAT, 1}, {"!!int '7'", TARN_YAML_INT, 7},
        {"!!bool yes", TARN_YAML_BOOL, 1}, {"!!null ''", TARN_YAML_NULL, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64];
        doc d;
        snprintf(text, sizeof text, "k: %s\n", rows[i].text);
        const tarn_yaml *y = get(parse(&d, text), "k");
        if (y->kind != rows[i].kind) {
            fail_msg("%s: kind %d, expected %d", rows[i].text, (int)y->kind, (int)rows[i].kind);
        }
        double v = y->kind == TARN_YAML_BOOL ? y->boolean : y->number;
        if (v != rows[i].value) {
            fail_msg("%s: %.17g, expected %.17g", rows[i].text, v, rows[i].value);
        }
        if (y->kind == TARN_YAML_INT) {
            assert_true((double)y->integer == rows[i].value);
        }
        close_doc(&d);
    }
    doc d;
    const tarn_yaml *y = parse(&d, ".NaN");
    assert_true(y->kind == TARN_YAML_FLOAT && isnan(y->number));
    close_doc(&d);
}

static void structure(void **state) {
    doc d;
    const tarn_yaml *y = parse(&d, "# a comment\nmodels:\n  - model: a/b  # here\n    w: [1, 'x']\n"
                                   "  - {}\nend: |\n  two\n  lines\n");
    assert_int_equal(d.n, 1);
    assert_int_equal(y->kind, TARN_YAML_MAP);
    assert_int_equal(y->count, 2);
    const tarn_yaml *models = get(y, "models");
    assert_int_equal(models->count, 2);
    assert_int_equal(models->line, 3);
    assert_int_equal(models->column, 3);
    const tarn_yaml *w = get(models->items[0], "w");
    assert_int_equal(w->line, 4);
    assert_int_equal(w->column, 8);
    assert_string_equal(w->items[1]->text, "x");
    assert_true(w->items[1]->quoted);
    assert_int_equal(w->items[1]->column, 12);
    assert_int_equal(models->items[1]->count, 0);
    assert_string_equal(get(y, "end")->text, "two\nlines\n");
    assert_null(get(y, "absent"));
    assert_int_equal(y->keys[1]->line, 6);
    close_doc(&d);

    parse(&d, "");
    assert_int_equal(d.n, 0);
    close_doc(&d);
    parse(&d, "a: 1\n---\n- 2\n...\n");
    assert_int_equal(d.n, 2);
    assert_int_equal(d.docs[1]->items[0]->integer, 2);
    close_doc(&d);
    y = parse(&d, "\xEF\xBB\xBFk: \"nul\\0 \\u00e9\"\r\n");
    assert_int_equal(get(y, "k")->len, 7);
    assert_memory_equal(get(y, "k")->text, "nul\0 \xC3\xA9", 8);
    close_doc(&d);
}

static void aliases(void **state) {
    doc d;
    const tarn_yaml *y = parse(&d, "a: &x {w: 1}\nb: *x\nc: &x 3\nd: *x\n");
    assert_ptr_equal(get(y, "a"), get(y, "b"));
    assert_int_equal(get(y, "d")->integer, 3);
    close_doc(&d);
    y = parse(&d, "base: &b {w: 1, d: 2}\nmore: &m {d: 9, e: 3}\n"
                  "x: {<<: *b, w: 5}\ny: {<<: [*b, *m]}\nz: {'<<': 1}\n");
    const tarn_yaml *x = get(y, "x");
    assert_int_equal(x->count, 2);
    assert_int_equal(get(x, "w")->integer, 5);
    assert_int_equal(get(x, "d")->integer, 2);
    const tarn_yaml *two = get(y, "y");
    assert_int_equal(two->count, 3);
    assert_int_equal(get(two, "d")->integer, 2);  // the first source wins
    assert_int_equal(get(two, "e")->integer, 3);
    assert_int_equal(get(get(y, "z"), "<<")->integer, 1);
    close_doc(&d);
}

static void refusals(void **state) {
    refused("a: [1, 2\nb: 3\n", "YamlSyntax",
            "c.yml:2:2: syntax error: the list '[' of line 1, column 4 is not closed: "
            "did not find expected ',' or ']'");
    refused("a: {x: 1\n", "YamlSyntax",
            "c.yml:2:1: syntax error: the map '{' of line 1, column 4 is not closed: "
            "did not find expected ',' or '}'");
    refused("a: 'x\n", "YamlSyntax",
            "c.yml:2:1: syntax error: the quoted text of line 1, column 4 is not closed: "
            "found unexpected end of stream");
    refused("a:\n\t- b\n", "YamlSyntax",
            "c.yml:2:1: syntax error: found character that cannot start any token while scanning "
            "for the next token: a tab in the indentation; YAML indents by spaces");
    refused("a: b: c\n", "YamlSyntax",
            "c.yml:1:5: syntax error: mapping values are not allowed in this context");
    refused("a: 1\nb: 2\na: 3\n", "YamlDuplicate",
            "c.yml:3:1: the key 'a' stands here twice (first at line 1, column 1)");
    refused("{<<: {a: 1}, <<: {b: 1}}", "YamlDuplicate",
            "c.yml:1:14: the key '<<' stands here twice (first at line 1, column 2)");
    refused("? [1]\n: 2\n", "YamlKey", "c.yml:1:3: a list as a key: keys are plain texts");
    refused("? {a: 1}\n: 2\n", "YamlKey", "c.yml:1:3: a map as a key: keys are plain texts");
    refused("a: &k [1]\n*k : 2\n", "YamlKey", "c.yml:2:1: a list as a key: keys are plain texts");
    refused("m: !!python/object/apply:os.getcwd []", "YamlTag",
            "c.yml:1:4: the tag !!python/object/apply:os.getcwd is not accepted");
    refused("m: !mine 1", "YamlTag", "c.yml:1:4: the tag !mine is not accepted");
    refused("m: !!map [1]", "YamlTag", "c.yml:1:4: the tag !!map is not accepted");
    refused("m: !!int x", "YamlTag", "c.yml:1:4: 'x' is no !!int");
    refused("a: *b", "YamlAlias", "c.yml:1:4: alias *b: no anchor &b comes before it");
    refused("a: &a [*a]", "YamlAlias", "c.yml:1:8: alias *a lies inside its own anchor");
    refused("a: &b 1\n---\na: *b\n", "YamlAlias",
            "c.yml:3:4: alias *b: no anchor &b comes before it");
    refused("a: {<<: 1}", "YamlMerge", "c.yml:1:9: '<<' takes a map or a list of maps");
    refused("a: {<<: [{}, 2]}", "YamlMerge", "c.yml:1:14: '<<' takes a map or a list of maps");
    refused("a: \"\xC3(\"\n", "YamlSyntax", "c.yml:1:6: invalid trailing UTF-8 octet (byte 0x28)");
    refused("a: 1\nb: \x01\n", "YamlSyntax",
            "c.yml:2:4: control characters are not allowed (byte 0x01)");
    refused("\"a\\x01\": 1\n\"a\\x01\": 1\n", "YamlDuplicate",
            "c.yml:2:1: the key 'a\\x01' stands here twice (first at line 1, column 1)");
}

static void limits(void **state) {
    enum { DEEP = 70 };
    doc d;
    char text[4096] = "";
    for (int i = 0; i < 64; i++) {
        text[i] = '[';
        text[64 + i] = ']';
    }
    parse(&d, text);
    close_doc(&d);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    refused(text, "YamlLimit", "c.yml:1:65: nested deeper than 64 levels");
    // depth through aliases: each anchor lies ten levels deeper than the one before
    char *p = text;
    p += sprintf(p, "a0: &a0 1\n");
    for (int i = 1; i <= 7; i++) {
        p += sprintf(p, "a%d: &a%d [[[[[[[[[[*a%d]]]]]]]]]]\n", i, i, i - 1);
    }
    refused(text, "YamlLimit", "c.yml:8:19: nested deeper than 64 levels");
    // a billion laughs: 10^6 values are passed at the sixth level
    p = text;
    p += sprintf(p, "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n");
    for (int i = 1; i <= 9; i++) {
        p += sprintf(p, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++) {
            p += sprintf(p, "%s*a%d", k ? ", " : "", i - 1);
        }
        p += sprintf(p, "]\n");
    }
    refused(text, "YamlLimit",
            "c.yml:6:45: more than 1000000 values when aliases are written out: refused");

    size_t big = ((size_t)16 << 20) + 1;
    char *blank = malloc(big + 1);
    assert_non_null(blank);
    memset(blank, '\n', big);
    blank[big] = '\0';
    refused(blank, "YamlLimit", "c.yml: 16777217 bytes of YAML; at most 16777216 are read");
    free(blank);
}

// With any budget: the tree, or a clean refusal.
static void starved(void **state) {
    static char text[4000];
    static const char head[] = "a: &x {k: 1}\nb: {<<: *x}\nc:\n";
    size_t limit = 0;
    memcpy(text, head, sizeof head - 1);
    for (size_t i = sizeof head - 1; i + 4 < sizeof text; i += 4) {
        memcpy(text + i, "- 1\n", 4);
    }
    for (tarn_status s = TARN_NOMEM; s != TARN_OK; limit += 1024) {
        doc d;
        tarn_budget_init(&d.budget, limit);
        tarn_arena_init(&d.arena, &d.budget);
        s = tarn_yaml_read(&d.arena, text, strlen(text), "c.yml", &d.n, &d.docs, &d.err);
        assert_true(s == TARN_OK || s == TARN_NOMEM);
        close_doc(&d);
    }
    assert_in_range(limit, 300000, 3000000);  // the nodes and the table of anchors
}

// Every prefix and every single-byte change of a real configuration: an answer, and nothing left.
static void mangled(void **state) {
    static const char text[] =
        "merge_method: ties\nbase_model: &b in/base\nmodels:\n  - model: in/a  # first\n"
        "    parameters: &p\n      weight: [0.5, 1e-3]\n      density:\n        - filter: mlp\n"
        "          value: 0.3\n        - value: 1\n  - {model: *b, parameters: {<<: *p}}\n"
        "dtype: \"bfloat16\"\n";
    static const char bytes[] = "\0\t\n :-[]{}&*!|>'\"%@#,?\x80\xFF";
    for (size_t cut = 0; cut < sizeof text; cut++) {
        doc d;
        read_text(&d, text, cut);
        close_doc(&d);
        for (size_t b = 0; b < sizeof bytes - 1 && cut < sizeof text - 1; b++) {
            char copy[sizeof text];
            memcpy(copy, text, sizeof text);
            copy[cut] = bytes[b];
            read_text(&d, copy, sizeof text - 1);
            close_doc(&d);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars),  cmocka_unit_test(structure), cmocka_unit_test(aliases),
        cmocka_unit_test(refusals), cmocka_unit_test(limits),    cmocka_unit_test(starved),
        cmocka_unit_test(mangled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
