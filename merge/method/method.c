// SPDX-License-Identifier: Apache-2.0
// Applying method rows: operands matched, parameters checked and completed from the row, each tensor
// built through the row's function.
#include "merge/method/applied.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "vm/base/digest.h"

#define TARN_METHOD(name) extern const tarn_method tarn_method_##name;
#include "merge/method/methods.def"
#undef TARN_METHOD

const tarn_method *const tarn_methods[] = {
#define TARN_METHOD(name) &tarn_method_##name,
#include "merge/method/methods.def"
#undef TARN_METHOD
    NULL};

const tarn_method *tarn_method_find(const char *name) {
    for (int i = 0; tarn_methods[i]; i++) {
        if (strcmp(tarn_methods[i]->name, name) == 0) {
            return tarn_methods[i];
        }
    }
    return NULL;
}

static const tarn_node *expand_method(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_applied *a = m->extra;
    const tarn_slot *slot = tarn_slot_source(m, i);
    if (tarn_slot_integer(slot)) {
        return tarn_expand_integer(e, m, i);
    }
    tarn_build b = {.g = e->graph, .expand = e, .model = m, .slot = i, .source = slot,
                    .output = a->output ? a->output[i] : 0};
    tarn_status s = tarn_shape_numel(slot->rank, slot->shape, &b.numel, &e->graph->err);
    for (int k = 0; k < m->matched && s == TARN_OK; k++) {
        const tarn_node *x = tarn_model_operand(e, m, k, i, 0);
        if (k == a->base) {
            b.base = x;
        } else {
            b.x[b.n++] = x;
        }
    }
    if (e->graph->err.status != TARN_OK) {
        return NULL;
    }
    if (b.numel == 0 && !a->output) {
        return b.base ? b.base : b.x[0];
    }
    return a->method->build(&b);
}

static void write_method(const tarn_model *m, tarn_text *out) {
    const tarn_applied *a = m->extra;
    tarn_text_printf(out, ",\"method\":\"%s\",\"version\":%d,\"base\":%d", a->method->name,
                     a->method->version, a->base);
    tarn_statistics_write(m, out);
}

static tarn_status restore_method(tarn_context *cx, const tarn_model_json *j, int nin,
                                  tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const char *name;
    double version, base;
    TARN_TRY(tarn_restore_text(j, "method", &name, err));
    TARN_TRY(tarn_restore_number(j, "version", &version, err));
    TARN_TRY(tarn_restore_number(j, "base", &base, err));
    const tarn_method *method = tarn_method_find(name);
    if (!method) {
        TARN_RAISE(err, "PlanInvalid", "plan: this program has no method '%.60s'", name);
    }
    if (version != method->version) {
        TARN_RAISE(err, "PlanVersion", "plan: made with version %g of %s, this program has %d",
                   version, name, method->version);
    }
    if ((base != 0 && base != -1) || nin < 1 || nin > TARN_METHOD_MODELS * (1 + TARN_METHOD_STATISTICS)) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s with %d operands and base %g", name, nin, base);
    }
    bool has = base == 0;
    int count;
    tarn_given_statistic given[TARN_METHOD_STATISTICS];
    TARN_TRY(tarn_statistics_restore(j, method, has, &nin, in, &count, given, err));
    return tarn_method_apply_with(cx, method, has ? in[0] : NULL, nin - has, in + has, count, given, j->nvalues,
                                  j->values, &j->policy, out, err);
}

static const char *title_method(const tarn_model *m) {
    return ((const tarn_applied *)m->extra)->method->name;
}

const tarn_model_op tarn_model_row_method = {.name = "method", .expand = expand_method,
                                             .members = "method|version|base|statistics", .write = write_method, .restore = restore_method,
                                             .title = title_method};

const tarn_method *tarn_method_of(const tarn_model *m) {
    return m->op == &tarn_model_row_method ? ((const tarn_applied *)m->extra)->method : NULL;
}
int tarn_method_base(const tarn_model *m) { return ((const tarn_applied *)m->extra)->base; }
int tarn_method_models(const tarn_model *m) { return ((const tarn_applied *)m->extra)->models; }

