// SPDX-License-Identifier: Apache-2.0
// Spectral methods against twins: the same formulas over small dense matrices in f64, with a one-sided
// Jacobi SVD that shares nothing with LAPACK. Then the identities that the papers state.
#include "tests/merge/method/values.h"

#include <stdlib.h>

enum { MOST = 8, T = 2 };  // sides at most; tasks

typedef struct {
    int m, n;
    double a[MOST * MOST * T];
} mat;

#define AT(x, i, j) (x).a[(i) * (x).n + (j)]

static mat zeros(int m, int n) {
    mat r = {.m = m, .n = n};
    return r;
}
static mat times(const mat *x, const mat *y) {
    mat r = zeros(x->m, y->n);
    assert_int_equal(x->n, y->m);
    for (int i = 0; i < x->m; i++) {
        for (int j = 0; j < y->n; j++) {
            for (int k = 0; k < x->n; k++) {
                AT(r, i, j) += AT(*x, i, k) * AT(*y, k, j);
            }
        }
    }
    return r;
}
static mat turned(const mat *x) {
    mat r = zeros(x->n, x->m);
    for (int i = 0; i < x->m; i++) {
        for (int j = 0; j < x->n; j++) {
            AT(r, j, i) = AT(*x, i, j);
        }
    }
    return r;
}
static mat plus(const mat *x, double c, const mat *y) {
    mat r = *x;
    for (int i = 0; i < x->m * x->n; i++) {
        r.a[i] += c * y->a[i];
    }
    return r;
}
// [x | y]
static mat beside(const mat *x, const mat *y) {
    mat r = zeros(x->m, x->n + y->n);
    for (int i = 0; i < x->m; i++) {
        for (int j = 0; j < r.n; j++) {
            AT(r, i, j) = j < x->n ? AT(*x, i, j) : AT(*y, i, j - x->n);
        }
    }
    return r;
}
static mat columns(const mat *x, int from, int count) {
    mat r = zeros(x->m, count);
    for (int i = 0; i < x->m; i++) {
        for (int j = 0; j < count; j++) {
            AT(r, i, j) = AT(*x, i, from + j);
        }
    }
    return r;
}

typedef struct {
    mat u, v;  // [m, k], [n, k]
    double s[MOST * T];
    int k;
} triples;

