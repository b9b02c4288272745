// SPDX-License-Identifier: Apache-2.0
// Counting what the table of names has found: one pass over the tensors, for `tarn inspect` and for
// plans.
#include <string.h>

#include "merge/model/names.h"
#include "vm/base/size.h"

static void add(int64_t *sum, int64_t x) {
    if (!tarn_add_i64(*sum, x, sum)) {
        *sum = INT64_MAX;
    }
}

static int64_t numel(const tarn_name_in *t) {
    int64_t n = 1;
    for (int d = 0; d < t->rank; d++) {
        if (t->shape[d] == 0) {
            return 0;
        }
        n = tarn_mul_i64(n, t->shape[d], &n) ? n : INT64_MAX;
    }
    return n;
}

static int64_t bytes_of(tarn_dtype dtype, int64_t elements) {
    return elements > INT64_MAX / 128 ? INT64_MAX : (int64_t)tarn_dtype_bytes(dtype, elements);
}

// A second name of a parameter that was counted under the first.
static bool counted_before(const tarn_names *names, const tarn_name_in *t) {
    for (int k = 0; k < names->nties; k++) {
        const tarn_tie *tie = &names->ties[k];
        if (tie->stored && strlen(tie->other) == t->len &&
            memcmp(tie->other, t->name, t->len) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_expert(const tarn_name_info *info) {
    return info->expert >= 0 || strncmp(info->role, "expert", 6) == 0;
}

// Experts are numbered from 0, or are the first axis of one tensor.
static void count_experts(const tarn_name_info *info, const tarn_name_in *t, int *of_layer,
                          tarn_names_summary *out) {
    int64_t n = info->expert >= 0 ? (int64_t)info->expert + 1 : t->rank > 0 ? t->shape[0] : 1;
    int count = n > INT32_MAX ? INT32_MAX : (int)n;
    out->expert_layers += of_layer[info->depth] == 0;
    of_layer[info->depth] = count > of_layer[info->depth] ? count : of_layer[info->depth];
    out->experts = count > out->experts ? count : out->experts;
    out->experts_stacked = out->experts_stacked || info->expert < 0;
}

tarn_status tarn_names_summarise(tarn_context *cx, const tarn_names *names, const tarn_name_in *in,
                                 tarn_names_summary *out, tarn_error *err) {
    *out = (tarn_names_summary){.tensors = names->n};
    size_t room = (size_t)names->ndepth * sizeof(int);
    int *of_layer = tarn_alloc_zero(&cx->budget, room);
    if (!of_layer) {
        return tarn_raise_nomem(err, "counting tensors", room);
    }
    for (int64_t i = 0; i < names->n; i++) {
        const tarn_name_info *info = &names->info[i];
        const tarn_name_in *t = &in[i];
        int64_t elements = numel(t), bytes = bytes_of(t->dtype, elements);
        add(&out->elements, elements);
        add(&out->bytes, bytes);
        out->largest_bytes = bytes > out->largest_bytes ? bytes : out->largest_bytes;
        out->of_dtype[t->dtype]++;
        tarn_kind kind = tarn_dtype_get(t->dtype)->kind;
        out->integers += kind == TARN_KIND_INT || kind == TARN_KIND_BOOL;
        out->float_buffers += info->buffer && kind == TARN_KIND_FLOAT;
        if (!info->buffer && !counted_before(names, t)) {
            add(&out->parameters, elements);
        }
        if (info->depth >= 0 && is_expert(info)) {
            count_experts(info, t, of_layer, out);
        }
    }
    for (int k = 0; k < names->nstacks; k++) {
        out->layers += names->stacks[k].count;
    }
    tarn_free(&cx->budget, of_layer, room);
    return TARN_OK;
}
