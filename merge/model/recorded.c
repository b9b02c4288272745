// SPDX-License-Identifier: Apache-2.0
// Models inside a recorded function: names over nodes of the recording's graph. An operation over them
// is an ordinary model operation that is expanded into that graph at once, so a recorded model is always
// one node and every row of models works unchanged. Reductions over a whole model become reductions over
// its tensors laid end to end: a stand-in takes their place while the tensors are expanded.
#include <string.h>

#include "merge/model/model.h"

typedef struct {
    tarn_graph *graph;  // retained
    const tarn_node **node;
} recorded;

static const tarn_node *expand_recorded(tarn_expand *e, tarn_model *m, int64_t i) {
    const recorded *r = m->extra;
    if (r->graph != e->graph) {
        tarn_raise(&e->graph->err, "Recorded", "a model inside a recorded function has no values yet (return it instead)");
        return NULL;
    }
    return r->node[i];
}

static void release_recorded(tarn_model *m) {
    const recorded *r = m->extra;
    tarn_graph_release(r ? r->graph : NULL);
}

const tarn_model_op tarn_model_row_recorded = {.name = "recorded", .expand = expand_recorded,
                                               .release = release_recorded};

static tarn_status open_recorded(tarn_context *cx, tarn_model *signature, tarn_graph *g, double mass,
                                 tarn_model **out, const tarn_node ***nodes, tarn_error *err) {
    tarn_model *m;
    TARN_TRY(tarn_model_new(cx, &tarn_model_row_recorded, 0, NULL, &m, err));
    recorded *r = tarn_arena_take(&m->arena, sizeof *r);
    *nodes = tarn_arena_take(&m->arena, (size_t)signature->n * sizeof **nodes + 1);
    if (!r || !*nodes) {
        tarn_model_release(m);
        return tarn_raise_nomem(err, "a recorded model", (size_t)signature->n * sizeof **nodes);
    }
    *r = (recorded){tarn_graph_retain(g), *nodes};
    m->extra = r;
    m->recording = g;
    m->kept = tarn_model_retain(signature);
    m->n = signature->n;
    m->slots = signature->slots;
    m->by_name = signature->by_name;
    m->named = signature->named;
    m->side = signature->side;
    m->policy = signature->policy;
    m->label = "recorded";
    m->mass = mass;
    *out = m;
    return TARN_OK;
}

tarn_status tarn_model_of_nodes(tarn_context *cx, tarn_model *signature, tarn_graph *g,
                                const tarn_node *const *nodes, double mass, tarn_model **out, tarn_error *err) {
    const tarn_node **own;
    TARN_TRY(open_recorded(cx, signature, g, mass, out, &own, err));
    memcpy((void *)own, (const void *)nodes, (size_t)signature->n * sizeof *own);
    return TARN_OK;
}

const tarn_node *tarn_model_recorded(tarn_graph *g, tarn_model *m, int64_t i) {
    tarn_expand e = {.cx = m->cx, .graph = g};
    return tarn_model_slot(&e, m, i);
}

// ---- reductions over a whole model ----

typedef struct {
    tarn_model *model;
    int k;
    const tarn_op *op;
    tarn_attr attr;            // of the reduction
    const tarn_node *place;    // stands for it
    const tarn_node **part;    // [slots] what is reduced, by the first output of a tensor
    bool positions;            // somebody counts elements from the start of the model
} whole;

enum { MOST_WHOLE = 64 };

struct tarn_recorder {
    int n;
    whole list[MOST_WHOLE];
};

static whole *find_whole(tarn_expand *e, tarn_model *m, int k, const tarn_op *op, const tarn_node *x,
                         const tarn_attr *rest) {
    struct tarn_recorder *r = e->recorder;
    tarn_graph *g = e->graph;
    for (int j = 0; j < r->n; j++) {
        if (r->list[j].model == m && r->list[j].k == k) {
            return &r->list[j];
        }
    }
    if (r->n == MOST_WHOLE) {
        tarn_raise(&g->err, "Recorded", "more than %d reductions over a whole model", MOST_WHOLE);
        return NULL;
    }
    int ni = rest && rest->ni > 2 ? rest->ni : 2;
    int64_t *i = tarn_arena_take(&g->arena, (size_t)ni * sizeof *i);
    const double *f = rest ? tarn_arena_copy(&g->arena, rest->f, (size_t)rest->nf * sizeof *f) : NULL;
    const tarn_node **part = tarn_arena_take(&g->arena, (size_t)m->n * sizeof *part + 1);
    if (!i || !part || (rest && !f)) {
        tarn_raise_nomem(&g->err, "a recorded model", (size_t)m->n * sizeof *part);
        return NULL;
    }
    memset((void *)part, 0, (size_t)m->n * sizeof *part);
    i[0] = i[1] = 0;
    for (int j = 2; j < ni; j++) {
        i[j] = rest->i[j];
    }
    tarn_attr a = {.ni = ni, .i = i, .nf = rest ? rest->nf : 0, .f = f};
    const tarn_node *like = tarn_node_make(g, op, 1, &x, &a);
    const tarn_node *place = like ? tarn_leaf_input(g, &like->desc) : NULL;
    if (!place) {
        return NULL;
    }
    r->list[r->n] = (whole){.model = m, .k = k, .op = op, .attr = a, .place = place, .part = part};
    return &r->list[r->n++];
}

