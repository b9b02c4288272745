// SPDX-License-Identifier: Apache-2.0
// The engine that reads the rows of names_table.c; it knows no family. Nothing here trusts a name:
// long ones, odd ones and shapes beyond a fixed count go unrecognised, which costs their owner
// schedules by depth and nothing else.
//
// The trick is that thousands of names have few shapes. A name with every run of digits written as
// 0 is its frame: which of its numbers count layers, experts or blocks is found once per frame. A
// name with those numbers alone written as 0 is its shape: role, place and buffer are found once
// per shape (other numbers matter there: fc1 goes up, fc2 down). What is left for each name is
// scanning it, two look-ups, and the layer's number.
#include "merge/model/names.h"

#include <stdlib.h>
#include <string.h>

#include "merge/model/intern.h"
#include "merge/model/names_seen.h"
#include "merge/model/regex.h"

typedef struct {
    const char *role;
    tarn_place place;
    int buffer_rank;  // a buffer from this rank on; -1: none
    bool tokenless;
} shape;

typedef enum { STEMS, UNITS, ROLES, PLACES, BUFFERS, TOKENLESS, TABLES } table;

typedef struct {
    tarn_names_seen seen;
    tarn_arena scratch;
    tarn_regex_env env;
    pcre2_code **code[TABLES];  // compiled on first need
    int rows[TABLES];
    tarn_intern frames, shapes;
    tarn_frame **frame_of_id;
    shape **shape_of_id;
} engine;

static const char *pattern(table t, int row) {
    switch (t) {
    case STEMS: return tarn_stem_rows[row].regex;
    case UNITS: return tarn_unit_rows[row].regex;
    case ROLES: return tarn_role_rows[row].regex;
    case PLACES: return tarn_place_rows[row].regex;
    case BUFFERS: return tarn_buffer_rows[row].regex;
    case TOKENLESS: return tarn_tokenless_rows[row];
    default: return NULL;
    }
}

static tarn_status out_of_memory(engine *e) {
    return tarn_raise_nomem(e->seen.err, "the table of names", (unsigned long long)e->seen.n * 16);
}

