// SPDX-License-Identifier: Apache-2.0
// Axis tracing: a union-find with parity over terms. Every axis of every node is a term; a row links
// axes, which unifies their terms: an atom takes the structure that it meets, two products are refined
// to common factors from the innermost on (12 x 64 and 4 x 192 become 4 x 3 x 64), two sums are cut at
// each other's boundaries, and a product is cut where its outermost factor can be. Atoms keep the
// smallest of the groups that their links allow. The parity says who is moved by the inverse: if
// an atom meets itself the other way round, only signed permutations, which are their own inverses
// transposed, are left.
#include "vm/op/axes.h"

#include <stdlib.h>
#include <string.h>

#include "vm/op/rules.h"

// ---- terms ----

static void *take(tarn_axes *t, size_t bytes) {
    void *p = t->failed ? NULL : tarn_arena_take(&t->arena, bytes);
    t->failed = !p;
    return p;
}

// `count` elements of memory for `room`; twice as much where it is full.
static void *grown(tarn_axes *t, void *old, int count, int *room, size_t size) {
    if (count < *room) {
        return old;
    }
    int more = *room ? 2 * *room : 1024;
    void *p = take(t, (size_t)more * size);
    if (p && count > 0) {
        memcpy(p, old, (size_t)count * size);
    }
    *room = p ? more : *room;
    return p ? p : old;
}

static tarn_axis new_term(tarn_axes *t, tarn_term_kind kind, int64_t size, int n, const tarn_axis *part) {
    t->term = grown(t, t->term, t->terms, &t->room, sizeof *t->term);
    tarn_axis *own = n > 0 ? take(t, (size_t)n * sizeof *own) : NULL;
    if (t->failed) {
        return (tarn_axis){0};
    }
    if (n > 0) {
        memcpy(own, part, (size_t)n * sizeof *own);
    }
    t->term[t->terms] = (tarn_term){.size = size, .parent = -1, .kind = kind, .limit = TARN_GROUP_LINEAR,
                                    .n = n, .part = own};
    return (tarn_axis){t->terms++, false};
}

tarn_axis tarn_axes_root(const tarn_axes *t, tarn_axis a) {
    tarn_axis r = a;
    while (t->term[r.term].parent >= 0) {
        r.dual ^= t->term[r.term].dual;
        r.term = t->term[r.term].parent;
    }
    while (t->term[a.term].parent >= 0) {  // the path, shortened
        tarn_term *s = &t->term[a.term];
        tarn_axis next = {s->parent, a.dual ^ s->dual};
        s->parent = r.term;
        s->dual = a.dual ^ r.dual;
        a = next;
    }
    return r;
}

static tarn_term *at(const tarn_axes *t, tarn_axis a) { return &t->term[a.term]; }
static tarn_axis part_of(const tarn_axes *t, tarn_axis a, int k) {
    tarn_axis p = at(t, a)->part[k];
    p.dual ^= a.dual;
    return tarn_axes_root(t, p);
}

tarn_axis tarn_axes_atom(tarn_axes *t, int64_t size, tarn_group g) {
    tarn_axis a = new_term(t, TARN_TERM_ATOM, size, 0, NULL);
    if (!t->failed) {
        at(t, a)->limit = (unsigned char)g;
    }
    return a;
}

// An atom as free as `like`.
static tarn_axis alike(tarn_axes *t, int64_t size, tarn_axis like) {
    tarn_axis a = new_term(t, TARN_TERM_ATOM, size, 0, NULL);
    if (!t->failed) {
        at(t, a)->limit = at(t, like)->limit;
        at(t, a)->anchored = at(t, like)->anchored;
    }
    return a;
}

tarn_axis tarn_axes_product_of(tarn_axes *t, int n, const tarn_axis *factor) {
    tarn_axis own[TARN_MAX_RANK + 1];
    int64_t size = 1;
    int m = 0;
    for (int k = 0; k < n && !t->failed; k++) {
        int64_t s = at(t, factor[k])->size;
        size *= s;
        if (s != 1) {
            own[m++] = factor[k];
        }
    }
    return t->failed ? (tarn_axis){0} : m == 1 ? own[0] : m == 0 ? tarn_axes_atom(t, 1, TARN_GROUP_LINEAR)
                                                        : new_term(t, TARN_TERM_PRODUCT, size, m, own);
}

