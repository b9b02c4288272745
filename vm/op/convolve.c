// SPDX-License-Identifier: Apache-2.0
// Convolution without im2col. The value and the gradient of the input are one thing, a gather: each
// position of the result sums, over the taps of the kernel that reach it, pixels of the source
// times weights. A stride splits the gradient of the input into phases: positions of one residue
// see the same taps. The gradient of the weight sums over positions instead, with the same register
// tile (vm/op/kernel/conv.h). Images are copied once into a frame of zeros where taps reach
// outside; weights are packed by blocks of output channels. Depthwise kernels take whole vectors of
// both operands. Work is cut by images, or by bands of one, and no sum depends on how; the gradient
// of the weight is summed in at most GROUPS fixed groups of images, joined in f64 in their order.
#include "vm/op/convolve.h"

#include <string.h>

#include "vm/base/size.h"
#include "vm/op/kernel/conv.h"

enum {
    GROUPS = 8,
    SLACK = TARN_CONV_BLOCK
};  // SLACK: bytes that a tile may read past its channels

#define TOO_MUCH ((size_t)1 << 50)  // bytes that no budget grants; times threads it stays a number

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t size_of(const tarn_conv *s) { return s->dtype == TARN_F64 ? 8 : 4; }

static const tarn_conv_table *table_of(tarn_isa isa) {
    return isa == TARN_ISA_V4   ? &tarn_conv_table_v4
           : isa == TARN_ISA_V3 ? &tarn_conv_table_v3
                                : &tarn_conv_table_v1;
}

// One channel in and one out for each group: the channels are the block, not the groups.
static bool depthwise(const tarn_conv *s) {
    return s->groups > 1 && s->c == s->groups && s->o == s->c;
}

// ---- blocks of channels: whole ones, the last may be half ----

typedef struct {
    int64_t channels, whole, count, padded;  // elements; padded: all blocks together
} blocks;

static blocks blocks_of(int64_t channels, int64_t size) {
    blocks b = {.channels = channels, .whole = TARN_CONV_BLOCK / size};
    int64_t half = b.whole / 2;
    b.padded = (channels + half - 1) / half * half;
    b.count = (b.padded + b.whole - 1) / b.whole;
    return b;
}
static int64_t block_width(const blocks *b, int64_t i) {
    return least(b->whole, b->padded - i * b->whole);
}

// ---- frames: an image with zeros around it ----

typedef struct {
    int64_t top, left, h, w;  // of the frame, in pixels
    bool copied;              // false: the image itself
    size_t bytes;
} frame;

// Rows low … high and columns of an image [h, w, c] are read.
static frame frame_of(int64_t h, int64_t w, int64_t c, int64_t size, const int64_t row[2],
                      const int64_t col[2], bool slack) {
    frame f = {.top = most(0, -row[0]), .left = most(0, -col[0])};
    f.h = f.top + most(h - 1, row[1]) + 1;
    f.w = f.left + most(w - 1, col[1]) + 1;
    f.copied = slack || f.h != h || f.w != w;
    uint64_t n;
    bool fits = tarn_mul_u64((uint64_t)f.h, (uint64_t)f.w, &n) &&
                tarn_mul_u64(n, (uint64_t)c, &n) && tarn_mul_u64(n, (uint64_t)size, &n) &&
                n < TOO_MUCH;
    f.bytes = !f.copied ? 0 : fits ? ((size_t)n + SLACK + 63) / 64 * 64 : TOO_MUCH;
    return f;
}

// The image in the frame's memory, whose border is zero already.
static const char *framed(const frame *f, const char *image, int64_t h, int64_t w, int64_t pixel,
                          char *memory) {
    if (!f->copied) {
        return image;
    }
    for (int64_t i = 0; i < h; i++) {
        memcpy(memory + ((f->top + i) * f->w + f->left) * pixel, image + i * w * pixel,
               (size_t)(w * pixel));
    }
    return memory;
}

// ---- tiles over rows ----

typedef struct {
    const tarn_conv_table *table;
    int wide, type;  // f64
    bool each;
    int64_t size;
} tiles;