static triples svd(const mat *x) {
    triples r;
    bool wide = x->m < x->n;
    mat u = wide ? turned(x) : *x, v = zeros(u.n, u.n);
    int n = u.n, order[MOST * T];
    for (int i = 0; i < n; i++) {
        AT(v, i, i) = 1;
    }
    for (int sweep = 0; sweep < 60; sweep++) {
        for (int p = 0; p < n; p++) {
            for (int q = p + 1; q < n; q++) {
                double a = 0, b = 0, c = 0;
                for (int i = 0; i < u.m; i++) {
                    a += AT(u, i, p) * AT(u, i, p);
                    b += AT(u, i, q) * AT(u, i, q);
                    c += AT(u, i, p) * AT(u, i, q);
                }
                if (fabs(c) <= 1e-16 * sqrt(a * b)) {
                    continue;
                }
                double z = (b - a) / (2 * c), t = (z < 0 ? -1 : 1) / (fabs(z) + sqrt(1 + z * z));
                double cs = 1 / sqrt(1 + t * t), sn = cs * t;
                for (int i = 0; i < u.m; i++) {
                    double f = AT(u, i, p), g = AT(u, i, q);
                    AT(u, i, p) = cs * f - sn * g;
                    AT(u, i, q) = sn * f + cs * g;
                }
                for (int i = 0; i < n; i++) {
                    double f = AT(v, i, p), g = AT(v, i, q);
                    AT(v, i, p) = cs * f - sn * g;
                    AT(v, i, q) = sn * f + cs * g;
                }
            }
        }
    }
    double s[MOST * T];
    for (int j = 0; j < n; j++) {
        s[j] = 0;
        for (int i = 0; i < u.m; i++) {
            s[j] += AT(u, i, j) * AT(u, i, j);
        }
        s[j] = sqrt(s[j]);
        int at = j;
        for (; at > 0 && s[order[at - 1]] < s[j]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = j;
    }
    r.k = n;
    r.u = zeros(u.m, n);
    r.v = zeros(n, n);
    for (int j = 0; j < n; j++) {
        r.s[j] = s[order[j]];
        for (int i = 0; i < u.m; i++) {
            AT(r.u, i, j) = r.s[j] > 0 ? AT(u, i, order[j]) / r.s[j] : 0;
        }
        for (int i = 0; i < n; i++) {
            AT(r.v, i, j) = AT(v, i, order[j]);
        }
    }
    if (wide) {
        mat swap = r.u;
        r.u = r.v;
        r.v = swap;
    }
    return r;
}

// u diag(s) v^T over the first k triples.
static mat product(const mat *u, const double *s, const mat *v, int k) {
    mat r = zeros(u->m, v->m);
    for (int i = 0; i < u->m; i++) {
        for (int j = 0; j < v->m; j++) {
            for (int l = 0; l < k; l++) {
                AT(r, i, j) += AT(*u, i, l) * s[l] * AT(*v, j, l);
            }
        }
    }
    return r;
}
static mat polar(const mat *x) {
    triples p = svd(x);
    double one[MOST * T];
    for (int i = 0; i < p.k; i++) {
        one[i] = 1;
    }
    return product(&p.u, one, &p.v, p.k);
}

// ---- the models: base and T tasks of one matrix, f64 ----

typedef struct {
    tarn_context cx;
    form f;
    mat base, t[T];
} fixture;

static void fill(fixture *x, int m, int n, uint64_t seed) {
    x->f = (form){TARN_F64, 1, 2, {m, n}};
    x->base = zeros(m, n);
    for (int k = -1; k < T; k++) {
        mat *a = k < 0 ? &x->base : &x->t[k];
        *a = zeros(m, n);
        for (int i = 0; i < m * n; i++) {
            a->a[i] = test_uniform(&seed) - 0.5;
        }
    }
}
static mat run(fixture *x, const char *method, int tasks, const options *o) {
    mat in[T], y = zeros(x->f.shape[0] > 0 ? (int)x->f.shape[0] : 1, (int)x->f.shape[1]);
    const double *p[T];
    for (int k = 0; k < tasks; k++) {
        in[k] = plus(&x->base, 1, &x->t[k]);
        p[k] = in[k].a;
    }
    bool base = tarn_method_find(method)->needs & TARN_NEEDS_BASE;
    run_shaped(&x->cx, &x->f, method, base ? x->base.a : NULL, tasks, p, o, y.a);
    return y;
}
static void expect(fixture *x, const char *method, int tasks, const options *o, const mat *offset, double tol) {
    mat y = run(x, method, tasks, o), want = plus(&x->base, 1, offset);
    close_to(y.a, want.a, want.m * want.n, tol, method);
}

static int start(void **state) {
    fixture *x = calloc(1, sizeof *x);
    assert_non_null(x);
    open_context(&x->cx, 2, NULL);
    *state = x;
    return 0;
}
static int stop(void **state) {
    fixture *x = *state;
    tarn_context_free(&x->cx);
    free(x);
    return 0;
}

static const int sides[][2] = {{6, 4}, {4, 6}, {5, 5}, {2, 7}};
enum { SIDES = sizeof sides / sizeof *sides };
#define EACH_SHAPE(x) for (int shape = 0; shape < SIDES && (fill(x, sides[shape][0], sides[shape][1], (uint64_t)(11 + shape)), 1); shape++)

static void tsv_m(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        int side = x->base.m < x->base.n ? x->base.m : x->base.n, k = side / T;
        mat u, v;
        double s[MOST * T];
        for (int t = 0; t < T; t++) {
            triples p = svd(&x->t[t]);
            mat pu = columns(&p.u, 0, k), pv = columns(&p.v, 0, k);
            u = t ? beside(&u, &pu) : pu;
            v = t ? beside(&v, &pv) : pv;
            memcpy(s + t * k, p.s, (size_t)k * sizeof *s);
        }
        mat plain = product(&u, s, &v, k * T);
        u = polar(&u);
        v = polar(&v);
        mat want = product(&u, s, &v, k * T);
        options o = {0}, white = {0}, none = {0}, gram = {0};
        expect(x, "tsv_m", T, &o, &want, 1e-9);
        choose(&white, "orthogonalize", "whiten");
        expect(x, "tsv_m", T, &white, &want, 1e-9);
        choose(&none, "orthogonalize", "none");
        expect(x, "tsv_m", T, &none, &plain, 1e-9);
        choose(&gram, "route", "gram");
        expect(x, "tsv_m", T, &gram, &want, 1e-6);
        expect(x, "tsv_m", 1, &o, &x->t[0], 1e-9);  // one model comes back
    }
}

