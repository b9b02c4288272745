// SPDX-License-Identifier: Apache-2.0
// Running plans: into a checkpoint, into memory, into numbers.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "merge/plan/output.h"
#include "merge/plan/plan.h"

// Runs the jobs with their results in memory.
static tarn_status run_load(tarn_plan *p, const char *what, tarn_tensor *t, tarn_error *err) {
    tarn_stream_plan total;
    TARN_TRY(tarn_stream_plan_of(p->cx, p->count, p->jobs, &total, NULL, err));
    tarn_progress_begin(p->cx, what, total.reads + total.writes);
    tarn_status s = tarn_stream_load(p->cx, p->count, p->jobs, t, err);
    tarn_progress_end(p->cx);
    return s;
}

// In memory nothing is rounded to the dtype of the output: what follows sees the same values as in a
// plan.
static void keep_unrounded(tarn_plan *p) {
    for (int64_t i = 0; i < p->n; i++) {
        p->jobs[i].store = p->jobs[i].root->desc.dtype;
    }
}

// The writer's tensors are given in the order of jobs.
static tarn_status put(void *arg, int64_t job, uint64_t at, const void *p, uint64_t n,
                       tarn_error *err) {
    return tarn_writer_put(arg, job, at, p, n, err);
}

static tarn_status run_into(tarn_plan *p, tarn_writer *w, tarn_error *err) {
    tarn_progress_begin(p->cx, "merging", p->traffic);
    tarn_sink sink = {put, w};
    tarn_status s = tarn_plan_run(p, &sink, err);
    tarn_progress_end(p->cx);
    return s;
}

static tarn_status open_writer(tarn_plan *p, const char *path, const tarn_save_options *o,
                               tarn_writer **w, tarn_error *err) {
    tarn_writer_tensor *t = tarn_alloc(&p->cx->budget, (size_t)p->n * sizeof *t + 1);
    if (!t) {
        return tarn_raise_nomem(err, "the list of tensors", (size_t)p->n * sizeof *t);
    }
    for (int64_t i = 0; i < p->n; i++) {
        const tarn_slot *s = &p->model->slots[p->slot[i]];
        t[i] = (tarn_writer_tensor){.name = s->name, .name_len = s->len, .dtype = p->jobs[i].store,
                                    .rank = s->rank, .shape = s->shape};
    }
    tarn_writer_options wo = {.overwrite = o->overwrite, .max_shard_size = o->max_shard_size,
                              .weights = o->adapter ? "adapter_model.safetensors" : NULL};
    tarn_status s = tarn_writer_open(p->cx, path, p->n, t, &wo, w, err);
    tarn_free(&p->cx->budget, t, (size_t)p->n * sizeof *t + 1);
    return s;
}

// Data, then what has to wait for it: content digests, side files, the check that inputs stayed.
static tarn_status fill(tarn_plan *p, tarn_writer *w, const tarn_save_options *o, bool dressed,
                        tarn_provenance *from, tarn_digested *inputs, tarn_error *err) {
    TARN_TRY(tarn_output_inputs(p->model, inputs, &from->n, err));
    TARN_TRY(dressed ? tarn_output_metadata(p, w, from, err) : TARN_OK);
    TARN_TRY(run_into(p, w, err));
    if (dressed) {
        TARN_TRY(tarn_output_digests(inputs, from->n, err));
        TARN_TRY(tarn_output_metadata(p, w, from, err));
        TARN_TRY(tarn_output_sides(p, w, o, from, err));
    }
    return tarn_output_unchanged(p->model, err);
}

