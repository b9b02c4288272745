// SPDX-License-Identifier: Apache-2.0
// Making batches. An example is converted into its place in the batch and varied there, while it is in
// the first-level cache: moving and mirroring, then noise, then the cut-out square (T. DeVries and G.
// Taylor, "Improved regularization of convolutional neural networks with cutout", 2017). Bytes that are
// normalised by channel are looked up in a table of 256 numbers a channel.
#include "vm/data/batch.h"

#include <string.h>

#include "vm/op/convert.h"
#include "vm/op/kernel/random.h"

enum { TASK = 1 << 15, TABLE = 256 };  // elements of a task, at least; entries of a table

struct tarn_batcher {
    tarn_context *cx;
    tarn_tensor x;
    tarn_batch_options o;
    tarn_dtype dtype;        // of a batch
    tarn_convert_fn convert; // NULL: bytes, by `pixels` or the tables
    void (*pixels)(int64_t n, const unsigned char *src, const tarn_batcher *b, float *dst);
    int64_t each;            // elements of an example
    int64_t height, width, channels;  // of an image
    int tables;              // of bytes: one a channel, or none
    bool random;
    float *mean, *std;       // [o.channels], in f32
    float *table;            // [tables][TABLE]
    float border[];          // [channels]: 0 pixels, then the memory of the three above
};

static size_t room_of(const tarn_batch_options *o, int64_t channels, int tables) {
    return sizeof(tarn_batcher) +
           sizeof(float) * ((size_t)channels + 2 * (size_t)o->channels + (size_t)tables * TABLE);
}

// ---- what can be done ----

static tarn_status check_image(const tarn_tensor *x, const tarn_batch_options *o, tarn_error *err) {
    bool wanted = o->shift > 0 || o->flip > 0 || o->cutout > 0;
    if (wanted && !o->image) {
        TARN_RAISE(err, "Augment", "shift, flip and cutout are for images, [n, height, width, channels]; these "
                   "examples have %d dimensions", x->rank - 1);
    }
    return TARN_OK;
}

static tarn_status check(const tarn_tensor *x, const tarn_batch_options *o, tarn_dtype dtype, tarn_error *err) {
    if (x->rank < 1) {
        TARN_RAISE(err, "Shape", "a data set has a first dimension, over its examples");
    }
    tarn_tensor one = *x;
    one.rank--;
    memmove(one.shape, one.shape + 1, sizeof one.shape - sizeof *one.shape);
    memmove(one.stride, one.stride + 1, sizeof one.stride - sizeof *one.stride);
    if (!tarn_tensor_contiguous(&one)) {
        TARN_RAISE(err, "Shape", "an example is not contiguous");
    }
    if (tarn_dtype_get(x->dtype)->kind == TARN_KIND_OPAQUE || (o->image && x->rank != 4)) {
        TARN_RAISE(err, "Dtype", "no batches can be made of %s with %d dimensions",
                   tarn_dtype_get(x->dtype)->name, x->rank);
    }
    if (o->raw) {
        return TARN_OK;
    }
    bool numbers = o->channels > 0 || o->noise > 0 || o->shift > 0 || o->flip > 0 || o->cutout > 0;
    if (numbers && dtype != TARN_F32) {
        TARN_RAISE(err, "Augment", "normalisation and augmentation are for batches of f32, not %s",
                   tarn_dtype_get(dtype)->name);
    }
    int64_t last = x->shape[x->rank - 1];
    if (o->channels > 1 && o->channels != last) {
        TARN_RAISE(err, "Shape", "normalise has %d numbers; the last dimension of the data is %lld", o->channels,
                   (long long)last);
    }
    return check_image(x, o, err);
}

// ---- making ----

static float prepared(const tarn_batcher *b, float v, int channel) {
    v = b->o.divisor > 0 && b->o.divisor != 1 ? v / (float)b->o.divisor : v;
    if (b->o.channels > 0) {
        int c = b->o.channels > 1 ? channel : 0;
        v = (v - b->mean[c]) / b->std[c];
    }
    return v;
}

