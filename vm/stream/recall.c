// SPDX-License-Identifier: Apache-2.0
// Keys go up the graph: a node's is the digest of its operation, its attributes, what it yields and the keys
// of its operands. A node has none where something below has none: an input, a large tensor in memory, a
// file that was written to just now. A whole-model reduction has the digest of what all jobs contribute, in
// the order of the model.
#include "vm/stream/recall.h"

#include <stdlib.h>
#include <string.h>

#include "vm/base/digest.h"
#include "vm/op/tile.h"
#include "vm/stream/run.h"

enum { SMALL = 4096 };  // bytes of a tensor in memory that is part of a key

typedef enum { UNKNOWN, NONE, KEYED } state;

typedef struct {
    const tarn_unit *unit;
    unsigned char *use;   // [nodes] that the roots need
    unsigned char *state; // [nodes]
    tarn_known_key *key;   // [nodes]
    int nodes;
} walk;

// ---- keys ----

static void add_desc(tarn_sha256 *h, const tarn_desc *d) {
    int64_t head[3] = {d->dtype, d->weak, d->rank};
    tarn_sha256_add(h, head, sizeof head);
    tarn_sha256_add(h, d->shape, (size_t)d->rank * sizeof *d->shape);
}

static bool add_leaf(tarn_sha256 *h, const tarn_node *n) {
    const tarn_source *s = tarn_node_source(n);
    if (s) {
        unsigned char id[32];
        if (!s->identity || !s->identity(s, id)) {
            return false;
        }
        tarn_sha256_add(h, id, sizeof id);
        return true;
    }
    const tarn_tensor *t = tarn_node_tensor(n);
    if (t) {
        if (!tarn_tensor_contiguous(t) || tarn_tensor_bytes(t) > SMALL) {
            return false;
        }
        tarn_sha256_add(h, tarn_tensor_data(t), tarn_tensor_bytes(t));
        return true;
    }
    return !tarn_node_input(n);
}

static void begin_key(tarn_sha256 *h, const tarn_node *n) {
    int64_t numbers[3] = {n->op->version, n->nin, n->attr.ni};
    tarn_sha256_begin(h);
    tarn_sha256_add(h, n->op->name, strlen(n->op->name) + 1);
    tarn_sha256_add(h, numbers, sizeof numbers);
    add_desc(h, &n->desc);
}

// Everything below node i has its state; whole-model reductions get theirs elsewhere.
static void make_key(walk *w, int i) {
    const tarn_node *n = w->unit->graph->nodes[i];
    for (int k = 0; k < n->nin; k++) {
        if (w->state[n->in[k]->id] != KEYED) {
            w->state[i] = w->state[n->in[k]->id];
            return;
        }
    }
    tarn_sha256 h;
    w->state[i] = NONE;
    begin_key(&h, n);
    if (n->op->cls == TARN_CLASS_LEAF && !add_leaf(&h, n)) {
        return;
    }
    tarn_sha256_add(&h, n->attr.i, (size_t)n->attr.ni * sizeof *n->attr.i);
    tarn_sha256_add(&h, n->attr.f, (size_t)n->attr.nf * sizeof *n->attr.f);
    for (int k = 0; k < n->nin; k++) {
        tarn_sha256_add(&h, &w->key[n->in[k]->id], sizeof *w->key);
    }
    tarn_sha256_end(&h, w->key[i].bytes);
    w->state[i] = KEYED;
}

// Above whole-model reductions without a key yet, nodes stay UNKNOWN.
static void make_keys(walk *w, const tarn_recall *r) {
    for (int i = 0; i < w->nodes; i++) {
        if (!w->use[i] || w->state[i] != UNKNOWN) {
            continue;
        }
        int64_t gid = tarn_gid(w->unit->graph->nodes[i]);
        if (!gid) {
            make_key(w, i);
        } else if (gid <= r->gids && r->gid[gid].keyed) {
            w->key[i] = r->gid[gid].key;
            w->state[i] = KEYED;
        }
    }
}

static void close_walk(walk *w) {
    free(w->use);
    free(w->key);
    *w = (walk){0};
}