const tarn_node *tarn_recorder_global(tarn_expand *e, tarn_model *m, int64_t i, int k, const tarn_op *op,
                                      const tarn_node *x, const tarn_attr *rest) {
    whole *w = find_whole(e, m, k, op, x, rest);
    int64_t first = tarn_slot_first(m, i);
    if (!w) {
        return NULL;
    }
    w->part[first] = w->part[first] ? w->part[first] : x;
    return w->place;
}

double tarn_recorder_start(tarn_expand *e, tarn_model *m, int64_t i, int k) {
    double at = 0;
    for (int j = 0; j < e->recorder->n; j++) {
        whole *w = &e->recorder->list[j];
        w->positions = w->positions || (w->model == m && w->k == k);
    }
    for (int64_t j = 0; j < m->n && m->by_name[j] != tarn_slot_first(m, i); j++) {
        int64_t s = m->by_name[j];
        bool counts = tarn_slot_first(m, s) == s && !tarn_slot_integer(tarn_slot_source(m, s));
        at += counts ? (double)tarn_slot_numel(tarn_slot_source(m, s)) : 0;
    }
    return at;
}

// Every tensor of the model takes part, whether it is wanted or not.
static bool complete_whole(tarn_expand *e, tarn_model *m) {
    for (int64_t i = 0; i < m->n; i++) {
        if (!tarn_slot_integer(&m->slots[i]) && !tarn_model_expr(e, m, i)) {
            return false;
        }
    }
    return true;
}

// The reduction itself: over the parts laid end to end, in byte order of names.
static const tarn_node *join_whole(tarn_graph *g, const whole *w, const tarn_node **memo) {
    const tarn_model *m = w->model;
    const tarn_node **x = tarn_arena_take(&g->arena, (size_t)m->n * sizeof *x + 1);
    int n = 0;
    tarn_dtype t = TARN_F32;
    for (int64_t j = 0; x && j < m->n; j++) {
        int64_t s = m->by_name[j];
        const tarn_node *p = w->part[s];
        if (!p && w->positions && tarn_slot_first(m, s) == s && !tarn_slot_integer(&m->slots[s])) {
            tarn_raise(&g->err, "Recorded", "%s takes no part in a selection over the whole model, which inside a "
                       "recorded function has to be of all tensors", m->slots[s].name);
            return NULL;
        }
        p = p ? tarn_node_rebuild(g, p, memo) : NULL;
        if (p) {
            t = tarn_dtype_compute(p->desc.dtype) == TARN_F64 ? TARN_F64 : t;
            x[n++] = p;
        }
    }
    for (int j = 0; j < n; j++) {
        int64_t numel = tarn_desc_numel(&x[j]->desc);
        const tarn_node *flat = tarn_reshape(g, x[j], 1, &numel);
        x[j] = flat && flat->desc.dtype != t ? tarn_cast(g, flat, t) : flat;
    }
    const tarn_node *all = x && n > 0 ? tarn_concat(g, n, x, 0) : NULL;
    return all ? tarn_node_make(g, w->op, 1, &all, &w->attr) : NULL;
}

// Puts the reductions in the places that stood for them.
static tarn_status settle(tarn_expand *e, int64_t n, const tarn_node **nodes, tarn_error *err) {
    tarn_graph *g = e->graph;
    struct tarn_recorder *r = e->recorder;
    for (int j = 0; j < r->n; j++) {
        if (!complete_whole(e, r->list[j].model)) {  // may add to the list
            break;
        }
    }
    size_t bytes = ((size_t)g->count + 1) * sizeof *nodes;
    const tarn_node **memo = tarn_alloc_zero(&g->cx->budget, bytes);
    if (!memo) {
        return tarn_raise_nomem(err, "a recorded model", bytes);
    }
    for (int j = 0; j < r->n && g->err.status == TARN_OK; j++) {
        memo[r->list[j].place->id] = join_whole(g, &r->list[j], memo);
    }
    for (int64_t i = 0; i < n && g->err.status == TARN_OK; i++) {
        nodes[i] = tarn_node_rebuild(g, nodes[i], memo);
    }
    tarn_free(&g->cx->budget, (void *)memo, bytes);
    return g->err.status;
}

