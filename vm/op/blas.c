// SPDX-License-Identifier: Apache-2.0
#include "vm/op/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/op/lapack.h"

typedef void (*sgemm_fn)(int, int, int, int, int, int, float, const float *, int, const float *,
                         int, float, float *, int);
typedef void (*dgemm_fn)(int, int, int, int, int, int, double, const double *, int, const double *,
                         int, double, double *, int);

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef struct {
    tarn_status status;
    tarn_error err;
    sgemm_fn sgemm;
    dgemm_fn dgemm;
    tarn_lapack lapack;
    char text[160];
    atomic_bool ready;  // the text is there
} blas;

static blas the_blas;  // process-wide: filled once, under pthread_once, then only read
static pthread_once_t once = PTHREAD_ONCE_INIT;

// A symbol as a function pointer, without the cast that ISO C forbids.
static void symbol(void *lib, const char *name, void *fn, size_t size) {
    void *p = dlsym(lib, name);
    memcpy(fn, &p, size);
}

// Both precisions of every routine; the name of a missing one, or NULL.
static const char *open_lapack(void *lib, tarn_lapack *l) {
    const char *missing = NULL;
#define ROUTINE(name, parameters)                                            \
    symbol(lib, "s" #name "_", &l->name[0], sizeof l->name[0]);              \
    symbol(lib, "d" #name "_", &l->name[1], sizeof l->name[1]);              \
    missing = l->name[0] && l->name[1] ? missing : #name;
    TARN_LAPACK_ROUTINES(ROUTINE)
#undef ROUTINE
    return missing;
}

static void open_blas(void) {
    blas *b = &the_blas;
    __builtin_cpu_init();
    const char *want = getenv("TARN_BLAS_CORE");
    if (!want || !*want) {
        want = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell"
                                                                               : "Prescott";
    }
    setenv("OPENBLAS_CORETYPE", want, 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        b->status = tarn_raise(&b->err, "Blas",
                               "OpenBLAS could not be opened: install libopenblas0-pthread "
                               "(matrix products need it)");
        return;
    }
    const char *(*config)(void) = NULL;
    const char *(*core)(void) = NULL;
    void (*threads)(int) = NULL;
    symbol(lib, "openblas_get_config", &config, sizeof config);
    symbol(lib, "openblas_get_corename", &core, sizeof core);
    symbol(lib, "openblas_set_num_threads", &threads, sizeof threads);
    symbol(lib, "cblas_sgemm", &b->sgemm, sizeof b->sgemm);
    symbol(lib, "cblas_dgemm", &b->dgemm, sizeof b->dgemm);
    if (!config || !core || !threads || !b->sgemm || !b->dgemm) {
        b->status = tarn_raise(&b->err, "Blas", "libopenblas.so.0 is not an OpenBLAS");
        return;
    }
    const char *missing = open_lapack(lib, &b->lapack);
    if (missing) {
        b->status = tarn_raise(&b->err, "Blas", "this OpenBLAS was built without LAPACK (%s)",
                               missing);
        return;
    }
    if (strstr(config(), "USE_OPENMP")) {
        b->status = tarn_raise(&b->err, "Blas",
                               "this OpenBLAS is an OpenMP build: install libopenblas0-pthread or "
                               "libopenblas0-serial");
        return;
    }
    threads(1);
    if (strcasecmp(core(), want) != 0) {
        b->status = tarn_raise(&b->err, "Blas",
                               "OpenBLAS runs its %s kernels, not %s as asked (TARN_BLAS_CORE)",
                               core(), want);
        return;
    }
    char version[64];
    snprintf(version, sizeof version, "%s", config());
    char *space = strchr(version, ' ');
    space = space ? strchr(space + 1, ' ') : NULL;
    if (space) {
        *space = '\0';
    }
    snprintf(b->text, sizeof b->text, "%s %s", version, core());
    atomic_store(&b->ready, true);
}

static void forgo_blas(void) {
    blas *b = &the_blas;
    b->status = tarn_raise(&b->err, "Blas",
                           "matrix products and factorisations need OpenBLAS, which is not there "
                           "behind the wall that untrusted scripts run in (those of the plan that "
                           "a recipe returns are computed outside)");
}
void tarn_blas_forgo(void) { pthread_once(&once, forgo_blas); }

static tarn_status opened(tarn_error *err) {
    pthread_once(&once, open_blas);
    if (the_blas.status != TARN_OK && err) {
        *err = the_blas.err;
    }
    return the_blas.status;
}

tarn_status tarn_blas_describe(const char **text, tarn_error *err) {
    TARN_TRY(opened(err));
    *text = the_blas.text;
    return TARN_OK;
}

tarn_status tarn_lapack_get(const tarn_lapack **l, tarn_error *err) {
    TARN_TRY(opened(err));
    *l = &the_blas.lapack;
    return TARN_OK;
}

const char *tarn_blas_in_use(void) { return atomic_load(&the_blas.ready) ? the_blas.text : NULL; }

// A product, or many of one shape, in tiles.
typedef struct {
    tarn_product p;
    int64_t tile_m, tile_n, across, tiles;  // of one product
    int64_t batches, chunk;                 // products that are one task, where each is one tile
} gemm_run;

// Fixed by the shapes alone, never by the number of threads. A product with enough work has at
// least two tiles, then four: halves cost little, since each repeats only the packing of the other
// operand.
enum { TILE_M = 256, TILE_N = 512, TILE_LEAST = 128 };

static void choose_tiles(gemm_run *r) {
    const tarn_product *p = &r->p;
    double work = (double)p->m * (double)p->n * (double)p->k;
    int want = r->batches > 1 ? 1 : work >= 64e6 ? 4 : work >= 4e6 ? 2 : 1;
    r->tile_m = p->m < TILE_M ? p->m : TILE_M;
    r->tile_n = p->n < TILE_N ? p->n : TILE_N;
    for (;;) {
        r->across = (p->n + r->tile_n - 1) / r->tile_n;
        r->tiles = (p->m + r->tile_m - 1) / r->tile_m * r->across;
        bool wide = r->tile_n >= 2 * TILE_LEAST && r->tile_n >= r->tile_m;
        if (r->tiles >= want || (!wide && r->tile_m < 2 * TILE_LEAST)) {
            break;
        }
        int64_t *side = wide ? &r->tile_n : &r->tile_m;
        *side = (*side / 2 + 15) / 16 * 16;
    }
}

// Rows i … i + m - 1 and columns j … j + n - 1 of c.
static void one_tile(const tarn_product *p, int64_t i, int64_t j, int m, int n) {
    int64_t size = p->dtype == TARN_F64 ? 8 : 4;
    const char *a = (const char *)p->a + size * (p->ta ? i : i * p->lda);
    const char *b = (const char *)p->b + size * (p->tb ? j * p->ldb : j);
    char *c = (char *)p->c + size * (i * p->ldc + j);
    int ta = p->ta ? TRANS : NO_TRANS, tb = p->tb ? TRANS : NO_TRANS;
    int k = (int)p->k, lda = (int)p->lda, ldb = (int)p->ldb, ldc = (int)p->ldc;
    if (p->dtype == TARN_F64) {
        the_blas.dgemm(ROW_MAJOR, ta, tb, m, n, k, 1.0, (const double *)(const void *)a, lda,
                       (const double *)(const void *)b, ldb, 0.0, (double *)(void *)c, ldc);
    } else {
        the_blas.sgemm(ROW_MAJOR, ta, tb, m, n, k, 1.0f, (const float *)(const void *)a, lda,
                       (const float *)(const void *)b, ldb, 0.0f, (float *)(void *)c, ldc);
    }
}

// The product number `batch` by itself.
static tarn_product of_batch(const tarn_product *p, int64_t batch) {
    tarn_product one = *p;
    int64_t size = p->dtype == TARN_F64 ? 8 : 4, a = 0, b = 0;
    one.c = (char *)p->c + batch * p->m * p->ldc * size;
    for (int d = p->batch_rank - 1; d >= 0; d--) {
        a += batch % p->batch[d] * p->step_a[d];
        b += batch % p->batch[d] * p->step_b[d];
        batch /= p->batch[d];
    }
    one.a = (const char *)p->a + a * size;
    one.b = (const char *)p->b + b * size;
    return one;
}

static tarn_status gemm_tile(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    const gemm_run *r = arg;
    int64_t first = task / r->tiles * r->chunk, tile = task % r->tiles;
    int64_t last = first + r->chunk < r->batches ? first + r->chunk : r->batches;
    int64_t i = tile / r->across * r->tile_m, j = tile % r->across * r->tile_n;
    int m = (int)(r->p.m - i < r->tile_m ? r->p.m - i : r->tile_m);
    int n = (int)(r->p.n - j < r->tile_n ? r->p.n - j : r->tile_n);
    for (int64_t b = first; b < last; b++) {
        tarn_product p = of_batch(&r->p, b);
        one_tile(&p, i, j, m, n);
    }
    return TARN_OK;
}

// Square tiles on and below the diagonal, in the order (0, 0), (1, 0), (1, 1), (2, 0) …; each is
// copied to its mirror image.
static tarn_status gram_tile(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    const tarn_product *r = arg;
    int64_t down = 0;
    while ((down + 1) * (down + 2) / 2 <= task) {
        down++;
    }
    int64_t i = down * TILE_M, j = (task - down * (down + 1) / 2) * TILE_M;
    int m = (int)(r->m - i < TILE_M ? r->m - i : TILE_M);
    int n = (int)(r->m - j < TILE_M ? r->m - j : TILE_M);
    one_tile(r, i, j, m, n);
    int64_t size = r->dtype == TARN_F64 ? 8 : 4;
    char *c = r->c;
    for (int64_t y = 0; y < m; y++) {
        for (int64_t x = 0; x < n && j + x < i + y; x++) {
            memcpy(c + size * ((j + x) * r->ldc + i + y), c + size * ((i + y) * r->ldc + j + x),
                   (size_t)size);
        }
    }
    return TARN_OK;
}

tarn_status tarn_blas_products(tarn_context *cx, const tarn_product *p, tarn_error *err) {
    gemm_run r = {.p = *p, .batches = 1};
    if (p->m > INT32_MAX || p->n > INT32_MAX || p->k > INT32_MAX || p->lda > INT32_MAX ||
        p->ldb > INT32_MAX || p->ldc > INT32_MAX) {
        TARN_RAISE(err, "Overflow", "matmul: a dimension passes 2^31");
    }
    for (int d = 0; d < p->batch_rank; d++) {
        r.batches *= p->batch[d];
    }
    if (p->m == 0 || p->n == 0 || r.batches == 0) {
        return TARN_OK;
    }
    if (p->k == 0) {
        size_t size = p->dtype == TARN_F64 ? 8 : 4;
        for (int64_t i = 0; i < p->m * r.batches; i++) {
            memset((char *)p->c + (size_t)(i * p->ldc) * size, 0, (size_t)p->n * size);
        }
        return TARN_OK;
    }
    TARN_TRY(opened(err));
    choose_tiles(&r);
    double work = (double)p->m * (double)p->n * (double)p->k;
    r.chunk = r.tiles == 1 && work < 3e5 ? (int64_t)(3e5 / work) : 1;
    int64_t tasks = (r.batches + r.chunk - 1) / r.chunk * r.tiles;
    bool small = work * (double)r.batches < 1e6;
    return tarn_pool_run(small ? NULL : cx->pool, tasks, gemm_tile, &r, &cx->cancel, err);
}

tarn_status tarn_blas_gemm(tarn_context *cx, tarn_dtype dtype, bool ta, bool tb, int64_t m,
                           int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                           int64_t ldb, void *c, int64_t ldc, tarn_error *err) {
    tarn_product p = {.dtype = dtype, .ta = ta, .tb = tb, .m = m, .n = n, .k = k, .lda = lda,
                      .ldb = ldb, .ldc = ldc, .a = a, .b = b, .c = c};
    return tarn_blas_products(cx, &p, err);
}

tarn_status tarn_blas_gram(tarn_context *cx, tarn_dtype dtype, bool rows, int64_t n, int64_t k,
                           const void *a, int64_t lda, void *c, int64_t ldc, tarn_error *err) {
    if (n == 0 || k == 0) {
        return tarn_blas_gemm(cx, dtype, false, false, n, n, 0, a, lda, a, lda, c, ldc, err);
    }
    if (n > INT32_MAX || k > INT32_MAX || lda > INT32_MAX || ldc > INT32_MAX) {
        TARN_RAISE(err, "Overflow", "gram: a dimension passes 2^31");
    }
    TARN_TRY(opened(err));
    tarn_product p = {.dtype = dtype, .ta = !rows, .tb = rows, .m = n, .n = n, .k = k, .lda = lda,
                      .ldb = lda, .ldc = ldc, .a = a, .b = a, .c = c};
    int64_t down = (n + TILE_M - 1) / TILE_M;
    bool small = (double)n * (double)n * (double)k < 1e6;
    return tarn_pool_run(small ? NULL : cx->pool, down * (down + 1) / 2, gram_tile, &p, &cx->cancel,
                         err);
}
