// SPDX-License-Identifier: Apache-2.0
// Layers chosen by number, numbered anew, and put on top of one another: what is known as
// passthrough merging, frankenmerging or depth up-scaling (Kim et al. 2023, arXiv:2312.15166). No
// node of its own: choosing, renaming and joining are there already, and say in the plan by name
// what went where.
#include <stdlib.h>
#include <string.h>

#include "merge/model/structure.h"

static const tarn_name_info *layer_info(const tarn_model *m, int64_t i, int stack) {
    const tarn_name_info *info = tarn_model_info(m, i);
    return info && info->place == TARN_PLACE_LAYER && info->stack == stack ? info : NULL;
}

// The stack of that name, or the only one there is where `name` is NULL. `what` opens messages.
static tarn_status find_stack(const tarn_model *m, const char *name, const char *what, int *stack,
                              tarn_error *err) {
    const tarn_names *names = tarn_model_names(m);
    int n = names ? names->nstacks : 0;
    if (n == 0) {
        TARN_RAISE(err, "NoLayers", "%s: the names of %s do not tell its layers", what,
                   tarn_model_label(m));
    }
    if (!name && n == 1) {
        *stack = 0;
        return TARN_OK;
    }
    tarn_text all;
    tarn_text_init(&all, &m->cx->budget);
    for (int k = 0; k < n; k++) {
        if (name && strcmp(name, names->stacks[k].name) == 0) {
            tarn_text_free(&all);
            *stack = k;
            return TARN_OK;
        }
        tarn_text_printf(&all, "%s\"%s\"", k ? ", " : "", names->stacks[k].name);
    }
    tarn_raise(err, "NoLayers",
               name ? "%s: %s has no layers called \"%s\", only %s"
                    : "%s: %s has several stacks of layers%s; say stack = one of %s",
               what, tarn_model_label(m), name ? name : "", all.data ? all.data : "");
    tarn_text_free(&all);
    return err->status;
}

// ---- choosing ----

// The smallest and the largest number of a stack's layers in m; false: it has none.
static bool span(const tarn_model *m, int stack, int *least, int *most) {
    bool any = false;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, stack);
        if (info) {
            *least = any && *least < info->layer ? *least : info->layer;
            *most = any && *most > info->layer ? *most : info->layer;
            any = true;
        }
    }
    return any;
}

tarn_status tarn_model_layers(tarn_context *cx, tarn_model *m, const char *stack, int first,
                              int last, tarn_model **out, tarn_error *err) {
    int s, least = 0, most = -1;
    TARN_TRY(find_stack(m, stack, "layers", &s, err));
    bool any = span(m, s, &least, &most);
    if (!any || first > last || first < least || last > most) {
        TARN_RAISE(err, "LayerRange",
                   "layers %d to %d of %s: the numbers in its names (%s) go from %d to "
                   "%d, and ranges include both ends",
                   first, last, tarn_model_label(m), tarn_model_names(m)->stacks[s].name, least,
                   most);
    }
    unsigned char *keep = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    if (!keep) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n);
    }
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, s);
        keep[i] = !info || (info->layer >= first && info->layer <= last);
    }
    tarn_status st = tarn_model_only(cx, m, keep, out, err);
    tarn_free(&cx->budget, keep, (size_t)m->n + 1);
    return st;
}

// ---- numbering ----

typedef struct {
    size_t begin, end;
    bool whole;  // a component of its own: layers.3, not fc3
} number;

static bool digit(char c) { return c >= '0' && c <= '9'; }

static bool number_from(const tarn_slot *s, size_t at, int layer, number *out) {
    size_t end = at;
    long value = 0;
    while (end < s->len && digit(s->name[end]) && value < 1000000000) {
        value = 10 * value + (s->name[end++] - '0');
    }
    *out = (number){at, end, at == 0 || s->name[at - 1] == '.'};
    return end > at && value == layer && (end == s->len || s->name[end] == '.');
}

// The layer's number in a name: behind the stack's name, or, for what stands beside a numbered word
// (bn1 beside conv1), the first that ends a component.
static bool find_number(const tarn_slot *s, const char *stack, int layer, number *out) {
    size_t n = strlen(stack);
    if (s->len > n && memcmp(s->name, stack, n) == 0 &&
        number_from(s, n + (s->name[n] == '.'), layer, out)) {
        return true;
    }
    for (size_t i = 0; i < s->len; i++) {
        if (digit(s->name[i]) && (i == 0 || !digit(s->name[i - 1])) &&
            number_from(s, i, layer, out)) {
            return true;
        }
    }
    return false;
}

