// SPDX-License-Identifier: Apache-2.0
// The plan as canonical JSON: nodes in the order of their first use, operands before users. What it
// says depends on names and parameters alone, never on paths, sharding or the order of tensors.
#include <string.h>

#include "merge/model/tree.h"
#include "merge/plan/output.h"
#include "vm/store/digests.h"

enum { NODES = 1 << 16 };

static const tarn_model_op *const rows[] = {
    &tarn_model_row_binary, &tarn_model_row_number, &tarn_model_row_unary, &tarn_model_row_with,
    &tarn_model_row_cast,   &tarn_model_row_only,   &tarn_model_row_rename, &tarn_model_row_join,
    &tarn_model_row_slice,  &tarn_model_row_map,    &tarn_model_row_method,
    &tarn_model_row_stage,  &tarn_model_row_config, &tarn_model_row_lora,
    &tarn_model_row_lora_sum, &tarn_model_row_rows, &tarn_model_row_fill,
};

tarn_status tarn_header_digest(const tarn_model *m, char hex[65], tarn_error *err) {
    tarn_text line;
    tarn_text_init(&line, &m->cx->budget);
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    for (int64_t i = 0; i < m->n; i++) {
        const tarn_slot *s = &m->slots[m->by_name[i]];
        tarn_digest_line(&h, &line, s->name, s->len, s->dtype, s->rank, s->shape, NULL);
    }
    unsigned char sum[32];
    tarn_sha256_end(&h, sum);
    tarn_hex(sum, 32, hex);
    bool failed = line.failed;
    tarn_text_free(&line);
    return failed ? tarn_raise_nomem(err, "a digest", 0) : TARN_OK;
}

typedef struct {
    tarn_arena arena;
    tarn_model **list;
    int n, room;
    bool failed;
} order;

// Opened twice from one path under one label: one input.
static bool same_input(const tarn_model *a, const tarn_model *b) {
    return a->store && b->store && strcmp(a->path, b->path) == 0 &&
           strcmp(tarn_model_label(a), tarn_model_label(b)) == 0;
}

int tarn_plan_index(tarn_model *const *list, int n, const tarn_model *m) {
    for (int k = n - 1; k >= 0; k--) {
        if (list[k] == m || same_input(list[k], m)) {
            return k;
        }
    }
    return -1;
}

static int index_of(void *arg, const tarn_model *m) {
    const order *o = arg;
    return tarn_plan_index(o->list, o->n, m);
}

static void visit(order *o, tarn_model *m) {
    if (index_of(o, m) >= 0) {
        return;
    }
    for (int k = 0; k < m->nin; k++) {
        visit(o, m->in[k]);
    }
    if (o->n == o->room) {
        int room = o->room ? 2 * o->room : 64;
        tarn_model **list = tarn_arena_take(&o->arena, (size_t)room * sizeof *list);
        if (!list) {
            o->failed = true;
            return;
        }
        if (o->n > 0) {
            memcpy(list, o->list, (size_t)o->n * sizeof *list);
        }
        o->list = list;
        o->room = room;
    }
    o->list[o->n++] = m;
}

static tarn_status write_input(const order *all, int k, tarn_text *out, tarn_error *err) {
    const tarn_model *m = all->list[k];
    char hex[65];
    TARN_TRY(tarn_header_digest(m, hex, err));
    tarn_text_printf(out, "{\"node\":\"%s\",\"label\":", m->op->name);
    tarn_plan_label(all->list, k, out);
    tarn_text_printf(out, ",\"tensors\":%lld,\"header\":\"%s\"}", (long long)m->n, hex);
    return TARN_OK;
}

tarn_status tarn_plan_nodes(tarn_model *m, tarn_arena *a, int *n, tarn_model ***list,
                            tarn_error *err) {
    order all = {.arena = *a};
    visit(&all, m);
    *a = all.arena;
    *n = all.n;
    *list = all.list;
    return all.failed ? tarn_raise_nomem(err, "a plan", 0) : TARN_OK;
}

