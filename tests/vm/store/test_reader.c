// SPDX-License-Identifier: Apache-2.0
// The reading half of vm/store against the golden files: verdicts, codes, bytes; files that
// change; links, FIFOs, memory that runs out; and random headers read back.
#include "tests/vm/store/store_support.h"

#include <fcntl.h>
#include <sys/stat.h>

static tarn_context cx;
static tarn_error err;

static int setup(void **state) {
    open_context(&cx, 2, NULL);
    return 0;
}
static int teardown(void **state) {
    tarn_context_free(&cx);
    return 0;
}

static tarn_store *open_ok(const char *path) {
    tarn_store *s;
    OK(tarn_store_open(&cx, path, NULL, &s, &err));
    return s;
}

static void refuse(const char *path, bool strict, const char *code) {
    tarn_store *s = (tarn_store *)&cx;
    tarn_store_options o = {.strict = strict};
    tarn_error_clear(&err);
    if (tarn_store_open(&cx, path, &o, &s, &err) != TARN_ERROR) {
        fail_msg("%s: accepted, expected %s", path, code);
    }
    assert_null(s);
    assert_string_equal(err.code, code);
}

// ---- verdicts ----

static bool one_of(const char *code, const char *list) {
    size_t n = strlen(code);
    for (const char *p = list; (p = strstr(p, code)) != NULL; p++) {
        if ((p == list || p[-1] == '|') && (p[n] == '\0' || p[n] == '|')) {
            return n > 0;
        }
    }
    return false;
}

static bool names_path(const char *message, const char *path) {
    return strstr(message, path) != NULL;
}

static void verdict_row(void *arg, char **cell) {
    path_text path;
    path_in(path, TARN_SOURCE_DIR "/tests/golden/store", cell[0]);
    tarn_store *s;
    tarn_error_clear(&err);
    tarn_status status = tarn_store_open(&cx, path, NULL, &s, &err);
    bool reject = strcmp(cell[1], "reject") == 0, either = strcmp(cell[1], "either") == 0;
    if (status != TARN_OK && !reject && !either) {
        fail_msg("%s: %s [%s]", path, err.message, err.code);
    }
    if (status == TARN_OK && reject) {
        fail_msg("%s: accepted, expected %s", path, cell[2]);
    }
    if (status != TARN_OK) {
        if (!one_of(err.code, cell[2])) {
            fail_msg("%s: [%s], expected [%s]", path, err.code, cell[2]);
        }
        assert_true(names_path(err.message, path));
    } else {
        bool warned = false;
        for (int i = 0; i < tarn_store_warnings(s); i++) {
            const char *code, *message;
            tarn_store_warning(s, i, &code, &message);
            warned = warned || strcmp(code, cell[2]) == 0;
            assert_true(names_path(message, path));
        }
        if (warned != (strcmp(cell[1], "warn") == 0) || tarn_store_warnings(s) != warned) {
            fail_msg("%s: %d warnings", path, tarn_store_warnings(s));
        }
        tarn_store_release(s);
        if (warned) {
            refuse(path, true, cell[2]);
        }
    }
    ++*(int *)arg;
}

static void verdicts(void **state) {
    int rows = 0, descriptors = open_descriptors();
    each_row(GOLDEN "verdicts.tsv", 3, verdict_row, &rows);
    assert_int_equal(rows, 124);
    assert_int_equal(open_descriptors(), descriptors);
    assert_int_equal(cx.budget.used, 0);
}

// ---- contents ----

typedef struct {
    path_text path;
    tarn_store *s;
    int64_t met;
    int rows;
} reading;

static void close_reading(reading *r) {
    if (r->s) {
        assert_int_equal(tarn_store_count(r->s), r->met);  // every tensor was expected
        tarn_store_release(r->s);
    }
    r->s = NULL;
}

