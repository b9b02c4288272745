// SPDX-License-Identifier: Apache-2.0
// Layer, RMS, group and batch normalisation are one operation on x seen as [A, S, G, K]: statistics
// over S and K for each of A × G, an affine map over the G K channels. Layer and RMS norm have S =
// G = 1, group norm A images of S pixels, batch norm A = K = 1. The statistics are a value of their
// own, so that the way back and running averages need not compute them again. y = norm(x, w, b,
// stats) is a function of x, w and b: `stats` must be norm_stats of x, and its share is in the
// derivative by x. Sums are in f64: in lanes along a row, or by columns over pieces of rows that
// depend on the shape alone, joined in order.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"

#define X (y->in[0])
#define APPLY(name)                                                                                \
    static tarn_status name(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,  \
                            const tarn_desc *d, tarn_tensor *out, tarn_error *err)
#define INFER(name)                                                                                \
    static tarn_status name(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,      \
                            tarn_error *err)

// x, attr.i = {centred}, attr.f = {eps}
typedef struct {
    tarn_context *cx;
    const tarn_fused_kernels *k;
    size_t size;
    int64_t a, s, g, kk, c;  // c = g kk channels
    int64_t each, pieces;    // by columns: rows of a piece, pieces of one of A
    bool by_row, centred;
    double eps;
    const char *x, *w, *b, *gy;
    const double *stats, *sums;  // [2, a, g]; [2, a, c]
    char *out;
    double *out64, *room;  // room: a piece's sums, or per-channel values
} norm_run;

enum { PIECE = 1 << 14 };  // elements

static norm_run run_of(tarn_context *cx, const tarn_desc *x, const tarn_attr *a, tarn_dtype t) {
    const int64_t *n = x->shape;
    norm_run r = {.cx = cx,
                  .k = tarn_fused(cx->isa, t),
                  .size = t == TARN_F64 ? 8 : 4,
                  .a = n[0],
                  .s = n[1],
                  .g = n[2],
                  .kk = n[3],
                  .c = n[2] * n[3],
                  .by_row = n[1] == 1 && n[2] == 1,
                  .centred = a->i[0] != 0,
                  .eps = a->f[0]};
    // At most 64 pieces of one of A: their sums are joined one after another.
    int64_t least = (r.s + 63) / 64, fit = PIECE / (r.c > 0 ? r.c : 1);
    r.each = fit > least ? fit : least > 0 ? least : 1;
    r.pieces = (r.s + r.each - 1) / r.each;
    return r;
}

static bool is_norm(const tarn_desc *x, const tarn_attr *a) {
    return x->rank == 4 && a->ni == 1 && a->nf == 1;
}
static bool same_channels(const tarn_desc *x, const tarn_desc *w) {
    return tarn_shape_equal(2, x->shape + 2, w->rank, w->shape);
}
static tarn_status not_norm(tarn_error *err) {
    TARN_RAISE(err, "Argument",
               "operands are x [A, S, G, K], w and b [G, K], statistics [2, A, G]");
}
static bool are_stats(const tarn_desc *x, const tarn_desc *s) {
    return s->rank == 3 && s->shape[0] == 2 && s->shape[1] == x->shape[0] &&
           s->shape[2] == x->shape[2] && s->dtype == TARN_F64;
}
static int64_t rows_of_sums(const tarn_desc *x) {  // of [2, rows, G K]
    return x->shape[1] == 1 && x->shape[2] == 1 ? 1 : x->shape[0];
}