// ---- recording ----

static tarn_status check_operand(const tarn_model *x, const tarn_graph *g, tarn_error *err) {
    char size[32];
    if (x->recording && x->recording != g) {
        TARN_RAISE(err, "Recorded", "a model of a recording that has ended: return it from the function instead");
    }
    if (!x->recording && !tarn_model_in_memory(x)) {
        TARN_RAISE(err, "Planned", "%s is a plan over files and meets a recorded model: :load() it before (%s)",
                   tarn_model_label(x), tarn_show_bytes(tarn_model_bytes(x), size));
    }
    return TARN_OK;
}

// Integer tensors that have to agree: told now, as far as they do not depend on what is recorded.
static tarn_status check_integers(const tarn_expand *e, tarn_error *err) {
    tarn_graph *g = e->graph;
    for (const tarn_check *c = e->checks; c; c = c->next) {
        bool known = c->a->nin == 0 && c->b->nin == 0 && !tarn_node_input(c->a) && !tarn_node_input(c->b);
        if (!known || tarn_desc_numel(&c->a->desc) == 0) {
            continue;
        }
        const tarn_node *any = tarn_total(g, &tarn_op_max, tarn_ne(g, c->a, c->b));
        tarn_tensor t;
        if (!any) {
            *err = g->err;
            return TARN_ERROR;
        }
        TARN_TRY(tarn_graph_eval(g, 1, &any, NULL, &t, err));
        bool differ = tarn_tensor_get(&t, 0) != 0;
        tarn_tensor_release(&t);
        if (differ) {
            TARN_RAISE(err, "IntegerMismatch", "%s (%s) differs between %s and %s: integers are not averaged; "
                       "on_integer = \"base\" takes those of the first model", c->slot->name,
                       tarn_dtype_get(c->slot->dtype)->name, tarn_model_label(c->model), tarn_model_label(c->other));
        }
    }
    return TARN_OK;
}

static tarn_status fill(tarn_model *m, const tarn_node **nodes, tarn_error *err) {
    struct tarn_recorder recorder = {.n = 0};
    tarn_graph *g = m->recording;
    tarn_expand e = {.cx = m->cx, .graph = g, .recorder = &recorder};
    for (int64_t i = 0; i < m->n; i++) {
        nodes[i] = tarn_model_slot(&e, m, i);
        if (!nodes[i]) {
            *err = g->err;
            tarn_error_clear(&g->err);  // the graph serves on
            return err->status == TARN_OK ? tarn_raise_nomem(err, m->slots[i].name, 0)
                                          : tarn_error_prefix(err, "%s", m->slots[i].name);
        }
    }
    if (recorder.n > 0 && settle(&e, m->n, nodes, err) != TARN_OK) {
        *err = g->err.status == TARN_OK ? *err : g->err;
        tarn_error_clear(&g->err);
        return err->status;
    }
    return check_integers(&e, err);
}

tarn_status tarn_model_record(tarn_context *cx, tarn_model *m, tarn_model **out, tarn_error *err) {
    for (int k = 0; k < m->nin; k++) {
        TARN_TRY(check_operand(m->in[k], m->recording, err));
    }
    tarn_model *signature, *r = NULL;
    const tarn_node **nodes;
    TARN_TRY(tarn_model_signature(cx, m, &signature, err));
    tarn_status s = open_recorded(cx, signature, m->recording, m->mass, &r, &nodes, err);
    tarn_model_release(signature);
    TARN_TRY(s);
    r->policy = m->policy;
    s = fill(m, nodes, err);
    if (s != TARN_OK) {
        tarn_model_release(r);
        return s;
    }
    *out = r;
    return TARN_OK;
}

// ---- numbers ----

const tarn_node *tarn_model_recorded_dot(tarn_graph *g, tarn_model *a, tarn_model *b) {
    const tarn_node *sum = NULL;
    tarn_expand e = {.cx = a->cx, .graph = g};
    for (int64_t j = 0; j < a->n && g->err.status == TARN_OK; j++) {
        int64_t i = a->by_name[j], k = a == b ? i : tarn_match_slot(a, i, b);
        if (k < 0 || tarn_slot_integer(&a->slots[i])) {
            continue;
        }
        const tarn_node *one = tarn_dot(g, tarn_model_slot(&e, a, i), tarn_model_slot(&e, b, k));
        sum = sum ? tarn_add(g, sum, one) : one;
    }
    return g->err.status != TARN_OK ? NULL : sum ? sum : tarn_num(g, 0);
}
