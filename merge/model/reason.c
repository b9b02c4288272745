// SPDX-License-Identifier: Apache-2.0
// What may be behind a difference between two models: a prefix, a depth, experts, fused
// projections, ties, transposed weights, vocabularies. Each looks at the same lists and either
// keeps silent or says what it found in figures that it has checked. Which roles are fused and
// which names are tied is data (names_table.c).
#include <stdlib.h>
#include <string.h>

#include "merge/model/differ.h"
#include "merge/model/intern.h"
#include "merge/model/names_table.h"
#include "vm/base/size.h"

// ---- one renamed prefix ----

enum { PREFIX_PARTS = 3, PREFIX_MAX = 128, PREFIX_CHOICES = 16, SAMPLES = 64, NAME_MOST = 512 };

typedef struct {
    const char *text;
    size_t len;
} piece;

// Nothing, and the first components of some names.
static int prefixes(const tarn_differ_side *x, piece *out) {
    int n = 0;
    out[n++] = (piece){"", 0};
    const int64_t samples[] = {0, x->n / 2, x->n - 1};
    for (int s = 0; s < 3; s++) {
        const tarn_slot *t = &x->model->slots[x->only[samples[s]]];
        int parts = 0;
        for (size_t i = 0; i < t->len && i < PREFIX_MAX && parts < PREFIX_PARTS; i++) {
            if (t->name[i] != '.') {
                continue;
            }
            parts++;
            bool known = false;
            for (int k = 0; k < n; k++) {
                known = known || (out[k].len == i + 1 && memcmp(out[k].text, t->name, i + 1) == 0);
            }
            if (!known && n < PREFIX_CHOICES) {
                out[n++] = (piece){t->name, i + 1};
            }
        }
    }
    return n;
}

// The slot of b that s would be under b's prefix, -1.
static int64_t renamed(const tarn_slot *s, piece pa, piece pb, const tarn_model *b) {
    char name[NAME_MOST];
    if (s->len < pa.len || memcmp(s->name, pa.text, pa.len) != 0 ||
        s->len - pa.len + pb.len > sizeof name) {
        return -1;
    }
    memcpy(name, pb.text, pb.len);
    memcpy(name + pb.len, s->name + pa.len, s->len - pa.len);
    return tarn_model_find(b, name, s->len - pa.len + pb.len);
}

static int64_t score(const tarn_differ *d, piece pa, piece pb, int64_t step) {
    const tarn_differ_side *x = &d->side[0];
    int64_t hits = 0;
    for (int64_t i = 0; i < x->n; i += step) {
        hits += renamed(&x->model->slots[x->only[i]], pa, pb, d->side[1].model) >= 0;
    }
    return hits;
}

static bool best_prefix(const tarn_differ *d, piece *pa, piece *pb) {
    piece a[PREFIX_CHOICES], b[PREFIX_CHOICES];
    int na = prefixes(&d->side[0], a), nb = prefixes(&d->side[1], b);
    int64_t best = 0, step = d->side[0].n / SAMPLES + 1;
    for (int i = 0; i < na; i++) {
        for (int k = 0; k < nb; k++) {
            if (a[i].len + b[k].len == 0) {
                continue;
            }
            int64_t hits = score(d, a[i], b[k], step);
            if (hits > best ||
                (hits == best && hits > 0 && a[i].len + b[k].len < pa->len + pb->len)) {
                best = hits;
                *pa = a[i];
                *pb = b[k];
            }
        }
    }
    return best > 0 && 2 * score(d, *pa, *pb, 1) >= d->side[0].n;
}

static int64_t take_off(tarn_differ *d, piece pa, piece pb, int64_t *shapes) {
    tarn_differ_side *x = &d->side[0], *y = &d->side[1];
    bool *gone = tarn_arena_take(&d->scratch, (size_t)y->model->n + 1);
    if (!gone) {
        d->failed = true;
        return 0;
    }
    memset(gone, 0, (size_t)y->model->n);
    int64_t left = 0, found = 0;
    for (int64_t i = 0; i < x->n; i++) {
        const tarn_slot *s = &x->model->slots[x->only[i]];
        int64_t k = renamed(s, pa, pb, y->model);
        if (k < 0) {
            x->only[left++] = x->only[i];
            continue;
        }
        const tarn_slot *t = &y->model->slots[k];
        *shapes += tarn_shape_equal(s->rank, s->shape, t->rank, t->shape);
        gone[k] = true;
        found++;
    }
    x->n = left;
    left = 0;
    for (int64_t i = 0; i < y->n; i++) {
        if (!gone[y->only[i]]) {
            y->only[left++] = y->only[i];
        }
    }
    y->n = left;
    return found;
}