tarn_status tarn_method_shared(const tarn_model *m, const char *param, const char *unless, tarn_error *err) {
    for (int i = 0; i < m->nvalues; i++) {
        if (m->values[i].each && strcmp(m->values[i].name, param) == 0) {
            TARN_RAISE(err, "OptionType", "merge.%s: %s varies by tensor, but there is one for the whole model%s%s",
                       tarn_method_of(m)->name, param, unless ? "; use " : "", unless ? unless : "");
        }
    }
    return TARN_OK;
}

double tarn_mass_none(const tarn_model *m) { return (void)m, 0; }

// ---- parameters ----

typedef struct {
    const tarn_param *rows;
    int next;
} names_of;
static const char *next_name(void *arg, size_t i) {
    const names_of *n = arg;
    return n->rows[i].name;
}

static tarn_status unknown(const tarn_method *method, const char *name, tarn_error *err) {
    names_of n = {.rows = method->params};
    const char *near = tarn_nearest(name, next_name, &n);
    if (near) {
        TARN_RAISE(err, "UnknownOption", "merge.%s: unknown option '%s'; did you mean '%s'?",
                   method->name, name, near);
    }
    TARN_RAISE(err, "UnknownOption", "merge.%s: unknown option '%s'", method->name, name);
}

static tarn_status check_number(const tarn_method *method, const tarn_param *p, double v,
                                const char *whose, tarn_error *err) {
    bool ranged = p->min != p->max;
    if (!isfinite(v) || (ranged && (v < p->min || v > p->max))) {
        v = isnan(v) ? (double)NAN : v;  // its sign says nothing
        if (!ranged) {
            TARN_RAISE(err, "OptionRange", "merge.%s: %s = %.17g%s%s is not a finite number",
                       method->name, p->name, v, whose ? " of " : "", whose ? whose : "");
        }
        const char *of = whose ? " of " : "";
        whose = whose ? whose : "";
        if (v < p->min && p->max >= 1e300) {
            TARN_RAISE(err, "OptionRange", "merge.%s: %s = %g%s%s is less than %g", method->name, p->name, v, of,
                       whose, p->min);
        }
        TARN_RAISE(err, "OptionRange", "merge.%s: %s = %g%s%s is outside %g to %g", method->name, p->name, v, of,
                   whose, p->min, p->max);
    }
    if (p->type == TARN_INTEGER && v != floor(v)) {
        TARN_RAISE(err, "OptionRange", "merge.%s: %s = %g is not an integer", method->name, p->name,
                   v);
    }
    return TARN_OK;
}

static tarn_status check_choice(const tarn_method *method, const tarn_param *p, const char *text,
                                tarn_error *err) {
    if (tarn_word_in(p->choices, text)) {
        return TARN_OK;
    }
    TARN_RAISE(err, "OptionRange", "merge.%s: %s = \"%s\"; expected one of %s", method->name,
               p->name, text, p->choices);
}

static const tarn_value *given_value(int n, const tarn_value *v, const char *name, int model) {
    for (int k = 0; k < n; k++) {
        if (v[k].model == model && strcmp(v[k].name, name) == 0) {
            return &v[k];
        }
    }
    return NULL;
}

static tarn_status check_recorded(const tarn_method *method, const tarn_param *p, tarn_error *err) {
    if (tarn_word_in(method->recorded, p->name)) {
        return TARN_OK;
    }
    TARN_RAISE(err, "OptionType", "merge.%s: %s takes no recorded number%s%s", method->name, p->name,
               method->recorded ? "; recorded may be: " : "; those of merge.linear and merge.task_arithmetic may be "
               "recorded, and a recorded number times a model", method->recorded ? method->recorded : "");
}

