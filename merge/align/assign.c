// SPDX-License-Identifier: Apache-2.0
// Linear assignment by shortest augmenting paths (Jonker and Volgenant 1987, doi:10.1007/BF02278710), almost
// without looking at the matrix. Each row keeps a short list of the columns that were cheapest for it, as cost
// less price, and a bound: all others cost at least that much. After the first step prices only fall, so
// what a column costs only rises, and a bound once true stays true. All phases work on the lists. Where one
// cannot decide because the bound is reached, the row is read again and listed anew by the prices of that
// time. The matrix is read twice, row by row, and a few rows again; what is random in memory is
// small. Lists change how long it takes and nothing else: a search in which they are of little use (products i j are
// the worst) begins again as Jonker and Volgenant's, on whole rows, as all do once most had to.
//
// Rows that are the same all over (features that never move) have no preference and would only stand in the way of
// others: they take what is left in the end, and for the others the matrix has a longer side.
//
// Phases: column prices by column minima (no longer side), augmenting row reduction, in which each row takes its
// cheapest column and makes it dearer by what the second cheapest costs more, then for each row that is
// left the shortest path to a free column, by Dijkstra's algorithm over reduced costs. Reading a row
// again is an event in the same heap, at the distance where its unlisted columns might begin to count.
//
// On a longer side, columns that are left out have to keep the price 0, which the phases do: a price
// falls only when its column is taken, and taken columns stay so. All sums are of f64; f32 costs are mostly exact in it.
#include "merge/align/assign.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "merge/align/cheapest.h"
#include "merge/align/heap.h"
#include "merge/align/scan.h"
#include "vm/base/size.h"

enum {
    ROOM = TARN_CHEAPEST_ROOM,
    SPAN = TARN_CHEAPEST_SPAN,
    BLOCK = 2048,      // columns of a task of the first pass
    GROUP = 64,        // rows of a task of the second
    STEPS = 3,         // displacements of a round of row reduction, for each row
    ROUNDS = 2,
};

typedef struct {
    tarn_context *cx;
    const tarn_scan *scan;
    const char *cost, *row_word, *col_word;
    int64_t n, m;  // n <= m
    double sign;   // -1: the costs are gains
    double *v;     // [m] prices of the columns
    double *paid;  // [n] sign * cost of the pair that row i is in
    int32_t *order;  // [n] the rows, those that are the same all over last
    int64_t live;    // how many come before those
    int32_t *of_row, *of_col;  // [n], [m] the partner, -1: none
    // lists
    int32_t *at;      // [n, ROOM] columns, ascending
    double *worth;    // [n, ROOM] their sign * cost
    int32_t *len;     // [n]
    double *bound;    // [n] what is not listed costs at least this, less its price
    double *reduced;  // [workers, m] of the row that is being listed
    // the search for a path
    double *d;         // [m] distance from the root, infinity: not reached
    int32_t *from;     // [m] the row before
    int32_t *touched;  // [m] columns with a distance
    int32_t *passed;   // [m] columns whose distance is final
    int64_t ntouched, npassed;
    tarn_heap heap;    // columns j, and events m + i
    double now, reach;  // distance of what was passed last; of the nearest free column
    int32_t end;        // that column, -1: none yet
    // the search on whole rows: columns that are passed have infinite distance and price minus infinity here
    double *key, *open;  // [m], [m]
    int64_t *via;        // [m] as from
    int64_t failed, went;  // searches on lists that had to begin again; that came to an end
} solver;

static const char *row_of(const solver *s, int64_t i) {
    return s->cost + (size_t)(i * s->m) * s->scan->size;
}
static double cost_of(const solver *s, int64_t i, int64_t j) {
    return s->sign * s->scan->at(row_of(s, i), j);
}

// ---- first pass: what is refused, column minima ----

static tarn_status refuse_entry(const solver *s, int64_t i, int64_t j, tarn_error *err) {
    double x = s->scan->at(row_of(s, i), j);
    if (isnan(x)) {
        TARN_RAISE(err, "NotFinite", "the cost of %s %lld and %s %lld is NaN", s->row_word, (long long)i + 1,
                   s->col_word, (long long)j + 1);
    }
    TARN_RAISE(err, "NotFinite", "the cost of %s %lld and %s %lld is %sinfinity; a pair is forbidden by %sinfinity",
               s->row_word, (long long)i + 1, s->col_word, (long long)j + 1, x < 0 ? "minus " : "plus ",
               x < 0 ? "plus " : "minus ");
}

