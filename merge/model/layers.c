// SPDX-License-Identifier: Apache-2.0
// Layers from numbers: which stack a name belongs to, in which order stacks and the blocks of a
// UNet run, how deep each layer lies. Depth is the place among the layers that are there, so a
// sequence numbered 0, 2, 4 is three deep; the number of the name is kept beside it.
#include <stdlib.h>
#include <string.h>

#include "merge/model/intern.h"
#include "merge/model/names_seen.h"
#include "vm/base/text.h"

enum { UNET_ORDER = 2 };  // among the orders of names_table.c

// The key of a layer: (stack, number) or (stack, phase, block, part of block).
typedef struct {
    int32_t stack, at[3];
} layer_key;

enum { FIRST = -1, LAST_PART = INT32_MAX - 1, AFTER_ALL = INT32_MAX };  // for layer_key.at

typedef struct {
    const tarn_names_seen *seen;
    tarn_intern stacks, layers, words;
    int32_t *layer_of;                 // [n] id in layers, -1
    int32_t *layer_of_word;            // by id in words
    int32_t *depth;                    // by id in layers
    int32_t *stack_rank, *rank_stack;  // by id in stacks, and back
} engine;

static tarn_status out_of_memory(engine *e) {
    return tarn_raise_nomem(e->seen->err, "the table of names",
                            (unsigned long long)e->seen->n * 16);
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

// ---- which layer ----

// A stack's key: kind, order + 1, then the text before the number.
static tarn_status add_layer(engine *e, int64_t i, tarn_stem_kind kind, int order, const char *stem,
                             size_t len, const int32_t at[3]) {
    char key[TARN_NAMES_SEEN + 2] = {(char)kind, (char)(order + 1)};
    memcpy(key + 2, stem, len);
    bool fresh = false;
    int32_t stack = e->stacks.count < TARN_NAMES_KINDS
                        ? tarn_intern_add(&e->stacks, key, len + 2, &fresh)
                        : tarn_intern_find(&e->stacks, key, len + 2);
    if (stack < 0) {
        return e->stacks.count < TARN_NAMES_KINDS ? out_of_memory(e) : TARN_OK;
    }
    layer_key layer = {stack, {at[0], at[1], at[2]}};
    e->layer_of[i] = tarn_intern_add(&e->layers, (const char *)&layer, sizeof layer, &fresh);
    return e->layer_of[i] < 0 ? out_of_memory(e) : TARN_OK;
}

static tarn_status add_unit(engine *e, int64_t i, const tarn_frame *f, const tarn_number *x) {
    const tarn_unit_row *row = &tarn_unit_rows[f->unit];
    int32_t at[3] = {(int32_t)row->phase, 0, 0};
    for (int g = 0; g < 2; g++) {
        at[1 + g] = f->group[g] >= 0 ? x[f->group[g]].value : 0;
    }
    at[1] = row->first ? FIRST : at[1];
    at[2] = row->kind == TARN_UNIT_AFTER  ? AFTER_ALL
            : row->kind == TARN_UNIT_LAST ? LAST_PART
                                          : at[2];
    return add_layer(e, i, TARN_STEM_NONE, UNET_ORDER, "unet", 4, at);
}

static int first_number(const tarn_frame *f, const tarn_number *x, tarn_stem_kind one,
                        tarn_stem_kind other) {
    for (int k = 0; k < f->count; k++) {
        if ((f->kind[k] == one || f->kind[k] == other) && x[k].value >= 0) {
            return k;
        }
    }
    return -1;
}

static tarn_status add_numbered(engine *e, int64_t i, const tarn_frame *f, const tarn_number *x,
                                int k) {
    return add_layer(e, i, f->kind[k], f->order[k], e->seen->in[i].name, (size_t)x[k].begin,
                     (int32_t[3]){x[k].value, 0, 0});
}

static tarn_status find_stacks(engine *e) {
    for (int64_t i = 0; i < e->seen->n; i++) {
        const tarn_frame *f = e->seen->frames[i];
        if (!f || (f->count == 0 && f->unit < 0)) {
            continue;
        }
        tarn_number x[TARN_NAMES_NUMBERS];
        tarn_numbers_scan(e->seen->in[i].name, (int)e->seen->in[i].len, x);
        if (e->seen->unet && f->unit >= 0) {
            TARN_TRY(add_unit(e, i, f, x));
            continue;
        }
        int k = first_number(f, x, TARN_STEM_STACK, TARN_STEM_TOWER);
        if (k >= 0) {
            TARN_TRY(add_numbered(e, i, f, x, k));
        }
    }
    return TARN_OK;
}

// What a word and those beside it share: the components before it and its number.
static int32_t word_key(engine *e, const char *name, const tarn_number *x, bool add, bool *fresh) {
    char key[TARN_NAMES_SEEN + sizeof x->value];
    int len = x->begin;
    while (len > 0 && name[len - 1] != '.') {
        len--;
    }
    memcpy(key, name, (size_t)len);
    memcpy(key + len, &x->value, sizeof x->value);
    size_t bytes = (size_t)len + sizeof x->value;
    return add ? tarn_intern_add(&e->words, key, bytes, fresh)
               : tarn_intern_find(&e->words, key, bytes);
}

static int order_of_layer(const engine *e, int32_t layer) {
    layer_key key;
    memcpy(&key, e->layers.texts[layer].text, sizeof key);
    return e->stacks.texts[key.stack].text[1];
}

static tarn_status find_words(engine *e) {
    tarn_number x[TARN_NAMES_NUMBERS];
    for (int64_t i = 0; i < e->seen->n; i++) {
        const tarn_frame *f = e->seen->frames[i];
        if (!f) {
            continue;
        }
        tarn_numbers_scan(e->seen->in[i].name, (int)e->seen->in[i].len, x);
        int k = first_number(f, x, TARN_STEM_WORD, TARN_STEM_WORD);
        if (k < 0) {
            continue;
        }
        TARN_TRY(add_numbered(e, i, f, x, k));
        bool fresh = false;
        int32_t layer = e->layer_of[i];
        int32_t word = layer < 0 ? -1 : word_key(e, e->seen->in[i].name, &x[k], true, &fresh);
        if (layer >= 0 && word < 0) {
            return out_of_memory(e);
        }
        if (word >= 0 &&
            (fresh || order_of_layer(e, layer) < order_of_layer(e, e->layer_of_word[word]))) {
            e->layer_of_word[word] = layer;
        }
    }
    for (int64_t i = 0; i < e->seen->n; i++) {
        const tarn_frame *f = e->seen->frames[i];
        if (!f || f->count == 0 || e->layer_of[i] >= 0) {
            continue;
        }
        tarn_numbers_scan(e->seen->in[i].name, (int)e->seen->in[i].len, x);
        int k = first_number(f, x, TARN_STEM_BESIDE, TARN_STEM_BESIDE);
        int32_t word = k < 0 ? -1 : word_key(e, e->seen->in[i].name, &x[k], false, NULL);
        e->layer_of[i] = word < 0 ? -1 : e->layer_of_word[word];
    }
    return TARN_OK;
}

// ---- depths ----

// 2 before 10.
static int natural(const char *a, size_t na, const char *b, size_t nb) {
    size_t i = 0, j = 0;
    while (i < na && j < nb) {
        if (!digit(a[i]) || !digit(b[j])) {
            if (a[i] != b[j]) {
                return (unsigned char)a[i] < (unsigned char)b[j] ? -1 : 1;
            }
            i++;
            j++;
            continue;
        }
        size_t p = i, q = j;
        while (i < na && digit(a[i])) {
            i++;
        }
        while (j < nb && digit(b[j])) {
            j++;
        }
        for (; p < i - 1 && a[p] == '0'; p++) {
        }
        for (; q < j - 1 && b[q] == '0'; q++) {
        }
        int c = i - p != j - q ? (i - p < j - q ? -1 : 1) : memcmp(a + p, b + q, i - p);
        if (c) {
            return c;
        }
    }
    return (na - i > nb - j) - (na - i < nb - j);
}

static int by_order(const void *pa, const void *pb, void *arg) {
    const engine *e = arg;
    const tarn_intern_text *a = &e->stacks.texts[*(const int32_t *)pa];
    const tarn_intern_text *b = &e->stacks.texts[*(const int32_t *)pb];
    if (a->text[1] != b->text[1]) {
        return a->text[1] - b->text[1];
    }
    int c = natural(a->text + 2, a->len - 2, b->text + 2, b->len - 2);
    return c ? c : (*(const int32_t *)pa > *(const int32_t *)pb) - 1;
}

static int by_place(const void *pa, const void *pb, void *arg) {
    const engine *e = arg;
    layer_key a, b;
    memcpy(&a, e->layers.texts[*(const int32_t *)pa].text, sizeof a);
    memcpy(&b, e->layers.texts[*(const int32_t *)pb].text, sizeof b);
    int32_t p = e->stack_rank[a.stack], q = e->stack_rank[b.stack];
    for (int k = 0; p == q && k < 3; k++) {
        p = a.at[k];
        q = b.at[k];
    }
    return (p > q) - (p < q);
}

static tarn_status rank_stacks(engine *e) {
    int32_t n = e->stacks.count;
    e->rank_stack = tarn_arena_take(e->seen->scratch, (size_t)n * sizeof(int32_t) + 1);
    e->stack_rank = tarn_arena_take(e->seen->scratch, (size_t)n * sizeof(int32_t) + 1);
    if (!e->rank_stack || !e->stack_rank) {
        return out_of_memory(e);
    }
    for (int32_t k = 0; k < n; k++) {
        e->rank_stack[k] = k;
    }
    qsort_r(e->rank_stack, (size_t)n, sizeof(int32_t), by_order, e);
    for (int32_t k = 0; k < n; k++) {
        e->stack_rank[e->rank_stack[k]] = k;
    }
    return TARN_OK;
}

// The text before the number as a regular expression for the number.
static char *stack_regex(engine *e, const char *stem, size_t len, bool word) {
    static const char end[] = "([0-9]+)\\.", word_end[] = "([0-9]+)(?:\\.|$)";
    char text[2 * TARN_NAMES_SEEN + sizeof word_end + 1] = "^";
    size_t n = 1;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)stem[i];
        if (c < 0x80 && c != '_' && !digit((char)c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) {
            text[n++] = '\\';
        }
        text[n++] = (char)c;
    }
    const char *tail = word ? word_end : end;
    memcpy(text + n, tail, strlen(tail));
    return tarn_arena_string(e->seen->out->arena, text, n + strlen(tail));
}

