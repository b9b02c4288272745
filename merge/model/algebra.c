// SPDX-License-Identifier: Apache-2.0
// Model algebra: an operation of the tensor table applied to every tensor. Which one is data: the
// row is kept in the node, never asked for.
#include <string.h>

#include "merge/model/model.h"

static const tarn_node *expand_binary(tarn_expand *e, tarn_model *m, int64_t i) {
    if (tarn_slot_integer(&m->slots[i])) {
        return tarn_expand_integer(e, m, i);
    }
    const tarn_op *op = m->extra;
    const tarn_node *a = tarn_model_operand(e, m, 0, i, 1), *b = tarn_model_operand(e, m, 1, i, 0);
    return tarn_binary(e->graph, op, a, b);
}

static const char *title_op(const tarn_model *m) { return ((const tarn_op *)m->extra)->name; }

static void write_op(const tarn_model *m, tarn_text *out) {
    const tarn_op *op = m->extra;
    tarn_text_printf(out, ",\"operation\":\"%s\",\"version\":%d", op->name, op->version);
}

static tarn_status read_op(const tarn_model_json *j, int arity, const tarn_op **op,
                           tarn_error *err) {
    const char *name;
    double version;
    TARN_TRY(tarn_restore_text(j, "operation", &name, err));
    TARN_TRY(tarn_restore_number(j, "version", &version, err));
    *op = tarn_op_find(name);
    if (!*op || (*op)->cls != TARN_CLASS_POINT || (*op)->min_in != arity) {
        TARN_RAISE(err, "PlanInvalid", "plan: no operation of %d operand%s is called '%.60s'", arity,
                   arity == 1 ? "" : "s", name);
    }
    if (version != (*op)->version) {
        TARN_RAISE(err, "PlanVersion", "plan: made with version %g of %s, this program has %d", version, name,
                   (*op)->version);
    }
    return TARN_OK;
}

static tarn_status restore_binary(tarn_context *cx, const tarn_model_json *j, int nin,
                                  tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const tarn_op *op;
    TARN_TRY(read_op(j, 2, &op, err));
    if (nin != 2) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s takes two models, got %d", op->name, nin);
    }
    return tarn_model_binary(cx, op, in[0], in[1], out, err);
}

const tarn_model_op tarn_model_row_binary = {.name = "binary", .expand = expand_binary,
                                             .members = "operation|version", .write = write_op, .restore = restore_binary,
    .title = title_op};

tarn_status tarn_model_binary(tarn_context *cx, const tarn_op *op, tarn_model *a, tarn_model *b,
                              tarn_model **out, tarn_error *err) {
    tarn_model *in[2] = {a, b};
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_binary, 2, in, &m, err));
    m->extra = op;
    m->mass = tarn_mass_of(op, a->mass, b->mass);
    bool point[2] = {a->mass != 0, b->mass != 0};
    tarn_status s = tarn_model_match(m, point, !point[0] && point[1] ? 1 : 0, err);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

// One operand whose signature stays.
tarn_status tarn_model_like(tarn_context *cx, const tarn_model_op *row, tarn_model *m,
                            tarn_model **out, tarn_error *err) {
    tarn_model *r;
    TARN_TRY(tarn_model_new(cx, row, 1, &m, &r, err));
    int64_t *same = tarn_arena_take(&r->arena, (size_t)m->n * sizeof *same + 1);
    int64_t **map = tarn_arena_take(&r->arena, sizeof *map);
    if (!same || !map) {
        tarn_model_release(r);
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *same);
    }
    for (int64_t i = 0; i < m->n; i++) {
        same[i] = i;
    }
    map[0] = same;
    r->map = map;
    r->n = m->n;
    r->slots = m->slots;  // the operand is retained: its arena outlives this node
    r->by_name = m->by_name;
    r->side = m->side;
    r->named = m->named;
    r->mass = m->mass;
    *out = r;
    return TARN_OK;
}

static const tarn_node *expand_number(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_node *x = tarn_model_expr(e, m->in[0], i);
    if (tarn_slot_integer(&m->slots[i])) {
        e->copied = true;
        return x;
    }
    const tarn_node *c = tarn_num(e->graph, tarn_value_at(&m->values[0], i));
    bool reversed = m->values[1].number != 0;
    return tarn_binary(e->graph, m->extra, reversed ? c : x, reversed ? x : c);
}