static tarn_status survey_columns(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker;
    const solver *s = arg;
    int64_t first = task * BLOCK, count = s->m - first < BLOCK ? s->m - first : BLOCK;
    double lo[BLOCK];
    for (int64_t j = 0; j < count; j++) {
        lo[j] = INFINITY;
    }
    for (int64_t i = 0; i < s->n; i++) {
        int64_t bad = s->scan->survey(count, row_of(s, i) + (size_t)first * s->scan->size, s->sign, lo);
        if (bad >= 0) {
            return refuse_entry(s, i, first + bad, err);
        }
    }
    for (int64_t j = 0; j < count && s->live == s->m; j++) {
        if (lo[j] == INFINITY) {
            TARN_RAISE(err, "Infeasible", "no assignment: all pairs of %s %lld are forbidden", s->col_word,
                       (long long)(first + j) + 1);
        }
        s->v[first + j] = lo[j];
    }
    return TARN_OK;
}

// ---- rows without a preference ----

static bool same_all_over(const solver *s, int64_t i) {
    const char *row = row_of(s, i);
    double first = s->scan->at(row, 0);
    int64_t j = 1;
    while (j < s->m && s->scan->at(row, j) == first) {
        j++;
    }
    return j == s->m;
}

// Prices to start from say enough, and a longer side would restrict them.
static void put_in_order(solver *s, bool priced) {
    int64_t last = s->n;
    s->live = 0;
    for (int64_t i = 0; i < s->n; i++) {
        s->order[!priced && same_all_over(s, i) ? --last : s->live++] = (int32_t)i;
    }
}

// They take what is left, whose prices are all 0.
static void place_the_rest(solver *s) {
    int32_t j = 0;
    for (int64_t k = s->n - 1; k >= s->live; k--) {
        int32_t i = s->order[k];
        while (s->of_col[j] >= 0) {
            j++;
        }
        s->of_row[i] = j;
        s->of_col[j] = i;
        s->paid[i] = cost_of(s, i, j);
    }
}

// ---- lists ----

static void list_row(solver *s, int64_t i, double *r) {
    double lane[TARN_SCAN_LANES];
    const char *c = row_of(s, i);
    int32_t *at = s->at + i * ROOM;
    s->scan->reduce(s->m, c, s->sign, s->v, r, lane);
    s->len[i] = tarn_cheapest(s->m, r, lane, at, &s->bound[i]);
    for (int32_t k = 0; k < s->len[i]; k++) {
        s->worth[i * ROOM + k] = s->sign * s->scan->at(c, at[k]);
    }
}

static tarn_status list_rows(void *arg, int64_t task, int worker, tarn_error *err) {
    solver *s = arg;
    int64_t first = task * GROUP, end = first + GROUP < s->n ? first + GROUP : s->n;
    for (int64_t i = first; i < end; i++) {
        list_row(s, i, s->reduced + (int64_t)worker * s->m);
        if (s->len[i] == 0) {
            TARN_RAISE(err, "Infeasible", "no assignment: all pairs of %s %lld are forbidden", s->row_word,
                       (long long)i + 1);
        }
    }
    return TARN_OK;
}

static tarn_status list_all(solver *s, tarn_error *err) {
    return tarn_pool_run(s->cx->pool, (s->n + GROUP - 1) / GROUP, list_rows, s, &s->cx->cancel, err);
}

typedef struct {
    double u, u2;    // least and second least of cost less price
    int32_t j, j2;   // the lowest such columns; -1: none
} choice;

static choice choose(solver *s, int64_t i) {
    for (;;) {
        choice c = {INFINITY, INFINITY, -1, -1};
        const int32_t *at = s->at + i * ROOM;
        const double *worth = s->worth + i * ROOM;
        for (int32_t k = 0; k < s->len[i]; k++) {
            double r = worth[k] - s->v[at[k]];
            if (r < c.u) {
                c = (choice){r, c.u, at[k], c.j};
            } else if (r < c.u2) {
                c.u2 = r;
                c.j2 = at[k];
            }
        }
        if (c.u2 <= s->bound[i]) {
            return c;
        }
        list_row(s, i, s->reduced);
    }
}

// ---- prices that are given ----

