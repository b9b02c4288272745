// SPDX-License-Identifier: Apache-2.0
// Rows of embeddings and heads moved to where tokens are: a vocabulary cut or grown, or several
// models brought to one vocabulary before they are merged. Which token is which row is said by the
// caller; tokenizers are not read here.
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "merge/model/structure.h"

typedef struct {
    int64_t rows;
    bool mean;
    int64_t **from;  // [operands][rows]
    bool *moved;     // [slots]
} moving;

// ---- the expression ----

// Numbers of the script as a leaf [rows, 1, …] of the rank of s.
static const tarn_node *column(tarn_expand *e, tarn_dtype t, const moving *v, const tarn_slot *s,
                               double (*at)(const tarn_model *m, int k, int64_t row),
                               const tarn_model *m, int k) {
    int64_t shape[TARN_MAX_RANK];
    tarn_tensor x;
    for (int d = 0; d < s->rank; d++) {
        shape[d] = d ? 1 : v->rows;
    }
    if (tarn_tensor_new(e->cx, t, s->rank, shape, &x, &e->graph->err) != TARN_OK) {
        return NULL;
    }
    for (int64_t i = 0; i < v->rows; i++) {
        tarn_tensor_set(&x, i, at(m, k, i));
    }
    const tarn_node *n = tarn_leaf_tensor(e->graph, &x);
    tarn_tensor_release(&x);
    return n;
}

static bool has(const tarn_model *m, int k, int64_t row) {
    return ((const moving *)m->extra)->from[k][row] >= 0;
}
static double own(const tarn_model *m, int k, int64_t row) { return has(m, k, row); }
static double lent(const tarn_model *m, int k, int64_t row) {
    return !has(m, 0, row) && has(m, k, row);
}
static double index_of(const tarn_model *m, int k, int64_t row) {
    return has(m, k, row) ? (double)((const moving *)m->extra)->from[k][row] : 0;
}
static double share(const tarn_model *m, int k, int64_t row) {
    int n = 0;
    for (int q = 1; q < m->nin; q++) {
        n += has(m, q, row);
    }
    return lent(m, k, row) > 0 ? 1.0 / n : 0;
}
static double filled(const tarn_model *m, int k, int64_t row) {
    bool any = false;
    for (int q = 0; q < m->nin; q++) {
        any = any || has(m, q, row);
    }
    (void)k;
    return !any;
}

static bool any_row(const tarn_model *m, int k, double (*at)(const tarn_model *, int, int64_t)) {
    const moving *v = m->extra;
    for (int64_t i = 0; i < v->rows; i++) {
        if (at(m, k, i) != 0) {
            return true;
        }
    }
    return false;
}

static const tarn_node *rows_of(tarn_expand *e, tarn_model *m, int64_t i, int k) {
    const tarn_slot *s = &m->slots[i];
    const tarn_node *x = tarn_model_expr(e, m->in[k], m->map[k][i]);
    const tarn_node *index = column(e, TARN_I64, m->extra, s, index_of, m, k);
    int64_t axis = 0;
    tarn_attr along = {.ni = 1, .i = &axis};
    if (!x || !index) {
        return NULL;
    }
    const tarn_node *in[2] = {tarn_cast(e->graph, x, tarn_dtype_compute(x->desc.dtype)),
                              tarn_broadcast(e->graph, index, s->rank, s->shape)};
    return tarn_node_make(e->graph, &tarn_op_gather, 2, in, &along);
}

// What stands in for tokens that nobody has.
static const tarn_node *fill_of(tarn_expand *e, tarn_model *m, int64_t i) {
    const moving *v = m->extra;
    const tarn_node *x = tarn_model_expr(e, m->in[0], m->map[0][i]);
    const tarn_slot *was = &m->in[0]->slots[m->map[0][i]];
    int64_t axis = 0;
    if (!x || !v->mean || was->shape[0] == 0) {
        return x ? tarn_num(e->graph, 0) : NULL;
    }
    return tarn_div(e->graph, tarn_reduce(e->graph, &tarn_op_sum, x, 1, &axis, true),
                    tarn_num(e->graph, (double)was->shape[0]));
}

