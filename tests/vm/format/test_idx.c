// SPDX-License-Identifier: Apache-2.0
// The IDX reader: golden files, plain and gzip, and every way in which a file can lie about itself.
// Refusals come before memory is taken, or leave none behind.
#include "tests/support.h"

#include <zlib.h>

#include "tests/oom.h"
#include "vm/format/idx.h"

#define GOLDEN TARN_SOURCE_DIR "/tests/golden/idx/"

typedef struct {
    tarn_context cx;
    tarn_error err;
} world;

static void begin(world *w) {
    memset(w, 0, sizeof *w);
    open_context(&w->cx, 1, NULL);
}
static void end(world *w) {
    assert_int_equal(w->cx.budget.used, 0);
    tarn_context_free(&w->cx);
}

static void read_golden(void **state) {
    world w;
    tarn_idx *f;
    unsigned char u8[120];
    double f64[3];
    int16_t i16[4];
    begin(&w);
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "images.gz", &f, &w.err), TARN_OK);
    const tarn_idx_header *h = tarn_idx_header_of(f);
    assert_int_equal(h->type, TARN_IDX_U8);
    assert_int_equal(h->rank, 3);
    assert_int_equal(h->shape[0], 6);
    assert_int_equal(h->shape[2], 5);
    assert_int_equal(h->bytes, 120);
    assert_int_equal(tarn_idx_read(f, u8, &w.err), TARN_OK);
    for (int i = 0; i < 120; i++) {
        assert_int_equal(u8[i], (7 * i + 3) % 256);
    }
    tarn_idx_close(f);
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "labels", &f, &w.err), TARN_OK);
    assert_int_equal(tarn_idx_read(f, u8, &w.err), TARN_OK);
    assert_int_equal(u8[5], 2);
    tarn_idx_close(f);
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "f64", &f, &w.err), TARN_OK);
    assert_int_equal(tarn_idx_read(f, f64, &w.err), TARN_OK);
    assert_true(f64[0] == 1.5 && f64[1] == -2.25 && f64[2] == 0.1);
    tarn_idx_close(f);
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "i16.gz", &f, &w.err), TARN_OK);
    assert_int_equal(tarn_idx_read(f, i16, &w.err), TARN_OK);
    assert_true(i16[0] == 1 && i16[1] == -2 && i16[2] == 300 && i16[3] == -32768);
    tarn_idx_close(f);
    end(&w);
}

static void refuse_paths(void **state) {
    world w;
    tarn_idx *f;
    begin(&w);
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "none", &f, &w.err), TARN_ERROR);
    assert_string_equal(w.err.code, "NotFound");
    assert_non_null(strstr(w.err.message, "golden/idx/none: there is no such file"));
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN, &f, &w.err), TARN_ERROR);
    assert_string_equal(w.err.code, "NotAFile");
    assert_int_equal(tarn_idx_open(&w.cx, GOLDEN "README.md", &f, &w.err), TARN_ERROR);
    assert_string_equal(w.err.code, "NotIdx");
    end(&w);
}

// ---- bytes ----

static size_t pack(const void *data, size_t n, unsigned char *out, size_t room) {
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)data;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t got = room - z.avail_out;
    deflateEnd(&z);
    return got;
}

static tarn_status read_all(world *w, const void *data, size_t n) {
    tarn_idx *f;
    tarn_status s = tarn_idx_open_bytes(&w->cx, data, n, "d.idx", &f, &w->err);
    if (s != TARN_OK) {
        assert_null(f);
        return s;
    }
    uint64_t bytes = tarn_idx_header_of(f)->bytes;
    assert_true(bytes < 1 << 24);
    void *dst = malloc(bytes + 1);
    s = tarn_idx_read(f, dst, &w->err);
    free(dst);
    tarn_idx_close(f);
    return s;
}

static void refused(const void *data, size_t n, const char *code, const char *message) {
    world w;
    begin(&w);
    assert_int_equal(read_all(&w, data, n), TARN_ERROR);
    assert_string_equal(w.err.message, message);
    assert_string_equal(w.err.code, code);
    end(&w);
}

