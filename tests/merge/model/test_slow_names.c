// SPDX-License-Identifier: Apache-2.0
// Real headers through real files: every family and every pair as a sparse checkpoint of full size,
// opened by the reader, must say what the same names say in memory; three models of 405 B
// parameters in 191 files each are opened and matched in well under a second. Reads the shared
// headers and checks that tests/golden/headers are still copies of them.
#include "tests/merge/model/pairs.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SHARED TARN_SOURCE_DIR "/../shared/oracles/headers"

static bool present(void) {
    if (access(SHARED "/pairs.json", R_OK) == 0) {
        return true;
    }
    print_message("no shared headers beside the source: skipped\n");
    return false;
}

static void copies(void **state) {
    if (!present()) {
        skip();
    }
    int missing = system("cd '" HEADERS "' && for f in *.json.gz expect/*.json pairs.json; do "
                         "cmp \"$f\" '" SHARED "'/\"$f\" || exit 1; done");
    assert_int_equal(missing, 0);
    assert_int_equal(
        system("test $(ls '" SHARED "'/*.json.gz | wc -l) = $(ls '" HEADERS "'/*.json.gz | wc -l)"),
        0);
}

// ---- sparse checkpoints ----

static void join(char *out, size_t size, const char *folder, const char *name) {
    assert_true(snprintf(out, size, "%s/%s", folder, name) < (int)size);
}

static void write_text(const char *folder, const char *name, const char *text) {
    char path[1024];
    join(path, sizeof path, folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static uint64_t bytes_of(json_t *spec) {
    tarn_dtype t;
    assert_true(tarn_dtype_find(json_string_value(json_array_get(spec, 0)), &t));
    int64_t n = 1;
    size_t k;
    json_t *d;
    json_array_foreach(json_array_get(spec, 1), k, d) { n *= json_integer_value(d); }
    return tarn_dtype_bytes(t, n);
}

// One file: the length, the header, and a hole as large as the data.
static void write_file(const char *folder, const char *name, json_t *header, uint64_t data) {
    char path[1024], *text = json_dumps(header, JSON_COMPACT);
    join(path, sizeof path, folder, name);
    uint64_t len = strlen(text), padded = (len + 7) / 8 * 8;
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, &padded, 8), 8);
    assert_int_equal(write(fd, text, len), len);
    assert_int_equal(write(fd, "       ", padded - len), padded - len);
    assert_int_equal(ftruncate(fd, (off_t)(8 + padded + data)), 0);
    close(fd);
    free(text);
}

static void write_sparse(json_t *h, const char *folder) {
    json_t *tensors = json_object_get(h, "tensors"), *spec, *map = json_object();
    int64_t shards = json_integer_value(json_object_get(h, "shards"));
    const char *name;
    uint64_t total = 0, seen = 0, at = 0;
    json_object_foreach(tensors, name, spec) { total += bytes_of(spec); }
    assert_int_equal(mkdir(folder, 0700), 0);
    json_t *header = json_object();
    int64_t shard = 1;
    char file[80];
    snprintf(file, sizeof file, shards > 1 ? "model-%05d-of-%05d.safetensors" : "model.safetensors",
             1, (int)shards);
    json_object_foreach(tensors, name, spec) {
        uint64_t bytes = bytes_of(spec);
        json_object_set_new(header, name,
                            json_pack("{s:O,s:O,s:[I,I]}", "dtype", json_array_get(spec, 0),
                                      "shape", json_array_get(spec, 1), "data_offsets",
                                      (json_int_t)at, (json_int_t)(at + bytes)));
        json_object_set_new(map, name, json_string(file));
        at += bytes;
        seen += bytes;
        if (seen == total || seen >= total / (uint64_t)shards * (uint64_t)shard) {
            if (shard < shards || seen == total) {
                write_file(folder, file, header, at);
                json_object_clear(header);
                at = 0;
                shard++;
                snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", (int)shard,
                         (int)shards);
            }
        }
    }
    assert_int_equal(json_object_size(header), 0);
    if (shards > 1) {
        json_t *index = json_pack("{s:{s:I},s:O}", "metadata", "total_size", (json_int_t)total,
                                  "weight_map", map);
        char *text = json_dumps(index, 0);
        write_text(folder, "model.safetensors.index.json", text);
        free(text);
        json_decref(index);
    }
    char *config = json_dumps(json_object_get(h, "config"), 0);
    write_text(folder, "config.json", config);
    free(config);
    json_decref(header);
    json_decref(map);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

typedef struct {
    tarn_context cx;
    char root[64];
} fixture;

static void open_fixture(fixture *f) {
    open_context(&f->cx, 1, NULL);
    snprintf(f->root, sizeof f->root, "/tmp/tarn-names-XXXXXX");
    assert_non_null(mkdtemp(f->root));
}

