// SPDX-License-Identifier: Apache-2.0
// The order is the safetensors reference writer's (alignment descending, then name), the headers
// are its bytes, the split into shards is huggingface_hub's greedy walk, the index is what
// transformers writes: files come out as if one of them had saved the same tensors.
#include "vm/store/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "vm/base/size.h"
#include "vm/store/header.h"
#include "vm/store/sort.h"

static int by_name(const void *tensors, uint32_t a, uint32_t b) {
    const tarn_layout_tensor *x = (const tarn_layout_tensor *)tensors + a,
                             *y = (const tarn_layout_tensor *)tensors + b;
    return tarn_compare_names(x->name, x->name_len, y->name, y->name_len);
}

static int by_alignment(const void *tensors, uint32_t a, uint32_t b) {
    const tarn_layout_tensor *t = tensors;
    return t[a].dtype != t[b].dtype ? (t[a].dtype < t[b].dtype ? 1 : -1) : by_name(t, a, b);
}

static int by_file(const void *tensors, uint32_t a, uint32_t b) {  // stable: offsets stay in order
    const tarn_layout_tensor *t = tensors;
    return (t[a].file > t[b].file) - (t[a].file < t[b].file);
}

// Copies what the caller gave and refuses what no reader would accept.
static tarn_status take_tensor(tarn_layout *l, const tarn_writer_tensor *in, tarn_layout_tensor *t,
                               tarn_error *err) {
    static const char reserved[] = "__metadata__";
    tarn_shown name;
    tarn_show_name(name, in->name, in->name_len);
    if (!tarn_utf8_valid(in->name, in->name_len)) {
        TARN_RAISE(err, "InvalidName", "tensor %s: the name is not valid UTF-8", name);
    }
    if (in->name_len == sizeof reserved - 1 && memcmp(in->name, reserved, in->name_len) == 0) {
        TARN_RAISE(err, "InvalidName",
                   "a tensor cannot be called __metadata__: safetensors keeps "
                   "that name for itself");
    }
    if (in->rank < 0 || in->rank > TARN_RANK_MAX) {
        TARN_RAISE(err, "Shape", "tensor %s: %d dimensions, at most %d can be stored", name,
                   in->rank, TARN_RANK_MAX);
    }
    // From the left, as readers do: an overflow counts even before a dimension of 0.
    const tarn_dtype_info *d = tarn_dtype_get(in->dtype);
    uint64_t n = 1, bits;
    bool fits = true;
    for (int k = 0; k < in->rank && fits; k++) {
        fits = in->shape[k] >= 0 && tarn_mul_u64(n, (uint64_t)in->shape[k], &n);
    }
    if (!fits || !tarn_mul_u64(n, (uint64_t)d->bits, &bits)) {
        TARN_RAISE(err, "ValidationOverflow", "tensor %s: its shape has no size in bytes", name);
    }
    if (bits % 8 != 0) {
        TARN_RAISE(err, "MisalignedSlice",
                   "tensor %s: %" PRIu64 " elements of %s are not a whole "
                   "number of bytes",
                   name, n, d->name);
    }
    size_t shape = (size_t)in->rank * sizeof *in->shape;
    *t = (tarn_layout_tensor){.name = tarn_arena_string(&l->arena, in->name, in->name_len),
                              .name_len = in->name_len,
                              .dtype = in->dtype,
                              .rank = in->rank,
                              .shape = shape ? tarn_arena_copy(&l->arena, in->shape, shape) : NULL,
                              .bytes = bits / 8};
    return t->name && (t->shape || !shape) ? TARN_OK
                                           : tarn_raise_nomem(err, "the list of tensors", shape);
}