static void refuse_bytes(void **state) {
    static const unsigned char good[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9, 10};
    static const unsigned char huge[] = {0, 0, 14, 4, 255, 255, 255, 255, 255, 255, 255, 255,
                                         255, 255, 255, 255, 255, 255, 255, 255};
    refused("", 0, "NotIdx", "d.idx: not an IDX file: it begins with 00 00 00 00 (and ends there); expected 00 00, a type and the number of dimensions");
    refused("\x93NUMPY", 6, "NotIdx", "d.idx: not an IDX file: it begins with 93 4e 55 4d; expected 00 00, a type and the number of dimensions");
    refused("\0\0\x0A\1\0\0\0\0", 8, "NotIdx", "d.idx: not an IDX file: there is no type 0a of elements");
    refused("\0\0\x08\0", 4, "NotIdx", "d.idx: an IDX file of 0 dimensions; expected 1 to 8");
    refused("\0\0\x08\x09", 4, "NotIdx", "d.idx: an IDX file of 9 dimensions; expected 1 to 8");
    refused("\0\0\x08\x02\0\0\0\1\0", 9, "Truncated", "d.idx: the IDX file ends within its header");
    refused(good, 10, "Truncated", "d.idx: the IDX file announces 3 elements of 1 bytes, but 2 B of data follow");
    refused(good, 12, "Trailing", "d.idx: 1 bytes follow the 3 elements that the IDX file announces");
    refused(huge, sizeof huge, "Truncated", "d.idx: the IDX file announces 4294967295 x 4294967295 x 4294967295 x 4294967295 elements of 8 bytes, but 0 B of data follow");
    world w;
    begin(&w);
    assert_int_equal(read_all(&w, good, 11), TARN_OK);
    assert_int_equal(read_all(&w, "\0\0\x0D\2\0\0\0\0\xFF\xFF\xFF\xFF", 12), TARN_OK);  // no elements
    end(&w);
}

static void refuse_gzip(void **state) {
    unsigned char plain[4096] = {0, 0, 8, 2, 0, 0, 0, 8, 0, 0, 1, 0}, zip[8192];  // 8 x 256, then too much
    const size_t exact = 12 + 2048;
    size_t n = pack(plain, exact, zip, sizeof zip);
    world w;
    begin(&w);
    assert_int_equal(read_all(&w, zip, n), TARN_OK);
    end(&w);
    refused(zip, n - 12, "Truncated", "d.idx: the gzip data end in the middle");
    refused(zip, 12, "Truncated", "d.idx: the gzip data end in the middle");
    zip[n] = 'x';
    zip[n + 1] = 'y';
    refused(zip, n + 2, "DamagedGzip", "d.idx: the gzip data are damaged: incorrect header check");
    zip[n - 5] ^= 1;
    refused(zip, n, "DamagedGzip", "d.idx: the gzip data are damaged: incorrect data check");
    n = pack(plain, exact - 1, zip, sizeof zip);
    refused(zip, n, "Truncated", "d.idx: the IDX file ends after 2047 bytes of data; its header announces 2048");
    n = pack(plain, exact + 100, zip, sizeof zip);
    refused(zip, n, "Trailing", "d.idx: more data follow than the 2048 bytes that the IDX file announces");
    n = pack(plain, 5, zip, sizeof zip);
    n += pack(plain + 5, exact - 5, zip + n, sizeof zip - n);  // two members
    begin(&w);
    assert_int_equal(read_all(&w, zip, n), TARN_OK);
    end(&w);
}

// A small gzip that announces much is refused at the header; one that holds much more than it announces
// is read no further than that.
static void bombs(void **state) {
    static unsigned char zip[1 << 16];
    unsigned char head[16] = {0, 0, 8, 2, 0, 1, 0, 0, 0, 1, 0, 0};  // 4 GiB
    size_t n = pack(head, sizeof head, zip, sizeof zip);
    world w;
    tarn_idx *f;
    begin(&w);
    assert_int_equal(tarn_idx_open_bytes(&w.cx, zip, n, "d.idx", &f, &w.err), TARN_ERROR);
    assert_string_equal(w.err.code, "Truncated");
    assert_non_null(strstr(w.err.message, "are the most that so short a gzip file can hold"));
    assert_true(w.cx.budget.peak < 1 << 18);
    end(&w);
    unsigned char *zeros = calloc(1, 32 << 20);
    zeros[2] = 8;
    zeros[3] = 1;
    zeros[7] = 10;
    n = pack(zeros, 32 << 20, zip, sizeof zip);
    free(zeros);
    refused(zip, n, "Trailing", "d.idx: more data follow than the 10 bytes that the IDX file announces");
}

static bool attempt(void *arg) {
    world *w = arg;
    tarn_idx *f;
    unsigned char dst[120];
    if (tarn_idx_open(&w->cx, GOLDEN "images.gz", &f, &w->err) == TARN_OK) {
        tarn_idx_read(f, dst, &w->err);
        tarn_idx_close(f);
    }
    return w->cx.budget.used == 0;
}

static void failing_allocations(void **state) {
    oom_or_skip();
    world w;
    begin(&w);
    assert_true(oom_sweep(attempt, &w, 0) > 0);
    end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_golden), cmocka_unit_test(refuse_paths), cmocka_unit_test(refuse_bytes),
        cmocka_unit_test(refuse_gzip), cmocka_unit_test(bombs), cmocka_unit_test(failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
