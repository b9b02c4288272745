// SPDX-License-Identifier: Apache-2.0
// Optimal transport with entropy: min <P, C> - reg H(P) over plans P >= 0 with row sums a and column sums b, by
// Sinkhorn's iteration in the log domain (Cuturi 2013, arXiv:1306.0895), so that no reg is too small for the
// range of numbers. The row yields the potentials, f [n] then g [m]; the plan exp((f + g - C) / reg) is ordinary
// element-wise nodes behind it. Derivatives are those of the fixed point, not of the iteration: with P the plan,
// r and c its sums, the differentials solve
//     [diag r, P; P^T, diag c] [df; dg] = [(P dC) 1 + reg da; (P dC)^T 1 + reg db],
// which is singular along (1, -1) (f + t and g - t are the same plan). Rows are eliminated, the last g is held, and
// what is left is a Laplacian of m - 1 columns whose diagonal is summed from the others, without cancellation.
#include "vm/op/sinkhorn.h"

#include <math.h>

#include "vm/op/fused_run.h"
#include "vm/op/kernel/math.h"
#include "vm/op/linalg.h"
#include "vm/op/rules.h"

enum { LANES = 8 };
// Of the diagonal: keeps the system of a plan that has come apart in pieces solvable. Its right side is zero to
// rounding in the directions that this decides.
static const double ridge = 1e-13;

// ---- the iteration, on one matrix ----

typedef struct {
    int64_t n, m;
    const double *x;                 // [n, m] cost / reg
    const double *la, *lb;           // [n], [m] logarithms of the sums
    double *phi, *psi, *most, *sum;  // [n], [m] potentials / reg; [m], [m] of columns
} problem;

// max and log of the sum of exp(psi - x) over a row.
static double row_logsumexp(int64_t m, const double *x, const double *psi) {
    double most[LANES], sum[LANES] = {0}, top = -INFINITY, all = 0;
    int64_t whole = m / LANES * LANES;
    for (int l = 0; l < LANES; l++) {
        most[l] = -INFINITY;
    }
    for (int64_t j = 0; j < whole; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            double t = psi[j + l] - x[j + l];
            most[l] = t > most[l] ? t : most[l];
        }
    }
    for (int64_t j = whole; j < m; j++) {
        double t = psi[j] - x[j];
        most[0] = t > most[0] ? t : most[0];
    }
    for (int l = 0; l < LANES; l++) {
        top = most[l] > top ? most[l] : top;
    }
    for (int64_t j = 0; j < whole; j += LANES) {
        for (int l = 0; l < LANES; l++) {
            sum[l] += tk_exp(psi[j + l] - x[j + l] - top);
        }
    }
    for (int64_t j = whole; j < m; j++) {
        sum[0] += tk_exp(psi[j] - x[j] - top);
    }
    for (int l = 0; l < LANES; l++) {
        all += sum[l];
    }
    return top + tk_log(all);
}

// One round, rows then columns; by how much of itself the sum of a row was off at most.
static double sweep(const problem *p) {
    double off = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double next = p->la[i] - row_logsumexp(p->m, p->x + i * p->m, p->psi);
        double by = fabs(next - p->phi[i]);
        off = by > off || isnan(by) ? by : off;
        p->phi[i] = next;
    }
    for (int64_t j = 0; j < p->m; j++) {
        p->most[j] = -INFINITY;
        p->sum[j] = 0;
    }
    for (int64_t i = 0; i < p->n; i++) {
        const double *restrict x = p->x + i * p->m;
        double *restrict most = p->most, phi = p->phi[i];
        for (int64_t j = 0; j < p->m; j++) {
            most[j] = phi - x[j] > most[j] ? phi - x[j] : most[j];
        }
    }
    for (int64_t i = 0; i < p->n; i++) {
        const double *restrict x = p->x + i * p->m;
        const double *restrict most = p->most;
        double *restrict sum = p->sum, phi = p->phi[i];
        for (int64_t j = 0; j < p->m; j++) {
            sum[j] += tk_exp(phi - x[j] - most[j]);
        }
    }
    for (int64_t j = 0; j < p->m; j++) {
        p->psi[j] = p->lb[j] - (p->most[j] + tk_log(p->sum[j]));
    }
    return off;
}