INFER(infer_stats) {
    (void)nin;
    if (!is_norm(&in[0], a)) {
        return not_norm(err);
    }
    *out = (tarn_desc){.dtype = TARN_F64, .rank = 3, .shape = {2, in[0].shape[0], in[0].shape[2]}};
    return TARN_OK;
}
INFER(infer_norm) {
    (void)nin;
    if (!is_norm(&in[0], a) || !same_channels(&in[0], &in[1]) || !same_channels(&in[0], &in[2]) ||
        !are_stats(&in[0], &in[3])) {
        return not_norm(err);
    }
    *out = in[0];
    out->dtype = tarn_float_of(3, in);
    return TARN_OK;
}
INFER(infer_vjp) {  // (x, w, stats, gy, sums)
    (void)nin;
    const tarn_desc *s = &in[4];
    if (!is_norm(&in[0], a) || !same_channels(&in[0], &in[1]) || !are_stats(&in[0], &in[2]) ||
        !tarn_shape_equal(4, in[0].shape, in[3].rank, in[3].shape) || s->rank != 3 ||
        s->shape[1] != rows_of_sums(&in[0]) || s->dtype != TARN_F64) {
        return not_norm(err);
    }
    *out = in[0];
    out->dtype = tarn_float_of(3, (tarn_desc[]){in[0], in[1], in[3]});
    return TARN_OK;
}
INFER(infer_sums) {  // (x, stats, gy)
    (void)nin;
    if (!is_norm(&in[0], a) || !are_stats(&in[0], &in[1]) ||
        !tarn_shape_equal(4, in[0].shape, in[2].rank, in[2].shape)) {
        return not_norm(err);
    }
    *out = (tarn_desc){.dtype = TARN_F64,
                       .rank = 3,
                       .shape = {2, rows_of_sums(&in[0]), in[0].shape[2] * in[0].shape[3]}};
    return TARN_OK;
}

// ---- pieces: rows of one of A; in the by-row forms any rows ----

// Per-channel values of one of A, from one per group.
static void spread(const norm_run *r, const double *group, double *channel) {
    for (int64_t g = 0; g < r->g; g++) {
        for (int64_t k = 0; k < r->kk; k++) {
            channel[g * r->kk + k] = group[g];
        }
    }
}
static double slope_of(const norm_run *r, double var) { return 1 / __builtin_sqrt(var + r->eps); }
static const double *means(const norm_run *r, int64_t a) { return r->stats + a * r->g; }
static const double *vars(const norm_run *r, int64_t a) { return r->stats + (r->a + a) * r->g; }
static const char *rows_at(const norm_run *r, const char *base, int64_t row) {
    return base + (size_t)(row * r->c) * r->size;
}
static int64_t rows_in(const norm_run *r, int64_t piece) {
    int64_t first = piece % r->pieces * r->each;
    return r->s - first < r->each ? r->s - first : r->each;
}
static int64_t first_row(const norm_run *r, int64_t piece) {
    return piece / r->pieces * r->s + piece % r->pieces * r->each;
}
static double weight(const norm_run *r, int64_t c) {
    return r->size == 8 ? ((const double *)(const void *)r->w)[c]
                        : (double)((const float *)(const void *)r->w)[c];
}

// ---- norm_stats ----

static tarn_status stats_rows(void *arg, int64_t first, int64_t n, tarn_error *err) {
    norm_run *r = arg;
    (void)err;
    for (int64_t i = first; i < first + n; i++) {
        r->k->row_stats(r->kk, rows_at(r, r->x, i), r->centred, &r->out64[i], &r->out64[r->a + i]);
    }
    return TARN_OK;
}
// The sums of pieces of x (mean: of squared distances from it) to room[piece, c].
typedef struct {
    norm_run *r;
    const double *mean;  // [a, c], or NULL
} column_pass;
static tarn_status column_piece(void *arg, int64_t piece, int worker, tarn_error *err) {
    const column_pass *p = arg;
    const norm_run *r = p->r;
    double *sum = r->room + piece * r->c;
    const char *x = rows_at(r, r->x, first_row(r, piece));
    (void)worker, (void)err;
    if (r->c == 0) {
        return TARN_OK;
    }
    memset(sum, 0, (size_t)r->c * sizeof *sum);
    if (p->mean) {
        r->k->column_square(rows_in(r, piece), r->c, x, p->mean + piece / r->pieces * r->c, sum);
    } else {
        r->k->column_sum(rows_in(r, piece), r->c, x, sum);
    }
    return TARN_OK;
}
// Joins the pieces and the channels of each group to out[a, g], as means.
static void join_groups(const norm_run *r, double *out) {
    for (int64_t a = 0; a < r->a; a++) {
        for (int64_t g = 0; g < r->g; g++) {
            double sum = 0;
            for (int64_t k = g * r->kk; k < (g + 1) * r->kk; k++) {
                double channel = 0;
                for (int64_t p = a * r->pieces; p < (a + 1) * r->pieces; p++) {
                    channel += r->room[p * r->c + k];
                }
                sum += channel;
            }
            out[a * r->g + g] = sum / (double)(r->s * r->kk);
        }
    }
}
static tarn_status stats_columns(norm_run *r, tarn_error *err) {
    int64_t pieces = r->a * r->pieces;
    double *mean = r->room + pieces * r->c;
    column_pass p = {r, NULL};
    memset(r->out64, 0, (size_t)(r->a * r->g) * sizeof *r->out64);
    if (r->centred) {
        TARN_TRY(tarn_pool_run(r->cx->pool, pieces, column_piece, &p, &r->cx->cancel, err));
        join_groups(r, r->out64);
    }
    for (int64_t a = 0; a < r->a; a++) {
        spread(r, r->out64 + a * r->g, mean + a * r->c);
    }
    p.mean = mean;
    TARN_TRY(tarn_pool_run(r->cx->pool, pieces, column_piece, &p, &r->cx->cancel, err));
    join_groups(r, r->out64 + r->a * r->g);
    return TARN_OK;
}
static size_t stats_room(const norm_run *r) {
    return r->by_row ? 0 : (size_t)(r->a * (r->pieces + 1) * r->c) * sizeof(double);
}
APPLY(apply_stats) {
    tarn_plain p;
    tarn_desc x;
    tarn_desc_of(&in[0], &x);
    tarn_dtype t = tarn_float_of(1, &x);
    norm_run r = run_of(cx, &x, a, t);
    size_t bytes = stats_room(&r);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, &t, &p, err);
    r.x = p.data[0];
    r.out64 = tarn_tensor_data(out);
    r.room = s == TARN_OK && bytes ? tarn_alloc(&cx->budget, bytes) : NULL;
    s = s == TARN_OK && bytes && !r.room ? tarn_raise_nomem(err, "norm_stats", bytes) : s;
    if (s == TARN_OK) {
        s = r.by_row ? tarn_rows_run(cx, r.a, r.c, stats_rows, &r, err) : stats_columns(&r, err);
    }
    tarn_free(&cx->budget, r.room, r.room ? bytes : 0);
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

