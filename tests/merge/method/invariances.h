// SPDX-License-Identifier: Apache-2.0
// For the tests that walk the table of methods: what each method has to be given and which promises
// it does not make, with the reason.
#ifndef TARN_TESTS_MERGE_METHOD_INVARIANCES_H
#define TARN_TESTS_MERGE_METHOD_INVARIANCES_H

#include "tests/merge/method/values.h"
#include "vm/base/digest.h"

// ---- the tables ----

// Required options, for all tests.
static const struct {
    const char *method, *option;
    double value;
} required[] = {
    {"nearswap", "t", 1e300},
    {"lines", "alpha", 1},
    {"lines", "beta", 0},
    {"emr", "task", 1},
};

// Options with which a method keeps its promises: where it takes all of a task vector.
static const struct {
    const char *method, *option;
    double value;  // of a choice: text
    const char *text;
} whole[] = {
    {"ties", "density", 1, NULL},
    {"dare_linear", "density", 1, NULL},
    {"dare_ties", "density", 1, NULL},
    {"breadcrumbs", "density", 1, NULL},
    {"breadcrumbs_ties", "density", 1, NULL},
    {"sce", "density", 1, NULL},
    {"wise_ft", "alpha", 1, NULL},
    {"paint", "alpha", 1, NULL},
    {"expo", "alpha", 0, NULL},
    {"warp", "eta", 1, NULL},
    {"della", "density", 1, NULL},
    {"della_linear", "density", 1, NULL},
    {"dropout", "density", 1, NULL},
    {"consensus_ta", "k", 0, NULL},
    {"consensus_ties", "k", 0, NULL},
    {"consensus_ties", "density", 1, NULL},
    {"knots", "inner", 0, "mean"},
    {"star", "eta", 1, NULL},
};

enum {
    ONE = 1,    // one model besides the base gives itself back
    EQUAL = 2,  // so do equal models
    STILL = 4,  // models equal to the base give the base
    ORDER = 8,  // models may change places
    SCALE = 16, // all operands times a number give that many times the result
};