// Compression: what tsv_c keeps gives back the leading triples of a task, and vectors whole.
static void compress(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        int side = x->base.m < x->base.n ? x->base.m : x->base.n, k = side / T;
        mat in[T];
        tarn_model *b = model_shaped(&x->cx, &x->f, x->base.a), *m[T], *kept;
        tarn_error err = {0};
        for (int t = 0; t < T; t++) {
            in[t] = plus(&x->base, 1, &x->t[t]);
            m[t] = model_shaped(&x->cx, &x->f, in[t].a);
        }
        for (int flat = 0; flat < 2; flat++) {
            OK(tarn_method_apply(&x->cx, tarn_method_find("tsv_c"), b, T, m, 0, NULL, NULL, &kept, &err));
            assert_int_equal(kept->n, flat ? 1 : 3);
            assert_true(kept->mass == 0);
            for (int t = 0; t < T; t++) {
                triples p = svd(&x->t[t]);
                mat low = flat ? x->t[t] : product(&p.u, p.s, &p.v, k), want = plus(&x->base, 1, &low), y = want;
                options o = {0};
                set(&o, "task", t + 1);
                apply(&x->cx, "tsv_task", b, 1, &kept, &o, want.m * want.n, y.a);
                close_to(y.a, want.a, want.m * want.n, 1e-9, "tsv_task");
            }
            tarn_model *none;
            options o = {0};
            set(&o, "task", T + 1);
            OK(tarn_method_apply(&x->cx, tarn_method_find("tsv_task"), b, 1, &kept, o.n, o.v, NULL, &none, &err));
            tarn_model *loaded;
            assert_int_not_equal(tarn_model_load(&x->cx, none, &loaded, &err), TARN_OK);
            assert_string_equal(err.code, "OptionRange");
            tarn_error_clear(&err);
            tarn_model_release(none);
            tarn_model_release(kept);
            for (int i = 0; i <= T; i++) {  // the same numbers as vectors
                tarn_model **at = i < T ? &m[i] : &b;
                tarn_model_release(*at);
                *at = model_named(&x->cx, "u", TARN_F64, x->base.m * x->base.n, i < T ? in[i].a : x->base.a);
            }
        }
        for (int i = 0; i < T; i++) {
            tarn_model_release(m[i]);
        }
        tarn_model_release(b);
    }
}

static void interference(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        int side = x->base.m < x->base.n ? x->base.m : x->base.n, k = side / T;
        mat u, v, s = zeros(k * T, k * T), d = zeros(k * T, k * T);
        for (int t = 0; t < T; t++) {
            triples p = svd(&x->t[t]);
            mat pu = columns(&p.u, 0, k), pv = columns(&p.v, 0, k);
            u = t ? beside(&u, &pu) : pu;
            v = t ? beside(&v, &pv) : pv;
            for (int i = 0; i < k; i++) {
                AT(s, t * k + i, t * k + i) = p.s[i];
            }
        }
        for (int i = 0; i < k * T; i++) {
            AT(d, i, i) = 1;
        }
        mat ut = turned(&u), vt = turned(&v), uu = times(&ut, &u), vv = times(&vt, &v);
        uu = plus(&uu, -1, &d);
        vv = plus(&vv, -1, &d);
        mat p = times(&uu, &s), q = times(&p, &vv);
        double want = 0;
        for (int i = 0; i < k * T * k * T; i++) {
            want += fabs(q.a[i]);
        }
        mat in[T];
        tarn_model *b = model_shaped(&x->cx, &x->f, x->base.a), *m[T];
        for (int t = 0; t < T; t++) {
            in[t] = plus(&x->base, 1, &x->t[t]);
            m[t] = model_shaped(&x->cx, &x->f, in[t].a);
        }
        double got;
        apply(&x->cx, "task_interference", b, T, m, &(options){0}, 1, &got);
        close_to(&got, &want, 1, 1e-8, "task_interference");
        for (int t = 0; t < T; t++) {
            tarn_model_release(m[t]);
        }
        tarn_model_release(b);
    }
}