static tarn_status name_stack(engine *e, int32_t rank) {
    const tarn_intern_text *key = &e->stacks.texts[e->rank_stack[rank]];
    tarn_name_stack *s = &e->seen->out->stacks[rank];
    const char *stem = key->text + 2;
    size_t len = key->len - 2;
    bool unet = key->text[0] == TARN_STEM_NONE, word = key->text[0] == TARN_STEM_WORD;
    s->name =
        tarn_arena_string(e->seen->out->arena, stem, len && stem[len - 1] == '.' ? len - 1 : len);
    s->regex = unet ? "" : stack_regex(e, stem, len, word);
    return s->name && s->regex ? TARN_OK : out_of_memory(e);
}

// "IN00" … "M00" … "OUT11"; `order` holds the layers from the front of the stack on.
static tarn_status label_units(engine *e, tarn_name_stack *s, const int32_t *order, int32_t n) {
    static const char *const phases[] = {"", "IN", "M", "OUT"};
    const char **labels = tarn_arena_take(e->seen->out->arena, (size_t)s->count * sizeof *labels);
    int seen[4] = {0}, last = -1;
    for (int32_t k = 0; labels && k < n; k++) {
        layer_key key;
        memcpy(&key, e->layers.texts[order[k]].text, sizeof key);
        int at = e->depth[order[k]] - s->depth_first;
        if (at == last) {
            continue;
        }
        last = at;
        tarn_text t;
        tarn_text_init(&t, &e->seen->cx->budget);
        tarn_text_printf(&t, "%s%02d", phases[key.at[0]], seen[key.at[0]]++);
        labels[at] = t.failed ? NULL : tarn_arena_string(e->seen->out->arena, t.data, t.len);
        tarn_text_free(&t);
        if (!labels[at]) {
            return out_of_memory(e);
        }
    }
    s->labels = labels;
    return labels ? TARN_OK : out_of_memory(e);
}

