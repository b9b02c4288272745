// SPDX-License-Identifier: Apache-2.0
// Classes of a traced graph. A class of factors f may be moved differently for each index of another
// class g (inside a head, head by head) if that is true of the whole network: g stands before f in the
// same segment wherever a parameter has f, every value that has f has g beside it, and no operation mixes
// places of g while it keeps those of f apart, or sums over f while it keeps two of g apart. Without that
// nesting one member serves all places of g.
#include "vm/op/symmetry.h"

#include <string.h>

// ---- axes as segments of factors ----

static const tarn_term *at(const tarn_axes *t, tarn_axis a) { return &t->term[a.term]; }

static void as_one(tarn_axis_view *v, int64_t size) {
    v->segments = v->factors = 1;
    v->segment[0] = (tarn_segment){0, size, 0, 1};
    v->factor[0] = (tarn_factor){size, -1, false};
}

// The place of the last sum within a product, 0: none. A sum in the first place has been distributed.
static int inner_sum(const tarn_axes *t, const tarn_axis_list *f) {
    int last = 0;
    for (int k = 1; k < f->n; k++) {
        last = at(t, f->a[k])->kind == TARN_TERM_SUM ? k : last;
    }
    return last;
}

static int64_t copies_of(const tarn_axes *t, const tarn_axis_list *f, int before) {
    int64_t n = 1;
    for (int k = 0; k < before && n <= TARN_AXIS_PARTS; k++) {
        n *= at(t, f->a[k])->size;
    }
    return n;
}

static void put_factor(const tarn_symmetry *s, tarn_axis_view *v, tarn_axis a) {
    const tarn_term *term = at(s->axes, a);
    if (term->size != 1 && v->factors < 4 * TARN_AXIS_PARTS) {
        int id = s->id[a.term];
        v->factor[v->factors++] = (tarn_factor){term->size, id, id >= 0 && a.dual != s->classes[id].flip};
        v->segment[v->segments].n++;
    }
}

// A segment of the factors of a and of those of f from `from` on; false where there is no room or a sum.
static bool put_segment(const tarn_symmetry *s, tarn_axis_view *v, int64_t *offset, tarn_axis a,
                        const tarn_axis_list *f, int from) {
    tarn_axis_list own = {0};
    tarn_axes_factors(s->axes, a, &own);
    if (v->segments == TARN_AXIS_PARTS || own.full || inner_sum(s->axes, &own)) {
        return false;
    }
    tarn_segment *g = &v->segment[v->segments];
    *g = (tarn_segment){.offset = *offset, .size = at(s->axes, a)->size, .first = v->factors};
    for (int k = 0; k < own.n; k++) {
        put_factor(s, v, own.a[k]);
    }
    for (int k = from; k < f->n; k++) {
        g->size *= at(s->axes, f->a[k])->size;
        put_factor(s, v, f->a[k]);
    }
    *offset += g->size;
    v->segments++;
    return v->factors < 4 * TARN_AXIS_PARTS;
}

static bool view(const tarn_symmetry *s, tarn_axis a, tarn_axis_view *v) {
    tarn_axes *t = s->axes;
    tarn_axis_list all = {0}, none = {0};
    int64_t offset = 0;
    v->segments = v->factors = 0;
    tarn_axes_parts(t, a, &all);
    bool fits = !all.full;
    for (int k = 0; k < all.n && fits; k++) {
        tarn_axis_list f = {0}, inner = {0};
        tarn_axes_factors(t, all.a[k], &f);
        int sum = f.full ? 0 : inner_sum(t, &f);
        if (sum == 0) {
            fits = !f.full && put_segment(s, v, &offset, all.a[k], &none, 0);
            continue;
        }
        tarn_axes_parts(t, f.a[sum], &inner);
        int64_t copies = copies_of(t, &f, sum);
        for (int64_t c = 0; c < copies && fits; c++) {
            for (int i = 0; i < inner.n && fits; i++) {
                fits = put_segment(s, v, &offset, inner.a[i], &f, sum + 1);
            }
        }
    }
    return fits;
}

// What stands before a sum within a product cannot be told by segments: it stays, and so does all of an
// axis that takes too many.
static void settle(tarn_symmetry *s, tarn_axis a) {
    tarn_axes *t = s->axes;
    tarn_axis_list all = {0};
    tarn_axis_view v;
    tarn_axes_parts(t, a, &all);
    for (int k = 0; k < all.n && !all.full; k++) {
        tarn_axis_list f = {0};
        tarn_axes_factors(t, all.a[k], &f);
        int sum = f.full ? 0 : inner_sum(t, &f);
        for (int i = 0; i < sum; i++) {
            tarn_axes_hold(t, f.a[i], TARN_GROUP_NONE);
        }
    }
    if (!view(s, a, &v)) {
        tarn_axes_hold(t, a, TARN_GROUP_NONE);
    }
}