static tarn_status open_walk(walk *w, const tarn_unit *u, const tarn_recall *r, tarn_error *err) {
    size_t n = (size_t)tarn_unit_nodes(u);
    *w = (walk){.unit = u, .nodes = (int)n};
    w->use = calloc(n, 2);
    w->key = calloc(n, sizeof *w->key);
    if (!w->use || !w->key) {
        close_walk(w);
        return tarn_raise_nomem(err, "a run", n * sizeof *w->key);
    }
    w->state = w->use + n;
    tarn_graph_mark(u->graph, u->n, u->root, w->use);
    make_keys(w, r);
    return TARN_OK;
}

static bool remembers(const tarn_node *n) {
    return n->op->cls == TARN_CLASS_REDUCE && tarn_is_total(n) && n->op->reducer->outputs <= 4;
}

static bool reduces(const tarn_unit *u) {
    for (int i = 0; i < tarn_unit_nodes(u); i++) {
        if (remembers(u->graph->nodes[i])) {
            return true;
        }
    }
    return false;
}

// ---- keys of whole-model reductions ----

// What one unit contributes to one of them: a digest of the keys of its operands.
typedef struct {
    int64_t gid, start;
    tarn_known_key key;
} part;

typedef struct {
    part *list;
    int64_t n, room;
} parts;

static int by_start(const void *a, const void *b) {
    const part *x = a, *y = b;
    if (x->gid != y->gid) {
        return (x->gid > y->gid) - (x->gid < y->gid);
    }
    return (x->start > y->start) - (x->start < y->start);
}

static tarn_status room_for_gid(tarn_recall *r, int64_t gid, tarn_error *err) {
    if (gid <= r->gids) {
        return TARN_OK;
    }
    size_t have = r->gid ? (size_t)r->gids + 1 : 0, want = (size_t)gid + 1;
    tarn_recall_gid *more = realloc(r->gid, want * sizeof *more);
    if (!more) {
        return tarn_raise_nomem(err, "a run", want * sizeof *more);
    }
    memset(more + have, 0, (want - have) * sizeof *more);
    r->gid = more;
    r->gids = gid;
    return TARN_OK;
}

// The row and its attributes, but for the number and the start.
static void key_row(const tarn_node *n, tarn_known_key *out) {
    tarn_sha256 h;
    begin_key(&h, n);
    tarn_sha256_add(&h, n->attr.i + 2, (size_t)(n->attr.ni - 2) * sizeof *n->attr.i);
    tarn_sha256_add(&h, n->attr.i, sizeof *n->attr.i);
    tarn_sha256_add(&h, n->attr.f, (size_t)(n->attr.nf - 1) * sizeof *n->attr.f);
    tarn_sha256_end(&h, out->bytes);
}

static tarn_status add_part(tarn_recall *r, const walk *w, const tarn_node *x, parts *p, tarn_error *err) {
    tarn_recall_gid *g = &r->gid[tarn_gid(x)];
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    for (int k = 0; k < x->nin; k++) {
        int id = x->in[k]->id;
        g->waits = g->waits || w->state[id] == UNKNOWN;
        g->never = g->never || w->state[id] == NONE;
        tarn_sha256_add(&h, &w->key[id], sizeof w->key[id]);
    }
    part *list = tarn_run_grow(p->list, p->n, &p->room, sizeof *list);
    if (!list) {
        return tarn_raise_nomem(err, "a run", (size_t)p->n * sizeof *list);
    }
    p->list = list;
    key_row(x, &g->row);
    list[p->n] = (part){.gid = tarn_gid(x), .start = (int64_t)x->attr.f[x->attr.nf - 1]};
    tarn_sha256_end(&h, list[p->n++].key.bytes);
    return TARN_OK;
}

// One part for each reduction that has no key yet.
static tarn_status add_parts(tarn_recall *r, const tarn_unit *u, parts *p, tarn_error *err) {
    walk w;
    TARN_TRY(open_walk(&w, u, r, err));
    tarn_status s = TARN_OK;
    for (int i = 0, first = (int)p->n; i < w.nodes && s == TARN_OK; i++) {
        int64_t gid = w.use[i] ? tarn_gid(u->graph->nodes[i]) : 0;
        if (!gid) {
            continue;
        }
        s = room_for_gid(r, gid, err);
        bool met = s == TARN_OK && r->gid[gid].keyed;
        for (int64_t k = first; k < p->n && !met; k++) {
            met = p->list[k].gid == gid;
        }
        s = s == TARN_OK && !met ? add_part(r, &w, u->graph->nodes[i], p, err) : s;
    }
    close_walk(&w);
    return s;
}

