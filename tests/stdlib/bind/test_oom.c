// SPDX-License-Identifier: Apache-2.0
// A sample of the allocations of every script of oom_scripts.h fails; test_slow_oom.c takes them all.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static void test_sample(void **state) { oom_all(12, 151); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sample)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
