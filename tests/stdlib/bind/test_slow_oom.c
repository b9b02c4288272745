// SPDX-License-Identifier: Apache-2.0
// Every allocation of every script of oom_scripts.h fails once, alone, then with all later ones.
// TARN_TEST_ONLY=word takes the scripts whose name holds it, TARN_TEST_STEP=n every n-th allocation
// (for valgrind), TARN_TEST_VERBOSE=1 prints how each run ended.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static void test_all(void **state) {
    const char *step = getenv("TARN_TEST_STEP");
    long n = step ? atol(step) : 1;
    oom_all(1, n > 0 ? n : 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