static void tensor_row(void *arg, char **cell) {
    reading *r = arg;
    path_text path;
    path_in(path, TARN_SOURCE_DIR "/tests/golden/store", cell[0]);
    if (!r->s || strcmp(path, r->path) != 0) {
        close_reading(r);
        strcpy(r->path, path);
        r->s = open_ok(path);
        r->met = 0;
    }
    size_t len = unhex(cell[1]);
    int64_t i = tarn_store_find(r->s, cell[1], len);
    assert_true(i >= 0);
    const tarn_store_tensor *t = tarn_store_at(r->s, i);
    assert_int_equal(t->name_len, len);
    assert_memory_equal(t->name, cell[1], len + 1);
    assert_string_equal(tarn_dtype_get(t->dtype)->code, cell[2]);
    char *rest = cell[3];
    int64_t numel = 1;
    for (int d = 0; d < t->rank; d++) {
        assert_int_equal(t->shape[d], atoll(strsep(&rest, ",")));
        numel *= t->shape[d];
    }
    assert_true(t->rank > 0 ? rest == NULL : strcmp(cell[3], "-") == 0);
    assert_int_equal(t->numel, numel);

    const tarn_source *source = tarn_store_source(r->s, i);
    assert_ptr_equal(source->name, t->name);
    assert_int_equal(source->bytes, t->bytes);
    assert_int_equal(source->numel, t->numel);
    assert_string_equal(source->where, tarn_store_file(r->s, t->file));
    char *bytes = malloc(t->bytes + 1), hex[65];
    unsigned char digest[32];
    OK(source->read(source, 0, t->bytes, bytes, &err));
    tarn_sha256_of(bytes, t->bytes, digest);
    tarn_hex(digest, 32, hex);
    assert_string_equal(hex, cell[4]);
    for (uint64_t at = 0; at < t->bytes; at += 7) {  // in pieces, and backwards
        char piece[7];
        uint64_t from = t->bytes - at > 7 ? t->bytes - at - 7 : 0,
                 n = t->bytes - at < 7 ? t->bytes - at : 7;
        OK(source->read(source, from, n, piece, &err));
        assert_memory_equal(piece, bytes + from, n);
    }
    free(bytes);
    source->release(source);
    r->met++;
    r->rows++;
}

static void contents(void **state) {
    reading r = {.s = NULL};
    each_row(GOLDEN "tensors.tsv", 5, tensor_row, &r);
    close_reading(&r);
    assert_int_equal(r.rows, 260);
}

static void meta_row(void *arg, char **cell) {
    path_text path;
    path_in(path, TARN_SOURCE_DIR "/tests/golden/store", cell[0]);
    tarn_store *s = open_ok(path);
    unhex(cell[1]);
    unhex(cell[2]);
    int hits = 0;
    for (int i = 0; i < tarn_store_meta_count(s); i++) {
        const char *key, *value;
        tarn_store_meta(s, i, &key, &value);
        if (strcmp(key, cell[1]) == 0) {
            assert_string_equal(value, cell[2]);
            hits++;
        }
    }
    assert_int_equal(hits, 1);
    tarn_store_release(s);
    ++*(int *)arg;
}

static void metadata(void **state) {
    int rows = 0;
    each_row(GOLDEN "metadata.tsv", 3, meta_row, &rows);
    assert_int_equal(rows, 21);
}

static void order(void **state) {
    // By offset, not in the order of the header; shards in the order of their names.
    tarn_store *s = open_ok(GOLDEN "valid/data_order_shuffled.safetensors");
    for (int64_t i = 1; i < tarn_store_count(s); i++) {
        const tarn_store_tensor *a = tarn_store_at(s, i - 1), *b = tarn_store_at(s, i);
        assert_int_equal(a->begin + a->bytes, b->begin);
    }
    tarn_store_release(s);
    s = open_ok(GOLDEN "valid/sharded_3");
    assert_int_equal(tarn_store_files(s), 3);
    assert_string_equal(tarn_store_folder(s), GOLDEN "valid/sharded_3");
    for (int i = 0; i < 3; i++) {
        path_text want;
        snprintf(want, sizeof want, GOLDEN "valid/sharded_3/model-0000%d-of-00003.safetensors",
                 i + 1);
        assert_string_equal(tarn_store_file(s, i), want);
    }
    for (int64_t i = 1; i < tarn_store_count(s); i++) {
        assert_true(tarn_store_at(s, i - 1)->file <= tarn_store_at(s, i)->file);
    }
    assert_int_equal(tarn_store_find(s, "nothing", 7), -1);
    tarn_store_release(s);
}

// ---- files that change, and what is not a file ----

static void copy_file(const char *from, const char *to) {
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    static char bytes[1 << 18];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    write_bytes(to, bytes, n);
}