static tarn_status check_numbers(const tarn_model *m, int stack, tarn_error *err) {
    const tarn_names *names = tarn_model_names(m);
    const tarn_name_stack *s = &names->stacks[stack];
    if (s->labels) {
        TARN_RAISE(err, "LayerNumber",
                   "%s: the blocks of a UNet have different shapes and places; they are not "
                   "stacked by number",
                   tarn_model_label(m));
    }
    int least = 0, most = -1;
    for (int64_t i = 0; i < names->n; i++) {
        const tarn_name_info *info = &names->info[i];
        if (info->place == TARN_PLACE_LAYER && info->stack == stack) {
            least = most < 0 || info->layer < least ? info->layer : least;
            most = info->layer > most ? info->layer : most;
        }
    }
    if (most - least + 1 != s->count) {
        TARN_RAISE(err, "LayerNumber",
                   "%s: the %d layers of \"%s\" are numbered %d to %d with gaps, where layers "
                   "without tensors stand; they are not stacked by number (m:rename gives names as "
                   "you want them)",
                   tarn_model_label(m), s->count, s->name, least, most);
    }
    return TARN_OK;
}

// rank[number - least]: which of the numbers in use it is, from 0.
static tarn_status rank_layers(tarn_arena *a, const tarn_model *m, int stack, int *least,
                               int **rank, int *count, tarn_error *err) {
    int most = -1;
    *least = *count = 0;
    *rank = NULL;
    if (!span(m, stack, least, &most)) {
        return TARN_OK;
    }
    size_t n = (size_t)(most - *least) + 1;
    *rank = tarn_arena_take(a, n * sizeof **rank);
    if (!*rank) {
        return tarn_raise_nomem(err, "a model", n * sizeof **rank);
    }
    memset(*rank, 0, n * sizeof **rank);
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, stack);
        if (info) {
            (*rank)[info->layer - *least] = 1;
        }
    }
    for (size_t k = 0; k < n; k++) {
        *count += (*rank)[k];
        (*rank)[k] = *count - 1;
    }
    return TARN_OK;
}

static tarn_status new_names(tarn_arena *a, const tarn_model *m, int stack, int first,
                             const char **names, int *count, tarn_error *err) {
    int least, *rank;
    const char *name = tarn_model_names(m)->stacks[stack].name;
    TARN_TRY(rank_layers(a, m, stack, &least, &rank, count, err));
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, stack);
        const tarn_slot *s = &m->slots[i];
        number at;
        names[i] = s->name;
        if (!info) {
            continue;
        }
        if (!find_number(s, name, info->layer, &at)) {
            TARN_RAISE(err, "LayerNumber",
                       "%s: where %s has its layer's number %d is not clear: it cannot be "
                       "numbered anew",
                       tarn_model_label(m), s->name, info->layer);
        }
        tarn_text t;
        tarn_text_init(&t, &m->cx->budget);
        tarn_text_printf(&t, "%.*s%d%.*s", (int)at.begin, s->name,
                         first + rank[info->layer - least], (int)(s->len - at.end),
                         s->name + at.end);
        names[i] = t.failed ? NULL : tarn_arena_string(a, t.data, t.len);
        tarn_text_free(&t);
        if (!names[i]) {
            return tarn_raise_nomem(err, "a name", s->len);
        }
    }
    return TARN_OK;
}

// *count: how many layers there are.
static tarn_status renumber(tarn_context *cx, tarn_model *m, int stack, int first, int *count,
                            tarn_model **out, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    const char **names = tarn_arena_take(&a, (size_t)m->n * sizeof *names + 1);
    tarn_status s = names ? check_numbers(m, stack, err)
                          : tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *names);
    s = s == TARN_OK ? new_names(&a, m, stack, first, names, count, err) : s;
    s = s == TARN_OK ? tarn_model_rename(cx, m, names, out, err) : s;
    tarn_arena_free(&a);
    return s;
}

tarn_status tarn_model_renumber(tarn_context *cx, tarn_model *m, const char *stack, int first,
                                tarn_model **out, tarn_error *err) {
    int s, count;
    TARN_TRY(find_stack(m, stack, "renumber", &s, err));
    if (first < 0) {
        TARN_RAISE(err, "LayerRange", "renumber: layers are numbered from 0 or more, got %d",
                   first);
    }
    return renumber(cx, m, s, first, &count, out, err);
}

// ---- stacking ----

static bool late(const tarn_name_info *info) {
    return info && (info->place == TARN_PLACE_FINAL || info->place == TARN_PLACE_HEAD);
}

static bool has_head(const tarn_model *m) {
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = tarn_model_info(m, i);
        if (info && info->place == TARN_PLACE_HEAD) {
            return true;
        }
    }
    return false;
}