// Promises that are not made, and why not.
static const struct {
    const char *method;
    unsigned not ;
    const char *why;
} broken[] = {
    {"task_arithmetic", EQUAL, "adds the task vectors"},
    {"dare_linear", EQUAL | ORDER, "adds the task vectors; masks go by the model's number"},
    {"dare_ties", ORDER, "masks go by the model's number"},
    {"breadcrumbs", EQUAL, "adds the task vectors"},
    {"breadcrumbs_ties", EQUAL, "adds the task vectors"},
    {"arcee_fusion", ONE | EQUAL | SCALE, "keeps what stands out by softmax"},
    {"ram", SCALE, "counts what moved by more than epsilon"},
    {"ramplus", SCALE, "counts what moved by more than epsilon"},
    {"nearswap", SCALE, "t is a distance"},
    {"ema", ORDER, "models are checkpoints in order"},
    {"add_difference", ORDER, "each operand has a part"},
    {"train_difference", ORDER, "each operand has a part"},
    {"cosine_add_difference", ORDER, "each operand has a part"},
    {"sum_twice", ORDER, "each operand has a part"},
    {"tensor_sum", ORDER, "each operand has a part"},
    {"rank_crossover", ORDER, "each operand has a part"},
    {"distribution_crossover", ORDER, "each operand has a part"},
    {"frequency_crossover", ORDER, "each operand has a part"},
    {"rotate", ORDER, "each operand has a part"},
    {"emr", ORDER, "is the model of one task"},
    {"della", ORDER, "masks go by the model's number"},
    {"della_linear", EQUAL | ORDER, "adds the task vectors; masks go by the model's number"},
    {"dropout", ORDER, "masks go by the model's number"},
    {"paint", EQUAL, "adds the patches"},
    {"warp", ORDER, "models are joined one after another"},
    {"consensus_ta", EQUAL, "adds the task vectors"},
    {"consensus_ties", EQUAL, "adds the task vectors"},
    {"pcb", ONE | EQUAL | SCALE, "keeps the entries with the best scores, through tanh"},
    {"lines", EQUAL, "adds the task vectors"},
    {"tsv_m", EQUAL, "adds the task vectors"},
    {"iso_c", ONE | EQUAL, "makes the spectrum flat"},
    {"iso_cts", ONE | EQUAL, "makes the spectrum flat"},
    {"wudi", EQUAL | SCALE, "starts from the sum of the task vectors, and steps of Adam have a size"},
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

// Its operands are no plain models, but what other methods make (masks, factors), or it needs statistics
// (test_curvature.c).
static inline bool is_special(const tarn_method *m) { return (m->needs & TARN_BESIDE) || m->statistics; }
static inline bool promises(const tarn_method *m, unsigned what) {
    for (size_t i = 0; i < COUNT(broken); i++) {
        if (strcmp(broken[i].method, m->name) == 0) {
            return !(broken[i].not &what);
        }
    }
    return true;
}

static inline options options_of(const tarn_method *m, bool promise) {
    options o = {0};
    for (const tarn_param *p = m->params; p->name; p++) {
        bool found = !isnan(p->def) || p->type == TARN_CHOICE;
        for (size_t i = 0; i < COUNT(required); i++) {
            if (strcmp(required[i].method, m->name) == 0 &&
                strcmp(required[i].option, p->name) == 0) {
                set(&o, p->name, required[i].value);
                found = true;
            }
        }
        if (!found) {
            fail_msg("%s: %s is required: the table `required` lacks a value", m->name, p->name);
        }
    }
    for (size_t i = 0; promise && i < COUNT(whole); i++) {
        if (strcmp(whole[i].method, m->name) == 0 && whole[i].text) {
            choose(&o, whole[i].option, whole[i].text);
        } else if (strcmp(whole[i].method, m->name) == 0) {
            set(&o, whole[i].option, whole[i].value);
        }
    }
    return o;
}

// ---- running a method ----

// All numbers of the result, tensor after tensor; the caller frees them.
static inline double *computed(tarn_context *cx, const tarn_method *m, tarn_model *base, int k,
                               tarn_model *const *in, bool promise, int64_t *n) {
    options o = options_of(m, promise);
    tarn_model *planned = planned_of(cx, m->name, m->needs & TARN_NEEDS_BASE ? base : NULL, k, in, &o);
    int64_t room = tarn_model_numel(planned);
    double *y = malloc(((size_t)room + 1) * sizeof *y);
    assert_non_null(y);
    *n = row_of(cx, planned, room, y);
    tarn_model_release(planned);
    return y;
}
static inline double *result(tarn_context *cx, const tarn_method *m, const cut *f,
                             const double *base, int k, const double *const *x, bool promise,
                             int64_t *n) {
    tarn_model *b = model_cut(cx, f, base), *in[8];
    for (int i = 0; i < k; i++) {
        in[i] = model_cut(cx, f, x[i]);
    }
    double *y = computed(cx, m, b, k, in, promise, n);
    tarn_model_release(b);
    for (int i = 0; i < k; i++) {
        tarn_model_release(in[i]);
    }
    return y;
}

static inline int models_of(const tarn_method *m) {
    return m->most < 0 || m->most > 3 ? 3 : m->most;
}

// ---- threads ----

// The same bytes for any number of threads; counts ends with 0.
static inline void same_for_threads(const cut *f, const int *counts) {
    int64_t all = 0;
    for (int i = 0; i < f->n; i++) {
        all += numel_of(&f->slots[i]);
    }
    enum { MOST = 256 };
    double *x[4];
    uint64_t seed = 9, first[MOST] = {0};
    for (int k = 0; k < 4; k++) {
        x[k] = malloc((size_t)all * sizeof **x);
        assert_non_null(x[k]);
        for (int64_t i = 0; i < all; i++) {
            x[k][i] = (k ? x[0][i] : 0) + (k ? 0.1 : 1) * test_uniform(&seed);
        }
    }
    for (const int *c = counts; *c; c++) {
        tarn_context cx;
        open_context(&cx, *c, NULL);
        tarn_model *in[4];
        for (int k = 0; k < 4; k++) {
            in[k] = model_cut(&cx, f, x[k]);
        }
        for (int i = 0; tarn_methods[i]; i++) {
            const tarn_method *m = tarn_methods[i];
            int64_t n;
            if (is_special(m)) {
                continue;
            }
            assert_true(i < MOST);
            double *y = computed(&cx, m, in[0], models_of(m), in + 1, false, &n);
            uint64_t hash = tarn_hash64((uint64_t)n, y, (size_t)n * sizeof *y);
            first[i] = c == counts ? hash : first[i];
            if (first[i] != hash) {
                fail_msg("%s: %d threads give other bytes than %d", m->name, *c, *counts);
            }
            free(y);
        }
        for (int k = 0; k < 4; k++) {
            tarn_model_release(in[k]);
        }
        tarn_context_free(&cx);
    }
    for (int k = 0; k < 4; k++) {
        free(x[k]);
    }
}

#endif