// One value of the node: given for this model, given for all, or the default.
static tarn_status settle(tarn_model *m, const tarn_method *method, const tarn_param *p, int model,
                          int n, const tarn_value *given, const char *whose, tarn_error *err) {
    tarn_value *v = &m->values[m->nvalues];
    const tarn_value *g = given_value(n, given, p->name, model);
    g = g ? g : given_value(n, given, p->name, -1);
    *v = (tarn_value){.name = p->name, .model = model, .number = p->def, .origin = "default"};
    if (!g && p->type == TARN_CHOICE) {
        size_t len = strcspn(p->choices, "|");
        v->text = tarn_arena_string(&m->arena, p->choices, len);
    } else if (!g && isnan(p->def)) {
        TARN_RAISE(err, "MissingOption", "merge.%s: %s is missing%s%s", method->name, p->name,
                   whose ? " for " : "", whose ? whose : "");
    } else if (g) {
        const char *origin = g->origin ? g->origin : "given";
        v->origin = tarn_arena_string(&m->arena, origin, strlen(origin));
        v->number = g->number;
        if ((p->type == TARN_CHOICE) != (g->text != NULL)) {
            TARN_RAISE(err, "OptionType", "merge.%s: %s takes a %s", method->name, p->name,
                       p->type == TARN_CHOICE ? "text" : "number");
        }
        if (g->text) {
            TARN_TRY(check_choice(method, p, g->text, err));
            v->text = tarn_arena_string(&m->arena, g->text, strlen(g->text));
        } else if (g->node) {
            TARN_TRY(check_recorded(method, p, err));
            v->node = g->node;
        } else if (g->each) {
            double *each = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *each + 1);
            if (!each) {
                return tarn_raise_nomem(err, "parameters", (size_t)m->n * sizeof *each);
            }
            for (int64_t i = 0; i < m->n; i++) {
                if (m->map[0][i] < 0) {
                    TARN_RAISE(err, "MissingTensor", "merge.%s: %s has a value for each tensor of %s, which "
                               "lacks %s", method->name, p->name, tarn_model_label(m->in[0]),
                               m->slots[i].name);
                }
                each[i] = g->each[m->map[0][i]];
                // a plan has no number for a tensor that the method left out
                bool absent = isnan(each[i]) && method->outputs && strcmp(origin, "plan") == 0;
                TARN_TRY(absent ? TARN_OK : check_number(method, p, each[i], whose, err));
            }
            v->each = each;
        } else {
            TARN_TRY(check_number(method, p, v->number, whose, err));
        }
    }
    if (!v->origin || (p->type == TARN_CHOICE && !v->text)) {
        return tarn_raise_nomem(err, "parameters", 0);
    }
    m->nvalues++;
    return TARN_OK;
}

static tarn_status settle_all(tarn_model *m, const tarn_method *method, int n,
                              const tarn_value *given, tarn_error *err) {
    int rows = 0, base = tarn_method_base(m), models = tarn_method_models(m);
    while (method->params[rows].name) {
        rows++;
    }
    for (int k = 0; k < n; k++) {
        bool known = false;
        for (int r = 0; r < rows; r++) {
            known = known || strcmp(method->params[r].name, given[k].name) == 0;
        }
        if (!known) {
            return unknown(method, given[k].name, err);
        }
    }
    m->values = tarn_arena_take(&m->arena, ((size_t)rows * (size_t)(models + 1) + 1) * sizeof *m->values);
    if (!m->values) {
        return tarn_raise_nomem(err, "parameters", 0);
    }
    for (int r = 0; r < rows; r++) {
        const tarn_param *p = &method->params[r];
        bool each = p->scope & TARN_PER_MODEL;
        if (!each) {
            TARN_TRY(settle(m, method, p, -1, n, given, NULL, err));
        }
        for (int i = 0; each && i < models; i++) {
            const tarn_model *of = m->in[base >= 0 && i >= base ? i + 1 : i];
            TARN_TRY(settle(m, method, p, i, n, given, tarn_model_label(of), err));
        }
        if (p->scope & TARN_UNIFORM) {
            TARN_TRY(tarn_method_shared(m, p->name, NULL, err));
        }
    }
    return TARN_OK;
}

static tarn_status check_count(const tarn_method *method, tarn_model *base, int n, tarn_error *err) {
    if (!base && (method->needs & TARN_NEEDS_BASE)) {
        TARN_RAISE(err, "MissingBase", "merge.%s needs base = the model that the others came from",
                   method->name);
    }
    if (base && !(method->needs & (TARN_NEEDS_BASE | TARN_TAKES_BASE))) {
        TARN_RAISE(err, "UnknownOption", "merge.%s takes no base; list it among the models",
                   method->name);
    }
    if (n < method->least || (method->most >= 0 && n > method->most)) {
        const char *what = method->least == method->most ? "exactly" : n < method->least ? "at least" : "at most";
        int want = n < method->least ? method->least : method->most;
        TARN_RAISE(err, "ModelCount", "merge.%s takes %s %d model%s%s, got %d", method->name, what,
                   want, want == 1 ? "" : "s", base ? " besides the base" : "", n);
    }
    if (n + (base ? 1 : 0) > TARN_METHOD_MODELS) {
        TARN_RAISE(err, "ModelCount", "merge.%s takes at most %d models", method->name,
                   TARN_METHOD_MODELS);
    }
    return TARN_OK;
}

