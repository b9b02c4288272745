// SPDX-License-Identifier: Apache-2.0
// The messages for models that do not fit: a count, what may be behind it (reason.c), the kinds of
// tensors concerned with their layers, and the way out. Costs a sort and some searches, and only
// when something failed. Everything fits the error record: kinds are cut, counts never.
#include "merge/model/differ.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "merge/model/intern.h"

enum {
    KINDS_SHOWN = 3,
    SHAPES_SHOWN = 6,
    NAME_SHOWN = 110,
    KIND_ROOM = 512,
    LIST_ROOM = 1300,  // bytes of a message after which no kind is added: the hint has to fit too
};

// ---- small texts ----

static void show_shape(const tarn_slot *s, tarn_text *out) {
    tarn_text_puts(out, "[");
    for (int d = 0; d < s->rank; d++) {
        if (d == 6) {  // headers allow 64 dimensions; nobody has that many
            tarn_text_puts(out, ", …");
            break;
        }
        tarn_text_printf(out, "%s%lld", d ? ", " : "", (long long)s->shape[d]);
    }
    tarn_text_puts(out, "]");
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

void tarn_differ_spans(int64_t *numbers, int64_t n, tarn_text *out) {
    qsort(numbers, (size_t)n, sizeof *numbers, by_number);
    int shown = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = numbers[i];
        while (i + 1 < n && numbers[i + 1] <= numbers[i] + 1) {
            i++;
        }
        if (shown == 8) {
            tarn_text_puts(out, ",…");
            return;
        }
        tarn_text_printf(out, "%s%lld", shown++ ? "," : "", (long long)from);
        if (numbers[i] > from) {
            tarn_text_printf(out, "-%lld", (long long)numbers[i]);
        }
    }
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

size_t tarn_differ_blank(const tarn_slot *s, char *out, size_t room, int64_t *first) {
    size_t n = 0;
    *first = -1;
    for (size_t i = 0; i < s->len && n < room; i++) {
        size_t end = i;
        int64_t value = 0;
        while (end < s->len && digit(s->name[end]) && end - i < 10) {
            value = value * 10 + (s->name[end++] - '0');
        }
        bool whole = end > i && end - i < 10 && (i == 0 || s->name[i - 1] == '.') &&
                     (end == s->len || s->name[end] == '.');
        if (whole) {
            out[n++] = 'N';
            *first = *first < 0 ? value : *first;
            i = end - 1;
        } else {
            out[n++] = s->name[i];
        }
    }
    return n;
}

static void label_of(tarn_differ *d, int k, const tarn_model *m, const tarn_model *other) {
    static const char *const which[] = {"first ", "second "};
    const char *label = tarn_model_label(m);
    tarn_text t;
    tarn_text_init(&t, &m->cx->budget);
    tarn_text_show(&t, label, strlen(label), 60);
    bool same = strcmp(label, tarn_model_label(other)) == 0;
    snprintf(d->side[k].label, sizeof d->side[k].label, "%s%s", same ? "the " : "",
             same ? which[k] : "");
    size_t at = strlen(d->side[k].label);
    snprintf(d->side[k].label + at, sizeof d->side[k].label - at, "%s", t.data ? t.data : "?");
    tarn_text_free(&t);
}

// ---- kinds of tensors: names that differ in numbers alone, of one dtype and shape ----

typedef struct {
    int64_t count, slot;  // the first of them
    int64_t other;        // its counterpart, -1
} kind;

typedef struct {
    tarn_intern keys;
    kind *kinds;  // [keys.count]
    int32_t *of;  // [n] which kind an entry is of
} kinds;

static bool shapes_equal(const tarn_slot *a, const tarn_slot *b) {
    return tarn_shape_equal(a->rank, a->shape, b->rank, b->shape);
}

// Sorts n slots into kinds; others: their counterparts, or NULL.
static void sort_kinds(tarn_differ *d, const tarn_model *m, const int64_t *slots,
                       const tarn_model *mo, const int64_t *others, int64_t n, kinds *out) {
    *out = (kinds){.keys = {.arena = &d->scratch}};
    out->kinds = tarn_arena_take(&d->scratch, (size_t)n * sizeof *out->kinds + 1);
    out->of = tarn_arena_take(&d->scratch, (size_t)n * sizeof *out->of + 1);
    d->failed = d->failed || !out->kinds || !out->of;
    tarn_text key;
    tarn_text_init(&key, &m->cx->budget);
    for (int64_t i = 0; i < n && !d->failed; i++) {
        const tarn_slot *s = &m->slots[slots[i]];
        char text[KIND_ROOM];
        int64_t first;
        size_t len = tarn_differ_blank(s, text, sizeof text, &first);
        key.len = 0;
        tarn_text_add(&key, text, len);
        tarn_text_printf(&key, "\t%d", (int)s->dtype);
        show_shape(s, &key);
        if (others) {
            show_shape(&mo->slots[others[i]], &key);
        }
        bool fresh = false;
        int32_t id = key.failed ? -1 : tarn_intern_add(&out->keys, key.data, key.len, &fresh);
        if (id < 0) {
            d->failed = true;
            break;
        }
        if (fresh) {
            out->kinds[id] = (kind){0, slots[i], others ? others[i] : -1};
        }
        out->kinds[id].count++;
        out->of[i] = id;
    }
    tarn_text_free(&key);
}

// "32 of model.layers.N.mlp.up_proj.weight (layers 0-31)", or the one name.
static void write_kind(tarn_differ *d, const tarn_model *m, const int64_t *slots, int64_t n,
                       const kinds *all, int32_t id, tarn_text *out) {
    const kind *k = &all->kinds[id];
    const tarn_slot *s = &m->slots[k->slot];
    if (k->count == 1) {
        tarn_text_show(out, s->name, s->len, NAME_SHOWN);
        return;
    }
    char text[KIND_ROOM];
    int64_t first;
    size_t len = tarn_differ_blank(s, text, sizeof text, &first), count = 0;
    int64_t *numbers = tarn_arena_take(&d->scratch, (size_t)k->count * sizeof *numbers);
    d->failed = d->failed || !numbers;
    for (int64_t i = 0; i < n && numbers; i++) {
        if (all->of[i] == id) {
            char other[KIND_ROOM];
            tarn_differ_blank(&m->slots[slots[i]], other, sizeof other, &numbers[count++]);
        }
    }
    const tarn_name_info *info = tarn_model_info(m, k->slot);
    tarn_text_printf(out, "%lld of ", (long long)k->count);
    tarn_text_show(out, text, len, NAME_SHOWN);
    tarn_text_printf(out, " (%s ", info && info->place == TARN_PLACE_LAYER ? "layers" : "N =");
    if (numbers) {
        tarn_differ_spans(numbers, (int64_t)count, out);
    }
    tarn_text_puts(out, ")");
}

static void write_rest(int64_t tensors, int32_t more, tarn_text *out) {
    tarn_text_printf(out, "\n  … and %lld more tensor%s of %d kind%s", (long long)tensors,
                     tensors == 1 ? "" : "s", (int)more, more == 1 ? "" : "s");
}

static void write_only(tarn_differ *d, int side, tarn_text *out) {
    const tarn_differ_side *x = &d->side[side];
    if (x->n == 0) {
        return;
    }
    kinds all;
    sort_kinds(d, x->model, x->only, NULL, NULL, x->n, &all);
    int64_t left = x->n;
    tarn_text_printf(out, "\nonly in %s:", x->label);
    for (int32_t id = 0; id < all.keys.count && !d->failed; id++) {
        if (id == KINDS_SHOWN || out->len > LIST_ROOM) {
            write_rest(left, all.keys.count - id, out);
            break;
        }
        const tarn_slot *s = &x->model->slots[all.kinds[id].slot];
        const tarn_name_info *info = tarn_model_info(x->model, all.kinds[id].slot);
        tarn_text_puts(out, "\n  ");
        write_kind(d, x->model, x->only, x->n, &all, id, out);
        tarn_text_printf(out, ", %s ", tarn_dtype_get(s->dtype)->code);
        show_shape(s, out);
        tarn_text_puts(out, info && info->buffer ? ", constant" : "");
        left -= all.kinds[id].count;
    }
}

static void write_shapes(tarn_differ *d, tarn_text *out) {
    const tarn_model *a = d->side[0].model, *b = d->side[1].model;
    int64_t *of_a = tarn_arena_take(&d->scratch, (size_t)d->nshapes * sizeof *of_a + 1);
    int64_t *of_b = tarn_arena_take(&d->scratch, (size_t)d->nshapes * sizeof *of_b + 1);
    d->failed = d->failed || !of_a || !of_b;
    for (int64_t i = 0; i < d->nshapes && !d->failed; i++) {
        of_a[i] = d->shapes[2 * i];
        of_b[i] = d->shapes[2 * i + 1];
    }
    kinds all = {.keys = {.count = 0}};
    if (!d->failed) {
        sort_kinds(d, a, of_a, b, of_b, d->nshapes, &all);
    }
    int64_t left = d->nshapes;
    for (int32_t id = 0; id < all.keys.count && !d->failed; id++) {
        if (id == SHAPES_SHOWN || out->len > LIST_ROOM) {
            write_rest(left, all.keys.count - id, out);
            break;
        }
        tarn_text_puts(out, "\n  ");
        write_kind(d, a, of_a, d->nshapes, &all, id, out);
        tarn_text_puts(out, ": ");
        show_shape(&a->slots[all.kinds[id].slot], out);
        tarn_text_printf(out, " in %s, ", d->side[0].label);
        show_shape(&b->slots[all.kinds[id].other], out);
        tarn_text_printf(out, " in %s", d->side[1].label);
        left -= all.kinds[id].count;
    }
}

// ---- collecting ----

static void collect(tarn_differ *d, const tarn_model *a, const tarn_model *b) {
    *d = (tarn_differ){.side = {{.model = a}, {.model = b}}};
    tarn_arena_init(&d->scratch, &a->cx->budget);
    label_of(d, 0, a, b);
    label_of(d, 1, b, a);
    d->side[0].only = tarn_arena_take(&d->scratch, (size_t)a->n * sizeof(int64_t) + 1);
    d->side[1].only = tarn_arena_take(&d->scratch, (size_t)b->n * sizeof(int64_t) + 1);
    d->shapes = tarn_arena_take(&d->scratch, 2 * (size_t)a->n * sizeof *d->shapes + 1);
    d->failed = !d->side[0].only || !d->side[1].only || !d->shapes;
    bool points = a->mass != 0 && b->mass != 0;  // a vector may lack names: they are zero
    for (int64_t i = 0; i < a->n && !d->failed; i++) {
        int64_t at = a->by_name[i], k = tarn_match_slot(a, at, b);
        if (k < 0) {
            d->side[0].only[d->side[0].n] = at;
            d->side[0].n += points;
            continue;
        }
        d->common++;
        if (!shapes_equal(&a->slots[at], &b->slots[k])) {
            d->shapes[2 * d->nshapes] = at;
            d->shapes[2 * d->nshapes++ + 1] = k;
        }
    }
    for (int64_t i = 0; i < b->n && !d->failed; i++) {
        const tarn_slot *s = &b->slots[b->by_name[i]];
        if (tarn_model_find(a, s->name, s->len) < 0 && !tarn_match_spare(b, b->by_name[i], a)) {
            d->side[1].only[d->side[1].n++] = b->by_name[i];
        }
    }
}

static tarn_status finish(tarn_differ *d, const char *code, tarn_text *text, tarn_error *err) {
    tarn_status s = d->failed || text->failed
                        ? tarn_raise_nomem(err, "comparing names", d->scratch.total)
                        : tarn_raise(err, code, "%s", text->data);
    tarn_text_free(text);
    tarn_arena_free(&d->scratch);
    return s;
}

// ---- names ----

static bool all_constants(const tarn_differ_side *x) {
    for (int64_t i = 0; i < x->n; i++) {
        const tarn_name_info *info = tarn_model_info(x->model, x->only[i]);
        if (!info || !info->buffer) {
            return false;
        }
    }
    return x->n > 0;
}

static bool all_biases(const tarn_differ_side *x) {
    for (int64_t i = 0; i < x->n; i++) {
        const tarn_slot *s = &x->model->slots[x->only[i]];
        if (s->len < 5 || memcmp(s->name + s->len - 5, ".bias", 5) != 0 || s->rank != 1) {
            return false;
        }
    }
    return x->n > 0;
}

// The policies that lead on, by what is left over after the reasons.
static void hint_policies(const tarn_differ *d, tarn_text *out) {
    const tarn_differ_side *a = &d->side[0], *b = &d->side[1];
    if (a->n + b->n == 0) {
        return;
    }
    if ((a->n == 0 || all_constants(a)) && (b->n == 0 || all_constants(b))) {
        const char *lacking = a->n == 0 ? a->label : b->n == 0 ? b->label : "the other";
        tarn_text_printf(
            out, "\nhint: %s lacks these constants; missing = \"drop\" leaves them out", lacking);
    } else if (b->n == 0 && all_biases(a)) {
        tarn_text_puts(
            out, "\nhint: missing = \"zero\" is exact here, an absent bias is zero; \"base\" or "
                 "\"drop\" are the other choices");
    } else if (a->n > 0) {
        tarn_text_printf(
            out,
            "\nhint: missing = \"base\" takes what %s lacks from %s, \"zero\" reads zeros "
            "for it, \"drop\" leaves it out",
            b->label, a->label);
    } else {
        tarn_text_printf(out, "\nhint: missing = \"drop\" leaves out what only %s has", b->label);
    }
}

tarn_status tarn_differ_names(const tarn_model *a, const tarn_model *b, tarn_error *err) {
    tarn_differ d;
    tarn_text text;
    collect(&d, a, b);
    tarn_text_init(&text, &a->cx->budget);
    if (!d.failed) {
        tarn_text_printf(&text,
                         "%s and %s do not hold the same tensors: %lld only in %s, %lld only in %s",
                         d.side[0].label, d.side[1].label, (long long)d.side[0].n, d.side[0].label,
                         (long long)d.side[1].n, d.side[1].label);
        int64_t agree = d.common - d.nshapes;
        tarn_text_printf(&text, d.common ? ", %lld agree in name and shape" : ", no name in common",
                         (long long)agree);
        bool renamed = tarn_reason_prefix(&d, &text);
        bool deep = !renamed && tarn_reason_depth(&d, &text);
        bool mixed = !renamed && !deep && tarn_reason_experts(&d, &text);
        bool fused = !renamed && !deep && !mixed && tarn_reason_fused(&d, &text);
        tarn_reason_tie(&d, &text);
        if (!deep) {
            write_only(&d, 0, &text);
            write_only(&d, 1, &text);
        }
        if (!deep && !mixed && !fused) {
            hint_policies(&d, &text);
        }
    }
    return finish(&d, "MissingTensor", &text, err);
}

// ---- shapes ----

tarn_status tarn_differ_shapes(const tarn_model *a, const tarn_model *b, tarn_error *err) {
    tarn_differ d;
    tarn_text text;
    collect(&d, a, b);
    tarn_text_init(&text, &a->cx->budget);
    if (!d.failed) {
        tarn_text_printf(&text, "%lld shape%s between %s and %s, the other %lld tensors agree",
                         (long long)d.nshapes, d.nshapes == 1 ? " differs" : "s differ",
                         d.side[0].label, d.side[1].label, (long long)(d.common - d.nshapes));
        if (d.side[0].n + d.side[1].n > 0) {
            tarn_text_printf(&text, " (and %lld names are only in %s, %lld only in %s)",
                             (long long)d.side[0].n, d.side[0].label, (long long)d.side[1].n,
                             d.side[1].label);
        }
        tarn_text_puts(&text, ":");
        write_shapes(&d, &text);
        if (!tarn_reason_turned(&d, &text) && !tarn_reason_rows(&d, &text)) {
            tarn_text_puts(&text,
                           "\nhint: nothing is cut or padded by itself: leave these tensors to one "
                           "model (m:only), or bring them to one shape first");
        }
    }
    return finish(&d, "ShapeMismatch", &text, err);
}
