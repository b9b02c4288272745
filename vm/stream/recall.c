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
#include "vm/stream/layout.h"

enum { SMALL = 4096 };  // bytes of a tensor in memory that is part of a key

typedef enum { UNKNOWN, NONE, KEYED } state;

typedef struct {
    const tarn_job *job;
    unsigned char *use;   // [nodes] that the root needs
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
    const tarn_node *n = w->job->graph->nodes[i];
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
        int64_t gid = tarn_gid(w->job->graph->nodes[i]);
        if (!gid) {
            make_key(w, i);
        } else if (r->has_gid[gid]) {
            w->key[i] = r->gid[gid];
            w->state[i] = KEYED;
        }
    }
}

typedef struct {
    int64_t start;
    const walk *of;
    const tarn_node *node;
} part;

static int by_start(const void *a, const void *b) {
    const part *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

// The key of whole-model reduction `gid`, if all its contributions have one.
static bool key_of_global(int64_t njobs, const walk *walks, part *parts, int64_t gid, tarn_known_key *out) {
    int64_t n = 0;
    for (int64_t k = 0; k < njobs; k++) {
        const walk *w = &walks[k];
        for (int i = 0; i < w->nodes; i++) {
            const tarn_node *x = w->job->graph->nodes[i];
            if (!w->use[i] || tarn_gid(x) != gid) {
                continue;
            }
            for (int j = 0; j < x->nin; j++) {
                if (w->state[x->in[j]->id] != KEYED) {
                    return false;
                }
            }
            parts[n++] = (part){(int64_t)x->attr.f[x->attr.nf - 1], w, x};
            break;
        }
    }
    if (n == 0) {
        return false;
    }
    qsort(parts, (size_t)n, sizeof *parts, by_start);
    const tarn_node *one = parts[0].node;
    tarn_sha256 h;
    begin_key(&h, one);
    tarn_sha256_add(&h, one->attr.i + 2, (size_t)(one->attr.ni - 2) * sizeof *one->attr.i);  // not the gid
    tarn_sha256_add(&h, one->attr.i, sizeof *one->attr.i);
    tarn_sha256_add(&h, one->attr.f, (size_t)(one->attr.nf - 1) * sizeof *one->attr.f);  // not the start
    for (int64_t k = 0; k < n; k++) {
        if (k > 0 && parts[k].start == parts[k - 1].start) {
            continue;  // a tensor behind several outputs counts once
        }
        tarn_sha256_add(&h, &parts[k].start, sizeof parts[k].start);
        for (int j = 0; j < one->nin; j++) {
            tarn_sha256_add(&h, &parts[k].of->key[parts[k].node->in[j]->id], sizeof *parts[k].of->key);
        }
    }
    tarn_sha256_end(&h, out->bytes);
    return true;
}

// ---- what is known is put in place ----

static bool remembers(const tarn_node *n) {
    return n->op->cls == TARN_CLASS_REDUCE && tarn_is_total(n) && n->op->reducer->outputs <= 4;
}

static int by_place(const void *a, const void *b) {
    const tarn_recall_one *x = a, *y = b;
    return x->job != y->job ? (x->job > y->job) - (x->job < y->job) : (x->node > y->node) - (x->node < y->node);
}

static tarn_status failed(tarn_graph *g, tarn_error *err) {
    *err = g->err;
    return g->err.status;
}

static tarn_status add_one(tarn_recall *r, int64_t job, int node, const tarn_known_key *key, tarn_error *err) {
    if (r->n == r->room) {
        int64_t room = r->room ? r->room * 2 : 64;
        tarn_recall_one *more = realloc(r->one, (size_t)room * sizeof *more);
        if (!more) {
            return tarn_raise_nomem(err, "a run", (size_t)room * sizeof *more);
        }
        r->one = more;
        r->room = room;
    }
    r->one[r->n++] = (tarn_recall_one){job, node, *key};
    return TARN_OK;
}

static tarn_status put_known(tarn_context *cx, tarn_recall *r, int64_t job, const walk *w, tarn_error *err) {
    tarn_graph *g = w->job->graph;
    const tarn_node **instead = calloc((size_t)w->nodes, sizeof *instead);
    tarn_status s = instead ? TARN_OK : tarn_raise_nomem(err, "a run", (size_t)w->nodes * sizeof *instead);
    bool any = false;
    for (int i = 0; i < w->nodes && s == TARN_OK; i++) {
        const tarn_node *n = g->nodes[i];
        double out[4];
        if (!w->use[i] || w->state[i] != KEYED || !remembers(n) || !tarn_known_get(&cx->known, &w->key[i], out)) {
            continue;
        }
        tarn_tensor value;
        s = tarn_reduce_result(cx, &n->desc, out, &value, err);
        if (s == TARN_OK) {
            instead[i] = tarn_leaf_tensor(g, &value);
            tarn_tensor_release(&value);
            s = instead[i] ? TARN_OK : failed(g, err);
            any = true;
        }
    }
    if (any && s == TARN_OK) {
        const tarn_node *root = tarn_node_rebuild(g, w->job->root, instead);
        s = root ? TARN_OK : failed(g, err);
        r->own[job].root = root;
    }
    for (int i = 0; i < w->nodes && s == TARN_OK; i++) {
        const tarn_node *n = any ? instead[i] : g->nodes[i];
        if (w->use[i] && w->state[i] == KEYED && n && remembers(n) && !tarn_gid(n)) {
            s = add_one(r, job, n->id, &w->key[i], err);
        }
    }
    free((void *)instead);
    return s;
}

static tarn_status open_walk(walk *w, const tarn_job *job, tarn_error *err) {
    size_t n = (size_t)job->root->id + 1;
    *w = (walk){.job = job, .nodes = (int)n};
    w->use = calloc(n, 2);
    w->key = calloc(n, sizeof *w->key);
    if (!w->use || !w->key) {
        return tarn_raise_nomem(err, "a run", n * sizeof *w->key);
    }
    w->state = w->use + n;
    tarn_graph_mark(job->graph, 1, &job->root, w->use);
    return TARN_OK;
}

static bool reduces(const tarn_job *job, int64_t *gids) {
    bool any = false;
    for (int i = 0; i <= job->root->id; i++) {
        const tarn_node *n = job->graph->nodes[i];
        any = any || remembers(n);
        *gids = tarn_gid(n) > *gids ? tarn_gid(n) : *gids;
    }
    return any;
}

static void close_walk(walk *w) {
    free(w->use);
    free(w->key);
    *w = (walk){0};
}

static tarn_status put_global(tarn_context *cx, int64_t n, walk *walks, part *parts, tarn_recall *r,
                              tarn_error *err) {
    for (int64_t i = 0; i < n; i++) {
        TARN_TRY(open_walk(&walks[i], &r->jobs[i], err));
        make_keys(&walks[i], r);
    }
    for (bool more = true; more;) {  // one may stand below another
        more = false;
        for (int64_t gid = 1; gid <= r->gids; gid++) {
            if (!r->has_gid[gid] && key_of_global(n, walks, parts, gid, &r->gid[gid])) {
                r->has_gid[gid] = more = true;
            }
        }
        for (int64_t i = 0; i < n && more; i++) {
            make_keys(&walks[i], r);
        }
    }
    for (int64_t i = 0; i < n; i++) {
        TARN_TRY(put_known(cx, r, i, &walks[i], err));
    }
    return TARN_OK;
}

static tarn_status put_local(tarn_context *cx, int64_t n, tarn_recall *r, tarn_error *err) {
    for (int64_t i = 0; i < n; i++) {
        walk w;
        tarn_status s = open_walk(&w, &r->jobs[i], err);
        if (s == TARN_OK) {
            make_keys(&w, r);
            s = put_known(cx, r, i, &w, err);
        }
        close_walk(&w);
        TARN_TRY(s);
    }
    return TARN_OK;
}

tarn_status tarn_recall_open(tarn_context *cx, int64_t n, const tarn_job *jobs, tarn_recall *r, tarn_error *err) {
    *r = (tarn_recall){.jobs = jobs};
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        any = reduces(&jobs[i], &r->gids) || any;
    }
    if (!any || cx->rehash) {
        r->gids = 0;
        return TARN_OK;
    }
    walk *walks = calloc((size_t)n, sizeof *walks);
    part *parts = calloc((size_t)n, sizeof *parts);
    r->own = malloc((size_t)n * sizeof *r->own);
    r->gid = calloc((size_t)r->gids + 1, sizeof *r->gid);
    r->has_gid = calloc((size_t)r->gids + 1, sizeof *r->has_gid);
    tarn_status s = walks && parts && r->own && r->gid && r->has_gid
                        ? TARN_OK
                        : tarn_raise_nomem(err, "a run", (size_t)n * sizeof *walks);
    if (s == TARN_OK) {
        memcpy(r->own, jobs, (size_t)n * sizeof *jobs);
        r->jobs = r->own;
        s = r->gids > 0 ? put_global(cx, n, walks, parts, r, err) : put_local(cx, n, r, err);
    }
    if (s == TARN_OK && r->n > 0) {
        qsort(r->one, (size_t)r->n, sizeof *r->one, by_place);
    }
    for (int64_t i = 0; i < n && walks; i++) {
        close_walk(&walks[i]);
    }
    free(walks);
    free(parts);
    return s;
}

void tarn_recall_close(tarn_recall *r) {
    free(r->own);
    free(r->one);
    free(r->gid);
    free(r->has_gid);
    *r = (tarn_recall){0};
}

// ---- what is found out is kept ----

void tarn_recall_keep(tarn_context *cx, const tarn_recall *r, int64_t job, int node, const double out[4]) {
    int64_t low = 0, high = r->n;
    while (low < high) {  // the first that is not before (job, node)
        int64_t at = low + (high - low) / 2;
        bool before = r->one[at].job != job ? r->one[at].job < job : r->one[at].node < node;
        low = before ? at + 1 : low;
        high = before ? high : at;
    }
    if (low < r->n && r->one[low].job == job && r->one[low].node == node) {
        tarn_known_put(&cx->known, &r->one[low].key, out);
    }
}

void tarn_recall_keep_global(tarn_context *cx, const tarn_recall *r, int64_t gid, const double out[4]) {
    if (gid <= r->gids && r->has_gid[gid]) {
        tarn_known_put(&cx->known, &r->gid[gid], out);
    }
}