static tarn_status restore_number(tarn_context *cx, const tarn_model_json *j, int nin,
                                  tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const tarn_op *op;
    TARN_TRY(read_op(j, 2, &op, err));
    if (nin != 1 || j->nvalues != 2 || j->values[1].each || j->values[0].text) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s with a number: bad operands", op->name);
    }
    return tarn_model_with_number(cx, op, in[0], &j->values[0], j->values[1].number != 0, out, err);
}

const tarn_model_op tarn_model_row_number = {.name = "number", .expand = expand_number,
                                             .members = "operation|version", .write = write_op, .restore = restore_number,
    .title = title_op};

tarn_status tarn_model_with_number(tarn_context *cx, const tarn_op *op, tarn_model *m,
                                   const tarn_value *value, bool reversed, tarn_model **out,
                                   tarn_error *err) {
    tarn_model *r;
    TARN_TRY(tarn_model_like(cx, &tarn_model_row_number, m, &r, err));
    r->extra = op;
    r->values = tarn_arena_take(&r->arena, 2 * sizeof *r->values);
    if (r->values) {
        r->nvalues = 2;
        const char *origin = value->origin ? value->origin : "given";
        r->values[0] = (tarn_value){.name = "c", .model = -1, .number = value->number};
        r->values[0].origin = tarn_arena_string(&r->arena, origin, strlen(origin));
        r->values[1] = (tarn_value){.name = "reversed", .model = -1, .number = reversed};
        if (value->each) {
            r->values[0].each = tarn_arena_copy(&r->arena, value->each, (size_t)m->n * sizeof(double));
        }
    }
    if (!r->values || !r->values[0].origin || (value->each && !r->values[0].each)) {
        tarn_model_release(r);
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof(double));
    }
    // A factor scales the mass; per-tensor factors that sum to one elsewhere keep it a point, so the
    // mean speaks for them.
    double c = value->number;
    if (value->each) {
        c = 0;
        for (int64_t i = 0; i < m->n; i++) {
            c += value->each[i] / (double)m->n;
        }
    }
    if (op->mass.scale != 0) {
        r->mass = op->mass.scale > 0 ? m->mass * c : reversed ? 0 : m->mass / c;
    } else if (op->mass.a != 0 || op->mass.b != 0) {  // c itself is no point
        r->mass = tarn_mass_of(op, reversed ? 0 : m->mass, reversed ? m->mass : 0);
    }
    *out = r;
    return TARN_OK;
}

static const tarn_node *expand_unary(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_node *x = tarn_model_expr(e, m->in[0], i);
    if (tarn_slot_integer(&m->slots[i])) {
        e->copied = true;
        return x;
    }
    return tarn_unary(e->graph, m->extra, x);
}

static tarn_status restore_unary(tarn_context *cx, const tarn_model_json *j, int nin,
                                 tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const tarn_op *op;
    TARN_TRY(read_op(j, 1, &op, err));
    if (nin != 1) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s takes one model, got %d", op->name, nin);
    }
    return tarn_model_unary(cx, op, in[0], out, err);
}

const tarn_model_op tarn_model_row_unary = {.name = "unary", .expand = expand_unary,
                                            .members = "operation|version", .write = write_op, .restore = restore_unary,
    .title = title_op};

tarn_status tarn_model_unary(tarn_context *cx, const tarn_op *op, tarn_model *m, tarn_model **out,
                             tarn_error *err) {
    TARN_TRY(tarn_model_like(cx, &tarn_model_row_unary, m, out, err));
    (*out)->extra = op;
    (*out)->mass = tarn_mass_of(op, m->mass, 0);
    return TARN_OK;
}

static const tarn_node *expand_same(tarn_expand *e, tarn_model *m, int64_t i) {
    return tarn_model_expr(e, m->in[0], m->map[0][i]);
}

static tarn_status need_one(int nin, const char *what, tarn_error *err) {
    if (nin != 1) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s takes one model, got %d", what, nin);
    }
    return TARN_OK;
}

static tarn_status restore_with(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    TARN_TRY(need_one(nin, "with", err));
    return tarn_model_with(cx, in[0], &j->policy, out, err);
}

const tarn_model_op tarn_model_row_with = {.name = "with", .expand = expand_same,
                                           .restore = restore_with};

tarn_status tarn_model_with(tarn_context *cx, tarn_model *m, const tarn_policy *policy,
                            tarn_model **out, tarn_error *err) {
    TARN_TRY(tarn_model_like(cx, &tarn_model_row_with, m, out, err));
    (*out)->policy = *policy;
    return TARN_OK;
}

static const tarn_node *expand_cast(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_node *x = tarn_model_expr(e, m->in[0], i);
    return tarn_slot_integer(&m->slots[i]) ? x : tarn_cast(e->graph, x, *(const tarn_dtype *)m->extra);
}