static const tarn_node *expand_rows(tarn_expand *e, tarn_model *m, int64_t i) {
    const moving *v = m->extra;
    const tarn_slot *s = &m->slots[i];
    tarn_graph *g = e->graph;
    if (!v->moved[i]) {
        return tarn_model_expr(e, m->in[0], m->map[0][i]);
    }
    const tarn_node *r = NULL, *zero = tarn_num(g, 0);
    for (int k = 1; k < m->nin; k++) {
        if (m->map[k][i] < 0 || !any_row(m, k, lent)) {
            continue;
        }
        const tarn_node *x =
            tarn_mul(g, rows_of(e, m, i, k), column(e, TARN_F32, v, s, share, m, k));
        x = tarn_where(g, column(e, TARN_BOOL, v, s, lent, m, k), x, zero);
        r = r ? tarn_add(g, r, x) : x;
    }
    if (any_row(m, 0, filled)) {
        r = tarn_where(g, column(e, TARN_BOOL, v, s, filled, m, 0), fill_of(e, m, i), r ? r : zero);
    }
    if (!r) {
        return rows_of(e, m, i, 0);
    }
    return any_row(m, 0, own)
               ? tarn_where(g, column(e, TARN_BOOL, v, s, own, m, 0), rows_of(e, m, i, 0), r)
               : tarn_broadcast(g, r, s->rank, s->shape);
}

// ---- the plan ----

// Rows as runs [to, from, count].
static void write_runs(const moving *v, const int64_t *from, tarn_text *out) {
    bool first = true;
    tarn_text_puts(out, "[");
    for (int64_t i = 0; i < v->rows;) {
        int64_t n = 1;
        while (i + n < v->rows && from[i] >= 0 && from[i + n] == from[i] + n) {
            n++;
        }
        if (from[i] >= 0) {
            tarn_text_printf(out, "%s[%lld,%lld,%lld]", first ? "" : ",", (long long)i,
                             (long long)from[i], (long long)n);
            first = false;
        }
        i += n;
    }
    tarn_text_puts(out, "]");
}

static void write_rows(const tarn_model *m, tarn_text *out) {
    const moving *v = m->extra;
    bool first = true;
    tarn_text_printf(out, ",\"rows\":%lld,\"fill\":\"%s\",\"tensors\":[", (long long)v->rows,
                     v->mean ? "mean" : "zero");
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        if (v->moved[m->by_name[i]]) {
            tarn_text_puts(out, first ? "" : ",");
            tarn_text_json(out, s->name, s->len);
            first = false;
        }
    }
    tarn_text_puts(out, "],\"from\":[");
    for (int k = 0; k < m->nin; k++) {
        tarn_text_puts(out, k ? "," : "");
        write_runs(v, v->from[k], out);
    }
    tarn_text_puts(out, "]");
}

static tarn_status read_runs(const json_t *list, int64_t rows, int64_t *from, tarn_error *err) {
    int64_t next = 0;  // runs come in order, so that reading them takes no longer than there are rows
    memset(from, -1, (size_t)rows * sizeof *from);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *run = json_array_get(list, i);
        int64_t at[3];
        for (int k = 0; k < 3; k++) {
            const json_t *x = json_array_get(run, (size_t)k);
            at[k] = json_is_integer(x) ? json_integer_value(x) : -1;
        }
        if (at[0] < next || at[1] < 0 || at[2] < 0 || at[0] > rows || at[2] > rows - at[0] ||
            at[1] > INT64_MAX - at[2]) {
            TARN_RAISE(err, "PlanInvalid", "plan: rows: a run outside 0 to %lld, or out of order", (long long)rows);
        }
        next = at[0] + at[2];
        for (int64_t k = 0; k < at[2]; k++) {
            from[at[0] + k] = at[1] + k;
        }
    }
    return TARN_OK;
}

enum { ROWS_MOST = 1 << 28 };

static tarn_status restore_rows(tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    double rows;
    const char *fill, *const *tensors;
    int64_t n = -1;
    const void *from;
    TARN_TRY(tarn_restore_list(j, "from", &from, err));
    TARN_TRY(tarn_restore_number(j, "rows", &rows, err));
    TARN_TRY(tarn_restore_text(j, "fill", &fill, err));
    TARN_TRY(tarn_restore_texts(j, "tensors", &n, &tensors, err));
    if (!(rows >= 0 && rows <= ROWS_MOST) || json_array_size(from) != (size_t)nin) {
        TARN_RAISE(err, "PlanInvalid", "plan: rows: %g rows, or not one list for each model", rows);
    }
    int64_t **list = tarn_arena_take(j->arena, (size_t)nin * sizeof *list);
    for (int k = 0; list && k < nin; k++) {
        list[k] = tarn_arena_take(j->arena, (size_t)rows * sizeof **list + 1);
        if (!list[k]) {
            list = NULL;
            break;
        }
        TARN_TRY(read_runs(json_array_get(from, (size_t)k), (int64_t)rows, list[k], err));
    }
    if (!list) {
        return tarn_raise_nomem(err, "a plan", (size_t)rows * sizeof **list);
    }
    tarn_vocab_rows r = {(int64_t)rows, (const int64_t *const *)list, strcmp(fill, "mean") == 0};
    return tarn_model_rows(cx, nin, in, n, tensors, &r, out, err);
}