// ---- the row ----

static tarn_status infer_sinkhorn(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                                  tarn_error *err) {
    (void)nin;
    if (in[0].rank < 2) {
        TARN_RAISE(err, "Rank", "expected a matrix of costs or a batch of them, got rank %d", in[0].rank);
    }
    int64_t n = in[0].shape[in[0].rank - 2], m = in[0].shape[in[0].rank - 1];
    if (n < 1 || m < 1) {
        TARN_RAISE(err, "ShapeMismatch", "a matrix of %lld by %lld costs has no plan", (long long)n, (long long)m);
    }
    for (int k = 1; k < 3; k++) {
        int64_t want = k == 1 ? n : m;
        if (in[k].rank != 1 || in[k].shape[0] != want) {
            TARN_RAISE(err, "ShapeMismatch", "expected the sums of %lld %s, got %s %lld", (long long)want,
                       k == 1 ? "rows" : "columns", in[k].rank == 1 ? "a vector of" : "a tensor of rank",
                       (long long)(in[k].rank == 1 ? in[k].shape[0] : in[k].rank));
        }
    }
    if (a->nf != 2 || a->ni != 1 || !(a->f[0] > 0) || !isfinite(a->f[0])) {
        TARN_RAISE(err, "Option", "reg has to be a number above 0, got %g", a->nf > 0 ? a->f[0] : 0);
    }
    if (a->i[0] < 1 || !(a->f[1] >= 0)) {
        TARN_RAISE(err, "Option", "expected at least one iteration and a tolerance of 0 or more");
    }
    *out = in[0];
    out->weak = false;
    out->dtype = tarn_float_of(1, in);
    out->rank = in[0].rank - 1;
    out->shape[out->rank - 1] = n + m;
    return TARN_OK;
}

static size_t matrix_bytes(int64_t n, int64_t m) { return 8 * (size_t)(n * m + n + 3 * m); }

static size_t workspace_sinkhorn(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                                 int threads) {
    (void)nin, (void)a;
    int64_t n = in[1].shape[0], m = in[2].shape[0], batches = tarn_desc_numel(out) / (n + m);
    return (size_t)(batches > 1 ? threads : 1) * matrix_bytes(n, m) + 8 * (size_t)(n + m) +
           tarn_dtype_bytes(in[0].dtype, tarn_desc_numel(&in[0]));
}

typedef struct {
    tarn_context *cx;
    int64_t n, m;
    const tarn_tensor *cost;
    double reg, tolerance;
    int64_t iterations;
    const double *la, *lb;
    char *room;
    tarn_tensor *out;
} run;

static tarn_status solve_batch(void *arg, int64_t task, int worker, tarn_error *err) {
    const run *r = arg;
    int64_t n = r->n, m = r->m;
    double *x = (double *)(void *)(r->room + (size_t)worker * matrix_bytes(n, m)), mean = 0;
    problem p = {.n = n, .m = m, .x = x, .la = r->la, .lb = r->lb, .phi = x + n * m, .psi = x + n * m + n,
                 .most = x + n * m + n + m, .sum = x + n * m + n + 2 * m};
    for (int64_t k = 0; k < n * m; k++) {
        x[k] = tarn_tensor_get(r->cost, task * n * m + k) / r->reg;
    }
    for (int64_t i = 0; i < n + m; i++) {
        p.phi[i] = 0;  // psi lies behind
    }
    for (int64_t k = 0; k < r->iterations; k++) {
        TARN_TRY(tarn_cancel_check(&r->cx->cancel, err));
        if (sweep(&p) <= r->tolerance) {
            break;
        }
    }
    for (int64_t i = 0; i < n; i++) {
        mean += p.phi[i] / (double)n;
    }
    for (int64_t k = 0; k < n + m; k++) {
        tarn_tensor_set(r->out, task * (n + m) + k, r->reg * (p.phi[k] + (k < n ? -mean : mean)));
    }
    return TARN_OK;
}

