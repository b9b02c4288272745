// SPDX-License-Identifier: Apache-2.0
// A user's method as a model node: tensor expressions over input leaves, recorded once per distinct
// expression, and which tensor takes which. The plan holds the expressions as nodes of the operation
// table, so that it replays without the function they came from. It says the same whatever the order
// of tensors in files: expressions come in byte order of the names that use them first.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "merge/model/model.h"

typedef struct {
    tarn_graph *graph;
    int n;
    tarn_template *templates;
    int *which;  // [slots]; -1: the first operand's tensor as it is
} mapped;

const tarn_node *tarn_template_import(tarn_expand *e, tarn_model *m, int64_t i, tarn_graph *from,
                                      const tarn_template *t) {
    const tarn_node **memo = calloc((size_t)from->count + 1, sizeof *memo);
    if (!memo) {
        tarn_raise_nomem(&e->graph->err, "merge.map", 0);
        return NULL;
    }
    for (int k = 0; k < t->ninputs; k++) {
        if (t->input[k] >= 0) {
            memo[t->input[k]] = tarn_model_operand(e, m, k, i, 0);
        }
    }
    const tarn_node *r = e->graph->err.status == TARN_OK
                             ? tarn_node_import(e->graph, from, from->nodes[t->root], memo)
                             : NULL;
    free((void *)memo);
    return r;
}

static const tarn_node *expand(tarn_expand *e, tarn_model *m, int64_t i) {
    const mapped *p = m->extra;
    if (tarn_slot_integer(&m->slots[i])) {
        return tarn_expand_integer(e, m, i);
    }
    return p->which[i] < 0 ? tarn_model_operand(e, m, 0, i, 0)
                           : tarn_template_import(e, m, i, p->graph, &p->templates[p->which[i]]);
}

static void release(tarn_model *m) {
    const mapped *p = m->extra;
    if (p) {
        tarn_graph_release(p->graph);
    }
}

// ---- the plan ----

static void write_integers(tarn_text *out, const char *key, int n, const int64_t *v) {
    tarn_text_printf(out, ",\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        tarn_text_printf(out, "%s%lld", i ? "," : "", (long long)v[i]);
    }
    tarn_text_puts(out, "]");
}

// The nodes that some root needs, and of those that are input leaves, the operand.
typedef struct {
    int *number;   // [nodes] in the plan, -1: not needed
    int *operand;  // [nodes], -1: no input
} written;

static bool look(const mapped *p, written *w) {
    int n = p->graph->count, next = 0;
    unsigned char *use = calloc((size_t)n + 1, 1);
    const tarn_node **roots = calloc((size_t)p->n + 1, sizeof *roots);
    w->number = calloc((size_t)n + 1, sizeof *w->number);
    w->operand = calloc((size_t)n + 1, sizeof *w->operand);
    bool whole = use && roots && w->number && w->operand;
    for (int k = 0; k < n && whole; k++) {
        w->operand[k] = -1;
    }
    for (int t = 0; t < p->n && whole; t++) {
        roots[t] = p->graph->nodes[p->templates[t].root];
        for (int k = 0; k < p->templates[t].ninputs; k++) {
            if (p->templates[t].input[k] >= 0) {
                w->operand[p->templates[t].input[k]] = k;
            }
        }
    }
    if (whole) {
        tarn_graph_mark(p->graph, p->n, roots, use);
    }
    for (int k = 0; k < n && whole; k++) {
        w->number[k] = use[k] ? next++ : -1;
    }
    free(use);
    free((void *)roots);
    return whole;
}

static void forget(written *w) {
    free(w->number);
    free(w->operand);
}

static void write_node(tarn_text *out, const tarn_node *n, const written *w) {
    int operand = w->operand[n->id];
    if (operand >= 0) {
        tarn_text_printf(out, "{\"operand\":%d,\"dtype\":\"%s\"", operand,
                         tarn_dtype_get(n->desc.dtype)->name);
        write_integers(out, "shape", n->desc.rank, n->desc.shape);
        tarn_text_puts(out, "}");
        return;
    }
    if (n->op->cls == TARN_CLASS_LEAF && n->attr.nf == 1) {
        tarn_text_puts(out, "{\"number\":");
        tarn_model_write_number(out, n->attr.f[0]);
        tarn_text_puts(out, "}");
        return;
    }
    tarn_text_printf(out, "{\"operation\":\"%s\",\"version\":%d,\"in\":[", n->op->name, n->op->version);
    for (int i = 0; i < n->nin; i++) {
        tarn_text_printf(out, "%s%d", i ? "," : "", w->number[n->in[i]->id]);
    }
    tarn_text_puts(out, "]");
    write_integers(out, "i", n->attr.ni, n->attr.i);
    tarn_text_puts(out, ",\"f\":[");
    for (int i = 0; i < n->attr.nf; i++) {
        tarn_text_puts(out, i ? "," : "");
        tarn_model_write_number(out, n->attr.f[i]);
    }
    tarn_text_puts(out, "]}");
}