// Length of the vectors that the layers' norms act on; -1: none.
static int64_t width(const tarn_model *m, int stack) {
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, stack);
        if (info && strcmp(info->role, "norm") == 0 && m->slots[i].rank == 1) {
            return m->slots[i].shape[0];
        }
    }
    return -1;
}

static tarn_status check_parts(int n, tarn_model *const *parts, const tarn_stack_options *o,
                               int *stacks, tarn_error *err) {
    const char *name = NULL;
    int64_t wide = -1;
    for (int k = 0; k < n; k++) {
        TARN_TRY(find_stack(parts[k], o->stack, "stack", &stacks[k], err));
        const char *its = tarn_model_names(parts[k])->stacks[stacks[k]].name;
        if (name && strcmp(name, its) != 0) {
            TARN_RAISE(err, "StackMismatch",
                       "stack: layers are called \"%s\" in part 1 and \"%s\" in part %d; m:rename "
                       "gives both one name",
                       name, its, k + 1);
        }
        if ((parts[k]->mass == 0) != (parts[0]->mass == 0)) {
            TARN_RAISE(err, "StackMismatch",
                       "stack: part 1 has mass %g, part %d has %g: models and differences of "
                       "models are not put together",
                       parts[0]->mass, k + 1, parts[k]->mass);
        }
        int64_t w = width(parts[k], stacks[k]);
        if (wide >= 0 && w >= 0 && w != wide) {
            TARN_RAISE(err, "ShapeMismatch",
                       "stack: the layers of %s (part %d) are %lld wide, those before it %lld",
                       tarn_model_label(parts[k]), k + 1, (long long)w, (long long)wide);
        }
        wide = w >= 0 ? w : wide;
        name = its;
    }
    if (has_head(parts[o->embed]) != has_head(parts[o->head])) {
        TARN_RAISE(
            err, "StackMismatch",
            "stack: of part %d (%s) and part %d (%s) one has a head and the other has none (or "
            "ties it to the embedding); head = %d takes both from one",
            o->embed + 1, tarn_model_label(parts[o->embed]), o->head + 1,
            tarn_model_label(parts[o->head]), o->embed + 1);
    }
    return TARN_OK;
}

// Where the numbers start: layers.0, but fc1.
static int start_of(const tarn_model *m, int stack) {
    const tarn_names *names = tarn_model_names(m);
    int least = -1;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = layer_info(m, i, stack);
        number at;
        if (info && find_number(&m->slots[i], names->stacks[stack].name, info->layer, &at)) {
            if (at.whole) {
                return 0;
            }
            break;
        }
    }
    for (int64_t i = 0; i < names->n; i++) {
        const tarn_name_info *info = &names->info[i];
        if (info->place == TARN_PLACE_LAYER && info->stack == stack) {
            least = least < 0 || info->layer < least ? info->layer : least;
        }
    }
    return least < 0 ? 0 : least;
}

// Part k without what another part gives, numbered from *next on.
static tarn_status place_part(tarn_context *cx, tarn_model *m, int k, int stack,
                              const tarn_stack_options *o, int *next, tarn_model **out,
                              tarn_error *err) {
    unsigned char *keep = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    if (!keep) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n);
    }
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_name_info *info = tarn_model_info(m, i);
        keep[i] = layer_info(m, i, stack) || k == (late(info) ? o->head : o->embed);
    }
    tarn_model *some = NULL;
    int count = 0;
    tarn_status s = tarn_model_only(cx, m, keep, &some, err);
    tarn_free(&cx->budget, keep, (size_t)m->n + 1);
    s = s == TARN_OK ? renumber(cx, some, stack, *next, &count, out, err) : s;
    tarn_model_release(some);
    *next += count;
    return s;
}

tarn_status tarn_model_stack(tarn_context *cx, int n, tarn_model *const *parts,
                             const tarn_stack_options *o, tarn_model **out, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    int *stacks = tarn_arena_take(&a, (size_t)n * sizeof *stacks + 1), made = 0;
    tarn_model **placed = tarn_arena_take(&a, (size_t)n * sizeof *placed + 1);
    tarn_status s = stacks && placed ? check_parts(n, parts, o, stacks, err)
                                     : tarn_raise_nomem(err, "a model", (size_t)n * 16);
    int next = s == TARN_OK ? start_of(parts[0], stacks[0]) : 0;
    for (; made < n && s == TARN_OK; made += s == TARN_OK) {
        s = place_part(cx, parts[made], made, stacks[made], o, &next, &placed[made], err);
    }
    s = s == TARN_OK ? tarn_model_join(cx, n, placed, out, err) : s;
    for (int k = 0; k < made; k++) {
        tarn_model_release(placed[k]);
    }
    tarn_arena_free(&a);
    return s;
}