static tarn_status take(tarn_layout *l, const tarn_writer_tensor *in, uint32_t *spare,
                        tarn_error *err) {
    for (int64_t i = 0; i < l->n; i++) {
        TARN_TRY(take_tensor(l, &in[i], &l->tensors[i], err));
        l->order[i] = (uint32_t)i;
        if (!tarn_add_u64(l->bytes, l->tensors[i].bytes, &l->bytes) || l->bytes > INT64_MAX / 2) {
            TARN_RAISE(err, "ValidationOverflow", "the tensors together have no size in bytes");
        }
    }
    tarn_sort_indices(l->order, (size_t)l->n, spare, by_name, l->tensors);
    for (int64_t i = 1; i < l->n; i++) {
        if (by_name(l->tensors, l->order[i - 1], l->order[i]) == 0) {
            const tarn_layout_tensor *t = &l->tensors[l->order[i]];
            tarn_shown name;
            TARN_RAISE(err, "DuplicateKey", "two tensors are called %s",
                       tarn_show_name(name, t->name, t->name_len));
        }
    }
    tarn_sort_indices(l->order, (size_t)l->n, spare, by_alignment, l->tensors);
    return TARN_OK;
}

// huggingface_hub's walk: a tensor above the limit is a file of its own, and the file being filled
// goes on being filled after it; files are numbered as they are closed. Sets `file` and `offset`.
static void split(tarn_layout *l, uint64_t limit, uint64_t *sizes, uint32_t *number) {
    int current = -1, opened = 0;
    for (int64_t k = 0; k < l->n; k++) {
        tarn_layout_tensor *t = &l->tensors[l->order[k]];
        if (t->bytes > limit) {
            t->file = opened++;
            number[t->file] = (uint32_t)l->nfiles++;
            continue;
        }
        if (current < 0 || t->bytes > limit - sizes[current]) {
            if (current >= 0) {
                number[current] = (uint32_t)l->nfiles++;
            }
            current = opened++;
        }
        t->file = current;
        sizes[current] += t->bytes;
    }
    if (current >= 0) {
        number[current] = (uint32_t)l->nfiles++;
    }
    memset(sizes, 0, (size_t)opened * sizeof *sizes);
    for (int64_t k = 0; k < l->n; k++) {
        tarn_layout_tensor *t = &l->tensors[l->order[k]];
        t->file = (int)number[t->file];
        t->offset = sizes[t->file];
        sizes[t->file] += t->bytes;
    }
}

static tarn_status split_files(tarn_context *cx, tarn_layout *l, uint64_t limit, uint64_t *sizes,
                               uint32_t *spare, tarn_error *err) {
    split(l, limit, sizes, spare);
    l->nfiles = l->nfiles == 0 ? 1 : l->nfiles;  // no tensors: a file with a header
    l->files = tarn_arena_take(&l->arena, (size_t)l->nfiles * sizeof *l->files);
    if (!l->files) {
        return tarn_raise_nomem(err, "the list of shards", (size_t)l->nfiles * sizeof *l->files);
    }
    for (int f = 0; f < l->nfiles; f++) {
        tarn_layout_file *file = &l->files[f];
        file->bytes = sizes[f];
        tarn_text_init(&file->tensors, &cx->budget);
        if (l->nfiles == 1) {
            snprintf(file->name, sizeof file->name, "model.safetensors");
        } else {
            snprintf(file->name, sizeof file->name, "model-%05d-of-%05d.safetensors", f + 1,
                     l->nfiles);
        }
    }
    tarn_sort_indices(l->order, (size_t)l->n, spare, by_file, l->tensors);
    return TARN_OK;
}

static tarn_status write_entries(tarn_layout *l, tarn_error *err) {
    for (int64_t k = 0; k < l->n; k++) {
        const tarn_layout_tensor *t = &l->tensors[l->order[k]];
        tarn_text *out = &l->files[t->file].tensors;
        if (out->len > 0) {
            tarn_text_puts(out, ",");
        }
        tarn_text_json(out, t->name, t->name_len);
        tarn_text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", tarn_dtype_get(t->dtype)->code);
        for (int d = 0; d < t->rank; d++) {
            tarn_text_printf(out, d > 0 ? ",%" PRId64 : "%" PRId64, t->shape[d]);
        }
        tarn_text_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->offset,
                         t->offset + t->bytes);
    }
    for (int f = 0; f < l->nfiles; f++) {
        if (l->files[f].tensors.failed) {
            return tarn_raise_nomem(err, "a safetensors header", l->files[f].tensors.len);
        }
    }
    return TARN_OK;
}