static void changed(void **state) {
    path_text folder, path;
    make_folder(folder);
    path_in(path, folder, "model.safetensors");
    copy_file(GOLDEN "valid/ST36_shrink.safetensors", path);
    tarn_store *s = open_ok(folder);
    static char bytes[65536];
    const tarn_source *w = tarn_store_source(s, 0);
    OK(w->read(w, 0, w->bytes, bytes, &err));
    OK(tarn_store_check(s, &err));

    assert_int_equal(truncate(path, 1024), 0);
    assert_int_equal(w->read(w, 0, w->bytes, bytes, &err), TARN_ERROR);
    assert_string_equal(err.code, "FileChanged");
    assert_true(strstr(err.message, "'w'") && strstr(err.message, path) &&
                strstr(err.message, "1024"));
    assert_int_equal(tarn_store_check(s, &err), TARN_ERROR);
    assert_string_equal(err.code, "FileChanged");
    assert_non_null(strstr(err.message, path));
    tarn_store_release(s);
    w->release(w);  // the source kept the store alive until here

    copy_file(GOLDEN "valid/ST36_shrink.safetensors", path);
    s = open_ok(path);
    struct timespec past[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, path, past, 0), 0);
    assert_int_equal(tarn_store_check(s, &err), TARN_ERROR);
    assert_string_equal(err.code, "FileChanged");
    uint64_t id[4];
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    tarn_store_file_id(s, 0, id);
    assert_int_equal(id[0], st.st_dev);
    assert_int_equal(id[1], st.st_ino);
    assert_int_equal(id[2], st.st_size);
    assert_int_not_equal(id[3], 1000000000);  // the time of opening, not of now
    tarn_store_release(s);
    remove_tree(folder);
}

static void odd_paths(void **state) {
    path_text folder, path, inner;
    int descriptors = open_descriptors();
    make_folder(folder);
    refuse(folder, false, "NotAModel");
    path_in(path, folder, "nothing");
    refuse(path, false, "NotFound");
    refuse("", false, "NotFound");
    refuse("/dev/null", false, "NotAFile");

    path_in(path, folder, "pytorch_model.bin");
    write_bytes(path, "x", 1);
    refuse(folder, false, "NotAModel");
    assert_non_null(strstr(err.message, "pytorch_model.bin"));

    path_in(path, folder, "model.safetensors");
    assert_int_equal(mkfifo(path, 0600), 0);  // must not wait for a writer
    refuse(folder, false, "NotAFile");
    refuse(path, false, "NotAFile");
    assert_int_equal(remove(path), 0);
    path_in(path, folder, "model.safetensors.index.json");
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse(folder, false, "NotAFile");
    assert_int_equal(remove(path), 0);

    path_in(path, folder, "one.safetensors");
    copy_file(GOLDEN "valid/ST35_base.safetensors", path);
    path_in(inner, folder, ".two.safetensors");  // a stopped writer's
    write_bytes(inner, "x", 1);
    tarn_store *s = open_ok(folder);
    assert_string_equal(tarn_store_file(s, 0), path);
    tarn_store_release(s);
    s = open_ok(path);
    assert_string_equal(tarn_store_folder(s), folder);
    tarn_store_release(s);
    path_in(path, folder, "two.safetensors");
    copy_file(GOLDEN "valid/ST35_base.safetensors", path);
    refuse(folder, false, "AmbiguousModel");
    remove_tree(folder);

    // With both, the single file wins over the index (rule I5).
    make_folder(folder);
    path_in(path, folder, "model.safetensors");
    copy_file(GOLDEN "valid/ST35_base.safetensors", path);
    path_in(path, folder, "model.safetensors.index.json");
    write_bytes(path, "{", 1);
    s = open_ok(folder);
    assert_int_equal(tarn_store_files(s), 1);
    tarn_store_release(s);
    remove_tree(folder);

    // The index itself may be named.
    snprintf(inner, sizeof inner, GOLDEN "valid/IX04_ok/model.safetensors.index.json");
    s = open_ok(inner);
    assert_int_equal(tarn_store_count(s), 2);
    assert_string_equal(tarn_store_folder(s), GOLDEN "valid/IX04_ok");
    tarn_store_release(s);
    assert_int_equal(open_descriptors(), descriptors);
}

