// SPDX-License-Identifier: Apache-2.0
// A sample of the allocations of every script of oom_scripts.h fails; test_slow_oom.c takes more of them, and
// of those of every example of the bindings.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static void test_scripts(void **state) { oom_all(&(oom_effort){.step = 1201, .most = 8, .caps = 1, .day = 1}); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