static void show(tarn_text *out, piece p) { tarn_text_show(out, p.text, p.len, 60); }

bool tarn_reason_prefix(tarn_differ *d, tarn_text *out) {
    const char *a = d->side[0].label, *b = d->side[1].label;
    piece pa = {"", 0}, pb = {"", 0};
    if (d->side[0].n == 0 || d->side[1].n == 0 || !best_prefix(d, &pa, &pb)) {
        return false;
    }
    int64_t shapes = 0, found = take_off(d, pa, pb, &shapes);
    if (pa.len && pb.len) {
        tarn_text_printf(out, "\n%s says \"", b);
        show(out, pb);
        tarn_text_printf(out, "\" where %s says \"", a);
        show(out, pa);
    } else {
        tarn_text_printf(out, "\n%s has no prefix \"", pa.len ? b : a);
        show(out, pa.len ? pa : pb);
    }
    tarn_text_printf(
        out, "\": renamed, %lld names agree, and %lld of their shapes; m:rename does it%s",
        (long long)found, (long long)shapes, d->side[0].n + d->side[1].n ? "; what is left:" : "");
    return true;
}

// ---- layers that one of them lacks ----

static bool layer_key(const tarn_model *m, int64_t slot, char *key, size_t room, size_t *len) {
    const tarn_name_info *info = tarn_model_info(m, slot);
    const tarn_names *names = tarn_model_names(m);
    if (!info || info->place != TARN_PLACE_LAYER) {
        return false;
    }
    const char *stack = names->stacks[info->stack].name;
    size_t n = strlen(stack);
    if (n + sizeof(int) > room) {
        return false;
    }
    memcpy(key, &info->layer, sizeof(int));
    memcpy(key + sizeof(int), stack, n);
    *len = n + sizeof(int);
    return true;
}

static void list_layers(tarn_differ *d, const tarn_model *m, tarn_intern *out) {
    char key[NAME_MOST];
    size_t len;
    *out = (tarn_intern){.arena = &d->scratch};
    for (int64_t i = 0; i < m->n && !d->failed; i++) {
        bool fresh;
        d->failed =
            layer_key(m, i, key, sizeof key, &len) && tarn_intern_add(out, key, len, &fresh) < 0;
    }
}

// All that only x has stands in layers of which y has nothing.
static bool beyond(const tarn_differ_side *x, const tarn_intern *other) {
    char key[NAME_MOST];
    size_t len;
    for (int64_t i = 0; i < x->n; i++) {
        if (!layer_key(x->model, x->only[i], key, sizeof key, &len) ||
            tarn_intern_find(other, key, len) >= 0) {
            return false;
        }
    }
    return true;
}

static void write_beyond(tarn_differ *d, const tarn_differ_side *x, tarn_text *out) {
    if (x->n == 0) {
        return;
    }
    int64_t *numbers = tarn_arena_take(&d->scratch, (size_t)x->n * sizeof *numbers);
    if (!numbers) {
        d->failed = true;
        return;
    }
    for (int64_t i = 0; i < x->n; i++) {
        numbers[i] = tarn_model_info(x->model, x->only[i])->layer;
    }
    tarn_text_printf(out, "\nthe %lld tensors of layers ", (long long)x->n);
    tarn_differ_spans(numbers, x->n, out);
    tarn_text_printf(out, " are only in %s", x->label);
}

bool tarn_reason_depth(tarn_differ *d, tarn_text *out) {
    tarn_intern all[2];  // keys of layer_key
    list_layers(d, d->side[0].model, &all[0]);
    list_layers(d, d->side[1].model, &all[1]);
    if (d->failed || all[0].count == all[1].count || all[0].count == 0 || all[1].count == 0 ||
        !beyond(&d->side[0], &all[1]) || !beyond(&d->side[1], &all[0])) {
        return false;
    }
    tarn_text_printf(out, "\n%s has %d layers, %s has %d:", d->side[0].label, (int)all[0].count,
                     d->side[1].label, (int)all[1].count);
    write_beyond(d, &d->side[0], out);
    write_beyond(d, &d->side[1], out);
    tarn_text_puts(
        out, "\nhint: layers are never stretched by themselves: pick them by number (m:layers), "
             "or build the depth you want (model.stack)");
    return true;
}

