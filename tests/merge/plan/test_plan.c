// SPDX-License-Identifier: Apache-2.0
// The text of a plan: canonical, read back to the same text, and hostile. Thousands of mutations of a
// plan that holds every kind of node are read, planned and, where they still stand, run under a small
// budget: an error or a result, never a crash and never a byte left behind.
#include <math.h>

#include "merge/plan/plan.h"
#include "tests/support.h"

#define DATA TARN_SOURCE_DIR "/examples/data/"

static const char *find_path(void *arg, const char *label, int k) {
    (void)arg;
    (void)k;
    return strcmp(label, "base") == 0  ? DATA "base.safetensors"
           : strcmp(label, "low") == 0 ? DATA "low.safetensors"
           : strcmp(label, "high") == 0 ? DATA "high.safetensors"
                                        : NULL;
}

static tarn_model *open_model(tarn_context *cx, const char *label) {
    tarn_error err = {0};
    tarn_model *m;
    tarn_open_options o = {.label = label};
    OK(tarn_model_open(cx, find_path(NULL, label, 0), &o, &m, &err));
    return m;
}

// r, and what it was made from let go.
static tarn_model *from(tarn_model *r, tarn_model *a, tarn_model *b) {
    tarn_model_release(a);
    tarn_model_release(b);
    return r;
}

static tarn_model *join_of(tarn_context *cx, tarn_model *x) {
    tarn_error err = {0};
    unsigned char keep[6], rest[6];
    tarn_model *part[2], *r;
    for (int64_t i = 0; i < 6; i++) {
        keep[i] = strstr(x->slots[i].name, "fc1") != NULL;
        rest[i] = !keep[i];
    }
    OK(tarn_model_only(cx, x, keep, &part[0], &err));
    OK(tarn_model_only(cx, x, rest, &part[1], &err));
    OK(tarn_model_join(cx, 2, part, &r, &err));
    return from(from(r, part[0], part[1]), x, NULL);
}

static tarn_model *renamed(tarn_context *cx, tarn_model *x) {
    tarn_error err = {0};
    char room[6][32];
    const char *names[6];
    tarn_model *r;
    for (int64_t i = 0; i < 6; i++) {
        snprintf(room[i], sizeof room[i], "net.%s", x->slots[i].name);
        names[i] = room[i];
    }
    OK(tarn_model_rename(cx, x, names, &r, &err));
    return from(r, x, NULL);
}

// clamp(0.5 x + sum(y), -1, inf) of the matrices; of the others y as it is.
static tarn_model *mapped(tarn_context *cx, tarn_model *x, tarn_model *y) {
    tarn_error err = {0};
    tarn_model *in[2] = {x, y}, *r;
    tarn_graph *g = tarn_graph_new(cx);
    tarn_template t[6];
    int which[6], n = 0;
    for (int64_t j = 0; j < x->n; j++) {
        const tarn_slot *s = &x->slots[x->by_name[j]];
        tarn_desc d = {.dtype = TARN_F32, .rank = s->rank};
        memcpy(d.shape, s->shape, (size_t)s->rank * sizeof *d.shape);
        const tarn_node *p = tarn_leaf_input(g, &d), *q = tarn_leaf_input(g, &d), *root = q;
        if (s->rank == 2) {
            const tarn_node *sum = tarn_add(g, tarn_mul(g, p, tarn_num(g, 0.5)), tarn_total(g, &tarn_op_sum, q));
            root = tarn_maximum(g, tarn_minimum(g, sum, tarn_num(g, INFINITY)), tarn_num(g, -1));
        }
        OK(g->err.status);
        t[n] = (tarn_template){.root = root->id, .ninputs = 2, .input = {s->rank == 2 ? p->id : -1, q->id}};
        which[j] = n++;
    }
    OK(tarn_model_map(cx, 2, in, g, n, t, which, &x->policy, &r, &err));
    tarn_graph_release(g);
    return from(r, x, y);
}