// On a longer side a column may keep a price below 0 only if it is sure to be taken: if it is some row's first
// choice. The others go back to 0, which may change choices. Where that does not settle soon, the start is cold.
static tarn_status settle(solver *s, tarn_error *err) {
    for (int round = 0; round < 4; round++) {
        bool changed = false;
        TARN_TRY(list_all(s, err));
        for (int64_t j = 0; j < s->m; j++) {
            s->of_col[j] = -1;
        }
        for (int64_t k = 0; k < s->live; k++) {
            s->of_col[choose(s, s->order[k]).j] = 0;
        }
        for (int64_t j = 0; j < s->m; j++) {
            bool loose = s->of_col[j] < 0 && s->v[j] != 0;
            s->v[j] = loose ? 0 : s->v[j];
            s->of_col[j] = -1;
            changed |= loose;
        }
        if (!changed) {
            return TARN_OK;
        }
    }
    memset(s->v, 0, (size_t)s->m * sizeof *s->v);
    return list_all(s, err);
}

static tarn_status price(solver *s, const double *start, tarn_error *err) {
    for (int64_t j = 0; j < s->m; j++) {
        double x = start ? s->sign * start[j] : s->live < s->m ? 0 : s->v[j];
        if (!isfinite(x)) {
            TARN_RAISE(err, "NotFinite", "price %lld to start from is not finite", (long long)j + 1);
        }
        s->v[j] = s->live < s->m && x > 0 ? 0 : x;
    }
    return start && s->live < s->m ? settle(s, err) : list_all(s, err);
}

// ---- augmenting row reduction ----

// The first free column that costs row i as little as its choice does, or -1.
static int32_t free_equal(solver *s, int64_t i, double u) {
    const int32_t *at = s->at + i * ROOM;
    double lane[TARN_SCAN_LANES];
    for (int32_t k = 0; k < s->len[i]; k++) {
        if (s->of_col[at[k]] < 0 && s->worth[i * ROOM + k] - s->v[at[k]] == u) {
            return at[k];
        }
    }
    if (s->bound[i] <= u) {
        s->scan->reduce(s->m, row_of(s, i), s->sign, s->v, s->reduced, lane);
        for (int64_t j = 0; j < s->m; j++) {
            if (s->of_col[j] < 0 && s->reduced[j] == u) {
                return (int32_t)j;
            }
        }
    }
    return -1;
}

// Row i takes its choice; the row that had it, or -1, comes back, and whether the price has risen.
static int64_t take(solver *s, int64_t i, bool *dearer) {
    choice c = choose(s, i);
    double lower = s->v[c.j] - (c.u2 - c.u);
    *dearer = c.u2 < INFINITY && lower < s->v[c.j];
    if (*dearer) {
        s->v[c.j] = lower;
    } else if (s->of_col[c.j] >= 0 && c.j2 >= 0 && c.u2 <= c.u) {
        int32_t other = free_equal(s, i, c.u);
        c.j = other >= 0 ? other : c.j2;
    }
    int64_t old = s->of_col[c.j];
    if (old >= 0) {
        s->of_row[old] = -1;
    }
    s->of_row[i] = c.j;
    s->of_col[c.j] = (int32_t)i;
    return old;
}

static tarn_status reduce_rows(solver *s, tarn_error *err) {
    int32_t *waiting = s->touched;  // [n] rows without a partner; this memory has no use yet
    int64_t left = s->live;
    memcpy(waiting, s->order, (size_t)left * sizeof *waiting);
    for (int round = 0; round < ROUNDS && left > 0; round++) {
        int64_t count = left, k = 0, steps = 0;
        left = 0;
        while (k < count) {
            bool dearer = false;
            int64_t old = take(s, waiting[k++], &dearer);
            if (old >= 0 && dearer && steps < STEPS * s->n) {
                waiting[--k] = (int32_t)old;  // at once
            } else if (old >= 0) {
                waiting[left++] = (int32_t)old;
            }
            if ((++steps & 4095) == 0) {
                TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
            }
        }
    }
    for (int64_t i = 0; i < s->n; i++) {
        s->paid[i] = s->of_row[i] >= 0 ? cost_of(s, i, s->of_row[i]) : 0;
    }
    return TARN_OK;
}

// ---- shortest paths ----

// Column j can be reached over row i at distance x. Never nearer than what was passed: rounding must not turn
// a path back on itself.
static inline void relax(solver *s, int64_t i, int32_t j, double x) {
    x = x > s->now ? x : s->now;
    if (x >= s->reach || x >= s->d[j]) {
        return;
    }
    if (s->d[j] == INFINITY) {
        s->touched[s->ntouched++] = j;
    }
    s->d[j] = x;
    s->from[j] = (int32_t)i;
    if (s->of_col[j] < 0) {
        s->reach = x;
        s->end = j;
    } else {
        tarn_heap_lower(&s->heap, x, j);
    }
}