static tiles tiles_of(tarn_isa isa, const tarn_conv *s) {
    return (tiles){.table = table_of(isa),
                   .type = s->dtype == TARN_F64,
                   .each = depthwise(s),
                   .size = size_of(s)};
}

// `rows` rows in tiles of nearly equal height; t says the rest.
static void run_tiles(const tiles *k, const tarn_conv_tile *t, int64_t rows, int64_t block,
                      const char *a, const char *b, char *c) {
    int wide = block * k->size == TARN_CONV_BLOCK;
    int64_t count = (rows + k->table->rows[wide] - 1) / k->table->rows[wide];
    for (int64_t i = 0; i < count; i++) {
        int64_t from = rows * i / count, height = rows * (i + 1) / count - from;
        k->table->run[k->type][wide][k->each][height - 1](t, a + from * t->ar * k->size, b,
                                                          c + from * t->cr * k->size);
    }
}

// Adds n places from `at`, `step` apart, to a list of segments; what goes on where the last one
// ended makes it longer.
static void add_segment(int64_t *at, int64_t *n, int64_t *count, int64_t place, int64_t places,
                        int64_t step) {
    if (*count > 0 && at[*count - 1] + n[*count - 1] * step == place) {
        n[*count - 1] += places;
        return;
    }
    at[*count] = place;
    n[(*count)++] = places;
}

// ---- gathers: the value, and the gradient of the input ----

typedef struct {
    int64_t rows, cols;             // positions
    int64_t dst, dst_row, dst_col;  // elements: the first position, steps
    int64_t src_row, src_col;  // elements of the frame; position 0 is at place 0 of the segments
    int64_t segments, taps,
        weight;  // first segment's number is that of the first tap; elements packed before
    int64_t first;
} phase;

typedef struct {
    const tarn_conv *s;
    bool input;  // the gradient of the input
    tiles k;
    int64_t h, w, c, n;        // source image, channels in all and of a group
    int64_t dst_c, dst_image;  // channels and elements of the result
    blocks m;                  // of a group's result channels
    int64_t groups;            // 1 for depthwise
    frame f;
    int64_t phases, bands;
    phase *phase;       // [phases]
    int64_t *at, *len;  // segments [kh kw]
    int64_t *tap;       // kernel places in the order of packing [kh kw]
    char *packed, *frames;
    const char *src;
    char *dst;
} gather;

// Kernel places along one axis that reach positions of residue r: place a reads offset (r + p - a
// d) / s.
static bool reaches(const tarn_conv *s, bool input, int axis, int64_t r, int64_t a,
                    int64_t *offset) {
    int64_t d = axis ? s->dw : s->dh, p = axis ? s->pw : s->ph, step = axis ? s->sw : s->sh;
    int64_t o = input ? r + p - a * d : a * d - p;
    *offset = input ? o / step : o;
    return !input || o % step == 0;
}

// Rows (columns) of the source that anything reads.
static void reach(const tarn_conv *s, bool input, int axis, int64_t range[2]) {
    int64_t k = axis ? s->kw : s->kh, step = axis ? s->sw : s->sh;
    int64_t dst = input ? (axis ? s->w : s->h) : (axis ? s->ow : s->oh);
    int64_t phases = input ? least(step, dst) : 1, o;
    range[0] = 0;
    range[1] = -1;
    for (int64_t r = 0; r < phases; r++) {
        int64_t last = input ? (dst - r - 1) / step : (dst - 1) * step;
        for (int64_t a = 0; a < k; a++) {
            if (reaches(s, input, axis, r, a, &o)) {
                range[0] = least(range[0], o);
                range[1] = most(range[1], last + o);
            }
        }
    }
}

