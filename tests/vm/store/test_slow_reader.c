// SPDX-License-Identifier: Apache-2.0
// Large and hostile inputs, made here: headers at the limit, a million tensors, deep nesting,
// indexes of gigabytes, and three sharded models of the shape of a 405 B one. With bounds on time
// and memory.
#include "tests/vm/store/store_support.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

static tarn_context cx;
static tarn_error err;
static path_text folder;

static int setup(void **state) {
    open_context(&cx, 2, NULL);
    make_folder(folder);
    return 0;
}
static int teardown(void **state) {
    tarn_context_free(&cx);
    remove_tree(folder);
    return 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 10 };  // what a sanitizer may cost
#else
enum { SLOWER = 1 };
#endif

// Of processor time: a busy machine is no fault of ours.
static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct {
    double time;  // s
    size_t peak;  // bytes of the budget
} cost;

// Opens a path; `code`: the refusal expected, NULL for none.
static cost opening(const char *path, const char *code, int64_t tensors) {
    size_t before = cx.budget.used;
    atomic_store(&cx.budget.peak, before);
    double start = seconds();
    tarn_store *s;
    tarn_error_clear(&err);
    tarn_status status = tarn_store_open(&cx, path, NULL, &s, &err);
    cost c = {.time = seconds() - start, .peak = cx.budget.peak - before};
    print_message("%s: %.3f s, %.1f MB, [%s]\n", strrchr(path, '/') + 1, c.time,
                  (double)c.peak * 1e-6, err.code);
    if (code) {
        assert_int_equal(status, TARN_ERROR);
        assert_string_equal(err.code, code);
    } else {
        OK(status);
        assert_int_equal(tarn_store_count(s), tensors);
        tarn_store_release(s);
    }
    assert_int_equal(cx.budget.used, before);
    return c;
}

// A header given as text, padded with blanks to n bytes (0: not padded), no data.
static cost header_only(const char *text, size_t len, size_t n, const char *code, int64_t tensors) {
    path_text path;
    path_in(path, folder, "case.safetensors");
    n = n > len ? n : len;
    char *header = malloc(n);
    assert_non_null(header);
    memset(header, ' ', n);
    memcpy(header, text, len);
    write_safetensors(path, header, n, "", 0);
    free(header);
    cost c = opening(path, code, tensors);
    remove(path);
    return c;
}

static void header_limit(void **state) {
    header_only("{}", 2, 100000000, NULL, 0);
    header_only("{}", 2, 100000001, "HeaderTooLarge", 0);
}

static void nesting(void **state) {
    enum { N = 100000000 };
    char *text = malloc(N);
    assert_non_null(text);
    memset(text, '[', N);
    cost c = header_only(text, N, 0, "InvalidHeaderDeserialization", 0);
    assert_true(c.time < SLOWER * 2 && c.peak < 3 * (size_t)N);
    for (size_t i = 0; i < N; i++) {
        text[i] = "{\"a\":"[i % 5];
    }
    c = header_only(text, N, 0, "InvalidHeaderDeserialization", 0);
    assert_true(c.time < SLOWER * 2 && c.peak < 3 * (size_t)N);
    memcpy(text, "{\"w\":", 5);
    memset(text + 5, '{', N - 5);  // as many objects as bytes: the bound on rows has to hold
    c = header_only(text, N, 0, "InvalidHeaderDeserialization", 0);
    assert_true(c.time < SLOWER * 2 && c.peak < 8 * (size_t)N);
    free(text);
}