const tarn_model_op tarn_model_row_rows = {
    .name = "rows", .expand = expand_rows, .members = "rows|fill|tensors|from", .write = write_rows, .restore = restore_rows};

// ---- making ----

// Slot i's rows are moved: its new shape, and who may lend to it.
static tarn_status move(tarn_model *m, int64_t i, tarn_error *err) {
    moving *v = (moving *)(uintptr_t)m->extra;
    tarn_slot *s = &m->slots[i];
    int64_t *shape = tarn_arena_copy(&m->arena, s->shape, (size_t)s->rank * sizeof *shape);
    if (s->rank < 1 || s->rank > TARN_MAX_RANK || !tarn_dtype_is_float(s->dtype)) {
        TARN_RAISE(err, "ShapeMismatch", "rows: %s has no rows of floating numbers, in at most %d dimensions", s->name,
                   TARN_MAX_RANK);
    }
    if (!shape) {
        return tarn_raise_nomem(err, "a model", (size_t)s->rank * sizeof *shape);
    }
    for (int k = 0; k < m->nin; k++) {
        int64_t at = k ? tarn_match_slot(m->in[0], i, m->in[k]) : i;
        const tarn_slot *t = at < 0 ? NULL : &m->in[k]->slots[at];
        m->map[k][i] = at;
        if (t && (t->rank != s->rank ||
                  !tarn_shape_equal(t->rank - 1, t->shape + 1, s->rank - 1, s->shape + 1))) {
            TARN_RAISE(err, "ShapeMismatch",
                       "rows: the rows of %s in %s and in %s have different lengths", s->name,
                       tarn_model_label(m->in[0]), tarn_model_label(m->in[k]));
        }
        for (int64_t row = 0; t && row < v->rows; row++) {
            if (v->from[k][row] < -1 || v->from[k][row] >= t->shape[0]) {
                TARN_RAISE(
                    err, "IndexRange",
                    "rows: token %lld is to be row %lld of %s in %s, which has rows 0 to %lld",
                    (long long)row, (long long)v->from[k][row], t->name, tarn_model_label(m->in[k]),
                    (long long)t->shape[0] - 1);
            }
        }
    }
    shape[0] = v->rows;
    s->shape = shape;
    v->moved[i] = true;
    return TARN_OK;
}

static tarn_status fill(tarn_model *m, int64_t ntensors, const char *const *tensors,
                        const tarn_vocab_rows *r, tarn_error *err) {
    tarn_model *first = m->in[0];
    size_t n = (size_t)first->n;
    moving *v = tarn_arena_take(&m->arena, sizeof *v);
    m->map = tarn_arena_take(&m->arena, (size_t)m->nin * sizeof *m->map);
    m->slots = tarn_arena_copy(&m->arena, first->slots, n * sizeof *m->slots);
    bool good = v && m->map && m->slots;
    if (good) {
        *v = (moving){.rows = r->rows, .mean = r->mean};
        v->from = tarn_arena_take(&m->arena, (size_t)m->nin * sizeof *v->from);
        v->moved = tarn_arena_take(&m->arena, n + 1);
        good = v->from && v->moved;
    }
    for (int k = 0; good && k < m->nin; k++) {
        v->from[k] = tarn_arena_copy(&m->arena, r->from[k], (size_t)r->rows * sizeof **v->from);
        m->map[k] = tarn_arena_take(&m->arena, n * sizeof **m->map + 1);
        good = v->from[k] && m->map[k];
        for (size_t i = 0; good && i < n; i++) {
            m->map[k][i] = k ? -1 : (int64_t)i;
            v->moved[i] = false;
        }
    }
    if (!good) {
        return tarn_raise_nomem(err, "a model", n * sizeof *m->slots);
    }
    m->extra = v;
    m->n = first->n;
    m->by_name = first->by_name;  // the operand is retained: its arena outlives this node
    m->side = first->side;
    m->named = first->named;
    m->mass = first->mass;
    for (int64_t k = 0; k < ntensors; k++) {
        int64_t i = tarn_model_find(first, tensors[k], strlen(tensors[k]));
        if (i < 0) {
            TARN_RAISE(err, "MissingTensor", "rows: no tensor %s in %s", tensors[k],
                       tarn_model_label(first));
        }
        TARN_TRY(move(m, i, err));
    }
    return TARN_OK;
}