static tarn_status restore_cast(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    tarn_dtype dtype;
    TARN_TRY(need_one(nin, "cast", err));
    const char *name = j->nvalues == 1 && j->values[0].text ? j->values[0].text : "";
    if (!tarn_dtype_find(name, &dtype) || !tarn_dtype_is_float(dtype)) {
        TARN_RAISE(err, "PlanInvalid", "plan: cast to '%.40s', which is no floating dtype", name);
    }
    return tarn_model_cast(cx, in[0], dtype, out, err);
}

const tarn_model_op tarn_model_row_cast = {.name = "cast", .expand = expand_cast,
                                           .restore = restore_cast};

tarn_status tarn_model_cast(tarn_context *cx, tarn_model *m, tarn_dtype dtype, tarn_model **out,
                            tarn_error *err) {
    tarn_model *r;
    TARN_TRY(tarn_model_like(cx, &tarn_model_row_cast, m, &r, err));
    r->slots = tarn_arena_copy(&r->arena, m->slots, (size_t)m->n * sizeof *m->slots);
    r->values = tarn_arena_take(&r->arena, sizeof *r->values);
    r->extra = tarn_arena_copy(&r->arena, &dtype, sizeof dtype);
    if (!r->slots || !r->values || !r->extra) {
        tarn_model_release(r);
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *m->slots);
    }
    r->nvalues = 1;
    r->values[0] = (tarn_value){.name = "dtype", .model = -1, .text = tarn_dtype_get(dtype)->name};
    for (int64_t i = 0; i < r->n; i++) {
        if (tarn_dtype_is_float(r->slots[i].dtype)) {
            r->slots[i].dtype = dtype;
        }
    }
    *out = r;
    return TARN_OK;
}

// ---- choosing, renaming, joining ----

// Names in byte order: what a plan says does not depend on the order of tensors in files.
static void write_names(const tarn_model *m, tarn_text *out) {
    tarn_text_puts(out, ",\"names\":[");
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        tarn_text_puts(out, i ? "," : "");
        tarn_text_json(out, s->name, s->len);
    }
    tarn_text_puts(out, "]");
}

// The new name of each of the operand's tensors, those in byte order.
static void write_renames(const tarn_model *m, tarn_text *out) {
    const tarn_model *x = m->in[0];
    tarn_text_puts(out, ",\"names\":[");
    for (int64_t i = 0; i < x->n; i++) {
        const tarn_slot *s = &m->slots[x->by_name[i]];  // slot i of m is slot i of x
        tarn_text_puts(out, i ? "," : "");
        tarn_text_json(out, s->name, s->len);
    }
    tarn_text_puts(out, "]");
}

// New names say new things: which layer, which place.
tarn_status tarn_model_find_names(tarn_model *m, tarn_error *err) {
    tarn_name_in *in = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *in + 1);
    m->names = tarn_arena_take(&m->arena, sizeof *m->names);
    if (!in || !m->names) {
        return tarn_raise_nomem(err, "the table of names", (size_t)m->n * sizeof *in);
    }
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[i];
        in[i] = (tarn_name_in){s->name, s->len, s->dtype, s->rank, s->shape};
    }
    const char *config = m->side ? m->side->config : NULL;
    m->named = m;
    return tarn_names_find(m->cx, &m->arena, m->n, in, config, config ? m->side->config_len : 0, m->names,
                           err);
}

static tarn_status restore_only(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const char *const *names;
    int64_t n = -1;
    TARN_TRY(need_one(nin, "only", err));
    TARN_TRY(tarn_restore_texts(j, "names", &n, &names, err));
    unsigned char *keep = tarn_arena_take(j->arena, (size_t)in[0]->n + 1);
    if (!keep) {
        return tarn_raise_nomem(err, "a plan", (size_t)in[0]->n);
    }
    memset(keep, 0, (size_t)in[0]->n + 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = tarn_model_find(in[0], names[i], strlen(names[i]));
        if (at < 0) {
            TARN_RAISE(err, "MissingTensor", "plan: no tensor %s in %s", names[i],
                       tarn_model_label(in[0]));
        }
        keep[at] = 1;
    }
    return tarn_model_only(cx, in[0], keep, out, err);
}

