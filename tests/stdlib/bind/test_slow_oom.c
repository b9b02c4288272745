// SPDX-License-Identifier: Apache-2.0
// Allocations of every script of oom_scripts.h, and of every example of the bindings, fail: each alone, then
// with all later ones. All of them would take hours of a core. So of each script some are taken, spread over
// all that it asks for: of a script one in 61, but 60 at most, of an example six, and at least one; and both run
// under a few caps on memory. The same day sees the same ones, the next day others between them.
//   TARN_TEST_FIRST=n    the day (scripts/nightly gives that of the year)
//   TARN_TEST_STEP=n     one allocation in n at most
//   TARN_TEST_MOST=n     n allocations of each script or example at most, 0: no bound (1 and 0: all)
//   TARN_TEST_ONLY=word  the scripts and examples that hold it in their name
//   TARN_TEST_VERBOSE=1  prints how each run ended, and what each example took
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static long number(const char *variable, long usual) {
    const char *text = getenv(variable);
    return text && *text ? atol(text) : usual;
}

static void sweep(bool examples, long step, long most, int caps) {
    long asked = number("TARN_TEST_STEP", step);
    oom_all(&(oom_effort){.step = asked > 0 ? asked : 1,
                          .most = number("TARN_TEST_MOST", most),
                          .caps = caps,
                          .day = number("TARN_TEST_FIRST", 1),
                          .examples = examples});
}

static void test_scripts(void **state) { sweep(false, 61, 60, 10); }
static void test_examples(void **state) { sweep(true, 1, 6, 2); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts), cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