// ---- norm ----

static tarn_status norm_rows(void *arg, int64_t first, int64_t n, tarn_error *err) {
    norm_run *r = arg;
    (void)err;
    for (int64_t i = first; i < first + n; i++) {
        r->k->row_norm(r->kk, rows_at(r, r->x, i), means(r, i)[0], slope_of(r, vars(r, i)[0]), r->w,
                       r->b, r->out + (size_t)(i * r->c) * r->size);
    }
    return TARN_OK;
}
static tarn_status norm_piece(void *arg, int64_t piece, int worker, tarn_error *err) {
    norm_run *r = arg;
    int64_t a = piece / r->pieces, row = first_row(r, piece);
    double *mean = r->room + worker * 2 * r->c, *scale = mean + r->c;
    (void)err;
    spread(r, means(r, a), mean);
    spread(r, vars(r, a), scale);
    for (int64_t c = 0; c < r->c; c++) {
        scale[c] = slope_of(r, scale[c]) * weight(r, c);
    }
    r->k->column_norm(rows_in(r, piece), r->c, rows_at(r, r->x, row), mean, scale, r->b,
                      r->out + (size_t)(row * r->c) * r->size);
    return TARN_OK;
}
// Runs the rows or the pieces, with `per` doubles a channel and worker for the latter.
static tarn_status run_norm(norm_run *r, tarn_rows_fn rows, tarn_task_fn piece, int per,
                            tarn_error *err) {
    tarn_context *cx = r->cx;
    if (r->by_row) {
        return tarn_rows_run(cx, r->a, r->c, rows, r, err);
    }
    size_t bytes = (size_t)(per * r->c * tarn_pool_size(cx->pool)) * sizeof(double);
    r->room = bytes ? tarn_alloc(&cx->budget, bytes) : NULL;
    if (bytes && !r->room) {
        return tarn_raise_nomem(err, "norm", bytes);
    }
    tarn_status s = tarn_pool_run(cx->pool, r->a * r->pieces, piece, r, &cx->cancel, err);
    tarn_free(&cx->budget, r->room, bytes);
    return s;
}
APPLY(apply_norm) {
    tarn_plain p;
    tarn_dtype t = d->dtype;
    norm_run r = run_of(cx, d, a, t);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, (tarn_dtype[]){t, t, t, TARN_F64}, &p, err);
    if (s == TARN_OK) {
        r.x = p.data[0];
        r.w = p.data[1];
        r.b = p.data[2];
        r.stats = (const double *)(const void *)p.data[3];
        r.out = tarn_tensor_data(out);
        s = run_norm(&r, norm_rows, norm_piece, 2, err);
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

// ---- norm_sums(x, stats, gy): [0]: sums of gy (x - mean) / sqrt(var + eps), [1]: of gy, for each
// channel; of each of A, or in the by-row form over all rows ----

typedef struct {
    norm_run *r;
    int64_t each;  // rows of a piece, in the by-row form
} sums_pass;
static tarn_status sums_piece(void *arg, int64_t piece, int worker, tarn_error *err) {
    const sums_pass *p = arg;
    const norm_run *r = p->r;
    double *sum = r->room + piece * 2 * r->c;
    (void)worker, (void)err;
    memset(sum, 0, 2 * (size_t)r->c * sizeof *sum);
    if (r->by_row) {
        int64_t end = (piece + 1) * p->each < r->a ? (piece + 1) * p->each : r->a;
        for (int64_t i = piece * p->each; i < end; i++) {
            r->k->row_sums(r->c, rows_at(r, r->x, i), means(r, i)[0], slope_of(r, vars(r, i)[0]),
                           rows_at(r, r->gy, i), sum);
        }
        return TARN_OK;
    }
    int64_t a = piece / r->pieces, row = first_row(r, piece);
    double *mean = r->room + (r->a * r->pieces + a) * 2 * r->c;
    r->k->column_sums(rows_in(r, piece), r->c, rows_at(r, r->x, row), mean, mean + r->c,
                      rows_at(r, r->gy, row), sum);
    return TARN_OK;
}
static void join_sums(const norm_run *r, int64_t rows, int64_t pieces) {
    for (int64_t a = 0; a < rows; a++) {
        double *sx = r->out64 + a * r->c, *s = r->out64 + (rows + a) * r->c;
        memset(sx, 0, (size_t)r->c * sizeof *sx);
        memset(s, 0, (size_t)r->c * sizeof *s);
        for (int64_t p = a * pieces; p < (a + 1) * pieces; p++) {
            const double *from = r->room + p * 2 * r->c;
            for (int64_t c = 0; c < r->c; c++) {
                sx[c] += from[c];
                s[c] += from[r->c + c];
            }
        }
    }
}
static int64_t sums_pieces(const norm_run *r, int64_t *each) {
    int64_t least = (r->a + 63) / 64, fit = PIECE / (r->c > 0 ? r->c : 1);
    *each = fit > least ? fit : least > 0 ? least : 1;
    return r->by_row ? (r->a + *each - 1) / *each : r->pieces;
}
static size_t sums_room(const norm_run *r) {
    int64_t each, pieces = sums_pieces(r, &each), rows = r->by_row ? pieces : r->a * (pieces + 1);
    return (size_t)(rows * 2 * r->c) * sizeof(double);
}
static tarn_status run_sums(norm_run *r, tarn_error *err) {
    sums_pass p = {r, 0};
    int64_t pieces = sums_pieces(r, &p.each), rows = r->by_row ? 1 : r->a;
    for (int64_t a = 0; !r->by_row && a < r->a; a++) {
        double *mean = r->room + (r->a * pieces + a) * 2 * r->c;
        spread(r, means(r, a), mean);
        spread(r, vars(r, a), mean + r->c);
        for (int64_t c = 0; c < r->c; c++) {
            mean[r->c + c] = slope_of(r, mean[r->c + c]);
        }
    }
    TARN_TRY(tarn_pool_run(r->cx->pool, rows * pieces, sums_piece, &p, &r->cx->cancel, err));
    join_sums(r, rows, pieces);
    return TARN_OK;
}
APPLY(apply_sums) {
    tarn_plain p;
    tarn_desc x[2];
    tarn_desc_of(&in[0], &x[0]);
    tarn_desc_of(&in[2], &x[1]);
    tarn_dtype t = tarn_float_of(2, x);
    norm_run r = run_of(cx, x, a, t);
    size_t bytes = sums_room(&r);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, (tarn_dtype[]){t, TARN_F64, t}, &p, err);
    r.room = s == TARN_OK && bytes ? tarn_alloc(&cx->budget, bytes) : NULL;
    s = s == TARN_OK && bytes && !r.room ? tarn_raise_nomem(err, "norm_sums", bytes) : s;
    if (s == TARN_OK) {
        r.x = p.data[0];
        r.stats = (const double *)(const void *)p.data[1];
        r.gy = p.data[2];
        r.out64 = tarn_tensor_data(out);
        s = run_sums(&r, err);
    }
    tarn_free(&cx->budget, r.room, r.room ? bytes : 0);
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

// ---- norm_vjp(x, w, stats, gy, sums) ----

static tarn_status vjp_rows(void *arg, int64_t first, int64_t n, tarn_error *err) {
    norm_run *r = arg;
    (void)err;
    for (int64_t i = first; i < first + n; i++) {
        r->k->row_norm_vjp(r->kk, rows_at(r, r->x, i), means(r, i)[0], slope_of(r, vars(r, i)[0]),
                           r->centred, r->w, rows_at(r, r->gy, i),
                           r->out + (size_t)(i * r->c) * r->size);
    }
    return TARN_OK;
}
// gx = r (gy w - mean(gy w) - x' mean(gy w x')), x' = (x - mean) r, means over S and K.
static tarn_status vjp_piece(void *arg, int64_t piece, int worker, tarn_error *err) {
    norm_run *r = arg;
    int64_t a = piece / r->pieces, row = first_row(r, piece);
    double *mean = r->room + worker * 4 * r->c, *p = mean + r->c, *q = p + r->c, *u = q + r->c;
    const double *sx = r->sums + a * r->c, *s = r->sums + (r->a + a) * r->c;
    double n = (double)(r->s * r->kk);
    (void)err;
    spread(r, means(r, a), mean);
    for (int64_t g = 0; g < r->g; g++) {
        double slope = slope_of(r, vars(r, a)[g]), one = 0, two = 0;
        for (int64_t c = g * r->kk; c < (g + 1) * r->kk; c++) {
            one += weight(r, c) * s[c];
            two += weight(r, c) * sx[c];
        }
        for (int64_t c = g * r->kk; c < (g + 1) * r->kk; c++) {
            p[c] = slope * weight(r, c);
            q[c] = r->centred ? slope * one / n : 0;
            u[c] = slope * slope * two / n;
        }
    }
    r->k->column_norm_vjp(rows_in(r, piece), r->c, rows_at(r, r->x, row), mean, p, q, u,
                          rows_at(r, r->gy, row), r->out + (size_t)(row * r->c) * r->size);
    return TARN_OK;
}
APPLY(apply_vjp) {
    tarn_plain p;
    tarn_dtype t = d->dtype;
    norm_run r = run_of(cx, d, a, t);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s =
        tarn_plain_open(cx, nin, in, (tarn_dtype[]){t, t, TARN_F64, t, TARN_F64}, &p, err);
    if (s == TARN_OK) {
        r.x = p.data[0];
        r.w = p.data[1];
        r.stats = (const double *)(const void *)p.data[2];
        r.gy = p.data[3];
        r.sums = (const double *)(const void *)p.data[4];
        r.out = tarn_tensor_data(out);
        s = run_norm(&r, vjp_rows, vjp_piece, 4, err);
    }
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    tarn_context any = {0};
    norm_run r = run_of(&any, &in[0], a, tarn_float_of(1, in));
    (void)out;
    size_t channels = (size_t)(4 * r.c * threads) * sizeof(double);
    return tarn_plain_bytes(nin, in, TARN_F64) + stats_room(&r) + sums_room(&r) + channels;
}

// ---- in other rows ----

static const int64_t over[2] = {1, 3};
static const tarn_node *mean_of(tarn_graph *g, const tarn_node *y, const tarn_node *x) {
    double n = (double)(X->desc.shape[1] * X->desc.shape[3]);
    return tarn_div(g, tarn_reduce(g, &tarn_op_sum, x, 2, over, true), tarn_num(g, n));
}
// x - mean, and the variance.
static const tarn_node *centre(tarn_graph *g, const tarn_node *y, const tarn_node *x,
                               const tarn_node **mean, const tarn_node **var) {
    *mean = y->attr.i[0] ? mean_of(g, y, x) : NULL;
    x = *mean ? tarn_sub(g, x, *mean) : x;
    *var = mean_of(g, y, tarn_mul(g, x, x));
    return x;
}
static const tarn_node *slope(tarn_graph *g, const tarn_node *y, const tarn_node *var) {
    return tarn_unary(g, &tarn_op_rsqrt, tarn_add(g, var, tarn_num(g, y->attr.f[0])));
}
static const tarn_node *norm_stats_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *mean, *var, *both[2];
    const int64_t shape[2] = {y->desc.shape[1], y->desc.shape[2]};
    centre(g, y, tarn_cast(g, X, TARN_F64), &mean, &var);
    mean = mean ? mean : tarn_mul(g, var, tarn_num(g, 0));
    both[0] = tarn_reshape(g, mean, 2, shape);
    both[1] = tarn_reshape(g, var, 2, shape);
    return tarn_stack(g, 2, both);
}
static const tarn_node *norm_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *mean, *var, *x = centre(g, y, tarn_as_float(g, X), &mean, &var);
    x = tarn_mul(g, x, slope(g, y, var));
    return tarn_add(g, tarn_mul(g, x, y->in[1]), y->in[2]);
}
static const tarn_node *norm_sums_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *mean, *var, *x = centre(g, y, tarn_cast(g, X, TARN_F64), &mean, &var),
                                 *both[2];
    const tarn_node *gy = tarn_cast(g, y->in[2], TARN_F64);
    x = tarn_mul(g, x, slope(g, y, var));
    const int64_t rows[2] = {0, 1}, shape[2] = {y->desc.shape[1], y->desc.shape[2]};
    bool each = X->desc.shape[1] != 1 || X->desc.shape[2] != 1;  // of each of A
    for (int k = 0; k < 2; k++) {
        both[k] = k == 0 ? tarn_mul(g, gy, x) : gy;
        both[k] =
            tarn_reduce(g, &tarn_op_sum, both[k], each ? 1 : 2, each ? rows + 1 : rows, false);
        both[k] = tarn_reshape(g, both[k], 2, shape);
    }
    return tarn_stack(g, 2, both);
}
static const tarn_node *norm_vjp_apart(tarn_graph *g, const tarn_node *y) {
    const tarn_node *mean, *var, *x = centre(g, y, tarn_as_float(g, X), &mean, &var);
    const tarn_node *r = slope(g, y, var), *gw = tarn_mul(g, y->in[3], y->in[1]);
    x = tarn_mul(g, x, r);
    const tarn_node *rest = tarn_mul(g, x, mean_of(g, y, tarn_mul(g, gw, x)));
    gw = mean ? tarn_sub(g, gw, mean_of(g, y, gw)) : gw;
    return tarn_mul(g, r, tarn_sub(g, gw, rest));
}