// Does this layer go on where the one before it in order stands? The last part of a block does.
static bool same_depth(const layer_key *a, const layer_key *b) {
    return b->at[2] == LAST_PART && a->stack == b->stack && a->at[0] == b->at[0] &&
           a->at[1] == b->at[1] && a->at[2] < LAST_PART;
}

// Depths of one stack, whose layers stand at the front of `order`; returns how many there were.
static int32_t fill_stack(engine *e, int32_t rank, int first, const int32_t *order, int32_t n) {
    tarn_name_stack *s = &e->seen->out->stacks[rank];
    layer_key before = {-1, {0}};
    int32_t k = 0;
    s->depth_first = first;
    for (; k < n; k++) {
        layer_key key;
        memcpy(&key, e->layers.texts[order[k]].text, sizeof key);
        if (e->stack_rank[key.stack] != rank) {
            break;
        }
        s->count += k == 0 || !same_depth(&before, &key);
        e->depth[order[k]] = first + s->count - 1;
        before = key;
    }
    s->depth_last = first + s->count - 1;
    return k;
}

static tarn_status find_depths(engine *e) {
    TARN_TRY(rank_stacks(e));
    int32_t n = e->layers.count;
    tarn_names *out = e->seen->out;
    int32_t *order = tarn_arena_take(e->seen->scratch, (size_t)n * sizeof *order + 1);
    e->depth = tarn_arena_take(e->seen->scratch, (size_t)n * sizeof *e->depth + 1);
    out->nstacks = e->stacks.count;
    size_t bytes = (size_t)out->nstacks * sizeof *out->stacks;
    out->stacks = tarn_arena_take(out->arena, bytes + 1);
    if (!order || !e->depth || !out->stacks) {
        return out_of_memory(e);
    }
    memset(out->stacks, 0, bytes);
    for (int32_t k = 0; k < n; k++) {
        order[k] = k;
    }
    qsort_r(order, (size_t)n, sizeof *order, by_place, e);
    int next = 0;
    for (int32_t rank = 0; rank < out->nstacks; rank++) {
        char kind = e->stacks.texts[e->rank_stack[rank]].text[0];
        tarn_name_stack *s = &out->stacks[rank];
        TARN_TRY(name_stack(e, rank));
        int32_t took = fill_stack(e, rank, kind == TARN_STEM_TOWER ? 0 : next, order, n);
        if (kind == TARN_STEM_NONE) {
            TARN_TRY(label_units(e, s, order, took));
        }
        next = kind == TARN_STEM_TOWER ? next : s->depth_last + 1;
        out->ndepth = s->depth_last + 1 > out->ndepth ? s->depth_last + 1 : out->ndepth;
        order += took;
        n -= took;
    }
    return TARN_OK;
}