static void warn_of_replaced(tarn_context *cx, const char *path, const tarn_provenance *from) {
    struct stat out, in;
    if (stat(path, &out) != 0) {
        return;
    }
    for (int k = 0; k < from->n; k++) {
        const char *read = from->inputs[k].input->path;
        if (read && stat(read, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
            tarn_warn(cx, "%s replaces its own input: replaying it will need a copy of what was there", path);
            return;
        }
    }
}

tarn_status tarn_plan_save(tarn_plan *p, const char *path, const tarn_save_options *o, bool dressed,
                           tarn_error *err) {
    TARN_TRY(tarn_plan_check(p, err));
    tarn_text plan;
    tarn_text_init(&plan, &p->cx->budget);
    size_t bytes = TARN_PLAN_INPUTS * sizeof(tarn_digested);
    tarn_digested *inputs = tarn_alloc(&p->cx->budget, bytes);
    tarn_provenance from = {.inputs = inputs};
    tarn_writer *w = NULL;
    tarn_status s = inputs ? TARN_OK : tarn_raise_nomem(err, "provenance", bytes);
    s = s == TARN_OK ? tarn_plan_json(p->model, &p->options, &plan, &from.replayable, err) : s;
    s = s == TARN_OK ? open_writer(p, path, o, &w, err) : s;
    if (s == TARN_OK) {
        from.path = path;
        from.plan = plan.data;
        s = fill(p, w, o, dressed, &from, inputs, err);
        if (s == TARN_OK) {
            warn_of_replaced(p->cx, path, &from);
            s = tarn_writer_commit(w, err);
        } else {
            tarn_writer_abort(w);
        }
    }
    tarn_free(&p->cx->budget, inputs, bytes);
    tarn_text_free(&plan);
    return s;
}

tarn_status tarn_model_save(tarn_context *cx, tarn_model *m, const char *path,
                            const tarn_save_options *o, tarn_error *err) {
    if (m->mass != 1 && fabs(m->mass - 1) > 1e-6) {
        tarn_warn(cx, "%s: mass %g, not 1: this looks like %s, not like a model", path, m->mass,
                  m->mass == 0 ? "a task vector" : "an unbalanced sum");
    }
    tarn_plan *p;
    TARN_TRY(tarn_plan_survey(cx, m, &o->plan, &p, err));
    tarn_status s = tarn_plan_save(p, path, o, true, err);
    tarn_plan_free(p);
    return s;
}

tarn_status tarn_model_load(tarn_context *cx, tarn_model *m, tarn_model **out, tarn_error *err) {
    tarn_plan *p;
    TARN_TRY(tarn_plan_make(cx, m, NULL, NULL, &p, err));
    keep_unrounded(p);
    size_t bytes = (size_t)p->count * sizeof(tarn_tensor) + 1, list = (size_t)p->n * sizeof(char *) + 1;
    tarn_tensor *t = tarn_alloc_zero(&cx->budget, bytes);
    const char **names = tarn_alloc(&cx->budget, list);
    tarn_status s = t && names ? tarn_plan_check(p, err) : tarn_raise_nomem(err, "a model", bytes);
    if (s == TARN_OK) {
        // Hidden jobs come last and have no result.
        s = run_load(p, "loading", t, err);
    }
    if (s == TARN_OK) {
        for (int64_t i = 0; i < p->n; i++) {
            names[i] = p->jobs[i].name;
        }
        s = tarn_model_of_tensors(cx, p->n, names, t, m->mass, m, out, err);
    }
    for (int64_t i = 0; t && i < p->n; i++) {
        tarn_tensor_release(&t[i]);
    }
    tarn_free(&cx->budget, t, bytes);
    tarn_free(&cx->budget, (void *)names, list);
    tarn_plan_free(p);
    return s;
}

tarn_status tarn_model_tensor(tarn_context *cx, tarn_model *m, int64_t slot, tarn_tensor *out,
                              tarn_error *err) {
    unsigned char *want = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    if (!want) {
        return tarn_raise_nomem(err, "a tensor", (size_t)m->n);
    }
    want[slot] = 1;
    tarn_plan *p = NULL;
    tarn_status s = tarn_plan_make(cx, m, want, NULL, &p, err);
    tarn_free(&cx->budget, want, (size_t)m->n + 1);
    size_t bytes = p ? (size_t)p->count * sizeof(tarn_tensor) : 0;
    tarn_tensor *t = s == TARN_OK ? tarn_alloc_zero(&cx->budget, bytes) : NULL;
    if (s == TARN_OK) {
        keep_unrounded(p);
        s = t ? tarn_plan_check(p, err) : tarn_raise_nomem(err, "a tensor", bytes);
        s = s == TARN_OK ? run_load(p, "loading", t, err) : s;
    }
    if (s == TARN_OK) {
        *out = t[0];
    }
    tarn_free(&cx->budget, t, bytes);
    tarn_plan_free(p);
    return s;
}

// ---- numbers of whole models ----

// A job per tensor, over the names of one model or of two.
typedef struct {
    tarn_model *lead;  // the model that the slot at hand is of
    int n;
    tarn_model *const *a, *const *b;
} numbers;
typedef const tarn_node *(*number_fn)(tarn_expand *e, void *arg, int64_t slot);

// Adds a job for each floating tensor of m, and of those of `other` (may be NULL) that m lacks, in byte
// order of names.
static tarn_status add_numbers(tarn_plan *p, tarn_model *m, tarn_model *other, number_fn build,
                               numbers *arg, tarn_error *err) {
    int64_t i = 0, j = 0, n = other ? other->n : 0;
    while (i < m->n || j < n) {
        const tarn_slot *x = i < m->n ? &m->slots[m->by_name[i]] : NULL;
        const tarn_slot *y = j < n ? &other->slots[other->by_name[j]] : NULL;
        int order = !x ? 1 : !y ? -1 : tarn_slot_order(x, y);
        int64_t at = order <= 0 ? m->by_name[i] : other->by_name[j];
        arg->lead = order <= 0 ? m : other;
        i += order <= 0;
        j += order >= 0;
        if (!tarn_slot_integer(&arg->lead->slots[at]) &&
            (order <= 0 || tarn_match_slot(other, at, m) < 0)) {
            TARN_TRY(tarn_plan_add(p, &arg->lead->slots[at], build, arg, at, err));
        }
    }
    return TARN_OK;
}

// Runs one rank-1 job per floating tensor (made by `build`) and adds the results up in byte order of
// names; `most`: takes the largest instead.
static tarn_status run_numbers(tarn_context *cx, tarn_model *m, tarn_model *other, number_fn build,
                               numbers *arg, int k, const bool *most, double *out, tarn_error *err) {
    tarn_plan *p = NULL;
    unsigned char *none = tarn_alloc_zero(&cx->budget, (size_t)m->n + 1);
    if (!none) {
        return tarn_raise_nomem(err, "a reduction", (size_t)m->n);
    }
    tarn_status s = tarn_plan_make(cx, m, none, NULL, &p, err);  // empty: holds the jobs made here
    tarn_free(&cx->budget, none, (size_t)m->n + 1);
    TARN_TRY(s);
    s = add_numbers(p, m, other, build, arg, err);
    p->n = p->count;
    s = s == TARN_OK ? tarn_plan_hidden(p, err) : s;
    size_t bytes = (size_t)p->count * sizeof(tarn_tensor) + 1;
    tarn_tensor *t = s == TARN_OK ? tarn_alloc_zero(&cx->budget, bytes) : NULL;
    if (s == TARN_OK) {
        s = t ? run_load(p, "reading", t, err) : tarn_raise_nomem(err, "a reduction", bytes);
    }
    for (int q = 0; q < k; q++) {
        out[q] = 0;
    }
    for (int64_t i = 0; t && i < p->n; i++) {
        for (int q = 0; s == TARN_OK && q < k; q++) {
            double v = tarn_tensor_get(&t[i], q);
            out[q] = !most[q] ? out[q] + v : v > out[q] || v != v ? v : out[q];
        }
        tarn_tensor_release(&t[i]);
    }
    if (t) {
        tarn_free(&cx->budget, t, bytes);
    }
    tarn_plan_free(p);
    return s;
}

static const tarn_node *column(tarn_graph *g, int n, const tarn_node **cell) {
    for (int q = 0; q < n; q++) {
        cell[q] = tarn_cast(g, cell[q], TARN_F64);
    }
    return tarn_stack(g, n, cell);
}

static const tarn_node *build_dots(tarn_expand *e, void *arg, int64_t slot) {
    const numbers *d = arg;
    const tarn_node *cell[8];
    for (int q = 0; q < d->n; q++) {
        int64_t i = d->a[q] == d->lead ? slot : tarn_match_slot(d->lead, slot, d->a[q]);
        int64_t j = d->b[q] == d->lead ? slot : tarn_match_slot(d->lead, slot, d->b[q]);
        // A vector without this coordinate is zero there.
        const tarn_node *x = i < 0 || j < 0 ? NULL : tarn_model_expr(e, d->a[q], i);
        const tarn_node *y = x ? tarn_model_expr(e, d->b[q], j) : NULL;
        cell[q] = y ? tarn_dot(e->graph, x, y) : tarn_num(e->graph, 0);
    }
    return column(e->graph, d->n, cell);
}

tarn_status tarn_model_dots(tarn_context *cx, int n, tarn_model *const *a, tarn_model *const *b,
                            double *out, tarn_error *err) {
    static const bool add[8] = {false};
    tarn_model *other = NULL;
    for (int q = 0; q < n; q++) {
        if (a[q] != b[q]) {
            bool vector = a[q]->mass == 0 || b[q]->mass == 0;
            TARN_TRY(tarn_model_compare(a[q], b[q], a[q]->policy.missing, vector, err));
            TARN_TRY(tarn_model_compare(b[q], a[q], a[q]->policy.missing, vector, err));
            other = b[q] == a[0] ? a[q] : b[q];
        }
    }
    numbers d = {.n = n, .a = a, .b = b};
    return run_numbers(cx, a[0], other, build_dots, &d, n, add, out, err);
}

static const tarn_node *build_sizes(tarn_expand *e, void *arg, int64_t slot) {
    const tarn_node *x = tarn_abs(e->graph, tarn_model_expr(e, ((const numbers *)arg)->lead, slot));
    if (!x) {
        return NULL;
    }
    const tarn_node *cell[2] = {tarn_total(e->graph, &tarn_op_sum, x), tarn_num(e->graph, 0)};
    if (tarn_desc_numel(&x->desc) > 0) {
        cell[1] = tarn_total(e->graph, &tarn_op_max, x);
    }
    return column(e->graph, 2, cell);
}

tarn_status tarn_model_sizes(tarn_context *cx, tarn_model *m, double *l1, double *linf,
                             tarn_error *err) {
    static const bool most[2] = {false, true};
    double out[2];
    numbers d = {0};
    TARN_TRY(run_numbers(cx, m, NULL, build_sizes, &d, 2, most, out, err));
    *l1 = out[0];
    *linf = out[1];
    return TARN_OK;
}