// Methods with a base take the differences themselves: a task vector among the models would lose the base
// twice.
static tarn_status check_points(const tarn_method *method, const tarn_model *base, int n, tarn_model *const *models,
                                tarn_error *err) {
    bool point = base && base->mass != 0;
    for (int i = 0; base && !(method->needs & TARN_BESIDE) && i < n; i++) {
        if ((models[i]->mass != 0) != point) {
            const tarn_model *vector = point ? models[i] : base;
            TARN_RAISE(err, "TaskVector", "merge.%s: %s is a task vector (mass 0) among models; the method subtracts the "
                       "base itself: give base + the vector", method->name, tarn_model_label(vector));
        }
    }
    return TARN_OK;
}

// Does m hold the tensor of `from`, or one beside it (its name and a suffix with a point)?
static bool holds(const tarn_model *from, int64_t i, const tarn_model *m) {
    const tarn_slot *s = &from->slots[i];
    if (tarn_match_slot(from, i, m) >= 0) {
        return true;
    }
    int64_t lo = 0, hi = m->n;
    while (lo < hi) {  // the first name that is longer and does not come before
        int64_t mid = lo + (hi - lo) / 2;
        const tarn_slot *x = &m->slots[m->by_name[mid]];
        size_t n = x->len < s->len + 1 ? x->len : s->len + 1;
        int c = memcmp(x->name, s->name, n < s->len ? n : s->len);
        c = c ? c : n < s->len + 1 ? -1 : (x->name[s->len] > '.') - (x->name[s->len] < '.');
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    const tarn_slot *x = lo < m->n ? &m->slots[m->by_name[lo]] : NULL;
    return x && x->len > s->len && memcmp(x->name, s->name, s->len) == 0 && x->name[s->len] == '.';
}

// Matching under TARN_BESIDE drops what has no place in the base; what is of the base must be there, or
// something beside it: build says what it lacks.
static tarn_status check_whole(tarn_model *m, const tarn_method *method, tarn_error *err) {
    for (int64_t i = 0; i < m->in[0]->n; i++) {
        for (int k = 1; k < m->matched; k++) {
            if (!holds(m->in[0], i, m->in[k])) {
                TARN_RAISE(err, "MissingTensor", "merge.%s: %s lacks %s of %s", method->name,
                           tarn_model_label(m->in[k]), m->in[0]->slots[i].name, tarn_model_label(m->in[0]));
            }
        }
    }
    m->ndropped = 0;
    return TARN_OK;
}

// Replaces the matched slots by the outputs that the row names for them, with the values of each.
static tarn_status set_outputs(tarn_model *m, const tarn_method *method, tarn_applied *a, tarn_error *err) {
    enum { MOST = 8 };
    size_t room = (size_t)m->n * MOST + 1;
    tarn_slot *slots = tarn_arena_take(&m->arena, room * sizeof *slots);
    tarn_slot *source = tarn_arena_take(&m->arena, room * sizeof *source);
    int64_t *first = tarn_arena_take(&m->arena, room * sizeof *first);
    int *output = tarn_arena_take(&m->arena, room * sizeof *output);
    int64_t *from = tarn_arena_take(&m->arena, room * sizeof *from);
    if (!slots || !source || !first || !output || !from) {
        return tarn_raise_nomem(err, "a model", room * sizeof *slots);
    }
    int64_t n = 0;
    for (int64_t i = 0; i < m->n; i++) {
        int64_t start = n;
        if (m->slots[i].rank > TARN_MAX_RANK && !tarn_slot_integer(&m->slots[i])) {
            TARN_RAISE(err, "Rank", "merge.%s: %s: %d dimensions; arithmetic takes at most %d", method->name,
                       m->slots[i].name, m->slots[i].rank, TARN_MAX_RANK);
        }
        for (int k = 0; k < MOST; k++) {
            slots[n] = m->slots[i];
            bool whole = tarn_slot_integer(&m->slots[i]);
            if (whole ? k > 0 || (method->needs & TARN_FLOATS) : !method->outputs(m, i, k, &m->arena, &slots[n])) {
                break;
            }
            if (!slots[n].name || (slots[n].rank > 0 && !slots[n].shape)) {
                return tarn_raise_nomem(err, "a model", room * sizeof *slots);
            }
            source[n] = m->slots[i];
            first[n] = start;
            from[n] = i;
            output[n++] = k;
        }
    }
    for (int k = 0; k < m->nin; k++) {
        int64_t *map = tarn_arena_take(&m->arena, (size_t)n * sizeof *map + 1);
        if (!map) {
            return tarn_raise_nomem(err, "a model", (size_t)n * sizeof *map);
        }
        for (int64_t i = 0; i < n; i++) {
            map[i] = m->map[k][from[i]];
        }
        m->map[k] = map;
    }
    for (int k = 0; k < m->nvalues; k++) {
        double *each = m->values[k].each ? tarn_arena_take(&m->arena, (size_t)n * sizeof *each + 1) : NULL;
        if (m->values[k].each && !each) {
            return tarn_raise_nomem(err, "parameters", (size_t)n * sizeof *each);
        }
        for (int64_t i = 0; each && i < n; i++) {
            each[i] = m->values[k].each[from[i]];
        }
        m->values[k].each = each;
    }
    m->n = n;
    m->slots = slots;
    m->source = source;
    m->first = first;
    a->output = output;
    return tarn_model_index(m, err);
}

tarn_status tarn_method_apply(tarn_context *cx, const tarn_method *method, tarn_model *base, int n,
                              tarn_model *const *models, int nvalues, const tarn_value *values,
                              const tarn_policy *policy, tarn_model **out, tarn_error *err) {
    return tarn_method_apply_with(cx, method, base, n, models, 0, NULL, nvalues, values, policy, out, err);
}

tarn_status tarn_method_apply_with(tarn_context *cx, const tarn_method *method, tarn_model *base, int n,
                                   tarn_model *const *models, int nstatistics,
                                   const tarn_given_statistic *statistics, int nvalues,
                                   const tarn_value *values, const tarn_policy *policy, tarn_model **out,
                                   tarn_error *err) {
    TARN_TRY(check_count(method, base, n, err));
    TARN_TRY(check_points(method, base, n, models, err));
    TARN_TRY(tarn_statistics_check(method, base, n, nstatistics, statistics, err));
    enum { OPERANDS = TARN_METHOD_MODELS * (1 + TARN_METHOD_STATISTICS) };
    tarn_model *in[OPERANDS];
    bool point[OPERANDS];
    int k = 0;
    if (base) {
        in[k++] = base;
    }
    for (int i = 0; i < n; i++) {
        in[k++] = models[i];
    }
    tarn_applied made = {.method = method, .base = base ? 0 : -1, .models = n};
    int matched = k;
    for (int s = 0; s < nstatistics; s++) {
        made.statistic[tarn_statistic_row(method, statistics[s].name) - method->statistics] = k;
        for (int i = 0; i < statistics[s].n; i++) {
            in[k++] = statistics[s].models[i];
        }
    }
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_method, k, in, &m, err));
    m->matched = matched;
    tarn_applied *a = tarn_arena_take(&m->arena, sizeof *a);
    if (!a) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "a model", sizeof *m);
    }
    *a = made;
    m->extra = a;
    m->policy = policy ? *policy : in[0]->policy;
    bool any = false;
    for (int i = 0; i < k; i++) {
        point[i] = in[i]->mass != 0;
        any = any || (point[i] && i < matched);
    }
    m->mass = any ? 1 : 0;
    tarn_policy given = m->policy;
    bool beside = method->needs & TARN_BESIDE;
    m->policy.missing = beside ? TARN_MISSING_DROP : given.missing;
    tarn_status s = tarn_model_match(m, point, 0, err);
    m->policy = given;
    if (s == TARN_OK && beside) {
        s = check_whole(m, method, err);
    }
    if (s == TARN_OK) {
        s = settle_all(m, method, nvalues, values, err);
        s = s == TARN_OK && method->outputs ? set_outputs(m, method, a, err) : s;
    } else {
        tarn_error_prefix(err, "merge.%s", method->name);
    }
    if (s == TARN_OK && method->check) {
        s = method->check(m, err);
    }
    if (s == TARN_OK && method->mass) {
        m->mass = tarn_mass_near(method->mass(m));
    }
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