static void write(const tarn_model *m, tarn_text *out) {
    const mapped *p = m->extra;
    written w = {0};
    bool whole = look(p, &w), first = true;
    out->failed = out->failed || !whole;
    tarn_text_puts(out, ",\"nodes\":[");
    for (int k = 0; whole && k < p->graph->count; k++) {
        if (w.number[k] >= 0) {
            tarn_text_puts(out, first ? "" : ",");
            write_node(out, p->graph->nodes[k], &w);
            first = false;
        }
    }
    tarn_text_puts(out, "],\"roots\":[");
    for (int k = 0; whole && k < p->n; k++) {
        tarn_text_printf(out, "%s%d", k ? "," : "", w.number[p->templates[k].root]);
    }
    tarn_text_puts(out, "],\"which\":[");  // in byte order of the result's names
    for (int64_t i = 0; i < m->n; i++) {
        tarn_text_printf(out, "%s%d", i ? "," : "", p->which[m->by_name[i]]);
    }
    tarn_text_puts(out, "]");
    forget(&w);
}

enum { NODES = 1 << 16, ATTRIBUTES = 64, FAN_IN = 4096 };
static const int64_t STEPS = (int64_t)1 << 30;  // roots times nodes

static tarn_status invalid(tarn_error *err, const char *what) {
    TARN_RAISE(err, "PlanInvalid", "plan: merge.map: %s", what);
}

static tarn_status read_integers(const json_t *list, int most, int64_t *v, int *n, tarn_error *err) {
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > (size_t)most) {
        return invalid(err, "a list of integers is missing or too long");
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *x = json_array_get(list, i);
        if (!json_is_integer(x)) {
            return invalid(err, "an attribute is no integer");
        }
        v[i] = json_integer_value(x);
    }
    *n = (int)count;
    return TARN_OK;
}

static tarn_status read_leaf(tarn_graph *g, const json_t *o, const tarn_node **out, tarn_error *err) {
    tarn_desc d = {0};
    const char *dtype = json_string_value(json_object_get(o, "dtype"));
    if (!dtype || !tarn_dtype_find(dtype, &d.dtype) || !tarn_dtype_is_compute(d.dtype)) {
        return invalid(err, "an input without a dtype of arithmetic");
    }
    TARN_TRY(tarn_restore_only(o, "merge.map", "operand|dtype|shape", NULL, err));
    TARN_TRY(read_integers(json_object_get(o, "shape"), TARN_MAX_RANK, d.shape, &d.rank, err));
    int64_t numel;
    TARN_TRY(tarn_shape_numel(d.rank, d.shape, &numel, err));
    *out = tarn_leaf_input(g, &d);
    return TARN_OK;
}

static tarn_status read_node(tarn_graph *g, const json_t *o, const tarn_node *const *made, int count,
                             const tarn_node **out, tarn_error *err) {
    const char *name = json_string_value(json_object_get(o, "operation"));
    const tarn_op *op = name ? tarn_op_find(name) : NULL;
    const json_t *in = json_object_get(o, "in"), *f = json_object_get(o, "f");
    const tarn_node *x[FAN_IN];
    int64_t ints[ATTRIBUTES];
    double floats[ATTRIBUTES];
    tarn_attr a = {.i = ints, .f = floats};
    size_t nin = json_array_size(in), nf = json_array_size(f);
    if (json_object_get(o, "operand")) {
        return read_leaf(g, o, out, err);
    }
    TARN_TRY(tarn_restore_only(o, "merge.map", json_object_get(o, "number") ? "number" : "operation|version|in|i|f", NULL,
                               err));
    if (json_object_get(o, "number")) {
        double v;
        *out = tarn_model_read_number(json_object_get(o, "number"), &v) ? tarn_num(g, v) : NULL;
        return *out ? TARN_OK : invalid(err, "a number that is none");
    }
    if (!op || !json_is_array(in) || !json_is_array(f) || nin > FAN_IN || nf > ATTRIBUTES) {
        return invalid(err, op ? "a node without operands or attributes, or with too many" : "an unknown operation");
    }
    if (json_integer_value(json_object_get(o, "version")) != op->version) {
        TARN_RAISE(err, "PlanVersion", "plan: merge.map: made with another version of %s", op->name);
    }
    TARN_TRY(read_integers(json_object_get(o, "i"), ATTRIBUTES, ints, &a.ni, err));
    for (size_t k = 0; k < nf; k++) {
        if (!tarn_model_read_number(json_array_get(f, k), &floats[k])) {
            return invalid(err, "an attribute is no number");
        }
    }
    a.nf = (int)nf;
    for (size_t k = 0; k < nin; k++) {
        json_int_t at = json_is_integer(json_array_get(in, k)) ? json_integer_value(json_array_get(in, k)) : -1;
        if (at < 0 || at >= count) {
            return invalid(err, "a node uses one that does not come before it");
        }
        x[k] = made[at];
    }
    *out = tarn_node_make(g, op, (int)nin, x, &a);
    if (!*out) {
        *err = g->err;
        return tarn_error_prefix(err, "plan: merge.map");
    }
    return TARN_OK;
}