static tarn_status restore_rename(tarn_context *cx, const tarn_model_json *j, int nin,
                                  tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const char *const *names;
    TARN_TRY(need_one(nin, "rename", err));
    int64_t n = in[0]->n;
    TARN_TRY(tarn_restore_texts(j, "names", &n, &names, err));
    const char **sorted = tarn_arena_take(j->arena, (size_t)n * sizeof *sorted + 1);
    if (!sorted) {
        return tarn_raise_nomem(err, "a plan", (size_t)n * sizeof *sorted);
    }
    for (int64_t i = 0; i < n; i++) {
        sorted[in[0]->by_name[i]] = names[i];
    }
    return tarn_model_rename(cx, in[0], sorted, out, err);
}

const tarn_model_op tarn_model_row_only = {.name = "only", .expand = expand_same,
                                           .members = "names", .write = write_names, .restore = restore_only};
const tarn_model_op tarn_model_row_rename = {.name = "rename", .expand = expand_same,
                                             .members = "names", .write = write_renames, .restore = restore_rename};

static tarn_status pick(tarn_context *cx, const tarn_model_op *row, tarn_model *m, int64_t n,
                        const int64_t *from, const char *const *names, tarn_model **out,
                        tarn_error *err) {
    tarn_model *r;
    TARN_TRY(tarn_model_new(cx, row, 1, &m, &r, err));
    r->map = tarn_arena_take(&r->arena, sizeof *r->map);
    r->slots = tarn_arena_take(&r->arena, (size_t)n * sizeof *r->slots + 1);
    int64_t *map = tarn_arena_copy(&r->arena, from, (size_t)n * sizeof *from);
    tarn_status s = r->map && r->slots && map ? TARN_OK
                                              : tarn_raise_nomem(err, "a model", (size_t)n * 64);
    for (int64_t i = 0; i < n && s == TARN_OK; i++) {
        r->slots[i] = m->slots[from[i]];
        if (names && names[i]) {
            r->slots[i].len = strlen(names[i]);
            r->slots[i].name = tarn_arena_string(&r->arena, names[i], r->slots[i].len);
            s = r->slots[i].name ? TARN_OK : tarn_raise_nomem(err, "a model", r->slots[i].len);
        }
    }
    if (s == TARN_OK) {
        r->map[0] = map;
        r->n = n;
        r->side = m->side;
        r->named = m->named;
        r->mass = m->mass;
        s = tarn_model_index(r, err);
        s = s == TARN_OK && names ? tarn_model_find_names(r, err) : s;
    }
    if (s != TARN_OK) {
        tarn_model_release(r);
        return s;
    }
    *out = r;
    return TARN_OK;
}

tarn_status tarn_model_only(tarn_context *cx, tarn_model *m, const unsigned char *keep,
                            tarn_model **out, tarn_error *err) {
    int64_t *from = tarn_alloc(&cx->budget, (size_t)m->n * sizeof *from + 1), n = 0;
    if (!from) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *from);
    }
    for (int64_t i = 0; i < m->n; i++) {
        if (keep[i]) {
            from[n++] = i;
        }
    }
    tarn_status s = pick(cx, &tarn_model_row_only, m, n, from, NULL, out, err);
    tarn_free(&cx->budget, from, (size_t)m->n * sizeof *from + 1);
    return s;
}

tarn_status tarn_model_rename(tarn_context *cx, tarn_model *m, const char *const *names,
                              tarn_model **out, tarn_error *err) {
    int64_t *from = tarn_alloc(&cx->budget, (size_t)m->n * sizeof *from + 1);
    if (!from) {
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *from);
    }
    for (int64_t i = 0; i < m->n; i++) {
        from[i] = i;
    }
    tarn_status s = pick(cx, &tarn_model_row_rename, m, m->n, from, names, out, err);
    tarn_free(&cx->budget, from, (size_t)m->n * sizeof *from + 1);
    return s;
}

static const tarn_node *expand_join(tarn_expand *e, tarn_model *m, int64_t i) {
    for (int k = 0; k < m->nin; k++) {
        if (m->map[k][i] >= 0) {
            return tarn_model_expr(e, m->in[k], m->map[k][i]);
        }
    }
    return NULL;
}

static tarn_status restore_join(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    (void)j;
    return tarn_model_join(cx, nin, in, out, err);
}

const tarn_model_op tarn_model_row_join = {.name = "join", .expand = expand_join,
                                           .restore = restore_join};