// Logarithms of the sums, and their total.
static tarn_status read_sums(const tarn_tensor *t, const char *what, double *log, double *total, tarn_error *err) {
    *total = 0;
    for (int64_t i = 0; i < t->shape[0]; i++) {
        double x = tarn_tensor_get(t, i);
        if (!(x > 0) || !isfinite(x)) {
            TARN_RAISE(err, "Range", "the sum of %s %lld is %g; sums have to be above 0 (leave out what has none)", what,
                       (long long)i + 1, x);
        }
        *total += x;
        log[i] = tk_log(x);
    }
    return TARN_OK;
}

static tarn_status run_all(run *r, const tarn_tensor *in, double *logs, tarn_error *err) {
    double ta = 0, tb = 0;
    TARN_TRY(read_sums(&in[1], "row", logs, &ta, err));
    TARN_TRY(read_sums(&in[2], "column", logs + r->n, &tb, err));
    if (!(fabs(ta - tb) <= 1e-5 * ta)) {
        TARN_RAISE(err, "UnequalTotals", "the sums of the rows add up to %.9g, those of the columns to %.9g", ta, tb);
    }
    int64_t batches = tarn_tensor_numel(r->out) / (r->n + r->m);
    return tarn_pool_run(batches > 1 ? r->cx->pool : NULL, batches, solve_batch, r, &r->cx->cancel, err);
}

static tarn_status apply_sinkhorn(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                                  const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    (void)nin;
    tarn_tensor cost;
    int64_t n = in[1].shape[0], m = in[2].shape[0];
    int workers = tarn_desc_numel(d) > n + m ? tarn_pool_size(cx->pool) : 1;
    size_t bytes = (size_t)workers * matrix_bytes(n, m), logs = 8 * (size_t)(n + m);
    TARN_TRY(tarn_tensor_plain(cx, &in[0], in[0].dtype, &cost, err));
    char *room = tarn_alloc(&cx->budget, bytes + logs);
    tarn_status s = room ? tarn_tensor_new(cx, d->dtype, d->rank, d->shape, out, err)
                         : tarn_raise_nomem(err, "sinkhorn", bytes + logs);
    if (s == TARN_OK) {
        double *log = (double *)(void *)(room + bytes);
        run r = {.cx = cx, .n = n, .m = m, .cost = &cost, .reg = a->f[0], .tolerance = a->f[1], .iterations = a->i[0],
                 .la = log, .lb = log + n, .room = room, .out = out};
        s = run_all(&r, in, log, err);
        if (s != TARN_OK) {
            tarn_tensor_release(out);
        }
    }
    tarn_free(&cx->budget, room, bytes + logs);
    tarn_tensor_release(&cost);
    return s;
}

// ---- derivatives ----

typedef struct {
    tarn_graph *g;
    int rank;        // of the cost
    int64_t n, m;
    double reg;
    const tarn_node *p, *r, *laplacian;  // plan; its row sums [.., n, 1]; [.., m - 1, m - 1], NULL for one column
} system_of;

// A vector [.., k] as a column [.., k, 1] or a row [.., 1, k], in f64.
static const tarn_node *upright(tarn_graph *g, const tarn_node *x, bool row) {
    int64_t shape[TARN_MAX_RANK];
    if (!x) {
        return NULL;
    }
    int rank = x->desc.rank;
    for (int d = 0; d < rank - 1; d++) {
        shape[d] = x->desc.shape[d];
    }
    shape[rank - 1] = row ? 1 : x->desc.shape[rank - 1];
    shape[rank] = row ? x->desc.shape[rank - 1] : 1;
    return tarn_reshape(g, tarn_cast(g, x, TARN_F64), rank + 1, shape);
}
// [.., k, 1] as [.., k].
static const tarn_node *flat(tarn_graph *g, const tarn_node *x) {
    return x ? tarn_reshape(g, x, x->desc.rank - 1, x->desc.shape) : NULL;
}
static const tarn_node *sum_along(tarn_graph *g, const tarn_node *x, int axis) {
    const int64_t d = axis;
    return x ? tarn_reduce(g, &tarn_op_sum, x, 1, &d, true) : NULL;
}
static const tarn_node *plan_of(tarn_graph *g, const tarn_node *cost, const tarn_node *f, const tarn_node *h,
                                double reg) {
    return tarn_exp(g, tarn_div(g, tarn_sub(g, tarn_add(g, f, h), cost), tarn_num(g, reg)));
}