// Template t: its root, and for each operand the leaf it reads (a root reaches one shape only).
static tarn_status read_template(tarn_graph *g, const int *operand, int nin, const json_t *root,
                                 const tarn_node *const *made, int count, tarn_template *t,
                                 tarn_error *err) {
    json_int_t at = json_is_integer(root) ? json_integer_value(root) : -1;
    if (at < 0 || at >= count || nin > (int)(sizeof t->input / sizeof *t->input)) {
        return invalid(err, "a root that is no node");
    }
    unsigned char *use = calloc((size_t)g->count + 1, 1);
    if (!use) {
        return tarn_raise_nomem(err, "a plan", (unsigned)g->count);
    }
    *t = (tarn_template){.root = made[at]->id, .ninputs = nin};
    for (int k = 0; k < nin; k++) {
        t->input[k] = -1;
    }
    tarn_graph_mark(g, 1, &made[at], use);
    tarn_status s = TARN_OK;
    for (int k = 0; k < count && s == TARN_OK; k++) {
        if (operand[k] < 0 || !use[made[k]->id]) {
            continue;
        }
        if (t->input[operand[k]] >= 0) {
            s = invalid(err, "two inputs for one operand");
        } else {
            t->input[operand[k]] = made[k]->id;
        }
    }
    free(use);
    return s;
}

// Which operand each node stands for; -1: none.
static tarn_status read_operands(const json_t *nodes, int nin, int *operand, tarn_error *err) {
    for (size_t k = 0; k < json_array_size(nodes); k++) {
        const json_t *v = json_object_get(json_array_get(nodes, k), "operand");
        json_int_t which = json_is_integer(v) ? json_integer_value(v) : -1;
        if (v && (which < 0 || which >= nin)) {
            return invalid(err, "an input that belongs to no operand");
        }
        operand[k] = (int)which;
    }
    return TARN_OK;
}

static tarn_status read_which(const json_t *list, int64_t count, int n, int *which, tarn_error *err) {
    if (json_array_size(list) != (size_t)count) {
        return invalid(err, "'which' does not fit the operands");
    }
    for (int64_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        json_int_t k = json_is_integer(v) ? json_integer_value(v) : n;
        if (k < -1 || k >= n) {
            return invalid(err, "'which' names no expression");
        }
        which[i] = (int)k;
    }
    return TARN_OK;
}

static tarn_status restore_into(tarn_graph *g, tarn_context *cx, const tarn_model_json *j, int nin,
                                tarn_model *const *in, tarn_model **out, tarn_error *err) {
    const void *nodes, *roots, *of_slots;
    TARN_TRY(tarn_restore_list(j, "nodes", &nodes, err));
    TARN_TRY(tarn_restore_list(j, "roots", &roots, err));
    TARN_TRY(tarn_restore_list(j, "which", &of_slots, err));
    size_t count = json_array_size(nodes), n = json_array_size(roots);
    if (count > NODES || n > NODES || (int64_t)(count * n) > STEPS) {
        return invalid(err, "too many nodes");
    }
    tarn_model *plain;  // says which tensors there are
    TARN_TRY(tarn_model_map(cx, nin, in, g, 0, NULL, NULL, &j->policy, &plain, err));
    int64_t slots = plain->n;
    tarn_model_release(plain);
    const tarn_node **made = tarn_arena_take(j->arena, count * sizeof *made + 1);
    tarn_template *t = tarn_arena_take(j->arena, n * sizeof *t + 1);
    int *operand = tarn_arena_take(j->arena, count * sizeof *operand + 1);
    int *which = tarn_arena_take(j->arena, (size_t)slots * sizeof *which + 1);
    if (!made || !t || !operand || !which) {
        return tarn_raise_nomem(err, "a plan", count * sizeof *made);
    }
    TARN_TRY(read_operands(nodes, nin, operand, err));
    for (size_t k = 0; k < count; k++) {
        TARN_TRY(read_node(g, json_array_get(nodes, k), made, (int)k, &made[k], err));
    }
    for (size_t k = 0; k < n; k++) {
        TARN_TRY(read_template(g, operand, nin, json_array_get(roots, k), made, (int)count, &t[k], err));
    }
    TARN_TRY(read_which(of_slots, slots, (int)n, which, err));
    return tarn_model_map(cx, nin, in, g, (int)n, t, which, &j->policy, out, err);
}

