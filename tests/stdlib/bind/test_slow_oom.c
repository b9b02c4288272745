// SPDX-License-Identifier: Apache-2.0
// Every allocation of every script of oom_scripts.h fails once, alone, then with all later ones; of every
// example of the bindings the first 512, then ever fewer. TARN_TEST_ONLY=word takes what holds it in its
// name, TARN_TEST_STEP=n every n-th allocation (for valgrind), TARN_TEST_VERBOSE=1 prints how each run ended.
#include "tests/oom.h"
#include "tests/stdlib/bind/oom_scripts.h"

static long step(void) {
    const char *text = getenv("TARN_TEST_STEP");
    long n = text ? atol(text) : 1;
    return n > 0 ? n : 1;
}

static void test_scripts(void **state) { oom_all(&(oom_effort){.dense = 1, .step = step(), .caps = 50}); }
static void test_examples(void **state) {
    oom_all(&(oom_effort){.dense = 1, .step = step(), .most = 512, .caps = 20, .examples = true});
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scripts), cmocka_unit_test(test_examples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
