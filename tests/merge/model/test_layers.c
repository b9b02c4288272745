// SPDX-License-Identifier: Apache-2.0
// Layers of every family of tests/golden/headers: each stack is put on top of itself, cut out of
// the result again by number, and must be what it was; what stands outside comes from the parts
// that were named. Then what is refused.
#include "tests/merge/model/pairs.h"

#include "merge/model/structure.h"

static tarn_model *family(tarn_context *cx, const char *name) {
    json_t *h = header_load(name);
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    int64_t n;
    tarn_name_in *in = header_names(&a, h, &n);
    tarn_model *m = model_of(cx, n, in, header_config(&a, h), name);
    tarn_arena_free(&a);
    json_decref(h);
    return m;
}

static int64_t in_stack(const tarn_model *m, int stack) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = tarn_model_info(m, i);
        n += info && info->place == TARN_PLACE_LAYER && info->stack == stack;
    }
    return n;
}

static void same_slots(const tarn_model *a, const tarn_model *b) {
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) {
        const tarn_slot *s = &a->slots[a->by_name[i]], *t = &b->slots[b->by_name[i]];
        assert_string_equal(s->name, t->name);
        assert_true(tarn_shape_equal(s->rank, s->shape, t->rank, t->shape));
    }
}

// Numbers of the layers of a stack: least, and whether they follow each other.
static int least_of(const tarn_model *m, int stack, bool *gaps) {
    int least = 1 << 30, most = -1;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = tarn_model_info(m, i);
        if (info && info->place == TARN_PLACE_LAYER && info->stack == stack) {
            least = info->layer < least ? info->layer : least;
            most = info->layer > most ? info->layer : most;
        }
    }
    *gaps = most - least + 1 != tarn_model_names(m)->stacks[stack].count;
    return least;
}

// False: its numbers cannot be stacked, and that was said.
static bool try_stack(tarn_context *cx, tarn_model *m, int k) {
    tarn_error err = {0};
    const tarn_name_stack *s = &tarn_model_names(m)->stacks[k];
    bool gaps;
    int first = least_of(m, k, &gaps), count = s->count;
    tarn_stack_options o = {.stack = s->name, .embed = 0, .head = 1};
    tarn_model *twice[2] = {m, m}, *deep = NULL, *low, *high, *back;
    tarn_status st = tarn_model_stack(cx, 2, twice, &o, &deep, &err);
    if (s->labels || gaps) {
        assert_int_not_equal(st, TARN_OK);
        assert_string_equal(err.code, "LayerNumber");
        return false;
    }
    OK(st);
    assert_int_equal(tarn_model_names(deep)->nstacks, tarn_model_names(m)->nstacks);
    assert_int_equal(tarn_model_names(deep)->stacks[k].count, 2 * count);
    assert_int_equal(deep->n, m->n + in_stack(m, k));
    OK(tarn_model_layers(cx, deep, s->name, first, first + count - 1, &low, &err));
    OK(tarn_model_layers(cx, deep, s->name, first + count, first + 2 * count - 1, &high, &err));
    same_slots(low, m);
    OK(tarn_model_renumber(cx, high, s->name, first, &back, &err));
    same_slots(back, m);
    // Behind each tensor stands the one of that layer.
    for (int64_t i = 0; i < back->n; i++) {
        int64_t at = high->map[0][back->map[0][i]], part = 1;
        while (deep->map[part][at] < 0) {
            part--;
        }
        const tarn_model *renamed = deep->in[part];
        at = renamed->in[0]->map[0][renamed->map[0][deep->map[part][at]]];
        assert_string_equal(m->slots[at].name, back->slots[i].name);
        const tarn_name_info *info = tarn_model_info(m, at);
        bool layer = info->place == TARN_PLACE_LAYER && info->stack == k;
        bool late = info->place == TARN_PLACE_FINAL || info->place == TARN_PLACE_HEAD;
        assert_int_equal(part, layer || late ? 1 : 0);
    }
    tarn_model_release(back);
    tarn_model_release(high);
    tarn_model_release(low);
    tarn_model_release(deep);
    return true;
}