static system_of system_at(tarn_graph *g, const tarn_node *y) {
    const tarn_node *c = y->in[0];
    int rank = c->desc.rank, last = y->desc.rank - 1;
    int64_t n = c->desc.shape[rank - 2], m = c->desc.shape[rank - 1];
    system_of s = {.g = g, .rank = rank, .n = n, .m = m, .reg = y->attr.f[0]};
    s.p = plan_of(g, tarn_cast(g, c, TARN_F64), upright(g, tarn_slice(g, y, last, 0, n), false),
                  upright(g, tarn_slice(g, y, last, n, m), true), s.reg);
    s.r = sum_along(g, s.p, rank - 1);
    if (m > 1 && s.r) {
        const tarn_node *w = tarn_matmul(g, tarn_transpose(g, s.p), tarn_div(g, s.p, s.r));
        const int64_t down[2] = {m, 1}, across[2] = {1, m};
        const tarn_node *at = tarn_iota(g, m);
        const tarn_node *same = tarn_cast(g, tarn_eq(g, tarn_reshape(g, at, 2, down), tarn_reshape(g, at, 2, across)), TARN_F64);
        const tarn_node *off = tarn_mul(g, w, tarn_sub(g, tarn_num(g, 1), same));
        const tarn_node *degree = tarn_add(g, sum_along(g, off, rank - 1),
                                           tarn_mul(g, tarn_num(g, ridge), sum_along(g, w, rank - 1)));
        const tarn_node *all = tarn_sub(g, tarn_mul(g, same, degree), off);
        s.laplacian = all ? tarn_slice(g, tarn_slice(g, all, rank - 1, 0, m - 1), rank - 2, 0, m - 1) : NULL;
    }
    return s;
}

// The s [.., n, 1] and t [.., m, 1] with K [s; t] = [u; v] and last t = 0.
static void solve_system(const system_of *k, const tarn_node *u, const tarn_node *v, const tarn_node **s,
                         const tarn_node **t) {
    tarn_graph *g = k->g;
    int axis = k->rank - 2;
    const tarn_node *rest = tarn_sub(g, v, tarn_matmul(g, tarn_transpose(g, k->p), tarn_div(g, u, k->r)));
    const tarn_node *part[2] = {NULL, rest ? tarn_zeros_like(g, tarn_slice(g, rest, axis, k->m - 1, 1)) : NULL};
    *t = part[1];
    if (k->m > 1 && rest) {
        part[0] = tarn_solve(g, k->laplacian, tarn_slice(g, rest, axis, 0, k->m - 1));
        *t = part[0] ? tarn_concat(g, 2, part, axis) : NULL;
    }
    *s = tarn_div(g, tarn_sub(g, u, tarn_matmul(g, k->p, *t)), k->r);
}

TARN_VJP(vjp_sinkhorn) {
    system_of k = system_at(g, y);
    int last = y->desc.rank - 1;
    const tarn_node *u = upright(g, tarn_slice(g, gy, last, 0, k.n), false);
    const tarn_node *v = upright(g, tarn_slice(g, gy, last, k.n, k.m), false), *s, *t;
    // What the zero mean of f passes on.
    const tarn_node *shift = tarn_sub(g, sum_along(g, v, k.rank - 2), sum_along(g, u, k.rank - 2));
    u = tarn_add(g, u, tarn_div(g, shift, tarn_num(g, (double)k.n)));
    solve_system(&k, u, v, &s, &t);
    if (which == 0) {
        return tarn_unbroadcast(g, tarn_mul(g, k.p, tarn_add(g, s, tarn_transpose(g, t))), y->in[0]);
    }
    return tarn_unbroadcast(g, tarn_mul(g, tarn_num(g, k.reg), flat(g, which == 1 ? s : t)), y->in[which]);
}

