// SPDX-License-Identifier: Apache-2.0
// The engine that reads the rows of names_table.c; it knows no family. Nothing here trusts a name:
// long ones, odd ones and shapes beyond a fixed count go unrecognised, which costs their owner
// schedules by depth and nothing else.
//
// The trick is that thousands of names have few shapes. A name with every run of digits written as 0
// is its frame: which of its numbers count layers, experts or blocks is found once per frame. A name
// with those numbers alone written as 0 is its shape: role, place and buffer are found once per
// shape (other numbers matter there: fc1 goes up, fc2 down). What is left for each name is scanning
// it, two look-ups, and the layer's number.
#include "merge/model/names.h"

#include <stdlib.h>
#include <string.h>

#include "merge/model/intern.h"
#include "merge/model/names_table.h"
#include "merge/model/regex.h"
#include "vm/base/text.h"

enum {
    SEEN = 256,     // bytes: longer names are not looked at
    NUMBERS = 12,   // of one name
    FRAMES = 4096,  // of one model; so are shapes and stacks bounded
    UNET_ORDER = 2  // among the orders of names_table.c
};

typedef struct {
    int begin, end;
    int32_t value;  // -1: more than nine digits
    bool whole;     // a component of its own, not the end of a word
} number;

typedef struct {
    int count;  // of numbers
    tarn_stem_kind kind[NUMBERS];
    signed char order[NUMBERS];
    int unit;      // row of tarn_unit_rows, -1
    int group[2];  // which numbers its groups are, -1
    unsigned blank;  // bit k: number k is written as 0 in the shape
} frame;

typedef struct {
    const char *role;
    tarn_place place;
    int buffer_rank;  // a buffer from this rank on; -1: none
} shape;

// Where a name stands, the key of a layer: (stack, number) or (stack, phase, block, part of block).
typedef struct {
    int32_t stack, at[3];
} layer_key;

enum { FIRST = -1, LAST_PART = INT32_MAX - 1, AFTER_ALL = INT32_MAX };  // for layer_key.at

typedef enum { STEMS, UNITS, ROLES, PLACES, BUFFERS, TABLES } table;

typedef struct {
    tarn_context *cx;
    tarn_error *err;
    tarn_arena scratch;
    tarn_regex_env env;
    pcre2_code **code[TABLES];  // compiled on first need
    int rows[TABLES];
    int64_t n;
    const tarn_name_in *in;
    tarn_names *out;

    tarn_intern frames, shapes, stacks, layers, words;
    frame **frame_of_id;
    shape **shape_of_id;
    const frame **frames_of;  // [n], NULL: not looked at
    int32_t *layer_of;        // [n] id in layers, -1
    int32_t *layer_of_word;   // by id in words
    bool unet;
    int32_t *depth;      // by id in layers
    int32_t *stack_rank, *rank_stack;  // by id in stacks, and back
} engine;

static const char *pattern(table t, int row) {
    switch (t) {
    case STEMS: return tarn_stem_rows[row].regex;
    case UNITS: return tarn_unit_rows[row].regex;
    case ROLES: return tarn_role_rows[row].regex;
    case PLACES: return tarn_place_rows[row].regex;
    case BUFFERS: return tarn_buffer_rows[row].regex;
    default: return NULL;
    }
}

static tarn_status out_of_memory(engine *e) {
    return tarn_raise_nomem(e->err, "the table of names", (unsigned long long)e->n * 16);
}

