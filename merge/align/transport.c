// SPDX-License-Identifier: Apache-2.0
// Optimal transport by the network simplex (Dantzig; strongly feasible trees: Cunningham 1976,
// doi:10.1007/BF01580653). The basis is a tree over rows, columns and a root: each node but the root holds the arc to
// its parent, its direction, flow and cost. A pivot brings in the arc of most negative reduced cost among some rows
// of the matrix, sends flow around the cycle that it closes, drops the arc that runs dry and hangs the cut part of
// the tree under the new arc; only there do potentials change. Of arcs that run dry at once the last along the cycle
// is dropped, so that arcs without flow always point to the root, and no tree comes back. Rows and columns without
// mass take no part. Where rows and columns are as many and all masses equal, an assignment is the answer.
#include "merge/align/transport.h"

#include <math.h>
#include <string.h>

#include "merge/align/assign.h"
#include "merge/align/scan.h"
#include "vm/base/size.h"

typedef struct {
    double flow, cost, potential;
    int32_t parent, child, next, before;  // the first child; siblings; -1: none
    int32_t depth;
    bool up;  // the arc runs from this node to its parent
} node;

typedef struct {
    tarn_context *cx;
    const tarn_transport *p;
    int64_t n, m;         // rows and columns that have mass
    int32_t *row, *col;   // [n], [m] which they are
    node *t;              // [n + m + 1] rows, columns, root
    double *price;        // [cols] potentials of the columns, for a scan of a row
    double *reduced;      // [cols]
    double mass, far, tolerance;  // far: the cost of an arc to the root
    int64_t at;           // row where the next search begins
} simplex;

// ---- the tree ----

static void hang(node *t, int32_t x, int32_t parent) {
    t[x].parent = parent;
    t[x].before = -1;
    t[x].next = t[parent].child;
    if (t[parent].child >= 0) {
        t[t[parent].child].before = x;
    }
    t[parent].child = x;
}

static void cut(node *t, int32_t x) {
    if (t[x].before >= 0) {
        t[t[x].before].next = t[x].next;
    } else {
        t[t[x].parent].child = t[x].next;
    }
    if (t[x].next >= 0) {
        t[t[x].next].before = t[x].before;
    }
}

// Depth and potential from the parent's: the reduced cost of a tree's arcs is 0.
static void settle_node(simplex *s, int32_t x) {
    node *t = s->t, *parent = &t[t[x].parent];
    t[x].depth = parent->depth + 1;
    t[x].potential = t[x].up ? parent->potential - t[x].cost : parent->potential + t[x].cost;
    if (x >= s->n && x < s->n + s->m) {
        s->price[s->col[x - s->n]] = t[x].potential;
    }
}

static void settle_below(simplex *s, int32_t top) {
    const node *t = s->t;
    for (int32_t x = top;;) {
        settle_node(s, x);
        if (t[x].child >= 0) {
            x = t[x].child;
            continue;
        }
        while (x != top && t[x].next < 0) {
            x = t[x].parent;
        }
        if (x == top) {
            return;
        }
        x = t[x].next;
    }
}

// The part of the tree below `drop` holds q: it is hung under p by an arc from q (up) or to it.
static void rehang(node *t, int32_t q, int32_t p, int32_t drop, bool up, double cost, double flow) {
    for (int32_t x = q, under = p;;) {
        node was = t[x];
        cut(t, x);
        hang(t, x, under);
        t[x].up = up;
        t[x].cost = cost;
        t[x].flow = flow;
        if (x == drop) {
            return;
        }
        up = !was.up;
        cost = was.cost;
        flow = was.flow;
        under = x;
        x = was.parent;
    }
}

// ---- pivots ----

static const double *row_of(const simplex *s, int64_t i) { return s->p->cost + s->row[i] * s->p->cols; }

// The arc of most negative reduced cost in the next rows that have one; false: there is none in the matrix.
static bool find_entering(simplex *s, int32_t *tail, int32_t *head) {
    const tarn_scan *scan = tarn_scan_of(TARN_F64);
    double least = -s->tolerance, lane[TARN_SCAN_LANES];
    int64_t want = (int64_t)sqrt((double)s->n * (double)s->m), found = -1, seen = 0;
    for (int64_t k = 0; k < s->n && (found < 0 || seen < want); k++, seen += s->m) {
        int64_t i = s->at;
        double low = INFINITY;
        scan->reduce(s->p->cols, row_of(s, i), 1, s->price, s->reduced, lane);
        for (int l = 0; l < TARN_SCAN_LANES; l++) {
            low = lane[l] < low ? lane[l] : low;
        }
        if (low + s->t[i].potential < least) {
            least = low + s->t[i].potential;
            found = i;
            for (int64_t j = 0; j < s->m; j++) {
                if (s->reduced[s->col[j]] == low) {
                    *head = (int32_t)(s->n + j);
                    break;
                }
            }
        }
        s->at = s->at + 1 < s->n ? s->at + 1 : 0;
    }
    *tail = (int32_t)found;
    return found >= 0;
}