tarn_status tarn_model_rows(tarn_context *cx, int n, tarn_model *const *models, int64_t ntensors,
                            const char *const *tensors, const tarn_vocab_rows *r, tarn_model **out,
                            tarn_error *err) {
    if (r->rows < 0 || r->rows > ROWS_MOST) {
        TARN_RAISE(err, "OptionRange", "rows: %lld rows; expected 0 to %d", (long long)r->rows,
                   (int)ROWS_MOST);
    }
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_rows, n, models, &m, err));
    tarn_status s = fill(m, ntensors, tensors, r, err);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}

// ---- vocabularies ----

static bool outer(const tarn_model *m, int64_t i, tarn_place a, tarn_place b) {
    const tarn_name_info *info = tarn_model_info(m, i);
    return info && info->tokens && (info->place == a || info->place == b) && m->slots[i].rank > 0 &&
           tarn_dtype_is_float(m->slots[i].dtype);
}

tarn_status tarn_vocab_find(const tarn_model *m, int64_t *list, int64_t *n, int64_t *rows,
                            tarn_error *err) {
    *n = *rows = 0;
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[i];
        bool table = outer(m, i, TARN_PLACE_EMBED, TARN_PLACE_EMBED) && s->rank == 2;
        *rows = table && s->shape[0] > *rows ? s->shape[0] : *rows;
    }
    for (int64_t i = 0; i < m->n; i++) {
        if (outer(m, i, TARN_PLACE_EMBED, TARN_PLACE_HEAD) && m->slots[i].rank <= 2 &&
            m->slots[i].shape[0] == *rows) {
            list[(*n)++] = i;
        }
    }
    if (*rows == 0) {
        TARN_RAISE(err, "NoVocabulary", "%s: no embedding of tokens is known among its names",
                   tarn_model_label(m));
    }
    return TARN_OK;
}

// {"vocab_size": rows} where the config has that field, at the top or for its language model.
static tarn_status set_size(tarn_context *cx, tarn_model *m, int64_t rows, tarn_model **out,
                            tarn_error *err) {
    json_t *root;
    TARN_TRY(tarn_config_read(cx, NULL, m->side ? m->side->config : NULL, m->side ? m->side->config_len : 0, &root,
                              err));
    bool top = json_is_integer(json_object_get(root, "vocab_size"));
    bool text =
        json_is_integer(json_object_get(json_object_get(root, "text_config"), "vocab_size"));
    json_decref(root);
    if (!top && !text) {
        *out = tarn_model_retain(m);
        return TARN_OK;
    }
    char patch[128];
    snprintf(patch, sizeof patch,
             top ? "{\"vocab_size\":%lld}" : "{\"text_config\":{\"vocab_size\":%lld}}",
             (long long)rows);
    return tarn_model_with_config(cx, m, patch, out, err);
}

tarn_status tarn_model_vocab(tarn_context *cx, int n, tarn_model *const *models,
                             const tarn_vocab_rows *r, tarn_model **out, tarn_error *err) {
    tarn_arena a;
    tarn_arena_init(&a, &cx->budget);
    int64_t count, rows, *list = tarn_arena_take(&a, (size_t)models[0]->n * sizeof *list + 1);
    const char **names = tarn_arena_take(&a, (size_t)models[0]->n * sizeof *names + 1);
    tarn_model *moved = NULL;
    tarn_status s = list && names ? tarn_vocab_find(models[0], list, &count, &rows, err)
                                  : tarn_raise_nomem(err, "a model", 0);
    for (int64_t i = 0; s == TARN_OK && i < count; i++) {
        names[i] = models[0]->slots[list[i]].name;
    }
    s = s == TARN_OK ? tarn_model_rows(cx, n, models, count, names, r, &moved, err) : s;
    s = s == TARN_OK ? set_size(cx, moved, r->rows, out, err) : s;
    tarn_model_release(moved);
    tarn_arena_free(&a);
    return s;
}