// The key of the reduction whose parts p[0 .. n) are, in the order of the model.
static void key_of_parts(tarn_recall_gid *g, const part *p, int64_t n) {
    tarn_sha256 h;
    tarn_sha256_begin(&h);
    tarn_sha256_add(&h, &g->row, sizeof g->row);
    for (int64_t k = 0; k < n; k++) {
        if (k == 0 || p[k].start != p[k - 1].start) {  // a tensor behind several outputs counts once
            tarn_sha256_add(&h, &p[k].start, sizeof p[k].start);
            tarn_sha256_add(&h, &p[k].key, sizeof p[k].key);
        }
    }
    tarn_sha256_end(&h, g->key.bytes);
    g->keyed = true;
}

// Gives keys to those whose parts all have one. True: others were waiting for them.
static bool key_all(tarn_recall *r, parts *p) {
    bool some = false, more = false;
    if (p->n > 0) {
        qsort(p->list, (size_t)p->n, sizeof *p->list, by_start);
    }
    for (int64_t k = 0, n; k < p->n; k += n) {
        tarn_recall_gid *g = &r->gid[p->list[k].gid];
        for (n = 1; k + n < p->n && p->list[k + n].gid == p->list[k].gid; n++) {
        }
        if (g->waits || g->never) {
            more = more || !g->never;
            g->waits = false;
        } else {
            key_of_parts(g, p->list + k, n);
            some = true;
        }
    }
    return some && more;
}

tarn_status tarn_recall_open(tarn_runner *r, tarn_error *err) {
    tarn_recall *m = &r->recall;
    *m = (tarn_recall){0};
    parts p = {0};
    tarn_status s = TARN_OK;
    for (bool more = !r->cx->rehash; more && s == TARN_OK;) {  // one may stand below another
        p.n = 0;
        for (int64_t i = 0; i < r->njobs && s == TARN_OK;) {
            tarn_unit u = {0};
            s = tarn_cancel_check(&r->cx->cancel, err);
            s = s == TARN_OK ? tarn_unit_fresh(r, i, &u, err) : s;
            if (s == TARN_OK && reduces(&u)) {
                m->any = true;
                s = add_parts(m, &u, &p, err);
            }
            tarn_unit_drop(&u);
            i += u.n;
        }
        more = s == TARN_OK && key_all(m, &p);
    }
    free(p.list);
    return s;
}

// ---- what is known is put in place ----

static int by_place(const void *a, const void *b) {
    const tarn_recall_one *x = a, *y = b;
    return (x->node > y->node) - (x->node < y->node);
}

// The first of those in the order of jobs that is of job i; at: [n] elements of `size` bytes that begin with
// the job.
static int64_t first_of(const void *at, int64_t n, size_t size, int64_t i) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t mid = low + (high - low) / 2, job;
        memcpy(&job, (const char *)at + (size_t)mid * size, sizeof job);
        low = job < i ? mid + 1 : low;
        high = job < i ? high : mid;
    }
    return low;
}

static tarn_status replace(tarn_context *cx, tarn_graph *g, const tarn_recall_given *x,
                           const tarn_node **instead, tarn_error *err) {
    tarn_tensor value;
    TARN_TRY(tarn_reduce_result(cx, &g->nodes[x->node]->desc, x->value, &value, err));
    instead[x->node] = tarn_leaf_tensor(g, &value);
    tarn_tensor_release(&value);
    if (!instead[x->node]) {
        *err = g->err;
    }
    return g->err.status;
}

// Puts given[from ..) of a unit in its expressions; instead: [nodes], what stands for each node now.
static tarn_status put_given(tarn_runner *r, int64_t from, tarn_unit *u, const tarn_node **instead,
                             tarn_error *err) {
    const tarn_recall *m = &r->recall;
    for (int64_t k = from; k < m->ngiven && m->given[k].job == u->job; k++) {
        TARN_TRY(replace(r->cx, u->graph, &m->given[k], instead, err));
    }
    for (int k = 0; k < u->n; k++) {
        const tarn_node *root = tarn_node_rebuild(u->graph, u->root[k], instead);
        if (!root) {
            *err = u->graph->err;
            return err->status;
        }
        u->root[k] = root;
    }
    return TARN_OK;
}