// ---- for build ----

double tarn_get(const tarn_build *b, const char *param) {
    return tarn_value_at(tarn_model_value(b->model, param, -1), b->slot);
}
double tarn_get_of(const tarn_build *b, const char *param, int model) {
    return tarn_value_at(tarn_model_value(b->model, param, model), b->slot);
}
bool tarn_is_recorded(const tarn_build *b, const char *param) {
    bool any = false;
    for (int i = 0; i < b->model->nvalues; i++) {
        const tarn_value *v = &b->model->values[i];
        any = any || (v->node && strcmp(v->name, param) == 0);
    }
    return any;
}
const tarn_node *tarn_value_node(const tarn_build *b, const char *param, int model) {
    const tarn_value *v = tarn_model_value(b->model, param, model);
    return v->node ? v->node : tarn_num(b->g, tarn_value_at(v, b->slot));
}
bool tarn_flag(const tarn_build *b, const char *param) { return tarn_get(b, param) != 0; }
bool tarn_choice(const tarn_build *b, const char *param, const char *text) {
    return strcmp(tarn_model_value(b->model, param, -1)->text, text) == 0;
}

const tarn_node *tarn_beside(tarn_build *b, int i, const char *suffix, bool must) {
    int base = tarn_method_base(b->model);
    tarn_model *of = b->model->in[base >= 0 && i >= base ? i + 1 : i];
    size_t len = b->source->len, more = strlen(suffix);
    char *name = tarn_arena_take(&b->g->arena, len + more + 1);
    if (!name) {
        tarn_raise_nomem(&b->g->err, "a name", len + more);
        return NULL;
    }
    memcpy(name, b->source->name, len);
    memcpy(name + len, suffix, more + 1);
    int64_t at = tarn_model_find(of, name, len + more);
    if (at < 0 && must && b->g->err.status == TARN_OK) {
        tarn_raise(&b->g->err, "MissingTensor", "%s has no tensor %s", tarn_model_label(of), name);
    }
    return at < 0 ? NULL : tarn_model_expr(b->expand, of, at);
}