static bool used(const tarn_axes *t, const tarn_node *n) {
    return n->id < t->nodes && (t->use[n->id] & TARN_AXES_USED);
}
static tarn_axis axis_of(const tarn_axes *t, const tarn_node *n, int d) {
    return (tarn_axis){t->slot[n->id * TARN_MAX_RANK + d], false};
}

void tarn_symmetry_axis(const tarn_symmetry *s, const tarn_node *n, int d, tarn_axis_view *out) {
    if (!used(s->axes, n) || !view(s, axis_of(s->axes, n, d), out)) {
        as_one(out, n->desc.shape[d]);
    }
}

// ---- where classes occur ----

typedef struct {
    int id, axis, segment;
    bool dual;
} place;

typedef struct {
    int n, room;
    place *p;
} places;

// All places of classes on the axes of n, where one is of a class at all.
static void find_places(const tarn_symmetry *s, const tarn_node *n, places *out) {
    tarn_axis_view v;
    out->n = 0;
    for (int d = 0; d < n->desc.rank; d++) {
        tarn_symmetry_axis(s, n, d, &v);
        for (int g = 0; g < v.segments; g++) {
            for (int k = v.segment[g].first; k < v.segment[g].first + v.segment[g].n; k++) {
                if (v.factor[k].id >= 0 && out->n < out->room) {
                    out->p[out->n++] = (place){v.factor[k].id, d, g, v.factor[k].dual};
                }
            }
        }
    }
}

static void add_classes(tarn_symmetry *s, tarn_axis a) {
    tarn_axes *t = s->axes;
    a = tarn_axes_root(t, a);
    const tarn_term *term = at(t, a);
    for (int k = 0; k < term->n; k++) {
        add_classes(s, (tarn_axis){term->part[k].term, false});
    }
    if (term->n == 0 && term->size > 1 && term->limit >= TARN_GROUP_PERMUTATION && s->id[a.term] < 0) {
        s->id[a.term] = s->n;
        s->classes[s->n++] = (tarn_symmetry_class){.size = term->size, .group = (tarn_group)term->limit,
                                                   .anchored = term->anchored, .term = a.term, .nunder = -1};
    }
}

// What depends on data is moved by A: of two values that contradict each other the first in the graph.
// Classes that no such value has are told by the first parameter.
static void orient(tarn_symmetry *s, int nparams, const tarn_node *const *params, bool *known, places *pl) {
    const tarn_axes *t = s->axes;
    for (int i = 0; i < t->nodes + nparams; i++) {
        const tarn_node *n = i < t->nodes ? t->graph->nodes[i] : params[i - t->nodes];
        if (!used(t, n) || (i < t->nodes && !(t->use[n->id] & TARN_AXES_DATA))) {
            continue;
        }
        find_places(s, n, pl);
        for (int k = 0; k < pl->n; k++) {
            int id = pl->p[k].id;
            s->classes[id].flip = known[id] ? s->classes[id].flip : pl->p[k].dual;
            known[id] = true;
        }
    }
}

// ---- what a class may depend on ----

static void drop(tarn_symmetry_class *f, int g) {
    int n = 0;
    for (int k = 0; k < f->nunder; k++) {
        if (f->under[k] != g) {
            f->under[n++] = f->under[k];
        }
    }
    f->nunder = n;
}

// Classes that stand before each place of a parameter, in all of them.
static void before_in(tarn_symmetry *s, const places *pl) {
    for (int k = 0; k < pl->n; k++) {
        tarn_symmetry_class *f = &s->classes[pl->p[k].id];
        int first = k;
        while (first > 0 && pl->p[first - 1].axis == pl->p[k].axis && pl->p[first - 1].segment == pl->p[k].segment) {
            first--;
        }
        if (f->nunder < 0) {
            f->nunder = 0;
            for (int i = first; i < k && f->nunder < TARN_MAX_RANK; i++) {
                f->under[f->nunder++] = pl->p[i].id;
            }
        }
        for (int j = f->nunder - 1; j >= 0; j--) {
            int times = 0;
            for (int i = first; i < k; i++) {
                times += pl->p[i].id == f->under[j];
            }
            if (times != 1 || f->under[j] == pl->p[k].id) {
                drop(f, f->under[j]);
            }
        }
    }
}