// ---- experts ----

static bool expert(const tarn_name_info *info) {
    return info && (info->expert >= 0 || strncmp(info->role, "expert", 6) == 0);
}

static bool has_experts(const tarn_model *m) {
    for (int64_t i = 0; i < m->n; i++) {
        if (expert(tarn_model_info(m, i))) {
            return true;
        }
    }
    return false;
}

bool tarn_reason_experts(tarn_differ *d, tarn_text *out) {
    bool a = has_experts(d->side[0].model), b = has_experts(d->side[1].model);
    if (a == b) {
        return false;
    }
    const tarn_differ_side *mixture = &d->side[a ? 0 : 1], *dense = &d->side[a ? 1 : 0];
    tarn_text_printf(
        out,
        "\n%s is a mixture of experts, %s is dense: the part that agrees is no merge of the "
        "two; experts are made from a dense model (upcycling) only where that is asked for "
        "by name (model.moe)",
        mixture->label, dense->label);
    return true;
}

// ---- fused projections ----

typedef struct {
    const tarn_differ_side *side;
    int layer;         // -1: any
    const char *tail;  // ".weight"
} fused_place;

static const char *tail_of(const tarn_slot *s) {
    const char *dot = memrchr(s->name, '.', s->len);
    return dot ? dot : "";
}

// The first slot that only this side has with a role, in a place; -1.
static int64_t with_role(const fused_place *p, const char *role) {
    for (int64_t i = 0; i < p->side->n; i++) {
        const tarn_name_info *info = tarn_model_info(p->side->model, p->side->only[i]);
        const tarn_slot *s = &p->side->model->slots[p->side->only[i]];
        if (info && strcmp(info->role, role) == 0 && s->rank > 0 &&
            (p->layer < 0 || (info->layer == p->layer && strcmp(tail_of(s), p->tail) == 0))) {
            return p->side->only[i];
        }
    }
    return -1;
}

static bool write_fused(const tarn_differ *d, int whole_side, const tarn_fused_row *row,
                        tarn_text *out) {
    const tarn_differ_side *x = &d->side[whole_side], *y = &d->side[1 - whole_side];
    fused_place any = {x, -1, ""};
    int64_t whole = with_role(&any, row->whole);
    if (whole < 0) {
        return false;
    }
    const tarn_slot *s = &x->model->slots[whole];
    fused_place here = {y, tarn_model_info(x->model, whole)->layer, tail_of(s)};
    int64_t rows[4] = {0}, sum = 0;
    int n = 0;
    for (; row->parts[n]; n++) {
        int64_t part = with_role(&here, row->parts[n]);
        if (part < 0 || !tarn_add_i64(sum, y->model->slots[part].shape[0], &sum)) {
            return false;
        }
        rows[n] = y->model->slots[part].shape[0];
    }
    if (sum != s->shape[0]) {
        return false;
    }
    tarn_text_printf(out, "\n%s has ", x->label);
    for (int k = 0; k < n; k++) {
        const char *dot = strrchr(row->parts[k], '.');
        tarn_text_printf(out, "%s%s", k == 0 ? "" : ", ", dot ? dot + 1 : row->parts[k]);
    }
    tarn_text_printf(out, " fused where %s has them apart; the rows agree: %lld =", y->label,
                     (long long)sum);
    for (int k = 0; k < n; k++) {
        tarn_text_printf(out, "%s %lld", k ? " +" : "", (long long)rows[k]);
    }
    return true;
}

bool tarn_reason_fused(tarn_differ *d, tarn_text *out) {
    bool any = false;
    for (const tarn_fused_row *row = tarn_fused_rows; row->whole; row++) {
        bool said = write_fused(d, 0, row, out) || write_fused(d, 1, row, out);
        any = any || said;
    }
    return any;
}

// ---- ties ----

static const tarn_tie *tie_named(const tarn_model *m, const tarn_slot *s) {
    const tarn_names *names = tarn_model_names(m);
    for (int k = 0; names && k < names->nties; k++) {
        if (strlen(names->ties[k].other) == s->len &&
            memcmp(names->ties[k].other, s->name, s->len) == 0) {
            return &names->ties[k];
        }
    }
    return NULL;
}