const tarn_node *tarn_delta(tarn_build *b, int i) { return tarn_sub(b->g, b->x[i], b->base); }

const tarn_node *tarn_sum_of(tarn_graph *g, int n, const tarn_node *const *terms) {
    const tarn_node *s = n > 0 ? terms[0] : tarn_num(g, 0);
    for (int i = 1; i < n; i++) {
        s = tarn_add(g, s, terms[i]);
    }
    return s;
}

static tarn_attr kth_attr(const tarn_node *x, int64_t k, const double *share, int64_t *i) {
    i[0] = i[1] = 0;
    i[2] = k;
    i[3] = x->desc.dtype == TARN_F64 ? 64 : 32;
    return (tarn_attr){.ni = 4, .i = i, .nf = 1, .f = share};
}

const tarn_node *tarn_kth(tarn_graph *g, const tarn_node *x, int64_t k) {
    int64_t i[4];
    double value_only = -1;
    if (!x) {
        return NULL;
    }
    tarn_attr a = kth_attr(x, k, &value_only, i);
    return tarn_item(g, tarn_node_make(g, &tarn_op_kth, 1, &x, &a), 0);
}

const tarn_node *tarn_largest(tarn_graph *g, const tarn_node *x, int64_t k, double share) {
    int64_t i[4];
    if (!x) {
        return NULL;
    }
    tarn_attr a = kth_attr(x, k, &share, i);
    const tarn_node *sel = tarn_node_make(g, &tarn_op_kth, 1, &x, &a);
    const tarn_node *in[3] = {x, tarn_item(g, sel, 0), tarn_item(g, sel, 1)};
    return tarn_node_make(g, &tarn_op_top, 3, in, NULL);
}

