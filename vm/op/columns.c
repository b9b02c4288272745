// SPDX-License-Identifier: Apache-2.0
// The tree over rows: open subtrees in a short list, in which siblings find each other.
#include "vm/op/columns.h"

#include <string.h>

#include "vm/op/infer.h"
#include "vm/op/tile.h"

bool tarn_columns_choose(tarn_isa isa, const tarn_op *op, const tarn_attr *a, const tarn_desc *in,
                         const tarn_desc *out, tarn_columns_plan *p) {
    bool reduced[TARN_MAX_RANK];
    const tarn_kernels *k = tarn_kernels_get(isa);
    *p = (tarn_columns_plan){.op = op, .attr = a, .out = out->dtype};
    if (op->cls != TARN_CLASS_REDUCE || !k->join[op->kernel] || tarn_desc_numel(in) == 0 ||
        tarn_reduce_type(op, in->dtype, &p->work, NULL) != TARN_OK) {
        return false;
    }
    int last = in->rank - 1;
    while (last >= 0 && in->shape[last] == 1) {
        last--;
    }
    tarn_reduce_axes(a, in->rank, reduced);
    p->join = k->join[op->kernel];
    p->columns = last >= 0 && !reduced[last] ? k->columns[op->kernel][tarn_work(p->work)] : NULL;
    return p->columns != NULL;
}

bool tarn_columns_plan_of(tarn_isa isa, const tarn_op *op, const tarn_attr *a, const tarn_desc *in,
                          const tarn_desc *out, tarn_columns_plan *p) {
    if (!tarn_columns_choose(isa, op, a, in, out, p)) {
        return false;
    }
    bool reduced[TARN_MAX_RANK];
    tarn_reduce_axes(a, in->rank, reduced);
    p->slabs = p->rows = p->width = 1;
    for (int d = 0; d < in->rank; d++) {
        int64_t n = in->shape[d];
        if (n > 1 && !reduced[d]) {
            p->width *= n;
        } else if (n > 1) {
            if (p->rows > 1 && p->width > 1) {
                return false;
            }
            p->slabs *= p->width;  // what looked like columns stands before the rows
            p->width = 1;
            p->rows *= n;
        }
    }
    return true;
}

// ---- room ----

static int bits(int64_t n) { return 64 - __builtin_clzll((unsigned long long)n | 1); }

// A range of fewer than 2^k rows is at most k subtrees that grow and k that shrink, and of the rows at its
// ends parts may be there. One more while it is being joined.
int tarn_columns_in_order(const tarn_columns_plan *p) { return bits(p->rows) + 3; }
int tarn_columns_of_block(const tarn_columns_plan *p) {
    int64_t rows = TARN_BLOCK / p->width + 2;
    return 2 * bits(rows < p->rows ? rows : p->rows) + 4;
}
// What is there is ranges between the blocks that are on their way, and what has been taken over of one
// of them.
int tarn_columns_of_blocks(const tarn_columns_plan *p, int64_t workers) {
    int64_t blocks = (p->slabs * p->rows * p->width + TARN_BLOCK - 1) / TARN_BLOCK;
    int ranges = (int)(workers < blocks ? workers : blocks) + 1;
    return ranges * (2 * bits(p->rows) + 3) + tarn_columns_of_block(p);
}

static size_t padded(size_t n) { return (n + 63) / 64 * 64; }

size_t tarn_columns_bytes(int room, int64_t width) {
    return padded((size_t)room * sizeof(tarn_subtree)) +
           (size_t)room * padded((size_t)width * sizeof(double));
}

void tarn_columns_open(tarn_columns *c, const tarn_columns_plan *p, int64_t first, int64_t width,
                       int room, void *memory, void *out) {
    *c = (tarn_columns){.plan = p, .first = first, .width = width, .node = memory, .out = out};
    char *part = (char *)memory + padded((size_t)room * sizeof(tarn_subtree));
    for (int i = 0; i < room; i++, part += padded((size_t)width * sizeof(double))) {
        c->node[i].part = (double *)(void *)part;
    }
}

// ---- joining ----