// Ties of later operands are read through (match.c), so a tied first one is better named later.
static bool write_tie(const tarn_differ *d, int of, tarn_text *out) {
    const tarn_differ_side *x = &d->side[of], *lacks = &d->side[1 - of];
    for (int64_t i = 0; i < x->n; i++) {
        const tarn_slot *s = &x->model->slots[x->only[i]];
        const tarn_tie *tie = tie_named(lacks->model, s);
        if (tie) {
            tarn_text_printf(
                out,
                "\n%s is tied: %s is another name of its %s; with %s as the first operand "
                "it is read so",
                lacks->label, tie->other, tie->kept, x->label);
            return true;
        }
        for (const tarn_tie_row *r = tarn_tie_rows; r->kept; r++) {
            if (r->word && strlen(r->other) == s->len && memcmp(r->other, s->name, s->len) == 0 &&
                tarn_model_find(lacks->model, r->kept, strlen(r->kept)) >= 0) {
                tarn_text_printf(
                    out, "\n%s is not in %s, and %s is not tied: its %s is not taken for it",
                    r->other, lacks->label, lacks->label, r->kept);
                return true;
            }
        }
    }
    return false;
}

bool tarn_reason_tie(tarn_differ *d, tarn_text *out) {
    bool a = write_tie(d, 0, out), b = write_tie(d, 1, out);
    return a || b;
}

// ---- transposed weights ----

static bool turned(const tarn_slot *a, const tarn_slot *b) {
    return a->rank == 2 && b->rank == 2 && a->shape[0] == b->shape[1] && a->shape[1] == b->shape[0];
}

// Square weights of the layers that hold turned ones: what shapes cannot tell of.
static int64_t squares(const tarn_model *m, int64_t *first) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        const tarn_name_info *info = tarn_model_info(m, m->by_name[i]);
        if (s->rank == 2 && s->shape[0] == s->shape[1] && info && info->place == TARN_PLACE_LAYER) {
            *first = n++ ? *first : m->by_name[i];
        }
    }
    return n;
}

bool tarn_reason_turned(tarn_differ *d, tarn_text *out) {
    const tarn_model *a = d->side[0].model, *b = d->side[1].model;
    for (int64_t i = 0; i < d->nshapes; i++) {
        if (!turned(&a->slots[d->shapes[2 * i]], &b->slots[d->shapes[2 * i + 1]])) {
            return false;
        }
    }
    if (d->nshapes == 0) {
        return false;
    }
    tarn_text_puts(
        out, "\neach is the other's transpose: one model stores linear layers as [out, in], the "
             "other as [in, out]");
    int64_t first = -1, n = squares(a, &first);
    if (n > 0) {
        char name[NAME_MOST];
        int64_t number;
        size_t len = tarn_differ_blank(&a->slots[first], name, sizeof name, &number);
        tarn_text_printf(out, "; the %lld square ones (", (long long)n);
        tarn_text_show(out, name, len, 100);
        tarn_text_puts(out, ") agree in shape and are transposed all the same");
    }
    tarn_text_puts(
        out, "\nhint: transpose every linear layer of one model first, never only those whose "
             "shapes differ");
    return true;
}

// ---- vocabularies ----

bool tarn_reason_rows(tarn_differ *d, tarn_text *out) {
    const tarn_model *a = d->side[0].model, *b = d->side[1].model;
    int64_t rows[2] = {0, 0};
    for (int64_t i = 0; i < d->nshapes; i++) {
        const tarn_slot *s = &a->slots[d->shapes[2 * i]], *t = &b->slots[d->shapes[2 * i + 1]];
        const tarn_name_info *info = tarn_model_info(a, d->shapes[2 * i]);
        bool outer = info && info->tokens && (info->place == TARN_PLACE_EMBED || info->place == TARN_PLACE_HEAD);
        if (!outer || s->rank != t->rank || s->rank < 1 || s->rank > 2 ||
            (s->rank == 2 && s->shape[1] != t->shape[1]) ||
            (i > 0 && (s->shape[0] != rows[0] || t->shape[0] != rows[1]))) {
            return false;
        }
        rows[0] = s->shape[0];
        rows[1] = t->shape[0];
    }
    if (d->nshapes == 0) {
        return false;
    }
    tarn_text_printf(
        out,
        "\nhint: the vocabularies have %lld and %lld rows: bring them to one by an explicit gather "
        "(model.token_union, with what the tokenizers say; m:resize_vocab where one only has more "
        "tokens at its end); rows are never cut or padded by themselves",
        (long long)rows[0], (long long)rows[1]);
    return true;
}