static void close_fixture(fixture *f) {
    assert_int_equal(f->cx.budget.used, 0);
    tarn_context_free(&f->cx);
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static tarn_model *open_sparse(fixture *f, json_t *h, const char *label) {
    char folder[256];
    tarn_error err = {0};
    tarn_model *m;
    join(folder, sizeof folder, f->root, label);
    write_sparse(h, folder);
    OK(tarn_model_open(&f->cx, folder, NULL, &m, &err));
    return m;
}

static void families(void **state) {
    char list[64][64];
    if (!present()) {
        skip();
    }
    int n = header_list(list);
    for (int k = 0; k < n; k++) {
        fixture f;
        open_fixture(&f);
        json_t *h = header_load(list[k]);
        tarn_model *m = open_sparse(&f, h, "m");
        tarn_arena a;
        tarn_arena_init(&a, &f.cx.budget);
        int64_t count;
        tarn_name_in *in = header_names(&a, h, &count);
        const char *config = header_config(&a, h);
        tarn_names names;
        tarn_error err = {0};
        OK(tarn_names_find(&f.cx, &a, count, in, config, strlen(config), &names, &err));
        assert_int_equal(m->n, count);
        assert_int_equal(m->names->ndepth, names.ndepth);
        assert_int_equal(m->names->nties, names.nties);
        for (int64_t i = 0; i < count; i++) {
            const tarn_name_info *x = tarn_model_info(m, tarn_model_find(m, in[i].name, in[i].len));
            const tarn_name_info *y = &names.info[i];
            assert_true(x->place == y->place && x->depth == y->depth && x->layer == y->layer &&
                        x->stack == y->stack && x->expert == y->expert && x->buffer == y->buffer);
            assert_string_equal(x->role, y->role);
        }
        tarn_arena_free(&a);
        tarn_model_release(m);
        json_decref(h);
        close_fixture(&f);
    }
}

static tarn_status combine(tarn_context *cx, tarn_model *a, tarn_model *b, int64_t *n,
                           tarn_error *err) {
    tarn_model *m = NULL;
    tarn_status s = tarn_model_binary(cx, tarn_op_find("add"), a, b, &m, err);
    *n = m ? m->n : -1;
    tarn_model_release(m);
    return s;
}

static void pairs(void **state) {
    if (!present()) {
        skip();
    }
    json_t *list = json_read(SHARED "/pairs.json"), *pair;
    size_t k;
    json_array_foreach(list, k, pair) {
        if (strcmp(json_string_value(json_object_get(pair, "op")), "linear") != 0) {
            continue;
        }
        fixture f;
        open_fixture(&f);
        tarn_model *m[2][2];
        for (int side = 0; side < 2; side++) {
            const char *label = side ? "b" : "a";
            json_t *h = pair_header(&f.cx, pair, label);
            m[0][side] = open_sparse(&f, h, label);
            m[1][side] = pair_model(&f.cx, pair, label);
            json_decref(h);
        }
        tarn_error err[2] = {{0}, {0}};
        int64_t n[2];
        tarn_status filed = combine(&f.cx, m[0][0], m[0][1], &n[0], &err[0]);
        tarn_status held = combine(&f.cx, m[1][0], m[1][1], &n[1], &err[1]);
        assert_int_equal(filed, held);
        assert_int_equal(n[0], n[1]);
        assert_string_equal(err[0].message, err[1].message);
        assert_string_equal(err[0].code, err[1].code);
        for (int i = 0; i < 4; i++) {
            tarn_model_release(m[i / 2][i % 2]);
        }
        close_fixture(&f);
    }
    json_decref(list);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void largest(void **state) {
    fixture f;
    open_fixture(&f);
    json_t *h = header_load("llama-3.1-405b");
    tarn_model *m[3], *ab = NULL, *abc = NULL;
    char folder[3][256];
    for (int k = 0; k < 3; k++) {
        snprintf(folder[k], sizeof folder[k], "%s/%d", f.root, k);
        write_sparse(h, folder[k]);
    }
    tarn_error err = {0};
    double t = seconds();
    for (int k = 0; k < 3; k++) {
        OK(tarn_model_open(&f.cx, folder[k], NULL, &m[k], &err));
    }
    double opened = seconds() - t;
    OK(tarn_model_binary(&f.cx, tarn_op_find("add"), m[0], m[1], &ab, &err));
    OK(tarn_model_binary(&f.cx, tarn_op_find("add"), ab, m[2], &abc, &err));
    t = seconds() - t;
    print_message("three models of %lld tensors: opened in %.0f ms, matched in %.0f ms, %.1f MB\n",
                  (long long)m[0]->n, 1e3 * opened, 1e3 * (t - opened),
                  1e-6 * (double)f.cx.budget.peak);
    assert_int_equal(abc->n, 1137);
    assert_true(t < 1);
    assert_true(f.cx.budget.peak < 50 << 20);
    tarn_model_release(ab);
    tarn_model_release(abc);
    for (int k = 0; k < 3; k++) {
        tarn_model_release(m[k]);
    }
    json_decref(h);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),
        cmocka_unit_test(families),
        cmocka_unit_test(pairs),
        cmocka_unit_test(largest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