// x as it is compared over the whole model: in f64 where one tensor of the operands is (a selection
// has one kind of keys).
static const tarn_node *comparable(tarn_build *b, const tarn_node *x) {
    return x && tarn_model_wide(b->model) ? tarn_cast(b->g, x, TARN_F64) : x;
}

static const tarn_node *select_of_model(tarn_build *b, const tarn_node *x, int64_t k, double share, int use) {
    int64_t i[4];
    if (!x) {
        return NULL;
    }
    tarn_attr a = kth_attr(x, k, &share, i);
    return tarn_expand_global(b->expand, b->model, b->slot, use, &tarn_op_kth, x, &a);
}

const tarn_node *tarn_kth_of_model(tarn_build *b, const tarn_node *x, int64_t k, int use) {
    const double value_only = -1;
    return tarn_item(b->g, select_of_model(b, comparable(b, x), k, value_only, use), 0);
}

const tarn_node *tarn_keep_share(tarn_build *b, const tarn_node *t, int64_t of, double share, bool whole, int k) {
    const tarn_node *zero = tarn_num(b->g, 0);
    if (share >= 1 || !t) {
        return t;
    }
    if (share <= 0) {
        return tarn_mul(b->g, t, zero);
    }
    const tarn_node *size = tarn_abs(b->g, t);
    if (!size) {
        return NULL;
    }
    if (!whole) {
        return tarn_where(b->g, tarn_largest(b->g, size, of, share), t, zero);
    }
    size = comparable(b, size);
    const tarn_node *sel = select_of_model(b, size, of, share, k);
    double start = sel ? tarn_expand_start(b->expand, b->model, b->slot, k, sel) : 0;
    const tarn_node *cut = tarn_sub(b->g, tarn_item(b->g, sel, 1), tarn_num(b->g, start));
    const tarn_node *in[3] = {size, tarn_item(b->g, sel, 0), cut};
    return tarn_where(b->g, tarn_node_make(b->g, &tarn_op_top, 3, in, NULL), t, zero);
}

const tarn_node *tarn_keep_top(tarn_build *b, const tarn_node *t, double density, bool whole, int k) {
    return tarn_keep_share(b, t, 0, density, whole, k);
}

static const tarn_node *random_of(tarn_build *b, const tarn_op *op, tarn_dtype dtype, int rank, const int64_t *shape,
                                  double seed, int model, const char *use, const double *p) {
    uint64_t key = tarn_hash64((uint64_t)(int64_t)seed, b->source->name, b->source->len);
    key = tarn_hash64(key + (uint64_t)(model + 1), use, strlen(use));
    int64_t i[TARN_MAX_RANK + 2] = {dtype};
    memcpy(i + 1, shape, (size_t)rank * sizeof *i);
    memcpy(&i[rank + 1], &key, sizeof key);
    tarn_attr a = {.ni = rank + 2, .i = i, .nf = p ? 1 : 0, .f = p};
    return tarn_node_make(b->g, op, 0, NULL, &a);
}

const tarn_node *tarn_draw(tarn_build *b, double seed, int model, const char *use) {
    const tarn_slot *s = b->source;
    return random_of(b, &tarn_op_uniform, TARN_F32, s->rank, s->shape, seed, model, use, NULL);
}

const tarn_node *tarn_mask_shaped(tarn_build *b, int rank, const int64_t *shape, double p, double seed, int model,
                                  const char *use) {
    return random_of(b, &tarn_op_bernoulli, TARN_BOOL, rank, shape, seed, model, use, &p);
}

const tarn_node *tarn_mask(tarn_build *b, double p, double seed, int model, const char *use) {
    return tarn_mask_shaped(b, b->source->rank, b->source->shape, p, seed, model, use);
}

void tarn_slot_rename(tarn_slot *s, const char *suffix, tarn_arena *a) {
    size_t more = strlen(suffix);
    char *name = tarn_arena_take(a, s->len + more + 1);
    if (name) {
        memcpy(name, s->name, s->len);
        memcpy(name + s->len, suffix, more + 1);
        s->len += more;
    }
    s->name = name;
}
