// SPDX-License-Identifier: Apache-2.0
// Every documentation row: it has a signature and a text, and its example runs and prints what its
// "-- > " lines say. The models of examples/data stand for the names that examples use freely.
#include <unistd.h>

#include "stdlib/bind/bind.h"
#include "tests/support.h"

static const char prologue[] =
    "local base = model.open 'examples/data/base.safetensors'\n"
    "local a = model.open 'examples/data/low.safetensors'\n"
    "local b = model.open 'examples/data/high.safetensors'\n"
    "local c = model.open 'examples/data/twin.safetensors'\n";

typedef struct {
    tarn_context cx;
    tarn_host *host;
    int out;  // where print writes
} world;

static int setup(void **state) {
    world *w = test_calloc(1, sizeof *w);
    tarn_error err = {0};
    open_context(&w->cx, 2, NULL);
    tarn_host_options o = {.trust = TARN_TRUST_SCRIPT, .folder = "."};
    OK(tarn_host_open(&w->cx, &o, &w->host, &err));
    OK(tarn_bind_open(w->host, &err));
    char name[] = "/tmp/tarn-examples-XXXXXX";
    w->out = mkstemp(name);
    unlink(name);
    *state = w;
    return w->out < 0;
}

static int teardown(void **state) {
    world *w = *state;
    close(w->out);
    tarn_host_close(w->host);
    tarn_context_free(&w->cx);
    test_free(w);
    return 0;
}

// What the "-- > " lines of the example say, one per line.
static void expected_of(const char *example, tarn_text *out) {
    for (const char *s = example; *s;) {
        size_t n = strcspn(s, "\n");
        if (strncmp(s, "-- > ", 5) == 0) {
            tarn_text_add(out, s + 5, n - 5);
            tarn_text_puts(out, "\n");
        }
        s += n + (s[n] == '\n');
    }
}

// Runs the example with print going to w->out; returns what it printed in buf.
static tarn_status run(world *w, const char *example, char *buf, size_t room, tarn_error *err) {
    tarn_text chunk;
    tarn_text_init(&chunk, &w->cx.budget);
    tarn_text_puts(&chunk, prologue);
    tarn_text_puts(&chunk, example);
    fflush(stdout);
    int saved = dup(1), results = 0;
    assert_int_equal(ftruncate(w->out, 0), 0);
    lseek(w->out, 0, SEEK_SET);
    dup2(w->out, 1);
    tarn_status s = tarn_host_run(w->host, "=example", chunk.data, chunk.len, 0, NULL, &results, err);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    lua_settop(tarn_host_state(w->host), 0);
    ssize_t n = pread(w->out, buf, room - 1, 0);
    buf[n > 0 ? n : 0] = '\0';
    tarn_text_free(&chunk);
    return s;
}

static void examples_print_what_they_say(void **state) {
    world *w = *state;
    int failed = 0, n = tarn_host_doc_count(w->host);
    assert_true(n > 150);
    for (int i = 0; i < n; i++) {
        const tarn_doc *d = tarn_host_doc_at(w->host, i);
        static char buf[1 << 16];
        tarn_error err = {0};
        tarn_text want;
        if (!d->signature || !*d->signature || !d->text || !*d->text) {
            print_error("%s: no signature or no text\n", d->name);
            failed++;
        }
        if (!d->example) {
            continue;
        }
        tarn_text_init(&want, &w->cx.budget);
        expected_of(d->example, &want);
        if (run(w, d->example, buf, sizeof buf, &err) != TARN_OK) {
            print_error("%s: %s\n", d->name, err.message);
            failed++;
        } else if (want.len > 0 && strcmp(buf, want.data) != 0) {
            print_error("%s printed\n%sexpected\n%s", d->name, buf, want.data);
            failed++;
        }
        tarn_text_free(&want);
    }
    assert_int_equal(failed, 0);
}

static void names_are_unique(void **state) {
    world *w = *state;
    int n = tarn_host_doc_count(w->host);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) {
            const char *x = tarn_host_doc_at(w->host, i)->name, *y = tarn_host_doc_at(w->host, k)->name;
            if (strcmp(x, y) == 0) {
                fail_msg("%s is documented twice", x);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_print_what_they_say),
        cmocka_unit_test(names_are_unique),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
