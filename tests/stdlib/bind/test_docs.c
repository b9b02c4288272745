// SPDX-License-Identifier: Apache-2.0
// The documentation of the bindings is true: every row has a signature and a text, no name stands
// twice, and every example runs in a host of its own, leaves no byte behind, and prints what its
// lines "-- > text" say, in order (without such lines: anything). The models of examples/data stand
// for the names that examples use freely. TARN_TEST_ONLY=word runs only those rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "stdlib/bind/bind.h"

static const char prologue[] =
    "local base = model.open 'examples/data/base.safetensors'; "
    "local a = model.open 'examples/data/low.safetensors'; "
    "local b = model.open 'examples/data/high.safetensors'; "
    "local c = model.open 'examples/data/twin.safetensors'; ";

static int complaints;

static void complain(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vprint_error(fmt, ap);
    va_end(ap);
    print_error("\n");
    complaints++;
}

typedef struct {
    tarn_context cx;
    tarn_host *h;
} world;

static void open_world(world *w) {
    tarn_error err = {0};
    tarn_options o = {.threads = 2, .memory = (size_t)1 << 30};
    tarn_host_options ho = {.trust = TARN_TRUST_SCRIPT, .seconds = 120, .folder = "."};
    if (tarn_context_init(&w->cx, &o, &err) != TARN_OK ||
        tarn_host_open(&w->cx, &ho, &w->h, &err) != TARN_OK ||
        tarn_bind_open(w->h, &err) != TARN_OK) {
        fail_msg("%s", err.message);
    }
}

static void close_world(world *w, const char *name) {
    tarn_host_close(w->h);
    if (atomic_load(&w->cx.budget.used) != 0) {
        complain("%s: %zu bytes are left after its example", name, atomic_load(&w->cx.budget.used));
    }
    tarn_context_free(&w->cx);
}

static bool wanted(const tarn_doc *d) {
    const char *only = getenv("TARN_TEST_ONLY");
    return !only || strstr(d->name, only);
}

// ---- rows ----

static void check_row(const tarn_host *h, int i) {
    const tarn_doc *d = tarn_host_doc_at(h, i);
    if (!d->signature || !*d->signature || !d->text || !*d->text) {
        complain("%s: no signature or no text", d->name);
        return;
    }
    size_t whose = strcspn(d->name, ".:");
    const char *part = d->name[whose] ? d->name + whose + 1 : d->name;
    bool called = strcmp(part, "call") == 0 && strncmp(d->signature, d->name, whose) == 0 &&
                  d->signature[whose] == '(';  // net:call is net(theta, x)
    if (!called && !strstr(d->signature, part)) {
        complain("%s: its signature does not name it: %s", d->name, d->signature);
    }
    for (const char *s = d->text; *s; s++) {
        if (*s == '\t' || (*s == '\n' && s[1] == '\0')) {
            complain("%s: its text holds a tab or ends in a new line", d->name);
            break;
        }
    }
    for (int k = 0; k < i; k++) {
        if (strcmp(tarn_host_doc_at(h, k)->name, d->name) == 0) {
            complain("%s is documented twice", d->name);
        }
    }
}

static void test_rows(void **state) {
    world w;
    open_world(&w);
    tarn_error err;
    if (tarn_host_load_lazy(w.h, NULL, &err) != TARN_OK) {
        complain("a lazy module does not load: %s", err.message);
    }
    assert_true(tarn_host_doc_count(w.h) > 20);
    for (int i = 0; i < tarn_host_doc_count(w.h); i++) {
        check_row(w.h, i);
    }
    close_world(&w, "no example");
    assert_int_equal(complaints, 0);
}

// ---- examples ----

// What the lines "-- > text" say, one a line.
static char *expected_output(const char *example) {
    static const char mark[] = "-- >";
    char *out = calloc(1, strlen(example) + 2), *to = out;
    assert_non_null(out);
    for (const char *s = example; *s;) {
        size_t n = strcspn(s, "\n"), skip = sizeof mark - 1;
        const char *from = s + strspn(s, " ");
        if (strncmp(from, mark, skip) == 0) {
            from += skip + (from[skip] == ' ');
            memcpy(to, from, (size_t)(s + n - from));
            to += s + n - from;
            *to++ = '\n';
        }
        s += n + (s[n] == '\n');
    }
    return out;
}