tarn_status tarn_plan_json(tarn_model *m, const tarn_plan_options *o, tarn_text *out,
                           bool *replayable, tarn_error *err) {
    order all = {0};
    tarn_arena_init(&all.arena, &m->cx->budget);
    visit(&all, m);
    *replayable = true;
    tarn_text_puts(out, "{\"tarn\":\"plan\",\"format\":1,\"nodes\":[");
    tarn_status s = all.failed ? tarn_raise_nomem(err, "a plan", 0) : TARN_OK;
    for (int k = 0; k < all.n && s == TARN_OK; k++) {
        const tarn_model *x = all.list[k];
        tarn_text_puts(out, k ? "," : "");
        if (x->nin == 0) {
            s = write_input(&all, k, out, err);
            *replayable = *replayable && x->store;
        } else {
            tarn_model_write(x, index_of, &all, out);
            *replayable = *replayable && x->op->restore &&
                          (!x->op->replayable || x->op->replayable(x));
        }
    }
    tarn_text_puts(out, "],\"dtype\":");
    if (o && o->has_dtype) {
        tarn_text_printf(out, "\"%s\"", tarn_dtype_get(o->dtype)->name);
    } else {
        tarn_text_puts(out, "null");
    }
    tarn_text_printf(out, ",\"allow_nonfinite\":%s}", o && o->allow_nonfinite ? "true" : "false");
    tarn_arena_free(&all.arena);
    if (s == TARN_OK && out->failed) {
        return tarn_raise_nomem(err, "a plan", out->len);
    }
    return s;
}

// ---- reading ----

typedef struct {
    tarn_context *cx;
    tarn_arena arena;
    const char *(*path)(void *arg, const char *label, int k);
    void *arg;
    tarn_model **made;
    size_t count;
    int inputs;
} reader;

static tarn_status read_input(reader *r, json_t *o, tarn_model **out, tarn_error *err) {
    const char *label = json_string_value(json_object_get(o, "label"));
    const char *want = json_string_value(json_object_get(o, "header"));
    const json_t *tensors = json_object_get(o, "tensors");
    if (!label || !want || !json_is_integer(tensors)) {
        TARN_RAISE(err, "PlanInvalid", "plan: an input without label, number of tensors or header digest");
    }
    TARN_TRY(tarn_restore_only(o, "an input", "node|label|tensors|header", NULL, err));
    const char *path = r->path(r->arg, label, r->inputs);
    if (!path) {
        TARN_RAISE(err, "MissingInput", "plan: where is the input '%s'? Give --input %s=PATH", label,
                   label);
    }
    r->inputs++;
    tarn_open_options oo = {.label = label};
    TARN_TRY(tarn_model_open(r->cx, path, &oo, out, err));
    char hex[65];
    TARN_TRY(tarn_header_digest(*out, hex, err));
    if (strcmp(hex, want) != 0 || (*out)->n != json_integer_value(tensors)) {
        TARN_RAISE(err, "InputDiffers", "plan: %s is not the input '%s' of the plan: its tensors' "
                   "names, dtypes or shapes differ", path, label);
    }
    return TARN_OK;
}

static tarn_status read_node(reader *r, json_t *o, tarn_model **out, tarn_error *err) {
    const char *name = json_string_value(json_object_get(o, "node"));
    if (!name) {
        TARN_RAISE(err, "PlanInvalid", "plan: a node without a name");
    }
    if (strcmp(name, tarn_model_row_input.name) == 0) {
        return read_input(r, o, out, err);
    }
    if (strcmp(name, tarn_model_row_memory.name) == 0) {
        TARN_RAISE(err, "NotReplayable", "plan: it holds tensors that were in memory, not in files: it cannot be "
                   "executed again");
    }
    const json_t *in = json_object_get(o, "in");
    size_t nin = json_array_size(in);
    if (nin < 1 || nin > 4096) {
        TARN_RAISE(err, "PlanInvalid", "plan: the node '%.40s' has %zu operands", name, nin);
    }
    tarn_model **operand = tarn_arena_take(&r->arena, nin * sizeof *operand);
    if (!operand) {
        return tarn_raise_nomem(err, "a plan", nin * sizeof *operand);
    }
    for (size_t k = 0; k < nin; k++) {
        const json_t *v = json_array_get(in, k);
        json_int_t at = json_is_integer(v) ? json_integer_value(v) : -1;
        if (at < 0 || (size_t)at >= r->count) {
            TARN_RAISE(err, "PlanInvalid", "plan: node %zu uses node %lld, which does not come before it",
                       r->count, (long long)at);
        }
        operand[k] = r->made[at];
    }
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        if (strcmp(rows[k]->name, name) == 0) {
            return tarn_model_restore(r->cx, &r->arena, o, rows[k], (int)nin, operand, out, err);
        }
    }
    TARN_RAISE(err, "PlanInvalid", "plan: unknown node '%.40s'", name);
}