static tarn_model *every_node(tarn_context *cx) {
    tarn_error err = {0};
    tarn_model *base = open_model(cx, "base"), *low = open_model(cx, "low"), *high = open_model(cx, "high");
    tarn_model *x, *y, *z;
    double each[6] = {0, 0.5, 1, -0.0, 2, 1e-9};
    tarn_value c = {.name = "c", .model = -1, .each = each, .origin = "test"};
    OK(tarn_model_binary(cx, &tarn_op_sub, low, base, &x, &err));
    OK(tarn_model_with_number(cx, &tarn_op_mul, x, &c, true, &y, &err));
    OK(tarn_model_binary(cx, &tarn_op_add, base, y, &z, &err));
    tarn_model *in[2] = {from(z, x, y), high};
    tarn_value v[3] = {{.name = "density", .model = 0, .number = 0.3},
                       {.name = "weight", .model = 1, .each = each},
                       {.name = "trim", .model = -1, .text = "tensor"}};
    OK(tarn_method_apply(cx, tarn_method_find("ties"), base, 2, in, 3, v, NULL, &x, &err));
    from(NULL, z, NULL);
    tarn_value seed = {.name = "seed", .model = -1, .number = 5};
    OK(tarn_method_apply(cx, tarn_method_find("dare_linear"), base, 1, &x, 1, &seed, NULL, &y, &err));
    x = from(y, x, NULL);
    OK(tarn_model_unary(cx, &tarn_op_neg, x, &y, &err));
    x = mapped(cx, from(y, x, NULL), tarn_model_retain(high));
    tarn_policy policy = {TARN_MISSING_BASE, true};
    OK(tarn_model_with(cx, x, &policy, &y, &err));
    x = join_of(cx, from(y, x, NULL));
    OK(tarn_model_stage(cx, x, NULL, &y, &err));
    OK(tarn_model_cast(cx, y, TARN_F16, &z, &err));
    x = from(z, from(y, x, NULL), NULL);
    OK(tarn_model_slice(cx, x, "fc1.weight", 3, 50, &y, &err));
    x = renamed(cx, from(y, x, NULL));
    tarn_model_release(base);
    tarn_model_release(low);
    tarn_model_release(high);
    return x;
}

static void text_of(tarn_context *cx, tarn_model *m, tarn_text *out) {
    tarn_error err = {0};
    bool replayable;
    tarn_plan_options o = {.has_dtype = true, .dtype = TARN_BF16};
    tarn_text_init(out, &cx->budget);
    OK(tarn_plan_json(m, &o, out, &replayable, &err));
    assert_true(replayable);
}

static void read_back(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 2, NULL);
    tarn_model *m = every_node(&cx), *again;
    tarn_text t, u;
    tarn_plan_options o;
    text_of(&cx, m, &t);
    OK(tarn_plan_read(&cx, t.data, t.len, find_path, NULL, &again, &o, &err));
    assert_true(o.has_dtype && o.dtype == TARN_BF16 && !o.allow_nonfinite);
    text_of(&cx, again, &u);
    assert_string_equal(t.data, u.data);
    // Values too.
    tarn_model *a, *b;
    OK(tarn_model_load(&cx, m, &a, &err));
    OK(tarn_model_load(&cx, again, &b, &err));
    for (int64_t i = 0; i < m->n; i++) {
        tarn_tensor p, q;
        OK(tarn_model_tensor(&cx, a, i, &p, &err));
        OK(tarn_model_tensor(&cx, b, i, &q, &err));
        assert_memory_equal(tarn_tensor_data(&p), tarn_tensor_data(&q), tarn_tensor_bytes(&p));
        tarn_tensor_release(&p);
        tarn_tensor_release(&q);
    }
    tarn_model *all[] = {m, again, a, b};
    for (int i = 0; i < 4; i++) {
        tarn_model_release(all[i]);
    }
    tarn_text_free(&t);
    tarn_text_free(&u);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// ---- mutations ----

static size_t pick(uint64_t *seed, size_t n) { return (size_t)(test_random(seed) % n); }

// Where the next token begins: a quote, a digit, a bracket.
static size_t token(const char *s, size_t n, uint64_t *seed) {
    size_t k = pick(seed, n);
    while (k + 1 < n && !strchr("\"{[0123456789-", s[k])) {
        k++;
    }
    return k;
}

static size_t token_length(const char *s, size_t n, size_t k) {
    size_t len = 1;
    if (s[k] == '"') {
        while (k + len < n && s[k + len] != '"') {
            len++;
        }
        return k + len < n ? len + 1 : len;
    }
    while (k + len < n && strchr("0123456789.eE+-", s[k + len])) {
        len++;
    }
    return len;
}