// reg times a tangent of the sums, beside the part of the cost; either may be absent.
static const tarn_node *right_side(const system_of *k, const tarn_node *moved, int axis, const tarn_node *dsum) {
    tarn_graph *g = k->g;
    const tarn_node *x = moved ? sum_along(g, moved, axis) : NULL;
    if (x && axis == k->rank - 2) {
        x = tarn_transpose(g, x);
    }
    const tarn_node *y = dsum ? tarn_mul(g, tarn_num(g, k->reg), upright(g, dsum, false)) : NULL;
    const tarn_node *zero = tarn_mul(g, tarn_num(g, 0), axis == k->rank - 1 ? k->r : tarn_transpose(g, sum_along(g, k->p, axis)));
    return tarn_add(g, zero, x || y ? tarn_add_opt(g, x, y) : tarn_num(g, 0));
}

TARN_JVP(jvp_sinkhorn) {
    system_of k = system_at(g, y);
    const tarn_node *moved = dx[0] ? tarn_mul(g, k.p, tarn_cast(g, dx[0], TARN_F64)) : NULL, *s, *t;
    const tarn_node *u = right_side(&k, moved, k.rank - 1, dx[1]), *v = right_side(&k, moved, k.rank - 2, dx[2]);
    solve_system(&k, u, v, &s, &t);
    const tarn_node *mean = tarn_div(g, sum_along(g, s, k.rank - 2), tarn_num(g, (double)k.n));
    const tarn_node *part[2] = {flat(g, tarn_sub(g, s, mean)), flat(g, tarn_add(g, t, mean))};
    return part[0] && part[1] ? tarn_concat(g, 2, part, y->desc.rank - 1) : NULL;
}

const tarn_op tarn_op_sinkhorn = {.name = "sinkhorn", .version = 1, .cls = TARN_CLASS_WHOLE, .min_in = 3,
                                  .max_in = 3, .infer = infer_sinkhorn, .apply = apply_sinkhorn,
                                  .workspace = workspace_sinkhorn, .vjp = vjp_sinkhorn, .jvp = jvp_sinkhorn,
                                  .summary = "potentials of the transport with entropy between two sets of "
                                             "sums, packed: f and g"};

// ---- nodes ----

static const tarn_node *constant_sums(tarn_graph *g, int64_t n, double x) {
    return tarn_broadcast(g, tarn_cast(g, tarn_num(g, x), TARN_F64), 1, &n);
}

tarn_sinkhorn_nodes tarn_sinkhorn(tarn_graph *g, const tarn_node *cost, const tarn_node *a, const tarn_node *b,
                                  const tarn_sinkhorn_options *o) {
    tarn_sinkhorn_nodes out = {NULL, NULL, NULL};
    if (!cost) {
        return out;
    }
    int rank = cost->desc.rank;
    if (rank < 2) {
        tarn_raise(&g->err, "Rank", "sinkhorn: expected a matrix of costs or a batch of them, got rank %d", rank);
        return out;
    }
    int64_t n = cost->desc.shape[rank - 2], m = cost->desc.shape[rank - 1], last = rank - 2;
    const tarn_node *in[3] = {cost, a ? a : constant_sums(g, n, 1), b ? b : constant_sums(g, m, (double)n / (double)m)};
    const double f[2] = {o->reg, o->tolerance};
    const tarn_attr attr = {.ni = 1, .i = &o->iterations, .nf = 2, .f = f};
    const tarn_node *y = in[1] && in[2] ? tarn_node_make(g, &tarn_op_sinkhorn, 3, in, &attr) : NULL;
    if (!y) {
        return out;
    }
    out.f = tarn_slice(g, y, (int)last, 0, n);
    out.g = tarn_slice(g, y, (int)last, n, m);
    int64_t shape[TARN_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        shape[d] = cost->desc.shape[d];
    }
    shape[rank - 1] = 1;
    const tarn_node *down = tarn_reshape(g, out.f, rank, shape);
    shape[rank - 1] = m;
    shape[rank - 2] = 1;
    out.plan = plan_of(g, cost, down, tarn_reshape(g, out.g, rank, shape), o->reg);
    return out;
}