static void links(void **state) {
    path_text folder, path, target;
    make_folder(folder);
    static const char *const names[] = {"model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors"};
    for (int i = 0; i < 2; i++) {
        path_in(path, folder, names[i]);
        path_in(target, GOLDEN "valid/IX04_ok", names[i]);
        copy_file(target, path);
    }
    path_in(path, folder, "model-00002-of-00002.safetensors");
    snprintf(target, sizeof target, GOLDEN "valid/IX04_ok/model-00002-of-00002.safetensors");
    assert_int_equal(symlink(target, path), 0);
    tarn_store_release(open_ok(folder));  // the Hugging Face cache is made of links
    refuse(folder, true, "IndexPath");
    assert_non_null(strstr(err.message, path));
    assert_int_equal(remove(path), 0);
    // A link that stays inside is no matter.
    path_text inside;
    path_in(inside, folder, "blob");
    copy_file(GOLDEN "valid/IX04_ok/model-00002-of-00002.safetensors", inside);
    assert_int_equal(symlink("blob", path), 0);
    tarn_store_options strict = {.strict = true};
    tarn_store *s;
    OK(tarn_store_open(&cx, folder, &strict, &s, &err));
    tarn_store_release(s);
    // One that leads nowhere is a missing shard.
    assert_int_equal(remove(inside), 0);
    refuse(folder, false, "MissingShard");
    remove_tree(folder);
}

// ---- rules that no stored file shows alone ----

static void rules(void **state) {
    static const struct {
        const char *header;
        size_t bytes;
        const char *code;  // NULL: accepted
    } cases[] = {
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[0,16]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[16],\"data_offsets\":[16,0]}}",
         16, "InvalidOffset"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[281474976710656,0],\"data_offsets\":[0,0]}}", 0,
         "LimitExceeded"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[281474976710655,0],\"data_offsets\":[0,0]}}", 0,
         NULL},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
         "1,1,1,"
         "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"
         "\"data_offsets\":[0,1]}}",
         1, "LimitExceeded"},
        {"{\"a\":{\"dtype\":\"F64\",\"shape\":[281474976710655,4096],\"data_offsets\":[0,8]}}", 8,
         "ValidationOverflow"},
        {"{\"__metadata__\":{\"k\":\"1\",\"j\":\"\",\"\\u006b\":\"2\"}}", 0, "DuplicateKey"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "DuplicateKey"},
        {"{\"a\":{\"shape\":[],\"data_offsets\":[0,1]}}", 1, "InvalidHeaderDeserialization"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "InvalidHeaderDeserialization"},
        {"{\"a\":[\"U8\",[],[0,1]]}", 1, "InvalidHeaderDeserialization"},
        {"{\"a\":null}", 0, "InvalidHeaderDeserialization"},
        {"{} {}", 0, "InvalidHeaderDeserialization"},
    };
    path_text folder, path;
    make_folder(folder);
    path_in(path, folder, "a.safetensors");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char data[16] = {0};
        write_safetensors(path, cases[i].header, strlen(cases[i].header), data, cases[i].bytes);
        if (cases[i].code) {
            refuse(path, false, cases[i].code);
        } else {
            tarn_store_release(open_ok(path));
        }
    }
    remove_tree(folder);
}