static void million(void **state) {
    tarn_budget b;
    tarn_budget_init(&b, (size_t)1 << 30);
    tarn_text t;
    tarn_text_init(&t, &b);
    enum { N = 1000000 };
    for (int shuffled = 0; shuffled < 2; shuffled++) {
        t.len = 0;
        for (int i = 0; i < N; i++) {
            long long name = shuffled ? (long long)i * 611953 % N : i;
            tarn_text_printf(&t,
                             "%c\"%lld\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                             i ? ',' : '{', name);
        }
        tarn_text_puts(&t, "}");
        cost c = header_only(t.data, t.len, 0, NULL, N);
        assert_true(c.time < SLOWER * (shuffled ? 4 : 2) && c.peak < 300000000);
    }
    tarn_text_free(&t);
}

static void aliases(void **state) {
    tarn_budget b;
    tarn_budget_init(&b, (size_t)1 << 30);
    tarn_text t;
    tarn_text_init(&t, &b);
    for (int i = 0; i < 100000; i++) {
        tarn_text_printf(&t,
                         "%c\"t%d\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}",
                         i ? ',' : '{', i);
    }
    tarn_text_puts(&t, "}");
    cost c = header_only(t.data, t.len, 0, "InvalidOffset", 0);
    assert_true(c.time < SLOWER * 1);
    // One key in a million is there twice: DuplicateKey, found by sorting.
    t.len = 0;
    for (int i = 0; i < 1000000; i++) {
        tarn_text_printf(&t, "%s\"%d\":\"\"", i ? "," : "{\"__metadata__\":{", i * 17 % 999999);
    }
    tarn_text_puts(&t, "}}");
    c = header_only(t.data, t.len, 0, "DuplicateKey", 0);
    assert_true(c.time < SLOWER * 4);
    tarn_text_free(&t);
}

static void long_name(void **state) {
    enum { N = 10000000 };
    char *text = malloc(N + 100);
    assert_non_null(text);
    memset(text, 'n', N + 2);
    memcpy(text, "{\"", 2);
    strcpy(text + N + 2, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    header_only(text, strlen(text), 0, NULL, 1);
    strcpy(text + N + 2, "\":{\"dtype\":\"U7\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    header_only(text, strlen(text), 0, "InvalidHeaderDeserialization", 0);
    assert_true(strlen(err.message) < 600);  // the name is cut
    free(text);
}

// ---- indexes ----

static void index_limits(void **state) {
    path_text model, path;
    path_in(model, folder, "model");
    assert_int_equal(mkdir(model, 0755), 0);
    path_in(path, model, "model.safetensors.index.json");
    write_bytes(path, "{\"weight_map\":{", 15);
    assert_int_equal(truncate(path, 10000000000), 0);  // sparse
    cost c = opening(model, "LimitExceeded", 0);
    assert_true(c.time < SLOWER * 0.1 && c.peak < 1000000);

    tarn_budget b;
    tarn_budget_init(&b, (size_t)1 << 30);
    tarn_text t;
    tarn_text_init(&t, &b);
    for (int i = 0; i < (1 << 22) + 1; i++) {  // short enough for the limit on bytes
        tarn_text_printf(&t, "%s\"%d\":\"a\"", i ? "," : "{\"weight_map\":{", i);
    }
    tarn_text_puts(&t, "}}");
    assert_true(t.len < 100000000);
    write_bytes(path, t.data, t.len);
    c = opening(model, "LimitExceeded", 0);
    assert_true(c.time < SLOWER * 4 && c.peak < 700000000);
    t.len = 0;
    for (int i = 0; i < 70000; i++) {
        tarn_text_printf(&t, "%s\"%d\":\"%d\"", i ? "," : "{\"weight_map\":{", i, i);
    }
    tarn_text_puts(&t, "}}");
    write_bytes(path, t.data, t.len);
    opening(model, "LimitExceeded", 0);
    tarn_text_free(&t);
    remove_tree(model);
}

// ---- 405 B ----

enum { LAYERS = 126, SHARDS = 191, HIDDEN = 16384, INNER = 53248, HEADS = 1024, VOCAB = 128256 };

typedef struct {
    char name[80];
    int rank;
    int64_t shape[2];
} planned;

static int plan_405b(planned *p) {
    static const struct {
        const char *name;
        int rank;
        int64_t shape[2];
    } layer[] = {
        {"input_layernorm", 1, {HIDDEN}},          {"post_attention_layernorm", 1, {HIDDEN}},
        {"mlp.down_proj", 2, {HIDDEN, INNER}},     {"mlp.gate_proj", 2, {INNER, HIDDEN}},
        {"mlp.up_proj", 2, {INNER, HIDDEN}},       {"self_attn.k_proj", 2, {HEADS, HIDDEN}},
        {"self_attn.o_proj", 2, {HIDDEN, HIDDEN}}, {"self_attn.q_proj", 2, {HIDDEN, HIDDEN}},
        {"self_attn.v_proj", 2, {HEADS, HIDDEN}}};
    int n = 0;
    p[n++] = (planned){.name = "model.embed_tokens.weight", .rank = 2, .shape = {VOCAB, HIDDEN}};
    for (int l = 0; l < LAYERS; l++) {
        for (size_t k = 0; k < sizeof layer / sizeof *layer; k++) {
            p[n] =
                (planned){.rank = layer[k].rank, .shape = {layer[k].shape[0], layer[k].shape[1]}};
            snprintf(p[n++].name, sizeof p->name, "model.layers.%d.%s.weight", l, layer[k].name);
        }
    }
    p[n++] = (planned){.name = "model.norm.weight", .rank = 1, .shape = {HIDDEN}};
    p[n++] = (planned){.name = "lm_head.weight", .rank = 2, .shape = {VOCAB, HIDDEN}};
    return n;
}

static void make_405b(const char *model) {
    static planned p[LAYERS * 9 + 3];
    int n = plan_405b(p);
    assert_int_equal(n, 1137);
    assert_int_equal(mkdir(model, 0755), 0);
    tarn_budget b;
    tarn_budget_init(&b, 1 << 24);
    tarn_text index, header;
    tarn_text_init(&index, &b);
    tarn_text_init(&header, &b);
    for (int f = 0; f < SHARDS; f++) {
        char name[64];
        path_text path;
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", f + 1, SHARDS);
        path_in(path, model, name);
        unsigned long long at = 0;
        header.len = 0;
        for (int i = n * f / SHARDS; i < n * (f + 1) / SHARDS; i++) {
            long long a = p[i].shape[0], c = p[i].shape[1];
            unsigned long long bytes = 2 * (unsigned long long)(a * (p[i].rank == 2 ? c : 1));
            char shape[48];
            snprintf(shape, sizeof shape, p[i].rank == 2 ? "%lld,%lld" : "%lld", a, c);
            tarn_text_printf(
                &header,
                "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%s],\"data_offsets\":[%llu,%llu]}",
                at ? "," : "{\"__metadata__\":{\"format\":\"pt\"},", p[i].name, shape, at,
                at + bytes);
            tarn_text_printf(&index, "%s\"%s\":\"%s\"", i ? "," : "{\"weight_map\":{", p[i].name,
                             name);
            at += bytes;
        }
        tarn_text_puts(&header, "}");
        write_safetensors(path, header.data, header.len, "", 0);
        assert_int_equal(truncate(path, (off_t)(8 + header.len + at)), 0);
    }
    tarn_text_puts(&index, "}}");
    path_text path;
    path_in(path, model, "model.safetensors.index.json");
    write_bytes(path, index.data, index.len);
    tarn_text_free(&index);
    tarn_text_free(&header);
}

static void three_405b(void **state) {
    static const char *const names[3] = {"base", "a", "b"};
    path_text path;
    tarn_store *s[3];
    for (int i = 0; i < 3; i++) {
        path_in(path, folder, names[i]);
        make_405b(path);
    }
    size_t before = cx.budget.used;
    atomic_store(&cx.budget.peak, before);
    double start = seconds();
    for (int i = 0; i < 3; i++) {
        path_in(path, folder, names[i]);
        OK(tarn_store_open(&cx, path, NULL, &s[i], &err));
        assert_int_equal(tarn_store_count(s[i]), 1137);
        assert_int_equal(tarn_store_files(s[i]), SHARDS);
        int64_t numel = 0;
        for (int64_t k = 0; k < 1137; k++) {
            numel += tarn_store_at(s[i], k)->numel;
        }
        assert_int_equal(numel, 405853388800);
    }
    double time = seconds() - start;
    size_t peak = cx.budget.peak - before;
    print_message("three times 405 B: %.3f s, %.1f MB\n", time, (double)peak * 1e-6);
    assert_true(time < SLOWER * 0.7 && peak < 150000000);
    for (int i = 0; i < 3; i++) {
        tarn_store_release(s[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_limit), cmocka_unit_test(nesting),   cmocka_unit_test(million),
        cmocka_unit_test(aliases),      cmocka_unit_test(long_name), cmocka_unit_test(index_limits),
        cmocka_unit_test(three_405b),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