static tarn_status restore(tarn_context *cx, const tarn_model_json *j, int nin,
                           tarn_model *const *in, tarn_model **out, tarn_error *err) {
    tarn_graph *g = tarn_graph_new(cx);
    if (!g) {
        return tarn_raise_nomem(err, "a plan", 0);
    }
    tarn_status s = restore_into(g, cx, j, nin, in, out, err);
    tarn_graph_release(g);
    return s;
}

static bool replayable(const tarn_model *m) {
    const mapped *p = m->extra;
    written w = {0};
    bool yes = look(p, &w);
    int64_t count = 0;
    for (int k = 0; yes && k < p->graph->count; k++) {
        const tarn_node *n = p->graph->nodes[k];
        if (w.number[k] >= 0) {  // p: a tensor in memory, or another file
            yes = !n->attr.p && n->nin <= FAN_IN && n->attr.ni <= ATTRIBUTES && n->attr.nf <= ATTRIBUTES;
            count++;
        }
    }
    forget(&w);
    return yes && count <= NODES && p->n <= NODES && count * p->n <= STEPS;
}

const tarn_model_op tarn_model_row_map = {.name = "map", .expand = expand, .release = release,
                                          .members = "nodes|roots|which", .write = write, .restore = restore,
                                          .replayable = replayable};

// ---- making ----

// The expression says which shape comes out; a number takes the shape that was there.
static tarn_status set_shapes(tarn_model *m, const mapped *p, tarn_error *err) {
    for (int64_t i = 0; i < m->n; i++) {
        if (p->which[i] < 0 || tarn_slot_integer(&m->slots[i])) {
            continue;
        }
        const tarn_template *t = &p->templates[p->which[i]];
        for (int k = 0; k < t->ninputs; k++) {
            const tarn_desc *x = t->input[k] >= 0 ? &p->graph->nodes[t->input[k]]->desc : NULL;
            if (x && !tarn_shape_equal(x->rank, x->shape, m->slots[i].rank, m->slots[i].shape)) {
                return invalid(err, "an expression is given a tensor of another shape");
            }
        }
        const tarn_desc *d = &p->graph->nodes[t->root]->desc;
        if (d->rank == 0) {
            continue;
        }
        int64_t *shape = tarn_arena_copy(&m->arena, d->shape, (size_t)d->rank * sizeof *shape);
        if (!shape) {
            return tarn_raise_nomem(err, "merge.map", 0);
        }
        m->slots[i].rank = d->rank;
        m->slots[i].shape = shape;
    }
    return TARN_OK;
}

static tarn_status fill(tarn_model *m, mapped *p, int nin, tarn_model *const *in,
                        const tarn_template *templates, const int *which, tarn_error *err) {
    bool *point = tarn_arena_take(&m->arena, (size_t)nin * sizeof *point + 1);
    p->templates = tarn_arena_copy(&m->arena, templates, (size_t)p->n * sizeof *templates);
    if (!point || !p->templates) {
        return tarn_raise_nomem(err, "merge.map", 0);
    }
    for (int k = 0; k < nin; k++) {
        point[k] = in[k]->mass != 0;
    }
    m->mass = in[0]->mass;
    TARN_TRY(tarn_model_match(m, point, 0, err));
    p->which = tarn_arena_take(&m->arena, (size_t)m->n * sizeof *p->which + 1);
    if (!p->which) {
        return tarn_raise_nomem(err, "merge.map", (size_t)m->n * sizeof *p->which);
    }
    for (int64_t i = 0; i < m->n; i++) {
        p->which[m->by_name[i]] = which ? which[i] : -1;
    }
    return set_shapes(m, p, err);
}

tarn_status tarn_model_map(tarn_context *cx, int nin, tarn_model *const *in, tarn_graph *graph,
                           int ntemplates, const tarn_template *templates, const int *which,
                           const tarn_policy *policy, tarn_model **out, tarn_error *err) {
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_map, nin, in, &m, err));
    mapped *p = tarn_arena_take(&m->arena, sizeof *p);
    if (!p) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "merge.map", sizeof *p);
    }
    *p = (mapped){.graph = tarn_graph_retain(graph), .n = ntemplates};
    m->extra = p;
    m->policy = *policy;
    tarn_status s = fill(m, p, nin, in, templates, which, err);
    if (s != TARN_OK) {
        tarn_model_release(m);
        return s;
    }
    *out = m;
    return TARN_OK;
}