static void shards(void **state) {
    path_text folder, one, two, path;
    make_folder(folder);
    path_in(one, folder, "1");
    path_in(two, folder, "2");
    path_in(path, folder, "model.safetensors.index.json");
    const char a[] = "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                     "\"__metadata__\":{\"from\":\"first\"}}";
    const char b[] = "{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                     "\"__metadata__\":{\"from\":\"second\",\"more\":\"\"}}";
    write_safetensors(one, a, sizeof a - 1, "x", 1);
    write_safetensors(two, b, sizeof b - 1, "y", 1);
    const char swapped[] = "{\"weight_map\":{\"a\":\"2\",\"b\":\"1\"}}";
    write_bytes(path, swapped, sizeof swapped - 1);
    refuse(folder, false, "MissingTensor");
    assert_non_null(strstr(err.message, "mapped to 2 but lies in 1"));

    const char right[] = "{\"weight_map\":{\"b\":\"2\",\"a\":\"1\"}}";
    write_bytes(path, right, sizeof right - 1);
    tarn_store *s = open_ok(folder);
    const char *key, *value;
    assert_int_equal(tarn_store_meta_count(s), 1);
    tarn_store_meta(s, 0, &key, &value);
    assert_string_equal(key, "from");
    assert_string_equal(value, "first");
    for (int i = 0; i < 2; i++) {
        char byte;
        const tarn_source *source = tarn_store_source(s, i);
        OK(source->read(source, 0, 1, &byte, &err));
        assert_int_equal(byte, "xy"[i]);
        source->release(source);
    }
    tarn_store_release(s);
    static const char *const bad[] = {"{\"weight_map\":{}}",
                                      "[]",
                                      "",
                                      "{\"metadata\":7,\"weight_map\":{}}",
                                      "{\"weight_map\":{\"a\":\"1\"}} x",
                                      "{\"\xFF\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_bytes(path, bad[i], strlen(bad[i]));
        refuse(folder, false, "IndexFormat");
    }
    const char twice[] = "{\"weight_map\":{\"a\":\"1\"},\"weight_map\":{\"a\":\"1\"}}";
    write_bytes(path, twice, sizeof twice - 1);
    refuse(folder, false, "DuplicateKey");
    remove_tree(folder);
}

// ---- strictness ----

static void unknown_fields(void **state) {
    path_text folder, path;
    make_folder(folder);
    path_in(path, folder, "a.safetensors");
    const char header[] = "{\"w\":{\"dtype\":\"U8\",\"x\":[1,{\"y\":[null,-1.5e3,\"\\u0000\"]}],"
                          "\"shape\":[2],\"data_offsets\":[0,2],\"z\":true}}";
    write_safetensors(path, header, sizeof header - 1, "ab", 2);
    tarn_store *s = open_ok(path);
    const char *code, *message;
    assert_int_equal(tarn_store_warnings(s), 1);
    tarn_store_warning(s, 0, &code, &message);
    assert_string_equal(code, "UnknownField");
    assert_non_null(strstr(message, "field 'x' of tensor 'w'"));
    tarn_store_release(s);
    refuse(path, true, "UnknownField");
    remove_tree(folder);
}

static void messages(void **state) {
    refuse(GOLDEN "invalid/ST22_gap.safetensors", false, "InvalidOffset");
    assert_non_null(strstr(err.message, "ST22_gap.safetensors: tensor 'b' (F32, offset 20)"));
    assert_non_null(strstr(err.message, "expected 16, got 20"));
    refuse(GOLDEN "invalid/ST23_negative.safetensors", false, "InvalidHeaderDeserialization");
    assert_non_null(strstr(err.message, "tensor 'w'"));
    assert_non_null(strstr(err.message, "at byte 58"));
    refuse(GOLDEN "invalid/ST37_lfs.safetensors", false, "LfsPointer");
    refuse(GOLDEN "invalid/IX04_missingtensor", false, "MissingTensor");
    assert_non_null(strstr(err.message, "'c' is mapped to model-00002-of-00002.safetensors"));
}

// ---- memory and threads ----