// The first row that matches, -1: none. A name on which a pattern takes too many steps is a name
// that the pattern does not know.
static tarn_status first_row(engine *e, table t, const char *text, size_t len, int *row) {
    for (*row = 0; *row < e->rows[t]; ++*row) {
        const char *p = pattern(t, *row);
        pcre2_code **code = &e->code[t][*row];
        if (!*code) {
            TARN_TRY(tarn_regex_compile(&e->env, p, strlen(p), false, code, e->err));
        }
        int answer = tarn_regex_search(&e->env, *code, text, len);
        if (answer > 0) {
            return TARN_OK;
        }
        if (answer == PCRE2_ERROR_NOMEMORY) {
            return tarn_regex_failed(&e->env, answer, p, strlen(p), text, len, e->err);
        }
    }
    *row = -1;
    return TARN_OK;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

// The numbers that end a component.
static int scan(const char *s, int len, number *out) {
    int n = 0;
    for (int i = 0; i < len && n < NUMBERS; i++) {
        if (!digit(s[i])) {
            continue;
        }
        int begin = i;
        int64_t value = 0;
        while (i < len && digit(s[i])) {
            value = value < 1000000000 ? value * 10 + (s[i] - '0') : value;
            i++;
        }
        if (i == len || s[i] == '.') {
            out[n++] = (number){begin, i, value < 1000000000 ? (int32_t)value : -1,
                                begin == 0 || s[begin - 1] == '.'};
        }
    }
    return n;
}

// ---- frames ----

static int frame_text(const char *s, int len, char *out) {
    int n = 0;
    for (int i = 0; i < len; i++) {
        if (!digit(s[i])) {
            out[n++] = s[i];
        } else if (i == 0 || !digit(s[i - 1])) {
            out[n++] = '0';
        }
    }
    return n;
}

static int number_at(const number *x, int n, size_t offset) {
    for (int k = 0; k < n; k++) {
        if ((size_t)x[k].begin == offset) {
            return k;
        }
    }
    return -1;
}

static tarn_status find_unit(engine *e, const char *text, int len, const number *x, frame *f) {
    f->group[0] = f->group[1] = -1;
    TARN_TRY(first_row(e, UNITS, text, (size_t)len, &f->unit));
    if (f->unit < 0) {
        return TARN_OK;
    }
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(e->env.data);
    uint32_t groups = pcre2_get_ovector_count(e->env.data);
    for (uint32_t g = 1; g < groups && g <= 2; g++) {
        int k = span[2 * g] == PCRE2_UNSET ? -1 : number_at(x, f->count, span[2 * g]);
        f->group[g - 1] = k;
        f->blank |= k >= 0 ? 1U << k : 0;
    }
    e->unet = e->unet || tarn_unit_rows[f->unit].witness;
    return TARN_OK;
}

static tarn_status make_frame(engine *e, const char *text, int len, frame *f) {
    number x[NUMBERS];
    f->count = scan(text, len, x);
    f->blank = 0;
    for (int k = 0; k < f->count; k++) {
        int row;
        TARN_TRY(first_row(e, STEMS, text, (size_t)x[k].begin, &row));
        f->kind[k] = row < 0 ? TARN_STEM_NONE : tarn_stem_rows[row].kind;
        f->order[k] = (signed char)(row < 0 ? 0 : tarn_stem_rows[row].order);
        f->blank |= row >= 0 && x[k].whole ? 1U << k : 0;
    }
    return find_unit(e, text, len, x, f);
}

static tarn_status frame_of(engine *e, const tarn_name_in *t, const frame **out) {
    char text[SEEN];
    *out = NULL;
    if (t->len > SEEN || memchr(t->name, '\0', t->len)) {
        return TARN_OK;
    }
    int len = frame_text(t->name, (int)t->len, text);
    bool fresh = false;
    int32_t id = e->frames.count < FRAMES
                     ? tarn_intern_add(&e->frames, text, (size_t)len, &fresh)
                     : tarn_intern_find(&e->frames, text, (size_t)len);
    if (id < 0) {
        return e->frames.count < FRAMES ? out_of_memory(e) : TARN_OK;
    }
    if (fresh) {
        TARN_TRY(tarn_cancel_check(&e->cx->cancel, e->err));
        frame *f = tarn_arena_take(&e->scratch, sizeof *f);
        if (!f) {
            return out_of_memory(e);
        }
        TARN_TRY(make_frame(e, text, len, f));
        e->frame_of_id[id] = f;
    }
    *out = e->frame_of_id[id];
    return TARN_OK;
}

// ---- shapes ----

static int shape_text(const char *s, int len, const frame *f, const number *x, char *out) {
    int n = 0, at = 0;
    for (int k = 0; k < f->count; k++) {
        if (f->blank >> k & 1U) {
            memcpy(out + n, s + at, (size_t)(x[k].begin - at));
            n += x[k].begin - at;
            out[n++] = '0';
            at = x[k].end;
        }
    }
    memcpy(out + n, s + at, (size_t)(len - at));
    return n + len - at;
}

static tarn_status make_shape(engine *e, const char *text, int len, shape *s) {
    int role, place, buffer;
    TARN_TRY(first_row(e, ROLES, text, (size_t)len, &role));
    TARN_TRY(first_row(e, PLACES, text, (size_t)len, &place));
    TARN_TRY(first_row(e, BUFFERS, text, (size_t)len, &buffer));
    s->role = role < 0 ? "" : tarn_role_rows[role].role;
    s->place = place < 0 ? TARN_PLACE_OTHER : tarn_place_rows[place].place;
    s->buffer_rank = buffer < 0 ? -1 : tarn_buffer_rows[buffer].rank;
    return TARN_OK;
}

static tarn_status shape_of(engine *e, const tarn_name_in *t, const frame *f, const number *x,
                            const shape **out) {
    static const shape unknown = {"", TARN_PLACE_OTHER, -1};
    char text[SEEN];
    int len = shape_text(t->name, (int)t->len, f, x, text);
    bool fresh = false;
    int32_t id = e->shapes.count < FRAMES
                     ? tarn_intern_add(&e->shapes, text, (size_t)len, &fresh)
                     : tarn_intern_find(&e->shapes, text, (size_t)len);
    if (id < 0) {
        *out = &unknown;
        return e->shapes.count < FRAMES ? out_of_memory(e) : TARN_OK;
    }
    if (fresh) {
        TARN_TRY(tarn_cancel_check(&e->cx->cancel, e->err));
        shape *s = tarn_arena_take(&e->scratch, sizeof *s);
        if (!s) {
            return out_of_memory(e);
        }
        TARN_TRY(make_shape(e, text, len, s));
        e->shape_of_id[id] = s;
    }
    *out = e->shape_of_id[id];
    return TARN_OK;
}

// What a name says by itself.
static tarn_status describe(engine *e, int64_t i) {
    const tarn_name_in *t = &e->in[i];
    tarn_name_info *info = &e->out->info[i];
    *info = (tarn_name_info){TARN_PLACE_OTHER, -1, -1, -1, -1, "", false};
    info->buffer = !tarn_dtype_is_float(t->dtype) && tarn_dtype_get(t->dtype)->kind != TARN_KIND_OPAQUE;
    const frame *f;
    TARN_TRY(frame_of(e, t, &f));
    e->frames_of[i] = f;
    e->layer_of[i] = -1;
    if (!f) {
        return TARN_OK;
    }
    number x[NUMBERS];
    scan(t->name, (int)t->len, x);
    const shape *s;
    TARN_TRY(shape_of(e, t, f, x, &s));
    info->place = s->place;
    info->role = s->role;
    info->buffer = info->buffer || (s->buffer_rank >= 0 && t->rank >= s->buffer_rank);
    for (int k = f->count - 1; k >= 0; k--) {
        info->expert = f->kind[k] == TARN_STEM_EXPERT ? x[k].value : info->expert;
    }
    return TARN_OK;
}

// ---- layers ----

// A stack's key: kind, order + 1, then the text before the number.
static tarn_status add_layer(engine *e, int64_t i, tarn_stem_kind kind, int order, const char *stem,
                             size_t len, const int32_t at[3]) {
    char key[SEEN + 2] = {(char)kind, (char)(order + 1)};
    memcpy(key + 2, stem, len);
    bool fresh = false;
    int32_t stack = e->stacks.count < FRAMES
                        ? tarn_intern_add(&e->stacks, key, len + 2, &fresh)
                        : tarn_intern_find(&e->stacks, key, len + 2);
    if (stack < 0) {
        return e->stacks.count < FRAMES ? out_of_memory(e) : TARN_OK;
    }
    layer_key layer = {stack, {at[0], at[1], at[2]}};
    e->layer_of[i] = tarn_intern_add(&e->layers, (const char *)&layer, sizeof layer, &fresh);
    return e->layer_of[i] < 0 ? out_of_memory(e) : TARN_OK;
}

static tarn_status add_unit(engine *e, int64_t i, const frame *f, const number *x) {
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

static int first_number(const frame *f, const number *x, tarn_stem_kind one, tarn_stem_kind other) {
    for (int k = 0; k < f->count; k++) {
        if ((f->kind[k] == one || f->kind[k] == other) && x[k].value >= 0) {
            return k;
        }
    }
    return -1;
}

static tarn_status add_numbered(engine *e, int64_t i, const frame *f, const number *x, int k) {
    return add_layer(e, i, f->kind[k], f->order[k], e->in[i].name, (size_t)x[k].begin,
                     (int32_t[3]){x[k].value, 0, 0});
}

static tarn_status find_stacks(engine *e) {
    for (int64_t i = 0; i < e->n; i++) {
        const frame *f = e->frames_of[i];
        if (!f || (f->count == 0 && f->unit < 0)) {
            continue;
        }
        number x[NUMBERS];
        scan(e->in[i].name, (int)e->in[i].len, x);
        if (e->unet && f->unit >= 0) {
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
static int32_t word_key(engine *e, const char *name, const number *x, bool add, bool *fresh) {
    char key[SEEN + sizeof x->value];
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
    number x[NUMBERS];
    for (int64_t i = 0; i < e->n; i++) {
        const frame *f = e->frames_of[i];
        int k = f && f->count ? (scan(e->in[i].name, (int)e->in[i].len, x),
                                 first_number(f, x, TARN_STEM_WORD, TARN_STEM_WORD))
                              : -1;
        if (k < 0) {
            continue;
        }
        TARN_TRY(add_numbered(e, i, f, x, k));
        bool fresh = false;
        int32_t layer = e->layer_of[i];
        int32_t word = layer < 0 ? -1 : word_key(e, e->in[i].name, &x[k], true, &fresh);
        if (layer >= 0 && word < 0) {
            return out_of_memory(e);
        }
        if (word >= 0 && (fresh || order_of_layer(e, layer) <
                                       order_of_layer(e, e->layer_of_word[word]))) {
            e->layer_of_word[word] = layer;
        }
    }
    for (int64_t i = 0; i < e->n; i++) {
        const frame *f = e->frames_of[i];
        if (!f || f->count == 0 || e->layer_of[i] >= 0) {
            continue;
        }
        scan(e->in[i].name, (int)e->in[i].len, x);
        int k = first_number(f, x, TARN_STEM_BESIDE, TARN_STEM_BESIDE);
        int32_t word = k < 0 ? -1 : word_key(e, e->in[i].name, &x[k], false, NULL);
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
    e->rank_stack = tarn_arena_take(&e->scratch, (size_t)n * sizeof(int32_t) + 1);
    e->stack_rank = tarn_arena_take(&e->scratch, (size_t)n * sizeof(int32_t) + 1);
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
    char text[2 * SEEN + sizeof word_end + 1] = "^";
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
    return tarn_arena_string(e->out->arena, text, n + strlen(tail));
}

static tarn_status name_stack(engine *e, int32_t rank) {
    const tarn_intern_text *key = &e->stacks.texts[e->rank_stack[rank]];
    tarn_name_stack *s = &e->out->stacks[rank];
    const char *stem = key->text + 2;
    size_t len = key->len - 2;
    bool unet = key->text[0] == TARN_STEM_NONE, word = key->text[0] == TARN_STEM_WORD;
    s->name = tarn_arena_string(e->out->arena, stem, len && stem[len - 1] == '.' ? len - 1 : len);
    s->regex = unet ? "" : stack_regex(e, stem, len, word);
    return s->name && s->regex ? TARN_OK : out_of_memory(e);
}

// "IN00" … "M00" … "OUT11"; `order` holds the layers from the front of the stack on.
static tarn_status label_units(engine *e, tarn_name_stack *s, const int32_t *order, int32_t n) {
    static const char *const phases[] = {"", "IN", "M", "OUT"};
    const char **labels = tarn_arena_take(e->out->arena, (size_t)s->count * sizeof *labels);
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
        tarn_text_init(&t, &e->cx->budget);
        tarn_text_printf(&t, "%s%02d", phases[key.at[0]], seen[key.at[0]]++);
        labels[at] = t.failed ? NULL : tarn_arena_string(e->out->arena, t.data, t.len);
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
    tarn_name_stack *s = &e->out->stacks[rank];
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
    tarn_names *out = e->out;
    int32_t *order = tarn_arena_take(&e->scratch, (size_t)n * sizeof *order + 1);
    e->depth = tarn_arena_take(&e->scratch, (size_t)n * sizeof *e->depth + 1);
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
    return plain && !starts(role, "norm") && !starts(role, "adapter") ? tarn_place_name(place) : role;
}

static void settle(engine *e) {
    for (int64_t i = 0; i < e->n; i++) {
        tarn_name_info *info = &e->out->info[i];
        if (e->layer_of[i] < 0) {
            info->role = outer_role(info->place, info->role);
            continue;
        }
        layer_key key;
        memcpy(&key, e->layers.texts[e->layer_of[i]].text, sizeof key);
        info->place = TARN_PLACE_LAYER;
        info->stack = e->stack_rank[key.stack];
        info->depth = e->depth[e->layer_of[i]];
        const tarn_name_stack *s = &e->out->stacks[info->stack];
        info->layer = s->labels ? info->depth - s->depth_first : key.at[0];
    }
}

// ---- all of it ----

static tarn_status prepare(engine *e) {
    tarn_intern *all[] = {&e->frames, &e->shapes, &e->stacks, &e->layers, &e->words};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        all[k]->arena = &e->scratch;
    }
    for (table t = 0; t < TABLES; t++) {
        while (pattern(t, e->rows[t])) {
            e->rows[t]++;
        }
        size_t bytes = (size_t)e->rows[t] * sizeof *e->code[t];
        e->code[t] = tarn_arena_take(&e->scratch, bytes);
        if (!e->code[t]) {
            return out_of_memory(e);
        }
        memset(e->code[t], 0, bytes);
    }
    size_t n = (size_t)e->n;
    e->frame_of_id = tarn_arena_take(&e->scratch, FRAMES * sizeof *e->frame_of_id);
    e->shape_of_id = tarn_arena_take(&e->scratch, FRAMES * sizeof *e->shape_of_id);
    e->frames_of = tarn_arena_take(&e->scratch, n * sizeof *e->frames_of + 1);
    e->layer_of = tarn_arena_take(&e->scratch, n * sizeof *e->layer_of + 1);
    e->layer_of_word = tarn_arena_take(&e->scratch, n * sizeof *e->layer_of_word + 1);
    e->out->info = tarn_arena_take(e->out->arena, n * sizeof *e->out->info + 1);
    if (!e->frame_of_id || !e->shape_of_id || !e->frames_of || !e->layer_of || !e->layer_of_word ||
        !e->out->info) {
        return out_of_memory(e);
    }
    return tarn_regex_open(&e->env, &e->cx->budget, e->err);
}

static tarn_status find(engine *e) {
    TARN_TRY(prepare(e));
    for (int64_t i = 0; i < e->n; i++) {
        TARN_TRY(describe(e, i));
    }
    TARN_TRY(find_stacks(e));
    if (e->stacks.count == 0) {
        TARN_TRY(find_words(e));
    }
    TARN_TRY(find_depths(e));
    settle(e);
    return TARN_OK;
}

static void close_engine(engine *e) {
    for (table t = 0; t < TABLES; t++) {
        for (int k = 0; e->code[t] && k < e->rows[t]; k++) {
            pcre2_code_free(e->code[t][k]);
        }
    }
    tarn_regex_close(&e->env);
    tarn_arena_free(&e->scratch);
}

tarn_status tarn_names_find(tarn_context *cx, tarn_arena *arena, int64_t n, const tarn_name_in *in,
                            const char *config, size_t config_len, tarn_names *out,
                            tarn_error *err) {
    *out = (tarn_names){.arena = arena, .n = n, .model_type = ""};
    engine e = {.cx = cx, .err = err, .n = n, .in = in, .out = out};
    tarn_arena_init(&e.scratch, &cx->budget);
    tarn_status s = find(&e);
    if (s == TARN_OK) {
        s = tarn_names_ties(cx, &e.env, n, in, config, config_len, out, err);
    }
    close_engine(&e);
    return s;
}

const char *tarn_place_name(tarn_place p) {
    static const char *const names[] = {"layer", "embed", "final", "head", "transition", "other"};
    return (unsigned)p < sizeof names / sizeof *names ? names[p] : "other";
}