static void iso_c(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        mat sum = plus(&x->t[0], 1, &x->t[1]);
        triples p = svd(&sum);
        double mean = 0, flat[MOST * T];
        for (int i = 0; i < p.k; i++) {
            mean += p.s[i] / p.k;
        }
        for (int i = 0; i < p.k; i++) {
            flat[i] = mean;
        }
        mat want = product(&p.u, flat, &p.v, p.k);
        options o = {0}, iterate = {0};
        expect(x, "iso_c", T, &o, &want, 1e-9);
        set(&iterate, "polar", 1);
        expect(x, "iso_c", T, &iterate, &want, 1e-8);
    }
}

static void iso_cts(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        int side = x->base.m < x->base.n ? x->base.m : x->base.n;
        for (int half = 0; half < 2; half++) {
            double share = half ? 0.4 : 0.8;
            int each = (int)nearbyint((side - (int)(share * side)) / (double)T);
            each = each * T > side ? side / T : each;
            int common = side - each * T;
            mat sum = plus(&x->t[0], 1, &x->t[1]), u = zeros(x->base.m, 0), v = zeros(x->base.n, 0);
            triples c = svd(&sum);
            mat cu = columns(&c.u, 0, common), cv = columns(&c.v, 0, common), ct = turned(&cu);
            double mean = 0, flat[MOST * T];
            for (int t = 0; t < T; t++) {
                mat inside = times(&ct, &x->t[t]), shared = times(&cu, &inside), rest = plus(&x->t[t], -1, &shared);
                triples p = svd(&rest);
                mat pu = columns(&p.u, 0, each), pv = columns(&p.v, 0, each);
                u = beside(&u, &pu);
                v = beside(&v, &pv);
                for (int i = 0; i < each; i++) {
                    mean += p.s[i] / side;
                }
            }
            u = beside(&u, &cu);
            v = beside(&v, &cv);
            for (int i = 0; i < common; i++) {
                mean += c.s[i] / side;
            }
            for (int i = 0; i < side; i++) {
                flat[i] = mean;
            }
            u = polar(&u);
            v = polar(&v);
            mat want = product(&u, flat, &v, side);
            options o = {0};
            set(&o, "common", share);
            expect(x, "iso_cts", T, &o, &want, 1e-8);
        }
    }
}

static void truncate(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        triples p = svd(&x->t[0]);
        double total = 0, sum = 0;
        for (int i = 0; i < p.k; i++) {
            total += p.s[i] * p.s[i];
        }
        for (int k = 1; k <= p.k; k++) {
            mat want = product(&p.u, p.s, &p.v, k);
            options rank = {0}, energy = {0}, both = {0}, random = {0};
            set(&rank, "rank", k);
            expect(x, "svd_truncate", 1, &rank, &want, 1e-9);
            sum += p.s[k - 1] * p.s[k - 1];
            set(&energy, "energy", (sum - 0.5 * p.s[k - 1] * p.s[k - 1]) / total);  // k triples reach it, k - 1 do not
            expect(x, "svd_truncate", 1, &energy, &want, 1e-9);
            set(&both, "rank", k);
            set(&both, "energy", 0.999999999);
            expect(x, "svd_truncate", 1, &both, &want, 1e-9);
            set(&random, "rank", k);
            choose(&random, "route", "random");  // 10 further columns span the whole of so small a matrix
            expect(x, "svd_truncate", 1, &random, &want, 1e-7);
        }
    }
}