static int32_t meeting(const node *t, int32_t x, int32_t y) {
    while (x != y) {
        if (t[x].depth >= t[y].depth) {
            x = t[x].parent;
        } else {
            y = t[y].parent;
        }
    }
    return x;
}

static void shift(node *x, bool more, double by) {
    x->flow = more ? x->flow + by : x->flow > by ? x->flow - by : 0;
}

static void pivot(simplex *s, int32_t tail, int32_t head) {
    node *t = s->t;
    int32_t top = meeting(t, tail, head), drop = -1;
    double by = INFINITY, cost = row_of(s, tail)[s->col[head - s->n]];
    bool below_tail = true;
    for (int32_t x = tail; x != top; x = t[x].parent) {
        if (t[x].up && t[x].flow < by) {
            by = t[x].flow;
            drop = x;
        }
    }
    for (int32_t x = head; x != top; x = t[x].parent) {
        if (!t[x].up && t[x].flow <= by) {
            by = t[x].flow;
            drop = x;
            below_tail = false;
        }
    }
    for (int32_t x = tail; x != top; x = t[x].parent) {
        shift(&t[x], !t[x].up, by);
    }
    for (int32_t x = head; x != top; x = t[x].parent) {
        shift(&t[x], t[x].up, by);
    }
    int32_t q = below_tail ? tail : head;
    rehang(t, q, below_tail ? head : tail, drop, below_tail, cost, by);
    settle_below(s, q);
}

// ---- the whole ----

static void plant(simplex *s) {
    int32_t root = (int32_t)(s->n + s->m);
    s->t[root] = (node){.parent = -1, .child = -1, .next = -1, .before = -1};
    for (int64_t j = 0; j < s->p->cols; j++) {
        s->price[j] = -INFINITY;  // columns without mass are never the cheapest
    }
    for (int32_t x = 0; x < root; x++) {
        bool up = x < s->n;
        s->t[x] = (node){.child = -1, .up = up, .cost = s->far, .next = -1, .before = -1,
                         .flow = up ? s->p->a[s->row[x]] : s->p->b[s->col[x - s->n]]};
        hang(s->t, x, root);
        settle_node(s, x);
    }
}

static tarn_status read_plan(const simplex *s, double *plan, double *value, tarn_error *err) {
    int32_t root = (int32_t)(s->n + s->m);
    double left = 0;
    *value = 0;
    for (int32_t x = 0; x < root; x++) {
        const node *t = &s->t[x];
        if (t->parent == root) {
            left += t->flow;
            continue;
        }
        int64_t i = s->row[t->up ? x : t->parent], j = s->col[(t->up ? t->parent : x) - s->n];
        plan[i * s->p->cols + j] = t->flow;
        *value += t->flow * t->cost;
    }
    if (left > 1e-7 * s->mass) {
        TARN_RAISE(err, "Infeasible", "no plan: the pairs that are allowed leave %.3g of a mass of %.6g without a place", left / 2,
                   s->mass);
    }
    return TARN_OK;
}

static tarn_status solve(simplex *s, double *plan, double *value, tarn_error *err) {
    int32_t tail = -1, head = -1;
    plant(s);
    for (int64_t k = 1; find_entering(s, &tail, &head); k++) {
        pivot(s, tail, head);
        if (k % 64 == 0) {
            TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
        }
    }
    return read_plan(s, plan, value, err);
}

// ---- what is refused ----

static tarn_status total(const double *mass, int64_t n, const char *what, double *sum, bool *same, tarn_error *err) {
    *sum = 0;
    for (int64_t k = 0; k < n; k++) {
        if (!(mass[k] >= 0) || !isfinite(mass[k])) {
            TARN_RAISE(err, "Range", "the mass of %s %lld is %g", what, (long long)k + 1, mass[k]);
        }
        *sum += mass[k];
        *same = *same && mass[k] == mass[0];
    }
    return TARN_OK;
}