tarn_axis tarn_axes_sum_of(tarn_axes *t, int n, const tarn_axis *part) {
    int64_t size = 0;
    for (int k = 0; k < n && !t->failed; k++) {
        size += at(t, part[k])->size;
    }
    return t->failed || n == 1 ? part[0] : new_term(t, TARN_TERM_SUM, size, n, part);
}

// What two groups have in common: signs and positive scales only the permutations.
static tarn_group meet(tarn_group a, tarn_group b) {
    tarn_group least = a < b ? a : b, most = a < b ? b : a;
    return least == TARN_GROUP_SIGNED && most == TARN_GROUP_SCALED ? TARN_GROUP_PERMUTATION : least;
}

static void hold(tarn_axes *t, tarn_axis a, tarn_group g, bool anchored) {
    a = tarn_axes_root(t, a);
    tarn_term *s = at(t, a);
    for (int k = 0; k < s->n; k++) {
        hold(t, part_of(t, a, k), g, anchored);
    }
    s->limit = (unsigned char)meet((tarn_group)s->limit, g);
    s->anchored = s->anchored || anchored;
}
void tarn_axes_hold(tarn_axes *t, tarn_axis a, tarn_group g) {
    if (!t->failed) {
        hold(t, a, g, false);
    }
}

// ---- lists of factors and of parts ----

typedef tarn_axis_list list;

static void put(list *l, tarn_axis a) {
    l->full = l->full || l->n == TARN_AXIS_PARTS;
    if (!l->full) {
        l->a[l->n++] = a;
    }
}

// The factors of a, none of which is a product.
void tarn_axes_factors(const tarn_axes *t, tarn_axis a, list *out) {
    a = tarn_axes_root(t, a);
    if (at(t, a)->kind != TARN_TERM_PRODUCT) {
        put(out, a);
        return;
    }
    for (int k = 0; k < at(t, a)->n; k++) {
        tarn_axes_factors(t, part_of(t, a, k), out);
    }
}

// A product of a sum and other factors as the sum of products that it is.
static void distribute(tarn_axes *t, tarn_axis a) {
    list f = {0};
    tarn_axes_factors(t, a, &f);
    if (at(t, a)->kind != TARN_TERM_PRODUCT || f.full || f.n > TARN_MAX_RANK ||
        at(t, f.a[0])->kind != TARN_TERM_SUM) {
        return;
    }
    tarn_axis own[TARN_AXIS_PARTS], first = f.a[0];
    int n = at(t, first)->n;
    for (int k = 0; k < n && n <= TARN_AXIS_PARTS; k++) {
        f.a[0] = part_of(t, first, k);
        f.a[0].dual ^= a.dual;  // parts are relative to their term
        for (int i = 1; i < f.n && k == 0; i++) {
            f.a[i].dual ^= a.dual;
        }
        own[k] = tarn_axes_product_of(t, f.n, f.a);
    }
    tarn_axis *kept = n <= TARN_AXIS_PARTS ? take(t, (size_t)n * sizeof *kept) : NULL;
    if (kept) {
        memcpy(kept, own, (size_t)n * sizeof *kept);
        tarn_term *s = at(t, a);
        s->kind = TARN_TERM_SUM;
        s->n = n;
        s->part = kept;
    }
}

// The parts of a, none of which is a sum.
void tarn_axes_parts(tarn_axes *t, tarn_axis a, list *out) {
    a = tarn_axes_root(t, a);
    distribute(t, a);
    if (at(t, a)->kind != TARN_TERM_SUM) {
        put(out, a);
        return;
    }
    for (int k = 0; k < at(t, a)->n && !t->failed; k++) {
        tarn_axes_parts(t, part_of(t, a, k), out);
    }
}

static void become(tarn_axes *t, tarn_axis a, tarn_term_kind kind, const tarn_axis *part) {
    tarn_axis *own = take(t, 2 * sizeof *own);
    if (!own) {
        return;
    }
    for (int k = 0; k < 2; k++) {
        own[k] = part[k];
        own[k].dual ^= a.dual;
    }
    tarn_term *s = at(t, a);
    s->kind = kind;
    s->n = 2;
    s->part = own;
}

// An atom as outer x inner, which are seen as a is.
static bool split(tarn_axes *t, tarn_axis a, int64_t inner, tarn_axis out[2]) {
    if (at(t, a)->kind != TARN_TERM_ATOM || at(t, a)->size % inner != 0) {
        return false;
    }
    for (int k = 0; k < 2 && !t->failed; k++) {
        out[k] = alike(t, k == 0 ? at(t, a)->size / inner : inner, a);
        out[k].dual = a.dual;
    }
    if (!t->failed) {
        become(t, a, TARN_TERM_PRODUCT, out);
    }
    return !t->failed;
}

