// SPDX-License-Identifier: Apache-2.0
// A sample of the allocations of every script of oom_scripts.h, and of every example of the bindings,
// fails; test_slow_oom.c takes them all.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static void test_scripts(void **state) { oom_all(&(oom_effort){.dense = 8, .step = 231, .caps = 4}); }
static void test_examples(void **state) {
    oom_all(&(oom_effort){.dense = 1, .step = 131, .caps = 1, .examples = true});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts), cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