// ---- derivatives ----

// y: the norm node.
static const tarn_node *sums_of(tarn_graph *g, const tarn_node *y, const tarn_node *gy) {
    const tarn_node *in[3] = {X, y->in[3], gy};
    return tarn_node_make(g, &tarn_op_norm_sums, 3, in, &y->attr);
}
TARN_VJP(vjp_norm) {
    if (which == 3) {
        return NULL;  // its share is in the derivative by x
    }
    const tarn_node *sums = sums_of(g, y, gy);
    if (!sums) {
        return NULL;
    }
    if (which == 0) {
        const tarn_node *in[5] = {X, y->in[1], y->in[3], gy, sums};
        return tarn_unbroadcast(g, tarn_node_make(g, &tarn_op_norm_vjp, 5, in, &y->attr), X);
    }
    const tarn_node *w = y->in[which];
    const int64_t shape[3] = {1, sums->desc.shape[1], sums->desc.shape[2]}, axis = 1;
    const tarn_node *part = tarn_reshape(g, tarn_slice(g, sums, 0, which - 1, 1), 3, shape);
    part = shape[1] == 1 ? part : tarn_reduce(g, &tarn_op_sum, part, 1, &axis, true);
    return tarn_unbroadcast(g, tarn_reshape(g, part, w->desc.rank, w->desc.shape), w);
}

