// SPDX-License-Identifier: Apache-2.0
// A plan of any bytes over three small files, "a", "b" and the adapter "l": an answer. What is accepted
// can be expanded or says why not, and comes back from the plan that it makes as it was.
#include "tests/fuzz/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char model[] =
    "{\"h.0.w.weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,48]},"
    "\"h.1.b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[48,56]},"
    "\"n\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[56,72]}}";
static const char adapter[] =
    "{\"h.0.w.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"h.0.w.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":[4,2],\"data_offsets\":[24,56]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_file a, b, l;
    char *text = malloc(size ? size : 1);
    tarn_context cx;
    tarn_error err = {0};
    tarn_model *m = NULL;
    tarn_plan_options o;
    tarn_plan *p = NULL;
    fuzz_model(&a, model);
    fuzz_model(&b, model);
    fuzz_model(&l, adapter);
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