// Makes `place` a boundary between parts of a, where that is possible.
static bool cut(tarn_axes *t, tarn_axis a, int64_t place) {
    a = tarn_axes_root(t, a);
    distribute(t, a);
    tarn_term s = *at(t, a);
    if (t->failed || place <= 0 || place >= s.size) {
        return !t->failed;
    }
    if (s.kind == TARN_TERM_SUM) {
        for (int k = 0; k < s.n; k++) {
            tarn_axis p = part_of(t, a, k);
            if (place < at(t, p)->size) {
                return cut(t, p, place);
            }
            place -= at(t, p)->size;
        }
        return true;
    }
    if (s.kind == TARN_TERM_PRODUCT) {
        list f = {0};
        tarn_axes_factors(t, a, &f);
        int64_t inner = f.full ? 0 : s.size / at(t, f.a[0])->size;
        if (inner == 0 || f.n > TARN_MAX_RANK || place % inner != 0 || !cut(t, f.a[0], place / inner)) {
            return false;
        }
        distribute(t, a);
        return at(t, a)->kind == TARN_TERM_SUM;
    }
    tarn_axis half[2] = {alike(t, place, a), {0}};
    half[1] = alike(t, s.size - place, a);
    half[0].dual = half[1].dual = a.dual;
    if (!t->failed) {
        become(t, a, TARN_TERM_SUM, half);
    }
    return !t->failed;
}

// ---- unifying ----

static void unify(tarn_axes *t, tarn_axis a, tarn_axis b);

static void hold_all(tarn_axes *t, const list *l) {
    for (int k = 0; k < l->n; k++) {
        hold(t, l->a[k], TARN_GROUP_NONE, false);
    }
}

// The last factor of the list, taken apart if it has become a product.
static bool last_of(const tarn_axes *t, list *l, tarn_axis *out) {
    while (l->n > 0 && !l->full) {
        tarn_axis a = tarn_axes_root(t, l->a[l->n - 1]);
        if (at(t, a)->kind != TARN_TERM_PRODUCT) {
            *out = l->a[l->n - 1] = a;
            return true;
        }
        l->n--;
        tarn_axes_factors(t, a, l);
    }
    return false;
}

// Common factors of two products of one size, from the innermost on.
static bool refine(tarn_axes *t, tarn_axis a, tarn_axis b) {
    list l[2] = {0};
    tarn_axes_factors(t, a, &l[0]);
    tarn_axes_factors(t, b, &l[1]);
    tarn_axis x[2], piece[2];
    while (!t->failed && last_of(t, &l[0], &x[0]) && last_of(t, &l[1], &x[1])) {
        int64_t p = at(t, x[0])->size, q = at(t, x[1])->size;
        int big = p < q;
        if (p != q) {
            if (!split(t, x[big], p < q ? p : q, piece)) {
                hold_all(t, &l[0]);
                hold_all(t, &l[1]);
                return false;
            }
            l[big].a[l[big].n - 1] = piece[0];
            l[!big].n--;
            unify(t, piece[1], x[!big]);
            continue;
        }
        l[0].n--;
        l[1].n--;
        unify(t, x[0], x[1]);
    }
    if (l[0].full || l[1].full) {
        hold(t, a, TARN_GROUP_NONE, false);
        hold(t, b, TARN_GROUP_NONE, false);
    }
    return !t->failed && !l[0].full && !l[1].full;
}

// Both cut at each other's boundaries.
static bool align(tarn_axes *t, tarn_axis a, tarn_axis b) {
    tarn_axis x[2] = {a, b};
    list l[2] = {0};
    for (int k = 0; k < 2; k++) {
        int64_t place = 0;
        bool fits = true;
        l[k].n = 0;
        tarn_axes_parts(t, x[k], &l[k]);
        for (int i = 0; i < l[k].n && fits; i++) {
            place += at(t, l[k].a[i])->size;
            fits = !l[k].full && cut(t, x[!k], place);
        }
        if (!fits || t->failed) {
            hold(t, a, TARN_GROUP_NONE, false);
            hold(t, b, TARN_GROUP_NONE, false);
            return false;
        }
    }
    for (int k = 0; k < 2; k++) {
        l[k].n = 0;
        tarn_axes_parts(t, x[k], &l[k]);
    }
    bool same = !t->failed && !l[0].full && !l[1].full && l[0].n == l[1].n;
    for (int i = 0; i < l[0].n && same && !t->failed; i++) {
        unify(t, l[0].a[i], l[1].a[i]);
    }
    if (!same && !t->failed) {
        hold(t, a, TARN_GROUP_NONE, false);
        hold(t, b, TARN_GROUP_NONE, false);
    }
    return same;
}