// Distance of row i less the least cost that its duals allow: what is added to cost less price.
static double base_of(solver *s, int64_t i) {
    int32_t j = s->of_row[i];
    return j < 0 ? -choose(s, i).u : s->d[j] - (s->paid[i] - s->v[j]);
}

static void relax_list(solver *s, int64_t i, double base) {
    const int32_t *at = s->at + i * ROOM;
    const double *worth = s->worth + i * ROOM;
    for (int32_t k = 0; k < s->len[i]; k++) {
        relax(s, i, at[k], base + (worth[k] - s->v[at[k]]));
    }
    double event = base + s->bound[i];
    if (event < s->reach) {
        tarn_heap_lower(&s->heap, event > s->now ? event : s->now, (int32_t)(s->m + i));
    }
}

// The list of row i is used up. Prices have fallen since it was made, so a new one mostly reaches further;
// where it does not (many equal costs), all of the row is looked at.
static void list_again(solver *s, int64_t i) {
    double before = s->bound[i], base = base_of(s, i);
    list_row(s, i, s->reduced);
    if (s->bound[i] > before) {
        relax_list(s, i, base);
        return;
    }
    for (int64_t j = 0; j < s->m; j++) {
        relax(s, i, (int32_t)j, base + s->reduced[j]);
    }
}

static void flip(solver *s, int64_t root) {
    for (int32_t j = s->end, next;; j = next) {
        int32_t i = s->from[j];
        next = s->of_row[i];
        s->of_row[i] = j;
        s->of_col[j] = i;
        s->paid[i] = cost_of(s, i, j);
        if (i == root) {
            return;
        }
    }
}

static tarn_status refuse_rows(const solver *s, int64_t root, tarn_error *err) {
    char rows[96];
    int n = snprintf(rows, sizeof rows, "%lld", (long long)root + 1);
    for (int64_t k = 0; k < s->npassed && k < 4; k++) {
        n += snprintf(rows + n, sizeof rows - (size_t)n, ", %lld", (long long)s->of_col[s->passed[k]] + 1);
    }
    TARN_RAISE(err, "Infeasible", "no assignment: %lld %ss (%s%s) are allowed only %lld %s%s between them",
               (long long)s->npassed + 1, s->row_word, rows, s->npassed > 4 ? " …" : "", (long long)s->npassed,
               s->col_word, s->npassed == 1 ? "" : "s");
}

// Prices by the distances, the pairs along the path, and memory as it was.
static void finish(solver *s, int64_t root) {
    for (int64_t k = 0; k < s->npassed; k++) {
        s->v[s->passed[k]] += s->d[s->passed[k]] - s->reach;
    }
    flip(s, root);
    for (int64_t k = 0; k < s->ntouched; k++) {
        s->d[s->touched[k]] = INFINITY;
    }
}

static double least_of(const double *lane, int n) {
    double least = lane[0];
    for (int l = 1; l < n; l++) {
        least = lane[l] < least ? lane[l] : least;
    }
    return least;
}

// key = min(key, r + base), not below now; returns the least key.
static double relax_row(int64_t m, const double *restrict r, double base, double now, int64_t i, double *restrict key,
                        int64_t *restrict via) {
    enum { LANES = 4 };
    double least[LANES] = {INFINITY, INFINITY, INFINITY, INFINITY};
    int64_t whole = m / LANES * LANES;
    for (int64_t j = 0; j < whole; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            double x = r[j + l] + base, old = key[j + l];
            x = x > now ? x : now;
            via[j + l] = x < old ? i : via[j + l];
            old = x < old ? x : old;
            key[j + l] = old;
            least[l] = old < least[l] ? old : least[l];
        }
    }
    for (int64_t j = whole; j < m; j++) {
        double x = r[j] + base > now ? r[j] + base : now;
        via[j] = x < key[j] ? i : via[j];
        key[j] = x < key[j] ? x : key[j];
        least[0] = key[j] < least[0] ? key[j] : least[0];
    }
    return least_of(least, LANES);
}