typedef struct {
    int together;    // in the segment of f
    int elsewhere;   // on other axes
    bool beside;     // in other segments of f's axis
    unsigned axes;   // that have it
} sight;

static sight look(const places *pl, int k, int g) {
    sight s = {0};
    for (int i = 0; i < pl->n; i++) {
        if (pl->p[i].id == g) {
            bool axis = pl->p[i].axis == pl->p[k].axis, own = axis && pl->p[i].segment == pl->p[k].segment;
            s.together += own;
            s.beside = s.beside || (axis && !own);
            s.elsewhere += !axis;
            s.axes |= 1u << pl->p[i].axis;
        }
    }
    return s;
}

// Every place of f has one place of g that it can follow.
static void together_in(tarn_symmetry *s, const places *pl) {
    for (int k = 0; k < pl->n; k++) {
        tarn_symmetry_class *f = &s->classes[pl->p[k].id];
        for (int j = f->nunder - 1; j >= 0; j--) {
            sight g = look(pl, k, f->under[j]);
            if (g.together != 1 && !(g.together == 0 && g.elsewhere == 1 && !g.beside)) {
                drop(f, f->under[j]);
            }
        }
    }
}

static void mixed_in(tarn_symmetry *s, const places *pl, const tarn_mixture *m) {
    for (int k = 0; k < pl->n; k++) {
        tarn_symmetry_class *f = &s->classes[pl->p[k].id];
        bool summed = m->mixed >> pl->p[k].axis & 1;
        for (int j = f->nunder - 1; j >= 0; j--) {
            sight g = look(pl, k, f->under[j]);
            if (g.together == 0 && (g.axes & (summed ? m->apart : m->mixed))) {
                drop(f, f->under[j]);
            }
        }
    }
}

static bool any_nested(const tarn_symmetry *s, const places *pl) {
    for (int k = 0; k < pl->n; k++) {
        if (s->classes[pl->p[k].id].nunder > 0) {
            return true;
        }
    }
    return false;
}

static void nest(tarn_symmetry *s, int nparams, const tarn_node *const *params, places *pl) {
    const tarn_axes *t = s->axes;
    for (int i = 0; i < nparams; i++) {
        find_places(s, params[i], pl);
        before_in(s, pl);
    }
    for (int i = 0; i < t->nodes; i++) {
        const tarn_node *n = t->graph->nodes[i];
        if (used(t, n)) {
            find_places(s, n, pl);
            if (any_nested(s, pl)) {
                together_in(s, pl);
            }
        }
    }
    for (int i = 0; i < t->mixtures; i++) {
        find_places(s, t->graph->nodes[t->mixture[i].node], pl);
        if (any_nested(s, pl)) {
            mixed_in(s, pl, &t->mixture[i]);
        }
    }
}

tarn_status tarn_symmetry_of(tarn_axes *t, int nparams, const tarn_node *const *params,
                             tarn_symmetry *out, tarn_error *err) {
    size_t n = (size_t)t->terms + 1, room = TARN_MAX_RANK * 4 * TARN_AXIS_PARTS;
    places pl = {.room = (int)room, .p = tarn_arena_take(&t->arena, room * sizeof *pl.p)};
    bool *known = tarn_arena_take(&t->arena, n);
    *out = (tarn_symmetry){.axes = t, .classes = tarn_arena_take(&t->arena, n * sizeof *out->classes),
                           .id = tarn_arena_take(&t->arena, n * sizeof *out->id)};
    if (!pl.p || !known || !out->classes || !out->id) {
        return tarn_raise_nomem(err, "symmetries", n * sizeof *out->classes);
    }
    memset(known, 0, n);
    for (size_t i = 0; i < n; i++) {
        out->id[i] = -1;
    }
    for (int i = 0; i < t->nodes; i++) {
        const tarn_node *node = t->graph->nodes[i];
        for (int d = 0; used(t, node) && d < node->desc.rank; d++) {
            settle(out, axis_of(t, node, d));
        }
    }
    for (int i = 0; i < nparams; i++) {
        for (int d = 0; used(t, params[i]) && d < params[i]->desc.rank; d++) {
            add_classes(out, axis_of(t, params[i], d));
        }
    }
    orient(out, nparams, params, known, &pl);
    nest(out, nparams, params, &pl);
    return t->failed ? tarn_raise_nomem(err, "symmetries", n) : TARN_OK;
}
