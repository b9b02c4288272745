// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (Su et al., "RoFormer", 2021): pair i of the last axis is turned by
// position * base^(-2 i / size), over a divisor of its own where longer contexts ask for that. It is
// linear in x, and turning back is its adjoint. Angles, sines and cosines are computed in f64, once
// for each position.
#include <string.h>

#include "vm/op/axes.h"
#include "vm/op/fused.h"
#include "vm/op/fused_run.h"
#include "vm/op/kernel/fused.h"
#include "vm/op/kernel/math.h"

#define X (y->in[0])

// rope(x [.., T, size], positions [T]): attr.i = {adjacent, back}, attr.f = {base, [divisor, ..]}

static tarn_status infer_rope(int nin, const tarn_desc *in, const tarn_attr *a, tarn_desc *out,
                              tarn_error *err) {
    int r = in[0].rank;
    (void)nin;
    if (a->ni != 2 || a->nf < 1 || !(a->f[0] > 0)) {
        TARN_RAISE(err, "Argument", "the base is a number above 0");
    }
    if (r < 2 || in[0].shape[r - 1] % 2 != 0) {
        TARN_RAISE(err, "ShapeMismatch", "expected x [.., T, size] with an even size");
    }
    if (a->nf > 1 && a->nf - 1 != in[0].shape[r - 1] / 2) {
        TARN_RAISE(err, "ShapeMismatch", "expected one divisor for each of %lld pairs, got %d",
                   (long long)(in[0].shape[r - 1] / 2), a->nf - 1);
    }
    for (int i = 1; i < a->nf; i++) {
        if (!(a->f[i] > 0)) {
            TARN_RAISE(err, "Argument", "divisors are numbers above 0");
        }
    }
    if (in[1].rank != 1 || in[1].shape[0] != in[0].shape[r - 2]) {
        TARN_RAISE(err, "ShapeMismatch", "expected one position for each of %lld places",
                   (long long)in[0].shape[r - 2]);
    }
    *out = in[0];
    out->weak = false;
    out->dtype = tarn_float_of(1, in);
    return TARN_OK;
}

typedef struct {
    const tarn_fused_kernels *k;
    const char *x;
    char *out;
    const double *cosine, *sine;  // [T, half]
    int64_t places, half;
    size_t step;  // bytes of a row
    bool adjacent;
} rope_run;

static tarn_status rope_piece(void *arg, int64_t first, int64_t n, tarn_error *err) {
    const rope_run *r = arg;
    (void)err;
    for (int64_t i = first; i < first + n; i++) {
        int64_t at = i % r->places * r->half;
        r->k->rotate(r->half, r->adjacent, r->cosine + at, r->sine + at, r->x + (size_t)i * r->step,
                     r->out + (size_t)i * r->step);
    }
    return TARN_OK;
}
static void angles(const double *position, int64_t places, int64_t half, const tarn_attr *a,
                   double *cosine, double *sine) {
    bool back = a->i[1] != 0;
    for (int64_t i = 0; i < half; i++) {
        double turn = tk_pow(a->f[0], -(double)i / (double)half);
        turn = a->nf > 1 ? turn / a->f[i + 1] : turn;
        for (int64_t t = 0; t < places; t++) {
            double angle = position[t] * turn;
            cosine[t * half + i] = tk_cos(angle);
            sine[t * half + i] = back ? -tk_sin(angle) : tk_sin(angle);
        }
    }
}
static tarn_status apply_rope(tarn_context *cx, int nin, const tarn_tensor *in, const tarn_attr *a,
                              const tarn_desc *d, tarn_tensor *out, tarn_error *err) {
    tarn_plain p;
    int64_t places = d->shape[d->rank - 2], half = d->shape[d->rank - 1] / 2,
            n = tarn_desc_numel(d);
    size_t bytes = 2 * (size_t)(places * half) * sizeof(double);
    TARN_TRY(tarn_result(cx, d, out, err));
    tarn_status s = tarn_plain_open(cx, nin, in, (tarn_dtype[]){d->dtype, TARN_F64}, &p, err);
    double *room = s == TARN_OK && n > 0 ? tarn_alloc(&cx->budget, bytes) : NULL;
    s = s == TARN_OK && n > 0 && !room ? tarn_raise_nomem(err, "rope", bytes) : s;
    if (s == TARN_OK && n > 0) {
        rope_run r = {tarn_fused(cx->isa, d->dtype),
                      p.data[0],
                      tarn_tensor_data(out),
                      room,
                      room + places * half,
                      places,
                      half,
                      (size_t)half * (d->dtype == TARN_F64 ? 16 : 8),
                      a->i[0] != 0};
        angles((const double *)(const void *)p.data[1], places, half, a, room,
               room + places * half);
        s = tarn_rows_run(cx, n / (2 * half), 2 * half, rope_piece, &r, err);
    }
    tarn_free(&cx->budget, room, room ? bytes : 0);
    tarn_plain_close(&p);
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}
static size_t workspace(int nin, const tarn_desc *in, const tarn_attr *a, const tarn_desc *out,
                        int threads) {
    (void)a, (void)threads;
    return tarn_plain_bytes(nin, in, TARN_F64) +
           (size_t)(out->shape[out->rank - 2] * out->shape[out->rank - 1]) * sizeof(double);
}

static const tarn_node *turned(tarn_graph *g, const tarn_node *x, const tarn_node *y, bool back) {
    const tarn_node *in[2] = {x, y->in[1]};
    const int64_t i[2] = {y->attr.i[0], back};
    tarn_attr a = {.ni = 2, .i = i, .nf = y->attr.nf, .f = y->attr.f};
    return tarn_node_make(g, &tarn_op_rope, 2, in, &a);
}
TARN_VJP(vjp_rope) {
    return which == 0 ? tarn_unbroadcast(g, turned(g, gy, y, !y->attr.i[1]), X) : NULL;
}
TARN_JVP(jvp_rope) { return dx[0] ? turned(g, dx[0], y, y->attr.i[1] != 0) : NULL; }

static void axes_rope(tarn_axes *t, const tarn_node *y) {
    int r = y->desc.rank;
    for (int d = 0; d < r; d++) {
        if (d < r - 2) {
            tarn_axes_link(t, X, d, y, d, TARN_GROUP_LINEAR);
        } else {
            tarn_axes_limit(t, X, d, TARN_GROUP_NONE);
            tarn_axes_limit(t, y, d, TARN_GROUP_NONE);
        }
    }
    tarn_axes_limit(t, y->in[1], 0, TARN_GROUP_NONE);
}

const tarn_node *tarn_rope(tarn_graph *g, const tarn_node *x, const tarn_node *positions, int n,
                           const double *turns, bool adjacent) {
    const tarn_node *in[2] = {x, positions};
    const int64_t i[2] = {adjacent, 0};
    tarn_attr a = {.ni = 2, .i = i, .nf = n, .f = turns};
    return tarn_node_make(g, &tarn_op_rope, 2, in, &a);
}

const tarn_op tarn_op_rope = {.name = "rope",
                              .version = 1,
                              .cls = TARN_CLASS_WHOLE,
                              .min_in = 2,
                              .max_in = 2,
                              .infer = infer_rope,
                              .apply = apply_rope,
                              .placed = true,
                              .workspace = workspace,
                              .vjp = vjp_rope,
                              .jvp = jvp_rope,
                              .axes = axes_rope,
                              .summary =
                                  "pairs of the last dimension turned by angles that grow with "
                                  "the position"};
