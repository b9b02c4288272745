// SPDX-License-Identifier: Apache-2.0
// A plan of any bytes over three small files, "a", "b" and the adapter "l": an answer. What is accepted
// can be expanded or says why not, and comes back from the plan that it makes as it was.
#include "tests/fuzz/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_file a, b, l;
    char *text = malloc(size ? size : 1);
    tarn_context cx;
    tarn_error err = {0};
    tarn_model *m = NULL;
    tarn_plan_options o;
    tarn_plan *p = NULL;
    fuzz_model(&a, fuzz_weights);
    fuzz_model(&b, fuzz_weights);
    fuzz_model(&l, fuzz_adapter);
    fuzz_input list[] = {{"a", a.path}, {"b", b.path}, {"l", l.path}};
    fuzz_inputs in = {list, 3};
    insist(text != NULL);
    memcpy(text, data, size);
    fuzz_context(&cx);
    if (tarn_plan_read(&cx, text, size, fuzz_path, &in, &m, &o, &err) != TARN_OK) {
        insist(!m && err.message[0]);
    } else {
        if (tarn_plan_survey(&cx, m, &o, &p, &err) != TARN_OK) {
            insist(!p && err.message[0]);
        }
        tarn_plan_free(p);
        fuzz_again(&cx, m, list, 3);
    }
    tarn_model_release(m);
    insist(cx.budget.used == 0);
    tarn_context_free(&cx);
    free(text);
    return 0;
}