static void unify(tarn_axes *t, tarn_axis a, tarn_axis b) {
    a = tarn_axes_root(t, a);
    b = tarn_axes_root(t, b);
    if (a.term == b.term) {
        if (a.dual != b.dual) {
            hold(t, a, TARN_GROUP_SIGNED, false);
        }
        return;
    }
    if (at(t, a)->size != at(t, b)->size) {
        hold(t, a, TARN_GROUP_NONE, false);
        hold(t, b, TARN_GROUP_NONE, false);
        return;
    }
    if (at(t, a)->kind == TARN_TERM_ATOM || at(t, b)->kind == TARN_TERM_ATOM) {
        bool swap = at(t, a)->kind != TARN_TERM_ATOM;
        tarn_axis from = swap ? b : a, to = swap ? a : b;
        hold(t, to, at(t, from)->limit, at(t, from)->anchored);
        at(t, from)->parent = to.term;
        at(t, from)->dual = from.dual ^ to.dual;
        return;
    }
    bool products = at(t, a)->kind == TARN_TERM_PRODUCT && at(t, b)->kind == TARN_TERM_PRODUCT;
    if (products ? refine(t, a, b) : align(t, a, b)) {
        a = tarn_axes_root(t, a);
        b = tarn_axes_root(t, b);
        if (a.term != b.term) {
            at(t, a)->parent = b.term;
            at(t, a)->dual = a.dual ^ b.dual;
        }
    }
}

void tarn_axes_unify(tarn_axes *t, tarn_axis a, tarn_axis b) {
    if (!t->failed) {
        unify(t, a, b);
    }
}

bool tarn_axes_part(tarn_axes *t, tarn_axis a, int64_t start, int64_t count, tarn_axis *out) {
    if (t->failed || !cut(t, a, start) || !cut(t, a, start + count)) {
        return false;
    }
    list all = {0}, own = {0};
    int64_t place = 0;
    tarn_axes_parts(t, a, &all);
    for (int k = 0; k < all.n; k++) {
        int64_t size = at(t, all.a[k])->size;
        if (place >= start && place + size <= start + count && size > 0) {
            put(&own, all.a[k]);
        }
        place += size;
    }
    if (t->failed || all.full || own.n == 0) {
        return false;
    }
    *out = tarn_axes_sum_of(t, own.n, own.a);
    return !t->failed;
}

// ---- axes of nodes ----

tarn_axis tarn_axes_of(tarn_axes *t, const tarn_node *a, int d) {
    int *s = &t->slot[a->id * TARN_MAX_RANK + d];
    if (*s < 0) {
        tarn_axis made = tarn_axes_atom(t, a->desc.shape[d], TARN_GROUP_LINEAR);
        *s = t->failed ? -1 : made.term;
    }
    return (tarn_axis){*s < 0 ? 0 : *s, false};
}

void tarn_axes_limit(tarn_axes *t, const tarn_node *a, int d, tarn_group g) {
    tarn_axes_hold(t, tarn_axes_of(t, a, d), g);
}

static void link(tarn_axes *t, tarn_axis a, tarn_axis b, bool dual, tarn_group g) {
    b.dual ^= dual;
    tarn_axes_hold(t, a, g);
    tarn_axes_unify(t, a, b);
}
void tarn_axes_link(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e,
                    tarn_group g) {
    link(t, tarn_axes_of(t, a, d), tarn_axes_of(t, b, e), false, g);
}
void tarn_axes_contract(tarn_axes *t, const tarn_node *a, int d, const tarn_node *b, int e) {
    link(t, tarn_axes_of(t, a, d), tarn_axes_of(t, b, e), true, TARN_GROUP_LINEAR);
}

void tarn_axes_mix(tarn_axes *t, const tarn_node *x, unsigned mixed, unsigned apart) {
    t->mixture = grown(t, t->mixture, t->mixtures, &t->mixture_room, sizeof *t->mixture);
    if (!t->failed) {
        t->mixture[t->mixtures++] = (tarn_mixture){x->id, mixed, apart};
    }
}

