// SPDX-License-Identifier: Apache-2.0
// Allocations of every script of oom_scripts.h, and of every example of the bindings, fail: each alone, then
// with all later ones. All of them take some three hours of one core, so a run takes one in 61:
// TARN_TEST_STEP=n takes one in n (1: all), TARN_TEST_FIRST=n begins at another one, so that runs on
// different days see different ones; TARN_TEST_ONLY=word takes the scripts that hold it in their name,
// TARN_TEST_VERBOSE=1 prints how each run ended.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static long number(const char *variable, long usual) {
    const char *text = getenv(variable);
    long n = text ? atol(text) : 0;
    return n > 0 ? n : usual;
}

static oom_effort effort(void) {
    long step = number("TARN_TEST_STEP", 61);
    return (oom_effort){.first = number("TARN_TEST_FIRST", 1) % step + 1, .step = step, .caps = 10};
}

static void test_scripts(void **state) {
    oom_effort e = effort();
    oom_all(&e);
}

static void test_examples(void **state) {
    oom_effort e = effort();
    e.most = 512;
    e.examples = true;
    oom_all(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts), cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