static void test_families(void **state) {
    (void)state;
    tarn_context cx;
    char names[64][64];
    int n = header_list(names), stacks = 0;
    open_context(&cx, 1, NULL);
    for (int i = 0; i < n; i++) {
        if (strstr(names[i], "405b") || strncmp(names[i], "lora", 4) == 0) {
            continue;  // long, and no model
        }
        tarn_model *m = family(&cx, names[i]);
        for (int k = 0; k < tarn_model_names(m)->nstacks; k++) {
            stacks += try_stack(&cx, m, k);
        }
        tarn_model_release(m);
    }
    assert_true(stacks > 25);
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

// A model of layers.K.norm.weight [wide], with or without a head.
static tarn_model *tower(tarn_context *cx, const char *stem, int layers, int64_t wide, bool head,
                         const char *label) {
    tarn_name_in in[16];
    char names[16][64];
    int n = 0;
    for (; n < layers; n++) {
        snprintf(names[n], sizeof names[n], "%s.%d.input_layernorm.weight", stem, n);
        in[n] = (tarn_name_in){names[n], strlen(names[n]), TARN_F32, 1, &wide};
    }
    static const char *const outer[] = {"model.embed_tokens.weight", "model.norm.weight",
                                        "lm_head.weight"};
    for (int k = 0; k < (head ? 3 : 2); k++) {
        in[n++] = (tarn_name_in){outer[k], strlen(outer[k]), TARN_F32, 1, &wide};
    }
    return model_of(cx, n, in, NULL, label);
}

static void refused(tarn_context *cx, tarn_model *a, tarn_model *b, const char *code,
                    const char *says) {
    tarn_error err = {0};
    tarn_model *parts[2] = {a, b}, *out;
    tarn_stack_options o = {.head = 1};
    assert_int_not_equal(tarn_model_stack(cx, 2, parts, &o, &out, &err), TARN_OK);
    assert_string_equal(err.code, code);
    if (!strstr(err.message, says)) {
        fail_msg("'%s' is not in: %s", says, err.message);
    }
    tarn_model_release(b);
}

static void test_refused(void **state) {
    (void)state;
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_model *a = tower(&cx, "model.layers", 4, 8, true, "a"), *out = NULL;
    refused(&cx, a, tower(&cx, "model.layers", 2, 6, true, "b"), "ShapeMismatch",
            "the layers of b (part 2) are 6 wide");
    refused(&cx, a, tower(&cx, "model.layers", 2, 8, false, "b"), "StackMismatch",
            "head = 1 takes both from one");
    refused(&cx, a, tower(&cx, "model.blocks", 2, 8, true, "b"), "StackMismatch",
            "\"model.layers\" in part 1 and \"model.blocks\"");
    tarn_model *d;
    OK(tarn_model_binary(&cx, &tarn_op_sub, a, a, &d, &err));
    refused(&cx, a, d, "StackMismatch", "part 1 has mass 1, part 2 has 0");
    static const int wrong[][2] = {{-1, 2}, {2, 1}, {3, 4}, {4, 4}};
    for (int k = 0; k < 4; k++) {
        assert_int_not_equal(tarn_model_layers(&cx, a, NULL, wrong[k][0], wrong[k][1], &out, &err),
                             TARN_OK);
        assert_string_equal(err.code, "LayerRange");
        assert_non_null(strstr(err.message, "go from 0 to 3"));
    }
    assert_int_not_equal(tarn_model_layers(&cx, a, "encoder", 0, 0, &out, &err), TARN_OK);
    assert_non_null(strstr(err.message, "no layers called \"encoder\", only \"model.layers\""));
    tarn_model_release(a);
    a = family(&cx, "t5-base");
    assert_int_not_equal(tarn_model_layers(&cx, a, NULL, 0, 0, &out, &err), TARN_OK);
    assert_non_null(strstr(err.message, "say stack = one of \"encoder.block\", \"decoder.block\""));
    tarn_model_release(a);
    assert_int_equal(atomic_load(&cx.budget.used), 0);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