static gather gather_of(const tarn_conv *s, bool input, int threads) {
    bool deep = depthwise(s);
    int64_t row[2], col[2], size = size_of(s), m = input ? s->c : s->o;
    gather g = {.s = s, .input = input, .groups = deep ? 1 : s->groups};
    g.h = input ? s->oh : s->h;
    g.w = input ? s->ow : s->w;
    g.c = input ? s->o : s->c;
    g.n = deep ? 1 : g.c / s->groups;
    g.dst_c = m;
    g.dst_image = input ? s->h * s->w * m : s->oh * s->ow * m;
    g.m = blocks_of(m / g.groups, size);
    reach(s, input, 0, row);
    reach(s, input, 1, col);
    g.f = frame_of(g.h, g.w, g.c, size, row, col, deep && g.m.padded != m);
    g.phases = input ? least(s->sh, s->h) * least(s->sw, s->w) : 1;
    g.bands = s->n < 2 * threads && s->n > 0 ? (2 * threads + s->n - 1) / s->n : 1;
    return g;
}
static size_t packed_bytes(const gather *g) {
    return (size_t)(g->groups * g->m.padded * g->n * g->s->kh * g->s->kw * g->k.size) + SLACK;
}
static size_t list_bytes(const gather *g) {
    return (size_t)g->phases * sizeof(phase) + 3 * (size_t)(g->s->kh * g->s->kw) * sizeof(int64_t);
}

// One phase: the positions of residues r (rows) and q (columns).
static void fill_phase(gather *g, phase *p, int64_t r, int64_t q, int64_t *taps) {
    const tarn_conv *s = g->s;
    bool in = g->input;
    int64_t o, u;
    *p = (phase){.rows = in ? (s->h - r + s->sh - 1) / s->sh : s->oh,
                 .cols = in ? (s->w - q + s->sw - 1) / s->sw : s->ow,
                 .dst = in ? (r * s->w + q) * g->dst_c : 0,
                 .dst_row = (in ? s->sh * s->w : s->ow) * g->dst_c,
                 .dst_col = (in ? s->sw : 1) * g->dst_c,
                 .src_row = (in ? 1 : s->sh) * g->f.w * g->c,
                 .src_col = (in ? 1 : s->sw) * g->c,
                 .first = *taps,
                 .weight = *taps * g->n * g->m.padded * g->groups};
    // Places of the source ascend, so that neighbours become one segment.
    for (int64_t i = 0; i < s->kh; i++) {
        int64_t a = in ? s->kh - 1 - i : i;
        for (int64_t j = 0; j < s->kw && reaches(s, in, 0, r, a, &o); j++) {
            int64_t b = in ? s->kw - 1 - j : j;
            if (reaches(s, in, 1, q, b, &u)) {
                int64_t place = ((g->f.top + o) * g->f.w + g->f.left + u) * g->c;
                add_segment(g->at + p->first, g->len + p->first, &p->segments, place, g->n, 1);
                g->tap[(*taps)++] = a * s->kw + b;
                p->taps++;
            }
        }
    }
    if (p->src_row == p->cols * p->src_col && p->dst_row == p->cols * p->dst_col) {
        p->cols *= p->rows;
        p->rows = 1;
    }
}