// What `prepared` is, of many bytes with one mean and deviation: the same operations, so the same bits.
static inline __attribute__((always_inline)) void pixels(int64_t n, const unsigned char *restrict src,
                                                         const tarn_batcher *b, float *restrict dst) {
    const float divisor = (float)b->o.divisor;
    if (b->o.channels == 0) {
        for (int64_t i = 0; i < n; i++) {
            dst[i] = (float)src[i] / divisor;
        }
        return;
    }
    const float mean = b->mean[0], std = b->std[0];
    for (int64_t i = 0; i < n; i++) {
        dst[i] = ((float)src[i] / divisor - mean) / std;
    }
}
#define PIXELS(isa, attribute)                                                                         \
    attribute static void pixels_##isa(int64_t n, const unsigned char *src, const tarn_batcher *b, float *dst) { \
        pixels(n, src, b, dst);                                                                        \
    }
PIXELS(v1, )
PIXELS(v3, __attribute__((target("arch=x86-64-v3"))))
PIXELS(v4, __attribute__((target("arch=x86-64-v4"))))

static void fill_tables(tarn_batcher *b) {
    for (int c = 0; c < b->tables; c++) {
        for (int v = 0; v < TABLE; v++) {
            b->table[c * TABLE + v] = prepared(b, (float)v, c);
        }
    }
    for (int64_t c = 0; c < b->channels; c++) {
        b->border[c] = prepared(b, 0, (int)c);
    }
}

tarn_status tarn_batcher_make(tarn_context *cx, const tarn_tensor *x, const tarn_batch_options *o,
                              tarn_batcher **out, tarn_error *err) {
    tarn_dtype dtype = o->raw ? x->dtype : o->divisor > 0 ? TARN_F32 : tarn_dtype_compute(x->dtype);
    *out = NULL;
    TARN_TRY(check(x, o, dtype, err));
    bool bytes = !o->raw && x->dtype == TARN_U8 && dtype == TARN_F32;
    int64_t channels = o->image ? x->shape[3] : 0;
    int tables = bytes && o->channels > 1 ? o->channels : 0;
    size_t room = room_of(o, channels, tables);
    tarn_batcher *b = tarn_alloc_zero(&cx->budget, room);
    if (!b) {
        return tarn_raise_nomem(err, "batches", room);
    }
    b->cx = cx;
    b->o = *o;
    b->dtype = dtype;
    b->convert = bytes ? NULL : tarn_convert(cx->isa, x->dtype, dtype);
    b->pixels = cx->isa == TARN_ISA_V4 ? pixels_v4 : cx->isa == TARN_ISA_V3 ? pixels_v3 : pixels_v1;
    b->channels = channels;
    b->tables = tables;
    b->height = o->image ? x->shape[1] : 0;
    b->width = o->image ? x->shape[2] : 0;
    b->each = 1;
    for (int d = 1; d < x->rank; d++) {
        b->each *= x->shape[d];
    }
    b->random = !o->raw && (o->shift > 0 || o->flip > 0 || o->noise > 0 || o->cutout > 0);
    b->mean = b->border + channels;
    b->std = b->mean + o->channels;
    b->table = b->std + o->channels;
    for (int c = 0; c < o->channels; c++) {
        b->mean[c] = (float)o->mean[c];
        b->std[c] = (float)o->std[c];
    }
    b->o.mean = b->o.std = NULL;  // the caller's
    if (!o->raw) {
        fill_tables(b);
    }
    tarn_tensor_share(x, &b->x);
    *out = b;
    return TARN_OK;
}

void tarn_batcher_free(tarn_batcher *b) {
    if (b) {
        tarn_tensor_release(&b->x);
        tarn_free(&b->cx->budget, b, room_of(&b->o, b->channels, b->tables));
    }
}

// ---- one example ----

static void look_up(const tarn_batcher *b, const unsigned char *src, float *dst) {
    for (int64_t i = 0; i < b->each; i += b->tables) {
        for (int c = 0; c < b->tables; c++) {
            dst[i + c] = b->table[c * TABLE + src[i + c]];
        }
    }
}

static void prepare(const tarn_batcher *b, float *dst) {
    int channels = b->o.channels > 1 ? b->o.channels : 1;
    for (int64_t i = 0; i < b->each; i += channels) {
        for (int c = 0; c < channels; c++) {
            dst[i + c] = prepared(b, dst[i + c], c);
        }
    }
}

static void convert(const tarn_batcher *b, const void *src, void *dst) {
    if (!b->convert) {
        if (b->tables > 0) {
            look_up(b, src, dst);
        } else {
            b->pixels(b->each, src, b, dst);
        }
        return;
    }
    b->convert(b->each, src, dst);
    if (!b->o.raw && (b->o.channels > 0 || b->o.divisor > 0)) {
        prepare(b, dst);
    }
}