static char *run_captured(tarn_host *h, const tarn_doc *d, tarn_status *s, tarn_error *err) {
    enum { ROOM = 1 << 18 };
    size_t n = sizeof prologue + strlen(d->example);
    char *text = malloc(ROOM), *chunk = malloc(n);
    FILE *f = tmpfile();
    assert_true(text && chunk && f);
    snprintf(chunk, n, "%s%s", prologue, d->example);  // on the first line, so that lines count right
    fflush(stdout);
    int saved = dup(1);
    dup2(fileno(f), 1);
    *s = tarn_host_run(h, "=example", chunk, n - 1, 0, NULL, NULL, err);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    free(chunk);
    rewind(f);
    text[fread(text, 1, ROOM - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void without_trailing_spaces(char *s) {  // a comment line cannot well end in spaces
    char *to = s;
    for (char *from = s; *from; from++) {
        while (*from == '\n' && to > s && to[-1] == ' ') {
            to--;
        }
        *to++ = *from;
    }
    *to = '\0';
}

// In a host of its own, which loads only what the example uses.
static void run_example(const tarn_doc *d) {
    world w;
    tarn_status s;
    tarn_error err = {0};
    open_world(&w);
    char *expected = expected_output(d->example);
    char *printed = run_captured(w.h, d, &s, &err);
    without_trailing_spaces(printed);
    without_trailing_spaces(expected);
    if (s != TARN_OK) {
        complain("the example of %s fails: %s", d->name, err.message);
    } else if (*expected && strcmp(printed, expected) != 0) {
        complain("the example of %s prints\n%sinstead of\n%s", d->name, printed, expected);
    }
    free(expected);
    free(printed);
    close_world(&w, d->name);
}

static void test_examples(void **state) {
    world w;
    complaints = 0;
    assert_int_equal(chdir(TARN_SOURCE_DIR), 0);
    open_world(&w);
    int n = tarn_host_doc_count(w.h), with = 0;  // loads what is lazy
    for (int i = 0; i < n; i++) {
        const tarn_doc *d = tarn_host_doc_at(w.h, i);
        bool has = d->example && *d->example;
        with += has;
        if (has && wanted(d)) {
            run_example(d);
        }
    }
    close_world(&w, "no example");
    print_message("%d of %d rows have an example\n", with, n);
    assert_int_equal(complaints, 0);
}

// A name that is taken stays what it was, and the error says where both are written.
static void test_defined_twice(void **state) {
    static const char text[] =
        "local define = ... "
        "define('merge.doubled', 'merge.doubled() -> number', 'One.', nil, function() return 1 end)\n"
        "local ok, why = pcall(define, 'merge.doubled', 'merge.doubled()', 'Two.', nil, function() return 2 end)\n"
        "assert(not ok and merge.doubled() == 1)\n"
        "local far, of = pcall(define, 'merge.ties', 'merge.ties()', 'Three.', nil, function() return 3 end)\n"
        "assert(not far and tostring(of):find('merge.ties is defined twice: in C and in ', 1, true), of)\n"
        "return tostring(why)";
    world w;
    tarn_error err = {0};
    open_world(&w);
    lua_State *L = tarn_host_state(w.h);
    assert_int_equal(luaL_loadbufferx(L, text, sizeof text - 1, "=twice.lua", "t"), LUA_OK);
    tarn_bind_push_define(L);
    if (tarn_host_call(w.h, 1, 1, &err) != TARN_OK) {
        fail_msg("%s", err.message);
    }
    assert_non_null(strstr(lua_tostring(L, -1), "merge.doubled is defined twice: in twice.lua:1 and in twice.lua:2"));
    lua_pop(L, 1);
    close_world(&w, "defined twice");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_defined_twice),
                                       cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
