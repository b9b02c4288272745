// SPDX-License-Identifier: Apache-2.0
#include "merge/method/masks.h"

#include <string.h>

// How many of the masks hold, per entry.
static const tarn_node *count_of(tarn_graph *g, int n, const tarn_node *const *mask) {
    const tarn_node *one[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        one[i] = tarn_where(g, mask[i], tarn_num(g, 1), tarn_num(g, 0));
    }
    return tarn_sum_of(g, n, one);
}

const tarn_node *tarn_masks_ties(tarn_build *b) {
    const tarn_node *t[TARN_METHOD_MODELS];
    for (int i = 0; i < b->n; i++) {
        const tarn_node *d = tarn_keep_top(b, tarn_delta(b, i), tarn_get_of(b, "density", i), true, i);
        t[i] = tarn_vectors_weighted(b, d, i);
    }
    return tarn_vectors_elected(b, t, tarn_flag(b, "normalize"));
}

void tarn_masks_tall(tarn_build *b, const tarn_node *merged, const tarn_node **mask) {
    tarn_graph *g = b->g;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *t = tarn_delta(b, i), *off = tarn_abs(g, tarn_sub(g, merged, t));
        double lambda = tarn_get_of(b, "mask_lambda", i);
        off = lambda == 1 ? off : tarn_mul(g, off, tarn_num(g, lambda));
        mask[i] = tarn_gt(g, tarn_abs(g, t), off);
    }
}

const tarn_node *tarn_masks_consensus(tarn_build *b, const tarn_node *merged) {
    tarn_graph *g = b->g;
    const tarn_node *mask[TARN_METHOD_MODELS];
    double k = tarn_get(b, "k");
    if (k <= 0 || k > b->n) {
        return k <= 0 ? tarn_vectors_scaled(b, merged) : b->base;
    }
    tarn_masks_tall(b, merged, mask);
    const tarn_node *used = tarn_ge(g, count_of(g, b->n, mask), tarn_num(g, k));
    return tarn_vectors_scaled(b, tarn_where(g, used, merged, tarn_num(g, 0)));
}

const tarn_node *tarn_masks_elect(tarn_build *b, const tarn_node **mask) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0), *t[TARN_METHOD_MODELS];
    tarn_operands(b, t);
    const tarn_node *sum = tarn_sum_of(g, b->n, t);
    const tarn_node *sign =
        tarn_choice(b, "zero", "minus")
            ? tarn_where(g, tarn_gt(g, sum, zero), tarn_num(g, 1), tarn_num(g, -1))
            : tarn_sign(g, sum);
    const tarn_node *size = zero;
    for (int i = 0; i < b->n; i++) {
        const tarn_node *v = tarn_mul(g, t[i], sign);  // the magnitude, negative where the sign differs
        mask[i] = tarn_gt(g, v, zero);
        size = tarn_maximum(g, v, size);
    }
    return tarn_mul(g, size, sign);
}

const tarn_node *tarn_masks_rescale(tarn_build *b, const tarn_node *unified, const tarn_node *mask, int i) {
    tarn_graph *g = b->g;
    const tarn_node *zero = tarn_num(g, 0);
    const tarn_node *size[2] = {tarn_abs(g, tarn_delta(b, i)), tarn_where(g, mask, tarn_abs(g, unified), zero)};
    for (int k = 0; k < 2; k++) {
        if (tarn_choice(b, "rescale", "mean") && b->numel > 0) {
            size[k] = tarn_div(g, size[k], tarn_num(g, (double)b->numel));
        }
        size[k] = tarn_expand_global(b->expand, b->model, b->slot, 2 * i + k, &tarn_op_sum, size[k], NULL);
    }
    const tarn_node *some = tarn_gt(g, size[1], zero);
    return tarn_where(g, some, tarn_div(g, size[0], size[1]), tarn_num(g, 1));
}

// ---- storage ----

static const tarn_node *pack(tarn_graph *g, int n, const tarn_node *const *mask) {
    const tarn_node *bit[TARN_METHOD_MODELS];
    for (int i = 0; i < n; i++) {
        bit[i] = tarn_mul(g, tarn_cast(g, mask[i], TARN_F64), tarn_num(g, ldexp(1, i)));
    }
    return tarn_sum_of(g, n, bit);
}

const tarn_node *tarn_masks_unpack(tarn_graph *g, const tarn_node *word, int t) {
    const tarn_node *from = tarn_mul(g, tarn_cast(g, word, TARN_F64), tarn_num(g, ldexp(1, -t)));
    from = tarn_unary(g, &tarn_op_floor, from);
    const tarn_node *above = tarn_unary(g, &tarn_op_floor, tarn_mul(g, from, tarn_num(g, 0.5)));
    return tarn_ne(g, from, tarn_mul(g, above, tarn_num(g, 2)));
}

static tarn_dtype word_of(int tasks) {
    return tasks <= 8 ? TARN_U8 : tasks <= 16 ? TARN_U16 : tasks <= 32 ? TARN_U32 : TARN_U64;
}

bool tarn_masks_outputs(const tarn_model *m, int64_t i, int k, tarn_arena *a, tarn_slot *out) {
    (void)i;
    int tasks = tarn_method_models(m);
    if (k == 1) {
        tarn_slot_rename(out, ".mask", a);
        out->dtype = word_of(tasks);
    } else if (k == 2) {
        int64_t n = tasks;
        tarn_slot_rename(out, ".rescale", a);
        out->dtype = TARN_F64;
        out->rank = 1;
        out->shape = tarn_arena_copy(a, &n, sizeof n);
    } else if (k == 3) {
        int64_t n = tasks + 1;
        tarn_slot_rename(out, ".used", a);
        out->dtype = TARN_I64;
        out->rank = 1;
        out->shape = tarn_arena_copy(a, &n, sizeof n);
    }
    return k <= 3;
}

const tarn_node *tarn_masks_output(tarn_build *b, const tarn_node *vector, const tarn_node *const *mask,
                                   const tarn_node *const *scale) {
    if (b->output < 2) {
        return b->output == 0 ? vector : pack(b->g, b->n, mask);
    }
    if (b->output == 2) {
        return tarn_stack(b->g, b->n, scale);
    }
    const tarn_node *count[TARN_METHOD_MODELS + 1], *used = count_of(b->g, b->n, mask);
    for (int k = 0; k <= b->n; k++) {
        count[k] = tarn_total(b->g, &tarn_op_sum, tarn_eq(b->g, used, tarn_num(b->g, k)));
    }
    return tarn_stack(b->g, b->n + 1, count);
}

tarn_status tarn_masks_check(const tarn_model *m, tarn_error *err) {
    const char *name = tarn_method_of(m)->name;
    int n = tarn_method_models(m);
    if (n > TARN_MASKS_MOST) {
        TARN_RAISE(err, "ModelCount", "merge.%s: masks of %d tasks; at most %d fit in an integer per entry",
                   name, n, TARN_MASKS_MOST);
    }
    return TARN_OK;
}