// Forward: with x' = (x - mean) r, the map J of a change of x to that of x' is its own adjoint, so
// norm_vjp with weights of one is J; and r changes by -r^2 mean(x' dx). Statistics and sums have no
// share: what they are of does.

static const tarn_node *channels(tarn_graph *g, const tarn_node *y, double value) {
    const tarn_node *v = tarn_cast(g, tarn_num(g, value), tarn_float_of(1, &X->desc));
    return tarn_broadcast(g, v, 2, X->desc.shape + 2);
}
static const tarn_node *normed(tarn_graph *g, const tarn_node *y, const tarn_node *stats) {
    const tarn_node *in[4] = {X, channels(g, y, 1), channels(g, y, 0), stats};
    return tarn_node_make(g, &tarn_op_norm, 4, in, &y->attr);
}
// J(v w).
static const tarn_node *turned(tarn_graph *g, const tarn_node *y, const tarn_node *w,
                               const tarn_node *stats, const tarn_node *v) {
    const tarn_node *of[3] = {X, stats, v}, *sums;
    const int64_t shape[3] = {2, 1, X->desc.shape[2] * X->desc.shape[3]};
    if (X->desc.shape[1] == 1 && X->desc.shape[2] == 1) {  // by rows: they sum for themselves
        sums = tarn_broadcast(g, tarn_cast(g, tarn_num(g, 0), TARN_F64), 3, shape);
    } else {
        sums = tarn_node_make(g, &tarn_op_norm_sums, 3, of, &y->attr);
    }
    const tarn_node *in[5] = {X, w, stats, v, sums};
    return tarn_node_make(g, &tarn_op_norm_vjp, 5, in, &y->attr);
}
TARN_JVP(jvp_norm) {
    const tarn_node *stats = y->in[3];
    const tarn_node *d = dx[0] ? turned(g, y, channels(g, y, 1), stats, dx[0]) : NULL;
    d = d ? tarn_mul(g, d, y->in[1]) : NULL;
    d = tarn_add_opt(g, d, dx[1] ? tarn_mul(g, normed(g, y, stats), dx[1]) : NULL);
    return tarn_add_opt(g, d, dx[2]);
}
TARN_JVP(jvp_sums) {
    const tarn_node *stats = y->in[1], *gy = y->in[2], *moved = NULL, *in[3] = {X, stats, dx[2]};
    const int64_t rows[2] = {0, 1}, *out = y->desc.shape;
    if (dx[0]) {  // the sums of gy J(dx)
        bool each = X->desc.shape[1] != 1 || X->desc.shape[2] != 1;
        const tarn_node *both[2];
        moved = tarn_mul(g, gy, turned(g, y, channels(g, y, 1), stats, dx[0]));
        moved = tarn_reduce(g, &tarn_op_sum, moved, each ? 1 : 2, each ? rows + 1 : rows, false);
        both[0] = tarn_cast(g, tarn_reshape(g, moved, 2, out + 1), TARN_F64);
        both[1] = tarn_broadcast(g, tarn_cast(g, tarn_num(g, 0), TARN_F64), 2, out + 1);
        moved = tarn_stack(g, 2, both);
    }
    return tarn_add_opt(g, moved,
                        dx[2] ? tarn_node_make(g, &tarn_op_norm_sums, 3, in, &y->attr) : NULL);
}
// y = r (u - mean(u) - x' mean(x' u)), u = gy w.
TARN_JVP(jvp_vjp) {
    const tarn_node *w = y->in[1], *stats = y->in[2], *gy = y->in[3];
    const tarn_node *in[5] = {X, dx[1], stats, gy, y->in[4]};
    const tarn_node *d = dx[3] ? turned(g, y, w, stats, dx[3]) : NULL;
    d = tarn_add_opt(g, d, dx[1] ? tarn_node_make(g, &tarn_op_norm_vjp, 5, in, &y->attr) : NULL);
    if (!dx[0]) {
        return d;
    }
    const int64_t groups[4] = {X->desc.shape[0], 1, X->desc.shape[2], 1};
    const tarn_node *var = tarn_reshape(g, tarn_slice(g, stats, 0, 1, 1), 4, groups);
    const tarn_node *r = tarn_cast(g, slope(g, y, var), tarn_dtype_compute(y->desc.dtype));
    const tarn_node *x = normed(g, y, stats), *u = tarn_mul(g, gy, w);
    const tarn_node *moved = turned(g, y, channels(g, y, 1), stats, dx[0]);
    const tarn_node *p = mean_of(g, y, tarn_mul(g, x, dx[0]));
    const tarn_node *q = mean_of(g, y, tarn_mul(g, x, u));
    const tarn_node *sum = tarn_add(g, tarn_mul(g, p, y), tarn_mul(g, q, moved));
    sum = tarn_add(g, sum, tarn_mul(g, mean_of(g, y, tarn_mul(g, moved, u)), x));
    sum = tarn_mul(g, r, sum);
    return d ? tarn_sub(g, d, sum) : tarn_sub(g, tarn_num(g, 0), sum);
}