static tarn_subtree *find(tarn_columns *c, int64_t slab, int level, int64_t at) {
    for (int i = c->count - 1; i >= 0; i--) {
        tarn_subtree *t = &c->node[i];
        if (t->at == at && t->level == level && t->slab == slab) {
            return t;
        }
    }
    return NULL;
}

static tarn_subtree *make(tarn_columns *c, int64_t slab, int level, int64_t at, int64_t first) {
    tarn_subtree *t = &c->node[c->count++];
    *t = (tarn_subtree){slab, at, level, first, 0, t->part};
    return t;
}

// The last one takes its place.
static void drop(tarn_columns *c, tarn_subtree *t) {
    tarn_subtree gone = *t;
    *t = c->node[--c->count];
    c->node[c->count] = gone;
}

static void finish(const tarn_columns *c, const tarn_subtree *t) {
    const tarn_columns_plan *p = c->plan;
    int64_t at = t->slab * p->width + c->first;
    size_t size = (size_t)tarn_dtype_get(p->out)->bits / 8;
    tarn_parts_store(p->out, c->width, t->part, (char *)c->out + (size_t)at * size);
}

// n more columns of t are there. A complete subtree joins its sibling if that is complete, and so on.
static void climb(tarn_columns *c, tarn_subtree *t, int64_t n) {
    const tarn_columns_plan *p = c->plan;
    t->filled += n;
    while (t->filled == c->width) {
        int64_t beside = t->at ^ 1;
        if ((int64_t)1 << t->level >= p->rows) {
            finish(c, t);
            drop(c, t);
            return;
        }
        if (beside << t->level < p->rows) {
            tarn_subtree *other = find(c, t->slab, t->level, beside);
            if (!other || other->filled < c->width) {
                return;
            }
            tarn_subtree *left = beside > t->at ? t : other, *right = beside > t->at ? other : t;
            p->join(c->width, left->part, right->part);
            drop(c, right);
            t = left < &c->node[c->count] ? left : right;  // or it took that place
        }
        t->at /= 2;
        t->level++;
    }
}

void tarn_columns_add(tarn_columns *c, int64_t slab, int64_t row, int64_t rows, int64_t first,
                      int64_t n, int64_t stride, const void *x) {
    int level = rows == 1 ? 0 : TARN_SUBTREE_LEVEL;
    tarn_subtree *t = n < c->width ? find(c, slab, level, row >> level) : NULL;
    t = t ? t : make(c, slab, level, row >> level, first);
    c->plan->columns(rows, n, stride, x, t->part + (first - c->first));
    climb(c, t, n);
}

void tarn_columns_tile(tarn_columns *c, int64_t at, int64_t n, const void *x) {
    const tarn_columns_plan *p = c->plan;
    size_t size = tarn_work_size(p->work);
    int64_t row = at / p->width, slab = row / p->rows, column = at % p->width;
    row %= p->rows;
    for (int64_t run; n > 0; n -= run, x = (const char *)x + (size_t)run * size) {
        int64_t rows = column == 0 && row % TARN_SUBTREE == 0 && row + TARN_SUBTREE <= p->rows &&
                               n >= TARN_SUBTREE * p->width
                           ? TARN_SUBTREE
                           : 1;
        int64_t left = p->width - column, few = left < n ? left : n;
        tarn_columns_add(c, slab, row, rows, column, few, p->width, x);
        run = (rows - 1) * p->width + few;
        column = few < left ? column + few : 0;
        row += few < left ? 0 : rows;
        slab += row == p->rows;
        row = row == p->rows ? 0 : row;
    }
}

void tarn_columns_merge(tarn_columns *c, tarn_columns *from) {
    for (int i = 0; i < from->count; i++) {
        const tarn_subtree *s = &from->node[i];
        tarn_subtree *t = s->filled < c->width ? find(c, s->slab, s->level, s->at) : NULL;
        t = t ? t : make(c, s->slab, s->level, s->at, s->first);
        memcpy(t->part + s->first, s->part + s->first, (size_t)s->filled * sizeof *t->part);
        climb(c, t, s->filled);
    }
    from->count = 0;
}