static size_t mutate(char *s, size_t n, size_t room, uint64_t *seed) {
    static const char *const words[] = {
        "0", "-1", "1", "2", "64", "65536", "2147483648", "9223372036854775807", "-9223372036854775808", "1e308", "0.5",
        "\"nan\"", "\"-inf\"", "null", "true", "[]", "{}", "[0]", "\"\"", "\"sum\"", "\"concat\"", "\"gather\"", "\"reshape\"",
        "\"matmul\"", "\"kth\"", "\"number\"", "\"input\"", "\"stage\"", "\"map\"", "\"join\"", "\"zero\"", "\"drop\"", "\"each\"",
        "\"broadcast_to\"", "\"item\"", "\"bernoulli\"", "\"where\"", "\"fc1.weight\"",
    };
    size_t k = token(s, n, seed), len = token_length(s, n, k);
    char with[512];
    size_t m = 0;
    if (pick(seed, 3) == 0) {  // another token of the same text
        size_t at = token(s, n, seed);
        m = token_length(s, n, at);
        m = m < sizeof with ? m : sizeof with;
        memcpy(with, s + at, m);
    } else if (pick(seed, 6) == 0) {
        with[0] = (char)pick(seed, 256);
        m = 1;
        len = pick(seed, 3);
    } else {
        const char *w = words[pick(seed, sizeof words / sizeof *words)];
        m = strlen(w);
        memcpy(with, w, m);
    }
    len = k + len > n ? n - k : len;
    if (n - len + m > room) {
        return n;
    }
    memmove(s + k + m, s + k + len, n - k - len);
    memcpy(s + k, with, m);
    return n - len + m;
}

static void hostile(void **state) {
    enum { MUTATIONS = 3000 };
    tarn_context cx;
    tarn_error err = {0};
    tarn_options co = {.threads = 1, .memory = (size_t)64 << 20};
    OK(tarn_context_init(&cx, &co, &err));
    tarn_model *m = every_node(&cx);
    tarn_text t;
    text_of(&cx, m, &t);
    tarn_model_release(m);
    size_t before = cx.budget.used, room = t.len + 4096;
    char *s = malloc(room);
    uint64_t seed = 20240;
    int read = 0, planned = 0, ran = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        size_t n = t.len;
        memcpy(s, t.data, n);
        for (size_t k = pick(&seed, 3) + 1; k > 0; k--) {
            n = mutate(s, n, room, &seed);
        }
        tarn_plan_options o;
        tarn_plan *p = NULL;
        tarn_error_clear(&err);
        if (tarn_plan_read(&cx, s, n, find_path, NULL, &m, &o, &err) != TARN_OK) {
            assert_true(err.message[0] != '\0' && err.code[0] != '\0');
            assert_int_equal(cx.budget.used, before);
            continue;
        }
        read++;
        if (tarn_plan_make(&cx, m, NULL, &o, &p, &err) == TARN_OK) {
            tarn_stream_plan total;
            planned += tarn_stream_plan_of(&cx, p->count, p->jobs, &total, NULL, &err) == TARN_OK;
            tarn_plan_free(p);
            tarn_model *value;
            if (planned % 8 == 0 && tarn_model_load(&cx, m, &value, &err) == TARN_OK) {
                tarn_model_release(value);
                ran++;
            }
        }
        tarn_model_release(m);
        assert_int_equal(cx.budget.used, before);
    }
    assert_true(read > 50 && planned > 50 && ran > 5);  // mutations that only ever fail test little
    free(s);
    tarn_text_free(&t);
    assert_int_equal(cx.budget.used, 0);
    tarn_context_free(&cx);
}

// Cut off anywhere: an error that says where.
static void truncated(void **state) {
    tarn_context cx;
    tarn_error err = {0};
    open_context(&cx, 1, NULL);
    tarn_model *m = every_node(&cx);
    tarn_text t;
    text_of(&cx, m, &t);
    tarn_model_release(m);
    for (size_t n = 0; n < t.len; n += n < 64 ? 1 : 97) {
        tarn_plan_options o;
        assert_int_not_equal(tarn_plan_read(&cx, t.data, n, find_path, NULL, &m, &o, &err), TARN_OK);
        assert_non_null(strstr(err.message, "plan: "));
    }
    tarn_text_free(&t);
    tarn_context_free(&cx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_back),
        cmocka_unit_test(truncated),
        cmocka_unit_test(hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