tarn_status tarn_layout_make(tarn_context *cx, int64_t n, const tarn_writer_tensor *tensors,
                             uint64_t max_shard, tarn_layout *l, tarn_error *err) {
    memset(l, 0, sizeof *l);
    tarn_arena_init(&l->arena, &cx->budget);
    if (n < 0 || n > TARN_TENSORS_MAX) {
        TARN_RAISE(err, "LimitExceeded", "%" PRId64 " tensors; at most %d can be stored", n,
                   TARN_TENSORS_MAX);
    }
    l->n = n;
    size_t k = (size_t)n + 1, room = k * (sizeof(uint32_t) + sizeof(uint64_t));
    l->tensors = tarn_arena_take(&l->arena, k * sizeof *l->tensors);
    l->order = tarn_arena_take(&l->arena, k * sizeof *l->order);
    uint64_t *sizes = tarn_alloc_zero(&cx->budget, room);  // of the files, at most one per tensor
    uint32_t *spare = sizes ? (uint32_t *)(sizes + k) : NULL;
    tarn_status s = l->tensors && l->order && sizes
                        ? take(l, tensors, spare, err)
                        : tarn_raise_nomem(err, "the list of tensors", room);
    s = s == TARN_OK ? split_files(cx, l, max_shard, sizes, spare, err) : s;
    s = s == TARN_OK ? write_entries(l, err) : s;
    tarn_free(&cx->budget, sizes, room);
    if (s != TARN_OK) {
        tarn_layout_free(l);
    }
    return s;
}

void tarn_layout_free(tarn_layout *l) {
    for (int f = 0; l->files && f < l->nfiles; f++) {
        tarn_text_free(&l->files[f].tensors);
    }
    tarn_arena_free(&l->arena);
    memset(l, 0, sizeof *l);
}

// ---- the index ----

static uint32_t code_point(const unsigned char *s, size_t *n) {
    *n = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    uint32_t c = *n == 1 ? s[0] : s[0] & (0x7Fu >> *n);
    for (size_t i = 1; i < *n; i++) {
        c = c << 6 | (s[i] & 0x3Fu);
    }
    return c;
}

// A JSON string of ASCII only, as Python's json writes it. The name is valid UTF-8.
static void add_ascii(tarn_text *out, const char *s, size_t len) {
    static const char plain[] = "\"\\\b\f\n\r\t", escape[] = "\"\\bfnrt";
    tarn_text_puts(out, "\"");
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = code_point((const unsigned char *)s + i, &n);
        const char *at = c != 0 && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (at) {
            tarn_text_printf(out, "\\%c", escape[at - plain]);
        } else if (c >= 0x20 && c < 0x7F) {
            tarn_text_add(out, s + i, 1);
        } else if (c < 0x10000) {
            tarn_text_printf(out, "\\u%04x", (unsigned)c);
        } else {
            c -= 0x10000;
            tarn_text_printf(out, "\\u%04x\\u%04x", (unsigned)(0xD800 + (c >> 10)),
                             (unsigned)(0xDC00 + (c & 0x3FF)));
        }
    }
    tarn_text_puts(out, "\"");
}

void tarn_layout_index(const tarn_layout *l, tarn_text *out) {
    size_t n = (size_t)l->n, room = 2 * n * sizeof(uint32_t) + 1;
    uint32_t *names = tarn_alloc(out->budget, room);
    if (!names) {
        out->failed = true;
        return;
    }
    memcpy(names, l->order, n * sizeof *names);
    tarn_sort_indices(names, n, names + n, by_name, l->tensors);
    tarn_text_printf(out,
                     "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n"
                     "  \"weight_map\": {",
                     l->bytes);
    for (int64_t k = 0; k < l->n; k++) {
        const tarn_layout_tensor *t = &l->tensors[names[k]];
        tarn_text_puts(out, k > 0 ? ",\n    " : "\n    ");
        add_ascii(out, t->name, t->name_len);
        tarn_text_printf(out, ": \"%s\"", l->files[t->file].name);
    }
    tarn_text_puts(out, "\n  }\n}\n");
    tarn_free(out->budget, names, room);
}