static void out_of_memory(void **state) {
    static const char *const paths[] = {
        GOLDEN "valid/names_escaped.safetensors", GOLDEN "valid/metadata_unicode.safetensors",
        GOLDEN "valid/data_order_shuffled.safetensors", GOLDEN "valid/sharded_3"};
    for (int k = 0; k < 4; k++) {
        int descriptors = open_descriptors();
        tarn_status status = TARN_NOMEM;
        tarn_context small;
        for (size_t limit = 0; status != TARN_OK && limit < (1 << 20); limit += 61) {
            open_context(&small, 1, NULL);
            small.budget.limit = small.budget.used + limit;
            size_t before = small.budget.used;
            tarn_store *s;
            status = tarn_store_open(&small, paths[k], NULL, &s, &err);
            assert_true(status == TARN_OK || status == TARN_NOMEM);
            tarn_store_release(s);
            assert_int_equal(small.budget.used, before);
            tarn_context_free(&small);
        }
        assert_int_equal(status, TARN_OK);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

typedef struct {
    const tarn_source *source;
    const char *whole;
} shared_read;

static tarn_status read_task(void *arg, int64_t task, int worker, tarn_error *e) {
    shared_read *r = arg;
    uint64_t seed = (uint64_t)task;
    char piece[4096];
    for (int i = 0; i < 200; i++) {
        uint64_t n = test_random(&seed) % sizeof piece,
                 at = test_random(&seed) % (r->source->bytes - n);
        TARN_TRY(r->source->read(r->source, at, n, piece, e));
        if (memcmp(piece, r->whole + at, n) != 0) {
            TARN_RAISE(e, "", "other bytes");
        }
        r->source->retain(r->source);
        r->source->release(r->source);
    }
    return TARN_OK;
}

static void threads(void **state) {
    tarn_store *s = open_ok(GOLDEN "valid/all_16bit_patterns.safetensors");
    shared_read r = {.source = tarn_store_source(s, 0)};
    char *whole = malloc(r.source->bytes);
    OK(r.source->read(r.source, 0, r.source->bytes, whole, &err));
    r.whole = whole;
    tarn_pool *pool = tarn_pool_create(8);
    OK(tarn_pool_run(pool, 32, read_task, &r, NULL, &err));
    tarn_pool_destroy(pool);
    free(whole);
    r.source->release(r.source);
    tarn_store_release(s);
}

// ---- random headers ----

typedef struct {
    char name[64];
    size_t len;
    tarn_dtype dtype;
    int rank;
    int64_t shape[4];
    uint64_t begin, bytes;
} planned;

static void add_space(tarn_text *t, uint64_t *seed) {
    static const char *const space[] = {"", "", "", " ", "\n", "\t", "\r\n", "   "};
    tarn_text_puts(t, space[test_random(seed) % 8]);
}

static void add_unit(tarn_text *t, uint32_t u) { tarn_text_printf(t, "\\u%04X", u); }

// Writes a name, each character as itself or escaped, at random.
static void add_string(tarn_text *t, const char *s, size_t len, uint64_t *seed) {
    tarn_text_puts(t, "\"");
    const unsigned char *u = (const unsigned char *)s;
    for (size_t i = 0; i < len;) {
        unsigned char c = u[i];
        size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        uint32_t code = n == 1 ? c : (uint32_t)(c & (0xFF >> (n + 1)));
        for (size_t k = 1; k < n; k++) {
            code = code << 6 | (u[i + k] & 63);
        }
        bool escape = c < 0x20 || c == '"' || c == '\\' || test_random(seed) % 4 == 0;
        if (!escape) {
            tarn_text_add(t, s + i, n);
        } else if (code >= 0x10000) {
            add_unit(t, 0xD800 + ((code - 0x10000) >> 10));
            add_unit(t, 0xDC00 + ((code - 0x10000) & 0x3FF));
        } else {
            add_unit(t, code);
        }
        i += n;
    }
    tarn_text_puts(t, "\"");
}

static void random_name(planned *p, int i, uint64_t *seed) {
    static const char *const parts[] = {
        "model.", "layers.", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8C\x8A", "\"", "\\", "/", "\n",
        "a",      "weight",  ".",        "\x7F"};
    p->len = 0;
    for (uint64_t k = test_random(seed) % 6; k > 0; k--) {
        const char *s = parts[test_random(seed) % 13];
        memcpy(p->name + p->len, s, strlen(s));
        p->len += strlen(s);
    }
    p->name[p->len++] = '\0';  // a NUL inside
    p->len += (size_t)snprintf(p->name + p->len, 12, "%d", i);
}

static void add_tensor(tarn_text *t, const planned *p, uint64_t *seed) {
    add_space(t, seed);
    add_string(t, p->name, p->len, seed);
    add_space(t, seed);
    tarn_text_puts(t, ":");
    add_space(t, seed);
    tarn_text_puts(t, "{");
    uint64_t first = test_random(seed) % 3;
    for (uint64_t k = 0; k < 3; k++) {
        add_space(t, seed);
        switch ((first + k) % 3) {
        case 0:
            tarn_text_printf(t, "\"dtype\":\"%s\"", tarn_dtype_get(p->dtype)->code);
            break;
        case 1:
            tarn_text_puts(t, "\"sh\\u0061pe\" : [");
            for (int d = 0; d < p->rank; d++) {
                tarn_text_printf(t, "%s%lld", d ? "," : "", (long long)p->shape[d]);
            }
            tarn_text_puts(t, "]");
            break;
        default:
            tarn_text_printf(t, "\"data_offsets\":[ %llu , %llu ]", (unsigned long long)p->begin,
                             (unsigned long long)(p->begin + p->bytes));
        }
        add_space(t, seed);
        tarn_text_puts(t, k < 2 ? "," : "}");
    }
}

static void random_headers(void **state) {
    path_text folder, path;
    make_folder(folder);
    path_in(path, folder, "a.safetensors");
    uint64_t seed = 7;
    for (int round = 0; round < 200; round++) {
        enum { MAX = 40 };
        planned p[MAX];
        int n = (int)(test_random(&seed) % MAX), perm[MAX];
        uint64_t at = 0;
        for (int i = 0; i < n; i++) {
            random_name(&p[i], i, &seed);
            p[i].dtype = (tarn_dtype)(test_random(&seed) % TARN_DTYPE_COUNT);
            p[i].rank = (int)(test_random(&seed) % 4);
            int64_t numel = 1;
            for (int d = 0; d < p[i].rank; d++) {
                p[i].shape[d] = (int64_t)(test_random(&seed) % 6);
                numel *= p[i].shape[d];
            }
            if (numel * tarn_dtype_get(p[i].dtype)->bits % 8 != 0) {
                p[i].dtype = TARN_BF16;
            }
            p[i].begin = at;
            p[i].bytes = (uint64_t)(numel * tarn_dtype_get(p[i].dtype)->bits / 8);
            at += p[i].bytes;
            perm[i] = i;
        }
        for (int i = n - 1; i > 0; i--) {
            int j = (int)(test_random(&seed) % (uint64_t)(i + 1)), k = perm[i];
            perm[i] = perm[j];
            perm[j] = k;
        }
        tarn_text t;
        tarn_text_init(&t, &cx.budget);
        add_space(&t, &seed);
        tarn_text_puts(&t, "{");
        uint64_t meta = test_random(&seed) % (uint64_t)(n + 1);
        for (int i = 0; i < n; i++) {
            if ((uint64_t)i == meta) {
                tarn_text_puts(&t, "\"__meta\\u0064ata__\": {\"b\\t\":\"1\", \"a\":\"\"},");
            }
            add_tensor(&t, &p[perm[i]], &seed);
            tarn_text_puts(&t, i + 1 < n ? "," : "");
        }
        tarn_text_puts(&t, "}");
        add_space(&t, &seed);
        unsigned char *data = malloc(at + 1);
        for (uint64_t i = 0; i < at; i++) {
            data[i] = (unsigned char)test_random(&seed);
        }
        write_safetensors(path, t.data, t.len, data, at);
        tarn_store *s = open_ok(path);
        assert_int_equal(tarn_store_count(s), n);
        assert_int_equal(tarn_store_meta_count(s), meta < (uint64_t)n ? 2 : 0);
        for (int i = 0; i < n; i++) {
            int64_t k = tarn_store_find(s, p[i].name, p[i].len);
            assert_true(k >= 0);
            const tarn_store_tensor *r = tarn_store_at(s, k);
            assert_int_equal(r->dtype, p[i].dtype);
            assert_int_equal(r->rank, p[i].rank);
            assert_memory_equal(r->shape, p[i].shape, (size_t)r->rank * 8);
            assert_int_equal(r->begin, p[i].begin + 8 + t.len);
            assert_int_equal(r->bytes, p[i].bytes);
            assert_int_equal(tarn_store_find(s, p[i].name, p[i].len - 1) == k, false);
            unsigned char got[1000];
            const tarn_source *source = tarn_store_source(s, k);
            OK(source->read(source, 0, r->bytes, got, &err));
            assert_memory_equal(got, data + p[i].begin, r->bytes);
            source->release(source);
        }
        tarn_store_release(s);
        free(data);
        tarn_text_free(&t);
    }
    remove_tree(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts), cmocka_unit_test(contents),
        cmocka_unit_test(metadata), cmocka_unit_test(order),
        cmocka_unit_test(changed),  cmocka_unit_test(odd_paths),
        cmocka_unit_test(links),    cmocka_unit_test(rules),
        cmocka_unit_test(shards),   cmocka_unit_test(unknown_fields),
        cmocka_unit_test(messages), cmocka_unit_test(out_of_memory),
        cmocka_unit_test(threads),  cmocka_unit_test(random_headers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