// Of the columns at this distance the first that is free, else the first.
static int32_t nearest(const solver *s, double at) {
    int32_t first = -1;
    for (int64_t j = 0; j < s->m; j += SPAN) {
        int64_t end = j + SPAN < s->m ? j + SPAN : s->m;
        if (end - j == SPAN && !tarn_any_within(s->key + j, at)) {
            continue;
        }
        for (int64_t k = j; k < end; k++) {
            if (s->key[k] == at && s->of_col[k] < 0) {
                return (int32_t)k;
            }
            first = first < 0 && s->key[k] == at ? (int32_t)k : first;
        }
    }
    return first;
}

static tarn_status search_rows(solver *s, int64_t root, tarn_error *err) {
    double lane[TARN_SCAN_LANES], base = 0;
    int64_t i = root;
    s->npassed = s->ntouched = 0;
    s->now = 0;
    memcpy(s->open, s->v, (size_t)s->m * sizeof *s->v);
    for (int64_t j = 0; j < s->m; j++) {
        s->key[j] = INFINITY;
    }
    for (;;) {
        s->scan->reduce(s->m, row_of(s, i), s->sign, s->open, s->reduced, lane);
        base = i == root ? -least_of(lane, TARN_SCAN_LANES) : s->now - (s->paid[i] - s->v[s->of_row[i]]);
        s->reach = s->now = relax_row(s->m, s->reduced, base, s->now, i, s->key, s->via);
        if (s->now == INFINITY) {
            return refuse_rows(s, root, err);
        }
        int32_t j = s->end = nearest(s, s->now);
        s->from[j] = (int32_t)s->via[j];
        if (s->of_col[j] < 0) {
            break;
        }
        s->passed[s->npassed++] = s->touched[s->ntouched++] = j;
        s->d[j] = s->now;
        s->key[j] = INFINITY;
        s->open[j] = -INFINITY;
        i = s->of_col[j];
        if (s->npassed % 64 == 0) {
            TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
        }
    }
    finish(s, root);
    return TARN_OK;
}

// Finds a partner for row `root` and moves others where that is cheaper.
static tarn_status augment(solver *s, int64_t root, tarn_error *err) {
    int64_t events = 0;
    if (s->failed > s->went) {
        return search_rows(s, root, err);
    }
    s->ntouched = s->npassed = 0;
    s->now = 0;
    s->reach = INFINITY;
    s->end = -1;
    relax_list(s, root, base_of(s, root));
    while (s->heap.n > 0 && s->heap.e[0].key < s->reach && (events < 16 || 4 * events < s->npassed)) {
        tarn_heap_entry e = tarn_heap_pop(&s->heap);
        s->now = e.key;
        if (e.id >= s->m) {
            events++;
            list_again(s, e.id - s->m);
            TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
        } else {
            s->passed[s->npassed++] = e.id;
            relax_list(s, s->of_col[e.id], base_of(s, s->of_col[e.id]));
        }
    }
    bool ended = s->heap.n == 0 || s->heap.e[0].key >= s->reach;
    tarn_heap_clear(&s->heap);
    TARN_TRY(tarn_cancel_check(&s->cx->cancel, err));
    if (ended && s->end < 0) {
        return refuse_rows(s, root, err);
    }
    if (ended) {
        s->went++;
        finish(s, root);
        return TARN_OK;
    }
    s->failed++;
    for (int64_t k = 0; k < s->ntouched; k++) {
        s->d[s->touched[k]] = INFINITY;
    }
    return search_rows(s, root, err);
}

// ---- the whole ----

static tarn_status solve(solver *s, const double *start, tarn_error *err) {
    put_in_order(s, start != NULL);
    TARN_TRY(tarn_pool_run(s->cx->pool, (s->m + BLOCK - 1) / BLOCK, survey_columns, s, &s->cx->cancel, err));
    TARN_TRY(price(s, start, err));
    TARN_TRY(reduce_rows(s, err));
    for (int64_t k = 0; k < s->live; k++) {
        if (s->of_row[s->order[k]] < 0) {
            TARN_TRY(augment(s, s->order[k], err));
        }
    }
    place_the_rest(s);
    return TARN_OK;
}

// Pieces of one block of memory.
typedef struct {
    char *p;
    size_t used;
    bool failed;
} block;

static void *piece(block *b, size_t size, int64_t count) {
    size_t bytes = 0;
    b->failed |= !tarn_mul_size(size, (size_t)count, &bytes) || b->used > SIZE_MAX / 2 - bytes;
    char *at = b->p ? b->p + b->used : NULL;
    b->used += b->failed ? 0 : (bytes + 63) / 64 * 64;
    return at;
}