typedef struct {
    int64_t dy, dx;  // what is seen at (y, x) stood at (y - dy, x - dx)
    bool flip;
    int64_t cut_y, cut_x;  // centre of the square
} variation;

// Uniform in 0 … n-1, up to n / 2^32.
static int64_t below(uint32_t word, int64_t n) { return (int64_t)((uint64_t)word * (uint64_t)n >> 32); }

typedef enum { USE_PLACE, USE_NOISE } random_use;

static uint64_t key_of(const tarn_batcher *b, uint64_t epoch, int64_t row, random_use use) {
    static const char name[] = "data.augment";
    return tarn_random_key(b->o.seed, name, sizeof name - 1, epoch, 2 * (uint64_t)row + use);
}

static variation vary(const tarn_batcher *b, uint64_t epoch, int64_t row) {
    uint64_t key = key_of(b, epoch, row, USE_PLACE);
    const uint32_t k[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t w[8];
    tarn_philox((const uint32_t[4]){0, 0, 0, 0}, k, w);
    tarn_philox((const uint32_t[4]){1, 0, 0, 0}, k, w + 4);
    return (variation){
        .dy = below(w[0], 2 * b->o.shift + 1) - b->o.shift,
        .dx = below(w[1], 2 * b->o.shift + 1) - b->o.shift,
        .flip = (double)w[2] * 0x1p-32 < b->o.flip,
        .cut_y = below(w[3], b->height),
        .cut_x = below(w[4], b->width),
    };
}

static void fill_border(const tarn_batcher *b, int64_t n, float *dst) {
    for (int64_t x = 0; x < n; x++) {
        memcpy(dst + x * b->channels, b->border, (size_t)b->channels * sizeof *dst);
    }
}

// One line of the image; `by`: how far what is seen has moved to the right.
static void place_line(const tarn_batcher *b, bool flip, int64_t by, const float *src, float *dst) {
    const int64_t c = b->channels, w = b->width;
    int64_t first = by < 0 ? 0 : by < w ? by : w, end = by > 0 ? w : w + by;
    end = end > first ? end : first;
    fill_border(b, first, dst);
    fill_border(b, w - end, dst + end * c);
    if (!flip) {
        memcpy(dst + first * c, src + (first - by) * c, (size_t)((end - first) * c) * sizeof *dst);
        return;
    }
    for (int64_t x = first; x < end; x++) {
        for (int64_t k = 0; k < c; k++) {
            dst[x * c + k] = src[(w - 1 - x + by) * c + k];
        }
    }
}

// The image at src, moved, then mirrored, into dst.
static void place(const tarn_batcher *b, const variation *v, const float *src, float *dst) {
    const int64_t line = b->width * b->channels;
    for (int64_t y = 0; y < b->height; y++) {
        int64_t from = y - v->dy;
        if (from < 0 || from >= b->height) {
            fill_border(b, b->width, dst + y * line);
        } else {
            place_line(b, v->flip, v->flip ? -v->dx : v->dx, src + from * line, dst + y * line);
        }
    }
}

static void add_noise(const tarn_batcher *b, uint64_t epoch, int64_t row, float *dst) {
    enum { SOME = 512 };
    float z[SOME];
    uint64_t key = key_of(b, epoch, row, USE_NOISE);
    const float scale = (float)b->o.noise;
    for (int64_t at = 0; at < b->each; at += SOME) {
        int64_t n = b->each - at < SOME ? b->each - at : SOME;
        tarn_random(b->cx->isa)->normal_f32(key, at, n, z);
        for (int64_t i = 0; i < n; i++) {
            dst[at + i] += scale * z[i];
        }
    }
}

static void cut(const tarn_batcher *b, const variation *v, float *dst) {
    int64_t side = b->o.cutout, y0 = v->cut_y - side / 2, x0 = v->cut_x - side / 2;
    int64_t y1 = y0 + side < b->height ? y0 + side : b->height, x1 = x0 + side < b->width ? x0 + side : b->width;
    y0 = y0 > 0 ? y0 : 0;
    x0 = x0 > 0 ? x0 : 0;
    for (int64_t y = y0; y < y1 && x0 < x1; y++) {
        memset(dst + (y * b->width + x0) * b->channels, 0, (size_t)((x1 - x0) * b->channels) * sizeof *dst);
    }
}

// ---- many ----

typedef struct {
    const tarn_batcher *b;
    int64_t n, some;  // examples; of a task
    const int64_t *rows;
    uint64_t epoch;
    char *dst;
    float *scratch;  // [workers][each]: images before they are moved; NULL: none is
} batch;

static tarn_status make_some(void *arg, int64_t task, int worker, tarn_error *err) {
    const batch *j = arg;
    const tarn_batcher *b = j->b;
    const size_t in = tarn_dtype_bytes(b->x.dtype, 1), out = tarn_dtype_bytes(b->dtype, b->each);
    float *scratch = j->scratch ? j->scratch + worker * b->each : NULL;
    int64_t end = (task + 1) * j->some < j->n ? (task + 1) * j->some : j->n;
    (void)err;
    for (int64_t i = task * j->some; i < end; i++) {
        const int64_t row = j->rows[i];
        const char *src = (const char *)tarn_tensor_data(&b->x) + (size_t)(row * b->x.stride[0]) * in;
        float *dst = (float *)(void *)(j->dst + (size_t)i * out);
        convert(b, src, scratch ? scratch : dst);
        if (b->random) {
            variation v = vary(b, j->epoch, row);
            if (scratch) {
                place(b, &v, scratch, dst);
            }
            if (b->o.noise > 0) {
                add_noise(b, j->epoch, row, dst);
            }
            if (b->o.cutout > 0) {
                cut(b, &v, dst);
            }
        }
    }
    return TARN_OK;
}

static tarn_status run(const tarn_batcher *b, batch *j, tarn_error *err) {
    tarn_context *cx = b->cx;
    bool moved = b->random && (b->o.shift > 0 || b->o.flip > 0);
    size_t room = moved ? (size_t)tarn_pool_size(cx->pool) * (size_t)b->each * sizeof *j->scratch : 0;
    if (moved && !(j->scratch = tarn_alloc(&cx->budget, room))) {
        return tarn_raise_nomem(err, "a batch", room);
    }
    tarn_status s = tarn_pool_run(cx->pool, (j->n + j->some - 1) / j->some, make_some, j, &cx->cancel, err);
    tarn_free(&cx->budget, j->scratch, room);
    return s;
}

tarn_status tarn_batcher_take(const tarn_batcher *b, int64_t n, const int64_t *rows, uint64_t epoch,
                              tarn_tensor *out, tarn_error *err) {
    memset(out, 0, sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= b->x.shape[0]) {
            TARN_RAISE(err, "Index", "example %lld is asked for; there are %lld", (long long)rows[i] + 1,
                       (long long)b->x.shape[0]);
        }
    }
    int64_t shape[TARN_MAX_RANK];
    memcpy(shape, b->x.shape, sizeof shape);
    shape[0] = n;
    TARN_TRY(tarn_tensor_new(b->cx, b->dtype, b->x.rank, shape, out, err));
    batch j = {.b = b, .n = n, .rows = rows, .epoch = epoch, .dst = tarn_tensor_data(out)};
    j.some = b->each > 0 && b->each < TASK ? (TASK + b->each - 1) / b->each : 1;
    tarn_status s = b->each > 0 ? run(b, &j, err) : TARN_OK;
    if (s != TARN_OK) {
        tarn_tensor_release(out);
    }
    return s;
}

size_t tarn_batcher_bytes(const tarn_batcher *b, int64_t n) { return (size_t)n * tarn_dtype_bytes(b->dtype, b->each); }

// ---- order ----

void tarn_data_order(tarn_isa isa, uint64_t seed, uint64_t epoch, int64_t n, int64_t *out) {
    enum { SOME = 256 };  // draws at a time
    static const char name[] = "data.order";
    uint64_t key = tarn_random_key(seed, name, sizeof name - 1, epoch, 0);
    uint32_t w[2 * SOME];
    for (int64_t i = 0; i < n; i++) {  // inside out
        if (i % SOME == 0) {
            tarn_random(isa)->words(key, 2 * i, 2 * SOME, w);
        }
        uint64_t word = (uint64_t)w[2 * (i % SOME)] << 32 | w[2 * (i % SOME) + 1];
        int64_t k = (int64_t)((unsigned __int128)word * ((uint64_t)i + 1) >> 64);
        out[i] = out[k];
        out[k] = i;
    }
}