static void star(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        for (int e = 1; e < 4; e++) {
            double eta = 0.3 * e;
            mat mean = zeros(x->base.m, x->base.n);
            for (int t = 0; t < T; t++) {
                triples p = svd(&x->t[t]);
                double total = 0, kept = 0, s[MOST * T];
                int r = 0;
                for (int i = 0; i < p.k; i++) {
                    total += p.s[i];
                }
                while (kept < eta * total) {
                    kept += p.s[r++];
                }
                for (int i = 0; i < r; i++) {
                    s[i] = p.s[i] * total / kept;
                }
                mat one = product(&p.u, s, &p.v, r);
                mean = plus(&mean, 1.0 / T, &one);
            }
            options o = {0}, sum = {0};
            set(&o, "eta", eta);
            expect(x, "star", T, &o, &mean, 1e-9);
            mean = plus(&mean, 1, &mean);
            set(&sum, "eta", eta);
            set(&sum, "normalize", 0);
            expect(x, "star", T, &sum, &mean, 1e-9);
        }
    }
}

static void cart(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        mat half = plus(&x->t[0], -1, &x->t[1]), offset = plus(&x->t[0], 1, &x->t[1]);
        for (int i = 0; i < half.m * half.n; i++) {
            offset.a[i] /= 2;
            half.a[i] /= 2;
        }
        int side = half.m < half.n ? half.m : half.n, k = side / 2;
        triples p = svd(&half);  // the other task's offset is its negative
        mat low = product(&p.u, p.s, &p.v, k);
        options o = {0}, all = {0};
        set(&o, "share", 0.5);
        set_of(&o, "weight", 0, 0.75);
        set_of(&o, "weight", 1, 0.25);
        mat want = plus(&offset, 0.5, &low);
        expect(x, "cart", T, &o, &want, 1e-9);
        set(&all, "share", 1);
        expect(x, "cart", T, &all, &offset, 1e-9);
    }
}

static void wudi(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        mat k = zeros(x->base.n, x->base.n), r = zeros(x->base.m, x->base.n), d = plus(&x->t[0], 1, &x->t[1]);
        for (int t = 0; t < T; t++) {
            mat tt = turned(&x->t[t]), gram = times(&tt, &x->t[t]), own;
            double size = dot_of(x->base.m * x->base.n, x->t[t].a, x->t[t].a);
            k = plus(&k, 1 / size, &gram);
            own = times(&x->t[t], &gram);
            r = plus(&r, 1 / size, &own);
        }
        triples e = svd(&k);
        mat inverse = zeros(k.m, k.n);
        for (int l = 0; l < e.k && e.s[l] > 1e-10 * e.s[0]; l++) {
            for (int i = 0; i < k.n * k.n; i++) {
                inverse.a[i] += AT(e.u, i / k.n, l) * AT(e.v, i % k.n, l) / e.s[l];
            }
        }
        mat best = times(&r, &inverse), m = zeros(d.m, d.n), v = zeros(d.m, d.n);
        options closed = {0}, adam = {0};
        choose(&closed, "solve", "closed");
        expect(x, "wudi", T, &closed, &best, 1e-7);
        set(&adam, "rate", 0.01);
        set(&adam, "steps", 7);
        for (int step = 1; step <= 7; step++) {
            mat dk = times(&d, &k);
            for (int i = 0; i < d.m * d.n; i++) {
                double g = 2 * (dk.a[i] - r.a[i]);
                m.a[i] = 0.9 * m.a[i] + 0.1 * g;
                v.a[i] = 0.999 * v.a[i] + 0.001 * g * g;
                d.a[i] -= 0.01 * (m.a[i] / (1 - pow(0.9, step))) / (sqrt(v.a[i] / (1 - pow(0.999, step))) + 1e-8);
            }
        }
        expect(x, "wudi", T, &adam, &d, 1e-9);
    }
}

