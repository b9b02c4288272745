// SPDX-License-Identifier: Apache-2.0
// Content digests of a plan's inputs: what provenance states, from the digest store where a file is
// known. Planning never needs them; a save takes them after the run, when the files were just read.
#include "vm/store/digests.h"

#include <string.h>

#include "merge/plan/output.h"

tarn_status tarn_plan_unhashed(tarn_model *m, int *files, uint64_t *bytes, tarn_error *err) {
    tarn_model *list[TARN_PLAN_INPUTS];
    int n;
    TARN_TRY(tarn_plan_inputs(m, list, &n, err));
    *files = 0;
    *bytes = 0;
    for (int k = 0; k < n; k++) {
        tarn_digests_todo todo = {0};
        if (list[k]->store) {
            TARN_TRY(tarn_digests_unknown(m->cx, list[k]->store, NULL, &todo, err));
        }
        *files += todo.files;
        *bytes += todo.bytes;
    }
    return TARN_OK;
}

// Two names of one tensor, both stored: that they hold the same is known here, and nowhere before.
static void warn_of_ties(const tarn_model *input, unsigned char (*each)[32]) {
    const tarn_names *names = tarn_model_names(input);
    for (int k = 0; names && k < names->nties; k++) {
        const tarn_tie *t = &names->ties[k];
        int64_t kept = tarn_model_find(input, t->kept, strlen(t->kept));
        int64_t other = t->stored ? tarn_model_find(input, t->other, strlen(t->other)) : -1;
        if (kept >= 0 && other >= 0 && memcmp(each[kept], each[other], 32) != 0) {
            tarn_warn(input->cx, "%s: config.json says that %s is %s, but the file holds other numbers for it",
                      input->label, t->other, t->kept);
        }
    }
}

tarn_status tarn_model_digest(const tarn_model *input, char hex[65], tarn_error *err) {
    tarn_context *cx = input->cx;
    size_t bytes = (size_t)input->n * 32 + 1;
    unsigned char sum[32], (*each)[32] = tarn_alloc(&cx->budget, bytes);
    if (!each) {
        return tarn_raise_nomem(err, "digests", bytes);
    }
    tarn_progress_begin(cx, "hashing inputs", 0);
    tarn_status s = tarn_digests_get(cx, input->store, NULL, each, err);
    tarn_progress_end(cx);
    s = s == TARN_OK ? tarn_digest_model(cx, input->store, each, sum, err) : s;
    if (s == TARN_OK) {
        warn_of_ties(input, each);
    }
    tarn_free(&cx->budget, each, bytes);
    if (s == TARN_OK) {
        tarn_hex(sum, 32, hex);
    }
    return s;
}

tarn_status tarn_output_inputs(tarn_model *m, tarn_digested *list, int *n, tarn_error *err) {
    tarn_model *inputs[TARN_PLAN_INPUTS];
    TARN_TRY(tarn_plan_inputs(m, inputs, n, err));
    for (int k = 0; k < *n; k++) {
        list[k].input = inputs[k];
        memset(list[k].digest, 0, sizeof list[k].digest);
        memset(list[k].digest, '0', inputs[k]->store ? 64 : 0);
        TARN_TRY(tarn_header_digest(inputs[k], list[k].header, err));
    }
    return TARN_OK;
}

tarn_status tarn_output_digests(tarn_digested *list, int n, tarn_error *err) {
    for (int k = 0; k < n; k++) {
        if (list[k].input->store) {
            TARN_TRY(tarn_model_digest(list[k].input, list[k].digest, err));
        }
    }
    return TARN_OK;
}