static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

// Outside the layers the place says more than the role, but of norms and adapters.
static const char *outer_role(tarn_place place, const char *role) {
    bool plain = place == TARN_PLACE_EMBED || place == TARN_PLACE_FINAL || place == TARN_PLACE_HEAD;
    return plain && !starts(role, "norm") && !starts(role, "adapter") ? tarn_place_name(place)
                                                                      : role;
}

static void settle(engine *e) {
    for (int64_t i = 0; i < e->seen->n; i++) {
        tarn_name_info *info = &e->seen->out->info[i];
        if (e->layer_of[i] < 0) {
            info->role = outer_role(info->place, info->role);
            continue;
        }
        layer_key key;
        memcpy(&key, e->layers.texts[e->layer_of[i]].text, sizeof key);
        info->place = TARN_PLACE_LAYER;
        info->stack = e->stack_rank[key.stack];
        info->depth = e->depth[e->layer_of[i]];
        const tarn_name_stack *s = &e->seen->out->stacks[info->stack];
        info->layer = s->labels ? info->depth - s->depth_first : key.at[0];
    }
}

// ---- all of it ----

tarn_status tarn_names_layers(const tarn_names_seen *seen) {
    engine e = {.seen = seen};
    e.stacks.arena = e.layers.arena = e.words.arena = seen->scratch;
    size_t bytes = (size_t)seen->n * sizeof *e.layer_of;
    e.layer_of = tarn_arena_take(seen->scratch, bytes + 1);
    e.layer_of_word = tarn_arena_take(seen->scratch, bytes + 1);
    if (!e.layer_of || !e.layer_of_word) {
        return out_of_memory(&e);
    }
    memset(e.layer_of, 0xff, bytes);
    TARN_TRY(find_stacks(&e));
    if (e.stacks.count == 0) {
        TARN_TRY(find_words(&e));
    }
    TARN_TRY(find_depths(&e));
    settle(&e);
    return TARN_OK;
}