static void axes_norm(tarn_axes *t, const tarn_node *y) {
    for (int d = 0; d < 4; d++) {
        tarn_axes_link(t, X, d, y, d, TARN_GROUP_PERMUTATION);
    }
    for (int k = 1; k < 3; k++) {
        tarn_axes_link(t, y->in[k], 0, y, 2, TARN_GROUP_PERMUTATION);
        tarn_axes_link(t, y->in[k], 1, y, 3, TARN_GROUP_PERMUTATION);
    }
    tarn_axes_link(t, y->in[3], 1, y, 0, TARN_GROUP_PERMUTATION);
    tarn_axes_link(t, y->in[3], 2, y, 2, TARN_GROUP_PERMUTATION);
    tarn_axes_limit(t, y->in[3], 0, TARN_GROUP_NONE);
}
static void axes_stats(tarn_axes *t, const tarn_node *y) {
    tarn_axes_limit(t, y, 0, TARN_GROUP_NONE);
    tarn_axes_link(t, X, 0, y, 1, TARN_GROUP_PERMUTATION);
    tarn_axes_link(t, X, 2, y, 2, TARN_GROUP_PERMUTATION);
    tarn_axes_limit(t, X, 1, TARN_GROUP_PERMUTATION);
    tarn_axes_limit(t, X, 3, TARN_GROUP_PERMUTATION);
}