int tarn_axes_find(const tarn_axes *t, const tarn_node *a, int d) {
    int s = t->slot[a->id * TARN_MAX_RANK + d];
    return s < 0 ? -1 : tarn_axes_root(t, (tarn_axis){s, false}).term;
}

tarn_group tarn_axes_group(const tarn_axes *t, int class_id) {
    if (class_id < 0) {
        return TARN_GROUP_NONE;
    }
    tarn_axis a = tarn_axes_root(t, (tarn_axis){class_id, false});
    const tarn_term *s = at(t, a);
    tarn_group g = s->n > 0 ? TARN_GROUP_LINEAR : s->anchored ? TARN_GROUP_NONE : (tarn_group)s->limit;
    for (int k = 0; k < s->n; k++) {
        g = meet(g, tarn_axes_group(t, part_of(t, a, k).term));
    }
    return g;
}

// ---- walking a graph ----

tarn_status tarn_axes_open(tarn_axes *t, tarn_graph *g, tarn_error *err) {
    memset(t, 0, sizeof *t);
    tarn_arena_init(&t->arena, &g->cx->budget);
    t->graph = g;
    t->nodes = g->count;
    size_t slots = (size_t)g->count * TARN_MAX_RANK;
    t->slot = take(t, slots * sizeof *t->slot);
    t->use = take(t, (size_t)g->count);
    if (t->failed) {
        tarn_axes_free(t);
        return tarn_raise_nomem(err, "axis tracing", slots * sizeof *t->slot);
    }
    memset(t->use, 0, (size_t)g->count);
    for (size_t s = 0; s < slots; s++) {
        t->slot[s] = -1;
    }
    return TARN_OK;
}

static void anchor(tarn_axes *t, const tarn_node *n) {
    for (int d = 0; d < n->desc.rank && !t->failed; d++) {
        hold(t, tarn_axes_of(t, n, d), TARN_GROUP_LINEAR, true);
    }
}

static tarn_status walk(tarn_axes *t, tarn_graph *g, int nroots, const tarn_node *const *roots, int npinned,
                        const tarn_node *const *pinned, tarn_error *err) {
    tarn_graph_mark(g, nroots, roots, t->use);
    for (int i = 0; i < npinned; i++) {
        t->use[pinned[i]->id] |= pinned[i]->desc.rank > 0 ? TARN_AXES_DATA : 0;
    }
    for (int i = 0; i < t->nodes; i++) {
        const tarn_node *n = g->nodes[i];
        if (!(t->use[i] & TARN_AXES_USED)) {
            continue;
        }
        for (int k = 0; k < n->nin; k++) {
            t->use[i] |= t->use[n->in[k]->id] & TARN_AXES_DATA;
        }
        for (int d = 0; d < n->desc.rank; d++) {
            tarn_axes_of(t, n, d);
        }
        if (n->op->axes) {
            n->op->axes(t, n);
            continue;
        }
        tarn_axes_fixed(t, n);  // nothing is known of it: what it touches stays
        for (int k = 0; k < n->nin; k++) {
            tarn_axes_fixed(t, n->in[k]);
        }
    }
    for (int i = 0; i < nroots; i++) {
        anchor(t, roots[i]);
    }
    for (int i = 0; i < npinned; i++) {
        anchor(t, pinned[i]);
    }
    return t->failed ? tarn_raise_nomem(err, "axis tracing", (size_t)t->terms * sizeof *t->term) : TARN_OK;
}

tarn_status tarn_axes_trace(tarn_graph *g, int nroots, const tarn_node *const *roots, int npinned,
                            const tarn_node *const *pinned, tarn_axes *out, tarn_error *err) {
    TARN_TRY(tarn_axes_open(out, g, err));
    tarn_status s = walk(out, g, nroots, roots, npinned, pinned, err);
    if (s != TARN_OK) {
        tarn_axes_free(out);
    }
    return s;
}