tarn_status tarn_recall_put(tarn_runner *r, tarn_unit *u, tarn_error *err) {
    const tarn_recall *m = &r->recall;
    int64_t from = first_of(m->given, m->ngiven, sizeof *m->given, u->job);
    if (from == m->ngiven || m->given[from].job != u->job) {
        return TARN_OK;
    }
    size_t n = (size_t)tarn_unit_nodes(u);
    const tarn_node **instead = calloc(n, sizeof *instead);
    if (!instead) {
        return tarn_raise_nomem(err, "a run", n * sizeof *instead);
    }
    tarn_status s = put_given(r, from, u, instead, err);
    free((void *)instead);
    return s;
}

static tarn_status add_given(tarn_recall *m, int64_t job, int node, const double value[4], tarn_error *err) {
    tarn_recall_given *list = tarn_run_grow(m->given, m->ngiven, &m->given_room, sizeof *list);
    if (!list) {
        return tarn_raise_nomem(err, "a run", (size_t)m->ngiven * sizeof *list);
    }
    m->given = list;
    list[m->ngiven] = (tarn_recall_given){.job = job, .node = node};
    memcpy(list[m->ngiven++].value, value, sizeof list->value);
    return TARN_OK;
}

static tarn_status add_one(tarn_recall *m, int64_t job, int node, const tarn_known_key *key, tarn_error *err) {
    tarn_recall_one *list = tarn_run_grow(m->one, m->n, &m->room, sizeof *list);
    if (!list) {
        return tarn_raise_nomem(err, "a run", (size_t)m->n * sizeof *list);
    }
    m->one = list;
    list[m->n++] = (tarn_recall_one){job, node, *key};
    return TARN_OK;
}

static bool keyed(const walk *w, int i) {
    return w->use[i] && w->state[i] == KEYED && remembers(w->unit->graph->nodes[i]);
}

static tarn_status find(tarn_runner *r, tarn_unit *u, const walk *w, const tarn_node **instead,
                        tarn_error *err) {
    tarn_recall *m = &r->recall;
    int64_t given = m->ngiven, one = m->n;
    double value[4];
    for (int k = 0; k < w->nodes; k++) {
        if (keyed(w, k) && tarn_known_get(&r->cx->known, &w->key[k], value)) {
            TARN_TRY(add_given(m, u->job, k, value, err));
        }
    }
    bool any = m->ngiven > given;
    TARN_TRY(any ? put_given(r, given, u, instead, err) : TARN_OK);
    for (int k = 0; k < w->nodes; k++) {
        const tarn_node *n = any ? instead[k] : u->graph->nodes[k];
        if (keyed(w, k) && n && remembers(n) && !tarn_gid(n)) {
            TARN_TRY(add_one(m, u->job, n->id, &w->key[k], err));
        }
    }
    if (m->n > one) {
        qsort(m->one + one, (size_t)(m->n - one), sizeof *m->one, by_place);
    }
    return TARN_OK;
}

tarn_status tarn_recall_find(tarn_runner *r, tarn_unit *u, tarn_error *err) {
    if (!r->recall.any || !reduces(u)) {
        return TARN_OK;
    }
    walk w;
    TARN_TRY(open_walk(&w, u, &r->recall, err));
    tarn_unit given = *u;  // the walk goes over the expressions as they came
    w.unit = &given;
    const tarn_node **instead = calloc((size_t)w.nodes, sizeof *instead);
    tarn_status s = instead ? find(r, u, &w, instead, err)
                            : tarn_raise_nomem(err, "a run", (size_t)w.nodes * sizeof *instead);
    free((void *)instead);
    close_walk(&w);
    return s;
}

void tarn_recall_close(tarn_recall *m) {
    free(m->one);
    free(m->given);
    free(m->gid);
    *m = (tarn_recall){0};
}

// ---- what is found out is kept ----

void tarn_recall_keep(tarn_context *cx, const tarn_recall *m, int64_t job, int node, const double out[4]) {
    for (int64_t k = first_of(m->one, m->n, sizeof *m->one, job); k < m->n && m->one[k].job == job; k++) {
        if (m->one[k].node == node) {
            tarn_known_put(&cx->known, &m->one[k].key, out);
        }
    }
}

void tarn_recall_keep_global(tarn_context *cx, const tarn_recall *m, int64_t gid, const double out[4]) {
    if (gid <= m->gids && m->gid[gid].keyed) {
        tarn_known_put(&cx->known, &m->gid[gid].key, out);
    }
}