tarn_status tarn_model_join(tarn_context *cx, int n, tarn_model *const *parts, tarn_model **out,
                            tarn_error *err) {
    tarn_model *r;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_join, n, parts, &r, err));
    int64_t total = 0;
    for (int k = 0; k < n; k++) {
        total += parts[k]->n;
    }
    r->map = tarn_arena_take(&r->arena, (size_t)n * sizeof *r->map + 1);
    r->slots = tarn_arena_take(&r->arena, (size_t)total * sizeof *r->slots + 1);
    tarn_status s = r->map && r->slots ? TARN_OK : tarn_raise_nomem(err, "a model", (size_t)total * 64);
    for (int k = 0; k < n && s == TARN_OK; k++) {
        r->map[k] = tarn_arena_take(&r->arena, (size_t)total * sizeof **r->map + 1);
        if (!r->map[k]) {
            s = tarn_raise_nomem(err, "a model", (size_t)total * 8);
            break;
        }
        memset(r->map[k], -1, (size_t)total * sizeof **r->map);
        for (int64_t i = 0; i < parts[k]->n; i++) {
            r->map[k][r->n] = i;
            r->slots[r->n++] = parts[k]->slots[i];
        }
    }
    if (s == TARN_OK) {
        r->side = n > 0 ? parts[0]->side : NULL;
        r->mass = n > 0 ? parts[0]->mass : 1;
        s = tarn_model_index(r, err);
        s = s == TARN_OK ? tarn_model_find_names(r, err) : s;
    }
    if (s != TARN_OK) {
        tarn_model_release(r);
        return s;
    }
    *out = r;
    return TARN_OK;
}

static const tarn_node *expand_slice(tarn_expand *e, tarn_model *m, int64_t i) {
    const tarn_node *x = tarn_model_expr(e, m->in[0], i);
    if (!x || i != *(const int64_t *)m->extra) {
        return x;
    }
    return tarn_slice(e->graph, x, 0, (int64_t)m->values[0].number, (int64_t)m->values[1].number);
}

static void write_slice(const tarn_model *m, tarn_text *out) {
    const tarn_slot *s = &m->slots[*(const int64_t *)m->extra];
    tarn_text_puts(out, ",\"tensor\":");
    tarn_text_json(out, s->name, s->len);
}

static tarn_status restore_slice(tarn_context *cx, const tarn_model_json *j, int nin,
                                 tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const char *name;
    TARN_TRY(need_one(nin, "slice", err));
    TARN_TRY(tarn_restore_text(j, "tensor", &name, err));
    if (j->nvalues != 2 || !(j->values[0].number >= 0 && j->values[0].number < 1e15) ||
        !(j->values[1].number >= 0 && j->values[1].number < 1e15)) {
        TARN_RAISE(err, "PlanInvalid", "plan: slice of %s: bad range", name);
    }
    return tarn_model_slice(cx, in[0], name, (int64_t)j->values[0].number,
                            (int64_t)j->values[1].number, out, err);
}

const tarn_model_op tarn_model_row_slice = {.name = "slice", .expand = expand_slice,
                                            .members = "tensor", .write = write_slice, .restore = restore_slice};

tarn_status tarn_model_slice(tarn_context *cx, tarn_model *m, const char *name, int64_t first,
                             int64_t count, tarn_model **out, tarn_error *err) {
    int64_t at = tarn_model_find(m, name, strlen(name));
    if (at < 0) {
        TARN_RAISE(err, "MissingTensor", "slice: no tensor %s in %s", name, tarn_model_label(m));
    }
    const tarn_slot *slot = &m->slots[at];
    if (slot->rank == 0 || first < 0 || count < 0 || first + count > slot->shape[0]) {
        TARN_RAISE(err, "SliceOutOfRange", "slice: rows %lld to %lld of %s, which has %lld",
                   (long long)first + 1, (long long)(first + count), name,
                   slot->rank ? (long long)slot->shape[0] : 0LL);
    }
    tarn_model *r;
    TARN_TRY(tarn_model_like(cx, &tarn_model_row_slice, m, &r, err));
    r->slots = tarn_arena_copy(&r->arena, m->slots, (size_t)m->n * sizeof *m->slots);
    int64_t *shape = tarn_arena_copy(&r->arena, slot->shape, (size_t)slot->rank * sizeof *shape);
    r->values = tarn_arena_take(&r->arena, 2 * sizeof *r->values);
    r->extra = tarn_arena_copy(&r->arena, &at, sizeof at);
    if (!r->slots || !shape || !r->values || !r->extra) {
        tarn_model_release(r);
        return tarn_raise_nomem(err, "a model", (size_t)m->n * sizeof *m->slots);
    }
    r->nvalues = 2;
    r->values[0] = (tarn_value){.name = "first", .model = -1, .number = (double)first};
    r->values[1] = (tarn_value){.name = "count", .model = -1, .number = (double)count};
    shape[0] = count;
    r->slots[at].shape = shape;
    *out = r;
    return TARN_OK;
}