bool tarn_axes_linked(tarn_axes *t, const tarn_node *n, int k, int d, int e) {
    const tarn_node *x = n->in[k];
    if (!n->op->axes || x->desc.rank <= d || n->desc.rank <= e) {
        return false;
    }
    t->terms = t->mixtures = 0;
    for (int i = -1; i < n->nin; i++) {
        int first = (i < 0 ? n : n->in[i])->id * TARN_MAX_RANK;
        for (int s = first; s < first + TARN_MAX_RANK; s++) {
            t->slot[s] = -1;
        }
    }
    n->op->axes(t, n);
    tarn_axis a = tarn_axes_of(t, x, d), b = tarn_axes_of(t, n, e);
    return !t->failed && tarn_axes_root(t, a).term == tarn_axes_root(t, b).term;
}

void tarn_axes_free(tarn_axes *t) {
    tarn_arena_free(&t->arena);
    t->slot = NULL;
}

const char *tarn_group_name(tarn_group g) {
    static const char *const names[] = {"none", "permutation", "signed", "scaled", "linear"};
    return names[g];
}

// ---- rules that rows share ----

// True if operand x has the whole of axis e of y, false if it is stretched along it.
static bool has_axis(const tarn_node *x, const tarn_node *y, int e) {
    int d = e - (y->desc.rank - x->desc.rank);
    return d >= 0 && x->desc.shape[d] == y->desc.shape[e];
}

// Links every operand's axis with the axis of y that it becomes: by `all` where every operand has it,
// by `some` where one is stretched along it.
static void elementwise(tarn_axes *t, const tarn_node *y, tarn_group all, tarn_group some) {
    for (int e = 0; e < y->desc.rank; e++) {
        tarn_group g = all;
        for (int i = 0; i < y->nin; i++) {
            g = has_axis(y->in[i], y, e) ? g : some;
        }
        for (int i = 0; i < y->nin; i++) {
            const tarn_node *x = y->in[i];
            if (has_axis(x, y, e)) {
                tarn_axes_link(t, x, e - (y->desc.rank - x->desc.rank), y, e, g);
            }
        }
    }
}

void tarn_axes_scaled(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_SCALED, TARN_GROUP_PERMUTATION);
}
void tarn_axes_signed(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_SIGNED, TARN_GROUP_PERMUTATION);
}
void tarn_axes_permuted(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_PERMUTATION, TARN_GROUP_PERMUTATION);
}
void tarn_axes_linear(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_LINEAR, TARN_GROUP_PERMUTATION);
}
// With a factor that does not vary along the axis, y is x times a number there.
void tarn_axes_product(tarn_axes *t, const tarn_node *y) {
    elementwise(t, y, TARN_GROUP_PERMUTATION, TARN_GROUP_LINEAR);
}
void tarn_axes_quotient(tarn_axes *t, const tarn_node *y) {
    tarn_axes_product(t, y);
    for (int e = 0; e < y->desc.rank; e++) {
        if (has_axis(y->in[1], y, e)) {
            tarn_axes_limit(t, y, e, TARN_GROUP_PERMUTATION);
        }
    }
}
void tarn_axes_rows(tarn_axes *t, const tarn_node *y) {
    tarn_axes_permuted(t, y);
    tarn_axes_mix(t, y->in[0], 1u << (y->desc.rank - 1), 0);
}
void tarn_axes_none(tarn_axes *t, const tarn_node *y) {
    (void)t;
    (void)y;
}
void tarn_axes_fixed(tarn_axes *t, const tarn_node *y) {
    for (int d = 0; d < y->desc.rank; d++) {
        tarn_axes_limit(t, y, d, TARN_GROUP_NONE);
    }
}

void tarn_axes_kept(tarn_axes *t, const tarn_node *y) {
    for (int k = 0; k < y->desc.rank; k++) {
        tarn_axes_link(t, y->in[0], k, y, k, TARN_GROUP_LINEAR);
    }
}

void tarn_axes_window(tarn_axes *t, const tarn_node *all, const tarn_node *some, const int64_t *window) {
    for (int k = 0; k < all->desc.rank; k++) {
        int64_t start = window[3 * k], count = window[3 * k + 1], step = window[3 * k + 2];
        tarn_axis part = {0}, whole = tarn_axes_of(t, all, k);
        if (count == all->desc.shape[k]) {
            tarn_axes_link(t, all, k, some, k, TARN_GROUP_LINEAR);
        } else if ((step == 1 || count == 1) && count > 0 && tarn_axes_part(t, whole, start, count, &part)) {
            tarn_axes_unify(t, tarn_axes_of(t, some, k), part);
        } else {
            tarn_axes_limit(t, all, k, TARN_GROUP_NONE);
            tarn_axes_limit(t, some, k, TARN_GROUP_NONE);
        }
    }
}