// The first row that matches, -1: none. A name on which a pattern takes too many steps is a name
// that the pattern does not know.
static tarn_status first_row(engine *e, table t, const char *text, size_t len, int *row) {
    for (*row = 0; *row < e->rows[t]; ++*row) {
        const char *p = pattern(t, *row);
        pcre2_code **code = &e->code[t][*row];
        if (!*code) {
            TARN_TRY(tarn_regex_compile(&e->env, p, strlen(p), false, code, e->seen.err));
        }
        int answer = tarn_regex_search(&e->env, *code, text, len);
        if (answer > 0) {
            return TARN_OK;
        }
        if (answer == PCRE2_ERROR_NOMEMORY) {
            return tarn_regex_failed(&e->env, answer, p, strlen(p), text, len, e->seen.err);
        }
    }
    *row = -1;
    return TARN_OK;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

// The numbers that end a component.
int tarn_numbers_scan(const char *s, int len, tarn_number *out) {
    int n = 0;
    for (int i = 0; i < len && n < TARN_NAMES_NUMBERS; i++) {
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
            out[n++] = (tarn_number){begin, i, value < 1000000000 ? (int32_t)value : -1,
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

static int number_at(const tarn_number *x, int n, size_t offset) {
    for (int k = 0; k < n; k++) {
        if ((size_t)x[k].begin == offset) {
            return k;
        }
    }
    return -1;
}

static tarn_status find_unit(engine *e, const char *text, int len, const tarn_number *x,
                             tarn_frame *f) {
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
    e->seen.unet = e->seen.unet || tarn_unit_rows[f->unit].witness;
    return TARN_OK;
}

static tarn_status make_frame(engine *e, const char *text, int len, tarn_frame *f) {
    tarn_number x[TARN_NAMES_NUMBERS];
    f->count = tarn_numbers_scan(text, len, x);
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

static tarn_status frame_of(engine *e, const tarn_name_in *t, const tarn_frame **out) {
    char text[TARN_NAMES_SEEN];
    *out = NULL;
    if (t->len > TARN_NAMES_SEEN || memchr(t->name, '\0', t->len)) {
        return TARN_OK;
    }
    int len = frame_text(t->name, (int)t->len, text);
    bool fresh = false;
    int32_t id = e->frames.count < TARN_NAMES_KINDS
                     ? tarn_intern_add(&e->frames, text, (size_t)len, &fresh)
                     : tarn_intern_find(&e->frames, text, (size_t)len);
    if (id < 0) {
        return e->frames.count < TARN_NAMES_KINDS ? out_of_memory(e) : TARN_OK;
    }
    if (fresh) {
        TARN_TRY(tarn_cancel_check(&e->seen.cx->cancel, e->seen.err));
        tarn_frame *f = tarn_arena_take(&e->scratch, sizeof *f);
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

static int shape_text(const char *s, int len, const tarn_frame *f, const tarn_number *x,
                      char *out) {
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
    int role, place, buffer, tokenless;
    TARN_TRY(first_row(e, ROLES, text, (size_t)len, &role));
    TARN_TRY(first_row(e, PLACES, text, (size_t)len, &place));
    TARN_TRY(first_row(e, BUFFERS, text, (size_t)len, &buffer));
    TARN_TRY(first_row(e, TOKENLESS, text, (size_t)len, &tokenless));
    s->role = role < 0 ? "" : tarn_role_rows[role].role;
    s->place = place < 0 ? TARN_PLACE_OTHER : tarn_place_rows[place].place;
    s->buffer_rank = buffer < 0 ? -1 : tarn_buffer_rows[buffer].rank;
    s->tokenless = tokenless >= 0;
    return TARN_OK;
}

static tarn_status shape_of(engine *e, const tarn_name_in *t, const tarn_frame *f,
                            const tarn_number *x, const shape **out) {
    static const shape unknown = {"", TARN_PLACE_OTHER, -1, true};
    char text[TARN_NAMES_SEEN];
    int len = shape_text(t->name, (int)t->len, f, x, text);
    bool fresh = false;
    int32_t id = e->shapes.count < TARN_NAMES_KINDS
                     ? tarn_intern_add(&e->shapes, text, (size_t)len, &fresh)
                     : tarn_intern_find(&e->shapes, text, (size_t)len);
    if (id < 0) {
        *out = &unknown;
        return e->shapes.count < TARN_NAMES_KINDS ? out_of_memory(e) : TARN_OK;
    }
    if (fresh) {
        TARN_TRY(tarn_cancel_check(&e->seen.cx->cancel, e->seen.err));
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
    const tarn_name_in *t = &e->seen.in[i];
    tarn_name_info *info = &e->seen.out->info[i];
    *info = (tarn_name_info){TARN_PLACE_OTHER, -1, -1, -1, -1, "", false, false};
    info->buffer =
        !tarn_dtype_is_float(t->dtype) && tarn_dtype_get(t->dtype)->kind != TARN_KIND_OPAQUE;
    const tarn_frame *f;
    TARN_TRY(frame_of(e, t, &f));
    e->seen.frames[i] = f;
    if (!f) {
        return TARN_OK;
    }
    tarn_number x[TARN_NAMES_NUMBERS];
    tarn_numbers_scan(t->name, (int)t->len, x);
    const shape *s;
    TARN_TRY(shape_of(e, t, f, x, &s));
    info->place = s->place;
    info->role = s->role;
    info->tokens = !s->tokenless;
    info->buffer = info->buffer || (s->buffer_rank >= 0 && t->rank >= s->buffer_rank);
    for (int k = f->count - 1; k >= 0; k--) {
        info->expert = f->kind[k] == TARN_STEM_EXPERT ? x[k].value : info->expert;
    }
    return TARN_OK;
}

// ---- all of it ----

static tarn_status prepare(engine *e) {
    e->frames.arena = e->shapes.arena = &e->scratch;
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
    size_t n = (size_t)e->seen.n;
    tarn_names *out = e->seen.out;
    e->frame_of_id = tarn_arena_take(&e->scratch, TARN_NAMES_KINDS * sizeof *e->frame_of_id);
    e->shape_of_id = tarn_arena_take(&e->scratch, TARN_NAMES_KINDS * sizeof *e->shape_of_id);
    e->seen.frames = tarn_arena_take(&e->scratch, n * sizeof *e->seen.frames + 1);
    out->info = tarn_arena_take(out->arena, n * sizeof *out->info + 1);
    if (!e->frame_of_id || !e->shape_of_id || !e->seen.frames || !out->info) {
        return out_of_memory(e);
    }
    return tarn_regex_open(&e->env, &e->seen.cx->budget, e->seen.err);
}

static tarn_status find(engine *e) {
    TARN_TRY(prepare(e));
    for (int64_t i = 0; i < e->seen.n; i++) {
        TARN_TRY(describe(e, i));
    }
    return tarn_names_layers(&e->seen);
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
    engine e = {0};
    tarn_arena_init(&e.scratch, &cx->budget);
    e.seen = (tarn_names_seen){
        .cx = cx, .err = err, .scratch = &e.scratch, .n = n, .in = in, .out = out};
    tarn_status s = find(&e);
    if (s == TARN_OK) {
        s = tarn_names_ties(cx, &e.env, n, in, config, config_len, out, err);
    }
    if (s == TARN_OK) {
        s = tarn_names_declared(cx, config, config_len, n, in, out, err);
    }
    close_engine(&e);
    return s;
}

const char *tarn_place_name(tarn_place p) {
    static const char *const names[] = {"layer", "embed", "final", "head", "transition", "other"};
    return (unsigned)p < sizeof names / sizeof *names ? names[p] : "other";
}