// Weights of one block: for each tap and each channel of the sum, the block's channels, zeros
// beyond.
#define PACK(T)                                                                                    \
    do {                                                                                           \
        const T *w = weight;                                                                       \
        T *to = (T *)(void *)g->packed + p->weight + (gr * g->m.padded + from) * p->taps * g->n;   \
        for (int64_t t = 0; t < p->taps; t++) {                                                    \
            const T *tap = w + g->tap[p->first + t];                                               \
            for (int64_t k = 0; k < g->n; k++, to += width) {                                      \
                const T *x = tap + gr * group + from * by_m + k * by_n;                            \
                for (int64_t v = 0; v < width; v++) {                                              \
                    to[v] = from + v < g->m.channels ? x[v * by_m] : 0;                            \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void pack(gather *g, const void *weight) {
    const tarn_conv *s = g->s;
    int64_t area = s->kh * s->kw, out = s->c / s->groups * area;  // steps of the weight's channels
    int64_t by_m = g->input && !depthwise(s) ? area : out, by_n = g->input ? out : area;
    int64_t group = s->o / g->groups * out;
    for (int64_t i = 0; i < g->phases; i++) {
        const phase *p = &g->phase[i];
        for (int64_t gr = 0; gr < g->groups; gr++) {
            for (int64_t b = 0; b < g->m.count; b++) {
                int64_t from = b * g->m.whole, width = block_width(&g->m, b);
                if (g->k.type) {
                    PACK(double);
                } else {
                    PACK(float);
                }
            }
        }
    }
}

// Positions of the band of one phase, for one block of channels.
static void gather_block(const gather *g, const phase *p, int64_t band, int64_t gr, int64_t b,
                         const char *src, char *dst) {
    int64_t size = g->k.size, from = b * g->m.whole, width = block_width(&g->m, b);
    int64_t cut = p->rows > 1 ? p->rows : p->cols;
    int64_t first = cut * band / g->bands, end = cut * (band + 1) / g->bands;
    tarn_conv_tile t = {.segments = p->segments,
                        .at = g->at + p->first,
                        .n = g->len + p->first,
                        .ar = p->src_col,
                        .ak = 1,
                        .bk = width,
                        .cr = p->dst_col,
                        .width = least(width, g->m.channels - from)};
    const char *w = g->packed + (p->weight + (gr * g->m.padded + from) * p->taps * g->n) * size;
    src += (gr * g->n + (g->k.each ? from : 0)) * size;
    dst += (p->dst + gr * g->m.channels + from) * size;
    if (p->rows == 1) {
        run_tiles(&g->k, &t, end - first, width, src + first * p->src_col * size, w,
                  dst + first * p->dst_col * size);
        return;
    }
    for (int64_t i = first; i < end; i++) {
        run_tiles(&g->k, &t, p->cols, width, src + i * p->src_row * size, w,
                  dst + i * p->dst_row * size);
    }
}

static tarn_status gather_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    const gather *g = arg;
    int64_t image = task / g->bands, band = task % g->bands, pixel = g->c * g->k.size;
    const char *src = framed(&g->f, g->src + image * g->h * g->w * pixel, g->h, g->w, pixel,
                             g->frames + (size_t)worker * g->f.bytes);
    char *dst = g->dst + image * g->dst_image * g->k.size;
    for (int64_t i = 0; i < g->phases; i++) {
        for (int64_t gr = 0; gr < g->groups; gr++) {
            for (int64_t b = 0; b < g->m.count; b++) {
                gather_block(g, &g->phase[i], band, gr, b, src, dst);
            }
        }
    }
    return TARN_OK;
}

static tarn_status run_gather(tarn_context *cx, const tarn_conv *s, bool input, const void *src,
                              const void *weight, void *dst, tarn_error *err) {
    int threads = tarn_pool_size(cx->pool);
    gather g = gather_of(s, input, threads);
    g.k = tiles_of(cx->isa, s);
    g.src = src;
    g.dst = dst;
    if (s->n == 0 || g.dst_image == 0) {
        return TARN_OK;
    }
    const char *what = input ? "conv2d_input" : "conv2d";
    size_t lists = list_bytes(&g), packed = packed_bytes(&g), frames = g.f.bytes * (size_t)threads;
    char *list = tarn_alloc(&cx->budget, lists);
    g.packed = tarn_alloc(&cx->budget, packed);
    g.frames = tarn_alloc_zero(&cx->budget, frames);
    tarn_status status = TARN_OK;
    if (!list || !g.packed || !g.frames) {
        status = tarn_raise_nomem(err, what, lists + packed + frames);
    } else {
        int64_t taps = 0, across = input ? least(s->sw, s->w) : 1;
        g.phase = (phase *)(void *)list;
        g.at = (int64_t *)(void *)(list + (size_t)g.phases * sizeof(phase));
        g.len = g.at + s->kh * s->kw;
        g.tap = g.len + s->kh * s->kw;
        for (int64_t i = 0; i < g.phases; i++) {
            fill_phase(&g, &g.phase[i], i / across, i % across, &taps);
        }
        pack(&g, weight);
        status = tarn_pool_run(cx->pool, s->n * g.bands, gather_task, &g, &cx->cancel, err);
    }
    tarn_free(&cx->budget, g.frames, frames);
    tarn_free(&cx->budget, g.packed, packed);
    tarn_free(&cx->budget, list, lists);
    return status;
}

tarn_status tarn_conv_forward(tarn_context *cx, const tarn_conv *s, const void *x, const void *w,
                              void *y, tarn_error *err) {
    return run_gather(cx, s, false, x, w, y, err);
}
tarn_status tarn_conv_input(tarn_context *cx, const tarn_conv *s, const void *y, const void *w,
                            void *x, tarn_error *err) {
    return run_gather(cx, s, true, y, w, x, err);
}

static size_t gather_bytes(const tarn_conv *s, bool input, int threads) {
    gather g = gather_of(s, input, threads);
    g.k.size = size_of(s);
    return list_bytes(&g) + packed_bytes(&g) + g.f.bytes * (size_t)threads;
}
size_t tarn_conv_forward_bytes(const tarn_conv *s, int threads) {
    return gather_bytes(s, false, threads);
}
size_t tarn_conv_input_bytes(const tarn_conv *s, int threads) {
    return gather_bytes(s, true, threads);
}

// ---- the gradient of the weight ----

typedef struct {
    const tarn_conv *s;
    tiles k;
    blocks m;                    // of a group's output channels
    int64_t groups, n;           // n: input channels of a group
    int64_t parts, rows;         // groups of images; rows of a part: (group, kernel place, channel)
    frame f;                     // of x
    size_t y_bytes, part_bytes;  // y_bytes: y with whole blocks of channels; 0: as it is
    int64_t y_pixel;             // channels of one position of it
    int64_t segments, *at, *len;
    char *part, *frames, *ys;
    const char *x, *y;
    char *w;
} weigh;

static weigh weigh_of(const tarn_conv *s) {
    bool deep = depthwise(s);
    int64_t size = size_of(s), row[2], col[2];
    weigh q = {.s = s, .groups = deep ? 1 : s->groups, .n = deep ? 1 : s->c / s->groups};
    q.m = blocks_of(s->o / q.groups, size);
    q.rows = q.groups * s->kh * s->kw * q.n;
    q.parts = least(s->n, GROUPS);
    reach(s, false, 0, row);
    reach(s, false, 1, col);
    q.f = frame_of(s->h, s->w, s->c, size, row, col, deep && q.m.padded != s->c);
    q.y_pixel = q.groups * q.m.padded;
    bool whole = q.m.padded == q.m.channels;
    q.y_bytes = whole ? 0 : (size_t)(s->oh * s->ow * q.y_pixel * size + 63) / 64 * 64;
    q.part_bytes = (size_t)(q.rows * q.m.padded * size + 63) / 64 * 64;
    return q;
}

// y's image with each group's channels filled up with zeros (which are there already) to whole
// blocks.
static const char *blocked(const weigh *q, const char *image, char *memory) {
    if (q->y_bytes == 0) {
        return image;
    }
    int64_t size = q->k.size, run = q->m.channels * size, step = q->m.padded * size;
    for (int64_t i = 0; i < q->s->oh * q->s->ow * q->groups; i++) {
        memcpy(memory + i * step, image + i * run, (size_t)run);
    }
    return memory;
}

// Adds one image to a part: rows are places of x, which step along a row of the kernel.
static void weigh_image(const weigh *q, const char *x, const char *y, char *part) {
    const tarn_conv *s = q->s;
    int64_t size = q->k.size, row = q->f.w * s->c;
    // Neighbouring columns of the kernel are neighbouring channels: one run of rows. Depthwise, a
    // row of a part is a column of the kernel.
    bool joined = q->groups == 1 && s->dw == 1 && !q->k.each;
    int64_t runs = joined || q->k.each ? 1 : s->kw, height = joined      ? s->kw * s->c
                                                             : q->k.each ? s->kw
                                                                         : q->n;
    for (int64_t i = 0; i < q->groups * s->kh * runs; i++) {
        int64_t gr = i / (s->kh * runs), a = i / runs % s->kh, b = i % runs;
        const char *from = x + (a * s->dh * row + b * s->dw * s->c + gr * q->n) * size;
        for (int64_t j = 0; j < q->m.count; j++) {
            int64_t at = j * q->m.whole, width = block_width(&q->m, j);
            tarn_conv_tile t = {.segments = q->segments,
                                .at = q->at,
                                .n = q->len,
                                .ar = q->k.each ? s->dw * s->c : 1,
                                .ak = s->sw * s->c,
                                .bk = q->y_pixel,
                                .cr = q->m.padded,
                                .width = width,
                                .add = true};
            run_tiles(&q->k, &t, height, width, from + (q->k.each ? at * size : 0),
                      y + (gr * q->m.padded + at) * size,
                      part + (i * height * q->m.padded + at) * size);
        }
    }
}

static tarn_status weigh_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)err;
    const weigh *q = arg;
    const tarn_conv *s = q->s;
    int64_t size = q->k.size;
    char *part = q->part + (size_t)task * q->part_bytes;
    char *frame_memory = q->frames + (size_t)worker * q->f.bytes,
         *y_memory = q->ys + (size_t)worker * q->y_bytes;
    memset(part, 0, q->part_bytes);
    for (int64_t i = s->n * task / q->parts; i < s->n * (task + 1) / q->parts; i++) {
        const char *x = framed(&q->f, q->x + i * s->h * s->w * s->c * size, s->h, s->w, s->c * size,
                               frame_memory);
        const char *y = blocked(q, q->y + i * s->oh * s->ow * s->o * size, y_memory);
        weigh_image(q, x, y, part);
    }
    return TARN_OK;
}

// The parts of one row, in their order, to their places in the weight.
#define JOIN(T)                                                                                    \
    for (int64_t v = 0; v < q->m.channels; v++) {                                                  \
        double sum = 0;                                                                            \
        for (int64_t p = 0; p < q->parts; p++) {                                                   \
            sum += (double)((const T *)(const void *)(q->part +                                    \
                                                      (size_t)p *                                  \
                                                          q->part_bytes))[row * q->m.padded + v];  \
        }                                                                                          \
        ((T *)(void *)q->w)[to + v * step] = (T)sum;                                               \
    }

static tarn_status join_task(void *arg, int64_t task, int worker, tarn_error *err) {
    (void)worker, (void)err;
    const weigh *q = arg;
    int64_t area = q->s->kh * q->s->kw, step = q->s->c / q->s->groups * area;
    for (int64_t k = 0; k < q->n; k++) {
        int64_t row = task * q->n + k, gr = task / area, place = task % area;
        int64_t to = gr * q->m.channels * step + k * area + place;
        if (q->k.type) {
            JOIN(double)
        } else {
            JOIN(float)
        }
    }
    return TARN_OK;
}

tarn_status tarn_conv_weight(tarn_context *cx, const tarn_conv *s, const void *x, const void *y,
                             void *w, tarn_error *err) {
    weigh q = weigh_of(s);
    q.k = tiles_of(cx->isa, s);
    q.x = x;
    q.y = y;
    q.w = w;
    size_t threads = (size_t)tarn_pool_size(cx->pool);
    size_t parts = q.part_bytes * (size_t)q.parts, work = (q.f.bytes + q.y_bytes) * threads;
    size_t list = 2 * (size_t)s->oh * sizeof(int64_t);
    q.part = tarn_alloc(&cx->budget, parts);
    q.frames = tarn_alloc_zero(&cx->budget, work);
    q.at = tarn_alloc(&cx->budget, list);
    tarn_status status = TARN_OK;
    if (!q.part || !q.frames || !q.at) {
        status = tarn_raise_nomem(err, "conv2d_weight", parts + work + list);
    } else {
        q.ys = q.frames + q.f.bytes * threads;
        q.len = q.at + s->oh;
        for (int64_t i = 0; i < s->oh; i++) {
            add_segment(q.at, q.len, &q.segments, i * s->sh * q.f.w * s->c, s->ow, s->sw * s->c);
        }
        status = tarn_pool_run(cx->pool, q.parts, weigh_task, &q, &cx->cancel, err);
        int64_t places = q.groups * s->kh * s->kw;
        bool small = q.rows * q.m.padded < 1 << 16;
        status = status == TARN_OK ? tarn_pool_run(small ? NULL : cx->pool, places, join_task, &q,
                                                   &cx->cancel, err)
                                   : status;
    }
    tarn_free(&cx->budget, q.at, list);
    tarn_free(&cx->budget, q.frames, work);
    tarn_free(&cx->budget, q.part, parts);
    return status;
}

size_t tarn_conv_weight_bytes(const tarn_conv *s, int threads) {
    weigh q = weigh_of(s);
    return q.part_bytes * (size_t)q.parts + (q.f.bytes + q.y_bytes) * (size_t)threads +
           2 * (size_t)s->oh * sizeof(int64_t);
}