// ---- as expressions ----

static const tarn_node *seen_as(tarn_graph *g, const tarn_node *x, const tarn_norm_shape *n) {
    const int64_t shape[4] = {n->a, n->s, n->g, n->k};
    return tarn_reshape(g, tarn_as_float(g, x), 4, shape);
}
static const tarn_node *stats_of(tarn_graph *g, const tarn_node *x, const tarn_norm_shape *n) {
    const int64_t centred = n->centred;
    tarn_attr a = {.ni = 1, .i = &centred, .nf = 1, .f = &n->eps};
    return tarn_node_make(g, &tarn_op_norm_stats, 1, &x, &a);
}
static const tarn_node *affine(tarn_graph *g, const tarn_node *w, double missing, tarn_dtype t,
                               const tarn_norm_shape *n) {
    const int64_t shape[2] = {n->g, n->k};
    return w ? tarn_reshape(g, w, 2, shape)
             : tarn_broadcast(g, tarn_cast(g, tarn_num(g, missing), t), 2, shape);
}

const tarn_node *tarn_norm_stats(tarn_graph *g, const tarn_node *x, const tarn_norm_shape *n) {
    return stats_of(g, seen_as(g, x, n), n);
}
const tarn_node *tarn_norm(tarn_graph *g, const tarn_node *x, const tarn_node *w,
                           const tarn_node *b, const tarn_norm_shape *n) {
    const int64_t centred = n->centred;
    tarn_attr a = {.ni = 1, .i = &centred, .nf = 1, .f = &n->eps};
    const tarn_node *v = seen_as(g, x, n);
    if (!v) {
        return NULL;
    }
    const tarn_node *in[4] = {v, affine(g, w, 1, v->desc.dtype, n),
                              affine(g, b, 0, v->desc.dtype, n), stats_of(g, v, n)};
    const tarn_node *y = tarn_node_make(g, &tarn_op_norm, 4, in, &a);
    return tarn_reshape(g, y, x->desc.rank, x->desc.shape);
}