// TIES over the joint coordinates: the k largest of a task that are not zero, signs by their sum.
static void knots(void **state) {
    fixture *x = *state;
    EACH_SHAPE(x) {
        mat joint = beside(&x->t[0], &x->t[1]);
        triples p = svd(&joint);
        int n = x->base.n, count = p.k * n, keep = (int)(0.3 * count);
        double c[T][MOST * MOST * T], m[MOST * MOST * T];
        for (int t = 0; t < T; t++) {
            double sizes[MOST * MOST * T];
            for (int i = 0; i < count; i++) {
                c[t][i] = p.s[i / n] * AT(p.v, t * n + i % n, i / n);
                sizes[i] = fabs(c[t][i]);
            }
            for (int i = 0; i < count; i++) {
                int above = 0;
                for (int j = 0; j < count; j++) {
                    above += sizes[j] > sizes[i];
                }
                c[t][i] = above < keep ? c[t][i] : 0;
            }
        }
        for (int i = 0; i < count; i++) {
            double sum = c[0][i] + c[1][i], sign = sum >= 0 ? 1 : -1, total = 0;
            int agree = 0;
            for (int t = 0; t < T; t++) {
                total += c[t][i] * sign > 0 ? c[t][i] : 0;
                agree += c[t][i] * sign > 0;
            }
            m[i] = agree ? total / agree : 0;
        }
        mat want = zeros(x->base.m, n), mean = plus(&x->t[0], 1, &x->t[1]);
        for (int i = 0; i < x->base.m; i++) {
            for (int j = 0; j < n; j++) {
                for (int l = 0; l < p.k; l++) {
                    AT(want, i, j) += AT(p.u, i, l) * m[l * n + j];
                }
                AT(mean, i, j) /= 2;
            }
        }
        options ties = {0}, tensor = {0}, plain = {0};
        set(&ties, "density", 0.3);
        expect(x, "knots", T, &ties, &want, 1e-9);
        set(&tensor, "density", 0.3);
        choose(&tensor, "trim", "tensor");
        expect(x, "knots", T, &tensor, &want, 1e-9);
        choose(&plain, "inner", "mean");
        expect(x, "knots", T, &plain, &mean, 1e-9);
    }
}

// Vectors, and tensors of more dimensions, get the mean offset, unless they are asked for; nothing
// breaks on empty, zero and tiny operands.
static void other_tensors(void **state) {
    fixture *x = *state;
    static const char *const names[] = {"svd_truncate", "tsv_m", "iso_c", "iso_cts", "wudi", "knots", "star", "cart"};
    fill(x, 4, 6, 3);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int tasks = i == 0 ? 1 : T;
        mat mean = i == 0 ? x->t[0] : plus(&x->t[0], 1, &x->t[1]);
        for (int k = 0; k < 24; k++) {
            mean.a[k] /= tasks;
        }
        options o = {0}, all = {0};
        if (i == 0) {
            set(&o, "rank", 1);
            set(&all, "rank", 1);
        }
        mat flat = run(x, names[i], tasks, &o);
        x->f = (form){TARN_F64, 1, 3, {4, 2, 3}};
        mat y = run(x, names[i], tasks, &o), want = plus(&x->base, 1, &mean);
        close_to(y.a, want.a, 24, 1e-12, names[i]);
        choose(&all, "tensors", "all");
        x->f.rank = 3;
        mat z = zeros(4, 6), in[T];
        const double *p[T];
        for (int k = 0; k < tasks; k++) {
            in[k] = plus(&x->base, 1, &x->t[k]);
            p[k] = in[k].a;
        }
        run_shaped(&x->cx, &x->f, names[i], strcmp(names[i], "cart") ? x->base.a : NULL, tasks, p, &all, z.a);
        close_to(z.a, flat.a, 24, 1e-12, names[i]);
        x->f = (form){TARN_F64, 1, 2, {4, 6}};
        options none = {0};
        holds_up(&x->cx, names[i], strcmp(names[i], "cart") != 0, tasks, &none, false);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tsv_m, start, stop),
        cmocka_unit_test_setup_teardown(compress, start, stop),
        cmocka_unit_test_setup_teardown(interference, start, stop),
        cmocka_unit_test_setup_teardown(iso_c, start, stop),
        cmocka_unit_test_setup_teardown(iso_cts, start, stop),
        cmocka_unit_test_setup_teardown(truncate, start, stop),
        cmocka_unit_test_setup_teardown(star, start, stop),
        cmocka_unit_test_setup_teardown(cart, start, stop),
        cmocka_unit_test_setup_teardown(wudi, start, stop),
        cmocka_unit_test_setup_teardown(knots, start, stop),
        cmocka_unit_test_setup_teardown(other_tensors, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