static void lay_out(solver *s, block *b) {
    int64_t n = s->n, m = s->m;
    b->used = 0;
    s->v = piece(b, sizeof *s->v, m);
    s->paid = piece(b, sizeof *s->paid, n);
    s->order = piece(b, sizeof *s->order, n);
    s->of_row = piece(b, sizeof *s->of_row, n);
    s->of_col = piece(b, sizeof *s->of_col, m);
    s->at = piece(b, ROOM * sizeof *s->at, n);
    s->worth = piece(b, ROOM * sizeof *s->worth, n);
    s->len = piece(b, sizeof *s->len, n);
    s->bound = piece(b, sizeof *s->bound, n);
    s->reduced = piece(b, sizeof *s->reduced * (size_t)tarn_pool_size(s->cx->pool), m);
    s->d = piece(b, sizeof *s->d, m);
    s->from = piece(b, sizeof *s->from, m);
    s->touched = piece(b, sizeof *s->touched, m);
    s->passed = piece(b, sizeof *s->passed, m);
    s->heap.e = piece(b, sizeof *s->heap.e, n + m);
    s->heap.place = piece(b, sizeof *s->heap.place, n + m);
    s->key = piece(b, sizeof *s->key, m);
    s->open = piece(b, sizeof *s->open, m);
    s->via = piece(b, sizeof *s->via, m);
}

static void begin(solver *s) {
    for (int64_t j = 0; j < s->m; j++) {
        s->of_col[j] = -1;
        s->d[j] = INFINITY;
        s->v[j] = 0;
    }
    for (int64_t i = 0; i < s->n; i++) {
        s->of_row[i] = -1;
    }
    for (int64_t k = 0; k < s->n + s->m; k++) {
        s->heap.place[k] = -1;
    }
}

// The answer in the words of the question: `u` belongs to the shorter side here.
static void report(const solver *s, bool flipped, int32_t *match, double *u, double *v, double *value) {
    const int32_t *partner = flipped ? s->of_col : s->of_row;
    int64_t rows = flipped ? s->m : s->n;
    *value = 0;
    for (int64_t i = 0; i < rows; i++) {
        match[i] = partner[i];
        *value += partner[i] < 0 ? 0 : s->sign * s->paid[flipped ? partner[i] : i];
    }
    for (int64_t i = 0; u && i < s->n; i++) {
        u[i] = s->sign * (s->paid[i] - s->v[s->of_row[i]]);
    }
    for (int64_t j = 0; v && j < s->m; j++) {
        v[j] = s->sign * s->v[j] + 0.0;  // no minus zero
    }
}

tarn_status tarn_assign(tarn_context *cx, const tarn_assignment *p, int32_t *match, double *u, double *v,
                        double *value, tarn_error *err) {
    const tarn_scan *scan = tarn_scan_of(p->dtype);
    bool flipped = p->rows > p->cols;
    int64_t n = flipped ? p->cols : p->rows, m = flipped ? p->rows : p->cols;
    if (m > INT32_MAX / 2) {
        TARN_RAISE(err, "TooLarge", "an assignment of %lld by %lld: a side has at most 2^30 entries",
                   (long long)p->rows, (long long)p->cols);
    }
    size_t copy = flipped ? (size_t)(n * m) * scan->size : 0;
    solver s = {.cx = cx, .scan = scan, .cost = p->cost, .n = n, .m = m, .sign = p->maximise ? -1 : 1,
                .row_word = flipped ? "column" : "row", .col_word = flipped ? "row" : "column"};
    block b = {0};
    lay_out(&s, &b);
    b.p = b.failed ? NULL : tarn_alloc(&cx->budget, b.used);
    char *turned = b.p && flipped ? tarn_alloc(&cx->budget, copy) : NULL;
    if (!b.p || (flipped && !turned)) {
        tarn_free(&cx->budget, b.p, b.used);
        return tarn_raise_nomem(err, "an assignment", b.used + copy);
    }
    size_t bytes = b.used;
    lay_out(&s, &b);
    begin(&s);
    if (flipped) {
        scan->transpose(m, n, p->cost, turned);
        s.cost = turned;
    }
    tarn_status status = n > 0 ? solve(&s, p->start, err) : TARN_OK;
    if (status == TARN_OK) {
        report(&s, flipped, match, flipped ? v : u, flipped ? u : v, value);
    }
    tarn_free(&cx->budget, turned, copy);
    tarn_free(&cx->budget, b.p, bytes);
    return status;
}
