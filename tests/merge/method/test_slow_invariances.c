// SPDX-License-Identifier: Apache-2.0
// Every method on a tensor that the workers share in blocks: the same bytes for any number of
// threads.
#include "tests/merge/method/invariances.h"

static void threads(void **state) {
    (void)state;
    static const slot slots[] = {{"model.layers.0.a.weight", 1, {TARN_BLOCK + 5000}},
                                 {"model.layers.0.b.weight", 2, {60, 50}}};
    static const int counts[] = {1, 2, 3, 8, 0};
    const cut f = {TARN_BF16, COUNT(slots), slots};
    same_for_threads(&f, counts);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