// Largest difference of finite costs.
static tarn_status survey(const tarn_transport *p, double *range, tarn_error *err) {
    double low = INFINITY, high = -INFINITY;
    for (int64_t k = 0; k < p->rows * p->cols; k++) {
        double x = p->cost[k];
        if (!(x > -INFINITY)) {
            TARN_RAISE(err, "NotFinite", "the cost of row %lld and column %lld is %s", (long long)(k / p->cols) + 1,
                       (long long)(k % p->cols) + 1, isnan(x) ? "NaN" : "minus infinity; a pair is forbidden by plus infinity");
        }
        low = x < low ? x : low;
        high = x > high && x < INFINITY ? x : high;
    }
    *range = high > low ? high - low : 0;
    *range += fabs(low) < INFINITY ? fabs(low) : 0;
    return TARN_OK;
}

static tarn_status by_assignment(tarn_context *cx, const tarn_transport *p, double *plan, double *value,
                                 tarn_error *err) {
    tarn_assignment a = {.rows = p->rows, .cols = p->cols, .dtype = TARN_F64, .cost = p->cost};
    int32_t *match = tarn_alloc(&cx->budget, (size_t)p->rows * sizeof *match);
    if (!match) {
        return tarn_raise_nomem(err, "transport", (size_t)p->rows * sizeof *match);
    }
    tarn_status s = tarn_assign(cx, &a, match, NULL, NULL, value, err);
    for (int64_t i = 0; s == TARN_OK && i < p->rows; i++) {
        plan[i * p->cols + match[i]] = p->a[0];
    }
    *value *= p->a[0];
    tarn_free(&cx->budget, match, (size_t)p->rows * sizeof *match);
    return s;
}

static tarn_status by_simplex(tarn_context *cx, const tarn_transport *p, double mass, double range, double *plan,
                              double *value, tarn_error *err) {
    simplex s = {.cx = cx, .p = p, .mass = mass};
    size_t sides = (size_t)(p->rows + p->cols), nodes = (sides + 1) * sizeof *s.t, prices = 2 * (size_t)p->cols * sizeof(double);
    size_t bytes = nodes + prices + sides * sizeof *s.row;
    char *memory = tarn_alloc(&cx->budget, bytes);
    if (!memory) {
        return tarn_raise_nomem(err, "transport", bytes);
    }
    s.t = (node *)(void *)memory;
    s.price = (double *)(void *)(memory + nodes);
    s.reduced = s.price + p->cols;
    s.row = (int32_t *)(void *)(memory + nodes + prices);
    for (int64_t i = 0; i < p->rows; i++) {
        s.row[s.n] = (int32_t)i;
        s.n += p->a[i] > 0;
    }
    s.col = s.row + p->rows;
    for (int64_t j = 0; j < p->cols; j++) {
        s.col[s.m] = (int32_t)j;
        s.m += p->b[j] > 0;
    }
    s.far = (range > 0 ? range : 1) * (double)(s.n + s.m + 1);
    s.tolerance = 4e-16 * s.far;
    tarn_status status = s.n > 0 ? solve(&s, plan, value, err) : TARN_OK;
    tarn_free(&cx->budget, memory, bytes);
    return status;
}

tarn_status tarn_transport_solve(tarn_context *cx, const tarn_transport *p, double *plan, double *value,
                                 tarn_error *err) {
    double a = 0, b = 0, range = 0;
    bool same = p->rows == p->cols && p->rows > 0;
    *value = 0;
    if (p->rows > INT32_MAX / 4 || p->cols > INT32_MAX / 4) {
        TARN_RAISE(err, "TooLarge", "a transport of %lld by %lld: a side has at most 2^29 entries", (long long)p->rows,
                   (long long)p->cols);
    }
    TARN_TRY(total(p->a, p->rows, "row", &a, &same, err));
    TARN_TRY(total(p->b, p->cols, "column", &b, &same, err));
    if (!(fabs(a - b) <= 1e-9 * a)) {
        TARN_RAISE(err, "UnequalTotals", "the masses of the rows add up to %.12g, those of the columns to %.12g", a, b);
    }
    TARN_TRY(survey(p, &range, err));
    memset(plan, 0, (size_t)(p->rows * p->cols) * sizeof *plan);
    if (same && p->a[0] > 0) {
        return by_assignment(cx, p, plan, value, err);
    }
    return by_simplex(cx, p, a, range, plan, value, err);
}