// clang-format off
#define WHOLE(NAME, IN, ...)                                                               \
    const tarn_op tarn_op_##NAME = {.name = #NAME, .version = 1, .cls = TARN_CLASS_WHOLE,  \
                                    .min_in = IN, .max_in = IN, .workspace = workspace,    \
                                    .placed = true,                                        \
                                    .decompose = NAME##_apart, __VA_ARGS__};
WHOLE(norm_stats, 1, .infer = infer_stats, .apply = apply_stats, .axes = axes_stats,
      .summary = "means and biased variances of x [A, S, G, K] over S and K, in f64")
WHOLE(norm, 4, .infer = infer_norm, .apply = apply_norm, .vjp = vjp_norm, .jvp = jvp_norm, .axes = axes_norm,
      .summary = "(x - mean) / sqrt(var + eps) * w + b, with statistics over S and K of x [A, S, G, K]")
WHOLE(norm_sums, 3, .infer = infer_sums, .apply = apply_sums, .jvp = jvp_sums,
      .summary = "sums over rows of g (x - mean) / sqrt(var + eps) and of g, in f64: the derivatives of norm by w and b")
WHOLE(norm_vjp, 5, .infer = infer_vjp, .apply = apply_vjp, .jvp = jvp_vjp,
      .summary = "the derivative of norm by x")
// clang-format on