static tarn_status read_head(const json_t *root, tarn_plan_options *o, tarn_error *err) {
    const json_t *dtype = json_object_get(root, "dtype"), *allow = json_object_get(root, "allow_nonfinite");
    const json_t *format = json_object_get(root, "format");
    const char *kind = json_string_value(json_object_get(root, "tarn"));
    memset(o, 0, sizeof *o);
    if (!kind || strcmp(kind, "plan") != 0) {
        TARN_RAISE(err, "PlanInvalid", "plan: this is no plan: it does not say \"tarn\": \"plan\"");
    }
    if (!json_is_integer(format) || json_integer_value(format) != 1) {
        TARN_RAISE(err, "PlanVersion", "plan: a format that this program does not know");
    }
    if (!json_is_boolean(allow) || (!json_is_null(dtype) && !json_is_string(dtype))) {
        TARN_RAISE(err, "PlanInvalid", "plan: dtype is a text or null, allow_nonfinite true or false");
    }
    TARN_TRY(tarn_restore_only(root, "the plan", "tarn|format|nodes|dtype|allow_nonfinite", NULL, err));
    o->allow_nonfinite = json_is_true(allow);
    if (json_is_string(dtype)) {
        o->has_dtype = true;
        if (!tarn_dtype_find(json_string_value(dtype), &o->dtype) || !tarn_dtype_is_float(o->dtype)) {
            TARN_RAISE(err, "PlanInvalid", "plan: dtype '%.40s'", json_string_value(dtype));
        }
    }
    return TARN_OK;
}

static tarn_status read_all(reader *r, const json_t *root, tarn_error *err) {
    const json_t *nodes = json_object_get(root, "nodes");
    size_t n = json_array_size(nodes);
    if (n < 1 || n > NODES) {
        TARN_RAISE(err, "PlanInvalid", "plan: %zu nodes", n);
    }
    r->made = tarn_arena_take(&r->arena, n * sizeof(tarn_model *));
    if (!r->made) {
        return tarn_raise_nomem(err, "a plan", n * sizeof(tarn_model *));
    }
    for (size_t k = 0; k < n; k++) {
        r->made[k] = NULL;
        tarn_status s = read_node(r, json_array_get(nodes, k), &r->made[k], err);
        if (s != TARN_OK) {
            tarn_model_release(r->made[k]);
            return s;
        }
        r->count++;
    }
    return TARN_OK;
}

tarn_status tarn_plan_read(tarn_context *cx, const char *text, size_t len,
                           const char *(*path)(void *arg, const char *label, int k), void *arg,
                           tarn_model **out, tarn_plan_options *o, tarn_error *err) {
    json_error_t je;
    json_t *root = tarn_tree_read(&cx->budget, text, len, JSON_REJECT_DUPLICATES, &je);
    if (!root && tarn_tree_nomem(&je)) {
        return tarn_raise_nomem(err, "a plan", len);
    }
    if (!root) {
        TARN_RAISE(err, "PlanInvalid", "plan: %s at byte %d", je.text, je.position);
    }
    reader r = {.cx = cx, .path = path, .arg = arg};
    tarn_arena_init(&r.arena, &cx->budget);
    tarn_status s = read_head(root, o, err);
    s = s == TARN_OK ? read_all(&r, root, err) : s;
    if (s == TARN_OK) {
        *out = tarn_model_retain(r.made[r.count - 1]);
    }
    for (size_t k = 0; k < r.count; k++) {
        tarn_model_release(r.made[k]);
    }
    tarn_arena_free(&r.arena);
    json_decref(root);
    return s;
}
