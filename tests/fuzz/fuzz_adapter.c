// SPDX-License-Identifier: Apache-2.0
// A LoRA adapter of any bytes over a small base: adapter_config.json up to the first zero byte, behind it
// the safetensors file. An answer; what is accepted is a vector over tensors of the base, has a value, and
// comes back from its plan as it was.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge/model/lora.h"
#include "tests/fuzz/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char header[] =
    "{\"h.0.w.weight\":{\"dtype\":\"F32\",\"shape\":[4,3],\"data_offsets\":[0,48]},"
    "\"h.0.w.bias\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[48,64]},"
    "\"h.1.w.weight\":{\"dtype\":\"BF16\",\"shape\":[3,3],\"data_offsets\":[64,82]},"
    "\"conv.weight\":{\"dtype\":\"F32\",\"shape\":[2,3,2,2],\"data_offsets\":[82,178]},"
    "\"wte.weight\":{\"dtype\":\"F32\",\"shape\":[5,4],\"data_offsets\":[178,258]},"
    "\"n.weight\":{\"dtype\":\"I64\",\"shape\":[2],\"data_offsets\":[258,274]}}";

static void check_vector(const tarn_model *base, const tarn_model *m) {
    insist(m->mass == 0 && m->n <= base->n);
    for (int64_t i = 0; i < m->n; i++) {
        int64_t at = tarn_model_find(base, m->slots[i].name, m->slots[i].len);
        insist(at >= 0 && tarn_dtype_is_float(base->slots[at].dtype));
        insist(tarn_shape_equal(m->slots[i].rank, m->slots[i].shape, base->slots[at].rank,
                                base->slots[at].shape));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static fuzz_file base;
    fuzz_file file;
    const uint8_t *end = memchr(data, 0, size);
    size_t len = end ? (size_t)(end - data) : size;
    char *config = malloc(len ? len : 1);
    tarn_context cx;
    tarn_error err = {0};
    fuzz_model(&base, header);
    fuzz_bytes(&file, end ? end + 1 : data, end ? size - len - 1 : 0);
    fuzz_context(&cx);
    insist(config != NULL);
    memcpy(config, data, len);
    tarn_model *b = NULL, *adapter = NULL, *m = NULL;
    tarn_open_options o = {.label = "b"}, oa = {.label = "fuzz"};
    insist(tarn_model_open(&cx, base.path, &o, &b, &err) == TARN_OK);
    if (tarn_model_open(&cx, file.path, &oa, &adapter, &err) != TARN_OK) {
        insist(err.code[0] && err.message[0]);
    } else if (tarn_lora_read(b, adapter, config, len, &m, &err) != TARN_OK) {
        insist(!m && err.message[0]);
    } else {
        check_vector(b, m);
        fuzz_value(&cx, m);
        fuzz_again(&cx, m, (const fuzz_input[]){{"b", base.path}, {"fuzz", file.path}}, 2);
    }
    tarn_model_release(m);
    tarn_model_release(adapter);
    tarn_model_release(b);
    insist(cx.budget.used == 0);
    tarn_context_free(&cx);
    fuzz_close(&file);
    free(config);
    return 0;
}
